/*
 * message.c
 *		What the bridge reads of a message.
 *
 * That is little: whether it is to be answered and under which id, who the client is,
 * and of a call the tool, if it grants, renews or ends what the bridge keeps alive.
 * Everything else is the server's to judge.
 */
#include "postgres_fe.h"

#include "message.h"

/* No number that is larger has a fraction. */
#define EXACT 9007199254740992.0

static const struct
{
	const char *name;
	Tool		tool;
}			tools[] =
{
	{"task_claim", TOOL_TASK_CLAIM},
	{"task_renew", TOOL_TASK_RENEW},
	{"task_complete", TOOL_TASK_END},
	{"task_complete_many", TOOL_TASK_END},
	{"task_fail", TOOL_TASK_END},
	{"task_release", TOOL_TASK_END},
	{"task_cancel", TOOL_TASK_END},
	{"lock_acquire", TOOL_LOCK_ACQUIRE},
	{"lease_acquire", TOOL_LOCK_ACQUIRE},
	{"lock_renew", TOOL_LOCK_RENEW},
	{"lease_renew", TOOL_LOCK_RENEW},
	{"lock_release", TOOL_LOCK_RELEASE},
	{"lease_release", TOOL_LOCK_RELEASE},
	{"agent_retire", TOOL_AGENT_RETIRE},
};

static Tool tool_named(Json name);
static bool may_be_id(Json id);

/* Read a text that is JSON. */
void
message_read(Json value, Message *message)
{
	static const char *const top_names[] = {"id", "method", "params", "result", "error"};
	static const char *const param_names[] = {"name", "arguments", "clientInfo", "_meta"};
	static const char *const meta_names[] = {META_VERSION, META_CLIENT_INFO};
	Json		top[lengthof(top_names)];
	Json		params[lengthof(param_names)];
	Json		meta[lengthof(meta_names)];

	memset(message, 0, sizeof(*message));
	message->whole = value;
	if (value.kind == JSON_KIND_ARRAY)
	{
		message->kind = MESSAGE_BATCH;
		return;
	}
	if (value.kind != JSON_KIND_OBJECT)
	{
		message->kind = MESSAGE_BAD;
		return;
	}

	json_members(value, lengthof(top), top_names, top);
	message->method = top[1];
	message->params = top[2];
	if (top[1].kind == JSON_KIND_ABSENT && (top[3].kind != JSON_KIND_ABSENT || top[4].kind != JSON_KIND_ABSENT))
		message->kind = MESSAGE_RESPONSE;
	else if (top[0].kind == JSON_KIND_ABSENT)
		message->kind = message->method.kind == JSON_KIND_STRING ? MESSAGE_NOTIFICATION : MESSAGE_BAD;
	else if (may_be_id(top[0]))
	{
		message->kind = MESSAGE_REQUEST;
		message->id = top[0];
	}
	else
		message->kind = MESSAGE_BAD;

	json_members(message->params, lengthof(params), param_names, params);
	json_members(params[3], lengthof(meta), meta_names, meta);
	message->meta = params[3];
	message->version = meta[0];
	if (message_is_modern(message))
		message->client_info = meta[1];
	else if (json_is(message->method, "initialize"))
		message->client_info = params[2];
	message->is_call = json_is(message->method, "tools/call");
	message->tool = tool_named(message->is_call ? params[0] : message->method);
	message->arguments = message->is_call ? params[1] : message->params;
}

/* Is it one of those that only MCP knows, and that tell something to us? */
bool
message_is_notification(const Message *message)
{
	static const char prefix[] = "\"notifications/";

	return message->method.len >= sizeof(prefix) && memcmp(message->method.text, prefix, sizeof(prefix) - 1) == 0;
}

/* MCP wants a string or an integer, which may be written as 1.0. */
static bool
may_be_id(Json id)
{
	double		number;

	return id.kind == JSON_KIND_STRING ||
		(json_number(id, &number) && (number >= EXACT || number <= -EXACT || number == (double) (int64) number));
}

/* The tool with that name, which may have dots in place of underscores. */
static Tool
tool_named(Json name)
{
	char	   *decoded = json_string(name);
	Tool		tool = TOOL_OTHER;

	if (decoded == NULL)
		return TOOL_OTHER;
	for (char *c = decoded; *c != '\0'; c++)
	{
		if (*c == '.')
			*c = '_';
	}
	for (int i = 0; i < (int) lengthof(tools); i++)
	{
		if (strcmp(decoded, tools[i].name) == 0)
			tool = tools[i].tool;
	}
	free(decoded);
	return tool;
}

/*
 * Read the answer to a call.  A tool's refusal is a result, that of a method an error.
 */
void
message_outcome(const Message *call, Json answer, Outcome *outcome)
{
	Json		result = json_member(answer, "result");
	Json		error = json_member(answer, "error");
	Json		data = json_member(error, "data");

	memset(outcome, 0, sizeof(*outcome));
	outcome->retry_after = -1;
	outcome->refused = error.kind != JSON_KIND_ABSENT;
	if (call->is_call && !outcome->refused)
	{
		outcome->refused = json_is_true(json_member(result, "isError"));
		result = error = data = json_member(result, "structuredContent");
	}
	if (!outcome->refused)
		outcome->result = result;
	else
	{
		(void) json_number(json_member(error, "code"), &outcome->code);
		(void) json_number(json_member(data, "retry_after"), &outcome->retry_after);
	}
}
