/*
 * api.c
 *		Builds requests to Notion and reads its answers. See api.h. Runs in the sync worker.
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/json.h"
#include "notion/api.h"

static NotionVerdict judge_status(const AnglesNetAnswer *answer, NotionAnswer *result, bool writes);
static NotionVerdict judge_refusal(const char *message);
static void read_error_body(NotionAnswer *result, JsonbContainer *body);
static NotionRequest *make_request(const char *method, char *path, StringInfo body, bool writes);
static bool append_around(StringInfo buf, JsonbContainer *part, int at, const NotionCut *cuts,
						  int n_cuts, const char *text, int *length);
static void append_piece(StringInfo buf, const char *content, int length, JsonbContainer *link,
						 JsonbContainer *looks);
static void append_properties(StringInfo buf, int n, const NotionProperty *properties);
static void append_schema(StringInfo buf, List *columns, List *relations);

NotionAnswer *
angles_notion_read(const AnglesNetAnswer *answer, bool writes)
{
	NotionAnswer *result = palloc0(sizeof(NotionAnswer));
	char	   *problem = NULL;

	result->retry_after_s = answer->retry_after_s;
	result->server_date = answer->server_date;
	result->sent_us = answer->sent_us;
	if (answer->result != ANGLES_NET_ANSWERED)
	{
		result->code = "unreachable";
		result->message = pstrdup(answer->problem);
		result->verdict = answer->result == ANGLES_NET_NOT_SENT || !writes
			? NOTION_RETRY : NOTION_IN_DOUBT;
		return result;
	}
	/* a proxy or the provider's front may answer with a page of HTML, whatever the type says */
	result->json = angles_json_parse(answer->body, answer->body_len, &problem);
	if (result->json != NULL && !JB_ROOT_IS_OBJECT(result->json))
		result->json = NULL;
	if (answer->status >= 200 && answer->status < 300)
	{
		if (result->json != NULL)
		{
			result->verdict = NOTION_DONE;
			return result;
		}
		result->code = "bad_response";
		result->message = problem ? problem : "the answer is no JSON object";
		result->verdict = writes ? NOTION_IN_DOUBT : NOTION_RETRY;
		return result;
	}
	if (result->json)
		read_error_body(result, &result->json->root);
	if (result->code == NULL)
		result->code = psprintf("http_%d", answer->status);
	if (result->message == NULL)
		result->message = psprintf("HTTP status %d without a message of Notion", answer->status);
	result->verdict = judge_status(answer, result, writes);
	return result;
}

static void
read_error_body(NotionAnswer *result, JsonbContainer *body)
{
	JsonbContainer *extra = angles_json_get_container(body, "additional_data");

	result->code = angles_json_get_text(body, "code");
	result->message = angles_json_get_text(body, "message");
	if (extra == NULL)
		return;
	result->reason = angles_json_get_text(extra, "rate_limit_reason");
	result->committed_id = angles_json_get_text(extra, "committed_resource_id");
	if (result->retry_after_s < 0)
	{
		char	   *seconds = angles_json_get_text(extra, "retry_after");

		if (seconds != NULL && isdigit((unsigned char) seconds[0]))
			result->retry_after_s = atoi(seconds);
	}
}

static NotionVerdict
judge_status(const AnglesNetAnswer *answer, NotionAnswer *result, bool writes)
{
	switch (answer->status)
	{
		case 400:
			/* an answer that is not Notion's own says nothing about the content */
			if (result->json == NULL)
				return NOTION_RETRY;
			return judge_refusal(result->message);
		case 401:
			return NOTION_UNAUTHORIZED;
		case 403:
			return result->json ? NOTION_FORBIDDEN : NOTION_RETRY;
		case 404:
			return result->json ? NOTION_GONE : NOTION_RETRY;
		case 409:
			return NOTION_CONFLICT;
		case 413:
			return NOTION_REFUSED;
		case 429:
		case 529:
			if (result->reason && strcmp(result->reason, "public_api_request_blocked") == 0)
				return NOTION_BLOCKED;
			return NOTION_LIMITED;
		default:
			if (answer->status >= 500)
				return writes ? NOTION_IN_DOUBT : NOTION_RETRY;
			/* redirects are not followed: the address in the settings is wrong */
			if (answer->status >= 300 && answer->status < 400)
				return NOTION_RETRY;
			return NOTION_REFUSED;
	}
}

/* validation_error has many causes; the wire messages tell them apart (reference, section 6). */
static NotionVerdict
judge_refusal(const char *message)
{
	if (strstr(message, "is archived") || strstr(message, "in trash"))
		return NOTION_TRASHED;
	if (strstr(message, "is not a property that exists") ||
		strstr(message, "Could not find property") ||
		strstr(message, "is expected to be ") ||
		strstr(message, "does not match the property type"))
		return NOTION_SCHEMA;
	return NOTION_REFUSED;
}

/* ---- requests ---- */

static NotionRequest *
make_request(const char *method, char *path, StringInfo body, bool writes)
{
	NotionRequest *request = palloc0(sizeof(NotionRequest));

	request->method = method;
	request->path = path;
	request->body = body ? angles_json_to_utf8(body->data) : NULL;
	request->writes = writes;
	return request;
}

NotionRequest *
angles_notion_create_page(const char *data_source_id, int n, const NotionProperty *properties)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body,
					 "{\"parent\":{\"type\":\"data_source_id\",\"data_source_id\":\"%s\"},",
					 data_source_id);
	append_properties(&body, n, properties);
	appendStringInfoChar(&body, '}');
	return make_request("POST", "/v1/pages", &body, true);
}

NotionRequest *
angles_notion_patch_page(const char *page_id, int n, const NotionProperty *properties)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoChar(&body, '{');
	append_properties(&body, n, properties);
	appendStringInfoChar(&body, '}');
	return make_request("PATCH", psprintf("/v1/pages/%s", page_id), &body, true);
}

NotionRequest *
angles_notion_trash_page(const char *page_id, bool in_trash)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"in_trash\":%s}", in_trash ? "true" : "false");
	return make_request("PATCH", psprintf("/v1/pages/%s", page_id), &body, true);
}

NotionRequest *
angles_notion_comment(const char *page_id, const char *text)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"parent\":{\"page_id\":\"%s\"},\"rich_text\":", page_id);
	angles_codec_append_rich_text(&body, text);
	appendStringInfoChar(&body, '}');
	return make_request("POST", pstrdup("/v1/comments"), &body, true);
}

NotionRequest *
angles_notion_get_page(const char *page_id)
{
	return make_request("GET", psprintf("/v1/pages/%s", page_id), NULL, false);
}

NotionRequest *
angles_notion_get_property(const char *page_id, const char *property_id, const char *cursor)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfo(&path, "/v1/pages/%s/properties/%s?page_size=100", page_id, property_id);
	if (cursor != NULL)
		appendStringInfoString(&path, "&start_cursor=");
	/* a cursor may be any text */
	for (; cursor != NULL && *cursor; cursor++)
		appendStringInfo(&path, isalnum((unsigned char) *cursor) && !IS_HIGHBIT_SET(*cursor)
						 ? "%c" : "%%%02X", (unsigned char) *cursor);
	return make_request("GET", path.data, NULL, false);
}

NotionRequest *
angles_notion_find_keys(const char *data_source_id, const AnglesColumn *key_column, List *keys)
{
	StringInfoData body;
	ListCell   *lc;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"filter\":{\"or\":[");
	foreach(lc, keys)
	{
		if (lc != list_head(keys))
			appendStringInfoChar(&body, ',');
		appendStringInfoString(&body, "{\"property\":");
		angles_json_append_string(&body, key_column->property_id);
		appendStringInfo(&body, ",\"%s\":{\"equals\":", angles_codec_type_name(key_column->type));
		angles_json_append_string(&body, (char *) lfirst(lc));
		appendStringInfoString(&body, "}}");
	}
	appendStringInfoString(&body,
						   "]},\"sorts\":[{\"timestamp\":\"created_time\","
						   "\"direction\":\"ascending\"}],\"page_size\":100}");
	/* all properties come along: a page that is adopted brings its values */
	return make_request("POST", psprintf("/v1/data_sources/%s/query", data_source_id), &body,
						false);
}

/*
 * Pages of a data source in the order of a time of theirs, since a minute of it (NULL: all), with
 * only these properties (NIL: all).
 */
static NotionRequest *
query(const char *data_source_id, const char *order, const char *since, const char *cursor,
	  List *property_ids)
{
	StringInfoData path;
	StringInfoData body;
	ListCell   *lc;

	initStringInfo(&path);
	appendStringInfo(&path, "/v1/data_sources/%s/query", data_source_id);
	/* ids come percent-encoded from Notion, and go back as they came (reference, 8.9) */
	foreach(lc, property_ids)
		appendStringInfo(&path, "%sfilter_properties=%s",
						 lc == list_head(property_ids) ? "?" : "&", (char *) lfirst(lc));
	initStringInfo(&body);
	appendStringInfo(&body, "{\"sorts\":[{\"timestamp\":\"%s\",\"direction\":\"ascending\"}],"
					 "\"page_size\":100", order);
	if (since != NULL)
		appendStringInfo(&body, ",\"filter\":{\"timestamp\":\"%s\","
						 "\"%s\":{\"on_or_after\":\"%s\"}}", order, order, since);
	if (cursor != NULL)
	{
		appendStringInfoString(&body, ",\"start_cursor\":");
		angles_json_append_string(&body, cursor);
	}
	appendStringInfoChar(&body, '}');
	return make_request("POST", path.data, &body, false);
}

NotionRequest *
angles_notion_list_pages(const char *data_source_id, const char *since, const char *cursor,
						 List *property_ids)
{
	return query(data_source_id, "created_time", since, cursor, property_ids);
}

NotionRequest *
angles_notion_changed_pages(const char *data_source_id, const char *since, const char *cursor,
							List *property_ids)
{
	return query(data_source_id, "last_edited_time", since, cursor, property_ids);
}

TimestampTz
angles_notion_time(JsonbContainer *object, const char *name)
{
	char	   *text = angles_json_get_text(object, name);
	struct pg_tm tm = {0};
	TimestampTz at;
	int			utc = 0;
	int			n = 0;

	if (text == NULL ||
		sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) != 6 || n != 19 ||
		tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
		tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 ||
		tm.tm_sec > 60 || tm2timestamp(&tm, 0, &utc, &at) != 0)
		return 0;
	return at;
}

char *
angles_notion_minute(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "a time for Notion is out of range");
	return psprintf("%04d-%02d-%02dT%02d:%02d:00.000Z", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min);
}

NotionRequest *
angles_notion_create_database(const char *parent_page_id, const char *title,
							  const char *description, List *columns, List *relations)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"parent\":{\"type\":\"page_id\",\"page_id\":\"%s\"},\"title\":",
					 parent_page_id);
	angles_codec_append_rich_text(&body, title);
	appendStringInfoString(&body, ",\"description\":");
	angles_codec_append_rich_text(&body, description);
	appendStringInfoString(&body, ",\"initial_data_source\":{\"properties\":");
	append_schema(&body, columns, relations);
	appendStringInfoString(&body, "}}");
	return make_request("POST", "/v1/databases", &body, true);
}

NotionRequest *
angles_notion_describe_database(const char *database_id, JsonbContainer *before,
								const NotionCut *cuts, int n_cuts, const char *text)
{
	StringInfoData body;
	int			n = before ? JsonContainerSize(before) : 0;
	int			at = 0;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"description\":[");
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *part = angles_json_element(before, i);
		int			length;

		if (part == NULL || !append_around(&body, part, at, cuts, n_cuts, text, &length))
			return NULL;
		at += length;
	}
	if (n_cuts == 0)
		append_piece(&body, text, strlen(text), NULL, NULL);
	appendStringInfoString(&body, "]}");
	return make_request("PATCH", psprintf("/v1/databases/%s", database_id), &body, true);
}

/*
 * Appends a part of a description, whose text is the joined one from "at" on, without the cuts;
 * "text" stands where the first of them begins. Returns false when it holds more than text.
 */
static bool
append_around(StringInfo buf, JsonbContainer *part, int at, const NotionCut *cuts, int n_cuts,
			  const char *text, int *length)
{
	JsonbContainer *words = angles_json_get_container(part, "text");
	JsonbContainer *looks = angles_json_get_container(part, "annotations");
	JsonbContainer *link = words ? angles_json_get_container(words, "link") : NULL;
	char	   *content = words ? angles_json_get_text(words, "content") : NULL;
	char	   *plain = angles_json_get_text(part, "plain_text");
	int			done = 0;

	/* a mention or an equation: what is read is not what may be written */
	if (content == NULL || (plain != NULL && strcmp(plain, content) != 0))
		return false;
	*length = strlen(content);
	for (int i = 0; i < n_cuts; i++)
	{
		int			begin = Max(cuts[i].begin - at, 0);
		int			end = Min(cuts[i].end - at, *length);

		if (begin >= end)
			continue;
		append_piece(buf, content + done, begin - done, link, looks);
		if (i == 0 && cuts[i].begin >= at)
			append_piece(buf, text, strlen(text), NULL, looks);
		done = end;
	}
	append_piece(buf, content + done, *length - done, link, looks);
	return true;
}

/* Appends a part of a rich text array, unless it is empty. */
static void
append_piece(StringInfo buf, const char *content, int length, JsonbContainer *link,
			 JsonbContainer *looks)
{
	if (length == 0)
		return;
	appendStringInfo(buf, "%s{\"type\":\"text\",\"text\":{\"content\":",
					 buf->data[buf->len - 1] == '[' ? "" : ",");
	angles_json_append_string(buf, pnstrdup(content, length));
	if (link != NULL)
		appendStringInfo(buf, ",\"link\":%s", JsonbToCString(NULL, link, 0));
	appendStringInfoChar(buf, '}');
	if (looks != NULL)
		appendStringInfo(buf, ",\"annotations\":%s", JsonbToCString(NULL, looks, 0));
	appendStringInfoChar(buf, '}');
}

NotionRequest *
angles_notion_add_properties(const char *data_source_id, List *columns, List *relations)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"properties\":");
	append_schema(&body, columns, relations);
	appendStringInfoChar(&body, '}');
	return make_request("PATCH", psprintf("/v1/data_sources/%s", data_source_id), &body, true);
}

NotionRequest *
angles_notion_search_data_sources(const char *title)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"query\":");
	angles_json_append_string(&body, title);
	appendStringInfoString(&body,
						   ",\"filter\":{\"property\":\"object\",\"value\":\"data_source\"},"
						   "\"page_size\":100}");
	return make_request("POST", "/v1/search", &body, false);
}

NotionRequest *
angles_notion_get_database(const char *database_id)
{
	return make_request("GET", psprintf("/v1/databases/%s", database_id), NULL, false);
}

NotionRequest *
angles_notion_get_data_source(const char *data_source_id)
{
	return make_request("GET", psprintf("/v1/data_sources/%s", data_source_id), NULL, false);
}

NotionRequest *
angles_notion_me(void)
{
	return make_request("GET", "/v1/users/me", NULL, false);
}

/* Writes go by property id: a rename in Notion then changes nothing for us. */
static void
append_properties(StringInfo buf, int n, const NotionProperty *properties)
{
	appendStringInfoString(buf, "\"properties\":{");
	for (int i = 0; i < n; i++)
	{
		const AnglesColumn *column = properties[i].column;

		if (i > 0)
			appendStringInfoChar(buf, ',');
		angles_json_append_string(buf, column->property_id ? column->property_id
								  : column->property_name);
		appendStringInfoChar(buf, ':');
		angles_codec_append_write(buf, column, properties[i].canon);
	}
	appendStringInfoChar(buf, '}');
}

static void
append_schema(StringInfo buf, List *columns, List *relations)
{
	ListCell   *lc;
	ListCell   *lr;
	bool		first = true;

	appendStringInfoChar(buf, '{');
	forboth(lc, columns, lr, relations)
	{
		AnglesColumn *column = (AnglesColumn *) lfirst(lc);

		if (column->type == ANGLES_PROP_RELATION && lfirst(lr) == NULL)
			continue;
		if (!first)
			appendStringInfoChar(buf, ',');
		first = false;
		angles_json_append_string(buf, column->property_name);
		appendStringInfoChar(buf, ':');
		angles_codec_append_schema(buf, column, (char *) lfirst(lr));
	}
	appendStringInfoChar(buf, '}');
}

/* ---- answers ---- */

bool
angles_notion_is_complete(JsonbContainer *answer)
{
	JsonbContainer *status = angles_json_get_container(answer, "request_status");
	char	   *type = status ? angles_json_get_text(status, "type") : NULL;

	return type == NULL || strcmp(type, "complete") == 0;
}

JsonbContainer *
angles_notion_property(JsonbContainer *page, const AnglesColumn *column)
{
	JsonbContainer *properties = angles_json_get_container(page, "properties");
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	JsonbContainer *by_name;

	if (properties == NULL || !JsonContainerIsObject(properties))
		return NULL;
	by_name = angles_json_get_container(properties, column->property_name);
	if (by_name != NULL)
	{
		char	   *id = angles_json_get_text(by_name, "id");

		if (column->property_id == NULL || (id && strcmp(id, column->property_id) == 0))
			return by_name;
	}
	if (column->property_id == NULL)
		return NULL;
	it = JsonbIteratorInit(properties);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *id;

		if (token != WJB_VALUE || value.type != jbvBinary)
			continue;
		id = angles_json_get_text(value.val.binary.data, "id");
		if (id && strcmp(id, column->property_id) == 0)
			return value.val.binary.data;
	}
	return NULL;
}

char *
angles_notion_parse_id(const char *text)
{
	char		digits[33];
	int			n = 0;
	const char *p = text + strlen(text);
	const char *query = strchr(text, '?');

	/* an address ends with the id; a query behind it is not part of it */
	if (query != NULL)
		p = query;
	while (p > text && n < 32)
	{
		p--;
		if (*p == '-')
			continue;
		if (!isxdigit((unsigned char) *p))
			return NULL;
		digits[31 - n++] = tolower((unsigned char) *p);
	}
	if (n < 32)
		return NULL;
	digits[32] = '\0';
	return psprintf("%.8s-%.4s-%.4s-%.4s-%.12s", digits, digits + 8, digits + 12, digits + 16,
					digits + 20);
}
