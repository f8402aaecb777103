/*
 * argument.c
 *		Arguments of JSON-RPC as values of SQL.
 *
 * JSON has few types, so this is stricter than SQL's own casts: a number is no
 * string, a time has an offset, a duration is a number of seconds.  What is wrong is
 * 22023 or the error of the type's input function, with the argument's name and what
 * was expected as facts.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "clock.h"
#include "errors.h"
#include "rpc/argument.h"
#include "rpc/json.h"

/* In words, what an argument of that type must be. */
const char *
rpc_expected(Oid type)
{
	switch (type)
	{
		case TEXTOID:
			return "a string";
		case UUIDOID:
			return "a UUID, as a string";
		case BOOLOID:
			return "true or false";
		case INT4OID:
			return "an integer";
		case INT8OID:
			return "an integer, or a string of its digits";
		case INTERVALOID:
			return "a number of seconds";
		case TIMESTAMPTZOID:
			return "an ISO 8601 time with an offset, such as \"2026-01-31T12:00:00Z\"";
		case UUIDARRAYOID:
			return "an array of UUIDs, as strings";
		case JSONBOID:
			return "JSON";
	}
	elog(ERROR, "no argument of type %u can be given in JSON", type);
	return NULL;				/* not reached */
}

static void
bad_argument(const RpcArgument *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"%s\" must be %s", argument->name, rpc_expected(argument->type))));
}

static char *
string_argument(const RpcArgument *argument, const JsonbValue *value)
{
	if (value->type != jbvString)
		bad_argument(argument);
	return json_string_value(value);
}

static int64
integer_argument(const RpcArgument *argument, const JsonbValue *value, int64 min, int64 max)
{
	char	   *digits = NULL;
	char	   *end;
	int64		result;

	if (value->type == jbvNumeric)
		digits = DatumGetCString(DirectFunctionCall1(numeric_out,
													 DirectFunctionCall1(numeric_trim_scale,
																		 NumericGetDatum(value->val.numeric))));
	else if (value->type == jbvString && argument->type == INT8OID)
		digits = json_string_value(value);
	if (digits == NULL || !isdigit((unsigned char) digits[digits[0] == '-']))
		bad_argument(argument);
	errno = 0;
	result = strtoi64(digits, &end, 10);
	if (*end != '\0')
		bad_argument(argument);
	if (errno != 0 || result < min || result > max)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("argument \"%s\" is out of range", argument->name)));
	return result;
}

static Datum
interval_argument(const RpcArgument *argument, const JsonbValue *value)
{
	Datum		usec;

	if (value->type != jbvNumeric)
		bad_argument(argument);
	usec = DirectFunctionCall2(numeric_mul, NumericGetDatum(value->val.numeric),
							   NumericGetDatum(int64_to_numeric(USECS_PER_SEC)));
	return IntervalPGetDatum(coord_usec_to_interval(DatumGetInt64(DirectFunctionCall1(numeric_int8, usec))));
}

/* Whether a time begins with its year, whatever DateStyle is, and ends with its offset: Z, +hh, +hhmm or +hh:mm. */
static bool
is_iso_time(const char *time)
{
	const char *sign;

	if (strlen(time) < strlen("2026-01-31T12:00Z") || strspn(time, "0123456789") < 4)
		return false;
	if (pg_toupper((unsigned char) time[strlen(time) - 1]) == 'Z')
		return true;
	sign = strpbrk(time + strlen("2026-01-31"), "+-");
	return sign != NULL && strspn(sign + 1, "0123456789:") == strlen(sign + 1) && strlen(sign) >= strlen("+hh");
}

static Datum
time_argument(const RpcArgument *argument, const JsonbValue *value)
{
	char	   *time = string_argument(argument, value);

	if (!is_iso_time(time))
		bad_argument(argument);
	return DirectFunctionCall3(timestamptz_in, CStringGetDatum(time),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

static Datum
uuid_argument(const RpcArgument *argument, const JsonbValue *value)
{
	return DirectFunctionCall1(uuid_in, CStringGetDatum(string_argument(argument, value)));
}

static Datum
uuids_argument(const RpcArgument *argument, const JsonbValue *value)
{
	JsonbContainer *array;
	Datum	   *ids;
	int			n;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		bad_argument(argument);
	array = value->val.binary.data;
	n = JsonContainerSize(array);
	ids = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
		ids[i] = uuid_argument(argument, getIthJsonbValueFromContainer(array, i));
	return PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

static Datum
convert(const RpcArgument *argument, const JsonbValue *value)
{
	switch (argument->type)
	{
		case TEXTOID:
			return CStringGetTextDatum(string_argument(argument, value));
		case UUIDOID:
			return uuid_argument(argument, value);
		case BOOLOID:
			if (value->type != jbvBool)
				bad_argument(argument);
			return BoolGetDatum(value->val.boolean);
		case INT4OID:
			return Int32GetDatum((int32) integer_argument(argument, value, PG_INT32_MIN, PG_INT32_MAX));
		case INT8OID:
			return Int64GetDatum(integer_argument(argument, value, PG_INT64_MIN, PG_INT64_MAX));
		case INTERVALOID:
			return interval_argument(argument, value);
		case TIMESTAMPTZOID:
			return time_argument(argument, value);
		case UUIDARRAYOID:
			return uuids_argument(argument, value);
		case JSONBOID:
			return JsonbPGetDatum(JsonbValueToJsonb(unconstify(JsonbValue *, value)));
	}
	bad_argument(argument);
	return (Datum) 0;			/* not reached */
}

/* The value of an argument, which is not JSON's null. */
Datum
rpc_argument(const RpcArgument *argument, const JsonbValue *value)
{
	Datum		result;

	/* whatever error comes is about this argument */
	(void) coord_errargument(argument->name);
	(void) coord_errexpected(rpc_expected(argument->type));
	result = convert(argument, value);
	(void) coord_errargument("");
	(void) coord_errexpected(NULL);
	return result;
}
