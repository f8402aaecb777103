/*
 * rpc.c
 *		JSON-RPC 2.0, and with it MCP: requests in, answers out.
 *
 * Nothing that a request does or says raises an error: each one is served in a
 * subtransaction of its own, and what goes wrong there, from a bad id to a deadlock,
 * is raised, caught here and answered.  So there is one path for every failure, and
 * what a failed request has done is undone, while what others of its batch did stays.
 * There is one exception, in check_not_cancelled().
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"

#include "args.h"
#include "errors.h"
#include "rpc/rpc.h"

#define MAX_BATCH 1000

/* jsonb holds 256 MB, and its text, of 1 GB, may be six times as long, and the numbers' in it longer still */
#define MAX_REQUEST_BYTES (64 * 1024 * 1024)
#define MAX_ANSWER_BYTES (128 * 1024 * 1024)

PG_FUNCTION_INFO_V1(coord_rpc_text);
PG_FUNCTION_INFO_V1(coord_rpc_jsonb);
PG_FUNCTION_INFO_V1(coord_mcp);

/* the start of the last statement of which a request was cancelled */
static TimestampTz cancelled_statement;

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
		/* JSON that jsonb cannot hold has \u0000 in a string or a number like 1e999999, or is too deep */
		if (error->sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION)
			(void) coord_errfault(RPC_PARSE_ERROR);
		else if (error->sqlerrcode == ERRCODE_UNTRANSLATABLE_CHARACTER ||
				 error->sqlerrcode == ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE)
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
	request->is_notification = id == NULL;
}

static void
check_size(Size size, Size max, const char *what)
{
	if (size > max)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the %s is too large", what),
				 errdetail("It has at least %zu bytes; %zu are allowed.", size, max)));
}

static Size
answer_size(Jsonb *answer)
{
	return VARSIZE(answer) + coord_json_growth(answer, MAX_ANSWER_BYTES);
}

/* Error when a result of so many bytes, or more, would make the answer too large; it is formed also where nobody is told. */
void
rpc_check_answer(const RpcRequest *request, Size bytes)
{
	check_size(request->batch->answered + bytes, MAX_ANSWER_BYTES, "answer");
}

/* The response to a request that was served; an error, so that it is undone, when it cannot be given. */
static Jsonb *
success(const RpcRequest *request, Jsonb *result)
{
	Jsonb	   *answer;

	if (request->is_notification)
		return NULL;
	answer = response(request->session, request->id, result, NULL);
	check_size(request->batch->answered + answer_size(answer), MAX_ANSWER_BYTES, "answer");
	return answer;
}

/* Read and serve a request; the response, or NULL when there is nothing to answer. */
static Jsonb *
serve(void *arg)
{
	RpcRequest *request = arg;
	const RpcMethod *method;

	read_request(request);
	if (request->batch->cancelled != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("%s", request->batch->cancelled)));
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
	return success(request, method != NULL ? rpc_call(request, method, request->params) : mcp_serve(request));
}

static bool
is_batch(const Jsonb *message)
{
	return JB_ROOT_IS_ARRAY(message) && !JB_ROOT_IS_SCALAR(message);
}

/* whether a client of MCP answers a request of ours; we make none */
static bool
is_response(const JsonbValue *message)
{
	JsonbContainer *members = json_is_object(message) ? message->val.binary.data : NULL;

	return json_member(members, "method") == NULL &&
		(json_member(members, "result") != NULL || json_member(members, "error") != NULL);
}

/* Answer one message of a batch, or one alone; NULL when it is to have no answer. */
static Jsonb *
answer_one(const JsonbValue *message, const RpcSession *session, RpcBatch *batch)
{
	RpcRequest	request = {.session = session, .message = message, .batch = batch};
	ErrorData  *error;
	Jsonb	   *answer;

	if (session->mcp && is_response(message))
		return NULL;
	answer = attempt(serve, &request, &error);
	if (error == NULL)
		return answer;			/* cppcheck-suppress returnDanglingLifetime ; it is no part of the request */
	if (rpc_is_cancel(error))
	{
		batch->cancelled = MemoryContextStrdup(batch->context, error->message);
		cancelled_statement = GetCurrentStatementStartTimestamp();
	}
	if (request.is_notification)
		return NULL;
	if (request.in_tool)
		return response(session, request.id, mcp_tool_refusal(&request, error), NULL);
	return response(session, request.id, NULL, error);
}

/* Check a message that is too large or a batch. */
static Jsonb *
check_message(void *arg)
{
	Jsonb	   *message = arg;
	int			n = JB_ROOT_COUNT(message);

	check_size(VARSIZE(message), MAX_REQUEST_BYTES, "message");
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
answer_batch(JsonbContainer *requests, const RpcSession *session)
{
	RpcBatch	batch = {.is_array = true,.context = CurrentMemoryContext};
	MemoryContext scratch = AllocSetContextCreate(batch.context, "coord request", ALLOCSET_DEFAULT_SIZES);
	Json		json = {0};

	json_begin_array(&json);
	for (uint32 i = 0; i < JsonContainerSize(requests); i++)
	{
		Jsonb	   *one;

		MemoryContextSwitchTo(scratch);
		one = answer_one(getIthJsonbValueFromContainer(requests, i), session, &batch);
		MemoryContextSwitchTo(batch.context);
		if (one != NULL)
		{
			json_jsonb(&json, memcpy(palloc(VARSIZE(one)), one, VARSIZE(one)));
			batch.answered += answer_size(one);
		}
		MemoryContextReset(scratch);
	}
	json_end_array(&json);
	return batch.answered == 0 ? NULL : JsonbValueToJsonb(json.value);
}

/*
 * That a request was cancelled is answered.  But a statement that calls again, for the
 * next row or in a loop, must end some time.
 */
static void
check_not_cancelled(void)
{
	if (cancelled_statement == GetCurrentStatementStartTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling statement of which a request was canceled")));
}

/* Answer a message, which may be a batch; NULL when nothing is to be answered. */
static Jsonb *
answer(Jsonb *message, const RpcSession *session)
{
	RpcBatch	alone = {.context = CurrentMemoryContext};
	ErrorData  *error;
	JsonbValue	value;

	check_not_cancelled();
	if (is_batch(message) || VARSIZE(message) > MAX_REQUEST_BYTES)
	{
		(void) attempt(check_message, message, &error);
		return error != NULL ? response(session, NULL, NULL, error) : answer_batch(&message->root, session);
	}
	if (JB_ROOT_IS_SCALAR(message))
		(void) JsonbExtractScalar(&message->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &message->root;
		value.val.binary.len = VARSIZE(message) - VARHDRSZ;
	}
	return answer_one(&value, session, &alone);
}
