/*
 * seal.c
 *		See seal.h. Runs in job workers; no value and no key is in any error.
 */
#include "postgres.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "common/base64.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/compat.h"
#include "core/errors.h"
#include "backup/seal.h"

#define SIV_BYTES 16

/* Names what a MAC is for; another construction gets another name. */
#define SEAL_PURPOSE "angles seal 1"
#define HASH_PURPOSE "angles hash 1"

static void wipe_keys(void *arg);
static void derive(const uint8 *secret, const char *purpose, uint8 out[32]);
static void compute_siv(const SealKey *key, const SealContext *context, const char *value,
						Size len, uint8 siv[SIV_BYTES]);
static void crypt_ctr(const SealKey *key, const uint8 siv[SIV_BYTES], const uint8 *in, Size len,
					  uint8 *out);
ANGLES_NORETURN static void openssl_failed(void);

/* ---- keys ---- */

SealKeys *
angles_seal_keys(void)
{
	SealKeys   *keys = palloc0(sizeof(SealKeys));

	keys->callback.func = wipe_keys;
	keys->callback.arg = keys;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &keys->callback);
	return keys;
}

void
angles_seal_add_key(SealKeys *keys, const uint8 secret[ANGLES_SEAL_SECRET])
{
	MemoryContext cxt = GetMemoryChunkContext(keys);
	SealKey    *wider = MemoryContextAllocZero(cxt, sizeof(SealKey) * (keys->n + 1));
	SealKey    *key = &wider[keys->n];
	uint8		id[32];

	if (keys->n > 0)
	{
		memcpy(wider, keys->keys, sizeof(SealKey) * keys->n);
		explicit_bzero(keys->keys, sizeof(SealKey) * keys->n);
		pfree(keys->keys);
	}
	derive(secret, "angles seal id", id);
	hex_encode((const char *) id, 8, key->id);
	key->id[ANGLES_SEAL_ID - 1] = '\0';
	derive(secret, "angles seal mac", key->mac);
	derive(secret, "angles seal cipher", key->cipher);
	derive(secret, "angles seal hash", key->hash);
	keys->keys = wider;
	keys->n++;
}

/* The chunk of the keys is of the same context: it is still there when the callback comes. */
static void
wipe_keys(void *arg)
{
	SealKeys   *keys = arg;

	if (keys->n > 0)
		explicit_bzero(keys->keys, sizeof(SealKey) * keys->n);
}

/* HMAC(secret, purpose): "openssl dgst -mac HMAC" does the same. */
static void
derive(const uint8 *secret, const char *purpose, uint8 out[32])
{
	size_t		len = 0;

	if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, secret, ANGLES_SEAL_SECRET,
				  (const unsigned char *) purpose, strlen(purpose), out, 32, &len) == NULL ||
		len != 32)
		openssl_failed();
}

/* ---- values ---- */

void
angles_seal(const SealKey *key, const SealContext *context, const char *value, Size len,
			StringInfo out)
{
	Size		raw_len = SIV_BYTES + len;
	uint8	   *raw = palloc_extended(raw_len, MCXT_ALLOC_HUGE);
	int			room = pg_b64_enc_len(raw_len);
	int			written;

	compute_siv(key, context, value, len, raw);
	crypt_ctr(key, raw, (const uint8 *) value, len, raw + SIV_BYTES);
	enlargeStringInfo(out, room);
	written = ANGLES_B64_ENCODE((char *) raw, raw_len, out->data + out->len, room);
	if (written < 0)
		elog(ERROR, "could not encode a sealed value");
	out->len += written;
	out->data[out->len] = '\0';
	pfree(raw);
}

SealOpened
angles_seal_open(const SealKeys *keys, const char *id, const SealContext *context,
				 const char *sealed, Size len, StringInfo out)
{
	const SealKey *key = NULL;
	uint8	   *raw;
	uint8	   *value;
	int			raw_len;
	uint8		siv[SIV_BYTES];
	SealOpened	opened = SEAL_REFUSED;

	for (int i = 0; i < keys->n; i++)
	{
		if (strcmp(keys->keys[i].id, id) == 0)
			key = &keys->keys[i];
	}
	if (key == NULL)
		return SEAL_NO_KEY;
	raw = palloc_extended(pg_b64_dec_len(len) + 1, MCXT_ALLOC_HUGE);
	raw_len = ANGLES_B64_DECODE(sealed, len, (char *) raw, pg_b64_dec_len(len) + 1);
	if (raw_len >= SIV_BYTES)
	{
		value = palloc_extended(raw_len - SIV_BYTES + 1, MCXT_ALLOC_HUGE);
		crypt_ctr(key, raw, raw + SIV_BYTES, raw_len - SIV_BYTES, value);
		compute_siv(key, context, (char *) value, raw_len - SIV_BYTES, siv);
		if (CRYPTO_memcmp(siv, raw, SIV_BYTES) == 0)
		{
			appendBinaryStringInfo(out, (char *) value, raw_len - SIV_BYTES);
			opened = SEAL_OPENED;
		}
		explicit_bzero(value, raw_len - SIV_BYTES + 1);
		pfree(value);
	}
	pfree(raw);
	return opened;
}

void
angles_seal_hash(const SealKey *key, const SealContext *context, const char *value, Size len,
				 char hex[33])
{
	const void *pieces[] = {HASH_PURPOSE, context->table, context->column, value};
	Size		lens[] = {strlen(HASH_PURPOSE), strlen(context->table), strlen(context->column),
	len};
	uint8		mac[32];

	angles_seal_mac(key->hash, sizeof(key->hash), lengthof(pieces), pieces, lens, mac);
	hex_encode((const char *) mac, 16, hex);
	hex[32] = '\0';
}

static void
compute_siv(const SealKey *key, const SealContext *context, const char *value, Size len,
			uint8 siv[SIV_BYTES])
{
	const void *pieces[] = {SEAL_PURPOSE, context->table, context->column, context->key, value};
	Size		lens[] = {strlen(SEAL_PURPOSE), strlen(context->table), strlen(context->column),
	context->key_len, len};
	uint8		mac[32];

	angles_seal_mac(key->mac, sizeof(key->mac), lengthof(pieces), pieces, lens, mac);
	memcpy(siv, mac, SIV_BYTES);
}

/* With lengths, so that "ab" and "c" are not "a" and "bc". */
void
angles_seal_mac(const uint8 *key, Size key_len, int n, const void *const *pieces,
				const Size *lens, uint8 mac[32])
{
	static EVP_MAC *hmac = NULL;
	static char digest[] = "SHA256";
	OSSL_PARAM	params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end()
	};
	EVP_MAC_CTX *ctx;
	size_t		mac_len;
	bool		good;

	if (hmac == NULL && (hmac = EVP_MAC_fetch(NULL, "HMAC", NULL)) == NULL)
		openssl_failed();
	ctx = EVP_MAC_CTX_new(hmac);
	good = ctx != NULL && EVP_MAC_init(ctx, key, key_len, params) == 1;
	for (int i = 0; good && i < n; i++)
	{
		uint8		len[8];

		for (int j = 0; j < 8; j++)
			len[j] = (uint8) ((uint64) lens[i] >> (56 - 8 * j));
		good = EVP_MAC_update(ctx, len, sizeof(len)) == 1 &&
			EVP_MAC_update(ctx, pieces[i], lens[i]) == 1;
	}
	good = good && EVP_MAC_final(ctx, mac, &mac_len, 32) == 1;
	EVP_MAC_CTX_free(ctx);
	if (!good)
		openssl_failed();
}

/* A value has less than 1 GB, so its length is an int. */
static void
crypt_ctr(const SealKey *key, const uint8 siv[SIV_BYTES], const uint8 *in, Size len, uint8 *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int			written = 0;
	bool		good = ctx != NULL &&
		EVP_EncryptInit_ex(ctx, EVP_aes_256_ctr(), NULL, key->cipher, siv) == 1 &&
		EVP_EncryptUpdate(ctx, out, &written, in, (int) len) == 1;

	EVP_CIPHER_CTX_free(ctx);
	if (!good || written != (int) len)
		openssl_failed();
}

static void
openssl_failed(void)
{
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_BACKUP_KEY), errmsg("could not seal a value")));
}
