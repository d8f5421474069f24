/*
 * schema.h
 *		The definitions of tables into the tree of a backup.
 */
#ifndef ANGLES_SCHEMA_H
#define ANGLES_SCHEMA_H

#include "postgres.h"

#include "backup/scope.h"
#include "backup/tree.h"

/*
 * Adds folder "schema": the SQL that makes these tables anew, with all they need (49_schema.sql),
 * as the snapshot of this transaction sees them. Needs the settings of angles_copytext_pin().
 */
extern void angles_schema_add(BackupTree *tree, const BackupScope *scope);

#endif							/* ANGLES_SCHEMA_H */
