/*
 * repository.c
 *		Making, opening and cleaning a bare repository; what libgit2 is told once in a process; its
 *		errors as PostgreSQL's.
 *
 * libgit2 opens no socket here: nothing in this room calls its remotes. No callback of ours is ever
 * given to it, so no error of PostgreSQL can jump over its frames. It reads no configuration of the
 * machine, the user or the environment.
 */
#include "postgres.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/errors.h"
#include "git/internal.h"

/* The window of a pack that libgit2 maps, and all windows of this process together. */
#define WINDOW_BYTES ((size_t) 1024 * 1024)
#define MAPPED_BYTES ((size_t) 32 * 1024 * 1024)

/*
 * A pack without an index may be one that another program of git is just putting in place; after
 * this time it is not.
 */
#define ORPHAN_AGE_S 900

static GitRepo *new_repo(const char *path);
static void on_context_reset(void *arg);
static void check_owner(const char *path);
static void create(const char *path);
static int	make_locked_folder(const char *path);
static void write_config(git_repository *made, const char *path);
static void clean_creations(const char *path);
static void clean_pack_file(const char *folder, const char *name);
static bool is_orphan(const char *path);
static void raise_open(const char *path) pg_attribute_noreturn();

void
angles_git_init(void)
{
	static bool ready = false;
	const int	levels[] = {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM,
	GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL};
	int			rc;

	if (!ready)
	{
		/* its state must not be inherited by fork() */
		if (!IsUnderPostmaster)
			elog(ERROR, "libgit2 is not for the postmaster");
#ifndef ANGLES_TEST
		if (MyBackendType != B_BG_WORKER)
			elog(ERROR, "libgit2 is for background workers");
#endif
		if (git_libgit2_init() < 0)
			angles_git_raise("could not initialize libgit2");
		rc = git_libgit2_opts(GIT_OPT_SET_MWINDOW_SIZE, WINDOW_BYTES);
		rc |= git_libgit2_opts(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, MAPPED_BYTES);
		/* what is verified must come from the disk, and memory must not grow with the repository */
		rc |= git_libgit2_opts(GIT_OPT_ENABLE_CACHING, 0);
		rc |= git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 1);
		/* check_owner() does it, with words that help; remotes on disk may be others' */
		rc |= git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
		for (int i = 0; i < (int) lengthof(levels); i++)
			rc |= git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
		if (rc != 0)
			angles_git_raise("could not set options of libgit2");
		ready = true;
	}
	if (git_libgit2_opts(GIT_OPT_ENABLE_FSYNC_GITDIR, enableFsync ? 1 : 0) < 0)
		angles_git_raise("could not set options of libgit2");
}

/* ---------- opening ---------- */

GitRepo *
angles_git_open(const char *path, bool create_missing)
{
	GitRepo    *repo;
	struct stat st;
	int			rc;

	angles_git_init();
	if (create_missing)
	{
		clean_creations(path);
		if (stat(path, &st) < 0 && errno == ENOENT)
			create(path);
	}
	if (stat(path, &st) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open the Git repository \"%s\": %m", path)));
	if (create_missing)
	{
		check_owner(path);
		angles_git_clean_locks(path);
		angles_git_clean_packs(path);
	}

	angles_git_check_packs(path);
	repo = new_repo(path);
	rc = git_repository_open_bare(&repo->repo, path);
	if (rc == 0)
		rc = git_repository_odb(&repo->odb, repo->repo);
	if (rc < 0)
		raise_open(path);
	return repo;
}

GitRepo *
angles_git_open_foreign(const char *path, char **problem)
{
	GitRepo    *repo;

	angles_git_init();
	angles_git_check_packs(path);
	repo = new_repo(path);
	if (git_repository_open_bare(&repo->repo, path) == 0 &&
		git_repository_odb(&repo->odb, repo->repo) == 0)
		return repo;
	*problem = angles_git_last_problem();
	angles_git_close(repo);
	return NULL;
}

static GitRepo *
new_repo(const char *path)
{
	GitRepo    *repo = palloc0(sizeof(GitRepo));

	repo->cxt = CurrentMemoryContext;
	repo->path = pstrdup(path);
	repo->on_reset.func = on_context_reset;
	repo->on_reset.arg = repo;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &repo->on_reset);
	return repo;
}

static void
on_context_reset(void *arg)
{
	angles_git_close(arg);
}

void
angles_git_close(GitRepo *repo)
{
	angles_git_packs_forget(repo);
	git_odb_free(repo->odb);
	git_repository_free(repo->repo);
	repo->odb = NULL;
	repo->repo = NULL;
}

const char *
angles_git_path(GitRepo *repo)
{
	return repo->path;
}

static void
raise_open(const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_GIT),
			 errmsg("could not open the Git repository \"%s\"", path),
			 errdetail("The words of libgit2: %s.", angles_git_last_problem()),
			 errhint("Move the folder away: the next backup makes a new one.")));
}

static void
check_owner(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not look at folder \"%s\": %m", path)));
	if (st.st_uid != geteuid() || !S_ISDIR(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_GIT),
				 errmsg("\"%s\" is not a folder of the server's user", path),
				 errhint("Give it back with chown -R, or move it away: the next backup makes a "
						 "new one.")));
}

/* ---------- making ---------- */

/*
 * Made under another name, which is locked while we live, and then renamed: a crash leaves a folder
 * that clean_creations() takes away, or the whole repository.
 */
static void
create(const char *path)
{
	char	   *temp = psprintf("%s.%s%d", path, TEMP_PREFIX, MyProcPid);
	git_repository *made = NULL;
	git_repository_init_options options;
	int			fd;

	fd = make_locked_folder(temp);
	git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
	options.flags = GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_NO_REINIT;
	options.mode = GIT_REPOSITORY_INIT_SHARED_UMASK;
	options.initial_head = "main";
	if (git_repository_init_ext(&made, temp, &options) < 0)
	{
		angles_git_fd_close(fd);
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_GIT),
				 errmsg("could not create the Git repository \"%s\"", path),
				 errdetail("The words of libgit2: %s.", angles_git_last_problem())));
	}
	write_config(made, path);
	git_repository_free(made);

	/* a process that made it at the same time was first: then this one is taken away again */
	if (rename(temp, path) < 0)
	{
		int			saved = errno;

		rmtree(temp, true);
		angles_git_fd_close(fd);
		errno = saved;
		if (saved != EEXIST && saved != ENOTEMPTY)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rename folder \"%s\" to \"%s\": %m", temp, path)));
		return;
	}
	angles_git_fd_close(fd);
	if (enableFsync)
	{
		char	   *parent = path[0] == '/' ? pstrdup(path) : psprintf("./%s", path);

		get_parent_directory(parent);
		fsync_fname(parent, true);
	}
	pfree(temp);
}

/*
 * Returns the descriptor that locks the new folder. Somebody who cleans up may take it for a dead
 * process's between its making and its locking.
 */
static int
make_locked_folder(const char *path)
{
	for (;;)
	{
		int			fd;

		CHECK_FOR_INTERRUPTS();
		if (MakePGDirectory(path) < 0 && errno != EEXIST)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not create folder \"%s\": %m", path)));
		fd = angles_git_lock_abandoned(path);
		if (fd >= 0 && access(path, F_OK) == 0)
			return fd;
		if (fd >= 0)
			angles_git_fd_close(fd);
		else if (errno != EWOULDBLOCK && errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not lock folder \"%s\": %m", path)));
	}
}

/* What people's own git must know when they look at the repository. */
static void
write_config(git_repository *made, const char *path)
{
	git_config *config = NULL;
	int			rc = git_repository_config(&config, made);
	char	   *temp = psprintf("%s.%s%d", path, TEMP_PREFIX, MyProcPid);
	const char *const synced[] = {"config", "HEAD", "objects/pack", "objects", "refs", ""};

	/* objects of a backup that is not committed yet have no ref */
	if (rc == 0)
		rc = git_config_set_int32(config, "gc.auto", 0);
	if (rc == 0)
		rc = git_config_set_bool(config, "receive.autogc", false);
	git_config_free(config);
	if (rc < 0)
	{
		git_repository_free(made);
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_GIT),
				 errmsg("could not write the settings of the Git repository \"%s\"", path),
				 errdetail("The words of libgit2: %s.", angles_git_last_problem())));
	}
	for (int i = 0; enableFsync && i < (int) lengthof(synced); i++)
	{
		char	   *name = psprintf("%s/%s", temp, synced[i]);

		fsync_fname(name, i >= 2);
		pfree(name);
	}
	pfree(temp);
}

/* ---------- cleaning ---------- */

/* Takes away "PATH.tmp_angles_PID" folders that nobody has locked. */
static void
clean_creations(const char *path)
{
	char	   *parent = path[0] == '/' ? pstrdup(path) : psprintf("./%s", path);
	const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	char	   *prefix = psprintf("%s.%s", base, TEMP_PREFIX);
	DIR		   *dir;
	struct dirent *entry;

	get_parent_directory(parent);
	dir = AllocateDir(parent);
	if (dir == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open folder \"%s\": %m", parent)));
	while ((entry = ReadDir(dir, parent)) != NULL)
	{
		char	   *left;
		int			fd;

		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		left = psprintf("%s/%s", parent, entry->d_name);
		fd = angles_git_lock_abandoned(left);
		if (fd >= 0 && !rmtree(left, true))
			ereport(WARNING,
					(errcode_for_file_access(),
					 errmsg("could not remove folder \"%s\"", left)));
		if (fd >= 0)
			angles_git_fd_close(fd);
		pfree(left);
	}
	FreeDir(dir);
	pfree(prefix);
}

void
angles_git_clean_packs(const char *repo_path)
{
	char	   *folder = psprintf("%s/objects/pack", repo_path);
	DIR		   *dir = AllocateDir(folder);
	struct dirent *entry;

	if (dir == NULL && errno == ENOENT)
		return;
	/* ReadDir() raises the error of AllocateDir() */
	while ((entry = ReadDir(dir, folder)) != NULL)
		clean_pack_file(folder, entry->d_name);
	FreeDir(dir);
	pfree(folder);
}

/* Removes a temporary file of a dead process, or a pack that never got its index. */
static void
clean_pack_file(const char *folder, const char *name)
{
	size_t		len = strlen(name);
	bool		is_temp = strncmp(name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0;
	char	   *path;
	int			fd;

	if (!is_temp && (len <= 5 || strcmp(name + len - 5, ".pack") != 0))
		return;
	path = psprintf("%s/%s", folder, name);
	if (is_temp || is_orphan(path))
	{
		fd = angles_git_lock_abandoned(path);
		/* looked at again now that nobody can be between the two names */
		if (fd >= 0 && (is_temp || is_orphan(path)))
		{
			if (unlink(path) < 0)
				ereport(WARNING,
						(errcode_for_file_access(),
						 errmsg("could not remove file \"%s\": %m", path)));
			else
				ereport(LOG,
						(errmsg("removed \"%s\", left by a process that died", path)));
		}
		if (fd >= 0)
			angles_git_fd_close(fd);
	}
	pfree(path);
}

/* True for a pack without an index that is too old to be in the making. */
static bool
is_orphan(const char *path)
{
	char	   *index = psprintf("%.*s.idx", (int) strlen(path) - 5, path);
	struct stat st;
	bool		result = access(index, F_OK) < 0 && errno == ENOENT && stat(path, &st) == 0 &&
		timestamptz_to_time_t(angles_clock_now()) - st.st_mtime > ORPHAN_AGE_S;

	pfree(index);
	return result;
}

/* ---------- errors ---------- */

char *
angles_git_last_problem(void)
{
	const git_error *error = git_error_last();
	char	   *text = pstrdup(error != NULL && error->message != NULL && error->message[0] ?
							   error->message : "no reason was given");

	for (unsigned char *c = (unsigned char *) text; *c; c++)
	{
		if (*c < ' ' || *c >= 127)
			*c = '?';
	}
	return text;
}

void
angles_git_raise(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_GIT),
			 errmsg("%s", what),
			 errdetail("The words of libgit2: %s.", angles_git_last_problem())));
}
