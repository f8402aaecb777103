/*
 * event_store.h
 *		Events that have yet to be delivered: coord.event_inbox.
 */
#ifndef COORD_STORE_EVENT_STORE_H
#define COORD_STORE_EVENT_STORE_H

#include "store/agent_store.h"
#include "store/lease_store.h"
#include "store/task_store.h"

/* a token or a position in JSON, as coord_needs_digits() wants it */
#define STORE_JSON_DIGITS(number) \
	"CASE WHEN " number " < 9007199254740992 THEN to_jsonb(" number ") ELSE to_jsonb(" number "::text) END"

/* the beginning of a statement that adds events, and such a statement, for lock.expired */
#define STORE_INSERT_EVENT \
	"INSERT INTO coord.event_inbox (id, type, severity, sender_id, recipient_id, channel, payload, created_at) "
#define STORE_INSERT_LOCK_EXPIRED(id, lease_id, resource_key, agent_id, fencing_token, expires_at, now) \
	STORE_INSERT_EVENT "SELECT " id ", 'lock.expired', 'warning', NULL, " agent_id ", 'coord.locks'," \
	" jsonb_build_object('lease_id', " lease_id ", 'resource_key', " resource_key ", 'agent_id', " agent_id "," \
	" 'fencing_token', " STORE_JSON_DIGITS(fencing_token) ", 'expires_at', " expires_at "), " now

extern Datum store_event_insert(const pg_uuid_t *id, const char *type, const char *severity,
								const pg_uuid_t *sender_id, const pg_uuid_t *recipient_id,
								const char *channel, Jsonb *payload, TimestampTz now);
extern void store_event_agent(const char *type, const AgentRow *agent, TimestampTz now);
extern void store_event_lock_expired(const LeaseRow *lease, TimestampTz now);
extern void store_event_task_requeued(const TaskRow *task, const char *reason,
									  TimestampTz run_at, TimestampTz now);
extern void store_event_task_dead(const TaskRow *task, const char *error, TimestampTz now);

/* an event of the inbox, as it was seen */
typedef struct InboxEntry
{
	pg_uuid_t	id;
	ItemPointerData place;
} InboxEntry;

extern bool store_inbox_has_events_to(const pg_uuid_t *agent_id);
extern uint32 store_inbox_file(void);
extern int	store_inbox_look(Snapshot snapshot, BlockNumber from, InboxEntry *entries, int max, bool *more);
extern int	store_inbox_take(const InboxEntry *entries, int *n, int64 budget, int64 *first_position);

#endif							/* COORD_STORE_EVENT_STORE_H */
