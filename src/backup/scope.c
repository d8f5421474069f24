/*
 * scope.c
 *		See scope.h. Runs in job workers, as the backup role; catalogs are everybody's to read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "core/errors.h"
#include "core/txn.h"
#include "backup/copytext.h"
#include "backup/scope.h"

/*
 * Schemas that are not a person's own. Those of Supabase only where it is Supabase: elsewhere a
 * schema "auth" belongs to somebody.
 */
#define USER_SCHEMA \
	"n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'angles', 'cron') " \
	"AND NOT (n.nspname IN ('auth', 'storage', 'realtime', '_realtime', 'vault', 'extensions', " \
	"'graphql', 'graphql_public', 'net', 'pgbouncer', 'pgsodium', 'pgsodium_masks', " \
	"'supabase_functions', 'supabase_migrations', '_analytics', '_supavisor') " \
	"AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'supabase_admin'))"

/* An object of an extension is made by CREATE EXTENSION. */
#define OF_EXTENSION \
	"EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = c.oid " \
	"AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)"

#define CONFIG_TABLES \
	"SELECT c.oid, n.nspname, c.relname, true AS config, o.condition " \
	"FROM pg_catalog.pg_extension e, unnest(e.extconfig, e.extcondition) AS o (oid, condition), " \
	"pg_catalog.pg_class c, pg_catalog.pg_namespace n WHERE e.extname = 'angles' " \
	"AND c.oid = o.oid AND n.oid = c.relnamespace AND c.relkind = 'r'"

#define ALL_TABLES \
	"SELECT c.oid, n.nspname, c.relname, false AS config, '' AS condition " \
	"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace " \
	"WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND " USER_SCHEMA \
	" AND NOT " OF_EXTENSION

/* Partitions and children belong to the table that was named. */
#define NAMED_TABLES \
	"WITH RECURSIVE named (oid) AS (SELECT unnest($1) UNION SELECT i.inhrelid " \
	"FROM pg_catalog.pg_inherits i JOIN named ON named.oid = i.inhparent) " \
	"SELECT c.oid, n.nspname, c.relname, false AS config, '' AS condition FROM named " \
	"JOIN pg_catalog.pg_class c USING (oid) " \
	"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace " \
	"WHERE c.relkind = 'r' AND c.relpersistence <> 't'"

#define IN_ORDER " ORDER BY config, nspname, relname"

static uint64 find_tables(List *named);
static Datum oid_array(List *oids);
static void check_named(List *named);
static BackupTable *take_table(uint64 row);
static void read_columns(BackupTable *table);
static void read_key(BackupTable *table);
static ChunkLabelKind label_kind(Oid type);
static void write_query(BackupTable *table);
static void order_by(StringInfo out, const BackupColumn *column, bool may_be_null);
static void read_left_out(BackupScope *scope);

/* ---- tables ---- */

List *
angles_scope_relations(List *named)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *oids = NIL;
	uint64		n;
	bool		isnull;

	check_named(named);
	n = find_tables(named);
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < n; i++)
		oids = lappend_oid(oids, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 1,
																&isnull)));
	return oids;
}

BackupScope *
angles_scope_read(List *named)
{
	BackupScope *scope = palloc0(sizeof(BackupScope));
	uint64		n = find_tables(named);
	ListCell   *cell;

	for (uint64 i = 0; i < n; i++)
		scope->tables = lappend(scope->tables, take_table(i));
	foreach(cell, scope->tables)
	{
		BackupTable *table = lfirst(cell);

		read_columns(table);
		read_key(table);
		write_query(table);
	}
	scope->whole = named == NIL;
	if (scope->whole)
		read_left_out(scope);
	return scope;
}

static uint64
find_tables(List *named)
{
	static SPIPlanPtr all_plan = NULL;
	static SPIPlanPtr named_plan = NULL;
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];

	if (named == NIL)
		return angles_spi_exec(&all_plan, ALL_TABLES " UNION ALL " CONFIG_TABLES IN_ORDER,
							   0, NULL, NULL, NULL, SPI_OK_SELECT);
	values[0] = oid_array(named);
	return angles_spi_exec(&named_plan, NAMED_TABLES IN_ORDER, 1, types, values, NULL,
						   SPI_OK_SELECT);
}

static Datum
oid_array(List *oids)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, oids)
		values[n++] = ObjectIdGetDatum(lfirst_oid(cell));
	return PointerGetDatum(construct_array(values, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Raises an error for the first that is no table, or none that lasts, or not a person's. */
static void
check_named(List *named)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];

	if (named == NIL)
		return;
	values[0] = oid_array(named);
	if (angles_spi_exec(&plan,
						"SELECT coalesce(t.oid::pg_catalog.regclass::text, t.oid::text), CASE "
						"WHEN c.oid IS NULL THEN 'It does not exist.' "
						"WHEN c.relkind = 'f' THEN 'It is a foreign table: its rows are "
						"elsewhere.' "
						"WHEN c.relkind = 'm' THEN 'It is a materialized view: REFRESH makes its "
						"rows.' "
						"WHEN c.relkind NOT IN ('r', 'p') THEN 'It is no table.' "
						"WHEN c.relpersistence = 't' THEN 'It is a temporary table.' "
						"WHEN n.nspname = 'angles' THEN 'What angles keeps of its own is part of "
						"each backup of all tables.' "
						"ELSE 'It belongs to PostgreSQL.' END "
						"FROM unnest($1) AS t (oid) LEFT JOIN pg_catalog.pg_class c USING (oid) "
						"LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
						"WHERE c.oid IS NULL OR c.relkind NOT IN ('r', 'p') "
						"OR c.relpersistence = 't' OR n.nspname ~ '^pg_' "
						"OR n.nspname IN ('information_schema', 'angles') LIMIT 1",
						1, types, values, NULL, SPI_OK_SELECT) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_CANNOT_BACK_UP),
			 errmsg("%s cannot be backed up", angles_spi_text(0, 1, CurrentMemoryContext)),
			 errdetail("%s", angles_spi_text(0, 2, CurrentMemoryContext)),
			 errhint("Leave it out of the tables given to angles.backup().")));
}

static BackupTable *
take_table(uint64 row)
{
	BackupTable *table = palloc0(sizeof(BackupTable));
	bool		isnull;

	table->relid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
												  1, &isnull));
	table->schema = angles_spi_text(row, 2, CurrentMemoryContext);
	table->name = angles_spi_text(row, 3, CurrentMemoryContext);
	table->config = strcmp(angles_spi_text(row, 4, CurrentMemoryContext), "t") == 0;
	table->condition = angles_spi_text(row, 5, CurrentMemoryContext);
	table->full_name = quote_qualified_identifier(table->schema, table->name);
	table->folder = angles_scope_folder(table->schema, table->name);
	return table;
}

/* ---- columns, key, order ---- */

static void
read_columns(BackupTable *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(table->relid)};
	uint64		n;

	n = angles_spi_exec(&plan,
						"SELECT attname, pg_catalog.format_type(atttypid, atttypmod), atttypid "
						"FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 "
						"AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
						1, types, values, NULL, SPI_OK_SELECT);
	table->n_columns = (int) n;
	table->columns = palloc0(sizeof(BackupColumn) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		table->columns[i].name = angles_spi_text(i, 1, CurrentMemoryContext);
		table->columns[i].type = angles_spi_text(i, 2, CurrentMemoryContext);
		table->columns[i].base_type =
			getBaseType(DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
													   SPI_tuptable->tupdesc, 3, &isnull)));
	}
}

/*
 * The primary key, or else the unique index over the fewest columns that cannot be null. Which of
 * several does not hang on their names alone: that is the last criterion.
 */
static void
read_key(BackupTable *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(table->relid)};
	uint64		n;

	n = angles_spi_exec(&plan,
						"SELECT a.attname FROM (SELECT i.* FROM pg_catalog.pg_index i "
						"WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indisready "
						"AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT "
						"FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k (attnum) "
						"JOIN pg_catalog.pg_attribute n ON n.attrelid = i.indrelid "
						"AND n.attnum = k.attnum WHERE NOT n.attnotnull OR n.attgenerated <> '') "
						"ORDER BY i.indisprimary DESC, i.indnkeyatts, "
						"(SELECT string_agg(n.attname, ',' ORDER BY n.attnum) "
						"FROM pg_catalog.pg_attribute n WHERE n.attrelid = i.indrelid "
						"AND n.attnum = ANY (i.indkey)) COLLATE \"C\", i.indexrelid LIMIT 1) x, "
						"unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) "
						"WITH ORDINALITY AS k (attnum, at) "
						"JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum "
						"ORDER BY k.at",
						1, types, values, NULL, SPI_OK_SELECT);
	table->n_key = (int) n;
	table->key = palloc0(sizeof(int) * Max(n, 1));
	table->labels = palloc0(sizeof(ChunkLabelKind) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = angles_spi_text(i, 1, CurrentMemoryContext);

		while (strcmp(table->columns[table->key[i]].name, name) != 0)
			table->key[i]++;
		table->labels[i] = label_kind(table->columns[table->key[i]].base_type);
	}
}

static ChunkLabelKind
label_kind(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
			return LABEL_INTEGER;
		case UUIDOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return LABEL_WORD;
		default:
			return LABEL_HASH;
	}
}

static void
write_query(BackupTable *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < table->n_columns; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_identifier(table->columns[i].name));
	appendStringInfo(&sql, " FROM ONLY %s %s", table->full_name, table->condition);
	for (int i = 0; i < (table->n_key > 0 ? table->n_key : table->n_columns); i++)
	{
		appendStringInfoString(&sql, i > 0 ? ", " : " ORDER BY ");
		order_by(&sql, &table->columns[table->n_key > 0 ? table->key[i] : i], table->n_key == 0);
	}
	table->query = sql.data;
}

/*
 * An order that no collation, and no upgrade of one, can change. What orders by itself can use the
 * index; text is ordered by its bytes, everything else by the bytes of its text.
 */
static void
order_by(StringInfo out, const BackupColumn *column, bool may_be_null)
{
	const char *name = quote_identifier(column->name);

	switch (column->base_type)
	{
		case BOOLOID:
		case BYTEAOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case UUIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			/* equal numbers can be written differently: 1.0, 1.00 */
			if (!may_be_null || column->base_type != NUMERICOID)
			{
				appendStringInfoString(out, name);
				return;
			}
			break;
		case TEXTOID:
		case VARCHAROID:
		case NAMEOID:
			appendStringInfo(out, "%s COLLATE \"C\"", name);
			return;
		default:
			break;
	}
	if (may_be_null)
		appendStringInfo(out, "%s IS NOT DISTINCT FROM NULL, ", name);
	appendStringInfo(out, "pg_catalog.format('%%s', %s) COLLATE \"C\"", name);
}

/* ---- what is not in it ---- */

static void
read_left_out(BackupScope *scope)
{
	static SPIPlanPtr plan = NULL;
	uint64		n;

	n = angles_spi_exec(&plan,
						"SELECT n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c "
						"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
						"WHERE " USER_SCHEMA " AND c.relpersistence <> 't' AND (c.relkind IN "
						"('f', 'm') OR c.relkind = 'r' AND " OF_EXTENSION ") ORDER BY 1, 2",
						0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		BackupLeftOut *out = palloc(sizeof(BackupLeftOut));
		char	   *kind = angles_spi_text(i, 3, CurrentMemoryContext);

		out->full_name =
			quote_qualified_identifier(angles_spi_text(i, 1, CurrentMemoryContext),
									   angles_spi_text(i, 2, CurrentMemoryContext));
		out->reason = *kind == 'f' ? "foreign table" : *kind == 'm' ? "materialized view"
			: "belongs to an extension";
		scope->left_out = lappend(scope->left_out, out);
	}
}
