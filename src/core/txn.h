/*
 * txn.h
 *		Transactions of background workers, SPI with errors checked, and errors kept in a box.
 */
#ifndef ANGLES_TXN_H
#define ANGLES_TXN_H

#include "postgres.h"

#include "executor/spi.h"

/*
 * Starts a transaction with a snapshot and SPI connected; search_path and the like were pinned by
 * angles_txn_pin_settings(). "activity" is shown in pg_stat_activity.
 */
extern void angles_txn_begin(const char *activity);

/*
 * Commits what angles_txn_begin() started, reports statistics and switches back to the memory
 * context that was current at the begin.
 */
extern void angles_txn_commit(void);

/*
 * As angles_txn_commit(), without waiting for the WAL: for bookkeeping that may be lost in a crash.
 */
extern void angles_txn_commit_async(void);

/* Aborts a transaction that angles_txn_begin() started, after an error or on purpose. */
extern void angles_txn_abort(void);

/*
 * Pins the settings that the meaning of our statements depends on (search_path = pg_catalog,
 * pg_temp; DateStyle, IntervalStyle, TimeZone, extra_float_digits, bytea_output, row_security,
 * lock_timeout, ...) for the life of a background worker. Called once after connecting.
 */
extern void angles_txn_pin_settings(void);

/*
 * Pins, for the life of a background worker, what keeps a session that runs a user's code from
 * waiting for long or from being something else than a plain session of that user; the settings
 * that his code may depend on (search_path, DateStyle, ...) stay his.
 */
extern void angles_txn_pin_session(void);

/*
 * Pins the settings that the text of values and the meaning of names depend on until
 * AtEOXact_GUC(true, what this returns), or the end of the transaction. Works in any process.
 */
extern int	angles_txn_pin_values(void);

/*
 * Executes a statement with parameters; NULL in nulls[i] position as SPI ('n' or ' '). The plan is
 * prepared once in a process and kept in *plan. Raises an error unless the result code is
 * "expect"; returns SPI_processed. Parameter types are read at the first call only. The current
 * memory context is the same afterwards.
 */
extern uint64 angles_spi_exec(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes,
							  Datum *values, const char *nulls, int expect);

/* The same, but seeing the database as a snapshot does. */
extern uint64 angles_spi_exec_seeing(Snapshot snapshot, SPIPlanPtr *plan, const char *sql,
									 int nargs, const Oid *argtypes, Datum *values,
									 const char *nulls, int expect);

/* Forgets a plan kept by angles_spi_exec(), for instance when the extension was made anew. */
extern void angles_spi_forget(SPIPlanPtr *plan);

/*
 * Returns the value of a column (1..n) of row "row" of the last result as a palloc'd C string in
 * context "cxt", or NULL for an SQL null.
 */
extern char *angles_spi_text(uint64 row, int column, MemoryContext cxt);

/*
 * Runs fn(arg) in a subtransaction. Returns NULL when it went well; else the subtransaction was
 * rolled back (memory context and resource owner restored) and the error is returned, copied into
 * the caller's context. Cancel, termination and out-of-memory-in-critical errors are not kept: they
 * are thrown on. With read_only the subtransaction cannot write and is always rolled back.
 */
extern ErrorData *angles_txn_try(void (*fn) (void *arg), void *arg, bool read_only);

/*
 * As angles_txn_try(), and cancels fn after timeout_ms (0: never): that error, of SQLSTATE
 * query_canceled, is kept. Where fn catches it, it is cancelled again after as long, and at last
 * the process ends. Only in a process that is connected to a database.
 */
extern ErrorData *angles_txn_try_for(void (*fn) (void *arg), void *arg, bool read_only,
									 int timeout_ms);

/*
 * Runs fn(arg) outside any transaction need (it touches memory only: parsing, conversion). Returns
 * NULL when it went well, else the error, copied into the caller's context.
 */
extern ErrorData *angles_try_pure(void (*fn) (void *arg), void *arg);

/* Returns the five characters of an SQLSTATE in a static buffer. */
extern const char *angles_sqlstate_text(int sqlerrcode);

#endif							/* ANGLES_TXN_H */
