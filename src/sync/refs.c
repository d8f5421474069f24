/*
 * refs.c
 *		Relations of more than 25 pages, of which a page object shows only the first part
 *		(reference, section 9): the rest is read by itself, 100 at a time, before anything is
 *		concluded from it. Runs in the sync worker.
 *
 * The other properties of such a page go on meanwhile. What is read, and what was read lately, is
 * only in memory: while something is missing the watermark stands still, so whoever dies in the
 * middle leaves the page for the next pass.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* These reads use at most this part of the limit: 1 request in so many (polls: see poll.c). */
#define SHARE 20

/* Relations of a link that are remembered, and that wait; what is beyond is shown again. */
#define MOST_KNOWN 1000
#define MOST_WANTED 100

/*
 * The edit time is cut to the minute: what was read in that minute may be changed once more without
 * a trace in the part that is shown, so it is read again after this time.
 */
#define READ_AGAIN_US (15 * USECS_PER_SEC)

/* A relation of a page: one that was read, or is to be. */
typedef struct PagedRefs
{
	char	   *page_id;
	char	   *property_id;
	uint64		shown;			/* hash of the part that the page shows */
	TimestampTz edited;			/* the page's edit time as shown with it */
	int64		read_us;		/* when it was read; wanted: when its first part was asked for */
	bool		final;			/* ... after that minute was over */
	bool		changed;		/* wanted: what is on its way is of the value before */
	char	   *cursor;			/* wanted: where it goes on, NULL: at its begin */
	char	  **ids;			/* wanted: so far */
	int			n_ids;
	int			max_ids;
} PagedRefs;

static PagedRefs *find(List *list, const char *page_id, const char *property_id);
static void add_ids(RefsState *refs, PagedRefs *one, JsonbContainer *results, bool *good);
static void ends(RefsState *refs, PagedRefs *one, TimestampTz server_date);
static void drop(RefsState *refs, PagedRefs *one);
static void free_ids(PagedRefs *one);
static char *fingerprint_of(const Link *link, const char *property_id);

bool
angles_refs_missing(Engine *engine, const Link *link, const char *page_id,
					const AnglesColumn *column, const char *shown, TimestampTz edited)
{
	LinkCounts *counts = angles_counts(engine, link->id);
	RefsState  *refs = &counts->refs;
	uint64		hash = hash_bytes_extended((const unsigned char *) shown, strlen(shown), 0);
	PagedRefs  *one = find(refs->known, page_id, column->property_id);
	MemoryContext old;

	if (one != NULL && one->shown == hash && one->edited == edited &&
		(one->final || angles_clock_mono_us() - one->read_us < READ_AGAIN_US))
		return false;
	/* until it was read the page has to be shown again */
	counts->poll_is_whole = false;
	one = find(refs->wanted, page_id, column->property_id);
	if (one == NULL && list_length(refs->wanted) >= MOST_WANTED)
		return true;
	if (refs->context == NULL)
		refs->context = AllocSetContextCreate(engine->context, "angles relations",
											  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(refs->context);
	if (one == NULL)
	{
		one = palloc0(sizeof(PagedRefs));
		one->page_id = pstrdup(page_id);
		one->property_id = pstrdup(column->property_id);
		refs->wanted = lappend(refs->wanted, one);
	}
	else if (one->shown != hash || one->edited != edited)
	{
		/* changed while it is being read: from the begin */
		one->cursor = NULL;
		one->changed = refs->flying && linitial(refs->wanted) == one;
	}
	one->shown = hash;
	one->edited = edited;
	MemoryContextSwitchTo(old);
	engine->poll_due_us = 0;
	return true;
}

int64
angles_refs_step(Engine *engine, Link *link)
{
	RefsState  *refs = &angles_counts(engine, link->id)->refs;
	PagedRefs  *one;
	Action	   *action;
	MemoryContext old;

	if (refs->flying || refs->wanted == NIL)
		return INT64_MAX;
	if (angles_clock_mono_us() < refs->due_us)
		return refs->due_us;
	one = (PagedRefs *) linitial(refs->wanted);
	if (one->cursor == NULL)
	{
		free_ids(one);
		one->read_us = angles_clock_mono_us();
	}
	action = angles_action_make(engine, ACTION_REFS, link->id);
	old = MemoryContextSwitchTo(action->context);
	action->page_id = pstrdup(one->page_id);
	action->property_id = pstrdup(one->property_id);
	action->request = angles_notion_get_property(one->page_id, one->property_id, one->cursor);
	/* it stands for nothing in the database: no commit has to come first */
	action->transaction = 0;
	MemoryContextSwitchTo(old);
	refs->flying = true;
	angles_action_ready_first(engine, action);
	return INT64_MAX;
}

void
angles_refs_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	RefsState  *refs = &angles_counts(engine, action->link_id)->refs;
	NotionVerdict verdict = action->answer->verdict;
	PagedRefs  *one = find(refs->wanted, action->page_id, action->property_id);
	JsonbContainer *answer;
	JsonbContainer *results;
	bool		good;
	char	   *cursor;

	engine->poll_due_us = 0;
	refs->flying = false;
	refs->due_us = angles_guc_notion_rate_limit <= 0 ? 0
		: angles_clock_mono_us() + angles_poll_share_us(1, SHARE);
	if (one == NULL || link == NULL || !angles_is_polled(link))
		return;
	if (one->changed)
	{
		one->changed = false;
		return;
	}
	if (verdict != NOTION_DONE)
	{
		/* what may pass is tried by the next pass that shows the page; others go on */
		if (verdict == NOTION_RETRY || verdict == NOTION_CONFLICT)
			drop(refs, one);
		else
		{
			angles_alert_open(fingerprint_of(link, one->property_id), "warning",
							  psprintf("a relation of %s with more than 25 pages cannot be read: "
									   "%s", angles_link_name(link), action->answer->message),
							  "The rows keep what they reference; their other properties go on.",
							  "SELECT * FROM angles.check_notion() shows what the connection may "
							  "do.");
			ends(refs, one, action->answer->server_date);
		}
		return;
	}
	answer = &action->answer->json->root;
	results = angles_json_get_container(answer, "results");
	good = results != NULL;
	if (good)
		add_ids(refs, one, results, &good);
	cursor = angles_json_get_text(answer, "next_cursor");
	if (good && angles_json_get_bool(answer, "has_more", false) && cursor != NULL)
	{
		one->cursor = MemoryContextStrdup(refs->context, cursor);
		return;
	}
	/* a list that breaks off is none; nor is one of a page that was written meanwhile */
	if (!good || angles_json_get_bool(answer, "has_more", false) ||
		!angles_compare_refs(engine, link, one->page_id, one->property_id,
							 angles_codec_set(one->ids, one->n_ids), one->edited,
							 angles_clock_mono_us() - one->read_us))
	{
		drop(refs, one);
		return;
	}
	angles_alert_close(fingerprint_of(link, one->property_id));
	ends(refs, one, action->answer->server_date);
}

static char *
fingerprint_of(const Link *link, const char *property_id)
{
	return psprintf("relation:%d:%s", link->id, property_id);
}

/* Adds the pages of an answer; *good becomes false when it holds something else. */
static void
add_ids(RefsState *refs, PagedRefs *one, JsonbContainer *results, bool *good)
{
	int			n = JsonContainerSize(results);
	MemoryContext old = MemoryContextSwitchTo(refs->context);

	if (one->n_ids + n > one->max_ids)
	{
		one->max_ids = 2 * (one->n_ids + n);
		one->ids = one->ids ? repalloc(one->ids, one->max_ids * sizeof(char *))
			: palloc(one->max_ids * sizeof(char *));
	}
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *item = angles_json_element(results, i);
		JsonbContainer *page = item ? angles_json_get_container(item, "relation") : NULL;
		char	   *id = page ? angles_json_get_text(page, "id") : NULL;

		if (id != NULL)
			one->ids[one->n_ids++] = id;
		*good = *good && id != NULL;
	}
	MemoryContextSwitchTo(old);
}

/* It was read, or cannot be: not again until the page is edited again. */
static void
ends(RefsState *refs, PagedRefs *one, TimestampTz server_date)
{
	PagedRefs  *before = find(refs->known, one->page_id, one->property_id);
	MemoryContext old;

	if (before == NULL && list_length(refs->known) >= MOST_KNOWN)
	{
		before = (PagedRefs *) linitial(refs->known);
		pfree(before->page_id);
		pfree(before->property_id);
		refs->known = list_delete_first(refs->known);
		pfree(before);
		before = NULL;
	}
	old = MemoryContextSwitchTo(refs->context);
	if (before == NULL)
	{
		before = palloc0(sizeof(PagedRefs));
		before->page_id = pstrdup(one->page_id);
		before->property_id = pstrdup(one->property_id);
		refs->known = lappend(refs->known, before);
	}
	before->shown = one->shown;
	before->edited = one->edited;
	before->read_us = one->read_us;
	before->final = server_date != 0 && server_date - (angles_clock_mono_us() - one->read_us) >=
		one->edited + USECS_PER_MINUTE;
	MemoryContextSwitchTo(old);
	drop(refs, one);
}

static void
free_ids(PagedRefs *one)
{
	for (int i = 0; i < one->n_ids; i++)
		pfree(one->ids[i]);
	one->n_ids = 0;
}

/* Takes it off what is wanted; memory of ids goes when nothing is. */
static void
drop(RefsState *refs, PagedRefs *one)
{
	free_ids(one);
	if (one->ids != NULL)
		pfree(one->ids);
	pfree(one->page_id);
	pfree(one->property_id);
	refs->wanted = list_delete_ptr(refs->wanted, one);
	pfree(one);
}

static PagedRefs *
find(List *list, const char *page_id, const char *property_id)
{
	ListCell   *lc;

	foreach(lc, list)
	{
		PagedRefs  *one = (PagedRefs *) lfirst(lc);

		if (strcmp(one->page_id, page_id) == 0 && strcmp(one->property_id, property_id) == 0)
			return one;
	}
	return NULL;
}
