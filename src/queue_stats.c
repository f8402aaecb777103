/*
 * queue_stats.c
 *		What queues have done lately, in figures.
 */
#include "postgres.h"

#include "funcapi.h"

#include "args.h"
#include "clock.h"
#include "errors.h"
#include "rights.h"
#include "store/queue_store.h"
#include "store/stats_store.h"

#define DEFAULT_PERIOD USECS_PER_HOUR

PG_FUNCTION_INFO_V1(coord_queue_stats);

/* queue_stats(name, since) */
Datum
coord_queue_stats(PG_FUNCTION_ARGS)
{
	char	   *name = coord_arg_name_or_null(fcinfo, 0, "name");
	TimestampTz now = coord_now();
	TimestampTz since = PG_ARGISNULL(1) ? now - DEFAULT_PERIOD : coord_check_instant(PG_GETARG_TIMESTAMPTZ(1), "since");
	StoreScope	scope;

	if (since > now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("since"),
				 errmsg("argument \"since\" must not be in the future")));
	InitMaterializedSRF(fcinfo, 0);
	store_open(&scope);
	if (name != NULL && !coord_sees_queue(store_caller(), name))
		coord_error_queue_right(name, store_caller(), "see it");
	if (name != NULL && strcmp(name, "default") != 0 && !store_queue(name)->exists)
		coord_error_no_queue(name);
	store_queue_stats(fcinfo, name, since, store_caller());
	store_close(&scope);
	return (Datum) 0;
}
