/*
 * deflate.h
 *		The one place of room git where bytes are deflated, so that another library that makes the
 *		same format can take zlib's place.
 */
#ifndef ANGLES_GIT_DEFLATE_H
#define ANGLES_GIT_DEFLATE_H

#include "postgres.h"

typedef struct Deflater Deflater;

/* Takes a piece of the result. May raise errors. */
typedef void (*DeflateSink) (void *arg, const void *data, size_t len);

/* Makes one for a level, 0 to 9, which lives in the current context. */
extern Deflater *angles_deflate_open(int level);

/*
 * Deflates a whole object (zlib's format, RFC 1950) and hands the result to the sink piece by
 * piece. Serves interrupts after each megabyte. An error leaves the deflater ready for the next.
 */
extern void angles_deflate(Deflater *deflater, const void *data, size_t len, DeflateSink sink,
						   void *arg);

/* Frees what zlib has; the end of the context does so, too. May be called twice. */
extern void angles_deflate_close(Deflater *deflater);

#endif							/* ANGLES_GIT_DEFLATE_H */
