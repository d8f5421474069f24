/*
 * codec_wire.c
 *		Canonical form to and from the property values of Notion's API. Runs in the sync worker;
 *		what is read here comes from outside and may have any shape.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "core/json.h"
#include "notion/codec.h"
#include "notion/codec_internal.h"

/* How many UTF-16 units a piece may be shorter to end between two letters. */
#define MAX_STEP_BACK 64

static int	units_of(const char *p, int *bytes);
static int64 count_pieces(const char *text, bool gentle);
static const char *piece_end(const char *text, bool gentle);
static bool belongs_to_previous(const char *p);
static bool is_joiner(const char *p);
static const char *string_of(const char *canon);
static void append_names(StringInfo buf, const char *canon, const char *member);
static char *remote_number(Numeric numeric);
static bool shape_is_known(AnglesPropertyType type, const JsonbValue *value);
static char *remote_object(const AnglesColumn *column, JsonbContainer *object, char **problem);
static char *item_text(JsonbContainer *item);
static bool every_item_has(JsonbContainer *array, char *(*text_of) (JsonbContainer *item));
static char *item_name(JsonbContainer *item);
static char *item_id(JsonbContainer *item);
static char *remote_names(JsonbContainer *array, char *(*text_of) (JsonbContainer *item));
static char *quoted(const char *text);

/* ---- lengths ---- */

static int
units_of(const char *p, int *bytes)
{
	int			encoding = GetDatabaseEncoding();

	/* what was let through in SQL_ASCII is UTF-8 */
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
	{
		*bytes = pg_utf_mblen((const unsigned char *) p);
		/* beyond the basic plane: a surrogate pair */
		return *bytes == 4 ? 2 : 1;
	}
	*bytes = pg_mblen(p);
	/* some have characters beyond it: pieces may be shorter than need be, never too long */
	return *bytes > 1 ? 2 : 1;
}

int64
angles_codec_utf16_length(const char *text)
{
	int64		units = 0;
	int			bytes;

	for (; *text; text += bytes)
		units += units_of(text, &bytes);
	return units;
}

int64
angles_codec_pieces(const char *text)
{
	return count_pieces(text, false);
}

static int64
count_pieces(const char *text, bool gentle)
{
	int64		pieces = 0;

	for (; *text; text = piece_end(text, gentle))
		pieces++;
	return pieces;
}

/*
 * Returns where a piece that begins here ends. A gentle cut goes back a little rather than part an
 * accent from its letter.
 */
static const char *
piece_end(const char *text, bool gentle)
{
	const char *good = NULL;
	bool		joined = false;
	int			in_piece = 0;
	int			bytes;

	for (; *text; text += bytes)
	{
		int			units = units_of(text, &bytes);

		if (gentle && in_piece > ANGLES_PIECE_UNITS - MAX_STEP_BACK)
		{
			if (!joined && !belongs_to_previous(text))
				good = text;
			joined = is_joiner(text);
		}
		if (in_piece + units > ANGLES_PIECE_UNITS)
			return good ? good : text;
		in_piece += units;
	}
	return text;
}

/* An approximation: accents, marks of many scripts, variation selectors, tones of skin. */
static bool
belongs_to_previous(const char *p)
{
	pg_wchar	c;

	if (GetDatabaseEncoding() != PG_UTF8)
		return false;
	c = utf8_to_unicode((const unsigned char *) p);
	return is_joiner(p) || (c >= 0x1F3FB && c <= 0x1F3FF) || pg_encoding_dsplen(PG_UTF8, p) == 0;
}

/* The zero width joiner, which makes one sign of two. */
static bool
is_joiner(const char *p)
{
	return GetDatabaseEncoding() == PG_UTF8 && strncmp(p, "\xE2\x80\x8D", 3) == 0;
}

/* ---- writing ---- */

void
angles_codec_append_rich_text(StringInfo buf, const char *text)
{
	/* what fits by the hard rule alone is not made to fail by the gentle one */
	bool		gentle = count_pieces(text, true) <= ANGLES_MAX_PIECES;
	const char *separator = "";
	const char *end;

	appendStringInfoChar(buf, '[');
	for (; *text; text = end)
	{
		end = piece_end(text, gentle);
		appendStringInfo(buf, "%s{\"text\":{\"content\":", separator);
		angles_json_append_string(buf, pnstrdup(text, end - text));
		appendStringInfoString(buf, "}}");
		separator = ",";
	}
	appendStringInfoChar(buf, ']');
}

void
angles_codec_append_write(StringInfo buf, const AnglesColumn *column, const char *canon)
{
	const char *name = angles_codec_type_name(column->type);
	bool		is_null = strcmp(canon, "null") == 0;

	appendStringInfo(buf, "{\"%s\":", name);
	switch (column->type)
	{
		case ANGLES_PROP_TITLE:
		case ANGLES_PROP_RICH_TEXT:
			angles_codec_append_rich_text(buf, is_null ? "" : string_of(canon));
			break;
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_STATUS:
			if (is_null)
				appendStringInfoString(buf, "null");
			else
				appendStringInfo(buf, "{\"name\":%s}", canon);
			break;
		case ANGLES_PROP_MULTI_SELECT:
			append_names(buf, canon, "name");
			break;
		case ANGLES_PROP_RELATION:
			append_names(buf, canon, "id");
			break;
		default:
			appendStringInfoString(buf, canon);
			break;
	}
	appendStringInfoChar(buf, '}');
}

bool
angles_codec_is_empty(const char *canon)
{
	return strcmp(canon, "null") == 0 || strcmp(canon, "[]") == 0 || strcmp(canon, "false") == 0;
}

Jsonb *
angles_codec_parse(const char *canon)
{
	char	   *bytes = angles_json_to_utf8(canon);
	char	   *problem;
	Jsonb	   *json = angles_json_parse(bytes, strlen(bytes), &problem);

	if (json == NULL)
		elog(ERROR, "a canonical value is no JSON");
	return json;
}

/* The text of a canonical string. */
static const char *
string_of(const char *canon)
{
	Jsonb	   *json = angles_codec_parse(canon);
	JsonbValue	value;

	if (!JB_ROOT_IS_SCALAR(json) || !JsonbExtractScalar(&json->root, &value) ||
		value.type != jbvString)
		elog(ERROR, "a canonical value is no string");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static void
append_names(StringInfo buf, const char *canon, const char *member)
{
	Jsonb	   *json = angles_codec_parse(canon);
	int			n = JB_ROOT_COUNT(json);

	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		elog(ERROR, "a canonical value is no array");
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < n; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(&json->root, i);

		if (value->type != jbvString)
			elog(ERROR, "a canonical array holds no strings");
		appendStringInfo(buf, "%s{\"%s\":", i ? "," : "", member);
		angles_json_append_string(buf, pnstrdup(value->val.string.val, value->val.string.len));
		appendStringInfoChar(buf, '}');
	}
	appendStringInfoChar(buf, ']');
}

/* ---- reading ---- */

char *
angles_codec_canon_remote(const AnglesColumn *column, JsonbContainer *property, bool *truncated,
						  char **problem)
{
	const char *name = angles_codec_type_name(column->type);
	JsonbValue	value;
	char	   *canon = NULL;

	*truncated = angles_json_get_bool(property, "has_more", false);
	*problem = NULL;
	if (column->type == ANGLES_PROP_UNKNOWN || !angles_json_get(property, name, &value))
	{
		*problem = psprintf("the property is not of type %s any more", name);
		return NULL;
	}
	/* what cannot be read must never pass for empty: that would empty the other side */
	if (shape_is_known(column->type, &value))
		switch (value.type)
		{
			case jbvNull:
				return pstrdup("null");
			case jbvBool:
				return pstrdup(value.val.boolean ? "true" : "false");
			case jbvNumeric:
				canon = remote_number(value.val.numeric);
				break;
			case jbvString:
				return value.val.string.len == 0 ? pstrdup("null")
					: quoted(pnstrdup(value.val.string.val, value.val.string.len));
			default:
				canon = remote_object(column, value.val.binary.data, problem);
				break;
		}
	if (canon == NULL && *problem == NULL)
		*problem = psprintf("the value in Notion is not what a property of type %s holds", name);
	return canon;
}

/* Returns whether a property of the type may have a value of this kind of JSON. */
static bool
shape_is_known(AnglesPropertyType type, const JsonbValue *value)
{
	switch (type)
	{
		case ANGLES_PROP_TITLE:
		case ANGLES_PROP_RICH_TEXT:
		case ANGLES_PROP_MULTI_SELECT:
		case ANGLES_PROP_RELATION:
			return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
		case ANGLES_PROP_NUMBER:
			return value->type == jbvNull || value->type == jbvNumeric;
		case ANGLES_PROP_CHECKBOX:
			return value->type == jbvBool;
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_STATUS:
		case ANGLES_PROP_DATE:
			return value->type == jbvNull ||
				(value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data));
		default:
			return value->type == jbvNull || value->type == jbvString;
	}
}

/* NULL for a number that no double holds: Notion's are doubles. */
static char *
remote_number(Numeric numeric)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out,
														   NumericGetDatum(numeric)));
	double		number = strtod(text, NULL);

	return isinf(number) || isnan(number) ? NULL : angles_codec_number(number);
}

static char *
remote_object(const AnglesColumn *column, JsonbContainer *object, char **problem)
{
	char	   *text;

	switch (column->type)
	{
		case ANGLES_PROP_TITLE:
		case ANGLES_PROP_RICH_TEXT:
			if (!every_item_has(object, item_text))
				return NULL;
			text = angles_codec_plain_text(object);
			return text[0] ? quoted(text) : pstrdup("null");
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_STATUS:
			text = item_name(object);
			return text ? quoted(text) : NULL;
		case ANGLES_PROP_MULTI_SELECT:
			return remote_names(object, item_name);
		case ANGLES_PROP_RELATION:
			return remote_names(object, item_id);
		default:
			return angles_codec_remote_date(getBaseType(column->typid), object, problem);
	}
}

static char *
quoted(const char *text)
{
	StringInfoData buf;

	initStringInfo(&buf);
	angles_json_append_string(&buf, text);
	return buf.data;
}

char *
angles_codec_plain_text(JsonbContainer *rich_text)
{
	StringInfoData buf;
	int			n = JsonContainerIsArray(rich_text) ? JsonContainerSize(rich_text) : 0;

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *item = angles_json_element(rich_text, i);
		char	   *plain = item ? item_text(item) : NULL;

		if (plain != NULL)
			appendStringInfoString(&buf, plain);
	}
	return buf.data;
}

/* The text of one item of a rich text: mentions and equations have plain_text too. */
static char *
item_text(JsonbContainer *item)
{
	char	   *plain = angles_json_get_text(item, "plain_text");
	JsonbContainer *text = plain ? NULL : angles_json_get_container(item, "text");

	return text ? angles_json_get_text(text, "content") : plain;
}

/* The name of an option, which is never empty. */
static char *
item_name(JsonbContainer *item)
{
	char	   *name = angles_json_get_text(item, "name");

	return name && name[0] ? name : NULL;
}

static char *
item_id(JsonbContainer *item)
{
	return angles_json_get_text(item, "id");
}

static bool
every_item_has(JsonbContainer *array, char *(*text_of) (JsonbContainer *item))
{
	for (int i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbContainer *item = angles_json_element(array, i);

		if (item == NULL || text_of(item) == NULL)
			return false;
	}
	return true;
}

static char *
remote_names(JsonbContainer *array, char *(*text_of) (JsonbContainer *item))
{
	int			n = JsonContainerSize(array);
	char	  **texts = palloc(Max(n, 1) * sizeof(char *));

	if (!every_item_has(array, text_of))
		return NULL;
	for (int i = 0; i < n; i++)
		texts[i] = text_of(angles_json_element(array, i));
	return angles_codec_set(texts, n);
}
