/*
 * waits.h
 *		Requests that wait for what is not there yet.
 */
#ifndef COORD_MCP_WAITS_H
#define COORD_MCP_WAITS_H

#include "requests.h"

extern void waits_begin(Request *request);
extern bool waits_goes_on(const Request *request, const Outcome *outcome, int64 now);
extern void waits_park(Request *request, const Outcome *outcome, const char *default_queue, int64 now);
extern int64 waits_deadline(const Request *request);

#endif							/* COORD_MCP_WAITS_H */
