/*
 * scanreport.c
 *		angles.scan_secrets(): what a backup would find in tables, without writing anything. Runs in
 *		sessions, with the rights of the caller; no value leaves it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "backup/scope.h"
#include "backup/sealvalue.h"
#include "backup/stream.h"

/* Keys that are longer are shown as their hash. */
#define LONGEST_KEY 200

typedef struct Report
{
	ReturnSetInfo *result;
	const BackupTable *table;
	RedactTable *redact;
	int		   *columns;		/* of the query: indexes of the table's */
	int			n_columns;
	int			n_key;			/* the first ones are the key */
	FmgrInfo   *functions;
	StringInfoData key;
	MemoryContext row_context;
	MemoryContext cxt;
} Report;

static void scan_table(Report *report);
static void write_query(Report *report, StringInfo sql);
static void scan_row(TupleTableSlot *slot, void *arg);
static void prepare_columns(Report *report, TupleDesc desc);
static void note_key(Report *report, char **values);
static void tell_found(Report *report);
static void tell_place(Report *report, const RedactPlace *place);
static List *named_tables(ArrayType *array);

PG_FUNCTION_INFO_V1(angles_sql_find_secrets);
PG_FUNCTION_INFO_V1(angles_sql_backup_refusal);

/* find_secrets(tables oid[]): see angles.scan_secrets(). */
Datum
angles_sql_find_secrets(PG_FUNCTION_ARGS)
{
	List	   *named = PG_ARGISNULL(0) ? NIL : named_tables(PG_GETARG_ARRAYTYPE_P(0));
	Report		report = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	BackupScope *scope;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	(void) angles_scope_relations(named);
	scope = angles_scope_read(named);
	foreach(cell, scope->tables)
	{
		const BackupTable *table = lfirst(cell);

		if (table->config)
			continue;
		if (pg_class_aclcheck(table->relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		{
			if (named != NIL)
				aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, table->full_name);
			ereport(NOTICE,
					(errmsg("table %s was not looked at: you may not read it",
							table->full_name)));
			continue;
		}
		report.table = table;
		report.cxt = AllocSetContextCreate(CurrentMemoryContext, "angles scan",
										   ALLOCSET_DEFAULT_SIZES);
		scan_table(&report);
		MemoryContextDelete(report.cxt);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

static List *
named_tables(ArrayType *array)
{
	List	   *named = NIL;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i])
			named = lappend_oid(named, DatumGetObjectId(values[i]));
	}
	if (named == NIL || list_length(named) < n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the list of tables is empty or has a null in it"),
				 errhint("SELECT * FROM angles.scan_secrets() looks at all tables.")));
	return named;
}

static void
scan_table(Report *report)
{
	MemoryContext old = MemoryContextSwitchTo(report->cxt);
	StringInfoData sql;
	ListCell   *cell;

	report->redact = angles_redact_begin(report->table, NULL);
	foreach(cell, angles_redact_places(report->redact, report->table->relid))
		tell_place(report, lfirst(cell));
	write_query(report, &sql);
	report->functions = NULL;
	initStringInfo(&report->key);
	report->row_context = AllocSetContextCreate(report->cxt, "angles scan row",
												ALLOCSET_DEFAULT_SIZES);
	if (report->n_columns > 0)
		angles_stream(sql.data, scan_row, report);
	MemoryContextSwitchTo(report->cxt);
	tell_found(report);
	MemoryContextSwitchTo(old);
}

/* The key, and what a backup would look at: columns that it would write whatever is in them. */
static void
write_query(Report *report, StringInfo sql)
{
	const BackupTable *table = report->table;

	report->columns = palloc0(sizeof(int) * (table->n_key + table->n_columns));
	report->n_columns = 0;
	for (int i = 0; i < table->n_key; i++)
		report->columns[report->n_columns++] = table->key[i];
	report->n_key = report->n_columns;
	for (int i = 0; i < table->n_columns; i++)
	{
		const RedactColumn *column = &report->redact->columns[i];

		if (column->form != REDACT_NOTHING && column->policy == SEAL_PLAIN)
			report->columns[report->n_columns++] = i;
	}
	if (report->n_columns == report->n_key)
		report->n_columns = 0;
	initStringInfo(sql);
	for (int i = 0; i < report->n_columns; i++)
		appendStringInfo(sql, "%s%s", i == 0 ? "SELECT " : ", ",
						 quote_identifier(table->columns[report->columns[i]].name));
	appendStringInfo(sql, " FROM ONLY %s", table->full_name);
}

static void
scan_row(TupleTableSlot *slot, void *arg)
{
	Report	   *report = arg;
	MemoryContext old;
	char	  **values;

	if (report->functions == NULL)
		prepare_columns(report, slot->tts_tupleDescriptor);
	MemoryContextReset(report->row_context);
	old = MemoryContextSwitchTo(report->row_context);
	slot_getallattrs(slot);
	values = palloc0(sizeof(char *) * report->n_columns);
	for (int i = 0; i < report->n_columns; i++)
	{
		if (!slot->tts_isnull[i])
			values[i] = OutputFunctionCall(&report->functions[i], slot->tts_values[i]);
	}
	note_key(report, values);
	report->redact->row_key = report->n_key > 0 ? report->key.data : NULL;
	for (int i = report->n_key; i < report->n_columns; i++)
	{
		if (values[i] != NULL)
			(void) angles_redact_find(report->redact, report->columns[i], values[i],
									  strlen(values[i]));
	}
	MemoryContextSwitchTo(old);
}

static void
prepare_columns(Report *report, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(report->cxt);

	report->functions = palloc0(sizeof(FmgrInfo) * report->n_columns);
	for (int i = 0; i < report->n_columns; i++)
	{
		Oid			function;
		bool		is_varlena;

		getTypeOutputInfo(TupleDescAttr(desc, i)->atttypid, &function, &is_varlena);
		fmgr_info(function, &report->functions[i]);
	}
	MemoryContextSwitchTo(old);
}

/* A key that is a secret itself, or that is long, is told by its hash. */
static void
note_key(Report *report, char **values)
{
	ScanSpans	found;
	bool		secret = false;

	resetStringInfo(&report->key);
	angles_scan_begin(&found);
	for (int i = 0; i < report->n_key; i++)
	{
		const RedactColumn *column = &report->redact->columns[report->columns[i]];

		appendStringInfo(&report->key, "%s%s", i > 0 ? "\t" : "", values[i] ? values[i] : "");
		if (values[i] == NULL || column->form == REDACT_NOTHING)
			continue;
		angles_scan(&found, values[i], strlen(values[i]), column->telling ? column->name : NULL);
		secret = secret || found.n > 0;
	}
	if (secret || report->key.len > LONGEST_KEY)
	{
		char		hash[ANGLES_FINGERPRINT];

		angles_redact_fingerprint(report->redact->salt, sizeof(report->redact->salt),
								  report->key.data, report->key.len, hash);
		resetStringInfo(&report->key);
		appendStringInfo(&report->key, "hash %s", hash);
	}
}

/* ---- rows of the result ---- */

static void
put(Report *report, const char *column, const char *place, const char *key, const char *kind,
	const char *fingerprint, int64 count)
{
	Datum		values[7];
	bool		nulls[7] = {false};

	values[0] = ObjectIdGetDatum(report->table->relid);
	nulls[1] = column == NULL;
	if (column != NULL)
		values[1] = DirectFunctionCall1(namein, CStringGetDatum(column));
	values[2] = CStringGetTextDatum(place);
	nulls[3] = key == NULL;
	if (key != NULL)
		values[3] = CStringGetTextDatum(key);
	values[4] = CStringGetTextDatum(kind);
	nulls[5] = fingerprint[0] == '\0';
	values[5] = CStringGetTextDatum(fingerprint);
	values[6] = Int64GetDatum(count);
	tuplestore_putvalues(report->result->setResult, report->result->setDesc, values, nulls);
}

static void
tell_place(Report *report, const RedactPlace *place)
{
	put(report, place->column, place->place, NULL, place->kind, place->fingerprint, 1);
}

static void
tell_found(Report *report)
{
	HASH_SEQ_STATUS status;
	RedactFound *found;

	hash_seq_init(&status, report->redact->found);
	while ((found = hash_seq_search(&status)) != NULL)
	{
		const RedactColumn *column = &report->redact->columns[found->column];

		put(report, column->name, column->key ? "key" : "rows", found->first_key, found->kind,
			found->fingerprint, found->count);
	}
}

/* ---- what would keep a table from being backed up ---- */

/* backup_refusal(relid oid) text: why its policies cannot be kept, or null. */
Datum
angles_sql_backup_refusal(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *reason = NULL;
	BackupScope *scope;
	ListCell   *cell;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	scope = angles_scope_read(list_make1_oid(PG_GETARG_OID(0)));
	foreach(cell, scope->tables)
	{
		RedactTable *redact = angles_redact_begin(lfirst(cell), NULL);

		if (redact->refused != NULL && reason == NULL)
			reason = MemoryContextStrdup(caller, redact->refused);
	}
	SPI_finish();
	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}
