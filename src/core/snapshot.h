/*
 * snapshot.h
 *		Waiting inside a SELECT without keeping vacuum from its work.
 */
#ifndef ANGLES_SNAPSHOT_H
#define ANGLES_SNAPSHOT_H

#include "postgres.h"

#include "fmgr.h"

/*
 * Gives back the snapshot of the statement that calls this function, when that is safe: a SELECT at
 * the top level which reads no table, in READ COMMITTED, whose function this is. Returns whether it
 * was; then angles_snapshot_take() must follow before the function returns. An error in between
 * needs no care.
 */
extern bool angles_snapshot_release(FunctionCallInfo fcinfo);

/* Gives that statement a new snapshot. */
extern void angles_snapshot_take(void);

#endif							/* ANGLES_SNAPSHOT_H */
