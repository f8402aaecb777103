/*
 * event_log_store.h
 *		Delivered events: coord.event_log, in its partitions; and who has read how far.
 */
#ifndef COORD_STORE_EVENT_LOG_STORE_H
#define COORD_STORE_EVENT_LOG_STORE_H

#include "store/partition.h"
#include "store/rows.h"
#include "store/store.h"

/* what the listeners of an event are told */
typedef struct EventHead
{
	int64		position;
	pg_uuid_t  *id;
	char	   *type;
	char	   *severity;
	pg_uuid_t  *recipient_id;	/* NULL: none */
	char	   *channel;		/* NULL: none */
} EventHead;

/* who asks for events, and for which */
typedef struct EventQuery
{
	const pg_uuid_t *recipient_id;	/* NULL: any */
	const char *channel;		/* NULL: any */
	const char *type;			/* NULL: any */
	int64		after;
	int			max_events;
	Oid			reader;
} EventQuery;

/* writing */
extern int	store_log_partition(TimestampTz now, int n, int64 *first_position);
extern RowsTable *store_log_open(int partition, LOCKMODE mode);
extern void store_log_form(StoredRow *row, int64 position, const Datum *values, const bool *nulls, int n, int partition);

/* reading */
extern int	store_event_heads(int64 after, int64 to, int max, EventHead *heads);
extern void store_event_list(FunctionCallInfo fcinfo, const EventQuery *query);
extern bool store_log_has_come_to(int64 position);
extern bool store_log_has_events_to(const pg_uuid_t *agent_id);
extern void store_event_poll(FunctionCallInfo fcinfo, const pg_uuid_t *agent_id, const EventQuery *query);

/* retention */
extern int	store_log_expire(TimestampTz now, TimestampTz before);
extern void store_log_delete(TimestampTz before, RetentionCounts *counts);
extern TimestampTz store_log_next_due(void);

/* subscribed agents */
extern bool store_subscribe(const pg_uuid_t *agent_id, const char *channel);
extern int64 store_subscriptions_of(const pg_uuid_t *agent_id, int64 max);
extern bool store_unsubscribe(const pg_uuid_t *agent_id, const char *channel);
extern int64 store_event_cursor(const pg_uuid_t *agent_id);
extern bool store_event_ack(const pg_uuid_t *agent_id, int64 position);
extern int64 store_last_position(void);

#endif							/* COORD_STORE_EVENT_LOG_STORE_H */
