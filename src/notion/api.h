/*
 * api.h
 *		Notion's API as typed requests, and what its answers mean. Builds and reads bytes only: who
 *		sends them, when, and what is done about an answer is decided by the room sync.
 *
 * Wire facts: Notion's reference, version 2026-03-11.
 */
#ifndef ANGLES_API_H
#define ANGLES_API_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "net/net.h"
#include "notion/codec.h"

/* What an answer means for the one who asked (reference: status codes, request limits). */
typedef enum NotionVerdict
{
	NOTION_DONE,
	NOTION_LIMITED,				/* 429, 529: not done; the whole connection waits */
	NOTION_BLOCKED,				/* 429 that must not be retried by itself */
	NOTION_RETRY,				/* surely not done; try again later */
	NOTION_IN_DOUBT,			/* may have been done */
	NOTION_CONFLICT,			/* 409: not saved, try again soon */
	NOTION_UNAUTHORIZED,		/* 401 */
	NOTION_FORBIDDEN,			/* 403: a capability or the block limit */
	NOTION_GONE,				/* 404: gone or not shared */
	NOTION_TRASHED,				/* the page or a parent of it is in the trash */
	NOTION_SCHEMA,				/* a property is missing or of another type */
	NOTION_REFUSED				/* 400 for this content: never better by itself */
} NotionVerdict;

typedef struct NotionAnswer
{
	NotionVerdict verdict;
	char	   *code;			/* Notion's code, or a word of ours ("unreachable") */
	char	   *message;		/* for people */
	int			retry_after_s;	/* -1: none */
	char	   *reason;			/* rate_limit_reason, or NULL */
	char	   *committed_id;	/* committed_resource_id of a 503, or NULL */
	Jsonb	   *json;			/* the body, NULL when it is no JSON */
	TimestampTz server_date;	/* Notion's clock when it answered, 0: not told */
	int64		sent_us;		/* angles_clock_mono_us() when it was asked */
} NotionAnswer;

/*
 * Reads an answer. "writes" says whether the request could have changed anything: for reads there
 * is no doubt, only another try. All is palloc'd in the current context.
 */
extern NotionAnswer *angles_notion_read(const AnglesNetAnswer *answer, bool writes);

/* One request, ready to be sent; palloc'd. */
typedef struct NotionRequest
{
	const char *method;
	char	   *path;			/* below the base address, query included */
	char	   *body;			/* UTF-8, or NULL */
	bool		writes;
} NotionRequest;

/* A property and the canonical value to write. */
typedef struct NotionProperty
{
	const AnglesColumn *column;
	const char *canon;
} NotionProperty;

/* Makes a row with these properties. */
extern NotionRequest *angles_notion_create_page(const char *data_source_id, int n,
												const NotionProperty *properties);
/* Writes these properties of a row and no others. */
extern NotionRequest *angles_notion_patch_page(const char *page_id, int n,
											   const NotionProperty *properties);
/* Puts a row into the trash or takes it out; there is no other delete (reference, section 11). */
extern NotionRequest *angles_notion_trash_page(const char *page_id, bool in_trash);
/* Writes a comment of a plain text, not empty, to a page (reference, 8.12). */
extern NotionRequest *angles_notion_comment(const char *page_id, const char *text);
/* Reads a row. */
extern NotionRequest *angles_notion_get_page(const char *page_id);

/*
 * Reads the next 100 of a property's references, from a cursor (NULL: from the start). The id of
 * the property goes as Notion gave it, encoded already (reference, 8.9).
 */
extern NotionRequest *angles_notion_get_property(const char *page_id, const char *property_id,
												 const char *cursor);

/* Query for the pages whose key property equals one of the keys (of char *, at most 100). */
extern NotionRequest *angles_notion_find_keys(const char *data_source_id,
											  const AnglesColumn *key_column, List *keys);

/*
 * Query for the pages of a data source that were made in this minute or later (ISO 8601, NULL:
 * all), oldest first, from a cursor (NULL: from the start), with the properties of these ids (of
 * char *) alone (NIL: with all).
 */
extern NotionRequest *angles_notion_list_pages(const char *data_source_id, const char *since,
											   const char *cursor, List *property_ids);

/* The same of those that were edited in this minute or later, in the order of their edits. */
extern NotionRequest *angles_notion_changed_pages(const char *data_source_id, const char *since,
												  const char *cursor, List *property_ids);

/*
 * Makes a database under a page. "columns" is a list of AnglesColumn *, "relations" a parallel list
 * of data source ids (char * or NULL: then the property is left out).
 */
extern NotionRequest *angles_notion_create_database(const char *parent_page_id, const char *title,
													const char *description, List *columns,
													List *relations);
/* Looks for data sources of this title: not immediate, not exhaustive (reference, 8.13). */
extern NotionRequest *angles_notion_search_data_sources(const char *title);
/* Reads a database: its description and data sources. */
extern NotionRequest *angles_notion_get_database(const char *database_id);
/* Reads a data source: its properties. */
extern NotionRequest *angles_notion_get_data_source(const char *data_source_id);

/* A part of the joined text of a description, in bytes: from "begin" up to "end". */
typedef struct NotionCut
{
	int			begin;
	int			end;
} NotionCut;

/*
 * Writes "text" into the description of a database: in place of the cuts (in order, not
 * overlapping), else behind what stands there ("before", as a database or data source object
 * shows it, or NULL). All other text keeps its looks and links, wherever the cuts begin and end.
 * Returns NULL when it holds something that cannot be written back as it is.
 */
extern NotionRequest *angles_notion_describe_database(const char *database_id,
													  JsonbContainer *before,
													  const NotionCut *cuts, int n_cuts,
													  const char *text);

/* Adds properties to a data source; lists as for angles_notion_create_database(). */
extern NotionRequest *angles_notion_add_properties(const char *data_source_id, List *columns,
												   List *relations);
/* Reads who the token is. */
extern NotionRequest *angles_notion_me(void);

/* Returns the member "name" of an answer as a time (ISO 8601, UTC), 0 when it is none. */
extern TimestampTz angles_notion_time(JsonbContainer *object, const char *name);

/* Returns the minute of a time as Notion reads it (ISO 8601, UTC); palloc'd. */
extern char *angles_notion_minute(TimestampTz at);

/*
 * Whether the answer to a query shows all there is, on this page and those that follow: a query
 * ends after 10,000 pages.
 */
extern bool angles_notion_is_complete(JsonbContainer *answer);

/* Returns the property object of a page answer for this column (by id, else by name), or NULL. */
extern JsonbContainer *angles_notion_property(JsonbContainer *page, const AnglesColumn *column);

/*
 * Returns a text as lower-case dashed UUID when it is one (dashes optional), or holds one at its
 * end as Notion's page addresses do; else NULL.
 */
extern char *angles_notion_parse_id(const char *text);

#endif							/* ANGLES_API_H */
