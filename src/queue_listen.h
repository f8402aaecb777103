/*
 * queue_listen.h
 *		Telling who listens to a queue that something is claimable.
 */
#ifndef COORD_QUEUE_LISTEN_H
#define COORD_QUEUE_LISTEN_H

#include "utils/timestamp.h"

extern Size coord_listeners_size(void);
extern void coord_listeners_init(void);
extern void coord_listeners_at_xact_end(bool commit);
extern void coord_listeners_at_subxact_abort(SubTransactionId since);

/* at commit: something in the queue is claimable from that instant on */
extern bool coord_queue_is_ready_at(const char *queue, TimestampTz instant);

/* for the worker */
extern void coord_all_queues_ready(void);
extern int	coord_notify_ready_queues(TimestampTz now);
extern TimestampTz coord_queues_next_ready(void);

#endif							/* COORD_QUEUE_LISTEN_H */
