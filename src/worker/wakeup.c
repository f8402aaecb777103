/*
 * wakeup.c
 *		What a transaction leaves for the worker, told at its commit.
 *
 * A transaction remembers the earliest deadline that it wrote, and whether it
 * left anything to be done at once.  At its commit, when others can see what it
 * wrote, it sets the worker's latch if the worker would sleep too long.  What a
 * rolled-back subtransaction left only wakes the worker for nothing.
 *
 * Some commands do not come by here and are seen by a hook on utility commands:
 * COMMIT PREPARED, COPY into the stored relations (a restore), and commands that
 * create, drop or copy a database.  CREATE and DROP EXTENSION are seen by the
 * hook on object access.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension_d.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"

#include "compat.h"
#include "worker/shared.h"
#include "worker/wakeup.h"
#include "worker/worker.h"

static TimestampTz xact_deadline = DT_NOEND;
static bool xact_finished_task = false;
static Oid	xact_look_into = InvalidOid;	/* a database that may need a worker */
static List *xact_holds = NIL;	/* databases whose workers are held until its end */

static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static object_access_hook_type prev_object_access = NULL;

/* At the commit, the worker must not sleep beyond "deadline". */
void
coord_wake_at(TimestampTz deadline)
{
	xact_deadline = Min(xact_deadline, deadline);
}

/* At the commit, there is something for the worker to do. */
void
coord_wake(void)
{
	xact_deadline = DT_NOBEGIN;
}

/* At the commit, there is if the worker keeps dependency checks. */
void
coord_wake_if_checks_wait(void)
{
	xact_finished_task = true;
}

static void
wake_worker(void)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);

	if (db == NULL)
		return;
	if (xact_finished_task && pg_atomic_read_u32(&db->checks_wait))
		xact_deadline = DT_NOBEGIN;
	if (coord_lower_deadline(db, xact_deadline) && !pg_atomic_read_u32(&db->busy))
	{
		LWLockAcquire(coord_shared->lock, LW_SHARED);
		if (db->dbid == MyDatabaseId && db->pid != 0)
			SetLatch(db->latch);
		LWLockRelease(coord_shared->lock);
	}
}

/* The worker keeps dependency checks, or is about to look at some. */
void
coord_keep_checks(bool keep)
{
	CoordDatabase *db;

	if (coord_is_worker() && (db = coord_find_database(MyDatabaseId)) != NULL)
	{
		pg_atomic_write_u32(&db->checks_wait, keep);
		pg_memory_barrier();
	}
}

/* Hold a database's worker until the end of the transaction. */
static void
hold_worker(Oid dbid)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	xact_holds = lappend_oid(xact_holds, dbid);
	MemoryContextSwitchTo(old);
	coord_hold_worker(dbid);
}

/* Let the workers go that this transaction holds. */
static void
unhold_workers(void)
{
	ListCell   *cell;

	foreach(cell, xact_holds)
		coord_unhold_worker(lfirst_oid(cell));
	xact_holds = NIL;
}

static void
at_xact_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;

	/* the worker looks after its own batches */
	if (event == XACT_EVENT_COMMIT && coord_shared != NULL && !coord_is_worker())
	{
		if (OidIsValid(xact_look_into))
			coord_want_worker(xact_look_into);
		if (xact_finished_task || xact_deadline != DT_NOEND)
			wake_worker();
	}
	unhold_workers();
	xact_deadline = DT_NOEND;
	xact_finished_task = false;
	xact_look_into = InvalidOid;
}

static void
on_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);
	if (classId == ExtensionRelationId && (access == OAT_POST_CREATE || access == OAT_DROP))
		xact_look_into = MyDatabaseId;
}

static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

/* The name of the database that a command needs for itself, or NULL. */
static const char *
exclusive_database(Node *command)
{
	if (IsA(command, DropdbStmt))
		return ((DropdbStmt *) command)->dbname;
	if (IsA(command, RenameStmt) && ((RenameStmt *) command)->renameType == OBJECT_DATABASE)
		return ((RenameStmt *) command)->subname;
	if (IsA(command, AlterDatabaseStmt) && find_option(((AlterDatabaseStmt *) command)->options, "tablespace"))
		return ((AlterDatabaseStmt *) command)->dbname;
	if (IsA(command, CreatedbStmt))
	{
		DefElem    *option = find_option(((CreatedbStmt *) command)->options, "template");

		return option != NULL && option->arg != NULL ? strVal(option->arg) : NULL;
	}
	return NULL;
}

/* What is to be done after a utility command, read off before it may be freed. */
typedef struct AfterUtility
{
	char	   *database;		/* was created or changed; NULL: none */
	bool		filled_store;	/* a restore has written stored rows */
	bool		committed_prepared;
} AfterUtility;

static AfterUtility
plan_after_utility(Node *command)
{
	AfterUtility after = {0};

	if (IsA(command, CreatedbStmt))
		after.database = pstrdup(((CreatedbStmt *) command)->dbname);
	else if (IsA(command, AlterDatabaseStmt))
		after.database = pstrdup(((AlterDatabaseStmt *) command)->dbname);
	else if (IsA(command, CopyStmt))
	{
		CopyStmt   *copy = (CopyStmt *) command;

		after.filled_store = copy->is_from && copy->relation != NULL &&
			copy->relation->schemaname != NULL && strcmp(copy->relation->schemaname, "coord") == 0;
	}
	else if (IsA(command, TransactionStmt))
		after.committed_prepared = ((TransactionStmt *) command)->kind == TRANS_STMT_COMMIT_PREPARED;
	return after;
}

static void
do_after_utility(const AfterUtility *after)
{
	if (after->database != NULL)
		xact_look_into = get_database_oid(after->database, true);
	if (after->filled_store || after->committed_prepared)
		coord_wake();
	if (after->committed_prepared)
		wake_worker();			/* that transaction has ended, this one is only the command's */
}

static void
on_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
		   ProcessUtilityContext context, ParamListInfo params,
		   QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type run = prev_ProcessUtility ? prev_ProcessUtility : standard_ProcessUtility;
	AfterUtility after = plan_after_utility(pstmt->utilityStmt);
	const char *name = exclusive_database(pstmt->utilityStmt);
	Oid			dbid = name != NULL ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(dbid) && dbid != MyDatabaseId && coord_owns_database(dbid))
		hold_worker(dbid);
	PG_TRY();
	{
		run(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_CATCH();
	{
		unhold_workers();
		PG_RE_THROW();
	}
	PG_END_TRY();
	do_after_utility(&after);
}

/* At library load; the hooks only when it is preloaded. */
void
coord_wakeup_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_object_access = object_access_hook;
	object_access_hook = on_object_access;
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
}
