/*
 * applypage.c
 *		Rows for pages that people made, and rows whose pages they removed. Runs in apply workers,
 *		as the owner of the table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/apply.h"
#include "sync/capture.h"
#include "worker/worker.h"

/* Tries after which a person decides about a row that others reference. */
#define DEPENDENTS_PATIENCE 3

/* A row that is about to be deleted, for the job that keeps it. */
typedef struct Kept
{
	Change	   *change;
	Datum		columns;		/* text[] */
	Datum		texts;			/* text[] */
} Kept;

static void read_key(Change *change);
static void is_taken_job(void *arg);
static bool is_made_by_mate(const Change *change);
static bool key_can_be(Change *change);
static void read_key_job(void *arg);
static void insert_row(Change *change);
static void add_properties(Change *change, RowUpdate *update);
static void add_key(Change *change, RowUpdate *update);
static char *key_text_of_page(Change *change, const char *name);
static bool has_default(Oid relid, const char *name, bool *not_null);
static bool has_insert_trigger(Oid relid);
static void run_insert(Change *change, RowUpdate *update);
static void check_scope(Change *change);
static void check_key_job(void *arg);
static bool lock_for_delete(Change *change);
static bool changed_here(Change *change);
static char *dependent_rows(Change *change);
static bool has_dependents(Change *change, const char *table, ArrayType *columns,
						   ArrayType *referenced);
static List *names_of(ArrayType *array);
static void keep_row(Change *change);
static void keep_row_job(void *arg);

/* ---- rows for pages ---- */

void
angles_apply_make(Change *change)
{
	if (is_made_by_mate(change) || !key_can_be(change))
		change->entry.key = psprintf("\001new:%s", change->page_id);
	if (change->entry.key[0] != '\001')
	{
		switch (angles_apply_lock(change))
		{
			case ROW_BUSY:
				change->busy = true;
				return;
			case ROW_OUT_OF_SCOPE:
				ereport(ERROR,
						(errcode(ERRCODE_ANGLES_OUT_OF_SCOPE),
						 errmsg("the row with this key does not pass the link's filter")));
				break;
			case ROW_LOCKED:
				read_key(change);
				angles_worker_as_owner(is_taken_job, change);
				if (change->is_copy)
					break;
				change->new_key = change->entry.key;
				change->merged = true;
				angles_apply_merge(change);
				return;
			case ROW_ABSENT:
				break;
		}
	}
	if (change->is_copy)
		change->entry.key = psprintf("\001new:%s", change->page_id);
	insert_row(change);
}

/* A person may have written the key in another way than the row has it. */
static void
read_key(Change *change)
{
	Link	   *link = change->link;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(change->entry.key)};
	AttrNumber	attnums[INDEX_MAX_KEYS];
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData sql;

	initStringInfo(&sql);
	for (int k = 0; k < list_length(link->keys); k++)
	{
		appendStringInfo(&sql, "%s t.%s", k == 0 ? "SELECT" : ",",
						 quote_identifier((char *) list_nth(link->keys, k)));
		attnums[k] = k + 1;
	}
	appendStringInfo(&sql, " FROM %s", link->one_row);
	if (SPI_execute_with_args(sql.data, 1, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read the key of the row");
	MemoryContextSwitchTo(caller);
	change->entry.key = angles_capture_key_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
												list_length(link->keys), attnums);
}

/* The row that has the key may have another page, or have just been given one. */
static void
is_taken_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Change	   *change = (Change *) arg;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(change->link->id),
	CStringGetTextDatum(change->entry.key), CStringGetTextDatum(change->page_id)};

	change->is_copy = is_made_by_mate(change) ||
		angles_spi_exec(&plan,
						"SELECT FROM angles.pages WHERE link_id = $1 AND key = $2"
						" AND page_id IS DISTINCT FROM $3::uuid AND state <> 'new'",
						3, types, values, NULL, SPI_OK_SELECT) > 0;
}

/* Whether the row of this key was made for another page, just now. */
static bool
is_made_by_mate(const Change *change)
{
	for (int i = 0; i < change->n_mates; i++)
	{
		const Change *mate = change->mates[i];

		if (mate != change && mate->new_key != NULL && mate->refused == NULL &&
			strcmp(mate->new_key, change->entry.key) == 0)
			return true;
	}
	return false;
}

/* Whether what a person wrote into the key's property may be a key of the table at all. */
static bool
key_can_be(Change *change)
{
	return change->entry.key[0] == '\001' ||
		angles_txn_try(read_key_job, change, true) == NULL;
}

static void
read_key_job(void *arg)
{
	Change	   *change = (Change *) arg;
	int			n_keys = list_length(change->link->keys);
	RowUpdate  *update = angles_apply_update(change->link);

	for (int k = 0; k < n_keys; k++)
		angles_apply_input(update, change->link->relid, (char *) list_nth(change->link->keys, k),
						   angles_apply_key_part(change->entry.key, n_keys, k));
}

char *
angles_apply_key_part(const char *key, int n_keys, int k)
{
	Jsonb	   *parts;
	JsonbValue *part;

	if (n_keys == 1)
		return pstrdup(key);
	parts = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(key)));
	part = JB_ROOT_IS_ARRAY(parts) && JB_ROOT_COUNT(parts) == n_keys
		? getIthJsonbValueFromContainer(&parts->root, k) : NULL;
	if (part == NULL || part->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("this is no key of %d values", n_keys)));
	return pnstrdup(part->val.string.val, part->val.string.len);
}

static void
insert_row(Change *change)
{
	RowUpdate  *update = angles_apply_update(change->link);

	change->inserting = true;
	add_properties(change, update);
	if (change->waits)
		return;
	if (change->left.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", change->problem)));
	add_key(change, update);
	run_insert(change, update);
	if (change->link->filter != NULL)
		check_scope(change);
	angles_worker_as_owner(check_key_job, change);
}

/*
 * What is empty in the page is left to the column's default; what that gives goes to Notion as any
 * change of the row does.
 */
static void
add_properties(Change *change, RowUpdate *update)
{
	Link	   *link = change->link;

	for (int i = 0; i < link->n_columns; i++)
	{
		const SyncColumn *column = &link->columns[i];
		Jsonb	   *remote = column->c.property_id == NULL ? NULL
			: angles_json_member(change->remote, column->c.property_id);
		bool		not_null = false;
		char	   *canon;

		if (remote == NULL || column->problem != NULL)
			continue;
		angles_apply_note_base(change, column, remote);
		if (column->is_key || !column->writable)
			continue;
		canon = JsonbToCString(NULL, &remote->root, VARSIZE(remote));
		if (angles_codec_is_empty(canon) &&
			(column->c.type == ANGLES_PROP_RELATION ||
			 has_default(link->relid, column->c.name, &not_null) || !not_null))
			continue;
		(void) angles_apply_assign(change, i, remote, remote, update);
	}
}

/*
 * A key that the table draws by itself is drawn: one that a page carries may be that of another
 * row, or one that the sequence has yet to give.
 */
static void
add_key(Change *change, RowUpdate *update)
{
	Link	   *link = change->link;
	int			n_keys = list_length(link->keys);
	bool		named = change->entry.key[0] != '\001';

	for (int k = 0; k < n_keys; k++)
	{
		char	   *name = (char *) list_nth(link->keys, k);
		bool		not_null;
		char	   *text;

		if ((change->kind != CHANGE_MAKE || !named) && has_default(link->relid, name, &not_null))
			continue;
		text = named ? angles_apply_key_part(change->entry.key, n_keys, k)
			: key_text_of_page(change, name);
		/* should it not be the trigger that gives the key, the server says which column is null */
		if (text == NULL && has_insert_trigger(link->relid))
			continue;
		if (text == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("the page has no key, and column \"%s\" has no default; write a key "
							"into property \"%s\"", name,
							link->key_column->c.property_name)));
		angles_apply_input(update, link->relid, name, text);
	}
}

/* A column of a key of several is a property by itself, too. */
static char *
key_text_of_page(Change *change, const char *name)
{
	for (int i = 0; i < change->link->n_columns; i++)
	{
		const SyncColumn *column = &change->link->columns[i];
		char	   *problem = NULL;
		Jsonb	   *remote;

		if (column->is_key || column->problem != NULL || column->c.property_id == NULL ||
			column->c.type == ANGLES_PROP_RELATION || strcmp(column->c.name, name) != 0)
			continue;
		remote = angles_json_member(change->remote, column->c.property_id);
		return remote == NULL ? NULL
			: angles_codec_to_sql(&column->c,
								  JsonbToCString(NULL, &remote->root, VARSIZE(remote)), &problem);
	}
	return NULL;
}

/* Whether the server gives the column a value by itself. */
static bool
has_default(Oid relid, const char *name, bool *not_null)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, name);
	Form_pg_attribute att;
	bool		has;

	*not_null = false;
	if (!HeapTupleIsValid(tuple))
		return false;
	att = (Form_pg_attribute) GETSTRUCT(tuple);
	has = att->atthasdef || att->attidentity != '\0' || get_typdefault(att->atttypid) != NULL;
	*not_null = att->attnotnull;
	ReleaseSysCache(tuple);
	return has;
}

/* Whether a trigger may give values to a row before it is inserted. */
static bool
has_insert_trigger(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	bool		has;

	if (!RelationIsValid(rel))
		return false;
	has = rel->trigdesc != NULL && rel->trigdesc->trig_insert_before_row;
	RelationClose(rel);
	return has;
}

static void
run_insert(Change *change, RowUpdate *update)
{
	Link	   *link = change->link;
	StringInfoData sql;
	Oid		   *types = palloc(Max(update->n, 1) * sizeof(Oid));
	Datum	   *values = palloc(Max(update->n, 1) * sizeof(Datum));
	char	   *nulls = palloc0(update->n + 1);
	AttrNumber	attnums[INDEX_MAX_KEYS];
	MemoryContext caller = CurrentMemoryContext;
	int			rc;

	initStringInfo(&sql);
	appendStringInfoString(&sql, link->insert_into);
	for (int i = 0; i < update->n; i++)
	{
		appendStringInfo(&sql, "%s%s", i == 0 ? " (" : ", ",
						 quote_identifier(update->columns[i].name));
		types[i] = update->columns[i].type;
		values[i] = update->columns[i].value;
		nulls[i] = update->columns[i].isnull ? 'n' : ' ';
	}
	appendStringInfoString(&sql, update->n == 0 ? " DEFAULT VALUES"
						   : change->kind == CHANGE_MAKE ? ") OVERRIDING SYSTEM VALUE VALUES"
						   : ") VALUES");
	for (int i = 0; i < update->n; i++)
		appendStringInfo(&sql, "%s$%d", i == 0 ? " (" : ", ", i + 1);
	appendStringInfoString(&sql, update->n == 0 ? " RETURNING" : ") RETURNING");
	for (int k = 0; k < list_length(link->keys); k++)
	{
		appendStringInfo(&sql, "%s t.%s", k == 0 ? "" : ",",
						 quote_identifier((char *) list_nth(link->keys, k)));
		attnums[k] = k + 1;
	}
	rc = SPI_execute_with_args(sql.data, update->n, types, values, nulls, false, 0);
	MemoryContextSwitchTo(caller);
	if (rc != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "an insert returned %s", SPI_result_code_string(rc));
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger or a rule of the table kept the row out")));
	change->written = true;
	change->new_key = angles_capture_key_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
											  list_length(link->keys), attnums);
}

/* A row that is out of scope from the beginning would leave its page alone for ever. */
static void
check_scope(Change *change)
{
	Change		made = {.link = change->link};

	made.entry.link_id = change->link->id;
	made.entry.key = change->new_key;
	if (angles_apply_lock(&made) != ROW_LOCKED)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_OUT_OF_SCOPE),
				 errmsg("the new row would not pass the link's filter")));
}

/*
 * While the key is known as that of another row, whose deletion was not taken in yet, this one has
 * its turn later.
 */
static void
check_key_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Change	   *change = (Change *) arg;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(change->link->id),
	CStringGetTextDatum(change->new_key), CStringGetTextDatum(change->page_id)};

	if (angles_spi_exec(&plan,
						"SELECT FROM angles.pages WHERE link_id = $1 AND key = $2"
						" AND page_id IS DISTINCT FROM $3::uuid"
						" AND state NOT IN ('trashed', 'left', 'restored', 'new')",
						3, types, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another page goes by the key of the new row")));
}

/* ---- rows whose pages were removed ---- */

void
angles_apply_delete(Change *change)
{
	Link	   *link = change->link;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(change->entry.key)};
	MemoryContext caller = CurrentMemoryContext;
	int			rc;

	switch (angles_apply_lock(change))
	{
		case ROW_BUSY:
			change->busy = true;
			return;
		case ROW_ABSENT:
			change->row_is_gone = true;
			return;
		case ROW_OUT_OF_SCOPE:
			if (change->decided == NULL)
			{
				change->hold = "its page was removed in Notion, and the row has left the filter";
				return;
			}
			break;
		case ROW_LOCKED:
			break;
	}
	if (!lock_for_delete(change))
	{
		change->busy = true;
		return;
	}
	if (change->decided == NULL && changed_here(change))
		change->hold = "its page was removed in Notion, and the row was changed here";
	else
		change->hold = dependent_rows(change);
	if (change->hold != NULL && change->attempts < DEPENDENTS_PATIENCE)
	{
		/* pages of those rows may have been removed with it */
		change->hold = NULL;
		change->busy = true;
	}
	if (change->hold != NULL || change->busy)
		return;
	keep_row(change);
	rc = SPI_execute_with_args(link->delete_sql, 1, types, values, NULL, false, 0);
	MemoryContextSwitchTo(caller);
	if (rc != SPI_OK_DELETE)
		elog(ERROR, "a delete returned %s", SPI_result_code_string(rc));
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger or a rule of the table kept the row in")));
	change->written = true;
}

/* Nobody may begin to reference the row while it is seen whether anybody does. */
static bool
lock_for_delete(Change *change)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(change->entry.key)};

	if (SPI_execute_with_args(psprintf("SELECT FROM %s FOR UPDATE OF t SKIP LOCKED",
									   change->link->one_row),
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not lock the row");
	return SPI_processed > 0;
}

/* Whether the row holds something that is not in Notion, as the planner sees it. */
static bool
changed_here(Change *change)
{
	Entry		entry = change->entry;
	PlanKind	kind;

	entry.page_state = PAGE_LIVE;
	entry.found = entry.in_scope = true;
	kind = angles_plan(change->link, &entry).kind;
	return kind == PLAN_PATCH || kind == PLAN_PARK;
}

/*
 * Returns why the row cannot go alone, or NULL: rows of other tables that the database would delete
 * or change with it would not be kept.
 */
static char *
dependent_rows(Change *change)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(change->link->relid)};
	SPITupleTable *found;
	uint64		n;

	if (SPI_execute_with_args("SELECT c.conrelid::pg_catalog.regclass::text,"
							  " ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY"
							  "   AS k (attnum, n) JOIN pg_catalog.pg_attribute a"
							  "   ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.n),"
							  " ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY"
							  "   AS k (attnum, n) JOIN pg_catalog.pg_attribute a"
							  "   ON a.attrelid = c.confrelid AND a.attnum = k.attnum ORDER BY k.n)"
							  " FROM pg_catalog.pg_constraint c WHERE c.confrelid = $1"
							  " AND c.contype = 'f'"
							  " AND c.confdeltype IN ('c', 'n', 'd')",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_constraint");
	found = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		char	   *table = SPI_getvalue(found->vals[i], found->tupdesc, 1);
		bool		isnull;
		Datum		columns = SPI_getbinval(found->vals[i], found->tupdesc, 2, &isnull);
		Datum		referenced = SPI_getbinval(found->vals[i], found->tupdesc, 3, &isnull);

		if (has_dependents(change, table, DatumGetArrayTypeP(columns),
						   DatumGetArrayTypeP(referenced)))
			return psprintf("its page was removed in Notion, but rows of %s reference it and would "
							"be deleted or changed with it", table);
	}
	return NULL;
}

static bool
has_dependents(Change *change, const char *table, ArrayType *columns, ArrayType *referenced)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(change->entry.key)};
	StringInfoData sql;
	ListCell   *lc;
	ListCell   *lr;
	bool		first = true;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT FROM %s AS angles_c, %s WHERE", table, change->link->one_row);
	forboth(lc, names_of(columns), lr, names_of(referenced))
	{
		appendStringInfo(&sql, "%s angles_c.%s = t.%s", first ? "" : " AND",
						 quote_identifier((char *) lfirst(lc)),
						 quote_identifier((char *) lfirst(lr)));
		first = false;
	}
	appendStringInfoString(&sql, " LIMIT 1");
	if (SPI_execute_with_args(sql.data, 1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s", table);
	return SPI_processed > 0;
}

static List *
names_of(ArrayType *array)
{
	Datum	   *elements;
	List	   *names = NIL;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	for (int i = 0; i < n; i++)
		names = lappend(names, TextDatumGetCString(elements[i]));
	return names;
}

/* Keeps the row as texts of all its columns. */
static void
keep_row(Change *change)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(change->entry.key)};
	Kept		kept = {.change = change};
	MemoryContext caller = CurrentMemoryContext;
	TupleDesc	desc;
	Datum	   *columns;
	Datum	   *texts;
	bool	   *nulls;
	int			n = 0;
	int			lower = 1;
	int			level = angles_txn_pin_values();

	if (SPI_execute_with_args(psprintf("SELECT t.* FROM %s", change->link->one_row), 1, types,
							  values, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the row");
	MemoryContextSwitchTo(caller);
	desc = SPI_tuptable->tupdesc;
	columns = palloc(desc->natts * sizeof(Datum));
	texts = palloc(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[0], desc, i + 1);

		columns[n] = CStringGetTextDatum(NameStr(TupleDescAttr(desc, i)->attname));
		nulls[n] = text == NULL;
		texts[n++] = text ? CStringGetTextDatum(text) : (Datum) 0;
	}
	AtEOXact_GUC(true, level);
	kept.columns = PointerGetDatum(construct_array(columns, n, TEXTOID, -1, false, TYPALIGN_INT));
	kept.texts = PointerGetDatum(construct_md_array(texts, nulls, 1, &n, &lower, TEXTOID, -1,
													false, TYPALIGN_INT));
	angles_worker_as_owner(keep_row_job, &kept);
}

static void
keep_row_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Kept	   *kept = (Kept *) arg;
	Oid			types[6] = {INT4OID, OIDOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[6] = {Int32GetDatum(kept->change->link->id),
		ObjectIdGetDatum(kept->change->link->relid),
		CStringGetTextDatum(kept->change->entry.key),
	CStringGetTextDatum(kept->change->page_id), kept->columns, kept->texts};

	angles_spi_exec(&plan,
					"INSERT INTO angles.removed_log (link_id, relid, key, page_id, columns, texts,"
					" removed_at) VALUES ($1, $2::regclass, $3, $4::uuid, $5, $6,"
					" clock_timestamp())",
					6, types, values, NULL, SPI_OK_INSERT);
}

/* ---- a mark in the row ---- */

void
angles_apply_flag(Change *change, RowUpdate *update, bool removed)
{
	Link	   *link = change->link;
	AttrNumber	attnum = link->flag_column ? get_attnum(link->relid, link->flag_column)
		: InvalidAttrNumber;
	bool		is_boolean;

	/* it was dropped, or the policy is another one by now */
	if (attnum == InvalidAttrNumber)
		return;
	is_boolean = getBaseType(get_atttype(link->relid, attnum)) == BOOLOID;
	angles_apply_input(update, link->relid, link->flag_column,
					   is_boolean ? (removed ? "true" : "false")
					   : removed ? timestamptz_to_str(angles_clock_now()) : NULL);
	appendStringInfo(&change->columns, "%s%s", change->columns.len ? ", " : "", link->flag_column);
}
