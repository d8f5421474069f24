/*
 * filter.h
 *		What may be the filter of a link.
 */
#ifndef ANGLES_FILTER_H
#define ANGLES_FILTER_H

#include "postgres.h"

/*
 * Returns the filter as it is to be kept. Errors (ERRCODE_ANGLES_BAD_MAPPING, or what the parser
 * says of its parts) unless it is one condition on a row of the table, so that nobody finds out in
 * a worker's log. Needs SPI.
 */
extern char *angles_filter_check(Oid relid, char *filter);

#endif							/* ANGLES_FILTER_H */
