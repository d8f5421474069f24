/*
 * codec_local.c
 *		Canonical form of SQL values, and back to input text. Runs where rows are read (sync worker,
 *		as the link's owner); of the type's own code only its output function is called.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "core/json.h"
#include "core/txn.h"
#include "notion/codec.h"
#include "notion/codec_internal.h"

/* Integers beyond this are not all doubles (IEEE 754). */
#define MAX_EXACT INT64CONST(9007199254740992)

/* Decimal digits that survive a double whatever they are (IEEE 754, DBL_DIG). */
#define MAX_DIGITS 15

/* Values of a multi_select or relation in one write (reference, section 5). */
#define MAX_VALUES 100

static char *canon_number(Oid type, Datum value, char **problem);
static bool decimal_fits(const char *text);
static char *canon_text(const AnglesColumn *column, const char *text, char **problem);
static char *canon_array(const AnglesColumn *column, Datum value, Oid element, char **problem);
static char *canon_date(Oid type, Datum value, char **problem);
static int	compare_text(const void *a, const void *b);
static char *array_to_sql(JsonbContainer *array);
static char *date_to_sql(const AnglesColumn *column, JsonbContainer *date, char **problem);

char *
angles_codec_canon_local(const AnglesColumn *column, Datum value, bool isnull, char **problem)
{
	Oid			type = getBaseType(column->typid);
	Oid			output;
	bool		varlena;

	*problem = NULL;
	if (isnull)
		return pstrdup(column->type == ANGLES_PROP_CHECKBOX ? "false"
					   : column->type == ANGLES_PROP_MULTI_SELECT ? "[]" : "null");
	switch (column->type)
	{
		case ANGLES_PROP_NUMBER:
			return canon_number(type, value, problem);
		case ANGLES_PROP_CHECKBOX:
			return pstrdup(DatumGetBool(value) ? "true" : "false");
		case ANGLES_PROP_DATE:
			return canon_date(type, value, problem);
		case ANGLES_PROP_MULTI_SELECT:
			return canon_array(column, value, get_element_type(type), problem);
		default:
			break;
	}
	if (type == BOOLOID && column->type == ANGLES_PROP_SELECT)
		return pstrdup(DatumGetBool(value) ? "\"true\"" : "\"false\"");
	getTypeOutputInfo(type, &output, &varlena);
	return canon_text(column, OidOutputFunctionCall(output, value), problem);
}

/* ---- numbers ---- */

char *
angles_codec_number(double number)
{
	char		buf[DOUBLE_SHORTEST_DECIMAL_LEN];

	/* -0 and 0 are one number in JSON and in SQL */
	double_to_shortest_decimal_buf(number == 0 ? 0.0 : number, buf);
	return pstrdup(buf);
}

static char *
canon_number(Oid type, Datum value, char **problem)
{
	Oid			output;
	bool		varlena;
	char	   *text;
	double		number;

	getTypeOutputInfo(type, &output, &varlena);
	text = OidOutputFunctionCall(output, value);
	number = strtod(text, NULL);
	if (isnan(number) || isinf(number))
		*problem = "Notion's numbers know no NaN and no infinity; map the column as rich_text";
	else if (type == INT8OID && (DatumGetInt64(value) > MAX_EXACT ||
								 DatumGetInt64(value) < -MAX_EXACT))
		*problem = "an integer beyond 2^53 would be rounded in Notion; map the column as rich_text";
	else if (type == NUMERICOID && !decimal_fits(text))
		*problem = "a number of more than 15 digits would be rounded in Notion; map the column as "
			"rich_text";
	return *problem ? NULL : angles_codec_number(number);
}

/* Whether a decimal has at most 15 significant digits. */
static bool
decimal_fits(const char *text)
{
	int			digits = 0;
	int			zeros = 0;

	for (; *text; text++)
	{
		if (*text < '0' || *text > '9')
			continue;
		if (*text == '0')
		{
			/* zeros count once another digit follows them */
			if (digits > 0)
				zeros++;
			continue;
		}
		digits += zeros + 1;
		zeros = 0;
	}
	return digits <= MAX_DIGITS;
}

/* ---- texts ---- */

static char *
canon_text(const AnglesColumn *column, const char *text, char **problem)
{
	StringInfoData buf;
	int			limit = 0;

	if (text[0] == '\0')
		return pstrdup("null");
	switch (column->type)
	{
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_STATUS:
			if (strchr(text, ',') != NULL)
				*problem = "an option in Notion cannot hold a comma; map the column as rich_text";
			limit = 100;
			break;
		case ANGLES_PROP_URL:
			limit = 2000;
			break;
		case ANGLES_PROP_EMAIL:
		case ANGLES_PROP_PHONE:
			limit = 100;
			break;
		default:
			if (angles_codec_pieces(text) > ANGLES_MAX_PIECES)
				*problem = "the text is longer than the 200,000 characters that a property holds";
			break;
	}
	if (limit > 0 && angles_codec_utf16_length(text) > limit)
		*problem = psprintf("the text is longer than the %d characters that a property of type %s "
							"holds; map the column as rich_text", limit,
							angles_codec_type_name(column->type));
	if (*problem)
		return NULL;
	initStringInfo(&buf);
	angles_json_append_string(&buf, text);
	return buf.data;
}

static char *
canon_array(const AnglesColumn *column, Datum value, Oid element, char **problem)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	int16		length;
	bool		by_value;
	char		align;
	Oid			output;
	bool		varlena;
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	char	  **texts;

	get_typlenbyvalalign(element, &length, &by_value, &align);
	getTypeOutputInfo(element, &output, &varlena);
	deconstruct_array(array, element, length, by_value, align, &elements, &nulls, &n);
	texts = palloc(Max(n, 1) * sizeof(char *));
	if (ARR_NDIM(array) > 1)
		*problem = "a multi_select has one dimension; map the column as rich_text";
	if (n > MAX_VALUES)
		*problem = "a multi_select takes 100 values in one write; map the column as rich_text";
	for (int i = 0; i < n && *problem == NULL; i++)
	{
		if (nulls[i])
		{
			*problem = "a multi_select cannot hold null; map the column as rich_text";
			break;
		}
		texts[i] = OidOutputFunctionCall(output, elements[i]);
		if (texts[i][0] == '\0' || strchr(texts[i], ',') != NULL ||
			angles_codec_utf16_length(texts[i]) > 100)
			*problem = "an option in Notion is 1 to 100 characters without a comma; map the column "
				"as rich_text";
	}
	if (*problem)
		return NULL;
	return angles_codec_set(texts, n, false, problem);
}

char *
angles_codec_set(char **texts, int n, bool merge_doubles, char **problem)
{
	StringInfoData buf;
	bool		first = true;

	qsort(texts, n, sizeof(char *), compare_text);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && strcmp(texts[i], texts[i - 1]) == 0)
		{
			if (merge_doubles)
				continue;
			*problem = "a multi_select holds a value once; map the column as rich_text";
			return NULL;
		}
		if (!first)
			appendStringInfoChar(&buf, ',');
		first = false;
		angles_json_append_string(&buf, texts[i]);
	}
	appendStringInfoChar(&buf, ']');
	return buf.data;
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* ---- dates ---- */

char *
angles_codec_timestamp(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	/* timestamps are UTC inside; no time zone is asked for, so the session's plays no part */
	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0 || tm.tm_year < 1 || tm.tm_year > 9999)
		return NULL;
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec, (int) (fsec / 1000));
}

static char *
canon_date(Oid type, Datum value, char **problem)
{
	char	   *start = NULL;

	if (type == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);
		int			year;
		int			month;
		int			day;

		if (!DATE_NOT_FINITE(date))
		{
			j2date(date + POSTGRES_EPOCH_JDATE, &year, &month, &day);
			if (year >= 1 && year <= 9999)
				start = psprintf("%04d-%02d-%02d", year, month, day);
		}
	}
	else if (!TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)))
		start = angles_codec_timestamp(DatumGetTimestampTz(value));
	if (start == NULL)
	{
		*problem = "Notion's dates know no infinity and only the years 1 to 9999; map the column as "
			"rich_text";
		return NULL;
	}
	return psprintf("{\"start\":\"%s\"}", start);
}

/* ---- back to SQL ---- */

char *
angles_codec_to_sql(const AnglesColumn *column, const char *canon, char **problem)
{
	Jsonb	   *json = angles_json_parse(canon, strlen(canon), problem);
	Oid			type = getBaseType(column->typid);
	JsonbValue	value;

	if (json == NULL)
		return NULL;
	if (!JB_ROOT_IS_SCALAR(json))
		return JB_ROOT_IS_ARRAY(json) ? array_to_sql(&json->root)
			: date_to_sql(column, &json->root, problem);
	JsonbExtractScalar(&json->root, &value);
	switch (value.type)
	{
		case jbvNull:
			return NULL;
		case jbvBool:
			return pstrdup(value.val.boolean ? "true" : "false");
		case jbvNumeric:
			if (type == INT2OID || type == INT4OID || type == INT8OID)
			{
				double		number = strtod(canon, NULL);

				if (number != floor(number) || fabs(number) > (double) MAX_EXACT)
				{
					*problem = psprintf("column \"%s\" takes whole numbers only", column->name);
					return NULL;
				}
				return psprintf(INT64_FORMAT, (int64) number);
			}
			return pstrdup(canon);
		default:
			return pnstrdup(value.val.string.val, value.val.string.len);
	}
}

static char *
array_to_sql(JsonbContainer *array)
{
	StringInfoData buf;
	int			n = JsonContainerSize(array);

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (int i = 0; i < n; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);

		appendStringInfoString(&buf, i == 0 ? "\"" : ",\"");
		for (int c = 0; value->type == jbvString && c < value->val.string.len; c++)
		{
			char		ch = value->val.string.val[c];

			if (ch == '"' || ch == '\\')
				appendStringInfoChar(&buf, '\\');
			appendStringInfoChar(&buf, ch);
		}
		appendStringInfoChar(&buf, '"');
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

static char *
date_to_sql(const AnglesColumn *column, JsonbContainer *date, char **problem)
{
	char	   *start = angles_json_get_text(date, "start");

	if (angles_json_get_text(date, "end") != NULL)
		*problem = psprintf("column \"%s\" holds one date, not a range", column->name);
	else if (start == NULL)
		*problem = "the date has no start";
	else if (getBaseType(column->typid) == DATEOID && strlen(start) > 10)
		*problem = psprintf("column \"%s\" holds a date without a time", column->name);
	return *problem ? NULL : start;
}
