/*
 * claim.h
 *		Claims: who works on a task, until when, and what becomes of it.
 */
#ifndef COORD_CLAIM_H
#define COORD_CLAIM_H

#include "store/task_store.h"

static inline bool
coord_is_claimed(const TaskRow *task)
{
	return strcmp(task->state, "claimed") == 0;
}

extern bool coord_claim_look(const pg_uuid_t *task_id, TimestampTz now);
extern bool coord_claim_settle(TaskRow *task, TimestampTz now);
extern void coord_claim_end(TaskRow *task, StoreLock lease_lock, TimestampTz now);
extern int	coord_claims_lose_of(const pg_uuid_t *agent_ids, int n, TimestampTz now);
extern void coord_claims_give_back(const pg_uuid_t *agent_id, TimestampTz now);

#endif							/* COORD_CLAIM_H */
