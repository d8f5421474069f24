/*
 * verify.h
 *		Reading a backup back: is each byte the one that was written?
 */
#ifndef ANGLES_VERIFY_H
#define ANGLES_VERIFY_H

#include "postgres.h"

#include "git/git.h"

typedef struct BackupVerified
{
	int64		files;			/* read and hashed */
	int64		bytes;
	char	   *signed_by;		/* fingerprint that angles.json names and the signature proves */
	char	   *manifest;		/* angles.json */
} BackupVerified;

/*
 * Reads the files of a backup and compares them with its sums, the sums with each other, those with
 * angles.json and that with its signature; a signature of another key than the one of
 * angles.backup_public_key is none. "than": a backup that was verified earlier; what has the same
 * id there is not read again; NULL: everything is. Raises ERRCODE_ANGLES_BACKUP_DAMAGED, or what
 * room git raises, naming the first file that is not right. Outside of a transaction.
 */
extern BackupVerified *angles_verify(GitRepo *repo, const GitOid *commit, const GitOid *than);

/* Returns the text of a file in the root of a commit's tree, or NULL when it is not there. */
extern char *angles_verify_read(GitRepo *repo, const GitOid *commit, const char *name, Size *len);

#endif							/* ANGLES_VERIFY_H */
