/*
 * ready.h
 *		The ready ring: which tasks of a queue come next.
 */
#ifndef COORD_CLAIM_READY_H
#define COORD_CLAIM_READY_H

#include "storage/itemptr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* a place in the order of a queue's tasks of one priority */
typedef struct ReadyPosition
{
	TimestampTz ready_at;
	int64		seq;
} ReadyPosition;

/* a task that may be claimable: its place in the queue's order, and where its row was */
typedef struct ReadyTask
{
	ItemPointerData place;
	int32		priority;
	ReadyPosition position;
} ReadyTask;

/* what a look along the order of one priority has found */
#define READY_SCAN_MAX 64

typedef struct ReadyScan
{
	int			n;
	ReadyTask	tasks[READY_SCAN_MAX];
	ReadyPosition next;			/* where to go on */
	TimestampTz next_at;		/* nothing from there on is ready before that; DT_NOBEGIN: not known */
} ReadyScan;

/* one claim's way through a queue */
typedef struct ReadyClaim ReadyClaim;

/* what came of asking for the next task */
typedef enum ReadyOutcome
{
	READY_TASK,
	READY_NONE,
	READY_LOOK_AGAIN,			/* not done looking: check for interrupts and ask again */
	READY_USE_PRIVATE			/* the shared ring does not serve: use one of one's own */
} ReadyOutcome;

extern Size coord_ready_size(void);
extern void coord_ready_init(void);

/* for claimants: a candidate that was given is kept as claimed unless one of these is said of it */
extern ReadyClaim *coord_ready_open(const char *queue, const pg_uuid_t *agent_id);
extern ReadyClaim *coord_ready_open_private(const char *queue);
extern bool coord_ready_is_shared(const ReadyClaim *claim);
extern ReadyOutcome coord_ready_next(ReadyClaim *claim, TimestampTz now, int want, ReadyTask *task);
extern void coord_ready_drop(ReadyClaim *claim);
extern void coord_ready_drop_held(ReadyClaim *claim, const pg_uuid_t *holder);
extern void coord_ready_is_busy(ReadyClaim *claim);
extern void coord_ready_close(ReadyClaim *claim);

/* at the end of a transaction, or of a subtransaction that is rolled back */
extern void coord_ready_undo(SubTransactionId since);
extern void coord_ready_keep(void);

/* for those who make tasks claimable, when others can see it */
typedef struct ReadyKey
{
	Oid			dbid;
	uint32		file;			/* of task_live: places mean something in it alone */
	uint64		name_hash[2];	/* of the queue */
} ReadyKey;

extern int	coord_ready_compare(const ReadyTask *a, const ReadyTask *b);
extern bool coord_ready_is_before(const ReadyPosition *a, const ReadyPosition *b);
extern void coord_ready_hash(const char *queue, uint64 *name_hash);
extern void coord_ready_key(const char *queue, ReadyKey *key);
extern void coord_ready_announce(const ReadyKey *key, const ReadyTask *task);
extern void coord_ready_announce_from(const ReadyKey *key, int32 priority, const ReadyPosition *position);
extern void coord_ready_forget_all(Oid dbid);

#endif							/* COORD_CLAIM_READY_H */
