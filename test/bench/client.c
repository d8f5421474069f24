/*
 * client.c
 *		The user of the figures: runs statements over libpq and notes times.
 *
 * Build:	cc -O2 -Wall -I$(pg_config --includedir) -o client client.c -lpq -lcurl
 * Run:		client commits CONNINFO N PAUSE_US SQL
 *			client bare CONNINFO N PAUSE_US SQL URL TOKEN BODY.json
 *			client times CONNINFO
 *
 * commits runs N statements, each its own transaction, and prints for each
 *		n sent_us committed_us
 * in microseconds since 1970, so that they can be compared with those of another program on the
 * same machine. bare also posts a body to URL after each commit, over one connection that is kept
 * open, and adds the time before the post and the time of its answer. In SQL and in the body every
 * {n} becomes the number of the statement.
 *
 * times reads lines "COUNT FIRST SQL" from standard input, runs SQL that many times with {n} from
 * FIRST on, and answers with a line: the median and the mean of the microseconds of one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <libpq-fe.h>

static void die(const char *what, const char *why);
static void execute(PGconn *conn, const char *sql);
static void run_commits(PGconn *conn, int argc, char **argv);
static void run_times(PGconn *conn);
static CURL *prepare_post(const char *url, const char *token);
static void post(CURL *easy, const char *body);
static size_t on_body(char *data, size_t size, size_t n, void *userp);
static char *fill_in(const char *text, long n);
static char *read_file(const char *path);
static int	by_value(const void *a, const void *b);
static long long now_us(clockid_t clock);

int
main(int argc, char **argv)
{
	PGconn	   *conn;

	if (!(argc == 3 && strcmp(argv[1], "times") == 0) &&
		!(argc == 6 && strcmp(argv[1], "commits") == 0) &&
		!(argc == 9 && strcmp(argv[1], "bare") == 0))
	{
		fprintf(stderr, "usage: %s commits CONNINFO N PAUSE_US SQL\n"
				"       %s bare CONNINFO N PAUSE_US SQL URL TOKEN BODY.json\n"
				"       %s times CONNINFO\n", argv[0], argv[0], argv[0]);
		return 2;
	}
	conn = PQconnectdb(argv[2]);
	if (PQstatus(conn) != CONNECTION_OK)
		die("could not connect", PQerrorMessage(conn));
	if (argc == 3)
		run_times(conn);
	else
		run_commits(conn, argc, argv);
	PQfinish(conn);
	return 0;
}

static void
run_commits(PGconn *conn, int argc, char **argv)
{
	long		count = atol(argv[3]);
	CURL	   *easy = argc > 6 ? prepare_post(argv[6], argv[7]) : NULL;
	char	   *template = easy ? read_file(argv[8]) : NULL;

	for (long n = 1; n <= count; n++)
	{
		char	   *sql = fill_in(argv[5], n);
		char	   *body = easy ? fill_in(template, n) : NULL;
		long long	sent = now_us(CLOCK_REALTIME);
		long long	committed;

		execute(conn, sql);
		committed = now_us(CLOCK_REALTIME);
		if (easy)
		{
			post(easy, body);
			printf("%ld %lld %lld %lld\n", n, sent, committed, now_us(CLOCK_REALTIME));
		}
		else
			printf("%ld %lld %lld\n", n, sent, committed);
		free(sql);
		free(body);
		usleep(atoi(argv[4]));
	}
}

static void
run_times(PGconn *conn)
{
	char		line[8192];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin))
	{
		long		count;
		long		first;
		int			at;
		long long  *took;
		long long	sum = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%ld %ld %n", &count, &first, &at) < 2 || count < 1)
			die("no count and first number", line);
		took = malloc(count * sizeof(*took));
		if (took == NULL)
			die("out of memory", line);
		for (long i = 0; i < count; i++)
		{
			char	   *sql = fill_in(line + at, first + i);
			long long	begin = now_us(CLOCK_MONOTONIC);

			execute(conn, sql);
			took[i] = now_us(CLOCK_MONOTONIC) - begin;
			sum += took[i];
			free(sql);
		}
		qsort(took, count, sizeof(*took), by_value);
		printf("%lld %.1f\n", took[count / 2], (double) sum / count);
		free(took);
	}
}

/* Runs statements; an error ends the program. */
static void
execute(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		die(sql, PQerrorMessage(conn));
	PQclear(result);
}

static CURL *
prepare_post(const char *url, const char *token)
{
	CURL	   *easy = curl_easy_init();
	struct curl_slist *headers = NULL;
	char		line[512];

	snprintf(line, sizeof(line), "Authorization: Bearer %s", token);
	headers = curl_slist_append(headers, line);
	headers = curl_slist_append(headers, "Notion-Version: 2026-03-11");
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	if (easy == NULL || headers == NULL)
		die("out of memory", url);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	return easy;
}

/* Posts a body and waits for the answer; another status than 200 ends the program. */
static void
post(CURL *easy, const char *body)
{
	CURLcode	code;
	long		status = 0;

	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) strlen(body));
	code = curl_easy_perform(easy);
	if (code != CURLE_OK)
		die("could not post", curl_easy_strerror(code));
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		die("the post was refused", body);
}

static size_t
on_body(char *data, size_t size, size_t n, void *userp)
{
	return size * n;
}

/* Returns the text with every {n} replaced by the number. */
static char *
fill_in(const char *text, long n)
{
	size_t		places = 1;
	char	   *filled;
	char	   *to;

	for (const char *at = text; (at = strstr(at, "{n}")) != NULL; at += 3)
		places++;
	filled = to = malloc(strlen(text) + places * 20);
	if (filled == NULL)
		die("out of memory", text);
	while (*text)
	{
		if (strncmp(text, "{n}", 3) == 0)
		{
			to += sprintf(to, "%ld", n);
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
	static char text[65536];
	FILE	   *file = fopen(path, "rb");

	if (file == NULL)
		die("could not open", path);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return text;
}

static int
by_value(const void *a, const void *b)
{
	long long	x = *(const long long *) a;
	long long	y = *(const long long *) b;

	return x < y ? -1 : x > y;
}

static long long
now_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}
