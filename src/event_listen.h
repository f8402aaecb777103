/*
 * event_listen.h
 *		Who listens for events, and under which names.
 */
#ifndef COORD_EVENT_LISTEN_H
#define COORD_EVENT_LISTEN_H

#include "store/event_log_store.h"

extern void coord_event_notify(const EventHead *event);
extern char *coord_notify_name(const char *prefix, const char *hash_prefix, const char *text);
extern char *coord_hashed_name(const char *prefix, const char *text);

#endif							/* COORD_EVENT_LISTEN_H */
