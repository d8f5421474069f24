/*
 * codectest.c
 *		SQL functions for the tests of the codec; nothing at all without -DANGLES_TEST. The tests
 *		declare them: see test/sql/codec.sql. They run in a user's session.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "core/json.h"
#include "core/txn.h"
#include "notion/codec.h"

PG_FUNCTION_INFO_V1(angles_codec_test_pin);
PG_FUNCTION_INFO_V1(angles_codec_test_local);
PG_FUNCTION_INFO_V1(angles_codec_test_remote);
PG_FUNCTION_INFO_V1(angles_codec_test_write);
PG_FUNCTION_INFO_V1(angles_codec_test_parse);
PG_FUNCTION_INFO_V1(angles_codec_test_parsed);

static bool make_column(FunctionCallInfo fcinfo, AnglesColumn *column, char **problem);
static void put_back(const AnglesColumn *column, const char *canon, Datum *values, bool *nulls,
					 char **problem);
static Datum record(FunctionCallInfo fcinfo, Datum *values, bool *nulls);
static void set_text(Datum *values, bool *nulls, int i, const char *text);

/* angles_codec_test_pin(): gives the session the settings of a worker: the codec counts on them. */
Datum
angles_codec_test_pin(PG_FUNCTION_ARGS)
{
	angles_txn_pin_settings();
	PG_RETURN_VOID();
}

/*
 * angles_codec_test_local(value anyelement, wished text, not_null boolean, options text[]): what
 * becomes of a value: property type, schema, canonical form, write object, problem, input text for
 * the way back, and the canonical form of what that text becomes in SQL.
 */
Datum
angles_codec_test_local(PG_FUNCTION_ARGS)
{
	AnglesColumn column;
	Datum		values[7] = {0};
	bool		nulls[7];
	char	   *problem = NULL;
	char	   *canon = NULL;
	StringInfoData buf;

	memset(nulls, true, sizeof(nulls));
	if (make_column(fcinfo, &column, &problem))
	{
		set_text(values, nulls, 0, angles_codec_type_name(column.type));
		initStringInfo(&buf);
		angles_codec_append_schema(&buf, &column, NULL);
		set_text(values, nulls, 1, buf.data);
		canon = angles_codec_canon_local(&column, PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0),
										 PG_ARGISNULL(0), &problem);
	}
	if (canon != NULL)
	{
		if (problem != NULL)
			elog(ERROR, "a canonical form and a problem at once");
		set_text(values, nulls, 2, canon);
		initStringInfo(&buf);
		angles_codec_append_write(&buf, &column, canon);
		set_text(values, nulls, 3, buf.data);
		put_back(&column, canon, &values[5], &nulls[5], &problem);
	}
	else if (problem == NULL)
		elog(ERROR, "neither a canonical form nor a problem");
	set_text(values, nulls, 4, problem);
	return record(fcinfo, values, nulls);
}

/*
 * angles_codec_test_remote(type anyelement, wished text, not_null boolean, options text[], property
 * jsonb): what becomes of a property as Notion answers it, for a column of the type: canonical
 * form, truncated, problem, input text, and the canonical form of what that text becomes in SQL.
 */
Datum
angles_codec_test_remote(PG_FUNCTION_ARGS)
{
	AnglesColumn column;
	Datum		values[5] = {0};
	bool		nulls[5];
	char	   *problem = NULL;
	char	   *canon = NULL;
	bool		truncated = false;

	if (PG_ARGISNULL(4))
		elog(ERROR, "there is no property");
	memset(nulls, true, sizeof(nulls));
	if (make_column(fcinfo, &column, &problem))
	{
		canon = angles_codec_canon_remote(&column, &PG_GETARG_JSONB_P(4)->root, &truncated,
										  &problem);
		values[1] = BoolGetDatum(truncated);
		nulls[1] = false;
	}
	if (canon != NULL)
	{
		if (problem != NULL)
			elog(ERROR, "a canonical form and a problem at once");
		set_text(values, nulls, 0, canon);
		if (column.type != ANGLES_PROP_RELATION)
			put_back(&column, canon, &values[3], &nulls[3], &problem);
	}
	else if (problem == NULL)
		elog(ERROR, "neither a canonical form nor a problem");
	set_text(values, nulls, 2, problem);
	return record(fcinfo, values, nulls);
}

/* angles_codec_test_write(property type, canonical form): the value object of a page write. */
Datum
angles_codec_test_write(PG_FUNCTION_ARGS)
{
	AnglesColumn column = {0};
	StringInfoData buf;

	column.type = angles_codec_type(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	initStringInfo(&buf);
	angles_codec_append_write(&buf, &column, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_TEXT_P(cstring_to_text(buf.data));
}

/* angles_codec_test_parse(bytea): the problem with bytes from outside, or null. */
Datum
angles_codec_test_parse(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	char	   *problem;
	Jsonb	   *json = angles_json_parse(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), &problem);

	if ((json == NULL) != (problem != NULL))
		elog(ERROR, "neither JSON nor a problem");
	if (json != NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/*
 * angles_codec_test_parsed(bytea): what bytes from outside are read as, or null. Text that SQL
 * cannot hold is replaced there, so SQL's own parser is no judge of it.
 */
Datum
angles_codec_test_parsed(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	char	   *problem;
	Jsonb	   *json = angles_json_parse(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), &problem);

	if (json == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(json);
}

/* A nullable column "v" of the first argument's type, mapped as chosen or as wished. */
static bool
make_column(FunctionCallInfo fcinfo, AnglesColumn *column, char **problem)
{
	AnglesPropertyType wished;

	memset(column, 0, sizeof(*column));
	column->attnum = 1;
	column->name = "v";
	column->typid = get_fn_expr_argtype(fcinfo->flinfo, 0);
	column->typmod = -1;
	column->not_null = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	column->property_name = column->name;
	if (!PG_ARGISNULL(3))
	{
		Datum	   *options;
		int			n;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT, &options,
						  NULL, &n);
		for (int i = 0; i < n; i++)
			column->options = lappend(column->options, TextDatumGetCString(options[i]));
	}
	if (!angles_codec_choose(column, problem))
		return false;
	if (PG_ARGISNULL(1))
		return true;
	wished = angles_codec_type(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	/* the caller of the codec decides what references what */
	if (wished != ANGLES_PROP_RELATION && !angles_codec_allowed(column, wished, problem))
		return false;
	column->type = wished;
	return true;
}

/* The way back: input text, and the canonical form of the value that the type makes of it. */
static void
put_back(const AnglesColumn *column, const char *canon, Datum *values, bool *nulls, char **problem)
{
	char	   *text = angles_codec_to_sql(column, canon, problem);
	Oid			input;
	Oid			param;
	Datum		value = 0;
	char	   *again_problem;

	if (*problem != NULL)
		return;
	set_text(values, nulls, 0, text);
	if (text != NULL)
	{
		getTypeInputInfo(column->typid, &input, &param);
		value = OidInputFunctionCall(input, text, param, column->typmod);
	}
	set_text(values, nulls, 1,
			 angles_codec_canon_local(column, value, text == NULL, &again_problem));
	*problem = again_problem;
}

static Datum
record(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static void
set_text(Datum *values, bool *nulls, int i, const char *text)
{
	nulls[i] = text == NULL;
	values[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

#endif							/* ANGLES_TEST */
