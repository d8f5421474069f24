/*
 * hold.c
 *		Takes angles' workers out of a database for DROP DATABASE, ALTER DATABASE RENAME and SET
 *		TABLESPACE, and for its use as a template: these commands need it empty. Runs in the
 *		backend that executes the command, inside its transaction.
 *
 * A command that will be refused must stop nothing. So the checks of the command itself are made
 * first, as dbcommands.c of PostgreSQL makes them: database, rights, names, other sessions. What
 * they miss is still found by the command; the workers were then stopped for a moment in vain.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_tablespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/wait.h"
#include "worker/hook.h"
#include "worker/slots.h"

#if PG_VERSION_NUM >= 160000
#define LOCAL_BEENTRY(i) pgstat_get_local_beentry_by_index(i)
#define MAY_CREATE_IN_TABLESPACE(oid) \
	(object_aclcheck(TableSpaceRelationId, (oid), GetUserId(), ACL_CREATE) == ACLCHECK_OK)
#else
#define LOCAL_BEENTRY(i) pgstat_fetch_stat_local_beentry(i)
#define MAY_CREATE_IN_TABLESPACE(oid) \
	(pg_tablespace_aclcheck((oid), GetUserId(), ACL_CREATE) == ACLCHECK_OK)
#endif

/* As long as CountOtherDBBackends() waits for other sessions, and as long we do for our workers. */
#define PATIENCE_US (5 * INT64CONST(1000000))
#define POLL_MS 100

/* A transaction may rename several databases; those beyond this many are left to the command. */
#define MAX_HELD 8

typedef struct Hold
{
	AnglesSlot *slot;
	bool		for_drop;
} Hold;

static Hold held[MAX_HELD];		/* by this session */
static int	n_held = 0;

static bool lock_database(const char *name, LOCKMODE mode, Oid *dboid, bool *is_template);
static bool may_create_databases(void);
static void wait_for_others(Oid dboid, const char *format, const char *name);
static void count_others(Oid dboid, int *sessions, int *prepared);
static bool is_ours(const AnglesSlot *slot, int pid);
static int	count_prepared(Oid dboid);
static bool may_terminate_others(Oid dboid);
static void take_hold(Oid dboid, bool for_drop);

/* ---- the commands ---- */

void
angles_hold_for_drop(const DropdbStmt *stmt, bool is_top_level)
{
	Oid			dboid;
	bool		is_template;
	bool		force = false;
	int			n_slots;
	int			n_active;
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		if (strcmp(((DefElem *) lfirst(cell))->defname, "force") == 0)
			force = true;
	}
	dboid = get_database_oid(stmt->dbname, true);
	if (angles_slots_find(dboid) == NULL || IsInTransactionBlock(is_top_level) ||
		dboid == MyDatabaseId || !ANGLES_OWNS_DATABASE(dboid, GetUserId()))
		return;
	if (!lock_database(stmt->dbname, AccessExclusiveLock, &dboid, &is_template) || is_template)
		return;
	(void) ReplicationSlotsCountDBSlots(dboid, &n_slots, &n_active);
	if (n_active > 0 || CountDBSubscriptions(dboid) > 0)
		return;
	if (!force)
		wait_for_others(dboid, "database \"%s\" is being accessed by other users", stmt->dbname);
	else if (count_prepared(dboid) > 0 || !may_terminate_others(dboid))
		return;
	take_hold(dboid, true);
}

void
angles_hold_for_rename(const RenameStmt *stmt)
{
	Oid			dboid = get_database_oid(stmt->subname, true);
	bool		is_template;

	if (angles_slots_find(dboid) == NULL || dboid == MyDatabaseId ||
		!ANGLES_OWNS_DATABASE(dboid, GetUserId()) || !may_create_databases() ||
		OidIsValid(get_database_oid(stmt->newname, true)))
		return;
	if (!lock_database(stmt->subname, AccessExclusiveLock, &dboid, &is_template))
		return;
	wait_for_others(dboid, "database \"%s\" is being accessed by other users", stmt->subname);
	take_hold(dboid, false);
}

void
angles_hold_for_move(const AlterDatabaseStmt *stmt, bool is_top_level)
{
	const char *tablespace = NULL;
	Oid			target;
	Oid			dboid;
	bool		is_template;
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "tablespace") == 0)
			tablespace = defGetString(option);
	}
	/* any other ALTER DATABASE leaves the sessions alone; together with others it is refused */
	if (tablespace == NULL || list_length(stmt->options) > 1)
		return;
	dboid = get_database_oid(stmt->dbname, true);
	target = get_tablespace_oid(tablespace, true);
	if (angles_slots_find(dboid) == NULL || IsInTransactionBlock(is_top_level) ||
		dboid == MyDatabaseId || !ANGLES_OWNS_DATABASE(dboid, GetUserId()) ||
		!OidIsValid(target) || target == GLOBALTABLESPACE_OID || !MAY_CREATE_IN_TABLESPACE(target))
		return;
	if (!lock_database(stmt->dbname, AccessExclusiveLock, &dboid, &is_template))
		return;
	wait_for_others(dboid, "database \"%s\" is being accessed by other users", stmt->dbname);
	take_hold(dboid, false);
}

void
angles_hold_for_template(const CreatedbStmt *stmt, bool is_top_level)
{
	const char *source = "template1";
	Oid			dboid;
	bool		is_template;
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			source = defGetString(option);
	}
	dboid = get_database_oid(source, true);
	if (angles_slots_find(dboid) == NULL || IsInTransactionBlock(is_top_level) ||
		!may_create_databases() || OidIsValid(get_database_oid(stmt->dbname, true)))
		return;
	if (!lock_database(source, ShareLock, &dboid, &is_template) ||
		(!is_template && !ANGLES_OWNS_DATABASE(dboid, GetUserId())))
		return;
	wait_for_others(dboid, "source database \"%s\" is being accessed by other users", source);
	take_hold(dboid, false);
}

/* ---- checks ---- */

/*
 * Locks a database by name as the command is about to do: from here on nobody can connect to it.
 * Returns false when it went or changed its name while we waited.
 */
static bool
lock_database(const char *name, LOCKMODE mode, Oid *dboid, bool *is_template)
{
	HeapTuple	tuple;

	LockSharedObject(DatabaseRelationId, *dboid, 0, mode);
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(*dboid));
	if (!HeapTupleIsValid(tuple))
		return false;
	*is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return get_database_oid(name, true) == *dboid;
}

static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		result;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * Returns when nobody but angles is in the database. Raises the command's own error when others
 * stay: the command could not say it better, and would need as long again to find out.
 */
static void
wait_for_others(Oid dboid, const char *format, const char *name)
{
	int64		give_up = angles_clock_mono_us() + PATIENCE_US;
	int			sessions;
	int			prepared;

	for (;;)
	{
		count_others(dboid, &sessions, &prepared);
		if (sessions == 0 && prepared == 0)
			return;
		if (angles_clock_mono_us() > give_up)
			break;
		angles_wait(PGINVALID_SOCKET, POLL_MS);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg(format, name),
			 sessions > 0 && prepared > 0 ?
			 errdetail("There are %d other session(s) and %d prepared transaction(s) "
					   "using the database.",
					   sessions, prepared) :
			 sessions > 0 ?
			 errdetail_plural("There is %d other session using the database.",
							  "There are %d other sessions using the database.",
							  sessions, sessions) :
			 errdetail_plural("There is %d prepared transaction using the database.",
							  "There are %d prepared transactions using the database.",
							  prepared, prepared)));
}

/* Counts whom the command will not stop by itself: not us, not our workers, not autovacuum. */
static void
count_others(Oid dboid, int *sessions, int *prepared)
{
	const AnglesSlot *slot = angles_slots_find(dboid);
	int			n;

	*sessions = 0;
	*prepared = count_prepared(dboid);
	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = LOCAL_BEENTRY(i);
		PgBackendStatus *entry = local ? &local->backendStatus : NULL;

		if (entry != NULL && entry->st_procpid > 0 && entry->st_databaseid == dboid &&
			entry->st_procpid != MyProcPid && entry->st_backendType != B_AUTOVAC_WORKER &&
			!is_ours(slot, entry->st_procpid))
			(*sessions)++;
	}
}

static bool
is_ours(const AnglesSlot *slot, int pid)
{
	return slot != NULL && angles_slots_has(slot, pid);
}

static int
count_prepared(Oid dboid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(dboid)};
	int			n = 0;

	if (max_prepared_xacts == 0)
		return 0;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT 1 FROM pg_catalog.pg_prepared_xact() p "
							  "WHERE p.dbid OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, true, 0) == SPI_OK_SELECT)
		n = (int) SPI_processed;
	SPI_finish();
	PopActiveSnapshot();
	return n;
}

/* Returns true when DROP DATABASE ... WITH (FORCE) may end all sessions of the database. */
static bool
may_terminate_others(Oid dboid)
{
	const AnglesSlot *slot = angles_slots_find(dboid);
	int			n;

	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = LOCAL_BEENTRY(i);
		PgBackendStatus *entry = local ? &local->backendStatus : NULL;

		if (entry == NULL || entry->st_procpid <= 0 || entry->st_databaseid != dboid ||
			entry->st_procpid == MyProcPid || is_ours(slot, entry->st_procpid) ||
			entry->st_backendType != B_BACKEND)
			continue;
		if (superuser_arg(entry->st_userid) && !superuser())
			return false;
		if (!has_privs_of_role(GetUserId(), entry->st_userid) &&
			!has_privs_of_role(GetUserId(), ROLE_PG_SIGNAL_BACKEND))
			return false;
	}
	return true;
}

/* ---- the hold ---- */

/*
 * Bars the slot of a database, ends its workers and waits until they have left. Should one not
 * leave in time, the command says what it says to any other session in its way.
 */
static void
take_hold(Oid dboid, bool for_drop)
{
	AnglesSlot *slot;
	int64		give_up = angles_clock_mono_us() + PATIENCE_US;
	bool		empty = false;

	if (n_held == MAX_HELD)
		return;
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	slot = angles_slots_find(dboid);
	if (slot != NULL && slot->hold_pid == 0)
	{
		held[n_held++] = (Hold) {
			.slot = slot, .for_drop = for_drop
		};
		slot->hold_pid = MyProcPid;
		slot->hold_proc = ANGLES_MY_PROC_NUMBER + 1;
	}
	LWLockRelease(&angles_shared->lock);
	if (slot == NULL)
		return;

	angles_slots_stop_workers(slot);
	angles_slots_stop(&slot->bridge);
	while (!empty && angles_clock_mono_us() < give_up)
	{
		LWLockAcquire(&angles_shared->lock, LW_SHARED);
		empty = angles_slots_are_empty(slot, true);
		LWLockRelease(&angles_shared->lock);
		if (!empty)
			angles_wait(PGINVALID_SOCKET, POLL_MS);
	}
}

void
angles_hold_release(bool committed)
{
	if (n_held == 0)
		return;
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	while (n_held > 0)
	{
		Hold		hold = held[--n_held];

		if (hold.slot->hold_pid != MyProcPid)
			continue;
		hold.slot->hold_pid = 0;
		hold.slot->hold_proc = 0;
		hold.slot->bridge.due_us = angles_clock_mono_us();
		if (committed && hold.for_drop && angles_slots_are_empty(hold.slot, false))
			angles_slots_free(hold.slot);
	}
	LWLockRelease(&angles_shared->lock);
	angles_slots_poke_launcher();
}
