/*
 * scan.h
 *		Finding secrets in text: a pure function of the bytes and the name they stand under.
 *
 * High confidence first: what has the form that its maker gives it (a token of GitHub, a private
 * key in PEM, a URI with a password), and values with much chance in them that are assigned to a
 * name such as "api_key". Linear in the length of the text, whatever is in it.
 */
#ifndef ANGLES_SCAN_H
#define ANGLES_SCAN_H

#include "postgres.h"

/* Bytes of a text that are a secret, [start, end), and a static word for what it is. */
typedef struct ScanSpan
{
	Size		start;
	Size		end;
	const char *kind;
	int			confidence;		/* percent */
} ScanSpan;

/* What was found, in the order of the text and without overlaps; kept from call to call. */
typedef struct ScanSpans
{
	ScanSpan   *spans;
	int			n;
	int			size;
	MemoryContext cxt;
} ScanSpans;

/* Prepares an empty list in the current context. */
extern void angles_scan_begin(ScanSpans *found);

/*
 * Finds the secrets in a text of any bytes. "name" is what the text as a whole is called (a column,
 * a member of a JSON object), or NULL. Raises an error only when cancelled or out of memory.
 */
extern void angles_scan(ScanSpans *found, const char *text, Size len, const char *name);

/*
 * Returns whether a text might hold a secret: false is certain, for any text under no telling name.
 * The text of a JSON string with escapes has to be decoded first.
 */
extern bool angles_scan_maybe(const char *text, Size len);

/* Returns whether values under this name are likely to be secrets ("password", "apiKey"). */
extern bool angles_scan_telling_name(const char *name);

/* Appends to a list what was found in a part of the text; it begins behind what is there. */
extern void angles_scan_append(ScanSpans *found, Size start, Size end, const char *kind,
							   int confidence);

#endif							/* ANGLES_SCAN_H */
