/*
 * newpages.c
 *		Pages that no row has: what people add in Notion, and copies they make there. Runs in the
 *		sync worker; rows are made by apply workers (applypage.c).
 *
 * Such a page is written down by its id at the first sight, so that however often it is shown, and
 * whoever dies meanwhile, one row comes of it. It goes by the key that it carries where no other
 * page has that, or else by a name that no row has.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "sync/merge.h"
#include "worker/worker.h"

/* What is known of the key that a page carries. */
typedef enum KeyOwner
{
	KEY_FREE,					/* no page has it */
	KEY_COMING,					/* a page with it is being made, or may have been */
	KEY_TAKEN					/* by another page */
} KeyOwner;

static char *page_values(Link *link, JsonbContainer *page, char **key, bool *blank);
static KeyOwner owner_of(int32 link_id, const char *key, const char *id);
static bool is_ours(Engine *engine, Link *link, JsonbContainer *page, bool *told);
static void tell_of_double(const Link *link, const char *id, const char *key);
static void hold(const Link *link, const char *id, const char *key);
static bool write_down(const Link *link, const char *id, const char *key);

bool
angles_new_pages(Engine *engine, Link *link, JsonbContainer *results, char **ids,
				 const bool *unknown, Jsonb **noted, bool binding, News *news)
{
	int			n = JsonContainerSize(results);
	bool		all = true;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *page = angles_json_element(results, i);
		JsonbContainer *author;
		KeyOwner	owner = KEY_FREE;
		TimestampTz edited;
		bool		blank = true;
		bool		told = true;
		char	   *key = NULL;
		char	   *values;

		if (!unknown[i] || ids[i] == NULL || page == NULL)
			continue;
		values = page_values(link, page, &key, &blank);
		/* somebody has just made it and has written nothing yet */
		if (blank)
			continue;
		if (noted[i] != NULL && angles_merge_equal(noted[i], angles_codec_parse(values)))
			continue;
		if (key != NULL)
			owner = owner_of(link->id, key, ids[i]);
		if (owner == KEY_COMING)
			continue;
		/* what is there before a link may be of an earlier one, for rows of that time */
		if (key != NULL && !(owner == KEY_FREE && binding) && noted[i] == NULL &&
			is_ours(engine, link, page, &told))
		{
			all = all && told;
			if (told && owner == KEY_TAKEN)
				tell_of_double(link, ids[i], key);
			else if (told)
				hold(link, ids[i], key);
			continue;
		}
		if (!write_down(link, ids[i], owner == KEY_FREE && key != NULL ? key
						: psprintf("\001new:%s", ids[i])))
		{
			all = false;
			continue;
		}
		angles_rows_add(&news->changed, link->id, ids[i]);
		angles_rows_text(&news->changed, 0, values);
		edited = angles_notion_time(page, "last_edited_time");
		angles_rows_text(&news->changed, 1,
						 pstrdup(timestamptz_to_str(edited ? edited : angles_clock_now())));
		author = angles_json_get_container(page, "created_by");
		angles_rows_text(&news->changed, 2, author ? angles_json_get_text(author, "id") : NULL);
		angles_rows_text(&news->changed, 3, "new");
	}
	return all;
}

/*
 * Returns all properties that can be read as a JSON object by id. *key: the key it carries, NULL:
 * none. *blank: it holds nothing at all.
 */
static char *
page_values(Link *link, JsonbContainer *page, char **key, bool *blank)
{
	StringInfoData buf;
	int			n = 0;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
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
		if (canon == NULL || truncated)
			continue;
		*blank = *blank && angles_codec_is_empty(canon);
		if (link->columns[i].is_key)
		{
			JsonbContainer *text = angles_json_get_container(property,
															 angles_codec_type_name(column->type));

			*key = text ? angles_codec_plain_text(text) : NULL;
			if (*key != NULL && ((*key)[0] == '\0' || (*key)[0] == '\001'))
				*key = NULL;
		}
		appendStringInfo(&buf, "%s", n++ ? "," : "");
		angles_json_append_string(&buf, column->property_id);
		appendStringInfo(&buf, ":%s", canon);
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/* Who has the key, besides the page of this id. */
static KeyOwner
owner_of(int32 link_id, const char *key, const char *id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link_id), CStringGetTextDatum(key),
	CStringGetTextDatum(id)};

	if (angles_spi_exec(&plan,
						"SELECT bool_or(state = 'intent') FROM angles.pages"
						" WHERE link_id = $1 AND (key = $2 OR sent_key = $2)"
						" AND page_id IS DISTINCT FROM $3::uuid HAVING count(*) > 0",
						3, types, values, NULL, SPI_OK_SELECT) == 0)
		return KEY_FREE;
	return strcmp(angles_spi_text(0, 1, CurrentMemoryContext), "t") == 0 ? KEY_COMING : KEY_TAKEN;
}

/*
 * Whether a page that carries a key was made by this connection: a create that was given up too
 * early, or whose row is gone by now. A copy is made by a person. *told: false while it is not
 * known which user this connection is.
 */
static bool
is_ours(Engine *engine, Link *link, JsonbContainer *page, bool *told)
{
	JsonbContainer *creator = angles_json_get_container(page, "created_by");
	char	   *by = creator ? angles_json_get_text(creator, "id") : NULL;
	bool		is_me;

	if (!angles_is_me(engine, link, by, &is_me))
		*told = false;
	return is_me;
}

bool
angles_is_me(Engine *engine, Link *link, const char *user_id, bool *is_me)
{
	Action	   *action;
	MemoryContext old;

	*is_me = engine->bot_id == NULL ||
		(user_id != NULL && strcmp(user_id, engine->bot_id) == 0);
	if (engine->bot_id != NULL)
		return true;
	if (engine->bot_asked)
		return false;
	action = angles_action_make(engine, ACTION_ME, link->id);
	old = MemoryContextSwitchTo(action->context);
	action->request = angles_notion_me();
	MemoryContextSwitchTo(old);
	engine->bot_asked = true;
	angles_action_ready_first(engine, action);
	return false;
}

static void
tell_of_double(const Link *link, const char *id, const char *key)
{
	angles_alert_open(psprintf("duplicate:%d:%s", link->id, key), "warning",
					  psprintf("two pages in Notion carry the same key of table %s",
							   angles_link_name(link)),
					  psprintf("The younger one is %s.", id), "Remove the copy in Notion.");
}

/* Its row may have been deleted before the page was seen: a person decides. */
static void
hold(const Link *link, const char *id, const char *key)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id), CStringGetTextDatum(key),
	CStringGetTextDatum(id)};

	angles_spi_exec(&plan,
					"INSERT INTO angles.pages (link_id, key, page_id, state, removed_at, pending,"
					"  note) SELECT $1, $2, $3::uuid, 'restored', clock_timestamp(), 'held',"
					"  'its page was made by this server, and there is no such row'"
					/* the row may be there, and its page only not known */
					" WHERE NOT EXISTS (SELECT FROM angles.queue_entries q"
					"  WHERE q.link_id = $1 AND q.key = $2) ON CONFLICT DO NOTHING",
					3, types, values, NULL, SPI_OK_INSERT);
	angles_removed_alert(link);
}

void
angles_new_pages_settle_me(Engine *engine, Action *action)
{
	char	   *id;

	engine->bot_asked = false;
	if (action->answer->verdict != NOTION_DONE)
		return;
	id = angles_json_get_text(&action->answer->json->root, "id");
	if (id != NULL)
		engine->bot_id = MemoryContextStrdup(engine->context, id);
}

/*
 * Returns false when an apply worker has given the key away just now: told later. A page that is
 * known goes by the key that it carries by now.
 */
static bool
write_down(const Link *link, const char *id, const char *key)
{
	static SPIPlanPtr fresh = NULL;
	static SPIPlanPtr known = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id), CStringGetTextDatum(key),
	CStringGetTextDatum(id)};

	if (angles_spi_exec(&fresh,
						"INSERT INTO angles.pages (link_id, key, page_id, state)"
						" VALUES ($1, $2, $3::uuid, 'new') ON CONFLICT DO NOTHING",
						3, types, values, NULL, SPI_OK_INSERT) > 0)
		return true;
	/* one of another link has no row there any more, or it would not have come so far */
	return angles_spi_exec(&known,
						   "UPDATE angles.pages p SET link_id = $1, key = $2, state = 'new',"
						   " base = '{}', base_local = '{}', held = NULL, removed_as = NULL,"
						   " removed_at = NULL, pending = NULL, note = NULL, synced_at = NULL,"
						   " applied_at = NULL"
						   " WHERE p.page_id = $3::uuid AND (p.link_id <> $1 OR p.state = 'new')"
						   " AND NOT EXISTS (SELECT FROM angles.pages o WHERE o.link_id = $1"
						   "  AND o.key = $2 AND o.page_id IS DISTINCT FROM p.page_id)",
						   3, types, values, NULL, SPI_OK_UPDATE) > 0;
}
