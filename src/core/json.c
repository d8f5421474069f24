/*
 * json.c
 *		See json.h. Runs in workers; what it parses comes from outside.
 *
 * The parser is not the server's own (jsonb_in): answers are parsed for each request, and that one
 * goes over the text several times and copies each name and value twice. It accepts the same.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "core/json.h"
#include "core/txn.h"

#define MAX_DEPTH 128

/* Enough for what stands between the text of a page and its Jsonb. */
#define SCRATCH_SIZE (32 * 1024)

/* What stands for what JavaScript's strings may hold and texts of SQL cannot. */
#define REPLACEMENT_CHARACTER 0xFFFD

typedef struct ParseJob
{
	const char *at;				/* the next byte to read */
	const char *end;
	int			depth;
	bool		too_deep;
	bool		same_encoding;	/* the server's is UTF-8 */
	MemoryContext result_context;
	Jsonb	   *result;
} ParseJob;

static void parse_job(void *arg);
static bool parse_value(ParseJob *job, JsonbValue *value);
static bool parse_object(ParseJob *job, JsonbValue *value);
static void sort_pairs(JsonbValue *object);
static int	compare_pairs(const void *a, const void *b);
static bool parse_array(ParseJob *job, JsonbValue *value);
static bool parse_string(ParseJob *job, JsonbValue *value);
static size_t raw_length(const ParseJob *job, const char *start);
static char *parse_escape(ParseJob *job, char *to);
static int	escaped_unit(const ParseJob *job, const char *p);
static bool parse_number(ParseJob *job, JsonbValue *value);
static bool parse_digits(ParseJob *job);
static bool parse_word(ParseJob *job, const char *word);
static void skip_space(ParseJob *job);
static bool take(ParseJob *job, char c);

Jsonb *
angles_json_parse(const char *bytes, size_t len, char **problem)
{
	static MemoryContext scratch = NULL;
	ParseJob	job = {.at = bytes, .end = bytes + len};
	ErrorData  *error;

	*problem = NULL;
	if (memchr(bytes, '\0', len) != NULL)
		*problem = "the answer holds a NUL byte";
	else if (!pg_verify_mbstr(PG_UTF8, bytes, len, true))
		*problem = "the answer is not valid UTF-8";
	if (*problem)
		return NULL;

	/* its first block stays: most answers need no memory from the system */
	if (scratch == NULL)
		scratch = AllocSetContextCreate(TopMemoryContext, "angles json", 0, SCRATCH_SIZE,
										ALLOCSET_DEFAULT_MAXSIZE);
	job.same_encoding = GetDatabaseEncoding() == PG_UTF8;
	job.result_context = MemoryContextSwitchTo(scratch);
	error = angles_try_pure(parse_job, &job);
	MemoryContextSwitchTo(job.result_context);
	if (job.too_deep)
		*problem = "the answer is nested too deeply";
	else if (error != NULL)
		/* a message may quote foreign text: only its SQLSTATE is passed on */
		*problem = psprintf("the answer is not usable JSON (SQLSTATE %s)",
							angles_sqlstate_text(error->sqlerrcode));
	MemoryContextReset(scratch);
	return job.result;
}

static void
parse_job(void *arg)
{
	ParseJob   *job = (ParseJob *) arg;
	JsonbValue	root;
	bool		ok = parse_value(job, &root);

	skip_space(job);
	if (!ok || job->at < job->end)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid JSON")));
	MemoryContextSwitchTo(job->result_context);
	job->result = JsonbValueToJsonb(&root);
}

/*
 * Reads a value, which may point into the bytes that are parsed. This and all it calls return false
 * when what they want to read is not there.
 */
static bool
parse_value(ParseJob *job, JsonbValue *value)
{
	skip_space(job);
	if (job->at == job->end)
		return false;
	switch (*job->at)
	{
		case '"':
			return parse_string(job, value);
		case '{':
			return parse_object(job, value);
		case '[':
			return parse_array(job, value);
		case 't':
			value->type = jbvBool;
			value->val.boolean = true;
			return parse_word(job, "true");
		case 'f':
			value->type = jbvBool;
			value->val.boolean = false;
			return parse_word(job, "false");
		case 'n':
			value->type = jbvNull;
			return parse_word(job, "null");
		default:
			return parse_number(job, value);
	}
}

static bool
parse_object(ParseJob *job, JsonbValue *value)
{
	int			max = 16;
	int			n = 0;
	JsonbPair  *pairs = palloc(max * sizeof(JsonbPair));

	job->at++;
	if (++job->depth > MAX_DEPTH)
	{
		job->too_deep = true;
		return false;
	}
	skip_space(job);
	if (!take(job, '}'))
	{
		do
		{
			if (n == max)
			{
				max *= 2;
				pairs = repalloc_huge(pairs, max * sizeof(JsonbPair));
			}
			pairs[n].order = n;
			skip_space(job);
			if (job->at == job->end || *job->at != '"' || !parse_string(job, &pairs[n].key))
				return false;
			skip_space(job);
			if (!take(job, ':') || !parse_value(job, &pairs[n].value))
				return false;
			n++;
			skip_space(job);
		} while (take(job, ','));
		if (!take(job, '}'))
			return false;
	}
	job->depth--;
	value->type = jbvObject;
	value->val.object.nPairs = n;
	value->val.object.pairs = pairs;
	sort_pairs(value);
	return true;
}

/* The order that jsonb wants; of pairs with the same name the last one stays. */
static void
sort_pairs(JsonbValue *object)
{
	JsonbPair  *pairs = object->val.object.pairs;
	int			n = 0;

	qsort(pairs, object->val.object.nPairs, sizeof(JsonbPair), compare_pairs);
	for (int i = 0; i < object->val.object.nPairs; i++)
	{
		const JsonbValue *key = &pairs[i].key;

		if (n > 0 && key->val.string.len == pairs[n - 1].key.val.string.len &&
			memcmp(key->val.string.val, pairs[n - 1].key.val.string.val,
				   key->val.string.len) == 0)
			n--;
		if (n != i)
			pairs[n] = pairs[i];
		n++;
	}
	object->val.object.nPairs = n;
}

static int
compare_pairs(const void *a, const void *b)
{
	const JsonbPair *x = (const JsonbPair *) a;
	const JsonbPair *y = (const JsonbPair *) b;
	int			order = x->key.val.string.len - y->key.val.string.len;

	if (order == 0)
		order = memcmp(x->key.val.string.val, y->key.val.string.val, x->key.val.string.len);
	return order != 0 ? order : x->order < y->order ? -1 : 1;
}

static bool
parse_array(ParseJob *job, JsonbValue *value)
{
	int			max = 4;
	int			n = 0;
	JsonbValue *elements = palloc(max * sizeof(JsonbValue));

	job->at++;
	if (++job->depth > MAX_DEPTH)
	{
		job->too_deep = true;
		return false;
	}
	skip_space(job);
	if (!take(job, ']'))
	{
		do
		{
			if (n == max)
			{
				max *= 2;
				elements = repalloc_huge(elements, max * sizeof(JsonbValue));
			}
			if (!parse_value(job, &elements[n]))
				return false;
			n++;
			skip_space(job);
		} while (take(job, ','));
		if (!take(job, ']'))
			return false;
	}
	job->depth--;
	value->type = jbvArray;
	value->val.array.nElems = n;
	value->val.array.elems = elements;
	value->val.array.rawScalar = false;
	return true;
}

/* A string without escapes stays where it is. */
static bool
parse_string(ParseJob *job, JsonbValue *value)
{
	const char *start = ++job->at;
	char	   *text = NULL;
	char	   *to = NULL;
	size_t		len;

	for (;;)
	{
		const char *plain = job->at;

		while (job->at < job->end && *job->at != '"' && *job->at != '\\' &&
			   (unsigned char) *job->at >= ' ')
			job->at++;
		if (to != NULL)
		{
			memcpy(to, plain, job->at - plain);
			to += job->at - plain;
		}
		if (job->at == job->end || (unsigned char) *job->at < ' ')
			return false;
		if (*job->at == '"')
			break;
		if (to == NULL)
		{
			text = palloc_extended(raw_length(job, start), MCXT_ALLOC_HUGE);
			memcpy(text, start, job->at - start);
			to = text + (job->at - start);
		}
		to = parse_escape(job, to);
		if (to == NULL)
			return false;
	}
	len = to ? to - text : job->at - start;
	job->at++;
	if (!job->same_encoding)
	{
		/* raises an error when the server's encoding lacks a character */
		text = pg_any_to_server(pnstrdup(to ? text : start, len), len, PG_UTF8);
		len = strlen(text);
	}
	value->type = jbvString;
	value->val.string.val = text ? text : unconstify(char *, start);
	value->val.string.len = len;
	return true;
}

/* How long a string is with its escapes, of which none is shorter than what it stands for. */
static size_t
raw_length(const ParseJob *job, const char *start)
{
	const char *p = start;

	while (p < job->end && *p != '"')
		p += *p == '\\' ? 2 : 1;
	return Min(p, job->end) - start + 1;
}

/*
 * Writes what an escape stands for; returns where it ends, or NULL. JavaScript's strings may hold
 * what no text of SQL can: U+0000 and halves of surrogate pairs. One of them in one cell must not
 * make a whole answer unusable.
 */
static char *
parse_escape(ParseJob *job, char *to)
{
	static const char names[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *name = job->end - job->at > 1 && job->at[1] ? strchr(names, job->at[1]) : NULL;
	int			unit;
	pg_wchar	c;

	if (name != NULL)
	{
		*to = meanings[name - names];
		job->at += 2;
		return to + 1;
	}
	unit = escaped_unit(job, job->at);
	if (unit < 0)
		return NULL;
	job->at += 6;
	c = unit;
	if (is_utf16_surrogate_first(c))
	{
		int			low = escaped_unit(job, job->at);

		if (low >= 0 && is_utf16_surrogate_second(low))
		{
			c = surrogate_pair_to_codepoint(c, low);
			job->at += 6;
		}
	}
	if (c == 0 || is_utf16_surrogate_first(c) || is_utf16_surrogate_second(c))
		c = REPLACEMENT_CHARACTER;
	unicode_to_utf8(c, (unsigned char *) to);
	return to + pg_utf_mblen((unsigned char *) to);
}

/* The value of a \uXXXX at this place, or -1. */
static int
escaped_unit(const ParseJob *job, const char *p)
{
	int			unit = 0;

	if (job->end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		const char *digits = "0123456789abcdef";
		const char *digit = p[i] ? strchr(digits, pg_tolower((unsigned char) p[i])) : NULL;

		if (digit == NULL)
			return -1;
		unit = unit * 16 + (int) (digit - digits);
	}
	return unit;
}

static bool
parse_number(ParseJob *job, JsonbValue *value)
{
	const char *start = job->at;
	bool		is_integer = true;
	char	   *text;

	(void) take(job, '-');
	if (!take(job, '0') && !parse_digits(job))
		return false;
	if (take(job, '.'))
	{
		is_integer = false;
		if (!parse_digits(job))
			return false;
	}
	if (take(job, 'e') || take(job, 'E'))
	{
		is_integer = false;
		if (!take(job, '+'))
			(void) take(job, '-');
		if (!parse_digits(job))
			return false;
	}
	text = pnstrdup(start, job->at - start);
	value->type = jbvNumeric;
	/* 18 digits always fit */
	if (is_integer && job->at - start <= 18)
		value->val.numeric = int64_to_numeric(strtoll(text, NULL, 10));
	else
		value->val.numeric =
			DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
												ObjectIdGetDatum(InvalidOid),
												Int32GetDatum(-1)));
	return true;
}

static bool
parse_digits(ParseJob *job)
{
	const char *start = job->at;

	while (job->at < job->end && *job->at >= '0' && *job->at <= '9')
		job->at++;
	return job->at > start;
}

static bool
parse_word(ParseJob *job, const char *word)
{
	size_t		len = strlen(word);

	if ((size_t) (job->end - job->at) < len || memcmp(job->at, word, len) != 0)
		return false;
	job->at += len;
	return true;
}

static void
skip_space(ParseJob *job)
{
	while (job->at < job->end && (*job->at == ' ' || *job->at == '\n' || *job->at == '\r' ||
								  *job->at == '\t'))
		job->at++;
}

/* Takes this character if it is the next one. */
static bool
take(ParseJob *job, char c)
{
	if (job->at == job->end || *job->at != c)
		return false;
	job->at++;
	return true;
}

bool
angles_json_get(JsonbContainer *object, const char *name, JsonbValue *value)
{
	if (object == NULL || !JsonContainerIsObject(object))
		return false;
	return getKeyJsonValueFromContainer(object, name, strlen(name), value) != NULL;
}

char *
angles_json_get_text(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (!angles_json_get(object, name, &value) || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

JsonbContainer *
angles_json_get_container(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (!angles_json_get(object, name, &value) || value.type != jbvBinary)
		return NULL;
	return value.val.binary.data;
}

Jsonb *
angles_json_member(const Jsonb *object, const char *name)
{
	JsonbValue	value;

	if (!angles_json_get(unconstify(JsonbContainer *, &object->root), name, &value))
		return NULL;
	return JsonbValueToJsonb(&value);
}

bool
angles_json_get_bool(JsonbContainer *object, const char *name, bool fallback)
{
	JsonbValue	value;

	if (!angles_json_get(object, name, &value) || value.type != jbvBool)
		return fallback;
	return value.val.boolean;
}

JsonbContainer *
angles_json_element(JsonbContainer *array, int i)
{
	JsonbValue *value;

	if (array == NULL || !JsonContainerIsArray(array))
		return NULL;
	value = getIthJsonbValueFromContainer(array, i);
	if (value == NULL || value->type != jbvBinary)
		return NULL;
	return value->val.binary.data;
}

void
angles_json_append_string(StringInfo buf, const char *text)
{
	escape_json(buf, text);
}

char *
angles_json_to_utf8(const char *text)
{
	return (char *) pg_server_to_any(text, strlen(text), PG_UTF8);
}
