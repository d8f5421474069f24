/*
 * waitsync.c
 *		angles.wait_synced(): waits until Notion has acknowledged what was committed. The session's
 *		half runs in user backends; the sync worker's half, at the end, costs nothing while nobody
 *		waits.
 *
 * A change is known by its number in the log: it stands there until it is folded, then in an entry
 * of the queue whose numbers, first_id to last_id, include it, until Notion acknowledges it. The
 * session reads both under one snapshot, so it never falls in between. It is woken when the worker
 * has committed, and looks by itself once a second.
 *
 * A session that waits holds neither a snapshot (see core/snapshot.c) nor a lock: each look is a
 * subtransaction that is rolled back. It must never wait for somebody who drops the extension.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/snapshot.h"
#include "core/txn.h"
#include "core/wait.h"
#include "sync/changelog.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "sync/owncommit.h"
#include "worker/worker.h"

/* It looks no more often than this; where a look takes long, no more than a tenth of its time. */
#define SHORTEST_PAUSE_US INT64CONST(5000)
#define LONG_LOOK_US INT64CONST(50000)
#define SHARE_OF_TIME 10

/* And at least this often; without a place to be woken at, after the shorter time. */
#define LONGEST_PAUSE_US INT64CONST(1000000)
#define UNWOKEN_PAUSE_US INT64CONST(100000)

/*
 * What needs a person is told when it has been so for this long: what he did a moment ago, or a
 * reload of the settings, may not have reached the worker.
 */
#define STUCK_US INT64CONST(200000)

#define RESULT_COLUMNS 7

typedef enum Verdict
{
	VERDICT_SYNCED,
	VERDICT_MOVES,				/* or nobody can tell just now */
	VERDICT_STUCK
} Verdict;

typedef struct Obstacle
{
	bool		has_table;
	Oid			table;
	char	   *key;
	int64		changes;
	const char *state;
	const char *reason;
	const char *hint;
} Obstacle;

typedef struct Wait
{
	Oid			extension;
	int64		until_us;		/* PG_INT64_MAX: without a limit */
	TimestampTz deadline;		/* the same by the clock of the queue */

	/* what is waited for: see angles.pending_changes() */
	XLogRecPtr	lsn;			/* InvalidXLogRecPtr: what this session committed last */
	bool		everything;		/* up to last_id, of all tables */
	int64		first_id;
	int64		last_id;
	int64		newest_id;		/* in the log when the wait began; 0: not read yet */
	Datum		links;
	Datum		rows_of;
	Datum		keys;
	bool		any_key;
	bool		any_link;		/* links as a whole are waited for */

	/* commits up to lsn that are not visible yet */
	bool		all_visible;
	VirtualTransactionId *writing;	/* their commit record may not be in the commit log yet */
	int			n_writing;
	TransactionId *committed;
	int			n_committed;

	/* what the last look has found */
	MemoryContext context;
	bool		gone;
	bool		busy;
	bool		moves;
	List	   *obstacles;		/* of Obstacle * */
	int64		n_changes;
} Wait;

static void read_arguments(FunctionCallInfo fcinfo, Wait *wait);
static int64 microseconds(const Interval *timeout);
static const OwnCommit *last_commit(void);
static void own_commit(Wait *wait, const OwnCommit *own);
static void wait_for_it(Wait *wait);
static void pause_until(int64 shortest, int64 longest);
static void leave_place(int code, Datum arg);
static Verdict look(Wait *wait);
static bool commits_are_visible(Wait *wait);
static void find_invisible(Wait *wait, Snapshot snapshot);
static void look_job(void *arg);
static Datum failed_captures(const Wait *wait);
static void find_newest(Wait *wait);
static bool newest_number(int64 *id);
static Oid	log_sequence(void);
static void take_obstacle(Wait *wait, uint64 row);
static bool nothing_is_sent(Wait *wait);
static void add_obstacle(Wait *wait, const char *state, const char *reason, const char *hint);
static void put_row(ReturnSetInfo *result, bool synced, const Obstacle *obstacle);

PG_FUNCTION_INFO_V1(angles_wait_synced);

/* wait_synced(timeout interval, lsn pg_lsn) */
Datum
angles_wait_synced(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Wait		wait = {0};
	const OwnCommit *own;
	Obstacle	nothing = {.state = "synced"};
	bool		released;
	ListCell   *cell;

	read_arguments(fcinfo, &wait);
	InitMaterializedSRF(fcinfo, 0);
	own = last_commit();
	if (wait.lsn == InvalidXLogRecPtr && own == NULL)
	{
		nothing.reason = "this session has committed no change of a linked table";
		put_row(result, true, &nothing);
		return (Datum) 0;
	}
	if (wait.lsn == InvalidXLogRecPtr)
		own_commit(&wait, own);
	else
		wait.everything = true;
	wait.context = AllocSetContextCreate(CurrentMemoryContext, "angles wait",
										 ALLOCSET_DEFAULT_SIZES);
	released = angles_snapshot_release(fcinfo);
	wait_for_it(&wait);
	if (released)
		angles_snapshot_take();
	if (wait.obstacles == NIL)
		put_row(result, true, &nothing);
	foreach(cell, wait.obstacles)
		put_row(result, false, (Obstacle *) lfirst(cell));
	return (Datum) 0;
}

static void
read_arguments(FunctionCallInfo fcinfo, Wait *wait)
{
	int64		timeout;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"timeout\" must not be null"),
				 errhint("Leave it out for 10 seconds; '0' looks once and does not wait.")));
	timeout = microseconds(PG_GETARG_INTERVAL_P(0));
	if (timeout < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"timeout\" must not be negative"),
				 errhint("With '0' it looks once and does not wait.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("no worker of angles runs on a standby")));
	if (angles_changelog_is_open())
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_IN_TRANSACTION),
				 errmsg("the changes of this transaction are not committed"),
				 errdetail("Nothing is sent to Notion before its COMMIT."),
				 errhint("COMMIT first, then call angles.wait_synced().")));
	wait->extension = get_extension_oid("angles", false);
	wait->until_us = PG_INT64_MAX;
	wait->deadline = DT_NOEND;
	if (timeout < PG_INT64_MAX)
	{
		wait->until_us = angles_clock_mono_us() + timeout;
		wait->deadline = angles_clock_now() + timeout;
	}
	if (PG_ARGISNULL(1))
		return;
	wait->lsn = PG_GETARG_LSN(1);
	if (wait->lsn == InvalidXLogRecPtr || wait->lsn > GetXLogInsertRecPtr())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no WAL at position %X/%X", LSN_FORMAT_ARGS(wait->lsn)),
				 errdetail("WAL was written up to %X/%X.",
						   LSN_FORMAT_ARGS(GetXLogInsertRecPtr())),
				 errhint("Take the position from pg_current_wal_insert_lsn() after the COMMIT, "
						 "on this server.")));
}

/* Returns the length of an interval; PG_INT64_MAX for one of more than 1000 years. */
static int64
microseconds(const Interval *timeout)
{
	double		us = (double) timeout->time + (double) timeout->day * USECS_PER_DAY +
		(double) timeout->month * DAYS_PER_MONTH * USECS_PER_DAY;

	if (us > 1000.0 * DAYS_PER_YEAR * USECS_PER_DAY)
		return PG_INT64_MAX;
	/* the sign is all that counts then */
	return us < 0 ? -1 : (int64) us;
}

/* Returns what this session committed last, unless the extension was made anew since. */
static const OwnCommit *
last_commit(void)
{
	const OwnCommit *own = angles_own_last();

	if (own != NULL && own->first_id != 0 && own->sequence != log_sequence())
		return NULL;
	return own;
}

static void
own_commit(Wait *wait, const OwnCommit *own)
{
	Datum	   *ids = palloc(ANGLES_OWN_LINKS * sizeof(Datum));
	Datum	   *rows_of = palloc(Max(own->n_keys, 1) * sizeof(Datum));
	Datum	   *keys = palloc(Max(own->n_keys, 1) * sizeof(Datum));
	int32		link_id;
	const char *key;
	int			len;
	int			at = 0;
	int			n = 0;

	for (int i = 0; i < own->n_links; i++)
		ids[i] = Int32GetDatum(own->links[i]);
	while (angles_own_next_key(own, &at, &link_id, &key, &len))
	{
		rows_of[n] = Int32GetDatum(link_id);
		keys[n++] = PointerGetDatum(cstring_to_text_with_len(key, len));
	}
	wait->first_id = own->first_id;
	/* without a number nothing was logged, and the links stand for all of it */
	wait->last_id = own->first_id == 0 ? -1 : own->last_id;
	wait->everything = own->many_links;
	wait->links = PointerGetDatum(construct_array(ids, own->n_links, INT4OID, sizeof(int32), true,
												  TYPALIGN_INT));
	wait->rows_of = PointerGetDatum(construct_array(rows_of, n, INT4OID, sizeof(int32), true,
													TYPALIGN_INT));
	wait->keys = PointerGetDatum(construct_array(keys, n, TEXTOID, -1, false, TYPALIGN_INT));
	wait->any_key = own->many_keys;
	wait->any_link = own->n_links > 0;
	wait->all_visible = true;
}

/* ---- waiting ---- */

/* Returns when there are no obstacles left, or only such as a person has to remove, or too late. */
static void
wait_for_it(Wait *wait)
{
	volatile int place = angles_waiter_enter();
	int64		stuck_since = 0;

	PG_ENSURE_ERROR_CLEANUP(leave_place, Int32GetDatum(place));
	{
		for (;;)
		{
			int64		before = angles_clock_mono_us();
			Verdict		verdict = look(wait);
			int64		now = angles_clock_mono_us();
			int64		took = now - before;
			int64		shortest = now + (took < LONG_LOOK_US ? Max(took, SHORTEST_PAUSE_US)
										  : SHARE_OF_TIME * took);
			int64		longest = now + (place < 0 ? UNWOKEN_PAUSE_US : LONGEST_PAUSE_US);

			if (verdict == VERDICT_SYNCED || now >= wait->until_us)
				break;
			if (verdict != VERDICT_STUCK)
				stuck_since = 0;
			else if (stuck_since == 0)
				stuck_since = now;
			else if (now - stuck_since >= STUCK_US)
				break;
			if (stuck_since != 0)
				longest = Min(longest, stuck_since + STUCK_US);
			shortest = Min(shortest, wait->until_us);
			pause_until(shortest, Max(shortest, Min(longest, wait->until_us)));
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_place, Int32GetDatum(place));
	angles_waiter_leave(place);
}

static void
leave_place(int code, Datum arg)
{
	(void) code;
	angles_waiter_leave(DatumGetInt32(arg));
}

/* Waits until somebody has woken this session, but not less or more than given. */
static void
pause_until(int64 shortest, int64 longest)
{
	int64		now = angles_clock_mono_us();
	bool		woken = false;

	/* what looked into the catalog has left a snapshot for the next look there */
	InvalidateCatalogSnapshot();
	while (now < (woken ? shortest : longest))
	{
		int64		end = woken || now < shortest ? shortest : longest;
		int			result = angles_wait(PGINVALID_SOCKET, (long) ((end - now) / 1000 + 1));

		woken = woken || (result & WL_LATCH_SET);
		now = angles_clock_mono_us();
	}
	angles_wait_check_client();
}

/* ---- looking ---- */

static Verdict
look(Wait *wait)
{
	MemoryContext old;
	ErrorData  *error = NULL;

	MemoryContextReset(wait->context);
	old = MemoryContextSwitchTo(wait->context);
	wait->obstacles = NIL;
	wait->n_changes = 0;
	wait->busy = wait->moves = false;
	if (!commits_are_visible(wait))
	{
		add_obstacle(wait, "committing", "a transaction up to this position is just committing",
					 "It may wait for a synchronous standby: look at pg_stat_activity.");
		wait->moves = true;
	}
	else if ((error = angles_txn_try(look_job, wait, true)) != NULL &&
			 error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	if (wait->gone)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"angles\" was dropped while this session waited"),
				 errhint("What had not been sent by then will not be.")));
	if (wait->busy || error != NULL)
	{
		wait->obstacles = NIL;
		add_obstacle(wait, "unknown", "somebody has a table of angles, or the extension, locked",
					 "Look at pg_locks.");
		wait->moves = true;
	}
	else if (wait->obstacles != NIL && wait->all_visible && nothing_is_sent(wait))
		wait->moves = false;
	MemoryContextSwitchTo(old);
	return wait->obstacles == NIL ? VERDICT_SYNCED : wait->moves ? VERDICT_MOVES : VERDICT_STUCK;
}

/*
 * A commit is in the WAL before others see it, for a long time where it waits for a standby.
 * Returns true once all up to the position are seen.
 *
 * Whoever writes a commit record marks his process before, until the commit log knows of it; the
 * transactions that it knows of and that still count as running are those to wait for.
 */
static bool
commits_are_visible(Wait *wait)
{
	if (wait->all_visible)
		return true;
	if (wait->writing == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(MemoryContextGetParent(wait->context));

		wait->writing = GetVirtualXIDsDelayingChkpt(&wait->n_writing, DELAY_CHKPT_START);
		MemoryContextSwitchTo(old);
	}
	if (wait->committed == NULL &&
		HaveVirtualXIDsDelayingChkpt(wait->writing, wait->n_writing, DELAY_CHKPT_START))
		return false;
	PushActiveSnapshot(GetLatestSnapshot());
	if (wait->committed == NULL)
		find_invisible(wait, GetActiveSnapshot());
	wait->all_visible = true;
	/* TransactionIdIsInProgress() would believe the commit log */
	for (int i = 0; i < wait->n_committed; i++)
		if (XidInMVCCSnapshot(wait->committed[i], GetActiveSnapshot()))
			wait->all_visible = false;
	PopActiveSnapshot();
	return wait->all_visible;
}

/* A snapshot takes what it has in its list for running, and all that is not below its xmax. */
static void
find_invisible(Wait *wait, Snapshot snapshot)
{
	TransactionId next = ReadNextTransactionId();
	int			room = snapshot->xcnt + 16;

	wait->committed = MemoryContextAlloc(MemoryContextGetParent(wait->context),
										 room * sizeof(TransactionId));
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		if (TransactionIdDidCommit(snapshot->xip[i]))
			wait->committed[wait->n_committed++] = snapshot->xip[i];
	for (TransactionId xid = snapshot->xmax; TransactionIdPrecedes(xid, next);)
	{
		CHECK_FOR_INTERRUPTS();
		if (wait->n_committed == room)
			wait->committed = repalloc_huge(wait->committed,
											(Size) (room *= 2) * sizeof(TransactionId));
		if (TransactionIdDidCommit(xid))
			wait->committed[wait->n_committed++] = xid;
		TransactionIdAdvance(xid);
	}
}

/* In a subtransaction that is rolled back: so no lock is left. */
static void
look_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Wait	   *wait = (Wait *) arg;
	Oid			types[8] = {INT8OID, INT8OID, INT4ARRAYOID, INT8OID, INT4ARRAYOID, INT4ARRAYOID,
	TEXTARRAYOID, TIMESTAMPTZOID};
	char		every = wait->everything ? 'n' : ' ';
	char		any = wait->everything || wait->any_key ? 'n' : ' ';
	char		nulls[8] = {every, ' ', every, ' ', ' ', any, any, ' '};
	Datum		values[8];
	Datum		failed;
	AnglesHere	here = angles_extension_is_here(wait->extension);
	uint64		n;

	wait->gone = here == HERE_GONE;
	wait->busy = here == HERE_BUSY;
	if (here != HERE_YES)
		return;
	(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(wait->context);
	failed = failed_captures(wait);
	PushActiveSnapshot(GetLatestSnapshot());
	find_newest(wait);
	values[0] = Int64GetDatum(wait->first_id);
	values[1] = Int64GetDatum(wait->last_id);
	values[2] = wait->links;
	values[3] = Int64GetDatum(wait->newest_id);
	values[4] = failed;
	values[5] = wait->rows_of;
	values[6] = wait->keys;
	values[7] = TimestampTzGetDatum(wait->deadline);
	n = angles_spi_exec_seeing(GetActiveSnapshot(), &plan,
							   "SELECT moves, \"table\"::oid, key, changes, state, reason, hint"
							   " FROM angles.pending_changes($1, $2, $3, $4, $5, $6, $7, $8)",
							   8, types, values, nulls, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
		take_obstacle(wait, i);
	PopActiveSnapshot();
	SPI_finish();
}

/*
 * Returns the links that have marks of failed captures. Read before the snapshot is taken: the sync
 * worker removes a mark when the wish for a compare that stands for it can be seen.
 */
static Datum
failed_captures(const Wait *wait)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	bool		isnull;
	Datum		ids;

	if (!wait->everything && !wait->any_link)
		return PointerGetDatum(construct_empty_array(INT4OID));
	values[0] = CStringGetTextDatum(psprintf("^(reconcile|taken)_%u_[0-9]+$", MyDatabaseId));
	PushActiveSnapshot(GetLatestSnapshot());
	angles_spi_exec_seeing(GetActiveSnapshot(), &plan,
						   "SELECT COALESCE(array_agg(substring(f FROM '[0-9]+$')::int4), '{}')"
						   " FROM pg_ls_dir('angles', true, false) f WHERE f ~ $1",
						   1, types, values, NULL, SPI_OK_SELECT);
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	ids = PointerGetDatum(DatumGetArrayTypePCopy(ids));
	PopActiveSnapshot();
	return ids;
}

/*
 * All that is committed by now has a number up to this one. A position that the sync worker noted
 * may say that what is waited for ends before.
 */
static void
find_newest(Wait *wait)
{
	if (wait->newest_id != 0 || (!wait->everything && !wait->any_link))
		return;
	if (!newest_number(&wait->newest_id))
		wait->busy = true;
	else if (wait->everything)
		wait->last_id = wait->lsn == InvalidXLogRecPtr ? wait->newest_id
			: angles_position_find(wait->lsn, wait->newest_id);
}

static void
take_obstacle(Wait *wait, uint64 row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Obstacle   *obstacle = palloc(sizeof(Obstacle));
	bool		isnull;

	wait->moves = wait->moves || DatumGetBool(SPI_getbinval(tuple, desc, 1, &isnull));
	obstacle->table = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
	obstacle->has_table = true;
	obstacle->key = angles_spi_text(row, 3, wait->context);
	obstacle->changes = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
	obstacle->state = angles_spi_text(row, 5, wait->context);
	obstacle->reason = angles_spi_text(row, 6, wait->context);
	obstacle->hint = angles_spi_text(row, 7, wait->context);
	wait->obstacles = lappend(wait->obstacles, obstacle);
	wait->n_changes += obstacle->changes;
}

/* Adds why, when nothing at all is sent before the time is over. */
static bool
nothing_is_sent(Wait *wait)
{
	AnglesRefusal why;
	int64		until_us;

	if (angles_worker_refuses(false, &why))
	{
		add_obstacle(wait, why.sqlerrcode == ERRCODE_ANGLES_FENCED ? "fenced" : "no worker",
					 why.detail ? psprintf("%s. %s", why.message, why.detail) : why.message,
					 why.hint);
		return true;
	}
	switch (angles_worker_sending(&until_us))
	{
		case SENDING_NO_TOKEN:
			add_obstacle(wait, "no token", "there is no token for Notion",
						 "Set angles.notion_token_file and reload the configuration.");
			return true;
		case SENDING_REFUSED:
			add_obstacle(wait, "token refused", "Notion refuses the token",
						 "SELECT * FROM angles.check_notion() shows more.");
			return true;
		case SENDING_UNREACHABLE:
			add_obstacle(wait, "unreachable", "Notion does not answer, or only with errors",
						 "The changes are kept and sent once it answers; "
						 "SELECT * FROM angles.check_notion() shows more.");
			return true;
		case SENDING_PAUSED:
			if (until_us < wait->until_us)
				return false;
			add_obstacle(wait, "paused by Notion", "Notion asked to wait with further requests",
						 "The changes are kept and sent after that time.");
			return true;
		default:
			return false;
	}
}

/* Puts an obstacle of everything that is waited for before the others. */
static void
add_obstacle(Wait *wait, const char *state, const char *reason, const char *hint)
{
	Obstacle   *obstacle = palloc0(sizeof(Obstacle));

	obstacle->changes = wait->n_changes;
	obstacle->state = state;
	obstacle->reason = reason;
	obstacle->hint = hint;
	wait->obstacles = lcons(obstacle, wait->obstacles);
}

static void
put_row(ReturnSetInfo *result, bool synced, const Obstacle *obstacle)
{
	Datum		values[RESULT_COLUMNS] = {BoolGetDatum(synced), ObjectIdGetDatum(obstacle->table),
	(Datum) 0, Int64GetDatum(obstacle->changes)};
	bool		nulls[RESULT_COLUMNS] = {false, !obstacle->has_table};
	const char *texts[] = {obstacle->key, obstacle->state, obstacle->reason, obstacle->hint};
	const int	columns[] = {2, 4, 5, 6};

	for (int i = 0; i < lengthof(texts); i++)
	{
		nulls[columns[i]] = texts[i] == NULL;
		if (texts[i] != NULL)
			values[columns[i]] = CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* ---- the sync worker's half ---- */

void
angles_tell_waiters(Engine *engine, bool committed)
{
	AnglesSending state = SENDING_FREE;
	AnglesRateState rate;
	int64		until_us = 0;
	int64		open_us;
	int			failures;

	if (!angles_waiters_there())
		return;
	if (engine->token == NULL)
		state = SENDING_NO_TOKEN;
	else if (engine->token_refused)
		state = SENDING_REFUSED;
	else if (angles_breaker_is_open(engine->fingerprint, &failures, &open_us))
		state = SENDING_UNREACHABLE;
	else if (angles_rate_get(engine->fingerprint, &rate) && rate.paused_us > 0)
	{
		state = SENDING_PAUSED;
		/* by the tenth of a second, so that it is no news each time */
		until_us = (angles_clock_mono_us() + rate.paused_us) / 100000 * 100000;
	}
	if (angles_waiters_tell(state, until_us) || committed)
		angles_waiters_wake();
}

void
angles_note_position(void)
{
	XLogRecPtr	lsn;
	int64		id;

	if (!angles_position_is_due())
		return;
	/* in this order: whoever had his commit record up to here has drawn his number before */
	lsn = GetXLogInsertRecPtr();
	if (newest_number(&id))
		angles_position_note(lsn, id);
}

/*
 * Reads the last number that was drawn for the log; a statement would cost more. Returns false when
 * the sequence is not there, or somebody has it locked: the worker waits for nobody.
 */
static bool
newest_number(int64 *id)
{
	LOCAL_FCINFO(fcinfo, 1);
	Oid			sequence = log_sequence();
	Datum		number;

	if (!OidIsValid(sequence) || !ConditionalLockRelationOid(sequence, RowExclusiveLock))
		return false;
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	number = pg_sequence_last_value(fcinfo);
	/* null: none was drawn so far */
	*id = fcinfo->isnull ? 1 : DatumGetInt64(number);
	return true;
}

static Oid
log_sequence(void)
{
	return get_relname_relid("change_log_seq", get_namespace_oid("angles", false));
}
