/*
 * connection.c
 *		The connection to the server.
 *
 * There is one, with one query in flight.  Nothing here waits: connecting, sending and
 * receiving go on as the socket allows, whenever main()'s poll(2) says so.  (Only the
 * resolution of a host's name waits, in libpq.)  A connection that is lost is made
 * again, after a delay that grows and is random; whoever had the query in flight is told
 * that its outcome is unknown, and nothing is repeated here.
 */
#include "postgres_fe.h"

#include "common/connect.h"
#include "mb/pg_wchar.h"

#include "connection.h"
#include "log.h"
#include "timer.h"

#define CONNECT_TIMEOUT 20000
#define MIN_DELAY 100
#define MAX_DELAY 10000
#define MAX_DELAY_IN_HURRY 1000

typedef enum ConnectionState
{
	CONNECTION_DOWN,			/* until retry_at */
	CONNECTION_STARTING,
	CONNECTION_PREPARING,		/* connected, with the first query in flight */
	CONNECTION_UP
} ConnectionState;

static const char *conninfo;
static PGconn *conn;
static ConnectionState state = CONNECTION_DOWN;
static PostgresPollingStatusType polling;
static bool flushing;
static bool broken;				/* although its status may be good */
static int64 retry_at;
static int64 retry_in_hurry_at;
static int64 give_up_at;
static int	failures;
static char *trouble;			/* why there is no connection */

/* the query in flight */
static bool busy;
static QueryDone query_done;
static void *query_arg;
static PGresult *query_rows;
static PGresult *query_error;

static bool is_alive(void);
static void start(void);
static void go_on_starting(void);
static void prepared(void *arg, const QueryResult *result);
static void receive(void);
static void end_query(bool lost);
static void lose(void);
static char *one_line(const char *message);
static void swallow_notice(void *arg, const PGresult *result);

/* False when the string is not one that libpq can read; what is wrong is logged. */
bool
connection_init(const char *string)
{
	char	   *error = NULL;
	PQconninfoOption *options;

	conninfo = string;
	if (string == NULL ||
		(strchr(string, '=') == NULL &&
		 strncmp(string, "postgresql://", 13) != 0 && strncmp(string, "postgres://", 11) != 0))
		return true;			/* the name of a database */

	options = PQconninfoParse(string, &error);
	if (options == NULL)
	{
		/* libpq cites the string, which may be a password where the fault is */
		if (strstr(string, "password") == NULL && strchr(string, '@') == NULL && error != NULL)
			log_error("the connection string is not valid: %s", one_line(error));
		else
			log_error("the connection string is not valid");
		return false;
	}
	PQconninfoFree(options);
	return true;
}

/* An error after which the same may succeed. */
bool
sqlstate_is_retryable(const char *sqlstate)
{
	static const char *const retryable[] = {"08", "40", "53", "55P03", "57014", "57P"};

	for (int i = 0; i < (int) lengthof(retryable); i++)
	{
		if (strncmp(sqlstate, retryable[i], strlen(retryable[i])) == 0)
			return true;
	}
	return false;
}

bool
connection_is_up(void)
{
	return state == CONNECTION_UP;
}

/* May a query be sent? */
bool
connection_is_idle(void)
{
	return state == CONNECTION_UP && !busy;
}

/* Why there is no connection. */
const char *
connection_trouble(void)
{
	return trouble != NULL ? trouble : "the connection has not been made yet";
}

/* A request waits for the connection, and will not for long. */
void
connection_hurry(void)
{
	retry_at = Min(retry_at, retry_in_hurry_at);
}

/* Send a query; done is called when it has ended, and its transaction with it. */
void
connection_query(const char *sql, int nparams, const char *const *params, QueryDone done, void *arg)
{
	Assert(!busy);
	busy = true;
	query_done = done;
	query_arg = arg;
	flushing = true;
	/* connection_work() sees to it if that fails, since whoever is calling does not expect his answer yet */
	if (!PQsendQueryParams(conn, sql, nparams, NULL, params, NULL, NULL, 0))
		broken = true;
}

/* Where poll(2) is to wait for us. */
struct pollfd
connection_pollfd(void)
{
	struct pollfd pollfd = {.fd = -1};

	if (state == CONNECTION_DOWN)
		return pollfd;
	pollfd.fd = PQsocket(conn);
	if (state == CONNECTION_STARTING)
		pollfd.events = polling == PGRES_POLLING_READING ? POLLIN : POLLOUT;
	else
		pollfd.events = POLLIN | (flushing ? POLLOUT : 0);
	return pollfd;
}

/* When connection_work() is to be called though poll(2) reports nothing. */
int64
connection_due(void)
{
	switch (state)
	{
		case CONNECTION_DOWN:
			return retry_at;
		case CONNECTION_STARTING:
			return give_up_at;
		case CONNECTION_PREPARING:
			return is_alive() ? give_up_at : 0;
		case CONNECTION_UP:
			return is_alive() ? TIMER_NEVER : 0;
	}
	return TIMER_NEVER;			/* not reached */
}

/* Go on with what the socket allows. */
void
connection_work(short revents)
{
	int64		now = timer_now();

	if (state == CONNECTION_DOWN)
	{
		if (now >= retry_at)
			start();
		return;
	}
	if (state == CONNECTION_STARTING)
	{
		if (revents != 0)
			go_on_starting();
		else if (now >= give_up_at)
			lose();
		return;
	}

	if (revents & ~POLLOUT)
		(void) PQconsumeInput(conn);
	if (flushing)
		flushing = PQflush(conn) == 1;
	receive();
	/* what came before the end has been received by now */
	if (state != CONNECTION_DOWN && (!is_alive() || (state == CONNECTION_PREPARING && now >= give_up_at)))
		lose();
}

static bool
is_alive(void)
{
	return !broken && PQstatus(conn) == CONNECTION_OK;
}

static void
start(void)
{
	/*
	 * What is before dbname can be set otherwise by the connection string.  A server
	 * that is gone without a word is to be noticed before its agents' claims run out,
	 * which is earlier than the usual two hours.  Of several servers, standbys cannot serve
	 * an agent.
	 */
	static const char *const keywords[] = {
		"fallback_application_name", "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
		"target_session_attrs", "dbname", "client_encoding", NULL
	};
	const char *attrs = getenv("PGTARGETSESSIONATTRS") == NULL ? "primary" : NULL;
	const char *values[] = {"coord-mcp", "15000", "10", "5", "2", attrs, conninfo, "UTF8", NULL};

	conn = PQconnectStartParams(keywords, values, 1);
	if (conn == NULL)
	{
		log_error("out of memory");
		exit(1);
	}
	state = CONNECTION_STARTING;
	polling = PGRES_POLLING_WRITING;
	give_up_at = timer_now() + CONNECT_TIMEOUT;
	if (PQstatus(conn) == CONNECTION_BAD)
		lose();
}

static void
go_on_starting(void)
{
	int			old_socket = PQsocket(conn);

	polling = PQconnectPoll(conn);
	if (polling == PGRES_POLLING_FAILED)
		lose();
	else if (polling == PGRES_POLLING_OK)
	{
		PQsetNoticeReceiver(conn, swallow_notice, NULL);
		(void) PQsetnonblocking(conn, 1);
		state = CONNECTION_PREPARING;
		connection_query(ALWAYS_SECURE_SEARCH_PATH_SQL, 0, NULL, prepared, NULL);
	}
	else if (PQsocket(conn) != old_socket)
		give_up_at = timer_now() + CONNECT_TIMEOUT; /* it tries another host */
}

static void
prepared(void *arg pg_attribute_unused(), const QueryResult *result)
{
	if (result->lost)
		return;
	if (result->sqlstate != NULL)
	{
		lose();
		return;
	}
	state = CONNECTION_UP;
	failures = 0;
	free(trouble);
	trouble = NULL;
	log_info("connected to database \"%s\" as user \"%s\"", PQdb(conn), PQuser(conn));
}

/* Take what the server has sent so far. */
static void
receive(void)
{
	PGnotify   *notify;

	while (busy && !PQisBusy(conn))
	{
		PGresult   *result = PQgetResult(conn);
		ExecStatusType status;

		if (result == NULL)
		{
			if (!is_alive())
				break;
			end_query(false);
			break;
		}
		/* an error may follow the rows, at the transaction's end */
		status = PQresultStatus(result);
		if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		{
			PQclear(query_rows);
			query_rows = result;
		}
		else if (query_error == NULL)
			query_error = result;
		else
			PQclear(result);
	}
	while (state != CONNECTION_DOWN && (notify = PQnotifies(conn)) != NULL)
	{
		bridge_notified(notify->relname);
		PQfreemem(notify);
	}
}

/* Tell whoever sent the query how it ended. */
static void
end_query(bool lost)
{
	QueryResult result = {.lost = lost};
	char	   *message = NULL;
	PGresult   *rows = query_rows;
	PGresult   *error = query_error;

	if (error != NULL)
	{
		result.sqlstate = PQresultErrorField(error, PG_DIAG_SQLSTATE);
		result.message = PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY);
		if (result.message == NULL)
			result.message = message = one_line(PQresultErrorMessage(error));
	}
	if (result.sqlstate == NULL && (lost || error != NULL))
		result.sqlstate = lost ? "08006" : "XX000";
	if (lost && error == NULL)
		result.message = trouble;
	result.rows = rows;

	busy = false;
	query_rows = query_error = NULL;
	query_done(query_arg, &result);
	if (!lost)
		bridge_query_ended();
	PQclear(rows);
	PQclear(error);
	free(message);
}

/* The connection has ended, or could not be made. */
static void
lose(void)
{
	bool		was_up = state == CONNECTION_UP;
	int64		delay = Min((int64) MAX_DELAY, (int64) MIN_DELAY << Min(failures, 10));
	const char *why = PQerrorMessage(conn);
	char	   *old_trouble = trouble;

	if (!was_up && timer_now() >= give_up_at)
		why = "the server does not answer";
	trouble = one_line(why);
	if (was_up)
		log_warning("lost the connection to the server: %s", trouble);
	else if (old_trouble == NULL || strcmp(old_trouble, trouble) != 0)
		log_warning("could not connect to the server, and go on trying: %s", trouble);
	else
		log_debug("could not connect to the server: %s", trouble);
	free(old_trouble);

	PQfinish(conn);
	conn = NULL;
	state = CONNECTION_DOWN;
	flushing = broken = false;
	failures++;
	retry_at = timer_now() + timer_jitter(delay);
	retry_in_hurry_at = timer_now() + timer_jitter(MAX_DELAY_IN_HURRY);
	if (busy)
		end_query(true);
	if (was_up)
		bridge_connection_lost();
}

void
connection_close(void)
{
	PQfinish(conn);
	conn = NULL;
	PQclear(query_rows);
	PQclear(query_error);
	free(trouble);
	trouble = NULL;
	state = CONNECTION_DOWN;
	retry_at = TIMER_NEVER;
}

/* A message of libpq, of one line and without the newline at its end; to be freed. */
static char *
one_line(const char *message)
{
	char	   *line = pg_malloc(strlen(message) + 1);
	char	   *to = line;

	for (const char *from = message; *from != '\0'; from++)
	{
		bool		is_space = *from == ' ' || *from == '\n' || *from == '\t';

		if (!is_space)
			*to++ = *from;
		else if (to > line && to[-1] != ' ')
			*to++ = ' ';
	}
	if (to > line && to[-1] == ' ')
		to--;
	*to = '\0';

	/* before the encoding is agreed upon, messages may be in any */
	if (pg_encoding_verifymbstr(PG_UTF8, line, (int) strlen(line)) != (int) strlen(line))
	{
		for (to = line; *to != '\0'; to++)
		{
			if (IS_HIGHBIT_SET(*to))
				*to = '?';
		}
	}
	return line;
}

static void
swallow_notice(void *arg pg_attribute_unused(), const PGresult *result)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	log_debug("the server says: %s", message != NULL ? message : "");
}
