/*
 * queue.h
 *		Queues: their settings.
 */
#ifndef COORD_QUEUE_H
#define COORD_QUEUE_H

extern bool coord_queue_ensure(const char *name);

#endif							/* COORD_QUEUE_H */
