/*
 * copytext.c
 *		See copytext.h. Runs in job workers.
 *
 * PostgreSQL has no COPY TO that hands its lines to a function before 16, so the rules of escaping
 * stand here once more; the tests compare every byte with what COPY writes.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "backup/copytext.h"

static void append_value(StringInfo out, const char *text);

int
angles_copytext_pin(void)
{
	static const char *const pins[][2] = {
		{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"extra_float_digits", "3"}, {"bytea_output", "hex"}, {"xmlbinary", "base64"},
		{"xmloption", "content"}, {"lc_monetary", "C"}, {"lc_numeric", "C"},
		/* names in values (regclass and its kin) are written with their schema */
		{"search_path", ""}, {"quote_all_identifiers", "off"},
		{"row_security", "off"}, {"synchronize_seqscans", "off"},
		/* the workers of angles go by indexes, which a whole table is not read by */
		{"enable_seqscan", "on"}, {"statement_timeout", "0"},
	};
	int			level = NewGUCNestLevel();

	for (int i = 0; i < (int) lengthof(pins); i++)
		(void) set_config_option(pins[i][0], pins[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

CopyText *
angles_copytext_begin(TupleDesc desc)
{
	CopyText   *copy = palloc0(sizeof(CopyText));
	int			encoding = GetDatabaseEncoding();

	copy->n_columns = desc->natts;
	copy->functions = palloc0(sizeof(FmgrInfo) * Max(desc->natts, 1));
	copy->starts = palloc0(sizeof(Size) * Max(desc->natts, 1));
	copy->ends = palloc0(sizeof(Size) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			function;
		bool		is_varlena;

		getTypeOutputInfo(TupleDescAttr(desc, i)->atttypid, &function, &is_varlena);
		fmgr_info(function, &copy->functions[i]);
	}
	copy->convert = encoding != PG_UTF8 && encoding != PG_SQL_ASCII;
	copy->row_context = AllocSetContextCreate(CurrentMemoryContext, "angles copy row",
											  ALLOCSET_DEFAULT_SIZES);
	return copy;
}

void
angles_copytext_row(CopyText *copy, TupleTableSlot *slot, StringInfo out)
{
	MemoryContext old;

	MemoryContextReset(copy->row_context);
	old = MemoryContextSwitchTo(copy->row_context);
	slot_getallattrs(slot);
	for (int i = 0; i < copy->n_columns; i++)
	{
		if (i > 0)
			appendStringInfoCharMacro(out, '\t');
		copy->starts[i] = out->len;
		if (slot->tts_isnull[i])
			appendBinaryStringInfo(out, "\\N", 2);
		else
		{
			char	   *text = OutputFunctionCall(&copy->functions[i], slot->tts_values[i]);

			append_value(out, copy->convert ? angles_copytext_encode(text) : text);
		}
		copy->ends[i] = out->len;
	}
	appendStringInfoCharMacro(out, '\n');
	MemoryContextSwitchTo(old);
}

/* In UTF-8 and every encoding of a server no byte of a longer character is an ASCII one. */
static void
append_value(StringInfo out, const char *text)
{
	static const char letters[] = {
		['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['\v'] = 'v',
		['\\'] = '\\'
	};
	const char *start = text;
	const char *p;

	for (p = text; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (c >= lengthof(letters) || letters[c] == '\0')
			continue;
		appendBinaryStringInfo(out, start, p - start);
		appendStringInfoCharMacro(out, '\\');
		appendStringInfoCharMacro(out, letters[c]);
		start = p + 1;
	}
	appendBinaryStringInfo(out, start, p - start);
}

char *
angles_copytext_encode(const char *text)
{
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return unconstify(char *, text);
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}
