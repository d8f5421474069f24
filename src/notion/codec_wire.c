/*
 * codec_wire.c
 *		Canonical form to and from the property values of Notion's API. Runs in the sync worker;
 *		what is read here comes from outside and may have any shape.
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "core/json.h"
#include "core/txn.h"
#include "notion/codec.h"
#include "notion/codec_internal.h"

typedef struct TimestampJob
{
	const char *text;
	TimestampTz result;
} TimestampJob;

static int	units_of(const char *p, int *bytes);
static const char *string_of(const char *canon);
static void append_names(StringInfo buf, const char *canon, const char *member);
static char *remote_text(JsonbContainer *property, const char *name);
static char *remote_names(JsonbContainer *property, const char *name, const char *member,
						  char **problem);
static char *remote_date(JsonbContainer *property, char **problem);
static char *normal_moment(const char *text);
static void timestamp_job(void *arg);
static char *quoted(const char *text);

/* ---- lengths ---- */

static int
units_of(const char *p, int *bytes)
{
	*bytes = pg_mblen(p);
	/* beyond the basic plane: two units; only UTF-8 and GB18030 know such characters */
	return *bytes == 4 && GetDatabaseEncoding() == PG_UTF8 ? 2 : 1;
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
	int64		pieces = *text ? 1 : 0;
	int			in_piece = 0;
	int			bytes;

	for (; *text; text += bytes)
	{
		int			units = units_of(text, &bytes);

		if (in_piece + units > ANGLES_PIECE_UNITS)
		{
			pieces++;
			in_piece = 0;
		}
		in_piece += units;
	}
	return pieces;
}

/* ---- writing ---- */

void
angles_codec_append_rich_text(StringInfo buf, const char *text)
{
	const char *start = text;
	int			in_piece = 0;
	bool		first = true;

	appendStringInfoChar(buf, '[');
	for (;;)
	{
		int			bytes = 0;
		int			units = *text ? units_of(text, &bytes) : 0;

		if (text > start && (*text == '\0' || in_piece + units > ANGLES_PIECE_UNITS))
		{
			appendStringInfoString(buf, first ? "{\"text\":{\"content\":"
								   : ",{\"text\":{\"content\":");
			angles_json_append_string(buf, pnstrdup(start, text - start));
			appendStringInfoString(buf, "}}");
			first = false;
			start = text;
			in_piece = 0;
		}
		if (*text == '\0')
			break;
		in_piece += units;
		text += bytes;
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

/* The text of a canonical string. */
static const char *
string_of(const char *canon)
{
	char	   *problem;
	Jsonb	   *json = angles_json_parse(angles_json_to_utf8(canon),
										 strlen(angles_json_to_utf8(canon)), &problem);
	JsonbValue	value;

	if (json == NULL || !JB_ROOT_IS_SCALAR(json))
		elog(ERROR, "canonical value is no string");
	JsonbExtractScalar(&json->root, &value);
	if (value.type != jbvString)
		elog(ERROR, "canonical value is no string");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static void
append_names(StringInfo buf, const char *canon, const char *member)
{
	char	   *problem;
	Jsonb	   *json = angles_json_parse(angles_json_to_utf8(canon),
										 strlen(angles_json_to_utf8(canon)), &problem);
	int			n = json && JB_ROOT_IS_ARRAY(json) ? JB_ROOT_COUNT(json) : 0;

	appendStringInfoChar(buf, '[');
	for (int i = 0; i < n; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(&json->root, i);

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
	JsonbContainer *object;
	JsonbValue	value;
	char	   *text;

	*truncated = angles_json_get_bool(property, "has_more", false);
	*problem = NULL;
	if (column->type == ANGLES_PROP_UNKNOWN || !angles_json_get(property, name, &value))
	{
		*problem = psprintf("the property is not of type %s any more", name);
		return NULL;
	}
	switch (column->type)
	{
		case ANGLES_PROP_TITLE:
		case ANGLES_PROP_RICH_TEXT:
			return remote_text(property, name);
		case ANGLES_PROP_NUMBER:
			if (value.type != jbvNumeric)
				return pstrdup("null");
			text = DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value.val.numeric)));
			return angles_codec_number(strtod(text, NULL));
		case ANGLES_PROP_CHECKBOX:
			return pstrdup(value.type == jbvBool && value.val.boolean ? "true" : "false");
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_STATUS:
			object = angles_json_get_container(property, name);
			text = object ? angles_json_get_text(object, "name") : NULL;
			return text && text[0] ? quoted(text) : pstrdup("null");
		case ANGLES_PROP_MULTI_SELECT:
			return remote_names(property, name, "name", problem);
		case ANGLES_PROP_RELATION:
			return remote_names(property, name, "id", problem);
		case ANGLES_PROP_DATE:
			return remote_date(property, problem);
		default:
			text = angles_json_get_text(property, name);
			return text && text[0] ? quoted(text) : pstrdup("null");
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

static char *
remote_text(JsonbContainer *property, const char *name)
{
	JsonbContainer *array = angles_json_get_container(property, name);
	char	   *text = array ? angles_codec_plain_text(array) : "";

	return text[0] ? quoted(text) : pstrdup("null");
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
		JsonbContainer *text;
		char	   *plain;

		if (item == NULL)
			continue;
		plain = angles_json_get_text(item, "plain_text");
		if (plain == NULL && (text = angles_json_get_container(item, "text")) != NULL)
			plain = angles_json_get_text(text, "content");
		if (plain != NULL)
			appendStringInfoString(&buf, plain);
	}
	return buf.data;
}

static char *
remote_names(JsonbContainer *property, const char *name, const char *member, char **problem)
{
	JsonbContainer *array = angles_json_get_container(property, name);
	int			n = array && JsonContainerIsArray(array) ? JsonContainerSize(array) : 0;
	char	  **texts = palloc(Max(n, 1) * sizeof(char *));
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *item = angles_json_element(array, i);
		char	   *text = item ? angles_json_get_text(item, member) : NULL;

		if (text != NULL)
			texts[kept++] = text;
	}
	return angles_codec_set(texts, kept, true, problem);
}

static char *
remote_date(JsonbContainer *property, char **problem)
{
	JsonbContainer *date = angles_json_get_container(property, "date");
	char	   *start = date ? angles_json_get_text(date, "start") : NULL;
	char	   *end = date ? angles_json_get_text(date, "end") : NULL;

	if (start == NULL)
		return pstrdup("null");
	start = normal_moment(start);
	end = end ? normal_moment(end) : NULL;
	if (start == NULL)
	{
		*problem = "the date in Notion cannot be read";
		return NULL;
	}
	return end ? psprintf("{\"start\":\"%s\",\"end\":\"%s\"}", start, end)
		: psprintf("{\"start\":\"%s\"}", start);
}

/* A date stays as it is; a moment with any offset becomes UTC, to the millisecond. */
static char *
normal_moment(const char *text)
{
	TimestampJob job = {text, 0};

	for (int i = 0; i < 10; i++)
		if (i == 4 || i == 7 ? text[i] != '-' : !isdigit((unsigned char) text[i]))
			return NULL;
	if (text[10] == '\0')
		return pstrdup(text);
	if (text[10] != 'T' || angles_try_pure(timestamp_job, &job) != NULL)
		return NULL;
	return angles_codec_timestamp(job.result);
}

static void
timestamp_job(void *arg)
{
	TimestampJob *job = (TimestampJob *) arg;

	job->result = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
														  CStringGetDatum(job->text),
														  ObjectIdGetDatum(InvalidOid),
														  Int32GetDatum(-1)));
}
