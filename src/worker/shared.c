/*
 * shared.c
 *		What the launcher, the workers and the backends share.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

#include "attachment.h"
#include "beat.h"
#include "claim/ready.h"
#include "clock.h"
#include "committing.h"
#include "lease_wait.h"
#include "queue_count.h"
#include "queue_listen.h"
#include "queue_waiters.h"
#include "settings.h"
#include "sleep.h"
#include "worker/prepared.h"
#include "worker/restore.h"
#include "worker/shared.h"

/* how long a reader waits for a delivery, sweep() for the worker, and a command for a worker to end */
#define DELIVERY_TIMEOUT_MS 1000
#define ROUND_TIMEOUT_MS 10000
#define HOLD_TIMEOUT_MS 10000

CoordShared *coord_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

PG_FUNCTION_INFO_V1(coord_worker_status);

static Size
shared_size(void)
{
	return offsetof(CoordShared, databases) + mul_size(coord_max_databases, sizeof(CoordDatabase));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(coord_attachments_size());
	RequestAddinShmemSpace(coord_waiters_size());
	RequestAddinShmemSpace(coord_listeners_size());
	RequestAddinShmemSpace(coord_queue_waiters_size());
	RequestAddinShmemSpace(coord_ready_size());
	RequestAddinShmemSpace(coord_beats_size());
	RequestAddinShmemSpace(coord_committing_size());
	RequestAddinShmemSpace(coord_restoring_size());
	RequestAddinShmemSpace(coord_prepared_size());
	RequestNamedLWLockTranche("coord", 8);
	RequestNamedLWLockTranche("coord_ready", coord_max_ready_queues);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	coord_shared = ShmemInitStruct("coord", shared_size(), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("coord");

		memset(coord_shared, 0, shared_size());
		coord_shared->lock = &locks[0].lock;
		coord_shared->attachment_lock = &locks[1].lock;
		coord_shared->waiter_lock = &locks[2].lock;
		coord_shared->listener_lock = &locks[3].lock;
		coord_shared->ready_lock = &locks[4].lock;
		coord_shared->beat_lock = &locks[5].lock;
		coord_shared->queue_waiter_lock = &locks[6].lock;
		coord_shared->prepared_lock = &locks[7].lock;
		coord_shared->ndatabases = coord_max_databases;
		coord_shared->made_at = coord_now();
		pg_atomic_init_u32(&coord_shared->beats_aside, 1);
		pg_atomic_init_u32(&coord_shared->launcher_told, 0);
		pg_atomic_init_u64(&coord_shared->beats_since, 0);
		pg_atomic_init_u64(&coord_shared->agents_ended, 1);
		ConditionVariableInit(&coord_shared->state_cv);
		for (int i = 0; i < coord_max_databases; i++)
		{
			CoordDatabase *db = &coord_shared->databases[i];

			for (int job = 0; job < COORD_NJOBS; job++)
				pg_atomic_init_u64(&db->due_at[job], (uint64) DT_NOEND);
			pg_atomic_init_u64(&db->claims_due_from, (uint64) COORD_DUE_NOW);
			pg_atomic_init_u64(&db->sleeps_until, (uint64) COORD_DUE_NOW);
			pg_atomic_init_u32(&db->sweeps, 0);
			pg_atomic_init_u32(&db->checks_wait, 0);
			pg_atomic_init_u32(&db->uncounted, 0);
			pg_atomic_init_u32(&db->counts_kept, false);
			pg_atomic_init_u32(&db->counts_changed, false);
			pg_atomic_init_u32(&db->attachments_unknown, 1);
			pg_atomic_init_u32(&db->inbox_from, 0);
			pg_atomic_init_u32(&db->delivering, false);
			pg_atomic_init_u64(&db->delivers_from, 0);
			pg_atomic_init_u64(&db->stamped_to, 0);
			pg_atomic_init_u64(&db->notified_to, 0);
			pg_atomic_init_u64(&db->deliveries_asked, 0);
			pg_atomic_init_u64(&db->deliveries_done, 0);
			ConditionVariableInit(&db->delivery_cv);
			pg_atomic_init_u64(&db->rounds_asked, 0);
			pg_atomic_init_u64(&db->rounds_done, 0);
			ConditionVariableInit(&db->round_cv);
			pg_atomic_init_u32(&db->restores_begun, 0);
		}
	}
	coord_attachments_init();
	coord_waiters_init();
	coord_listeners_init();
	coord_queue_waiters_init();
	coord_ready_init();
	coord_beats_init();
	coord_committing_init();
	coord_restoring_init();
	coord_prepared_init();
	LWLockRelease(AddinShmemInitLock);
}

/* While the library is being preloaded: ask for shared memory. */
void
coord_shared_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

bool
coord_is_preloaded(void)
{
	return coord_shared != NULL;
}

/*
 * The slot of a database, or NULL.  Without the lock the answer holds as long as
 * something keeps the slot: for one's own database, that somebody is connected.
 */
CoordDatabase *
coord_find_database(Oid dbid)
{
	for (int i = 0; i < coord_shared->ndatabases; i++)
	{
		CoordDatabase *db = &coord_shared->databases[i];

		if (db->dbid == dbid && db->state != WORKER_NONE)
			return db;
	}
	return NULL;
}

void
coord_wake_launcher(void)
{
	pg_atomic_write_u32(&coord_shared->launcher_told, 1);
	LWLockAcquire(coord_shared->lock, LW_SHARED);
	if (coord_shared->launcher_latch != NULL)
		SetLatch(coord_shared->launcher_latch);
	LWLockRelease(coord_shared->lock);
}

/*
 * A database may have got or lost the extension: wake its worker, which looks,
 * or have one started, which looks.  False when there is no slot for it.
 */
bool
coord_want_worker(Oid dbid)
{
	CoordDatabase *db;

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	db = coord_find_database(dbid);
	for (int i = 0; db == NULL && i < coord_shared->ndatabases; i++)
	{
		CoordDatabase *slot = &coord_shared->databases[i];

		if (slot->state == WORKER_NONE)
		{
			db = slot;
			db->dbid = dbid;
			db->state = WORKER_WANTED;
			db->start_at = 0;
			db->failures = 0;
			db->refusals = 0;
			db->holds = 0;
			pg_atomic_write_u32(&db->inbox_from, 0);
			pg_atomic_write_u64(&db->stamped_to, 0);
			pg_atomic_write_u64(&db->notified_to, 0);
		}
	}
	if (db != NULL)
	{
		for (int job = 0; job < COORD_NJOBS; job++)
			coord_set_due(db, job, COORD_DUE_NOW);
		db->start_at = 0;
		if (db->pid != 0)
			SetLatch(db->latch);
	}
	LWLockRelease(coord_shared->lock);

	if (db != NULL)
		coord_wake_launcher();
	return db != NULL;
}

/* Whether a database's worker may be connected, or about to be. */
static bool
worker_may_run(Oid dbid)
{
	CoordDatabase *db;
	bool		result;

	LWLockAcquire(coord_shared->lock, LW_SHARED);
	db = coord_find_database(dbid);
	result = db != NULL && db->state == WORKER_STARTED;
	LWLockRelease(coord_shared->lock);
	return result;
}

/*
 * End a database's worker, and start none until coord_unhold_worker(): a command
 * needs that nobody is connected to the database.  False when the database has no slot, and
 * there is nothing to let go.
 */
bool
coord_hold_worker(Oid dbid)
{
	CoordDatabase *db;
	TimestampTz give_up_at = coord_now() + HOLD_TIMEOUT_MS * INT64CONST(1000);

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	db = coord_find_database(dbid);
	if (db != NULL)
	{
		db->holds++;
		if (db->pid != 0)
			SetLatch(db->latch);
	}
	LWLockRelease(coord_shared->lock);
	if (db == NULL)
		return false;

	ConditionVariablePrepareToSleep(&coord_shared->state_cv);
	while (worker_may_run(dbid) && coord_now() < give_up_at)
		(void) ConditionVariableTimedSleep(&coord_shared->state_cv, HOLD_TIMEOUT_MS,
										   coord_wait_event(COORD_WAIT_WORKER_END));
	ConditionVariableCancelSleep();
	return true;
}

void
coord_unhold_worker(Oid dbid)
{
	CoordDatabase *db;

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	db = coord_find_database(dbid);
	if (db != NULL && db->holds > 0)
		db->holds--;
	LWLockRelease(coord_shared->lock);
	coord_wake_launcher();
}

/* Whether this database has a worker. */
bool
coord_worker_runs(void)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;

	return db != NULL && db->pid != 0;
}

/* Whether there may be claims that have run out, and that the worker has yet to give back. */
bool
coord_claims_may_be_due(TimestampTz now)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;

	return db == NULL || db->pid == 0 || (TimestampTz) pg_atomic_read_u64(&db->claims_due_from) <= now;
}

/*
 * The same of leases.  Where there is no shared memory it does not matter: no task was
 * dropped from a ring because of one.
 */
bool
coord_leases_may_be_due(TimestampTz now)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;

	return coord_shared != NULL &&
		(db == NULL || db->pid == 0 || (TimestampTz) pg_atomic_read_u64(&db->due_at[JOB_LEASES]) <= now);
}

/* Whether events may have been committed that are not delivered. */
bool
coord_events_may_wait(CoordDatabase *db)
{
	if (pg_atomic_read_u32(&db->inbox_from) != InvalidBlockNumber)
		return true;
	pg_memory_barrier();		/* the worker says that it delivers before it takes that */
	return pg_atomic_read_u32(&db->delivering) != 0;
}

/*
 * Wait until the worker has made a delivery that began after this call, and so
 * has delivered every event that was committed before it; no longer than a
 * second, in case that the worker does not get on.
 */
void
coord_wait_for_delivery(void)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);
	TimestampTz give_up_at = coord_now() + DELIVERY_TIMEOUT_MS * INT64CONST(1000);
	uint64		delivery;

	if (db == NULL || !coord_events_may_wait(db))
		return;
	delivery = pg_atomic_add_fetch_u64(&db->deliveries_asked, 1);
	coord_tell_worker(db, JOB_EVENTS, COORD_DUE_NOW);

	ConditionVariablePrepareToSleep(&db->delivery_cv);
	while (pg_atomic_read_u64(&db->deliveries_done) < delivery && coord_now() < give_up_at)
		(void) ConditionVariableTimedSleep(&db->delivery_cv, DELIVERY_TIMEOUT_MS,
										   coord_wait_event(COORD_WAIT_DELIVERY));
	ConditionVariableCancelSleep();
}

/* What the worker has done since it started. */
static SweepCounts
counts_of(CoordDatabase *db)
{
	SweepCounts counts;

	LWLockAcquire(coord_shared->lock, LW_SHARED);
	counts = db->status.counts;
	LWLockRelease(coord_shared->lock);
	return counts;
}

/*
 * Have the worker look at all that may have come due, in a round that begins after this
 * call, and deliver what was committed; wait for that, though not for long if it does not
 * get on.  Adds what it has done meanwhile.
 */
void
coord_wait_for_round(SweepCounts *counts)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);
	TimestampTz give_up_at = coord_now() + ROUND_TIMEOUT_MS * INT64CONST(1000);
	SweepCounts before;
	SweepCounts after;
	uint64		round;

	if (db == NULL)
		return;
	before = counts_of(db);
	for (CoordJob job = JOB_SWEEP_FIRST; job <= JOB_SWEEP_LAST; job++)
		coord_set_due(db, job, COORD_DUE_NOW);
	round = pg_atomic_add_fetch_u64(&db->rounds_asked, 1);
	coord_tell_worker(db, JOB_SWEEP_FIRST, COORD_DUE_NOW);

	ConditionVariablePrepareToSleep(&db->round_cv);
	while (pg_atomic_read_u64(&db->rounds_done) < round && db->pid != 0 && coord_now() < give_up_at)
		(void) ConditionVariableTimedSleep(&db->round_cv, ROUND_TIMEOUT_MS, coord_wait_event(COORD_WAIT_SWEEP));
	ConditionVariableCancelSleep();
	coord_wait_for_delivery();

	after = counts_of(db);
	/* one that has started meanwhile counts from 0 */
	counts->leases_expired += Max(after.leases_expired - before.leases_expired, 0);
	counts->agents_expired += Max(after.agents_expired - before.agents_expired, 0);
	counts->tasks_requeued += Max(after.tasks_requeued - before.tasks_requeued, 0);
	counts->leases_renewed += Max(after.leases_renewed - before.leases_renewed, 0);
	counts->events_delivered += Max(after.events_delivered - before.events_delivered, 0);
}

/*
 * A row was locked, maybe by the worker: wait for its batch, if it is in one, to
 * end, which is soon and waits for nobody.  Returns whether it was in one.
 */
bool
coord_wait_for_sweep(void)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;
	PGPROC	   *worker = db != NULL && db->pid != 0 ? BackendPidGetProc(db->pid) : NULL;
	TransactionId xid = worker != NULL ? worker->xid : InvalidTransactionId;

	if (!TransactionIdIsValid(xid) || worker == MyProc)
		return false;
	XactLockTableWait(xid, NULL, NULL, XLTW_None);
	return true;
}

/* For coord_sweep_was_at_work(), before a look. */
uint32
coord_sweeps(void)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;
	uint32		sweeps = db != NULL ? pg_atomic_read_u32(&db->sweeps) : 0;

	pg_memory_barrier();
	return sweeps;
}

/*
 * Whether the worker has been at a batch since then: what it has given back was locked
 * during a look, though it may not be any more.
 */
bool
coord_sweep_was_at_work(uint32 since)
{
	pg_memory_barrier();
	return since % 2 != 0 || coord_sweeps() != since;
}

/* Lower an instant, unless it is as early already. */
void
coord_lower(pg_atomic_uint64 *instant, TimestampTz to)
{
	uint64		is = pg_atomic_read_u64(instant);

	while (to < (TimestampTz) is && !pg_atomic_compare_exchange_u64(instant, &is, (uint64) to))
		;
}

/* Lower the number of a block; InvalidBlockNumber is the highest. */
void
coord_lower_block(pg_atomic_uint32 *block, BlockNumber to)
{
	uint32		is = pg_atomic_read_u32(block);

	while (to < is && !pg_atomic_compare_exchange_u32(block, &is, to))
		;
}

/* A job is due at that instant, if it is not due earlier. */
void
coord_set_due(CoordDatabase *db, CoordJob job, TimestampTz instant)
{
	coord_lower(&db->due_at[job], instant);
	if (job == JOB_CLAIMS)
		coord_lower(&db->claims_due_from, instant);
}

/*
 * The same, and wake the worker if it sleeps for longer.  If the clock was set forward since
 * it went to sleep, it sleeps although that instant is past.
 */
void
coord_tell_worker(CoordDatabase *db, CoordJob job, TimestampTz instant)
{
	TimestampTz sleeps_until;

	coord_set_due(db, job, instant);
	pg_memory_barrier();
	if (job == JOB_EVENTS)
		instant = coord_later(instant, (TimestampTz) pg_atomic_read_u64(&db->delivers_from));
	sleeps_until = (TimestampTz) pg_atomic_read_u64(&db->sleeps_until);
	if (instant >= sleeps_until && (sleeps_until == COORD_DUE_NOW || sleeps_until >= coord_now()))
		return;
	LWLockAcquire(coord_shared->lock, LW_SHARED);
	if (db->pid != 0)
		SetLatch(db->latch);
	LWLockRelease(coord_shared->lock);
}

/*
 * Tasks were created, have finished or changed their state: if there are many, or kept
 * counts, they are to be counted.  The job knows when it is too early.
 */
void
coord_tasks_changed(CoordDatabase *db, int created)
{
	if (pg_atomic_read_u32(&db->counts_changed))
		return;
	if (!pg_atomic_read_u32(&db->counts_kept) &&
		(created == 0 || pg_atomic_add_fetch_u32(&db->uncounted, created) <= COUNTED_AT_READING))
		return;
	pg_atomic_write_u32(&db->counts_changed, true);
	coord_tell_worker(db, JOB_COUNTS, COORD_DUE_NOW);
}

/* A count begins, which sees what has been committed so far. */
void
coord_counting(void)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;

	if (db == NULL)
		return;
	pg_atomic_write_u32(&db->uncounted, 0);
	pg_atomic_write_u32(&db->counts_changed, false);
	pg_memory_barrier();
}

/* It has ended, and counts are kept, or none.  Returns whether another one is wanted already. */
bool
coord_counted(bool kept)
{
	CoordDatabase *db = coord_shared != NULL ? coord_find_database(MyDatabaseId) : NULL;

	if (db == NULL)
		return false;
	pg_atomic_write_u32(&db->counts_kept, kept);
	return pg_atomic_read_u32(&db->counts_changed);
}

/* what coord.worker shows: always one row, all NULL but the database without a worker */
Datum
coord_worker_status(PG_FUNCTION_ARGS)
{
#define WORKER_COLUMNS 14
	Datum		values[WORKER_COLUMNS] = {0};
	bool		nulls[WORKER_COLUMNS];
	TupleDesc	tupdesc;
	WorkerStatus status;
	pid_t		pid = 0;
	NameData	database;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));
	namestrcpy(&database, get_database_name(MyDatabaseId));
	values[1] = NameGetDatum(&database);
	nulls[1] = false;

	if (coord_shared != NULL)
	{
		CoordDatabase *db;

		LWLockAcquire(coord_shared->lock, LW_SHARED);
		db = coord_find_database(MyDatabaseId);
		if (db != NULL && db->pid != 0)
		{
			pid = db->pid;
			status = db->status;
		}
		LWLockRelease(coord_shared->lock);
	}
	if (pid != 0)
	{
		memset(nulls, false, sizeof(nulls));
		values[0] = Int32GetDatum(pid);
		values[2] = TimestampTzGetDatum(status.started_at);
		values[3] = TimestampTzGetDatum(status.last_wakeup_at);
		nulls[3] = status.last_wakeup_at == 0;
		values[4] = TimestampTzGetDatum(status.next_deadline_at);
		nulls[4] = status.next_deadline_at == 0 || TIMESTAMP_NOT_FINITE(status.next_deadline_at);
		values[5] = Int64GetDatum(status.counts.leases_expired);
		values[6] = Int64GetDatum(status.counts.agents_expired);
		values[7] = Int64GetDatum(status.counts.tasks_requeued);
		values[8] = Int64GetDatum(status.counts.leases_renewed);
		values[9] = Int64GetDatum(status.counts.events_delivered);
		values[10] = IntervalPGetDatum(coord_usec_to_interval(status.counts.lag_max));
		values[11] = Int64GetDatum(status.errors);
		values[12] = TimestampTzGetDatum(status.last_error_at);
		nulls[12] = nulls[13] = status.errors == 0;
		values[13] = CStringGetTextDatum(status.last_error);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}
