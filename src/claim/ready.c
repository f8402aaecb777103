/*
 * ready.c
 *		The ready ring: which task of a queue a claimant tries next.
 *
 * The head of a queue's order index is where every claimant would look, pass over what
 * others have claimed a moment before, and meet the others.  Worse, while somewhere an
 * old snapshot is held, vacuum may not remove the entries of finished tasks there, and
 * each claim walks over all of them.  So a queue has a ring in shared memory: a few
 * candidates, which one scan of the index has found for many claims, and where that
 * scan goes on.  An entry of the index is passed once, not once for each claim.
 *
 * What a ring knows, and why no task is stranded, is in ring.c; which queue has which
 * ring, in rings.c.  Here is what a claimant has taken away, and what becomes of it:
 *
 * - If it claims the task and its transaction, or subtransaction, is rolled back, the
 *   candidate is put back (coord_ready_undo).  So it is if the claim did not come to it,
 *   if the task was only locked by others, or not visible to an old snapshot.
 * - It is dropped if it is no pending task any more: who makes it one again announces
 *   it.  And if its resource is held: who ends that lease announces the first task that
 *   waits for it (store_announce_waiting), and whoever cancels that one, the next.
 *
 * Without shared memory, and where a shared ring does not serve, a claimant makes a
 * ring of its own, which begins with knowing nothing: slower, never wrong.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"

#include "claim/ring.h"
#include "queue_waiters.h"
#include "store/task_store.h"
#include "worker/shared.h"

/* one claim's way through a queue */
struct ReadyClaim
{
	const char *queue;
	Ring	   *own;			/* its own ring; NULL: the queue's shared one, found by the key at every step anew */
	ReadyKey	key;
	uint64		holder;			/* the claimant's bit among holders */
	int			in_hand;		/* how many candidates the transaction had before */
	int			ngiven;			/* and how many when one was given last */
};

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

static InHand *hand = NULL;
static int	nhand = 0;
static int	hand_size = 0;

uint64
ring_holder_bit(const pg_uuid_t *agent_id)
{
	return UINT64CONST(1) << (hash_bytes(agent_id->data, UUID_LEN) % 64);
}

/* With a ring of one's own, that knows nothing. */
ReadyClaim *
coord_ready_open_private(const char *queue)
{
	ReadyClaim *claim = palloc0(sizeof(ReadyClaim));

	claim->queue = queue;
	claim->own = ring_make_private();
	return claim;
}

/* With the queue's ring, for an agent; if there is shared memory. */
ReadyClaim *
coord_ready_open(const char *queue, const pg_uuid_t *agent_id)
{
	ReadyClaim *claim;

	if (coord_shared == NULL)
		return coord_ready_open_private(queue);

	claim = palloc0(sizeof(ReadyClaim));
	claim->queue = queue;
	claim->holder = ring_holder_bit(agent_id);
	claim->in_hand = nhand;
	claim->ngiven = nhand;
	coord_ready_key(queue, &claim->key);
	store_prepare_scan();
	return claim;
}

bool
coord_ready_is_shared(const ReadyClaim *claim)
{
	return claim->own == NULL;
}

static void
make_room_in_hand(void)
{
	int			size = Max(RING_TASKS, hand_size * 2);

	if (nhand + RING_TASKS <= hand_size)
		return;
	hand = hand == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(InHand) * size) :
		repalloc_huge(hand, sizeof(InHand) * size);
	hand_size = size;
}

/*
 * Take what comes next from the shared ring, as much as a claim for "want" may need and
 * is at hand: one turn at its lock, and neighbouring rows for one claimant.
 */
static ReadyOutcome
take_run(ReadyClaim *claim, TimestampTz now, int want)
{
	SharedRing *shared;
	ReadyOutcome outcome = READY_TASK;
	ReadyTask	task;

	make_room_in_hand();
	shared = ring_lock_or_give(&claim->key);
	if (shared->holders & claim->holder)
	{
		ring_unlock(shared);
		return READY_USE_PRIVATE;	/* what was dropped may be for this agent */
	}
	for (int n = 0; n < Min(want, RING_TASKS) && (n == 0 || shared->ring.ntasks > 0) && outcome == READY_TASK; n++)
	{
		outcome = ring_next(&shared->ring, claim->queue, now, want - n, &task);
		if (outcome == READY_TASK)
			hand[nhand++] = (InHand) {claim->key, task, GetCurrentSubTransactionId(), HAND_PUT_BACK};
	}
	ring_unlock(shared);
	return nhand > claim->ngiven ? READY_TASK : outcome;
}

/* The next candidate for a claim that wants so many more. */
ReadyOutcome
coord_ready_next(ReadyClaim *claim, TimestampTz now, int want, ReadyTask *task)
{
	if (claim->own != NULL)
		return ring_next(claim->own, claim->queue, now, want, task);

	if (claim->ngiven == nhand)
	{
		ReadyOutcome outcome = take_run(claim, now, want);

		if (outcome != READY_TASK)
			return outcome;
	}
	hand[claim->ngiven].state = HAND_KEEP;
	*task = hand[claim->ngiven++].task;
	return READY_TASK;
}

/* The last one that was given will be announced by others, if it is to be claimable. */
void
coord_ready_drop(ReadyClaim *claim)
{
	if (claim->own == NULL)
		hand[claim->ngiven - 1].state = HAND_DROP;
}

/* The same, because its resource is held; "holder", unless NULL, is for whom it is claimable all the same. */
void
coord_ready_drop_held(ReadyClaim *claim, const pg_uuid_t *holder)
{
	SharedRing *shared;

	if (claim->own != NULL)
		return;
	shared = holder != NULL ? ring_lock_of(&claim->key) : NULL;
	if (shared != NULL)
	{
		shared->holders |= ring_holder_bit(holder);
		ring_unlock(shared);
	}
	coord_ready_drop(claim);
}

/* The last one that was given may be claimable, but not by this claim; when it is over, for others. */
void
coord_ready_is_busy(ReadyClaim *claim)
{
	if (claim->own == NULL)
		hand[claim->ngiven - 1].state = HAND_PUT_BACK;
}

/* Others have not seen it meanwhile, so who waits for one is to look again. */
static void
put_back(const InHand *taken)
{
	SharedRing *shared = ring_lock_of(&taken->key);

	if (shared != NULL)
	{
		if (taken->task.priority >= shared->ring.looked_below)
			ring_put(&shared->ring, &taken->task);
		shared->announced++;
		ring_unlock(shared);
	}
	coord_queue_wake_hashed(taken->key.name_hash);
}

/* A claim is over. */
void
coord_ready_close(ReadyClaim *claim)
{
	int			kept = claim->in_hand;

	if (claim->own != NULL)
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
