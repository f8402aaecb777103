/*
 * requests.c
 *		The client's requests, from their arrival to their answer.
 *
 * They are sent in the order in which they came, one at a time, and each is answered
 * with what the server says: its line goes to coord.mcp() as it is, beside the values
 * that stand for arguments which the client leaves out.  Requests that wait are passed
 * by the others; see waits.c.
 *
 * A request that is in flight when the connection is lost is not sent again, since it may
 * have been done.  It is answered with an error that says so.  One that was not sent yet
 * waits for the next connection, for a while.
 */
#include "postgres_fe.h"

#include "answer.h"
#include "client.h"
#include "connection.h"
#include "holdings.h"
#include "identity.h"
#include "lines.h"
#include "log.h"
#include "requests.h"
#include "timer.h"
#include "waits.h"

/* With more than that no more are read. */
#define MAX_REQUESTS 10000
#define MAX_BYTES (64 * 1024 * 1024)

/* What waits anyway tries again that long after the agent could not be registered. */
#define REGISTRATION_DELAY 1000

static dlist_head requests = DLIST_STATIC_INIT(requests);
static int	n_requests;
static size_t n_bytes;
static Request *in_flight;
static bool waits_have_ended;
static const char *default_queue;

static bool needs_agent(const Request *request);
static void send_request(Request *request);
static void answered(void *arg, const QueryResult *result);
static void served(Request *request, const char *text, double server_now);
static void respond(Request *request, const char *text);
static void refuse(Request *request, const Fault *fault);
static void remove_request(Request *request);

void
requests_init(const char *its_default_queue)
{
	default_queue = its_default_queue;
}

/* Add a request, or what may be one.  The line becomes ours. */
void
requests_add(char *line, size_t len, const Message *message)
{
	Request    *request = pg_malloc0(sizeof(Request));

	request->line = line;
	request->len = len;
	request->message = *message;
	request->received_at = timer_now();
	waits_begin(request);
	dlist_push_tail(&requests, &request->node);
	n_requests++;
	n_bytes += len;
}

static void
remove_request(Request *request)
{
	dlist_delete(&request->node);
	n_requests--;
	n_bytes -= request->len;
	if (request->queue != NULL)
		queues_leave(request->queue);
	free(request->last_answer);
	free(request->line);
	free(request);
}

/* The client waits for an answer no more. */
void
requests_cancel(Json id)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (!json_same(request->message.id, id) || json_is(request->message.method, "initialize"))
			continue;
		if (request == in_flight)
			request->cancelled = true;
		else
			remove_request(request);
		return;
	}
}

/* Is an initialize still to be answered? */
bool
requests_expect_initialize(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &requests)
	{
		if (json_is(dlist_container(Request, node, iter.cur)->message.method, "initialize"))
			return true;
	}
	return false;
}

/* Send the first that is due; false when there is none. */
bool
requests_step(int64 now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request->try_at > now)
			continue;
		if (request->message.kind == MESSAGE_BATCH && !client_allows_batches())
		{
			client_refuse_batch();
			remove_request(request);
			continue;
		}
		if (needs_agent(request) && !identity_is_registered())
		{
			identity_want();
			return identity_step(now);
		}
		send_request(request);
		return true;
	}
	return false;
}

/* A request to which the client has not said who it is may do without an agent. */
static bool
needs_agent(const Request *request)
{
	return identity_is_known() || !client_is_handshake(&request->message);
}

static void
send_request(Request *request)
{
	StringInfoData defaults;
	const char *separator = "";
	const char *params[2];

	initStringInfo(&defaults);
	appendStringInfoChar(&defaults, '{');
	if (identity_is_registered())
	{
		appendStringInfo(&defaults, "\"agent_id\": \"%s\", \"sender_id\": \"%s\"", identity_agent_id(), identity_agent_id());
		separator = ", ";
	}
	if (default_queue != NULL)
	{
		appendStringInfo(&defaults, "%s\"queue\": ", separator);
		json_append_string(&defaults, default_queue);
	}
	appendStringInfoChar(&defaults, '}');

	in_flight = request;
	if (request->queue != NULL)
		request->wakes_seen = queues_wakes(request->queue);
	params[0] = request->line;
	params[1] = defaults.data;
	connection_query("SELECT coord.mcp($1, $2), pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())",
					 lengthof(params), params, answered, request);
	pfree(defaults.data);
}

static void
answered(void *arg, const QueryResult *result)
{
	Request    *request = arg;
	Fault		fault;

	in_flight = NULL;
	if (result->lost)
	{
		if (request->message.tool == TOOL_LOCK_ACQUIRE && !request->cancelled && !waits_have_ended &&
			timer_now() < request->wait_until)
		{
			request->try_at = 0;	/* taking a lock that one has is no harm */
			return;
		}
		fault = (Fault) {CODE_INTERNAL, result->sqlstate, true,
			"the connection to the server was lost; whether the request was carried out is not known", NULL, NULL};
		if (!sqlstate_is_retryable(fault.sqlstate))
			fault.sqlstate = "08006";
		refuse(request, &fault);
	}
	else if (result->sqlstate != NULL)
	{
		log_warning("a request failed: %s", result->message);
		fault = answer_fault_of_query(result->sqlstate, result->message);
		refuse(request, &fault);
	}
	else if (PQntuples(result->rows) == 1 && !PQgetisnull(result->rows, 0, 0))
		served(request, PQgetvalue(result->rows, 0, 0), atof(PQgetvalue(result->rows, 0, 1)));
	else if (request->message.kind == MESSAGE_REQUEST)
	{
		fault = (Fault) {CODE_INTERNAL, "XX000", false, "the server has no answer", NULL, NULL};
		refuse(request, &fault);
	}
	else
		remove_request(request);
}

/* The server has answered. */
static void
served(Request *request, const char *text, double server_now)
{
	Json		answer = json_trusted(text, strlen(text));
	Outcome		outcome;
	int64		now = timer_now();

	if (answer.kind == JSON_KIND_ABSENT)
	{
		Fault		fault = {CODE_INTERNAL, "XX000", false, "the server's answer is not JSON", NULL, NULL};

		refuse(request, &fault);
		return;
	}
	if (request->cancelled || request->wait_until != 0)
		message_outcome(&request->message, answer, &outcome);
	if (request->cancelled)
	{
		holdings_give_back(&request->message, &outcome);
		remove_request(request);
	}
	else if (request->wait_until != 0 && !waits_have_ended && waits_goes_on(request, &outcome, now))
	{
		waits_park(request, &outcome, default_queue != NULL ? default_queue : "default", now);
		free(request->last_answer);
		request->last_answer = pg_strdup(text);
	}
	else
	{
		client_observe(&request->message, answer, server_now);
		respond(request, text);
	}
}

/* Answer a request with that text, and be done with it. */
static void
respond(Request *request, const char *text)
{
	Json		answer = json_trusted(text, strlen(text));
	Json		id = request->message.id;

	if (id.kind == JSON_KIND_ABSENT || json_member(answer, "id").kind != JSON_KIND_ABSENT)
		lines_put(answer.text, answer.len);
	else
	{
		/* the server could not read it where we can */
		char	   *with_id = psprintf("{\"id\": %.*s, %.*s", (int) id.len, id.text, (int) answer.len - 1, answer.text + 1);

		lines_put(with_id, strlen(with_id));
		pfree(with_id);
	}
	remove_request(request);
}

/* Answer a request with an error, if it wants an answer, and be done with it. */
static void
refuse(Request *request, const Fault *fault)
{
	Json		element = JSON_NONE;
	StringInfoData buf;

	if (request->message.kind == MESSAGE_REQUEST && !request->cancelled)
		answer_put_fault(request->message.id, fault);
	else if (request->message.kind == MESSAGE_BATCH)
	{
		initStringInfo(&buf);
		while (json_next_element(request->message.whole, &element))
		{
			Message		message;

			message_read(element, &message);
			if (message.kind != MESSAGE_REQUEST)
				continue;
			appendStringInfoString(&buf, buf.len == 0 ? "[" : ", ");
			answer_fault(&buf, message.id, fault);
		}
		if (buf.len > 0)
		{
			appendStringInfoChar(&buf, ']');
			lines_put(buf.data, buf.len);
		}
		pfree(buf.data);
	}
	remove_request(request);
}

/* Until when a request is kept without a connection. */
static int64
patience_of(const Request *request)
{
	return request->last_answer != NULL ? request->wait_until :
		Max(request->wait_until, request->received_at + REQUEST_PATIENCE);
}

/* When requests_step() or requests_check_time() has something to do. */
int64
requests_due(bool may_send)
{
	int64		due = TIMER_NEVER;
	dlist_iter	iter;

	dlist_foreach(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request == in_flight)
			continue;
		if (may_send && connection_is_idle())
			due = Min(due, request->try_at);
		if (!connection_is_up())
			due = Min(due, patience_of(request));
		else if (request->last_answer != NULL)
			due = Min(due, waits_deadline(request));
	}
	return due;
}

/* Answer those for which it is too late to go on. */
void
requests_check_time(int64 now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request == in_flight)
			continue;
		if (request->last_answer != NULL)
		{
			if (now >= (connection_is_up() ? waits_deadline(request) : request->wait_until))
				respond(request, request->last_answer);
		}
		else if (!connection_is_up() && now < patience_of(request))
			connection_hurry();
		else if (!connection_is_up())
		{
			char	   *message = psprintf("there is no connection to the server: %s", connection_trouble());
			Fault		fault = {CODE_INTERNAL, "08006", true, message, NULL, NULL};

			refuse(request, &fault);
			pfree(message);
		}
	}
}

/* Those that need the agent cannot be served, for now at least. */
void
requests_registration_failed(const char *sqlstate, const char *message)
{
	char	   *text = psprintf("could not register the client as an agent: %s", message);
	Fault		fault = answer_fault_of_query(sqlstate, text);
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request->last_answer != NULL && fault.retryable)
			request->try_at = timer_now() + REGISTRATION_DELAY;
		else if (needs_agent(request))
			refuse(request, &fault);
	}
	pfree(text);
}

/* Something may be claimable in a queue. */
void
requests_queue_woke(Queue *queue)
{
	dlist_iter	iter;

	dlist_foreach(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request->queue == queue && request != in_flight)
			request->try_at = 0;
	}
}

/* Are so many kept that no more should be read? */
bool
requests_are_many(void)
{
	return n_requests >= MAX_REQUESTS || n_bytes >= MAX_BYTES;
}

bool
requests_are_done(void)
{
	return dlist_is_empty(&requests);
}

/* No request waits any longer: each is answered with what it was answered last. */
void
requests_end_waits(void)
{
	dlist_mutable_iter iter;

	waits_have_ended = true;
	dlist_foreach_modify(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request != in_flight && request->last_answer != NULL)
			respond(request, request->last_answer);
	}
}

/* Nothing more is sent. */
void
requests_end(void)
{
	static const Fault fault = {CODE_INTERNAL, "57P01", true, "coord-mcp is being shut down", NULL, NULL};
	dlist_mutable_iter iter;

	requests_end_waits();
	dlist_foreach_modify(iter, &requests)
	{
		Request    *request = dlist_container(Request, node, iter.cur);

		if (request != in_flight)
			refuse(request, &fault);
	}
}
