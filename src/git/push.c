/*
 * push.c
 *		What every push does, whatever the way: check what is asked for, compare it with the
 *		remote's refs, and judge by the refs as they are afterwards. Runs in background workers.
 *
 *		refs ──▶ compare ──▶ nothing to do: OK │ lease lost │ not a fast-forward
 *		            └──▶ send ──▶ refs again ──▶ judge: OK only when they are ours
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "miscadmin.h"

#include "core/errors.h"
#include "git/push.h"

static void check_updates(GitRepo *repo, const GitRefUpdate *updates, int n);
static PushJob *new_job(GitRepo *repo, const GitRemote *remote);
static void note_ref(GitPushResult *result, const char *ref, const GitRef *found);
static const char *describe_id(const GitRef *ref);

GitPushResult *
angles_git_push(GitRepo *repo, const GitRemote *remote, const GitRefUpdate *updates, int n,
				GitProgressFunc progress, void *arg)
{
	PushJob    *job = new_job(repo, remote);
	char	   *folder = angles_push_folder(remote->url);

	Assert(MyBackendType != B_BG_WORKER || !IsTransactionState());
	job->updates = updates;
	job->n = n;
	job->progress = progress;
	job->progress_arg = arg;
	check_updates(repo, updates, n);
	if (folder != NULL)
		angles_push_into(job, folder);
	else
		angles_push_http(job);
	return job->result;
}

GitRef *
angles_git_remote_refs(const GitRemote *remote, int *n, GitPushResult **result)
{
	PushJob    *job = new_job(NULL, remote);
	char	   *folder = angles_push_folder(remote->url);
	Advert		advert;
	bool		good = folder != NULL ? angles_refs_of(job, folder, &advert) :
		angles_refs_http(job, &advert);

	*result = job->result;
	*n = good ? advert.n : 0;
	return good ? advert.refs : NULL;
}

static PushJob *
new_job(GitRepo *repo, const GitRemote *remote)
{
	PushJob    *job = palloc0(sizeof(PushJob));

	job->repo = repo;
	job->remote = remote;
	job->result = palloc0(sizeof(GitPushResult));
	job->result->retry_after_s = -1;
	job->result->message = "";
	job->result->hint = "";
	job->result->server_text = "";
	return job;
}

static void
check_updates(GitRepo *repo, const GitRefUpdate *updates, int n)
{
	if (n < 1)
		elog(ERROR, "a push of no refs");
	for (int i = 0; i < n; i++)
	{
		int			valid = 0;

		if (strncmp(updates[i].name, "refs/", 5) != 0 ||
			git_reference_name_is_valid(&valid, updates[i].name) < 0 || !valid)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_NAME),
					 errmsg("\"%s\" is not the name of a ref", updates[i].name)));
		for (int j = 0; j < i; j++)
		{
			if (strcmp(updates[i].name, updates[j].name) == 0)
				elog(ERROR, "the ref \"%s\" is pushed twice", updates[i].name);
		}
		/* raises the error that names the object when it is missing or no commit */
		if (!angles_git_is_zero(&updates[i].id))
			angles_git_read_commit(repo, &updates[i].id);
	}
}

/* ---------- before ---------- */

bool
angles_push_compare(PushJob *job, const Advert *advert, bool *todo)
{
	GitPushResult *result = job->result;
	bool		something = false;

	for (int i = 0; i < job->n; i++)
	{
		const GitRefUpdate *update = &job->updates[i];
		const GitRef *found = angles_wire_find(advert, update->name);
		GitOid		now = {{0}};

		if (found != NULL)
			now = found->id;
		todo[i] = !angles_git_equal(&now, &update->id);
		something |= todo[i];
		if (!todo[i])
			continue;
		if (!angles_git_equal(&now, &update->expected))
		{
			note_ref(result, update->name, found);
			angles_refusal_set(result, GIT_PUSH_LEASE_LOST,
							   psprintf("\"%s\" is %s", update->name, describe_id(found)));
			return false;
		}
		if (!update->rewrite && found != NULL && !angles_git_is_zero(&update->id) &&
			(!angles_git_exists(job->repo, &now) ||
			 !angles_git_is_ancestor(job->repo, &now, &update->id)))
		{
			note_ref(result, update->name, found);
			angles_refusal_set(result, GIT_PUSH_NON_FAST_FORWARD,
							   psprintf("\"%s\" is %s", update->name, describe_id(found)));
			return false;
		}
	}
	if (something)
		return true;
	/* an earlier push of ours, whose answer was lost, or another process */
	result->reconciled = true;
	angles_refusal_set(result, GIT_PUSH_OK, NULL);
	return false;
}

static void
note_ref(GitPushResult *result, const char *ref, const GitRef *found)
{
	result->ref = ref;
	memset(&result->remote_id, 0, sizeof(GitOid));
	if (found != NULL)
		result->remote_id = found->id;
}

static const char *
describe_id(const GitRef *ref)
{
	char		hex[GIT_OID_HEX + 1];

	return ref == NULL ? "not there" : psprintf("%s there", angles_git_hex(&ref->id, hex));
}

/* ---------- afterwards ---------- */

void
angles_push_judge(PushJob *job, const Advert *reread, bool said_ok)
{
	GitPushResult *result = job->result;
	const GitRefUpdate *moved = NULL;	/* neither what was there nor what we want */
	const GitRefUpdate *missing = NULL; /* not what we want */

	for (int i = 0; i < job->n; i++)
	{
		const GitRef *found = angles_wire_find(reread, job->updates[i].name);
		GitOid		now = {{0}};

		if (found != NULL)
			now = found->id;
		if (angles_git_equal(&now, &job->updates[i].id))
			continue;
		missing = missing != NULL ? missing : &job->updates[i];
		if (!angles_git_equal(&now, &job->updates[i].expected))
			moved = moved != NULL ? moved : &job->updates[i];
	}
	if (missing == NULL)
	{
		result->reconciled = !said_ok;
		result->n_paths = 0;
		angles_refusal_set(result, GIT_PUSH_OK, NULL);
		return;
	}
	if (moved != NULL)
	{
		const GitRef *found = angles_wire_find(reread, moved->name);

		note_ref(result, moved->name, found);
		/* a refusal for a reason of its own stays what it is */
		if (said_ok || result->code == GIT_PUSH_OK || result->code == GIT_PUSH_NETWORK ||
			result->code == GIT_PUSH_SERVER || result->code == GIT_PUSH_REJECTED ||
			result->code == GIT_PUSH_LEASE_LOST || result->code == GIT_PUSH_UNKNOWN)
			angles_refusal_set(result, GIT_PUSH_LEASE_LOST,
							   psprintf("\"%s\" is %s", moved->name, describe_id(found)));
		return;
	}
	if (result->ref == NULL)
		note_ref(result, missing->name, angles_wire_find(reread, missing->name));
	/* it said yes and did not do it, or does not show it yet */
	if (said_ok || result->code == GIT_PUSH_OK)
		angles_refusal_set(result, GIT_PUSH_UNKNOWN,
						   "the server reported success, and its refs have not moved");
}

/* ---------- addresses ---------- */

char *
angles_push_folder(const char *url)
{
	char	   *path;
	char	   *to;

	if (url[0] == '/')
		return pstrdup(url);
	if (pg_strncasecmp(url, "file://", 7) != 0)
		return NULL;
	url += 7;
	if (pg_strncasecmp(url, "localhost/", 10) == 0)
		url += 9;
	if (url[0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("the address of a folder must begin with file:///")));
	path = to = pstrdup(url);
	for (const char *from = url; *from != '\0'; from++)
	{
		if (from[0] == '%' && isxdigit((unsigned char) from[1]) &&
			isxdigit((unsigned char) from[2]))
		{
			char		digits[3] = {from[1], from[2], '\0'};

			*to++ = (char) strtol(digits, NULL, 16);
			from += 2;
		}
		else
			*to++ = *from;
	}
	*to = '\0';
	if (strlen(path) != (size_t) (to - path))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("the address of a folder holds a NUL")));
	return path;
}
