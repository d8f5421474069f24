/*
 * key.c
 *		See key.h. Reading and signing in job workers; angles.create_backup_key() in user backends.
 *
 * The private half never leaves its file but for the memory of OpenSSL; no error or log has any of
 * it.
 */
#include "postgres.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "common/base64.h"
#include "common/file_perm.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/compat.h"
#include "core/errors.h"
#include "core/guc.h"
#include "backup/key.h"
#include "backup/keyfile.h"


struct BackupKey
{
	EVP_PKEY   *pkey;
	MemoryContextCallback callback;
};

static BackupKey *wrap(EVP_PKEY *pkey);
static void free_key(void *arg);
static void check_pinned(const BackupKey *key);
static char *public_pem(EVP_PKEY *pkey);
static char *public_text(EVP_PKEY *pkey);
static char *bio_text(BIO *bio);
ANGLES_NORETURN static void openssl_error(const char *what);
static void write_key(const char *path, EVP_PKEY *pkey);
static EVP_PKEY *generate(void);

PG_FUNCTION_INFO_V1(angles_sql_create_backup_key);

/* ---- reading ---- */

BackupKey *
angles_key_open(void)
{
	static char no_password[] = "";
	const char *path = angles_guc_backup_key_file;
	int			len;
	char	   *pem = angles_keyfile_read(&len);
	BIO		   *bio;
	EVP_PKEY   *pkey;
	BackupKey  *key;

	if (pem == NULL)
		return NULL;
	bio = BIO_new_mem_buf(pem, len);
	pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, no_password) : NULL;
	BIO_free(bio);
	explicit_bzero(pem, len);
	pfree(pem);
	ERR_clear_error();
	if (pkey == NULL || EVP_PKEY_base_id(pkey) != EVP_PKEY_ED25519)
	{
		EVP_PKEY_free(pkey);
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BACKUP_KEY),
				 errmsg("file \"%s\" of angles.backup_key_file holds no Ed25519 key", path),
				 errhint("SELECT angles.create_backup_key(path) makes one.")));
	}
	key = wrap(pkey);
	check_pinned(key);
	return key;
}

static BackupKey *
wrap(EVP_PKEY *pkey)
{
	BackupKey  *key = palloc0(sizeof(BackupKey));

	key->pkey = pkey;
	key->callback.func = free_key;
	key->callback.arg = key;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &key->callback);
	return key;
}

static void
free_key(void *arg)
{
	EVP_PKEY_free(((BackupKey *) arg)->pkey);
}

static void
check_pinned(const BackupKey *key)
{
	const char *pinned = angles_guc_backup_public_key;

	if (pinned == NULL || *pinned == '\0' || strcmp(pinned, angles_key_public_text(key)) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_BACKUP_KEY),
			 errmsg("the key of angles.backup_key_file is not the one of angles.backup_public_key"),
			 errdetail("The file's public half is %s.", angles_key_public_text(key)),
			 errhint("Put the right file back, or change both settings if the key was changed.")));
}

/* ---- what others may know ---- */

char *
angles_key_public_pem(const BackupKey *key)
{
	return public_pem(key->pkey);
}

char *
angles_key_public_text(const BackupKey *key)
{
	return public_text(key->pkey);
}

char *
angles_key_fingerprint(const BackupKey *key)
{
	unsigned char raw[ANGLES_PUBLIC_KEY_BYTES];
	unsigned char digest[EVP_MAX_MD_SIZE];
	size_t		raw_len = sizeof(raw);
	unsigned int len = 0;
	char	   *text = palloc0(100);

	if (EVP_PKEY_get_raw_public_key(key->pkey, raw, &raw_len) != 1 ||
		EVP_Digest(raw, raw_len, digest, &len, EVP_sha256(), NULL) != 1)
		openssl_error("could not compute the fingerprint of a key");
	strlcpy(text, "SHA256:", 100);
	ANGLES_B64_ENCODE((char *) digest, len, text + 7, 90);
	return text;
}

static char *
public_pem(EVP_PKEY *pkey)
{
	BIO		   *bio = BIO_new(BIO_s_mem());

	if (bio == NULL || PEM_write_bio_PUBKEY(bio, pkey) != 1)
		openssl_error("could not write a public key");
	return bio_text(bio);
}

static char *
public_text(EVP_PKEY *pkey)
{
	unsigned char raw[ANGLES_PUBLIC_KEY_BYTES];
	size_t		len = sizeof(raw);
	char	   *text = palloc0(64);

	if (EVP_PKEY_get_raw_public_key(pkey, raw, &len) != 1)
		openssl_error("could not read a public key");
	ANGLES_B64_ENCODE((char *) raw, len, text, 63);
	return text;
}

char *
angles_key_text_of_pem(const char *pem)
{
	BIO		   *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY   *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	bool		good = pkey != NULL && EVP_PKEY_base_id(pkey) == EVP_PKEY_ED25519;
	char	   *text = good ? public_text(pkey) : NULL;

	EVP_PKEY_free(pkey);
	BIO_free(bio);
	ERR_clear_error();
	return text;
}

static char *
bio_text(BIO *bio)
{
	char	   *data;
	long		len = BIO_get_mem_data(bio, &data);
	char	   *text = pnstrdup(data, len);

	BIO_free(bio);
	return text;
}

/* ---- signatures ---- */

void
angles_key_sign(const BackupKey *key, const void *data, Size len,
				unsigned char signature[ANGLES_SIGNATURE_BYTES])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t		signature_len = ANGLES_SIGNATURE_BYTES;
	bool		good = ctx != NULL &&
		EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
		EVP_DigestSign(ctx, signature, &signature_len, data, len) == 1;

	EVP_MD_CTX_free(ctx);
	if (!good || signature_len != ANGLES_SIGNATURE_BYTES)
		openssl_error("could not sign a backup");
}

bool
angles_key_verify(const char *pem, const void *data, Size len, const unsigned char *signature,
				  Size signature_len)
{
	BIO		   *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY   *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool		good = pkey != NULL && ctx != NULL &&
		EVP_PKEY_base_id(pkey) == EVP_PKEY_ED25519 &&
		EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		EVP_DigestVerify(ctx, signature, signature_len, data, len) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	ERR_clear_error();
	return good;
}

static void
openssl_error(const char *what)
{
	ERR_clear_error();
	ereport(ERROR, (errcode(ERRCODE_ANGLES_BACKUP_KEY), errmsg("%s", what)));
}

/* ---- making one ---- */

/* create_backup_key(path text): (public_key text, fingerprint text) of a new file. */
Datum
angles_sql_create_backup_key(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	BackupKey  *key;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

	if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to write a key file"),
				 errhint("It takes a superuser or a member of pg_write_server_files.")));
	if (!is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the path of a key file must be absolute"),
				 errhint("Give a path outside of the data directory: who has a copy of that shall "
						 "not be able to sign.")));
	angles_keyfile_warn(path);
	key = wrap(generate());
	write_key(path, key->pkey);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "angles.create_backup_key() has no row type");
	values[0] = CStringGetTextDatum(angles_key_public_text(key));
	values[1] = CStringGetTextDatum(angles_key_fingerprint(key));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

static EVP_PKEY *
generate(void)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
	EVP_PKEY   *pkey = NULL;

	if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1 || EVP_PKEY_keygen(ctx, &pkey) != 1)
	{
		EVP_PKEY_CTX_free(ctx);
		openssl_error("could not make a key");
	}
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

/* A new file, never one that is there: that may be the key of backups that exist. */
static void
write_key(const char *path, EVP_PKEY *pkey)
{
	/* its memory is wiped when it is freed */
	BIO		   *bio = BIO_new(BIO_s_secmem());
	char	   *data;
	long		len;
	int			fd;
	bool		good;

	if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) != 1 ||
		!angles_keyfile_add_sealing(bio))
	{
		BIO_free(bio);
		openssl_error("could not write a key");
	}
	len = BIO_get_mem_data(bio, &data);
	fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, S_IRUSR | S_IWUSR);
	good = fd >= 0 && write(fd, data, len) == len && pg_fsync(fd) == 0;
	if (!good)
	{
		int			saved = errno;

		BIO_free(bio);
		if (fd >= 0)
			(void) unlink(path);
		errno = saved;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not make key file \"%s\": %m", path),
				 errhint("The folder must be there and be the server's user's; a file that is "
						 "there already is not replaced.")));
	}
	CloseTransientFile(fd);
	BIO_free(bio);
	fsync_fname(path, false);
}
