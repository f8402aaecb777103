/*
 * event.h
 *		Events: sending, listening and delivery.
 */
#ifndef COORD_EVENT_H
#define COORD_EVENT_H

extern int	coord_events_deliver(int limit);

#endif							/* COORD_EVENT_H */
