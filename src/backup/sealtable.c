/*
 * sealtable.c
 *		See sealvalue.h: what is known of a table before its rows are read. Runs in job workers as
 *		the backup role, and in sessions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "core/txn.h"
#include "backup/sealvalue.h"

static void read_settings(RedactTable *table, Oid relid);
static void query_settings(void *arg);
static void take_setting(RedactTable *table, uint64 row);
static RedactColumn *find_column(RedactTable *table, const char *name);
static void read_column(RedactColumn *column, Oid relid);
static bool is_text(Oid type);
static RedactForm form_of(Oid type);
static const char *stand_in_of(Oid type);
static bool is_unique(Oid relid, int attnum);
static void check_columns(RedactTable *table);

RedactTable *
angles_redact_begin(const BackupTable *table, const SealKeys *keys)
{
	RedactTable *redact = palloc0(sizeof(RedactTable));
	HASHCTL		ctl = {
		.keysize = offsetof(RedactFound, count), .entrysize = sizeof(RedactFound),
		.hcxt = CurrentMemoryContext
	};
	List	   *places;

	redact->cxt = CurrentMemoryContext;
	redact->full_name = table->full_name;
	redact->key = keys && keys->n > 0 ? &keys->keys[0] : NULL;
	redact->n_columns = table->n_columns;
	redact->columns = palloc0(sizeof(RedactColumn) * Max(table->n_columns, 1));
	redact->found = hash_create("angles secrets", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	angles_scan_begin(&redact->spans);
	angles_scan_begin(&redact->inner);
	for (int i = 0; i < table->n_columns; i++)
	{
		redact->columns[i].name = table->columns[i].name;
		redact->columns[i].telling = angles_scan_telling_name(table->columns[i].name);
		read_column(&redact->columns[i], table->relid);
	}
	for (int i = 0; i < table->n_key; i++)
		redact->columns[table->key[i]].key = true;
	read_settings(redact, table->relid);
	check_columns(redact);
	places = angles_redact_places(redact, table->relid);
	if (places != NIL && redact->refused == NULL)
	{
		RedactPlace *place = linitial(places);

		redact->refused = psprintf("%s%s%s holds a secret (%s)", place->place,
								   place->column ? " of column " : "",
								   place->column ? quote_identifier(place->column) : "",
								   place->kind);
	}
	return redact;
}

/* What can be told before a row is read. */
static void
check_columns(RedactTable *table)
{
	for (int i = 0; i < table->n_columns && table->refused == NULL; i++)
	{
		RedactColumn *column = &table->columns[i];

		if (column->policy == SEAL_PLAIN)
			continue;
		if (column->key)
			table->refused = psprintf("column %s, by which rows are known, is not to be written",
									  quote_identifier(column->name));
		else if (column->form != REDACT_TEXT && column->form != REDACT_JSON &&
				 !column->may_be_null && column->stand_in == NULL)
			table->refused = psprintf("column %s is not to be written, and nothing can stand in "
									  "for its values", quote_identifier(column->name));
	}
}

/* ---- settings ---- */

typedef struct SettingsQuery
{
	RedactTable *table;
	Oid			relid;
} SettingsQuery;

/* As the owner of the tables that are read: a statement of ours on tables of ours. */
static void
read_settings(RedactTable *table, Oid relid)
{
	SettingsQuery query = {table, relid};
	Oid			ours = get_relname_relid("column_policies", get_namespace_oid("angles", false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(ours));
	Oid			role;
	int			context;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table angles.column_policies is missing");
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(((Form_pg_class) GETSTRUCT(tuple))->relowner,
						   context | SECURITY_LOCAL_USERID_CHANGE);
	ReleaseSysCache(tuple);
	/* given back by the end of the (sub)transaction should this raise an error */
	query_settings(&query);
	SetUserIdAndSecContext(role, context);
}

/* Partitions and children have the settings of their parents; their own come last and win. */
static void
query_settings(void *arg)
{
	SettingsQuery *query = arg;
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(query->relid)};
	uint64		n;

	n = angles_spi_exec(&plan,
						"WITH RECURSIVE up (oid, depth) AS (SELECT $1, 0 UNION ALL "
						"SELECT i.inhparent, up.depth + 1 FROM up JOIN pg_catalog.pg_inherits i "
						"ON i.inhrelid = up.oid) "
						"SELECT 'salt', NULL, encode(s.salt, 'hex'), NULL, 0 "
						"FROM angles.scan_salt s UNION ALL "
						"SELECT 'policy', p.column_name::text, p.policy, NULL, up.depth "
						"FROM angles.column_policies p JOIN up ON up.oid = p.relid UNION ALL "
						"SELECT 'allow', a.column_name::text, a.fingerprint, "
						"encode(a.salt, 'hex'), up.depth FROM angles.secret_allowances a "
						"JOIN up ON up.oid = a.relid ORDER BY 5 DESC",
						1, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
		take_setting(query->table, i);
}

static void
take_setting(RedactTable *table, uint64 row)
{
	static const char *const policies[] = {"plain", "seal", "hash", "omit"};
	char	   *what = angles_spi_text(row, 1, table->cxt);
	char	   *name = angles_spi_text(row, 2, table->cxt);
	char	   *value = angles_spi_text(row, 3, table->cxt);
	char	   *salt = angles_spi_text(row, 4, table->cxt);
	RedactColumn *column = name ? find_column(table, name) : NULL;

	if (strcmp(what, "salt") == 0)
	{
		if (strlen(value) == 2 * sizeof(table->salt))
			hex_decode(value, strlen(value), (char *) table->salt);
		return;
	}
	if (strcmp(what, "policy") == 0)
	{
		for (int i = 0; column != NULL && i < lengthof(policies); i++)
		{
			if (strcmp(value, policies[i]) == 0)
				column->policy = (SealPolicy) i;
		}
		return;
	}
	for (int i = 0; i < table->n_columns; i++)
	{
		if (column == NULL ? name == NULL : column == &table->columns[i])
		{
			RedactAllowed *allowed = palloc0(sizeof(RedactAllowed));

			allowed->fingerprint = value;
			allowed->salt = palloc(strlen(salt) / 2 + 1);
			allowed->salt_len = hex_decode(salt, strlen(salt), (char *) allowed->salt);
			table->columns[i].allowed = lappend(table->columns[i].allowed, allowed);
		}
	}
}

static RedactColumn *
find_column(RedactTable *table, const char *name)
{
	for (int i = 0; i < table->n_columns; i++)
	{
		if (strcmp(table->columns[i].name, name) == 0)
			return &table->columns[i];
	}
	return NULL;
}

/* ---- types ---- */

static void
read_column(RedactColumn *column, Oid relid)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column->name);
	Form_pg_attribute attribute;
	Oid			type;
	int32		typmod;
	Oid			base;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "column %s of table %u is missing", column->name, relid);
	attribute = (Form_pg_attribute) GETSTRUCT(tuple);
	type = attribute->atttypid;
	typmod = attribute->atttypmod;
	base = getBaseTypeAndTypmod(type, &typmod);
	column->may_be_null = !attribute->attnotnull;
	column->form = form_of(base);
	column->padded = base == BPCHAROID;
	if ((base == VARCHAROID || base == BPCHAROID) && typmod >= (int32) VARHDRSZ)
		column->max_chars = typmod - VARHDRSZ;
	else if (base == NAMEOID)
		column->max_chars = NAMEDATALEN - 1;
	column->stand_in = stand_in_of(base);
	if (type != base && DomainHasConstraints(type))
	{
		/* whether a stand-in passes them only code of users could tell, which is not run here */
		if (column->form != REDACT_NOTHING)
			column->form = REDACT_WHOLE;
		column->stand_in = NULL;
		for (Oid domain = type; domain != base;)
		{
			HeapTuple	type_tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(domain));

			if (!HeapTupleIsValid(type_tuple))
				elog(ERROR, "cache lookup failed for type %u", domain);
			if (((Form_pg_type) GETSTRUCT(type_tuple))->typnotnull)
				column->may_be_null = false;
			domain = ((Form_pg_type) GETSTRUCT(type_tuple))->typbasetype;
			ReleaseSysCache(type_tuple);
		}
	}
	/* the same stand-in in each row would not be unique */
	if (!column->may_be_null && column->stand_in != NULL && is_unique(relid, attribute->attnum))
		column->stand_in = NULL;
	ReleaseSysCache(tuple);
}

static bool
is_text(Oid type)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING || type == XMLOID;
}

static RedactForm
form_of(Oid type)
{
	char		category;
	bool		preferred;
	Oid			element;

	if (type == JSONOID || type == JSONBOID)
		return REDACT_JSON;
	/* one byte */
	if (type == CHAROID)
		return REDACT_NOTHING;
	if (is_text(type))
		return REDACT_TEXT;
	get_type_category_preferred(type, &category, &preferred);
	switch (category)
	{
		case TYPCATEGORY_ARRAY:
			element = get_element_type(type);
			if (OidIsValid(element) && is_text(getBaseType(element)) && element != XMLOID)
				return REDACT_ARRAY;
			return OidIsValid(element) && form_of(getBaseType(element)) == REDACT_NOTHING
				? REDACT_NOTHING : REDACT_WHOLE;
		case TYPCATEGORY_COMPOSITE:
			return REDACT_WHOLE;
		case TYPCATEGORY_RANGE:
			return type < FirstNormalObjectId ? REDACT_NOTHING : REDACT_WHOLE;
		case TYPCATEGORY_USER:
			return type < FirstNormalObjectId && type != TSVECTOROID && type != JSONPATHOID
				? REDACT_NOTHING : REDACT_WHOLE;
		default:
			return REDACT_NOTHING;
	}
}

static const char *
stand_in_of(Oid type)
{
	char		category;
	bool		preferred;

	if (type == UUIDOID)
		return "00000000-0000-0000-0000-000000000000";
	if (type == BYTEAOID)
		return "\\x";
	if (type == TIMEOID || type == INTERVALOID)
		return "00:00:00";
	if (type == TIMETZOID)
		return "00:00:00+00";
	if (type == CIDROID)
		return "0.0.0.0/32";
	if (type == TIMESTAMPOID)
		return "1970-01-01 00:00:00";
	if (type == TIMESTAMPTZOID)
		return "1970-01-01 00:00:00+00";
	if (type == TSVECTOROID)
		return "";
	get_type_category_preferred(type, &category, &preferred);
	switch (category)
	{
		case TYPCATEGORY_NUMERIC:
			return "0";
		case TYPCATEGORY_BOOLEAN:
			return "false";
		case TYPCATEGORY_DATETIME:
			return "1970-01-01";
		case TYPCATEGORY_NETWORK:
			return "0.0.0.0";
		case TYPCATEGORY_ARRAY:
			return "{}";
		case TYPCATEGORY_RANGE:
			return type_is_multirange(type) ? "{}" : "empty";
		default:
			return NULL;
	}
}

static bool
is_unique(Oid relid, int attnum)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {OIDOID, INT2OID};
	Datum		values[2] = {ObjectIdGetDatum(relid), Int16GetDatum(attnum)};

	return angles_spi_exec(&plan,
						   "SELECT FROM pg_catalog.pg_index WHERE indrelid = $1 "
						   "AND (indisunique OR indisexclusion) AND $2 = ANY (indkey) LIMIT 1",
						   2, types, values, NULL, SPI_OK_SELECT) > 0;
}

/* ---- beside the rows ---- */

#define PLACES \
	"SELECT NULL, 'the name of the table', c.relname::text FROM pg_catalog.pg_class c " \
	"WHERE c.oid = $1 UNION ALL " \
	"SELECT a.attname::text, 'the name', a.attname::text FROM pg_catalog.pg_attribute a " \
	"WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped UNION ALL " \
	"SELECT a.attname::text, 'the default', pg_catalog.pg_get_expr(d.adbin, d.adrelid) " \
	"FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid " \
	"AND a.attnum = d.adnum WHERE d.adrelid = $1 UNION ALL " \
	"SELECT a.attname::text, 'the comment', d.description FROM pg_catalog.pg_description d " \
	"LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = d.objsubid " \
	"AND d.objsubid > 0 WHERE d.objoid = $1 " \
	"AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass UNION ALL " \
	"SELECT NULL, 'constraint ' || pg_catalog.quote_ident(o.conname), " \
	"pg_catalog.pg_get_constraintdef(o.oid) FROM pg_catalog.pg_constraint o " \
	"WHERE o.conrelid = $1 AND o.contype = 'c'"

List *
angles_redact_places(const RedactTable *table, Oid relid)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	List	   *places = NIL;
	ScanSpans	found;
	uint64		n;

	angles_scan_begin(&found);
	n = angles_spi_exec(&plan, PLACES, 1, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *column = angles_spi_text(i, 1, CurrentMemoryContext);
		char	   *text = angles_spi_text(i, 3, CurrentMemoryContext);
		Size		text_len;
		bool		literal;

		if (text == NULL)
			continue;
		/* 'value'::text is a value of the column, an expression is none */
		literal = column != NULL && text[0] == '\'';
		if (literal)
			text++;
		text_len = literal ? strcspn(text, "'") : strlen(text);
		angles_scan(&found, text, text_len,
					literal && angles_scan_telling_name(column) ? column : NULL);
		for (int j = 0; j < found.n; j++)
		{
			const char *secret = text + found.spans[j].start;
			Size		len = found.spans[j].end - found.spans[j].start;
			RedactPlace *place;

			if (angles_redact_allowed(table, column, secret, len))
				continue;
			place = palloc0(sizeof(RedactPlace));
			place->column = column;
			place->place = angles_spi_text(i, 2, CurrentMemoryContext);
			place->kind = found.spans[j].kind;
			angles_redact_fingerprint(table->salt, sizeof(table->salt), secret, len,
									  place->fingerprint);
			places = lappend(places, place);
		}
	}
	return places;
}
