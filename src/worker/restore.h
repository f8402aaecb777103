/*
 * restore.h
 *		Sessions that restore a dump, meanwhile the worker rests.
 */
#ifndef COORD_WORKER_RESTORE_H
#define COORD_WORKER_RESTORE_H

#include "utils/timestamp.h"

extern Size coord_restoring_size(void);
extern void coord_restoring_init(void);

/* this session */
extern bool coord_may_fill(Oid relid);
extern void coord_restore_begins(void);
extern void coord_restore_at_work(bool begins);
extern void coord_restore_ends(void);

/* any session of this database */
extern TimestampTz coord_restored_at(TimestampTz now);
extern uint32 coord_restores_begun(void);

#endif							/* COORD_WORKER_RESTORE_H */
