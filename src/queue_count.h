/*
 * queue_count.h
 *		Counting long queues.
 */
#ifndef COORD_QUEUE_COUNT_H
#define COORD_QUEUE_COUNT_H

#include "worker/sweep.h"

/* a queue with more tasks than this is not counted by who reads coord.queue */
#define COUNTED_AT_READING 10000

extern SweepOutcome coord_count_queues(SweepCounts *counts);
extern TimestampTz coord_counting_next_due(void);
extern void coord_count_anew(void);

#endif							/* COORD_QUEUE_COUNT_H */
