/*
 * tree.h
 *		The tree of a backup as it grows: chunks, buckets, tables, and the sums of them all.
 */
#ifndef ANGLES_TREE_H
#define ANGLES_TREE_H

#include "postgres.h"

#include "git/git.h"

/* Hexadecimal digits of a SHA-256, and a NUL. */
#define ANGLES_SHA256_HEX 65

typedef struct BackupTree BackupTree;

/* What was given to the pack. */
typedef struct BackupTreeStats
{
	int64		written;		/* chunks that were new */
	int64		reused;			/* chunks that were there already */
} BackupTreeStats;

/* Writes SHA-256 of some bytes as hexadecimal digits. */
extern void angles_sha256_hex(const void *data, Size len, char hex[ANGLES_SHA256_HEX]);

/* Returns an empty tree, in the current context, whose objects go into the pack. */
extern BackupTree *angles_tree_begin(GitPack *pack);

/*
 * Adds a file to folder schema, or to schema/tables ("table"), with its sum. All of them come
 * before angles_tree_schema_end().
 */
extern void angles_tree_schema(BackupTree *tree, bool table, const char *name, const char *text);
extern void angles_tree_schema_end(BackupTree *tree);

/*
 * Begins a table in folder "top" ("data" or "config"). Then its chunks in order (the first begins
 * its first bucket), its files, and the end, which sets *sums to SHA-256 of its SHA256SUMS.
 */
extern void angles_tree_table(BackupTree *tree, const char *top, const char *folder);
extern void angles_tree_chunk(BackupTree *tree, const char *label, bool new_bucket,
							  const char *data, Size len);
extern void angles_tree_table_file(BackupTree *tree, const char *name, const char *text);
extern void angles_tree_table_end(BackupTree *tree, char sums[ANGLES_SHA256_HEX]);

/* Adds a file at the root, with its sum; "program": one that can be executed. */
extern void angles_tree_file(BackupTree *tree, const char *name, const char *text, bool program);

/*
 * Writes the SHA256SUMS of the root and sets *sums to its own SHA-256: what tells whether two
 * backups hold the same. After it come files without a sum: what is said about that one.
 */
extern void angles_tree_sums(BackupTree *tree, char sums[ANGLES_SHA256_HEX]);
extern void angles_tree_loose_file(BackupTree *tree, const char *name, const void *data, Size len);

/* Writes the trees. Returns the root. */
extern GitOid angles_tree_end(BackupTree *tree);

extern BackupTreeStats angles_tree_stats(BackupTree *tree); /* of the chunks so far */

#endif							/* ANGLES_TREE_H */
