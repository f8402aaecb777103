/*
 * ready.c
 *		The ready ring: which tasks of a queue come next.
 *
 * The head of a queue's order index is where every claimant would look, pass over what
 * others have claimed a moment before, and meet the others.  Worse, while somewhere an
 * old snapshot is held, vacuum may not remove the entries of finished tasks there, and
 * each claim walks over all of them.  So a queue has a ring in shared memory: a few
 * candidates, which one scan of the index has found for many claims, and where that
 * scan goes on.  An entry of the index is passed once, not once for each claim.
 *
 * A candidate is a hint.  Its claimant looks at the row, and goes on to the next when
 * it is not claimable.  What makes a task be claimed once is the update of its row, see
 * store_task_claim(), and nothing here.
 *
 * A ring must miss nothing.  It knows, in the order in which
 * tasks are claimed (priority descending, ready_at, seq):
 *
 *		looked_below	priorities below have not been looked at;
 *		lanes			for a priority, where to go on: what is from there on has
 *						not been looked at, or was not ready (next_at tells when);
 *		tasks			the candidates.
 *
 * INVARIANT: a committed task of the queue that is claimable is a candidate, or in the
 * hands of a claimant, or where nobody has looked yet, or the first task with its
 * resource is.  A ring that knows nothing holds that trivially.  It is kept so:
 *
 * - A scan sees what was committed before it began, under the ring's lock; it passes
 *   over what was committed later, or had not been ready.  Therefore a transaction that
 *   makes a task claimable announces it after its commit, when scans can see it: the
 *   task becomes a candidate, or the lane goes back to it (coord_ready_announce).
 * - A claimant has taken candidates away, as many as it wants.  If it claims a task and
 *   its transaction, or subtransaction, is rolled back, the candidate is put back
 *   (coord_ready_undo); also if it did not come to that one, if the task was only locked
 *   by others, or not visible to an old snapshot.  It is dropped if it is no pending
 *   task any more: who makes it one again announces it.  And if its resource is held: who ends that lease announces the first task that
 *   waits for it (store_announce_waiting), and whoever cancels that one, the next.
 * - When there is no room, the last candidate goes, and its lane goes back to it; and
 *   the lowest lane, and looked_below goes up to it.
 * - What ends without telling (COMMIT PREPARED in another session, a restore) makes all
 *   rings of the database know nothing (coord_ready_forget_all).  A crash of a backend
 *   makes the shared memory anew.
 *
 * While a ring is locked nothing may wait for a lock of the lock manager, which could
 * neither be cancelled nor be seen to deadlock: relations are opened before.  The lock
 * of the table of rings comes before that of a ring.
 *
 * Without shared memory, and where a shared ring does not serve, a claimant makes a
 * ring of its own, which begins with knowing nothing: slower, never wrong.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "claim/ready.h"
#include "compat.h"
#include "settings.h"
#include "store/task_store.h"
#include "worker/shared.h"

#define RING_TASKS 64
#define RING_LANES 8

/* a first scan is for so many tasks, each further one for twice as many */
#define FIRST_SCAN 4

/* looked_below when nothing has been looked at, and when everything has */
#define ABOVE_ALL ((int64) PG_INT32_MAX + 1)
#define BELOW_NONE ((int64) PG_INT32_MIN)

#define FROM_START ((ReadyPosition) {DT_NOBEGIN, 0})

/* where the scan of a priority goes on; there is none when it has nothing left */
typedef struct Lane
{
	int32		priority;
	ReadyPosition next;
	TimestampTz next_at;		/* nothing from there on is ready before that; DT_NOBEGIN: not known */
} Lane;

struct ReadyRing
{
	ReadyKey	key;
	LWLock	   *lock;			/* NULL: it is a claimant's own */
	const char *queue;			/* then, its name */
	int			in_hand;		/* of a handle: how many candidates the transaction had before */
	int			ngiven;			/* and how many it had when one was given last */
	bool		used;			/* since it was last thought of for another queue */
	uint64		holders;		/* a bit for each hash of who holds what a dropped candidate waits for */
	int			scan_size;
	int64		looked_below;
	int			nlanes;
	int			max_lanes;
	int			ntasks;
	Lane	   *lanes;			/* the highest priority first */
	ReadyTask	tasks[RING_TASKS];	/* the last one comes first */
};

/* where the ring of a queue is; in a hash table under coord_shared->ready_lock */
typedef struct RingEntry
{
	ReadyKey	key;
	int			ring;
} RingEntry;

/* what is to become of a candidate that was taken, when the claim for which it was is over */
typedef enum InHandState
{
	HAND_PUT_BACK,
	HAND_KEEP,					/* it is claimed, if the transaction commits */
	HAND_DROP					/* others will announce it */
} InHandState;

/* a candidate that this transaction has taken from a shared ring */
typedef struct InHand
{
	ReadyKey	key;
	ReadyTask	task;
	SubTransactionId subid;
	InHandState state;
} InHand;

static HTAB *ring_of = NULL;
static char *rings = NULL;		/* coord_max_ready_queues of RING_SIZE */

static InHand *hand = NULL;
static int	nhand = 0;
static int	hand_size = 0;

#define RING_SIZE MAXALIGN(sizeof(ReadyRing) + RING_LANES * sizeof(Lane))

static ReadyRing *ring_at(int i);
static void forget(ReadyRing *ring);
static Lane *find_lane(ReadyRing *ring, int32 priority);
static void go_back(ReadyRing *ring, int32 priority, const ReadyPosition *position);
static void put(ReadyRing *ring, const ReadyTask *task);

Size
coord_ready_size(void)
{
	return add_size(mul_size(coord_max_ready_queues, RING_SIZE),
					hash_estimate_size(coord_max_ready_queues, sizeof(RingEntry)));
}

void
coord_ready_init(void)
{
	HASHCTL		ctl = {.keysize = sizeof(ReadyKey), .entrysize = sizeof(RingEntry)};
	LWLockPadded *locks = GetNamedLWLockTranche("coord_ready");
	bool		found;

	rings = ShmemInitStruct("coord ready rings", mul_size(coord_max_ready_queues, RING_SIZE), &found);
	ring_of = ShmemInitHash("coord queues with a ready ring", coord_max_ready_queues, coord_max_ready_queues,
							&ctl, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	for (int i = 0; !found && i < coord_max_ready_queues; i++)
	{
		ReadyRing  *ring = ring_at(i);

		memset(ring, 0, RING_SIZE);
		ring->lock = &locks[i].lock;
		ring->lanes = (Lane *) ((char *) ring + MAXALIGN(sizeof(ReadyRing)));
		ring->max_lanes = RING_LANES;
		forget(ring);
	}
}

void
coord_ready_key(const char *queue, ReadyKey *key)
{
	RowsTable  *table = rows_open("task_live", AccessShareLock);
	int			len = strlen(queue);

	memset(key, 0, sizeof(ReadyKey));
	key->dbid = MyDatabaseId;
	key->file = coord_file_of(table->rel);
	for (int i = 0; i < 2; i++)
		key->name_hash[i] = hash_bytes_extended((const unsigned char *) queue, len, i);
}

static bool
same_key(const ReadyKey *a, const ReadyKey *b)
{
	return memcmp(a, b, sizeof(ReadyKey)) == 0;
}

/* ---- the order ---- */

static int
compare_positions(const ReadyPosition *a, const ReadyPosition *b)
{
	if (a->ready_at != b->ready_at)
		return a->ready_at < b->ready_at ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

bool
coord_ready_is_before(const ReadyPosition *a, const ReadyPosition *b)
{
	return compare_positions(a, b) < 0;
}

/* In the order in which a queue's tasks are claimed, for qsort(). */
int
coord_ready_compare(const ReadyTask *a, const ReadyTask *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	return compare_positions(&a->position, &b->position);
}

/* ---- finding a queue's ring ---- */

static ReadyRing *
ring_at(int i)
{
	return (ReadyRing *) (rings + i * RING_SIZE);
}

static void
lock(ReadyRing *ring)
{
	if (ring->lock != NULL)
		LWLockAcquire(ring->lock, LW_EXCLUSIVE);
}

static void
unlock(ReadyRing *ring)
{
	if (ring->lock != NULL)
		LWLockRelease(ring->lock);
}

/* The shared ring of a queue, locked; NULL when it has none. */
static ReadyRing *
lock_ring_of(const ReadyKey *key)
{
	RingEntry  *entry;
	ReadyRing  *ring = NULL;

	LWLockAcquire(coord_shared->ready_lock, LW_SHARED);
	entry = hash_search(ring_of, key, HASH_FIND, NULL);
	if (entry != NULL)
		ring = ring_at(entry->ring);
	LWLockRelease(coord_shared->ready_lock);
	if (ring == NULL)
		return NULL;

	lock(ring);
	if (same_key(&ring->key, key))
		return ring;
	unlock(ring);				/* it has just become another's, which knows nothing */
	return NULL;
}

/* Give a queue a ring: a free one, or that of a queue that was not used for long. */
static void
give_ring(const ReadyKey *key)
{
	static int	hand_of_clock = 0;
	RingEntry  *entry;
	bool		found;
	ReadyRing  *ring;

	LWLockAcquire(coord_shared->ready_lock, LW_EXCLUSIVE);
	if (hash_search(ring_of, key, HASH_FIND, NULL) == NULL)
	{
		for (;;)
		{
			hand_of_clock = (hand_of_clock + 1) % coord_max_ready_queues;
			ring = ring_at(hand_of_clock);
			if (!ring->used)
				break;
			ring->used = false;
		}
		lock(ring);
		if (OidIsValid(ring->key.dbid))
			hash_search(ring_of, &ring->key, HASH_REMOVE, NULL);
		forget(ring);
		ring->key = *key;
		entry = hash_search(ring_of, key, HASH_ENTER, &found);
		entry->ring = hand_of_clock;
		unlock(ring);
	}
	LWLockRelease(coord_shared->ready_lock);
}

/* A ring that knows nothing. */
ReadyRing *
coord_ready_open_private(const char *queue)
{
	ReadyRing  *ring = palloc0(sizeof(ReadyRing));

	ring->queue = queue;
	ring->max_lanes = RING_LANES;
	ring->lanes = palloc(sizeof(Lane) * ring->max_lanes);
	forget(ring);
	return ring;
}

static uint64
holder_bit(const pg_uuid_t *agent_id)
{
	return UINT64CONST(1) << (hash_bytes(agent_id->data, UUID_LEN) % 64);
}

/* The ring of a queue, for an agent that claims from it; shared if there is shared memory. */
ReadyRing *
coord_ready_open(const char *queue, const pg_uuid_t *agent_id)
{
	ReadyRing  *ring;

	if (coord_shared == NULL)
		return coord_ready_open_private(queue);

	/* a handle: the key says which ring is meant, at every step anew */
	ring = palloc0(offsetof(ReadyRing, tasks));
	ring->queue = queue;
	ring->holders = holder_bit(agent_id);
	ring->in_hand = nhand;
	ring->ngiven = nhand;
	coord_ready_key(queue, &ring->key);
	store_prepare_scan();
	return ring;
}

bool
coord_ready_is_shared(const ReadyRing *ring)
{
	return OidIsValid(ring->key.dbid);
}

/* ---- what a ring knows; its lock is held ---- */

static void
forget(ReadyRing *ring)
{
	ring->looked_below = ABOVE_ALL;
	ring->nlanes = 0;
	ring->ntasks = 0;
	ring->holders = 0;
	ring->scan_size = FIRST_SCAN;
}

static Lane *
find_lane(ReadyRing *ring, int32 priority)
{
	for (int i = 0; i < ring->nlanes; i++)
	{
		if (ring->lanes[i].priority == priority)
			return &ring->lanes[i];
	}
	return NULL;
}

static void
remove_lane(ReadyRing *ring, Lane *lane)
{
	int			after = ring->nlanes - (lane - ring->lanes) - 1;

	memmove(lane, lane + 1, sizeof(Lane) * after);
	ring->nlanes--;
}

/*
 * Add a lane.  When there is no room the lowest one goes and counts as not looked at,
 * which may be the new one: then false.
 */
static bool
add_lane(ReadyRing *ring, int32 priority, ReadyPosition next, TimestampTz next_at)
{
	int			i;

	Assert(find_lane(ring, priority) == NULL);
	if (ring->nlanes == ring->max_lanes && ring->lock == NULL)
	{
		ring->max_lanes *= 2;
		ring->lanes = repalloc_huge(ring->lanes, sizeof(Lane) * ring->max_lanes);
	}
	if (ring->nlanes == ring->max_lanes)
	{
		int32		lowest = Min(ring->lanes[ring->nlanes - 1].priority, priority);

		ring->looked_below = Max(ring->looked_below, (int64) lowest + 1);
		if (priority == lowest)
			return false;
		ring->nlanes--;
	}
	for (i = ring->nlanes; i > 0 && ring->lanes[i - 1].priority < priority; i--)
		ring->lanes[i] = ring->lanes[i - 1];
	ring->lanes[i] = (Lane) {priority, next, next_at};
	ring->nlanes++;
	return true;
}

/* There is something to be found from a position on. */
static void
go_back(ReadyRing *ring, int32 priority, const ReadyPosition *position)
{
	Lane	   *lane;

	if (priority < ring->looked_below)
		return;
	lane = find_lane(ring, priority);
	if (lane == NULL)
	{
		(void) add_lane(ring, priority, *position, position->ready_at);
		return;
	}
	if (compare_positions(position, &lane->next) < 0)
		lane->next = *position;
	lane->next_at = Min(lane->next_at, position->ready_at);
}

/* Make a task a candidate.  If there is no room, the last one is to be found again. */
static void
put(ReadyRing *ring, const ReadyTask *task)
{
	int			low = 0;
	int			high = ring->ntasks;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = coord_ready_compare(&ring->tasks[middle], task);

		if (order == 0)
		{
			ring->tasks[middle].place = task->place;
			return;
		}
		if (order > 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (ring->ntasks == RING_TASKS)
	{
		ReadyTask	last = low == 0 ? *task : ring->tasks[0];

		if (low > 0)
		{
			low--;
			memmove(&ring->tasks[0], &ring->tasks[1], sizeof(ReadyTask) * low);
			ring->tasks[low] = *task;
		}
		go_back(ring, last.priority, &last.position);
		return;
	}
	memmove(&ring->tasks[low + 1], &ring->tasks[low], sizeof(ReadyTask) * (ring->ntasks - low));
	ring->tasks[low] = *task;
	ring->ntasks++;
}

/* A task has become claimable, or will be when it is ready. */
static void
announce(ReadyRing *ring, const ReadyTask *task, TimestampTz now)
{
	Lane	   *lane;

	if (task->priority < ring->looked_below)
		return;
	lane = find_lane(ring, task->priority);
	if (task->position.ready_at > now ||
		(lane != NULL && lane->next_at <= task->position.ready_at &&
		 compare_positions(&task->position, &lane->next) >= 0))
	{
		go_back(ring, task->priority, &task->position);
		return;
	}

	/* nothing that is ready and comes before it is still to be found */
	if (lane != NULL && compare_positions(&task->position, &lane->next) >= 0)
	{
		lane->next = task->position;
		lane->next.seq++;
	}
	put(ring, task);
}

/* Go on with a lane's scan; false when it has found nothing. */
static bool
scan_lane(ReadyRing *ring, Lane *lane, const char *queue, TimestampTz now, int want)
{
	ReadyScan	found;
	int			max = Min(Max(want, ring->scan_size), Max(RING_TASKS - ring->ntasks, FIRST_SCAN));

	ring->scan_size = Min(ring->scan_size * 2, READY_SCAN_MAX);
	store_scan_ready(queue, lane->priority, &lane->next, now, max, ring->lock != NULL, &found);
	lane->next = found.next;
	lane->next_at = found.next_at;
	if (lane->next_at == DT_NOEND)
		remove_lane(ring, lane);
	for (int i = 0; i < found.n; i++)
		put(ring, &found.tasks[i]);
	return found.n > 0;
}

/* The lane that may have something that is ready, and comes before the first candidate. */
static Lane *
lane_to_scan(ReadyRing *ring, TimestampTz now)
{
	ReadyTask  *first = ring->ntasks > 0 ? &ring->tasks[ring->ntasks - 1] : NULL;

	for (int i = 0; i < ring->nlanes; i++)
	{
		Lane	   *lane = &ring->lanes[i];
		ReadyTask	start = {.priority = lane->priority, .position = lane->next};

		if (first != NULL && coord_ready_compare(first, &start) < 0)
			return NULL;
		if (lane->next_at <= now)
			return lane;
	}
	return NULL;
}

/*
 * The next candidate, taken away; it is the first of all, in the queue's order, that
 * are claimable by the invariant and not in somebody's hands.
 */
static ReadyOutcome
next(ReadyRing *ring, const char *queue, TimestampTz now, int want, ReadyTask *task)
{
	ReadyTask  *first;
	Lane	   *lane;
	int			priority;

	while ((lane = lane_to_scan(ring, now)) != NULL)
	{
		if (!scan_lane(ring, lane, queue, now, want))
			return READY_LOOK_AGAIN;
	}

	/* is there a priority that nobody has looked at, and that is not below the first candidate's? */
	first = ring->ntasks > 0 ? &ring->tasks[ring->ntasks - 1] : NULL;
	if (ring->looked_below > (first != NULL ? (int64) first->priority : BELOW_NONE))
	{
		if (!store_next_priority(queue, ring->looked_below, &priority))
			ring->looked_below = BELOW_NONE;
		else
		{
			ring->looked_below = priority;
			if (!add_lane(ring, priority, FROM_START, DT_NOBEGIN))
				return READY_USE_PRIVATE;
		}
		return READY_LOOK_AGAIN;
	}

	if (first == NULL)
		return READY_NONE;
	*task = *first;
	ring->ntasks--;
	return READY_TASK;
}

/* ---- for claimants ---- */

/*
 * Take what comes next from the shared ring, as much as a claim for "want" may need and
 * is at hand: one turn at its lock, and neighbouring rows for one claimant.
 */
static ReadyOutcome
take_run(ReadyRing *handle, TimestampTz now, int want)
{
	ReadyRing  *ring;
	ReadyOutcome outcome = READY_TASK;
	ReadyTask	task;

	if (nhand + RING_TASKS > hand_size)
	{
		int			size = Max(RING_TASKS, hand_size * 2);

		hand = hand == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(InHand) * size) :
			repalloc_huge(hand, sizeof(InHand) * size);
		hand_size = size;
	}
	while ((ring = lock_ring_of(&handle->key)) == NULL)
		give_ring(&handle->key);
	ring->used = true;
	if (ring->holders & handle->holders)
	{
		unlock(ring);
		return READY_USE_PRIVATE;	/* what was dropped may be for this agent */
	}
	for (int n = 0; n < Min(want, RING_TASKS) && (n == 0 || ring->ntasks > 0) && outcome == READY_TASK; n++)
	{
		outcome = next(ring, handle->queue, now, want - n, &task);
		if (outcome == READY_TASK)
			hand[nhand++] = (InHand) {handle->key, task, GetCurrentSubTransactionId(), HAND_PUT_BACK};
	}
	unlock(ring);
	return nhand > handle->ngiven ? READY_TASK : outcome;
}

/* The next candidate for a claim that wants so many more. */
ReadyOutcome
coord_ready_next(ReadyRing *handle, TimestampTz now, int want, ReadyTask *task)
{
	if (!coord_ready_is_shared(handle))
		return next(handle, handle->queue, now, want, task);

	if (handle->ngiven == nhand)
	{
		ReadyOutcome outcome = take_run(handle, now, want);

		if (outcome != READY_TASK)
			return outcome;
	}
	hand[handle->ngiven].state = HAND_KEEP;
	*task = hand[handle->ngiven++].task;
	return READY_TASK;
}

/* The last one that was given will be announced by others, if it is to be claimable. */
void
coord_ready_drop(ReadyRing *handle)
{
	if (coord_ready_is_shared(handle))
		hand[handle->ngiven - 1].state = HAND_DROP;
}

/* The same, because its resource is held; "holder", unless NULL, is for whom it is claimable all the same. */
void
coord_ready_drop_held(ReadyRing *handle, const pg_uuid_t *holder)
{
	ReadyRing  *ring;

	if (!coord_ready_is_shared(handle))
		return;
	ring = holder != NULL ? lock_ring_of(&handle->key) : NULL;
	if (ring != NULL)
	{
		ring->holders |= holder_bit(holder);
		unlock(ring);
	}
	coord_ready_drop(handle);
}

/* The last one that was given may be claimable, but not by this claim; when it is over, for others. */
void
coord_ready_is_busy(ReadyRing *handle)
{
	if (coord_ready_is_shared(handle))
		hand[handle->ngiven - 1].state = HAND_PUT_BACK;
}

static void
put_back(const InHand *taken)
{
	ReadyRing  *ring = lock_ring_of(&taken->key);

	if (ring == NULL)
		return;
	if (taken->task.priority >= ring->looked_below)
		put(ring, &taken->task);
	unlock(ring);
}

/* A claim is over. */
void
coord_ready_close(ReadyRing *handle)
{
	int			kept = handle->in_hand;

	if (!coord_ready_is_shared(handle))
		return;
	for (int i = kept; i < nhand; i++)
	{
		if (hand[i].state == HAND_PUT_BACK)
			put_back(&hand[i]);
		else if (hand[i].state == HAND_KEEP)
			hand[kept++] = hand[i];
	}
	nhand = kept;
}

/* Put back what was taken since that subtransaction began, which is rolled back. */
void
coord_ready_undo(SubTransactionId since)
{
	while (nhand > 0 && hand[nhand - 1].subid >= since)
	{
		nhand--;
		if (hand[nhand].state != HAND_DROP)
			put_back(&hand[nhand]);
	}
}

/* The transaction has committed. */
void
coord_ready_keep(void)
{
	nhand = 0;
}

/* ---- for those who make tasks claimable ---- */

/* A task is claimable from its ready_at on. */
void
coord_ready_announce(const ReadyKey *key, const ReadyTask *task)
{
	ReadyRing  *ring = lock_ring_of(key);

	if (ring == NULL)
		return;
	announce(ring, task, GetCurrentTimestamp());
	unlock(ring);
}

/* Many tasks of a priority are, the first of which is there. */
void
coord_ready_announce_from(const ReadyKey *key, int32 priority, const ReadyPosition *position)
{
	ReadyRing  *ring = lock_ring_of(key);

	if (ring == NULL)
		return;
	go_back(ring, priority, position);
	unlock(ring);
}

/* Nobody knows what has become claimable in a database. */
void
coord_ready_forget_all(Oid dbid)
{
	HASH_SEQ_STATUS status;
	RingEntry  *entry;

	LWLockAcquire(coord_shared->ready_lock, LW_SHARED);
	hash_seq_init(&status, ring_of);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		ReadyRing  *ring = ring_at(entry->ring);

		if (entry->key.dbid != dbid)
			continue;
		lock(ring);
		forget(ring);
		unlock(ring);
	}
	LWLockRelease(coord_shared->ready_lock);
}
