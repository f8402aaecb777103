/*
 * task_store.h
 *		Stored tasks: coord.task_live and what belongs to it.
 */
#ifndef COORD_STORE_TASK_STORE_H
#define COORD_STORE_TASK_STORE_H

#include "fmgr.h"
#include "store/agent_store.h"
#include "claim/ready.h"
#include "store/rows.h"
#include "store/store.h"
#include "utils/array.h"

/* a task that has not finished; what is of the claim is NULL without one */
typedef struct TaskRow
{
	StoredRow	row;			/* as it was read or written last */
	bool		locked;
	pg_uuid_t	id;
	char	   *queue;
	char	   *state;			/* blocked, pending, claimed */
	TimestampTz run_at;
	int			attempts;
	int			max_attempts;
	char	   *resource_key;	/* NULL: none */
	pg_uuid_t  *agent_id;
	pg_uuid_t  *lease_id;		/* NULL: claimed without a resource */
	char	   *claimed_key;
	int64		fencing_token;
	int64		lease_ttl;		/* microseconds */
	TimestampTz lease_expires_at;
	TimestampTz check_at;		/* as in claim_deadline; DT_NOEND: see claim_batch */
	int			queue_slot;		/* -1: none */
} TaskRow;

/* a task to be created */
typedef struct TaskSpec
{
	pg_uuid_t	id;
	bool		has_id;			/* the caller chose it */
	char	   *queue;
	char	   *type;
	Jsonb	   *payload;
	int			priority;
	bool		has_run_at;
	TimestampTz run_at;
	int			max_attempts;
	char	   *unique_key;		/* NULL: none */
	char	   *resource_key;	/* NULL: none */
	UuidList	depends_on;
} TaskSpec;

typedef struct DeadLetter
{
	pg_uuid_t	id;
	char	   *queue;
	char	   *unique_key;		/* NULL: none */
} DeadLetter;

/* creating and reading */
extern Datum store_task_insert(const TaskSpec *spec, bool blocked, TimestampTz now);
extern pg_uuid_t *store_task_with_unique_key(const char *queue, const char *unique_key);
extern bool store_task_id_is_used(const pg_uuid_t *id);
extern char *store_task_state(const pg_uuid_t *id);
extern char *store_task_state_at_a_glance(const pg_uuid_t *id);
extern char *store_task_state_now(const pg_uuid_t *id);
extern bool store_task_is_buried(const pg_uuid_t *id);
extern char *store_task_queue(const pg_uuid_t *id);
extern char *store_task_queue_now(const pg_uuid_t *id);
extern TaskRow *store_task(const pg_uuid_t *id, StoreLock lock);
extern TaskRow *store_task_to_finish(const pg_uuid_t *id, StoreLock lock);
extern pg_uuid_t *store_claimant_now(const pg_uuid_t *id, int64 fencing_token, TimestampTz now);
extern bool store_task_is_claimed_with(const pg_uuid_t *id, const pg_uuid_t *lease_id);
extern bool store_task_completed_with(const pg_uuid_t *id, int64 fencing_token, char **queue,
									  pg_uuid_t **agent_id);
extern Datum store_task_find_result(const pg_uuid_t *id, char **state);
extern Datum store_task_result(const pg_uuid_t *id);
extern Datum store_task_as_result(const TaskRow *task);

/* claiming, in the queue's order */
extern TimestampTz store_queue_next_ready(const char *queue, TimestampTz after);
extern bool store_next_priority(const char *queue, int64 below, int *priority);
extern void store_prepare_scan(void);
extern void store_scan_ready(const char *queue, int priority, const ReadyPosition *from, TimestampTz now,
							 int max, bool as_others_see, ReadyScan *found);
extern StoreRowState store_task_candidate(const char *queue, const ReadyTask *candidate, TaskRow *task);
extern bool store_task_is_locked(const TaskRow *task);
extern void store_announce_waiting(const char *resource_key);
extern StoreRowState store_task_lock(TaskRow *task);
extern StoreRowState store_task_claim(TaskRow *task, TimestampTz now);
extern StoreRowState store_claim_renew(TaskRow *task, Jsonb *progress, TimestampTz check_at);

/* the end of a claim, and of a task */
extern void store_task_unclaim(const TaskRow *task, TimestampTz run_at, int attempts, const char *error);
extern StoreRowState store_task_take_out(TaskRow *task);
extern Datum store_task_complete(const TaskRow *task, Jsonb *result, TimestampTz now);
extern void store_task_cancel(const TaskRow *task, const char *error, TimestampTz now);
extern void store_task_bury(const TaskRow *task, const char *error, TimestampTz now);
extern pg_uuid_t *store_task_after_dead(const pg_uuid_t *id);
extern DeadLetter *store_dead_letters(const pg_uuid_t *id, const char *queue, int *n);
extern void store_redrive(const DeadLetter *letter, TimestampTz now);
extern void store_task_unblock(const TaskRow *task);

#endif							/* COORD_STORE_TASK_STORE_H */
