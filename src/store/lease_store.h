/*
 * lease_store.h
 *		Stored leases: coord.lease_data, one row for each resource key.
 */
#ifndef COORD_STORE_LEASE_STORE_H
#define COORD_STORE_LEASE_STORE_H

#include "store/agent_store.h"
#include "store/store.h"

#include "store/rows.h"

typedef struct LeaseRow
{
	StoredRow	row;			/* as it was read or written last */
	bool		locked;
	int64		slot;
	char	   *resource_key;
	pg_uuid_t	id;
	pg_uuid_t	agent_id;
	pg_uuid_t  *task_id;		/* NULL: not taken by a claim */
	int64		fencing_token;
	int64		ttl;			/* microseconds */
	bool		auto_renew;
	int64		max_hold;		/* microseconds, -1: no limit */
	TimestampTz acquired_at;
	TimestampTz renewed_at;
	TimestampTz expires_at;
	TimestampTz ended_at;		/* DT_NOEND: its end has not been seen */
	bool		released;
	TimestampTz check_at;		/* DT_NOEND: not to be looked at */
	TimestampTz deadline;		/* check_at as it is stored */
} LeaseRow;

/* how far a walk over all leases has come, in the order of their deadlines */
typedef struct LeaseCursor
{
	TimestampTz check_at;
	int64		slot;
	int64		passed_over;	/* of those looked for: they were locked */
} LeaseCursor;

/* what the sweep found among the leases that it looked at */
typedef struct LeaseLook
{
	int			n;
	int			renewed;
	int			ended;
	TimestampTz first_ended_at;
} LeaseLook;

extern LeaseRow *store_lease_on(const char *resource_key);
extern LeaseRow *store_lease_on_dirty(const char *resource_key, bool *busy);
extern LeaseRow *store_lease_in_progress(const char *resource_key);
extern bool store_lease_is_locked(const LeaseRow *lease);
extern LeaseRow *store_lease_on_now(const char *resource_key);
extern StoreRowState store_lease_try_lock(LeaseRow *lease, bool to_grant);
extern LeaseRow *store_lease_at_now(int64 slot);
extern LeaseRow *store_lease_at(int64 slot, StoreLock lock);
extern void store_leases_release_of(const pg_uuid_t *agent_id, TimestampTz now);
extern bool store_leases_release(const UuidList *agents, LeaseCursor *cursor, int limit, TimestampTz now);
extern bool store_leases_holders(const UuidList *agents, LeaseCursor *cursor, int limit, UuidList *holders);
extern LeaseLook store_leases_look(TimestampTz now, int limit);
extern bool store_lease_ran_out_for(const char *queue, TimestampTz now, int reach);
extern pg_uuid_t *store_lease_due_first(TimestampTz now);
extern TimestampTz store_leases_next_due(void);
extern void store_lease_hold_still(int64 slot);
extern int64 store_lease_new_slot(void);
extern void store_lease_insert(LeaseRow *lease);
extern bool store_lease_update(LeaseRow *lease);
extern Datum store_lease_as_result(const LeaseRow *lease);

#endif							/* COORD_STORE_LEASE_STORE_H */
