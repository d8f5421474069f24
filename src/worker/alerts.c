/*
 * alerts.c
 *		Alerts and the audit trail, for C. The tables and the rules are in sql/10_worker.sql; the
 *		log line is written here. Inside a transaction of the caller's, in workers and user
 *		backends.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "core/txn.h"
#include "worker/worker.h"

/* Fingerprints of alerts to close that somebody held. In TopMemoryContext. */
static List *held_alerts = NIL;

static bool is_held(const char *fingerprint);
static void forget_held(const char *fingerprint);
static bool call_with_texts(SPIPlanPtr *plan, const char *sql, int n, const char *const *texts);

void
angles_alert_open(const char *fingerprint, const char *severity, const char *title,
				  const char *detail, const char *hint)
{
	static SPIPlanPtr plan = NULL;
	const char *texts[] = {fingerprint, severity, title, detail, hint};

	forget_held(fingerprint);
	if (call_with_texts(&plan, "SELECT angles.alert_open($1, $2, $3, $4, $5)", 5, texts))
		ereport(LOG,
				(errmsg("angles alert opened: %s", title),
				 detail ? errdetail("%s", detail) : 0,
				 hint ? errhint("%s", hint) : 0));
}

void
angles_alert_close(const char *fingerprint)
{
	static SPIPlanPtr plan = NULL;
	const char *texts[] = {fingerprint};

	if (call_with_texts(&plan, "SELECT angles.alert_close($1)", 1, texts))
		ereport(LOG, (errmsg("angles alert closed: %s", fingerprint)));
	else if (MyBackendType == B_BG_WORKER && is_held(fingerprint))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		forget_held(fingerprint);
		held_alerts = lappend(held_alerts, pstrdup(fingerprint));
		MemoryContextSwitchTo(old);
		return;
	}
	forget_held(fingerprint);
}

void
angles_alerts_catch_up(void)
{
	List	   *fingerprints = NIL;
	ListCell   *cell;

	/* closing changes the list */
	foreach(cell, held_alerts)
		fingerprints = lappend(fingerprints, pstrdup(lfirst(cell)));
	foreach(cell, fingerprints)
		angles_alert_close(lfirst(cell));
}

/* Returns true when the alert is open: then it did not close because somebody holds it. */
static bool
is_held(const char *fingerprint)
{
	static SPIPlanPtr plan = NULL;
	const char *texts[] = {fingerprint};

	return call_with_texts(&plan,
						   "SELECT EXISTS (SELECT FROM angles.alerts "
						   "WHERE fingerprint = $1 AND closed_at IS NULL)", 1, texts);
}

static void
forget_held(const char *fingerprint)
{
	ListCell   *cell;

	foreach(cell, held_alerts)
	{
		char	   *held = lfirst(cell);

		if (strcmp(held, fingerprint) != 0)
			continue;
		held_alerts = foreach_delete_current(held_alerts, cell);
		pfree(held);
	}
}

void
angles_audit(const char *action, const char *object, const char *detail)
{
	static SPIPlanPtr plan = NULL;
	const char *texts[] = {action, object, detail};

	call_with_texts(&plan, "SELECT angles.audit($1, $2, $3::jsonb) IS NULL", 3, texts);
}

/* Returns the boolean that a statement with text parameters returns. */
static bool
call_with_texts(SPIPlanPtr *plan, const char *sql, int n, const char *const *texts)
{
	Oid			types[5] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[5];
	char		nulls[5];
	bool		isnull;

	for (int i = 0; i < n; i++)
	{
		nulls[i] = texts[i] ? ' ' : 'n';
		values[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	angles_spi_exec(plan, sql, n, types, values, nulls, SPI_OK_SELECT);
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) &&
		!isnull;
}
