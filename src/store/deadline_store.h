/*
 * deadline_store.h
 *		When the sweep must look at which claim.
 */
#ifndef COORD_STORE_DEADLINE_STORE_H
#define COORD_STORE_DEADLINE_STORE_H

#include "store/task_store.h"

extern void store_deadline_insert(const TaskRow *task);
extern void store_deadline_insert_batch(const pg_uuid_t *agent_id, const UuidList *tasks, TimestampTz check_at);
extern void store_deadline_move(TaskRow *task, TimestampTz check_at);
extern void store_deadline_delete(const TaskRow *task);
extern void store_deadline_of_claim(TaskRow *task, TimestampTz check_at);

extern UuidList store_claims_due(const char *queue, TimestampTz now, int limit, int reach);
extern UuidList store_claims_of(const pg_uuid_t *agent_id, int limit);
extern UuidList store_claims_of_now(const pg_uuid_t *agent_id, int limit);
extern UuidList store_claimants_ended(pg_uuid_t *after, int limit, TimestampTz until, bool *all);
extern TimestampTz store_claims_next_due(void);

#endif							/* COORD_STORE_DEADLINE_STORE_H */
