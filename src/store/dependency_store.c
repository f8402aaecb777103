/*
 * dependency_store.c
 *		What tasks wait for, and which of them are to be looked at.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "store/dependency_store.h"
#include "store/partition.h"
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
 * What waits for a task, in the order of ids, after that one; "limit" at most, and whether
 * there is more.  A dependant that was created after the transaction's snapshot must be
 * among them: whoever created it could not see that the task would be finished here.
 */
UuidList
store_dependants(const pg_uuid_t *depends_on, const pg_uuid_t *after, int limit, bool *more)
{
	static StorePlan plan = {.sql = "SELECT task_id FROM coord.task_dependency WHERE depends_on = $1 AND task_id > $2"
	" ORDER BY task_id LIMIT $3"};
	UuidList	found = {0, NULL};
	ScanKeyData keys[2];

	rows_key_uuid(&keys[0], 1, depends_on);
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_UUID_GT, UUIDPGetDatum(after));
	*more = rows_exist("task_dependency", "task_dependency_pkey", 2, keys, GetLatestSnapshot());
	if (!*more || limit == 0)
		return found;
	store_run_latest(&plan, STORE_ARGS(arg_uuid(depends_on), arg_uuid(after), arg_int8((int64) limit + 1)));
	found = store_uuids();
	*more = found.n > limit;
	found.n = Min(found.n, limit);
	return found;
}

/* Whether a task waits for another one still, by now. */
bool
store_waits_for(const pg_uuid_t *task_id, const pg_uuid_t *depends_on)
{
	ScanKeyData keys[2];

	rows_key_uuid(&keys[0], 1, depends_on);
	rows_key_uuid(&keys[1], 2, task_id);
	return rows_exist("task_dependency", "task_dependency_pkey", 2, keys, GetLatestSnapshot());
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

/* ---- dependants that are put off, for the sweep, by who has finished what they wait for ---- */

/* Whether that can be: there is nowhere to keep it in schema 1.0. */
bool
store_can_put_off(void)
{
	return OidIsValid(get_relname_relid("dependant_check", get_namespace_oid("coord", false)));
}

/* Have the sweep deal with the dependants of a finished task, after that one. */
void
store_put_off_dependants(const pg_uuid_t *task_id, const pg_uuid_t *after)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.dependant_check (depends_on, after_task) VALUES ($1, $2)"};

	store_run(&plan, STORE_ARGS(arg_uuid(task_id), arg_uuid(after)));
	coord_due_at(JOB_DEPENDANTS, COORD_DUE_NOW);
}

/* Finished tasks whose dependants are put off, in the order of their ids, after that one. */
UuidList
store_tasks_put_off(const pg_uuid_t *after, int limit)
{
	static StorePlan plan = {.sql = "SELECT DISTINCT depends_on FROM coord.dependant_check WHERE depends_on > $1"
	" AND NOT (depends_on = ANY ($3)) ORDER BY depends_on LIMIT $2"};

	if (!store_can_put_off())
		return (UuidList) {0, NULL};
	store_run(&plan, STORE_ARGS(arg_uuid(after), arg_int4(limit), arg_set_aside()));
	return store_uuids();
}

/*
 * The dependants of a finished task are dealt with now, by this transaction; in *after, from
 * where on.  False when another transaction does it.
 */
bool
store_take_put_off(const pg_uuid_t *task_id, pg_uuid_t *after)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.dependant_check WHERE ctid = ANY (ARRAY("
		" SELECT ctid FROM coord.dependant_check WHERE depends_on = $1 FOR UPDATE SKIP LOCKED))"
	" RETURNING after_task"};
	int			n = (int) store_run(&plan, STORE_ARGS(arg_uuid(task_id)));

	for (int i = 0; i < n; i++)
	{
		const pg_uuid_t *from = store_uuid(i, 1);

		if (i == 0 || memcmp(from, after, sizeof(pg_uuid_t)) < 0)
			*after = *from;
	}
	return n > 0;
}

/* ---- finished tasks that are to stay ---- */

/*
 * What is gone counts as completed, so a cancelled task is to stay until all that wait for it
 * have been cancelled as well.  Those of which the sweep has yet to decide that have a check,
 * or are put off.  Nor is any task to go whose dependants are put off: its id might be used
 * again.
 */
#define IS_PUT_OFF "id IN (SELECT depends_on FROM coord.dependant_check)"
#define IS_AWAITED \
	"(" IS_PUT_OFF " OR (state = 'cancelled' AND id IN (" \
	" SELECT depends_on FROM coord.dependency_check JOIN coord.task_dependency USING (task_id))))"

/*
 * Whether there is one in a partition, which nobody else can use any more: it is looked for
 * from what is put off and checked, mostly nothing.
 */
bool
store_has_awaited(const char *partition)
{
	/* one by one from these, whatever the planner believes of their number */
	return store_run_once_latest(psprintf(
		"SELECT FROM coord.dependant_check c"
		" CROSS JOIN LATERAL (SELECT FROM coord.%s WHERE id = c.depends_on OFFSET 0) f UNION ALL"
		" SELECT FROM coord.dependency_check c"
		" CROSS JOIN LATERAL (SELECT depends_on FROM coord.task_dependency WHERE task_id = c.task_id OFFSET 0) d"
		" CROSS JOIN LATERAL (SELECT FROM coord.%s WHERE id = d.depends_on AND state = 'cancelled' OFFSET 0) f"
		" LIMIT 1", partition, partition)) > 0;
}

/* Whether all checks of what has been cancelled by now can be seen. */
bool
store_sees_checks(void)
{
	return !IsolationUsesXactSnapshot() && store_partition_is_unwritten("dependency_check") &&
		store_partition_is_unwritten("dependant_check");
}

/* The condition of those of task_finished that may go, as far as can be seen. */
const char *
store_not_awaited(void)
{
	return store_sees_checks() ? "NOT " IS_AWAITED : "state <> 'cancelled' AND NOT " IS_PUT_OFF;
}
