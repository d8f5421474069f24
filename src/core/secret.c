/*
 * secret.c
 *		See secret.h. Runs in workers only; nothing here logs a value.
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>

#include <openssl/evp.h>

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
static char *read_secret_file(const char *path, const char *remote);
static char *trimmed_copy(const char *text, const char *remote);

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
		char	   *path;
		char	   *token;

		*source = "angles.secrets_dir";
		if (angles_guc_secrets_dir == NULL || angles_guc_secrets_dir[0] == '\0' ||
			strchr(name, '/') != NULL || name[0] == '.')
			return NULL;
		path = psprintf("%s/%s", angles_guc_secrets_dir, name);
		token = read_secret_file(path, places->remote);
		pfree(path);
		return token;
	}
	if (setting && setting[0])
	{
		*source = places->setting;
		return trimmed_copy(setting, places->remote);
	}
	if (file && file[0])
	{
		*source = places->file_setting;
		return read_secret_file(file, places->remote);
	}
	*source = places->variable_words;
	if (variable && variable[0])
		return trimmed_copy(variable, places->remote);
	*source = "none";
	return NULL;
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

/*
 * Returns the trimmed content of a small file, or NULL (with a warning that names the file only).
 */
static char *
read_secret_file(const char *path, const char *remote)
{
	char		buf[MAX_SECRET_FILE + 1];
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	ssize_t		n;
	char	   *token = NULL;

	if (fd < 0)
	{
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not open secret file \"%s\": %m", path)));
		return NULL;
	}
	n = read(fd, buf, sizeof(buf));
	if (n < 0)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not read secret file \"%s\": %m", path)));
	else if (n > MAX_SECRET_FILE)
		ereport(WARNING,
				(errcode(ERRCODE_ANGLES_BAD_SETTING),
				 errmsg("secret file \"%s\" is longer than %d bytes", path, MAX_SECRET_FILE)));
	else
	{
		buf[n] = '\0';
		token = trimmed_copy(buf, remote);
	}
	CloseTransientFile(fd);
	explicit_bzero(buf, sizeof(buf));
	return token;
}

static char *
trimmed_copy(const char *text, const char *remote)
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
			ereport(WARNING,
					(errcode(ERRCODE_ANGLES_BAD_SETTING),
					 errmsg("the %s token holds white space or control characters", remote),
					 errhint("Put the token alone on one line.")));
			return NULL;
		}
	}
	return end == text ? NULL : pnstrdup(text, end - text);
}
