/*
 * copytext.h
 *		Rows as lines of COPY text, the same bytes for the same values whatever the session.
 */
#ifndef ANGLES_COPYTEXT_H
#define ANGLES_COPYTEXT_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "lib/stringinfo.h"

/* The output functions for the columns of a query, and what is needed to use them. */
typedef struct CopyText
{
	int			n_columns;
	FmgrInfo   *functions;
	Size	   *starts;			/* where each column of the last row begins in its line */
	Size	   *ends;			/* and where it ends: the tab or line feed is not of it */
	bool		convert;		/* the server's encoding is neither UTF-8 nor SQL_ASCII */
	MemoryContext row_context;	/* for the values of one row */
} CopyText;

/*
 * Pins what the text of values and the order of rows depend on (backup, restore and drift use the
 * same) until AtEOXact_GUC(true, what this returns), or the end of the transaction. Row level
 * security that would leave out rows raises an error instead.
 */
extern int	angles_copytext_pin(void);

/* Returns a writer for rows of this shape, in the current context. */
extern CopyText *angles_copytext_begin(TupleDesc desc);

/*
 * Appends a row as COPY ... TO STDOUT writes it with its default options and client_encoding UTF8:
 * values with tabs between them and a line feed behind. The bytes of an SQL_ASCII database stay as
 * they are. Source of the rules: the manual's page of COPY, "Text Format".
 */
extern void angles_copytext_row(CopyText *copy, TupleTableSlot *slot, StringInfo out);

/* Returns text of the server in the encoding of the backup: the same pointer when it is UTF-8. */
extern char *angles_copytext_encode(const char *text);

#endif							/* ANGLES_COPYTEXT_H */
