/*
 * scanassign.c
 *		Values that are assigned to telling names: "api_key = ...", {"password": "..."},
 *		--token ..., <secret>...</secret>, a column called access_token.
 *
 * The name alone is not enough: most of what stands behind such names in code and prose is no
 * secret. A value has to be one word, no name or path or template, and have chance in it.
 */
#include "postgres.h"

#include "backup/scanrules.h"

/* Longest name and value that are looked at. */
#define MAX_NAME 48
#define MAX_VALUE 600
#define MAX_BLANKS 12

static Size name_rule(Scan *scan, const ScanAnchor *anchor, Size at);

#define STRONG(text) {text, name_rule, "assigned-secret", 0, 16, MAX_VALUE, SCAN_FOLD}
#define WEAK(text, more) \
	{text, name_rule, "assigned-password", 0, 8, 128, SCAN_FOLD | SCAN_WEAK | (more)}

const ScanAnchor angles_scan_names[] = {
	STRONG("secret"), STRONG("token"), STRONG("apikey"), STRONG("api_key"), STRONG("api-key"),
	STRONG("api key"), STRONG("accesskey"), STRONG("access_key"), STRONG("access-key"),
	STRONG("authkey"), STRONG("auth_key"), STRONG("auth-key"), STRONG("privatekey"),
	STRONG("private_key"), STRONG("private-key"), STRONG("accountkey"), STRONG("account_key"),
	STRONG("encryptionkey"), STRONG("encryption_key"), STRONG("signingkey"),
	STRONG("signing_key"), STRONG("masterkey"), STRONG("master_key"), STRONG("appkey"),
	STRONG("app_key"), STRONG("credential"), STRONG("authorization"),
	WEAK("password", 0), WEAK("passwd", 0), WEAK("passphrase", 0), WEAK("passwort", 0),
	WEAK("pass", SCAN_APART), WEAK("pwd", SCAN_APART)
};
const int	angles_scan_n_names = lengthof(angles_scan_names);

/* Names with these behind the telling word are about a secret, and are none. */
static const char *const not_behind[] = {
	"hash", "name", "_id", "-id", "keyid", "type", "url", "uri", "path", "file", "field", "label",
	"len", "policy", "expir", "ttl", "_age", "count", "limit", "size", "format", "alg", "reset",
	"hint", "placeholder", "regex", "pattern", "param", "header", "prefix", "enabled", "required",
	"strength", "input", "column", "version", "_ref", "arn", "class", "manager", "service",
	"provider", "endpoint", "digest", "fingerprint", "public", "_at", "izer", "lang", "map",
	"identif",
};

/* And with these before it. */
static const char *const not_before[] = {
	"csrf", "xsrf", "page", "next", "cursor", "continuation", "public", "publishable", "cancel",
	"idempotency", "cache", "forgot", "sort", "partition", "stop", "max", "num_", "pad_", "eos_",
	"bos_", "unk_", "mask_", "count", "hashed", "encrypted",
};

/* Values with these in them are made to be replaced, or are read from elsewhere. */
static const char *const not_inside[] = {
	"example", "changeme", "change_me", "change-me", "placeholder", "redacted", "your_", "your-",
	"yourp", "yours", "replace_", "xxxx", "****", "....", "dummy", "insert", "undefined",
	"process.env", "environ", "getenv", "arn:", "://", "${", "{{", "$(", "<%", "%(", "#{", "}}",
	"&lt;", "<", "sealed:", "redacted:",
};

/* ---- names ---- */

static bool
contains_any(const char *text, Size len, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (angles_scan_contains(text, len, words[i]))
			return true;
	}
	return false;
}

/*
 * Returns where the name ends that has the anchor at this place, or 0 when it tells nothing.
 * *start is set to where it begins.
 */
static Size
find_name(const char *text, Size len, const ScanAnchor *anchor, Size at, Size *start)
{
	Size		word_end = at + strlen(anchor->text);
	Size		end = word_end;
	bool		upper = SCAN_IS(text[word_end - 1], SCAN_UPPER);

	*start = at;
	while (*start > 0 && at - *start < MAX_NAME &&
		   SCAN_IS(text[*start - 1], SCAN_WORD | SCAN_DASH))
		(*start)--;
	while (end < len && end - word_end < MAX_NAME && SCAN_IS(text[end], SCAN_WORD | SCAN_DASH))
		end++;
	if (end - word_end == MAX_NAME)
		return 0;
	if (anchor->flags & SCAN_APART)
	{
		bool		hump = !upper && SCAN_IS(text[at], SCAN_UPPER);

		/* DB_PASS, dbPass, pass: not bypass, not passage */
		if (end != word_end ||
			(at > *start && !hump && SCAN_IS(text[at - 1], upper ? SCAN_UPPER : SCAN_LOWER)))
			return 0;
	}
	else if (end > word_end && SCAN_IS(text[word_end], upper ? SCAN_UPPER : SCAN_LOWER))
	{
		/* the word goes on: "tokenizer", but also "SECRETKEY" and "credentials" */
		if (!angles_scan_contains(text + word_end, Min(end - word_end, 3), "key") &&
			!(end == word_end + 1 && (text[word_end] == 's' || text[word_end] == 'S')))
			return 0;
	}
	return end;
}

/* Returns whether a name is about a secret, and not one's. */
static bool
is_about(const char *text, Size start, Size word, Size word_end, Size end)
{
	/* credentialId, token_ID */
	if (end - word_end >= 2 && pg_strncasecmp(text + end - 2, "id", 2) == 0)
		return true;
	return contains_any(text + word_end, end - word_end, not_behind, lengthof(not_behind)) ||
		contains_any(text + start, word - start, not_before, lengthof(not_before));
}

static const ScanAnchor *
telling_anchor(const char *name)
{
	Size		len = strlen(name);
	const ScanAnchor *best = NULL;

	for (int i = 0; i < angles_scan_n_names; i++)
	{
		const ScanAnchor *anchor = &angles_scan_names[i];

		for (Size at = 0; at < len; at++)
		{
			Size		start;
			Size		end;

			if (!angles_scan_matches(anchor, name + at, len - at))
				continue;
			end = find_name(name, len, anchor, at, &start);
			/* of "password" and "token", what asks for less */
			if (end > 0 && !is_about(name, start, at, at + strlen(anchor->text), end) &&
				(best == NULL || anchor->min < best->min))
				best = anchor;
		}
	}
	return best;
}

/* ---- values ---- */

typedef struct Value
{
	const char *text;
	Size		len;
	bool		quoted;
	int			digits;
	int			lower;
	int			upper;
	int			other;			/* neither letter nor digit */
	int			dots;
	int			slashes;
	int			joints;			/* - . _ */
	int			strange;		/* signs that are in no name, path or sentence */
	int			run;			/* longest of small letters */
} Value;

/* Counts the characters of a value; returns false when it is not one word of visible ASCII. */
static bool
count_value(Value *value)
{
	int			run = 0;

	for (Size i = 0; i < value->len; i++)
	{
		unsigned char c = (unsigned char) value->text[i];

		if (c <= ' ' || c >= 127)
			return false;
		if (SCAN_IS(c, SCAN_DIGIT))
			value->digits++;
		else if (SCAN_IS(c, SCAN_LOWER))
			value->lower++;
		else if (SCAN_IS(c, SCAN_UPPER))
			value->upper++;
		else
			value->other++;
		value->dots += c == '.';
		value->slashes += c == '/';
		value->joints += c == '-' || c == '.' || c == '_';
		value->strange += strchr("$!@#%^&*+?~", c) != NULL;
		run = SCAN_IS(c, SCAN_LOWER) ? run + 1 : 0;
		value->run = Max(value->run, run);
	}
	return true;
}

/* Returns whether a value is a name, a path, a template or the like. */
static bool
is_no_value(const Value *value)
{
	const char *text = value->text;
	Size		len = value->len;

	/* variables, options, hashes of passwords, references */
	if (strchr("$%@&{[(<", text[0]) != NULL && !(value->quoted && text[0] == '@'))
		return true;
	if (contains_any(text, len, not_inside, lengthof(not_inside)))
		return true;
	/* a.b.c of a program, a host, a file */
	if (value->dots > 0 && value->run >= 4 && value->digits * 6 < len &&
		value->other - value->dots <= 2)
		return true;
	if ((text[0] == '/' || text[0] == '~' || text[0] == '.') && value->slashes > 0 &&
		value->digits * 6 < len && value->run >= 4)
		return true;
	return false;
}

/* Names of servers, packages, versions, constants: words of one case that are joined. */
static bool
is_joined(const Value *value)
{
	return value->joints >= 2 && value->joints == value->other &&
		(value->lower == 0 || value->upper == 0) && value->digits * 3 < value->len * 2;
}

/* What a machine makes: long, and with much chance. */
static bool
is_strong(const Value *value)
{
	bool		hex = true;

	for (Size i = 0; i < value->len; i++)
		hex &= SCAN_IS(value->text[i], SCAN_DIGIT | SCAN_HEX | SCAN_DASH);
	if (value->digits == 0 || value->lower + value->upper == 0 ||
		value->digits + value->lower + value->upper < 12)
		return false;
	/* words with a number behind them */
	if (value->digits * 12 < value->len && value->run >= 7)
		return false;
	if (value->digits * 5 < value->len && value->run >= 5 && value->upper == 0)
		return false;
	if ((!hex && is_joined(value)) || angles_scan_sequence(value->text, value->len))
		return false;
	return angles_scan_varied(value->text, value->len, hex ? 7 : 12);
}

/* What a person makes: a word with more than letters in it. */
static bool
is_weak(const Value *value)
{
	int			classes = (value->lower > 0) + (value->upper > 0) + (value->digits > 0) +
		(value->other > 0);

	if (value->lower + value->upper == 0 || is_joined(value))
		return false;
	if (value->digits == 0)
		return value->quoted && value->strange > 0 && value->text[0] != '#' &&
			value->strange == value->other && angles_scan_varied(value->text, value->len, 5);
	if (classes < 3 && (value->len < 10 || value->digits < 2) &&
		!(value->quoted && value->digits >= 3))
		return false;
	/* get_password_v2, user-password-1 */
	if (value->digits == 1 && value->run >= 4 && value->other > 0 && value->upper == 0 &&
		!value->quoted)
		return false;
	return angles_scan_varied(value->text, value->len, 5);
}

static bool
is_secret(const ScanAnchor *anchor, const char *text, Size len, bool quoted)
{
	Value		value = {.text = text, .len = len, .quoted = quoted};

	if (len < anchor->min || len > anchor->max || !count_value(&value))
		return false;
	if (!is_strong(&value) && !((anchor->flags & SCAN_WEAK) && is_weak(&value)))
		return false;
	return !is_no_value(&value);
}

/* ---- between name and value ---- */

static Size
skip_blanks(const Scan *scan, Size at)
{
	for (int i = 0; i < MAX_BLANKS && at < scan->len &&
		 (scan->text[at] == ' ' || scan->text[at] == '\t'); i++)
		at++;
	return at;
}

static bool
is_quote(const Scan *scan, Size at)
{
	return at < scan->len && (scan->text[at] == '"' || scan->text[at] == '\'' ||
							  scan->text[at] == '`');
}

/* Skips "= ", ": ", " => ", ", " and the like; returns 0 when there is none. */
static Size
skip_separator(const Scan *scan, Size start, Size end)
{
	const char *text = scan->text;
	bool		quoted_name = false;
	bool		option = start >= 2 ? text[start] == '-' : text[0] == '-';
	Size		p = end;
	Size		q;

	if (p < scan->len && text[p] == '\\')
		p++;
	if (is_quote(scan, p) || (p < scan->len && text[p] == ']'))
	{
		quoted_name = true;
		p++;
		if (p < scan->len && text[p] == ']')
			p++;
	}
	q = skip_blanks(scan, p);
	if (q >= scan->len)
		return 0;
	if (text[q] == '>' && q == end && start > 0 && text[start - 1] == '<')
		return q + 1;
	if ((quoted_name && text[q] == ',') ||
		(text[q] == '(' && is_quote(scan, q + 1)))
		return skip_blanks(scan, q + 1);
	p = q;
	while (p < scan->len && p - q < 4 && strchr("=:!>?|", text[p]) != NULL && text[p] != '\0')
		p++;
	if (p > q)
	{
		/* "::" and "->" are of programs */
		if (text[p - 1] == ':' && p - q > 1)
			return 0;
		return skip_blanks(scan, p);
	}
	/* --password VALUE; password is "VALUE" */
	if (option && q > end)
		return q;
	if (q > end && q + 4 < scan->len && memcmp(text + q, "is ", 3) == 0)
	{
		q = skip_blanks(scan, q + 3);
		return is_quote(scan, q) ? q : 0;
	}
	return 0;
}

/* Skips a type ("password: String = ..."), a line break before a quote, prefixes of literals. */
static Size
skip_before_value(const Scan *scan, const ScanAnchor *anchor, Size at)
{
	static const char *const schemes[] = {"bearer ", "basic ", "token ", "apikey ", "api-token "};
	const char *text = scan->text;
	Size		p = at;

	if (p < scan->len && (text[p] == '\n' || text[p] == '\r'))
	{
		while (p < scan->len && p - at < 40 && SCAN_IS(text[p], SCAN_SPACE))
			p++;
		return is_quote(scan, p) ? p : at;
	}
	while (p < scan->len && p - at < 32 && (SCAN_IS(text[p], SCAN_WORD | SCAN_DOT) ||
										   strchr("<>?[]&", text[p]) != NULL))
		p++;
	if (p > at)
	{
		Size		q = skip_blanks(scan, p);

		if (q < scan->len && text[q] == '=' && is_quote(scan, skip_blanks(scan, q + 1)))
			return skip_blanks(scan, q + 1);
	}
	if (at + 1 < scan->len && strchr("brurLN@", text[at]) != NULL && is_quote(scan, at + 1))
		return at + 1;
	for (int i = 0; i < lengthof(schemes); i++)
	{
		Size		len = strlen(schemes[i]);
		Size		q = at + (is_quote(scan, at) ? 1 : 0);

		if (q + len < scan->len && pg_strncasecmp(text + q, schemes[i], len) == 0)
			return q + len;
	}
	return at;
}

/* Returns the end of a value that begins behind a quote, or 0 when that quote is not closed. */
static Size
quoted_end(const Scan *scan, Size start, char quote)
{
	for (Size p = start; p < scan->len && p - start <= MAX_VALUE; p++)
	{
		char		c = scan->text[p];

		if (c == quote)
			return scan->text[p - 1] == '\\' ? p - 1 : p;
		if (c == '\n' || c == ' ')
			return 0;
	}
	return 0;
}

/* Returns the end of a value without quotes, or 0 when it is something of a program. */
static Size
bare_end(const Scan *scan, Size start)
{
	Size		p = start;

	while (p < scan->len && p - start <= MAX_VALUE && SCAN_IS(scan->text[p], SCAN_VALUE))
		p++;
	for (int i = 0; i < 2 && p < scan->len && scan->text[p] == '='; i++)
		p++;
	if (p < scan->len && strchr("([{", scan->text[p]) != NULL && scan->text[p] != '\0')
		return 0;
	while (p > start && strchr(".:!?", scan->text[p - 1]) != NULL)
		p--;
	return p;
}

static Size
name_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		name_start;
	Size		name_end = find_name(scan->text, scan->len, anchor, at, &name_start);
	Size		start;
	Size		end;
	bool		quoted;

	if (name_end == 0)
		return 0;
	start = skip_separator(scan, name_start, name_end);
	if (start == 0)
		return 0;
	start = skip_before_value(scan, anchor, start);
	if (start < scan->len && scan->text[start] == '\\' && is_quote(scan, start + 1))
		start++;
	quoted = is_quote(scan, start);
	if (quoted)
	{
		end = quoted_end(scan, start + 1, scan->text[start]);
		start++;
	}
	else
		end = bare_end(scan, start);
	if (end <= start || !is_secret(anchor, scan->text + start, end - start, quoted) ||
		is_about(scan->text, name_start, at, at + strlen(anchor->text), name_end))
		return 0;
	angles_scan_note(scan, start, end, anchor->kind, 75);
	/* what it is by its own form is still to be seen */
	return start;
}

void
angles_scan_whole(Scan *scan, const char *name)
{
	const ScanAnchor *anchor = telling_anchor(name);
	Size		start = 0;
	Size		end = scan->len;

	if (anchor == NULL)
		return;
	while (start < end && SCAN_IS(scan->text[start], SCAN_SPACE))
		start++;
	while (end > start && SCAN_IS(scan->text[end - 1], SCAN_SPACE))
		end--;
	if (is_secret(anchor, scan->text + start, end - start, true))
		angles_scan_note(scan, start, end, anchor->kind, 75);
}

bool
angles_scan_telling_name(const char *name)
{
	ScanSpans	none;

	/* the classes of characters are made by the first scan */
	angles_scan_begin(&none);
	angles_scan(&none, "", 0, NULL);
	return telling_anchor(name) != NULL;
}
