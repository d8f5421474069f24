/*
 * index.c
 *		Writes the index of a pack, version 2 (gitformat-pack), and puts a pack and its index in
 *		place.
 */
#include "postgres.h"

#include <unistd.h>

#include <openssl/evp.h>

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"

#include "core/errors.h"
#include "core/testhook.h"
#include "git/internal.h"

#define FANOUT 256

/* An offset with this bit is the number of one in the table of large ones. */
#define LARGE_OFFSET UINT64CONST(0x80000000)

#ifdef ANGLES_TEST
uint64		angles_git_test_large_offset = LARGE_OFFSET;
#define LARGE_FROM angles_git_test_large_offset
#else
#define LARGE_FROM LARGE_OFFSET
#endif

typedef struct IndexWriter
{
	GitFile    *file;
	EVP_MD_CTX *sha1;
	MemoryContextCallback on_reset;
} IndexWriter;

static int	compare_entries(const void *a, const void *b);
static void put(IndexWriter *writer, const void *data, size_t len);
static void put32(IndexWriter *writer, uint32 value);
static void put_tables(IndexWriter *writer, const PackEntry *entries, int64 n);
static void free_digest(void *arg);
static void install(const char *folder, GitFile *file, const char *name, const char *suffix);

GitFile *
angles_git_index_write(const char *folder, PackEntry *entries, int64 n, const GitOid *checksum)
{
	IndexWriter *writer = palloc0(sizeof(IndexWriter));
	GitOid		own;
	unsigned	len = sizeof(own.id);

	qsort(entries, n, sizeof(PackEntry), compare_entries);
	CHECK_FOR_INTERRUPTS();
	writer->on_reset.func = free_digest;
	writer->on_reset.arg = writer;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &writer->on_reset);
	writer->sha1 = EVP_MD_CTX_new();
	if (writer->sha1 == NULL || EVP_DigestInit_ex(writer->sha1, EVP_sha1(), NULL) != 1)
		elog(ERROR, "could not compute SHA-1");
	writer->file = angles_git_file_create(folder);

	put(writer, "\377tOc\0\0\0\2", 8);
	put_tables(writer, entries, n);
	put(writer, checksum->id, GIT_OID_BYTES);
	if (EVP_DigestFinal_ex(writer->sha1, own.id, &len) != 1)
		elog(ERROR, "could not compute SHA-1");
	angles_git_file_write(writer->file, own.id, GIT_OID_BYTES);
	angles_git_file_flush(writer->file);
	free_digest(writer);
	return writer->file;
}

static void
put_tables(IndexWriter *writer, const PackEntry *entries, int64 n)
{
	int64		at = 0;
	uint32		n_large = 0;

	for (int first = 0; first < FANOUT; first++)
	{
		while (at < n && entries[at].id.id[0] <= first)
			at++;
		put32(writer, (uint32) at);
	}
	for (int64 i = 0; i < n; i++)
		put(writer, entries[i].id.id, GIT_OID_BYTES);
	CHECK_FOR_INTERRUPTS();
	for (int64 i = 0; i < n; i++)
		put32(writer, entries[i].crc);
	for (int64 i = 0; i < n; i++)
		put32(writer, entries[i].offset < LARGE_FROM ? (uint32) entries[i].offset :
			  (uint32) LARGE_OFFSET | n_large++);
	for (int64 i = 0; i < n && n_large > 0; i++)
	{
		if (entries[i].offset >= LARGE_FROM)
		{
			put32(writer, (uint32) (entries[i].offset >> 32));
			put32(writer, (uint32) entries[i].offset);
		}
	}
}

static int
compare_entries(const void *a, const void *b)
{
	return memcmp(((const PackEntry *) a)->id.id, ((const PackEntry *) b)->id.id, GIT_OID_BYTES);
}

static void
put(IndexWriter *writer, const void *data, size_t len)
{
	if (EVP_DigestUpdate(writer->sha1, data, len) != 1)
		elog(ERROR, "could not compute SHA-1");
	angles_git_file_write(writer->file, data, len);
}

static void
put32(IndexWriter *writer, uint32 value)
{
	value = pg_hton32(value);
	put(writer, &value, sizeof(value));
}

static void
free_digest(void *arg)
{
	IndexWriter *writer = arg;

	EVP_MD_CTX_free(writer->sha1);
	writer->sha1 = NULL;
}

void
angles_git_pack_install(const char *folder, GitFile *pack, GitFile *index, const GitOid *checksum,
						char name[GIT_OID_HEX + 1])
{
	angles_git_hex(checksum, name);
	ANGLES_KILL_POINT("git-pack-before-rename");
	install(folder, pack, name, "pack");
	ANGLES_KILL_POINT("git-pack-between-renames");
	install(folder, index, name, "idx");
	ANGLES_KILL_POINT("git-pack-renamed");
	fsync_fname(folder, true);
	/* only now the locks go: nobody takes the pack for one without an index */
	angles_git_file_close(pack);
	angles_git_file_close(index);
}

static void
install(const char *folder, GitFile *file, const char *name, const char *suffix)
{
	char	   *path = psprintf("%s/pack-%s.%s", folder, name, suffix);

	angles_git_file_install(file, path);
	pfree(path);
}
