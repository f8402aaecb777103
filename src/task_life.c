/*
 * task_life.c
 *		Why a task is not running, and what has become of it, for people and agents who ask.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "args.h"
#include "clock.h"
#include "errors.h"
#include "lease.h"
#include "rights.h"
#include "store/life_store.h"
#include "store/queue_store.h"
#include "store/task_store.h"

/* so many dependencies are named */
#define NAMED_DEPENDENCIES 5

/* so far the order of a queue is looked at */
#define BEFORE_MAX 1000

PG_FUNCTION_INFO_V1(coord_blocked_by);
PG_FUNCTION_INFO_V1(coord_history);

static void tell_finished(StringInfo text, const TaskStanding *task);
static void tell_claimed(StringInfo text, const TaskStanding *task);
static void tell_blocked(StringInfo text, const TaskStanding *task);
static void tell_pending(StringInfo text, const TaskStanding *task);

/* A task that the caller may see; error when there is none. */
static TaskStanding *
visible_task(const pg_uuid_t *id)
{
	TaskStanding *task = store_task_standing(id);

	if (task == NULL || !coord_sees_queue(store_caller(), task->queue))
		coord_error_no_task(id);
	return task;
}

/* blocked_by(task_id) */
Datum
coord_blocked_by(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	StringInfoData text;
	StoreScope	scope;
	TaskStanding *task;

	initStringInfo(&text);
	store_open(&scope);
	task = visible_task(id);
	if (strcmp(task->state, "claimed") == 0)
		tell_claimed(&text, task);
	else if (strcmp(task->state, "blocked") == 0)
		tell_blocked(&text, task);
	else if (strcmp(task->state, "pending") == 0)
		tell_pending(&text, task);
	else
		tell_finished(&text, task);
	store_close(&scope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

/* history(task_id) */
Datum
coord_history(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "task_id");
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	(void) visible_task(id);
	if (!store_task_history(fcinfo, id))
		coord_error_no_task(id);	/* it was purged meanwhile */
	store_close(&scope);
	return (Datum) 0;
}

/* Begin a sentence: each has a line of its own. */
static void pg_attribute_printf(2, 3)
say(StringInfo text, const char *format,...)
{
	va_list		args;
	int			needed;

	if (text->len > 0)
		appendStringInfoChar(text, '\n');
	for (;;)
	{
		va_start(args, format);
		needed = appendStringInfoVA(text, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(text, needed);
	}
}

static char *
instant(TimestampTz at)
{
	return JsonEncodeDateTime(NULL, TimestampTzGetDatum(at), TIMESTAMPTZOID, NULL);
}

static void
tell_finished(StringInfo text, const TaskStanding *task)
{
	if (strcmp(task->state, "completed") == 0)
		say(text, "It was completed at %s.", instant(task->finished_at));
	else if (strcmp(task->state, "cancelled") == 0)
		say(text, "It was cancelled at %s.", instant(task->finished_at));
	else
		say(text, "It is a dead letter since %s, after %d of %d attempts; task_redrive gives it new ones.",
			instant(task->finished_at), task->attempts, task->max_attempts);
	if (task->error != NULL)
		say(text, "Its error: %s", task->error);
}

static void
tell_claimed(StringInfo text, const TaskStanding *task)
{
	say(text, "It is running: agent \"%s\" has claimed it at %s, as attempt %d of %d.",
		task->agent, instant(task->claimed_at), task->attempts, task->max_attempts);
	say(text, "The claim runs out at %s, unless it is renewed.", instant(task->lease_expires_at));
}

static void
tell_blocked(StringInfo text, const TaskStanding *task)
{
	List	   *open = store_open_dependencies(&task->id);
	int			nth = 0;
	ListCell   *cell;

	if (open == NIL)
	{
		say(text, "What it waited for has just finished.");
		return;
	}
	say(text, "It waits for %d of the %d tasks that it depends on:", list_length(open), task->ndependencies);
	foreach(cell, open)
	{
		const OpenDependency *dependency = lfirst(cell);

		if (nth++ == NAMED_DEPENDENCIES)
		{
			appendStringInfo(text, " and %d more", list_length(open) - NAMED_DEPENDENCIES);
			break;
		}
		appendStringInfo(text, "%s %s (%s)", nth > 1 ? "," : "", dependency->id,
						 dependency->state != NULL ? dependency->state : "gone");
	}
	appendStringInfoChar(text, '.');
}

/* Who has what the task needs, if anybody has. */
static void
tell_resource(StringInfo text, const char *resource_key)
{
	LeaseRow   *lease;

	switch (coord_lease_outlook(resource_key, &lease))
	{
		case LEASE_HELD:
			say(text, "Its resource \"%s\" is held by agent \"%s\" until %s, unless that is renewed.",
				resource_key, store_agent_name(&lease->agent_id), instant(lease->expires_at));
			break;
		case LEASE_BUSY:
			say(text, "Its resource \"%s\" is in another transaction's hands, or others wait for it.", resource_key);
			break;
		default:
			break;
	}
}

/* What comes first, where nothing keeps the task itself from being claimed. */
static void
tell_order(StringInfo text, const TaskStanding *task, TimestampTz now)
{
	int			before = store_tasks_before(task, now, BEFORE_MAX);

	say(text, "Nothing keeps it from being claimed: %s%d claimable %s before it in queue \"%s\".",
		before >= BEFORE_MAX ? "at least " : "", before, before == 1 ? "task comes" : "tasks come", task->queue);
	if (!store_active_agents())
		say(text, "No agent is active.");
}

static void
tell_pending(StringInfo text, const TaskStanding *task)
{
	TimestampTz now = coord_now();
	QueueRow   *queue = store_queue(task->queue);
	TaskRow    *row = store_task(&task->id, STORE_NO_LOCK);

	if (task->run_at > now)
		say(text, "Its run_at has yet to come: %s.", instant(task->run_at));
	if (queue->paused)
		say(text, "Its queue \"%s\" is paused.", task->queue);
	if (queue->max_claimed > 0 && !store_slot_is_free(queue))
		say(text, "Its queue \"%s\" has max_claimed %d, and so many of its tasks are claimed.",
			task->queue, queue->max_claimed);
	if (row != NULL && store_task_is_locked(row))
		say(text, "Another transaction has it in its hands.");
	if (task->resource_key != NULL)
		tell_resource(text, task->resource_key);
	if (text->len == 0)
		tell_order(text, task, now);
	if (task->attempts > 0)
		say(text, "It was attempted %d of %d times%s%s", task->attempts, task->max_attempts,
			task->error != NULL ? "; the last error: " : ".", task->error != NULL ? task->error : "");
}
