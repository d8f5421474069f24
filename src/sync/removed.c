/*
 * removed.c
 *		Pages that people removed in Notion or put back there, and what becomes of their rows by the
 *		link's policy. Runs in the sync worker; rows are deleted and flagged by apply workers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

static void forget_new(const Link *link, Datum ids);
static void touch(Engine *engine, int32 link_id, Datum ids);
static void touch_key(Engine *engine, int32 link_id, const char *key);

/*
 * What an apply worker has in hand is left alone: the next listing shows it again. A row that is
 * to be deleted or flagged is put into the inbox with the page, so that neither is there alone.
 */
void
angles_removed(Engine *engine, const Link *link, Removals *removals)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[5] = {INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, BOOLOID};
	Datum		values[5] = {Int32GetDatum(link->id), angles_rows_keys(&removals->pages),
		angles_rows_extra(&removals->pages, 0), CStringGetTextDatum(link->on_notion_delete),
	BoolGetDatum(removals->many)};

	if (removals->pages.n == 0)
		return;
	forget_new(link, values[1]);
	angles_spi_exec(&plan,
					"WITH u AS (SELECT id::uuid AS page_id, how"
					"   FROM unnest($2, $3) AS u (id, how)),"
					" locked AS (SELECT i.page_id FROM angles.inbox i WHERE i.link_id = $1"
					"   AND i.page_id IN (SELECT u.page_id FROM u) FOR UPDATE SKIP LOCKED),"
					" p AS (UPDATE angles.pages p SET state = 'removed', removed_as = u.how,"
					"   removed_at = clock_timestamp(),"
					"   pending = CASE WHEN $4 = 'ignore' THEN NULL"
					"    WHEN $4 = 'flag' AND NOT $5 THEN 'apply'"
					"    WHEN $4 = 'delete' AND u.how = 'trashed' AND NOT $5 THEN 'apply'"
					"    ELSE 'held' END,"
					"   note = CASE u.how WHEN 'trashed' THEN 'its page was trashed in Notion'"
					"    WHEN 'moved' THEN 'its page was moved to another place in Notion'"
					"    WHEN 'gone' THEN 'its page is gone, or not shared any more'"
					"    ELSE 'its page is missing together with many others' END"
					"  FROM u WHERE p.link_id = $1 AND p.page_id = u.page_id AND p.state = 'live'"
					"  AND (u.page_id IN (SELECT l.page_id FROM locked l) OR NOT EXISTS ("
					"   SELECT FROM angles.inbox b WHERE b.link_id = $1 AND b.page_id = u.page_id))"
					"  RETURNING p.page_id, p.pending),"
					" gone AS (DELETE FROM angles.inbox i USING p WHERE i.link_id = $1"
					"   AND i.page_id = p.page_id AND p.pending IS DISTINCT FROM 'apply')"
					" INSERT INTO angles.inbox AS i"
					"  (link_id, page_id, kind, remote, edited_at, seen_at)"
					" SELECT $1, p.page_id, CASE $4 WHEN 'flag' THEN 'flag' ELSE 'delete' END,"
					"  '{}', clock_timestamp(), clock_timestamp() FROM p"
					" WHERE p.pending = 'apply'"
					" ON CONFLICT (link_id, page_id) DO UPDATE SET kind = EXCLUDED.kind,"
					"  state = 'ready', remote = '{}', decided = NULL, attempts = 0,"
					"  next_at = NULL,"
					"  class = NULL, code = NULL, message = NULL, hint = NULL, parked_at = NULL",
					5, types, values, NULL, SPI_OK_INSERT);
	engine->inbox_used = engine->inbox_changed = true;
	/* a change that waited for something there has nothing to wait for any more */
	touch(engine, link->id, values[1]);
	angles_removed_alert(link);
	if (removals->many)
		angles_alert_open(psprintf("mass_delete:%d", link->id), "critical",
						  psprintf("%d pages of %s are missing in Notion",
								   removals->pages.n, angles_link_name(link)),
						  "No row was touched.", angles_approve_hint(link));
}

/* A page that was gone before it had a row is nobody's. */
static void
forget_new(const Link *link, Datum ids)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr again = NULL;
	Oid			types[2] = {INT4OID, TEXTARRAYOID};
	Datum		values[2] = {Int32GetDatum(link->id), ids};

	/* a person has thought better of it: there is nothing to decide any more */
	angles_spi_exec(&again,
					"UPDATE angles.pages SET state = 'trashed', pending = NULL, note = NULL,"
					" removed_at = NULL WHERE link_id = $1 AND page_id = ANY ($2::uuid[])"
					" AND state = 'restored'",
					2, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&plan,
					"WITH locked AS (SELECT i.page_id FROM angles.inbox i WHERE i.link_id = $1"
					"   AND i.page_id = ANY ($2::uuid[]) FOR UPDATE SKIP LOCKED),"
					" gone AS (DELETE FROM angles.inbox i USING locked l, angles.pages p"
					"   WHERE i.link_id = $1 AND i.page_id = l.page_id AND p.page_id = i.page_id"
					"   AND p.state = 'new')"
					" DELETE FROM angles.pages p WHERE p.link_id = $1 AND p.state = 'new'"
					" AND p.page_id = ANY ($2::uuid[])"
					" AND (p.page_id IN (SELECT page_id FROM locked)"
					"  OR NOT EXISTS (SELECT FROM angles.inbox b"
					"   WHERE b.link_id = $1 AND b.page_id = p.page_id))",
					2, types, values, NULL, SPI_OK_DELETE);
}

/* Lets the rows of these pages be planned: what waits, and what is not in the queue at all. */
static void
touch(Engine *engine, int32 link_id, Datum ids)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTARRAYOID};
	Datum		values[2] = {Int32GetDatum(link_id), ids};

	angles_spi_exec(&plan,
					"INSERT INTO angles.queue_entries AS q"
					" (link_id, key, seq, priority, state, enqueued_at, changed_at)"
					" SELECT p.link_id, p.key, nextval('angles.queue_seq'), 0, 'ready',"
					"  clock_timestamp(), '-infinity' FROM angles.pages p"
					" WHERE p.link_id = $1 AND p.page_id = ANY ($2::uuid[])"
					/* what was not changed just now is being planned already */
					" AND p.state IN ('live', 'removed')"
					" ON CONFLICT (link_id, key) DO UPDATE SET version = q.version + 1,"
					"  state = CASE WHEN q.state IN ('waiting', 'retry', 'parked') THEN 'ready'"
					"   ELSE q.state END,"
					"  seq = CASE WHEN q.state IN ('waiting', 'retry', 'parked') THEN EXCLUDED.seq"
					"   ELSE q.seq END,"
					"  class = CASE WHEN q.state IN ('waiting', 'retry', 'parked') THEN NULL"
					"   ELSE q.class END,"
					"  message = CASE WHEN q.state IN ('waiting', 'retry', 'parked') THEN NULL"
					"   ELSE q.message END",
					2, types, values, NULL, SPI_OK_INSERT);
	engine->more[0] = engine->more[1] = true;
}

/* ---- back again ---- */

/*
 * A page that a person had removed is its row's again, whatever waited for a decision. One that
 * this server had trashed, because its row is gone, is a matter for people: it is neither trashed
 * again nor is a row made of it.
 */
void
angles_reappeared(Engine *engine, const Link *link, RowSet *page_ids)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTARRAYOID, BOOLOID};
	Datum		values[3] = {Int32GetDatum(link->id), angles_rows_keys(page_ids),
	BoolGetDatum(link->flag_column != NULL)};

	angles_spi_exec(&plan,
					"WITH locked AS (SELECT i.page_id FROM angles.inbox i WHERE i.link_id = $1"
					"   AND i.page_id = ANY ($2::uuid[]) FOR UPDATE SKIP LOCKED),"
					" p AS (UPDATE angles.pages p SET removed_as = NULL,"
					"   state = CASE p.state WHEN 'removed' THEN 'live' ELSE 'restored' END,"
					"   removed_at = CASE p.state WHEN 'trashed' THEN clock_timestamp() END,"
					"   pending = CASE p.state WHEN 'trashed' THEN 'held' END,"
					"   note = CASE p.state WHEN 'trashed' THEN"
					"    'its row was deleted, and its page taken out of the trash in Notion' END"
					"  WHERE p.link_id = $1 AND p.page_id = ANY ($2::uuid[])"
					"  AND (p.state = 'removed' OR p.state = 'trashed' AND NOT EXISTS ("
					/* the row is there again, and has its page restored just now */
					"   SELECT FROM angles.queue_entries q"
					"   WHERE q.link_id = p.link_id AND q.key = p.key))"
					"  AND (p.page_id IN (SELECT l.page_id FROM locked l) OR NOT EXISTS ("
					"   SELECT FROM angles.inbox b WHERE b.link_id = $1 AND b.page_id = p.page_id))"
					"  RETURNING p.page_id, p.state),"
					" gone AS (DELETE FROM angles.inbox i USING p WHERE i.link_id = $1"
					"   AND i.page_id = p.page_id AND NOT (p.state = 'live' AND $3))"
					" INSERT INTO angles.inbox AS i"
					"  (link_id, page_id, kind, remote, edited_at, seen_at)"
					" SELECT $1, p.page_id, 'unflag', '{}', clock_timestamp(), clock_timestamp()"
					" FROM p WHERE p.state = 'live' AND $3"
					" ON CONFLICT (link_id, page_id) DO UPDATE SET kind = 'unflag',"
					"  state = 'ready',"
					"  remote = '{}', decided = NULL, attempts = 0, next_at = NULL, class = NULL,"
					"  code = NULL, message = NULL, hint = NULL, parked_at = NULL",
					3, types, values, NULL, SPI_OK_INSERT);
	engine->inbox_used = engine->inbox_changed = true;
	touch(engine, link->id, values[1]);
	angles_removed_alert(link);
}

/* ---- decisions ---- */

void
angles_removed_decided(Engine *engine, int32 link_id, const char *key, bool approved)
{
	static SPIPlanPtr removed = NULL;
	static SPIPlanPtr restored = NULL;
	static SPIPlanPtr back = NULL;
	static SPIPlanPtr anew = NULL;
	static SPIPlanPtr make = NULL;
	Link	   *link = angles_link_find(link_id);
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link_id), CStringGetTextDatum(key)};

	if (link == NULL)
		return;
	values[2] = CStringGetTextDatum(strcmp(link->on_notion_delete, "flag") == 0
									? "flag" : "delete");
	if (approved)
	{
		angles_spi_exec(&removed,
						"WITH p AS (UPDATE angles.pages p SET pending = 'apply'"
						"  WHERE link_id = $1 AND key = $2 AND state = 'removed'"
						/* one that an apply worker has in hand stays held: for another call */
						"  AND pending = 'held' AND NOT EXISTS (SELECT FROM angles.inbox i"
						"   WHERE i.link_id = p.link_id AND i.page_id = p.page_id)"
						"  RETURNING page_id)"
						" INSERT INTO angles.inbox (link_id, page_id, kind, remote, decided,"
						"  edited_at, seen_at)"
						" SELECT $1, page_id, $3, '{}', '{\"approved\": true}',"
						"  clock_timestamp(), clock_timestamp() FROM p",
						3, types, values, NULL, SPI_OK_INSERT);
		angles_spi_exec(&restored,
						"WITH p AS (UPDATE angles.pages SET state = 'live', pending = NULL,"
						"   note = NULL, removed_at = NULL"
						"  WHERE link_id = $1 AND key = $2 AND state = 'restored' RETURNING key)"
						" INSERT INTO angles.queue_entries AS q"
						"  (link_id, key, seq, priority, state, enqueued_at, deleted, decision)"
						" SELECT $1, key, nextval('angles.queue_seq'), 0, 'ready',"
						"  clock_timestamp(), true, 'approved' FROM p"
						" ON CONFLICT (link_id, key) DO UPDATE SET version = q.version + 1,"
						"  decision = 'approved'",
						2, types, values, NULL, SPI_OK_INSERT);
	}
	else
	{
		/* the row stays: its page is taken out of the trash, or made anew where it cannot be */
		angles_spi_exec(&back,
						"UPDATE angles.pages SET state = 'trashed', pending = NULL, note = NULL,"
						" removed_as = NULL, removed_at = NULL"
						" WHERE link_id = $1 AND key = $2 AND state = 'removed'"
						" AND removed_as IS DISTINCT FROM 'moved' AND pending = 'held'",
						2, types, values, NULL, SPI_OK_UPDATE);
		angles_spi_exec(&anew,
						"DELETE FROM angles.pages WHERE link_id = $1 AND key = $2"
						" AND state = 'removed' AND removed_as = 'moved' AND pending = 'held'",
						2, types, values, NULL, SPI_OK_DELETE);
		/* the page stays: a row is made of it again */
		angles_spi_exec(&make,
						"WITH p AS (UPDATE angles.pages SET state = 'new', pending = NULL,"
						"   note = NULL, removed_at = NULL"
						"  WHERE link_id = $1 AND key = $2 AND state = 'restored'"
						"  RETURNING page_id, base)"
						" INSERT INTO angles.inbox (link_id, page_id, kind, remote, edited_at,"
						"  seen_at) SELECT $1, page_id, 'make', base, clock_timestamp(),"
						"  clock_timestamp() FROM p ON CONFLICT (link_id, page_id) DO NOTHING",
						2, types, values, NULL, SPI_OK_INSERT);
		touch_key(engine, link_id, key);
	}
	engine->inbox_used = engine->inbox_changed = true;
	engine->more[0] = true;
}

/* Lets the row of this key be planned. */
static void
touch_key(Engine *engine, int32 link_id, const char *key)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link_id), CStringGetTextDatum(key)};

	angles_spi_exec(&plan,
					"INSERT INTO angles.queue_entries (link_id, key, seq, priority, state,"
					"  enqueued_at, changed_at) VALUES ($1, $2, nextval('angles.queue_seq'), 0,"
					"  'ready', clock_timestamp(), '-infinity')"
					" ON CONFLICT (link_id, key) DO NOTHING",
					2, types, values, NULL, SPI_OK_INSERT);
	engine->more[0] = true;
}

void
angles_removed_alert(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};
	int			n;

	angles_spi_exec(&plan,
					"SELECT count(*)::int4 FROM angles.pages"
					" WHERE link_id = $1 AND pending = 'held'",
					1, types, values, NULL, SPI_OK_SELECT);
	n = atoi(angles_spi_text(0, 1, CurrentMemoryContext));
	if (n == 0)
		angles_alert_close(psprintf("removed:%d", link->id));
	else
		angles_alert_open(psprintf("removed:%d", link->id), "warning",
						  psprintf("%d pages of %s were removed, or put back, in Notion", n,
								   angles_link_name(link)),
						  "Their rows wait for a decision.", angles_approve_hint(link));
}
