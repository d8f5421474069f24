/*
 * rate.h
 *		What the files of the rate windows and the breaker share. Not for other rooms.
 */
#ifndef ANGLES_NET_RATE_H
#define ANGLES_NET_RATE_H

#include "postgres.h"

#include "net/window.h"

/* Tokens of the whole cluster that were used within a minute. */
#define NET_RATE_TOKENS 16

typedef enum NetRateFileState
{
	NET_RATE_FILE_ABSENT,		/* nothing was sent since the last one was read */
	NET_RATE_FILE_READ,			/* windows were filled from it */
	NET_RATE_FILE_USELESS		/* somebody sent and did not save, or it cannot be read */
} NetRateFileState;

/*
 * Reads the file of a server that was shut down cleanly into windows (NET_RATE_TOKENS, zeroed),
 * whose times then belong to this machine's monotonic clock. Never raises an error: it runs in the
 * postmaster.
 */
extern NetRateFileState angles_net_ratefile_read(NetWindow *windows);

/* Removes the file. Never raises an error; returns false when it is still there. */
extern bool angles_net_ratefile_remove(void);

/*
 * Replaces the file by one that holds the windows, or, with NULL, by a mark that says: somebody
 * sends. Returns false, and has written to the log, when that failed.
 */
extern bool angles_net_ratefile_write(const NetWindow *windows);

/* Registers the breakers' part of shared memory. */
extern void angles_net_breaker_register(void);

#endif							/* ANGLES_NET_RATE_H */
