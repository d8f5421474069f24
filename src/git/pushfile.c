/*
 * pushfile.c
 *		Pushes into a bare repository in a folder of this machine, or of one that is mounted here,
 *		without starting a program: the pack is written beside the others as pack.c does it, the
 *		refs are moved by compare-and-swap.
 *
 * Hooks of that repository are not run. Several refs are moved one after the other: a crash in
 * between leaves the first ones moved, and the next push finds them so.
 */
#include "postgres.h"

#include <errno.h>
#include <sys/stat.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "core/testhook.h"
#include "git/plan.h"
#include "git/push.h"

#define COPY_BYTES (256 * 1024)

static GitRepo *open_remote(PushJob *job, const char *folder);
static void list_refs(GitRepo *repo, Advert *advert);
static void copy_objects(PushJob *job, GitRepo *to, const Advert *advert, const bool *todo);
static void write_pack(PushJob *job, GitRepo *to, const SendPlan *plan);
static bool move_refs(PushJob *job, GitRepo *to, const bool *todo);

void
angles_push_into(PushJob *job, const char *folder)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "angles push",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(cxt);
	GitRepo    *to = open_remote(job, folder);
	bool	   *todo = palloc0(job->n * sizeof(bool));
	Advert		advert;

	if (to != NULL)
	{
		list_refs(to, &advert);
		if (angles_push_compare(job, &advert, todo))
		{
			bool		moved;

			copy_objects(job, to, &advert, todo);
			ANGLES_KILL_POINT("git-push-copied");
			job->result->sent = true;
			moved = move_refs(job, to, todo);
			/* opened anew: nothing that was kept in memory speaks for the disk */
			angles_git_close(to);
			to = open_remote(job, folder);
			if (to != NULL)
			{
				list_refs(to, &advert);
				angles_push_judge(job, &advert, moved);
			}
		}
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(cxt);
}

bool
angles_refs_of(PushJob *job, const char *folder, Advert *advert)
{
	GitRepo    *repo = open_remote(job, folder);

	if (repo == NULL)
		return false;
	list_refs(repo, advert);
	angles_git_close(repo);
	return true;
}

/* Returns NULL, with the result filled, when there is no repository. */
static GitRepo *
open_remote(PushJob *job, const char *folder)
{
	GitRepo    *repo;
	char	   *problem = NULL;
	struct stat st;

	if (stat(folder, &st) < 0)
	{
		angles_refusal_set(job->result, GIT_PUSH_NOT_FOUND, strerror(errno));
		angles_refusal_hint(job->result,
							psprintf("Make it with git init --bare, as the server's user, or mount "
									 "what it is on: \"%s\".", folder));
		return NULL;
	}
	repo = angles_git_open_foreign(folder, &problem);
	if (repo == NULL)
	{
		angles_refusal_set(job->result, GIT_PUSH_PROTOCOL, problem);
		angles_refusal_hint(job->result,
							psprintf("\"%s\" must be a bare repository, made with git init --bare.",
									 folder));
	}
	return repo;
}

static void
list_refs(GitRepo *repo, Advert *advert)
{
	memset(advert, 0, sizeof(*advert));
	advert->refs = angles_git_ref_list(repo, "refs/", &advert->n);
}

static void
copy_objects(PushJob *job, GitRepo *to, const Advert *advert, const bool *todo)
{
	GitOid	   *wanted = palloc(job->n * sizeof(GitOid));
	GitOid	   *have = palloc_extended((advert->n + 1) * sizeof(GitOid), MCXT_ALLOC_HUGE);
	int			n_wanted = 0;
	SendPlan   *plan;

	for (int i = 0; i < job->n; i++)
	{
		if (todo[i] && !angles_git_is_zero(&job->updates[i].id))
			wanted[n_wanted++] = job->updates[i].id;
	}
	for (int i = 0; i < advert->n; i++)
		have[i] = advert->refs[i].id;
	if (n_wanted == 0)
		return;
	plan = angles_plan_make(job->repo, wanted, n_wanted, have, advert->n);
	job->result->objects = plan->n;
	job->result->bytes = plan->pack_bytes;
	if (plan->n > 0)
		write_pack(job, to, plan);
}

static void
write_pack(PushJob *job, GitRepo *to, const SendPlan *plan)
{
	char	   *folder = psprintf("%s/objects/pack", to->path);
	PackStream *stream = angles_stream_open(plan, "", 0);
	PackEntry  *entries = palloc_extended(plan->n * sizeof(PackEntry), MCXT_ALLOC_HUGE);
	char	   *buffer = palloc(COPY_BYTES);
	char		name[GIT_OID_HEX + 1];
	int64		at = 12;
	GitFile    *pack;
	size_t		n;

	angles_git_clean_packs(to->path);
	pack = angles_git_file_create(folder);
	while ((n = angles_stream_read(stream, buffer, COPY_BYTES)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		angles_stream_check(stream, job->repo);
		angles_git_file_write(pack, buffer, n);
		if (job->progress != NULL)
			job->progress(job->progress_arg, pack->written, plan->pack_bytes);
	}
	for (int64 i = 0; i < plan->n; i++)
	{
		entries[i].id = *angles_oid_get(plan->ids, i);
		entries[i].crc = plan->entries[i].crc;
		entries[i].offset = at;
		at += plan->entries[i].length;
	}
	angles_git_pack_install(folder, pack,
							angles_git_index_write(folder, entries, plan->n,
												   angles_stream_checksum(stream)),
							angles_stream_checksum(stream), name);
	if (git_odb_refresh(to->odb) < 0)
		angles_git_raise("could not read the folder of objects of the Git remote");
}

/* Returns true when all were moved. The first that was not is noted. */
static bool
move_refs(PushJob *job, GitRepo *to, const bool *todo)
{
	for (int i = 0; i < job->n; i++)
	{
		const GitRefUpdate *update = &job->updates[i];
		bool		moved;

		if (!todo[i])
			continue;
		if (!angles_git_is_zero(&update->id))
			moved = angles_git_ref_update(to, update->name, &update->id, &update->expected);
		else if (strcmp(angles_git_head_read(to), update->name) == 0)
		{
			/* as git would (receive.denyDeleteCurrent) */
			angles_refusal_set(job->result, GIT_PUSH_REJECTED,
							   "the branch that HEAD names is not deleted");
			return false;
		}
		else
			moved = angles_git_ref_delete(to, update->name, &update->expected);
		if (!moved)
			return false;
	}
	return true;
}
