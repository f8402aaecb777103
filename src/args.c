/*
 * args.c
 *		Checks on the arguments of SQL-callable functions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "args.h"
#include "clock.h"
#include "errors.h"
#include "settings.h"
#include "uuid7.h"

#define MAX_NAME_BYTES 512
#define MAX_PAYLOAD_BYTES (1024 * 1024)

/* no duration that coord is told may be longer: it would be past all dates */
#define MAX_DURATION (INT64CONST(100) * 366 * USECS_PER_DAY)

/* Instants are of the years 1 to 9999, in whatever time zone: JSON's readers know no others. */
#define MIN_INSTANT ((INT64CONST(1721426) + 1 - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define MAX_INSTANT ((INT64CONST(5373484) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

static void
null_argument(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 coord_errargument(name),
			 errmsg("argument \"%s\" must not be null", name)));
}

/* "exact" is false when it may have more bytes than were counted. */
static void
check_payload_size(size_t size, bool exact, const char *name)
{
	if (size > MAX_PAYLOAD_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 coord_errargument(name),
				 errmsg("argument \"%s\" is too large", name),
				 exact ?
				 errdetail("It has %zu bytes; %d are allowed.", size, MAX_PAYLOAD_BYTES) :
				 errdetail("It has at least %zu bytes; %d are allowed.", size, MAX_PAYLOAD_BYTES)));
}

/* A name (of an agent, a resource, a queue ...): 1 to 512 bytes. */
char *
coord_check_name(char *value, const char *name)
{
	size_t		len = strlen(value);

	if (len == 0 || len > MAX_NAME_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(name),
				 len == 0 ?
				 errmsg("argument \"%s\" must not be empty", name) :
				 errmsg("argument \"%s\" is too long", name),
				 errdetail("It has %zu bytes; 1 to %d are allowed.", len, MAX_NAME_BYTES)));
	return value;
}

char *
coord_arg_name_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		return NULL;
	return coord_check_name(text_to_cstring(PG_GETARG_TEXT_PP(n)), name);
}

char *
coord_arg_name(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		null_argument(name);
	return coord_arg_name_or_null(fcinfo, n, name);
}

/* Text of any length that a payload may have. */
char *
coord_arg_text_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	text	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = PG_GETARG_TEXT_PP(n);
	check_payload_size(VARSIZE_ANY_EXHDR(value), true, name);
	return text_to_cstring(value);
}

pg_uuid_t *
coord_arg_uuid_or_null(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_UUID_P(n);
}

/* The id that a caller has chosen for something new; NULL is none.  The nil UUID stands for none inside. */
const pg_uuid_t *
coord_check_new_id(const pg_uuid_t *id)
{
	static const pg_uuid_t nil;

	if (id != NULL && coord_uuid_equal(id, &nil))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("id"),
				 errmsg("argument \"id\" must not be the nil UUID")));
	return id;
}

pg_uuid_t *
coord_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		null_argument(name);
	return PG_GETARG_UUID_P(n);
}

int64
coord_arg_int64(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		null_argument(name);
	return PG_GETARG_INT64(n);
}

/* An integer within bounds; "dflt" when NULL, whether within them or not. */
int
coord_arg_int_between(FunctionCallInfo fcinfo, int n, const char *name,
					  int dflt, int min, int max)
{
	int			value;

	if (PG_ARGISNULL(n))
		return dflt;
	value = PG_GETARG_INT32(n);
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(name),
				 errmsg("argument \"%s\" is out of range", name),
				 errdetail("It is %d; %d to %d are allowed.", value, min, max)));
	return value;
}

static char *
duration_str(int64 usec)
{
	return DatumGetCString(DirectFunctionCall1(interval_out,
											   IntervalPGetDatum(coord_usec_to_interval(usec))));
}

static int64
check_between(int64 usec, const char *name, int64 min, int64 max)
{
	if (usec < min || usec > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(name),
				 errmsg("argument \"%s\" is out of range", name),
				 errdetail("It is %s; %s to %s are allowed.",
						   duration_str(usec), duration_str(min), duration_str(max)),
				 errhint("See coord.min_lease_ttl and coord.max_lease_ttl.")));
	return usec;
}

/* Any duration of zero or more, in microseconds. */
int64
coord_arg_duration(FunctionCallInfo fcinfo, int n, const char *name, int64 dflt)
{
	int64		usec;

	if (PG_ARGISNULL(n))
		return dflt;
	if (!coord_interval_to_usec(PG_GETARG_INTERVAL_P(n), &usec) ||
		usec < 0 || usec > MAX_DURATION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(name),
				 errmsg("argument \"%s\" is out of range", name),
				 errdetail("It is %s; 0 to 100 years are allowed.",
						   DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(n))))));
	return usec;
}

/* A TTL, in microseconds. */
int64
coord_arg_ttl(FunctionCallInfo fcinfo, int n, const char *name, int64 dflt)
{
	if (PG_ARGISNULL(n))
		return dflt;
	return check_between(coord_arg_duration(fcinfo, n, name, 0), name,
						 (int64) coord_min_lease_ttl * 1000, (int64) coord_max_lease_ttl * 1000);
}

/*
 * The TTL, in microseconds, of a lease or a claim that does not say: "ttl", or
 * coord.default_lease_ttl when that is negative; within the bounds, which may
 * have been set after it.
 */
int64
coord_default_ttl(int64 ttl)
{
	if (ttl < 0)
		ttl = (int64) coord_default_lease_ttl * 1000;
	return Max(Min(ttl, (int64) coord_max_lease_ttl * 1000), (int64) coord_min_lease_ttl * 1000);
}

/* A heartbeat timeout, in microseconds: as short as a TTL, and up to a year. */
int64
coord_arg_heartbeat_timeout(FunctionCallInfo fcinfo, int n, const char *name)
{
	int64		min = (int64) coord_min_lease_ttl * 1000;

	if (PG_ARGISNULL(n))
		return Max((int64) coord_heartbeat_timeout * 1000, min);
	return check_between(coord_arg_duration(fcinfo, n, name, 0), name, min, 366 * USECS_PER_DAY);
}

TimestampTz
coord_check_instant(TimestampTz instant, const char *name)
{
	if (TIMESTAMP_NOT_FINITE(instant))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(name),
				 errmsg("argument \"%s\" must be finite", name)));
	if (instant < MIN_INSTANT || instant > MAX_INSTANT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(name),
				 errmsg("argument \"%s\" is out of range", name),
				 errdetail("It is %s; 0001-01-02 to 9999-12-31, UTC, are allowed.", timestamptz_to_str(instant))));
	return instant;
}

/* How many bytes longer a string is in JSON than by itself: what is escaped there is two bytes, or six. */
Size
coord_escaped_growth(const char *string, Size length)
{
	Size		bytes = 0;

	for (Size i = 0; i < length; i++)
	{
		unsigned char c = string[i];

		if (c == '"' || c == '\\' || (c >= '\b' && c <= '\r' && c != '\v'))
			bytes += 1;
		else if (c < ' ')
			bytes += 5;
	}
	return bytes;
}

/*
 * How many bytes longer than it is stored a JSON value is as text, or more than "enough": of 16
 * bytes a number may have 147,456 digits, and what is escaped in strings becomes six times as
 * long.  No byte of anything else becomes more than six.
 */
Size
coord_json_growth(Jsonb *value, Size enough)
{
	JsonbIterator *iterator = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue	item;
	Size		bytes = 0;

	while (bytes <= enough && (token = JsonbIteratorNext(&iterator, &item, false)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && item.type == jbvNumeric)
		{
			char	   *number = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(item.val.numeric)));

			bytes += strlen(number);
			pfree(number);
		}
		else if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) && item.type == jbvString)
			bytes += coord_escaped_growth(item.val.string.val, item.val.string.len);
	}
	return bytes;
}

/* A JSON value of 1 MiB at most as text.  A small one need not be written out to know. */
Jsonb *
coord_check_payload(Jsonb *value, const char *name)
{
	Size		growth = coord_json_growth(value, MAX_PAYLOAD_BYTES);

	check_payload_size(growth, false, name);
	if (VARSIZE(value) + growth > MAX_PAYLOAD_BYTES / 8)
	{
		StringInfoData json;

		initStringInfo(&json);
		(void) JsonbToCString(&json, &value->root, VARSIZE(value));
		check_payload_size(json.len, true, name);
		pfree(json.data);
	}
	return value;
}

Jsonb *
coord_arg_payload_or_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	return PG_ARGISNULL(n) ? NULL : coord_check_payload(PG_GETARG_JSONB_P(n), name);
}

/* The same, where NULL means the default, an empty object. */
Jsonb *
coord_arg_payload(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	return coord_arg_payload_or_null(fcinfo, n, name);
}
