/*
 * lease.h
 *		Leases: granting, renewing and ending them.
 */
#ifndef COORD_LEASE_H
#define COORD_LEASE_H

#include "compat.h"
#include "store/lease_store.h"

typedef enum LeaseOutcome
{
	LEASE_GRANTED,
	LEASE_RENEWED,				/* for who held it already */
	LEASE_HELD,					/* by another */
	LEASE_BUSY					/* another transaction is changing it */
} LeaseOutcome;

/* what somebody asks for */
typedef struct LeaseRequest
{
	const char *resource_key;
	const pg_uuid_t *agent_id;
	const pg_uuid_t *task_id;	/* NULL: not for a claim */
	int64		ttl;			/* microseconds */
	bool		auto_renew;
	int64		max_hold;		/* microseconds, -1: no limit */
} LeaseRequest;

extern LeaseOutcome coord_lease_grant(const LeaseRequest *request, LeaseRow **lease);
extern const pg_uuid_t *coord_lease_usable_by(const LeaseRow *lease);
extern bool coord_lease_is_held(const LeaseRequest *request, LeaseRow **lease);
extern LeaseOutcome coord_lease_outlook(const char *resource_key, LeaseRow **lease);
extern void coord_lease_check(const char *resource_key, int64 token);
pg_noreturn extern void coord_lease_refuse(const char *resource_key);
extern bool coord_lease_extend(LeaseRow *lease, TimestampTz expires_at, TimestampTz now);
extern bool coord_lease_end(LeaseRow *lease, TimestampTz now);
extern LeaseRow *coord_lease_by_id(const pg_uuid_t *id, StoreLock lock);

#endif							/* COORD_LEASE_H */
