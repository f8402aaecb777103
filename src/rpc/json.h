/*
 * json.h
 *		Building JSON, member by member, and reading members.
 */
#ifndef COORD_RPC_JSON_H
#define COORD_RPC_JSON_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* What is being built; zeroed at first.  "value" is whole when all that was begun is ended. */
typedef struct Json
{
	JsonbParseState *state;
	JsonbValue *value;
} Json;

extern void json_begin_object(Json *json);
extern void json_end_object(Json *json);
extern void json_begin_array(Json *json);
extern void json_end_array(Json *json);

/* a value: an element of an array, or the value of the key just given */
extern void json_key(Json *json, const char *key);
extern void json_null(Json *json);
extern void json_bool(Json *json, bool value);
extern void json_int(Json *json, int64 value);
extern void json_exact_int(Json *json, int64 value);
extern void json_seconds(Json *json, int64 usec);
extern void json_string(Json *json, const char *value);
extern void json_time(Json *json, TimestampTz value);
extern void json_jsonb(Json *json, Jsonb *value);
extern void json_value(Json *json, Oid type, Datum value, bool isnull);

/* the same, of what was read from other JSON */
extern void json_copy_key(Json *json, const JsonbValue *key);
extern void json_copy(Json *json, const JsonbValue *value);

/* a key and its value */
extern void json_string_member(Json *json, const char *key, const char *value);
extern void json_bool_member(Json *json, const char *key, bool value);
extern void json_int_member(Json *json, const char *key, int64 value);
extern void json_jsonb_member(Json *json, const char *key, Jsonb *value);

extern JsonbValue *json_member(JsonbContainer *object, const char *key);
extern JsonbContainer *json_object_member(JsonbContainer *object, const char *key);
extern char *json_string_value(const JsonbValue *value);
extern bool json_is_object(const JsonbValue *value);

#endif							/* COORD_RPC_JSON_H */
