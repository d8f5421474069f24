/*
 * settle.c
 *		What Notion's answers mean for pages, entries and the connection; many at once, in one
 *		transaction. The fence: an entry is only touched while it carries this worker's generation.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "worker/worker.h"

/* What write_pages() writes. */
#define PAGE_ROWS "unnest($1, $2, $3, $4, $5, $6, $7)" \
	" AS u (link_id, key, page_id, base, base_local, edited, state)"

/*
 * A transient failure of one row is reported in its entry from the first time, as an alert never.
 */
typedef struct Outcome
{
	RowSet		pages;			/* extras: page id, base, base_local or null, last edited, state */
	RowSet		done;			/* entries whose work is finished; extras: then link, then key */
	RowSet		again;			/* entries to plan again at once */
	RowSet		later;			/* extras: state, next_at, class, code, message, hint */
	RowSet		looked;			/* pages that a look-up did not find; they stay in doubt */
	RowSet		absent;			/* pages that surely do not exist: may be created again */
} Outcome;

static void settle_one(Engine *engine, Outcome *out, Action *action);
static void settle_done(Engine *engine, Outcome *out, Action *action);
static void settle_lookup(Engine *engine, Outcome *out, Action *action);
static void settle_failure(Engine *engine, Outcome *out, Action *action);
static void adopt_page(Outcome *out, Link *link, const char *key, JsonbContainer *page);
static void page_row(Outcome *out, Link *link, Action *action, JsonbContainer *page);
static char *edit_time(JsonbContainer *page);
static bool page_is_taken(const char *page_id, int32 link_id, const char *key);
static char *found_key(Link *link, JsonbContainer *page);
static void later(Outcome *out, int32 link_id, const char *key, const char *state, int64 delay_us,
				  const char *class, const NotionAnswer *answer, const char *hint);
static void write_outcome(Engine *engine, Outcome *out);
static void write_absent(Outcome *out);
static void free_children(const RowSet *parents);
static void write_done(Engine *engine, Outcome *out);
static void write_again(Engine *engine, Outcome *out);
static void write_later(Engine *engine, Outcome *out);
static void write_pages(RowSet *pages);
static void write_looked(Engine *engine, Outcome *out);

void
angles_settle(Engine *engine)
{
	Outcome		out = {0};
	int			n_done = engine->n_done;

	/* what is answered meanwhile has its turn in the next transaction */
	for (int i = 0; i < n_done; i++)
	{
		Action	   *action = dlist_container(Action, node, dlist_pop_head_node(&engine->done));

		engine->n_done--;
		if (action->kind == ACTION_SETUP)
			angles_setup_settle(engine, action);
		else if (action->kind == ACTION_MARK)
			angles_mark_settle(engine, action);
		else if (action->kind == ACTION_POLL)
			angles_poll_settle(engine, action);
		else if (action->kind == ACTION_TARGET)
			angles_poll_settle_target(engine, action);
		else if (action->kind == ACTION_PREFLIGHT && action->answer->verdict == NOTION_DONE)
		{
			angles_poll_settle_preflight(engine, action);
			if (angles_link_find(action->link_id) != NULL)
				angles_rows_add(&out.again, action->link_id, action->key);
		}
		else if (action->kind == ACTION_CHECK)
			angles_calls_settle_check(engine, action);
		else
			settle_one(engine, &out, action);
		angles_action_free(action);
		angles_keep_sending(engine);
		if (i == n_done - 1 || (i + 1) % ENGINE_PART == 0)
		{
			write_outcome(engine, &out);
			MemSet(&out, 0, sizeof(out));
		}
	}
}

static void
settle_one(Engine *engine, Outcome *out, Action *action)
{
	/* unlinked while it was under way: its entries and pages are gone or nobody's */
	if (angles_link_find(action->link_id) == NULL)
		return;
	if (action->answer->verdict == NOTION_DONE)
	{
		if (action->kind == ACTION_LOOKUP)
			settle_lookup(engine, out, action);
		else
			settle_done(engine, out, action);
	}
	else
		settle_failure(engine, out, action);
}

static void
settle_done(Engine *engine, Outcome *out, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	LinkCounts *counts = angles_counts(engine, action->link_id);
	JsonbContainer *page = &action->answer->json->root;
	char	   *id = angles_json_get_text(page, "id");

	if (id == NULL || angles_notion_parse_id(id) == NULL)
	{
		/* a page without an id is no answer to rely on; for a create it leaves a doubt */
		action->answer->verdict = NOTION_IN_DOUBT;
		action->answer->code = "bad_response";
		action->answer->message = "the answer holds no page id";
		settle_failure(engine, out, action);
		return;
	}
	switch (action->kind)
	{
		case ACTION_FETCH:
			counts->adopted++;
			adopt_page(out, link, action->key, page);
			angles_rows_add(&out->again, action->link_id, action->key);
			return;
		case ACTION_CREATE:
			counts->created++;
			break;
		case ACTION_PATCH:
			counts->updated++;
			break;
		case ACTION_TRASH:
			counts->trashed++;
			break;
		default:
			counts->restored++;
			break;
	}
	page_row(out, link, action, page);
	if (action->kind == ACTION_RESTORE)
	{
		/* properties are not sent in the same request (reference, 8.7): they are planned now */
		angles_rows_add(&out->again, action->link_id, action->key);
		return;
	}
	angles_rows_add(&out->done, action->link_id, action->key);
	if (action->then_key != NULL)
	{
		angles_some_wait(engine);
		angles_rows_text(&out->done, 0, psprintf("%d", action->then_link));
		angles_rows_text(&out->done, 1, action->then_key);
	}
}

/*
 * Notes what both sides agree on now: for the properties that were written, what Notion answered,
 * and, where that is another form than what was sent, what was sent. Other properties of the answer
 * may hold a person's edits and are left for the room's inbound half to see.
 */
static void
page_row(Outcome *out, Link *link, Action *action, JsonbContainer *page)
{
	StringInfoData base;
	StringInfoData local;
	StringInfoData ids;
	int			n_base = 0;
	int			n_local = 0;

	initStringInfo(&base);
	initStringInfo(&local);
	initStringInfo(&ids);
	appendStringInfoChar(&base, '{');
	appendStringInfoChar(&local, '{');
	for (int i = 0; i < action->n_written; i++)
	{
		const char *canon = NULL;

		for (int c = 0; c < link->n_columns; c++)
		{
			AnglesColumn *column = &link->columns[c].c;
			JsonbContainer *property;
			bool		truncated = false;
			char	   *problem = NULL;

			if (column->property_id == NULL ||
				strcmp(column->property_id, action->written_ids[i]) != 0)
				continue;
			property = angles_notion_property(page, column);
			if (property != NULL)
				canon = angles_codec_canon_remote(column, property, &truncated, &problem);
			/* only the first part of a long value: what was written stands for the whole */
			if (truncated)
				canon = NULL;
		}
		appendStringInfo(&base, "%s", n_base++ ? "," : "");
		angles_json_append_string(&base, action->written_ids[i]);
		appendStringInfo(&base, ":%s", canon ? canon : action->written_locals[i]);
		if (canon != NULL && strcmp(canon, action->written_locals[i]) != 0)
		{
			appendStringInfo(&local, "%s", n_local++ ? "," : "");
			angles_json_append_string(&local, action->written_ids[i]);
			appendStringInfo(&local, ":%s", action->written_locals[i]);
		}
	}
	appendStringInfoChar(&base, '}');
	appendStringInfoChar(&local, '}');

	angles_rows_add(&out->pages, action->link_id, action->key);
	angles_rows_text(&out->pages, 0, angles_json_get_text(page, "id"));
	angles_rows_text(&out->pages, 1, base.data);
	angles_rows_text(&out->pages, 2, n_local > 0 ? local.data : NULL);
	angles_rows_text(&out->pages, 3, edit_time(page));
	angles_rows_text(&out->pages, 4, action->kind == ACTION_TRASH ? "trashed" : "live");
}

/* When the page was edited last, NULL when its answer does not tell. */
static char *
edit_time(JsonbContainer *page)
{
	TimestampTz at = angles_notion_time(page, "last_edited_time");

	return at ? pstrdup(timestamptz_to_str(at)) : NULL;
}

/* A page that exists already becomes the row's: all its properties are its base. */
static void
adopt_page(Outcome *out, Link *link, const char *key, JsonbContainer *page)
{
	StringInfoData base;
	int			n = 0;

	initStringInfo(&base);
	appendStringInfoChar(&base, '{');
	for (int c = 0; c < link->n_columns; c++)
	{
		AnglesColumn *column = &link->columns[c].c;
		JsonbContainer *property = angles_notion_property(page, column);
		bool		truncated = false;
		char	   *problem = NULL;
		char	   *canon;

		if (property == NULL || column->property_id == NULL)
			continue;
		canon = angles_codec_canon_remote(column, property, &truncated, &problem);
		if (canon == NULL || truncated)
			continue;
		appendStringInfo(&base, "%s", n++ ? "," : "");
		angles_json_append_string(&base, column->property_id);
		appendStringInfo(&base, ":%s", canon);
	}
	appendStringInfoChar(&base, '}');
	angles_rows_add(&out->pages, link->id, key);
	angles_rows_text(&out->pages, 0, angles_json_get_text(page, "id"));
	angles_rows_text(&out->pages, 1, base.data);
	angles_rows_text(&out->pages, 3, edit_time(page));
	angles_rows_text(&out->pages, 4, angles_json_get_bool(page, "in_trash", false)
					 ? "trashed" : "live");
}

void
angles_settle_known_page(Engine *engine, Link *link, JsonbContainer *page)
{
	Outcome		out = {0};
	char	   *key = found_key(link, page);
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id), key ? CStringGetTextDatum(key) : (Datum) 0};
	uint64		n;

	if (key == NULL || key[0] == '\0')
		return;
	n = angles_spi_exec(&plan,
						"SELECT key, state FROM angles.pages WHERE link_id = $1"
						" AND (key = $2 OR sent_key = $2)"
						" ORDER BY sent_key IS NOT DISTINCT FROM $2 DESC",
						2, types, values, NULL, SPI_OK_SELECT);
	if (n > 0)
	{
		/* a row that has its page keeps it: a copy with the same key is somebody's duplicate */
		if (strcmp(angles_spi_text(0, 2, CurrentMemoryContext), "intent") != 0)
			return;
		/* made for a row that has another key by now */
		key = angles_spi_text(0, 1, CurrentMemoryContext);
	}
	if (page_is_taken(angles_json_get_text(page, "id"), link->id, key))
		return;
	adopt_page(&out, link, key, page);
	angles_counts(engine, link->id)->adopted++;
	write_outcome(engine, &out);
}

/*
 * Whether a page drives another row already: a person may have typed the key of one into the other.
 */
static bool
page_is_taken(const char *page_id, int32 link_id, const char *key)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {TEXTOID, INT4OID, TEXTOID};
	Datum		values[3];

	if (page_id == NULL || angles_notion_parse_id(page_id) == NULL)
		return true;
	values[0] = CStringGetTextDatum(page_id);
	values[1] = Int32GetDatum(link_id);
	values[2] = CStringGetTextDatum(key);
	return angles_spi_exec(&plan,
						   "SELECT FROM angles.pages WHERE page_id = $1::uuid"
						   " AND (link_id <> $2 OR key <> $3)",
						   3, types, values, NULL, SPI_OK_SELECT) > 0;
}

/* ---- doubts ---- */

static void
settle_lookup(Engine *engine, Outcome *out, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	JsonbContainer *results = angles_json_get_container(&action->answer->json->root, "results");
	List	   *found = NIL;
	ListCell   *lc;
	int			n = results ? JsonContainerSize(results) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);
		char	   *sent = page ? found_key(link, page) : NULL;
		char	   *key = NULL;
		bool		twice = false;
		ListCell   *ls;

		forboth(lc, action->keys, ls, action->sent_keys)
			if (sent && strcmp((char *) lfirst(ls), sent) == 0)
				key = (char *) lfirst(lc);
		foreach(lc, found)
			twice = twice || (key && strcmp((char *) lfirst(lc), key) == 0);
		if (key == NULL || page_is_taken(angles_json_get_text(page, "id"), link->id, key))
			continue;
		if (twice)
		{
			/* results come oldest first: the older page keeps the row */
			angles_alert_open(psprintf("duplicate:%d:%s", link->id, key), "warning",
							  psprintf("two pages in Notion carry the same key of table %s",
									   angles_link_name(link)),
							  psprintf("The younger one is %s.", angles_json_get_text(page, "id")),
							  "Remove the copy in Notion, or give it another key.");
			continue;
		}
		found = lappend(found, key);
		angles_counts(engine, link->id)->adopted++;
		adopt_page(out, link, key, page);
		angles_rows_add(&out->again, link->id, key);
	}
	foreach(lc, action->keys)
	{
		char	   *key = (char *) lfirst(lc);
		bool		there = false;
		ListCell   *lf;

		foreach(lf, found)
			there = there || strcmp((char *) lfirst(lf), key) == 0;
		if (!there)
			angles_rows_add(&out->looked, link->id, key);
	}
}

static char *
found_key(Link *link, JsonbContainer *page)
{
	JsonbContainer *property = angles_notion_property(page, &link->key_column->c);
	JsonbContainer *text;

	if (property == NULL)
		return NULL;
	text = angles_json_get_container(property, angles_codec_type_name(link->key_column->c.type));
	return text ? angles_codec_plain_text(text) : NULL;
}

/* ---- failures ---- */

static void
settle_failure(Engine *engine, Outcome *out, Action *action)
{
	NotionAnswer *answer = action->answer;
	Link	   *link = angles_link_find(action->link_id);
	List	   *keys = action->key ? list_make1(action->key) : action->keys;
	int64		delay = angles_backoff_us(action->attempts + 1, answer->retry_after_s);
	ListCell   *lc;

	if (action->replan)
	{
		/* it never left: the row is planned anew, at once */
		foreach(lc, keys)
		{
			if (action->kind == ACTION_CREATE)
				angles_rows_add(&out->absent, link->id, (char *) lfirst(lc));
			angles_rows_add(&out->again, link->id, (char *) lfirst(lc));
		}
		return;
	}
	foreach(lc, keys)
	{
		char	   *key = (char *) lfirst(lc);

		switch (answer->verdict)
		{
			case NOTION_IN_DOUBT:
			case NOTION_CONFLICT:
				/* absolute values may be written twice; a page must not be made twice */
				if (action->kind == ACTION_CREATE)
					later(out, link->id, key, "verifying",
						  answer->verdict == NOTION_CONFLICT ? delay : Min(delay, 1000000),
						  "transient", answer, NULL);
				else
					later(out, link->id, key, "retry", delay, "transient", answer, NULL);
				break;
			case NOTION_RETRY:
			case NOTION_LIMITED:
			case NOTION_BLOCKED:
			case NOTION_UNAUTHORIZED:
				if (action->kind == ACTION_CREATE)
					angles_rows_add(&out->absent, link->id, key);
				later(out, link->id, key, "retry", delay, "transient", answer, NULL);
				break;
			case NOTION_TRASHED:
				/* trashing what is in the trash is no failure */
				if (action->kind == ACTION_TRASH)
				{
					angles_rows_add(&out->pages, link->id, key);
					angles_rows_text(&out->pages, 0, action->page_id);
					angles_rows_text(&out->pages, 1, "{}");
					angles_rows_text(&out->pages, 4, "trashed");
					angles_rows_add(&out->done, link->id, key);
					break;
				}
				later(out, link->id, key, "parked", 0, "permanent", answer,
					  "The page is in Notion's trash. Restore it there, then call "
					  "angles.retry(), or "
					  "delete the row.");
				break;
			case NOTION_GONE:
				if (action->kind == ACTION_FETCH)
				{
					later(out, link->id, key, "verifying", delay, "transient", answer, NULL);
					break;
				}
				if (action->kind == ACTION_CREATE)
					angles_rows_add(&out->absent, link->id, key);
				later(out, link->id, key, "parked", 0, "permanent", answer,
					  "The page or the data source is gone, or no longer shared with the "
					  "connection. "
					  "Share it again, then call angles.retry().");
				break;
			default:
				if (action->kind == ACTION_CREATE)
					angles_rows_add(&out->absent, link->id, key);
				later(out, link->id, key, "parked", 0, "permanent", answer,
					  answer->verdict == NOTION_SCHEMA
					  ? "A property was removed or changed in Notion. Call "
						"angles.alter_link(), then "
					  "angles.retry()."
					  : answer->verdict == NOTION_FORBIDDEN
					  ? "Give the connection the capability that is missing, then call "
					  "angles.retry()."
					  : "Correct the row with UPDATE; it is then sent by itself.");
				break;
		}
	}
	if (answer->verdict == NOTION_REFUSED || answer->verdict == NOTION_SCHEMA ||
		answer->verdict == NOTION_FORBIDDEN || answer->verdict == NOTION_GONE)
		angles_counts(engine, link->id)->parked += list_length(keys);
}

static void
later(Outcome *out, int32 link_id, const char *key, const char *state, int64 delay_us,
	  const char *class, const NotionAnswer *answer, const char *hint)
{
	RowSet	   *rows = &out->later;

	angles_rows_add(rows, link_id, key);
	angles_rows_text(rows, 0, state);
	if (delay_us > 0)
		angles_rows_text(rows, 1, pstrdup(timestamptz_to_str(angles_clock_now() + delay_us)));
	angles_rows_text(rows, 2, class);
	angles_rows_text(rows, 3, answer->code);
	angles_rows_text(rows, 4, answer->message);
	angles_rows_text(rows, 5, hint);
}

/* ---- writing ---- */

static void
write_outcome(Engine *engine, Outcome *out)
{
	write_pages(&out->pages);
	angles_keep_sending(engine);
	write_absent(out);
	write_done(engine, out);
	angles_keep_sending(engine);
	write_again(engine, out);
	write_looked(engine, out);
	write_later(engine, out);
}

/* Creates that surely never happened leave no doubt behind. */
static void
write_absent(Outcome *out)
{
	static SPIPlanPtr absent = NULL;
	Oid			types[2] = {INT4ARRAYOID, TEXTARRAYOID};
	Datum		values[2];

	if (out->absent.n == 0)
		return;
	values[0] = angles_rows_links(&out->absent);
	values[1] = angles_rows_keys(&out->absent);
	angles_spi_exec(&absent,
					"DELETE FROM angles.pages p USING unnest($1, $2) AS u (link_id, key)"
					" WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'intent'",
					2, types, values, NULL, SPI_OK_DELETE);
}

/*
 * Rows that waited for these are planned again: the page is there now, or it will not come and they
 * go without that relation.
 */
static void
free_children(const RowSet *parents)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4ARRAYOID, TEXTARRAYOID};
	Datum		values[2] = {angles_rows_links(parents), angles_rows_keys(parents)};

	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries q SET state = 'ready',"
					" seq = nextval('angles.queue_seq'), waits_for_link = NULL,"
					" waits_for_key = NULL, class = NULL, message = NULL"
					" FROM unnest($1, $2) AS u (link_id, key)"
					" WHERE q.state = 'waiting' AND q.waits_for_link = u.link_id"
					" AND q.waits_for_key = u.key",
					2, types, values, NULL, SPI_OK_UPDATE);
}

/* What is acknowledged leaves the queue, unless it changed meanwhile or has a relation to add. */
static void
write_done(Engine *engine, Outcome *out)
{
	static SPIPlanPtr done = NULL;
	static SPIPlanPtr unfinished = NULL;
	Oid			types[5] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[5];

	if (out->done.n == 0)
		return;
	values[0] = angles_rows_links(&out->done);
	values[1] = angles_rows_keys(&out->done);
	values[2] = angles_rows_extra(&out->done, 0);
	values[3] = angles_rows_extra(&out->done, 1);
	values[4] = Int64GetDatum(engine->generation);

	angles_spi_exec(&done,
					"DELETE FROM angles.queue_entries q"
					" USING unnest($1, $2, $3, $4) AS d (link_id, key, then_link, then_key)"
					" WHERE q.link_id = d.link_id AND q.key = d.key AND q.state = 'claimed'"
					" AND q.generation = $5 AND q.version = q.claimed_version"
					" AND d.then_key IS NULL",
					5, types, values, NULL, SPI_OK_DELETE);
	/* changed again while it was under way, or a relation is still open: not finished */
	if (SPI_processed < out->done.n)
	{
		angles_spi_exec(&unfinished,
						"UPDATE angles.queue_entries q SET"
						"  state = CASE WHEN d.then_key IS NULL OR q.version <> q.claimed_version"
						"   OR EXISTS (SELECT FROM angles.pages p"
						"    WHERE p.link_id = d.then_link::int4 AND p.key = d.then_key"
						"    AND p.state = 'live')"
						"   THEN 'ready' ELSE 'waiting' END,"
						"  waits_for_link = d.then_link::int4, waits_for_key = d.then_key,"
						"  message = CASE WHEN d.then_key IS NOT NULL THEN " OPEN_RELATION " END,"
						"  class = CASE WHEN d.then_key IS NOT NULL THEN 'relation' END,"
						"  decision = CASE q.decision WHEN 'hold' THEN 'hold' END,"
						"  seq = nextval('angles.queue_seq'), attempts = 0, crashes = 0,"
						"  sending = NULL, generation = NULL, claimed_version = NULL,"
						/* numbers of one key are drawn in the order of its changes */
						"  first_id = CASE WHEN d.then_key IS NULL THEN q.claimed_id + 1"
						"   ELSE q.first_id END"
						" FROM unnest($1, $2, $3, $4) AS d (link_id, key, then_link, then_key)"
						" WHERE q.link_id = d.link_id AND q.key = d.key"
						" AND q.state = 'claimed' AND q.generation = $5",
						5, types, values, NULL, SPI_OK_UPDATE);
	}
	angles_keep_sending(engine);
	free_children(&out->done);
	engine->more[0] = engine->more[1] = true;
}

static void
write_again(Engine *engine, Outcome *out)
{
	static SPIPlanPtr again = NULL;
	Oid			types[3] = {INT4ARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[3];

	if (out->again.n == 0)
		return;
	values[0] = angles_rows_links(&out->again);
	values[1] = angles_rows_keys(&out->again);
	values[2] = Int64GetDatum(engine->generation);
	angles_spi_exec(&again,
					"UPDATE angles.queue_entries q SET state = 'ready', generation = NULL,"
					" claimed_version = NULL, seq = nextval('angles.queue_seq'), attempts = 0"
					" FROM unnest($1, $2) AS u (link_id, key)"
					" WHERE q.link_id = u.link_id AND q.key = u.key AND q.state = 'claimed'"
					" AND q.generation = $3",
					3, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
}

static void
write_later(Engine *engine, Outcome *out)
{
	static SPIPlanPtr later_plan = NULL;
	Oid			types[9] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[9];

	if (out->later.n == 0)
		return;
	values[0] = angles_rows_links(&out->later);
	values[1] = angles_rows_keys(&out->later);
	for (int i = 0; i < 6; i++)
		values[2 + i] = angles_rows_extra(&out->later, i);
	values[8] = Int64GetDatum(engine->generation);

	/* what was changed while it was refused deserves another try before it is set aside */
	angles_spi_exec(&later_plan,
					"UPDATE angles.queue_entries q SET"
					" state = CASE WHEN u.state = 'parked' AND q.version <> q.claimed_version"
					"  THEN 'ready' ELSE u.state END,"
					" seq = nextval('angles.queue_seq'), next_at = u.next_at::timestamptz,"
					" class = u.class, code = u.code, message = u.message, hint = u.hint,"
					" attempts = q.attempts + 1, generation = NULL, claimed_version = NULL,"
					" parked_at = CASE WHEN u.state = 'parked'"
					"  AND q.version = q.claimed_version THEN clock_timestamp() END"
					" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
					"  AS u (link_id, key, state, next_at, class, code, message, hint)"
					" WHERE q.link_id = u.link_id AND q.key = u.key AND q.state = 'claimed'"
					" AND q.generation = $9",
					9, types, values, NULL, SPI_OK_UPDATE);
	free_children(&out->later);
	engine->more[0] = engine->more[1] = true;
	engine->next_due = angles_clock_now();
}

static void
write_pages(RowSet *pages)
{
	static SPIPlanPtr known = NULL;
	static SPIPlanPtr fresh = NULL;
	Oid			types[7] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[7];

	if (pages->n == 0)
		return;
	values[0] = angles_rows_links(pages);
	values[1] = angles_rows_keys(pages);
	for (int i = 0; i < 5; i++)
		values[2 + i] = angles_rows_extra(pages, i);
	/*
	 * What was sent for has its row, and to update that costs half of what "on conflict" does. Most
	 * pages keep no other form of what was sent.
	 */
	angles_spi_exec(&known,
					"UPDATE angles.pages p SET page_id = u.page_id::uuid,"
					"  base = CASE p.base WHEN '{}' THEN u.base::jsonb"
					"   ELSE p.base || u.base::jsonb END,"
					"  base_local = CASE p.base_local"
					"   WHEN '{}' THEN COALESCE(u.base_local::jsonb, '{}')"
					"   ELSE (p.base_local - ARRAY(SELECT jsonb_object_keys(u.base::jsonb)))"
					"    || COALESCE(u.base_local::jsonb, '{}') END,"
					"  state = u.state, intent_at = NULL, lookups = 0, sent_key = NULL,"
					"  last_edited = COALESCE(u.edited::timestamptz, p.last_edited),"
					"  synced_at = clock_timestamp()"
					" FROM " PAGE_ROWS
					" WHERE p.link_id = u.link_id AND p.key = u.key",
					7, types, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed == pages->n)
		return;
	angles_spi_exec(&fresh,
					"INSERT INTO angles.pages"
					" (link_id, key, page_id, base, base_local, last_edited, state, synced_at)"
					" SELECT u.link_id, u.key, u.page_id::uuid, u.base::jsonb,"
					"  COALESCE(u.base_local::jsonb, '{}'), u.edited::timestamptz, u.state,"
					"  clock_timestamp()"
					" FROM " PAGE_ROWS
					" ON CONFLICT (link_id, key) DO NOTHING",
					7, types, values, NULL, SPI_OK_INSERT);
}

/*
 * A page that was not found may only not be visible yet. It is looked for again; the row may be
 * created again only after at least two look-ups of which the last began after the window.
 */
static void
write_looked(Engine *engine, Outcome *out)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr give_up = NULL;
	Oid			types[4] = {INT4ARRAYOID, TEXTARRAYOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[4];
	int64		window = (int64) angles_guc_notion_verify_window * 1000;

	if (out->looked.n == 0)
		return;
	values[0] = angles_rows_links(&out->looked);
	values[1] = angles_rows_keys(&out->looked);
	values[2] = Int64GetDatum(window);
	values[3] = TimestampTzGetDatum(angles_clock_now());
	angles_spi_exec(&plan,
					"WITH looked AS (UPDATE angles.pages p SET lookups = lookups + 1"
					"  FROM unnest($1, $2) AS u (link_id, key)"
					"  WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'intent'"
					"  RETURNING p.link_id, p.key, p.intent_at)"
					" UPDATE angles.queue_entries q SET state = 'verifying', class = 'transient',"
					" message = 'its page may have been made; looking for it by key',"
					" next_at = LEAST($4 + $3 / 3 * interval '1 microsecond',"
					"  GREATEST(l.intent_at + $3 * interval '1 microsecond',"
					"   $4 + interval '100 milliseconds')),"
					" generation = NULL, claimed_version = NULL"
					" FROM looked l WHERE q.link_id = l.link_id AND q.key = l.key",
					4, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&give_up,
					"WITH never AS (DELETE FROM angles.pages p"
					"  USING unnest($1, $2) AS u (link_id, key)"
					"  WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'intent'"
					"  AND p.lookups >= 2 AND p.intent_at + $3 * interval '1 microsecond' <= $4"
					"  RETURNING p.link_id, p.key)"
					" UPDATE angles.queue_entries q SET state = 'ready', next_at = NULL,"
					" message = NULL, class = NULL, seq = nextval('angles.queue_seq')"
					" FROM never n WHERE q.link_id = n.link_id AND q.key = n.key",
					4, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
	engine->next_due = angles_clock_now();
}
