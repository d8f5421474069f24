/*
 * names.c
 *		Parts of the scope of a backup that are about names and relations between tables: folders,
 *		the order of foreign keys, sequences. See scope.h. Runs in job workers.
 */
#include "postgres.h"

#include <openssl/sha.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/txn.h"
#include "backup/copytext.h"
#include "backup/scope.h"

/* Longer names are cut and get a hash; file systems take 255 bytes. */
#define FOLDER_MAX 200
#define FOLDER_KEPT 150

/* A foreign key: the table that has it and the one it points to. */
typedef struct Reference
{
	Oid			from;
	Oid			to;
} Reference;

static void append_encoded(StringInfo out, const char *name);
static bool is_reserved(const char *name);
static Reference *read_references(int *n);
static bool waits(const BackupTable *table, List *rest, const Reference *references, int n);

/* ---- folders ---- */

char *
angles_scope_folder(const char *schema, const char *name)
{
	StringInfoData out;
	uint8		digest[SHA256_DIGEST_LENGTH];

	initStringInfo(&out);
	append_encoded(&out, angles_copytext_encode(schema));
	appendStringInfoChar(&out, '.');
	append_encoded(&out, angles_copytext_encode(name));
	if (out.len <= FOLDER_MAX)
		return out.data;
	SHA256((const unsigned char *) out.data, out.len, digest);
	out.len = FOLDER_KEPT;
	/* "~" is in no name that is short enough, so this one is no other's */
	appendStringInfoChar(&out, '~');
	for (int i = 0; i < 16; i++)
		appendStringInfo(&out, "%02x", digest[i]);
	return out.data;
}

char *
angles_scope_file_name(const char *name)
{
	StringInfoData out;

	initStringInfo(&out);
	append_encoded(&out, angles_copytext_encode(name));
	return out.data;
}

/*
 * Letters of one case, digits and "_" stand for themselves: some file systems know no difference
 * between "a" and "A", or between two ways to write an accent.
 */
static void
append_encoded(StringInfo out, const char *name)
{
	bool		first = is_reserved(name);

	for (const char *p = name; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;
		bool		plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
			(c == '-' && p != name);

		if (plain && !first)
			appendStringInfoChar(out, c);
		else
			appendStringInfo(out, "%%%02X", c);
		first = false;
	}
}

/* Names of devices, which Windows also finds before a dot. */
static bool
is_reserved(const char *name)
{
	static const char *const devices[] = {"con", "prn", "aux", "nul"};

	for (int i = 0; i < (int) lengthof(devices); i++)
	{
		if (strcmp(name, devices[i]) == 0)
			return true;
	}
	return (strncmp(name, "com", 3) == 0 || strncmp(name, "lpt", 3) == 0) &&
		name[3] >= '0' && name[3] <= '9' && name[4] == '\0';
}

/* ---- the order of foreign keys ---- */

List *
angles_scope_order(BackupScope *scope)
{
	List	   *rest = NIL;
	List	   *order = NIL;
	int			n;
	Reference  *references = read_references(&n);
	ListCell   *cell;

	foreach(cell, scope->tables)
	{
		if (!((BackupTable *) lfirst(cell))->config)
			rest = lappend(rest, lfirst(cell));
	}
	while (rest != NIL)
	{
		BackupTable *next = NULL;

		foreach(cell, rest)
		{
			if (!waits(lfirst(cell), rest, references, n))
			{
				next = lfirst(cell);
				break;
			}
		}
		if (next == NULL)
		{
			next = linitial(rest);
			next->cycle = true;
		}
		order = lappend(order, next);
		rest = list_delete_ptr(rest, next);
	}
	return order;
}

/* Keys that point to a partitioned table point to each of its partitions, too, in the catalog. */
static Reference *
read_references(int *n)
{
	static SPIPlanPtr plan = NULL;
	Reference  *references;
	bool		isnull;

	*n = (int) angles_spi_exec(&plan,
							   "SELECT DISTINCT conrelid, confrelid FROM pg_catalog.pg_constraint "
							   "WHERE contype = 'f' AND conrelid <> confrelid ORDER BY 1, 2",
							   0, NULL, NULL, NULL, SPI_OK_SELECT);
	references = palloc(sizeof(Reference) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		references[i].from = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
															SPI_tuptable->tupdesc, 1, &isnull));
		references[i].to = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
														  SPI_tuptable->tupdesc, 2, &isnull));
	}
	return references;
}

/* Whether a table points to one that is still to come. References are sorted by "from". */
static bool
waits(const BackupTable *table, List *rest, const Reference *references, int n)
{
	int			low = 0;
	int			high = n;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (references[mid].from < table->relid)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < n && references[low].from == table->relid; low++)
	{
		ListCell   *cell;

		foreach(cell, rest)
		{
			if (((BackupTable *) lfirst(cell))->relid == references[low].to)
				return true;
		}
	}
	return false;
}

/* ---- sequences ---- */

char *
angles_scope_sequences(BackupScope *scope)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];
	ArrayBuildState *tables = initArrayResult(OIDOID, CurrentMemoryContext, false);
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData sql;
	ListCell   *cell;
	uint64		n;

	foreach(cell, scope->tables)
		tables = accumArrayResult(tables, ObjectIdGetDatum(((BackupTable *) lfirst(cell))->relid),
								  false, OIDOID, CurrentMemoryContext);
	values[0] = makeArrayResult(tables, CurrentMemoryContext);
	/* owned by a column of a table (or of the parent of one) that is in the backup */
	n = angles_spi_exec(&plan,
						"SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), "
						"s.seqincrement < 0 FROM pg_catalog.pg_sequence s "
						"JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid "
						"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
						"WHERE c.relpersistence <> 't' AND n.nspname <> 'angles' AND EXISTS ("
						"SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype IN "
						"('a', 'i', 'n') AND d.classid = 'pg_catalog.pg_class'::regclass "
						"AND d.refclassid = 'pg_catalog.pg_class'::regclass "
						"AND (d.refobjid = ANY ($1) OR EXISTS (SELECT "
						"FROM pg_catalog.pg_inherits i "
						"WHERE i.inhparent = d.refobjid AND i.inhrelid = ANY ($1)))) "
						"OR EXISTS (SELECT FROM pg_catalog.pg_depend d, pg_catalog.pg_attrdef a "
						"WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = a.oid "
						"AND d.refobjid = c.oid AND a.adrelid = ANY ($1) "
						"AND d.refclassid = 'pg_catalog.pg_class'::regclass "
						"AND c.relpersistence <> 't' AND n.nspname <> 'angles') "
						"ORDER BY n.nspname, c.relname",
						1, types, values, NULL, SPI_OK_SELECT);
	MemoryContextSwitchTo(caller);
	initStringInfo(&sql);
	for (uint64 i = 0; i < n; i++)
	{
		SPITupleTable *found = SPI_tuptable;
		char	   *name = angles_spi_text(i, 1, caller);
		bool		down = strcmp(angles_spi_text(i, 2, caller), "t") == 0;
		char	   *query = psprintf("SELECT last_value, is_called FROM %s", name);
		char	   *last;
		char	   *called;

		if (SPI_execute(query, true, 0) != SPI_OK_SELECT || SPI_processed != 1)
			elog(ERROR, "could not read sequence %s", name);
		last = angles_spi_text(0, 1, caller);
		called = strcmp(angles_spi_text(0, 2, caller), "t") == 0 ? "true" : "false";
		SPI_freetuptable(SPI_tuptable);
		SPI_tuptable = found;
		MemoryContextSwitchTo(caller);
		name = angles_copytext_encode(name);
		appendStringInfo(&sql,
						 "SELECT pg_catalog.setval(%s, %s, %s) FROM %s "
						 "WHERE (last_value, is_called) %s (%s, %s);\n",
						 quote_literal_cstr(name), last, called, name,
						 down ? ">" : "<", last, called);
	}
	return sql.data;
}
