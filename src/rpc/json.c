/*
 * json.c
 *		Building JSON, member by member, and reading members.
 *
 * A thin coat over PostgreSQL's pushJsonbValue(): keys and strings are not copied, and must
 * live until the whole is made a jsonb.  It is also the one place that says how a value of
 * SQL looks in an answer: json_value().
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "clock.h"
#include "rpc/json.h"
#include "sequence.h"
#include "uuid7.h"

void
json_begin_object(Json *json)
{
	json->value = pushJsonbValue(&json->state, WJB_BEGIN_OBJECT, NULL);
}

void
json_end_object(Json *json)
{
	json->value = pushJsonbValue(&json->state, WJB_END_OBJECT, NULL);
}

void
json_begin_array(Json *json)
{
	json->value = pushJsonbValue(&json->state, WJB_BEGIN_ARRAY, NULL);
}

void
json_end_array(Json *json)
{
	json->value = pushJsonbValue(&json->state, WJB_END_ARRAY, NULL);
}

static JsonbValue
string_value(const char *value)
{
	JsonbValue	result = {.type = jbvString};

	result.val.string.val = unconstify(char *, value);
	result.val.string.len = strlen(value);
	return result;
}

void
json_key(Json *json, const char *key)
{
	JsonbValue	value = string_value(key);

	json->value = pushJsonbValue(&json->state, WJB_KEY, &value);
}

static void
push(Json *json, JsonbValue *value)
{
	json->value = pushJsonbValue(&json->state,
								 json->state->contVal.type == jbvObject ? WJB_VALUE : WJB_ELEM, value);
}

void
json_copy_key(Json *json, const JsonbValue *key)
{
	json->value = pushJsonbValue(&json->state, WJB_KEY, unconstify(JsonbValue *, key));
}

void
json_copy(Json *json, const JsonbValue *value)
{
	push(json, unconstify(JsonbValue *, value));
}

void
json_null(Json *json)
{
	JsonbValue	value = {.type = jbvNull};

	push(json, &value);
}

void
json_bool(Json *json, bool value)
{
	JsonbValue	result = {.type = jbvBool};

	result.val.boolean = value;
	push(json, &result);
}

static void
json_number(Json *json, Numeric value)
{
	JsonbValue	result = {.type = jbvNumeric};

	result.val.numeric = value;
	push(json, &result);
}

void
json_int(Json *json, int64 value)
{
	json_number(json, int64_to_numeric(value));
}

/* A fencing token or a position: a number, as one expects, while every reader keeps each digit. */
void
json_exact_int(Json *json, int64 value)
{
	if (coord_needs_digits(value))
		json_string(json, psprintf(INT64_FORMAT, value));
	else
		json_int(json, value);
}

void
json_seconds(Json *json, int64 usec)
{
	json_number(json, DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale,
														  NumericGetDatum(int64_div_fast_to_numeric(usec, 6)))));
}

void
json_string(Json *json, const char *value)
{
	JsonbValue	result = string_value(value);

	push(json, &result);
}

void
json_time(Json *json, TimestampTz value)
{
	json_string(json, JsonEncodeDateTime(palloc(MAXDATELEN + 1), TimestampTzGetDatum(value), TIMESTAMPTZOID, NULL));
}

void
json_jsonb(Json *json, Jsonb *value)
{
	JsonbValue	result;

	if (JB_ROOT_IS_SCALAR(value))
		(void) JsonbExtractScalar(&value->root, &result);
	else
	{
		result.type = jbvBinary;
		result.val.binary.data = &value->root;
		result.val.binary.len = VARSIZE(value) - VARHDRSZ;
	}
	push(json, &result);
}

static void
json_array(Json *json, Oid type, ArrayType *array)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	deconstruct_array(array, type, typlen, typbyval, typalign, &elements, &nulls, &n);
	json_begin_array(json);
	for (int i = 0; i < n; i++)
		json_value(json, type, elements[i], nulls[i]);
	json_end_array(json);
}

/* A value of any type that coord's functions return. */
void
json_value(Json *json, Oid type, Datum value, bool isnull)
{
	int64		usec;
	Oid			element;
	Oid			output;
	bool		varlena;

	if (isnull)
	{
		json_null(json);
		return;
	}
	switch (type)
	{
		case BOOLOID:
			json_bool(json, DatumGetBool(value));
			return;
		case INT4OID:
			json_int(json, DatumGetInt32(value));
			return;
		case INT8OID:
			json_exact_int(json, DatumGetInt64(value));
			return;
		case TEXTOID:
			json_string(json, TextDatumGetCString(value));
			return;
		case UUIDOID:
			json_string(json, coord_uuid_str(DatumGetUUIDP(value)));
			return;
		case TIMESTAMPTZOID:
			json_time(json, DatumGetTimestampTz(value));
			return;
		case JSONBOID:
			json_jsonb(json, DatumGetJsonbPCopy(value));
			return;
		case INTERVALOID:
			if (coord_interval_to_usec(DatumGetIntervalP(value), &usec))
			{
				json_seconds(json, usec);
				return;
			}
			break;
	}
	element = get_element_type(type);
	if (OidIsValid(element))
	{
		json_array(json, element, DatumGetArrayTypeP(value));
		return;
	}
	getTypeOutputInfo(type, &output, &varlena);
	json_string(json, OidOutputFunctionCall(output, value));
}

void
json_string_member(Json *json, const char *key, const char *value)
{
	json_key(json, key);
	json_string(json, value);
}

void
json_bool_member(Json *json, const char *key, bool value)
{
	json_key(json, key);
	json_bool(json, value);
}

void
json_int_member(Json *json, const char *key, int64 value)
{
	json_key(json, key);
	json_int(json, value);
}

void
json_jsonb_member(Json *json, const char *key, Jsonb *value)
{
	json_key(json, key);
	json_jsonb(json, value);
}

/* The member of that name; NULL when there is none, or no object. */
JsonbValue *
json_member(JsonbContainer *object, const char *key)
{
	if (object == NULL || !JsonContainerIsObject(object))
		return NULL;
	return getKeyJsonValueFromContainer(object, key, strlen(key), NULL);
}

bool
json_is_object(const JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* The member of that name if it is an object; else NULL. */
JsonbContainer *
json_object_member(JsonbContainer *object, const char *key)
{
	JsonbValue *value = json_member(object, key);

	return json_is_object(value) ? value->val.binary.data : NULL;
}

/* A string as a C string; NULL when the value is none. */
char *
json_string_value(const JsonbValue *value)
{
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}
