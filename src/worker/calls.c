/*
 * calls.c
 *		The worker's half of runs (sync worker, jobs): takes calls out of shared memory, sends
 *		rows to the session that waits, writes the end into angles.runs. Runs in workers only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/txn.h"
#include "core/wait.h"
#include "net/net.h"
#include "worker/calls.h"
#include "worker/slots.h"
#include "worker/worker.h"

/* Rows of a run are kept in angles.runs up to this many bytes; the session gets all of them. */
#define MAX_KEPT_RESULT (1024 * 1024)

/* A session that does not read its answer for this long is left alone with it. */
#define REPLY_PATIENCE_US (2 * INT64CONST(1000000))

struct AnglesCall
{
	AnglesCallEntry *entry;
	uint64		serial;
	int64		run_id;
	char	   *task;
	char	   *args;
	int			attempt;
	int			max_attempts;
	MemoryContext cxt;
	dsm_segment *segment;		/* NULL when nobody waits (any more) */
	shm_mq_handle *queue;
	List	   *unsent;			/* of StringInfo: messages the queue had no room for yet */
	StringInfoData result;		/* JSON array of the rows, without its end */
	bool		result_cut;
	int			n_rows;
	StringInfo	end;			/* the last message, once finished */
};

static AnglesCallEntry *take_entry(uint64 *serial, int64 *run_id, dsm_handle *handle);
static bool start_run(AnglesCall *call);
static void postpone(AnglesCall *call);
static void attach(AnglesCall *call, dsm_handle handle);
static void detach(AnglesCall *call);
static void queue_message(AnglesCall *call, char kind, const char *text);
static void send_unsent(AnglesCall *call);
static void give_back(AnglesCall *call);
static void append_field(StringInfo buf, const char *text);

AnglesCall *
angles_call_take(MemoryContext cxt)
{
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		AnglesCall *call = palloc0(sizeof(AnglesCall));
		dsm_handle	handle;

		call->cxt = cxt;
		call->entry = take_entry(&call->serial, &call->run_id, &handle);
		if (call->entry == NULL)
		{
			pfree(call);
			MemoryContextSwitchTo(old);
			return NULL;
		}
		initStringInfo(&call->result);
		MemoryContextSwitchTo(old);
		if (!angles_run_lock(call->run_id))
			postpone(call);
		else if (start_run(call))
		{
			/* not before: the queue to the session takes one sender, and never another one */
			attach(call, handle);
			return call;
		}
		else
			/* its row says that it is not to be done any more */
			give_back(call);
	}
}

bool
angles_run_lock(int64 run_id)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr find_plan = NULL;
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(run_id)};

	return angles_spi_exec(&lock_plan,
						   "SELECT FROM angles.runs WHERE id = $1 FOR UPDATE SKIP LOCKED",
						   1, types, values, NULL, SPI_OK_SELECT) > 0 ||
		angles_spi_exec(&find_plan, "SELECT FROM angles.runs WHERE id = $1",
						1, types, values, NULL, SPI_OK_SELECT) == 0;
}

/* Returns the entry this worker takes, marked as taken, or NULL: the oldest first. */
static AnglesCallEntry *
take_entry(uint64 *serial, int64 *run_id, dsm_handle *handle)
{
	AnglesCallEntry *best = NULL;
	int64		now = angles_clock_mono_us();

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];

		/* a job is for one call, and there for no other one */
		if (angles_call_is_ready(entry, now) &&
			(angles_my_kind == KIND_JOB ? entry->serial == angles_my_serial : !entry->job) &&
			(best == NULL || entry->serial < best->serial))
			best = entry;
	}
	if (best != NULL)
	{
		best->state = CALL_TAKEN;
		best->taker = angles_my_kind == KIND_JOB ? MyProcPid : 0;
		*serial = best->serial;
		*run_id = best->run_id;
		*handle = best->dsm;
	}
	LWLockRelease(&angles_shared->lock);
	return best;
}

/* Returns true when the run's row is now 'running'; fills task and args from it. */
static bool
start_run(AnglesCall *call)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(call->run_id),
	Int64GetDatum(angles_worker_generation())};
	bool		found;

	found = angles_spi_exec(&plan,
							"UPDATE angles.runs SET state = 'running', attempt = attempt + 1, "
							"started_at = pg_catalog.clock_timestamp(), finished_at = NULL, "
							"next_attempt_at = NULL, worker_generation = $2, class = NULL, "
							"sqlstate = NULL, message = NULL, detail = NULL, hint = NULL "
							"WHERE id = $1 AND (state = 'queued' OR next_attempt_at IS NOT NULL) "
							"RETURNING task, args::text, attempt::text, max_attempts::text",
							2, types, values, NULL, SPI_OK_UPDATE_RETURNING) == 1;
	if (found)
	{
		call->task = angles_spi_text(0, 1, call->cxt);
		call->args = angles_spi_text(0, 2, call->cxt);
		call->attempt = atoi(angles_spi_text(0, 3, call->cxt));
		call->max_attempts = atoi(angles_spi_text(0, 4, call->cxt));
	}
	return found;
}

/* Gives a call back that cannot be started now; the bridge wakes this worker when it may be. */
static void
postpone(AnglesCall *call)
{
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (call->entry->serial == call->serial)
	{
		call->entry->state = CALL_READY;
		call->entry->taker = 0;
		call->entry->not_before_us = angles_clock_mono_us() + ANGLES_HELD_RETRY_US;
	}
	LWLockRelease(&angles_shared->lock);
	angles_slots_wake_runs(angles_my_slot);
}

/* Connects to the session that waits, if any. */
static void
attach(AnglesCall *call, dsm_handle handle)
{
	MemoryContext old;
	AnglesRequest *request;
	shm_mq	   *queue;

	if (handle == DSM_HANDLE_INVALID)
		return;
	call->segment = dsm_attach(handle);
	if (call->segment == NULL)
		return;
	/* it lives as long as the call, not as a transaction */
	dsm_pin_mapping(call->segment);
	request = dsm_segment_address(call->segment);
	queue = (shm_mq *) ((char *) request + request->queue_offset);
	shm_mq_set_sender(queue, MyProc);
	old = MemoryContextSwitchTo(call->cxt);
	call->queue = shm_mq_attach(queue, call->segment, NULL);
	MemoryContextSwitchTo(old);
}

static void
detach(AnglesCall *call)
{
	if (call->segment != NULL)
		dsm_detach(call->segment);
	call->segment = NULL;
	call->queue = NULL;
	call->unsent = NIL;
}

int64
angles_call_run_id(AnglesCall *call)
{
	return call->run_id;
}

const char *
angles_call_task(AnglesCall *call)
{
	return call->task;
}

const char *
angles_call_args(AnglesCall *call)
{
	return call->args;
}

bool
angles_call_cancelled(AnglesCall *call)
{
	return pg_atomic_read_u32(&call->entry->cancelled) != 0;
}

bool
angles_call_is_waited_for(AnglesCall *call)
{
	return call->segment != NULL;
}

/* ---- answers ---- */

void
angles_call_row(AnglesCall *call, const char *json)
{
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	if (call->result.len + strlen(json) > MAX_KEPT_RESULT)
		call->result_cut = true;
	else
	{
		appendStringInfoString(&call->result, call->n_rows++ == 0 ? "[" : ", ");
		appendStringInfoString(&call->result, json);
	}
	MemoryContextSwitchTo(old);
	angles_call_pass(call, json);
}

void
angles_call_pass(AnglesCall *call, const char *json)
{
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	if (call->queue != NULL)
		queue_message(call, MESSAGE_ROW, json);
	MemoryContextSwitchTo(old);
}

void
angles_call_notice(AnglesCall *call, const char *text)
{
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	if (call->queue != NULL)
		queue_message(call, MESSAGE_NOTICE, text);
	MemoryContextSwitchTo(old);
}

static void
queue_message(AnglesCall *call, char kind, const char *text)
{
	StringInfo	message = makeStringInfo();

	appendStringInfoChar(message, kind);
	append_field(message, text);
	call->unsent = lappend(call->unsent, message);
	send_unsent(call);
}

bool
angles_call_has_room(AnglesCall *call)
{
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	send_unsent(call);
	MemoryContextSwitchTo(old);
	return call->unsent == NIL;
}

/* Sends what the queue has room for; never waits. */
static void
send_unsent(AnglesCall *call)
{
	while (call->queue != NULL && call->unsent != NIL)
	{
		StringInfo	message = linitial(call->unsent);
		shm_mq_result rc = shm_mq_send(call->queue, message->len, message->data, true, true);

		if (rc == SHM_MQ_WOULD_BLOCK)
			return;
		if (rc == SHM_MQ_DETACHED)
		{
			detach(call);
			return;
		}
		call->unsent = list_delete_first(call->unsent);
		pfree(message->data);
		pfree(message);
	}
}

static void
append_field(StringInfo buf, const char *text)
{
	appendBinaryStringInfo(buf, text ? text : "", text ? strlen(text) + 1 : 1);
}

bool
angles_call_finish(AnglesCall *call, const char *state, const char *class, int sqlerrcode,
				   const char *message, const char *detail, const char *hint)
{
	static SPIPlanPtr plan = NULL;
	const char *sqlstate = sqlerrcode ? angles_sqlstate_text(sqlerrcode) : NULL;
	bool		retry = strcmp(state, "failed") == 0 && class != NULL &&
		(strcmp(class, "transient") == 0 || strcmp(class, "busy") == 0) &&
		call->attempt < call->max_attempts;
	const char *texts[] = {state, class, sqlstate, message, detail, hint, NULL};
	Oid			types[9] = {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID
	};
	Datum		values[9];
	char		nulls[9];
	MemoryContext old;

	if (!angles_run_lock(call->run_id))
		return false;
	old = MemoryContextSwitchTo(call->cxt);
	if (call->n_rows > 0)
	{
		char	   *result = psprintf("%s%s]", call->result.data,
									  call->result_cut ? ", {\"cut\": true}" : "");

		texts[6] = result;
	}
	call->end = makeStringInfo();
	appendStringInfoChar(call->end, MESSAGE_END);
	append_field(call->end, state);
	append_field(call->end, sqlstate);
	append_field(call->end, message);
	append_field(call->end, detail);
	append_field(call->end, hint);
	MemoryContextSwitchTo(old);

	memset(nulls, ' ', sizeof(nulls));
	for (int i = 0; i < 7; i++)
	{
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
		if (texts[i] == NULL)
			nulls[i] = 'n';
	}
	values[7] = Int64GetDatum(retry ? angles_backoff_us(call->attempt, -1) : 0);
	if (!retry)
		nulls[7] = 'n';
	values[8] = Int64GetDatum(call->run_id);
	angles_spi_exec(&plan,
					"UPDATE angles.runs SET state = $1, class = $2, sqlstate = $3, message = $4, "
					"detail = $5, hint = $6, result = $7::jsonb, "
					"finished_at = pg_catalog.clock_timestamp(), "
					"next_attempt_at = pg_catalog.clock_timestamp() "
					"+ $8 * interval '1 microsecond' WHERE id = $9",
					9, types, values, nulls, SPI_OK_UPDATE);
	return true;
}

void
angles_call_reply(AnglesCall *call)
{
	int64		give_up = angles_clock_mono_us() + REPLY_PATIENCE_US;
	MemoryContext old = MemoryContextSwitchTo(call->cxt);

	Assert(call->end != NULL);
	if (call->queue != NULL)
		call->unsent = lappend(call->unsent, call->end);
	for (;;)
	{
		send_unsent(call);
		if (call->queue == NULL || call->unsent == NIL || angles_clock_mono_us() > give_up)
			break;
		angles_wait(PGINVALID_SOCKET, 100);
	}
	detach(call);
	MemoryContextSwitchTo(old);
	give_back(call);
}

/* Empties the entry; the bridge then looks for a retry and for others that wait for the place. */
static void
give_back(AnglesCall *call)
{
	int			waiter_proc = 0;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (call->entry->serial == call->serial)
	{
		waiter_proc = call->entry->waiter_proc;
		call->entry->state = CALL_FREE;
		call->entry->taker = 0;
		call->entry->dsm = DSM_HANDLE_INVALID;
		call->entry->waiter_proc = 0;
	}
	LWLockRelease(&angles_shared->lock);
	angles_slots_poke(waiter_proc);
	angles_slots_wake_runs(angles_my_slot);
}
