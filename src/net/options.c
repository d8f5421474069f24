/*
 * options.c
 *		Gives libcurl's handle of a transfer what it needs for a request, and holds the callbacks
 *		that guard the way to the remote. Runs in background workers.
 *
 * To set all options costs a good part of what a small request does, so a handle keeps them for
 * the next request of the same kind.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "utils/memutils.h"

#include "core/guc.h"
#include "net/answer.h"

#ifndef ANGLES_VERSION
#error "ANGLES_VERSION is given by the Makefile, from angles.control"
#endif

/* Connections unused for longer are not used again: many servers close them after a minute. */
#define MAX_IDLE_S 50L

/* An answer that has begun must go on at this speed. */
#define LOW_SPEED_BYTES 64L
#define LOW_SPEED_LONGEST_S 20L

static void look_at_settings(MemoryContext cxt, NetSettings *settings);
static bool same_text(const char *a, const char *b);
static void replace_text(MemoryContext cxt, char **text, const char *fresh);
static CURLcode set_options(NetTransfer *transfer);
static CURLcode set_trust(NetTransfer *transfer);
static CURLcode set_method(NetTransfer *transfer);
static curl_socket_t on_open_socket(void *userp, curlsocktype purpose,
									struct curl_sockaddr *address);
static int	on_before_request(void *userp, char *remote_ip, char *local_ip, int remote_port,
							  int local_port);

/* Sets an option unless one before it failed. */
#define SET(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(easy, (option), (value)); \
	} while (0)

CURLcode
angles_net_set_request(MemoryContext cxt, NetSettings *settings, NetTransfer *transfer,
					   const AnglesNetRequest *request)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;

	look_at_settings(cxt, settings);
	if (transfer->options != settings->number || transfer->options_plain != transfer->plain ||
		transfer->options_method != transfer->method ||
		transfer->options_body != (transfer->body != NULL) ||
		transfer->options_source != (transfer->source.read != NULL) ||
		transfer->options_raw != transfer->raw)
	{
		transfer->options = 0;
		code = set_options(transfer);
		if (code == CURLE_OK)
			transfer->options = settings->number;
		transfer->options_plain = transfer->plain;
		transfer->options_method = transfer->method;
		transfer->options_body = transfer->body != NULL;
		transfer->options_source = transfer->source.read != NULL;
		transfer->options_raw = transfer->raw;
	}
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_HTTPHEADER, &transfer->headers[0]);
	if (transfer->body != NULL)
	{
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->body_len);
		SET(CURLOPT_POSTFIELDS, transfer->body);
	}
	if (transfer->source.read != NULL)
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->source.len);
	SET(CURLOPT_TIMEOUT_MS, (long) (transfer->timeout_ms > 0 ? transfer->timeout_ms :
									angles_guc_http_timeout));

	/*
	 * A server may think for a minute before it answers, so the least speed is demanded only once
	 * the answer has begun: angles_net_on_header() sets the limit to this time.
	 */
	SET(CURLOPT_LOW_SPEED_LIMIT, 0L);
	SET(CURLOPT_LOW_SPEED_TIME, 0L);
	transfer->low_speed_bytes = transfer->timeout_ms > 0 ? 0 : LOW_SPEED_BYTES;
	transfer->low_speed_s = Max(1L, Min(LOW_SPEED_LONGEST_S, angles_guc_http_timeout / 3000L));
	return code;
}

/* Gives the settings a new number when one of them was changed since the last look. */
static void
look_at_settings(MemoryContext cxt, NetSettings *settings)
{
	if (settings->number > 0 &&
		settings->connect_timeout == angles_guc_http_connect_timeout &&
		settings->timeout == angles_guc_http_timeout &&
		same_text(settings->ca_file, angles_guc_http_ca_file) &&
		same_text(settings->proxy, angles_guc_http_proxy))
		return;
	settings->connect_timeout = angles_guc_http_connect_timeout;
	settings->timeout = angles_guc_http_timeout;
	replace_text(cxt, &settings->ca_file, angles_guc_http_ca_file);
	replace_text(cxt, &settings->proxy, angles_guc_http_proxy);
	settings->number++;
}

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static void
replace_text(MemoryContext cxt, char **text, const char *fresh)
{
	char	   *copy = MemoryContextStrdup(cxt, fresh ? fresh : "");

	if (*text != NULL)
		pfree(*text);
	*text = copy;
}

/* Sets all that is the same for each request of a kind. */
static CURLcode
set_options(NetTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;

	/* keeps connections, sessions and names; forgets everything about the last request */
	curl_easy_reset(easy);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_USERAGENT, "angles/" ANGLES_VERSION);
	SET(CURLOPT_ACCEPT_ENCODING, transfer->raw ? NULL : "gzip");
	SET(CURLOPT_HTTP_VERSION, (long) (transfer->raw ? CURL_HTTP_VERSION_1_1 :
									  CURL_HTTP_VERSION_2TLS));

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
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) angles_guc_http_connect_timeout);
	if (code == CURLE_OK)
		code = set_trust(transfer);
	if (code == CURLE_OK)
		code = set_method(transfer);
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
set_method(NetTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	bool		is_post = strcmp(transfer->method, "POST") == 0;

	if (transfer->may_repeat)
		SET(CURLOPT_HTTPGET, 1L);
	else if (transfer->source.read != NULL)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_READFUNCTION, angles_net_on_read);
		SET(CURLOPT_READDATA, transfer);
	}
	else if (transfer->body != NULL || is_post)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) 0);
		SET(CURLOPT_POSTFIELDS, "");
	}
	if (!transfer->may_repeat && !is_post)
		SET(CURLOPT_CUSTOMREQUEST, transfer->method);
	return code;
}

/* ---------- callbacks of libcurl: no palloc, no ereport, no interrupts ---------- */

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
