/*
 * rings.c
 *		The rings in shared memory: which queue has which, and what is announced to it.
 *
 * What ends without telling (COMMIT PREPARED in another session, a restore) makes all
 * rings of its database know nothing (coord_ready_forget_all).  A crash of a backend
 * makes the shared memory anew.
 *
 * While a ring is locked nothing may wait for a lock of the lock manager, which could
 * neither be cancelled nor be seen to deadlock: relations are opened before.  The lock
 * of the table of rings comes before that of a ring.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "claim/ring.h"
#include "compat.h"
#include "settings.h"
#include "store/rows.h"
#include "worker/shared.h"

/* where the ring of a queue is; in a hash table under coord_shared->ready_lock */
typedef struct RingEntry
{
	ReadyKey	key;
	int			ring;
} RingEntry;

static HTAB *ring_of = NULL;
static SharedRing *rings = NULL;	/* coord_max_ready_queues */

static void
know_nothing(SharedRing *shared)
{
	ring_forget(&shared->ring);
	shared->announced++;
	shared->holders = 0;
}

Size
coord_ready_size(void)
{
	return add_size(mul_size(coord_max_ready_queues, sizeof(SharedRing)),
					hash_estimate_size(coord_max_ready_queues, sizeof(RingEntry)));
}

void
coord_ready_init(void)
{
	HASHCTL		ctl = {.keysize = sizeof(ReadyKey), .entrysize = sizeof(RingEntry)};
	LWLockPadded *locks = GetNamedLWLockTranche("coord_ready");
	bool		found;

	rings = ShmemInitStruct("coord ready rings", mul_size(coord_max_ready_queues, sizeof(SharedRing)), &found);
	ring_of = ShmemInitHash("coord queues with a ready ring", coord_max_ready_queues, coord_max_ready_queues,
							&ctl, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	for (int i = 0; !found && i < coord_max_ready_queues; i++)
	{
		SharedRing *shared = &rings[i];

		memset(shared, 0, sizeof(SharedRing));
		shared->lock = &locks[i].lock;
		shared->ring.shared = true;
		shared->ring.lanes = shared->lanes;
		shared->ring.max_lanes = RING_LANES;
		know_nothing(shared);
	}
}

void
coord_ready_key(const char *queue, ReadyKey *key)
{
	RowsTable  *table = rows_open("task_live", AccessShareLock);

	memset(key, 0, sizeof(ReadyKey));
	key->dbid = MyDatabaseId;
	key->file = coord_file_of(table->rel);
	coord_ready_hash(queue, key->name_hash);
}

/* A queue by its name, as short as it can be told from others. */
void
coord_ready_hash(const char *queue, uint64 *name_hash)
{
	int			len = strlen(queue);

	for (int i = 0; i < 2; i++)
		name_hash[i] = hash_bytes_extended((const unsigned char *) queue, len, i);
}

/* The ring of a queue, locked; NULL when it has none. */
SharedRing *
ring_lock_of(const ReadyKey *key)
{
	RingEntry  *entry;
	SharedRing *shared = NULL;

	LWLockAcquire(coord_shared->ready_lock, LW_SHARED);
	entry = hash_search(ring_of, key, HASH_FIND, NULL);
	if (entry != NULL)
		shared = &rings[entry->ring];
	LWLockRelease(coord_shared->ready_lock);
	if (shared == NULL)
		return NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (memcmp(&shared->key, key, sizeof(ReadyKey)) == 0)
		return shared;
	LWLockRelease(shared->lock);	/* it has just become another's, which knows nothing */
	return NULL;
}

void
ring_unlock(SharedRing *shared)
{
	LWLockRelease(shared->lock);
}

/* Give a queue a ring: a free one, or that of a queue that was not used for long. */
static void
give_ring(const ReadyKey *key)
{
	static int	hand_of_clock = 0;
	RingEntry  *entry;
	bool		found;
	SharedRing *shared;

	LWLockAcquire(coord_shared->ready_lock, LW_EXCLUSIVE);
	if (hash_search(ring_of, key, HASH_FIND, NULL) == NULL)
	{
		for (;;)
		{
			hand_of_clock = (hand_of_clock + 1) % coord_max_ready_queues;
			shared = &rings[hand_of_clock];
			if (!shared->used)
				break;
			shared->used = false;
		}
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		if (OidIsValid(shared->key.dbid))
			hash_search(ring_of, &shared->key, HASH_REMOVE, NULL);
		know_nothing(shared);
		shared->key = *key;
		entry = hash_search(ring_of, key, HASH_ENTER, &found);
		entry->ring = hand_of_clock;
		LWLockRelease(shared->lock);
	}
	LWLockRelease(coord_shared->ready_lock);
}

/* The ring of a queue, locked; it is given one if it has none. */
SharedRing *
ring_lock_or_give(const ReadyKey *key)
{
	SharedRing *shared;

	while ((shared = ring_lock_of(key)) == NULL)
		give_ring(key);
	shared->used = true;
	return shared;
}

/* A task is claimable from its ready_at on. */
void
coord_ready_announce(const ReadyKey *key, const ReadyTask *task)
{
	SharedRing *shared = ring_lock_of(key);

	if (shared == NULL)
		return;
	ring_announce(&shared->ring, task, GetCurrentTimestamp());
	shared->announced++;
	ring_unlock(shared);
}

/* Many tasks of a priority are, the first of which is there. */
void
coord_ready_announce_from(const ReadyKey *key, int32 priority, const ReadyPosition *position)
{
	SharedRing *shared = ring_lock_of(key);

	if (shared == NULL)
		return;
	ring_go_back(&shared->ring, priority, position);
	shared->announced++;
	ring_unlock(shared);
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
		SharedRing *shared = &rings[entry->ring];

		if (entry->key.dbid != dbid)
			continue;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		know_nothing(shared);
		ring_unlock(shared);
	}
	LWLockRelease(coord_shared->ready_lock);
}
