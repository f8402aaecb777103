/*
 * lease.c
 *		Leases: granting, renewing and ending them.
 *
 * A resource key has one row, which is its current lease or its last one.
 * Every grant to a new holder gives it a new id and a new fencing token.  A
 * lease is over from its expires_at on, whether or not anybody has written so;
 * whoever meets one that has run out first (the sweep, or the next grant)
 * writes it down and sends lock.expired.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "agent.h"
#include "args.h"
#include "clock.h"
#include "errors.h"
#include "lease.h"
#include "lease_wait.h"
#include "sequence.h"
#include "store/event_store.h"
#include "store/new_key.h"
#include "store/store.h"
#include "store/task_store.h"
#include "uuid7.h"
#include "worker/shared.h"
#include "worker/wakeup.h"

PG_FUNCTION_INFO_V1(coord_lease_acquire);
PG_FUNCTION_INFO_V1(coord_lease_renew);
PG_FUNCTION_INFO_V1(coord_lease_release);
PG_FUNCTION_INFO_V1(coord_lease_assert);

static bool acquire(FunctionCallInfo fcinfo, const LeaseRequest *request, TimestampTz *look_at);
static LeaseRow *find_lease(const pg_uuid_t *id, StoreLock *lock, bool *superseded);
static LeaseRow *after_renewal(LeaseRow *lease);
static bool serves_claim(const LeaseRow *lease);
static bool is_own(const LeaseRow *lease, const LeaseRequest *request);
static void renew_own(LeaseRow *lease, const LeaseRequest *request, TimestampTz now);
static void grant_anew(LeaseRow *lease, const LeaseRequest *request, TimestampTz now);
static void fill_grant(LeaseRow *lease, const LeaseRequest *request, TimestampTz now);
static void set_check_at(LeaseRow *lease, TimestampTz now);

static bool
is_active(const LeaseRow *lease, TimestampTz now)
{
	return lease->ended_at == DT_NOEND && lease->expires_at > now;
}

/*
 * Whether a lease that is active by the transaction's snapshot is so still.  If not,
 * locking its row is the 40001 that it has to be.
 */
static bool
is_latest(const LeaseRow *lease)
{
	LeaseRow   *now;

	if (!IsolationUsesXactSnapshot())
		return true;
	now = store_lease_on_now(lease->resource_key);
	return now != NULL && now->fencing_token == lease->fencing_token && is_active(now, coord_now());
}

/* in words, how a lease that is not active ended */
static const char *
how_ended(const LeaseRow *lease)
{
	return lease->ended_at != DT_NOEND && lease->released ?
		psprintf("was released at %s", timestamptz_to_str(lease->ended_at)) :
		psprintf("expired at %s", timestamptz_to_str(lease->expires_at));
}

/* lease_acquire(resource_key, agent_id, ttl, auto_renew, wait, max_hold) */
Datum
coord_lease_acquire(PG_FUNCTION_ARGS)
{
	LeaseRequest request = {
		.resource_key = coord_arg_name(fcinfo, 0, "resource_key"),
		.agent_id = coord_arg_uuid(fcinfo, 1, "agent_id"),
		.ttl = coord_arg_ttl(fcinfo, 2, "ttl", coord_default_ttl(-1)),
		.auto_renew = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3),
		.max_hold = coord_arg_duration(fcinfo, 5, "max_hold", -1),
	};
	int64		wait = coord_arg_duration(fcinfo, 4, "wait", 0);
	TimestampTz give_up_at = coord_now() + wait;
	TimestampTz look_at;
	MemoryContext per_look;
	MemoryContext outer;
	bool		acquired;
	bool		in_vain;

	if (wait > 0 && !coord_is_preloaded())
		coord_error_not_preloaded("waiting for a lease");
	if (wait > 0)
		PreventCommandIfReadOnly("lease_acquire");

	InitMaterializedSRF(fcinfo, 0);
	if (acquire(fcinfo, &request, &look_at) || wait == 0)
		return (Datum) 0;

	coord_wait_begin(&request);
	per_look = AllocSetContextCreate(CurrentMemoryContext, "coord wait", ALLOCSET_DEFAULT_SIZES);
	do
	{
		look_at = DT_NOEND;
		outer = MemoryContextSwitchTo(per_look);
		acquired = coord_wait_is_first() && acquire(fcinfo, &request, &look_at);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(per_look);
		in_vain = !acquired && coord_now() >= give_up_at;
		if (!acquired && !in_vain)
			coord_wait_sleep(Min(look_at, give_up_at));
	} while (!acquired && !in_vain);
	MemoryContextDelete(per_look);
	coord_wait_end(in_vain);
	return (Datum) 0;
}

/* lease_renew(lease_id, ttl) */
Datum
coord_lease_renew(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "lease_id");
	int64		ttl = coord_arg_ttl(fcinfo, 1, "ttl", -1);
	StoreScope	scope;
	LeaseRow   *lease;
	StoreLock	lock = STORE_NO_LOCK;
	bool		superseded;
	TimestampTz now;
	TimestampTz expires_at;

	store_open(&scope);
	do
	{
		lease = find_lease(id, &lock, &superseded);
		if (superseded)
			coord_error_lease_ended(id, "was followed by another lease on its resource");
		now = coord_now();
		if (!is_active(lease, now))
			coord_error_lease_ended(id, how_ended(lease));
		expires_at = now + (ttl < 0 ? lease->ttl : ttl);
		if (lease->task_id != NULL)
			expires_at = Max(expires_at, lease->expires_at);	/* its claim needs it so long */
	} while (!coord_lease_extend(lease, expires_at, now));
	PG_RETURN_DATUM(store_close_with(&scope, store_lease_as_result(lease)));
}

/* lease_release(lease_id) */
Datum
coord_lease_release(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "lease_id");
	StoreScope	scope;
	LeaseRow   *lease;
	StoreLock	lock = STORE_NO_LOCK;
	bool		superseded;
	bool		active;
	TimestampTz now;

	store_open(&scope);
	do
	{
		lease = find_lease(id, &lock, &superseded);
		now = coord_now();
		active = !superseded && is_active(lease, now);
		if (active && serves_claim(lease))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("lease %s belongs to a claim", coord_uuid_str(id)),
					 errdetail("Task %s is claimed with it.", coord_uuid_str(lease->task_id)),
					 errhint("Complete, fail or release the task.")));
	} while (active && !coord_lease_end(lease, now));
	store_close(&scope);
	PG_RETURN_BOOL(active);
}

/* lease_assert(resource_key, fencing_token) */
Datum
coord_lease_assert(PG_FUNCTION_ARGS)
{
	char	   *resource_key = coord_arg_name(fcinfo, 0, "resource_key");
	int64		token = coord_arg_int64(fcinfo, 1, "fencing_token");

	coord_lease_check(resource_key, token);
	PG_RETURN_VOID();
}

/*
 * Raise an error unless that token holds that resource now; if it does, nobody else is
 * granted the resource before the transaction ends: FOR KEY SHARE keeps the row from
 * being granted, but lets its holder (and the server, for auto_renew) renew it.
 */
void
coord_lease_check(const char *resource_key, int64 token)
{
	StoreScope	scope;
	LeaseRow   *lease;

	store_open(&scope);
	lease = store_lease_on_now(resource_key);
	if (lease != NULL && lease->fencing_token == token && is_active(lease, coord_now()))
	{
		store_lease_hold_still(lease->slot);
		lease = store_lease_on_now(resource_key);
	}

	if (lease == NULL)
		coord_error_stale_resource_token(resource_key, token, "Nobody has ever held it.");
	if (lease->fencing_token != token)
		coord_error_stale_resource_token(resource_key, token, "The token is not that of its latest lease.");
	if (!is_active(lease, coord_now()))
		coord_error_stale_resource_token(resource_key, token,
										 psprintf("Its lease %s.", how_ended(lease)));
	store_close(&scope);
}

/*
 * Try to get a lease, as the result of the call.  Else *look_at is when it expires;
 * DT_NOEND when another transaction is at it.
 */
static bool
acquire(FunctionCallInfo fcinfo, const LeaseRequest *request, TimestampTz *look_at)
{
	StoreScope	scope;
	LeaseRow   *lease;
	LeaseOutcome outcome;
	bool		acquired;

	store_open(&scope);
	(void) coord_active_agent(request->agent_id, coord_now());
	outcome = coord_lease_grant(request, &lease);
	acquired = outcome == LEASE_GRANTED || outcome == LEASE_RENEWED;
	*look_at = outcome == LEASE_HELD ? lease->expires_at : DT_NOEND;
	if (acquired)
		store_add_result(fcinfo, store_lease_as_result(lease));
	else
		coord_wait_note_holder(outcome == LEASE_HELD ? lease : NULL, outcome == LEASE_HELD ? 0 :
							   store_changed_by(STORE_KEY_RESOURCE, request->resource_key));
	store_close(&scope);
	return acquired;
}

typedef struct FirstLease
{
	const LeaseRequest *request;
	LeaseRow   *lease;
} FirstLease;

/* A StoreAction, of the first lease on a resource. */
static void
insert_first(void *arg)
{
	FirstLease *first = arg;
	LeaseRow   *lease = first->lease;

	lease->slot = store_lease_new_slot();
	lease->resource_key = pstrdup(first->request->resource_key);
	lease->check_at = DT_NOEND;
	lease->deadline = DT_NOEND;
	fill_grant(lease, first->request, coord_now());
	store_lease_insert(lease);
}

/*
 * Give a resource to an agent, for itself or for a task's claim.
 *
 * On LEASE_HELD, *lease is whose it is.  A lease that the agent holds by itself
 * also serves a claim of its own, one at a time, and stays the agent's afterwards;
 * one that serves a claim does not serve another.  Nobody is granted a resource before
 * those who wait for it.  Waits for nobody but the sweep, and a refusal writes nothing.
 */
LeaseOutcome
coord_lease_grant(const LeaseRequest *request, LeaseRow **lease)
{
	bool		waited = false;
	bool		free;

	for (;;)
	{
		*lease = store_lease_on(request->resource_key);
		free = *lease == NULL || !is_active(*lease, coord_now()) || !is_latest(*lease);

		if (free && coord_others_wait(request->resource_key))
			return LEASE_BUSY;
		if (!free && !is_own(*lease, request))
			return LEASE_HELD;
		if (*lease == NULL)
		{
			FirstLease	first = {request, palloc0(sizeof(LeaseRow))};

			switch (store_insert_new(STORE_KEY_RESOURCE, request->resource_key, NULL, insert_first, &first))
			{
				case STORE_KEY_IN_FLIGHT:
					return LEASE_BUSY;
				case STORE_KEY_EXISTS:
					continue;	/* somebody was faster */
				case STORE_KEY_FREE:
					*lease = first.lease;
					return LEASE_GRANTED;
			}
		}

		switch (store_lease_try_lock(*lease, free))
		{
			case STORE_ROW_BUSY:
				/* at the instant of its expiry the sweep may have it */
				if (waited)
					return LEASE_BUSY;
				coord_wait_for_sweep();
				waited = true;
				continue;
			case STORE_ROW_CHANGED:
				continue;		/* somebody was faster */
			case STORE_ROW_LOCKED:
				break;
		}
		if (free)
		{
			/* after the lock: a grant begins when the last one has ended, not when it was asked for */
			grant_anew(*lease, request, coord_now());
			return LEASE_GRANTED;
		}
		if (is_active(*lease, coord_now()))
		{
			renew_own(*lease, request, coord_now());
			return LEASE_RENEWED;
		}
	}
}

/*
 * Whether a request would fail because another holds the resource; *lease is whose it
 * is.  It is for who will not ask again before told: whoever ends the lease later tells
 * who waits for it, after having written so.  So it is not said while a transaction is
 * changing the lease, which may have told already, nor if this one has, which may be
 * rolled back without telling.
 */
bool
coord_lease_is_held(const LeaseRequest *request, LeaseRow **lease)
{
	bool		busy;

	*lease = store_lease_on_dirty(request->resource_key, &busy);
	return *lease != NULL && !busy && !coord_lease_is_touched(request->resource_key) && is_active(*lease, coord_now()) && !is_own(*lease, request);
}

/*
 * What somebody who holds nothing would get, were he to ask now; on LEASE_HELD, *lease is
 * whose it is.  LEASE_BUSY is said while a transaction has the lease in its hands, which
 * will tell at its end that it has touched it, and while somebody waits for it.
 */
LeaseOutcome
coord_lease_outlook(const char *resource_key, LeaseRow **lease)
{
	bool		busy;

	*lease = store_lease_on_dirty(resource_key, &busy);
	if (busy)
		return LEASE_BUSY;
	if (*lease != NULL && is_active(*lease, coord_now()))
		return LEASE_HELD;
	return (*lease != NULL && store_lease_is_locked(*lease)) || coord_others_wait(resource_key) ? LEASE_BUSY : LEASE_GRANTED;
}

/*
 * The agent that may claim tasks with a lease it holds; NULL while a claim has it.  This is
 * for who will not ask again before told: whoever ends that claim tells, after having written
 * so, and is not waited for while he does.
 */
const pg_uuid_t *
coord_lease_usable_by(const LeaseRow *lease)
{
	return serves_claim(lease) && store_task_is_still(lease->task_id) ? NULL : &lease->agent_id;
}

/* Raise the error that says why a resource was not to be had: who holds it, if that can be seen. */
void
coord_lease_refuse(const char *resource_key)
{
	StoreScope	scope;
	LeaseRow   *lease;

	store_open(&scope);
	if (coord_lease_outlook(resource_key, &lease) == LEASE_HELD)
		coord_error_resource_held(resource_key, &lease->agent_id, lease->expires_at);
	coord_error_resource_busy(resource_key);
}

/*
 * Renew an active lease until "expires_at".  False when it has changed since it was
 * read; not if it is locked.
 */
bool
coord_lease_extend(LeaseRow *lease, TimestampTz expires_at, TimestampTz now)
{
	lease->renewed_at = now;
	lease->expires_at = expires_at;
	set_check_at(lease, now);
	return store_lease_update(lease);
}

/*
 * End a lease that was not seen to end: as expired when its time is over, as released
 * otherwise.  False when it has changed since it was read; not if it is locked.
 */
bool
coord_lease_end(LeaseRow *lease, TimestampTz now)
{
	Assert(lease->ended_at == DT_NOEND);
	lease->released = lease->expires_at > now;
	lease->ended_at = Min(lease->expires_at, now);
	if (!store_lease_update(lease))
		return false;
	if (!lease->released)
		store_event_lock_expired(lease, now);
	store_announce_waiting(lease->resource_key);
	return true;
}

/* The lease of that id, whether it has ended or not; NULL when there is none. */
LeaseRow *
coord_lease_by_id(const pg_uuid_t *id, StoreLock lock)
{
	LeaseRow   *lease = NULL;
	int64		slot;

	if (coord_lease_slot(id, &slot))
		lease = store_lease_at(slot, lock);
	return lease != NULL && coord_uuid_equal(&lease->id, id) ? lease : NULL;
}

/* Whether a lease that was read by its slot is not the active one that it has come to be since the snapshot. */
static bool
is_active_since_snapshot(const LeaseRow *read, const pg_uuid_t *id, int64 slot)
{
	LeaseRow   *now;

	if (!IsolationUsesXactSnapshot() ||
		(read != NULL && coord_uuid_equal(&read->id, id) && is_active(read, coord_now())))
		return false;
	now = store_lease_at_now(slot);
	return now != NULL && coord_uuid_equal(&now->id, id) && is_active(now, coord_now());
}

/*
 * A lease that the caller may act on; error when there is no such lease.  *superseded
 * when the row has gone on to another lease, so that this one has ended.  *lock is
 * STORE_NO_LOCK at first; who finds that the lease is not as it was read asks again, and
 * then one that is held is locked, and waited for.
 */
static LeaseRow *
find_lease(const pg_uuid_t *id, StoreLock *lock, bool *superseded)
{
	LeaseRow   *lease;
	int64		slot;

	if (!coord_lease_slot(id, &slot))
		coord_error_no_lease(id);
	lease = store_lease_at(slot, STORE_NO_LOCK);
	if (is_active_since_snapshot(lease, id, slot))
		coord_error_serialization();
	if (lease == NULL)
		coord_error_no_lease(id);
	*superseded = !coord_uuid_equal(&lease->id, id);
	if (*superseded)
		return lease;
	/* an agent may be deleted when its leases have ended */
	if (is_active(lease, coord_now()) || store_agent(&lease->agent_id, STORE_NO_LOCK) != NULL)
		(void) coord_owned_agent(&lease->agent_id);
	if (!is_active(lease, coord_now()))
		lease = after_renewal(lease);
	else if (*lock != STORE_NO_LOCK)
		lease = store_lease_at(slot, *lock);
	*superseded = !coord_uuid_equal(&lease->id, id);
	*lock = STORE_LOCK_WAIT;
	return lease;
}

/*
 * A lease that has run out, as it is when a transaction has ended that has renewed it in
 * time; another one, which grants the resource anew, is not waited for.
 */
static LeaseRow *
after_renewal(LeaseRow *lease)
{
	LeaseRow   *written;
	bool		is_renewed;

	if (lease->ended_at != DT_NOEND)
		return lease;
	written = store_lease_in_progress(lease->resource_key);
	is_renewed = written != NULL && coord_uuid_equal(&written->id, &lease->id) &&
		is_active(written, coord_now());
	return store_lease_at(lease->slot, is_renewed ? STORE_LOCK_WAIT : STORE_NO_LOCK);
}

/*
 * Whether a claim has an active lease.  The lease's row may name a claim that is over: who
 * ended that found the lease locked, and did not wait.  Then it is the agent's, as if that
 * had had it before.
 */
static bool
serves_claim(const LeaseRow *lease)
{
	return lease->task_id != NULL && store_task_is_claimed_with(lease->task_id, &lease->id);
}

/* Whether an active lease can serve a request by being renewed. */
static bool
is_own(const LeaseRow *lease, const LeaseRequest *request)
{
	return coord_uuid_equal(&lease->agent_id, request->agent_id) &&
		(request->task_id == NULL || !serves_claim(lease));
}

/* Renew a locked lease that the agent holds. */
static void
renew_own(LeaseRow *lease, const LeaseRequest *request, TimestampTz now)
{
	if (request->task_id != NULL)
		lease->task_id = memcpy(palloc(sizeof(pg_uuid_t)), request->task_id, sizeof(pg_uuid_t));
	else if (!serves_claim(lease))
		lease->task_id = NULL;
	if (lease->task_id != NULL)
		(void) coord_lease_extend(lease, Max(lease->expires_at, now + request->ttl), now);
	else
	{
		lease->ttl = request->ttl;
		lease->auto_renew = request->auto_renew;
		lease->max_hold = request->max_hold;
		(void) coord_lease_extend(lease, now + request->ttl, now);
	}
}

/*
 * Grant a locked lease that has ended.  If nobody has seen that before, nobody has told
 * the tasks that waited for it; one may be for the new holder.
 */
static void
grant_anew(LeaseRow *lease, const LeaseRequest *request, TimestampTz now)
{
	bool		seen = lease->ended_at != DT_NOEND;

	if (!seen)
		store_event_lock_expired(lease, now);
	fill_grant(lease, request, now);
	(void) store_lease_update(lease);
	if (!seen)
		store_announce_waiting(lease->resource_key);
}

static void
fill_grant(LeaseRow *lease, const LeaseRequest *request, TimestampTz now)
{
	coord_lease_id(&lease->id, lease->slot);
	lease->agent_id = *request->agent_id;
	lease->task_id = (pg_uuid_t *) request->task_id;
	lease->fencing_token = coord_next_fencing_token();
	lease->ttl = request->ttl;
	lease->auto_renew = request->auto_renew;
	lease->max_hold = request->max_hold;
	lease->acquired_at = now;
	lease->renewed_at = now;
	lease->expires_at = now + request->ttl;
	lease->ended_at = DT_NOEND;
	lease->released = false;
	set_check_at(lease, now);
}

/*
 * Set when the sweep must look at the lease next: at its end, or before that
 * when the server must renew it.  A renewal whose time has come and that was
 * not made is never made.  An earlier instant that is set already stays, since
 * changing it is an index write.
 */
static void
set_check_at(LeaseRow *lease, TimestampTz now)
{
	TimestampTz renewal = lease->renewed_at + lease->ttl / 3;
	TimestampTz due = lease->expires_at;

	if (lease->auto_renew && renewal > now)
		due = Min(due, renewal);
	if (lease->check_at <= now || lease->check_at > due)
		lease->check_at = due;
}
