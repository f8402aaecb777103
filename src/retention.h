/*
 * retention.h
 *		Dropping what is older than it is to be kept.
 */
#ifndef COORD_RETENTION_H
#define COORD_RETENTION_H

#include "worker/sweep.h"

extern SweepOutcome coord_expire_events(SweepCounts *counts);
extern SweepOutcome coord_expire_tasks(SweepCounts *counts);

#endif							/* COORD_RETENTION_H */
