/*
 * sleep.h
 *		Sleeping in a call of a client, and what pg_stat_activity calls coord's waits.
 */
#ifndef COORD_SLEEP_H
#define COORD_SLEEP_H

#include "utils/timestamp.h"

typedef enum CoordWait
{
	COORD_WAIT_LAUNCHER,		/* for a worker that has to be started */
	COORD_WAIT_WORKER,			/* for something to do */
	COORD_WAIT_LEASE,			/* for a lease that another holds */
	COORD_WAIT_QUEUE,			/* for a task that can be claimed */
	COORD_WAIT_DELIVERY,		/* for the worker to deliver what was committed */
	COORD_WAIT_SWEEP,			/* for the worker to look at what has come due */
	COORD_WAIT_PG_CRON,			/* for the worker that asks pg_cron in another database */
	COORD_WAIT_WORKER_END,		/* for the end of the worker of a database that is to go */
} CoordWait;

extern uint32 coord_wait_event(CoordWait what);
extern void coord_sleep(TimestampTz until, CoordWait what);

#endif							/* COORD_SLEEP_H */
