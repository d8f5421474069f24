/*
 * packfile.c
 *		Where objects lie in the packs of a repository, so that a push can copy their deflated
 *		bytes. libgit2 does not tell.
 *
 * Reads indexes of version 2 into memory when a push begins; packs stay open until the repository
 * is closed.
 *
 * And whether libgit2 may see them at all: it maps indexes into memory and believes them (1.5.1
 * ends the process with a segmentation fault on one that is all ones). So each is hashed when a
 * repository is opened, and one that does not have its own checksum is an error that names it.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "git/internal.h"

#define FANOUT_BYTES (256 * 4)
#define INDEX_HEADER_BYTES 8
#define CHECKSUM_BYTES 20

/* An index is read in pieces of this size to be checked. */
#define CHECK_BYTES (64 * 1024)

/* An index with more objects is not for this room. */
#define MOST_OBJECTS 100000000

typedef struct PackFile
{
	int			fd;				/* -1: not opened yet */
	char	   *path;
	unsigned char *index;		/* the whole file */
	int64		index_size;
	uint32		n;
	int64		pack_end;		/* where the checksum begins */
	uint64	   *sorted;			/* offsets in order, made at the first look-up that finds */
} PackFile;

struct PackSet
{
	MemoryContext cxt;
	int			n;
	PackFile   *files;
};

static const char *check_index(const char *path);
static const char *check_index_fd(int fd, int64 size, EVP_MD_CTX *sha1, unsigned char *buffer,
								  GitOid *pack_checksum, uint32 *n);
static const char *check_pack(const char *index_path, const GitOid *checksum, uint32 n);
static bool fanout_is_sorted(const unsigned char *fanout);
static PackSet *load(GitRepo *repo);
static bool load_index(PackFile *file, const char *path);
static uint32 read32(const unsigned char *from);
static bool search(const PackFile *file, const GitOid *id, uint32 *number);
static bool offset_of(const PackFile *file, uint32 number, uint64 *offset);
static bool open_pack(PackFile *file);
static int64 end_of(const PackFile *file, uint64 offset);
static int	compare_offsets(const void *a, const void *b);
static bool read_header(const PackFile *file, PackPlace *place);

bool
angles_git_pack_find(GitRepo *repo, const GitOid *id, PackPlace *place)
{
	if (repo->packs == NULL)
		repo->packs = load(repo);
	for (int i = 0; i < repo->packs->n; i++)
	{
		PackFile   *file = &repo->packs->files[i];
		MemoryContext before;
		uint32		number;
		uint64		offset;
		bool		opened;

		if (!search(file, id, &number) || !offset_of(file, number, &offset))
			continue;
		before = MemoryContextSwitchTo(repo->packs->cxt);
		opened = file->fd >= 0 || open_pack(file);
		MemoryContextSwitchTo(before);
		if (!opened || offset < 12 || (int64) offset >= file->pack_end)
			continue;
		place->fd = file->fd;
		place->offset = (int64) offset;
		place->length = end_of(file, offset) - (int64) offset;
		place->crc = read32(file->index + INDEX_HEADER_BYTES + FANOUT_BYTES +
							(size_t) file->n * GIT_OID_BYTES + (size_t) number * 4);
		if (read_header(file, place))
			return true;
	}
	return false;
}

void
angles_git_packs_forget(GitRepo *repo)
{
	if (repo->packs == NULL)
		return;
	for (int i = 0; i < repo->packs->n; i++)
	{
		if (repo->packs->files[i].fd >= 0)
			angles_git_fd_close(repo->packs->files[i].fd);
	}
	MemoryContextDelete(repo->packs->cxt);
	repo->packs = NULL;
}

/* ---------- whether libgit2 may see them ---------- */

void
angles_git_check_packs(const char *repo_path)
{
	char	   *folder = psprintf("%s/objects/pack", repo_path);
	DIR		   *dir = AllocateDir(folder);
	struct dirent *entry;

	while ((dir != NULL || errno != ENOENT) && (entry = ReadDir(dir, folder)) != NULL)
	{
		size_t		len = strlen(entry->d_name);
		char	   *path;
		const char *problem;

		CHECK_FOR_INTERRUPTS();
		if (len < 4 || strcmp(entry->d_name + len - 4, ".idx") != 0)
			continue;
		path = psprintf("%s/%s", folder, entry->d_name);
		problem = check_index(path);
		if (problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ANGLES_GIT_OBJECT),
					 errmsg("the index \"%s\" or its pack is damaged", path),
					 errdetail("The reason: %s.", problem),
					 errhint("Run git index-pack on the pack to make the index anew, or move the "
							 "repository away: the next backup makes a new one.")));
		pfree(path);
	}
	if (dir != NULL)
		FreeDir(dir);
	pfree(folder);
}

/* Returns what is wrong with an index, or NULL. */
static const char *
check_index(const char *path)
{
	int			fd = angles_git_fd_open(path, O_RDONLY);
	unsigned char *buffer = palloc(CHECK_BYTES);
	EVP_MD_CTX *sha1 = EVP_MD_CTX_new();
	GitOid		pack_checksum;
	uint32		n = 0;
	struct stat st;
	const char *problem;

	if (fd < 0 || fstat(fd, &st) < 0 || sha1 == NULL)
		problem = "it cannot be read";
	else
		problem = check_index_fd(fd, st.st_size, sha1, buffer, &pack_checksum, &n);
	EVP_MD_CTX_free(sha1);
	if (fd >= 0)
		angles_git_fd_close(fd);
	pfree(buffer);
	return problem != NULL ? problem : check_pack(path, &pack_checksum, n);
}

/* Raises no error: the caller holds what would leak. */
static const char *
check_index_fd(int fd, int64 size, EVP_MD_CTX *sha1, unsigned char *buffer, GitOid *pack_checksum,
			   uint32 *n)
{
	int64		end = size - CHECKSUM_BYTES;
	int64		least;
	GitOid		computed;
	GitOid		noted;
	unsigned	len = sizeof(computed.id);

	if (end < INDEX_HEADER_BYTES + FANOUT_BYTES + CHECKSUM_BYTES)
		return "it is cut";
	if (!angles_git_fd_read(fd, buffer, INDEX_HEADER_BYTES + FANOUT_BYTES, 0))
		return "it cannot be read";
	if (memcmp(buffer, "\377tOc\0\0\0\2", INDEX_HEADER_BYTES) != 0)
		return "it is no index of version 2";
	*n = read32(buffer + INDEX_HEADER_BYTES + 4 * 255);
	least = INDEX_HEADER_BYTES + FANOUT_BYTES + (int64) *n * 28 + CHECKSUM_BYTES;
	if (!fanout_is_sorted(buffer + INDEX_HEADER_BYTES) || end < least ||
		end > least + (int64) *n * 8)
		return "its parts do not fit its size";

	EVP_DigestInit_ex(sha1, EVP_sha1(), NULL);
	for (int64 at = 0; at < end; at += CHECK_BYTES)
	{
		size_t		part = (size_t) Min((int64) CHECK_BYTES, end - at);

		if (!angles_git_fd_read(fd, buffer, part, at))
			return "it cannot be read";
		EVP_DigestUpdate(sha1, buffer, part);
	}
	EVP_DigestFinal_ex(sha1, computed.id, &len);
	if (!angles_git_fd_read(fd, noted.id, CHECKSUM_BYTES, end) ||
		!angles_git_fd_read(fd, pack_checksum->id, CHECKSUM_BYTES, end - CHECKSUM_BYTES))
		return "it cannot be read";
	return angles_git_equal(&computed, &noted) ? NULL : "its checksum is another";
}

/* The begin and the end of a pack: its objects are checked when they are read. */
static const char *
check_pack(const char *index_path, const GitOid *checksum, uint32 n)
{
	char	   *path = psprintf("%.*s.pack", (int) strlen(index_path) - 4, index_path);
	int			fd = angles_git_fd_open(path, O_RDONLY);
	unsigned char header[12];
	GitOid		end;
	struct stat st;
	const char *problem = NULL;

	pfree(path);
	if (fd < 0)
		return "the pack is missing or cannot be opened";
	if (fstat(fd, &st) < 0 || st.st_size < (off_t) sizeof(header) + CHECKSUM_BYTES ||
		!angles_git_fd_read(fd, header, sizeof(header), 0) ||
		!angles_git_fd_read(fd, end.id, CHECKSUM_BYTES, st.st_size - CHECKSUM_BYTES))
		problem = "the pack is cut or cannot be read";
	else if (memcmp(header, "PACK\0\0\0\2", 8) != 0 || read32(header + 8) != n ||
			 !angles_git_equal(&end, checksum))
		problem = "the pack is cut, or another than that of the index";
	angles_git_fd_close(fd);
	return problem;
}

static bool
fanout_is_sorted(const unsigned char *fanout)
{
	for (int i = 1; i < 256; i++)
	{
		if (read32(fanout + 4 * i) < read32(fanout + 4 * (i - 1)))
			return false;
	}
	return true;
}

/* ---------- indexes in memory ---------- */

static PackSet *
load(GitRepo *repo)
{
	MemoryContext cxt = AllocSetContextCreate(repo->cxt, "angles packs", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(cxt);
	PackSet    *set = palloc0(sizeof(PackSet));
	char	   *folder = psprintf("%s/objects/pack", repo->path);
	DIR		   *dir = AllocateDir(folder);
	struct dirent *entry;
	int			room = 16;

	set->cxt = cxt;
	set->files = palloc0(room * sizeof(PackFile));
	while ((dir != NULL || errno != ENOENT) && (entry = ReadDir(dir, folder)) != NULL)
	{
		size_t		len = strlen(entry->d_name);
		char	   *path;

		CHECK_FOR_INTERRUPTS();
		if (len < 4 || strcmp(entry->d_name + len - 4, ".idx") != 0)
			continue;
		if (set->n == room)
		{
			set->files = repalloc(set->files, 2 * room * sizeof(PackFile));
			memset(set->files + room, 0, room * sizeof(PackFile));
			room *= 2;
		}
		path = psprintf("%s/%s", folder, entry->d_name);
		set->files[set->n].fd = -1;
		if (load_index(&set->files[set->n], path))
			set->n++;
		else
			ereport(LOG,
					(errcode(ERRCODE_ANGLES_GIT_OBJECT),
					 errmsg("the index \"%s\" cannot be read and is left aside", path)));
	}
	if (dir != NULL)
		FreeDir(dir);
	MemoryContextSwitchTo(before);
	return set;
}

/* Reads an index and looks whether its parts have room in it. */
static bool
load_index(PackFile *file, const char *path)
{
	int			fd = angles_git_fd_open(path, O_RDONLY);
	struct stat st;
	bool		good = false;
	int64		least;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 &&
		st.st_size >= INDEX_HEADER_BYTES + FANOUT_BYTES + 2 * CHECKSUM_BYTES &&
		st.st_size / 24 <= MOST_OBJECTS)
	{
		file->index_size = st.st_size;
		file->index = MemoryContextAllocHuge(CurrentMemoryContext, st.st_size);
		good = angles_git_fd_read(fd, file->index, st.st_size, 0) &&
			memcmp(file->index, "\377tOc\0\0\0\2", INDEX_HEADER_BYTES) == 0;
	}
	angles_git_fd_close(fd);
	if (!good)
		return false;

	if (!fanout_is_sorted(file->index + INDEX_HEADER_BYTES))
		return false;
	file->n = read32(file->index + INDEX_HEADER_BYTES + 4 * 255);
	least = INDEX_HEADER_BYTES + FANOUT_BYTES + (int64) file->n * 28 + 2 * CHECKSUM_BYTES;
	if (file->n > MOST_OBJECTS || file->index_size < least)
		return false;
	file->path = psprintf("%.*s.pack", (int) strlen(path) - 4, path);
	return true;
}

static uint32
read32(const unsigned char *from)
{
	uint32		value;

	memcpy(&value, from, sizeof(value));
	return pg_ntoh32(value);
}

static bool
search(const PackFile *file, const GitOid *id, uint32 *number)
{
	const unsigned char *fanout = file->index + INDEX_HEADER_BYTES;
	const unsigned char *ids = fanout + FANOUT_BYTES;
	uint32		low = id->id[0] == 0 ? 0 : read32(fanout + 4 * (id->id[0] - 1));
	uint32		high = read32(fanout + 4 * id->id[0]);

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		int			order = memcmp(id->id, ids + (size_t) middle * GIT_OID_BYTES, GIT_OID_BYTES);

		if (order == 0)
		{
			*number = middle;
			return true;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static bool
offset_of(const PackFile *file, uint32 number, uint64 *offset)
{
	const unsigned char *small = file->index + INDEX_HEADER_BYTES + FANOUT_BYTES +
		(size_t) file->n * (GIT_OID_BYTES + 4);
	const unsigned char *large = small + (size_t) file->n * 4;
	const unsigned char *end = file->index + file->index_size - 2 * CHECKSUM_BYTES;
	uint32		value = read32(small + (size_t) number * 4);

	if ((value & 0x80000000) == 0)
	{
		*offset = value;
		return true;
	}
	large += (size_t) (value & 0x7fffffff) * 8;
	if (large + 8 > end)
		return false;
	*offset = (uint64) read32(large) << 32 | read32(large + 4);
	return true;
}

/* Opens the pack and puts the offsets of its objects in order. */
static bool
open_pack(PackFile *file)
{
	struct stat st;
	unsigned char header[12];
	int			fd = angles_git_fd_open(file->path, O_RDONLY);

	if (fd < 0)
		return false;
	if (fstat(fd, &st) < 0 || st.st_size < 12 + CHECKSUM_BYTES ||
		!angles_git_fd_read(fd, header, sizeof(header), 0) ||
		memcmp(header, "PACK", 4) != 0 || read32(header + 4) != 2 || read32(header + 8) != file->n)
	{
		angles_git_fd_close(fd);
		return false;
	}
	file->fd = fd;
	file->pack_end = st.st_size - CHECKSUM_BYTES;
	file->sorted = MemoryContextAllocHuge(CurrentMemoryContext,
										  Max(file->n, 1) * sizeof(uint64));
	for (uint32 i = 0; i < file->n; i++)
	{
		if (!offset_of(file, i, &file->sorted[i]))
			file->sorted[i] = 0;
	}
	qsort(file->sorted, file->n, sizeof(uint64), compare_offsets);
	return true;
}

static int
compare_offsets(const void *a, const void *b)
{
	uint64		left = *(const uint64 *) a;
	uint64		right = *(const uint64 *) b;

	return left < right ? -1 : left > right;
}

/* Returns where the next object begins, or the checksum. */
static int64
end_of(const PackFile *file, uint64 offset)
{
	uint32		low = 0;
	uint32		high = file->n;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;

		if (file->sorted[middle] <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < file->n ? Min((int64) file->sorted[low], file->pack_end) : file->pack_end;
}

static bool
read_header(const PackFile *file, PackPlace *place)
{
	unsigned char header[PACK_HEADER_MAX];
	int			len = (int) Min((int64) sizeof(header), place->length);
	int			shift = 4;
	int			at = 1;

	if (len < 2 || !angles_git_fd_read(file->fd, header, len, place->offset))
		return false;
	place->type = header[0] >> 4 & 7;
	place->size = header[0] & 15;
	while (header[at - 1] & 0x80)
	{
		if (at == len || shift > 60)
			return false;
		place->size |= (uint64) (header[at] & 0x7f) << shift;
		shift += 7;
		at++;
	}
	return true;
}
