/*
 * aside.h
 *		Rows that failed batches, and are passed over for a while.
 */
#ifndef COORD_WORKER_ASIDE_H
#define COORD_WORKER_ASIDE_H

#include "worker/shared.h"

extern int64 coord_worker_backoff(int failures);
extern bool coord_set_aside(const pg_uuid_t *item, CoordJob job, TimestampTz now);
extern TimestampTz coord_leave_asides_out(CoordJob job, TimestampTz now);

#endif							/* COORD_WORKER_ASIDE_H */
