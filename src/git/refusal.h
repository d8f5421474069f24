/*
 * refusal.h
 *		From what a server says to what a person can do about it. Not for other rooms.
 *
 * All texts of a result are made in the context that the result itself lives in.
 */
#ifndef ANGLES_GIT_REFUSAL_H
#define ANGLES_GIT_REFUSAL_H

#include "postgres.h"

#include "git/git.h"

/*
 * Fills code, retry, message and hint of a result. The message is the code's own words, followed by
 * "detail" when it is not NULL.
 */
extern void angles_refusal_set(GitPushResult *result, GitPushCode code, const char *detail);

/* Replaces the hint by one that knows more. */
extern void angles_refusal_hint(GitPushResult *result, const char *hint);

/*
 * Recognises a refusal in what the server wrote for people (raw bytes) and in the reason that it
 * gave for a ref or for the pack ("" when none). Sets code, message, hint, server_text, paths.
 */
extern void angles_refusal_read(GitPushResult *result, const char *text, size_t len,
								const char *reason, bool unpack_failed);

/* The same for an HTTP status that is not 200, with the answer's body. */
extern void angles_refusal_status(GitPushResult *result, int status, const char *body,
								  size_t len, int retry_after_s);

/*
 * Keeps what a server said: cut, with only line ends and printable ASCII left, and every occurrence
 * of "secret" (may be NULL) made unreadable.
 */
extern void angles_refusal_keep_text(GitPushResult *result, const char *text, size_t len,
									 const char *secret);

/* Makes every occurrence of a secret in a text unreadable, in place. */
extern void angles_refusal_hide(char *text, const char *secret);

#endif							/* ANGLES_GIT_REFUSAL_H */
