/*
 * apply.c
 *		An apply worker: puts what people changed in Notion into the tables of one owner, connected
 *		as that role.
 *
 * One transaction holds the row, what both sides agree on now, conflicts and the audit trail, so a
 * crash at any moment leaves either all of it or the change as it was noted. Statements on angles'
 * own tables run as the extension's owner; all else is the user's own code in a session of his.
 *
 * angles.queue_entries has one writer, the sync worker: what it has to look at again is told by way
 * of the change log, as a user's change is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/testhook.h"
#include "core/txn.h"
#include "core/wait.h"
#include "net/net.h"
#include "sync/apply.h"
#include "sync/changelog.h"
#include "sync/inbound.h"
#include "worker/worker.h"

extern PGDLLEXPORT void angles_apply_main(Datum main_arg);

/* Changes that are taken at once. */
#define APPLY_BATCH 50

/* A change that could not be made so often for want of a lock or time is a matter for people. */
#define APPLY_PATIENCE 8

/* What a transaction took in hand, and what is left behind it. */
typedef struct Work
{
	Change	   *changes;
	int			n;
	bool		more;			/* there may be more that is due */
	bool		others;			/* changes for tables of other owners wait */
	TimestampTz next_due;		/* of the earliest that is not due yet, 0: none */
} Work;

static void take_over(void);
static void pause_killer_job(void *arg);
static void apply_batch(Work *work);
static void refresh_job(void *arg);
static void pick_job(void *arg);
static void tidy(Datum links);
static Datum own_links(int *n);
static void take_change(Change *change, uint64 row);
static ChangeKind change_kind(const char *name);
static void look_around(Work *work, Datum links);
static void write_job(void *arg);
static void write_change(Change *change);
static void look_again(Change *change);
static bool not_now(Change *change, TimestampTz later);
static void write_audit(Change *change);
static void write_removed(Change *change);
static void write_made(Change *change);
static void free_relations(Change *change);
static void write_page(Change *change);
static void write_conflicts(Change *change);
static void end_change(Change *change);
static void put_back(Change *change, const char *state, TimestampTz next_at, const char *class,
					 const char *code, const char *message, const char *hint);
static char *refusal(const ErrorData *error);

void
angles_apply_main(Datum main_arg)
{
	MemoryContext turn;
	int64		idle_since;
	TimestampTz next_due = 0;
	bool		look = true;

	angles_worker_enter_apply(main_arg);
	take_over();
	turn = AllocSetContextCreate(TopMemoryContext, "angles apply", ALLOCSET_DEFAULT_SIZES);
	idle_since = angles_clock_mono_us();
	for (;;)
	{
		Work		work = {0};
		long		wait;

		MemoryContextSwitchTo(turn);
		MemoryContextReset(turn);
		angles_wait_serve();
		look = angles_worker_take_apply_wake() || look;
		if (look)
		{
			apply_batch(&work);
			if (work.n > 0)
				idle_since = angles_clock_mono_us();
			next_due = work.next_due;
			look = work.more;
			if (look)
				continue;
			if (work.others)
			{
				/* the bridge starts another one, as their owner */
				angles_worker_wake_apply();
				angles_worker_exit_idle();
			}
		}
		wait = (long) angles_guc_sync_idle_timeout -
			(long) ((angles_clock_mono_us() - idle_since) / 1000);
		if (wait <= 0)
			angles_worker_exit_idle();
		if (next_due != 0)
			wait = Min(wait, TimestampDifferenceMilliseconds(angles_clock_now(), next_due));
		angles_wait(PGINVALID_SOCKET, wait);
		look = next_due != 0 && next_due <= angles_clock_now();
	}
}

/* Sees whether the process before this one died of a user's code. */
static void
take_over(void)
{
	if (!angles_worker_predecessor_died())
		return;
	angles_txn_begin("take over");
	angles_worker_recheck();
	angles_worker_as_owner(pause_killer_job, NULL);
	angles_txn_commit();
}

static void
pause_killer_job(void *arg)
{
	angles_links_refresh();
	angles_pause_killer();
	(void) arg;
}

/* One transaction: takes changes that are due, applies them, notes what came of it. */
static void
apply_batch(Work *work)
{
	/* a trigger may have changed them for the session */
	angles_txn_pin_session();
	angles_txn_begin("apply changes from Notion");
	angles_worker_recheck();
	angles_worker_as_owner(refresh_job, NULL);
	angles_worker_as_owner(pick_job, work);
	for (int i = 0; i < work->n;)
	{
		Change	   *same[APPLY_BATCH];
		int			n = 0;
		Link	   *link = work->changes[i].link;

		while (i < work->n && work->changes[i].link == link)
			same[n++] = &work->changes[i++];
		/*
		 * One link in a transaction: what SET CONSTRAINTS has done for one table would hold for
		 * the next.
		 */
		if (work->changes[0].link == link)
			angles_apply_rows(link, n, same);
		else
			for (int c = 0; c < n; c++)
				same[c]->not_reached = true;
	}
	ANGLES_KILL_POINT("applied");
	angles_worker_as_owner(write_job, work);
	angles_txn_commit();
	ANGLES_KILL_POINT("apply_committed");
}

static void
refresh_job(void *arg)
{
	angles_links_refresh();
	(void) arg;
}

/* ---- which changes ---- */

/*
 * A page that is being written is left alone until the answer is settled; the sync worker on its
 * side does not write a page whose change waits here.
 */
static void
pick_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Work	   *work = (Work *) arg;
	Oid			types[3] = {INT4ARRAYOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[3];
	int			n_links;

	values[0] = own_links(&n_links);
	values[1] = TimestampTzGetDatum(angles_clock_now());
	values[2] = Int32GetDatum(APPLY_BATCH);
	work->n = angles_spi_exec(&plan,
							  "WITH i AS (SELECT i.* FROM angles.inbox i"
							  "  JOIN angles.pages p"
							  "   ON p.link_id = i.link_id AND p.page_id = i.page_id"
							  "  LEFT JOIN angles.queue_entries q"
							  "   ON q.link_id = p.link_id AND q.key = p.key"
							  "  WHERE i.state = 'ready' AND i.link_id = ANY ($1)"
							  "  AND (i.next_at IS NULL OR i.next_at <= $2)"
							  "  AND p.state = i.page_state AND q.state IS DISTINCT FROM 'claimed'"
							  "  ORDER BY i.link_id, i.seen_at LIMIT $3"
							  "  FOR UPDATE OF i SKIP LOCKED)"
							  " SELECT i.link_id, i.page_id::text, i.remote, i.edited_at,"
							  " i.edited_by, i.attempts, p.key, p.base, p.base_local, p.held,"
							  " q.changed_at, i.decided, i.kind, q.sending"
							  " FROM i JOIN angles.pages p"
							  "  ON p.link_id = i.link_id AND p.page_id = i.page_id"
							  " LEFT JOIN angles.queue_entries q"
							  "  ON q.link_id = p.link_id AND q.key = p.key"
							  /* rows are locked in the order of their keys */
							  " ORDER BY i.link_id, p.key",
							  3, types, values, NULL, SPI_OK_SELECT);
	work->changes = palloc0(Max(work->n, 1) * sizeof(Change));
	for (int i = 0; i < work->n; i++)
		take_change(&work->changes[i], i);
	work->more = work->n == APPLY_BATCH;
	if (work->more)
		return;
	/* all of the inbox is looked at when what can be done is done */
	if (work->n == 0)
		tidy(values[0]);
	look_around(work, values[0]);
}

/* Puts away what cannot be applied, so that nobody is started for it again and again. */
static void
tidy(Datum links)
{
	static SPIPlanPtr gone = NULL;
	static SPIPlanPtr still = NULL;
	Oid			types[2] = {INT4ARRAYOID, OIDOID};
	Datum		values[2] = {links, ObjectIdGetDatum(GetSessionUserId())};

	/* the row has gone meanwhile, or has left the filter: its page is nobody's to follow */
	angles_spi_exec(&gone,
					"DELETE FROM angles.inbox WHERE (link_id, page_id) IN ("
					" SELECT i.link_id, i.page_id FROM angles.inbox i"
					" WHERE i.link_id = ANY ($1) AND NOT EXISTS (SELECT FROM angles.pages p"
					"  WHERE p.page_id = i.page_id AND p.state = i.page_state)"
					" FOR UPDATE SKIP LOCKED)",
					1, types, values, NULL, SPI_OK_DELETE);
	/* something is wrong with the link as a whole */
	angles_spi_exec(&still,
					"UPDATE angles.inbox SET next_at = clock_timestamp() + interval '1 minute'"
					" WHERE (link_id, page_id) IN (SELECT i.link_id, i.page_id"
					"  FROM angles.inbox i JOIN angles.inbox_due d USING (link_id, page_id)"
					"  WHERE d.owner = $2 AND i.link_id <> ALL ($1) FOR UPDATE OF i SKIP LOCKED)",
					2, types, values, NULL, SPI_OK_UPDATE);
}

/* The links whose tables belong to the role of this session. */
static Datum
own_links(int *n)
{
	Datum	   *ids = palloc(Max(list_length(angles_links()), 1) * sizeof(Datum));
	ListCell   *lc;

	*n = 0;
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);

		if (link->inbound && link->owner == GetSessionUserId() && angles_link_sends(link))
			ids[(*n)++] = Int32GetDatum(link->id);
	}
	return PointerGetDatum(construct_array(ids, *n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static void
take_change(Change *change, uint64 row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull;
	Datum		datum;

	change->link = angles_link_find(DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull)));
	change->page_id = angles_spi_text(row, 2, cxt);
	change->remote = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 3, &isnull));
	change->edited_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
	change->edited_by = angles_spi_text(row, 5, cxt);
	change->attempts = DatumGetInt32(SPI_getbinval(tuple, desc, 6, &isnull));
	change->entry.link_id = change->link->id;
	change->entry.key = angles_spi_text(row, 7, cxt);
	change->entry.base = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 8, &isnull));
	change->entry.base_local = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 9, &isnull));
	datum = SPI_getbinval(tuple, desc, 10, &isnull);
	change->entry.held = isnull ? NULL : DatumGetJsonbPCopy(datum);
	datum = SPI_getbinval(tuple, desc, 11, &isnull);
	change->local_at = isnull ? 0 : DatumGetTimestampTz(datum);
	datum = SPI_getbinval(tuple, desc, 12, &isnull);
	change->decided = isnull ? NULL : DatumGetJsonbPCopy(datum);
	change->kind = change_kind(angles_spi_text(row, 13, cxt));
	datum = SPI_getbinval(tuple, desc, 14, &isnull);
	change->entry.sending = isnull ? NULL : DatumGetJsonbPCopy(datum);
}

static ChangeKind
change_kind(const char *name)
{
	static const char *const names[] = {"edit", "new", "make", "delete", "flag", "unflag"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return (ChangeKind) i;
	elog(ERROR, "there is no kind of change \"%s\"", name);
}

/* What waits besides: later ones of these links, and changes of other owners' tables. */
static void
look_around(Work *work, Datum links)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4ARRAYOID, TIMESTAMPTZOID, OIDOID};
	Datum		values[3] = {links, TimestampTzGetDatum(angles_clock_now()),
	ObjectIdGetDatum(GetSessionUserId())};
	bool		isnull;
	Datum		datum;

	angles_spi_exec(&plan,
					"SELECT (SELECT min(next_at) FROM angles.inbox WHERE state = 'ready'"
					"  AND link_id = ANY ($1) AND next_at > $2),"
					" EXISTS (SELECT FROM angles.inbox_due WHERE owner <> $3)",
					3, types, values, NULL, SPI_OK_SELECT);
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	work->next_due = isnull ? 0 : DatumGetTimestampTz(datum);
	work->others = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2,
											  &isnull));
}

/* ---- what came of them ---- */

static void
write_job(void *arg)
{
	Work	   *work = (Work *) arg;

	for (int i = 0; i < work->n; i++)
	{
		if (work->changes[i].not_reached)
			work->more = true;
		else
			write_change(&work->changes[i]);
	}
}

static void
write_change(Change *change)
{
	TimestampTz later = angles_clock_now() + angles_backoff_us(change->attempts + 1, -1);

	if (not_now(change, later))
		return;
	if (change->refused != NULL)
	{
		put_back(change, "parked", 0, "permanent",
				 angles_sqlstate_text(change->refused->sqlerrcode), refusal(change->refused),
				 "Correct the page in Notion, or change the row or the table and call "
				 "angles.retry().");
		/* what the row has to say may go on */
		look_again(change);
		return;
	}
	if (change->kind == CHANGE_DELETE || change->kind == CHANGE_FLAG)
		write_removed(change);
	else
	{
		if (change->kind == CHANGE_NEW || change->kind == CHANGE_MAKE)
			write_made(change);
		write_page(change);
	}
	write_conflicts(change);
	end_change(change);
	write_audit(change);
	/* also when the row was updated: capture sees nothing where a trigger took the change back */
	look_again(change);
}

/* Lets the sync worker plan the row, unless there is none yet. */
static void
look_again(Change *change)
{
	char	   *key = change->new_key ? change->new_key : change->entry.key;

	if (key[0] != '\001')
		angles_changelog_add(change->link->id, ANGLES_OP_INBOUND, key, NULL);
}

/* Puts a change back that has its turn later; returns whether that is so. */
static bool
not_now(Change *change, TimestampTz later)
{
	if (change->waits)
	{
		/* the page it points to may be another one that is on its way */
		put_back(change, change->attempts < APPLY_PATIENCE ? "ready" : "parked",
				 change->attempts < APPLY_PATIENCE ? later : 0, "relation", NULL, change->problem,
				 "Link the table of that page, or point to a page that has a row.");
		return true;
	}
	if (!change->busy)
		return false;
	if (change->attempts < APPLY_PATIENCE)
	{
		/* the first time it is mostly a transaction that is about to end */
		if (change->attempts == 0)
			later = angles_clock_now() + USECS_PER_SEC / 10;
		put_back(change, "ready", later, "busy", NULL,
				 "the row is in use, or has not its key any more; it is tried again", NULL);
		return true;
	}
	if (change->absent)
		put_back(change, "parked", 0, "absent", NULL,
				 "the row was deleted here, or hidden from its owner",
				 "Look at angles.held_deletes: its page was edited meanwhile.");
	else
		put_back(change, "ready", later, "busy", NULL,
				 "the row has been in use for some time; it is tried again",
				 "Look in pg_locks for a transaction that keeps the row locked.");
	return true;
}

static void
write_audit(Change *change)
{
	static const char *const actions[] = {"apply", "insert", "insert", "delete", "flag", "apply"};
	StringInfoData detail;

	if (change->columns.len == 0 && !change->written)
		return;
	initStringInfo(&detail);
	appendStringInfoString(&detail, "{\"key\":");
	angles_json_append_string(&detail, change->new_key ? change->new_key : change->entry.key);
	appendStringInfoString(&detail, ",\"columns\":");
	angles_json_append_string(&detail, change->columns.data);
	if (change->added.len > 0)
	{
		appendStringInfoString(&detail, ",\"added\":");
		angles_json_append_string(&detail, change->added.data);
	}
	appendStringInfoString(&detail, ",\"page\":");
	angles_json_append_string(&detail, change->page_id);
	appendStringInfoString(&detail, ",\"edited_by\":");
	angles_json_append_string(&detail, change->edited_by ? change->edited_by : "");
	appendStringInfoChar(&detail, '}');
	angles_audit(actions[change->kind], angles_link_name(change->link), detail.data);
}

/* The row of a removed page is gone, or marked, or waits for a person. */
static void
write_removed(Change *change)
{
	static SPIPlanPtr plan = NULL;
	bool		gone = change->hold == NULL &&
		(change->kind == CHANGE_DELETE || change->row_is_gone);
	Oid			types[4] = {INT4OID, TEXTOID, BOOLOID, TEXTOID};
	Datum		values[4] = {Int32GetDatum(change->link->id), CStringGetTextDatum(change->page_id),
	BoolGetDatum(gone), change->hold ? CStringGetTextDatum(change->hold) : (Datum) 0};

	angles_spi_exec(&plan,
					"UPDATE angles.pages SET state = CASE WHEN $3 THEN 'trashed' ELSE state END,"
					" pending = CASE WHEN $4 IS NOT NULL THEN 'held' END,"
					" note = COALESCE($4, note), applied_at = clock_timestamp()"
					" WHERE link_id = $1 AND page_id = $2::uuid AND state = 'removed'",
					4, types, values, change->hold ? "    " : "   n", SPI_OK_UPDATE);
}

/* The page is its row's from now on. */
static void
write_made(Change *change)
{
	static SPIPlanPtr free_key = NULL;
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(change->link->id), CStringGetTextDatum(change->page_id),
	CStringGetTextDatum(change->new_key)};

	/* a page of a row that is gone may be known by that key: it goes by a name that no row has */
	angles_spi_exec(&free_key,
					"UPDATE angles.pages SET key = CASE state WHEN 'new' THEN E'\\001new:'"
					"  ELSE E'\\001gone:' END || page_id"
					" WHERE link_id = $1 AND key = $3 AND page_id <> $2::uuid"
					" AND state IN ('trashed', 'left', 'restored', 'new')",
					3, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&plan,
					"UPDATE angles.pages SET state = 'live', key = $3, base = '{}',"
					" base_local = '{}', held = NULL, applied_at = clock_timestamp()"
					" WHERE link_id = $1 AND page_id = $2::uuid AND state = 'new'",
					3, types, values, NULL, SPI_OK_UPDATE);
	free_relations(change);
}

/* Pages that wait for this one to have a row are tried again at once. */
static void
free_relations(Change *change)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(change->link->relid)};

	angles_spi_exec(&plan,
					"UPDATE angles.inbox SET state = 'ready', next_at = NULL, attempts = 0,"
					" parked_at = NULL WHERE (link_id, page_id) IN (SELECT i.link_id, i.page_id"
					"  FROM angles.inbox i WHERE i.class = 'relation'"
					"  AND i.link_id IN (SELECT c.link_id FROM angles.link_columns c"
					"   WHERE c.ref_relid = $1::regclass)"
					"  FOR UPDATE SKIP LOCKED)",
					1, types, values, NULL, SPI_OK_UPDATE);
}

/* An error as people shall read it, the constraint by name. */
static char *
refusal(const ErrorData *error)
{
	if (error->constraint_name != NULL)
		return psprintf("%s (constraint \"%s\")", error->message, error->constraint_name);
	return error->message;
}

/* What both sides agree on now, and what waits for a person. */
static void
write_page(Change *change)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[5] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[5];
	char		nulls[6] = {' ', ' ', ' ', change->held.len > 0 ? ' ' : 'n', ' ', '\0'};

	if (change->base.len == 0 && change->held.len == 0 && change->entry.held == NULL)
		return;
	values[0] = Int32GetDatum(change->link->id);
	values[1] = CStringGetTextDatum(change->page_id);
	values[2] = CStringGetTextDatum(psprintf("{%s}", change->base.data));
	values[3] = CStringGetTextDatum(psprintf("{%s}", change->held.data));
	values[4] = TimestampTzGetDatum(change->edited_at);
	angles_spi_exec(&plan,
					"UPDATE angles.pages p SET base = p.base || $3::jsonb,"
					" base_local = p.base_local - ARRAY(SELECT jsonb_object_keys($3::jsonb)),"
					" held = $4::jsonb, last_edited = GREATEST(p.last_edited, $5),"
					" applied_at = clock_timestamp()"
					" WHERE link_id = $1 AND page_id = $2::uuid AND state = 'live'",
					5, types, values, nulls, SPI_OK_UPDATE);
}

/* An open conflict of a field is kept up to date; one that is over is closed. */
static void
write_conflicts(Change *change)
{
	static SPIPlanPtr close = NULL;
	static SPIPlanPtr again = NULL;
	static SPIPlanPtr fresh = NULL;
	Oid			types[14] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[14];
	char		nulls[15];
	ListCell   *lc;

	values[0] = Int32GetDatum(change->link->id);
	values[1] = CStringGetTextDatum(change->page_id);
	foreach(lc, change->settled)
	{
		values[2] = CStringGetTextDatum((char *) lfirst(lc));
		angles_spi_exec(&close,
						"UPDATE angles.conflict_log SET winner = 'postgres',"
						" resolved_at = clock_timestamp(), resolved_by = 'both sides agree again'"
						" WHERE link_id = $1 AND page_id = $2::uuid AND property_id = $3"
						" AND winner IS NULL", 3, types, values, NULL, SPI_OK_UPDATE);
	}
	foreach(lc, change->conflicts)
	{
		Conflict   *conflict = (Conflict *) lfirst(lc);
		const char *texts[12] = {NULL, NULL, conflict->column->c.property_id, change->entry.key,
			conflict->column->c.property_name, conflict->column->c.name, conflict->base,
		conflict->local, conflict->remote, conflict->policy, conflict->winner};

		memset(nulls, ' ', sizeof(nulls));
		nulls[14] = '\0';
		for (int i = 2; i < 11; i++)
		{
			values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
			nulls[i] = texts[i] ? ' ' : 'n';
		}
		values[11] = TimestampTzGetDatum(change->local_at);
		nulls[11] = change->local_at ? ' ' : 'n';
		values[12] = TimestampTzGetDatum(change->edited_at);
		values[13] = change->edited_by ? CStringGetTextDatum(change->edited_by) : (Datum) 0;
		nulls[13] = change->edited_by ? ' ' : 'n';
		if (conflict->winner == NULL &&
			angles_spi_exec(&again,
							"UPDATE angles.conflict_log SET base = $7::jsonb, local = $8::jsonb,"
							" remote = $9::jsonb, local_at = $12, remote_at = $13,"
							" remote_by = $14, key = $4"
							" WHERE link_id = $1 AND page_id = $2::uuid"
							" AND property_id = $3 AND winner IS NULL",
							14, types, values, nulls, SPI_OK_UPDATE) > 0)
			continue;
		angles_spi_exec(&fresh,
						"INSERT INTO angles.conflict_log (link_id, page_id, property_id, key,"
						" property_name, column_name, base, local, remote, policy, winner,"
						" local_at, remote_at, remote_by, detected_at, resolved_at, resolved_by)"
						" VALUES ($1, $2::uuid, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9::jsonb,"
						" $10, $11, $12, $13, $14, clock_timestamp(),"
						" CASE WHEN $11 IS NOT NULL THEN clock_timestamp() END,"
						" CASE WHEN $11 IS NOT NULL THEN 'policy ' || $10 END)",
						14, types, values, nulls, SPI_OK_INSERT);
	}
}

/* The change is done; what a column could not hold stays, for people to see. */
static void
end_change(Change *change)
{
	static SPIPlanPtr gone = NULL;
	static SPIPlanPtr left = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(change->link->id),
	CStringGetTextDatum(change->page_id)};

	if (change->left.len == 0)
	{
		angles_spi_exec(&gone,
						"DELETE FROM angles.inbox WHERE link_id = $1 AND page_id = $2::uuid",
						2, types, values, NULL, SPI_OK_DELETE);
		return;
	}
	values[2] = CStringGetTextDatum(psprintf("{%s}", change->left.data));
	angles_spi_exec(&left,
					"UPDATE angles.inbox SET remote = $3::jsonb, decided = NULL,"
					" kind = CASE WHEN kind = 'unflag' THEN kind ELSE 'edit' END"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					3, types, values, NULL, SPI_OK_UPDATE);
	put_back(change, "parked", 0, "permanent", NULL, change->problem,
			 "Correct the value in Notion, or change the column and call angles.retry().");
}

static void
put_back(Change *change, const char *state, TimestampTz next_at, const char *class,
		 const char *code, const char *message, const char *hint)
{
	static SPIPlanPtr plan = NULL;
	const char *texts[] = {state, class, code, message, hint};
	Oid			types[8] = {INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID};
	Datum		values[8];
	char		nulls[9];

	memset(nulls, ' ', sizeof(nulls));
	nulls[8] = '\0';
	values[0] = Int32GetDatum(change->link->id);
	values[1] = CStringGetTextDatum(change->page_id);
	values[2] = TimestampTzGetDatum(next_at);
	nulls[2] = next_at ? ' ' : 'n';
	for (int i = 0; i < lengthof(texts); i++)
	{
		values[3 + i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
		nulls[3 + i] = texts[i] ? ' ' : 'n';
	}
	angles_spi_exec(&plan,
					"UPDATE angles.inbox SET state = $4, next_at = $3, class = $5, code = $6,"
					" message = $7, hint = $8, attempts = attempts + 1,"
					" parked_at = CASE $4 WHEN 'parked' THEN clock_timestamp() END"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					8, types, values, nulls, SPI_OK_UPDATE);
}
