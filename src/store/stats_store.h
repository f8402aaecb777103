/*
 * stats_store.h
 *		What queues have done.
 */
#ifndef COORD_STORE_STATS_STORE_H
#define COORD_STORE_STATS_STORE_H

#include "store/store.h"

extern void store_queue_stats(FunctionCallInfo fcinfo, const char *queue, TimestampTz since, Oid reader);

#endif							/* COORD_STORE_STATS_STORE_H */
