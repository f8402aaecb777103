/*
 * json_reader.h
 *		Looking into JSON texts.
 */
#ifndef COORD_MCP_JSON_READER_H
#define COORD_MCP_JSON_READER_H

#include "lib/stringinfo.h"

typedef enum JsonKind
{
	JSON_KIND_ABSENT,
	JSON_KIND_NULL,
	JSON_KIND_BOOLEAN,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT
} JsonKind;

/* A value within a text, which must outlive it. */
typedef struct Json
{
	JsonKind	kind;
	const char *text;
	size_t		len;
} Json;

#define JSON_NONE ((Json) {JSON_KIND_ABSENT, NULL, 0})

/* No text is nested deeper than that. */
#define JSON_MAX_NESTING 1000

typedef enum JsonFault
{
	JSON_FAULT_NONE,
	JSON_FAULT_SYNTAX,
	JSON_FAULT_ENCODING,
	JSON_FAULT_NESTING
} JsonFault;

extern JsonFault json_read(const char *text, size_t len, Json *value);
extern Json json_trusted(const char *text, size_t len);
extern void json_members(Json object, int n, const char *const *names, Json *values);
extern Json json_member(Json object, const char *name);
extern bool json_next_element(Json array, Json *element);

extern bool json_is(Json value, const char *string);
extern bool json_same(Json a, Json b);
extern bool json_is_true(Json value);
extern char *json_string(Json value);
extern char *json_text(Json value);
extern bool json_has_number(Json value);
extern bool json_number(Json value, double *number);
extern bool json_time(Json value, double *epoch);

extern void json_append_string(StringInfo buf, const char *string);

#endif							/* COORD_MCP_JSON_READER_H */
