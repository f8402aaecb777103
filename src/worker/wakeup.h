/*
 * wakeup.h
 *		What a transaction leaves for others, told at its end.
 */
#ifndef COORD_WORKER_WAKEUP_H
#define COORD_WORKER_WAKEUP_H

#include "claim/ready.h"
#include "worker/shared.h"

extern void coord_wakeup_init(void);
extern void coord_due_at(CoordJob job, TimestampTz instant);
extern bool coord_is_due_here(CoordJob job, TimestampTz now);
extern void coord_finished_task(void);
extern void coord_created_task(void);
extern void coord_changed_task(void);
extern void coord_event_sent(BlockNumber block);
extern void coord_events_stamped(int64 first, int64 last, bool notified);
extern void coord_events_notified(int64 to);
extern void coord_keep_checks(bool keep);
extern void coord_queue_ready(const char *queue, TimestampTz instant);
extern void coord_task_ready(const char *queue, const ReadyTask *task);
extern bool coord_has_task_ready(const char *queue);
extern void coord_queue_claimed_from(const char *queue, bool was_locked);
extern void coord_task_locked(const char *queue);
extern void coord_lease_touched(const char *resource_key);
extern bool coord_lease_is_touched(const char *resource_key);
extern void coord_leases_touched(void);
extern void coord_all_due(void);
extern void coord_tell_now(void);
extern void coord_look_into(Oid dbid);

#endif							/* COORD_WORKER_WAKEUP_H */
