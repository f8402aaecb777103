/*
 * aside.c
 *		Rows that failed batches, and are passed over for a while.
 *
 * An error undoes its batch, which is made again without the row that was being looked at.
 * Nothing of this is stored: a row that was set aside is still due.
 */
#include "postgres.h"

#include "store/store.h"
#include "uuid7.h"
#include "worker/aside.h"

#define MAX_ASIDE 16
#define MAX_BACKOFF_S 60

/* a row that is set aside until retry_at; its place may be used again a while after */
typedef struct Aside
{
	pg_uuid_t	item;
	CoordJob	job;
	int			failures;
	TimestampTz retry_at;
} Aside;

static Aside asides[MAX_ASIDE];

/* How long to wait after so many failures in a row: from a second to a minute. */
int64
coord_worker_backoff(int failures)
{
	int			doublings = Max(failures, 1) - 1;

	return (doublings < 6 ? INT64CONST(1) << doublings : MAX_BACKOFF_S) * USECS_PER_SEC;
}

/* The place of a row that is set aside, or was lately; else a free one; else NULL. */
static Aside *
aside_of(const pg_uuid_t *item, TimestampTz now)
{
	Aside	   *free = NULL;

	for (int i = 0; i < MAX_ASIDE; i++)
	{
		if (asides[i].failures > 0 && coord_uuid_equal(&asides[i].item, item))
			return &asides[i];
		if (asides[i].failures == 0 || asides[i].retry_at + MAX_BACKOFF_S * USECS_PER_SEC < now)
			free = &asides[i];
	}
	if (free != NULL)
		free->failures = 0;
	return free;
}

/* Set a row aside, that a job looked at when it failed; the longer the more often it has.  False: there are too many. */
bool
coord_set_aside(const pg_uuid_t *item, CoordJob job, TimestampTz now)
{
	Aside	   *aside = aside_of(item, now);

	if (aside == NULL)
		return false;
	aside->item = *item;
	aside->job = job;
	aside->retry_at = now + coord_worker_backoff(++aside->failures);
	return true;
}

/* Have the next batch pass over what is set aside; returns when the job's first one ends to be. */
TimestampTz
coord_leave_asides_out(CoordJob job, TimestampTz now)
{
	static pg_uuid_t items[MAX_ASIDE];
	static UuidList list = {0, items};
	TimestampTz end = DT_NOEND;

	list.n = 0;
	for (int i = 0; i < MAX_ASIDE; i++)
	{
		if (asides[i].failures == 0 || asides[i].retry_at <= now)
			continue;
		items[list.n++] = asides[i].item;
		if (asides[i].job == job)
			end = Min(end, asides[i].retry_at);
	}
	store_set_aside(&list);
	return end;
}
