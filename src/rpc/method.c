/*
 * method.c
 *		The methods of JSON-RPC, which are the tools of MCP, and the functions behind them.
 *
 * The table says which function a method calls and what becomes of its result.
 * Everything else, the arguments with their types, defaults and descriptions, is read
 * from the catalog when it is needed, so that a function and its method cannot drift.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "rpc/method.h"

/* In the order in which tools are listed: what an agent needs first comes first. */
const RpcMethod rpc_methods[] = {
	{"task.claim", "task_claim", RPC_ROWS, "tasks", 0, NULL},
	{"task.complete", "task_complete", RPC_ROW, NULL, RPC_REPEATABLE, NULL},
	{"task.fail", "task_fail", RPC_ROW, NULL, 0, NULL},
	{"task.renew", "task_renew", RPC_ROW, NULL, 0, NULL},
	{"task.release", "task_release", RPC_ROW, NULL, 0, NULL},
	{"task.create", "task_create", RPC_ROW, NULL, 0, NULL},
	{"task.create_many", "task_create_many", RPC_VALUES, "ids", 0, "task.create"},
	{"task.complete_many", "task_complete_many", RPC_ROWS, "tasks", RPC_REPEATABLE, "task.complete"},
	{"task.list", "task_list", RPC_ROWS, "tasks", RPC_READS, NULL},
	{"task.blocked_by", "blocked_by", RPC_VALUE, "reasons", RPC_READS, NULL},
	{"task.history", "history", RPC_ROWS, "entries", RPC_READS, NULL},
	{"task.cancel", "task_cancel", RPC_ROW, NULL, RPC_DESTROYS | RPC_REPEATABLE, NULL},
	{"task.redrive", "task_redrive", RPC_VALUE, "redriven", 0, NULL},
	{"task.schedule", "task_schedule", RPC_VALUE, "job_id", RPC_REPEATABLE, NULL},
	{"task.unschedule", "task_unschedule", RPC_VALUE, "unscheduled", RPC_DESTROYS | RPC_REPEATABLE, NULL},
	{"lock.acquire", "lease_acquire", RPC_LEASE, NULL, 0, NULL},
	{"lock.renew", "lease_renew", RPC_ROW, NULL, 0, NULL},
	{"lock.release", "lease_release", RPC_VALUE, "released", RPC_REPEATABLE, NULL},
	{"lock.assert", "lease_assert", RPC_NOTHING, NULL, RPC_READS, NULL},
	{"lock.list", "lease_list", RPC_ROWS, "locks", RPC_READS, NULL},
	{"inbox", "inbox", RPC_ROWS, "events", RPC_REPEATABLE, NULL},
	{"event.send", "event_send", RPC_ROW, NULL, 0, NULL},
	{"event.list", "event_list", RPC_ROWS, "events", RPC_READS, NULL},
	{"event.subscribe", "event_subscribe", RPC_VALUE, "subscribed", RPC_REPEATABLE, NULL},
	{"event.unsubscribe", "event_unsubscribe", RPC_VALUE, "unsubscribed", RPC_REPEATABLE, NULL},
	{"event.poll", "event_poll", RPC_ROWS, "events", RPC_READS, NULL},
	{"event.ack", "event_ack", RPC_VALUE, "position", RPC_REPEATABLE, NULL},
	{"agent.list", "agent_list", RPC_ROWS, "agents", RPC_READS, NULL},
	{"agent.register", "agent_register", RPC_ROW, NULL, RPC_REPEATABLE, NULL},
	{"agent.heartbeat", "agent_heartbeat", RPC_ROW, NULL, RPC_REPEATABLE, NULL},
	{"agent.retire", "agent_retire", RPC_ROW, NULL, RPC_DESTROYS | RPC_REPEATABLE, NULL},
	{"queue.list", "queue_list", RPC_ROWS, "queues", RPC_READS, NULL},
	{"queue.stats", "queue_stats", RPC_ROWS, "queues", RPC_READS, NULL},
	{"queue.set", "queue_set", RPC_ROW, NULL, RPC_REPEATABLE, NULL},
	{"queue.pause", "queue_pause", RPC_ROW, NULL, RPC_DESTROYS | RPC_REPEATABLE, NULL},
	{"queue.resume", "queue_resume", RPC_ROW, NULL, RPC_REPEATABLE, NULL},
};

const int	rpc_nmethods = lengthof(rpc_methods);

static RpcFunction *functions[lengthof(rpc_methods)];

const RpcMethod *
rpc_find_method(const char *name)
{
	for (int i = 0; i < rpc_nmethods; i++)
		if (strcmp(rpc_methods[i].name, name) == 0)
			return &rpc_methods[i];
	return NULL;
}

/* Several clients refuse a tool whose name has a dot. */
static char *
without_dots(const char *name)
{
	char	   *result = pstrdup(name);

	for (char *c = result; *c != '\0'; c++)
		if (*c == '.')
			*c = '_';
	return result;
}

char *
rpc_tool_name(const RpcMethod *method)
{
	return without_dots(method->name);
}

/* The tool that is so named, with dots or underscores, as the method or as its function. */
const RpcMethod *
rpc_find_tool(const char *name)
{
	char	   *wanted = without_dots(name);

	for (int i = 0; i < rpc_nmethods; i++)
		if (strcmp(rpc_tool_name(&rpc_methods[i]), wanted) == 0 || strcmp(rpc_methods[i].function, wanted) == 0)
			return &rpc_methods[i];
	return NULL;
}

/* The extension's own function of a name, NULL if it has none; what others may have put into its schema does not count. */
static HeapTuple
catalog_function(const char *name)
{
	Oid			nspid = get_namespace_oid("coord", true);
	Oid			extension = get_extension_oid("coord", true);
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	HeapTuple	found = NULL;

	for (int i = 0; i < list->n_members && found == NULL; i++)
	{
		HeapTuple	tuple = &list->members[i]->tuple;
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

		if (proc->pronamespace == nspid && getExtensionOfObject(ProcedureRelationId, proc->oid) == extension)
			found = heap_copytuple(tuple);
	}
	ReleaseSysCacheList(list);
	return found;
}

/* Whether the function behind a method is there: an extension that was not updated has not all of them. */
bool
rpc_has_function(const RpcMethod *method)
{
	return catalog_function(method->function) != NULL;
}

static RpcFunction *
read_function(const char *name)
{
	HeapTuple	tuple = catalog_function(name);
	Form_pg_proc proc;
	MemoryContext context;
	MemoryContext old;
	RpcFunction *function;
	Oid		   *types;
	char	  **names;
	char	   *modes;

	if (tuple == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function coord.%s does not exist", name),
				 errhint("Update the extension: ALTER EXTENSION coord UPDATE.")));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	context = AllocSetContextCreate(TopMemoryContext, "coord method", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	function = palloc0(sizeof(RpcFunction));
	function->context = context;
	function->oid = proc->oid;
	function->result_type = proc->prorettype;
	(void) get_func_arg_info(tuple, &types, &names, &modes);
	function->nargs = proc->pronargs;
	function->args = palloc(sizeof(RpcArgument) * Max(function->nargs, 1));
	for (int i = 0; i < function->nargs; i++)
		function->args[i] = (RpcArgument)
	{
		names[i], types[i], i < proc->pronargs - proc->pronargdefaults
	};
	MemoryContextSwitchTo(old);
	return function;
}

/* The function behind a method. */
RpcFunction *
rpc_function(const RpcMethod *method)
{
	RpcFunction **cached = &functions[method - rpc_methods];

	/* an update or a new installation of the extension may have made it anew */
	if (*cached != NULL && !SearchSysCacheExists1(PROCOID, ObjectIdGetDatum((*cached)->oid)))
	{
		if ((*cached)->plan != NULL)
			SPI_freeplan((*cached)->plan);
		MemoryContextDelete((*cached)->context);
		*cached = NULL;
	}
	if (*cached == NULL)
		*cached = read_function(method->function);
	return *cached;
}

const RpcArgument *
rpc_find_argument(const RpcFunction *function, const char *name)
{
	for (int i = 0; i < function->nargs; i++)
		if (strcmp(function->args[i].name, name) == 0)
			return &function->args[i];
	return NULL;
}

/* All of them, for people. */
char *
rpc_argument_names(const RpcFunction *function)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < function->nargs; i++)
		appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", function->args[i].name);
	return names.data;
}

/*
 * Whether a session's default may stand in for an argument that a call leaves out.  Not
 * where it would narrow what a list shows, nor where the argument says what is to end.
 */
bool
rpc_takes_default(const RpcMethod *method, const RpcArgument *argument)
{
	return (method->traits & RPC_DESTROYS) == 0 &&
		((method->traits & RPC_READS) == 0 || argument->required);
}
