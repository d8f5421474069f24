/*
 * pushhttp.c
 *		Pushes over smart HTTP (gitprotocol-http), with room net. Runs in background workers, never
 *		in a transaction.
 *
 * The lease is twofold: the refs are compared before anything is sent, and the command carries the
 * old id, which the server compares under its lock. Whatever became of the command, the refs are
 * read again, and only they decide.
 */
#include "postgres.h"

#include "common/base64.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/compat.h"
#include "core/errors.h"
#include "core/secret.h"
#include "core/testhook.h"
#include "core/wait.h"
#include "git/plan.h"
#include "git/push.h"
#include "net/net.h"

#define DEFAULT_IDLE_MS 60000
#define DEFAULT_TOTAL_MS 3600000

/* A connection that stood idle for longer while the pack was planned is not used for it. */
#define OLD_CONNECTION_US INT64CONST(2000000)

/* How often progress is told. */
#define PROGRESS_MS 200

#define MOST_REDIRECTS 3
#define BASIC_USER "x-access-token"

typedef struct HttpPush
{
	PushJob    *job;
	MemoryContext cxt;			/* of the client; its end closes everything */
	AnglesNetClient *client;
	char	   *base;			/* address without a slash at its end */
	char	   *token;			/* or NULL */
	MemoryContextCallback on_reset;
	int64		idle_us;
	int64		end_us;			/* of the push as a whole */
} HttpPush;

static HttpPush *begin(PushJob *job);
static void forget_token(void *arg);
static void renew_client(HttpPush *push);
static AnglesNetAnswer *ask(HttpPush *push, AnglesNetRequest *request, int64 total);
static bool read_refs(HttpPush *push, Advert *advert);
static bool follow(HttpPush *push, const AnglesNetAnswer *answer, int hops);
static void say_moved(HttpPush *push, const char *location);
static void no_answer(HttpPush *push, const AnglesNetAnswer *answer);
static bool send_updates(HttpPush *push, const Advert *advert, const bool *todo);
static void settle(HttpPush *push, bool said_ok);
static SendPlan *make_plan(HttpPush *push, const Advert *advert, const bool *todo);
static char *make_commands(HttpPush *push, const Advert *advert, const bool *todo, size_t *len);
static bool send_pack(HttpPush *push, const Advert *advert, const SendPlan *plan,
					  const char *commands, size_t len);
static bool read_answer(HttpPush *push, const AnglesNetAnswer *answer, bool side_band);
static bool read_report(HttpPush *push, const Report *report);
static void keep_text(HttpPush *push, const char *text, size_t len);

void
angles_push_http(PushJob *job)
{
	HttpPush   *push = begin(job);
	MemoryContext before = MemoryContextSwitchTo(push->cxt);
	bool	   *todo = palloc0(job->n * sizeof(bool));
	Advert		advert;
	bool		said_ok;

	if (read_refs(push, &advert) && angles_push_compare(job, &advert, todo))
	{
		said_ok = send_updates(push, &advert, todo);
		ANGLES_KILL_POINT("git-push-after-post");
		if (job->result->sent)
			settle(push, said_ok);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(push->cxt);
}

/* Returns true when the server reported success for everything. */
static bool
send_updates(HttpPush *push, const Advert *advert, const bool *todo)
{
	int64		asked_us = angles_clock_mono_us();
	SendPlan   *plan = make_plan(push, advert, todo);
	size_t		len;
	char	   *commands = make_commands(push, advert, todo, &len);

	if (angles_clock_mono_us() - asked_us > OLD_CONNECTION_US)
		renew_client(push);
	ANGLES_KILL_POINT("git-push-before-post");
	return send_pack(push, advert, plan, commands, len);
}

/* Reads the refs again, and lets them decide. */
static void
settle(HttpPush *push, bool said_ok)
{
	GitPushResult *result = push->job->result;
	GitPushResult saved = *result;
	Advert		reread;
	const char *problem;

	/* time for this is beyond the limit: an unknown outcome is worse than a late one */
	push->end_us = Max(push->end_us, angles_clock_mono_us() + push->idle_us);
	if (read_refs(push, &reread))
	{
		*result = saved;
		angles_push_judge(push->job, &reread, said_ok);
		return;
	}
	problem = result->message;
	*result = saved;
	/* a refusal of the command itself needs no second look */
	if (said_ok || saved.code == GIT_PUSH_NETWORK || saved.code == GIT_PUSH_SERVER ||
		saved.code == GIT_PUSH_PROTOCOL)
		angles_refusal_set(result, GIT_PUSH_UNKNOWN, problem);
}

bool
angles_refs_http(PushJob *job, Advert *advert)
{
	HttpPush   *push = begin(job);
	bool		good = read_refs(push, advert);

	MemoryContextDelete(push->cxt);
	return good;
}

static HttpPush *
begin(PushJob *job)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "angles push",
											  ALLOCSET_DEFAULT_SIZES);
	HttpPush   *push = MemoryContextAllocZero(cxt, sizeof(HttpPush));
	const GitRemote *remote = job->remote;
	const char *source;
	MemoryContext before;

	push->job = job;
	push->cxt = cxt;
	push->on_reset.func = forget_token;
	push->on_reset.arg = push;
	MemoryContextRegisterResetCallback(cxt, &push->on_reset);
	before = MemoryContextSwitchTo(cxt);
	push->base = pstrdup(remote->url);
	while (strlen(push->base) > 0 && push->base[strlen(push->base) - 1] == '/')
		push->base[strlen(push->base) - 1] = '\0';
	push->token = angles_secret_github(remote->secret, &source);
	MemoryContextSwitchTo(before);
	push->idle_us = (int64) (remote->idle_timeout_ms > 0 ? remote->idle_timeout_ms :
							 DEFAULT_IDLE_MS) * 1000;
	push->end_us = angles_clock_mono_us() +
		(int64) (remote->total_timeout_ms > 0 ? remote->total_timeout_ms : DEFAULT_TOTAL_MS) * 1000;
	if (remote->secret != NULL && push->token == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NO_TOKEN),
				 errmsg("there is no token \"%s\" for the Git remote", remote->secret),
				 errhint("Put the token into a file of that name in angles.secrets_dir.")));
	renew_client(push);
	return push;
}

/* The context ends: what libcurl got is wiped by room net. */
static void
forget_token(void *arg)
{
	HttpPush   *push = arg;

	if (push->token != NULL)
		explicit_bzero(push->token, strlen(push->token));
}

static void
renew_client(HttpPush *push)
{
	if (push->client != NULL)
		angles_net_close(push->client);
	push->client = angles_net_open(push->cxt, 1);
}

/* ---------- one request ---------- */

/*
 * Returns the answer, or one that says that nothing moved for too long. "total": of the body, for
 * the progress, or 0.
 */
static AnglesNetAnswer *
ask(HttpPush *push, AnglesNetRequest *request, int64 total)
{
	PushJob    *job = push->job;
	int64		left_us = push->end_us - angles_clock_mono_us();
	int64		told = -1;
	int64		sent = 0;
	AnglesNetAnswer *answer;

	request->timeout_ms = (int) Max(1, left_us / 1000);
	request->raw = true;
	request->token = push->token;
	request->basic_user = push->token != NULL ? BASIC_USER : NULL;
	angles_net_start(push->client, request);
	for (;;)
	{
		int64		idle_left_us;
		long		wait_ms;

		angles_net_drive(push->client);
		answer = angles_net_take(push->client);
		if (answer != NULL)
			break;
		idle_left_us = angles_net_moved(push->client, &sent) + push->idle_us -
			angles_clock_mono_us();
		if (idle_left_us <= 0)
		{
			renew_client(push);
			answer = palloc0(sizeof(AnglesNetAnswer));
			answer->result = ANGLES_NET_UNKNOWN;
			answer->retry_after_s = -1;
			answer->body = "";
			snprintf(answer->problem, sizeof(answer->problem), "nothing moved for %lld s",
					 (long long) (push->idle_us / 1000000));
			break;
		}
		if (job->progress != NULL && total > 0 && sent != told)
		{
			job->progress(job->progress_arg, sent, total);
			told = sent;
		}
		wait_ms = angles_net_timeout(push->client);
		if (wait_ms < 0 || wait_ms > PROGRESS_MS)
			wait_ms = PROGRESS_MS;
		angles_wait(angles_net_fd(push->client), (long) Min(wait_ms, idle_left_us / 1000 + 1));
	}
	if (job->progress != NULL && total > 0 && answer->result == ANGLES_NET_ANSWERED)
		job->progress(job->progress_arg, total, total);
	return answer;
}

/* ---------- the refs ---------- */

static bool
read_refs(HttpPush *push, Advert *advert)
{
	GitPushResult *result = push->job->result;
	const char *problem;

	for (int hops = 0;; hops++)
	{
		char	   *url = psprintf("%s/info/refs?service=git-receive-pack", push->base);
		AnglesNetRequest request = {.method = "GET",.url = url};
		AnglesNetAnswer *answer;

		request.headers[0] = "Accept: application/x-git-receive-pack-advertisement";
		request.headers[1] = "Pragma: no-cache";
		answer = ask(push, &request, 0);
		if (answer->result != ANGLES_NET_ANSWERED)
		{
			no_answer(push, answer);
			return false;
		}
		if (answer->status >= 300 && answer->status < 400 && answer->location[0] != '\0')
		{
			if (follow(push, answer, hops))
				continue;
			return false;
		}
		if (answer->status != 200)
		{
			angles_refusal_status(result, answer->status, answer->body, answer->body_len,
								  answer->retry_after_s);
			keep_text(push, answer->body, answer->body_len);
			return false;
		}
		if (!angles_wire_advert(answer->body, answer->body_len, advert, &problem))
		{
			angles_refusal_set(result, GIT_PUSH_PROTOCOL, problem);
			keep_text(push, answer->body, answer->body_len);
			return false;
		}
		break;
	}
	if (advert->other_hash || !advert->report_status)
	{
		angles_refusal_set(result, GIT_PUSH_PROTOCOL, advert->other_hash ?
						   "the repository does not use SHA-1" :
						   "the server does not report what became of a push");
		return false;
	}
	return true;
}

/*
 * Takes up a new address when it is the same repository's, on the same server. The token goes
 * nowhere else.
 */
static bool
follow(HttpPush *push, const AnglesNetAnswer *answer, int hops)
{
	static const char suffix[] = "/info/refs?service=git-receive-pack";
	const char *location = answer->location;
	const char *path = strchr(strstr(push->base, "//") + 2, '/');
	size_t		origin_len = path != NULL ? (size_t) (path - push->base) : strlen(push->base);
	size_t		len;
	char	   *moved;

	/* an absolute path is one on the same server; "//" begins another server's name */
	if (location[0] == '/' && location[1] != '/')
		location = psprintf("%.*s%s", (int) origin_len, push->base, location);
	len = strlen(location);
	if (hops >= MOST_REDIRECTS || pg_strncasecmp(location, push->base, origin_len) != 0 ||
		location[origin_len] != '/' || len <= origin_len + strlen(suffix) ||
		strcmp(location + len - strlen(suffix), suffix) != 0)
	{
		push->job->result->http_status = answer->status;
		say_moved(push, location);
		return false;
	}
	moved = pnstrdup(location, len - strlen(suffix));
	push->base = MemoryContextStrdup(push->cxt, moved);
	push->job->result->moved_to =
		MemoryContextStrdup(GetMemoryChunkContext(push->job->result), moved);
	return true;
}

static void
say_moved(HttpPush *push, const char *location)
{
	GitPushResult *result = push->job->result;
	char	   *shown = pstrdup(location);

	/* a query may hold what is not for a log, a name before "@" is a password's */
	shown[strcspn(shown, "?#")] = '\0';
	if (strchr(shown, '@') != NULL)
		shown = pstrdup("an address with a password");
	angles_refusal_hide(shown, push->token);
	result->moved_to = MemoryContextStrdup(GetMemoryChunkContext(result), shown);
	angles_refusal_set(result, GIT_PUSH_REDIRECT, shown);
}

static void
no_answer(HttpPush *push, const AnglesNetAnswer *answer)
{
	char	   *problem = pstrdup(answer->problem);

	angles_refusal_hide(problem, push->token);
	if (answer->too_large)
		angles_refusal_set(push->job->result, GIT_PUSH_PROTOCOL, problem);
	else
		angles_refusal_set(push->job->result, GIT_PUSH_NETWORK, problem);
}

/* ---------- the pack ---------- */

/* Returns NULL when refs are only deleted: then there is no pack. */
static SendPlan *
make_plan(HttpPush *push, const Advert *advert, const bool *todo)
{
	PushJob    *job = push->job;
	GitOid	   *wanted = palloc(job->n * sizeof(GitOid));
	GitOid	   *have = palloc_extended((advert->n + advert->n_have + 1) * sizeof(GitOid),
									   MCXT_ALLOC_HUGE);
	int			n_wanted = 0;
	SendPlan   *plan;

	for (int i = 0; i < job->n; i++)
	{
		if (todo[i] && !angles_git_is_zero(&job->updates[i].id))
			wanted[n_wanted++] = job->updates[i].id;
	}
	if (n_wanted == 0)
		return NULL;
	for (int i = 0; i < advert->n; i++)
		have[i] = advert->refs[i].id;
	if (advert->n_have > 0)
		memcpy(have + advert->n, advert->have, advert->n_have * sizeof(GitOid));
	plan = angles_plan_make(job->repo, wanted, n_wanted, have, advert->n + advert->n_have);
	job->result->objects = plan->n;
	job->result->bytes = plan->pack_bytes;
	return plan;
}

static char *
make_commands(HttpPush *push, const Advert *advert, const bool *todo, size_t *len)
{
	PushJob    *job = push->job;
	StringInfoData commands;
	bool		first = true;

	initStringInfo(&commands);
	for (int i = 0; i < job->n; i++)
	{
		StringInfoData line;
		char		old_hex[GIT_OID_HEX + 1];
		char		new_hex[GIT_OID_HEX + 1];

		if (!todo[i])
			continue;
		initStringInfo(&line);
		appendStringInfo(&line, "%s %s %s", angles_git_hex(&job->updates[i].expected, old_hex),
						 angles_git_hex(&job->updates[i].id, new_hex), job->updates[i].name);
		if (first)
		{
			appendStringInfoChar(&line, '\0');
			appendStringInfo(&line, " %s%s%s agent=angles/" ANGLES_VERSION,
							 advert->report_status_v2 ? "report-status-v2" : "report-status",
							 advert->side_band ? " side-band-64k" : "",
							 advert->atomic ? " atomic" : "");
		}
		angles_pkt_put(&commands, line.data, line.len);
		pfree(line.data);
		first = false;
	}
	appendStringInfoString(&commands, "0000");
	*len = commands.len;
	return commands.data;
}

/* Returns true when the server reported success for everything. */
static bool
send_pack(HttpPush *push, const Advert *advert, const SendPlan *plan, const char *commands,
		  size_t len)
{
	PushJob    *job = push->job;
	PackStream *stream = angles_stream_open(plan, commands, len);
	AnglesNetSource source = {.len = angles_stream_length(stream),.read = angles_stream_read,
	.arg = stream};
	AnglesNetRequest request = {.method = "POST",.source = &source};
	AnglesNetAnswer *answer;

	request.url = psprintf("%s/git-receive-pack", push->base);
	request.headers[0] = "Content-Type: application/x-git-receive-pack-request";
	request.headers[1] = "Accept: application/x-git-receive-pack-result";
	answer = ask(push, &request, source.len);
	angles_stream_check(stream, job->repo);
	job->result->sent = answer->result != ANGLES_NET_NOT_SENT;
	if (answer->result != ANGLES_NET_ANSWERED)
	{
		no_answer(push, answer);
		return false;
	}
	return read_answer(push, answer, advert->side_band);
}

static bool
read_answer(HttpPush *push, const AnglesNetAnswer *answer, bool side_band)
{
	GitPushResult *result = push->job->result;
	Report		report;

	result->http_status = answer->status;
	if (answer->status >= 300 && answer->status < 400 && answer->location[0] != '\0')
	{
		say_moved(push, answer->location);
		return false;
	}
	if (answer->status != 200)
	{
		angles_refusal_status(result, answer->status, answer->body, answer->body_len,
							  answer->retry_after_s);
		keep_text(push, answer->body, answer->body_len);
		return false;
	}
	angles_wire_report(answer->body, answer->body_len, side_band, &report);
	keep_text(push, report.text, report.text_len);
	return read_report(push, &report);
}

static bool
read_report(HttpPush *push, const Report *report)
{
	PushJob    *job = push->job;
	GitPushResult *result = job->result;
	const RefReport *refused = NULL;
	bool		unpacked = report->unpack != NULL && strcmp(report->unpack, "ok") == 0;

	for (int i = 0; i < report->n; i++)
	{
		/* with "atomic" the others are refused for the sake of the one that has a reason */
		if (report->refs[i].refusal != NULL &&
			(refused == NULL || strstr(refused->refusal, "atomic") != NULL))
			refused = &report->refs[i];
	}
	for (int i = 0; refused != NULL && i < job->n; i++)
	{
		if (strcmp(job->updates[i].name, refused->name) == 0)
			result->ref = job->updates[i].name;
	}
	if (report->unpack != NULL && (!unpacked || refused != NULL))
	{
		char	   *reason = pstrdup(unpacked ? refused->refusal : report->unpack);

		angles_refusal_hide(reason, push->token);
		angles_refusal_read(result, report->text, report->text_len, reason, !unpacked);
		return false;
	}
	if (!report->complete || report->n == 0)
	{
		angles_refusal_set(result, report->fatal ? GIT_PUSH_REJECTED : GIT_PUSH_PROTOCOL,
						   report->fatal ? "the server broke off" : "its report is cut");
		return false;
	}
	return true;
}

/* Neither the token nor the form in which it was sent is in a text, whoever echoes it. */
static void
keep_text(HttpPush *push, const char *text, size_t len)
{
	angles_refusal_keep_text(push->job->result, text, len, push->token);
	if (push->token != NULL)
	{
		char	   *plain = psprintf("%s:%s", BASIC_USER, push->token);
		int			room = pg_b64_enc_len((int) strlen(plain)) + 1;
		char	   *encoded = palloc0(room);

		if (ANGLES_B64_ENCODE(plain, (int) strlen(plain), encoded, room - 1) > 0)
			angles_refusal_hide(push->job->result->server_text, encoded);
		explicit_bzero(plain, strlen(plain));
		explicit_bzero(encoded, room);
		pfree(plain);
		pfree(encoded);
	}
}
