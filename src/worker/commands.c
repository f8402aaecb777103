/*
 * commands.c
 *		Commands that the workers have to know of.
 *
 * Some need that nobody else is connected to a database (DROP, RENAME, CREATE …
 * TEMPLATE): its worker is ended and held until their transaction is over.  Some
 * write stored rows without coord's functions (a restore's COPY or INSERT), or make visible
 * what another session wrote (COMMIT PREPARED).  Some create a database, or the
 * extension, or drop it.  And while ALTER EXTENSION UPDATE or DROP EXTENSION run, no batch
 * does, since the two would lock relations in different orders.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension_d.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "committing.h"
#include "worker/commands.h"
#include "worker/prepared.h"
#include "worker/restore.h"
#include "worker/shared.h"
#include "worker/wakeup.h"

static List *xact_holds = NIL;	/* databases whose workers are held until its end */

static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static object_access_hook_type prev_object_access = NULL;
static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;

/* Hold a database's worker until the end of the transaction. */
static void
hold_worker(Oid dbid)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	xact_holds = lappend_oid(xact_holds, dbid);
	MemoryContextSwitchTo(old);
	if (!coord_hold_worker(dbid))
		xact_holds = list_delete_last(xact_holds);
}

/* Let the workers go that this transaction holds, but for those that it held when there were so many. */
static void
unhold_workers(int but)
{
	while (list_length(xact_holds) > but)
	{
		coord_unhold_worker(llast_oid(xact_holds));
		xact_holds = list_delete_last(xact_holds);
	}
}

static void
at_xact_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	unhold_workers(0);
	coord_prepared_at_xact_end(event == XACT_EVENT_PREPARE);
}

/* Whether an extension that is being created or dropped is another one: no matter to us. */
static bool
is_other_extension(Oid extension)
{
	Oid			coord = get_extension_oid("coord", true);

	return OidIsValid(coord) && coord != extension;
}

static void
on_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);
	if (classId == ExtensionRelationId && (access == OAT_POST_CREATE || access == OAT_DROP) &&
		!is_other_extension(objectId))
	{
		coord_prepared_concerns_us();
		coord_look_into(MyDatabaseId);
	}
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

		return option != NULL && option->arg != NULL ? defGetString(option) : "template1";
	}
	return NULL;
}

/*
 * Whether the command may do that to a database: else it will fail, and must not end
 * the worker before.
 */
static bool
may_have_database(Node *command, Oid dbid)
{
	HeapTuple	tuple;
	bool		result = false;

	if (coord_owns_database(dbid))
		return true;
	if (!IsA(command, CreatedbStmt))
		return false;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dbid));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		result = result && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Wait for the worker's batch to end, and let none begin before this transaction's end. */
static void
hold_batches_of_update(Node *command)
{
	Oid			extension;

	if (!IsA(command, AlterExtensionStmt) || strcmp(((AlterExtensionStmt *) command)->extname, "coord") != 0)
		return;
	extension = get_extension_oid("coord", true);
	if (OidIsValid(extension) && coord_owns_extension(extension))
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessExclusiveLock);
}

/* The relations that callers lock, whatever they do with the extension. */
static List *
relations_of_coord(void)
{
	Oid			nspid = get_namespace_oid("coord", true);
	Relation	rel = table_open(RelationRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	List	   *relations = NIL;
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);

		if (class->relnamespace == nspid && strchr("rpvS", class->relkind) != NULL)
			relations = lappend_oid(relations, class->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return relations;
}

/*
 * Lock all relations, or none and say in *busy which one could not be had.
 */
static bool
lock_all(List *relations, Oid *busy)
{
	ListCell   *cell;

	foreach(cell, relations)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessExclusiveLock))
		{
			*busy = lfirst_oid(cell);
			for (int i = 0; i < foreach_current_index(cell); i++)
				UnlockRelationOid(list_nth_oid(relations, i), AccessExclusiveLock);
			return false;
		}
	}
	return true;
}

/*
 * Before the extension is dropped, have all its relations locked.  DROP EXTENSION would
 * lock one after the other, in an order that has nothing to do with that in which
 * callers do, and end in a deadlock with them.  Here nothing is held while waiting, but
 * the extension, which keeps the worker's batches from beginning.
 */
static void
lock_for_drop(Node *command)
{
	DropStmt   *drop = (DropStmt *) command;
	bool		ours = false;
	Oid			extension;
	Oid			busy;
	ListCell   *cell;

	if (!IsA(command, DropStmt) || drop->removeType != OBJECT_EXTENSION)
		return;
	foreach(cell, drop->objects)
		ours |= strcmp(strVal(lfirst(cell)), "coord") == 0;
	extension = ours ? get_extension_oid("coord", true) : InvalidOid;
	if (!OidIsValid(extension) || !coord_owns_extension(extension))
		return;

	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessExclusiveLock);
	while (!lock_all(relations_of_coord(), &busy))
	{
		CHECK_FOR_INTERRUPTS();
		LockRelationOid(busy, AccessExclusiveLock);
		UnlockRelationOid(busy, AccessExclusiveLock);
	}
}

/*
 * An INSERT into a stored relation by a session that restores (pg_dump --inserts).  Not
 * one of a function, as coord's own are: its text is not the client's.
 */
static void
on_query(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
	if (query->commandType == CMD_INSERT && pstate->p_sourcetext == debug_query_string &&
		coord_may_fill(rt_fetch(query->resultRelation, query->rtable)->relid))
	{
		coord_restore_begins();
		coord_restore_at_work(true);
		coord_restore_at_work(false);
	}
}

/* What is to be done after a utility command, read off before it may be freed. */
typedef struct AfterUtility
{
	char	   *database;		/* was created or changed; NULL: none */
	bool		filled;			/* by COPY, whatever relation */
	bool		filled_store;	/* a restore has written stored rows */
	char	   *ended_gid;		/* of a prepared transaction; NULL: none */
	bool		ended_prepared;	/* one that may have used coord */
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

		after.filled = copy->is_from;
		after.filled_store = copy->is_from && copy->relation != NULL &&
			copy->relation->schemaname != NULL && strcmp(copy->relation->schemaname, "coord") == 0;
	}
	else if (IsA(command, TransactionStmt))
	{
		TransactionStmt *statement = (TransactionStmt *) command;

		if (statement->kind == TRANS_STMT_COMMIT_PREPARED || statement->kind == TRANS_STMT_ROLLBACK_PREPARED)
		{
			after.ended_gid = pstrdup(statement->gid);
			after.ended_prepared = coord_prepared_may_be_ours(statement->gid);
		}
		else if (statement->kind == TRANS_STMT_PREPARE)
			coord_prepared_as(statement->gid);
	}
	return after;
}

static void
do_after_utility(const AfterUtility *after)
{
	bool		ended_ours = after->ended_prepared;

	if (after->database != NULL)
		coord_look_into(get_database_oid(after->database, true));
	if (after->ended_gid != NULL)
	{
		/* it may have been another one's by then, which was prepared anew under that identifier */
		ended_ours |= coord_prepared_may_be_ours(after->ended_gid);
		coord_prepared_ended(after->ended_gid);
	}
	if (after->filled_store || ended_ours)
		coord_all_due();
	if (ended_ours)
	{
		coord_look_into(MyDatabaseId);
		coord_tell_now();		/* that transaction has ended, this one is only the command's */
	}
}

/* The command itself.  When it fails, what was noted for its time is over. */
static void
run_command(const AfterUtility *after, int held_before, PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	if (after->filled)
		coord_restore_at_work(true);
	if (after->ended_prepared)
		coord_commits_events(0);	/* until this command's own transaction ends */
	PG_TRY();
	{
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_CATCH();
	{
		if (after->filled)
			coord_restore_at_work(false);
		if (after->ended_prepared)
			coord_events_are_told();
		unhold_workers(held_before);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (after->filled)
		coord_restore_at_work(false);
}

static void
on_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
		   ProcessUtilityContext context, ParamListInfo params,
		   QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	AfterUtility after = plan_after_utility(pstmt->utilityStmt);
	const char *name = exclusive_database(pstmt->utilityStmt);
	Oid			dbid = name != NULL ? get_database_oid(name, true) : InvalidOid;
	int			held_before = list_length(xact_holds);

	if (OidIsValid(dbid) && (dbid != MyDatabaseId || IsA(pstmt->utilityStmt, CreatedbStmt)) &&
		may_have_database(pstmt->utilityStmt, dbid))
		hold_worker(dbid);
	hold_batches_of_update(pstmt->utilityStmt);
	lock_for_drop(pstmt->utilityStmt);
	if (after.filled_store && coord_may_fill(RangeVarGetRelid(((CopyStmt *) pstmt->utilityStmt)->relation, NoLock, true)))
		coord_restore_begins();
	run_command(&after, held_before, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	do_after_utility(&after);
}

/* While the library is being preloaded. */
void
coord_commands_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	prev_object_access = object_access_hook;
	object_access_hook = on_object_access;
	prev_ProcessUtility = ProcessUtility_hook != NULL ? ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = on_utility;
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = on_query;
}
