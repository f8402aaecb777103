/*
 * event_listen.c
 *		Who listens for events, and under which names.
 */
#include "postgres.h"

#include "commands/async.h"
#include "common/base64.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "agent.h"
#include "args.h"
#include "characters.h"
#include "event_listen.h"
#include "rights.h"
#include "sequence.h"
#include "store/store.h"
#include "uuid7.h"

/*
 * Names of NOTIFY channels, which have room for 63 bytes.  A channel of ours
 * that is too long is named by the hash of its text; the prefixes keep the
 * kinds apart, so that two never share a name.
 */
#define LISTEN_ALL "coord:all"
#define LISTEN_RECIPIENT "coord:agent:"
#define LISTEN_CHANNEL "coord:channel:"
#define LISTEN_HASHED_CHANNEL "coord:sha256:"

PG_FUNCTION_INFO_V1(coord_event_listen);
PG_FUNCTION_INFO_V1(coord_event_unlisten);
PG_FUNCTION_INFO_V1(coord_listen_name);

static char *arg_listen_name(FunctionCallInfo fcinfo);
static char *listen_name(const pg_uuid_t *recipient_id, const char *channel);
static char *checked_listen_name(FunctionCallInfo fcinfo);

/* event_listen(recipient_id, channel) */
Datum
coord_event_listen(PG_FUNCTION_ARGS)
{
	char	   *name = checked_listen_name(fcinfo);

	PreventCommandDuringRecovery("event_listen");	/* as LISTEN: nobody is notified there */
	coord_check_session("event_listen");
	Async_Listen(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* event_unlisten(recipient_id, channel) */
Datum
coord_event_unlisten(PG_FUNCTION_ARGS)
{
	char	   *name = arg_listen_name(fcinfo);

	coord_check_unrestricted("event_unlisten");
	Async_Unlisten(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* listen_name(recipient_id, channel) */
Datum
coord_listen_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(arg_listen_name(fcinfo)));
}

/* The notification's payload: no name is longer than 512 bytes, 3,072 when escaped, and it stays under 8,000. */
static char *
notice_of(const EventHead *event)
{
	StringInfoData notice;
	const char *quote = coord_needs_digits(event->position) ? "\"" : "";

	initStringInfo(&notice);
	appendStringInfo(&notice, "{\"id\": \"%s\", \"position\": %s" INT64_FORMAT "%s, \"type\": ",
					 coord_uuid_str(event->id), quote, event->position, quote);
	coord_escape_json_ascii(&notice, event->type);
	appendStringInfo(&notice, ", \"severity\": \"%s\", \"recipient_id\": ", event->severity);
	if (event->recipient_id != NULL)
		appendStringInfo(&notice, "\"%s\"", coord_uuid_str(event->recipient_id));
	else
		appendStringInfoString(&notice, "null");
	appendStringInfoString(&notice, ", \"channel\": ");
	if (event->channel != NULL)
		coord_escape_json_ascii(&notice, event->channel);
	else
		appendStringInfoString(&notice, "null");
	appendStringInfoChar(&notice, '}');
	return notice.data;
}

/* Notify who listens for an event, at the end of this transaction. */
void
coord_event_notify(const EventHead *event)
{
	char	   *notice = notice_of(event);

	if (event->recipient_id != NULL)
		Async_Notify(listen_name(event->recipient_id, NULL), notice);
	if (event->channel != NULL)
		Async_Notify(listen_name(NULL, event->channel), notice);
	if (event->recipient_id == NULL && event->channel == NULL)
		Async_Notify(LISTEN_ALL, notice);
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
	if (strlen(prefix) + strlen(text) < NAMEDATALEN)
		return psprintf("%s%s", prefix, text);
	return coord_hashed_name(hash_prefix, text);
}

/* The hash of a text after a prefix: base64url without padding, 43 characters. */
char *
coord_hashed_name(const char *prefix, const char *text)
{
	bytea	   *hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(text)));
	char		encoded[64];
	int			len;

	len = pg_b64_encode((void *) VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash), encoded, sizeof(encoded));
	encoded[len - 1] = '\0';
	for (char *c = encoded; *c != '\0'; c++)
	{
		if (*c == '+')
			*c = '-';
		else if (*c == '/')
			*c = '_';
	}
	return psprintf("%s%s", prefix, encoded);
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
