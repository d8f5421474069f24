/*
 * undelete.c
 *		angles.undelete(): inserts a row again that sync has deleted. Runs in the caller's session,
 *		with his rights on the table; what was kept is not for him to read otherwise.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "core/errors.h"
#include "core/txn.h"
#include "worker/worker.h"

/* A row of angles.removed_log. */
typedef struct Removed
{
	int64		id;
	Oid			relid;
	char	   *key;
	bool		is_back;
	Datum	   *columns;
	Datum	   *texts;
	bool	   *nulls;
	int			n;
} Removed;

static void read_removed(Removed *removed);
static char *table_of(const Removed *removed);
static void insert_again(const Removed *removed);
static bool takes_value(Oid relid, const char *column, Oid *type, int32 *typmod);
static void note_restored(const Removed *removed);
static void run_as_owner(const char *sql, Oid *types, Datum *values, int n, int expect);

PG_FUNCTION_INFO_V1(angles_undelete);

/* angles.undelete(id): returns the key of the row. See 35_inbound.sql. */
Datum
angles_undelete(PG_FUNCTION_ARGS)
{
	Removed		removed = {0};
	text	   *key;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"id\" must not be null")));
	removed.id = PG_GETARG_INT64(0);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	read_removed(&removed);
	insert_again(&removed);
	note_restored(&removed);
	key = SPI_palloc(VARHDRSZ + strlen(removed.key));
	SET_VARSIZE(key, VARHDRSZ + strlen(removed.key));
	memcpy(VARDATA(key), removed.key, strlen(removed.key));
	SPI_finish();
	PG_RETURN_TEXT_P(key);
}

static void
read_removed(Removed *removed)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(removed->id)};
	bool		isnull;
	HeapTuple	tuple;
	TupleDesc	desc;

	run_as_owner("SELECT relid::oid, key, restored_at IS NOT NULL, columns, texts"
				 " FROM angles.removed_log WHERE id = $1 FOR UPDATE",
				 types, values, 1, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NOT_KEPT),
				 errmsg("there is no removed row " INT64_FORMAT, removed->id),
				 errhint("SELECT * FROM angles.removed_rows shows those that are.")));
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	removed->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
	removed->key = SPI_getvalue(tuple, desc, 2);
	if (DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NOT_KEPT),
				 errmsg("removed row " INT64_FORMAT " was brought back already", removed->id),
				 errhint("SELECT * FROM angles.removed_rows WHERE restored_at IS NULL shows "
						 "those that were not.")));
	deconstruct_array(DatumGetArrayTypePCopy(SPI_getbinval(tuple, desc, 4, &isnull)), TEXTOID, -1,
					  false, TYPALIGN_INT, &removed->columns, NULL, &removed->n);
	deconstruct_array(DatumGetArrayTypePCopy(SPI_getbinval(tuple, desc, 5, &isnull)), TEXTOID, -1,
					  false, TYPALIGN_INT, &removed->texts, &removed->nulls, &removed->n);
	if (get_rel_name(removed->relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of removed row " INT64_FORMAT " was dropped", removed->id)));
}

static char *
table_of(const Removed *removed)
{
	return pstrdup(quote_qualified_identifier(
											  get_namespace_name(get_rel_namespace(removed->relid)),
											  get_rel_name(removed->relid)));
}

static void
insert_again(const Removed *removed)
{
	StringInfoData sql;
	Oid		   *types = palloc(removed->n * sizeof(Oid));
	Datum	   *values = palloc(removed->n * sizeof(Datum));
	char	   *nulls = palloc0(removed->n + 1);
	int			n = 0;
	int			level = angles_txn_pin_values();
	int			rc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s", table_of(removed));
	for (int i = 0; i < removed->n; i++)
	{
		char	   *column = TextDatumGetCString(removed->columns[i]);
		int32		typmod;
		Oid			input;
		Oid			param;

		if (!takes_value(removed->relid, column, &types[n], &typmod))
			continue;
		getTypeInputInfo(types[n], &input, &param);
		values[n] = OidInputFunctionCall(input, removed->nulls[i] ? NULL
										 : TextDatumGetCString(removed->texts[i]), param, typmod);
		nulls[n] = removed->nulls[i] ? 'n' : ' ';
		appendStringInfo(&sql, "%s%s", n++ == 0 ? " (" : ", ", quote_identifier(column));
	}
	AtEOXact_GUC(true, level);
	appendStringInfoString(&sql, ") OVERRIDING SYSTEM VALUE VALUES");
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%s$%d", i == 0 ? " (" : ", ", i + 1);
	appendStringInfoChar(&sql, ')');
	rc = SPI_execute_with_args(sql.data, n, types, values, nulls, false, 0);
	if (rc != SPI_OK_INSERT)
		elog(ERROR, "an insert returned %s", SPI_result_code_string(rc));
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger or a rule of the table kept the row out")));
}

/* Columns that were dropped since, or are generated, are left out. */
static bool
takes_value(Oid relid, const char *column, Oid *type, int32 *typmod)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column);
	Form_pg_attribute att;
	bool		takes;

	if (!HeapTupleIsValid(tuple))
	{
		ereport(NOTICE, (errmsg("column \"%s\" was dropped since: its value is left out", column)));
		return false;
	}
	att = (Form_pg_attribute) GETSTRUCT(tuple);
	takes = att->attgenerated == '\0';
	*type = att->atttypid;
	*typmod = att->atttypmod;
	ReleaseSysCache(tuple);
	return takes;
}

static void
note_restored(const Removed *removed)
{
	Oid			types[2] = {INT8OID, TEXTOID};
	Datum		values[2] = {Int64GetDatum(removed->id),
	CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))};
	Oid			caller;
	int			context;
	int			level;

	run_as_owner("UPDATE angles.removed_log SET restored_at = clock_timestamp(), restored_by = $2"
				 " WHERE id = $1", types, values, 2, SPI_OK_UPDATE);
	level = angles_txn_pin_values();
	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	angles_audit("undelete", table_of(removed),
				 psprintf("{\"removed\": " INT64_FORMAT "}", removed->id));
	SetUserIdAndSecContext(caller, context);
	AtEOXact_GUC(true, level);
}

/* A statement on angles' own tables, on which people have no rights. */
static void
run_as_owner(const char *sql, Oid *types, Datum *values, int n, int expect)
{
	Oid			caller;
	int			context;
	int			rc;
	/* nothing of the caller's search_path is run with these rights */
	int			level = angles_txn_pin_values();

	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	rc = SPI_execute_with_args(sql, n, types, values, NULL, false, 0);
	SetUserIdAndSecContext(caller, context);
	AtEOXact_GUC(true, level);
	if (rc != expect)
		elog(ERROR, "a statement returned %s", SPI_result_code_string(rc));
}
