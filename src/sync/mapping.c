/*
 * mapping.c
 *		Reads links and their columns from the catalog and from angles' tables.
 *
 * Runs in the sync worker. Nothing of a user is executed here; names are quoted, operators are
 * named by schema, because the statements that are built here run against users' tables.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "core/compat.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/mapping.h"
#include "worker/worker.h"

static MemoryContext memory = NULL;
static List *links = NIL;
static bool stale = true;
static bool callback_registered = false;
static Oid	links_relid = InvalidOid;
static uint64 version = 0;

static void read_links(void);
static void read_columns(Link *link);
static void fill_link(Link *link, uint64 row);
static void fill_column(Link *link, SyncColumn *column, uint64 row);
static bool is_writable(const Link *link, Form_pg_attribute att);
static void resolve_attribute(Link *link, SyncColumn *column, const char *type_then);
static void resolve_foreign_key(Link *link, SyncColumn *column);
static void resolve_references(void);
static void order_by_depth(void);
static void build_job(void *arg);
static void build_statements(Link *link);
static char *scan_statement(Link *link, const char *from, bool filtered);
static char *key_join(Link *link, bool from_cursor);
static char *qualified_operator(Oid type, int strategy);
static List *text_array_to_list(Datum array);
static void relcache_callback(Datum arg, Oid relid);

void
angles_links_refresh(void)
{
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		callback_registered = true;
	}
	if (!stale)
		return;
	angles_links_forget();
	PG_TRY();
	{
		/* reading may itself bring news, which then count for the next time */
		stale = false;
		read_links();
	}
	PG_CATCH();
	{
		stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	version++;
}

List *
angles_links(void)
{
	return links;
}

uint64
angles_links_version(void)
{
	return version;
}

Link *
angles_link_find(int32 id)
{
	ListCell   *lc;

	foreach(lc, angles_links())
	{
		Link	   *link = (Link *) lfirst(lc);

		if (link->id == id)
			return link;
	}
	return NULL;
}

bool
angles_link_sends(const Link *link)
{
	/* without its key in it a page would never be found again */
	return !link->paused && !link->fenced && link->problem == NULL &&
		link->data_source_id != NULL && link->key_column->c.property_id != NULL &&
		(link->state == LINK_PUSHING || link->state == LINK_ACTIVE);
}

void
angles_links_stale(void)
{
	stale = true;
}

char *
angles_link_name(const Link *link)
{
	if (link->table == NULL || link->schema == NULL)
		return psprintf("%u", link->relid);
	return pstrdup(quote_qualified_identifier(link->schema, link->table));
}

char *
angles_approve_hint(const Link *link)
{
	char	   *name = quote_literal_cstr(angles_link_name(link));

	return psprintf("Look at angles.held_deletes, then SELECT angles.approve(%s) or "
					"SELECT angles.refuse(%s).", name, name);
}

void
angles_links_forget(void)
{
	ListCell   *lc;

	foreach(lc, links)
	{
		Link	   *link = (Link *) lfirst(lc);

		angles_spi_forget(&link->load_plan);
		angles_spi_forget(&link->lock_plan);
		angles_spi_forget(&link->scan_plan);
		angles_spi_forget(&link->scan_all_plan);
	}
	links = NIL;
	if (memory)
		MemoryContextDelete(memory);
	memory = NULL;
	stale = true;
}

/* Users' DDL and angles' own changes of its links both arrive here. */
static void
relcache_callback(Datum arg, Oid relid)
{
	ListCell   *lc;

	if (relid == InvalidOid || relid == links_relid)
	{
		stale = true;
		return;
	}
	foreach(lc, links)
	{
		if (((Link *) lfirst(lc))->relid == relid)
			stale = true;
	}
}

static void
read_links(void)
{
	static SPIPlanPtr plan = NULL;
	uint64		n;
	MemoryContext old;

	links_relid = get_relname_relid("links", get_namespace_oid("angles", false));
	memory = AllocSetContextCreate(TopMemoryContext, "angles links", ALLOCSET_DEFAULT_SIZES);
	n = angles_spi_exec(&plan,
						"SELECT l.id, relid::oid, owner::oid, state, paused, identity,"
						" r.link_id IS NOT NULL, title,"
						" marker, parent_id, database_id, data_source_id, filter, on_local_delete,"
						" mass_limit, key_columns::text[], attrelid,"
						" COALESCE(mark_epoch >= (SELECT since_epoch FROM angles.identity), false),"
						" conflict, direction, preflight, on_notion_delete, flag_column,"
						" unreachable, bypass_until, s.link_id IS NOT NULL"
						" FROM angles.links l LEFT JOIN angles.reconciles r ON r.link_id = l.id"
						" LEFT JOIN angles.refusal_settings s ON s.link_id = l.id"
						" WHERE state <> 'unlinked' ORDER BY l.id",
						0, NULL, NULL, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(memory);
	for (uint64 i = 0; i < n; i++)
	{
		Link	   *link = palloc0(sizeof(Link));

		fill_link(link, i);
		links = lappend(links, link);
	}
	MemoryContextSwitchTo(old);
	for (int i = 0; i < list_length(links); i++)
		read_columns((Link *) list_nth(links, i));
	old = MemoryContextSwitchTo(memory);
	resolve_references();
	order_by_depth();
	for (int i = 0; i < list_length(links); i++)
	{
		Link	   *link = (Link *) list_nth(links, i);

		/* no lock is held: the table may go away or change in the middle, and then news come */
		ErrorData  *error = angles_txn_try(build_job, link, true);

		if (error != NULL)
			link->problem = MemoryContextStrdup(memory, error->message);
	}
	MemoryContextSwitchTo(old);
}

static void
build_job(void *arg)
{
	build_statements((Link *) arg);
}

static void
fill_link(Link *link, uint64 row)
{
	static const char *const states[] = {"creating", "binding", "pushing", "active", "unlinked"};
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	Datum		datum;
	char	   *state = angles_spi_text(row, 4, memory);
	char	   *identity = angles_spi_text(row, 6, memory);

	link->id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
	link->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
	link->owner = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
	for (int i = 0; i < lengthof(states); i++)
		if (strcmp(state, states[i]) == 0)
			link->state = (LinkState) i;
	link->paused = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
	link->fenced = strcmp(identity, angles_worker_identity()) != 0;
	link->reconcile = DatumGetBool(SPI_getbinval(tuple, desc, 7, &isnull));
	link->title = angles_spi_text(row, 8, memory);
	link->marker = angles_spi_text(row, 9, memory);
	link->parent_id = angles_spi_text(row, 10, memory);
	link->database_id = angles_spi_text(row, 11, memory);
	link->data_source_id = angles_spi_text(row, 12, memory);
	link->filter = angles_spi_text(row, 13, memory);
	link->on_local_delete = angles_spi_text(row, 14, memory);
	link->mass_limit = DatumGetInt32(SPI_getbinval(tuple, desc, 15, &isnull));
	link->keys = text_array_to_list(SPI_getbinval(tuple, desc, 16, &isnull));
	link->marked = DatumGetBool(SPI_getbinval(tuple, desc, 18, &isnull));
	link->conflict = angles_spi_text(row, 19, memory);
	link->inbound = strcmp(angles_spi_text(row, 20, memory), "out") != 0;
	link->strict = link->inbound && strcmp(angles_spi_text(row, 21, memory), "strict") == 0;
	link->on_notion_delete = angles_spi_text(row, 22, memory);
	link->flag_column = angles_spi_text(row, 23, memory);
	link->unreachable = angles_spi_text(row, 24, memory);
	datum = SPI_getbinval(tuple, desc, 25, &isnull);
	link->bypass_until = isnull ? 0 : DatumGetTimestampTz(datum);
	link->tells_refusals = DatumGetBool(SPI_getbinval(tuple, desc, 26, &isnull));
	datum = SPI_getbinval(tuple, desc, 17, &isnull);
	link->by_name = !isnull && DatumGetObjectId(datum) != link->relid;
	link->table = get_rel_name(link->relid);
	if (link->table == NULL)
		link->problem = "the table was dropped";
	else if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(link->owner)))
		link->problem = "the role that owned the table was dropped";
	else
	{
		link->no_login = ANGLES_ROLE_MUST_LOG_IN && !angles_role_can_log_in(link->owner);
		link->schema = get_namespace_name(get_rel_namespace(link->relid));
	}
}

bool
angles_role_can_log_in(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can = HeapTupleIsValid(tuple) &&
		((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return can;
}

static void
read_columns(Link *link)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(link->id)};
	uint64		n;
	MemoryContext old;

	n = angles_spi_exec(&plan,
						"SELECT attnum, attname, type_name, property_id, property_name, "
						"property_type,"
						" is_key, options, ref_relid::oid, ref_attnames::text[], problem,"
						" conflict, notion_problem, additive"
						" FROM angles.link_columns WHERE link_id = $1"
						" ORDER BY is_key DESC, attnum, property_name",
						1, types, values, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(memory);
	link->n_columns = n;
	link->columns = palloc0(Max(n, 1) * sizeof(SyncColumn));
	for (uint64 i = 0; i < n; i++)
		fill_column(link, &link->columns[i], i);
	MemoryContextSwitchTo(old);
	if (link->key_column == NULL && link->problem == NULL)
		link->problem = "the link has no key property";
	/* without its key in it a page would never be found again */
	if (link->problem == NULL && link->key_column->notion_problem != NULL)
		link->problem = link->key_column->notion_problem;
}

static void
fill_column(Link *link, SyncColumn *column, uint64 row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	Datum		datum;

	column->c.attnum = DatumGetInt16(SPI_getbinval(tuple, desc, 1, &isnull));
	column->c.name = angles_spi_text(row, 2, memory);
	column->c.property_id = angles_spi_text(row, 4, memory);
	column->c.property_name = angles_spi_text(row, 5, memory);
	column->c.type = angles_codec_type(angles_spi_text(row, 6, memory));
	column->is_key = DatumGetBool(SPI_getbinval(tuple, desc, 7, &isnull));
	datum = SPI_getbinval(tuple, desc, 8, &isnull);
	column->c.options = isnull ? NIL : text_array_to_list(datum);
	datum = SPI_getbinval(tuple, desc, 9, &isnull);
	column->ref_relid = isnull ? InvalidOid : DatumGetObjectId(datum);
	datum = SPI_getbinval(tuple, desc, 10, &isnull);
	column->ref_names = isnull ? NIL : text_array_to_list(datum);
	column->problem = angles_spi_text(row, 11, memory);
	column->conflict = angles_spi_text(row, 12, memory);
	column->notion_problem = angles_spi_text(row, 13, memory);
	column->additive = DatumGetBool(SPI_getbinval(tuple, desc, 14, &isnull));
	if (column->problem == NULL)
		column->problem = column->notion_problem;
	if (column->is_key)
		link->key_column = column;
	if (link->table == NULL)
		return;
	if (column->c.attnum == 0)
	{
		column->c.typid = TEXTOID;
		column->c.typmod = -1;
		column->c.not_null = true;
	}
	else if (column->c.type == ANGLES_PROP_RELATION)
		resolve_foreign_key(link, column);
	else
		resolve_attribute(link, column, angles_spi_text(row, 3, memory));
}

/*
 * Finds the column in the table as it is now. A rename keeps its number; a dropped column or
 * another type pauses this property alone.
 */
static void
resolve_attribute(Link *link, SyncColumn *column, const char *type_then)
{
	HeapTuple	tuple;
	Form_pg_attribute att;

	if (link->by_name)
		column->c.attnum = get_attnum(link->relid, column->c.name);
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(link->relid),
							Int16GetDatum(column->c.attnum));

	if (!HeapTupleIsValid(tuple) || ((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
	{
		column->problem = "the column was dropped";
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		return;
	}
	att = (Form_pg_attribute) GETSTRUCT(tuple);
	column->c.name = pstrdup(NameStr(att->attname));
	column->c.typid = att->atttypid;
	column->c.typmod = att->atttypmod;
	column->c.not_null = att->attnotnull;
	column->writable = is_writable(link, att);
	if (column->problem == NULL && strcmp(format_type_be(att->atttypid), type_then) != 0)
		column->problem = psprintf("the column's type changed from %s to %s; call "
								   "angles.alter_link()",
								   type_then, format_type_be(att->atttypid));
	ReleaseSysCache(tuple);
}

/* The key is what a page belongs to its row by; what the server computes takes no other value. */
static bool
is_writable(const Link *link, Form_pg_attribute att)
{
	ListCell   *lc;

	foreach(lc, link->keys)
		if (strcmp((char *) lfirst(lc), NameStr(att->attname)) == 0)
			return false;
	return att->attgenerated == '\0' && att->attidentity != ATTRIBUTE_IDENTITY_ALWAYS;
}

/* The columns of a foreign key go by name: it is recorded anew whenever the link is altered. */
static void
resolve_foreign_key(Link *link, SyncColumn *column)
{
	ListCell   *lc;

	column->n_values = 0;
	column->writable = true;
	foreach(lc, column->ref_names)
	{
		AttrNumber	attnum = get_attnum(link->relid, (char *) lfirst(lc));
		HeapTuple	tuple;

		if (attnum == InvalidAttrNumber || column->n_values == INDEX_MAX_KEYS)
		{
			column->problem = "a column of the foreign key was dropped or renamed; "
				"call angles.alter_link()";
			return;
		}
		column->key_types[column->n_values++] = get_atttype(link->relid, attnum);
		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(link->relid), Int16GetDatum(attnum));
		column->writable = column->writable && HeapTupleIsValid(tuple) &&
			is_writable(link, (Form_pg_attribute) GETSTRUCT(tuple));
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
	}
	if (column->n_values == 0)
		column->problem = "the foreign key is not known any more; call angles.alter_link()";
}

/* Points relations at the links of the tables they reference. */
static void
resolve_references(void)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, links)
	{
		Link	   *link = (Link *) lfirst(lc);

		for (int i = 0; i < link->n_columns; i++)
		{
			SyncColumn *column = &link->columns[i];

			if (column->c.type != ANGLES_PROP_RELATION)
				continue;
			foreach(lc2, links)
			{
				Link	   *other = (Link *) lfirst(lc2);

				if (other->relid == column->ref_relid)
				{
					column->ref_link = other->id;
					column->ref_data_source = other->data_source_id;
				}
			}
		}
	}
}

/* Gives each link a depth above that of the tables it references, as far as there is no cycle. */
static void
order_by_depth(void)
{
	int			rounds = list_length(links);
	bool		changed = true;

	for (int round = 0; changed && round < rounds; round++)
	{
		ListCell   *lc;

		changed = false;
		foreach(lc, links)
		{
			Link	   *link = (Link *) lfirst(lc);

			for (int i = 0; i < link->n_columns; i++)
			{
				ListCell   *lc2;

				foreach(lc2, links)
				{
					Link	   *parent = (Link *) lfirst(lc2);

					if (parent != link && parent->id == link->columns[i].ref_link &&
						link->depth <= parent->depth && parent->depth < rounds)
					{
						link->depth = parent->depth + 1;
						changed = true;
					}
				}
			}
		}
	}
}

/* ---- statements ---- */

static void
build_statements(Link *link)
{
	StringInfoData values;
	int			next = 3;
	char	   *from;
	char	   *join;
	char	   *scope;
	ListCell   *lc;

	if (link->problem != NULL)
		return;
	from = angles_link_from(link->relid);
	if (from == NULL)
	{
		link->problem = "the table was dropped";
		return;
	}
	initStringInfo(&values);
	for (int i = 0; i < link->n_columns; i++)
	{
		SyncColumn *column = &link->columns[i];

		if (column->c.attnum == 0 || column->problem != NULL)
			continue;
		column->first_value = next;
		if (column->c.type != ANGLES_PROP_RELATION)
		{
			next++;
			appendStringInfo(&values, ", t.%s", quote_identifier(column->c.name));
			continue;
		}
		next += column->n_values;
		foreach(lc, column->ref_names)
			appendStringInfo(&values, ", t.%s", quote_identifier((char *) lfirst(lc)));
	}
	join = key_join(link, false);
	if (link->problem != NULL)
		return;
	scope = link->filter ? psprintf("COALESCE((%s), false)", link->filter) : pstrdup("true");
	link->load_sql = psprintf("SELECT angles_k.angles_ord, %s%s"
							  " FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY"
							  " AS angles_k (angles_key, angles_ord) JOIN %s ON %s",
							  scope, values.data, from, join);
	link->lock_sql = psprintf("%s FOR NO KEY UPDATE OF t SKIP LOCKED", link->load_sql);
	link->update_before = psprintf("UPDATE %s SET ", from);
	link->update_after = psprintf(" FROM (SELECT $1::pg_catalog.text AS angles_key) AS angles_k"
								  " WHERE %s", join);
	link->one_row = psprintf("%s JOIN (SELECT $1::pg_catalog.text AS angles_key) AS angles_k"
							 " ON %s", from, join);
	link->delete_sql = psprintf("DELETE FROM %s USING (SELECT $1::pg_catalog.text AS angles_key)"
								" AS angles_k WHERE %s", from, join);
	link->insert_into = psprintf("INSERT INTO %s AS t",
								 quote_qualified_identifier(link->schema, link->table));
	link->scan_sql = scan_statement(link, from, true);
	if (link->filter)
		link->scan_all_sql = scan_statement(link, from, false);
}

/* Returns the statement that reads the next keys of the table in their order. */
static char *
scan_statement(Link *link, const char *from, bool filtered)
{
	StringInfoData sql;
	StringInfoData keys;

	initStringInfo(&keys);
	for (int i = 0; i < list_length(link->keys); i++)
		appendStringInfo(&keys, "%st.%s", i == 0 ? "" : ", ",
						 quote_identifier((char *) list_nth(link->keys, i)));
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM %s WHERE ($1 IS NULL OR (%s))", keys.data, from,
					 key_join(link, true));
	if (link->filter && filtered)
		appendStringInfo(&sql, " AND (%s)", link->filter);
	appendStringInfo(&sql, " ORDER BY %s LIMIT $2", keys.data);
	return sql.data;
}

char *
angles_link_from(Oid relid)
{
	char	   *table = get_rel_name(relid);
	char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	if (schema == NULL)
		return NULL;
	return psprintf("%s%s.%s AS t",
					get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					quote_identifier(schema), quote_identifier(table));
}

/*
 * Returns the condition that joins t to the key text: equality with angles_k.angles_key (no column
 * of a user is likely to have such a name), or, from_cursor, "comes after $1" in key order.
 */
static char *
key_join(Link *link, bool from_cursor)
{
	StringInfoData sql;
	int			n = list_length(link->keys);
	char	  **left = palloc(n * sizeof(char *));
	char	  **right = palloc(n * sizeof(char *));
	char	  **equal = palloc(n * sizeof(char *));
	char	  **greater = palloc(n * sizeof(char *));
	const char *source = from_cursor ? "$1::pg_catalog.text" : "angles_k.angles_key";

	initStringInfo(&sql);
	for (int i = 0; i < n; i++)
	{
		char	   *name = (char *) list_nth(link->keys, i);
		AttrNumber	attnum = get_attnum(link->relid, name);
		Oid			type;
		int32		typmod;
		Oid			collation;

		if (attnum == InvalidAttrNumber)
		{
			link->problem = psprintf("key column \"%s\" was dropped or renamed; link the table "
									 "again",
									 name);
			return "false";
		}
		get_atttypetypmodcoll(link->relid, attnum, &type, &typmod, &collation);
		/* what is in the table has passed the checks of a domain already */
		type = getBaseTypeAndTypmod(type, &typmod);
		left[i] = psprintf("t.%s", quote_identifier(name));
		right[i] = n == 1
			? psprintf("(%s)::%s", source, format_type_extended(type, typmod,
																FORMAT_TYPE_TYPEMOD_GIVEN |
																FORMAT_TYPE_FORCE_QUALIFY))
			: psprintf("((%s)::pg_catalog.jsonb OPERATOR(pg_catalog.->>) %d)::%s", source, i,
					   format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN |
											FORMAT_TYPE_FORCE_QUALIFY));
		equal[i] = qualified_operator(type, BTEqualStrategyNumber);
		greater[i] = qualified_operator(type, BTGreaterStrategyNumber);
	}
	if (!from_cursor)
	{
		for (int i = 0; i < n; i++)
			appendStringInfo(&sql, "%s%s %s %s", i == 0 ? "" : " AND ", left[i], equal[i],
							 right[i]);
		return sql.data;
	}
	/* (a > x) OR (a = x AND b > y) OR ...: row comparison with operators named by schema */
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&sql, i == 0 ? "(" : " OR (");
		for (int j = 0; j < i; j++)
			appendStringInfo(&sql, "%s %s %s AND ", left[j], equal[j], right[j]);
		appendStringInfo(&sql, "%s %s %s)", left[i], greater[i], right[i]);
	}
	return sql.data;
}

/* Returns OPERATOR(schema.name) of the type's default btree operator of that strategy. */
static char *
qualified_operator(Oid type, int strategy)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	Oid			oper = InvalidOid;
	HeapTuple	tuple;
	Form_pg_operator form;
	char	   *result;

	if (OidIsValid(entry->btree_opf))
		oper = get_opfamily_member(entry->btree_opf, entry->btree_opintype,
								   entry->btree_opintype, strategy);
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(oper));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_CANNOT_LINK),
				 errmsg("type %s has no default btree order", format_type_be(type))));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)",
					  quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

char *
angles_key_text(int n, char **values)
{
	StringInfoData buf;

	if (n == 1)
		return values[0];
	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&buf, i == 0 ? "[" : ", ");
		angles_json_append_string(&buf, values[i]);
	}
	appendStringInfoChar(&buf, ']');
	return buf.data;
}

static List *
text_array_to_list(Datum array)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	List	   *result = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			result = lappend(result, TextDatumGetCString(elements[i]));
	return result;
}
