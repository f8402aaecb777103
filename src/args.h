/*
 * args.h
 *		Checks on the arguments of SQL-callable functions.
 *
 * Each takes the argument's number and its SQL name.  NULL where none is
 * allowed is 22004, a bad value 22023, a payload over 1 MiB 54000.
 */
#ifndef COORD_ARGS_H
#define COORD_ARGS_H

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

extern char *coord_check_name(char *value, const char *name);
extern char *coord_arg_name(FunctionCallInfo fcinfo, int n, const char *name);
extern char *coord_arg_name_or_null(FunctionCallInfo fcinfo, int n, const char *name);
extern char *coord_arg_text_or_null(FunctionCallInfo fcinfo, int n, const char *name);
extern pg_uuid_t *coord_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name);
extern pg_uuid_t *coord_arg_uuid_or_null(FunctionCallInfo fcinfo, int n);
extern const pg_uuid_t *coord_check_new_id(const pg_uuid_t *id);
extern int64 coord_arg_int64(FunctionCallInfo fcinfo, int n, const char *name);
extern int	coord_arg_int_between(FunctionCallInfo fcinfo, int n, const char *name,
								  int dflt, int min, int max);
extern int64 coord_arg_ttl(FunctionCallInfo fcinfo, int n, const char *name, int64 dflt);
extern int64 coord_arg_heartbeat_timeout(FunctionCallInfo fcinfo, int n, const char *name);
extern int64 coord_default_ttl(int64 ttl);
extern int64 coord_arg_duration(FunctionCallInfo fcinfo, int n, const char *name, int64 dflt);
extern TimestampTz coord_check_instant(TimestampTz instant, const char *name);
extern Size coord_escaped_growth(const char *string, Size length);
extern Size coord_json_growth(Jsonb *value, Size enough);
extern Jsonb *coord_check_payload(Jsonb *value, const char *name);
extern Jsonb *coord_arg_payload_or_null(FunctionCallInfo fcinfo, int n, const char *name);
extern Jsonb *coord_arg_payload(FunctionCallInfo fcinfo, int n, const char *name);

#endif							/* COORD_ARGS_H */
