/*
 * mergetest.c
 *		The merge as an SQL function for its test; nothing at all without -DANGLES_TEST. The test
 *		declares it: see test/t/400_merge.pl.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "notion/codec.h"
#include "sync/merge.h"

PG_FUNCTION_INFO_V1(angles_merge_test);

/*
 * angles_merge_test(is_set, base, base_local, local, remote jsonb, policy text, local_at, remote_at
 * timestamptz, is_sum, in_doubt boolean): what comes of a field: (outcome text, value jsonb,
 * conflict boolean).
 */
Datum
angles_merge_test(PG_FUNCTION_ARGS)
{
	static const char *const outcomes[] = {"same", "agree", "take", "join", "keep", "hold"};
	MergeField	field = {0};
	MergeResult result;
	TupleDesc	desc;
	Datum		values[3] = {0};
	bool		nulls[3] = {false};

	field.is_set = PG_GETARG_BOOL(0);
	field.base = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	field.base_local = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	field.local = PG_GETARG_JSONB_P(3);
	field.remote = PG_GETARG_JSONB_P(4);
	field.policy = angles_merge_policy(text_to_cstring(PG_GETARG_TEXT_PP(5)));
	field.local_at = PG_ARGISNULL(6) ? 0 : PG_GETARG_TIMESTAMPTZ(6);
	field.remote_at = PG_GETARG_TIMESTAMPTZ(7);
	field.is_sum = PG_GETARG_BOOL(8);
	field.in_doubt = PG_GETARG_BOOL(9);
	result = angles_merge_field(&field);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "a row type is expected");
	values[0] = CStringGetTextDatum(outcomes[result.outcome]);
	nulls[1] = result.value == NULL;
	if (result.value != NULL)
		values[1] = JsonbPGetDatum(angles_codec_parse(result.value));
	values[2] = BoolGetDatum(result.conflict);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

#endif							/* ANGLES_TEST */
