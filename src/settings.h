/*
 * settings.h
 *		The configuration parameters.
 */
#ifndef COORD_SETTINGS_H
#define COORD_SETTINGS_H

extern int	coord_max_agents_per_role;
extern int	coord_max_queues_per_role;
extern int	coord_max_subscriptions_per_agent;
extern double coord_max_share_per_role;
extern int	coord_default_lease_ttl;	/* milliseconds */
extern int	coord_min_lease_ttl;	/* milliseconds */
extern int	coord_max_lease_ttl;	/* milliseconds */
extern int	coord_heartbeat_timeout;	/* milliseconds */
extern int	coord_event_retention;	/* seconds */
extern double coord_notify_queue_limit;
extern int	coord_task_retention;	/* seconds */
extern int	coord_agent_retention;	/* seconds */
extern int	coord_max_databases;
extern int	coord_max_attached_agents;
extern int	coord_max_listened_queues;
extern int	coord_max_queue_waiters;
extern int	coord_max_ready_queues;
extern int	coord_max_beating_agents;

extern void coord_settings_define(bool preloading);

#endif							/* COORD_SETTINGS_H */
