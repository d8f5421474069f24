/*
 * scan.c
 *		See scan.h: the search for anchors. Runs in job workers and in sessions.
 *
 * Nearly all text has no secret, so what counts is how fast that is known: the first four bytes of
 * each anchor are in a bit map, and each place of the text is looked up there, whatever was found
 * before. What an anchor then means is for the rules (scanrules.c, scanassign.c).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "backup/scan.h"
#include "backup/scanrules.h"

#define MAP_BITS 15
#define MAX_LINKS 2048

/* Bytes between looks at interrupts. */
#define BLOCK (1024 * 1024)

/* Anchors by the hash of their first four bytes: a chain for each. */
typedef struct AnchorLink
{
	const ScanAnchor *anchor;
	uint16		next;			/* index + 1 */
} AnchorLink;

static uint8 anchor_map[(1 << MAP_BITS) / 8];
static uint16 heads[1 << MAP_BITS];
static AnchorLink links[MAX_LINKS];
static int	n_links = 0;
static uint16 classes[256];
const uint16 *angles_scan_classes = classes;

static void prepare(void);
static void prepare_classes(void);
static void add_anchor(const ScanAnchor *anchor);
static void add_link(const ScanAnchor *anchor, const char *start);
static Size try_anchors(Scan *scan, uint32 hash, Size at);

/* Letters in either case are the same here; some other bytes fall together, too. */
static inline uint32
hash_at(const char *text)
{
	uint32		word;

	memcpy(&word, text, sizeof(word));
	return ((word | 0x20202020) * UINT32_C(0x9E3779B1)) >> (32 - MAP_BITS);
}

static inline bool
in_map(uint32 hash)
{
	return (anchor_map[hash >> 3] & (1 << (hash & 7))) != 0;
}

void
angles_scan_begin(ScanSpans *found)
{
	memset(found, 0, sizeof(*found));
	found->cxt = CurrentMemoryContext;
}

void
angles_scan(ScanSpans *found, const char *text, Size len, const char *name)
{
	Scan		scan = {text, len, found};

	found->n = 0;
	if (n_links == 0)
		prepare();
	for (Size at = 0; at + 4 <= len;)
	{
		Size		block_end = Min(at + BLOCK, len - 3);

		CHECK_FOR_INTERRUPTS();
		while (at < block_end)
		{
			uint32		hash = hash_at(text + at);

			at = unlikely(in_map(hash)) ? try_anchors(&scan, hash, at) : at + 1;
		}
	}
	if (name != NULL && found->n == 0)
		angles_scan_whole(&scan, name);
}

bool
angles_scan_maybe(const char *text, Size len)
{
	if (n_links == 0)
		prepare();
	for (Size at = 0; at + 4 <= len; at++)
	{
		uint32		hash = hash_at(text + at);

		if (unlikely(in_map(hash)))
		{
			for (uint16 i = heads[hash]; i != 0; i = links[i - 1].next)
			{
				if (angles_scan_matches(links[i - 1].anchor, text + at, len - at))
					return true;
			}
		}
	}
	return false;
}

static Size
try_anchors(Scan *scan, uint32 hash, Size at)
{
	for (uint16 i = heads[hash]; i != 0; i = links[i - 1].next)
	{
		const ScanAnchor *anchor = links[i - 1].anchor;

		if (angles_scan_matches(anchor, scan->text + at, scan->len - at))
		{
			Size		next = anchor->rule(scan, anchor, at);

			if (next > at)
				return next;
		}
	}
	return at + 1;
}

bool
angles_scan_matches(const ScanAnchor *anchor, const char *text, Size left)
{
	Size		len = strlen(anchor->text);

	if (left < len)
		return false;
	return (anchor->flags & SCAN_FOLD) ? pg_strncasecmp(anchor->text, text, len) == 0
		: memcmp(anchor->text, text, len) == 0;
}

bool
angles_scan_boundary(const char *text, Size at)
{
	if (at == 0 || !SCAN_IS(text[at - 1], SCAN_WORD))
		return true;
	/* the n of a "\n" that was written out, the D of a "%3D" */
	return (at >= 2 && text[at - 2] == '\\' && strchr("nrt", text[at - 1]) != NULL) ||
		(at >= 3 && text[at - 3] == '%');
}

void
angles_scan_note(Scan *scan, Size start, Size end, const char *kind, int confidence)
{
	ScanSpans  *found = scan->found;
	ScanSpan	span = {start, end, kind, confidence};

	/* a value that was found by the name before it, and now by its form, too */
	while (found->n > 0 && found->spans[found->n - 1].end > span.start)
	{
		ScanSpan   *last = &found->spans[found->n - 1];

		if (last->confidence >= span.confidence)
		{
			span.kind = last->kind;
			span.confidence = last->confidence;
		}
		span.start = Min(span.start, last->start);
		span.end = Max(span.end, last->end);
		found->n--;
	}
	angles_scan_append(found, span.start, span.end, span.kind, span.confidence);
}

void
angles_scan_append(ScanSpans *found, Size start, Size end, const char *kind, int confidence)
{
	if (found->n == found->size)
	{
		found->size = Max(16, found->size * 2);
		found->spans = found->spans
			? repalloc_huge(found->spans, sizeof(ScanSpan) * found->size)
			: MemoryContextAlloc(found->cxt, sizeof(ScanSpan) * found->size);
	}
	found->spans[found->n++] = (ScanSpan) {start, end, kind, confidence};
}

/*
 * Two bytes drawn at random from a text of chance are the same as often as its alphabet is small;
 * counted, so without a rounding that could differ between machines.
 */
bool
angles_scan_varied(const char *text, Size len, int alphabet)
{
	uint16		counts[256] = {0};
	uint64		same = 0;

	len = Min(len, 4096);
	for (Size i = 0; i < len; i++)
		same += counts[(unsigned char) text[i]]++;
	return len >= 2 && 2 * same * alphabet <= (uint64) len * (len - 1);
}

bool
angles_scan_sequence(const char *text, Size len)
{
	Size		counted = 0;
	Size		run = 1;

	for (Size i = 1; i <= len; i++)
	{
		if (i < len && text[i] == text[i - 1] + 1)
		{
			run++;
			continue;
		}
		if (run >= 4)
			counted += run;
		run = 1;
	}
	return counted * 5 > len * 3;
}

bool
angles_scan_contains(const char *text, Size len, const char *word)
{
	Size		word_len = strlen(word);

	for (Size i = 0; i + word_len <= len; i++)
	{
		if ((text[i] | 0x20) == (word[0] | 0x20) &&
			pg_strncasecmp(text + i, word, word_len) == 0)
			return true;
	}
	return false;
}

/* ---- once in a process ---- */

static void
prepare(void)
{
	prepare_classes();
	for (int i = 0; i < angles_scan_n_tokens; i++)
		add_anchor(&angles_scan_tokens[i]);
	for (int i = 0; i < angles_scan_n_names; i++)
		add_anchor(&angles_scan_names[i]);
}

static void
prepare_classes(void)
{
	for (int c = 0; c < 256; c++)
	{
		bool		graph = c > ' ' && c < 127;

		classes[c] = (c >= '0' && c <= '9' ? SCAN_DIGIT | SCAN_HEX : 0) |
			(c >= 'a' && c <= 'f' ? SCAN_HEX : 0) |
			(c >= 'a' && c <= 'z' ? SCAN_LOWER : 0) |
			(c >= 'A' && c <= 'Z' ? SCAN_UPPER : 0) |
			(c == '_' ? SCAN_UNDERSCORE : 0) | (c == '-' ? SCAN_DASH : 0) |
			(c == '.' ? SCAN_DOT : 0) |
			(c == '+' || c == '/' || c == '=' ? SCAN_BASE64 : 0) |
			(c == ' ' || c == '\t' || c == '\n' || c == '\r' ? SCAN_SPACE : 0) |
			((graph || c >= 128) && (c >= 128 || strchr("/?#\"'<>`", c) == NULL)
			 ? SCAN_USERINFO : 0) |
			((graph || c >= 128) && (c >= 128 || strchr("\"'`,;<>()[]{}&|\\=", c) == NULL)
			 ? SCAN_VALUE : 0);
	}
}

/* An anchor of three bytes is entered with each byte that may follow. */
static void
add_anchor(const ScanAnchor *anchor)
{
	char		start[4];

	if (strlen(anchor->text) >= 4)
	{
		add_link(anchor, anchor->text);
		return;
	}
	memcpy(start, anchor->text, 3);
	for (int c = ' '; c < 256; c++)
	{
		/* of those that the hash does not tell apart, one */
		if ((c | 0x20) != c)
			continue;
		start[3] = (char) c;
		add_link(anchor, start);
	}
}

static void
add_link(const ScanAnchor *anchor, const char *start)
{
	uint32		hash = hash_at(start);

	if (n_links == MAX_LINKS)
		elog(ERROR, "too many anchors");
	links[n_links].anchor = anchor;
	links[n_links].next = heads[hash];
	heads[hash] = ++n_links;
	anchor_map[hash >> 3] |= 1 << (hash & 7);
}
