/*
 * new_key.h
 *		Inserting into a unique index without waiting for another transaction.
 */
#ifndef COORD_STORE_NEW_KEY_H
#define COORD_STORE_NEW_KEY_H

#include "storage/lock.h"
#include "utils/uuid.h"

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
	STORE_KEY_FREE,				/* reserved for the caller, until store_key_inserted() */
	STORE_KEY_EXISTS,
	STORE_KEY_IN_FLIGHT			/* an open transaction has inserted it */
} StoreKeyState;

typedef struct StoreReservation
{
	LOCKTAG		tag;
} StoreReservation;

extern StoreKeyState store_reserve(StoreReservation *reservation, StoreKeyKind kind,
								   const char *name, const char *name2);
extern StoreKeyState store_reserve_id(StoreReservation *reservation, StoreKeyKind kind,
									  const pg_uuid_t *id);
extern bool store_task_is_still(const pg_uuid_t *id);
extern pid_t store_changed_by(StoreKeyKind kind, const char *name);
extern void store_key_inserted(StoreReservation *reservation);

#endif							/* COORD_STORE_NEW_KEY_H */
