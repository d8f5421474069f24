/*
 * worker.h
 *		The room worker: launcher, one bridge for each database, slots in shared memory, wake-up at
 *		commit, the utility hook, requests from SQL, runs, alerts and the audit trail.
 *
 * The state machines are drawn in README.md beside this file.
 */
#ifndef ANGLES_WORKER_H
#define ANGLES_WORKER_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "core/compat.h"

/* ---- for _PG_init ---- */

/* Registers shared memory, the launcher and the hooks. While preloading only. */
extern void angles_worker_install(void);

/* ---- wake-up at commit (user backends) ---- */

/*
 * Finds this database's place in shared memory and remembers it for angles_wake_fire(). Called at
 * PRE_COMMIT / PRE_PREPARE. Takes a shared lock for a moment; raises no error; does nothing when
 * not preloaded.
 */
extern void angles_wake_prepare(void);

/*
 * Wakes the sync worker of the remembered database, or its bridge when there is none. Callable from
 * a commit callback: sets a flag and a latch; no allocation, no lock, no error.
 */
extern void angles_wake_fire(void);

/* angles_wake_prepare() and angles_wake_fire() in one, for any other moment. */
extern void angles_wake_now(void);

/* ---- for the main functions of workers (sync and apply; job later) ---- */

/*
 * First call of the sync worker's main function: signal handlers, connection to the database
 * of its slot, pinned settings, the slot's place (given back by a before_shmem_exit callback), the
 * session lock that lets only one sync worker live in a database. Ends the process
 * quietly when the extension is absent, of another version than the library, or the place is taken.
 */
extern void angles_worker_enter_sync(Datum main_arg);

/*
 * First statement of each transaction of a worker: locks the extension against DROP/ALTER until the
 * end of the transaction and checks that it is still the one this process started with; if
 * not, ends the process (which the launcher understands as "look again").
 */
extern void angles_worker_recheck(void);

/*
 * Returns true, once, when a commit or anybody else asked the sync worker to look for work: new
 * calls and cancelled ones, too.
 */
extern bool angles_worker_take_wake(void);

/*
 * First call of an apply worker's main function: as angles_worker_enter_sync(), but connected as
 * the owner of linked tables, with the settings a session of his would have, apart from a few that
 * keep him from being waited for.
 */
extern void angles_worker_enter_apply(Datum main_arg);

/*
 * The same for a job worker: connected as the role of its task, with pinned settings.
 */
extern void angles_worker_enter_job(Datum main_arg);

/*
 * Returns true, once, when an apply worker shall look at angles.inbox. Asks for that: from the sync
 * worker, after the commit of what is to be seen there, or from a leaving apply worker.
 */
extern bool angles_worker_take_apply_wake(void);
extern void angles_worker_wake_apply(void);

/*
 * Runs fn(arg) with the rights of the extension's owner, whose angles' tables are, and with pinned
 * settings: for the statements of an apply worker on them. Inside a transaction.
 */
extern void angles_worker_as_owner(void (*fn) (void *arg), void *arg);

/*
 * Tells the launcher and bridge why the worker ends: idle (started again on demand). Then exits.
 */
ANGLES_NORETURN extern void angles_worker_exit_idle(void);

/*
 * The number of this sync worker's life, unique in the database for ever and growing
 * (angles.worker_generation): the fence for leases.
 */
extern int64 angles_worker_generation(void);

/*
 * Returns true when the worker before this one ended on its own account while it had claims: an
 * error, a signal that kills, a crash of the whole server. False when it was told to end (SIGTERM,
 * a command on the database or the extension), had nothing to do, or the server was started since.
 * Called once in a life, in the transaction that takes over what others left claimed.
 */
extern bool angles_worker_predecessor_died(void);

/*
 * Notes for the sync worker's successor that it begins (or ends: 0) to read rows of this link,
 * which runs code of users. Returns the link that the worker before this one was reading when it
 * died, 0 for none; forgets it. Not known after a crash of the whole server.
 */
extern void angles_worker_reading(int32 link_id);
extern int32 angles_worker_died_reading(void);

/*
 * Returns the identity of this cluster and database (design 8.1) as a text of hex digits, the same
 * for the life of the server; works in any backend.
 */
extern const char *angles_worker_identity(void);

/*
 * Returns the timeline of this server's WAL. A promotion changes it, so that two servers of one
 * identity (angles.instance_id was copied) differ in it afterwards.
 */
extern int64 angles_worker_timeline(void);

/*
 * Notes that another server has taken over what this database syncs: it is fenced until
 * angles.adopt(). Inside a transaction, after whose commit angles_worker_exit_fenced() is called.
 * Returns false, with nothing noted, while a session has the row locked.
 */
extern bool angles_worker_superseded(void);

/* Ends the process; the bridge looks at the fence before it starts another. */
ANGLES_NORETURN extern void angles_worker_exit_fenced(void);

/* ---- requests from SQL, and runs ---- */

/* Called with each row of an answer. */
typedef void (*AnglesRowFunction) (const char *json, void *arg);

/*
 * Lets a worker do a task for this session and waits for its end; each row is handed on as it
 * comes. Raises an error when the run fails, takes longer than angles.wait_max, cannot be waited
 * for inside this transaction, or nobody serves this database. User backends only.
 */
extern void angles_request(const char *task, const char *args, AnglesRowFunction row, void *arg);

/*
 * A run that the bridge handed to a worker: one row of angles.runs, with or without a person
 * who waits for it.
 */
typedef struct AnglesCall AnglesCall;

/*
 * Takes the next call for this worker, allocated in cxt (which must live until the reply), or
 * returns NULL. Never waits. Inside a transaction of the caller's that has begun with a recheck: it
 * makes the run's row 'running'. Should that transaction or the process fail, the run counts as
 * crashed.
 */
extern AnglesCall *angles_call_take(MemoryContext cxt);

/* Returns the number of the run in angles.runs. */
extern int64 angles_call_run_id(AnglesCall *call);

/* Returns the task: 'sync', 'check_notion', ...; it may be one that this version does not know. */
extern const char *angles_call_task(AnglesCall *call);

/* Returns the arguments, a jsonb object as text. */
extern const char *angles_call_args(AnglesCall *call);

/* True when the one who waited went away (Ctrl-C, disconnect) or angles.cancel(run) was called. */
extern bool angles_call_cancelled(AnglesCall *call);

/*
 * Sends one result row (jsonb text) to the one who waits, if any, and keeps it for the run's
 * result. Never waits. Anywhere between take and finish.
 */
extern void angles_call_row(AnglesCall *call, const char *json);

/*
 * The same, and keeps nothing: for rows that not everybody may read who may read angles.runs, or
 * that are too many.
 */
extern void angles_call_pass(AnglesCall *call, const char *json);

/* Whether somebody waits for the answer. */
extern bool angles_call_is_waited_for(AnglesCall *call);

/* Shows a text to the one who waits, if any, as a NOTICE. Never waits. */
extern void angles_call_notice(AnglesCall *call, const char *text);

/* Sends on what waits to be sent. Returns whether the one who waits has room for more. */
extern bool angles_call_has_room(AnglesCall *call);

/*
 * Ends the run: writes angles.runs (inside a transaction of the caller's) with state
 * 'succeeded', 'failed' or 'cancelled', class ('transient', 'busy', 'permanent' or NULL; the
 * first two are tried again while attempts are left), SQLSTATE, message, detail, hint.
 * Returns false, with nothing done, when somebody's open transaction holds the row of the run: to
 * be called again a second later. When it is true,
 * angles_call_reply() then tells the one who waits; call it after the commit, outside of any
 * transaction: it waits (at most 2 s) for a session that is slow to read its rows.
 */
extern bool angles_call_finish(AnglesCall *call, const char *state, const char *class,
							   int sqlerrcode, const char *message, const char *detail,
							   const char *hint);
extern void angles_call_reply(AnglesCall *call);

/*
 * What a job worker does for a task: outside of a transaction, and it leaves none open. It raises
 * an error when it fails; busy and lack of resources are tried again where nobody waits.
 */
typedef void (*AnglesJobFunction) (AnglesCall *call);

/* Names the function for a task. From _PG_init; "task" is kept. */
extern void angles_job_register(const char *task, AnglesJobFunction function);

/* ---- sessions that wait for the sync worker ---- */

/* Why no worker serves this database: what check_served() raises as an error. */
typedef struct AnglesRefusal
{
	int			sqlerrcode;
	const char *message;
	const char *detail;			/* or NULL */
	const char *hint;
} AnglesRefusal;

/*
 * Returns true, and says why, when nothing is sent for this database before a person has done
 * something. fence_free: it is about something that a fenced database may ask for.
 */
extern bool angles_worker_refuses(bool fence_free, AnglesRefusal *why);

/* What keeps the sync worker from sending anything at all. */
typedef enum AnglesSending
{
	SENDING_UNKNOWN,			/* it has not told yet */
	SENDING_FREE,
	SENDING_NO_TOKEN,
	SENDING_REFUSED,			/* the token */
	SENDING_UNREACHABLE,
	SENDING_PAUSED				/* Notion asked for that */
} AnglesSending;

/*
 * Lets this session be woken whenever the sync worker has committed, or told something new, and
 * wakes it. Returns a place to give back, also after an error; -1: there is none, look yourself.
 */
extern int	angles_waiter_enter(void);
extern void angles_waiter_leave(int place);

/* What the sync worker has told since; *until_us (mono) when that is over, if it knows. */
extern AnglesSending angles_worker_sending(int64 *until_us);

/* For the sync worker: does anybody wait? Wakes all. */
extern bool angles_waiters_there(void);
extern void angles_waiters_wake(void);

/* For the sync worker: tells them what it is like with sending. Returns whether that is news. */
extern bool angles_waiters_tell(AnglesSending state, int64 until_us);

/*
 * For the sync worker: notes that whatever is committed up to a position of the WAL has a number in
 * the change log of at most "id"; to be called when that is due.
 */
extern bool angles_position_is_due(void);
extern void angles_position_note(XLogRecPtr lsn, int64 id);

/* Returns the lowest such number for a position that is known, "otherwise" when none is lower. */
extern int64 angles_position_find(XLogRecPtr lsn, int64 otherwise);

typedef enum AnglesHere
{
	HERE_YES,
	HERE_BUSY,					/* somebody is just dropping or altering it */
	HERE_GONE
} AnglesHere;

/*
 * Returns whether the extension is the one with this oid, and locks it until the end of the
 * (sub)transaction when nobody else has it. Waits for nobody.
 */
extern AnglesHere angles_extension_is_here(Oid extension);

/* ---- alerts and audit trail (inside a transaction of the caller's) ---- */

/*
 * Opens (or refreshes) the alert of this fingerprint; severity is 'info', 'warning' or 'critical'.
 * Log line and NOTIFY angles_alerts only when it opens. One that somebody's open transaction holds
 * is left as it is.
 */
extern void angles_alert_open(const char *fingerprint, const char *severity, const char *title,
							  const char *detail, const char *hint);

/* Closes the open alert of this fingerprint; nothing when there is none. */
extern void angles_alert_close(const char *fingerprint);

/*
 * Closes alerts that somebody's open transaction held when this process wanted to close them. To be
 * called now and then: it costs nothing while there are none.
 */
extern void angles_alerts_catch_up(void);

/* Appends to angles.audit_log who did what to which object; detail is jsonb text or NULL. */
extern void angles_audit(const char *action, const char *object, const char *detail);

#endif							/* ANGLES_WORKER_H */
