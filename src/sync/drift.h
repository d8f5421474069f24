/*
 * drift.h
 *		Comparing rows with their pages, from the inside. Used by drift*.c only.
 */
#ifndef ANGLES_DRIFT_H
#define ANGLES_DRIFT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/tuplestore.h"

#include "sync/engine.h"

/* A page as Notion has just shown it: a row of listing.c. */
typedef struct ListedPage
{
	char	   *id;
	JsonbContainer *values;		/* canonical values as strings, by property id */
	JsonbContainer *problems;	/* why others cannot be read */
	TimestampTz edited_at;
	char	   *edited_by;
	TimestampTz asked_at;
} ListedPage;

/* What is known of a row and its page. Lives for one batch. */
typedef struct DriftRow
{
	Link	   *link;
	Entry		entry;			/* the row, and what both sides last agreed on */
	char	   *page_state;		/* NULL: there is no page */
	char	   *pending;		/* what becomes of the row of a removed page, and why, and since */
	char	   *note;
	TimestampTz removed_at;
	TimestampTz agreed_at;		/* last write of either side, 0: none */
	char	   *queue_state;	/* NULL: nothing is queued */
	char	   *queue_message;
	bool		captured;		/* a change is in the log */
	TimestampTz changed_at;		/* the row's change that is queued or captured, 0: not known */
	Jsonb	   *noted;			/* changes made in Notion that are not in the row, or NULL */
	Jsonb	   *decided;		/* what a person chose for its conflicts, or NULL */
	char	   *noted_state;
	char	   *noted_message;
	TimestampTz edited_at;
	char	   *edited_by;
	TimestampTz noted_at;
	Jsonb	   *conflicts;		/* open ones: since when, by property id; or NULL */
	const ListedPage *listed;	/* NULL: not asked for, or written since */
	bool		not_listed;		/* all pages were shown, and this one was not among them */
} DriftRow;

/* One difference. Texts are in the server's encoding; times: 0 is not known. */
typedef struct DriftLine
{
	const char *key;
	const char *page_id;
	const SyncColumn *column;	/* NULL: the row as a whole */
	const char *class;
	char	   *base;			/* JSON */
	char	   *local;
	char	   *remote;
	TimestampTz since;
	const char *remote_by;
	const char *state;
	const char *remark;
	TimestampTz remote_at;
} DriftLine;

/* What was found about one link. */
typedef struct DriftResult
{
	Link	   *link;
	MemoryContext context;
	TimestampTz begun_at;
	TimestampTz ended_at;
	TimestampTz shown_at;		/* when Notion was asked for the first of them, 0: it was not */
	bool		complete;		/* ... and showed all */
	int64		compared;
	List	   *counts;			/* of DriftCount * */
	int64		left_out;
	int			n_kept;
	int			n_alike;		/* of these, those that differ in form only */
	Size		bytes;
	Tuplestorestate *lines;
} DriftResult;

typedef struct DriftCount
{
	char	   *class;
	int64		n;
} DriftCount;

/* ---- driftkept.c ---- */

/* Counts a difference, and keeps it while there is room. */
extern void angles_drift_note(DriftResult *result, const DriftLine *line);

/*
 * Puts what was found about links (of DriftResult *, by number of the link) into the tables, in
 * place of what was there.
 */
extern void angles_drift_keep(List *results, bool fresh);

/* ---- driftrow.c ---- */

/* Notes in what a row and its page differ. */
extern void angles_drift_compare(DriftResult *result, DriftRow *row);

/* Notes a page that belongs to no row; remark: what else is known of it, or NULL. */
extern void angles_drift_page_alone(DriftResult *result, const ListedPage *page,
									const char *remark);

/* Notes the properties of a link that cannot be compared at all. */
extern void angles_drift_columns(DriftResult *result);

#endif							/* ANGLES_DRIFT_H */
