/*
 * task.h
 *		Tasks as JSON describes them.
 */
#ifndef COORD_TASK_H
#define COORD_TASK_H

#include "store/task_store.h"
#include "utils/jsonb.h"

#define COORD_MAX_ATTEMPTS 1000000

/* a completion that somebody asks for */
typedef struct TaskCompletion
{
	pg_uuid_t	id;
	bool		has_id;
	int64		token;
	bool		has_token;
	Jsonb	   *result;			/* NULL: none */
} TaskCompletion;

extern TaskCompletion *coord_task_completions(Jsonb *tasks, int *n);
extern TaskSpec *coord_task_specs(Jsonb *tasks, int *n);
extern int *coord_task_order(const TaskSpec *specs, int n);

#endif							/* COORD_TASK_H */
