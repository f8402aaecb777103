/*
 * agent_retention.c
 *		Agents that have ended long ago: they are retired, and then deleted.
 *
 * An agent that has been inactive for coord.agent_retention is retired, and one that has
 * been retired for that long is deleted.  But one that holds something stays: somebody may
 * count on a lease that lasts for longer, or renew it without a heartbeat.  No index finds
 * an agent's leases, since each grant would have to write it; so those agents that are due
 * are taken many at a time, and all leases are walked over once for all of them, in batches
 * between which other jobs have their turn.
 *
 * Who has ended cannot come to hold anything before it is active again, which changes when
 * it ended; but a transaction that has seen it active may be open still, with a lease or a
 * claim that nobody sees.  So an agent is deleted only when no open transaction can see it
 * otherwise than retired, before the walk.  And as long as the log has events to it: who
 * brought its id for another agent later would read them.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "clock.h"
#include "retention.h"
#include "settings.h"
#include "store/agent_store.h"
#include "store/deadline_store.h"
#include "store/event_log_store.h"
#include "store/lease_store.h"
#include "uuid7.h"

/* so many agents share a walk over the leases */
#define WALK_AGENTS 1000

/* so much is done in a transaction */
#define WALK_BATCH 5000			/* leases that are read */
#define AGENT_BATCH 200			/* agents, or rows that are deleted with them */

/*
 * Agents are gone through in rounds, no more often than this, nor than an eighth of the
 * retention: what comes due meanwhile shares a walk, and what is locked, or held, waits.
 */
#define ROUND_PAUSE (5 * USECS_PER_MINUTE)

/* who is found to have ended that long ago has so long to come back */
#define GRACE USECS_PER_HOUR

/* a round, as far as it has come */
static struct
{
	EndedAgent	agents[WALK_AGENTS];
	pg_uuid_t	ids[WALK_AGENTS];	/* theirs, in that order */
	int			n;				/* 0: the next ones have yet to be looked for */
	LeaseCursor cursor;
	bool		walked;
	int			next;			/* agent, after the walk */
	EndedAgent	last;			/* of the walk before; DT_NOBEGIN: there was none */
}			round_of = {.last = {.ended_at = DT_NOBEGIN}};

static TimestampTz pause_from = DT_NOBEGIN; /* the end of the last round that had any */

static bool begin_walk(TimestampTz now);
static bool walk_leases(void);
static void look_at(const EndedAgent *ended, TimestampTz now, int *budget, SweepCounts *counts);

static int64
retention(void)
{
	return (int64) coord_agent_retention * USECS_PER_SEC;
}

/* Begin a round anew: there is another transaction, or a batch was undone. */
void
coord_expire_agents_anew(void)
{
	round_of.n = 0;
	round_of.last = (EndedAgent) {.ended_at = DT_NOBEGIN};
}

/* A job: retire and delete agents whose time is over. */
SweepOutcome
coord_expire_agents(SweepCounts *counts)
{
	TimestampTz now = coord_now();
	int			budget = AGENT_BATCH;

	if (round_of.n == 0 && !begin_walk(now))
	{
		if (round_of.last.ended_at != DT_NOBEGIN)
			pause_from = now;
		coord_expire_agents_anew();
		return SWEEP_SOME;
	}
	if (!round_of.walked)
		round_of.walked = !walk_leases();
	if (!round_of.walked)
		return SWEEP_MORE;

	while (round_of.next < round_of.n && budget > 0)
		look_at(&round_of.agents[round_of.next++], now, &budget, counts);
	if (round_of.next == round_of.n)
	{
		round_of.last = round_of.agents[round_of.n - 1];
		round_of.n = 0;
	}
	return SWEEP_MORE;
}

/* The same, all that is due, in the caller's transaction. */
void
coord_expire_agents_now(SweepCounts *counts)
{
	SweepOutcome outcome;

	coord_expire_agents_anew();
	do
	{
		StoreScope	scope;

		CHECK_FOR_INTERRUPTS();
		store_open(&scope);
		outcome = coord_expire_agents(counts);
		store_close(&scope);
	} while (outcome == SWEEP_MORE);
}

/* When the next round is due. */
TimestampTz
coord_expiry_of_agents_due(void)
{
	TimestampTz first = store_agents_first_ended();
	int64		pause = Min(retention() / 8, ROUND_PAUSE);
	TimestampTz now = coord_now();

	if (first == DT_NOEND)
		return DT_NOEND;
	/* a clock that is set back makes no pause longer */
	return Max(first + retention(), pause_from <= now ? pause_from + pause : now + pause);
}

/*
 * An agent's end is seen only now.  When that is so long ago that it would be retired at
 * once, nobody has swept for as long, or the machine was asleep, or the clock was set
 * forward, and then it is perhaps as alive as it was: it may come back until the instant
 * that is returned.  Else DT_NOEND.
 */
TimestampTz
coord_agent_may_return_until(TimestampTz ended_at, TimestampTz now)
{
	return ended_at + retention() <= now ? now + Min(retention(), GRACE) : DT_NOEND;
}

/* Take the next agents whose time is over; false when there are none. */
static bool
begin_walk(TimestampTz now)
{
	round_of.n = store_agents_ended(now - retention(), &round_of.last, round_of.agents, WALK_AGENTS);
	for (int i = 0; i < round_of.n; i++)
		round_of.ids[i] = round_of.agents[i].id;
	round_of.cursor = (LeaseCursor) {DT_NOBEGIN, 0, 0};
	round_of.walked = false;
	round_of.next = 0;
	return round_of.n > 0;
}

/* Find out which of them hold leases, a batch at a time; false when those were the last. */
static bool
walk_leases(void)
{
	UuidList	agents = {round_of.n, round_of.ids};
	UuidList	holders;
	bool		more = store_leases_holders(&agents, &round_of.cursor, WALK_BATCH, &holders);

	for (int i = 0; i < holders.n; i++)
	{
		for (int j = 0; j < round_of.n; j++)
			round_of.agents[j].stays |= coord_uuid_equal(&round_of.ids[j], &holders.ids[i]);
	}
	return more;
}

/* Retire or delete an agent, if nothing keeps it. */
static void
look_at(const EndedAgent *ended, TimestampTz now, int *budget, SweepCounts *counts)
{
	AgentRow   *agent;

	CHECK_FOR_INTERRUPTS();
	coord_sweeping(&ended->id);
	*budget -= 1;
	if (ended->stays)
		return;
	agent = store_agent_ended(ended);
	if (agent == NULL || store_claims_of(&agent->id, 1).n > 0)
		return;
	if (agent->retired_at == DT_NOEND)
	{
		store_agent_set_retired(agent, now);
		counts->agents_retired++;
	}
	else if (!store_log_has_events_to(&agent->id) && store_agent_lock_belongings(&agent->id))
	{
		*budget -= store_agent_delete_belongings(&agent->id);
		store_agent_delete(&agent->id);
		counts->agents_deleted++;
	}
}
