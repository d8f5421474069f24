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
#include "sync/inbound.h"
#include "worker/worker.h"

/*
 * What was edited in the last two minutes is asked for again: the running minute is not over, and a
 * query may be behind by some seconds.
 */
#define MARGIN_US (2 * USECS_PER_MINUTE)

/*
 * Requests for changes use at most this part of the limit: 1 in so many; where no limit is set, of
 * Notion's larger one. Together with the listings (sweep.c) that is a fifth.
 */
#define SHARE 7
#define NOMINAL_LIMIT 600

/* Failures in a row that people are told of. */
#define FAILURES_TO_ALERT 5

static void ask(Engine *engine, Link *link, LinkCounts *counts, const char *cursor);
static void pass_ends(LinkCounts *counts);
static TimestampTz floor_minute(TimestampTz at);
static int64 interval_us(const LinkCounts *counts);
static int64 share_us(const LinkCounts *counts);
static int64 due_by_hints_us(const LinkCounts *counts);
static void failed(Engine *engine, Link *link, LinkCounts *counts, const NotionAnswer *answer);
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

		if (!angles_is_polled(link))
			continue;
		counts = angles_counts(engine, link->id);
		if (counts->poll_watermark == 0)
			continue;
		if (link->unreachable == NULL)
		{
			engine->poll_due_us = Min(engine->poll_due_us, angles_sweep_step(engine, link));
			engine->poll_due_us = Min(engine->poll_due_us, angles_refs_step(engine, link));
		}
		if (counts->poll_flying)
			continue;
		if (counts->poll_due_us <= now && link->unreachable != NULL &&
			!counts->sweep.source_seen)
		{
			counts->poll_flying = true;
			angles_sweep_look_at_source(engine, link);
		}
		else if (counts->poll_due_us <= now)
		{
			counts->poll_from = floor_minute(counts->poll_watermark);
			counts->poll_began = 0;
			counts->poll_begun_us = now;
			counts->poll_is_whole = true;
			counts->poll_requests = 0;
			counts->poll_at_once = counts->poll_hinted = false;
			if (counts->poll_again_us <= now)
				counts->poll_again_us = 0;
			ask(engine, link, counts, NULL);
		}
		else
			engine->poll_due_us = Min(engine->poll_due_us, counts->poll_due_us);
	}
}

void
angles_poll_reloaded(Engine *engine)
{
	ListCell   *lc;

	foreach(lc, engine->counts)
	{
		LinkCounts *counts = (LinkCounts *) lfirst(lc);

		if (counts->poll_failures == 0)
			counts->poll_due_us = Min(counts->poll_due_us,
									  counts->poll_begun_us + interval_us(counts));
	}
	engine->poll_due_us = 0;
}

bool
angles_poll_wanted(void)
{
	ListCell   *lc;

	foreach(lc, angles_links())
		if (angles_is_polled((Link *) lfirst(lc)))
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

void
angles_poll_hinted(Engine *engine, const Link *link)
{
	LinkCounts *counts = angles_counts(engine, link->id);

	counts->poll_hinted = true;
	if (angles_guc_notion_query_lag > 0)
		counts->poll_again_us = angles_clock_mono_us() +
			(int64) angles_guc_notion_query_lag * 1000;
	/* after failures nobody is asked sooner: the next question shows it all the same */
	if (counts->poll_failures == 0)
		counts->poll_due_us = Min(counts->poll_due_us, due_by_hints_us(counts));
	engine->poll_due_us = 0;
}

bool
angles_poll_moves(Engine *engine, const Link *link, int64 since_us)
{
	static SPIPlanPtr plan = NULL;
	LinkCounts *counts = angles_counts(engine, link->id);
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	if (!angles_is_polled(link) || link->no_login || link->unreachable != NULL)
		return false;
	if (angles_sweep_moves(engine, link, since_us))
		return true;
	if (counts->poll_watermark != 0 && counts->poll_seen_us < since_us &&
		counts->poll_failures == 0)
		return true;
	/* one that was tried in vain some times is told of in a view */
	return angles_spi_exec(&plan,
						   "SELECT FROM angles.inbox i WHERE link_id = $1 AND state = 'ready'"
						   " AND attempts < 3 AND EXISTS (SELECT FROM angles.pages p"
						   "  WHERE p.page_id = i.page_id"
						   "  AND p.state = i.page_state) LIMIT 1",
						   1, types, values, NULL, SPI_OK_SELECT) > 0;
}

bool
angles_is_polled(const Link *link)
{
	return link->inbound && angles_link_sends(link);
}

static void
ask(Engine *engine, Link *link, LinkCounts *counts, const char *cursor)
{
	Action	   *action = angles_action_make(engine, ACTION_POLL, link->id);
	MemoryContext old = MemoryContextSwitchTo(action->context);
	char	   *since = angles_notion_minute(counts->poll_from);

	action->request = angles_notion_changed_pages(link->data_source_id, since, cursor,
												  angles_poll_properties(engine, link));
	/* it stands for nothing in the database: no commit has to come first */
	action->transaction = 0;
	MemoryContextSwitchTo(old);
	counts->poll_flying = true;
	counts->poll_requests++;
	angles_action_ready_first(engine, action);
}

List *
angles_poll_properties(Engine *engine, const Link *link)
{
	List	   *ids = NIL;

	if (angles_counts(engine, link->id)->poll_plain)
		return NIL;
	for (int i = 0; i < link->n_columns; i++)
		if (link->columns[i].c.property_id != NULL && link->columns[i].problem == NULL)
			ids = lappend(ids, link->columns[i].c.property_id);
	return ids;
}

/*
 * A pass every so often, as long as all of them stay within their share of the limit. While a large
 * table is pushed a pass is long: what was written in the last minutes is among what it shows.
 */
static int64
interval_us(const LinkCounts *counts)
{
	return Max((int64) angles_guc_poll_interval * 1000, share_us(counts));
}

/* The time between passes in which all of them stay within their share. */
static int64
share_us(const LinkCounts *counts)
{
	int			requests = Max(counts->poll_requests, 1);
	int			n = 0;
	ListCell   *lc;

	/* without a limit only long passes are a burden */
	if (angles_guc_notion_rate_limit <= 0)
		requests--;
	foreach(lc, angles_links())
		n += angles_is_polled((Link *) lfirst(lc)) ? 1 : 0;
	return angles_poll_share_us(n * requests, SHARE);
}

/* When to ask because of webhooks, INT64_MAX: not. */
static int64
due_by_hints_us(const LinkCounts *counts)
{
	if (!counts->poll_hinted && counts->poll_again_us == 0)
		return INT64_MAX;
	return Max(counts->poll_begun_us + share_us(counts),
			   counts->poll_hinted ? 0 : counts->poll_again_us);
}

int64
angles_poll_share_us(int requests, int share)
{
	int			limit = angles_guc_notion_rate_limit;

	return requests * share * USECS_PER_MINUTE / (limit > 0 ? limit : NOMINAL_LIMIT);
}

static TimestampTz
floor_minute(TimestampTz at)
{
	return at - ((at % USECS_PER_MINUTE) + USECS_PER_MINUTE) % USECS_PER_MINUTE;
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
	counts->poll_due_us = counts->poll_at_once ? 0 :
		Min(counts->poll_begun_us + interval_us(counts), due_by_hints_us(counts));
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
	if (link == NULL || !angles_is_polled(link))
		return;
	if (action->answer->verdict != NOTION_DONE)
	{
		failed(engine, link, counts, action->answer);
		return;
	}
	counts->poll_failures = 0;
	if (!angles_sweep_reachable(engine, link, NULL))
		counts->poll_is_whole = false;
	angles_alert_close(psprintf("poll:%d", link->id));
	counts->poll_no_alert = link->unreachable == NULL;
	if (counts->poll_began == 0)
		counts->poll_began = action->answer->server_date;
	answer = &action->answer->json->root;
	results = angles_json_get_container(answer, "results");
	n = results ? JsonContainerSize(results) : 0;
	if (n > 0)
		angles_compare_pages(engine, link, action, results);

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
	{
		counts->poll_plain = true;
		angles_schema_ask(engine, link);
	}

	counts->poll_due_us = angles_clock_mono_us() + Max(delay, interval_us(counts));
	if (for_people)
	{
		/* the next pass begins with a look whether the data source is there */
		counts->sweep.source_seen = false;
		angles_sweep_reachable(engine, link, answer->message);
	}
	else if (counts->poll_failures >= FAILURES_TO_ALERT)
	{
		angles_alert_open(psprintf("poll:%d", link->id), "critical",
						  psprintf("changes in Notion of %s cannot be read: %s",
								   angles_link_name(link), answer->message),
						  "No row was touched.",
						  "It is tried again; SELECT * FROM angles.check_notion() shows more.");
		counts->poll_no_alert = false;
	}
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

		if (!angles_is_polled(link) || counts->poll_watermark != 0)
			continue;
		if (angles_spi_exec(&plan,
							"SELECT watermark, swept_at FROM angles.polls WHERE link_id = $1",
							1, types, values, NULL, SPI_OK_SELECT) == 0)
			continue;
		counts->poll_watermark = counts->poll_saved =
			DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
											  &isnull));
		angles_sweep_read(engine, link,
						  DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
															SPI_tuptable->tupdesc, 2, &isnull)));
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
