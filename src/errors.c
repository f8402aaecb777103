/*
 * errors.c
 *		The errors of the contract, each raised in one place: a message that
 *		names the thing, a detail that gives its state, and a hint where there
 *		is something to do.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "miscadmin.h"

#include "errors.h"
#include "uuid7.h"

ErrorFacts	coord_error_facts;

/* Note which argument is bad. */
int
coord_errargument(const char *name)
{
	int			len = pg_mbcliplen(name, strlen(name), NAMEDATALEN - 1);

	memcpy(coord_error_facts.argument, name, len);
	coord_error_facts.argument[len] = '\0';
	return 0;
}

/* Note what it should have been; the text must outlive the error. */
int
coord_errexpected(const char *expected)
{
	coord_error_facts.expected = expected;
	return 0;
}

/* Note a code of JSON-RPC. */
int
coord_errfault(int code)
{
	coord_error_facts.fault = code;
	return 0;
}

/* Note that the caller has lost what he held, or has never held it. */
static int
errlost(void)
{
	coord_error_facts.lost = true;
	return 0;
}

/* Note who holds what the caller wants. */
static int
errholder(const pg_uuid_t *agent_id, TimestampTz until)
{
	coord_error_facts.held = true;
	coord_error_facts.holder = *agent_id;
	coord_error_facts.until = until;
	return 0;
}

/* What the transaction's snapshot shows has changed since: the transaction is to be tried again. */
void
coord_error_serialization(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

void
coord_error_no_agent(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("agent %s does not exist", coord_uuid_str(id)),
			 errhint("Register it with coord.agent_register.")));
}

void
coord_error_no_lease(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("lease %s does not exist", coord_uuid_str(id))));
}

void
coord_error_no_task(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("task %s does not exist", coord_uuid_str(id))));
}

void
coord_error_no_queue(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("queue \"%s\" does not exist", name),
			 errhint("A queue comes into being with its first task, or by coord.queue_set.")));
}

void
coord_error_task_claimed(const pg_uuid_t *id, const pg_uuid_t *agent_id, TimestampTz until)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errholder(agent_id, until),
			 errmsg("task %s is already claimed", coord_uuid_str(id)),
			 errdetail("It is claimed by agent %s until %s.",
					   coord_uuid_str(agent_id), timestamptz_to_str(until))));
}

void
coord_error_task_busy(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("task %s is being changed by another transaction", coord_uuid_str(id)),
			 errhint("Try again when that transaction has ended.")));
}

void
coord_error_resource_held(const char *resource_key, const pg_uuid_t *agent_id, TimestampTz until)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errholder(agent_id, until),
			 errmsg("resource \"%s\" is held", resource_key),
			 errdetail("It is held by agent %s until %s.",
					   coord_uuid_str(agent_id), timestamptz_to_str(until))));
}

void
coord_error_resource_busy(const char *resource_key)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("resource \"%s\" is being changed by another transaction", resource_key),
			 errhint("Try again when that transaction has ended.")));
}

void
coord_error_name_busy(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("%s \"%s\" is being created by another transaction", what, name),
			 errhint("Try again when that transaction has ended.")));
}

void
coord_error_agent_busy(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("agent \"%s\" is being changed by another transaction", name),
			 errhint("Try again when that transaction has ended.")));
}

void
coord_error_queue_busy(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("queue \"%s\" is being changed by another transaction", name),
			 errhint("Try again when that transaction has ended.")));
}

void
coord_error_schedule_busy(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("schedule \"%s\" is being changed by another transaction", name),
			 errhint("Try again when that transaction has ended.")));
}

void
coord_error_queue_full(const char *name, int max_claimed)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("queue \"%s\" has as many claimed tasks as it may have", name),
			 errdetail("Its max_claimed is %d.", max_claimed)));
}

void
coord_error_stale_token(const pg_uuid_t *task_id, int64 token, const char *state)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errlost(),
			 errmsg("fencing token " INT64_FORMAT " does not hold task %s",
					token, coord_uuid_str(task_id)),
			 errdetail("The task is %s.", state),
			 errhint("The claim was lost; stop working on the task.")));
}

void
coord_error_claim_ran_out(const pg_uuid_t *task_id, TimestampTz since, bool agent_inactive)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errlost(),
			 errmsg("the claim on task %s has run out", coord_uuid_str(task_id)),
			 agent_inactive ?
			 errdetail("Its agent became inactive at %s.", timestamptz_to_str(since)) :
			 errdetail("Its lease expired at %s.", timestamptz_to_str(since)),
			 errhint("The claim was lost; stop working on the task.")));
}

void
coord_error_lease_ended(const pg_uuid_t *id, const char *how)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errlost(),
			 errmsg("lease %s is no longer active", coord_uuid_str(id)),
			 errdetail("It %s.", how),
			 errhint("Acquire the resource again.")));
}

void
coord_error_stale_resource_token(const char *resource_key, int64 token, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errlost(),
			 errmsg("fencing token " INT64_FORMAT " does not hold resource \"%s\"",
					token, resource_key),
			 errdetail("%s", detail)));
}

void
coord_error_agent_not_active(const char *name, const char *status, TimestampTz since)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("agent \"%s\" is %s", name, status),
			 errdetail("It has been so since %s.", timestamptz_to_str(since)),
			 strcmp(status, "retired") == 0 ?
			 errhint("Register it again with coord.agent_register.") :
			 errhint("Call coord.agent_heartbeat first.")));
}

void
coord_error_not_preloaded(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s needs coord in shared_preload_libraries", what),
			 errhint("Add coord to shared_preload_libraries, and restart the server.")));
}

/* Something of pg_cron is missing. */
void
coord_error_no_pg_cron(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("schedules need pg_cron, which is not available"),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

void
coord_error_task_state(const pg_uuid_t *id, const char *state, const char *verb)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("task %s cannot be %s", coord_uuid_str(id), verb),
			 errdetail("The task is %s.", state)));
}

void
coord_error_dependency_cycle(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("task %s depends on itself", coord_uuid_str(id)),
			 errdetail("Following depends_on from it leads back to it.")));
}

void
coord_error_not_owner(const char *agent_name, Oid owner)
{
	char	   *name = GetUserNameFromId(owner, true);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for agent \"%s\"", agent_name),
			 name != NULL ? errdetail("It belongs to role \"%s\".", name) :
			 errdetail("It belongs to a role that was dropped.")));
}

/* A role has no right to something of pg_cron. */
void
coord_error_pg_cron_right(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for pg_cron"),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

void
coord_error_queue_right(const char *queue, Oid role, const char *verb)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for queue \"%s\"", queue),
			 errdetail("Role \"%s\" may not %s.", GetUserNameFromId(role, false), verb),
			 errhint("coord.grant_agent gives the right to it.")));
}

void
coord_error_task_right(const pg_uuid_t *id, Oid role)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for task %s", coord_uuid_str(id)),
			 errdetail("Role \"%s\" has no right to its queue.", GetUserNameFromId(role, false)),
			 errhint("coord.grant_agent gives the right to it.")));
}

/* A role has as many of something as a setting allows it. */
void
coord_error_limit(const char *what, Oid role, const char *setting, int limit, const char *remedy)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many %s", what),
			 errdetail("Role \"%s\" may have %d.", GetUserNameFromId(role, false), limit),
			 errhint("%s %s, for this role or for all.", remedy, setting)));
}

/* Shared memory has no room for one more, or none for one more of the role. */
void
coord_error_full(const char *what, const char *setting)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many %s", what),
			 errdetail("They are as many as %s allows, or the role has its coord.max_share_per_role of them.", setting),
			 errhint("Raise %s, and restart the server.", setting)));
}
