/*
 * delivery.h
 *		From the inbox to who reads and who listens.
 */
#ifndef COORD_DELIVERY_H
#define COORD_DELIVERY_H

#include "utils/timestamp.h"
#include "worker/sweep.h"

extern bool coord_all_is_delivered(void);
extern void coord_await_delivery(void);

/* jobs of the worker; the first one also by hand */
extern SweepOutcome coord_deliver_events(SweepCounts *counts);
extern SweepOutcome coord_notify_events(SweepCounts *counts);
extern TimestampTz coord_notices_next_due(void);

extern uint64 coord_deliveries_seen(void);
extern bool coord_delivered_all_seen(void);
extern void coord_deliver_anew(void);
extern void coord_set_synchronous_commit(const char *value);
extern bool coord_may_notify(TimestampTz now);
extern TimestampTz coord_may_notify_at(void);

#endif							/* COORD_DELIVERY_H */
