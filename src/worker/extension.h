/*
 * extension.h
 *		Is the extension in this database, and is it still the same? For the room worker only.
 */
#ifndef ANGLES_EXTENSION_H
#define ANGLES_EXTENSION_H

#include "postgres.h"

#include "storage/lockdefs.h"

typedef struct AnglesExtension
{
	Oid			oid;
	Oid			owner;			/* whose angles' own tables are */
	char		version[64];
} AnglesExtension;

/* Finds the extension "angles" of this database in the catalog. Needs a transaction. */
extern bool angles_extension_find(AnglesExtension *extension);

/*
 * Locks the extension until the end of the transaction against (or for) DROP and ALTER EXTENSION.
 * Returns false when "wait" is false and somebody holds a lock that conflicts.
 */
extern bool angles_extension_lock(Oid extension, LOCKMODE mode, bool wait);

/* The extension this worker serves, as it was when the worker started. */
extern AnglesExtension angles_my_extension;

/* Returns true when the version is that of this library. */
extern bool angles_extension_matches(const AnglesExtension *extension);

#endif							/* ANGLES_EXTENSION_H */
