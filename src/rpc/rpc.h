/*
 * rpc.h
 *		Serving a request: what the parts of src/rpc/ tell each other.
 */
#ifndef COORD_RPC_RPC_H
#define COORD_RPC_RPC_H

#include "utils/elog.h"
#include "utils/jsonb.h"

#include "rpc/json.h"
#include "rpc/method.h"

/* codes of JSON-RPC */
#define RPC_PARSE_ERROR			(-32700)
#define RPC_INVALID_REQUEST		(-32600)
#define RPC_UNKNOWN_METHOD		(-32601)
#define RPC_INVALID_PARAMS		(-32602)
#define RPC_INTERNAL_ERROR		(-32603)
/* of MCP */
#define RPC_UNSUPPORTED_VERSION	(-32022)
/* our own */
#define RPC_NOT_FOUND			1001
#define RPC_HELD				1002
#define RPC_LOST				1003
#define RPC_NOT_ALLOWED			1004
#define RPC_WRONG_STATE			1005
#define RPC_TOO_LARGE			1006
#define RPC_LIMIT_REACHED		1007

/* the revision of MCP whose requests carry it, each for itself */
#define MCP_MODERN_VERSION "2026-07-28"

/* who asks */
typedef struct RpcSession
{
	bool		mcp;			/* a client of MCP, whose rules on ids are stricter */
	JsonbContainer *defaults;	/* values for arguments that a call leaves out, or NULL */
} RpcSession;

/* requests that came together, or one alone */
typedef struct RpcBatch
{
	bool		is_array;
	MemoryContext context;		/* where its answer is */
	char	   *cancelled;		/* the message with which the statement was; no more is served then */
	Size		answered;		/* bytes of the answers so far */
} RpcBatch;

/* what is being served */
typedef struct RpcRequest
{
	const RpcSession *session;
	const JsonbValue *message;
	RpcBatch   *batch;
	JsonbValue *id;				/* that may be answered; NULL: none */
	bool		is_notification;	/* nothing is answered */
	char	   *method;
	JsonbContainer *params;		/* an object or an array; NULL: none */
	bool		modern;			/* by MCP 2026-07-28 or later */
	bool		in_tool;		/* a tool is being called: its errors are results */
} RpcRequest;

/* call.c */
extern void rpc_check_answer(const RpcRequest *request, Size bytes);
extern Jsonb *rpc_call(const RpcRequest *request, const RpcMethod *method, JsonbContainer *arguments);

/* failure.c */
extern bool rpc_is_cancel(const ErrorData *error);
extern void rpc_error_member(Json *json, const ErrorData *error);
extern Jsonb *rpc_refusal(const ErrorData *error);

/* mcp.c */
extern bool mcp_is_method(const char *method);
extern Jsonb *mcp_serve(RpcRequest *request);
extern Jsonb *mcp_tool_refusal(const RpcRequest *request, const ErrorData *error);

/* tool.c */
extern void mcp_list_tools(Json *json, const RpcSession *session);

#endif							/* COORD_RPC_RPC_H */
