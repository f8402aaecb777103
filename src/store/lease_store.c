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
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"

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

static LeaseRow **
read_leases(uint64 n)
{
	LeaseRow  **leases = palloc(sizeof(LeaseRow *) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		leases[i] = read_lease(i);
	return leases;
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

	return store_run(&plans[lock], STORE_ARGS(arg_int8(slot))) ? read_lease(0) : NULL;
}

/* Leases that the sweep must look at, locked; those that are locked already are not among them. */
LeaseRow **
store_leases_due(TimestampTz now, int limit, int *n)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data WHERE check_at <= $1"
	" ORDER BY check_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"};

	*n = (int) store_run(&plan, STORE_ARGS(arg_time(now), arg_int4(limit)));
	return read_leases(*n);
}

/* The active leases of an agent, locked. */
LeaseRow **
store_leases_of(const pg_uuid_t *agent_id, TimestampTz now, int *n)
{
	static StorePlan plan = {.sql = "SELECT " LEASE_COLUMNS " FROM coord.lease_data"
	" WHERE check_at IS NOT NULL AND agent_id = $1 AND ended_at IS NULL AND expires_at > $2"
	" ORDER BY slot FOR NO KEY UPDATE"};

	*n = (int) store_run(&plan, STORE_ARGS(arg_uuid(agent_id), arg_time(now)));
	return read_leases(*n);
}

/* Keep the row from being granted until the end of the transaction. */
bool
store_lease_hold_still(int64 slot)
{
	static StorePlan plan = {.sql = "SELECT 1 FROM coord.lease_data WHERE slot = $1 FOR KEY SHARE"};

	return store_run(&plan, STORE_ARGS(arg_int8(slot))) == 1;
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

	coord_wake_at(lease->check_at);
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

	coord_wake_at(lease->check_at);
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
