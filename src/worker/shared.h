/*
 * shared.h
 *		What the launcher, the workers and the backends share.
 *
 * Nothing that a user was told depends on it: it holds who is to be woken when,
 * and counts.  It exists when the library is preloaded.
 */
#ifndef COORD_WORKER_SHARED_H
#define COORD_WORKER_SHARED_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"
#include "worker/sweep.h"

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
	int			holds;			/* commands that need the database for themselves */

	pid_t		pid;			/* of the worker; 0 when there is none */
	Latch	   *latch;			/* its latch, when pid is not 0 */

	/*
	 * The instant until which the worker sleeps.  It raises this to DT_NOEND
	 * when it begins a pass; a commit that brings an earlier deadline lowers it,
	 * and sets the latch if the worker is not busy.  The worker, when it has
	 * computed its own deadline and is no longer busy, reads it once more before
	 * it sleeps: so one of the two always sees what the other has written.
	 */
	pg_atomic_uint64 sleeps_until;
	pg_atomic_uint32 busy;
	pg_atomic_uint32 checks_wait;	/* it keeps dependency checks */

	/* readers wait for a pass that began after they asked */
	pg_atomic_uint64 passes_asked;
	pg_atomic_uint64 passes_done;
	ConditionVariable pass_cv;

	/* what coord.worker shows */
	TimestampTz started_at;
	TimestampTz last_wakeup_at;
	TimestampTz next_deadline_at;
	SweepCounts counts;
} CoordDatabase;

typedef struct CoordShared
{
	LWLock	   *lock;
	Latch	   *launcher_latch; /* NULL: it does not run */
	TimestampTz made_at;		/* when this memory was */
	ConditionVariable state_cv; /* a worker has started or ended */
	int			ndatabases;
	CoordDatabase databases[FLEXIBLE_ARRAY_MEMBER];
} CoordShared;

extern CoordShared *coord_shared;	/* NULL: not preloaded */

extern void coord_shared_init(void);
extern bool coord_is_preloaded(void);
extern CoordDatabase *coord_find_database(Oid dbid);
extern void coord_want_worker(Oid dbid);
extern void coord_wake_launcher(void);
extern void coord_hold_worker(Oid dbid);
extern void coord_unhold_worker(Oid dbid);
extern void coord_wait_for_delivery(void);
extern void coord_wait_for_sweep(void);
extern bool coord_lower_deadline(CoordDatabase *db, TimestampTz deadline);

#endif							/* COORD_WORKER_SHARED_H */
