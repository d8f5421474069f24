/*
 * manifest.h
 *		What a backup says about itself: angles.json, and the files that people and plain tools use.
 */
#ifndef ANGLES_MANIFEST_H
#define ANGLES_MANIFEST_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "backup/export.h"
#include "backup/key.h"
#include "backup/scope.h"
#include "backup/tree.h"

/* Version of the format that src/backup/README.md describes. */
#define ANGLES_BACKUP_FORMAT 1

/* When and where the rows were read. */
typedef struct BackupMoment
{
	TimestampTz at;
	XLogRecPtr	lsn;
	char	   *snapshot;		/* as pg_current_snapshot() writes it */
} BackupMoment;

/* A backup of which everything is known but its commit. */
typedef struct BackupFacts
{
	char	   *id;				/* a uuid */
	const char *parent;			/* commit before it, 40 hex digits, or NULL */
	BackupMoment moment;
	BackupScope *scope;
	BackupCount *counts;		/* in the order of scope->tables */
	uint32		chunk_target;	/* bytes */
	int64		rows;
	int64		bytes;
	int64		chunks;
	char		sums[ANGLES_SHA256_HEX];	/* SHA-256 of SHA256SUMS */
} BackupFacts;

/*
 * Adds README.md, restore.sh, settings.sql, sequences.sql, order.txt, .gitattributes and (with a
 * key) angles.pub to the tree. Nothing in them depends on when or where the backup was made.
 * "order" and "sequences" are those of angles_scope_order() and angles_scope_sequences().
 */
extern void angles_manifest_files(BackupTree *tree, List *order, const char *sequences,
								  const BackupKey *key);

/* Returns angles.json: one line for each table, so that differences can be read. */
extern char *angles_manifest_json(const BackupFacts *facts, const BackupKey *key);

#endif							/* ANGLES_MANIFEST_H */
