/*
 * failure.c
 *		Errors as answers: the one place that maps SQLSTATEs to codes.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "clock.h"
#include "errors.h"
#include "rpc/rpc.h"
#include "uuid7.h"

/* how long to wait before one asks again for what is held by nobody knows whom */
#define RETRY_AFTER_UNKNOWN USECS_PER_SEC

/*
 * Texts of an error are no longer than that in an answer: they may have in them what the client
 * has sent, and what a request says wrongly a thousand times must not make more than a jsonb holds.
 */
#define MAX_TEXT_BYTES 2000

static bool
is_class(int sqlstate, const char *class)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == MAKE_SQLSTATE(class[0], class[1], '0', '0', '0');
}

static int
code_of(int sqlstate)
{
	if (coord_error_facts.fault != 0)
		return coord_error_facts.fault;
	switch (sqlstate)
	{
		case ERRCODE_NO_DATA_FOUND:
			return RPC_NOT_FOUND;
		case ERRCODE_LOCK_NOT_AVAILABLE:
			return RPC_HELD;
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
			return coord_error_facts.lost ? RPC_LOST : RPC_WRONG_STATE;
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			return RPC_NOT_ALLOWED;
		case ERRCODE_CONFIGURATION_LIMIT_EXCEEDED:
			return RPC_LIMIT_REACHED;
	}
	if (is_class(sqlstate, "22"))	/* data exception */
		return RPC_INVALID_PARAMS;
	if (is_class(sqlstate, "54"))	/* program limit exceeded */
		return RPC_TOO_LARGE;
	if (is_class(sqlstate, "25"))	/* invalid transaction state, as on a standby */
		return RPC_WRONG_STATE;
	return RPC_INTERNAL_ERROR;
}

/* Whether the same request may well be answered otherwise a little later. */
static bool
is_retryable(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_QUERY_CANCELED ||
		is_class(sqlstate, "40") || is_class(sqlstate, "53") || is_class(sqlstate, "57") || is_class(sqlstate, "08");
}

/* Whether an error is the end of the whole statement, by its timeout or because somebody ends it. */
bool
rpc_is_cancel(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

static void
add_held(Json *json)
{
	const ErrorFacts *facts = &coord_error_facts;

	json_key(json, "holder");
	if (facts->held)
		json_string(json, coord_uuid_str(&facts->holder));
	else
		json_null(json);
	json_key(json, "expires_at");
	if (facts->held)
		json_time(json, facts->until);
	else
		json_null(json);
	json_key(json, "retry_after");
	json_seconds(json, facts->held ? facts->until - coord_earlier(coord_now(), facts->until) : RETRY_AFTER_UNKNOWN);
}

static void
add_text(Json *json, const char *key, const char *text)
{
	int			len = strlen(text);

	if (len > MAX_TEXT_BYTES)
		text = psprintf("%s...", pnstrdup(text, pg_mbcliplen(text, len, MAX_TEXT_BYTES)));
	json_string_member(json, key, text);
}

static void
add_versions(Json *json)
{
	json_key(json, "supported");
	json_begin_array(json);
	json_string(json, MCP_MODERN_VERSION);
	json_end_array(json);
	add_text(json, "requested", coord_error_facts.requested);
}

/* The members of "data". */
static void
add_data(Json *json, const ErrorData *error)
{
	const ErrorFacts *facts = &coord_error_facts;

	json_string_member(json, "sqlstate", unpack_sql_state(error->sqlerrcode));
	json_bool_member(json, "retryable", is_retryable(error->sqlerrcode));
	if (facts->argument[0] != '\0')
		json_string_member(json, "argument", facts->argument);
	if (facts->expected != NULL)
		json_string_member(json, "expected", facts->expected);
	if (code_of(error->sqlerrcode) == RPC_HELD)
		add_held(json);
	if (facts->requested != NULL)
		add_versions(json);
	if (error->detail != NULL)
		add_text(json, "detail", error->detail);
	if (error->hint != NULL)
		add_text(json, "hint", error->hint);
}

static void
add_code(Json *json, const ErrorData *error)
{
	json_int_member(json, "code", code_of(error->sqlerrcode));
	add_text(json, "message", error->message != NULL ? error->message : "unknown error");
}

/* An error, with coord_error_facts, as the member "error" of a response. */
void
rpc_error_member(Json *json, const ErrorData *error)
{
	json_key(json, "error");
	json_begin_object(json);
	add_code(json, error);
	json_key(json, "data");
	json_begin_object(json);
	add_data(json, error);
	json_end_object(json);
	json_end_object(json);
}

/* The same as one flat object. */
Jsonb *
rpc_refusal(const ErrorData *error)
{
	Json		json = {0};

	json_begin_object(&json);
	add_code(&json, error);
	add_data(&json, error);
	json_end_object(&json);
	return JsonbValueToJsonb(json.value);
}
