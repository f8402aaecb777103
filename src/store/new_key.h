/*
 * new_key.h
 *		Inserting into a unique index without waiting for another transaction.
 */
#ifndef COORD_STORE_NEW_KEY_H
#define COORD_STORE_NEW_KEY_H

#include "utils/uuid.h"

#include "store/short_lock.h"

typedef enum StoreKeyKind
{
	STORE_KEY_AGENT_NAME,
	STORE_KEY_AGENT_ID,
	STORE_KEY_RESOURCE,
	STORE_KEY_QUEUE,
	STORE_KEY_TASK_ID,
	STORE_KEY_UNIQUE			/* a queue and a unique_key */
} StoreKeyKind;

typedef enum StoreKeyState
{
	STORE_KEY_FREE,				/* and has been inserted */
	STORE_KEY_EXISTS,
	STORE_KEY_IN_FLIGHT			/* an open transaction has inserted it */
} StoreKeyState;

extern StoreKeyState store_insert_new(StoreKeyKind kind, const char *name, const char *name2,
									  StoreAction insert, void *arg);
extern StoreKeyState store_insert_new_id(StoreKeyKind kind, const pg_uuid_t *id, StoreAction insert, void *arg);
extern bool store_task_is_still(const pg_uuid_t *id);
extern pid_t store_changed_by(StoreKeyKind kind, const char *name);

#endif							/* COORD_STORE_NEW_KEY_H */
