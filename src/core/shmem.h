/*
 * shmem.h
 *		One registry for the shared memory of all rooms, so that each room owns its part and the
 *		hooks are chained once.
 */
#ifndef ANGLES_SHMEM_H
#define ANGLES_SHMEM_H

#include "postgres.h"

/*
 * Registers a part of shared memory. Only during shared_preload_libraries. "size" and "init" are
 * called in the postmaster (size after all settings are known; init on each fresh segment, that
 * is also after a crash of a backend, under AddinShmemInitLock). "*where" points at the part in
 * every process afterwards; it stays NULL when angles is not preloaded.
 */
extern void angles_shmem_register(const char *name, Size (*size) (void), void (*init) (void *part),
								  void **where);

/* Installs the request and startup hooks. Called once, from _PG_init, while preloading. */
extern void angles_shmem_install(void);

/* Returns true when angles was loaded by shared_preload_libraries in this server. */
extern bool angles_preloaded(void);

/*
 * Returns true when this shared memory replaced one that was lost in a crash of the same
 * postmaster, or when the server was not shut down cleanly before: what it held is unknown.
 */
extern bool angles_shmem_after_crash(void);

#endif							/* ANGLES_SHMEM_H */
