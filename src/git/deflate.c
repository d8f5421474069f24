/*
 * deflate.c
 *		See deflate.h: zlib, one stream used again for each object. zlib calls nothing of ours back,
 *		and allocates with malloc once, when it is opened.
 */
#include "postgres.h"

#include <zlib.h>

#include "miscadmin.h"

#include "git/deflate.h"

#define OUT_BYTES (64 * 1024)
#define IN_BYTES ((size_t) 1024 * 1024)

struct Deflater
{
	z_stream	stream;
	bool		is_open;
	MemoryContextCallback on_reset;
	unsigned char out[OUT_BYTES];
};

static void on_context_reset(void *arg);

Deflater *
angles_deflate_open(int level)
{
	Deflater   *deflater = palloc0(sizeof(Deflater));

	if (deflateInit(&deflater->stream, level) != Z_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize compression")));
	deflater->is_open = true;
	deflater->on_reset.func = on_context_reset;
	deflater->on_reset.arg = deflater;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &deflater->on_reset);
	return deflater;
}

static void
on_context_reset(void *arg)
{
	angles_deflate_close(arg);
}

void
angles_deflate_close(Deflater *deflater)
{
	if (deflater->is_open)
		deflateEnd(&deflater->stream);
	deflater->is_open = false;
}

void
angles_deflate(Deflater *deflater, const void *data, size_t len, DeflateSink sink, void *arg)
{
	z_stream   *stream = &deflater->stream;
	const unsigned char *from = data;
	int			rc;

	/* an error in the last sink left it in the middle */
	deflateReset(stream);
	do
	{
		size_t		part = Min(len, IN_BYTES);

		CHECK_FOR_INTERRUPTS();
		stream->next_in = (unsigned char *) from;
		stream->avail_in = (uInt) part;
		from += part;
		len -= part;
		do
		{
			stream->next_out = deflater->out;
			stream->avail_out = OUT_BYTES;
			rc = deflate(stream, len == 0 ? Z_FINISH : Z_NO_FLUSH);
			if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
				elog(ERROR, "deflate() returned %d", rc);
			sink(arg, deflater->out, OUT_BYTES - stream->avail_out);
		} while (stream->avail_out == 0);
	} while (len > 0);
	if (rc != Z_STREAM_END)
		elog(ERROR, "deflate() did not come to an end: %d", rc);
}
