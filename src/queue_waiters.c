/*
 * queue_waiters.c
 *		Who waits for a queue to have something claimable.
 *
 * Sessions that wait are in lists in shared memory, in the order in which they came.
 * Of those that wait for one queue only the first is told of changes.  It looks, and
 * sleeps on or goes; when it goes, for whatever reason, the next one is first and looks.
 * So one new task does not wake a hundred sessions at once, and nobody sleeps while
 * something is claimable: the first looks, or has looked since the last change.  Who goes
 * has claimed nothing yet, so the next may find the same task and go too, until one of
 * them has claimed it.
 *
 * Who waits enters before it looks, and is told after a change can be seen: one of the
 * two always sees what the other did.  What the first found in its way it must be told
 * of as well.  A task that another transaction is at is of the queue; for a resource it
 * leaves a bit of the key's hash, before it looks whose that is.
 *
 * All is under coord_shared->queue_waiter_lock, but for the atomics.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "claim/ready.h"
#include "lease_wait.h"
#include "queue_waiters.h"
#include "quota.h"
#include "settings.h"
#include "worker/shared.h"

/* lists, by the hash of the queue's name */
#define LISTS 64

typedef struct QueueWaiter
{
	dlist_node	node;			/* in the list of those who wait, or of free entries */
	Oid			dbid;
	Oid			role;			/* invalid: a free entry */
	bool		waits;			/* else it is taken, and in no list */
	uint64		name_hash[2];
	bool		first;			/* of those who wait for the queue */
	TimestampTz until;			/* then it goes */
	pg_atomic_uint32 look;		/* it is to look again; a latch alone may be reset by others' waits */
	pg_atomic_uint64 resources; /* bits of what its last look needed */
	Latch	   *latch;
} QueueWaiter;

typedef struct QueueWaiters
{
	pg_atomic_uint32 ntaken;
	dlist_head	waiting[LISTS]; /* in order of arrival */
	dlist_head	free;
	QueueWaiter entries[FLEXIBLE_ARRAY_MEMBER];
} QueueWaiters;

static QueueWaiters *waiters = NULL;
static QueueWaiter *my_wait = NULL;

static dlist_head *
list_of(const uint64 *name_hash)
{
	return &waiters->waiting[name_hash[0] % LISTS];
}

static bool
is_for(const QueueWaiter *waiter, Oid dbid, const uint64 *name_hash)
{
	return waiter->dbid == dbid && waiter->name_hash[0] == name_hash[0] && waiter->name_hash[1] == name_hash[1];
}

/* The first of those who wait for a queue; NULL when nobody does. */
static QueueWaiter *
first_for(Oid dbid, const uint64 *name_hash)
{
	dlist_iter	iter;

	dlist_foreach(iter, list_of(name_hash))
	{
		QueueWaiter *waiter = dlist_container(QueueWaiter, node, iter.cur);

		if (is_for(waiter, dbid, name_hash))
			return waiter;
	}
	return NULL;
}

static void
have_look(QueueWaiter *waiter)
{
	pg_atomic_write_u32(&waiter->look, 1);
	SetLatch(waiter->latch);
}

static bool
nobody_waits(void)
{
	pg_memory_barrier();
	return waiters == NULL || pg_atomic_read_u32(&waiters->ntaken) == 0;
}

Size
coord_queue_waiters_size(void)
{
	return add_size(offsetof(QueueWaiters, entries), mul_size(coord_max_queue_waiters, sizeof(QueueWaiter)));
}

void
coord_queue_waiters_init(void)
{
	bool		found;

	waiters = ShmemInitStruct("coord queue waiters", coord_queue_waiters_size(), &found);
	if (found)
		return;
	memset(waiters, 0, coord_queue_waiters_size());
	pg_atomic_init_u32(&waiters->ntaken, 0);
	for (int i = 0; i < LISTS; i++)
		dlist_init(&waiters->waiting[i]);
	dlist_init(&waiters->free);
	for (int i = 0; i < coord_max_queue_waiters; i++)
	{
		pg_atomic_init_u32(&waiters->entries[i].look, 0);
		pg_atomic_init_u64(&waiters->entries[i].resources, 0);
		dlist_push_tail(&waiters->free, &waiters->entries[i].node);
	}
}

/* ---- who waits ---- */

/* Whether a role has its share of the entries; they are counted when it could. */
static bool
has_its_share(Oid role, int share)
{
	int			n = 0;

	if (pg_atomic_read_u32(&waiters->ntaken) < (uint32) share)
		return false;
	for (int i = 0; i < coord_max_queue_waiters; i++)
		n += waiters->entries[i].role == role;
	return n >= share;
}

static void
at_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	coord_queue_waiter_leave();
}

/* Take an entry, which nobody relies on yet; false when there is none, or none for the role. */
bool
coord_queue_waiter_reserve(void)
{
	static bool registered = false;
	QueueWaiter *waiter = NULL;
	Oid			role = GetUserId();
	int			share = coord_share_of(role, coord_max_queue_waiters);

	Assert(my_wait == NULL);
	if (!registered)
		on_shmem_exit(at_exit, (Datum) 0);
	registered = true;
	LWLockAcquire(coord_shared->queue_waiter_lock, LW_EXCLUSIVE);
	if (!dlist_is_empty(&waiters->free) && !has_its_share(role, share))
	{
		waiter = dlist_container(QueueWaiter, node, dlist_pop_head_node(&waiters->free));
		waiter->role = role;
		waiter->waits = false;
		pg_atomic_fetch_add_u32(&waiters->ntaken, 1);
		my_wait = waiter;
	}
	LWLockRelease(coord_shared->queue_waiter_lock);
	return waiter != NULL;
}

/* Wait for a queue from now, in the entry that was taken. */
void
coord_queue_waiter_enter(const char *queue, TimestampTz until)
{
	QueueWaiter *waiter = my_wait;
	uint64		name_hash[2];

	coord_ready_hash(queue, name_hash);
	LWLockAcquire(coord_shared->queue_waiter_lock, LW_EXCLUSIVE);
	waiter->dbid = MyDatabaseId;
	memcpy(waiter->name_hash, name_hash, sizeof(name_hash));
	waiter->first = first_for(MyDatabaseId, name_hash) == NULL;
	waiter->until = until;
	pg_atomic_write_u32(&waiter->look, 0);
	pg_atomic_write_u64(&waiter->resources, 0);
	waiter->latch = MyLatch;
	waiter->waits = true;
	dlist_push_tail(list_of(name_hash), &waiter->node);
	LWLockRelease(coord_shared->queue_waiter_lock);
}

/* Wait no more, if this backend does or was about to; the next one is first then. */
void
coord_queue_waiter_leave(void)
{
	QueueWaiter *waiter = my_wait;

	if (waiter == NULL)
		return;
	my_wait = NULL;
	LWLockAcquire(coord_shared->queue_waiter_lock, LW_EXCLUSIVE);
	if (waiter->waits)
		dlist_delete(&waiter->node);
	if (waiter->waits && waiter->first)
	{
		QueueWaiter *next = first_for(waiter->dbid, waiter->name_hash);

		if (next != NULL)
		{
			next->first = true;
			have_look(next);
		}
	}
	waiter->role = InvalidOid;
	dlist_push_head(&waiters->free, &waiter->node);
	pg_atomic_fetch_sub_u32(&waiters->ntaken, 1);
	LWLockRelease(coord_shared->queue_waiter_lock);
}

/* It is about to look: what it is told from here on is for the next look. */
void
coord_queue_waiter_looks(void)
{
	if (my_wait == NULL)
		return;
	pg_atomic_write_u64(&my_wait->resources, 0);
	pg_atomic_write_u32(&my_wait->look, 0);
	pg_memory_barrier();
}

/* It is about to look whether a resource is free. */
void
coord_queue_waiter_needs(const char *resource_key)
{
	if (my_wait != NULL)
		pg_atomic_fetch_or_u64(&my_wait->resources, UINT64CONST(1) << (coord_waiter_hash(resource_key) % 64));
}

bool
coord_queue_waiter_is_first(void)
{
	bool		first;

	LWLockAcquire(coord_shared->queue_waiter_lock, LW_SHARED);
	first = my_wait->first;
	LWLockRelease(coord_shared->queue_waiter_lock);
	return first;
}

/* Whether it is to look again. */
bool
coord_queue_waiter_is_told(void)
{
	return pg_atomic_read_u32(&my_wait->look) != 0;
}

/* ---- who changes something ---- */

static void
wake(const uint64 *name_hash, TimestampTz instant)
{
	QueueWaiter *first;

	LWLockAcquire(coord_shared->queue_waiter_lock, LW_SHARED);
	first = first_for(MyDatabaseId, name_hash);
	if (first != NULL && instant < first->until)
		have_look(first);
	LWLockRelease(coord_shared->queue_waiter_lock);
}

/* Something in a queue may be claimable from that instant on. */
void
coord_queue_wake(const char *queue, TimestampTz instant)
{
	uint64		name_hash[2];

	if (nobody_waits())
		return;
	coord_ready_hash(queue, name_hash);
	wake(name_hash, instant);
}

/* Something in the queue whose name has that hash may be claimable now. */
void
coord_queue_wake_hashed(const uint64 *name_hash)
{
	if (!nobody_waits())
		wake(name_hash, COORD_DUE_NOW);
}

/* Wake who waits, and has left one of these bits. */
static void
wake_with(uint64 bits, bool all)
{
	dlist_iter	iter;

	LWLockAcquire(coord_shared->queue_waiter_lock, LW_SHARED);
	for (int i = 0; i < LISTS; i++)
	{
		dlist_foreach(iter, &waiters->waiting[i])
		{
			QueueWaiter *waiter = dlist_container(QueueWaiter, node, iter.cur);

			if (waiter->first && waiter->dbid == MyDatabaseId &&
				(all || (pg_atomic_read_u64(&waiter->resources) & bits) != 0))
				have_look(waiter);
		}
	}
	LWLockRelease(coord_shared->queue_waiter_lock);
}

/* These resources, given by their hashes, or any, may be free. */
void
coord_queue_wake_for(const uint64 *resources, int n, bool all)
{
	uint64		bits = all ? ~UINT64CONST(0) : 0;

	for (int i = 0; i < n; i++)
		bits |= UINT64CONST(1) << (resources[i] % 64);
	if (bits != 0 && !nobody_waits())
		wake_with(bits, false);
}

/* Nobody knows what has become claimable in this database. */
void
coord_queue_wake_all(void)
{
	if (!nobody_waits())
		wake_with(0, true);
}
