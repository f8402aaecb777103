/*
 * mcp.c
 *		The Model Context Protocol, for a server that has tools and nothing else.
 *
 * There are two eras.  Up to 2025-11-25 a client begins with "initialize"; since
 * 2026-07-28 each request tells its revision in params._meta, and "server/discover"
 * is what may come first.  Nothing is remembered here between requests: which era a
 * request is of can be seen from itself.  What needs a connection, such as
 * notifications and subscriptions, is the bridge's (src/bin).
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "coord.h"
#include "errors.h"
#include "rpc/rpc.h"

#define META_VERSION		"io.modelcontextprotocol/protocolVersion"
#define META_CAPABILITIES	"io.modelcontextprotocol/clientCapabilities"
#define META_CLIENT			"io.modelcontextprotocol/clientInfo"
#define META_LOG_LEVEL		"io.modelcontextprotocol/logLevel"
#define META_SERVER			"io.modelcontextprotocol/serverInfo"

/* The tools change with the installed version, and their texts with settings. */
#define CACHE_TTL_MS (5 * 60 * 1000)

typedef struct McpMethod
{
	const char *name;
	bool		legacy;
	bool		modern;
	void		(*serve) (RpcRequest *request, Json *result);
} McpMethod;

static void initialize(RpcRequest *request, Json *result);
static void ping(RpcRequest *request, Json *result);
static void set_level(RpcRequest *request, Json *result);
static void discover(RpcRequest *request, Json *result);
static void list_tools(RpcRequest *request, Json *result);
static void call_tool(RpcRequest *request, Json *result);

static const McpMethod methods[] = {
	{"initialize", true, false, initialize},
	{"ping", true, false, ping},
	{"logging/setLevel", true, false, set_level},
	{"server/discover", false, true, discover},
	{"tools/list", true, true, list_tools},
	{"tools/call", true, true, call_tool},
};

/* the revisions of "initialize", the newest first */
static const char *const legacy_versions[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

static const char *const log_levels[] = {
	"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"
};

static const McpMethod *
find_method(const char *name)
{
	for (int i = 0; i < (int) lengthof(methods); i++)
		if (strcmp(methods[i].name, name) == 0)
			return &methods[i];
	return NULL;
}

bool
mcp_is_method(const char *method)
{
	return find_method(method) != NULL;
}

pg_noreturn static void bad_param(const char *name, const char *expected);

static void
bad_param(const char *name, const char *expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errargument(name),
			 coord_errexpected(expected),
			 errmsg("parameter \"%s\" must be %s", name, expected)));
}

static bool
is_one_of(const char *value, const char *const *values, int n)
{
	for (int i = 0; value != NULL && i < n; i++)
		if (strcmp(values[i], value) == 0)
			return true;
	return false;
}

static bool
is_log_level(const JsonbValue *value)
{
	return is_one_of(json_string_value(value), log_levels, lengthof(log_levels));
}

/* Check what a request of the modern era must tell in params._meta. */
static void
check_meta(JsonbContainer *meta)
{
	char	   *version = json_string_value(json_member(meta, META_VERSION));
	JsonbValue *client = json_member(meta, META_CLIENT);
	JsonbValue *log_level = json_member(meta, META_LOG_LEVEL);

	if (version == NULL)
		bad_param("_meta." META_VERSION, "a string");
	if (strcmp(version, MCP_MODERN_VERSION) != 0)
	{
		coord_error_facts.requested = version;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 coord_errfault(RPC_UNSUPPORTED_VERSION),
				 errmsg("unsupported protocol version \"%s\"", version)));
	}
	if (json_object_member(meta, META_CAPABILITIES) == NULL)
		bad_param("_meta." META_CAPABILITIES, "an object");
	if (client != NULL &&
		(!json_is_object(client) || json_string_value(json_member(client->val.binary.data, "name")) == NULL ||
		 json_string_value(json_member(client->val.binary.data, "version")) == NULL))
		bad_param("_meta." META_CLIENT, "an object with a name and a version");
	if (log_level != NULL && !is_log_level(log_level))
		bad_param("_meta." META_LOG_LEVEL, "a level of RFC 5424, such as \"info\"");
}

static void
add_server_info(Json *json)
{
	json_begin_object(json);
	json_string_member(json, "name", "coord");
	json_string_member(json, "version", COORD_VERSION);
	json_end_object(json);
}

/* End a result with what each one of the modern era has. */
static Jsonb *
end_result(const RpcRequest *request, Json *result)
{
	if (request->modern)
	{
		json_string_member(result, "resultType", "complete");
		json_key(result, "_meta");
		json_begin_object(result);
		json_key(result, META_SERVER);
		add_server_info(result);
		json_end_object(result);
	}
	json_end_object(result);
	return JsonbValueToJsonb(result->value);
}

/* Serve a request of MCP: its result, an object.  An error is raised, with its facts. */
Jsonb *
mcp_serve(RpcRequest *request)
{
	const McpMethod *method = find_method(request->method);
	JsonbContainer *meta = json_object_member(request->params, "_meta");
	Json		result = {0};

	Assert(method != NULL);		/* see mcp_is_method() */
	request->modern = !method->legacy || json_member(meta, META_VERSION) != NULL ||
		json_member(meta, META_CAPABILITIES) != NULL;
	if (request->modern)
		check_meta(meta);
	if (request->modern ? !method->modern : !method->legacy)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 coord_errfault(RPC_UNKNOWN_METHOD),
				 errmsg("MCP %s has no method \"%s\"", MCP_MODERN_VERSION, request->method)));
	if (request->batch->is_array && (request->modern || method->serve == initialize))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errfault(RPC_INVALID_REQUEST),
				 errmsg("\"%s\" cannot be part of a batch", request->method)));

	json_begin_object(&result);
	method->serve(request, &result);
	return end_result(request, &result);
}

/*
 * A client of ours that is a bridge can be told things, which in the old era is
 * "logging".
 */
static void
add_capabilities(const RpcRequest *request, Json *result)
{
	json_key(result, "capabilities");
	json_begin_object(result);
	json_key(result, "tools");
	json_begin_object(result);
	json_end_object(result);
	if (request->session->mcp && !request->modern)
	{
		json_key(result, "logging");
		json_begin_object(result);
		json_end_object(result);
	}
	json_end_object(result);
}

/* For the model: what is not to be seen from a tool alone. */
static void
add_instructions(const RpcRequest *request, Json *result)
{
	char	   *agent_id = json_string_value(json_member(request->session->defaults, "agent_id"));
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text,
						   "coord lets agents share work without getting into each other's way. "
						   "Claim a task with task_claim, do it, and end it with task_complete or task_fail, giving back the "
						   "fencing_token that the claim returned, exactly as it came. A claim ends by itself at lease_expires_at "
						   "unless it is renewed, and the task then goes to somebody else. "
						   "Take a lock with lock_acquire before you change something that others may change too. "
						   "A refusal has isError and a code: 1001 not found, 1002 held by another (holder, expires_at and "
						   "retry_after, in seconds, say by whom, until when and when to try again), 1003 your token is stale: stop working on it, 1004 not allowed, "
						   "1005 wrong state, 1006 too large, 1007 a limit is reached; retryable says whether the same call may "
						   "succeed later. Durations are numbers of seconds, times are ISO 8601.");
	if (agent_id != NULL)
		appendStringInfo(&text,
						 " You are agent %s: leave agent_id out wherever it is optional. "
						 "You are kept alive, and what you hold is renewed, until you give it back or this session ends. "
						 "Look into the inbox now and then.", agent_id);
	json_string_member(result, "instructions", text.data);
}

/* The old era's first request: agree on a revision. */
static void
initialize(RpcRequest *request, Json *result)
{
	char	   *version = json_string_value(json_member(request->params, "protocolVersion"));

	if (version == NULL)
		bad_param("protocolVersion", "a string");
	if (!is_one_of(version, legacy_versions, lengthof(legacy_versions)))
		version = pstrdup(legacy_versions[0]);
	json_string_member(result, "protocolVersion", version);
	add_capabilities(request, result);
	json_key(result, "serverInfo");
	add_server_info(result);
	add_instructions(request, result);
}

static void
ping(RpcRequest *request pg_attribute_unused(), Json *result pg_attribute_unused())
{
}

/* Who passes notifications on keeps the level. */
static void
set_level(RpcRequest *request, Json *result pg_attribute_unused())
{
	if (!request->session->mcp)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 coord_errfault(RPC_UNKNOWN_METHOD),
				 errmsg("there is no logging without a connection")));
	if (!is_log_level(json_member(request->params, "level")))
		bad_param("level", "a level of RFC 5424, such as \"info\"");
}

static void
add_caching(Json *result)
{
	json_int_member(result, "ttlMs", CACHE_TTL_MS);
	json_string_member(result, "cacheScope", "private");
}

static void
discover(RpcRequest *request, Json *result)
{
	json_key(result, "supportedVersions");
	json_begin_array(result);
	json_string(result, MCP_MODERN_VERSION);
	json_end_array(result);
	add_capabilities(request, result);
	add_instructions(request, result);
	add_caching(result);
}

static void
list_tools(RpcRequest *request, Json *result)
{
	JsonbValue *cursor = json_member(request->params, "cursor");

	if (cursor != NULL && cursor->type != jbvNull)
		bad_param("cursor", "left out: all tools are on one page");
	json_key(result, "tools");
	mcp_list_tools(result, request->session);
	if (request->modern)
		add_caching(result);
}

/*
 * The members of a tool's result.  What the model gets is text; a program gets the
 * same as an object.
 */
static void
add_content(Json *json, Jsonb *structured, bool is_error)
{
	json_key(json, "content");
	json_begin_array(json);
	json_begin_object(json);
	json_string_member(json, "type", "text");
	json_string_member(json, "text", JsonbToCString(NULL, &structured->root, VARSIZE(structured)));
	json_end_object(json);
	json_end_array(json);
	json_jsonb_member(json, "structuredContent", structured);
	json_bool_member(json, "isError", is_error);
}

static void
call_tool(RpcRequest *request, Json *result)
{
	char	   *name = json_string_value(json_member(request->params, "name"));
	JsonbValue *arguments = json_member(request->params, "arguments");
	const RpcMethod *method;

	if (name == NULL)
		bad_param("name", "a string");
	if (arguments != NULL && arguments->type != jbvNull && !json_is_object(arguments))
		bad_param("arguments", "an object");
	method = rpc_find_tool(name);
	if (method == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 coord_errfault(RPC_INVALID_PARAMS),
				 coord_errargument("name"),
				 errmsg("unknown tool \"%s\"", name)));

	request->in_tool = true;
	add_content(result, rpc_call(request, method, json_object_member(request->params, "arguments")), false);
}

/* The result of a tool that refused, for the error that it raised. */
Jsonb *
mcp_tool_refusal(const RpcRequest *request, const ErrorData *error)
{
	Json		result = {0};

	json_begin_object(&result);
	add_content(&result, rpc_refusal(error), true);
	return end_result(request, &result);
}
