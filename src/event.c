/*
 * event.c
 *		Events: sending and reading.  Listening is in event_listen.c, and what happens
 *		between sending and reading in delivery.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "agent.h"
#include "args.h"
#include "clock.h"
#include "delivery.h"
#include "errors.h"
#include "quota.h"
#include "store/event_log_store.h"
#include "store/event_store.h"
#include "store/store.h"
#include "uuid7.h"

#define MAX_READ_EVENTS 10000

PG_FUNCTION_INFO_V1(coord_event_send);
PG_FUNCTION_INFO_V1(coord_event_list);
PG_FUNCTION_INFO_V1(coord_event_subscribe);
PG_FUNCTION_INFO_V1(coord_event_unsubscribe);
PG_FUNCTION_INFO_V1(coord_event_poll);
PG_FUNCTION_INFO_V1(coord_event_ack);
PG_FUNCTION_INFO_V1(coord_inbox);

static void add_unacknowledged(FunctionCallInfo fcinfo, const pg_uuid_t *agent_id, int max_events);
static void acknowledge(const pg_uuid_t *agent_id, int64 position, const char *argument);
static const char *check_severity(char *severity);
static const pg_uuid_t *recipient_by_name(Jsonb *payload);

/* event_send(type, payload, recipient_id, channel, severity, sender_id) */
Datum
coord_event_send(PG_FUNCTION_ARGS)
{
	char	   *type = coord_arg_name(fcinfo, 0, "type");
	Jsonb	   *payload = coord_arg_payload(fcinfo, 1, "payload");
	const pg_uuid_t *recipient_id = coord_arg_uuid_or_null(fcinfo, 2);
	char	   *channel = coord_arg_name_or_null(fcinfo, 3, "channel");
	const char *severity = check_severity(coord_arg_name_or_null(fcinfo, 4, "severity"));
	pg_uuid_t  *sender_id = coord_arg_uuid_or_null(fcinfo, 5);
	StoreScope	scope;
	pg_uuid_t	id;
	Datum		row;

	store_open(&scope);
	if (sender_id != NULL)
		(void) coord_kept_agent(sender_id);
	if (recipient_id == NULL)
		recipient_id = recipient_by_name(payload);
	else if (store_agent_keep(recipient_id) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("recipient %s does not exist", coord_uuid_str(recipient_id))));

	coord_uuid7(&id);
	row = store_event_insert(&id, type, severity, sender_id, recipient_id, channel, payload, coord_now());
	PG_RETURN_DATUM(store_close_with(&scope, row));
}

/* event_list(recipient_id, channel, type, after, max_events) */
Datum
coord_event_list(PG_FUNCTION_ARGS)
{
	EventQuery	query = {
		.recipient_id = coord_arg_uuid_or_null(fcinfo, 0),
		.channel = coord_arg_name_or_null(fcinfo, 1, "channel"),
		.type = coord_arg_name_or_null(fcinfo, 2, "type"),
		.after = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3),
		.max_events = coord_arg_int_between(fcinfo, 4, "max_events", 100, 1, MAX_READ_EVENTS),
	};
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	if (query.recipient_id != NULL)
		(void) coord_owned_agent(query.recipient_id);
	coord_await_delivery();
	query.reader = store_caller();
	store_event_list(fcinfo, &query);
	store_close(&scope);
	return (Datum) 0;
}

static Datum
change_subscription(FunctionCallInfo fcinfo, const char *command, bool (*change) (const pg_uuid_t *agent_id, const char *channel))
{
	pg_uuid_t  *agent_id = coord_arg_uuid(fcinfo, 0, "agent_id");
	char	   *channel = coord_arg_name(fcinfo, 1, "channel");
	StoreScope	scope;
	bool		changed;

	PreventCommandIfReadOnly(command);
	store_open(&scope);
	(void) coord_kept_agent(agent_id);
	changed = change(agent_id, channel);
	store_close(&scope);
	PG_RETURN_BOOL(changed);
}

static bool
subscribe(const pg_uuid_t *agent_id, const char *channel)
{
	if (!store_subscribe(agent_id, channel))
		return false;
	coord_check_subscriptions(store_caller(), agent_id);
	return true;
}

/* event_subscribe(agent_id, channel) */
Datum
coord_event_subscribe(PG_FUNCTION_ARGS)
{
	return change_subscription(fcinfo, "event_subscribe", subscribe);
}

/* event_unsubscribe(agent_id, channel) */
Datum
coord_event_unsubscribe(PG_FUNCTION_ARGS)
{
	return change_subscription(fcinfo, "event_unsubscribe", store_unsubscribe);
}

/* event_poll(agent_id, max_events) */
Datum
coord_event_poll(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *agent_id = coord_arg_uuid(fcinfo, 0, "agent_id");
	int			max_events = coord_arg_int_between(fcinfo, 1, "max_events", 100, 1, MAX_READ_EVENTS);
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	(void) coord_owned_agent(agent_id);
	add_unacknowledged(fcinfo, agent_id, max_events);
	store_close(&scope);
	return (Datum) 0;
}

/* event_ack(agent_id, position) */
Datum
coord_event_ack(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *agent_id = coord_arg_uuid(fcinfo, 0, "agent_id");
	int64		position = coord_arg_int64(fcinfo, 1, "position");
	StoreScope	scope;

	PreventCommandIfReadOnly("event_ack");
	store_open(&scope);
	(void) coord_kept_agent(agent_id);
	acknowledge(agent_id, position, "position");
	store_close(&scope);
	PG_RETURN_INT64(position);
}

/* inbox(agent_id, ack, max_events) */
Datum
coord_inbox(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *agent_id = coord_arg_uuid(fcinfo, 0, "agent_id");
	int			max_events = coord_arg_int_between(fcinfo, 2, "max_events", 20, 1, MAX_READ_EVENTS);
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	if (PG_ARGISNULL(1))
		(void) coord_owned_agent(agent_id);
	else
	{
		(void) coord_kept_agent(agent_id);
		acknowledge(agent_id, PG_GETARG_INT64(1), "ack");
	}
	add_unacknowledged(fcinfo, agent_id, max_events);
	store_close(&scope);
	return (Datum) 0;
}

/* Add what an agent has yet to acknowledge to a SETOF result. */
static void
add_unacknowledged(FunctionCallInfo fcinfo, const pg_uuid_t *agent_id, int max_events)
{
	EventQuery	query = {.max_events = max_events,.reader = store_caller()};

	coord_await_delivery();
	query.after = store_event_cursor(agent_id);
	store_event_poll(fcinfo, agent_id, &query);
}

static void
acknowledge(const pg_uuid_t *agent_id, int64 position, const char *argument)
{
	if (IsolationUsesXactSnapshot() && position > store_last_position() && store_log_has_come_to(position))
		coord_error_serialization();
	if (position > store_last_position())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument(argument),
				 errmsg("no event has the position " INT64_FORMAT " yet", position),
				 errdetail("The highest one is not above " INT64_FORMAT ".", store_last_position())));
	if (position < store_event_cursor(agent_id) || !store_event_ack(agent_id, position))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("agent %s is past position " INT64_FORMAT, coord_uuid_str(agent_id), position),
				 errdetail("It has acknowledged, or was registered after, position " INT64_FORMAT ".", store_event_cursor(agent_id)),
				 errhint("If another reader of the agent has acknowledged it, go on after that.")));
}

static const char *
check_severity(char *severity)
{
	static const char *const severities[] = {"debug", "info", "warning", "error", "critical"};

	if (severity == NULL)
		return "info";
	for (size_t i = 0; i < lengthof(severities); i++)
	{
		if (strcmp(severity, severities[i]) == 0)
			return severities[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errargument("severity"),
			 errmsg("\"%s\" is not a severity", severity),
			 errhint("Severities are debug, info, warning, error and critical.")));
}

/* The agent that is named by payload.to, if there is one. */
static const pg_uuid_t *
recipient_by_name(Jsonb *payload)
{
	JsonbValue *to = NULL;
	AgentRow   *agent;
	AgentRow   *kept;
	char	   *name;

	if (JB_ROOT_IS_OBJECT(payload))
		to = getKeyJsonValueFromContainer(&payload->root, "to", 2, NULL);
	if (to == NULL || to->type != jbvString)
		return NULL;

	name = pnstrdup(to->val.string.val, to->val.string.len);
	agent = store_agent_named(name);
	kept = agent != NULL ? store_agent_keep(&agent->id) : NULL;
	if (kept == NULL || strcmp(kept->name, name) != 0)
	{
		ereport(NOTICE,
				(errmsg("no agent is named \"%s\"; the event has no recipient", name)));
		return NULL;
	}
	return &agent->id;
}
