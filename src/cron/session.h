/*
 * session.h
 *		Asking pg_cron, wherever it is.
 */
#ifndef COORD_CRON_SESSION_H
#define COORD_CRON_SESSION_H

#include "cron/pg_cron.h"

extern int64 coord_cron_ask(CronRequest *request);

#endif							/* COORD_CRON_SESSION_H */
