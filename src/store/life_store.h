/*
 * life_store.h
 *		What is known of a task: how it stands, and what has become of it.
 */
#ifndef COORD_STORE_LIFE_STORE_H
#define COORD_STORE_LIFE_STORE_H

#include "store/store.h"

/* how a task stands, as coord.task shows it */
typedef struct TaskStanding
{
	pg_uuid_t	id;
	char	   *queue;
	char	   *state;
	int			priority;
	TimestampTz run_at;
	int			attempts;
	int			max_attempts;
	char	   *agent;			/* the name of who has claimed it; NULL: nobody */
	TimestampTz claimed_at;
	TimestampTz lease_expires_at;
	char	   *resource_key;	/* NULL: none */
	char	   *error;			/* NULL: none */
	TimestampTz finished_at;
	int			ndependencies;
} TaskStanding;

/* a dependency that has not finished */
typedef struct OpenDependency
{
	char	   *id;
	char	   *state;			/* NULL: there is no such task any more */
} OpenDependency;

extern TaskStanding *store_task_standing(const pg_uuid_t *id);
extern List *store_open_dependencies(const pg_uuid_t *id);
extern int	store_tasks_before(const TaskStanding *task, TimestampTz now, int max);
extern bool store_active_agents(void);
extern char *store_agent_name(const pg_uuid_t *id);
extern bool store_task_history(FunctionCallInfo fcinfo, const pg_uuid_t *id);

#endif							/* COORD_STORE_LIFE_STORE_H */
