/*
 * retention.h
 *		Dropping what is older than it is to be kept.
 */
#ifndef COORD_RETENTION_H
#define COORD_RETENTION_H

#include "worker/sweep.h"

extern SweepOutcome coord_expire_events(SweepCounts *counts);
extern SweepOutcome coord_expire_tasks(SweepCounts *counts);

/* agents: src/agent_retention.c */
extern SweepOutcome coord_expire_agents(SweepCounts *counts);
extern void coord_expire_agents_now(SweepCounts *counts);
extern void coord_expire_agents_anew(void);
extern TimestampTz coord_expiry_of_agents_due(void);
extern TimestampTz coord_agent_may_return_until(TimestampTz ended_at, TimestampTz now);

#endif							/* COORD_RETENTION_H */
