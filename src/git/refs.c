/*
 * refs.c
 *		Refs, by compare-and-swap, on disk when the function returns. libgit2 does the work; a lock
 *		of our own around it tells a living writer from a dead one's leftovers (lock.c).
 */
#include "postgres.h"

#include <errno.h>
#include <unistd.h>

#include "storage/fd.h"

#include "core/errors.h"
#include "core/testhook.h"
#include "git/internal.h"

static void check_name(const char *name);
static void raise_ref(GitRepo *repo, const char *what, const char *name) pg_attribute_noreturn();
static int	compare_refs(const void *a, const void *b);
static void sync_folder_of(GitRepo *repo, const char *name);

bool
angles_git_ref_read(GitRepo *repo, const char *name, GitOid *out)
{
	git_oid		id;
	int			rc = git_reference_name_to_id(&id, repo->repo, name);

	memset(out, 0, sizeof(*out));
	if (rc == GIT_ENOTFOUND)
		return false;
	if (rc < 0)
		raise_ref(repo, "read", name);
	memcpy(out->id, id.id, GIT_OID_BYTES);
	return true;
}

GitRef *
angles_git_ref_list(GitRepo *repo, const char *prefix, int *n)
{
	git_strarray names = {0};
	GitRef	   *refs;

	*n = 0;
	if (git_reference_list(&names, repo->repo) < 0)
		angles_git_raise("could not list the refs of the Git repository");
	refs = palloc_extended(Max(names.count, 1) * sizeof(GitRef), MCXT_ALLOC_NO_OOM);
	for (size_t i = 0; refs != NULL && i < names.count; i++)
	{
		git_oid		id;

		if (strncmp(names.strings[i], prefix, strlen(prefix)) != 0)
			continue;
		/* a damaged one is raised below, when libgit2's list is freed */
		if (git_reference_name_to_id(&id, repo->repo, names.strings[i]) == 0)
			memcpy(refs[*n].id.id, id.id, GIT_OID_BYTES);
		else
			memset(&refs[*n].id, 0, sizeof(GitOid));
		refs[*n].name = MemoryContextAllocExtended(CurrentMemoryContext,
												   strlen(names.strings[i]) + 1,
												   MCXT_ALLOC_NO_OOM);
		if (refs[*n].name == NULL)
			break;
		memcpy(refs[*n].name, names.strings[i], strlen(names.strings[i]) + 1);
		(*n)++;
	}
	git_strarray_dispose(&names);
	if (refs == NULL || (*n > 0 && refs[*n - 1].name == NULL))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	for (int i = 0; i < *n; i++)
	{
		GitOid		ignored;

		if (angles_git_is_zero(&refs[i].id))
			angles_git_ref_read(repo, refs[i].name, &ignored);
	}
	qsort(refs, *n, sizeof(GitRef), compare_refs);
	return refs;
}

static int
compare_refs(const void *a, const void *b)
{
	return strcmp(((const GitRef *) a)->name, ((const GitRef *) b)->name);
}

bool
angles_git_ref_update(GitRepo *repo, const char *name, const GitOid *id, const GitOid *expected)
{
	GitLock    *lock;
	git_reference *ref = NULL;
	int			rc;

	check_name(name);
	lock = angles_git_lock(repo, name);
	ANGLES_KILL_POINT("git-ref-noted");
	if (expected == NULL)
		rc = git_reference_create(&ref, repo->repo, name, as_git_oid(id), 1, NULL);
	else if (angles_git_is_zero(expected))
		rc = git_reference_create(&ref, repo->repo, name, as_git_oid(id), 0, NULL);
	else
		rc = git_reference_create_matching(&ref, repo->repo, name, as_git_oid(id), 1,
										   as_git_oid(expected), NULL);
	git_reference_free(ref);
	ANGLES_KILL_POINT("git-ref-moved");
	/* it has another value, exists already, or is gone */
	if (expected != NULL && (rc == GIT_EMODIFIED || rc == GIT_EEXISTS || rc == GIT_ENOTFOUND))
	{
		angles_git_unlock(lock);
		return false;
	}
	if (rc < 0)
		raise_ref(repo, "move", name);
	angles_git_unlock(lock);
	return true;
}

bool
angles_git_ref_delete(GitRepo *repo, const char *name, const GitOid *expected)
{
	GitLock    *lock;
	git_reference *ref = NULL;
	int			rc;

	check_name(name);
	lock = angles_git_lock(repo, name);
	rc = git_reference_lookup(&ref, repo->repo, name);
	if (rc == 0 && expected != NULL &&
		(git_reference_target(ref) == NULL ||
		 !angles_git_equal(as_our_oid(git_reference_target(ref)), expected)))
		rc = GIT_EMODIFIED;
	/* compares the value that was looked up once more, under its lock */
	if (rc == 0)
		rc = git_reference_delete(ref);
	git_reference_free(ref);
	if (rc == GIT_ENOTFOUND || rc == GIT_EMODIFIED)
	{
		angles_git_unlock(lock);
		return rc == GIT_ENOTFOUND && expected == NULL;
	}
	if (rc < 0)
		raise_ref(repo, "delete", name);
	sync_folder_of(repo, name);
	angles_git_unlock(lock);
	return true;
}

/* libgit2 flushes what it writes, but not the folder from which it removes. */
static void
sync_folder_of(GitRepo *repo, const char *name)
{
	char	   *folder = psprintf("%s/%s", repo->path, name);

	do
		get_parent_directory(folder);
	while (access(folder, F_OK) < 0 && strlen(folder) > strlen(repo->path));
	fsync_fname(folder, true);
	pfree(folder);
}

char *
angles_git_head_read(GitRepo *repo)
{
	git_reference *ref = NULL;
	const char *target;
	char	   *result;

	if (git_reference_lookup(&ref, repo->repo, "HEAD") < 0)
		raise_ref(repo, "read", "HEAD");
	target = git_reference_symbolic_target(ref);
	result = target == NULL ? NULL :
		MemoryContextAllocExtended(CurrentMemoryContext, strlen(target) + 1, MCXT_ALLOC_NO_OOM);
	if (result != NULL)
		memcpy(result, target, strlen(target) + 1);
	git_reference_free(ref);
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_GIT),
				 errmsg("HEAD of the Git repository \"%s\" names no branch", repo->path),
				 errhint("Run git symbolic-ref HEAD refs/heads/main there.")));
	return result;
}

void
angles_git_head_set(GitRepo *repo, const char *branch)
{
	GitLock    *lock;
	git_reference *ref = NULL;
	int			rc;

	check_name(branch);
	lock = angles_git_lock(repo, "refs/HEAD");
	rc = git_reference_symbolic_create(&ref, repo->repo, "HEAD", branch, 1, NULL);
	git_reference_free(ref);
	if (rc < 0)
		raise_ref(repo, "move", "HEAD");
	angles_git_unlock(lock);
}

static void
check_name(const char *name)
{
	int			valid = 0;

	if (strncmp(name, "refs/", 5) != 0 || git_reference_name_is_valid(&valid, name) < 0 || !valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not the name of a ref", name)));
}

static void
raise_ref(GitRepo *repo, const char *what, const char *name)
{
	char	   *reason = angles_git_last_problem();
	char	   *lock_file = psprintf("%s/%s.lock", repo->path, name);

	if (access(lock_file, F_OK) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not %s the ref \"%s\" of the Git repository \"%s\"", what, name,
						repo->path),
				 errdetail("Another program of git has locked it, or died while it had: \"%s\" "
						   "exists.", lock_file),
				 errhint("Remove that file when no git runs there.")));
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_GIT),
			 errmsg("could not %s the ref \"%s\" of the Git repository \"%s\"", what, name,
					repo->path),
			 errdetail("The words of libgit2: %s.", reason),
			 errhint("When the file \"%s/%s\" is damaged, remove it; the next backup makes it "
					 "anew.", repo->path, name)));
}
