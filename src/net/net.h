/*
 * net.h
 *		The room net: one HTTP client on curl multi, rate windows and breakers. The only room that
 *		opens sockets. Never called in a user's backend.
 */
#ifndef ANGLES_NET_H
#define ANGLES_NET_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/latch.h"

/* What became of a request, as far as a client can know. */
typedef enum AnglesNetResult
{
	ANGLES_NET_ANSWERED,		/* a complete HTTP answer of any status */
	ANGLES_NET_NOT_SENT,		/* not one byte of it left: refused, DNS, TLS, timeout */
	ANGLES_NET_UNKNOWN			/* it may have been done: reset, cut, too large */
} AnglesNetResult;

/* A body that is not in memory. */
typedef struct AnglesNetSource
{
	int64		len;			/* bytes in all */

	/*
	 * Puts at most "room" of the next bytes into "into" and returns how many, or ANGLES_NET_ABORT.
	 * Called from within libcurl: it must not palloc, raise an error, wait or serve interrupts.
	 * What it returns after "len" bytes is not asked for.
	 */
	size_t		(*read) (void *arg, char *into, size_t room);
	void	   *arg;			/* both live until the request is over */
} AnglesNetSource;

#define ANGLES_NET_ABORT ((size_t) -1)

typedef struct AnglesNetRequest
{
	const char *method;			/* "GET", "POST", "PATCH", "PUT", "DELETE" */
	const char *url;			/* absolute, percent-encoded */
	const char *token;			/* bearer token, or NULL */
	const char *basic_user;		/* not NULL: the token is this user's password (RFC 7617) */
	const char *headers[8];		/* further "Name: value" lines, NULL-terminated */
	const char *body;			/* UTF-8 bytes or NULL */
	size_t		body_len;
	const AnglesNetSource *source;	/* in place of "body", or NULL */

	/*
	 * 0: angles.http_timeout holds, and an answer that has begun must go on. Otherwise this many
	 * milliseconds are the limit, any speed is good enough, and the caller looks at
	 * angles_net_moved().
	 */
	int			timeout_ms;
	bool		raw;			/* HTTP/1.1, and no compression of the answer */
	void	   *tag;			/* the caller's, handed back */
} AnglesNetRequest;

typedef struct AnglesNetAnswer
{
	void	   *tag;
	AnglesNetResult result;
	int			status;			/* HTTP status, 0 when none; UNKNOWN may have one, without a body */
	char	   *body;			/* palloc'd, NUL-terminated, body_len bytes; "" unless ANSWERED */
	size_t		body_len;
	bool		too_large;		/* more than angles.http_max_response (after unpacking): UNKNOWN */
	bool		is_json;		/* content type says application/json */
	int			retry_after_s;	/* Retry-After in seconds (0 .. one day), -1 when absent */
	TimestampTz server_date;	/* Date header, 0 when absent */
	char		request_id[64]; /* x-notion-request-id or x-request-id, "" when absent */
	char		location[1024]; /* Location header, "" when absent or longer */
	char		problem[256];	/* for people, without URL query, token or body; "" when ANSWERED */
	int64		sent_us;		/* angles_clock_mono_us() when the request was started */
	int64		done_us;		/* ... and when the answer was complete */
} AnglesNetAnswer;

typedef struct AnglesNetClient AnglesNetClient;

/*
 * Makes a client (curl_global_init at the first call, never in the postmaster). Its resources live
 * until angles_net_close() or until "cxt" is reset, whichever comes first; the structure is freed
 * with "cxt". It announces its descriptors to fd.c and raises an error when there are too few.
 * HTTP/1.1 requests beyond max_connections wait inside; over HTTP/2 all share one connection.
 */
extern AnglesNetClient *angles_net_open(MemoryContext cxt, int max_connections);

/* Cancels all requests without answers and closes all connections. May be called twice. */
extern void angles_net_close(AnglesNetClient *client);

/*
 * Starts a request; copies what it needs, and wipes its copy of the token when the request is over.
 * The first byte leaves in angles_net_drive(). Refuses (error ERRCODE_ANGLES_BAD_SETTING) plain
 * http to anything but loopback, and a token, header or address with a line break in it. Redirects
 * are never followed: they are answers. Nothing but a GET is ever sent twice. Reads the
 * angles.http_* settings at each call.
 */
extern void angles_net_start(AnglesNetClient *client, const AnglesNetRequest *request);

/* Returns how many requests are under way. */
extern int	angles_net_running(AnglesNetClient *client);

/*
 * Returns angles_clock_mono_us() of the last moment when bytes of a request under way, its body or
 * its answer, moved (or it was started); 0 when none is. *sent: bytes of their bodies that libcurl
 * took from sources.
 */
extern int64 angles_net_moved(AnglesNetClient *client, int64 *sent);

/*
 * Lets curl work on what is ready. Never waits (names are resolved in a thread of libcurl's, with
 * all signals blocked). Raises an error when the system lets us watch no more sockets.
 */
extern void angles_net_drive(AnglesNetClient *client);

/* Takes the next complete answer, palloc'd in the current context, or returns NULL. */
extern AnglesNetAnswer *angles_net_take(AnglesNetClient *client);

/* The descriptor to hand to angles_wait() (an epoll set), PGINVALID_SOCKET while nothing runs. */
extern pgsocket angles_net_fd(AnglesNetClient *client);

/*
 * Milliseconds until angles_net_drive() must be called even when nothing is readable; -1: none. 0
 * after angles_net_start() and while an answer waits to be taken.
 */
extern long angles_net_timeout(AnglesNetClient *client);

/*
 * Rate windows, in shared memory, per token for the whole cluster.
 *
 * Guarantee: of the requests granted for one token, never more than "limit" fall in any 60 s as the
 * server sees them (the window kept here is 60.5 s, to allow for different travel times). After a
 * crash a window counts as full from the moment of the restart; after a clean shutdown it is what
 * it was (kept in a file of the data directory). All times in microseconds unless the name says
 * "_s".
 */
typedef enum AnglesRateClass
{
	ANGLES_RATE_INTERACTIVE,	/* may use all that is left of the window at once */
	ANGLES_RATE_BACKLOG			/* spread evenly over the window, so that others find room */
} AnglesRateClass;

/*
 * Asks for the right to send one request now. Returns 0 when granted (and counted), else the
 * microseconds after which to ask again. limit 0: always granted, unless paused; counted all the
 * same, so that a limit set later knows what was sent. A refused interactive request keeps the
 * backlog waiting until it has had its turn, so ask for interactive ones first.
 */
extern int64 angles_rate_take(uint64 fingerprint, int limit, AnglesRateClass class);

/* Stops all requests of a token for at least this many seconds (Retry-After). */
extern void angles_rate_pause(uint64 fingerprint, int seconds, const char *reason);

/* Ends a pause, for a token that was renewed or a person who says so. */
extern void angles_rate_resume(uint64 fingerprint);

typedef struct AnglesRateState
{
	int			used;			/* granted in the last 60.5 s */
	int64		full_us;		/* how long all windows count as full after a crash, or 0 */
	int64		paused_us;		/* how long the pause still lasts, 0 = none */
	char		reason[64];		/* of the pause, "" when there is none */
} AnglesRateState;

/*
 * Fills *state and returns true when this token has a window (full_us is always filled). Callable
 * in any process.
 */
extern bool angles_rate_get(uint64 fingerprint, AnglesRateState *state);

/*
 * Writes the windows to the data directory. Called by itself when a background worker ends that
 * ever asked for a grant, by SIGTERM, too. Problems go to the log; the next start then counts all
 * windows as full.
 */
extern void angles_rate_save(void);

/*
 * Circuit breaker of a remote (by fingerprint): after "threshold" failures in a row that are the
 * remote's or the network's it opens; then one probe request at growing intervals (drawn between
 * angles.retry_initial and its double, fourfold, ... up to angles.retry_cap) until one succeeds.
 * The threshold is 5.
 */

/* Returns 0: go (and, when it is open, this is the probe); else us until a probe is allowed. */
extern int64 angles_breaker_ask(uint64 fingerprint);

/* Closes the breaker: any answer that shows the remote at work, a 4xx too. */
extern void angles_breaker_success(uint64 fingerprint);

/* Counts a failure that is the remote's or the network's: NOT_SENT, UNKNOWN, 5xx but 529. */
extern void angles_breaker_failure(uint64 fingerprint);

/* Returns true when it is open; *failures in a row, *open_us since when (0 when closed). */
extern bool angles_breaker_is_open(uint64 fingerprint, int *failures, int64 *open_us);

/*
 * Returns the delay in us before attempt number "attempt" (1 = first retry): exponential from
 * angles.retry_initial, capped at angles.retry_cap, full jitter; at least retry_after_s when that
 * is not negative.
 */
extern int64 angles_backoff_us(int attempt, int retry_after_s);

/* Registers the room's shared memory. From _PG_init, while preloading. */
extern void angles_net_install(void);

#endif							/* ANGLES_NET_H */
