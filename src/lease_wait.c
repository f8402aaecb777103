/*
 * lease_wait.c
 *		Waiting for a lease: who is first, and when to look again.
 *
 * Those who wait are in a list in shared memory, in the order in which they came.
 * Only the first for a resource tries to get it, and nobody who does not wait is
 * granted the resource before it.  It sleeps until the lease expires, or until a
 * transaction ends that had touched the lease, whether it released, renewed or
 * rolled back (wakeup.c).  When it goes, for whatever reason, the next one is first
 * and is woken.  While it sleeps it holds nothing but what its transaction and its
 * statement hold anyway: no row lock, and no snapshot of coord's.
 *
 * A backend can wait for one lease at a time, so there is an entry for each.  All is
 * under coord_shared->waiter_lock.
 *
 * Two agents that wait for each other wait until one's time is over, since it may
 * be the other that gives way.  But who waited in vain in such a circle is told: who
 * closes it marks all that are in it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/shmem.h"

#include "lease_wait.h"
#include "queue_waiters.h"
#include "sleep.h"
#include "uuid7.h"
#include "worker/shared.h"

#define KEY_SIZE 513

typedef struct Waiter
{
	dlist_node	node;			/* in the list of those who wait, or of free entries */
	Oid			dbid;
	uint64		hash;
	char		resource_key[KEY_SIZE];
	bool		first;			/* of those who wait for the resource */
	pg_atomic_uint32 look;		/* it is to look again; a latch alone may be reset by others' waits */
	pid_t		pid;
	Latch	   *latch;
	pg_uuid_t	agent_id;

	/* what the first one found in its way, the last time that it looked */
	bool		has_holder;
	pg_uuid_t	holder;
	pid_t		changed_by;		/* the backend that is changing the lease; 0: none */

	char		holder_waits_for[KEY_SIZE]; /* in a circle; empty: not known of one */
} Waiter;

typedef struct Waiters
{
	pg_atomic_uint32 nwaiting;
	dlist_head	waiting;		/* in order of arrival */
	dlist_head	free;
	Waiter		entries[FLEXIBLE_ARRAY_MEMBER];
} Waiters;

static Waiters *waiters = NULL;
static Waiter *my_wait = NULL;

static void have_look(Waiter *waiter);
static Waiter *next_for(const Waiter *waiter);
static bool is_for(const Waiter *waiter, const char *resource_key, uint64 hash);
static void mark_circle(Waiter *start);

Size
coord_waiters_size(void)
{
	return add_size(offsetof(Waiters, entries), mul_size(MaxBackends, sizeof(Waiter)));
}

void
coord_waiters_init(void)
{
	bool		found;

	waiters = ShmemInitStruct("coord waiters", coord_waiters_size(), &found);
	if (found)
		return;
	memset(waiters, 0, coord_waiters_size());
	pg_atomic_init_u32(&waiters->nwaiting, 0);
	dlist_init(&waiters->waiting);
	dlist_init(&waiters->free);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&waiters->entries[i].look, 0);
		dlist_push_tail(&waiters->free, &waiters->entries[i].node);
	}
}

/* Wait for a resource from now, behind those who do. */
void
coord_wait_begin(const LeaseRequest *request)
{
	uint64		hash = coord_waiter_hash(request->resource_key);
	bool		first = true;
	dlist_iter	iter;
	Waiter	   *waiter;

	Assert(my_wait == NULL);
	LWLockAcquire(coord_shared->waiter_lock, LW_EXCLUSIVE);
	dlist_foreach(iter, &waiters->waiting)
		first = first && !is_for(dlist_container(Waiter, node, iter.cur), request->resource_key, hash);

	waiter = dlist_container(Waiter, node, dlist_pop_head_node(&waiters->free));
	waiter->dbid = MyDatabaseId;
	waiter->hash = hash;
	strlcpy(waiter->resource_key, request->resource_key, KEY_SIZE);
	waiter->first = first;
	pg_atomic_write_u32(&waiter->look, 0);
	waiter->pid = MyProcPid;
	waiter->latch = MyLatch;
	waiter->agent_id = *request->agent_id;
	waiter->has_holder = false;
	waiter->changed_by = 0;
	waiter->holder_waits_for[0] = '\0';
	dlist_push_tail(&waiters->waiting, &waiter->node);
	pg_atomic_fetch_add_u32(&waiters->nwaiting, 1);
	my_wait = waiter;
	mark_circle(waiter);
	LWLockRelease(coord_shared->waiter_lock);
}

/*
 * Whether this backend is the first of those who wait for its resource, and so is to
 * look at it now.
 */
bool
coord_wait_is_first(void)
{
	bool		first;

	pg_atomic_write_u32(&my_wait->look, 0);
	pg_memory_barrier();
	LWLockAcquire(coord_shared->waiter_lock, LW_SHARED);
	first = my_wait->first;
	LWLockRelease(coord_shared->waiter_lock);
	return first;
}

/*
 * The first one says what it found: who has the lease (NULL: nobody), and the backend
 * that is changing it (0: none).  Nothing to do for who does not wait.
 */
void
coord_wait_note_holder(const LeaseRow *lease, pid_t changed_by)
{
	if (my_wait == NULL)
		return;
	LWLockAcquire(coord_shared->waiter_lock, LW_EXCLUSIVE);
	my_wait->has_holder = lease != NULL;
	if (lease != NULL)
		my_wait->holder = lease->agent_id;
	my_wait->changed_by = changed_by;
	mark_circle(my_wait);
	LWLockRelease(coord_shared->waiter_lock);
}

/* Sleep until that instant, or until there is something to look at. */
void
coord_wait_sleep(TimestampTz until)
{
	if (pg_atomic_read_u32(&my_wait->look) == 0)
		coord_sleep(until, COORD_WAIT_LEASE);
}

/*
 * Wait no more, if this backend does; the next one is first then.  "in_vain" tells
 * that the time was over.
 */
void
coord_wait_end(bool in_vain)
{
	char		holder_waits_for[KEY_SIZE];
	char		resource_key[KEY_SIZE];
	Waiter	   *waiter = my_wait;
	uint64		hash;

	if (waiter == NULL)
		return;
	my_wait = NULL;
	LWLockAcquire(coord_shared->waiter_lock, LW_EXCLUSIVE);
	if (waiter->first)
	{
		Waiter	   *next = next_for(waiter);

		if (next != NULL)
		{
			next->first = true;
			have_look(next);
		}
	}
	dlist_delete(&waiter->node);
	dlist_push_head(&waiters->free, &waiter->node);
	pg_atomic_fetch_sub_u32(&waiters->nwaiting, 1);
	hash = waiter->hash;
	strlcpy(resource_key, waiter->resource_key, KEY_SIZE);
	strlcpy(holder_waits_for, waiter->holder_waits_for, KEY_SIZE);
	LWLockRelease(coord_shared->waiter_lock);
	coord_queue_wake_for(&hash, 1, false);	/* it was in the way of claims that need the resource */

	if (in_vain && holder_waits_for[0] != '\0')
		ereport(WARNING,
				(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
				 errmsg("waiting for resource \"%s\" was a deadlock", resource_key),
				 errdetail("Who held it waited for resource \"%s\" meanwhile, in a circle that came back here.",
						   holder_waits_for),
				 errhint("Acquire resources in the same order everywhere.")));
}

/* Whether anybody waits for a resource who comes before this backend. */
bool
coord_others_wait(const char *resource_key)
{
	uint64		hash;
	bool		result = false;
	dlist_iter	iter;

	if (waiters == NULL || pg_atomic_read_u32(&waiters->nwaiting) == 0)
		return false;
	hash = coord_waiter_hash(resource_key);
	LWLockAcquire(coord_shared->waiter_lock, LW_SHARED);
	dlist_foreach(iter, &waiters->waiting)
	{
		Waiter	   *waiter = dlist_container(Waiter, node, iter.cur);

		if (is_for(waiter, resource_key, hash))
		{
			result = waiter != my_wait;
			break;
		}
	}
	LWLockRelease(coord_shared->waiter_lock);
	return result;
}

uint64
coord_waiter_hash(const char *resource_key)
{
	return hash_bytes_extended((const unsigned char *) resource_key, strlen(resource_key), 0);
}

/* Have the first ones that wait for these resources, or for any, look again. */
void
coord_wake_waiters(const uint64 *hashes, int n, bool all)
{
	dlist_iter	iter;

	if (waiters == NULL || pg_atomic_read_u32(&waiters->nwaiting) == 0)
		return;
	LWLockAcquire(coord_shared->waiter_lock, LW_SHARED);
	dlist_foreach(iter, &waiters->waiting)
	{
		Waiter	   *waiter = dlist_container(Waiter, node, iter.cur);
		bool		wake = all;

		if (!waiter->first || waiter->dbid != MyDatabaseId)
			continue;
		for (int i = 0; i < n && !wake; i++)
			wake = hashes[i] == waiter->hash;
		if (wake)
			have_look(waiter);
	}
	LWLockRelease(coord_shared->waiter_lock);
}

static bool
is_for(const Waiter *waiter, const char *resource_key, uint64 hash)
{
	return waiter->hash == hash && waiter->dbid == MyDatabaseId &&
		strcmp(waiter->resource_key, resource_key) == 0;
}

static void
have_look(Waiter *waiter)
{
	pg_atomic_write_u32(&waiter->look, 1);
	SetLatch(waiter->latch);
}

/* The one that waits for the same resource and comes next. */
static Waiter *
next_for(const Waiter *waiter)
{
	const dlist_node *node = &waiter->node;

	while (node->next != &waiters->waiting.head)
	{
		Waiter	   *next = dlist_container(Waiter, node, node->next);

		if (is_for(next, waiter->resource_key, waiter->hash))
			return next;
		node = node->next;
	}
	return NULL;
}

/*
 * Somebody who holds what a waiter waits for, and waits as well; NULL when there is
 * nobody.
 */
static Waiter *
waiting_holder(const Waiter *waiter)
{
	const Waiter *first = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &waiters->waiting)
	{
		Waiter	   *other = dlist_container(Waiter, node, iter.cur);

		if (other->first && is_for(other, waiter->resource_key, waiter->hash))
			first = other;
	}
	if (first == NULL)
		return NULL;
	dlist_foreach(iter, &waiters->waiting)
	{
		Waiter	   *other = dlist_container(Waiter, node, iter.cur);

		if (other->dbid == waiter->dbid && !coord_uuid_equal(&other->agent_id, &waiter->agent_id) &&
			((first->has_holder && coord_uuid_equal(&other->agent_id, &first->holder)) ||
			 (first->changed_by != 0 && other->pid == first->changed_by)))
			return other;
	}
	return NULL;
}

/* If following the holders from a waiter leads back to it, mark all on the way. */
static void
mark_circle(Waiter *start)
{
	Waiter	   *waiter = start;
	Waiter	   *holder;
	uint32		steps = pg_atomic_read_u32(&waiters->nwaiting);

	do
	{
		waiter = waiting_holder(waiter);
	} while (waiter != NULL && waiter != start && steps-- > 0);
	if (waiter != start)
		return;
	do
	{
		holder = waiting_holder(waiter);
		Assert(holder != NULL); /* it is the circle that was just gone round */
		strlcpy(waiter->holder_waits_for, holder->resource_key, KEY_SIZE);
		waiter = holder;
	} while (waiter != start);
}
