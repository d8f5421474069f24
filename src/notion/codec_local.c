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
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "core/json.h"
#include "core/txn.h"
#include "notion/codec.h"
#include "notion/codec_internal.h"

/* Integers beyond this are not all doubles (IEEE 754). */
#define MAX_EXACT INT64CONST(9007199254740992)

/* Values of a multi_select or relation in one write (reference, section 5). */
#define MAX_VALUES 100

/* Bytes of JSON of one text: a request of 500 KB is refused (same section). */
#define MAX_TEXT_BYTES 490000

static char *canon_number(Oid type, Datum value, char **problem);
static bool survives_a_double(const char *text, double number);
static char *canon_text(const AnglesColumn *column, const char *text, char **problem);
static char *canon_array(const AnglesColumn *column, Datum value, Oid element, char **problem);
static char *output_text(Oid type, Oid output, Datum value);
static bool has_utf8_form(const char *text);
static void utf8_job(void *arg);
static bool differ_by_more_than_case(char **texts, int n);
static char *null_to_sql(const AnglesColumn *column, char **problem);
static char *number_to_sql(const AnglesColumn *column, const char *canon, char **problem);
static int	compare_text(const void *a, const void *b);
static char *array_to_sql(JsonbContainer *array);

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
			return angles_codec_local_date(type, value, problem);
		case ANGLES_PROP_MULTI_SELECT:
			return canon_array(column, value, get_element_type(type), problem);
		default:
			break;
	}
	if (type == BOOLOID && column->type == ANGLES_PROP_SELECT)
		return pstrdup(DatumGetBool(value) ? "\"true\"" : "\"false\"");
	getTypeOutputInfo(type, &output, &varlena);
	return canon_text(column, output_text(type, output, value), problem);
}

/* What the type prints, without the blanks that fill up a char(n) and mean nothing. */
static char *
output_text(Oid type, Oid output, Datum value)
{
	char	   *text = OidOutputFunctionCall(output, value);

	if (type == BPCHAROID)
	{
		char	   *end = text + strlen(text);

		while (end > text && end[-1] == ' ')
			*--end = '\0';
	}
	return text;
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
	else if (type == NUMERICOID && !survives_a_double(text, number))
		*problem = "a number with so many digits would be rounded in Notion; map the column as "
			"rich_text";
	return *problem ? NULL : angles_codec_number(number);
}

char *
angles_codec_sum(const char *decimal)
{
	double		number = strtod(decimal, NULL);

	return isinf(number) || !survives_a_double(decimal, number) ? pstrdup(decimal)
		: angles_codec_number(number);
}

bool
angles_codec_adds(const AnglesColumn *column)
{
	Oid			type = getBaseType(column->typid);

	return column->type == ANGLES_PROP_NUMBER &&
		(type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID);
}

/* Whether the double gives back the very decimal: all of 15 digits do, of 16 and 17 some. */
static bool
survives_a_double(const char *text, double number)
{
	Datum		before = DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	Datum		after = DirectFunctionCall3(numeric_in,
											CStringGetDatum(angles_codec_number(number)),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	return DatumGetBool(DirectFunctionCall2(numeric_eq, before, after));
}

/* ---- texts ---- */

static char *
canon_text(const AnglesColumn *column, const char *text, char **problem)
{
	StringInfoData buf;
	int			limit = 0;

	if (text[0] == '\0')
		return pstrdup("null");
	if (!has_utf8_form(text))
	{
		*problem = "the text holds bytes that are no characters of UTF-8";
		return NULL;
	}
	switch (column->type)
	{
		case ANGLES_PROP_SELECT:
		case ANGLES_PROP_STATUS:
			if (strchr(text, ',') != NULL)
				*problem = "an option in Notion cannot hold a comma; map the column as rich_text";
			limit = ANGLES_OPTION_UNITS;
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
	if (buf.len > MAX_TEXT_BYTES)
	{
		*problem = "the text is longer than the 500 KB that Notion takes in one request";
		return NULL;
	}
	return buf.data;
}

/* A database in SQL_ASCII holds any bytes; some Asian encodings hold characters of their own. */
static bool
has_utf8_form(const char *text)
{
	return GetDatabaseEncoding() == PG_UTF8 ||
		angles_try_pure(utf8_job, unconstify(char *, text)) == NULL;
}

static void
utf8_job(void *arg)
{
	(void) angles_json_to_utf8((char *) arg);
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
		texts[i] = output_text(element, output, elements[i]);
		if (!has_utf8_form(texts[i]))
			*problem = "the text holds bytes that are no characters of UTF-8";
		else if (texts[i][0] == '\0' || strchr(texts[i], ',') != NULL ||
				 angles_codec_utf16_length(texts[i]) > ANGLES_OPTION_UNITS)
			*problem = "an option in Notion is 1 to 100 characters without a comma; map the column "
				"as rich_text";
	}
	if (*problem == NULL && !differ_by_more_than_case(texts, n))
		*problem = "a multi_select holds a value once, whatever its case; map the column as "
			"rich_text";
	return *problem ? NULL : angles_codec_set(texts, n);
}

static bool
differ_by_more_than_case(char **texts, int n)
{
	char	  **folded = palloc(Max(n, 1) * sizeof(char *));

	for (int i = 0; i < n; i++)
		folded[i] = angles_codec_fold(texts[i]);
	qsort(folded, n, sizeof(char *), compare_text);
	for (int i = 1; i < n; i++)
		if (strcmp(folded[i], folded[i - 1]) == 0)
			return false;
	return true;
}

char *
angles_codec_set(char **texts, int n)
{
	StringInfoData buf;

	qsort(texts, n, sizeof(char *), compare_text);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && strcmp(texts[i], texts[i - 1]) == 0)
			continue;
		if (i > 0)
			appendStringInfoChar(&buf, ',');
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

/* ---- back to SQL ---- */

char *
angles_codec_to_sql(const AnglesColumn *column, const char *canon, char **problem)
{
	Jsonb	   *json = angles_codec_parse(canon);
	JsonbValue	value;
	char	   *text;

	*problem = NULL;
	if (!JB_ROOT_IS_SCALAR(json))
		return JB_ROOT_IS_ARRAY(json) ? array_to_sql(&json->root)
			: angles_codec_date_to_sql(column, &json->root, problem);
	JsonbExtractScalar(&json->root, &value);
	switch (value.type)
	{
		case jbvNull:
			return null_to_sql(column, problem);
		case jbvBool:
			return pstrdup(value.val.boolean ? "true" : "false");
		case jbvNumeric:
			return number_to_sql(column, canon, problem);
		default:
			break;
	}
	text = pnstrdup(value.val.string.val, value.val.string.len);
	if (column->type == ANGLES_PROP_SELECT && getBaseType(column->typid) == BOOLOID &&
		strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		*problem = psprintf("column \"%s\" takes true and false only", column->name);
	return *problem ? NULL : text;
}

/* Nothing in Notion is null here, and the empty text in a text column that takes no null. */
static char *
null_to_sql(const AnglesColumn *column, char **problem)
{
	if (!column->not_null)
		return NULL;
	if (angles_codec_is_text(getBaseType(column->typid)))
		return pstrdup("");
	*problem = psprintf("column \"%s\" cannot be empty", column->name);
	return NULL;
}

static char *
number_to_sql(const AnglesColumn *column, const char *canon, char **problem)
{
	Oid			type = getBaseType(column->typid);
	double		number = strtod(canon, NULL);
	double		limit = type == INT2OID ? PG_INT16_MAX : type == INT4OID ? PG_INT32_MAX
		: (double) MAX_EXACT;

	if (type != INT2OID && type != INT4OID && type != INT8OID)
		return pstrdup(canon);
	if (number != floor(number))
		*problem = psprintf("column \"%s\" takes whole numbers only", column->name);
	else if (number > limit || number < -limit - (type == INT8OID ? 0 : 1))
		*problem = psprintf("the number is out of range for column \"%s\"", column->name);
	return *problem ? NULL : psprintf(INT64_FORMAT, (int64) number);
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
