/*
 * finished_store.c
 *		Where finished tasks are kept: coord.task_finished, in its partitions.
 *
 * A partition (partition.c) is open, closed, sealed, and then empty again.  One that is
 * open is written for a quarter of a retention; then another one is opened and it is
 * closed.  Who had read that it is open may go on writing it in a transaction that had
 * begun to, so it is sealed when no such transaction is left: all of its tasks have
 * finished by then.  When that is older than the retention it is emptied.
 *
 * Queues may have retentions of their own.  Tasks that are to be kept for less than eight
 * times another's time are of one class, and share partitions; a task goes to the open
 * partition of its class, or of the next longer one that there is.  One of class
 * ANY_CLASS is always open.  A partition is kept for the longest retention in its class
 * or below, as the settings are when it is looked at; so what a class has no room for is
 * kept for longer, never for less.
 *
 * Which partitions are open, a backend remembers until one is opened or closed, when the
 * relation cache of all is told so, as ALTER TABLE would.  Whoever has locked a partition
 * has heard of that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/snapmgr.h"

#include "settings.h"
#include "errors.h"
#include "store/dependency_store.h"
#include "store/finished_store.h"
#include "store/partition.h"
#include "store/queue_store.h"
#include "worker/wakeup.h"

#define PARTITIONS 16

/* a retention has so many turns */
#define RETENTION_TURNS 4

#define MIN_TURN USECS_PER_SEC

/* the class of the partition that is always open */
#define ANY_CLASS 99

static const char *const partitions[PARTITIONS] = {
	"task_finished_0", "task_finished_1", "task_finished_2", "task_finished_3",
	"task_finished_4", "task_finished_5", "task_finished_6", "task_finished_7",
	"task_finished_8", "task_finished_9", "task_finished_10", "task_finished_11",
	"task_finished_12", "task_finished_13", "task_finished_14", "task_finished_15",
};

/* the columns of task_partition */
enum
{
	USED_PARTITION = 1, USED_CLASS, USED_KEEP, USED_OPENED_AT, USED_CLOSED_AT, USED_SEALED_AT
};

/* a partition that is in use */
typedef struct UsedPartition
{
	int			number;
	int			class;
	int64		keep;			/* microseconds; the longest retention of its class since it was opened */
	TimestampTz opened_at;
	TimestampTz closed_at;		/* DT_NOEND: it is open */
	TimestampTz sealed_at;		/* DT_NOEND: it may be written */
} UsedPartition;

/* the retentions that tasks have */
typedef struct Retentions
{
	int			n;
	int64	   *usec;
} Retentions;

/* what this backend knows */
static struct
{
	bool		valid;
	Oid			relid;			/* the relation whose invalidation says that it may have changed */
	bool		partitioned;
	int			n;				/* open partitions */
	UsedPartition open[PARTITIONS];
	TimestampTz turn_at;		/* when the first of them has been open for long enough */
	TimestampTz told_at;		/* when the worker was told last that this is past */
}			known;

static TimestampTz busy_until = 0;

static void load_known(void);

/* ---- retentions and classes ---- */

static int64
retention_of(const QueueRow *queue)
{
	return queue->retention >= 0 ? queue->retention : coord_task_retention * USECS_PER_SEC;
}

static int
class_of(int64 retention)
{
	int			class = 0;

	for (int64 seconds = retention / USECS_PER_SEC; seconds >= 8; seconds /= 8)
		class++;
	return class;
}

/* The longest retention of a class, or of a shorter one. */
static int64
longest(const Retentions *retentions, int class)
{
	int64		found = 0;

	for (int i = 0; i < retentions->n; i++)
	{
		if (class_of(retentions->usec[i]) <= class)
			found = Max(found, retentions->usec[i]);
	}
	return found;
}

static int64
turn(const Retentions *retentions, int class)
{
	return Max(longest(retentions, class) / RETENTION_TURNS, MIN_TURN);
}

/* All that there are. */
static Retentions
all_retentions(void)
{
	static StorePlan plan = {.sql = "SELECT DISTINCT retention FROM coord.queue_data WHERE retention IS NOT NULL"};
	Retentions	retentions = {.n = 1 + (int) store_run_latest(&plan, 0, NULL)};

	retentions.usec = palloc(sizeof(int64) * retentions.n);
	for (int i = 0; i < retentions.n - 1; i++)
		retentions.usec[i] = store_interval(i, 1, 0);
	retentions.usec[retentions.n - 1] = coord_task_retention * USECS_PER_SEC;
	return retentions;
}

/* ---- the partitions in use ---- */

static bool
is_partitioned(void)
{
	return OidIsValid(get_relname_relid("task_partition", get_namespace_oid("coord", false)));
}

/* Those in use now, whatever the transaction's snapshot is; "used" has room for all. */
static int
used_partitions(UsedPartition *used)
{
	RowsWalk	walk;
	StoredRow	row;
	int			n = 0;

	memset(used, 0, sizeof(UsedPartition) * PARTITIONS);
	rows_begin(&walk, rows_open("task_partition", AccessShareLock), NULL, 0, NULL, GetLatestSnapshot());
	while (n < PARTITIONS && rows_next(&walk, &row))
		used[n++] = (UsedPartition) {
			.number = DatumGetInt16(row.values[USED_PARTITION - 1]),
			.class = DatumGetInt16(row.values[USED_CLASS - 1]),
			.keep = rows_interval(&row, USED_KEEP, 0),
			.opened_at = rows_time(&row, USED_OPENED_AT, 0),
			.closed_at = rows_time(&row, USED_CLOSED_AT, DT_NOEND),
			.sealed_at = rows_time(&row, USED_SEALED_AT, DT_NOEND),
		};
	rows_end(&walk);
	return n;
}

/* When a sealed partition is to be emptied. */
static TimestampTz
expires_at(const Retentions *retentions, const UsedPartition *partition)
{
	return partition->sealed_at + Max(partition->keep, longest(retentions, partition->class));
}

static bool
is_open(const UsedPartition *partition)
{
	return partition->closed_at == DT_NOEND;
}

static UsedPartition *
open_of_class(UsedPartition *used, int n, int class)
{
	for (int i = 0; i < n; i++)
	{
		if (is_open(&used[i]) && used[i].class == class)
			return &used[i];
	}
	return NULL;
}

/* A partition that is not in use; -1: there is none. */
static int
free_partition(const UsedPartition *used, int n)
{
	for (int number = 0; number < PARTITIONS; number++)
	{
		int			i = 0;

		while (i < n && used[i].number != number)
			i++;
		if (i == n)
			return number;
	}
	return -1;
}

/* What backends know of open partitions is not so any more. */
static void
tell_changed(void)
{
	CacheInvalidateRelcache(rows_open("task_partition", AccessShareLock)->rel);
}

static void
add_used(UsedPartition *used, int *n, const UsedPartition *partition)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.task_partition VALUES ($1, $2, $3, $4, $5, $6)"};

	store_run(&plan, STORE_ARGS(arg_int4(partition->number), arg_int4(partition->class),
								arg_interval(partition->keep), arg_time(partition->opened_at),
								arg_time_or_null(is_open(partition), partition->closed_at),
								arg_time_or_null(partition->sealed_at == DT_NOEND, partition->sealed_at)));
	used[(*n)++] = *partition;
	tell_changed();
}

static bool
open_new(UsedPartition *used, int *n, int class, TimestampTz now)
{
	int			number = free_partition(used, *n);

	if (number < 0)
		return false;
	add_used(used, n, &(UsedPartition) {number, class, 0, now, DT_NOEND, DT_NOEND});	/* see note_retention() */
	return true;
}

/* Change the row of a partition, which a snapshot that is too old does not see. */
static void
change(StorePlan *plan, const UsedPartition *partition, StoreArg value)
{
	if (store_run(plan, STORE_ARGS(arg_int4(partition->number), value)) == 0)
		coord_error_serialization();
}

static void
close_partition(UsedPartition *partition, TimestampTz now)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_partition SET closed_at = $2 WHERE partition = $1"};

	change(&plan, partition, arg_time(now));
	partition->closed_at = now;
	tell_changed();
}

/* Queues may leave a class; what finished there before is kept for as long as it was to be. */
static void
note_retention(UsedPartition *partition, const Retentions *retentions)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_partition SET keep = $2 WHERE partition = $1"};
	int64		keep = longest(retentions, partition->class);

	if (partition->class == ANY_CLASS || keep <= partition->keep)
		return;
	change(&plan, partition, arg_interval(keep));
	partition->keep = keep;
}

static void
seal(UsedPartition *partition, TimestampTz now)
{
	static StorePlan plan = {.sql = "UPDATE coord.task_partition SET sealed_at = $2 WHERE partition = $1"};

	change(&plan, partition, arg_time(now));
	partition->sealed_at = now;
}

/*
 * Empty a sealed partition, unless somebody is reading it; nor in a transaction block,
 * as whoever comes to read it waits until that ends.
 */
static bool
empty(const UsedPartition *partition)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.task_partition WHERE partition = $1 AND sealed_at = $2"};

	if (IsTransactionBlock() || !store_partition_truncate(partitions[partition->number], store_has_awaited))
		return false;
	change(&plan, partition, arg_time(partition->sealed_at));
	return true;
}

/* ---- writing ---- */

/* The open partition of the shortest class that is long enough for a queue. */
static int
choose(const char *queue)
{
	const UsedPartition *best = NULL;
	int			class = known.n > 1 ? class_of(retention_of(store_queue(queue))) : 0;

	for (int i = 0; i < known.n; i++)
	{
		if (known.open[i].class >= class && (best == NULL || known.open[i].class < best->class))
			best = &known.open[i];
	}
	if (best == NULL)
		elog(ERROR, "no partition of finished tasks is open");
	return best->number;
}

/* The worker does not wait for the turn of a partition that has nothing. */
static void
tell_of_turn(TimestampTz now)
{
	TimestampTz due = Max(known.turn_at, known.told_at + PARTITION_BUSY_RETRY);	/* there may be none to turn to */

	if (due <= now)
		known.told_at = now;
	coord_due_at(JOB_FINISHED, due);
}

/* In schema 1.0, whose partitions are by range of finished_at, the one that a task goes to which finishes now. */
static RowsTable *
open_partition_of_1_0(TimestampTz now)
{
	Relation	parent = rows_open("task_finished", RowExclusiveLock)->rel;
	PartitionKey key = RelationGetPartitionKey(parent);
	PartitionDesc partitions = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = partitions->boundinfo;
	Datum		finished_at = TimestampTzGetDatum(now);
	int			index = bounds->default_index;
	bool		equal;

	if (bounds->ndatums > 0)
	{
		int			bound = partition_range_datum_bsearch(key->partsupfunc, key->partcollation,
														  bounds, 1, &finished_at, &equal);

		if (bounds->indexes[bound + 1] >= 0)
			index = bounds->indexes[bound + 1];
	}
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("relation \"coord.task_finished\" has no partition for a row")));
	return rows_open_by_oid(partitions->oids[index], RowExclusiveLock);
}

/*
 * The partition that a task of a queue goes to, which finishes now, locked for that.
 * Its number is to be in the row, unless it is FINISHED_UNPARTITIONED.
 */
RowsTable *
store_finished_open(const char *queue, TimestampTz now, int *partition)
{
	RowsTable  *table;
	uint64		heard;

	do
	{
		heard = SharedInvalidMessageCounter;
		if (!known.valid)
			load_known();
		*partition = known.partitioned ? choose(queue) : FINISHED_UNPARTITIONED;
		table = rows_open(known.partitioned ? partitions[*partition] : "task_finished", RowExclusiveLock);
		/* else it was perhaps closed, or the extension updated, before it was locked */
	} while (SharedInvalidMessageCounter != heard && !known.valid);

	if (*partition == FINISHED_UNPARTITIONED)
		return open_partition_of_1_0(now);
	tell_of_turn(now);
	return table;
}

static void
forget_for_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	if (!OidIsValid(relid) || relid == known.relid)
		known.valid = false;
}

static void
load_known(void)
{
	static bool watching = false;
	uint64		heard = SharedInvalidMessageCounter;
	UsedPartition used[PARTITIONS];
	Retentions	retentions;
	int			n;

	if (!watching)
		CacheRegisterRelcacheCallback(forget_for_relation, (Datum) 0);
	watching = true;

	known.partitioned = is_partitioned();
	known.relid = get_relname_relid(known.partitioned ? "task_partition" : "task_finished",
									get_namespace_oid("coord", false));
	known.n = 0;
	known.turn_at = DT_NOEND;
	if (known.partitioned)
	{
		retentions = all_retentions();
		n = used_partitions(used);
		for (int i = 0; i < n; i++)
		{
			if (!is_open(&used[i]))
				continue;
			known.open[known.n++] = used[i];
			known.turn_at = Min(known.turn_at, used[i].opened_at + turn(&retentions, used[i].class));
		}
	}
	known.valid = SharedInvalidMessageCounter == heard;
}

/* ---- retention ---- */

/* Partitions of a restored dump have tasks and are not in use: they are kept for a whole retention from now on. */
static void
adopt(UsedPartition *used, int *n, TimestampTz now)
{
	bool		in_use[PARTITIONS] = {false};

	for (int i = 0; i < *n; i++)
		in_use[used[i].number] = true;
	for (int number = 0; number < PARTITIONS; number++)
	{
		if (!in_use[number] && !store_partition_is_empty(partitions[number]))
			add_used(used, n, &(UsedPartition) {number, ANY_CLASS, 0, now, now, now});
	}
}

/* Close what has been open for long enough, if there is another to be written in its place. */
static void
turn_partitions(UsedPartition *used, int *n, const Retentions *retentions, TimestampTz now)
{
	int			before = *n;

	for (int i = 0; i < before; i++)
	{
		if (!is_open(&used[i]) || used[i].opened_at + turn(retentions, used[i].class) > now ||
			store_partition_is_empty(partitions[used[i].number]))
			continue;
		if (open_new(used, n, used[i].class, now))
		{
			note_retention(&used[*n - 1], retentions);
			close_partition(&used[i], now);
		}
		else
			busy_until = now + PARTITION_BUSY_RETRY;
	}
}

/*
 * Each class that tasks are of, but the longest, gets a partition of its own; what no
 * tasks are of any more is closed.
 */
static void
fit_classes(UsedPartition *used, int *n, const Retentions *retentions, TimestampTz now)
{
	int			last = class_of(longest(retentions, ANY_CLASS));
	bool		wanted[ANY_CLASS] = {false};

	for (int i = 0; i < retentions->n; i++)
		wanted[class_of(retentions->usec[i])] = true;
	for (int class = 0; class < last; class++)
	{
		if (wanted[class] && open_of_class(used, *n, class) == NULL && open_new(used, n, class, now))
			note_retention(&used[*n - 1], retentions);
	}
	for (int i = 0; i < *n; i++)
	{
		int			class = used[i].class;

		if (is_open(&used[i]) && class != ANY_CLASS && (class >= last || !wanted[class]))
			close_partition(&used[i], now);
	}
}

/*
 * Open, close, seal and empty partitions, as is due; and empty those of which all tasks
 * have finished before an instant.  The caller has the lock of the retention, so who
 * closed a partition in an earlier transaction has told everybody.
 */
void
store_finished_keep(TimestampTz now, TimestampTz before, RetentionCounts *counts)
{
	UsedPartition used[PARTITIONS];
	Retentions	retentions;
	int			n;

	if (!is_partitioned())
		return;
	retentions = all_retentions();
	busy_until = 0;
	n = used_partitions(used);
	for (int i = 0; i < n; i++)
	{
		UsedPartition *partition = &used[i];

		note_retention(partition, &retentions);
		if (is_open(partition))
			continue;
		if (partition->sealed_at == DT_NOEND && partition->closed_at < GetCurrentTransactionStartTimestamp() &&
			store_partition_is_unwritten(partitions[partition->number]))
			seal(partition, now);
		if (partition->sealed_at == DT_NOEND)
			busy_until = now + PARTITION_BUSY_RETRY;
		else if (expires_at(&retentions, partition) <= now || (partition->sealed_at < before && store_sees_checks()))
		{
			if (empty(partition))
				counts->emptied++;
			else
				busy_until = now + PARTITION_BUSY_RETRY;
		}
	}
	n = used_partitions(used);
	adopt(used, &n, now);
	turn_partitions(used, &n, &retentions, now);
	fit_classes(used, &n, &retentions, now);
}

/*
 * Delete the tasks that finished before an instant, one by one, from the partitions that
 * have younger ones too.  The caller has the lock of the retention.
 */
void
store_finished_delete(TimestampTz before, RetentionCounts *counts)
{
	UsedPartition used[PARTITIONS];
	const char *condition;
	int			n;

	if (!is_partitioned())
		return;
	n = used_partitions(used);
	condition = store_not_awaited();
	for (int i = 0; i < n; i++)
	{
		if (used[i].sealed_at >= before)
			counts->deleted += store_partition_delete(partitions[used[i].number], "finished_at", before, condition);
	}
}

/* When there is something to do for store_finished_keep(). */
TimestampTz
store_finished_next_due(void)
{
	UsedPartition used[PARTITIONS];
	int			n = is_partitioned() ? used_partitions(used) : 0;
	TimestampTz due = DT_NOEND;
	Retentions	retentions;

	if (n == 0)
		return DT_NOEND;
	retentions = all_retentions();
	for (int i = 0; i < n; i++)
	{
		UsedPartition *partition = &used[i];

		if (!is_open(partition))
			due = Min(due, partition->sealed_at == DT_NOEND ? partition->closed_at :
					  expires_at(&retentions, partition));
		else if (!store_partition_is_empty(partitions[partition->number]))
			due = Min(due, partition->opened_at + turn(&retentions, partition->class));
	}
	return Max(due, busy_until);
}
