/*
 * lease_wait.h
 *		Waiting for a lease: who is first, and when to look again.
 */
#ifndef COORD_LEASE_WAIT_H
#define COORD_LEASE_WAIT_H

#include "lease.h"

extern Size coord_waiters_size(void);
extern void coord_waiters_init(void);

/* for who waits */
extern void coord_wait_begin(const LeaseRequest *request);
extern bool coord_wait_is_first(void);
extern void coord_wait_note_holder(const LeaseRow *lease, pid_t changed_by);
extern void coord_wait_sleep(TimestampTz until);
extern void coord_wait_end(bool in_vain);

/* for everybody else */
extern bool coord_others_wait(const char *resource_key);
extern uint64 coord_waiter_hash(const char *resource_key);
extern void coord_wake_waiters(const uint64 *hashes, int n, bool all);

#endif							/* COORD_LEASE_WAIT_H */
