/*
 * bridge.c
 *		The bridge: one process in each database that has the extension. It keeps the books of runs,
 *		takes requests of sessions, and starts the sync worker, apply workers and jobs when there
 *		is something for them. It never uses the network and never runs code of users.
 *
 * An error ends the process; the launcher starts another one after a delay. What matters is in
 * tables and shared memory, so nothing is lost with it.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/guc.h"
#include "core/txn.h"
#include "core/wait.h"
#include "worker/calls.h"
#include "worker/enter.h"
#include "worker/extension.h"
#include "worker/identity.h"
#include "worker/slots.h"
#include "worker/worker.h"

extern PGDLLEXPORT void angles_bridge_main(Datum main_arg);

/* Old runs are looked for after this many sweeps (a day at the default interval). */
#define SWEEPS_BETWEEN_EXPIRY 1440

/* Deaths in a row after which the sync worker is a matter for people. */
#define DEATHS_TO_ALERT 5

/* While the server has no free worker process: time between two tries. */
#define SHORTAGE_RETRY_US INT64CONST(1000000)

static BackgroundWorkerHandle *handles[KIND_APPLY + 1];
static bool shortage_logged = false;
static int64 shortage_until = 0;
static int64 next_retry = INT64_MAX;	/* of a run */
static int64 next_opening = INT64_MAX;	/* of the books: somebody held a part of them */
static int64 next_settling = INT64_MAX;	/* of the identity, for the same reason */
static int64 last_sweep = 0;	/* 0: none yet */
static int	sweeps_to_expiry = 0;
/* The alerts about their deaths; at first unknown: an earlier bridge may have opened them. */
static enum
{
	ALERT_UNKNOWN, ALERT_CLOSED, ALERT_OPEN
}			death_alerts[KIND_APPLY + 1];

static void run_bridge(void);
static void keep_error(void);
static void look(void);
static void open_books(void);
static AnglesExtension settle_extension(void);
ANGLES_NORETURN static void leave_absent(void);
static void wait_for_other_version(const AnglesExtension *found);
static void set_content(AnglesContent content);
static void settle_identity(void);
static int64 next_sweep(void);
static void sweep(void);
static void find_work(bool *for_sync, bool *for_bridge, bool *for_apply);
static bool keep_worker(AnglesKind kind, int64 *next);
static bool is_wanted(AnglesKind kind);
static bool start_worker(AnglesKind kind, int64 *next);
static Oid	next_owner(void);
static void watch_deaths(AnglesKind kind);

void
angles_bridge_main(Datum main_arg)
{
	angles_enter_database(KIND_BRIDGE, main_arg, "angles bridge");
	/* whoever holds one of our tables for long: wait for him, do not die of him */
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	PG_TRY();
	{
		run_bridge();
	}
	PG_CATCH();
	{
		keep_error();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Keeps the error that ends this bridge where the next one and people find it. */
static void
keep_error(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ErrorData  *error = CopyErrorData();

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	strlcpy(angles_my_slot->last_error, error->message, ANGLES_ERROR_LEN);
	LWLockRelease(&angles_shared->lock);
	FreeErrorData(error);
	MemoryContextSwitchTo(old);
}

static void
run_bridge(void)
{
	MemoryContext turn = AllocSetContextCreate(TopMemoryContext, "angles bridge",
											   ALLOCSET_DEFAULT_SIZES);

	pg_atomic_write_u32(&angles_my_slot->look, 1);
	pg_atomic_write_u32(&angles_my_slot->runs_wake, 1);
	for (;;)
	{
		int64		next;
		int64		now;

		MemoryContextSwitchTo(turn);
		MemoryContextReset(turn);
		if (pg_atomic_exchange_u32(&angles_my_slot->look, 0) != 0 ||
			angles_clock_mono_us() >= next_settling)
			look();
		if (angles_clock_mono_us() >= next_opening)
			open_books();
		if (pg_atomic_exchange_u32(&angles_my_slot->runs_wake, 0) != 0 ||
			angles_clock_mono_us() >= next_retry)
		{
			next_retry = angles_runs_serve_calls();
			next_retry = Min(next_retry, angles_runs_hand_out(angles_my_slot->fenced));
		}
		if (angles_clock_mono_us() >= next_sweep())
			sweep();
		next = Min(Min(next_retry, next_opening), Min(next_settling, next_sweep()));
		keep_worker(KIND_SYNC, &next);
		/* that may have waited for a lock: see whether the sync worker was asked for meanwhile */
		if (keep_worker(KIND_APPLY, &next) || angles_jobs_keep(&next))
			continue;

		/* a wait for a lock on the way may have taken the latch of a wake-up with it */
		if (pg_atomic_read_u32(&angles_my_slot->look) != 0 ||
			pg_atomic_read_u32(&angles_my_slot->runs_wake) != 0)
			continue;
		now = angles_clock_mono_us();
		angles_wait(PGINVALID_SOCKET,
					(long) Min(INT_MAX, Max(0, (next - now) / 1000 + 1)));
	}
}

/* ---- the extension ---- */

/* Makes sure that the extension is there and ours; ends the process or waits when it is not. */
static void
look(void)
{
	AnglesExtension found = settle_extension();

	if (OidIsValid(angles_my_extension.oid) && angles_my_extension.oid != found.oid)
	{
		/* dropped and made anew: nothing this process knows is worth keeping */
		angles_slots_stop_workers(angles_my_slot);
		angles_leave_to_look_again();
	}
	if (!OidIsValid(angles_my_extension.oid))
	{
		angles_my_extension = found;
		open_books();
	}
	angles_my_extension = found;
	pg_atomic_write_u32(&angles_my_slot->later_look, 0);
	settle_identity();
	set_content(CONTENT_PRESENT);
	/* the fence may have opened for what was queued */
	pg_atomic_write_u32(&angles_my_slot->runs_wake, 1);
}

/* Settles the runs that went down with an earlier worker; what somebody holds, a little later. */
static void
open_books(void)
{
	bool		all;

	angles_txn_begin("angles: opening the books");
	angles_worker_recheck();
	all = angles_runs_open();
	angles_txn_commit();
	next_opening = all ? INT64_MAX : angles_clock_mono_us() + ANGLES_HELD_RETRY_US;
	/* some of them may be tried again */
	pg_atomic_write_u32(&angles_my_slot->runs_wake, 1);
}

/* Returns the extension once it is of this library's version; does not return when it is absent. */
static AnglesExtension
settle_extension(void)
{
	AnglesExtension found;

	for (;;)
	{
		Oid			seen;

		/*
		 * Without a snapshot: somebody may hold the lock for long in a transaction that drops
		 * or alters the extension, and xmin must not wait with us.
		 */
		StartTransactionCommand();
		if (!angles_extension_find(&found))
		{
			CommitTransactionCommand();
			leave_absent();
		}
		seen = found.oid;
		angles_extension_lock(seen, AccessShareLock, true);
		if (!angles_extension_find(&found) || found.oid != seen)
		{
			CommitTransactionCommand();
			continue;
		}
		CommitTransactionCommand();
		if (angles_extension_matches(&found))
			return found;
		wait_for_other_version(&found);
	}
}

static void
leave_absent(void)
{
	angles_slots_stop_workers(angles_my_slot);
	set_content(CONTENT_ABSENT);
	angles_slots_leave_because(LEAVE_IDLE);
	proc_exit(0);
}

/* The library and the SQL objects do not fit: touch nothing until somebody changes one of them. */
static void
wait_for_other_version(const AnglesExtension *found)
{
	angles_slots_stop_workers(angles_my_slot);
	set_content(CONTENT_SKEW);
	ereport(LOG,
			(errmsg("angles does nothing in database %u: extension version %s, library version %s",
					MyDatabaseId, found->version, ANGLES_VERSION),
			 errhint("Run ALTER EXTENSION angles UPDATE; or restart the server when it still runs "
					 "an older library.")));
	pgstat_report_activity(STATE_IDLE, "angles: waits for ALTER EXTENSION angles UPDATE");
	do
		angles_wait(PGINVALID_SOCKET, -1);
	while (pg_atomic_exchange_u32(&angles_my_slot->look, 0) == 0);
}

static void
set_content(AnglesContent content)
{
	bool		first;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	first = angles_my_slot->content == CONTENT_UNKNOWN;
	angles_my_slot->content = content;
	if (content == CONTENT_PRESENT)
		angles_my_slot->last_error[0] = '\0';
	LWLockRelease(&angles_shared->lock);
	/* it may be waiting to know whether all slots are in use */
	if (first)
		angles_slots_poke_launcher();
}

static void
settle_identity(void)
{
	bool		fenced;

	angles_txn_begin("angles: comparing the identity");
	angles_worker_recheck();
	fenced = angles_identity_settle();
	angles_txn_commit();
	next_settling = angles_identity_undecided
		? angles_clock_mono_us() + ANGLES_HELD_RETRY_US : INT64_MAX;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	angles_my_slot->fenced = fenced;
	LWLockRelease(&angles_shared->lock);
	/* one that was started before the fence was seen */
	if (fenced)
		angles_slots_stop(&angles_my_slot->apply);
	if (fenced && !angles_runs_ready())
		angles_slots_stop(&angles_my_slot->sync);
}

/* ---- the safety net ---- */

/* Computed anew each time, because the interval can change with a reload. */
static int64
next_sweep(void)
{
	return last_sweep == 0 ? 0 : last_sweep + (int64) angles_guc_sweep_interval * 1000;
}

/* The only query while nothing changes: is there work that nobody announced? */
static void
sweep(void)
{
	bool		for_sync;
	bool		for_bridge;
	bool		for_apply;

	last_sweep = angles_clock_mono_us();
	angles_txn_begin("angles: sweep");
	angles_worker_recheck();
	find_work(&for_sync, &for_bridge, &for_apply);
	watch_deaths(KIND_SYNC);
	watch_deaths(KIND_APPLY);
	angles_alerts_catch_up();
	angles_txn_commit();
	if (for_sync && !angles_my_slot->fenced)
		angles_slots_wake_sync(angles_my_slot);
	if (for_apply && !angles_my_slot->fenced)
		angles_slots_wake_apply(angles_my_slot);
	if (for_bridge)
		pg_atomic_write_u32(&angles_my_slot->runs_wake, 1);

	if (sweeps_to_expiry-- <= 0)
		sweeps_to_expiry = angles_runs_expire() ? 0 : SWEEPS_BETWEEN_EXPIRY;
}

static void
find_work(bool *for_sync, bool *for_bridge, bool *for_apply)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT8ARRAYOID, TEXTOID};
	Datum		values[2] = {
		angles_runs_in_flight(), CStringGetTextDatum(angles_worker_identity())
	};
	bool		foreign_links;

	angles_spi_exec(&plan,
					"SELECT angles.has_work(), EXISTS (SELECT FROM angles.runs "
					"WHERE (state = 'queued' OR next_attempt_at <= pg_catalog.clock_timestamp()) "
					"AND id <> ALL ($1)), EXISTS (SELECT FROM angles.links l, angles.identity i "
					"WHERE l.identity <> ALL (i.predecessors || $2) AND l.state <> 'unlinked'), "
					"EXISTS (SELECT FROM angles.inbox_due), EXISTS (SELECT FROM angles.links "
					"WHERE state = 'active' AND NOT paused AND direction <> 'out')",
					2, types, values, NULL, SPI_OK_SELECT);
	foreign_links = strcmp(angles_spi_text(0, 3, CurrentMemoryContext), "t") == 0;
	/* links of another server come with a dump, after the extension and this process */
	if (foreign_links != angles_identity_foreign_links)
		pg_atomic_write_u32(&angles_my_slot->look, 1);
	/* somebody has to ask Notion for changes; one that lives does so by himself */
	*for_sync = strcmp(angles_spi_text(0, 1, CurrentMemoryContext), "t") == 0 ||
		(angles_my_slot->sync.state == PLACE_EMPTY &&
		 strcmp(angles_spi_text(0, 5, CurrentMemoryContext), "t") == 0);
	*for_bridge = strcmp(angles_spi_text(0, 2, CurrentMemoryContext), "t") == 0;
	*for_apply = strcmp(angles_spi_text(0, 4, CurrentMemoryContext), "t") == 0;
}

/* ---- its workers ---- */

/*
 * Starts a worker when it is wanted and due; lowers *next when it is due later. Returns true when
 * it worked in the database for that.
 */
static bool
keep_worker(AnglesKind kind, int64 *next)
{
	AnglesPlace *place = angles_slots_place(angles_my_slot, kind, 0);

	if (place->state == PLACE_STARTING)
	{
		angles_slots_start_failed(place, handles[kind]);
		if (place->state == PLACE_STARTING && handles[kind] == NULL)
			*next = Min(*next, place->since_us + ANGLES_START_PATIENCE_US);
	}
	if (place->state != PLACE_STARTING && handles[kind] != NULL)
	{
		pfree(handles[kind]);
		handles[kind] = NULL;
	}
	if (place->state != PLACE_EMPTY || !is_wanted(kind))
		return false;
	if (angles_clock_mono_us() >= place->due_us)
		return start_worker(kind, next);
	*next = Min(*next, place->due_us);
	return false;
}

static bool
is_wanted(AnglesKind kind)
{
	if (kind == KIND_SYNC)
		return angles_runs_ready() ||
			(!angles_my_slot->fenced && pg_atomic_read_u32(&angles_my_slot->sync_wake) != 0);
	return !angles_my_slot->fenced && pg_atomic_read_u32(&angles_my_slot->apply_wake) != 0;
}

static bool
start_worker(AnglesKind kind, int64 *next)
{
	AnglesPlace *place = angles_slots_place(angles_my_slot, kind, 0);
	AnglesStart start = {0};
	MemoryContext old;

	if (angles_clock_mono_us() < shortage_until)
	{
		*next = Min(*next, shortage_until);
		return false;
	}
	/* it left because the extension was being changed: wait for the end of that */
	if (place->left == LEAVE_LOOK_AGAIN)
		look();
	if (kind == KIND_APPLY)
	{
		pg_atomic_exchange_u32(&angles_my_slot->apply_wake, 0);
		start.role = next_owner();
		/* it looks for work itself when it is in */
		if (!OidIsValid(start.role))
			return true;
	}

	old = MemoryContextSwitchTo(TopMemoryContext);
	handles[kind] = angles_slots_start(angles_my_slot, kind, &start);
	MemoryContextSwitchTo(old);
	if (handles[kind] != NULL)
	{
		shortage_logged = false;
		return kind == KIND_APPLY;
	}
	if (kind == KIND_APPLY)
		pg_atomic_write_u32(&angles_my_slot->apply_wake, 1);
	shortage_until = angles_clock_mono_us() + SHORTAGE_RETRY_US;
	*next = Min(*next, shortage_until);
	if (!shortage_logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("angles waits for a free worker process to sync database %u",
						MyDatabaseId),
				 errhint("Raise max_worker_processes if this lasts.")));
	shortage_logged = true;
	return kind == KIND_APPLY;
}

/*
 * Returns the owner of the link whose changes from Notion have waited longest: an apply worker is
 * connected as him. The last one has his turn after the others.
 */
static Oid
next_owner(void)
{
	static SPIPlanPtr plan = NULL;
	static Oid	last = InvalidOid;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(last)};
	bool		isnull;

	angles_txn_begin("angles: whose changes are to be applied");
	angles_worker_recheck();
	last = InvalidOid;
	if (angles_spi_exec(&plan,
						"SELECT owner FROM angles.inbox_due ORDER BY owner = $1, seen_at LIMIT 1",
						1, types, values, NULL, SPI_OK_SELECT) > 0)
		last = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
											  &isnull));
	angles_txn_commit();
	return last;
}

/* Opens an alert for a worker that does not stay alive, and closes it for one that does. */
static void
watch_deaths(AnglesKind kind)
{
	static const char *const names[] = {NULL, "sync", "apply"};
	static const char *const hints[] = {
		NULL, "Look for its error in the server's log.",
		"Look for its error in the server's log. It connects as the owner of a linked table, who "
		"must be able to log in."
	};
	AnglesPlace *place = angles_slots_place(angles_my_slot, kind, 0);
	char	   *fingerprint = psprintf("worker.%s", names[kind]);
	bool		lives = place->state == PLACE_RUNNING &&
		angles_clock_mono_us() - place->since_us > ANGLES_GOOD_LIFE_US;

	if (place->failures >= DEATHS_TO_ALERT && !lives && death_alerts[kind] != ALERT_OPEN)
	{
		angles_alert_open(fingerprint, "critical",
						  psprintf("the %s worker dies again and again", names[kind]),
						  NULL, hints[kind]);
		death_alerts[kind] = ALERT_OPEN;
	}
	else if ((place->failures == 0 || lives) && death_alerts[kind] != ALERT_CLOSED)
	{
		angles_alert_close(fingerprint);
		death_alerts[kind] = ALERT_CLOSED;
	}
}
