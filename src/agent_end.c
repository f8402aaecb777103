/*
 * agent_end.c
 *		What is committed for an agent that has ended meanwhile.
 *
 * Who ends an agent gives back what it has claimed, and who retires one releases its leases,
 * but neither sees what a transaction that is still open takes for it; nor does that one see
 * the end.  Of the two whoever commits last, and is visible then, has the worker look once
 * more for claims and leases of agents that have ended:
 *
 * A commit that ends agents tells the worker, after it has raised a counter in shared memory.
 * Who takes something reads the counter before it reads the agent, and again after its commit:
 * if it has been raised, it tells the worker, too.  If it has not, the other one's commit
 * tells the worker later, and the worker sees both.
 *
 * The counter is one for all databases.  One that was raised by somebody else costs a look.
 */
#include "postgres.h"

#include "agent_end.h"
#include "beat.h"
#include "worker/shared.h"

/* the counter, before the first agent was read that this transaction takes something for; 0: none was */
static uint64 ended_before = 0;

/* An agent is about to be read, to take something for it. */
void
coord_ends_remember(void)
{
	if (ended_before != 0 || coord_shared == NULL)
		return;
	ended_before = pg_atomic_read_u64(&coord_shared->agents_ended);
	pg_memory_barrier();
}

/* Whether something was taken for an agent that may have ended since. */
static bool
took_for_ended(void)
{
	pg_memory_barrier();
	return ended_before != 0 && pg_atomic_read_u64(&coord_shared->agents_ended) != ended_before;
}

/*
 * A commit is visible now, and what it leaves for the worker is about to be told.  Who ends
 * agents leaves JOB_ORPHANS; who claims, or gets a lease, a deadline.
 */
void
coord_ends_at_commit(TimestampTz *due_at)
{
	bool		overtaken = took_for_ended();

	coord_beats_at_xact_end(true);
	if (due_at[JOB_ORPHANS] != DT_NOEND)
		pg_atomic_fetch_add_u64(&coord_shared->agents_ended, 1);
	if (overtaken && due_at[JOB_CLAIMS] != DT_NOEND)
		due_at[JOB_ORPHANS] = COORD_DUE_NOW;
	if (overtaken && due_at[JOB_LEASES] != DT_NOEND)
		due_at[JOB_RETIRED] = COORD_DUE_NOW;
}

/* The transaction has ended. */
void
coord_ends_forget(void)
{
	ended_before = 0;
	coord_beats_at_xact_end(false);
}
