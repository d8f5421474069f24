/*
 * secret.h
 *		Where tokens come from. A token is never stored in a table, logged, or put in an error.
 */
#ifndef ANGLES_SECRET_H
#define ANGLES_SECRET_H

#include "postgres.h"

/*
 * Returns the Notion token, palloc'd in the current context, or NULL when there is none. Order:
 * file "name" in angles.secrets_dir (when name is not NULL), angles.notion_token,
 * angles.notion_token_file, environment NOTION_TOKEN. Trailing white space is cut. *source is set
 * to a static text naming the place. Reads files anew on every call: callers keep the answer until
 * SIGHUP or a 401.
 */
extern char *angles_secret_notion(const char *name, const char **source);

/*
 * The same for GitHub: file "name" in angles.secrets_dir (when name is not NULL),
 * angles.github_token, angles.github_token_file, environment GITHUB_TOKEN.
 */
extern char *angles_secret_github(const char *name, const char **source);

/*
 * Returns the secret of this name (a file in angles.secrets_dir), palloc'd in the current context,
 * or NULL when there is none. For sessions, too: a file that cannot be used is told to the server's
 * log only, and one that is missing to nobody.
 */
extern char *angles_secret_named(const char *name);

/*
 * Raises an error unless angles.secrets_dir is set and, with for_writing, a file can be made there.
 */
extern void angles_secret_check_dir(bool for_writing);

/*
 * Keeps a secret under this name, in place of what was there: durably, in a file that the server's
 * user alone can read. Raises an error when that fails; the path is told to the log only.
 */
extern void angles_secret_keep(const char *name, const char *secret);

/*
 * Returns a 64-bit fingerprint of a token (SHA-256, first 8 bytes), good for telling tokens apart
 * in shared memory; the token cannot be got back from it.
 */
extern uint64 angles_secret_fingerprint(const char *token);

/* Overwrites and frees a token. NULL is allowed. */
extern void angles_secret_free(char *token);

#endif							/* ANGLES_SECRET_H */
