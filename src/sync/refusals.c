/*
 * refusals.c
 *		Tells people in Notion why the table did not take what they typed: on a property of the page
 *		and, where that is wanted, in a comment. Runs in the sync worker; angles.report_refusals()
 *		asks for it.
 *
 * The property is of no column, so nothing that is written here is ever news. To write it twice
 * does no harm. A comment must not come twice: that it is sent is noted, durably, before it leaves,
 * and taken back only when it surely was not written.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/txn.h"
#include "net/net.h"
#include "sync/engine.h"
#include "sync/inbound.h"
#include "worker/worker.h"

/* Failures in a row after which the property is left alone until a person says so again. */
#define PATIENCE 5

/* A select's option has no comma and at most 100 characters: see notion/README.md. */
#define LONGEST_OPTION 100

typedef enum TellStep
{
	TELL_SOURCE = 1,			/* is the property there? */
	TELL_ADD,					/* it is made */
	TELL_STATUS,
	TELL_COMMENT
} TellStep;

/* Where a link tells of refusals. */
typedef struct TellPlace
{
	char	   *property;		/* NULL: on none, or not any more */
	char	   *property_id;
	char	   *property_type;
	bool		comments;
} TellPlace;

static void be_back(Engine *engine, int64 due_us);
static bool read_place(const Link *link, TellPlace *place);
static void note_refusals(const Link *link);
static void tell_next(Engine *engine, Link *link, const TellPlace *place);
static void tell_status(Engine *engine, Link *link, const TellPlace *place, const char *page_id,
						const char *sentence);
static void tell_comment(Engine *engine, Link *link, const char *page_id, const char *sentence);
static Action *tell_action(Engine *engine, Link *link, TellStep step);
static void make_property(Engine *engine, Link *link, const TellPlace *place);
static void property_there(Engine *engine, Link *link, Action *action);
static void property_fails(Engine *engine, Link *link, Action *action);
static void told(const Link *link, const char *page_id, const char *sentence);
static void later(const Link *link, const char *page_id, const NotionAnswer *answer);
static void forget_page(const Link *link, const char *page_id);
static void give_up(const Link *link, bool comments, const char *why);
static char *fingerprint_of(const Link *link, const char *what);

void
angles_refusals_step(Engine *engine)
{
	ListCell   *lc;

	engine->tell_due_us = 0;
	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);
		LinkCounts *counts;
		TellPlace	place = {0};

		if (!link->tells_refusals || !angles_is_polled(link) || link->unreachable != NULL ||
			!angles_mark_allows(engine, link))
			continue;
		counts = angles_counts(engine, link->id);
		note_refusals(link);
		if (counts->tell_not_before_us > angles_clock_mono_us())
			be_back(engine, counts->tell_not_before_us);
		else if (!counts->telling && read_place(link, &place))
			tell_next(engine, link, &place);
		angles_keep_sending(engine);
	}
}

static void
be_back(Engine *engine, int64 due_us)
{
	engine->tell_due_us = engine->tell_due_us == 0 ? due_us : Min(engine->tell_due_us, due_us);
}

static bool
read_place(const Link *link, TellPlace *place)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};
	MemoryContext cxt = CurrentMemoryContext;

	if (angles_spi_exec(&plan,
						"SELECT CASE WHEN property_problem IS NULL THEN property END,"
						" property_id, property_type, comments AND comments_problem IS NULL,"
						" property_problem IS NULL AND EXISTS (SELECT"
						"  FROM angles.link_columns c WHERE c.link_id = s.link_id"
						"  AND (lower(c.property_name) = lower(s.property)"
						"   OR c.property_id = s.property_id))"
						" FROM angles.refusal_settings s WHERE link_id = $1",
						1, types, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	place->property = angles_spi_text(0, 1, cxt);
	place->property_id = angles_spi_text(0, 2, cxt);
	place->property_type = angles_spi_text(0, 3, cxt);
	place->comments = strcmp(angles_spi_text(0, 4, cxt), "t") == 0;
	/* it was mapped since: what stands there is a user's */
	if (strcmp(angles_spi_text(0, 5, cxt), "t") == 0)
	{
		give_up(link, false, psprintf("property \"%s\" belongs to a column now", place->property));
		place->property = NULL;
	}
	return place->property != NULL || place->comments;
}

/* What pages shall say now. A change that is tried again leaves what stands there. */
static void
note_refusals(const Link *link)
{
	static SPIPlanPtr refused = NULL;
	static SPIPlanPtr cured = NULL;
	static SPIPlanPtr gone = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	angles_spi_exec(&refused,
					"INSERT INTO angles.refusals_told AS t (link_id, page_id, wanted)"
					" SELECT i.link_id, i.page_id, angles.refusal_sentence(i.code, i.message)"
					" FROM angles.inbox i JOIN angles.pages p"
					"  ON p.link_id = i.link_id AND p.page_id = i.page_id"
					"  AND p.state = i.page_state"
					" WHERE i.link_id = $1 AND i.state = 'parked' AND p.state IN ('live', 'new')"
					" ON CONFLICT (link_id, page_id) DO UPDATE SET wanted = EXCLUDED.wanted,"
					"  attempts = 0, next_at = NULL WHERE t.wanted <> EXCLUDED.wanted",
					1, types, values, NULL, SPI_OK_INSERT);
	angles_spi_exec(&cured,
					"UPDATE angles.refusals_told t SET wanted = 'ok', attempts = 0, next_at = NULL"
					" WHERE t.link_id = $1 AND t.wanted <> 'ok' AND NOT EXISTS (SELECT"
					"  FROM angles.inbox i WHERE i.link_id = $1 AND i.page_id = t.page_id)",
					1, types, values, NULL, SPI_OK_UPDATE);
	angles_spi_exec(&gone,
					"DELETE FROM angles.refusals_told t WHERE t.link_id = $1 AND t.wanted = 'ok'"
					" AND NOT EXISTS (SELECT FROM angles.pages p WHERE p.link_id = $1"
					"  AND p.page_id = t.page_id AND p.state IN ('live', 'new'))",
					1, types, values, NULL, SPI_OK_DELETE);
}

/* ---- telling ---- */

/* Plans the next request of the link, or notes when it is due. */
static void
tell_next(Engine *engine, Link *link, const TellPlace *place)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, BOOLOID, BOOLOID};
	Datum		values[3] = {Int32GetDatum(link->id), BoolGetDatum(place->property != NULL),
	BoolGetDatum(place->comments)};
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull;
	char	   *page_id;
	char	   *sentence;
	bool		status;
	int64		due;
	HeapTuple	tuple;

	if (angles_spi_exec(&plan,
						"SELECT page_id::text, wanted, $2 AND told IS DISTINCT FROM wanted,"
						" (GREATEST(extract(epoch FROM next_at - clock_timestamp()), 0)"
						"  * 1000000)::int8"
						" FROM angles.refusals_told WHERE link_id = $1"
						" AND ($2 AND told IS DISTINCT FROM wanted"
						"  OR $3 AND wanted <> 'ok' AND md5(wanted) <> ALL (commented))"
						" ORDER BY next_at NULLS FIRST LIMIT 1",
						3, types, values, NULL, SPI_OK_SELECT) == 0)
		return;
	tuple = SPI_tuptable->vals[0];
	page_id = angles_spi_text(0, 1, cxt);
	sentence = angles_spi_text(0, 2, cxt);
	status = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull));
	due = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 4, &isnull));
	if (!isnull && due > 0)
		be_back(engine, angles_clock_mono_us() + due);
	else if (!status)
		tell_comment(engine, link, page_id, sentence);
	else if (place->property_id == NULL)
	{
		Action	   *action = tell_action(engine, link, TELL_SOURCE);
		MemoryContext old = MemoryContextSwitchTo(action->context);

		action->request = angles_notion_get_data_source(link->data_source_id);
		MemoryContextSwitchTo(old);
		angles_action_ready(engine, action);
	}
	else
		tell_status(engine, link, place, page_id, sentence);
}

static void
tell_status(Engine *engine, Link *link, const TellPlace *place, const char *page_id,
			const char *sentence)
{
	Action	   *action = tell_action(engine, link, TELL_STATUS);
	MemoryContext old = MemoryContextSwitchTo(action->context);
	AnglesColumn column = {.property_id = pstrdup(place->property_id),
		.property_name = pstrdup(place->property), .typid = TEXTOID,
	.type = angles_codec_type(place->property_type)};
	char	   *text = pstrdup(sentence);
	StringInfoData canon;
	NotionProperty property = {&column, NULL};

	if (column.type == ANGLES_PROP_SELECT)
	{
		text[pg_mbcliplen(text, strlen(text), LONGEST_OPTION)] = '\0';
		for (char *p = strchr(text, ','); p != NULL; p = strchr(p, ','))
			*p = ';';
	}
	initStringInfo(&canon);
	angles_json_append_string(&canon, text);
	property.canon = canon.data;
	action->page_id = pstrdup(page_id);
	action->told = pstrdup(sentence);
	action->request = angles_notion_patch_page(page_id, 1, &property);
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
}

static void
tell_comment(Engine *engine, Link *link, const char *page_id, const char *sentence)
{
	static SPIPlanPtr plan = NULL;
	Action	   *action = tell_action(engine, link, TELL_COMMENT);
	MemoryContext old = MemoryContextSwitchTo(action->context);
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id), CStringGetTextDatum(page_id),
	CStringGetTextDatum(sentence)};

	action->page_id = pstrdup(page_id);
	action->told = pstrdup(sentence);
	action->request = angles_notion_comment(page_id, sentence);
	MemoryContextSwitchTo(old);
	angles_spi_exec(&plan,
					"UPDATE angles.refusals_told SET commented = commented || md5($3)"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					3, types, values, NULL, SPI_OK_UPDATE);
	angles_action_ready(engine, action);
}

/* It leaves after this transaction's commit, behind what people wait for. */
static Action *
tell_action(Engine *engine, Link *link, TellStep step)
{
	Action	   *action = angles_action_make(engine, ACTION_TELL, link->id);

	action->step = step;
	action->priority = PRIORITY_BACKLOG;
	angles_counts(engine, link->id)->telling = true;
	return action;
}

/* ---- answers ---- */

void
angles_refusals_settle(Engine *engine, Action *action)
{
	static SPIPlanPtr untold = NULL;
	Link	   *link = angles_link_find(action->link_id);
	LinkCounts *counts = angles_counts(engine, action->link_id);
	NotionVerdict verdict = action->answer->verdict;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3];

	counts->telling = false;
	if (link == NULL || !link->tells_refusals)
		return;
	if (action->step == TELL_SOURCE || action->step == TELL_ADD)
	{
		if (verdict == NOTION_DONE)
			property_there(engine, link, action);
		else
			property_fails(engine, link, action);
		return;
	}
	if (verdict == NOTION_GONE || verdict == NOTION_TRASHED)
	{
		forget_page(link, action->page_id);
		return;
	}
	if (action->step == TELL_STATUS)
	{
		if (verdict == NOTION_DONE)
		{
			counts->tell_failures = 0;
			angles_alert_close(fingerprint_of(link, "property"));
			told(link, action->page_id, action->told);
		}
		else if (verdict == NOTION_SCHEMA || verdict == NOTION_REFUSED ||
				 verdict == NOTION_FORBIDDEN)
			property_fails(engine, link, action);
		else
			later(link, action->page_id, action->answer);
		return;
	}
	/* one in doubt may be there: a second one would be worse than none */
	if (verdict == NOTION_DONE || verdict == NOTION_IN_DOUBT)
	{
		if (verdict == NOTION_DONE)
			angles_alert_close(fingerprint_of(link, "comments"));
		return;
	}
	values[0] = Int32GetDatum(link->id);
	values[1] = CStringGetTextDatum(action->page_id);
	values[2] = CStringGetTextDatum(action->told);
	angles_spi_exec(&untold,
					"UPDATE angles.refusals_told SET commented = array_remove(commented, md5($3))"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					3, types, values, NULL, SPI_OK_UPDATE);
	if (verdict == NOTION_FORBIDDEN || verdict == NOTION_REFUSED || verdict == NOTION_SCHEMA)
		give_up(link, true, action->answer->message);
	else
		later(link, action->page_id, action->answer);
}

/* The data source's properties as they are: the one that is wished for is there, or is made. */
static void
property_there(Engine *engine, Link *link, Action *action)
{
	static SPIPlanPtr plan = NULL;
	TellPlace	place = {0};
	JsonbContainer *properties = angles_json_get_container(&action->answer->json->root,
														   "properties");
	JsonbContainer *property;
	char	   *type;
	char	   *id;
	Oid			types[4] = {INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[4];

	if (properties == NULL || !read_place(link, &place) || place.property == NULL)
		return;
	property = angles_json_get_container(properties, place.property);
	if (property == NULL)
	{
		if (action->step == TELL_ADD)
			property_fails(engine, link, action);
		else
			make_property(engine, link, &place);
		return;
	}
	type = angles_json_get_text(property, "type");
	id = angles_json_get_text(property, "id");
	if (type == NULL || id == NULL ||
		(strcmp(type, "rich_text") != 0 && strcmp(type, "select") != 0))
	{
		give_up(link, false,
				psprintf("property \"%s\" is neither a text nor a select", place.property));
		return;
	}
	values[0] = Int32GetDatum(link->id);
	values[1] = CStringGetTextDatum(id);
	values[2] = CStringGetTextDatum(type);
	values[3] = CStringGetTextDatum(place.property);
	/* a session may just be wishing for another one */
	angles_spi_exec(&plan,
					"UPDATE angles.refusal_settings SET property_id = $2, property_type = $3"
					" WHERE link_id IN (SELECT link_id FROM angles.refusal_settings"
					"  WHERE link_id = $1 AND property = $4 FOR NO KEY UPDATE SKIP LOCKED)",
					4, types, values, NULL, SPI_OK_UPDATE);
}

static void
make_property(Engine *engine, Link *link, const TellPlace *place)
{
	Action	   *action = tell_action(engine, link, TELL_ADD);
	MemoryContext old = MemoryContextSwitchTo(action->context);
	AnglesColumn *column = palloc0(sizeof(AnglesColumn));

	column->property_name = pstrdup(place->property);
	column->type = ANGLES_PROP_RICH_TEXT;
	column->typid = TEXTOID;
	action->request = angles_notion_add_properties(link->data_source_id, list_make1(column),
												   list_make1(NULL));
	MemoryContextSwitchTo(old);
	angles_action_ready(engine, action);
}

/* It was removed or changed, or may not be made: looked at anew, some times. */
static void
property_fails(Engine *engine, Link *link, Action *action)
{
	static SPIPlanPtr forget = NULL;
	LinkCounts *counts = angles_counts(engine, link->id);
	NotionVerdict verdict = action->answer->verdict;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};

	if (verdict == NOTION_FORBIDDEN ||
		(++counts->tell_failures >= PATIENCE &&
		 (verdict == NOTION_SCHEMA || verdict == NOTION_REFUSED || verdict == NOTION_DONE)))
	{
		counts->tell_failures = 0;
		give_up(link, false, action->answer->message ? action->answer->message
				: "Notion does not make it");
		return;
	}
	angles_spi_exec(&forget,
					"UPDATE angles.refusal_settings SET property_id = NULL"
					" WHERE link_id IN (SELECT link_id FROM angles.refusal_settings"
					"  WHERE link_id = $1 AND property_id IS NOT NULL"
					"  FOR NO KEY UPDATE SKIP LOCKED)",
					1, types, values, NULL, SPI_OK_UPDATE);
	/* nothing but this time keeps it from being asked for at once */
	counts->tell_not_before_us = angles_clock_mono_us() +
		angles_backoff_us(counts->tell_failures, action->answer->retry_after_s);
}

/* ---- noting ---- */

static void
told(const Link *link, const char *page_id, const char *sentence)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link->id), CStringGetTextDatum(page_id),
	CStringGetTextDatum(sentence)};

	angles_spi_exec(&plan,
					"UPDATE angles.refusals_told SET told = $3, attempts = 0, next_at = NULL"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					3, types, values, NULL, SPI_OK_UPDATE);
}

static void
later(const Link *link, const char *page_id, const NotionAnswer *answer)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[4] = {INT4OID, TEXTOID, INT8OID, INT4OID};
	Datum		values[4] = {Int32GetDatum(link->id), CStringGetTextDatum(page_id),
		Int64GetDatum(angles_backoff_us(1, answer->retry_after_s)),
	Int32GetDatum(PATIENCE)};

	angles_spi_exec(&plan,
					"UPDATE angles.refusals_told SET attempts = attempts + 1,"
					" next_at = clock_timestamp() + $3 * LEAST(attempts + 1, $4)"
					"  * interval '1 microsecond'"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					4, types, values, NULL, SPI_OK_UPDATE);
}

/* There is nobody to be told. */
static void
forget_page(const Link *link, const char *page_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id), CStringGetTextDatum(page_id)};

	angles_spi_exec(&plan,
					"UPDATE angles.refusals_told SET told = wanted,"
					" commented = commented || md5(wanted)"
					" WHERE link_id = $1 AND page_id = $2::uuid",
					2, types, values, NULL, SPI_OK_UPDATE);
}

/* Until a person asks for it again: he is told once. */
static void
give_up(const Link *link, bool comments, const char *why)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT4OID, TEXTOID, BOOLOID};
	Datum		values[3] = {Int32GetDatum(link->id), CStringGetTextDatum(why),
	BoolGetDatum(comments)};
	char	   *name = angles_link_name(link);

	angles_spi_exec(&plan,
					"UPDATE angles.refusal_settings SET"
					" comments_problem = CASE WHEN $3 THEN $2 ELSE comments_problem END,"
					" property_problem = CASE WHEN $3 THEN property_problem ELSE $2 END"
					" WHERE link_id IN (SELECT link_id FROM angles.refusal_settings"
					"  WHERE link_id = $1 FOR NO KEY UPDATE SKIP LOCKED)",
					3, types, values, NULL, SPI_OK_UPDATE);
	angles_alert_open(fingerprint_of(link, comments ? "comments" : "property"), "warning",
					  psprintf("pages of %s cannot be told what their table did not take: %s",
							   name, why),
					  comments ? "Comments are not tried any more."
					  : "The property is not written any more.",
					  psprintf("Give the connection the capability that is missing, or name "
							   "another property, then SELECT angles.report_refusals(%s, ...); "
							   "angles.parked shows what was refused.",
							   quote_literal_cstr(name)));
}

static char *
fingerprint_of(const Link *link, const char *what)
{
	return psprintf("refusals_%s:%d", what, link->id);
}
