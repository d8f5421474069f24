/*
 * sealvalue.c
 *		See sealvalue.h: one value. Runs in job workers and, to look only, in sessions.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "backup/sealstrings.h"
#include "backup/sealvalue.h"

/* Kinds of findings that are told one by one; the rest is counted together. */
#define MAX_FOUND 10000

static bool is_allowed(const RedactColumn *column, const char *secret, Size len);
static void count_found(RedactTable *table, int column, const ScanSpan *span, const char *value);
static RedactResult refuse(RedactTable *table, const RedactColumn *column, const char *kind,
						   const char *why);
static RedactResult replace_spans(RedactTable *table, const RedactColumn *column,
								  const char *value, Size len, const SealContext *context,
								  Redaction *out);
static void write_spans(RedactTable *table, const RedactColumn *column, const char *value,
						Size len, const SealContext *context, bool tight, Redaction *out);
static RedactResult replace_whole(RedactTable *table, const RedactColumn *column,
								  const char *kind, const char *value, Size len,
								  const SealContext *context, Redaction *out);
static bool fits(const RedactColumn *column, const char *text, Size len);
static int	count_chars(const char *text, Size len);
static void write_tag(const SealContext *context, int ordinal, char tag[13]);
static char *seal(RedactTable *table, const char *value, Size len, const SealContext *context);

RedactResult
angles_redact_value(RedactTable *table, int n, const char *key, Size key_len, const char *value,
					Size len, Redaction *out)
{
	const RedactColumn *column = &table->columns[n];
	SealContext context = {table->full_name, column->name, key, key_len};
	const char *kind;

	if (column->policy == SEAL_PLAIN)
	{
		if (column->form == REDACT_NOTHING || angles_redact_find(table, n, value, len) == 0)
			return REDACT_AS_IS;
		kind = table->spans.spans[0].kind;
		if (column->key)
			return refuse(table, column, kind, "rows are known by it");
	}
	else
		kind = "column";
	memset(out, 0, sizeof(*out));
	initStringInfo(&out->text);
	if (table->key != NULL)
		out->key_id = table->key->id;
	if (column->policy == SEAL_PLAIN && column->form != REDACT_WHOLE)
		return replace_spans(table, column, value, len, &context, out);
	return replace_whole(table, column, kind, value, len, &context, out);
}

int
angles_redact_find(RedactTable *table, int n, const char *value, Size len)
{
	const RedactColumn *column = &table->columns[n];
	const char *name = column->telling ? column->name : NULL;
	ScanSpans  *found = &table->spans;
	int			kept = 0;

	found->n = 0;
	if (column->form == REDACT_JSON || column->form == REDACT_ARRAY)
	{
		/* most values have nothing that could begin a secret; an escape could hide it */
		if (name == NULL && memchr(value, '\\', len) == NULL && !angles_scan_maybe(value, len))
			return 0;
		if (column->form == REDACT_JSON)
			angles_strings_json(found, &table->inner, value, len, name);
		else
			angles_strings_array(found, &table->inner, value, len, name);
	}
	else if (column->form != REDACT_NOTHING)
		angles_scan(found, value, len, name);
	for (int i = 0; i < found->n; i++)
	{
		ScanSpan   *span = &found->spans[i];

		if (is_allowed(column, value + span->start, span->end - span->start))
			continue;
		count_found(table, n, span, value);
		found->spans[kept++] = *span;
	}
	found->n = kept;
	return kept;
}

static bool
is_allowed(const RedactColumn *column, const char *secret, Size len)
{
	ListCell   *cell;

	foreach(cell, column->allowed)
	{
		const RedactAllowed *allowed = lfirst(cell);
		char		fingerprint[ANGLES_FINGERPRINT];

		if (allowed->fingerprint == NULL)
			return true;
		angles_redact_fingerprint(allowed->salt, allowed->salt_len, secret, len, fingerprint);
		if (strcmp(fingerprint, allowed->fingerprint) == 0)
			return true;
	}
	return false;
}

bool
angles_redact_allowed(const RedactTable *table, const char *column, const char *secret, Size len)
{
	for (int i = 0; i < table->n_columns; i++)
	{
		if ((column == NULL || strcmp(table->columns[i].name, column) == 0) &&
			is_allowed(&table->columns[i], secret, len))
			return true;
	}
	return false;
}

void
angles_redact_fingerprint(const uint8 *salt, Size salt_len, const char *secret, Size len,
						  char hex[ANGLES_FINGERPRINT])
{
	const void *pieces[] = {secret};
	Size		lens[] = {len};
	uint8		mac[32];

	angles_seal_mac(salt, salt_len, 1, pieces, lens, mac);
	hex_encode((const char *) mac, (ANGLES_FINGERPRINT - 1) / 2, hex);
	hex[ANGLES_FINGERPRINT - 1] = '\0';
}

static void
count_found(RedactTable *table, int column, const ScanSpan *span, const char *value)
{
	RedactFound key;
	RedactFound *found;
	bool		known;

	memset(&key, 0, sizeof(key));
	key.column = column;
	strlcpy(key.kind, span->kind, sizeof(key.kind));
	angles_redact_fingerprint(table->salt, sizeof(table->salt), value + span->start,
							  span->end - span->start, key.fingerprint);
	if (hash_get_num_entries(table->found) >= MAX_FOUND &&
		hash_search(table->found, &key, HASH_FIND, NULL) == NULL)
		memset(key.fingerprint, 0, sizeof(key.fingerprint));
	found = hash_search(table->found, &key, HASH_ENTER, &known);
	if (!known)
	{
		found->count = 0;
		found->first_key = table->row_key
			? MemoryContextStrdup(table->cxt, table->row_key) : NULL;
	}
	found->count++;
}

static RedactResult
refuse(RedactTable *table, const RedactColumn *column, const char *kind, const char *why)
{
	if (table->refused == NULL)
		table->refused = MemoryContextStrdup(table->cxt,
											 psprintf("column %s holds a secret (%s), and %s",
													  quote_identifier(column->name), kind,
													  why));
	return REDACT_REFUSED;
}

/* ---- parts of a value ---- */

static RedactResult
replace_spans(RedactTable *table, const RedactColumn *column, const char *value, Size len,
			  const SealContext *context, Redaction *out)
{
	out->n = table->spans.n;
	out->pieces = palloc0(sizeof(RedactPiece) * out->n);
	write_spans(table, column, value, len, context, false, out);
	if (!fits(column, out->text.data, out->text.len))
	{
		resetStringInfo(&out->text);
		write_spans(table, column, value, len, context, true, out);
	}
	return REDACT_REPLACED;
}

/*
 * A slash before the tag: behind a colon it would be a value that is assigned to a password. With
 * "tight" no stand-in has more characters than what it stands for.
 */
static void
write_spans(RedactTable *table, const RedactColumn *column, const char *value, Size len,
			const SealContext *context, bool tight, Redaction *out)
{
	Size		copied = 0;

	for (int i = 0; i < table->spans.n; i++)
	{
		const ScanSpan *span = &table->spans.spans[i];
		RedactPiece *piece = &out->pieces[i];
		Size		span_len = span->end - span->start;
		char		tag[13];

		appendBinaryStringInfo(&out->text, value + copied, span->start - copied);
		copied = span->end;
		piece->at = out->text.len;
		write_tag(context, i, tag);
		if (!tight)
			appendStringInfo(&out->text, "[%s:%s%s%s]", table->key ? "sealed" : "redacted",
							 span->kind, tag[0] ? "/" : "", tag);
		else if (tag[0] != '\0')
			appendBinaryStringInfo(&out->text, tag,
								   Min(count_chars(value + span->start, span_len), 12));
		else
			appendStringInfoString(&out->text, "***");
		piece->len = out->text.len - piece->at;
		if (piece->sealed == NULL)
			piece->sealed = seal(table, value + span->start, span_len, context);
	}
	appendBinaryStringInfo(&out->text, value + copied, len - copied);
}

static bool
fits(const RedactColumn *column, const char *text, Size len)
{
	if (column->max_chars == 0)
		return true;
	while (column->padded && len > 0 && text[len - 1] == ' ')
		len--;
	return count_chars(text, len) <= column->max_chars;
}

/* Of UTF-8, or bytes where the server does not know its encoding. */
static int
count_chars(const char *text, Size len)
{
	int			n = 0;

	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return (int) len;
	for (Size i = 0; i < len; i++)
		n += (text[i] & 0xC0) != 0x80;
	return n;
}

/* Another one for each place, so that what was unique stays so; nothing of the secret is in it. */
static void
write_tag(const SealContext *context, int ordinal, char tag[13])
{
	char		number[12];
	const void *pieces[] = {context->table, context->column, context->key, number};
	Size		lens[] = {strlen(context->table), strlen(context->column), context->key_len, 0};
	uint8		mac[32];

	tag[0] = '\0';
	if (context->key == NULL)
		return;
	lens[3] = snprintf(number, sizeof(number), "%d", ordinal);
	angles_seal_mac((const uint8 *) "tag", 3, lengthof(pieces), pieces, lens, mac);
	/* letters alone: with digits it could be taken for a password where it stands alone */
	for (int i = 0; i < 12; i++)
		tag[i] = 'a' + ((mac[i / 2] >> (i % 2 ? 0 : 4)) & 0x0F);
	tag[12] = '\0';
}

static char *
seal(RedactTable *table, const char *value, Size len, const SealContext *context)
{
	StringInfoData sealed;
	SealContext anywhere = *context;

	if (table->key == NULL)
		return NULL;
	if (anywhere.key == NULL)
		anywhere.key = "";
	initStringInfo(&sealed);
	angles_seal(table->key, &anywhere, value, len, &sealed);
	return sealed.data;
}

/* ---- values as a whole ---- */

static RedactResult
replace_whole(RedactTable *table, const RedactColumn *column, const char *kind, const char *value,
			  Size len, const SealContext *context, Redaction *out)
{
	bool		text = column->form == REDACT_TEXT || column->form == REDACT_JSON;
	const char *quote = column->form == REDACT_JSON ? "\"" : "";
	char		tag[13];
	char		hash[33];

	write_tag(context, 0, tag);
	if (text && column->policy == SEAL_HASH && table->key != NULL)
	{
		angles_seal_hash(table->key, context, value, len, hash);
		appendStringInfo(&out->text, "%s[hash:%s]%s", quote, hash, quote);
		if (!fits(column, out->text.data, out->text.len))
		{
			resetStringInfo(&out->text);
			appendBinaryStringInfo(&out->text, hash, Min(column->max_chars, 32));
		}
		return REDACT_REPLACED;
	}
	if (text && column->policy == SEAL_OMIT)
		appendStringInfo(&out->text, "%s[omitted%s%s]%s", quote, tag[0] ? "/" : "", tag, quote);
	else if (text)
		appendStringInfo(&out->text, "%s[%s:%s%s%s]%s", quote, table->key ? "sealed" : "redacted",
						 kind, tag[0] ? "/" : "", tag, quote);
	else if (column->may_be_null)
		out->null = true;
	else if (column->stand_in != NULL)
		appendStringInfoString(&out->text, column->stand_in);
	else
		return refuse(table, column, kind, "nothing can stand in for it");
	if (text && !fits(column, out->text.data, out->text.len))
	{
		resetStringInfo(&out->text);
		appendBinaryStringInfo(&out->text, tag[0] ? tag : "************",
							   Min(column->max_chars, 12));
	}
	if (column->policy == SEAL_OMIT || column->policy == SEAL_HASH)
		return REDACT_REPLACED;
	out->n = 1;
	out->pieces = palloc0(sizeof(RedactPiece));
	out->pieces[0].len = out->text.len;
	out->pieces[0].sealed = seal(table, value, len, context);
	return REDACT_REPLACED;
}

/* ---- the way back ---- */

SealOpened
angles_redact_undo(const SealKeys *keys, const SealContext *context, const Redaction *redaction,
				   StringInfo value)
{
	Size		copied = 0;
	int			before = value->len;
	SealContext anywhere = *context;

	if (anywhere.key == NULL)
		anywhere.key = "";
	if (redaction->n == 0)
		return SEAL_NO_KEY;
	for (int i = 0; i < redaction->n; i++)
	{
		const RedactPiece *piece = &redaction->pieces[i];
		SealOpened	opened = SEAL_REFUSED;

		/* places are of a file that somebody may have changed */
		if (piece->at >= copied && piece->len <= redaction->text.len &&
			piece->at <= redaction->text.len - piece->len)
		{
			appendBinaryStringInfo(value, redaction->text.data + copied, piece->at - copied);
			copied = piece->at + piece->len;
			opened = piece->sealed == NULL ? SEAL_NO_KEY
				: angles_seal_open(keys, redaction->key_id, &anywhere, piece->sealed,
								   strlen(piece->sealed), value);
		}
		if (opened != SEAL_OPENED)
		{
			value->len = before;
			value->data[before] = '\0';
			return opened;
		}
	}
	appendBinaryStringInfo(value, redaction->text.data + copied, redaction->text.len - copied);
	return SEAL_OPENED;
}
