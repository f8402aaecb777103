/*
 * list_store.c
 *		Listing agents, leases, tasks and queues, a page at a time.
 *
 * A list first finds its rows by an index, in the order of the list, in a stored relation,
 * and looks each of them up in the relation that users read, whose computed states are
 * what a filter is about; it goes no further than its limit.  Where a filter is about few
 * of many rows (what is claimed, what is blocked), they are found by the relation that has
 * only those.
 *
 * Each statement is made for the filters that were given, out of the constant texts here,
 * and planned with their values: one plan for all of them would serve none.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "rights.h"
#include "store/finished_store.h"
#include "store/list_store.h"
#include "store/queue_store.h"
#include "store/rights_store.h"
#include "store/store.h"

/* so many can be looked up and sorted, where the order of the list might have to pass over millions */
#define FEW_LEASES 5000
#define FEW_TASKS 10000

#define MAX_LIST_ARGS 12

/* a statement that is being put together */
typedef struct ListQuery
{
	StringInfoData sql;
	int			nargs;
	StoreArg	args[MAX_LIST_ARGS];
} ListQuery;

static void
begin_query(ListQuery *query)
{
	initStringInfo(&query->sql);
	query->nargs = 0;
}

static void
add(ListQuery *query, const char *text)
{
	appendStringInfoString(&query->sql, text);
}

/* An argument's number, by which the text refers to it; 0: it is NULL, and there is none. */
static int
add_arg(ListQuery *query, StoreArg arg)
{
	if (arg.isnull)
		return 0;
	Assert(query->nargs < MAX_LIST_ARGS);
	query->args[query->nargs] = arg;
	return ++query->nargs;
}

/* Add a text with a %d for the number of an argument, if there is one. */
static void
add_with(ListQuery *query, const char *format, int arg)
{
	if (arg > 0)
		appendStringInfo(&query->sql, format, arg);
}

/* The names of the queues that a role may see; NULL: every queue. */
StoreArg
arg_seen_queues(Oid reader)
{
	return arg_array(TEXTARRAYOID, coord_sees_every_queue(reader) ? NULL :
					 store_text_array_of(coord_queues(reader, COORD_ANY)));
}

/* Run it, and add its rows to a SETOF result. */
static void
run_query(FunctionCallInfo fcinfo, ListQuery *query)
{
	store_run_once_to(store_result_rows(fcinfo), query->sql.data, query->nargs, query->args);
}

/* ---- agents: the newest first ---- */

void
store_agent_list(FunctionCallInfo fcinfo, const AgentFilter *filter)
{
	ListQuery	query;
	int			status,
				after,
				limit;

	begin_query(&query);
	status = add_arg(&query, arg_text(filter->status));
	after = add_arg(&query, arg_uuid(filter->after));
	limit = add_arg(&query, arg_int4(filter->limit));

	add(&query, "SELECT ROW(a.*)::coord.agent FROM (SELECT d.id FROM coord.agent_data d WHERE true");
	if (filter->status != NULL && strcmp(filter->status, "active") == 0)
		add(&query, " AND d.retired_at IS NULL AND d.inactive_since IS NULL");
	else if (filter->status != NULL)
		add(&query, strcmp(filter->status, "retired") == 0 ? " AND d.retired_at IS NOT NULL" : " AND d.retired_at IS NULL");
	add_with(&query, " AND d.type = $%d", add_arg(&query, arg_text(filter->type)));
	add_with(&query, " AND d.name = $%d", add_arg(&query, arg_text(filter->name)));
	add_with(&query, " AND d.id = $%d", add_arg(&query, arg_uuid(filter->agent_id)));
	add_with(&query, " AND d.id < $%d", after);
	add(&query, " ORDER BY d.id DESC OFFSET 0) d"
		" CROSS JOIN LATERAL (SELECT * FROM coord.agent_all a WHERE a.id = d.id OFFSET 0) a");
	add_with(&query, " WHERE a.status = $%d", status);
	add_with(&query, " ORDER BY d.id DESC LIMIT $%d", limit);
	run_query(fcinfo, &query);
}

/* ---- leases: in the order of their resources ---- */

static bool
few_leases_are_active(void)
{
	static StorePlan plan = {.sql = "SELECT FROM coord.lease_deadline LIMIT $1"};

	return store_run(&plan, STORE_ARGS(arg_int4(FEW_LEASES + 1))) <= FEW_LEASES;
}

void
store_lease_list(FunctionCallInfo fcinfo, const LeaseFilter *filter)
{
	bool		active = filter->state != NULL && strcmp(filter->state, "active") == 0;
	ListQuery	query;
	int			state,
				limit;

	begin_query(&query);
	state = add_arg(&query, arg_text(filter->state));
	limit = add_arg(&query, arg_int4(filter->limit));

	add(&query, "SELECT ROW(l.*)::coord.lease FROM (SELECT d.resource_key FROM ");
	if (active && filter->resource_key == NULL && few_leases_are_active())
		add(&query, "(SELECT DISTINCT slot FROM coord.lease_deadline OFFSET 0) s"
			" CROSS JOIN LATERAL (SELECT * FROM coord.lease_data d WHERE d.slot = s.slot OFFSET 0) d");
	else
		add(&query, "coord.lease_data d");
	if (active)
		add(&query, " WHERE d.ended_at IS NULL");
	else if (filter->state != NULL)
		add(&query, strcmp(filter->state, "released") == 0 ? " WHERE d.released" : " WHERE NOT d.released");
	else
		add(&query, " WHERE true");
	add_with(&query, " AND d.resource_key = $%d", add_arg(&query, arg_text(filter->resource_key)));
	add_with(&query, " AND d.agent_id = $%d", add_arg(&query, arg_uuid(filter->agent_id)));
	add_with(&query, " AND d.resource_key > $%d", add_arg(&query, arg_text(filter->after)));
	if (!coord_sees_every_queue(filter->reader))
		add_with(&query, " AND EXISTS (SELECT FROM coord.agent_data a WHERE a.id = d.agent_id"
				 " AND a.registered_at <= d.acquired_at AND pg_has_role($%d, a.owner, 'USAGE'))",
				 add_arg(&query, arg_oid(filter->reader)));
	add(&query, " ORDER BY d.resource_key OFFSET 0) d"
		" CROSS JOIN LATERAL (SELECT * FROM coord.lease_all l WHERE l.resource_key = d.resource_key OFFSET 0) l");
	add_with(&query, " WHERE l.state = $%d", state);
	add_with(&query, " ORDER BY d.resource_key LIMIT $%d", limit);
	run_query(fcinfo, &query);
}

/* ---- tasks: the newest first ---- */

/* the numbers of the arguments of a list of tasks */
typedef struct TaskArgs
{
	int			queue,
				seen_queues,	/* 0: it sees all */
				state,
				type,
				agent_id,
				resource_key,
				task_id,
				after,
				limit;
} TaskArgs;

static bool
may_be(const TaskFilter *filter, const char *state)
{
	return filter->state == NULL || strcmp(filter->state, state) == 0;
}

/* The filters by queue: what is asked for, and what the reader may see. */
static void
add_queues(ListQuery *query, const TaskArgs *args)
{
	add_with(query, " AND t.queue = $%d", args->queue);
	add_with(query, " AND t.queue = ANY ($%d)", args->seen_queues);
}

/* The filters, on a relation "t" that has the columns of coord.task. */
static void
add_task_filters(ListQuery *query, const TaskArgs *args)
{
	add_queues(query, args);
	add_with(query, " AND t.state = $%d", args->state);
	add_with(query, " AND t.type = $%d", args->type);
	add_with(query, " AND t.agent_id = $%d", args->agent_id);
	add_with(query, " AND t.resource_key = $%d", args->resource_key);
}

/* The ids of claimed tasks, and of some that were; the claims of an agent, if one is given. */
static void
add_claims(ListQuery *query, int agent_id)
{
	add(query, "SELECT c.task_id FROM coord.claim_deadline c");
	add_with(query, " WHERE c.agent_id = $%d", agent_id);
	add(query, " UNION SELECT unnest(c.task_ids) FROM coord.claim_batch c");
	add_with(query, " WHERE c.agent_id = $%d", agent_id);
}

static bool
queue_has_few_tasks(const char *queue)
{
	static StorePlan plan = {.sql = "SELECT FROM coord.task_live WHERE queue = $1 LIMIT $2"};

	return queue != NULL && store_run(&plan, STORE_ARGS(arg_text(queue), arg_int4(FEW_TASKS + 1))) <= FEW_TASKS;
}

/* The ids of unfinished tasks, among them all that a list can have. */
static void
add_candidates(ListQuery *query, const TaskFilter *filter, const TaskArgs *args)
{
	if (args->task_id)
		add_with(query, "SELECT $%d", args->task_id);
	else if (args->agent_id || (filter->state != NULL && (may_be(filter, "claimed") || may_be(filter, "dead"))))
		add_claims(query, args->agent_id);
	else if (args->resource_key)
	{
		/* their own, and one that was given by its claimant */
		add_with(query, "SELECT id FROM coord.task_live WHERE resource_key = $%d", args->resource_key);
		add_with(query, " UNION SELECT task_id FROM coord.lease_data WHERE resource_key = $%d", args->resource_key);
	}
	else if (filter->state != NULL && may_be(filter, "blocked"))
		add(query, "SELECT DISTINCT task_id FROM coord.task_dependency");
	else
	{
		/*
		 * The planner does not know that a list goes no further than its limit, since
		 * that is about computed states: if it could, it would sort a large queue.
		 */
		if (queue_has_few_tasks(filter->queue))
			add_with(query, "SELECT id FROM (SELECT * FROM coord.task_live t WHERE t.queue = $%d OFFSET 0) t WHERE true", args->queue);
		else
		{
			add(query, "SELECT id FROM (SELECT * FROM coord.task_live t WHERE true");
			add_with(query, " AND t.id < $%d", args->after);
			add(query, " ORDER BY t.id DESC OFFSET 0) t WHERE true");
			add_queues(query, args);
		}
		add_with(query, " AND t.type = $%d", args->type);
		if (filter->state != NULL)
			add(query, " AND t.state <> 'blocked'");
	}
}

/* Tasks that have not finished, or that only a sweep has yet to finish. */
static void
add_unfinished(ListQuery *query, const TaskFilter *filter, const TaskArgs *args)
{
	add(query, "(SELECT t.* FROM (SELECT c.id FROM (");
	add_candidates(query, filter, args);
	add(query, ") c (id) WHERE true");
	add_with(query, " AND c.id < $%d", args->after);
	add(query, " ORDER BY c.id DESC OFFSET 0) c CROSS JOIN LATERAL"
		" (SELECT * FROM coord.task_unfinished t WHERE t.id = c.id OFFSET 0) t WHERE true");
	add_task_filters(query, args);
	add_with(query, " ORDER BY c.id DESC LIMIT $%d)", args->limit);
}

static void
add_stored(ListQuery *query, const char *relation, const TaskArgs *args)
{
	appendStringInfo(&query->sql, " UNION ALL (SELECT " FINISHED_COLUMNS " FROM coord.%s t WHERE true", relation);
	add_task_filters(query, args);
	add_with(query, " AND t.id = $%d", args->task_id);
	add_with(query, " AND t.id < $%d", args->after);
	add_with(query, " ORDER BY t.id DESC LIMIT $%d)", args->limit);
}

void
store_task_list(FunctionCallInfo fcinfo, const TaskFilter *filter)
{
	ListQuery	query;
	TaskArgs	args;

	begin_query(&query);
	args.queue = add_arg(&query, arg_text(filter->queue));
	args.seen_queues = add_arg(&query, arg_seen_queues(filter->reader));
	args.state = add_arg(&query, arg_text(filter->state));
	args.type = add_arg(&query, arg_text(filter->type));
	args.agent_id = add_arg(&query, arg_uuid(filter->agent_id));
	args.resource_key = add_arg(&query, arg_text(filter->resource_key));
	args.task_id = add_arg(&query, arg_uuid(filter->task_id));
	args.after = add_arg(&query, arg_uuid(filter->after));
	args.limit = add_arg(&query, arg_int4(filter->limit));

	add(&query, "SELECT ROW(t.*)::coord.task FROM (SELECT * FROM (");
	if (may_be(filter, "completed") || may_be(filter, "cancelled"))
	{
		/* the first branch, which has no rows, is only there for its columns */
		if (filter->state != NULL)
			add(&query, "(SELECT " FINISHED_COLUMNS " FROM coord.task_finished WHERE false)");
		else
			add_unfinished(&query, filter, &args);
		add_stored(&query, "task_finished", &args);
	}
	else
		add_unfinished(&query, filter, &args);
	if (may_be(filter, "dead"))
		add_stored(&query, "task_dead", &args);
	add_with(&query, ") t ORDER BY t.id DESC LIMIT $%d) t ORDER BY t.id DESC", args.limit);
	run_query(fcinfo, &query);
}

/* ---- queues: in the order of their names ---- */

/* The first name after a name. */
#define NEXT_NAME(name) \
	"(SELECT min(q.name) FROM (" \
	" SELECT min(q.name) FROM coord.queue_data q WHERE q.name > " name \
	" UNION ALL SELECT min(t.queue) FROM coord.task_live t WHERE t.queue > " name \
	" UNION ALL SELECT min(t.queue) FROM coord.task_dead t WHERE t.queue > " name \
	" UNION ALL SELECT 'default' WHERE 'default' > " name ") q (name))"

/* Whether a list has the queue that it is asked for. */
static bool
has_queue(const QueueFilter *filter)
{
	QueueRow   *queue = store_queue(filter->name);

	return coord_sees_queue(filter->reader, filter->name) &&
		(queue->exists || strcmp(filter->name, "default") == 0 || store_queue_has_tasks(filter->name)) &&
		(filter->paused == NULL || queue->paused == *filter->paused) &&
		(filter->after == NULL || strcmp(filter->name, filter->after) > 0);
}

/* The names that a list has, which coord.queue finds by counting all tasks. */
List *
store_queue_names(const QueueFilter *filter)
{
	ListQuery	query;

	if (filter->name != NULL)
		return has_queue(filter) ? list_make1((void *) filter->name) : NIL;
	begin_query(&query);
	(void) add_arg(&query, arg_text(filter->after != NULL ? filter->after : ""));
	add(&query, "WITH RECURSIVE n (name) AS (SELECT " NEXT_NAME("$1 COLLATE \"C\"")
		" UNION ALL SELECT " NEXT_NAME("n.name") " FROM n WHERE n.name IS NOT NULL)"
		" SELECT n.name FROM n WHERE n.name IS NOT NULL");
	add_with(&query, " AND n.name = ANY ($%d)", add_arg(&query, arg_seen_queues(filter->reader)));
	if (filter->paused != NULL)
		add_with(&query, " AND coalesce((SELECT q.paused FROM coord.queue_data q WHERE q.name = n.name), false) = $%d",
				 add_arg(&query, arg_bool(*filter->paused)));
	add_with(&query, " LIMIT $%d", add_arg(&query, arg_int4(filter->limit)));
	store_run_once(query.sql.data, query.nargs, query.args);
	return store_texts();
}

/* Each queue's row counts its tasks; those of the others are not looked at. */
void
store_queue_list(FunctionCallInfo fcinfo, const QueueFilter *filter)
{
	List	   *names = store_queue_names(filter);
	ListCell   *cell;

	foreach(cell, names)
	{
		Datum		row = store_queue_result(lfirst(cell));

		if (row != (Datum) 0)
			store_add_result(fcinfo, row);
	}
}
