/*
 * wakeup.h
 *		What a transaction leaves for the worker, told at its commit.
 */
#ifndef COORD_WORKER_WAKEUP_H
#define COORD_WORKER_WAKEUP_H

#include "utils/timestamp.h"

extern void coord_wakeup_init(void);
extern void coord_wake_at(TimestampTz deadline);
extern void coord_wake(void);
extern void coord_wake_if_checks_wait(void);
extern void coord_keep_checks(bool keep);

#endif							/* COORD_WORKER_WAKEUP_H */
