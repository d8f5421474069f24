/*
 * seal.h
 *		Values that only the owner of a key can read: the same bytes for the same value each time.
 *
 * A synthetic initialisation vector: SIV = the first 16 bytes of HMAC-SHA256(k1, context || value),
 * the value encrypted with AES-256-CTR under k2 from that counter on. Opening computes the SIV
 * anew, so a wrong key, a changed byte or another row is refused. Source of the construction:
 * Rogaway and Shrimpton, "Deterministic Authenticated-Encryption" (2006); with CTR and HMAC rather
 * than AES-SIV of RFC 5297, so that "openssl enc" opens a value when angles is gone.
 */
#ifndef ANGLES_SEAL_H
#define ANGLES_SEAL_H

#include "postgres.h"

#include "lib/stringinfo.h"

#define ANGLES_SEAL_SECRET 32	/* bytes of a sealing key */
#define ANGLES_SEAL_ID 17		/* hexadecimal digits of a key's name, and a NUL */

/* What is made of one sealing key. Wiped when the context goes that it was made in. */
typedef struct SealKey
{
	char		id[ANGLES_SEAL_ID];
	uint8		mac[32];
	uint8		cipher[32];
	uint8		hash[32];
} SealKey;

/* The first is the one that seals; all of them open. */
typedef struct SealKeys
{
	int			n;
	SealKey    *keys;
	MemoryContextCallback callback;
} SealKeys;

/* Where a value stands: it opens nowhere else. */
typedef struct SealContext
{
	const char *table;			/* quoted, with its schema */
	const char *column;
	const char *key;			/* of the row, as COPY text */
	Size		key_len;
} SealContext;

typedef enum SealOpened
{
	SEAL_OPENED,
	SEAL_NO_KEY,				/* sealed with a key that is not here */
	SEAL_REFUSED				/* another place, changed bytes, or a wrong key */
} SealOpened;

/* Returns keys without any in them, in the current context; then their secrets, newest first. */
extern SealKeys *angles_seal_keys(void);
extern void angles_seal_add_key(SealKeys *keys, const uint8 secret[ANGLES_SEAL_SECRET]);

/* Appends the sealed value in base64. */
extern void angles_seal(const SealKey *key, const SealContext *context, const char *value,
						Size len, StringInfo out);

/* Appends the value that was sealed with the key of this id; nothing unless SEAL_OPENED. */
extern SealOpened angles_seal_open(const SealKeys *keys, const char *id,
								   const SealContext *context, const char *sealed, Size len,
								   StringInfo out);

/*
 * Writes 32 hexadecimal digits for a value of this column: the same for the same value, and not to
 * be found by trying out values without the key.
 */
extern void angles_seal_hash(const SealKey *key, const SealContext *context, const char *value,
							 Size len, char hex[33]);

/*
 * Writes HMAC-SHA256 of some pieces, each with its length before it.
 */
extern void angles_seal_mac(const uint8 *key, Size key_len, int n, const void *const *pieces,
							const Size *lens, uint8 mac[32]);

#endif							/* ANGLES_SEAL_H */
