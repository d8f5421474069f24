/*
 * partitions.c
 *		Changes of a linked partitioned table that fire no trigger: partitions with rows that come
 *		(ATTACH) and go (DETACH, DROP, TRUNCATE of the partition alone).
 *
 * Runs in user backends, inside of the command, by way of the object access hook: it is told the
 * oids, whatever way the command took (CASCADE, DROP SCHEMA, DROP OWNED, DO), and before what is
 * dropped has left the catalogs. Which rows came or went is not asked: the table is compared in
 * full. What is noted here is lost with the command when that fails. A server that does not preload
 * angles has the hook only in sessions that have called something of angles.
 *
 * Nothing here raises an error, or waits for a lock; other commands pay for the call and a few
 * comparisons.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "sync/capture.h"
#include "sync/changelog.h"

static object_access_hook_type prev_hook = NULL;

static void object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id,
						  void *arg);
static void partition_changes(Oid partition, Oid parent);
static Oid	parent_of(Oid partition);
static bool may_have_rows(Oid relid);
static int32 link_of(Oid relid);

void
angles_partitions_install(void)
{
	prev_hook = object_access_hook;
	object_access_hook = object_access;
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_hook)
		prev_hook(access, class_id, object_id, sub_id, arg);

	if (access == OAT_POST_ALTER)
	{
		/* a partition comes (as a new table, too) or goes; both are locked by the command */
		if (class_id == InheritsRelationId && may_have_rows(object_id))
			partition_changes(object_id, ((ObjectAccessPostAlter *) arg)->auxiliary_id);
	}
	else if (access == OAT_DROP)
	{
		if (class_id == RelationRelationId && sub_id == 0 && get_rel_relispartition(object_id) &&
			may_have_rows(object_id))
			partition_changes(object_id, parent_of(object_id));
	}
	else if (access == OAT_TRUNCATE)
	{
		/* may come before the lock, so the table cannot be opened to see whether it is empty */
		if (get_rel_relispartition(object_id))
			partition_changes(object_id, parent_of(object_id));
	}
}

/*
 * Every partitioned table below a linked one has a clone of its trigger, with the same arguments.
 * An index is attached and dropped in the same way, but no trigger is on an index.
 */
static void
partition_changes(Oid partition, Oid parent)
{
	int32		link_id;

	if (!OidIsValid(parent) || get_rel_relkind(parent) != RELKIND_PARTITIONED_TABLE ||
		!angles_capture_wanted())
		return;
	link_id = link_of(parent);
	if (link_id != 0)
		angles_changelog_add(link_id, ANGLES_OP_RECONCILE, "", NULL);
}

/* get_partition_parent() raises an error when there is none. */
static Oid
parent_of(Oid partition)
{
	Relation	catalog = table_open(InheritsRelationId, AccessShareLock);
	Oid			parent = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(partition));
	scan = systable_beginscan(catalog, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return parent;
}

/*
 * Returns false for what is surely empty, above all for partitions that are just made, which are
 * many and need no compare. The command has locked the table, so another lock is there at once.
 */
static bool
may_have_rows(Oid relid)
{
	char		kind = get_rel_relkind(relid);
	Relation	rel;
	bool		rows;

	if (kind == RELKIND_PARTITIONED_TABLE)
		return has_subclass(relid);
	if (kind == RELKIND_FOREIGN_TABLE)
		return true;
	if (kind != RELKIND_RELATION || (rel = try_relation_open(relid, AccessShareLock)) == NULL)
		return false;
	rows = RelationGetNumberOfBlocks(rel) > 0;
	relation_close(rel, AccessShareLock);
	return rows;
}

/* Returns the link whose capture trigger a table has, or 0. */
static int32
link_of(Oid relid)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	int32		link_id = 0;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("angles_capture"));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		bool		isnull;
		Datum		args = heap_getattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(catalog),
										&isnull);

		/* strings one after the other, each with its zero; the first is the number of the link */
		if (!isnull && form->tgnargs > 0 &&
			get_func_namespace(form->tgfoid) == get_namespace_oid("angles", true))
			link_id = atoi(VARDATA_ANY(DatumGetByteaPP(args)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return link_id;
}
