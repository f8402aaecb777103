/*
 * protocol.h
 *		What a session and its worker in pg_cron's database share and say to each other.
 *
 * Requests go through one queue: the number of the request; the ends of subtransactions
 * since the last one, innermost first, 'C' committed and 'A' aborted; the level of the
 * subtransaction in which it is made; the request itself.  Through the other come errors
 * and notices, as a client gets them, and then for each request an answer with its number.
 */
#ifndef COORD_CRON_PROTOCOL_H
#define COORD_CRON_PROTOCOL_H

#include "port/atomics.h"
#include "storage/shm_mq.h"

#define CRON_ANSWER 'V'
#define CRON_FAILED (-1)		/* as an answer: an error was sent before it */

#define CRON_QUEUE_SIZE 16384

/* at the beginning of the segment; the queues follow */
typedef struct CronShared
{
	Oid			database;		/* pg_cron's */
	Oid			role;			/* as whom the session asks */
	int			encoding;		/* of the session's database */
	TransactionId xid;			/* of the session's transaction, which the worker's follows */
	pg_atomic_uint32 ended;		/* the worker's has been committed or aborted */
} CronShared;

#define CRON_SEGMENT_SIZE (MAXALIGN(sizeof(CronShared)) + 2 * CRON_QUEUE_SIZE)

static inline shm_mq *
cron_requests(CronShared *shared)
{
	return (shm_mq *) ((char *) shared + MAXALIGN(sizeof(CronShared)));
}

static inline shm_mq *
cron_answers(CronShared *shared)
{
	return (shm_mq *) ((char *) cron_requests(shared) + CRON_QUEUE_SIZE);
}

extern PGDLLEXPORT void coord_cron_worker_main(Datum arg);

#endif							/* COORD_CRON_PROTOCOL_H */
