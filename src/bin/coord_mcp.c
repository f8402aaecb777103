/*
 * coord_mcp.c
 *		coord-mcp: an MCP server on stdin and stdout, for one client.
 *
 * A bridge between a client that speaks the Model Context Protocol on a pair of pipes
 * and coord.mcp() in a database.  The server knows the tools and serves the requests; the
 * bridge does what needs a process: it keeps the connection and the client's agent alive,
 * renews what the agent holds, waits where a tool is told to, and passes events on.
 *
 * There is one thread and one loop.  Whenever the connection is idle, the most urgent
 * thing that is due is sent (see next_query()); every module says with a _step function
 * whether it has something, and with a _due function when it will.  So nothing is sent
 * from within the handling of something else, and each module keeps no more than what it
 * wants to be true: registered, listening, renewed.
 *
 * The bridge ends with its client: at the end of stdin what was asked for is finished, at
 * SIGTERM or when nobody reads our stdout it is not; either way the agent is retired, so
 * that others get at once what it held.
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "getopt_long.h"

#include "client.h"
#include "connection.h"
#include "coord.h"
#include "events.h"
#include "holdings.h"
#include "identity.h"
#include "lines.h"
#include "log.h"
#include "queues.h"
#include "requests.h"
#include "subscriptions.h"
#include "timer.h"

/* With so much that the client has not read, its requests have to wait. */
#define MAX_PENDING (1024 * 1024)

/* At the end, so long without progress; and so long at most when we are told to go. */
#define END_PATIENCE 5000
#define TERM_PATIENCE 2000

typedef enum Phase
{
	PHASE_SERVING,
	PHASE_FINISHING,			/* what was asked for, after the end of stdin */
	PHASE_RETIRING,				/* the agent is being retired */
	PHASE_FLUSHING				/* only answers are still to be read by the client */
} Phase;

/* What poll(2) waits for. */
enum
{
	SIGNAL,
	INPUT,
	OUTPUT,
	SERVER,
	N_FDS
};

static Phase phase = PHASE_SERVING;
static int64 end_at = TIMER_NEVER;
static bool input_was_closed;	/* by the client, though not all of it may be read yet */
static bool terminating;
static bool events_were_last;	/* they and requests take turns */
static int	signal_pipe[2];

static void parse_options(int argc, char **argv, const char **conninfo);
static void usage(void);
static void handle_signals(void);
static void run(void);
static void serve_lines(void);
static void next_query(void);
static bool may_read(void);
static bool client_is_reading(void);
static void finish(void);
static void terminate(void);
static void retired(void);
static void progress(void);
static int	poll_timeout(void);

int
main(int argc, char **argv)
{
	const char *conninfo = NULL;

	parse_options(argc, argv, &conninfo);
	if (!connection_init(conninfo))
		return 1;
	handle_signals();
	run();
	connection_close();
	holdings_forget_all();
	return 0;
}

static void
parse_options(int argc, char **argv, const char **conninfo)
{
	static const struct option options[] = {
		{"name", required_argument, NULL, 'n'},
		{"type", required_argument, NULL, 't'},
		{"queue", required_argument, NULL, 'q'},
		{"heartbeat-timeout", required_argument, NULL, 'b'},
		{"log-level", required_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0}
	};
	const char *name = NULL;
	const char *type = "mcp";
	const char *queue = NULL;
	const char *heartbeat_timeout = NULL;
	char	   *end;
	int			option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'n':
				name = optarg;
				break;
			case 't':
				type = optarg;
				break;
			case 'q':
				queue = optarg;
				break;
			case 'b':
				if (strtod(optarg, &end) > 0 && *end == '\0')
					heartbeat_timeout = optarg;
				else
				{
					fprintf(stderr, "coord-mcp: --heartbeat-timeout must be a number of seconds\n");
					exit(2);
				}
				break;
			case 'l':
				if (!log_set_level(optarg))
				{
					fprintf(stderr, "coord-mcp: --log-level must be debug, info, warning or error\n");
					exit(2);
				}
				break;
			case 'h':
				usage();
				exit(0);
			case 'V':
				printf("coord-mcp " COORD_VERSION "\n");
				exit(0);
			default:
				fprintf(stderr, "Try \"coord-mcp --help\" for more information.\n");
				exit(2);
		}
	}
	if (optind < argc)
		*conninfo = argv[optind++];
	if (optind < argc)
	{
		/* what it is may be a part of a connection string, and is not shown */
		fprintf(stderr, "coord-mcp: too many command-line arguments\n"
				"Try \"coord-mcp --help\" for more information.\n");
		exit(2);
	}
	identity_init(name, type, heartbeat_timeout);
	requests_init(queue);
}

static void
usage(void)
{
	printf("coord-mcp serves the tools of coord, in a PostgreSQL database, to a client of the\n"
		   "Model Context Protocol, on stdin and stdout.\n\n"
		   "Usage:\n"
		   "  coord-mcp [OPTION]... [CONNINFO]\n\n"
		   "Options:\n"
		   "  --name=NAME                  name of the agent that the client is (default: made of\n"
		   "                               the client's own name)\n"
		   "  --type=TYPE                  its type (default: mcp)\n"
		   "  --queue=QUEUE                queue of calls that name none (default: default)\n"
		   "  --heartbeat-timeout=SECONDS  how long after this process has vanished the agent is\n"
		   "                               taken for dead (default: the server's)\n"
		   "  --log-level=LEVEL            debug, info, warning or error (default: warning)\n"
		   "  --version                    show the version, then exit\n"
		   "  --help                       show this help, then exit\n\n"
		   "CONNINFO is a database name, a connection string or a URI, as for psql; what it does\n"
		   "not say is taken from the environment (PGHOST, PGDATABASE, PGSERVICE, ...).\n");
}

static void
handle_signal(int signo pg_attribute_unused())
{
	int			save_errno = errno;

	(void) !write(signal_pipe[1], "", 1);
	errno = save_errno;
}

static void
handle_signals(void)
{
	if (pipe(signal_pipe) != 0 ||
		fcntl(signal_pipe[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(signal_pipe[1], F_SETFL, O_NONBLOCK) != 0)
	{
		log_error("could not create a pipe: %s", strerror(errno));
		exit(1);
	}
	pqsignal(SIGTERM, handle_signal);
	pqsignal(SIGINT, handle_signal);
	pqsignal(SIGHUP, handle_signal);
	pqsignal(SIGPIPE, SIG_IGN);
}

static void
run(void)
{
	connection_work(0);
	while (phase != PHASE_FLUSHING || lines_pending() > 0)
	{
		struct pollfd fds[N_FDS] = {{.fd = signal_pipe[0],.events = POLLIN}, {.fd = -1}, {.fd = -1}, {.fd = -1}};

		if (phase == PHASE_SERVING && !input_was_closed)
			fds[INPUT].fd = STDIN_FILENO;
		if (phase == PHASE_SERVING && may_read())
			fds[INPUT] = (struct pollfd) {.fd = STDIN_FILENO,.events = POLLIN};
		/* even when there is nothing to be written, to see that nobody reads */
		if (!lines_closed())
			fds[OUTPUT] = (struct pollfd) {.fd = STDOUT_FILENO,.events = lines_pending() > 0 ? POLLOUT : 0};
		fds[SERVER] = connection_pollfd();

		if (poll(fds, lengthof(fds), poll_timeout()) < 0)
		{
			if (errno == EINTR)
				continue;
			log_error("could not poll: %s", strerror(errno));
			exit(1);
		}

		if (fds[SIGNAL].revents != 0 && !terminating)
			terminate();
		if (fds[OUTPUT].revents & (POLLERR | POLLHUP | POLLNVAL))
			lines_close();
		if (fds[INPUT].events != 0 && fds[INPUT].revents != 0)
			lines_read();
		else if (fds[INPUT].revents != 0)
		{
			/* who has left, and reads nothing either, is not waited for without end */
			input_was_closed = true;
			progress();
		}
		serve_lines();
		connection_work(fds[SERVER].revents);
		requests_check_time(timer_now());
		next_query();
		if (lines_write())
			progress();
		if (lines_closed() && !terminating)
			terminate();
		if (timer_now() >= end_at)
		{
			log_warning("%s; it is not waited for any longer",
						!client_is_reading() || phase == PHASE_FLUSHING ? "the client does not read its answers" : "the server does not answer");
			if (terminating || phase >= PHASE_RETIRING)
				break;
			terminate();
		}
	}
}

/* Take the lines that are there, and note their end. */
static void
serve_lines(void)
{
	while (phase == PHASE_SERVING && may_read())
	{
		char	   *line;
		size_t		len;
		LineStatus	status = lines_next(&line, &len);

		if (status == LINE_READ)
			client_receive(line, len);
		else if (status == LINE_TOO_LONG)
			client_line_too_long();
		else
		{
			if (lines_at_end())
				finish();
			break;
		}
	}
}

/* If the connection is idle, send what is most urgent of what is due. */
static void
next_query(void)
{
	int64		now = timer_now();

	if (phase == PHASE_FINISHING && requests_are_done())
	{
		subscriptions_end();
		phase = PHASE_RETIRING;
	}
	if (phase == PHASE_RETIRING && !identity_is_kept())
		phase = PHASE_FLUSHING;
	if (!connection_is_idle() || phase == PHASE_FLUSHING)
		return;

	if (phase == PHASE_RETIRING)
	{
		if (!identity_retire(retired))
			(void) identity_step(now);	/* after a reconnect */
		return;
	}
	if (holdings_step(now) || identity_step(now))
		return;
	if (phase == PHASE_SERVING && queues_step(now))
		return;
	if (!client_is_reading())
		return;
	if (phase == PHASE_SERVING && !events_were_last && events_step())
		events_were_last = true;
	else
	{
		events_were_last = false;
		if (!requests_step(now) && phase == PHASE_SERVING)
			(void) events_step();
	}
}

/* May more requests be read? */
static bool
may_read(void)
{
	return client_is_reading() && !requests_are_many();
}

/* Is there room for more answers? */
static bool
client_is_reading(void)
{
	return lines_pending() < MAX_PENDING;
}

/* stdin has ended: do what was asked for, and go. */
static void
finish(void)
{
	log_debug("stdin has ended");
	phase = PHASE_FINISHING;
	requests_end_waits();
	progress();
}

/* Go at once. */
static void
terminate(void)
{
	log_debug("ending");
	terminating = true;
	requests_end();
	subscriptions_end();
	if (phase <= PHASE_FINISHING)
		phase = PHASE_FINISHING;
	end_at = timer_now() + TERM_PATIENCE;
}

static void
retired(void)
{
	phase = PHASE_FLUSHING;
}

/* As long as something moves, the end is not near. */
static void
progress(void)
{
	if ((phase != PHASE_SERVING || input_was_closed) && !terminating)
		end_at = timer_now() + END_PATIENCE;
}

static int
poll_timeout(void)
{
	int64		now = timer_now();
	int64		due = Min(end_at, Min(connection_due(), requests_due(client_is_reading())));

	/* what next_query() would send */
	if (connection_is_idle() && phase < PHASE_FLUSHING)
		due = Min(due, identity_due());
	if (connection_is_idle() && phase < PHASE_RETIRING)
		due = Min(due, holdings_due());
	if (connection_is_idle() && phase == PHASE_SERVING)
		due = Min(due, queues_due());
	if (due == TIMER_NEVER)
		return -1;
	return (int) Min(Max(due - now, 0), 60000);
}

/*
 * What the modules tell each other.
 */

void
bridge_query_ended(void)
{
	progress();
}

void
bridge_connection_lost(void)
{
	identity_connection_lost();
	events_connection_lost();
	queues_connection_lost();
}

void
bridge_notified(const char *channel)
{
	if (!queues_notified(channel))
		(void) events_notified(channel);
}

void
bridge_registered(bool is_new)
{
	events_registered(is_new);
	holdings_renew_all();
}

void
bridge_registration_failed(const char *sqlstate, const char *message)
{
	requests_registration_failed(sqlstate, message);
}

void
bridge_queue_woke(Queue *queue)
{
	requests_queue_woke(queue);
}
