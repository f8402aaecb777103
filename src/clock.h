/*
 * clock.h
 *		Instants and durations.
 *
 * An instant is a TimestampTz of the server's clock at the call; a duration is
 * an int64 of microseconds inside, an interval outside.
 */
#ifndef COORD_CLOCK_H
#define COORD_CLOCK_H

#include "utils/timestamp.h"

extern TimestampTz coord_now(void);

/* Min() and Max() read an argument twice; what others write meanwhile is to be read once. */
static inline TimestampTz
coord_earlier(TimestampTz a, TimestampTz b)
{
	return Min(a, b);
}

static inline TimestampTz
coord_later(TimestampTz a, TimestampTz b)
{
	return Max(a, b);
}

extern Interval *coord_usec_to_interval(int64 usec);
extern bool coord_interval_to_usec(const Interval *span, int64 *usec);

#endif							/* COORD_CLOCK_H */
