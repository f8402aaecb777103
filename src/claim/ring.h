/*
 * ring.h
 *		What a ready ring knows.
 */
#ifndef COORD_CLAIM_RING_H
#define COORD_CLAIM_RING_H

#include "storage/lwlock.h"

#include "claim/ready.h"

#define RING_TASKS 64
#define RING_LANES 8

/* where the scan of a priority goes on; there is none when it has nothing left */
typedef struct Lane
{
	int32		priority;
	ReadyPosition next;
	TimestampTz next_at;		/* nothing from there on is ready before that; DT_NOBEGIN: not known */
} Lane;

typedef struct Ring
{
	bool		shared;			/* its lock is held by who is at it; else it is a claimant's own, and its lanes may grow */
	int			scan_size;
	int64		looked_below;
	int			nlanes;
	int			max_lanes;
	int			ntasks;
	Lane	   *lanes;			/* the highest priority first */
	ReadyTask	tasks[RING_TASKS];	/* the last one comes first */
} Ring;

/* a queue's ring in shared memory */
typedef struct SharedRing
{
	ReadyKey	key;
	LWLock	   *lock;			/* of all that follows, and the key */
	bool		used;			/* since it was last thought of for another queue */
	uint64		announced;		/* how often something may have come back; or all was forgotten */
	uint64		holders;		/* a bit for each hash of who holds what a dropped candidate waits for */
	Ring		ring;
	Lane		lanes[RING_LANES];
} SharedRing;

extern Ring *ring_make_private(void);
extern void ring_forget(Ring *ring);
extern void ring_put(Ring *ring, const ReadyTask *task);
extern void ring_remove(Ring *ring, const ReadyTask *task);
extern void ring_go_back(Ring *ring, int32 priority, const ReadyPosition *position);
extern void ring_announce(Ring *ring, const ReadyTask *task, TimestampTz now);
extern ReadyOutcome ring_next(Ring *ring, const char *queue, TimestampTz now, int want, ReadyTask *task);
extern ReadyOutcome ring_find_first(Ring *ring, const char *queue, TimestampTz now, int want);
extern ReadyOutcome ring_look_on(Ring *ring, const char *queue, TimestampTz now);
extern TimestampTz ring_next_at(const Ring *ring);

extern uint64 ring_holder_bit(const pg_uuid_t *agent_id);
extern SharedRing *ring_lock_of(const ReadyKey *key);
extern SharedRing *ring_lock_or_give(const ReadyKey *key);
extern void ring_unlock(SharedRing *shared);

#endif							/* COORD_CLAIM_RING_H */
