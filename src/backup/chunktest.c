/*
 * chunktest.c
 *		Chunks and COPY text as SQL functions for their tests; nothing at all without -DANGLES_TEST.
 *		The tests declare them: see test/t/511_backup_types.pl and 512_backup_chunks.pl.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "backup/chunk.h"
#include "backup/copytext.h"
#include "backup/stream.h"

/* A row of a table that is made up: duplicates of a key are told apart by their ordinal. */
typedef struct Row
{
	uint64		key;
	uint64		ordinal;
	uint64		content;
	uint32		len;
} Row;

typedef struct Table
{
	Row		   *rows;
	int			n;
	bool		duplicates;		/* a table without a key */
} Table;

/* Rows from "first" on; hash of what they are. */
typedef struct Chunk
{
	Row			first;
	int			at;				/* index of it */
	int			n;
	uint64		hash;
} Chunk;

typedef struct Chunks
{
	Chunk	   *chunks;
	int			n;
} Chunks;

PG_FUNCTION_INFO_V1(angles_chunk_test);
PG_FUNCTION_INFO_V1(angles_chunk_edits_test);
PG_FUNCTION_INFO_V1(angles_copytext_test);

/* angles_chunk_test(target int, keys text[], lengths int[]): where chunks and "b"uckets begin. */
Datum
angles_chunk_test(PG_FUNCTION_ARGS)
{
	ChunkSizes	sizes = angles_chunk_sizes(PG_GETARG_INT32(0));
	ArrayType  *keys = PG_GETARG_ARRAYTYPE_P(1);
	ArrayType  *lengths = PG_GETARG_ARRAYTYPE_P(2);
	ChunkState	state = {0};
	StringInfoData out;
	Datum	   *key_values;
	Datum	   *length_values;
	int			n;

	deconstruct_array(keys, TEXTOID, -1, false, TYPALIGN_INT, &key_values, NULL, &n);
	deconstruct_array(lengths, INT4OID, 4, true, TYPALIGN_INT, &length_values, NULL, &n);
	initStringInfo(&out);
	for (int i = 0; i < n; i++)
	{
		char	   *key = TextDatumGetCString(key_values[i]);
		uint8		digest[ANGLES_KEY_DIGEST];

		angles_chunk_digest(key, strlen(key), 0, digest);
		if (angles_chunk_cut(&sizes, &state, digest, DatumGetInt32(length_values[i])))
			appendStringInfo(&out, "%d%s ", i, angles_chunk_begins_bucket(digest) ? "b" : "");
	}
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* ---- edits: cutting only what is dirty gives the same as cutting it all ---- */

static void
digest_of(const Row *row, uint8 *digest)
{
	char		key[32];

	snprintf(key, sizeof(key), UINT64_FORMAT, row->key);
	angles_chunk_digest(key, strlen(key), row->ordinal, digest);
}

static void
add_row(Chunks *chunks, const ChunkSizes *sizes, ChunkState *state, const Row *row, int at)
{
	uint8		digest[ANGLES_KEY_DIGEST];
	Chunk	   *chunk;

	digest_of(row, digest);
	if (angles_chunk_cut(sizes, state, digest, row->len))
		chunks->chunks[chunks->n++] = (Chunk) {.first = *row, .at = at};
	chunk = &chunks->chunks[chunks->n - 1];
	chunk->n++;
	chunk->hash = chunk->hash * UINT64CONST(6364136223846793005) + row->content + row->key;
}

static Chunks
cut_all(const Table *table, const ChunkSizes *sizes)
{
	Chunks		chunks = {palloc(sizeof(Chunk) * (table->n + 1)), 0};
	ChunkState	state = {0};

	for (int i = 0; i < table->n; i++)
		add_row(&chunks, sizes, &state, &table->rows[i], i);
	return chunks;
}

static int
compare_rows(const void *a, const void *b)
{
	const Row  *x = a;
	const Row  *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->ordinal != y->ordinal)
		return x->ordinal < y->ordinal ? -1 : 1;
	return 0;
}

/* Returns the index of the first row of the table that is not before this one. */
static int
find_row(const Table *table, const Row *row)
{
	int			low = 0;
	int			high = table->n;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (compare_rows(&table->rows[mid], row) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/*
 * Whether the rows of an old chunk are all there and no others are between its first key and that
 * of the next chunk: what a log of changed keys would tell.
 */
static bool
is_clean(const Table *old, const Table *new, const Chunks *chunks, int i)
{
	const Chunk *chunk = &chunks->chunks[i];
	int			from = find_row(new, &chunk->first);
	int			to = i + 1 < chunks->n ? find_row(new, &chunks->chunks[i + 1].first) : new->n;

	/* what comes before the first key belongs to the first chunk */
	if (i == 0)
		from = 0;
	return to - from == chunk->n &&
		memcmp(&old->rows[chunk->at], &new->rows[from], sizeof(Row) * chunk->n) == 0;
}

static Chunks
cut_dirty(const Table *old, const Chunks *before, const Table *new, const ChunkSizes *sizes,
		  int64 *kept)
{
	Chunks		after = {palloc(sizeof(Chunk) * (new->n + 1)), 0};
	bool	   *clean = palloc0(sizeof(bool) * (before->n + 1));
	int			i = 0;
	int			at = 0;

	for (int j = 0; j < before->n; j++)
		clean[j] = is_clean(old, new, before, j);
	while (at < new->n)
	{
		ChunkState	state = {0};

		/* a chunk stays when the one behind it does too: the cut between them is decided there */
		while (i < before->n && clean[i] && (i + 1 >= before->n || clean[i + 1]) && at < new->n)
		{
			after.chunks[after.n] = before->chunks[i++];
			after.chunks[after.n].at = at;
			at += after.chunks[after.n++].n;
			(*kept)++;
		}
		/* from an old cut that is certain until the first one that comes up again */
		while (at < new->n)
		{
			add_row(&after, sizes, &state, &new->rows[at], at);
			at++;
			if (at == new->n)
				break;
			while (i < before->n && compare_rows(&before->chunks[i].first, &new->rows[at]) < 0)
				i++;
			if (i < before->n && clean[i] &&
				compare_rows(&before->chunks[i].first, &new->rows[at]) == 0)
			{
				ChunkState	try = state;
				uint8		digest[ANGLES_KEY_DIGEST];

				digest_of(&new->rows[at], digest);
				if (angles_chunk_cut(sizes, &try, digest, new->rows[at].len))
					break;
			}
		}
	}
	return after;
}

static Row
random_row(pg_prng_state *prng, bool duplicates)
{
	Row			row = {0};

	row.key = pg_prng_uint64_range(prng, 0, duplicates ? 60 : 1000000);
	row.content = duplicates ? row.key : pg_prng_uint64(prng);
	/* most are short, some longer than a chunk may be */
	row.len = pg_prng_uint64_range(prng, 0, 40) == 0 ? pg_prng_uint64_range(prng, 1, 6000)
		: pg_prng_uint64_range(prng, 10, 300);
	if (duplicates)
		row.len = 20 + row.key * 7;
	return row;
}

/* Sorts, takes out what a key forbids, numbers duplicates. */
static void
tidy(Table *table)
{
	int			n = 0;

	for (int i = 0; i < table->n; i++)
		table->rows[i].ordinal = 0;
	qsort(table->rows, table->n, sizeof(Row), compare_rows);
	for (int i = 0; i < table->n; i++)
	{
		bool		same = n > 0 && table->rows[n - 1].key == table->rows[i].key;

		if (same && !table->duplicates)
			continue;
		table->rows[n] = table->rows[i];
		table->rows[n].ordinal = same ? table->rows[n - 1].ordinal + 1 : 0;
		n++;
	}
	table->n = n;
}

static Table
edited(const Table *old, pg_prng_state *prng)
{
	Table		new = *old;
	int			edits = pg_prng_uint64_range(prng, 0, 6);

	new.rows = palloc0(sizeof(Row) * (old->n + 800));
	memcpy(new.rows, old->rows, sizeof(Row) * old->n);
	for (int i = 0; i < edits; i++)
	{
		int			what = pg_prng_uint64_range(prng, 0, 11);
		int			at = new.n > 0 ? pg_prng_uint64_range(prng, 0, new.n - 1) : 0;

		if (what == 0 || new.n == 0)
		{
			int			more = pg_prng_uint64_range(prng, 0, 100);

			for (int j = 0; j < more; j++)
				new.rows[new.n++] = random_row(prng, new.duplicates);
		}
		else if (what <= 3)
			new.rows[new.n++] = random_row(prng, new.duplicates);
		else if (what <= 6)
		{
			/* another value, or another key */
			Row			row = random_row(prng, new.duplicates);

			if (what != 6 && !new.duplicates)
				row.key = new.rows[at].key;
			new.rows[at] = row;
		}
		else
		{
			/* one row, or whole chunks of them, or all */
			int			n = what <= 8 ? 1 : what <= 10 ? pg_prng_uint64_range(prng, 1, 60) : new.n;

			if (what == 11 && pg_prng_uint64_range(prng, 0, 9) != 0)
				n = 1;
			n = Min(n, new.n - at);
			memmove(&new.rows[at], &new.rows[at + n], sizeof(Row) * (new.n - at - n));
			new.n -= n;
		}
	}
	tidy(&new);
	return new;
}

/*
 * angles_chunk_edits_test(seed bigint, scripts int, duplicates boolean): chunks that were kept
 * without a look at their rows; an error when the two ways differ.
 */
Datum
angles_chunk_edits_test(PG_FUNCTION_ARGS)
{
	ChunkSizes	sizes = angles_chunk_sizes(1024);
	pg_prng_state prng;
	Table		table = {palloc0(sizeof(Row) * 600), 500, PG_GETARG_BOOL(2)};
	Chunks		before;
	int64		kept = 0;

	pg_prng_seed(&prng, PG_GETARG_INT64(0));
	for (int i = 0; i < table.n; i++)
		table.rows[i] = random_row(&prng, table.duplicates);
	tidy(&table);
	before = cut_all(&table, &sizes);
	for (int script = 0; script < PG_GETARG_INT32(1); script++)
	{
		Table		new = edited(&table, &prng);
		Chunks		whole = cut_all(&new, &sizes);
		Chunks		part = cut_dirty(&table, &before, &new, &sizes, &kept);

		CHECK_FOR_INTERRUPTS();
		if (whole.n != part.n ||
			memcmp(whole.chunks, part.chunks, sizeof(Chunk) * whole.n) != 0)
			elog(ERROR, "script %d: %d chunks in one go, %d by parts", script, whole.n, part.n);
		pfree(table.rows);
		pfree(before.chunks);
		pfree(part.chunks);
		table = new;
		before = whole;
		if (table.n > 1500)
			table.n = 0, before.n = 0;
	}
	PG_RETURN_INT64(kept);
}

/* ---- COPY text ---- */

typedef struct Dump
{
	CopyText   *copy;
	StringInfoData out;
} Dump;

static void
dump_row(TupleTableSlot *slot, void *arg)
{
	Dump	   *dump = arg;

	if (dump->copy == NULL)
		dump->copy = angles_copytext_begin(slot->tts_tupleDescriptor);
	angles_copytext_row(dump->copy, slot, &dump->out);
}

/* angles_copytext_test(query text): its rows as COPY text, as bytea. */
Datum
angles_copytext_test(PG_FUNCTION_ARGS)
{
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			level = angles_copytext_pin();
	Dump		dump = {0};
	MemoryContext caller = CurrentMemoryContext;
	bytea	   *result;

	initStringInfo(&dump.out);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	angles_stream(query, dump_row, &dump);
	SPI_finish();
	MemoryContextSwitchTo(caller);
	AtEOXact_GUC(true, level);
	result = palloc(VARHDRSZ + dump.out.len);
	SET_VARSIZE(result, VARHDRSZ + dump.out.len);
	memcpy(VARDATA(result), dump.out.data, dump.out.len);
	PG_RETURN_BYTEA_P(result);
}

#endif							/* ANGLES_TEST */
