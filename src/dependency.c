/*
 * dependency.c
 *		What becomes of tasks that wait for others.
 *
 * A blocked task has a row in task_dependency for each task that it waits for.
 * Who completes a task removes the rows that name it, and unblocks each
 * dependant that has none left.  A row is removed by who has locked the dependant.  Who
 * makes a task dead or cancelled cancels its dependants, and theirs.
 *
 * Two transactions that complete two dependencies of one task do not see each
 * other's removal, and neither may wait for the other.  Therefore who looks at a
 * dependant locks its row; who finds it locked leaves a row in
 * dependency_check, and the sweep looks once more after both have committed.  A
 * new task with dependencies leaves one as well, since one of them may be
 * finishing in a transaction that cannot see it yet.  And who finishes a task
 * looks for its dependants with the latest snapshot, also in REPEATABLE READ.
 *
 * A task may have any number of dependants.  Where there are many, those after the first
 * ones are put off: a row in dependant_check has the sweep go on with them, in batches.
 *
 * No task is stranded: of two transactions that race for a dependant the second
 * leaves a check, the sweep keeps the check until no transaction is finishing
 * one of the dependencies, and every transaction that finished a task, or had
 * locked a blocked one, wakes the worker at its end while a check is kept.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"

#include "claim.h"
#include "clock.h"
#include "dependency.h"
#include "errors.h"
#include "store/dependency_store.h"
#include "store/new_key.h"
#include "uuid7.h"
#include "worker/shared.h"
#include "worker/wakeup.h"
#include "worker/worker.h"

/*
 * So many dependants are dealt with by who finishes a task, and the rest by the sweep.  What
 * the worker finishes, hundreds in a transaction, others wait for.
 */
#define LIMIT_OF_OTHERS 1000
#define LIMIT_OF_WORKER 10

static const pg_uuid_t no_task; /* before all others */

/*
 * Error when a task has been created since the transaction's snapshot, or was cancelled or
 * has gone since then: what has been cancelled stays only while a check of who depends on
 * it is to be seen, and what is gone counts as completed.
 */
static void
check_is_latest(const pg_uuid_t *task_id, const char *state)
{
	char	   *now = store_task_state_now(task_id);

	if ((state == NULL) != (now == NULL) ||
		(now != NULL && (strcmp(state, "cancelled") == 0) != (strcmp(now, "cancelled") == 0)))
		coord_error_serialization();
}

/*
 * The state of a task that a new one is to depend on; NULL when there is no such task.
 *
 * One that is dead by the clock alone may be being completed in time, by a transaction that
 * is open.  So it is buried here, or is said to be claimed when that is not to be had.
 */
char *
coord_dependency_state(const pg_uuid_t *task_id)
{
	char	   *state = store_task_state(task_id);
	TaskRow    *task;

	if (IsolationUsesXactSnapshot())
		check_is_latest(task_id, state);
	if (state == NULL || strcmp(state, "dead") != 0 || store_task_is_buried(task_id))
		return state;
	task = store_task(task_id, STORE_LOCK_SKIP);
	if (task == NULL || !coord_claim_settle(task, coord_now()))
		return "claimed";
	return store_task_state(task_id);
}

/*
 * How many dependants are dealt with here, by who finishes a task.  Who could not put off
 * the rest deals with all.
 */
static int
limit_here(void)
{
	if (!coord_worker_runs() || !store_can_put_off())
		return PG_INT32_MAX;
	return coord_is_worker() ? LIMIT_OF_WORKER : LIMIT_OF_OTHERS;
}

/* dependants of a task, in order */
typedef struct Dependants
{
	const pg_uuid_t *of;
	UuidList	list;
	const pg_uuid_t *last;		/* or the one that they come after */
	bool		more;			/* there are others after that */
} Dependants;

static Dependants
find_dependants(const pg_uuid_t *of, const pg_uuid_t *after, int limit)
{
	bool		more = false;
	UuidList	list = store_dependants(of, after, limit, &more);

	return (Dependants) {of, list, list.n > 0 ? &list.ids[list.n - 1] : after, more};
}

/* Unblock, of some dependants of a completed task, those that waited for it alone. */
static void
unblock_dependants(const Dependants *dependants)
{
	for (int i = 0; i < dependants->list.n; i++)
	{
		const pg_uuid_t *task_id = &dependants->list.ids[i];
		TaskRow    *task = store_task(task_id, STORE_LOCK_SKIP);

		/* with an older snapshot, what others have removed cannot be seen */
		if (task == NULL || IsolationUsesXactSnapshot())
			store_check_insert(task_id);
		else
		{
			store_dependency_drop(&task->id, dependants->of);
			if (store_dependencies(&task->id).n == 0)
				store_task_unblock(task);
		}
	}
	if (dependants->more)
		store_put_off_dependants(dependants->of, dependants->last);
}

/* A task was completed in this transaction: unblock what waited for it alone. */
void
coord_dependency_completed(const pg_uuid_t *task_id)
{
	Dependants	dependants = find_dependants(task_id, &no_task, limit_here());

	coord_finished_task();
	unblock_dependants(&dependants);
}

/* Cancel a locked, blocked task whose dependency has failed. */
static void
cancel_dependant(TaskRow *task, const pg_uuid_t *dependency, const char *state, TimestampTz now)
{
	store_task_cancel(task, psprintf("dependency %s is %s", coord_uuid_str(dependency), state), now);
	store_dependencies_forget(&task->id);
}

/*
 * Cancel some dependants of a dead or cancelled task, and what waits for these, "limit" at
 * most; the rest is put off.  Returns how many it was.
 */
static int
cancel_dependants(const Dependants *some, const char *state, int limit, TimestampTz now)
{
	Dependants	dependants = *some;
	List	   *failed = NIL;
	int			done = 0;

	for (;;)
	{
		for (int i = 0; i < dependants.list.n; i++)
		{
			const pg_uuid_t *task_id = &dependants.list.ids[i];
			TaskRow    *task = store_task_to_finish(task_id, STORE_LOCK_SKIP);

			if (task == NULL)
				store_check_insert(task_id);
			/* what has failed may have been driven again, and completed, since this one was found */
			else if (strcmp(task->state, "blocked") == 0 && store_waits_for(task_id, dependants.of))
			{
				cancel_dependant(task, dependants.of, state, now);
				failed = lappend(failed, &task->id);
			}
		}
		if (dependants.more)
			store_put_off_dependants(dependants.of, dependants.last);
		done += dependants.list.n;
		if (failed == NIL)
			return done;
		dependants = find_dependants(llast(failed), &no_task, limit - done);
		failed = list_delete_last(failed);
		state = "cancelled";
	}
}

/*
 * A task has become dead or cancelled in this transaction: cancel what waits for it, and
 * what waits for that.  Returns how many it was.
 */
int
coord_dependency_failed(const pg_uuid_t *task_id, const char *state, TimestampTz now)
{
	int			limit = limit_here();
	Dependants	dependants = find_dependants(task_id, &no_task, limit);

	coord_finished_task();
	return cancel_dependants(&dependants, state, limit, now);
}

/*
 * The sweep's look at dependants that were put off: "limit" at most, of a task that had
 * finished; returns how many it was, or -1 when another transaction is at them.
 *
 * A dead letter may have been driven again meanwhile, and those that are left wait for it
 * again.  So its state is looked at after its dependants are found: what is dead then was
 * so before each of them began to wait for what comes next.
 */
int
coord_dependants_look(const pg_uuid_t *task_id, int limit, TimestampTz now)
{
	pg_uuid_t	after;
	Dependants	dependants;
	char	   *state;

	if (!store_take_put_off(task_id, &after))
		return -1;
	dependants = find_dependants(task_id, &after, limit);
	state = store_task_state_at_a_glance(task_id);
	if (state == NULL || strcmp(state, "completed") == 0)
		unblock_dependants(&dependants);
	else if (strcmp(state, "cancelled") == 0 || (strcmp(state, "dead") == 0 && store_task_is_buried(task_id)))
		return cancel_dependants(&dependants, state, limit, now);
	else
		return 0;
	return dependants.list.n;
}

/* what a task's dependencies have become */
typedef struct Judgement
{
	bool		blocked;		/* it waits at all */
	bool		waits;			/* for one that nobody is finishing */
	bool		undecided;		/* for one that somebody is finishing */
	const pg_uuid_t *failed;	/* one that is dead or cancelled */
	char	   *failed_state;
	pg_uuid_t  *met;			/* those that are completed, or gone */
	int			nmet;
} Judgement;

static Judgement
judge(const pg_uuid_t *task_id, int *looked_at)
{
	Judgement	found = {0};
	char	   *state = store_task_state_at_a_glance(task_id);
	UuidList	dependencies;

	*looked_at += 1;
	found.blocked = state != NULL && strcmp(state, "blocked") == 0;
	if (!found.blocked)
		return found;

	dependencies = store_dependencies(task_id);
	found.met = palloc(sizeof(pg_uuid_t) * Max(dependencies.n, 1));
	for (int i = 0; i < dependencies.n && found.failed == NULL; i++)
	{
		const pg_uuid_t *dependency = &dependencies.ids[i];

		CHECK_FOR_INTERRUPTS();
		*looked_at += 1;
		Assert(dependency != NULL); /* as found.failed is not set; the analysers do not see it */
		state = store_task_state_at_a_glance(dependency);
		if (state == NULL || strcmp(state, "completed") == 0)
			found.met[found.nmet++] = *dependency;
		else if (store_task_is_still(dependency))
			found.waits = true; /* who finishes it will see that this one waits */
		else if (strcmp(state, "cancelled") == 0 ||
				 (strcmp(state, "dead") == 0 && store_task_is_buried(dependency)))
		{
			found.failed = dependency;
			found.failed_state = state;
		}
		else
			found.undecided = true; /* dead by the clock alone, too */
	}
	return found;
}

/* Do what follows; false when it cannot be done yet, and the task must be looked at again. */
static bool
settle(const pg_uuid_t *task_id, const Judgement *found, TimestampTz now, int *looked_at)
{
	TaskRow    *task;

	if (!found->blocked)
		return true;
	if (found->failed == NULL && found->nmet == 0 && (found->waits || found->undecided))
		return !found->undecided;

	task = store_task_to_finish(task_id, STORE_LOCK_SKIP);
	if (task == NULL)
		return false;
	if (strcmp(task->state, "blocked") != 0)
		return true;
	if (found->failed != NULL)
	{
		if (!store_waits_for(task_id, found->failed))
			return false;		/* it was driven again, and completed */
		cancel_dependant(task, found->failed, found->failed_state, now);
		*looked_at += coord_dependency_failed(task_id, "cancelled", now);
		return true;
	}
	for (int i = 0; i < found->nmet; i++)
		store_dependency_drop(task_id, &found->met[i]);
	/* another may have been finished before the lock, by who saw these that are dropped now */
	if (store_dependencies(task_id).n == 0)
		store_task_unblock(task);
	return !found->undecided;
}

/*
 * The sweep's look at a task that has a check, or several.  False when it cannot be
 * decided yet, and a check is kept.  Adds how many tasks were looked at, which may be
 * thousands.
 *
 * The checks go before the look on which it is decided: one that comes later is by who
 * found the task locked here, and has finished a dependency that was seen to be waited for.
 */
bool
coord_dependencies_look(const pg_uuid_t *task_id, TimestampTz now, int *looked_at)
{
	Judgement	found = judge(task_id, looked_at);

	if (found.undecided && found.nmet == 0 && found.failed == NULL)
		return false;
	store_check_done(task_id);
	found = judge(task_id, looked_at);
	if (settle(task_id, &found, now, looked_at))
		return true;
	store_check_keep(task_id);
	return false;
}
