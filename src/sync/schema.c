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
#include "worker/worker.h"

static bool check_columns(Link *link, JsonbContainer *source, RowSet *changed, bool *back);
static void write_columns(const Link *link, const RowSet *changed);
static void pause_link(const Link *link);

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
	bool		key_is_there;

	counts->schema_flying = false;
	if (link == NULL || !angles_link_sends(link) || action->answer->verdict != NOTION_DONE ||
		angles_json_get_container(&action->answer->json->root, "properties") == NULL ||
		/* a session is altering it: the properties are read anew after that */
		!angles_link_lock(link))
		return;
	key_is_there = check_columns(link, &action->answer->json->root, &changed, &back);
	if (changed.n > 0)
		write_columns(link, &changed);
	if (!key_is_there)
		pause_link(link);
	/* what was changed here while it could not be written */
	if (back)
		angles_reconcile_wanted(link->id);
	counts->poll_plain = false;
}

char *
angles_schema_problem(const AnglesColumn *column, JsonbContainer *property)
{
	char	   *type = property ? angles_json_get_text(property, "type") : NULL;

	if (type == NULL && column->type == ANGLES_PROP_RELATION)
		return psprintf("relation \"%s\" is not shown in Notion: it was removed, or the database "
						"it points to is not shared with the connection",
						column->property_name);
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
 * the problem. Returns whether the key's property is there.
 */
static bool
check_columns(Link *link, JsonbContainer *source, RowSet *changed, bool *back)
{
	bool		key_is_there = true;

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
		problem = angles_schema_problem(&column->c, property);
		if (column->is_key && problem != NULL)
			key_is_there = false;
		if ((problem == NULL) == (column->notion_problem == NULL) &&
			(name == NULL || strcmp(name, column->c.property_name) == 0))
			continue;
		*back = *back || (problem == NULL && column->notion_problem != NULL);
		angles_rows_add(changed, link->id, column->c.property_id);
		angles_rows_text(changed, 0, name ? name : column->c.property_name);
		angles_rows_text(changed, 1, problem);
	}
	return key_is_there;
}

/* Names are exchanged at times: all of them go out of each other's way first. */
static void
write_columns(const Link *link, const RowSet *changed)
{
	static SPIPlanPtr aside = NULL;
	static SPIPlanPtr named = NULL;
	Oid			types[4] = {INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[4] = {Int32GetDatum(link->id), angles_rows_keys(changed),
	angles_rows_extra(changed, 0), angles_rows_extra(changed, 1)};

	angles_spi_exec(&aside,
					"UPDATE angles.link_columns SET property_name = E'\\001' || property_id"
					" WHERE link_id = $1 AND property_id = ANY ($2)",
					2, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&named,
					"UPDATE angles.link_columns c SET property_name = u.name,"
					" notion_problem = u.problem FROM unnest($2, $3, $4) AS u (id, name, problem)"
					" WHERE c.link_id = $1 AND c.property_id = u.id",
					4, types, values, NULL, SPI_OK_UPDATE);
}

/* Without its key in it a page would never be found again. */
static void
pause_link(const Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id),
		CStringGetTextDatum(psprintf("the property by which pages find their rows: %s",
									 angles_schema_problem(&link->key_column->c, NULL)))};
	char	   *name = angles_link_name(link);

	angles_spi_exec(&plan,
					"UPDATE angles.links SET paused = true, pause_reason = $2,"
					" changed_at = clock_timestamp() WHERE id = $1 AND NOT paused",
					2, types, values, NULL, SPI_OK_UPDATE);
	angles_alert_open(psprintf("setup:%d", link->id), "critical",
					  psprintf("the key property of %s is gone from Notion", name),
					  "Nothing is sent: no page would be found again.",
					  psprintf("SELECT * FROM angles.alter_link(%s) makes it again.",
							   quote_literal_cstr(name)));
}
