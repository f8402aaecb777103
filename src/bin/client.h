/*
 * client.h
 *		What the client says, and what is agreed with it.
 */
#ifndef COORD_MCP_CLIENT_H
#define COORD_MCP_CLIENT_H

#include "message.h"

extern void client_receive(char *line, size_t len);
extern void client_line_too_long(void);
extern void client_observe(const Message *message, Json answer, double server_now);

extern bool client_allows_batches(void);
extern void client_refuse_batch(void);
extern bool client_is_handshake(const Message *message);

#endif							/* COORD_MCP_CLIENT_H */
