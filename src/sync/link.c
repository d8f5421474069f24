/*
 * link.c
 *		angles.link(), unlink(), alter_link(): what a person says about a table.
 *
 * Runs in the session of the caller. Reads with the caller's rights; only angles' own tables and
 * the triggers are written as the owner of the extension, after the caller was found to own the
 * table. No network here: the link row and the triggers are made in the caller's transaction, the
 * worker does the rest after its commit, and ROLLBACK leaves nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/shmem.h"
#include "notion/api.h"
#include "sync/changelog.h"
#include "sync/filter.h"
#include "sync/linkmap.h"
#include "sync/mapping.h"
#include "sync/rekey.h"
#include "sync/relink.h"
#include "worker/worker.h"

/* The arguments of link() in the order of its SQL signature; see 30_sync.sql. */
enum
{
	ARG_TABLE, ARG_DATA_SOURCE, ARG_PARENT, ARG_DIRECTION, ARG_MAPPING, ARG_TITLE, ARG_BODY,
	ARG_FILTER, ARG_CONFLICT, ARG_LOCAL_DELETE, ARG_NOTION_DELETE, ARG_SETTLE, ARG_PREFLIGHT,
	ARG_DRY_RUN
};

typedef struct LinkWish
{
	Oid			relid;
	char	   *data_source;
	char	   *parent;
	char	   *direction;
	Jsonb	   *mapping;
	char	   *title_column;
	char	   *filter;
	char	   *conflict;
	char	   *on_local_delete;
	char	   *on_notion_delete;
	Interval   *settle;
	char	   *preflight;
	bool		dry_run;
	bool		altering;		/* of a link that is there */
} LinkWish;

static void read_wish(FunctionCallInfo fcinfo, LinkWish *wish);
static void read_changes(FunctionCallInfo fcinfo, LinkWish *wish, int32 link_id);
static void carry_out(FunctionCallInfo fcinfo, LinkWish *wish, int32 before);
static char *text_arg(FunctionCallInfo fcinfo, int n);
static void check_policies(const LinkWish *wish);
static void one_of(const char *argument, const char *value, const char *allowed,
				   const char *built);
static void not_built(const char *argument, const char *value);
static void find_place(LinkWish *wish, bool known_before);
static bool nothing_is_linked(void);
static bool is_other_place(const LinkWish *wish, int32 before);
static void forget_place(int32 link_id);
static int32 earlier_link(Oid relid, bool *linked);
static int32 write_link(const LinkWish *wish, const LinkMap *map, int32 before);
static void write_columns(int32 link_id, const LinkMap *map);
static void make_triggers(int32 link_id, const LinkWish *wish, const LinkMap *map);
static void depend_on_extension(Oid relid, const char *trigger);
static void drop_triggers(Oid relid);
static char *table_name(Oid relid);
static void warn_of_owner(const LinkWish *wish);
static Oid	table_owner(Oid relid);
static void run_sql(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls,
					int expect);
static Datum list_to_text_array(List *list);

PG_FUNCTION_INFO_V1(angles_link);
PG_FUNCTION_INFO_V1(angles_alter_link);
PG_FUNCTION_INFO_V1(angles_unlink);
PG_FUNCTION_INFO_V1(angles_links_changed);
PG_FUNCTION_INFO_V1(angles_wake_sql);

/* angles.link(...): see README.md and 30_sync.sql for what it accepts and returns. */
Datum
angles_link(PG_FUNCTION_ARGS)
{
	LinkWish	wish = {0};
	bool		linked;
	int32		before;

	InitMaterializedSRF(fcinfo, 0);
	read_wish(fcinfo, &wish);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	angles_linkmap_check_table(wish.relid);
	before = earlier_link(wish.relid, &linked);
	if (linked)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_ALREADY_LINKED),
				 errmsg("table %s is linked already", table_name(wish.relid)),
				 errhint("SELECT * FROM angles.alter_link('%s', ...) changes the link; "
						 "angles.unlink() ends it.", table_name(wish.relid))));
	carry_out(fcinfo, &wish, before);
	SPI_finish();
	return (Datum) 0;
}

/*
 * angles.alter_link(table, ...): what is given changes, what is null stays. "mapping" is laid over
 * the mapping that was given before.
 */
Datum
angles_alter_link(PG_FUNCTION_ARGS)
{
	LinkWish	wish = {0};
	bool		linked;
	int32		before;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"table\" must not be null")));
	wish.relid = PG_GETARG_OID(0);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	angles_linkmap_check_table(wish.relid);
	before = earlier_link(wish.relid, &linked);
	if (!linked)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NOT_LINKED),
				 errmsg("table %s is not linked", table_name(wish.relid)),
				 errhint("SELECT * FROM angles.link('%s') links it.", table_name(wish.relid))));
	read_changes(fcinfo, &wish, before);
	carry_out(fcinfo, &wish, before);
	SPI_finish();
	return (Datum) 0;
}

/* Makes or changes the link as wished, or only shows what it would be. */
static void
carry_out(FunctionCallInfo fcinfo, LinkWish *wish, int32 before)
{
	LinkBefore *was;
	LinkMap    *map;
	bool		moves;
	bool		rekey;
	int32		link_id;
	Oid			caller;
	int			context;

	if (wish->filter != NULL)
		wish->filter = angles_filter_check(wish->relid, wish->filter);
	if (!wish->altering)
		find_place(wish, before != 0);
	/* in another data source there are other pages and other properties */
	moves = is_other_place(wish, before);
	was = angles_relink_read(moves ? 0 : before);
	map = angles_linkmap_make(wish->relid, wish->mapping, wish->title_column, was);
	if (strcmp(wish->on_notion_delete, "flag") == 0 && map->flag_column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("on_notion_delete => 'flag' needs a column to set"),
				 errdetail("It is set when a person removes the row's page, and cleared when the "
						   "page is back."),
				 errhint("Name a boolean or timestamp column: mapping => "
						 "'{\"deleted_at\": {\"flag\": true}}'.")));
	rekey = angles_relink_key_changed(was, map);
	if (rekey)
	{
		MapRow	   *key = (MapRow *) linitial(map->rows);

		angles_rekey_check(was, map);
		key->remark = psprintf("%s; pages follow their rows from the former key", key->remark);
	}
	if (!wish->dry_run)
	{
		/* writers that are under way end first: their changes are found by the first push */
		LockRelationOid(wish->relid, ShareRowExclusiveLock);
		GetUserIdAndSecContext(&caller, &context);
		SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
		if (moves)
			forget_place(before);
		if (rekey)
			angles_rekey(was, map);
		link_id = write_link(wish, map, before);
		write_columns(link_id, map);
		make_triggers(link_id, wish, map);
		angles_changelog_add(link_id, ANGLES_OP_LINK, "", NULL);
		angles_audit(wish->altering ? "alter_link" : "link", table_name(wish->relid), NULL);
		SetUserIdAndSecContext(caller, context);
		warn_of_owner(wish);
		if (!angles_preloaded())
			ereport(WARNING,
					(errcode(ERRCODE_ANGLES_NOT_PRELOADED),
					 errmsg("changes are queued, but nothing sends them"),
					 errdetail("The library angles is not preloaded, so there are no workers."),
					 errhint("Add angles to shared_preload_libraries and restart the server.")));
	}
	angles_link_show(fcinfo, map, wish->filter, wish->dry_run);
}

static void
warn_of_owner(const LinkWish *wish)
{
	Oid			owner = table_owner(wish->relid);

	if (ANGLES_ROLE_MUST_LOG_IN && strcmp(wish->direction, "out") != 0 &&
		!angles_role_can_log_in(owner))
		ereport(WARNING,
				(errmsg("changes made in Notion will wait: role %s may not log in",
						quote_identifier(GetUserNameFromId(owner, false))),
				 errdetail("They are written as the owner of table %s.",
						   table_name(wish->relid)),
				 errhint("ALTER ROLE ... LOGIN (a password is not needed), or link with "
						 "direction => 'out'.")));
}

static Oid
table_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;

	ReleaseSysCache(tuple);
	return owner;
}

/* angles.unlink(table): ends capture; Notion and what is known of its pages stay as they are. */
Datum
angles_unlink(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	bool		linked;
	int32		link_id;
	Oid			caller;
	int			context;
	Oid			types[1] = {INT4OID};
	Datum		values[1];

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"table\" must not be null")));
	link_id = earlier_link(relid, &linked);
	if (!linked)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NOT_LINKED),
				 errmsg("table %s is not linked", table_name(relid)),
				 errhint("SELECT * FROM angles.links shows what is.")));
	if (get_rel_name(relid) != NULL && !ANGLES_OWNS_TABLE(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", table_name(relid)),
				 errhint("Its owner or a superuser may call angles.unlink().")));
	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	if (get_rel_name(relid) != NULL)
		drop_triggers(relid);
	values[0] = Int32GetDatum(link_id);
	run_sql("UPDATE angles.links SET state = 'unlinked', paused = false, pause_reason = NULL,"
			" changed_at = now() WHERE id = $1", 1, types, values, NULL, SPI_OK_UPDATE);
	/* its part of the queue is the worker's to clear: nobody shall wait for this transaction */
	angles_changelog_add(link_id, ANGLES_OP_UNLINK, "", NULL);
	angles_audit("unlink", table_name(relid), NULL);
	SetUserIdAndSecContext(caller, context);
	SPI_finish();
	ereport(NOTICE,
			(errmsg("table %s is no longer synced; its pages in Notion stay as they are",
					table_name(relid)),
			 errhint("Linking it again goes on with the same pages.")));
	PG_RETURN_VOID();
}

/*
 * Trigger on angles' tables of links: tells every process of this database, at commit, that what it
 * knows of the links is out of date, and wakes the worker.
 */
Datum
angles_links_changed(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(get_relname_relid("links", get_namespace_oid("angles", false)));
	angles_changelog_wake_at_commit();
	return PointerGetDatum(NULL);
}

/* angles.wake(): wakes the sync worker when the transaction commits. */
Datum
angles_wake_sql(PG_FUNCTION_ARGS)
{
	angles_changelog_wake_at_commit();
	PG_RETURN_VOID();
}

/* ---- arguments ---- */

static void
read_wish(FunctionCallInfo fcinfo, LinkWish *wish)
{
	if (PG_ARGISNULL(ARG_TABLE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"table\" must not be null")));
	wish->relid = PG_GETARG_OID(ARG_TABLE);
	wish->data_source = text_arg(fcinfo, ARG_DATA_SOURCE);
	wish->parent = text_arg(fcinfo, ARG_PARENT);
	wish->direction = text_arg(fcinfo, ARG_DIRECTION);
	wish->mapping = PG_ARGISNULL(ARG_MAPPING) ? NULL : PG_GETARG_JSONB_P(ARG_MAPPING);
	wish->title_column = PG_ARGISNULL(ARG_TITLE) ? NULL : NameStr(*PG_GETARG_NAME(ARG_TITLE));
	wish->filter = text_arg(fcinfo, ARG_FILTER);
	wish->conflict = text_arg(fcinfo, ARG_CONFLICT);
	wish->on_local_delete = text_arg(fcinfo, ARG_LOCAL_DELETE);
	wish->on_notion_delete = text_arg(fcinfo, ARG_NOTION_DELETE);
	wish->preflight = text_arg(fcinfo, ARG_PREFLIGHT);
	wish->settle = PG_ARGISNULL(ARG_SETTLE) ? NULL : PG_GETARG_INTERVAL_P(ARG_SETTLE);
	wish->dry_run = !PG_ARGISNULL(ARG_DRY_RUN) && PG_GETARG_BOOL(ARG_DRY_RUN);

	one_of("direction", wish->direction, "both out in", "both out");
	check_policies(wish);
	if (!PG_ARGISNULL(ARG_BODY))
		not_built("body_column", NameStr(*PG_GETARG_NAME(ARG_BODY)));
	if (wish->settle == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"settle\" must not be null")));
}

/* The link as it is, with the arguments of alter_link() laid over it. */
static void
read_changes(FunctionCallInfo fcinfo, LinkWish *wish, int32 link_id)
{
	Oid			types[3] = {INT4OID, JSONBOID, TEXTOID};
	Datum		values[3] = {Int32GetDatum(link_id),
		PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1),
	PG_ARGISNULL(2) ? (Datum) 0 : CStringGetTextDatum(NameStr(*PG_GETARG_NAME(2)))};
	char		nulls[4] = {' ', PG_ARGISNULL(1) ? 'n' : ' ', PG_ARGISNULL(2) ? 'n' : ' ', '\0'};
	bool		isnull;
	Datum		datum;

	/* columns may be called otherwise by now, or be gone */
	if (SPI_execute_with_args("SELECT COALESCE((SELECT jsonb_object_agg(n.now, w.value)"
							  "  FROM jsonb_each(l.wishes) w, LATERAL (SELECT "
							  ANGLES_COLUMN_NOW("attname", "w.key") "::text AS now) n"
							  "  WHERE n.now IS NOT NULL), '{}') || COALESCE($2, '{}'),"
							  " COALESCE($3, " ANGLES_COLUMN_NOW("attname", "l.title_column") "),"
							  " filter, on_local_delete, direction,"
							  " conflict, on_notion_delete, settle, preflight"
							  " FROM angles.links l WHERE id = $1",
							  3, types, values, nulls, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.links");
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	wish->mapping = DatumGetJsonbPCopy(datum);
	wish->title_column = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	wish->filter = PG_ARGISNULL(3) ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3)
		: text_arg(fcinfo, 3);
	/* an empty filter takes the filter away */
	if (wish->filter && wish->filter[0] == '\0')
		wish->filter = NULL;
	wish->on_local_delete = PG_ARGISNULL(5)
		? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4) : text_arg(fcinfo, 5);
	wish->direction = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5);
	wish->conflict = PG_ARGISNULL(4)
		? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 6) : text_arg(fcinfo, 4);
	wish->on_notion_delete = PG_ARGISNULL(6)
		? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 7) : text_arg(fcinfo, 6);
	datum = PG_ARGISNULL(7)
		? SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 8, &isnull)
		: PG_GETARG_DATUM(7);
	wish->settle = DatumGetIntervalP(datumCopy(datum, false, sizeof(Interval)));
	wish->preflight = PG_ARGISNULL(8)
		? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 9) : text_arg(fcinfo, 8);
	wish->dry_run = !PG_ARGISNULL(9) && PG_GETARG_BOOL(9);
	wish->altering = true;
	check_policies(wish);
}

static void
check_policies(const LinkWish *wish)
{
	one_of("conflict", wish->conflict, "newest postgres notion manual",
		   "newest postgres notion manual");
	one_of("on_local_delete", wish->on_local_delete, "trash hold ignore", "trash hold ignore");
	one_of("on_notion_delete", wish->on_notion_delete, "hold delete flag ignore",
		   "hold delete flag ignore");
	one_of("preflight", wish->preflight, "fast strict", "fast strict");
}

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* Checks a word against a list of allowed ones, separated by blanks. */
static void
one_of(const char *argument, const char *value, const char *allowed, const char *built)
{
	char	   *list = psprintf(" %s ", allowed);
	char	   *ready = psprintf(" %s ", built);
	char	   *word = psprintf(" %s ", value ? value : "");

	if (value == NULL || strchr(value, ' ') != NULL || strstr(list, word) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" cannot be \"%s\"", argument, value ? value : "null"),
				 errhint("It may be one of: %s.", allowed)));
	if (strstr(ready, word) == NULL)
		not_built(argument, value);
}

static void
not_built(const char *argument, const char *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s => '%s' belongs to the inbound half of sync, which this version has "
					"not got",
					argument, value),
			 errhint("Leave the argument out.")));
}

/* Where the pages live: a data source that exists, or a page under which a database is made. */
static void
find_place(LinkWish *wish, bool known_before)
{
	char	   *parent = wish->parent;

	/* the name that people have set already stands for the first table that names no place */
	if (wish->data_source == NULL && parent == NULL && !known_before &&
		getenv("NOTION_DATABASE_ID") && nothing_is_linked())
		wish->data_source = getenv("NOTION_DATABASE_ID");
	if (wish->data_source != NULL)
	{
		char	   *id = angles_notion_parse_id(wish->data_source);

		if (id == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" is no id of a data source", wish->data_source),
					 errhint("In Notion: the database's menu, Manage data sources, Copy data "
							 "source "
							 "ID.")));
		wish->data_source = id;
		return;
	}
	if (parent == NULL && angles_guc_notion_parent && angles_guc_notion_parent[0])
		parent = angles_guc_notion_parent;
	if (parent != NULL)
	{
		wish->parent = angles_notion_parse_id(parent);
		if (wish->parent == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" is no page id or address of a page", parent),
					 errhint("Copy the page's link in Notion.")));
	}
	else if (!known_before)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NO_PARENT),
				 errmsg("there is no Notion page under which the database could be made"),
				 errhint("Share a page with the connection (page menu, Connections), then give its "
						 "link: angles.link(..., parent => 'https://...'), or set "
						 "angles.notion_parent.")));
}

static bool
nothing_is_linked(void)
{
	if (SPI_execute("SELECT FROM angles.links", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.links");
	return SPI_processed == 0;
}

/* Whether a table that was linked before shall be linked with another data source now. */
static bool
is_other_place(const LinkWish *wish, int32 before)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(before)};

	if (before == 0 || wish->data_source == NULL)
		return false;
	values[1] = CStringGetTextDatum(wish->data_source);
	if (SPI_execute_with_args("SELECT FROM angles.links WHERE id = $1"
							  " AND data_source_id <> $2::uuid"
							  " AND database_id IS DISTINCT FROM $2::uuid",
							  2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.links");
	return SPI_processed > 0;
}

/*
 * The pages in the data source that the table had stay as they are, and are nobody's. What was
 * queued for them went, or goes, with unlink().
 */
static void
forget_place(int32 link_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link_id)};

	/* the pages are the worker's to forget: it may be writing them */
	angles_changelog_add(link_id, ANGLES_OP_UNLINK, ANGLES_FORGET_PAGES, NULL);
	run_sql("DELETE FROM angles.link_columns WHERE link_id = $1", 1, types, values, NULL,
			SPI_OK_DELETE);
	run_sql("UPDATE angles.links SET database_id = NULL, create_intent_at = NULL WHERE id = $1",
			1, types, values, NULL, SPI_OK_UPDATE);
}

static int32
earlier_link(Oid relid, bool *linked)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	int32		id;

	*linked = false;
	if (SPI_execute_with_args("SELECT id, state <> 'unlinked' FROM angles.links"
							  " WHERE relid = $1::regclass",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.links");
	if (SPI_processed == 0)
		return 0;
	id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	*linked = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	return id;
}

/* ---- writing ---- */

static int32
write_link(const LinkWish *wish, const LinkMap *map, int32 before)
{
	Oid			types[17] = {OIDOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, INTERVALOID, TEXTOID, TEXTARRAYOID, JSONBOID, TEXTOID, TEXTOID};
	Datum		values[17];
	char		nulls[18];
	const char *texts[] = {angles_worker_identity(), get_rel_name(wish->relid), wish->parent,
		wish->data_source, wish->direction, wish->filter, wish->conflict, wish->on_local_delete,
	wish->on_notion_delete};
	bool		isnull;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = ObjectIdGetDatum(wish->relid);
	values[1] = ObjectIdGetDatum(table_owner(wish->relid));
	for (int i = 0; i < lengthof(texts); i++)
	{
		values[2 + i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
		nulls[2 + i] = texts[i] ? ' ' : 'n';
	}
	values[11] = IntervalPGetDatum(wish->settle);
	values[12] = CStringGetTextDatum(wish->preflight);
	values[13] = list_to_text_array(map->key_names);
	values[14] = wish->mapping ? JsonbPGetDatum(wish->mapping) : (Datum) 0;
	nulls[14] = wish->mapping ? ' ' : 'n';
	values[15] = wish->title_column ? CStringGetTextDatum(wish->title_column) : (Datum) 0;
	nulls[15] = wish->title_column ? ' ' : 'n';
	values[16] = map->flag_column ? CStringGetTextDatum(map->flag_column) : (Datum) 0;
	nulls[16] = map->flag_column ? ' ' : 'n';

	/* a table that was linked before goes on with its data source and the pages it knows */
	run_sql(before == 0
			? "INSERT INTO angles.links (relid, owner, identity, title, parent_id, data_source_id,"
			" direction, filter, conflict, on_local_delete, on_notion_delete, settle, preflight,"
			" key_columns, wishes, title_column, flag_column, state)"
			" VALUES ($1::regclass, $2::regrole, $3, $4, $5::uuid, $6::uuid, $7,"
			" $8, $9, $10, $11, $12, $13, $14::name[], $15, $16, $17,"
			" CASE WHEN $6 IS NULL THEN 'creating' ELSE 'binding' END) RETURNING id"
			: "UPDATE angles.links SET owner = $2::regrole, title = $4,"
			/* an altered link of another server stays that server's until angles.adopt() */
			" identity = CASE state WHEN 'unlinked' THEN $3 ELSE identity END,"
			" mark_epoch = CASE state WHEN 'unlinked' THEN NULL ELSE mark_epoch END,"
			" parent_id = COALESCE($5::uuid, parent_id),"
			" data_source_id = COALESCE($6::uuid, data_source_id), direction = $7, filter = $8,"
			" conflict = $9, on_local_delete = $10, on_notion_delete = $11, settle = $12,"
			" preflight = $13, key_columns = $14::name[], wishes = $15, title_column = $16, "
			"flag_column = $17, unreachable = NULL, paused = false, pause_reason = NULL,"
			" push_cursor = NULL, push_done = 0, push_started_at = NULL, changed_at = now(),"
			" state = CASE WHEN COALESCE($6::uuid, data_source_id) IS NULL THEN 'creating'"
			"  ELSE 'binding' END WHERE relid = $1::regclass RETURNING id",
			17, types, values, nulls,
			before == 0 ? SPI_OK_INSERT_RETURNING : SPI_OK_UPDATE_RETURNING);
	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* A property that stays keeps the id it has in Notion. */
static void
write_columns(int32 link_id, const LinkMap *map)
{
	ListCell   *lc;
	List	   *names = NIL;
	Oid			types[12] = {INT4OID, INT2OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID,
	TEXTARRAYOID, OIDOID, TEXTARRAYOID, TEXTOID, BOOLOID};

	run_sql("UPDATE angles.links SET push_total = (SELECT GREATEST(c.reltuples, 0)::bigint"
			" FROM pg_class c WHERE c.oid = relid), attrelid = relid, attnames = ARRAY(SELECT"
			" CASE WHEN NOT a.attisdropped THEN a.attname END FROM pg_attribute a"
			" WHERE a.attrelid = relid AND a.attnum > 0 ORDER BY a.attnum)"
			" WHERE id = $1", 1, types,
			(Datum[]) {Int32GetDatum(link_id)}, NULL, SPI_OK_UPDATE);
	foreach(lc, map->rows)
	{
		if (((MapRow *) lfirst(lc))->included)
			names = lappend(names, ((MapRow *) lfirst(lc))->c.property_name);
	}
	run_sql("DELETE FROM angles.link_columns WHERE link_id = $1 AND property_name <> ALL ($2)",
			2, (Oid[]) {INT4OID, TEXTARRAYOID},
			(Datum[]) {Int32GetDatum(link_id), list_to_text_array(names)}, NULL, SPI_OK_DELETE);
	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);
		Datum		values[12];
		char		nulls[13];

		if (!row->included)
			continue;
		memset(nulls, ' ', sizeof(nulls));
		values[0] = Int32GetDatum(link_id);
		values[1] = Int16GetDatum(row->c.attnum);
		values[2] = CStringGetTextDatum(row->c.name);
		values[3] = CStringGetTextDatum(format_type_be(row->c.typid));
		values[4] = CStringGetTextDatum(row->c.property_name);
		values[5] = CStringGetTextDatum(angles_codec_type_name(row->c.type));
		values[6] = BoolGetDatum(row->is_key);
		nulls[7] = row->c.options ? ' ' : 'n';
		values[7] = list_to_text_array(row->c.options);
		nulls[8] = nulls[9] = row->ref_names ? ' ' : 'n';
		values[8] = ObjectIdGetDatum(row->ref_relid);
		values[9] = list_to_text_array(row->ref_names);
		nulls[10] = row->conflict ? ' ' : 'n';
		values[10] = row->conflict ? CStringGetTextDatum(row->conflict) : (Datum) 0;
		values[11] = BoolGetDatum(row->additive);
		run_sql("INSERT INTO angles.link_columns (link_id, attnum, attname, type_name,"
				" property_name, property_type, is_key, options, ref_relid, ref_attnames,"
				" conflict, additive)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::regclass, $10::name[], $11, $12)"
				" ON CONFLICT (link_id, property_name) DO UPDATE SET attnum = EXCLUDED.attnum,"
				" attname = EXCLUDED.attname, type_name = EXCLUDED.type_name,"
				" is_key = EXCLUDED.is_key, options = EXCLUDED.options, problem = NULL,"
				" notion_problem = NULL,"
				" ref_relid = EXCLUDED.ref_relid, ref_attnames = EXCLUDED.ref_attnames,"
				" conflict = EXCLUDED.conflict, additive = EXCLUDED.additive,"
				" property_id = CASE link_columns.property_type WHEN EXCLUDED.property_type"
				"  THEN link_columns.property_id END, property_type = EXCLUDED.property_type",
				12, types, values, nulls, SPI_OK_INSERT);
	}
}

static void
make_triggers(int32 link_id, const LinkWish *wish, const LinkMap *map)
{
	StringInfoData sql;
	char	   *table = table_name(wish->relid);
	ListCell   *lc;
	ListCell   *ln;

	drop_triggers(wish->relid);
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TRIGGER angles_capture AFTER INSERT OR UPDATE OR DELETE ON %s"
					 " FOR EACH ROW EXECUTE FUNCTION angles.capture('%d', '%u', '%d'",
					 table, link_id, wish->relid, list_length(map->key_names));
	forboth(lc, map->key_attnums, ln, map->key_names)
		appendStringInfo(&sql, ", '%d', %s", lfirst_int(lc),
						 quote_literal_cstr((char *) lfirst(ln)));
	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		if (!row->included || row->c.attnum == 0)
			continue;
		if (row->ref_names == NIL)
			appendStringInfo(&sql, ", '%d', %s", row->c.attnum, quote_literal_cstr(row->c.name));
		foreach(ln, row->ref_names)
			appendStringInfo(&sql, ", '%d', %s", get_attnum(wish->relid, (char *) lfirst(ln)),
							 quote_literal_cstr((char *) lfirst(ln)));
	}
	appendStringInfoChar(&sql, ')');
	run_sql(sql.data, 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	run_sql(psprintf("CREATE TRIGGER angles_capture_truncate AFTER TRUNCATE ON %s FOR EACH "
					 "STATEMENT"
					 " EXECUTE FUNCTION angles.capture_truncate('%d')", table, link_id),
			0, NULL, NULL, NULL, SPI_OK_UTILITY);
	run_sql(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER angles_capture,"
					 " ENABLE ALWAYS TRIGGER angles_capture_truncate", table),
			0, NULL, NULL, NULL, SPI_OK_UTILITY);
	depend_on_extension(wish->relid, "angles_capture");
	depend_on_extension(wish->relid, "angles_capture_truncate");
}

/*
 * DROP EXTENSION then takes the trigger along instead of refusing. ALTER TRIGGER ... DEPENDS ON
 * EXTENSION would do that too, but locks the extension exclusively, which keeps all workers away
 * until this transaction ends.
 */
static void
depend_on_extension(Oid relid, const char *trigger)
{
	ObjectAddress depender;
	ObjectAddress extension;

	ObjectAddressSet(depender, TriggerRelationId, get_trigger_oid(relid, trigger, false));
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("angles", false));
	recordDependencyOn(&depender, &extension, DEPENDENCY_AUTO_EXTENSION);
}

static void
drop_triggers(Oid relid)
{
	char	   *table = table_name(relid);
	int			level = client_min_messages;

	/* "does not exist, skipping" is no news to anybody */
	client_min_messages = WARNING;
	run_sql(psprintf("DROP TRIGGER IF EXISTS angles_capture ON %s", table),
			0, NULL, NULL, NULL, SPI_OK_UTILITY);
	run_sql(psprintf("DROP TRIGGER IF EXISTS angles_capture_truncate ON %s", table),
			0, NULL, NULL, NULL, SPI_OK_UTILITY);
	client_min_messages = level;
}

static char *
table_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("%u", relid);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

static void
run_sql(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expect)
{
	int			rc = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (rc != expect)
		elog(ERROR, "statement returned %s", SPI_result_code_string(rc));
}

static Datum
list_to_text_array(List *list)
{
	Datum	   *elements = palloc(Max(list_length(list), 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, list)
		elements[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}
