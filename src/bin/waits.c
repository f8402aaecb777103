/*
 * waits.c
 *		Requests that wait for what is not there yet.
 *
 * To task_claim and lock_acquire a client may give the argument "wait", a number of
 * seconds.  The server does not wait, because others' requests come through the same
 * connection: it answers at once, and a request that found nothing, or was refused since
 * another holds it (1002), is kept here and sent again until its time is over.  A claim
 * of whatever there is in a queue is sent again when the server tells that there is
 * something, and now and then all the same, as a resource that becomes free is not told;
 * others after a growing, random delay.  The last try is made when the time is over.
 */
#include "postgres_fe.h"

#include "timer.h"
#include "waits.h"

#define MAX_WAIT 3600000

/* Delays of what is asked for again, and of what will be told. */
#define MIN_POLL 50
#define MAX_POLL 2000
#define MIN_FALLBACK 1000
#define MAX_FALLBACK 8000

/* For a request that was due when the server did not answer others. */
#define GRACE 2000

/* A request has come: does it wait? */
void
waits_begin(Request *request)
{
	const Message *message = &request->message;
	double		wait;

	if (message->kind == MESSAGE_REQUEST &&
		(message->tool == TOOL_TASK_CLAIM || message->tool == TOOL_LOCK_ACQUIRE) &&
		json_number(json_member(message->arguments, "wait"), &wait) && wait > 0)
		request->wait_until = request->received_at + (int64) Min(wait * 1000, MAX_WAIT);
}

/* Is it to be sent again, with that outcome? */
bool
waits_goes_on(const Request *request, const Outcome *outcome, int64 now)
{
	Json		task = JSON_NONE;

	if (now >= request->wait_until)
		return false;
	if (outcome->refused)
		return outcome->code == 1002;
	return request->message.tool == TOOL_TASK_CLAIM &&
		!json_next_element(json_member(outcome->result, "tasks"), &task);
}

static char *
queue_of(const Request *request, const char *default_queue)
{
	char	   *queue = json_string(json_member(request->message.arguments, "queue"));

	return queue != NULL ? queue : pg_strdup(default_queue);
}

/* Keep it, and say when it is to be sent again. */
void
waits_park(Request *request, const Outcome *outcome, const char *default_queue, int64 now)
{
	int64		min = MIN_POLL;
	int64		max = MAX_POLL;

	if (!outcome->refused && request->queue == NULL)
	{
		char	   *name = queue_of(request, default_queue);

		request->queue = queues_watch(name);
		request->wakes_seen = queues_wakes(request->queue);
		free(name);
	}
	if (request->queue != NULL && !outcome->refused && queues_state(request->queue) == QUEUE_LISTENING)
	{
		min = MIN_FALLBACK;
		max = MAX_FALLBACK;
	}

	request->backoff = Min(Max(request->backoff * 2, min), max);
	request->try_at = now + timer_jitter(request->backoff);
	if (outcome->refused && outcome->retry_after >= 0)
		request->try_at = Min(request->try_at, now + (int64) (Min(outcome->retry_after, 3600) * 1000) + 1);
	if (request->queue != NULL && request->wakes_seen != queues_wakes(request->queue))
		request->try_at = now;	/* it was told meanwhile */
	request->try_at = Min(request->try_at, request->wait_until);
}

/* When it must have had its last try. */
int64
waits_deadline(const Request *request)
{
	return request->wait_until + GRACE;
}
