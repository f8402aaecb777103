/*
 * sleep.c
 *		Sleeping in a call of a client.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "sleep.h"

/*
 * The wait set of the client's connection, and the place of its socket there.
 * libpq/libpq.h has both, but needs the headers of GSSAPI, which few have installed.
 */
extern PGDLLIMPORT WaitEventSet *FeBeWaitSet;

#define SOCKET_POSITION 0

/*
 * Sleep until that instant, DT_NOEND for none, or until the latch is set.  The
 * connection is watched meanwhile, so that a client that is gone is not served.
 */
void
coord_sleep(TimestampTz until)
{
	long		timeout = -1;
	WaitEvent	event;

	if (until != DT_NOEND)
		timeout = (long) Min(TimestampDifferenceMilliseconds(coord_now(), until), INT_MAX);

	if (FeBeWaitSet == NULL || !WaitEventSetCanReportClosed())
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout < 0 ? 0 : WL_TIMEOUT),
						 timeout, PG_WAIT_EXTENSION);
	else
	{
		ModifyWaitEvent(FeBeWaitSet, SOCKET_POSITION, WL_SOCKET_CLOSED, NULL);
		if (WaitEventSetWait(FeBeWaitSet, timeout, &event, 1, PG_WAIT_EXTENSION) == 1)
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
