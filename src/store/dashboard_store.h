/*
 * dashboard_store.h
 *		What the dashboard shows: few rows of each kind, whatever there is.
 */
#ifndef COORD_STORE_DASHBOARD_STORE_H
#define COORD_STORE_DASHBOARD_STORE_H

#include "store/store.h"

/* In all of these, a negative duration is none. */
typedef struct QueueSight
{
	char	   *name;
	bool		paused;
	int64		pending;
	int64		scheduled;
	int64		blocked;
	int64		claimed;
	int64		dead;
	int64		oldest_pending_age;
	int64		counted_ago;	/* negative: just now */
} QueueSight;

/* what has finished in a part of a period */
typedef struct DoneSight
{
	int64		completed;
	int64		dead;
} DoneSight;

typedef struct AgentCounts
{
	int64		active;
	int64		inactive;
	int64		retired;
} AgentCounts;

typedef struct LostAgentSight
{
	char	   *name;
	char	   *type;
	TimestampTz inactive_since;
} LostAgentSight;

typedef struct LeaseSight
{
	char	   *resource_key;
	char	   *agent;
	bool		auto_renew;
	TimestampTz expires_at;
} LeaseSight;

typedef struct DeadSight
{
	char	   *id;
	char	   *queue;
	char	   *type;
	int			attempts;
	char	   *error;			/* NULL: none */
	TimestampTz finished_at;
} DeadSight;

typedef struct WorkerSight
{
	bool		runs;
	bool		may_be_read;	/* by the reader; else what follows is nothing */
	TimestampTz started_at;
	int64		errors;
	TimestampTz last_error_at;
	char	   *last_error;
	int64		sweep_lag_max;
} WorkerSight;

extern List *store_queue_sights(Oid reader, int max, bool *more);
extern bool store_finished_more_than(TimestampTz since, int max);
extern void store_done_by_parts(Oid reader, TimestampTz since, int64 part, int nparts, DoneSight *done);
extern int64 store_agent_counts(int max, AgentCounts *counts);
extern List *store_lost_agents(TimestampTz now, int max);
extern List *store_leases_ending(Oid reader, TimestampTz until, int max_seen, int max);
extern List *store_dead_sights(Oid reader, int max);
extern WorkerSight *store_worker_sight(Oid reader);

#endif							/* COORD_STORE_DASHBOARD_STORE_H */
