/*
 * subscriptions.c
 *		Open subscriptions/listen requests.
 *
 * The new era of MCP has streams of notifications about lists that change.  Ours do not
 * while the bridge runs, so a stream is acknowledged with none of what was asked for, and
 * stays open without a word until the client cancels it or the bridge ends.
 */
#include "postgres_fe.h"

#include "lib/ilist.h"

#include "answer.h"
#include "lines.h"
#include "subscriptions.h"

typedef struct Subscription
{
	dlist_node	node;
	char	   *id;
} Subscription;

static dlist_head subscriptions = DLIST_STATIC_INIT(subscriptions);

static bool check(const Message *request);

/* Open one, or answer why not. */
void
subscriptions_open(const Message *request)
{
	Subscription *subscription;
	char	   *line;

	if (!check(request))
		return;
	subscription = pg_malloc(sizeof(Subscription));
	subscription->id = json_text(request->id);
	dlist_push_tail(&subscriptions, &subscription->node);

	line = psprintf("{\"jsonrpc\": \"2.0\", \"method\": \"notifications/subscriptions/acknowledged\", "
					"\"params\": {\"_meta\": {\"" META_SUBSCRIPTION "\": %s}, \"notifications\": {}}}", subscription->id);
	lines_put(line, strlen(line));
	pfree(line);
}

/* What the server checks in every request of the new era. */
static bool
check(const Message *request)
{
	Fault		fault = {CODE_INVALID_PARAMS, "22023", false, NULL, NULL, NULL};
	StringInfoData more;

	initStringInfo(&more);
	if (request->version.kind != JSON_KIND_STRING)
		fault.message = "parameter \"_meta." META_VERSION "\" must be a string";
	else if (!json_is(request->version, MODERN_VERSION))
	{
		fault.code = CODE_UNSUPPORTED_VERSION;
		fault.sqlstate = "0A000";
		fault.message = "unsupported protocol version";
		appendStringInfoString(&more, "\"supported\": [\"" MODERN_VERSION "\"], \"requested\": ");
		appendBinaryStringInfo(&more, request->version.text, (int) request->version.len);
		fault.more = more.data;
	}
	else if (json_member(request->meta, META_CAPABILITIES).kind != JSON_KIND_OBJECT)
		fault.message = "parameter \"_meta." META_CAPABILITIES "\" must be an object";
	else if (json_member(request->params, "notifications").kind != JSON_KIND_OBJECT)
		fault.message = "parameter \"notifications\" must be an object";

	if (fault.message != NULL)
		answer_put_fault(request->id, &fault);
	pfree(more.data);
	return fault.message == NULL;
}

/* The client wants no more of one; false when it is none. */
bool
subscriptions_cancel(Json id)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &subscriptions)
	{
		Subscription *subscription = dlist_container(Subscription, node, iter.cur);

		if (json_same(json_trusted(subscription->id, strlen(subscription->id)), id))
		{
			dlist_delete(&subscription->node);
			free(subscription->id);
			free(subscription);
			return true;
		}
	}
	return false;
}

/* End all of them, at the bridge's end. */
void
subscriptions_end(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &subscriptions)
	{
		Subscription *subscription = dlist_container(Subscription, node, iter.cur);
		char	   *result = psprintf("{\"resultType\": \"complete\", \"_meta\": {\"" META_SUBSCRIPTION "\": %s}}", subscription->id);

		answer_put_result(json_trusted(subscription->id, strlen(subscription->id)), result);
		pfree(result);
		dlist_delete(&subscription->node);
		free(subscription->id);
		free(subscription);
	}
}
