/*
 * hook.c
 *		The utility hook. Runs in user backends of a server that preloads angles: whatever it
 *		does must not make a command fail that would succeed without it.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "core/clock.h"
#include "core/compat.h"
#include "worker/extension.h"
#include "worker/hook.h"
#include "worker/slots.h"
#include "worker/worker.h"

#if PG_VERSION_NUM >= 160000
#define OWNS_EXTENSION(oid) object_ownercheck(ExtensionRelationId, (oid), GetUserId())
#define OWNS_SCHEMA(oid) object_ownercheck(NamespaceRelationId, (oid), GetUserId())
#else
#define OWNS_EXTENSION(oid) pg_extension_ownercheck((oid), GetUserId())
#define OWNS_SCHEMA(oid) pg_namespace_ownercheck((oid), GetUserId())
#endif

/* What is to be done when a command went well. */
typedef enum After
{
	AFTER_NOTHING,
	AFTER_RESCAN,				/* databases came or went */
	AFTER_LOOK,					/* the extension came, changed or went */
	AFTER_COMMIT_PREPARED
} After;

static ProcessUtility_hook_type prev_process_utility = NULL;

/* What this transaction's commit has to announce; cleared at its end. */
static bool look_at_commit = false;
static AnglesSlot *runs_slot = NULL;
static bool rescan_at_commit = false;

static void process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
							ProcessUtilityContext context, ParamListInfo params,
							QueryEnvironment *query_env, DestReceiver *dest, QueryCompletion *qc);
static void before_command(Node *stmt, bool is_top_level);
static void before_drop(DropStmt *stmt);
static void before_drop_owned(DropOwnedStmt *stmt);
static After what_comes_after(Node *stmt);
static void after_command(After after);
static void wake_after_commit_prepared(void);
static bool names_angles(List *objects);
static void lock_for_drop(bool if_schema_owner);
static List *linked_tables(Oid extension);
static void xact_callback(XactEvent event, void *arg);

void
angles_hook_install(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(xact_callback, NULL);
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *query_env, DestReceiver *dest, QueryCompletion *qc)
{
	/* asked first: the command may free its own tree (ROLLBACK, CALL) */
	After		after = what_comes_after(pstmt->utilityStmt);

	before_command(pstmt->utilityStmt, context == PROCESS_UTILITY_TOPLEVEL);
	if (prev_process_utility)
		prev_process_utility(pstmt, query_string, read_only_tree, context, params, query_env,
							 dest, qc);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, query_env,
								dest, qc);
	after_command(after);
}

static void
before_command(Node *stmt, bool is_top_level)
{
	/* on a standby every one of these commands is refused */
	if (RecoveryInProgress())
		return;
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			angles_hold_for_drop((DropdbStmt *) stmt, is_top_level);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				angles_hold_for_rename((RenameStmt *) stmt);
			break;
		case T_AlterDatabaseStmt:
			angles_hold_for_move((AlterDatabaseStmt *) stmt, is_top_level);
			break;
		case T_CreatedbStmt:
			angles_hold_for_template((CreatedbStmt *) stmt, is_top_level);
			break;
		case T_DropStmt:
			before_drop((DropStmt *) stmt);
			break;
		case T_DropOwnedStmt:
			before_drop_owned((DropOwnedStmt *) stmt);
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) stmt)->extname, "angles") == 0)
			{
				AnglesExtension extension;

				/* the command itself locks nothing: keep workers out while tables change */
				if (angles_extension_find(&extension) && OWNS_EXTENSION(extension.oid))
					angles_extension_lock(extension.oid, AccessExclusiveLock, true);
			}
			break;
		default:
			break;
	}
}

static void
before_drop(DropStmt *stmt)
{
	if (stmt->removeType == OBJECT_EXTENSION && names_angles(stmt->objects))
		lock_for_drop(false);
	else if (stmt->removeType == OBJECT_SCHEMA && stmt->behavior == DROP_CASCADE &&
			 names_angles(stmt->objects))
		lock_for_drop(true);
}

static void
before_drop_owned(DropOwnedStmt *stmt)
{
	AnglesExtension extension;
	ListCell   *cell;

	if (!angles_extension_find(&extension))
		return;
	foreach(cell, stmt->roles)
	{
		Oid			role = get_rolespec_oid(lfirst(cell), true);

#if PG_VERSION_NUM >= 160000
		bool		owns = OidIsValid(role) &&
			object_ownercheck(ExtensionRelationId, extension.oid, role);
#else
		bool		owns = OidIsValid(role) && pg_extension_ownercheck(extension.oid, role);
#endif

		if (owns && has_privs_of_role(GetUserId(), role))
		{
			lock_for_drop(false);
			angles_hook_look_at_commit();
			return;
		}
	}
}

static bool
names_angles(List *objects)
{
	ListCell   *cell;

	foreach(cell, objects)
	{
		Node	   *name = lfirst(cell);

		if (IsA(name, String) && strcmp(strVal(name), "angles") == 0)
			return true;
	}
	return false;
}

/*
 * Locks the extension, then every linked table, in the order of oids, for a command that will drop
 * the extension. The command would lock the tables anyway (their triggers go), but only after it
 * has locked the tables of angles, which a user's transaction that holds a linked table needs at
 * its commit: a deadlock. Workers take the extension first, too.
 */
static void
lock_for_drop(bool if_schema_owner)
{
	AnglesExtension extension;
	Oid			schema = get_namespace_oid("angles", true);
	List	   *tables;
	ListCell   *cell;

	if (!angles_extension_find(&extension))
		return;
	if (!OWNS_EXTENSION(extension.oid) &&
		!(if_schema_owner && OidIsValid(schema) && OWNS_SCHEMA(schema)))
		return;
	angles_extension_lock(extension.oid, AccessExclusiveLock, true);
	/* one may hold tables of angles for as long as it reads others; none can come in now */
	angles_slots_stop_jobs(angles_slots_find(MyDatabaseId));
	tables = linked_tables(extension.oid);
	list_sort(tables, list_oid_cmp);
	foreach(cell, tables)
	{
		Oid			relid = lfirst_oid(cell);

		LockRelationOid(relid, AccessExclusiveLock);
		/* dropped before the lock was there */
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			UnlockRelationOid(relid, AccessExclusiveLock);
	}
	list_free(tables);
}

/* Returns the oids in angles.links, if that is a table of the extension. */
static List *
linked_tables(Oid extension)
{
	List	   *tables = NIL;
	Oid			schema = get_namespace_oid("angles", true);
	Oid			links = OidIsValid(schema) ? get_relname_relid("links", schema) : InvalidOid;
	AttrNumber	column = OidIsValid(links) ? get_attnum(links, "relid") : InvalidAttrNumber;
	Relation	rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	Snapshot	snapshot;

	if (column == InvalidAttrNumber || get_rel_relkind(links) != RELKIND_RELATION ||
		getExtensionOfObject(RelationRelationId, links) != extension)
		return NIL;
	rel = table_open(links, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		relid = slot_getattr(slot, column, &isnull);

		if (!isnull)
			tables = list_append_unique_oid(tables, DatumGetObjectId(relid));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return tables;
}

/* ---- after the command ---- */

static After
what_comes_after(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			return AFTER_RESCAN;
		case T_CreateExtensionStmt:
			return strcmp(((CreateExtensionStmt *) stmt)->extname, "angles") == 0 ?
				AFTER_LOOK : AFTER_NOTHING;
		case T_AlterExtensionStmt:
			return strcmp(((AlterExtensionStmt *) stmt)->extname, "angles") == 0 ?
				AFTER_LOOK : AFTER_NOTHING;
		case T_DropStmt:
			return (((DropStmt *) stmt)->removeType == OBJECT_EXTENSION ||
					((DropStmt *) stmt)->removeType == OBJECT_SCHEMA) &&
				names_angles(((DropStmt *) stmt)->objects) ? AFTER_LOOK : AFTER_NOTHING;
		case T_TransactionStmt:
			return ((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT_PREPARED ?
				AFTER_COMMIT_PREPARED : AFTER_NOTHING;
		default:
			return AFTER_NOTHING;
	}
}

static void
after_command(After after)
{
	if (after == AFTER_RESCAN)
		rescan_at_commit = true;
	else if (after == AFTER_LOOK)
		angles_hook_look_at_commit();
	else if (after == AFTER_COMMIT_PREPARED)
		wake_after_commit_prepared();
}

/* Commit callbacks do not run for a prepared transaction: they ran when it was prepared (A12). */
static void
wake_after_commit_prepared(void)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);

	if (slot == NULL)
		return;
	angles_wake_now();
	angles_slots_wake_runs(slot);
	/* which prepared transaction it was is not known; the bridge clears this when it finds us */
	if (pg_atomic_read_u32(&slot->later_look) != 0)
		angles_slots_look(slot);
}

/* ---- the end of the transaction ---- */

void
angles_hook_look_at_commit(void)
{
	AnglesSlot *slot = angles_slots_find(MyDatabaseId);

	if (angles_shared == NULL)
		return;
	if (slot == NULL)
	{
		Oid			evicted;

		LWLockAcquire(&angles_shared->lock, LW_EXCLUSIVE);
		slot = angles_slots_claim(MyDatabaseId, &evicted);
		LWLockRelease(&angles_shared->lock);
	}
	if (slot == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("angles does not serve this database"),
				 errdetail("angles.max_databases is %d, and all of them have the extension.",
						   angles_shared->n_slots),
				 errhint("Raise angles.max_databases and restart the server.")));
	/* not the slot itself: it may be another's by the time of the commit */
	look_at_commit = true;
}

void
angles_hook_runs_at_commit(void)
{
	runs_slot = angles_slots_find(MyDatabaseId);
}

/* Sets flags and latches only: nothing here can fail. */
static void
xact_callback(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			angles_hold_release(true);
			if (rescan_at_commit)
			{
				pg_atomic_write_u32(&angles_shared->rescan, 1);
				angles_slots_poke_launcher();
			}
			if (look_at_commit)
				angles_slots_look_here(false);
			if (runs_slot != NULL)
				angles_slots_wake_runs(runs_slot);
			break;
		case XACT_EVENT_PREPARE:
			angles_hold_release(false);
			if (look_at_commit)
				angles_slots_look_here(true);
			break;
		case XACT_EVENT_ABORT:
			angles_hold_release(false);
			break;
		default:
			return;
	}
	look_at_commit = false;
	runs_slot = NULL;
	rescan_at_commit = false;
}
