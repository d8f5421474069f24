/*
 * waiters.c
 *		Sessions that wait for the sync worker (angles.wait_synced()), and what it tells them by way
 *		of shared memory. Sessions register here, so that the worker has nothing more to do while
 *		nobody waits than to look at a few words.
 */
#include "postgres.h"

#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "core/clock.h"
#include "worker/extension.h"
#include "worker/slots.h"
#include "worker/worker.h"

int
angles_waiter_enter(void)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);
	int			place = -1;

	if (slot == NULL)
		return -1;
	/* what was true for those who waited before need not be any more */
	pg_atomic_write_u64(&slot->sending, 0);
	for (int i = 0; i < ANGLES_WAITERS && place < 0; i++)
	{
		uint32		nobody = 0;

		if (pg_atomic_compare_exchange_u32(&slot->waiters[i], &nobody, ANGLES_MY_PROC_NUMBER + 1))
			place = i;
	}
	angles_slots_wake_sync(slot);
	return place;
}

void
angles_waiter_leave(int place)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);
	uint32		mine = ANGLES_MY_PROC_NUMBER + 1;

	/* the slot may have been given away: then this place is empty, or another session's */
	if (slot != NULL && place >= 0)
		pg_atomic_compare_exchange_u32(&slot->waiters[place], &mine, 0);
}

bool
angles_waiters_there(void)
{
	for (int i = 0; i < ANGLES_WAITERS; i++)
		if (pg_atomic_read_u32(&angles_my_slot->waiters[i]) != 0)
			return true;
	return false;
}

void
angles_waiters_wake(void)
{
	for (int i = 0; i < ANGLES_WAITERS; i++)
		angles_slots_poke(pg_atomic_read_u32(&angles_my_slot->waiters[i]));
}

/* One word holds both: when it ends, and in the lowest bits what it is. */
bool
angles_waiters_tell(AnglesSending state, int64 until_us)
{
	uint64		word = (uint64) until_us << 3 | state;

	if (pg_atomic_read_u64(&angles_my_slot->sending) == word)
		return false;
	pg_atomic_write_u64(&angles_my_slot->sending, word);
	return true;
}

AnglesSending
angles_worker_sending(int64 *until_us)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);
	uint64		word = slot == NULL ? 0 : pg_atomic_read_u64(&slot->sending);

	*until_us = (int64) (word >> 3);
	/* of one that has left nothing is known */
	if (slot == NULL || pg_atomic_read_u32(&slot->sync.proc) == 0)
		return SENDING_UNKNOWN;
	return (AnglesSending) (word & 7);
}

/* ---- positions ---- */

bool
angles_position_is_due(void)
{
	return angles_clock_mono_us() - angles_my_slot->positions_us >= ANGLES_POSITION_US;
}

void
angles_position_note(XLogRecPtr lsn, int64 id)
{
	AnglesSlot *slot = angles_my_slot;
	AnglesPosition *position;

	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	position = &slot->positions[slot->n_positions++ % ANGLES_POSITIONS];
	position->lsn = lsn;
	position->id = id;
	slot->positions_us = angles_clock_mono_us();
	LWLockRelease(&angles_shared->lock);
}

int64
angles_position_find(XLogRecPtr lsn, int64 otherwise)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);
	int64		id = otherwise;

	if (slot == NULL)
		return otherwise;
	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	for (int i = 0; i < ANGLES_POSITIONS; i++)
	{
		AnglesPosition *position = &slot->positions[i];

		if (position->id != 0 && position->lsn >= lsn)
			id = Min(id, position->id);
	}
	LWLockRelease(&angles_shared->lock);
	return id;
}

/* ---- the extension ---- */

AnglesHere
angles_extension_is_here(Oid extension)
{
	/* whoever drops or alters it holds this lock first, and to the end of his transaction */
	if (!angles_extension_lock(extension, AccessShareLock, false))
		return HERE_BUSY;
	return get_extension_oid("angles", true) == extension ? HERE_YES : HERE_GONE;
}
