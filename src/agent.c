/*
 * agent.c
 *		Agents: registration, heartbeats, and what happens at their end.
 *
 * An agent is inactive from the instant at which its heartbeat timeout has
 * passed, while there was a server to take heartbeats (beat.c), or, if it is attached,
 * its connection has ended.  Whoever meets a lapsed
 * agent first (the sweep, or a heartbeat that comes too late) marks it and gives
 * back what it had claimed, in one transaction unless that is too much for one.
 * The leases of an agent that has fallen silent run on to their own ends, since it
 * may still rely on them; those of an attached agent are released.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "agent.h"
#include "agent_end.h"
#include "args.h"
#include "attachment.h"
#include "beat.h"
#include "claim.h"
#include "clock.h"
#include "delivery.h"
#include "errors.h"
#include "lease.h"
#include "quota.h"
#include "store/deadline_store.h"
#include "store/event_store.h"
#include "store/new_key.h"
#include "store/store.h"
#include "uuid7.h"
#include "worker/shared.h"

/* how soon to come back to what is locked */
#define LOCKED_RETRY (50 * INT64CONST(1000))

typedef struct NewAgent
{
	AgentRow	row;
	bool		chose_id;
	bool		id_is_over;		/* see check_id_is_over() */
	const char *type;
	Jsonb	   *metadata;
} NewAgent;

PG_FUNCTION_INFO_V1(coord_agent_register);
PG_FUNCTION_INFO_V1(coord_agent_heartbeat);
PG_FUNCTION_INFO_V1(coord_agent_retire);

static AgentRow *lock_named_agent(const char *name);
static AgentRow *lock_owned_agent(const pg_uuid_t *id);
static bool insert_agent(NewAgent *new);
static void lapse_at_once(AgentRow *agent, TimestampTz now);
static void revive(AgentRow *agent, TimestampTz now);

static bool
has_lapsed(const AgentRow *agent, TimestampTz now)
{
	return agent->retired_at == DT_NOEND && agent->inactive_since == DT_NOEND &&
		coord_agent_ends_at(agent) <= now;
}

/* Whether an agent is active, whatever the transaction's snapshot shows. */
static bool
is_active_now(const pg_uuid_t *id, TimestampTz now)
{
	AgentRow   *agent = store_agent_now(id);

	return agent != NULL && coord_agent_ends_at(agent) > now;
}

/* Whether an agent that was read is active, and has not ended since the transaction's snapshot. */
static bool
is_active(const AgentRow *agent, TimestampTz now)
{
	return coord_agent_ends_at(agent) > now && (!IsolationUsesXactSnapshot() || is_active_now(&agent->id, now));
}

static bool
was_sent_something(const pg_uuid_t *id)
{
	return !coord_all_is_delivered() && store_inbox_has_events_to(id);
}

/*
 * What another agent had that is no more, since it was deleted or left out of a dump, is to be
 * over before its id is taken: what was sent to it is to have a position before the new one's
 * events, and what becomes of its claims is told to it.  Nothing is added to that any more.
 */
static void
check_id_is_over(const pg_uuid_t *id)
{
	if (was_sent_something(id))
		coord_await_delivery();
	if (was_sent_something(id))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("events to another agent that had the id %s are yet to be delivered", coord_uuid_str(id)),
				 errhint("Try again in a moment.")));
	if (store_claims_of_now(id, 1).n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another agent that had the id %s still has claims", coord_uuid_str(id)),
				 errhint("They end when they run out.")));
}

/* agent_register(name, type, heartbeat_timeout, metadata, id) */
Datum
coord_agent_register(PG_FUNCTION_ARGS)
{
	char	   *name = coord_arg_name(fcinfo, 0, "name");
	char	   *type = coord_arg_name_or_null(fcinfo, 1, "type");
	int64		timeout = coord_arg_heartbeat_timeout(fcinfo, 2, "heartbeat_timeout");
	Jsonb	   *metadata = coord_arg_payload(fcinfo, 3, "metadata");
	const pg_uuid_t *id = coord_check_new_id(coord_arg_uuid_or_null(fcinfo, 4));
	StoreScope	scope;
	NewAgent	new = {.chose_id = id != NULL,.type = type,.metadata = metadata};
	AgentRow   *agent;
	TimestampTz now;

	if (type == NULL)
		new.type = "worker";

	store_open(&scope);
	new.row.name = name;
	new.row.owner = store_caller();
	new.row.timeout = timeout;
	if (id != NULL)
		new.row.id = *id;
	else
		coord_uuid7(&new.row.id);
	if (id != NULL && store_agent_now(id) == NULL)
	{
		check_id_is_over(id);
		new.id_is_over = true;
	}
	do
		agent = lock_named_agent(name);
	while (agent == NULL && !insert_agent(&new));	/* it was made meanwhile */
	if (agent != NULL)
	{
		now = coord_now();
		if (id != NULL && !coord_uuid_equal(id, &agent->id))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 coord_errargument("id"),
					 errmsg("agent \"%s\" has another id", name),
					 errdetail("It is registered as %s.", coord_uuid_str(&agent->id))));
		if (agent->retired_at != DT_NOEND)
			coord_check_agents(agent->owner);
		revive(agent, now);
		agent->timeout = timeout;
		agent->heartbeat_at = now;
		store_agent_update(agent, new.type, metadata);
	}
	PG_RETURN_DATUM(store_close_with(&scope, store_agent_result(agent != NULL ? &agent->id : &new.row.id)));
}

/* agent_heartbeat(agent_id) */
Datum
coord_agent_heartbeat(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "agent_id");
	StoreScope	scope;
	AgentRow   *agent;
	AgentRow   *locked;
	TimestampTz now;

	PreventCommandIfReadOnly("agent_heartbeat");
	store_open(&scope);
	agent = coord_owned_agent(id);
	if (agent->retired_at != DT_NOEND)
		coord_error_agent_not_active(agent->name, "retired", agent->retired_at);

	now = coord_now();
	if (is_active(agent, now) && store_agent_note_beat(agent, now))
	{
		agent->heartbeat_at = now;
		PG_RETURN_DATUM(store_close_with(&scope, store_agent_as_result(agent)));
	}

	locked = lock_owned_agent(id);
	now = coord_now();
	if (locked != NULL)
	{
		if (locked->retired_at != DT_NOEND)
			coord_error_agent_not_active(agent->name, "retired", locked->retired_at);
		revive(locked, now);
		store_agent_beat(locked, now);
	}
	else if (coord_agent_ends_at(agent) > now)
		store_agent_beat_aside(agent, now);
	else
		coord_error_agent_busy(agent->name);
	/* an error undoes a beat of one that was deleted in this very moment */
	PG_RETURN_DATUM(store_close_with(&scope, store_agent_result(id)));
}

/* agent_retire(agent_id) */
Datum
coord_agent_retire(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "agent_id");
	StoreScope	scope;
	AgentRow   *agent;
	TimestampTz now;

	store_open(&scope);
	agent = lock_owned_agent(id);
	if (agent == NULL)
		coord_error_agent_busy(coord_uuid_str(id));
	now = coord_now();
	if (agent->retired_at == DT_NOEND)
	{
		if (has_lapsed(agent, now))
			lapse_at_once(agent, now);
		coord_claims_give_back(id, now);
		store_leases_release_of(id, now);
		store_agent_set_retired(agent, now);
		coord_beats_end(id);
	}
	PG_RETURN_DATUM(store_close_with(&scope, store_agent_result(id)));
}

/* The instant at which the agent ends, or ended, if no heartbeat comes. */
TimestampTz
coord_agent_ends_at(const AgentRow *agent)
{
	if (agent->retired_at != DT_NOEND)
		return agent->retired_at;
	if (agent->inactive_since != DT_NOEND)
		return agent->inactive_since;
	if (agent->attachment != 0)
		return coord_attachment_ends_at(&agent->id, agent->attachment, agent->heartbeat_at);
	return coord_later(agent->heartbeat_at, coord_beats_since()) + agent->timeout;
}

/* Whether the caller has the rights of the agent's owner. */
bool
coord_owns_agent(const AgentRow *agent)
{
	return has_privs_of_role(store_caller(), agent->owner);
}

/* Error unless it has. */
static void
check_owner(const AgentRow *agent)
{
	if (!coord_owns_agent(agent))
		coord_error_not_owner(agent->name, agent->owner);
}

/* An agent that the caller may act for. */
AgentRow *
coord_owned_agent(const pg_uuid_t *id)
{
	AgentRow   *agent = store_agent(id, STORE_NO_LOCK);

	if (agent == NULL)
		coord_error_no_agent(id);
	check_owner(agent);
	return agent;
}

/*
 * The same, that is not deleted before the transaction ends: to write something in its name, or
 * under its id, which may be another one's by then.
 */
AgentRow *
coord_kept_agent(const pg_uuid_t *id)
{
	AgentRow   *agent;

	(void) coord_owned_agent(id);
	agent = store_agent_keep(id);
	if (agent == NULL && IsolationUsesXactSnapshot())
		coord_error_serialization();
	if (agent == NULL)
		coord_error_no_agent(id);
	check_owner(agent);			/* there may be another one of that id by now */
	return agent;
}

/* An agent, locked; NULL when another transaction has it locked, or it is gone. */
static AgentRow *
lock_agent(const pg_uuid_t *id)
{
	AgentRow   *agent = store_agent(id, STORE_LOCK_SKIP);

	if (agent == NULL)
	{
		coord_wait_for_sweep();
		agent = store_agent(id, STORE_LOCK_SKIP);
	}
	if (agent != NULL)
		check_owner(agent);		/* there may be another one of that id by now */
	return agent;
}

/* An agent that the caller may act for, locked; NULL when another transaction has it locked. */
static AgentRow *
lock_owned_agent(const pg_uuid_t *id)
{
	AgentRow   *agent;

	(void) coord_owned_agent(id);
	agent = lock_agent(id);
	if (agent == NULL)
		(void) coord_owned_agent(id);	/* it may be gone by now */
	return agent;
}

/* The same, of a name; NULL when there is none. */
static AgentRow *
lock_named_agent(const char *name)
{
	for (;;)
	{
		AgentRow   *agent = store_agent_named(name);
		AgentRow   *locked;

		CHECK_FOR_INTERRUPTS();
		if (agent == NULL)
			return NULL;
		check_owner(agent);
		locked = lock_agent(&agent->id);
		if (locked != NULL && strcmp(locked->name, name) == 0)
			return locked;
		if (locked == NULL && store_agent(&agent->id, STORE_NO_LOCK) != NULL)
			coord_error_agent_busy(name);
		/* it was deleted meanwhile */
	}
}

/*
 * An agent that the caller may act for, locked and made active if it was inactive;
 * the caller writes its sign of life.
 */
AgentRow *
coord_revived_agent(const pg_uuid_t *id, TimestampTz *now)
{
	AgentRow   *agent = lock_owned_agent(id);

	if (agent == NULL)
		coord_error_agent_busy(coord_uuid_str(id));
	if (agent->retired_at != DT_NOEND)
		coord_error_agent_not_active(agent->name, "retired", agent->retired_at);
	*now = coord_now();
	revive(agent, *now);
	return agent;
}

/*
 * An agent that the caller may act for, and that is active, to take something for it.  One
 * that has ended, or come back, since the transaction's snapshot is the 40001 that locking its
 * row would be.
 */
AgentRow *
coord_active_agent(const pg_uuid_t *id, TimestampTz now)
{
	AgentRow   *agent;
	TimestampTz ends_at;

	coord_ends_remember();
	agent = coord_owned_agent(id);
	ends_at = coord_agent_ends_at(agent);
	if (ends_at <= now && IsolationUsesXactSnapshot() && is_active_now(id, now))
		coord_error_serialization();
	if (ends_at <= now)
		coord_error_agent_not_active(agent->name,
									 agent->retired_at != DT_NOEND ? "retired" : "inactive",
									 ends_at);
	if (!is_active(agent, now))
		coord_error_serialization();
	return agent;
}

/*
 * When to come back to an agent that has ended and whose claims are locked by others.
 * The longer that lasts the later, so that many such agents, which one role may have,
 * do not keep the sweep from those that come after them.
 */
static TimestampTz
come_back_at(TimestampTz since, TimestampTz now)
{
	return now + Max(Min((now - since) / 2, AGENT_LOCKED_RETRY_MAX), LOCKED_RETRY);
}

/*
 * Mark a locked agent that has lapsed as inactive, announce it, and give back what it
 * had claimed, but no more than "max" claims.  Returns how many those were; the rest,
 * and the leases of an attached agent, are left to the sweep.
 */
int
coord_agent_lapse(AgentRow *agent, TimestampTz now, int max)
{
	TimestampTz since = coord_agent_ends_at(agent);
	bool		all;
	int			n;

	Assert(since <= now);
	if (agent->inactive_since == DT_NOEND)
		store_event_agent("agent.inactive", agent, now);
	n = coord_claims_lose_of(&agent->id, max, now, &all);
	store_agent_set_inactive(agent, since, all ? DT_NOEND : n > 0 ? since : come_back_at(since, now));
	return n;
}

/*
 * The same, with all its claims.  Of an attached agent's leases, what another of its
 * transactions has locked is left to it: it is about to be active again.
 */
static void
lapse_at_once(AgentRow *agent, TimestampTz now)
{
	UuidList	self = {1, &agent->id};
	LeaseCursor cursor = {DT_NOBEGIN, 0, 0};

	(void) coord_agent_lapse(agent, now, PG_INT32_MAX);
	if (agent->attachment != 0)
		(void) store_leases_release(&self, &cursor, PG_INT32_MAX, now);
	agent->attachment = 0;
}

/* A StoreAction. */
static void
insert_row(void *arg)
{
	NewAgent   *new = arg;

	coord_check_agents(new->row.owner);
	if (new->chose_id)
	{
		if (!new->id_is_over)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("another agent that had the id %s was just being deleted", coord_uuid_str(&new->row.id)),
					 errhint("Try again.")));
		/* what was just being written while another agent of that id was deleted */
		(void) store_agent_delete_belongings(&new->row.id);
	}
	new->row.heartbeat_at = coord_now();
	store_agent_insert(&new->row, new->type, new->metadata);
}

/* A StoreAction, of a name: error when the id, which somebody may have chosen, is another's. */
static void
insert_with_id(void *arg)
{
	NewAgent   *new = arg;

	switch (store_insert_new_id(STORE_KEY_AGENT_ID, &new->row.id, insert_row, new))
	{
		case STORE_KEY_IN_FLIGHT:
			coord_error_name_busy("agent", coord_uuid_str(&new->row.id));
		case STORE_KEY_EXISTS:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 coord_errargument("id"),
					 errmsg("agent id %s is in use under another name", coord_uuid_str(&new->row.id))));
		case STORE_KEY_FREE:
			break;
	}
}

/* Add an agent; false when there has come to be one of its name. */
static bool
insert_agent(NewAgent *new)
{
	switch (store_insert_new(STORE_KEY_AGENT_NAME, new->row.name, NULL, insert_with_id, new))
	{
		case STORE_KEY_IN_FLIGHT:
			coord_error_name_busy("agent", new->row.name);
		case STORE_KEY_EXISTS:
			return false;
		case STORE_KEY_FREE:
			break;
	}
	return true;
}

/*
 * Before a sign of life of a locked agent is written: if it has ended, let it
 * end, and announce that it is active again.  What was claimed for it by a transaction
 * that was open at its end is not its own any more, if the sweep has not seen that yet.
 */
static void
revive(AgentRow *agent, TimestampTz now)
{
	bool		all;

	if (has_lapsed(agent, now) ||
		(agent->inactive_since != DT_NOEND && (agent->check_at != DT_NOEND || agent->attachment != 0)))
		lapse_at_once(agent, now);
	else if (agent->inactive_since != DT_NOEND || agent->retired_at != DT_NOEND)
		(void) coord_claims_lose_of(&agent->id, PG_INT32_MAX, now, &all);
	coord_beats_go_on(&agent->id);
	if (agent->inactive_since != DT_NOEND || agent->retired_at != DT_NOEND)
	{
		agent->heartbeat_at = now;
		store_event_agent("agent.active", agent, now);
	}
}
