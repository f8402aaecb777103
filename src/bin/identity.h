/*
 * identity.h
 *		The agent that the client is.
 */
#ifndef COORD_MCP_IDENTITY_H
#define COORD_MCP_IDENTITY_H

#include "json_reader.h"

extern void identity_init(const char *name, const char *type, const char *heartbeat_timeout);
extern void identity_meet_client(Json client_info);
extern const char *identity_agent_id(void);
extern bool identity_is_registered(void);
extern bool identity_is_kept(void);
extern bool identity_is_known(void);
extern void identity_want(void);
extern bool identity_is_ours(Json agent_id);

extern bool identity_step(int64 now);
extern int64 identity_due(void);
extern void identity_connection_lost(void);
extern void identity_was_retired(void);
extern bool identity_retire(void (*done) (void));

/* Told to the rest of the bridge; see coord_mcp.c. */
extern void bridge_registered(bool is_new);
extern void bridge_registration_failed(const char *sqlstate, const char *message);

#endif							/* COORD_MCP_IDENTITY_H */
