/*
 * pg_cron.c
 *		Where pg_cron is, what is missing if it is not there, and calls of its functions.
 *
 * pg_cron keeps its jobs in one database of the cluster.  What is here runs in that
 * database, as the role that asks and with no rights but its own: in the caller's session,
 * or in a worker that stands in for it there (session.c, worker.c).
 *
 * A schema "cron" is anybody's who may create one.  So nothing in it is called or read that
 * does not belong to the extension pg_cron, which only a superuser can create.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace_d.h"
#include "catalog/pg_proc.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "cron/pg_cron.h"
#include "errors.h"

#define PG_CRON "pg_cron"
#define SCHEMA "cron"

/* pg_cron's own functions, with the arguments that coord gives them */
typedef struct CronFunction
{
	const char *name;
	const char *signature;
	int			nargs;
	Oid			types[6];
} CronFunction;

static const CronFunction schedule_here = {
	"schedule", "cron.schedule(text, text, text)", 3, {TEXTOID, TEXTOID, TEXTOID}
};
static const CronFunction schedule_elsewhere = {
	"schedule_in_database", "cron.schedule_in_database(text, text, text, text, text, boolean)", 6,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID}
};
static const CronFunction unschedule = {"unschedule", "cron.unschedule(bigint)", 1, {INT8OID}};

static bool is_installed(void);
static void check_extension(void);
static void check_function(const CronFunction *function);
static int64 schedule_job(const CronRequest *request);
static int64 unschedule_job(const CronRequest *request);
static bool knows_seconds(void);

/* The name of pg_cron's database; error when pg_cron is not preloaded. */
const char *
coord_cron_database(void)
{
	int			flags = GetConfigOptionFlags("cron.database_name", true);
	const char *steps = "add pg_cron to shared_preload_libraries, set cron.database_name, restart the server, and run "
		"CREATE EXTENSION pg_cron in that database.";

	/* a value that was set for a library that is not there is a placeholder */
	if (flags == 0 || (flags & GUC_CUSTOM_PLACEHOLDER) != 0)
	{
		if (is_installed())
			coord_error_no_pg_cron("It is not in shared_preload_libraries.", psprintf("A%s", steps + 1));
		coord_error_no_pg_cron("It is not in shared_preload_libraries, nor installed.",
							   psprintf("Install pg_cron 1.4 or newer, %s", steps));
	}
	return GetConfigOption("cron.database_name", false, false);
}

/* The encoding of that database; if there is no such one, of this one. */
int
coord_cron_encoding(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(get_database_oid(coord_cron_database(), true)));
	int			encoding = GetDatabaseEncoding();

	if (!HeapTupleIsValid(tuple))
		return encoding;
	encoding = ((Form_pg_database) GETSTRUCT(tuple))->encoding;
	ReleaseSysCache(tuple);
	return encoding;
}

static void
set_for_request(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Do what is asked for, in pg_cron's database, as the current user. */
int64
coord_cron_perform(const CronRequest *request)
{
	MemoryContext context = CurrentMemoryContext;
	int			guc_level;
	int64		answer = 0;

	check_extension();
	SPI_connect();
	guc_level = NewGUCNestLevel();
	set_for_request("search_path", "pg_catalog, pg_temp");
	set_for_request("row_security", "on");
	set_for_request("lock_timeout", psprintf("%d", request->lock_timeout));
	switch (request->action)
	{
		case CRON_SCHEDULE:
			answer = schedule_job(request);
			break;
		case CRON_UNSCHEDULE:
			answer = unschedule_job(request);
			break;
		case CRON_KNOWS_SECONDS:
			answer = knows_seconds() ? 1 : 0;
			break;
		case CRON_FINISH:
			break;
	}
	AtEOXact_GUC(true, guc_level);
	SPI_finish();
	MemoryContextSwitchTo(context);
	return answer;
}

/* Whether a server administrator has put pg_cron where CREATE EXTENSION finds it. */
static bool
is_installed(void)
{
	bool		found;

	SPI_connect();
	if (SPI_execute("SELECT FROM pg_catalog.pg_available_extensions a WHERE a.name OPERATOR(pg_catalog.=) '" PG_CRON "'",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for extension pg_cron");
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* Error unless the extension is here and the current user may use its schema. */
static void
check_extension(void)
{
	Oid			schema = get_namespace_oid(SCHEMA, true);
	char	   *database = get_database_name(MyDatabaseId);
	char	   *role = GetUserNameFromId(GetUserId(), false);

	if (!OidIsValid(get_extension_oid(PG_CRON, true)) || !OidIsValid(schema))
		coord_error_no_pg_cron(psprintf("Its extension has not been created in database \"%s\", where pg_cron keeps its "
										"jobs (cron.database_name).", database),
							   "Run CREATE EXTENSION pg_cron in that database, as a superuser.");
	if (!coord_may_use_schema(schema, GetUserId()))
		coord_error_pg_cron_right(psprintf("Role \"%s\" has no USAGE on its schema cron, in database \"%s\".",
										   role, database),
								  psprintf("Run in that database: GRANT USAGE ON SCHEMA cron TO %s",
										   quote_identifier(role)));
}

/* Error unless the function is pg_cron's and the current user may call it. */
static void
check_function(const CronFunction *function)
{
	oidvector  *types = buildoidvector(function->types, function->nargs);
	Oid			oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(function->name),
									  PointerGetDatum(types), ObjectIdGetDatum(get_namespace_oid(SCHEMA, false)));
	char	   *role = GetUserNameFromId(GetUserId(), false);

	if (!OidIsValid(oid) || getExtensionOfObject(ProcedureRelationId, oid) != get_extension_oid(PG_CRON, false))
		coord_error_no_pg_cron(psprintf("Its extension in database \"%s\" has no function %s, which came with version 1.4.",
										get_database_name(MyDatabaseId), function->signature),
							   "Run ALTER EXTENSION pg_cron UPDATE in that database, as a superuser.");
	if (!coord_may_execute(oid, GetUserId()))
		coord_error_pg_cron_right(psprintf("Role \"%s\" has no EXECUTE on %s, in database \"%s\".", role,
										   function->signature, get_database_name(MyDatabaseId)),
								  psprintf("Run in that database: GRANT EXECUTE ON FUNCTION %s TO %s", function->signature,
										   quote_identifier(role)));
}

/* Run a statement, whose first "nargs" texts are given. */
static void
run(const char *sql, int nargs, const char *const *args)
{
	Oid			types[4];
	Datum		values[4];
	int			result;

	for (int i = 0; i < nargs; i++)
	{
		types[i] = TEXTOID;
		values[i] = CStringGetTextDatum(args[i]);
	}
	result = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
}

/* A job of that name and the current user that is there is replaced. */
static int64
schedule_job(const CronRequest *request)
{
	bool		here = strcmp(request->database, get_database_name(MyDatabaseId)) == 0;
	const char *const args[] = {request->job, request->schedule, request->command, request->database};
	bool		isnull;

	/* the types are exactly those of the function that was looked at, so it is that one which is called */
	check_function(here ? &schedule_here : &schedule_elsewhere);
	if (here)
		run("SELECT cron.schedule($1, $2, $3)", 3, args);
	else
		run("SELECT cron.schedule_in_database($1, $2, $3, $4, NULL::text, true)", 4, args);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static int64
unschedule_job(const CronRequest *request)
{
	const char *const args[] = {request->job};
	Oid			jobs = get_relname_relid("job", get_namespace_oid(SCHEMA, false));

	check_function(&unschedule);
	if (!OidIsValid(jobs) || getExtensionOfObject(RelationRelationId, jobs) != get_extension_oid(PG_CRON, false))
		elog(ERROR, "relation cron.job is not that of pg_cron");
	run("SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname::text = $1 AND username = current_user", 1, args);
	return (int64) SPI_processed;
}

/*
 * Whether a schedule can be a number of seconds, which is so from version 1.5 on.  The
 * extension was found as it is now, and may have been created after the transaction's snapshot.
 */
static bool
knows_seconds(void)
{
	SPIPlanPtr	plan = SPI_prepare("SELECT extversion FROM pg_extension WHERE extname = '" PG_CRON "'", 0, NULL);
	char	   *version;
	int			major = 0;
	int			minor = 0;

	if (plan == NULL || SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(), InvalidSnapshot,
											 true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the version of pg_cron");
	if (SPI_processed == 0)
		return false;			/* it was dropped just now, as what is asked for next says */
	version = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	(void) sscanf(version, "%d.%d", &major, &minor);
	return major > 1 || (major == 1 && minor >= 5);
}
