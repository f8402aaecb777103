/*
 * order_store.c
 *		Looking along the order in which a queue's tasks are claimed, and along those
 *		that wait for a resource.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "compat.h"
#include "store/live_task.h"
#include "store/rows.h"
#include "store/store.h"
#include "store/task_store.h"

/* the columns of task_live_order */
enum
{
	ORDER_QUEUE = 1, ORDER_PRIORITY, ORDER_READY_AT, ORDER_SEQ
};

/* a scan stops after so many entries of the index, since it may hold others up */
#define SCAN_LIMIT 200

/* so many priorities are asked for what is to come, and when there are more, when to ask again */
#define PRIORITIES_LIMIT 200
#define PRIORITIES_RETRY USECS_PER_SEC

/* Open what a look along the order of tasks needs, so that the look waits for no lock. */
void
store_prepare_scan(void)
{
	(void) rows_index(rows_open("task_live", AccessShareLock), "task_live_order");
}

/* A scan of the order index: of a queue, with more keys for the caller to set. */
static IndexScanDesc
begin_order_scan(RowsTable *table, Snapshot snapshot, const char *queue, int nkeys, ScanKey keys)
{
	IndexScanDesc scan = coord_index_beginscan(table->rel, rows_index(table, "task_live_order"), snapshot, nkeys);

	scan->xs_want_itup = true;
	rows_key_text(&keys[0], ORDER_QUEUE, queue);
	index_rescan(scan, keys, nkeys, NULL, 0);
	return scan;
}

/* The highest priority below a bound that tasks of the queue have, or had until a moment before. */
bool
store_next_priority(const char *queue, int64 below, int *priority)
{
	RowsTable  *table = rows_open("task_live", AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	ScanKeyData keys[2];
	IndexScanDesc scan;
	bool		found;

	if (below > PG_INT32_MAX)
		ScanKeyInit(&keys[1], ORDER_PRIORITY, BTLessEqualStrategyNumber, F_INT4LE, Int32GetDatum(PG_INT32_MAX));
	else
		ScanKeyInit(&keys[1], ORDER_PRIORITY, BTLessStrategyNumber, F_INT4LT, Int32GetDatum((int32) below));
	scan = begin_order_scan(table, snapshot, queue, 2, keys);
	found = index_getnext_tid(scan, ForwardScanDirection) != NULL;
	if (found)
	{
		bool		isnull;

		*priority = DatumGetInt32(index_getattr(scan->xs_itup, ORDER_PRIORITY, scan->xs_itupdesc, &isnull));
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * A snapshot of what has been committed by now, whatever the transaction's own is, and
 * of nothing that this transaction has done: what others see.
 */
static Snapshot
register_snapshot_of_others(void)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	snapshot->curcid = FirstCommandId;
	return snapshot;
}

static bool
is_pending(TupleTableSlot *slot)
{
	bool		isnull;
	text	   *state = DatumGetTextPP(slot_getattr(slot, LIVE_STATE, &isnull));

	return VARSIZE_ANY_EXHDR(state) == strlen("pending") && memcmp(VARDATA_ANY(state), "pending", strlen("pending")) == 0;
}

/*
 * Look along a queue's tasks of one priority, in order, from a position on: find the
 * pending ones that are ready, "max" at most, and where to go on.
 */
void
store_scan_ready(const char *queue, int priority, const ReadyPosition *from, TimestampTz now,
				 int max, bool as_others_see, ReadyScan *found)
{
	RowsTable  *table = rows_open("task_live", AccessShareLock);
	Snapshot	snapshot = as_others_see ? register_snapshot_of_others() : RegisterSnapshot(GetTransactionSnapshot());
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	ScanKeyData start[2];
	ScanKeyData keys[3];
	IndexScanDesc scan;
	int			passed = 0;

	/* (ready_at, seq) >= from, as ExecIndexBuildScanKeys() makes a row comparison */
	ScanKeyInit(&keys[1], ORDER_PRIORITY, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(priority));
	ScanKeyEntryInitialize(&start[0], SK_ROW_MEMBER, ORDER_READY_AT, BTGreaterEqualStrategyNumber, TIMESTAMPTZOID,
						   InvalidOid, F_TIMESTAMPTZ_CMP, TimestampTzGetDatum(from->ready_at));
	ScanKeyEntryInitialize(&start[1], SK_ROW_MEMBER | SK_ROW_END, ORDER_SEQ, BTGreaterEqualStrategyNumber, INT8OID,
						   InvalidOid, F_BTINT8CMP, Int64GetDatum(from->seq));
	memset(&keys[2], 0, sizeof(ScanKeyData));
	keys[2].sk_flags = SK_ROW_HEADER;
	keys[2].sk_attno = ORDER_READY_AT;
	keys[2].sk_strategy = BTGreaterEqualStrategyNumber;
	keys[2].sk_argument = PointerGetDatum(start);

	found->n = 0;
	found->next = *from;
	found->next_at = DT_NOEND;
	scan = begin_order_scan(table, snapshot, queue, 3, keys);
	while (index_getnext_tid(scan, ForwardScanDirection) != NULL)
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];
		ReadyPosition position;

		index_deform_tuple(scan->xs_itup, scan->xs_itupdesc, values, nulls);
		position.ready_at = DatumGetTimestampTz(values[ORDER_READY_AT - 1]);
		position.seq = DatumGetInt64(values[ORDER_SEQ - 1]);
		found->next = position;
		if (position.ready_at > now)
		{
			found->next_at = position.ready_at;
			break;
		}
		found->next.seq++;
		if (index_fetch_heap(scan, slot) && is_pending(slot))
			found->tasks[found->n++] = (ReadyTask) {slot->tts_tid, priority, position};
		if (found->n == max || ++passed == SCAN_LIMIT)
		{
			found->next_at = DT_NOBEGIN;
			break;
		}
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
}

static bool
is_candidate(const StoredRow *row, const char *queue, const ReadyTask *candidate)
{
	text	   *stored = DatumGetTextPP(row->values[LIVE_QUEUE - 1]);

	return rows_int8(row, LIVE_SEQ, 0) == candidate->position.seq &&
		rows_time(row, LIVE_READY_AT, 0) == candidate->position.ready_at &&
		rows_int4(row, LIVE_PRIORITY, 0) == candidate->priority &&
		VARSIZE_ANY_EXHDR(stored) == strlen(queue) && memcmp(VARDATA_ANY(stored), queue, strlen(queue)) == 0;
}

/* Whether others see a pending task at that place of the order; in *row, if so, its row. */
static bool
find_at_position(RowsTable *table, const char *queue, const ReadyTask *candidate, StoredRow *row)
{
	Snapshot	snapshot = register_snapshot_of_others();
	ScanKeyData keys[4];
	bool		found;

	rows_key_text(&keys[0], ORDER_QUEUE, queue);
	ScanKeyInit(&keys[1], ORDER_PRIORITY, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(candidate->priority));
	rows_key_time(&keys[2], ORDER_READY_AT, candidate->position.ready_at);
	rows_key_int8(&keys[3], ORDER_SEQ, candidate->position.seq);
	found = rows_find(table, "task_live_order", 4, keys, snapshot, row) && strcmp(rows_text(row, LIVE_STATE), "pending") == 0;
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Read the task that a candidate stands for, not locked.  STORE_ROW_BUSY when another
 * transaction is at it, or an old snapshot does not see it.  STORE_ROW_CHANGED when it
 * is no pending task any more; this is said only if the index says so, which knows
 * wherever the row may have gone.
 */
StoreRowState
store_task_candidate(const char *queue, const ReadyTask *candidate, TaskRow *task)
{
	RowsTable  *table = rows_open("task_live", RowExclusiveLock);
	ItemPointerData place = candidate->place;
	StoreRowState state;

	for (;;)
	{
		state = rows_fetch_live(table, &place, &task->row);
		if (state != STORE_ROW_CHANGED && is_candidate(&task->row, queue, candidate))
		{
			store_read_task(task);
			task->locked = false;
			if (state == STORE_ROW_BUSY || strcmp(task->state, "pending") == 0)
				break;
		}
		state = STORE_ROW_CHANGED;
		if (!find_at_position(table, queue, candidate, &task->row))
			break;
		state = STORE_ROW_BUSY;
		if (ItemPointerEquals(&place, &task->row.place))
			break;				/* it is being changed, perhaps by this transaction */
		place = task->row.place;
	}
	return state;
}

/*
 * A resource has become free: announce, of each queue, the first task that waits for it.
 * The caller has written the end of its lease: who finds the lease held after this look
 * does so after that (see coord_lease_is_held).
 */
void
store_announce_waiting(const char *resource_key)
{
	RowsTable  *table = rows_open("task_live", AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	IndexScanDesc scan = coord_index_beginscan(table->rel, rows_index(table, "task_live_resource"), snapshot, 3);
	char	   *queue = "";
	ScanKeyData keys[3];

	rows_key_text(&keys[0], 1, resource_key);
	ScanKeyInit(&keys[2], 4, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(coord_now()));
	do
	{
		ScanKeyEntryInitialize(&keys[1], 0, 2, BTGreaterStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXT_GT,
							   CStringGetTextDatum(queue));
		index_rescan(scan, keys, 3, NULL, 0);
		queue = NULL;
		while (queue == NULL && index_getnext_slot(scan, ForwardScanDirection, slot))
		{
			StoredRow	row;
			StoreRowState state;

			if (!is_pending(slot))
				continue;
			state = rows_fetch_live(table, &slot->tts_tid, &row);
			if (state == STORE_ROW_CHANGED)
				continue;		/* who has changed it tells */
			store_announce_task(&row);
			if (state == STORE_ROW_LOCKED)	/* else the next one is first, as long as another is at this */
				queue = rows_text(&row, LIVE_QUEUE);
		}
	} while (queue != NULL);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
}

/*
 * The earliest instant after that one at which a task of the queue becomes claimable;
 * DT_NOEND when there is none.  It may be earlier where there are too many priorities to
 * look at each: who looks again then sees what has become claimable below.
 */
TimestampTz
store_queue_next_ready(const char *queue, TimestampTz after)
{
	static StorePlan plan = {.sql = "SELECT ready_at FROM coord.task_live WHERE queue = $1 AND priority = $2"
	" AND ready_at > $3 AND ready_at < 'infinity' ORDER BY ready_at LIMIT 1"};
	TimestampTz next = DT_NOEND;
	int64		below = (int64) PG_INT32_MAX + 1;
	int			priority;

	for (int i = 0; store_next_priority(queue, below, &priority); i++)
	{
		if (i == PRIORITIES_LIMIT)
			return Min(next, after + PRIORITIES_RETRY);
		if (store_run(&plan, STORE_ARGS(arg_text(queue), arg_int4(priority), arg_time(after))) > 0)
			next = coord_earlier(next, store_time(0, 1, DT_NOEND));
		below = priority;
	}
	return next;
}
