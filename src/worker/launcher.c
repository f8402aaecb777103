/*
 * launcher.c
 *		The launcher, which keeps a worker for each database with the extension.
 *
 * There is no list of databases to keep.  When the launcher starts it has a
 * worker started for every database that can be connected to; one that finds no
 * extension ends, and its slot is free again.  Later it is told: by CREATE
 * EXTENSION and by the creation of a database, since the template may have had
 * the extension.
 *
 * It is started when recovery has finished, so a hot standby has no workers, and
 * has them from the moment of promotion.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "attachment.h"
#include "beat.h"
#include "clock.h"
#include "sleep.h"
#include "worker/shared.h"
#include "worker/worker.h"

#define MAX_BACKOFF_S 60

/* a refused registration is logged no more often than this */
#define LOG_INTERVAL_MS (60 * 1000)

static BackgroundWorkerHandle **handles;	/* by slot; of workers that this launcher started */

static Oid	looked_up_to = InvalidOid;	/* databases up to that one have been looked into */
static bool looking = false;	/* there are more */

static void want_databases(void);
static TimestampTz start_wanted(TimestampTz now);
static void note_ended(TimestampTz now);
static bool awaits_postmaster(void);

/* While the library is being preloaded. */
void
coord_launcher_register(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = 1,
	};

	strlcpy(worker.bgw_name, "coord launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "coord launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "coord", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "coord_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static void
detach(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	coord_shared->launcher_latch = NULL;
	LWLockRelease(coord_shared->lock);
}

void
coord_launcher_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("coord launcher");

	handles = MemoryContextAllocZero(TopMemoryContext,
									 sizeof(BackgroundWorkerHandle *) * coord_shared->ndatabases);
	before_shmem_exit(detach, (Datum) 0);
	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	coord_shared->launcher_latch = MyLatch;
	LWLockRelease(coord_shared->lock);

	(void) coord_beats_since();
	looking = true;
	for (;;)
	{
		TimestampTz now;
		TimestampTz next;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			proc_exit(1);		/* so that it is started again, unless the server ends */
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			looked_up_to = InvalidOid;	/* in case that one was missed */
			looking = true;
		}

		pg_atomic_write_u32(&coord_shared->launcher_told, 0);
		pg_memory_barrier();
		now = coord_now();
		note_ended(now);
		if (looking)
			want_databases();
		next = start_wanted(now);
		if (awaits_postmaster())
			next = Min(next, now + USECS_PER_SEC);

		/* what waits for a lock, as of the catalogs, may have taken the latch for its own */
		if (ShutdownRequestPending || ConfigReloadPending || pg_atomic_read_u32(&coord_shared->launcher_told) != 0)
			continue;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (next == DT_NOEND ? 0 : WL_TIMEOUT),
						 next == DT_NOEND ? -1L : TimestampDifferenceMilliseconds(now, next) + 1,
						 coord_wait_event(COORD_WAIT_LAUNCHER));
	}
}

/* Whether a worker may connect to it, which a DROP DATABASE that was interrupted has marked as invalid by its limit. */
static bool
is_open(Form_pg_database database)
{
	return database->datallowconn && database->datconnlimit != -2;
}

/*
 * Have a worker look into each database that can be connected to, as far as there are
 * slots.  One that finds no extension leaves its slot to the next.
 */
static void
want_databases(void)
{
	List	   *databases = NIL;
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	ListCell   *cell;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (is_open(database) && database->oid > looked_up_to)
			databases = lappend_oid(databases, database->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	list_sort(databases, list_oid_cmp);
	looking = false;
	foreach(cell, databases)
	{
		if (!coord_want_worker(lfirst_oid(cell)))
		{
			looking = true;		/* when a slot is free again */
			break;
		}
		looked_up_to = lfirst_oid(cell);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

static bool
can_connect(Oid dbid)
{
	HeapTuple	tuple;
	bool		result = false;

	StartTransactionCommand();
	/* who has just changed it may have told us before the caches are told */
	InvalidateSystemCaches();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dbid));
	if (HeapTupleIsValid(tuple))
	{
		result = is_open((Form_pg_database) GETSTRUCT(tuple));
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return result;
}

static TimestampTz
retry_at(int failures, TimestampTz now)
{
	int64		seconds = failures > 6 ? MAX_BACKOFF_S : Min((int64) 1 << Max(failures - 1, 0), MAX_BACKOFF_S);

	return now + seconds * USECS_PER_SEC;
}

/* There is nothing to work for in a database. */
static void
forget(CoordDatabase *db)
{
	db->state = WORKER_NONE;
	coord_attachments_forget(db->dbid);
}

/*
 * Whether a worker is neither at work nor known to have ended.  What becomes of it the postmaster
 * says by a signal alone, which a wait for a lock may take for its own.
 */
static bool
awaits_postmaster(void)
{
	for (int i = 0; i < coord_shared->ndatabases; i++)
	{
		if (coord_shared->databases[i].state == WORKER_STARTED && coord_shared->databases[i].pid == 0)
			return true;
	}
	return false;
}

/* Take notice of workers that have ended, and decide what becomes of their slots. */
static void
note_ended(TimestampTz now)
{
	bool		changed = false;

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < coord_shared->ndatabases; i++)
	{
		CoordDatabase *db = &coord_shared->databases[i];
		pid_t		pid;

		if (db->state != WORKER_STARTED || db->pid != 0)
			continue;
		/* another launcher's worker: it has ended, or will find that it is not alone */
		if (handles[i] != NULL && GetBackgroundWorkerPid(handles[i], &pid) != BGWH_STOPPED)
			continue;

		if (handles[i] != NULL)
			pfree(handles[i]);
		handles[i] = NULL;
		changed = true;
		db->state = WORKER_WANTED;
		switch (db->last_exit)
		{
			case WORKER_NOT_NEEDED:
				/* unless somebody has asked anew meanwhile; who holds it lets go of this slot */
				if (db->start_at != 0 && db->holds == 0)
					forget(db);
				break;
			case WORKER_STOPPED:
				db->start_at = 0;
				break;
			case WORKER_FAILED:
				db->start_at = retry_at(++db->failures, now);
				break;
		}
	}
	LWLockRelease(coord_shared->lock);
	if (changed)
		ConditionVariableBroadcast(&coord_shared->state_cv);
}

/* Start the workers whose time has come; returns when the next one's will. */
static TimestampTz
start_wanted(TimestampTz now)
{
	static TimestampTz logged_at = 0;
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < coord_shared->ndatabases; i++)
	{
		CoordDatabase *db = &coord_shared->databases[i];
		BackgroundWorker worker = {
			.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
			.bgw_start_time = BgWorkerStart_RecoveryFinished,
			.bgw_restart_time = BGW_NEVER_RESTART,
			.bgw_main_arg = Int32GetDatum(i),
			.bgw_notify_pid = MyProcPid,
		};
		MemoryContext old;
		int			refusals;
		bool		registered;
		bool		exists;

		if (db->state != WORKER_WANTED || db->holds > 0)
			continue;
		/* a clock that was set back meanwhile does not put it off */
		if (db->start_at > now && db->start_at <= now + MAX_BACKOFF_S * USECS_PER_SEC)
		{
			next = Min(next, db->start_at);
			continue;
		}
		db->start_at = now;		/* if somebody asks anew while we look, it is not that any more */
		pg_memory_barrier();
		exists = can_connect(db->dbid);

		strlcpy(worker.bgw_library_name, "coord", BGW_MAXLEN);
		strlcpy(worker.bgw_function_name, "coord_worker_main", BGW_MAXLEN);
		strlcpy(worker.bgw_type, "coord worker", BGW_MAXLEN);
		snprintf(worker.bgw_name, BGW_MAXLEN, "coord worker for database %u", db->dbid);

		LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
		if (db->state != WORKER_WANTED || db->holds > 0 || !exists)
		{
			if (!exists && db->state == WORKER_WANTED && db->start_at == now && db->holds == 0)
				forget(db);
			else if (db->state == WORKER_WANTED && db->holds == 0)
				next = now;
			LWLockRelease(coord_shared->lock);
			continue;
		}
		db->state = WORKER_STARTED;
		db->last_exit = WORKER_FAILED;
		db->start_at = now;
		LWLockRelease(coord_shared->lock);

		old = MemoryContextSwitchTo(TopMemoryContext);
		registered = RegisterDynamicBackgroundWorker(&worker, &handles[i]);
		MemoryContextSwitchTo(old);
		if (registered)
		{
			db->refusals = 0;
			continue;
		}

		handles[i] = NULL;
		LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
		db->state = WORKER_WANTED;
		db->start_at = retry_at(1, now);
		next = Min(next, db->start_at);
		refusals = ++db->refusals;
		LWLockRelease(coord_shared->lock);

		/* at first, others may only be looking for the extension */
		if (refusals >= 3 && TimestampDifferenceExceeds(logged_at, now, LOG_INTERVAL_MS))
		{
			logged_at = now;
			ereport(LOG,
					(errmsg("coord could not start a worker for database %u", db->dbid),
					 errhint("Raise max_worker_processes.")));
		}
	}
	return next;
}
