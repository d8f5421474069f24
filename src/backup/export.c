/*
 * export.c
 *		See export.h. Runs in job workers, inside the transaction that has the snapshot.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/testhook.h"
#include "backup/chunk.h"
#include "backup/copytext.h"
#include "backup/export.h"
#include "backup/stream.h"

/* A buffer that a very long row has made larger than this is given back. */
#define BUFFER_KEPT (4 * 1024 * 1024)

/* The name of what comes before the first cut: deletes at the head of a table rename nothing. */
#define FIRST_LABEL "0-first"

typedef struct Export
{
	BackupTree *tree;
	const BackupTable *table;
	const ChunkSizes *sizes;
	BackupProgress progress;
	void	   *arg;
	MemoryContext cxt;
	CopyText   *copy;
	ChunkState	state;
	StringInfoData chunk;		/* the present chunk, and behind it the row being looked at */
	StringInfoData label;		/* of the present chunk */
	bool		new_bucket;		/* the present chunk begins one */
	StringInfoData key;			/* of the row being looked at */
	StringInfoData last_row;	/* without a key: the row before */
	uint64		ordinal;		/* and how many equal ones came before this */
	BackupCount count;
} Export;

static void export_row(TupleTableSlot *slot, void *arg);
static void find_key(Export *export, Size start, uint8 *digest);
static void name_chunk(Export *export, const uint8 *digest);
static void flush_chunk(Export *export, Size len);
static void write_load(Export *export);
static void append_comment(StringInfo out, const char *text);
static void name_table(void *arg);

BackupCount
angles_export_table(BackupTree *tree, const BackupTable *table, const ChunkSizes *sizes,
					BackupProgress progress, void *arg)
{
	Export		export = {
		.tree = tree, .table = table, .sizes = sizes, .progress = progress, .arg = arg,
		.cxt = CurrentMemoryContext
	};
	ErrorContextCallback callback = {
		.callback = name_table, .arg = table->full_name, .previous = error_context_stack
	};

	error_context_stack = &callback;
	initStringInfo(&export.chunk);
	initStringInfo(&export.label);
	initStringInfo(&export.key);
	initStringInfo(&export.last_row);
	angles_tree_table(tree, table->config ? "config" : "data", table->folder);
	angles_stream(table->query, export_row, &export);
	MemoryContextSwitchTo(export.cxt);
	flush_chunk(&export, export.chunk.len);
	write_load(&export);
	angles_tree_table_end(tree, export.count.sums);
	progress(table, &export.count, arg);
	pfree(export.chunk.data);
	pfree(export.label.data);
	pfree(export.key.data);
	pfree(export.last_row.data);
	error_context_stack = callback.previous;
	return export.count;
}

static void
export_row(TupleTableSlot *slot, void *arg)
{
	Export	   *export = arg;
	Size		start = export->chunk.len;
	uint8		digest[ANGLES_KEY_DIGEST];
	MemoryContext old;

	if (export->copy == NULL)
		export->copy = angles_copytext_begin(slot->tts_tupleDescriptor);
	angles_copytext_row(export->copy, slot, &export->chunk);
	find_key(export, start, digest);
	export->count.rows++;
	export->count.bytes += export->chunk.len - start;
	if (!angles_chunk_cut(export->sizes, &export->state, digest, export->chunk.len - start))
		return;
	old = MemoryContextSwitchTo(export->cxt);
	/* the next chunk has the name of its key, which stands in this row */
	if (start > 0)
		flush_chunk(export, start);
	name_chunk(export, digest);
	MemoryContextSwitchTo(old);
}

/* Puts the key of a row, which is behind "start" in the buffer, into export->key; and its hash. */
static void
find_key(Export *export, Size start, uint8 *digest)
{
	const BackupTable *table = export->table;
	const char *line = export->chunk.data + start;
	Size		len = export->chunk.len - start - 1;

	resetStringInfo(&export->key);
	for (int i = 0; i < table->n_key; i++)
	{
		int			column = table->key[i];

		if (i > 0)
			appendStringInfoChar(&export->key, '\t');
		appendBinaryStringInfo(&export->key, export->chunk.data + export->copy->starts[column],
							   export->copy->ends[column] - export->copy->starts[column]);
	}
	if (table->n_key > 0)
	{
		angles_chunk_digest(export->key.data, export->key.len, 0, digest);
		return;
	}
	if (export->count.rows > 0 && export->last_row.len == len &&
		memcmp(export->last_row.data, line, len) == 0)
		export->ordinal++;
	else
	{
		export->ordinal = 0;
		resetStringInfo(&export->last_row);
		appendBinaryStringInfo(&export->last_row, line, len);
	}
	angles_chunk_digest(line, len, export->ordinal, digest);
}

static void
name_chunk(Export *export, const uint8 *digest)
{
	const BackupTable *table = export->table;
	char	  **values = palloc(sizeof(char *) * Max(table->n_key, 1));
	char	   *key = pstrdup(export->key.data);
	char	   *rest = key;

	export->new_bucket = export->count.rows == 1 || angles_chunk_begins_bucket(digest);
	resetStringInfo(&export->label);
	if (export->count.rows == 1)
		appendStringInfoString(&export->label, FIRST_LABEL);
	else
	{
		for (int i = 0; i < table->n_key; i++)
		{
			values[i] = rest;
			rest += strcspn(rest, "\t");
			if (*rest == '\t')
				*rest++ = '\0';
		}
		angles_chunk_label(&export->label, table->n_key, table->labels, values, digest);
	}
	pfree(key);
	pfree(values);
}

/* Gives the first "len" bytes of the buffer to the tree; those behind are the next chunk's. */
static void
flush_chunk(Export *export, Size len)
{
	if (len == 0)
		return;
	angles_tree_chunk(export->tree, export->label.data, export->new_bucket, export->chunk.data,
					  len);
	export->count.chunks++;
	export->progress(export->table, &export->count, export->arg);
	ANGLES_KILL_POINT("backup_chunk");
	CHECK_FOR_INTERRUPTS();
	memmove(export->chunk.data, export->chunk.data + len, export->chunk.len - len);
	export->chunk.len -= len;
	if (export->chunk.maxlen > BUFFER_KEPT && export->chunk.len < BUFFER_KEPT / 4)
	{
		export->chunk.maxlen = BUFFER_KEPT;
		export->chunk.data = repalloc(export->chunk.data, export->chunk.maxlen);
	}
}

/* The command that the text of the table is for, and what its columns are. */
static void
write_load(Export *export)
{
	const BackupTable *table = export->table;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "-- ");
	append_comment(&sql, table->full_name);
	appendStringInfoString(&sql, table->n_key > 0 ? ", key:" : ", no key");
	for (int i = 0; i < table->n_key; i++)
	{
		appendStringInfoChar(&sql, ' ');
		append_comment(&sql, quote_identifier(table->columns[table->key[i]].name));
	}
	for (int i = 0; i < table->n_columns; i++)
	{
		appendStringInfoString(&sql, "\n--   ");
		append_comment(&sql, quote_identifier(table->columns[i].name));
		appendStringInfoChar(&sql, ' ');
		append_comment(&sql, table->columns[i].type);
	}
	appendStringInfoChar(&sql, '\n');
	appendStringInfo(&sql, "COPY %s ", table->full_name);
	for (int i = 0; i < table->n_columns; i++)
		appendStringInfo(&sql, "%s%s%s", i == 0 ? "(" : ", ",
						 quote_identifier(table->columns[i].name),
						 i == table->n_columns - 1 ? ") " : "");
	appendStringInfoString(&sql, "FROM STDIN;\n");
	angles_tree_table_file(export->tree, "load.sql", angles_copytext_encode(sql.data));
}

/* A line feed in a name must not end the comment. */
static void
append_comment(StringInfo out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		appendStringInfoChar(out, *p == '\n' || *p == '\r' ? ' ' : *p);
}

static void
name_table(void *arg)
{
	errcontext("backup of table %s", (char *) arg);
}
