/*
 * task.c
 *		Tasks: creating, cancelling and redriving them.  What claims are is in
 *		claim.c, what tasks that wait for others are in dependency.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "agent.h"
#include "args.h"
#include "claim.h"
#include "clock.h"
#include "dependency.h"
#include "errors.h"
#include "queue.h"
#include "rights.h"
#include "store/deadline_store.h"
#include "store/dependency_store.h"
#include "store/new_key.h"
#include "store/queue_store.h"
#include "task.h"
#include "uuid7.h"
#include "worker/shared.h"

#define MAX_DEPENDENCIES 10000

/* how many claims that have run out task_redrive looks at first */
#define SETTLE_BATCH 10000

typedef struct NewTask
{
	const TaskSpec *spec;
	bool		blocked;
	TimestampTz now;
	Datum		created;		/* as users see it */
} NewTask;

typedef struct Redrive
{
	const DeadLetter *letter;
	TimestampTz now;
} Redrive;

PG_FUNCTION_INFO_V1(coord_task_create);
PG_FUNCTION_INFO_V1(coord_task_create_many);
PG_FUNCTION_INFO_V1(coord_task_cancel);
PG_FUNCTION_INFO_V1(coord_task_redrive);

static void check_queues(TaskSpec *specs, int n);
static int64 redrive_dead(const pg_uuid_t *id, const char *queue, TimestampTz now);
static int64 redrive_queue(const char *queue, TimestampTz now);
static pg_uuid_t create(TaskSpec *spec, TimestampTz now, Datum *created);
static pg_uuid_t *find_by_unique_key(const TaskSpec *spec, Datum *found);
static bool insert_task(NewTask *task);
static void check_state_is_dead(const pg_uuid_t *id);
static bool redrive(const DeadLetter *letter, TimestampTz now);

/* task_create(type, payload, queue, priority, run_at, max_attempts, unique_key, depends_on, resource_key, id) */
Datum
coord_task_create(PG_FUNCTION_ARGS)
{
	TaskSpec	spec = {
		.type = coord_arg_name(fcinfo, 0, "type"),
		.payload = coord_arg_payload(fcinfo, 1, "payload"),
		.queue = coord_arg_name_or_null(fcinfo, 2, "queue"),
		.priority = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3),
		.run_at = PG_ARGISNULL(4) ? DT_NOBEGIN : coord_check_instant(PG_GETARG_TIMESTAMPTZ(4), "run_at"),
		.max_attempts = coord_arg_int_between(fcinfo, 5, "max_attempts", 0, 1, COORD_MAX_ATTEMPTS),
		.unique_key = coord_arg_name_or_null(fcinfo, 6, "unique_key"),
		.resource_key = coord_arg_name_or_null(fcinfo, 8, "resource_key"),
		.has_id = !PG_ARGISNULL(9),
	};
	StoreScope	scope;
	pg_uuid_t	id;
	Datum		created;

	if (!PG_ARGISNULL(7))
	{
		Datum	   *elements;
		bool	   *nulls;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(7), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &elements, &nulls, &spec.depends_on.n);
		spec.depends_on.ids = palloc(sizeof(pg_uuid_t) * Max(spec.depends_on.n, 1));
		for (int i = 0; i < spec.depends_on.n; i++)
		{
			if (nulls[i])
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 coord_errargument("depends_on"),
						 errmsg("argument \"depends_on\" must not contain null")));
			spec.depends_on.ids[i] = *DatumGetUUIDP(elements[i]);
		}
	}
	if (spec.has_id)
		spec.id = *coord_check_new_id(PG_GETARG_UUID_P(9));

	if (spec.queue == NULL)
		spec.queue = "default";

	store_open(&scope);
	coord_check_queue(store_caller(), spec.queue, COORD_CREATE);
	id = create(&spec, coord_now(), &created);
	PG_RETURN_DATUM(store_close_with(&scope, created != (Datum) 0 ? created : store_task_result(&id)));
}

/* task_create_many(tasks) */
Datum
coord_task_create_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StoreScope	scope;
	TaskSpec   *specs;
	pg_uuid_t  *ids;
	int		   *order;
	int			n;
	MemoryContext per_task;
	MemoryContext batch;
	TimestampTz now;
	Datum		created;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 coord_errargument("tasks"),
				 errmsg("argument \"tasks\" must not be null")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	store_open(&scope);
	specs = coord_task_specs(PG_GETARG_JSONB_P(0), &n);
	check_queues(specs, n);
	order = coord_task_order(specs, n);
	ids = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	now = coord_now();
	per_task = AllocSetContextCreate(CurrentMemoryContext, "coord task", ALLOCSET_DEFAULT_SIZES);
	batch = MemoryContextSwitchTo(per_task);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(per_task);	/* which a statement may have left */
		ids[order[i]] = create(&specs[order[i]], now, &created);
		MemoryContextReset(per_task);
	}
	MemoryContextSwitchTo(batch);
	for (int i = 0; i < n; i++)
	{
		Datum		value = UUIDPGetDatum(&ids[i]);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	store_close(&scope);
	return (Datum) 0;
}

/* task_cancel(task_id) */
Datum
coord_task_cancel(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	StoreScope	scope;
	TaskRow    *task;
	Datum		cancelled;
	TimestampTz now;

	store_open(&scope);
	coord_check_task(store_caller(), id, COORD_CREATE);
	now = coord_now();
	task = store_task_to_finish(id, STORE_LOCK_SKIP);
	if (task == NULL)
	{
		coord_wait_for_sweep();
		task = store_task_to_finish(id, STORE_LOCK_SKIP);
	}
	if (task != NULL && coord_claim_settle(task, now))
		task = store_task_to_finish(id, STORE_LOCK_SKIP);
	if (task != NULL)
	{
		if (task->agent_id != NULL)
			(void) coord_owned_agent(task->agent_id);	/* its claim is not for others to end */
		coord_claim_end(task, now);
		store_task_cancel(task, "cancelled", now);
		if (task->resource_key != NULL)
			store_announce_waiting(task->resource_key); /* it may have been the one that was announced */
		store_dependencies_forget(id);
		coord_dependency_failed(id, "cancelled", now);
		cancelled = store_task_result(id);
	}
	else
	{
		char	   *state;

		if (store_task(id, STORE_NO_LOCK) != NULL)
			coord_error_task_busy(id);
		cancelled = store_task_find_result(id, &state);
		if (cancelled == (Datum) 0)
			coord_error_no_task(id);
		if (strcmp(state, "cancelled") != 0)
			coord_error_task_state(id, state, "cancelled");
	}
	PG_RETURN_DATUM(store_close_with(&scope, cancelled));
}

/* task_redrive(task_id, queue) */
Datum
coord_task_redrive(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid_or_null(fcinfo, 0);
	char	   *queue = coord_arg_name_or_null(fcinfo, 1, "queue");
	StoreScope	scope;
	int64		n = 0;

	store_open(&scope);
	if (id != NULL)
	{
		coord_check_task(store_caller(), id, COORD_CREATE);
		check_state_is_dead(id);
		n = redrive_dead(id, NULL, coord_now());
	}
	else if (queue != NULL || coord_may(store_caller(), NULL, COORD_CREATE))
	{
		if (queue != NULL)
			coord_check_queue(store_caller(), queue, COORD_CREATE);
		if (queue != NULL && !store_queue(queue)->exists && strcmp(queue, "default") != 0 &&
			!store_queue_has_tasks(queue))
			coord_error_no_queue(queue);
		n = redrive_queue(queue, coord_now());
	}
	else
	{
		List	   *queues = coord_queues(store_caller(), COORD_CREATE);
		ListCell   *cell;

		foreach(cell, queues)
			n += redrive_queue(lfirst(cell), coord_now());
	}
	store_close(&scope);
	PG_RETURN_INT64(n);
}

/* Error unless the caller may create tasks in the queues of all these. */
static void
check_queues(TaskSpec *specs, int n)
{
	const char *last = NULL;

	for (int i = 0; i < n; i++)
	{
		if (specs[i].queue == NULL)
			specs[i].queue = "default";
		if (last == NULL || strcmp(specs[i].queue, last) != 0)
			coord_check_queue(store_caller(), specs[i].queue, COORD_CREATE);
		last = specs[i].queue;
	}
}

/* Make dead letters pending: one, or those of a queue, or all.  Returns how many. */
static int64
redrive_dead(const pg_uuid_t *id, const char *queue, TimestampTz now)
{
	int			nletters;
	DeadLetter *letters = store_dead_letters(id, queue, &nletters);
	int64		n = 0;

	for (int i = 0; i < nletters; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (redrive(&letters[i], now))
			n++;
	}
	return n;
}

/* The same with those that claims which have run out leave; NULL is every queue. */
static int64
redrive_queue(const char *queue, TimestampTz now)
{
	UuidList	due = store_claims_due(queue, now, SETTLE_BATCH, PG_INT32_MAX);

	for (int i = 0; i < due.n; i++)
		(void) coord_claim_look(&due.ids[i], now);
	return redrive_dead(NULL, queue, now);
}

/*
 * Create a task, or find the one that has its unique key.  Nothing here waits
 * for another transaction: a key that another one is inserting is an error.
 * *created is the task as users see it, 0 when that has to be looked up.
 */
static pg_uuid_t
create(TaskSpec *spec, TimestampTz now, Datum *created)
{
	QueueRow   *queue;
	NewTask		task = {.spec = spec,.now = now};
	pg_uuid_t  *existing;
	pg_uuid_t  *failed = NULL;
	char	   *failed_state = NULL;
	pg_uuid_t  *waits_for = palloc(sizeof(pg_uuid_t) * Max(spec->depends_on.n, 1));
	int			nwaits = 0;
	bool		sees_all;

	*created = (Datum) 0;
	queue = store_queue(spec->queue);
	if (!queue->exists)
		(void) coord_queue_ensure(spec->queue);
	if (spec->max_attempts == 0)
		spec->max_attempts = queue->max_attempts;
	if (spec->run_at == DT_NOBEGIN)
		spec->run_at = now;

	if ((existing = find_by_unique_key(spec, created)) != NULL)
		return *existing;
	if (!spec->has_id)
		coord_uuid7(&spec->id);

	if (spec->depends_on.n > MAX_DEPENDENCIES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("depends_on"),
				 errmsg("argument \"depends_on\" has too many elements"),
				 errdetail("It has %d; %d are allowed.", spec->depends_on.n, MAX_DEPENDENCIES)));
	if (spec->depends_on.n > 0)
		store_check_begin();
	sees_all = spec->depends_on.n == 0 || coord_sees_every_queue(store_caller());
	for (int i = 0; i < spec->depends_on.n; i++)
	{
		pg_uuid_t  *dependency = &spec->depends_on.ids[i];
		char	   *queue_of;
		char	   *state;

		if (coord_uuid_equal(dependency, &spec->id))
			coord_error_dependency_cycle(&spec->id);
		/* of a role that does not see every queue it must be known which one it is, before anything else */
		if (!sees_all && ((queue_of = store_task_queue_now(dependency)) == NULL ||
						  !coord_sees_queue(store_caller(), queue_of)))
			coord_error_no_task(dependency);
		state = coord_dependency_state(dependency);
		if (state == NULL)
			coord_error_no_task(dependency);
		if (strcmp(state, "completed") == 0)
			continue;
		if (strcmp(state, "dead") == 0 || strcmp(state, "cancelled") == 0)
		{
			failed = dependency;
			failed_state = state;
		}
		waits_for[nwaits++] = *dependency;
	}

	task.blocked = nwaits > 0;
	while (!insert_task(&task))
	{
		/* somebody was faster */
		if ((existing = find_by_unique_key(spec, created)) != NULL)
			return *existing;
	}
	if (failed != NULL)
	{
		store_task_cancel(store_task(&spec->id, STORE_NO_LOCK),
						  psprintf("dependency %s is %s", coord_uuid_str(failed), failed_state), now);
		return spec->id;
	}
	*created = task.created;
	if (nwaits > 0)
	{
		for (int i = 0; i < nwaits; i++)
			store_dependency_insert(&spec->id, &waits_for[i]);
		store_check_insert(&spec->id);
	}
	return spec->id;
}

/* The unfinished task that has the unique key, also as users see it; NULL when there is none. */
static pg_uuid_t *
find_by_unique_key(const TaskSpec *spec, Datum *found)
{
	pg_uuid_t  *id;

	if (spec->unique_key == NULL)
		return NULL;
	while ((id = store_task_with_unique_key(spec->queue, spec->unique_key)) != NULL)
	{
		TaskRow    *task;
		Datum		row;
		char	   *state;

		CHECK_FOR_INTERRUPTS();
		row = store_task_find_result(id, &state);
		if (row == (Datum) 0)
			continue;			/* finished and purged meanwhile */
		/* a claim that has run out for the last time has finished its task */
		if (strcmp(state, "dead") != 0)
		{
			*found = row;
			return id;
		}
		task = store_task(id, STORE_LOCK_SKIP);
		if (task == NULL)
			coord_error_task_busy(id);
		(void) coord_claim_settle(task, coord_now());
	}
	return NULL;
}

static void
task_exists(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errargument("id"),
			 errmsg("task %s exists already", coord_uuid_str(id))));
}

/* A StoreAction, of a key that is unique in all respects. */
static void
insert_row(void *arg)
{
	NewTask    *task = arg;

	if (task->spec->has_id && store_task_id_is_used(&task->spec->id))
		task_exists(&task->spec->id);
	task->created = store_task_insert(task->spec, task->blocked, task->now);
}

/* A StoreAction, of the unique key, if there is one: error when the id that the caller chose is taken. */
static void
insert_with_id(void *arg)
{
	NewTask    *task = arg;

	if (!task->spec->has_id)
		insert_row(task);
	else
	{
		switch (store_insert_new_id(STORE_KEY_TASK_ID, &task->spec->id, insert_row, task))
		{
			case STORE_KEY_IN_FLIGHT:
				coord_error_name_busy("task", coord_uuid_str(&task->spec->id));
			case STORE_KEY_EXISTS:
				task_exists(&task->spec->id);
			case STORE_KEY_FREE:
				break;
		}
	}
}

/* Add a task; false when another one has come to have its unique key. */
static bool
insert_task(NewTask *task)
{
	const TaskSpec *spec = task->spec;

	if (spec->unique_key == NULL)
		insert_with_id(task);
	else
	{
		switch (store_insert_new(STORE_KEY_UNIQUE, spec->queue, spec->unique_key, insert_with_id, task))
		{
			case STORE_KEY_IN_FLIGHT:
				coord_error_name_busy("unique key", spec->unique_key);
			case STORE_KEY_EXISTS:
				return false;
			case STORE_KEY_FREE:
				break;
		}
	}
	return true;
}

/* Error unless the task is a dead letter that can be driven again. */
static void
check_state_is_dead(const pg_uuid_t *id)
{
	TaskRow    *task = store_task(id, STORE_LOCK_SKIP);
	char	   *state;
	pg_uuid_t  *follower;

	state = store_task_state(id);
	if (state == NULL)
		coord_error_no_task(id);
	if (task != NULL)
		(void) coord_claim_settle(task, coord_now());
	if (strcmp(state, "dead") != 0)
		coord_error_task_state(id, state, "redriven");
	follower = store_task_after_dead(id);
	if (follower != NULL)
		coord_error_task_state(id, psprintf("dead, and its unique key has gone to task %s",
											coord_uuid_str(follower)), "redriven");
}

/* A StoreAction. */
static void
insert_dead_letter(void *arg)
{
	Redrive    *redrive = arg;

	store_redrive(redrive->letter, redrive->now);
}

/* Make a dead letter pending; false when another task has its unique key. */
static bool
redrive(const DeadLetter *letter, TimestampTz now)
{
	Redrive		redrive = {letter, now};

	if (letter->unique_key != NULL)
		return store_insert_new(STORE_KEY_UNIQUE, letter->queue, letter->unique_key, insert_dead_letter, &redrive) == STORE_KEY_FREE;
	insert_dead_letter(&redrive);
	return true;
}
