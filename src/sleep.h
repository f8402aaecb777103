/*
 * sleep.h
 *		Sleeping in a call of a client.
 */
#ifndef COORD_SLEEP_H
#define COORD_SLEEP_H

#include "utils/timestamp.h"

extern void coord_sleep(TimestampTz until);

#endif							/* COORD_SLEEP_H */
