/*
 * launcher.c
 *		The launcher: one process for the cluster, connected to no database. It starts a bridge in
 *		each database, once, to learn whether the extension is there, and again whenever one is
 *		needed. It is the only one that starts bridges. It never touches a table but pg_database,
 *		never the network, and has no timer while nothing is due.
 */
#include "postgres.h"

#include <limits.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/wait.h"
#include "worker/launcher.h"
#include "worker/slots.h"

extern PGDLLEXPORT void angles_launcher_main(Datum main_arg);

/* While the server has no free worker process: time between two tries. */
#define SHORTAGE_RETRY_US INT64CONST(1000000)

typedef struct Database
{
	Oid			oid;
	bool		served;			/* connectable and no template */
} Database;

/* Handles of the bridges this process asked for that have not come in yet, by slot. */
static BackgroundWorkerHandle **handles;

/* Databases known to be without the extension whose slot was given to another. */
static List *evicted = NIL;
static bool too_few_slots = false;	/* a database waits for a slot */
static bool too_few_logged = false;
static bool shortage_logged = false;
static int64 shortage_until = 0;

static void launcher_leave(int code, Datum arg);
static void scan_databases(void);
static List *read_databases(void);
static void forget_unserved(List *databases, const Oid *known);
static void add_new(List *databases);
static bool is_settled(void);
static long serve_slots(void);
static bool is_due(AnglesSlot *slot, int64 now, int64 *next);
static void forget_dead_holder(AnglesSlot *slot);
static int	by_due_time(const void *a, const void *b);
static void start_in_order(AnglesSlot **due, int n, int64 *next);

void
angles_launcher_install(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, "angles launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "angles launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* a standby runs nothing; a promoted one starts it by itself */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "angles", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "angles_launcher_main", sizeof(worker.bgw_function_name));
	RegisterBackgroundWorker(&worker);
}

void
angles_launcher_main(Datum main_arg)
{
	MemoryContext turn;

	(void) main_arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* a SIGHUP between fork and here was not seen */
	ConfigReloadPending = true;

	before_shmem_exit(launcher_leave, 0);
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	angles_shared->launcher_pid = MyProcPid;
	pg_atomic_exchange_u32(&angles_shared->launcher_proc, ANGLES_MY_PROC_NUMBER + 1);
	LWLockRelease(&angles_shared->lock);
	pg_atomic_write_u32(&angles_shared->rescan, 1);

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("angles launcher");
	handles = MemoryContextAllocZero(TopMemoryContext,
									 angles_shared->n_slots * sizeof(BackgroundWorkerHandle *));
	turn = AllocSetContextCreate(TopMemoryContext, "angles launcher", ALLOCSET_SMALL_SIZES);
	for (;;)
	{
		long		timeout;

		MemoryContextSwitchTo(turn);
		MemoryContextReset(turn);
		if (pg_atomic_exchange_u32(&angles_shared->rescan, 0) != 0 || too_few_slots)
			scan_databases();
		timeout = serve_slots();
		/* a wait for a lock on the way may have taken the latch of a wake-up with it */
		if (pg_atomic_read_u32(&angles_shared->rescan) == 0)
			angles_wait(PGINVALID_SOCKET, timeout);
	}
}

static void
launcher_leave(int code, Datum arg)
{
	(void) code;
	(void) arg;
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (angles_shared->launcher_pid == MyProcPid)
	{
		angles_shared->launcher_pid = 0;
		pg_atomic_exchange_u32(&angles_shared->launcher_proc, 0);
	}
	LWLockRelease(&angles_shared->lock);
}

/* ---- which databases there are ---- */

/* Makes the slots agree with pg_database: new databases get one, dropped ones lose it. */
static void
scan_databases(void)
{
	Oid		   *known = palloc(angles_shared->n_slots * sizeof(Oid));
	List	   *databases;

	for (int i = 0; i < angles_shared->n_slots; i++)
		known[i] = pg_atomic_read_u32(&angles_shared->slots[i].dboid);
	databases = read_databases();
	forget_unserved(databases, known);
	add_new(databases);
}

/* Returns all databases, read as the autovacuum launcher reads them, in the current context. */
static List *
read_databases(void)
{
	MemoryContext result = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(result);
		Database   *database = palloc(sizeof(Database));

		database->oid = form->oid;
		database->served = form->datallowconn && !form->datistemplate &&
			!database_is_invalid_form(form);
		databases = lappend(databases, database);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(result);
	return databases;
}

/*
 * Frees the slots, known before the databases were read, whose database is not served. (A later one
 * was made by a session in a database that is newer than the list.) A running bridge stays: its
 * database was closed to new sessions only.
 */
static void
forget_unserved(List *databases, const Oid *known)
{
	for (int i = 0; i < angles_shared->n_slots; i++)
	{
		AnglesSlot *slot = &angles_shared->slots[i];
		Oid			dboid = pg_atomic_read_u32(&slot->dboid);
		bool		stays = false;
		ListCell   *cell;

		if (!OidIsValid(dboid) || dboid != known[i])
			continue;
		foreach(cell, databases)
		{
			Database   *database = lfirst(cell);

			stays = stays || (database->oid == dboid && database->served);
		}
		if (stays)
			continue;
		LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
		/* an uncommitted CREATE DATABASE is not seen here, but it has no slot either */
		if (pg_atomic_read_u32(&slot->dboid) == dboid && slot->hold_pid == 0 &&
			angles_slots_are_empty(slot, false))
			angles_slots_free(slot);
		LWLockRelease(&angles_shared->lock);
	}
}

static void
add_new(List *databases)
{
	ListCell   *cell;

	too_few_slots = false;
	foreach(cell, databases)
	{
		Database   *database = lfirst(cell);
		Oid			gone;
		bool		got;

		if (!database->served || list_member_oid(evicted, database->oid) ||
			angles_slots_find(database->oid) != NULL)
			continue;
		LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
		got = angles_slots_claim(database->oid, &gone) != NULL;
		LWLockRelease(&angles_shared->lock);
		if (OidIsValid(gone))
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			evicted = list_append_unique_oid(evicted, gone);
			MemoryContextSwitchTo(old);
		}
		too_few_slots = too_few_slots || !got;
	}
	/* as long as some are not looked at, their slots may become free */
	if (too_few_slots && !too_few_logged && is_settled())
	{
		too_few_logged = true;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("angles does not serve all databases of this server"),
				 errdetail("angles.max_databases is %d, and all of them have the extension.",
						   angles_shared->n_slots),
				 errhint("Raise angles.max_databases and restart the server.")));
	}
	else if (!too_few_slots)
		too_few_logged = false;
}

/* Returns true when each slot's database has been looked at. */
static bool
is_settled(void)
{
	bool		settled = true;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	for (int i = 0; i < angles_shared->n_slots; i++)
		settled = settled && angles_shared->slots[i].content != CONTENT_UNKNOWN;
	LWLockRelease(&angles_shared->lock);
	return settled;
}

/* ---- bridges ---- */

/* Starts the bridges that are due; returns the milliseconds until the next is, -1 for none. */
static long
serve_slots(void)
{
	int64		now = angles_clock_mono_us();
	int64		next = INT64_MAX;
	AnglesSlot **due = palloc(angles_shared->n_slots * sizeof(AnglesSlot *));
	int			n_due = 0;

	for (int i = 0; i < angles_shared->n_slots; i++)
	{
		AnglesSlot *slot = &angles_shared->slots[i];

		if (pg_atomic_read_u32(&slot->dboid) == InvalidOid)
			continue;
		forget_dead_holder(slot);
		if (slot->bridge.state == PLACE_STARTING)
		{
			angles_slots_start_failed(&slot->bridge, handles[i]);
			/* the end of a process with a handle is announced; one without has a deadline */
			if (slot->bridge.state == PLACE_STARTING && handles[i] == NULL)
				next = Min(next, slot->bridge.since_us + ANGLES_START_PATIENCE_US);
		}
		if (slot->bridge.state != PLACE_STARTING && handles[i] != NULL)
		{
			pfree(handles[i]);
			handles[i] = NULL;
		}
		if (is_due(slot, now, &next))
			due[n_due++] = slot;
	}
	if (n_due > 0)
	{
		/* who waits longest comes first, so that nobody loses his place to a shortage */
		qsort(due, n_due, sizeof(AnglesSlot *), by_due_time);
		start_in_order(due, n_due, &next);
	}
	else
		shortage_logged = false;
	if (next == INT64_MAX)
		return -1;
	return (long) Min(INT_MAX, Max(1, (next - angles_clock_mono_us()) / 1000 + 1));
}

/* Returns true when a bridge shall start in this slot now; else lowers *next to its time. */
static bool
is_due(AnglesSlot *slot, int64 now, int64 *next)
{
	bool		wanted;
	int64		due_us;

	LWLockAcquire(&angles_shared->lock, LW_SHARED);
	wanted = slot->hold_pid == 0 && slot->bridge.state == PLACE_EMPTY &&
		(slot->content != CONTENT_ABSENT || pg_atomic_read_u32(&slot->look) != 0);
	due_us = slot->bridge.due_us;
	LWLockRelease(&angles_shared->lock);
	if (!wanted)
		return false;
	if (due_us <= now)
		return true;
	*next = Min(*next, due_us);
	return false;
}

/* A session that dies gives its hold back by itself; this is the net below. */
static void
forget_dead_holder(AnglesSlot *slot)
{
	pid_t		holder = slot->hold_pid;

	if (holder == 0 || BackendPidGetProc(holder) != NULL)
		return;
	LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
	if (slot->hold_pid == holder)
	{
		slot->hold_pid = 0;
		slot->hold_proc = 0;
		slot->bridge.due_us = angles_clock_mono_us();
	}
	LWLockRelease(&angles_shared->lock);
}

static int
by_due_time(const void *a, const void *b)
{
	int64		left = (*(AnglesSlot *const *) a)->bridge.due_us;
	int64		right = (*(AnglesSlot *const *) b)->bridge.due_us;

	return left < right ? -1 : left > right ? 1 : 0;
}

static void
start_in_order(AnglesSlot **due, int n, int64 *next)
{
	bool		failed_before = false;

	if (angles_clock_mono_us() < shortage_until)
	{
		*next = Min(*next, shortage_until);
		return;
	}
	/* a bridge that could not come in may be that of a database that is gone */
	for (int i = 0; i < n; i++)
		failed_before = failed_before || due[i]->bridge.failures > 0;
	if (failed_before)
		scan_databases();

	for (int i = 0; i < n; i++)
	{
		int			index = (int) (due[i] - angles_shared->slots);
		MemoryContext old;

		if (pg_atomic_read_u32(&due[i]->dboid) == InvalidOid ||
			due[i]->bridge.state != PLACE_EMPTY || due[i]->hold_pid != 0)
			continue;
		old = MemoryContextSwitchTo(TopMemoryContext);
		handles[index] = angles_slots_start(due[i], KIND_BRIDGE, &(AnglesStart) {0});
		MemoryContextSwitchTo(old);
		if (handles[index] != NULL || due[i]->hold_pid != 0)
			continue;
		shortage_until = angles_clock_mono_us() + SHORTAGE_RETRY_US;
		*next = Min(*next, shortage_until);
		if (!shortage_logged)
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("angles waits for a free worker process to serve database %u",
							pg_atomic_read_u32(&due[i]->dboid)),
					 errhint("Raise max_worker_processes if this lasts.")));
		shortage_logged = true;
		return;
	}
}
