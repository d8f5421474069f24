/*
 * keyfile.c
 *		See keyfile.h. Reading in job workers; angles.rotate_sealing_key() in sessions.
 *
 * Nothing of a key is in any error or log.
 */
#include "postgres.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "core/compat.h"
#include "core/errors.h"
#include "core/guc.h"
#include "backup/keyfile.h"

/* The signing key and about a hundred sealing keys. */
#define KEY_FILE_MAX 16384

#define SEALING_BLOCK "ANGLES SEALING KEY"

static void write_file(const char *name, BIO *bio);
ANGLES_NORETURN static void no_key_file(void);

PG_FUNCTION_INFO_V1(angles_sql_rotate_sealing_key);

char *
angles_keyfile_read(int *len)
{
	const char *path = angles_guc_backup_key_file;
	struct stat st;
	char	   *text;
	int			fd;

	if (path == NULL || *path == '\0')
		return NULL;
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 || fstat(fd, &st) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read \"%s\" of angles.backup_key_file: %m", path),
				 errhint("It must be there, and the server's user must be able to read it.")));
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BACKUP_KEY),
				 errmsg("others than its owner can use \"%s\" of angles.backup_key_file", path),
				 errhint("Run chmod 600 on it.")));
	text = palloc(KEY_FILE_MAX);
	*len = read(fd, text, KEY_FILE_MAX);
	CloseTransientFile(fd);
	if (*len < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read \"%s\" of angles.backup_key_file: %m", path)));
	return text;
}

SealKeys *
angles_keyfile_seal_keys(void)
{
	int			len;
	char	   *text = angles_keyfile_read(&len);
	SealKeys   *keys;
	BIO		   *bio;
	char	   *name;
	char	   *header;
	unsigned char *data;
	long		data_len;

	if (text == NULL)
		return NULL;
	keys = angles_seal_keys();
	bio = BIO_new_mem_buf(text, len);
	while (bio != NULL && PEM_read_bio(bio, &name, &header, &data, &data_len) == 1)
	{
		if (strcmp(name, SEALING_BLOCK) == 0 && data_len == ANGLES_SEAL_SECRET)
			angles_seal_add_key(keys, data);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(data, data_len);
	}
	BIO_free(bio);
	ERR_clear_error();
	explicit_bzero(text, len);
	pfree(text);
	return keys->n > 0 ? keys : NULL;
}

bool
angles_keyfile_add_sealing(BIO *bio)
{
	unsigned char secret[ANGLES_SEAL_SECRET];
	bool		good = pg_strong_random(secret, sizeof(secret)) &&
		PEM_write_bio(bio, SEALING_BLOCK, "", secret, sizeof(secret)) > 0;

	explicit_bzero(secret, sizeof(secret));
	return good;
}

void
angles_keyfile_warn(const char *path)
{
	char	   *canonical = pstrdup(path);

	canonicalize_path(canonical);
	if (path_is_prefix_of_path(DataDir, canonical))
		ereport(WARNING,
				(errmsg("the key is kept in the data directory"),
				 errdetail("Who has a copy of that has the key, too; and what destroys one "
						   "destroys both."),
				 errhint("Move the file elsewhere before angles.backup_key_file is set.")));
	pfree(canonical);
}

/* ---- another sealing key ---- */

/* rotate_sealing_key() text: the id of the new key, which seals from now on. */
Datum
angles_sql_rotate_sealing_key(PG_FUNCTION_ARGS)
{
	int			len;
	char	   *text;
	char	   *sealing;
	BIO		   *bio;
	bool		good;

	if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change the key file"),
				 errhint("It takes a superuser or a member of pg_write_server_files.")));
	text = angles_keyfile_read(&len);
	if (text == NULL)
		no_key_file();
	if (len >= KEY_FILE_MAX - 256)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BACKUP_KEY),
				 errmsg("the key file has no room for another key"),
				 errhint("SELECT angles.create_backup_key(path) makes another file.")));
	text[len] = '\0';
	/* before those that are there */
	sealing = strstr(text, "-----BEGIN " SEALING_BLOCK);
	if (sealing == NULL)
		sealing = text + len;
	bio = BIO_new(BIO_s_secmem());
	good = bio != NULL && BIO_write(bio, text, sealing - text) == sealing - text &&
		angles_keyfile_add_sealing(bio) &&
		(sealing == text + len ||
		 BIO_write(bio, sealing, text + len - sealing) == text + len - sealing);
	explicit_bzero(text, len);
	if (!good)
	{
		BIO_free(bio);
		ERR_clear_error();
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BACKUP_KEY), errmsg("could not make a sealing key")));
	}
	PG_TRY();
	{
		write_file(angles_guc_backup_key_file, bio);
	}
	PG_FINALLY();
	{
		BIO_free(bio);
	}
	PG_END_TRY();
	PG_RETURN_TEXT_P(cstring_to_text(angles_keyfile_seal_keys()->keys[0].id));
}

static void
no_key_file(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_BACKUP_KEY),
			 errmsg("there is no key file"),
			 errdetail("angles.backup_key_file is not set."),
			 errhint("SELECT angles.create_backup_key(path) makes one and says what to set.")));
}

/* The file has its name when it is complete: a crash leaves the old one or the new one. */
static void
write_file(const char *name, BIO *bio)
{
	/* where it is a link to another folder, the file is there and stays there */
	char	   *real = realpath(name, NULL);
	char	   *path = pstrdup(real ? real : name);
	char	   *unfinished = psprintf("%s.%d.new", path, MyProcPid);
	char	   *data;
	long		len = BIO_get_mem_data(bio, &data);
	int			fd;
	bool		good;

	free(real);
	/* of a process of the same number that was killed */
	(void) unlink(unfinished);
	fd = OpenTransientFilePerm(unfinished, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY,
							   S_IRUSR | S_IWUSR);
	errno = fd >= 0 ? 0 : errno;
	good = fd >= 0 && write(fd, data, len) == len && pg_fsync(fd) == 0;
	if (!good)
	{
		int			saved = errno ? errno : ENOSPC;

		if (fd >= 0)
			(void) unlink(unfinished);
		errno = saved;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write \"%s\": %m", unfinished),
				 errhint("The server's user must be able to write into the folder of the key "
						 "file.")));
	}
	CloseTransientFile(fd);
	if (durable_rename(unfinished, path, LOG_SERVER_ONLY) != 0)
	{
		int			saved = errno;

		(void) unlink(unfinished);
		errno = saved;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not replace \"%s\": %m", path)));
	}
}
