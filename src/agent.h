/*
 * agent.h
 *		Agents: who acts, and whether it lives.
 */
#ifndef COORD_AGENT_H
#define COORD_AGENT_H

#include "store/agent_store.h"

/* Whether it is active, or the sweep has yet to give back something that it had claimed. */
static inline bool
coord_agent_is_unfinished(const AgentRow *agent)
{
	return agent->inactive_since == DT_NOEND || agent->check_at != DT_NOEND;
}

extern TimestampTz coord_agent_ends_at(const AgentRow *agent);
extern AgentRow *coord_owned_agent(const pg_uuid_t *id);
extern AgentRow *coord_active_agent(const pg_uuid_t *id, TimestampTz now);
extern AgentRow *coord_revived_agent(const pg_uuid_t *id, TimestampTz *now);
extern int	coord_agent_lapse(AgentRow *agent, TimestampTz now, int max);

#endif							/* COORD_AGENT_H */
