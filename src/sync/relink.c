/*
 * relink.c
 *		What stays when a link is altered or made again: a column keeps its property, whatever it is
 *		called by now, and the one title of a data source stays its title.
 *
 * Runs in the session of the caller, with the caller's rights; reads only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "sync/relink.h"

static void read_key(LinkBefore *before);
static void read_properties(LinkBefore *before);
static PropertyBefore *property_of(const LinkMap *map, MapRow *row, const LinkBefore *before);
static PropertyBefore *property_of_key(const LinkMap *map, MapRow *row, const LinkBefore *before);
static PropertyBefore *find_property(const LinkBefore *before, AttrNumber attnum,
									 AnglesPropertyType type);
static bool is_taken(const MapRow *row, const LinkBefore *before);
static PropertyBefore *find_key_property(const LinkBefore *before);
static bool is_kept_name(const LinkMap *map, const MapRow *but, const char *name);

LinkBefore *
angles_relink_read(int32 link_id)
{
	LinkBefore *before = palloc0(sizeof(LinkBefore));

	before->id = link_id;
	if (link_id == 0)
		return before;
	read_key(before);
	read_properties(before);
	return before;
}

static void
read_key(LinkBefore *before)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(before->id)};

	if (SPI_execute_with_args("SELECT k.name, COALESCE(" ANGLES_COLUMN_NOW("attnum", "k.name")
							  ", 0)::int4 FROM angles.links l,"
							  " LATERAL unnest(l.key_columns) WITH ORDINALITY AS k (name, n)"
							  " WHERE l.id = $1 ORDER BY k.n",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.links");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		Datum		attnum = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull);

		before->key_names = lappend(before->key_names,
									SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1));
		before->key_attnums = lappend_int(before->key_attnums, DatumGetInt32(attnum));
	}
}

static void
read_properties(LinkBefore *before)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(before->id)};

	if (SPI_execute_with_args("SELECT CASE WHEN c.attnum <> 0 THEN COALESCE("
							  ANGLES_COLUMN_NOW("attnum", "c.attname") ", 0) ELSE 0 END::int2,"
							  " c.property_type, c.property_name, c.is_key,"
							  " COALESCE(c.ref_relid::oid, 0)"
							  " FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id"
							  " WHERE c.link_id = $1 ORDER BY c.attnum, c.property_name",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read angles.link_columns");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		PropertyBefore *property = palloc0(sizeof(PropertyBefore));
		bool		isnull;

		property->attnum = DatumGetInt16(SPI_getbinval(tuple, desc, 1, &isnull));
		property->type = angles_codec_type(SPI_getvalue(tuple, desc, 2));
		property->name = SPI_getvalue(tuple, desc, 3);
		property->is_key = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		property->ref_relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 5, &isnull));
		before->properties = lappend(before->properties, property);
	}
}

bool
angles_relink_key_changed(const LinkBefore *before, const LinkMap *map)
{
	return before->id != 0 && !equal(before->key_attnums, map->key_attnums);
}

int
angles_relink_title(const LinkBefore *before)
{
	ListCell   *lc;

	foreach(lc, before->properties)
	{
		PropertyBefore *property = (PropertyBefore *) lfirst(lc);

		if (property->type == ANGLES_PROP_TITLE && (property->is_key || property->attnum != 0))
			return property->attnum;
	}
	return -1;
}

void
angles_relink_names(LinkMap *map, const LinkBefore *before)
{
	ListCell   *lc;

	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);
		PropertyBefore *property;

		if (!row->included || (row->named && !row->is_title))
			continue;
		property = property_of(map, row, before);
		/* it was sent as a value while the table that it references was not linked */
		if (property == NULL && row->ref_names != NIL && is_taken(row, before))
			row->c.property_name = psprintf("%s page", row->c.property_name);
		if (property == NULL)
			continue;
		if (row->named && strcmp(row->c.property_name, property->name) != 0)
			row->remark = "the title keeps its name; another one can be given in Notion";
		row->c.property_name = property->name;
		row->kept = true;
	}
	/* a name that another column has kept is not free for the column that is called so */
	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		if (row->included && !row->kept && !row->named &&
			is_kept_name(map, row, row->c.property_name))
			row->c.property_name = psprintf(row->is_key ? "%s key" : "%s column",
											row->c.property_name);
	}
}

/* Returns the property that the row of the map had, or NULL; its type is the one that is wanted. */
static PropertyBefore *
property_of(const LinkMap *map, MapRow *row, const LinkBefore *before)
{
	PropertyBefore *property;
	ListCell   *lc;

	if (row->is_title)
	{
		foreach(lc, before->properties)
		{
			property = (PropertyBefore *) lfirst(lc);
			/* a data source has one title and cannot get another */
			if (property->type == ANGLES_PROP_TITLE)
				return property;
		}
		return NULL;
	}
	if (row->is_key)
		return property_of_key(map, row, before);
	property = find_property(before, row->c.attnum, row->c.type);
	if (property != NULL)
		return property->ref_relid == row->ref_relid ? property : NULL;
	/* a property of text holds anything: the column was the key, or it was text itself */
	if (row->ref_names != NIL || row->typed)
		return NULL;
	property = find_property(before, row->c.attnum, ANGLES_PROP_RICH_TEXT);
	if (property == NULL && list_length(before->key_attnums) == 1 &&
		linitial_int(before->key_attnums) == row->c.attnum)
		property = find_key_property(before);
	if (property == NULL || property->type != ANGLES_PROP_RICH_TEXT)
		return NULL;
	row->c.type = ANGLES_PROP_RICH_TEXT;
	row->c.options = NIL;
	return property;
}

/*
 * The key stays where it is as long as the same columns make it up. Another column that becomes the
 * key brings its own property, if that is one of text.
 */
static PropertyBefore *
property_of_key(const LinkMap *map, MapRow *row, const LinkBefore *before)
{
	PropertyBefore *property = find_key_property(before);
	int			n = list_length(map->key_attnums);

	if (property != NULL && property->type == row->c.type &&
		(equal(before->key_attnums, map->key_attnums) ||
		 (n > 1 && list_length(before->key_attnums) > 1)))
		return property;
	if (n > 1)
		return NULL;
	property = find_property(before, linitial_int(map->key_attnums), row->c.type);
	if (property != NULL)
		return property;
	if (is_taken(row, before))
		row->c.property_name = psprintf("%s key", row->c.property_name);
	return NULL;
}

/* Whether the name of the row's property is taken in Notion by one of another type. */
static bool
is_taken(const MapRow *row, const LinkBefore *before)
{
	ListCell   *lc;

	foreach(lc, before->properties)
	{
		PropertyBefore *property = (PropertyBefore *) lfirst(lc);

		if (pg_strcasecmp(property->name, row->c.property_name) == 0 &&
			property->type != row->c.type)
			return true;
	}
	return false;
}

static PropertyBefore *
find_property(const LinkBefore *before, AttrNumber attnum, AnglesPropertyType type)
{
	ListCell   *lc;

	foreach(lc, before->properties)
	{
		PropertyBefore *property = (PropertyBefore *) lfirst(lc);

		if (!property->is_key && property->attnum == attnum && property->type == type)
			return property;
	}
	return NULL;
}

static PropertyBefore *
find_key_property(const LinkBefore *before)
{
	ListCell   *lc;

	foreach(lc, before->properties)
	{
		PropertyBefore *property = (PropertyBefore *) lfirst(lc);

		if (property->is_key)
			return property;
	}
	return NULL;
}

static bool
is_kept_name(const LinkMap *map, const MapRow *but, const char *name)
{
	ListCell   *lc;

	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		if (row != but && row->included && row->kept &&
			pg_strcasecmp(row->c.property_name, name) == 0)
			return true;
	}
	return false;
}
