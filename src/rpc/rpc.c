/*
 * rpc.c
 *		JSON-RPC 2.0, and with it MCP: requests in, answers out.
 *
 * Nothing that a request does or says raises an error: each one is served in a
 * subtransaction of its own, and what goes wrong there, from a bad id to a deadlock,
 * is raised, caught here and answered.  So there is one path for every failure, and
 * what a failed request has done is undone, while what others of its batch did stays.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/resowner.h"

#include "errors.h"
#include "rpc/rpc.h"

#define MAX_BATCH 1000

PG_FUNCTION_INFO_V1(coord_rpc_text);
PG_FUNCTION_INFO_V1(coord_rpc_jsonb);
PG_FUNCTION_INFO_V1(coord_mcp);

/* a step that may fail, and what it works on */
typedef Jsonb *(*Step) (void *arg);

static Datum answer_text(FunctionCallInfo fcinfo, const RpcSession *session);
static Jsonb *answer(Jsonb *message, const RpcSession *session);

/* rpc(request text) */
Datum
coord_rpc_text(PG_FUNCTION_ARGS)
{
	RpcSession	session = {0};

	return answer_text(fcinfo, &session);
}

/* rpc(request jsonb) */
Datum
coord_rpc_jsonb(PG_FUNCTION_ARGS)
{
	RpcSession	session = {0};
	Jsonb	   *result = PG_ARGISNULL(0) ? NULL : answer(PG_GETARG_JSONB_P(0), &session);

	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}

/* mcp(request text, defaults jsonb) */
Datum
coord_mcp(PG_FUNCTION_ARGS)
{
	RpcSession	session = {.mcp = true};

	if (!PG_ARGISNULL(1))
	{
		Jsonb	   *defaults = PG_GETARG_JSONB_P(1);

		if (!JB_ROOT_IS_OBJECT(defaults))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 coord_errargument("defaults"),
					 errmsg("argument \"defaults\" must be a JSON object")));
		session.defaults = &defaults->root;
	}
	return answer_text(fcinfo, &session);
}

/*
 * Do a step in a subtransaction.  If it fails, undo it, return NULL and give the error;
 * what the error says beyond its text is in coord_error_facts.
 */
static Jsonb *
attempt(Step step, void *arg, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;

	*error = NULL;
	memset(&coord_error_facts, 0, sizeof(coord_error_facts));
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		result = step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		result = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return result;
}

static Jsonb *
parse(void *arg)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum((char *) arg)));
}

/* The id of a request, or NULL if it has none that may be answered. */
static JsonbValue *
checked_id(JsonbValue *id, const RpcSession *session)
{
	if (id == NULL || id->type == jbvString)
		return id;
	if (id->type == jbvNumeric &&
		DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(id->val.numeric),
										 DirectFunctionCall2(numeric_trunc, NumericGetDatum(id->val.numeric),
															 Int32GetDatum(0)))))
		return id;
	return id->type == jbvNull && !session->mcp ? id : NULL;
}

static Jsonb *
response(const RpcSession *session, JsonbValue *id, Jsonb *result, const ErrorData *error)
{
	Json		json = {0};

	json_begin_object(&json);
	json_string_member(&json, "jsonrpc", "2.0");
	if (id != NULL)
		json_jsonb_member(&json, "id", JsonbValueToJsonb(id));
	else if (!session->mcp)
	{
		json_key(&json, "id");
		json_null(&json);
	}
	if (error != NULL)
		rpc_error_member(&json, error);
	else
		json_jsonb_member(&json, "result", result);
	json_end_object(&json);
	return JsonbValueToJsonb(json.value);
}

static Datum
answer_text(FunctionCallInfo fcinfo, const RpcSession *session)
{
	char	   *source;
	Jsonb	   *message;
	Jsonb	   *result;
	ErrorData  *error;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	message = attempt(parse, source, &error);
	if (error != NULL)
	{
		/* JSON that jsonb cannot hold has \u0000 in a string, or is too deep */
		if (error->sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION)
			(void) coord_errfault(RPC_PARSE_ERROR);
		else if (error->sqlerrcode == ERRCODE_UNTRANSLATABLE_CHARACTER)
			(void) coord_errfault(RPC_INVALID_REQUEST);
		result = response(session, NULL, NULL, error);
	}
	else
		result = answer(message, session);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}

static void
not_a_request(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errfault(RPC_INVALID_REQUEST),
			 errmsg("not a JSON-RPC 2.0 request"),
			 errdetail("%s", why)));
}

static void
read_request(RpcRequest *request)
{
	const JsonbValue *message = request->message;
	JsonbContainer *members;
	JsonbValue *id;
	JsonbValue *params;
	char	   *version;

	if (!json_is_object(message))
		not_a_request("It is not an object.");
	members = message->val.binary.data;
	id = json_member(members, "id");
	request->id = checked_id(id, request->session);
	if (id != NULL && request->id == NULL)
		not_a_request(request->session->mcp ? "Its \"id\" is neither a string nor an integer." :
					  "Its \"id\" is neither a string nor an integer nor null.");
	version = json_string_value(json_member(members, "jsonrpc"));
	if (version == NULL || strcmp(version, "2.0") != 0)
		not_a_request("Its \"jsonrpc\" is not \"2.0\".");
	request->method = json_string_value(json_member(members, "method"));
	if (request->method == NULL)
		not_a_request("It has no \"method\" that is a string.");
	params = json_member(members, "params");
	if (params != NULL && params->type == jbvBinary)
		request->params = params->val.binary.data;
	else if (params != NULL && params->type != jbvNull)
		not_a_request("Its \"params\" is not an object.");
	request->is_notification = id == NULL || mcp_is_notification(request->method);
}

/* Read and serve a request; the result, or NULL when there is nothing to answer. */
static Jsonb *
serve(void *arg)
{
	RpcRequest *request = arg;
	const RpcMethod *method;

	read_request(request);
	if (mcp_is_notification(request->method))
		return NULL;
	if (*request->cancelled != NULL)
		ReThrowError(*request->cancelled);
	method = rpc_find_method(request->method);
	if (method == NULL && !mcp_is_method(request->method))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 coord_errfault(RPC_UNKNOWN_METHOD),
				 errmsg("unknown method \"%s\"", request->method)));
	if (request->params != NULL && !JsonContainerIsObject(request->params))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("params"),
				 coord_errexpected("an object"),
				 errmsg("arguments are given by name")));
	return method != NULL ? rpc_call(request, method, request->params) : mcp_serve(request);
}

/* whether a client of MCP answers a request of ours; we make none */
static bool
is_response(const JsonbValue *message)
{
	JsonbContainer *members = json_is_object(message) ? message->val.binary.data : NULL;

	return json_member(members, "method") == NULL &&
		(json_member(members, "result") != NULL || json_member(members, "error") != NULL);
}

/*
 * Answer one message; NULL when it is to have no answer.  When the statement is cancelled,
 * *cancelled is set, and what comes after that is not served.
 */
static Jsonb *
answer_one(const JsonbValue *message, const RpcSession *session, bool in_batch, ErrorData **cancelled)
{
	RpcRequest	request = {.session = session, .message = message, .in_batch = in_batch, .cancelled = cancelled};
	ErrorData  *error;
	Jsonb	   *result;

	if (session->mcp && is_response(message))
		return NULL;
	result = attempt(serve, &request, &error);
	if (error != NULL && rpc_is_cancel(error))
		*cancelled = error;
	if (request.is_notification)
		return NULL;
	if (error != NULL && request.in_tool)
		return response(session, request.id, mcp_tool_refusal(&request, error), NULL);
	return response(session, request.id, result, error);
}

static Jsonb *
check_batch(void *arg)
{
	int			n = *(int *) arg;

	if (n == 0)
		not_a_request("It is an empty batch.");
	if (n > MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many requests in a batch"),
				 errdetail("It has %d; %d are allowed.", n, MAX_BATCH)));
	return NULL;
}

static Jsonb *
answer_batch(JsonbContainer *batch, const RpcSession *session)
{
	int			n = JsonContainerSize(batch);
	Json		json = {0};
	bool		silent = true;
	ErrorData  *error;
	ErrorData  *cancelled = NULL;

	(void) attempt(check_batch, &n, &error);
	if (error != NULL)
		return response(session, NULL, NULL, error);
	json_begin_array(&json);
	for (int i = 0; i < n; i++)
	{
		Jsonb	   *one = answer_one(getIthJsonbValueFromContainer(batch, i), session, true, &cancelled);

		if (one != NULL)
		{
			json_jsonb(&json, one);
			silent = false;
		}
	}
	json_end_array(&json);
	return silent ? NULL : JsonbValueToJsonb(json.value);
}

/* Answer a message, which may be a batch; NULL when nothing is to be answered. */
static Jsonb *
answer(Jsonb *message, const RpcSession *session)
{
	ErrorData  *cancelled = NULL;
	JsonbValue	value;

	if (JB_ROOT_IS_ARRAY(message) && !JB_ROOT_IS_SCALAR(message))
		return answer_batch(&message->root, session);
	if (JB_ROOT_IS_SCALAR(message))
		(void) JsonbExtractScalar(&message->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &message->root;
		value.val.binary.len = VARSIZE(message) - VARHDRSZ;
	}
	return answer_one(&value, session, false, &cancelled);
}
