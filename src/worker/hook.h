/*
 * hook.h
 *		What angles does around utility commands and at the end of transactions. For the room worker
 *		only.
 */
#ifndef ANGLES_HOOK_H
#define ANGLES_HOOK_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* Installs the utility hook and the transaction callback. While preloading only. */
extern void angles_hook_install(void);

/* Wakes the bridge of this database for new rows of angles.runs when this transaction commits. */
extern void angles_hook_runs_at_commit(void);

/* Lets bridge or launcher look at this database again when this transaction commits. */
extern void angles_hook_look_at_commit(void);

/*
 * hold.c: makes a database empty of angles' workers for a command that needs that. Returns without
 * doing anything when the command will be refused anyway, so that a refused one stops nothing.
 */
extern void angles_hold_for_drop(const DropdbStmt *stmt, bool is_top_level);
extern void angles_hold_for_rename(const RenameStmt *stmt);
extern void angles_hold_for_move(const AlterDatabaseStmt *stmt, bool is_top_level);
extern void angles_hold_for_template(const CreatedbStmt *stmt, bool is_top_level);

/* Gives the hold of this session back at the end of its transaction; no error, no allocation. */
extern void angles_hold_release(bool committed);

#endif							/* ANGLES_HOOK_H */
