/*
 * queue_store.h
 *		Stored queues: their settings and slots.
 */
#ifndef COORD_STORE_QUEUE_STORE_H
#define COORD_STORE_QUEUE_STORE_H

#include "postgres.h"
#include "utils/uuid.h"

typedef struct QueueRow
{
	char	   *name;
	bool		exists;			/* false: not stored, has the defaults */
	bool		paused;
	int			max_attempts;
	int64		lease_ttl;		/* microseconds, -1: coord.default_lease_ttl */
	int64		backoff_base;	/* microseconds */
	int64		backoff_max;	/* microseconds */
	int			max_claimed;	/* 0: no limit */
	int64		retention;		/* microseconds, -1: coord.task_retention */
} QueueRow;

extern QueueRow *store_queue(const char *name);
extern QueueRow *store_queue_now(const char *name);
extern QueueRow *store_queue_locked(const char *name);
extern bool store_queue_has_tasks(const char *name);
extern void store_queue_insert(const char *name, Oid created_by);
extern int	store_queues_of(Oid role, int max);
extern void store_queue_update(const QueueRow *queue);
extern Datum store_queue_result(const char *name);

extern void store_slots_resize(const QueueRow *queue);
extern bool store_slot_is_free(const QueueRow *queue);
extern int	store_slot_take(const QueueRow *queue, const pg_uuid_t *task_id);
extern void store_slot_free(const char *queue, int slot);

#endif							/* COORD_STORE_QUEUE_STORE_H */
