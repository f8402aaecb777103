/*
 * backoff.h
 *		How long a failed task waits.
 */
#ifndef COORD_BACKOFF_H
#define COORD_BACKOFF_H

#include "store/queue_store.h"
#include "utils/uuid.h"

extern int64 coord_backoff_usec(const QueueRow *queue, int attempts, const pg_uuid_t *task_id);

#endif							/* COORD_BACKOFF_H */
