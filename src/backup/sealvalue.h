/*
 * sealvalue.h
 *		What a backup writes in place of secrets: stand-ins in the rows, sealed values beside them.
 *
 * A stand-in is valid for the type of its column and always the same. What was there is put back by
 * replacing the bytes that a piece speaks of: without knowing types, JSON or arrays.
 */
#ifndef ANGLES_SEALVALUE_H
#define ANGLES_SEALVALUE_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"

#include "backup/scan.h"
#include "backup/scope.h"
#include "backup/seal.h"

/* What becomes of a column. */
typedef enum SealPolicy
{
	SEAL_PLAIN,					/* written, but for secrets that are found in it */
	SEAL_SEAL,					/* each value is sealed; without a key it is left out */
	SEAL_HASH,					/* a keyed hash: equal values can be seen; without a key left out */
	SEAL_OMIT					/* left out */
} SealPolicy;

/* Where the text of a type has words that can be looked at and replaced. */
typedef enum RedactForm
{
	REDACT_NOTHING,				/* numbers, times, bytes: nowhere */
	REDACT_TEXT,
	REDACT_JSON,				/* in its strings */
	REDACT_ARRAY,				/* in its elements, which are text */
	REDACT_WHOLE				/* anywhere, but only the value as a whole can be replaced */
} RedactForm;

/* Of angles.allowed_secrets: fingerprints are told apart by the salt of their time. */
typedef struct RedactAllowed
{
	char	   *fingerprint;	/* NULL: all that is found there */
	uint8	   *salt;
	Size		salt_len;
} RedactAllowed;

typedef struct RedactColumn
{
	const char *name;
	SealPolicy	policy;
	RedactForm	form;
	bool		key;			/* of the key by which rows are known */
	bool		telling;		/* its name says that it holds secrets */
	int			max_chars;		/* of varchar(n) and its kin; 0: no limit */
	bool		padded;			/* char(n) */
	bool		may_be_null;
	const char *stand_in;		/* of the type, for a value as a whole; NULL: none */
	List	   *allowed;		/* of RedactAllowed */
} RedactColumn;

typedef struct RedactTable
{
	const char *full_name;
	int			n_columns;
	RedactColumn *columns;		/* as those of the BackupTable */
	const SealKey *key;			/* NULL: nothing is sealed, only left out */
	uint8		salt[32];		/* of fingerprints */
	char	   *refused;		/* why this table cannot be backed up, or NULL */
	HTAB	   *found;
	const char *row_key;		/* set by callers that want to know where, or NULL */
	ScanSpans	spans;
	ScanSpans	inner;
	MemoryContext cxt;
} RedactTable;

/* Bytes of what is written, and what was there. */
typedef struct RedactPiece
{
	Size		at;
	Size		len;
	char	   *sealed;			/* base64; NULL: left out */
} RedactPiece;

typedef struct Redaction
{
	bool		null;			/* SQL null stands in for the value; its piece has no length */
	StringInfoData text;		/* what is written */
	int			n;
	RedactPiece *pieces;		/* in order; none: the value is lost on purpose (omit, hash) */
	const char *key_id;			/* of the key they are sealed with, or NULL */
} Redaction;

typedef enum RedactResult
{
	REDACT_AS_IS,
	REDACT_REPLACED,
	REDACT_REFUSED				/* table->refused says why */
} RedactResult;

#define ANGLES_FINGERPRINT 17	/* hexadecimal digits, and a NUL */

/* One kind of secret at one place, and how often. */
typedef struct RedactFound
{
	int			column;			/* the key of the hash table is this ... */
	char		kind[32];
	char		fingerprint[ANGLES_FINGERPRINT];	/* ... to here; empty: more than are kept */
	int64		count;
	char	   *first_key;		/* "row_key" when it was found first */
} RedactFound;

/* A secret beside the rows: in the name, the default or the comment of something. */
typedef struct RedactPlace
{
	char	   *column;			/* or NULL */
	char	   *place;
	const char *kind;
	char		fingerprint[ANGLES_FINGERPRINT];
} RedactPlace;

/*
 * Returns what is to be known of a table before its rows are read, in the current context: policies
 * and what is allowed, as the active snapshot sees them. "keys" may be NULL, and lives as long.
 * Sets "refused" when a column of the key has a policy, a value as a whole could not be replaced,
 * or a secret stands in a name, default, comment or constraint. Needs a connection to SPI.
 */
extern RedactTable *angles_redact_begin(const BackupTable *table, const SealKeys *keys);

/* Returns the secrets beside the rows (RedactPlace) that are not allowed. */
extern List *angles_redact_places(const RedactTable *table, Oid relid);

/*
 * Decides about a value that is not null, given as its type's output function writes it. "key" is
 * the row's key as COPY text, NULL in a table without one: such values open in every row of it.
 * What is in *out is allocated in the current context; it is set only for REDACT_REPLACED.
 */
extern RedactResult angles_redact_value(RedactTable *table, int column, const char *key,
										Size key_len, const char *value, Size len,
										Redaction *out);

/*
 * Finds the secrets of a value that are not allowed: table->spans, counted in table->found. Returns
 * how many there are.
 */
extern int	angles_redact_find(RedactTable *table, int column, const char *value, Size len);

/* Returns whether somebody has allowed a secret in a column (NULL: of any name). */
extern bool angles_redact_allowed(const RedactTable *table, const char *column,
								  const char *secret, Size len);

/* Writes the fingerprint of a secret: it says nothing without the salt. */
extern void angles_redact_fingerprint(const uint8 *salt, Size salt_len, const char *secret,
									  Size len, char hex[ANGLES_FINGERPRINT]);

/*
 * Appends what a redaction was made of. Anything but SEAL_OPENED leaves *value as it was: another
 * key, changed bytes, or pieces that were left out (SEAL_NO_KEY).
 */
extern SealOpened angles_redact_undo(const SealKeys *keys, const SealContext *context,
									 const Redaction *redaction, StringInfo value);

#endif							/* ANGLES_SEALVALUE_H */
