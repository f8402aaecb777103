/*
 * event_store.c
 *		Stored events: coord.event_inbox, and coord.event_log once they have
 *		their position.
 *
 * The table of the system's own event types is here, one function each: type,
 * severity, recipient, channel and payload as users read them.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "sequence.h"
#include "store/event_store.h"
#include "store/store.h"
#include "uuid7.h"
#include "worker/wakeup.h"

/* Add an event, and give it as users see it. */
Datum
store_event_insert(const pg_uuid_t *id, const char *type, const char *severity,
				   const pg_uuid_t *sender_id, const pg_uuid_t *recipient_id,
				   const char *channel, Jsonb *payload, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
	" RETURNING ROW(id, NULL, type, severity, sender_id, recipient_id, channel, payload, created_at)::coord.event"};

	coord_due_at(JOB_EVENTS, COORD_DUE_NOW);
	store_run(&plan, STORE_ARGS(arg_uuid(id), arg_text(type), arg_text(severity),
								arg_uuid(sender_id), arg_uuid(recipient_id),
								arg_text(channel), arg_jsonb(payload), arg_time(now)));
	return store_result();
}

static StoreArg
new_event_id(void)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	coord_uuid7(id);
	coord_due_at(JOB_EVENTS, COORD_DUE_NOW);
	return arg_uuid(id);
}

/* agent.inactive and agent.active */
void
store_event_agent(const char *type, const AgentRow *agent, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT
	"VALUES ($1, $2, CASE $2 WHEN 'agent.inactive' THEN 'warning' ELSE 'info' END, NULL, NULL, 'coord.agents',"
	" jsonb_build_object('agent_id', $3, 'name', $4, 'last_heartbeat_at', $5), $6)"};

	store_run(&plan, STORE_ARGS(new_event_id(), arg_text(type), arg_uuid(&agent->id),
								arg_text(agent->name), arg_time(agent->heartbeat_at), arg_time(now)));
}

void
store_event_lock_expired(const LeaseRow *lease, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_LOCK_EXPIRED("$1", "$2", "$3", "$4", "$5", "$6", "$7")};

	store_run(&plan, STORE_ARGS(new_event_id(), arg_uuid(&lease->id), arg_text(lease->resource_key),
								arg_uuid(&lease->agent_id), arg_int8(lease->fencing_token),
								arg_time(lease->expires_at), arg_time(now)));
}

/* To the agent that lost the claim; "task" is as it was while claimed. */
void
store_event_task_requeued(const TaskRow *task, const char *reason, TimestampTz run_at, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT
	"VALUES ($1, 'task.requeued', 'warning', NULL, $4, 'coord.tasks',"
	" jsonb_build_object('task_id', $2, 'queue', $3, 'agent_id', $4, 'reason', $5,"
	" 'attempts', $6, 'run_at', $7), $8)"};

	store_run(&plan, STORE_ARGS(new_event_id(), arg_uuid(&task->id), arg_text(task->queue),
								arg_uuid(task->agent_id), arg_text(reason), arg_int4(task->attempts),
								arg_time(run_at), arg_time(now)));
}

void
store_event_task_dead(const TaskRow *task, const char *error, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT
	"VALUES ($1, 'task.dead', 'error', NULL, NULL, 'coord.tasks',"
	" jsonb_build_object('task_id', $2, 'queue', $3, 'attempts', $4, 'error', $5), $6)"};

	store_run(&plan, STORE_ARGS(new_event_id(), arg_uuid(&task->id), arg_text(task->queue),
								arg_int4(task->attempts), arg_text(error), arg_time(now)));
}

/* Whether there is an event that has yet to be delivered. */
bool
store_events_waiting(void)
{
	static StorePlan plan = {.sql = "SELECT 1 FROM coord.event_inbox LIMIT 1"};

	return store_run(&plan, 0, NULL) > 0;
}

/*
 * Move up to "limit" events from the inbox to the log, in the order of their
 * ids, which within a transaction is the order of sending.  The caller has the
 * delivery lock.  Returns how many, and what each is announced with.
 */
int
store_events_take(int limit, EventHead **heads)
{
	static StorePlan plan = {.sql = "WITH batch AS ("
		"  SELECT ctid AS place FROM coord.event_inbox ORDER BY id LIMIT $1"
		"), taken AS ("
		"  DELETE FROM coord.event_inbox i USING batch WHERE i.ctid = batch.place"
		"  RETURNING i.id, i.type, i.severity, i.sender_id, i.recipient_id, i.channel, i.payload, i.created_at"
		") "
		"INSERT INTO coord.event_log AS e (position, id, type, severity, sender_id, recipient_id, channel, payload, created_at) "
		"SELECT nextval('coord.event_position'), t.* FROM (SELECT * FROM taken ORDER BY id) t "
		"RETURNING e.recipient_id, e.channel, jsonb_build_object('id', e.id, 'position', e.position,"
	" 'type', e.type, 'severity', e.severity, 'recipient_id', e.recipient_id, 'channel', e.channel)::text"};
	int			n;

	(void) coord_next_event_position(); /* raises the sequence if that is due */
	n = (int) store_run(&plan, STORE_ARGS(arg_int4(limit)));
	*heads = palloc(sizeof(EventHead) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		(*heads)[i].recipient_id = store_uuid(i, 1);
		(*heads)[i].channel = store_text(i, 2);
		(*heads)[i].notice = store_text(i, 3);
	}
	return n;
}

/*
 * Add the delivered events after a position to a SETOF result: those for a
 * recipient, a channel, both or anybody, of a type or of any.  Events that are
 * addressed to an agent that "reader" may not act for are passed over.
 */
void
store_event_list(FunctionCallInfo fcinfo, const pg_uuid_t *recipient_id,
				 const char *channel, const char *type, int64 after,
				 int max_events, Oid reader)
{
#define LIST_EVENTS(filter) \
	"SELECT e FROM coord.event e WHERE e.position > $4 " filter \
	" AND ($3 IS NULL OR e.type = $3)" \
	" AND ($6 OR e.recipient_id IS NULL OR EXISTS (" \
	"  SELECT FROM coord.agent_data a JOIN pg_roles r ON r.rolname = a.owner" \
	"  WHERE a.id = e.recipient_id AND pg_has_role($7, r.oid, 'MEMBER')))" \
	" ORDER BY e.position LIMIT $5"
	static StorePlan plans[2][2] = {
		{{.sql = LIST_EVENTS("AND $1 IS NULL AND $2 IS NULL")},
		{.sql = LIST_EVENTS("AND $1 IS NULL AND e.channel = $2")}},
		{{.sql = LIST_EVENTS("AND e.recipient_id = $1 AND $2 IS NULL")},
		{.sql = LIST_EVENTS("AND e.recipient_id = $1 AND e.channel = $2")}},
	};

	store_run(&plans[recipient_id != NULL][channel != NULL],
			  STORE_ARGS(arg_uuid(recipient_id), arg_text(channel), arg_text(type), arg_int8(after),
						 arg_int4(max_events), arg_bool(superuser_arg(reader)), arg_oid(reader)));
	store_results(fcinfo);
}
