/*
 * sealstrings.h
 *		Secrets in the strings of JSON and in the elements of arrays.
 */
#ifndef ANGLES_SEALSTRINGS_H
#define ANGLES_SEALSTRINGS_H

#include "postgres.h"

#include "backup/scan.h"

/*
 * Finds the secrets in the strings of a JSON text, each under the name of the member whose value it
 * is ("name" where there is none yet, or NULL). Spans are within strings, between escapes. "inner"
 * is a list to work with.
 */
extern void angles_strings_json(ScanSpans *found, ScanSpans *inner, const char *text, Size len,
								const char *name);

/* The same for the elements of an array, as array_out() writes it with "," between them. */
extern void angles_strings_array(ScanSpans *found, ScanSpans *inner, const char *text, Size len,
								 const char *name);

#endif							/* ANGLES_SEALSTRINGS_H */
