/*
 * answer.c
 *		Collects an answer inside libcurl's callbacks and turns it into an AnglesNetAnswer
 *		afterwards: where NOT_SENT, UNKNOWN and ANSWERED are told apart. Runs in background workers.
 *
 * The callbacks (angles_net_on_body, angles_net_on_header) allocate with malloc up to the cap, and
 * never raise an error. Everything that came from the remote is foreign: it is cut, and only
 * printable ASCII of it gets into texts.
 */
#include "postgres.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <time.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "net/answer.h"

/* A remote that asks for a longer pause than a day is asked again after a day. */
#define LONGEST_RETRY_AFTER_S 86400

/* Memory of this size stays with a transfer. */
#define LARGEST_KEPT_ANSWER (64 * 1024)

static AnglesNetResult classify(const NetTransfer *transfer);
static void describe(const NetTransfer *transfer, AnglesNetAnswer *answer);
static bool says_json(const char *content_type);
static int	read_retry_after(const char *text, TimestampTz server_date);
static TimestampTz read_date(const char *text);
static void keep_header(const char *line, size_t len, const char *name, char *into, size_t size);
static void print_ascii(char *into, size_t size, const char *text);
static void wipe(char *text);

/* ---------- the request's memory ---------- */

bool
angles_net_transfer_header(NetTransfer *transfer, const char *start, const char *rest)
{
	struct curl_slist *header = &transfer->headers[transfer->header_count];
	size_t		start_len = strlen(start);
	size_t		rest_size = strlen(rest) + 1;

	Assert(transfer->header_count < NET_HEADERS);
	header->data = malloc(start_len + rest_size);
	if (header->data == NULL)
		return false;
	memcpy(header->data, start, start_len);
	memcpy(header->data + start_len, rest, rest_size);
	header->next = NULL;
	if (transfer->header_count > 0)
		transfer->headers[transfer->header_count - 1].next = header;
	transfer->header_count++;
	return true;
}

void
angles_net_transfer_forget_request(NetTransfer *transfer)
{
	for (int i = 0; i < transfer->header_count; i++)
	{
		wipe(transfer->headers[i].data);
		free(transfer->headers[i].data);
		transfer->headers[i].data = NULL;
		transfer->headers[i].next = NULL;
	}
	transfer->header_count = 0;
	free(transfer->body);
	transfer->body = NULL;
	transfer->body_len = 0;
}

void
angles_net_transfer_clear(NetTransfer *transfer)
{
	char	   *of_one_request = (char *) &transfer->in_multi;

	angles_net_transfer_forget_request(transfer);
	MemSet(of_one_request, 0, (char *) (transfer + 1) - of_one_request);
	/* what a usual answer needs is kept for the next one */
	if (transfer->answer_size > LARGEST_KEPT_ANSWER)
	{
		free(transfer->answer);
		transfer->answer = NULL;
		transfer->answer_size = 0;
	}
}

void
angles_net_transfer_free(NetTransfer *transfer)
{
	angles_net_transfer_forget_request(transfer);
	curl_easy_cleanup(transfer->easy);
	free(transfer->answer);
	pfree(transfer);
}

static void
wipe(char *text)
{
	explicit_bzero(text, strlen(text));
}

/* ---------- from a finished transfer to an answer ---------- */

AnglesNetAnswer *
angles_net_transfer_answer(const NetTransfer *transfer)
{
	AnglesNetAnswer *answer = palloc0(sizeof(AnglesNetAnswer));
	const char *id = transfer->notion_request_id[0] != '\0' ? transfer->notion_request_id :
		transfer->request_id;

	answer->tag = transfer->tag;
	answer->result = classify(transfer);
	answer->too_large = transfer->too_large;
	answer->sent_us = transfer->sent_us;
	answer->done_us = transfer->done_us;
	answer->retry_after_s = -1;
	if (answer->result != ANGLES_NET_NOT_SENT)
	{
		answer->status = (int) transfer->status;
		answer->is_json = says_json(transfer->content_type);
		answer->server_date = read_date(transfer->date);
		answer->retry_after_s = read_retry_after(transfer->retry_after, answer->server_date);
		print_ascii(answer->request_id, sizeof(answer->request_id), id);
		print_ascii(answer->location, sizeof(answer->location), transfer->location);
	}
	/* half a body is nobody's business: it may look like a whole one */
	if (answer->result == ANGLES_NET_ANSWERED)
		answer->body_len = transfer->answer_len;
	else
		describe(transfer, answer);
	answer->body = MemoryContextAllocHuge(CurrentMemoryContext, answer->body_len + 1);
	if (answer->body_len > 0)
		memcpy(answer->body, transfer->answer, answer->body_len);
	answer->body[answer->body_len] = '\0';
	return answer;
}

/*
 * ANSWERED is what libcurl calls a complete transfer, with the whole head of a final answer
 * (libcurl 7.88 takes a connection that closed within the headers for a complete one). Otherwise
 * the request surely did not arrive when libcurl never came to the point of sending it; after that
 * point nobody knows.
 */
static AnglesNetResult
classify(const NetTransfer *transfer)
{
	if (transfer->code == CURLE_OK && transfer->status >= 200 && transfer->headers_ended)
		return ANGLES_NET_ANSWERED;
	return transfer->attempts == 0 ? ANGLES_NET_NOT_SENT : ANGLES_NET_UNKNOWN;
}

/*
 * libcurl's own words name hosts, addresses, files and certificates, never a header, a body or the
 * path of a request; they may quote the remote.
 */
static void
describe(const NetTransfer *transfer, AnglesNetAnswer *answer)
{
	char		reason[CURL_ERROR_SIZE];
	const char *what;

	if (transfer->not_repeated)
		what = "the connection closed without an answer, and the request is not one to repeat "
			   "blindly";
	else if (transfer->too_large)
		what = "the answer is larger than angles.http_max_response";
	else if (transfer->no_memory)
		what = "out of memory";
	else if (transfer->aborted)
		what = "the body of the request could not be read";
	else if (transfer->code == CURLE_COULDNT_CONNECT && transfer->os_errno != 0)
		what = strerror((int) transfer->os_errno);
	else if (transfer->code == CURLE_OK)
		what = "the connection closed within the headers";
	else if (transfer->error[0] != '\0')
		what = transfer->error;
	else
		what = curl_easy_strerror(transfer->code);
	print_ascii(reason, sizeof(reason), what);
	snprintf(answer->problem, sizeof(answer->problem), "%s %s: %s",
			 answer->result == ANGLES_NET_NOT_SENT ? "nothing was sent to" : "no answer from",
			 transfer->host, reason);
}

static bool
says_json(const char *content_type)
{
	size_t		len = strlen("application/json");

	return pg_strncasecmp(content_type, "application/json", len) == 0 &&
		(content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}

/*
 * Retry-After is a number of seconds or a date (RFC 9110, 10.2.3). A date is compared with the
 * server's own clock where it gave one.
 */
static int
read_retry_after(const char *text, TimestampTz server_date)
{
	TimestampTz until;
	int64		seconds = 0;

	if (text[0] == '\0')
		return -1;
	if (text[0] >= '0' && text[0] <= '9')
	{
		for (; *text >= '0' && *text <= '9'; text++)
			seconds = Min(seconds * 10 + (*text - '0'), LONGEST_RETRY_AFTER_S);
		/* some servers send a fraction */
		return *text == '\0' ? (int) seconds : *text == '.' ? (int) seconds + 1 : -1;
	}
	until = read_date(text);
	if (until == 0)
		return -1;
	seconds = (until - (server_date != 0 ? server_date : angles_clock_now()) + USECS_PER_SEC - 1) /
		USECS_PER_SEC;
	return (int) Max(0, Min(seconds, LONGEST_RETRY_AFTER_S));
}

/*
 * Returns 0 when there is no date. libcurl's reader knows no locale and no time zone of ours. Many
 * answers come in the same second.
 */
static TimestampTz
read_date(const char *text)
{
	static char last_text[DATE_SIZE];
	static TimestampTz last = 0;
	time_t		t;

	if (strcmp(text, last_text) == 0)
		return last;
	t = curl_getdate(text, NULL);
	strlcpy(last_text, text, sizeof(last_text));
	last = t == -1 ? 0 : time_t_to_timestamptz(t);
	return last;
}

static void
print_ascii(char *into, size_t size, const char *text)
{
	size_t		i;

	for (i = 0; i + 1 < size && text[i] != '\0'; i++)
		into[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	into[i] = '\0';
}

bool
angles_net_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr) >> 24) == 127;
	if (address->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) address)->sin6_addr);
	return false;
}

/* ---------- callbacks of libcurl: no palloc, no ereport, no interrupts ---------- */

/* CURL_READFUNC_ABORT ends the transfer with CURLE_ABORTED_BY_CALLBACK. */
size_t
angles_net_on_read(char *into, size_t size, size_t n, void *userp)
{
	NetTransfer *transfer = userp;
	int64		left = transfer->source.len - transfer->taken;
	size_t		room = (size_t) Min((int64) (size * n), left);
	size_t		taken;

	if (room == 0)
		return 0;
	transfer->moved_us = angles_clock_mono_us();
	taken = transfer->source.read(transfer->source.arg, into, room);
	/* a body that ends too early would leave the server waiting for the rest */
	if (taken == ANGLES_NET_ABORT || taken == 0 || taken > room)
	{
		transfer->aborted = true;
		return CURL_READFUNC_ABORT;
	}
	transfer->taken += taken;
	return taken;
}

/* Any return but the number of bytes ends the transfer with CURLE_WRITE_ERROR. */
size_t
angles_net_on_body(char *data, size_t size, size_t n, void *userp)
{
	NetTransfer *transfer = userp;
	size_t		len = size * n;
	size_t		needed = transfer->answer_len + len;

	transfer->moved_us = angles_clock_mono_us();
	if (needed > transfer->cap)
	{
		transfer->too_large = true;
		return 0;
	}
	if (needed > transfer->answer_size)
	{
		size_t		bigger = Max(Max(needed, 8192), transfer->answer_size * 2);
		char	   *answer = realloc(transfer->answer, bigger);

		if (answer == NULL)
		{
			transfer->no_memory = true;
			return 0;
		}
		transfer->answer = answer;
		transfer->answer_size = bigger;
	}
	memcpy(transfer->answer + transfer->answer_len, data, len);
	transfer->answer_len = needed;
	return len;
}

size_t
angles_net_on_header(char *data, size_t size, size_t n, void *userp)
{
	NetTransfer *transfer = userp;
	size_t		len = size * n;

	transfer->moved_us = angles_clock_mono_us();
	/* a status line: of the answer, or of a "100 Continue" before it */
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		transfer->content_type[0] = transfer->retry_after[0] = transfer->date[0] = '\0';
		transfer->location[0] = '\0';
		transfer->notion_request_id[0] = transfer->request_id[0] = '\0';
		transfer->headers_ended = false;
		curl_easy_setopt(transfer->easy, CURLOPT_LOW_SPEED_LIMIT, transfer->low_speed_bytes);
		curl_easy_setopt(transfer->easy, CURLOPT_LOW_SPEED_TIME, transfer->low_speed_s);
		return len;
	}
	if (len > 0 && (data[0] == '\r' || data[0] == '\n'))
		transfer->headers_ended = true;
	keep_header(data, len, "content-type:", transfer->content_type,
				sizeof(transfer->content_type));
	keep_header(data, len, "retry-after:", transfer->retry_after, sizeof(transfer->retry_after));
	/* half an address would be another one */
	if (len < sizeof(transfer->location))
		keep_header(data, len, "location:", transfer->location, sizeof(transfer->location));
	keep_header(data, len, "date:", transfer->date, sizeof(transfer->date));
	keep_header(data, len, "x-notion-request-id:", transfer->notion_request_id,
				sizeof(transfer->notion_request_id));
	keep_header(data, len, "x-request-id:", transfer->request_id, sizeof(transfer->request_id));
	return len;
}

/* Copies the value of a header line, cut to size and without white space around it. */
static void
keep_header(const char *line, size_t len, const char *name, char *into, size_t size)
{
	size_t		start = strlen(name);

	if (len < start || pg_strncasecmp(line, name, start) != 0)
		return;
	while (start < len && (line[start] == ' ' || line[start] == '\t'))
		start++;
	while (len > start && (unsigned char) line[len - 1] <= ' ')
		len--;
	len = Min(len - start, size - 1);
	memcpy(into, line + start, len);
	into[len] = '\0';
}
