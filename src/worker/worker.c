/*
 * worker.c
 *		The worker of a database: its life, its sleep and its waking.
 *
 * There is no polling interval.  The worker does the jobs that are due (jobs.c) and
 * sleeps on its latch until the next one is; a backend whose commit brings an earlier
 * instant sets the latch (shared.h has the protocol).  Only when a row that is due
 * stays locked by somebody does it come back after a moment.  No transaction is open
 * while it sleeps.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "clock.h"
#include "queue_listen.h"
#include "sleep.h"
#include "worker/jobs.h"
#include "worker/shared.h"
#include "worker/worker.h"

/* see sleep_until_due() */
#define MAX_SLEEP_MS (60 * 1000)

static CoordDatabase *my_database = NULL;
static WorkerExit my_exit = WORKER_FAILED;

static void on_sigterm(SIGNAL_ARGS);
static void attach(int slot);
static void sleep_until_due(void);

bool
coord_is_worker(void)
{
	return my_database != NULL;
}

void
coord_worker_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	BackgroundWorkerUnblockSignals();
	attach(DatumGetInt32(arg));
	BackgroundWorkerInitializeConnectionByOid(my_database->dbid, InvalidOid, 0);
	coord_prepare_session("coord worker");
	coord_all_queues_ready();

	for (;;)
	{
		ResetLatch(MyLatch);
		if (ShutdownRequestPending || my_database->holds > 0)
		{
			if (my_database->holds == 0)
				coord_write_beats();
			proc_exit(0);
		}
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			coord_set_due(my_database, JOB_RETENTION, COORD_DUE_NOW);
			coord_set_due(my_database, JOB_FINISHED, COORD_DUE_NOW);
			coord_set_due(my_database, JOB_ENDED, COORD_DUE_NOW);
		}

		my_database->status.last_wakeup_at = coord_now();
		/* if somebody asks for a worker while this one looks whether it is needed, it is not that any more */
		my_database->start_at = my_database->status.last_wakeup_at;
		pg_memory_barrier();
		if (!coord_do_jobs(my_database))
		{
			my_exit = WORKER_NOT_NEEDED;
			proc_exit(0);
		}
		my_database->failures = 0;
		sleep_until_due();
	}
}

/* End quietly between batches; as any backend would, in the middle of one. */
static void
on_sigterm(SIGNAL_ARGS)
{
	ShutdownRequestPending = true;
	die(postgres_signal_arg);
}

static void
detach(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	if (my_exit == WORKER_FAILED && (ShutdownRequestPending || my_database->holds > 0))
		my_exit = WORKER_STOPPED;
	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	my_database->pid = 0;
	my_database->latch = NULL;
	my_database->last_exit = my_exit;
	/* the launcher may not be the one that started this worker, and is then not told */
	pg_atomic_write_u32(&coord_shared->launcher_told, 1);
	if (coord_shared->launcher_latch != NULL)
		SetLatch(coord_shared->launcher_latch);
	LWLockRelease(coord_shared->lock);
	ConditionVariableBroadcast(&my_database->delivery_cv);
	ConditionVariableBroadcast(&my_database->round_cv);
}

/*
 * Enter this process in its slot, before it connects, so that who needs the
 * database for itself knows of it.
 */
static void
attach(int slot)
{
	CoordDatabase *db = &coord_shared->databases[slot];
	bool		go_on;

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	go_on = db->state == WORKER_STARTED && db->pid == 0;
	if (go_on && db->holds > 0)
	{
		db->last_exit = WORKER_STOPPED;
		go_on = false;
	}
	if (go_on)
	{
		db->pid = MyProcPid;
		db->latch = MyLatch;
		memset(&db->status, 0, sizeof(db->status));
		db->status.started_at = coord_now();
		for (int job = 0; job < COORD_NJOBS; job++)
			coord_set_due(db, job, COORD_DUE_NOW);
		pg_atomic_write_u64(&db->sleeps_until, (uint64) COORD_DUE_NOW);
		pg_atomic_write_u32(&db->sweeps, (pg_atomic_read_u32(&db->sweeps) + 1) & ~(uint32) 1);
		pg_atomic_write_u32(&db->attachments_unknown, 1);
		pg_atomic_write_u32(&db->inbox_from, 0);
		my_database = db;
		before_shmem_exit(detach, (Datum) 0);
	}
	LWLockRelease(coord_shared->lock);
	if (!go_on)
		proc_exit(0);
}

/* No setting of the database, of the cluster or of a role may change how a worker works. */
void
coord_prepare_session(const char *name)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},	/* PostgreSQL 17's */
		{"row_security", "off"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) == NULL)
			continue;
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
	pgstat_report_appname(name);
}

/*
 * Sleep until a job is due, or somebody sets the latch.  Not for too long at a time: if
 * the clock is set forward meanwhile, a job is due earlier than it seemed.
 */
static void
sleep_until_due(void)
{
	TimestampTz due_at;
	TimestampTz now;
	long		timeout = -1;

	pg_atomic_write_u64(&my_database->sleeps_until, (uint64) coord_jobs_due_at(my_database));
	pg_memory_barrier();
	due_at = coord_jobs_due_at(my_database);
	now = coord_now();

	my_database->status.next_deadline_at = due_at;
	if (due_at != DT_NOEND)
		timeout = due_at <= now ? 0 : (long) Min(TimestampDifferenceMilliseconds(now, due_at), MAX_SLEEP_MS);
	/* a commit or a lock that a batch has waited for may have taken the latch for its own */
	if (ShutdownRequestPending || ConfigReloadPending || my_database->holds > 0)
		timeout = 0;
	if (timeout != 0)
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout < 0 ? 0 : WL_TIMEOUT),
						 timeout, coord_wait_event(COORD_WAIT_WORKER));
	pg_atomic_write_u64(&my_database->sleeps_until, (uint64) COORD_DUE_NOW);
}
