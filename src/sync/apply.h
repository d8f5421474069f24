/*
 * apply.h
 *		An apply worker from the inside. Used by apply.c and applyrow.c only.
 */
#ifndef ANGLES_APPLY_H
#define ANGLES_APPLY_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "sync/engine.h"

/* A conflict that came up, or a field that waits for a person. */
typedef struct Conflict
{
	const SyncColumn *column;
	char	   *base;			/* canonical values; NULL: not known */
	char	   *local;
	char	   *remote;
	const char *policy;
	const char *winner;			/* "postgres", "notion"; NULL: a person decides */
} Conflict;

/* A change made in Notion, and what becomes of it. Lives for one transaction. */
typedef struct Change
{
	Link	   *link;
	char	   *page_id;
	Jsonb	   *remote;			/* by property id */
	Jsonb	   *decided;		/* what a person chose, by property id; or NULL */
	TimestampTz edited_at;
	char	   *edited_by;
	int			attempts;
	Entry		entry;			/* the row and what both sides last agreed on */
	TimestampTz local_at;		/* the row's last change that is not in Notion; 0: not known */

	/* filled by angles_apply_rows() */
	bool		not_reached;	/* this transaction is long enough: at once in the next one */
	bool		busy;			/* somebody has the row, or it is not there yet: later */
	ErrorData  *refused;		/* why the database did not take it */
	StringInfoData base;		/* members of what is agreed on now, as JSON without braces */
	StringInfoData held;		/* ... of what waits for a person, of all properties */
	StringInfoData left;		/* ... of what the columns cannot hold */
	char	   *problem;		/* why, for people */
	StringInfoData columns;		/* names of the columns that were written, for the audit trail */
	List	   *conflicts;		/* of Conflict * */
	List	   *settled;		/* of char *: property ids whose open conflict is over */
	bool		written;		/* the row was updated */
	bool		to_send;		/* the row differs from Notion now: look at it */
} Change;

/*
 * Carries out changes of one link, all or each by itself: locks the rows, merges, updates. The user
 * is the link's owner. Stops after some time.
 */
extern void angles_apply_rows(Link *link, int n, Change **changes);

#endif							/* ANGLES_APPLY_H */
