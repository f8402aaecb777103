/*
 * claim.c
 *		Claiming: who gets which task.  What the holder of a claim does, and what
 *		becomes of one that runs out, is in claim_hold.c.
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
#include "attachment.h"
#include "claim.h"
#include "clock.h"
#include "errors.h"
#include "lease.h"
#include "sequence.h"
#include "store/queue_store.h"
#include "uuid7.h"
#include "worker/shared.h"

#define MAX_TASKS 10000

/* how many claims that have run out a claimant gives back, when it finds nothing */
#define HELP_BATCH 100

PG_FUNCTION_INFO_V1(coord_task_claim);

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
static TakeOutcome take(TaskRow *task, const ClaimRequest *request, const QueueRow *queue, LeaseRow **lease);

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
	{
		coord_attachment_claims(request.agent);
		store_task_results(fcinfo, &claimed);
	}
	store_close(&scope);
	return (Datum) 0;
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

	if (coord_is_claimed(task))
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

	switch (take(task, request, queue, &lease))
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

				outcome = take(tasks[i], request, queue, &lease);
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
		lost |= coord_claim_look(&due.ids[i], now) == CLAIM_LOST;
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
take(TaskRow *task, const ClaimRequest *request, const QueueRow *queue, LeaseRow **lease)
{
	const char *resource_key = task->resource_key != NULL ? task->resource_key : request->resource_key;
	int64		ttl = request->lease_ttl >= 0 ? request->lease_ttl :
		coord_default_ttl(queue->lease_ttl);
	TimestampTz now = coord_now();	/* the claim begins when the task is locked */
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
