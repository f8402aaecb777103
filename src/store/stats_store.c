/*
 * stats_store.c
 *		What queues have done: figures of the tasks that have finished since an instant.
 *
 * Finished tasks lie in the order in which they have finished, so that a BRIN index
 * finds the last ones.
 */
#include "postgres.h"

#include "store/list_store.h"
#include "store/stats_store.h"

#define SINCE(relation) \
	"SELECT queue, state, attempts, claimed_at, finished_at, run_at FROM coord." relation \
	" WHERE finished_at >= $2 AND ($1 IS NULL OR queue = $1) AND ($3 IS NULL OR queue = ANY ($3))"

#define PERCENTILES(duration) \
	"percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY " duration ")" \
	" FILTER (WHERE state = 'completed')"

/* of queue_stat, in its order; "n" are the queues, "d" what they have done since $2 */
#define COLUMNS \
	"n.queue, $2, coalesce(d.completed, 0), coalesce(d.cancelled, 0), coalesce(d.dead, 0)," \
	" coalesce(d.failed_attempts, 0), coalesce(d.completed, 0) /" \
	" greatest(extract(epoch FROM clock_timestamp() - $2), 1e-6)::float8," \
	" d.waiting[1], d.waiting[2], d.waiting[3], d.running[1], d.running[2], d.running[3]"

#define STATS(row) \
	"WITH done AS MATERIALIZED (" \
	" SELECT queue, count(*) FILTER (WHERE state = 'completed') AS completed," \
	"  count(*) FILTER (WHERE state = 'cancelled') AS cancelled," \
	"  count(*) FILTER (WHERE state = 'dead') AS dead," \
	"  coalesce(sum(attempts - CASE WHEN state = 'completed' THEN 1 ELSE 0 END), 0) AS failed_attempts," \
	"  " PERCENTILES("greatest(claimed_at - run_at, '0')") " AS waiting," \
	"  " PERCENTILES("finished_at - claimed_at") " AS running" \
	" FROM (" SINCE("task_finished") " UNION ALL " SINCE("task_dead") ") t GROUP BY queue" \
	"), named (queue) AS (" \
	" SELECT $1 WHERE $1 IS NOT NULL" \
	" UNION SELECT name FROM (SELECT name FROM coord.queue_data UNION SELECT 'default') n" \
	"  WHERE $1 IS NULL AND ($3 IS NULL OR name = ANY ($3))" \
	" UNION SELECT queue FROM done)" \
	" SELECT " row " FROM named n LEFT JOIN done d USING (queue) ORDER BY n.queue"

/* Add a row of figures for a queue, or for each that the reader may see, to a SETOF result. */
void
store_queue_stats(FunctionCallInfo fcinfo, const char *queue, TimestampTz since, Oid reader)
{
	StoreArg	seen = arg_seen_queues(reader);

	store_run_once_to(store_result_rows(fcinfo), STATS("ROW(" COLUMNS ")::coord.queue_stat"),
					  STORE_ARGS(arg_text(queue), arg_time(since), seen));
}

/* The same for each queue that the reader may see, in the order of their names: a list of QueueStat. */
List *
store_queue_stat_list(TimestampTz since, Oid reader)
{
	StoreArg	seen = arg_seen_queues(reader);
	uint64		n = store_run_once(STATS(COLUMNS), STORE_ARGS(arg_text(NULL), arg_time(since), seen));
	List	   *stats = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		QueueStat  *stat = palloc(sizeof(QueueStat));

		*stat = (QueueStat) {
			.queue = store_text(i, 1),
			.completed = store_int8(i, 3, 0),
			.failed_attempts = store_int8(i, 6, 0),
			.waiting_p50 = store_interval(i, 8, -1),
			.waiting_p95 = store_interval(i, 9, -1),
			.running_p50 = store_interval(i, 11, -1),
			.running_p95 = store_interval(i, 12, -1),
		};
		stats = lappend(stats, stat);
	}
	return stats;
}
