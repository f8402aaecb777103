/*
 * sweep.h
 *		Upkeep in batches, by the worker or by hand.
 */
#ifndef COORD_WORKER_SWEEP_H
#define COORD_WORKER_SWEEP_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef struct SweepCounts
{
	int64		leases_expired;
	int64		agents_expired;
	int64		tasks_requeued; /* or made dead letters */
	int64		leases_renewed;
	int64		events_delivered;
	int64		agents_retired; /* since they were inactive for long */
	int64		agents_deleted;
	int64		lag_max;		/* microseconds from an instant to what it brought */
} SweepCounts;

typedef enum SweepOutcome
{
	SWEEP_IDLE,					/* nothing was done; what is due all the same is locked */
	SWEEP_SOME,
	SWEEP_LOCKED,				/* another transaction has locked something that is to be done */
	SWEEP_MORE					/* there is more to do */
} SweepOutcome;

/* each is a batch in the current transaction */
extern SweepOutcome coord_sweep_agents(SweepCounts *counts, bool also_unknown);
extern void coord_sweep_agents_anew(void);
extern SweepOutcome coord_sweep_leases(SweepCounts *counts, bool one_by_one);
extern SweepOutcome coord_sweep_claims(SweepCounts *counts);
extern SweepOutcome coord_sweep_orphans(SweepCounts *counts);
extern void coord_sweep_orphans_anew(void);
extern SweepOutcome coord_sweep_releases(SweepCounts *counts);
extern void coord_sweep_releases_anew(void);
extern SweepOutcome coord_sweep_retired(SweepCounts *counts);
extern void coord_sweep_retired_anew(void);
extern SweepOutcome coord_sweep_checks(SweepCounts *counts);
extern void coord_sweep_checks_anew(void);
extern SweepOutcome coord_sweep_dependants(SweepCounts *counts);
extern void coord_sweep_dependants_anew(void);
extern void coord_sweep_counts_add(SweepCounts *to, const SweepCounts *from);

/* what is being looked at, in case of an error */
extern void coord_sweeping(const pg_uuid_t *item);
extern const pg_uuid_t *coord_swept_last(void);

#endif							/* COORD_WORKER_SWEEP_H */
