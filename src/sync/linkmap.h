/*
 * linkmap.h
 *		How a table would be mapped to a data source: used by link(), alter_link() and their dry
 *		runs.
 */
#ifndef ANGLES_LINKMAP_H
#define ANGLES_LINKMAP_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "notion/codec.h"

/* One column of the table, or the row's key (c.attnum 0), and what it becomes. */
typedef struct MapRow
{
	AnglesColumn c;
	bool		included;
	bool		is_key;
	bool		is_title;
	bool		named;			/* the mapping names its property */
	bool		typed;			/* ... or its type */
	bool		kept;			/* it has the property that it had before */
	Oid			ref_relid;		/* RELATION */
	List	   *ref_names;		/* RELATION: columns of the foreign key */
	char	   *conflict;		/* its own policy, NULL: the link's */
	bool		additive;		/* what both sides add to it is added up */
	char	   *remark;			/* for people, NULL: none */
} MapRow;

typedef struct LinkMap
{
	Oid			relid;
	List	   *key_names;		/* of char *: primary key columns, in order */
	List	   *key_attnums;	/* of int */
	List	   *rows;			/* of MapRow * */
	char	   *flag_column;	/* set when a row's page is removed in Notion, NULL: none */
} LinkMap;

struct LinkBefore;				/* relink.h */

/*
 * Refuses, with an error that says why (ERRCODE_ANGLES_CANNOT_LINK), a relation that cannot be
 * linked: not a table, temporary, unlogged, of the system, of angles, not owned by the caller,
 * with inheritance children, a partition of a linked table or with a partition that is linked by
 * itself. Needs SPI.
 */
extern void angles_linkmap_check_table(Oid relid);

/*
 * Makes the mapping. "wishes" is the argument "mapping" of link() (NULL: none): for each column
 * null (leave it out), "property name", {"property": name, "type": type, "conflict": policy,
 * "additive": boolean}, or {"flag": true} (no property: it tells whether the row's page was
 * removed).
 * Errors (ERRCODE_ANGLES_BAD_MAPPING) for unknown columns, unknown or impossible types, names used
 * twice. What the wishes leave open is as it was before.
 */
extern LinkMap *angles_linkmap_make(Oid relid, Jsonb *wishes, const char *title_column,
									const struct LinkBefore *before);

/*
 * Puts the mapping into the result of a set-returning function, with a last row about the rows to
 * send first. Needs SPI.
 */
extern void angles_link_show(FunctionCallInfo fcinfo, const LinkMap *map, const char *filter,
							 bool dry_run);

#endif							/* ANGLES_LINKMAP_H */
