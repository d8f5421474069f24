/*
 * request.c
 *		How a session asks for a run, waits for it, and cancels it. Runs in user backends: it
 *		touches shared memory and, for queued runs, angles.runs; never the network.
 *
 * A session that waits holds whatever snapshot its statement holds; CALL angles.run() commits first
 * and waits without one.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/shmem.h"
#include "core/txn.h"
#include "core/wait.h"
#include "worker/calls.h"
#include "worker/hook.h"
#include "worker/slots.h"
#include "worker/worker.h"

/* A bridge answers within milliseconds; one that is just starting may need a while. */
#define ACCEPT_PATIENCE_US (15 * INT64CONST(1000000))

/* How often a waiting session looks by itself whether its entry still stands. */
#define CHECK_MS 1000

static const AnglesTask tasks[] = {
	/* touches tables, sends nothing that a clone must not send, internal, for a job as whom */
	{"backup", true, false, false, true, &angles_guc_backup_role},
	{"check_notion", false, true, false, false, NULL},
	{"list_pages", true, true, true, false, NULL},
	{"schema", false, true, false, false, NULL},
	{"sync", true, false, false, false, NULL},
	{"verify_backup", false, true, false, true, NULL},
};

/* A request of this session that is under way. */
typedef struct Request
{
	AnglesSlot *slot;
	AnglesCallEntry *entry;
	uint64		serial;
	dsm_segment *segment;
	shm_mq_handle *queue;
	int64		posted_us;
	int64		run_id;			/* 0 until the bridge has written its row */
	bool		leave_it;		/* the run goes on without us */
} Request;

static const AnglesTask *task_of(const char *name);
static AnglesSlot *check_served(const AnglesTask *task);
static bool refuse(AnglesRefusal *why, int sqlerrcode, const char *message, const char *detail,
				   const char *hint);
static void check_transaction(const AnglesTask *task);
static void ask_and_wait(const char *task_name, const char *args, AnglesRowFunction row, void *arg);
static Request *post(const AnglesTask *task, AnglesSlot *slot, const char *args);
static AnglesCallEntry *take_free_entry(Request *request, const AnglesTask *task);
static void cancel_entry(AnglesCallEntry *entry);
static void withdraw(dsm_segment *segment, Datum arg);
static bool wait_for_end(Request *request, AnglesRowFunction row, void *arg);
static bool entry_stands(Request *request);
static bool read_message(Request *request, AnglesRowFunction row, void *arg, bool *ended);
static void raise_end(const char *fields, Size len);
static void row_to_tuplestore(const char *json, void *arg);
static void row_to_list(const char *json, void *arg);

PG_FUNCTION_INFO_V1(angles_sql_request_rows);
PG_FUNCTION_INFO_V1(angles_sql_enqueue_run);
PG_FUNCTION_INFO_V1(angles_sql_run);
PG_FUNCTION_INFO_V1(angles_sql_cancel_call);
PG_FUNCTION_INFO_V1(angles_sql_look);

/* ---- what may be asked for, and when ---- */

const AnglesTask *
angles_task_find(const char *name)
{
	for (size_t i = 0; i < lengthof(tasks); i++)
	{
		if (strcmp(tasks[i].name, name) == 0)
			return &tasks[i];
	}
	return NULL;
}

/* Returns a task that people may ask for by its name; else raises an error. */
static const AnglesTask *
task_of(const char *name)
{
	const AnglesTask *task = angles_task_find(name);

	if (task == NULL || task->internal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("angles has no task \"%s\"", name),
				 errhint("There are: backup, check_notion, schema, sync, verify_backup.")));
	return task;
}

/* Returns the slot of this database when a worker will take this task; else raises the reason. */
static AnglesSlot *
check_served(const AnglesTask *task)
{
	AnglesRefusal why;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("no worker of angles runs on a standby")));
	if (angles_worker_refuses(task->fence_free, &why))
		ereport(ERROR,
				(errcode(why.sqlerrcode),
				 errmsg("%s", why.message),
				 why.detail ? errdetail("%s", why.detail) : 0,
				 errhint("%s", why.hint)));
	if (task->job && angles_guc_max_workers == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NO_WORKER),
				 errmsg("angles.max_workers is 0: no job may run"),
				 errhint("Set angles.max_workers to 1 or more and reload the configuration.")));
	return angles_slots_find(MyDatabaseId);
}

bool
angles_worker_refuses(bool fence_free, AnglesRefusal *why)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);
	AnglesContent content;
	bool		fenced;
	bool		failing;
	char		last_error[ANGLES_ERROR_LEN];

	if (angles_shared == NULL)
		return refuse(why, ERRCODE_ANGLES_NOT_PRELOADED,
					  "angles is not loaded by shared_preload_libraries",
					  "Changes are captured and kept, but no worker runs.",
					  "Add angles to shared_preload_libraries and restart the server.");
	if (slot == NULL)
		return refuse(why, ERRCODE_ANGLES_NO_WORKER, "angles does not serve this database", NULL,
					  "Raise angles.max_databases and restart the server.");
	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	content = slot->content;
	fenced = slot->fenced && content == CONTENT_PRESENT;
	failing = slot->bridge.state == PLACE_EMPTY && slot->bridge.failures > 2;
	strlcpy(last_error, slot->last_error, sizeof(last_error));
	LWLockRelease(&angles_shared->lock);

	if (content == CONTENT_SKEW)
		return refuse(why, ERRCODE_ANGLES_VERSION_SKEW,
					  "the extension and the library of angles have different versions",
					  "The library has version " ANGLES_VERSION ".",
					  "Run ALTER EXTENSION angles UPDATE; or restart the server when it still "
					  "runs an older library.");
	if (failing)
		return refuse(why, ERRCODE_ANGLES_NO_WORKER,
					  "the bridge of this database does not stay alive",
					  last_error[0] ? psprintf("Its last error: %s", last_error) : NULL,
					  "Look for its errors in the server's log.");
	if (fenced && !fence_free)
		return refuse(why, ERRCODE_ANGLES_FENCED,
					  "this database is fenced: angles sends nothing", NULL,
					  "Make sure that the original does not sync any more, then run "
					  "SELECT angles.adopt() in this database.");
	return false;
}

static bool
refuse(AnglesRefusal *why, int sqlerrcode, const char *message, const char *detail,
	   const char *hint)
{
	*why = (AnglesRefusal) {
		.sqlerrcode = sqlerrcode, .message = message, .detail = detail, .hint = hint
	};
	return true;
}

/* A worker that needs a lock this transaction holds would wait for us while we wait for it. */
static void
check_transaction(const AnglesTask *task)
{
	if (!task->touches_tables ||
		(!IsTransactionBlock() && !TransactionIdIsValid(GetTopTransactionIdIfAny())))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_IN_TRANSACTION),
			 errmsg("task \"%s\" cannot be waited for inside a transaction", task->name),
			 errdetail("It may need locks that this transaction holds, and sees nothing that "
					   "this transaction has changed."),
			 task->internal ? errhint("Make the call a statement of its own, outside of a "
									  "transaction block.")
			 : errhint("Run CALL angles.run('%s') outside of a transaction block, or use "
					   "wait => false.", task->name)));
}

/* ---- SQL functions ---- */

/* request_rows(task text, args jsonb) returns setof jsonb */
Datum
angles_sql_request_rows(PG_FUNCTION_ARGS)
{
	char	   *task = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *args = PG_GETARG_JSONB_P(1);

	check_transaction(task_of(task));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	ask_and_wait(task, JsonbToCString(NULL, &args->root, VARSIZE(args)), row_to_tuplestore,
				 fcinfo->resultinfo);
	return (Datum) 0;
}

static void
row_to_tuplestore(const char *json, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[1] = {DirectFunctionCall1(jsonb_in, CStringGetDatum(json))};
	bool		nulls[1] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	pfree(DatumGetPointer(values[0]));
}

/* enqueue_run(task text, args jsonb) returns bigint: begins when this transaction commits. */
Datum
angles_sql_enqueue_run(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	char	   *task = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			types[2] = {TEXTOID, JSONBOID};
	Datum		values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	int64		id;
	bool		isnull;

	/* not served now: the row waits for better times, as captured changes do */
	(void) task_of(task);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	angles_spi_exec(&plan, "INSERT INTO angles.runs (task, args) VALUES ($1, $2) RETURNING id",
					2, types, values, NULL, SPI_OK_INSERT_RETURNING);
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	angles_hook_runs_at_commit();
	PG_RETURN_INT64(id);
}

/* run(task text, args jsonb, INOUT result jsonb): commits, then waits without a snapshot. */
Datum
angles_sql_run(PG_FUNCTION_ARGS)
{
	bool		atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext)) ||
		((CallContext *) fcinfo->context)->atomic;
	char	   *task = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *args = PG_GETARG_JSONB_P(1);
	char	   *args_text = JsonbToCString(NULL, &args->root, VARSIZE(args));
	StringInfoData rows;
	Datum		result;
	bool		isnull = false;
	TupleDesc	desc;

	(void) task_of(task);
	if (atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_IN_TRANSACTION),
				 errmsg("CALL angles.run() commits and so cannot be inside a transaction"),
				 errhint("Run it outside of a transaction block, or use "
						 "SELECT angles.enqueue_run('%s').", task)));
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SPI_commit();
	SPI_finish();

	initStringInfo(&rows);
	ask_and_wait(task, args_text, row_to_list, &rows);
	appendStringInfoString(&rows, rows.len == 0 ? "[]" : "]");
	result = DirectFunctionCall1(jsonb_in, CStringGetDatum(rows.data));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "angles.run() has no row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &result, &isnull)));
}

static void
row_to_list(const char *json, void *arg)
{
	StringInfo	rows = arg;

	appendStringInfoString(rows, rows->len == 0 ? "[" : ", ");
	appendStringInfoString(rows, json);
}

/* cancel_call(run_id bigint) returns boolean: true when the run was in shared memory. */
Datum
angles_sql_cancel_call(PG_FUNCTION_ARGS)
{
	int64		run_id = PG_GETARG_INT64(0);
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);
	bool		found = false;

	if (slot == NULL)
		PG_RETURN_BOOL(false);
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &slot->calls[i];

		if ((entry->state != CALL_READY && entry->state != CALL_TAKEN) || entry->run_id != run_id)
			continue;
		cancel_entry(entry);
		found = true;
	}
	LWLockRelease(&angles_shared->lock);
	if (found)
	{
		angles_slots_wake_sync(slot);
		angles_slots_wake_runs(slot);
	}
	PG_RETURN_BOOL(found);
}

/*
 * Lets the worker that has it know that a call is not wanted any more. The caller holds the lock,
 * under which a job gives back its call before it ends: the pid is its own.
 */
static void
cancel_entry(AnglesCallEntry *entry)
{
	pg_atomic_write_u32(&entry->cancelled, 1);
	if (entry->state == CALL_TAKEN && entry->taker != 0)
		kill(entry->taker, SIGINT);
}

/* look(): lets the bridge look at the extension and the identity again when this commits. */
Datum
angles_sql_look(PG_FUNCTION_ARGS)
{
	if (angles_shared != NULL)
		angles_hook_look_at_commit();
	PG_RETURN_VOID();
}

/* ---- asking and waiting ---- */

void
angles_request(const char *task, const char *args, AnglesRowFunction row, void *arg)
{
	check_transaction(angles_task_find(task));
	ask_and_wait(task, args, row, arg);
}

static void
ask_and_wait(const char *task_name, const char *args, AnglesRowFunction row, void *arg)
{
	const AnglesTask *task = angles_task_find(task_name);
	Request    *request = post(task, check_served(task), args);
	bool		ended = wait_for_end(request, row, arg);

	/* nobody else could do anything with its rows */
	if (!ended && task->internal)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_RUN_FAILED),
				 errmsg("run " INT64_FORMAT " took longer than angles.wait_max", request->run_id),
				 errdetail("It was cancelled."),
				 errhint("SET angles.wait_max to a longer time, and call again.")));
	if (!ended)
	{
		char	   *json = psprintf("{\"run_id\": " INT64_FORMAT ", \"state\": \"running\"}",
								  request->run_id);

		/* from here on it is nobody's: the worker finds the queue closed and goes on */
		request->leave_it = true;
		row(json, arg);
	}
	dsm_detach(request->segment);
}

/* Puts a request where the bridge finds it. It is withdrawn when this session detaches. */
static Request *
post(const AnglesTask *task, AnglesSlot *slot, const char *args)
{
	/* lives as long as the segment: the callback of its detaching reads it */
	Request    *request = MemoryContextAllocZero(TopTransactionContext, sizeof(Request));
	Size		args_len = strlen(args) + 1;
	Size		queue_offset = MAXALIGN(offsetof(AnglesRequest, args) + args_len);
	AnglesRequest *head;
	shm_mq	   *queue;

	request->slot = slot;
	request->segment = dsm_create(queue_offset + ANGLES_QUEUE_SIZE, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (request->segment == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("too many dynamic shared memory segments")));
	head = dsm_segment_address(request->segment);
	strlcpy(head->task, task->name, sizeof(head->task));
	strlcpy(head->requested_by, GetUserNameFromId(GetSessionUserId(), false),
			sizeof(head->requested_by));
	head->queue_offset = queue_offset;
	head->args_len = args_len;
	memcpy(head->args, args, args_len);
	queue = shm_mq_create((char *) head + queue_offset, ANGLES_QUEUE_SIZE);
	shm_mq_set_receiver(queue, MyProc);
	request->queue = shm_mq_attach(queue, request->segment, NULL);

	/* registered first: once the entry is taken it is given back whatever happens */
	on_dsm_detach(request->segment, withdraw, PointerGetDatum(request));
	request->entry = take_free_entry(request, task);
	if (request->entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many runs are under way in this database"),
				 errhint("SELECT * FROM angles.runs WHERE state IN ('queued', 'running') shows "
						 "them; try again when one has ended.")));
	angles_slots_wake_runs(slot);
	return request;
}

static AnglesCallEntry *
take_free_entry(Request *request, const AnglesTask *task)
{
	AnglesCallEntry *entry = NULL;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ANGLES_CALLS && entry == NULL; i++)
	{
		if (request->slot->calls[i].state == CALL_FREE)
			entry = &request->slot->calls[i];
	}
	if (entry != NULL)
	{
		entry->state = CALL_POSTED;
		entry->tries = 0;
		entry->serial = request->serial = ++angles_shared->last_serial;
		entry->run_id = 0;
		entry->not_before_us = 0;
		entry->dsm = dsm_segment_handle(request->segment);
		entry->waiter_proc = ANGLES_MY_PROC_NUMBER + 1;
		entry->fence_free = task->fence_free;
		entry->job = task->job;
		entry->taker = 0;
		strlcpy(entry->task, task->name, sizeof(entry->task));
		pg_atomic_write_u32(&entry->cancelled, 0);
	}
	LWLockRelease(&angles_shared->lock);
	request->posted_us = angles_clock_mono_us();
	return entry;
}

/*
 * The session detaches: it has its answer, gives up (Ctrl-C, error, end of the session), or leaves
 * the run to itself. Runs in any of these moments: no error, no allocation.
 */
static void
withdraw(dsm_segment *segment, Datum arg)
{
	Request    *request = (Request *) DatumGetPointer(arg);
	AnglesCallEntry *entry = request->entry;
	bool		changed = false;

	(void) segment;
	if (entry == NULL)
		return;
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (entry->serial == request->serial && entry->state != CALL_FREE)
	{
		changed = true;
		entry->waiter_proc = 0;
		entry->dsm = DSM_HANDLE_INVALID;
		if (entry->state == CALL_POSTED)
			entry->state = CALL_FREE;
		else if (!request->leave_it)
			cancel_entry(entry);
	}
	LWLockRelease(&angles_shared->lock);
	if (!changed)
		return;
	angles_slots_wake_sync(request->slot);
	angles_slots_wake_runs(request->slot);
}

/*
 * Waits for the end of the run; each row is handed on as it comes. Returns false when
 * angles.wait_max has passed and the run goes on. Raises the error of a run that failed.
 */
static bool
wait_for_end(Request *request, AnglesRowFunction row, void *arg)
{
	int64		give_up = request->posted_us + (int64) angles_guc_wait_max * 1000;
	bool		ended = false;

	while (!ended)
	{
		bool		stands;
		int64		now;

		if (read_message(request, row, arg, &ended))
			continue;
		/* in this order: what was sent before the entry went away is read after */
		stands = entry_stands(request);
		if (read_message(request, row, arg, &ended))
			continue;
		if (!stands)
			ereport(ERROR,
					(errcode(ERRCODE_ANGLES_RUN_FAILED),
					 errmsg("the worker ended before run " INT64_FORMAT " did", request->run_id),
					 errhint("SELECT * FROM angles.runs shows what became of it; the server's log "
							 "shows why the worker ended.")));
		now = angles_clock_mono_us();
		if (request->run_id == 0 && now > request->posted_us + ACCEPT_PATIENCE_US)
			ereport(ERROR,
					(errcode(ERRCODE_ANGLES_NO_WORKER),
					 errmsg("the bridge of this database does not answer"),
					 errhint("Look into the server's log; max_worker_processes may be too low.")));
		if (request->run_id != 0 && now > give_up)
			return false;
		if (angles_wait(PGINVALID_SOCKET, CHECK_MS) & WL_TIMEOUT)
			angles_wait_check_client();
	}
	return true;
}

/* Returns true while the entry is still this request's; notes the number of the run. */
static bool
entry_stands(Request *request)
{
	bool		stands;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	stands = request->entry->serial == request->serial &&
		request->entry->state != CALL_FREE && request->entry->state != CALL_LOST;
	if (request->entry->serial == request->serial && request->entry->run_id != 0)
		request->run_id = request->entry->run_id;
	LWLockRelease(&angles_shared->lock);
	return stands;
}

/* Returns true when there was a message: a row handed on, or the end. */
static bool
read_message(Request *request, AnglesRowFunction row, void *arg, bool *ended)
{
	Size		len;
	void	   *data;
	const char *message;

	if (shm_mq_receive(request->queue, &len, &data, true) != SHM_MQ_SUCCESS)
		return false;
	message = data;
	if (len < 2 || message[len - 1] != '\0')
		elog(ERROR, "bad message from a worker of angles");
	if (message[0] == MESSAGE_ROW)
		row(message + 1, arg);
	else if (message[0] == MESSAGE_NOTICE)
		ereport(NOTICE, (errmsg_internal("%s", message + 1)));
	else
	{
		*ended = true;
		raise_end(message + 1, len - 1);
	}
	return true;
}

/* Raises the error of a run that did not succeed: state, SQLSTATE, message, detail, hint. */
static void
raise_end(const char *fields, Size len)
{
	const char *field[5] = {"", "", "", "", ""};
	const char *end = fields + len;
	int			sqlerrcode = ERRCODE_ANGLES_RUN_FAILED;

	for (int i = 0; i < 5 && fields < end; i++)
	{
		field[i] = fields;
		fields += strlen(fields) + 1;
	}
	if (strcmp(field[0], "succeeded") == 0)
		return;
	if (strlen(field[1]) == 5)
		sqlerrcode = MAKE_SQLSTATE(field[1][0], field[1][1], field[1][2], field[1][3], field[1][4]);
	ereport(ERROR,
			(errcode(sqlerrcode),
			 errmsg("%s", field[2][0] ? field[2] : "the run failed"),
			 field[3][0] ? errdetail("%s", field[3]) : 0,
			 field[4][0] ? errhint("%s", field[4]) : 0));
}
