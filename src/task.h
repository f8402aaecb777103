/*
 * task.h
 *		Tasks as JSON describes them.
 */
#ifndef COORD_TASK_H
#define COORD_TASK_H

#include "store/task_store.h"
#include "utils/jsonb.h"

#define COORD_MAX_ATTEMPTS 1000000

extern TaskSpec *coord_task_specs(Jsonb *tasks, int *n);
extern int *coord_task_order(const TaskSpec *specs, int n);

#endif							/* COORD_TASK_H */
