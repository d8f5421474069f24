/*
 * fold.h
 *		What the parts of folding share: rows taken from the change log.
 */
#ifndef ANGLES_FOLD_H
#define ANGLES_FOLD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "sync/engine.h"

/* A key of a row of the log. */
typedef struct LogRow
{
	int64		id;
	int32		ord;
	int32		link_id;
	char		op;
	char	   *key;
	char	   *new_key;
	TimestampTz at;
} LogRow;

typedef struct LogRows
{
	LogRow	   *rows;
	int			n;
	int			max;
} LogRows;

/*
 * Takes rows out of the change log, in the order in which they count, until that is enough for one
 * transaction; what a transaction has logged is taken as a whole when keys change in it. Returns
 * whether there may be more. Sets log_is_full and log_passed_over of the engine.
 */
extern bool angles_log_take(Engine *engine, LogRows *rows);

/*
 * Carries out row i: its page, entry and requests follow it to the new key. *displaced is NIL at
 * the first row of a fold, and belongs to the rows that follow.
 */
extern void angles_fold_rename(Engine *engine, List **displaced, const LogRow *rows, int i);

#endif							/* ANGLES_FOLD_H */
