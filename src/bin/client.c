/*
 * client.c
 *		What the client says, and what is agreed with it.
 *
 * A line is one message.  What is none is answered at once, so are notifications to the
 * bridge itself obeyed, and the rest is a request for the server.  A batch is one only in
 * the one revision of MCP that has batches; which one is spoken is what the server has
 * answered to initialize.
 */
#include "postgres_fe.h"

#include "answer.h"
#include "client.h"
#include "connection.h"
#include "events.h"
#include "holdings.h"
#include "identity.h"
#include "log.h"
#include "lines.h"
#include "requests.h"
#include "subscriptions.h"

#define BATCH_VERSION "2025-03-26"

/* What may come from a client before it has said who it is. */
static const char *const handshake_methods[] = {"ping", "server/discover", "tools/list", "logging/setLevel"};

static bool is_legacy;			/* initialize was answered */
static bool has_batches;

static bool is_blank(const char *line, size_t len);
static void refuse_line(JsonFault fault);
static bool serve_here(const Message *message);
static void obey(const Message *notification);
static void observe_one(const Message *message, Json answer, double server_now);

/* A line has come, which is ours to free. */
void
client_receive(char *line, size_t len)
{
	static const Fault not_a_request = {CODE_INVALID_REQUEST, "22023", false, "not a JSON-RPC 2.0 request", NULL, NULL};
	JsonFault	fault;
	Json		value;
	Message		message;

	if (is_blank(line, len))
	{
		free(line);
		return;
	}
	fault = json_read(line, len, &value);
	if (fault != JSON_FAULT_NONE)
	{
		refuse_line(fault);
		free(line);
		return;
	}

	message_read(value, &message);
	if (message.kind == MESSAGE_BAD)
		answer_put_fault(JSON_NONE, &not_a_request);
	else if (message.kind == MESSAGE_BATCH && !has_batches && !requests_expect_initialize())
		client_refuse_batch();
	else if (!serve_here(&message))
	{
		requests_add(line, len, &message);
		return;
	}
	free(line);
}

void
client_line_too_long(void)
{
	static const Fault fault = {CODE_TOO_LARGE, "54000", false, "a message must be shorter than 10 MB", NULL, NULL};

	answer_put_fault(JSON_NONE, &fault);
}

static bool
is_blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	}
	return true;
}

/* Answer what is no message. */
static void
refuse_line(JsonFault fault)
{
	static const Fault syntax = {CODE_PARSE_ERROR, "22P02", false, "not JSON", NULL, NULL};
	static const Fault encoding = {CODE_PARSE_ERROR, "22021", false, "not valid UTF-8", NULL, NULL};
	static const Fault nesting = {CODE_TOO_LARGE, "54001", false, "nested too deeply", NULL, NULL};

	answer_put_fault(JSON_NONE,
					 fault == JSON_FAULT_SYNTAX ? &syntax : fault == JSON_FAULT_ENCODING ? &encoding : &nesting);
}

/* Do what the server is not needed for; false when it is. */
static bool
serve_here(const Message *message)
{
	Json		element = JSON_NONE;

	switch (message->kind)
	{
		case MESSAGE_RESPONSE:
			log_debug("ignored a response, to nothing that was asked");
			return true;

		case MESSAGE_NOTIFICATION:
			obey(message);
			return message_is_notification(message);

		case MESSAGE_BATCH:
			while (json_next_element(message->whole, &element))
			{
				Message		one;

				message_read(element, &one);
				if (one.kind == MESSAGE_NOTIFICATION)
					obey(&one);
			}
			return false;

		default:
			break;
	}

	if (message_is_modern(message) || json_is(message->method, "initialize"))
		identity_meet_client(message->client_info);
	if (json_is(message->method, "subscriptions/listen") && (message_is_modern(message) || !is_legacy))
	{
		subscriptions_open(message);
		return true;
	}
	if (json_is(message->method, "ping") && !message_is_modern(message) && !connection_is_up())
	{
		answer_put_result(message->id, "{}");
		return true;
	}
	return false;
}

/* Do what a notification says, if that is the bridge's to do. */
static void
obey(const Message *notification)
{
	if (json_is(notification->method, "notifications/initialized"))
		events_client_is_ready();
	else if (json_is(notification->method, "notifications/cancelled"))
	{
		Json		id = json_member(notification->params, "requestId");

		if (!subscriptions_cancel(id))
			requests_cancel(id);
	}
}

/* Take notice of what the server has answered to a request. */
void
client_observe(const Message *message, Json answer, double server_now)
{
	Json		element = JSON_NONE;
	Json		one_answer = JSON_NONE;
	bool		has_answer;

	if (message->kind != MESSAGE_BATCH)
	{
		observe_one(message, answer, server_now);
		return;
	}

	/* answers come in the order of their requests, some of which have none */
	has_answer = json_next_element(answer, &one_answer);
	while (has_answer && json_next_element(message->whole, &element))
	{
		Message		one;

		message_read(element, &one);
		if (one.kind == MESSAGE_REQUEST && json_same(one.id, json_member(one_answer, "id")))
		{
			observe_one(&one, one_answer, server_now);
			has_answer = json_next_element(answer, &one_answer);
		}
		else if (one.kind == MESSAGE_BAD)
			has_answer = json_next_element(answer, &one_answer);
	}
}

static void
observe_one(const Message *message, Json answer, double server_now)
{
	Outcome		outcome;

	if (message->tool != TOOL_OTHER)
	{
		message_outcome(message, answer, &outcome);
		holdings_observe(message, &outcome, server_now);
	}
	else if (json_is(message->method, "initialize"))
	{
		Json		version = json_member(json_member(answer, "result"), "protocolVersion");

		if (version.kind == JSON_KIND_STRING)
		{
			is_legacy = true;
			has_batches = json_is(version, BATCH_VERSION);
		}
	}
	else if (json_is(message->method, "logging/setLevel") && json_member(answer, "result").kind == JSON_KIND_OBJECT)
		events_set_level(json_member(message->params, "level"));
}

bool
client_allows_batches(void)
{
	return has_batches;
}

void
client_refuse_batch(void)
{
	static const Fault fault = {CODE_INVALID_REQUEST, "22023", false,
		"there are batches only in MCP " BATCH_VERSION ", and only if that was agreed by initialize", NULL, NULL};

	answer_put_fault(JSON_NONE, &fault);
}

/* Is it what a client may send before it says who it is, and needs no agent? */
bool
client_is_handshake(const Message *message)
{
	for (int i = 0; i < (int) lengthof(handshake_methods); i++)
	{
		if (json_is(message->method, handshake_methods[i]))
			return true;
	}
	return false;
}
