/*
 * jobs.h
 *		The jobs of a worker, and what becomes of their errors.
 */
#ifndef COORD_WORKER_JOBS_H
#define COORD_WORKER_JOBS_H

#include "worker/shared.h"

extern bool coord_do_jobs(CoordDatabase *db);
extern TimestampTz coord_jobs_due_at(CoordDatabase *db);
extern void coord_write_beats(void);

#endif							/* COORD_WORKER_JOBS_H */
