/*
 * count_store.h
 *		The kept counts of long queues: coord.queue_count.
 */
#ifndef COORD_STORE_COUNT_STORE_H
#define COORD_STORE_COUNT_STORE_H

#include "storage/block.h"
#include "utils/timestamp.h"

#define QUEUE_NAME_LEN 512

/* what a queue has */
typedef struct QueueCount
{
	char		queue[QUEUE_NAME_LEN + 1];	/* first: the key of a hash table */
	int64		pending;
	int64		scheduled;
	int64		blocked;
	int64		claimed;
	int64		dead;
	TimestampTz oldest_run_at;	/* of what is pending; DT_NOEND: nothing is */
	TimestampTz next_run_at;	/* of what is scheduled; likewise */
} QueueCount;

/* where counting goes on */
typedef struct CountPlace
{
	bool		dead;			/* in task_dead, not task_live */
	BlockNumber block;
} CountPlace;

/* the entry for a queue, all zero (but for the two instants) at first */
typedef QueueCount *(*CountOf) (const char *queue);

/* what store_count_tasks() leaves as the last result */
#define COUNT_TASKS_COLUMNS 7

extern void store_count_tasks(const char *queue);
extern bool store_counts_exist(void);
extern bool store_count_some(CountPlace *place, int nblocks, TimestampTz now, CountOf count_of);
extern TimestampTz store_counted(int64 *took);
extern void store_counts_forget(void);
extern void store_count_keep(const QueueCount *count, TimestampTz counted_at, int64 took);

#endif							/* COORD_STORE_COUNT_STORE_H */
