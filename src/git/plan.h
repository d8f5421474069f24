/*
 * plan.h
 *		Which objects a push sends, and the pack that is made of them while it is sent. Not for
 *		other rooms.
 */
#ifndef ANGLES_GIT_PLAN_H
#define ANGLES_GIT_PLAN_H

#include "postgres.h"

#include "git/git.h"
#include "git/internal.h"

typedef struct PlanEntry
{
	int			fd;				/* where its packed bytes are */
	uint32		crc;			/* of them */
	int64		offset;
	int64		length;
} PlanEntry;

typedef struct SendPlan
{
	OidTable   *ids;			/* of the objects, in the order of the pack */
	PlanEntry  *entries;
	int64		n;
	int64		pack_bytes;		/* header and checksum included */
	GitFile    *spill;			/* objects that had to be deflated anew, or NULL */
} SendPlan;

/*
 * Plans a pack of what "wanted" reaches and "have" does not, in the current context. Ids of "have"
 * that are not here are passed over. Errors for objects that are missing or damaged here.
 */
extern SendPlan *angles_plan_make(GitRepo *repo, const GitOid *wanted, int n_wanted,
								  const GitOid *have, int n_have);

/* The pack of a plan, after some bytes that go before it, as a stream. */
typedef struct PackStream PackStream;

/* Begins the stream; owned by the current context. "prefix" must live as long. */
extern PackStream *angles_stream_open(const SendPlan *plan, const char *prefix, size_t prefix_len);

/* All bytes of the stream. */
extern int64 angles_stream_length(const PackStream *stream);

/*
 * Gives the next bytes, at most "room", and 0 at the end; (size_t) -1 when an object does not have
 * its checksum or cannot be read. Neither allocates with palloc nor raises errors: made for
 * libcurl's callbacks. "arg" is the stream.
 */
extern size_t angles_stream_read(void *arg, char *into, size_t room);

/* Raises the error that the stream met, if it met one. */
extern void angles_stream_check(const PackStream *stream, GitRepo *repo);

/* The checksum of the pack, once all was read. */
extern const GitOid *angles_stream_checksum(const PackStream *stream);

#endif							/* ANGLES_GIT_PLAN_H */
