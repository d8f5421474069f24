/*
 * foldlog.c
 *		Takes rows out of the tables of the change log.
 *
 * The tables are not in the order of time, and one transaction may have written into several. For
 * most of what they hold that is of no account, as a key is only looked at. But keys that change do
 * so one after the other: as soon as there is one, all of the log is taken at once, under one
 * snapshot, or nothing while a part of it is locked.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/txn.h"
#include "sync/changelog.h"
#include "sync/fold.h"

/* So many keys are folded in one transaction, and what the last part adds. */
#define FOLD_KEYS 20000

/* Blocks of such a part: about 10,000 keys at most, seldom more. */
#define FOLD_BLOCKS 16

/* Where the last fold ended in each table, when it was cut. */
static BlockNumber position[ANGLES_LOG_TABLES];

static void lock_tables(Engine *engine, Oid *tables);
static bool take_tables(Engine *engine, LogRows *rows, const Oid *tables, int enough,
						Snapshot snapshot);
static bool has_rename(const LogRows *rows);
static bool sees_rename(const Oid *tables);
static BlockNumber take_part(LogRows *rows, int table, BlockNumber from, BlockNumber end,
							 int enough, Snapshot snapshot);
static void take_rows(LogRows *rows, uint64 n);
static void add_row(LogRows *rows, const LogRow *row);
static int	compare_rows(const void *a, const void *b);

bool
angles_log_take(Engine *engine, LogRows *rows)
{
	Oid			tables[ANGLES_LOG_TABLES];
	Snapshot	snapshot;
	bool		more;

	lock_tables(engine, tables);
	if (engine->log_passed_over && sees_rename(tables))
		return false;
	/* one for all parts: what a transaction has logged is seen as a whole, or not at all */
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	more = take_tables(engine, rows, tables, FOLD_KEYS, snapshot);
	if (more && has_rename(rows))
	{
		/* those before the place where the last fold ended, too */
		memset(position, 0, sizeof(position));
		more = take_tables(engine, rows, tables, INT_MAX, snapshot);
	}
	UnregisterSnapshot(snapshot);
	if (rows->n > 0)
		qsort(rows->rows, rows->n, sizeof(LogRow), compare_rows);
	return more;
}

/*
 * Locks the tables of the log, and gives their oids. One that is being emptied, or held by a
 * person, is InvalidOid and has its turn later.
 */
static void
lock_tables(Engine *engine, Oid *tables)
{
	engine->log_passed_over = false;
	for (int t = 0; t < ANGLES_LOG_TABLES; t++)
	{
		tables[t] = angles_changelog_table(t);
		if (!OidIsValid(tables[t]))
			continue;
		if (!ConditionalLockRelationOid(tables[t], RowExclusiveLock))
		{
			engine->log_passed_over = true;
			tables[t] = InvalidOid;
		}
	}
}

/* Takes rows from where the last fold ended. Returns whether there may be more. */
static bool
take_tables(Engine *engine, LogRows *rows, const Oid *tables, int enough, Snapshot snapshot)
{
	bool		more = false;

	engine->log_is_full = false;
	for (int t = 0; t < ANGLES_LOG_TABLES; t++)
	{
		Relation	log;
		BlockNumber blocks;

		if (!OidIsValid(tables[t]))
			continue;
		log = table_open(tables[t], NoLock);
		blocks = RelationGetNumberOfBlocks(log);
		table_close(log, NoLock);
		if (blocks == 0)
			continue;
		engine->log_is_full = engine->log_is_full || blocks >= ANGLES_LOG_BLOCKS;
		if (position[t] >= blocks)
			position[t] = 0;
		/* what lies before may have got rows since it was taken */
		more = more || position[t] > 0;
		position[t] = take_part(rows, t, position[t], blocks, enough, snapshot);
		more = more || position[t] < blocks;
		if (position[t] == blocks)
			position[t] = 0;
	}
	return more;
}

static bool
has_rename(const LogRows *rows)
{
	for (int i = 0; i < rows->n; i++)
		if (rows->rows[i].op == ANGLES_OP_REKEY)
			return true;
	return false;
}

/* Whether a key changes in what can be read of the log. */
static bool
sees_rename(const Oid *tables)
{
	static SPIPlanPtr plans[ANGLES_LOG_TABLES];
	Oid			types[1] = {CHAROID};
	Datum		values[1] = {CharGetDatum(ANGLES_OP_REKEY)};

	for (int t = 0; t < ANGLES_LOG_TABLES; t++)
		if (OidIsValid(tables[t]) &&
			angles_spi_exec(&plans[t],
							psprintf("SELECT FROM angles.change_log_%d WHERE op = $1 LIMIT 1", t),
							1, types, values, NULL, SPI_OK_SELECT) > 0)
			return true;
	return false;
}

/*
 * Takes blocks of one table of the log, in parts, until that is enough for one transaction: a
 * block holds about 110 rows of one key, or 600 keys in rows of many. Returns where it ended.
 */
static BlockNumber
take_part(LogRows *rows, int table, BlockNumber from, BlockNumber end, int enough,
		  Snapshot snapshot)
{
	static SPIPlanPtr plans[ANGLES_LOG_TABLES];
	Oid			types[2] = {TIDOID, TIDOID};
	ItemPointerData low;
	ItemPointerData high;
	Datum		values[2] = {PointerGetDatum(&low), PointerGetDatum(&high)};

	while (from < end && rows->n < enough)
	{
		BlockNumber next = Min(from + FOLD_BLOCKS, end);

		ItemPointerSet(&low, from, 0);
		ItemPointerSet(&high, next, 0);
		take_rows(rows,
				  angles_spi_exec_seeing(snapshot, &plans[table],
										 psprintf("DELETE FROM angles.change_log_%d"
												  " WHERE ctid >= $1 AND ctid < $2"
												  " RETURNING id, ord, link_id, op, key, new_key,"
												  " at, keys", table),
										 2, types, values, NULL, SPI_OK_DELETE_RETURNING));
		from = next;
	}
	return from;
}

/* Adds the keys of the last statement's rows. */
static void
take_rows(LogRows *rows, uint64 n)
{
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		LogRow		row;
		bool		isnull;
		Datum		keys;
		Datum	   *elements;
		int			n_keys;

		row.id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		row.ord = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
		row.link_id = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		row.op = DatumGetChar(SPI_getbinval(tuple, desc, 4, &isnull));
		row.key = angles_spi_text(i, 5, CurrentMemoryContext);
		row.new_key = angles_spi_text(i, 6, CurrentMemoryContext);
		row.at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 7, &isnull));
		keys = SPI_getbinval(tuple, desc, 8, &isnull);
		if (isnull)
		{
			add_row(rows, &row);
			continue;
		}
		deconstruct_array(DatumGetArrayTypeP(keys), TEXTOID, -1, false, TYPALIGN_INT,
						  &elements, NULL, &n_keys);
		for (int k = 0; k < n_keys; k++)
		{
			row.key = TextDatumGetCString(elements[k]);
			add_row(rows, &row);
			row.ord++;
		}
		pfree(elements);
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
add_row(LogRows *rows, const LogRow *row)
{
	if (rows->n == rows->max)
	{
		rows->max = Max(rows->max * 2, 64);
		rows->rows = rows->rows == NULL ? palloc(rows->max * sizeof(LogRow)) :
			repalloc_huge(rows->rows, (Size) rows->max * sizeof(LogRow));
	}
	rows->rows[rows->n++] = *row;
}

static int
compare_rows(const void *a, const void *b)
{
	const LogRow *x = (const LogRow *) a;
	const LogRow *y = (const LogRow *) b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->ord < y->ord ? -1 : x->ord > y->ord;
}
