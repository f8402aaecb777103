/*
 * dependency_store.h
 *		What tasks wait for, and which of them are to be looked at.
 */
#ifndef COORD_STORE_DEPENDENCY_STORE_H
#define COORD_STORE_DEPENDENCY_STORE_H

#include "store/store.h"

extern void store_dependency_insert(const pg_uuid_t *task_id, const pg_uuid_t *depends_on);
extern UuidList store_dependants(const pg_uuid_t *depends_on);
extern UuidList store_dependencies(const pg_uuid_t *task_id);
extern void store_dependency_drop(const pg_uuid_t *task_id, const pg_uuid_t *depends_on);
extern void store_dependencies_forget(const pg_uuid_t *task_id);
extern void store_check_begin(void);
extern void store_check_keep(const pg_uuid_t *task_id);
extern void store_check_insert(const pg_uuid_t *task_id);
extern UuidList store_checks(const pg_uuid_t *after, int limit);
extern void store_check_done(const pg_uuid_t *task_id);

#endif							/* COORD_STORE_DEPENDENCY_STORE_H */
