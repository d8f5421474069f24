/*
 * verify.c
 *		See verify.h. Runs in job workers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "core/compat.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/json.h"
#include "backup/key.h"
#include "backup/tree.h"
#include "backup/verify.h"

/* Files of the root that say something about the sums, and so have none themselves. */
static const char *const loose[] = {"SHA256SUMS", "angles.json", "angles.sig"};

typedef struct Verify
{
	GitRepo    *repo;
	BackupVerified found;
} Verify;

/* A line of a SHA256SUMS. */
typedef struct Sum
{
	char		hex[ANGLES_SHA256_HEX];
	char	   *name;
} Sum;

static void check_manifest(Verify *verify, const GitOid *commit);
static void check_signature(Verify *verify, const GitOid *commit, Jsonb *manifest, Size len);
static void check_folder(Verify *verify, const char *path, const GitOid *id, const GitOid *than,
						 const char *sums_hex);
static void check_sum(Verify *verify, const char *path, GitTree *tree, GitTree *old, Sum *sum,
					  int *seen);
static bool next_sum(char **text, Sum *sum);
static GitTreeEntry *find(GitTree *tree, const char *name);
static GitTree *read_old(Verify *verify, const GitOid *than);
static char *join(const char *path, const char *name);
ANGLES_NORETURN static void damaged(const char *path, const char *what);

BackupVerified *
angles_verify(GitRepo *repo, const GitOid *commit, const GitOid *than)
{
	BackupVerified *found = palloc(sizeof(BackupVerified));
	Verify		verify = {.repo = repo};
	GitCommit  *head = angles_git_read_commit(repo, commit);
	GitCommit  *old = than ? angles_git_read_commit(repo, than) : NULL;
	Jsonb	   *manifest;
	char	   *problem;
	char	   *sums;
	MemoryContext cxt = CurrentMemoryContext;

	check_manifest(&verify, commit);
	/* names in it are converted to the encoding of the server, which takes a transaction */
	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	manifest = angles_json_parse(verify.found.manifest, strlen(verify.found.manifest), &problem);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	if (manifest == NULL)
		damaged("angles.json", "it is no JSON");
	sums = angles_json_get_text(&manifest->root, "sums");
	if (sums == NULL)
		damaged("angles.json", "it has no sum");
	check_signature(&verify, commit, manifest, strlen(verify.found.manifest));
	check_folder(&verify, "", &head->tree, old ? &old->tree : NULL, sums);
	*found = verify.found;
	return found;
}

char *
angles_verify_read(GitRepo *repo, const GitOid *commit, const char *name, Size *len)
{
	GitTreeEntry entry;
	size_t		bytes;
	char	   *text;

	if (!angles_git_lookup(repo, commit, name, &entry))
		return NULL;
	text = angles_git_read_blob(repo, &entry.id, &bytes);
	*len = bytes;
	return text;
}

/* ---- what the backup says about itself ---- */

static void
check_manifest(Verify *verify, const GitOid *commit)
{
	Size		len;

	verify->found.manifest = angles_verify_read(verify->repo, commit, "angles.json", &len);
	if (verify->found.manifest == NULL)
		damaged("angles.json", "it is not there");
	if (strlen(verify->found.manifest) != len)
		damaged("angles.json", "it is no text");
	verify->found.files++;
	verify->found.bytes += len;
}

static void
check_signature(Verify *verify, const GitOid *commit, Jsonb *manifest, Size len)
{
	const char *pinned = angles_guc_backup_public_key;
	char	   *signed_by = angles_json_get_text(&manifest->root, "signed_by");
	Size		signature_len;
	Size		pem_len;
	char	   *signature = angles_verify_read(verify->repo, commit, "angles.sig", &signature_len);
	char	   *pem = angles_verify_read(verify->repo, commit, "angles.pub", &pem_len);
	char	   *text = pem ? angles_key_text_of_pem(pem) : NULL;
	bool		is_pinned = pinned != NULL && *pinned != '\0';

	if (signature == NULL && signed_by == NULL && !is_pinned)
		return;
	if (signature == NULL)
		damaged("angles.sig", "it is not there");
	if (text == NULL)
		damaged("angles.pub", "it is no public key");
	if (is_pinned && strcmp(text, pinned) != 0)
		damaged("angles.pub", "it is not the key of angles.backup_public_key");
	if (!angles_key_verify(pem, verify->found.manifest, len, (unsigned char *) signature,
						   signature_len))
		damaged("angles.sig", "it is not the signature of angles.json");
	verify->found.signed_by = signed_by;
}

/* ---- files and their sums ---- */

/* Compares a folder with its SHA256SUMS, whose own sum is sums_hex. */
static void
check_folder(Verify *verify, const char *path, const GitOid *id, const GitOid *than,
			 const char *sums_hex)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "angles verify",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	GitTree    *tree = angles_git_read_tree(verify->repo, id);
	GitTree    *old = read_old(verify, than);
	GitTreeEntry *entry = find(tree, "SHA256SUMS");
	int		   *seen = palloc0(sizeof(int) * Max(tree->n, 1));
	char		hex[ANGLES_SHA256_HEX];
	char	   *text;
	size_t		len;
	Sum			sum;

	CHECK_FOR_INTERRUPTS();
	if (entry == NULL)
		damaged(join(path, "SHA256SUMS"), "it is not there");
	text = angles_git_read_blob(verify->repo, &entry->id, &len);
	angles_sha256_hex(text, len, hex);
	if (strcmp(hex, sums_hex) != 0)
		damaged(join(path, "SHA256SUMS"), "it has another sum than is said of it");
	verify->found.files++;
	verify->found.bytes += len;
	while (next_sum(&text, &sum))
		check_sum(verify, path, tree, old, &sum, seen);
	for (int i = 0; i < tree->n; i++)
	{
		bool		may_be = strcmp(tree->entries[i].name, loose[0]) == 0;

		for (int j = 1; *path == '\0' && j < (int) lengthof(loose); j++)
			may_be = may_be || strcmp(tree->entries[i].name, loose[j]) == 0;
		if (seen[i] == 0 && !may_be)
			damaged(join(path, tree->entries[i].name), "no sum is said of it");
		/* the entries of "data" and "config" have a line each; "schema" has sums of its own */
		if (*path == '\0' && tree->entries[i].mode == ANGLES_GIT_MODE_TREE)
		{
			GitTree    *below = angles_git_read_tree(verify->repo, &tree->entries[i].id);

			if (seen[i] != (find(below, "SHA256SUMS") != NULL ? 1 : below->n))
				damaged(tree->entries[i].name, "not all that is in it has a sum");
		}
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
}

/* One line: a file, or the SHA256SUMS of a folder one or two levels below. */
static void
check_sum(Verify *verify, const char *path, GitTree *tree, GitTree *old, Sum *sum, int *seen)
{
	char	   *slash = strchr(sum->name, '/');
	GitTreeEntry *entry;
	GitTreeEntry *before;
	char		hex[ANGLES_SHA256_HEX];
	char	   *data;
	size_t		len;

	if (slash != NULL)
		*slash = '\0';
	entry = find(tree, sum->name);
	before = old ? find(old, sum->name) : NULL;
	if (entry == NULL)
		damaged(join(path, sum->name), "it is not there");
	seen[entry - tree->entries]++;
	path = join(path, sum->name);
	if (slash != NULL && strcmp(slash + 1, "SHA256SUMS") == 0)
	{
		if (before == NULL || !angles_git_equal(&before->id, &entry->id))
			check_folder(verify, path, &entry->id, before ? &before->id : NULL, sum->hex);
		return;
	}
	if (slash != NULL)
	{
		GitTree    *below = angles_git_read_tree(verify->repo, &entry->id);
		int		   *ignored = palloc0(sizeof(int) * Max(below->n, 1));

		sum->name = slash + 1;
		check_sum(verify, path, below, read_old(verify, before ? &before->id : NULL), sum,
				  ignored);
		return;
	}
	if (before != NULL && angles_git_equal(&before->id, &entry->id))
		return;
	data = angles_git_read_blob(verify->repo, &entry->id, &len);
	angles_sha256_hex(data, len, hex);
	if (strcmp(hex, sum->hex) != 0)
		damaged(path, "it has another sum than is said of it");
	verify->found.files++;
	verify->found.bytes += len;
	pfree(data);
}

/* Takes a line "sum  name" off the text. */
static bool
next_sum(char **text, Sum *sum)
{
	char	   *line = *text;
	Size		len = strcspn(line, "\n");

	if (*line == '\0')
		return false;
	*text = line[len] == '\n' ? line + len + 1 : line + len;
	line[len] = '\0';
	if (len < ANGLES_SHA256_HEX + 2 || strncmp(line + ANGLES_SHA256_HEX - 1, "  ", 2) != 0)
		damaged("SHA256SUMS", "a line of it is none");
	strlcpy(sum->hex, line, ANGLES_SHA256_HEX);
	sum->name = line + ANGLES_SHA256_HEX + 1;
	return true;
}

static GitTreeEntry *
find(GitTree *tree, const char *name)
{
	for (int i = 0; i < tree->n; i++)
	{
		if (strcmp(tree->entries[i].name, name) == 0)
			return &tree->entries[i];
	}
	return NULL;
}

static GitTree *
read_old(Verify *verify, const GitOid *than)
{
	return than ? angles_git_read_tree(verify->repo, than) : NULL;
}

static char *
join(const char *path, const char *name)
{
	return *path ? psprintf("%s/%s", path, name) : pstrdup(name);
}

static void
damaged(const char *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_BACKUP_DAMAGED),
			 errmsg("the backup is damaged: %s: %s", path, what),
			 errhint("Restore from another backup or from a copy of the repository, and look at "
					 "the disk.")));
}
