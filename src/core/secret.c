/*
 * secret.c
 *		See secret.h. Runs in workers, and in sessions that take webhooks in; nothing here logs a
 *		value.
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "core/errors.h"
#include "core/guc.h"
#include "core/secret.h"

/* A token is about 50 bytes; a file much longer is not one. */
#define MAX_SECRET_FILE 4096

/* The places of one remote's token, in words and in memory. */
typedef struct TokenPlaces
{
	const char *remote;			/* "Notion" */
	const char *setting;
	char	  **setting_value;
	const char *file_setting;
	char	  **file_setting_value;
	const char *variable;
	const char *variable_words;
} TokenPlaces;

static char *find_token(const TokenPlaces *places, const char *name, const char **source);
static char *secret_path(const char *name);
static void write_secret_file(const char *path, const char *secret);
static char *read_secret_file(const char *path, const char *remote, int elevel);
static char *trimmed_copy(const char *text, const char *remote, int elevel);

char *
angles_secret_notion(const char *name, const char **source)
{
	static const TokenPlaces places = {
		"Notion", "angles.notion_token", &angles_guc_notion_token,
		"angles.notion_token_file", &angles_guc_notion_token_file,
		"NOTION_TOKEN", "environment NOTION_TOKEN"
	};

	return find_token(&places, name, source);
}

char *
angles_secret_github(const char *name, const char **source)
{
	static const TokenPlaces places = {
		"GitHub", "angles.github_token", &angles_guc_github_token,
		"angles.github_token_file", &angles_guc_github_token_file,
		"GITHUB_TOKEN", "environment GITHUB_TOKEN"
	};

	return find_token(&places, name, source);
}

static char *
find_token(const TokenPlaces *places, const char *name, const char **source)
{
	const char *setting = *places->setting_value;
	const char *file = *places->file_setting_value;
	const char *variable = getenv(places->variable);

	if (name != NULL)
	{
		char	   *path = secret_path(name);
		char	   *token;

		*source = "angles.secrets_dir";
		if (path == NULL)
			return NULL;
		token = read_secret_file(path, places->remote, WARNING);
		pfree(path);
		return token;
	}
	if (setting && setting[0])
	{
		*source = places->setting;
		return trimmed_copy(setting, places->remote, WARNING);
	}
	if (file && file[0])
	{
		*source = places->file_setting;
		return read_secret_file(file, places->remote, WARNING);
	}
	*source = places->variable_words;
	if (variable && variable[0])
		return trimmed_copy(variable, places->remote, WARNING);
	*source = "none";
	return NULL;
}

char *
angles_secret_named(const char *name)
{
	char	   *path = secret_path(name);

	if (path == NULL || (access(path, F_OK) != 0 && errno == ENOENT))
		return NULL;
	return read_secret_file(path, name, LOG_SERVER_ONLY);
}

void
angles_secret_check_dir(bool for_writing)
{
	if (angles_guc_secrets_dir == NULL || angles_guc_secrets_dir[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("there is no place for secrets"),
				 errdetail("angles.secrets_dir is not set."),
				 errhint("Set angles.secrets_dir to a directory of the server's user with mode "
						 "0700, outside of the data directory, and reload the configuration.")));
	if (for_writing && access(angles_guc_secrets_dir, W_OK | X_OK) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("the server cannot write into directory \"%s\": %m",
						angles_guc_secrets_dir),
				 errhint("Let angles.secrets_dir be a directory of the server's user with mode "
						 "0700.")));
}

/* The file has its name when it is complete: whoever reads it finds a whole secret or none. */
void
angles_secret_keep(const char *name, const char *secret)
{
	char	   *path = secret_path(name);
	char	   *unfinished;

	if (path == NULL)
		angles_secret_check_dir(true);
	unfinished = psprintf("%s.%d.new", path, MyProcPid);
	PG_TRY();
	{
		write_secret_file(unfinished, secret);
		if (durable_rename(unfinished, path, LOG_SERVER_ONLY) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not keep secret \"%s\": %m", name)));
	}
	PG_CATCH();
	{
		unlink(unfinished);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

uint64
angles_secret_fingerprint(const char *token)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	uint64		fingerprint;

	/* not pg_cryptohash: that needs a resource owner, which a worker between transactions lacks */
	if (EVP_Digest(token, strlen(token), digest, NULL, EVP_sha256(), NULL) != 1)
		elog(ERROR, "could not compute SHA-256");
	memcpy(&fingerprint, digest, sizeof(fingerprint));
	return fingerprint;
}

void
angles_secret_free(char *token)
{
	if (token == NULL)
		return;
	explicit_bzero(token, strlen(token));
	pfree(token);
}

/* Returns where the secret of this name is, or NULL when it can be nowhere. */
static char *
secret_path(const char *name)
{
	if (angles_guc_secrets_dir == NULL || angles_guc_secrets_dir[0] == '\0' ||
		strchr(name, '/') != NULL || name[0] == '.' || name[0] == '\0')
		return NULL;
	return psprintf("%s/%s", angles_guc_secrets_dir, name);
}

static void
write_secret_file(const char *path, const char *secret)
{
	char	   *line = psprintf("%s\n", secret);
	ssize_t		len = strlen(line);
	int			fd;
	ssize_t		n = -1;
	int			problem = 0;

	/* of a process of the same number that was killed */
	unlink(path);
	fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, S_IRUSR | S_IWUSR);
	if (fd < 0)
		problem = errno;
	else
	{
		errno = 0;
		n = write(fd, line, len);
		if (n != len)
			problem = errno ? errno : ENOSPC;
		else if (pg_fsync(fd) != 0)
			problem = errno;
		if (CloseTransientFile(fd) != 0 && problem == 0)
			problem = errno;
	}
	explicit_bzero(line, len);
	pfree(line);
	if (problem == 0)
		return;
	errno = problem;
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not write a secret: %m"),
			 errdetail_log("The file is \"%s\".", path)));
}

/*
 * Returns the trimmed content of a small file, or NULL (and what is reported names the file only).
 */
static char *
read_secret_file(const char *path, const char *remote, int elevel)
{
	char		buf[MAX_SECRET_FILE + 1];
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	ssize_t		n;
	char	   *token = NULL;

	if (fd < 0)
	{
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not open secret file \"%s\": %m", path)));
		return NULL;
	}
	n = read(fd, buf, sizeof(buf));
	if (n < 0)
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not read secret file \"%s\": %m", path)));
	else if (n > MAX_SECRET_FILE)
		ereport(elevel,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("secret file \"%s\" is longer than %d bytes", path, MAX_SECRET_FILE)));
	else
	{
		buf[n] = '\0';
		token = trimmed_copy(buf, remote, elevel);
	}
	CloseTransientFile(fd);
	explicit_bzero(buf, sizeof(buf));
	return token;
}

static char *
trimmed_copy(const char *text, const char *remote, int elevel)
{
	const char *end;

	while (isspace((unsigned char) *text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char) end[-1]))
		end--;
	for (const char *p = text; p < end; p++)
	{
		/* a header line cannot carry it, and a file with more than a token is a mistake */
		if (!isgraph((unsigned char) *p))
		{
			ereport(elevel,
					(errcode(ERRCODE_ANGLES_BAD_SETTING),
					 errmsg("the %s token holds white space or control characters", remote),
					 errhint("Put the token alone on one line.")));
			return NULL;
		}
	}
	return end == text ? NULL : pnstrdup(text, end - text);
}
