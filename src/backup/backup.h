/*
 * backup.h
 *		The room backup: tables into the local Git repository. Everything runs in job workers.
 */
#ifndef ANGLES_BACKUP_H
#define ANGLES_BACKUP_H

#include "postgres.h"

/* Names the functions of this room's tasks. Called once, from _PG_init. */
extern void angles_backup_install(void);

#endif							/* ANGLES_BACKUP_H */
