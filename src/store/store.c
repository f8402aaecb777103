/*
 * store.c
 *		Running kept plans as the stored relations' owner.
 *
 * coord's functions are not SECURITY DEFINER: the C code must know who calls,
 * and switches to the owner only around its own statements.  While they run,
 * search_path is pinned, so that no name in a statement can mean an object of
 * the caller's; and sequential scans are not planned where an index
 * serves, since plans are kept while relations grow from nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension_d.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "store/rows.h"
#include "store/store.h"

#define MAX_ARGS 32

static Oid	caller = InvalidOid;
static const UuidList *set_aside = NULL;

/* the innermost open one; after an error it points nowhere until the next is opened */
static StoreScope *current_scope = NULL;

/* A relation that tells whose the extension is. */
static Oid
anchor_relation(void)
{
	Oid			nspid = get_namespace_oid("coord", true);

	return OidIsValid(nspid) ? get_relname_relid("task_live", nspid) : InvalidOid;
}

/*
 * Keep the extension from being dropped until the end of the transaction; false
 * when there is none.  DROP EXTENSION locks the extension before its relations,
 * so this also keeps a sweep from deadlocking with it.  Who waits for the lock may
 * find another extension: one transaction has dropped it and created it anew.  From
 * PostgreSQL 18 on that comes without waiting, too, as the oid is from a cache that is
 * told after the worker is.
 */
bool
store_hold_extension(void)
{
	Oid			extension = get_extension_oid("coord", true);

	while (OidIsValid(extension))
	{
		Oid			locked = extension;

		LockDatabaseObject(ExtensionRelationId, locked, 0, AccessShareLock);
		extension = get_extension_oid("coord", true);
		if (extension == locked)
			return true;
		UnlockDatabaseObject(ExtensionRelationId, locked, 0, AccessShareLock);
	}
	return false;
}

/* Whose the extension is. */
Oid
store_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(anchor_relation()));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"coord\" is not installed in this database")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
set_for_scope(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Open a scope.  An error inside needs no store_close(): the end of the
 * (sub)transaction restores the user and the settings, and ends SPI.
 *
 * Error in a parallel operation, where a function of the caller's that is wrongly marked as
 * safe may have called us: nothing of what the process leaves behind would be undone.
 */
void
store_open(StoreScope *scope)
{
	Oid			owner;

	PreventCommandIfParallelMode("a function of coord");
	AcceptInvalidationMessages();	/* a right that is no more does not last longer in an open transaction */
	owner = store_owner();
	scope->outer_caller = caller;
	caller = GetUserId();
	scope->connected = false;
	scope->outer = current_scope;
	scope->context = CurrentMemoryContext;
	scope->ntables = 0;
	current_scope = scope;
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(owner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	CommandCounterIncrement();	/* what the caller has done before is visible */
}

/*
 * Before the first statement of a scope, or anything else that may call functions by
 * name: what reaches rows directly does not need it.
 */
void
store_pin_settings(void)
{
	StoreScope *scope = current_scope;
	MemoryContext old;

	if (scope->connected)
		return;
	old = MemoryContextSwitchTo(scope->context);	/* where SPI_finish() will go back to */
	SPI_connect();
	MemoryContextSwitchTo(old);
	scope->guc_level = NewGUCNestLevel();
	set_for_scope("search_path", "pg_catalog, pg_temp");
	set_for_scope("enable_seqscan", "off");
	set_for_scope("jit", "off");
	scope->connected = true;
}

void
store_close(StoreScope *scope)
{
	rows_close_all(scope);
	if (scope->connected)
	{
		AtEOXact_GUC(true, scope->guc_level);
		SPI_finish();
	}
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
	current_scope = scope->outer;
	caller = scope->outer_caller;
}

/* The innermost scope that is open. */
StoreScope *
store_scope(void)
{
	return current_scope;
}

/* Who called, before the scope was opened. */
Oid
store_caller(void)
{
	return caller;
}

ArrayType *
store_uuid_array(const UuidList *list)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(list->n, 1));

	for (int i = 0; i < list->n; i++)
		elements[i] = UUIDPGetDatum(&list->ids[i]);
	return construct_array(elements, list->n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/*
 * Have the sweep pass over these items (agents, leases and tasks, by id), until
 * the next call.  The list is the caller's and stays in place.
 */
void
store_set_aside(const UuidList *items)
{
	set_aside = items;
}

bool
store_is_set_aside(const pg_uuid_t *item)
{
	for (int i = 0; set_aside != NULL && i < set_aside->n; i++)
	{
		if (memcmp(&set_aside->ids[i], item, sizeof(pg_uuid_t)) == 0)
			return true;
	}
	return false;
}

StoreArg
arg_set_aside(void)
{
	static const UuidList none = {0, NULL};

	return arg_uuids(set_aside != NULL ? set_aside : &none);
}

static void
prepare(StorePlan *plan, int nargs, const StoreArg *args)
{
	Oid			types[MAX_ARGS];
	SPIPlanPtr	made;

	for (int i = 0; i < nargs; i++)
		types[i] = args[i].type;
	made = SPI_prepare(plan->sql, nargs, types);
	if (made == NULL || SPI_keepplan(made) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", plan->sql, SPI_result_code_string(SPI_result));
	plan->plan = made;
}

/* Free what the last statement gave; all that is kept of it has been copied. */
static void
free_last_result(void)
{
	if (SPI_tuptable != NULL)
		SPI_freetuptable(SPI_tuptable);
	SPI_tuptable = NULL;
}

/* The arguments of a statement as SPI takes them. */
static void
split_args(int nargs, const StoreArg *args, Datum *values, char *nulls)
{
	Assert(nargs <= MAX_ARGS);
	for (int i = 0; i < nargs; i++)
	{
		values[i] = args[i].value;
		nulls[i] = args[i].isnull ? 'n' : ' ';
	}
}

/* Make a statement ready to be run. */
static void
bind_args(StorePlan *plan, int nargs, const StoreArg *args, Datum *values, char *nulls)
{
	store_pin_settings();
	if (plan->plan == NULL)
		prepare(plan, nargs, args);
	split_args(nargs, args, values, nulls);
	free_last_result();
}

/* How many rows a statement gave, or touched. */
static uint64
count_of(const char *sql, int result)
{
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
	return SPI_processed;
}

/* Run a statement and return how many rows it gave, or touched. */
uint64
store_run(StorePlan *plan, int nargs, const StoreArg *args)
{
	Datum		values[MAX_ARGS];
	char		nulls[MAX_ARGS];

	bind_args(plan, nargs, args, values, nulls);
	return count_of(plan->sql, SPI_execute_plan(plan->plan, values, nulls, false, 0));
}

/*
 * The same, for a statement that only reads and must see what has been committed
 * by now, whatever the transaction's snapshot is.
 */
uint64
store_run_latest(StorePlan *plan, int nargs, const StoreArg *args)
{
	Datum		values[MAX_ARGS];
	char		nulls[MAX_ARGS];

	bind_args(plan, nargs, args, values, nulls);
	return count_of(plan->sql, SPI_execute_snapshot(plan->plan, values, nulls, GetLatestSnapshot(),
													InvalidSnapshot, true, false, 0));
}

/* The same, for a statement that only reads, with the snapshot of the caller's statement. */
uint64
store_run_within(StorePlan *plan, int nargs, const StoreArg *args)
{
	Datum		values[MAX_ARGS];
	char		nulls[MAX_ARGS];

	bind_args(plan, nargs, args, values, nulls);
	return count_of(plan->sql, SPI_execute_plan(plan->plan, values, nulls, true, 0));
}

/* Run a statement whose text was made for this call, and plan it for these arguments. */
uint64
store_run_once(const char *sql, int nargs, const StoreArg *args)
{
	Oid			types[MAX_ARGS];
	Datum		values[MAX_ARGS];
	char		nulls[MAX_ARGS];

	store_pin_settings();
	split_args(nargs, args, values, nulls);
	for (int i = 0; i < nargs; i++)
		types[i] = args[i].type;
	free_last_result();
	return count_of(sql, SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0));
}

/* A statement's arguments as a list of parameters. */
static ParamListInfo
param_list(int nargs, const StoreArg *args)
{
	ParamListInfo params = makeParamList(nargs);

	for (int i = 0; i < nargs; i++)
		params->params[i] = (ParamExternData) {args[i].value, args[i].isnull, PARAM_FLAG_CONST, args[i].type};
	return params;
}

/* As store_run(), but the rows go to "rows", one by one. */
uint64
store_run_to(DestReceiver *rows, StorePlan *plan, int nargs, const StoreArg *args)
{
	SPIExecuteOptions options = {.params = param_list(nargs, args),.dest = rows};

	store_pin_settings();
	if (plan->plan == NULL)
		prepare(plan, nargs, args);
	free_last_result();
	return count_of(plan->sql, SPI_execute_plan_extended(plan->plan, &options));
}

/* As store_run_once(), but the rows go to "rows", one by one. */
uint64
store_run_once_to(DestReceiver *rows, const char *sql, int nargs, const StoreArg *args)
{
	SPIExecuteOptions options = {.params = param_list(nargs, args),.dest = rows};

	store_pin_settings();
	free_last_result();
	return count_of(sql, SPI_execute_extended(sql, &options));
}

/* As store_run_once(), for a statement without arguments that only reads and must see what has been committed by now. */
uint64
store_run_once_latest(const char *sql)
{
	SPIPlanPtr	plan;
	uint64		n;

	store_pin_settings();
	free_last_result();
	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	n = count_of(sql, SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false, 0));
	SPI_freeplan(plan);
	return n;
}

/* A column of the last result; columns count from 1, rows from 0. */
Datum
store_value(uint64 row, int column, bool *isnull)
{
	Assert(row < SPI_processed);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* NULL for NULL */
pg_uuid_t *
store_uuid(uint64 row, int column)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);
	pg_uuid_t  *copy;

	if (isnull)
		return NULL;
	copy = palloc(sizeof(pg_uuid_t));
	memcpy(copy, DatumGetUUIDP(value), sizeof(pg_uuid_t));
	return copy;
}

/* NULL for NULL */
char *
store_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

TimestampTz
store_time(uint64 row, int column, TimestampTz if_null)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(value);
}

int64
store_int8(uint64 row, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);

	return isnull ? if_null : DatumGetInt64(value);
}

int32
store_int4(uint64 row, int column, int32 if_null)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);

	return isnull ? if_null : DatumGetInt32(value);
}

bool
store_bool(uint64 row, int column)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

Oid
store_oid(uint64 row, int column)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

/* of a ctid */
ItemPointerData
store_place(uint64 row, int column)
{
	bool		isnull;

	return *(ItemPointer) DatumGetPointer(store_value(row, column, &isnull));
}

/* microseconds */
int64
store_interval(uint64 row, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);
	int64		usec;

	if (isnull || !coord_interval_to_usec(DatumGetIntervalP(value), &usec))
		return if_null;
	return usec;
}

/* The last result's first column. */
UuidList
store_uuids(void)
{
	UuidList	list;

	list.n = (int) SPI_processed;
	list.ids = palloc(sizeof(pg_uuid_t) * Max(list.n, 1));
	for (int i = 0; i < list.n; i++)
	{
		bool		isnull;

		memcpy(&list.ids[i], DatumGetUUIDP(store_value(i, 1, &isnull)), sizeof(pg_uuid_t));
	}
	return list;
}

/* A column that is an array of uuids; NULL is an empty one. */
UuidList
store_uuids_of_array(uint64 row, int column)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);
	UuidList	list = {0, NULL};
	Datum	   *elements;

	if (isnull)
		return list;
	deconstruct_array(DatumGetArrayTypeP(value), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elements, NULL, &list.n);
	list.ids = palloc(sizeof(pg_uuid_t) * Max(list.n, 1));
	for (int i = 0; i < list.n; i++)
		list.ids[i] = *DatumGetUUIDP(elements[i]);
	return list;
}

/* The last result's first column, of texts. */
List *
store_texts(void)
{
	List	   *list = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
		list = lappend(list, store_text(i, 1));
	return list;
}

/* A column that is an array of texts; NULL is an empty one. */
List *
store_text_array(uint64 row, int column)
{
	bool		isnull;
	Datum		value = store_value(row, column, &isnull);
	Datum	   *elements;
	int			n;
	List	   *list = NIL;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	for (int i = 0; i < n; i++)
		list = lappend(list, TextDatumGetCString(elements[i]));
	return list;
}

/* The last result's first column, of bigints that are not null, as an array. */
ArrayType *
store_int8_array(void)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(SPI_processed, 1));

	for (uint64 i = 0; i < SPI_processed; i++)
		elements[i] = Int64GetDatum(store_int8(i, 1, 0));
	return construct_array(elements, (int) SPI_processed, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}
