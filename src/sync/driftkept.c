/*
 * driftkept.c
 *		What a comparison has found: counts it, keeps as much as there is room for, and puts it in
 *		the place of what the last one had found. Runs in the session that calls
 *		angles.drift_notion().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/json.h"
#include "core/txn.h"
#include "sync/drift.h"

/* What is kept of one link: differences, of these those in form alone, bytes of their values. */
#define KEPT_LINES 10000
#define KEPT_ALIKE 1000
#define KEPT_BYTES (32 * 1024 * 1024)

/* Columns of a kept line, all text: as $2 ... of the INSERT. */
#define LINE_COLUMNS 14

static bool count_line(DriftResult *result, const DriftLine *line);
static TupleDesc line_desc(void);
static void clear_orphans(void);
static void store(DriftResult *result, bool fresh);
static void store_lines(DriftResult *result);
static char *counts_text(const DriftResult *result);

void
angles_drift_note(DriftResult *result, const DriftLine *line)
{
	const char *attnum = NULL;
	const char *texts[LINE_COLUMNS];
	Datum		values[LINE_COLUMNS];
	bool		nulls[LINE_COLUMNS];

	if (!count_line(result, line))
		return;
	/* the values of a relation may be those of several columns */
	if (line->column != NULL && line->column->c.attnum > 0 &&
		line->column->c.type != ANGLES_PROP_RELATION)
		attnum = psprintf("%d", line->column->c.attnum);
	texts[0] = line->key;
	texts[1] = line->page_id;
	texts[2] = attnum;
	texts[3] = line->column ? line->column->c.name : NULL;
	texts[4] = line->column ? line->column->c.property_name : NULL;
	texts[5] = line->class;
	texts[6] = line->base;
	texts[7] = line->local;
	texts[8] = line->remote;
	texts[9] = line->since ? pstrdup(timestamptz_to_str(line->since)) : NULL;
	texts[10] = line->remote_by;
	texts[11] = line->state;
	texts[12] = line->remark;
	texts[13] = line->remote_at ? pstrdup(timestamptz_to_str(line->remote_at)) : NULL;
	for (int i = 0; i < LINE_COLUMNS; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(result->lines, line_desc(), values, nulls);
}

static TupleDesc
line_desc(void)
{
	static TupleDesc desc = NULL;
	MemoryContext old;

	if (desc != NULL)
		return desc;
	old = MemoryContextSwitchTo(TopMemoryContext);
	desc = CreateTemplateTupleDesc(LINE_COLUMNS);
	for (int i = 0; i < LINE_COLUMNS; i++)
		TupleDescInitEntry(desc, i + 1, NULL, TEXTOID, -1, 0);
	MemoryContextSwitchTo(old);
	return desc;
}

/* Counts a difference. Returns whether there is room for it. */
static bool
count_line(DriftResult *result, const DriftLine *line)
{
	bool		alike = strcmp(line->class, "representation") == 0;
	Size		bytes = (line->base ? strlen(line->base) : 0) +
		(line->local ? strlen(line->local) : 0) + (line->remote ? strlen(line->remote) : 0);
	DriftCount *count = NULL;
	ListCell   *lc;

	foreach(lc, result->counts)
		if (strcmp(((DriftCount *) lfirst(lc))->class, line->class) == 0)
			count = (DriftCount *) lfirst(lc);
	if (count == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(result->context);

		count = palloc0(sizeof(DriftCount));
		count->class = pstrdup(line->class);
		result->counts = lappend(result->counts, count);
		MemoryContextSwitchTo(old);
	}
	count->n++;
	if (result->n_kept >= KEPT_LINES || result->bytes + bytes > KEPT_BYTES ||
		(alike && result->n_alike >= KEPT_ALIKE))
	{
		result->left_out++;
		return false;
	}
	result->n_kept++;
	result->n_alike += alike;
	result->bytes += bytes;
	return true;
}

/* ---- the tables ---- */

void
angles_drift_keep(List *results, bool fresh)
{
	ListCell   *lc;

	clear_orphans();
	/* in the order of their links, as all callers do: none waits for one who waits for him */
	foreach(lc, results)
		store((DriftResult *) lfirst(lc), fresh);
}

/* What is left of links that are gone. */
static void
clear_orphans(void)
{
	static SPIPlanPtr fields = NULL;
	static SPIPlanPtr measures = NULL;

	angles_spi_exec(&fields,
					"DELETE FROM angles.drift_fields f WHERE NOT EXISTS (SELECT FROM angles.links l"
					" WHERE l.id = f.link_id AND l.state <> 'unlinked')",
					0, NULL, NULL, NULL, SPI_OK_DELETE);
	angles_spi_exec(&measures,
					"DELETE FROM angles.drift_measures m WHERE NOT EXISTS (SELECT FROM"
					" angles.links l WHERE l.id = m.link_id AND l.state <> 'unlinked')",
					0, NULL, NULL, NULL, SPI_OK_DELETE);
}

/* Puts the result of a link in the place of the last one. */
static void
store(DriftResult *result, bool fresh)
{
	static SPIPlanPtr put = NULL;
	static SPIPlanPtr clear = NULL;
	Oid			types[8] = {
		INT4OID, TIMESTAMPTZOID, BOOLOID, BOOLOID, INT8OID, INT8OID, TEXTOID, INT8OID
	};
	Datum		values[8] = {
		Int32GetDatum(result->link->id), TimestampTzGetDatum(result->begun_at),
		BoolGetDatum(fresh), BoolGetDatum(result->complete),
		Int64GetDatum(result->ended_at - result->begun_at), Int64GetDatum(result->compared),
		CStringGetTextDatum(counts_text(result)), Int64GetDatum(result->left_out)
	};

	/* first, and in one place: whoever comes at the same time waits here */
	angles_spi_exec(&put,
					"INSERT INTO angles.drift_measures AS m (link_id, half, measured_at, fresh,"
					" complete, seconds, compared, counts, left_out)"
					" VALUES ($1, 'notion', $2, $3, CASE WHEN $3 THEN $4 END,"
					"  round($5 / 1000000.0, 3), $6, $7::jsonb, $8)"
					" ON CONFLICT (link_id, half) DO UPDATE SET"
					"  measured_at = EXCLUDED.measured_at, measured_by = EXCLUDED.measured_by,"
					"  fresh = EXCLUDED.fresh, complete = EXCLUDED.complete,"
					"  seconds = EXCLUDED.seconds, compared = EXCLUDED.compared,"
					"  counts = EXCLUDED.counts, left_out = EXCLUDED.left_out",
					8, types, values, NULL, SPI_OK_INSERT);
	angles_spi_exec(&clear,
					"DELETE FROM angles.drift_fields WHERE link_id = $1 AND half = 'notion'",
					1, types, values, NULL, SPI_OK_DELETE);
	store_lines(result);
	tuplestore_end(result->lines);
}

static void
store_lines(DriftResult *result)
{
	static SPIPlanPtr plan = NULL;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(line_desc(), &TTSOpsMinimalTuple);
	Oid			types[LINE_COLUMNS + 1];
	Datum		values[LINE_COLUMNS + 1];
	char		nulls[LINE_COLUMNS + 2];

	types[0] = INT4OID;
	values[0] = Int32GetDatum(result->link->id);
	nulls[0] = ' ';
	nulls[LINE_COLUMNS + 1] = '\0';
	for (int i = 1; i <= LINE_COLUMNS; i++)
		types[i] = TEXTOID;
	while (tuplestore_gettupleslot(result->lines, true, false, slot))
	{
		slot_getallattrs(slot);
		for (int i = 0; i < LINE_COLUMNS; i++)
		{
			values[i + 1] = slot->tts_values[i];
			nulls[i + 1] = slot->tts_isnull[i] ? 'n' : ' ';
		}
		angles_spi_exec(&plan,
						"INSERT INTO angles.drift_fields (link_id, half, key, page_id, attnum,"
						" column_name, property, class, base, local, remote, since, remote_by,"
						" state, remark, remote_at) VALUES ($1, 'notion', $2, $3::uuid,"
						" $4::smallint, $5, $6, $7, $8::jsonb, $9::jsonb, $10::jsonb,"
						" $11::timestamptz, $12, $13, $14, $15::timestamptz)",
						LINE_COLUMNS + 1, types, values, nulls, SPI_OK_INSERT);
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* Returns the counts as a JSON object. */
static char *
counts_text(const DriftResult *result)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, result->counts)
	{
		DriftCount *count = (DriftCount *) lfirst(lc);

		appendStringInfoChar(&text, text.len ? ',' : '{');
		angles_json_append_string(&text, count->class);
		appendStringInfo(&text, ":" INT64_FORMAT, count->n);
	}
	appendStringInfoString(&text, text.len ? "}" : "{}");
	return text.data;
}
