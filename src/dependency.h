/*
 * dependency.h
 *		What becomes of tasks that wait for others.
 */
#ifndef COORD_DEPENDENCY_H
#define COORD_DEPENDENCY_H

#include "store/task_store.h"

extern char *coord_dependency_state(const pg_uuid_t *task_id);
extern void coord_dependency_completed(const pg_uuid_t *task_id);
extern int	coord_dependency_failed(const pg_uuid_t *task_id, const char *state, TimestampTz now);
extern int	coord_dependants_look(const pg_uuid_t *task_id, int limit, TimestampTz now);
extern bool coord_dependencies_look(const pg_uuid_t *task_id, TimestampTz now, int *looked_at);

#endif							/* COORD_DEPENDENCY_H */
