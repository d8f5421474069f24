/*
 * window.c
 *		The arithmetic of a rate window: an exact list of the times of all grants of the last 60.5
 *		s, so that the limit holds for every 60 s, however the remote's own window is aligned. Pure
 *		functions; runs wherever rate.c runs, under its lock.
 *
 * Interactive requests may use what is left at once. Those of the backlog are spread over the
 * window, leave a little room free at all times, and give way to an interactive request that waits.
 */
#include "postgres.h"

#include "net/window.h"

/*
 * Time that the backlog may catch up, at double speed, after it had to wait for others or woke
 * late.
 */
#define CATCH_UP_US INT64CONST(10000000)

/* How long after its room was due a waiting interactive request keeps the backlog away. */
#define WAKE_UP_US INT64CONST(100000)

static void expire(NetWindow *window, int64 now);
static int64 time_of(const NetWindow *window, int i);
static bool was_interactive(const NetWindow *window, int i);
static void forget_oldest(NetWindow *window);
static int64 until_room(const NetWindow *window, int limit, int64 now);
static int64 until_turn(const NetWindow *window, int limit, int64 now);
static int	kept_free(const NetWindow *window, int limit);
static int64 backlog_spacing(const NetWindow *window, int limit);

int64
angles_net_window_take(NetWindow *window, int limit, AnglesRateClass class, int64 now)
{
	int64		wait = 0;

	expire(window, now);
	window->asked_us = now;
	if (window->paused_until_us > now)
		return window->paused_until_us - now;

	limit = Min(limit, NET_WINDOW_SIZE);
	/* who did not ask for long had nothing to send: there is nothing to catch up with */
	if (class == ANGLES_RATE_BACKLOG && now - window->backlog_expected_us > CATCH_UP_US)
		window->backlog_due_us = Max(window->backlog_due_us, now);
	if (limit > 0)
		wait = class == ANGLES_RATE_INTERACTIVE ? until_room(window, limit, now) :
			until_turn(window, limit, now);
	if (wait > 0)
	{
		if (class == ANGLES_RATE_INTERACTIVE)
			window->wanted_until_us = now + wait + WAKE_UP_US;
		else
			window->backlog_expected_us = now + wait;
		return wait;
	}

	if (class == ANGLES_RATE_INTERACTIVE)
		window->wanted_until_us = 0;
	else if (limit > 0)
	{
		window->backlog_due_us = Max(window->backlog_due_us, now - CATCH_UP_US) +
			backlog_spacing(window, limit);
		window->backlog_last_us = now;
		window->backlog_expected_us = now + backlog_spacing(window, limit);
	}
	angles_net_window_add(window, class, now);
	return 0;
}

void
angles_net_window_add(NetWindow *window, AnglesRateClass class, int64 at)
{
	if (window->used == NET_WINDOW_SIZE)
		forget_oldest(window);
	window->grants[(window->head + window->used) % NET_WINDOW_SIZE] =
		at * 2 + (class == ANGLES_RATE_INTERACTIVE ? 1 : 0);
	window->used++;
	if (class == ANGLES_RATE_INTERACTIVE)
		window->interactive++;
}

int
angles_net_window_used(const NetWindow *window, int64 now)
{
	int			gone = 0;

	while (gone < window->used && time_of(window, gone) + NET_WINDOW_US <= now)
		gone++;
	return window->used - gone;
}

bool
angles_net_window_is_idle(const NetWindow *window, int64 now)
{
	return window->paused_until_us <= now && angles_net_window_used(window, now) == 0;
}

static void
expire(NetWindow *window, int64 now)
{
	while (window->used > 0 && time_of(window, 0) + NET_WINDOW_US <= now)
		forget_oldest(window);
}

/* The time of the i-th oldest grant. */
static int64
time_of(const NetWindow *window, int i)
{
	return window->grants[(window->head + i) % NET_WINDOW_SIZE] >> 1;
}

static bool
was_interactive(const NetWindow *window, int i)
{
	return (window->grants[(window->head + i) % NET_WINDOW_SIZE] & 1) != 0;
}

static void
forget_oldest(NetWindow *window)
{
	if (was_interactive(window, 0))
		window->interactive--;
	window->head = (window->head + 1) % NET_WINDOW_SIZE;
	window->used--;
}

/* Returns the us until fewer than "limit" grants are left in the window. */
static int64
until_room(const NetWindow *window, int limit, int64 now)
{
	if (window->used < limit)
		return 0;
	return time_of(window, window->used - limit) + NET_WINDOW_US - now;
}

static int64
until_turn(const NetWindow *window, int limit, int64 now)
{
	int64		wait = until_room(window, limit - kept_free(window, limit), now);

	wait = Max(wait, window->backlog_due_us - now);
	wait = Max(wait, window->backlog_last_us + backlog_spacing(window, limit) / 2 - now);
	return Max(wait, window->wanted_until_us - now);
}

/*
 * What the backlog never takes, so that an edit seldom has to wait: 1 of 180, 2 of 600, and half
 * the square root of the edits in the window, as edits come in clumps (README.md has the figures).
 */
static int
kept_free(const NetWindow *window, int limit)
{
	int			more = 0;

	while (4 * (more + 1) * (more + 1) <= window->interactive)
		more++;
	return limit < 100 ? 0 : 1 + limit / 400 + more;
}

/* What interactive requests used of the window is missing in the backlog's share. */
static int64
backlog_spacing(const NetWindow *window, int limit)
{
	return NET_WINDOW_US / Max(1, limit - kept_free(window, limit) - window->interactive);
}
