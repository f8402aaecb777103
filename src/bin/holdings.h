/*
 * holdings.h
 *		What the agent holds through this bridge.
 */
#ifndef COORD_MCP_HOLDINGS_H
#define COORD_MCP_HOLDINGS_H

#include "message.h"

extern void holdings_observe(const Message *call, const Outcome *outcome, double server_now);
extern void holdings_give_back(const Message *call, const Outcome *outcome);

extern bool holdings_step(int64 now);
extern int64 holdings_due(void);
extern void holdings_renew_all(void);
extern void holdings_forget_all(void);

#endif							/* COORD_MCP_HOLDINGS_H */
