/*
 * enter.c
 *		How a worker of angles comes into its database, makes sure in each transaction that it is
 *		still wanted there, and leaves. Runs in bridges, sync and apply workers.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "core/errors.h"
#include "core/txn.h"
#include "worker/enter.h"
#include "worker/extension.h"
#include "worker/slots.h"
#include "worker/worker.h"

/*
 * Fourth field of the advisory lock of the one sync worker. SQL functions use 1 and 2 there, so no
 * user can take or hold this lock.
 */
#define SYNC_LOCK_FIELD 0x4E47

AnglesExtension angles_my_extension;

static int64 my_generation = 0;

static void find_own_extension(void);
static bool lock_only_sync_worker(void);
static bool take_wake(pg_atomic_uint32 *flag);
static int64 draw_generation(void);

/* ---- the extension ---- */

bool
angles_extension_find(AnglesExtension *extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("angles"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion,
										   RelationGetDescr(rel), &isnull);

		found = true;
		extension->oid = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		extension->owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
		strlcpy(extension->version, isnull ? "" : TextDatumGetCString(version),
				sizeof(extension->version));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

bool
angles_extension_lock(Oid extension, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	if (LockAcquire(&tag, mode, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return true;
}

bool
angles_extension_matches(const AnglesExtension *extension)
{
	return strcmp(extension->version, ANGLES_VERSION) == 0;
}

/* ---- coming in ---- */

void
angles_enter_database(int kind, Datum main_arg, const char *name)
{
	Oid			role;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* a SIGHUP between fork and here was not seen */
	ConfigReloadPending = true;

	role = angles_slots_enter(kind, main_arg);
	BackgroundWorkerInitializeConnectionByOid(pg_atomic_read_u32(&angles_my_slot->dboid),
											  role, OidIsValid(role) ? ANGLES_CONNECT_AS_ROLE : 0);
	pgstat_report_appname(name);
	if (kind == KIND_APPLY)
		angles_txn_pin_session();
	else
		angles_txn_pin_settings();
}

void
angles_worker_enter_sync(Datum main_arg)
{
	angles_enter_database(KIND_SYNC, main_arg, "angles sync");
	StartTransactionCommand();
	find_own_extension();
	/* quietly, and counted as a death: the other one may need a while to end */
	if (!lock_only_sync_worker())
		proc_exit(1);
	CommitTransactionCommand();

	angles_txn_begin("angles: coming in");
	angles_worker_recheck();
	my_generation = draw_generation();
	angles_txn_commit();
}

void
angles_worker_enter_apply(Datum main_arg)
{
	angles_enter_database(KIND_APPLY, main_arg, "angles apply");
	StartTransactionCommand();
	find_own_extension();
	CommitTransactionCommand();
}

void
angles_worker_enter_job(Datum main_arg)
{
	angles_enter_database(KIND_JOB, main_arg, "angles job");
	StartTransactionCommand();
	find_own_extension();
	CommitTransactionCommand();
}

/* The lock without waiting: while somebody drops or alters the extension the bridge waits. */
static void
find_own_extension(void)
{
	if (!angles_extension_find(&angles_my_extension) ||
		!angles_extension_lock(angles_my_extension.oid, AccessShareLock, false) ||
		!angles_extension_find(&angles_my_extension) ||
		!angles_extension_matches(&angles_my_extension))
		angles_leave_to_look_again();
}

/*
 * The slot already lets in only one. This lock is what holds when a slot was given away while its
 * process was still ending (B4). An advisory lock, because an error in a transaction releases
 * session locks of every other kind.
 */
static bool
lock_only_sync_worker(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, angles_my_extension.oid, 0, SYNC_LOCK_FIELD);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static int64
draw_generation(void)
{
	static SPIPlanPtr plan = NULL;
	bool		isnull;

	angles_spi_exec(&plan,
					"UPDATE angles.worker_generation SET generation = generation + 1, "
					"started_at = pg_catalog.now() RETURNING generation",
					0, NULL, NULL, NULL, SPI_OK_UPDATE_RETURNING);
	if (SPI_processed != 1)
		elog(ERROR, "angles.worker_generation does not have one row");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

int64
angles_worker_generation(void)
{
	return my_generation;
}

/* ---- staying ---- */

void
angles_worker_recheck(void)
{
	AnglesExtension now;

	if (!angles_extension_lock(angles_my_extension.oid, AccessShareLock, false) ||
		!angles_extension_find(&now) ||
		now.oid != angles_my_extension.oid ||
		strcmp(now.version, angles_my_extension.version) != 0)
		angles_leave_to_look_again();
}

bool
angles_worker_take_wake(void)
{
	return take_wake(&angles_my_slot->sync_wake);
}

bool
angles_worker_take_apply_wake(void)
{
	return take_wake(&angles_my_slot->apply_wake);
}

/* Looked at in every turn of a loop: read before the dearer exchange. */
static bool
take_wake(pg_atomic_uint32 *flag)
{
	return pg_atomic_read_u32(flag) != 0 && pg_atomic_exchange_u32(flag, 0) != 0;
}

void
angles_worker_wake_apply(void)
{
	angles_slots_wake_apply(angles_my_slot);
}

void
angles_worker_as_owner(void (*fn) (void *arg), void *arg)
{
	Oid			role;
	int			context;
	int			level;

	GetUserIdAndSecContext(&role, &context);
	level = angles_txn_pin_values();
	/* given back by the end of the (sub)transaction should this raise an error */
	SetUserIdAndSecContext(angles_my_extension.owner, context | SECURITY_LOCAL_USERID_CHANGE);
	fn(arg);
	SetUserIdAndSecContext(role, context);
	AtEOXact_GUC(true, level);
}

/* ---- leaving ---- */

void
angles_worker_exit_idle(void)
{
	angles_slots_leave_because(LEAVE_IDLE);
	proc_exit(0);
}

void
angles_worker_exit_fenced(void)
{
	angles_slots_look(angles_my_slot);
	angles_leave_to_look_again();
}

void
angles_leave_to_look_again(void)
{
	angles_slots_leave_because(LEAVE_LOOK_AGAIN);
	proc_exit(0);
}
