/*
 * clock.c
 *		Instants and durations; the one place that reads the clock.
 */
#include "postgres.h"

#include "common/int.h"

#include "clock.h"

/* The server's clock now, not the transaction's start. */
TimestampTz
coord_now(void)
{
	return GetCurrentTimestamp();
}

Interval *
coord_usec_to_interval(int64 usec)
{
	Interval   *span = palloc0(sizeof(Interval));

	span->time = usec;
	return span;
}

/*
 * A month counts as 30 days and a day as 24 hours, as in interval comparison.
 * False when the interval is out of what microseconds can say, as an infinite
 * one is.
 */
bool
coord_interval_to_usec(const Interval *span, int64 *usec)
{
	int64		days = (int64) span->month * DAYS_PER_MONTH + span->day;
	int64		day_usec;

	return !pg_mul_s64_overflow(days, USECS_PER_DAY, &day_usec) &&
		!pg_add_s64_overflow(day_usec, span->time, usec);
}
