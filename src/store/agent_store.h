/*
 * agent_store.h
 *		Stored agents: coord.agent_data.
 */
#ifndef COORD_STORE_AGENT_STORE_H
#define COORD_STORE_AGENT_STORE_H

#include "store/store.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/rows.h"

typedef struct AgentRow
{
	StoredRow	row;			/* if it was found by its id, not locked */
	pg_uuid_t	id;
	char	   *name;
	Oid			owner;			/* a role, which may have been dropped */
	int64		timeout;		/* of heartbeats, microseconds */
	TimestampTz heartbeat_at;
	TimestampTz written_at;		/* heartbeat_at as it is stored */
	TimestampTz inactive_since; /* DT_NOEND: not marked as inactive */
	TimestampTz retired_at;		/* DT_NOEND: not retired */
	TimestampTz check_at;		/* DT_NOEND: not to be looked at */
	int64		attachment;		/* 0: its life is not bound to a connection */
} AgentRow;

/* an agent that was inactive, or retired, at an instant */
typedef struct EndedAgent
{
	pg_uuid_t	id;
	TimestampTz ended_at;		/* since when it is that */
	bool		stays;			/* as it is, for the time being */
} EndedAgent;

/* whether to lock the row, and whether to wait for it */
typedef enum StoreLock
{
	STORE_NO_LOCK,
	STORE_LOCK_WAIT,
	STORE_LOCK_SKIP
} StoreLock;

extern AgentRow *store_agent(const pg_uuid_t *id, StoreLock lock);
extern AgentRow *store_agent_now(const pg_uuid_t *id);
extern AgentRow *store_agent_named(const char *name);
extern AgentRow *store_agent_keep(const pg_uuid_t *id);
extern AgentRow **store_agents_due(TimestampTz now, int limit, int *n);
extern int	store_agents_of(Oid role, int max);
extern AgentRow **store_agents_attached(int *n);
extern TimestampTz store_agents_next_due(void);
extern void store_agent_insert(const AgentRow *agent, const char *type, Jsonb *metadata);
extern void store_agent_update(AgentRow *agent, const char *type, Jsonb *metadata);
extern void store_agent_beat(AgentRow *agent, TimestampTz now);
extern void store_agent_beat_aside(const AgentRow *agent, TimestampTz now);
extern bool store_agent_note_beat(const AgentRow *agent, TimestampTz now);
extern void store_agents_write_beats(void);
extern void store_agent_beat_unless_locked(const AgentRow *agent, TimestampTz now);
extern void store_agent_attach(AgentRow *agent, int64 attachment, TimestampTz now);
extern void store_agent_set_inactive(AgentRow *agent, TimestampTz since, TimestampTz check_at);
extern UuidList store_agents_to_release(const pg_uuid_t *after, int limit);
extern int	store_agents_released(const UuidList *agents);
extern void store_agent_set_retired(AgentRow *agent, TimestampTz now);
extern void store_agent_set_check_at(AgentRow *agent, TimestampTz check_at);
extern int	store_agents_ended(TimestampTz before, const EndedAgent *after, EndedAgent *agents, int limit);
extern TimestampTz store_agents_first_ended(void);
extern AgentRow *store_agent_ended(const EndedAgent *ended);
extern bool store_agent_lock_belongings(const pg_uuid_t *id);
extern int	store_agent_delete_belongings(const pg_uuid_t *id);
extern void store_agent_delete(const pg_uuid_t *id);
extern Datum store_agent_result(const pg_uuid_t *id);
extern Datum store_agent_as_result(const AgentRow *agent);

#endif							/* COORD_STORE_AGENT_STORE_H */
