/*
 * sweep.c
 *		Which pages are gone? What a person trashes, moves away or takes from the connection shows
 *		in no question for changes: from time to time all pages of a link are listed. Runs in the
 *		sync worker.
 *
 * Nothing is concluded from absence alone, nor from one answer: a page that is missing in a whole
 * listing is asked for by itself, and before that the data source is. So an answer that is empty
 * by mistake, a data source in the trash, or a connection that was taken away, removes no row.
 *
 * A listing is only in memory: a worker that dies begins anew.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* Listings use at most this part of the limit: 1 request in so many (polls: see poll.c). */
#define SHARE 20

/* Failures in a row after which a listing begins anew. */
#define PATIENCE 5

/* So many missing pages are asked for at a time. */
#define TOGETHER 5

/* So many pages are asked for when more are missing than may go without a person. */
#define SAMPLE 3

/* A listing drops so many rows of each kind that are over for long. */
#define TRIM_AT_ONCE 1000

typedef enum SweepStep
{
	SWEEP_LIST = 1,
	SWEEP_SOURCE,				/* the data source itself */
	SWEEP_PAGE					/* one page that is missing */
} SweepStep;

static void begin(SweepState *sweep);
static void send_list(Engine *engine, Link *link, SweepState *sweep);
static void send_source(Engine *engine, Link *link);
static void send_pages(Engine *engine, Link *link, SweepState *sweep);
static Action *sweep_action(Engine *engine, Link *link, SweepStep step);
static void launch(Engine *engine, Action *action, NotionRequest *request, MemoryContext old);
static void settle_list(Engine *engine, Link *link, Action *action);
static void add_seen(SweepState *sweep, JsonbContainer *results);
static bool goes_on(SweepState *sweep, JsonbContainer *answer);
static void find_suspects(Engine *engine, Link *link, SweepState *sweep);
static int	removed_lately(const Link *link);
static RowSet missing_pages(Link *link, const SweepState *sweep, int max);
static void settle_source(Engine *engine, Link *link, Action *action);
static void settle_page(Engine *engine, Link *link, Action *action);
static const char *how_removed(const Link *link, const NotionAnswer *answer);
static void all_are_missing(Engine *engine, Link *link, SweepState *sweep);
static void close_doubles(const Link *link, const SweepState *sweep);
static void sweep_ends(Link *link, SweepState *sweep, bool whole);
static void trim_history(const Link *link);
static void sweep_fails(SweepState *sweep, const NotionAnswer *answer);
static void try_again(SweepState *sweep, int retry_after_s);
static void drop_listing(SweepState *sweep);
static int64 interval_us(const SweepState *sweep);
static int64 share_us(const SweepState *sweep);

int64
angles_sweep_step(Engine *engine, Link *link)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;
	int64		now = angles_clock_mono_us();
	int64		due;

	if (sweep->flying || sweep->asked > 0 || !sweep->known)
		return INT64_MAX;
	/* what a write says is looked into when no listing is under way */
	if (sweep->suspects != NIL && (sweep->context == NULL || sweep->listed))
	{
		if (now < sweep->due_us && !sweep->at_once)
			return sweep->due_us;
		if (sweep->source_seen)
			send_pages(engine, link, sweep);
		else
			send_source(engine, link);
		return INT64_MAX;
	}
	due = sweep->due_us;
	/* the interval may be another one by now */
	if (sweep->context == NULL && !sweep->at_once)
		due = Max(due, sweep->last_us + (sweep->hinted ? share_us(sweep) : interval_us(sweep)));
	if (now < due)
		return due;
	if (sweep->context == NULL)
	{
		begin(sweep);
		angles_schema_ask(engine, link);
	}
	send_list(engine, link, sweep);
	return INT64_MAX;
}

void
angles_sweep_at_once(Engine *engine, const Link *link)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;

	sweep->at_once = true;
	sweep->wanted_us = angles_clock_mono_us();
	sweep->due_us = 0;
	engine->poll_due_us = 0;
}

void
angles_sweep_hinted(Engine *engine, const Link *link)
{
	angles_counts(engine, link->id)->sweep.hinted = true;
	engine->poll_due_us = 0;
}

void
angles_sweep_suspect(Engine *engine, const Link *link, const char *page_id)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;
	MemoryContext old;
	ListCell   *lc;

	/* one that goes on anyway will tell, if the page is gone */
	if (sweep->asked > 0 || list_length(sweep->suspects) >= link->mass_limit)
		return;
	foreach(lc, sweep->suspects)
		if (strcmp((char *) lfirst(lc), page_id) == 0)
			return;
	old = MemoryContextSwitchTo(engine->context);
	sweep->suspects = lappend(sweep->suspects, pstrdup(page_id));
	MemoryContextSwitchTo(old);
	engine->poll_due_us = 0;
}

bool
angles_sweep_moves(Engine *engine, const Link *link, int64 since_us)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;

	return sweep->known && sweep->seen_us < since_us && sweep->failures == 0;
}

/* ---- asking ---- */

static void
begin(SweepState *sweep)
{
	sweep->context = AllocSetContextCreate(TopMemoryContext, "angles sweep",
										   ALLOCSET_DEFAULT_SIZES);
	sweep->max_seen = 128;
	sweep->seen = MemoryContextAlloc(sweep->context, sweep->max_seen * sizeof(pg_uuid_t));
	sweep->n_seen = 0;
	sweep->cursor = NULL;
	sweep->from = 0;
	sweep->whole = true;
	sweep->source_seen = false;
	sweep->requests = 0;
	sweep->hinted = false;
	sweep->began = angles_clock_now();
	sweep->begun_us = angles_clock_mono_us();
}

static void
send_list(Engine *engine, Link *link, SweepState *sweep)
{
	Action	   *action = sweep_action(engine, link, SWEEP_LIST);
	MemoryContext old = MemoryContextSwitchTo(action->context);

	sweep->requests++;
	launch(engine, action,
		   angles_notion_list_pages(link->data_source_id,
									sweep->from ? angles_notion_minute(sweep->from) : NULL,
									sweep->cursor, angles_poll_properties(engine, link)), old);
}

static void
send_source(Engine *engine, Link *link)
{
	Action	   *action = sweep_action(engine, link, SWEEP_SOURCE);
	MemoryContext old = MemoryContextSwitchTo(action->context);

	launch(engine, action, angles_notion_get_data_source(link->data_source_id), old);
}

void
angles_sweep_look_at_source(Engine *engine, Link *link)
{
	if (!angles_counts(engine, link->id)->sweep.flying)
		send_source(engine, link);
}

static void
send_pages(Engine *engine, Link *link, SweepState *sweep)
{
	while (sweep->suspects != NIL && sweep->asked < TOGETHER)
	{
		Action	   *action = sweep_action(engine, link, SWEEP_PAGE);
		MemoryContext old = MemoryContextSwitchTo(action->context);

		/* behind what people wait for */
		action->priority = PRIORITY_BACKLOG;
		action->page_id = pstrdup((char *) linitial(sweep->suspects));
		action->request = angles_notion_get_page(action->page_id);
		MemoryContextSwitchTo(old);
		angles_action_ready(engine, action);
		pfree(linitial(sweep->suspects));
		sweep->suspects = list_delete_first(sweep->suspects);
		sweep->asked++;
	}
	sweep->flying = false;
	if (angles_guc_notion_rate_limit > 0)
		sweep->due_us = angles_clock_mono_us() + angles_poll_share_us(sweep->asked, SHARE);
}

static Action *
sweep_action(Engine *engine, Link *link, SweepStep step)
{
	Action	   *action = angles_action_make(engine, ACTION_SWEEP, link->id);

	action->step = step;
	/* it stands for nothing in the database: no commit has to come first */
	action->transaction = 0;
	angles_counts(engine, link->id)->sweep.flying = true;
	return action;
}

static void
launch(Engine *engine, Action *action, NotionRequest *request, MemoryContext old)
{
	action->request = request;
	MemoryContextSwitchTo(old);
	angles_action_ready_first(engine, action);
}

/* ---- answers ---- */

void
angles_sweep_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	SweepState *sweep = &angles_counts(engine, action->link_id)->sweep;

	engine->poll_due_us = 0;
	sweep->flying = false;
	if (action->step == SWEEP_PAGE)
		sweep->asked--;
	if (link == NULL || !angles_is_polled(link))
	{
		drop_listing(sweep);
		return;
	}
	switch ((SweepStep) action->step)
	{
		case SWEEP_LIST:
			settle_list(engine, link, action);
			break;
		case SWEEP_SOURCE:
			settle_source(engine, link, action);
			break;
		case SWEEP_PAGE:
			settle_page(engine, link, action);
			break;
	}
}

static void
settle_list(Engine *engine, Link *link, Action *action)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;
	JsonbContainer *answer;
	JsonbContainer *results;

	if (action->answer->verdict != NOTION_DONE)
	{
		sweep_fails(sweep, action->answer);
		return;
	}
	answer = &action->answer->json->root;
	results = angles_json_get_container(answer, "results");
	if (results == NULL)
	{
		sweep_fails(sweep, action->answer);
		return;
	}
	sweep->failures = 0;
	if (JsonContainerSize(results) > 0)
	{
		add_seen(sweep, results);
		angles_compare_pages(engine, link, action, results);
	}
	if (goes_on(sweep, answer))
		sweep->due_us = sweep->at_once || angles_guc_notion_rate_limit <= 0 ? 0
			: angles_clock_mono_us() + angles_poll_share_us(1, SHARE);
	else if (!sweep->whole)
		sweep_ends(link, sweep, false);
	else
		find_suspects(engine, link, sweep);
}

static void
add_seen(SweepState *sweep, JsonbContainer *results)
{
	int			n = JsonContainerSize(results);

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);
		char	   *id = page ? angles_json_get_text(page, "id") : NULL;
		char	   *uuid = id ? angles_notion_parse_id(id) : NULL;

		if (uuid == NULL)
		{
			/* a page that cannot be told from others may be any of those that are missing */
			sweep->whole = false;
			continue;
		}
		if (sweep->n_seen == sweep->max_seen)
		{
			sweep->max_seen *= 2;
			sweep->seen = repalloc_huge(sweep->seen, (Size) sweep->max_seen * sizeof(pg_uuid_t));
		}
		sweep->seen[sweep->n_seen++] =
			*DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(uuid)));
	}
}

/* Sets where the listing goes on. A query ends after 10,000 pages: another one begins there. */
static bool
goes_on(SweepState *sweep, JsonbContainer *answer)
{
	JsonbContainer *results = angles_json_get_container(answer, "results");
	int			n = JsonContainerSize(results);
	char	   *cursor = angles_json_get_text(answer, "next_cursor");
	TimestampTz last;

	if (angles_json_get_bool(answer, "has_more", false) && cursor != NULL)
	{
		sweep->cursor = MemoryContextStrdup(sweep->context, cursor);
		return true;
	}
	if (angles_notion_is_complete(answer))
		return false;
	/* they come in the order in which they were made */
	last = n > 0 ? angles_notion_time(angles_json_element(results, n - 1), "created_time") : 0;
	last -= last % USECS_PER_MINUTE;
	if (last > sweep->from)
	{
		sweep->from = last;
		sweep->cursor = NULL;
		return true;
	}
	sweep->whole = false;
	return false;
}

/* ---- what is missing ---- */

static void
find_suspects(Engine *engine, Link *link, SweepState *sweep)
{
	int			limit = angles_mass_limit(link);
	RowSet		missing = missing_pages(link, sweep, limit + 1);
	bool		many = missing.n > 0 && missing.n + removed_lately(link) > limit;
	MemoryContext old;
	int			step = 1;

	if (missing.n == 0)
	{
		sweep_ends(link, sweep, true);
		return;
	}
	sweep->listed = true;
	sweep->many = many && !angles_mass_bypass(link);
	if (sweep->many)
		step = Max(missing.n / SAMPLE, 1);
	else if (missing.n > limit)
		missing = missing_pages(link, sweep, INT_MAX);
	old = MemoryContextSwitchTo(engine->context);
	for (int i = 0; i < missing.n && (!sweep->many || i <= SAMPLE * step); i += step)
		sweep->suspects = lappend(sweep->suspects, TextDatumGetCString(missing.keys[i]));
	MemoryContextSwitchTo(old);
	sweep->source_seen = false;
}

/* One listing may come in the middle of what somebody does to many pages. */
static int
removed_lately(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	angles_spi_exec(&plan,
					"SELECT count(*) FROM angles.pages WHERE link_id = $1"
					" AND removed_at > clock_timestamp() - interval '10 minutes'"
					" AND state IN ('removed', 'trashed') AND pending IS DISTINCT FROM 'held'",
					1, types, values, NULL, SPI_OK_SELECT);
	return atoi(angles_spi_text(0, 1, CurrentMemoryContext));
}

/*
 * Pages that the listing has not shown and that were there when it began, but for those that were
 * written so lately that a query may not know them yet.
 */
static RowSet
missing_pages(Link *link, const SweepState *sweep, int max)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[5] = {INT4OID, UUIDARRAYOID, TIMESTAMPTZOID, INT8OID, INT4OID};
	Datum		values[5];
	Datum	   *seen = palloc_extended(Max(sweep->n_seen, 1) * sizeof(Datum), MCXT_ALLOC_HUGE);
	RowSet		missing = {0};
	uint64		n;

	for (int i = 0; i < sweep->n_seen; i++)
		seen[i] = UUIDPGetDatum(&sweep->seen[i]);
	values[0] = Int32GetDatum(link->id);
	values[1] = PointerGetDatum(construct_array(seen, sweep->n_seen, UUIDOID, UUID_LEN, false,
												TYPALIGN_CHAR));
	values[2] = TimestampTzGetDatum(sweep->began);
	values[3] = Int64GetDatum((int64) angles_guc_notion_query_lag * 1000);
	values[4] = Int32GetDatum(max);
	n = angles_spi_exec(&plan,
						"SELECT p.page_id::text FROM angles.pages p"
						" WHERE p.link_id = $1 AND p.state IN ('live', 'new', 'restored')"
						" AND p.page_id IS NOT NULL"
						" AND COALESCE(GREATEST(p.synced_at, p.applied_at) < $3"
						"  - $4 * interval '1 microsecond', true)"
						" AND NOT EXISTS (SELECT FROM unnest($2) AS s (id) WHERE s.id = p.page_id)"
						" ORDER BY p.page_id LIMIT $5",
						5, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
		angles_rows_add(&missing, link->id, angles_spi_text(i, 1, CurrentMemoryContext));
	pfree(seen);
	return missing;
}

static void
settle_source(Engine *engine, Link *link, Action *action)
{
	LinkCounts *counts = angles_counts(engine, link->id);
	SweepState *sweep = &counts->sweep;
	NotionAnswer *answer = action->answer;
	bool		there = answer->verdict == NOTION_DONE &&
		!angles_json_get_bool(&answer->json->root, "in_trash", false);
	bool		gone = answer->verdict == NOTION_GONE || answer->verdict == NOTION_FORBIDDEN ||
		(answer->verdict == NOTION_DONE && !there);

	sweep->source_seen = there;
	if (link->unreachable != NULL)
	{
		/* a question for changes follows, or another look here */
		counts->poll_flying = false;
		if (!there)
			counts->poll_failures++;
		counts->poll_due_us = there ? 0 : angles_clock_mono_us() +
			angles_backoff_us(counts->poll_failures, answer->retry_after_s);
		return;
	}
	if (there)
		return;
	if (gone)
		angles_sweep_reachable(engine, link, answer->verdict == NOTION_DONE
							   ? "it is in Notion's trash" : answer->message);
	sweep_fails(sweep, answer);
}

static void
settle_page(Engine *engine, Link *link, Action *action)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;
	const char *how = how_removed(link, action->answer);

	if (how == NULL)
	{
		/* it is there, or nobody can tell */
		sweep->one_is_there = true;
		if (action->answer->verdict != NOTION_DONE)
			sweep->failures++;
	}
	else if (!sweep->many)
	{
		Removals	one = {0};

		angles_rows_add(&one.pages, link->id, action->page_id);
		angles_rows_text(&one.pages, 0, how);
		angles_removed(engine, link, &one);
	}
	if (sweep->asked > 0 || sweep->suspects != NIL)
		return;
	sweep->source_seen = false;
	if (sweep->many)
		all_are_missing(engine, link, sweep);
	if (sweep->listed)
		sweep_ends(link, sweep, sweep->failures == 0);
}

/* Returns what was done with the page, or NULL: nothing, or that is not known. */
static const char *
how_removed(const Link *link, const NotionAnswer *answer)
{
	JsonbContainer *page;
	JsonbContainer *parent;
	char	   *source;

	if (answer->verdict == NOTION_GONE || answer->verdict == NOTION_FORBIDDEN)
		return "gone";
	if (answer->verdict != NOTION_DONE)
		return NULL;
	page = &answer->json->root;
	if (angles_json_get_bool(page, "in_trash", false))
		return "trashed";
	parent = angles_json_get_container(page, "parent");
	source = parent ? angles_json_get_text(parent, "data_source_id") : NULL;
	if (source != NULL)
		source = angles_notion_parse_id(source);
	/* a page out of any data source has another kind of parent; without one nothing is known */
	if (parent != NULL && (source == NULL || strcmp(source, link->data_source_id) != 0))
		return "moved";
	return NULL;
}

/* More pages are missing than may go by themselves, and those that were asked for are gone. */
static void
all_are_missing(Engine *engine, Link *link, SweepState *sweep)
{
	Removals	all = {.many = true};

	if (sweep->one_is_there)
	{
		angles_alert_open(psprintf("sweep:%d", link->id), "warning",
						  psprintf("a listing of %s did not show pages that are there",
								   angles_link_name(link)),
						  "No row was touched.", "It is tried again.");
		sweep->failures++;
		return;
	}
	all.pages = missing_pages(link, sweep, INT_MAX);
	for (int i = 0; i < all.pages.n; i++)
	{
		all.pages.extra[0][i] = CStringGetTextDatum("absent");
		all.pages.extra_null[0][i] = false;
	}
	angles_removed(engine, link, &all);
}

/* ---- the end ---- */

static void
sweep_ends(Link *link, SweepState *sweep, bool whole)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int32GetDatum(link->id), TimestampTzGetDatum(sweep->began)};

	if (whole)
	{
		angles_spi_exec(&plan, "UPDATE angles.polls SET swept_at = $2 WHERE link_id = $1",
						2, types, values, NULL, SPI_OK_UPDATE);
		angles_alert_close(psprintf("sweep:%d", link->id));
		close_doubles(link, sweep);
		sweep->seen_us = sweep->begun_us;
		sweep->failures = 0;
		sweep->last_us = sweep->begun_us;
		/* somebody may have asked for another one meanwhile */
		sweep->at_once = sweep->wanted_us > sweep->begun_us;
	}
	else
		try_again(sweep, -1);
	drop_listing(sweep);
	if (angles_guc_history_retention > 0)
		trim_history(link);
}

/* Drops what is over for long; one listing leaves the rest to the next. */
static void
trim_history(const Link *link)
{
	static SPIPlanPtr conflicts = NULL;
	static SPIPlanPtr removed = NULL;
	Oid			types[3] = {INT4OID, TIMESTAMPTZOID, INT4OID};
	Datum		values[3] = {Int32GetDatum(link->id),
		TimestampTzGetDatum(angles_clock_now() -
							angles_guc_history_retention * USECS_PER_MINUTE),
	Int32GetDatum(TRIM_AT_ONCE)};

	/* a decision that is being carried out is read from here */
	angles_spi_exec(&conflicts,
					"DELETE FROM angles.conflict_log WHERE id IN (SELECT c.id"
					"  FROM angles.conflict_log c WHERE c.link_id = $1 AND c.winner IS NOT NULL"
					"  AND c.resolved_at < $2 AND NOT EXISTS (SELECT FROM angles.inbox i"
					"   WHERE i.link_id = c.link_id AND i.page_id = c.page_id)"
					"  ORDER BY c.resolved_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
					3, types, values, NULL, SPI_OK_DELETE);
	angles_spi_exec(&removed,
					"DELETE FROM angles.removed_log WHERE id IN (SELECT r.id"
					"  FROM angles.removed_log r WHERE r.link_id = $1 AND r.restored_at < $2"
					"  ORDER BY r.restored_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
					3, types, values, NULL, SPI_OK_DELETE);
}

/* Pages with the key of another one that this listing has not shown are gone. */
static void
close_doubles(const Link *link, const SweepState *sweep)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[2] = {CStringGetTextDatum(psprintf("duplicate:%d:", link->id)),
	TimestampTzGetDatum(sweep->began)};
	List	   *gone = NIL;
	ListCell   *lc;
	uint64		n;

	n = angles_spi_exec(&plan,
						"SELECT fingerprint FROM angles.alerts WHERE closed_at IS NULL"
						" AND starts_with(fingerprint, $1) AND last_seen_at < $2",
						2, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
		gone = lappend(gone, angles_spi_text(i, 1, CurrentMemoryContext));
	foreach(lc, gone)
		angles_alert_close((char *) lfirst(lc));
}

/* It begins anew later, but for what may pass. */
static void
sweep_fails(SweepState *sweep, const NotionAnswer *answer)
{
	sweep->failures++;
	/* what may pass costs no more than the request: a listing of a large table takes hours */
	if (sweep->context != NULL && !sweep->listed && sweep->failures < PATIENCE &&
		(answer->verdict == NOTION_RETRY || answer->verdict == NOTION_IN_DOUBT ||
		 answer->verdict == NOTION_CONFLICT))
	{
		sweep->due_us = angles_clock_mono_us() +
			angles_backoff_us(sweep->failures, answer->retry_after_s);
		return;
	}
	try_again(sweep, answer->retry_after_s);
	drop_listing(sweep);
}

/* Sooner than the next one would be, and at once but for the failure where somebody waits. */
static void
try_again(SweepState *sweep, int retry_after_s)
{
	int64		delay = angles_backoff_us(Max(sweep->failures, 1), retry_after_s);

	if (!sweep->at_once)
		delay = Max(delay, interval_us(sweep) / 10);
	sweep->due_us = angles_clock_mono_us() + delay;
	sweep->last_us = sweep->due_us - interval_us(sweep);
}

static void
drop_listing(SweepState *sweep)
{
	if (sweep->context != NULL)
		MemoryContextDelete(sweep->context);
	sweep->context = NULL;
	sweep->seen = NULL;
	sweep->cursor = NULL;
	sweep->n_seen = 0;
	sweep->listed = sweep->many = sweep->one_is_there = false;
	list_free_deep(sweep->suspects);
	sweep->suspects = NIL;
}

static int64
interval_us(const SweepState *sweep)
{
	return Max((int64) angles_guc_list_interval * 1000, share_us(sweep));
}

/* The time between listings in which they stay within their share. */
static int64
share_us(const SweepState *sweep)
{
	return angles_poll_share_us(sweep->requests, SHARE);
}

/* ---- out of reach ---- */

bool
angles_sweep_reachable(Engine *engine, Link *link, const char *why)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id), why ? CStringGetTextDatum(why) : (Datum) 0};
	LinkCounts *counts = angles_counts(engine, link->id);

	if (why != NULL)
	{
		angles_alert_open(psprintf("poll:%d", link->id), "critical",
						  psprintf("changes in Notion of %s cannot be read: %s",
								   angles_link_name(link), why),
						  "No row was touched, and nothing is sent until it can be.",
						  "Share the database with the connection again, or take it out of the "
						  "trash; SELECT * FROM angles.check_notion() shows more.");
		counts->poll_no_alert = false;
	}
	if ((why == NULL) == (link->unreachable == NULL))
		return true;
	if (angles_spi_exec(&plan,
						"UPDATE angles.links SET unreachable = $2 WHERE id IN (SELECT id"
						"  FROM angles.links WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED)",
						2, types, values, why ? "  " : " n", SPI_OK_UPDATE) == 0)
		return false;
	/* rows may have been removed before it could not be seen, and while it could not */
	if (why == NULL)
		angles_sweep_at_once(engine, link);
	return true;
}

void
angles_sweep_read(Engine *engine, const Link *link, TimestampTz swept_at)
{
	SweepState *sweep = &angles_counts(engine, link->id)->sweep;
	int64		age = angles_clock_now() - swept_at;

	sweep->known = true;
	sweep->last_us = angles_clock_mono_us() - Max(age, 0);
}
