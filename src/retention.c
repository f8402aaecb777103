/*
 * retention.c
 *		Dropping what is older than it is to be kept: finished tasks and events.
 *
 * The worker, or sweep() without one, empties the partitions whose time is over; so does
 * purge(), which can also be told to keep less.  Agents, which are rows of their own, are
 * in agent_retention.c; purge() does what is due of them, too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "args.h"
#include "clock.h"
#include "locks.h"
#include "retention.h"
#include "store/event_log_store.h"
#include "store/finished_store.h"

PG_FUNCTION_INFO_V1(coord_purge);

/* purge(older_than) */
Datum
coord_purge(PG_FUNCTION_ARGS)
{
	int64		older_than = coord_arg_duration(fcinfo, 0, "older_than", -1);
	TimestampTz now = coord_now();
	TimestampTz before = older_than < 0 ? DT_NOBEGIN : now - older_than;
	RetentionCounts tasks = {0};
	RetentionCounts events = {0};
	SweepCounts counts = {0};
	StoreScope	scope;

	PreventCommandDuringRecovery("purge");
	PreventCommandIfReadOnly("purge");
	coord_expire_agents_now(&counts);
	store_open(&scope);
	coord_lock_upkeep();
	if (older_than >= 0)
	{
		store_finished_delete(before, &tasks);
		store_log_delete(before, &events);
	}
	/* last, as it keeps readers waiting until the transaction's end; of events, only those of what is not too old */
	store_finished_keep(now, before, &tasks);
	events.emptied = store_log_expire(now, IsTransactionBlock() ? DT_NOBEGIN : before);
	store_close(&scope);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf(
		"{\"tasks_deleted\": " INT64_FORMAT ", \"task_partitions_emptied\": " INT64_FORMAT
		", \"events_deleted\": " INT64_FORMAT ", \"event_partitions_emptied\": " INT64_FORMAT
		", \"agents_retired\": " INT64_FORMAT ", \"agents_deleted\": " INT64_FORMAT "}",
		tasks.deleted, tasks.emptied, events.deleted, events.emptied, counts.agents_retired, counts.agents_deleted)));
}

/* A job: drop the events that are older than coord.event_retention. */
SweepOutcome
coord_expire_events(SweepCounts *counts pg_attribute_unused())
{
	if (!coord_try_lock_delivery())
		return SWEEP_LOCKED;
	return store_log_expire(coord_now(), DT_NOBEGIN) > 0 ? SWEEP_SOME : SWEEP_IDLE;
}

/* A job: drop the finished tasks that are older than their queues' retention. */
SweepOutcome
coord_expire_tasks(SweepCounts *counts pg_attribute_unused())
{
	RetentionCounts done = {0};

	if (!coord_try_lock_retention())
		return SWEEP_LOCKED;
	store_finished_keep(coord_now(), DT_NOBEGIN, &done);
	return SWEEP_SOME;
}
