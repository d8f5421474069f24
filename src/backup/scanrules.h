/*
 * scanrules.h
 *		What the files of the scanner share.
 */
#ifndef ANGLES_SCANRULES_H
#define ANGLES_SCANRULES_H

#include "postgres.h"

#include "backup/scan.h"

typedef struct Scan
{
	const char *text;
	Size		len;
	ScanSpans  *found;
} Scan;

typedef struct ScanAnchor ScanAnchor;

/*
 * Looks at the text from "at", where the anchor stands. Returns where to look for further anchors,
 * or 0 when this is nothing. It reads a number of bytes around the anchor that has a bound, or
 * bytes that no other call of the same rule reads.
 */
typedef Size (*ScanRule) (Scan *scan, const ScanAnchor *anchor, Size at);

/* Text that begins a secret, or stands before one; the rule that knows, and what it needs. */
struct ScanAnchor
{
	const char *text;			/* at least 4 bytes, or 3 and any that may follow */
	ScanRule	rule;
	const char *kind;
	int			chars;			/* of a token: classes of the characters behind its prefix */
	int			min;			/* how many there are */
	int			max;
	int			flags;
};

/* Classes of characters. */
#define SCAN_DIGIT		0x01
#define SCAN_HEX		0x02	/* 0-9a-f */
#define SCAN_LOWER		0x04
#define SCAN_UPPER		0x08
#define SCAN_UNDERSCORE	0x10
#define SCAN_DASH		0x20
#define SCAN_DOT		0x40
#define SCAN_BASE64		0x80	/* + / = */
#define SCAN_SPACE		0x100	/* blank, tab, line end */
#define SCAN_USERINFO	0x200	/* what may stand before the @ of a URI */
#define SCAN_VALUE		0x400	/* of an assignment without quotes */
#define SCAN_ALNUM		(SCAN_DIGIT | SCAN_LOWER | SCAN_UPPER)
#define SCAN_WORD		(SCAN_ALNUM | SCAN_UNDERSCORE)
#define SCAN_URLSAFE	(SCAN_WORD | SCAN_DASH)

/* Flags of anchors. */
#define SCAN_FOLD		0x01	/* capitals and small letters are the same */
#define SCAN_LINES		0x02	/* a token that may be broken over lines: its length is known */
#define SCAN_MIXED		0x04	/* has digits as well as letters */
#define SCAN_WEAK		0x08	/* of a name: people choose such values themselves */
#define SCAN_NUMBERS	0x20	/* a token with numbers in it: six digits or more */
#define SCAN_APART		0x10	/* of a name: a word of its own ("pwd", not "xpwdy") */

extern const uint16 *angles_scan_classes;	/* of the 256 bytes */

#define SCAN_IS(c, classes) ((angles_scan_classes[(unsigned char) (c)] & (classes)) != 0)

/* All anchors: scanrules.c's and scanassign.c's. */
extern const ScanAnchor angles_scan_tokens[];
extern const int angles_scan_n_tokens;
extern const ScanAnchor angles_scan_names[];
extern const int angles_scan_n_names;

/* Notes a secret; joined with what it overlaps. */
extern void angles_scan_note(Scan *scan, Size start, Size end, const char *kind, int confidence);

/* Returns whether a text has an anchor at this place. */
extern bool angles_scan_matches(const ScanAnchor *anchor, const char *text, Size left);

/* Returns whether a word of a token may begin at this place. */
extern bool angles_scan_boundary(const char *text, Size at);

/*
 * Returns whether there is enough chance in some bytes that nobody made them up: as if drawn from
 * an alphabet of this many characters or more.
 */
extern bool angles_scan_varied(const char *text, Size len, int alphabet);

/* Returns whether most characters follow each other as in the alphabet: "abcdefg", "1234567". */
extern bool angles_scan_sequence(const char *text, Size len);

/* Returns whether a text contains a word, written in small letters, in any case. */
extern bool angles_scan_contains(const char *text, Size len, const char *word);

/* Finds a secret that is the whole text under a telling name. */
extern void angles_scan_whole(Scan *scan, const char *name);

#endif							/* ANGLES_SCANRULES_H */
