/*
 * scantest.c
 *		The scanner and the sealing as SQL functions for their tests; nothing at all without
 *		-DANGLES_TEST. The tests declare them: see test/t/530_scan.pl and 531_seal.pl.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/json.h"
#include "backup/sealvalue.h"

PG_FUNCTION_INFO_V1(angles_scan_test);
PG_FUNCTION_INFO_V1(angles_scan_fuzz_test);
PG_FUNCTION_INFO_V1(angles_redact_test);

/* angles_scan_test(text bytea, name text) text: "kind:start-end ..." in bytes. */
Datum
angles_scan_test(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	StringInfoData out;
	ScanSpans	found;

	initStringInfo(&out);
	angles_scan_begin(&found);
	angles_scan(&found, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes),
				PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	for (int i = 0; i < found.n; i++)
		appendStringInfo(&out, "%s%s:%zu-%zu", i > 0 ? " " : "", found.spans[i].kind,
						 found.spans[i].start, found.spans[i].end);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/*
 * angles_scan_fuzz_test(seed text, rounds int, number bigint) bigint: scans pieces of the seed with
 * bytes changed, each in memory of just its size, and checks what spans promise. Returns how many
 * were found.
 */
Datum
angles_scan_fuzz_test(PG_FUNCTION_ARGS)
{
	static const char signs[] = " =:\"'\\\n-/.@eyJ_{}[],u0";
	static const char *const names[] = {NULL, "password", "api_key", "x"};
	text	   *seed = PG_GETARG_TEXT_PP(0);
	Size		seed_len = VARSIZE_ANY_EXHDR(seed);
	pg_prng_state random;
	ScanSpans	found;
	int64		n = 0;

	pg_prng_seed(&random, PG_GETARG_INT64(2));
	angles_scan_begin(&found);
	for (int i = 0; i < PG_GETARG_INT32(1); i++)
	{
		Size		len = pg_prng_uint64_range(&random, 1, Min(400, seed_len));
		Size		from = pg_prng_uint64_range(&random, 0, seed_len - len);
		char	   *piece = palloc(len);
		Size		last = 0;

		memcpy(piece, VARDATA_ANY(seed) + from, len);
		for (int j = (int) pg_prng_uint64_range(&random, 0, 12); j > 0; j--)
			piece[pg_prng_uint64_range(&random, 0, len - 1)] = j % 3
				? signs[pg_prng_uint64_range(&random, 0, sizeof(signs) - 2)]
				: (char) pg_prng_uint64(&random);
		angles_scan(&found, piece, len, names[i % lengthof(names)]);
		if (found.n > 0 && names[i % lengthof(names)] == NULL && !angles_scan_maybe(piece, len))
			elog(ERROR, "round %d: a secret was found where none can be", i);
		for (int j = 0; j < found.n; j++)
		{
			if (found.spans[j].start < last || found.spans[j].start >= found.spans[j].end ||
				found.spans[j].end > len)
				elog(ERROR, "round %d: span %d is wrong", i, j);
			last = found.spans[j].end;
		}
		n += found.n;
		pfree(piece);
	}
	PG_RETURN_INT64(n);
}

static SealKeys *
keys_of(ArrayType *array)
{
	SealKeys   *keys = angles_seal_keys();
	Datum	   *values;
	int			n;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &values, NULL, &n);
	for (int i = 0; i < n; i++)
		angles_seal_add_key(keys, (const uint8 *) VARDATA_ANY(DatumGetByteaPP(values[i])));
	return keys;
}

static void
describe(StringInfo out, RedactResult result, const RedactTable *table, const Redaction *redaction)
{
	static const char *const results[] = {"as is", "replaced", "refused"};

	appendStringInfo(out, "{\"result\": \"%s\", \"refused\": ", results[result]);
	if (table->refused)
		angles_json_append_string(out, table->refused);
	else
		appendStringInfoString(out, "null");
	if (result == REDACT_REPLACED)
	{
		appendStringInfoString(out, ", \"text\": ");
		if (redaction->null)
			appendStringInfoString(out, "null");
		else
			angles_json_append_string(out, redaction->text.data);
		appendStringInfo(out, ", \"key_id\": \"%s\", \"sealed\": [",
						 redaction->key_id ? redaction->key_id : "");
		for (int i = 0; i < redaction->n; i++)
			appendStringInfo(out, "%s\"%s\"", i > 0 ? ", " : "",
							 redaction->pieces[i].sealed ? redaction->pieces[i].sealed : "");
		appendStringInfoString(out, "]");
	}
}

/*
 * angles_redact_test(relid oid, col text, key text, value text, sealing bytea[], opening bytea[],
 * opened_as text) text: JSON with what becomes of a value; opened in the row opened_as.
 */
Datum
angles_redact_test(PG_FUNCTION_ARGS)
{
	static const char *const opens[] = {"opened", "no key", "refused"};
	MemoryContext caller = CurrentMemoryContext;
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *key = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(3));
	char	   *row = PG_ARGISNULL(6) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(6));
	StringInfoData out;
	StringInfoData back;
	BackupScope *scope;
	BackupTable *table;
	RedactTable *redact;
	RedactResult result;
	Redaction	redaction;
	Redaction	again;
	int			n = 0;

	SPI_connect();
	scope = angles_scope_read(list_make1_oid(PG_GETARG_OID(0)));
	table = linitial(scope->tables);
	redact = angles_redact_begin(table, keys_of(PG_GETARG_ARRAYTYPE_P(4)));
	while (strcmp(table->columns[n].name, name) != 0)
		n++;
	result = angles_redact_value(redact, n, key, key ? strlen(key) : 0, value, strlen(value),
								 &redaction);
	initStringInfo(&out);
	describe(&out, result, redact, &redaction);
	if (result == REDACT_REPLACED)
	{
		SealContext context = {table->full_name, name, row, row ? strlen(row) : 0};
		SealOpened	opened;

		initStringInfo(&back);
		opened = angles_redact_undo(keys_of(PG_GETARG_ARRAYTYPE_P(5)), &context, &redaction, &back);
		angles_redact_value(redact, n, key, key ? strlen(key) : 0, value, strlen(value), &again);
		appendStringInfo(&out, ", \"opened\": \"%s\", \"equal\": %s, \"stable\": %s, "
						 "\"clean\": %s", opens[opened],
						 back.len == strlen(value) && memcmp(back.data, value, back.len) == 0
						 ? "true" : "false",
						 again.text.len == redaction.text.len && again.n == redaction.n &&
						 strcmp(again.text.data, redaction.text.data) == 0 &&
						 (again.n == 0 || again.pieces[0].sealed == NULL ||
						  strcmp(again.pieces[0].sealed, redaction.pieces[0].sealed) == 0)
						 ? "true" : "false",
						 redaction.null || redact->columns[n].policy != SEAL_PLAIN ||
						 angles_redact_find(redact, n, redaction.text.data,
											redaction.text.len) == 0 ? "true" : "false");
	}
	appendStringInfoChar(&out, '}');
	key = MemoryContextStrdup(caller, out.data);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(key));
}

#endif							/* ANGLES_TEST */
