/*
 * calls.h
 *		How a run travels from a session through the bridge to the worker that does it. For the
 *		room worker only; drawn in README.md.
 */
#ifndef ANGLES_CALLS_H
#define ANGLES_CALLS_H

#include "postgres.h"

#include "storage/dsm.h"
#include "storage/shm_mq.h"

#include "worker/slots.h"

/* What may be asked for. */
typedef struct AnglesTask
{
	const char *name;
	bool		touches_tables; /* waits for locks that the asking transaction may hold */
	bool		fence_free;		/* sends nothing that a clone must not send */
	bool		internal;		/* asked for in C alone: its rows are not for everybody */
	bool		job;			/* for a job worker; else the sync worker does it */
	char	  **role;			/* the setting with the role a job is connected as, or NULL */
} AnglesTask;

/* Returns the task of this name, or NULL. */
extern const AnglesTask *angles_task_find(const char *name);

/* Head of the DSM segment of a session that waits. */
typedef struct AnglesRequest
{
	char		task[NAMEDATALEN];
	char		requested_by[NAMEDATALEN];
	Size		queue_offset;	/* of the shm_mq: worker sends, session receives */
	Size		args_len;		/* with the NUL */
	char		args[FLEXIBLE_ARRAY_MEMBER];	/* jsonb as text */
} AnglesRequest;

/* First byte of a message in the queue. */
#define MESSAGE_ROW 'R'			/* then jsonb text, NUL */
#define MESSAGE_NOTICE 'N'		/* then text for people, NUL */
#define MESSAGE_END 'E'			/* then state, SQLSTATE, message, detail, hint, each with NUL */

/* Bytes of the queue: a few hundred rows do not make the worker wait for the reader. */
#define ANGLES_QUEUE_SIZE 65536

/* A bridge that dies while it serves a call does not get the same call for ever. */
#define ANGLES_CALL_TRIES 3

/* A run whose row somebody's open transaction holds is looked at again after this time. */
#define ANGLES_HELD_RETRY_US INT64CONST(1000000)

/* ---- both halves ---- */

/*
 * Locks the row of a run for this transaction without waiting. Returns false when somebody else
 * holds it (angles.cancel() in an open transaction, say): then it must not be written now. A row
 * that is gone is nobody's.
 */
extern bool angles_run_lock(int64 run_id);

/* ---- the bridge's half (runs.c) ---- */

/*
 * Marks runs as crashed that were running when the server or the last worker went down. Returns
 * false when somebody holds one of them: it is to be called again.
 */
extern bool angles_runs_open(void);

/*
 * Writes the rows of posted calls, buries lost and cancelled ones. Transactions of its own. Returns
 * when it has to look again at those whose row somebody holds (monotonic clock, us), INT64_MAX for
 * never.
 */
extern int64 angles_runs_serve_calls(void);

/*
 * Hands queued runs and due retries to the sync worker. Returns when the next retry is due
 * (monotonic clock, us), INT64_MAX for never.
 */
extern int64 angles_runs_hand_out(bool fenced);

/* Returns the numbers of the runs that are in shared memory, as bigint[] in the current context. */
extern Datum angles_runs_in_flight(void);

/* Returns true when the sync worker has something to take. */
extern bool angles_runs_ready(void);

/*
 * Returns whether a call of this database may be taken by a worker now. The caller has the lock.
 */
extern bool angles_call_is_ready(AnglesCallEntry *entry, int64 now);

/* ---- job workers, as the bridge sees them (jobs.c) ---- */

/*
 * Starts job workers for calls that wait for one; lowers *next to when it is to be called again.
 * Returns true when it worked in the database for that. Transactions of its own.
 */
extern bool angles_jobs_keep(int64 *next);

/* Deletes old runs in a small batch. Returns true when there are more. */
extern bool angles_runs_expire(void);

#endif							/* ANGLES_CALLS_H */
