/*
 * worker.c
 *		The worker of a database: it does what has come due, delivers events,
 *		and sleeps until the next deadline.
 *
 * There is no polling interval.  The worker computes the earliest deadline from
 * the stored rows, publishes it and waits on its latch until then; a backend
 * whose commit brings an earlier one lowers it and sets the latch (shared.h has
 * the protocol).  Only when a row that is due stays locked by somebody, or
 * somebody else is delivering, does it come back after a moment.
 *
 * Each batch is a transaction of its own, and none is open while it sleeps.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "store/store.h"
#include "store/task_store.h"
#include "worker/shared.h"
#include "worker/worker.h"

/* how soon the worker comes back to what is due and locked */
#define LOCKED_RETRY_MS 50

#define MAX_ERROR_BACKOFF_S 60

static CoordDatabase *my_database = NULL;
static WorkerExit my_exit = WORKER_FAILED;

static void on_sigterm(SIGNAL_ARGS);
static void attach(int slot);
static void prepare_session(void);
static bool pass(TimestampTz *next_deadline);
static void sleep_until(TimestampTz deadline);
static void back_off(int failures);

bool
coord_is_worker(void)
{
	return my_database != NULL;
}

void
coord_worker_main(Datum arg)
{
	volatile int failures = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	BackgroundWorkerUnblockSignals();
	attach(DatumGetInt32(arg));
	BackgroundWorkerInitializeConnectionByOid(my_database->dbid, InvalidOid, 0);
	prepare_session();

	for (;;)
	{
		uint64		asked;
		TimestampTz next_deadline = DT_NOEND;
		MemoryContext context = CurrentMemoryContext;
		bool		needed = true;
		volatile bool failed = false;

		ResetLatch(MyLatch);
		if (ShutdownRequestPending || my_database->holds > 0)
			proc_exit(0);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		pg_atomic_write_u32(&my_database->busy, 1);
		pg_atomic_write_u64(&my_database->sleeps_until, (uint64) DT_NOEND);
		pg_memory_barrier();
		asked = pg_atomic_read_u64(&my_database->passes_asked);
		my_database->last_wakeup_at = coord_now();

		PG_TRY();
		{
			needed = pass(&next_deadline);
		}
		PG_CATCH();
		{
			failed = true;
			MemoryContextSwitchTo(context);
			HOLD_INTERRUPTS();
			EmitErrorReport();
			AbortCurrentTransaction();
			FlushErrorState();
			RESUME_INTERRUPTS();
		}
		PG_END_TRY();

		if (failed)
		{
			back_off(++failures);
			continue;
		}
		failures = 0;
		my_database->failures = 0;
		if (!needed)
		{
			my_exit = WORKER_NOT_NEEDED;
			proc_exit(0);
		}
		pg_atomic_write_u64(&my_database->passes_done, asked);
		ConditionVariableBroadcast(&my_database->pass_cv);
		sleep_until(next_deadline);
	}
}

/* End quietly between passes; as any backend would, in the middle of one. */
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
	if (coord_shared->launcher_latch != NULL)
		SetLatch(coord_shared->launcher_latch);
	LWLockRelease(coord_shared->lock);
	ConditionVariableBroadcast(&my_database->pass_cv);
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
		db->started_at = coord_now();
		db->last_wakeup_at = 0;
		db->next_deadline_at = 0;
		memset(&db->counts, 0, sizeof(db->counts));
		my_database = db;
		before_shmem_exit(detach, (Datum) 0);
	}
	LWLockRelease(coord_shared->lock);
	if (!go_on)
		proc_exit(0);
}

/* No setting of the database or of the cluster may change how the worker works. */
static void
prepare_session(void)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"row_security", "off"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("coord worker");
}

/* Begin a batch; false, with no transaction begun, when the extension is gone. */
static bool
begin_batch(StoreScope *scope, const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!store_hold_extension())
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		return false;
	}
	pgstat_report_activity(STATE_RUNNING, activity);
	store_open(scope);
	return true;
}

static void
end_batch(StoreScope *scope, SweepCounts *counts)
{
	store_close(scope);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	coord_sweep_counts_add(&my_database->counts, counts);
	LWLockRelease(coord_shared->lock);
	memset(counts, 0, sizeof(*counts));
}

/*
 * Do all that has come due, and find the next deadline.  False when there is no
 * extension to work for.
 */
static bool
pass(TimestampTz *next_deadline)
{
	SweepCounts counts = {0};
	SweepOutcome outcome;
	StoreScope	scope;
	SweepOutcome delivery;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!begin_batch(&scope, "coord: sweeping"))
			return false;
		outcome = coord_sweep_batch(&counts);
		if (outcome != SWEEP_MORE)
			*next_deadline = store_next_deadline();
		end_batch(&scope, &counts);
	} while (outcome == SWEEP_MORE);

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!begin_batch(&scope, "coord: delivering events"))
			return false;
		delivery = coord_deliver_batch(&counts);
		end_batch(&scope, &counts);
	} while (delivery == SWEEP_MORE);

	if ((outcome == SWEEP_IDLE && *next_deadline <= coord_now()) || delivery == SWEEP_LOCKED)
		*next_deadline = coord_now() + LOCKED_RETRY_MS * INT64CONST(1000);
	return true;
}

/* Sleep until the deadline, unless somebody sets the latch. */
static void
sleep_until(TimestampTz deadline)
{
	TimestampTz now = coord_now();
	long		timeout = -1;

	(void) coord_lower_deadline(my_database, deadline);
	pg_atomic_write_u32(&my_database->busy, 0);
	pg_memory_barrier();
	deadline = (TimestampTz) pg_atomic_read_u64(&my_database->sleeps_until);

	my_database->next_deadline_at = deadline;
	if (deadline != DT_NOEND)
		timeout = deadline <= now ? 0 : (long) Min(TimestampDifferenceMilliseconds(now, deadline), INT_MAX);
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout < 0 ? 0 : WL_TIMEOUT),
					 timeout, PG_WAIT_EXTENSION);
}

/* After an error that may come again. */
static void
back_off(int failures)
{
	long		seconds = failures > 6 ? MAX_ERROR_BACKOFF_S : Min(1L << (failures - 1), MAX_ERROR_BACKOFF_S);

	pgstat_report_activity(STATE_IDLE, NULL);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 seconds * 1000, PG_WAIT_EXTENSION);
}
