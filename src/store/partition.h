/*
 * partition.h
 *		Partitions that are filled one after the other and emptied whole.
 */
#ifndef COORD_STORE_PARTITION_H
#define COORD_STORE_PARTITION_H

#include "datatype/timestamp.h"

/* how soon to come back to a partition that somebody is using */
#define PARTITION_BUSY_RETRY (10 * USECS_PER_SEC)

/* what was done about what is too old */
typedef struct RetentionCounts
{
	int64		emptied;		/* partitions */
	int64		deleted;		/* single rows */
} RetentionCounts;

extern bool store_partition_is_empty(const char *name);
extern bool store_partition_truncate(const char *name, bool (*must_stay) (const char *name));
extern bool store_partition_is_unwritten(const char *name);
extern int64 store_partition_delete(const char *name, const char *column, TimestampTz before, const char *condition);

#endif							/* COORD_STORE_PARTITION_H */
