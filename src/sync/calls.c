/*
 * calls.c
 *		Runs that the bridge hands to the sync worker: angles.sync_notion(),
 *		angles.check_notion(), and the pages that angles.drift_notion() asks for.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* Time between two tries to write the end of a run whose row somebody holds. */
#define WRITE_END_RETRY_US INT64CONST(1000000)

/* A run under way in this worker. */
typedef struct ActiveCall
{
	AnglesCall *call;
	MemoryContext context;
	const char *end;			/* its last state once that is known, with what is told of it: */
	const char *end_class;
	int			end_sqlerrcode;
	const char *end_message;
	const char *end_hint;
	int64		write_end_us;	/* not before: somebody held the row of the run */
	bool		finished;		/* the end is written; the answer goes out after the commit */
	bool		is_check;
	TimestampTz up_to;			/* changes captured until then must be settled */
	int64		since_us;		/* ... and what was changed in Notion until then applied */
	List	   *links;			/* of int: link ids */
	List	   *before;			/* of LinkCounts *: what the worker had done before */
	uint64		serial;			/* CHECK, LIST: carried by its actions */
	Listing    *listing;		/* LIST, else NULL */
	int			steps_left;		/* CHECK: answers still to come */
} ActiveCall;

/* The steps of a check. */
enum
{
	CHECK_ME = 1,
	CHECK_PARENT,
	CHECK_DATA_SOURCE
};

/* Drawn by calls that send requests of their own. */
static uint64 last_serial = 0;

static void start_call(Engine *engine, AnglesCall *call, MemoryContext context);
static void start_sync(Engine *engine, ActiveCall *active);
static void start_check(Engine *engine, ActiveCall *active);
static void send_check(Engine *engine, ActiveCall *active, int step, int32 link_id,
					   const char *id);
static void step_listing(Engine *engine, ActiveCall *active);
static bool sync_is_through(Engine *engine, ActiveCall *active);
static bool can_move(const Link *link);
static bool entries_move(const Link *link, TimestampTz up_to);
static void finish_sync(Engine *engine, ActiveCall *active);
static void send_check_row(ActiveCall *active, const char *what, bool good, const char *detail,
						   const char *hint);
static void end_call(ActiveCall *active, const char *state, const char *class, int sqlerrcode,
					 const char *message, const char *hint);
static void write_end(ActiveCall *active);
static void fail_call(ActiveCall *active, int sqlerrcode, const char *message, const char *hint);
static List *wanted_links(const char *args);

void
angles_calls_step(Engine *engine)
{
	ListCell   *lc;

	for (;;)
	{
		MemoryContext context = AllocSetContextCreate(engine->context, "angles call",
													  ALLOCSET_SMALL_SIZES);
		AnglesCall *call = angles_call_take(context);

		if (call == NULL)
		{
			MemoryContextDelete(context);
			break;
		}
		start_call(engine, call, context);
	}
	foreach(lc, engine->calls)
	{
		ActiveCall *active = (ActiveCall *) lfirst(lc);

		if (active->finished)
			continue;
		if (active->end != NULL)
			write_end(active);
		else if (angles_call_cancelled(active->call))
			end_call(active, "cancelled", NULL, ERRCODE_QUERY_CANCELED, "the run was cancelled",
					 NULL);
		else if (active->is_check)
		{
			if (active->steps_left == 0)
				end_call(active, "succeeded", NULL, 0, NULL, NULL);
		}
		else if (engine->token == NULL || engine->token_refused)
			fail_call(active, engine->token ? ERRCODE_ANGLES_NOTION : ERRCODE_ANGLES_NO_TOKEN,
					  engine->token ? "Notion refuses the token" : "there is no Notion token",
					  "Set angles.notion_token_file and reload; SELECT * FROM "
					  "angles.check_notion() "
					  "shows more.");
		else if (active->listing != NULL)
			step_listing(engine, active);
		else if (sync_is_through(engine, active))
			finish_sync(engine, active);
	}
}

void
angles_calls_reply(Engine *engine)
{
	ListCell   *lc;

	foreach(lc, engine->calls)
	{
		ActiveCall *active = (ActiveCall *) lfirst(lc);

		if (!active->finished)
			continue;
		angles_call_reply(active->call);
		engine->calls = foreach_delete_current(engine->calls, lc);
		MemoryContextDelete(active->context);
	}
}

bool
angles_calls_waiting(Engine *engine)
{
	return engine->calls != NIL;
}

bool
angles_calls_cancelled(Engine *engine)
{
	ListCell   *lc;

	foreach(lc, engine->calls)
	{
		ActiveCall *active = (ActiveCall *) lfirst(lc);

		if (active->end != NULL ? angles_clock_mono_us() >= active->write_end_us
			: angles_call_cancelled(active->call) ||
			(active->listing != NULL && angles_listing_due(active->listing)))
			return true;
	}
	return false;
}

static void
start_call(Engine *engine, AnglesCall *call, MemoryContext context)
{
	ActiveCall *active = MemoryContextAllocZero(context, sizeof(ActiveCall));
	const char *task = angles_call_task(call);
	MemoryContext old = MemoryContextSwitchTo(engine->context);

	active->call = call;
	active->context = context;
	engine->calls = lappend(engine->calls, active);
	MemoryContextSwitchTo(context);
	if (strcmp(task, "sync") == 0)
		start_sync(engine, active);
	else if (strcmp(task, "check_notion") == 0)
		start_check(engine, active);
	else if (strcmp(task, "list_pages") == 0)
	{
		active->serial = ++last_serial;
		active->listing = angles_listing_begin(call, wanted_links(angles_call_args(call)),
											   active->serial);
	}
	else
		fail_call(active, ERRCODE_FEATURE_NOT_SUPPORTED,
				  psprintf("the sync worker knows no task \"%s\"", task), NULL);
	MemoryContextSwitchTo(old);
}

static void
fail_call(ActiveCall *active, int sqlerrcode, const char *message, const char *hint)
{
	end_call(active, "failed", "permanent", sqlerrcode, message, hint);
}

/* Ends a call. The texts are constants, or live as long as the call. */
static void
end_call(ActiveCall *active, const char *state, const char *class, int sqlerrcode,
		 const char *message, const char *hint)
{
	active->end = state;
	active->end_class = class;
	active->end_sqlerrcode = sqlerrcode;
	active->end_message = message;
	active->end_hint = hint;
	write_end(active);
}

/* Writes the end of a call, unless somebody holds the row of its run: then again a second later. */
static void
write_end(ActiveCall *active)
{
	if (angles_clock_mono_us() < active->write_end_us)
		return;
	active->finished = angles_call_finish(active->call, active->end, active->end_class,
										  active->end_sqlerrcode, active->end_message, NULL,
										  active->end_hint);
	active->write_end_us = angles_clock_mono_us() + WRITE_END_RETRY_US;
}

/* ---- sync ---- */

static void
start_sync(Engine *engine, ActiveCall *active)
{
	static SPIPlanPtr nudge = NULL;
	Oid			types[1] = {INT4ARRAYOID};
	Datum		values[1];
	Datum	   *ids;
	ListCell   *lc;
	int			n = 0;

	active->links = wanted_links(angles_call_args(active->call));
	ids = palloc(Max(list_length(active->links), 1) * sizeof(Datum));
	foreach(lc, active->links)
	{
		LinkCounts *before = palloc(sizeof(LinkCounts));

		*before = *angles_counts(engine, lfirst_int(lc));
		active->before = lappend(active->before, before);
		ids[n++] = Int32GetDatum(lfirst_int(lc));
		angles_poll_at_once(engine, angles_link_find(lfirst_int(lc)));
		angles_sweep_at_once(engine, angles_link_find(lfirst_int(lc)));
	}
	active->since_us = angles_clock_mono_us();
	/* a full pass does not wait for the next try of a row that failed a moment ago */
	values[0] = PointerGetDatum(construct_array(ids, n, INT4OID, sizeof(int32), true,
												TYPALIGN_INT));
	angles_spi_exec(&nudge,
					"UPDATE angles.queue_entries SET next_at = clock_timestamp()"
					" WHERE state = 'retry' AND link_id = ANY ($1)",
					1, types, values, NULL, SPI_OK_UPDATE);
	engine->next_due = angles_clock_now();
	/* what was committed before the call is in the queue: the log was folded just before */
	active->up_to = angles_clock_now();
}

/* The links that a sync is about: those of "tables" in its arguments, or all. */
static List *
wanted_links(const char *args)
{
	char	   *problem;
	Jsonb	   *json = angles_json_parse(args, strlen(args), &problem);
	JsonbContainer *tables = json ? angles_json_get_container(&json->root, "tables") : NULL;
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		bool		wanted = tables == NULL;

		for (int i = 0; tables && i < JsonContainerSize(tables); i++)
		{
			JsonbValue *value = getIthJsonbValueFromContainer(tables, i);

			if (value->type != jbvNumeric)
				continue;
			wanted = wanted ||
				DatumGetInt64(DirectFunctionCall1(numeric_int8,
												  NumericGetDatum(value->val.numeric))) ==
				link->relid;
		}
		if (wanted)
			result = lappend_int(result, link->id);
	}
	return result;
}

/* Through when every link is set up and no entry of that time is left that can still move. */
static bool
sync_is_through(Engine *engine, ActiveCall *active)
{
	ListCell   *lc;

	foreach(lc, active->links)
	{
		Link	   *link = angles_link_find(lfirst_int(lc));

		if (link == NULL || !can_move(link))
			continue;
		if (link->state != LINK_ACTIVE || angles_poll_moves(engine, link, active->since_us) ||
			entries_move(link, active->up_to))
			return false;
	}
	return true;
}

/* False while only a person can set this link going. */
static bool
can_move(const Link *link)
{
	return !link->paused && !link->fenced && link->problem == NULL;
}

/* Returns whether an entry of this link and time can still move without a person's help. */
static bool
entries_move(const Link *link, TimestampTz up_to)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr waiting_plan = NULL;
	Oid			types[3] = {INT4OID, TIMESTAMPTZOID, INT4ARRAYOID};
	Datum		values[3] = {Int32GetDatum(link->id), TimestampTzGetDatum(up_to)};
	Datum	   *movable = palloc(Max(list_length(angles_links()), 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	if (angles_spi_exec(&plan,
						"SELECT FROM angles.queue_entries WHERE link_id = $1 AND enqueued_at <= $2"
						" AND state IN ('ready', 'claimed', 'retry', 'verifying') LIMIT 1",
						2, types, values, NULL, SPI_OK_SELECT) > 0)
		return true;
	foreach(lc, angles_links())
	{
		Link	   *other = (Link *) lfirst(lc);

		if (can_move(other))
			movable[n++] = Int32GetDatum(other->id);
	}
	values[2] = PointerGetDatum(construct_array(movable, n, INT4OID, sizeof(int32), true,
												TYPALIGN_INT));
	/*
	 * One that waits moves unless something it waits for, at whatever distance, does not. A circle
	 * has no end, so it moves: the worker breaks it.
	 */
	return angles_spi_exec(&waiting_plan,
						   "SELECT FROM angles.queue_entries q WHERE q.link_id = $1"
						   " AND q.enqueued_at <= $2 AND q.state = 'waiting' AND NOT EXISTS ("
						   "  WITH RECURSIVE chain (link_id, key) AS ("
						   "   SELECT q.waits_for_link, q.waits_for_key"
						   "   UNION SELECT w.waits_for_link, w.waits_for_key"
						   "   FROM chain c JOIN angles.queue_entries w USING (link_id, key)"
						   "   WHERE w.state = 'waiting')"
						   "  SELECT FROM chain c LEFT JOIN angles.queue_entries b"
						   "   USING (link_id, key) WHERE b.state IS NULL"
						   "   OR b.state IN ('parked', 'held') OR link_id <> ALL ($3)) LIMIT 1",
						   3, types, values, NULL, SPI_OK_SELECT) > 0;
}

static void
finish_sync(Engine *engine, ActiveCall *active)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	ListCell   *lc;
	ListCell   *lb;

	forboth(lc, active->links, lb, active->before)
	{
		LinkCounts *before = (LinkCounts *) lfirst(lb);
		LinkCounts *now = angles_counts(engine, lfirst_int(lc));
		Link	   *link = angles_link_find(lfirst_int(lc));
		StringInfoData row;
		Datum		values[1] = {Int32GetDatum(lfirst_int(lc))};

		if (link == NULL)
			continue;
		angles_spi_exec(&plan,
						"SELECT count(*) FILTER (WHERE state = 'parked'),"
						" count(*) FILTER (WHERE state = 'held'),"
						" count(*) FILTER (WHERE state NOT IN ('parked', 'held'))"
						" FROM angles.queue_entries WHERE link_id = $1",
						1, types, values, NULL, SPI_OK_SELECT);
		initStringInfo(&row);
		appendStringInfo(&row,
						 "{\"relid\":%u,\"created\":" INT64_FORMAT ",\"updated\":" INT64_FORMAT
						 ",\"trashed\":" INT64_FORMAT ",\"restored\":" INT64_FORMAT
						 ",\"adopted\":" INT64_FORMAT ",\"unchanged\":" INT64_FORMAT
						 ",\"parked\":%s,\"held\":%s,\"left\":%s,\"problem\":",
						 link->relid, now->created - before->created,
						 now->updated - before->updated, now->trashed - before->trashed,
						 now->restored - before->restored, now->adopted - before->adopted,
						 now->unchanged - before->unchanged,
						 angles_spi_text(0, 1, CurrentMemoryContext),
						 angles_spi_text(0, 2, CurrentMemoryContext),
						 angles_spi_text(0, 3, CurrentMemoryContext));
		if (link->problem || link->paused || link->fenced)
			angles_json_append_string(&row, link->problem ? link->problem
									  : link->paused ? "paused" : "fenced: call angles.adopt()");
		else
			appendStringInfoString(&row, "null");
		appendStringInfoChar(&row, '}');
		angles_call_row(active->call, row.data);
	}
	end_call(active, "succeeded", NULL, 0, NULL, NULL);
}

/* ---- check ---- */

static void
start_check(Engine *engine, ActiveCall *active)
{
	ListCell   *lc;

	active->is_check = true;
	if (engine->token == NULL)
	{
		send_check_row(active, "token", false, "no token was found",
					   "Set angles.notion_token_file to a file that holds the connection's "
					   "token, and "
					   "reload the configuration.");
		return;
	}
	active->serial = ++last_serial;
	send_check(engine, active, CHECK_ME, 0, NULL);
	if (angles_guc_notion_parent && angles_notion_parse_id(angles_guc_notion_parent))
		send_check(engine, active, CHECK_PARENT, 0,
				   angles_notion_parse_id(angles_guc_notion_parent));
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);

		if (link->data_source_id != NULL)
			send_check(engine, active, CHECK_DATA_SOURCE, link->id, link->data_source_id);
	}
}

/* Puts one request of a check on its way. */
static void
send_check(Engine *engine, ActiveCall *active, int step, int32 link_id, const char *id)
{
	Action	   *action = angles_action_make(engine, ACTION_CHECK, link_id);
	MemoryContext old = MemoryContextSwitchTo(action->context);

	action->step = step;
	action->call = active->serial;
	action->request = step == CHECK_ME ? angles_notion_me()
		: step == CHECK_PARENT ? angles_notion_get_page(id)
		: angles_notion_get_data_source(id);
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
	active->steps_left++;
}

void
angles_calls_settle_check(Engine *engine, Action *action)
{
	NotionAnswer *answer = action->answer;
	bool		good = answer->verdict == NOTION_DONE;
	Link	   *link = action->link_id ? angles_link_find(action->link_id) : NULL;
	ListCell   *lc;

	foreach(lc, engine->calls)
	{
		ActiveCall *active = (ActiveCall *) lfirst(lc);

		/* one that was cancelled does not care any more */
		if (active->serial != action->call || active->end != NULL)
			continue;
		active->steps_left--;
		if (action->step == CHECK_ME)
		{
			char	   *name = good ? angles_json_get_text(&answer->json->root, "name") : NULL;

			send_check_row(active, "token", good,
						   good ? psprintf("valid; the connection is \"%s\"; it comes from %s",
										   name ? name : "?", engine->token_source)
						   : answer->message,
						   good ? NULL
						   : answer->verdict == NOTION_UNAUTHORIZED
						   ? "Make a new token in Notion (Settings, Connections), put it where "
						   "angles.notion_token_file points, and reload."
						   : "Is angles.notion_url right, and does the server reach the internet?");
		}
		else if (action->step == CHECK_PARENT)
			send_check_row(active, "parent page (angles.notion_parent)", good,
						   good ? "reachable; new databases are made there" : answer->message,
						   good ? NULL
						   : "Open the page in Notion, choose Connections in its menu, and add the "
						   "connection of this token.");
		else if (link != NULL)
			send_check_row(active, psprintf("data source of "
											"%s.%s", link->schema, link->table), good,
						   good ? psprintf("reachable (%s)", link->data_source_id)
						   : answer->message,
						   good ? NULL
						   : "Open the database in Notion, choose Connections in its menu, and "
							 "add the "
						   "connection of this token.");
	}
}

static void
send_check_row(ActiveCall *active, const char *what, bool good, const char *detail,
			   const char *hint)
{
	StringInfoData row;

	initStringInfo(&row);
	appendStringInfoString(&row, "{\"item\":");
	angles_json_append_string(&row, what);
	appendStringInfo(&row, ",\"state\":\"%s\",\"detail\":", good ? "ok" : "critical");
	angles_json_append_string(&row, detail ? detail : "");
	appendStringInfoString(&row, ",\"hint\":");
	if (hint)
		angles_json_append_string(&row, hint);
	else
		appendStringInfoString(&row, "null");
	appendStringInfoChar(&row, '}');
	angles_call_row(active->call, row.data);
}

/* ---- listing ---- */

static void
step_listing(Engine *engine, ActiveCall *active)
{
	const char *problem;
	const char *hint;

	if (!angles_listing_step(engine, active->listing))
		return;
	problem = angles_listing_problem(active->listing, &hint);
	if (problem != NULL)
		fail_call(active, ERRCODE_ANGLES_NOTION, problem, hint);
	else
		end_call(active, "succeeded", NULL, 0, NULL, NULL);
}

void
angles_calls_settle_list(Engine *engine, Action *action)
{
	ListCell   *lc;

	foreach(lc, engine->calls)
	{
		ActiveCall *active = (ActiveCall *) lfirst(lc);

		/* one that was cancelled does not care any more */
		if (active->listing != NULL && active->serial == action->call && active->end == NULL)
			angles_listing_settle(engine, active->listing, action);
	}
}
