/*
 * list_store.h
 *		Listing agents, leases, tasks and queues, a page at a time.
 */
#ifndef COORD_STORE_LIST_STORE_H
#define COORD_STORE_LIST_STORE_H

#include "store/store.h"

/* In each, NULL is any; "after" is the last one of the page before, and NULL the beginning. */
typedef struct AgentFilter
{
	const char *status;
	const char *type;
	const char *name;
	const pg_uuid_t *agent_id;
	const pg_uuid_t *after;
	int			limit;
} AgentFilter;

typedef struct LeaseFilter
{
	const char *resource_key;
	const pg_uuid_t *agent_id;
	const char *state;
	const char *after;
	int			limit;
	Oid			reader;
} LeaseFilter;

typedef struct TaskFilter
{
	const char *queue;
	const char *state;
	const char *type;
	const pg_uuid_t *agent_id;
	const char *resource_key;
	const pg_uuid_t *task_id;
	const pg_uuid_t *after;
	int			limit;
	Oid			reader;
} TaskFilter;

typedef struct QueueFilter
{
	const char *name;
	const bool *paused;
	const char *after;
	int			limit;
	Oid			reader;
} QueueFilter;

extern StoreArg arg_seen_queues(Oid reader);
extern void store_agent_list(FunctionCallInfo fcinfo, const AgentFilter *filter);
extern void store_lease_list(FunctionCallInfo fcinfo, const LeaseFilter *filter);
extern void store_task_list(FunctionCallInfo fcinfo, const TaskFilter *filter);
extern List *store_queue_names(const QueueFilter *filter);
extern void store_queue_list(FunctionCallInfo fcinfo, const QueueFilter *filter);

#endif							/* COORD_STORE_LIST_STORE_H */
