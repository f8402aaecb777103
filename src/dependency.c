/*
 * dependency.c
 *		What becomes of tasks that wait for others.
 *
 * A blocked task has a row in task_dependency for each task that it waits for.
 * Who completes a task removes the rows that name it, and unblocks each
 * dependant that has none left.  A row is removed by who has locked the dependant.  Who makes a task dead or cancelled cancels its
 * dependants, and theirs.
 *
 * Two transactions that complete two dependencies of one task do not see each
 * other's removal, and neither may wait for the other.  Therefore who looks at a
 * dependant locks its row; who finds it locked leaves a row in
 * dependency_check, and the sweep looks once more after both have committed.  A
 * new task with dependencies leaves one as well, since one of them may be
 * finishing in a transaction that cannot see it yet.  And who finishes a task
 * looks for its dependants with the latest snapshot, also in REPEATABLE READ.
 *
 * No task is stranded: of two transactions that race for a dependant the second
 * leaves a check, the sweep keeps the check until no transaction is finishing
 * one of the dependencies, and every commit that finished a task wakes the
 * worker while a check is kept.
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/pg_list.h"

#include "dependency.h"
#include "store/new_key.h"
#include "uuid7.h"
#include "worker/wakeup.h"

/* A task was completed in this transaction: unblock what waited for it alone. */
void
coord_dependency_completed(const pg_uuid_t *task_id)
{
	UuidList	dependants = store_dependants(task_id);

	coord_finished_task();
	for (int i = 0; i < dependants.n; i++)
	{
		TaskRow    *task = store_task(&dependants.ids[i], STORE_LOCK_SKIP);

		/* with an older snapshot, what others have removed cannot be seen */
		if (task == NULL || IsolationUsesXactSnapshot())
			store_check_insert(&dependants.ids[i]);
		else
		{
			store_dependency_drop(&task->id, task_id);
			if (store_dependencies(&task->id).n == 0)
				store_task_unblock(task);
		}
	}
}

/* Cancel a locked, blocked task whose dependency has failed. */
static void
cancel_dependant(TaskRow *task, const pg_uuid_t *dependency, const char *state, TimestampTz now)
{
	store_task_cancel(task, psprintf("dependency %s is %s", coord_uuid_str(dependency), state), now);
	store_dependencies_forget(&task->id);
}

/*
 * A task has become dead or cancelled in this transaction: cancel what waits
 * for it, and what waits for that.
 */
void
coord_dependency_failed(const pg_uuid_t *task_id, const char *state, TimestampTz now)
{
	List	   *failed = list_make1((void *) task_id);

	coord_finished_task();
	while (failed != NIL)
	{
		const pg_uuid_t *dependency = llast(failed);
		UuidList	dependants = store_dependants(dependency);

		failed = list_delete_last(failed);
		for (int i = 0; i < dependants.n; i++)
		{
			TaskRow    *task = store_task_to_finish(&dependants.ids[i], STORE_LOCK_SKIP);

			if (task == NULL)
				store_check_insert(&dependants.ids[i]);
			else if (strcmp(task->state, "blocked") == 0)
			{
				cancel_dependant(task, dependency, dependency == task_id ? state : "cancelled", now);
				failed = lappend(failed, &task->id);
			}
		}
	}
}

/*
 * The sweep's look at a task that has a check.  False when it cannot be decided
 * yet, and the check must be kept.  It locks the task only to change it.
 */
bool
coord_dependencies_look(const pg_uuid_t *task_id, TimestampTz now)
{
	UuidList	dependencies;
	const pg_uuid_t *failed = NULL;
	char	   *failed_state = NULL;
	bool		waits = false;
	bool		undecided = false;
	pg_uuid_t  *met;
	int			nmet = 0;
	char	   *state = store_task_state(task_id);
	TaskRow    *task;

	if (state == NULL || strcmp(state, "blocked") != 0)
		return true;

	dependencies = store_dependencies(task_id);
	met = palloc(sizeof(pg_uuid_t) * Max(dependencies.n, 1));
	for (int i = 0; i < dependencies.n; i++)
	{
		const pg_uuid_t *dependency = &dependencies.ids[i];

		state = store_task_state(dependency);
		if (state == NULL || strcmp(state, "completed") == 0)
			met[nmet++] = *dependency;
		else if (store_task_is_still(dependency))
			waits = true;		/* who finishes it will see that this one waits */
		else if (strcmp(state, "dead") == 0 || strcmp(state, "cancelled") == 0)
		{
			failed = dependency;
			failed_state = state;
			break;
		}
		else
			undecided = true;
	}
	if (failed == NULL && (waits || undecided) && nmet == 0)
		return !undecided;

	task = store_task_to_finish(task_id, STORE_LOCK_SKIP);
	if (task == NULL)
		return false;
	if (strcmp(task->state, "blocked") != 0)
		return true;
	if (failed != NULL)
	{
		cancel_dependant(task, failed, failed_state, now);
		coord_dependency_failed(task_id, "cancelled", now);
	}
	else
	{
		for (int i = 0; i < nmet; i++)
			store_dependency_drop(task_id, &met[i]);
		if (!waits && !undecided)
			store_task_unblock(task);
	}
	return !undecided || failed != NULL;
}
