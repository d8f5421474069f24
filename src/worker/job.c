/*
 * job.c
 *		A job worker: comes in for one call, does it by the function that a room has registered for
 *		its task, writes the end and leaves. It touches tables as the role of the task alone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/txn.h"
#include "core/wait.h"
#include "worker/calls.h"
#include "worker/enter.h"
#include "worker/slots.h"
#include "worker/worker.h"

extern PGDLLEXPORT void angles_job_main(Datum main_arg);

#define MAX_JOBS 8

static struct
{
	const char *task;
	AnglesJobFunction run;
}			jobs[MAX_JOBS];
static int	n_jobs = 0;

/* What the functions that run as the extension's owner are given. */
typedef struct Work
{
	AnglesCall *call;
	const char *state;
	const ErrorData *error;		/* NULL: it went well */
	bool		done;
} Work;

static AnglesCall *take(void);
static void take_job(void *arg);
static ErrorData *run(AnglesCall *call);
static void do_run(AnglesCall *call);
static void finish(AnglesCall *call, const ErrorData *error);
static void finish_job(void *arg);
static void watch(AnglesCall *call, const ErrorData *error);
static const char *class_of(int sqlerrcode);

void
angles_job_register(const char *task, AnglesJobFunction function)
{
	if (n_jobs == MAX_JOBS)
		elog(ERROR, "too many tasks for jobs");
	jobs[n_jobs].task = task;
	jobs[n_jobs++].run = function;
}

void
angles_job_main(Datum main_arg)
{
	AnglesCall *call;
	ErrorData  *error;

	/* not before the call is in hand: without it nobody could say that it was cancelled */
	pqsignal(SIGINT, SIG_IGN);
	angles_worker_enter_job(main_arg);
	call = take();
	if (call == NULL)
		angles_worker_exit_idle();
	error = run(call);
	/* it has come to its end: a cancel comes too late now */
	pqsignal(SIGINT, SIG_IGN);
	QueryCancelPending = false;
	finish(call, error);
	angles_call_reply(call);
	angles_worker_exit_idle();
}

static AnglesCall *
take(void)
{
	Work		work = {0};

	angles_txn_begin("angles: taking a job");
	angles_worker_recheck();
	angles_worker_as_owner(take_job, &work);
	angles_txn_commit();
	return work.call;
}

static void
take_job(void *arg)
{
	((Work *) arg)->call = angles_call_take(TopMemoryContext);
}

/* Does the job. Returns the error it ended with, or NULL. */
static ErrorData *
run(AnglesCall *call)
{
	MemoryContext outer = AllocSetContextCreate(TopMemoryContext, "angles job",
												ALLOCSET_DEFAULT_SIZES);
	ErrorData  *volatile error = NULL;

	MemoryContextSwitchTo(outer);
	PG_TRY();
	{
		/* a cancel comes by signal from here on; what came before has left its mark */
		pqsignal(SIGINT, StatementCancelHandler);
		if (angles_call_cancelled(call))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling the run due to user request")));
		do_run(call);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		/* the log has it too: a run that nobody waits for fails there as well */
		EmitErrorReport();
		FlushErrorState();
		if (IsTransactionState() || IsTransactionBlock())
			AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	/* with it go files that were not finished */
	MemoryContextDelete(outer);
	return error;
}

static void
do_run(AnglesCall *call)
{
	const char *task = angles_call_task(call);

	for (int i = 0; i < n_jobs; i++)
	{
		if (strcmp(jobs[i].task, task) != 0)
			continue;
		jobs[i].run(call);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("angles has no task \"%s\"", task)));
}

/* Writes the end of the call; while somebody's transaction holds its row, a little later. */
static void
finish(AnglesCall *call, const ErrorData *error)
{
	Work		work = {.call = call, .error = error, .state = "succeeded"};

	if (error != NULL)
		work.state = error->sqlerrcode == ERRCODE_QUERY_CANCELED && angles_call_cancelled(call)
			? "cancelled" : "failed";
	for (;;)
	{
		angles_txn_begin("angles: ending a job");
		angles_worker_recheck();
		angles_worker_as_owner(finish_job, &work);
		angles_txn_commit();
		if (work.done)
			return;
		angles_wait(PGINVALID_SOCKET, ANGLES_HELD_RETRY_US / 1000);
	}
}

static void
finish_job(void *arg)
{
	Work	   *work = arg;
	const ErrorData *error = work->error;

	watch(work->call, error);
	work->done = error == NULL
		? angles_call_finish(work->call, work->state, NULL, 0, NULL, NULL, NULL)
		: angles_call_finish(work->call, work->state, class_of(error->sqlerrcode),
							 error->sqlerrcode, error->message,
							 error->detail ? error->detail : error->context, error->hint);
}

/* Of a failure that nobody was told of there is an alert, until the task has gone well. */
static void
watch(AnglesCall *call, const ErrorData *error)
{
	char	   *fingerprint = psprintf("job.%s", angles_call_task(call));

	if (error == NULL)
		angles_alert_close(fingerprint);
	else if (!angles_call_is_waited_for(call) && !angles_call_cancelled(call))
		angles_alert_open(fingerprint, "critical",
						  psprintf("task \"%s\" fails", angles_call_task(call)), error->message,
						  error->hint);
}

/* What passes by itself is tried again where attempts are left. */
static const char *
class_of(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
			return "transient";
		default:
			break;
	}
	switch (sqlerrcode)
	{
		case ERRCODE_ANGLES_BACKUP_BUSY:
			return "busy";
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
			return "transient";
		default:
			return "permanent";
	}
}
