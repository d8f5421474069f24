/*
 * export.h
 *		The rows of tables into the tree of a backup, one chunk in memory at a time.
 */
#ifndef ANGLES_EXPORT_H
#define ANGLES_EXPORT_H

#include "postgres.h"

#include "backup/scope.h"
#include "backup/tree.h"

/* What became of a table. */
typedef struct BackupCount
{
	int64		rows;
	int64		bytes;			/* of text */
	int64		chunks;
	char		sums[ANGLES_SHA256_HEX];	/* SHA-256 of its SHA256SUMS */
} BackupCount;

/* Called after each chunk, with what was read of the table so far. May raise errors. */
typedef void (*BackupProgress) (const BackupTable *table, const BackupCount *count, void *arg);

/*
 * Reads a table with the active snapshot, under the settings of angles_copytext_pin(), and adds it
 * to the tree. Raises what reading raises, with the table's name in its context.
 */
extern BackupCount angles_export_table(BackupTree *tree, const BackupTable *table,
									   const ChunkSizes *sizes, BackupProgress progress,
									   void *arg);

#endif							/* ANGLES_EXPORT_H */
