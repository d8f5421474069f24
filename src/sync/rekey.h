/*
 * rekey.h
 *		Another primary key under a link.
 */
#ifndef ANGLES_REKEY_H
#define ANGLES_REKEY_H

#include "postgres.h"

#include "sync/relink.h"

/*
 * Refuses (ERRCODE_ANGLES_CANNOT_LINK) a table of which nobody can tell any more which page belongs
 * to which row: its key has changed, and a column of the former one is gone. Needs SPI.
 */
extern void angles_rekey_check(const LinkBefore *before, const LinkMap *map);

/*
 * Makes the pages of the table follow their rows to the key of now, when the worker folds the log.
 * The caller holds a lock that keeps writers out, and acts as the owner of the extension. Needs
 * SPI.
 */
extern void angles_rekey(const LinkBefore *before, const LinkMap *map);

#endif							/* ANGLES_REKEY_H */
