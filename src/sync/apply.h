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

/* What was done in Notion: see the column angles.inbox.kind. */
typedef enum ChangeKind
{
	CHANGE_EDIT,
	CHANGE_NEW,
	CHANGE_MAKE,
	CHANGE_DELETE,
	CHANGE_FLAG,
	CHANGE_UNFLAG
} ChangeKind;

/* A change made in Notion, and what becomes of it. Lives for one transaction. */
typedef struct Change
{
	Link	   *link;
	ChangeKind	kind;
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
	bool		absent;			/* ... there is no such row */
	bool		waits;			/* NEW: it references a page that has no row yet: later */
	bool		row_is_gone;	/* DELETE, FLAG: there is nothing left to do */
	char	   *hold;			/* DELETE: why a person has to decide */
	char	   *new_key;		/* NEW, MAKE: of the row */
	bool		is_copy;		/* ... the key that the page carries is another page's */
	bool		inserting;		/* ... there is no row yet */
	bool		merged;			/* ... there was one, which it belongs to now */
	struct Change **mates;		/* all changes of this transaction, itself included */
	int			n_mates;
	ErrorData  *refused;		/* why the database did not take it */
	StringInfoData base;		/* members of what is agreed on now, as JSON without braces */
	StringInfoData held;		/* ... of what waits for a person, of all properties */
	StringInfoData left;		/* ... of what the columns cannot hold */
	char	   *problem;		/* why, for people */
	StringInfoData columns;		/* names of the columns that were written, for the audit trail */
	StringInfoData added;		/* ... of those to which both sides had added */
	List	   *conflicts;		/* of Conflict * */
	List	   *settled;		/* of char *: property ids whose open conflict is over */
	bool		written;		/* the row was updated */
	bool		to_send;		/* the row differs from Notion now: look at it */
} Change;

/* A value on its way into a column. */
typedef struct Assignment
{
	const char *name;
	Oid			type;
	Datum		value;
	bool		isnull;
} Assignment;

/* What one row gets. */
typedef struct RowUpdate
{
	Assignment *columns;
	int			n;
} RowUpdate;

typedef enum RowAt
{
	ROW_LOCKED,					/* and read into the change's entry */
	ROW_OUT_OF_SCOPE,			/* the same, but it does not pass the link's filter */
	ROW_BUSY,					/* somebody else has it */
	ROW_ABSENT
} RowAt;

/*
 * Carries out changes of one link, all or each by itself: locks the rows, merges, updates. The user
 * is the link's owner. Stops after some time.
 */
extern void angles_apply_rows(Link *link, int n, Change **changes);

/* ---- applyrow.c: for applypage.c ---- */

/* Reads and locks the row of a change. */
extern RowAt angles_apply_lock(Change *change);

/* Makes an update with room for all columns of the link. */
extern RowUpdate *angles_apply_update(const Link *link);

/* Merges all properties of the page into the row that is locked. */
extern void angles_apply_merge(Change *change);

/*
 * Adds what a canonical value of column i of the link is in SQL to an update. Returns false when
 * the column cannot hold it as it is: what Notion holds ("remote") is left then, with the problem.
 */
extern bool angles_apply_assign(Change *change, int i, Jsonb *value, Jsonb *remote,
								RowUpdate *update);

/* Adds a value, given as its type's input (NULL for an SQL null), to an update. */
extern void angles_apply_input(RowUpdate *update, Oid relid, const char *name, const char *text);

/* Notes that both sides hold this value of a property now. */
extern void angles_apply_note_base(Change *change, const SyncColumn *column, Jsonb *value);

/* Carries out the update of the row that is locked. */
extern void angles_apply_row_update(Change *change, RowUpdate *update);

/* ---- applypage.c ---- */

/* Returns one value of a key text, as angles_key_text() makes it; an error where it is none. */
extern char *angles_apply_key_part(const char *key, int n_keys, int k);

/* Makes a row for a page, or gives the page to the row that has its key. */
extern void angles_apply_make(Change *change);

/* Deletes the row of a removed page, or says in change->hold why not. */
extern void angles_apply_delete(Change *change);

/* Adds to an update that the row's page was removed, or is back. */
extern void angles_apply_flag(Change *change, RowUpdate *update, bool removed);

#endif							/* ANGLES_APPLY_H */
