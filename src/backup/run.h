/*
 * run.h
 *		What the steps of a backup share. For the files of this room that do them.
 */
#ifndef ANGLES_RUN_H
#define ANGLES_RUN_H

#include "postgres.h"

#include "git/git.h"
#include "worker/worker.h"
#include "backup/export.h"
#include "backup/key.h"
#include "backup/manifest.h"
#include "backup/scope.h"
#include "backup/tree.h"

typedef struct BackupRun
{
	AnglesCall *call;
	MemoryContext cxt;			/* for all that is here */
	List	   *named;			/* oids of tables; NIL: all there are */
	char	   *message;		/* of a person, or NULL */
	BackupKey  *key;			/* NULL: not signed */
	GitRepo    *repo;
	GitPack    *pack;
	BackupTree *tree;
	char	   *branch;			/* "refs/heads/..." */
	bool		has_parent;
	GitOid		parent;
	char		parent_hex[GIT_OID_HEX + 1];
	BackupFacts facts;
	List	   *order;			/* of tables, for a restore */
	char	   *sequences;		/* SQL */
	int64		started_us;
	int64		told_us;		/* when progress was told last */
	/* the result */
	bool		equal;			/* nothing has changed since the parent */
	GitOid		commit;
	char		hex[GIT_OID_HEX + 1];
	GitPackStats stats;
	char	   *manifest;		/* angles.json of the commit */
	char	   *signed_by;
} BackupRun;

/*
 * Raises an error unless this process is the role of angles.backup_role and that role can read all
 * rows of all tables.
 */
extern void angles_snapshot_check_role(void);

/*
 * Reads all tables with one snapshot into the tree of the run. Transactions of its own; the
 * snapshot is gone when it returns.
 */
extern void angles_snapshot_read(BackupRun *run);

/*
 * Notes the end of a run in angles.backup_log; "late": *run is the commit of an earlier run that
 * died before it could do so. A transaction of its own.
 */
extern void angles_books_note(BackupRun *run, bool late);

/* Returns whether angles.backup_log has a commit. A transaction of its own. */
extern bool angles_books_have(const char *hex);

#endif							/* ANGLES_RUN_H */
