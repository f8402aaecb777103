/*
 * shared.h
 *		What the launcher, the workers and the backends share.
 *
 * Nothing that a user was told depends on it: it holds who is to be woken when,
 * and counts.  It exists when the library is preloaded.
 *
 * Sleep and wake.  The worker of a database has a few jobs, and each job has an
 * instant at which it is due.  A commit that leaves something for a job lowers
 * that instant, and sets the worker's latch if the worker sleeps for longer.  The
 * worker raises it to DT_NOEND before it does the job, so that nothing that is
 * committed from then on is missed, and lowers it to what it finds still to come.
 * Before it sleeps it says until when, and then reads all instants once more: one
 * of the two always sees what the other has written.
 */
#ifndef COORD_WORKER_SHARED_H
#define COORD_WORKER_SHARED_H

#include "port/atomics.h"
#include "storage/block.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"
#include "worker/sweep.h"

/* what a worker does, in the order in which it does it */
typedef enum CoordJob
{
	JOB_QUEUES,					/* wake who listens to queues */
	JOB_AGENTS,					/* end agents that have lapsed */
	JOB_LEASES,					/* expire and renew leases */
	JOB_CLAIMS,					/* give back claims that have run out */
	JOB_ORPHANS,				/* and those that were committed after their agent's end */
	JOB_RELEASES,				/* release the leases of agents that were attached */
	JOB_RETIRED,				/* and those that were committed after their agent was retired */
	JOB_CHECKS,					/* look at the dependencies that have a check */
	JOB_DEPENDANTS,				/* and at dependants that were put off */
	JOB_EVENTS,					/* deliver events */
	JOB_NOTICES,				/* notify who listens for them */
	JOB_RETENTION,				/* drop old ones */
	JOB_FINISHED,				/* and old tasks that have finished */
	JOB_ENDED,					/* retire, and delete, agents that have ended long ago */
	JOB_COUNTS					/* count long queues */
} CoordJob;

#define COORD_NJOBS (JOB_COUNTS + 1)

/* those that deal with what comes due, and may make tasks claimable */
#define JOB_SWEEP_FIRST JOB_AGENTS
#define JOB_SWEEP_LAST JOB_DEPENDANTS

/* a job that is due now, or to be done as soon as possible */
#define COORD_DUE_NOW DT_NOBEGIN

/* the same, by the worker itself, which goes on where it stands: who tells of something new lowers that */
#define COORD_GOES_ON (DT_NOBEGIN + 1)

/* a worker's life, as the launcher sees it */
typedef enum WorkerState
{
	WORKER_NONE,				/* the slot is free */
	WORKER_WANTED,				/* to be started, at start_at */
	WORKER_STARTED				/* registered, and not known to have ended */
} WorkerState;

/* why a worker ended */
typedef enum WorkerExit
{
	WORKER_FAILED,				/* start another one, after a while */
	WORKER_STOPPED,				/* as it was told */
	WORKER_NOT_NEEDED			/* there is no extension in the database */
} WorkerExit;

#define COORD_ERROR_LEN 256

/* what coord.worker shows */
typedef struct WorkerStatus
{
	TimestampTz started_at;
	TimestampTz last_wakeup_at;
	TimestampTz next_deadline_at;
	SweepCounts counts;
	int64		errors;
	TimestampTz last_error_at;
	char		last_error[COORD_ERROR_LEN];
} WorkerStatus;

/*
 * A database that has, or may have, the extension.  The lock protects all but
 * the atomics; a SetLatch() under it is safe, since it cannot fail.
 */
typedef struct CoordDatabase
{
	Oid			dbid;
	WorkerState state;
	WorkerExit	last_exit;
	TimestampTz start_at;
	int			failures;		/* in a row */
	int			refusals;		/* likewise, of the server to start a worker */
	int			holds;			/* commands that need the database for themselves */

	pid_t		pid;			/* of the worker; 0 when there is none */
	Latch	   *latch;			/* its latch, when pid is not 0 */

	pg_atomic_uint64 due_at[COORD_NJOBS];
	pg_atomic_uint64 claims_due_from;	/* no claim runs out before, that was not given back */
	pg_atomic_uint64 sleeps_until;	/* COORD_DUE_NOW: it is awake */
	pg_atomic_uint32 sweeps;	/* grows when a batch that may give tasks back begins, and when it ends: odd in between */
	pg_atomic_uint32 checks_wait;	/* it keeps dependency checks */
	pg_atomic_uint32 uncounted;	/* tasks that were created since the last count, as long as no count is kept */
	pg_atomic_uint32 counts_kept;	/* there are queues whose counts are kept */
	pg_atomic_uint32 counts_changed;	/* a count is wanted, after the one that is going on */
	pg_atomic_uint32 attachments_unknown;	/* agents may have some that nobody knows */

	/* delivery, see delivery.c */
	pg_atomic_uint32 inbox_from;	/* the first block of the inbox that may have something; or InvalidBlockNumber */
	pg_atomic_uint32 delivering;	/* the worker has taken that, and is not done with it */
	pg_atomic_uint64 delivers_from; /* it is not to be woken to deliver before */
	pg_atomic_uint64 stamped_to;	/* the last position that was given; 0: none since this memory was made */
	pg_atomic_uint64 notified_to;	/* and the last one whose listeners were notified */

	/* readers wait for a delivery that began after they asked */
	pg_atomic_uint64 deliveries_asked;
	pg_atomic_uint64 deliveries_done;
	ConditionVariable delivery_cv;

	/* and who asks for a sweep, for a round over what comes due that began after they asked */
	pg_atomic_uint64 rounds_asked;
	pg_atomic_uint64 rounds_done;
	ConditionVariable round_cv;

	pg_atomic_uint32 restores_begun;	/* grows with each session that begins to restore a dump, see restore.c */

	WorkerStatus status;
} CoordDatabase;

typedef struct CoordShared
{
	LWLock	   *lock;			/* of the databases */
	LWLock	   *attachment_lock;
	LWLock	   *waiter_lock;
	LWLock	   *listener_lock;
	LWLock	   *queue_waiter_lock;
	LWLock	   *ready_lock;		/* which queue has which ring */
	LWLock	   *beat_lock;
	LWLock	   *prepared_lock;
	pg_atomic_uint32 beats_aside;	/* grows when one is written to agent_beat */
	pg_atomic_uint64 agents_ended;	/* grows when some have, see agent_end.c */
	pg_atomic_uint64 beats_since;	/* the server takes them; 0: nobody has asked yet (beat.c) */
	TimestampTz beats_looked_through_at;	/* for old ones; under beat_lock */
	Latch	   *launcher_latch; /* NULL: it does not run */
	pg_atomic_uint32 launcher_told; /* its latch alone may be reset by a wait for a lock */
	TimestampTz made_at;		/* when this memory was */
	ConditionVariable state_cv; /* a worker has started or ended */
	int			ndatabases;
	CoordDatabase databases[FLEXIBLE_ARRAY_MEMBER];
} CoordShared;

extern CoordShared *coord_shared;	/* NULL: not preloaded */

extern void coord_shared_init(void);
extern bool coord_is_preloaded(void);
extern CoordDatabase *coord_find_database(Oid dbid);
extern bool coord_want_worker(Oid dbid);
extern bool coord_worker_runs(void);
extern bool coord_claims_may_be_due(TimestampTz now);
extern bool coord_leases_may_be_due(TimestampTz now);
extern void coord_wake_launcher(void);
extern bool coord_hold_worker(Oid dbid);
extern void coord_unhold_worker(Oid dbid);
extern bool coord_events_may_wait(CoordDatabase *db);
extern void coord_wait_for_delivery(void);
extern void coord_wait_for_round(SweepCounts *counts);
extern void coord_lower_block(pg_atomic_uint32 *block, BlockNumber to);
extern bool coord_wait_for_sweep(void);
extern uint32 coord_sweeps(void);
extern bool coord_sweep_was_at_work(uint32 since);
extern void coord_lower(pg_atomic_uint64 *instant, TimestampTz to);
extern void coord_set_due(CoordDatabase *db, CoordJob job, TimestampTz instant);
extern void coord_tasks_changed(CoordDatabase *db, int created);
extern void coord_counting(void);
extern bool coord_counted(bool kept);
extern void coord_tell_worker(CoordDatabase *db, CoordJob job, TimestampTz instant);

#endif							/* COORD_WORKER_SHARED_H */
