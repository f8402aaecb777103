/*
 * peek.c
 *		A look at what comes next in a queue, which takes nothing away.
 *
 * It is for who waits (queue_wait.c).  The queue's ring scans the index as for a
 * claimant, so that its dead entries are passed once for all, claimants and waiters.
 * The candidates stay in the ring, where claimants can have them, and are copied; the
 * rows are read after the ring's lock is let go.
 *
 * A candidate is dropped from the ring for the reasons for which a claimant drops it
 * (ready.c), but not if anything was announced since the copy was made: it might have
 * been this one.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "claim/peek.h"
#include "claim/ring.h"
#include "lease.h"
#include "queue_waiters.h"
#include "store/task_store.h"

/* what a candidate is found to be */
typedef enum CandidateState
{
	CANDIDATE_CLAIMABLE,
	CANDIDATE_BUSY,				/* another transaction is at it, or at its resource */
	CANDIDATE_TO_DROP			/* others will announce it, if it is to be claimable */
} CandidateState;

/* a copy of what a shared ring knew, the first candidate first */
typedef struct Peek
{
	ReadyKey	key;
	SharedRing *shared;
	uint64		announced;
	int			n;
	ReadyTask	tasks[RING_TASKS];
	TimestampTz next_at;		/* if the ring had nothing more to scan */
} Peek;

/* Whether a resource would be granted to somebody who holds nothing. */
static CandidateState
look_at_resource(const char *resource_key, uint64 *holders)
{
	LeaseRow   *lease;
	const pg_uuid_t *holder;

	coord_queue_waiter_needs(resource_key);
	switch (coord_lease_outlook(resource_key, &lease))
	{
		case LEASE_GRANTED:
			return CANDIDATE_CLAIMABLE;
		case LEASE_HELD:
			holder = coord_lease_usable_by(lease);
			if (holder != NULL)
				*holders |= ring_holder_bit(holder);	/* for whom it is claimable all the same */
			return CANDIDATE_TO_DROP;
		default:
			return CANDIDATE_BUSY;
	}
}

static CandidateState
look_at(const char *queue, const ReadyTask *candidate, uint64 *holders)
{
	TaskRow		task;

	switch (store_task_candidate(queue, candidate, &task))
	{
		case STORE_ROW_CHANGED:
			return CANDIDATE_TO_DROP;
		case STORE_ROW_BUSY:
			return CANDIDATE_BUSY;
		case STORE_ROW_LOCKED:
			break;
	}
	if (store_task_is_locked(&task))
		return CANDIDATE_BUSY;
	return task.resource_key != NULL ? look_at_resource(task.resource_key, holders) : CANDIDATE_CLAIMABLE;
}

/* Have the shared ring know what comes first, or with "all" all that it has room for, and copy it. */
static ReadyOutcome
copy_ring(Peek *peek, const char *queue, TimestampTz now, bool all)
{
	ReadyOutcome outcome;

	do
	{
		SharedRing *shared;

		CHECK_FOR_INTERRUPTS();
		shared = ring_lock_or_give(&peek->key);
		outcome = all ? ring_look_on(&shared->ring, queue, now) : ring_find_first(&shared->ring, queue, now, 1);
		peek->shared = shared;
		peek->announced = shared->announced;
		peek->n = shared->ring.ntasks;
		for (int i = 0; i < peek->n; i++)
			peek->tasks[i] = shared->ring.tasks[peek->n - 1 - i];
		peek->next_at = ring_next_at(&shared->ring);
		ring_unlock(shared);
	} while (outcome == READY_LOOK_AGAIN);
	return outcome;
}

static void
drop(const Peek *peek, const ReadyTask *tasks, int n, uint64 holders)
{
	SharedRing *shared = n > 0 ? ring_lock_of(&peek->key) : NULL;

	if (shared == NULL)
		return;
	if (shared == peek->shared && shared->announced == peek->announced)
	{
		shared->holders |= holders;
		for (int i = 0; i < n; i++)
			ring_remove(&shared->ring, &tasks[i]);
	}
	ring_unlock(shared);
}

/* Whether one of the copied candidates is claimable; *ndropped of those before it are to be dropped, and are. */
static bool
try_copies(const Peek *peek, const char *queue, int *ndropped)
{
	MemoryContext per_task = AllocSetContextCreate(CurrentMemoryContext, "coord peek", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = CurrentMemoryContext;
	CandidateState state = CANDIDATE_BUSY;
	ReadyTask	dropped[RING_TASKS];
	uint64		holders = 0;

	*ndropped = 0;
	for (int i = 0; i < peek->n && state != CANDIDATE_CLAIMABLE; i++)
	{
		MemoryContextSwitchTo(per_task);
		state = look_at(queue, &peek->tasks[i], &holders);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(per_task);
		if (state == CANDIDATE_TO_DROP)
			dropped[(*ndropped)++] = peek->tasks[i];
	}
	MemoryContextDelete(per_task);
	drop(peek, dropped, *ndropped, holders);
	return state == CANDIDATE_CLAIMABLE;
}

/* The same with a ring of one's own, where the shared one does not serve. */
static bool
peek_privately(const char *queue, TimestampTz now, TimestampTz *next_at)
{
	Ring	   *ring = ring_make_private();
	MemoryContext per_task = AllocSetContextCreate(CurrentMemoryContext, "coord peek", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = CurrentMemoryContext;
	CandidateState state = CANDIDATE_BUSY;
	ReadyOutcome outcome = READY_TASK;

	while (state != CANDIDATE_CLAIMABLE && outcome != READY_NONE)
	{
		ReadyTask	candidate;
		uint64		holders = 0;

		CHECK_FOR_INTERRUPTS();
		outcome = ring_next(ring, queue, now, RING_TASKS, &candidate);
		if (outcome != READY_TASK)
			continue;
		MemoryContextSwitchTo(per_task);
		state = look_at(queue, &candidate, &holders);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(per_task);
	}
	MemoryContextDelete(per_task);
	*next_at = ring_next_at(ring);
	return state == CANDIDATE_CLAIMABLE;
}

/*
 * Whether a task of the queue is ready, nobody is at it, and its resource, if it needs
 * one, is free.  Else *next_at is when the next one is ready by its run_at.
 */
bool
coord_peek(const char *queue, TimestampTz now, TimestampTz *next_at)
{
	Peek	   *peek = palloc0(sizeof(Peek));
	bool		all = false;
	ReadyOutcome outcome;
	int			ndropped;

	coord_ready_key(queue, &peek->key);
	store_prepare_scan();
	for (;;)
	{
		outcome = copy_ring(peek, queue, now, all);
		if (outcome == READY_USE_PRIVATE)
			return peek_privately(queue, now, next_at);
		if (try_copies(peek, queue, &ndropped))
			return true;
		if (outcome == READY_NONE)
			break;
		if (all && ndropped == 0)
			return peek_privately(queue, now, next_at); /* the ring is full of what is busy */
		all = true;
	}
	*next_at = peek->next_at;
	return false;
}
