/*
 * main.c
 *		The sync worker: the one process of a database that talks to Notion.
 *
 * One loop, one wait. Transactions are short and never open while it waits. An error ends the
 * process (exit 1); the bridge starts another, which takes over from what is durable. Nothing here
 * runs a user's code except through load.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/secret.h"
#include "core/testhook.h"
#include "core/txn.h"
#include "core/wait.h"
#include "sync/changelog.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

extern PGDLLEXPORT void angles_sync_main(Datum main_arg);

static Engine *engine_start(void);
static void read_token(Engine *engine);
static bool exchange(Engine *engine, long *sending_wait);
static void take_answers(Engine *engine, dlist_head *arrived);
static void read_answers(Engine *engine, dlist_head *arrived);
static void read_answer(Engine *engine, Action *action);
static bool send_again_later(Engine *engine, Action *action);
static void note_health(Engine *engine, const NotionAnswer *answer);
static bool database_has_work(Engine *engine);
static bool circles_are_due(const Engine *engine);
static bool has_token(const Engine *engine);
static void work_in_database(Engine *engine);
static void report_connection(Engine *engine);
static void report_links(void);
static long send_requests(Engine *engine);
static bool must_be_planned_again(Engine *engine, Action *action);
static void send_one(Engine *engine, Action *action);
static long next_wait(Engine *engine, long sending_wait);
static void look_for_wake(Engine *engine);
static int64 pace_left_us(const Engine *engine);
static void save_rates(int code, Datum arg);

void
angles_sync_main(Datum main_arg)
{
	Engine	   *engine;
	uint64		reloads;

	angles_worker_enter_sync(main_arg);
	engine = engine_start();
	reloads = angles_wait_reloads();
	for (;;)
	{
		long		wait;
		bool		moved;

		MemoryContextReset(engine->iteration);
		MemoryContextSwitchTo(engine->iteration);
		angles_wait_serve();
		if (reloads != angles_wait_reloads())
		{
			reloads = angles_wait_reloads();
			read_token(engine);
			angles_poll_reloaded(engine);
			engine->look = true;
		}
		look_for_wake(engine);
		moved = exchange(engine, &wait);
		if (database_has_work(engine))
		{
			work_in_database(engine);
			moved = exchange(engine, &wait);
		}
		angles_tell_waiters(engine, false);
		/* more answers may have come meanwhile; to ask for them is cheaper than to begin a wait */
		if (moved && angles_clock_mono_us() - engine->waited_us < ENGINE_LONGEST_TURNS_US)
			continue;
		wait = moved ? 0 : next_wait(engine, wait);
		/*
		 * a set latch means a commit, a call, or a reload; readable sockets have their descriptor
		 */
		if (moved || wait != 0)
		{
			if ((angles_wait(angles_net_fd(engine->net), wait) & WL_LATCH_SET) &&
				pace_left_us(engine) <= 0)
				engine->look = true;
			engine->waited_us = angles_clock_mono_us();
		}
	}
}

static Engine *
engine_start(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "angles sync",
												  ALLOCSET_DEFAULT_SIZES);
	Engine	   *engine = MemoryContextAllocZero(context, sizeof(Engine));

	engine->context = context;
	engine->iteration = AllocSetContextCreate(context, "angles sync iteration",
											  ALLOCSET_DEFAULT_SIZES);
	engine->net = angles_net_open(context, angles_guc_notion_concurrency);
	engine->generation = angles_worker_generation();
	dlist_init(&engine->ready[0]);
	dlist_init(&engine->ready[1]);
	dlist_init(&engine->flying);
	dlist_init(&engine->done);
	engine->look = true;
	engine->inbox_used = true;
	engine->batch = ENGINE_BATCH;
	engine->next_due = angles_clock_now();
	engine->idle_since_us = angles_clock_mono_us();
	before_shmem_exit(save_rates, (Datum) 0);
	read_token(engine);

	MemoryContextSwitchTo(engine->iteration);
	angles_txn_begin("take over the queue");
	angles_worker_recheck();
	angles_links_refresh();
	angles_claim_take_over(engine);
	angles_pause_killer();
	angles_txn_commit();
	angles_worker_wake_apply();
	return engine;
}

/*
 * A filter, policy or trigger that no cancel ends has ended the worker before this one: its link
 * stands still, so that the others go on. Where a session has the link locked, the next life may do
 * it.
 */
void
angles_pause_killer(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(angles_worker_died_reading())};
	Link	   *link = angles_link_find(DatumGetInt32(values[0]));

	if (link == NULL)
		return;
	angles_spi_exec(&plan,
					"UPDATE angles.links SET paused = true,"
					" pause_reason = 'a worker died while it read or wrote its rows'"
					" WHERE id IN (SELECT id FROM angles.links WHERE id = $1"
					"  FOR NO KEY UPDATE SKIP LOCKED)",
					1, types, values, NULL, SPI_OK_UPDATE);
	angles_alert_open(psprintf("killer:%d", link->id), "critical",
					  psprintf("a worker died while it was at work on rows of %s; "
							   "the link is paused",
							   angles_link_name(link)),
					  "A filter, a policy or a trigger may not let itself be cancelled.",
					  psprintf("Correct it, then SELECT angles.resume(%s).",
							   quote_literal_cstr(angles_link_name(link))));
}

/* As long as the flag is not taken, those who commit do not even signal. */
static void
look_for_wake(Engine *engine)
{
	if (pace_left_us(engine) <= 0)
		engine->look = angles_worker_take_wake() || engine->look;
}

/* Microseconds until commits may be taken in again. */
static int64
pace_left_us(const Engine *engine)
{
	return engine->worked_us + ENGINE_PACE_US - angles_clock_mono_us();
}

static void
save_rates(int code, Datum arg)
{
	/* on a crash the windows are not to be believed anyway */
	if (code == 0 || code == 1)
		angles_rate_save();
	(void) arg;
}

static void
read_token(Engine *engine)
{
	MemoryContext old = MemoryContextSwitchTo(engine->context);
	char	   *token = angles_secret_notion(NULL, &engine->token_source);

	if (token == NULL || engine->token == NULL || strcmp(token, engine->token) != 0)
		engine->token_refused = false;
	angles_secret_free(engine->token);
	engine->token = token;
	engine->fingerprint = token ? angles_secret_fingerprint(token) : 0;
	MemoryContextSwitchTo(old);
}

/* ---- the network ---- */

/*
 * Takes what has come and sends what may be sent. Returns whether answers came. *sending_wait: the
 * milliseconds until more may be sent, -1: no such time.
 *
 * The remote gets its next requests before the answers are read, so that both work at once.
 */
static bool
exchange(Engine *engine, long *sending_wait)
{
	dlist_head	arrived;
	bool		moved;
	int			n_flying;

	dlist_init(&arrived);
	angles_net_drive(engine->net);
	take_answers(engine, &arrived);
	moved = !dlist_is_empty(&arrived);
	n_flying = engine->n_flying;
	angles_poll_step(engine);
	*sending_wait = send_requests(engine);
	if (engine->n_flying > n_flying)
		angles_net_drive(engine->net);
	read_answers(engine, &arrived);
	engine->exchanged_us = angles_clock_mono_us();
	return moved;
}

void
angles_keep_sending(Engine *engine)
{
	MemoryContext old;
	long		wait;

	if (angles_clock_mono_us() - engine->exchanged_us < ENGINE_EXCHANGE_US)
		return;
	old = MemoryContextSwitchTo(engine->iteration);
	exchange(engine, &wait);
	MemoryContextSwitchTo(old);
}

/* ---- answers ---- */

/* Refusals, which may concern the whole connection, are read at once; the others are only taken. */
static void
take_answers(Engine *engine, dlist_head *arrived)
{
	AnglesNetAnswer *net;

	while ((net = angles_net_take(engine->net)) != NULL)
	{
		Action	   *action = (Action *) net->tag;

		ANGLES_KILL_POINT("answer_taken");
		action->net = net;
		dlist_delete(&action->node);
		engine->n_flying--;
		if (net->result == ANGLES_NET_ANSWERED && net->status >= 200 && net->status < 300)
			dlist_push_tail(arrived, &action->node);
		else
			read_answer(engine, action);
	}
}

static void
read_answers(Engine *engine, dlist_head *arrived)
{
	while (!dlist_is_empty(arrived))
		read_answer(engine, dlist_container(Action, node, dlist_pop_head_node(arrived)));
}

static void
read_answer(Engine *engine, Action *action)
{
	AnglesNetAnswer *net = action->net;
	MemoryContext old = MemoryContextSwitchTo(action->context);

	action->answer = angles_notion_read(net, action->request->writes);
	MemoryContextSwitchTo(old);
	action->net = NULL;
	pfree(net->body);
	pfree(net);
	note_health(engine, action->answer);
	if (send_again_later(engine, action))
		return;
	if (action->kind == ACTION_CREATE && action->answer->committed_id != NULL &&
		angles_notion_parse_id(action->answer->committed_id) != NULL)
	{
		/* Notion says what it made before it gave up: read that page, never post again */
		old = MemoryContextSwitchTo(action->context);
		action->kind = ACTION_FETCH;
		action->page_id = angles_notion_parse_id(action->answer->committed_id);
		action->request = angles_notion_get_page(action->page_id);
		MemoryContextSwitchTo(old);
		angles_action_ready_first(engine, action);
		return;
	}
	if (action->kind == ACTION_POLL && angles_poll_take(engine, action))
	{
		angles_action_free(action);
		return;
	}
	if (action->kind == ACTION_PREFLIGHT && angles_preflight(engine, action))
	{
		angles_action_ready_first(engine, action);
		return;
	}
	dlist_push_tail(&engine->done, &action->node);
	engine->n_done++;
}

/*
 * A refusal of the whole connection says nothing about the row: the request keeps its place, burns
 * no attempt and goes out again when the connection may be used. Returns whether that is so.
 */
static bool
send_again_later(Engine *engine, Action *action)
{
	NotionAnswer *answer = action->answer;

	/* one who waits for the result of a check wants this answer */
	if (action->kind == ACTION_CHECK)
		return false;
	if (answer->verdict == NOTION_LIMITED)
		angles_rate_pause(engine->fingerprint, Max(answer->retry_after_s, 1),
						  answer->reason ? answer->reason : answer->code);
	else if (answer->verdict == NOTION_BLOCKED)
		angles_rate_pause(engine->fingerprint, 3600, answer->reason);
	else if (answer->verdict == NOTION_UNAUTHORIZED)
	{
		char	   *refused = pstrdup(engine->token ? engine->token : "");

		/* a file may hold a newer one already */
		read_token(engine);
		engine->token_refused = engine->token != NULL && strcmp(engine->token, refused) == 0;
		/* people are told at once: nothing else may happen here for a long time */
		engine->look = true;
		angles_secret_free(refused);
	}
	else
		return false;
	angles_action_ready_first(engine, action);
	return true;
}

/* The breaker counts what is the network's or the remote's fault, never a refusal of content. */
static void
note_health(Engine *engine, const NotionAnswer *answer)
{
	if (answer->verdict == NOTION_RETRY || answer->verdict == NOTION_IN_DOUBT)
		angles_breaker_failure(engine->fingerprint);
	else
		angles_breaker_success(engine->fingerprint);
}

/* ---- the database ---- */

static bool
database_has_work(Engine *engine)
{
	/* they rather wait for the next claim, to be written with it */
	if (engine->look || engine->n_done >= engine->batch + engine->batch / 2)
		return true;
	if (engine->n_done > 0 && (engine->n_ready == 0 || engine->n_flying == 0))
		return true;
	/* without a token there is nobody to send to: what is queued stays where it is */
	if (!has_token(engine))
		return false;
	if (engine->setup_pending && angles_clock_mono_us() >= engine->setup_due_us &&
		engine->n_ready == 0)
		return true;
	if (engine->some_wait && circles_are_due(engine))
		return true;
	if (engine->tell_due_us != 0 && angles_clock_mono_us() >= engine->tell_due_us)
		return true;
	for (int priority = 0; priority < 2; priority++)
		if (engine->more[priority] && angles_claim_has_room(engine, priority))
			return true;
	return engine->next_due != 0 && angles_claim_has_room(engine, PRIORITY_INTERACTIVE) &&
		engine->next_due <= angles_clock_now();
}

/*
 * Rows that wait for each other are looked for when no request is planned, under way, or answered
 * and not settled; under steady traffic, when they have waited for some time.
 */
static bool
circles_are_due(const Engine *engine)
{
	return (engine->n_ready == 0 && engine->n_flying == 0 && engine->n_done == 0) ||
		angles_clock_mono_us() - engine->some_wait_us >= ENGINE_CIRCLES_US;
}

/* Whether there is a token that Notion has not refused. */
static bool
has_token(const Engine *engine)
{
	return engine->token != NULL && !engine->token_refused;
}

/*
 * All that is to be done in the database now, in one transaction with one flush. It commits
 * synchronously: the claims in it are the proof that what is sent is durable.
 */
static void
work_in_database(Engine *engine)
{
	bool		folded_all;
	bool		settled = engine->n_done > 0;
	ListCell   *lc;

	engine->look = false;
	engine->worked_us = angles_clock_mono_us();
	engine->n_claimed = 0;
	engine->marks = NIL;
	engine->inbox_changed = false;
	angles_txn_begin("synchronize with Notion");
	angles_worker_recheck();
	angles_links_refresh();
	angles_poll_read(engine);
	angles_settle(engine);
	ANGLES_KILL_POINT("settled");
	/* what the answers changed about links counts for what is planned now */
	angles_links_refresh();
	folded_all = !angles_fold(engine);
	angles_keep_sending(engine);
	angles_links_refresh();
	angles_calls_step(engine);
	if (has_token(engine))
	{
		angles_setup_step(engine);
		angles_links_refresh();
		angles_mark_step(engine);
		if (engine->some_wait && circles_are_due(engine))
			angles_break_cycles(engine);
		angles_claim(engine);
		angles_refusals_step(engine);
	}
	report_connection(engine);
	report_links();
	angles_note_position();
	angles_alerts_catch_up();
	angles_calls_step(engine);
	angles_keep_sending(engine);
	ANGLES_KILL_POINT("before_claim_commit");
	/* a mark that is removed below stands for a wish that must be on disk by then */
	if (engine->n_claimed > 0 || engine->marks != NIL)
		angles_txn_commit();
	else
		angles_txn_commit_async();
	engine->transaction++;
	ANGLES_KILL_POINT("after_claim_commit");
	angles_tell_waiters(engine, true);
	/* what was left alone while its page was being written may have its turn now */
	if (engine->inbox_changed || (engine->inbox_waits && settled))
		angles_worker_wake_apply();
	angles_calls_reply(engine);
	foreach(lc, engine->marks)
		angles_changelog_forget_mark(lfirst_int(lc));
	if (engine->superseded)
		angles_worker_exit_fenced();
	if (!folded_all)
		engine->look = true;
	else if (engine->log_is_full)
		angles_fold_rotate();
	engine->idle_since_us = angles_clock_mono_us();
}

/* Opens and closes the alerts about the connection as a whole, only when something changed. */
static void
report_connection(Engine *engine)
{
	static int	reported = -1;
	int			now = engine->token == NULL ? 1 : engine->token_refused ? 2 : 0;

	if (now == reported)
		return;
	reported = now;
	if (now == 1)
		angles_alert_open("notion_token", "critical", "there is no token for Notion",
						  "Changes are kept in the queue.",
						  "Set angles.notion_token_file and reload the configuration.");
	else if (now == 2)
		angles_alert_open("notion_token", "critical", "Notion refuses the token",
						  "Changes are kept in the queue.",
						  "Put a valid token where it comes from and reload the configuration; "
						  "SELECT * FROM angles.check_notion() shows more.");
	else
		angles_alert_close("notion_token");
}

/*
 * Opens and closes the alerts about links and properties that what happened to their table has
 * paused, whenever the links were read anew.
 */
static void
report_links(void)
{
	static uint64 reported = 0;
	ListCell   *lc;

	if (reported == angles_links_version())
		return;
	reported = angles_links_version();
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		char	   *fingerprint = psprintf("link:%d", link->id);
		char	   *name = angles_link_name(link);
		StringInfoData columns;

		if (!link->paused)
			angles_alert_close(psprintf("killer:%d", link->id));
		initStringInfo(&columns);
		for (int i = 0; link->problem == NULL && i < link->n_columns; i++)
			if (link->columns[i].problem != NULL)
				appendStringInfo(&columns, "%s%s: %s", columns.len ? "; " : "",
								 link->columns[i].c.property_name, link->columns[i].problem);
		if (link->problem != NULL)
			angles_alert_open(fingerprint, "critical",
							  psprintf("the link of %s is paused: %s",
									   link->table ? name : link->title, link->problem),
							  "Its changes stay in the queue.",
							  link->table == NULL
							  ? psprintf("SELECT angles.unlink(%u)", link->relid)
							  : psprintf("SELECT * FROM angles.alter_link(%s)",
										 quote_literal_cstr(name)));
		else if (link->inbound && link->no_login)
			angles_alert_open(fingerprint, "warning",
							  psprintf("changes made in Notion to %s wait", name),
							  "They are written as the table's owner, who may not log in.",
							  psprintf("ALTER ROLE %s LOGIN (a password is not needed), or link "
									   "with direction => 'out'.",
									   quote_identifier(GetUserNameFromId(link->owner, true))));
		else if (columns.len > 0)
			angles_alert_open(fingerprint, "warning",
							  psprintf("properties of %s are paused", name), columns.data,
							  psprintf("SELECT * FROM angles.alter_link(%s)",
									   quote_literal_cstr(name)));
		else
			angles_alert_close(fingerprint);
	}
}

/* ---- sending ---- */

/* Sends what may be sent now. Returns the milliseconds until more may be sent, -1: no such time. */
static long
send_requests(Engine *engine)
{
	int64		wait_us = -1;

	for (int priority = 0; priority < 2; priority++)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &engine->ready[priority])
		{
			Action	   *action = dlist_container(Action, node, iter.cur);
			int64		blocked;

			if (engine->n_flying >= angles_guc_notion_concurrency)
				return -1;
			/* its claim is not committed yet, nor is that of any behind it */
			if (action->transaction == engine->transaction)
				break;
			if (engine->token == NULL)
				return -1;
			/* a check is how a person finds out; it may stand behind what was refused */
			if (engine->token_refused && action->kind != ACTION_CHECK)
				continue;
			if (must_be_planned_again(engine, action))
				continue;
			if ((blocked = angles_breaker_ask(engine->fingerprint)) > 0 ||
				(blocked = angles_rate_take(engine->fingerprint, angles_guc_notion_rate_limit,
											priority == PRIORITY_BACKLOG
											? ANGLES_RATE_BACKLOG
											: ANGLES_RATE_INTERACTIVE)) > 0)
			{
				wait_us = wait_us < 0 ? blocked : Min(wait_us, blocked);
				break;
			}
			angles_action_unready(engine, action);
			send_one(engine, action);
		}
	}
	return wait_us < 0 ? -1 : (long) (wait_us / 1000 + 1);
}

/*
 * What was planned with another mapping is not sent: its entry is claimed, so it is planned again
 * by way of an answer that says "not sent".
 */
static bool
must_be_planned_again(Engine *engine, Action *action)
{
	switch (action->kind)
	{
		case ACTION_CREATE:
		case ACTION_PATCH:
		case ACTION_PREFLIGHT:
		case ACTION_TRASH:
		case ACTION_RESTORE:
		case ACTION_LOOKUP:
			break;
		default:
			return false;
	}
	if (action->anyway || (action->links_version == angles_links_version() &&
						   angles_clock_mono_us() - action->planned_us < ENGINE_STALE_US))
		return false;
	action->answer = MemoryContextAllocZero(action->context, sizeof(NotionAnswer));
	action->answer->verdict = NOTION_RETRY;
	action->replan = true;
	angles_action_unready(engine, action);
	dlist_push_tail(&engine->done, &action->node);
	engine->n_done++;
	return true;
}

static void
send_one(Engine *engine, Action *action)
{
	NotionRequest *request = action->request;
	AnglesNetRequest net = {0};

	net.method = request->method;
	net.url = psprintf("%s%s", angles_guc_notion_url, request->path);
	net.token = engine->token;
	net.headers[0] = psprintf("Notion-Version: %s", angles_guc_notion_version);
	if (request->body != NULL)
	{
		net.headers[1] = "Content-Type: application/json";
		net.body = request->body;
		net.body_len = strlen(request->body);
	}
	net.tag = action;
	angles_net_start(engine->net, &net);
	dlist_push_tail(&engine->flying, &action->node);
	engine->n_flying++;
	/* nobody has to look at the mark because of questions, or because he has looked at it */
	if (action->link_id != 0 && action->kind != ACTION_POLL && action->kind != ACTION_MARK &&
		action->kind != ACTION_LIST)
		angles_counts(engine, action->link_id)->requests++;
	if (action->kind == ACTION_CREATE)
		ANGLES_KILL_POINT("create_started");
	engine->idle_since_us = angles_clock_mono_us();
}

/* ---- waiting ---- */

/* Milliseconds until there is something to do without being told; -1: none; ends when long idle. */
static long
next_wait(Engine *engine, long sending_wait)
{
	long		wait = sending_wait;
	long		net = angles_net_timeout(engine->net);
	bool		working = engine->n_flying > 0 || engine->n_ready > 0 || engine->n_done > 0;
	int64		pace_us;

	/* a wait for a lock on the way may have taken the latch of a wake-up with it */
	look_for_wake(engine);
	if (database_has_work(engine))
		return 0;
	pace_us = pace_left_us(engine);
	if (pace_us > 0)
		wait = wait < 0 ? (long) (pace_us / 1000 + 1) : Min(wait, (long) (pace_us / 1000 + 1));
	if (net >= 0 && (wait < 0 || net < wait))
		wait = net;
	if (engine->next_due != 0 && angles_claim_has_room(engine, PRIORITY_INTERACTIVE) &&
		has_token(engine))
	{
		long		due = TimestampDifferenceMilliseconds(angles_clock_now(), engine->next_due);

		wait = wait < 0 ? due : Min(wait, due);
		working = true;
	}
	if (engine->setup_pending && engine->n_ready == 0 && has_token(engine))
	{
		int64		due = (engine->setup_due_us - angles_clock_mono_us()) / 1000 + 1;

		due = Max(due, 10);
		wait = wait < 0 ? (long) due : Min(wait, (long) due);
		working = true;
	}
	if (engine->tell_due_us != 0 && has_token(engine))
	{
		int64		due = (engine->tell_due_us - angles_clock_mono_us()) / 1000 + 1;

		wait = wait < 0 ? (long) Max(due, 0) : Min(wait, (long) Max(due, 0));
	}
	if (angles_poll_wanted() && has_token(engine))
	{
		int64		due = (engine->poll_due_us - angles_clock_mono_us()) / 1000 + 1;

		if (engine->poll_due_us < INT64_MAX)
			wait = wait < 0 ? (long) Max(due, 0) : Min(wait, (long) Max(due, 0));
		working = true;
	}
	/* nobody tells when a person lets go of a table of the log */
	if (engine->log_passed_over)
	{
		wait = wait < 0 ? 200 : Min(wait, 200);
		engine->look = engine->look || wait == 200;
		working = true;
	}
	/* whoever waits in SQL may go away without a word to this process */
	if (angles_calls_waiting(engine))
	{
		if (angles_calls_cancelled(engine))
		{
			engine->look = true;
			return 0;
		}
		wait = wait < 0 ? 100 : Min(wait, 100);
		working = true;
	}
	if (!working)
	{
		int64		left = (int64) angles_guc_sync_idle_timeout -
			(angles_clock_mono_us() - engine->idle_since_us) / 1000;

		if (left <= 0)
			angles_worker_exit_idle();
		wait = wait < 0 ? (long) left : Min(wait, (long) left);
	}
	return wait;
}
