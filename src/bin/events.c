/*
 * events.c
 *		Events that are addressed to the agent, passed on to its client.
 *
 * Only the old era of MCP has a notification for it that belongs to no request: a log
 * message.  A notification of the server is no more than the word that there is
 * something; the events are read from the log, after the position of the last one that
 * was passed on.  So none is missed or doubled, whatever happens to the connection.
 *
 * What an agent got before its bridge started is in its inbox, and is not told again.
 */
#include "postgres_fe.h"

#include "connection.h"
#include "events.h"
#include "identity.h"
#include "lines.h"
#include "log.h"

/* So many in one query. */
#define MAX_EVENTS 100
#define MAX_EVENTS_TEXT "100"

/* MCP's levels of log messages; coord's severities are among them. */
static const char *const levels[] = {
	"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"
};

static bool ready;				/* the client wants messages */
static int	min_level;
static char channel[64];		/* of LISTEN on this connection */
static bool at_start;			/* past events are still to be passed over */
static bool seen_any_start;		/* position is known */
static bool pending;			/* there may be events after position */
static char position[24] = "0"; /* of the last one passed on */

static void listening(void *arg, const QueryResult *result);
static void fetch(void);
static void fetched(void *arg, const QueryResult *result);
static int	level_number(const char *name);
static void pass_on(const char *severity, const char *event);

/* The client has sent notifications/initialized. */
void
events_client_is_ready(void)
{
	ready = true;
}

/* The client has set the level of the messages that it wants. */
void
events_set_level(Json level)
{
	char	   *name = json_string(level);

	if (name != NULL && level_number(name) >= 0)
		min_level = level_number(name);
	free(name);
}

static int
level_number(const char *name)
{
	for (int i = 0; i < (int) lengthof(levels); i++)
	{
		if (strcmp(levels[i], name) == 0)
			return i;
	}
	return -1;
}

/* The agent is registered; a new one has no past. */
void
events_registered(bool is_new)
{
	if (!seen_any_start)
	{
		seen_any_start = true;
		at_start = !is_new;
	}
	else if (is_new)
		strlcpy(position, "0", sizeof(position));	/* another database, or one that was emptied */
	pending = true;
}

void
events_connection_lost(void)
{
	channel[0] = '\0';
}

/* True when the notification was for us. */
bool
events_notified(const char *name)
{
	if (channel[0] == '\0' || strcmp(name, channel) != 0)
		return false;
	pending = true;
	return true;
}

/* Send what is to be sent; false when nothing is. */
bool
events_step(void)
{
	if (!identity_is_registered())
		return false;
	if (at_start)
	{
		fetch();
		return true;
	}
	if (!ready)
		return false;
	if (channel[0] == '\0')
	{
		const char *params[] = {identity_agent_id()};

		connection_query("SELECT coord.event_listen($1)", lengthof(params), params, listening, NULL);
		return true;
	}
	if (!pending)
		return false;
	fetch();
	return true;
}

static void
listening(void *arg pg_attribute_unused(), const QueryResult *result)
{
	if (result->lost)
		return;
	if (result->sqlstate != NULL)
	{
		log_warning("cannot listen for events, which will not be passed on: %s", result->message);
		ready = false;
		return;
	}
	strlcpy(channel, PQgetvalue(result->rows, 0, 0), sizeof(channel));
	pending = true;
}

/* Read the events after the position. */
static void
fetch(void)
{
	const char *params[] = {identity_agent_id(), position};

	pending = false;			/* unless another one comes meanwhile */
	connection_query("SELECT e.position, e.severity, pg_catalog.json_build_object('id', e.id, 'position', "
					 "CASE WHEN e.position < 9007199254740992 THEN pg_catalog.to_json(e.position) "
					 "ELSE pg_catalog.to_json(e.position::pg_catalog.text) END, "
					 "'type', e.type, 'severity', e.severity, 'sender_id', e.sender_id, 'channel', e.channel, "
					 "'payload', e.payload, 'created_at', e.created_at) "
					 "FROM coord.event_list(recipient_id => $1, after => $2, max_events => " MAX_EVENTS_TEXT ") e",
					 lengthof(params), params, fetched, NULL);
}

static void
fetched(void *arg pg_attribute_unused(), const QueryResult *result)
{
	int			n;

	if (result->lost)
	{
		pending = true;
		return;
	}
	if (result->sqlstate != NULL)
	{
		/* the next event, or the next connection, tries again */
		log_warning("could not read events: %s", result->message);
		at_start = false;
		return;
	}

	n = PQntuples(result->rows);
	for (int i = 0; i < n; i++)
	{
		strlcpy(position, PQgetvalue(result->rows, i, 0), sizeof(position));
		if (!at_start)
			pass_on(PQgetvalue(result->rows, i, 1), PQgetvalue(result->rows, i, 2));
	}
	if (n == MAX_EVENTS)
		pending = true;
	else
		at_start = false;
}

static void
pass_on(const char *severity, const char *event)
{
	StringInfoData buf;

	if (level_number(severity) < min_level)
		return;
	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"jsonrpc\": \"2.0\", \"method\": \"notifications/message\", \"params\": "
					 "{\"level\": \"%s\", \"logger\": \"coord\", \"data\": %s}}", severity, event);
	lines_put(buf.data, buf.len);
	pfree(buf.data);
}
