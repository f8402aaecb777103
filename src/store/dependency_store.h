/*
 * dependency_store.h
 *		What tasks wait for, and which of them are to be looked at.
 */
#ifndef COORD_STORE_DEPENDENCY_STORE_H
#define COORD_STORE_DEPENDENCY_STORE_H

#include "store/store.h"

extern void store_dependency_insert(const pg_uuid_t *task_id, const pg_uuid_t *depends_on);
extern UuidList store_dependants(const pg_uuid_t *depends_on, const pg_uuid_t *after, int limit, bool *more);
extern bool store_waits_for(const pg_uuid_t *task_id, const pg_uuid_t *depends_on);
extern UuidList store_dependencies(const pg_uuid_t *task_id);
extern void store_dependency_drop(const pg_uuid_t *task_id, const pg_uuid_t *depends_on);
extern void store_dependencies_forget(const pg_uuid_t *task_id);
extern void store_check_begin(void);
extern void store_check_keep(const pg_uuid_t *task_id);
extern void store_check_insert(const pg_uuid_t *task_id);
extern UuidList store_checks(const pg_uuid_t *after, int limit);
extern void store_check_done(const pg_uuid_t *task_id);
extern bool store_can_put_off(void);
extern void store_put_off_dependants(const pg_uuid_t *task_id, const pg_uuid_t *after);
extern UuidList store_tasks_put_off(const pg_uuid_t *after, int limit);
extern bool store_take_put_off(const pg_uuid_t *task_id, pg_uuid_t *after);
extern bool store_has_awaited(const char *partition);
extern bool store_sees_checks(void);
extern const char *store_not_awaited(void);

#endif							/* COORD_STORE_DEPENDENCY_STORE_H */
