/*
 * pack.c
 *		Writes packs: every object deflated once and streamed into a temporary file that becomes
 *		part of the repository as a whole or not at all (gitformat-pack, version 2).
 *
 * The number of objects stands at the begin of a pack and its checksum covers it, so the file is
 * read once more at the end. That pass also compares every object's bytes with the checksum taken
 * when they were made: what did not reach the file is found before anything is said to be done.
 */
#include "postgres.h"

#include <limits.h>

#include <openssl/evp.h>
#include <zlib.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "core/testhook.h"
#include "git/deflate.h"
#include "git/internal.h"

#define READ_BYTES (256 * 1024)
#define PACK_HEADER_BYTES 12
#define FIRST_ENTRIES 256

struct GitPack
{
	MemoryContext cxt;			/* a child of the caller's: all that the pack needs */
	GitRepo    *repo;
	char	   *folder;
	GitFile    *file;
	Deflater   *deflater;
	EVP_MD_CTX *sha1;
	MemoryContextCallback on_reset;
	OidTable   *ids;
	PackEntry  *entries;		/* as many as ids */
	int64		room;
	uint32		crc;			/* of the object that is being written */
	GitPackStats stats;
};

static void free_digest(void *arg);
static bool put_object(GitPack *pack, GitType type, const void *data, size_t len, GitOid *out);
static void object_id(GitPack *pack, GitType type, const void *data, size_t len, GitOid *out);
static void put_packed(void *arg, const void *data, size_t len);
static void check_tree(const GitTreeEntry *entries, int n);
static int	compare_tree_entries(const void *a, const void *b);
static bool means_dot_git(const char *name);
static void check_person(const GitSignature *who);
static void append_person(StringInfo text, const char *role, const GitSignature *who);
static void read_back(GitPack *pack, GitOid *checksum);

GitPack *
angles_git_pack_begin(GitRepo *repo, int level)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "angles pack",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(cxt);
	GitPack    *pack = palloc0(sizeof(GitPack));
	uint32		header[PACK_HEADER_BYTES / 4] = {0};

	Assert(level >= 0 && level <= 9);
	pack->cxt = cxt;
	pack->repo = repo;
	pack->folder = psprintf("%s/objects/pack", repo->path);
	pack->on_reset.func = free_digest;
	pack->on_reset.arg = pack;
	MemoryContextRegisterResetCallback(cxt, &pack->on_reset);
	pack->sha1 = EVP_MD_CTX_new();
	if (pack->sha1 == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	pack->deflater = angles_deflate_open(level);
	pack->ids = angles_oid_table();
	pack->room = FIRST_ENTRIES;
	pack->entries = palloc(pack->room * sizeof(PackEntry));
	pack->file = angles_git_file_create(pack->folder);
	angles_git_file_write(pack->file, header, sizeof(header));

	/* from here on look-ups do not read the folder again: most of them find nothing */
	if (git_odb_refresh(repo->odb) < 0)
		angles_git_raise("could not read the folder of objects of the Git repository");
	MemoryContextSwitchTo(before);
	return pack;
}

static void
free_digest(void *arg)
{
	GitPack    *pack = arg;

	EVP_MD_CTX_free(pack->sha1);
	pack->sha1 = NULL;
}

void
angles_git_pack_abort(GitPack *pack)
{
	/* its callbacks close and remove the file */
	MemoryContextDelete(pack->cxt);
}

int64
angles_git_pack_size(GitPack *pack)
{
	return pack->file->written;
}

/* ---------- objects ---------- */

bool
angles_git_pack_blob(GitPack *pack, const void *data, size_t len, GitOid *out)
{
	return put_object(pack, ANGLES_GIT_BLOB, data, len, out);
}

bool
angles_git_pack_tree(GitPack *pack, GitTreeEntry *entries, int n, GitOid *out)
{
	StringInfoData text;
	bool		is_new;

	qsort(entries, n, sizeof(GitTreeEntry), compare_tree_entries);
	check_tree(entries, n);
	initStringInfo(&text);
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(&text, "%o %s", entries[i].mode, entries[i].name);
		appendStringInfoChar(&text, '\0');
		appendBinaryStringInfo(&text, (const char *) entries[i].id.id, GIT_OID_BYTES);
	}
	is_new = put_object(pack, ANGLES_GIT_TREE, text.data, text.len, out);
	pfree(text.data);
	return is_new;
}

/* git compares bytes, and takes a folder's name as if it ended in "/". */
static int
compare_tree_entries(const void *a, const void *b)
{
	const GitTreeEntry *left = a;
	const GitTreeEntry *right = b;
	size_t		left_len = strlen(left->name);
	size_t		right_len = strlen(right->name);
	size_t		len = Min(left_len, right_len);
	int			result = memcmp(left->name, right->name, len);
	unsigned char left_next;
	unsigned char right_next;

	if (result != 0)
		return result;
	left_next = left->name[len];
	right_next = right->name[len];
	if (left_next == '\0' && left->mode == ANGLES_GIT_MODE_TREE)
		left_next = '/';
	if (right_next == '\0' && right->mode == ANGLES_GIT_MODE_TREE)
		right_next = '/';
	return (int) left_next - (int) right_next;
}

/* Refuses what git fsck --strict would. */
static void
check_tree(const GitTreeEntry *entries, int n)
{
	for (int i = 0; i < n; i++)
	{
		const char *name = entries[i].name;

		if (name[0] == '\0' || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
			strcmp(name, "..") == 0 || means_dot_git(name))
			ereport(ERROR,
					(errcode(ERRCODE_ANGLES_GIT),
					 errmsg("\"%s\" cannot be a name in a Git tree", name)));
		if (entries[i].mode != ANGLES_GIT_MODE_FILE && entries[i].mode != ANGLES_GIT_MODE_TREE &&
			entries[i].mode != ANGLES_GIT_MODE_PROGRAM)
			elog(ERROR, "mode %o is not one of ours", entries[i].mode);
		if (angles_git_is_zero(&entries[i].id))
			elog(ERROR, "the entry \"%s\" of a tree has no object", name);
		/*
		 * Names that begin alike stand together, so a double is among the followers that begin with
		 * this name; those in between ("a", "a-b", "a/") sort before "/".
		 */
		for (int j = i + 1; j < n && strncmp(entries[j].name, name, strlen(name)) == 0; j++)
		{
			if (strcmp(entries[j].name, name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_ANGLES_GIT),
						 errmsg("the name \"%s\" is twice in a Git tree", name)));
			if ((unsigned char) entries[j].name[strlen(name)] > '/')
				break;
		}
	}
}

/*
 * True for names that some file system takes for ".git" (fsck.c, is_hfs_dotgit and is_ntfs_dotgit):
 * in other case, with invisible characters, with dots, blanks or a stream's name behind it, and
 * "git~1".
 */
static bool
means_dot_git(const char *name)
{
	char		bare[5];
	int			len = 0;
	const unsigned char *c = (const unsigned char *) name;

	while (*c != '\0' && len < 4)
	{
		/* U+200C to 200F, 202A to 202E, 206A to 206F, FEFF */
		if ((c[0] == 0xe2 && c[1] == 0x80 && ((c[2] >= 0x8c && c[2] <= 0x8f) ||
											  (c[2] >= 0xaa && c[2] <= 0xae))) ||
			(c[0] == 0xe2 && c[1] == 0x81 && c[2] >= 0xaa && c[2] <= 0xaf) ||
			(c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf))
			c += 3;
		else
			bare[len++] = *c++;
	}
	bare[len] = '\0';
	if (pg_strcasecmp(bare, "git~") == 0)
		return c[0] == '1' && (c[1] == '\0' || c[1] == '.' || c[1] == ' ' || c[1] == ':');
	if (pg_strcasecmp(bare, ".git") != 0)
		return false;
	while (*c == ' ' || *c == '.' || (*c >= 0x80))
		c++;
	return *c == '\0' || *c == ':';
}

bool
angles_git_pack_commit(GitPack *pack, const GitCommitSpec *spec, GitOid *out)
{
	StringInfoData text;
	char		hex[GIT_OID_HEX + 1];
	bool		is_new;
	size_t		len = strlen(spec->message);

	check_person(&spec->author);
	check_person(&spec->committer);
	initStringInfo(&text);
	appendStringInfo(&text, "tree %s\n", angles_git_hex(&spec->tree, hex));
	for (int i = 0; i < spec->n_parents; i++)
		appendStringInfo(&text, "parent %s\n", angles_git_hex(&spec->parents[i], hex));
	append_person(&text, "author", &spec->author);
	append_person(&text, "committer", &spec->committer);
	appendStringInfo(&text, "\n%s%s", spec->message,
					 len == 0 || spec->message[len - 1] != '\n' ? "\n" : "");
	is_new = put_object(pack, ANGLES_GIT_COMMIT, text.data, text.len, out);
	pfree(text.data);
	return is_new;
}

static void
append_person(StringInfo text, const char *role, const GitSignature *who)
{
	int			offset = Abs(who->offset_min);

	appendStringInfo(text, "%s %s <%s> %lld %c%02d%02d\n", role, who->name, who->email,
					 (long long) who->when, who->offset_min < 0 ? '-' : '+', offset / 60,
					 offset % 60);
}

static void
check_person(const GitSignature *who)
{
	if (strpbrk(who->name, "<>\n") != NULL || strpbrk(who->email, "<>\n ") != NULL ||
		who->name[0] == '\0' || who->when < 0 || Abs(who->offset_min) >= 24 * 60)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_GIT),
				 errmsg("\"%s <%s>\" cannot be the author of a Git commit", who->name,
						who->email)));
}

static bool
put_object(GitPack *pack, GitType type, const void *data, size_t len, GitOid *out)
{
	unsigned char header[PACK_HEADER_MAX];
	PackEntry  *entry;
	bool		is_new;
	int64		number;

	CHECK_FOR_INTERRUPTS();
	object_id(pack, type, data, len, out);
	if (angles_oid_find(pack->ids, out) >= 0 ||
		git_odb_exists_ext(pack->repo->odb, as_git_oid(out), GIT_ODB_LOOKUP_NO_REFRESH))
	{
		pack->stats.reused++;
		return false;
	}
	if (angles_oid_count(pack->ids) == pack->room)
	{
		pack->entries = repalloc_huge(pack->entries, 2 * pack->room * sizeof(PackEntry));
		pack->room *= 2;
	}
	/* the id is added when all is written: after an error in between the pack is of no use */
	entry = &pack->entries[angles_oid_count(pack->ids)];
	entry->id = *out;
	entry->offset = pack->file->written;
	pack->crc = crc32(0L, NULL, 0);
	put_packed(pack, header, angles_git_entry_header(header, type, len));
	angles_deflate(pack->deflater, data, len, put_packed, pack);
	entry->crc = pack->crc;
	number = angles_oid_add(pack->ids, out, &is_new);
	Assert(is_new && entry == &pack->entries[number]);
	(void) number;
	pack->stats.raw_bytes += len;
	ANGLES_KILL_POINT("git-pack-object");
	return true;
}

static void
object_id(GitPack *pack, GitType type, const void *data, size_t len, GitOid *out)
{
	static const char *const names[] = {"", "commit", "tree", "blob", "tag"};
	char		header[32];
	int			header_len = snprintf(header, sizeof(header), "%s %zu", names[type], len) + 1;
	unsigned	out_len = sizeof(out->id);

	if (EVP_DigestInit_ex(pack->sha1, EVP_sha1(), NULL) != 1 ||
		EVP_DigestUpdate(pack->sha1, header, header_len) != 1 ||
		EVP_DigestUpdate(pack->sha1, data, len) != 1 ||
		EVP_DigestFinal_ex(pack->sha1, out->id, &out_len) != 1)
		elog(ERROR, "could not compute SHA-1");
}

static void
put_packed(void *arg, const void *data, size_t len)
{
	GitPack    *pack = arg;

	pack->crc = crc32(pack->crc, data, (uInt) len);
	angles_git_file_write(pack->file, data, len);
}

int
angles_git_entry_header(unsigned char *into, int type, uint64 size)
{
	int			n = 0;

	into[n] = (unsigned char) (type << 4 | (size & 15));
	size >>= 4;
	while (size > 0)
	{
		into[n++] |= 0x80;
		into[n] = size & 0x7f;
		size >>= 7;
	}
	return n + 1;
}

/* ---------- the end ---------- */

void
angles_git_pack_finish(GitPack *pack, GitPackStats *stats)
{
	MemoryContext before = MemoryContextSwitchTo(pack->cxt);
	GitRepo    *repo = pack->repo;

	pack->stats.objects = angles_oid_count(pack->ids);
	if (pack->stats.objects > 0)
	{
		GitOid		checksum;
		uint32		header[] = {pg_hton32(0x5041434b), pg_hton32(2),
		pg_hton32((uint32) pack->stats.objects)};
		GitFile    *index;

		angles_git_file_flush(pack->file);
		angles_git_file_write_at(pack->file, header, sizeof(header), 0);
		read_back(pack, &checksum);
		angles_git_file_write(pack->file, checksum.id, GIT_OID_BYTES);
		angles_git_file_flush(pack->file);
		pack->stats.pack_bytes = pack->file->written;
		ANGLES_KILL_POINT("git-pack-before-index");
		index = angles_git_index_write(pack->folder, pack->entries, pack->stats.objects,
									   &checksum);
		angles_git_pack_install(pack->folder, pack->file, index, &checksum, pack->stats.name);
		angles_git_packs_forget(repo);
		if (git_odb_refresh(repo->odb) < 0)
			angles_git_raise("could not read the folder of objects of the Git repository");
	}
	if (stats != NULL)
		*stats = pack->stats;
	MemoryContextSwitchTo(before);
	MemoryContextDelete(pack->cxt);
}

/* Computes the pack's checksum from the file, and compares each object's. */
static void
read_back(GitPack *pack, GitOid *checksum)
{
	unsigned char *buffer = palloc(READ_BYTES);
	int64		end = pack->file->written;
	int64		next = 0;		/* object whose end is not reached */
	int64		n = pack->stats.objects;
	unsigned	len = sizeof(checksum->id);
	uint32		crc = crc32(0L, NULL, 0);

	if (EVP_DigestInit_ex(pack->sha1, EVP_sha1(), NULL) != 1)
		elog(ERROR, "could not compute SHA-1");
	for (int64 at = 0; at < end;)
	{
		size_t		part = Min(READ_BYTES, end - at);
		size_t		used = at == 0 ? PACK_HEADER_BYTES : 0;

		CHECK_FOR_INTERRUPTS();
		if (!angles_git_fd_read(pack->file->fd, buffer, part, at))
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", pack->file->path)));
		if (EVP_DigestUpdate(pack->sha1, buffer, part) != 1)
			elog(ERROR, "could not compute SHA-1");
		while (used < part)
		{
			int64		object_end = next + 1 < n ? (int64) pack->entries[next + 1].offset : end;
			size_t		piece = Min(part - used, (size_t) (object_end - at - used));

			crc = crc32(crc, buffer + used, (uInt) piece);
			used += piece;
			if (at + (int64) used < object_end)
				continue;
			if (crc != pack->entries[next].crc)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("file \"%s\" does not hold what was written", pack->file->path),
						 errhint("Look at the disk and its log.")));
			next++;
			crc = crc32(0L, NULL, 0);
		}
		at += part;
	}
	if (EVP_DigestFinal_ex(pack->sha1, checksum->id, &len) != 1)
		elog(ERROR, "could not compute SHA-1");
	pfree(buffer);
}
