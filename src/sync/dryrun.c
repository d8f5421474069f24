/*
 * dryrun.c
 *		What a pass would do: the plans of everything that is captured or queued, in the session of
 *		the caller. Sends nothing and writes nothing; the planner is the one the worker uses.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"

/* Rows that are planned at a time, and keys that a result names. */
#define DRY_BATCH 500
#define DRY_KEYS 100

/* What would be done to the rows of one link, by PlanKind. */
typedef struct DryCounts
{
	int64		n[PLAN_PARK + 1];
	StringInfoData keys;		/* a JSON array of {"key","action"}, not closed */
	int			n_keys;
} DryCounts;

static void dry_run_link(Link *link, DryCounts *counts);
static int	dry_run_batch(Link *link, Portal pending, DryCounts *counts);
static Entry *take_entry(Link *link, uint64 row);
static void count_plan(Link *link, Entry *entry, DryCounts *counts);

PG_FUNCTION_INFO_V1(angles_dry_run);

/* angles.dry_run(relid oid): one row of counts and up to 100 keys; see 50_run.sql. */
Datum
angles_dry_run(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	old = MemoryContextSwitchTo(AllocSetContextCreate(CurrentMemoryContext, "angles dry run",
													  ALLOCSET_DEFAULT_SIZES));
	angles_links_refresh();
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		DryCounts	counts = {0};
		Datum		values[9];
		bool		nulls[9] = {false};

		if (link->relid != relid)
			continue;
		initStringInfo(&counts.keys);
		if (link->problem == NULL)
			dry_run_link(link, &counts);
		appendStringInfoString(&counts.keys, counts.n_keys ? "]" : "[]");
		values[0] = Int64GetDatum(counts.n[PLAN_CREATE]);
		values[1] = Int64GetDatum(counts.n[PLAN_PATCH]);
		values[2] = Int64GetDatum(counts.n[PLAN_TRASH]);
		values[3] = Int64GetDatum(counts.n[PLAN_RESTORE]);
		values[4] = Int64GetDatum(counts.n[PLAN_NOTHING] + counts.n[PLAN_FORGET] +
								  counts.n[PLAN_LEAVE]);
		values[5] = Int64GetDatum(counts.n[PLAN_PARK]);
		values[6] = Int64GetDatum(counts.n[PLAN_HOLD]);
		values[7] = Int64GetDatum(counts.n[PLAN_LOOKUP] + counts.n[PLAN_WAIT]);
		values[8] = DirectFunctionCall1(jsonb_in, CStringGetDatum(counts.keys.data));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	return (Datum) 0;
}

/*
 * What the worker would look at: the captured keys and the queue, without what waits for a person.
 * They are sorted once, by a cursor; each batch has memory of its own, that of its SPI connection.
 */
static void
dry_run_link(Link *link, DryCounts *counts)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};
	Portal		pending;
	int			n;

	pending = SPI_cursor_open_with_args(NULL,
										"SELECT k.key, p.page_id, COALESCE(p.state, ''), p.base,"
										" p.base_local, k.approved"
										" FROM (SELECT key, bool_or(approved) AS approved FROM"
										"  (SELECT c.key, c.op = 'A' AS approved"
										"   FROM angles.change_log c"
										"   WHERE c.link_id = $1 AND c.op IN ('T', 'D', 'Y', 'A')"
										"   UNION ALL SELECT q.key, COALESCE(q.decision, '') ="
										"    'approved' FROM angles.queue_entries q"
										"   WHERE q.link_id = $1"
										"    AND q.state NOT IN ('parked', 'held')) u"
										"  GROUP BY key) k"
										" LEFT JOIN angles.pages p"
										"  ON p.link_id = $1 AND p.key = k.key"
										" ORDER BY k.key COLLATE \"C\"",
										1, types, values, NULL, false, 0);
	do
	{
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		n = dry_run_batch(link, pending, counts);
		SPI_finish();
		CHECK_FOR_INTERRUPTS();
	} while (n == DRY_BATCH);
	SPI_cursor_close(pending);
}

/* Counts the plans of the next entries; returns how many there were. */
static int
dry_run_batch(Link *link, Portal pending, DryCounts *counts)
{
	Entry	   *entries[DRY_BATCH];
	ErrorData  *error;
	int			n;

	SPI_cursor_fetch(pending, true, DRY_BATCH);
	n = SPI_processed;
	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
		entries[i] = take_entry(link, i);
	error = angles_load_rows(link, n, entries);
	if (error != NULL)
		ReThrowError(error);
	angles_resolve_relations(n, entries);
	for (int i = 0; i < n; i++)
		count_plan(link, entries[i], counts);
	return n;
}

static Entry *
take_entry(Link *link, uint64 row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Entry	   *entry = palloc0(sizeof(Entry));
	bool		isnull;
	Datum		datum;

	entry->link_id = link->id;
	entry->key = angles_spi_text(row, 1, CurrentMemoryContext);
	entry->page_id = angles_spi_text(row, 2, CurrentMemoryContext);
	entry->page_state = angles_page_state(angles_spi_text(row, 3, CurrentMemoryContext));
	datum = SPI_getbinval(tuple, desc, 4, &isnull);
	entry->base = isnull ? NULL : DatumGetJsonbPCopy(datum);
	datum = SPI_getbinval(tuple, desc, 5, &isnull);
	entry->base_local = isnull ? NULL : DatumGetJsonbPCopy(datum);
	entry->approved = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
	return entry;
}

static void
count_plan(Link *link, Entry *entry, DryCounts *counts)
{
	static const char *const names[] = {
		[PLAN_CREATE] = "create", [PLAN_PATCH] = "update", [PLAN_TRASH] = "trash",
		[PLAN_RESTORE] = "restore", [PLAN_PARK] = "park", [PLAN_HOLD] = "hold",
		[PLAN_LOOKUP] = "look up", [PLAN_WAIT] = "create after its parent"
	};
	RowPlan		plan = angles_plan(link, entry);

	/* the guard against mass deletes holds what is above the link's limit */
	if (plan.kind == PLAN_TRASH && !entry->approved &&
		counts->n[PLAN_TRASH] >= angles_mass_limit(link))
		plan.kind = PLAN_HOLD;
	counts->n[plan.kind]++;
	if (plan.kind >= lengthof(names) || names[plan.kind] == NULL || counts->n_keys >= DRY_KEYS)
		return;
	appendStringInfo(&counts->keys, "%s{\"key\":", counts->n_keys++ ? "," : "[");
	angles_json_append_string(&counts->keys, entry->key);
	appendStringInfo(&counts->keys, ",\"action\":\"%s\"", names[plan.kind]);
	if (plan.message)
	{
		appendStringInfoString(&counts->keys, ",\"reason\":");
		angles_json_append_string(&counts->keys, plan.message);
	}
	appendStringInfoChar(&counts->keys, '}');
}
