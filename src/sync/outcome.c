/*
 * outcome.c
 *		Writes what answers mean: pages, and entries that are done, go on or wait. Runs in the sync
 *		worker. An entry is only touched while it carries this worker's generation.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/txn.h"
#include "sync/outcome.h"

/* What write_pages() writes. */
#define PAGE_ROWS "unnest($1, $2, $3, $4, $5, $6, $7)" \
	" AS u (link_id, key, page_id, base, base_local, edited, state)"

static void write_absent(Outcome *out);
static void free_children(const RowSet *parents);
static void write_done(Engine *engine, Outcome *out);
static void write_again(Engine *engine, Outcome *out);
static void write_later(Engine *engine, Outcome *out);
static void write_pages(RowSet *pages);
static void write_unsent(Engine *engine, Outcome *out);
static void write_looked(Engine *engine, Outcome *out);

void
angles_outcome_write(Engine *engine, Outcome *out)
{
	write_pages(&out->pages);
	angles_keep_sending(engine);
	write_absent(out);
	write_done(engine, out);
	angles_keep_sending(engine);
	write_unsent(engine, out);
	write_again(engine, out);
	write_looked(engine, out);
	write_later(engine, out);
}

/* Creates that surely never happened leave no doubt behind, and purged pages nothing at all. */
static void
write_absent(Outcome *out)
{
	static SPIPlanPtr absent = NULL;
	static SPIPlanPtr purged = NULL;
	Oid			types[2] = {INT4ARRAYOID, TEXTARRAYOID};
	Datum		values[2];

	if (out->purged.n > 0)
	{
		values[0] = angles_rows_links(&out->purged);
		values[1] = angles_rows_keys(&out->purged);
		angles_spi_exec(&purged,
						"DELETE FROM angles.pages p USING unnest($1, $2) AS u (link_id, key)"
						" WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'trashed'",
						2, types, values, NULL, SPI_OK_DELETE);
	}
	if (out->absent.n == 0)
		return;
	values[0] = angles_rows_links(&out->absent);
	values[1] = angles_rows_keys(&out->absent);
	angles_spi_exec(&absent,
					"DELETE FROM angles.pages p USING unnest($1, $2) AS u (link_id, key)"
					" WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'intent'",
					2, types, values, NULL, SPI_OK_DELETE);
}

/*
 * Rows that waited for these are planned again: the page is there now, or it will not come and they
 * go without that relation.
 */
static void
free_children(const RowSet *parents)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4ARRAYOID, TEXTARRAYOID};
	Datum		values[2] = {angles_rows_links(parents), angles_rows_keys(parents)};

	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries q SET state = 'ready',"
					" seq = nextval('angles.queue_seq'), waits_for_link = NULL,"
					" waits_for_key = NULL, class = NULL, message = NULL"
					" FROM unnest($1, $2) AS u (link_id, key)"
					" WHERE q.state = 'waiting' AND q.waits_for_link = u.link_id"
					" AND q.waits_for_key = u.key",
					2, types, values, NULL, SPI_OK_UPDATE);
}

/* What is acknowledged leaves the queue, unless it changed meanwhile or has a relation to add. */
static void
write_done(Engine *engine, Outcome *out)
{
	static SPIPlanPtr done = NULL;
	static SPIPlanPtr unfinished = NULL;
	Oid			types[5] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[5];

	if (out->done.n == 0)
		return;
	values[0] = angles_rows_links(&out->done);
	values[1] = angles_rows_keys(&out->done);
	values[2] = angles_rows_extra(&out->done, 0);
	values[3] = angles_rows_extra(&out->done, 1);
	values[4] = Int64GetDatum(engine->generation);

	angles_spi_exec(&done,
					"DELETE FROM angles.queue_entries q"
					" USING unnest($1, $2, $3, $4) AS d (link_id, key, then_link, then_key)"
					" WHERE q.link_id = d.link_id AND q.key = d.key AND q.state = 'claimed'"
					" AND q.generation = $5 AND q.version = q.claimed_version"
					" AND d.then_key IS NULL",
					5, types, values, NULL, SPI_OK_DELETE);
	/* changed again while it was under way, or a relation is still open: not finished */
	if (SPI_processed < out->done.n)
	{
		angles_spi_exec(&unfinished,
						"UPDATE angles.queue_entries q SET"
						"  state = CASE WHEN d.then_key IS NULL OR q.version <> q.claimed_version"
						"   OR EXISTS (SELECT FROM angles.pages p"
						"    WHERE p.link_id = d.then_link::int4 AND p.key = d.then_key"
						"    AND p.state = 'live')"
						"   THEN 'ready' ELSE 'waiting' END,"
						"  waits_for_link = d.then_link::int4, waits_for_key = d.then_key,"
						"  message = CASE WHEN d.then_key IS NOT NULL THEN " OPEN_RELATION " END,"
						"  class = CASE WHEN d.then_key IS NOT NULL THEN 'relation' END,"
						"  decision = CASE q.decision WHEN 'hold' THEN 'hold' END,"
						"  seq = nextval('angles.queue_seq'), attempts = 0, crashes = 0,"
						"  sending = NULL, generation = NULL, claimed_version = NULL,"
						/* numbers of one key are drawn in the order of its changes */
						"  first_id = CASE WHEN d.then_key IS NULL THEN q.claimed_id + 1"
						"   ELSE q.first_id END"
						" FROM unnest($1, $2, $3, $4) AS d (link_id, key, then_link, then_key)"
						" WHERE q.link_id = d.link_id AND q.key = d.key"
						" AND q.state = 'claimed' AND q.generation = $5",
						5, types, values, NULL, SPI_OK_UPDATE);
	}
	angles_keep_sending(engine);
	free_children(&out->done);
	engine->more[0] = engine->more[1] = true;
}

/* While these carry the generation: the statements that follow take it away. */
static void
write_unsent(Engine *engine, Outcome *out)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4ARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[3];

	if (out->unsent.n == 0)
		return;
	values[0] = angles_rows_links(&out->unsent);
	values[1] = angles_rows_keys(&out->unsent);
	values[2] = Int64GetDatum(engine->generation);
	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries q SET sending = NULL"
					" FROM unnest($1, $2) AS u (link_id, key)"
					" WHERE q.link_id = u.link_id AND q.key = u.key AND q.state = 'claimed'"
					" AND q.generation = $3",
					3, types, values, NULL, SPI_OK_UPDATE);
}

static void
write_again(Engine *engine, Outcome *out)
{
	static SPIPlanPtr again = NULL;
	Oid			types[3] = {INT4ARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[3];

	if (out->again.n == 0)
		return;
	values[0] = angles_rows_links(&out->again);
	values[1] = angles_rows_keys(&out->again);
	values[2] = Int64GetDatum(engine->generation);
	angles_spi_exec(&again,
					"UPDATE angles.queue_entries q SET state = 'ready', generation = NULL,"
					" claimed_version = NULL, seq = nextval('angles.queue_seq'), attempts = 0"
					" FROM unnest($1, $2) AS u (link_id, key)"
					" WHERE q.link_id = u.link_id AND q.key = u.key AND q.state = 'claimed'"
					" AND q.generation = $3",
					3, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
}

static void
write_later(Engine *engine, Outcome *out)
{
	static SPIPlanPtr later_plan = NULL;
	Oid			types[9] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID};
	Datum		values[9];

	if (out->later.n == 0)
		return;
	values[0] = angles_rows_links(&out->later);
	values[1] = angles_rows_keys(&out->later);
	for (int i = 0; i < 6; i++)
		values[2 + i] = angles_rows_extra(&out->later, i);
	values[8] = Int64GetDatum(engine->generation);

	/* what was changed while it was refused deserves another try before it is set aside */
	angles_spi_exec(&later_plan,
					"UPDATE angles.queue_entries q SET"
					" state = CASE WHEN u.state = 'parked' AND q.version <> q.claimed_version"
					"  THEN 'ready' ELSE u.state END,"
					" seq = nextval('angles.queue_seq'), next_at = u.next_at::timestamptz,"
					" class = u.class, code = u.code, message = u.message, hint = u.hint,"
					" attempts = q.attempts + 1, generation = NULL, claimed_version = NULL,"
					" parked_at = CASE WHEN u.state = 'parked'"
					"  AND q.version = q.claimed_version THEN clock_timestamp() END"
					" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
					"  AS u (link_id, key, state, next_at, class, code, message, hint)"
					" WHERE q.link_id = u.link_id AND q.key = u.key AND q.state = 'claimed'"
					" AND q.generation = $9",
					9, types, values, NULL, SPI_OK_UPDATE);
	free_children(&out->later);
	engine->more[0] = engine->more[1] = true;
	engine->next_due = angles_clock_now();
}

static void
write_pages(RowSet *pages)
{
	static SPIPlanPtr known = NULL;
	static SPIPlanPtr fresh = NULL;
	Oid			types[7] = {INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[7];

	if (pages->n == 0)
		return;
	values[0] = angles_rows_links(pages);
	values[1] = angles_rows_keys(pages);
	for (int i = 0; i < 5; i++)
		values[2 + i] = angles_rows_extra(pages, i);
	/*
	 * What was sent for has its row, and to update that costs half of what "on conflict" does. Most
	 * pages keep no other form of what was sent.
	 */
	angles_spi_exec(&known,
					"UPDATE angles.pages p SET page_id = u.page_id::uuid,"
					"  base = CASE p.base WHEN '{}' THEN u.base::jsonb"
					"   ELSE p.base || u.base::jsonb END,"
					"  base_local = CASE p.base_local"
					"   WHEN '{}' THEN COALESCE(u.base_local::jsonb, '{}')"
					"   ELSE (p.base_local - ARRAY(SELECT jsonb_object_keys(u.base::jsonb)))"
					"    || COALESCE(u.base_local::jsonb, '{}') END,"
					"  state = u.state, intent_at = NULL, lookups = 0, sent_key = NULL,"
					"  pending = NULL, note = NULL, removed_as = NULL, removed_at = NULL,"
					"  last_edited = COALESCE(u.edited::timestamptz, p.last_edited),"
					"  synced_at = clock_timestamp()"
					" FROM " PAGE_ROWS
					" WHERE p.link_id = u.link_id AND p.key = u.key",
					7, types, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed == pages->n)
		return;
	angles_spi_exec(&fresh,
					"INSERT INTO angles.pages"
					" (link_id, key, page_id, base, base_local, last_edited, state, synced_at)"
					" SELECT u.link_id, u.key, u.page_id::uuid, u.base::jsonb,"
					"  COALESCE(u.base_local::jsonb, '{}'), u.edited::timestamptz,"
					"  CASE u.state WHEN 'unproven' THEN 'live' ELSE u.state END,"
					"  CASE u.state WHEN 'unproven' THEN NULL ELSE clock_timestamp() END"
					" FROM " PAGE_ROWS
					" ON CONFLICT (link_id, key) DO NOTHING",
					7, types, values, NULL, SPI_OK_INSERT);
}

/*
 * A page that was not found may only not be visible yet. It is looked for again; the row may be
 * created again only after at least two look-ups of which the last began after the window.
 */
static void
write_looked(Engine *engine, Outcome *out)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr give_up = NULL;
	Oid			types[4] = {INT4ARRAYOID, TEXTARRAYOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[4];
	int64		window = (int64) angles_guc_notion_verify_window * 1000;

	if (out->looked.n == 0)
		return;
	values[0] = angles_rows_links(&out->looked);
	values[1] = angles_rows_keys(&out->looked);
	values[2] = Int64GetDatum(window);
	values[3] = TimestampTzGetDatum(angles_clock_now());
	angles_spi_exec(&plan,
					"WITH looked AS (UPDATE angles.pages p SET lookups = lookups + 1"
					"  FROM unnest($1, $2) AS u (link_id, key)"
					"  WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'intent'"
					"  RETURNING p.link_id, p.key, p.intent_at)"
					" UPDATE angles.queue_entries q SET state = 'verifying', class = 'transient',"
					" message = 'its page may have been made; looking for it by key',"
					" next_at = LEAST($4 + $3 / 3 * interval '1 microsecond',"
					"  GREATEST(l.intent_at + $3 * interval '1 microsecond',"
					"   $4 + interval '100 milliseconds')),"
					" generation = NULL, claimed_version = NULL"
					" FROM looked l WHERE q.link_id = l.link_id AND q.key = l.key",
					4, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&give_up,
					"WITH never AS (DELETE FROM angles.pages p"
					"  USING unnest($1, $2) AS u (link_id, key)"
					"  WHERE p.link_id = u.link_id AND p.key = u.key AND p.state = 'intent'"
					"  AND p.lookups >= 2 AND p.intent_at + $3 * interval '1 microsecond' <= $4"
					"  RETURNING p.link_id, p.key)"
					" UPDATE angles.queue_entries q SET state = 'ready', next_at = NULL,"
					" message = NULL, class = NULL, seq = nextval('angles.queue_seq')"
					" FROM never n WHERE q.link_id = n.link_id AND q.key = n.key",
					4, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
	engine->next_due = angles_clock_now();
}
