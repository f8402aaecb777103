/*
 * event.h
 *		Events: sending, listening and delivery.
 */
#ifndef COORD_EVENT_H
#define COORD_EVENT_H

extern int	coord_events_deliver(int limit);
extern char *coord_notify_name(const char *prefix, const char *hash_prefix, const char *text);

#endif							/* COORD_EVENT_H */
