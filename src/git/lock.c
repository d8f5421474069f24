/*
 * lock.c
 *		One writer of refs at a time among our own processes, and what becomes of libgit2's lock
 *		files when one of them is killed.
 *
 * libgit2 and git take a ref by making "REF.lock" and leave it behind when they die; nothing in it
 * tells whether its maker lives. So the ref's name is noted, on disk, in a file that the kernel
 * keeps locked while we live. Whoever finds that file unlocked with a name in it knows that the
 * lock file of that ref has no owner. Lock files of others are never touched.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/wait.h"
#include "git/internal.h"

#define LONGEST_WAIT_US INT64CONST(2000000)
#define WAIT_MS 10

static void on_context_reset(void *arg);
static int	open_lock(const char *repo_path);
static void take_away_leftover(int fd, const char *repo_path);
static void note(int fd, const char *ref, const char *repo_path);

GitLock *
angles_git_lock(GitRepo *repo, const char *ref)
{
	GitLock    *lock = palloc0(sizeof(GitLock));
	int64		end_us = angles_clock_mono_us() + LONGEST_WAIT_US;

	lock->fd = -1;
	lock->on_reset.func = on_context_reset;
	lock->on_reset.arg = lock;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &lock->on_reset);
	lock->fd = open_lock(repo->path);
	while (flock(lock->fd, LOCK_EX | LOCK_NB) < 0)
	{
		if (errno != EWOULDBLOCK && errno != EINTR)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not lock file \"%s/%s\": %m", repo->path, LOCK_FILE)));
		/* a worker does not wait in a transaction */
		if (angles_clock_mono_us() > end_us ||
			(MyBackendType == B_BG_WORKER && IsTransactionState()))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("another process is writing to the Git repository \"%s\"",
							repo->path),
					 errhint("Try again.")));
		angles_wait(PGINVALID_SOCKET, WAIT_MS);
	}
	take_away_leftover(lock->fd, repo->path);
	note(lock->fd, ref, repo->path);
	return lock;
}

void
angles_git_unlock(GitLock *lock)
{
	/* when this fails the next one looks for a lock file that is not there */
	if (ftruncate(lock->fd, 0) < 0)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not truncate file \"%s\": %m", LOCK_FILE)));
	angles_git_fd_close(lock->fd);
	lock->fd = -1;
}

/* An error came between: libgit2 has returned and removed its lock file. */
static void
on_context_reset(void *arg)
{
	GitLock    *lock = arg;

	if (lock->fd >= 0)
		angles_git_unlock(lock);
}

void
angles_git_clean_locks(const char *repo_path)
{
	int			fd = open_lock(repo_path);

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		take_away_leftover(fd, repo_path);
	angles_git_fd_close(fd);
}

static int
open_lock(const char *repo_path)
{
	char	   *path = psprintf("%s/%s", repo_path, LOCK_FILE);
	int			fd = angles_git_fd_open(path, O_RDWR | O_CREAT);

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	pfree(path);
	return fd;
}

/* The lock is held: a name in the file is that of a ref whose mover died. */
static void
take_away_leftover(int fd, const char *repo_path)
{
	char		ref[MAXPGPATH];
	ssize_t		n = pread(fd, ref, sizeof(ref) - 1, 0);
	char	   *paths[2];

	if (n <= 0)
		return;
	ref[n] = '\0';
	/* the whole name with its line end, or it was not noted yet, and nothing was begun */
	if (ref[n - 1] == '\n' && strncmp(ref, "refs/", 5) == 0 && strstr(ref, "..") == NULL)
	{
		ref[n - 1] = '\0';
		paths[0] = psprintf("%s/%s.lock", repo_path, ref);
		paths[1] = psprintf("%s/packed-refs.lock", repo_path);
		for (int i = 0; i < (int) lengthof(paths); i++)
		{
			if (unlink(paths[i]) == 0)
				ereport(LOG,
						(errmsg("removed \"%s\", left by a process that died", paths[i])));
			else if (errno != ENOENT && errno != ENOTDIR)
				ereport(ERROR,
						(errcode_for_file_access(),
						 errmsg("could not remove file \"%s\": %m", paths[i])));
			pfree(paths[i]);
		}
	}
	if (ftruncate(fd, 0) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not truncate file \"%s/%s\": %m", repo_path, LOCK_FILE)));
}

static void
note(int fd, const char *ref, const char *repo_path)
{
	char	   *line = psprintf("%s\n", ref);
	size_t		len = strlen(line);

	errno = 0;
	if (pwrite(fd, line, len, 0) != (ssize_t) len || pg_fsync(fd) < 0)
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s/%s\": %m", repo_path, LOCK_FILE)));
	}
	pfree(line);
}
