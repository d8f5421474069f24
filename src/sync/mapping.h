/*
 * mapping.h
 *		Links as the sync worker knows them: table, columns, data source, and how to read a row.
 */
#ifndef ANGLES_MAPPING_H
#define ANGLES_MAPPING_H

#include "postgres.h"

#include "executor/spi.h"
#include "nodes/pg_list.h"

#include "notion/codec.h"

typedef enum LinkState
{
	LINK_CREATING,				/* the Notion database has to be made */
	LINK_BINDING,				/* an existing data source has to be read */
	LINK_PUSHING,				/* the rows that were there before are being queued */
	LINK_ACTIVE,
	LINK_UNLINKED
} LinkState;

typedef struct SyncColumn
{
	AnglesColumn c;				/* c.attnum 0: stands for the row's key, not for a column */
	bool		is_key;			/* holds the row's key: look-ups go by it */
	char	   *problem;		/* why this column is not synced just now, or NULL */
	char	   *notion_problem; /* ... for what was done to its property in Notion */
	bool		writable;		/* a change in Notion may go into it: no key, not generated */
	List	   *ref_names;		/* RELATION: columns of the foreign key, in the key's order */
	int32		ref_link;		/* RELATION: link of the referenced table, 0: not linked */
	char	   *ref_data_source;	/* RELATION: its data source, NULL while it has none */
	int			first_value;	/* 1-based column of the load query; 0 when none */
	char	   *conflict;		/* its own policy, NULL: the link's */
	bool		additive;		/* what both sides add to it is added up */
	Oid			ref_relid;		/* RELATION: the table that is referenced */
	int			n_values;		/* RELATION: columns of the foreign key, and their types */
	Oid			key_types[INDEX_MAX_KEYS];
} SyncColumn;

typedef struct Link
{
	int32		id;
	Oid			relid;
	Oid			owner;
	LinkState	state;
	bool		paused;
	bool		fenced;			/* made under another identity than this server's */
	bool		by_name;		/* in a restored dump column numbers may differ: names hold */
	bool		marked;			/* its mark in Notion was this server's before */
	bool		reconcile;		/* to be compared in full */
	char	   *problem;		/* why the link as a whole cannot work, or NULL */
	char	   *schema;
	char	   *table;
	char	   *title;
	char	   *marker;
	char	   *parent_id;
	char	   *database_id;
	char	   *data_source_id;
	char	   *filter;
	char	   *on_local_delete;
	char	   *on_notion_delete;
	char	   *flag_column;	/* set in the row of a removed page, NULL: none */
	char	   *unreachable;	/* why Notion does not show its data source now, or NULL */
	TimestampTz bypass_until;	/* the next mass delete before this goes through; 0: none does */
	char	   *conflict;		/* who wins when both sides changed a value */
	bool		inbound;		/* changes in Notion go into the table */
	bool		tells_refusals; /* ... and what it does not take is told there */
	bool		strict;			/* a page is read before it is written */
	bool		no_login;		/* its owner may not log in, which they need */
	int			mass_limit;
	int			depth;			/* parents have a lower one than children; cycles: arbitrary */
	List	   *keys;			/* of char *: key column names */
	int			n_columns;
	SyncColumn *columns;
	SyncColumn *key_column;		/* the one with is_key */
	char	   *load_sql;		/* $1 text[]: ordinality, in scope, then the values */
	char	   *lock_sql;		/* the same, and locks the rows that nobody else has locked */
	char	   *update_before;	/* UPDATE table SET ... FROM, WHERE the key is $1 text */
	char	   *update_after;
	char	   *one_row;		/* what follows FROM for the row, as t, whose key is $1 text */
	char	   *delete_sql;		/* deletes that row */
	char	   *insert_into;	/* INSERT INTO table */
	char	   *scan_sql;		/* keys in order: $1 text (after this one or NULL), $2 limit */
	char	   *scan_all_sql;	/* the same without the filter, NULL without a filter */
	SPIPlanPtr	load_plan;
	SPIPlanPtr	lock_plan;
	SPIPlanPtr	scan_plan;
	SPIPlanPtr	scan_all_plan;
} Link;

/*
 * Reads the links of this database anew when anything about them or their tables has changed. Needs
 * a transaction. What angles_links() and angles_link_find() gave before is gone afterwards, so it
 * is called only where nobody holds any of it.
 */
extern void angles_links_refresh(void);

/* Returns the links (of Link *) as of the last refresh. */
extern List *angles_links(void);

/* Counts how often angles_links_refresh() has read the links anew. */
extern uint64 angles_links_version(void);

/* Returns the link of this id among angles_links(), or NULL. */
extern Link *angles_link_find(int32 id);

/*
 * Returns true when requests may be sent for the link: active enough, not paused, not fenced. While
 * its data source is unreachable only questions are.
 */
extern bool angles_link_sends(const Link *link);

/* Returns whether the role is there and may log in. */
extern bool angles_role_can_log_in(Oid role);

/* Returns the table's quoted name, or its OID where it was dropped: both name it to regclass. */
extern char *angles_link_name(const Link *link);

/* Returns the hint on how to decide about held deletions of the link. */
extern char *angles_approve_hint(const Link *link);

/* What is known of the links is out of date: the next refresh reads them anew. */
extern void angles_links_stale(void);

/* Forgets what is known, for instance after an error in the middle of reading. */
extern void angles_links_forget(void);

/*
 * Returns "FROM ONLY schema.table" or, for a partitioned table, "FROM schema.table", with the alias
 * t. NULL when the table is gone.
 */
extern char *angles_link_from(Oid relid);

/*
 * Returns the text of a key of n values as capture and all other places write it: the value itself
 * for one column, a JSON array of texts for more.
 */
extern char *angles_key_text(int n, char **values);

#endif							/* ANGLES_MAPPING_H */
