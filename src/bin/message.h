/*
 * message.h
 *		What the bridge reads of a message.
 */
#ifndef COORD_MCP_MESSAGE_H
#define COORD_MCP_MESSAGE_H

#include "json_reader.h"

typedef enum MessageKind
{
	MESSAGE_REQUEST,			/* it is to be answered */
	MESSAGE_NOTIFICATION,
	MESSAGE_RESPONSE,
	MESSAGE_BATCH,
	MESSAGE_BAD
} MessageKind;

/* The tools that the bridge has to know of. */
typedef enum Tool
{
	TOOL_OTHER,
	TOOL_TASK_CLAIM,
	TOOL_TASK_RENEW,
	TOOL_TASK_END,				/* complete, fail, release, cancel */
	TOOL_LOCK_ACQUIRE,
	TOOL_LOCK_RENEW,
	TOOL_LOCK_RELEASE,
	TOOL_AGENT_RETIRE
} Tool;

typedef struct Message
{
	MessageKind kind;
	Json		whole;
	Json		id;				/* ABSENT unless it may be one */
	Json		method;
	Json		params;
	Json		client_info;	/* of initialize, or of a modern request */
	Json		meta;
	Json		version;		/* of a modern request */
	bool		is_call;		/* of a tool; else its method may be that of one */
	Tool		tool;
	Json		arguments;
} Message;

#define MODERN_VERSION "2026-07-28"
#define META_VERSION "io.modelcontextprotocol/protocolVersion"
#define META_CLIENT_INFO "io.modelcontextprotocol/clientInfo"
#define META_CAPABILITIES "io.modelcontextprotocol/clientCapabilities"
#define META_SUBSCRIPTION "io.modelcontextprotocol/subscriptionId"

/* What a call was answered with. */
typedef struct Outcome
{
	bool		refused;
	Json		result;			/* ABSENT if it was refused */
	double		code;
	double		retry_after;	/* negative if that is not known */
} Outcome;

extern void message_read(Json value, Message *message);
extern bool message_is_notification(const Message *message);
extern void message_outcome(const Message *call, Json answer, Outcome *outcome);

/* Whether it is of the era in which each request says its protocol's version. */
#define message_is_modern(message) ((message)->version.kind != JSON_KIND_ABSENT)

#endif							/* COORD_MCP_MESSAGE_H */
