/*
 * chunk.c
 *		See chunk.h. Pure functions.
 *
 * A row begins a new chunk when the hash of its key is below a bound that grows with the size of
 * the present chunk: sizes then lie around the target, instead of being mostly small with a long
 * tail (which a fixed bound gives). The bound is the integral of a hazard that grows linearly from
 * the minimum on (a Rayleigh distribution), taken over the bytes that were added since the last
 * decision. Its mean is min + 1.2533 * width, hence the width.
 */
#include "postgres.h"

#include <openssl/sha.h>

#include "lib/stringinfo.h"
#include "port/pg_bswap.h"

#include "backup/chunk.h"

/* Bits of the hash that decide about a cut, and those (others) that decide about a bucket. */
#define CUT_BITS 22
#define CHUNKS_IN_BUCKET 48

/* More values than this do not make a name that people read. */
#define LABEL_VALUES 3

static uint64 digest_word(const uint8 *digest, int word);
static bool append_label(StringInfo out, ChunkLabelKind kind, const char *value);
static bool append_word(StringInfo out, const char *value);

ChunkSizes
angles_chunk_sizes(uint32 target)
{
	ChunkSizes	sizes;

	sizes.target = target;
	sizes.min = target / 4;
	sizes.max = target * 4;
	/* 2 * (0.75 / 1.2533)^2 = 0.716 */
	sizes.spread = (uint64) target * target / 1000 * 716;
	return sizes;
}

void
angles_chunk_digest(const char *key, Size len, uint64 ordinal, uint8 digest[ANGLES_KEY_DIGEST])
{
	StaticAssertStmt(ANGLES_KEY_DIGEST == SHA256_DIGEST_LENGTH, "SHA-256 has 32 bytes");
	SHA256((const unsigned char *) key, len, digest);
	if (ordinal > 0)
	{
		uint8		both[ANGLES_KEY_DIGEST + sizeof(uint64)];
		uint64		big = pg_hton64(ordinal);

		memcpy(both, digest, ANGLES_KEY_DIGEST);
		memcpy(both + ANGLES_KEY_DIGEST, &big, sizeof(big));
		SHA256(both, sizeof(both), digest);
	}
}

bool
angles_chunk_cut(const ChunkSizes *sizes, ChunkState *state,
				 const uint8 digest[ANGLES_KEY_DIGEST], uint64 len)
{
	bool		cut = false;

	if (state->size == 0)
		cut = true;
	else if (state->size + len > sizes->max)
		cut = true;
	else if (state->size > sizes->min)
	{
		uint64		end = state->size - sizes->min;
		uint64		begin = end > state->last ? end - state->last : 0;
		uint64		mass = end * end - begin * begin;
		uint64		bound = mass >= sizes->spread
			? UINT64CONST(1) << CUT_BITS : (mass << CUT_BITS) / sizes->spread;

		cut = digest_word(digest, 0) >> (64 - CUT_BITS) < bound;
	}
	state->size = cut ? len : state->size + len;
	state->last = len;
	return cut;
}

bool
angles_chunk_begins_bucket(const uint8 digest[ANGLES_KEY_DIGEST])
{
	return digest_word(digest, 1) < PG_UINT64_MAX / CHUNKS_IN_BUCKET;
}

static uint64
digest_word(const uint8 *digest, int word)
{
	uint64		value;

	memcpy(&value, digest + word * sizeof(uint64), sizeof(value));
	return pg_ntoh64(value);
}

/* ---- names ---- */

void
angles_chunk_label(StringInfo out, int n, const ChunkLabelKind *kinds, char *const *values,
				   const uint8 digest[ANGLES_KEY_DIGEST])
{
	int			start = out->len;
	bool		readable = n > 0 && n <= LABEL_VALUES;

	for (int i = 0; i < n && readable; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, '_');
		readable = append_label(out, kinds[i], values[i]);
	}
	if (readable)
		return;
	out->len = start;
	for (int i = 0; i < ANGLES_KEY_DIGEST / 2; i++)
		appendStringInfo(out, "%02x", digest[i]);
}

static bool
append_label(StringInfo out, ChunkLabelKind kind, const char *value)
{
	char	   *end;
	int64		number;

	if (kind == LABEL_HASH)
		return false;
	if (kind == LABEL_WORD)
		return append_word(out, value);
	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno != 0 || *value == '\0' || *end != '\0')
		return false;
	/* "m" before "p", and of both the smaller number first */
	if (number < 0)
		appendStringInfo(out, "m%019" INT64_MODIFIER "u", (uint64) number - (uint64) PG_INT64_MIN);
	else
		appendStringInfo(out, "p%019" INT64_MODIFIER "d", number);
	return true;
}

/*
 * A uuid, a date or a timestamp in UTC with a year of four digits, as a file may be called on every
 * system: 2026-01-02T03-04-05.6
 */
static bool
append_word(StringInfo out, const char *value)
{
	Size		len = strlen(value);

	/* the offset from UTC is always the same */
	if (len > 3 && strcmp(value + len - 3, "+00") == 0)
		len -= 3;
	/* infinity, years beyond 9999 and BC have no place in that order */
	if (len < 10 || (value[4] != '-' && value[8] != '-'))
		return false;
	for (Size i = 0; i < len; i++)
	{
		char		c = value[i];

		if (c == ' ')
			c = 'T';
		else if (c == ':')
			c = '-';
		else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-' || c == '.'))
			return false;
		appendStringInfoChar(out, c);
	}
	return true;
}
