/*
 * plan.c
 *		See plan.h. New commits by libgit2's walk; of their trees what the trees at the edge, where
 *		the remote's history begins, do not hold. Objects that stand whole in a pack of ours are
 *		sent as they lie there, deflated once for all time; others (loose, or deltas after somebody
 *		ran git gc) are deflated again into a temporary file.
 *
 * An object that the remote holds in an older snapshot only, and in none of its newest, is sent
 * once more: to know better would mean to read its whole history before each push.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "git/deflate.h"
#include "git/plan.h"

#include <zlib.h>

/* Tips of the remote whose trees are read: the newest. */
#define MOST_TIPS 32

/* For what is deflated anew. */
#define SPILL_LEVEL 6

typedef struct Planner
{
	GitRepo    *repo;
	SendPlan   *plan;
	OidTable   *known;			/* trees and blobs that the remote has */
	git_revwalk *walk;
	MemoryContextCallback on_reset;
	Deflater   *deflater;
	uint32		crc;
} Planner;

typedef struct Tip
{
	GitOid		id;
	int64		when;
} Tip;

static void free_walk(void *arg);
static bool commit_of(GitRepo *repo, const GitOid *id, GitOid *commit, int64 *when);
static Tip *usable_tips(GitRepo *repo, const GitOid *have, int n_have, int *n);
static int	newest_first(const void *a, const void *b);
static void walk_commits(Planner *planner, const GitOid *wanted, int n_wanted, const Tip *tips,
						 int n_tips);
static void add_edges(Planner *planner, const Tip *tips, int n_tips);
static void add_tree_of(Planner *planner, const GitOid *commit, bool known);
static void add_tree(Planner *planner, const GitOid *tree, bool known, int depth);
static void place_entries(Planner *planner);
static void spill(Planner *planner, const GitOid *id, PlanEntry *entry);
static void put_spilled(void *arg, const void *data, size_t len);

#define DEEPEST_TREE 200

SendPlan *
angles_plan_make(GitRepo *repo, const GitOid *wanted, int n_wanted, const GitOid *have, int n_have)
{
	Planner	   *planner = palloc0(sizeof(Planner));
	Tip		   *tips;
	int			n_tips;

	planner->repo = repo;
	planner->plan = palloc0(sizeof(SendPlan));
	planner->plan->ids = angles_oid_table();
	planner->known = angles_oid_table();
	planner->on_reset.func = free_walk;
	planner->on_reset.arg = planner;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &planner->on_reset);

	tips = usable_tips(repo, have, n_have, &n_tips);
	walk_commits(planner, wanted, n_wanted, tips, n_tips);
	free_walk(planner);
	add_edges(planner, tips, n_tips);
	for (int64 i = 0, n = angles_oid_count(planner->plan->ids); i < n; i++)
	{
		GitOid		id = *angles_oid_get(planner->plan->ids, i);

		add_tree_of(planner, &id, false);
	}
	place_entries(planner);
	return planner->plan;
}

static void
free_walk(void *arg)
{
	Planner    *planner = arg;

	git_revwalk_free(planner->walk);
	planner->walk = NULL;
}

/* ---------- commits ---------- */

/* Returns the remote's commits that are here, too; the newest first. */
static Tip *
usable_tips(GitRepo *repo, const GitOid *have, int n_have, int *n)
{
	Tip		   *tips = palloc_extended(Max(n_have, 1) * sizeof(Tip), MCXT_ALLOC_HUGE);

	*n = 0;
	for (int i = 0; i < n_have; i++)
	{
		if (commit_of(repo, &have[i], &tips[*n].id, &tips[*n].when))
			(*n)++;
	}
	qsort(tips, *n, sizeof(Tip), newest_first);
	return tips;
}

static bool
commit_of(GitRepo *repo, const GitOid *id, GitOid *commit, int64 *when)
{
	git_object *object = NULL;
	git_object *peeled = NULL;
	bool		found;

	CHECK_FOR_INTERRUPTS();
	if (!git_odb_exists_ext(repo->odb, as_git_oid(id), GIT_ODB_LOOKUP_NO_REFRESH))
		return false;
	found = git_object_lookup(&object, repo->repo, as_git_oid(id), GIT_OBJECT_ANY) == 0 &&
		git_object_peel(&peeled, object, GIT_OBJECT_COMMIT) == 0;
	if (found)
	{
		memcpy(commit->id, git_object_id(peeled)->id, GIT_OID_BYTES);
		*when = git_commit_time((git_commit *) peeled);
	}
	git_object_free(peeled);
	git_object_free(object);
	return found;
}

static int
newest_first(const void *a, const void *b)
{
	int64		left = ((const Tip *) a)->when;
	int64		right = ((const Tip *) b)->when;

	return left > right ? -1 : left < right;
}

/* Puts the commits that the remote lacks into the plan. */
static void
walk_commits(Planner *planner, const GitOid *wanted, int n_wanted, const Tip *tips, int n_tips)
{
	git_oid		id;
	bool		is_new;
	int			rc = git_revwalk_new(&planner->walk, planner->repo->repo);

	for (int i = 0; rc == 0 && i < n_wanted; i++)
		rc = git_revwalk_push(planner->walk, as_git_oid(&wanted[i]));
	for (int i = 0; rc == 0 && i < n_tips; i++)
	{
		CHECK_FOR_INTERRUPTS();
		rc = git_revwalk_hide(planner->walk, as_git_oid(&tips[i].id));
	}
	while (rc == 0 && (rc = git_revwalk_next(&id, planner->walk)) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		angles_oid_add(planner->plan->ids, as_our_oid(&id), &is_new);
	}
	if (rc != GIT_ITEROVER)
		angles_git_raise("could not read the history of the Git repository");
}

/*
 * Notes what the remote surely has: the trees of its newest tips, and of the commits that the new
 * ones are made on.
 */
static void
add_edges(Planner *planner, const Tip *tips, int n_tips)
{
	SendPlan   *plan = planner->plan;

	if (angles_oid_count(plan->ids) == 0)
		return;
	for (int i = 0; i < Min(n_tips, MOST_TIPS); i++)
		add_tree_of(planner, &tips[i].id, true);
	for (int64 i = 0, n = angles_oid_count(plan->ids); i < n; i++)
	{
		GitCommit  *commit = angles_git_read_commit(planner->repo,
													 angles_oid_get(plan->ids, i));

		for (int j = 0; j < commit->n_parents; j++)
		{
			if (angles_oid_find(plan->ids, &commit->parents[j]) < 0)
				add_tree_of(planner, &commit->parents[j], true);
		}
	}
}

/* ---------- trees and blobs ---------- */

static void
add_tree_of(Planner *planner, const GitOid *commit, bool known)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "angles commit",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(cxt);
	GitOid		tree = angles_git_read_commit(planner->repo, commit)->tree;

	MemoryContextSwitchTo(before);
	MemoryContextDelete(cxt);
	add_tree(planner, &tree, known, 0);
}

static void
add_tree(Planner *planner, const GitOid *id, bool known, int depth)
{
	OidTable   *into = known ? planner->known : planner->plan->ids;
	MemoryContext cxt;
	MemoryContext before;
	GitTree    *tree;
	bool		is_new;

	if (!known && angles_oid_find(planner->known, id) >= 0)
		return;
	angles_oid_add(into, id, &is_new);
	if (!is_new)
		return;
	if (depth > DEEPEST_TREE)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_GIT_OBJECT),
				 errmsg("trees within trees without end in the Git repository \"%s\"",
						planner->repo->path)));
	cxt = AllocSetContextCreate(CurrentMemoryContext, "angles tree", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(cxt);
	tree = angles_git_read_tree(planner->repo, id);
	MemoryContextSwitchTo(before);
	for (int i = 0; i < tree->n; i++)
	{
		const GitTreeEntry *entry = &tree->entries[i];

		if (entry->mode == MODE_SUBMODULE)
			continue;
		if (entry->mode == ANGLES_GIT_MODE_TREE)
			add_tree(planner, &entry->id, known, depth + 1);
		else if (known || angles_oid_find(planner->known, &entry->id) < 0)
			angles_oid_add(into, &entry->id, &is_new);
	}
	MemoryContextDelete(cxt);
}

/* Finds the packed bytes of each object. */
static void
place_entries(Planner *planner)
{
	SendPlan   *plan = planner->plan;

	plan->n = angles_oid_count(plan->ids);
	if (plan->n > PG_UINT32_MAX)
		elog(ERROR, "too many objects for a pack");
	plan->entries = palloc_extended(Max(plan->n, 1) * sizeof(PlanEntry), MCXT_ALLOC_HUGE);
	plan->pack_bytes = 12 + GIT_OID_BYTES;
	for (int64 i = 0; i < plan->n; i++)
	{
		const GitOid *id = angles_oid_get(plan->ids, i);
		PlanEntry  *entry = &plan->entries[i];
		PackPlace	place;

		CHECK_FOR_INTERRUPTS();
		if (angles_git_pack_find(planner->repo, id, &place) &&
			place.type >= ANGLES_GIT_COMMIT && place.type <= ANGLES_GIT_TAG)
		{
			entry->fd = place.fd;
			entry->crc = place.crc;
			entry->offset = place.offset;
			entry->length = place.length;
		}
		else
			spill(planner, id, entry);
		plan->pack_bytes += entry->length;
	}
	if (plan->spill != NULL)
		angles_git_file_flush(plan->spill);
}

static void
spill(Planner *planner, const GitOid *id, PlanEntry *entry)
{
	SendPlan   *plan = planner->plan;
	unsigned char header[PACK_HEADER_MAX];
	GitType		type;
	size_t		len;
	char	   *data = angles_git_read_any(planner->repo, id, &type, &len);

	if (plan->spill == NULL)
	{
		char	   *folder = psprintf("%s/objects/pack", planner->repo->path);

		plan->spill = angles_git_file_create(folder);
		planner->deflater = angles_deflate_open(SPILL_LEVEL);
		pfree(folder);
	}
	entry->fd = plan->spill->fd;
	entry->offset = plan->spill->written;
	planner->crc = crc32(0L, NULL, 0);
	put_spilled(planner, header, angles_git_entry_header(header, type, len));
	angles_deflate(planner->deflater, data, len, put_spilled, planner);
	entry->length = plan->spill->written - entry->offset;
	entry->crc = planner->crc;
	pfree(data);
}

static void
put_spilled(void *arg, const void *data, size_t len)
{
	Planner    *planner = arg;

	planner->crc = crc32(planner->crc, data, (uInt) len);
	angles_git_file_write(planner->plan->spill, data, len);
}
