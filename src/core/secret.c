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

static char *read_secret_file(const char *path);
static char *trimmed_copy(const char *text);

char *
angles_secret_notion(const char *name, const char **source)
{
	char	   *token;

	if (name != NULL)
	{
		char	   *path;

		*source = "angles.secrets_dir";
		if (angles_guc_secrets_dir == NULL || angles_guc_secrets_dir[0] == '\0' ||
			strchr(name, '/') != NULL || name[0] == '.')
			return NULL;
		path = psprintf("%s/%s", angles_guc_secrets_dir, name);
		token = read_secret_file(path);
		pfree(path);
		return token;
	}
	if (angles_guc_notion_token && angles_guc_notion_token[0])
	{
		*source = "angles.notion_token";
		return trimmed_copy(angles_guc_notion_token);
	}
	if (angles_guc_notion_token_file && angles_guc_notion_token_file[0])
	{
		*source = "angles.notion_token_file";
		return read_secret_file(angles_guc_notion_token_file);
	}
	*source = "environment NOTION_TOKEN";
	if (getenv("NOTION_TOKEN") && getenv("NOTION_TOKEN")[0])
		return trimmed_copy(getenv("NOTION_TOKEN"));
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
read_secret_file(const char *path)
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
		token = trimmed_copy(buf);
	}
	CloseTransientFile(fd);
	explicit_bzero(buf, sizeof(buf));
	return token;
}

static char *
trimmed_copy(const char *text)
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
					 errmsg("the Notion token holds white space or control characters"),
					 errhint("Put the token alone on one line.")));
			return NULL;
		}
	}
	return end == text ? NULL : pnstrdup(text, end - text);
}
