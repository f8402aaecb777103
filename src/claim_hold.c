/*
 * claim_hold.c
 *		What the holder of a claim does, and what becomes of a claim that runs out.
 *
 * A claim is in its task's row, with a fencing token of its own.  It runs out
 * when its lease expires or its agent ends, whichever comes first, and from that
 * instant its token is refused, whether or not anybody has written so.  Whoever
 * meets it first (the sweep, or a claimant) gives the task back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "agent.h"
#include "args.h"
#include "backoff.h"
#include "claim.h"
#include "clock.h"
#include "dependency.h"
#include "errors.h"
#include "lease.h"
#include "rights.h"
#include "store/deadline_store.h"
#include "store/event_store.h"
#include "store/queue_store.h"
#include "task.h"
#include "uuid7.h"
#include "worker/shared.h"
#include "worker/sweep.h"
#include "worker/wakeup.h"

PG_FUNCTION_INFO_V1(coord_task_renew);
PG_FUNCTION_INFO_V1(coord_task_complete);
PG_FUNCTION_INFO_V1(coord_task_complete_many);
PG_FUNCTION_INFO_V1(coord_task_fail);
PG_FUNCTION_INFO_V1(coord_task_release);

static bool renew(TaskRow *task, TimestampTz expires_at, Jsonb *progress);
static Datum complete(const pg_uuid_t *id, int64 token, Jsonb *result);
static bool completed_before(const pg_uuid_t *id, int64 token);
static AgentRow *check_holder(const TaskRow *task, const pg_uuid_t *id, int64 token, TimestampTz now);
static TaskRow *held_task(const pg_uuid_t *id, int64 token, bool to_finish, TimestampTz *now);
static TimestampTz ran_out_at(const TaskRow *task, const AgentRow *agent, TimestampTz now, bool *agent_ended);
static void lose(TaskRow *task, TimestampTz since, bool agent_ended, TimestampTz now);
static void bury(TaskRow *task, const char *error, TimestampTz at, TimestampTz now);

/* task_renew(task_id, fencing_token, lease_ttl, progress) */
Datum
coord_task_renew(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	int64		token = coord_arg_int64(fcinfo, 1, "fencing_token");
	int64		ttl = coord_arg_ttl(fcinfo, 2, "lease_ttl", -1);
	Jsonb	   *progress = coord_arg_payload_or_null(fcinfo, 3, "progress");
	StoreScope	scope;
	TaskRow    *task;
	AgentRow   *agent;
	LeaseRow   *lease = NULL;
	TimestampTz now;

	store_open(&scope);
	now = coord_now();
	task = store_task(id, STORE_NO_LOCK);
	agent = check_holder(task, id, token, now);
	while (!renew(task, now + (ttl < 0 ? task->lease_ttl : ttl), progress))
	{
		task = held_task(id, token, false, &now);
		agent = store_agent(task->agent_id, STORE_NO_LOCK);
	}
	store_agent_beat_unless_locked(agent, now);

	if (task->lease_id != NULL)
		lease = coord_lease_by_id(task->lease_id, STORE_LOCK_WAIT);
	if (lease != NULL && lease->ended_at == DT_NOEND)
	{
		/* a lease that the agent had before must last as long as the claim */
		if (lease->fencing_token == token || lease->expires_at < task->lease_expires_at)
			(void) coord_lease_extend(lease, task->lease_expires_at, now);
	}
	PG_RETURN_DATUM(store_close_with(&scope, store_task_as_result(task)));
}

/*
 * Write a claim's new end; false when its row has changed since it was read.  One that
 * is in a batch is looked at with that in time, unless the new end is an earlier one.
 */
static bool
renew(TaskRow *task, TimestampTz expires_at, Jsonb *progress)
{
	bool		stays_in_batch = task->check_at == DT_NOEND && expires_at >= task->lease_expires_at;
	TimestampTz check_at = stays_in_batch ? DT_NOEND : Min(task->check_at, expires_at);

	task->lease_expires_at = expires_at;
	return store_claim_renew(task, progress, check_at) == STORE_ROW_LOCKED;
}

/* task_complete(task_id, fencing_token, result) */
Datum
coord_task_complete(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	int64		token = coord_arg_int64(fcinfo, 1, "fencing_token");
	Jsonb	   *result = coord_arg_payload_or_null(fcinfo, 2, "result");
	StoreScope	scope;
	Datum		completed;

	store_open(&scope);
	completed = complete(id, token, result);
	PG_RETURN_DATUM(store_close_with(&scope, completed));
}

static int
compare_completions(const void *a, const void *b, void *completions)
{
	const TaskCompletion *all = completions;

	return memcmp(&all[*(const int *) a].id, &all[*(const int *) b].id, sizeof(pg_uuid_t));
}

/*
 * task_complete_many(tasks)
 *
 * In the order of ids, so that two of these that share tasks do not wait for each other.
 */
Datum
coord_task_complete_many(PG_FUNCTION_ARGS)
{
	StoreScope	scope;
	TaskCompletion *completions;
	OrderedRows *completed;
	int		   *order;
	int			n;
	MemoryContext per_task;
	MemoryContext outer;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 coord_errargument("tasks"),
				 errmsg("argument \"tasks\" must not be null")));
	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	completions = coord_task_completions(PG_GETARG_JSONB_P(0), &n);
	order = palloc_extended(sizeof(int) * Max(n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
		order[i] = i;
	qsort_arg(order, n, sizeof(int), compare_completions, completions);

	completed = store_order_rows();
	per_task = AllocSetContextCreate(CurrentMemoryContext, "coord completion", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(per_task);
	for (int i = 0; i < n; i++)
	{
		const TaskCompletion *completion = &completions[order[i]];

		CHECK_FOR_INTERRUPTS();
		store_order_row(completed, order[i], complete(&completion->id, completion->token, completion->result));
		MemoryContextSwitchTo(per_task);	/* which SPI may have left */
		MemoryContextReset(per_task);
	}
	MemoryContextSwitchTo(outer);
	store_add_ordered(fcinfo, completed);
	store_close(&scope);
	return (Datum) 0;
}

/* Complete a task that the token holds; one that was completed with it already stays as it is. */
static Datum
complete(const pg_uuid_t *id, int64 token, Jsonb *result)
{
	TimestampTz now = coord_now();
	TaskRow    *task = store_task(id, STORE_NO_LOCK);
	Datum		completed;

	if (task == NULL && completed_before(id, token))
		return store_task_result(id);
	(void) check_holder(task, id, token, now);
	while (store_task_take_out(task) != STORE_ROW_LOCKED)
	{
		/* another connection may have just completed it */
		if (completed_before(id, token) || (task = held_task(id, token, true, &now)) == NULL)
			return store_task_result(id);
	}
	coord_claim_end(task, now);
	completed = store_task_complete(task, result, now);
	coord_dependency_completed(id);
	return completed;
}

/* task_fail(task_id, fencing_token, error, retry_in) */
Datum
coord_task_fail(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	int64		token = coord_arg_int64(fcinfo, 1, "fencing_token");
	char	   *error = coord_arg_text_or_null(fcinfo, 2, "error");
	int64		retry_in = coord_arg_duration(fcinfo, 3, "retry_in", -1);
	StoreScope	scope;
	TaskRow    *task;
	TimestampTz now;

	store_open(&scope);
	task = held_task(id, token, true, &now);
	if (task == NULL)
		coord_error_stale_token(id, token, "completed");
	coord_claim_end(task, now);
	if (error == NULL)
		error = "failed";
	if (task->attempts < task->max_attempts)
	{
		if (retry_in < 0)
			retry_in = coord_backoff_usec(store_queue(task->queue), task->attempts, id);
		store_task_unclaim(task, now + retry_in, task->attempts, error);
	}
	else
		bury(task, error, now, now);
	PG_RETURN_DATUM(store_close_with(&scope, store_task_result(id)));
}

/* task_release(task_id, fencing_token) */
Datum
coord_task_release(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	int64		token = coord_arg_int64(fcinfo, 1, "fencing_token");
	StoreScope	scope;
	TaskRow    *task;
	TimestampTz now;

	store_open(&scope);
	task = held_task(id, token, false, &now);
	coord_claim_end(task, now);
	store_task_unclaim(task, task->run_at, task->attempts - 1, NULL);
	PG_RETURN_DATUM(store_close_with(&scope, store_task_result(id)));
}

/* When a claim that holds must be looked at again: the worker sees an agent's end by itself. */
static TimestampTz
next_look_at(const TaskRow *task)
{
	AgentRow   *agent = coord_worker_runs() ? NULL : store_agent(task->agent_id, STORE_NO_LOCK);

	return agent != NULL ? coord_earlier(task->lease_expires_at, coord_agent_ends_at(agent)) : task->lease_expires_at;
}

/*
 * The sweep's look at a claim: give its task back if it has run out, and else,
 * if that was due, look again when it may have.  One that is locked by
 * another transaction is left alone.
 */
ClaimOutcome
coord_claim_look(const pg_uuid_t *task_id, TimestampTz now)
{
	TaskRow    *task = store_task(task_id, STORE_LOCK_SKIP);

	if (task == NULL)
		return store_task(task_id, STORE_NO_LOCK) != NULL ? CLAIM_LOCKED : CLAIM_HOLDS;
	if (coord_claim_settle(task, now))
		return CLAIM_LOST;
	if (coord_is_claimed(task) && (task->check_at <= now || task->check_at == DT_NOEND))
		store_deadline_of_claim(task, next_look_at(task));
	return CLAIM_HOLDS;
}

/* Give a locked task back if its claim has run out; true when it had. */
bool
coord_claim_settle(TaskRow *task, TimestampTz now)
{
	bool		agent_ended;
	TimestampTz since;

	if (!coord_is_claimed(task))
		return false;
	since = ran_out_at(task, store_agent(task->agent_id, STORE_NO_LOCK), now, &agent_ended);
	if (since == DT_NOEND)
		return false;
	lose(task, since, agent_ended, now);
	return true;
}

/*
 * Take the claim's belongings away: its deadline, its queue slot, and the lease
 * that was taken with it.  The task's row is for the caller to write.  False when the
 * lease is locked and not waited for: it is the agent's then, see serves_claim() in lease.c.
 */
static bool
take_away(TaskRow *task, StoreLock lease_lock, TimestampTz now)
{
	LeaseRow   *lease;

	store_deadline_delete(task);
	if (task->queue_slot >= 0)
		store_slot_free(task->queue, task->queue_slot);
	if (task->queue_slot >= 0 || task->claimed_key != NULL)
		coord_queue_ready(task->queue, now);	/* another one may be claimed instead */
	if (task->lease_id == NULL)
		return true;
	lease = coord_lease_by_id(task->lease_id, lease_lock);
	if (lease == NULL)
		return false;
	if (lease->ended_at != DT_NOEND || lease->task_id == NULL || !coord_uuid_equal(lease->task_id, &task->id))
		return true;
	if (lease->fencing_token == task->fencing_token)
		(void) coord_lease_end(lease, now);
	else
	{
		/* the agent had it before, and keeps it */
		lease->task_id = NULL;
		(void) store_lease_update(lease);
		store_announce_waiting(lease->resource_key);	/* it may claim the next one with it */
	}
	return true;
}

/* The same for who ends a claim of its own, and waits for the lease; nothing, if the task is not claimed. */
void
coord_claim_end(TaskRow *task, TimestampTz now)
{
	if (coord_is_claimed(task))
		(void) take_away(task, STORE_LOCK_WAIT, now);
}

/*
 * Give back what an agent that has ended had claimed, but no more than "max" tasks.
 * Returns how many, and in *all whether that was all.
 */
int
coord_claims_lose_of(const pg_uuid_t *agent_id, int max, TimestampTz now, bool *all)
{
	UuidList	claims = store_claims_of(agent_id, max);
	int			lost = 0;

	*all = claims.n < max;
	for (int i = 0; i < claims.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		coord_sweeping(&claims.ids[i]);
		switch (coord_claim_look(&claims.ids[i], now))
		{
			case CLAIM_LOST:
				lost++;
				break;
			case CLAIM_LOCKED:
				*all = false;
				break;
			case CLAIM_HOLDS:
				break;
		}
	}
	return lost;
}

/*
 * Give back what an agent that retires has claimed, the attempts not counted.  A claim that
 * the transaction's snapshot does not show cannot be given back by it.
 */
void
coord_claims_give_back(const pg_uuid_t *agent_id, TimestampTz now)
{
	UuidList	claims = store_claims_of_now(agent_id, PG_INT32_MAX);

	for (int i = 0; i < claims.n; i++)
	{
		TaskRow    *task = store_task(&claims.ids[i], STORE_NO_LOCK);
		bool		agent_ended;

		if (IsolationUsesXactSnapshot() &&
			(task == NULL || !coord_is_claimed(task) || !coord_uuid_equal(task->agent_id, agent_id)))
			coord_error_serialization();
		/* one that has run out is not the agent's, so it is not waited for */
		if (task == NULL || !coord_is_claimed(task) ||
			ran_out_at(task, store_agent(agent_id, STORE_NO_LOCK), now, &agent_ended) != DT_NOEND)
		{
			(void) coord_claim_look(&claims.ids[i], now);
			continue;
		}
		task = store_task(&claims.ids[i], STORE_LOCK_WAIT);
		if (task == NULL || !coord_is_claimed(task) || !coord_uuid_equal(task->agent_id, agent_id) ||
			coord_claim_settle(task, now))
			continue;
		coord_claim_end(task, now);
		store_task_unclaim(task, task->run_at, task->attempts - 1, NULL);
	}
}

/* Whether an agent of the caller's holds the task with the token by what was committed since the snapshot. */
static bool
holds_since_snapshot(const pg_uuid_t *id, int64 token, TimestampTz now)
{
	const pg_uuid_t *agent_id = IsolationUsesXactSnapshot() ? store_claimant_now(id, token, now) : NULL;
	AgentRow   *agent = agent_id != NULL ? store_agent_now(agent_id) : NULL;

	return agent != NULL && coord_owns_agent(agent) && coord_agent_ends_at(agent) > now;
}

/* The error that the token does not hold the task; who may not see the task is told nothing of it. */
pg_noreturn static void
refuse_token(const TaskRow *task, const pg_uuid_t *id, int64 token, TimestampTz now)
{
	const char *queue = task != NULL ? task->queue : store_task_queue(id);
	const char *state = task == NULL ? store_task_state(id) :
		coord_is_claimed(task) ? "claimed with another token" : task->state;

	if (holds_since_snapshot(id, token, now))
		coord_error_serialization();
	if (queue == NULL || state == NULL || !coord_sees_queue(store_caller(), queue))
		coord_error_no_task(id);
	coord_error_stale_token(id, token, state);
}

/*
 * Whether a task was completed with that token before, by an agent of the caller's, or one
 * that is gone and the caller may claim from the task's queue.
 */
static bool
completed_before(const pg_uuid_t *id, int64 token)
{
	char	   *queue;
	pg_uuid_t  *agent_id;
	AgentRow   *agent;

	if (!store_task_completed_with(id, token, &queue, &agent_id))
		return false;
	agent = agent_id != NULL ? store_agent(agent_id, STORE_NO_LOCK) : NULL;
	if (agent != NULL ? !coord_owns_agent(agent) : !coord_may(store_caller(), queue, COORD_CLAIM))
		refuse_token(NULL, id, token, coord_now());
	return true;
}

/* Error unless the token holds the task now, and the claim is the caller's.  Returns its agent. */
static AgentRow *
check_holder(const TaskRow *task, const pg_uuid_t *id, int64 token, TimestampTz now)
{
	AgentRow   *agent;
	TimestampTz since;
	bool		agent_ended;

	if (task == NULL || !coord_is_claimed(task) || task->fencing_token != token)
		refuse_token(task, id, token, now);
	agent = coord_owned_agent(task->agent_id);
	since = ran_out_at(task, agent, now, &agent_ended);
	if (since != DT_NOEND && holds_since_snapshot(id, token, now))
		coord_error_serialization();
	if (since != DT_NOEND)
		coord_error_claim_ran_out(id, since, agent_ended);
	return agent;
}

/*
 * The locked task that the token holds now, or the error that says why not.
 * Only who holds it waits for the lock.  NULL when the task was to be finished and
 * was completed with that token meanwhile.
 */
static TaskRow *
held_task(const pg_uuid_t *id, int64 token, bool to_finish, TimestampTz *now)
{
	TaskRow    *task;

	(void) check_holder(store_task(id, STORE_NO_LOCK), id, token, coord_now());
	task = to_finish ? store_task_to_finish(id, STORE_LOCK_WAIT) : store_task(id, STORE_LOCK_WAIT);
	*now = coord_now();
	if (task == NULL && to_finish && completed_before(id, token))
		return NULL;
	(void) check_holder(task, id, token, *now);
	return task;
}

/* Since when a claim, of that agent if it is there still, has run out; DT_NOEND while it holds. */
static TimestampTz
ran_out_at(const TaskRow *task, const AgentRow *agent, TimestampTz now, bool *agent_ended)
{
	TimestampTz agent_end = agent != NULL ? coord_agent_ends_at(agent) : DT_NOEND;
	TimestampTz since = Min(task->lease_expires_at, agent_end);

	*agent_ended = agent_end < task->lease_expires_at;
	return since <= now ? since : DT_NOEND;
}

/*
 * Give back a locked task whose claim has run out.  What is written here is what
 * coord.task has shown since the instant "since".
 */
static void
lose(TaskRow *task, TimestampTz since, bool agent_ended, TimestampTz now)
{
	const char *error = agent_ended ? "agent inactive" : "lease expired";
	bool		took_lease = take_away(task, STORE_LOCK_SKIP, now);

	if (task->attempts < task->max_attempts)
	{
		TimestampTz run_at = since + coord_backoff_usec(store_queue(task->queue), task->attempts, &task->id);

		store_event_task_requeued(task, agent_ended ? "agent_inactive" : "lease_expired", run_at, now);
		store_task_unclaim(task, run_at, task->attempts, error);
	}
	else
		bury(task, error, since, now);
	if (!took_lease)
		store_announce_waiting(task->claimed_key);	/* the agent may claim the next one with it */
}

/* Make a locked task, whose claim was ended, a dead letter. */
static void
bury(TaskRow *task, const char *error, TimestampTz at, TimestampTz now)
{
	store_task_bury(task, error, at);
	store_event_task_dead(task, error, now);
	coord_dependency_failed(&task->id, "dead", now);
}
