/*
 * task_store.c
 *		Stored tasks: coord.task_live and what belongs to it.
 *
 * A claim updates its task's row, none of whose changed columns is in an index,
 * and adds a row to claim_deadline, by which the sweep finds it.  A task that
 * has finished leaves task_live for task_finished or task_dead.
 */
#include "postgres.h"

#include "utils/array.h"

#include "store/store.h"
#include "store/task_store.h"
#include "worker/wakeup.h"

#define TASK_COLUMNS \
	"id, queue, state, run_at, attempts, max_attempts, resource_key, agent_id, lease_id," \
	" claimed_key, fencing_token, lease_ttl, lease_expires_at, check_at, queue_slot"

/* the columns of coord.task, as a live row gives them when it leaves */
#define FINISHED_COLUMNS \
	"id, queue, type, payload, priority, state, run_at, attempts, max_attempts, agent_id, lease_id," \
	" fencing_token, lease_expires_at, resource_key, unique_key, depends_on, progress, result, error," \
	" created_at, claimed_at, finished_at"

static TaskRow *
read_task(uint64 row)
{
	TaskRow    *task = palloc(sizeof(TaskRow));

	task->id = *store_uuid(row, 1);
	task->queue = store_text(row, 2);
	task->state = store_text(row, 3);
	task->run_at = store_time(row, 4, 0);
	task->attempts = store_int4(row, 5, 0);
	task->max_attempts = store_int4(row, 6, 0);
	task->resource_key = store_text(row, 7);
	task->agent_id = store_uuid(row, 8);
	task->lease_id = store_uuid(row, 9);
	task->claimed_key = store_text(row, 10);
	task->fencing_token = store_int8(row, 11, 0);
	task->lease_ttl = store_interval(row, 12, 0);
	task->lease_expires_at = store_time(row, 13, DT_NOEND);
	task->check_at = store_time(row, 14, DT_NOEND);
	task->queue_slot = store_int4(row, 15, -1);
	return task;
}

/* ---- creating and reading ---- */

void
store_task_insert(const TaskSpec *spec, bool blocked, TimestampTz now)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.task_live (id, seq, queue, type, payload, priority, state,"
		" run_at, ready_at, attempts, max_attempts, resource_key, unique_key, depends_on, created_at)"
	" VALUES ($1, nextval('coord.task_seq'), $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, $12, $13)"};

	store_run(&plan, STORE_ARGS(arg_uuid(&spec->id), arg_text(spec->queue), arg_text(spec->type),
								arg_jsonb(spec->payload), arg_int4(spec->priority),
								arg_text(blocked ? "blocked" : "pending"), arg_time(spec->run_at),
								arg_time(blocked ? DT_NOEND : spec->run_at),
								arg_int4(spec->max_attempts), arg_text(spec->resource_key),
								arg_text(spec->unique_key),
								arg_array(UUIDARRAYOID, spec->depends_on.n == 0 ? NULL :
										  store_uuid_array(&spec->depends_on)),
								arg_time(now)));
	if (!blocked)
		coord_queue_ready(spec->queue, spec->run_at);
}

/* The task of a queue that has not finished and has that key; NULL when there is none. */
pg_uuid_t *
store_task_with_unique_key(const char *queue, const char *unique_key)
{
	static StorePlan plan = {.sql = "SELECT id FROM coord.task_live WHERE queue = $1 AND unique_key = $2"};

	return store_run(&plan, STORE_ARGS(arg_text(queue), arg_text(unique_key))) ? store_uuid(0, 1) : NULL;
}

/* Whether a finished task has that id, also one that finished after the transaction's snapshot. */
bool
store_task_id_is_used(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT 1 FROM coord.task_finished WHERE id = $1"
	" UNION ALL SELECT 1 FROM coord.task_dead WHERE id = $1"};

	return store_run_latest(&plan, STORE_ARGS(arg_uuid(id))) > 0;
}

/* A task's state as users see it; NULL when there is no such task. */
char *
store_task_state(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT state FROM coord.task WHERE id = $1"};

	return store_run(&plan, STORE_ARGS(arg_uuid(id))) ? store_text(0, 1) : NULL;
}

/*
 * A task that has not finished, locked so that its claim can change; NULL when
 * there is none, or when it is locked and to be skipped.
 */
TaskRow *
store_task(const pg_uuid_t *id, StoreLock lock)
{
	static StorePlan plans[] = {
		[STORE_NO_LOCK] = {.sql = "SELECT " TASK_COLUMNS " FROM coord.task_live WHERE id = $1"},
		[STORE_LOCK_WAIT] = {.sql = "SELECT " TASK_COLUMNS " FROM coord.task_live WHERE id = $1"
		" FOR NO KEY UPDATE"},
		[STORE_LOCK_SKIP] = {.sql = "SELECT " TASK_COLUMNS " FROM coord.task_live WHERE id = $1"
		" FOR NO KEY UPDATE SKIP LOCKED"},
	};

	return store_run(&plans[lock], STORE_ARGS(arg_uuid(id))) ? read_task(0) : NULL;
}

/* The same, locked so that it can leave task_live. */
TaskRow *
store_task_to_finish(const pg_uuid_t *id, StoreLock lock)
{
	static StorePlan plans[] = {
		[STORE_LOCK_WAIT] = {.sql = "SELECT " TASK_COLUMNS " FROM coord.task_live WHERE id = $1 FOR UPDATE"},
		[STORE_LOCK_SKIP] = {.sql = "SELECT " TASK_COLUMNS " FROM coord.task_live WHERE id = $1"
		" FOR UPDATE SKIP LOCKED"},
	};

	return store_run(&plans[lock], STORE_ARGS(arg_uuid(id))) ? read_task(0) : NULL;
}

/* Whether a task was completed by the holder of that token. */
bool
store_task_completed_with(const pg_uuid_t *id, int64 fencing_token)
{
	static StorePlan plan = {.sql = "SELECT 1 FROM coord.task_finished"
	" WHERE id = $1 AND state = 'completed' AND fencing_token = $2"};

	return store_run(&plan, STORE_ARGS(arg_uuid(id), arg_int8(fencing_token))) > 0;
}

/* The task as users see it. */
Datum
store_task_result(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT t FROM coord.task t WHERE t.id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(id)));
	return store_result();
}

/* Add claimed tasks as users see them to a SETOF result, in the order of the list. */
void
store_task_results(FunctionCallInfo fcinfo, const UuidList *tasks)
{
	static StorePlan plan = {.sql = "SELECT t FROM coord.task t WHERE t.id = ANY ($1)"
	" ORDER BY array_position($1, t.id)"};

	store_run(&plan, STORE_ARGS(arg_uuids(tasks)));
	store_results(fcinfo);
}

/* ---- claiming ---- */

/* The highest priority below a bound that tasks of the queue have. */
bool
store_next_priority(const char *queue, int64 below, int *priority)
{
	static StorePlan plan = {.sql = "SELECT priority FROM coord.task_live WHERE queue = $1 AND priority <= $2"
	" ORDER BY priority DESC LIMIT 1"};

	if (below <= PG_INT32_MIN || store_run(&plan, STORE_ARGS(arg_text(queue), arg_int4((int32) (below - 1)))) == 0)
		return false;
	*priority = store_int4(0, 1, 0);
	return true;
}

/*
 * The earliest instant after that one at which a task of the queue becomes claimable;
 * DT_NOEND when there is none.
 */
TimestampTz
store_queue_next_ready(const char *queue, TimestampTz after)
{
	static StorePlan plan = {.sql = "SELECT ready_at FROM coord.task_live WHERE queue = $1 AND priority = $2"
	" AND ready_at > $3 AND ready_at < 'infinity' ORDER BY ready_at LIMIT 1"};
	TimestampTz next = DT_NOEND;
	int64		below = (int64) PG_INT32_MAX + 1;
	int			priority;

	while (store_next_priority(queue, below, &priority))
	{
		if (store_run(&plan, STORE_ARGS(arg_text(queue), arg_int4(priority), arg_time(after))) > 0)
			next = Min(next, store_time(0, 1, DT_NOEND));
		below = priority;
	}
	return next;
}

/*
 * Open a portal over the claimable tasks of one priority, in order; each row is
 * locked when it is fetched, and rows that others have locked are passed over.
 * So are those whose resource can be seen to be held: by another agent, or by
 * another claim; that is a scalar subquery, so that the planner looks up the one
 * lease and cannot join with all of them.
 */
Portal
store_claimable(const char *queue, int priority, const pg_uuid_t *agent_id,
				const char *resource_key, TimestampTz now)
{
	static StorePlan plan = {.sql = "SELECT " TASK_COLUMNS " FROM coord.task_live t"
		" WHERE t.queue = $1 AND t.priority = $2 AND t.ready_at <= $3 AND t.state = 'pending'"
		" AND ($4 IS NULL OR t.resource_key IS NULL OR t.resource_key = $4)"
		" AND coalesce((SELECT l.ended_at IS NOT NULL OR l.expires_at <= $3"
		"   OR (l.agent_id = $5 AND l.task_id IS NULL)"
		"  FROM coord.lease_data l WHERE l.resource_key = coalesce(t.resource_key, $4)), true)"
	" ORDER BY t.ready_at, t.seq FOR NO KEY UPDATE OF t SKIP LOCKED"};

	return store_cursor(&plan, STORE_ARGS(arg_text(queue), arg_int4(priority), arg_time(now),
										  arg_text(resource_key), arg_uuid(agent_id)));
}

int
store_claimable_fetch(Portal portal, int max, TaskRow ***tasks)
{
	int			n;

	SPI_cursor_fetch(portal, true, max);
	n = (int) SPI_processed;
	*tasks = palloc(sizeof(TaskRow *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*tasks)[i] = read_task(i);
	return n;
}

/* Write the claim that is in a locked task's row. */
void
store_task_claim(const TaskRow *task, TimestampTz now)
{
	static StorePlan update = {.sql = "UPDATE coord.task_live SET state = 'claimed', attempts = $2, agent_id = $3,"
		" lease_id = $4, claimed_key = $5, fencing_token = $6, lease_ttl = $7, lease_expires_at = $8,"
	" claimed_at = $9, check_at = $10, queue_slot = $11, progress = NULL WHERE id = $1"};
	static StorePlan insert = {.sql = "INSERT INTO coord.claim_deadline (check_at, task_id, agent_id)"
	" VALUES ($1, $2, $3)"};

	store_run(&update, STORE_ARGS(arg_uuid(&task->id), arg_int4(task->attempts), arg_uuid(task->agent_id),
								  arg_uuid(task->lease_id), arg_text(task->claimed_key),
								  arg_int8(task->fencing_token), arg_interval(task->lease_ttl),
								  arg_time(task->lease_expires_at), arg_time(now),
								  arg_time(task->check_at),
								  arg_int4_or_null(task->queue_slot < 0, task->queue_slot)));
	coord_queue_claimed_from(task->queue);
	store_run(&insert, STORE_ARGS(arg_time(task->check_at), arg_uuid(&task->id), arg_uuid(task->agent_id)));
	coord_due_at(JOB_CLAIMS, task->check_at);
}

/* Write a claim's new expiry and, unless NULL, its progress. */
void
store_claim_renew(const TaskRow *task, Jsonb *progress)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET lease_expires_at = $2, progress = coalesce($3, progress)"
	" WHERE id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(task->lease_expires_at), arg_jsonb(progress)));
}

/* Write when the sweep must look at a claim. */
void
store_claim_set_check_at(TaskRow *task, TimestampTz check_at)
{
	static StorePlan deadline = {.sql = "UPDATE coord.claim_deadline SET check_at = $3 WHERE check_at = $1 AND task_id = $2"};
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET check_at = $2 WHERE id = $1"};

	store_run(&deadline, STORE_ARGS(arg_time(task->check_at), arg_uuid(&task->id), arg_time(check_at)));
	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(check_at)));
	task->check_at = check_at;
	coord_due_at(JOB_CLAIMS, check_at);
}

/* ---- the end of a claim, and of a task ---- */

/* Remove the row by which the sweep finds a claim. */
void
store_claim_forget(const TaskRow *task)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.claim_deadline WHERE check_at = $1 AND task_id = $2"};

	store_run(&plan, STORE_ARGS(arg_time(task->check_at), arg_uuid(&task->id)));
}

/* Make a claimed task pending; "error" NULL leaves the last one. */
void
store_task_unclaim(const TaskRow *task, TimestampTz run_at, int attempts, const char *error)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET state = 'pending', run_at = $2, ready_at = $2,"
		" attempts = $3, error = coalesce($4, error), agent_id = NULL, lease_id = NULL, claimed_key = NULL,"
		" fencing_token = NULL, lease_ttl = NULL, lease_expires_at = NULL, claimed_at = NULL,"
	" check_at = NULL, queue_slot = NULL WHERE id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(run_at), arg_int4(attempts), arg_text(error)));
	coord_queue_ready(task->queue, run_at);
}

#define MOVE_TO(relation, state, result, error) \
	"WITH gone AS (DELETE FROM coord.task_live WHERE id = $1 RETURNING *) " \
	"INSERT INTO " relation " (" FINISHED_COLUMNS ") " \
	"SELECT id, queue, type, payload, priority, '" state "', run_at, attempts, max_attempts, agent_id, lease_id," \
	" fencing_token, NULL, coalesce(claimed_key, resource_key), unique_key, depends_on, progress, " result ", " error "," \
	" created_at, claimed_at, $2 FROM gone"

void
store_task_complete(const TaskRow *task, Jsonb *result, TimestampTz now)
{
	static StorePlan plan = {.sql = MOVE_TO("coord.task_finished", "completed", "$3", "NULL")};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(now), arg_jsonb(result)));
}

void
store_task_cancel(const TaskRow *task, const char *error, TimestampTz now)
{
	static StorePlan plan = {.sql = MOVE_TO("coord.task_finished", "cancelled", "NULL", "coalesce($3, error)")};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(now), arg_text(error)));
}

/* Make a task a dead letter. */
void
store_task_bury(const TaskRow *task, const char *error, TimestampTz now)
{
	static StorePlan plan = {.sql = MOVE_TO("coord.task_dead", "dead", "NULL", "coalesce($3, error)")};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(now), arg_text(error)));
}

/* The unfinished task that has the unique key of a dead letter; NULL when there is none. */
pg_uuid_t *
store_task_after_dead(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT t.id FROM coord.task_dead d JOIN coord.task_live t"
	" ON t.queue = d.queue AND t.unique_key = d.unique_key WHERE d.id = $1"};

	return store_run(&plan, STORE_ARGS(arg_uuid(id))) ? store_uuid(0, 1) : NULL;
}

/*
 * Dead letters, locked: one, or those of a queue, or all; those that are locked
 * already are not among them.
 */
DeadLetter *
store_dead_letters(const pg_uuid_t *id, const char *queue, int *n)
{
#define DEAD_LETTERS(filter) \
	"SELECT id, queue, unique_key FROM coord.task_dead WHERE " filter \
	" AND ($1 IS NULL OR id = $1) AND ($2 IS NULL OR queue = $2) ORDER BY finished_at, id FOR UPDATE SKIP LOCKED"
	static StorePlan one = {.sql = DEAD_LETTERS("id = $1")};
	static StorePlan of_queue = {.sql = DEAD_LETTERS("queue = $2")};
	static StorePlan all = {.sql = DEAD_LETTERS("true")};
	DeadLetter *letters;

	*n = (int) store_run(id != NULL ? &one : queue != NULL ? &of_queue : &all,
						 STORE_ARGS(arg_uuid(id), arg_text(queue)));
	letters = palloc_extended(sizeof(DeadLetter) * Max(*n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < *n; i++)
	{
		letters[i].id = *store_uuid(i, 1);
		letters[i].queue = store_text(i, 2);
		letters[i].unique_key = store_text(i, 3);
	}
	return letters;
}

/* Make a locked dead letter pending, with no attempts. */
void
store_redrive(const DeadLetter *letter, TimestampTz now)
{
	static StorePlan plan = {.sql = "WITH dead AS (DELETE FROM coord.task_dead WHERE id = $1 RETURNING *) "
		"INSERT INTO coord.task_live (id, seq, queue, type, payload, priority, state, run_at, ready_at,"
		" attempts, max_attempts, resource_key, unique_key, depends_on, created_at, error)"
		" SELECT id, nextval('coord.task_seq'), queue, type, payload, priority, 'pending', $2, $2,"
	" 0, max_attempts, resource_key, unique_key, depends_on, created_at, error FROM dead"};

	store_run(&plan, STORE_ARGS(arg_uuid(&letter->id), arg_time(now)));
	coord_queue_ready(letter->queue, now);
}

/* ---- what the sweep looks for ---- */

/*
 * Claimed tasks that must be looked at, locked, of one queue or of all; those
 * that are locked already are not among them.
 */
UuidList
store_claims_due(const char *queue, TimestampTz now, int limit)
{
#define CLAIMS_DUE(filter) \
	"SELECT t.id FROM coord.claim_deadline c JOIN coord.task_live t ON t.id = c.task_id" \
	" WHERE c.check_at <= $1 AND NOT (c.task_id = ANY ($4)) AND " filter " ORDER BY c.check_at, c.task_id LIMIT $3" \
	" FOR NO KEY UPDATE OF t SKIP LOCKED"
	static StorePlan in_queue = {.sql = CLAIMS_DUE("t.queue = $2")};
	static StorePlan in_all = {.sql = CLAIMS_DUE("$2 IS NULL")};

	store_run(queue != NULL ? &in_queue : &in_all,
			  STORE_ARGS(arg_time(now), arg_text(queue), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

/* The tasks that an agent has claimed. */
UuidList
store_claims_of(const pg_uuid_t *agent_id, int limit)
{
	static StorePlan plan = {.sql = "SELECT task_id FROM coord.claim_deadline WHERE agent_id = $1"
	" AND NOT (task_id = ANY ($3)) LIMIT $2"};

	store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

/* The tasks that agents which have ended have claimed.  It reads all claims. */
UuidList
store_orphaned_claims(int limit)
{
	static StorePlan plan = {.sql = "SELECT c.task_id FROM coord.claim_deadline c"
		" JOIN coord.agent_data a ON a.id = c.agent_id"
		" WHERE (a.inactive_since IS NOT NULL OR a.retired_at IS NOT NULL) AND NOT (c.task_id = ANY ($1))"
	" ORDER BY c.check_at LIMIT $2"};

	store_run(&plan, STORE_ARGS(arg_set_aside(), arg_int4(limit)));
	return store_uuids();
}

/* The earliest instant at which the sweep must look at a claim; DT_NOEND when there is none. */
TimestampTz
store_claims_next_due(void)
{
	static StorePlan plan = {.sql = "SELECT check_at FROM coord.claim_deadline"
	" WHERE NOT (task_id = ANY ($1)) ORDER BY check_at, task_id LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_set_aside())) ? store_time(0, 1, DT_NOEND) : DT_NOEND;
}

/* ---- dependencies ---- */

void
store_dependency_insert(const pg_uuid_t *task_id, const pg_uuid_t *depends_on)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.task_dependency (task_id, depends_on) VALUES ($1, $2)"
	" ON CONFLICT DO NOTHING"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id), arg_uuid(depends_on)));
}

/*
 * What waits for a task.  A dependant that was created after the transaction's
 * snapshot must be among them: whoever created it could not see that the task
 * would be finished here.
 */
UuidList
store_dependants(const pg_uuid_t *depends_on)
{
	static StorePlan plan = {.sql = "SELECT task_id FROM coord.task_dependency WHERE depends_on = $1 ORDER BY task_id"};

	store_run_latest(&plan, STORE_ARGS(arg_uuid(depends_on)));
	return store_uuids();
}

/* What a task waits for still. */
UuidList
store_dependencies(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "SELECT depends_on FROM coord.task_dependency WHERE task_id = $1 ORDER BY depends_on"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
	return store_uuids();
}

/* A locked task does not wait for that one any more. */
void
store_dependency_drop(const pg_uuid_t *task_id, const pg_uuid_t *depends_on)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.task_dependency WHERE depends_on = $2 AND task_id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id), arg_uuid(depends_on)));
}

/* A locked task waits for nothing any more. */
void
store_dependencies_forget(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.task_dependency WHERE task_id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
}

void
store_task_unblock(const TaskRow *task)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET state = 'pending', ready_at = run_at"
	" WHERE id = $1 AND state = 'blocked'"};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id)));
	coord_queue_ready(task->queue, task->run_at);
}

/* Have the sweep look at what a blocked task waits for. */
void
store_check_insert(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.dependency_check (task_id) VALUES ($1)"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
	coord_due_at(JOB_CHECKS, COORD_DUE_NOW);
}

/* Tasks that have a check, in the order of their ids, after that one. */
UuidList
store_checks(const pg_uuid_t *after, int limit)
{
	static StorePlan plan = {.sql = "SELECT DISTINCT task_id FROM coord.dependency_check WHERE task_id > $1"
	" AND NOT (task_id = ANY ($3)) ORDER BY task_id LIMIT $2"};

	store_run(&plan, STORE_ARGS(arg_uuid(after), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

void
store_check_done(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.dependency_check WHERE ctid = ANY (ARRAY("
	" SELECT ctid FROM coord.dependency_check WHERE task_id = $1 FOR UPDATE SKIP LOCKED))"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
}
