/*
 * listing.c
 *		Reads all pages of linked data sources for a session that waits: angles.drift_notion(fresh).
 *		Runs in the sync worker, which is the only process that talks to Notion. What it reads is
 *		handed on and kept nowhere: nothing is concluded here, and no row is written.
 *
 * The pages are asked for in the order of their edits: one that is edited meanwhile is shown again
 * at the end, none is left out, and where an answer ends after 10,000 pages the next question goes
 * on from there. One request at a time, behind the changes of people, and none while the session
 * has not taken what is there: neither side piles up pages.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/json.h"
#include "net/net.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* Failures in a row that end a listing: somebody waits for it. */
#define FAILURES_TO_END 5

/* Before all pages, and how long such a text is up to the minute. */
#define FIRST_MINUTE "1970-01-01T00:00:00.000Z"
#define MINUTE_LEN 16

struct Listing
{
	AnglesCall *call;
	MemoryContext context;
	uint64		serial;
	List	   *links;			/* of int: still to be read; the first one is being read */
	bool		begun;			/* ... and was asked for: */
	int64		begun_us;		/* since then */
	char		since[32];		/* in this part: pages edited in this minute or later */
	char	   *cursor;
	char		last_edited[32];	/* of the page shown last, as Notion writes it */
	bool		whole;			/* all of them were shown */
	bool		plain;			/* some property cannot be asked for by itself */
	bool		flying;
	int			failures;		/* in a row */
	int64		due_us;			/* not before */
	const char *problem;
	const char *hint;
};

static void ask(Engine *engine, Listing *listing, Link *link);
static void pass_page(Listing *listing, const Link *link, const Action *action,
					  JsonbContainer *page);
static void append_member(StringInfo to, const char *name, const char *text);
static void link_ends(Listing *listing);
static bool goes_on(Listing *listing);
static void failed(Listing *listing, const Link *link, const NotionAnswer *answer);

Listing *
angles_listing_begin(AnglesCall *call, List *links, uint64 serial)
{
	Listing    *listing = palloc0(sizeof(Listing));

	listing->call = call;
	listing->context = CurrentMemoryContext;
	listing->links = links;
	listing->serial = serial;
	return listing;
}

bool
angles_listing_step(Engine *engine, Listing *listing)
{
	while (!listing->flying && listing->problem == NULL && listing->links != NIL)
	{
		Link	   *link = angles_link_find(linitial_int(listing->links));

		if (link == NULL || link->data_source_id == NULL)
		{
			/* unlinked meanwhile, or not made yet: there are no pages */
			listing->links = list_delete_first(listing->links);
			listing->begun = false;
			continue;
		}
		if (!angles_listing_due(listing))
			return false;
		ask(engine, listing, link);
	}
	return !listing->flying && angles_call_has_room(listing->call);
}

bool
angles_listing_due(Listing *listing)
{
	/* the queue to the session is served here: it has no other moment */
	return angles_call_has_room(listing->call) && !listing->flying &&
		listing->due_us <= angles_clock_mono_us();
}

const char *
angles_listing_problem(const Listing *listing, const char **hint)
{
	*hint = listing->hint;
	return listing->problem;
}

static void
ask(Engine *engine, Listing *listing, Link *link)
{
	Action	   *action = angles_action_make(engine, ACTION_LIST, link->id);
	MemoryContext old;
	List	   *ids = NIL;

	if (!listing->begun)
	{
		listing->begun = listing->whole = true;
		listing->begun_us = angles_clock_mono_us();
		strlcpy(listing->since, FIRST_MINUTE, sizeof(listing->since));
		listing->last_edited[0] = '\0';
		listing->cursor = NULL;
		listing->plain = false;
	}
	old = MemoryContextSwitchTo(action->context);
	for (int i = 0; i < link->n_columns && !listing->plain; i++)
		if (link->columns[i].c.property_id != NULL && link->columns[i].problem == NULL)
			ids = lappend(ids, link->columns[i].c.property_id);
	action->call = listing->serial;
	action->request = angles_notion_changed_pages(link->data_source_id, listing->since,
												  listing->cursor, ids);
	/* it stands for nothing in the database: no commit has to come first */
	action->transaction = 0;
	action->priority = PRIORITY_BACKLOG;
	MemoryContextSwitchTo(old);
	listing->flying = true;
	angles_action_ready_first(engine, action);
}

void
angles_listing_settle(Engine *engine, Listing *listing, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	JsonbContainer *answer;
	JsonbContainer *results;
	MemoryContext old;
	char	   *cursor;
	int			n;

	(void) engine;
	listing->flying = false;
	if (link == NULL)
		return;
	if (action->answer->verdict != NOTION_DONE)
	{
		failed(listing, link, action->answer);
		return;
	}
	listing->failures = 0;
	answer = &action->answer->json->root;
	results = angles_json_get_container(answer, "results");
	n = results ? JsonContainerSize(results) : 0;
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);

		if (page != NULL)
			pass_page(listing, link, action, page);
	}
	cursor = angles_json_get_text(answer, "next_cursor");
	if (angles_json_get_bool(answer, "has_more", false) && cursor != NULL)
	{
		old = MemoryContextSwitchTo(listing->context);
		listing->cursor = pstrdup(cursor);
		MemoryContextSwitchTo(old);
	}
	else if (angles_notion_is_complete(answer) || !goes_on(listing))
		link_ends(listing);
}

/* Hands a page on, with its properties in canonical form, or why they cannot be read. */
static void
pass_page(Listing *listing, const Link *link, const Action *action, JsonbContainer *page)
{
	StringInfoData row;
	StringInfoData values;
	StringInfoData problems;
	JsonbContainer *author = angles_json_get_container(page, "last_edited_by");
	char	   *by = author ? angles_json_get_text(author, "id") : NULL;
	char	   *edited = angles_json_get_text(page, "last_edited_time");
	char	   *id = angles_json_get_text(page, "id");

	id = id ? angles_notion_parse_id(id) : NULL;
	if (id == NULL)
		return;
	initStringInfo(&values);
	initStringInfo(&problems);
	for (int i = 0; i < link->n_columns; i++)
	{
		const AnglesColumn *column = &link->columns[i].c;
		JsonbContainer *property;
		bool		truncated = false;
		char	   *problem = NULL;
		char	   *canon;

		if (column->property_id == NULL || link->columns[i].problem != NULL ||
			(property = angles_notion_property(page, column)) == NULL)
			continue;
		canon = angles_codec_canon_remote(column, property, &truncated, &problem);
		if (canon != NULL && !truncated)
			append_member(&values, column->property_id, canon);
		else
			append_member(&problems, column->property_id,
						  truncated ? "Notion shows a part of it only" : problem);
	}
	initStringInfo(&row);
	appendStringInfo(&row, "{\"link\":%d,\"asked\":" INT64_FORMAT, link->id,
					 action->answer->sent_us);
	append_member(&row, "id", id);
	if (edited != NULL)
		append_member(&row, "edited", edited);
	if (by != NULL)
		append_member(&row, "by", by);
	appendStringInfo(&row, ",\"values\":{%s},\"problems\":{%s}}", values.data, problems.data);
	angles_call_pass(listing->call, row.data);
	if (edited != NULL && strlen(edited) > MINUTE_LEN)
		strlcpy(listing->last_edited, edited, sizeof(listing->last_edited));
	pfree(row.data);
	pfree(values.data);
	pfree(problems.data);
}

static void
append_member(StringInfo to, const char *name, const char *text)
{
	if (to->len > 0)
		appendStringInfoChar(to, ',');
	angles_json_append_string(to, name);
	appendStringInfoChar(to, ':');
	angles_json_append_string(to, text ? text : "");
}

/*
 * The answers end before all pages were shown: goes on with the minute of the last one. Returns
 * false when that would be the same question: more were edited in one minute than Notion shows.
 */
static bool
goes_on(Listing *listing)
{
	char	   *since = psprintf("%.*s:00.000Z", MINUTE_LEN, listing->last_edited);

	if (listing->last_edited[0] == '\0' || strcmp(since, listing->since) <= 0)
	{
		listing->whole = false;
		return false;
	}
	strlcpy(listing->since, since, sizeof(listing->since));
	listing->cursor = NULL;
	return true;
}

static void
link_ends(Listing *listing)
{
	angles_call_pass(listing->call,
					 psprintf("{\"link\":%d,\"begun\":" INT64_FORMAT ",\"whole\":%s}",
							  linitial_int(listing->links), listing->begun_us,
							  listing->whole ? "true" : "false"));
	listing->links = list_delete_first(listing->links);
	listing->begun = false;
}

static void
failed(Listing *listing, const Link *link, const NotionAnswer *answer)
{
	bool		passing = answer->verdict == NOTION_RETRY || answer->verdict == NOTION_IN_DOUBT ||
		answer->verdict == NOTION_CONFLICT;
	bool		refused = answer->verdict == NOTION_SCHEMA || answer->verdict == NOTION_REFUSED;
	MemoryContext old;

	if (refused && !listing->plain)
	{
		/* a property was removed: all of them are shown then; or the cursor has gone stale */
		listing->plain = true;
		listing->cursor = NULL;
		return;
	}
	if (passing && ++listing->failures < FAILURES_TO_END)
	{
		listing->due_us = angles_clock_mono_us() +
			angles_backoff_us(listing->failures, answer->retry_after_s);
		return;
	}
	old = MemoryContextSwitchTo(listing->context);
	listing->problem = psprintf("the pages of %s cannot be read: %s", angles_link_name(link),
								answer->message);
	listing->hint = "SELECT * FROM angles.check_notion() shows what Notion lets this token see.";
	MemoryContextSwitchTo(old);
}
