/*
 * dependency_store.c
 *		What tasks wait for, and which of them are to be looked at.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "store/dependency_store.h"
#include "store/rows.h"
#include "worker/wakeup.h"

void
store_dependency_insert(const pg_uuid_t *task_id, const pg_uuid_t *depends_on)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.task_dependency (task_id, depends_on) VALUES ($1, $2)"
	" ON CONFLICT DO NOTHING"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id), arg_uuid(depends_on)));
}

/*
 * What waits for a task.  A dependant that was created after the transaction's
 * snapshot must be among them: whoever created it could not see that the task
 * would be finished here.
 */
UuidList
store_dependants(const pg_uuid_t *depends_on)
{
	static StorePlan plan = {.sql = "SELECT task_id FROM coord.task_dependency WHERE depends_on = $1 ORDER BY task_id"};
	ScanKeyData key;

	rows_key_uuid(&key, 1, depends_on);
	if (!rows_exist("task_dependency", "task_dependency_pkey", 1, &key, GetLatestSnapshot()))
		return (UuidList) {0, NULL};
	store_run_latest(&plan, STORE_ARGS(arg_uuid(depends_on)));
	return store_uuids();
}

/* What a task waits for still, by now. */
UuidList
store_dependencies(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "SELECT depends_on FROM coord.task_dependency WHERE task_id = $1 ORDER BY depends_on"};

	store_run_latest(&plan, STORE_ARGS(arg_uuid(task_id)));
	return store_uuids();
}

/* A locked task does not wait for that one any more. */
void
store_dependency_drop(const pg_uuid_t *task_id, const pg_uuid_t *depends_on)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.task_dependency WHERE depends_on = $2 AND task_id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id), arg_uuid(depends_on)));
}

/* A locked task waits for nothing any more. */
void
store_dependencies_forget(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.task_dependency WHERE task_id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
}

/*
 * A check may be written, by what is read from now on: until the end of the transaction
 * nothing that is cancelled meanwhile is purged.
 */
void
store_check_begin(void)
{
	(void) rows_open("dependency_check", RowExclusiveLock);
}

/* Have the sweep look at what a blocked task waits for, when a task is finished next. */
void
store_check_keep(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.dependency_check (task_id) VALUES ($1)"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
}

/* The same, at once. */
void
store_check_insert(const pg_uuid_t *task_id)
{
	store_check_keep(task_id);
	coord_due_at(JOB_CHECKS, COORD_DUE_NOW);
}

/* Tasks that have a check, in the order of their ids, after that one. */
UuidList
store_checks(const pg_uuid_t *after, int limit)
{
	static StorePlan plan = {.sql = "SELECT DISTINCT task_id FROM coord.dependency_check WHERE task_id > $1"
	" AND NOT (task_id = ANY ($3)) ORDER BY task_id LIMIT $2"};

	store_run(&plan, STORE_ARGS(arg_uuid(after), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

void
store_check_done(const pg_uuid_t *task_id)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.dependency_check WHERE ctid = ANY (ARRAY("
	" SELECT ctid FROM coord.dependency_check WHERE task_id = $1 FOR UPDATE SKIP LOCKED))"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id)));
}
