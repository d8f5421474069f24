/*
 * rekey.c
 *		Another primary key under a link: each page follows its row, so that none is made anew.
 *
 * Runs in the session that calls link() or alter_link(). Pages go by the text of their row's key,
 * and only the worker writes them: what is done here is to log for each row that its key text
 * changes, as if an UPDATE had changed it.
 *
 * The worker folds a long log in several transactions, between which pages stand under some keys of
 * then and some of now. Where the two sets overlap (ids 1, 2, 3 become 2, 3, 1), a page that moves
 * would meet one that has not moved yet. So pages whose key of then is another row's key of now
 * first move to names that no row has, and all others have gone before the first arrives. A link
 * that is altered sends nothing of its rows before its data source was read again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "core/errors.h"
#include "sync/capture.h"
#include "sync/changelog.h"
#include "sync/mapping.h"
#include "sync/rekey.h"

/* Rows that are read at a time. */
#define REKEY_BATCH 1000

/*
 * Keys by their hashes: two that look the same by mistake cost one rename more, or leave the page
 * of a row that is gone under its name.
 */
typedef struct KeySet
{
	MemoryContext context;
	uint64	   *hashes;
	int64		n;
	int64		max;
} KeySet;

typedef struct Rekey
{
	const LinkBefore *before;
	const LinkMap *map;
	KeySet		then;			/* the keys of then, of all rows */
	KeySet		now;			/* the keys of now, of rows whose key text changes */
	Tuplestorestate *pairs;		/* (then, now), of the same rows */
	TupleDesc	pair_desc;
	char	   *aside;			/* begin of names that no row has and no other statement uses */
} Rekey;

static void read_rows(Rekey *rekey);
static void read_row(Rekey *rekey, HeapTuple tuple, TupleDesc desc);
static void log_pages_without_rows(Rekey *rekey);
static void log_pairs(Rekey *rekey, bool first_step);
static void forget_references(Rekey *rekey);
static void add_to_set(KeySet *set, const char *key);
static void sort_set(KeySet *set);
static bool is_in_set(const KeySet *set, const char *key);
static uint64 hash_of(const char *key);
static int	compare_hashes(const void *a, const void *b);

void
angles_rekey_check(const LinkBefore *before, const LinkMap *map)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(before->id)};
	char	   *gone = NULL;
	Oid			caller;
	int			context;
	ListCell   *lc;
	ListCell   *ln;

	forboth(lc, before->key_attnums, ln, before->key_names)
		if (lfirst_int(lc) == 0)
			gone = (char *) lfirst(ln);
	if (gone == NULL)
		return;
	/* what is known of pages is not for everybody to read */
	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute_with_args("SELECT FROM angles.pages WHERE link_id = $1", 1, types, values, NULL,
							  true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.pages");
	SetUserIdAndSecContext(caller, context);
	if (SPI_processed == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_CANNOT_LINK),
			 errmsg("cannot link \"%s\": nothing tells which page belongs to which row",
					get_rel_name(map->relid)),
			 errdetail("Its pages go by column \"%s\", which was part of its primary key and is "
					   "gone.", gone),
			 errhint("Add column \"%s\" again with the values it had (they stand in the pages), "
					 "call angles.alter_link() or angles.link(), and drop it then. To begin with "
					 "new pages instead, call angles.unlink(), and let a superuser DELETE FROM "
					 "angles.links WHERE id = %d.", gone, before->id)));
}

void
angles_rekey(const LinkBefore *before, const LinkMap *map)
{
	Rekey		rekey = {.before = before, .map = map};

	rekey.then.context = rekey.now.context = CurrentMemoryContext;
	rekey.aside = psprintf("\001rekey:" UINT64_FORMAT,
						   U64FromFullTransactionId(GetTopFullTransactionId()));
	rekey.pairs = tuplestore_begin_heap(false, false, work_mem);
	rekey.pair_desc = CreateTemplateTupleDesc(2);
	TupleDescInitEntry(rekey.pair_desc, 1, "then", TEXTOID, -1, 0);
	TupleDescInitEntry(rekey.pair_desc, 2, "now", TEXTOID, -1, 0);

	/* the steps must stay in order: no table of the log is emptied and filled anew meanwhile */
	for (int t = 0; t < ANGLES_LOG_TABLES; t++)
		LockRelationOid(angles_changelog_table(t), RowExclusiveLock);
	/* what was committed before writers were locked out counts, whatever the isolation level */
	PushActiveSnapshot(GetLatestSnapshot());
	read_rows(&rekey);
	sort_set(&rekey.then);
	sort_set(&rekey.now);
	log_pages_without_rows(&rekey);
	PopActiveSnapshot();
	log_pairs(&rekey, true);
	log_pairs(&rekey, false);
	tuplestore_end(rekey.pairs);
	forget_references(&rekey);
}

static void
read_rows(Rekey *rekey)
{
	StringInfoData sql;
	Portal		rows;
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "angles rekey batch",
												ALLOCSET_DEFAULT_SIZES);
	ListCell   *lc;
	uint64		n;

	initStringInfo(&sql);
	foreach(lc, list_concat_copy(rekey->before->key_attnums, rekey->map->key_attnums))
	{
		char	   *name = get_attname(rekey->map->relid, lfirst_int(lc), false);

		appendStringInfo(&sql, "%s t.%s", sql.len == 0 ? "SELECT" : ",", quote_identifier(name));
	}
	appendStringInfo(&sql, " FROM %s", angles_link_from(rekey->map->relid));
	rows = SPI_cursor_open_with_args(NULL, sql.data, 0, NULL, NULL, NULL, true, 0);
	do
	{
		MemoryContext old;

		SPI_cursor_fetch(rows, true, REKEY_BATCH);
		n = SPI_processed;
		old = MemoryContextSwitchTo(batch);
		for (uint64 i = 0; i < n; i++)
			read_row(rekey, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	} while (n == REKEY_BATCH);
	SPI_cursor_close(rows);
	MemoryContextDelete(batch);
}

static void
read_row(Rekey *rekey, HeapTuple tuple, TupleDesc desc)
{
	AttrNumber	attnums[2 * INDEX_MAX_KEYS];
	int			n_then = list_length(rekey->before->key_attnums);
	int			n_now = list_length(rekey->map->key_attnums);
	bool		nulls[2] = {false, false};
	Datum		values[2];
	char	   *then;
	char	   *now;

	for (int i = 0; i < n_then + n_now; i++)
	{
		attnums[i] = i + 1;
		/* a column that is no key any more may hold anything: such a row has no page */
		if (heap_attisnull(tuple, i + 1, desc))
			return;
	}
	then = angles_capture_key_text(tuple, desc, n_then, attnums);
	now = angles_capture_key_text(tuple, desc, n_now, attnums + n_then);
	add_to_set(&rekey->then, then);
	if (strcmp(then, now) == 0)
		return;
	add_to_set(&rekey->now, now);
	values[0] = CStringGetTextDatum(then);
	values[1] = CStringGetTextDatum(now);
	tuplestore_putvalues(rekey->pairs, rekey->pair_desc, values, nulls);
}

/*
 * A page whose row is gone goes by a key of then, which may be another row's key of now, or no
 * value of its type at all: it gets a name that no row has, under which it is trashed or held as
 * any other deletion. What is on its way to another key already is left alone.
 */
static void
log_pages_without_rows(Rekey *rekey)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(rekey->before->id)};
	Portal		keys;
	int64		n_aside = 0;
	uint64		n;

	keys = SPI_cursor_open_with_args(NULL,
									 "(SELECT key FROM angles.pages WHERE link_id = $1"
									 " UNION SELECT key FROM angles.queue_entries"
									 "  WHERE link_id = $1"
									 " UNION SELECT key FROM angles.change_log"
									 "  WHERE link_id = $1 AND op IN ('T', 'D'))"
									 " EXCEPT SELECT key FROM angles.change_log"
									 "  WHERE link_id = $1 AND op = 'K'",
									 1, types, values, NULL, true, 0);
	do
	{
		SPI_cursor_fetch(keys, true, REKEY_BATCH);
		n = SPI_processed;
		for (uint64 i = 0; i < n; i++)
		{
			char	   *key = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

			if (key[0] != '\001' && !is_in_set(&rekey->then, key))
				angles_changelog_add(rekey->before->id, ANGLES_OP_REKEY, key,
									 psprintf("%s:gone:" INT64_FORMAT, rekey->aside, n_aside++));
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	} while (n == REKEY_BATCH);
	SPI_cursor_close(keys);
}

/* The first step clears the names that the second one gives. */
static void
log_pairs(Rekey *rekey, bool first_step)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(rekey->pair_desc, &TTSOpsMinimalTuple);
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "angles rekey row",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(row);
	int64		n = 0;

	tuplestore_rescan(rekey->pairs);
	while (tuplestore_gettupleslot(rekey->pairs, true, false, slot))
	{
		bool		isnull;
		char	   *then = TextDatumGetCString(slot_getattr(slot, 1, &isnull));
		char	   *now = TextDatumGetCString(slot_getattr(slot, 2, &isnull));
		char	   *between = psprintf("%s:" INT64_FORMAT, rekey->aside, n++);
		bool		in_the_way = is_in_set(&rekey->now, then);

		if (first_step && in_the_way)
			angles_changelog_add(rekey->before->id, ANGLES_OP_REKEY, then, between);
		else if (!first_step)
			angles_changelog_add(rekey->before->id, ANGLES_OP_REKEY, in_the_way ? between : then,
								 now);
		MemoryContextReset(row);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Relations of other links told pages by the key of then, whose texts may now be those of other
 * rows: nothing is written there any more until a person has looked.
 */
static void
forget_references(Rekey *rekey)
{
	char	   *name = get_rel_name(rekey->map->relid);
	Oid			types[3] = {OIDOID, INT4OID, TEXTOID};
	Datum		values[3] = {ObjectIdGetDatum(rekey->map->relid), Int32GetDatum(rekey->before->id)};

	values[2] = CStringGetTextDatum(psprintf("the primary key of \"%s\" changed; "
											 "call angles.alter_link()", name));
	if (SPI_execute_with_args("UPDATE angles.link_columns SET ref_relid = NULL, problem = $3"
							  " WHERE ref_relid = $1::regclass AND link_id <> $2",
							  3, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update angles.link_columns");
	if (SPI_processed > 0)
		ereport(NOTICE,
				(errmsg("relations of other linked tables to \"%s\" are paused", name),
				 errdetail("They found its pages by the former primary key."),
				 errhint("SELECT angles.alter_link() for each of these tables; "
						 "angles.status names them.")));
}

/* ---- sets ---- */

static void
add_to_set(KeySet *set, const char *key)
{
	if (set->n == set->max)
	{
		set->max = Max(set->max * 2, 1024);
		set->hashes = set->hashes == NULL
			? MemoryContextAllocHuge(set->context, set->max * sizeof(uint64))
			: repalloc_huge(set->hashes, set->max * sizeof(uint64));
	}
	set->hashes[set->n++] = hash_of(key);
}

static void
sort_set(KeySet *set)
{
	if (set->n > 0)
		qsort(set->hashes, set->n, sizeof(uint64), compare_hashes);
}

static bool
is_in_set(const KeySet *set, const char *key)
{
	uint64		hash = hash_of(key);

	return set->n > 0 &&
		bsearch(&hash, set->hashes, set->n, sizeof(uint64), compare_hashes) != NULL;
}

static uint64
hash_of(const char *key)
{
	return hash_bytes_extended((const unsigned char *) key, strlen(key), 0);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}
