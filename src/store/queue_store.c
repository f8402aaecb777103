/*
 * queue_store.c
 *		Stored queues: their settings and slots.
 *
 * A queue that has max_claimed has that many slots, and a claim occupies one:
 * the limit is exact and claimers need not wait for each other to count.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "store/count_store.h"
#include "store/queue_store.h"
#include "store/rows.h"
#include "store/store.h"
#include "worker/wakeup.h"

enum
{
	QUEUE_NAME = 1, QUEUE_PAUSED, QUEUE_MAX_ATTEMPTS, QUEUE_LEASE_TTL, QUEUE_BACKOFF_BASE, QUEUE_BACKOFF_MAX,
	QUEUE_MAX_CLAIMED, QUEUE_RETENTION
};

/* the columns of queue_slot */
enum
{
	SLOT_QUEUE = 1, SLOT_SLOT, SLOT_TASK_ID
};

/* "row" is NULL when there is none */
static QueueRow *
read_queue(const char *name, const StoredRow *row)
{
	QueueRow   *queue = palloc(sizeof(QueueRow));

	/* the defaults are those of queue_data's columns */
	queue->name = pstrdup(name);
	queue->exists = row != NULL;
	queue->paused = row != NULL && rows_bool(row, QUEUE_PAUSED);
	queue->max_attempts = row != NULL ? rows_int4(row, QUEUE_MAX_ATTEMPTS, 0) : 5;
	queue->lease_ttl = row != NULL ? rows_interval(row, QUEUE_LEASE_TTL, -1) : -1;
	queue->backoff_base = row != NULL ? rows_interval(row, QUEUE_BACKOFF_BASE, 0) : USECS_PER_SEC;
	queue->backoff_max = row != NULL ? rows_interval(row, QUEUE_BACKOFF_MAX, 0) : 5 * USECS_PER_MINUTE;
	queue->max_claimed = row != NULL ? rows_int4(row, QUEUE_MAX_CLAIMED, 0) : 0;
	queue->retention = row != NULL ? rows_interval(row, QUEUE_RETENTION, -1) : -1;
	return queue;
}

static QueueRow *
find_queue(const char *name, Snapshot snapshot, bool lock)
{
	RowsTable  *table = rows_open("queue_data", lock ? RowExclusiveLock : AccessShareLock);
	ScanKeyData key;
	StoredRow	row;
	bool		found;

	rows_key_text(&key, 1, name);
	found = rows_find(table, "queue_data_pkey", 1, &key, snapshot, &row) &&
		(!lock || rows_lock(table, &row, LockTupleExclusive, LockWaitSkip, true) == STORE_ROW_LOCKED);
	return read_queue(name, found ? &row : NULL);
}

/* A queue's settings, which are the defaults when none are stored. */
QueueRow *
store_queue(const char *name)
{
	return find_queue(name, NULL, false);
}

/* The same as they are now, whatever the transaction's snapshot is. */
QueueRow *
store_queue_now(const char *name)
{
	return find_queue(name, GetLatestSnapshot(), false);
}

/* The same, locked when they are stored and nobody else has locked them. */
QueueRow *
store_queue_locked(const char *name)
{
	return find_queue(name, NULL, true);
}

/* Whether a queue has tasks that have not finished, or are dead: coord.queue shows it then, stored or not. */
bool
store_queue_has_tasks(const char *name)
{
	static StorePlan plan = {.sql = "SELECT FROM coord.task_live WHERE queue = $1"
	" UNION ALL SELECT FROM coord.task_dead WHERE queue = $1 LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_text(name))) > 0;
}

/* Store a queue with the default settings. */
void
store_queue_insert(const char *name, Oid created_by)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.queue_data (name, created_by) VALUES ($1, $2)"};

	store_run(&plan, STORE_ARGS(arg_text(name), arg_oid(created_by)));
}

/* How many queues a role has brought into being, as far as that is not more than "max". */
int
store_queues_of(Oid role, int max)
{
	static StorePlan plan = {.sql = "SELECT count(*) FROM (SELECT FROM coord.queue_data WHERE created_by = $1 LIMIT $2) q"};

	store_run(&plan, STORE_ARGS(arg_oid(role), arg_int4(max)));
	return (int) store_int8(0, 1, 0);
}

void
store_queue_update(const QueueRow *queue)
{
	static StorePlan plan = {.sql = "UPDATE coord.queue_data SET paused = $2, max_attempts = $3, lease_ttl = $4,"
	" backoff_base = $5, backoff_max = $6, max_claimed = $7, retention = $8 WHERE name = $1"};

	store_run(&plan, STORE_ARGS(arg_text(queue->name), arg_bool(queue->paused),
								arg_int4(queue->max_attempts), arg_interval_or_null(queue->lease_ttl),
								arg_interval(queue->backoff_base), arg_interval(queue->backoff_max),
								arg_int4_or_null(queue->max_claimed == 0, queue->max_claimed),
								arg_interval_or_null(queue->retention)));
	coord_due_at(JOB_FINISHED, COORD_DUE_NOW);	/* it may be kept with others now */
	coord_queue_claimed_from(queue->name, false);	/* while this is open, claims may find fewer slots */
	if (!queue->paused)
		coord_queue_ready(queue->name, coord_now());
}

/*
 * The queue as users see it: its row of coord.queue_all, which looks for all names to find it.
 * With the schema of 1.0 there is none (0) if its last task has just gone.
 */
Datum
store_queue_result(const char *name)
{
	static StorePlan plan = {.sql = "SELECT ROW(n.name, coalesce(q.paused, false), coalesce(q.max_attempts, 5),"
		" coalesce(q.lease_ttl, coord.setting('default_lease_ttl')),"
		" coalesce(q.backoff_base, '1 s'), coalesce(q.backoff_max, '5 min'), q.max_claimed,"
		" coalesce(q.retention, coord.setting('task_retention')),"
		" t.pending, t.scheduled, t.blocked, t.claimed, t.dead, t.oldest_pending_age, t.counted_at)::coord.queue"
		" FROM (SELECT $1) n (name) LEFT JOIN coord.queue_data q USING (name)"
	" CROSS JOIN LATERAL coord.count_tasks(n.name) t"};
	static StorePlan plan_of_1_0 = {.sql = "SELECT ROW(q.*)::coord.queue FROM coord.queue_all q WHERE q.name = $1"};

	return store_run(store_counts_exist() ? &plan : &plan_of_1_0, STORE_ARGS(arg_text(name))) > 0 ? store_result() : (Datum) 0;
}

/*
 * Make the slots of a locked queue as many as its max_claimed says.  Slots in
 * use above the limit go when they are freed; claims that have no slot, since
 * there was no limit when they were made, get one each.  Those that were made after
 * the transaction's snapshot cannot.
 *
 * Which slots there are is read as it is now, and nobody drops one while the queue is
 * locked.  To insert those too and leave it to the conflict would wait for each claim
 * that is not committed.
 */
void
store_slots_resize(const QueueRow *queue)
{
	static StorePlan shrink = {.sql = "DELETE FROM coord.queue_slot WHERE queue = $1 AND slot IN"
		" (SELECT slot FROM coord.queue_slot WHERE queue = $1 AND slot > $2 AND task_id IS NULL"
	"  FOR UPDATE SKIP LOCKED)"};
	static StorePlan missing = {.sql = "SELECT n::bigint FROM generate_series(1, $2) n"
	" WHERE NOT EXISTS (SELECT FROM coord.queue_slot WHERE queue = $1 AND slot = n)"};
	static StorePlan grow = {.sql = "INSERT INTO coord.queue_slot (queue, slot) SELECT $1, unnest($2)"};
	static StorePlan without = {.sql = "SELECT id FROM coord.task_live WHERE queue = $1 AND state = 'claimed'"
	" AND queue_slot IS NULL FOR NO KEY UPDATE SKIP LOCKED"};
	static StorePlan above = {.sql = "INSERT INTO coord.queue_slot (queue, slot, task_id)"
	" SELECT $1, max(slot) + 1, $2 FROM coord.queue_slot WHERE queue = $1 RETURNING slot"};
	static StorePlan unseen = {.sql = "SELECT FROM coord.task_live WHERE queue = $1 AND state = 'claimed'"
	" AND queue_slot IS NULL LIMIT 1"};
	static StorePlan assign = {.sql = "UPDATE coord.task_live SET queue_slot = $2 WHERE id = $1"};
	UuidList	claims;

	store_run(&shrink, STORE_ARGS(arg_text(queue->name), arg_int4(queue->max_claimed)));
	if (queue->max_claimed == 0)
		return;
	if (store_run_latest(&missing, STORE_ARGS(arg_text(queue->name), arg_int4(queue->max_claimed))) > 0)
		store_run(&grow, STORE_ARGS(arg_text(queue->name), arg_array(INT8ARRAYOID, store_int8_array())));

	store_run(&without, STORE_ARGS(arg_text(queue->name)));
	claims = store_uuids();
	for (int i = 0; i < claims.n; i++)
	{
		int			slot = store_slot_take(queue, &claims.ids[i]);

		if (slot < 0)
		{
			store_run(&above, STORE_ARGS(arg_text(queue->name), arg_uuid(&claims.ids[i])));
			slot = store_int4(0, 1, -1);
		}
		store_run(&assign, STORE_ARGS(arg_uuid(&claims.ids[i]), arg_int4(slot)));
	}
	if (IsolationUsesXactSnapshot() && store_run_latest(&unseen, STORE_ARGS(arg_text(queue->name))) > 0)
		coord_error_serialization();
}

/*
 * Whether a queue has a free slot that may be occupied, by what others have committed or
 * are at: what another transaction has changed counts as in use.  *crowded tells whether
 * slots above the limit, which was lowered, are.
 */
static bool
has_free_slot(const QueueRow *queue, bool *crowded)
{
	RowsTable  *table = rows_open("queue_slot", AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData key;
	bool		free = false;
	int			used = 0;

	*crowded = false;
	InitDirtySnapshot(dirty);
	rows_key_text(&key, SLOT_QUEUE, queue->name);
	scan = coord_index_beginscan(table->rel, rows_index(table, "queue_slot_pkey"), &dirty, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int			number = DatumGetInt32(slot_getattr(slot, SLOT_SLOT, &isnull));

		if (TransactionIdIsValid(dirty.xmin))
			continue;			/* the old version counts */
		if (TransactionIdIsValid(dirty.xmax) || !slot_attisnull(slot, SLOT_TASK_ID))
		{
			used++;
			*crowded |= number > queue->max_claimed;
		}
		else if (number <= queue->max_claimed)
			free = true;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return free && (!*crowded || used < queue->max_claimed);
}

/* Whether another transaction has locked or changed the row of a queue. */
static bool
is_locked(const QueueRow *queue)
{
	RowsTable  *table = rows_open("queue_data", AccessShareLock);
	SnapshotData dirty;
	ScanKeyData key;
	StoredRow	row;

	InitDirtySnapshot(dirty);
	rows_key_text(&key, QUEUE_NAME, queue->name);
	return rows_find(table, "queue_data_pkey", 1, &key, &dirty, &row) &&
		(TransactionIdIsValid(dirty.xmax) || rows_is_locked(table, &row.place));
}

/*
 * Whether store_slot_take() would find a free slot, for what can be told without
 * locking: one that another transaction is at is not free.
 */
bool
store_slot_is_free(const QueueRow *queue)
{
	bool		crowded;

	return has_free_slot(queue, &crowded) && !(crowded && is_locked(queue));
}

/*
 * Occupy a free slot; -1 when there is none.
 *
 * While claims still run in slots above the limit, which was lowered, a free slot
 * is only good if all claims together are below it.  Counting them is exact when
 * one transaction at a time does it, so the others find no slot until it has ended.
 * It has them look then; and is not begun by who would not find one anyway, or those
 * would wake each other for ever.
 */
int
store_slot_take(const QueueRow *queue, const pg_uuid_t *task_id)
{
#define TAKE_SLOT(condition) \
	"UPDATE coord.queue_slot SET task_id = $2 WHERE queue = $1 AND slot =" \
	" (SELECT slot FROM coord.queue_slot WHERE queue = $1 AND slot <= $3 AND task_id IS NULL" condition \
	"  ORDER BY slot LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) RETURNING slot"
	static StorePlan take = {.sql = TAKE_SLOT(" AND NOT EXISTS (SELECT FROM coord.queue_slot"
											  "  WHERE queue = $1 AND slot > $3 AND task_id IS NOT NULL)")};
	static StorePlan take_crowded = {.sql = TAKE_SLOT("")};
	static StorePlan lock = {.sql = "SELECT FROM coord.queue_data WHERE name = $1 FOR NO KEY UPDATE SKIP LOCKED"};
	bool		crowded;

	if (store_run(&take, STORE_ARGS(arg_text(queue->name), arg_uuid(task_id), arg_int4(queue->max_claimed))) == 1)
		return store_int4(0, 1, -1);
	if (!has_free_slot(queue, &crowded) || (!crowded && !IsolationUsesXactSnapshot()) ||
		store_run(&lock, STORE_ARGS(arg_text(queue->name))) == 0)
		return -1;
	coord_queue_ready(queue->name, coord_now());
	coord_queue_claimed_from(queue->name, false);
	if (has_free_slot(queue, &crowded) &&
		store_run(&take_crowded, STORE_ARGS(arg_text(queue->name), arg_uuid(task_id), arg_int4(queue->max_claimed))) == 1)
		return store_int4(0, 1, -1);
	return -1;
}

/*
 * Free a slot, or drop it when it is above the queue's limit.  To drop it keeps the limit
 * from being raised until then; one that is left there, since the limit is just being
 * changed or was after the transaction's snapshot, is in nobody's way.
 */
void
store_slot_free(const char *queue, int slot)
{
	static StorePlan drop = {.sql = "DELETE FROM coord.queue_slot WHERE queue = $1 AND slot = $2"
	" AND slot > (SELECT max_claimed FROM coord.queue_data WHERE name = $1 FOR KEY SHARE SKIP LOCKED)"};
	static StorePlan free = {.sql = "UPDATE coord.queue_slot SET task_id = NULL WHERE queue = $1 AND slot = $2"};
	int			max_claimed = store_queue(queue)->max_claimed;

	if (max_claimed > 0 && slot > max_claimed)
		coord_queue_claimed_from(queue, false);	/* if this is undone, the queue is not locked any more */
	if (max_claimed == 0 || slot <= max_claimed ||
		store_run(&drop, STORE_ARGS(arg_text(queue), arg_int4(slot))) == 0)
		store_run(&free, STORE_ARGS(arg_text(queue), arg_int4(slot)));
}
