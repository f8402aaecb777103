/*
 * stats_store.h
 *		What queues have done.
 */
#ifndef COORD_STORE_STATS_STORE_H
#define COORD_STORE_STATS_STORE_H

#include "store/store.h"

/* what a queue has done; a negative duration is none */
typedef struct QueueStat
{
	char	   *queue;
	int64		completed;
	int64		failed_attempts;
	int64		waiting_p50;
	int64		waiting_p95;
	int64		running_p50;
	int64		running_p95;
} QueueStat;

extern List *store_queue_stat_list(TimestampTz since, Oid reader);
extern void store_queue_stats(FunctionCallInfo fcinfo, const char *queue, TimestampTz since, Oid reader);

#endif							/* COORD_STORE_STATS_STORE_H */
