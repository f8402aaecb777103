/*
 * sleep.c
 *		Sleeping in a call of a client, and what pg_stat_activity calls coord's waits.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "sleep.h"

/*
 * The wait set of the client's connection, and the place of its socket there.
 * libpq/libpq.h has both, but needs the headers of GSSAPI, which few have installed.
 */
extern PGDLLIMPORT WaitEventSet *FeBeWaitSet;

#define SOCKET_POSITION 0

/* Before PostgreSQL 17 all are called "Extension". */
static const char *const wait_names[] = {
	[COORD_WAIT_LAUNCHER] = "CoordLauncherMain",
	[COORD_WAIT_WORKER] = "CoordWorkerMain",
	[COORD_WAIT_LEASE] = "CoordLease",
	[COORD_WAIT_QUEUE] = "CoordQueue",
	[COORD_WAIT_DELIVERY] = "CoordDelivery",
	[COORD_WAIT_SWEEP] = "CoordSweep",
	[COORD_WAIT_PG_CRON] = "CoordPgCron",
	[COORD_WAIT_WORKER_END] = "CoordWorkerEnd",
};

/* A name is made known to the whole cluster by whoever waits first. */
uint32
coord_wait_event(CoordWait what)
{
	static uint32 events[lengthof(wait_names)];

	if (events[what] == 0)
		events[what] = coord_new_wait_event(wait_names[what]);
	return events[what];
}

/*
 * Sleep until that instant, DT_NOEND for none, or until the latch is set.  The
 * connection is watched meanwhile, so that a client that is gone is not served.
 */
void
coord_sleep(TimestampTz until, CoordWait what)
{
	long		timeout = -1;
	WaitEvent	event;

	if (until != DT_NOEND)
		timeout = TimestampDifferenceMilliseconds(coord_now(), until);
	timeout = Min(timeout, INT_MAX);

	if (FeBeWaitSet == NULL || !WaitEventSetCanReportClosed())
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout < 0 ? 0 : WL_TIMEOUT),
						 timeout, coord_wait_event(what));
	else
	{
		ModifyWaitEvent(FeBeWaitSet, SOCKET_POSITION, WL_SOCKET_CLOSED, NULL);
		if (WaitEventSetWait(FeBeWaitSet, timeout, &event, 1, coord_wait_event(what)) == 1)
		{
			if (event.events & WL_POSTMASTER_DEATH)
				proc_exit(1);
			if (event.events & WL_SOCKET_CLOSED)
			{
				ClientConnectionLost = true;
				InterruptPending = true;
			}
		}
	}
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
