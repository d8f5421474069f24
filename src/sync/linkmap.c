/*
 * linkmap.c
 *		Chooses properties for the columns of a table. Runs in the session that calls link(), with
 *		the rights of the caller; reads catalogs, and a sample of the rows to look for secrets.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "core/compat.h"
#include "core/errors.h"
#include "core/json.h"
#include "sync/linkmap.h"
#include "sync/merge.h"
#include "sync/mapping.h"
#include "sync/relink.h"

/* Words in a column's name that make its values look like credentials. */
#define SECRET_NAMES "(passw|secret|token|api_?key|private_?key|access_?key|credential)"

/* Forms of well-known credentials (the issuers' own documentation of their prefixes). */
#define SECRET_VALUES \
	"(ntn_[A-Za-z0-9]{20}|secret_[A-Za-z0-9]{20}|gh[pousr]_[A-Za-z0-9]{30}|AKIA[0-9A-Z]{16}" \
	"|-----BEGIN [A-Z ]*PRIVATE KEY|xox[abprs]-[A-Za-z0-9-]{10}|sk[-_][A-Za-z0-9_-]{20})"

/* Rows that are looked at for such values. */
#define SAMPLE_ROWS "200"

static void find_key(LinkMap *map);
static void add_columns(LinkMap *map, Jsonb *wishes);
static void apply_wish(MapRow *row, Jsonb *wishes, bool *named);
static void make_flag(LinkMap *map, MapRow *row, Jsonb *wishes);
static void make_sum(MapRow *row, Jsonb *wishes, const char *computed);
static void check_wishes(LinkMap *map, Jsonb *wishes);
static void add_relations(LinkMap *map);
static void add_relation(LinkMap *map, Oid target, ArrayType *from, ArrayType *to,
						 const char *constraint);
static MapRow *row_of_column(LinkMap *map, const char *name);
static List *check_options(Oid relid, AttrNumber attnum);
static List *options_of_expression(Node *node);
static void look_for_secrets(LinkMap *map, MapRow *row, bool named);
static void choose_title(LinkMap *map, const char *title_column, int title_before);
static void add_key(LinkMap *map, Jsonb *wishes);
static void apply_wish_for_key(MapRow *key, Jsonb *wishes);
static void check_names(LinkMap *map);
static void check_partitions(Oid relid, char kind);
static Oid	linked_of(List *relids);
static char *table_literal(Oid relid);
ANGLES_NORETURN static void gone(Oid relid) pg_attribute_noreturn();
static void refuse(Oid relid, const char *why, const char *hint);

void
angles_linkmap_check_table(Oid relid)
{
	char		kind = get_rel_relkind(relid);
	Oid			schema = get_rel_namespace(relid);
	char		persistence;

	if (kind == '\0')
		gone(relid);
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		refuse(relid, "only tables can be linked: row triggers capture their changes",
			   "Link the table behind it.");
	if (IsCatalogNamespace(schema) || IsToastNamespace(schema) ||
		schema == get_namespace_oid("information_schema", true) ||
		schema == get_namespace_oid("angles", true))
		refuse(relid, "it belongs to the system", NULL);
	if (!ANGLES_OWNS_TABLE(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", get_rel_name(relid)),
				 errhint("Its owner or a superuser may call angles.link().")));
	/* from here on nobody changes what the mapping is made of */
	LockRelationOid(relid, AccessShareLock);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		gone(relid);
	persistence = get_rel_persistence(relid);
	if (persistence == RELPERSISTENCE_TEMP || isAnyTempNamespace(schema))
		refuse(relid, "it is a temporary table", NULL);
	if (persistence == RELPERSISTENCE_UNLOGGED)
		refuse(relid, "it is unlogged: a crash empties it, which would look like a mass delete",
			   "ALTER TABLE ... SET LOGGED first.");
	if (kind == RELKIND_RELATION && has_subclass(relid) &&
		list_length(find_inheritance_children(relid, NoLock)) > 0)
		refuse(relid, "other tables inherit from it, and triggers do not see their rows",
			   "Use partitions, or link each of the tables.");
	check_partitions(relid, kind);
}

/*
 * The triggers of a partitioned table are those of its partitions too: a row belongs to one link.
 */
static void
check_partitions(Oid relid, char kind)
{
	Oid			other = InvalidOid;

	if (get_rel_relispartition(relid))
		other = linked_of(get_partition_ancestors(relid));
	if (OidIsValid(other))
		refuse(relid, psprintf("it is a partition of \"%s\", which is linked, with all its rows",
							   get_rel_name(other)),
			   psprintf("Its rows are synced already. To link single partitions, call "
						"angles.unlink(%s) first.", table_literal(other)));
	if (kind == RELKIND_PARTITIONED_TABLE)
		other = linked_of(list_delete_oid(find_all_inheritors(relid, NoLock, NULL), relid));
	if (OidIsValid(other))
		refuse(relid, psprintf("its partition \"%s\" is linked by itself", get_rel_name(other)),
			   psprintf("Call angles.unlink(%s) first.", table_literal(other)));
}

/* Returns the first of these tables, by name, that is linked, or InvalidOid. */
static Oid
linked_of(List *relids)
{
	Datum	   *elements = palloc(Max(list_length(relids), 1) * sizeof(Datum));
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];
	bool		isnull;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, relids)
		elements[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	values[0] = PointerGetDatum(construct_array(elements, n, OIDOID, sizeof(Oid), true,
												TYPALIGN_INT));
	if (SPI_execute_with_args("SELECT relid::oid FROM angles.links WHERE relid::oid = ANY ($1)"
							  " AND state <> 'unlinked' ORDER BY relid::text",
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.links");
	if (SPI_processed == 0)
		return InvalidOid;
	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										  &isnull));
}

/* Returns the table's name as an argument of angles' functions. */
static char *
table_literal(Oid relid)
{
	const char *schema = get_namespace_name(get_rel_namespace(relid));

	return quote_literal_cstr(quote_qualified_identifier(schema, get_rel_name(relid)));
}

static void
gone(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("there is no table with OID %u", relid)));
}

static void
refuse(Oid relid, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_CANNOT_LINK),
			 errmsg("cannot link \"%s\": %s", get_rel_name(relid), why),
			 hint ? errhint("%s", hint) : 0));
}

LinkMap *
angles_linkmap_make(Oid relid, Jsonb *wishes, const char *title_column,
					const LinkBefore *before)
{
	LinkMap    *map = palloc0(sizeof(LinkMap));

	map->relid = relid;
	find_key(map);
	add_columns(map, wishes);
	check_wishes(map, wishes);
	add_relations(map);
	choose_title(map, title_column, angles_relink_title(before));
	add_key(map, wishes);
	angles_relink_names(map, before);
	check_names(map);
	return map;
}

/* ---- key ---- */

static void
find_key(LinkMap *map)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(map->relid)};

	if (SPI_execute_with_args("SELECT a.attnum::int4, a.attname FROM pg_index i,"
							  " LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, n)"
							  " JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum"
							  " WHERE i.indrelid = $1 AND i.indisprimary AND k.n <= i.indnkeyatts"
							  " ORDER BY k.n",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the primary key");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		map->key_attnums = lappend_int(map->key_attnums,
									   DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
																   SPI_tuptable->tupdesc, 1,
																   &isnull)));
		map->key_names = lappend(map->key_names, SPI_getvalue(SPI_tuptable->vals[i],
															  SPI_tuptable->tupdesc, 2));
	}
	if (map->key_names == NIL)
		refuse(map->relid, "it has no primary key, by which a row finds its page again",
			   "ALTER TABLE ... ADD PRIMARY KEY first.");
}

/* ---- columns ---- */

static void
add_columns(LinkMap *map, Jsonb *wishes)
{
	Relation	rel = table_open(map->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		MapRow	   *row;
		char	   *reason = NULL;
		bool		named = false;

		if (att->attisdropped)
			continue;
		/* a key of one column is the row's key itself: see add_key() */
		if (list_length(map->key_attnums) == 1 && linitial_int(map->key_attnums) == att->attnum)
			continue;
		row = palloc0(sizeof(MapRow));
		row->included = true;
		row->c.attnum = att->attnum;
		row->c.name = pstrdup(NameStr(att->attname));
		row->c.typid = att->atttypid;
		row->c.typmod = att->atttypmod;
		row->c.not_null = att->attnotnull;
		row->c.property_name = row->c.name;
		row->c.options = check_options(map->relid, att->attnum);
		if (!angles_codec_choose(&row->c, &reason))
		{
			row->included = false;
			row->remark = psprintf("left out: %s", reason);
		}
		apply_wish(row, wishes, &named);
		make_flag(map, row, wishes);
		make_sum(row, wishes, list_member_int(map->key_attnums, att->attnum) ? "the primary key"
				 : att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS
				 ? "a generated column" : NULL);
		if (row->included)
			look_for_secrets(map, row, named);
		map->rows = lappend(map->rows, row);
	}
	table_close(rel, NoLock);
}

/* The column that tells whether the row's page was removed is no property. */
static void
make_flag(LinkMap *map, MapRow *row, Jsonb *wishes)
{
	JsonbValue	wish;
	Oid			type = getBaseType(row->c.typid);

	if (wishes == NULL || !angles_json_get(&wishes->root, row->c.name, &wish) ||
		wish.type != jbvBinary || !angles_json_get_bool(wish.val.binary.data, "flag", false))
		return;
	if (type != BOOLOID && type != DATEOID && type != TIMESTAMPOID && type != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("column \"%s\" of type %s cannot be a flag", row->c.name,
						format_type_be(row->c.typid)),
				 errhint("It may be a boolean, a date or a timestamp.")));
	if (map->flag_column != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("columns \"%s\" and \"%s\" are both flags", map->flag_column,
						row->c.name),
				 errhint("A link has one column for that.")));
	map->flag_column = row->c.name;
	row->included = false;
	row->remark = "set when the row's page is removed in Notion";
}

/* A number to which both sides add. "computed": what no value of Notion's goes into, or NULL. */
static void
make_sum(MapRow *row, Jsonb *wishes, const char *computed)
{
	JsonbValue	wish;
	JsonbValue	additive;

	if (wishes == NULL || !angles_json_get(&wishes->root, row->c.name, &wish) ||
		wish.type != jbvBinary || !JsonContainerIsObject(wish.val.binary.data) ||
		!angles_json_get(wish.val.binary.data, "additive", &additive))
		return;
	if (additive.type != jbvBool)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("\"additive\" of column \"%s\" is neither true nor false", row->c.name),
				 errhint("Give it as in mapping => '{\"%s\": {\"additive\": true}}'.",
						 row->c.name)));
	if (!additive.val.boolean)
		return;
	if (!row->included || computed != NULL || !angles_codec_adds(&row->c))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("column \"%s\" cannot be additive", row->c.name),
				 errdetail("%s", !row->included ? "It is no property."
						   : computed != NULL ? psprintf("It is %s.", computed)
						   : psprintf("It is of type %s, as a property of type %s.",
									  format_type_be(row->c.typid),
									  angles_codec_type_name(row->c.type))),
				 errhint("A column of type smallint, integer, bigint or numeric may be, as a "
						 "property of type number.")));
	row->additive = true;
	row->remark = "what both sides add is added up";
}

static void
apply_wish(MapRow *row, Jsonb *wishes, bool *named)
{
	JsonbValue	wish;
	JsonbContainer *object;
	char	   *type;
	char	   *name;
	char	   *reason = NULL;

	if (wishes == NULL || !angles_json_get(&wishes->root, row->c.name, &wish))
		return;
	*named = true;
	if (wish.type == jbvNull)
	{
		row->included = false;
		row->remark = "left out, as asked";
		return;
	}
	if (wish.type == jbvString)
	{
		row->c.property_name = pnstrdup(wish.val.string.val, wish.val.string.len);
		row->named = true;
		return;
	}
	object = wish.type == jbvBinary ? wish.val.binary.data : NULL;
	if (object == NULL || !JsonContainerIsObject(object))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("mapping of column \"%s\" is not understood", row->c.name),
				 errhint("Give null, a property name, or {\"property\": \"name\", \"type\": "
						 "\"rich_text\"}.")));
	name = angles_json_get_text(object, "property");
	type = angles_json_get_text(object, "type");
	row->conflict = angles_json_get_text(object, "conflict");
	if (row->conflict != NULL && !angles_merge_is_policy(row->conflict))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("column \"%s\" cannot have the conflict policy \"%s\"", row->c.name,
						row->conflict),
				 errhint("It may be one of: newest postgres notion manual.")));
	if (row->conflict != NULL)
		row->remark = psprintf("conflicts: %s", row->conflict);
	if (name != NULL)
	{
		row->c.property_name = name;
		row->named = true;
	}
	if (type == NULL)
		return;
	if (!angles_codec_allowed(&row->c, angles_codec_type(type), &reason))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("column \"%s\" of type %s cannot be a property of type %s",
						row->c.name, format_type_be(row->c.typid), type),
				 reason ? errdetail("%s", reason) : 0,
				 errhint("Leave \"type\" out, or look at the mapping with dry_run => true.")));
	row->c.type = angles_codec_type(type);
	row->typed = true;
	row->included = true;
	if (row->conflict == NULL)
		row->remark = NULL;
}

/* A wish for a column that does not exist is a typing error, not something to pass over. */
static void
check_wishes(LinkMap *map, Jsonb *wishes)
{
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (wishes == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(wishes))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("mapping must be a JSON object with columns as keys")));
	it = JsonbIteratorInit(&wishes->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(value.val.string.val, value.val.string.len);
		if (row_of_column(map, name) == NULL &&
			!(list_length(map->key_names) == 1 && strcmp(linitial(map->key_names), name) == 0))
			ereport(ERROR,
					(errcode(ERRCODE_ANGLES_BAD_MAPPING),
					 errmsg("mapping names column \"%s\", which table \"%s\" has not got", name,
							get_rel_name(map->relid))));
	}
}

static MapRow *
row_of_column(LinkMap *map, const char *name)
{
	ListCell   *lc;

	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		if (row->c.attnum != 0 && row->ref_names == NIL && strcmp(row->c.name, name) == 0)
			return row;
	}
	return NULL;
}

/* Returns the values that a CHECK of the form "column IN (...)" allows, or NIL. */
static List *
check_options(Oid relid, AttrNumber attnum)
{
	Oid			types[2] = {OIDOID, INT2OID};
	Datum		values[2] = {ObjectIdGetDatum(relid), Int16GetDatum(attnum)};
	List	   *options = NIL;

	if (SPI_execute_with_args("SELECT conbin::text FROM pg_constraint WHERE conrelid = $1"
							  " AND contype = 'c' AND conkey = ARRAY[$2] ORDER BY conname",
							  2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read constraints");
	for (uint64 i = 0; i < SPI_processed && options == NIL; i++)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (text != NULL)
			options = options_of_expression(stringToNode(text));
	}
	return options;
}

static List *
options_of_expression(Node *node)
{
	ScalarArrayOpExpr *any;
	Node	   *array;
	Const	   *list;
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	List	   *options = NIL;
	Oid			element;

	node = eval_const_expressions(NULL, node);
	if (!IsA(node, ScalarArrayOpExpr))
		return NIL;
	any = (ScalarArrayOpExpr *) node;
	array = (Node *) lsecond(any->args);
	if (!any->useOr || !IsA(strip_implicit_coercions((Node *) linitial(any->args)), Var) ||
		!IsA(array, Const))
		return NIL;
	list = (Const *) array;
	element = get_element_type(list->consttype);
	/* an operator other than equality would give the list another meaning */
	if (list->constisnull || (element != TEXTOID && element != VARCHAROID) ||
		strcmp(get_opname(any->opno), "=") != 0)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(list->constvalue), element, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			options = lappend(options, TextDatumGetCString(elements[i]));
	return options;
}

/* A column that looks like it holds credentials is left out unless the mapping names it. */
static void
look_for_secrets(LinkMap *map, MapRow *row, bool named)
{
	const char *what = NULL;
	Oid			type = getBaseType(row->c.typid);
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(row->c.name)};

	if (SPI_execute_with_args("SELECT $1 ~* '" SECRET_NAMES "'", 1, types, values, NULL, true,
							  0) == SPI_OK_SELECT &&
		strcmp(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), "t") == 0)
		what = "its name looks like a secret's";
	else if (type == TEXTOID || type == VARCHAROID || type == JSONBOID || type == JSONOID)
	{
		char	   *sql = psprintf("SELECT FROM (SELECT t.%s AS v FROM %s LIMIT " SAMPLE_ROWS ") s"
								   " WHERE v::text ~ '" SECRET_VALUES "' LIMIT 1",
								   quote_identifier(row->c.name), angles_link_from(map->relid));

		if (SPI_execute(sql, true, 1) == SPI_OK_SELECT && SPI_processed > 0)
			what = "some of its values look like secrets";
	}
	if (what == NULL)
		return;
	if (named)
		row->remark = psprintf("caution: %s", what);
	else
	{
		row->included = false;
		row->remark = psprintf("left out: %s; name it in the mapping to send it", what);
	}
}

/* ---- foreign keys ---- */

static void
add_relations(LinkMap *map)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(map->relid)};
	SPITupleTable *found;
	uint64		n;

	if (SPI_execute_with_args("SELECT c.confrelid, c.conkey, c.confkey, c.conname,"
							  " EXISTS (SELECT FROM angles.links l WHERE l.relid = c.confrelid"
							  "  AND l.state <> 'unlinked') OR c.confrelid = $1"
							  " FROM pg_constraint c WHERE c.conrelid = $1 AND c.contype = 'f'"
							  " AND c.conparentid = 0 ORDER BY c.conname",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read foreign keys");
	found = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = found->vals[i];
		bool		isnull;
		Oid			target = DatumGetObjectId(SPI_getbinval(tuple, found->tupdesc, 1, &isnull));
		ArrayType  *from = DatumGetArrayTypePCopy(SPI_getbinval(tuple, found->tupdesc, 2, &isnull));
		ArrayType  *to = DatumGetArrayTypePCopy(SPI_getbinval(tuple, found->tupdesc, 3, &isnull));

		if (DatumGetBool(SPI_getbinval(tuple, found->tupdesc, 5, &isnull)))
			add_relation(map, target, from, to, SPI_getvalue(tuple, found->tupdesc, 4));
		else
		{
			AttrNumber	attnum = ((int16 *) ARR_DATA_PTR(from))[0];
			MapRow	   *row = row_of_column(map, get_attname(map->relid, attnum, false));

			if (row != NULL && row->included && row->remark == NULL)
				row->remark = psprintf("sent as a value: table \"%s\" is not linked",
									   get_rel_name(target));
		}
	}
}

/* Only a foreign key to the whole primary key says which page is meant. */
static void
add_relation(LinkMap *map, Oid target, ArrayType *from, ArrayType *to, const char *constraint)
{
	LinkMap		other = {.relid = target};
	int			n = ArrayGetNItems(ARR_NDIM(from), ARR_DIMS(from));
	int16	   *ours = (int16 *) ARR_DATA_PTR(from);
	int16	   *theirs = (int16 *) ARR_DATA_PTR(to);
	List	   *names = NIL;
	ListCell   *lc;
	MapRow	   *row;

	find_key(&other);
	if (list_length(other.key_attnums) != n)
		return;
	foreach(lc, other.key_attnums)
	{
		for (int i = 0; i < n; i++)
			if (theirs[i] == lfirst_int(lc))
				names = lappend(names, get_attname(map->relid, ours[i], false));
	}
	if (list_length(names) != n)
		return;
	row = n == 1 ? row_of_column(map, linitial(names)) : NULL;
	if (row == NULL)
	{
		row = palloc0(sizeof(MapRow));
		row->c.attnum = ours[0];
		row->c.name = linitial(names);
		row->c.typid = get_atttype(map->relid, ours[0]);
		row->c.typmod = -1;
		row->c.property_name = n == 1 ? psprintf("%s page", (char *) linitial(names))
			: pstrdup(constraint);
		map->rows = lappend(map->rows, row);
	}
	else if (!row->included || row->ref_names != NIL)
		return;
	row->included = true;
	row->c.type = ANGLES_PROP_RELATION;
	row->c.options = NIL;
	row->ref_relid = target;
	row->ref_names = names;
	row->remark = psprintf("relation to the pages of \"%s\"", get_rel_name(target));
}

/* ---- title and key ---- */

/*
 * Nobody's wish: the column that was the title stays it, and where the key was the title, it stays
 * that. Else a column of a usual name, else the first one of text.
 */
static void
choose_title(LinkMap *map, const char *title_column, int title_before)
{
	static const char *const usual[] = {"title", "name", "subject", "headline", "summary", "label",
	"full_name", "display_name", "description"};
	MapRow	   *title = NULL;
	ListCell   *lc;

	if (title_column != NULL)
	{
		char	   *reason = NULL;

		if (list_length(map->key_names) == 1 && strcmp(linitial(map->key_names), title_column) == 0)
			return;
		title = row_of_column(map, title_column);
		if (title == NULL || title->c.type == ANGLES_PROP_RELATION ||
			!angles_codec_allowed(&title->c, ANGLES_PROP_TITLE, &reason))
			ereport(ERROR,
					(errcode(ERRCODE_ANGLES_BAD_MAPPING),
					 errmsg("column \"%s\" cannot be the title", title_column),
					 reason ? errdetail("%s", reason) : 0,
					 errhint("Name a text column of table \"%s\".", get_rel_name(map->relid))));
		title->included = true;
	}
	else if (title_before == 0)
		return;
	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		if (title == NULL && row->included && row->c.attnum == title_before &&
			row->c.type == ANGLES_PROP_RICH_TEXT)
			title = row;
	}
	for (int i = 0; title == NULL && i < lengthof(usual); i++)
	{
		MapRow	   *row = row_of_column(map, usual[i]);

		if (row != NULL && row->included && row->c.type == ANGLES_PROP_RICH_TEXT)
			title = row;
	}
	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);
		Oid			type = getBaseType(row->c.typid);

		if (title == NULL && row->included && row->c.type == ANGLES_PROP_RICH_TEXT &&
			(type == TEXTOID || type == VARCHAROID))
			title = row;
	}
	if (title == NULL)
		return;
	title->c.type = ANGLES_PROP_TITLE;
	title->is_title = true;
}

/* The property by which a page is found again. Without another title it is the title as well. */
static void
add_key(LinkMap *map, Jsonb *wishes)
{
	MapRow	   *key = palloc0(sizeof(MapRow));
	bool		has_title = false;
	ListCell   *lc;

	foreach(lc, map->rows)
		has_title = has_title || ((MapRow *) lfirst(lc))->is_title;
	key->included = true;
	key->is_key = true;
	key->is_title = !has_title;
	key->c.attnum = 0;
	key->c.name = list_length(map->key_names) == 1 ? linitial(map->key_names) : "key";
	key->c.typid = TEXTOID;
	key->c.typmod = -1;
	key->c.not_null = true;
	key->c.type = has_title ? ANGLES_PROP_RICH_TEXT : ANGLES_PROP_TITLE;
	key->c.property_name = list_length(map->key_names) == 1 ? linitial(map->key_names)
		: "angles key";
	if (list_length(map->key_names) == 1)
		apply_wish_for_key(key, wishes);
	key->remark = has_title ? "finds the row's page again; do not edit it in Notion"
		: "title, and finds the row's page again; do not edit it in Notion";
	map->rows = lcons(key, map->rows);
}

/* Its name is free; without it, or as anything but text, no page would be found again. */
static void
apply_wish_for_key(MapRow *key, Jsonb *wishes)
{
	AnglesPropertyType type = key->c.type;
	bool		named = false;

	apply_wish(key, wishes, &named);
	make_sum(key, wishes, "the primary key");
	if (key->included && key->c.type == type)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_BAD_MAPPING),
			 errmsg("column \"%s\" is the primary key: it must be a property of type %s",
					key->c.name, angles_codec_type_name(type)),
			 errhint("The mapping may give it another name: '{\"%s\": \"name\"}'.", key->c.name)));
}

static void
check_names(LinkMap *map)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		for_each_cell(other, map->rows, lnext(map->rows, lc))
		{
			MapRow	   *second = (MapRow *) lfirst(other);

			if (row->included && second->included &&
				pg_strcasecmp(row->c.property_name, second->c.property_name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_ANGLES_BAD_MAPPING),
						 errmsg("two columns would be property \"%s\"", row->c.property_name),
						 errhint("Give one of them another name: mapping => "
								 "'{\"%s\": \"another name\"}'.", second->c.name)));
		}
	}
}
