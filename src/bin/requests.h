/*
 * requests.h
 *		The client's requests, from their arrival to their answer.
 */
#ifndef COORD_MCP_REQUESTS_H
#define COORD_MCP_REQUESTS_H

#include "lib/ilist.h"

#include "message.h"
#include "queues.h"

typedef struct Request
{
	dlist_node	node;
	char	   *line;			/* as it came */
	size_t		len;
	Message		message;
	int64		received_at;
	bool		cancelled;		/* while it was in flight */
	int64		try_at;			/* when it may be sent */

	/* of one that waits; see waits.c */
	int64		wait_until;		/* 0 for others */
	Queue	   *queue;			/* until something can be claimed there; else NULL */
	uint64		wakes_seen;		/* when it was sent */
	int64		backoff;
	char	   *last_answer;	/* NULL before the first one */
} Request;

extern void requests_init(const char *default_queue);
extern void requests_add(char *line, size_t len, const Message *message);
extern void requests_cancel(Json id);
extern bool requests_expect_initialize(void);

extern bool requests_step(int64 now);
extern int64 requests_due(bool may_send);
extern void requests_check_time(int64 now);
extern void requests_registration_failed(const char *sqlstate, const char *message);
extern void requests_queue_woke(Queue *queue);

extern bool requests_are_many(void);
extern bool requests_are_done(void);
extern void requests_end_waits(void);
extern void requests_end(void);

/* How long a request waits for a connection that is lost. */
#define REQUEST_PATIENCE 5000

#endif							/* COORD_MCP_REQUESTS_H */
