/*
 * owncommit.h
 *		What this session has committed last: for angles.wait_synced().
 */
#ifndef ANGLES_OWNCOMMIT_H
#define ANGLES_OWNCOMMIT_H

#include "postgres.h"

/* So many links may have to be compared in full because of one transaction; more: all of them. */
#define ANGLES_OWN_LINKS 16

/* Bytes of keys that are remembered; of a larger transaction none are. */
#define ANGLES_OWN_BYTES 2048

typedef struct OwnCommit
{
	Oid			sequence;		/* that the numbers come from; InvalidOid: nothing was captured */
	int64		first_id;		/* numbers in the change log that were drawn; 0: none */
	int64		last_id;
	int			n_links;		/* links that were made, altered, or are to be compared in full */
	int32		links[ANGLES_OWN_LINKS];
	bool		many_links;		/* ... more than that */
	int			n_keys;			/* link, length, bytes of each: angles_own_next_key() */
	int			used;
	bool		many_keys;		/* more than there was room for */
	char		keys[ANGLES_OWN_BYTES];
} OwnCommit;

/* Notes that the transaction under way writes into the log under this number. No error. */
extern void angles_own_number(Oid sequence, int64 id);

/* Notes that it changed this key, or a link as a whole. No allocation, no error. */
extern void angles_own_key(int32 link_id, const char *key, int len);
extern void angles_own_link(int32 link_id);

/* The transaction has committed, or not: it was aborted or prepared. */
extern void angles_own_committed(void);
extern void angles_own_forget(void);

/* Whether the transaction under way has written into the log. */
extern bool angles_own_is_open(void);

/* Returns what the last transaction of this session with captured changes was, NULL: none yet. */
extern const OwnCommit *angles_own_last(void);

/*
 * Walks over the keys: *at is 0 at the first call. Returns false after the last one. The key is not
 * terminated.
 */
extern bool angles_own_next_key(const OwnCommit *commit, int *at, int32 *link_id,
								const char **key, int *len);

#endif							/* ANGLES_OWNCOMMIT_H */
