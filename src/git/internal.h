/*
 * internal.h
 *		What the files of room git share. Not for other rooms.
 */
#ifndef ANGLES_GIT_INTERNAL_H
#define ANGLES_GIT_INTERNAL_H

#include "postgres.h"

#include <git2.h>

#include "git/git.h"

StaticAssertDecl(sizeof(GitOid) == sizeof(git_oid), "an id is 20 bytes here and in libgit2");

/* "/" and the name of the file that serialises our own writers of refs, see lock.c. */
#define LOCK_FILE "angles.lock"

/* Temporary files of ours begin so, beside what they become. */
#define TEMP_PREFIX "tmp_angles_"

/* Texts of a remote are cut to this many bytes. */
#define MAX_SERVER_TEXT 8192

/* The mode of an entry that names a commit of another repository, and of none here. */
#define MODE_SUBMODULE 0160000

typedef struct PackSet PackSet;

struct GitRepo
{
	MemoryContext cxt;
	MemoryContextCallback on_reset;
	char	   *path;
	git_repository *repo;
	git_odb    *odb;
	PackSet    *packs;			/* of packfile.c, made when asked for */
};

static inline const git_oid *
as_git_oid(const GitOid *id)
{
	return (const git_oid *) id;
}

static inline const GitOid *
as_our_oid(const git_oid *id)
{
	return (const GitOid *) id;
}

/* ---------- repository.c ---------- */

/* Readies libgit2 once in a process: no threads, no cache, no settings of the machine. */
extern void angles_git_init(void);

/* Opens a bare repository that need not be ours, for a push to it: NULL when it is none. */
extern GitRepo *angles_git_open_foreign(const char *path, char **problem);

/*
 * Raises an error with libgit2's words about its last failure. "what" begins the message:
 * "could not read the ref \"...\"".
 */
extern void angles_git_raise(const char *what) pg_attribute_noreturn();

/* Returns libgit2's words about its last failure, palloc'd and printable. */
extern char *angles_git_last_problem(void);

/* Removes what dead processes left in the folder of packs. */
extern void angles_git_clean_packs(const char *repo_path);

/* ---------- file.c ---------- */

/*
 * A file that is being written, announced to fd.c, locked for as long as it is open: a temporary
 * file that nobody has locked was left by a dead process. Owned by a memory context, whose end
 * closes it and removes the file.
 */
typedef struct GitFile
{
	MemoryContextCallback on_reset;
	int			fd;				/* -1: closed */
	char	   *path;			/* NULL: nothing to remove */
	char	   *buffer;
	size_t		buffered;
	int64		written;		/* with what is buffered */
} GitFile;

/* Makes a temporary file in a folder, in the current context. */
extern GitFile *angles_git_file_create(const char *folder);

/* Appends; raises an error with the system's reason (a full disk) and names the file. */
extern void angles_git_file_write(GitFile *file, const void *data, size_t len);

/* Writes out the buffer; what was written so far can then be read by descriptor or path. */
extern void angles_git_file_flush(GitFile *file);

/* Writes over bytes that were flushed. */
extern void angles_git_file_write_at(GitFile *file, const void *data, size_t len, int64 offset);

/* Flushes to disk and gives the file its final name, read-only; it stays open and locked. */
extern void angles_git_file_install(GitFile *file, const char *path);

/* Closes it, and removes it unless it was installed. */
extern void angles_git_file_close(GitFile *file);

/* Opens a file for reading; -1 with errno. Announced to fd.c; close with the next function. */
extern int	angles_git_fd_open(const char *path, int flags);
extern void angles_git_fd_close(int fd); /* takes back what angles_git_fd_open() announced */

/* Reads exactly len bytes. Returns false with errno, 0 for a file that is too short. */
extern bool angles_git_fd_read(int fd, void *into, size_t len, int64 offset);

/*
 * Opens and locks a file or folder that no living process has locked; -1 when one has. Who removes
 * it does so before he closes this descriptor (angles_git_fd_close).
 */
extern int	angles_git_lock_abandoned(const char *path);

/* ---------- lock.c ---------- */

/*
 * Held while a ref is moved, against other processes of ours. It notes the ref, so that the lock
 * file that libgit2 leaves there when this process is killed can be told from a living one.
 */
typedef struct GitLock
{
	MemoryContextCallback on_reset;
	int			fd;
} GitLock;

/* Takes the lock, waiting up to two seconds; in the current context. */
extern GitLock *angles_git_lock(GitRepo *repo, const char *ref);
extern void angles_git_unlock(GitLock *lock);	/* lets it go */

/* Removes the lock file of a ref that a process was moving when it died. */
extern void angles_git_clean_locks(const char *repo_path);

/* ---------- oidset.c ---------- */

/* A growing table of ids with a number each, in memory of the context it was made in. */
typedef struct OidTable OidTable;
extern OidTable *angles_oid_table(void);	/* an empty one */

/* Adds an id. Returns its number (0, 1, 2, ... as they arrive); *is_new: it was not there. */
extern int64 angles_oid_add(OidTable *table, const GitOid *id, bool *is_new);

/* Returns the number of an id, -1 when it is not there. */
extern int64 angles_oid_find(const OidTable *table, const GitOid *id);

extern int64 angles_oid_count(const OidTable *table);	/* how many it holds */
extern const GitOid *angles_oid_get(const OidTable *table, int64 number);	/* by number */

/* ---------- index.c ---------- */

/* What an index says of one object. */
typedef struct PackEntry
{
	GitOid		id;
	uint32		crc;			/* of the packed bytes */
	uint64		offset;
} PackEntry;

/*
 * Writes the index, version 2, of a pack into a temporary file. Sorts the entries. "checksum" is
 * the pack's.
 */
extern GitFile *angles_git_index_write(const char *folder, PackEntry *entries, int64 n,
									   const GitOid *checksum);

/*
 * Flushes pack and index to disk and puts both in place, the index last: with it the pack begins to
 * be there. Returns the pack's name in "name". Closes both.
 */
extern void angles_git_pack_install(const char *folder, GitFile *pack, GitFile *index,
									const GitOid *checksum, char name[GIT_OID_HEX + 1]);

#ifdef ANGLES_TEST
/* Offsets from here on are written as large ones: 2 GB are too many for a test. */
extern uint64 angles_git_test_large_offset;
#endif

/* ---------- packfile.c ---------- */

/* Where an object lies in a pack of the repository. */
typedef struct PackPlace
{
	int			fd;				/* of the pack; lives as long as the repository */
	int64		offset;
	int64		length;			/* of its packed bytes, header included */
	uint32		crc;
	int			type;			/* GitType, or 6 and 7 for deltas */
	uint64		size;			/* inflated */
} PackPlace;

/* Finds an object in the packs. False: it is in none (loose, or nowhere). */
extern bool angles_git_pack_find(GitRepo *repo, const GitOid *id, PackPlace *place);

/*
 * Hashes every index and looks at the begin and end of its pack; an error names the first that is
 * damaged. Nothing of libgit2 may look at packs that were not checked.
 */
extern void angles_git_check_packs(const char *repo_path);

/* Closes the packs; the next look-up reads the folder again. */
extern void angles_git_packs_forget(GitRepo *repo);

/* ---------- pack.c ---------- */

/* Type and length in front of an object's packed bytes. Returns how many bytes. */
#define PACK_HEADER_MAX 12
extern int	angles_git_entry_header(unsigned char *into, int type, uint64 size);

/* ---------- object.c ---------- */

/* Reads any object; *type, *len. See angles_git_read_blob(). */
extern char *angles_git_read_any(GitRepo *repo, const GitOid *id, GitType *type, size_t *len);

/*
 * Take an object's bytes apart. NULL when they are malformed, with the reason. Names of a tree
 * point into "data".
 */
extern GitTree *angles_git_parse_tree(const char *data, size_t len, const char **problem);
extern GitCommit *angles_git_parse_commit(const char *data, size_t len, const char **problem);

#endif							/* ANGLES_GIT_INTERNAL_H */
