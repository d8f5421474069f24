/*
 * sync.h
 *		The room sync, as other rooms see it.
 */
#ifndef ANGLES_SYNC_H
#define ANGLES_SYNC_H

#include "postgres.h"

/*
 * Installs the transaction callbacks of capture, and registers shared memory while preloading. From
 * _PG_init, preloaded or not.
 */
extern void angles_sync_install(void);

#endif							/* ANGLES_SYNC_H */
