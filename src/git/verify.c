/*
 * verify.c
 *		Reads and hashes everything that is reachable from some commits, and names what is damaged.
 *
 * Nothing is trusted: libgit2 has no cache here and computes the id of what it read. A damaged
 * object is noted and the rest goes on; what only a damaged tree leads to cannot be known.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "git/internal.h"

/* A repository with more damage than this is not better described by a longer list. */
#define MOST_DAMAGED 1000

typedef struct Verifier
{
	GitRepo    *repo;
	GitVerifyResult *result;
	MemoryContext cxt;			/* of the result */
	MemoryContext object_cxt;	/* reset for each object */
	OidTable   *seen;
	OidTable   *commits;
	bool		history;
	int			part;
	int			parts;
	int			room;
} Verifier;

static void verify_commit(Verifier *verifier, const GitOid *id);
static void verify_tree(Verifier *verifier, const GitOid *id, const char *path, int depth);
static char *read_checked(Verifier *verifier, const GitOid *id, const char *path, GitType wanted,
						  size_t *len);
static bool is_this_part(const Verifier *verifier, const GitOid *id);
static void damaged(Verifier *verifier, const GitOid *id, const char *path, const char *problem);

#define DEEPEST_TREE 200

GitVerifyResult *
angles_git_verify(GitRepo *repo, const GitOid *commits, int n, bool history, int part, int parts)
{
	Verifier	verifier = {.repo = repo,.history = history,.part = part,.parts = Max(parts, 1)};
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "angles verify",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext before;
	bool		is_new;

	verifier.cxt = CurrentMemoryContext;
	verifier.result = palloc0(sizeof(GitVerifyResult));
	before = MemoryContextSwitchTo(work);
	verifier.seen = angles_oid_table();
	verifier.commits = angles_oid_table();
	verifier.object_cxt = AllocSetContextCreate(work, "angles object", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < n; i++)
		angles_oid_add(verifier.commits, &commits[i], &is_new);
	/* grows while parents are found */
	for (int64 i = 0; i < angles_oid_count(verifier.commits); i++)
	{
		GitOid		id = *angles_oid_get(verifier.commits, i);

		verify_commit(&verifier, &id);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(work);
	return verifier.result;
}

static void
verify_commit(Verifier *verifier, const GitOid *id)
{
	size_t		len;
	char	   *data = read_checked(verifier, id, "", ANGLES_GIT_COMMIT, &len);
	MemoryContext before;
	GitCommit  *commit;
	const char *problem = NULL;
	GitOid		tree;
	bool		is_new;

	if (data == NULL)
		return;
	before = MemoryContextSwitchTo(verifier->object_cxt);
	commit = angles_git_parse_commit(data, len, &problem);
	MemoryContextSwitchTo(before);
	if (commit == NULL)
	{
		damaged(verifier, id, "", problem);
		return;
	}
	for (int i = 0; verifier->history && i < commit->n_parents; i++)
		angles_oid_add(verifier->commits, &commit->parents[i], &is_new);
	tree = commit->tree;
	verify_tree(verifier, &tree, "", 0);
}

static void
verify_tree(Verifier *verifier, const GitOid *id, const char *path, int depth)
{
	size_t		len;
	char	   *data;
	bool		is_new;
	MemoryContext cxt;
	MemoryContext before;
	GitTree    *tree;
	const char *problem = NULL;

	angles_oid_add(verifier->seen, id, &is_new);
	if (!is_new)
		return;
	data = read_checked(verifier, id, path, ANGLES_GIT_TREE, &len);
	if (data == NULL)
		return;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "angles tree", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(cxt);
	/* the context of one object is used again below */
	data = memcpy(palloc_extended(Max(len, 1), MCXT_ALLOC_HUGE), data, len);
	tree = angles_git_parse_tree(data, len, &problem);
	MemoryContextSwitchTo(before);
	if (tree == NULL || depth > DEEPEST_TREE)
		damaged(verifier, id, path, tree == NULL ? problem : "trees within trees without end");
	for (int i = 0; tree != NULL && depth <= DEEPEST_TREE && i < tree->n; i++)
	{
		const GitTreeEntry *entry = &tree->entries[i];
		char	   *inside = psprintf("%s%s%s", path, path[0] != '\0' ? "/" : "", entry->name);

		if (entry->mode == ANGLES_GIT_MODE_TREE)
			verify_tree(verifier, &entry->id, inside, depth + 1);
		else if (entry->mode != MODE_SUBMODULE && is_this_part(verifier, &entry->id))
		{
			angles_oid_add(verifier->seen, &entry->id, &is_new);
			if (is_new)
				read_checked(verifier, &entry->id, inside, ANGLES_GIT_BLOB, &len);
		}
		pfree(inside);
	}
	MemoryContextDelete(cxt);
}

/* Returns an object that lives until the next one is read, or NULL when it is damaged. */
static char *
read_checked(Verifier *verifier, const GitOid *id, const char *path, GitType wanted, size_t *len)
{
	git_odb_object *object = NULL;
	char	   *data = NULL;
	const char *problem = NULL;
	int			rc;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(verifier->object_cxt);
	verifier->result->objects++;
	rc = git_odb_read(&object, verifier->repo->odb, as_git_oid(id));
	if (rc < 0)
	{
		damaged(verifier, id, path, rc == GIT_ENOTFOUND ? "it is missing" :
				angles_git_last_problem());
		return NULL;
	}
	*len = git_odb_object_size(object);
	verifier->result->bytes += *len;
	if ((GitType) git_odb_object_type(object) != wanted)
		problem = "it is of another type than what names it says";
	else if (wanted != ANGLES_GIT_BLOB)
	{
		data = MemoryContextAllocExtended(verifier->object_cxt, *len + 1,
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (data != NULL)
		{
			memcpy(data, git_odb_object_data(object), *len);
			data[*len] = '\0';
		}
		else
			problem = "there is not enough memory to read it";
	}
	git_odb_object_free(object);
	if (problem != NULL)
		damaged(verifier, id, path, problem);
	return problem == NULL ? data : NULL;
}

static bool
is_this_part(const Verifier *verifier, const GitOid *id)
{
	uint32		number;

	memcpy(&number, id->id, sizeof(number));
	return pg_ntoh32(number) % (uint32) verifier->parts == (uint32) verifier->part;
}

static void
damaged(Verifier *verifier, const GitOid *id, const char *path, const char *problem)
{
	GitVerifyResult *result = verifier->result;
	MemoryContext before = MemoryContextSwitchTo(verifier->cxt);

	if (result->n_damaged == verifier->room && verifier->room < MOST_DAMAGED)
	{
		verifier->room = Max(16, Min(MOST_DAMAGED, verifier->room * 2));
		result->damaged = result->damaged == NULL ?
			palloc(verifier->room * sizeof(GitDamage)) :
			repalloc(result->damaged, verifier->room * sizeof(GitDamage));
	}
	if (result->n_damaged < verifier->room)
	{
		GitDamage  *damage = &result->damaged[result->n_damaged++];

		damage->id = *id;
		damage->path = pstrdup(path);
		damage->problem = pstrdup(problem);
	}
	MemoryContextSwitchTo(before);
}
