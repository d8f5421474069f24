/*
 * jobs.c
 *		The bridge's half of job workers: starts one for each call that is for a job, at most
 *		angles.max_workers at a time. Runs in the bridge only.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/guc.h"
#include "core/txn.h"
#include "worker/calls.h"
#include "worker/slots.h"
#include "worker/worker.h"

/* While the server has no free worker process: time between two tries. */
#define SHORTAGE_RETRY_US INT64CONST(1000000)

static BackgroundWorkerHandle *handles[ANGLES_JOBS];
static uint64 serials[ANGLES_JOBS];	/* of the calls they were started for */
static bool shortage_logged = false;
static int64 shortage_until = 0;

static int	settle_places(int64 *next);
static int	waiting_calls(AnglesCallEntry *waiting);
static bool is_served(uint64 serial);
static int	free_place(int64 *next);
static void start_job(int place, const AnglesCallEntry *entry);
static Oid	role_for(const char *task_name);

bool
angles_jobs_keep(int64 *next)
{
	AnglesCallEntry waiting[ANGLES_CALLS];
	int			busy = settle_places(next);
	int			n = waiting_calls(waiting);
	bool		worked = false;

	for (int i = 0; i < n && busy < angles_guc_max_workers; i++)
	{
		int			place;

		if (is_served(waiting[i].serial))
			continue;
		if (angles_clock_mono_us() < shortage_until)
		{
			*next = Min(*next, shortage_until);
			break;
		}
		place = free_place(next);
		if (place < 0)
			break;
		start_job(place, &waiting[i]);
		worked = true;
		busy++;
	}
	return worked;
}

/* Empties places whose process ended before it came in. Returns how many are taken. */
static int
settle_places(int64 *next)
{
	int			busy = 0;

	for (int i = 0; i < ANGLES_JOBS; i++)
	{
		AnglesPlace *place = angles_slots_place(angles_my_slot, KIND_JOB, i);

		if (place->state == PLACE_STARTING)
		{
			angles_slots_start_failed(place, handles[i]);
			if (place->state == PLACE_STARTING && handles[i] == NULL)
				*next = Min(*next, place->since_us + ANGLES_START_PATIENCE_US);
		}
		if (place->state != PLACE_STARTING && handles[i] != NULL)
		{
			pfree(handles[i]);
			handles[i] = NULL;
		}
		if (place->state != PLACE_EMPTY)
			busy++;
	}
	return busy;
}

/* Copies the calls that wait for a job worker, the oldest first. */
static int
waiting_calls(AnglesCallEntry *waiting)
{
	int64		now = angles_clock_mono_us();
	int			n = 0;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	for (int i = 0; i < ANGLES_CALLS; i++)
	{
		AnglesCallEntry *entry = &angles_my_slot->calls[i];
		int			at = n;

		if (!entry->job || !angles_call_is_ready(entry, now))
			continue;
		for (; at > 0 && waiting[at - 1].serial > entry->serial; at--)
			waiting[at] = waiting[at - 1];
		waiting[at] = *entry;
		n++;
	}
	LWLockRelease(&angles_shared->lock);
	return n;
}

static bool
is_served(uint64 serial)
{
	for (int i = 0; i < ANGLES_JOBS; i++)
	{
		if (serials[i] == serial &&
			angles_slots_place(angles_my_slot, KIND_JOB, i)->state != PLACE_EMPTY)
			return true;
	}
	return false;
}

/* Returns a place where a process may be started now, or -1. */
static int
free_place(int64 *next)
{
	int64		now = angles_clock_mono_us();

	for (int i = 0; i < ANGLES_JOBS; i++)
	{
		AnglesPlace *place = angles_slots_place(angles_my_slot, KIND_JOB, i);

		if (place->state == PLACE_EMPTY && place->due_us <= now)
			return i;
		if (place->state == PLACE_EMPTY)
			*next = Min(*next, place->due_us);
	}
	return -1;
}

static void
start_job(int place, const AnglesCallEntry *entry)
{
	AnglesStart start = {
		.role = role_for(entry->task), .job = place, .serial = entry->serial
	};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	handles[place] = angles_slots_start(angles_my_slot, KIND_JOB, &start);
	MemoryContextSwitchTo(old);
	serials[place] = entry->serial;
	if (handles[place] != NULL)
	{
		shortage_logged = false;
		return;
	}
	shortage_until = angles_clock_mono_us() + SHORTAGE_RETRY_US;
	if (!shortage_logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("angles waits for a free worker process to run task \"%s\" in database %u",
						entry->task, MyDatabaseId),
				 errhint("Raise max_worker_processes if this lasts.")));
	shortage_logged = true;
}

/*
 * Returns the role as whom the job of a task is connected. One that could not connect is left out:
 * the job then finds itself to be somebody else, and can say why to the one who waits, which a
 * process that was refused at the door cannot.
 */
static Oid
role_for(const char *task_name)
{
	const AnglesTask *task = angles_task_find(task_name);
	Oid			role = InvalidOid;
	AclResult	may_connect;
	HeapTuple	tuple;

	if (task == NULL || task->role == NULL || *task->role == NULL)
		return InvalidOid;
	angles_txn_begin("angles: whom a job runs as");
	angles_worker_recheck();
	tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(*task->role));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_authid form = (Form_pg_authid) GETSTRUCT(tuple);

		may_connect = ANGLES_CONNECT_ACL(MyDatabaseId, form->oid);
		if ((form->rolcanlogin || !ANGLES_ROLE_MUST_LOG_IN) && may_connect == ACLCHECK_OK)
			role = form->oid;
		ReleaseSysCache(tuple);
	}
	angles_txn_commit();
	return role;
}
