/*
 * partition.c
 *		Partitions that are filled one after the other and emptied whole.
 *
 * coord.event_log and coord.task_finished have theirs from the beginning: nothing is
 * created or dropped while they run, nothing is deleted row by row, and a dump needs
 * nothing special.  Nobody waits for one to be emptied, and that waits for nobody.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "store/partition.h"
#include "store/store.h"

static Oid
partition_oid(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("coord", false));
}

/* Whether there is nothing in a partition, not even what vacuum has yet to remove. */
bool
store_partition_is_empty(const char *name)
{
	Relation	rel = table_open(partition_oid(name), AccessShareLock);
	bool		is_empty = RelationGetNumberOfBlocks(rel) == 0;

	table_close(rel, AccessShareLock);
	return is_empty;
}

/* Whether the calling statement itself is reading a partition. */
static bool
is_being_read_here(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	bool		read = rel->rd_refcnt > 1 || AfterTriggerPendingOnRel(relid);

	table_close(rel, NoLock);
	return read;
}

/*
 * Empty a partition, unless somebody is using it, or it is not to be emptied; which is asked
 * when nobody else can use it any more.
 */
bool
store_partition_truncate(const char *name, bool (*must_stay) (const char *name))
{
	Oid			relid = partition_oid(name);

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	if (is_being_read_here(relid) || (must_stay != NULL && must_stay(name)))
	{
		UnlockRelationOid(relid, AccessExclusiveLock);
		return false;
	}
	store_run_once(psprintf("TRUNCATE coord.%s", name), 0, NULL);
	return true;
}

/* Whether no transaction that is still open has written to a partition, or is about to. */
bool
store_partition_is_unwritten(const char *name)
{
	Oid			relid = partition_oid(name);

	if (!ConditionalLockRelationOid(relid, ShareLock))
		return false;
	UnlockRelationOid(relid, ShareLock);
	return true;
}

/*
 * Delete the rows of a partition in which a column is before an instant, and which meet a
 * condition; returns how many.
 */
int64
store_partition_delete(const char *name, const char *column, TimestampTz before, const char *condition)
{
	return (int64) store_run_once(psprintf("DELETE FROM coord.%s WHERE %s < $1 AND %s", name, column, condition),
								  STORE_ARGS(arg_time(before)));
}
