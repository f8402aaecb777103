/*
 * quota.h
 *		What one role may have of what there is for all.
 */
#ifndef COORD_QUOTA_H
#define COORD_QUOTA_H

#include "utils/uuid.h"

extern int	coord_share_of(Oid role, int size);
extern void coord_check_agents(Oid role);
extern void coord_check_queues(Oid role);
extern void coord_check_subscriptions(Oid role, const pg_uuid_t *agent_id);

#endif							/* COORD_QUOTA_H */
