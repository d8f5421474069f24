/*
 * show.c
 *		What people can see of the processes: angles.workers. Reads shared memory only.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/clock.h"
#include "worker/slots.h"
#include "worker/worker.h"

#define COLUMNS 11

static const char *state_of(const AnglesSlot *slot);
static void put_slot(ReturnSetInfo *result, const AnglesSlot *slot);

PG_FUNCTION_INFO_V1(angles_sql_workers);

/*
 * workers(): one row for each database that is served; others than the own one are for those who
 * may read all statistics.
 */
Datum
angles_sql_workers(PG_FUNCTION_ARGS)
{
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	AnglesSlot *copy = palloc(sizeof(AnglesSlot));

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; angles_shared != NULL && i < angles_shared->n_slots; i++)
	{
		LWLockAcquire(&angles_shared->lock, LW_SHARED);
		memcpy(copy, &angles_shared->slots[i], sizeof(AnglesSlot));
		LWLockRelease(&angles_shared->lock);
		if (pg_atomic_read_u32(&copy->dboid) == InvalidOid ||
			(!all && pg_atomic_read_u32(&copy->dboid) != MyDatabaseId))
			continue;
		put_slot((ReturnSetInfo *) fcinfo->resultinfo, copy);
	}
	return (Datum) 0;
}

static void
put_slot(ReturnSetInfo *result, const AnglesSlot *slot)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};
	int64		wait_us = slot->bridge.due_us - angles_clock_mono_us();

	values[0] = ObjectIdGetDatum(pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &slot->dboid)));
	values[1] = CStringGetTextDatum(state_of(slot));
	values[2] = Int32GetDatum(slot->bridge.pid);
	nulls[2] = slot->bridge.pid == 0;
	values[3] = Int32GetDatum(slot->sync.pid);
	nulls[3] = slot->sync.pid == 0;
	values[4] = Int32GetDatum(slot->bridge.failures);
	values[5] = Int32GetDatum(slot->sync.failures);
	nulls[6] = slot->bridge.state != PLACE_EMPTY || slot->content == CONTENT_ABSENT || wait_us <= 0;
	if (!nulls[6])
		values[6] = TimestampTzGetDatum(angles_clock_now() + wait_us);
	values[7] = Int32GetDatum(slot->hold_pid);
	nulls[7] = slot->hold_pid == 0;
	nulls[8] = slot->last_error[0] == '\0';
	if (!nulls[8])
		values[8] = CStringGetTextDatum(slot->last_error);
	values[9] = Int32GetDatum(slot->apply.pid);
	nulls[9] = slot->apply.pid == 0;
	values[10] = Int32GetDatum(slot->apply.failures);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static const char *
state_of(const AnglesSlot *slot)
{
	if (slot->hold_pid != 0)
		return "held";
	if (slot->content == CONTENT_ABSENT && slot->bridge.state == PLACE_EMPTY)
		return "absent";
	if (slot->bridge.state != PLACE_RUNNING)
		return slot->bridge.failures > 0 ? "failing" : "starting";
	if (slot->content == CONTENT_SKEW)
		return "version skew";
	if (slot->content != CONTENT_PRESENT)
		return "starting";
	return slot->fenced ? "fenced" : "running";
}
