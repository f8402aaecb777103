/*
 * locks.c
 *		Advisory locks, for what is wider than a row; the one place that
 *		derives their keys.
 *
 * They are in the space of advisory locks, of this database and the table
 * coord.task_live, but in a class of their own, which pg_advisory_lock() and its
 * like cannot name: every role may call those, and could hold up deliveries, or
 * whoever registers or creates something.  Each kind of lock has its own class, since
 * of some a role chooses the name, which it must not find to collide with another kind's.
 * Names of a role's own are told apart by the role, too.
 *
 * The order in which coord takes locks, rows included:
 *
 *	1. the row of an agent;
 *	2. the row of a task, then those of its dependants;
 *	3. the row of a queue slot;
 *	4. the row of a lease;
 *	5. the delivery, then the retention of tasks;
 *	6. a new unique key of a task, then any other new key, and a sequence: held
 *	   only for the time of inserting or setting it.
 *	7. a schedule's name, by trying; then a place of the role's, and what pg_cron locks, for
 *	   both of which the caller waits a moment only.
 *
 * Rows that other agents may have locked are taken with SKIP LOCKED, the delivery
 * and the retention by trying, so that no cycle of waiting can close.  Waited for are
 * only the rows of a claim or a lease that the caller holds, what is held shortly,
 * and the worker's batch, which waits for nobody; and by purge(), whoever has 5.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"

#include "compat.h"
#include "locks.h"

/* the classes: 1 and 2 are those of pg_advisory_lock() */
enum
{
	LOCK_DELIVERY = 0xC0,
	LOCK_RETENTION,
	LOCK_COUNTING,
	LOCK_SCHEDULE,
	LOCK_SCHEDULER,
	LOCK_SEQUENCE,
	LOCK_NEW_KEY				/* the first of one for each kind of key */
};

static void
make_tag(LOCKTAG *tag, uint16 class, uint32 key)
{
	Oid			relid = get_relname_relid("task_live", get_namespace_oid("coord", false));

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, relid, key, class);
}

/* Lock until the end of the transaction.  False when another has it, unless we wait for that. */
static bool
lock(const LOCKTAG *tag, bool wait)
{
	return LockAcquire(tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* Lock what there is one of in a database. */
static bool
lock_one(uint16 class, bool wait)
{
	LOCKTAG		tag;

	make_tag(&tag, class, 0);
	return lock(&tag, wait);
}

/*
 * Lock the giving of positions to events, until the end of the transaction: so
 * positions become visible in their order.
 */
bool
coord_try_lock_delivery(void)
{
	return lock_one(LOCK_DELIVERY, false);
}

/* Lock the partitions of finished tasks, until the end of the transaction. */
bool
coord_try_lock_retention(void)
{
	return lock_one(LOCK_RETENTION, false);
}

/* Lock the counting of queues, until the end of the transaction. */
bool
coord_try_lock_counting(void)
{
	return lock_one(LOCK_COUNTING, false);
}

/* Lock delivery and retention, waiting: for purge(), which comes with nothing locked. */
void
coord_lock_upkeep(void)
{
	(void) lock_one(LOCK_DELIVERY, true);
	(void) lock_one(LOCK_RETENTION, true);
}

/* Lock a job of pg_cron by which a role has a task created, until the end of the transaction. */
bool
coord_try_lock_schedule(Oid role, const char *job)
{
	LOCKTAG		tag;
	uint32		hash = hash_bytes((const unsigned char *) job, (int) strlen(job));

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, role, hash, LOCK_SCHEDULE);
	return lock(&tag, false);
}

/* Lock one of "n" places that a role has in the cluster, until the end of the whole transaction. */
bool
coord_try_lock_scheduler(Oid role, int n)
{
	ResourceOwner owner = CurrentResourceOwner;
	bool		locked = false;

	CurrentResourceOwner = TopTransactionResourceOwner;
	for (int place = 0; place < n && !locked; place++)
	{
		LOCKTAG		tag;

		SET_LOCKTAG_ADVISORY(tag, InvalidOid, role, place, LOCK_SCHEDULER);
		locked = lock(&tag, false);
	}
	CurrentResourceOwner = owner;
	return locked;
}

/* The lock of the insertion of a key into a unique index. */
void
coord_new_key_tag(LOCKTAG *tag, int kind, uint32 hash)
{
	make_tag(tag, (uint16) (LOCK_NEW_KEY + kind), hash);
}

/* The lock of the setting of a sequence. */
void
coord_sequence_tag(LOCKTAG *tag, Oid relid)
{
	make_tag(tag, LOCK_SEQUENCE, relid);
}

/* Lock, waiting, until coord_unlock(). */
void
coord_lock_shortly(const LOCKTAG *tag)
{
	(void) lock(tag, true);
}

/* An error while it was waited for may have come when it was had, or before. */
void
coord_unlock(const LOCKTAG *tag)
{
	if (coord_lock_held(tag, ExclusiveLock))
		(void) LockRelease(tag, ExclusiveLock, false);
}
