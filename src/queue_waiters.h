/*
 * queue_waiters.h
 *		Who waits for a queue to have something claimable.
 */
#ifndef COORD_QUEUE_WAITERS_H
#define COORD_QUEUE_WAITERS_H

#include "utils/timestamp.h"

extern Size coord_queue_waiters_size(void);
extern void coord_queue_waiters_init(void);

/* for who waits */
extern bool coord_queue_waiter_reserve(void);
extern void coord_queue_waiter_enter(const char *queue, TimestampTz until);
extern void coord_queue_waiter_leave(void);
extern void coord_queue_waiter_looks(void);
extern void coord_queue_waiter_needs(const char *resource_key);
extern bool coord_queue_waiter_is_first(void);
extern bool coord_queue_waiter_is_told(void);

/* for who changes something, when others can see it */
extern void coord_queue_wake(const char *queue, TimestampTz instant);
extern void coord_queue_wake_hashed(const uint64 *name_hash);
extern void coord_queue_wake_for(const uint64 *resources, int n, bool all);
extern void coord_queue_wake_all(void);

#endif							/* COORD_QUEUE_WAITERS_H */
