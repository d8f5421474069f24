/*
 * cycles.c
 *		Rows that wait for each other in a circle, over foreign keys that are deferred or set later.
 *
 * Each waiting entry waits for one other, so what waits forms chains that end somewhere or close to
 * a circle. The chains are walked in memory, an entry as a hash of 64 bits; should two entries ever
 * share one, a row goes without its relation first and gets it afterwards, as in a circle.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"

/* Entries that are read at a time. */
#define READ_PART 10000

/* How an entry is named in SQL. */
#define ENTRY_HASH "hashtextextended(key COLLATE \"C\", link_id)"
#define WAITS_FOR_HASH "hashtextextended(waits_for_key COLLATE \"C\", waits_for_link)"

typedef struct Waiter
{
	uint64		self;
	uint64		waits_for;
	uint32		walk;			/* number of the walk that came by, 0: none yet */
	char		status;
} Waiter;

#define SH_PREFIX waiters
#define SH_ELEMENT_TYPE Waiter
#define SH_KEY_TYPE uint64
#define SH_KEY self
#define SH_HASH_KEY(tb, key) ((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static waiters_hash *read_waiters(void);
static List *find_circles(waiters_hash *waiters);
static uint64 smallest_of_circle(waiters_hash *waiters, uint64 start);

void
angles_some_wait(Engine *engine)
{
	if (!engine->some_wait)
		engine->some_wait_us = angles_clock_mono_us();
	engine->some_wait = true;
}

/*
 * Of rows that wait for each other in a circle, one is made without its relation; the others
 * follow, and it gets the relation afterwards (two passes).
 */
void
angles_break_cycles(Engine *engine)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1];
	List	   *circles = find_circles(read_waiters());
	Datum	   *hashes = palloc(Max(list_length(circles), 1) * sizeof(Datum));
	ListCell   *lc;
	int			n = 0;

	engine->some_wait = false;
	if (circles == NIL)
		return;
	foreach(lc, circles)
		hashes[n++] = Int64GetDatum((int64) *(uint64 *) lfirst(lc));
	values[0] = PointerGetDatum(construct_array(hashes, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries SET state = 'ready', decision = 'cycle',"
					" waits_for_link = NULL, waits_for_key = NULL, message = NULL,"
					" seq = nextval('angles.queue_seq')"
					" WHERE state = 'waiting' AND " ENTRY_HASH " = ANY ($1)",
					1, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
}

/* Entries of class 'relation' have their page: nobody waits for them. */
static waiters_hash *
read_waiters(void)
{
	waiters_hash *waiters = waiters_create(CurrentMemoryContext, 1024, NULL);
	Portal		portal = SPI_cursor_open_with_args(NULL,
												   "SELECT " ENTRY_HASH ", " WAITS_FOR_HASH
												   " FROM angles.queue_entries"
												   " WHERE state = 'waiting'"
												   " AND waits_for_link IS NOT NULL"
												   " AND class IS DISTINCT FROM 'relation'",
												   0, NULL, NULL, NULL, true, 0);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, READ_PART);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;
			bool		found;
			Waiter	   *waiter;
			uint64		self = (uint64) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));

			waiter = waiters_insert(waiters, self, &found);
			waiter->waits_for = (uint64) DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
			waiter->walk = 0;
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_freetuptable(SPI_tuptable);
	SPI_cursor_close(portal);
	return waiters;
}

/* Returns the names (of uint64 *) of one entry of each circle. */
static List *
find_circles(waiters_hash *waiters)
{
	List	   *circles = NIL;
	waiters_iterator iter;
	Waiter	   *start;
	uint32		walk = 0;

	waiters_start_iterate(waiters, &iter);
	while ((start = waiters_iterate(waiters, &iter)) != NULL)
	{
		Waiter	   *here = start;

		if (start->walk != 0)
			continue;
		walk++;
		while (here != NULL && here->walk == 0)
		{
			here->walk = walk;
			here = waiters_lookup(waiters, here->waits_for);
		}
		/* back on this walk's own way: a circle; on an older one's, it was found then */
		if (here != NULL && here->walk == walk)
		{
			uint64	   *name = palloc(sizeof(uint64));

			*name = smallest_of_circle(waiters, here->self);
			circles = lappend(circles, name);
		}
	}
	return circles;
}

/* The same entry whatever the walk began with. */
static uint64
smallest_of_circle(waiters_hash *waiters, uint64 start)
{
	uint64		smallest = start;
	uint64		here = waiters_lookup(waiters, start)->waits_for;

	while (here != start)
	{
		smallest = Min(smallest, here);
		here = waiters_lookup(waiters, here)->waits_for;
	}
	return smallest;
}
