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

/* what was found of a claim that was looked at */
typedef enum ClaimOutcome
{
	CLAIM_HOLDS,				/* or there is none */
	CLAIM_LOST,					/* it had run out, and the task was given back */
	CLAIM_LOCKED				/* another transaction is changing it */
} ClaimOutcome;

extern ClaimOutcome coord_claim_look(const pg_uuid_t *task_id, TimestampTz now);
extern bool coord_claim_settle(TaskRow *task, TimestampTz now);
extern void coord_claim_end(TaskRow *task, TimestampTz now);
extern bool coord_claims_give_back_due(const char *queue, TimestampTz now);
extern int	coord_claims_lose_of(const pg_uuid_t *agent_id, int max, TimestampTz now, bool *all);
extern void coord_claims_give_back(const pg_uuid_t *agent_id, TimestampTz now);

#endif							/* COORD_CLAIM_H */
