/*
 * stream.h
 *		The rows of a query one after the other, never more than one in memory.
 */
#ifndef ANGLES_STREAM_H
#define ANGLES_STREAM_H

#include "postgres.h"

#include "executor/tuptable.h"

/* Called with each row; the slot is valid during the call. */
typedef void (*AnglesStreamRow) (TupleTableSlot *slot, void *arg);

/*
 * Executes a query, with the snapshot that is active and without writing, and hands on its rows.
 * Needs a connection to SPI. Raises what the query raises.
 */
extern void angles_stream(const char *query, AnglesStreamRow row, void *arg);

#endif							/* ANGLES_STREAM_H */
