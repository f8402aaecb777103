/*
 * queue_count.c
 *		Counting long queues, so that who reads coord.queue need not.
 *
 * coord.queue counts the tasks of a short queue when it is read.  Those of a long one it
 * takes from coord.queue_count, which says as of when it is; the worker, or sweep()
 * without one, counts all tasks for that, in parts, when there are many and some were
 * created, have finished or are in another state since.  It takes a small part of the
 * time for this, however long the queues are: the longer a count takes, the later comes
 * the next one.
 *
 * There may be very many queues that are short: then the longer ones of those are kept
 * too, so that a reader of all of them counts no more than COUNTED_TOGETHER.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "clock.h"
#include "locks.h"
#include "queue_count.h"
#include "rights.h"
#include "store/count_store.h"
#include "store/store.h"
#include "worker/shared.h"

#define COUNTED_TOGETHER (10 * COUNTED_AT_READING)

/* a part is a few milliseconds' work */
#define BLOCKS_AT_ONCE 256

/* from the end of a count to the begin of the next one, at least so long and so many times what it took */
#define MIN_PAUSE (5 * USECS_PER_SEC)
#define PAUSE_FACTOR 20

PG_FUNCTION_INFO_V1(coord_count_tasks);

/* the count that is going on */
static struct
{
	MemoryContext context;		/* NULL: none is */
	HTAB	   *queues;
	CountPlace	place;
	QueueCount *last;
	int64		took;
}			count;

static TimestampTz next_due = DT_NOEND;

/* count_tasks(queue) */
Datum
coord_count_tasks(PG_FUNCTION_ARGS)
{
	char	   *queue = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Datum		values[COUNT_TASKS_COLUMNS] = {0};
	bool		nulls[COUNT_TASKS_COLUMNS];
	TupleDesc	desc;
	StoreScope	scope;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != COUNT_TASKS_COLUMNS)
		elog(ERROR, "return type must be a row of %d columns", COUNT_TASKS_COLUMNS);
	desc = BlessTupleDesc(desc);
	memset(nulls, true, sizeof(nulls));
	store_open(&scope);
	if (coord_sees_queue(store_caller(), queue))
	{
		store_count_tasks(queue);
		for (int i = 0; i < COUNT_TASKS_COLUMNS; i++)
			values[i] = store_value(0, i + 1, &nulls[i]);
	}
	PG_RETURN_DATUM(store_close_with(&scope, HeapTupleGetDatum(heap_form_tuple(desc, values, nulls))));
}

/* Begin again from nothing: the present count has failed, or has ended. */
void
coord_count_anew(void)
{
	if (count.context != NULL)
		MemoryContextDelete(count.context);
	memset(&count, 0, sizeof(count));
}

static void
begin(void)
{
	HASHCTL		control = {.keysize = QUEUE_NAME_LEN + 1, .entrysize = sizeof(QueueCount)};

	count.context = AllocSetContextCreate(TopMemoryContext, "coord queue counts", ALLOCSET_DEFAULT_SIZES);
	control.hcxt = count.context;
	count.queues = hash_create("coord queue counts", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static QueueCount *
count_of(const char *queue)
{
	bool		found;

	/* tasks of a queue are often beside each other */
	if (count.last != NULL && strcmp(count.last->queue, queue) == 0)
		return count.last;
	count.last = hash_search(count.queues, queue, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) count.last + QUEUE_NAME_LEN + 1, 0, sizeof(QueueCount) - QUEUE_NAME_LEN - 1);
		count.last->oldest_run_at = DT_NOEND;
		count.last->next_run_at = DT_NOEND;
	}
	return count.last;
}

static int64
total(const QueueCount *queue)
{
	return queue->pending + queue->scheduled + queue->blocked + queue->claimed + queue->dead;
}

/* How many tasks the queues that have no more than "limit" have together. */
static int64
together(int64 limit)
{
	HASH_SEQ_STATUS status;
	QueueCount *queue;
	int64		sum = 0;

	hash_seq_init(&status, count.queues);
	while ((queue = hash_seq_search(&status)) != NULL)
		sum += total(queue) <= limit ? total(queue) : 0;
	return sum;
}

/*
 * Keep the counts of the queues that who reads coord.queue is not to count.  *changes_at is
 * when the first task that is scheduled in one of them will be pending.
 */
static bool
keep(TimestampTz now, TimestampTz *changes_at)
{
	int64		limit = COUNTED_AT_READING;
	bool		kept = false;
	HASH_SEQ_STATUS status;
	QueueCount *queue;

	while (limit > 0 && together(limit) > COUNTED_TOGETHER)
		limit /= 2;
	store_counts_forget();
	hash_seq_init(&status, count.queues);
	while ((queue = hash_seq_search(&status)) != NULL)
	{
		if (total(queue) <= limit)
			continue;
		store_count_keep(queue, now, count.took);
		*changes_at = Min(*changes_at, queue->next_run_at);
		kept = true;
	}
	return kept;
}

static TimestampTz
pause_end(TimestampTz counted_at, int64 took)
{
	return counted_at + Max(MIN_PAUSE, PAUSE_FACTOR * took);
}

/* Whether it is too early for a count, by the one before. */
static bool
is_early(TimestampTz now)
{
	int64		took;
	TimestampTz counted_at = store_counted(&took);

	/* a clock that was set back does not put it off */
	if (counted_at == DT_NOBEGIN || counted_at > now || pause_end(counted_at, took) <= now)
		return false;
	next_due = pause_end(counted_at, took);
	return true;
}

/* A job: count a part of all tasks; when it was the last part, keep what was counted. */
SweepOutcome
coord_count_queues(SweepCounts *counts pg_attribute_unused())
{
	TimestampTz now = coord_now();
	TimestampTz changes_at = DT_NOEND;
	bool		more;

	next_due = DT_NOEND;
	/* with an older snapshot, what another count has kept cannot be seen */
	if (!store_counts_exist() || IsolationUsesXactSnapshot())
		return SWEEP_SOME;
	if (!coord_try_lock_counting())
		return SWEEP_LOCKED;
	if (count.context == NULL)
	{
		if (is_early(now))
			return SWEEP_SOME;
		begin();
		coord_counting();
	}
	more = store_count_some(&count.place, BLOCKS_AT_ONCE, now, count_of);
	count.took += coord_later(coord_now(), now) - now;
	if (more)
		return SWEEP_MORE;
	now = coord_now();
	if (coord_counted(keep(now, &changes_at)))
		changes_at = now;
	if (changes_at != DT_NOEND)
		next_due = Max(changes_at, pause_end(now, count.took));
	coord_count_anew();
	return SWEEP_SOME;
}

/* When the next count is to begin, if one is wanted already. */
TimestampTz
coord_counting_next_due(void)
{
	return next_due;
}
