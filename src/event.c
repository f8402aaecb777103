/*
 * event.c
 *		Events: sending, listening and delivery.
 *
 * NOTIFY takes a lock on the whole cluster from commit until the commit is
 * flushed, so a sender never notifies: it adds its event to the inbox, and its
 * commit wakes the worker, which gives committed events their position and
 * notifies for many of them in one transaction.  One transaction at a time does
 * so, and positions become visible at its commit: a reader that goes on from
 * the last position it saw misses nothing, however late a sender commits.
 *
 * Without a worker the readers give the positions, and notify.
 */
#include "postgres.h"

#include "commands/async.h"
#include "common/base64.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "agent.h"
#include "args.h"
#include "clock.h"
#include "event.h"
#include "locks.h"
#include "store/event_store.h"
#include "store/store.h"
#include "uuid7.h"
#include "worker/shared.h"

#define MAX_LISTED_EVENTS 10000

/* events that a reader without a worker delivers at once */
#define READER_BATCH 10000

/*
 * Names of NOTIFY channels, which have room for 63 bytes.  A channel of ours
 * that is too long is named by the hash of its text; the prefixes keep the
 * kinds apart, so that two never share a name.
 */
#define LISTEN_ALL "coord:all"
#define LISTEN_RECIPIENT "coord:agent:"
#define LISTEN_CHANNEL "coord:channel:"
#define LISTEN_HASHED_CHANNEL "coord:sha256:"

PG_FUNCTION_INFO_V1(coord_event_send);
PG_FUNCTION_INFO_V1(coord_event_listen);
PG_FUNCTION_INFO_V1(coord_event_unlisten);
PG_FUNCTION_INFO_V1(coord_listen_name);
PG_FUNCTION_INFO_V1(coord_event_list);

static const char *check_severity(char *severity);
static const pg_uuid_t *recipient_by_name(Jsonb *payload);
static char *arg_listen_name(FunctionCallInfo fcinfo);
static char *listen_name(const pg_uuid_t *recipient_id, const char *channel);
static char *checked_listen_name(FunctionCallInfo fcinfo);

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
		(void) coord_owned_agent(sender_id);
	if (recipient_id == NULL)
		recipient_id = recipient_by_name(payload);
	else if (store_agent(recipient_id, STORE_NO_LOCK) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("recipient %s does not exist", coord_uuid_str(recipient_id))));

	coord_uuid7(&id);
	row = store_event_insert(&id, type, severity, sender_id, recipient_id, channel, payload, coord_now());
	PG_RETURN_DATUM(store_close_with(&scope, row));
}

/* event_listen(recipient_id, channel) */
Datum
coord_event_listen(PG_FUNCTION_ARGS)
{
	char	   *name = checked_listen_name(fcinfo);

	if (MyBackendType != B_BACKEND)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event_listen needs a client's session")));
	Async_Listen(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* event_unlisten(recipient_id, channel) */
Datum
coord_event_unlisten(PG_FUNCTION_ARGS)
{
	char	   *name = arg_listen_name(fcinfo);

	Async_Unlisten(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* listen_name(recipient_id, channel) */
Datum
coord_listen_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(arg_listen_name(fcinfo)));
}

/* event_list(recipient_id, channel, type, after, max_events) */
Datum
coord_event_list(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *recipient_id = coord_arg_uuid_or_null(fcinfo, 0);
	char	   *channel = coord_arg_name_or_null(fcinfo, 1, "channel");
	char	   *type = coord_arg_name_or_null(fcinfo, 2, "type");
	int64		after = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
	int			max_events = coord_arg_int_between(fcinfo, 4, "max_events", 100, 1, MAX_LISTED_EVENTS);
	StoreScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	if (recipient_id != NULL)
		(void) coord_owned_agent(recipient_id);
	if (store_events_waiting())
	{
		if (coord_worker_runs())
			coord_wait_for_delivery();
		else if (!XactReadOnly)
		{
			while (coord_events_deliver(READER_BATCH) == READER_BATCH)
				CHECK_FOR_INTERRUPTS();
		}
	}
	store_event_list(fcinfo, recipient_id, channel, type, after, max_events, store_caller());
	store_close(&scope);
	return (Datum) 0;
}

/*
 * Give up to "limit" committed events their positions and notify their
 * listeners, at the end of this transaction.  Returns how many, or -1 when
 * another transaction is delivering.
 */
int
coord_events_deliver(int limit)
{
	EventHead  *heads;
	int			n;

	if (!store_events_waiting())
		return 0;
	if (!coord_try_lock_delivery())
		return -1;

	n = store_events_take(limit, &heads);
	for (int i = 0; i < n; i++)
	{
		if (heads[i].recipient_id != NULL)
			Async_Notify(listen_name(heads[i].recipient_id, NULL), heads[i].notice);
		if (heads[i].channel != NULL)
			Async_Notify(listen_name(NULL, heads[i].channel), heads[i].notice);
		if (heads[i].recipient_id == NULL && heads[i].channel == NULL)
			Async_Notify(LISTEN_ALL, heads[i].notice);
	}
	return n;
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
			 errmsg("\"%s\" is not a severity", severity),
			 errhint("Severities are debug, info, warning, error and critical.")));
}

/* The agent that is named by payload.to, if there is one. */
static const pg_uuid_t *
recipient_by_name(Jsonb *payload)
{
	JsonbValue *to = NULL;
	AgentRow   *agent;
	char	   *name;

	if (JB_ROOT_IS_OBJECT(payload))
		to = getKeyJsonValueFromContainer(&payload->root, "to", 2, NULL);
	if (to == NULL || to->type != jbvString)
		return NULL;

	name = pnstrdup(to->val.string.val, to->val.string.len);
	agent = store_agent_named(name);
	if (agent == NULL)
	{
		ereport(NOTICE,
				(errmsg("no agent is named \"%s\"; the event has no recipient", name)));
		return NULL;
	}
	return &agent->id;
}

/* The NOTIFY name for a recipient, a channel, or (neither) events to everyone. */
static char *
listen_name(const pg_uuid_t *recipient_id, const char *channel)
{
	if (recipient_id != NULL)
		return psprintf(LISTEN_RECIPIENT "%s", coord_uuid_str(recipient_id));
	if (channel == NULL)
		return pstrdup(LISTEN_ALL);
	return coord_notify_name(LISTEN_CHANNEL, LISTEN_HASHED_CHANNEL, channel);
}

/* A NOTIFY name: the text after a prefix or, if that is too long, its hash after another. */
char *
coord_notify_name(const char *prefix, const char *hash_prefix, const char *text)
{
	bytea	   *hash;
	char		encoded[64];
	int			len;

	if (strlen(prefix) + strlen(text) < NAMEDATALEN)
		return psprintf("%s%s", prefix, text);

	/* base64url without padding: 43 characters */
	hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(text)));
	len = pg_b64_encode(VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash), encoded, sizeof(encoded));
	encoded[len - 1] = '\0';
	for (char *c = encoded; *c != '\0'; c++)
	{
		if (*c == '+')
			*c = '-';
		else if (*c == '/')
			*c = '_';
	}
	return psprintf("%s%s", hash_prefix, encoded);
}

static char *
arg_listen_name(FunctionCallInfo fcinfo)
{
	pg_uuid_t  *recipient_id = coord_arg_uuid_or_null(fcinfo, 0);
	char	   *channel = coord_arg_name_or_null(fcinfo, 1, "channel");

	if (recipient_id != NULL && channel != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("recipient_id and channel have a name each"),
				 errhint("Call once with recipient_id and once with channel.")));
	return listen_name(recipient_id, channel);
}

/* The same, when the caller may read what the recipient is told. */
static char *
checked_listen_name(FunctionCallInfo fcinfo)
{
	char	   *name = arg_listen_name(fcinfo);
	StoreScope	scope;

	if (!PG_ARGISNULL(0))
	{
		store_open(&scope);
		(void) coord_owned_agent(PG_GETARG_UUID_P(0));
		store_close(&scope);
	}
	return name;
}
