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

#include "commands/sequence.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "store/event_store.h"
#include "store/lease_store.h"
#include "store/store.h"
#include "worker/wakeup.h"

#define LEASE_COLUMNS \
	"slot, resource_key, id, agent_id, task_id, fencing_token, ttl, auto_renew, max_hold," \
	" acquired_at, renewed_at, expires_at, ended_at, released, check_at"

static LeaseRow *
read_lease(uint64 row)
{
	LeaseRow   *lease = palloc(sizeof(LeaseRow));

	lease->slot = store_int8(row, 1, 0);
	lease->resource_key = store_text(row, 2);
	lease->id = *store_uuid(row, 3);
	lease->agent_id = *store_uuid(row, 4);
	lease->task_id = store_uuid(row, 5);
	lease->fencing_token = store_int8(row, 6, 0);
	lease->ttl = store_interval(row, 7, 0);
	lease->auto_renew = store_bool(row, 8);
	lease->max_hold = store_interval(row, 9, -1);
	lease->acquired_at = store_time(row, 10, 0);
	lease->renewed_at = store_time(row, 11, 0);
	lease->expires_at = store_time(row, 12, 0);
	lease->ended_at = store_time(row, 13, DT_NOEND);
	lease->released = store_bool(row, 14);
	lease->check_at = store_time(row, 15, DT_NOEND);
	lease->deadline = lease->check_at;
	lease->place = store_place(row, 16);
	return lease;
}

/* The lease on a resource, current or last, not locked; NULL when it never had one. */
LeaseRow *
store_lease_on(const char *resource_key)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS ", ctid FROM coord.lease_data WHERE resource_key = $1"};

	return store_run(&plan, STORE_ARGS(arg_text(resource_key))) ? read_lease(0) : NULL;
}

/* The same as it is now, whatever the transaction's snapshot is. */
LeaseRow *
store_lease_on_now(const char *resource_key)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS ", ctid FROM coord.lease_data WHERE resource_key = $1"};

	return store_run_latest(&plan, STORE_ARGS(arg_text(resource_key))) ? read_lease(0) : NULL;
}

/*
 * Lock a lease as it was read, to grant it anew or to renew it.  If it has changed
 * since, nothing is locked: it may be another's now, whom a lock would hold up.
 */
StoreRowState
store_lease_try_lock(const LeaseRow *lease, bool to_grant)
{
	coord_lease_touched(lease->resource_key);
	return store_try_lock("lease_data", &lease->place,
						  to_grant ? LockTupleExclusive : LockTupleNoKeyExclusive);
}

LeaseRow *
store_lease_at(int64 slot, StoreLock lock)
{
	static StorePlan plans[] = {
		[STORE_NO_LOCK] = {.sql = "SELECT " LEASE_COLUMNS ", ctid FROM coord.lease_data WHERE slot = $1"},
		[STORE_LOCK_WAIT] = {.sql = "SELECT " LEASE_COLUMNS ", ctid FROM coord.lease_data WHERE slot = $1"
		" FOR NO KEY UPDATE"},
		[STORE_LOCK_SKIP] = {.sql = "SELECT " LEASE_COLUMNS ", ctid FROM coord.lease_data WHERE slot = $1"
		" FOR NO KEY UPDATE SKIP LOCKED"},
	};
	LeaseRow   *lease;

	lease = store_run(&plans[lock], STORE_ARGS(arg_int8(slot))) ? read_lease(0) : NULL;
	if (lease != NULL && lock != STORE_NO_LOCK)
		coord_lease_touched(lease->resource_key);
	return lease;
}

/*
 * Release all that an agent holds, and wait for transactions that have it locked.  The
 * rows are locked first and then looked up anew, since who was waited for may have
 * changed them.
 */
void
store_leases_release_of(const pg_uuid_t *agent_id, TimestampTz now)
{
	static StorePlan lock = {.sql = "SELECT l.slot FROM coord.lease_deadline d JOIN coord.lease_data l USING (slot)"
	" WHERE l.agent_id = $1 AND l.ended_at IS NULL ORDER BY l.slot FOR NO KEY UPDATE OF l"};
	static StorePlan release = {.sql = "UPDATE coord.lease_data SET ended_at = $2, released = true"
		" FROM unnest($3) held WHERE slot = held AND agent_id = $1 AND ended_at IS NULL AND expires_at > $2"};
	ArrayType  *slots;

	coord_leases_touched();
	store_run(&lock, STORE_ARGS(arg_uuid(agent_id)));
	slots = store_int8_array();
	store_run(&release, STORE_ARGS(arg_uuid(agent_id), arg_time(now), arg_array(INT8ARRAYOID, slots)));
}

/* ---- what the sweep does ---- */

/*
 * Release what agents hold that are inactive, among the leases that come next after a
 * cursor, "limit" at most that are read; false when those were the last.  Those that are
 * locked are passed over and counted in the cursor.
 */
bool
store_leases_release(const UuidList *agents, LeaseCursor *cursor, int limit, TimestampTz now)
{
	static StorePlan plan = {.sql = "WITH part AS MATERIALIZED ("
		"  SELECT check_at, slot FROM coord.lease_deadline WHERE (check_at, slot) > ($1, $2)"
		"  ORDER BY check_at, slot LIMIT $3"
		"), held AS MATERIALIZED ("
		"  SELECT slot FROM coord.lease_data WHERE slot = ANY (ARRAY(SELECT slot FROM part))"
		"  AND agent_id = ANY ($5) AND ended_at IS NULL AND expires_at > $4"
		"  AND (SELECT inactive_since FROM coord.agent_data WHERE id = agent_id) IS NOT NULL"
		"), released AS ("
		"  UPDATE coord.lease_data SET ended_at = $4, released = true WHERE ctid = ANY (ARRAY("
		"   SELECT ctid FROM coord.lease_data WHERE slot = ANY (ARRAY(SELECT slot FROM held))"
		"   FOR NO KEY UPDATE SKIP LOCKED))"
		"  RETURNING 1"
		") SELECT check_at, slot, (SELECT count(*) FROM part),"
		" (SELECT count(*) FROM held) - (SELECT count(*) FROM released)"
	" FROM part ORDER BY check_at DESC, slot DESC LIMIT 1"};

	coord_leases_touched();
	if (store_run(&plan, STORE_ARGS(arg_time(cursor->check_at), arg_int8(cursor->slot), arg_int4(limit),
									arg_time(now), arg_uuids(agents))) == 0)
		return false;
	cursor->check_at = store_time(0, 1, 0);
	cursor->slot = store_int8(0, 2, 0);
	cursor->passed_over += store_int8(0, 4, 0);
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
		"   AND (SELECT status FROM coord.agent a WHERE a.id = agent_id) = 'active' AS renews"
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
		"  RETURNING 1"
		") SELECT (SELECT count(*) FROM renewed) + (SELECT count(*) FROM ended) + (SELECT count(*) FROM kept),"
		" (SELECT count(*) FROM renewed), (SELECT count(*) FROM told),"
	" (SELECT min(expires_at) FROM due WHERE ends)"};
	LeaseLook	look;

	coord_leases_touched();
	store_run(&plan, STORE_ARGS(arg_time(now), arg_int4(limit), arg_set_aside()));
	look.n = (int) store_int8(0, 1, 0);
	look.renewed = (int) store_int8(0, 2, 0);
	look.ended = (int) store_int8(0, 3, 0);
	look.first_ended_at = store_time(0, 4, now);
	if (look.ended > 0)
		coord_due_at(JOB_EVENTS, COORD_DUE_NOW);
	return look;
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

/* Keep the row from being granted until the end of the transaction. */
bool
store_lease_hold_still(int64 slot)
{
	static StorePlan plan = {.sql = "SELECT resource_key FROM coord.lease_data WHERE slot = $1 FOR KEY SHARE"};

	if (store_run(&plan, STORE_ARGS(arg_int8(slot))) != 1)
		return false;
	coord_lease_touched(store_text(0, 1));
	return true;
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
	static StorePlan insert = {.sql = "INSERT INTO coord.lease_deadline (check_at, slot) VALUES ($1, $2)"};
	static StorePlan update = {.sql = "UPDATE coord.lease_deadline SET check_at = $1 WHERE check_at = $3 AND slot = $2"};

	Assert(lease->check_at != DT_NOEND || lease->deadline == DT_NOEND);
	coord_due_at(JOB_LEASES, lease->check_at);
	if (lease->check_at == lease->deadline)
		return;
	store_run(lease->deadline == DT_NOEND ? &insert : &update,
			  STORE_ARGS(arg_time(lease->check_at), arg_int8(lease->slot), arg_time(lease->deadline)));
	lease->deadline = lease->check_at;
}

/* Add the first lease on a resource. */
void
store_lease_insert(LeaseRow *lease)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.lease_data (" LEASE_COLUMNS ")"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, false, $13)"};

	coord_lease_touched(lease->resource_key);
	store_run(&plan, STORE_ARGS(arg_int8(lease->slot), arg_text(lease->resource_key),
								arg_uuid(&lease->id), arg_uuid(&lease->agent_id),
								arg_uuid(lease->task_id), arg_int8(lease->fencing_token),
								arg_interval(lease->ttl), arg_bool(lease->auto_renew),
								arg_interval_or_null(lease->max_hold),
								arg_time(lease->acquired_at), arg_time(lease->renewed_at),
								arg_time(lease->expires_at), arg_time(lease->check_at)));
	write_deadline(lease);
}

/* Write a locked lease. */
void
store_lease_update(LeaseRow *lease)
{
	static StorePlan plan = {.sql = "UPDATE coord.lease_data SET id = $2, agent_id = $3, task_id = $4,"
		" fencing_token = $5, ttl = $6, auto_renew = $7, max_hold = $8, acquired_at = $9,"
		" renewed_at = $10, expires_at = $11, ended_at = $12, released = $13, check_at = $14"
	" WHERE slot = $1"};

	store_run(&plan, STORE_ARGS(arg_int8(lease->slot), arg_uuid(&lease->id),
								arg_uuid(&lease->agent_id), arg_uuid(lease->task_id),
								arg_int8(lease->fencing_token), arg_interval(lease->ttl),
								arg_bool(lease->auto_renew), arg_interval_or_null(lease->max_hold),
								arg_time(lease->acquired_at), arg_time(lease->renewed_at),
								arg_time(lease->expires_at),
								arg_time_or_null(lease->ended_at == DT_NOEND, lease->ended_at),
								arg_bool(lease->released),
								arg_time_or_null(lease->check_at == DT_NOEND, lease->check_at)));
	write_deadline(lease);
}

static void
find_result(const LeaseRow *lease)
{
	static StorePlan plan = {.sql = "SELECT l FROM coord.lease l WHERE l.resource_key = $1"};

	store_run(&plan, STORE_ARGS(arg_text(lease->resource_key)));
}

/* Run what a grant runs, for no lease at all. */
void
store_lease_warm_up(void)
{
	LeaseRow	none = {.slot = -1, .resource_key = "", .ended_at = DT_NOEND, .check_at = DT_NOEND, .deadline = DT_NOEND};

	store_lease_update(&none);
	find_result(&none);
}

/* The lease on a resource as users see it. */
Datum
store_lease_result(const LeaseRow *lease)
{
	find_result(lease);
	return store_result();
}
