/*
 * lease_store.c
 *		Stored leases: coord.lease_data, one row for each resource key.
 *
 * Acquiring, renewing and releasing update columns that no index has, so that
 * the update is HOT, as long as check_at can stay: it must not be later than
 * the lease's end, or than its next renewal by the server.
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
	return lease;
}

/* The lease on a resource, current or last, not locked; NULL when it never had one. */
LeaseRow *
store_lease_on(const char *resource_key)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE resource_key = $1"};

	return store_run(&plan, STORE_ARGS(arg_text(resource_key))) ? read_lease(0) : NULL;
}

/* The same as it is now, whatever the transaction's snapshot is. */
LeaseRow *
store_lease_on_now(const char *resource_key)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE resource_key = $1"};

	return store_run_latest(&plan, STORE_ARGS(arg_text(resource_key))) ? read_lease(0) : NULL;
}

/* The same, locked so that it can be granted; NULL also when another transaction has it. */
LeaseRow *
store_lease_on_for_grant(const char *resource_key)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE resource_key = $1"
	" FOR UPDATE SKIP LOCKED"};

	coord_lease_touched(resource_key);
	return store_run(&plan, STORE_ARGS(arg_text(resource_key))) ? read_lease(0) : NULL;
}

LeaseRow *
store_lease_at(int64 slot, StoreLock lock)
{
	static StorePlan plans[] = {
		[STORE_NO_LOCK] = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE slot = $1"},
		[STORE_LOCK_WAIT] = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE slot = $1"
		" FOR NO KEY UPDATE"},
		[STORE_LOCK_SKIP] = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE slot = $1"
		" FOR NO KEY UPDATE SKIP LOCKED"},
	};

	LeaseRow   *lease = store_run(&plans[lock], STORE_ARGS(arg_int8(slot))) ? read_lease(0) : NULL;

	if (lease != NULL && lock != STORE_NO_LOCK)
		coord_lease_touched(lease->resource_key);
	return lease;
}

/*
 * Release active leases of an agent, "limit" at most; returns how many.  There is no
 * index for it, since a grant would have to write it: it reads all that are active.
 */
int
store_leases_release_of(const pg_uuid_t *agent_id, TimestampTz now, int limit)
{
	static StorePlan plan = {.sql = "UPDATE coord.lease_data SET ended_at = $2, released = true"
		" WHERE ctid = ANY (ARRAY(SELECT ctid FROM coord.lease_data"
		"  WHERE check_at IS NOT NULL AND agent_id = $1 AND ended_at IS NULL AND expires_at > $2"
		"  ORDER BY slot LIMIT $3 FOR NO KEY UPDATE))"
	" RETURNING resource_key"};
	int			n = (int) store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_time(now), arg_int4(limit)));

	for (int i = 0; i < n; i++)
		coord_lease_touched(store_text(i, 1));
	return n;
}

/* ---- what the sweep does ---- */

/*
 * End leases whose time is over, "limit" at most, and announce it; returns how many,
 * and when the first of them ended.  Those that are locked are passed over.
 */
int
store_leases_expire(TimestampTz now, int limit, TimestampTz *earliest)
{
	static StorePlan plan = {.sql = "WITH due AS ("
		"  SELECT ctid AS place FROM coord.lease_data"
		"  WHERE check_at <= $1 AND expires_at <= $1 AND ended_at IS NULL AND NOT (id = ANY ($3))"
		"  ORDER BY check_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
		"), ended AS ("
		"  UPDATE coord.lease_data l SET ended_at = expires_at, released = false, check_at = NULL"
		"  FROM due WHERE l.ctid = due.place"
		"  RETURNING l.id, l.resource_key, l.agent_id, l.fencing_token, l.expires_at"
		"), told AS ("
		   STORE_INSERT_LOCK_EXPIRED("coord.new_id()", "id", "resource_key", "agent_id", "fencing_token",
									 "expires_at", "$1") " FROM ended"
	") SELECT count(*), min(expires_at) FROM ended"};
	int			n;

	store_run(&plan, STORE_ARGS(arg_time(now), arg_int4(limit), arg_set_aside()));
	n = (int) store_int8(0, 1, 0);
	*earliest = store_time(0, 2, now);
	if (n > 0)
	{
		coord_due_at(JOB_EVENTS, COORD_DUE_NOW);
		coord_leases_touched();
	}
	return n;
}

/*
 * Look at leases whose check_at has come before their end, "limit" at most: renew
 * those for which the server does it, and set when to look again (as set_check_at()
 * in lease.c does).  A renewal whose time has come and that is not made now is never
 * made.  Returns how many were looked at, and how many of them were renewed.
 */
int
store_leases_look(TimestampTz now, int limit, int *renewed)
{
	static StorePlan plan = {.sql = "WITH due AS ("
		"  SELECT ctid AS place, ended_at IS NULL AND auto_renew AND renewed_at + ttl / 3 <= $1"
		"   AND (max_hold IS NULL OR acquired_at + max_hold > $1)"
		"   AND (SELECT status FROM coord.agent a WHERE a.id = agent_id) = 'active' AS renews"
		"  FROM coord.lease_data"
		"  WHERE check_at <= $1 AND (expires_at > $1 OR ended_at IS NOT NULL) AND NOT (id = ANY ($3))"
		"  ORDER BY check_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
		"), looked AS ("
		"  UPDATE coord.lease_data l SET"
		"   renewed_at = CASE WHEN renews THEN $1 ELSE renewed_at END,"
		"   expires_at = CASE WHEN renews THEN greatest(expires_at, $1 + ttl) ELSE expires_at END,"
		"   check_at = CASE WHEN ended_at IS NOT NULL THEN NULL"
		"    WHEN renews THEN $1 + ttl / 3"
		"    WHEN auto_renew AND renewed_at + ttl / 3 > $1 THEN least(expires_at, renewed_at + ttl / 3)"
		"    ELSE expires_at END"
		"  FROM due WHERE l.ctid = due.place"
		"  RETURNING renews"
	") SELECT count(*), count(*) FILTER (WHERE renews) FROM looked"};
	int			n;

	store_run(&plan, STORE_ARGS(arg_time(now), arg_int4(limit), arg_set_aside()));
	n = (int) store_int8(0, 1, 0);
	*renewed = (int) store_int8(0, 2, 0);
	if (n > 0)
		coord_leases_touched();
	return n;
}

/*
 * The lease, locked or not, that store_leases_expire() or store_leases_look() would
 * come to first; NULL when there is none.
 */
pg_uuid_t *
store_lease_due_first(TimestampTz now, bool to_expire)
{
	static StorePlan plan = {.sql = "SELECT id FROM coord.lease_data WHERE check_at <= $1"
		" AND (expires_at <= $1 AND ended_at IS NULL) = $2"
	" AND NOT (id = ANY ($3)) ORDER BY check_at LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_time(now), arg_bool(to_expire), arg_set_aside())) ?
		store_uuid(0, 1) : NULL;
}

/* The earliest instant at which the sweep must look at a lease; DT_NOEND when there is none. */
TimestampTz
store_leases_next_due(void)
{
	static StorePlan plan = {.sql = "SELECT check_at FROM coord.lease_data WHERE check_at IS NOT NULL"
	" AND NOT (id = ANY ($1)) ORDER BY check_at LIMIT 1"};

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

/* Add the first lease on a resource. */
void
store_lease_insert(const LeaseRow *lease)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.lease_data (" LEASE_COLUMNS ")"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, false, $13)"};

	coord_lease_touched(lease->resource_key);
	coord_due_at(JOB_LEASES, lease->check_at);
	store_run(&plan, STORE_ARGS(arg_int8(lease->slot), arg_text(lease->resource_key),
								arg_uuid(&lease->id), arg_uuid(&lease->agent_id),
								arg_uuid(lease->task_id), arg_int8(lease->fencing_token),
								arg_interval(lease->ttl), arg_bool(lease->auto_renew),
								arg_interval_or_null(lease->max_hold),
								arg_time(lease->acquired_at), arg_time(lease->renewed_at),
								arg_time(lease->expires_at), arg_time(lease->check_at)));
}

/* Write a locked lease. */
void
store_lease_update(const LeaseRow *lease)
{
	static StorePlan plan = {.sql = "UPDATE coord.lease_data SET id = $2, agent_id = $3, task_id = $4,"
	" fencing_token = $5, ttl = $6, auto_renew = $7, max_hold = $8, acquired_at = $9,"
	" renewed_at = $10, expires_at = $11, ended_at = $12, released = $13, check_at = $14"
	" WHERE slot = $1"};

	coord_due_at(JOB_LEASES, lease->check_at);
	store_run(&plan, STORE_ARGS(arg_int8(lease->slot), arg_uuid(&lease->id),
								arg_uuid(&lease->agent_id), arg_uuid(lease->task_id),
								arg_int8(lease->fencing_token), arg_interval(lease->ttl),
								arg_bool(lease->auto_renew), arg_interval_or_null(lease->max_hold),
								arg_time(lease->acquired_at), arg_time(lease->renewed_at),
								arg_time(lease->expires_at),
								arg_time_or_null(lease->ended_at == DT_NOEND, lease->ended_at),
								arg_bool(lease->released),
								arg_time_or_null(lease->check_at == DT_NOEND, lease->check_at)));
}

/* The lease on a resource as users see it. */
Datum
store_lease_result(const LeaseRow *lease)
{
	static StorePlan plan = {.sql = "SELECT l FROM coord.lease l WHERE l.resource_key = $1"};

	store_run(&plan, STORE_ARGS(arg_text(lease->resource_key)));
	return store_result();
}
