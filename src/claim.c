/*
 * claim.c
 *		Claiming: who gets which task.  What the holder of a claim does, and what
 *		becomes of one that runs out, is in claim_hold.c.
 *
 * No task is claimed twice: a claim is an update of its task's row from pending to
 * claimed (store_task_claim), which succeeds only if the row is as it was read, and
 * all that change a claim change that row.  Which task to try is the ready ring's to
 * say (claim/ready.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "agent.h"
#include "args.h"
#include "claim.h"
#include "claim/ready.h"
#include "clock.h"
#include "errors.h"
#include "lease.h"
#include "rights.h"
#include "sequence.h"
#include "store/deadline_store.h"
#include "store/queue_store.h"
#include "uuid7.h"
#include "worker/shared.h"
#include "worker/wakeup.h"

#define MAX_TASKS 10000

/* With so many bytes, as text, a batch is large enough: payloads may have a megabyte each. */
#define BATCH_BYTES (32 * 1024 * 1024)

/* how many claims that have run out a claimant gives back, when it finds nothing */
#define HELP_BATCH 100

/* and so many batches of the worker it waits for */
#define SWEEPS_MET 3

PG_FUNCTION_INFO_V1(coord_task_claim);

/* what a claimant asks for */
typedef struct ClaimRequest
{
	AgentRow   *agent;
	char	   *resource_key;	/* NULL: the task's own, if it has one */
	int64		lease_ttl;		/* microseconds, -1: the queue's */
	int			max_tasks;
} ClaimRequest;

/* what a claim has got: rows as users see them, in the end in the queue's order */
typedef struct ClaimedTask
{
	ReadyTask	candidate;
	Datum		row;
} ClaimedTask;

typedef struct ClaimedTasks
{
	int			n;
	ClaimedTask *tasks;			/* room for max_tasks */
	Size		bytes;			/* of these, if there may be several */
	UuidList	batch;			/* the same, if there may be several: the sweep looks at them together */
	TimestampTz check_at;		/* then */
} ClaimedTasks;

typedef enum TakeOutcome
{
	TAKE_DONE,
	TAKE_TASK_BUSY,
	TAKE_RESOURCE_HELD,
	TAKE_RESOURCE_BUSY,
	TAKE_QUEUE_FULL
} TakeOutcome;

static TaskRow *claim_named(const ClaimRequest *request, const pg_uuid_t *task_id, TimestampTz now);
static void claim_next(const ClaimRequest *request, const char *queue_name, TimestampTz now, ClaimedTasks *claimed);
static QueueRow *queue_to_claim_from(const char *name);
static bool a_resource_has_come_free(const char *queue, TimestampTz now);
static bool in_batch(const ClaimRequest *request);
static bool wants_more(const ClaimRequest *request, const ClaimedTasks *claimed);
static TimestampTz first_look_at(const TaskRow *task, const ClaimRequest *request);
static int	compare_claimed(const void *a, const void *b);
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
	ClaimedTasks claimed = {0};
	TimestampTz now;

	PreventCommandIfReadOnly("task_claim");
	if (queue == NULL)
		queue = "default";
	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	now = coord_now();
	request.agent = coord_active_agent(agent_id, now);
	if (task_id != NULL)
		coord_check_task(store_caller(), task_id, COORD_CLAIM);
	else
		coord_check_queue(store_caller(), queue, COORD_CLAIM);
	store_agent_beat_unless_locked(request.agent, now);

	if (task_id != NULL)
		request.max_tasks = 1;
	claimed.tasks = palloc(sizeof(ClaimedTask) * request.max_tasks);
	claimed.batch.ids = palloc(sizeof(pg_uuid_t) * request.max_tasks);
	claimed.check_at = DT_NOEND;
	if (task_id == NULL)
		claim_next(&request, queue, now, &claimed);
	else
		claimed.tasks[claimed.n++].row = store_task_as_result(claim_named(&request, task_id, now));

	/* while they were claimed, others may have made claimable, or given back, what comes before them */
	if (claimed.n > 1)
		qsort(claimed.tasks, claimed.n, sizeof(ClaimedTask), compare_claimed);
	for (int i = 0; i < claimed.n; i++)
		store_add_result(fcinfo, claimed.tasks[i].row);
	if (claimed.batch.n > 0)
		store_deadline_insert_batch(agent_id, &claimed.batch, claimed.check_at);
	store_close(&scope);
	return (Datum) 0;
}

/* Whether the sweep looks at what is claimed together. */
static bool
in_batch(const ClaimRequest *request)
{
	return request->max_tasks > 1;
}

static bool
wants_more(const ClaimRequest *request, const ClaimedTasks *claimed)
{
	return claimed->n < request->max_tasks && claimed->bytes < BATCH_BYTES;
}

/*
 * When the sweep must look at a claim first: no later than at the agent's end as it is
 * known now.  An agent that ends before this transaction does has this claim not among
 * those that are given back then.
 */
static TimestampTz
first_look_at(const TaskRow *task, const ClaimRequest *request)
{
	return coord_earlier(task->lease_expires_at, coord_agent_ends_at(request->agent));
}

static int
compare_claimed(const void *a, const void *b)
{
	return coord_ready_compare(&((const ClaimedTask *) a)->candidate, &((const ClaimedTask *) b)->candidate);
}

/* Claim that task, or raise the error that says why not. */
static TaskRow *
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
		char	   *state;

		if (store_task(task_id, STORE_NO_LOCK) != NULL)
			coord_error_task_busy(task_id);
		state = store_task_state(task_id);
		if (state == NULL)
			coord_error_no_task(task_id);
		coord_error_task_state(task_id, state, "claimed");
	}

	if (coord_is_claimed(task))
		coord_error_task_claimed(task_id, task->agent_id, task->lease_expires_at);
	if (strcmp(task->state, "pending") != 0)
		coord_error_task_state(task_id, task->state, "claimed");
	if (task->run_at > now)
		coord_error_task_state(task_id, psprintf("not to run before %s", timestamptz_to_str(task->run_at)),
							   "claimed");
	queue = queue_to_claim_from(task->queue);
	if (queue->paused)
		coord_error_task_state(task_id, psprintf("in queue \"%s\", which is paused", queue->name), "claimed");
	if (request->resource_key != NULL && task->resource_key != NULL &&
		strcmp(request->resource_key, task->resource_key) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("resource_key"),
				 errmsg("task %s has another resource key", coord_uuid_str(task_id)),
				 errdetail("It is \"%s\".", task->resource_key)));

	switch (take(task, request, queue, &lease))
	{
		case TAKE_DONE:
			return task;
		case TAKE_TASK_BUSY:
			coord_error_task_busy(task_id);
		case TAKE_RESOURCE_HELD:
			coord_error_resource_held(lease->resource_key, &lease->agent_id, lease->expires_at);
		case TAKE_RESOURCE_BUSY:
			coord_error_resource_busy(task->resource_key != NULL ? task->resource_key : request->resource_key);
		case TAKE_QUEUE_FULL:
			coord_error_queue_full(queue->name, queue->max_claimed);
	}
	pg_unreachable();
}

/*
 * Try to claim the task that a candidate stands for, and tell the ring what came of
 * it.  True when it was claimed; *full when the queue has no room for any.  With "strict"
 * one that has changed since the transaction's snapshot is an error.
 */
static bool
try_candidate(const ClaimRequest *request, const QueueRow *queue, ReadyClaim *ready, const ReadyTask *candidate,
			  bool strict, TaskRow *task, bool *full)
{
	LeaseRow   *lease;

	switch (store_task_candidate(queue->name, candidate, task))
	{
		case STORE_ROW_CHANGED:
			if (IsolationUsesXactSnapshot() && strict)
				coord_error_serialization();
			coord_ready_drop(ready);
			return false;
		case STORE_ROW_BUSY:
			coord_ready_is_busy(ready);
			return false;
		case STORE_ROW_LOCKED:
			break;
	}
	if (request->resource_key != NULL && task->resource_key != NULL &&
		strcmp(request->resource_key, task->resource_key) != 0)
	{
		coord_ready_is_busy(ready);
		return false;
	}

	switch (take(task, request, queue, &lease))
	{
		case TAKE_DONE:
			return true;
		case TAKE_RESOURCE_HELD:
			if (task->locked)
				coord_ready_is_busy(ready);	/* by the grant, which does not see that it is just ending */
			else
				coord_ready_drop_held(ready, coord_lease_usable_by(lease));
			return false;
		case TAKE_QUEUE_FULL:
			*full = true;
			/* FALLTHROUGH */
		case TAKE_TASK_BUSY:
		case TAKE_RESOURCE_BUSY:
			coord_ready_is_busy(ready);
			return false;
	}
	pg_unreachable();
}

/*
 * Claim what is claimable now, in the queue's order, until there are enough.  With
 * "private" no shared ring is used; nor to find what only this transaction sees, or for
 * a single resource.  Nor any more by who has an old snapshot and has met a task that it
 * cannot claim: there may be any number of them, which it would keep from others meanwhile.
 */
static void
claim_pass(const ClaimRequest *request, const QueueRow *queue, bool private, TimestampTz now, ClaimedTasks *claimed)
{
	ReadyClaim *ready = private || request->resource_key != NULL || coord_has_task_ready(queue->name) ?
		coord_ready_open_private(queue->name) : coord_ready_open(queue->name, &request->agent->id);
	MemoryContext per_task = AllocSetContextCreate(CurrentMemoryContext, "coord claim", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = CurrentMemoryContext;
	ReadyOutcome outcome = READY_TASK;
	bool		full = false;

	while (wants_more(request, claimed) && !full && outcome != READY_NONE)
	{
		ReadyTask	candidate;

		CHECK_FOR_INTERRUPTS();
		outcome = coord_ready_next(ready, now, request->max_tasks - claimed->n, &candidate);
		if (outcome == READY_TASK)
		{
			TaskRow		task;
			bool		done;

			MemoryContextSwitchTo(per_task);
			done = try_candidate(request, queue, ready, &candidate, private, &task, &full);
			MemoryContextSwitchTo(outer);
			if (done)
				claimed->tasks[claimed->n++] = (ClaimedTask) {candidate, store_task_as_result(&task)};
			if (done && in_batch(request))
			{
				claimed->bytes += store_row_bytes(claimed->tasks[claimed->n - 1].row);
				claimed->batch.ids[claimed->batch.n++] = task.id;
				claimed->check_at = coord_earlier(claimed->check_at, first_look_at(&task, request));
			}
			MemoryContextReset(per_task);
			if (!done && IsolationUsesXactSnapshot() && coord_ready_is_shared(ready))
				outcome = READY_USE_PRIVATE;
		}
		if (outcome == READY_USE_PRIVATE)
		{
			coord_ready_close(ready);
			ready = coord_ready_open_private(queue->name);
		}
	}
	coord_ready_close(ready);
	MemoryContextDelete(per_task);
}

/*
 * Claim up to max_tasks of a queue, or BATCH_BYTES and one more.
 *
 * Who finds too few looks whether leases that the queue waits for have run out, and gives
 * back claims in it that have, if the worker has not, and tries again: this is what makes a
 * queue go on where no worker runs.  Who finds none while the sweep is at a batch tries again
 * when that has ended: a task that it was giving back was shown as pending before.
 *
 * In REPEATABLE READ a task that has changed since the snapshot is passed over like one
 * that is locked; only when that leaves nothing it is the conflict that it is anywhere.
 */
static void
claim_next(const ClaimRequest *request, const char *queue_name, TimestampTz now, ClaimedTasks *claimed)
{
	QueueRow   *queue = queue_to_claim_from(queue_name);
	uint32		sweeps = coord_sweeps();

	if (queue->paused)
		return;
	claim_pass(request, queue, false, now, claimed);
	if (wants_more(request, claimed) && a_resource_has_come_free(queue_name, now))
		claim_pass(request, queue, true, now, claimed);
	if (wants_more(request, claimed) && coord_claims_give_back_due(queue_name, now))
		claim_pass(request, queue, false, now, claimed);
	for (int i = 0; i < SWEEPS_MET && claimed->n == 0 && coord_sweep_was_at_work(sweeps); i++)
	{
		uint32		since = sweeps;

		(void) coord_wait_for_sweep();
		sweeps = coord_sweeps();
		if (i > 0 && sweeps == since)
			break;				/* the worker has died in a batch */
		claim_pass(request, queue, false, coord_now(), claimed);
	}
	if (claimed->n == 0 && IsolationUsesXactSnapshot())
		claim_pass(request, queue, true, now, claimed);
}

/*
 * A queue as it is now, since nobody claims from one that has been paused.  A limit that it
 * has been given since the transaction's snapshot has slots which that does not show.
 */
static QueueRow *
queue_to_claim_from(const char *name)
{
	QueueRow   *queue = store_queue(name);
	QueueRow   *now;

	if (!IsolationUsesXactSnapshot())
		return queue;
	now = store_queue_now(name);
	if (now->max_claimed != queue->max_claimed)
		coord_error_serialization();
	return now;
}

/*
 * How many of what is due a claimant looks at, the earliest first: it may be for other queues,
 * or locked, and is the worker's, if there is one.
 */
static int
help_reach(void)
{
	return coord_worker_runs() ? HELP_BATCH : PG_INT32_MAX;
}

/*
 * Whether the lease on a resource that a task of the queue waits for has run out, and the
 * worker has not ended it.  Nor is it ended here, where it and whatever else is due would stay
 * locked for as long as the caller's transaction likes: the claim takes the resource over.
 */
static bool
a_resource_has_come_free(const char *queue, TimestampTz now)
{
	return coord_leases_may_be_due(now) && store_lease_ran_out_for(queue, now, help_reach());
}

/* Give back claims in a queue that have run out, if the worker has not; true when there were some. */
bool
coord_claims_give_back_due(const char *queue, TimestampTz now)
{
	UuidList	due = {0, NULL};
	bool		lost = false;

	if (coord_claims_may_be_due(now) || coord_is_due_here(JOB_CLAIMS, now))
		due = store_claims_due(queue, now, HELP_BATCH, help_reach());
	for (int i = 0; i < due.n; i++)
		lost |= coord_claim_look(&due.ids[i], now) == CLAIM_LOST;
	return lost;
}

/* Occupy a slot of the queue, if it has a limit; false when there is none. */
static bool
take_slot(TaskRow *task, const QueueRow *queue)
{
	task->queue_slot = queue->max_claimed > 0 ? store_slot_take(queue, &task->id) : -1;
	if (task->queue_slot >= 0)
		coord_queue_claimed_from(queue->name, false);
	return queue->max_claimed == 0 || task->queue_slot >= 0;
}

/* Free it again; others may have it when this transaction has ended. */
static void
free_slot(TaskRow *task)
{
	if (task->queue_slot < 0)
		return;
	store_slot_free(task->queue, task->queue_slot);
	coord_queue_ready(task->queue, coord_now());
}

/* Get the lease on the task's resource for its claim, whose row is locked. */
static TakeOutcome
take_resource(TaskRow *task, const LeaseRequest *request, LeaseRow **lease)
{
	switch (coord_lease_grant(request, lease))
	{
		case LEASE_GRANTED:
			/* one grant, one token and one end; a lease that was there before keeps its own */
			task->fencing_token = (*lease)->fencing_token;
			task->lease_expires_at = (*lease)->expires_at;
			/* FALLTHROUGH */
		case LEASE_RENEWED:
			task->lease_id = &(*lease)->id;
			task->claimed_key = (*lease)->resource_key;
			return TAKE_DONE;
		case LEASE_HELD:
			return TAKE_RESOURCE_HELD;
		case LEASE_BUSY:
			return TAKE_RESOURCE_BUSY;
	}
	pg_unreachable();
}

/*
 * Make a pending task the agent's, with its resource and a slot of its queue.  On any
 * other outcome than TAKE_DONE the task is as it was, but may be locked.
 *
 * Without a resource and a limit of the queue, the update of the task's row is the first
 * thing that is written.  With a resource, the row is locked before the lease is taken,
 * after a look whether that can succeed: only what that look says may make the ring drop
 * the task, see coord_lease_is_held().
 */
static TakeOutcome
take(TaskRow *task, const ClaimRequest *request, const QueueRow *queue, LeaseRow **lease)
{
	const char *resource_key = task->resource_key != NULL ? task->resource_key : request->resource_key;
	int64		ttl = request->lease_ttl >= 0 ? request->lease_ttl :
		coord_default_ttl(queue->lease_ttl);
	LeaseRequest lease_request = {
		.resource_key = resource_key,
		.agent_id = &request->agent->id,
		.task_id = &task->id,
		.ttl = ttl,
		.auto_renew = false,
		.max_hold = -1,
	};
	TimestampTz now;
	TakeOutcome outcome = TAKE_DONE;

	if (resource_key != NULL && coord_lease_is_held(&lease_request, lease))
		return TAKE_RESOURCE_HELD;
	if (!take_slot(task, queue))
		return TAKE_QUEUE_FULL;

	task->agent_id = &request->agent->id;
	task->attempts++;
	task->lease_id = NULL;
	task->claimed_key = NULL;
	task->fencing_token = 0;
	task->lease_ttl = ttl;
	now = coord_now();			/* the claim begins now, and not when it was asked for */
	task->lease_expires_at = now + ttl;
	if (resource_key != NULL)
	{
		outcome = store_task_lock(task) == STORE_ROW_LOCKED ? take_resource(task, &lease_request, lease) : TAKE_TASK_BUSY;
		if (task->fencing_token != 0)
			now = (*lease)->acquired_at;
	}
	if (outcome == TAKE_DONE)
	{
		if (task->fencing_token == 0)
			task->fencing_token = coord_next_fencing_token();

		task->check_at = in_batch(request) ? DT_NOEND : first_look_at(task, request);
		if (store_task_claim(task, now) == STORE_ROW_LOCKED)
			return TAKE_DONE;
		outcome = TAKE_TASK_BUSY;
	}
	free_slot(task);
	return outcome;
}
