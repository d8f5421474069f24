/*
 * chunk.h
 *		Where the text of a table is cut: a pure function of its rows in the order of their keys.
 *
 * No state of the server, no clock, no floating point: the same rows give the same chunks on every
 * machine, and a change moves only the cuts around it.
 */
#ifndef ANGLES_CHUNK_H
#define ANGLES_CHUNK_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* Bytes of the hash of a key. */
#define ANGLES_KEY_DIGEST 32

/* Bytes of a chunk: cut by hash from "min" on, at "max" in any case unless a row is longer. */
typedef struct ChunkSizes
{
	uint32		min;
	uint32		target;
	uint32		max;
	uint64		spread;			/* twice the square of the width of the distribution */
} ChunkSizes;

/* What the next cut depends on: nothing before the beginning of the present chunk. */
typedef struct ChunkState
{
	uint64		size;			/* bytes of the present chunk */
	uint64		last;			/* those of its last row */
} ChunkState;

/* What a value of a key looks like in the name of a chunk. */
typedef enum ChunkLabelKind
{
	LABEL_HASH,					/* not at all: the hash of the key stands there */
	LABEL_INTEGER,
	LABEL_WORD					/* uuid, date, timestamp */
} ChunkLabelKind;

/* Returns the sizes for an average of "target" bytes, 1 KiB to 1 MiB. */
extern ChunkSizes angles_chunk_sizes(uint32 target);

/*
 * Puts SHA-256 of a key into digest. "ordinal" counts rows that are equal in all columns of a table
 * without a key, from 0.
 */
extern void angles_chunk_digest(const char *key, Size len, uint64 ordinal,
								uint8 digest[ANGLES_KEY_DIGEST]);

/*
 * Returns whether a row of "len" bytes begins a new chunk, and counts it. The first row of a table
 * begins one (state all zero).
 */
extern bool angles_chunk_cut(const ChunkSizes *sizes, ChunkState *state,
							 const uint8 digest[ANGLES_KEY_DIGEST], uint64 len);

/* Returns whether a chunk that begins with this key begins a new bucket: about one in 48 does. */
extern bool angles_chunk_begins_bucket(const uint8 digest[ANGLES_KEY_DIGEST]);

/*
 * Appends the name of a chunk by its first key: n values as COPY text. It keeps the order of
 * integers, uuids, dates and timestamps; of other keys it is 32 hex digits of the hash.
 */
extern void angles_chunk_label(StringInfo out, int n, const ChunkLabelKind *kinds,
							   char *const *values, const uint8 digest[ANGLES_KEY_DIGEST]);

#endif							/* ANGLES_CHUNK_H */
