/*
 * backoff.c
 *		How long a failed task waits: exponential backoff with jitter.
 *
 * base * 2^(attempts-1), at most max, less up to a quarter of it, so that tasks
 * that failed together do not come back together.  The jitter is a hash of the
 * task's id and its attempts and not a random number: so the views can say when
 * a task whose claim has run out will be back before anything has swept it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/uuid.h"

#include "backoff.h"
#include "clock.h"

PG_FUNCTION_INFO_V1(coord_backoff);

static int64
backoff_usec(int64 base, int64 max, int attempts, const pg_uuid_t *task_id)
{
	int64		delay = Min(base, max);
	uint32		hash;

	for (int i = 1; i < attempts && delay > 0 && delay < max; i++)
		delay = delay > max / 2 ? max : delay * 2;

	hash = hash_combine(hash_bytes(task_id->data, UUID_LEN), hash_bytes_uint32(attempts));
	return delay - (int64) ((double) delay / 4 * ((double) hash / PG_UINT32_MAX));
}

/* backoff(backoff_base, backoff_max, attempts, task_id) */
Datum
coord_backoff(PG_FUNCTION_ARGS)
{
	int64		base;
	int64		max;

	if (!coord_interval_to_usec(PG_GETARG_INTERVAL_P(0), &base) ||
		!coord_interval_to_usec(PG_GETARG_INTERVAL_P(1), &max) ||
		base < 0 || max < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a backoff must be a finite interval that is not negative")));
	PG_RETURN_INTERVAL_P(coord_usec_to_interval(backoff_usec(base, max, PG_GETARG_INT32(2),
															 PG_GETARG_UUID_P(3))));
}

/* The wait, in microseconds, of a task that has made that many attempts. */
int64
coord_backoff_usec(const QueueRow *queue, int attempts, const pg_uuid_t *task_id)
{
	return backoff_usec(queue->backoff_base, queue->backoff_max, attempts, task_id);
}
