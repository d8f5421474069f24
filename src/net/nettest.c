/*
 * nettest.c
 *		SQL functions for the tests of the room net; nothing at all without -DANGLES_TEST. Declared
 *		by test/net-peer/functions.sql. They run in a user's session, which no other code of this
 *		room does.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/guc.h"
#include "core/wait.h"
#include "net/net.h"

PG_FUNCTION_INFO_V1(angles_net_test_request);
PG_FUNCTION_INFO_V1(angles_net_test_upload);
PG_FUNCTION_INFO_V1(angles_net_test_count_fds);
PG_FUNCTION_INFO_V1(angles_net_test_threads_block_signals);
PG_FUNCTION_INFO_V1(angles_net_test_leak);
PG_FUNCTION_INFO_V1(angles_net_test_cpu_ms);

static AnglesNetClient *session_client = NULL;

static void look_at_threads(int *seen, int *open_to_signals);
static void start_many(AnglesNetClient *client, AnglesNetRequest *request, int *left, int width);
static void put_answer(ReturnSetInfo *rsinfo, const AnglesNetAnswer *answer);
static char *text_or_null(FunctionCallInfo fcinfo, int arg);

/*
 * angles_net_test_request(method, url, token, headers text[], body, n, width, keep): sends the
 * request n times, width at once, and returns the answers in the order of their arrival. With
 * "keep" the client and its connections stay for the next call.
 */
Datum
angles_net_test_request(PG_FUNCTION_ARGS)
{
	AnglesNetRequest request = {0};
	int			left = PG_GETARG_INT32(5);
	int			width = PG_GETARG_INT32(6);
	bool		keep = PG_GETARG_BOOL(7);
	AnglesNetClient *client = session_client;
	Datum	   *headers;
	int			n_headers = 0;

	request.method = text_or_null(fcinfo, 0);
	request.url = text_or_null(fcinfo, 1);
	request.token = text_or_null(fcinfo, 2);
	if (!PG_ARGISNULL(3))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT, &headers,
						  NULL, &n_headers);
	if (n_headers > (int) lengthof(request.headers))
		elog(ERROR, "too many headers");
	for (int i = 0; i < n_headers; i++)
		request.headers[i] = TextDatumGetCString(headers[i]);
	request.body = text_or_null(fcinfo, 4);
	request.body_len = request.body != NULL ? strlen(request.body) : 0;

	InitMaterializedSRF(fcinfo, 0);
	if (client == NULL)
		client = angles_net_open(keep ? TopMemoryContext : CurrentMemoryContext, width);
	session_client = keep ? client : NULL;

	while (left > 0 || angles_net_running(client) > 0)
	{
		AnglesNetAnswer *answer;

		start_many(client, &request, &left, width);
		angles_net_drive(client);
		while ((answer = angles_net_take(client)) != NULL)
			put_answer((ReturnSetInfo *) fcinfo->resultinfo, answer);
		if (angles_net_running(client) > 0)
			angles_wait(angles_net_fd(client), angles_net_timeout(client));
	}
	if (!keep)
		angles_net_close(client);
	return (Datum) 0;
}

static void
start_many(AnglesNetClient *client, AnglesNetRequest *request, int *left, int width)
{
	while (*left > 0 && angles_net_running(client) < width)
	{
		request->tag = (void *) (intptr_t) *left;
		angles_net_start(client, request);
		(*left)--;
	}
}

static void
put_answer(ReturnSetInfo *rsinfo, const AnglesNetAnswer *answer)
{
	static const char *const results[] = {"ANSWERED", "NOT_SENT", "UNKNOWN"};
	Datum		values[11];
	bool		nulls[11] = {false};

	values[0] = Int32GetDatum((int) (intptr_t) answer->tag);
	values[1] = CStringGetTextDatum(results[answer->result]);
	values[2] = Int32GetDatum(answer->status);
	values[3] = CStringGetTextDatum(answer->body);
	values[4] = BoolGetDatum(answer->too_large);
	values[5] = BoolGetDatum(answer->is_json);
	values[6] = Int32GetDatum(answer->retry_after_s);
	values[7] = TimestampTzGetDatum(answer->server_date);
	nulls[7] = answer->server_date == 0;
	values[8] = CStringGetTextDatum(answer->request_id);
	values[9] = CStringGetTextDatum(answer->problem);
	values[10] = Int64GetDatum(answer->done_us - answer->sent_us);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static char *
text_or_null(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* A body of one letter that ends, or fails, somewhere. */
typedef struct TestBody
{
	int64		at;
	int64		fails_at;		/* -1: never */
	int64		ends_at;
} TestBody;

static size_t
read_body(void *arg, char *into, size_t room)
{
	TestBody   *body = arg;
	size_t		n = (size_t) Min((int64) room, body->ends_at - body->at);

	if (body->fails_at >= 0 && body->at + (int64) n > body->fails_at)
		return ANGLES_NET_ABORT;
	memset(into, 'x', n);
	body->at += n;
	return n;
}

/*
 * angles_net_test_upload(url, token, user, length, fails_at, ends_at, timeout_ms): sends a body
 * from a source and returns "RESULT STATUS SENT LOCATION|PROBLEM|ANSWER".
 */
Datum
angles_net_test_upload(PG_FUNCTION_ARGS)
{
	TestBody	body = {0, PG_GETARG_INT64(4), PG_GETARG_INT64(5)};
	AnglesNetSource source = {PG_GETARG_INT64(3), read_body, &body};
	AnglesNetRequest request = {.method = "POST",.url = text_or_null(fcinfo, 0),
		.token = text_or_null(fcinfo, 1),.basic_user = text_or_null(fcinfo, 2),
		.source = &source,.timeout_ms = PG_GETARG_INT32(6),.raw = true
	};
	AnglesNetClient *client = angles_net_open(CurrentMemoryContext, 1);
	AnglesNetAnswer *answer;
	int64		sent = 0;

	angles_net_start(client, &request);
	for (;;)
	{
		angles_net_drive(client);
		answer = angles_net_take(client);
		if (answer != NULL)
			break;
		if (angles_net_moved(client, &sent) == 0 || sent != body.at)
			elog(ERROR, "%lld bytes are said to be sent", (long long) sent);
		angles_wait(angles_net_fd(client), angles_net_timeout(client));
	}
	angles_net_close(client);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d %d %lld %s|%s|%s", (int) answer->result,
											  answer->status, (long long) body.at,
											  answer->location, answer->problem, answer->body)));
}

/* Returns how many descriptors this process has open, "inherited by exec only" with true. */
Datum
angles_net_test_count_fds(PG_FUNCTION_ARGS)
{
	bool		only_inheritable = PG_GETARG_BOOL(0);
	DIR		   *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int			n = 0;

	if (dir == NULL)
		elog(ERROR, "could not open /proc/self/fd: %m");
	while ((entry = readdir(dir)) != NULL)
	{
		int			fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		if (!only_inheritable || !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
			n++;
	}
	closedir(dir);
	PG_RETURN_INT32(n);
}

/*
 * angles_net_test_threads_block_signals(url): starts a request whose host must be resolved, looks
 * at the other threads of this process a hundred times, and returns how many looks saw one, and how
 * many saw one that could have handled a signal that PostgreSQL uses.
 */
Datum
angles_net_test_threads_block_signals(PG_FUNCTION_ARGS)
{
	AnglesNetRequest request = {.method = "GET", .url = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	AnglesNetClient *client = angles_net_open(CurrentMemoryContext, 1);
	int			seen = 0;
	int			open_to_signals = 0;

	for (int i = 0; i < 100; i++)
	{
		if (angles_net_running(client) == 0)
		{
			while (angles_net_take(client) != NULL)
				;
			angles_net_start(client, &request);
		}
		angles_net_drive(client);
		look_at_threads(&seen, &open_to_signals);
		/* a new thread has all signals blocked for its first moment, whatever we did */
		angles_wait(PGINVALID_SOCKET, 1);
		look_at_threads(&seen, &open_to_signals);
	}
	angles_net_close(client);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d %d", seen, open_to_signals)));
}

static void
look_at_threads(int *seen, int *open_to_signals)
{
	const int	ours[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGQUIT};
	DIR		   *dir = opendir("/proc/self/task");
	struct dirent *entry;

	if (dir == NULL)
		elog(ERROR, "could not open /proc/self/task: %m");
	while ((entry = readdir(dir)) != NULL)
	{
		char		path[MAXPGPATH];
		char		line[256];
		FILE	   *file;

		if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == MyProcPid)
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		file = fopen(path, "r");
		while (file != NULL && fgets(line, sizeof(line), file))
		{
			if (strncmp(line, "SigBlk:", 7) == 0)
			{
				uint64		blocked = strtoull(line + 7, NULL, 16);
				bool		all = true;

				for (int i = 0; i < (int) lengthof(ours); i++)
					all &= ((blocked >> (ours[i] - 1)) & 1) != 0;
				(*seen)++;
				*open_to_signals += all ? 0 : 1;
			}
		}
		if (file != NULL)
			fclose(file);
	}
	closedir(dir);
}

/*
 * angles_net_test_leak(url): opens a client in a context of its own, starts a request and leaves
 * without closing anything, as an error would: the context's end must clean up.
 */
Datum
angles_net_test_leak(PG_FUNCTION_ARGS)
{
	AnglesNetRequest request = {.method = "POST", .url = text_to_cstring(PG_GETARG_TEXT_PP(0)),
	.body = "{}", .body_len = 2, .token = "ntn_leak"};
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "net test",
											  ALLOCSET_DEFAULT_SIZES);
	AnglesNetClient *client = angles_net_open(cxt, 4);

	for (int i = 0; i < 4; i++)
		angles_net_start(client, &request);
	angles_net_drive(client);
	MemoryContextDelete(cxt);
	PG_RETURN_VOID();
}

/* Returns the processor time that this process has used, in ms. */
Datum
angles_net_test_cpu_ms(PG_FUNCTION_ARGS)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	PG_RETURN_INT32((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
					(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000);
}

#endif							/* ANGLES_TEST */
