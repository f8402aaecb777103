/*
 * peek.h
 *		A look at what comes next in a queue, which takes nothing away.
 */
#ifndef COORD_CLAIM_PEEK_H
#define COORD_CLAIM_PEEK_H

#include "utils/timestamp.h"

extern bool coord_peek(const char *queue, TimestampTz now, TimestampTz *next_at);

#endif							/* COORD_CLAIM_PEEK_H */
