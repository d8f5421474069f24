/*
 * slots.h
 *		Shared memory of the room worker: which database is served, by which processes, and what
 *		they were asked for. For the files of this room only; others see worker.h.
 *
 * One lock (angles_shared->lock) protects everything here that is not atomic. It is held for a few
 * instructions; nobody allocates, waits, logs or raises an error under it.
 */
#ifndef ANGLES_SLOTS_H
#define ANGLES_SLOTS_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/dsm_impl.h"
#include "storage/lwlock.h"

/* What the last bridge found in its database. */
typedef enum AnglesContent
{
	CONTENT_UNKNOWN,			/* nobody has looked yet */
	CONTENT_ABSENT,				/* no extension: no process until somebody says "look" */
	CONTENT_SKEW,				/* the extension is of another version than the library */
	CONTENT_PRESENT
} AnglesContent;

/* A place is where one process can be. */
typedef enum AnglesPlaceState
{
	PLACE_EMPTY,
	PLACE_STARTING,				/* registered with the postmaster, not in yet */
	PLACE_RUNNING
} AnglesPlaceState;

/* Why the last process left its place. */
typedef enum AnglesLeave
{
	LEAVE_DIED,					/* error, signal: start again after a growing delay */
	LEAVE_IDLE,					/* nothing to do: start again on demand */
	LEAVE_LOOK_AGAIN			/* the world changed under it: start again at once */
} AnglesLeave;

typedef struct AnglesPlace
{
	AnglesPlaceState state;
	AnglesLeave left;
	uint32		token;			/* number of the start that may take this place */
	pid_t		pid;			/* 0 unless RUNNING */
	pg_atomic_uint32 proc;		/* index in ProcGlobal->allProcs + 1; 0: nobody */
	int			failures;		/* deaths in a row */
	bool		died;			/* a process that had taken over here ended unasked */
	int32		reading;		/* the link whose rows it is, or was, reading; 0: none */
	int64		since_us;		/* start asked for, or came in (monotonic clock) */
	int64		due_us;			/* not to be started before */
} AnglesPlace;

typedef enum AnglesCallState
{
	CALL_FREE,
	CALL_POSTED,				/* by a session; the bridge shall write its row of angles.runs */
	CALL_READY,					/* its row is committed; a worker may take it */
	CALL_TAKEN,					/* a worker has it */
	CALL_LOST					/* the worker died with it */
} AnglesCallState;

/* A run on its way from a session (or angles.runs) through the bridge to the sync worker. */
typedef struct AnglesCallEntry
{
	AnglesCallState state;
	uint32		tries;			/* bridges that began to serve it: one that kills them is refused */
	uint64		serial;			/* tells uses of this entry apart */
	int64		run_id;			/* 0 while POSTED */
	int64		not_before_us;	/* somebody held its row: left alone until then (mono); 0: free */
	dsm_handle	dsm;			/* of the session that waits, DSM_HANDLE_INVALID when nobody does */
	int			waiter_proc;	/* index + 1 */
	bool		fence_free;		/* may run in a fenced database */
	bool		job;			/* for a job worker, not for the sync worker */
	char		task[NAMEDATALEN];
	pid_t		taker;			/* the job worker that has it; 0: none */
	pg_atomic_uint32 cancelled;
} AnglesCallEntry;

#define ANGLES_CALLS 16

/* Of those, runs without a waiting session use at most: */
#define ANGLES_CALLS_FOR_QUEUED 8

#define ANGLES_ERROR_LEN 256

/* Places for job workers: the most that angles.max_workers allows. */
#define ANGLES_JOBS 16

/* So many sessions can be woken that wait in angles.wait_synced(); others look by themselves. */
#define ANGLES_WAITERS 32

/*
 * Whatever was committed up to this position of the WAL has a number in the change log that is not
 * higher. Noted at most so often, the last ones are kept.
 */
typedef struct AnglesPosition
{
	XLogRecPtr	lsn;
	int64		id;				/* 0: none */
} AnglesPosition;

#define ANGLES_POSITIONS 64
#define ANGLES_POSITION_US INT64CONST(250000)

typedef struct AnglesSlot
{
	pg_atomic_uint32 dboid;		/* InvalidOid: free */
	AnglesContent content;
	bool		fenced;
	AnglesPlace bridge;
	AnglesPlace sync;
	AnglesPlace apply;
	AnglesPlace jobs[ANGLES_JOBS];
	pg_atomic_uint32 look;		/* the extension may have come, changed or gone */
	pg_atomic_uint32 later_look;	/* the same, but by a prepared transaction */
	pg_atomic_uint32 runs_wake; /* angles.runs has something for the bridge */
	pg_atomic_uint32 sync_wake; /* the sync worker shall look for work */
	pg_atomic_uint32 apply_wake;	/* angles.inbox has something for an apply worker */
	pid_t		hold_pid;		/* the session whose command needs the database empty; 0: none */
	int			hold_proc;		/* its index + 1 */
	char		last_error[ANGLES_ERROR_LEN];
	AnglesCallEntry calls[ANGLES_CALLS];
	pg_atomic_uint32 waiters[ANGLES_WAITERS];	/* index + 1 of sessions; 0: free */
	pg_atomic_uint64 sending;	/* what the sync worker told them last: see waiters.c */
	AnglesPosition positions[ANGLES_POSITIONS];
	uint32		n_positions;
	int64		positions_us;	/* when the last one was noted, by the sync worker */
} AnglesSlot;

/* Parts of the identity that must be the same in all processes of one server (identity.c). */
typedef struct AnglesIdentityParts
{
	uint64		inode;			/* of PGDATA/PG_VERSION */
	char		machine[64];	/* the machine id, "" when it cannot be read */
	bool		promoted;		/* started with standby.signal and without recovery.signal */
	char		recovery_mark[40];	/* names the last start with recovery.signal, "" for none */
} AnglesIdentityParts;

typedef struct AnglesShared
{
	LWLock		lock;
	int			tranche;
	pid_t		launcher_pid;
	pg_atomic_uint32 launcher_proc; /* index + 1; 0: none */
	pg_atomic_uint32 rescan;	/* databases may have come or gone */
	bool		after_crash;	/* the postmaster made this anew, because a process had crashed */
	uint64		last_serial;	/* of calls */
	AnglesIdentityParts identity;
	int			n_slots;
	AnglesSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} AnglesShared;

/* NULL when angles is not preloaded. */
extern AnglesShared *angles_shared;

/* What a worker is told at its start, in bgw_extra. */
typedef struct AnglesStart
{
	Oid			dboid;
	Oid			role;			/* whom it connects as; InvalidOid: the server's own superuser */
	uint32		token;
	int			job;			/* which of the places for jobs */
	uint64		serial;			/* of the call that a job is for */
} AnglesStart;

typedef enum AnglesKind
{
	KIND_BRIDGE,
	KIND_SYNC,
	KIND_APPLY,
	KIND_JOB
} AnglesKind;

/* Registers the shared memory. */
extern void angles_slots_install(void);

/*
 * Returns the slot of a database, or NULL. The slot of the own database may be given to another one
 * only while it has no extension.
 */
extern AnglesSlot *angles_slots_find(Oid dboid);

/*
 * Returns the slot of a database, made when there is none: in a free place or in one of an ABSENT
 * database, whose oid is put into *evicted (InvalidOid otherwise). NULL when all are in use. The
 * caller holds the lock exclusively.
 */
extern AnglesSlot *angles_slots_claim(Oid dboid, Oid *evicted);

/*
 * angles_slots_look() for the own database, in a slot that is made when there is none; of a
 * prepared transaction it is only noted, until that is committed. Nothing when all slots are in
 * use. No error.
 */
extern void angles_slots_look_here(bool prepared);

/* Empties a slot. The caller holds the lock exclusively and knows that no process is in it. */
extern void angles_slots_free(AnglesSlot *slot);

/* Sets the latch of a process by index + 1; 0 and processes that are gone do no harm. */
extern void angles_slots_poke(uint32 proc);

/* Sets the latch of the launcher, of the bridge of a slot. */
extern void angles_slots_poke_launcher(void);
extern void angles_slots_poke_bridge(AnglesSlot *slot);

/*
 * Tells the bridge that the extension came, changed or went; the launcher when there is no bridge.
 * No lock, no error.
 */
extern void angles_slots_look(AnglesSlot *slot);

/*
 * As angles_slots_look() for new rows of angles.runs and for the work of the sync worker and of
 * apply workers.
 */
extern void angles_slots_wake_runs(AnglesSlot *slot);
extern void angles_slots_wake_sync(AnglesSlot *slot);
extern void angles_slots_wake_apply(AnglesSlot *slot);

/* ---- for the processes in the slots ---- */

/* The slot and place of this process, NULL in others. */
extern AnglesSlot *angles_my_slot;
extern AnglesPlace *angles_my_place;

/* Returns the place in a slot for processes of this kind; of jobs the one with this number. */
extern AnglesPlace *angles_slots_place(AnglesSlot *slot, AnglesKind kind, int job);

/*
 * Takes the place this worker was started for, or ends the process quietly when the place is no
 * longer meant for it. Called before the process connects to its database: it gives the place
 * back after it has left the database, so that "no pid" means "not in the way of DROP DATABASE".
 * Returns the role it is to connect as.
 */
extern Oid	angles_slots_enter(AnglesKind kind, Datum main_arg);

/* What this process is, and, of a job, the call it was started for. */
extern AnglesKind angles_my_kind;
extern uint64 angles_my_serial;

/* Says why this process will leave; without it, it died. */
extern void angles_slots_leave_because(AnglesLeave why);

/*
 * Asks the postmaster for the process of a place. Role, job and serial are read from "how". Returns
 * its handle (in the current context), or NULL when all worker processes of the server are taken
 * (nothing has changed then).
 */
extern struct BackgroundWorkerHandle *angles_slots_start(AnglesSlot *slot, AnglesKind kind,
														 const AnglesStart *how);

/*
 * Looks at a place in state STARTING: returns true (and empties the place, a failure counted) when
 * the process ended before it came in, or when nothing is known of it and it is late.
 */
extern bool angles_slots_start_failed(AnglesPlace *place, struct BackgroundWorkerHandle *handle);

/* A process that lived this long did its work: the next death counts as the first. */
#define ANGLES_GOOD_LIFE_US (60 * INT64CONST(1000000))

/* How long a process without a handle may take to come in. */
#define ANGLES_START_PATIENCE_US (10 * INT64CONST(1000000))

/* Sends SIGTERM to the process in a place, and bars one that is just starting. */
extern void angles_slots_stop(AnglesPlace *place);

/* The same for the jobs in a slot, which may be NULL. */
extern void angles_slots_stop_jobs(AnglesSlot *slot);

/* The same for all processes in a slot but the bridge. */
extern void angles_slots_stop_workers(AnglesSlot *slot);

/* Whether one of the processes in a slot has this pid. The caller has the lock, or may be wrong. */
extern bool angles_slots_has(const AnglesSlot *slot, pid_t pid);

/*
 * Whether no process is in a slot; with_starting: nor on its way. The caller has the lock.
 */
extern bool angles_slots_are_empty(const AnglesSlot *slot, bool with_starting);

#endif							/* ANGLES_SLOTS_H */
