/*
 * answer.h
 *		One request and its answer inside the room net: what http.c starts, options.c makes ready
 *		and answer.c reads. Not for other rooms.
 */
#ifndef ANGLES_NET_ANSWER_H
#define ANGLES_NET_ANSWER_H

#include "postgres.h"

#include <sys/socket.h>

#include <curl/curl.h>

#include "lib/ilist.h"

#include "net/net.h"

/* Headers a caller may give, and the three that we add. */
#define NET_CALLER_HEADERS ((int) lengthof(((AnglesNetRequest *) 0)->headers))
#define NET_HEADERS (NET_CALLER_HEADERS + 3)

/* Room for a date in a header. */
#define DATE_SIZE 40

/*
 * A request from its start until its answer was taken; then it is a spare one. Its own memory is
 * palloc'd in the client's context; everything that libcurl's callbacks make or that libcurl reads
 * is malloc'd.
 */
typedef struct NetTransfer
{
	/* what stays from one request to the next */
	dlist_node	node;			/* in exactly one list of the client */
	CURL	   *easy;
	uint64		options;		/* number of the settings that "easy" has, 0: none */
	const char *options_method;	/* ... and what kind of request for */
	bool		options_plain;
	bool		options_body;
	bool		options_source;
	bool		options_raw;
	char	   *answer;
	size_t		answer_size;

	/* the request */
	bool		in_multi;
	void	   *tag;
	char		host[128];		/* for messages */
	const char *method;			/* static */
	bool		plain;			/* http, not https */
	bool		may_repeat;		/* a GET */
	char	   *body;
	size_t		body_len;
	AnglesNetSource source;		/* "read" is NULL: none */
	int64		taken;			/* bytes of it */
	int			timeout_ms;		/* 0: as the settings say */
	bool		raw;
	struct curl_slist headers[NET_HEADERS];
	int			header_count;
	long		low_speed_bytes;
	long		low_speed_s;
	int64		sent_us;
	int64		moved_us;		/* when bytes moved last */

	/* the answer */
	int			attempts;		/* how often libcurl was about to send it */
	bool		not_repeated;	/* libcurl wanted to send it again */
	size_t		cap;			/* bytes */
	size_t		answer_len;
	bool		too_large;
	bool		no_memory;
	bool		aborted;		/* by the source */
	bool		headers_ended;	/* the empty line after the headers was seen */
	char		content_type[64];
	char		location[sizeof(((AnglesNetAnswer *) 0)->location)];
	char		retry_after[DATE_SIZE];
	char		date[DATE_SIZE];
	char		notion_request_id[64];
	char		request_id[64];
	CURLcode	code;
	long		status;
	long		os_errno;		/* why the last connection failed, 0 when it did not */
	int64		done_us;
	char		error[CURL_ERROR_SIZE];
} NetTransfer;

/* What people may set and a handle's options are made of, as it was when it was looked at last. */
typedef struct NetSettings
{
	uint64		number;			/* grows with each change; 0: not looked at yet */
	int			connect_timeout;
	int			timeout;
	char	   *ca_file;
	char	   *proxy;
} NetSettings;

/*
 * Makes the handle of a transfer, whose copies of the request are made, ready for it. "cxt" is
 * where the settings live.
 */
extern CURLcode angles_net_set_request(MemoryContext cxt, NetSettings *settings,
									   NetTransfer *transfer, const AnglesNetRequest *request);

/* Appends a header made of two texts. Returns false when there is no memory. */
extern bool angles_net_transfer_header(NetTransfer *transfer, const char *start, const char *rest);

/* Wipes and frees body and headers, the token among them. */
extern void angles_net_transfer_forget_request(NetTransfer *transfer);

/* Makes a transfer ready for its next request, with an empty request and answer. */
extern void angles_net_transfer_clear(NetTransfer *transfer);

/* Frees all that a transfer has of its own, libcurl's handle included, and the transfer. */
extern void angles_net_transfer_free(NetTransfer *transfer);

/* Returns what became of a finished transfer, palloc'd in the current context. */
extern AnglesNetAnswer *angles_net_transfer_answer(const NetTransfer *transfer);

/* Returns true for addresses of 127.0.0.0/8 and ::1. */
extern bool angles_net_is_loopback(const struct sockaddr *address);

/* Callback of libcurl for a body from a source; userp is the transfer. */
extern size_t angles_net_on_read(char *into, size_t size, size_t n, void *userp);

/* Callbacks of libcurl for the answer's body and headers; userp is the transfer. */
extern size_t angles_net_on_body(char *data, size_t size, size_t n, void *userp);
extern size_t angles_net_on_header(char *data, size_t size, size_t n, void *userp);

#endif							/* ANGLES_NET_ANSWER_H */
