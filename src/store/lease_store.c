/*
 * lease_store.c
 *		Stored leases: coord.lease_data, one row for each resource key.
 *
 * Acquiring, renewing, releasing and expiring update columns that no index has, so
 * that the update is HOT.  The row in lease_deadline stays as it is as long as its
 * check_at is not later than the lease's end, or than its next renewal by the server.
 * It is written by who has the lease's row locked.
 *
 * A grant locks its row FOR UPDATE, everything else FOR NO KEY UPDATE, so that
 * lease_assert()'s FOR KEY SHARE stops the former and not the latter.
 *
 * Whatever locks or writes a row here tells wakeup.c, so that who waits for the
 * lease looks again when the transaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "errors.h"
#include "store/event_store.h"
#include "store/lease_store.h"
#include "store/rows.h"
#include "store/store.h"
#include "store/task_store.h"
#include "worker/wakeup.h"

enum
{
	LEASE_DATA_SLOT = 1, LEASE_DATA_RESOURCE_KEY, LEASE_DATA_ID, LEASE_DATA_AGENT_ID, LEASE_DATA_TASK_ID,
	LEASE_DATA_FENCING_TOKEN, LEASE_DATA_TTL, LEASE_DATA_AUTO_RENEW, LEASE_DATA_MAX_HOLD, LEASE_DATA_ACQUIRED_AT,
	LEASE_DATA_RENEWED_AT, LEASE_DATA_EXPIRES_AT, LEASE_DATA_ENDED_AT, LEASE_DATA_RELEASED, LEASE_DATA_CHECK_AT
};

/* the columns of lease_deadline, and of coord.lease */
enum
{
	DEADLINE_CHECK_AT = 1, DEADLINE_SLOT
};
enum
{
	LEASE_ID = 1, LEASE_RESOURCE_KEY, LEASE_AGENT_ID, LEASE_TASK_ID, LEASE_STATE, LEASE_FENCING_TOKEN, LEASE_TTL,
	LEASE_AUTO_RENEW, LEASE_ACQUIRED_AT, LEASE_RENEWED_AT, LEASE_EXPIRES_AT, LEASE_ENDED_AT
};

static void
read_lease(LeaseRow *lease)
{
	const StoredRow *row = &lease->row;

	lease->slot = rows_int8(row, LEASE_DATA_SLOT, 0);
	lease->resource_key = rows_text(row, LEASE_DATA_RESOURCE_KEY);
	lease->id = *rows_uuid(row, LEASE_DATA_ID);
	lease->agent_id = *rows_uuid(row, LEASE_DATA_AGENT_ID);
	lease->task_id = rows_uuid_or_null(row, LEASE_DATA_TASK_ID);
	lease->fencing_token = rows_int8(row, LEASE_DATA_FENCING_TOKEN, 0);
	lease->ttl = rows_interval(row, LEASE_DATA_TTL, 0);
	lease->auto_renew = rows_bool(row, LEASE_DATA_AUTO_RENEW);
	lease->max_hold = rows_interval(row, LEASE_DATA_MAX_HOLD, -1);
	lease->acquired_at = rows_time(row, LEASE_DATA_ACQUIRED_AT, 0);
	lease->renewed_at = rows_time(row, LEASE_DATA_RENEWED_AT, 0);
	lease->expires_at = rows_time(row, LEASE_DATA_EXPIRES_AT, 0);
	lease->ended_at = rows_time(row, LEASE_DATA_ENDED_AT, DT_NOEND);
	lease->released = rows_bool(row, LEASE_DATA_RELEASED);
	lease->check_at = rows_time(row, LEASE_DATA_CHECK_AT, DT_NOEND);
	lease->deadline = lease->check_at;
}

/* What a lease's row is to be. */
static void
fill_row(LeaseRow *lease)
{
	StoredRow  *row = &lease->row;

	rows_set(row, LEASE_DATA_SLOT, Int64GetDatum(lease->slot));
	rows_set_arg(row, LEASE_DATA_RESOURCE_KEY, arg_text(lease->resource_key));
	rows_set(row, LEASE_DATA_ID, UUIDPGetDatum(&lease->id));
	rows_set(row, LEASE_DATA_AGENT_ID, UUIDPGetDatum(&lease->agent_id));
	rows_set_arg(row, LEASE_DATA_TASK_ID, arg_uuid(lease->task_id));
	rows_set(row, LEASE_DATA_FENCING_TOKEN, Int64GetDatum(lease->fencing_token));
	rows_set_arg(row, LEASE_DATA_TTL, arg_interval(lease->ttl));
	rows_set(row, LEASE_DATA_AUTO_RENEW, BoolGetDatum(lease->auto_renew));
	rows_set_arg(row, LEASE_DATA_MAX_HOLD, arg_interval_or_null(lease->max_hold));
	rows_set(row, LEASE_DATA_ACQUIRED_AT, TimestampTzGetDatum(lease->acquired_at));
	rows_set(row, LEASE_DATA_RENEWED_AT, TimestampTzGetDatum(lease->renewed_at));
	rows_set(row, LEASE_DATA_EXPIRES_AT, TimestampTzGetDatum(lease->expires_at));
	rows_set_arg(row, LEASE_DATA_ENDED_AT, arg_time_or_null(lease->ended_at == DT_NOEND, lease->ended_at));
	rows_set(row, LEASE_DATA_RELEASED, BoolGetDatum(lease->released));
	rows_set_arg(row, LEASE_DATA_CHECK_AT, arg_time_or_null(lease->check_at == DT_NOEND, lease->check_at));
}

static LeaseRow *
lease_on(const char *resource_key, Snapshot snapshot)
{
	RowsTable  *table = rows_open("lease_data", AccessShareLock);
	LeaseRow   *lease = palloc(sizeof(LeaseRow));
	ScanKeyData key;
	bool		found;

	rows_key_text(&key, 1, resource_key);
	found = rows_find(table, "lease_data_resource_key_key", 1, &key, snapshot, &lease->row);
	if (!found)
		return NULL;
	read_lease(lease);
	lease->locked = false;
	return lease;
}

/* The lease on a resource, current or last, not locked; NULL when it never had one. */
LeaseRow *
store_lease_on(const char *resource_key)
{
	return lease_on(resource_key, NULL);
}

/* The same as it is now, whatever the transaction's snapshot is. */
LeaseRow *
store_lease_on_now(const char *resource_key)
{
	return lease_on(resource_key, GetLatestSnapshot());
}

/* The same, and whether another transaction is inserting or changing it. */
LeaseRow *
store_lease_on_dirty(const char *resource_key, bool *busy)
{
	SnapshotData dirty;
	LeaseRow   *lease;

	InitDirtySnapshot(dirty);
	lease = lease_on(resource_key, &dirty);
	*busy = lease != NULL && (TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax));
	return lease;
}

/* The lease on a resource as another transaction has written it that is open; NULL when none has. */
LeaseRow *
store_lease_in_progress(const char *resource_key)
{
	RowsTable  *table = rows_open("lease_data", AccessShareLock);
	LeaseRow   *lease = palloc(sizeof(LeaseRow));
	ScanKeyData key;

	rows_key_text(&key, 1, resource_key);
	if (!rows_find_in_progress(table, "lease_data_resource_key_key", 1, &key, &lease->row))
		return NULL;
	read_lease(lease);
	lease->locked = false;
	return lease;
}

/* Whether another transaction has locked a lease that was read. */
bool
store_lease_is_locked(const LeaseRow *lease)
{
	return rows_is_locked(rows_open("lease_data", AccessShareLock), &lease->row.place);
}

/*
 * Lock a lease as it was read, to grant it anew or to renew it.  If it has changed
 * since, nothing is locked: it may be another's now, whom a lock would hold up.
 */
StoreRowState
store_lease_try_lock(LeaseRow *lease, bool to_grant)
{
	RowsTable  *table = rows_open("lease_data", RowExclusiveLock);
	StoreRowState state;

	coord_lease_touched(lease->resource_key);
	state = rows_lock(table, &lease->row, to_grant ? LockTupleExclusive : LockTupleNoKeyExclusive, LockWaitSkip, false);
	lease->locked = state == STORE_ROW_LOCKED;
	return state;
}

/* The lease at a slot as it is now, whatever the transaction's snapshot is; not locked. */
LeaseRow *
store_lease_at_now(int64 slot)
{
	RowsTable  *table = rows_open("lease_data", AccessShareLock);
	LeaseRow   *lease = palloc(sizeof(LeaseRow));
	ScanKeyData key;

	rows_key_int8(&key, 1, slot);
	if (!rows_find(table, "lease_data_pkey", 1, &key, GetLatestSnapshot(), &lease->row))
		return NULL;
	read_lease(lease);
	lease->locked = false;
	return lease;
}

LeaseRow *
store_lease_at(int64 slot, StoreLock lock)
{
	RowsTable  *table = rows_open("lease_data", lock == STORE_NO_LOCK ? AccessShareLock : RowExclusiveLock);
	LeaseRow   *lease = palloc(sizeof(LeaseRow));
	ScanKeyData key;
	bool		found;

	rows_key_int8(&key, 1, slot);
	found = rows_find(table, "lease_data_pkey", 1, &key, NULL, &lease->row) &&
		(lock == STORE_NO_LOCK ||
		 rows_lock(table, &lease->row, LockTupleNoKeyExclusive, lock == STORE_LOCK_WAIT ? LockWaitBlock : LockWaitSkip,
				   true) == STORE_ROW_LOCKED);
	if (!found)
		return NULL;
	read_lease(lease);
	lease->locked = lock != STORE_NO_LOCK;
	if (lock != STORE_NO_LOCK)
		coord_lease_touched(lease->resource_key);
	return lease;
}

/* These leases have ended, which is written: announce the tasks that wait for the resources. */
static void
announce_waiting(List *resource_keys)
{
	ListCell   *cell;

	foreach(cell, resource_keys)
		store_announce_waiting(lfirst(cell));
}

/*
 * Release all that an agent holds, and wait for transactions that have it locked.  The
 * rows are locked first and then looked up anew, since who was waited for may have
 * changed them.  A lease that the transaction's snapshot does not show it cannot release.
 */
void
store_leases_release_of(const pg_uuid_t *agent_id, TimestampTz now)
{
	static StorePlan lock = {.sql = "SELECT l.slot FROM coord.lease_deadline d JOIN coord.lease_data l USING (slot)"
	" WHERE l.agent_id = $1 AND l.ended_at IS NULL ORDER BY l.slot FOR NO KEY UPDATE OF l"};
	static StorePlan release = {.sql = "UPDATE coord.lease_data SET ended_at = $2, released = true"
		" FROM unnest($3) held WHERE slot = held AND agent_id = $1 AND ended_at IS NULL AND expires_at > $2"
	" RETURNING resource_key"};
	static StorePlan unseen = {.sql = "SELECT 1 FROM coord.lease_deadline d JOIN coord.lease_data l USING (slot)"
	" WHERE l.agent_id = $1 AND l.ended_at IS NULL AND l.expires_at > $2 LIMIT 1"};
	ArrayType  *slots;

	coord_leases_touched();
	store_run(&lock, STORE_ARGS(arg_uuid(agent_id)));
	slots = store_int8_array();
	store_run(&release, STORE_ARGS(arg_uuid(agent_id), arg_time(now), arg_array(INT8ARRAYOID, slots)));
	announce_waiting(store_texts());
	if (IsolationUsesXactSnapshot() && store_run_latest(&unseen, STORE_ARGS(arg_uuid(agent_id), arg_time(now))) > 0)
		coord_error_serialization();
}

/* ---- what the sweep does ---- */

/*
 * Release what agents hold that are inactive, or, if they are NULL, all agents that are
 * retired, among the leases that come next after a cursor, "limit" at most that are read;
 * false when those were the last.  Those that are locked are passed over and counted in the
 * cursor.
 */
bool
store_leases_release(const UuidList *agents, LeaseCursor *cursor, int limit, TimestampTz now)
{
#define RELEASE(filter, ended) \
	"WITH part AS MATERIALIZED (" \
	"  SELECT check_at, slot FROM coord.lease_deadline WHERE (check_at, slot) > ($1, $2)" \
	"  ORDER BY check_at, slot LIMIT $3" \
	"), held AS MATERIALIZED (" \
	"  SELECT slot FROM coord.lease_data WHERE slot = ANY (ARRAY(SELECT slot FROM part))" \
	"  AND " filter " AND ended_at IS NULL AND expires_at > $4" \
	"  AND (SELECT " ended " FROM coord.agent_data WHERE id = agent_id) IS NOT NULL" \
	"), released AS (" \
	"  UPDATE coord.lease_data SET ended_at = $4, released = true WHERE ctid = ANY (ARRAY(" \
	"   SELECT ctid FROM coord.lease_data WHERE slot = ANY (ARRAY(SELECT slot FROM held))" \
	"   FOR NO KEY UPDATE SKIP LOCKED))" \
	"  RETURNING resource_key" \
	") SELECT check_at, slot, (SELECT count(*) FROM part)," \
	" (SELECT count(*) FROM held) - (SELECT count(*) FROM released)," \
	" (SELECT array_agg(resource_key) FROM released)" \
	" FROM part ORDER BY check_at DESC, slot DESC LIMIT 1"
	static StorePlan of_agents = {.sql = RELEASE("agent_id = ANY ($5)", "inactive_since")};
	static StorePlan of_retired = {.sql = RELEASE("$5 IS NULL", "retired_at")};
	bool		more;

	coord_leases_touched();
	if (store_run(agents != NULL ? &of_agents : &of_retired,
				  STORE_ARGS(arg_time(cursor->check_at), arg_int8(cursor->slot), arg_int4(limit), arg_time(now),
							 arg_array(UUIDARRAYOID, agents != NULL ? store_uuid_array(agents) : NULL))) == 0)
		return false;
	cursor->check_at = store_time(0, 1, 0);
	cursor->slot = store_int8(0, 2, 0);
	cursor->passed_over += store_int8(0, 4, 0);
	more = store_int8(0, 3, 0) == limit;
	announce_waiting(store_text_array(0, 5));
	return more;
}

/*
 * Which of these agents hold any of the leases that come next after a cursor, "limit" at
 * most that are read; false when those were the last.  A lease is held until its end is marked:
 * a transaction that has run over it may be about to renew it.
 */
bool
store_leases_holders(const UuidList *agents, LeaseCursor *cursor, int limit, UuidList *holders)
{
	static StorePlan plan = {.sql = "WITH part AS MATERIALIZED ("
		"  SELECT check_at, slot FROM coord.lease_deadline WHERE (check_at, slot) > ($1, $2)"
		"  ORDER BY check_at, slot LIMIT $3"
		") SELECT check_at, slot, (SELECT count(*) FROM part),"
		" (SELECT array_agg(DISTINCT agent_id) FROM coord.lease_data WHERE slot = ANY (ARRAY(SELECT slot FROM part))"
		"  AND agent_id = ANY ($4) AND ended_at IS NULL)"
	" FROM part ORDER BY check_at DESC, slot DESC LIMIT 1"};

	holders->n = 0;
	if (store_run(&plan, STORE_ARGS(arg_time(cursor->check_at), arg_int8(cursor->slot), arg_int4(limit),
									arg_uuids(agents))) == 0)
		return false;
	cursor->check_at = store_time(0, 1, 0);
	cursor->slot = store_int8(0, 2, 0);
	*holders = store_uuids_of_array(0, 4);
	return store_int8(0, 3, 0) == limit;
}

/*
 * Look at leases whose check_at has come, "limit" at most: end those whose time is
 * over and announce it, renew those for which the server does it, and set when to
 * look at them again (as set_check_at() in lease.c does).  A renewal whose time has
 * come and that is not made now is never made.  Leases that are locked are passed
 * over.
 */
LeaseLook
store_leases_look(TimestampTz now, int limit)
{
	static StorePlan plan = {.sql = "WITH due AS ("
		"  SELECT l.ctid AS place, d.ctid AS deadline, slot, id, resource_key, agent_id, fencing_token, expires_at,"
		"   ended_at IS NULL AND expires_at <= $1 AS ends, ended_at IS NOT NULL OR expires_at <= $1 AS ended,"
		"   auto_renew AND ended_at IS NULL AND expires_at > $1 AND renewed_at + ttl / 3 <= $1"
		"   AND (max_hold IS NULL OR acquired_at + max_hold > $1)"
		"   AND (SELECT status FROM coord.agent_all a WHERE a.id = agent_id) = 'active' AS renews"
		"  FROM coord.lease_deadline d JOIN coord.lease_data l USING (slot)"
		"  WHERE d.check_at <= $1 AND NOT (id = ANY ($3))"
		"  ORDER BY d.check_at, slot LIMIT $2 FOR NO KEY UPDATE OF l SKIP LOCKED"
		"), ended AS ("
		"  UPDATE coord.lease_data SET ended_at = coalesce(ended_at, expires_at), check_at = NULL"
		"  WHERE ctid = ANY (ARRAY(SELECT place FROM due WHERE ended)) RETURNING slot"
		"), dropped AS ("
		"  DELETE FROM coord.lease_deadline"
		"  WHERE ctid = ANY (ARRAY(SELECT deadline FROM due JOIN ended USING (slot)))"
		"), renewed AS ("
		"  UPDATE coord.lease_data SET renewed_at = $1, expires_at = greatest(expires_at, $1 + ttl),"
		"   check_at = $1 + ttl / 3"
		"  WHERE ctid = ANY (ARRAY(SELECT place FROM due WHERE renews)) RETURNING slot, check_at"
		"), kept AS ("
		"  UPDATE coord.lease_data SET check_at ="
		"   CASE WHEN auto_renew AND renewed_at + ttl / 3 > $1 THEN least(expires_at, renewed_at + ttl / 3)"
		"   ELSE expires_at END"
		"  WHERE ctid = ANY (ARRAY(SELECT place FROM due WHERE NOT renews AND NOT ended)) RETURNING slot, check_at"
		"), moved AS ("
		"  UPDATE coord.lease_deadline d SET check_at = held.check_at"
		"  FROM due JOIN (SELECT * FROM renewed UNION ALL SELECT * FROM kept) held USING (slot)"
		"  WHERE d.ctid = due.deadline"
		"), told AS ("
		   STORE_INSERT_LOCK_EXPIRED("coord.new_id()", "id", "resource_key", "agent_id", "fencing_token",
									 "expires_at", "$1") " FROM due JOIN ended USING (slot) WHERE ends"
		"  RETURNING ctid"
		") SELECT (SELECT count(*) FROM renewed) + (SELECT count(*) FROM ended) + (SELECT count(*) FROM kept),"
		" (SELECT count(*) FROM renewed), (SELECT count(*) FROM told),"
		" (SELECT min(expires_at) FROM due WHERE ends),"
		" (SELECT array_agg(resource_key) FROM due JOIN ended USING (slot)),"
	" (SELECT min(ctid) FROM told)"};
	LeaseLook	look;

	coord_leases_touched();
	store_run(&plan, STORE_ARGS(arg_time(now), arg_int4(limit), arg_set_aside()));
	look.n = (int) store_int8(0, 1, 0);
	look.renewed = (int) store_int8(0, 2, 0);
	look.ended = (int) store_int8(0, 3, 0);
	look.first_ended_at = store_time(0, 4, now);
	if (look.ended > 0)
	{
		ItemPointerData first_event = store_place(0, 6);

		coord_event_sent(ItemPointerGetBlockNumber(&first_event));
	}
	announce_waiting(store_text_array(0, 5));
	return look;
}

/*
 * Whether among the leases that come due first, "reach" at most, there is one that has run out
 * and that a pending task of the queue waits for.
 */
bool
store_lease_ran_out_for(const char *queue, TimestampTz now, int reach)
{
	static StorePlan plan = {.sql = "SELECT FROM (SELECT slot FROM coord.lease_deadline WHERE check_at <= $1"
		"  ORDER BY check_at, slot LIMIT $3) d"
		" CROSS JOIN LATERAL (SELECT resource_key FROM coord.lease_data"
		"  WHERE slot = d.slot AND ended_at IS NULL AND expires_at <= $1 OFFSET 0) l"
		" CROSS JOIN LATERAL (SELECT FROM coord.task_live t WHERE t.resource_key = l.resource_key"
	"  AND t.queue = $2 AND t.state = 'pending' LIMIT 1) t LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_time(now), arg_text(queue), arg_int4(reach))) > 0;
}

#define FIRST_DEADLINE(column, condition) \
	"SELECT " column " FROM coord.lease_deadline d JOIN coord.lease_data l USING (slot)" \
	" WHERE NOT (id = ANY ($1)) AND " condition " ORDER BY d.check_at, slot LIMIT 1"

/* The lease, locked or not, that store_leases_look() would come to first; NULL: none. */
pg_uuid_t *
store_lease_due_first(TimestampTz now)
{
	static StorePlan plan = {.sql = FIRST_DEADLINE("id", "d.check_at <= $2")};

	return store_run(&plan, STORE_ARGS(arg_set_aside(), arg_time(now))) ? store_uuid(0, 1) : NULL;
}

/* The earliest instant at which the sweep must look at a lease; DT_NOEND when there is none. */
TimestampTz
store_leases_next_due(void)
{
	static StorePlan plan = {.sql = FIRST_DEADLINE("d.check_at", "true")};

	return store_run(&plan, STORE_ARGS(arg_set_aside())) ? store_time(0, 1, DT_NOEND) : DT_NOEND;
}

/* ---- granting, renewing, ending ---- */

/*
 * Keep the row from being granted until the end of the transaction.  Whose snapshot is from
 * before the first lease on the resource does not see it, and cannot.
 */
void
store_lease_hold_still(int64 slot)
{
	static StorePlan plan = {.sql = "SELECT resource_key FROM coord.lease_data WHERE slot = $1 FOR KEY SHARE"};

	if (store_run(&plan, STORE_ARGS(arg_int8(slot))) == 0)
		coord_error_serialization();
	coord_lease_touched(store_text(0, 1));
}

int64
store_lease_new_slot(void)
{
	return nextval_internal(get_relname_relid("lease_slot", get_namespace_oid("coord", false)), false);
}

/* Write when the sweep must look at a lease, if that has changed. */
static void
write_deadline(LeaseRow *lease)
{
	static StorePlan update = {.sql = "UPDATE coord.lease_deadline SET check_at = $1 WHERE check_at = $3 AND slot = $2"};
	RowsTable  *table;
	StoredRow	row;

	Assert(lease->check_at != DT_NOEND || lease->deadline == DT_NOEND);
	coord_due_at(JOB_LEASES, lease->check_at);
	if (lease->check_at == lease->deadline)
		return;
	if (lease->deadline != DT_NOEND)
		store_run(&update, STORE_ARGS(arg_time(lease->check_at), arg_int8(lease->slot), arg_time(lease->deadline)));
	else
	{
		table = rows_open("lease_deadline", RowExclusiveLock);
		rows_set(&row, DEADLINE_CHECK_AT, TimestampTzGetDatum(lease->check_at));
		rows_set(&row, DEADLINE_SLOT, Int64GetDatum(lease->slot));
		rows_insert(table, &row);
	}
	lease->deadline = lease->check_at;
}

/* Add the first lease on a resource. */
void
store_lease_insert(LeaseRow *lease)
{
	RowsTable  *table = rows_open("lease_data", RowExclusiveLock);

	coord_lease_touched(lease->resource_key);
	fill_row(lease);
	rows_insert(table, &lease->row);
	write_deadline(lease);
}

/*
 * Write a lease.  False when its row is not as it was read or another transaction is at
 * it, which cannot be if it is locked; then nothing is written.
 */
bool
store_lease_update(LeaseRow *lease)
{
	RowsTable  *table = rows_open("lease_data", RowExclusiveLock);

	coord_lease_touched(lease->resource_key);
	fill_row(lease);
	if (rows_update(table, &lease->row, lease->locked) != STORE_ROW_LOCKED)
		return false;
	write_deadline(lease);
	return true;
}

/* An active lease, which this transaction has just written, as users see it. */
Datum
store_lease_as_result(const LeaseRow *lease)
{
	static const int columns[] = {
		LEASE_DATA_ID, LEASE_DATA_RESOURCE_KEY, LEASE_DATA_AGENT_ID, LEASE_DATA_TASK_ID, 0, LEASE_DATA_FENCING_TOKEN,
		LEASE_DATA_TTL, LEASE_DATA_AUTO_RENEW, LEASE_DATA_ACQUIRED_AT, LEASE_DATA_RENEWED_AT, LEASE_DATA_EXPIRES_AT,
		LEASE_DATA_ENDED_AT
	};
	StoredRow	row;

	rows_project(&row, &lease->row, lengthof(columns), columns);
	rows_set_arg(&row, LEASE_STATE, arg_text("active"));
	return rows_as_result("lease", &row);
}
