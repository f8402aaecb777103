/*
 * event_log_store.c
 *		Delivered events: coord.event_log, in its partitions; and who has read how far.
 *
 * The partitions (partition.c) are a circle.  One is written for an eighth of
 * coord.event_retention, then the next, if it is empty; else the same goes on.  A
 * partition is emptied when its last event is older than the retention.
 *
 * Positions grow from partition to partition, so coord.event_partition tells which ones
 * can have the events after a position, and a statement reads a single one, in order,
 * by an index.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "rights.h"
#include "sequence.h"
#include "settings.h"
#include "store/event_log_store.h"
#include "store/partition.h"
#include "store/rights_store.h"
#include "worker/wakeup.h"

#define LOG_PARTITIONS 10

/* the retention has so many turns, which leaves one for what is older in part, and one free */
#define RETENTION_TURNS (LOG_PARTITIONS - 2)

#define MIN_TURN USECS_PER_SEC

#define MAX_IN_USE (2 * LOG_PARTITIONS)

#define PARTITION(n) {"event_log_" #n, "event_log_" #n "_position_partition_idx"}

static const struct
{
	const char *name;
	const char *position_index;
}			partitions[LOG_PARTITIONS] = {
	PARTITION(0), PARTITION(1), PARTITION(2), PARTITION(3), PARTITION(4),
	PARTITION(5), PARTITION(6), PARTITION(7), PARTITION(8), PARTITION(9),
};

/* the columns of event_log */
enum
{
	LOG_POSITION = 1, LOG_ID, LOG_TYPE, LOG_SEVERITY, LOG_SENDER_ID, LOG_RECIPIENT_ID, LOG_CHANNEL, LOG_PAYLOAD,
	LOG_CREATED_AT, LOG_PARTITION
};

/* a partition that has something, or is written */
typedef struct LogPartition
{
	int			number;
	int64		first_position;
	TimestampTz opened_at;
} LogPartition;

/* a statement for each partition; in its text %1$d is the number */
typedef StorePlan LogPlans[LOG_PARTITIONS];

static TimestampTz busy_until = 0;

static StorePlan *
plan_for(LogPlans plans, int partition, const char *format)
{
	StorePlan  *plan = &plans[partition];

	if (plan->sql == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		plan->sql = psprintf(format, partition);
		MemoryContextSwitchTo(old);
	}
	return plan;
}

static int
compare_partitions(const void *a, const void *b)
{
	int64		x = ((const LogPartition *) a)->first_position;
	int64		y = ((const LogPartition *) b)->first_position;

	return x < y ? -1 : x > y;
}

/*
 * The partitions in use now, whatever the transaction's snapshot is, in the order of
 * their positions; "used" has room for them.  A partition may be there twice: a dump was
 * restored, and what came then begins where that had begun.
 */
static int
partitions_in_use(LogPartition *used)
{
	RowsWalk	walk;
	StoredRow	row;
	int			n = 0;

	rows_begin(&walk, rows_open("event_partition", AccessShareLock), NULL, 0, NULL, GetLatestSnapshot());
	while (n < MAX_IN_USE && rows_next(&walk, &row))
		used[n++] = (LogPartition) {DatumGetInt16(row.values[0]), rows_int8(&row, 2, 0), rows_time(&row, 3, 0)};
	rows_end(&walk);
	/* cppcheck-suppress uninitvar ; it does not see that n of them are set */
	qsort(used, n, sizeof(LogPartition), compare_partitions);
	return n;
}

/* ---- turning, and emptying ---- */

static int64
retention(void)
{
	return coord_event_retention * USECS_PER_SEC;
}

static int64
turn(void)
{
	return Max(retention() / RETENTION_TURNS, MIN_TURN);
}

/* Empty a partition, unless somebody is using it. */
static bool
empty(int partition)
{
	static StorePlan forget = {.sql = "DELETE FROM coord.event_partition WHERE partition = $1"};

	if (!store_partition_truncate(partitions[partition].name, NULL))
		return false;
	store_run(&forget, STORE_ARGS(arg_int4(partition)));
	return true;
}

/* When the last event of a partition, which is not the last one, is older than the retention. */
static TimestampTz
expires_at(const LogPartition *partition)
{
	return partition[1].opened_at + retention();
}

static bool
is_empty(int partition)
{
	static LogPlans plans;

	return store_run(plan_for(plans, partition, "SELECT FROM coord.event_log_%1$d LIMIT 1"), 0, NULL) == 0;
}

/* Where a partition is last among those in use; -1: nowhere. */
static int
last_of(const LogPartition *used, int n, int number)
{
	int			i = n - 1;

	while (i >= 0 && used[i].number != number)
		i--;
	return i;
}

/* The highest position in a partition, or "least" if that is higher. */
static int64
last_position_in(int partition, int64 least)
{
	static LogPlans plans;
	int64		last;

	store_run(plan_for(plans, partition, "SELECT max(position) FROM coord.event_log_%1$d"), 0, NULL);
	last = store_int8(0, 1, least);
	return Max(last, least);
}

/* Draw n positions, which are above all in the log; "last" is the last partition, or NULL. */
static int64
draw_positions(const LogPartition *last, int n)
{
	int64		first = coord_next_event_positions(n);

	if (last == NULL || first > last->first_position)
		return first;
	return coord_event_positions_above(last_position_in(last->number, last->first_position), n);
}

/* The partition to be written now: the next one, when it is its turn and it is free. */
static LogPartition
turn_if_due(TimestampTz now)
{
	static StorePlan open = {.sql = "INSERT INTO coord.event_partition VALUES ($1, $2, $3)"};
	LogPartition used[MAX_IN_USE];
	int			n = partitions_in_use(used);
	LogPartition *current = n > 0 ? &used[n - 1] : NULL;
	LogPartition next = {.number = current != NULL ? (current->number + 1) % LOG_PARTITIONS : 0,.opened_at = now};
	int			last = last_of(used, n, next.number);

	if (current != NULL &&
		(now < current->opened_at + turn() ||
		 (last >= 0 && (last == n - 1 || expires_at(&used[last]) > now || !empty(next.number)))))
		return *current;

	next.first_position = draw_positions(current, 1);
	coord_due_at(JOB_RETENTION, now + turn());
	store_run(&open, STORE_ARGS(arg_int4(next.number), arg_int8(next.first_position), arg_time(now)));
	return next;
}

/* The partition to be written now, and positions for n events.  The caller has the delivery lock. */
int
store_log_partition(TimestampTz now, int n, int64 *first_position)
{
	LogPartition current = turn_if_due(now);

	*first_position = draw_positions(&current, n);
	return current.number;
}

/*
 * Empty the partitions whose events are all older than the retention, or from before an
 * instant, and return how many.  What is being read is left for a little later.  The
 * caller has the delivery lock.
 */
int
store_log_expire(TimestampTz now, TimestampTz before)
{
	LogPartition used[MAX_IN_USE];
	int			n = partitions_in_use(used);
	int			emptied = 0;

	busy_until = 0;
	if (n > 0 && now >= used[n - 1].opened_at + turn() && !is_empty(used[n - 1].number))
	{
		if (turn_if_due(now).number == used[n - 1].number)
			busy_until = now + PARTITION_BUSY_RETRY;
		n = partitions_in_use(used);
	}
	for (int i = 0; i < n - 1 && (expires_at(&used[i]) <= now || used[i + 1].opened_at < before); i++)
	{
		if (last_of(used, n, used[i].number) != i)
			continue;
		if (empty(used[i].number))
			emptied++;
		else
			busy_until = now + PARTITION_BUSY_RETRY;
	}
	return emptied;
}

/*
 * Delete the events from before an instant, one by one, from the partitions that have
 * younger ones too.  The caller has the delivery lock.
 */
void
store_log_delete(TimestampTz before, RetentionCounts *counts)
{
	LogPartition used[MAX_IN_USE];
	int			n = partitions_in_use(used);

	for (int i = 0; i < n; i++)
	{
		if (last_of(used, n, used[i].number) == i && (i == n - 1 || used[i + 1].opened_at >= before))
			counts->deleted += store_partition_delete(partitions[used[i].number].name, "created_at", before, "true");
	}
}

/* When there is something to do for store_log_expire(). */
TimestampTz
store_log_next_due(void)
{
	LogPartition used[MAX_IN_USE];
	int			n = partitions_in_use(used);
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < n - 1 && due == DT_NOEND; i++)
	{
		if (last_of(used, n, used[i].number) == i)
			due = expires_at(&used[i]);
	}
	if (n > 0 && !is_empty(used[n - 1].number))
		due = Min(due, used[n - 1].opened_at + turn());
	return Max(due, busy_until);
}

/* ---- writing ---- */

RowsTable *
store_log_open(int partition, LOCKMODE mode)
{
	return rows_open(partitions[partition].name, mode);
}

/* A row of the log, of one of the inbox. */
void
store_log_form(StoredRow *row, int64 position, const Datum *values, const bool *nulls, int n, int partition)
{
	rows_set(row, LOG_POSITION, Int64GetDatum(position));
	memcpy(&row->values[1], values, sizeof(Datum) * n);
	memcpy(&row->nulls[1], nulls, sizeof(bool) * n);
	rows_set(row, LOG_PARTITION, Int16GetDatum(partition));
}

/* ---- reading ---- */

/* The partitions that can have events after a position, which is an index among those in use. */
static int
first_with(const LogPartition *used, int n, int64 after)
{
	int			i = 0;

	while (i < n - 1 && used[i + 1].first_position <= after)
		i++;
	return i;
}

/* Positions of a partition that come after a position are above. */
static int64
lower_bound(const LogPartition *used, int i, int64 after)
{
	return Max(after, used[i].first_position);
}

/* Positions of the partition are below. */
static int64
upper_bound(const LogPartition *used, int n, int i)
{
	return i + 1 < n ? used[i + 1].first_position : PG_INT64_MAX;
}

/* What the listeners of events are told, of "max" events after a position, up to another. */
int
store_event_heads(int64 after, int64 to, int max, EventHead *heads)
{
	LogPartition used[MAX_IN_USE];
	int			nused = partitions_in_use(used);
	int			n = 0;

	for (int i = first_with(used, nused, after); i < nused && used[i].first_position <= to && n < max; i++)
	{
		ScanKeyData keys[2];
		RowsWalk	walk;
		StoredRow	row;

		ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(lower_bound(used, i, after)));
		ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE,
					Int64GetDatum(Min(to, upper_bound(used, nused, i) - 1)));
		rows_begin(&walk, store_log_open(used[i].number, AccessShareLock), partitions[used[i].number].position_index, 2, keys,
				   GetLatestSnapshot());
		while (n < max && rows_next(&walk, &row))
			heads[n++] = (EventHead) {
				.position = rows_int8(&row, LOG_POSITION, 0),
				.id = rows_uuid(&row, LOG_ID),
				.type = rows_text(&row, LOG_TYPE),
				.severity = rows_text(&row, LOG_SEVERITY),
				.recipient_id = rows_uuid_or_null(&row, LOG_RECIPIENT_ID),
				.channel = rows_text_or_null(&row, LOG_CHANNEL),
			};
		rows_end(&walk);
	}
	return n;
}

#define AS_EVENT \
	"ROW(e.id, e.position, e.type, e.severity, e.sender_id, e.recipient_id, e.channel, e.payload, e.created_at)::coord.event"

/* the bounds of the partition: $1 and $2; max_events: $3 */
#define IN_RANGE "e.position > $1 AND e.position < $2"

/*
 * Those that the reader, $5, may read: all, if $4, else those to agents for which he acts
 * and those to none, but not what is said on coord.tasks about other queues than $6.  What
 * came before an agent was registered was to another one of its id.
 */
#define MAY_READ \
	"($4 OR (e.recipient_id IS NULL AND ($6 IS NULL OR e.channel IS DISTINCT FROM 'coord.tasks' OR" \
	" coalesce(e.payload ->> 'queue' = ANY ($6), true))) OR EXISTS (" \
	" SELECT FROM coord.agent_data a WHERE a.id = e.recipient_id AND e.position > a.events_after AND pg_has_role($5, a.owner, 'USAGE')))"

/*
 * Run a statement for the partitions that can have events after query->after, one by
 * one until there are query->max_events, and add its rows to a SETOF result.  "more"
 * are its arguments after the six above.
 */
static void
read_log(FunctionCallInfo fcinfo, LogPlans plans, const char *format, const EventQuery *query,
		 int nmore, const StoreArg *more)
{
	LogPartition used[MAX_IN_USE];
	int			nused = partitions_in_use(used);
	int			left = query->max_events;
	TimestampTz now = coord_now();
	DestReceiver *rows = store_result_rows(fcinfo);
	StoreArg	args[9];

	Assert(6 + nmore <= (int) lengthof(args));
	args[3] = arg_bool(superuser_arg(query->reader));
	args[4] = arg_oid(query->reader);
	args[5] = arg_array(TEXTARRAYOID, coord_sees_every_queue(query->reader) ? NULL :
						store_text_array_of(coord_queues(query->reader, COORD_ANY)));
	memcpy(&args[6], more, sizeof(StoreArg) * nmore);
	for (int i = first_with(used, nused, query->after); i < nused && left > 0; i++)
	{
		if (i < nused - 1 && expires_at(&used[i]) <= now)
			continue;			/* somebody may be emptying it */
		args[0] = arg_int8(lower_bound(used, i, query->after));
		args[1] = arg_int8(upper_bound(used, nused, i));
		args[2] = arg_int4(left);
		left -= (int) store_run_to(rows, plan_for(plans, used[i].number, format), 6 + nmore, args);
	}
}

/*
 * Add the delivered events after a position to a SETOF result: those for a recipient, a
 * channel, both or anybody, of a type or of any.
 */
void
store_event_list(FunctionCallInfo fcinfo, const EventQuery *query)
{
#define LIST_EVENTS(filter) \
	"SELECT " AS_EVENT " FROM coord.event_log_%1$d e WHERE " IN_RANGE " " filter \
	" AND ($9 IS NULL OR e.type = $9) AND " MAY_READ " ORDER BY e.position LIMIT $3"
	static LogPlans plans[2][2];
	static const char *const formats[2][2] = {
		{LIST_EVENTS("AND $7 IS NULL AND $8 IS NULL"), LIST_EVENTS("AND $7 IS NULL AND e.channel = $8")},
		{LIST_EVENTS("AND e.recipient_id = $7 AND $8 IS NULL"), LIST_EVENTS("AND e.recipient_id = $7 AND e.channel = $8")},
	};
	bool		of_recipient = query->recipient_id != NULL;
	bool		of_channel = query->channel != NULL;

	read_log(fcinfo, plans[of_recipient][of_channel], formats[of_recipient][of_channel], query,
			 STORE_ARGS(arg_uuid(query->recipient_id), arg_text(query->channel), arg_text(query->type)));
}

/*
 * The same: those addressed to an agent, those of the channels that it is subscribed to,
 * and those to everyone.  Each kind is read by its index, and no further than needed.
 */
void
store_event_poll(FunctionCallInfo fcinfo, const pg_uuid_t *agent_id, const EventQuery *query)
{
#define FIRST_POSITIONS(condition) \
	"(SELECT e.position FROM coord.event_log_%1$d e WHERE " condition " AND " IN_RANGE " ORDER BY e.position LIMIT $3)"
	static LogPlans plans;
	static const char *const format = "SELECT " AS_EVENT " FROM coord.event_log_%1$d e"
		" WHERE e.position = ANY (ARRAY(SELECT DISTINCT o.position FROM ("
		FIRST_POSITIONS("e.recipient_id = $7") " UNION ALL "
		FIRST_POSITIONS("e.recipient_id IS NULL AND e.channel IS NULL") " UNION ALL "
		"SELECT c.position FROM coord.event_subscription s, LATERAL "
		FIRST_POSITIONS("e.channel = s.channel AND " MAY_READ) " c WHERE s.agent_id = $7"
		") o ORDER BY o.position LIMIT $3)) ORDER BY e.position";

	read_log(fcinfo, plans, format, query, STORE_ARGS(arg_uuid(agent_id)));
}

/* ---- who has read how far ---- */

/* Subscribe an agent to a channel; false when it was. */
bool
store_subscribe(const pg_uuid_t *agent_id, const char *channel)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.event_subscription VALUES ($1, $2) ON CONFLICT DO NOTHING"};

	return store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_text(channel))) > 0;
}

/* To how many channels an agent is subscribed, as far as that is not more than "max". */
int64
store_subscriptions_of(const pg_uuid_t *agent_id, int64 max)
{
	static StorePlan plan = {.sql = "SELECT count(*) FROM (SELECT FROM coord.event_subscription WHERE agent_id = $1 LIMIT $2) s"};

	store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_int8(max)));
	return store_int8(0, 1, 0);
}

/* False when it was not. */
bool
store_unsubscribe(const pg_uuid_t *agent_id, const char *channel)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.event_subscription WHERE agent_id = $1 AND channel = $2"};

	return store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_text(channel))) > 0;
}

/* Whether the log has an event to an agent. */
bool
store_log_has_events_to(const pg_uuid_t *agent_id)
{
	static StorePlan plan = {.sql = "SELECT FROM coord.event_log WHERE recipient_id = $1 LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_uuid(agent_id))) > 0;
}

/* Whether an event has that position or a higher one, whatever the transaction's snapshot is. */
bool
store_log_has_come_to(int64 position)
{
	static StorePlan plan = {.sql = "SELECT 1 FROM coord.event_log WHERE position >= $1 LIMIT 1"};

	return store_run_latest(&plan, STORE_ARGS(arg_int8(position))) > 0;
}

/* The position that an agent has acknowledged, and no lower one than the last before it was registered. */
int64
store_event_cursor(const pg_uuid_t *agent_id)
{
	static StorePlan plan = {.sql = "SELECT greatest((SELECT position FROM coord.event_cursor WHERE agent_id = $1),"
	" (SELECT events_after FROM coord.agent_data WHERE id = $1), 0)"};

	store_run(&plan, STORE_ARGS(arg_uuid(agent_id)));
	return store_int8(0, 1, 0);
}

/* Set it; false when it is further already. */
bool
store_event_ack(const pg_uuid_t *agent_id, int64 position)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.event_cursor AS c VALUES ($1, $2) ON CONFLICT (agent_id)"
	" DO UPDATE SET position = excluded.position WHERE c.position <= excluded.position"};

	return store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_int8(position))) > 0;
}

/* The highest position that is delivered; or was, and its event is dropped. */
int64
store_last_position(void)
{
	LogPartition used[MAX_IN_USE];
	int			n = partitions_in_use(used);

	return n == 0 ? 0 : last_position_in(used[n - 1].number, used[n - 1].first_position);
}
