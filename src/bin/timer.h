/*
 * timer.h
 *		Instants and delays of coord-mcp, in milliseconds.
 */
#ifndef COORD_MCP_TIMER_H
#define COORD_MCP_TIMER_H

#define TIMER_NEVER PG_INT64_MAX

extern int64 timer_now(void);
extern int64 timer_jitter(int64 delay);
extern uint32 timer_random(void);

#endif							/* COORD_MCP_TIMER_H */
