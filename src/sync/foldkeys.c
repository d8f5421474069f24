/*
 * foldkeys.c
 *		Keys that change: pages, entries and requests follow their rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/txn.h"
#include "sync/changelog.h"
#include "sync/fold.h"

/* A key whose page was pushed aside by a rename onto it, within this fold. */
typedef struct Displaced
{
	int32		link_id;
	char	   *key;			/* the key it had */
	char	   *aside;			/* the key it has now */
} Displaced;

static char *take_displaced(List **displaced, const LogRow *row);
static List *displace(List *displaced, const LogRow *row, char *aside);
static void move_key(Engine *engine, const LogRow *row, const char *from, const char *to);

/*
 * The page follows its row to the new key. When another page has that key, its row has gone: either
 * it was deleted, or, under a deferred key, it is itself on its way to another one; its page is set
 * aside under a name no row has.
 */
void
angles_fold_rename(Engine *engine, List **displaced, const LogRow *rows, int i)
{
	const LogRow *row = &rows[i];
	static SPIPlanPtr occupied = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(row->link_id), CStringGetTextDatum(row->new_key)};
	const char *from = take_displaced(displaced, row);

	if (angles_spi_exec(&occupied,
						"SELECT COALESCE(p.page_id::text, gen_random_uuid()::text),"
						" p.state = 'trashed' OR COALESCE(q.deleted, false)"
						" FROM angles.pages p LEFT JOIN angles.queue_entries q USING (link_id, key)"
						" WHERE p.link_id = $1 AND p.key = $2",
						2, types, values, NULL, SPI_OK_SELECT) > 0)
	{
		char	   *aside = psprintf("\001gone:%s", angles_spi_text(0, 1, CurrentMemoryContext));
		bool		deleted = strcmp(angles_spi_text(0, 2, CurrentMemoryContext), "t") == 0;

		/* a row that was deleted before never moves on */
		for (int j = 0; j < i && !deleted; j++)
			deleted = rows[j].link_id == row->link_id && rows[j].op == ANGLES_OP_DELETE &&
				strcmp(rows[j].key, row->new_key) == 0;
		if (!deleted)
			*displaced = displace(*displaced, row, aside);
		move_key(engine, row, row->new_key, aside);
	}
	move_key(engine, row, from, row->new_key);
}

/* Returns the key under which the page of the renamed row is: it may have been pushed aside. */
static char *
take_displaced(List **displaced, const LogRow *row)
{
	ListCell   *lc;

	foreach(lc, *displaced)
	{
		Displaced  *d = (Displaced *) lfirst(lc);

		if (d->link_id == row->link_id && strcmp(d->key, row->key) == 0)
		{
			*displaced = foreach_delete_current(*displaced, lc);
			return d->aside;
		}
	}
	return row->key;
}

static List *
displace(List *displaced, const LogRow *row, char *aside)
{
	Displaced  *d = palloc(sizeof(Displaced));

	d->link_id = row->link_id;
	d->key = row->new_key;
	d->aside = aside;
	return lappend(displaced, d);
}

static void
move_key(Engine *engine, const LogRow *row, const char *from, const char *to)
{
	static SPIPlanPtr pages = NULL;
	static SPIPlanPtr replaced = NULL;
	static SPIPlanPtr entries = NULL;
	static SPIPlanPtr waiting = NULL;
	static SPIPlanPtr touch = NULL;
	int32		link_id = row->link_id;
	Oid			types[4] = {INT4OID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[4] = {Int32GetDatum(link_id), CStringGetTextDatum(from),
	CStringGetTextDatum(to), Int64GetDatum(row->id)};
	dlist_head *lists[] = {&engine->ready[0], &engine->ready[1], &engine->flying, &engine->done};

	angles_spi_exec(&pages,
					"UPDATE angles.pages SET key = $3, sent_key = CASE state"
					"  WHEN 'intent' THEN COALESCE(sent_key, $2) END"
					" WHERE link_id = $1 AND key = $2",
					3, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&replaced,
					"DELETE FROM angles.queue_entries WHERE link_id = $1 AND key = $3 AND key "
					"<> $2",
					3, types, values, NULL, SPI_OK_DELETE);
	angles_spi_exec(&entries,
					"UPDATE angles.queue_entries SET key = $3, version = version + 1,"
					" first_id = LEAST(first_id, $4), last_id = GREATEST(last_id, $4)"
					" WHERE link_id = $1 AND key = $2",
					4, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&waiting,
					"UPDATE angles.queue_entries SET waits_for_key = $3"
					" WHERE waits_for_link = $1 AND waits_for_key = $2 AND state = 'waiting'",
					3, types, values, NULL, SPI_OK_UPDATE);
	/* a page without an entry gets one, so that it is planned under its new key */
	angles_spi_exec(&touch,
					"INSERT INTO angles.queue_entries AS q"
					" (link_id, key, seq, priority, state, enqueued_at, first_id, last_id)"
					" SELECT link_id, key, nextval('angles.queue_seq'), 0, 'ready', now(), $4, $4"
					" FROM angles.pages WHERE link_id = $1 AND key = $3 AND key <> $2"
					" ON CONFLICT (link_id, key) DO NOTHING",
					4, types, values, NULL, SPI_OK_INSERT);
	engine->more[PRIORITY_INTERACTIVE] = true;

	for (int l = 0; l < lengthof(lists); l++)
	{
		dlist_iter	iter;

		dlist_foreach(iter, lists[l])
		{
			Action	   *action = dlist_container(Action, node, iter.cur);

			ListCell   *lc;

			if (action->link_id != link_id)
				continue;
			if (action->key && strcmp(action->key, from) == 0)
				action->key = MemoryContextStrdup(action->context, to);
			foreach(lc, action->keys)
				if (strcmp((char *) lfirst(lc), from) == 0)
					lfirst(lc) = MemoryContextStrdup(action->context, to);
		}
	}
}
