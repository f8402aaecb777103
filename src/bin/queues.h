/*
 * queues.h
 *		The queues for which a request of the client waits.
 */
#ifndef COORD_MCP_QUEUES_H
#define COORD_MCP_QUEUES_H

typedef enum QueueState
{
	QUEUE_UNHEARD,				/* LISTEN is still to be done, on this connection */
	QUEUE_LISTENING,
	QUEUE_REFUSED				/* LISTEN was refused: it must be asked again and again */
} QueueState;

typedef struct Queue Queue;

extern Queue *queues_watch(const char *name);
extern void queues_leave(Queue *queue);
extern QueueState queues_state(const Queue *queue);
extern uint64 queues_wakes(const Queue *queue);

extern bool queues_step(int64 now);
extern int64 queues_due(void);
extern void queues_connection_lost(void);
extern bool queues_notified(const char *channel);

/* Told to the rest of the bridge: something may be claimable; see requests.c. */
extern void bridge_queue_woke(Queue *queue);

#endif							/* COORD_MCP_QUEUES_H */
