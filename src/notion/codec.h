/*
 * codec.h
 *		Values between SQL and Notion by way of one canonical form.
 *
 * The canonical form is a JSON text that is equal (strcmp) exactly when two values mean the same
 * on both sides: null, "text", 12.5, true, ["a","b"] (sorted, no doubles), {"start":"2026-11-01"}.
 * local --canon_local--> canon --append_write--> Notion --canon_remote--> canon --to_sql--> local
 * Promise for each c that canon_local gives: canon_remote(what append_write(c) stores) = c, and
 * canon_local(to_sql(c)) = c. The table of types and what is lost on purpose stands in README.md.
 */
#ifndef ANGLES_CODEC_H
#define ANGLES_CODEC_H

#include "postgres.h"

#include "access/attnum.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum AnglesPropertyType
{
	ANGLES_PROP_TITLE,
	ANGLES_PROP_RICH_TEXT,
	ANGLES_PROP_NUMBER,
	ANGLES_PROP_CHECKBOX,
	ANGLES_PROP_SELECT,
	ANGLES_PROP_MULTI_SELECT,
	ANGLES_PROP_STATUS,
	ANGLES_PROP_DATE,
	ANGLES_PROP_URL,
	ANGLES_PROP_EMAIL,
	ANGLES_PROP_PHONE,
	ANGLES_PROP_RELATION,
	ANGLES_PROP_UNKNOWN			/* a type that Notion has and angles does not write */
} AnglesPropertyType;

/* One mapped column. Strings live as long as the structure. */
typedef struct AnglesColumn
{
	AttrNumber	attnum;
	char	   *name;
	Oid			typid;			/* declared type */
	int32		typmod;
	bool		not_null;
	AnglesPropertyType type;
	char	   *property_id;	/* as Notion gave it (already URL-encoded), NULL before creation */
	char	   *property_name;
	List	   *options;		/* of char *: options known from enum or CHECK, else NIL */
} AnglesColumn;

/* Returns the type for Notion's name of it ("rich_text"), ANGLES_PROP_UNKNOWN for others. */
extern AnglesPropertyType angles_codec_type(const char *notion_name);

/* Returns Notion's name of the type. */
extern const char *angles_codec_type_name(AnglesPropertyType type);

/*
 * Chooses the property type for a column and fills its options (enum labels; "options" given from
 * a CHECK are kept when they fit). Returns false and a reason (palloc'd) when no property can hold
 * the type without loss.
 */
extern bool angles_codec_choose(AnglesColumn *column, char **reason);

/*
 * Returns whether a column of this SQL type may be mapped to that property type on a person's wish.
 */
extern bool angles_codec_allowed(const AnglesColumn *column, AnglesPropertyType type,
								 char **reason);

/*
 * Canonical form of a local value (pinned settings of core/txn.h required), or NULL and *problem
 * (a sentence without the value itself, naming the remedy) when Notion cannot hold it without loss.
 * Not for RELATION: the caller makes ["page id", ...] itself.
 */
extern char *angles_codec_canon_local(const AnglesColumn *column, Datum value, bool isnull,
									  char **problem);

/*
 * Canonical form of a property object as Notion answers it ({"id","type","<type>":...}), or NULL
 * and
 * *problem. *truncated is set when Notion gave only the first part (relation has_more). Whatever
 * its shape, a property never raises an error, and what cannot be read is a problem, not empty.
 */
extern char *angles_codec_canon_remote(const AnglesColumn *column, JsonbContainer *property,
									   bool *truncated, char **problem);

/*
 * Appends the value object of a page write, for example {"rich_text":[{"text":{"content":"x"}}]}.
 */
extern void angles_codec_append_write(StringInfo buf, const AnglesColumn *column,
									  const char *canon);

/*
 * Input text for the column's type of a canonical value (NULL for an SQL null), or *problem.
 * Example: a select's "a" gives a; a multi_select's ["a","b"] gives {"a","b"}. The type's input and
 * the column's length or scale still decide: the caller takes the canonical form of the value that
 * came of it, and one that differs could not be held.
 */
extern char *angles_codec_to_sql(const AnglesColumn *column, const char *canon, char **problem);

/*
 * Appends the schema object of the property for POST /v1/databases, for example
 * {"select":{"options":[{"name":"a"}]}}. relation_data_source is used by RELATION only.
 */
extern void angles_codec_append_schema(StringInfo buf, const AnglesColumn *column,
									   const char *relation_data_source);

/* Whether a canonical form is what a property of a new page holds anyway. */
extern bool angles_codec_is_empty(const char *canon);

/* Returns a canonical form as Jsonb; raises an error for what is none. */
extern Jsonb *angles_codec_parse(const char *canon);

/*
 * Returns the canonical form of a set: a JSON array of the texts, sorted, each once. Sorts texts in
 * place.
 */
extern char *angles_codec_set(char **texts, int n);

/*
 * Returns the canonical form of a decimal; the decimal as it is where no double gives back its
 * digits, which angles_codec_canon_local() then calls a problem.
 */
extern char *angles_codec_sum(const char *decimal);

/* Whether a column of this SQL type, as this property, holds whole or decimal numbers exactly. */
extern bool angles_codec_adds(const AnglesColumn *column);

/* Returns an option's name in the one case in which Notion compares them. */
extern char *angles_codec_fold(const char *label);

/* Appends a rich text array for a plain text, cut into pieces of at most 2000 UTF-16 units. */
extern void angles_codec_append_rich_text(StringInfo buf, const char *text);

/* Joins plain_text (or text.content) of a rich text array as Notion answers it; palloc'd. */
extern char *angles_codec_plain_text(JsonbContainer *rich_text);

#endif							/* ANGLES_CODEC_H */
