/*
 * argument.h
 *		Arguments of JSON-RPC as values of SQL.
 */
#ifndef COORD_RPC_ARGUMENT_H
#define COORD_RPC_ARGUMENT_H

#include "utils/jsonb.h"

#include "rpc/method.h"

extern const char *rpc_expected(Oid type);
extern Datum rpc_argument(const RpcArgument *argument, const JsonbValue *value);

#endif							/* COORD_RPC_ARGUMENT_H */
