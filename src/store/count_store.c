/*
 * count_store.c
 *		Counting stored tasks by queue and state, some blocks at a time, and keeping
 *		what was counted.
 *
 * The relations are read as VACUUM reads them, in the order of their blocks and in
 * buffers of their own, so that this does not push what claims need out of memory.
 * Each part sees what is committed by then; a task that moves meanwhile may be counted
 * twice, or not.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "store/count_store.h"
#include "store/live_task.h"
#include "store/rows.h"
#include "store/store.h"

/* the column of task_dead */
#define DEAD_QUEUE 2

/*
 * How many tasks a queue has in which state, dead letters, the age of the oldest that is
 * pending, and as of when all this is; NULL: it was counted now, what a claim has become
 * being computed for claimed tasks only.
 */
void
store_count_tasks(const char *queue)
{
	static StorePlan plan = {.sql =
		"WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),"
		" kept AS MATERIALIZED (SELECT * FROM coord.queue_count WHERE queue = $1 LIMIT 1)"
		" SELECT k.pending, k.scheduled, k.blocked, k.claimed, k.dead, s.now - k.oldest_run_at, k.counted_at"
		" FROM kept k, clock s"
		" UNION ALL SELECT pending, scheduled, blocked, claimed,"
		"  dead + (SELECT count(*) FROM coord.task_dead WHERE queue = $1), oldest_pending_age, NULL"
		" FROM (SELECT count(*) FILTER (WHERE c.state = 'pending' AND c.run_at <= c.now) AS pending,"
		"   count(*) FILTER (WHERE c.state = 'pending' AND c.run_at > c.now) AS scheduled,"
		"   count(*) FILTER (WHERE c.state = 'blocked') AS blocked,"
		"   count(*) FILTER (WHERE c.state = 'claimed') AS claimed,"
		"   count(*) FILTER (WHERE c.state = 'dead') AS dead,"
		"   max(c.now - c.run_at) FILTER (WHERE c.state = 'pending' AND c.run_at <= c.now) AS oldest_pending_age"
		"  FROM (SELECT coalesce(u.state, t.state) AS state, coalesce(u.run_at, t.run_at) AS run_at, s.now"
		"   FROM coord.task_live t CROSS JOIN clock s LEFT JOIN LATERAL"
		"    (SELECT state, run_at FROM coord.task_unfinished WHERE id = t.id AND t.state = 'claimed' OFFSET 0) u ON true"
		"   WHERE t.queue = $1 AND NOT EXISTS (SELECT FROM kept)) c) counted"
		" WHERE NOT EXISTS (SELECT FROM kept)"};

	store_run_within(&plan, STORE_ARGS(arg_text(queue)));
	if (SPI_processed != 1)
		elog(ERROR, "expected one row, got " UINT64_FORMAT, SPI_processed);
}

/* Whether the database's schema has them: that of version 1.0 has not. */
bool
store_counts_exist(void)
{
	return OidIsValid(get_relname_relid("queue_count", get_namespace_oid("coord", false)));
}

static bool
is(const text *word, const char *value)
{
	return VARSIZE_ANY_EXHDR(word) == strlen(value) && memcmp(VARDATA_ANY(word), value, strlen(value)) == 0;
}

static void
add_live(QueueCount *count, TupleTableSlot *slot, TimestampTz now)
{
	bool		isnull;
	TimestampTz run_at = DatumGetTimestampTz(slot_getattr(slot, LIVE_RUN_AT, &isnull));
	text	   *state = DatumGetTextPP(slot_getattr(slot, LIVE_STATE, &isnull));

	if (is(state, "claimed"))
		count->claimed++;
	else if (is(state, "blocked"))
		count->blocked++;
	else if (run_at > now)
	{
		count->scheduled++;
		count->next_run_at = Min(count->next_run_at, run_at);
	}
	else
	{
		count->pending++;
		count->oldest_run_at = Min(count->oldest_run_at, run_at);
	}
}

/* A queue's name as a C string, which is good until the next one is asked for. */
static const char *
queue_name(Datum value)
{
	static char name[QUEUE_NAME_LEN + 1];
	text	   *stored = DatumGetTextPP(value);
	size_t		len = Min(VARSIZE_ANY_EXHDR(stored), QUEUE_NAME_LEN);

	memcpy(name, VARDATA_ANY(stored), len);
	name[len] = '\0';
	if ((Pointer) stored != DatumGetPointer(value))
		pfree(stored);
	return name;
}

/* Count what is in some blocks.  False when there is nothing more to count, after them. */
bool
store_count_some(CountPlace *place, int nblocks, TimestampTz now, CountOf count_of)
{
	RowsTable  *table = rows_open(place->dead ? "task_dead" : "task_live", AccessShareLock);
	BlockNumber end = RelationGetNumberOfBlocks(table->rel);

	if (place->block < end)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		TupleTableSlot *slot = table_slot_create(table->rel, NULL);
		TableScanDesc scan = table_beginscan_strat(table->rel, snapshot, 0, NULL, true, false);

		heap_setscanlimits(scan, place->block, Min((BlockNumber) nblocks, end - place->block));
		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			bool		isnull;
			QueueCount *count = count_of(queue_name(slot_getattr(slot, place->dead ? DEAD_QUEUE : LIVE_QUEUE, &isnull)));

			if (place->dead)
				count->dead++;
			else
				add_live(count, slot, now);
		}
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		UnregisterSnapshot(snapshot);
		place->block += Min((BlockNumber) nblocks, end - place->block);
	}
	if (place->block < end)
		return true;
	if (place->dead)
		return false;
	*place = (CountPlace) {true, 0};
	return true;
}

/* When what is kept was counted, and in *took the microseconds of that; DT_NOBEGIN: nothing is kept. */
TimestampTz
store_counted(int64 *took)
{
	static StorePlan plan = {.sql = "SELECT counted_at, took FROM coord.queue_count ORDER BY 1 DESC LIMIT 1"};

	if (store_run_latest(&plan, 0, NULL) == 0)
		return DT_NOBEGIN;
	*took = store_interval(0, 2, 0);
	return store_time(0, 1, DT_NOBEGIN);
}

void
store_counts_forget(void)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.queue_count"};

	store_run(&plan, 0, NULL);
}

void
store_count_keep(const QueueCount *count, TimestampTz counted_at, int64 took)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.queue_count VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"};

	store_run(&plan, STORE_ARGS(arg_text(count->queue), arg_int8(count->pending), arg_int8(count->scheduled),
								arg_int8(count->blocked), arg_int8(count->claimed), arg_int8(count->dead),
								arg_time_or_null(count->oldest_run_at == DT_NOEND, count->oldest_run_at),
								arg_time(counted_at), arg_interval(took)));
}
