/*
 * claim.c
 *		Claims: who works on a task, until when, and what becomes of it.
 *
 * A claim is in its task's row, with a fencing token of its own.  It runs out
 * when its lease expires or its agent ends, whichever comes first, and from that
 * instant its token is refused, whether or not anybody has written so.  Whoever
 * meets it first (the sweep, or a claimant) gives the task back.
 *
 * No task is claimed twice: a claim holds the lock on its task's row from the
 * look at its state to the end of the transaction, and all that change a claim
 * take that lock first.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "agent.h"
#include "args.h"
#include "backoff.h"
#include "claim.h"
#include "clock.h"
#include "dependency.h"
#include "errors.h"
#include "lease.h"
#include "sequence.h"
#include "store/event_store.h"
#include "store/queue_store.h"
#include "uuid7.h"
#include "worker/shared.h"

#define MAX_TASKS 10000

/* how many claims that have run out a claimant gives back, when it finds nothing */
#define HELP_BATCH 100

PG_FUNCTION_INFO_V1(coord_task_claim);
PG_FUNCTION_INFO_V1(coord_task_renew);
PG_FUNCTION_INFO_V1(coord_task_complete);
PG_FUNCTION_INFO_V1(coord_task_fail);
PG_FUNCTION_INFO_V1(coord_task_release);

/* what a claimant asks for */
typedef struct ClaimRequest
{
	AgentRow   *agent;
	char	   *resource_key;	/* NULL: the task's own, if it has one */
	int64		lease_ttl;		/* microseconds, -1: the queue's */
	int			max_tasks;
} ClaimRequest;

typedef enum TakeOutcome
{
	TAKE_DONE,
	TAKE_RESOURCE_HELD,
	TAKE_RESOURCE_BUSY,
	TAKE_QUEUE_FULL
} TakeOutcome;

static void claim_named(const ClaimRequest *request, const pg_uuid_t *task_id, TimestampTz now);
static UuidList claim_next(const ClaimRequest *request, const char *queue_name, TimestampTz now);
static TakeOutcome take(TaskRow *task, const ClaimRequest *request, const QueueRow *queue,
						TimestampTz now, LeaseRow **lease);
static TaskRow *held_task(const pg_uuid_t *id, int64 token, bool to_finish, TimestampTz *now);
static TimestampTz ran_out_at(const TaskRow *task, TimestampTz now, bool *agent_ended);
static void lose(TaskRow *task, TimestampTz since, bool agent_ended, TimestampTz now);
static void bury(TaskRow *task, const char *error, TimestampTz at, TimestampTz now);

static bool
is_claimed(const TaskRow *task)
{
	return strcmp(task->state, "claimed") == 0;
}

/* task_claim(agent_id, queue, task_id, resource_key, lease_ttl, max_tasks) */
Datum
coord_task_claim(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *agent_id = coord_arg_uuid(fcinfo, 0, "agent_id");
	char	   *queue = coord_arg_name_or_null(fcinfo, 1, "queue");
	pg_uuid_t  *task_id = coord_arg_uuid_or_null(fcinfo, 2);
	ClaimRequest request = {
		.resource_key = coord_arg_name_or_null(fcinfo, 3, "resource_key"),
		.lease_ttl = coord_arg_ttl(fcinfo, 4, "lease_ttl", -1),
		.max_tasks = coord_arg_int_between(fcinfo, 5, "max_tasks", 1, 1, MAX_TASKS),
	};
	StoreScope	scope;
	UuidList	claimed = {1, task_id};
	TimestampTz now;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	now = coord_now();
	request.agent = coord_active_agent(agent_id, now);
	store_agent_beat_unless_locked(request.agent, now);

	if (task_id != NULL)
		claim_named(&request, task_id, now);
	else
		claimed = claim_next(&request, queue != NULL ? queue : "default", now);
	if (claimed.n > 0)
		store_task_results(fcinfo, &claimed);
	store_close(&scope);
	return (Datum) 0;
}

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
	LeaseRow   *lease = NULL;
	TimestampTz now;

	store_open(&scope);
	task = held_task(id, token, false, &now);
	store_agent_beat_unless_locked(store_agent(task->agent_id, STORE_NO_LOCK), now);

	task->lease_expires_at = now + (ttl < 0 ? task->lease_ttl : ttl);
	store_claim_renew(task, progress);
	if (task->check_at > task->lease_expires_at)
		store_claim_set_check_at(task, task->lease_expires_at);

	if (task->lease_id != NULL)
		lease = coord_lease_by_id(task->lease_id, STORE_LOCK_WAIT);
	if (lease != NULL && lease->ended_at == DT_NOEND)
	{
		/* a lease that the agent had before must last as long as the claim */
		if (lease->fencing_token == token || lease->expires_at < task->lease_expires_at)
			coord_lease_extend(lease, task->lease_expires_at, now);
	}
	PG_RETURN_DATUM(store_close_with(&scope, store_task_result(id)));
}

/* task_complete(task_id, fencing_token, result) */
Datum
coord_task_complete(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	int64		token = coord_arg_int64(fcinfo, 1, "fencing_token");
	Jsonb	   *result = coord_arg_payload_or_null(fcinfo, 2, "result");
	StoreScope	scope;
	TaskRow    *task;
	TimestampTz now;

	store_open(&scope);
	if (!store_task_completed_with(id, token))
	{
		task = held_task(id, token, true, &now);
		if (task != NULL)		/* else another connection has just completed it */
		{
			coord_claim_end(task, STORE_LOCK_WAIT, now);
			store_task_complete(task, result, now);
			coord_dependency_completed(id);
		}
	}
	PG_RETURN_DATUM(store_close_with(&scope, store_task_result(id)));
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
	coord_claim_end(task, STORE_LOCK_WAIT, now);
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
	coord_claim_end(task, STORE_LOCK_WAIT, now);
	store_task_unclaim(task, task->run_at, task->attempts - 1, NULL);
	PG_RETURN_DATUM(store_close_with(&scope, store_task_result(id)));
}

/*
 * The sweep's look at a claim: give its task back if it has run out, and else,
 * if that was due, look again when its lease expires.  True when it had run out;
 * one that is locked by another transaction is left alone.
 */
bool
coord_claim_look(const pg_uuid_t *task_id, TimestampTz now)
{
	TaskRow    *task = store_task(task_id, STORE_LOCK_SKIP);

	if (task == NULL)
		return false;
	if (coord_claim_settle(task, now))
		return true;
	if (is_claimed(task) && task->check_at <= now)
		store_claim_set_check_at(task, task->lease_expires_at);
	return false;
}

/* Give a locked task back if its claim has run out; true when it had. */
bool
coord_claim_settle(TaskRow *task, TimestampTz now)
{
	bool		agent_ended;
	TimestampTz since;

	if (!is_claimed(task))
		return false;
	since = ran_out_at(task, now, &agent_ended);
	if (since == DT_NOEND)
		return false;
	lose(task, since, agent_ended, now);
	return true;
}

/*
 * Take the claim's belongings away: its deadline, its queue slot, and the lease
 * that was taken with it.  The task's row is for the caller to write.  A sweep
 * does not wait for the lease: one that is locked runs out by itself.
 */
void
coord_claim_end(TaskRow *task, StoreLock lease_lock, TimestampTz now)
{
	LeaseRow   *lease = NULL;

	if (!is_claimed(task))
		return;
	store_claim_forget(task);
	if (task->queue_slot >= 0)
		store_slot_free(task->queue, task->queue_slot);
	if (task->lease_id != NULL)
		lease = coord_lease_by_id(task->lease_id, lease_lock);
	if (lease == NULL || lease->ended_at != DT_NOEND ||
		lease->task_id == NULL || !coord_uuid_equal(lease->task_id, &task->id))
		return;
	if (lease->fencing_token == task->fencing_token)
		coord_lease_end(lease, now);
	else
	{
		/* the agent had it before, and keeps it */
		lease->task_id = NULL;
		store_lease_update(lease);
	}
}

/* Give back what agents that have become inactive had claimed; returns how many. */
int
coord_claims_lose_of(const pg_uuid_t *agent_ids, int n, TimestampTz now)
{
	UuidList	claims = store_claims_of(agent_ids, n);
	int			lost = 0;

	for (int i = 0; i < claims.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (coord_claim_look(&claims.ids[i], now))
			lost++;
	}
	return lost;
}

/* Give back what an agent that retires has claimed, the attempts not counted. */
void
coord_claims_give_back(const pg_uuid_t *agent_id, TimestampTz now)
{
	UuidList	claims = store_claims_of(agent_id, 1);

	for (int i = 0; i < claims.n; i++)
	{
		TaskRow    *task = store_task(&claims.ids[i], STORE_NO_LOCK);
		bool		agent_ended;

		/* one that has run out is not the agent's, so it is not waited for */
		if (task == NULL || !is_claimed(task) || ran_out_at(task, now, &agent_ended) != DT_NOEND)
		{
			(void) coord_claim_look(&claims.ids[i], now);
			continue;
		}
		task = store_task(&claims.ids[i], STORE_LOCK_WAIT);
		if (task == NULL || !is_claimed(task) || !coord_uuid_equal(task->agent_id, agent_id) ||
			coord_claim_settle(task, now))
			continue;
		coord_claim_end(task, STORE_LOCK_WAIT, now);
		store_task_unclaim(task, task->run_at, task->attempts - 1, NULL);
	}
}

/* Claim that task, or raise the error that says why not. */
static void
claim_named(const ClaimRequest *request, const pg_uuid_t *task_id, TimestampTz now)
{
	TaskRow    *task = store_task(task_id, STORE_LOCK_SKIP);
	QueueRow   *queue;
	LeaseRow   *lease;

	if (task == NULL)
	{
		coord_wait_for_sweep();
		task = store_task(task_id, STORE_LOCK_SKIP);
	}
	if (task != NULL && coord_claim_settle(task, now))
		task = store_task(task_id, STORE_LOCK_SKIP);
	if (task == NULL)
	{
		char	   *state = store_task_state(task_id);

		if (state == NULL)
			coord_error_no_task(task_id);
		if (store_task(task_id, STORE_NO_LOCK) != NULL)
			coord_error_task_busy(task_id);
		coord_error_task_state(task_id, state, "claimed");
	}

	if (is_claimed(task))
		coord_error_task_claimed(task_id, task->agent_id, task->lease_expires_at);
	if (strcmp(task->state, "pending") != 0)
		coord_error_task_state(task_id, task->state, "claimed");
	if (task->run_at > now)
		coord_error_task_state(task_id, psprintf("not to run before %s", timestamptz_to_str(task->run_at)),
							   "claimed");
	queue = store_queue(task->queue);
	if (queue->paused)
		coord_error_task_state(task_id, psprintf("in queue \"%s\", which is paused", queue->name), "claimed");
	if (request->resource_key != NULL && task->resource_key != NULL &&
		strcmp(request->resource_key, task->resource_key) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task %s has another resource key", coord_uuid_str(task_id)),
				 errdetail("It is \"%s\".", task->resource_key)));

	switch (take(task, request, queue, now, &lease))
	{
		case TAKE_DONE:
			return;
		case TAKE_RESOURCE_HELD:
			coord_error_resource_held(lease->resource_key, &lease->agent_id, lease->expires_at);
		case TAKE_RESOURCE_BUSY:
			coord_error_resource_busy(task->resource_key != NULL ? task->resource_key : request->resource_key);
		case TAKE_QUEUE_FULL:
			coord_error_queue_full(queue->name, queue->max_claimed);
	}
}

/*
 * Claim up to max_tasks of what is claimable now, priority by priority.  False
 * when the queue has no unfinished task at all.
 */
static bool
claim_pass(const ClaimRequest *request, const QueueRow *queue, TimestampTz now, UuidList *claimed)
{
	int64		below = (int64) PG_INT32_MAX + 1;
	int			priority;
	bool		any = false;
	TakeOutcome outcome = TAKE_DONE;

	while (claimed->n < request->max_tasks && outcome != TAKE_QUEUE_FULL &&
		   store_next_priority(queue->name, below, &priority))
	{
		Portal		portal = store_claimable(queue->name, priority, &request->agent->id,
											 request->resource_key, now);
		TaskRow   **tasks;
		int			n;

		any = true;
		while (claimed->n < request->max_tasks && outcome != TAKE_QUEUE_FULL &&
			   (n = store_claimable_fetch(portal, request->max_tasks - claimed->n, &tasks)) > 0)
		{
			CHECK_FOR_INTERRUPTS();
			for (int i = 0; i < n && outcome != TAKE_QUEUE_FULL; i++)
			{
				LeaseRow   *lease;

				outcome = take(tasks[i], request, queue, now, &lease);
				if (outcome == TAKE_DONE)
					claimed->ids[claimed->n++] = tasks[i]->id;
			}
		}
		SPI_cursor_close(portal);
		below = priority;
	}
	return any;
}

/*
 * Claim up to max_tasks of a queue.
 *
 * Who finds too few gives back claims in the queue that have run out, and tries
 * again: this is what makes a queue go on where no worker runs.  Who finds none
 * tries once more when the sweep has ended its batch: a task that it was giving
 * back was shown as pending before.
 */
static UuidList
claim_next(const ClaimRequest *request, const char *queue_name, TimestampTz now)
{
	QueueRow   *queue = store_queue(queue_name);
	UuidList	claimed = {0, palloc(sizeof(pg_uuid_t) * request->max_tasks)};
	UuidList	due;
	bool		lost = false;

	if (queue->paused || !claim_pass(request, queue, now, &claimed) || claimed.n == request->max_tasks)
		return claimed;

	due = store_claims_due(queue_name, now, HELP_BATCH);
	for (int i = 0; i < due.n; i++)
		lost |= coord_claim_look(&due.ids[i], now);
	if (lost)
		claim_pass(request, queue, now, &claimed);
	if (claimed.n == 0)
	{
		coord_wait_for_sweep();
		claim_pass(request, queue, now, &claimed);
	}
	return claimed;
}

/*
 * Make a locked, claimable task the agent's, with its resource and a slot of its
 * queue.  On any other outcome than TAKE_DONE nothing is changed.
 */
static TakeOutcome
take(TaskRow *task, const ClaimRequest *request, const QueueRow *queue,
	 TimestampTz now, LeaseRow **lease)
{
	const char *resource_key = task->resource_key != NULL ? task->resource_key : request->resource_key;
	int64		ttl = request->lease_ttl >= 0 ? request->lease_ttl :
		coord_default_ttl(queue->lease_ttl);
	TimestampTz expires_at = now + ttl;

	task->queue_slot = -1;
	if (queue->max_claimed > 0)
	{
		task->queue_slot = store_slot_take(queue, &task->id);
		if (task->queue_slot < 0)
			return TAKE_QUEUE_FULL;
	}

	task->lease_id = NULL;
	task->claimed_key = NULL;
	task->fencing_token = 0;
	if (resource_key != NULL)
	{
		LeaseRequest lease_request = {
			.resource_key = resource_key,
			.agent_id = &request->agent->id,
			.task_id = &task->id,
			.ttl = ttl,
			.auto_renew = false,
			.max_hold = -1,
		};
		LeaseOutcome outcome = coord_lease_grant(&lease_request, lease);

		if (outcome != LEASE_GRANTED && outcome != LEASE_RENEWED)
		{
			if (task->queue_slot >= 0)
				store_slot_free(queue->name, task->queue_slot);
			return outcome == LEASE_HELD ? TAKE_RESOURCE_HELD : TAKE_RESOURCE_BUSY;
		}
		task->lease_id = &(*lease)->id;
		task->claimed_key = (*lease)->resource_key;
		/* one grant, one token and one end; a lease that was there before keeps its own */
		if (outcome == LEASE_GRANTED)
		{
			task->fencing_token = (*lease)->fencing_token;
			now = (*lease)->acquired_at;
			expires_at = (*lease)->expires_at;
		}
	}
	if (task->fencing_token == 0)
		task->fencing_token = coord_next_fencing_token();

	task->agent_id = &request->agent->id;
	task->attempts++;
	task->lease_ttl = ttl;
	task->lease_expires_at = expires_at;

	/*
	 * The first look comes no later than the agent's end as it is known now: an
	 * agent that ends before this transaction does has this claim not among
	 * those that are given back then.
	 */
	task->check_at = Min(task->lease_expires_at, coord_agent_ends_at(request->agent));
	store_task_claim(task, now);
	return TAKE_DONE;
}

/* Error unless the token holds the task now, and the claim is the caller's. */
static void
check_holder(const TaskRow *task, const pg_uuid_t *id, int64 token, TimestampTz now)
{
	TimestampTz since;
	bool		agent_ended;

	if (task == NULL)
	{
		char	   *state = store_task_state(id);

		if (state == NULL)
			coord_error_no_task(id);
		coord_error_stale_token(id, token, state);
	}
	if (!is_claimed(task))
		coord_error_stale_token(id, token, task->state);
	if (task->fencing_token != token)
		coord_error_stale_token(id, token, "claimed with another token");
	(void) coord_owned_agent(task->agent_id);
	since = ran_out_at(task, now, &agent_ended);
	if (since != DT_NOEND)
		coord_error_claim_ran_out(id, since, agent_ended);
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

	check_holder(store_task(id, STORE_NO_LOCK), id, token, coord_now());
	task = to_finish ? store_task_to_finish(id, STORE_LOCK_WAIT) : store_task(id, STORE_LOCK_WAIT);
	*now = coord_now();
	if (task == NULL && to_finish && store_task_completed_with(id, token))
		return NULL;
	check_holder(task, id, token, *now);
	return task;
}

/* Since when a claim has run out; DT_NOEND while it holds. */
static TimestampTz
ran_out_at(const TaskRow *task, TimestampTz now, bool *agent_ended)
{
	AgentRow   *agent = store_agent(task->agent_id, STORE_NO_LOCK);
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

	coord_claim_end(task, STORE_LOCK_SKIP, now);
	if (task->attempts < task->max_attempts)
	{
		TimestampTz run_at = since + coord_backoff_usec(store_queue(task->queue), task->attempts, &task->id);

		store_event_task_requeued(task, agent_ended ? "agent_inactive" : "lease_expired", run_at, now);
		store_task_unclaim(task, run_at, task->attempts, error);
	}
	else
		bury(task, error, since, now);
}

/* Make a locked task, whose claim was ended, a dead letter. */
static void
bury(TaskRow *task, const char *error, TimestampTz at, TimestampTz now)
{
	store_task_bury(task, error, at);
	store_event_task_dead(task, error, now);
	coord_dependency_failed(&task->id, "dead", now);
}
