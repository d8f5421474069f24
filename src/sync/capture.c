/*
 * capture.c
 *		The triggers of linked tables: which row changed, under which key.
 *
 * Runs in user backends, once for each changed row, so it is short. The triggers are ENABLE ALWAYS;
 * whether a change made in replica mode counts is decided here (angles.capture_replica). Arguments
 * of the triggers: link id, oid of the linked table when it was linked, number of key columns, then
 * attribute number and name of each key column, then of each other mapped column.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/errors.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/capture.h"
#include "sync/changelog.h"
#include "sync/sync.h"
#include "sync/webhook.h"

typedef struct KeyColumn
{
	AttrNumber	attnum;			/* in the relation that fires */
	Oid			type;			/* without domains */
	FmgrInfo	output;
	bool		pinned;			/* the output depends on settings, which are pinned for it */
} KeyColumn;

/* What a trigger of one relation (the linked table or a partition of it) has to know. */
typedef struct Target
{
	Oid			trigger_oid;	/* hash key */
	Oid			relid;
	bool		valid;
	int32		link_id;
	int			n_keys;			/* 0: the key columns are gone */
	int			n_mapped;
	KeyColumn  *keys;
	AttrNumber *mapped;
	MemoryContext context;
} Target;

static HTAB *targets = NULL;
static bool news = false;		/* something was invalidated since it was set to false */

/* The row that was last seen to leave its partition, until its arrival in another one is seen. */
typedef struct Move
{
	int32		link_id;		/* 0: none */
	TransactionId xid;
	CommandId	cid;
	char		key[FLEXIBLE_ARRAY_MEMBER];
} Move;

static Move *move = NULL;

static void inserted(const Target *target, TriggerData *trigger);
static void updated(const Target *target, TriggerData *trigger);
static void deleted(const Target *target, TriggerData *trigger);
static Target *find_target(TriggerData *trigger);
static void build_target(Target *target, TriggerData *trigger);
static void set_key_column(KeyColumn *key, AttrNumber attnum, TupleDesc desc,
						   MemoryContext context);
static Oid	root_relation(Oid trigger_oid, Oid relid);
static AttrNumber resolve_column(Oid linked_then, Oid root, Relation rel, const char *attnum,
								 const char *name);
static bool output_depends_on_settings(Oid type);
static StringInfo row_key(const Target *target, HeapTuple tuple, Relation rel, int which);
static void append_key(StringInfo buf, int n, const KeyColumn *keys, HeapTuple tuple,
					   TupleDesc desc);
static void append_key_text(StringInfo buf, const KeyColumn *key, Datum value);
static char *one_key_text(const KeyColumn *key, Datum value);
static bool same_values(const Target *target, HeapTuple a, HeapTuple b, TupleDesc desc);
static bool same_key_values(const Target *target, HeapTuple a, HeapTuple b, TupleDesc desc);
static bool same_value(AttrNumber attnum, HeapTuple a, HeapTuple b, TupleDesc desc);
static void note_departure(int32 link_id, HeapTuple tuple, const char *key);
static char *take_departure(int32 link_id, HeapTuple tuple);
static void relcache_callback(Datum arg, Oid relid);

PG_FUNCTION_INFO_V1(angles_capture);
PG_FUNCTION_INFO_V1(angles_capture_truncate);

void
angles_sync_install(void)
{
	angles_changelog_install();
	angles_partitions_install();
	if (process_shared_preload_libraries_in_progress)
		angles_webhook_install();
}

bool
angles_capture_wanted(void)
{
	return angles_guc_sync && (SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA ||
							   angles_guc_capture_replica_default);
}

/* angles.capture(): AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW on each linked table. */
Datum
angles_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Target	   *target;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"angles.capture\" was not called by a trigger"),
				 errhint("SELECT angles.link('table') makes the trigger.")));
	if (!angles_capture_wanted())
		return PointerGetDatum(NULL);

	target = find_target(trigger);
	if (target->n_keys == 0)
		angles_changelog_add(target->link_id, ANGLES_OP_RECONCILE, "", NULL);
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		updated(target, trigger);
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		deleted(target, trigger);
	else
		inserted(target, trigger);
	return PointerGetDatum(NULL);
}

static void
inserted(const Target *target, TriggerData *trigger)
{
	StringInfo	key = row_key(target, trigger->tg_trigtuple, trigger->tg_relation, 0);

	if (move != NULL)
	{
		char	   *old_key = take_departure(target->link_id, trigger->tg_trigtuple);

		if (old_key != NULL && strcmp(old_key, key->data) != 0)
			angles_changelog_add(target->link_id, ANGLES_OP_REKEY, old_key, key->data);
	}
	angles_changelog_row(target->link_id, ANGLES_OP_TOUCH, key->data, key->len, false);
}

static void
updated(const Target *target, TriggerData *trigger)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	HeapTuple	old = trigger->tg_trigtuple;
	HeapTuple	new = trigger->tg_newtuple;
	bool		same_key = same_key_values(target, old, new, desc);
	StringInfo	new_key;

	if (same_key && same_values(target, old, new, desc))
		return;
	new_key = row_key(target, new, trigger->tg_relation, 0);
	if (!same_key)
	{
		StringInfo	key = row_key(target, old, trigger->tg_relation, 1);

		/* other bytes may be the same key: numbers have several forms */
		if (strcmp(key->data, new_key->data) != 0)
			angles_changelog_add(target->link_id, ANGLES_OP_REKEY, key->data, new_key->data);
		else if (same_values(target, old, new, desc))
			return;
	}
	angles_changelog_row(target->link_id, ANGLES_OP_TOUCH, new_key->data, new_key->len, true);
}

static void
deleted(const Target *target, TriggerData *trigger)
{
	StringInfo	key = row_key(target, trigger->tg_trigtuple, trigger->tg_relation, 0);
	bool		moves = HeapTupleHeaderIndicatesMovedPartitions(trigger->tg_trigtuple->t_data);

	/* no deletion: if a trigger keeps the row from arriving, the worker finds it gone */
	angles_changelog_row(target->link_id, moves ? ANGLES_OP_TOUCH : ANGLES_OP_DELETE, key->data,
						 key->len, false);
	if (moves)
		note_departure(target->link_id, trigger->tg_trigtuple, key->data);
}

/* angles.capture_truncate(): AFTER TRUNCATE FOR EACH STATEMENT on each linked table. */
Datum
angles_capture_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"angles.capture_truncate\" was not called by its trigger"),
				 errhint("SELECT angles.link('table') makes the trigger.")));
	if (angles_capture_wanted())
		angles_changelog_add(pg_strtoint32(trigger->tg_trigger->tgargs[0]), ANGLES_OP_TRUNCATE,
							 "", NULL);
	return PointerGetDatum(NULL);
}

static Target *
find_target(TriggerData *trigger)
{
	/* an entry of the hash stays where it is, and stays */
	static Target *latest = NULL;
	Oid			trigger_oid = trigger->tg_trigger->tgoid;
	Target	   *target;
	bool		found;

	if (latest != NULL && latest->trigger_oid == trigger_oid && latest->valid)
		return latest;
	if (targets == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Target)};

		targets = hash_create("angles capture targets", 16, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
	}
	target = hash_search(targets, &trigger_oid, HASH_ENTER, &found);
	if (!found)
	{
		target->valid = false;
		target->relid = InvalidOid;
		target->context = NULL;
	}
	if (!target->valid)
		build_target(target, trigger);
	latest = target;
	return target;
}

static void
build_target(Target *target, TriggerData *trigger)
{
	Relation	rel = trigger->tg_relation;
	char	  **args = trigger->tg_trigger->tgargs;
	int			n_columns = (trigger->tg_trigger->tgnargs - 3) / 2;
	Oid			root;
	Oid			linked_then;

	/* news that arrive while it is built make it out of date from the start */
	news = false;
	root = root_relation(target->trigger_oid, RelationGetRelid(rel));
	if (trigger->tg_trigger->tgnargs < 5)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of table \"%s\" has not the arguments angles gives",
						trigger->tg_trigger->tgname, RelationGetRelationName(rel)),
				 errhint("SELECT angles.link('table') makes the trigger.")));
	if (target->context)
		MemoryContextDelete(target->context);
	target->context = NULL;
	target->context = AllocSetContextCreate(CacheMemoryContext, "angles capture target",
											ALLOCSET_SMALL_SIZES);
	target->relid = RelationGetRelid(rel);
	target->link_id = pg_strtoint32(args[0]);
	linked_then = (Oid) strtoul(args[1], NULL, 10);
	target->n_keys = pg_strtoint32(args[2]);
	target->n_mapped = 0;
	target->keys = MemoryContextAllocZero(target->context, target->n_keys * sizeof(KeyColumn));
	target->mapped = MemoryContextAllocZero(target->context,
											Max(n_columns, 1) * sizeof(AttrNumber));
	for (int i = 0; i < n_columns; i++)
	{
		AttrNumber	attnum = resolve_column(linked_then, root, rel, args[3 + 2 * i],
											args[4 + 2 * i]);

		if (i >= target->n_keys)
		{
			/* a dropped column changes no more; the worker pauses its property */
			if (attnum != InvalidAttrNumber)
				target->mapped[target->n_mapped++] = attnum;
		}
		else
		{
			/* the user's statement goes on; the worker will find the key gone and pause the link */
			if (attnum == InvalidAttrNumber)
			{
				target->n_keys = 0;
				break;
			}
			set_key_column(&target->keys[i], attnum, RelationGetDescr(rel), target->context);
		}
	}
	target->valid = !news;
}

static void
set_key_column(KeyColumn *key, AttrNumber attnum, TupleDesc desc, MemoryContext context)
{
	Oid			type = getBaseType(TupleDescAttr(desc, attnum - 1)->atttypid);
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(type, &output, &varlena);
	fmgr_info_cxt(output, &key->output, context);
	key->attnum = attnum;
	key->type = type;
	key->pinned = output_depends_on_settings(type);
}

/* A trigger of a partition is a clone; returns the table that the first of its ancestors is on. */
static Oid
root_relation(Oid trigger_oid, Oid relid)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);

	while (OidIsValid(trigger_oid))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(trigger_oid));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		trigger_oid = InvalidOid;
		if (HeapTupleIsValid(tuple))
		{
			Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

			relid = form->tgrelid;
			trigger_oid = form->tgparentid;
		}
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return relid;
}

/*
 * Returns the attribute number in rel of a column of the linked table. The recorded number holds as
 * long as the linked table is the one it was taken from (a rename keeps it); in a restored dump
 * numbers may differ, so there the name holds.
 */
static AttrNumber
resolve_column(Oid linked_then, Oid root, Relation rel, const char *attnum_text, const char *name)
{
	AttrNumber	attnum = pg_strtoint16(attnum_text);

	if (linked_then != root)
		return get_attnum(RelationGetRelid(rel), name);
	if (root != RelationGetRelid(rel))
	{
		char	   *now = get_attname(root, attnum, true);

		return now ? get_attnum(RelationGetRelid(rel), now) : InvalidAttrNumber;
	}
	if (attnum > RelationGetDescr(rel)->natts ||
		TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attisdropped)
		return InvalidAttrNumber;
	return attnum;
}

/* Errs on the safe side: only types whose output is known to be the same everywhere are let off. */
static bool
output_depends_on_settings(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case CHAROID:
		case UUIDOID:
		case BOOLOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
			return false;
		default:
			return !type_is_enum(type);
	}
}

/*
 * Returns the key of a row in one of two buffers that are used again and again, so the next call
 * for the same buffer overwrites it.
 */
static StringInfo
row_key(const Target *target, HeapTuple tuple, Relation rel, int which)
{
	static StringInfoData buffers[2];
	StringInfo	buf = &buffers[which];

	if (buf->data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(buf);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(buf);
	append_key(buf, target->n_keys, target->keys, tuple, RelationGetDescr(rel));
	return buf;
}

static void
append_key(StringInfo buf, int n, const KeyColumn *keys, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

	if (n == 1)
	{
		value = heap_getattr(tuple, keys[0].attnum, desc, &isnull);
		if (!isnull)
			append_key_text(buf, &keys[0], value);
		return;
	}
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(buf, i == 0 ? "[" : ", ");
		value = heap_getattr(tuple, keys[i].attnum, desc, &isnull);
		angles_json_append_string(buf, isnull ? "" : one_key_text(&keys[i], value));
	}
	appendStringInfoChar(buf, ']');
}

/* The types that most keys have are written without calling their output function. */
static void
append_key_text(StringInfo buf, const KeyColumn *key, Datum value)
{
	switch (key->type)
	{
		case INT4OID:
		case INT8OID:
			enlargeStringInfo(buf, MAXINT8LEN + 1);
			buf->len += pg_lltoa(key->type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value),
								 buf->data + buf->len);
			break;
		case TEXTOID:
		case VARCHAROID:
			{
				text	   *string = DatumGetTextPP(value);

				appendBinaryStringInfo(buf, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
				break;
			}
		default:
			appendStringInfoString(buf, one_key_text(key, value));
			break;
	}
}

char *
angles_capture_key_text(HeapTuple tuple, TupleDesc desc, int n, const AttrNumber *attnums)
{
	KeyColumn	keys[INDEX_MAX_KEYS];
	StringInfoData buf;

	for (int i = 0; i < n; i++)
		set_key_column(&keys[i], attnums[i], desc, CurrentMemoryContext);
	initStringInfo(&buf);
	append_key(&buf, n, keys, tuple, desc);
	return buf.data;
}

/* Returns the text of a key as the worker would write it, whatever the settings of the session. */
static char *
one_key_text(const KeyColumn *key, Datum value)
{
	int			level;
	char	   *text;

	if (!key->pinned)
		return OutputFunctionCall((FmgrInfo *) &key->output, value);
	level = angles_txn_pin_values();
	text = OutputFunctionCall((FmgrInfo *) &key->output, value);
	AtEOXact_GUC(true, level);
	return text;
}

static bool
same_values(const Target *target, HeapTuple a, HeapTuple b, TupleDesc desc)
{
	for (int i = 0; i < target->n_mapped; i++)
		if (!same_value(target->mapped[i], a, b, desc))
			return false;
	return true;
}

static bool
same_key_values(const Target *target, HeapTuple a, HeapTuple b, TupleDesc desc)
{
	for (int i = 0; i < target->n_keys; i++)
		if (!same_value(target->keys[i].attnum, a, b, desc))
			return false;
	return true;
}

static bool
same_value(AttrNumber attnum, HeapTuple a, HeapTuple b, TupleDesc desc)
{
	Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
	bool		a_null;
	bool		b_null;
	Datum		a_value = heap_getattr(a, attnum, desc, &a_null);
	Datum		b_value = heap_getattr(b, attnum, desc, &b_null);

	if (a_null || b_null)
		return a_null == b_null;
	return datum_image_eq(a_value, b_value, att->attbyval, att->attlen);
}

/*
 * An UPDATE that moves a row to another partition fires as DELETE there and INSERT here, one right
 * after the other, and always changes the key, of which the partition key is a part. The deleted
 * tuple tells that it moved; that both are of one command tells that they belong together.
 */
static void
note_departure(int32 link_id, HeapTuple tuple, const char *key)
{
	if (move != NULL)
		pfree(move);
	/* an error below must not leave a pointer to what is freed */
	move = NULL;
	move = MemoryContextAlloc(TopMemoryContext, offsetof(Move, key) + strlen(key) + 1);
	move->link_id = link_id;
	move->xid = GetTopTransactionId();
	move->cid = HeapTupleHeaderGetCmax(tuple->t_data);
	memcpy(move->key, key, strlen(key) + 1);
}

/* Returns the key that the row of this INSERT had in another partition, or NULL; once. */
static char *
take_departure(int32 link_id, HeapTuple tuple)
{
	char	   *key = NULL;

	if (move->link_id == link_id && move->xid == GetTopTransactionId() &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)) &&
		move->cid == HeapTupleHeaderGetCmin(tuple->t_data))
		key = pstrdup(move->key);
	pfree(move);
	move = NULL;
	return key;
}

/* Only sets flags: what is in use just now must not go away under its user. */
static void
relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	Target	   *target;

	news = true;
	hash_seq_init(&scan, targets);
	while ((target = hash_seq_search(&scan)) != NULL)
	{
		if (relid == InvalidOid || target->relid == relid)
			target->valid = false;
	}
}
