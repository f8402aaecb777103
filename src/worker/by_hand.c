/*
 * by_hand.c
 *		sweep(): upkeep at once, in the worker or in the caller's transaction.
 *
 * What is swept are other roles' agents, leases and claims, and until the end of the
 * transaction nobody else gets at them: neither the worker nor who waits for a lease.
 * So it is only a role that no limit concerns that sweeps in whatever transaction it
 * likes.  For any other one the worker does it; where there is none, the call must be a
 * statement of its own, at whose end the transaction is committed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/portal.h"

#include "clock.h"
#include "compat.h"
#include "delivery.h"
#include "queue_count.h"
#include "retention.h"
#include "rights.h"
#include "store/store.h"
#include "worker/by_hand.h"
#include "worker/restore.h"
#include "worker/shared.h"
#include "worker/sweep.h"

PG_FUNCTION_INFO_V1(coord_sweep);

static ExecutorRun_hook_type prev_ExecutorRun = NULL;
static const QueryDesc *executed = NULL;	/* the client's statement, in its portal */
static uint64 rows_wanted = 0;		/* of it; 0: all */

static void require_own_statement(FmgrInfo *call);
static void sweep_here(SweepCounts *counts);
static void sweep_kind(SweepCounts *counts, SweepOutcome (*batch) (SweepCounts *));

/* sweep() */
Datum
coord_sweep(PG_FUNCTION_ARGS)
{
	SweepCounts counts = {0};
	bool		limited = !coord_may_everything(GetUserId());
	char	   *json;

	PreventCommandIfParallelMode("a function of coord");
	if (limited)
		PreventCommandIfReadOnly("coord.sweep()");
	if (limited && coord_worker_runs())
		coord_wait_for_round(&counts);
	else
	{
		if (limited)
			require_own_statement(fcinfo->flinfo);
		sweep_here(&counts);
	}

	json = psprintf("{\"leases_expired\": " INT64_FORMAT ", \"agents_expired\": " INT64_FORMAT
					", \"tasks_requeued\": " INT64_FORMAT ", \"leases_renewed\": " INT64_FORMAT
					", \"events_delivered\": " INT64_FORMAT "}",
					counts.leases_expired, counts.agents_expired, counts.tasks_requeued,
					counts.leases_renewed, counts.events_delivered);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/*
 * A client may ask for some of a statement's rows at a time, by the limit of an Execute.  The
 * statement has not ended then, nor its transaction, whatever becomes of the client.
 */
static void
on_run(QueryDesc *query, ScanDirection direction, uint64 count COORD_RUN_ONCE_PARAM)
{
	if (ActivePortal != NULL && ActivePortal->queryDesc == query)
	{
		executed = query;
		rows_wanted = count;
	}
	prev_ExecutorRun(query, direction, count COORD_RUN_ONCE_ARG);
}

/* While the library is being loaded. */
void
coord_by_hand_init(void)
{
	prev_ExecutorRun = ExecutorRun_hook != NULL ? ExecutorRun_hook : standard_ExecutorRun;
	ExecutorRun_hook = on_run;
}

/*
 * Whether a call is all that the client's statement does, and is run to its end.  That has the
 * portal without a name, which no cursor has, nor one of a function; who executes statements
 * that no client has sent, as pg_cron's background workers do, names none either.
 */
static bool
is_own_statement(FmgrInfo *call)
{
	PlannedStmt *statement;
	Plan	   *plan;

	if (ActivePortal == NULL || ActivePortal->name[0] != '\0' || list_length(ActivePortal->stmts) != 1 ||
		ActivePortal->queryDesc != executed || rows_wanted != 0)
		return false;
	statement = linitial_node(PlannedStmt, ActivePortal->stmts);
	plan = statement->planTree;
	return statement->commandType == CMD_SELECT && statement->subplans == NIL &&
		IsA(plan, Result) && outerPlan(plan) == NULL &&
		list_length(plan->targetlist) == 1 && plan->qual == NIL &&
		((Result *) plan)->resconstantqual == NULL && call->fn_expr != NULL &&
		(Node *) linitial_node(TargetEntry, plan->targetlist)->expr == call->fn_expr;
}

/* Error unless the transaction ends with the call. */
static void
require_own_statement(FmgrInfo *call)
{
	PreventInTransactionBlock(true, "coord.sweep()");
	if (!is_own_statement(call))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("coord.sweep() must be a statement of its own"),
				 errdetail("There is no background worker, and what a sweep locks is locked until the end of "
						   "the statement."),
				 errhint("Use \"SELECT coord.sweep()\".")));
}

static SweepOutcome
agents_by_hand(SweepCounts *counts)
{
	return coord_sweep_agents(counts, true);
}

static SweepOutcome
leases_by_hand(SweepCounts *counts)
{
	return coord_sweep_leases(counts, false);
}

/* Whether another session restores a dump: what is there so far must not be taken for the whole. */
static bool
is_being_restored(void)
{
	coord_restore_ends();		/* who calls this one is done with it */
	if (coord_restored_at(coord_now()) == COORD_DUE_NOW)
		return false;
	ereport(WARNING,
			(errmsg("nothing is swept while a dump is being restored"),
			 errdetail("Another session writes coord's stored relations."),
			 errhint("It will be when that session has ended.")));
	return true;
}

/* All that is due, in the caller's transaction. */
static void
sweep_here(SweepCounts *counts)
{
	if (is_being_restored())
		return;
	sweep_kind(counts, agents_by_hand);
	sweep_kind(counts, leases_by_hand);
	sweep_kind(counts, coord_sweep_claims);
	coord_sweep_orphans_anew();
	sweep_kind(counts, coord_sweep_orphans);
	coord_sweep_releases_anew();
	sweep_kind(counts, coord_sweep_releases);
	coord_sweep_retired_anew();
	sweep_kind(counts, coord_sweep_retired);
	coord_sweep_dependants_anew();
	sweep_kind(counts, coord_sweep_dependants); /* which may leave checks */
	coord_sweep_checks_anew();
	sweep_kind(counts, coord_sweep_checks);
	if (coord_worker_runs())
		coord_await_delivery(); /* the worker's, since this transaction may stay open for long */
	else
	{
		sweep_kind(counts, coord_deliver_events);
		sweep_kind(counts, coord_expire_events);
		sweep_kind(counts, coord_expire_tasks);
		coord_expire_agents_now(counts);
		coord_count_anew();
		sweep_kind(counts, coord_count_queues);
	}
}

static void
sweep_kind(SweepCounts *counts, SweepOutcome (*batch) (SweepCounts *))
{
	SweepOutcome outcome;

	do
	{
		StoreScope	scope;

		CHECK_FOR_INTERRUPTS();
		store_open(&scope);
		outcome = batch(counts);
		store_close(&scope);
	} while (outcome == SWEEP_MORE);
}
