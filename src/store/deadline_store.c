/*
 * deadline_store.c
 *		When the sweep must look at which claim: coord.claim_deadline and
 *		coord.claim_batch.
 *
 * A claim of one task has a row in claim_deadline from the transaction that makes it to
 * the one that ends it, and its check_at in the task's row.  What one call has claimed
 * together has one row in claim_batch instead, and no check_at in the tasks' rows: a row
 * for each would be most of what such a claim writes, and nearly always for nothing,
 * since few claims live until somebody must look at them.
 *
 * So the end of a claim leaves its batch alone.  A batch that has come due is looked
 * through: what is still claimed and has no check_at gets a row of its own, or is given
 * back, and when nothing like that is left in it the batch is deleted.  It may name a
 * task that a later call has claimed again; that one then gets a row of its own, too.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/deadline_store.h"
#include "store/live_task.h"
#include "store/rows.h"
#include "store/store.h"
#include "worker/shared.h"
#include "worker/wakeup.h"

/* the columns of claim_deadline, and of claim_batch */
enum
{
	DEADLINE_CHECK_AT = 1, DEADLINE_TASK_ID, DEADLINE_AGENT_ID
};
enum
{
	BATCH_CHECK_AT = 1, BATCH_AGENT_ID, BATCH_TASK_IDS
};

/*
 * Whatever the planner believes of these relations, which grow from nothing to millions
 * under a kept plan, tasks are looked up one by one from the few that are asked for: a
 * LATERAL subquery that is not flattened leaves it no other way.
 */
#define LOOK_UP(id, filter) \
	" CROSS JOIN LATERAL (SELECT t.id FROM coord.task_live t WHERE t.id = " id filter " OFFSET 0) t"
#define LOOK_UP_AND_LOCK(id, filter) \
	" CROSS JOIN LATERAL (SELECT t.id FROM coord.task_live t WHERE t.id = " id filter " FOR NO KEY UPDATE SKIP LOCKED) t"

/* the tasks that a batch still speaks for */
#define MEMBERS(batch) "unnest(" batch ".task_ids) m (id)"
#define CLAIMED " AND t.state = 'claimed' AND t.check_at IS NULL"
#define CLAIMED_OF(batch) MEMBERS(batch) LOOK_UP("m.id", CLAIMED)

/* a due batch that speaks for nothing any more is deleted with up to so many others */
#define DELETE_LIMIT "1000"

/* ---- writing ---- */

/* Have the sweep look at a claim when its row says so. */
void
store_deadline_insert(const TaskRow *task)
{
	RowsTable  *table = rows_open("claim_deadline", RowExclusiveLock);
	StoredRow	row;

	memset(row.nulls, false, sizeof(row.nulls));
	rows_set(&row, DEADLINE_CHECK_AT, TimestampTzGetDatum(task->check_at));
	rows_set(&row, DEADLINE_TASK_ID, UUIDPGetDatum(&task->id));
	rows_set(&row, DEADLINE_AGENT_ID, UUIDPGetDatum(task->agent_id));
	rows_insert(table, &row);
	rows_remember(table, &task->id, &row.place);
	coord_due_at(JOB_CLAIMS, task->check_at);
}

/* The same for claims that an agent has made together, and whose rows have no check_at. */
void
store_deadline_insert_batch(const pg_uuid_t *agent_id, const UuidList *tasks, TimestampTz check_at)
{
	RowsTable  *table = rows_open("claim_batch", RowExclusiveLock);
	StoredRow	row;

	memset(row.nulls, false, sizeof(row.nulls));
	rows_set(&row, BATCH_CHECK_AT, TimestampTzGetDatum(check_at));
	rows_set(&row, BATCH_AGENT_ID, UUIDPGetDatum(agent_id));
	rows_set_arg(&row, BATCH_TASK_IDS, arg_uuids(tasks));
	rows_insert(table, &row);
	coord_due_at(JOB_CLAIMS, check_at);
}

/* Have the sweep look at another instant, which the caller writes into the task's row. */
void
store_deadline_move(TaskRow *task, TimestampTz check_at)
{
	static StorePlan plan = {.sql = "UPDATE coord.claim_deadline SET check_at = $3 WHERE check_at = $1 AND task_id = $2"};
	bool		in_batch = task->check_at == DT_NOEND;

	if (!in_batch)
		store_run(&plan, STORE_ARGS(arg_time(task->check_at), arg_uuid(&task->id), arg_time(check_at)));
	task->check_at = check_at;
	if (in_batch)
		store_deadline_insert(task);
	else
		coord_due_at(JOB_CLAIMS, check_at);
}

/* The same, and write it into the task's row. */
void
store_deadline_of_claim(TaskRow *task, TimestampTz check_at)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_live SET check_at = $2 WHERE id = $1"};

	store_deadline_move(task, check_at);
	store_run(&plan, STORE_ARGS(arg_uuid(&task->id), arg_time(check_at)));
}

/* A claim is over. */
void
store_deadline_delete(const TaskRow *task)
{
	RowsTable  *table;
	ScanKeyData keys[2];
	StoredRow	row;

	if (task->check_at == DT_NOEND)
		return;					/* it is in a batch */
	table = rows_open("claim_deadline", RowExclusiveLock);
	rows_key_time(&keys[0], 1, task->check_at);
	rows_key_uuid(&keys[1], 2, &task->id);
	if (rows_find_remembered(table, DEADLINE_TASK_ID, &task->id, &row) ||
		rows_find(table, "claim_deadline_check_at", 2, keys, NULL, &row))
		(void) rows_delete(table, &row.place, true);
}

/* ---- what the sweep looks for ---- */

/* Delete batches that have come due and speak for nothing any more. */
static void
delete_batches_due(TimestampTz now)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.claim_batch WHERE ctid = ANY (ARRAY("
		" SELECT b.ctid FROM coord.claim_batch b WHERE b.check_at <= $1 AND NOT EXISTS (SELECT FROM " CLAIMED_OF("b") ")"
	" ORDER BY b.check_at LIMIT " DELETE_LIMIT " FOR UPDATE SKIP LOCKED))"};

	store_run(&plan, STORE_ARGS(arg_time(now)));
}

/*
 * Claimed tasks that must be looked at, locked, of one queue or of all; those that are
 * locked already are not among them.  "reach" is how many of those that have a deadline of
 * their own, and of those in batches, are read at most, of whatever queue.
 */
UuidList
store_claims_due(const char *queue, TimestampTz now, int limit, int reach)
{
#define CLAIMS_DUE(filter) \
	"SELECT t.id FROM (SELECT task_id FROM coord.claim_deadline WHERE check_at <= $1 AND NOT (task_id = ANY ($4))" \
	"  ORDER BY check_at, task_id LIMIT $5) c" LOOK_UP_AND_LOCK("c.task_id", " AND " filter) " LIMIT $3"
#define BATCHES_DUE(filter) \
	"SELECT t.id FROM (SELECT m.id FROM" \
	"  (SELECT task_ids FROM coord.claim_batch WHERE check_at <= $1 ORDER BY check_at OFFSET 0) b, " MEMBERS("b") \
	"  LIMIT $5) m" LOOK_UP_AND_LOCK("m.id", CLAIMED " AND NOT (t.id = ANY ($4)) AND " filter) " LIMIT $3"
	static StorePlan in_queue = {.sql = CLAIMS_DUE("t.queue = $2")};
	static StorePlan in_all = {.sql = CLAIMS_DUE("$2 IS NULL")};
	static StorePlan batches_in_queue = {.sql = BATCHES_DUE("t.queue = $2")};
	static StorePlan batches_in_all = {.sql = BATCHES_DUE("$2 IS NULL")};
	ScanKeyData key;
	UuidList	due;
	UuidList	of_batches;

	store_run(queue != NULL ? &in_queue : &in_all,
			  STORE_ARGS(arg_time(now), arg_text(queue), arg_int4(limit), arg_set_aside(), arg_int4(reach)));
	due = store_uuids();

	ScanKeyInit(&key, BATCH_CHECK_AT, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(now));
	if (due.n == limit || !rows_exist("claim_batch", "claim_batch_check_at", 1, &key, NULL))
		return due;
	/* a claimant does it where nobody else may, unless it can meet a conflict that is not its own */
	if (queue == NULL || (!coord_is_preloaded() && !IsolationUsesXactSnapshot()))
		delete_batches_due(now);
	store_run(queue != NULL ? &batches_in_queue : &batches_in_all,
			  STORE_ARGS(arg_time(now), arg_text(queue), arg_int4(limit - due.n), arg_set_aside(), arg_int4(reach)));
	of_batches = store_uuids();
	if (due.n == 0)
		return of_batches;
	due.ids = repalloc(due.ids, sizeof(pg_uuid_t) * (due.n + of_batches.n));
	memcpy(&due.ids[due.n], of_batches.ids, sizeof(pg_uuid_t) * of_batches.n);
	due.n += of_batches.n;
	return due;
}

static StorePlan claims_of = {.sql = "SELECT task_id FROM coord.claim_deadline WHERE agent_id = $1"
	" AND NOT (task_id = ANY ($3)) UNION ALL"
	" SELECT t.id FROM coord.claim_batch b, " MEMBERS("b")
	LOOK_UP("m.id", CLAIMED " AND t.agent_id = $1 AND NOT (t.id = ANY ($3))")
" WHERE b.agent_id = $1 LIMIT $2"};

/* The tasks that an agent has claimed. */
UuidList
store_claims_of(const pg_uuid_t *agent_id, int limit)
{
	store_run(&claims_of, STORE_ARGS(arg_uuid(agent_id), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

/* The same as it is now, whatever the transaction's snapshot is. */
UuidList
store_claims_of_now(const pg_uuid_t *agent_id, int limit)
{
	store_run_latest(&claims_of, STORE_ARGS(arg_uuid(agent_id), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

/* Whether the next claimant after an id has claims in that relation, and who it is. */
static bool
next_claimant(const char *relation, const char *index, int column, const pg_uuid_t *after, Snapshot snapshot, pg_uuid_t *next)
{
	RowsTable  *table = rows_open(relation, AccessShareLock);
	ScanKeyData key;
	StoredRow	row;

	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_UUID_GT, UUIDPGetDatum(after));
	if (!rows_find(table, index, 1, &key, snapshot, &row))
		return false;
	*next = *rows_uuid(&row, column);
	return true;
}

/*
 * The next agents that have claims after an id, "limit" at most, in the order of their ids.  An
 * agent costs a step in each index, however many claims it has.
 */
static UuidList
claimants(const pg_uuid_t *after, int limit)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	UuidList	found = {0, palloc(sizeof(pg_uuid_t) * limit)};
	pg_uuid_t	by_deadline;
	pg_uuid_t	by_batch;
	bool		has_deadline;
	bool		has_batch;

	has_deadline = next_claimant("claim_deadline", "claim_deadline_agent_id", DEADLINE_AGENT_ID, after, snapshot, &by_deadline);
	has_batch = next_claimant("claim_batch", "claim_batch_agent_id", BATCH_AGENT_ID, after, snapshot, &by_batch);
	while (found.n < limit && (has_deadline || has_batch))
	{
		int			order = !has_batch ? -1 : !has_deadline ? 1 : memcmp(&by_deadline, &by_batch, sizeof(pg_uuid_t));

		after = &found.ids[found.n];
		found.ids[found.n++] = order <= 0 ? by_deadline : by_batch;
		if (order <= 0)
			has_deadline = next_claimant("claim_deadline", "claim_deadline_agent_id", DEADLINE_AGENT_ID, after, snapshot, &by_deadline);
		if (order >= 0)
			has_batch = next_claimant("claim_batch", "claim_batch_agent_id", BATCH_AGENT_ID, after, snapshot, &by_batch);
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Those of the next "limit" agents with claims that have ended, in the order of their ids, but
 * for those that the sweep comes to by their own check_at until an instant.  "after", from which
 * they are the next, is moved on; *all says whether those were the last.
 */
UuidList
store_claimants_ended(pg_uuid_t *after, int limit, TimestampTz until, bool *all)
{
	static StorePlan plan = {.sql = "SELECT c.id FROM unnest($1) c (id)"
		" CROSS JOIN LATERAL (SELECT FROM coord.agent_data a WHERE a.id = c.id"
		"  AND (a.inactive_since IS NOT NULL OR a.retired_at IS NOT NULL) AND (a.check_at <= $2) IS NOT TRUE"
	"  OFFSET 0) ended ORDER BY c.id"};
	UuidList	next = claimants(after, limit);

	*all = next.n < limit;
	if (next.n > 0)
		*after = next.ids[next.n - 1];
	store_run(&plan, STORE_ARGS(arg_uuids(&next), arg_time(until)));
	return store_uuids();
}

/*
 * The earliest instant at which the sweep must look at a claim; DT_NOEND when there is
 * none.  Of batches that have a task which was set aside, the others count.
 */
TimestampTz
store_claims_next_due(void)
{
	static StorePlan plan = {.sql = "SELECT least("
		"(SELECT check_at FROM coord.claim_deadline"
		" WHERE NOT (task_id = ANY ($1)) ORDER BY check_at, task_id LIMIT 1),"
		"(SELECT b.check_at FROM coord.claim_batch b WHERE NOT (b.task_ids && $1)"
		" OR EXISTS (SELECT FROM " CLAIMED_OF("b") " WHERE NOT (t.id = ANY ($1)))"
	" ORDER BY b.check_at LIMIT 1))"};

	store_run(&plan, STORE_ARGS(arg_set_aside()));
	return store_time(0, 1, DT_NOEND);
}
