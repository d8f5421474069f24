/*
 * sealstrings.c
 *		The strings in the text of JSON and of arrays, looked at one by one. Runs in job workers
 *		and in sessions.
 *
 * A string with escapes is decoded before it is looked at, and what is found is noted where it
 * stands in the text as it is.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "backup/sealstrings.h"

/* Longest name of a member that tells something. */
#define NAME_KEPT 64

typedef struct Strings
{
	ScanSpans  *found;			/* in the text as a whole */
	ScanSpans  *inner;			/* in one string */
	const char *text;
	bool		json;
} Strings;

static Size decode_one(const Strings *strings, Size at, Size end, char out[8], int *n);
static void look_at(Strings *strings, Size start, Size end, bool escaped, const char *name);
static void look_at_escaped(Strings *strings, Size start, Size end, const char *name);
static void note(Strings *strings, Size start, Size end, const ScanSpan *span);

void
angles_strings_json(ScanSpans *found, ScanSpans *inner, const char *text, Size len,
					const char *name)
{
	Strings		strings = {found, inner, text, true};
	char		member[NAME_KEPT];

	found->n = 0;
	for (Size at = 0; at < len; at++)
	{
		Size		start = at + 1;
		Size		end = start;
		Size		next;
		bool		escaped = false;

		if (text[at] == '}')
			name = NULL;
		if (text[at] != '"')
			continue;
		while (end < len && text[end] != '"')
		{
			escaped |= text[end] == '\\';
			end += text[end] == '\\' ? 2 : 1;
		}
		end = Min(end, len);
		for (next = end + 1; next < len && strchr(" \t\r\n", text[next]) != NULL &&
			 text[next] != '\0'; next++)
			;
		if (next < len && text[next] == ':')
		{
			look_at(&strings, start, end, escaped, NULL);
			strlcpy(member, text + start, Min(end - start + 1, NAME_KEPT));
			name = member;
		}
		else
			look_at(&strings, start, end, escaped, name);
		at = end;
	}
}

void
angles_strings_array(ScanSpans *found, ScanSpans *inner, const char *text, Size len,
					 const char *name)
{
	Strings		strings = {found, inner, text, false};
	Size		at = 0;

	found->n = 0;
	/* bounds that are not the usual ones: "[0:1]={...}" */
	while (at < len && text[at] != '{')
		at++;
	while (at < len)
	{
		Size		end = at;
		bool		escaped = false;

		if (text[at] == '{' || text[at] == '}' || text[at] == ',')
			at++;
		else if (text[at] == '"')
		{
			for (end = at + 1; end < len && text[end] != '"'; end++)
			{
				if (text[end] == '\\')
				{
					escaped = true;
					end++;
				}
			}
			end = Min(end, len);
			look_at(&strings, at + 1, end, escaped, name);
			at = end + 1;
		}
		else
		{
			while (end < len && text[end] != ',' && text[end] != '}' && text[end] != '{')
				end++;
			look_at(&strings, at, end, false, name);
			at = end;
		}
	}
}

static void
look_at(Strings *strings, Size start, Size end, bool escaped, const char *name)
{
	if (end <= start)
		return;
	if (escaped)
	{
		look_at_escaped(strings, start, end, name);
		return;
	}
	angles_scan(strings->inner, strings->text + start, end - start, name);
	for (int i = 0; i < strings->inner->n; i++)
	{
		const ScanSpan *span = &strings->inner->spans[i];

		note(strings, start + span->start, start + span->end, span);
	}
}

static void
look_at_escaped(Strings *strings, Size start, Size end, const char *name)
{
	char	   *decoded = palloc_extended(end - start + 8, MCXT_ALLOC_HUGE);
	Size		len = 0;
	Size		at;
	int			n;
	int			i = 0;
	Size		from = start;

	for (at = start; at < end; len += n)
		at = decode_one(strings, at, end, decoded + len, &n);
	angles_scan(strings->inner, decoded, len, name);
	pfree(decoded);
	/* once more, to see where in the text each begins and ends */
	len = 0;
	for (at = start; i < strings->inner->n && at <= end; len += n)
	{
		char		ignored[8];
		const ScanSpan *span = &strings->inner->spans[i];

		if (len <= span->start)
			from = at;
		if (len >= span->end)
		{
			note(strings, from, at, span);
			i++;
			n = 0;
			continue;
		}
		at = decode_one(strings, at, end, ignored, &n);
	}
}

/* Decodes what stands at a place into *n bytes (4 at most). Returns where the next one stands. */
static Size
decode_one(const Strings *strings, Size at, Size end, char out[8], int *n)
{
	const char *text = strings->text;
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	const char *letter;
	unsigned	code;

	*n = 1;
	out[0] = text[at];
	if (text[at] != '\\' || at + 1 >= end)
		return at + 1;
	out[0] = text[at + 1];
	if (!strings->json)
		return at + 2;
	letter = text[at + 1] ? strchr(letters, text[at + 1]) : NULL;
	if (letter != NULL)
		out[0] = meanings[letter - letters];
	else if (text[at + 1] == 'u' && at + 6 <= end)
	{
		char		digits[5] = {0};

		memcpy(digits, text + at + 2, 4);
		code = (unsigned) strtoul(digits, NULL, 16);
		/* halves of a pair become three bytes each: no secret has one */
		unicode_to_utf8((pg_wchar) code, (unsigned char *) out);
		*n = pg_utf_mblen((unsigned char *) out);
		return at + 6;
	}
	return at + 2;
}

static void
note(Strings *strings, Size start, Size end, const ScanSpan *span)
{
	angles_scan_append(strings->found, start, end, span->kind, span->confidence);
}
