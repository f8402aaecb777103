/*
 * queues.c
 *		The queues for which a request of the client waits.
 *
 * Each is listened to from the first request on that waits for it, as long as the
 * connection lasts; there are few.  What is claimable when LISTEN is committed is told by nobody, so
 * that this too is a reason to look.
 */
#include "postgres_fe.h"

#include "connection.h"
#include "identity.h"
#include "log.h"
#include "queues.h"
#include "timer.h"

/* A server that had no room for one more listener may have it later. */
#define RETRY_DELAY 30000

struct Queue
{
	Queue	   *next;
	char	   *name;
	char		channel[64];
	QueueState	state;
	int			n_waiting;		/* requests */
	bool		warned;
	int64		retry_at;
	uint64		wakes;			/* so often something was told of it */
};

static Queue *queues;

static void listening(void *arg, const QueryResult *result);

/* The queue with that name, which is listened to while somebody waits, and stays so. */
Queue *
queues_watch(const char *name)
{
	Queue	   *queue;

	for (queue = queues; queue != NULL; queue = queue->next)
	{
		if (strcmp(queue->name, name) == 0)
		{
			queue->n_waiting++;
			return queue;
		}
	}
	queue = pg_malloc0(sizeof(Queue));
	queue->n_waiting = 1;
	queue->name = pg_strdup(name);
	queue->next = queues;
	queues = queue;
	return queue;
}

/* A request waits no longer. */
void
queues_leave(Queue *queue)
{
	queue->n_waiting--;
}

QueueState
queues_state(const Queue *queue)
{
	return queue->state;
}

uint64
queues_wakes(const Queue *queue)
{
	return queue->wakes;
}

/* Listen to one of those that are not yet listened to; false when there is none. */
bool
queues_step(int64 now)
{
	for (Queue *queue = queues; queue != NULL; queue = queue->next)
	{
		if (queue->state != QUEUE_LISTENING && queue->n_waiting > 0 && now >= queue->retry_at)
		{
			const char *params[] = {queue->name};

			connection_query("SELECT coord.queue_listen($1)", lengthof(params), params, listening, queue);
			return true;
		}
	}
	return false;
}

int64
queues_due(void)
{
	int64		due = TIMER_NEVER;

	for (Queue *queue = queues; queue != NULL; queue = queue->next)
	{
		if (queue->state != QUEUE_LISTENING && queue->n_waiting > 0)
			due = Min(due, queue->retry_at);
	}
	return due;
}

static void
listening(void *arg, const QueryResult *result)
{
	Queue	   *queue = arg;

	if (result->lost)
		return;
	if (result->sqlstate != NULL)
	{
		if (queue->warned)
			log_debug("cannot listen to queue \"%s\": %s", queue->name, result->message);
		else
			log_warning("cannot listen to queue \"%s\", and look into it now and then instead: %s",
						queue->name, result->message);
		queue->warned = true;
		queue->state = QUEUE_REFUSED;
		queue->retry_at = timer_now() + RETRY_DELAY;
	}
	else
	{
		strlcpy(queue->channel, PQgetvalue(result->rows, 0, 0), sizeof(queue->channel));
		queue->state = QUEUE_LISTENING;
	}
	queue->wakes++;
	bridge_queue_woke(queue);
}

void
queues_connection_lost(void)
{
	for (Queue *queue = queues; queue != NULL; queue = queue->next)
	{
		queue->state = QUEUE_UNHEARD;
		queue->retry_at = 0;
	}
}

/* True when the notification was for a queue. */
bool
queues_notified(const char *channel)
{
	for (Queue *queue = queues; queue != NULL; queue = queue->next)
	{
		if (queue->state == QUEUE_LISTENING && strcmp(queue->channel, channel) == 0)
		{
			queue->wakes++;
			bridge_queue_woke(queue);
			return true;
		}
	}
	return false;
}
