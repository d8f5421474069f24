/*
 * curl_multi.c
 *		The peer of angles' throughput figure: creates pages, then changes each of them, with nothing
 *		but libcurl's multi interface. No PostgreSQL, no queue, no bookkeeping.
 *
 * Build:	cc -O2 -Wall -o curl_multi curl_multi.c -lcurl
 * Run:		curl_multi BASE_URL TOKEN N CONNECTIONS CREATE.json [PATCH.json]
 *
 * The files are bodies for POST /v1/pages and PATCH /v1/pages/ID in which every {n} is replaced by
 * the number of the page (1..N). Prints one line for each phase:
 *		create n=1000 connections=6 failed=0 seconds=0.812 per_second=1231.5 cpu_ms_per_request=0.061
 * The processor time is that of this process, user and system.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <curl/curl.h>

/* A connection's worth of work: one request at a time. */
typedef struct Slot
{
	CURL	   *easy;
	int			n;				/* of the page */
	char	   *body;
	char	   *answer;
	size_t		answer_len;
	size_t		answer_size;
} Slot;

static const char *base_url;
static const char *body_template;
static bool patching;
static char (*page_ids)[64];
static struct curl_slist *headers;

static void die(const char *what);
static char *read_file(const char *path);
static char *fill_in(const char *text, int n);
static void start(CURLM *multi, Slot *slot, int n);
static bool finish(Slot *slot, CURLcode code);
static size_t on_body(char *data, size_t size, size_t n, void *userp);
static bool read_id(const Slot *slot, char *into, size_t size);
static void run(const char *phase, int count, int connections);
static double now(void);
static double cpu(void);

int
main(int argc, char **argv)
{
	char		line[512];
	int			count;
	int			connections;

	if (argc < 6 || argc > 7 || (count = atoi(argv[3])) < 1 || (connections = atoi(argv[4])) < 1)
	{
		fprintf(stderr, "usage: %s BASE_URL TOKEN N CONNECTIONS CREATE.json [PATCH.json]\n", argv[0]);
		return 2;
	}
	base_url = argv[1];
	curl_global_init(CURL_GLOBAL_ALL);
	snprintf(line, sizeof(line), "Authorization: Bearer %s", argv[2]);
	headers = curl_slist_append(NULL, line);
	headers = curl_slist_append(headers, "Notion-Version: 2026-03-11");
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	page_ids = calloc(count + 1, sizeof(*page_ids));
	if (headers == NULL || page_ids == NULL)
		die("out of memory");

	body_template = read_file(argv[5]);
	run("create", count, connections);
	if (argc == 7)
	{
		patching = true;
		body_template = read_file(argv[6]);
		run("patch", count, connections);
	}
	return 0;
}

static void
run(const char *phase, int count, int connections)
{
	CURLM	   *multi = curl_multi_init();
	Slot	   *slots = calloc(connections, sizeof(Slot));
	int			next = 1;
	int			running = 0;
	int			failed = 0;
	double		begin = now();
	double		begin_cpu = cpu();
	double		seconds;

	if (multi == NULL || slots == NULL)
		die("out of memory");
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) connections);
	for (int i = 0; i < connections && next <= count; i++, running++)
		start(multi, &slots[i], next++);

	while (running > 0)
	{
		int			still_running;
		int			left;
		CURLMsg    *message;

		if (curl_multi_perform(multi, &still_running) != CURLM_OK)
			die("curl_multi_perform failed");
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
		{
			Slot	   *slot;
			CURLcode	code = message->data.result;

			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &slot);
			curl_multi_remove_handle(multi, slot->easy);
			if (!finish(slot, code))
				failed++;
			running--;
			if (next <= count)
			{
				start(multi, slot, next++);
				running++;
			}
		}
		if (running > 0 && curl_multi_poll(multi, NULL, 0, 1000, NULL) != CURLM_OK)
			die("curl_multi_poll failed");
	}
	seconds = now() - begin;
	printf("%s n=%d connections=%d failed=%d seconds=%.3f per_second=%.1f cpu_ms_per_request=%.3f\n",
		   phase, count, connections, failed, seconds, count / seconds,
		   (cpu() - begin_cpu) * 1000 / count);
	for (int i = 0; i < connections; i++)
	{
		curl_easy_cleanup(slots[i].easy);
		free(slots[i].answer);
	}
	free(slots);
	curl_multi_cleanup(multi);
}

static void
start(CURLM *multi, Slot *slot, int n)
{
	char		url[1024];

	if (slot->easy == NULL)
		slot->easy = curl_easy_init();
	if (slot->easy == NULL)
		die("out of memory");
	slot->n = n;
	slot->answer_len = 0;
	slot->body = fill_in(body_template, n);
	snprintf(url, sizeof(url), "%s/v1/pages%s%s", base_url, patching ? "/" : "",
			 patching ? page_ids[n] : "");
	curl_easy_setopt(slot->easy, CURLOPT_URL, url);
	curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->body);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long) strlen(slot->body));
	if (patching)
		curl_easy_setopt(slot->easy, CURLOPT_CUSTOMREQUEST, "PATCH");
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot);
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
	if (curl_multi_add_handle(multi, slot->easy) != CURLM_OK)
		die("curl_multi_add_handle failed");
}

/* Returns true when the answer was 200 and, for a create, told the page's id. */
static bool
finish(Slot *slot, CURLcode code)
{
	long		status = 0;

	free(slot->body);
	curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK || status != 200)
	{
		fprintf(stderr, "page %d: %s, status %ld: %.*s\n", slot->n, curl_easy_strerror(code), status,
				(int) (slot->answer_len < 300 ? slot->answer_len : 300),
				slot->answer ? slot->answer : "");
		return false;
	}
	return patching || read_id(slot, page_ids[slot->n], sizeof(page_ids[0]));
}

/* The page's own id: "object" is "page", and its "id" comes before anything that is nested. */
static bool
read_id(const Slot *slot, char *into, size_t size)
{
	const char *at = strstr(slot->answer, "\"id\":");
	size_t		len = 0;

	if (at == NULL)
		return false;
	at += strlen("\"id\":");
	at += strspn(at, " \"");
	while (at[len] != '"' && at[len] != '\0')
		len++;
	if (at[len] == '\0' || len >= size)
		return false;
	memcpy(into, at, len);
	into[len] = '\0';
	return true;
}

static size_t
on_body(char *data, size_t size, size_t n, void *userp)
{
	Slot	   *slot = userp;
	size_t		len = size * n;

	if (slot->answer_len + len + 1 > slot->answer_size)
	{
		slot->answer_size = (slot->answer_len + len + 1) * 2;
		slot->answer = realloc(slot->answer, slot->answer_size);
		if (slot->answer == NULL)
			die("out of memory");
	}
	memcpy(slot->answer + slot->answer_len, data, len);
	slot->answer_len += len;
	slot->answer[slot->answer_len] = '\0';
	return len;
}

/* Returns the text with every {n} replaced by the number. */
static char *
fill_in(const char *text, int n)
{
	size_t		places = 1;
	char	   *filled;
	char	   *to;

	for (const char *at = text; (at = strstr(at, "{n}")) != NULL; at += 3)
		places++;
	filled = to = malloc(strlen(text) + places * 12);
	if (filled == NULL)
		die("out of memory");
	while (*text)
	{
		if (strncmp(text, "{n}", 3) == 0)
		{
			to += sprintf(to, "%d", n);
			text += 3;
		}
		else
			*to++ = *text++;
	}
	*to = '\0';
	return filled;
}

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	char	   *text = malloc(1 << 20);
	size_t		len;

	if (file == NULL || text == NULL)
		die(path);
	len = fread(text, 1, (1 << 20) - 1, file);
	text[len] = '\0';
	fclose(file);
	return text;
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static double
cpu(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
		(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void
die(const char *what)
{
	perror(what);
	exit(1);
}
