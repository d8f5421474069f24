/*
 * ratetest.c
 *		SQL functions for the tests of rate windows and breakers; nothing at all without
 *		-DANGLES_TEST. Declared by test/net-peer/functions.sql.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include <math.h>

#include "common/pg_prng.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "net/net.h"
#include "net/window.h"

PG_FUNCTION_INFO_V1(angles_net_test_simulate);
PG_FUNCTION_INFO_V1(angles_net_test_rate_take);
PG_FUNCTION_INFO_V1(angles_net_test_rate_pause);
PG_FUNCTION_INFO_V1(angles_net_test_rate_resume);
PG_FUNCTION_INFO_V1(angles_net_test_rate_get);
PG_FUNCTION_INFO_V1(angles_net_test_rate_save);
PG_FUNCTION_INFO_V1(angles_net_test_breaker);
PG_FUNCTION_INFO_V1(angles_net_test_backoff);

/* A minute of virtual time, as the remote counts it. */
#define MINUTE_US INT64CONST(60000000)

/* The travel times of two requests differ by less than this. */
#define TRAVEL_US INT64CONST(500000)

typedef struct Simulation
{
	pg_prng_state prng;
	NetWindow  *window;
	int			limit;
	int64	   *seen;			/* when the remote saw a request */
	int			n_seen;
	int			size;
	int64		interactive_at; /* when the oldest waiting edit was made */
	int64		interactive_ask;	/* when it asks again */
	int64		backlog_ask;
	int64		longest_wait;	/* of an edit */
	int			n_interactive;
	int			n_slow;			/* edits that waited more than 2 s */
} Simulation;

static void simulate_interactive(Simulation *sim, double per_minute);
static void simulate_backlog(Simulation *sim);
static void see(Simulation *sim, int64 now);
static int	compare_times(const void *a, const void *b);
static int	worst_minute(int64 *seen, int n);

/*
 * angles_net_test_simulate(seed, limit, minutes, edits per minute, burst of edits at the start,
 * with backlog): plays a worker with edits that arrive at random and a backlog that never ends, on
 * a virtual clock, and counts as the remote would, with travel times that differ. Returns requests
 * seen, edits among them, the most in any 60 s, the used part of the limit after the first window,
 * the longest wait of an edit in us, and how many edits waited more than 2 s.
 */
Datum
angles_net_test_simulate(PG_FUNCTION_ARGS)
{
	Simulation	sim = {.limit = PG_GETARG_INT32(1)};
	int64		end = PG_GETARG_INT32(2) * MINUTE_US;
	double		per_minute = PG_GETARG_FLOAT8(3);
	int			burst = PG_GETARG_INT32(4);
	bool		backlog = PG_GETARG_BOOL(5);
	int			late = 0;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};

	pg_prng_seed(&sim.prng, PG_GETARG_INT32(0));
	sim.window = palloc0(sizeof(NetWindow));
	sim.size = 1024;
	sim.seen = palloc(sim.size * sizeof(int64));
	for (int i = 0; i < burst; i++)
	{
		if (angles_net_window_take(sim.window, sim.limit, ANGLES_RATE_INTERACTIVE, 1) == 0)
			see(&sim, 1);
	}
	sim.backlog_ask = backlog ? 1 : end;
	sim.interactive_at = sim.interactive_ask = per_minute > 0 ? 1 : end;

	while (Min(sim.interactive_ask, sim.backlog_ask) < end)
	{
		if (sim.interactive_ask <= sim.backlog_ask)
			simulate_interactive(&sim, per_minute);
		else
			simulate_backlog(&sim);
	}

	for (int i = 0; i < sim.n_seen; i++)
		late += sim.seen[i] >= NET_WINDOW_US ? 1 : 0;
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "a row type is expected");
	values[0] = Int32GetDatum(sim.n_seen);
	values[1] = Int32GetDatum(sim.n_interactive);
	values[2] = Int32GetDatum(worst_minute(sim.seen, sim.n_seen));
	values[3] = Float8GetDatum((double) late / (end - NET_WINDOW_US) * MINUTE_US / sim.limit);
	values[4] = Int64GetDatum(sim.longest_wait);
	values[5] = Int32GetDatum(sim.n_slow);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

static void
simulate_interactive(Simulation *sim, double per_minute)
{
	int64		now = sim->interactive_ask;
	int64		wait = angles_net_window_take(sim->window, sim->limit,
												 ANGLES_RATE_INTERACTIVE, now);
	double		pause;

	if (wait > 0)
	{
		/* a worker waits in whole milliseconds, and wakes up a little late */
		sim->interactive_ask = now + (wait / 1000 + 1) * 1000 +
			pg_prng_uint64_range(&sim->prng, 0, 2000);
		return;
	}
	see(sim, now);
	sim->n_interactive++;
	if (now - sim->interactive_at > 2 * USECS_PER_SEC)
		sim->n_slow++;
	sim->longest_wait = Max(sim->longest_wait, now - sim->interactive_at);
	pause = -log(1.0 - pg_prng_double(&sim->prng)) * MINUTE_US / per_minute;
	sim->interactive_at += (int64) pause;
	sim->interactive_ask = Max(now, sim->interactive_at);
}

static void
simulate_backlog(Simulation *sim)
{
	int64		now = sim->backlog_ask;
	int64		wait = angles_net_window_take(sim->window, sim->limit, ANGLES_RATE_BACKLOG, now);

	if (wait == 0)
		see(sim, now);
	else
		sim->backlog_ask = now + (wait / 1000 + 1) * 1000 +
			pg_prng_uint64_range(&sim->prng, 0, 2000);
}

static void
see(Simulation *sim, int64 now)
{
	if (sim->n_seen == sim->size)
	{
		sim->size *= 2;
		sim->seen = repalloc_huge(sim->seen, sim->size * sizeof(int64));
	}
	sim->seen[sim->n_seen++] = now + pg_prng_uint64_range(&sim->prng, 0, TRAVEL_US - 1);
}

static int
compare_times(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

/* The most requests in any 60 s, by looking at all of them. */
static int
worst_minute(int64 *seen, int n)
{
	int			worst = 0;
	int			first = 0;

	qsort(seen, n, sizeof(int64), compare_times);
	for (int i = 0; i < n; i++)
	{
		while (seen[first] <= seen[i] - MINUTE_US)
			first++;
		worst = Max(worst, i - first + 1);
	}
	return worst;
}

/* ---------- the real windows in shared memory ---------- */

/*
 * angles_net_test_rate_take(fingerprint, limit, backlog, n): asks n times; the last answer in us.
 */
Datum
angles_net_test_rate_take(PG_FUNCTION_ARGS)
{
	int64		wait = 0;

	for (int i = 0; i < PG_GETARG_INT32(3); i++)
		wait = angles_rate_take((uint64) PG_GETARG_INT64(0), PG_GETARG_INT32(1),
								PG_GETARG_BOOL(2) ? ANGLES_RATE_BACKLOG : ANGLES_RATE_INTERACTIVE);
	PG_RETURN_INT64(wait);
}

Datum
angles_net_test_rate_pause(PG_FUNCTION_ARGS)
{
	angles_rate_pause((uint64) PG_GETARG_INT64(0), PG_GETARG_INT32(1),
					  text_to_cstring(PG_GETARG_TEXT_PP(2)));
	PG_RETURN_VOID();
}

Datum
angles_net_test_rate_resume(PG_FUNCTION_ARGS)
{
	angles_rate_resume((uint64) PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

/* Returns "known used full paused reason", the times in whole seconds, rounded up. */
Datum
angles_net_test_rate_get(PG_FUNCTION_ARGS)
{
	AnglesRateState state;
	bool		known = angles_rate_get((uint64) PG_GETARG_INT64(0), &state);

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s %d %d %d %s", known ? "known" : "unknown",
											  state.used,
											  (int) ((state.full_us + 999999) / 1000000),
											  (int) ((state.paused_us + 999999) / 1000000),
											  state.reason)));
}

Datum
angles_net_test_rate_save(PG_FUNCTION_ARGS)
{
	angles_rate_save();
	PG_RETURN_VOID();
}

/* angles_net_test_breaker(fingerprint, "ask" | "success" | "failure" | "open"). */
Datum
angles_net_test_breaker(PG_FUNCTION_ARGS)
{
	uint64		fingerprint = (uint64) PG_GETARG_INT64(0);
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			failures;
	int64		open_us;

	if (strcmp(what, "ask") == 0)
		PG_RETURN_INT64(angles_breaker_ask(fingerprint));
	if (strcmp(what, "success") == 0)
		angles_breaker_success(fingerprint);
	else if (strcmp(what, "failure") == 0)
		angles_breaker_failure(fingerprint);
	PG_RETURN_INT64(angles_breaker_is_open(fingerprint, &failures, &open_us)
					? failures : -failures);
}

/* angles_net_test_backoff(attempt, retry_after_s). */
Datum
angles_net_test_backoff(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(angles_backoff_us(PG_GETARG_INT32(0), PG_GETARG_INT32(1)));
}

#endif							/* ANGLES_TEST */
