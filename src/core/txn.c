/*
 * txn.c
 *		See txn.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/txn.h"

/* Cancels that a user's function may catch. */
#define PATIENCE 2

static MemoryContext caller_context = NULL;

/* The timer of angles_txn_try_for(), and how often it went off. */
static TimeoutId limit_timer = MAX_TIMEOUTS;
static volatile sig_atomic_t limit_passed = 0;

static void pin_waits(void);
static void finish_transaction(void);
static bool must_not_be_kept(const ErrorData *error);
static void limit_begin(int timeout_ms);
static void limit_end(void);
static void limit_handler(void);

void
angles_txn_begin(const char *activity)
{
	caller_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

void
angles_txn_commit(void)
{
	/*
	 * What is sent after this commit must be on disk, and what its snapshot saw as well, whatever
	 * the server's default is.
	 */
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	finish_transaction();
}

void
angles_txn_commit_async(void)
{
	/*
	 * Only where the loss of this commit in a crash is repaired by what is durable already. The
	 * setting is per transaction, so it is set for this one alone.
	 */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	finish_transaction();
}

static void
finish_transaction(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller_context);
	/* without this autovacuum never learns of the queue's churn */
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
angles_txn_abort(void)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller_context ? caller_context : TopMemoryContext);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

int
angles_txn_pin_values(void)
{
	static const char *const pins[][2] = {
		{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"extra_float_digits", "1"}, {"bytea_output", "hex"}, {"xmlbinary", "base64"},
		{"lc_monetary", "C"}, {"search_path", "pg_catalog, pg_temp"},
	};
	int			level = NewGUCNestLevel();

	for (int i = 0; i < (int) lengthof(pins); i++)
		(void) set_config_option(pins[i][0], pins[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
angles_txn_pin_session(void)
{
	static const char *const pins[][2] = {
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"max_parallel_workers_per_gather", "0"},
		{"max_parallel_maintenance_workers", "0"},
	};

	/* as the session's own, which is what a SET in a trigger is: the last one counts */
	for (int i = 0; i < (int) lengthof(pins); i++)
		SetConfigOption(pins[i][0], pins[i][1], PGC_SUSET, PGC_S_SESSION);
	pin_waits();
}

/*
 * In a deadlock the one who notices it gives up: that shall be this session. When it is the one
 * that closes the circle it looks at once. When a user closes it, he looks after the server's
 * deadlock_timeout, and by then this session, which has waited for longer, has given up waiting.
 */
static void
pin_waits(void)
{
	int			patience_ms = atoi(GetConfigOptionResetString("deadlock_timeout"));

	SetConfigOption("deadlock_timeout", "1ms", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", psprintf("%d", Max(1, Min(1000, patience_ms * 3 / 4))),
					PGC_SUSET, PGC_S_SESSION);
}

void
angles_txn_pin_settings(void)
{
	static const char *const pins[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"DateStyle", "ISO, YMD"},
		{"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"xmlbinary", "base64"},
		{"lc_monetary", "C"},
		{"lock_timeout", "2s"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"jit", "off"},
		/* a worker started from a worker would hold the database open behind our back */
		{"max_parallel_workers_per_gather", "0"},
		{"max_parallel_maintenance_workers", "0"},
		/*
		 * The queue is empty most of the time, and its statistics say so: a plan made then reads
		 * all of it, dead rows too, for every batch of a large one.
		 */
		{"enable_seqscan", "off"},
	};

	for (int i = 0; i < (int) lengthof(pins); i++)
		SetConfigOption(pins[i][0], pins[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

uint64
angles_spi_exec(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes,
				Datum *values, const char *nulls, int expect)
{
	return angles_spi_exec_seeing(InvalidSnapshot, plan, sql, nargs, argtypes, values, nulls,
								  expect);
}

uint64
angles_spi_exec_seeing(Snapshot snapshot, SPIPlanPtr *plan, const char *sql, int nargs,
					   const Oid *argtypes, Datum *values, const char *nulls, int expect)
{
	MemoryContext caller = CurrentMemoryContext;
	int			rc;

	if (*plan == NULL)
	{
		SPIPlanPtr	fresh = SPI_prepare(sql, nargs, unconstify(Oid *, argtypes));

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not prepare statement: %s", SPI_result_code_string(SPI_result));
		*plan = fresh;
	}
	rc = SPI_execute_snapshot(*plan, values, nulls, snapshot, InvalidSnapshot, false, true, 0);
	/* SPI leaves its own context current, which goes with the transaction */
	MemoryContextSwitchTo(caller);
	if (rc != expect)
		elog(ERROR, "statement returned %s, expected %s",
			 SPI_result_code_string(rc), SPI_result_code_string(expect));
	return SPI_processed;
}

void
angles_spi_forget(SPIPlanPtr *plan)
{
	if (*plan != NULL)
		SPI_freeplan(*plan);
	*plan = NULL;
}

char *
angles_spi_text(uint64 row, int column, MemoryContext cxt)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(cxt, value) : NULL;
}

ErrorData *
angles_txn_try(void (*fn) (void *arg), void *arg, bool read_only)
{
	return angles_txn_try_for(fn, arg, read_only, 0);
}

ErrorData *
angles_txn_try_for(void (*fn) (void *arg), void *arg, bool read_only, int timeout_ms)
{
	MemoryContext outer_context = CurrentMemoryContext;
	ResourceOwner outer_owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(outer_context);
	if (timeout_ms > 0)
		limit_begin(timeout_ms);
	PG_TRY();
	{
		/* the subtransaction's end restores the value of its parent */
		if (read_only)
			XactReadOnly = true;
		fn(arg);
		if (timeout_ms > 0)
			limit_end();
		if (read_only)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(outer_context);
		error = CopyErrorData();
		if (timeout_ms > 0)
			limit_end();
		/*
		 * A function may raise that error by itself, as one that asked another server does. In a
		 * session it is a person's wish as well, unless the time has passed.
		 */
		if (must_not_be_kept(error) &&
			(timeout_ms <= 0 || error->sqlerrcode != ERRCODE_QUERY_CANCELED ||
			 (MyBackendType == B_BACKEND && limit_passed == 0)))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (timeout_ms > 0 && limit_passed > 0 && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			error->message = psprintf("it took longer than %d ms", timeout_ms);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(outer_context);
	CurrentResourceOwner = outer_owner;
	return error;
}

/*
 * The server's own statement_timeout belongs to the loop of a user's backend; a background worker
 * has to set a timer of its own. Its signal asks for a cancel as a person's does.
 */
static void
limit_begin(int timeout_ms)
{
	TimestampTz first;

	limit_passed = 0;
	if (limit_timer == MAX_TIMEOUTS)
		limit_timer = RegisterTimeout(USER_TIMEOUT, limit_handler);
	/* lint: c-forbidden: the timer of the system is set, which knows its own clock only */
	first = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	enable_timeout_every(limit_timer, first, timeout_ms);
}

static void
limit_end(void)
{
	disable_timeout(limit_timer, false);
	/* it may have fired when all was done already: nobody shall be cancelled for it now */
	if (limit_passed > 0)
		QueryCancelPending = false;
}

/*
 * A user's function can catch a cancel and go on, so it is asked for again and again, and at last
 * the process ends, which nobody can catch.
 */
static void
limit_handler(void)
{
	limit_passed++;
	InterruptPending = true;
	QueryCancelPending = true;
	if (limit_passed > PATIENCE)
		ProcDiePending = true;
	SetLatch(MyLatch);
}

ErrorData *
angles_try_pure(void (*fn) (void *arg), void *arg)
{
	MemoryContext outer_context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(outer_context);
		error = CopyErrorData();
		if (must_not_be_kept(error))
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return error;
}

/* What asks the whole process to stop is no failure of the one thing that was tried. */
static bool
must_not_be_kept(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_CRASH_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_IDLE_SESSION_TIMEOUT;
}

const char *
angles_sqlstate_text(int sqlerrcode)
{
	return unpack_sql_state(sqlerrcode);
}
