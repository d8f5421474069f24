/*
 * git.h
 *		The room git: the local bare repository, packs written by us, and our own push client over
 *		room net. Nobody else includes libgit2. Runs in background workers only.
 *
 * Problems of this machine (a repository that cannot be used, a full disk, a damaged object) are
 * raised as errors; what a remote says or does is a GitPushResult. Everything that is returned is
 * palloc'd in the current context unless said otherwise.
 */
#ifndef ANGLES_GIT_H
#define ANGLES_GIT_H

#include "postgres.h"

#define GIT_OID_BYTES 20
#define GIT_OID_HEX 40

/* SHA-1 id of an object. All zeros: none. */
typedef struct GitOid
{
	unsigned char id[GIT_OID_BYTES];
} GitOid;

typedef enum GitType
{
	ANGLES_GIT_COMMIT = 1,		/* numbers as in a pack (gitformat-pack) */
	ANGLES_GIT_TREE = 2,
	ANGLES_GIT_BLOB = 3,
	ANGLES_GIT_TAG = 4
} GitType;

/* Modes of a tree's entries that we write. */
#define ANGLES_GIT_MODE_FILE 0100644
#define ANGLES_GIT_MODE_PROGRAM 0100755
#define ANGLES_GIT_MODE_TREE 0040000

typedef struct GitRepo GitRepo;
typedef struct GitPack GitPack;

/* Writes 40 hexadecimal digits and a NUL. Returns "hex". */
extern char *angles_git_hex(const GitOid *oid, char hex[GIT_OID_HEX + 1]);

/* Returns false when "hex" is not 40 hexadecimal digits. */
extern bool angles_git_parse_hex(const char *hex, GitOid *oid);

extern bool angles_git_is_zero(const GitOid *oid);	/* true: no object */
extern bool angles_git_equal(const GitOid *a, const GitOid *b);	/* true: same object */

/* ---------- the repository ---------- */

/*
 * Opens a bare repository, for as long as the current context lives. "create": makes it when it is
 * not there (complete or not at all; its folder belongs to the server's user only; HEAD is main),
 * demands that it belongs to the server's user, and takes away what dead processes left behind:
 * temporary files, packs without an index, and the lock of a ref that was being moved. The index of
 * every pack is checked. Errors: ERRCODE_ANGLES_GIT, ERRCODE_ANGLES_GIT_OBJECT for a damaged index,
 * with hints; file errors have their own code.
 */
extern GitRepo *angles_git_open(const char *path, bool create);

/* Closes it before its context ends. May be called twice. */
extern void angles_git_close(GitRepo *repo);

/* The path that it was opened with. */
extern const char *angles_git_path(GitRepo *repo);

/* ---------- packs ---------- */

typedef struct GitPackStats
{
	int64		objects;		/* new ones, which are in the pack */
	int64		reused;			/* objects that were given and known already */
	int64		raw_bytes;		/* of the new ones, before compression */
	int64		pack_bytes;		/* 0: nothing was new, and there is no pack */
	char		name[GIT_OID_HEX + 1];	/* of the pack, "" when there is none */
} GitPackStats;

typedef struct GitTreeEntry
{
	const char *name;			/* bytes without '/' and NUL; not "", ".", ".." or ".git" */
	int			mode;
	GitOid		id;
} GitTreeEntry;

typedef struct GitSignature
{
	const char *name;			/* UTF-8 */
	const char *email;
	int64		when;			/* seconds since 1970, UTC */
	int			offset_min;		/* of the time zone shown, east of UTC */
} GitSignature;

typedef struct GitCommitSpec
{
	GitOid		tree;
	const GitOid *parents;
	int			n_parents;
	GitSignature author;
	GitSignature committer;
	const char *message;		/* UTF-8; a missing line end is added */
} GitCommitSpec;

/*
 * Begins a pack in a temporary file. "level": zlib's, 0 to 9. The pack lives in the current
 * context; unless it was finished, the end of the context removes its files. Needs about 65 bytes
 * of memory for each object, besides the object that is being written.
 */
extern GitPack *angles_git_pack_begin(GitRepo *repo, int level);

/*
 * Each sets *out to the id of the object and returns true when the object is new: it is neither in
 * the repository nor in this pack. Only new ones are written, deflated once. Same content, same id.
 * Errors: file errors (a full disk), after which the pack is of no use; ERRCODE_ANGLES_GIT for
 * what git would refuse. A tree's entries are sorted in place as git demands.
 */
extern bool angles_git_pack_blob(GitPack *pack, const void *data, size_t len, GitOid *out);
extern bool angles_git_pack_tree(GitPack *pack, GitTreeEntry *entries, int n, GitOid *out);
extern bool angles_git_pack_commit(GitPack *pack, const GitCommitSpec *spec, GitOid *out);

/* Bytes of the pack so far, for a caller that keeps packs small. */
extern int64 angles_git_pack_size(GitPack *pack);

/*
 * Makes the pack part of the repository: reads it back from the file and compares checksums,
 * writes the index, flushes both and the folder to disk. Whatever happens there is the whole pack
 * or none. *stats may be NULL. The pack is closed.
 */
extern void angles_git_pack_finish(GitPack *pack, GitPackStats *stats);

/* Closes and removes an unfinished pack. */
extern void angles_git_pack_abort(GitPack *pack);

/* ---------- refs ---------- */

typedef struct GitRef
{
	char	   *name;
	GitOid		id;
} GitRef;

/* Returns false when there is no such ref. Follows a symbolic one. */
extern bool angles_git_ref_read(GitRepo *repo, const char *name, GitOid *out);

/*
 * Returns all refs whose names begin with "prefix", sorted by name; *n: how many. One whose file is
 * damaged is not among them; to read that one is an error.
 */
extern GitRef *angles_git_ref_list(GitRepo *repo, const char *prefix, int *n);

/*
 * Moves a ref from "expected" to "id" and flushes it to disk. "expected": the value that it must
 * have, all zeros when it must not exist, NULL for any. Returns false when it has another value.
 */
extern bool angles_git_ref_update(GitRepo *repo, const char *name, const GitOid *id,
								  const GitOid *expected);

/* Deletes a ref in the same way. Deleting one that is not there is a success with NULL only. */
extern bool angles_git_ref_delete(GitRepo *repo, const char *name, const GitOid *expected);

/* Returns the name of the branch that HEAD names, whether it exists or not. */
extern char *angles_git_head_read(GitRepo *repo);

/* Makes HEAD name a branch ("refs/heads/..."). */
extern void angles_git_head_set(GitRepo *repo, const char *branch);

/* ---------- reading; every object's id is computed from what was read ---------- */

typedef struct GitTree
{
	int			n;
	GitTreeEntry *entries;
} GitTree;

typedef struct GitCommit
{
	GitOid		tree;
	int			n_parents;
	GitOid	   *parents;
	GitSignature author;
	GitSignature committer;
	char	   *message;
} GitCommit;

/* True when the repository holds the object, of whatever type; looks at no content. */
extern bool angles_git_exists(GitRepo *repo, const GitOid *id);

/*
 * Reads an object, with a NUL behind its *len bytes. Errors: ERRCODE_ANGLES_GIT_OBJECT when it is
 * missing, damaged or of another type; the message names it.
 */
extern char *angles_git_read_blob(GitRepo *repo, const GitOid *id, size_t *len);
extern GitTree *angles_git_read_tree(GitRepo *repo, const GitOid *id);
extern GitCommit *angles_git_read_commit(GitRepo *repo, const GitOid *id);

/* Finds "a/b/c" in a commit's tree. Returns false when it is not there. "" is the tree itself. */
extern bool angles_git_lookup(GitRepo *repo, const GitOid *commit, const char *path,
							  GitTreeEntry *out);

/*
 * Called for each entry of a tree, parents before children; the path lives until it returns. The
 * answer false for a tree skips what is in it. May raise errors.
 */
typedef bool (*GitWalkFunc) (void *arg, const char *path, int mode, const GitOid *id);
extern void angles_git_walk(GitRepo *repo, const GitOid *tree, GitWalkFunc func, void *arg);

/* Returns true when "ancestor" is "commit" or in its history; both must be in the repository. */
extern bool angles_git_is_ancestor(GitRepo *repo, const GitOid *ancestor, const GitOid *commit);

typedef struct GitDamage
{
	GitOid		id;
	char	   *path;			/* in the first tree it was met in; "" for a commit */
	char	   *problem;
} GitDamage;

typedef struct GitVerifyResult
{
	int64		objects;		/* read and hashed */
	int64		bytes;			/* of them, inflated */
	int			n_damaged;
	GitDamage  *damaged;
} GitVerifyResult;

/*
 * Reads and hashes what is reachable from these commits, their histories included: all commits and
 * trees, and of the blobs those whose id, as a number, leaves "part" when divided by "parts" (0 of
 * 1: all). "history": false looks at these commits and no older ones. Never an error for damage.
 */
extern GitVerifyResult *angles_git_verify(GitRepo *repo, const GitOid *commits, int n, bool history,
										  int part, int parts);

/* ---------- push ---------- */

typedef struct GitRemote
{
	const char *url;			/* https://..., http:// to loopback, file:///..., or a path */
	const char *secret;			/* name of a secret, or NULL: the settings' GitHub token */
	int			idle_timeout_ms;	/* nothing moves in either direction; 0: 60 s */
	int			total_timeout_ms;	/* for the push as a whole; 0: one hour */
} GitRemote;

typedef struct GitRefUpdate
{
	const char *name;			/* "refs/heads/..." */
	GitOid		id;				/* new value, all zeros: delete */
	GitOid		expected;		/* the lease: what the remote must have, all zeros: nothing */
	bool		rewrite;		/* allowed when "expected" is not in the history of "id" */
} GitRefUpdate;

typedef enum GitPushCode
{
	GIT_PUSH_OK,				/* re-read: the remote has what we want */
	GIT_PUSH_LEASE_LOST,		/* the remote's ref is neither "expected" nor "id" */
	GIT_PUSH_NON_FAST_FORWARD,	/* refused here or there */
	GIT_PUSH_PROTECTED,			/* protected branch (GH006) */
	GIT_PUSH_RULES,				/* rule violations (GH013) */
	GIT_PUSH_SECRET,			/* push protection found a secret: see paths (GH013, GH009) */
	GIT_PUSH_LARGE_FILE,		/* a file above the limit (GH001) */
	GIT_PUSH_HOOK,				/* a hook declined */
	GIT_PUSH_REJECTED,			/* refused for another reason: see server_text */
	GIT_PUSH_UNPACK,			/* the remote could not take the pack */
	GIT_PUSH_AUTH,				/* 401 */
	GIT_PUSH_FORBIDDEN,			/* 403 */
	GIT_PUSH_READ_ONLY,			/* the repository is archived */
	GIT_PUSH_NOT_FOUND,			/* 404, or no such folder */
	GIT_PUSH_TOO_LARGE,			/* 413 */
	GIT_PUSH_RATE_LIMIT,		/* 429, or 403 with Retry-After */
	GIT_PUSH_SERVER,			/* 5xx */
	GIT_PUSH_REDIRECT,			/* to another host, or too often: moved_to */
	GIT_PUSH_PROTOCOL,			/* the answer is no answer of a git server */
	GIT_PUSH_NETWORK,			/* no connection, cut, timeout; the refs have not moved */
	GIT_PUSH_UNKNOWN			/* sent, and nobody knows: the refs could not be re-read */
} GitPushCode;

/* A place that the server named in a refusal. */
typedef struct GitNamedPath
{
	char	   *path;
	int			line;			/* 0: none given */
	char	   *kind;			/* "GitHub Personal Access Token", "" when not given */
	char	   *commit;			/* abbreviated id, "" when not given */
} GitNamedPath;

typedef struct GitPushResult
{
	GitPushCode code;
	bool		sent;			/* a command was sent */
	bool		reconciled;		/* OK, though this push did not say so: found by re-reading */
	bool		retry;			/* the same push may succeed later, without a person */
	int			http_status;	/* of the answer that decided, 0 when none */
	int			retry_after_s;	/* -1: not given */
	const char *ref;			/* the first ref concerned, or NULL */
	GitOid		remote_id;		/* what the remote has there, when known */
	char	   *message;		/* one line, lower case; "" when OK */
	char	   *server_text;	/* what the server said, cut and made printable; "" when nothing */
	char	   *hint;			/* what to do, in sentences; "" when OK */
	char	   *moved_to;		/* new address of the repository, or NULL */
	int			n_paths;
	GitNamedPath *paths;
	int64		objects;		/* in the pack that was sent */
	int64		bytes;			/* of that pack */
} GitPushResult;

/* Bytes of the pack sent so far, and in all. May raise errors. */
typedef void (*GitProgressFunc) (void *arg, int64 sent, int64 total);

/*
 * Sends these refs and what the remote lacks of their objects, and reads the refs back: nothing
 * else is success. Returns for anything that a remote can do within the time limits; raises errors
 * for problems here (a damaged object, a malformed address) and for a cancel, which works within
 * 100 ms. Never inside a transaction of a worker. The token is in no text of the result.
 */
extern GitPushResult *angles_git_push(GitRepo *repo, const GitRemote *remote,
									  const GitRefUpdate *updates, int n,
									  GitProgressFunc progress, void *arg);

/*
 * Reads the refs of a remote, all of them, without changing anything. NULL, and *result with the
 * reason, when that fails; *result has the code GIT_PUSH_OK otherwise.
 */
extern GitRef *angles_git_remote_refs(const GitRemote *remote, int *n, GitPushResult **result);

/* Returns the name of a code, in lower case: "lease_lost". */
extern const char *angles_git_push_code(GitPushCode code);

#endif							/* ANGLES_GIT_H */
