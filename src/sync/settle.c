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
#include "sync/inbound.h"
#include "sync/outcome.h"
#include "worker/worker.h"

/* So many times it is found out why a page is not there before its row is parked. */
#define ASK_BEFORE_PARKING 5

/* So long a row is left alone whose page shows a relation in part, while the rest is read. */
#define PART_US USECS_PER_SEC

static const NotionAnswer part_answer = {
	.message = "its page shows a relation in part; the rest is being read"
};

static void settle_one(Engine *engine, Outcome *out, Action *action);
static void settle_done(Engine *engine, Outcome *out, Action *action);
static void settle_lookup(Engine *engine, Outcome *out, Action *action);
static void settle_failure(Engine *engine, Outcome *out, Action *action);
static void never_sent(Outcome *out, const Action *action);
static void adopt_page(Outcome *out, Link *link, const char *key, JsonbContainer *page);
static void take_out_again(Engine *engine, Outcome *out, Action *trashed);
static bool ask_before_parking(Engine *engine, Link *link, Action *action);
static void page_row(Outcome *out, Link *link, Action *action, JsonbContainer *page);
static char *edit_time(JsonbContainer *page);
static void free_page(const char *page_id, int32 link_id);
static bool page_is_taken(const char *page_id, int32 link_id, const char *key);
static char *found_key(Link *link, JsonbContainer *page);
static void not_there(Engine *engine, Outcome *out, Action *action, const char *key,
					  int64 delay_us);
static void trashed_row(Outcome *out, const Action *action);
static void later(Outcome *out, int32 link_id, const char *key, const char *state, int64 delay_us,
				  const char *class, const NotionAnswer *answer, const char *hint);

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
		else if (action->kind == ACTION_SCHEMA)
			angles_schema_settle(engine, action);
		else if (action->kind == ACTION_SWEEP)
			angles_sweep_settle(engine, action);
		else if (action->kind == ACTION_ME)
			angles_new_pages_settle_me(engine, action);
		else if (action->kind == ACTION_TELL)
			angles_refusals_settle(engine, action);
		else if (action->kind == ACTION_REFS)
			angles_refs_settle(engine, action);
		else if (action->kind == ACTION_TARGET)
			angles_compare_settle_target(engine, action);
		else if (action->kind == ACTION_PREFLIGHT && action->answer->verdict == NOTION_DONE)
		{
			bool		known = angles_preflight_settle(engine, action);

			if (angles_link_find(action->link_id) != NULL)
			{
				never_sent(&out, action);
				if (known)
					angles_rows_add(&out.again, action->link_id, action->key);
				else
					later(&out, action->link_id, action->key, "retry", PART_US, "busy",
						  &part_answer, NULL);
			}
		}
		else if (action->kind == ACTION_CHECK)
			angles_calls_settle_check(engine, action);
		else if (action->kind == ACTION_LIST)
			angles_calls_settle_list(engine, action);
		else
			settle_one(engine, &out, action);
		angles_action_free(action);
		angles_keep_sending(engine);
		if (i == n_done - 1 || (i + 1) % ENGINE_PART == 0)
		{
			angles_outcome_write(engine, &out);
			MemSet(&out, 0, sizeof(out));
		}
	}
	angles_overwrite_save(engine);
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
	if (action->kind == ACTION_TRASH && action->base != NULL &&
		angles_compare_was_edited(link, page, action->base))
	{
		take_out_again(engine, out, action);
		return;
	}
	angles_overwrite_settle(engine, link, action);
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
 * A person has edited the page since both sides agreed, and nobody knew when it was trashed: it is
 * taken out again, and somebody decides.
 */
static void
take_out_again(Engine *engine, Outcome *out, Action *trashed)
{
	Action	   *action = angles_action_make(engine, ACTION_RESTORE, trashed->link_id);
	MemoryContext old = MemoryContextSwitchTo(action->context);

	action->key = pstrdup(trashed->key);
	action->page_id = pstrdup(trashed->page_id);
	action->anyway = true;
	action->request = angles_notion_trash_page(trashed->page_id, false);
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
	angles_rows_add(&out->later, trashed->link_id, trashed->key);
	angles_rows_text(&out->later, 0, "held");
	angles_rows_text(&out->later, 2, "delete");
	angles_rows_text(&out->later, 4, "deleted here, and its page was edited in Notion");
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
	else if (link->inbound)
		return;
	free_page(angles_json_get_text(page, "id"), link->id);
	if (page_is_taken(angles_json_get_text(page, "id"), link->id, key))
		return;
	adopt_page(&out, link, key, page);
	/* nobody has seen its row: without one it is nothing to be trashed without a word */
	if (n == 0)
		angles_rows_text(&out.pages, 4, "unproven");
	angles_counts(engine, link->id)->adopted++;
	angles_outcome_write(engine, &out);
}

/* A table that is linked no more does not keep its pages from another one. */
static void
free_page(const char *page_id, int32 link_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2];

	if (page_id == NULL || angles_notion_parse_id(page_id) == NULL)
		return;
	values[0] = CStringGetTextDatum(page_id);
	values[1] = Int32GetDatum(link_id);
	angles_spi_exec(&plan,
					"DELETE FROM angles.pages p USING angles.links l WHERE p.page_id = $1::uuid"
					" AND p.link_id <> $2 AND l.id = p.link_id AND l.state = 'unlinked'",
					2, types, values, NULL, SPI_OK_DELETE);
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

	if (action->replan || answer->verdict != NOTION_IN_DOUBT)
		never_sent(out, action);
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
			case NOTION_GONE:
				not_there(engine, out, action, key, delay);
				break;
			case NOTION_SCHEMA:
				if (action->kind == ACTION_CREATE)
					angles_rows_add(&out->absent, link->id, key);
				/* once it is known which property it is the row goes without it */
				angles_schema_ask(engine, link);
				later(out, link->id, key,
					  action->attempts < ASK_BEFORE_PARKING ? "retry" : "parked", delay,
					  ENTRY_SCHEMA, answer, "A property was removed or changed in Notion. Call "
					  "angles.alter_link(), then angles.retry().");
				break;
			default:
				if (action->kind == ACTION_CREATE)
					angles_rows_add(&out->absent, link->id, key);
				later(out, link->id, key, "parked", 0, "permanent", answer,
					  answer->verdict == NOTION_FORBIDDEN
					  ? "Give the connection the capability that is missing, then call "
					  "angles.retry()."
					  : "Correct the row with UPDATE; it is then sent by itself.");
				break;
		}
	}
	if (answer->verdict == NOTION_REFUSED || answer->verdict == NOTION_SCHEMA ||
		answer->verdict == NOTION_FORBIDDEN)
		angles_counts(engine, link->id)->parked += list_length(keys);
}

/* What was to be written has not reached Notion: unless an earlier try has, there is no doubt. */
static void
never_sent(Outcome *out, const Action *action)
{
	if ((action->kind == ACTION_PATCH || action->kind == ACTION_PREFLIGHT) &&
		!action->was_in_doubt)
		angles_rows_add(&out->unsent, action->link_id, action->key);
}

/* What was to be written is in the trash, or gone, or not shared any more. */
static void
not_there(Engine *engine, Outcome *out, Action *action, const char *key, int64 delay_us)
{
	Link	   *link = angles_link_find(action->link_id);
	bool		gone = action->answer->verdict == NOTION_GONE;

	if (action->kind == ACTION_FETCH)
	{
		later(out, link->id, key, "verifying", delay_us, "transient", action->answer, NULL);
		return;
	}
	if (action->kind == ACTION_CREATE)
		angles_rows_add(&out->absent, link->id, key);
	if (action->kind == ACTION_TRASH)
		trashed_row(out, action);
	else if (action->kind == ACTION_RESTORE && gone)
	{
		/* purged: the row gets a new page */
		angles_rows_add(&out->purged, link->id, key);
		angles_rows_add(&out->again, link->id, key);
	}
	else if (ask_before_parking(engine, link, action))
		later(out, link->id, key, "retry", delay_us, "transient", action->answer, NULL);
	else
	{
		angles_counts(engine, link->id)->parked++;
		later(out, link->id, key, "parked", 0, "permanent", action->answer,
			  gone ? "The page or the data source is gone, or no longer shared with the "
			  "connection. Share it again, then call angles.retry()."
			  : "The page is in Notion's trash. Restore it there, then call angles.retry(), or "
			  "delete the row.");
	}
}

/* The page is in the trash, or gone, as it should be. */
static void
trashed_row(Outcome *out, const Action *action)
{
	angles_rows_add(&out->pages, action->link_id, action->key);
	angles_rows_text(&out->pages, 0, action->page_id);
	angles_rows_text(&out->pages, 1, "{}");
	angles_rows_text(&out->pages, 4, "trashed");
	angles_rows_add(&out->done, action->link_id, action->key);
}

/*
 * A page that is gone, or in the trash, or a data source that is: that is found out, and tells what
 * becomes of the row. Returns false when it was tried in vain.
 */
static bool
ask_before_parking(Engine *engine, Link *link, Action *action)
{
	if (!angles_is_polled(link) || action->attempts >= ASK_BEFORE_PARKING)
		return false;
	if (action->page_id != NULL)
		angles_sweep_suspect(engine, link, action->page_id);
	else
		angles_poll_at_once(engine, link);
	return true;
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
