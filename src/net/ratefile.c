/*
 * ratefile.c
 *		The file angles/rate of the data directory, which carries the rate windows over a clean
 *		shutdown. Written by workers, read once by the postmaster, where no error may be raised.
 *
 * The monotonic clock does not outlive the machine: the file holds ages and the wall clock's time.
 * A wall clock that went back makes ages younger, never older, which errs on the safe side.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "core/clock.h"
#include "net/rate.h"

#define RATE_DIR "angles"
#define RATE_FILE RATE_DIR "/rate"
#define RATE_TEMP RATE_DIR "/rate.tmp"

#define RATE_MAGIC 0x414e4731	/* "ANG1" */

typedef struct RateFileHeader
{
	uint32		magic;
	pg_crc32c	crc;			/* of all that follows this field */
	int32		size;			/* of the whole file */
	int32		n_windows;		/* -1: the mark that somebody sends */
	TimestampTz written;
} RateFileHeader;

/* Followed by the ages of the grants in us * 2, + 1 when interactive, oldest first. */
typedef struct RateFileWindow
{
	uint64		fingerprint;
	int64		paused_us;
	char		reason[64];
	int32		used;
	int32		unused;
} RateFileWindow;

#define RATE_LARGEST ((int) (sizeof(RateFileHeader) + NET_RATE_TOKENS * \
							 (sizeof(RateFileWindow) + NET_WINDOW_SIZE * sizeof(int64))))

static char *pack(const NetWindow *windows, int *size);
static char *pack_window(char *at, const NetWindow *window, int64 now);
static bool unpack(const char *data, int size, NetWindow *windows);
static const char *unpack_window(const char *at, const char *end, NetWindow *window, int64 now,
								 int64 slept);
static pg_crc32c crc_of(const char *data, int size);
static int	read_all(char *into, int size);
static bool write_all(const char *data, int size);

bool
angles_net_ratefile_write(const NetWindow *windows)
{
	int			size;
	char	   *data = pack(windows, &size);
	bool		ok = write_all(data, size);

	pfree(data);
	return ok;
}

NetRateFileState
angles_net_ratefile_read(NetWindow *windows)
{
	/* static: the postmaster must not run out of memory here, and does this once */
	static int64 aligned[RATE_LARGEST / sizeof(int64) + 1];
	char	   *data = (char *) aligned;
	int			size = read_all(data, sizeof(aligned));

	if (size < 0)
		return errno == ENOENT ? NET_RATE_FILE_ABSENT : NET_RATE_FILE_USELESS;
	if (!unpack(data, size, windows))
	{
		MemSet(windows, 0, sizeof(NetWindow) * NET_RATE_TOKENS);
		return NET_RATE_FILE_USELESS;
	}
	return NET_RATE_FILE_READ;
}

bool
angles_net_ratefile_remove(void)
{
	if (unlink(RATE_FILE) == 0 || errno == ENOENT)
		return true;
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not remove file \"%s\": %m", RATE_FILE)));
	return false;
}

/* ---------- contents ---------- */

static char *
pack(const NetWindow *windows, int *size)
{
	char	   *data = palloc0(RATE_LARGEST);
	RateFileHeader *header = (RateFileHeader *) data;
	char	   *at = data + sizeof(RateFileHeader);
	int64		now = angles_clock_mono_us();

	header->magic = RATE_MAGIC;
	header->written = angles_clock_now();
	header->n_windows = windows == NULL ? -1 : 0;
	for (int i = 0; windows != NULL && i < NET_RATE_TOKENS; i++)
	{
		if (windows[i].fingerprint == 0 || angles_net_window_is_idle(&windows[i], now))
			continue;
		at = pack_window(at, &windows[i], now);
		header->n_windows++;
	}
	*size = header->size = (int) (at - data);
	header->crc = crc_of(data, *size);
	return data;
}

static char *
pack_window(char *at, const NetWindow *window, int64 now)
{
	RateFileWindow *packed = (RateFileWindow *) at;
	int64	   *ages = (int64 *) (at + sizeof(RateFileWindow));

	packed->fingerprint = window->fingerprint;
	packed->paused_us = Max(0, window->paused_until_us - now);
	strlcpy(packed->reason, window->reason, sizeof(packed->reason));
	packed->used = window->used;
	for (int i = 0; i < window->used; i++)
	{
		int64		grant = window->grants[(window->head + i) % NET_WINDOW_SIZE];

		ages[i] = (now - (grant >> 1)) * 2 + (grant & 1);
	}
	return (char *) (ages + window->used);
}

static bool
unpack(const char *data, int size, NetWindow *windows)
{
	const RateFileHeader *header = (const RateFileHeader *) data;
	const char *at = data + sizeof(RateFileHeader);
	int64		slept;

	if (size < (int) sizeof(RateFileHeader) || header->magic != RATE_MAGIC ||
		header->size != size || header->crc != crc_of(data, size) ||
		header->n_windows < 0 || header->n_windows > NET_RATE_TOKENS)
		return false;
	slept = Max(0, angles_clock_now() - header->written);
	for (int i = 0; i < header->n_windows; i++)
	{
		at = unpack_window(at, data + size, &windows[i], angles_clock_mono_us(), slept);
		if (at == NULL)
			return false;
	}
	return at == data + size;
}

/* Returns where the next one begins, or NULL when this one is not whole. */
static const char *
unpack_window(const char *at, const char *end, NetWindow *window, int64 now, int64 slept)
{
	const RateFileWindow *packed = (const RateFileWindow *) at;
	const int64 *ages = (const int64 *) (at + sizeof(RateFileWindow));

	if (end - at < (ptrdiff_t) sizeof(RateFileWindow) || packed->fingerprint == 0 ||
		packed->used < 0 || packed->used > NET_WINDOW_SIZE ||
		end - (const char *) ages < (ptrdiff_t) (packed->used * sizeof(int64)))
		return NULL;
	window->fingerprint = packed->fingerprint;
	window->asked_us = now;
	window->paused_until_us = packed->paused_us > slept ? now + packed->paused_us - slept : 0;
	strlcpy(window->reason, packed->reason, sizeof(window->reason));
	for (int i = 0; i < packed->used; i++)
		angles_net_window_add(window, (ages[i] & 1) ? ANGLES_RATE_INTERACTIVE : ANGLES_RATE_BACKLOG,
					   now - slept - (ages[i] >> 1));
	return (const char *) (ages + packed->used);
}

static pg_crc32c
crc_of(const char *data, int size)
{
	int			start = offsetof(RateFileHeader, crc) + sizeof(pg_crc32c);
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data + start, size - start);
	FIN_CRC32C(crc);
	return crc;
}

/* ---------- the file itself: problems go to the log, never further ---------- */

/* Returns the size of the file, or -1 and errno. A file that is larger than "size" is cut. */
static int
read_all(char *into, int size)
{
	int			fd = BasicOpenFile(RATE_FILE, O_RDONLY | PG_BINARY);
	int			done = 0;
	int			saved_errno;

	while (fd >= 0 && done < size)
	{
		ssize_t		n = read(fd, into + done, size - done);

		if (n < 0)
			done = -1;
		if (n <= 0)
			break;
		done += n;
	}
	saved_errno = errno;
	if (fd < 0 || done < 0)
	{
		if (saved_errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", RATE_FILE)));
		done = -1;
	}
	if (fd >= 0)
		close(fd);
	errno = saved_errno;
	return done;
}

static bool
write_all(const char *data, int size)
{
	int			fd;
	bool		ok;

	if (MakePGDirectory(RATE_DIR) < 0 && errno != EEXIST)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", RATE_DIR)));
		return false;
	}
	fd = OpenTransientFile(RATE_TEMP, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	errno = 0;
	ok = fd >= 0 && write(fd, data, size) == size;
	/* a short write means a full disk */
	if (!ok && errno == 0)
		errno = ENOSPC;
	if (!ok)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", RATE_TEMP)));
	if (fd >= 0 && CloseTransientFile(fd) != 0)
		ok = false;
	return ok && durable_rename(RATE_TEMP, RATE_FILE, LOG) == 0;
}
