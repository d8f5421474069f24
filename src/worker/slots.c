/*
 * slots.c
 *		See slots.h. The launcher owns the places of bridges, each bridge the places of its sync and
 *		apply workers; user backends only set flags and latches.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/guc.h"
#include "core/shmem.h"
#include "net/net.h"
#include "worker/identity.h"
#include "worker/slots.h"
#include "worker/worker.h"

AnglesShared *angles_shared = NULL;
AnglesSlot *angles_my_slot = NULL;
AnglesPlace *angles_my_place = NULL;
AnglesKind	angles_my_kind;
uint64		angles_my_serial = 0;

static AnglesLeave my_reason = LEAVE_DIED;
static bool took_over = false;	/* this process has asked how the last one ended */
static AnglesSlot *wake_slot = NULL;	/* of angles_wake_prepare() */

static Size shared_size(void);
static void shared_init(void *part);
static void init_slot(AnglesSlot *slot);
static void wake(AnglesSlot *slot, pg_atomic_uint32 *flag, AnglesPlace *place);
static void leave(int code, Datum arg);
static bool was_told_to_end(void);
static void count_leave(AnglesPlace *place, AnglesLeave why);

void
angles_slots_install(void)
{
	angles_shmem_register("angles workers", shared_size, shared_init, (void **) &angles_shared);
}

static Size
shared_size(void)
{
	return add_size(offsetof(AnglesShared, slots),
					mul_size(angles_guc_max_databases, sizeof(AnglesSlot)));
}

/* Runs in the postmaster, also after a crash of a backend: nothing of the old processes is left. */
static void
shared_init(void *part)
{
	static bool made_before = false;
	AnglesShared *shared = part;

	memset(shared, 0, shared_size());
	/* one postmaster makes its shared memory again only when a process of its has crashed */
	shared->after_crash = made_before;
	made_before = true;
	shared->tranche = LWLockNewTrancheId();
	LWLockRegisterTranche(shared->tranche, "AnglesWorkers");
	LWLockInitialize(&shared->lock, shared->tranche);
	pg_atomic_init_u32(&shared->launcher_proc, 0);
	pg_atomic_init_u32(&shared->rescan, 1);
	shared->n_slots = angles_guc_max_databases;
	for (int i = 0; i < shared->n_slots; i++)
	{
		init_slot(&shared->slots[i]);
		shared->slots[i].sync.died = shared->after_crash;
	}
	angles_identity_read_parts(&shared->identity);
}

static void
init_slot(AnglesSlot *slot)
{
	pg_atomic_init_u32(&slot->dboid, InvalidOid);
	pg_atomic_init_u32(&slot->bridge.proc, 0);
	pg_atomic_init_u32(&slot->sync.proc, 0);
	pg_atomic_init_u32(&slot->apply.proc, 0);
	for (int i = 0; i < ANGLES_JOBS; i++)
		pg_atomic_init_u32(&slot->jobs[i].proc, 0);
	pg_atomic_init_u32(&slot->look, 0);
	pg_atomic_init_u32(&slot->later_look, 0);
	pg_atomic_init_u32(&slot->runs_wake, 0);
	pg_atomic_init_u32(&slot->sync_wake, 0);
	pg_atomic_init_u32(&slot->apply_wake, 0);
	pg_atomic_init_u64(&slot->sending, 0);
	for (int i = 0; i < ANGLES_CALLS; i++)
		pg_atomic_init_u32(&slot->calls[i].cancelled, 0);
	for (int i = 0; i < ANGLES_WAITERS; i++)
		pg_atomic_init_u32(&slot->waiters[i], 0);
}

/* ---- finding and making slots ---- */

AnglesSlot *
angles_slots_find(Oid dboid)
{
	if (angles_shared == NULL || !OidIsValid(dboid))
		return NULL;
	for (int i = 0; i < angles_shared->n_slots; i++)
	{
		if (pg_atomic_read_u32(&angles_shared->slots[i].dboid) == dboid)
			return &angles_shared->slots[i];
	}
	return NULL;
}

AnglesSlot *
angles_slots_claim(Oid dboid, Oid *evicted)
{
	AnglesSlot *slot = angles_slots_find(dboid);
	AnglesSlot *absent = NULL;

	*evicted = InvalidOid;
	if (slot != NULL)
		return slot;
	for (int i = 0; i < angles_shared->n_slots; i++)
	{
		AnglesSlot *other = &angles_shared->slots[i];

		if (pg_atomic_read_u32(&other->dboid) == InvalidOid)
		{
			slot = other;
			break;
		}
		if (other->content == CONTENT_ABSENT && other->bridge.state == PLACE_EMPTY &&
			other->hold_pid == 0 && pg_atomic_read_u32(&other->look) == 0 &&
			pg_atomic_read_u32(&other->later_look) == 0)
			absent = other;
	}
	if (slot == NULL && absent != NULL)
	{
		*evicted = pg_atomic_read_u32(&absent->dboid);
		angles_slots_free(absent);
		slot = absent;
	}
	if (slot != NULL)
	{
		slot->bridge.due_us = angles_clock_mono_us();
		pg_atomic_write_u32(&slot->dboid, dboid);
	}
	return slot;
}

void
angles_slots_look_here(bool prepared)
{
	AnglesSlot *slot;
	Oid			evicted;

	/* in one go: a slot of an ABSENT database may be given away as long as nobody says "look" */
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	slot = angles_slots_claim(MyDatabaseId, &evicted);
	if (slot != NULL)
		pg_atomic_exchange_u32(prepared ? &slot->later_look : &slot->look, 1);
	LWLockRelease(&angles_shared->lock);
	if (slot != NULL && !prepared)
		angles_slots_look(slot);
}

void
angles_slots_free(AnglesSlot *slot)
{
	uint32		bridge_token = slot->bridge.token;
	uint32		sync_token = slot->sync.token;
	uint32		apply_token = slot->apply.token;
	uint32		job_tokens[ANGLES_JOBS];

	for (int i = 0; i < ANGLES_JOBS; i++)
		job_tokens[i] = slot->jobs[i].token;
	pg_atomic_write_u32(&slot->dboid, InvalidOid);
	memset(slot, 0, sizeof(*slot));
	init_slot(slot);
	/* a process on its way to the old owner must not get in */
	slot->bridge.token = bridge_token + 1;
	slot->sync.token = sync_token + 1;
	slot->apply.token = apply_token + 1;
	for (int i = 0; i < ANGLES_JOBS; i++)
		slot->jobs[i].token = job_tokens[i] + 1;
}

AnglesPlace *
angles_slots_place(AnglesSlot *slot, AnglesKind kind, int job)
{
	switch (kind)
	{
		case KIND_BRIDGE:
			return &slot->bridge;
		case KIND_SYNC:
			return &slot->sync;
		case KIND_APPLY:
			return &slot->apply;
		case KIND_JOB:
			return &slot->jobs[job];
	}
	pg_unreachable();
}

/* ---- latches ---- */

void
angles_slots_poke(uint32 proc)
{
	/* PGPROCs are shared memory for the life of the server; a stale index wakes a stranger, once */
	if (proc != 0)
		SetLatch(&GetPGProcByNumber(proc - 1)->procLatch);
}

void
angles_slots_poke_launcher(void)
{
	angles_slots_poke(pg_atomic_read_u32(&angles_shared->launcher_proc));
}

void
angles_slots_poke_bridge(AnglesSlot *slot)
{
	angles_slots_poke(pg_atomic_read_u32(&slot->bridge.proc));
}

void
angles_slots_look(AnglesSlot *slot)
{
	/*
	 * Flag first, then the process: one that leaves at this moment takes its index away first and
	 * looks at the flag afterwards, so one of the two sees the other (atomics are full barriers).
	 */
	pg_atomic_exchange_u32(&slot->look, 1);
	if (pg_atomic_read_u32(&slot->bridge.proc) != 0)
		angles_slots_poke_bridge(slot);
	else
		angles_slots_poke_launcher();
}

void
angles_slots_wake_runs(AnglesSlot *slot)
{
	if (pg_atomic_exchange_u32(&slot->runs_wake, 1) == 0)
		angles_slots_poke_bridge(slot);
}

void
angles_slots_wake_sync(AnglesSlot *slot)
{
	wake(slot, &slot->sync_wake, &slot->sync);
}

void
angles_slots_wake_apply(AnglesSlot *slot)
{
	wake(slot, &slot->apply_wake, &slot->apply);
}

/* Wakes the process in the place, or the bridge, which starts one. */
static void
wake(AnglesSlot *slot, pg_atomic_uint32 *flag, AnglesPlace *place)
{
	uint32		proc;

	/* already asked, and nobody has looked since: whoever asked first has set the latch */
	if (pg_atomic_exchange_u32(flag, 1) != 0)
		return;
	proc = pg_atomic_read_u32(&place->proc);
	if (proc != 0)
		angles_slots_poke(proc);
	else
		angles_slots_poke_bridge(slot);
}

/* ---- wake-up at commit ---- */

void
angles_wake_prepare(void)
{
	/* a slot is freed only when its database is gone or has no extension */
	if (wake_slot == NULL || pg_atomic_read_u32(&wake_slot->dboid) != MyDatabaseId)
		wake_slot = angles_slots_find(MyDatabaseId);
}

void
angles_wake_fire(void)
{
	if (wake_slot != NULL)
		angles_slots_wake_sync(wake_slot);
}

void
angles_wake_now(void)
{
	angles_wake_prepare();
	angles_wake_fire();
}

/* ---- coming and going of a process ---- */

Oid
angles_slots_enter(AnglesKind kind, Datum main_arg)
{
	int			index = DatumGetInt32(main_arg);
	AnglesSlot *slot;
	AnglesPlace *place;
	AnglesStart start;
	bool		mine;

	if (angles_shared == NULL || index < 0 || index >= angles_shared->n_slots)
		elog(ERROR, "worker of angles started for no slot");
	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	slot = &angles_shared->slots[index];
	place = angles_slots_place(slot, kind, start.job);

	/*
	 * Registered first, so that a place once taken is given back whatever happens. As an
	 * on_shmem_exit callback that is older than the connection it runs after this process has
	 * left the list of those that are in the database.
	 */
	angles_my_kind = kind;
	angles_my_serial = start.serial;
	on_shmem_exit(leave, 0);

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	mine = pg_atomic_read_u32(&slot->dboid) == start.dboid && slot->hold_pid == 0 &&
		place->state == PLACE_STARTING && place->token == start.token;
	if (mine)
	{
		place->state = PLACE_RUNNING;
		place->pid = MyProcPid;
		place->since_us = angles_clock_mono_us();
		angles_my_slot = slot;
		angles_my_place = place;
		pg_atomic_exchange_u32(&place->proc, ANGLES_MY_PROC_NUMBER + 1);
	}
	LWLockRelease(&angles_shared->lock);
	if (!mine)
		proc_exit(0);
	return start.role;
}

void
angles_slots_leave_because(AnglesLeave why)
{
	my_reason = why;
}

static void
leave(int code, Datum arg)
{
	AnglesSlot *slot = angles_my_slot;
	AnglesPlace *place = angles_my_place;
	int			hold_proc;

	(void) code;
	(void) arg;
	if (place == NULL)
		return;
	angles_my_place = NULL;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	hold_proc = slot->hold_proc;
	pg_atomic_exchange_u32(&place->proc, 0);
	place->pid = 0;
	place->state = PLACE_EMPTY;
	/* one that ends before it has taken over leaves the claims of the one before as they are */
	if (took_over)
		place->died = my_reason == LEAVE_DIED && !was_told_to_end();
	/* who was stopped for a command on the database has not failed */
	count_leave(place, hold_proc != 0 ? LEAVE_LOOK_AGAIN : my_reason);
	if (angles_my_kind == KIND_SYNC || angles_my_kind == KIND_JOB)
	{
		for (int i = 0; i < ANGLES_CALLS; i++)
		{
			if (slot->calls[i].state != CALL_TAKEN ||
				slot->calls[i].taker != (angles_my_kind == KIND_JOB ? MyProcPid : 0))
				continue;
			slot->calls[i].taker = 0;
			slot->calls[i].state = CALL_LOST;
			pg_atomic_write_u32(&slot->runs_wake, 1);
		}
	}
	/* it may have died in the middle of something */
	if (place->left != LEAVE_IDLE && angles_my_kind == KIND_SYNC)
		pg_atomic_write_u32(&slot->sync_wake, 1);
	if (place->left != LEAVE_IDLE && angles_my_kind == KIND_APPLY)
		pg_atomic_write_u32(&slot->apply_wake, 1);
	LWLockRelease(&angles_shared->lock);

	if (angles_my_kind == KIND_BRIDGE)
		angles_slots_poke_launcher();
	else
		angles_slots_poke_bridge(slot);
	angles_slots_poke(hold_proc);
}

/* Returns true when this process has got a SIGTERM: die() notes that here for the statistics. */
static bool
was_told_to_end(void)
{
	return pgStatSessionEndCause == DISCONNECT_KILLED;
}

bool
angles_worker_predecessor_died(void)
{
	bool		died;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	died = angles_my_place->died;
	LWLockRelease(&angles_shared->lock);
	took_over = true;
	return died;
}

void
angles_worker_reading(int32 link_id)
{
	/* one writer, and read by his successor only */
	if (angles_my_place != NULL)
		angles_my_place->reading = link_id;
}

int32
angles_worker_died_reading(void)
{
	int32		link_id = angles_my_place->died ? angles_my_place->reading : 0;

	angles_my_place->reading = 0;
	return link_id;
}

/* Keeps why a process left and when the next may start. The caller holds the lock. */
static void
count_leave(AnglesPlace *place, AnglesLeave why)
{
	int64		now = angles_clock_mono_us();

	place->left = why;
	place->due_us = now;
	if (why == LEAVE_IDLE || now - place->since_us > ANGLES_GOOD_LIFE_US)
		place->failures = 0;
	if (why == LEAVE_DIED)
		place->due_us = now + angles_backoff_us(++place->failures, -1);
}

/* ---- starting and stopping ---- */

BackgroundWorkerHandle *
angles_slots_start(AnglesSlot *slot, AnglesKind kind, const AnglesStart *how)
{
	static const char *const names[] = {
		"angles bridge", "angles sync", "angles apply", "angles job"
	};
	static const char *const functions[] = {
		"angles_bridge_main", "angles_sync_main", "angles_apply_main", "angles_job_main"
	};
	AnglesPlace *place = angles_slots_place(slot, kind, how->job);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	AnglesStart start = *how;
	bool		wanted;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	wanted = place->state == PLACE_EMPTY && slot->hold_pid == 0;
	if (wanted)
	{
		place->state = PLACE_STARTING;
		place->token++;
		place->since_us = angles_clock_mono_us();
	}
	start.dboid = pg_atomic_read_u32(&slot->dboid);
	start.token = place->token;
	LWLockRelease(&angles_shared->lock);
	if (!wanted)
		return NULL;

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s, database %u", names[kind], start.dboid);
	strlcpy(worker.bgw_type, names[kind], BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "angles", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, functions[kind], sizeof(worker.bgw_function_name));
	worker.bgw_main_arg = Int32GetDatum((int32) (slot - angles_shared->slots));
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &start, sizeof(start));
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
		return handle;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (place->state == PLACE_STARTING && place->token == start.token)
		place->state = PLACE_EMPTY;
	LWLockRelease(&angles_shared->lock);
	return NULL;
}

bool
angles_slots_start_failed(AnglesPlace *place, BackgroundWorkerHandle *handle)
{
	pid_t		pid;
	bool		failed;

	if (handle != NULL)
		failed = GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED;
	else
		failed = angles_clock_mono_us() > place->since_us + ANGLES_START_PATIENCE_US;
	if (!failed)
		return false;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	failed = place->state == PLACE_STARTING;
	if (failed)
	{
		place->state = PLACE_EMPTY;
		place->token++;
		count_leave(place, LEAVE_DIED);
	}
	LWLockRelease(&angles_shared->lock);
	return failed;
}

void
angles_slots_stop(AnglesPlace *place)
{
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	/* the pid is taken out under this lock before the process ends: it cannot be another's yet */
	if (place->state == PLACE_RUNNING)
		kill(place->pid, SIGTERM);
	else if (place->state == PLACE_STARTING)
	{
		place->state = PLACE_EMPTY;
		place->token++;
	}
	LWLockRelease(&angles_shared->lock);
}

void
angles_slots_stop_jobs(AnglesSlot *slot)
{
	for (int i = 0; slot != NULL && i < ANGLES_JOBS; i++)
		angles_slots_stop(&slot->jobs[i]);
}

void
angles_slots_stop_workers(AnglesSlot *slot)
{
	angles_slots_stop(&slot->sync);
	angles_slots_stop(&slot->apply);
	angles_slots_stop_jobs(slot);
}

bool
angles_slots_has(const AnglesSlot *slot, pid_t pid)
{
	bool		found = slot->bridge.pid == pid || slot->sync.pid == pid || slot->apply.pid == pid;

	for (int i = 0; i < ANGLES_JOBS; i++)
		found = found || slot->jobs[i].pid == pid;
	return found;
}

bool
angles_slots_are_empty(const AnglesSlot *slot, bool with_starting)
{
	const AnglesPlace *places[3 + ANGLES_JOBS] = {&slot->bridge, &slot->sync, &slot->apply};

	for (int i = 0; i < ANGLES_JOBS; i++)
		places[3 + i] = &slot->jobs[i];
	for (int i = 0; i < lengthof(places); i++)
	{
		if (places[i]->state == PLACE_RUNNING ||
			(with_starting && places[i]->state == PLACE_STARTING))
			return false;
	}
	return true;
}
