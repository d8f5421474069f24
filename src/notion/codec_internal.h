/*
 * codec_internal.h
 *		What the files of the codec share.
 */
#ifndef ANGLES_CODEC_INTERNAL_H
#define ANGLES_CODEC_INTERNAL_H

#include "postgres.h"

#include "notion/codec.h"

/* Pieces of a rich text in one write, and UTF-16 units of one (reference, section 5). */
#define ANGLES_MAX_PIECES 100
#define ANGLES_PIECE_UNITS 2000

/* The safe length of an option's name in UTF-16 units (reference, section 5). */
#define ANGLES_OPTION_UNITS 100

/* Returns the shortest decimal that reads back as the same double: the normal form of a number. */
extern char *angles_codec_number(double number);

/* Returns whether the type has text's own input: text, varchar, char, name, citext and the like. */
extern bool angles_codec_is_text(Oid type);

/* Returns the length in UTF-16 units, which is how Notion counts. */
extern int64 angles_codec_utf16_length(const char *text);

/* Returns into how many pieces a text is cut. */
extern int64 angles_codec_pieces(const char *text);

/* Canonical form of a date, timestamp or timestamptz, or NULL and *problem. */
extern char *angles_codec_local_date(Oid type, Datum value, char **problem);

/* Canonical form of Notion's {"start","end","time_zone"} for a type, or NULL and *problem. */
extern char *angles_codec_remote_date(Oid type, JsonbContainer *date, char **problem);

/* Input text of a canonical date that the column can hold, or NULL and *problem. */
extern char *angles_codec_date_to_sql(const AnglesColumn *column, JsonbContainer *date,
									  char **problem);

#endif							/* ANGLES_CODEC_INTERNAL_H */
