/*
 * events.h
 *		Events that are addressed to the agent.
 */
#ifndef COORD_MCP_EVENTS_H
#define COORD_MCP_EVENTS_H

#include "json_reader.h"

extern void events_client_is_ready(void);
extern void events_set_level(Json level);
extern void events_registered(bool is_new);
extern void events_connection_lost(void);
extern bool events_notified(const char *name);

extern bool events_step(void);

#endif							/* COORD_MCP_EVENTS_H */
