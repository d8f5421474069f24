/*
 * wire.h
 *		What git says over HTTP (gitprotocol-pack, gitprotocol-common): taken apart and made. Pure
 *		functions of bytes that a stranger wrote. Not for other rooms.
 */
#ifndef ANGLES_GIT_WIRE_H
#define ANGLES_GIT_WIRE_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "git/git.h"

typedef enum PktKind
{
	PKT_LINE,
	PKT_FLUSH,					/* 0000 */
	PKT_END,					/* no more bytes */
	PKT_BAD						/* not a pkt-line, or cut */
} PktKind;

typedef struct PktReader
{
	const char *at;
	const char *end;
} PktReader;

/* Takes the next pkt-line; *line is not NUL-terminated. */
extern PktKind angles_pkt_next(PktReader *reader, const char **line, size_t *len);

/* Appends a pkt-line. At most 65516 bytes. */
extern void angles_pkt_put(StringInfo into, const char *line, size_t len);

/* What a server that is pushed to says first. */
typedef struct Advert
{
	int			n;
	GitRef	   *refs;			/* without ".have" */
	int			n_have;
	GitOid	   *have;			/* ids it has besides */
	bool		atomic;
	bool		report_status;
	bool		report_status_v2;
	bool		side_band;
	bool		ofs_delta;
	bool		delete_refs;
	bool		other_hash;		/* not SHA-1 */
} Advert;

/* Reads the answer to GET info/refs. False: it is none; *problem says why. */
extern bool angles_wire_advert(const char *body, size_t len, Advert *advert, const char **problem);

/* Finds a ref by name; NULL when it is not there. */
extern const GitRef *angles_wire_find(const Advert *advert, const char *name);

typedef struct RefReport
{
	char	   *name;
	char	   *refusal;		/* NULL: ok */
} RefReport;

typedef struct Report
{
	bool		complete;		/* the report was read to its end */
	char	   *unpack;			/* "ok" or a reason; NULL: not said */
	int			n;
	RefReport  *refs;
	char	   *text;			/* progress and errors for people, raw bytes */
	size_t		text_len;
	bool		fatal;			/* the server broke off with a word on band 3 */
} Report;

/* Reads the answer to POST git-receive-pack. What is not understood is left out. */
extern void angles_wire_report(const char *body, size_t len, bool side_band, Report *report);

#endif							/* ANGLES_GIT_WIRE_H */
