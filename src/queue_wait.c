/*
 * queue_wait.c
 *		Waiting until a queue has something claimable.
 *
 * It is a procedure, which ends its transaction after each look: while it waits it
 * holds no snapshot, no xid and no lock, so it does not hold back VACUUM and is no
 * trouble for a pooler in transaction mode.  Who is to be woken by what is in
 * queue_waiters.c.
 *
 * What is claimable here is so for an agent that holds no lease: a task whose resource
 * the caller's agent itself holds does not end the wait.  Claim until there is nothing,
 * then wait.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "args.h"
#include "claim.h"
#include "claim/peek.h"
#include "clock.h"
#include "errors.h"
#include "queue_waiters.h"
#include "rights.h"
#include "sleep.h"
#include "store/deadline_store.h"
#include "store/lease_store.h"
#include "store/queue_store.h"
#include "worker/shared.h"

#define DEFAULT_TIMEOUT (30 * USECS_PER_SEC)

/* without a worker, when to look again at what is due and locked */
#define LOCKED_RETRY (50 * INT64CONST(1000))

/* without a worker, so many leases are looked at */
#define LEASE_BATCH 100

PG_FUNCTION_INFO_V1(coord_queue_wait);

static void wait_for_task(const char *queue, bool waits, TimestampTz give_up_at);
static bool look(const char *queue, TimestampTz *next_at);

/* queue_wait(queue, timeout) */
Datum
coord_queue_wait(PG_FUNCTION_ARGS)
{
	char	   *queue = coord_arg_name_or_null(fcinfo, 0, "queue");
	int64		timeout = coord_arg_duration(fcinfo, 1, "timeout", DEFAULT_TIMEOUT);
	TimestampTz give_up_at = coord_now() + timeout;
	bool		waits = timeout > 0;

	if (queue == NULL)
		queue = "default";
	if (!coord_is_preloaded())
		coord_error_not_preloaded("queue_wait");
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("queue_wait cannot run inside a transaction block"),
				 errdetail("It ends its transaction, so as to hold nothing while it waits."),
				 errhint("Nor can it be called by a function, in a block with EXCEPTION, or beside other statements in one string.")));
	PreventCommandDuringRecovery("queue_wait");
	coord_check_queue(GetUserId(), queue, COORD_CLAIM);

	if (waits && !coord_queue_waiter_reserve())
		coord_error_full("sessions wait for queues", "coord.max_queue_waiters");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* the commits in there may register what is done at the session's exit, so nothing is to be for this time only */
	PG_TRY();
	{
		/* what the caller has begun may take long to commit: before somebody relies on our looking */
		SPI_commit();
		if (waits)
			coord_queue_waiter_enter(queue, give_up_at);
		wait_for_task(queue, waits, give_up_at);
	}
	PG_FINALLY();
	{
		coord_queue_waiter_leave();
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}

/* Look, and wait and look again until something is claimable; without "waits" only look. */
static void
wait_for_task(const char *queue, bool waits, TimestampTz give_up_at)
{
	MemoryContext per_look = AllocSetContextCreate(CurrentMemoryContext, "coord queue_wait", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = CurrentMemoryContext;
	bool		found = false;

	while (!found)
	{
		TimestampTz until = give_up_at;
		TimestampTz next_at;

		coord_queue_waiter_looks();
		MemoryContextSwitchTo(per_look);
		found = look(queue, &next_at);
		MemoryContextSwitchTo(outer);
		SPI_commit();
		MemoryContextReset(per_look);
		if (!waits || coord_now() >= give_up_at)
			break;

		if (coord_queue_waiter_is_first())
			until = Min(until, next_at);
		while (!found && !coord_queue_waiter_is_told() && coord_now() < until)
			coord_sleep(until, COORD_WAIT_QUEUE);
	}
}

static bool
has_room(const QueueRow *queue)
{
	return !queue->paused && (queue->max_claimed == 0 || store_slot_is_free(queue));
}

/*
 * What the worker does where there is one, and claimants too: give back what has run
 * out.  Returns when the next claim or lease runs out.
 */
static TimestampTz
do_without_worker(const char *queue, TimestampTz now)
{
	if (coord_leases_may_be_due(now))
		(void) store_leases_look(now, LEASE_BATCH);
	(void) coord_claims_give_back_due(queue, now);
	return coord_later(coord_earlier(store_leases_next_due(), store_claims_next_due()), now + LOCKED_RETRY);
}

/* Whether something is claimable now, by a transaction of READ COMMITTED; else *next_at is when that may be. */
static bool
look(const char *queue_name, TimestampTz *next_at)
{
	StoreScope	scope;
	TimestampTz now;
	bool		found;

	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
	store_open(&scope);
	now = coord_now();
	*next_at = DT_NOEND;
	found = has_room(store_queue(queue_name)) && coord_peek(queue_name, now, next_at);
	if (!found && !XactReadOnly && !coord_worker_runs())
		*next_at = coord_earlier(*next_at, do_without_worker(queue_name, now));
	store_close(&scope);
	PopActiveSnapshot();
	return found;
}
