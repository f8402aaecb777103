/*
 * life_store.c
 *		What is known of a task: how it stands, and what has become of it.
 */
#include "postgres.h"

#include "store/life_store.h"

/* A task, finished or not; NULL when there is none. */
TaskStanding *
store_task_standing(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT t.queue, t.state, t.priority, t.run_at, t.attempts, t.max_attempts,"
		" (SELECT name FROM coord.agent_data a WHERE a.id = t.agent_id), t.claimed_at, t.lease_expires_at,"
		" t.resource_key, t.error, t.finished_at, coalesce(cardinality(t.depends_on), 0)"
	" FROM coord.task_all t WHERE t.id = $1"};
	TaskStanding *task;

	if (store_run(&plan, STORE_ARGS(arg_uuid(id))) == 0)
		return NULL;
	task = palloc(sizeof(TaskStanding));
	*task = (TaskStanding) {
		.id = *id,
		.queue = store_text(0, 1),
		.state = store_text(0, 2),
		.priority = store_int4(0, 3, 0),
		.run_at = store_time(0, 4, 0),
		.attempts = store_int4(0, 5, 0),
		.max_attempts = store_int4(0, 6, 0),
		.agent = store_text(0, 7),
		.claimed_at = store_time(0, 8, 0),
		.lease_expires_at = store_time(0, 9, 0),
		.resource_key = store_text(0, 10),
		.error = store_text(0, 11),
		.finished_at = store_time(0, 12, 0),
		.ndependencies = store_int4(0, 13, 0),
	};
	return task;
}

/* What a blocked task waits for: a list of OpenDependency. */
List *
store_open_dependencies(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT d.depends_on, t.state FROM coord.task_dependency d"
		" LEFT JOIN LATERAL (SELECT state FROM coord.task_all WHERE id = d.depends_on OFFSET 0) t ON true"
	" WHERE d.task_id = $1 ORDER BY 1"};
	uint64		n = store_run(&plan, STORE_ARGS(arg_uuid(id)));
	List	   *open = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		OpenDependency *dependency = palloc(sizeof(OpenDependency));

		dependency->id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(store_uuid(i, 1))));
		dependency->state = store_text(i, 2);
		open = lappend(open, dependency);
	}
	return open;
}

/* How many claimable tasks come before one in its queue, as far as that is seen among so many in the order. */
int
store_tasks_before(const TaskStanding *task, TimestampTz now, int max)
{
	static StorePlan plan = {.sql = "SELECT count(*) FROM ("
		" (SELECT state, ready_at FROM coord.task_live WHERE queue = $1 AND priority > $2"
		"  ORDER BY priority DESC, ready_at, seq LIMIT $4)"
		" UNION ALL (SELECT t.state, t.ready_at FROM coord.task_live t, coord.task_live own"
		"  WHERE own.id = $5 AND t.queue = $1 AND t.priority = $2 AND (t.ready_at, t.seq) < (own.ready_at, own.seq)"
		"  ORDER BY t.ready_at, t.seq LIMIT $4)) t"
	" WHERE state = 'pending' AND ready_at <= $3"};

	store_run(&plan, STORE_ARGS(arg_text(task->queue), arg_int4(task->priority), arg_time(now), arg_int4(max),
								arg_uuid(&task->id)));
	return (int) store_int8(0, 1, 0);
}

/* Whether any agent is active. */
bool
store_active_agents(void)
{
	static StorePlan plan = {.sql = "SELECT FROM coord.agent_all WHERE status = 'active' LIMIT 1"};

	return store_run(&plan, 0, NULL) > 0;
}

/* The name of an agent, also one that registered after the transaction's snapshot; NULL when there is none. */
char *
store_agent_name(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT name FROM coord.agent_data WHERE id = $1"};

	return store_run_latest(&plan, STORE_ARGS(arg_uuid(id))) > 0 ? store_text(0, 1) : NULL;
}

/*
 * Add what has become of a task to a SETOF result, in the order of time; false when there
 * is no such task.
 *
 * What its row does not tell any more, the events of coord.tasks do: those since it was created,
 * as another task may have had its id.  Anybody may send events there, so that their payloads are
 * taken for nothing; of what may be large, or many, not more is shown than coord's own need; and of
 * what is sent to an agent only what coord itself would say.
 */
bool
store_task_history(FunctionCallInfo fcinfo, const pg_uuid_t *id)
{
#define MAX_EVENTS "1000"
	static StorePlan plan = {.sql = "WITH task AS MATERIALIZED (SELECT * FROM coord.task_all WHERE id = $1),"
		" event AS MATERIALIZED (SELECT * FROM coord.event_all e WHERE channel = 'coord.tasks'"
		"  AND left(payload ->> 'task_id', 36) = $1::text AND sender_id IS NULL"
		"  AND (type = 'task.dead' AND recipient_id IS NULL OR type = 'task.requeued' AND payload ->> 'reason' IN ('agent_inactive', 'lease_expired'))"
		"  AND EXISTS (SELECT FROM task t WHERE t.queue = e.payload ->> 'queue' AND t.created_at <= e.created_at) ORDER BY created_at DESC LIMIT " MAX_EVENTS ")"
		" SELECT ROW(h.at, h.what, h.attempt, h.agent_id, jsonb_strip_nulls(h.detail))::coord.history_entry FROM ("
		" SELECT created_at, 'created', NULL::integer, NULL::uuid, jsonb_build_object('queue', queue, 'type', type,"
		"  'priority', priority, 'unique_key', unique_key, 'depends_on', depends_on), 0 FROM task"
		" UNION ALL SELECT claimed_at, 'claimed', attempts, agent_id, jsonb_build_object('fencing_token', fencing_token,"
		"  'lease_expires_at', lease_expires_at, 'resource_key', resource_key), 1 FROM task WHERE claimed_at IS NOT NULL"
		" UNION ALL SELECT created_at, substr(type, 6),"
		"  CASE WHEN payload ->> 'attempts' ~ '^[0-9]{1,9}$' THEN (payload ->> 'attempts')::integer END, recipient_id,"
		"  CASE type WHEN 'task.dead' THEN jsonb_build_object('error', left(payload ->> 'error', 10000))"
		"  ELSE jsonb_build_object('reason', payload ->> 'reason', 'run_at', substring(payload ->> 'run_at' FROM '^[0-9T:.+-]{1,40}$')) END, 2 FROM event"
		" UNION ALL SELECT run_at, 'scheduled', NULL, NULL, jsonb_build_object('error', error), 3 FROM task"
		"  WHERE state = 'pending' AND (attempts > 0 OR run_at > clock_timestamp())"
		" UNION ALL SELECT finished_at, state, attempts, agent_id, jsonb_build_object('error', error), 3 FROM task"
		"  WHERE finished_at IS NOT NULL AND NOT (state = 'dead' AND EXISTS (SELECT FROM event WHERE type = 'task.dead'))"
	" ) h (at, what, attempt, agent_id, detail, step) ORDER BY h.at, h.step"};

	return store_run_to(store_result_rows(fcinfo), &plan, STORE_ARGS(arg_uuid(id))) > 0;
}
