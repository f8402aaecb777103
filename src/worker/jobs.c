/*
 * jobs.c
 *		The jobs of a worker, and what becomes of their errors.
 *
 * Each job works in batches, each batch in a transaction of its own.  An error
 * undoes its batch and must not stop the rest: the row that was being looked at is
 * set aside for a while and the batch is made again without it.  When several
 * batches fail in a row it is not the rows, and the job rests for a while; the other
 * jobs go on.  Both times grow from a second to a minute.  Nothing of this is stored:
 * a row that was set aside is still due.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "delivery.h"
#include "queue_count.h"
#include "queue_listen.h"
#include "retention.h"
#include "store/lease_store.h"
#include "store/store.h"
#include "store/agent_store.h"
#include "store/deadline_store.h"
#include "store/event_log_store.h"
#include "store/finished_store.h"
#include "store/task_store.h"
#include "uuid7.h"
#include "worker/aside.h"
#include "worker/jobs.h"
#include "worker/restore.h"
#include "worker/wakeup.h"

/*
 * While other jobs have full batches, events are delivered no more often than this:
 * what is due comes first, but does not hold up those who listen for long.
 */
#define DELIVERY_INTERVAL (200 * INT64CONST(1000))

/*
 * When a batch has had so many events, more than so many for each millisecond since the
 * one before, there are many senders: the next one waits for so long.  Each notification
 * wakes every session that listens to anything in the database, and each commit of a
 * batch is a flush.
 */
#define MANY_EVENTS 16
#define EVENTS_PER_MS 4
#define EVENTS_PAUSE (20 * INT64CONST(1000))

/* how soon to come back to what is due and locked; later when there is so much of it that a look takes longer */
#define LOCKED_RETRY (50 * INT64CONST(1000))

/* what is long in doing, so that the job rests afterwards, counts as no longer */
#define MAX_REST (10 * USECS_PER_SEC)

/*
 * A walk is asked for by anybody whose agent is retired, or ends when it was attached.  So the
 * next one begins so many times as long after it as it took, but no later than that.
 */
#define WALK_REST 4
#define MAX_WALK_REST USECS_PER_SEC

/* so many batches that fail in a row are blamed on rows */
#define ROW_FAILURES 3

/* an error of a job is logged no more often than this */
#define LOG_INTERVAL_MS (60 * 1000)

typedef struct Job
{
	const char *name;			/* what it is at, in words */
	SweepOutcome (*batch) (SweepCounts *counts);
	TimestampTz (*next_due) (void); /* by what is stored; NULL: it is told, or not due */
	bool		has_cursor;		/* a batch begins where the one before stood, and what is new may be before that */
	bool		walks;			/* over all that there is, for what ended agents have left */

	/* several batches that are one look at all that the job is for */
	bool		begun;
	bool		told_meanwhile; /* of something new */
	uint64		begun_for;		/* the rounds that had been asked for when it began */
	uint64		looked_for;		/* the same of the last look that has come to its end */
	int64		took;			/* without commits, and waits for who updates the extension */
	TimestampTz asides_end;		/* the first of what its last batch has passed over is due again */

	int			failures;		/* in a row */
	TimestampTz retry_at;
	int64		rests_for;		/* until then, from the beginning */
	TimestampTz logged_at;
	int64		unlogged;		/* errors since then */
} Job;

/* what became of a batch */
typedef struct Batch
{
	enum
	{
		BATCH_FAILED,
		BATCH_UNDONE,			/* a restore has begun */
		BATCH_DONE,
		BATCH_NOT_NEEDED		/* there is no extension */
	}			state;
	SweepCounts counts;
	SweepOutcome outcome;
	TimestampTz next_due;
} Batch;

static SweepOutcome wake_listeners(SweepCounts *counts);
static TimestampTz queues_next_due(void);
static SweepOutcome sweep_agents(SweepCounts *counts);
static SweepOutcome sweep_leases(SweepCounts *counts);

static Job	jobs[COORD_NJOBS] = {
	[JOB_QUEUES] = {.name = "waking listeners of queues", .batch = wake_listeners, .next_due = queues_next_due},
	[JOB_AGENTS] = {.name = "ending agents", .batch = sweep_agents, .next_due = store_agents_next_due, .has_cursor = true},
	[JOB_LEASES] = {.name = "expiring and renewing leases", .batch = sweep_leases, .next_due = store_leases_next_due},
	[JOB_CLAIMS] = {.name = "giving back claims", .batch = coord_sweep_claims, .next_due = store_claims_next_due},
	[JOB_ORPHANS] = {.name = "giving back claims of ended agents", .batch = coord_sweep_orphans, .has_cursor = true, .walks = true},
	[JOB_RELEASES] = {.name = "releasing leases of ended agents", .batch = coord_sweep_releases, .has_cursor = true, .walks = true},
	[JOB_RETIRED] = {.name = "releasing leases of retired agents", .batch = coord_sweep_retired, .has_cursor = true, .walks = true},
	[JOB_CHECKS] = {.name = "looking at dependencies", .batch = coord_sweep_checks, .has_cursor = true},
	[JOB_DEPENDANTS] = {.name = "looking at dependants", .batch = coord_sweep_dependants, .has_cursor = true},
	[JOB_EVENTS] = {.name = "delivering events", .batch = coord_deliver_events},
	[JOB_NOTICES] = {.name = "notifying of events", .batch = coord_notify_events, .next_due = coord_notices_next_due},
	[JOB_RETENTION] = {.name = "dropping old events", .batch = coord_expire_events, .next_due = store_log_next_due},
	[JOB_FINISHED] = {.name = "dropping old tasks", .batch = coord_expire_tasks, .next_due = store_finished_next_due},
	[JOB_ENDED] = {.name = "dropping old agents", .batch = coord_expire_agents, .next_due = coord_expiry_of_agents_due},
	[JOB_COUNTS] = {.name = "counting queues", .batch = coord_count_queues, .next_due = coord_counting_next_due},
};

static bool look_for_unknown = false;
static bool leases_one_by_one = false;

static bool run(CoordDatabase *db, CoordJob job);
static void pause_delivery(CoordDatabase *db, int64 delivered, TimestampTz since);
static void try_batch(CoordDatabase *db, CoordJob job, Batch *batch);
static void run_batch(CoordJob job, Batch *batch);
static void begin_anew(CoordJob job);
static void note_error(CoordDatabase *db, CoordJob job);

/* Until when a job rests; a clock that is stepped back does not make it rest for longer than it was to. */
static TimestampTz
rests_until(CoordJob job, TimestampTz now)
{
	return jobs[job].retry_at <= now + jobs[job].rests_for ? jobs[job].retry_at : COORD_DUE_NOW;
}

static void
rest(Job *job, TimestampTz since, int64 rests_for)
{
	job->retry_at = since + rests_for;
	job->rests_for = rests_for;
}

static bool
is_due(CoordDatabase *db, CoordJob job, TimestampTz now)
{
	return (TimestampTz) pg_atomic_read_u64(&db->due_at[job]) <= now && rests_until(job, now) <= now;
}

/* Whether the worker has nothing to do, since a dump is being restored. */
static bool
rests_for_restore(void)
{
	static bool rests = false;
	bool		goes_on = coord_restored_at(coord_now()) != COORD_DUE_NOW;

	if (goes_on && !rests)
		pgstat_report_activity(STATE_IDLE, "coord: resting while a dump is being restored");
	if (!goes_on && rests)
	{
		coord_all_due();
		coord_tell_now();
	}
	rests = goes_on;
	return rests;
}

/*
 * Who has asked for a sweep waits until each job has had a look that began after that, but for
 * those whose batches fail.
 */
static void
end_round(CoordDatabase *db)
{
	uint64		round = pg_atomic_read_u64(&db->rounds_asked);
	TimestampTz now = coord_now();
	bool		all = true;

	if (pg_atomic_read_u64(&db->rounds_done) == round)
		return;
	for (CoordJob job = JOB_SWEEP_FIRST; job <= JOB_SWEEP_LAST; job++)
	{
		if (jobs[job].looked_for >= round || (jobs[job].failures > 0 && rests_until(job, now) > now))
			continue;
		if (!jobs[job].begun)
			coord_set_due(db, job, COORD_DUE_NOW);
		all = false;
	}
	if (!all)
		return;
	pg_atomic_write_u64(&db->rounds_done, round);
	ConditionVariableBroadcast(&db->round_cv);
}

/* Do a batch of each job that is due; false when there is no extension to work for. */
bool
coord_do_jobs(CoordDatabase *db)
{
	static TimestampTz delivered_at = 0;
	bool		more = false;

	if (rests_for_restore())
		return true;
	for (CoordJob job = 0; job < COORD_NJOBS; job++)
	{
		TimestampTz now = coord_now();

		CHECK_FOR_INTERRUPTS();
		if (!is_due(db, job, now) ||
			(job == JOB_EVENTS && more && now < delivered_at + DELIVERY_INTERVAL))
			continue;
		if (!run(db, job))
			return false;
		if (job == JOB_EVENTS)
			delivered_at = now;
		more |= is_due(db, job, now);
	}
	end_round(db);
	return true;
}

/* When the next job is due. */
TimestampTz
coord_jobs_due_at(CoordDatabase *db)
{
	TimestampTz now = coord_now();
	TimestampTz due_at = DT_NOEND;
	TimestampTz restored_at = coord_restored_at(now);

	if (restored_at != COORD_DUE_NOW)
		return restored_at;
	for (int job = 0; job < COORD_NJOBS; job++)
		due_at = coord_earlier(due_at, coord_later((TimestampTz) pg_atomic_read_u64(&db->due_at[job]), rests_until(job, now)));
	return due_at == COORD_GOES_ON ? COORD_DUE_NOW : due_at;
}

/*
 * All claims that have run out were given back, so none is due before the job is due
 * again; unless a commit has said so meanwhile, which lowers due_at first.
 */
static void
claims_are_settled(CoordDatabase *db, uint64 since)
{
	uint64		due_at = pg_atomic_read_u64(&db->due_at[JOB_CLAIMS]);

	pg_atomic_compare_exchange_u64(&db->claims_due_from, &since, due_at);
	coord_lower(&db->claims_due_from, (TimestampTz) pg_atomic_read_u64(&db->due_at[JOB_CLAIMS]));
}

/* Whether a job may make tasks claimable. */
static bool
gives_back(CoordJob job)
{
	return job >= JOB_SWEEP_FIRST && job <= JOB_SWEEP_LAST;
}

/*
 * A job begins a look, or goes on with the one that it has begun.  What is committed from now
 * on makes it due again.
 */
static void
begin_look(CoordDatabase *db, CoordJob id, TimestampTz now)
{
	Job		   *job = &jobs[id];
	TimestampTz due_at;

	if (!job->begun)
		job->begun_for = pg_atomic_read_u64(&db->rounds_asked);
	due_at = (TimestampTz) pg_atomic_exchange_u64(&db->due_at[id], (uint64) DT_NOEND);
	if (!job->begun)
	{
		job->begun = true;
		job->told_meanwhile = false;
		job->took = 0;
	}
	else if (due_at == COORD_DUE_NOW || job->asides_end <= now)
		job->told_meanwhile = true;
	job->asides_end = coord_leave_asides_out(id, now);
}

/* A look has come to its end: when the job is due again, and for how long it rests. */
static TimestampTz
end_look(Job *job, const Batch *batch, TimestampTz now)
{
	TimestampTz next_due = batch->next_due;
	bool		is_due = next_due <= now || batch->outcome == SWEEP_LOCKED;
	int64		rests_for = 0;

	job->begun = false;
	job->looked_for = job->begun_for;
	/* what is due is locked; there may be so much of it that the look takes long */
	if (is_due)
		rests_for = Min(job->took, MAX_REST);
	if (job->walks)
		rests_for = Max(rests_for, Min(WALK_REST * job->took, MAX_WALK_REST));
	if (rests_for > 0)
		rest(job, coord_now(), rests_for);
	if (job->has_cursor && job->told_meanwhile)
		return COORD_DUE_NOW;
	if (batch->outcome == SWEEP_LOCKED || (is_due && batch->outcome == SWEEP_IDLE))
		next_due = coord_earlier(next_due > now ? next_due : DT_NOEND, coord_now() + LOCKED_RETRY);
	return next_due;
}

/* One batch of a job, and when the job is due again; false when there is no extension. */
static bool
run(CoordDatabase *db, CoordJob job)
{
	TimestampTz now = coord_now();
	uint64		claims_due_from = pg_atomic_read_u64(&db->claims_due_from);
	Batch		batch = {.state = BATCH_FAILED, .next_due = DT_NOEND};
	bool		settled;

	begin_look(db, job, now);
	if (gives_back(job))
		pg_atomic_fetch_add_u32(&db->sweeps, 1);
	try_batch(db, job, &batch);
	if (gives_back(job))
		pg_atomic_fetch_add_u32(&db->sweeps, 1);
	if (batch.state == BATCH_NOT_NEEDED)
		return false;
	if (batch.state == BATCH_FAILED || batch.state == BATCH_UNDONE)
	{
		begin_anew(job);
		coord_set_due(db, job, COORD_DUE_NOW);
		return true;
	}

	jobs[job].failures = 0;
	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	coord_sweep_counts_add(&db->status.counts, &batch.counts);
	LWLockRelease(coord_shared->lock);

	settled = (batch.outcome == SWEEP_IDLE || batch.outcome == SWEEP_SOME) && batch.next_due > now;
	batch.next_due = batch.outcome == SWEEP_MORE ? COORD_GOES_ON : end_look(&jobs[job], &batch, now);
	coord_set_due(db, job, Min(batch.next_due, jobs[job].asides_end));
	if (job == JOB_CLAIMS && settled)
		claims_are_settled(db, claims_due_from);

	if (job == JOB_EVENTS && batch.outcome != SWEEP_LOCKED && coord_delivered_all_seen())
	{
		if (batch.outcome != SWEEP_MORE)
			pg_atomic_write_u32(&db->delivering, false);
		pg_atomic_write_u64(&db->deliveries_done, coord_deliveries_seen());
		ConditionVariableBroadcast(&db->delivery_cv);
		pause_delivery(db, batch.counts.events_delivered, now);
	}
	return true;
}

static void
pause_delivery(CoordDatabase *db, int64 delivered, TimestampTz since)
{
	static TimestampTz last = 0;
	bool		many = delivered > EVENTS_PER_MS * (since - last) / 1000;

	last = since;
	if (!many || delivered < MANY_EVENTS)
		return;
	rest(&jobs[JOB_EVENTS], since, EVENTS_PAUSE);
	pg_atomic_write_u64(&db->delivers_from, (uint64) jobs[JOB_EVENTS].retry_at);
}

static void
try_batch(CoordDatabase *db, CoordJob job, Batch *batch)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		run_batch(job, batch);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		note_error(db, job);
	}
	PG_END_TRY();
}

static void
run_batch(CoordJob job, Batch *batch)
{
	StoreScope	scope;
	uint32		restores = coord_restores_begun();
	TimestampTz began_at;

	if (rests_for_restore())
	{
		batch->state = BATCH_UNDONE;
		return;
	}
	coord_sweeping(NULL);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!store_hold_extension())
	{
		CommitTransactionCommand();
		batch->state = BATCH_NOT_NEEDED;
		return;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, psprintf("coord: %s", jobs[job].name));

	store_open(&scope);
	began_at = coord_now();
	batch->outcome = jobs[job].batch(&batch->counts);
	if (batch->outcome != SWEEP_MORE && jobs[job].next_due != NULL)
		batch->next_due = jobs[job].next_due();
	jobs[job].took += coord_later(coord_now(), began_at) - began_at;
	store_close(&scope);
	if (coord_restores_begun() != restores)
	{
		AbortCurrentTransaction();
		pgstat_report_activity(STATE_IDLE, NULL);
		batch->state = BATCH_UNDONE;
		return;
	}

	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	batch->state = BATCH_DONE;
}

/*
 * The worker is told to end, perhaps since the server stops: write the heartbeats that
 * are only in memory.  When that cannot be done they are up to a third of their agents'
 * timeouts older, after the start.
 */
void
coord_write_beats(void)
{
	StoreScope	scope;

	/* what has told this process to end would cancel this; who tells it once more does */
	ProcDiePending = false;
	SetConfigOption("lock_timeout", "1s", PGC_SUSET, PGC_S_OVERRIDE);
	PG_TRY();
	{
		StartTransactionCommand();
		coord_set_synchronous_commit("local");	/* the standby may have been stopped before */
		PushActiveSnapshot(GetTransactionSnapshot());
		if (store_hold_extension())
		{
			store_open(&scope);
			store_agents_write_beats();
			store_close(&scope);
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
}

/*
 * Nothing is lost when this commit is: who listens has lost its connection as well,
 * and looks when it has another.
 */
static SweepOutcome
wake_listeners(SweepCounts *counts pg_attribute_unused())
{
	TimestampTz now = coord_now();

	if (!coord_may_notify(now))
		return SWEEP_IDLE;
	coord_set_synchronous_commit("off");
	(void) coord_notify_ready_queues(now);
	return coord_queues_next_ready() <= now ? SWEEP_MORE : SWEEP_SOME;
}

static TimestampTz
queues_next_due(void)
{
	return coord_later(coord_queues_next_ready(), coord_may_notify_at());
}

static SweepOutcome
sweep_agents(SweepCounts *counts)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);
	SweepOutcome outcome;

	look_for_unknown |= pg_atomic_exchange_u32(&db->attachments_unknown, 0) != 0;
	outcome = coord_sweep_agents(counts, look_for_unknown);
	if (outcome == SWEEP_IDLE || outcome == SWEEP_SOME)
		look_for_unknown = false;
	return outcome;
}

static SweepOutcome
sweep_leases(SweepCounts *counts)
{
	return coord_sweep_leases(counts, leases_one_by_one);
}

/* ---- errors ---- */

/* Log an error, but not too often, and show it in coord.worker. */
static void
report(CoordDatabase *db, Job *job, const ErrorData *error, TimestampTz now)
{
	int			shown = pg_mbcliplen(error->message, strlen(error->message), COORD_ERROR_LEN - 1);

	LWLockAcquire(coord_shared->lock, LW_EXCLUSIVE);
	db->status.errors++;
	db->status.last_error_at = now;
	strlcpy(db->status.last_error, error->message, shown + 1);
	LWLockRelease(coord_shared->lock);

	job->unlogged++;
	if (!TimestampDifferenceExceeds(job->logged_at, now, LOG_INTERVAL_MS))
		return;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("coord worker met an error when %s: %s", job->name, error->message),
			 job->unlogged > 1 ?
			 errdetail("There were " INT64_FORMAT " errors since this was logged last.", job->unlogged) : 0,
			 errhint("It goes on trying. See coord.worker.")));
	job->logged_at = now;
	job->unlogged = 0;
}

/* A batch was undone, and with it what the job remembers of it. */
static void
begin_anew(CoordJob job)
{
	jobs[job].begun = false;
	if (job == JOB_QUEUES)
		coord_all_queues_ready();
	if (job == JOB_AGENTS)
		coord_sweep_agents_anew();
	if (job == JOB_EVENTS)
		coord_deliver_anew();
	if (job == JOB_ORPHANS)
		coord_sweep_orphans_anew();
	if (job == JOB_RELEASES)
		coord_sweep_releases_anew();
	if (job == JOB_RETIRED)
		coord_sweep_retired_anew();
	if (job == JOB_CHECKS)
		coord_sweep_checks_anew();
	if (job == JOB_DEPENDANTS)
		coord_sweep_dependants_anew();
	if (job == JOB_ENDED)
		coord_expire_agents_anew();
	if (job == JOB_COUNTS)
		coord_count_anew();
}

/* End a batch that has failed, and decide how to go on. */
static void
note_error(CoordDatabase *db, CoordJob job)
{
	const pg_uuid_t *item = coord_swept_last();
	TimestampTz now = coord_now();
	ErrorData  *error;

	HOLD_INTERRUPTS();
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	RESUME_INTERRUPTS();
	pgstat_report_activity(STATE_IDLE, NULL);
	report(db, &jobs[job], error, now);
	FreeErrorData(error);

	jobs[job].failures++;
	if (jobs[job].failures <= ROW_FAILURES && item != NULL && coord_set_aside(item, job, now))
		leases_one_by_one = false;
	else if (job == JOB_LEASES && item == NULL && !leases_one_by_one)
		leases_one_by_one = true;
	else
		rest(&jobs[job], now, coord_worker_backoff(jobs[job].failures - ROW_FAILURES));
}
