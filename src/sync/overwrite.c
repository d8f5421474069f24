/*
 * overwrite.c
 *		Edits of people that a write of this server has covered. Between the last look at a page and
 *		the write that follows somebody may change it; Notion has no conditional write, so that
 *		cannot be prevented. What is known of it is kept: how long that moment is, and, where a
 *		question for changes has shown the edit while the write was under way, what it was. Runs in
 *		the sync worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "sync/merge.h"

/* The figures of a link are written down no more often than this: each time leaves a dead row. */
#define SAVE_US USECS_PER_SEC

/* A person's value that was seen while the property was being written. */
typedef struct SeenValue
{
	char	   *property_id;
	char	   *canon;
} SeenValue;

static void keep(const Link *link, const Action *action, const SeenValue *seen);
static const char *written_value(const Action *action, const char *property_id);

void
angles_overwrite_seen(Engine *engine, int32 link_id, const char *key, const char *property_id,
					  const char *canon)
{
	dlist_head *lists[] = {&engine->flying, &engine->done};

	for (int l = 0; l < lengthof(lists); l++)
	{
		dlist_iter	iter;

		dlist_foreach(iter, lists[l])
		{
			Action	   *action = dlist_container(Action, node, iter.cur);
			MemoryContext old;
			SeenValue  *seen;

			if (action->kind != ACTION_PATCH || action->link_id != link_id ||
				strcmp(action->key, key) != 0 || written_value(action, property_id) == NULL)
				continue;
			old = MemoryContextSwitchTo(action->context);
			seen = palloc(sizeof(SeenValue));
			seen->property_id = pstrdup(property_id);
			seen->canon = pstrdup(canon);
			/* the last one of a property counts */
			action->seen = lcons(seen, action->seen);
			MemoryContextSwitchTo(old);
			return;
		}
	}
}

void
angles_overwrite_settle(Engine *engine, const Link *link, const Action *action)
{
	LinkCounts *counts = angles_counts(engine, link->id);
	int64		read_us = action->read_us ? action->read_us : counts->poll_seen_us;
	List	   *kept = NIL;
	ListCell   *lc;

	if (!link->inbound || action->kind != ACTION_PATCH)
		return;
	if (read_us != 0)
	{
		counts->window_us = angles_clock_mono_us() - read_us;
		counts->window_max_us = Max(counts->window_max_us, counts->window_us);
		counts->window_owed = true;
	}
	foreach(lc, action->seen)
	{
		SeenValue  *seen = (SeenValue *) lfirst(lc);
		ListCell   *lk;
		bool		known = false;

		foreach(lk, kept)
			known = known || strcmp((char *) lfirst(lk), seen->property_id) == 0;
		if (known)
			continue;
		kept = lappend(kept, seen->property_id);
		keep(link, action, seen);
		counts->lost_updates++;
		counts->window_owed = true;
	}
}

/* The value that a person typed and that is not there any more goes where conflicts are. */
static void
keep(const Link *link, const Action *action, const SeenValue *seen)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[6] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[6] = {Int32GetDatum(link->id), CStringGetTextDatum(action->key),
		CStringGetTextDatum(action->page_id), CStringGetTextDatum(seen->property_id),
		CStringGetTextDatum(written_value(action, seen->property_id)),
	CStringGetTextDatum(seen->canon)};

	angles_spi_exec(&plan,
					"INSERT INTO angles.conflict_log (link_id, page_id, property_id, key,"
					" property_name, column_name, base, local, remote, policy, winner, remote_at,"
					" detected_at, resolved_at, resolved_by)"
					" SELECT $1, $3::uuid, $4, $2, c.property_name, c.attname,"
					"  (SELECT p.base->$4 FROM angles.pages p WHERE p.link_id = $1 AND p.key = $2),"
					"  $5::jsonb, $6::jsonb, 'overwritten', 'postgres', clock_timestamp(),"
					"  clock_timestamp(), clock_timestamp(), 'the write was on its way already'"
					" FROM angles.link_columns c WHERE c.link_id = $1 AND c.property_id = $4",
					6, types, values, NULL, SPI_OK_INSERT);
}

static const char *
written_value(const Action *action, const char *property_id)
{
	for (int i = 0; i < action->n_written; i++)
		if (strcmp(action->written_ids[i], property_id) == 0)
			return action->written_locals[i];
	return NULL;
}

void
angles_overwrite_save(Engine *engine)
{
	static SPIPlanPtr plan = NULL;
	int64		now = angles_clock_mono_us();
	ListCell   *lc;

	foreach(lc, engine->counts)
	{
		LinkCounts *counts = (LinkCounts *) lfirst(lc);
		Oid			types[4] = {INT4OID, INT8OID, INT8OID, INT8OID};
		Datum		values[4] = {Int32GetDatum(counts->link_id),
			Int64GetDatum(counts->window_us / 1000), Int64GetDatum(counts->window_max_us / 1000),
		Int64GetDatum(counts->lost_updates)};

		if (!counts->window_owed ||
			(counts->lost_updates == 0 && now - counts->window_saved_us < SAVE_US))
			continue;
		angles_spi_exec(&plan,
						"INSERT INTO angles.overwrites AS o (link_id, window_ms, window_max_ms,"
						" lost, last_lost_at)"
						" SELECT id, $2, $3, $4, CASE WHEN $4 > 0 THEN clock_timestamp() END"
						" FROM angles.links WHERE id = $1"
						" ON CONFLICT (link_id) DO UPDATE SET window_ms = EXCLUDED.window_ms,"
						" window_max_ms = GREATEST(o.window_max_ms, EXCLUDED.window_max_ms),"
						" lost = o.lost + EXCLUDED.lost,"
						" last_lost_at = COALESCE(EXCLUDED.last_lost_at, o.last_lost_at)",
						4, types, values, NULL, SPI_OK_INSERT);
		counts->window_owed = false;
		counts->window_saved_us = now;
		counts->lost_updates = 0;
	}
}
