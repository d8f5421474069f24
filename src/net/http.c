/*
 * http.c
 *		The HTTP client of angles: libcurl's multi interface driven by an epoll set, which the
 *		caller hands to angles_wait() together with his latch. Runs in background workers only.
 *
 * It must never wait: epoll_wait() is called with a timeout of zero, only to ask which of libcurl's
 * sockets are ready. It must never raise an error, allocate with palloc or serve interrupts inside
 * a callback of libcurl, whose frames a longjmp would tear apart: callbacks note what happened and
 * the functions that PostgreSQL's code called raise it afterwards. See README.md for what libcurl
 * 7.88 does on a connection that died, and how a POST is kept from being sent twice.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/guc.h"
#include "net/answer.h"
#include "net/net.h"

/* CURLOPT_PROTOCOLS_STR is of 7.85, CURLOPT_PREREQFUNCTION of 7.80. */
#if LIBCURL_VERSION_NUM < 0x075500
#error "angles needs libcurl 7.85 or newer"
#endif

#ifndef ANGLES_VERSION
#error "ANGLES_VERSION is given by the Makefile, from angles.control"
#endif

/* Ready sockets taken in one look; others are still ready at the next one. */
#define MAX_EVENTS 64

/* Connections unused for longer are not used again: many servers close them after a minute. */
#define MAX_IDLE_S 50L

/* An answer that has begun must go on at this speed. */
#define LOW_SPEED_BYTES 64L
#define LOW_SPEED_LONGEST_S 20L

struct AnglesNetClient
{
	MemoryContext cxt;
	MemoryContextCallback on_reset;
	CURLM	   *multi;
	CURLU	   *parser;			/* for looking at addresses; holds no request's state */
	int			epoll_fd;
	int			reserved_fds;	/* announced to fd.c by ReserveExternalFD */
	int			callback_errno; /* what went wrong in a callback, to be raised after it */
	int			n_running;
	dlist_head	running;
	dlist_head	done;			/* oldest first */
	dlist_head	spare;			/* with an easy handle ready for use */
};

static bool curl_is_ready = false;

static void on_context_reset(void *arg);
static void reserve_fds(AnglesNetClient *client, int max_connections);
static const char *check_request(AnglesNetClient *client, const AnglesNetRequest *request,
								 NetTransfer *transfer);
static const char *check_url(AnglesNetClient *client, const char *url, NetTransfer *transfer);
static bool has_control(const char *text);
static bool host_is_loopback(const char *host);
static NetTransfer *spare_transfer(AnglesNetClient *client);
static bool fill_transfer(NetTransfer *transfer, const AnglesNetRequest *request);
static CURLcode set_options(NetTransfer *transfer, const AnglesNetRequest *request);
static CURLcode set_limits(NetTransfer *transfer);
static CURLcode set_trust(NetTransfer *transfer);
static CURLcode set_method(NetTransfer *transfer, const AnglesNetRequest *request);
static void socket_action(AnglesNetClient *client, curl_socket_t fd, int events);
static void collect_finished(AnglesNetClient *client);
static void block_signals(sigset_t *saved);
static void unblock_signals(const sigset_t *saved);
static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp);
static curl_socket_t on_open_socket(void *userp, curlsocktype purpose,
									struct curl_sockaddr *address);
static int	on_before_request(void *userp, char *remote_ip, char *local_ip, int remote_port,
							  int local_port);

/* ---------- the client ---------- */

AnglesNetClient *
angles_net_open(MemoryContext cxt, int max_connections)
{
	AnglesNetClient *client;

	/* libcurl's and OpenSSL's state must not be inherited by fork() */
	if (!IsUnderPostmaster)
		elog(ERROR, "the HTTP client is not for the postmaster");
#ifndef ANGLES_TEST
	if (MyBackendType != B_BG_WORKER)
		elog(ERROR, "the HTTP client is for background workers");
#endif
	if (!curl_is_ready)
	{
		if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("could not initialize libcurl")));
		curl_is_ready = true;
	}

	client = MemoryContextAllocZero(cxt, sizeof(AnglesNetClient));
	client->cxt = cxt;
	client->epoll_fd = -1;
	dlist_init(&client->running);
	dlist_init(&client->done);
	dlist_init(&client->spare);

	/* before the first thing is acquired, so that nothing is lost if the second one fails */
	client->on_reset.func = on_context_reset;
	client->on_reset.arg = client;
	MemoryContextRegisterResetCallback(cxt, &client->on_reset);

	reserve_fds(client, max_connections);
	client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not create an epoll set: %m")));
	client->multi = curl_multi_init();
	client->parser = curl_url();
	if (client->multi == NULL || client->parser == NULL ||
		curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long) max_connections)
		!= CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
						  (long) max_connections) != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create an HTTP client")));
	return client;
}

void
angles_net_close(AnglesNetClient *client)
{
	dlist_head *lists[] = {&client->running, &client->done, &client->spare};
	sigset_t	saved;

	block_signals(&saved);
	for (int i = 0; i < (int) lengthof(lists); i++)
	{
		while (!dlist_is_empty(lists[i]))
		{
			NetTransfer *transfer = dlist_container(NetTransfer, node,
													dlist_pop_head_node(lists[i]));

			if (transfer->in_multi)
				curl_multi_remove_handle(client->multi, transfer->easy);
			curl_easy_cleanup(transfer->easy);
			angles_net_transfer_clear(transfer);
			pfree(transfer);
		}
	}
	client->n_running = 0;
	/* calls on_socket() for what it closes: the set must still be open */
	if (client->multi != NULL)
		curl_multi_cleanup(client->multi);
	client->multi = NULL;
	curl_url_cleanup(client->parser);
	client->parser = NULL;
	unblock_signals(&saved);

	if (client->epoll_fd >= 0)
		close(client->epoll_fd);
	client->epoll_fd = -1;
	while (client->reserved_fds > 0)
	{
		ReleaseExternalFD();
		client->reserved_fds--;
	}
}

static void
on_context_reset(void *arg)
{
	angles_net_close(arg);
}

/*
 * Tells fd.c how many descriptors it must leave to us: the epoll set, libcurl's pair of wake-up
 * sockets, and for each connection two, as two addresses are tried at once (RFC 8305) and a look-up
 * of a name has a pair of sockets. libcurl keeps to max_connections.
 */
static void
reserve_fds(AnglesNetClient *client, int max_connections)
{
	int			wanted = 3 + 2 * max_connections;

	while (client->reserved_fds < wanted)
	{
		if (!AcquireExternalFD())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("not enough file descriptors for an HTTP client with %d connections",
							max_connections),
					 errhint("Raise max_files_per_process, or lower angles.notion_concurrency.")));
		client->reserved_fds++;
	}
}

int
angles_net_running(AnglesNetClient *client)
{
	return client->n_running;
}

pgsocket
angles_net_fd(AnglesNetClient *client)
{
	return client->n_running > 0 ? client->epoll_fd : PGINVALID_SOCKET;
}

long
angles_net_timeout(AnglesNetClient *client)
{
	long		timeout_ms = -1;

	if (!dlist_is_empty(&client->done))
		return 0;
	if (client->n_running > 0)
		curl_multi_timeout(client->multi, &timeout_ms);
	return timeout_ms;
}

/* ---------- starting a request ---------- */

void
angles_net_start(AnglesNetClient *client, const AnglesNetRequest *request)
{
	NetTransfer *transfer = spare_transfer(client);
	const char *objection = check_request(client, request, transfer);
	CURLcode	code = CURLE_OUT_OF_MEMORY;
	CURLMcode	multi_code = CURLM_OK;

	if (objection != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("a request cannot be sent: %s", objection)));

	if (fill_transfer(transfer, request))
		code = set_options(transfer, request);
	if (code == CURLE_OK)
		multi_code = curl_multi_add_handle(client->multi, transfer->easy);
	if (code != CURLE_OK || multi_code != CURLM_OK)
	{
		angles_net_transfer_clear(transfer);
		ereport(ERROR,
				(errcode(code == CURLE_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY :
						 ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("could not start a request: %s",
						code != CURLE_OK ? curl_easy_strerror(code) :
						curl_multi_strerror(multi_code))));
	}
	transfer->in_multi = true;
	dlist_delete(&transfer->node);
	dlist_push_tail(&client->running, &transfer->node);
	client->n_running++;
}

/*
 * Returns why this request is refused, or NULL. Sets the transfer's host, scheme and method kind.
 */
static const char *
check_request(AnglesNetClient *client, const AnglesNetRequest *request, NetTransfer *transfer)
{
	static const char *const methods[] = {"GET", "POST", "PATCH", "PUT", "DELETE"};
	bool		known = false;

	for (int i = 0; i < (int) lengthof(methods); i++)
		known |= strcmp(request->method, methods[i]) == 0;
	if (!known)
		return "its method is not one of GET, POST, PATCH, PUT, DELETE";
	if (strcmp(request->method, "GET") == 0 && request->body != NULL)
		return "a GET has no body";

	/* a line break in a header would begin another header, or another request */
	if (request->token != NULL && (request->token[0] == '\0' || has_control(request->token)))
		return "the token is empty or holds control characters";
	for (int i = 0; i < NET_CALLER_HEADERS && request->headers[i] != NULL; i++)
	{
		if (has_control(request->headers[i]) || strchr(request->headers[i], ':') == NULL)
			return "a header holds control characters or no colon";
	}
	transfer->may_repeat = strcmp(request->method, "GET") == 0;
	return check_url(client, request->url, transfer);
}

/* The same parser that libcurl uses for the request itself, so that the two cannot differ. */
static const char *
check_url(AnglesNetClient *client, const char *url, NetTransfer *transfer)
{
	const char *objection = NULL;
	char	   *host = NULL;
	char	   *user = NULL;

	transfer->plain = pg_strncasecmp(url, "http://", 7) == 0;
	if (!transfer->plain && pg_strncasecmp(url, "https://", 8) != 0)
		return "its address does not begin with https://";
	for (const unsigned char *c = (const unsigned char *) url; *c; c++)
	{
		if (*c <= ' ' || *c >= 127)
			return "its address holds characters that must be percent-encoded";
	}

	if (curl_url_set(client->parser, CURLUPART_URL, url, 0) != CURLUE_OK ||
		curl_url_get(client->parser, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		objection = "its address is malformed";
	else if (curl_url_get(client->parser, CURLUPART_USER, &user, 0) == CURLUE_OK)
		objection = "its address holds a user name";
	else if (transfer->plain && !host_is_loopback(host))
		objection = "plain http is accepted to loopback only";
	else
		strlcpy(transfer->host, host, sizeof(transfer->host));
	curl_free(host);
	curl_free(user);
	return objection;
}

static bool
has_control(const char *text)
{
	for (const unsigned char *c = (const unsigned char *) text; *c; c++)
	{
		if (*c < ' ' || *c == 127)
			return true;
	}
	return false;
}

/* libcurl itself maps "localhost" to loopback without asking a resolver (lib/hostip.c, 7.78). */
static bool
host_is_loopback(const char *host)
{
	struct in_addr v4;

	if (pg_strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

/* Returns a transfer on the list of spare ones, where it stays until it is started. */
static NetTransfer *
spare_transfer(AnglesNetClient *client)
{
	NetTransfer *transfer;

	if (!dlist_is_empty(&client->spare))
		return dlist_head_element(NetTransfer, node, &client->spare);

	transfer = MemoryContextAllocZero(client->cxt, sizeof(NetTransfer));
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
	{
		pfree(transfer);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create a request")));
	}
	dlist_push_head(&client->spare, &transfer->node);
	return transfer;
}

/* Copies body, headers and token. Returns false when there is no memory. */
static bool
fill_transfer(NetTransfer *transfer, const AnglesNetRequest *request)
{
	bool		has_content_type = false;
	bool		ok = true;

	transfer->tag = request->tag;
	transfer->sent_us = angles_clock_mono_us();
	transfer->cap = (size_t) angles_guc_http_max_response * 1024;
	if (request->body != NULL)
	{
		transfer->body = malloc(Max(request->body_len, 1));
		if (transfer->body == NULL)
			return false;
		memcpy(transfer->body, request->body, request->body_len);
		transfer->body_len = request->body_len;
	}

	if (request->token != NULL)
		ok &= angles_net_transfer_header(transfer, "Authorization: Bearer ", request->token);
	for (int i = 0; i < NET_CALLER_HEADERS && request->headers[i] != NULL; i++)
	{
		ok &= angles_net_transfer_header(transfer, "", request->headers[i]);
		has_content_type |= pg_strncasecmp(request->headers[i], "content-type:", 13) == 0;
	}
	/* a name without a value takes away what libcurl would add by itself */
	if (!has_content_type)
		ok &= angles_net_transfer_header(transfer, "Content-Type:", "");
	ok &= angles_net_transfer_header(transfer, "Expect:", "");
	return ok;
}

/* Sets an option unless one before it failed. */
#define SET(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(easy, (option), (value)); \
	} while (0)

static CURLcode
set_options(NetTransfer *transfer, const AnglesNetRequest *request)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;

	/* keeps connections, sessions and names; forgets everything about the last request */
	curl_easy_reset(easy);
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTPHEADER, transfer->header_count > 0 ? &transfer->headers[0] : NULL);
	SET(CURLOPT_USERAGENT, "angles/" ANGLES_VERSION);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip");
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);

	/*
	 * Over TLS the second request waits to see whether the first one's connection takes both, which
	 * the handshake tells. Without TLS libcurl would wait for the whole first answer.
	 */
	SET(CURLOPT_PIPEWAIT, transfer->plain ? 0L : 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
	/* a resolver that hangs must hold up neither us nor the end of this process */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_S);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->error);
	SET(CURLOPT_WRITEFUNCTION, angles_net_on_body);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_HEADERFUNCTION, angles_net_on_header);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_PREREQFUNCTION, on_before_request);
	SET(CURLOPT_PREREQDATA, transfer);
	if (code == CURLE_OK)
		code = set_limits(transfer);
	if (code == CURLE_OK)
		code = set_trust(transfer);
	if (code == CURLE_OK)
		code = set_method(transfer, request);
	return code;
}

static CURLcode
set_limits(NetTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;

	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) angles_guc_http_connect_timeout);
	SET(CURLOPT_TIMEOUT_MS, (long) angles_guc_http_timeout);

	/*
	 * A server may think for a minute before it answers, so the least speed is demanded only once
	 * the answer has begun: angles_net_on_header() sets the limit to this time.
	 */
	transfer->low_speed_bytes = LOW_SPEED_BYTES;
	transfer->low_speed_s = Max(1L, Min(LOW_SPEED_LONGEST_S, angles_guc_http_timeout / 3000L));
	return code;
}

static CURLcode
set_trust(NetTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	const char *proxy = angles_guc_http_proxy ? angles_guc_http_proxy : "";

	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (angles_guc_http_ca_file != NULL && angles_guc_http_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, angles_guc_http_ca_file);
		SET(CURLOPT_CAPATH, NULL);
		SET(CURLOPT_PROXY_CAINFO, angles_guc_http_ca_file);
		SET(CURLOPT_PROXY_CAPATH, NULL);
		/* such a file is replaced by hand; libcurl would keep what it read for a day */
		SET(CURLOPT_CA_CACHE_TIMEOUT, 60L);
	}

	/* "" keeps libcurl from reading the environment; what goes to loopback needs no proxy */
	SET(CURLOPT_PROXY, proxy);
	SET(CURLOPT_NOPROXY, transfer->plain ? "*" : "localhost,127.0.0.1,::1");
	return code;
}

static CURLcode
set_method(NetTransfer *transfer, const AnglesNetRequest *request)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	bool		is_post = strcmp(request->method, "POST") == 0;

	if (transfer->may_repeat)
		SET(CURLOPT_HTTPGET, 1L);
	else if (transfer->body != NULL || is_post)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->body_len);
		SET(CURLOPT_POSTFIELDS, transfer->body != NULL ? transfer->body : "");
	}
	if (!transfer->may_repeat && !is_post)
		SET(CURLOPT_CUSTOMREQUEST, request->method);
	return code;
}

/* ---------- working ---------- */

void
angles_net_drive(AnglesNetClient *client)
{
	struct epoll_event events[MAX_EVENTS];
	sigset_t	saved;
	long		timeout_ms = -1;
	int			n_events;

	if (client->n_running == 0)
		return;

	block_signals(&saved);
	/* lint: c-forbidden: a timeout of 0 only asks what is ready */
	n_events = epoll_wait(client->epoll_fd, events, MAX_EVENTS, 0);
	for (int i = 0; i < n_events; i++)
	{
		uint32		ready = events[i].events;
		int			what = 0;

		/* what hung up or failed is for libcurl to find out by reading and writing */
		if (ready & (EPOLLIN | EPOLLHUP | EPOLLERR))
			what |= CURL_CSELECT_IN;
		if (ready & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			what |= CURL_CSELECT_OUT;
		socket_action(client, events[i].data.fd, what);
	}
	curl_multi_timeout(client->multi, &timeout_ms);
	if (timeout_ms == 0)
		socket_action(client, CURL_SOCKET_TIMEOUT, 0);
	collect_finished(client);
	unblock_signals(&saved);

	if (client->callback_errno != 0)
	{
		errno = client->callback_errno;
		client->callback_errno = 0;
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not watch a socket: %m")));
	}
}

static void
socket_action(AnglesNetClient *client, curl_socket_t fd, int events)
{
	int			still_running;
	CURLMcode	code = curl_multi_socket_action(client->multi, fd, events, &still_running);

	/* the only codes it has left are for misuse, lack of memory, and a callback that failed */
	if (code != CURLM_OK && client->callback_errno == 0)
		client->callback_errno = code == CURLM_OUT_OF_MEMORY ? ENOMEM : EINVAL;
}

static void
collect_finished(AnglesNetClient *client)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(client->multi, &left)) != NULL)
	{
		NetTransfer *transfer = NULL;
		CURLcode	code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		/* the message dies with the removal */
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		curl_multi_remove_handle(client->multi, transfer->easy);
		transfer->in_multi = false;
		transfer->code = code;
		transfer->done_us = angles_clock_mono_us();
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &transfer->status);
		curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &transfer->os_errno);
		angles_net_transfer_forget_request(transfer);
		dlist_delete(&transfer->node);
		dlist_push_tail(&client->done, &transfer->node);
		client->n_running--;
	}
}

AnglesNetAnswer *
angles_net_take(AnglesNetClient *client)
{
	NetTransfer *transfer;
	AnglesNetAnswer *answer;

	if (dlist_is_empty(&client->done))
		return NULL;
	transfer = dlist_head_element(NetTransfer, node, &client->done);
	/* may run out of memory: then the answer is still there for the next call */
	answer = angles_net_transfer_answer(transfer);
	angles_net_transfer_clear(transfer);
	dlist_delete(&transfer->node);
	dlist_push_head(&client->spare, &transfer->node);
	return answer;
}

/*
 * libcurl resolves names in threads that it starts while it works. They inherit this mask, so no
 * signal of PostgreSQL is ever handled in one of them, where its handlers would not be safe.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
unblock_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* ---------- callbacks of libcurl: no palloc, no ereport, no interrupts ---------- */

/* Keeps the epoll set equal to what libcurl wants to hear of. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	AnglesNetClient *client = userp;
	struct epoll_event event = {0};

	(void) easy;
	(void) socketp;
	if (what == CURL_POLL_REMOVE)
	{
		/* a descriptor that was closed left the set by itself */
		if (epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 &&
			errno != EBADF && errno != ENOENT)
			client->callback_errno = errno;
		return 0;
	}
	event.data.fd = fd;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(client->epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0 &&
		(errno != ENOENT || epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0))
		client->callback_errno = errno;
	return 0;
}

static curl_socket_t
on_open_socket(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
	NetTransfer *transfer = userp;

	/* the last word on "plain http to loopback only": whatever the name resolved to */
	if (purpose != CURLSOCKTYPE_IPCXN ||
		(transfer->plain && !angles_net_is_loopback(&address->addr)))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * Called when a connection is ready, before the first byte of the request (TLS and the proxy's
 * CONNECT are done). From here on nobody can say that the request did not arrive. libcurl sends a
 * request once more when a kept connection died without an answer; that is its guess that the
 * server had closed it before, and it is wrong when the server died after the work. Only a GET may
 * be repeated on a guess.
 */
static int
on_before_request(void *userp, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	NetTransfer *transfer = userp;

	(void) remote_ip;
	(void) local_ip;
	(void) remote_port;
	(void) local_port;
	if (transfer->attempts > 0 && !transfer->may_repeat)
	{
		transfer->not_repeated = true;
		return CURL_PREREQFUNC_ABORT;
	}
	transfer->attempts++;
	return CURL_PREREQFUNC_OK;
}
