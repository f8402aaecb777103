/*
 * locks.c
 *		Advisory locks, for what is wider than a row; the one place that
 *		derives their keys.
 *
 * They are in the space of advisory locks, of this database and the table
 * coord.task_live, but in a class of their own, which pg_advisory_lock() and its
 * like cannot name: every role may call those, and could hold up deliveries, or
 * whoever registers or creates something.  The third field is a hash of what the
 * lock is about.
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
 *	7. a schedule's name, by trying; then what pg_cron locks, for which the caller waits a
 *	   moment only.
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

#include "locks.h"

/* the class: 1 and 2 are those of pg_advisory_lock() */
#define LOCK_CLASS 0xC0

static void
make_tag(LOCKTAG *tag, uint32 key)
{
	Oid			relid = get_relname_relid("task_live", get_namespace_oid("coord", false));

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, relid, key, LOCK_CLASS);
}

/*
 * Lock something that has a name, until the end of the transaction.  False when another
 * has it, unless we wait for that.
 */
static bool
lock_named(const char *name, bool wait)
{
	LOCKTAG		tag;

	make_tag(&tag, hash_bytes((const unsigned char *) name, (int) strlen(name)));
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Lock the giving of positions to events, until the end of the transaction: so
 * positions become visible in their order.
 */
bool
coord_try_lock_delivery(void)
{
	return lock_named("delivery", false);
}

/* Lock the partitions of finished tasks, until the end of the transaction. */
bool
coord_try_lock_retention(void)
{
	return lock_named("retention", false);
}

/* Lock the counting of queues, until the end of the transaction. */
bool
coord_try_lock_counting(void)
{
	return lock_named("counting", false);
}

/* Lock delivery and retention, waiting: for purge(), which comes with nothing locked. */
void
coord_lock_upkeep(void)
{
	(void) lock_named("delivery", true);
	(void) lock_named("retention", true);
}

/* Lock a job of pg_cron by which a role has a task created, until the end of the transaction. */
bool
coord_try_lock_schedule(Oid role, const char *job)
{
	return lock_named(psprintf("schedule %u %s", role, job), false);
}

/* Lock the insertion of a key into a unique index, waiting, until coord_unlock(). */
void
coord_lock_new_key(LOCKTAG *tag, int kind, uint32 hash)
{
	make_tag(tag, hash_combine(hash_bytes_uint32(kind), hash));
	(void) LockAcquire(tag, ExclusiveLock, false, false);
}

/* Lock the setting of a sequence, waiting, until coord_unlock(). */
void
coord_lock_sequence(LOCKTAG *tag, Oid relid)
{
	make_tag(tag, hash_combine(hash_bytes((const unsigned char *) "sequence", 8), relid));
	(void) LockAcquire(tag, ExclusiveLock, false, false);
}

void
coord_unlock(LOCKTAG *tag)
{
	LockRelease(tag, ExclusiveLock, false);
}
