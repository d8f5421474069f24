/*
 * relink.h
 *		What a link was before it is altered or made again: which columns it knew by which names,
 *		and the properties they had.
 */
#ifndef ANGLES_RELINK_H
#define ANGLES_RELINK_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "sync/linkmap.h"

/* A property of the link as it was. */
typedef struct PropertyBefore
{
	AttrNumber	attnum;			/* of its column as of now, 0: the row's key, or gone */
	AnglesPropertyType type;
	char	   *name;
	bool		is_key;
	Oid			ref_relid;		/* RELATION */
} PropertyBefore;

typedef struct LinkBefore
{
	int32		id;				/* 0: the table was never linked */
	List	   *key_names;		/* of char *: what the columns of the key were called then */
	List	   *key_attnums;	/* of int: where they are now, 0: gone */
	List	   *properties;		/* of PropertyBefore * */
} LinkBefore;

/*
 * SQL: what the column is called now that was called "name" when the link l was made or altered
 * last; NULL when it is gone. A restored dump has other numbers, and there names hold.
 */
#define ANGLES_COLUMN_NOW(what, name) \
	"(SELECT a." what " FROM pg_attribute a LEFT JOIN unnest(l.attnames) WITH ORDINALITY" \
	"  AS was (attname, attnum) ON l.attrelid = l.relid AND was.attnum = a.attnum" \
	" WHERE a.attrelid = l.relid AND a.attnum > 0 AND NOT a.attisdropped" \
	"  AND (was.attname = " name " OR a.attname = " name ")" \
	" ORDER BY was.attname = " name " DESC NULLS LAST LIMIT 1)"

/* Reads what is known of the link, 0: of none. Needs SPI. */
extern LinkBefore *angles_relink_read(int32 link_id);

/* Returns whether the key of the table consists of other columns than it did, or in other order. */
extern bool angles_relink_key_changed(const LinkBefore *before, const LinkMap *map);

/* Returns the column that was the title, 0: none, the title was the key; -1: nothing is known. */
extern int	angles_relink_title(const LinkBefore *before);

/*
 * Gives the columns of the map the properties they had, as far as these can still hold them and the
 * mapping names no other ones.
 */
extern void angles_relink_names(LinkMap *map, const LinkBefore *before);

#endif							/* ANGLES_RELINK_H */
