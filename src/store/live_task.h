/*
 * live_task.h
 *		The columns of coord.task_live, for who reaches its rows directly.
 */
#ifndef COORD_STORE_LIVE_TASK_H
#define COORD_STORE_LIVE_TASK_H

#include "store/task_store.h"

enum
{
	LIVE_ID = 1, LIVE_SEQ, LIVE_QUEUE, LIVE_TYPE, LIVE_PAYLOAD, LIVE_PRIORITY, LIVE_MAX_ATTEMPTS,
	LIVE_RESOURCE_KEY, LIVE_UNIQUE_KEY, LIVE_DEPENDS_ON, LIVE_CREATED_AT, LIVE_RUN_AT, LIVE_READY_AT, LIVE_STATE,
	LIVE_ATTEMPTS, LIVE_AGENT_ID, LIVE_LEASE_ID, LIVE_CLAIMED_KEY, LIVE_FENCING_TOKEN, LIVE_LEASE_TTL,
	LIVE_LEASE_EXPIRES_AT, LIVE_CLAIMED_AT, LIVE_CHECK_AT, LIVE_QUEUE_SLOT, LIVE_PROGRESS, LIVE_ERROR
};

extern void store_read_task(TaskRow *task);
extern void store_announce_task(const StoredRow *row);

#endif							/* COORD_STORE_LIVE_TASK_H */
