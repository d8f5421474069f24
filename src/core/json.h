/*
 * json.h
 *		JSON as angles meets it: foreign bytes in, text out.
 */
#ifndef ANGLES_JSON_H
#define ANGLES_JSON_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/*
 * Parses bytes from outside (UTF-8) into a Jsonb in the current context, or returns NULL and sets
 * *problem to a text (current context) without any of the foreign content. Never raises an error
 * for bad input: wrong encoding, NUL, too deep (> 128), not JSON.
 */
extern Jsonb *angles_json_parse(const char *bytes, size_t len, char **problem);

/*
 * Finds a member by name in an object container. Returns false when it is missing or the container
 * is no object. The value points into the container.
 */
extern bool angles_json_get(JsonbContainer *object, const char *name, JsonbValue *value);

/* Returns the string member "name" as a palloc'd C string, or NULL when missing or no string. */
extern char *angles_json_get_text(JsonbContainer *object, const char *name);

/* Returns the member "name" when it is an object or array, else NULL. */
extern JsonbContainer *angles_json_get_container(JsonbContainer *object, const char *name);

/* Returns a member of a JSON object as a value of its own, or NULL when it has none. */
extern Jsonb *angles_json_member(const Jsonb *object, const char *name);

/* Returns the boolean member "name", or "fallback" when missing or no boolean. */
extern bool angles_json_get_bool(JsonbContainer *object, const char *name, bool fallback);

/* Returns the i-th element of an array container when it is an object or array, else NULL. */
extern JsonbContainer *angles_json_element(JsonbContainer *array, int i);

/* Appends a JSON string literal, quotes included, of a server-encoded C string. */
extern void angles_json_append_string(StringInfo buf, const char *text);

/*
 * Returns the text converted from the server encoding to UTF-8 (the same pointer when it is UTF-8).
 */
extern char *angles_json_to_utf8(const char *text);

#endif							/* ANGLES_JSON_H */
