/*
 * schema.c
 *		What people do to the properties of a linked data source in Notion. A renamed property keeps
 *		its id, and its column follows it. One that was removed, or has another type, pauses that
 *		column alone, until it is back or the link is altered. Runs in the sync worker.
 *
 * The schema is read when all pages are listed, and when Notion refuses a property.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"

static void check_columns(Link *link, JsonbContainer *source, RowSet *changed, bool *back);
static bool has_name(JsonbContainer *source, const char *name);
static void write_columns(const Link *link, const RowSet *changed);
static void free_parked(Engine *engine, const Link *link);

void
angles_schema_ask(Engine *engine, Link *link)
{
	LinkCounts *counts = angles_counts(engine, link->id);
	Action	   *action;
	MemoryContext old;

	if (counts->schema_flying)
		return;
	counts->schema_flying = true;
	action = angles_action_make(engine, ACTION_SCHEMA, link->id);
	/* it stands for nothing in the database: no commit has to come first */
	action->transaction = 0;
	old = MemoryContextSwitchTo(action->context);
	action->request = angles_notion_get_data_source(link->data_source_id);
	MemoryContextSwitchTo(old);
	angles_action_ready_first(engine, action);
}

void
angles_schema_settle(Engine *engine, Action *action)
{
	Link	   *link = angles_link_find(action->link_id);
	LinkCounts *counts = angles_counts(engine, action->link_id);
	RowSet		changed = {0};
	bool		back = false;

	counts->schema_flying = false;
	if (link == NULL || !angles_link_sends(link) || action->answer->verdict != NOTION_DONE ||
		angles_json_get_container(&action->answer->json->root, "properties") == NULL ||
		/* a session is altering it: the properties are read anew after that */
		!angles_link_lock(link))
		return;
	check_columns(link, &action->answer->json->root, &changed, &back);
	if (changed.n == 0)
		return;
	write_columns(link, &changed);
	free_parked(engine, link);
	/* what was changed here while it could not be written */
	if (back)
		angles_reconcile_wanted(link->id);
	counts->poll_plain = false;
}

/* Rows that Notion refused because of a property go without it now, or with it as it is. */
static void
free_parked(Engine *engine, const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	angles_spi_exec(&plan,
					"UPDATE angles.queue_entries SET state = 'ready', attempts = 0,"
					" next_at = NULL, parked_at = NULL, class = NULL, code = NULL, message = NULL,"
					" hint = NULL, seq = nextval('angles.queue_seq')"
					" WHERE link_id = $1 AND state = 'parked' AND class = '" ENTRY_SCHEMA "'",
					1, types, values, NULL, SPI_OK_UPDATE);
	engine->more[0] = engine->more[1] = true;
}

char *
angles_schema_problem(const AnglesColumn *column, JsonbContainer *property)
{
	char	   *type = property ? angles_json_get_text(property, "type") : NULL;

	if (type == NULL && column->type == ANGLES_PROP_RELATION)
		return psprintf("relation \"%s\" is not shown in Notion: it was removed, or the database "
						"it points to is not shared with the connection",
						column->property_name);
	if (type == NULL && column->attnum == 0)
		return psprintf("property \"%s\", by which pages find their rows, was removed in Notion; "
						"angles.alter_link() makes it again", column->property_name);
	if (type == NULL)
		return psprintf("property \"%s\" was removed in Notion; angles.alter_link() makes it "
						"again, or leaves the column out with mapping => '{\"%s\": null}'",
						column->property_name, column->name);
	if (strcmp(type, angles_codec_type_name(column->type)) == 0)
		return NULL;
	return psprintf("property \"%s\" is %s in Notion, not %s; change it back there, or give the "
					"column another property: angles.alter_link(..., mapping => ...)",
					column->property_name, type, angles_codec_type_name(column->type));
}

/*
 * Collects columns of which something is not as it was: keys are property ids, extras the name and
 * the problem.
 */
static void
check_columns(Link *link, JsonbContainer *source, RowSet *changed, bool *back)
{
	for (int i = 0; i < link->n_columns; i++)
	{
		SyncColumn *column = &link->columns[i];
		JsonbContainer *property;
		char	   *name;
		char	   *problem;

		if (column->c.property_id == NULL)
			continue;
		property = angles_notion_property(source, &column->c);
		name = property ? angles_json_get_text(property, "name") : NULL;
		/* the name of one that was removed may be another one's by now */
		if (property == NULL && has_name(source, column->c.property_name))
			name = psprintf("%s (%s, removed)", column->c.property_name, column->c.name);
		problem = angles_schema_problem(&column->c, property);
		if ((problem == NULL ? column->notion_problem == NULL
			 : column->notion_problem != NULL && strcmp(problem, column->notion_problem) == 0) &&
			(name == NULL || strcmp(name, column->c.property_name) == 0))
			continue;
		*back = *back || (problem == NULL && column->notion_problem != NULL);
		angles_rows_add(changed, link->id, column->c.property_id);
		angles_rows_text(changed, 0, name ? name : column->c.property_name);
		angles_rows_text(changed, 1, problem);
	}
}

static bool
has_name(JsonbContainer *source, const char *name)
{
	JsonbContainer *properties = angles_json_get_container(source, "properties");

	return properties != NULL && angles_json_get_container(properties, name) != NULL;
}

/*
 * Names are exchanged at times, and that of a removed property is given to another one: all of them
 * go out of each other's way first.
 */
static void
write_columns(const Link *link, const RowSet *changed)
{
	static SPIPlanPtr aside = NULL;
	static SPIPlanPtr removed = NULL;
	static SPIPlanPtr named = NULL;
	Oid			types[4] = {INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[4] = {Int32GetDatum(link->id), angles_rows_keys(changed),
	angles_rows_extra(changed, 0), angles_rows_extra(changed, 1)};

	angles_spi_exec(&aside,
					"UPDATE angles.link_columns SET property_name = E'\\001' || property_id"
					" WHERE link_id = $1 AND property_id = ANY ($2)",
					2, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&removed,
					"UPDATE angles.link_columns"
					" SET property_name = property_name || ' (' || attname || ', removed)'"
					" WHERE link_id = $1 AND property_name = ANY ($3)"
					" AND (property_id IS NULL OR property_id <> ALL ($2))"
					" AND $4 IS NOT NULL",
					4, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&named,
					"UPDATE angles.link_columns c SET property_name = u.name,"
					" notion_problem = u.problem FROM unnest($2, $3, $4) AS u (id, name, problem)"
					" WHERE c.link_id = $1 AND c.property_id = u.id",
					4, types, values, NULL, SPI_OK_UPDATE);
}
