/*
 * wire.c
 *		See wire.h. Every length is checked before it is used; nothing here raises an error for what
 *		a remote wrote.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "git/internal.h"
#include "git/wire.h"

#define LONGEST_PKT 65520
#define LONGEST_REF_NAME 1024

static bool parse_ref_line(Advert *advert, const char *line, size_t len, bool first, int *room,
						   int *have_room);
static void read_capabilities(Advert *advert, const char *text, size_t len);
static bool is_word(const char *word, size_t len, const char *name);
static void split_bands(const char *body, size_t len, StringInfo data, StringInfo text,
						Report *report);
static void parse_status(const char *data, size_t len, Report *report);

/* ---------- pkt-lines ---------- */

PktKind
angles_pkt_next(PktReader *reader, const char **line, size_t *len)
{
	size_t		size = 0;

	if (reader->at == reader->end)
		return PKT_END;
	if (reader->end - reader->at < 4)
		return PKT_BAD;
	for (int i = 0; i < 4; i++)
	{
		char		c = reader->at[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
			return PKT_BAD;
		size = size * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	if (size == 0)
	{
		reader->at += 4;
		return PKT_FLUSH;
	}
	/* 1 to 3 are marks of protocol 2, which is not spoken here */
	if (size < 4 || size > LONGEST_PKT || size > (size_t) (reader->end - reader->at))
		return PKT_BAD;
	*line = reader->at + 4;
	*len = size - 4;
	reader->at += size;
	return PKT_LINE;
}

void
angles_pkt_put(StringInfo into, const char *line, size_t len)
{
	Assert(len + 4 <= LONGEST_PKT);
	appendStringInfo(into, "%04x", (unsigned) (len + 4));
	appendBinaryStringInfo(into, line, (int) len);
}

/* ---------- the advertisement ---------- */

bool
angles_wire_advert(const char *body, size_t len, Advert *advert, const char **problem)
{
	PktReader	reader = {body, body + len};
	const char *line;
	size_t		line_len;
	int			room = 64;
	int			have_room = 0;
	bool		first = true;
	PktKind		kind;

	memset(advert, 0, sizeof(*advert));
	advert->refs = palloc(room * sizeof(GitRef));
	*problem = "it is no answer of a git server";
	if (angles_pkt_next(&reader, &line, &line_len) != PKT_LINE ||
		!is_word(line, line_len > 0 && line[line_len - 1] == '\n' ? line_len - 1 : line_len,
				 "# service=git-receive-pack") ||
		angles_pkt_next(&reader, &line, &line_len) != PKT_FLUSH)
		return false;
	while ((kind = angles_pkt_next(&reader, &line, &line_len)) == PKT_LINE)
	{
		CHECK_FOR_INTERRUPTS();
		if (line_len >= 4 && memcmp(line, "ERR ", 4) == 0)
		{
			*problem = "the server refuses access";
			return false;
		}
		if (line_len > 8 && memcmp(line, "shallow ", 8) == 0)
			continue;
		if (!parse_ref_line(advert, line, line_len, first, &room, &have_room))
		{
			*problem = "its list of refs is malformed";
			return false;
		}
		first = false;
	}
	if (kind != PKT_FLUSH || first)
	{
		*problem = "its list of refs is cut";
		return false;
	}
	return true;
}

/* "ID NAME", and behind a NUL on the first line what the server can do. */
static bool
parse_ref_line(Advert *advert, const char *line, size_t len, bool first, int *room, int *have_room)
{
	char		hex[GIT_OID_HEX + 1];
	const char *name = line + GIT_OID_HEX + 1;
	const char *nul;
	size_t		name_len;
	GitOid		id;

	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len < GIT_OID_HEX + 2 || line[GIT_OID_HEX] != ' ')
		return false;
	memcpy(hex, line, GIT_OID_HEX);
	hex[GIT_OID_HEX] = '\0';
	if (!angles_git_parse_hex(hex, &id))
		return false;
	nul = memchr(name, '\0', line + len - name);
	name_len = (nul != NULL ? nul : line + len) - name;
	if (nul != NULL && first)
		read_capabilities(advert, nul + 1, line + len - nul - 1);
	if ((nul != NULL && !first) || name_len == 0 || name_len > LONGEST_REF_NAME)
		return false;
	for (size_t i = 0; i < name_len; i++)
	{
		if ((unsigned char) name[i] <= ' ' || name[i] == 127)
			return false;
	}
	/* an empty repository has only this, for the sake of what stands behind it */
	if (is_word(name, name_len, "capabilities^{}"))
		return true;
	if (is_word(name, name_len, ".have"))
	{
		if (advert->n_have == *have_room)
		{
			*have_room = Max(16, *have_room * 2);
			advert->have = advert->have == NULL ? palloc(*have_room * sizeof(GitOid)) :
				repalloc_huge(advert->have, *have_room * sizeof(GitOid));
		}
		advert->have[advert->n_have++] = id;
		return true;
	}
	if (advert->n == *room)
	{
		*room *= 2;
		advert->refs = repalloc_huge(advert->refs, *room * sizeof(GitRef));
	}
	advert->refs[advert->n].id = id;
	advert->refs[advert->n].name = pnstrdup(name, name_len);
	advert->n++;
	return true;
}

static void
read_capabilities(Advert *advert, const char *text, size_t len)
{
	const char *end = text + len;

	while (text < end)
	{
		const char *blank = memchr(text, ' ', end - text);
		size_t		word_len = (blank != NULL ? blank : end) - text;

		advert->atomic |= is_word(text, word_len, "atomic");
		advert->report_status |= is_word(text, word_len, "report-status");
		advert->report_status_v2 |= is_word(text, word_len, "report-status-v2");
		advert->side_band |= is_word(text, word_len, "side-band-64k");
		advert->ofs_delta |= is_word(text, word_len, "ofs-delta");
		advert->delete_refs |= is_word(text, word_len, "delete-refs");
		if (word_len > 14 && memcmp(text, "object-format=", 14) == 0)
			advert->other_hash |= !is_word(text, word_len, "object-format=sha1");
		text += word_len + 1;
	}
}

static bool
is_word(const char *word, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(word, name, len) == 0;
}

const GitRef *
angles_wire_find(const Advert *advert, const char *name)
{
	for (int i = 0; i < advert->n; i++)
	{
		if (strcmp(advert->refs[i].name, name) == 0)
			return &advert->refs[i];
	}
	return NULL;
}

/* ---------- the report ---------- */

void
angles_wire_report(const char *body, size_t len, bool side_band, Report *report)
{
	StringInfoData data;
	StringInfoData text;

	memset(report, 0, sizeof(*report));
	initStringInfo(&data);
	initStringInfo(&text);
	if (side_band)
	{
		split_bands(body, len, &data, &text, report);
		parse_status(data.data, data.len, report);
	}
	else
		parse_status(body, len, report);
	report->text = text.data;
	report->text_len = text.len;
}

/* Band 1 is the report, 2 is for people, 3 is the last word of a server that breaks off. */
static void
split_bands(const char *body, size_t len, StringInfo data, StringInfo text, Report *report)
{
	PktReader	reader = {body, body + len};
	const char *line;
	size_t		line_len;

	while (angles_pkt_next(&reader, &line, &line_len) == PKT_LINE)
	{
		StringInfo	into = data;

		CHECK_FOR_INTERRUPTS();
		if (line_len == 0)
			continue;
		if (line[0] == 2 || line[0] == 3)
			into = text;
		else if (line[0] != 1)
			continue;
		report->fatal |= line[0] == 3;
		/* what is above the cap is progress that nobody reads, or no report of a git server */
		if (into == data || into->len < MAX_SERVER_TEXT * 4)
			appendBinaryStringInfo(into, line + 1, (int) line_len - 1);
	}
}

/* "unpack ok|REASON", then "ok REF" or "ng REF REASON" for each, then a flush. */
static void
parse_status(const char *data, size_t len, Report *report)
{
	PktReader	reader = {data, data + len};
	const char *line;
	size_t		line_len;
	int			room = 8;
	PktKind		kind;

	report->refs = palloc(room * sizeof(RefReport));
	while ((kind = angles_pkt_next(&reader, &line, &line_len)) == PKT_LINE)
	{
		const char *blank;
		RefReport  *ref;
		bool		refused;

		CHECK_FOR_INTERRUPTS();
		if (line_len > 0 && line[line_len - 1] == '\n')
			line_len--;
		if (line_len > 7 && memcmp(line, "unpack ", 7) == 0)
		{
			if (report->unpack == NULL)
				report->unpack = pnstrdup(line + 7, line_len - 7);
			continue;
		}
		refused = line_len > 3 && memcmp(line, "ng ", 3) == 0;
		if (!refused && !(line_len > 3 && memcmp(line, "ok ", 3) == 0))
			continue;
		if (report->n == room)
		{
			room *= 2;
			report->refs = repalloc_huge(report->refs, room * sizeof(RefReport));
		}
		ref = &report->refs[report->n++];
		blank = memchr(line + 3, ' ', line_len - 3);
		if (blank == NULL || !refused)
			blank = line + line_len;
		ref->name = pnstrdup(line + 3, blank - line - 3);
		ref->refusal = !refused ? NULL :
			blank < line + line_len ? pnstrdup(blank + 1, line + line_len - blank - 1) :
			pstrdup("no reason was given");
	}
	report->complete = kind == PKT_FLUSH && report->unpack != NULL;
}
