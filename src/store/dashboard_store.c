/*
 * dashboard_store.c
 *		What the dashboard shows: few rows of each kind, whatever there is.
 *
 * Each statement reads rows by an index and no more of them than a limit, or what has
 * finished in a period that its caller has chosen for that to be bearable.  What a row's
 * state is comes from the relations that users read, as in list_store.c.
 */
#include "postgres.h"

#include "rights.h"
#include "store/dashboard_store.h"
#include "store/list_store.h"
#include "store/rights_store.h"

/* so many of the last events about agents are looked through for those that were lost */
#define EVENTS_SEEN 200

/* Queues with their counts, in the order of their names: so many at most, and whether there are more. */
List *
store_queue_sights(Oid reader, int max, bool *more)
{
	static StorePlan plan = {.sql = "SELECT n.name, coalesce(q.paused, false), t.pending, t.scheduled, t.blocked, t.claimed, t.dead,"
		" t.oldest_pending_age, clock_timestamp() - t.counted_at"
		" FROM unnest($1) n (name) LEFT JOIN coord.queue_data q ON q.name = n.name"
	" CROSS JOIN LATERAL coord.count_tasks(n.name) t ORDER BY n.name COLLATE \"C\""};
	QueueFilter filter = {.reader = reader, .limit = max + 1};
	List	   *names = store_queue_names(&filter);
	List	   *queues = NIL;
	uint64		n;

	*more = list_length(names) > max;
	if (*more)
		names = list_truncate(names, max);
	n = store_run(&plan, STORE_ARGS(arg_array(TEXTARRAYOID, store_text_array_of(names))));
	for (uint64 i = 0; i < n; i++)
	{
		QueueSight *queue = palloc(sizeof(QueueSight));

		*queue = (QueueSight) {
			.name = store_text(i, 1),
			.paused = store_bool(i, 2),
			.pending = store_int8(i, 3, 0),
			.scheduled = store_int8(i, 4, 0),
			.blocked = store_int8(i, 5, 0),
			.claimed = store_int8(i, 6, 0),
			.dead = store_int8(i, 7, 0),
			.oldest_pending_age = store_interval(i, 8, -1),
			.counted_ago = store_interval(i, 9, -1),
		};
		queues = lappend(queues, queue);
	}
	return queues;
}

/* ---- what has finished ---- */

/* Whether more than so many tasks have finished since, counting no further. */
bool
store_finished_more_than(TimestampTz since, int max)
{
	/* materialized, so that no plan for the few rows of a limit reads what is older */
	store_run_once("WITH recent AS MATERIALIZED (SELECT 1 FROM coord.task_finished WHERE finished_at >= $1"
				   "  UNION ALL SELECT 1 FROM coord.task_dead WHERE finished_at >= $1)"
				   " SELECT count(*) FROM (SELECT FROM recent LIMIT $2) r",
				   STORE_ARGS(arg_time(since), arg_int8((int64) max + 1)));
	return store_int8(0, 1, 0) > max;
}

/* How many tasks have become what in each part of a period. */
void
store_done_by_parts(Oid reader, TimestampTz since, int64 part, int nparts, DoneSight *done)
{
	StoreArg	seen = arg_seen_queues(reader);
	uint64		n;

	memset(done, 0, nparts * sizeof(DoneSight));
	n = store_run_once("SELECT least(floor(extract(epoch FROM finished_at - $1) / extract(epoch FROM $2)), $3 "
					   "- 1)::integer,"
					   " count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE state = 'dead') "
					   "FROM ("
					   "  SELECT queue, state, finished_at FROM coord.task_finished WHERE finished_at >= $1"
					   "  UNION ALL SELECT queue, state, finished_at FROM coord.task_dead WHERE finished_at >= "
					   "$1) t"
					   " WHERE $4 IS NULL OR queue = ANY ($4) GROUP BY 1",
					   STORE_ARGS(arg_time(since), arg_interval(part), arg_int4(nparts), seen));
	for (uint64 i = 0; i < n; i++)
		done[store_int4(i, 1, 0)] = (DoneSight) {store_int8(i, 2, 0), store_int8(i, 3, 0)};
}

/* ---- agents ---- */

/* Count the newest agents, so many at most, by their status; returns how many those are. */
int64
store_agent_counts(int max, AgentCounts *counts)
{
	static StorePlan plan = {.sql = "SELECT count(*) FILTER (WHERE status = 'active'), count(*) FILTER (WHERE status = 'inactive'),"
		" count(*) FILTER (WHERE status = 'retired'), count(*)"
		" FROM coord.agent_all"
	" WHERE id >= (SELECT id FROM (SELECT id FROM coord.agent_data ORDER BY id DESC LIMIT $1) newest ORDER BY "
	"id LIMIT 1)"};

	store_run(&plan, STORE_ARGS(arg_int8(max)));
	*counts = (AgentCounts) {store_int8(0, 1, 0), store_int8(0, 2, 0), store_int8(0, 3, 0)};
	return store_int8(0, 4, 0);
}

/*
 * The agents that were lost last, and have not come back.
 *
 * An index tells neither: they are found by the events about them, or by their deadline if
 * no sweep has come yet.  Anybody may send such events, so that only the agents are believed.
 */
List *
store_lost_agents(TimestampTz now, int max)
{
	static StorePlan plan = {.sql = "SELECT a.name, a.type, a.inactive_since FROM ("
		"  SELECT CASE WHEN e.payload ->> 'agent_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
		"   THEN (e.payload ->> 'agent_id')::uuid END"
		"  FROM (SELECT type, payload FROM coord.event_log WHERE channel = 'coord.agents' ORDER BY position "
		"DESC LIMIT $3) e"
		"  WHERE e.type = 'agent.inactive'"
		"  UNION SELECT id FROM (SELECT id FROM coord.agent_data WHERE check_at <= $1 ORDER BY check_at DESC "
		"LIMIT $3) d"
		" ) c (id) CROSS JOIN LATERAL (SELECT * FROM coord.agent_all a WHERE a.id = c.id OFFSET 0) a"
	" WHERE a.status = 'inactive' ORDER BY a.inactive_since DESC, a.name LIMIT $2"};
	uint64		n = store_run(&plan, STORE_ARGS(arg_time(now), arg_int8(max), arg_int8(EVENTS_SEEN)));
	List	   *agents = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		LostAgentSight *agent = palloc(sizeof(LostAgentSight));

		*agent = (LostAgentSight) {store_text(i, 1), store_text(i, 2), store_time(i, 3, DT_NOBEGIN)};
		agents = lappend(agents, agent);
	}
	return agents;
}

/* ---- leases ---- */

/*
 * Active leases that end before an instant, the first ones, but for those that the server
 * renews: among so many that the sweep is to look at first, since check_at is never later
 * than a lease's end.
 */
List *
store_leases_ending(Oid reader, TimestampTz until, int max_seen, int max)
{
	static StorePlan plan = {.sql = "SELECT l.resource_key, a.name, l.auto_renew, l.expires_at"
		" FROM (SELECT DISTINCT slot FROM (SELECT slot FROM coord.lease_deadline WHERE check_at <= $1 ORDER BY "
		"check_at LIMIT $2) s) s"
		" CROSS JOIN LATERAL (SELECT * FROM coord.lease_data d WHERE d.slot = s.slot AND d.expires_at <= $1 "
		"OFFSET 0) d"
		" CROSS JOIN LATERAL (SELECT * FROM coord.lease_all l WHERE l.resource_key = d.resource_key AND "
		"l.state = 'active' OFFSET 0) l"
		" CROSS JOIN LATERAL (SELECT * FROM coord.agent_all a WHERE a.id = l.agent_id OFFSET 0) a"
		" WHERE NOT (l.auto_renew AND a.status = 'active' AND coalesce(d.acquired_at + d.max_hold > "
		"d.expires_at, true))"
		" AND ($4 IS NULL OR EXISTS (SELECT FROM coord.agent_data o WHERE o.id = l.agent_id AND "
		"o.registered_at <= l.acquired_at AND pg_has_role($4, o.owner, 'USAGE')))"
	" ORDER BY l.expires_at, l.resource_key LIMIT $3"};
	StoreArg	owner = arg_oid(reader);
	List	   *leases = NIL;
	uint64		n;

	owner.isnull = coord_sees_every_queue(reader);
	n = store_run(&plan, STORE_ARGS(arg_time(until), arg_int8(max_seen), arg_int8(max), owner));
	for (uint64 i = 0; i < n; i++)
	{
		LeaseSight *lease = palloc(sizeof(LeaseSight));

		*lease = (LeaseSight) {store_text(i, 1), store_text(i, 2), store_bool(i, 3), store_time(i, 4, DT_NOEND)};
		leases = lappend(leases, lease);
	}
	return leases;
}

/* ---- dead letters ---- */

#define DEAD_COLUMNS "id, queue, type, attempts, error, finished_at"

/*
 * The newest dead letters.  For who sees some queues only, newest is in each of those by id,
 * so that nobody's are walked over that he may not see.  The planner must not know that it is
 * about one queue, as it would take the index of all ids then.
 */
List *
store_dead_sights(Oid reader, int max)
{
	StoreArg	seen = arg_seen_queues(reader);
	List	   *letters = NIL;
	uint64		n;

	if (seen.isnull)
		n = store_run_once("SELECT " DEAD_COLUMNS " FROM coord.task_dead ORDER BY finished_at DESC LIMIT $1",
						   STORE_ARGS(arg_int8(max)));
	else
		n = store_run_once("SELECT " DEAD_COLUMNS " FROM unnest($2) q (name) CROSS JOIN LATERAL"
						   " (SELECT * FROM coord.task_dead d WHERE d.queue BETWEEN q.name AND q.name ORDER BY "
						   "d.queue DESC, d.id DESC LIMIT $1) d"
						   " ORDER BY finished_at DESC LIMIT $1",
						   STORE_ARGS(arg_int8(max), seen));
	for (uint64 i = 0; i < n; i++)
	{
		DeadSight  *letter = palloc(sizeof(DeadSight));

		*letter = (DeadSight) {store_text(i, 1), store_text(i, 2), store_text(i, 3), store_int4(i, 4, 0), store_text(i, 5),
			store_time(i, 6, DT_NOBEGIN)};
		letters = lappend(letters, letter);
	}
	return letters;
}

/* ---- the worker ---- */

WorkerSight *
store_worker_sight(Oid reader)
{
	static StorePlan plan = {.sql = "SELECT pid IS NOT NULL, has_function_privilege($1, 'coord.worker_status()', 'EXECUTE'),"
	" started_at, errors, last_error_at, last_error, sweep_lag_max FROM coord.worker_status()"};
	WorkerSight *worker = palloc0(sizeof(WorkerSight));

	store_run(&plan, STORE_ARGS(arg_oid(reader)));
	worker->runs = store_bool(0, 1);
	worker->may_be_read = worker->runs && store_bool(0, 2);
	if (worker->may_be_read)
	{
		worker->started_at = store_time(0, 3, DT_NOBEGIN);
		worker->errors = store_int8(0, 4, 0);
		worker->last_error_at = store_time(0, 5, DT_NOBEGIN);
		worker->last_error = store_text(0, 6);
		worker->sweep_lag_max = store_interval(0, 7, 0);
	}
	return worker;
}
