/*
 * sweep.h
 *		One round of upkeep, by the worker or by hand.
 */
#ifndef COORD_WORKER_SWEEP_H
#define COORD_WORKER_SWEEP_H

#include "utils/timestamp.h"

typedef struct SweepCounts
{
	int64		leases_expired;
	int64		agents_expired;
	int64		tasks_requeued; /* or made dead letters */
	int64		leases_renewed;
	int64		events_delivered;
	int64		lag_max;		/* microseconds from an instant to what it brought */
} SweepCounts;

typedef enum SweepOutcome
{
	SWEEP_IDLE,					/* nothing that is due could be done */
	SWEEP_SOME,					/* all that was due, but for what is locked, is done */
	SWEEP_MORE,					/* a batch was full */
	SWEEP_LOCKED				/* another transaction does it */
} SweepOutcome;

extern SweepOutcome coord_sweep_batch(SweepCounts *counts);
extern SweepOutcome coord_deliver_batch(SweepCounts *counts);
extern void coord_sweep_counts_add(SweepCounts *to, const SweepCounts *from);

#endif							/* COORD_WORKER_SWEEP_H */
