/*
 * quota.c
 *		What one role may have of what there is for all.
 *
 * A superuser, and who has the rights of the extension's owner, may have any number:
 * nobody keeps it from itself.  What is stored is counted by an index, when one more is
 * made; transactions that do so at once do not see each other, so each of them may
 * come to the limit.  What is in shared memory is counted exactly, under its lock, but
 * only once a role could have its share.
 */
#include "postgres.h"

#include "errors.h"
#include "quota.h"
#include "rights.h"
#include "settings.h"
#include "store/agent_store.h"
#include "store/event_log_store.h"
#include "store/queue_store.h"

/* Of "size" places in shared memory, how many may be a role's. */
int
coord_share_of(Oid role, int size)
{
	return coord_may_everything(role) ? size : Max((int) (size * coord_max_share_per_role), 1);
}

/* A role is about to have one more agent that is not retired. */
void
coord_check_agents(Oid role)
{
	if (!coord_may_everything(role) &&
		store_agents_of(role, coord_max_agents_per_role) >= coord_max_agents_per_role)
		coord_error_limit("agents", role, "coord.max_agents_per_role", coord_max_agents_per_role,
						  "Retire agents that are not needed any more, or raise");
}

/* It is about to bring one more queue into being. */
void
coord_check_queues(Oid role)
{
	if (!coord_may_everything(role) &&
		store_queues_of(role, coord_max_queues_per_role) >= coord_max_queues_per_role)
		coord_error_limit("queues", role, "coord.max_queues_per_role", coord_max_queues_per_role,
						  "Use queues that there are, or raise");
}

/* Its agent has been subscribed to one more channel. */
void
coord_check_subscriptions(Oid role, const pg_uuid_t *agent_id)
{
	if (!coord_may_everything(role) &&
		store_subscriptions_of(agent_id, (int64) coord_max_subscriptions_per_agent + 1) > coord_max_subscriptions_per_agent)
		coord_error_limit("subscriptions of an agent", role, "coord.max_subscriptions_per_agent",
						  coord_max_subscriptions_per_agent, "End subscriptions, or raise");
}
