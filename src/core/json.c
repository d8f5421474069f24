/*
 * json.c
 *		See json.h. Runs in workers; what it parses comes from outside.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "core/json.h"
#include "core/txn.h"

#define MAX_DEPTH 128

typedef struct ParseJob
{
	const char *bytes;
	size_t		len;
	Jsonb	   *result;
} ParseJob;

static bool depth_is_sane(const char *bytes, size_t len);
static char *replace_unusable_escapes(char *text);
static int	escaped_unit(const char *p);
static void parse_job(void *arg);

Jsonb *
angles_json_parse(const char *bytes, size_t len, char **problem)
{
	ParseJob	job = {bytes, len, NULL};
	ErrorData  *error;

	*problem = NULL;
	if (memchr(bytes, '\0', len) != NULL)
		*problem = "the answer holds a NUL byte";
	else if (!pg_verify_mbstr(PG_UTF8, bytes, len, true))
		*problem = "the answer is not valid UTF-8";
	else if (!depth_is_sane(bytes, len))
		*problem = "the answer is nested too deeply";
	if (*problem)
		return NULL;

	error = angles_try_pure(parse_job, &job);
	if (error == NULL)
		return job.result;
	/* the message of the JSON parser may quote foreign text: only its SQLSTATE is passed on */
	*problem = psprintf("the answer is not usable JSON (SQLSTATE %s)",
						angles_sqlstate_text(error->sqlerrcode));
	return NULL;
}

/* Counts brackets outside strings, so that no recursive parser ever sees a hostile depth. */
static bool
depth_is_sane(const char *bytes, size_t len)
{
	int			depth = 0;
	bool		in_string = false;

	for (size_t i = 0; i < len; i++)
	{
		char		c = bytes[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if (c == '{' || c == '[')
		{
			if (++depth > MAX_DEPTH)
				return false;
		}
		else if (c == '}' || c == ']')
			depth--;
	}
	return true;
}

static void
parse_job(void *arg)
{
	ParseJob   *job = (ParseJob *) arg;
	char	   *text = replace_unusable_escapes(pnstrdup(job->bytes, job->len));

	/* raises an error when the server's encoding lacks a character */
	text = pg_any_to_server(text, job->len, PG_UTF8);
	job->result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/*
 * JavaScript's strings may hold what no text of SQL can: U+0000 and halves of surrogate pairs,
 * escaped as \u0000 and \ud83d. One of them in one cell must not make a whole answer unusable, so
 * they become U+FFFD, in place.
 */
static char *
replace_unusable_escapes(char *text)
{
	for (char *p = text; *p; p++)
	{
		int			unit;

		if (*p != '\\' || *++p == '\0')
		{
			if (*p == '\0')
				break;
			continue;
		}
		unit = escaped_unit(p - 1);
		if (unit >= 0xD800 && unit <= 0xDBFF)
		{
			int			low = escaped_unit(p + 5);

			if (low >= 0xDC00 && low <= 0xDFFF)
			{
				/* a whole pair */
				p += 10;
				continue;
			}
		}
		if (unit == 0 || (unit >= 0xD800 && unit <= 0xDFFF))
			memcpy(p + 1, "fffd", 4);
	}
	return text;
}

/* The value of a \uXXXX at this place, or -1. */
static int
escaped_unit(const char *p)
{
	int			unit = 0;

	if (p[0] != '\\' || p[1] != 'u')
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
