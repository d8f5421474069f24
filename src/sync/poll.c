/*
 * poll.c
 *		What people change in Notion: asks each data source for the pages edited lately and notes in
 *		angles.inbox what differs from what both sides last agreed on. Runs in the sync worker; the
 *		rows are written by apply workers.
 *
 * The contract (Notion's reference, change detection): times of edits are cut to the minute, so a
 * question begins with a whole minute, included, and what was edited in the last minutes is read
 * again each time and told apart by its content. What an answer shows is held against the base, so
 * what this server wrote itself is no news. An answer that was under way while a page was written
 * says nothing about that page: the write moves its edit time, so the next answer shows it again.
 * The same holds for a while after a write, as queries may be behind.
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
#include "sync/merge.h"
#include "worker/worker.h"

/*
 * What was edited in the last two minutes is asked for again: the running minute is not over, and a
 * query may be behind by some seconds.
 */
#define MARGIN_US (2 * USECS_PER_MINUTE)

/*
 * Requests for changes use at most this part of the limit: 1 in so many; where no limit is set, of
 * Notion's larger one.
 */
#define SHARE 5
#define NOMINAL_LIMIT 600

/* Failures in a row that people are told of. */
#define FAILURES_TO_ALERT 5

/* What the table knows of a page that an answer shows. */
typedef struct Known
{
	char	   *key;
	bool		live;
	bool		stale;			/* written since the question was sent */
	Jsonb	   *base;
	Jsonb	   *held;			/* values that wait for a person, by property id; or NULL */
	Jsonb	   *noted;			/* in the inbox already, or NULL */
	Jsonb	   *sending;		/* what may have been written there, or NULL: see claim.c */
	bool		claimed;		/* ... just now */
} Known;

static bool is_polled(const Link *link);
static void ask(Engine *engine, Link *link, LinkCounts *counts, const char *cursor);
static void pass_ends(LinkCounts *counts);
static TimestampTz floor_minute(TimestampTz at);
static char *minute_text(TimestampTz at);
static int64 interval_us(const LinkCounts *counts);
static void failed(Engine *engine, Link *link, LinkCounts *counts, const NotionAnswer *answer);
static void find_known(Link *link, int64 age_us, int n, char **ids, Known *known);
static void compare_page(Engine *engine, Link *link, JsonbContainer *page, const char *id,
						 const Known *known, News *news);
static bool is_news(Engine *engine, Link *link, const AnglesColumn *column, const Known *known,
					const char *canon);
static bool seems_emptied(Engine *engine, Link *link, const AnglesColumn *column,
						  const Known *known, const char *canon);
static bool take_back(Engine *engine, int32 link_id, const char *key);
static void save_watermark(Link *link, LinkCounts *counts);

/* ---- asking ---- */

void
angles_poll_step(Engine *engine)
{
	int64		now = angles_clock_mono_us();
	ListCell   *lc;

	if (now < engine->poll_due_us)
		return;
	engine->poll_due_us = INT64_MAX;
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		LinkCounts *counts;

		if (!is_polled(link))
			continue;
		counts = angles_counts(engine, link->id);
		if (counts->poll_flying || counts->poll_watermark == 0)
			continue;
		if (counts->poll_due_us <= now)
		{
			counts->poll_from = floor_minute(counts->poll_watermark);
			counts->poll_began = 0;
			counts->poll_begun_us = now;
			counts->poll_is_whole = true;
			counts->poll_requests = 0;
			counts->poll_at_once = false;
			ask(engine, link, counts, NULL);
		}
		else
			engine->poll_due_us = Min(engine->poll_due_us, counts->poll_due_us);
	}
}

bool
angles_poll_wanted(void)
{
	ListCell   *lc;

	foreach(lc, angles_links())
		if (is_polled((Link *) lfirst(lc)))
			return true;
	return false;
}

void
angles_poll_at_once(Engine *engine, const Link *link)
{
	LinkCounts *counts = angles_counts(engine, link->id);

	counts->poll_at_once = true;
	counts->poll_due_us = 0;
	engine->poll_due_us = 0;
}

bool
angles_poll_moves(Engine *engine, const Link *link, int64 since_us)
{
	static SPIPlanPtr plan = NULL;
	LinkCounts *counts = angles_counts(engine, link->id);
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	if (!is_polled(link) || link->no_login)
		return false;
	if (counts->poll_watermark != 0 && counts->poll_seen_us < since_us &&
		counts->poll_failures == 0)
		return true;
	/* one that was tried in vain some times is told of in a view */
	return angles_spi_exec(&plan,
						   "SELECT FROM angles.inbox i WHERE link_id = $1 AND state = 'ready'"
						   " AND attempts < 3 AND EXISTS (SELECT FROM angles.pages p"
						   "  WHERE p.page_id = i.page_id AND p.state = 'live') LIMIT 1",
						   1, types, values, NULL, SPI_OK_SELECT) > 0;
}

static bool
is_polled(const Link *link)
{
	return link->inbound && angles_link_sends(link);
}

static void
ask(Engine *engine, Link *link, LinkCounts *counts, const char *cursor)
{
	Action	   *action = angles_action_make(engine, ACTION_POLL, link->id);
	MemoryContext old = MemoryContextSwitchTo(action->context);
	char	   *since = minute_text(counts->poll_from);
	List	   *ids = NIL;

	for (int i = 0; i < link->n_columns; i++)
		if (link->columns[i].c.property_id != NULL && link->columns[i].problem == NULL &&
			!counts->poll_plain)
			ids = lappend(ids, link->columns[i].c.property_id);
	action->request = angles_notion_changed_pages(link->data_source_id, since, cursor, ids);
	/* it stands for nothing in the database: no commit has to come first */
	action->transaction = 0;
	MemoryContextSwitchTo(old);
	counts->poll_flying = true;
	counts->poll_requests++;
	angles_action_ready_first(engine, action);
}

/*
 * A pass every so often, as long as all of them stay within their share of the limit. While a large
 * table is pushed a pass is long: what was written in the last minutes is among what it shows.
 */
static int64
interval_us(const LinkCounts *counts)
{
	int			limit = angles_guc_notion_rate_limit;
	int			requests = Max(counts->poll_requests, 1);
	int			n = 0;
	ListCell   *lc;

	/* without a limit only long passes are a burden */
	if (limit <= 0)
	{
		limit = NOMINAL_LIMIT;
		requests--;
	}

	foreach(lc, angles_links())
		n += is_polled((Link *) lfirst(lc)) ? 1 : 0;
	return Max((int64) angles_guc_poll_interval * 1000,
			   n * requests * SHARE * USECS_PER_MINUTE / limit);
}

static TimestampTz
floor_minute(TimestampTz at)
{
	return at - ((at % USECS_PER_MINUTE) + USECS_PER_MINUTE) % USECS_PER_MINUTE;
}

/* Returns the time as Notion reads it; palloc'd. */
static char *
minute_text(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "the watermark of a data source is out of range");
	return psprintf("%04d-%02d-%02dT%02d:%02d:00.000Z", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min);
}

/* ---- answers ---- */

bool
angles_poll_take(Engine *engine, Action *action)
{
	LinkCounts *counts = angles_counts(engine, action->link_id);
	JsonbContainer *answer;
	JsonbContainer *results;

	/* the first answer closes what a former life of this process has told people */
	if (action->answer->verdict != NOTION_DONE || action->answer->json == NULL ||
		!counts->poll_no_alert)
		return false;
	answer = &action->answer->json->root;
	results = angles_json_get_container(answer, "results");
	if (results == NULL || JsonContainerSize(results) > 0 || !angles_notion_is_complete(answer) ||
		angles_json_get_bool(answer, "has_more", false))
		return false;
	if (counts->poll_began == 0)
		counts->poll_began = action->answer->server_date;
	counts->poll_failures = 0;
	pass_ends(counts);
	engine->poll_due_us = 0;
	/* somebody may have waited for just this */
	engine->look = engine->look || angles_calls_waiting(engine);
	return true;
}

/*
 * All pages of a pass were seen. The watermark follows the remote's clock, never the newest page,
 * and never moves for a pass that could not be read, or noted, as a whole.
 */
static void
pass_ends(LinkCounts *counts)
{
	counts->poll_flying = false;
	counts->poll_seen_us = counts->poll_begun_us;
	counts->poll_due_us = counts->poll_at_once ? 0 : counts->poll_begun_us + interval_us(counts);
	if (counts->poll_is_whole && counts->poll_began != 0)
		counts->poll_watermark = Max(counts->poll_watermark,
									 floor_minute(counts->poll_began - MARGIN_US));
}

void
angles_poll_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	LinkCounts *counts = angles_counts(engine, action->link_id);
	JsonbContainer *answer;
	JsonbContainer *results;
	char	   *cursor;
	int			n;

	engine->poll_due_us = 0;
	counts->poll_flying = false;
	if (link == NULL || !is_polled(link))
		return;
	if (action->answer->verdict != NOTION_DONE)
	{
		failed(engine, link, counts, action->answer);
		return;
	}
	counts->poll_failures = 0;
	angles_alert_close(psprintf("poll:%d", link->id));
	counts->poll_no_alert = true;
	if (counts->poll_began == 0)
		counts->poll_began = action->answer->server_date;
	answer = &action->answer->json->root;
	results = angles_json_get_container(answer, "results");
	n = results ? JsonContainerSize(results) : 0;
	if (n > 0)
		angles_poll_compare(engine, link, action, results);

	cursor = angles_json_get_text(answer, "next_cursor");
	if (angles_json_get_bool(answer, "has_more", false) && cursor != NULL)
	{
		ask(engine, link, counts, cursor);
		return;
	}
	if (!angles_notion_is_complete(answer))
	{
		/* the answers come in the order of edits: go on with the minute where they end */
		JsonbContainer *last = n > 0 ? angles_json_element(results, n - 1) : NULL;
		TimestampTz edited = last ? angles_notion_time(last, "last_edited_time") : 0;

		if (floor_minute(edited) > counts->poll_from)
		{
			counts->poll_from = floor_minute(edited);
			ask(engine, link, counts, NULL);
			return;
		}
		counts->poll_is_whole = false;
		angles_alert_open(psprintf("poll:%d", link->id), "warning",
						  psprintf("more pages of %s were edited in one minute than Notion shows",
								   angles_link_name(link)),
						  "Some of these edits may not be seen.", NULL);
	}
	pass_ends(counts);
	save_watermark(link, counts);
}

/* A pass that fails begins anew, from the same minute: what it has noted by then does no harm. */
static void
failed(Engine *engine, Link *link, LinkCounts *counts, const NotionAnswer *answer)
{
	int64		delay = angles_backoff_us(++counts->poll_failures, answer->retry_after_s);
	bool		for_people = answer->verdict == NOTION_GONE ||
		answer->verdict == NOTION_FORBIDDEN || answer->verdict == NOTION_TRASHED;

	/* a property that is asked for was removed: all of them are shown then */
	if (answer->verdict == NOTION_SCHEMA || answer->verdict == NOTION_REFUSED)
		counts->poll_plain = true;

	counts->poll_due_us = angles_clock_mono_us() + Max(delay, interval_us(counts));
	if (for_people || counts->poll_failures >= FAILURES_TO_ALERT)
	{
		angles_alert_open(psprintf("poll:%d", link->id), "critical",
						  psprintf("changes in Notion of %s cannot be read: %s",
								   angles_link_name(link), answer->message),
						  "No row was touched.",
						  for_people ? "Share the database with the connection again, or take it "
						  "out of the trash; SELECT * FROM angles.check_notion() shows more."
						  : "It is tried again; SELECT * FROM angles.check_notion() shows more.");
		counts->poll_no_alert = false;
	}
	(void) engine;
}

/* ---- pages ---- */

void
angles_poll_compare(Engine *engine, Link *link, Action *action, JsonbContainer *results)
{
	LinkCounts *counts = angles_counts(engine, link->id);
	int			n = JsonContainerSize(results);
	char	  **ids = palloc0(n * sizeof(char *));
	Known	   *known = palloc0(n * sizeof(Known));
	News		news = {0};

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);
		char	   *id = page ? angles_json_get_text(page, "id") : NULL;

		ids[i] = id ? angles_notion_parse_id(id) : NULL;
	}
	find_known(link, angles_clock_mono_us() - action->answer->sent_us, n, ids, known);
	for (int i = 0; i < n; i++)
		if (known[i].key != NULL && known[i].live && !known[i].stale)
			compare_page(engine, link, angles_json_element(results, i), ids[i], &known[i], &news);
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
							"SELECT u.n, p.key, p.state = 'live',"
							" COALESCE(GREATEST(p.synced_at, p.applied_at) > clock_timestamp()"
							"  - $3 * interval '1 microsecond', false),"
							" p.base, p.held, i.remote, q.sending, q.state = 'claimed'"
							" FROM unnest($2) WITH ORDINALITY AS u (id, n)"
							" JOIN angles.pages p ON p.page_id = NULLIF(u.id, '')::uuid"
							" LEFT JOIN angles.inbox i"
							"  ON i.link_id = p.link_id AND i.page_id = p.page_id"
							" LEFT JOIN angles.queue_entries q"
							"  ON q.link_id = p.link_id AND q.key = p.key"
							" WHERE p.link_id = $1",
							3, types, values, NULL, SPI_OK_SELECT);
	for (uint64 r = 0; r < found; r++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[r];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Known	   *one = &known[DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)) - 1];
		Datum		datum;

		one->key = angles_spi_text(r, 2, CurrentMemoryContext);
		one->live = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull));
		one->stale = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		one->base = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 5, &isnull));
		datum = SPI_getbinval(tuple, desc, 6, &isnull);
		one->held = isnull ? NULL : DatumGetJsonbPCopy(datum);
		datum = SPI_getbinval(tuple, desc, 7, &isnull);
		one->noted = isnull ? NULL : DatumGetJsonbPCopy(datum);
		datum = SPI_getbinval(tuple, desc, 8, &isnull);
		one->sending = isnull ? NULL : DatumGetJsonbPCopy(datum);
		one->claimed = DatumGetBool(SPI_getbinval(tuple, desc, 9, &isnull));
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
		/* what cannot be read, or is there in part only, is never taken for a change */
		if (canon == NULL || truncated || !is_news(engine, link, column, known, canon) ||
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
	return !written || take_back(engine, link->id, known->key);
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
angles_poll_settle_target(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	NotionVerdict verdict = action->answer->verdict;
	char	   *fingerprint = psprintf("unseen:%d:%s", action->link_id, action->property_id);
	bool		there;

	if (link == NULL || !is_polled(link))
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
angles_poll_preflight(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	Known		known = {.key = action->key, .base = action->base, .held = action->held,
	.sending = action->sending};
	News		news = {0};

	if (action->answer->verdict != NOTION_DONE || action->answer->json == NULL || link == NULL)
		return false;
	compare_page(engine, link, &action->answer->json->root, action->page_id, &known, &news);
	if (news.changed.n > 0)
		return false;
	action->kind = ACTION_PATCH;
	action->request = action->write;
	action->answer = NULL;
	return true;
}

void
angles_poll_settle_preflight(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	Known		known = {.key = action->key, .base = action->base, .held = action->held,
	.sending = action->sending};
	News		news = {0};

	if (link == NULL)
		return;
	compare_page(engine, link, &action->answer->json->root, action->page_id, &known, &news);
	/* what an apply worker has in hand is in the inbox already */
	angles_inbox_note(engine, link, &news);
}

/* ---- how far it was read ---- */

void
angles_poll_begin(const Link *link, TimestampTz server_date)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	TimestampTz now = server_date ? server_date : angles_clock_now();
	Datum		values[2] = {Int32GetDatum(link->id),
	TimestampTzGetDatum(floor_minute(now - MARGIN_US))};

	angles_spi_exec(&plan,
					"INSERT INTO angles.polls (link_id, watermark) VALUES ($1, $2)"
					" ON CONFLICT (link_id) DO NOTHING",
					2, types, values, NULL, SPI_OK_INSERT);
}

void
angles_poll_read(Engine *engine)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr used = NULL;
	static SPIPlanPtr waits = NULL;
	Oid			types[1] = {INT4OID};
	ListCell   *lc;

	if (engine->inbox_used)
	{
		engine->inbox_used = angles_spi_exec(&used, "SELECT FROM angles.inbox LIMIT 1",
											 0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
		if (!engine->inbox_used)
			angles_inbox_free_all(engine);
	}
	engine->inbox_waits = engine->inbox_used &&
		angles_spi_exec(&waits, "SELECT FROM angles.inbox WHERE state = 'ready' LIMIT 1",
						0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		LinkCounts *counts = angles_counts(engine, link->id);
		Datum		values[1] = {Int32GetDatum(link->id)};
		bool		isnull;

		if (!is_polled(link) || counts->poll_watermark != 0)
			continue;
		if (angles_spi_exec(&plan, "SELECT watermark FROM angles.polls WHERE link_id = $1",
							1, types, values, NULL, SPI_OK_SELECT) == 0)
			continue;
		counts->poll_watermark = counts->poll_saved =
			DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
											  &isnull));
		engine->poll_due_us = 0;
	}
}

/* Only beside other work: after a restart it costs no more than a longer answer. */
static void
save_watermark(Link *link, LinkCounts *counts)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int32GetDatum(link->id),
	TimestampTzGetDatum(counts->poll_watermark)};

	if (counts->poll_watermark == counts->poll_saved)
		return;
	angles_spi_exec(&plan, "UPDATE angles.polls SET watermark = $2 WHERE link_id = $1",
					2, types, values, NULL, SPI_OK_UPDATE);
	counts->poll_saved = counts->poll_watermark;
}
