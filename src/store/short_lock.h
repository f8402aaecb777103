/*
 * short_lock.h
 *		Doing something under a lock that others wait for.
 */
#ifndef COORD_STORE_SHORT_LOCK_H
#define COORD_STORE_SHORT_LOCK_H

#include "storage/lock.h"

/* what is done, shortly */
typedef void (*StoreAction) (void *arg);

extern void store_under_lock(const LOCKTAG *tag, StoreAction action, void *arg);

#endif							/* COORD_STORE_SHORT_LOCK_H */
