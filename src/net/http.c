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

#include "common/base64.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/errors.h"
#include "core/guc.h"
#include "net/answer.h"
#include "net/net.h"

/* CURLOPT_PROTOCOLS_STR is of 7.85, CURLOPT_PREREQFUNCTION of 7.80. */
#if LIBCURL_VERSION_NUM < 0x075500
#error "angles needs libcurl 7.85 or newer"
#endif

/* Ready sockets taken in one look; others are still ready at the next one. */
#define MAX_EVENTS 64

/*
 * A kept connection is idle only from one request to the next, most often. This many may stay in
 * the epoll set until somebody waits for it: to change a member costs less than to remove and add.
 */
#define MAX_IDLE 16

struct AnglesNetClient
{
	MemoryContext cxt;
	MemoryContextCallback on_reset;
	CURLM	   *multi;
	CURLU	   *parser;			/* for looking at addresses; holds no request's state */
	int			epoll_fd;
	int			reserved_fds;	/* announced to fd.c by ReserveExternalFD */
	int			callback_errno; /* what went wrong in a callback, to be raised after it */
	curl_socket_t idle[MAX_IDLE];	/* in the epoll set, though libcurl does not ask for them */
	int			n_idle;
	int			n_running;
	dlist_head	running;
	dlist_head	done;			/* oldest first */
	dlist_head	spare;			/* with an easy handle ready for use */
	NetSettings settings;
	char		checked[256];	/* begin of an address that was checked, up to its path */
	char		checked_host[128];
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
static bool put_basic_header(NetTransfer *transfer, const char *user, const char *token);
static bool fill_transfer(NetTransfer *transfer, const AnglesNetRequest *request);
static void socket_action(AnglesNetClient *client, curl_socket_t fd, int events);
static void collect_finished(AnglesNetClient *client);
static void block_signals(sigset_t *saved);
static void unblock_signals(const sigset_t *saved);
static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp);
static void unwatch(AnglesNetClient *client, curl_socket_t fd);

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
			angles_net_transfer_free(transfer);
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

int64
angles_net_moved(AnglesNetClient *client, int64 *sent)
{
	int64		moved_us = 0;
	dlist_iter	iter;

	*sent = 0;
	dlist_foreach(iter, &client->running)
	{
		NetTransfer *transfer = dlist_container(NetTransfer, node, iter.cur);

		moved_us = Max(moved_us, transfer->moved_us);
		*sent += transfer->taken;
	}
	return moved_us;
}

pgsocket
angles_net_fd(AnglesNetClient *client)
{
	while (client->n_idle > 0)
		unwatch(client, client->idle[--client->n_idle]);
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
		code = angles_net_set_request(client->cxt, &client->settings, transfer, request);
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
	const char *method = NULL;

	for (int i = 0; i < (int) lengthof(methods); i++)
		if (strcmp(request->method, methods[i]) == 0)
			method = methods[i];
	if (method == NULL)
		return "its method is not one of GET, POST, PATCH, PUT, DELETE";
	if (strcmp(request->method, "GET") == 0 && (request->body != NULL || request->source != NULL))
		return "a GET has no body";
	if (request->body != NULL && request->source != NULL)
		return "it has two bodies";
	/* libcurl makes another method of a body from a source than of one from memory */
	if (request->source != NULL && strcmp(request->method, "POST") != 0)
		return "only a POST has a body from a source";
	if (request->basic_user != NULL &&
		(has_control(request->basic_user) || strchr(request->basic_user, ':') != NULL))
		return "the name of its user holds a colon or control characters";

	/* a line break in a header would begin another header, or another request */
	if (request->token != NULL && (request->token[0] == '\0' || has_control(request->token)))
		return "the token is empty or holds control characters";
	for (int i = 0; i < NET_CALLER_HEADERS && request->headers[i] != NULL; i++)
	{
		if (has_control(request->headers[i]) || strchr(request->headers[i], ':') == NULL)
			return "a header holds control characters or no colon";
	}
	transfer->method = method;
	transfer->may_repeat = strcmp(method, "GET") == 0;
	return check_url(client, request->url, transfer);
}

/*
 * The same parser that libcurl uses for the request itself, so that the two cannot differ. What was
 * found stands for all addresses with the same begin, up to their path.
 */
static const char *
check_url(AnglesNetClient *client, const char *url, NetTransfer *transfer)
{
	const char *objection = NULL;
	const char *path;
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
	if (client->checked[0] != '\0' &&
		strncmp(url, client->checked, strlen(client->checked)) == 0)
	{
		strlcpy(transfer->host, client->checked_host, sizeof(transfer->host));
		return NULL;
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

	path = strchr(strstr(url, "//") + 2, '/');
	if (objection == NULL && path != NULL && path - url + 2 <= (int) sizeof(client->checked))
	{
		strlcpy(client->checked, url, path - url + 2);
		strlcpy(client->checked_host, transfer->host, sizeof(client->checked_host));
	}
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
	transfer->moved_us = transfer->sent_us;
	transfer->timeout_ms = request->timeout_ms;
	transfer->raw = request->raw;
	if (request->source != NULL)
		transfer->source = *request->source;
	transfer->cap = (size_t) angles_guc_http_max_response * 1024;
	if (request->body != NULL)
	{
		transfer->body = malloc(Max(request->body_len, 1));
		if (transfer->body == NULL)
			return false;
		memcpy(transfer->body, request->body, request->body_len);
		transfer->body_len = request->body_len;
	}

	if (request->token != NULL && request->basic_user != NULL)
		ok &= put_basic_header(transfer, request->basic_user, request->token);
	else if (request->token != NULL)
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

/* Every copy of the token that is made here is wiped here. */
static bool
put_basic_header(NetTransfer *transfer, const char *user, const char *token)
{
	size_t		plain_size = strlen(user) + 1 + strlen(token) + 1;
	int			room = pg_b64_enc_len((int) plain_size) + 1;
	char	   *plain = malloc(plain_size);
	char	   *encoded = malloc(room);
	int			len = -1;
	bool		ok = false;

	if (plain != NULL && encoded != NULL)
	{
		snprintf(plain, plain_size, "%s:%s", user, token);
		len = ANGLES_B64_ENCODE(plain, (int) strlen(plain), encoded, room - 1);
	}
	if (len >= 0)
	{
		encoded[len] = '\0';
		ok = angles_net_transfer_header(transfer, "Authorization: Basic ", encoded);
		explicit_bzero(encoded, room);
	}
	if (plain != NULL)
		explicit_bzero(plain, plain_size);
	free(plain);
	free(encoded);
	return ok;
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
	for (int i = 0; i < client->n_idle; i++)
		if (client->idle[i] == fd)
			client->idle[i--] = client->idle[--client->n_idle];
	if (what == CURL_POLL_REMOVE)
	{
		if (client->n_idle < MAX_IDLE)
			client->idle[client->n_idle++] = fd;
		else
			unwatch(client, fd);
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

static void
unwatch(AnglesNetClient *client, curl_socket_t fd)
{
	/* a descriptor that was closed left the set by itself; its number may be a file's by now */
	if (epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 &&
		errno != EBADF && errno != ENOENT && errno != EPERM)
		client->callback_errno = errno;
}
