/*
 * setup.c
 *		What a link needs before its rows can flow: its Notion database, the ids of its properties,
 *		the pages that are there already, and the rows that were there before the link.
 *
 * Each link takes one step at a time. The steps of a link, and what each leaves behind durably, are
 * drawn in README.md; after a crash a link goes on from its state.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* Rows of a first push that are put into the queue at a time, and the backlog that is enough. */
#define PUSH_PART 1000
#define PUSH_ENOUGH 2000

typedef enum SetupStep
{
	STEP_CREATE_DATABASE = 1,
	STEP_SEARCH,				/* is there a database with our marker, made in doubt? */
	STEP_LOOK_AT_DATABASE,		/* one candidate of the search */
	STEP_NAMED_DATABASE,		/* the id given as a data source's may be a database's */
	STEP_READ_SCHEMA,
	STEP_ADD_PROPERTIES,
	STEP_LIST_PAGES
} SetupStep;

static bool has_setup_action(Engine *engine, int32 link_id);
static void plan_setup(Engine *engine, Link *link);
static void plan_create(Engine *engine, Link *link);
static void plan_push(Engine *engine, Link *link);
static bool reconcile_can_start(Link *link);
static Action *setup_action(Engine *engine, Link *link, SetupStep step);
static void launch(Engine *engine, Action *action, NotionRequest *request, MemoryContext old);
static Action *follow(Engine *engine, Link *link, SetupStep step, NotionRequest *request);
static char *minute_of(TimestampTz at);
static void put_off(Engine *engine, const Link *link, int64 delay_us);
static void settle_database(Engine *engine, Link *link, Action *action);
static void settle_named_database(Link *link, Action *action);
static void bind_children(const Link *link);
static void settle_search(Engine *engine, Link *link, Action *action);
static void settle_schema(Engine *engine, Link *link, Action *action);
static bool is_taken(const Link *link, int i, const char *id);
static void forget_property(Link *link, AnglesColumn *column);
static void settle_pages(Engine *engine, Link *link, Action *action);
static void settle_setup_failure(Engine *engine, Link *link, Action *action);
static void columns_of(Link *link, bool only_missing, List **columns, List **relations);
static void set_link(Link *link, const char *assignments, const char *a, const char *b);

void
angles_setup_step(Engine *engine)
{
	ListCell   *lc;
	int64		now = angles_clock_mono_us();

	engine->setup_pending = false;
	engine->setup_due_us = INT64_MAX;
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		LinkCounts *counts = angles_counts(engine, link->id);

		if (link->paused || link->fenced || link->problem != NULL ||
			(link->state == LINK_ACTIVE && !link->reconcile) ||
			has_setup_action(engine, link->id))
			continue;
		/* its unlink, or new keys, may still be in the log: it is set up after them */
		if (engine->fold_incomplete && link->state != LINK_ACTIVE)
			put_off(engine, link, USECS_PER_SEC / 20);
		else if (counts->setup_not_before_us <= now)
		{
			counts->setup_not_before_us = 0;
			if (!angles_link_lock(link))
				put_off(engine, link, USECS_PER_SEC / 5);
			else if (link->state != LINK_ACTIVE)
				plan_setup(engine, link);
			else if (reconcile_can_start(link))
				set_link(link, "state = 'pushing', push_cursor = NULL, push_done = 0,"
						 " push_started_at = NULL", NULL, NULL);
			else
				/* an older transaction is still open; nobody tells when it ends */
				put_off(engine, link, USECS_PER_SEC / 5);
			/* what was sent now goes on with its answer */
			if (has_setup_action(engine, link->id))
				continue;
		}
		engine->setup_pending = true;
		engine->setup_due_us = Min(engine->setup_due_us, counts->setup_not_before_us);
	}
}

/* The next step of this link's setup waits; that of others does not. */
static void
put_off(Engine *engine, const Link *link, int64 delay_us)
{
	angles_counts(engine, link->id)->setup_not_before_us = angles_clock_mono_us() + delay_us;
}

bool
angles_link_lock(const Link *link)
{
	static const char *const states[] = {"creating", "binding", "pushing", "active", "unlinked"};
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id), CStringGetTextDatum(states[link->state])};

	return angles_spi_exec(&plan,
						   "SELECT FROM angles.links WHERE id = $1 AND state = $2 AND NOT paused"
						   " FOR NO KEY UPDATE SKIP LOCKED",
						   2, types, values, NULL, SPI_OK_SELECT) > 0;
}

static bool
has_setup_action(Engine *engine, int32 link_id)
{
	dlist_head *lists[] = {&engine->ready[0], &engine->ready[1], &engine->flying, &engine->done};

	for (int l = 0; l < lengthof(lists); l++)
	{
		dlist_iter	iter;

		dlist_foreach(iter, lists[l])
		{
			Action	   *action = dlist_container(Action, node, iter.cur);

			if (action->kind == ACTION_SETUP && action->link_id == link_id)
				return true;
		}
	}
	return false;
}

static void
plan_setup(Engine *engine, Link *link)
{
	Action	   *action;
	MemoryContext old;

	switch (link->state)
	{
		case LINK_CREATING:
			plan_create(engine, link);
			break;
		case LINK_BINDING:
			action = setup_action(engine, link, STEP_READ_SCHEMA);
			old = MemoryContextSwitchTo(action->context);
			launch(engine, action, angles_notion_get_data_source(link->data_source_id), old);
			break;
		default:
			plan_push(engine, link);
			break;
	}
}

/*
 * Makes the database. The intent is committed before the request leaves; as long as it is there and
 * no database is known, a database with our marker may exist and is looked for first.
 */
static void
plan_create(Engine *engine, Link *link)
{
	static SPIPlanPtr intent = NULL;
	Oid			types[3] = {INT4OID, TIMESTAMPTZOID, INT8OID};
	Datum		values[3] = {Int32GetDatum(link->id), TimestampTzGetDatum(angles_clock_now()),
	Int64GetDatum((int64) angles_guc_notion_verify_window * 1000)};
	List	   *columns;
	List	   *relations;
	Action	   *action;
	char	   *mark;
	MemoryContext old;

	/*
	 * claims the right to create: no intent yet, or one that was looked into often and long enough
	 */
	if (angles_spi_exec(&intent,
						"UPDATE angles.links SET create_intent_at = $2, create_lookups = 0"
						" WHERE id = $1 AND (create_intent_at IS NULL OR create_lookups >= 2"
						"  AND create_intent_at + $3 * interval '1 microsecond' <= $2)",
						3, types, values, NULL, SPI_OK_UPDATE) == 0)
	{
		action = setup_action(engine, link, STEP_SEARCH);
		old = MemoryContextSwitchTo(action->context);
		launch(engine, action, angles_notion_search_data_sources(link->title), old);
		return;
	}
	columns_of(link, false, &columns, &relations);
	mark = angles_mark_text(link, angles_mark_own_epoch());
	action = setup_action(engine, link, STEP_CREATE_DATABASE);
	old = MemoryContextSwitchTo(action->context);
	launch(engine, action,
		   angles_notion_create_database(link->parent_id, link->title, mark, columns, relations),
		   old);
}

static Action *
setup_action(Engine *engine, Link *link, SetupStep step)
{
	Action	   *action = angles_action_make(engine, ACTION_SETUP, link->id);

	action->step = step;
	return action;
}

static void
launch(Engine *engine, Action *action, NotionRequest *request, MemoryContext old)
{
	action->request = request;
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
}

/* The step that comes of an answer. The request is made in the current context and copied. */
static Action *
follow(Engine *engine, Link *link, SetupStep step, NotionRequest *request)
{
	Action	   *action = setup_action(engine, link, step);
	MemoryContext old = MemoryContextSwitchTo(action->context);

	action->request = palloc(sizeof(NotionRequest));
	*action->request = *request;
	action->request->path = pstrdup(request->path);
	action->request->body = request->body ? pstrdup(request->body) : NULL;
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
	return action;
}

static char *
minute_of(TimestampTz at)
{
	return at == 0 ? NULL : angles_notion_minute(at);
}

/* Properties to make: all of the link, or only those Notion has not got yet. */
static void
columns_of(Link *link, bool only_missing, List **columns, List **relations)
{
	*columns = NIL;
	*relations = NIL;
	for (int i = 0; i < link->n_columns; i++)
	{
		SyncColumn *column = &link->columns[i];

		if (column->problem != NULL || (only_missing && column->c.property_id != NULL))
			continue;
		if (column->c.type == ANGLES_PROP_RELATION && column->ref_data_source == NULL)
			continue;
		*columns = lappend(*columns, &column->c);
		*relations = lappend(*relations, column->ref_data_source);
	}
}

/* ---- the rows that were there before ---- */

/*
 * A full compare begins when every transaction that was open when it was asked for has ended: one
 * of them may be the very one whose changes could not be captured. Takes the wish away when so.
 * Never at the first look: a commit is visible an instant before its invalidations arrive, and a
 * plan made before would not see a partition that it attached.
 */
static bool
reconcile_can_start(Link *link)
{
	static SPIPlanPtr ask = NULL;
	static SPIPlanPtr look = NULL;
	static SPIPlanPtr begin = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	/* written only with effect: each statement there makes the links be read anew */
	if (angles_spi_exec(&ask,
						"SELECT begins_after IS NULL,"
						" begins_after <= pg_snapshot_xmin(pg_current_snapshot())"
						" FROM angles.reconciles WHERE link_id = $1",
						1, types, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	if (strcmp(angles_spi_text(0, 1, CurrentMemoryContext), "t") == 0)
	{
		angles_spi_exec(&look,
						"UPDATE angles.reconciles"
						" SET begins_after = pg_snapshot_xmax(pg_current_snapshot())"
						" WHERE link_id = $1",
						1, types, values, NULL, SPI_OK_UPDATE);
		return false;
	}
	if (strcmp(angles_spi_text(0, 2, CurrentMemoryContext), "t") != 0)
		return false;
	angles_spi_exec(&begin, "DELETE FROM angles.reconciles WHERE link_id = $1",
					1, types, values, NULL, SPI_OK_DELETE);
	return true;
}

static void
plan_push(Engine *engine, Link *link)
{
	static SPIPlanPtr backlog = NULL;
	static SPIPlanPtr put = NULL;
	static SPIPlanPtr pages = NULL;
	static SPIPlanPtr cursor_plan = NULL;
	static SPIPlanPtr renames = NULL;
	Oid			types[3] = {INT4OID, TEXTARRAYOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id)};
	RowSet		keys = {0};
	char	   *cursor;
	ErrorData  *error;

	if (angles_spi_exec(&backlog,
						"SELECT FROM angles.queue_entries WHERE state = 'ready' AND priority = 1"
						" AND link_id = $1 LIMIT " CppAsString2(PUSH_ENOUGH),
						1, types, values, NULL, SPI_OK_SELECT) >= PUSH_ENOUGH)
	{
		/* they may be kept from going out: nobody tells when there are fewer */
		put_off(engine, link, USECS_PER_SEC / 20);
		return;
	}
	angles_spi_exec(&cursor_plan, "SELECT push_cursor FROM angles.links WHERE id = $1",
					1, types, values, NULL, SPI_OK_SELECT);
	cursor = angles_spi_text(0, 1, CurrentMemoryContext);
	/* a page that has not followed its row to a new key yet would be taken for nobody's */
	if (cursor == NULL &&
		angles_spi_exec(&renames,
						"SELECT FROM angles.change_log WHERE link_id = $1 AND op = 'K' LIMIT 1",
						1, types, values, NULL, SPI_OK_SELECT) > 0)
	{
		put_off(engine, link, USECS_PER_SEC / 5);
		return;
	}
	error = angles_load_keys(link, cursor, PUSH_PART, &keys);
	if (error != NULL)
	{
		angles_alert_open(psprintf("unreadable:%d", link->id), "critical",
						  psprintf("could not read %s: %s", angles_link_name(link),
								   error->message),
						  "The first push waits.",
						  "Give the table's owner the right to read it, or correct the filter.");
		angles_counts(engine, link->id)->unreadable = true;
		/* each try may take as long as reading may: the other tables wait meanwhile */
		put_off(engine, link, 5 * USECS_PER_SEC +
				angles_backoff_us(++angles_counts(engine, link->id)->setup_failures, -1));
		return;
	}
	if (keys.n > 0)
	{
		values[1] = angles_rows_keys(&keys);
		angles_spi_exec(&put,
						"INSERT INTO angles.queue_entries (link_id, key, seq, priority, state,"
						" enqueued_at) SELECT $1, k.key, nextval('angles.queue_seq'), 1, 'ready',"
						" clock_timestamp() FROM (SELECT key FROM unnest($2) WITH ORDINALITY"
						"  AS u (key, n) ORDER BY n) k ON CONFLICT (link_id, key) DO NOTHING",
						2, types, values, NULL, SPI_OK_INSERT);
		set_link(link, "push_cursor = $2, push_done = push_done + $3::bigint,"
				 " push_started_at = COALESCE(push_started_at, clock_timestamp())",
				 TextDatumGetCString(keys.keys[keys.n - 1]), psprintf("%d", keys.n));
	}
	if (keys.n < PUSH_PART)
	{
		/* pages whose rows have gone meanwhile: they are planned as deletions, within the limit */
		angles_spi_exec(&pages,
						"INSERT INTO angles.queue_entries (link_id, key, seq, priority, state,"
						" enqueued_at) SELECT link_id, key, nextval('angles.queue_seq'), 1, "
						"'ready',"
						" clock_timestamp() FROM angles.pages WHERE link_id = $1"
						" AND state IN ('live', 'intent') ON CONFLICT (link_id, key) DO NOTHING",
						1, types, values, NULL, SPI_OK_INSERT);
		set_link(link, "state = 'active', push_cursor = NULL", NULL, NULL);
	}
	engine->more[PRIORITY_BACKLOG] = true;
}

/* ---- answers ---- */

void
angles_setup_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);

	/* an answer that is dropped here is asked for again; a database made is found by its mark */
	if (link == NULL || !angles_link_lock(link))
		return;
	if (action->answer->verdict != NOTION_DONE)
	{
		settle_setup_failure(engine, link, action);
		return;
	}
	angles_counts(engine, link->id)->setup_failures = 0;
	angles_alert_close(psprintf("setup:%d", link->id));
	switch ((SetupStep) action->step)
	{
		case STEP_CREATE_DATABASE:
		case STEP_LOOK_AT_DATABASE:
			settle_database(engine, link, action);
			break;
		case STEP_NAMED_DATABASE:
			settle_named_database(link, action);
			break;
		case STEP_SEARCH:
			settle_search(engine, link, action);
			break;
		case STEP_READ_SCHEMA:
		case STEP_ADD_PROPERTIES:
			settle_schema(engine, link, action);
			break;
		case STEP_LIST_PAGES:
			settle_pages(engine, link, action);
			break;
	}
}

/* A database object: the one just made, or a candidate that must carry our marker. */
static void
settle_database(Engine *engine, Link *link, Action *action)
{
	JsonbContainer *database = &action->answer->json->root;
	JsonbContainer *description = angles_json_get_container(database, "description");
	JsonbContainer *first = angles_json_element(angles_json_get_container(database, "data_sources"),
												0);
	char	   *id = angles_json_get_text(database, "id");
	char	   *source = first ? angles_json_get_text(first, "id") : NULL;

	if (action->step == STEP_LOOK_AT_DATABASE &&
		(description == NULL || strstr(angles_codec_plain_text(description), link->marker) == NULL))
		return;
	if (id == NULL || source == NULL)
	{
		set_link(link, "paused = true, pause_reason = $2",
				 "Notion's answer names no data source of the new database", NULL);
		return;
	}
	set_link(link, "state = 'binding', database_id = $2::uuid, data_source_id = $3::uuid,"
			 " create_intent_at = NULL", id, source);
	bind_children(link);
}

/*
 * Tables that reference this one and were set up before it had a data source lack the relation:
 * they are bound anew, which makes it.
 */
static void
bind_children(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {OIDOID, INT4OID};
	Datum		values[2] = {ObjectIdGetDatum(link->relid), Int32GetDatum(link->id)};

	angles_spi_exec(&plan,
					"UPDATE angles.links SET state = 'binding', push_cursor = NULL, push_done = 0"
					" WHERE id IN (SELECT l.id FROM angles.links l"
					"  WHERE l.state IN ('pushing', 'active') AND l.id <> $2"
					"  AND EXISTS (SELECT FROM angles.link_columns c WHERE c.link_id = l.id"
					"   AND c.ref_relid = $1 AND c.property_id IS NULL)"
					"  FOR NO KEY UPDATE SKIP LOCKED)",
					2, types, values, NULL, SPI_OK_UPDATE);
}

/*
 * In the address of a database stands the database's id, and people give that one. With one data
 * source in it there is no doubt which is meant.
 */
static void
settle_named_database(Link *link, Action *action)
{
	JsonbContainer *sources = angles_json_get_container(&action->answer->json->root,
														"data_sources");
	int			n = sources ? JsonContainerSize(sources) : 0;
	JsonbContainer *first = n > 0 ? angles_json_element(sources, 0) : NULL;
	char	   *source = first ? angles_json_get_text(first, "id") : NULL;

	if (n == 1 && source != NULL && angles_notion_parse_id(source) != NULL)
		set_link(link, "database_id = data_source_id, data_source_id = $2::uuid", source, NULL);
	else
		set_link(link, "paused = true, pause_reason = $2",
				 psprintf("%s is the id of a database with %d data sources; unlink, then link with "
						  "the id of one of them", link->data_source_id, n), NULL);
}

/* Candidates are looked at one by one: what a search tells does not hold the description. */
static void
settle_search(Engine *engine, Link *link, Action *action)
{
	JsonbContainer *results = angles_json_get_container(&action->answer->json->root, "results");
	int			n = results ? JsonContainerSize(results) : 0;

	set_link(link, "create_lookups = create_lookups + 1", NULL, NULL);
	put_off(engine, link, (int64) angles_guc_notion_verify_window * 1000 / 3);
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *source = angles_json_element(results, i);
		JsonbContainer *parent = source ? angles_json_get_container(source, "parent") : NULL;
		char	   *database = parent ? angles_json_get_text(parent, "database_id") : NULL;

		if (database != NULL && angles_notion_parse_id(database) != NULL)
			follow(engine, link, STEP_LOOK_AT_DATABASE, angles_notion_get_database(database));
	}
}

/* Takes the property ids; makes the properties that are missing; then lists the pages. */
static void
settle_schema(Engine *engine, Link *link, Action *action)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[4] = {INT4OID, TEXTOID, TEXTOID, TEXTOID};
	JsonbContainer *source = &action->answer->json->root;
	List	   *columns;
	List	   *relations;

	for (int i = 0; i < link->n_columns; i++)
	{
		AnglesColumn *column = &link->columns[i].c;
		JsonbContainer *property = angles_notion_property(source, column);
		char	   *id;
		char	   *problem;

		/* removed in Notion since: another one may have its name, else it is made anew below */
		if (property == NULL && column->property_id != NULL)
		{
			forget_property(link, column);
			property = angles_notion_property(source, column);
		}
		id = property ? angles_json_get_text(property, "id") : NULL;
		/* one that was renamed to the name of a removed one is another column's */
		if (id == NULL || (column->property_id == NULL && is_taken(link, i, id)))
			continue;
		problem = angles_schema_problem(column, property);
		Datum		values[4] = {Int32GetDatum(link->id),
			CStringGetTextDatum(column->property_name),
			CStringGetTextDatum(id),
		problem ? CStringGetTextDatum(problem) : (Datum) 0};

		column->property_id = id;
		angles_spi_exec(&plan,
						"UPDATE angles.link_columns SET property_id = $3, notion_problem = $4"
						" WHERE link_id = $1 AND property_name = $2"
						" AND (property_id, notion_problem) IS DISTINCT FROM ($3, $4)",
						4, types, values, problem ? "    " : "   n", SPI_OK_UPDATE);
	}
	angles_poll_begin(link, action->answer->server_date);
	columns_of(link, true, &columns, &relations);
	if (columns != NIL && action->step == STEP_READ_SCHEMA)
		follow(engine, link, STEP_ADD_PROPERTIES,
			   angles_notion_add_properties(link->data_source_id, columns, relations));
	else if (link->key_column->c.property_id == NULL)
		set_link(link, "paused = true, pause_reason = $2",
				 psprintf("Notion has not made the property \"%s\"",
						  link->key_column->c.property_name), NULL);
	else
		follow(engine, link, STEP_LIST_PAGES,
			   angles_notion_list_pages(link->data_source_id, NULL, NULL, NIL));
}

/* Whether the property belongs to another column of the link. */
static bool
is_taken(const Link *link, int i, const char *id)
{
	for (int j = 0; j < link->n_columns; j++)
		if (j != i && link->columns[j].c.property_id != NULL &&
			strcmp(link->columns[j].c.property_id, id) == 0)
			return true;
	return false;
}

static void
forget_property(Link *link, AnglesColumn *column)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id), CStringGetTextDatum(column->property_name)};

	column->property_id = NULL;
	angles_spi_exec(&plan,
					"UPDATE angles.link_columns SET property_id = NULL"
					" WHERE link_id = $1 AND property_name = $2",
					2, types, values, NULL, SPI_OK_UPDATE);
}

/*
 * Pages that carry a key are the rows' from now on: a link made anew makes no page twice. Where
 * changes go both ways they are compared with their rows before, and pages without a row get one.
 */
static void
settle_pages(Engine *engine, Link *link, Action *action)
{
	JsonbContainer *answer = &action->answer->json->root;
	JsonbContainer *results = angles_json_get_container(answer, "results");
	char	   *cursor = angles_json_get_text(answer, "next_cursor");
	int			n = results ? JsonContainerSize(results) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);

		if (page != NULL)
			angles_settle_known_page(engine, link, page);
	}
	/* also what was changed there while nobody asked, for instance before a dump was restored */
	if (link->inbound && n > 0)
		angles_compare_pages(engine, link, action, results);
	if (angles_json_get_bool(answer, "has_more", false) && cursor != NULL)
	{
		follow(engine, link, STEP_LIST_PAGES,
			   angles_notion_list_pages(link->data_source_id, minute_of(action->epoch), cursor,
										NIL))->epoch = action->epoch;
		return;
	}
	/* a query ends after 10,000 pages: another one goes on with the minute where it ended */
	if (!angles_notion_is_complete(answer))
	{
		TimestampTz last = n > 0 ? angles_notion_time(angles_json_element(results, n - 1),
													  "created_time") : 0;

		last -= last % USECS_PER_MINUTE;
		if (last > action->epoch)
			follow(engine, link, STEP_LIST_PAGES,
				   angles_notion_list_pages(link->data_source_id, minute_of(last), NULL,
											NIL))->epoch = last;
		else
			set_link(link, "paused = true, pause_reason = $2",
					 "more pages were made in one minute than Notion shows", NULL);
		return;
	}
	set_link(link, "state = 'pushing', push_cursor = NULL, push_done = 0", NULL, NULL);
}

static void
settle_setup_failure(Engine *engine, Link *link, Action *action)
{
	NotionAnswer *answer = action->answer;
	LinkCounts *counts = angles_counts(engine, link->id);
	char	   *name = angles_link_name(link);

	switch (answer->verdict)
	{
		case NOTION_IN_DOUBT:
		case NOTION_CONFLICT:
		case NOTION_RETRY:
		case NOTION_LIMITED:
		case NOTION_BLOCKED:
		case NOTION_UNAUTHORIZED:
			/* a create that surely never arrived leaves no doubt behind */
			if (action->step == STEP_CREATE_DATABASE && answer->verdict != NOTION_IN_DOUBT &&
				answer->verdict != NOTION_CONFLICT)
				set_link(link, "create_intent_at = NULL", NULL, NULL);
			put_off(engine, link,
					angles_backoff_us(++counts->setup_failures, answer->retry_after_s));
			return;
		case NOTION_GONE:
			if (action->step == STEP_READ_SCHEMA && link->database_id == NULL)
			{
				follow(engine, link, STEP_NAMED_DATABASE,
					   angles_notion_get_database(link->data_source_id));
				return;
			}
			break;
		default:
			break;
	}
	if (action->step == STEP_LOOK_AT_DATABASE)
		return;
	if (action->step == STEP_CREATE_DATABASE)
		set_link(link, "create_intent_at = NULL", NULL, NULL);
	set_link(link, "paused = true, pause_reason = $2", answer->message, NULL);
	angles_alert_open(psprintf("setup:%d", link->id), "critical",
					  psprintf("the link of %s could not be set up", name), answer->message,
					  psprintf("Share the parent page or data source with the connection, then "
							   "SELECT angles.resume(%s).", quote_literal_cstr(name)));
}

/* Updates the link's row; $2 and $3 are texts for "assignments", which is never foreign text. */
static void
set_link(Link *link, const char *assignments, const char *a, const char *b)
{
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id), a ? CStringGetTextDatum(a) : (Datum) 0,
	b ? CStringGetTextDatum(b) : (Datum) 0};
	char		nulls[4] = {' ', a ? ' ' : 'n', b ? ' ' : 'n', '\0'};
	char	   *sql = psprintf("UPDATE angles.links SET %s, changed_at = clock_timestamp()"
							   " WHERE id = $1 AND ($2 IS NULL OR true) AND ($3 IS NULL OR true)",
							   assignments);

	if (SPI_execute_with_args(sql, 3, types, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update link %d", link->id);
}
