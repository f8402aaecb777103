/*
 * subscriptions.h
 *		Open subscriptions/listen requests.
 */
#ifndef COORD_MCP_SUBSCRIPTIONS_H
#define COORD_MCP_SUBSCRIPTIONS_H

#include "message.h"

extern void subscriptions_open(const Message *request);
extern bool subscriptions_cancel(Json id);
extern void subscriptions_end(void);

#endif							/* COORD_MCP_SUBSCRIPTIONS_H */
