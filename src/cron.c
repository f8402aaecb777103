/*
 * cron.c
 *		Recurring tasks, and upkeep where there is no worker: by pg_cron.
 *
 * A schedule is a job of pg_cron's and nothing else: coord keeps no list of its own.  The
 * job's command creates the task, as the role that has scheduled it.  Its name tells pg_cron
 * which of the role's jobs it is, in whatever database of the cluster, and in 63 bytes, so
 * that what is longer is hashed.
 *
 * Unless it may overlap, the task has a unique key that is the schedule's own: while the last
 * one has not finished, no other comes into being.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database_d.h"
#include "commands/dbcommands.h"
#include "common/string.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/syscache.h"

#include "args.h"
#include "compat.h"
#include "cron/session.h"
#include "errors.h"
#include "event_listen.h"
#include "locks.h"
#include "rights.h"
#include "store/store.h"
#include "task.h"

#define TASK_JOB "coord:task:"
#define UPKEEP_JOB "coord:upkeep:"
#define SCHEDULE_KEY "schedule:"

/* the longest name that pg_cron does not cut, and the longest unique key */
#define MAX_JOB_NAME (NAMEDATALEN - 1)
#define MAX_KEY 512

/* how each of coord's commands begins, by which its runs are found in cron.job_run_details */
#define MARK "/* coord */ "

/* a run that could not begin, as its role was not let in, has no times: it is as old as those around it */
#define IS_OLD_RUN \
	"coalesce(end_time, start_time) OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) interval '1 day')"

#define EVERY_MINUTE "* * * * *"
#define EVERY_10_SECONDS "10 seconds"
#define EVERY_HOUR "17 * * * *"

PG_FUNCTION_INFO_V1(coord_task_schedule);
PG_FUNCTION_INFO_V1(coord_task_unschedule);
PG_FUNCTION_INFO_V1(coord_cron_install);
PG_FUNCTION_INFO_V1(coord_cron_remove);

static char *create_command(const TaskSpec *spec);
static char *schedule_key(const char *name);
static char *job_name(const char *prefix, const char *name);
static void check_role(void);
static void check_execute(const char *signature);
static int64 schedule(const char *prefix, const char *name, const char *when, const char *argument,
					  const char *command, const char *database);
static bool unschedule(const char *prefix, const char *name);

/* task_schedule(name, schedule, type, payload, queue, priority, max_attempts, resource_key, overlap) */
Datum
coord_task_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = coord_arg_name(fcinfo, 0, "name");
	char	   *when = coord_arg_name(fcinfo, 1, "schedule");
	TaskSpec	spec = {
		.type = coord_arg_name(fcinfo, 2, "type"),
		.payload = coord_arg_payload(fcinfo, 3, "payload"),
		.queue = coord_arg_name_or_null(fcinfo, 4, "queue"),
		.priority = PG_ARGISNULL(5) ? 0 : PG_GETARG_INT32(5),
		.max_attempts = coord_arg_int_between(fcinfo, 6, "max_attempts", 0, 1, COORD_MAX_ATTEMPTS),
		.resource_key = coord_arg_name_or_null(fcinfo, 7, "resource_key"),
		.unique_key = !PG_ARGISNULL(8) && PG_GETARG_BOOL(8) ? NULL : schedule_key(name),
	};
	StoreScope	scope;

	if (spec.queue == NULL)
		spec.queue = "default";
	store_open(&scope);
	coord_check_queue(store_caller(), spec.queue, COORD_CREATE);
	store_close(&scope);

	check_role();
	PreventCommandDuringRecovery("task_schedule");
	PreventCommandIfReadOnly("task_schedule");
	PG_RETURN_INT64(schedule(TASK_JOB, name, when, "schedule", create_command(&spec), NULL));
}

/* task_unschedule(name) */
Datum
coord_task_unschedule(PG_FUNCTION_ARGS)
{
	char	   *name = coord_arg_name(fcinfo, 0, "name");

	PreventCommandDuringRecovery("task_unschedule");
	PreventCommandIfReadOnly("task_unschedule");
	PG_RETURN_BOOL(unschedule(TASK_JOB, name));
}

/* cron_install(sweep_schedule, purge_schedule) */
Datum
coord_cron_install(PG_FUNCTION_ARGS)
{
	char	   *sweep_schedule = coord_arg_name_or_null(fcinfo, 0, "sweep_schedule");
	char	   *purge_schedule = coord_arg_name_or_null(fcinfo, 1, "purge_schedule");
	CronRequest seconds = {.action = CRON_KNOWS_SECONDS};
	int64		sweep;
	int64		purge;
	int64		trim;

	check_role();
	check_execute("coord.sweep()");
	check_execute("coord.purge(pg_catalog.interval)");
	PreventCommandDuringRecovery("cron_install");
	PreventCommandIfReadOnly("cron_install");

	if (sweep_schedule == NULL)
		sweep_schedule = coord_cron_ask(&seconds) ? EVERY_10_SECONDS : EVERY_MINUTE;
	sweep = schedule(UPKEEP_JOB, "sweep", sweep_schedule, "sweep_schedule", MARK "SELECT coord.sweep()", NULL);
	purge = schedule(UPKEEP_JOB, "purge", purge_schedule != NULL ? purge_schedule : EVERY_HOUR, "purge_schedule",
					 MARK "SELECT coord.purge()", NULL);
	/* pg_cron notes each run, and forgets none */
	trim = schedule(UPKEEP_JOB, "trim", EVERY_HOUR, NULL,
					MARK "DELETE FROM cron.job_run_details WHERE pg_catalog.starts_with(command, '" MARK "') AND ("
					IS_OLD_RUN " OR coalesce(end_time, start_time) IS NULL AND runid OPERATOR(pg_catalog.<) "
					"(SELECT pg_catalog.max(runid) FROM cron.job_run_details WHERE " IS_OLD_RUN "))",
					coord_cron_database());
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf(
		"{\"sweep\": " INT64_FORMAT ", \"purge\": " INT64_FORMAT ", \"trim\": " INT64_FORMAT "}", sweep, purge, trim)));
}

/* cron_remove() */
Datum
coord_cron_remove(PG_FUNCTION_ARGS pg_attribute_unused())
{
	static const char *const jobs[] = {"sweep", "purge", "trim"};
	int			n = 0;

	PreventCommandDuringRecovery("cron_remove");
	PreventCommandIfReadOnly("cron_remove");
	for (size_t i = 0; i < lengthof(jobs); i++)
		n += unschedule(UPKEEP_JOB, jobs[i]) ? 1 : 0;
	PG_RETURN_INT32(n);
}

/* A literal in ASCII, which is the same in every encoding. */
static char *
ascii_literal(const char *value)
{
	const unsigned char *c = (const unsigned char *) pg_server_to_any(value, (int) strlen(value), PG_UTF8);
	StringInfoData literal;

	initStringInfo(&literal);
	appendStringInfoString(&literal, "E'");
	for (; *c != '\0'; c += pg_utf_mblen(c))
	{
		if (*c >= 0x80)
			appendStringInfo(&literal, "\\U%08X", (unsigned int) utf8_to_unicode(c));
		else if (*c == '\'' || *c == '\\')
			appendStringInfo(&literal, "%c%c", *c, *c);
		else
			appendStringInfoChar(&literal, (char) *c);
	}
	appendStringInfoChar(&literal, '\'');
	return literal.data;
}

/*
 * A value as a literal of the command.  pg_cron keeps the command in its own database's
 * encoding, and its background workers run it here as it is there.
 */
static char *
literal_of(const char *value)
{
	if (pg_is_ascii(value) || GetDatabaseEncoding() == PG_SQL_ASCII || coord_cron_encoding() == GetDatabaseEncoding())
		return quote_literal_cstr(value);
	return ascii_literal(value);
}

static void
add_text(StringInfo command, const char *name, const char *value)
{
	if (value != NULL)
		appendStringInfo(command, ", %s => %s", name, literal_of(value));
}

static void
add_integer(StringInfo command, const char *name, int value)
{
	if (value != 0)
		appendStringInfo(command, ", %s => %d", name, value);
}

/* The command that creates the task.  What it does not say is the queue's at each run. */
static char *
create_command(const TaskSpec *spec)
{
	StringInfoData command;

	initStringInfo(&command);
	appendStringInfo(&command, MARK "SELECT id FROM coord.task_create(type => %s", literal_of(spec->type));
	add_text(&command, "payload", JsonbToCString(NULL, &spec->payload->root, VARSIZE(spec->payload)));
	add_text(&command, "queue", spec->queue);
	add_integer(&command, "priority", spec->priority);
	add_integer(&command, "max_attempts", spec->max_attempts);
	add_text(&command, "unique_key", spec->unique_key);
	add_text(&command, "resource_key", spec->resource_key);
	appendStringInfoChar(&command, ')');
	return command.data;
}

/*
 * A name that belongs to an owner: no two, of whatever owners, make the same.  It is hashed
 * if it has more bytes than that, or would not be unambiguous; a hash follows a colon, and no
 * owner's name is empty.
 */
static char *
owned_name(const char *prefix, const char *owner, const char *name, size_t max)
{
	if (strlen(prefix) + strlen(owner) + 1 + strlen(name) <= max && strchr(owner, ':') == NULL)
		return psprintf("%s%s:%s", prefix, owner, name);
	return coord_hashed_name(psprintf("%s:", prefix), psprintf("%zu:%s:%s", strlen(owner), owner, name));
}

/* The unique key of a schedule's tasks: each role has schedules of its own. */
static char *
schedule_key(const char *name)
{
	return owned_name(SCHEDULE_KEY, GetUserNameFromId(GetUserId(), false), name, MAX_KEY);
}

/*
 * The name of a job: a role has jobs in several databases.  pg_cron's database may have another encoding,
 * in which the name could be longer.
 */
static char *
job_name(const char *prefix, const char *name)
{
	char	   *database = get_database_name(MyDatabaseId);

	return owned_name(prefix, database, name, pg_is_ascii(database) && pg_is_ascii(name) ? MAX_JOB_NAME : 0);
}

/* Error unless pg_cron can connect as the current user, who the job's runs are. */
static void
check_role(void)
{
	char	   *role = GetUserNameFromId(GetUserId(), false);
	char	   *database = get_database_name(MyDatabaseId);
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		can_login = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!can_login)
		coord_error_pg_cron_right(psprintf("It runs jobs as the role that schedules them, and role \"%s\" may not log in.",
										   role),
								  psprintf("Run: ALTER ROLE %s LOGIN, or schedule as another role.",
										   quote_identifier(role)));
	if (!coord_may_connect(MyDatabaseId, GetUserId()))
		coord_error_pg_cron_right(psprintf("It runs jobs as the role that schedules them, and role \"%s\" has no CONNECT on "
										   "database \"%s\".", role, database),
								  psprintf("Run: GRANT CONNECT ON DATABASE %s TO %s", quote_identifier(database),
										   quote_identifier(role)));
}

/* Error unless the current user may call a function that his job is to call. */
static void
check_execute(const char *signature)
{
	char	   *role = GetUserNameFromId(GetUserId(), false);

	if (!DatumGetBool(DirectFunctionCall2(has_function_privilege_name, CStringGetTextDatum(signature),
										  CStringGetTextDatum("EXECUTE"))))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", signature),
				 errdetail("The job would run as role \"%s\".", role)));
}

static void
lock_job(const char *job, const char *name)
{
	if (!coord_try_lock_schedule(GetUserId(), job))
		coord_error_schedule_busy(name);
}

/*
 * Have a job of the current user in pg_cron, in place of the one of that name if there is
 * one.  "argument" is what the schedule is called to the caller; NULL for the database is
 * this one.
 */
static int64
schedule(const char *prefix, const char *name, const char *when, const char *argument, const char *command,
		 const char *database)
{
	CronRequest request = {
		.action = CRON_SCHEDULE,
		.job = job_name(prefix, name),
		.schedule = pstrdup(when),
		.command = pstrdup(command),
		.database = database != NULL ? pstrdup(database) : get_database_name(MyDatabaseId),
	};
	volatile int64 job_id = 0;

	(void) coord_cron_database();	/* if there is none, say that first */
	lock_job(request.job, name);
	PG_TRY();
	{
		job_id = coord_cron_ask(&request);
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_INVALID_PARAMETER_VALUE && argument != NULL)
			coord_errargument(argument);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return job_id;
}

/* Take a job of the current user away; false when there is none of that name. */
static bool
unschedule(const char *prefix, const char *name)
{
	CronRequest request = {.action = CRON_UNSCHEDULE, .job = job_name(prefix, name)};

	(void) coord_cron_database();
	lock_job(request.job, name);
	return coord_cron_ask(&request) != 0;
}
