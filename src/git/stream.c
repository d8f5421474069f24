/*
 * stream.c
 *		The pack of a plan as a stream of bytes, read from the packs it is copied from while it is
 *		sent (see plan.h). Called within libcurl: no palloc, no error, no wait.
 *
 * Every object's checksum is computed on the way, so damage on this disk ends the stream and is
 * named here, and is not sent for the remote to find.
 */
#include "postgres.h"

#include <errno.h>

#include <openssl/evp.h>
#include <zlib.h>

#include "port/pg_bswap.h"

#include "core/errors.h"
#include "git/plan.h"

typedef enum StreamPart
{
	PART_PREFIX,
	PART_HEADER,
	PART_OBJECTS,
	PART_CHECKSUM,
	PART_END
} StreamPart;

struct PackStream
{
	const SendPlan *plan;		/* without objects: the prefix alone */
	const char *prefix;
	size_t		prefix_len;
	StreamPart	part;
	size_t		at;				/* in the prefix, header or checksum */
	int64		entry;
	int64		entry_at;
	uint32		crc;
	uint32		header[3];
	GitOid		checksum;
	EVP_MD_CTX *sha1;
	int			problem;		/* errno of a read, -1: a wrong checksum or a short file */
	MemoryContextCallback on_reset;
};

static void free_digest(void *arg);
static size_t copy_part(PackStream *stream, const void *from, size_t len, char *into, size_t room);
static size_t read_objects(PackStream *stream, char *into, size_t room);

PackStream *
angles_stream_open(const SendPlan *plan, const char *prefix, size_t prefix_len)
{
	PackStream *stream = palloc0(sizeof(PackStream));

	stream->plan = plan;
	stream->prefix = prefix;
	stream->prefix_len = prefix_len;
	stream->header[0] = pg_hton32(0x5041434b);
	stream->header[1] = pg_hton32(2);
	stream->header[2] = pg_hton32(plan != NULL ? (uint32) plan->n : 0);
	stream->crc = crc32(0L, NULL, 0);
	stream->on_reset.func = free_digest;
	stream->on_reset.arg = stream;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &stream->on_reset);
	stream->sha1 = EVP_MD_CTX_new();
	if (stream->sha1 == NULL || EVP_DigestInit_ex(stream->sha1, EVP_sha1(), NULL) != 1)
		elog(ERROR, "could not compute SHA-1");
	return stream;
}

static void
free_digest(void *arg)
{
	PackStream *stream = arg;

	EVP_MD_CTX_free(stream->sha1);
	stream->sha1 = NULL;
}

int64
angles_stream_length(const PackStream *stream)
{
	return (int64) stream->prefix_len + (stream->plan != NULL ? stream->plan->pack_bytes : 0);
}

size_t
angles_stream_read(void *arg, char *into, size_t room)
{
	PackStream *stream = arg;
	unsigned	len = sizeof(stream->checksum.id);
	size_t		n;

	if (stream->problem != 0)
		return (size_t) -1;
	if (stream->part == PART_PREFIX)
	{
		n = copy_part(stream, stream->prefix, stream->prefix_len, into, room);
		if (n > 0)
			return n;
		stream->part = stream->plan != NULL ? PART_HEADER : PART_END;
	}
	if (stream->part == PART_HEADER)
	{
		n = copy_part(stream, stream->header, sizeof(stream->header), into, room);
		EVP_DigestUpdate(stream->sha1, into, n);
		if (n > 0)
			return n;
		stream->part = PART_OBJECTS;
	}
	if (stream->part == PART_OBJECTS)
	{
		n = read_objects(stream, into, room);
		if (n > 0)
			return n;
		EVP_DigestFinal_ex(stream->sha1, stream->checksum.id, &len);
		stream->part = PART_CHECKSUM;
	}
	if (stream->part == PART_CHECKSUM)
	{
		n = copy_part(stream, stream->checksum.id, GIT_OID_BYTES, into, room);
		if (n > 0)
			return n;
		stream->part = PART_END;
	}
	return 0;
}

static size_t
copy_part(PackStream *stream, const void *from, size_t len, char *into, size_t room)
{
	size_t		n = Min(room, len - stream->at);

	if (n == 0)
	{
		stream->at = 0;
		return 0;
	}
	memcpy(into, (const char *) from + stream->at, n);
	stream->at += n;
	return n;
}

static size_t
read_objects(PackStream *stream, char *into, size_t room)
{
	const SendPlan *plan = stream->plan;
	size_t		done = 0;

	while (done < room && stream->entry < plan->n)
	{
		const PlanEntry *entry = &plan->entries[stream->entry];
		size_t		n = (size_t) Min((int64) (room - done), entry->length - stream->entry_at);

		if (!angles_git_fd_read(entry->fd, into + done, n, entry->offset + stream->entry_at))
		{
			stream->problem = errno != 0 ? errno : -1;
			return (size_t) -1;
		}
		stream->crc = crc32(stream->crc, (const unsigned char *) into + done, (uInt) n);
		EVP_DigestUpdate(stream->sha1, into + done, n);
		done += n;
		stream->entry_at += n;
		if (stream->entry_at < entry->length)
			continue;
		if (stream->crc != entry->crc)
		{
			stream->problem = -1;
			return (size_t) -1;
		}
		stream->entry++;
		stream->entry_at = 0;
		stream->crc = crc32(0L, NULL, 0);
	}
	return done;
}

void
angles_stream_check(const PackStream *stream, GitRepo *repo)
{
	char		hex[GIT_OID_HEX + 1];

	if (stream->problem == 0)
		return;
	angles_git_hex(angles_oid_get(stream->plan->ids, stream->entry), hex);
	if (stream->problem > 0)
	{
		errno = stream->problem;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read object %s of the Git repository \"%s\": %m", hex,
						repo->path)));
	}
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_GIT_OBJECT),
			 errmsg("object %s of the Git repository \"%s\" is damaged", hex, repo->path),
			 errdetail("Its bytes in the pack do not have the checksum of the index."),
			 errhint("Nothing was pushed. Move the repository away: the next backup makes a new "
					 "one.")));
}

const GitOid *
angles_stream_checksum(const PackStream *stream)
{
	return &stream->checksum;
}
