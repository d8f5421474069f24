/*
 * key.h
 *		The Ed25519 key that signs backups.
 */
#ifndef ANGLES_KEY_H
#define ANGLES_KEY_H

#include "postgres.h"

#define ANGLES_SIGNATURE_BYTES 64
#define ANGLES_PUBLIC_KEY_BYTES 32

typedef struct BackupKey BackupKey;

/*
 * Returns the key of angles.backup_key_file, in the current context (which owns it), or NULL when
 * there is none. Raises ERRCODE_ANGLES_BACKUP_KEY when it cannot be read, can be read by others, is
 * of another kind, or is not the one of angles.backup_public_key.
 */
extern BackupKey *angles_key_open(void);

/* Returns the public half as PEM, as text in base64, and its fingerprint ("SHA256:..."). */
extern char *angles_key_public_pem(const BackupKey *key);
extern char *angles_key_public_text(const BackupKey *key);
extern char *angles_key_fingerprint(const BackupKey *key);

/* Signs some bytes. */
extern void angles_key_sign(const BackupKey *key, const void *data, Size len,
							unsigned char signature[ANGLES_SIGNATURE_BYTES]);

/* Whether a signature is that of the owner of a public half (PEM). */
extern bool angles_key_verify(const char *public_pem, const void *data, Size len,
							  const unsigned char *signature, Size signature_len);

/* Returns the public half of a PEM text in base64, or NULL when it holds no Ed25519 key. */
extern char *angles_key_text_of_pem(const char *public_pem);

#endif							/* ANGLES_KEY_H */
