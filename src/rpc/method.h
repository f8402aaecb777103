/*
 * method.h
 *		The methods of JSON-RPC, which are the tools of MCP, and the functions behind them.
 */
#ifndef COORD_RPC_METHOD_H
#define COORD_RPC_METHOD_H

#include "executor/spi.h"
#include "nodes/pg_list.h"

/* what a function returns, and what the answer makes of it */
typedef enum RpcShape
{
	RPC_ROW,					/* one row: that row */
	RPC_ROWS,					/* any number of rows: an array of them, as the member */
	RPC_VALUE,					/* one value, as the member */
	RPC_VALUES,					/* any number of values: an array of them, as the member */
	RPC_NOTHING,				/* nothing: an empty object */
	RPC_LEASE					/* one row, or none when the resource is held, which is an error */
} RpcShape;

/* what a tool is like, for those who ask a person before they call it */
#define RPC_READS		0x01	/* it changes nothing */
#define RPC_DESTROYS	0x02	/* it ends what somebody else may be at */
#define RPC_REPEATABLE	0x04	/* to call it again changes nothing more */

typedef struct RpcMethod
{
	const char *name;
	const char *function;
	RpcShape	shape;
	const char *member;			/* of the result; NULL for a row or nothing */
	int			traits;
	const char *elements;		/* the method whose arguments the elements of its array have, or NULL */
} RpcMethod;

typedef struct RpcArgument
{
	char	   *name;
	Oid			type;
	bool		required;
} RpcArgument;

/* A function as the catalog has it.  Kept for the session. */
typedef struct RpcFunction
{
	Oid			oid;
	Oid			result_type;
	int			nargs;
	RpcArgument *args;
	SPIPlanPtr	plan;			/* that calls it with all its arguments; NULL: not made yet */
	MemoryContext context;
} RpcFunction;

extern const RpcMethod rpc_methods[];
extern const int rpc_nmethods;

extern const RpcMethod *rpc_find_method(const char *name);
extern const RpcMethod *rpc_find_tool(const char *name);
extern char *rpc_tool_name(const RpcMethod *method);
extern bool rpc_has_function(const RpcMethod *method);
extern RpcFunction *rpc_function(const RpcMethod *method);
extern const RpcArgument *rpc_find_argument(const RpcFunction *function, const char *name);
extern char *rpc_argument_names(const RpcFunction *function);
extern bool rpc_takes_default(const RpcMethod *method, const RpcArgument *argument);

#endif							/* COORD_RPC_METHOD_H */
