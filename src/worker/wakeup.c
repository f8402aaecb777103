/*
 * wakeup.c
 *		What a transaction leaves for others, told at its end.
 *
 * A transaction remembers when the worker's jobs have something to do by what it
 * wrote, which queues have something claimable, and which leases it touched.  At its
 * commit, when others can see what it wrote, it tells: the worker's latch is set if
 * the worker would sleep too long, and who waits for a lease looks again.  What a
 * rolled-back subtransaction left only wakes somebody for nothing.
 *
 * An abort has something to tell too.  While the transaction was open, others passed
 * over the tasks that it had claimed and found the leases that it had touched locked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "agent_end.h"
#include "attachment.h"
#include "beat.h"
#include "committing.h"
#include "lease_wait.h"
#include "queue_listen.h"
#include "queue_waiters.h"
#include "worker/prepared.h"
#include "worker/shared.h"
#include "worker/wakeup.h"
#include "worker/worker.h"

/* so many leases that one touched are remembered by their keys */
#define MAX_TOUCHED 64

/* how far back to look for a queue that is noted already */
#define QUEUES_COMPARED 8

/* so many tasks are announced one by one */
#define MAX_SINGLE_TASKS 64

typedef struct NotedQueue
{
	char	   *name;
	TimestampTz ready_at;		/* by what was written; DT_NOEND: by nothing */
	SubTransactionId claimed_in;	/* the last in which it was; if that is rolled back, it is ready now */
	int			nlocked;		/* pending tasks that are locked; they are free at the end, whatever it is */
} NotedQueue;

/* a task that was made claimable, from its ready_at on; or several of a priority, of which it is the first */
typedef struct NotedTask
{
	ReadyKey	key;
	ReadyTask	task;
	bool		first_of_many;
} NotedTask;

/* of the present transaction; what has memory has it in TopTransactionContext */
static struct
{
	bool		any;
	TimestampTz due_at[COORD_NJOBS];
	bool		finished_task;
	int			created;		/* tasks */
	bool		changed_task;	/* a task's state, while it stays unfinished */
	BlockNumber inbox_from;		/* the first block with an event of it */
	List	   *stamped;		/* positions that it has given */
	int64		notified_to;	/* the last position that the worker has notified of; 0: none */
	List	   *queues;
	NotedTask  *tasks;
	int			ntasks;
	int			tasks_size;
	uint64		touched[MAX_TOUCHED];
	int			ntouched;
	bool		touched_more;
	bool		all_changed;
	List	   *look_into;		/* databases that may need a worker */
}			left;

/* positions that were given to events, and perhaps their listeners notified */
typedef struct Stamped
{
	SubTransactionId subid;
	int64		first;
	int64		last;
	bool		notified;
} Stamped;

static void
begin(void)
{
	if (left.any)
		return;
	left.any = true;
	left.inbox_from = InvalidBlockNumber;
	for (int job = 0; job < COORD_NJOBS; job++)
		left.due_at[job] = DT_NOEND;
}

static NotedQueue *
note_queue(const char *queue)
{
	int			n = list_length(left.queues);
	MemoryContext old;
	NotedQueue *noted;

	if (coord_shared == NULL)
		return NULL;
	begin();
	for (int i = n - 1; i >= 0 && i >= n - QUEUES_COMPARED; i--)
	{
		noted = list_nth(left.queues, i);
		if (strcmp(noted->name, queue) == 0)
			return noted;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	noted = palloc(sizeof(NotedQueue));
	noted->name = pstrdup(queue);
	noted->ready_at = DT_NOEND;
	noted->claimed_in = InvalidSubTransactionId;
	noted->nlocked = 0;
	left.queues = lappend(left.queues, noted);
	MemoryContextSwitchTo(old);
	return noted;
}

/* A job is due at that instant, by what is written. */
void
coord_due_at(CoordJob job, TimestampTz instant)
{
	begin();
	left.due_at[job] = Min(left.due_at[job], instant);
}

/* Whether a job is due by what this transaction itself has written. */
bool
coord_is_due_here(CoordJob job, TimestampTz now)
{
	return left.any && left.due_at[job] <= now;
}

/* All jobs are due: what was written did not come by here. */
void
coord_all_due(void)
{
	for (int job = 0; job < COORD_NJOBS; job++)
		coord_due_at(job, COORD_DUE_NOW);
	left.all_changed = true;
	coord_leases_touched();
}

/* A task was finished, or a blocked one locked, which a dependency check that the worker keeps may wait for. */
void
coord_finished_task(void)
{
	begin();
	left.finished_task = true;
}

/* A task was created. */
void
coord_created_task(void)
{
	begin();
	left.created++;
}

/* A task was claimed, or is claimable again: a count of its queue is not true any more. */
void
coord_changed_task(void)
{
	begin();
	left.changed_task = true;
}

/* An event was added to the inbox, or several, to that block or later ones. */
void
coord_event_sent(BlockNumber block)
{
	coord_due_at(JOB_EVENTS, COORD_DUE_NOW);
	left.inbox_from = Min(left.inbox_from, block);
}

/* Events were given positions, by who has the delivery lock; and perhaps their listeners were notified. */
void
coord_events_stamped(int64 first, int64 last, bool notified)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Stamped    *stamped = palloc(sizeof(Stamped));

	*stamped = (Stamped) {GetCurrentSubTransactionId(), first, last, notified};
	coord_due_at(JOB_NOTICES, COORD_DUE_NOW);
	left.stamped = lappend(left.stamped, stamped);
	MemoryContextSwitchTo(old);
}

/* That subtransaction is rolled back, and the positions that it has given. */
static void
forget_stamped(SubTransactionId since)
{
	ListCell   *cell;

	foreach(cell, left.stamped)
	{
		if (((Stamped *) lfirst(cell))->subid >= since)
			left.stamped = foreach_delete_current(left.stamped, cell);
	}
}

/* The worker has notified the listeners of all events up to that one. */
void
coord_events_notified(int64 to)
{
	begin();
	left.notified_to = to;
}

/* Something in a queue is claimable from that instant on. */
void
coord_queue_ready(const char *queue, TimestampTz instant)
{
	NotedQueue *noted = note_queue(queue);

	if (noted != NULL)
		noted->ready_at = Min(noted->ready_at, instant);
}

/* A task is claimable from its ready_at on. */
void
coord_task_ready(const char *queue, const ReadyTask *task)
{
	ReadyKey	key;
	NotedTask  *noted;

	coord_queue_ready(queue, task->position.ready_at);
	coord_changed_task();
	if (coord_shared == NULL)
		return;
	coord_ready_key(queue, &key);
	for (int i = left.ntasks - 1; i >= Max(left.ntasks - QUEUES_COMPARED, MAX_SINGLE_TASKS); i--)
	{
		noted = &left.tasks[i];
		if (noted->task.priority == task->priority && memcmp(&noted->key, &key, sizeof(key)) == 0)
		{
			noted->first_of_many = true;
			if (coord_ready_is_before(&task->position, &noted->task.position))
				noted->task.position = task->position;
			return;
		}
	}
	if (left.ntasks == left.tasks_size)
	{
		int			size = Max(16, left.tasks_size * 2);

		left.tasks = left.tasks == NULL ?
			MemoryContextAlloc(TopTransactionContext, sizeof(NotedTask) * size) :
			repalloc_huge(left.tasks, sizeof(NotedTask) * size);
		left.tasks_size = size;
	}
	left.tasks[left.ntasks++] = (NotedTask) {key, *task, false};
}

/* Whether this transaction has made something claimable in a queue, which others cannot see yet. */
bool
coord_has_task_ready(const char *queue)
{
	ReadyKey	key;

	if (left.ntasks == 0)
		return false;
	coord_ready_key(queue, &key);
	for (int i = 0; i < left.ntasks; i++)
	{
		if (memcmp(&left.tasks[i].key, &key, sizeof(key)) == 0)
			return true;
	}
	return false;
}

/* A task of a queue is being claimed; if this is undone, it is claimable again. */
void
coord_queue_claimed_from(const char *queue, bool was_locked)
{
	NotedQueue *noted = note_queue(queue);

	if (noted == NULL)
		return;
	noted->claimed_in = GetCurrentSubTransactionId();
	if (was_locked && noted->nlocked > 0)
		noted->nlocked--;
}

/* A pending task is locked, and others pass it over. */
void
coord_task_locked(const char *queue)
{
	NotedQueue *noted = note_queue(queue);

	if (noted == NULL)
		return;
	noted->claimed_in = GetCurrentSubTransactionId();
	noted->nlocked++;
}

/* The lease on a resource is locked or written. */
void
coord_lease_touched(const char *resource_key)
{
	uint64		hash;

	begin();
	if (left.touched_more || coord_shared == NULL)
		return;
	hash = coord_waiter_hash(resource_key);
	for (int i = 0; i < left.ntouched; i++)
	{
		if (left.touched[i] == hash)
			return;
	}
	if (left.ntouched == MAX_TOUCHED)
		left.touched_more = true;
	else
		left.touched[left.ntouched++] = hash;
}

/* Whether this transaction, or a part of it that was rolled back, has locked or written it. */
bool
coord_lease_is_touched(const char *resource_key)
{
	uint64		hash;

	if (left.touched_more || left.ntouched == 0)
		return left.touched_more;
	hash = coord_waiter_hash(resource_key);
	for (int i = 0; i < left.ntouched; i++)
	{
		if (left.touched[i] == hash)
			return true;
	}
	return false;
}

/* Leases are, nobody knows which. */
void
coord_leases_touched(void)
{
	begin();
	left.touched_more = true;
}

/* That database may have got or lost the extension. */
void
coord_look_into(Oid dbid)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	begin();
	left.look_into = list_append_unique_oid(left.look_into, dbid);
	MemoryContextSwitchTo(old);
}

/* The worker keeps dependency checks, or is about to look at some. */
void
coord_keep_checks(bool keep)
{
	CoordDatabase *db;

	if (coord_is_worker() && (db = coord_find_database(MyDatabaseId)) != NULL)
	{
		pg_atomic_write_u32(&db->checks_wait, keep);
		pg_memory_barrier();
	}
}

static void
announce_tasks(void)
{
	for (int i = 0; i < left.ntasks; i++)
	{
		const NotedTask *noted = &left.tasks[i];

		if (noted->first_of_many)
			coord_ready_announce_from(&noted->key, noted->task.priority, &noted->task.position);
		else
			coord_ready_announce(&noted->key, &noted->task);
	}
}

/*
 * Tell those who wait for queues what is claimable there, and remember it for those who
 * listen.  Without a commit that is what was claimed since that subtransaction began,
 * which is rolled back.  Returns when the worker is to tell who listens; DT_NOEND when
 * nobody does.
 */
static TimestampTz
tell_queues(bool commit, SubTransactionId since)
{
	TimestampTz notify_at = DT_NOEND;
	ListCell   *cell;

	foreach(cell, left.queues)
	{
		NotedQueue *queue = lfirst(cell);
		TimestampTz ready_at = commit ? queue->ready_at : DT_NOEND;

		if (commit ? queue->nlocked > 0 :
			queue->claimed_in != InvalidSubTransactionId && queue->claimed_in >= since)
			ready_at = COORD_DUE_NOW;
		if (ready_at == DT_NOEND)
			continue;
		coord_queue_wake(queue->name, ready_at);
		if (coord_queue_is_ready_at(queue->name, ready_at))
			notify_at = Min(notify_at, ready_at);
	}
	return notify_at;
}

/* How far the delivery has come; the delivery lock, if it was taken, is still held. */
static void
tell_delivery(CoordDatabase *db)
{
	ListCell   *cell;

	if (left.inbox_from != InvalidBlockNumber)
		coord_lower_block(&db->inbox_from, left.inbox_from);
	foreach(cell, left.stamped)
	{
		const Stamped *stamped = lfirst(cell);
		int64		notified_to = (int64) pg_atomic_read_u64(&db->notified_to);

		/* nobody who listens has missed what came before these; or positions have gone back, in another installation */
		if (notified_to == 0 || notified_to >= stamped->first)
			pg_atomic_write_u64(&db->notified_to, stamped->first - 1);
		pg_atomic_write_u64(&db->stamped_to, stamped->last);
		if (stamped->notified)
			pg_atomic_write_u64(&db->notified_to, stamped->last);
	}
	if (left.notified_to != 0)
		pg_atomic_write_u64(&db->notified_to, left.notified_to);
}

/* Tell the worker what is left for it. */
static void
tell_worker(bool commit, TimestampTz notify_at)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);

	if (db == NULL)
		return;
	if (commit)
		tell_delivery(db);
	if (commit && (left.created > 0 || left.finished_task || left.changed_task))
		coord_tasks_changed(db, left.created);
	if (!commit)
	{
		for (int job = 0; job < COORD_NJOBS; job++)
			left.due_at[job] = DT_NOEND;
	}
	/* whether it was finished or is not locked any more */
	if (left.finished_task && pg_atomic_read_u32(&db->checks_wait))
		left.due_at[JOB_CHECKS] = COORD_DUE_NOW;
	left.due_at[JOB_QUEUES] = Min(left.due_at[JOB_QUEUES], notify_at);
	for (int job = 0; job < COORD_NJOBS; job++)
	{
		if (left.due_at[job] != DT_NOEND)
			coord_tell_worker(db, job, left.due_at[job]);
	}
}

/* Nobody knows what has changed. */
static void
all_changed(void)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);

	coord_ready_forget_all(MyDatabaseId);
	coord_all_queues_ready();
	coord_queue_wake_all();
	if (db != NULL)
	{
		pg_atomic_write_u32(&db->attachments_unknown, 1);
		pg_atomic_write_u32(&db->inbox_from, 0);
	}
}

/* Who waits for a lease that was touched, or for a task that needs it, looks again. */
static void
tell_of_leases(void)
{
	coord_wake_waiters(left.touched, left.ntouched, left.touched_more);
	coord_queue_wake_for(left.touched, left.ntouched, left.touched_more);
}

static void
tell(bool commit)
{
	ListCell   *cell;

	if (coord_shared != NULL && left.any)
	{
		foreach(cell, left.look_into)
		{
			if (commit && !coord_want_worker(lfirst_oid(cell)))
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("coord has no worker for this database"),
						 errhint("Raise coord.max_databases, and restart the server.")));
		}
		if (commit)
		{
			announce_tasks();
			coord_ends_at_commit(left.due_at);
		}
		if (left.all_changed)
			all_changed();
		tell_worker(commit, tell_queues(commit, InvalidSubTransactionId));
		tell_of_leases();
	}
	memset(&left, 0, sizeof(left));
	coord_ends_forget();
}

/* Tell now what would be told at the commit: a command has committed something. */
void
coord_tell_now(void)
{
	tell(true);
}

static void
at_xact_end(XactEvent event, void *arg pg_attribute_unused())
{
	bool		commit = event == XACT_EVENT_COMMIT;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (left.any && left.inbox_from != InvalidBlockNumber)
				coord_commits_events(left.inbox_from);
			break;
		case XACT_EVENT_PRE_PREPARE:
			coord_attachments_before_prepare();
			if (left.any)
				coord_prepared_concerns_us();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			coord_wait_end(false);
			coord_attachments_at_xact_end(commit);
			coord_listeners_at_xact_end(commit);
			if (commit)
				coord_ready_keep();
			else
				coord_ready_undo(InvalidSubTransactionId);
			tell(commit);
			coord_events_are_told();
			break;
		case XACT_EVENT_PREPARE:
			/* what it leaves is told by COMMIT PREPARED, see commands.c */
			coord_attachments_at_xact_end(false);
			coord_ready_keep();
			coord_ends_forget();
			memset(&left, 0, sizeof(left));
			break;
		default:
			break;
	}
}

/* What a subtransaction had locked or claimed is free when it has been rolled back. */
static void
at_subxact_end(SubXactEvent event, SubTransactionId id,
			   SubTransactionId parent pg_attribute_unused(), void *arg pg_attribute_unused())
{
	CoordDatabase *db;
	TimestampTz notify_at;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	coord_wait_end(false);
	coord_ready_undo(id);
	coord_attachments_at_subxact_abort(id);
	coord_beats_at_subxact_abort(id);
	coord_listeners_at_subxact_abort(id);
	if (!left.any || coord_shared == NULL)
		return;
	forget_stamped(id);
	notify_at = tell_queues(false, id);
	db = coord_find_database(MyDatabaseId);
	if (notify_at != DT_NOEND && db != NULL)
		coord_tell_worker(db, JOB_QUEUES, notify_at);
	tell_of_leases();
}

/* At library load. */
void
coord_wakeup_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
}
