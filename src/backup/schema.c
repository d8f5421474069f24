/*
 * schema.c
 *		See schema.h. Runs in job workers, inside the transaction that has the snapshot.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "core/txn.h"
#include "backup/copytext.h"
#include "backup/schema.h"
#include "worker/worker.h"

/* In the order in which they are to be run; what angles.schema_files() calls them. */
static const struct
{
	const char *part;
	const char *name;
}			files[] = {
	{"pre", "010-pre.sql"},
	{"seq", "020-seq.sql"},
	{"post", "030-post.sql"},
	{"rights", "040-rights.sql"},
	{"notes", "not-captured.txt"},
};

typedef struct Request
{
	BackupTree *tree;
	const BackupScope *scope;
	MemoryContext cxt;
} Request;

static void add_job(void *arg);
static Datum relations_of(const BackupScope *scope);
static void add_part(BackupTree *tree, const char *part, const char *text);

void
angles_schema_add(BackupTree *tree, const BackupScope *scope)
{
	Request		request = {tree, scope, CurrentMemoryContext};

	/* the backup role may read tables, and call nothing of angles */
	angles_worker_as_owner(add_job, &request);
}

static void
add_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Request    *request = arg;
	MemoryContext old = MemoryContextSwitchTo(request->cxt);
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];
	uint64		n;

	values[0] = relations_of(request->scope);
	n = angles_spi_exec(&plan,
						"SELECT f.file, n.nspname, c.relname, f.content"
						" FROM angles.schema_files($1) f"
						" LEFT JOIN pg_class c ON c.oid = f.relid"
						" LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"
						" ORDER BY n.nspname, c.relname, f.file",
						1, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *schema = angles_spi_text(i, 2, request->cxt);
		char	   *name = angles_spi_text(i, 3, request->cxt);
		char	   *text = angles_copytext_encode(angles_spi_text(i, 4, request->cxt));

		if (schema == NULL)
			add_part(request->tree, angles_spi_text(i, 1, request->cxt), text);
		else
			angles_tree_schema(request->tree, true,
							   psprintf("%s.sql", angles_scope_folder(schema, name)), text);
	}
	angles_tree_schema_end(request->tree);
	MemoryContextSwitchTo(old);
}

/* The order of tables is what order.txt at the root says. */
static void
add_part(BackupTree *tree, const char *part, const char *text)
{
	for (int i = 0; i < lengthof(files); i++)
		if (strcmp(files[i].part, part) == 0)
			angles_tree_schema(tree, false, files[i].name, text);
}

/* Those of angles itself come with CREATE EXTENSION. */
static Datum
relations_of(const BackupScope *scope)
{
	Datum	   *oids = palloc(sizeof(Datum) * Max(list_length(scope->tables), 1));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, scope->tables)
	{
		BackupTable *table = lfirst(cell);

		if (!table->config)
			oids[n++] = ObjectIdGetDatum(table->relid);
	}
	return PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}
