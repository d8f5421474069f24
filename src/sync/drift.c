/*
 * drift.c
 *		angles.drift_notion(): compares all rows of linked tables with their pages and keeps what
 *		differs in angles.drift_fields. Runs in the session of the caller. Rows are read as the sync
 *		worker reads them (load.c); of pages is taken what is known here or, when asked to be fresh,
 *		what the sync worker reads from Notion for this session (listing.c). Changes nothing else.
 *
 * Two ways through a link, batch by batch: first along its pages, then along the keys of its table
 * for rows that have none. What Notion shows is sorted as the pages are, so the two are merged and
 * only a batch is in memory. All is written at the end, so that other callers wait for no longer
 * than that; no worker reads or writes what is written here.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplesort.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/drift.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* Rows that are compared at a time, and keys that are read at a time. */
#define DRIFT_BATCH 250
#define DRIFT_KEYS 1000

/* Found differences of one link that stay in memory, in kB; others go to disk. */
#define KEPT_MEMORY_KB 1024

/* Bytes of a page's id as text, with the NUL. */
#define ID_SIZE 37

/* What Notion has shown: pages sorted by link and id. */
typedef struct Shown
{
	Tuplesortstate *sort;
	TupleDesc	desc;
	TupleTableSlot *slot;		/* the page whose turn is next */
	bool		more;			/* ... there is one */
	MemoryContext row;			/* for one message */
	List	   *links;			/* of ShownLink * */
} Shown;

/* A link whose pages were all asked for. */
typedef struct ShownLink
{
	int32		link_id;
	int64		begun_us;
	bool		whole;
} ShownLink;

static Shown *ask_for_pages(ArrayType *relids);
static void take_shown(const char *json, void *arg);
static int64 number_of(JsonbContainer *object, const char *name);
static DriftResult *measure(Link *link, Shown *shown);
static const char *along_pages(DriftResult *result, Shown *shown);
static const char *pages_batch(DriftResult *result, Shown *shown, bool log_used);
static const char *along_keys(DriftResult *result);
static const char *keys_batch(DriftResult *result, char **cursor, bool log_used);
static const char *compare_batch(DriftResult *result, int n, DriftRow **rows);
static int	read_rows(Link *link, int n, Datum *keys, bool log_used, DriftRow **rows);
static void take_row(Link *link, uint64 i, DriftRow *row);
static bool log_is_used(const Link *link);
static Jsonb *json_of(uint64 row, int column);
static bool bool_of(uint64 row, int column);
static TimestampTz time_of(uint64 row, int column);
static const ShownLink *shown_link(const Shown *shown, int32 link_id);
static bool next_shown(Shown *shown, int32 link_id, char *id);
static void take_listed(Shown *shown, ListedPage *page);
static void join_shown(DriftResult *result, Shown *shown, const char *page_id, DriftRow *row);
static void page_alone(DriftResult *result, Shown *shown);
static bool is_fresh(const DriftRow *row, TimestampTz asked_at);
static TimestampTz when_asked(int64 asked_us);

PG_FUNCTION_INFO_V1(angles_measure_drift);

/* measure_drift(relids oid[], fresh boolean): see 45_drift.sql. */
Datum
angles_measure_drift(PG_FUNCTION_ARGS)
{
	ArrayType  *relids = PG_GETARG_ARRAYTYPE_P(0);
	bool		fresh = PG_GETARG_BOOL(1);
	int			level = angles_txn_pin_values();
	Shown	   *shown = NULL;
	List	   *results = NIL;
	ListCell   *lc;
	Datum	   *wanted;
	int			n_wanted;

	deconstruct_array(relids, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &wanted, NULL, &n_wanted);
	/* before anything is locked or written here: it may take long */
	if (fresh)
		shown = ask_for_pages(relids);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	angles_links_refresh();
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		bool		is_wanted = false;

		for (int i = 0; i < n_wanted; i++)
			is_wanted = is_wanted || DatumGetObjectId(wanted[i]) == link->relid;
		if (is_wanted)
			results = lappend(results, measure(link, shown));
	}
	angles_drift_keep(results, fresh);
	SPI_finish();
	if (shown != NULL)
	{
		ExecDropSingleTupleTableSlot(shown->slot);
		tuplesort_end(shown->sort);
	}
	AtEOXact_GUC(true, level);
	PG_RETURN_VOID();
}

/* ---- what Notion shows ---- */

/* Lets the sync worker read all pages of the tables. Sorts them on disk where they are many. */
static Shown *
ask_for_pages(ArrayType *relids)
{
	Shown	   *shown = palloc0(sizeof(Shown));
	AttrNumber	columns[2] = {1, 2};
	Oid			less[2] = {Int4LessOperator, TextLessOperator};
	Oid			collations[2] = {InvalidOid, C_COLLATION_OID};
	bool		nulls_first[2] = {false, false};
	StringInfoData args;
	Datum	   *oids;
	int			n;

	shown->desc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(shown->desc, 1, "link_id", INT4OID, -1, 0);
	TupleDescInitEntry(shown->desc, 2, "page_id", TEXTOID, -1, 0);
	TupleDescInitEntry(shown->desc, 3, "page", JSONBOID, -1, 0);
	shown->slot = MakeSingleTupleTableSlot(shown->desc, &TTSOpsMinimalTuple);
	shown->row = AllocSetContextCreate(CurrentMemoryContext, "angles page",
									   ALLOCSET_DEFAULT_SIZES);
	shown->sort = tuplesort_begin_heap(shown->desc, 2, columns, less, collations, nulls_first,
									   work_mem, NULL, TUPLESORT_NONE);
	deconstruct_array(relids, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &oids, NULL, &n);
	initStringInfo(&args);
	for (int i = 0; i < n; i++)
		appendStringInfo(&args, "%s%u", i ? "," : "", DatumGetObjectId(oids[i]));
	angles_request("list_pages", psprintf("{\"tables\":[%s]}", args.data), take_shown, shown);
	tuplesort_performsort(shown->sort);
	shown->more = tuplesort_gettupleslot(shown->sort, true, false, shown->slot, NULL);
	return shown;
}

/* Takes a message of listing.c: a page, or the end of a link. */
static void
take_shown(const char *json, void *arg)
{
	Shown	   *shown = (Shown *) arg;
	MemoryContext old = MemoryContextSwitchTo(shown->row);
	Datum		datum = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	JsonbContainer *page = &DatumGetJsonbP(datum)->root;
	char	   *id = angles_json_get_text(page, "id");
	TupleTableSlot *slot = shown->slot;

	if (id == NULL)
	{
		ShownLink  *link;

		MemoryContextSwitchTo(old);
		link = palloc(sizeof(ShownLink));
		link->link_id = (int32) number_of(page, "link");
		link->begun_us = number_of(page, "begun");
		link->whole = angles_json_get_bool(page, "whole", false);
		shown->links = lappend(shown->links, link);
		MemoryContextReset(shown->row);
		return;
	}
	HeapTuple	tuple;
	Datum		values[3] = {Int32GetDatum((int32) number_of(page, "link")),
	CStringGetTextDatum(id), datum};
	bool		nulls[3] = {false};

	tuple = heap_form_tuple(shown->desc, values, nulls);
	ExecForceStoreHeapTuple(tuple, slot, false);
	tuplesort_puttupleslot(shown->sort, slot);
	ExecClearTuple(slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(shown->row);
}

static int64
number_of(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (!angles_json_get(object, name, &value) || value.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value.val.numeric)));
}

static const ShownLink *
shown_link(const Shown *shown, int32 link_id)
{
	ListCell   *lc;

	if (shown == NULL)
		return NULL;
	foreach(lc, shown->links)
		if (((ShownLink *) lfirst(lc))->link_id == link_id)
			return (ShownLink *) lfirst(lc);
	return NULL;
}

/* Returns whether there is another page of this link, and its id; passes by those of others. */
static bool
next_shown(Shown *shown, int32 link_id, char *id)
{
	while (shown != NULL && shown->more)
	{
		bool		isnull;
		int32		its_link = DatumGetInt32(slot_getattr(shown->slot, 1, &isnull));

		if (its_link > link_id)
			return false;
		if (its_link == link_id)
		{
			text_to_cstring_buffer(DatumGetTextPP(slot_getattr(shown->slot, 2, &isnull)),
								   id, ID_SIZE);
			return true;
		}
		shown->more = tuplesort_gettupleslot(shown->sort, true, false, shown->slot, NULL);
	}
	return false;
}

/* Takes the page whose turn it is, as it was shown last: one may have been edited in between. */
static void
take_listed(Shown *shown, ListedPage *page)
{
	char	   *id = NULL;

	for (;;)
	{
		bool		isnull;
		int32		link_id = DatumGetInt32(slot_getattr(shown->slot, 1, &isnull));
		Jsonb	   *json = DatumGetJsonbPCopy(slot_getattr(shown->slot, 3, &isnull));
		TimestampTz asked_at = when_asked(number_of(&json->root, "asked"));
		char		next[ID_SIZE];

		if (id == NULL || asked_at >= page->asked_at)
		{
			page->id = angles_json_get_text(&json->root, "id");
			page->values = angles_json_get_container(&json->root, "values");
			page->problems = angles_json_get_container(&json->root, "problems");
			page->edited_at = angles_notion_time(&json->root, "edited");
			page->edited_by = angles_json_get_text(&json->root, "by");
			page->asked_at = asked_at;
		}
		id = page->id;
		shown->more = tuplesort_gettupleslot(shown->sort, true, false, shown->slot, NULL);
		if (!next_shown(shown, link_id, next) || strcmp(next, id) != 0)
			return;
	}
}

static TimestampTz
when_asked(int64 asked_us)
{
	return angles_clock_now() - (angles_clock_mono_us() - asked_us);
}

/* ---- one link ---- */

static DriftResult *
measure(Link *link, Shown *shown)
{
	DriftResult *result = palloc0(sizeof(DriftResult));
	const ShownLink *how = shown_link(shown, link->id);
	const char *problem = link->problem;

	result->link = link;
	result->context = CurrentMemoryContext;
	result->begun_at = angles_clock_now();
	result->shown_at = how != NULL ? when_asked(how->begun_us) : 0;
	result->complete = how != NULL && how->whole;
	/* there is one for each link at the same time */
	result->lines = tuplestore_begin_heap(false, false, Min(work_mem, KEPT_MEMORY_KB));
	if (problem == NULL)
	{
		angles_drift_columns(result);
		problem = along_pages(result, shown);
	}
	if (problem == NULL)
		problem = along_keys(result);
	/* what was compared by then is true all the same */
	if (problem != NULL)
	{
		DriftLine	line = {.class = "unreadable", .state = "none", .remark = problem};

		angles_drift_note(result, &line);
	}
	result->ended_at = angles_clock_now();
	return result;
}

/*
 * Compares all rows that have a page, and finds pages that have no row. Returns why it could not go
 * on, or NULL.
 */
static const char *
along_pages(DriftResult *result, Shown *shown)
{
	Link	   *link = result->link;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};
	const char *sql = shown == NULL
		? "SELECT key, page_id FROM angles.pages WHERE link_id = $1"
		: "SELECT key, page_id FROM angles.pages WHERE link_id = $1 ORDER BY page_id";
	bool		log_used = log_is_used(link);
	Portal		portal = SPI_cursor_open_with_args(NULL, sql, 1, types, values, NULL, false, 0);
	const char *problem;
	char		id[ID_SIZE];
	int			n;

	do
	{
		/* each batch has memory of its own: that of its SPI connection */
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		SPI_cursor_fetch(portal, true, DRIFT_BATCH);
		n = SPI_processed;
		problem = pages_batch(result, shown, log_used);
		SPI_finish();
		CHECK_FOR_INTERRUPTS();
	} while (problem == NULL && n == DRIFT_BATCH);
	SPI_cursor_close(portal);
	while (problem == NULL && next_shown(shown, link->id, id))
		page_alone(result, shown);
	return problem;
}

/* Compares the pages that the cursor has just given. */
static const char *
pages_batch(DriftResult *result, Shown *shown, bool log_used)
{
	int			n = (int) SPI_processed;
	Datum		keys[DRIFT_BATCH];
	char	   *ids[DRIFT_BATCH];
	DriftRow   *rows[DRIFT_BATCH];
	int			found;
	int			n_known = 0;

	for (int i = 0; i < n; i++)
	{
		keys[i] = CStringGetTextDatum(angles_spi_text(i, 1, CurrentMemoryContext));
		ids[i] = angles_spi_text(i, 2, CurrentMemoryContext);
	}
	found = read_rows(result->link, n, keys, log_used, rows);
	for (int i = 0; i < found; i++)
	{
		if (shown != NULL && ids[i] != NULL)
			join_shown(result, shown, ids[i], rows[i]);
		/* a page that is nobody's any more: its row is looked at with those that have none */
		if (rows[i]->page_state != NULL)
			rows[n_known++] = rows[i];
	}
	return compare_batch(result, n_known, rows);
}

/* Finds rows that have no page. Returns why it could not go on, or NULL. */
static const char *
along_keys(DriftResult *result)
{
	bool		log_used = log_is_used(result->link);
	char	   *cursor = NULL;
	const char *problem;

	do
	{
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		problem = keys_batch(result, &cursor, log_used);
		SPI_finish();
		CHECK_FOR_INTERRUPTS();
	} while (problem == NULL && cursor != NULL);
	return problem;
}

/* Looks at the next keys; *cursor: the last one, NULL at the end of the table. */
static const char *
keys_batch(DriftResult *result, char **cursor, bool log_used)
{
	Link	   *link = result->link;
	RowSet		keys = {0};
	const char *problem = NULL;
	ErrorData  *error = angles_load_keys(link, *cursor, DRIFT_KEYS, &keys);

	if (error != NULL)
		return MemoryContextStrdup(result->context, error->message);
	for (int begin = 0; problem == NULL && begin < keys.n; begin += DRIFT_BATCH)
	{
		DriftRow   *rows[DRIFT_BATCH];
		int			found = read_rows(link, Min(DRIFT_BATCH, keys.n - begin), keys.keys + begin,
									  log_used, rows);
		int			n = 0;

		for (int i = 0; i < found; i++)
			if (rows[i]->page_state == NULL)
				rows[n++] = rows[i];
		problem = compare_batch(result, n, rows);
	}
	*cursor = keys.n < DRIFT_KEYS ? NULL
		: MemoryContextStrdup(result->context, TextDatumGetCString(keys.keys[keys.n - 1]));
	return problem;
}

/* Reads the rows themselves, and compares them. Returns why none could be read, or NULL. */
static const char *
compare_batch(DriftResult *result, int n, DriftRow **rows)
{
	Entry	   *entries[DRIFT_BATCH];
	ErrorData  *error;

	if (n == 0)
		return NULL;
	for (int i = 0; i < n; i++)
		entries[i] = &rows[i]->entry;
	error = angles_load_rows(result->link, n, entries);
	if (error != NULL)
		return MemoryContextStrdup(result->context, error->message);
	angles_resolve_relations(n, entries);
	for (int i = 0; i < n; i++)
		angles_drift_compare(result, rows[i]);
	return NULL;
}

/* ---- what is known of rows and pages ---- */

/* Reads what angles knows of these keys, in their order. Returns how many there are. */
static int
read_rows(Link *link, int n, Datum *keys, bool log_used, DriftRow **rows)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTARRAYOID, BOOLOID};
	Datum		values[3] = {Int32GetDatum(link->id), 0, BoolGetDatum(log_used)};
	uint64		found;

	if (n == 0)
		return 0;
	values[1] = PointerGetDatum(construct_array(keys, n, TEXTOID, -1, false, TYPALIGN_INT));
	found = angles_spi_exec(&plan,
							"SELECT u.key, p.page_id, p.state, p.base, p.base_local, p.held,"
							" GREATEST(p.synced_at, p.applied_at), q.state, q.message, q.deleted,"
							" COALESCE(q.decision, '') = 'approved', q.sending, c.at IS NOT NULL,"
							/* an entry that stands for no change of the row has no time of one */
							" COALESCE(NULLIF(q.changed_at, '-infinity'), c.at),"
							" i.remote, i.decided, i.state, i.message, i.edited_at, i.edited_by,"
							" i.seen_at,"
							/* as PostgreSQL counts: microseconds since 2000 */
							" (SELECT jsonb_object_agg(o.property_id, (extract(epoch FROM"
							"   o.detected_at) * 1000000)::bigint - 946684800000000)"
							"  FROM angles.conflict_log o WHERE o.link_id = $1"
							"  AND o.key = u.key AND o.winner IS NULL),"
							" p.pending, p.note, p.removed_at"
							" FROM unnest($2) WITH ORDINALITY AS u (key, n)"
							" LEFT JOIN angles.pages p ON p.link_id = $1 AND p.key = u.key"
							" LEFT JOIN angles.queue_entries q"
							"  ON q.link_id = $1 AND q.key = u.key"
							" LEFT JOIN angles.inbox i"
							"  ON i.link_id = $1 AND i.page_id = p.page_id"
							" LEFT JOIN (SELECT key, min(at) AS at FROM angles.change_log"
							"  WHERE $3 AND link_id = $1 AND op IN ('T', 'D') GROUP BY key) c"
							"  ON c.key = u.key"
							" ORDER BY u.n",
							3, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < found; i++)
	{
		rows[i] = palloc0(sizeof(DriftRow));
		take_row(link, i, rows[i]);
	}
	return (int) found;
}

static void
take_row(Link *link, uint64 i, DriftRow *row)
{
	MemoryContext here = CurrentMemoryContext;
	Entry	   *entry = &row->entry;

	row->link = link;
	entry->link_id = link->id;
	entry->key = angles_spi_text(i, 1, here);
	entry->page_id = angles_spi_text(i, 2, here);
	row->page_state = angles_spi_text(i, 3, here);
	entry->base = json_of(i, 4);
	entry->base_local = json_of(i, 5);
	entry->held = json_of(i, 6);
	row->agreed_at = time_of(i, 7);
	row->queue_state = angles_spi_text(i, 8, here);
	row->queue_message = angles_spi_text(i, 9, here);
	entry->deleted = bool_of(i, 10);
	entry->approved = bool_of(i, 11);
	entry->sending = json_of(i, 12);
	row->captured = bool_of(i, 13);
	row->changed_at = time_of(i, 14);
	row->noted = json_of(i, 15);
	row->decided = json_of(i, 16);
	row->noted_state = angles_spi_text(i, 17, here);
	row->noted_message = angles_spi_text(i, 18, here);
	row->edited_at = time_of(i, 19);
	row->edited_by = angles_spi_text(i, 20, here);
	row->noted_at = time_of(i, 21);
	row->conflicts = json_of(i, 22);
	row->pending = angles_spi_text(i, 23, here);
	row->note = angles_spi_text(i, 24, here);
	row->removed_at = time_of(i, 25);
}

static Jsonb *
json_of(uint64 row, int column)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(datum);
}

static TimestampTz
time_of(uint64 row, int column)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? 0 : DatumGetTimestampTz(datum);
}

static bool
bool_of(uint64 row, int column)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
									  &isnull);

	return !isnull && DatumGetBool(datum);
}

/* Whether the log may tell of rows of this link: it is empty most of the time. */
static bool
log_is_used(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	return angles_spi_exec(&plan, "SELECT FROM angles.change_log WHERE link_id = $1 LIMIT 1",
						   1, types, values, NULL, SPI_OK_SELECT) > 0;
}

/* ---- pages that were shown, and rows ---- */

/*
 * Gives a row the page that was shown for it; notes those before it, which no row has. page_id: of
 * the row's page when the order was made; of another one that it may have by now, nothing is known.
 */
static void
join_shown(DriftResult *result, Shown *shown, const char *page_id, DriftRow *row)
{
	char		id[ID_SIZE];
	ListedPage *page;
	bool		is_its = row->entry.page_id != NULL && strcmp(row->entry.page_id, page_id) == 0;
	int			order = 1;

	while (next_shown(shown, result->link->id, id) && (order = strcmp(id, page_id)) < 0)
	{
		page_alone(result, shown);
		order = 1;
	}
	if (order != 0)
	{
		row->not_listed = is_its && result->complete && is_fresh(row, result->shown_at);
		return;
	}
	page = palloc0(sizeof(ListedPage));
	take_listed(shown, page);
	if (is_its && is_fresh(row, page->asked_at))
		row->listed = page;
}

/* What was asked while the page was being written, or soon after, says nothing about it. */
static bool
is_fresh(const DriftRow *row, TimestampTz asked_at)
{
	return row->agreed_at == 0 ||
		row->agreed_at < asked_at - (int64) angles_guc_notion_query_lag * 1000;
}

/*
 * Notes the page whose turn it is, which no row has. One that is just being made for a row is not
 * told of: the row is.
 */
static void
page_alone(DriftResult *result, Shown *shown)
{
	static SPIPlanPtr plan = NULL;
	Link	   *link = result->link;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id)};
	ListedPage	page = {0};
	char	   *key;
	uint64		n;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	take_listed(shown, &page);
	key = link->key_column->c.property_id == NULL ? NULL
		: angles_json_get_text(page.values, link->key_column->c.property_id);
	values[1] = CStringGetTextDatum(key ? key : "null");
	values[2] = CStringGetTextDatum(page.id);
	n = angles_spi_exec(&plan,
						"SELECT p.key, p.state = 'intent' OR p.page_id = $3::uuid"
						" FROM angles.pages p, (SELECT $2::jsonb #>> '{}' AS key) k"
						" WHERE p.page_id = $3::uuid"
						"  OR p.link_id = $1 AND (p.key = k.key OR p.sent_key = k.key)"
						" ORDER BY 2 DESC LIMIT 1",
						3, types, values, NULL, SPI_OK_SELECT);
	if (n == 0)
		angles_drift_page_alone(result, &page, NULL);
	else if (!bool_of(0, 2))
		angles_drift_page_alone(result, &page,
								psprintf("it carries the key of row %s, which has another page",
										 angles_spi_text(0, 1, CurrentMemoryContext)));
	SPI_finish();
}
