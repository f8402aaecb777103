/*
 * rights.c
 *		Who may do what in which queue, and see what in the relations.
 *
 * Which functions a role may call is a matter of privileges, and what it may do to agents
 * one of their owners.  What is here comes from coord.queue_grant and coord.monitor_grant.
 * A role has what it was granted, and what the roles were whose rights it has; grants add
 * up.  A superuser, and the extension's owner, may do everything.
 *
 * What a function needs is checked before it looks at anything else, and locks anything.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "errors.h"
#include "rights.h"
#include "store/rights_store.h"
#include "store/task_store.h"

PG_FUNCTION_INFO_V1(coord_is_granted);
PG_FUNCTION_INFO_V1(coord_is_monitor);
PG_FUNCTION_INFO_V1(coord_sees_payloads);
PG_FUNCTION_INFO_V1(coord_sees_all_queues);
PG_FUNCTION_INFO_V1(coord_seen_queues);
PG_FUNCTION_INFO_V1(coord_shown);

/* Whether no grant and no limit of coord's concerns a role. */
bool
coord_may_everything(Oid role)
{
	return has_privs_of_role(role, store_owner());
}

/* ---- for the views: the current role ---- */

/* is_granted(): whether it was granted anything */
Datum
coord_is_granted(PG_FUNCTION_ARGS pg_attribute_unused())
{
	Oid			role = GetUserId();

	PG_RETURN_BOOL(coord_sees_every_queue(role) || coord_queues(role, COORD_ANY) != NIL);
}

/* is_monitor() */
Datum
coord_is_monitor(PG_FUNCTION_ARGS pg_attribute_unused())
{
	Oid			role = GetUserId();

	PG_RETURN_BOOL(store_is_monitor(role, false) || coord_may_everything(role));
}

/* sees_payloads(): those of events to whatever agent */
Datum
coord_sees_payloads(PG_FUNCTION_ARGS pg_attribute_unused())
{
	Oid			role = GetUserId();

	PG_RETURN_BOOL(store_is_monitor(role, true) || coord_may_everything(role));
}

/* sees_all_queues() */
Datum
coord_sees_all_queues(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_BOOL(coord_sees_every_queue(GetUserId()));
}

/* seen_queues(): those that it has a grant for, by their names */
Datum
coord_seen_queues(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_ARRAYTYPE_P(store_text_array_of(coord_queues(GetUserId(), COORD_ANY)));
}

/* shown(value): that; what for is said where the views are made */
Datum
coord_shown(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/* ---- for the functions ---- */

/* Whether a role has one of these rights to a queue; NULL: to every queue. */
bool
coord_may(Oid role, const char *queue, int rights)
{
	return superuser_arg(role) || store_knows_grant(role, NULL, rights) ||
		(queue != NULL && store_knows_grant(role, queue, rights)) ||
		coord_may_everything(role) || store_has_grant(role, NULL, rights) ||
		(queue != NULL && store_has_grant(role, queue, rights));
}

/* The queues to which a role has one of these rights by a grant for that queue. */
List *
coord_queues(Oid role, int rights)
{
	return store_granted_queues(role, rights);
}

bool
coord_sees_every_queue(Oid role)
{
	return coord_may(role, NULL, COORD_ANY) || store_is_monitor(role, false);
}

bool
coord_sees_queue(Oid role, const char *queue)
{
	return coord_sees_every_queue(role) || store_has_grant(role, queue, COORD_ANY);
}

/* Error unless a role has that right to a queue. */
void
coord_check_queue(Oid role, const char *queue, int right)
{
	if (!coord_may(role, queue, right))
		coord_error_queue_right(queue, role, right == COORD_CREATE ? "create tasks in it" : "claim tasks from it");
}

/*
 * The same of a task's queue, whose name is not told to who does not see it; and error when there
 * is no such task.
 */
void
coord_check_task(Oid role, const pg_uuid_t *task_id, int right)
{
	TaskRow    *task;
	char	   *queue;

	if (coord_may(role, NULL, right))
		return;
	task = store_task(task_id, STORE_NO_LOCK);
	queue = task != NULL ? task->queue : store_task_queue(task_id);
	if (queue == NULL)
		coord_error_no_task(task_id);
	if (!coord_may(role, queue, right) && !coord_sees_queue(role, queue))
		coord_error_task_right(task_id, role);
	coord_check_queue(role, queue, right);
}

/* Error unless a role may change the settings of queues. */
void
coord_check_settings(Oid role, const char *queue)
{
	if (!coord_may(role, NULL, COORD_ANY))
		coord_error_queue_right(queue, role, "change its settings without a grant for every queue");
}

/*
 * Error unless a function may change what the session listens to: not while an operation runs
 * that is restricted, since it calls the functions of a table's owner as another role (ANALYZE,
 * REINDEX, REFRESH).  PostgreSQL says the same of LISTEN.
 */
void
coord_check_unrestricted(const char *function)
{
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s within security-restricted operation", function)));
}

/* The same, and unless it is a client's session. */
void
coord_check_session(const char *function)
{
	if (MyBackendType != B_BACKEND || !IsUnderPostmaster)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s needs a client's session", function)));
	coord_check_unrestricted(function);
}
