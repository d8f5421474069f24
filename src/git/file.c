/*
 * file.c
 *		Files that are written once and put in place whole: temporary, locked while they are open,
 *		removed by the end of their memory context unless they were installed.
 *
 * Descriptors are raw and announced to fd.c: a pack is written across transactions, which would
 * close PostgreSQL's transient files, and the lock must not be lost when fd.c is short of
 * descriptors and closes a virtual one. Nothing here waits.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "core/errors.h"
#include "git/internal.h"

#define BUFFER_BYTES (64 * 1024)

static bool lock_new(int fd, const char *path);
static void on_context_reset(void *arg);
static void write_all(GitFile *file, const char *data, size_t len, int64 offset);

GitFile *
angles_git_file_create(const char *folder)
{
	static uint32 count = 0;
	GitFile    *file = palloc0(sizeof(GitFile));

	file->fd = -1;
	file->buffer = palloc(BUFFER_BYTES);
	file->on_reset.func = on_context_reset;
	file->on_reset.arg = file;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &file->on_reset);

	/* the count is for names of a process that died and whose pid is in use again */
	while (file->path == NULL)
	{
		char	   *path = psprintf("%s/%s%d_%u", folder, TEMP_PREFIX, MyProcPid, ++count);

		CHECK_FOR_INTERRUPTS();
		file->fd = angles_git_fd_open(path, O_RDWR | O_CREAT | O_EXCL);
		if (file->fd < 0 && errno != EEXIST)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not create file \"%s\": %m", path)));
		if (file->fd >= 0 && lock_new(file->fd, path))
			file->path = path;
		else
			pfree(path);
	}
	return file;
}

/*
 * Between its making and its locking a file looks as if its maker had died: then somebody who
 * cleans up has it locked, or has removed it. False: it is closed, and another is to be made.
 */
static bool
lock_new(int fd, const char *path)
{
	struct stat st;

	errno = 0;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0)
		return true;
	if (errno != 0 && errno != EWOULDBLOCK)
	{
		int			saved = errno;

		unlink(path);
		angles_git_fd_close(fd);
		errno = saved;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", path)));
	}
	angles_git_fd_close(fd);
	return false;
}

static void
on_context_reset(void *arg)
{
	angles_git_file_close(arg);
}

void
angles_git_file_write(GitFile *file, const void *data, size_t len)
{
	const char *from = data;

	while (len > 0)
	{
		size_t		part = Min(len, BUFFER_BYTES - file->buffered);

		memcpy(file->buffer + file->buffered, from, part);
		file->buffered += part;
		file->written += part;
		from += part;
		len -= part;
		if (file->buffered == BUFFER_BYTES)
			angles_git_file_flush(file);
	}
}

void
angles_git_file_flush(GitFile *file)
{
	size_t		len = file->buffered;

	file->buffered = 0;
	write_all(file, file->buffer, len, file->written - len);
}

void
angles_git_file_write_at(GitFile *file, const void *data, size_t len, int64 offset)
{
	write_all(file, data, len, offset);
}

static void
write_all(GitFile *file, const char *data, size_t len, int64 offset)
{
	while (len > 0)
	{
		ssize_t		n;

		errno = 0;
		n = pwrite(file->fd, data, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			bool		full;

			/* a write that takes nothing and says nothing has no room */
			if (errno == 0)
				errno = ENOSPC;
			full = errno == ENOSPC || errno == EDQUOT;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", file->path),
					 full ? errhint("Free space on that disk; nothing was changed.") : 0));
		}
		data += n;
		len -= n;
		offset += n;
	}
}

void
angles_git_file_install(GitFile *file, const char *path)
{
	angles_git_file_flush(file);
	if (fchmod(file->fd, pg_file_create_mode & ~(S_IWUSR | S_IWGRP)) < 0 ||
		pg_fsync(file->fd) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not flush file \"%s\" to disk: %m", file->path)));
	if (rename(file->path, path) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", file->path, path)));
	/* the name is freed with its context: this function is called while an error may still come */
	file->path = NULL;
}

void
angles_git_file_close(GitFile *file)
{
	if (file->path != NULL && unlink(file->path) < 0 && errno != ENOENT)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", file->path)));
	file->path = NULL;
	if (file->fd >= 0)
		angles_git_fd_close(file->fd);
	file->fd = -1;
}

int
angles_git_fd_open(const char *path, int flags)
{
	int			fd;

	if (!AcquireExternalFD())
		return -1;
	fd = open(path, flags | O_CLOEXEC | PG_BINARY, pg_file_create_mode);
	if (fd < 0)
	{
		int			saved = errno;

		ReleaseExternalFD();
		errno = saved;
	}
	return fd;
}

void
angles_git_fd_close(int fd)
{
	close(fd);
	ReleaseExternalFD();
}

bool
angles_git_fd_read(int fd, void *into, size_t len, int64 offset)
{
	char	   *to = into;

	while (len > 0)
	{
		ssize_t		n = pread(fd, to, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = 0;
			return false;
		}
		to += n;
		len -= n;
		offset += n;
	}
	return true;
}

int
angles_git_lock_abandoned(const char *path)
{
	int			fd = angles_git_fd_open(path, O_RDONLY);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
	{
		int			saved = errno;

		angles_git_fd_close(fd);
		errno = saved;
		fd = -1;
	}
	return fd;
}
