/*
 * sweep.c
 *		One round of upkeep, by the worker or by hand.
 *
 * A batch looks at what has come due, in the order agents, leases, claims, and
 * then at the dependencies that have a check.  Rows that another transaction
 * has locked are passed over and stay due.  Any number of sweeps at once is
 * harmless: each row is dealt with by whoever locks it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "agent.h"
#include "claim.h"
#include "clock.h"
#include "dependency.h"
#include "event.h"
#include "lease.h"
#include "store/store.h"
#include "worker/sweep.h"
#include "worker/wakeup.h"

#define AGENT_BATCH 100
#define LEASE_BATCH 1000
#define CLAIM_BATCH 1000
#define CHECK_BATCH 1000
#define EVENT_BATCH 1000

PG_FUNCTION_INFO_V1(coord_sweep);

static int	sweep_agents(SweepCounts *counts, TimestampTz now);
static int	sweep_leases(SweepCounts *counts, TimestampTz now);
static int	sweep_claims(SweepCounts *counts, TimestampTz now);
static int	sweep_checks(TimestampTz now);

/* sweep(): all that is due, in the caller's transaction */
Datum
coord_sweep(PG_FUNCTION_ARGS pg_attribute_unused())
{
	SweepCounts counts = {0};
	StoreScope	scope;
	SweepOutcome outcome;
	char	   *json;

	do
	{
		CHECK_FOR_INTERRUPTS();
		store_open(&scope);
		outcome = coord_sweep_batch(&counts);
		store_close(&scope);
	} while (outcome == SWEEP_MORE);
	do
	{
		CHECK_FOR_INTERRUPTS();
		store_open(&scope);
		outcome = coord_deliver_batch(&counts);
		store_close(&scope);
	} while (outcome == SWEEP_MORE);

	json = psprintf("{\"leases_expired\": " INT64_FORMAT ", \"agents_expired\": " INT64_FORMAT
					", \"tasks_requeued\": " INT64_FORMAT ", \"leases_renewed\": " INT64_FORMAT
					", \"events_delivered\": " INT64_FORMAT "}",
					counts.leases_expired, counts.agents_expired, counts.tasks_requeued,
					counts.leases_renewed, counts.events_delivered);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/* One batch in the current transaction. */
SweepOutcome
coord_sweep_batch(SweepCounts *counts)
{
	TimestampTz now = coord_now();
	int			agents = sweep_agents(counts, now);
	int			leases = sweep_leases(counts, now);
	int			claims = sweep_claims(counts, now);
	int			checks = sweep_checks(now);

	if (agents == AGENT_BATCH || leases == LEASE_BATCH || claims == CLAIM_BATCH || checks == CHECK_BATCH)
		return SWEEP_MORE;
	return agents + leases + claims + checks > 0 ? SWEEP_SOME : SWEEP_IDLE;
}

/* Deliver a batch of events; SWEEP_LOCKED when another transaction is delivering. */
SweepOutcome
coord_deliver_batch(SweepCounts *counts)
{
	int			n = coord_events_deliver(EVENT_BATCH);

	if (n < 0)
		return SWEEP_LOCKED;
	counts->events_delivered += n;
	return n == EVENT_BATCH ? SWEEP_MORE : n > 0 ? SWEEP_SOME : SWEEP_IDLE;
}

void
coord_sweep_counts_add(SweepCounts *to, const SweepCounts *from)
{
	to->leases_expired += from->leases_expired;
	to->agents_expired += from->agents_expired;
	to->tasks_requeued += from->tasks_requeued;
	to->leases_renewed += from->leases_renewed;
	to->events_delivered += from->events_delivered;
	to->lag_max = Max(to->lag_max, from->lag_max);
}

static void
note_lag(SweepCounts *counts, TimestampTz due, TimestampTz now)
{
	counts->lag_max = Max(counts->lag_max, now - due);
}

static int
sweep_agents(SweepCounts *counts, TimestampTz now)
{
	int			n;
	AgentRow  **due = store_agents_due(now, AGENT_BATCH, &n);
	AgentRow  **lapsed = palloc(sizeof(AgentRow *) * Max(n, 1));
	int			nlapsed = 0;

	for (int i = 0; i < n; i++)
	{
		TimestampTz ends_at = coord_agent_ends_at(due[i]);

		if (ends_at > now)
			store_agent_set_check_at(due[i], ends_at);
		else
		{
			note_lag(counts, ends_at, now);
			lapsed[nlapsed++] = due[i];
		}
	}
	if (nlapsed > 0)
		counts->tasks_requeued += coord_agents_lapse(lapsed, nlapsed, now);
	counts->agents_expired += nlapsed;
	return n;
}

static int
sweep_leases(SweepCounts *counts, TimestampTz now)
{
	int			n;
	LeaseRow  **due = store_leases_due(now, LEASE_BATCH, &n);

	for (int i = 0; i < n; i++)
	{
		TimestampTz expires_at = due[i]->expires_at;
		bool		renewed;

		CHECK_FOR_INTERRUPTS();
		if (coord_lease_look(due[i], now, &renewed))
		{
			note_lag(counts, expires_at, now);
			counts->leases_expired++;
		}
		else if (renewed)
			counts->leases_renewed++;
	}
	return n;
}

static int
sweep_claims(SweepCounts *counts, TimestampTz now)
{
	UuidList	due = store_claims_due(NULL, now, CLAIM_BATCH);

	for (int i = 0; i < due.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (coord_claim_look(&due.ids[i], now))
			counts->tasks_requeued++;
	}
	return due.n;
}

/*
 * The checks that cannot be decided yet are kept, and the next batch goes on after
 * them.  Whoever finishes a task from the first look on wakes the worker.
 */
static int
sweep_checks(TimestampTz now)
{
	static pg_uuid_t after;		/* zero: from the first */
	UuidList	checks = store_checks(&after, CHECK_BATCH);
	int			n = 0;

	if (checks.n > 0)
		coord_keep_checks(true);
	for (int i = 0; i < checks.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (coord_dependencies_look(&checks.ids[i], now))
		{
			store_check_done(&checks.ids[i]);
			n++;
		}
	}

	if (checks.n == CHECK_BATCH)
	{
		after = checks.ids[checks.n - 1];
		return CHECK_BATCH;
	}
	memset(&after, 0, sizeof(after));
	if (store_checks(&after, 1).n == 0)
		coord_keep_checks(false);
	return n;
}
