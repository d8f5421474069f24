/*
 * capture.h
 *		Keys of rows as the triggers write them.
 */
#ifndef ANGLES_CAPTURE_H
#define ANGLES_CAPTURE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/*
 * Returns the key text of a row whose key is made of these n columns of the tuple, in this order,
 * just as the triggers write it, whatever the settings of the session.
 */
extern char *angles_capture_key_text(HeapTuple tuple, TupleDesc desc, int n,
									 const AttrNumber *attnums);

#endif							/* ANGLES_CAPTURE_H */
