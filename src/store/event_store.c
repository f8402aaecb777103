/*
 * event_store.c
 *		Events that have yet to be delivered: coord.event_inbox.
 *
 * The inbox has no index and its rows live shortly.  Who delivers does not scan it from
 * its start, where dead rows pile up while an old snapshot keeps vacuum from removing
 * them: a transaction remembers the first block that it has written to, and its commit
 * tells (coord_event_sent).
 *
 * The table of the system's own event types is here, one function each: type,
 * severity, recipient, channel and payload as users read them.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "sequence.h"
#include "store/event_log_store.h"
#include "store/event_store.h"
#include "store/rows.h"
#include "store/store.h"
#include "uuid7.h"
#include "worker/wakeup.h"

/* the columns of event_inbox */
enum
{
	INBOX_ID = 1, INBOX_TYPE, INBOX_SEVERITY, INBOX_SENDER_ID, INBOX_RECIPIENT_ID, INBOX_CHANNEL, INBOX_PAYLOAD,
	INBOX_CREATED_AT, INBOX_NCOLUMNS = INBOX_CREATED_AT
};

/* rows of the log that are written together */
#define LOG_ROWS 64

/* Add an event, and give it as users see it. */
Datum
store_event_insert(const pg_uuid_t *id, const char *type, const char *severity,
				   const pg_uuid_t *sender_id, const pg_uuid_t *recipient_id,
				   const char *channel, Jsonb *payload, TimestampTz now)
{
	static const int columns[] = {INBOX_ID, 0, INBOX_TYPE, INBOX_SEVERITY, INBOX_SENDER_ID, INBOX_RECIPIENT_ID,
	INBOX_CHANNEL, INBOX_PAYLOAD, INBOX_CREATED_AT};
	StoredRow	row;
	StoredRow	result;

	rows_set_arg(&row, INBOX_ID, arg_uuid(id));
	rows_set_arg(&row, INBOX_TYPE, arg_text(type));
	rows_set_arg(&row, INBOX_SEVERITY, arg_text(severity));
	rows_set_arg(&row, INBOX_SENDER_ID, arg_uuid(sender_id));
	rows_set_arg(&row, INBOX_RECIPIENT_ID, arg_uuid(recipient_id));
	rows_set_arg(&row, INBOX_CHANNEL, arg_text(channel));
	rows_set_arg(&row, INBOX_PAYLOAD, arg_jsonb(payload));
	rows_set_arg(&row, INBOX_CREATED_AT, arg_time(now));
	rows_insert(rows_open("event_inbox", RowExclusiveLock), &row);
	coord_event_sent(ItemPointerGetBlockNumber(&row.place));
	rows_project(&result, &row, lengthof(columns), columns);
	return rows_as_result("event", &result);
}

static StoreArg
new_event_id(void)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	coord_uuid7(id);
	return arg_uuid(id);
}

/* Add one of the system's own events. */
static void
insert_system_event(StorePlan *plan, int nargs, const StoreArg *args)
{
	ItemPointerData place;

	store_run(plan, nargs, args);
	place = store_place(0, 1);
	coord_event_sent(ItemPointerGetBlockNumber(&place));
}

/* agent.inactive and agent.active */
void
store_event_agent(const char *type, const AgentRow *agent, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT
	"VALUES ($1, $2, CASE $2 WHEN 'agent.inactive' THEN 'warning' ELSE 'info' END, NULL, NULL, 'coord.agents',"
	" jsonb_build_object('agent_id', $3, 'name', $4, 'last_heartbeat_at', $5), $6) RETURNING ctid"};

	insert_system_event(&plan, STORE_ARGS(new_event_id(), arg_text(type), arg_uuid(&agent->id),
								arg_text(agent->name), arg_time(agent->heartbeat_at), arg_time(now)));
}

void
store_event_lock_expired(const LeaseRow *lease, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_LOCK_EXPIRED("$1", "$2", "$3", "$4", "$5", "$6", "$7") " RETURNING ctid"};

	insert_system_event(&plan, STORE_ARGS(new_event_id(), arg_uuid(&lease->id), arg_text(lease->resource_key),
								arg_uuid(&lease->agent_id), arg_int8(lease->fencing_token),
								arg_time(lease->expires_at), arg_time(now)));
}

/* To the agent that lost the claim; "task" is as it was while claimed. */
void
store_event_task_requeued(const TaskRow *task, const char *reason, TimestampTz run_at, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT
	"VALUES ($1, 'task.requeued', 'warning', NULL, $4, 'coord.tasks',"
	" jsonb_build_object('task_id', $2, 'queue', $3, 'agent_id', $4, 'reason', $5,"
	" 'attempts', $6, 'run_at', $7), $8) RETURNING ctid"};

	insert_system_event(&plan, STORE_ARGS(new_event_id(), arg_uuid(&task->id), arg_text(task->queue),
								arg_uuid(task->agent_id), arg_text(reason), arg_int4(task->attempts),
								arg_time(run_at), arg_time(now)));
}

void
store_event_task_dead(const TaskRow *task, const char *error, TimestampTz now)
{
	static StorePlan plan = {.sql = STORE_INSERT_EVENT
	"VALUES ($1, 'task.dead', 'error', NULL, NULL, 'coord.tasks',"
	" jsonb_build_object('task_id', $2, 'queue', $3, 'attempts', $4, 'error', $5), $6) RETURNING ctid"};

	insert_system_event(&plan, STORE_ARGS(new_event_id(), arg_uuid(&task->id), arg_text(task->queue),
								arg_int4(task->attempts), arg_text(error), arg_time(now)));
}

/* Whether there is one to that agent, also for an older snapshot. */
bool
store_inbox_has_events_to(const pg_uuid_t *agent_id)
{
	static StorePlan plan = {.sql = "SELECT FROM coord.event_inbox WHERE recipient_id = $1 LIMIT 1"};

	return store_run_latest(&plan, STORE_ARGS(arg_uuid(agent_id))) > 0;
}

/* ---- delivering ---- */

static int
compare_entries(const void *a, const void *b)
{
	return memcmp(&((const InboxEntry *) a)->id, &((const InboxEntry *) b)->id, sizeof(pg_uuid_t));
}

/* The file in which the inbox is; VACUUM FULL, for example, makes another. */
uint32
store_inbox_file(void)
{
	return coord_file_of(rows_open("event_inbox", RowExclusiveLock)->rel);
}

/*
 * The events from that block of the inbox on that a snapshot shows, in the order of
 * their ids, which within a transaction is that of sending.  When there are more than
 * "max", those that come first; then *more.  "entries" has room for 2 * max.
 */
int
store_inbox_look(Snapshot snapshot, BlockNumber from, InboxEntry *entries, int max, bool *more)
{
	RowsTable  *table = rows_open("event_inbox", RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	ItemPointerData first;
	ItemPointerData last;
	TableScanDesc scan;
	int			n = 0;

	*more = false;
	ItemPointerSet(&first, from, FirstOffsetNumber);
	ItemPointerSet(&last, MaxBlockNumber, MaxOffsetNumber);
	scan = table_beginscan_tidrange(table->rel, snapshot, &first, &last);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (n == 2 * max)
		{
			qsort(entries, n, sizeof(InboxEntry), compare_entries);
			n = max;
			*more = true;
		}
		entries[n].id = *DatumGetUUIDP(slot_getattr(slot, INBOX_ID, &isnull));
		entries[n++].place = slot->tts_tid;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);

	qsort(entries, n, sizeof(InboxEntry), compare_entries);
	*more |= n > max;
	return Min(n, max);
}

/*
 * Move events from the inbox to the log, and give them positions; those that somebody
 * else has moved since they were seen are passed over.  The caller has the delivery lock.
 * Returns how many, and their positions, which follow each other.  Ends early when their
 * payloads have come to "budget" bytes, and says in *n how many of the entries are done.
 */
int
store_inbox_take(const InboxEntry *entries, int *n, int64 budget, int64 *first_position)
{
	RowsTable  *inbox = rows_open("event_inbox", RowExclusiveLock);
	int64		position;
	int			partition = store_log_partition(coord_now(), *n, &position);
	RowsTable  *log = store_log_open(partition, RowExclusiveLock);
	StoredRow  *rows = palloc(sizeof(StoredRow) * LOG_ROWS);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "coord delivery", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			taken = 0;
	int			nrows = 0;

	*first_position = position;
	for (int i = 0; i < *n; i++)
	{
		StoredRow	row;

		if (rows_fetch_live(inbox, &entries[i].place, &row) == STORE_ROW_LOCKED &&
			memcmp(rows_uuid(&row, INBOX_ID), &entries[i].id, sizeof(pg_uuid_t)) == 0 &&
			rows_delete(inbox, &entries[i].place, false) == STORE_ROW_LOCKED)
		{
			store_log_form(&rows[nrows++], position + taken++, row.values, row.nulls, INBOX_NCOLUMNS, partition);
			if ((budget -= toast_datum_size(row.values[INBOX_PAYLOAD - 1])) <= 0)
				*n = i + 1;
		}
		if (nrows == LOG_ROWS || (i == *n - 1 && nrows > 0))
		{
			rows_insert_many(log, rows, nrows);
			nrows = 0;
			MemoryContextReset(context);
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	pfree(rows);
	return taken;
}
