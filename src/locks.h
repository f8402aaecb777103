/*
 * locks.h
 *		Advisory locks, for what is wider than a row.
 */
#ifndef COORD_LOCKS_H
#define COORD_LOCKS_H

#include "storage/lock.h"

extern bool coord_try_lock_delivery(void);
extern bool coord_try_lock_retention(void);
extern bool coord_try_lock_counting(void);
extern void coord_lock_upkeep(void);
extern bool coord_try_lock_schedule(Oid role, const char *job);
extern bool coord_try_lock_scheduler(Oid role, int n);
extern void coord_new_key_tag(LOCKTAG *tag, int kind, uint32 hash);
extern void coord_sequence_tag(LOCKTAG *tag, Oid relid);
extern void coord_lock_shortly(const LOCKTAG *tag);
extern void coord_unlock(const LOCKTAG *tag);

#endif							/* COORD_LOCKS_H */
