/*
 * finished_store.h
 *		Where finished tasks are kept: coord.task_finished, in its partitions.
 */
#ifndef COORD_STORE_FINISHED_STORE_H
#define COORD_STORE_FINISHED_STORE_H

#include "store/partition.h"
#include "store/rows.h"

/* the columns of coord.task, which those of task_dead are, and of task_finished the first ones */
#define FINISHED_COLUMNS \
	"id, queue, type, payload, priority, state, run_at, attempts, max_attempts, agent_id, lease_id," \
	" fencing_token, lease_expires_at, resource_key, unique_key, depends_on, progress, result, error," \
	" created_at, claimed_at, finished_at"

/* in the schema of coord 1.0 finished tasks have no partitions of ours */
#define FINISHED_UNPARTITIONED (-1)

extern RowsTable *store_finished_open(const char *queue, TimestampTz now, int *partition);
extern void store_finished_keep(TimestampTz now, TimestampTz before, RetentionCounts *counts);
extern void store_finished_delete(TimestampTz before, RetentionCounts *counts);
extern TimestampTz store_finished_next_due(void);

#endif							/* COORD_STORE_FINISHED_STORE_H */
