/*
 * committing.c
 *		Transactions whose events are visible, or about to be, and are not told of yet.
 *
 * A commit tells from which block of the inbox on it has written (wakeup.c), but it is
 * visible before that.  Who looks in between, from a later block of which another commit has
 * told, would see only the end of what the first one wrote, and deliver that before the
 * rest.  So a transaction enters its first block here before it commits, and takes it back
 * when it has told.  Who looks has its snapshot first and asks then: each transaction that
 * the snapshot shows is here, or has told.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "committing.h"

/* of each backend its database and the block, in this order; 0: it is not committing events */
static pg_atomic_uint64 *committing = NULL;
static bool entered = false;

Size
coord_committing_size(void)
{
	return mul_size(MaxBackends, sizeof(pg_atomic_uint64));
}

void
coord_committing_init(void)
{
	bool		found;

	committing = ShmemInitStruct("coord committing", coord_committing_size(), &found);
	for (int i = 0; !found && i < MaxBackends; i++)
		pg_atomic_init_u64(&committing[i], 0);
}

static pg_atomic_uint64 *
my_entry(void)
{
	return &committing[MyProc - ProcGlobal->allProcs];
}

/* Events are about to become visible, in that block of the inbox or later ones. */
void
coord_commits_events(BlockNumber from)
{
	if (committing == NULL)
		return;
	entered = true;
	pg_atomic_write_u64(my_entry(), ((uint64) MyDatabaseId << 32) | from);
}

/* Whoever delivers was told of them, or they have not become visible. */
void
coord_events_are_told(void)
{
	if (!entered)
		return;
	pg_write_barrier();
	pg_atomic_write_u64(my_entry(), 0);
	entered = false;
}

/* The first block that one of them has entered in this database; InvalidBlockNumber: none has. */
BlockNumber
coord_committing_from(void)
{
	BlockNumber from = InvalidBlockNumber;

	for (int i = 0; i < MaxBackends; i++)
	{
		uint64		entry = pg_atomic_read_u64(&committing[i]);

		if ((Oid) (entry >> 32) == MyDatabaseId)
			from = Min(from, (BlockNumber) entry);
	}
	pg_read_barrier();			/* what is not here any more has told before */
	return from;
}
