/*
 * push.h
 *		What the two ways of pushing share: over HTTP (pushhttp.c) and into a folder (pushfile.c).
 *		Not for other rooms.
 */
#ifndef ANGLES_GIT_PUSH_H
#define ANGLES_GIT_PUSH_H

#include "postgres.h"

#include "git/git.h"
#include "git/internal.h"
#include "git/refusal.h"
#include "git/wire.h"

typedef struct PushJob
{
	GitRepo    *repo;
	const GitRemote *remote;
	const GitRefUpdate *updates;
	int			n;
	GitProgressFunc progress;	/* or NULL */
	void	   *progress_arg;
	GitPushResult *result;
} PushJob;

/*
 * Compares the remote's refs with what the updates want and expect. Returns true when there is
 * something to send: "todo" then has true for each update that is not there yet. Otherwise the
 * result is complete: all is there already, a lease is lost, or history would be rewritten.
 */
extern bool angles_push_compare(PushJob *job, const Advert *advert, bool *todo);

/*
 * Judges by the refs as they were re-read. "said_ok": the remote reported success. A result that
 * has a refusal keeps it unless the refs are what we want all the same.
 */
extern void angles_push_judge(PushJob *job, const Advert *reread, bool said_ok);

/* Returns the path of a remote that is a folder, NULL for an address; an error when malformed. */
extern char *angles_push_folder(const char *url);

/* Pushes over HTTP, and reads refs over HTTP; fills the result. */
extern void angles_push_http(PushJob *job);
extern bool angles_refs_http(PushJob *job, Advert *advert); /* false: see the result */

/* The same for a folder. */
extern void angles_push_into(PushJob *job, const char *folder);
extern bool angles_refs_of(PushJob *job, const char *folder, Advert *advert); /* likewise */

#endif							/* ANGLES_GIT_PUSH_H */
