/*
 * fold.c
 *		Moves the change log into the queue: one entry for each link and key.
 *
 * Runs in the sync worker, the only writer of the queue. What is folded is decided by visibility
 * alone (DELETE ... RETURNING under a fresh snapshot): a transaction that drew an early number and
 * commits late is never skipped. Cost stays flat under an old snapshot, because a table of the log
 * that is full and folded is emptied with TRUNCATE and users go on in the next one.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/changelog.h"
#include "sync/engine.h"
#include "sync/fold.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* A transaction that changed more rows than this is a backlog: single edits go first. */
#define BULK_ROWS 256

static void fold_rows(Engine *engine, LogRow *rows, int n);
static void enqueue(Engine *engine, RowSet *set);
static void add_change(RowSet *set, const LogRow *row, bool bulk);
static int	rows_of_transaction(const LogRow *rows, int n, int i);
static void count_deletes(LogRow *rows, int n);
static int	last_deletes(int32 link_id, LogRow **of_link, LogRow *rows, int n);
static int	with_pages(const Link *link, LogRow **of_link, int deletes);
static int	compare_keys(const void *a, const void *b);
static void truncated(Engine *engine, const LogRow *row);
static void decided(Engine *engine, const LogRow *row);
static void unlinked(Engine *engine, const LogRow *row);
static void close_mass_delete(int32 link_id);
static void take_mark(int32 link_id, void *arg);

bool
angles_fold(Engine *engine)
{
	LogRows		rows = {0};
	bool		more = angles_log_take(engine, &rows);

	fold_rows(engine, rows.rows, rows.n);
	if (angles_changelog_new_marks())
		angles_changelog_marks(take_mark, engine);
	engine->fold_incomplete = more || engine->log_passed_over;
	return more;
}

static void
fold_rows(Engine *engine, LogRow *rows, int n)
{
	RowSet		set = {0};
	List	   *displaced = NIL;
	List	   *decided_links = NIL;
	ListCell   *lc;
	bool		bulk = false;

	count_deletes(rows, n);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || rows[i].id != rows[i - 1].id)
			bulk = rows_of_transaction(rows, n, i) > BULK_ROWS;
		/* a commit is visible an instant before its invalidations arrive */
		if (rows[i].op == ANGLES_OP_LINK || rows[i].op == ANGLES_OP_UNLINK)
			angles_links_stale();
		if (rows[i].op == ANGLES_OP_LINK)
			continue;
		if (rows[i].op == ANGLES_OP_UNLINK)
		{
			enqueue(engine, &set);
			unlinked(engine, &rows[i]);
			continue;
		}
		/* unlinked since: nobody wants to know, but of keys, by which pages are found again */
		if (angles_link_find(rows[i].link_id) == NULL && rows[i].op != ANGLES_OP_REKEY)
			continue;
		switch (rows[i].op)
		{
			case ANGLES_OP_TOUCH:
			case ANGLES_OP_DELETE:
				add_change(&set, &rows[i], bulk);
				break;
			case ANGLES_OP_REKEY:
				enqueue(engine, &set);
				angles_fold_rename(engine, &displaced, rows, i);
				break;
			case ANGLES_OP_TRUNCATE:
				enqueue(engine, &set);
				truncated(engine, &rows[i]);
				break;
			case ANGLES_OP_RETRY:
			case ANGLES_OP_APPROVE:
			case ANGLES_OP_REFUSE:
				enqueue(engine, &set);
				decided(engine, &rows[i]);
				decided_links = list_append_unique_int(decided_links, rows[i].link_id);
				break;
			case ANGLES_OP_INBOUND:
				enqueue(engine, &set);
				angles_inbox_done(engine, rows[i].link_id, rows[i].key, rows[i].at);
				decided_links = list_append_unique_int(decided_links, rows[i].link_id);
				break;
			case ANGLES_OP_RESOLVE:
				angles_inbox_resolve(engine, rows[i].link_id, rows[i].key, rows[i].new_key);
				break;
			case ANGLES_OP_HINT:
				angles_hint(engine, angles_link_find(rows[i].link_id), rows[i].key,
							rows[i].new_key);
				break;
			default:
				angles_reconcile_wanted(rows[i].link_id);
				break;
		}
	}
	enqueue(engine, &set);
	foreach(lc, decided_links)
	{
		Link	   *link = angles_link_find(lfirst_int(lc));

		close_mass_delete(lfirst_int(lc));
		if (link != NULL)
			angles_removed_alert(link);
	}
}

static void
add_change(RowSet *set, const LogRow *row, bool bulk)
{
	bool		deleted = row->op == ANGLES_OP_DELETE;

	angles_rows_add(set, row->link_id, row->key);
	angles_rows_text(set, 0, timestamptz_to_str(row->at));
	angles_rows_text(set, 1, deleted && row->ord < 0 ? "held" : "ready");
	angles_rows_text(set, 2, deleted ? "t" : "f");
	angles_rows_text(set, 3, bulk ? CppAsString2(PRIORITY_BACKLOG)
					 : CppAsString2(PRIORITY_INTERACTIVE));
	angles_rows_text(set, 4, psprintf(INT64_FORMAT, row->id));
}

/* The rows are in the order of their numbers, of which each transaction has drawn one. */
static int
rows_of_transaction(const LogRow *rows, int n, int i)
{
	int			first = i;

	while (i < n && i - first <= BULK_ROWS && rows[i].id == rows[first].id)
		i++;
	return i - first;
}

/*
 * The guard against mass deletes: when what is folded at once deletes more rows of a link than its
 * limit, none of them goes to Notion before a person approves. Marks such rows with ord = -1, which
 * no row of the log has.
 */
static void
count_deletes(LogRow *rows, int n)
{
	LogRow	  **of_link = palloc_extended(n * sizeof(LogRow *), MCXT_ALLOC_HUGE);
	ListCell   *lc;

	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		int			deletes = last_deletes(link->id, of_link, rows, n);

		int			limit = deletes > 0 ? angles_mass_limit(link) : 0;

		if (deletes > limit)
			deletes = with_pages(link, of_link, deletes);
		if (deletes <= limit || angles_mass_bypass(link))
			continue;
		for (int i = 0; i < deletes; i++)
			of_link[i]->ord = -1;
		angles_alert_open(psprintf("mass_delete:%d", link->id), "critical",
						  psprintf("%d deleted rows of %s wait for approval", deletes,
								   angles_link_name(link)),
						  "Nothing was put in Notion's trash.", angles_approve_hint(link));
	}
}

/*
 * Collects at the head of of_link the deletions of a link after which nothing else is known of
 * their key: a row that was deleted and made again is none. Returns how many.
 */
static int
last_deletes(int32 link_id, LogRow **of_link, LogRow *rows, int n)
{
	int			n_link = 0;
	int			deletes = 0;

	for (int i = 0; i < n; i++)
		if (rows[i].link_id == link_id && rows[i].op == ANGLES_OP_DELETE)
			deletes++;
	if (deletes == 0)
		return 0;
	deletes = 0;
	for (int i = 0; i < n; i++)
		if (rows[i].link_id == link_id &&
			(rows[i].op == ANGLES_OP_DELETE || rows[i].op == ANGLES_OP_TOUCH))
			of_link[n_link++] = &rows[i];
	qsort(of_link, n_link, sizeof(LogRow *), compare_keys);
	for (int i = 0; i < n_link; i++)
		if (of_link[i]->op == ANGLES_OP_DELETE &&
			(i == n_link - 1 || strcmp(of_link[i]->key, of_link[i + 1]->key) != 0))
			of_link[deletes++] = of_link[i];
	return deletes;
}

/*
 * Keeps those deletions, sorted by key, whose rows have a page that Notion shows, and returns how
 * many: what sync deleted itself has none any more.
 */
static int
with_pages(const Link *link, LogRow **of_link, int deletes)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTARRAYOID};
	Datum		values[2] = {Int32GetDatum(link->id)};
	RowSet		keys = {0};
	uint64		found;
	int			kept = 0;
	int			next = 0;

	for (int i = 0; i < deletes; i++)
		angles_rows_add(&keys, link->id, of_link[i]->key);
	values[1] = angles_rows_keys(&keys);
	found = angles_spi_exec(&plan,
							"SELECT p.key FROM unnest($2) AS u (key) JOIN angles.pages p"
							" ON p.link_id = $1 AND p.key = u.key"
							" WHERE p.state IN ('live', 'intent') ORDER BY p.key COLLATE \"C\"",
							2, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		char	   *key = angles_spi_text(i, 1, CurrentMemoryContext);

		while (strcmp(of_link[next]->key, key) != 0)
			next++;
		of_link[kept++] = of_link[next++];
	}
	return kept;
}

/* By key, then in the order in which it happened, which is that of the array they point into. */
static int
compare_keys(const void *a, const void *b)
{
	const LogRow *x = *(LogRow *const *) a;
	const LogRow *y = *(LogRow *const *) b;
	int			order = strcmp(x->key, y->key);

	return order != 0 ? order : x < y ? -1 : x > y;
}

/*
 * Puts keys into the queue. An entry that is there already is only marked as changed once more
 * (what is under way is followed by another look); a parked or held one gets its next chance.
 */
static void
enqueue(Engine *engine, RowSet *set)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[7] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[7];

	if (set->n == 0)
		return;
	values[0] = angles_rows_links(set);
	values[1] = angles_rows_keys(set);
	for (int i = 0; i < 5; i++)
		values[2 + i] = angles_rows_extra(set, i);
	angles_spi_exec(&plan,
					"INSERT INTO angles.queue_entries AS q"
					" (link_id, key, seq, priority, state, enqueued_at, changed_at, deleted,"
					"  decision, class, message, first_id, last_id)"
					" SELECT s.link_id, s.key, nextval('angles.queue_seq'), s.priority, s.state,"
					"  s.at, s.last, s.deleted, CASE s.state WHEN 'held' THEN 'hold' END,"
					"  CASE s.state WHEN 'held' THEN 'mass_delete' END,"
					"  CASE s.state WHEN 'held' THEN 'deleted together with many other rows' END,"
					"  s.first_id, s.last_id"
					" FROM (SELECT u.link_id, u.key, min(u.at::timestamptz) AS at,"
					"   max(u.at::timestamptz) AS last, min(u.n) AS n,"
					"   min(u.priority::int2) AS priority,"
					"   min(u.id::bigint) AS first_id, max(u.id::bigint) AS last_id,"
					"   (array_agg(u.state ORDER BY u.n DESC))[1] AS state,"
					"   (array_agg(u.deleted::boolean ORDER BY u.n DESC))[1] AS deleted"
					"  FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY"
					"   AS u (link_id, key, at, state, deleted, priority, id, n)"
					"  GROUP BY u.link_id, u.key ORDER BY min(u.n)) s"
					" ON CONFLICT (link_id, key) DO UPDATE SET version = q.version + 1,"
					"  changed_at = EXCLUDED.changed_at, deleted = EXCLUDED.deleted,"
					"  decision = EXCLUDED.decision,"
					"  first_id = LEAST(q.first_id, EXCLUDED.first_id),"
					"  last_id = GREATEST(q.last_id, EXCLUDED.last_id),"
					"  priority = LEAST(q.priority, EXCLUDED.priority),"
					"  state = CASE WHEN q.state IN ('parked', 'held', 'waiting')"
					"   OR EXCLUDED.state = 'held' AND q.state = 'ready' THEN EXCLUDED.state"
					"   ELSE q.state END,"
					"  seq = CASE WHEN q.state IN ('parked', 'held', 'waiting') OR q.priority > 0"
					"   THEN EXCLUDED.seq ELSE q.seq END,"
					"  attempts = CASE q.state WHEN 'parked' THEN 0 ELSE q.attempts END,"
					"  class = CASE WHEN q.state IN ('parked', 'held', 'waiting')"
					"   OR q.class = 'absent'"
					"   THEN EXCLUDED.class ELSE q.class END,"
					"  message = CASE WHEN q.state IN ('parked', 'held', 'waiting')"
					"   THEN EXCLUDED.message ELSE q.message END",
					7, types, values, NULL, SPI_OK_INSERT);
	engine->more[PRIORITY_INTERACTIVE] = engine->more[PRIORITY_BACKLOG] = true;
	set->n = 0;
}

/* ---- whole tables ---- */

/*
 * TRUNCATE says nothing of rows: every page of the link becomes a deletion that waits for approval.
 */
static void
truncated(Engine *engine, const LogRow *row)
{
	static SPIPlanPtr plan = NULL;
	int32		link_id = row->link_id;
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2] = {Int32GetDatum(link_id), Int64GetDatum(row->id)};
	uint64		n;
	Link	   *link = angles_link_find(link_id);

	n = angles_spi_exec(&plan,
						"INSERT INTO angles.queue_entries AS q (link_id, key, seq, priority, state,"
						"  enqueued_at, deleted, decision, class, message, first_id, last_id)"
						" SELECT link_id, key, nextval('angles.queue_seq'), 1, 'held', now(),"
						"  true, 'hold', 'mass_delete', 'TRUNCATE', $2, $2 FROM angles.pages"
						/* a page that may be there, or is just being made, as well */
						" WHERE link_id = $1 AND state IN ('live', 'intent')"
						" ON CONFLICT (link_id, key) DO UPDATE SET version = q.version + 1,"
						"  deleted = true, decision = 'hold',"
						"  state = CASE WHEN q.state IN ('claimed', 'verifying') THEN q.state"
						"   ELSE 'held' END,"
						"  first_id = LEAST(q.first_id, $2), last_id = GREATEST(q.last_id, $2),"
						"  class = 'mass_delete', message = 'TRUNCATE'",
						2, types, values, NULL, SPI_OK_INSERT);
	if (n > 0)
		angles_alert_open(psprintf("mass_delete:%d", link_id), "critical",
						  psprintf("table %s was truncated; its pages wait for approval",
								   angles_link_name(link)),
						  psprintf(UINT64_FORMAT " pages. Nothing was put in Notion's trash.", n),
						  angles_approve_hint(link));
}

/* Carries out what a person said about an entry: try again, delete after all, or leave the page. */
static void
decided(Engine *engine, const LogRow *row)
{
	static SPIPlanPtr again = NULL;
	static SPIPlanPtr refuse = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, BOOLOID};
	Datum		values[3] = {Int32GetDatum(row->link_id), CStringGetTextDatum(row->key),
	BoolGetDatum(row->op == ANGLES_OP_APPROVE)};

	if (row->op == ANGLES_OP_REFUSE)
	{
		angles_spi_exec(&refuse,
						"WITH e AS (DELETE FROM angles.queue_entries WHERE link_id = $1 AND "
						"key = $2"
						"  AND state = 'held' RETURNING link_id, key)"
						" UPDATE angles.pages p SET state = 'left' FROM e"
						" WHERE p.link_id = e.link_id AND p.key = e.key AND p.state = 'live'",
						2, types, values, NULL, SPI_OK_UPDATE);
		angles_removed_decided(engine, row->link_id, row->key, false);
		return;
	}
	angles_spi_exec(&again,
					"UPDATE angles.queue_entries SET state = 'ready', attempts = 0, crashes = 0,"
					" next_at = NULL, parked_at = NULL, code = NULL, message = NULL, hint = NULL,"
					" class = NULL, decision = CASE WHEN $3 THEN 'approved' ELSE decision END,"
					" seq = nextval('angles.queue_seq')"
					" WHERE link_id = $1 AND key = $2"
					" AND state = ANY (CASE WHEN $3 THEN ARRAY['held'] ELSE ARRAY['parked', "
					"'retry'] END)",
					3, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
	if (row->op == ANGLES_OP_APPROVE)
		angles_removed_decided(engine, row->link_id, row->key, true);
	else
		angles_inbox_retry(engine, row->link_id, row->key);
}

/* The last decision about a held deletion of a link ends its alert. */
static void
close_mass_delete(int32 link_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link_id)};

	if (angles_spi_exec(&plan,
						"SELECT FROM angles.queue_entries WHERE link_id = $1 AND state = 'held'"
						" UNION ALL SELECT FROM angles.pages WHERE link_id = $1"
						"  AND pending = 'held' AND removed_as = 'absent' LIMIT 1",
						1, types, values, NULL, SPI_OK_SELECT) == 0)
		angles_alert_close(psprintf("mass_delete:%d", link_id));
}

/*
 * What was queued for a table that is linked no more goes; unlink() itself leaves it alone, because
 * the queue has one writer. Rows that wait for a page of that table are planned without it.
 */
static void
unlinked(Engine *engine, const LogRow *row)
{
	static const char *const alerts[] = {
		"link", "setup", "unreadable", "mass_delete", "killer", "poll", "sweep", "removed"
	};
	static SPIPlanPtr gone = NULL;
	static SPIPlanPtr compares = NULL;
	static SPIPlanPtr freed = NULL;
	static SPIPlanPtr pages = NULL;
	static SPIPlanPtr polls = NULL;
	static SPIPlanPtr inbox = NULL;
	static SPIPlanPtr held = NULL;
	int32		link_id = row->link_id;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link_id)};

	angles_spi_exec(&gone, "DELETE FROM angles.queue_entries WHERE link_id = $1",
					1, types, values, NULL, SPI_OK_DELETE);
	angles_spi_exec(&compares, "DELETE FROM angles.reconciles WHERE link_id = $1",
					1, types, values, NULL, SPI_OK_DELETE);
	angles_spi_exec(&freed,
					"UPDATE angles.queue_entries SET state = 'ready', waits_for_link = NULL,"
					" waits_for_key = NULL, class = NULL, message = NULL,"
					" seq = nextval('angles.queue_seq')"
					" WHERE state = 'waiting' AND waits_for_link = $1",
					1, types, values, NULL, SPI_OK_UPDATE);
	if (strcmp(row->key, ANGLES_FORGET_PAGES) == 0)
	{
		angles_spi_exec(&pages, "DELETE FROM angles.pages WHERE link_id = $1",
						1, types, values, NULL, SPI_OK_DELETE);
		angles_spi_exec(&polls, "DELETE FROM angles.polls WHERE link_id = $1",
						1, types, values, NULL, SPI_OK_DELETE);
		angles_counts(engine, link_id)->poll_watermark = 0;
	}
	/* what an apply worker has in hand it puts away itself */
	angles_spi_exec(&inbox,
					"DELETE FROM angles.inbox WHERE (link_id, page_id) IN (SELECT link_id, page_id"
					"  FROM angles.inbox WHERE link_id = $1 FOR UPDATE SKIP LOCKED)",
					1, types, values, NULL, SPI_OK_DELETE);
	angles_spi_exec(&held,
					"UPDATE angles.pages SET pending = 'held'"
					" WHERE link_id = $1 AND pending = 'apply'",
					1, types, values, NULL, SPI_OK_UPDATE);
	/* what Notion shows of it is looked at anew, should it be linked again */
	angles_mark_forget(engine, link_id);
	engine->more[0] = engine->more[1] = true;
	for (int i = 0; i < lengthof(alerts); i++)
		angles_alert_close(psprintf("%s:%d", alerts[i], link_id));
}

void
angles_reconcile_wanted(int32 link_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link_id)};

	angles_spi_exec(&plan,
					"INSERT INTO angles.reconciles AS r (link_id)"
					" SELECT id FROM angles.links WHERE id = $1"
					" ON CONFLICT (link_id) DO UPDATE SET begins_after = NULL"
					"  WHERE r.begins_after IS NOT NULL",
					1, types, values, NULL, SPI_OK_INSERT);
}

/* The mark of a failed capture goes when the wish that stands for it is durable: see main.c. */
static void
take_mark(int32 link_id, void *arg)
{
	Engine	   *engine = (Engine *) arg;

	MemoryContext old;

	angles_reconcile_wanted(link_id);
	/* it is needed after the commit */
	old = MemoryContextSwitchTo(engine->iteration);
	engine->marks = lappend_int(engine->marks, link_id);
	MemoryContextSwitchTo(old);
}

/*
 * A full table whose rows are all folded is emptied at once instead of row by row by vacuum. The
 * lock is only tried for: a transaction that has written there and is still open keeps it, and
 * nobody ever waits for this one but for the length of its commit.
 */
void
angles_fold_rotate(void)
{
	for (int t = 0; t < ANGLES_LOG_TABLES; t++)
	{
		Oid			relid;
		Relation	log;
		bool		full;

		angles_txn_begin("empty change log");
		angles_worker_recheck();
		relid = angles_changelog_table(t);
		log = try_relation_open(relid, AccessShareLock);
		full = log != NULL && RelationGetNumberOfBlocks(log) >= ANGLES_LOG_BLOCKS;
		if (log != NULL)
			relation_close(log, AccessShareLock);
		if (full && ConditionalLockRelationOid(relid, AccessExclusiveLock))
		{
			char	   *name = psprintf("angles.change_log_%d", t);

			/* a snapshot taken under the lock sees all that will ever be in the table */
			PopActiveSnapshot();
			PushActiveSnapshot(GetTransactionSnapshot());
			if (SPI_execute(psprintf("SELECT FROM %s LIMIT 1", name), true, 1) != SPI_OK_SELECT)
				elog(ERROR, "could not read %s", name);
			if (SPI_processed == 0 &&
				SPI_execute(psprintf("TRUNCATE %s", name), false, 0) != SPI_OK_UTILITY)
				elog(ERROR, "could not empty %s", name);
		}
		angles_txn_commit();
	}
}
