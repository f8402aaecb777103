/*
 * ring.c
 *		What a ready ring knows: the candidates of a queue, and where nobody has looked.
 *
 * A candidate is a hint.  Its claimant looks at the row, and goes on to the next when
 * it is not claimable.  What makes a task be claimed once is the update of its row, see
 * store_task_claim(), and nothing here.
 *
 * A ring must miss nothing.  It knows, in the order in which tasks are claimed (priority
 * descending, ready_at, seq):
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
 *   task becomes a candidate, or the lane goes back to it (ring_announce).
 * - A claimant has taken candidates away, as many as it wants.  What becomes of those
 *   that it does not claim for good is in ready.c.
 * - When there is no room, the last candidate goes, and its lane goes back to it; and
 *   the lowest lane, and looked_below goes up to it.
 */
#include "postgres.h"

#include "claim/ring.h"
#include "store/task_store.h"
#include "utils/memutils.h"

/* a first scan is for so many tasks, each further one for twice as many */
#define FIRST_SCAN 4

/* looked_below when nothing has been looked at, and when everything has */
#define ABOVE_ALL ((int64) PG_INT32_MAX + 1)
#define BELOW_NONE ((int64) PG_INT32_MIN)

#define FROM_START ((ReadyPosition) {DT_NOBEGIN, 0})

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

/* ---- what a ring knows ---- */

/* A claimant's own, that knows nothing. */
Ring *
ring_make_private(void)
{
	Ring	   *ring = palloc0(sizeof(Ring));

	ring->max_lanes = RING_LANES;
	ring->lanes = palloc(sizeof(Lane) * ring->max_lanes);
	ring_forget(ring);
	return ring;
}

/* It knows nothing from now on. */
void
ring_forget(Ring *ring)
{
	ring->looked_below = ABOVE_ALL;
	ring->nlanes = 0;
	ring->ntasks = 0;
	ring->scan_size = FIRST_SCAN;
}

static Lane *
find_lane(Ring *ring, int32 priority)
{
	for (int i = 0; i < ring->nlanes; i++)
	{
		if (ring->lanes[i].priority == priority)
			return &ring->lanes[i];
	}
	return NULL;
}

static void
remove_lane(Ring *ring, Lane *lane)
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
add_lane(Ring *ring, int32 priority, ReadyPosition next, TimestampTz next_at)
{
	int			i;

	Assert(find_lane(ring, priority) == NULL);
	if (ring->nlanes == ring->max_lanes && !ring->shared)
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
void
ring_go_back(Ring *ring, int32 priority, const ReadyPosition *position)
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
void
ring_put(Ring *ring, const ReadyTask *task)
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
		ring_go_back(ring, last.priority, &last.position);
		return;
	}
	memmove(&ring->tasks[low + 1], &ring->tasks[low], sizeof(ReadyTask) * (ring->ntasks - low));
	ring->tasks[low] = *task;
	ring->ntasks++;
}

/* That candidate, if it is one still, is none. */
void
ring_remove(Ring *ring, const ReadyTask *task)
{
	for (int i = 0; i < ring->ntasks; i++)
	{
		if (coord_ready_compare(&ring->tasks[i], task) != 0)
			continue;
		ring->ntasks--;
		memmove(&ring->tasks[i], &ring->tasks[i + 1], sizeof(ReadyTask) * (ring->ntasks - i));
		return;
	}
}

/* A task has become claimable, or will be when it is ready. */
void
ring_announce(Ring *ring, const ReadyTask *task, TimestampTz now)
{
	Lane	   *lane;

	if (task->priority < ring->looked_below)
		return;
	lane = find_lane(ring, task->priority);
	if (task->position.ready_at > now ||
		(lane != NULL && lane->next_at <= task->position.ready_at &&
		 compare_positions(&task->position, &lane->next) >= 0))
	{
		ring_go_back(ring, task->priority, &task->position);
		return;
	}

	/* nothing that is ready and comes before it is still to be found */
	if (lane != NULL && compare_positions(&task->position, &lane->next) >= 0)
	{
		lane->next = task->position;
		lane->next.seq++;
	}
	ring_put(ring, task);
}

/* Go on with a lane's scan; false when it has found nothing. */
static bool
scan_lane(Ring *ring, Lane *lane, const char *queue, TimestampTz now, int want)
{
	ReadyScan	found;
	int			max = Min(Max(want, ring->scan_size), Max(RING_TASKS - ring->ntasks, FIRST_SCAN));

	ring->scan_size = Min(ring->scan_size * 2, READY_SCAN_MAX);
	store_scan_ready(queue, lane->priority, &lane->next, now, max, ring->shared, &found);
	lane->next = found.next;
	lane->next_at = found.next_at;
	if (lane->next_at == DT_NOEND)
		remove_lane(ring, lane);
	for (int i = 0; i < found.n; i++)
		ring_put(ring, &found.tasks[i]);
	return found.n > 0;
}

static ReadyTask *
first_candidate(Ring *ring)
{
	return ring->ntasks > 0 ? &ring->tasks[ring->ntasks - 1] : NULL;
}

/* The lane that may have something that is ready, and comes before a candidate, unless that is NULL. */
static Lane *
lane_to_scan(Ring *ring, const ReadyTask *before, TimestampTz now)
{
	for (int i = 0; i < ring->nlanes; i++)
	{
		Lane	   *lane = &ring->lanes[i];
		ReadyTask	start = {.priority = lane->priority, .position = lane->next};

		if (before != NULL && coord_ready_compare(before, &start) < 0)
			return NULL;
		if (lane->next_at <= now)
			return lane;
	}
	return NULL;
}

/* Look for the next priority that nobody has looked at. */
static ReadyOutcome
look_below(Ring *ring, const char *queue)
{
	int			priority;

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

/*
 * Find what comes next: READY_TASK when that is the first candidate.  It is the first
 * of all, in the queue's order, that are claimable by the invariant and not in
 * somebody's hands.
 */
ReadyOutcome
ring_find_first(Ring *ring, const char *queue, TimestampTz now, int want)
{
	ReadyTask  *first;
	Lane	   *lane;

	while ((lane = lane_to_scan(ring, first_candidate(ring), now)) != NULL)
	{
		if (!scan_lane(ring, lane, queue, now, want))
			return READY_LOOK_AGAIN;
	}

	/* is there a priority that nobody has looked at, and that is not below the first candidate's? */
	first = first_candidate(ring);
	if (ring->looked_below > (first != NULL ? (int64) first->priority : BELOW_NONE))
		return look_below(ring, queue);
	return first != NULL ? READY_TASK : READY_NONE;
}

/* The next candidate, taken away. */
ReadyOutcome
ring_next(Ring *ring, const char *queue, TimestampTz now, int want, ReadyTask *task)
{
	ReadyOutcome outcome = ring_find_first(ring, queue, now, want);

	if (outcome == READY_TASK)
		*task = ring->tasks[--ring->ntasks];
	return outcome;
}

/*
 * Look on past the candidates, a step: READY_NONE when there is nothing more that is
 * ready, READY_TASK when there may be and there is no room for it.
 */
ReadyOutcome
ring_look_on(Ring *ring, const char *queue, TimestampTz now)
{
	Lane	   *lane = lane_to_scan(ring, NULL, now);

	if (lane == NULL && ring->looked_below == BELOW_NONE)
		return READY_NONE;
	if (ring->ntasks == RING_TASKS)
		return READY_TASK;
	if (lane == NULL)
		return look_below(ring, queue);
	(void) scan_lane(ring, lane, queue, now, FIRST_SCAN);
	return READY_LOOK_AGAIN;
}

/* When all has been looked at: no task but the candidates is ready before that. */
TimestampTz
ring_next_at(const Ring *ring)
{
	TimestampTz next_at = DT_NOEND;

	for (int i = 0; i < ring->nlanes; i++)
		next_at = Min(next_at, ring->lanes[i].next_at);
	return next_at;
}
