/*
 * answer.c
 *		Answers that the bridge gives itself.
 *
 * They are errors, in the form that coord.mcp() gives to its own, and a few results.
 * A request whose id is not known is answered without one, as MCP wants.
 */
#include "postgres_fe.h"

#include "answer.h"
#include "connection.h"
#include "lines.h"

static void
start_answer(StringInfo buf, Json id)
{
	appendStringInfoString(buf, "{\"jsonrpc\": \"2.0\", ");
	if (id.kind != JSON_KIND_ABSENT)
	{
		appendStringInfoString(buf, "\"id\": ");
		appendBinaryStringInfo(buf, id.text, (int) id.len);
		appendStringInfoString(buf, ", ");
	}
}

/* Append an error. */
void
answer_fault(StringInfo buf, Json id, const Fault *fault)
{
	start_answer(buf, id);
	appendStringInfo(buf, "\"error\": {\"code\": %d, \"message\": ", fault->code);
	json_append_string(buf, fault->message);
	appendStringInfoString(buf, ", \"data\": {\"sqlstate\": ");
	json_append_string(buf, fault->sqlstate);
	appendStringInfo(buf, ", \"retryable\": %s", fault->retryable ? "true" : "false");
	if (fault->hint != NULL)
	{
		appendStringInfoString(buf, ", \"hint\": ");
		json_append_string(buf, fault->hint);
	}
	if (fault->more != NULL)
		appendStringInfo(buf, ", %s", fault->more);
	appendStringInfoString(buf, "}}}");
}

void
answer_put_fault(Json id, const Fault *fault)
{
	StringInfoData buf;

	initStringInfo(&buf);
	answer_fault(&buf, id, fault);
	lines_put(buf.data, buf.len);
	pfree(buf.data);
}

void
answer_put_result(Json id, const char *result)
{
	StringInfoData buf;

	initStringInfo(&buf);
	start_answer(&buf, id);
	appendStringInfo(&buf, "\"result\": %s}", result);
	lines_put(buf.data, buf.len);
	pfree(buf.data);
}

/* What a query of the bridge's own was refused with, to be told to the client. */
Fault
answer_fault_of_query(const char *sqlstate, const char *message)
{
	Fault		fault = {CODE_INTERNAL, sqlstate, sqlstate_is_retryable(sqlstate), message, NULL, NULL};

	/* an undefined function or schema */
	if (strcmp(sqlstate, "42883") == 0 || strcmp(sqlstate, "3F000") == 0)
	{
		fault.message = "the database has no extension coord, or one that is too old for coord-mcp";
		fault.hint = "Connect to the right database, or run CREATE EXTENSION coord in this one, "
			"or ALTER EXTENSION coord UPDATE.";
	}
	else if (strcmp(sqlstate, "42501") == 0)
		fault.code = CODE_NOT_ALLOWED;
	return fault;
}
