/*
 * inbox.c
 *		What the sync worker writes into angles.inbox, and what it does when an apply worker is done
 *		with something there. It never waits for an apply worker: a row that one has in hand is left
 *		alone and has its turn later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/changelog.h"
#include "sync/engine.h"
#include "sync/inbound.h"

/* A change waits at most so many times the link's settle delay while a person goes on typing. */
#define LONGEST_SETTLE "4"

bool
angles_inbox_note(Engine *engine, const Link *link, News *news)
{
	static SPIPlanPtr note = NULL;
	static SPIPlanPtr forget = NULL;
	static SPIPlanPtr freed = NULL;
	Oid			types[6] = {INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID};
	Datum		values[6] = {Int32GetDatum(link->id)};
	bool		all = true;

	if (news->changed.n > 0)
	{
		values[1] = angles_rows_keys(&news->changed);
		for (int i = 0; i < 4; i++)
			values[2 + i] = angles_rows_extra(&news->changed, i);
		angles_spi_exec(&note,
						"WITH u AS (SELECT id::uuid AS page_id, remote::jsonb, at::timestamptz,"
						"   by, kind"
						"   FROM unnest($2, $3, $4, $5, $6) AS u (id, remote, at, by, kind)),"
						" mine AS (SELECT i.page_id FROM angles.inbox i WHERE i.link_id = $1"
						"   AND i.page_id IN (SELECT u.page_id FROM u) FOR UPDATE SKIP LOCKED)"
						" INSERT INTO angles.inbox AS i"
						"  (link_id, page_id, kind, remote, edited_at, edited_by, seen_at, next_at)"
						/* who edits again so soon is still typing */
						" SELECT $1, u.page_id, u.kind, u.remote, u.at, u.by, clock_timestamp(),"
						"  CASE WHEN p.applied_at > clock_timestamp() - l.settle"
						"   THEN clock_timestamp() + l.settle END"
						" FROM u JOIN angles.links l ON l.id = $1"
						" LEFT JOIN angles.pages p ON p.page_id = u.page_id"
						" WHERE u.page_id IN (SELECT m.page_id FROM mine m)"
						"  OR NOT EXISTS (SELECT FROM angles.inbox b"
						"   WHERE b.link_id = $1 AND b.page_id = u.page_id)"
						" ON CONFLICT (link_id, page_id) DO UPDATE SET state = 'ready',"
						"  kind = CASE WHEN i.kind IN ('make', 'unflag') THEN i.kind"
						"   ELSE EXCLUDED.kind END,"
						"  remote = EXCLUDED.remote, edited_at = EXCLUDED.edited_at,"
						"  edited_by = EXCLUDED.edited_by,"
						"  next_at = CASE WHEN i.state = 'ready' AND i.attempts = 0"
						"   AND EXCLUDED.next_at IS NOT NULL"
						"   THEN LEAST(EXCLUDED.next_at, i.seen_at + " LONGEST_SETTLE
						"    * (SELECT l.settle FROM angles.links l WHERE l.id = $1)) END,"
						"  attempts = 0, class = NULL, code = NULL, message = NULL, hint = NULL,"
						"  parked_at = NULL",
						6, types, values, NULL, SPI_OK_INSERT);
		all = SPI_processed == news->changed.n;
		engine->inbox_used = engine->inbox_changed = true;
	}
	if (news->gone.n > 0)
	{
		values[1] = angles_rows_keys(&news->gone);
		angles_spi_exec(&forget,
						"DELETE FROM angles.inbox WHERE link_id = $1 AND page_id IN"
						" (SELECT page_id FROM angles.inbox WHERE link_id = $1"
						/* a person's decision is not taken back with that */
						"  AND page_id = ANY ($2::uuid[]) AND decided IS NULL AND kind = 'edit'"
						"  FOR UPDATE SKIP LOCKED)",
						2, types, values, NULL, SPI_OK_DELETE);
		values[1] = angles_rows_extra(&news->gone, 0);
		angles_spi_exec(&freed,
						"UPDATE angles.queue_entries SET state = 'ready', class = NULL,"
						" message = NULL, seq = nextval('angles.queue_seq')"
						" WHERE link_id = $1 AND key = ANY ($2) AND state = 'waiting'"
						" AND class = 'inbound'",
						2, types, values, NULL, SPI_OK_UPDATE);
		engine->more[0] = engine->more[1] = true;
	}
	return all;
}

/* This is no change of the row, so the time of its last one stays what it was. */
void
angles_inbox_done(Engine *engine, int32 link_id, const char *key, TimestampTz at)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[3] = {Int32GetDatum(link_id), CStringGetTextDatum(key),
	TimestampTzGetDatum(at)};

	angles_spi_exec(&plan,
					"INSERT INTO angles.queue_entries AS q"
					" (link_id, key, seq, priority, state, enqueued_at, changed_at)"
					" VALUES ($1, $2, nextval('angles.queue_seq'), 0, 'ready', $3, '-infinity')"
					" ON CONFLICT (link_id, key) DO UPDATE SET"
					"  version = q.version + 1,"
					"  state = CASE WHEN q.state = 'waiting' AND q.class = 'inbound' THEN 'ready'"
					"   ELSE q.state END,"
					"  seq = CASE WHEN q.state = 'waiting' AND q.class = 'inbound'"
					"   THEN EXCLUDED.seq ELSE q.seq END,"
					"  message = CASE WHEN q.state = 'waiting' AND q.class = 'inbound' THEN NULL"
					"   ELSE q.message END,"
					"  class = CASE WHEN q.state = 'waiting' AND q.class = 'inbound' THEN NULL"
					"   ELSE q.class END",
					3, types, values, NULL, SPI_OK_INSERT);
	engine->more[0] = engine->more[1] = true;
}

void
angles_inbox_emptied(Engine *engine, const Link *link, const char *key, const char *property_id,
					 bool really)
{
	static SPIPlanPtr hold = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id), CStringGetTextDatum(key),
	CStringGetTextDatum(property_id)};

	if (!really)
	{
		angles_spi_exec(&hold,
						"UPDATE angles.pages SET held = COALESCE(held, '{}')"
						"  || jsonb_build_object($3, '[]'::jsonb)"
						" WHERE (link_id, key) IN (SELECT link_id, key FROM angles.pages"
						"  WHERE link_id = $1 AND key = $2 FOR NO KEY UPDATE SKIP LOCKED)",
						3, types, values, NULL, SPI_OK_UPDATE);
		return;
	}
	(void) angles_inbox_add(engine, link, key, property_id, "[]", angles_clock_now());
}

bool
angles_inbox_add(Engine *engine, const Link *link, const char *key, const char *property_id,
				 const char *canon, TimestampTz edited)
{
	static SPIPlanPtr change = NULL;
	Oid			types[5] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[5] = {Int32GetDatum(link->id), CStringGetTextDatum(key),
		CStringGetTextDatum(property_id), CStringGetTextDatum(canon),
	TimestampTzGetDatum(edited)};

	angles_spi_exec(&change,
					"WITH p AS (SELECT page_id FROM angles.pages WHERE link_id = $1 AND key = $2"
					"   AND state = 'live'),"
					" mine AS (SELECT i.page_id FROM angles.inbox i JOIN p USING (page_id)"
					"   WHERE i.link_id = $1 FOR UPDATE OF i SKIP LOCKED)"
					" INSERT INTO angles.inbox AS i (link_id, page_id, remote, edited_at, seen_at)"
					" SELECT $1, page_id, jsonb_build_object($3, $4::jsonb), $5,"
					"  clock_timestamp() FROM p"
					" WHERE page_id IN (SELECT m.page_id FROM mine m) OR NOT EXISTS ("
					"  SELECT FROM angles.inbox b WHERE b.link_id = $1 AND b.page_id = p.page_id)"
					" ON CONFLICT (link_id, page_id) DO UPDATE SET state = 'ready',"
					"  remote = i.remote || EXCLUDED.remote,"
					"  edited_at = GREATEST(i.edited_at, EXCLUDED.edited_at),"
					"  attempts = 0, next_at = NULL",
					5, types, values, NULL, SPI_OK_INSERT);
	engine->inbox_used = engine->inbox_changed = true;
	return SPI_processed > 0;
}

void
angles_inbox_free_all(Engine *engine)
{
	static SPIPlanPtr plan = NULL;

	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries SET state = 'ready', class = NULL, message = NULL,"
					" seq = nextval('angles.queue_seq')"
					" WHERE state = 'waiting' AND class = 'inbound'",
					0, NULL, NULL, NULL, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		engine->more[0] = engine->more[1] = true;
}

void
angles_inbox_retry(Engine *engine, int32 link_id, const char *key)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link_id), CStringGetTextDatum(key)};

	angles_spi_exec(&plan,
					"UPDATE angles.inbox SET state = 'ready', attempts = 0, next_at = NULL,"
					" class = NULL, code = NULL, message = NULL, hint = NULL, parked_at = NULL"
					" WHERE (link_id, page_id) IN (SELECT i.link_id, i.page_id"
					"  FROM angles.inbox i JOIN angles.pages p"
					"   ON p.link_id = i.link_id AND p.page_id = i.page_id"
					"  WHERE p.link_id = $1 AND p.key = $2 FOR UPDATE OF i SKIP LOCKED)",
					2, types, values, NULL, SPI_OK_UPDATE);
	engine->inbox_changed = engine->inbox_changed || SPI_processed > 0;
}

/*
 * The decision goes the way of a change made in Notion: an apply worker writes the value, and what
 * Notion is known to hold becomes the base, so that a row that differs from it is sent.
 */
void
angles_inbox_resolve(Engine *engine, int32 link_id, const char *key, const char *decision)
{
	static SPIPlanPtr put = NULL;
	static SPIPlanPtr close = NULL;
	static SPIPlanPtr again = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link_id), CStringGetTextDatum(key),
	CStringGetTextDatum(decision)};

	/* "number:side:who", as angles.resolve() writes it */
	angles_spi_exec(&put,
					"WITH c AS (SELECT p.page_id, c.property_id,"
					/* while it is open the row may have changed: it keeps what it has */
					"   CASE WHEN split_part($3, ':', 2) = 'notion' THEN c.remote"
					"    WHEN c.winner IS NULL THEN '{\"row\": true}' ELSE c.local END AS v"
					"  FROM angles.conflict_log c JOIN angles.pages p"
					"   ON p.link_id = c.link_id AND p.page_id = c.page_id"
					"  WHERE c.id = split_part($3, ':', 1)::bigint AND c.link_id = $1),"
					" mine AS (SELECT i.page_id FROM angles.inbox i WHERE i.link_id = $1"
					"   AND i.page_id IN (SELECT c.page_id FROM c) FOR UPDATE SKIP LOCKED)"
					" INSERT INTO angles.inbox AS i"
					"  (link_id, page_id, remote, decided, edited_at, seen_at)"
					" SELECT $1, c.page_id, '{}', jsonb_build_object(c.property_id, c.v),"
					"  clock_timestamp(), clock_timestamp() FROM c"
					" WHERE $2 IS NOT NULL AND (c.page_id IN (SELECT m.page_id FROM mine m)"
					"  OR NOT EXISTS (SELECT FROM angles.inbox b"
					"   WHERE b.link_id = $1 AND b.page_id = c.page_id))"
					" ON CONFLICT (link_id, page_id) DO UPDATE SET state = 'ready',"
					"  decided = COALESCE(i.decided, '{}') || EXCLUDED.decided,"
					"  attempts = 0, next_at = NULL, class = NULL, code = NULL, message = NULL,"
					"  hint = NULL, parked_at = NULL",
					3, types, values, NULL, SPI_OK_INSERT);
	if (SPI_processed == 0)
	{
		/* an apply worker has the page in hand; or it is gone, and nothing is to be decided */
		angles_spi_exec(&again,
						"INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, new_key, at)"
						" SELECT nextval('angles.change_log_seq'), 0, $1, 'C', $2, $3,"
						"  clock_timestamp()"
						" FROM angles.conflict_log c JOIN angles.inbox i"
						"  ON i.link_id = c.link_id AND i.page_id = c.page_id"
						" JOIN angles.pages p ON p.page_id = i.page_id"
						" WHERE c.id = split_part($3, ':', 1)::bigint AND c.link_id = $1",
						3, types, values, NULL, SPI_OK_INSERT);
		/* as for a part of the log that somebody holds: a little later */
		engine->log_passed_over = engine->log_passed_over || SPI_processed > 0;
		return;
	}
	angles_spi_exec(&close,
					"UPDATE angles.conflict_log SET winner = split_part($3, ':', 2),"
					" resolved_at = clock_timestamp(),"
					" resolved_by = substr($3, length(split_part($3, ':', 1)) + length("
					"  split_part($3, ':', 2)) + 3)"
					" WHERE id = split_part($3, ':', 1)::bigint AND link_id = $1"
					" AND $2 IS NOT NULL",
					3, types, values, NULL, SPI_OK_UPDATE);
	engine->inbox_used = engine->inbox_changed = true;
}
