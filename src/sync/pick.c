/*
 * pick.c
 *		Which entries of the queue have their turn, with all that planning needs.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/engine.h"

#define ENTRY_COLUMNS \
	"q.link_id, q.key, q.version, q.priority, q.attempts, q.decision, q.enqueued_at," \
	" p.page_id, p.state, p.base, p.base_local, p.intent_at, COALESCE(p.lookups, 0), q.seq," \
	" q.state = 'verifying', q.deleted, p.sent_key," \
	" EXISTS (SELECT FROM angles.pages d WHERE d.link_id = q.link_id AND d.sent_key = q.key" \
	"  AND d.key <> q.key), q.tid, q.class = '" ENTRY_LOOKED_ONCE "', q.decision = 'hold'" \
	", p.held, i.state, i.remote, i.parked_at < q.changed_at, q.sending" \
	", p.synced_at IS NULL AND p.applied_at IS NULL"

/*
 * What people changed in Notion about the page; nothing is looked up while $5 says that there is
 * nothing.
 */
#define JOIN_INBOX \
	" LEFT JOIN angles.inbox i ON i.link_id = CASE WHEN $5 THEN q.link_id END" \
	" AND i.page_id = p.page_id"

static int	pick_ready(Engine *engine, int priority, Entry **entries, int max);
static int	pick_due(Engine *engine, Entry **entries, int max);
static Datum sending_links(Engine *engine, int *n);
static Entry *take_entry(uint64 row, int64 *seq);
static void take_inbox(Entry *entry, uint64 row);

int
angles_pick(Engine *engine, Entry **entries, int max)
{
	int			n = 0;

	if (angles_claim_has_room(engine, PRIORITY_INTERACTIVE))
		n = pick_due(engine, entries, max);
	for (int priority = 0; priority < 2 && n < max; priority++)
		if (engine->more[priority] && angles_claim_has_room(engine, priority))
			n += pick_ready(engine, priority, entries + n, max - n);
	return n;
}

/* The lists are apart: a person's edit never waits behind a backlog that was claimed before it. */
bool
angles_claim_has_room(const Engine *engine, int priority)
{
	return (priority == PRIORITY_BACKLOG ? engine->n_backlog
			: engine->n_ready - engine->n_backlog) < engine->batch / 2;
}

static int
pick_ready(Engine *engine, int priority, Entry **entries, int max)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[5] = {INT2OID, INT8OID, INT4ARRAYOID, INT4OID, BOOLOID};
	Datum		values[5];
	int			n_links;
	int			n;

	values[0] = Int16GetDatum(priority);
	values[1] = Int64GetDatum(engine->cursor[priority]);
	values[2] = sending_links(engine, &n_links);
	values[3] = Int32GetDatum(max);
	values[4] = BoolGetDatum(engine->inbox_used);
	engine->more[priority] = false;
	if (n_links == 0)
		return 0;
	n = angles_spi_exec(&plan,
						"SELECT " ENTRY_COLUMNS
						" FROM (SELECT ctid AS tid, * FROM angles.queue_entries"
						"  WHERE state = 'ready' AND priority = $1 AND seq > $2"
						"  AND link_id = ANY ($3) ORDER BY seq LIMIT $4) q"
						" LEFT JOIN angles.pages p USING (link_id, key)" JOIN_INBOX
						" ORDER BY q.seq",
						5, types, values, NULL, SPI_OK_SELECT);
	for (int i = 0; i < n; i++)
	{
		int64		seq;

		entries[i] = take_entry(i, &seq);
		/* the queue has one writer, who draws these numbers in order: nothing appears below */
		engine->cursor[priority] = Max(engine->cursor[priority], seq);
	}
	engine->more[priority] = n == max;
	return n;
}

static int
pick_due(Engine *engine, Entry **entries, int max)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[5] = {TIMESTAMPTZOID, INT4ARRAYOID, INT4OID, BOOLOID, BOOLOID};
	Datum		values[5];
	int			n_links;
	int			n;
	TimestampTz now = angles_clock_now();

	if (engine->next_due == 0 || engine->next_due > now)
		return 0;
	values[0] = TimestampTzGetDatum(now);
	values[1] = sending_links(engine, &n_links);
	values[2] = Int32GetDatum(max);
	values[3] = BoolGetDatum(angles_claim_has_room(engine, PRIORITY_BACKLOG));
	values[4] = BoolGetDatum(engine->inbox_used);
	if (n_links == 0)
		return 0;
	n = angles_spi_exec(&plan,
						"SELECT " ENTRY_COLUMNS
						" FROM (SELECT ctid AS tid, * FROM angles.queue_entries"
						"  WHERE state IN ('retry', 'verifying') AND next_at <= $1"
						"  AND link_id = ANY ($2) AND (priority = 0 OR $4)"
						"  ORDER BY next_at LIMIT $3) q"
						" LEFT JOIN angles.pages p USING (link_id, key)" JOIN_INBOX
						" ORDER BY q.next_at",
						5, types, values, NULL, SPI_OK_SELECT);
	for (int i = 0; i < n; i++)
	{
		int64		seq;

		entries[i] = take_entry(i, &seq);
	}
	return n;
}

static Datum
sending_links(Engine *engine, int *n)
{
	ListCell   *lc;
	Datum	   *ids = palloc(Max(list_length(angles_links()), 1) * sizeof(Datum));

	*n = 0;
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);

		if (angles_link_sends(link) && link->unreachable == NULL &&
			angles_mark_allows(engine, link))
			ids[(*n)++] = Int32GetDatum(link->id);
	}
	return PointerGetDatum(construct_array(ids, *n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static Entry *
take_entry(uint64 row, int64 *seq)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Entry	   *entry = palloc0(sizeof(Entry));
	MemoryContext cxt = CurrentMemoryContext;
	char	   *state = angles_spi_text(row, 9, cxt);
	char	   *decision = angles_spi_text(row, 6, cxt);
	bool		isnull;
	Datum		datum;

	entry->link_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
	entry->key = angles_spi_text(row, 2, cxt);
	entry->version = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	entry->priority = DatumGetInt16(SPI_getbinval(tuple, desc, 4, &isnull));
	entry->attempts = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
	entry->approved = decision && strcmp(decision, "approved") == 0;
	entry->alone = decision && strcmp(decision, "cycle") == 0;
	entry->enqueued_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 7, &isnull));
	entry->page_id = angles_spi_text(row, 8, cxt);
	entry->page_state = angles_page_state(state);
	datum = SPI_getbinval(tuple, desc, 10, &isnull);
	entry->base = isnull ? NULL : DatumGetJsonbPCopy(datum);
	datum = SPI_getbinval(tuple, desc, 11, &isnull);
	entry->base_local = isnull ? NULL : DatumGetJsonbPCopy(datum);
	datum = SPI_getbinval(tuple, desc, 12, &isnull);
	entry->intent_at = isnull ? 0 : DatumGetTimestampTz(datum);
	entry->lookups = DatumGetInt32(SPI_getbinval(tuple, desc, 13, &isnull));
	*seq = DatumGetInt64(SPI_getbinval(tuple, desc, 14, &isnull));
	entry->was_doubtful = DatumGetBool(SPI_getbinval(tuple, desc, 15, &isnull));
	entry->deleted = DatumGetBool(SPI_getbinval(tuple, desc, 16, &isnull));
	entry->sent_key = angles_spi_text(row, 17, cxt);
	entry->key_in_doubt = DatumGetBool(SPI_getbinval(tuple, desc, 18, &isnull));
	entry->tid = *(ItemPointer) DatumGetPointer(SPI_getbinval(tuple, desc, 19, &isnull));
	entry->looked_once = DatumGetBool(SPI_getbinval(tuple, desc, 20, &isnull));
	entry->hold = DatumGetBool(SPI_getbinval(tuple, desc, 21, &isnull));
	datum = SPI_getbinval(tuple, desc, 22, &isnull);
	entry->held = isnull ? NULL : DatumGetJsonbPCopy(datum);
	datum = SPI_getbinval(tuple, desc, 26, &isnull);
	entry->sending = isnull ? NULL : DatumGetJsonbPCopy(datum);
	entry->unproven = DatumGetBool(SPI_getbinval(tuple, desc, 27, &isnull));
	take_inbox(entry, row);
	return entry;
}

/*
 * A change made in Notion is merged first. One that the table has refused stands back, until the
 * row changes again; what it is about is not written over.
 */
static void
take_inbox(Entry *entry, uint64 row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	char	   *state = angles_spi_text(row, 23, CurrentMemoryContext);
	bool		isnull;
	Datum		remote;

	if (state == NULL)
		return;
	entry->edited = true;
	entry->inbound_first = strcmp(state, "ready") == 0 ||
		DatumGetBool(SPI_getbinval(tuple, desc, 25, &isnull));
	remote = SPI_getbinval(tuple, desc, 24, &isnull);
	if (entry->held == NULL)
		entry->held = DatumGetJsonbPCopy(remote);
	else
		entry->held = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
														 JsonbPGetDatum(entry->held), remote));
}

PageState
angles_page_state(const char *state)
{
	static const char *const names[] = {
		"", "intent", "live", "trashed", "out_of_scope", "new", "removed", "restored", "left"
	};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(state ? state : "", names[i]) == 0)
			return (PageState) i;
	elog(ERROR, "there is no state \"%s\" of a page", state);
}

/* Only of links that may send: an entry of a paused one is due whenever that link goes on. */
void
angles_pick_next_due(Engine *engine)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4ARRAYOID, BOOLOID};
	Datum		values[2];
	int			n_links;
	bool		isnull;
	Datum		datum;

	values[0] = sending_links(engine, &n_links);
	values[1] = BoolGetDatum(angles_claim_has_room(engine, PRIORITY_BACKLOG));
	angles_spi_exec(&plan,
					"SELECT min(next_at) FROM angles.queue_entries"
					" WHERE state IN ('retry', 'verifying') AND link_id = ANY ($1)"
					" AND (priority = 0 OR $2)",
					2, types, values, NULL, SPI_OK_SELECT);
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	engine->next_due = isnull ? 0 : DatumGetTimestampTz(datum);
}
