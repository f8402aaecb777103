/*
 * settings.c
 *		The configuration parameters, all of them.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "settings.h"

int			coord_default_lease_ttl;
int			coord_min_lease_ttl;
int			coord_max_lease_ttl;
int			coord_heartbeat_timeout;
int			coord_event_retention;
int			coord_task_retention;
int			coord_agent_retention;
double		coord_notify_queue_limit;
int			coord_max_agents_per_role;
int			coord_max_queues_per_role;
int			coord_max_subscriptions_per_agent;
double		coord_max_share_per_role;
int			coord_max_databases;
int			coord_max_attached_agents;
int			coord_max_listened_queues;
int			coord_max_queue_waiters;
int			coord_max_ready_queues;
int			coord_max_beating_agents;

/*
 * Define the parameters.  "preloading" tells whether the library is being
 * loaded by shared_preload_libraries: what sizes shared memory exists only
 * then.
 */
void
coord_settings_define(bool preloading)
{
	DefineCustomIntVariable("coord.default_lease_ttl",
							"How long a lease or a claim lasts when neither the call nor the queue says.",
							NULL, &coord_default_lease_ttl,
							30 * 1000, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.min_lease_ttl",
							"The shortest TTL, and the shortest heartbeat timeout, that a call may ask for.",
							NULL, &coord_min_lease_ttl,
							100, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.max_lease_ttl",
							"The longest TTL that a call may ask for.",
							NULL, &coord_max_lease_ttl,
							24 * 60 * 60 * 1000, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.heartbeat_timeout",
							"How long after its last heartbeat an agent becomes inactive, when its registration does not say.",
							NULL, &coord_heartbeat_timeout,
							30 * 1000, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.event_retention",
							"How long events are kept.",
							NULL, &coord_event_retention,
							7 * 24 * 60 * 60, 1, INT_MAX, PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.task_retention",
							"How long finished tasks are kept, in queues that do not say.",
							NULL, &coord_task_retention,
							7 * 24 * 60 * 60, 0, INT_MAX, PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.agent_retention",
							"How long an agent is kept that is inactive, before it is retired, and one that is retired, before it is deleted.",
							"One that holds something stays until it does not.",
							&coord_agent_retention,
							7 * 24 * 60 * 60, 1, INT_MAX, PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomRealVariable("coord.notify_queue_limit",
							 "How full the queue of notifications may be for coord to add to it.",
							 "It fills up while a session that listens has a transaction open. Above this, coord's notifications wait.",
							 &coord_notify_queue_limit,
							 0.5, 0.0, 1.0, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("coord.max_agents_per_role",
							"How many agents a role can have that are not retired.",
							"Superusers and the extension's owner can have any number.",
							&coord_max_agents_per_role,
							10000, 1, INT_MAX, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.max_queues_per_role",
							"How many queues a role can bring into being.",
							"Superusers and the extension's owner can make any number.",
							&coord_max_queues_per_role,
							100000, 1, INT_MAX, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("coord.max_subscriptions_per_agent",
							"To how many channels an agent can be subscribed.",
							"Superusers and the extension's owner can make any number.",
							&coord_max_subscriptions_per_agent,
							1000, 1, INT_MAX, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("coord.max_share_per_role",
							 "How much a role can have of what coord's shared memory has room for: attached agents, listened queues, sessions that wait for a queue, agents whose heartbeats are noted.",
							 "The rest is left for others. Superusers and the extension's owner can have all.",
							 &coord_max_share_per_role,
							 0.9, 0.0, 1.0, PGC_SUSET, 0,
							 NULL, NULL, NULL);

	if (preloading)
	{
		DefineCustomIntVariable("coord.max_databases",
								"How many databases can have a coord worker at once.",
								NULL, &coord_max_databases,
								64, 1, 10000, PGC_POSTMASTER, 0,
								NULL, NULL, NULL);
		DefineCustomIntVariable("coord.max_attached_agents",
								"How many agents can be attached to connections at once.",
								NULL, &coord_max_attached_agents,
								1000, 1, 65536, PGC_POSTMASTER, 0,
								NULL, NULL, NULL);
		DefineCustomIntVariable("coord.max_listened_queues",
								"How many queues can be listened to at once.",
								NULL, &coord_max_listened_queues,
								1000, 1, 1000000, PGC_POSTMASTER, 0,
								NULL, NULL, NULL);
		DefineCustomIntVariable("coord.max_queue_waiters",
								"How many sessions can wait in queue_wait at once.",
								NULL, &coord_max_queue_waiters,
								1000, 1, 262143, PGC_POSTMASTER, 0,
								NULL, NULL, NULL);
		DefineCustomIntVariable("coord.max_ready_queues",
								"Of how many queues the next tasks are kept in shared memory.",
								"Claims from others find them in the table, which is slower. Each takes about 2.5 kB.",
								&coord_max_ready_queues,
								10000, 1, 1000000, PGC_POSTMASTER, 0,
								NULL, NULL, NULL);
		DefineCustomIntVariable("coord.max_beating_agents",
								"Of how many agents the heartbeats are kept in shared memory.",
								"Those of others are written to the table, which is slower.",
								&coord_max_beating_agents,
								10000, 1, 10000000, PGC_POSTMASTER, 0,
								NULL, NULL, NULL);
	}

	MarkGUCPrefixReserved("coord");
}

PG_FUNCTION_INFO_V1(coord_setting);

/* coord.setting(name): a parameter that is a duration, as an interval */
Datum
coord_setting(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strcmp(name, "default_lease_ttl") == 0)
		PG_RETURN_INTERVAL_P(coord_usec_to_interval((int64) coord_default_lease_ttl * 1000));
	if (strcmp(name, "task_retention") == 0)
		PG_RETURN_INTERVAL_P(coord_usec_to_interval((int64) coord_task_retention * USECS_PER_SEC));

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("coord has no duration setting named \"%s\"", name)));
}
