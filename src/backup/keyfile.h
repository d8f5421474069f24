/*
 * keyfile.h
 *		The file of angles.backup_key_file: the key that signs backups, and those that seal values.
 *
 * PEM blocks: "PRIVATE KEY" (Ed25519, PKCS #8), then "ANGLES SEALING KEY" (32 bytes), the newest
 * first. Older ones stay, so that what they sealed can be opened.
 */
#ifndef ANGLES_KEYFILE_H
#define ANGLES_KEYFILE_H

#include "postgres.h"

#include <openssl/bio.h>

#include "backup/seal.h"

/*
 * Returns the bytes of the file, in the current context, to be wiped by the caller; NULL when none
 * is set. Raises ERRCODE_ANGLES_BACKUP_KEY when others can use it, or an error of access.
 */
extern char *angles_keyfile_read(int *len);

/*
 * Returns the sealing keys of the file, in the current context, which wipes them; NULL when there
 * are none: then secrets are left out of backups.
 */
extern SealKeys *angles_keyfile_seal_keys(void);

/* Appends a new sealing key to what is to become a file; false when OpenSSL fails. */
extern bool angles_keyfile_add_sealing(BIO *bio);

/* Warns when a key would be kept with what it protects: in the data directory. */
extern void angles_keyfile_warn(const char *path);

#endif							/* ANGLES_KEYFILE_H */
