/*
 * tree.c
 *		See tree.h. Runs in job workers.
 *
 * Sums stand at three levels, because one list of all chunks would be sent anew with each of them:
 * the root's lists those of tables, a table's those of its buckets, a bucket's its chunks.
 */
#include "postgres.h"

#include <openssl/sha.h>

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "backup/tree.h"

typedef struct Folder
{
	GitTreeEntry *entries;
	int			n;
	int			room;
	StringInfoData sums;
} Folder;

struct BackupTree
{
	GitPack    *pack;
	Folder		root;
	Folder		data;
	Folder		config;
	Folder		schema;
	Folder		definitions;	/* in it */
	Folder		table;
	Folder		bucket;
	const char *top;			/* of the present table */
	char	   *folder;
	char	   *bucket_name;	/* NULL: none yet */
	BackupTreeStats stats;
};

static void add_text(BackupTree *tree, Folder *folder, const char *name, int mode,
					 const char *text);
static void folder_begin(Folder *folder);
static void folder_add(Folder *folder, const char *name, int mode, const GitOid *id);
static void add_sum(Folder *folder, const char *hex, const char *path, const char *name);
static GitOid write_folder(BackupTree *tree, Folder *folder);
static GitOid close_folder(BackupTree *tree, Folder *folder, char sums[ANGLES_SHA256_HEX]);
static void close_bucket(BackupTree *tree);

void
angles_sha256_hex(const void *data, Size len, char hex[ANGLES_SHA256_HEX])
{
	uint8		digest[SHA256_DIGEST_LENGTH];

	SHA256(data, len, digest);
	for (int i = 0; i < SHA256_DIGEST_LENGTH; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

BackupTree *
angles_tree_begin(GitPack *pack)
{
	BackupTree *tree = palloc0(sizeof(BackupTree));

	tree->pack = pack;
	folder_begin(&tree->root);
	folder_begin(&tree->data);
	folder_begin(&tree->config);
	folder_begin(&tree->schema);
	folder_begin(&tree->definitions);
	folder_begin(&tree->table);
	folder_begin(&tree->bucket);
	return tree;
}

/* ---- tables ---- */

void
angles_tree_table(BackupTree *tree, const char *top, const char *folder)
{
	tree->top = top;
	tree->folder = pstrdup(folder);
}

void
angles_tree_chunk(BackupTree *tree, const char *label, bool new_bucket, const char *data, Size len)
{
	char	   *name = psprintf("%s.copy", label);
	char		hex[ANGLES_SHA256_HEX];
	GitOid		id;

	if (new_bucket || tree->bucket_name == NULL)
	{
		close_bucket(tree);
		tree->bucket_name = pstrdup(label);
	}
	/* labels that come up twice: nobody's rows may be lost to another's hash */
	for (int again = 2, i = 0; i < tree->bucket.n; i++)
	{
		if (strcmp(tree->bucket.entries[i].name, name) != 0)
			continue;
		name = psprintf("%s-%d.copy", label, again++);
		i = -1;
	}
	if (angles_git_pack_blob(tree->pack, data, len, &id))
		tree->stats.written++;
	else
		tree->stats.reused++;
	angles_sha256_hex(data, len, hex);
	folder_add(&tree->bucket, name, ANGLES_GIT_MODE_FILE, &id);
	add_sum(&tree->bucket, hex, "", name);
	pfree(name);
}

static void
close_bucket(BackupTree *tree)
{
	char		hex[ANGLES_SHA256_HEX];
	char	   *name = tree->bucket_name;
	GitOid		id;

	if (name == NULL)
		return;
	for (int again = 2, i = 0; i < tree->table.n; i++)
	{
		if (strcmp(tree->table.entries[i].name, name) != 0)
			continue;
		name = psprintf("%s-%d", tree->bucket_name, again++);
		i = -1;
	}
	id = close_folder(tree, &tree->bucket, hex);
	folder_add(&tree->table, name, ANGLES_GIT_MODE_TREE, &id);
	add_sum(&tree->table, hex, psprintf("%s/", name), "SHA256SUMS");
	tree->bucket_name = NULL;
}

void
angles_tree_table_file(BackupTree *tree, const char *name, const char *text)
{
	add_text(tree, &tree->table, name, ANGLES_GIT_MODE_FILE, text);
}

void
angles_tree_table_end(BackupTree *tree, char sums[ANGLES_SHA256_HEX])
{
	bool		is_data = strcmp(tree->top, "data") == 0;
	GitOid		id;

	close_bucket(tree);
	id = close_folder(tree, &tree->table, sums);
	folder_add(is_data ? &tree->data : &tree->config, tree->folder, ANGLES_GIT_MODE_TREE, &id);
	add_sum(&tree->root, sums, psprintf("%s/%s/", tree->top, tree->folder), "SHA256SUMS");
}

/* ---- definitions ---- */

void
angles_tree_schema(BackupTree *tree, bool table, const char *name, const char *text)
{
	add_text(tree, table ? &tree->definitions : &tree->schema, name, ANGLES_GIT_MODE_FILE, text);
}

void
angles_tree_schema_end(BackupTree *tree)
{
	char		hex[ANGLES_SHA256_HEX];
	GitOid		id;

	if (tree->definitions.n > 0)
	{
		id = close_folder(tree, &tree->definitions, hex);
		folder_add(&tree->schema, "tables", ANGLES_GIT_MODE_TREE, &id);
		add_sum(&tree->schema, hex, "tables/", "SHA256SUMS");
	}
	id = close_folder(tree, &tree->schema, hex);
	folder_add(&tree->root, "schema", ANGLES_GIT_MODE_TREE, &id);
	add_sum(&tree->root, hex, "schema/", "SHA256SUMS");
}

/* ---- the root ---- */

void
angles_tree_file(BackupTree *tree, const char *name, const char *text, bool program)
{
	add_text(tree, &tree->root, name, program ? ANGLES_GIT_MODE_PROGRAM : ANGLES_GIT_MODE_FILE,
			 text);
}

void
angles_tree_sums(BackupTree *tree, char sums[ANGLES_SHA256_HEX])
{
	angles_sha256_hex(tree->root.sums.data, tree->root.sums.len, sums);
	angles_tree_loose_file(tree, "SHA256SUMS", tree->root.sums.data, tree->root.sums.len);
}

void
angles_tree_loose_file(BackupTree *tree, const char *name, const void *data, Size len)
{
	GitOid		id;

	angles_git_pack_blob(tree->pack, data, len, &id);
	folder_add(&tree->root, name, ANGLES_GIT_MODE_FILE, &id);
}

GitOid
angles_tree_end(BackupTree *tree)
{
	GitOid		id;

	if (tree->data.n > 0)
	{
		id = write_folder(tree, &tree->data);
		folder_add(&tree->root, "data", ANGLES_GIT_MODE_TREE, &id);
	}
	if (tree->config.n > 0)
	{
		id = write_folder(tree, &tree->config);
		folder_add(&tree->root, "config", ANGLES_GIT_MODE_TREE, &id);
	}
	return write_folder(tree, &tree->root);
}

BackupTreeStats
angles_tree_stats(BackupTree *tree)
{
	return tree->stats;
}

/* ---- folders ---- */

/* Writes a file, and its sum. */
static void
add_text(BackupTree *tree, Folder *folder, const char *name, int mode, const char *text)
{
	char		hex[ANGLES_SHA256_HEX];
	GitOid		id;

	angles_git_pack_blob(tree->pack, text, strlen(text), &id);
	angles_sha256_hex(text, strlen(text), hex);
	folder_add(folder, name, mode, &id);
	add_sum(folder, hex, "", name);
}

static void
folder_begin(Folder *folder)
{
	folder->room = 64;
	folder->entries = palloc(sizeof(GitTreeEntry) * folder->room);
	initStringInfo(&folder->sums);
}

static void
folder_add(Folder *folder, const char *name, int mode, const GitOid *id)
{
	if (folder->n == folder->room)
	{
		folder->room *= 2;
		folder->entries = repalloc(folder->entries, sizeof(GitTreeEntry) * folder->room);
	}
	folder->entries[folder->n++] = (GitTreeEntry) {pstrdup(name), mode, *id};
}

/* As sha256sum writes it. Our names need none of its escapes. */
static void
add_sum(Folder *folder, const char *hex, const char *path, const char *name)
{
	appendStringInfo(&folder->sums, "%s  %s%s\n", hex, path, name);
}

/* Writes a folder as a tree and empties it. */
static GitOid
write_folder(BackupTree *tree, Folder *folder)
{
	GitOid		id;

	angles_git_pack_tree(tree->pack, folder->entries, folder->n, &id);
	for (int i = 0; i < folder->n; i++)
		pfree(unconstify(char *, folder->entries[i].name));
	folder->n = 0;
	resetStringInfo(&folder->sums);
	return id;
}

/* The same, with its sums in it. */
static GitOid
close_folder(BackupTree *tree, Folder *folder, char sums[ANGLES_SHA256_HEX])
{
	GitOid		id;

	angles_sha256_hex(folder->sums.data, folder->sums.len, sums);
	angles_git_pack_blob(tree->pack, folder->sums.data, folder->sums.len, &id);
	folder_add(folder, "SHA256SUMS", ANGLES_GIT_MODE_FILE, &id);
	return write_folder(tree, folder);
}
