/*
 * codec_types.c
 *		Which property holds which SQL type. The table for people stands in README.md of this
 *		folder.
 */
#include "postgres.h"

#include <float.h>

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "core/json.h"
#include "notion/codec.h"
#include "notion/codec_internal.h"

/* Options that one schema update may carry (reference, section 5). */
#define MAX_OPTIONS 100

static const char *const type_names[] = {
	[ANGLES_PROP_TITLE] = "title",
	[ANGLES_PROP_RICH_TEXT] = "rich_text",
	[ANGLES_PROP_NUMBER] = "number",
	[ANGLES_PROP_CHECKBOX] = "checkbox",
	[ANGLES_PROP_SELECT] = "select",
	[ANGLES_PROP_MULTI_SELECT] = "multi_select",
	[ANGLES_PROP_STATUS] = "status",
	[ANGLES_PROP_DATE] = "date",
	[ANGLES_PROP_URL] = "url",
	[ANGLES_PROP_EMAIL] = "email",
	[ANGLES_PROP_PHONE] = "phone_number",
	[ANGLES_PROP_RELATION] = "relation",
	[ANGLES_PROP_UNKNOWN] = "unknown",
};

static bool is_number_type(Oid type);
static bool options_fit(List *options);
static List *enum_labels(Oid type);
static bool refused_type(Oid type, char **reason);

AnglesPropertyType
angles_codec_type(const char *notion_name)
{
	for (int i = 0; i < ANGLES_PROP_UNKNOWN; i++)
		if (strcmp(type_names[i], notion_name) == 0)
			return (AnglesPropertyType) i;
	return ANGLES_PROP_UNKNOWN;
}

const char *
angles_codec_type_name(AnglesPropertyType type)
{
	return type_names[type];
}

bool
angles_codec_choose(AnglesColumn *column, char **reason)
{
	Oid			type = getBaseType(column->typid);
	Oid			element = get_element_type(type);

	if (refused_type(type, reason))
		return false;
	column->type = ANGLES_PROP_RICH_TEXT;
	if (is_number_type(type))
		column->type = ANGLES_PROP_NUMBER;
	else if (type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID)
		column->type = ANGLES_PROP_DATE;
	else if (type == BOOLOID)
	{
		/* a checkbox cannot tell false from null */
		column->type = column->not_null ? ANGLES_PROP_CHECKBOX : ANGLES_PROP_SELECT;
		column->options = column->not_null ? NIL : list_make2("true", "false");
	}
	else if (type_is_enum(type))
	{
		column->options = enum_labels(type);
		if (options_fit(column->options))
			column->type = ANGLES_PROP_SELECT;
	}
	else if (OidIsValid(element) && (angles_codec_is_text(element) || type_is_enum(element)))
	{
		column->options = type_is_enum(element) ? enum_labels(element) : NIL;
		if (column->options == NIL || options_fit(column->options))
			column->type = ANGLES_PROP_MULTI_SELECT;
	}
	else if (angles_codec_is_text(type) && column->options != NIL && options_fit(column->options))
		column->type = ANGLES_PROP_SELECT;
	if (column->type != ANGLES_PROP_SELECT && column->type != ANGLES_PROP_MULTI_SELECT)
		column->options = NIL;
	return true;
}

bool
angles_codec_allowed(const AnglesColumn *column, AnglesPropertyType wanted, char **reason)
{
	Oid			type = getBaseType(column->typid);
	Oid			element = get_element_type(type);
	bool		allowed;

	if (refused_type(type, reason))
		return false;
	switch (wanted)
	{
		case ANGLES_PROP_TITLE:
		case ANGLES_PROP_RICH_TEXT:
			allowed = true;
			break;
		case ANGLES_PROP_NUMBER:
			allowed = is_number_type(type);
			break;
		case ANGLES_PROP_CHECKBOX:
			allowed = type == BOOLOID;
			break;
		case ANGLES_PROP_SELECT:
			allowed = angles_codec_is_text(type) || type_is_enum(type) || type == BOOLOID;
			break;
		case ANGLES_PROP_STATUS:
			allowed = angles_codec_is_text(type) || type_is_enum(type);
			break;
		case ANGLES_PROP_MULTI_SELECT:
			allowed = OidIsValid(element) &&
				(angles_codec_is_text(element) || type_is_enum(element));
			break;
		case ANGLES_PROP_DATE:
			allowed = type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
			break;
		case ANGLES_PROP_URL:
		case ANGLES_PROP_EMAIL:
		case ANGLES_PROP_PHONE:
			allowed = angles_codec_is_text(type);
			break;
		default:
			allowed = false;
			*reason = "This type of property is not written by angles.";
			return false;
	}
	if (!allowed)
		*reason = psprintf("A property of type %s cannot hold every value of %s.",
						   type_names[wanted], format_type_be(column->typid));
	return allowed;
}

void
angles_codec_append_schema(StringInfo buf, const AnglesColumn *column,
						   const char *relation_data_source)
{
	ListCell   *lc;

	switch (column->type)
	{
		case ANGLES_PROP_STATUS:
			/* without options of ours Notion makes its three own; no write adds one later */
			if (column->options == NIL)
			{
				appendStringInfoString(buf, "{\"status\":{}}");
				break;
			}
			/* FALLTHROUGH */
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_MULTI_SELECT:
			appendStringInfo(buf, "{\"%s\":{\"options\":[", type_names[column->type]);
			foreach(lc, column->options)
			{
				appendStringInfoString(buf, lc == list_head(column->options) ? "{\"name\":"
									   : ",{\"name\":");
				angles_json_append_string(buf, (char *) lfirst(lc));
				appendStringInfoChar(buf, '}');
			}
			appendStringInfoString(buf, "]}}");
			break;
		case ANGLES_PROP_NUMBER:
			appendStringInfoString(buf, "{\"number\":{\"format\":\"number\"}}");
			break;
		case ANGLES_PROP_RELATION:
			appendStringInfo(buf, "{\"relation\":{\"data_source_id\":\"%s\","
							 "\"type\":\"single_property\",\"single_property\":{}}}",
							 relation_data_source);
			break;
		default:
			appendStringInfo(buf, "{\"%s\":{}}", type_names[column->type]);
			break;
	}
}

bool
angles_codec_is_text(Oid type)
{
	char		category;
	bool		preferred;

	/* citext and the like count: they are of the string category and have text's own input */
	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING;
}

static bool
is_number_type(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == FLOAT4OID ||
		type == FLOAT8OID || type == NUMERICOID;
}

/* Options of one property differ by more than case, which Notion does not tell apart. */
static bool
options_fit(List *options)
{
	ListCell   *lc;
	char	  **folded = palloc(Max(list_length(options), 1) * sizeof(char *));
	int			n = 0;

	if (list_length(options) == 0 || list_length(options) > MAX_OPTIONS)
		return false;
	foreach(lc, options)
	{
		char	   *label = (char *) lfirst(lc);

		if (label[0] == '\0' || strchr(label, ',') != NULL ||
			angles_codec_utf16_length(label) > ANGLES_OPTION_UNITS)
			return false;
		folded[n] = angles_codec_fold(label);
		for (int i = 0; i < n; i++)
			if (strcmp(folded[i], folded[n]) == 0)
				return false;
		n++;
	}
	return true;
}

char *
angles_codec_fold(const char *label)
{
	return str_tolower(label, strlen(label), DEFAULT_COLLATION_OID);
}

/* Labels of an enum in its order. */
static List *
enum_labels(Oid type)
{
	CatCList   *members = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	List	   *labels = NIL;
	float4		last = -FLT_MAX;

	for (int n = 0; n < members->n_members; n++)
	{
		Form_pg_enum next = NULL;

		for (int i = 0; i < members->n_members; i++)
		{
			Form_pg_enum form = (Form_pg_enum) GETSTRUCT(&members->members[i]->tuple);

			if (form->enumsortorder > last &&
				(next == NULL || form->enumsortorder < next->enumsortorder))
				next = form;
		}
		if (next == NULL)
			break;
		last = next->enumsortorder;
		labels = lappend(labels, pstrdup(NameStr(next->enumlabel)));
	}
	ReleaseSysCacheList(members);
	return labels;
}

static bool
refused_type(Oid type, char **reason)
{
	if (get_typtype(type) == TYPTYPE_PSEUDO)
		*reason = "a column of a pseudo-type has no values of its own";
	else if (!get_typisdefined(type))
		*reason = "its type is not defined";
	else
		return false;
	return true;
}
