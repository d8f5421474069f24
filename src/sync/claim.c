/*
 * claim.c
 *		Takes entries from the queue, plans them and marks them, durably, before anything is sent.
 *
 * The commit of this transaction is the proof that what will be sent is on disk: its snapshot saw
 * only transactions whose commit records come before its own (promise 4). It is never asynchronous.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/*
 * Keys that one look-up asks for. An answer has at most 100 pages: each key may have been given to
 * a second one by a person.
 */
#define LOOKUP_KEYS 50

/* Bytes of hashes that are remembered of one property while nothing is acknowledged. */
#define LONGEST_DOUBT 200

/* So many rows of a table may be deleted at once, however few it has. */
#define FEW_DELETES "20"

/* What a transaction of claims writes, by kind. */
typedef struct Marks
{
	Datum		claimed[ENGINE_BATCH_MAX];	/* places of entries */
	Datum		sending[ENGINE_BATCH_MAX];	/* what is written into their pages, as texts */
	bool		sending_null[ENGINE_BATCH_MAX];
	bool		any_sending;
	int			n_claimed;
	RowSet		gone;			/* entries with nothing to do */
	RowSet		intents;
	RowSet		later;			/* extras: state, next_at, class, message, hint */
	RowSet		waiting;		/* extras: link, key, class */
	RowSet		inbound;		/* entries whose page was changed in Notion */
	RowSet		left;			/* pages out of scope */
	RowSet		back;			/* pages of rows that are in scope again, as they were */
	RowSet		forgotten;		/* pages of rows that are gone, which Notion keeps or has removed */
} Marks;

static void plan_link(Engine *engine, Marks *marks, Link *link, int n, Entry **entries);
static void plan_entry(Engine *engine, Marks *marks, Link *link, Entry *entry, Action **lookup);
static bool not_there_yet(const Entry *entry);
static bool may_trash(LinkCounts *counts, Link *link);
static void make_write(Engine *engine, Marks *marks, Link *link, Entry *entry, RowPlan *plan);
static bool sum_in_doubt(const Link *link, const Entry *entry, const RowPlan *plan);
static void read_first(Action *action, const Entry *entry);
static void add_lookup(Engine *engine, Marks *marks, Link *link, Entry *entry, Action **lookup);
static void finish_lookup(Engine *engine, Link *link, Action **lookup);
static void mark_claimed(Marks *marks, Entry *entry, const char *sending);
static char *sending_text(const Entry *entry, const Action *action);
static char *value_hash(const char *canon);
static void mark_later(Marks *marks, const Entry *entry, const char *state, TimestampTz next_at,
					   const char *class, const char *message, const char *hint);
static void mark_waiting(Marks *marks, const Entry *entry, const char *class);
static void write_marks(Engine *engine, Marks *marks);
static void write_claimed(Engine *engine, Marks *marks);
static void write_later(Engine *engine, RowSet *later);
static void free_children(Engine *engine, const Marks *marks);

void
angles_claim(Engine *engine)
{
	Entry	   *entries[ENGINE_BATCH_MAX];
	Marks		marks = {0};
	int64		now = angles_clock_mono_us();
	int			n;

	if (engine->links_version != angles_links_version())
	{
		/* entries of a link that was passed over so far may be behind the cursors */
		engine->links_version = angles_links_version();
		engine->cursor[0] = engine->cursor[1] = 0;
		engine->more[0] = engine->more[1] = true;
	}
	if (now - engine->claimed_us >= ENGINE_QUICK_US)
		engine->batch = ENGINE_BATCH;
	else if (engine->batch_was_full)
		engine->batch = Min(2 * engine->batch, ENGINE_BATCH_MAX);
	n = angles_pick(engine, entries, engine->batch);
	engine->batch_was_full = n == engine->batch;
	angles_keep_sending(engine);
	if (n > 0)
		engine->claimed_us = now;
	for (int i = 0; i < n;)
	{
		Entry	   *same[ENGINE_BATCH_MAX];
		int			n_same = 0;
		int32		link_id = entries[i]->link_id;

		/* entries of one link are loaded together; the order inside a link is kept */
		for (int j = i; j < n; j++)
			if (entries[j] && entries[j]->link_id == link_id)
			{
				same[n_same++] = entries[j];
				if (j != i)
					entries[j] = NULL;
			}
		plan_link(engine, &marks, angles_link_find(link_id), n_same, same);
		do
			i++;
		while (i < n && entries[i] == NULL);
	}
	write_marks(engine, &marks);
	angles_pick_next_due(engine);
	angles_keep_sending(engine);
}

int
angles_mass_limit(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		values[2] = {Int32GetDatum(link->id), Int32GetDatum(link->mass_limit)};
	bool		isnull;

	/* half of the pages, but of a small table a few may always go */
	angles_spi_exec(&plan,
					"SELECT LEAST($2, GREATEST(" FEW_DELETES ", count(*)::int4 / 2))"
					" FROM (SELECT FROM angles.pages WHERE link_id = $1 AND state = 'live'"
					"  LIMIT 2 * $2::bigint) p",
					2, types, values, NULL, SPI_OK_SELECT);
	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

bool
angles_mass_bypass(Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	if (link->bypass_until <= angles_clock_now() ||
		angles_spi_exec(&plan,
						"UPDATE angles.links SET bypass_until = NULL WHERE id IN (SELECT id"
						"  FROM angles.links WHERE id = $1 AND bypass_until IS NOT NULL"
						"  FOR NO KEY UPDATE SKIP LOCKED)",
						1, types, values, NULL, SPI_OK_UPDATE) == 0)
		return false;
	link->bypass_until = 0;
	return true;
}

/* ---- planning ---- */

static void
plan_link(Engine *engine, Marks *marks, Link *link, int n, Entry **entries)
{
	Entry	  **rows = palloc(n * sizeof(Entry *));
	int			n_rows = 0;
	ErrorData  *error = NULL;
	Action	   *lookup = NULL;

	/* a key that begins with this character is the name of a page that was set aside */
	for (int i = 0; i < n; i++)
		if (entries[i]->key[0] != '\001')
			rows[n_rows++] = entries[i];
	if (n_rows > 0)
		error = angles_load_rows(link, n_rows, rows);
	if (error != NULL)
	{
		TimestampTz next = angles_clock_now() + angles_backoff_us(entries[0]->attempts + 1, -1);
		bool		busy = angles_load_is_busy(error);
		char	   *message = psprintf("could not read %s: %s (SQLSTATE %s)",
									   angles_link_name(link), error->message,
									   angles_sqlstate_text(error->sqlerrcode));

		for (int i = 0; i < n; i++)
			mark_later(marks, entries[i], "retry", next, busy ? "busy" : "permanent", message,
					   NULL);
		if (!busy)
		{
			angles_alert_open(psprintf("unreadable:%d", link->id), "critical", message,
							  "Its changes stay in the queue.",
							  "Give the table's owner the right to read it, or correct the "
							  "filter.");
			angles_counts(engine, link->id)->unreadable = true;
		}
		return;
	}
	if (angles_counts(engine, link->id)->unreadable)
	{
		angles_alert_close(psprintf("unreadable:%d", link->id));
		angles_counts(engine, link->id)->unreadable = false;
	}
	angles_resolve_relations(n_rows, rows);
	for (int i = 0; i < n_rows; i++)
		if (rows[i]->alone)
			rows[i]->missing_will_come = false;
	for (int i = 0; i < n; i++)
	{
		angles_keep_sending(engine);
		plan_entry(engine, marks, link, entries[i], &lookup);
		if ((i + 1) % ENGINE_PART == 0)
		{
			write_marks(engine, marks);
			MemSet(marks, 0, sizeof(Marks));
		}
	}
	if (lookup != NULL)
		finish_lookup(engine, link, &lookup);
}

static void
plan_entry(Engine *engine, Marks *marks, Link *link, Entry *entry, Action **lookup)
{
	RowPlan		plan = angles_plan(link, entry);
	LinkCounts *counts = angles_counts(engine, link->id);

	if (entry->not_read)
	{
		mark_later(marks, entry, "retry",
				   angles_clock_now() + angles_backoff_us(entry->attempts + 1, -1), "busy",
				   "reading rows of its table takes long; it is read later", NULL);
		return;
	}
	if (not_there_yet(entry) && plan.kind != PLAN_LOOKUP)
	{
		mark_later(marks, entry, "retry", angles_clock_now() + USECS_PER_SEC / 5, ENTRY_LOOKED_ONCE,
				   "the row was not found; looking once more", NULL);
		return;
	}
	if (entry->inbound_first &&
		((entry->page_state == PAGE_LIVE && entry->found && entry->in_scope) ||
		 entry->page_state == PAGE_NEW))
	{
		angles_rows_add(&marks->inbound, entry->link_id, entry->key);
		return;
	}
	switch (plan.kind)
	{
		case PLAN_NOTHING:
		case PLAN_FORGET:
			/* a relation that stays open keeps its entry, visible, until its page is there */
			if (plan.kind == PLAN_NOTHING && entry->missing_key != NULL)
			{
				mark_waiting(marks, entry, "relation");
				break;
			}
			counts->unchanged++;
			if (plan.kind == PLAN_NOTHING && plan.comes_back)
				angles_rows_add(&marks->back, entry->link_id, entry->key);
			angles_rows_add(&marks->gone, entry->link_id, entry->key);
			if (plan.kind == PLAN_FORGET && !entry->found &&
				(entry->page_state == PAGE_LIVE || entry->page_state == PAGE_REMOVED))
				angles_rows_add(&marks->forgotten, entry->link_id, entry->key);
			break;
		case PLAN_LEAVE:
			angles_rows_add(&marks->gone, entry->link_id, entry->key);
			angles_rows_add(&marks->left, entry->link_id, entry->key);
			break;
		case PLAN_WAIT:
			mark_waiting(marks, entry, NULL);
			break;
		case PLAN_HOLD:
			mark_later(marks, entry, "held", 0, "delete",
					   entry->edited ? "deleted here, and its page was edited in Notion"
					   : entry->unproven && !entry->deleted ? "a page carries its key, but the row "
					   "was never seen" : "deleted here; the link holds deletes", NULL);
			break;
		case PLAN_PARK:
			counts->parked++;
			mark_later(marks, entry, "parked", 0, "permanent", plan.message, plan.hint);
			break;
		case PLAN_LOOKUP:
			add_lookup(engine, marks, link, entry, lookup);
			break;
		case PLAN_TRASH:
			if (!entry->approved && (entry->hold || !may_trash(counts, link)))
			{
				mark_later(marks, entry, "held", 0, "mass_delete",
						   "deleted together with many other rows", NULL);
				break;
			}
			make_write(engine, marks, link, entry, &plan);
			break;
		case PLAN_CREATE:
			/* two pages with the same key could not be told apart: the doubt is settled first */
			if (entry->key_in_doubt)
			{
				mark_later(marks, entry, "retry",
						   angles_clock_now() + angles_backoff_us(entry->attempts + 1, -1), "busy",
						   "a page with this key may have been made for a row that has another "
						   "key by now; it is being looked for", NULL);
				break;
			}
			make_write(engine, marks, link, entry, &plan);
			break;
		default:
			make_write(engine, marks, link, entry, &plan);
			break;
	}
}

/*
 * A row that was captured, not as a deletion, and is not found may be in a partition that this
 * process does not know yet: a commit is visible an instant before its invalidations arrive. What
 * is concluded from absence is concluded at the second look.
 */
static bool
not_there_yet(const Entry *entry)
{
	return !entry->found && !entry->deleted && entry->unreadable == NULL &&
		!entry->looked_once && entry->key[0] != '\001';
}

/*
 * Counts deletions that nobody approved, over all transactions of the last minute; those beyond the
 * link's limit wait for a person. (What one fold deletes at once is held as a whole: see fold.c.)
 */
static bool
may_trash(LinkCounts *counts, Link *link)
{
	int64		now = angles_clock_mono_us();

	if (now - counts->trash_since_us > 60 * USECS_PER_SEC)
	{
		counts->trash_since_us = now;
		counts->trash_in_window = 0;
	}
	counts->trash_in_window++;
	if (counts->trash_in_window <= atoi(FEW_DELETES) ||
		counts->trash_in_window <= angles_mass_limit(link))
		return true;
	if (angles_mass_bypass(link))
	{
		/* all that is left of this window, too */
		counts->trash_in_window = INT_MIN;
		return true;
	}
	angles_alert_open(psprintf("mass_delete:%d", link->id), "critical",
					  psprintf("many rows of %s were deleted; further deletions wait for "
							   "approval", angles_link_name(link)),
					  psprintf("More than %d within a minute.", angles_mass_limit(link)),
					  angles_approve_hint(link));
	return false;
}

static void
make_write(Engine *engine, Marks *marks, Link *link, Entry *entry, RowPlan *plan)
{
	ActionKind	kind = plan->kind == PLAN_CREATE ? ACTION_CREATE
		: plan->kind == PLAN_PATCH ? ACTION_PATCH
		: plan->kind == PLAN_TRASH ? ACTION_TRASH : ACTION_RESTORE;
	Action	   *action = angles_action_make(engine, kind, link->id);
	MemoryContext old = MemoryContextSwitchTo(action->context);
	NotionProperty *properties = palloc(Max(plan->n, 1) * sizeof(NotionProperty));

	action->key = pstrdup(entry->key);
	action->page_id = entry->page_id ? pstrdup(entry->page_id) : NULL;
	action->priority = entry->priority;
	action->attempts = entry->attempts;
	action->n_written = plan->n;
	action->written_ids = palloc(Max(plan->n, 1) * sizeof(char *));
	action->written_locals = palloc(Max(plan->n, 1) * sizeof(char *));
	for (int i = 0; i < plan->n; i++)
	{
		SyncColumn *column = &link->columns[plan->columns[i]];

		properties[i].column = &column->c;
		properties[i].canon = entry->local[plan->columns[i]];
		action->written_ids[i] = pstrdup(column->c.property_id);
		action->written_locals[i] = pstrdup(properties[i].canon);
	}
	if (entry->missing_key != NULL)
	{
		action->then_link = entry->missing_link;
		action->then_key = pstrdup(entry->missing_key);
	}
	if (kind == ACTION_CREATE)
		action->request = angles_notion_create_page(link->data_source_id, plan->n, properties);
	else if (kind == ACTION_PATCH)
		action->request = angles_notion_patch_page(entry->page_id, plan->n, properties);
	else
		action->request = angles_notion_trash_page(entry->page_id, kind == ACTION_TRASH);
	action->was_in_doubt = entry->sending != NULL;
	if (kind == ACTION_PATCH && link->inbound &&
		(link->strict || plan->comes_back || sum_in_doubt(link, entry, plan)))
		read_first(action, entry);
	if (kind == ACTION_TRASH && link->inbound && !entry->approved)
		action->base = DatumGetJsonbPCopy(JsonbPGetDatum(entry->base));
	MemoryContextSwitchTo(old);

	mark_claimed(marks, entry, kind == ACTION_PATCH ? sending_text(entry, action) : NULL);
	if (kind == ACTION_CREATE)
		angles_rows_add(&marks->intents, entry->link_id, entry->key);
	if (kind == ACTION_PATCH && plan->comes_back)
		angles_rows_add(&marks->back, entry->link_id, entry->key);
	angles_action_ready(engine, action);
}

/*
 * Whether a number to which both sides add may have been written already: what a person has added
 * to it since would be lost under a second write.
 */
static bool
sum_in_doubt(const Link *link, const Entry *entry, const RowPlan *plan)
{
	for (int i = 0; i < plan->n; i++)
	{
		const SyncColumn *column = &link->columns[plan->columns[i]];

		if (column->additive &&
			angles_claim_was_sent(entry->sending, column->c.property_id, NULL))
			return true;
	}
	return false;
}

/* The page is read, and the write follows when nobody changed it since both sides agreed. */
static void
read_first(Action *action, const Entry *entry)
{
	action->kind = ACTION_PREFLIGHT;
	action->write = action->request;
	action->request = angles_notion_get_page(entry->page_id);
	action->base = DatumGetJsonbPCopy(JsonbPGetDatum(entry->base));
	action->held = entry->held ? DatumGetJsonbPCopy(JsonbPGetDatum(entry->held)) : NULL;
	action->sending = entry->sending ? DatumGetJsonbPCopy(JsonbPGetDatum(entry->sending)) : NULL;
}

static void
add_lookup(Engine *engine, Marks *marks, Link *link, Entry *entry, Action **lookup)
{
	MemoryContext old;

	if (*lookup == NULL)
	{
		*lookup = angles_action_make(engine, ACTION_LOOKUP, link->id);
		(*lookup)->priority = entry->priority;
	}
	(*lookup)->priority = Min((*lookup)->priority, entry->priority);
	old = MemoryContextSwitchTo((*lookup)->context);
	(*lookup)->keys = lappend((*lookup)->keys, pstrdup(entry->key));
	(*lookup)->sent_keys = lappend((*lookup)->sent_keys,
								   pstrdup(entry->sent_key ? entry->sent_key : entry->key));
	MemoryContextSwitchTo(old);
	mark_claimed(marks, entry, NULL);
	if (list_length((*lookup)->keys) == LOOKUP_KEYS)
		finish_lookup(engine, link, lookup);
}

static void
finish_lookup(Engine *engine, Link *link, Action **lookup)
{
	MemoryContext old = MemoryContextSwitchTo((*lookup)->context);

	(*lookup)->request = angles_notion_find_keys(link->data_source_id, &link->key_column->c,
												 (*lookup)->sent_keys);
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, *lookup);
	*lookup = NULL;
}

static void
mark_claimed(Marks *marks, Entry *entry, const char *sending)
{
	marks->sending_null[marks->n_claimed] = sending == NULL;
	if (sending != NULL)
	{
		marks->sending[marks->n_claimed] = CStringGetTextDatum(sending);
		marks->any_sending = true;
	}
	marks->claimed[marks->n_claimed++] = PointerGetDatum(&entry->tid);
}

/*
 * What is about to be written, as hashes, beside what may have been written before: a JSON object.
 * Until Notion acknowledges it, nobody knows which of these values the page holds, and one that
 * turns up there is no person's edit.
 */
static char *
sending_text(const Entry *entry, const Action *action)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < action->n_written; i++)
	{
		JsonbValue	before;

		appendStringInfoChar(&buf, i == 0 ? '{' : ',');
		angles_json_append_string(&buf, action->written_ids[i]);
		appendStringInfo(&buf, ":\"%s", value_hash(action->written_locals[i]));
		if (entry->sending != NULL &&
			angles_json_get(&entry->sending->root, action->written_ids[i], &before) &&
			before.val.string.len < LONGEST_DOUBT)
			appendStringInfo(&buf, " %.*s", before.val.string.len, before.val.string.val);
		appendStringInfoChar(&buf, '"');
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

static char *
value_hash(const char *canon)
{
	return psprintf("%016" INT64_MODIFIER "x", hash_bytes_extended((const unsigned char *) canon,
														   strlen(canon), 0));
}

bool
angles_claim_was_sent(const Jsonb *sending, const char *property_id, const char *canon)
{
	JsonbValue	hashes;

	if (sending == NULL ||
		!angles_json_get(unconstify(JsonbContainer *, &sending->root), property_id, &hashes))
		return false;
	return canon == NULL || strstr(pnstrdup(hashes.val.string.val, hashes.val.string.len),
								   value_hash(canon)) != NULL;
}

static void
mark_later(Marks *marks, const Entry *entry, const char *state, TimestampTz next_at,
		   const char *class, const char *message, const char *hint)
{
	RowSet	   *later = &marks->later;

	angles_rows_add(later, entry->link_id, entry->key);
	angles_rows_text(later, 0, state);
	angles_rows_text(later, 1, next_at ? pstrdup(timestamptz_to_str(next_at)) : NULL);
	angles_rows_text(later, 2, class);
	angles_rows_text(later, 3, message);
	angles_rows_text(later, 4, hint);
}

static void
mark_waiting(Marks *marks, const Entry *entry, const char *class)
{
	angles_rows_add(&marks->waiting, entry->link_id, entry->key);
	angles_rows_text(&marks->waiting, 0, psprintf("%d", entry->missing_link));
	angles_rows_text(&marks->waiting, 1, entry->missing_key);
	angles_rows_text(&marks->waiting, 2, class);
}

/* ---- writing ---- */

static void
exec_on_rows(Engine *engine, SPIPlanPtr *plan, const char *sql, const RowSet *rows, int expect)
{
	Oid			types[3] = {INT4ARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[3] = {angles_rows_links(rows), angles_rows_keys(rows),
	Int64GetDatum(engine->generation)};

	angles_spi_exec(plan, sql, 3, types, values, NULL, expect);
	angles_keep_sending(engine);
}

static void
write_marks(Engine *engine, Marks *marks)
{
	static SPIPlanPtr plans[7];
	int32		alerted = 0;

	write_claimed(engine, marks);
	if (marks->intents.n > 0)
		exec_on_rows(engine, &plans[0],
					 "INSERT INTO angles.pages AS p (link_id, key, state, intent_at)"
					 " SELECT u.link_id, u.key, 'intent', clock_timestamp()"
					 " FROM unnest($1, $2) AS u (link_id, key) WHERE $3 IS NOT NULL"
					 " ON CONFLICT (link_id, key) DO UPDATE"
					 " SET state = 'intent', intent_at = clock_timestamp(), lookups = 0,"
					 " sent_key = NULL",
					 &marks->intents, SPI_OK_INSERT);
	if (marks->gone.n > 0)
		exec_on_rows(engine, &plans[1],
					 "DELETE FROM angles.queue_entries q USING unnest($1, $2) AS u (link_id, key)"
					 " WHERE q.link_id = u.link_id AND q.key = u.key AND $3 IS NOT NULL",
					 &marks->gone, SPI_OK_DELETE);
	if (marks->left.n > 0)
		exec_on_rows(engine, &plans[2],
					 "UPDATE angles.pages p SET state = 'out_of_scope'"
					 " FROM unnest($1, $2) AS u (link_id, key)"
					 " WHERE p.link_id = u.link_id AND p.key = u.key AND $3 IS NOT NULL",
					 &marks->left, SPI_OK_UPDATE);
	if (marks->back.n > 0)
		exec_on_rows(engine, &plans[5],
					 "UPDATE angles.pages p SET state = 'live', pending = NULL, note = NULL,"
					 " removed_at = NULL FROM unnest($1, $2) AS u (link_id, key)"
					 " WHERE p.link_id = u.link_id AND p.key = u.key AND $3 IS NOT NULL",
					 &marks->back, SPI_OK_UPDATE);
	if (marks->forgotten.n > 0)
		exec_on_rows(engine, &plans[3],
					 "UPDATE angles.pages p SET pending = NULL, note = NULL,"
					 " state = CASE p.state WHEN 'removed' THEN 'trashed' ELSE 'left' END"
					 " FROM unnest($1, $2) AS u (link_id, key)"
					 " WHERE p.link_id = u.link_id AND p.key = u.key AND $3 IS NOT NULL",
					 &marks->forgotten, SPI_OK_UPDATE);
	if (marks->inbound.n > 0)
	{
		/* the table may take now what it refused before the row changed */
		exec_on_rows(engine, &plans[6],
					 "WITH w AS (UPDATE angles.queue_entries q SET state = 'waiting',"
					 "  class = 'inbound',"
					 "  message = 'waits until a change made in Notion is merged'"
					 "  FROM unnest($1, $2) AS u (link_id, key)"
					 "  WHERE q.link_id = u.link_id AND q.key = u.key AND $3 IS NOT NULL"
					 "  RETURNING q.link_id, q.key)"
					 " UPDATE angles.inbox i SET state = 'ready', attempts = 0, next_at = NULL,"
					 "  parked_at = NULL, class = NULL, code = NULL, message = NULL, hint = NULL"
					 " FROM w JOIN angles.pages p USING (link_id, key)"
					 " WHERE i.link_id = p.link_id AND i.page_id = p.page_id"
					 " AND i.state = 'parked'",
					 &marks->inbound, SPI_OK_UPDATE);
		engine->inbox_changed = true;
	}
	if (marks->waiting.n > 0)
		angles_some_wait(engine);
	if (marks->waiting.n > 0)
	{
		Oid			types[5] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		TEXTARRAYOID};
		Datum		values[5] = {angles_rows_links(&marks->waiting),
			angles_rows_keys(&marks->waiting), angles_rows_extra(&marks->waiting, 0),
		angles_rows_extra(&marks->waiting, 1), angles_rows_extra(&marks->waiting, 2)};

		angles_spi_exec(&plans[4],
						/* what it waited for may have ended in an earlier part of this claim */
						"UPDATE angles.queue_entries q SET state = CASE WHEN u.class = 'relation'"
						"  OR EXISTS (SELECT FROM angles.queue_entries b"
						"   WHERE b.link_id = u.l::int4 AND b.key = u.k"
						"   AND b.state NOT IN ('parked', 'held')) THEN 'waiting' ELSE 'ready' END,"
						" seq = nextval('angles.queue_seq'),"
						" waits_for_link = u.l::int4, waits_for_key = u.k, class = u.class,"
						" message = CASE u.class WHEN 'relation' THEN " OPEN_RELATION
						"  ELSE 'waits for the page of a referenced row' END"
						" FROM unnest($1, $2, $3, $4, $5) AS u (link_id, key, l, k, class)"
						" WHERE q.link_id = u.link_id AND q.key = u.key",
						5, types, values, NULL, SPI_OK_UPDATE);
		engine->more[0] = engine->more[1] = true;
	}
	write_later(engine, &marks->later);
	free_children(engine, marks);
	/* a deletion, or a row that is there again, may have been what was waited for */
	for (int i = 0; i < marks->forgotten.n + marks->back.n; i++)
	{
		int32		link_id = DatumGetInt32(i < marks->forgotten.n ? marks->forgotten.links[i]
											: marks->back.links[i - marks->forgotten.n]);

		if (link_id != alerted && angles_link_find(link_id) != NULL)
			angles_removed_alert(angles_link_find(link_id));
		alerted = link_id;
	}
}

/* The queue has one writer: the entries are still where this transaction has read them. */
static void
write_claimed(Engine *engine, Marks *marks)
{
	static SPIPlanPtr plain = NULL;
	static SPIPlanPtr patches = NULL;
	Oid			types[3] = {TIDARRAYOID, INT8OID, TEXTARRAYOID};
	Datum		values[3];
	int			lower = 1;

	if (marks->n_claimed == 0)
		return;
	values[0] = PointerGetDatum(construct_array(marks->claimed, marks->n_claimed, TIDOID,
												sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	values[1] = Int64GetDatum(engine->generation);
	if (marks->any_sending)
	{
		values[2] = PointerGetDatum(construct_md_array(marks->sending, marks->sending_null, 1,
													   &marks->n_claimed, &lower, TEXTOID, -1,
													   false, TYPALIGN_INT));
		angles_spi_exec(&patches,
						"UPDATE angles.queue_entries q SET state = 'claimed', generation = $2,"
						" claimed_version = version, claimed_id = last_id, next_at = NULL,"
						" sending = COALESCE(q.sending, '{}') || COALESCE(u.sending::jsonb, '{}')"
						" FROM unnest($1, $3) AS u (tid, sending) WHERE q.ctid = u.tid",
						3, types, values, NULL, SPI_OK_UPDATE);
	}
	else
		angles_spi_exec(&plain,
						"UPDATE angles.queue_entries SET state = 'claimed', generation = $2,"
						" claimed_version = version, claimed_id = last_id, next_at = NULL"
						" WHERE ctid = ANY ($1)",
						2, types, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed != marks->n_claimed)
		elog(ERROR, "%d entries were to be claimed, not " UINT64_FORMAT, marks->n_claimed,
			 SPI_processed);
	angles_keep_sending(engine);
}

/*
 * Rows that wait for one that needs nothing, or that stays behind, are planned again: its page is
 * there already, or it will not come and they go without that relation.
 */
static void
free_children(Engine *engine, const Marks *marks)
{
	static SPIPlanPtr plan = NULL;
	const RowSet *parents[] = {&marks->gone, &marks->later};

	for (int i = 0; i < lengthof(parents); i++)
	{
		if (parents[i]->n == 0)
			continue;
		exec_on_rows(engine, &plan,
					 "UPDATE angles.queue_entries q SET state = 'ready',"
					 " seq = nextval('angles.queue_seq'), waits_for_link = NULL,"
					 " waits_for_key = NULL, class = NULL, message = NULL"
					 " FROM unnest($1, $2) AS u (link_id, key)"
					 " WHERE q.state = 'waiting' AND q.waits_for_link = u.link_id"
					 " AND q.waits_for_key = u.key AND $3 IS NOT NULL",
					 parents[i], SPI_OK_UPDATE);
		if (SPI_processed > 0)
			engine->more[0] = engine->more[1] = true;
	}
}

static void
write_later(Engine *engine, RowSet *later)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[7] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[7];

	if (later->n == 0)
		return;
	values[0] = angles_rows_links(later);
	values[1] = angles_rows_keys(later);
	for (int i = 0; i < 5; i++)
		values[i + 2] = angles_rows_extra(later, i);
	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries q SET state = u.state,"
					" next_at = u.next_at::timestamptz, class = u.class, message = u.message,"
					" hint = u.hint, attempts = q.attempts + 1,"
					" parked_at = CASE u.state WHEN 'parked' THEN clock_timestamp() END"
					" FROM unnest($1, $2, $3, $4, $5, $6, $7)"
					"  AS u (link_id, key, state, next_at, class, message, hint)"
					" WHERE q.link_id = u.link_id AND q.key = u.key",
					7, types, values, NULL, SPI_OK_UPDATE);
	(void) engine;
}

/* ---- a new life ---- */

/*
 * Whatever was claimed belongs to a worker that is dead: there is only one at a time. A write
 * whose page is known is simply planned again; a create is in doubt and is looked up first, because
 * its page row says 'intent'.
 */
void
angles_claim_take_over(Engine *engine)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr released = NULL;
	static SPIPlanPtr undone = NULL;
	Oid			types[3] = {INT8OID, INT4OID, INT4OID};
	Datum		values[3] = {Int64GetDatum(engine->generation), Int32GetDatum(ENGINE_MAX_CRASHES),
	Int32GetDatum(angles_worker_predecessor_died() ? 1 : 0)};

	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries SET generation = NULL, claimed_version = NULL,"
					" crashes = crashes + $3, seq = nextval('angles.queue_seq'),"
					" state = CASE WHEN crashes + $3 >= $2 THEN 'parked' ELSE 'ready' END,"
					" class = CASE WHEN crashes + $3 >= $2 THEN 'poison' ELSE class END,"
					" message = CASE WHEN crashes + $3 >= $2"
					"  THEN 'the worker died again and again while this row was under way'"
					"  ELSE message END,"
					" parked_at = CASE WHEN crashes + $3 >= $2 THEN clock_timestamp() END"
					" WHERE state = 'claimed' AND generation <> $1",
					3, types, values, NULL, SPI_OK_UPDATE);
	/* nobody is left to wake what waits for a row that is not on its way */
	angles_spi_exec(&released,
					"UPDATE angles.queue_entries q SET state = 'ready', waits_for_link = NULL,"
					" waits_for_key = NULL, seq = nextval('angles.queue_seq')"
					" WHERE q.state = 'waiting' AND q.class IS DISTINCT FROM 'relation'"
					" AND q.class IS DISTINCT FROM 'inbound'"
					" AND NOT EXISTS (SELECT FROM angles.queue_entries b"
					"  WHERE b.link_id = q.waits_for_link AND b.key = q.waits_for_key"
					"  AND b.state NOT IN ('parked', 'held', 'waiting'))",
					0, NULL, NULL, NULL, SPI_OK_UPDATE);
	/* a restored dump has pages, but nothing of the inbox */
	angles_spi_exec(&undone,
					"UPDATE angles.pages p SET pending = 'held' WHERE pending = 'apply'"
					" AND NOT EXISTS (SELECT FROM angles.inbox i"
					"  WHERE i.link_id = p.link_id AND i.page_id = p.page_id)",
					0, NULL, NULL, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
	angles_pick_next_due(engine);
}
