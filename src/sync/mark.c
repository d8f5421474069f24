/*
 * mark.c
 *		The mark of the epoch in Notion: which server a database there belongs to.
 *
 * A promoted standby cannot reach the primary that it replaces, but both reach Notion. Each link's
 * database carries, in its description, the epoch of the server that syncs it; promotion and
 * angles.adopt() raise it. A server that reads a higher one than it knows of stops, even when the
 * mark names its own identity. It is read before a worker sends anything for a link, and, while it
 * sends, once in each angles.sweep_interval. Design, section 8.1.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* So much of the identity stands in a mark. */
#define OWNER_LEN 16

/* A mark is a sentence that begins and ends with these, the marker, and what it says. */
#define MARK_BEGIN "Kept in sync with"
#define MARK_END "Do not remove this mark: "

/* Whether a link has something to send is asked no more often than this: many entries may not. */
#define ASK_AGAIN_US INT64CONST(200000)

typedef enum MarkStep
{
	MARK_READ = 1,
	MARK_WRITE
} MarkStep;

/* What a description says; a person may have copied the mark, or another server added one. */
typedef struct Marks
{
	bool		found;			/* at least one that can be read */
	int64		epoch;			/* the highest of them, and whether this server wrote it */
	bool		mine;
	int			n;				/* all of them, read or not: where they stand in the joined text */
	NotionCut  *cuts;
} Marks;

static void look_at_mark(Engine *engine, Link *link, JsonbContainer *source);
static void read_marks(const Link *link, const char *description, Marks *marks);
static NotionCut find_mark(const char *text, const char *from, const char *at,
						   const char *end);
static bool has_entries(const Link *link);
static bool lock_mark(const Link *link, bool *written, int64 *epoch);
static void write_mark(Engine *engine, Link *link, JsonbContainer *source, const Marks *marks,
					   int64 epoch);
static void record_mark(Engine *engine, const Link *link, int64 epoch, bool anew);
static void mark_is_ours(Engine *engine, const Link *link, int64 epoch);
static void raise_own_epoch(int64 epoch);
static void cannot_mark(Engine *engine, const Link *link, const char *why);
static void put_first(Engine *engine, Action *action);
static void allow(Engine *engine, const Link *link);
static void try_later(MarkState *mark, int retry_after_s);

char *
angles_mark_text(const Link *link, int64 epoch)
{
	return psprintf(MARK_BEGIN " PostgreSQL table %s by angles. " MARK_END
					"%s timeline " INT64_FORMAT " epoch " INT64_FORMAT " of %.*s",
					angles_link_name(link), link->marker, angles_worker_timeline(), epoch,
					OWNER_LEN, angles_worker_identity());
}

int64
angles_mark_own_epoch(void)
{
	static SPIPlanPtr plan = NULL;
	bool		isnull;

	if (angles_spi_exec(&plan, "SELECT epoch FROM angles.identity", 0, NULL, NULL, NULL,
						SPI_OK_SELECT) != 1)
		elog(ERROR, "angles.identity does not have one row");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

bool
angles_mark_allows(Engine *engine, const Link *link)
{
	return angles_counts(engine, link->id)->mark.known;
}

void
angles_mark_forget(Engine *engine, int32 link_id)
{
	MarkState  *mark = &angles_counts(engine, link_id)->mark;

	/* an answer that is under way may still come */
	*mark = (MarkState) {.flying = mark->flying};
}

void
angles_mark_step(Engine *engine)
{
	ListCell   *lc;
	int64		now = angles_clock_mono_us();

	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		LinkCounts *counts = angles_counts(engine, link->id);
		MarkState  *mark = &counts->mark;
		Action	   *action;
		MemoryContext old;

		/* somebody adopted, or linked the table again: it is to be taken over */
		if (mark->recorded && !link->marked)
			angles_mark_forget(engine, link->id);
		if (!angles_link_sends(link) || mark->flying ||
			(mark->known && !mark->owed && counts->requests == mark->requests))
			continue;
		if (mark->due_us > now)
		{
			/* nothing is sent for this link before; a repeated look comes with what is sent */
			if (!mark->known || mark->owed)
			{
				engine->setup_pending = true;
				engine->setup_due_us = Min(engine->setup_due_us, mark->due_us);
			}
			continue;
		}
		/* a mark to be taken over is: another server has to learn of it */
		if (!mark->known && link->marked && !has_entries(link))
		{
			/* no timer for that: only a look that comes earlier, for something new, sets one */
			mark->due_us = now + ASK_AGAIN_US;
			continue;
		}
		action = angles_action_make(engine, ACTION_MARK, link->id);
		action->step = MARK_READ;
		old = MemoryContextSwitchTo(action->context);
		action->request = angles_notion_get_data_source(link->data_source_id);
		MemoryContextSwitchTo(old);
		mark->flying = true;
		put_first(engine, action);
	}
}

void
angles_mark_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	LinkCounts *counts = angles_counts(engine, action->link_id);
	MarkState  *mark = &counts->mark;
	NotionAnswer *answer = action->answer;

	mark->flying = false;
	/* this request itself is none that asks for another look */
	mark->requests = counts->requests;
	if (link == NULL)
		return;
	switch (answer->verdict)
	{
		case NOTION_DONE:
			mark->due_us = angles_clock_mono_us() + (int64) angles_guc_sweep_interval * 1000;
			if (action->step == MARK_READ)
				look_at_mark(engine, link, &answer->json->root);
			else
				mark_is_ours(engine, link, action->epoch);
			break;
		case NOTION_REFUSED:
		case NOTION_FORBIDDEN:
		case NOTION_SCHEMA:
			if (action->step == MARK_WRITE)
			{
				cannot_mark(engine, link, answer->message);
				break;
			}
			/* FALLTHROUGH */
		case NOTION_GONE:
		case NOTION_TRASHED:
			/* the rows that are sent will say what is wrong */
			allow(engine, link);
			try_later(mark, -1);
			break;
		default:
			try_later(mark, answer->retry_after_s);
			break;
	}
}

/*
 * Before all others, but as one of the backlog: room that an edit may have at once is kept free in
 * the window by the number of edits there were, and a look in each interval is none.
 */
static void
put_first(Engine *engine, Action *action)
{
	action->priority = PRIORITY_BACKLOG;
	angles_action_ready_first(engine, action);
}

/* Lets the link send. Entries that were passed over until now may be behind the cursors. */
static void
allow(Engine *engine, const Link *link)
{
	MarkState  *mark = &angles_counts(engine, link->id)->mark;

	if (mark->known)
		return;
	mark->known = true;
	engine->cursor[0] = engine->cursor[1] = 0;
	engine->more[0] = engine->more[1] = true;
	engine->next_due = angles_clock_now();
}

/* Whether anything of the link may be sent as soon as its mark is known. */
static bool
has_entries(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	return angles_spi_exec(&plan,
						   "SELECT FROM angles.queue_entries WHERE link_id = $1"
						   " AND state IN ('ready', 'retry', 'verifying') LIMIT 1",
						   1, types, values, NULL, SPI_OK_SELECT) > 0;
}

static void
try_later(MarkState *mark, int retry_after_s)
{
	mark->due_us = angles_clock_mono_us() + angles_backoff_us(++mark->failures, retry_after_s);
}

static void
look_at_mark(Engine *engine, Link *link, JsonbContainer *source)
{
	JsonbContainer *description = angles_json_get_container(source, "description");
	int64		own = angles_mark_own_epoch();
	int64		recorded;
	bool		written;
	Marks		marks;

	if (!lock_mark(link, &written, &recorded))
	{
		try_later(&angles_counts(engine, link->id)->mark, -1);
		return;
	}
	read_marks(link, description ? angles_codec_plain_text(description) : "", &marks);
	if (marks.found && marks.mine && marks.epoch == own)
		mark_is_ours(engine, link, own);
	/* whoever raised it: the promoted standby may have this server's own instance_id */
	else if (marks.found && written &&
			 (marks.epoch > Max(own, recorded) || (!marks.mine && marks.epoch >= own)))
	{
		ereport(LOG,
				(errmsg("another server has taken over the sync of table %s",
						angles_link_name(link)),
				 errdetail("Its epoch is " INT64_FORMAT ", this server's " INT64_FORMAT ".",
						   marks.epoch, own)));
		engine->superseded = angles_worker_superseded() || engine->superseded;
		/* somebody adopts just now: nothing is sent for this link until that is decided */
		angles_mark_forget(engine, link->id);
		try_later(&angles_counts(engine, link->id)->mark, -1);
	}
	else
	{
		/* taken over by the wish of a person, or of a promotion: it shall be the highest */
		if (marks.found && marks.epoch >= own)
			raise_own_epoch(own = marks.epoch + 1);
		write_mark(engine, link, source, &marks, own);
	}
}

/*
 * Reads all marks of the link in a description. Its text is joined: a person may have formatted a
 * part of a mark. Of two with one epoch that of another server counts.
 */
static void
read_marks(const Link *link, const char *description, Marks *marks)
{
	const char *from = description;
	const char *at;

	memset(marks, 0, sizeof(*marks));
	marks->cuts = palloc((strlen(description) / strlen(link->marker) + 1) * sizeof(NotionCut));
	while ((at = strstr(from, link->marker)) != NULL)
	{
		const char *end = at + strlen(link->marker);
		long long	timeline;
		long long	epoch;
		char		owner[OWNER_LEN + 1];
		int			length = 0;

		if (sscanf(end, " timeline %lld epoch %lld of %" CppAsString2(OWNER_LEN) "[0-9a-f]%n",
				   &timeline, &epoch, owner, &length) == 3)
		{
			bool		mine = timeline == angles_worker_timeline() &&
				strncmp(owner, angles_worker_identity(), OWNER_LEN) == 0;

			if (!marks->found || epoch > marks->epoch || (epoch == marks->epoch && !mine))
			{
				marks->epoch = epoch;
				marks->mine = mine;
			}
			marks->found = true;
			end += length;
		}
		marks->cuts[marks->n++] = find_mark(description, from, at, end);
		from = end;
	}
}

/* Returns where the sentence stands whose marker is at "at"; nothing before "from" is of it. */
static NotionCut
find_mark(const char *text, const char *from, const char *at, const char *end)
{
	const char *begin = at;
	const char *p;

	for (p = from; (p = strstr(p, MARK_BEGIN)) != NULL && p < at; p++)
		begin = p;
	/* without its last words it is the sentence of another mark, or a person's */
	p = strstr(begin, MARK_END);
	if (p == NULL || p + strlen(MARK_END) != at)
		begin = at;
	return (NotionCut) {begin - text, end - text};
}

/*
 * Locks the link's row and reads the epoch that was recorded last, and whether this server did that
 * since it became the owner. Returns false when a session has it.
 */
static bool
lock_mark(const Link *link, bool *written, int64 *epoch)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};
	HeapTuple	row;
	bool		isnull;

	if (angles_spi_exec(&plan,
						"SELECT COALESCE(l.mark_epoch, 0),"
						" COALESCE(l.mark_epoch >= i.since_epoch, false)"
						" FROM angles.links l, angles.identity i WHERE l.id = $1"
						" FOR NO KEY UPDATE OF l SKIP LOCKED",
						1, types, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	row = SPI_tuptable->vals[0];
	*epoch = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
	*written = DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
	return true;
}

static void
write_mark(Engine *engine, Link *link, JsonbContainer *source, const Marks *marks, int64 epoch)
{
	JsonbContainer *parent = angles_json_get_container(source, "parent");
	char	   *database = parent ? angles_json_get_text(parent, "database_id") : NULL;
	Action	   *action = angles_action_make(engine, ACTION_MARK, link->id);
	MemoryContext old = MemoryContextSwitchTo(action->context);

	action->step = MARK_WRITE;
	action->epoch = epoch;
	if (database != NULL && angles_notion_parse_id(database) != NULL)
		action->request =
			angles_notion_describe_database(angles_notion_parse_id(database),
											angles_json_get_container(source, "description"),
											marks->cuts, marks->n, angles_mark_text(link, epoch));
	MemoryContextSwitchTo(old);
	if (action->request == NULL)
	{
		angles_action_free(action);
		cannot_mark(engine, link, "Its description holds more than text.");
		return;
	}
	angles_counts(engine, link->id)->mark.flying = true;
	put_first(engine, action);
	/* no crash may make this server forget an epoch that others can read: it would fence itself */
	engine->n_claimed++;
}

static void
mark_is_ours(Engine *engine, const Link *link, int64 epoch)
{
	record_mark(engine, link, epoch, true);
	allow(engine, link);
	angles_alert_close(psprintf("mark:%d", link->id));
}

/*
 * Writes the epoch into angles.links, "anew" or only where none was written yet. While a session
 * has the link, rows go out all the same, and the mark is looked at again, ever more seldom.
 */
static void
record_mark(Engine *engine, const Link *link, int64 epoch, bool anew)
{
	static SPIPlanPtr plan = NULL;
	MarkState  *mark = &angles_counts(engine, link->id)->mark;
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2] = {Int32GetDatum(link->id), Int64GetDatum(epoch)};
	int64		recorded;
	bool		written;

	mark->recorded = lock_mark(link, &written, &recorded);
	mark->owed = !mark->recorded;
	if (mark->owed)
	{
		try_later(mark, -1);
		return;
	}
	mark->failures = 0;
	if (anew ? recorded != epoch : !written)
		angles_spi_exec(&plan, "UPDATE angles.links SET mark_epoch = $2 WHERE id = $1",
						2, types, values, NULL, SPI_OK_UPDATE);
}

static void
raise_own_epoch(int64 epoch)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(epoch)};

	/* a session that is adopting just now raises it itself; this mark is then written again */
	angles_spi_exec(&plan,
					"UPDATE angles.identity SET epoch = $1 WHERE epoch < $1 AND one IN"
					" (SELECT one FROM angles.identity FOR UPDATE SKIP LOCKED)",
					1, types, values, NULL, SPI_OK_UPDATE);
}

/* Without a mark the link works, only nobody would notice a second server. */
static void
cannot_mark(Engine *engine, const Link *link, const char *why)
{
	/* nobody has to try again and again; what was written once can still be read */
	record_mark(engine, link, angles_mark_own_epoch(), false);
	allow(engine, link);
	angles_alert_open(psprintf("mark:%d", link->id), "info",
					  psprintf("the database of %s in Notion cannot be marked",
							   angles_link_name(link)), why,
					  "Should another server ever sync the same database, this one would not "
					  "notice it.");
}
