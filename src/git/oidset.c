/*
 * oidset.c
 *		A set of object ids that numbers them in the order of their arrival: one array, and a table
 *		of numbers with open addressing. Ids are hashes already, so their first bytes are the hash.
 *
 * 20 bytes an id and 8 to 16 bytes of table; made for up to ten million, where it is 0.4 GB.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "core/errors.h"
#include "git/internal.h"

#define FIRST_SLOTS 1024
#define EMPTY PG_UINT32_MAX

struct OidTable
{
	MemoryContext cxt;
	GitOid	   *ids;
	int64		n;
	int64		room;
	uint32	   *slots;			/* numbers */
	uint64		n_slots;		/* a power of two, at least twice n */
};

static uint64 find_slot(const OidTable *table, const GitOid *id);
static void grow(OidTable *table);

OidTable *
angles_oid_table(void)
{
	OidTable   *table = palloc0(sizeof(OidTable));

	table->cxt = CurrentMemoryContext;
	table->n_slots = FIRST_SLOTS;
	table->slots = palloc(FIRST_SLOTS * sizeof(uint32));
	memset(table->slots, 0xff, FIRST_SLOTS * sizeof(uint32));
	table->room = FIRST_SLOTS / 2;
	table->ids = palloc(table->room * sizeof(GitOid));
	return table;
}

int64
angles_oid_add(OidTable *table, const GitOid *id, bool *is_new)
{
	uint64		slot = find_slot(table, id);

	*is_new = table->slots[slot] == EMPTY;
	if (!*is_new)
		return table->slots[slot];
	if (table->n == table->room)
	{
		grow(table);
		slot = find_slot(table, id);
	}
	table->ids[table->n] = *id;
	table->slots[slot] = (uint32) table->n;
	return table->n++;
}

int64
angles_oid_find(const OidTable *table, const GitOid *id)
{
	uint32		number = table->slots[find_slot(table, id)];

	return number == EMPTY ? -1 : (int64) number;
}

int64
angles_oid_count(const OidTable *table)
{
	return table->n;
}

const GitOid *
angles_oid_get(const OidTable *table, int64 number)
{
	Assert(number >= 0 && number < table->n);
	return &table->ids[number];
}

/* Returns the slot that holds the id, or the empty one where it belongs. */
static uint64
find_slot(const OidTable *table, const GitOid *id)
{
	uint64		slot;

	memcpy(&slot, id->id, sizeof(slot));
	slot &= table->n_slots - 1;
	while (table->slots[slot] != EMPTY &&
		   memcmp(&table->ids[table->slots[slot]], id, sizeof(GitOid)) != 0)
		slot = (slot + 1) & (table->n_slots - 1);
	return slot;
}

static void
grow(OidTable *table)
{
	if (table->room >= PG_INT32_MAX / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %lld objects in one piece of work", (long long) table->room)));
	table->room *= 2;
	table->ids = repalloc_huge(table->ids, table->room * sizeof(GitOid));
	pfree(table->slots);
	table->slots = NULL;
	table->n_slots *= 2;
	table->slots = MemoryContextAllocHuge(table->cxt, table->n_slots * sizeof(uint32));
	memset(table->slots, 0xff, table->n_slots * sizeof(uint32));
	for (int64 i = 0; i < table->n; i++)
		table->slots[find_slot(table, &table->ids[i])] = (uint32) i;
}
