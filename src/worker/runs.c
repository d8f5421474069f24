/*
 * runs.c
 *		The bridge's half of runs: rows for what sessions ask for, hand-out to workers, burial of
 *		what died, retries, expiry. Runs in the bridge only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/txn.h"
#include "net/net.h"
#include "worker/calls.h"
#include "worker/slots.h"
#include "worker/worker.h"

/* Finished runs are kept this long, and at most this many; deleted in batches. */
#define KEEP_DAYS 30
#define KEEP_RUNS 10000
#define EXPIRE_BATCH 1000

static void serve_posted(AnglesCallEntry *entry, uint64 serial);
static int64 insert_run(const AnglesRequest *request);
static void refuse(dsm_segment *segment, int sqlerrcode, const char *message, const char *hint);
static bool bury(AnglesCallEntry *entry, uint64 serial, int64 run_id, bool lost);
static void postpone(AnglesCallEntry *entry, uint64 serial, int64 not_before_us);
static void free_entry(AnglesCallEntry *entry, uint64 serial);
static bool mark_crashed(int64 run_id);
static bool mark_cancelled(int64 run_id);
static bool hand_over(int64 run_id, const AnglesTask *task);
static int	room_for_queued(void);

/* ---- posted, lost and cancelled calls ---- */

int64
angles_runs_serve_calls(void)
{
	int64		next = INT64_MAX;

	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];
		AnglesCallState state;
		uint64		serial;
		int64		run_id;
		int64		not_before_us;
		int64		now;
		bool		cancelled;

		LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
		state = entry->state;
		serial = entry->serial;
		run_id = entry->run_id;
		not_before_us = entry->not_before_us;
		cancelled = pg_atomic_read_u32(&entry->cancelled) != 0;
		if (state == CALL_POSTED)
			entry->tries++;
		LWLockRelease(&angles_shared->lock);

		now = angles_clock_mono_us();
		if (state == CALL_POSTED)
			serve_posted(entry, serial);
		else if (state != CALL_LOST && state != CALL_READY)
			continue;
		else if (not_before_us > now)
			next = Min(next, not_before_us);
		else if (state == CALL_LOST || cancelled)
		{
			if (bury(entry, serial, run_id, state == CALL_LOST))
				continue;
			postpone(entry, serial, now + ANGLES_HELD_RETRY_US);
			next = Min(next, now + ANGLES_HELD_RETRY_US);
		}
		else if (not_before_us != 0)
		{
			/* somebody held its row when it was to be started: now it may be tried again */
			postpone(entry, serial, 0);
			angles_slots_wake_sync(angles_my_slot);
		}
	}
	return next;
}

/* Writes the row of a run that a session waits for, then lets the sync worker have it. */
static void
serve_posted(AnglesCallEntry *entry, uint64 serial)
{
	dsm_segment *segment = dsm_attach(entry->dsm);
	int64		run_id;
	int			waiter_proc;
	bool		wanted;
	bool		is_job;

	/* the session went away: it took the entry back, or is about to */
	if (segment == NULL)
	{
		free_entry(entry, serial);
		return;
	}
	dsm_pin_mapping(segment);
	if (entry->tries > ANGLES_CALL_TRIES)
	{
		refuse(segment, ERRCODE_ANGLES_NO_WORKER,
			   "the bridge of this database failed several times on this request",
			   "Look for its error in the server's log.");
		free_entry(entry, serial);
		return;
	}
	angles_txn_begin("angles: writing a run");
	angles_worker_recheck();
	run_id = insert_run(dsm_segment_address(segment));
	angles_txn_commit();
	dsm_detach(segment);

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	wanted = entry->serial == serial && entry->state == CALL_POSTED;
	if (wanted)
	{
		entry->run_id = run_id;
		entry->state = CALL_READY;
	}
	waiter_proc = entry->waiter_proc;
	is_job = entry->job;
	LWLockRelease(&angles_shared->lock);
	if (!wanted)
	{
		angles_txn_begin("angles: cancelling a run");
		angles_worker_recheck();
		/* nobody else has had the time to hold this row */
		(void) mark_cancelled(run_id);
		angles_txn_commit();
		return;
	}
	angles_slots_poke(waiter_proc);
	/* the bridge looks after jobs itself, right after this */
	if (!is_job)
		angles_slots_wake_sync(angles_my_slot);
}

static int64
insert_run(const AnglesRequest *request)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];
	bool		isnull;

	values[0] = CStringGetTextDatum(request->task);
	values[1] = CStringGetTextDatum(request->args);
	values[2] = CStringGetTextDatum(request->requested_by);
	/* somebody waits for the answer and hears of a failure himself: no second attempt behind him */
	angles_spi_exec(&plan,
					"INSERT INTO angles.runs (task, args, requested_by, max_attempts) "
					"VALUES ($1, $2::jsonb, $3, 1) RETURNING id",
					3, types, values, NULL, SPI_OK_INSERT_RETURNING);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* Answers a request with an error in the worker's stead, and detaches. */
static void
refuse(dsm_segment *segment, int sqlerrcode, const char *message, const char *hint)
{
	AnglesRequest *request = dsm_segment_address(segment);
	shm_mq	   *queue = (shm_mq *) ((char *) request + request->queue_offset);
	shm_mq_handle *handle;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, MESSAGE_END);
	appendBinaryStringInfo(&buf, "failed", sizeof("failed"));
	appendBinaryStringInfo(&buf, angles_sqlstate_text(sqlerrcode), 6);
	appendBinaryStringInfo(&buf, message, strlen(message) + 1);
	appendBinaryStringInfo(&buf, "", 1);
	appendBinaryStringInfo(&buf, hint, strlen(hint) + 1);
	shm_mq_set_sender(queue, MyProc);
	handle = shm_mq_attach(queue, segment, NULL);
	/* an empty queue has room for this; should the session be gone, nobody needs it */
	(void) shm_mq_send(handle, buf.len, buf.data, true, true);
	dsm_detach(segment);
}

/*
 * Ends a call that the sync worker died with, or that was cancelled before it was taken. Returns
 * false when somebody holds its row.
 */
static bool
bury(AnglesCallEntry *entry, uint64 serial, int64 run_id, bool lost)
{
	bool		done;

	angles_txn_begin("angles: closing a run");
	angles_worker_recheck();
	done = lost ? mark_crashed(run_id) : mark_cancelled(run_id);
	angles_txn_commit();
	if (done)
		free_entry(entry, serial);
	return done;
}

static void
postpone(AnglesCallEntry *entry, uint64 serial, int64 not_before_us)
{
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (entry->serial == serial)
		entry->not_before_us = not_before_us;
	LWLockRelease(&angles_shared->lock);
}

/* Empties an entry unless it is another's by now, and wakes the session that waits for it. */
static void
free_entry(AnglesCallEntry *entry, uint64 serial)
{
	int			waiter_proc = 0;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (entry->serial == serial && entry->state != CALL_TAKEN)
	{
		waiter_proc = entry->waiter_proc;
		entry->state = CALL_FREE;
		entry->dsm = DSM_HANDLE_INVALID;
		entry->waiter_proc = 0;
	}
	LWLockRelease(&angles_shared->lock);
	angles_slots_poke(waiter_proc);
}

/* ---- the books ---- */

bool
angles_runs_open(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1] = {angles_runs_in_flight()};
	uint64		n;
	int64	   *ids;
	bool		all = true;

	/* what no living worker has in hand went down with a dead one */
	n = angles_spi_exec(&plan,
						"SELECT id FROM angles.runs WHERE state = 'running' AND id <> ALL ($1)",
						1, types, values, NULL, SPI_OK_SELECT);
	ids = palloc(n * sizeof(int64));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
											 &isnull));
	}
	for (uint64 i = 0; i < n; i++)
		all = mark_crashed(ids[i]) && all;
	return all;
}

/* Returns false when somebody holds the row of the run. */
static bool
mark_crashed(int64 run_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(run_id), Int64GetDatum(angles_backoff_us(1, -1))};

	if (!angles_run_lock(run_id))
		return false;
	angles_spi_exec(&plan, "SELECT angles.run_crashed($1, $2)", 2, types, values, NULL,
					SPI_OK_SELECT);
	return true;
}

/* Returns false when somebody holds the row of the run. */
static bool
mark_cancelled(int64 run_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(run_id)};

	if (!angles_run_lock(run_id))
		return false;
	angles_spi_exec(&plan,
					"UPDATE angles.runs SET state = 'cancelled', next_attempt_at = NULL, "
					"finished_at = pg_catalog.clock_timestamp() "
					"WHERE id = $1 AND (state = 'queued' OR next_attempt_at IS NOT NULL)",
					1, types, values, NULL, SPI_OK_UPDATE);
	return true;
}

Datum
angles_runs_in_flight(void)
{
	Datum		ids[ANGLES_CALLS];
	int			n = 0;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];

		if (entry->state != CALL_FREE && entry->state != CALL_POSTED)
			ids[n++] = entry->run_id;
	}
	LWLockRelease(&angles_shared->lock);
	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum((int64) ids[i]);
	return PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

int64
angles_runs_hand_out(bool fenced)
{
	static SPIPlanPtr due_plan = NULL;
	static SPIPlanPtr next_plan = NULL;
	Oid			types[3] = {INT8ARRAYOID, INT4OID, TIMESTAMPTZOID};
	Datum		values[3];
	int			room = room_for_queued();
	int64		next = INT64_MAX;
	bool		handed = false;
	bool		isnull;
	Datum		wait_us;

	angles_txn_begin("angles: handing out runs");
	angles_worker_recheck();
	values[0] = angles_runs_in_flight();
	values[1] = Int32GetDatum(ANGLES_CALLS);
	/* one instant for both: a retry that falls due between them must not escape either */
	values[2] = TimestampTzGetDatum(angles_clock_now());
	angles_spi_exec(&due_plan,
					"SELECT id, task FROM angles.runs "
					"WHERE (state = 'queued' OR next_attempt_at <= $3) "
					"AND id <> ALL ($1) ORDER BY coalesce(next_attempt_at, requested_at), id "
					"LIMIT $2",
					3, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed && room > 0; i++)
	{
		/* a task that only another version knows is the sync worker's to refuse */
		const AnglesTask *task = angles_task_find(angles_spi_text(i, 2, CurrentMemoryContext));
		bool		fence_free = task != NULL && task->fence_free;
		Datum		id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		if ((!fenced || fence_free) && hand_over(DatumGetInt64(id), task))
		{
			handed = handed || task == NULL || !task->job;
			room--;
		}
	}

	angles_spi_exec(&next_plan,
					"SELECT (1000000 * extract(epoch FROM min(next_attempt_at) - $1))::bigint "
					"FROM angles.runs WHERE next_attempt_at > $1",
					1, &types[2], &values[2], NULL, SPI_OK_SELECT);
	wait_us = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		next = angles_clock_mono_us() + Max(DatumGetInt64(wait_us), 1000);
	angles_txn_commit();
	if (handed)
		angles_slots_wake_sync(angles_my_slot);
	return next;
}

/* Returns how many more runs without a waiting session may be in shared memory. */
static int
room_for_queued(void)
{
	int			used = 0;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];

		if (entry->state != CALL_FREE && entry->dsm == DSM_HANDLE_INVALID)
			used++;
	}
	LWLockRelease(&angles_shared->lock);
	return ANGLES_CALLS_FOR_QUEUED - used;
}

/* Puts a run of the table into shared memory. Returns false when there is no place. */
static bool
hand_over(int64 run_id, const AnglesTask *task)
{
	bool		done = false;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ANGLES_CALLS && !done; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];

		if (entry->state != CALL_FREE)
			continue;
		entry->state = CALL_READY;
		entry->serial = ++angles_shared->last_serial;
		entry->run_id = run_id;
		entry->not_before_us = 0;
		entry->dsm = DSM_HANDLE_INVALID;
		entry->waiter_proc = 0;
		entry->tries = 0;
		entry->fence_free = task != NULL && task->fence_free;
		entry->job = task != NULL && task->job;
		entry->taker = 0;
		strlcpy(entry->task, task ? task->name : "", sizeof(entry->task));
		pg_atomic_write_u32(&entry->cancelled, 0);
		done = true;
	}
	LWLockRelease(&angles_shared->lock);
	return done;
}

bool
angles_runs_ready(void)
{
	bool		ready = false;
	int64		now = angles_clock_mono_us();

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];

		ready = ready || (!entry->job && angles_call_is_ready(entry, now));
	}
	LWLockRelease(&angles_shared->lock);
	return ready;
}

bool
angles_call_is_ready(AnglesCallEntry *entry, int64 now)
{
	return entry->state == CALL_READY && entry->not_before_us <= now &&
		(entry->fence_free || !angles_my_slot->fenced) &&
		pg_atomic_read_u32(&entry->cancelled) == 0;
}

bool
angles_runs_expire(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, INT4OID, INT4OID};
	Datum		values[3] = {
		Int32GetDatum(KEEP_DAYS), Int32GetDatum(KEEP_RUNS), Int32GetDatum(EXPIRE_BATCH)
	};
	uint64		deleted;

	angles_txn_begin("angles: deleting old runs");
	angles_worker_recheck();
	/* both limits by the primary key; ids grow with the time of the request */
	deleted = angles_spi_exec(&plan,
							  "DELETE FROM angles.runs WHERE id IN ("
							  "SELECT id FROM angles.runs WHERE next_attempt_at IS NULL "
							  "AND state NOT IN ('queued', 'running') "
							  "AND (requested_at < now() - make_interval(days => $1) "
							  "OR id <= (SELECT id FROM angles.runs "
							  "ORDER BY id DESC OFFSET $2 LIMIT 1)) ORDER BY id LIMIT $3 "
							  "FOR UPDATE SKIP LOCKED)",
							  3, types, values, NULL, SPI_OK_DELETE);
	angles_txn_commit();
	return deleted == EXPIRE_BATCH;
}
