/*
 * answer.h
 *		Answers that the bridge gives itself.
 */
#ifndef COORD_MCP_ANSWER_H
#define COORD_MCP_ANSWER_H

#include "json_reader.h"

/* Codes of JSON-RPC, of MCP, and of coord; see coord.rpc(). */
#define CODE_PARSE_ERROR (-32700)
#define CODE_INVALID_REQUEST (-32600)
#define CODE_INVALID_PARAMS (-32602)
#define CODE_INTERNAL (-32603)
#define CODE_UNSUPPORTED_VERSION (-32022)
#define CODE_HELD 1002
#define CODE_NOT_ALLOWED 1004
#define CODE_TOO_LARGE 1006

typedef struct Fault
{
	int			code;
	const char *sqlstate;
	bool		retryable;
	const char *message;
	const char *hint;
	const char *more;			/* further members of data, as JSON */
} Fault;

extern void answer_fault(StringInfo buf, Json id, const Fault *fault);
extern void answer_put_fault(Json id, const Fault *fault);
extern void answer_put_result(Json id, const char *result);
extern Fault answer_fault_of_query(const char *sqlstate, const char *message);

#endif							/* COORD_MCP_ANSWER_H */
