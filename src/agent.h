/*
 * agent.h
 *		Agents: who acts, and whether it lives.
 */
#ifndef COORD_AGENT_H
#define COORD_AGENT_H

#include "store/agent_store.h"

/* how late the sweep comes back to an agent that has ended, if others have locked what it had claimed */
#define AGENT_LOCKED_RETRY_MAX (10 * USECS_PER_SEC)

extern TimestampTz coord_agent_ends_at(const AgentRow *agent);
extern bool coord_owns_agent(const AgentRow *agent);
extern AgentRow *coord_owned_agent(const pg_uuid_t *id);
extern AgentRow *coord_kept_agent(const pg_uuid_t *id);
extern AgentRow *coord_active_agent(const pg_uuid_t *id, TimestampTz now);
extern AgentRow *coord_revived_agent(const pg_uuid_t *id, TimestampTz *now);
extern int	coord_agent_lapse(AgentRow *agent, TimestampTz now, int max);

#endif							/* COORD_AGENT_H */
