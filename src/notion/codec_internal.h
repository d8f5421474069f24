/*
 * codec_internal.h
 *		What the files of the codec share.
 */
#ifndef ANGLES_CODEC_INTERNAL_H
#define ANGLES_CODEC_INTERNAL_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Pieces of a rich text in one write, and UTF-16 units of one (reference, section 5). */
#define ANGLES_MAX_PIECES 100
#define ANGLES_PIECE_UNITS 2000

/* Returns the shortest decimal that reads back as the same double: the normal form of a number. */
extern char *angles_codec_number(double number);

/* Returns the length in UTF-16 units, which is how Notion counts. */
extern int64 angles_codec_utf16_length(const char *text);

/* Returns into how many pieces a text is cut. */
extern int64 angles_codec_pieces(const char *text);

/*
 * Returns a JSON array of texts, sorted. A double is a problem, or, merge_doubles, left out. Sorts
 * texts in place.
 */
extern char *angles_codec_set(char **texts, int n, bool merge_doubles, char **problem);

/* Returns "YYYY-MM-DDThh:mm:ss.mmm+00:00", NULL outside the years 1 to 9999. */
extern char *angles_codec_timestamp(TimestampTz at);

#endif							/* ANGLES_CODEC_INTERNAL_H */
