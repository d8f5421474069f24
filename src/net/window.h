/*
 * window.h
 *		One rate window, as plain memory and pure functions of the time they are given. rate.c keeps
 *		an array of them in shared memory. Not for other rooms.
 */
#ifndef ANGLES_NET_WINDOW_H
#define ANGLES_NET_WINDOW_H

#include "postgres.h"

#include "net/net.h"

/*
 * The remote counts 60 s. Two requests granted 60.5 s apart arrive more than 60 s apart unless the
 * first one travelled half a second longer than the second.
 */
#define NET_WINDOW_US INT64CONST(60500000)

/* The largest limit, as of angles.notion_rate_limit. */
#define NET_WINDOW_SIZE 2000

typedef struct NetWindow
{
	uint64		fingerprint;	/* 0: free */
	int64		asked_us;		/* when it was last asked */
	int64		paused_until_us;
	char		reason[64];		/* of the pause */
	int64		backlog_due_us; /* when the next request of the backlog may go */
	int64		backlog_last_us;	/* when the last one went */
	int64		backlog_expected_us;	/* when it should ask again, as it was told */
	int64		wanted_until_us;	/* until then an interactive request waits for room */
	int			head;			/* the oldest grant */
	int			used;			/* grants kept */
	int			interactive;	/* ... that were interactive */
	int64		grants[NET_WINDOW_SIZE];	/* ring; time in us * 2, + 1 when interactive */
} NetWindow;

/*
 * As angles_rate_take(), at a given time: returns 0 and counts, or the us after which to ask again.
 */
extern int64 angles_net_window_take(NetWindow *window, int limit, AnglesRateClass class, int64 now);

/* Counts one grant; the oldest one is forgotten when there are NET_WINDOW_SIZE. */
extern void angles_net_window_add(NetWindow *window, AnglesRateClass class, int64 at);

/* Returns how many grants fall in the window that ends now. Changes nothing. */
extern int	angles_net_window_used(const NetWindow *window, int64 now);

/* Returns true when forgetting the window would change no answer. */
extern bool angles_net_window_is_idle(const NetWindow *window, int64 now);

#endif							/* ANGLES_NET_WINDOW_H */
