/*
 * sweep.c
 *		Upkeep in batches, by the worker or by hand (by_hand.c).
 *
 * A batch looks at what has come due of one kind: agents, leases, claims, or
 * dependencies that have a check.  Rows that another transaction has locked are
 * passed over and stay due.  Any number of sweeps at once get on with each other: each
 * row is dealt with by whoever locks it.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "agent.h"
#include "attachment.h"
#include "claim.h"
#include "clock.h"
#include "dependency.h"
#include "retention.h"
#include "store/deadline_store.h"
#include "store/dependency_store.h"
#include "store/lease_store.h"
#include "store/store.h"
#include "uuid7.h"
#include "worker/sweep.h"
#include "worker/wakeup.h"
#include "worker/worker.h"

/* so much is done in a transaction; of agents, so many with all that they held */
#define AGENT_BATCH 100
#define FREED_BATCH 1000
#define LEASE_BATCH 1000
#define CLAIM_BATCH 500
#define CLAIM_BATCH_TIME (200 * INT64CONST(1000))	/* and no more than that takes: a dead letter may be large */
#define CLAIMANT_BATCH 1000		/* agents that are read */
#define RELEASE_BATCH 5000		/* leases that are read */
#define CHECK_BATCH 1000
#define LOOKED_AT_BATCH 2000	/* dependencies, of which a task may have thousands */

static pg_uuid_t swept_last;	/* zero: nothing in particular */

static const pg_uuid_t nothing; /* zero */

/* a pass over the attachments that have ended */
static struct
{
	int			place;			/* of the next ones; 0: all were looked at */
	bool		passed_over;	/* some that are locked */
	bool		again;			/* some agents were ended, if that is not undone: another pass settles them */
}			attachments_pass;

static pg_uuid_t checked_last;	/* in the round of checks that goes on; zero: it has yet to begin */

/* the same, of tasks whose dependants were put off */
static struct
{
	pg_uuid_t	last;
	bool		passed_over;	/* some, in this round */
	bool		done;
}			dependants_round;

/* a walk over all agents that have claims, by id */
static struct
{
	pg_uuid_t	after;			/* zero: it has yet to begin */
	bool		passed_over;	/* something */
}			orphans_walk;

/* a walk over all leases that are held, by deadline, for those of some agents */
static struct
{
	pg_uuid_t	ids[AGENT_BATCH];
	UuidList	agents;			/* none: it has yet to begin */
	LeaseCursor cursor;

	/* the round of walks for all such agents that there were when it began */
	bool		begun;
	int			left;			/* agents for other walks */
	pg_uuid_t	after;			/* the last agent of the walk before; zero: it began with the first */
	bool		passed_over;	/* something in the walks since then */
}			release_walk;

/* the same for those of agents that are retired */
static struct
{
	bool		begun;
	LeaseCursor cursor;
}			retired_walk;

static void end_agent(AgentRow *agent, TimestampTz now, int *budget, SweepCounts *counts);
static bool end_attached(const AttachmentRef *ref, TimestampTz now, int *budget, SweepCounts *counts);

static void
note_lag(SweepCounts *counts, TimestampTz due, TimestampTz now)
{
	counts->lag_max = Max(counts->lag_max, now - due);
}

static SweepOutcome
outcome_of(int done, bool locked, bool more)
{
	return more ? SWEEP_MORE : locked ? SWEEP_LOCKED : done > 0 ? SWEEP_SOME : SWEEP_IDLE;
}

/*
 * Agents: those that have lapsed end, and are freed of what they held; each one in
 * one transaction, unless it held more than a batch.  "also_unknown" asks for those
 * whose attachments are not known any more.
 */
SweepOutcome
coord_sweep_agents(SweepCounts *counts, bool also_unknown)
{
	AttachmentRef refs[AGENT_BATCH];
	int			nrefs = coord_is_worker() ? coord_attachments_ended(refs, AGENT_BATCH, &attachments_pass.place) : 0;
	TimestampTz now = coord_now();
	int			budget = FREED_BATCH;
	bool		more;
	int			done = 0;
	int			nlocked = 0;
	int			n;
	AgentRow  **due;

	for (int i = 0; i < nrefs; i++)
	{
		if (budget <= 0)
		{
			attachments_pass.place = coord_attachment_place(refs[i].id);
			break;
		}
		if (store_is_set_aside(&refs[i].agent_id))
			continue;
		if (end_attached(&refs[i], now, &budget, counts))
			attachments_pass.again = true;
		else
			attachments_pass.passed_over = true;
	}
	more = attachments_pass.place > 0;
	if (!more)
	{
		nlocked += attachments_pass.passed_over;
		if (attachments_pass.again)
			coord_due_at(JOB_AGENTS, COORD_DUE_NOW);
		memset(&attachments_pass, 0, sizeof(attachments_pass));
	}

	due = also_unknown ? store_agents_attached(&n) : NULL;
	for (int i = 0; due != NULL && i < n && budget > 0; i++)
	{
		AttachmentRef ref = {due[i]->attachment, due[i]->id};

		if (coord_agent_ends_at(due[i]) > now || store_is_set_aside(&due[i]->id))
			continue;
		if (end_attached(&ref, now, &budget, counts))
			done++;
		else
			nlocked++;
	}

	due = store_agents_due(now, AGENT_BATCH, &n);
	for (int i = 0; i < n && budget > 0; i++)
	{
		coord_sweeping(&due[i]->id);
		end_agent(due[i], now, &budget, counts);
		done++;
	}
	return outcome_of(done, nlocked > 0, more || budget <= 0 || n == AGENT_BATCH);
}

/* A batch was undone: what it has dealt with has its turn in another pass, after the others. */
void
coord_sweep_agents_anew(void)
{
	attachments_pass.again = true;
}

/* A locked agent that is due.  What of it is locked by others is left for later. */
static void
end_agent(AgentRow *agent, TimestampTz now, int *budget, SweepCounts *counts)
{
	TimestampTz ends_at = coord_agent_ends_at(agent);
	bool		ended = agent->inactive_since != DT_NOEND;
	int			n;

	if (ends_at > now)
	{
		store_agent_set_check_at(agent, ends_at);
		return;
	}
	n = coord_agent_lapse(agent, now, *budget);
	*budget -= 1 + n;
	counts->tasks_requeued += n;
	if (!ended)
	{
		TimestampTz may_return_until = coord_agent_may_return_until(ends_at, now);

		/* looked at again only then, so it is not retired before; leases of an attached one are still to be released */
		if (agent->check_at == DT_NOEND && agent->attachment == 0 && may_return_until != DT_NOEND)
			store_agent_set_check_at(agent, may_return_until);
		note_lag(counts, ends_at, now);
		counts->agents_expired++;
	}
}

/* An agent whose attachment has ended.  False when it is locked by others. */
static bool
end_attached(const AttachmentRef *ref, TimestampTz now, int *budget, SweepCounts *counts)
{
	AgentRow   *agent;

	coord_sweeping(&ref->agent_id);
	agent = store_agent(&ref->agent_id, STORE_LOCK_SKIP);
	if (agent == NULL && store_agent(&ref->agent_id, STORE_NO_LOCK) != NULL)
		return false;			/* it is locked */

	/*
	 * What this transaction does may be undone, so an attachment is settled when
	 * the worker sees that the agent does not have it any more, or has ended; its row
	 * says then when to come back, if anything was left.
	 */
	if (agent == NULL || agent->attachment != ref->id || agent->inactive_since != DT_NOEND)
	{
		if (coord_is_worker())
			coord_attachment_settled(ref->id);
		return true;
	}
	end_agent(agent, now, budget, counts);
	return true;
}

/*
 * Leases: they expire, or are renewed.  "one_by_one" to know which one it was, in
 * case of an error.
 */
SweepOutcome
coord_sweep_leases(SweepCounts *counts, bool one_by_one)
{
	TimestampTz now = coord_now();
	int			limit = one_by_one ? 1 : LEASE_BATCH;
	LeaseLook	look;

	coord_sweeping(one_by_one ? store_lease_due_first(now) : NULL);
	look = store_leases_look(now, limit);
	if (look.ended > 0)
		note_lag(counts, look.first_ended_at, now);
	counts->leases_renewed += look.renewed;
	counts->leases_expired += look.ended;
	return outcome_of(look.n, false, look.n == limit);
}

/* Returns how many were not locked, and cuts the list off where there is no time for more of it. */
static int
look_at_claims(UuidList *claims, TimestampTz now, SweepCounts *counts)
{
	TimestampTz since = coord_now();	/* to find them may have taken longer than that */
	int			done = 0;

	for (int i = 0; i < claims->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (done > 0 && coord_is_worker() && coord_now() - since > CLAIM_BATCH_TIME)
		{
			claims->n = i;
			break;
		}
		coord_sweeping(&claims->ids[i]);
		switch (coord_claim_look(&claims->ids[i], now))
		{
			case CLAIM_LOST:
				counts->tasks_requeued++;
				done++;
				break;
			case CLAIM_HOLDS:
				done++;
				break;
			case CLAIM_LOCKED:
				break;
		}
	}
	return done;
}

/* Claims: those that have run out are given back. */
SweepOutcome
coord_sweep_claims(SweepCounts *counts)
{
	TimestampTz now = coord_now();
	UuidList	due = store_claims_due(NULL, now, CLAIM_BATCH, PG_INT32_MAX);
	int			found = due.n;
	int			done = look_at_claims(&due, now, counts);

	return outcome_of(done, false, found == CLAIM_BATCH || due.n < found);
}

/*
 * Claims that were committed after their agent had been freed of what it held.  No index finds
 * them, so all agents that have claims are walked over.  The worker comes back by itself to an
 * agent of which others have claims locked (coord_sweep_agents).
 */
SweepOutcome
coord_sweep_orphans(SweepCounts *counts)
{
	TimestampTz now = coord_now();
	TimestampTz comes_back_until = coord_is_worker() ? now + AGENT_LOCKED_RETRY_MAX : DT_NOBEGIN;
	pg_uuid_t	after = orphans_walk.after;
	bool		all;
	UuidList	agents = store_claimants_ended(&orphans_walk.after, CLAIMANT_BATCH, comes_back_until, &all);
	TimestampTz since = coord_now();
	int			done = 0;

	for (int i = 0; i < agents.n; i++)
	{
		UuidList	claims = store_claims_of(&agents.ids[i], CLAIM_BATCH);
		int			found = claims.n;
		int			n = look_at_claims(&claims, now, counts);

		done += n;
		orphans_walk.passed_over |= n < claims.n;
		if (n > 0 && (found == CLAIM_BATCH || claims.n < found))
		{
			orphans_walk.after = after; /* it has more of them */
			return SWEEP_MORE;
		}
		after = agents.ids[i];
		if (i < agents.n - 1 &&
			(done >= CLAIM_BATCH || (done > 0 && coord_is_worker() && coord_now() - since > CLAIM_BATCH_TIME)))
		{
			orphans_walk.after = after;
			return SWEEP_MORE;
		}
	}
	if (!all)
		return SWEEP_MORE;
	all = !orphans_walk.passed_over;
	coord_sweep_orphans_anew();
	return outcome_of(done, !all, false);
}

/* Begin the walk anew: it has come to its end, or a batch of it was undone. */
void
coord_sweep_orphans_anew(void)
{
	memset(&orphans_walk, 0, sizeof(orphans_walk));
}

/* There are no more agents, of this round, whose leases are to be released. */
static SweepOutcome
release_round_ends(void)
{
	bool		passed_over = release_walk.passed_over;

	coord_sweep_releases_anew();
	return passed_over ? SWEEP_LOCKED : SWEEP_IDLE;
}

/*
 * Leases of agents that were attached are released.  No index finds them, since each
 * grant would have to write it; so all leases are walked over, in batches between which
 * other jobs have their turn, and for all such agents at once.  Those that end meanwhile,
 * however many they are, do not keep a round from its end.
 */
SweepOutcome
coord_sweep_releases(SweepCounts *counts pg_attribute_unused())
{
	TimestampTz now = coord_now();
	bool		all;

	if (!release_walk.begun)
	{
		release_walk.begun = true;
		release_walk.left = store_agents_to_release(&nothing, PG_INT32_MAX).n;
	}
	if (release_walk.agents.n == 0)
	{
		UuidList	agents = store_agents_to_release(&release_walk.after, Min(AGENT_BATCH, release_walk.left));

		if (agents.n == 0)
			return release_round_ends();
		memcpy(release_walk.ids, agents.ids, sizeof(pg_uuid_t) * agents.n);
		release_walk.agents.ids = release_walk.ids;
		release_walk.agents.n = agents.n;
		release_walk.left -= agents.n;
		release_walk.cursor = (LeaseCursor) {DT_NOBEGIN, 0, 0};
	}
	if (store_leases_release(&release_walk.agents, &release_walk.cursor, RELEASE_BATCH, now))
		return SWEEP_MORE;
	all = release_walk.cursor.passed_over == 0 &&
		store_agents_released(&release_walk.agents) == release_walk.agents.n;
	release_walk.passed_over |= !all;
	release_walk.after = release_walk.ids[release_walk.agents.n - 1];
	release_walk.agents.n = 0;
	return SWEEP_MORE;
}

/* Begin the round anew: it has come to its end, or a batch of it was undone. */
void
coord_sweep_releases_anew(void)
{
	memset(&release_walk, 0, sizeof(release_walk));
}

/* Leases that were committed after their agent had been retired are released, in a walk over all. */
SweepOutcome
coord_sweep_retired(SweepCounts *counts pg_attribute_unused())
{
	if (!retired_walk.begun)
	{
		retired_walk.begun = true;
		retired_walk.cursor = (LeaseCursor) {DT_NOBEGIN, 0, 0};
	}
	if (store_leases_release(NULL, &retired_walk.cursor, RELEASE_BATCH, coord_now()))
		return SWEEP_MORE;
	retired_walk.begun = false;
	return outcome_of(0, retired_walk.cursor.passed_over > 0, false);
}

/* Begin that walk anew: a batch of it was undone. */
void
coord_sweep_retired_anew(void)
{
	retired_walk.begun = false;
}

/*
 * The checks that cannot be decided yet are kept, and the next batch goes on after
 * them.  Whoever finishes a task from the first look on wakes the worker.
 */
SweepOutcome
coord_sweep_checks(SweepCounts *counts pg_attribute_unused())
{
	TimestampTz now = coord_now();
	UuidList	checks = store_checks(&checked_last, CHECK_BATCH);
	int			looked_at = 0;
	int			done = 0;
	int			i;

	if (checks.n > 0)
		coord_keep_checks(true);
	for (i = 0; i < checks.n && looked_at < LOOKED_AT_BATCH; i++)
	{
		CHECK_FOR_INTERRUPTS();
		coord_sweeping(&checks.ids[i]);
		if (coord_dependencies_look(&checks.ids[i], now, &looked_at))
			done++;
	}

	if (i < checks.n || checks.n == CHECK_BATCH)
	{
		checked_last = checks.ids[i - 1];
		return SWEEP_MORE;
	}
	coord_sweep_checks_anew();
	if (store_checks(&checked_last, 1).n == 0)
		coord_keep_checks(false);
	return outcome_of(done, false, false);
}

/* Begin with the first one: the round has come to its end, or a batch of it was undone. */
void
coord_sweep_checks_anew(void)
{
	memset(&checked_last, 0, sizeof(checked_last));
}

/*
 * Dependants that were put off.  One task may have any number of them; it has its turn
 * with the others.
 */
SweepOutcome
coord_sweep_dependants(SweepCounts *counts pg_attribute_unused())
{
	TimestampTz now = coord_now();
	UuidList	finished = store_tasks_put_off(&dependants_round.last, CHECK_BATCH);
	bool		passed_over;
	bool		done;
	int			looked_at = 0;
	int			i;

	for (i = 0; i < finished.n && looked_at < LOOKED_AT_BATCH; i++)
	{
		int			n;

		CHECK_FOR_INTERRUPTS();
		coord_sweeping(&finished.ids[i]);
		n = coord_dependants_look(&finished.ids[i], LOOKED_AT_BATCH - looked_at, now);
		if (n < 0)
			dependants_round.passed_over = true;
		else
			dependants_round.done = true;
		looked_at += 1 + Max(n, 0);
		dependants_round.last = finished.ids[i];
	}
	if (i < finished.n || finished.n == CHECK_BATCH)
		return SWEEP_MORE;
	passed_over = dependants_round.passed_over;
	done = dependants_round.done;
	coord_sweep_dependants_anew();
	return outcome_of(0, passed_over, done);
}

/* Begin with the first one: the round has come to its end, or a batch of it was undone. */
void
coord_sweep_dependants_anew(void)
{
	memset(&dependants_round, 0, sizeof(dependants_round));
}

void
coord_sweep_counts_add(SweepCounts *to, const SweepCounts *from)
{
	to->leases_expired += from->leases_expired;
	to->agents_expired += from->agents_expired;
	to->tasks_requeued += from->tasks_requeued;
	to->leases_renewed += from->leases_renewed;
	to->events_delivered += from->events_delivered;
	to->agents_retired += from->agents_retired;
	to->agents_deleted += from->agents_deleted;
	to->lag_max = Max(to->lag_max, from->lag_max);
}

/* From now on it is this agent, lease or task that is looked at; NULL: none in particular. */
void
coord_sweeping(const pg_uuid_t *item)
{
	if (item != NULL)
		swept_last = *item;
	else
		memset(&swept_last, 0, sizeof(swept_last));
}

/* What was looked at last; NULL: nothing in particular. */
const pg_uuid_t *
coord_swept_last(void)
{
	return coord_uuid_equal(&swept_last, &nothing) ? NULL : &swept_last;
}
