/*
 * identity.c
 *		The agent that the client is.
 *
 * It is registered when the first request needs it, because only then is the client's
 * name known; after each reconnect, since the agent may have become inactive; and when a
 * heartbeat is refused because it was retired.  By its name it is the same agent each
 * time.  The heartbeats are the bridge's: a model sends none, and may think for longer
 * than any timeout.
 *
 * The agent is not attached to the connection (coord.agent_attach), which would end it
 * at once whenever the connection is lost, and give away what it is working on.
 */
#include "postgres_fe.h"

#include <unistd.h>

#include "connection.h"
#include "identity.h"
#include "log.h"
#include "timer.h"

#define MAX_NAME 512
#define MAX_CLIENT_INFO 8192
#define RETRY_DELAY 1000
#define MAX_RETRY_DELAY 30000

static const char *given_name;
static const char *type;
static const char *heartbeat_timeout;

static char *name;				/* once the client is known */
static char *metadata;
static bool wanted;
static bool registered;			/* on this connection */
static bool keep;				/* to be registered again on the next one */
static bool checked;			/* that nobody else is active under a given name */
static char agent_id[37];		/* of the first registration */
static int64 heartbeat_period;
static int64 beat_at = TIMER_NEVER;
static int64 retry_at;
static int64 retry_delay = RETRY_DELAY;
static bool beat_failed;		/* the last one */
static void (*retired) (void);

static void check_name(void);
static void name_checked(void *arg, const QueryResult *result);
static void register_agent(void);
static void agent_registered(void *arg, const QueryResult *result);
static void beat(void);
static void has_beaten(void *arg, const QueryResult *result);
static void has_retired(void *arg, const QueryResult *result);

void
identity_init(const char *its_name, const char *its_type, const char *its_heartbeat_timeout)
{
	given_name = its_name;
	type = its_type;
	heartbeat_timeout = its_heartbeat_timeout;
}

/* Learn who the client is, the first time that it says so. */
void
identity_meet_client(Json client_info)
{
	StringInfoData buf;
	char	   *client_name;
	char		host[256] = "";

	if (name != NULL)
		return;

	client_name = json_string(json_member(client_info, "name"));
	if (given_name != NULL)
		name = pg_strdup(given_name);
	else
	{
		size_t		len;

		if (client_name == NULL || client_name[0] == '\0')
		{
			free(client_name);
			client_name = pg_strdup("mcp-client");
		}
		len = strlen(client_name);
		if (len > MAX_NAME - 7)
		{
			len = MAX_NAME - 7;
			while ((client_name[len] & 0xC0) == 0x80)
				len--;			/* between two characters of UTF-8 */
		}
		name = psprintf("%.*s-%06x", (int) len, client_name, timer_random() & 0xFFFFFF);
	}

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	/* what jsonb cannot have, or makes too long, is left out, rather than the agent */
	if (client_name != NULL && client_info.kind == JSON_KIND_OBJECT && client_info.len <= MAX_CLIENT_INFO)
	{
		char	   *text = json_text(client_info);

		if (strstr(text, "\\u") == NULL && !json_has_number(client_info))
			appendStringInfo(&buf, "\"client\": %s, ", text);
		free(text);
	}
	(void) gethostname(host, sizeof(host) - 1);
	appendStringInfoString(&buf, "\"host\": ");
	json_append_string(&buf, host);
	appendStringInfo(&buf, ", \"pid\": %d}", (int) getpid());
	metadata = buf.data;
	free(client_name);
}

/* The agent's id, NULL before it has one. */
const char *
identity_agent_id(void)
{
	return agent_id[0] != '\0' ? agent_id : NULL;
}

bool
identity_is_registered(void)
{
	return registered;
}

/* Is it known who the client is? */
bool
identity_is_known(void)
{
	return name != NULL;
}

/* The next request needs the agent. */
void
identity_want(void)
{
	if (name == NULL)
		identity_meet_client(JSON_NONE);
	wanted = true;
}

/* Is that the id of our agent? */
bool
identity_is_ours(Json id)
{
	return agent_id[0] != '\0' && json_is(id, agent_id);
}

/* Send what is due; false when nothing is. */
bool
identity_step(int64 now)
{
	if (!registered && (wanted || (keep && now >= retry_at)))
	{
		if (given_name != NULL && !checked)
			check_name();
		else
			register_agent();
		return true;
	}
	if (registered && now >= beat_at)
	{
		beat();
		return true;
	}
	return false;
}

int64
identity_due(void)
{
	if (registered)
		return beat_at;
	return keep ? retry_at : TIMER_NEVER;
}

void
identity_connection_lost(void)
{
	registered = false;
	retry_at = 0;
}

/* Is there an agent that is to be registered again? */
bool
identity_is_kept(void)
{
	return keep;
}

/* That somebody else uses the name is worth a warning. */
static void
check_name(void)
{
	const char *params[] = {given_name};

	connection_query("SELECT FROM coord.agent_list(status => 'active', name => $1)",
					 lengthof(params), params, name_checked, NULL);
}

static void
name_checked(void *arg pg_attribute_unused(), const QueryResult *result)
{
	if (result->lost)
		return;
	checked = true;
	if (result->sqlstate == NULL && PQntuples(result->rows) > 0)
		log_warning("agent \"%s\" is active already; whoever else uses this name is the same agent", given_name);
}

static void
register_agent(void)
{
	const char *params[] = {name, type, heartbeat_timeout, metadata};

	connection_query("SELECT a.id, pg_catalog.date_part('epoch', a.heartbeat_timeout), "
					 "a.registered_at >= pg_catalog.statement_timestamp() "
					 "FROM coord.agent_register($1, $2, "
					 "pg_catalog.make_interval(secs => $3::pg_catalog.float8), $4::pg_catalog.jsonb) a",
					 lengthof(params), params, agent_registered, NULL);
}

static void
agent_registered(void *arg pg_attribute_unused(), const QueryResult *result)
{
	bool		is_new;

	if (result->lost)
		return;
	if (result->sqlstate != NULL)
	{
		log_warning("could not register agent \"%s\": %s", name, result->message);
		wanted = false;
		retry_at = timer_now() + timer_jitter(retry_delay);
		retry_delay = Min(retry_delay * 2, MAX_RETRY_DELAY);
		bridge_registration_failed(result->sqlstate, result->message);
		return;
	}

	is_new = PQgetvalue(result->rows, 0, 2)[0] == 't';
	strlcpy(agent_id, PQgetvalue(result->rows, 0, 0), sizeof(agent_id));
	heartbeat_period = Max((int64) (atof(PQgetvalue(result->rows, 0, 1)) * 1000 / 3), 1);
	beat_at = timer_now() + heartbeat_period;
	registered = keep = true;
	wanted = false;
	retry_delay = RETRY_DELAY;
	log_info("registered agent \"%s\" with id %s", name, agent_id);
	bridge_registered(is_new);
}

static void
beat(void)
{
	const char *params[] = {agent_id};

	beat_at = timer_now() + heartbeat_period;
	connection_query("SELECT FROM coord.agent_heartbeat($1)", lengthof(params), params, has_beaten, NULL);
}

static void
has_beaten(void *arg pg_attribute_unused(), const QueryResult *result)
{
	if (result->lost)
		return;
	if (result->sqlstate == NULL)
		beat_failed = false;
	else if (strcmp(result->sqlstate, "55000") == 0 || strcmp(result->sqlstate, "P0002") == 0)
	{
		log_info("agent \"%s\" is no more: %s", name, result->message);
		identity_was_retired();
	}
	else
	{
		log_write(beat_failed ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "a heartbeat failed: %s", result->message);
		beat_failed = true;
		beat_at = timer_now() + Min(heartbeat_period, RETRY_DELAY);
	}
}

/* The agent was retired, by somebody or by the model: it is registered again when it is needed. */
void
identity_was_retired(void)
{
	registered = keep = wanted = false;
}

/* Retire the agent, at the bridge's end; false when there is nothing to be done. */
bool
identity_retire(void (*done) (void))
{
	const char *params[] = {agent_id};

	if (!registered)
		return false;
	retired = done;
	connection_query("SELECT FROM coord.agent_retire($1)", lengthof(params), params, has_retired, NULL);
	return true;
}

static void
has_retired(void *arg pg_attribute_unused(), const QueryResult *result)
{
	if (result->sqlstate != NULL)
		log_warning("could not retire agent \"%s\": %s", name, result->message);
	else
		log_info("retired agent \"%s\"", name);
	registered = keep = false;
	retired();
}
