/*
 * agent_end.h
 *		What is committed for an agent that has ended meanwhile.
 */
#ifndef COORD_AGENT_END_H
#define COORD_AGENT_END_H

#include "utils/timestamp.h"

extern void coord_ends_remember(void);
extern void coord_ends_at_commit(TimestampTz *due_at);
extern void coord_ends_forget(void);

#endif							/* COORD_AGENT_END_H */
