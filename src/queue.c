/*
 * queue.c
 *		Queues: their settings.
 *
 * A queue comes into being with its first task, or here.  Queue "default"
 * always is.  One whose first task was created and rolled back may have tasks and not
 * be stored, since who created the next ones could not tell; it is when it is changed.
 */
#include "postgres.h"

#include "fmgr.h"

#include "args.h"
#include "errors.h"
#include "queue.h"
#include "quota.h"
#include "rights.h"
#include "store/new_key.h"
#include "store/queue_store.h"
#include "store/store.h"
#include "task.h"

#define MAX_MAX_CLAIMED 10000

PG_FUNCTION_INFO_V1(coord_queue_set);
PG_FUNCTION_INFO_V1(coord_queue_pause);
PG_FUNCTION_INFO_V1(coord_queue_resume);

static QueueRow *queue_to_change(const char *name, bool create);
static Datum set_paused(FunctionCallInfo fcinfo, bool paused);
static Datum close_with(FunctionCallInfo fcinfo, StoreScope *scope, const char *name);

/* queue_set(name, paused, max_attempts, lease_ttl, backoff_base, backoff_max, max_claimed, retention) */
Datum
coord_queue_set(PG_FUNCTION_ARGS)
{
	char	   *name = coord_arg_name(fcinfo, 0, "name");
	StoreScope	scope;
	QueueRow   *queue;

	store_open(&scope);
	coord_check_settings(store_caller(), name);
	queue = queue_to_change(name, true);
	if (!PG_ARGISNULL(1))
		queue->paused = PG_GETARG_BOOL(1);
	queue->max_attempts = coord_arg_int_between(fcinfo, 2, "max_attempts", queue->max_attempts,
												1, COORD_MAX_ATTEMPTS);
	queue->lease_ttl = coord_arg_ttl(fcinfo, 3, "lease_ttl", queue->lease_ttl);
	queue->backoff_base = coord_arg_duration(fcinfo, 4, "backoff_base", queue->backoff_base);
	queue->backoff_max = coord_arg_duration(fcinfo, 5, "backoff_max", queue->backoff_max);
	queue->max_claimed = coord_arg_int_between(fcinfo, 6, "max_claimed", queue->max_claimed,
											   0, MAX_MAX_CLAIMED);
	queue->retention = coord_arg_duration(fcinfo, 7, "retention", queue->retention);

	store_queue_update(queue);
	if (!PG_ARGISNULL(6))
		store_slots_resize(queue);
	PG_RETURN_DATUM(close_with(fcinfo, &scope, name));
}

/* queue_pause(name) */
Datum
coord_queue_pause(PG_FUNCTION_ARGS)
{
	return set_paused(fcinfo, true);
}

/* queue_resume(name) */
Datum
coord_queue_resume(PG_FUNCTION_ARGS)
{
	return set_paused(fcinfo, false);
}

/* A StoreAction. */
static void
insert_queue(void *name)
{
	coord_check_queues(store_caller());
	store_queue_insert(name, store_caller());
}

/*
 * Store a queue that was not found, with the default settings.  False when an
 * open transaction is doing so.
 */
bool
coord_queue_ensure(const char *name)
{
	return store_insert_new(STORE_KEY_QUEUE, name, NULL, insert_queue, unconstify(char *, name)) != STORE_KEY_IN_FLIGHT;
}

/* A queue, locked; error when another transaction is changing it. */
static QueueRow *
queue_to_change(const char *name, bool create)
{
	QueueRow   *queue;

	if (!store_queue(name)->exists)
	{
		if (!create && strcmp(name, "default") != 0 && !store_queue_has_tasks(name))
			coord_error_no_queue(name);
		if (!coord_queue_ensure(name))
			coord_error_name_busy("queue", name);
	}

	queue = store_queue_locked(name);
	if (!queue->exists)
		coord_error_queue_busy(name);
	return queue;
}

/* Close the scope; the queue, as the calling statement expects it. */
static Datum
close_with(FunctionCallInfo fcinfo, StoreScope *scope, const char *name)
{
	Datum		row = store_queue_result(name);

	if (row == (Datum) 0)
		coord_error_no_queue(name);
	return store_as_expected(fcinfo, store_close_with(scope, row));
}

static Datum
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	char	   *name = coord_arg_name(fcinfo, 0, "name");
	StoreScope	scope;
	QueueRow   *queue;

	store_open(&scope);
	coord_check_settings(store_caller(), name);
	queue = queue_to_change(name, false);
	queue->paused = paused;
	store_queue_update(queue);
	PG_RETURN_DATUM(close_with(fcinfo, &scope, name));
}
