/*
 * task_store.c
 *		Stored tasks: coord.task_live and what belongs to it.
 *
 * A claim updates its task's row, none of whose changed columns is in an index; how
 * the sweep finds it is in deadline_store.c.  A task that has finished leaves task_live
 * for task_finished or task_dead.
 *
 * Creating, claiming, renewing and completing reach rows directly (rows.h); what is
 * rarer runs statements.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "errors.h"
#include "store/deadline_store.h"
#include "store/finished_store.h"
#include "store/live_task.h"
#include "store/rows.h"
#include "store/store.h"
#include "store/task_store.h"
#include "worker/wakeup.h"

/* the columns of coord.task */
enum
{
	TASK_ID = 1, TASK_QUEUE, TASK_TYPE, TASK_PAYLOAD, TASK_PRIORITY, TASK_STATE, TASK_RUN_AT, TASK_ATTEMPTS,
	TASK_MAX_ATTEMPTS, TASK_AGENT_ID, TASK_LEASE_ID, TASK_FENCING_TOKEN, TASK_LEASE_EXPIRES_AT,
	TASK_RESOURCE_KEY, TASK_UNIQUE_KEY, TASK_DEPENDS_ON, TASK_PROGRESS, TASK_RESULT, TASK_ERROR,
	TASK_CREATED_AT, TASK_CLAIMED_AT, TASK_FINISHED_AT
};

/* Read what is in a task's row. */
void
store_read_task(TaskRow *task)
{
	const StoredRow *row = &task->row;

	task->id = *rows_uuid(row, LIVE_ID);
	task->queue = rows_text(row, LIVE_QUEUE);
	task->state = rows_text(row, LIVE_STATE);
	task->run_at = rows_time(row, LIVE_RUN_AT, 0);
	task->attempts = rows_int4(row, LIVE_ATTEMPTS, 0);
	task->max_attempts = rows_int4(row, LIVE_MAX_ATTEMPTS, 0);
	task->resource_key = rows_text_or_null(row, LIVE_RESOURCE_KEY);
	task->agent_id = rows_uuid_or_null(row, LIVE_AGENT_ID);
	task->lease_id = rows_uuid_or_null(row, LIVE_LEASE_ID);
	task->claimed_key = rows_text_or_null(row, LIVE_CLAIMED_KEY);
	task->fencing_token = rows_int8(row, LIVE_FENCING_TOKEN, 0);
	task->lease_ttl = rows_interval(row, LIVE_LEASE_TTL, 0);
	task->lease_expires_at = rows_time(row, LIVE_LEASE_EXPIRES_AT, DT_NOEND);
	task->check_at = rows_time(row, LIVE_CHECK_AT, DT_NOEND);
	task->queue_slot = rows_int4(row, LIVE_QUEUE_SLOT, -1);
}

/* When the transaction commits, tell that a task is claimable from its ready_at on. */
void
store_announce_task(const StoredRow *row)
{
	ReadyTask	candidate = {
		.place = row->place,
		.priority = rows_int4(row, LIVE_PRIORITY, 0),
		.position = {rows_time(row, LIVE_READY_AT, 0), rows_int8(row, LIVE_SEQ, 0)},
	};

	coord_task_ready(rows_text(row, LIVE_QUEUE), &candidate);
}

/* A row of task_live as coord.task shows it, when what it says is true. */
static void
as_users_see(const StoredRow *live, StoredRow *row)
{
	static const int columns[] = {
		LIVE_ID, LIVE_QUEUE, LIVE_TYPE, LIVE_PAYLOAD, LIVE_PRIORITY, LIVE_STATE, LIVE_RUN_AT, LIVE_ATTEMPTS,
		LIVE_MAX_ATTEMPTS, LIVE_AGENT_ID, LIVE_LEASE_ID, LIVE_FENCING_TOKEN, LIVE_LEASE_EXPIRES_AT,
		LIVE_RESOURCE_KEY, LIVE_UNIQUE_KEY, LIVE_DEPENDS_ON, LIVE_PROGRESS, 0, LIVE_ERROR,
		LIVE_CREATED_AT, LIVE_CLAIMED_AT, 0
	};

	rows_project(row, live, lengthof(columns), columns);
	if (!live->nulls[LIVE_CLAIMED_KEY - 1])
		rows_set(row, TASK_RESOURCE_KEY, live->values[LIVE_CLAIMED_KEY - 1]);
}

/* ---- creating and reading ---- */

/* The row of a new task, and its place in the sequence of ages. */
static void
fill_new(const TaskSpec *spec, bool blocked, TimestampTz now, StoredRow *row)
{
	memset(row->nulls, true, sizeof(row->nulls));
	rows_set(row, LIVE_ID, UUIDPGetDatum(&spec->id));
	rows_set(row, LIVE_SEQ, Int64GetDatum(nextval_internal(
		get_relname_relid("task_seq", get_namespace_oid("coord", false)), false)));
	rows_set_arg(row, LIVE_QUEUE, arg_text(spec->queue));
	rows_set_arg(row, LIVE_TYPE, arg_text(spec->type));
	rows_set_arg(row, LIVE_PAYLOAD, arg_jsonb(spec->payload));
	rows_set(row, LIVE_PRIORITY, Int32GetDatum(spec->priority));
	rows_set_arg(row, LIVE_STATE, arg_text(blocked ? "blocked" : "pending"));
	rows_set(row, LIVE_RUN_AT, TimestampTzGetDatum(spec->run_at));
	rows_set(row, LIVE_READY_AT, TimestampTzGetDatum(blocked ? DT_NOEND : spec->run_at));
	rows_set(row, LIVE_ATTEMPTS, Int32GetDatum(0));
	rows_set(row, LIVE_MAX_ATTEMPTS, Int32GetDatum(spec->max_attempts));
	rows_set_arg(row, LIVE_RESOURCE_KEY, arg_text(spec->resource_key));
	rows_set_arg(row, LIVE_UNIQUE_KEY, arg_text(spec->unique_key));
	if (spec->depends_on.n > 0)
		rows_set_arg(row, LIVE_DEPENDS_ON, arg_uuids(&spec->depends_on));
	rows_set(row, LIVE_CREATED_AT, TimestampTzGetDatum(now));
}

/* Add a task; returns it as users see it. */
Datum
store_task_insert(const TaskSpec *spec, bool blocked, TimestampTz now)
{
	RowsTable  *table = rows_open("task_live", RowExclusiveLock);
	StoredRow	row;
	StoredRow	result;

	fill_new(spec, blocked, now, &row);
	rows_insert(table, &row);
	coord_created_task();
	if (!blocked)
		store_announce_task(&row);
	as_users_see(&row, &result);
	return rows_as_result("task", &result);
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

#define STATE_OF_TASK "SELECT state FROM coord.task_all WHERE id = $1"

/*
 * A task's state as users see it; NULL when there is no such task.  Until the end of the
 * transaction no partition of finished tasks is emptied: who goes by the state of a task may
 * write what waits for it.
 */
char *
store_task_state(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = STATE_OF_TASK};

	return store_run(&plan, STORE_ARGS(arg_uuid(id))) ? store_text(0, 1) : NULL;
}

/* The same for who writes nothing of that kind; it is quicker for what is pending or blocked. */
char *
store_task_state_at_a_glance(const pg_uuid_t *id)
{
	ScanKeyData key;
	StoredRow	row;

	rows_key_uuid(&key, 1, id);
	if (rows_find(rows_open("task_live", AccessShareLock), "task_live_pkey", 1, &key, NULL, &row))
	{
		char	   *state = rows_text(&row, LIVE_STATE);

		if (strcmp(state, "claimed") != 0)	/* which may be over by now */
			return state;
	}
	return store_task_state(id);
}

/* The same as it is now, whatever the transaction's snapshot is. */
char *
store_task_state_now(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = STATE_OF_TASK};

	return store_run_latest(&plan, STORE_ARGS(arg_uuid(id))) ? store_text(0, 1) : NULL;
}

/* Whether a task is stored as dead: what is so by the clock alone may be undone by an open transaction. */
bool
store_task_is_buried(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT 1 FROM coord.task_dead WHERE id = $1"};

	return store_run(&plan, STORE_ARGS(arg_uuid(id))) > 0;
}

static StorePlan queue_of_task = {.sql = "SELECT queue FROM coord.task_live WHERE id = $1"
	" UNION ALL SELECT queue FROM coord.task_finished WHERE id = $1"
" UNION ALL SELECT queue FROM coord.task_dead WHERE id = $1"};

/* Its queue. */
char *
store_task_queue(const pg_uuid_t *id)
{
	return store_run(&queue_of_task, STORE_ARGS(arg_uuid(id))) ? store_text(0, 1) : NULL;
}

/* The same, also of one that was created since the transaction's snapshot. */
char *
store_task_queue_now(const pg_uuid_t *id)
{
	if (store_run_latest(&queue_of_task, STORE_ARGS(arg_uuid(id))))
		return store_text(0, 1);
	return store_task_queue(id);
}

/*
 * A task is locked.  While it is, others pass it over if it is pending, and whatever
 * comes of this transaction, it may be so afterwards.
 */
static void
note_locked(TaskRow *task)
{
	task->locked = true;
	if (strcmp(task->state, "pending") == 0)
		coord_task_locked(task->queue);
	else if (strcmp(task->state, "blocked") == 0)
		coord_finished_task();	/* who finds it locked leaves it to the sweep, which looks when it is not any more */
}

static TaskRow *
find_task(const pg_uuid_t *id, StoreLock lock, LockTupleMode mode)
{
	RowsTable  *table = rows_open("task_live", lock == STORE_NO_LOCK ? AccessShareLock : RowExclusiveLock);
	TaskRow    *task = palloc(sizeof(TaskRow));
	ScanKeyData key;
	bool		found;

	rows_key_uuid(&key, 1, id);
	found = (rows_find_remembered(table, LIVE_ID, id, &task->row) ||
			 rows_find(table, "task_live_pkey", 1, &key, NULL, &task->row)) &&
		(lock == STORE_NO_LOCK ||
		 rows_lock(table, &task->row, mode, lock == STORE_LOCK_WAIT ? LockWaitBlock : LockWaitSkip, true) == STORE_ROW_LOCKED);
	if (!found)
		return NULL;
	store_read_task(task);
	task->locked = false;
	if (lock != STORE_NO_LOCK)
		note_locked(task);
	return task;
}

/*
 * A task that has not finished, locked so that its claim can change; NULL when
 * there is none, or when it is locked and to be skipped.
 */
TaskRow *
store_task(const pg_uuid_t *id, StoreLock lock)
{
	return find_task(id, lock, LockTupleNoKeyExclusive);
}

/* The same, locked so that it can leave task_live. */
TaskRow *
store_task_to_finish(const pg_uuid_t *id, StoreLock lock)
{
	return find_task(id, lock, LockTupleExclusive);
}

/*
 * The agent that has claimed a task with a token, whatever the transaction's snapshot is;
 * NULL when that is not so, or has run out by itself.
 */
pg_uuid_t *
store_claimant_now(const pg_uuid_t *id, int64 fencing_token, TimestampTz now)
{
	static StorePlan plan = {.sql = "SELECT agent_id FROM coord.task_live"
	" WHERE id = $1 AND state = 'claimed' AND fencing_token = $2 AND lease_expires_at > $3"};

	return store_run_latest(&plan, STORE_ARGS(arg_uuid(id), arg_int8(fencing_token), arg_time(now))) > 0 ?
		store_uuid(0, 1) : NULL;
}

/* Whether a task is claimed with that lease, by now. */
bool
store_task_is_claimed_with(const pg_uuid_t *id, const pg_uuid_t *lease_id)
{
	RowsTable  *table = rows_open("task_live", AccessShareLock);
	StoredRow	row;
	ScanKeyData key;
	pg_uuid_t  *claimed_with;

	rows_key_uuid(&key, 1, id);
	if (!rows_find(table, "task_live_pkey", 1, &key, GetLatestSnapshot(), &row))
		return false;
	claimed_with = rows_uuid_or_null(&row, LIVE_LEASE_ID);
	return claimed_with != NULL && memcmp(claimed_with, lease_id, sizeof(pg_uuid_t)) == 0;
}

/* Whether a task was completed by the holder of that token; if so, in which queue, and by whom (NULL: it is gone). */
bool
store_task_completed_with(const pg_uuid_t *id, int64 fencing_token, char **queue, pg_uuid_t **agent_id)
{
	static StorePlan plan = {.sql = "SELECT queue,"
		" (SELECT a.id FROM coord.agent_data a WHERE a.id = agent_id AND a.registered_at <= claimed_at)"
	" FROM coord.task_finished WHERE id = $1 AND state = 'completed' AND fencing_token = $2"};

	if (store_run(&plan, STORE_ARGS(arg_uuid(id), arg_int8(fencing_token))) == 0)
		return false;
	*queue = store_text(0, 1);
	*agent_id = store_uuid(0, 2);
	return true;
}

/* The task as users see it, and its state; 0 when there is no such task. */
Datum
store_task_find_result(const pg_uuid_t *id, char **state)
{
	static StorePlan plan = {.sql = "SELECT t.state, ROW(t.*)::coord.task FROM coord.task_all t WHERE t.id = $1"};
	bool		isnull;

	if (store_run(&plan, STORE_ARGS(arg_uuid(id))) == 0)
		return (Datum) 0;
	*state = store_text(0, 1);
	return store_value(0, 2, &isnull);
}

/* The same.  A finished one may have been purged: that is an error, as it would be a moment later. */
Datum
store_task_result(const pg_uuid_t *id)
{
	char	   *state;
	Datum		row = store_task_find_result(id, &state);

	if (row == (Datum) 0)
		coord_error_no_task(id);
	return row;
}

/* The same, of a row that this transaction has just written. */
Datum
store_task_as_result(const TaskRow *task)
{
	StoredRow	row;

	as_users_see(&task->row, &row);
	return rows_as_result("task", &row);
}

/* ---- claiming ---- */

/* Whether another transaction has locked a task that was read. */
bool
store_task_is_locked(const TaskRow *task)
{
	return rows_is_locked(rows_open("task_live", AccessShareLock), &task->row.place);
}

/* Lock a task where it was read, without waiting. */
StoreRowState
store_task_lock(TaskRow *task)
{
	RowsTable  *table = rows_open("task_live", RowExclusiveLock);
	StoreRowState state = rows_lock(table, &task->row, LockTupleNoKeyExclusive, LockWaitSkip, false);

	task->locked = false;
	if (state == STORE_ROW_LOCKED)
		note_locked(task);
	return state;
}

/*
 * Write the claim that is in a pending task's row.  This is the step at which one of
 * those who want the task gets it: when the row is not locked by this transaction, and
 * is not as it was read or another one is at it, nothing is written.
 */
StoreRowState
store_task_claim(TaskRow *task, TimestampTz now)
{
	RowsTable  *table = rows_open("task_live", RowExclusiveLock);
	StoredRow  *row = &task->row;
	StoreRowState state;

	task->state = "claimed";
	rows_set_arg(row, LIVE_STATE, arg_text(task->state));
	rows_set(row, LIVE_ATTEMPTS, Int32GetDatum(task->attempts));
	rows_set_arg(row, LIVE_AGENT_ID, arg_uuid(task->agent_id));
	rows_set_arg(row, LIVE_LEASE_ID, arg_uuid(task->lease_id));
	rows_set_arg(row, LIVE_CLAIMED_KEY, arg_text(task->claimed_key));
	rows_set(row, LIVE_FENCING_TOKEN, Int64GetDatum(task->fencing_token));
	rows_set_arg(row, LIVE_LEASE_TTL, arg_interval(task->lease_ttl));
	rows_set(row, LIVE_LEASE_EXPIRES_AT, TimestampTzGetDatum(task->lease_expires_at));
	rows_set(row, LIVE_CLAIMED_AT, TimestampTzGetDatum(now));
	rows_set_arg(row, LIVE_CHECK_AT, arg_time_or_null(task->check_at == DT_NOEND, task->check_at));
	rows_set_arg(row, LIVE_QUEUE_SLOT, arg_int4_or_null(task->queue_slot < 0, task->queue_slot));
	rows_set_null(row, LIVE_PROGRESS);
	state = rows_update(table, row, task->locked);
	if (state == STORE_ROW_BUSY && store_task_lock(task) == STORE_ROW_LOCKED)
		state = rows_update(table, row, true);	/* it was this transaction that had locked it */
	if (state != STORE_ROW_LOCKED)
		return state;
	rows_remember(table, &task->id, &row->place);
	coord_queue_claimed_from(task->queue, task->locked);
	coord_changed_task();
	if (task->check_at != DT_NOEND)
		store_deadline_insert(task);
	return STORE_ROW_LOCKED;
}

/*
 * Write a claim's new expiry, its progress unless NULL, and when the sweep must look at
 * it.  Nothing is written when the row is not as it was read or, unless it is locked,
 * another transaction is at it.
 */
StoreRowState
store_claim_renew(TaskRow *task, Jsonb *progress, TimestampTz check_at)
{
	RowsTable  *table = rows_open("task_live", RowExclusiveLock);
	StoredRow  *row = &task->row;
	StoreRowState state;

	rows_set(row, LIVE_LEASE_EXPIRES_AT, TimestampTzGetDatum(task->lease_expires_at));
	rows_set_arg(row, LIVE_CHECK_AT, arg_time_or_null(check_at == DT_NOEND, check_at));
	if (progress != NULL)
		rows_set_arg(row, LIVE_PROGRESS, arg_jsonb(progress));
	state = rows_update(table, row, task->locked);
	if (state == STORE_ROW_LOCKED && check_at != task->check_at)
		store_deadline_move(task, check_at);
	return state;
}

/* ---- the end of a claim, and of a task ---- */

#define CANDIDATE "ctid, priority, ready_at, seq"

/* The last statement's row says which task has become claimable. */
static void
task_ready(const char *queue)
{
	ReadyTask	candidate = {
		.place = store_place(0, 1),
		.priority = store_int4(0, 2, 0),
		.position = {store_time(0, 3, 0), store_int8(0, 4, 0)},
	};

	coord_task_ready(queue, &candidate);
}

/* Make a claimed task pending; "error" NULL leaves the last one. */
void
store_task_unclaim(const TaskRow *task, TimestampTz run_at, int attempts, const char *error)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET state = 'pending', run_at = $2, ready_at = $2,"
		" attempts = $3, error = coalesce($4, error), agent_id = NULL, lease_id = NULL, claimed_key = NULL,"
		" fencing_token = NULL, lease_ttl = NULL, lease_expires_at = NULL, claimed_at = NULL,"
	" check_at = NULL, queue_slot = NULL WHERE id = $1 RETURNING " CANDIDATE};

	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(run_at), arg_int4(attempts), arg_text(error)));
	task_ready(task->queue);
}

/* Move a task at $2, with $3 as its error; "column" and "value" are for what the relation has besides. */
#define MOVE_TO(relation, state, column, value) \
	"WITH gone AS (DELETE FROM coord.task_live WHERE id = $1 RETURNING *) " \
	"INSERT INTO " relation " (" FINISHED_COLUMNS column ") " \
	"SELECT id, queue, type, payload, priority, '" state "', run_at, attempts, max_attempts, agent_id, lease_id," \
	" fencing_token, NULL, coalesce(claimed_key, resource_key), unique_key, depends_on, progress, NULL," \
	" coalesce($3, error), created_at, claimed_at, $2" value " FROM gone"

/*
 * Take a task out of task_live.  Nothing is done when its row is not as it was read or,
 * unless it is locked, another transaction is at it.
 */
StoreRowState
store_task_take_out(TaskRow *task)
{
	RowsTable  *table = rows_open("task_live", RowExclusiveLock);
	StoreRowState state = rows_delete(table, &task->row.place, task->locked);

	return state;
}

/* Keep a task that was taken out as completed; returns it as users see it. */
Datum
store_task_complete(const TaskRow *task, Jsonb *result, TimestampTz now)
{
	int			partition;
	RowsTable  *table = store_finished_open(task->queue, now, &partition);
	StoredRow	row;

	as_users_see(&task->row, &row);
	rows_set_arg(&row, TASK_STATE, arg_text("completed"));
	rows_set_null(&row, TASK_LEASE_EXPIRES_AT);
	rows_set_null(&row, TASK_ERROR);
	rows_set_arg(&row, TASK_RESULT, arg_jsonb(result));
	rows_set(&row, TASK_FINISHED_AT, TimestampTzGetDatum(now));
	if (partition != FINISHED_UNPARTITIONED)
		rows_set(&row, TASK_FINISHED_AT + 1, Int16GetDatum(partition));
	rows_insert(table, &row);
	return rows_as_result("task", &row);
}

void
store_task_cancel(const TaskRow *task, const char *error, TimestampTz now)
{
	static StorePlan plan = {.sql = MOVE_TO("coord.task_finished", "cancelled", ", partition", ", $4")};
	static StorePlan unpartitioned = {.sql = MOVE_TO("coord.task_finished", "cancelled", "", "")};
	int			partition;

	if (task->locked && strcmp(task->state, "pending") == 0)
		coord_queue_claimed_from(task->queue, true);	/* likewise not there for others, if this is not undone */
	(void) store_finished_open(task->queue, now, &partition);
	if (partition == FINISHED_UNPARTITIONED)
		store_run(&unpartitioned, STORE_ARGS(arg_uuid(&task->id), arg_time(now), arg_text(error)));
	else
		store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(now), arg_text(error), arg_int4(partition)));
}

/* Make a task a dead letter. */
void
store_task_bury(const TaskRow *task, const char *error, TimestampTz now)
{
	static StorePlan plan = {.sql = MOVE_TO("coord.task_dead", "dead", "", "")};

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
	" 0, max_attempts, resource_key, unique_key, depends_on, created_at, error FROM dead RETURNING " CANDIDATE};

	store_run(&plan, STORE_ARGS(arg_uuid(&letter->id), arg_time(now)));
	task_ready(letter->queue);
}

/* Make a locked task that waits for nothing any more pending. */
void
store_task_unblock(const TaskRow *task)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET state = 'pending', ready_at = run_at"
	" WHERE id = $1 AND state = 'blocked' RETURNING " CANDIDATE};

	if (store_run(&plan, STORE_ARGS(arg_uuid(&task->id))) > 0)
		task_ready(task->queue);
}
