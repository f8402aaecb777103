/*
 * delivery.c
 *		From the inbox to who reads and who listens.
 *
 * NOTIFY takes a lock on the whole cluster from commit until the commit is flushed, so
 * a sender never notifies: it adds its event to the inbox, and its commit wakes the
 * worker.  That works in two steps, a transaction each:
 *
 *	1. Committed events are moved to the log and get their positions.  One transaction
 *	   at a time does so, and positions become visible at its commit: a reader that goes
 *	   on from the last position it saw misses nothing, however late a sender commits.
 *	2. Who listens is notified of what is in the log.  As nobody is told of a position
 *	   that is not durable, none is given twice, and this commit need not be flushed
 *	   under the lock: a crash that loses it has ended the listeners' sessions too.
 *
 * How far each step has come is in shared memory (CoordDatabase): a worker that takes
 * over goes on where the former one stood.  After a restart nobody listens who was there
 * before, and step 2 begins with what is delivered next.
 *
 * When the queue of notifications fills up, because somebody who listens has a transaction
 * open, step 2 waits; events are delivered and can be read all the same.
 *
 * Without a worker the readers do both, in their transaction, which can then not be
 * prepared.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "committing.h"
#include "delivery.h"
#include "event_listen.h"
#include "locks.h"
#include "settings.h"
#include "store/event_log_store.h"
#include "store/event_store.h"
#include "worker/shared.h"
#include "worker/wakeup.h"
#include "worker/worker.h"

/* the worker moves so many in a transaction, remembering so many more */
#define BATCH 1000
#define BACKLOG 50000

/* and no more than so many bytes of payloads */
#define BATCH_BYTES (8 * 1024 * 1024)

/* a reader without a worker moves so many at a time */
#define READER_BATCH 10000

/* notifications in a transaction */
#define NOTICES 1000

/* for how long a session does not wait again for a worker that has not come */
#define WORKER_MISSING (10 * USECS_PER_SEC)

/* how soon to see whether the queue of notifications has room again */
#define FULL_RETRY USECS_PER_SEC

/* events that have been seen in the inbox, in order */
typedef struct Backlog
{
	InboxEntry *entries;		/* room for twice its size */
	int			size;
	int			n;
	int			next;
	bool		more;			/* there were more */
} Backlog;

static Backlog worker_backlog;	/* in TopMemoryContext */
static uint32 worker_file = 0;	/* of the inbox: places mean something in it alone */
static TimestampTz full_until = 0;	/* of the queue of notifications; 0: it has room */
static uint64 deliveries_seen = 0;	/* how many readers had asked when the worker looked last */
static int64 notifying_to = 0;	/* of the transaction that notifies */

static void notify_range(int64 after, int64 to);

/* For this transaction. */
void
coord_set_synchronous_commit(const char *value)
{
	(void) set_config_option("synchronous_commit", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* Look into the inbox, which is locked, from where something may be. */
static void
look(Backlog *backlog, CoordDatabase *db)
{
	BlockNumber from = 0;
	Snapshot	snapshot;

	if (db != NULL)
	{
		deliveries_seen = pg_atomic_read_u64(&db->deliveries_asked);
		pg_atomic_write_u32(&db->delivering, true);
		from = pg_atomic_exchange_u32(&db->inbox_from, InvalidBlockNumber);
	}
	backlog->next = 0;
	backlog->n = 0;
	backlog->more = false;
	if (from == InvalidBlockNumber)
		return;
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	if (db != NULL)
	{
		/* each is read once: Min() would read again what a commit takes back meanwhile */
		BlockNumber committing = coord_committing_from();
		BlockNumber told = pg_atomic_read_u32(&db->inbox_from);

		from = Min(from, Min(committing, told));
	}
	backlog->n = store_inbox_look(snapshot, from, backlog->entries, backlog->size, &backlog->more);
	UnregisterSnapshot(snapshot);
	if (backlog->more && db != NULL)
		coord_lower_block(&db->inbox_from, from);
}

/* Up to which position, before that one, listeners have been notified: a worker may have left some. */
static int64
notified_before(int64 first)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;
	int64		notified_to = db != NULL ? (int64) pg_atomic_read_u64(&db->notified_to) : 0;

	return notified_to > 0 && notified_to < first ? notified_to : first - 1;
}

/* Move what comes next in the backlog to the log; returns how many events. */
static int
take(Backlog *backlog, int limit)
{
	int			n = Min(limit, backlog->n - backlog->next);
	int64		first;
	int			taken;

	if (n == 0)
		return 0;
	taken = store_inbox_take(&backlog->entries[backlog->next], &n, coord_is_worker() ? BATCH_BYTES : PG_INT64_MAX, &first);
	backlog->next += n;
	if (taken > 0)
	{
		bool		notify = !coord_worker_runs() && coord_may_notify(coord_now());

		if (notify)
			notify_range(notified_before(first), first + taken - 1);
		coord_events_stamped(first, first + taken - 1, notify);
	}
	return taken;
}

static Backlog *
make_backlog(int size)
{
	Backlog    *backlog = palloc0(sizeof(Backlog));

	backlog->entries = palloc(sizeof(InboxEntry) * 2 * size);
	backlog->size = size;
	return backlog;
}

/* Look again when all that the worker has seen is moved, or the inbox was rewritten. */
static void
look_if_done(Backlog *backlog)
{
	uint32		file = store_inbox_file();

	if (backlog->entries == NULL)
	{
		backlog->entries = MemoryContextAlloc(TopMemoryContext, sizeof(InboxEntry) * 2 * BACKLOG);
		backlog->size = BACKLOG;
	}
	if (file != worker_file)
		coord_deliver_anew();
	worker_file = file;
	if (backlog->next == backlog->n)
		look(backlog, coord_find_database(MyDatabaseId));
}

/*
 * Whether to go on.  What was committed since the worker has looked is told in inbox_from;
 * the batch that now ends may have been made for it, and has not looked.
 */
static bool
is_there_more(const Backlog *backlog, int taken)
{
	CoordDatabase *db;

	/* an old snapshot shows what others have moved, again and again */
	if (!coord_is_worker())
		return backlog->more && taken > 0;
	db = coord_find_database(MyDatabaseId);
	return backlog->next < backlog->n || backlog->more ||
		pg_atomic_read_u32(&db->inbox_from) != InvalidBlockNumber ||
		pg_atomic_read_u64(&db->deliveries_asked) != deliveries_seen;
}

/* Give a batch of committed events their positions; SWEEP_LOCKED when another transaction is at it. */
SweepOutcome
coord_deliver_events(SweepCounts *counts)
{
	Backlog    *backlog = &worker_backlog;
	int			taken;

	if (!coord_try_lock_delivery())
		return SWEEP_LOCKED;
	if (coord_is_worker() && synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		coord_set_synchronous_commit("local");
	if (!coord_is_worker())
	{
		backlog = make_backlog(READER_BATCH);
		look(backlog, NULL);
	}
	else
		look_if_done(backlog);
	taken = take(backlog, coord_is_worker() ? BATCH : READER_BATCH);
	counts->events_delivered += taken;
	return is_there_more(backlog, taken) ? SWEEP_MORE : taken > 0 ? SWEEP_SOME : SWEEP_IDLE;
}

/* Whether what the worker has seen in the inbox is delivered, but for others that it has no room for. */
bool
coord_delivered_all_seen(void)
{
	return worker_backlog.next == worker_backlog.n && !worker_backlog.more;
}

/* For how many readers, of those that have asked, all is delivered that was committed before. */
uint64
coord_deliveries_seen(void)
{
	return deliveries_seen;
}

/* What the worker has seen in the inbox may be wrong, or was undone: look at all of it. */
void
coord_deliver_anew(void)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);

	worker_backlog.next = worker_backlog.n = 0;
	worker_backlog.more = false;
	if (db != NULL)
		pg_atomic_write_u32(&db->inbox_from, 0);
}

/*
 * Wait for the worker's next delivery, if there is anything to deliver.  One that is about to
 * begin is waited for, too, unless it lately was in vain.  False when there is none.
 */
static bool
wait_for_worker(void)
{
	static TimestampTz missed_at = DT_NOBEGIN;
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;
	TimestampTz now = coord_now();

	if (db == NULL ||
		(db->pid == 0 && (XactReadOnly || (missed_at <= now && now < missed_at + WORKER_MISSING))))
		return false;
	if (!coord_events_may_wait(db))
		return true;
	coord_wait_for_delivery();
	if (coord_worker_runs())
		return true;
	missed_at = coord_now();
	return false;
}

/* Whether every event that was committed before is delivered; false also if nobody can tell. */
bool
coord_all_is_delivered(void)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;

	return db != NULL && coord_committing_from() == InvalidBlockNumber && !coord_events_may_wait(db);
}

/*
 * Wait until every event that was committed before this call is delivered; without a
 * worker, deliver.  Nobody else can do so then before this transaction ends.
 */
void
coord_await_delivery(void)
{
	SweepCounts counts = {0};

	if (wait_for_worker() || XactReadOnly)
		return;
	while (coord_deliver_events(&counts) == SWEEP_MORE)
		CHECK_FOR_INTERRUPTS();
}

/* ---- notifying ---- */

/* Notify who listens for events in the log, NOTICES at most; returns how far it came. */
static int64
notify_some(int64 after, int64 to)
{
	EventHead  *heads = palloc(sizeof(EventHead) * NOTICES);
	int			n = store_event_heads(after, to, NOTICES, heads);

	for (int i = 0; i < n; i++)
		coord_event_notify(&heads[i]);
	return n == NOTICES ? heads[n - 1].position : to;
}

static void
notify_range(int64 after, int64 to)
{
	while (after < to)
		after = notify_some(after, to);
}

/* Whether the queue of notifications leaves room for ours; says so once when it does not. */
bool
coord_may_notify(TimestampTz now)
{
	double		usage = DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE));
	bool		has_room = usage <= coord_notify_queue_limit;

	if (!has_room && full_until == 0)
		ereport(WARNING,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the queue of notifications is fuller than coord.notify_queue_limit, and coord's wait"),
				 errdetail("Events are delivered all the same, and event_list has them."),
				 errhint("A session that listens has a transaction open. End it.")));
	if (has_room && full_until != 0)
		ereport(LOG, (errmsg("the queue of notifications has room again, and coord goes on notifying")));
	full_until = has_room ? 0 : now + FULL_RETRY;
	return has_room;
}

/* When to ask again; the past if there is room, or if the clock has been stepped back. */
TimestampTz
coord_may_notify_at(void)
{
	return full_until <= coord_now() + FULL_RETRY ? full_until : COORD_DUE_NOW;
}

/* Notify who listens for events that were given positions. */
SweepOutcome
coord_notify_events(SweepCounts *counts pg_attribute_unused())
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);
	int64		after;
	int64		to;

	notifying_to = 0;
	if (coord_notices_next_due() == DT_NOEND || !coord_may_notify(coord_now()))
		return SWEEP_IDLE;
	if (!coord_try_lock_delivery())
		return SWEEP_LOCKED;	/* a reader, from before this worker began, may be notifying of these */
	after = (int64) pg_atomic_read_u64(&db->notified_to);
	to = (int64) pg_atomic_read_u64(&db->stamped_to);
	if (after >= to)
		return SWEEP_IDLE;
	coord_set_synchronous_commit("off");
	notifying_to = notify_some(after, to);
	coord_events_notified(notifying_to);
	return notifying_to < to ? SWEEP_MORE : SWEEP_SOME;
}

/* When there is something to notify of. */
TimestampTz
coord_notices_next_due(void)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);

	int64		notified_to = (int64) pg_atomic_read_u64(&db->notified_to);

	if (Max(notified_to, notifying_to) >= (int64) pg_atomic_read_u64(&db->stamped_to))
		return DT_NOEND;
	return coord_may_notify_at();
}
