/*
 * linkshow.c
 *		What link() and alter_link() answer: the mapping, and how long the first push takes.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "core/guc.h"
#include "sync/linkmap.h"
#include "sync/mapping.h"

static void show_row(ReturnSetInfo *rsinfo, const char *column, const char *property,
					 const char *type, const char *remark);
static char *push_remark(Oid relid, const char *filter, bool dry_run);

void
angles_link_show(FunctionCallInfo fcinfo, const LinkMap *map, const char *filter, bool dry_run)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *lc;

	foreach(lc, map->rows)
	{
		MapRow	   *row = (MapRow *) lfirst(lc);

		show_row(rsinfo, row->c.attnum == 0 && list_length(map->key_names) > 1
				 ? "(primary key)" : row->c.name,
				 row->included ? row->c.property_name : NULL,
				 row->included ? angles_codec_type_name(row->c.type) : NULL, row->remark);
	}
	show_row(rsinfo, NULL, NULL, NULL, push_remark(map->relid, filter, dry_run));
}

static void
show_row(ReturnSetInfo *rsinfo, const char *column, const char *property, const char *type,
		 const char *remark)
{
	const char *texts[4] = {column, property, type, remark};
	Datum		values[4];
	bool		nulls[4];

	for (int i = 0; i < 4; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* How many rows there are and how long their first push takes at the limit. */
static char *
push_remark(Oid relid, const char *filter, bool dry_run)
{
	int			limit = angles_guc_notion_rate_limit;
	char	   *sql = psprintf("SELECT count(*), CASE WHEN %d > 0"
							   " THEN justify_interval(make_interval(secs =>"
							   "  ceil(count(*) * 60.5 / %d)::int)) END FROM %s%s",
							   limit, Max(limit, 1), angles_link_from(relid),
							   filter ? psprintf(" WHERE (%s)", filter) : "");
	char	   *rows;
	char	   *duration;

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not count the rows");
	rows = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	duration = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (duration == NULL)
		return psprintf("%s %s rows to send first; no rate limit is set",
						dry_run ? "would have" : "has", rows);
	return psprintf("%s %s rows to send first, which takes %s at %d requests a minute",
					dry_run ? "would have" : "has", rows, duration, limit);
}
