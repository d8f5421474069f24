/*
 * compare.c
 *		What answers show of pages, held against what both sides last agreed on: changes, pages
 *		that are new or back, and whether a page was changed before it is written. Runs in the sync
 *		worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "sync/merge.h"
#include "worker/worker.h"

/* What the table knows of a page that an answer shows. */
typedef struct Known
{
	char	   *key;
	PageState	state;
	bool		stale;			/* written since the question was sent */
	Jsonb	   *base;
	Jsonb	   *held;			/* values that wait for a person, by property id; or NULL */
	Jsonb	   *noted;			/* in the inbox already, or NULL */
	Jsonb	   *sending;		/* what may have been written there, or NULL: see claim.c */
	bool		claimed;		/* ... just now */
	bool		foreign;		/* it is known as a page of another link */
	bool		free;			/* ... which is a link no more */
} Known;

static void find_known(Link *link, int64 age_us, int n, char **ids, Known *known);
static void compare_page(Engine *engine, Link *link, JsonbContainer *page, const char *id,
						 const Known *known, News *news);
static bool is_news(Engine *engine, Link *link, const AnglesColumn *column, const Known *known,
					const char *canon);
static char *whole_value(Engine *engine, Link *link, JsonbContainer *page, const char *id,
						 const AnglesColumn *column, const char *shown, const Known *known,
						 News *news);
static bool seems_emptied(Engine *engine, Link *link, const AnglesColumn *column,
						  const Known *known, const char *canon);
static bool take_back(Engine *engine, int32 link_id, const char *key);

void
angles_compare_pages(Engine *engine, Link *link, Action *action, JsonbContainer *results)
{
	LinkCounts *counts = angles_counts(engine, link->id);
	int			n = JsonContainerSize(results);
	char	  **ids = palloc0(n * sizeof(char *));
	Known	   *known = palloc0(n * sizeof(Known));
	bool	   *unknown = palloc0(n * sizeof(bool));
	Jsonb	  **noted = palloc0(n * sizeof(Jsonb *));
	bool		any_unknown = false;
	RowSet		back = {0};
	News		news = {0};

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);
		char	   *id = page ? angles_json_get_text(page, "id") : NULL;

		ids[i] = id ? angles_notion_parse_id(id) : NULL;
	}
	find_known(link, angles_clock_mono_us() - action->answer->sent_us, n, ids, known);
	for (int i = 0; i < n; i++)
	{
		unknown[i] = known[i].key == NULL ||
			/* of a page without a row all counts, whatever was known of it */
			(!known[i].foreign && !known[i].stale && known[i].state == PAGE_NEW) ||
			/* moved here, and no row of the other table has it any more */
			(known[i].foreign && (known[i].free || known[i].state == PAGE_TRASHED ||
								  known[i].state == PAGE_LEFT));
		if (known[i].foreign && !unknown[i])
			continue;
		any_unknown = any_unknown || unknown[i];
		if (unknown[i] || known[i].stale)
			continue;
		if (known[i].state == PAGE_LIVE)
			compare_page(engine, link, angles_json_element(results, i), ids[i], &known[i], &news);
		else if ((known[i].state == PAGE_REMOVED || known[i].state == PAGE_TRASHED) &&
				 !known[i].claimed)
			angles_rows_add(&back, link->id, ids[i]);
	}
	for (int i = 0; any_unknown && i < n; i++)
		noted[i] = known[i].state == PAGE_NEW ? known[i].noted : NULL;
	if (any_unknown && !angles_new_pages(engine, link, results, ids, unknown, noted,
										 action->kind == ACTION_SETUP, &news))
		counts->poll_is_whole = false;
	/* what else has changed on pages that are back is seen by the next pass */
	if (back.n > 0)
	{
		(void) angles_reappeared(engine, link, &back);
		counts->poll_is_whole = false;
	}
	if (!angles_inbox_note(engine, link, &news))
		counts->poll_is_whole = false;
}

/* Reads what is known of the pages of an answer, which was asked for age_us ago. */
static void
find_known(Link *link, int64 age_us, int n, char **ids, Known *known)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTARRAYOID, INT8OID};
	Datum		values[3];
	RowSet		pages = {0};
	uint64		found;

	for (int i = 0; i < n; i++)
		angles_rows_add(&pages, i, ids[i] ? ids[i] : "");
	values[0] = Int32GetDatum(link->id);
	values[1] = angles_rows_keys(&pages);
	values[2] = Int64GetDatum(age_us + (int64) angles_guc_notion_query_lag * 1000);
	found = angles_spi_exec(&plan,
							"SELECT u.n, p.key, p.state, COALESCE("
							"  GREATEST(p.synced_at, p.applied_at, p.removed_at)"
							"   > clock_timestamp()"
							"  - $3 * interval '1 microsecond', false),"
							" p.base, p.held, i.remote, q.sending, q.state = 'claimed',"
							" p.link_id <> $1,"
							" p.link_id NOT IN (SELECT id FROM angles.links"
							"  WHERE state <> 'unlinked')"
							" FROM unnest($2) WITH ORDINALITY AS u (id, n)"
							" JOIN angles.pages p ON p.page_id = NULLIF(u.id, '')::uuid"
							" LEFT JOIN angles.inbox i"
							"  ON i.link_id = p.link_id AND i.page_id = p.page_id"
							" LEFT JOIN angles.queue_entries q"
							"  ON q.link_id = p.link_id AND q.key = p.key",
							3, types, values, NULL, SPI_OK_SELECT);
	for (uint64 r = 0; r < found; r++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[r];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Known	   *one = &known[DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)) - 1];
		Datum		datum;

		one->key = angles_spi_text(r, 2, CurrentMemoryContext);
		one->state = angles_page_state(angles_spi_text(r, 3, CurrentMemoryContext));
		one->stale = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		one->base = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 5, &isnull));
		datum = SPI_getbinval(tuple, desc, 6, &isnull);
		one->held = isnull ? NULL : DatumGetJsonbPCopy(datum);
		datum = SPI_getbinval(tuple, desc, 7, &isnull);
		one->noted = isnull ? NULL : DatumGetJsonbPCopy(datum);
		datum = SPI_getbinval(tuple, desc, 8, &isnull);
		one->sending = isnull ? NULL : DatumGetJsonbPCopy(datum);
		one->claimed = DatumGetBool(SPI_getbinval(tuple, desc, 9, &isnull));
		one->foreign = DatumGetBool(SPI_getbinval(tuple, desc, 10, &isnull));
		one->free = DatumGetBool(SPI_getbinval(tuple, desc, 11, &isnull));
	}
}

/* Collects the properties of a page that hold something else than both sides agreed on. */
static void
compare_page(Engine *engine, Link *link, JsonbContainer *page, const char *id,
			 const Known *known, News *news)
{
	StringInfoData remote;
	int			n = 0;
	JsonbContainer *author = angles_json_get_container(page, "last_edited_by");
	TimestampTz edited;

	initStringInfo(&remote);
	appendStringInfoChar(&remote, '{');
	for (int i = 0; i < link->n_columns; i++)
	{
		const AnglesColumn *column = &link->columns[i].c;
		JsonbContainer *property;
		bool		truncated = false;
		char	   *problem = NULL;
		char	   *canon;

		if (column->property_id == NULL || link->columns[i].problem != NULL ||
			(property = angles_notion_property(page, column)) == NULL)
			continue;
		canon = angles_codec_canon_remote(column, property, &truncated, &problem);
		/* what is there in part only is what was read of it by itself, or nothing is known */
		if (canon != NULL && truncated)
		{
			canon = whole_value(engine, link, page, id, column, canon, known, news);
			if (canon == NULL)
				continue;
		}
		/* what cannot be read is never taken for a change */
		else if (canon == NULL || !is_news(engine, link, column, known, canon) ||
			seems_emptied(engine, link, column, known, canon))
			continue;
		appendStringInfo(&remote, "%s", n++ ? "," : "");
		angles_json_append_string(&remote, column->property_id);
		appendStringInfo(&remote, ":%s", canon);
	}
	appendStringInfoChar(&remote, '}');

	if (n == 0 && known->noted != NULL)
	{
		/* a person has taken back what he had changed */
		angles_rows_add(&news->gone, link->id, id);
		angles_rows_text(&news->gone, 0, known->key);
	}
	if (n == 0 || (known->noted != NULL &&
				   angles_merge_equal(known->noted, angles_codec_parse(remote.data))))
		return;
	angles_rows_add(&news->changed, link->id, id);
	angles_rows_text(&news->changed, 0, remote.data);
	edited = angles_notion_time(page, "last_edited_time");
	angles_rows_text(&news->changed, 1,
					 pstrdup(timestamptz_to_str(edited ? edited : angles_clock_now())));
	angles_rows_text(&news->changed, 2, author ? angles_json_get_text(author, "id") : NULL);
	angles_rows_text(&news->changed, 3, "edit");
}

/*
 * What was noted of a relation that the page shows in part, or NULL. What has not been read in full
 * since the page's last edit is asked for.
 */
static char *
whole_value(Engine *engine, Link *link, JsonbContainer *page, const char *id,
			const AnglesColumn *column, const char *shown, const Known *known, News *news)
{
	Jsonb	   *noted = known->noted ? angles_json_member(known->noted, column->property_id) : NULL;

	if (angles_refs_missing(engine, link, id, column, shown,
							angles_notion_time(page, "last_edited_time")) && noted == NULL)
		news->in_part = true;
	return noted ? JsonbToCString(NULL, &noted->root, VARSIZE(noted)) : NULL;
}

bool
angles_compare_refs(Engine *engine, Link *link, const char *page_id, const char *property_id,
					const char *canon, TimestampTz edited, int64 age_us)
{
	Known		known = {0};
	char	   *id = unconstify(char *, page_id);
	Jsonb	   *noted;

	find_known(link, age_us, 1, &id, &known);
	if (known.key == NULL || known.foreign || known.state != PAGE_LIVE)
		return true;
	if (known.stale)
		return false;
	noted = known.noted ? angles_json_member(known.noted, property_id) : NULL;
	for (int i = 0; i < link->n_columns; i++)
	{
		const AnglesColumn *column = &link->columns[i].c;

		if (column->property_id == NULL || strcmp(column->property_id, property_id) != 0 ||
			(noted != NULL && angles_merge_equal(noted, angles_codec_parse(canon))) ||
			!is_news(engine, link, column, &known, canon))
			continue;
		return angles_inbox_add(engine, link, known.key, property_id, canon, edited);
	}
	return true;
}

bool
angles_compare_was_edited(Link *link, JsonbContainer *page, Jsonb *base)
{
	for (int i = 0; i < link->n_columns; i++)
	{
		const AnglesColumn *column = &link->columns[i].c;
		JsonbContainer *property;
		MergeField	field = {0};
		bool		truncated = false;
		char	   *problem = NULL;
		char	   *canon;

		if (column->property_id == NULL || link->columns[i].problem != NULL ||
			(property = angles_notion_property(page, column)) == NULL)
			continue;
		canon = angles_codec_canon_remote(column, property, &truncated, &problem);
		if (canon == NULL || truncated)
			continue;
		field.base = angles_json_member(base, column->property_id);
		field.local = field.remote = angles_codec_parse(canon);
		if (angles_merge_field(&field).outcome != MERGE_SAME)
			return true;
	}
	return false;
}

static bool
is_news(Engine *engine, Link *link, const AnglesColumn *column, const Known *known,
		const char *canon)
{
	MergeField	field = {.remote = angles_codec_parse(canon)};
	bool		written;

	/* what waits for a person is news when it changes, also back to what both agreed on */
	if (known->held != NULL)
	{
		Jsonb	   *held = angles_json_member(known->held, column->property_id);

		if (held != NULL)
			return !angles_merge_equal(held, field.remote);
	}
	field.base = angles_json_member(known->base, column->property_id);
	field.local = field.remote;
	if (angles_merge_field(&field).outcome == MERGE_SAME)
		return false;
	/* a write of ours that was not acknowledged may have arrived all the same */
	if (angles_claim_was_sent(known->sending, column->property_id, canon))
		return false;
	/*
	 * Notion may show what a person typed a moment before it is overwritten; only the next answer
	 * tells. A write that did not leave yet is planned again, with this change merged in.
	 */
	written = known->claimed &&
		angles_claim_was_sent(known->sending, column->property_id, NULL);
	if (!written || take_back(engine, link->id, known->key))
		return true;
	angles_overwrite_seen(engine, link->id, known->key, column->property_id, canon);
	return false;
}

/*
 * A relation looks empty, too, when the page it points to is not shared with the connection any
 * more: that page is asked for first.
 */
static bool
seems_emptied(Engine *engine, Link *link, const AnglesColumn *column, const Known *known,
			  const char *canon)
{
	Jsonb	   *base;
	JsonbValue *target;
	Action	   *action;
	MemoryContext old;
	dlist_head *lists[] = {&engine->ready[0], &engine->flying, &engine->done};

	base = column->type == ANGLES_PROP_RELATION && strcmp(canon, "[]") == 0
		? angles_json_member(known->base, column->property_id) : NULL;
	if (base == NULL || JB_ROOT_COUNT(base) == 0)
		return false;
	/* it is in the inbox because that was answered */
	if (known->noted != NULL && angles_json_member(known->noted, column->property_id) != NULL)
		return false;
	/* until then the page has to be shown again */
	angles_counts(engine, link->id)->poll_is_whole = false;
	for (int l = 0; l < lengthof(lists); l++)
	{
		dlist_iter	iter;

		dlist_foreach(iter, lists[l])
		{
			action = dlist_container(Action, node, iter.cur);
			if (action->kind == ACTION_TARGET && action->link_id == link->id &&
				strcmp(action->key, known->key) == 0 &&
				strcmp(action->property_id, column->property_id) == 0)
				return true;
		}
	}
	target = getIthJsonbValueFromContainer(&base->root, 0);
	action = angles_action_make(engine, ACTION_TARGET, link->id);
	old = MemoryContextSwitchTo(action->context);
	action->key = pstrdup(known->key);
	action->property_id = pstrdup(column->property_id);
	action->request = angles_notion_get_page(pnstrdup(target->val.string.val,
													  target->val.string.len));
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
	return true;
}

void
angles_compare_settle_target(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	NotionVerdict verdict = action->answer->verdict;
	char	   *fingerprint = psprintf("unseen:%d:%s", action->link_id, action->property_id);
	bool		there;

	if (link == NULL || !angles_is_polled(link))
		return;
	/* the next pass asks again: the page was edited a moment ago */
	if (verdict != NOTION_DONE && verdict != NOTION_GONE && verdict != NOTION_FORBIDDEN)
	{
		angles_counts(engine, link->id)->poll_is_whole = false;
		return;
	}
	there = verdict == NOTION_DONE &&
		!angles_json_get_bool(&action->answer->json->root, "in_trash", false);
	if (there)
		angles_alert_close(fingerprint);
	else
		angles_alert_open(fingerprint, "warning",
						  psprintf("a relation of %s points to pages that Notion does not show",
								   angles_link_name(link)),
						  "The rows keep what they reference; their other properties go on.",
						  "Share the database of the referenced table with the connection.");
	angles_inbox_emptied(engine, link, action->key, action->property_id, there);
}

/* Lets a write to a row's page that did not leave yet be planned again. Returns false for none. */
static bool
take_back(Engine *engine, int32 link_id, const char *key)
{
	for (int priority = 0; priority < 2; priority++)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &engine->ready[priority])
		{
			Action	   *action = dlist_container(Action, node, iter.cur);

			if (action->link_id != link_id || action->key == NULL || action->n_written == 0 ||
				strcmp(action->key, key) != 0)
				continue;
			action->links_version = 0;
			return true;
		}
	}
	return false;
}

/* ---- before a write ---- */

bool
angles_preflight(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	Known		known = {.key = action->key, .state = PAGE_LIVE, .base = action->base,
	.held = action->held, .sending = action->sending};
	News		news = {0};

	if (action->answer->verdict != NOTION_DONE || action->answer->json == NULL || link == NULL)
		return false;
	compare_page(engine, link, &action->answer->json->root, action->page_id, &known, &news);
	if (news.changed.n > 0 || news.in_part)
		return false;
	action->kind = ACTION_PATCH;
	action->read_us = action->answer->sent_us;
	action->request = action->write;
	action->answer = NULL;
	return true;
}

bool
angles_preflight_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	Known		known = {.key = action->key, .state = PAGE_LIVE, .base = action->base,
	.held = action->held, .sending = action->sending};
	News		news = {0};

	if (link == NULL)
		return true;
	compare_page(engine, link, &action->answer->json->root, action->page_id, &known, &news);
	/* what an apply worker has in hand is in the inbox already */
	angles_inbox_note(engine, link, &news);
	return news.changed.n > 0 || !news.in_part;
}
