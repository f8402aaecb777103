/*
 * agent_store.c
 *		Stored agents: coord.agent_data.
 *
 * A heartbeat changes heartbeat_at alone, which no index has; and most heartbeats are
 * only noted in shared memory (beat.c), as long as the one that is written here is
 * not older than a third of the timeout.  check_at is the
 * end of the timeout as it was when the row was last looked at; an attached agent
 * has none.  The sweep has yet to give back claims of an inactive agent that has one,
 * and to release leases of one that has an attachment.  Those that have neither have ended,
 * as far as coord is concerned, and an index has them by the instant at which they did.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "beat.h"
#include "clock.h"
#include "errors.h"
#include "settings.h"
#include "store/agent_store.h"
#include "store/event_log_store.h"
#include "store/rows.h"
#include "store/store.h"
#include "worker/wakeup.h"

#define AGENT_COLUMNS \
	"id, name, owner, heartbeat_timeout," \
	" greatest(heartbeat_at, coord.last_beat(id)," \
	"  (SELECT max(b.beat_at) FROM coord.agent_beat b WHERE b.agent_id = agent_data.id))," \
	" inactive_since, retired_at, check_at, attachment, heartbeat_at"

enum
{
	AGENT_DATA_ID = 1, AGENT_DATA_NAME, AGENT_DATA_TYPE, AGENT_DATA_OWNER, AGENT_DATA_METADATA,
	AGENT_DATA_HEARTBEAT_TIMEOUT, AGENT_DATA_HEARTBEAT_AT, AGENT_DATA_REGISTERED_AT, AGENT_DATA_INACTIVE_SINCE,
	AGENT_DATA_RETIRED_AT, AGENT_DATA_CHECK_AT, AGENT_DATA_ATTACHMENT
};

/* of coord.agent */
enum
{
	AGENT_STATUS = 4, AGENT_OWNER = 5, AGENT_LAST_HEARTBEAT_AT = 8
};

static AgentRow *
read_agent(uint64 row)
{
	AgentRow   *agent = palloc(sizeof(AgentRow));

	agent->id = *store_uuid(row, 1);
	agent->name = store_text(row, 2);
	agent->owner = store_oid(row, 3);
	agent->timeout = store_interval(row, 4, 0);
	agent->heartbeat_at = store_time(row, 5, 0);
	agent->inactive_since = store_time(row, 6, DT_NOEND);
	agent->retired_at = store_time(row, 7, DT_NOEND);
	agent->check_at = store_time(row, 8, DT_NOEND);
	agent->attachment = store_int8(row, 9, 0);
	agent->written_at = store_time(row, 10, 0);
	return agent;
}

/*
 * The last heartbeat of an agent that came while its row was locked; DT_NOBEGIN: none.
 * Mostly there is not a single one, of any agent, and then this is not asked again
 * before somebody writes one.
 */
static TimestampTz
last_beat_aside(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT max(beat_at) FROM coord.agent_beat WHERE agent_id = $1"};
	static uint32 none_at = 0;
	uint32		written = coord_beats_written_aside();

	if (written != 0 && written == none_at)
		return DT_NOBEGIN;
	if (rows_is_empty("agent_beat"))
	{
		if (!RecoveryInProgress())
			none_at = written;	/* what is replayed is not counted */
		return DT_NOBEGIN;
	}
	store_run(&plan, STORE_ARGS(arg_uuid(id)));
	return store_time(0, 1, DT_NOBEGIN);
}

/* An agent, not locked; NULL when the snapshot, NULL is that of a statement, shows none. */
static AgentRow *
find_agent(const pg_uuid_t *id, Snapshot snapshot)
{
	RowsTable  *table = rows_open("agent_data", AccessShareLock);
	AgentRow   *agent = palloc(sizeof(AgentRow));
	const StoredRow *row = &agent->row;
	ScanKeyData key;

	if (snapshot != NULL || !rows_find_remembered(table, AGENT_DATA_ID, id, &agent->row))
	{
		rows_key_uuid(&key, 1, id);
		if (!rows_find(table, "agent_data_pkey", 1, &key, snapshot, &agent->row))
			return NULL;
		rows_remember(table, id, &row->place);
	}
	agent->id = *id;
	agent->name = rows_text(row, AGENT_DATA_NAME);
	agent->owner = DatumGetObjectId(row->values[AGENT_DATA_OWNER - 1]);
	agent->timeout = rows_interval(row, AGENT_DATA_HEARTBEAT_TIMEOUT, 0);
	agent->written_at = rows_time(row, AGENT_DATA_HEARTBEAT_AT, 0);
	agent->heartbeat_at = coord_later(agent->written_at, coord_later(coord_last_beat(id), last_beat_aside(id)));
	agent->inactive_since = rows_time(row, AGENT_DATA_INACTIVE_SINCE, DT_NOEND);
	agent->retired_at = rows_time(row, AGENT_DATA_RETIRED_AT, DT_NOEND);
	agent->check_at = rows_time(row, AGENT_DATA_CHECK_AT, DT_NOEND);
	agent->attachment = rows_int8(row, AGENT_DATA_ATTACHMENT, 0);
	return agent;
}

static AgentRow **
read_agents(uint64 n)
{
	AgentRow  **agents = palloc(sizeof(AgentRow *) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		agents[i] = read_agent(i);
	return agents;
}

static StoreArg
arg_check_at(const AgentRow *agent)
{
	return arg_time_or_null(agent->check_at == DT_NOEND, agent->check_at);
}

static StoreArg
arg_attachment(const AgentRow *agent)
{
	return arg_int8_or_null(agent->attachment == 0, agent->attachment);
}

/*
 * An agent, or NULL when there is none, or when it is locked already.  Nobody waits
 * for an agent's row: its owner's open transactions have it locked for long.
 */
AgentRow *
store_agent(const pg_uuid_t *id, StoreLock lock)
{
	static StorePlan plan = {.sql = "SELECT " AGENT_COLUMNS " FROM coord.agent_data WHERE id = $1"
	" FOR NO KEY UPDATE SKIP LOCKED"};

	if (lock == STORE_NO_LOCK)
		return find_agent(id, NULL);
	return store_run(&plan, STORE_ARGS(arg_uuid(id))) ? read_agent(0) : NULL;
}

/* An agent as it is now, whatever the transaction's snapshot is; not locked. */
AgentRow *
store_agent_now(const pg_uuid_t *id)
{
	return find_agent(id, GetLatestSnapshot());
}

/*
 * Keep an agent, whatever the transaction's snapshot is, from being deleted before the end of
 * the transaction; NULL when there is none.  Whatever else is done with its row goes on.
 */
AgentRow *
store_agent_keep(const pg_uuid_t *id)
{
	AgentRow   *agent;

	while ((agent = store_agent_now(id)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		switch (rows_lock(rows_open("agent_data", RowShareLock), &agent->row, LockTupleKeyShare, LockWaitSkip, true))
		{
			case STORE_ROW_LOCKED:
				return agent;
			case STORE_ROW_BUSY:
				coord_error_agent_busy(agent->name);	/* it is about to be deleted */
			case STORE_ROW_CHANGED:
				break;
		}
	}
	return NULL;
}

AgentRow *
store_agent_named(const char *name)
{
	static StorePlan plan = {.sql = "SELECT " AGENT_COLUMNS " FROM coord.agent_data WHERE name = $1"};

	return store_run(&plan, STORE_ARGS(arg_text(name))) ? read_agent(0) : NULL;
}

/* Agents that the sweep must look at, locked; those that are locked already are not among them. */
AgentRow **
store_agents_due(TimestampTz now, int limit, int *n)
{
	static StorePlan plan = {.sql = "SELECT " AGENT_COLUMNS " FROM coord.agent_data WHERE check_at <= $1"
		" AND NOT (id = ANY ($3))"
	" ORDER BY check_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"};

	*n = (int) store_run(&plan, STORE_ARGS(arg_time(now), arg_int4(limit), arg_set_aside()));
	return read_agents(*n);
}

/* How many agents a role has that are not retired, as far as that is not more than "max". */
int
store_agents_of(Oid role, int max)
{
	static StorePlan plan = {.sql = "SELECT count(*) FROM (SELECT FROM coord.agent_data"
	" WHERE owner = $1 AND retired_at IS NULL LIMIT $2) a"};

	store_run(&plan, STORE_ARGS(arg_oid(role), arg_int4(max)));
	return (int) store_int8(0, 1, 0);
}

/* All agents that have an attachment, not locked. */
AgentRow **
store_agents_attached(int *n)
{
	static StorePlan plan = {.sql = "SELECT " AGENT_COLUMNS " FROM coord.agent_data WHERE attachment IS NOT NULL"
	" ORDER BY id"};

	*n = (int) store_run(&plan, 0, NULL);
	return read_agents(*n);
}

/* The earliest instant at which the sweep must look at an agent; DT_NOEND when there is none. */
TimestampTz
store_agents_next_due(void)
{
	static StorePlan plan = {.sql = "SELECT check_at FROM coord.agent_data WHERE check_at IS NOT NULL"
	" AND NOT (id = ANY ($1)) ORDER BY check_at LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_set_aside())) ? store_time(0, 1, DT_NOEND) : DT_NOEND;
}

/* Add an agent as active from its heartbeat_at. */
void
store_agent_insert(const AgentRow *agent, const char *type, Jsonb *metadata)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.agent_data (id, name, type, owner, metadata,"
	" heartbeat_timeout, heartbeat_at, registered_at, check_at, events_after)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $7 + $6, greatest($8, (SELECT last_value FROM coord.event_position)))"};

	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_text(agent->name), arg_text(type),
								arg_oid(agent->owner), arg_jsonb(metadata),
								arg_interval(agent->timeout), arg_time(agent->heartbeat_at), arg_int8(store_last_position())));
	coord_due_at(JOB_AGENTS, agent->heartbeat_at + agent->timeout);
}

/* Make a registered agent what it is registered as now, active from its heartbeat_at. */
void
store_agent_update(AgentRow *agent, const char *type, Jsonb *metadata)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET type = $2, metadata = $3,"
		" heartbeat_timeout = $4, heartbeat_at = $5, inactive_since = NULL, retired_at = NULL,"
	" check_at = $6, attachment = $7 WHERE id = $1"};

	agent->check_at = agent->attachment != 0 ? DT_NOEND : agent->heartbeat_at + agent->timeout;
	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_text(type), arg_jsonb(metadata),
								arg_interval(agent->timeout), arg_time(agent->heartbeat_at),
								arg_check_at(agent), arg_attachment(agent)));
	coord_due_at(JOB_AGENTS, agent->check_at);
}

/* A heartbeat, which makes an inactive agent active. */
void
store_agent_beat(AgentRow *agent, TimestampTz now)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET heartbeat_at = $2, inactive_since = NULL,"
	" check_at = $3, attachment = $4 WHERE id = $1"};

	agent->heartbeat_at = now;
	agent->inactive_since = DT_NOEND;
	if (agent->check_at == DT_NOEND && agent->attachment == 0)
	{
		agent->check_at = now + agent->timeout;
		coord_due_at(JOB_AGENTS, agent->check_at);
	}
	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_time(now), arg_check_at(agent), arg_attachment(agent)));
}

/* Bind the life of a locked agent to an attachment, from now. */
void
store_agent_attach(AgentRow *agent, int64 attachment, TimestampTz now)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET heartbeat_at = $2, inactive_since = NULL,"
	" check_at = NULL, attachment = $3 WHERE id = $1"};

	agent->heartbeat_at = now;
	agent->inactive_since = DT_NOEND;
	agent->check_at = DT_NOEND;
	agent->attachment = attachment;
	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_time(now), arg_int8(attachment)));
}

/* A heartbeat of an active agent whose row another transaction has locked. */
void
store_agent_beat_aside(const AgentRow *agent, TimestampTz now)
{
	static StorePlan plan = {.sql = "INSERT INTO coord.agent_beat (agent_id, beat_at) VALUES ($1, $2)"};

	/* on both sides: whoever has found none before the row was there asks again */
	coord_beat_is_written_aside();
	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_time(now)));
	coord_beat_is_written_aside();
}

/*
 * A heartbeat of an active agent, noted in shared memory.  False when it is to be
 * written, too.
 */
bool
store_agent_note_beat(const AgentRow *agent, TimestampTz now)
{
	return coord_beat(&agent->id, agent->owner, now, now + agent->timeout) && now - agent->written_at < agent->timeout / 3;
}

/* Write the heartbeats that are only noted, as far as nobody has the rows locked. */
void
store_agents_write_beats(void)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET heartbeat_at = coord.last_beat(id) WHERE ctid = ANY (ARRAY("
	"SELECT ctid FROM coord.agent_data WHERE coord.last_beat(id) > heartbeat_at FOR NO KEY UPDATE SKIP LOCKED))"};

	store_run(&plan, 0, NULL);
}

/*
 * The heartbeat that a claim is.  When another transaction has the row, it is
 * beating for the agent, or is about to end it: either way we need not wait.
 */
void
store_agent_beat_unless_locked(const AgentRow *agent, TimestampTz now)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET heartbeat_at = $2 WHERE id ="
	" (SELECT id FROM coord.agent_data WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED)"
	" AND heartbeat_at < $2 AND inactive_since IS NULL AND retired_at IS NULL"};

	if (!store_agent_note_beat(agent, now))
		store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_time(now)));
}

/* An agent has ended, and is to be retired or deleted if it stays so. */
static void
due_after_retention(TimestampTz ended_at)
{
	coord_due_at(JOB_ENDED, ended_at + (int64) coord_agent_retention * USECS_PER_SEC);
}

/*
 * Write that a locked agent has ended.  Unless all its claims were given back, when
 * check_at is DT_NOEND, the sweep goes on with it at check_at; if it was attached, its
 * leases are to be released.  What open transactions are claiming for it is not seen here.
 */
void
store_agent_set_inactive(AgentRow *agent, TimestampTz since, TimestampTz check_at)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET inactive_since = $2, check_at = $3 WHERE id = $1"};

	agent->inactive_since = since;
	agent->check_at = check_at;
	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_time(since), arg_check_at(agent)));
	coord_due_at(JOB_AGENTS, agent->check_at);
	if (check_at == DT_NOEND)
		coord_due_at(JOB_ORPHANS, COORD_DUE_NOW);
	if (check_at == DT_NOEND && agent->attachment != 0)
		coord_due_at(JOB_RELEASES, COORD_DUE_NOW);
	else if (check_at == DT_NOEND)
		due_after_retention(since);
}

/* Agents that have ended and whose leases are to be released: the next ones after an id, "limit" at most. */
UuidList
store_agents_to_release(const pg_uuid_t *after, int limit)
{
	static StorePlan plan = {.sql = "SELECT id FROM coord.agent_data WHERE attachment IS NOT NULL"
	" AND inactive_since IS NOT NULL AND check_at IS NULL AND id > $1 ORDER BY id LIMIT $2"};

	store_run(&plan, STORE_ARGS(arg_uuid(after), arg_int4(limit)));
	return store_uuids();
}

/*
 * Their leases have been released.  Returns for how many that was written: not for those
 * that are locked, or have come back meanwhile.
 */
int
store_agents_released(const UuidList *agents)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET attachment = NULL WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM coord.agent_data WHERE id = ANY ($1) AND attachment IS NOT NULL"
	" AND inactive_since IS NOT NULL AND check_at IS NULL FOR NO KEY UPDATE SKIP LOCKED))"};

	due_after_retention(coord_now());	/* a moment later than they have ended */
	return (int) store_run(&plan, STORE_ARGS(arg_uuids(agents)));
}

void
store_agent_set_retired(AgentRow *agent, TimestampTz now)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET retired_at = $2, check_at = NULL,"
	" attachment = NULL WHERE id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_time(now)));
	agent->retired_at = now;
	agent->check_at = DT_NOEND;
	agent->attachment = 0;
	coord_due_at(JOB_ORPHANS, COORD_DUE_NOW);
	coord_due_at(JOB_RETIRED, COORD_DUE_NOW);
	due_after_retention(now);
}

/* Write when the sweep must look at a locked agent, and fold in what beat aside. */
void
store_agent_set_check_at(AgentRow *agent, TimestampTz check_at)
{
	static StorePlan plan = {.sql = "UPDATE coord.agent_data SET check_at = $2, heartbeat_at = $3 WHERE id = $1"};
	static StorePlan fold = {.sql = "DELETE FROM coord.agent_beat WHERE agent_id = $1 AND beat_at <= $2"};

	agent->check_at = check_at;
	store_run(&plan, STORE_ARGS(arg_uuid(&agent->id), arg_check_at(agent), arg_time(agent->heartbeat_at)));
	store_run(&fold, STORE_ARGS(arg_uuid(&agent->id), arg_time(agent->heartbeat_at)));
	coord_due_at(JOB_AGENTS, check_at);
}

/* ---- agents that have ended ---- */

/* as the index agent_data_ended_at has them */
#define ENDED_AT "coalesce(retired_at, inactive_since)"
#define HAS_ENDED "check_at IS NULL AND attachment IS NULL AND " ENDED_AT

/*
 * Agents that had ended before an instant, the next ones after one of them, "limit" at most;
 * not locked.  Those that are retired stay as long as somebody may see them otherwise.
 */
int
store_agents_ended(TimestampTz before, const EndedAgent *after, EndedAgent *agents, int limit)
{
	static StorePlan plan = {.sql = "SELECT id, " ENDED_AT ", retired_at IS NOT NULL, ctid FROM coord.agent_data"
		" WHERE " HAS_ENDED " <= $1 AND (" ENDED_AT ", id) > ($2, $3) AND NOT (id = ANY ($5))"
	" ORDER BY " ENDED_AT ", id LIMIT $4"};
	RowsTable  *table = rows_open("agent_data", AccessShareLock);
	int			n = (int) store_run(&plan, STORE_ARGS(arg_time(before), arg_time(after->ended_at), arg_uuid(&after->id),
													  arg_int4(limit), arg_set_aside()));

	for (int i = 0; i < n; i++)
	{
		ItemPointerData place = store_place(i, 4);

		agents[i].id = *store_uuid(i, 1);
		agents[i].ended_at = store_time(i, 2, 0);
		agents[i].stays = store_bool(i, 3) && !rows_is_seen_by_all(table, &place);
	}
	return n;
}

/* When the first of those that have ended did; DT_NOEND when there is none. */
TimestampTz
store_agents_first_ended(void)
{
	static StorePlan plan = {.sql = "SELECT " ENDED_AT " FROM coord.agent_data WHERE " HAS_ENDED " IS NOT NULL"
	" AND NOT (id = ANY ($1)) ORDER BY " ENDED_AT ", id LIMIT 1"};

	return store_run(&plan, STORE_ARGS(arg_set_aside())) ? store_time(0, 1, DT_NOEND) : DT_NOEND;
}

/* One of them, locked; NULL when another transaction has it locked, or it is not what it was any more. */
AgentRow *
store_agent_ended(const EndedAgent *ended)
{
	static StorePlan plan = {.sql = "SELECT " AGENT_COLUMNS " FROM coord.agent_data WHERE id = $1"
	" AND " HAS_ENDED " = $2 FOR UPDATE SKIP LOCKED"};

	return store_run(&plan, STORE_ARGS(arg_uuid(&ended->id), arg_time(ended->ended_at))) ? read_agent(0) : NULL;
}

/*
 * Lock what there is under an agent's id elsewhere, so that it goes with the agent or not at
 * all.  False when another transaction has something of it locked.
 */
bool
store_agent_lock_belongings(const pg_uuid_t *id)
{
#define IS_LOCKED_WHOLE(relation) \
	"(SELECT count(*) FROM coord." relation " WHERE agent_id = $1) =" \
	" (SELECT count(*) FROM (SELECT FROM coord." relation " WHERE agent_id = $1 FOR UPDATE SKIP LOCKED) locked)"
	static StorePlan plan = {.sql = "SELECT " IS_LOCKED_WHOLE("event_subscription") " AND " IS_LOCKED_WHOLE("event_cursor")
	" AND " IS_LOCKED_WHOLE("agent_beat")};

	store_run(&plan, STORE_ARGS(arg_uuid(id)));
	return store_bool(0, 1);
}

/* Delete that; returns how many rows there were. */
int
store_agent_delete_belongings(const pg_uuid_t *id)
{
	static StorePlan subscriptions = {.sql = "DELETE FROM coord.event_subscription WHERE agent_id = $1"};
	static StorePlan cursor = {.sql = "DELETE FROM coord.event_cursor WHERE agent_id = $1"};
	static StorePlan beats = {.sql = "DELETE FROM coord.agent_beat WHERE agent_id = $1"};
	uint64		n = store_run(&subscriptions, STORE_ARGS(arg_uuid(id)));

	n += store_run(&cursor, STORE_ARGS(arg_uuid(id)));
	return (int) (n + store_run(&beats, STORE_ARGS(arg_uuid(id))));
}

/* Delete a locked agent, whose belongings are deleted. */
void
store_agent_delete(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "DELETE FROM coord.agent_data WHERE id = $1"};

	store_run(&plan, STORE_ARGS(arg_uuid(id)));
}

/* ---- results ---- */

/* The agent as users see it.  One that the transaction has not locked may have been deleted. */
Datum
store_agent_result(const pg_uuid_t *id)
{
	static StorePlan plan = {.sql = "SELECT ROW(a.*)::coord.agent FROM coord.agent_all a WHERE a.id = $1"};

	if (store_run(&plan, STORE_ARGS(arg_uuid(id))) == 0)
		coord_error_no_agent(id);
	return store_result();
}

/* The same, of an active agent whose row was found by its id. */
Datum
store_agent_as_result(const AgentRow *agent)
{
	static const int columns[] = {
		AGENT_DATA_ID, AGENT_DATA_NAME, AGENT_DATA_TYPE, 0, 0, AGENT_DATA_METADATA,
		AGENT_DATA_HEARTBEAT_TIMEOUT, 0, AGENT_DATA_REGISTERED_AT, AGENT_DATA_INACTIVE_SINCE
	};
	StoredRow	row;

	rows_project(&row, &agent->row, lengthof(columns), columns);
	rows_set_arg(&row, AGENT_STATUS, arg_text("active"));
	rows_set(&row, AGENT_OWNER, DirectFunctionCall1(pg_get_userbyid, ObjectIdGetDatum(agent->owner)));
	rows_set(&row, AGENT_LAST_HEARTBEAT_AT, TimestampTzGetDatum(agent->heartbeat_at));
	return rows_as_result("agent", &row);
}
