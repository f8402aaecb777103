/*
 * list.c
 *		Lists of agents, leases, tasks and queues, as JSON-RPC and MCP have them.
 *
 * What is listed, and the states in it, is what the relations of the same names show.
 */
#include "postgres.h"

#include "funcapi.h"
#include "lib/stringinfo.h"

#include "args.h"
#include "errors.h"
#include "store/list_store.h"
#include "store/store.h"

#define DEFAULT_LIMIT 100
#define MAX_LIMIT 1000

PG_FUNCTION_INFO_V1(coord_agent_list);
PG_FUNCTION_INFO_V1(coord_lease_list);
PG_FUNCTION_INFO_V1(coord_task_list);
PG_FUNCTION_INFO_V1(coord_queue_list);

static const char *const agent_statuses[] = {"active", "inactive", "retired", NULL};
static const char *const lease_states[] = {"active", "released", "expired", NULL};
static const char *const task_states[] = {"blocked", "pending", "claimed", "completed", "dead", "cancelled", NULL};

static const char *arg_one_of(FunctionCallInfo fcinfo, int n, const char *name, const char *const *allowed);
static int	arg_limit(FunctionCallInfo fcinfo, int n);

/* agent_list(status, type, name, agent_id, after, limit) */
Datum
coord_agent_list(PG_FUNCTION_ARGS)
{
	AgentFilter filter = {
		.status = arg_one_of(fcinfo, 0, "status", agent_statuses),
		.type = coord_arg_name_or_null(fcinfo, 1, "type"),
		.name = coord_arg_name_or_null(fcinfo, 2, "name"),
		.agent_id = coord_arg_uuid_or_null(fcinfo, 3),
		.after = coord_arg_uuid_or_null(fcinfo, 4),
		.limit = arg_limit(fcinfo, 5),
	};
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	store_agent_list(fcinfo, &filter);
	store_close(&scope);
	return (Datum) 0;
}

/* lease_list(resource_key, agent_id, state, after, limit) */
Datum
coord_lease_list(PG_FUNCTION_ARGS)
{
	LeaseFilter filter = {
		.resource_key = coord_arg_name_or_null(fcinfo, 0, "resource_key"),
		.agent_id = coord_arg_uuid_or_null(fcinfo, 1),
		.state = arg_one_of(fcinfo, 2, "state", lease_states),
		.after = coord_arg_name_or_null(fcinfo, 3, "after"),
		.limit = arg_limit(fcinfo, 4),
	};
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	filter.reader = store_caller();
	store_lease_list(fcinfo, &filter);
	store_close(&scope);
	return (Datum) 0;
}

/* task_list(queue, state, type, agent_id, resource_key, task_id, after, limit) */
Datum
coord_task_list(PG_FUNCTION_ARGS)
{
	TaskFilter	filter = {
		.queue = coord_arg_name_or_null(fcinfo, 0, "queue"),
		.state = arg_one_of(fcinfo, 1, "state", task_states),
		.type = coord_arg_name_or_null(fcinfo, 2, "type"),
		.agent_id = coord_arg_uuid_or_null(fcinfo, 3),
		.resource_key = coord_arg_name_or_null(fcinfo, 4, "resource_key"),
		.task_id = coord_arg_uuid_or_null(fcinfo, 5),
		.after = coord_arg_uuid_or_null(fcinfo, 6),
		.limit = arg_limit(fcinfo, 7),
	};
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	filter.reader = store_caller();
	store_task_list(fcinfo, &filter);
	store_close(&scope);
	return (Datum) 0;
}

/* queue_list(name, paused, after, limit) */
Datum
coord_queue_list(PG_FUNCTION_ARGS)
{
	bool		paused = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	QueueFilter filter = {
		.name = coord_arg_name_or_null(fcinfo, 0, "name"),
		.paused = PG_ARGISNULL(1) ? NULL : &paused,
		.after = coord_arg_name_or_null(fcinfo, 2, "after"),
		.limit = arg_limit(fcinfo, 3),
	};
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);	/* see store_as_expected() */
	store_open(&scope);
	filter.reader = store_caller();
	store_queue_list(fcinfo, &filter);
	store_close(&scope);
	return (Datum) 0;
}

/* One of a few words, or NULL. */
static const char *
arg_one_of(FunctionCallInfo fcinfo, int n, const char *name, const char *const *allowed)
{
	StringInfoData words;
	char	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(n));
	initStringInfo(&words);
	for (int i = 0; allowed[i] != NULL; i++)
	{
		if (strcmp(value, allowed[i]) == 0)
			return allowed[i];
		appendStringInfo(&words, "%s%s", i == 0 ? "" : allowed[i + 1] == NULL ? " and " : ", ", allowed[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errargument(name),
			 errmsg("argument \"%s\" is invalid", name),
			 errdetail("It is \"%s\"; %s are allowed.", value, words.data)));
}

static int
arg_limit(FunctionCallInfo fcinfo, int n)
{
	return coord_arg_int_between(fcinfo, n, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT);
}
