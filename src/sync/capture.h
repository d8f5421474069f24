/*
 * capture.h
 *		Capture, for the other files of the room: keys of rows as the triggers write them, and
 *		changes of tables that triggers do not see.
 */
#ifndef ANGLES_CAPTURE_H
#define ANGLES_CAPTURE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/*
 * Returns whether this session's changes count now: angles.sync, and angles.capture_replica in
 * replica mode.
 */
extern bool angles_capture_wanted(void);

/*
 * Returns the key text of a row whose key is made of these n columns of the tuple, in this order,
 * just as the triggers write it, whatever the settings of the session.
 */
extern char *angles_capture_key_text(HeapTuple tuple, TupleDesc desc, int n,
									 const AttrNumber *attnums);

/* Lets changes be noticed that come with partitions. Once, from angles_sync_install(). */
extern void angles_partitions_install(void);

#endif							/* ANGLES_CAPTURE_H */
