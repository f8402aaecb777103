/*
 * holdings.c
 *		What the agent holds through this bridge.
 *
 * A model does not count seconds.  So what it was granted is renewed here at a third of
 * its time to live, until it is given back, refused, or the bridge ends: claims with
 * task_renew (and with them the leases that they took), leases with lease_renew unless
 * the server renews them itself.  Known is only what an answer that passed through here
 * has shown, and only for the client's own agent.
 *
 * Each is renewed as the model has it: by the default of its grant, or by the time that
 * the model asked for when it renewed it itself, so that no renewal here shortens one.
 *
 * What was granted to a request that nobody waits for any more is given back.
 */
#include "postgres_fe.h"

#include "lib/ilist.h"

#include "connection.h"
#include "holdings.h"
#include "identity.h"
#include "log.h"
#include "timer.h"

/* Of those that are due, so many in one query. */
#define MAX_BATCH 100
#define RETRY_DELAY 1000

typedef struct Holding
{
	dlist_node	node;
	bool		is_task;
	bool		renewed_by_server;
	bool		to_give_back;
	bool		in_flight;
	bool		failed;			/* to be renewed, the last time */
	bool		alone;			/* renewed together with others it has failed, or they have */
	char		id[37];
	char		token[24];
	char	   *ttl;			/* in seconds, as the model gave it; NULL: its own */
	int64		period;			/* between renewals */
	int64		renew_at;
} Holding;

static dlist_head holdings = DLIST_STATIC_INIT(holdings);

static void note(bool is_task, Json row, Json expires_at, Json ttl, double server_now);
static void put_off(Holding *holding, double remaining);
static Holding *find(Json id);
static void forget(Holding *holding);
static void forget_finished(Json row);
static void give_back_row(bool is_task, Json row);
static Holding *next_due(int64 now);
static void give_back(Holding *holding);
static void given_back(void *arg, const QueryResult *result);
static void renew(bool is_task, int64 now);
static void renewed(void *arg, const QueryResult *result);

/* Take notice of what a call has granted, renewed or ended. */
void
holdings_observe(const Message *call, const Outcome *outcome, double server_now)
{
	Json		row = outcome->result;
	Json		tasks;
	Json		task = JSON_NONE;
	Holding    *holding;

	if (outcome->refused)
		return;
	switch (call->tool)
	{
		case TOOL_TASK_CLAIM:
			tasks = json_member(row, "tasks");
			while (json_next_element(tasks, &task))
			{
				if (identity_is_ours(json_member(task, "agent_id")))
					note(true, task, json_member(task, "lease_expires_at"), JSON_NONE, server_now);
			}
			break;

		case TOOL_TASK_RENEW:
			if (find(json_member(row, "id")) != NULL)
				note(true, row, json_member(row, "lease_expires_at"), json_member(call->arguments, "lease_ttl"), server_now);
			break;

		case TOOL_TASK_END:
			forget_finished(row);
			tasks = json_member(row, "tasks");
			while (json_next_element(tasks, &task))
				forget_finished(task);
			break;

		case TOOL_LOCK_ACQUIRE:
			if (identity_is_ours(json_member(row, "agent_id")) && json_member(row, "task_id").kind == JSON_KIND_NULL)
				note(false, row, json_member(row, "expires_at"), json_member(call->arguments, "ttl"), server_now);
			break;

		case TOOL_LOCK_RENEW:
			if (find(json_member(row, "id")) != NULL)
				note(false, row, json_member(row, "expires_at"), json_member(call->arguments, "ttl"), server_now);
			break;

		case TOOL_LOCK_RELEASE:
			holding = find(json_member(call->arguments, "lease_id"));
			if (holding != NULL)
				forget(holding);
			break;

		case TOOL_AGENT_RETIRE:
			if (identity_is_ours(json_member(row, "id")))
			{
				holdings_forget_all();
				identity_was_retired();
			}
			break;

		case TOOL_OTHER:
			break;
	}
}

/* Remember a claim or a lease, by the row that the server has answered. */
static void
note(bool is_task, Json row, Json expires_at, Json ttl, double server_now)
{
	char	   *id = json_string(json_member(row, "id"));
	Json		token = json_member(row, "fencing_token");
	char	   *token_text = token.kind == JSON_KIND_STRING ? json_string(token) : json_text(token);
	Holding    *holding = find(json_member(row, "id"));
	double		expires;

	if (id != NULL && token_text != NULL && json_time(expires_at, &expires))
	{
		if (holding == NULL)
		{
			holding = pg_malloc0(sizeof(Holding));
			holding->is_task = is_task;
			strlcpy(holding->id, id, sizeof(holding->id));
			dlist_push_tail(&holdings, &holding->node);
		}
		strlcpy(holding->token, token_text, sizeof(holding->token));
		holding->renewed_by_server = json_is_true(json_member(row, "auto_renew"));
		if (ttl.kind == JSON_KIND_NUMBER)
		{
			free(holding->ttl);
			holding->ttl = json_text(ttl);
		}
		put_off(holding, expires - server_now);
		log_debug("holds %s %s", is_task ? "task" : "lease", holding->id);
	}
	free(id);
	free(token_text);
}

/* The next renewal is due after a third of what remains. */
static void
put_off(Holding *holding, double remaining)
{
	holding->period = Max((int64) (remaining * 1000 / 3), 1);
	holding->renew_at = timer_now() + holding->period;
}

static Holding *
find(Json id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &holdings)
	{
		Holding    *holding = dlist_container(Holding, node, iter.cur);

		if (json_is(id, holding->id))
			return holding;
	}
	return NULL;
}

static void
forget(Holding *holding)
{
	Assert(!holding->in_flight);	/* no other answer comes meanwhile */
	dlist_delete(&holding->node);
	free(holding->ttl);
	free(holding);
}

static void
forget_finished(Json row)
{
	Holding    *holding = find(json_member(row, "id"));

	if (holding != NULL && !json_is(json_member(row, "state"), "claimed"))
		forget(holding);
}

/*
 * Give back what was granted to a call that was cancelled.  A lease that the agent had
 * before, and that the call has only renewed, stays.
 */
void
holdings_give_back(const Message *call, const Outcome *outcome)
{
	Json		tasks;
	Json		task = JSON_NONE;

	if (outcome->refused)
		return;
	if (call->tool == TOOL_TASK_CLAIM)
	{
		tasks = json_member(outcome->result, "tasks");
		while (json_next_element(tasks, &task))
			give_back_row(true, task);
	}
	else if (call->tool == TOOL_LOCK_ACQUIRE &&
			 json_same(json_member(outcome->result, "acquired_at"), json_member(outcome->result, "renewed_at")))
		give_back_row(false, outcome->result);
}

static void
give_back_row(bool is_task, Json row)
{
	Holding    *holding;

	if (!identity_is_ours(json_member(row, "agent_id")) || find(json_member(row, "id")) != NULL)
		return;
	note(is_task, row, json_member(row, is_task ? "lease_expires_at" : "expires_at"), JSON_NONE, 0);
	holding = find(json_member(row, "id"));
	if (holding != NULL)
	{
		holding->to_give_back = true;
		holding->renew_at = 0;
	}
}

/* Send what is due; false when nothing is. */
bool
holdings_step(int64 now)
{
	Holding    *holding = next_due(now);

	if (holding == NULL)
		return false;
	if (holding->to_give_back)
		give_back(holding);
	else
		renew(holding->is_task, now);
	return true;
}

int64
holdings_due(void)
{
	Holding    *holding = next_due(TIMER_NEVER);

	return holding != NULL ? holding->renew_at : TIMER_NEVER;
}

static Holding *
next_due(int64 now)
{
	Holding    *next = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &holdings)
	{
		Holding    *holding = dlist_container(Holding, node, iter.cur);

		if (holding->renewed_by_server && !holding->to_give_back)
			continue;
		if (holding->renew_at <= now && (next == NULL || holding->renew_at < next->renew_at))
			next = holding;
	}
	return next;
}

static void
give_back(Holding *holding)
{
	const char *params[] = {holding->id, holding->token};

	holding->in_flight = true;
	if (holding->is_task)
		connection_query("SELECT FROM coord.task_release($1, $2)", 2, params, given_back, NULL);
	else
		connection_query("SELECT coord.lease_release($1)", 1, params, given_back, NULL);
}

static void
given_back(void *arg pg_attribute_unused(), const QueryResult *result)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &holdings)
	{
		Holding    *holding = dlist_container(Holding, node, iter.cur);

		if (!holding->in_flight)
			continue;
		holding->in_flight = false;
		if (result->sqlstate != NULL && sqlstate_is_retryable(result->sqlstate))
			holding->renew_at = timer_now() + RETRY_DELAY;
		else
			forget(holding);
	}
}

/* Renew the claims, or the leases, that are due, and those that soon will be. */
static void
renew(bool is_task, int64 now)
{
	StringInfoData ids;
	StringInfoData tokens;
	StringInfoData ttls;
	int			n = 0;
	const char *params[3];
	dlist_iter	iter;

	initStringInfo(&ids);
	initStringInfo(&tokens);
	initStringInfo(&ttls);
	dlist_foreach(iter, &holdings)
	{
		Holding    *holding = dlist_container(Holding, node, iter.cur);
		bool		is_due = holding->renew_at - holding->period / 4 <= now;

		if (holding->is_task != is_task || holding->renewed_by_server || holding->to_give_back || !is_due ||
			n == MAX_BATCH || (holding->alone && n > 0))
			continue;
		appendStringInfo(&ids, "%c%s", n == 0 ? '{' : ',', holding->id);
		appendStringInfo(&tokens, "%c%s", n == 0 ? '{' : ',', holding->token);
		appendStringInfo(&ttls, "%c%s", n == 0 ? '{' : ',', holding->ttl != NULL ? holding->ttl : "NULL");
		holding->in_flight = true;
		n++;
		if (holding->alone)
			break;
	}
	appendStringInfoChar(&ids, '}');
	appendStringInfoChar(&tokens, '}');
	appendStringInfoChar(&ttls, '}');

	params[0] = ids.data;
	params[1] = ttls.data;
	params[2] = tokens.data;
	if (is_task)
		connection_query("SELECT t.id, pg_catalog.date_part('epoch', t.lease_expires_at - pg_catalog.clock_timestamp()) "
						 "FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.uuid[]), pg_catalog.unnest($2::pg_catalog.float8[]), "
						 "pg_catalog.unnest($3::pg_catalog.int8[])) h(id, ttl, token) "
						 "CROSS JOIN LATERAL coord.task_renew(h.id, h.token, pg_catalog.make_interval(secs => h.ttl)) t",
						 3, params, renewed, NULL);
	else
		connection_query("SELECT l.id, pg_catalog.date_part('epoch', l.expires_at - pg_catalog.clock_timestamp()) "
						 "FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.uuid[]), pg_catalog.unnest($2::pg_catalog.float8[])) h(id, ttl) "
						 "CROSS JOIN LATERAL coord.lease_renew(h.id, pg_catalog.make_interval(secs => h.ttl)) l",
						 2, params, renewed, NULL);
	pfree(ids.data);
	pfree(tokens.data);
	pfree(ttls.data);
}

/*
 * A refusal of several leaves open whose it was, so they are renewed one by one then.
 * One that is refused alone has ended.
 */
static void
renewed(void *arg pg_attribute_unused(), const QueryResult *result)
{
	int			in_flight = 0;
	int			row = 0;
	bool		has_ended;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &holdings)
		in_flight += dlist_container(Holding, node, iter.cur)->in_flight;
	has_ended = result->sqlstate != NULL && in_flight == 1 &&
		(strcmp(result->sqlstate, "55000") == 0 || strcmp(result->sqlstate, "P0002") == 0 ||
		 strcmp(result->sqlstate, "42501") == 0);

	dlist_foreach_modify(iter, &holdings)
	{
		Holding    *holding = dlist_container(Holding, node, iter.cur);

		if (!holding->in_flight)
			continue;
		holding->in_flight = false;
		if (has_ended)
		{
			log_info("%s %s was lost: %s", holding->is_task ? "task" : "lease", holding->id, result->message);
			forget(holding);
		}
		else if (result->lost)
			holding->renew_at = 0;
		else if (result->sqlstate != NULL)
		{
			if (in_flight > 1)
				holding->alone = true;
			else
			{
				log_write(holding->failed ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "could not renew %s %s: %s",
						  holding->is_task ? "task" : "lease", holding->id, result->message);
				holding->failed = true;
				holding->renew_at = timer_now() + Min(holding->period, RETRY_DELAY);
			}
		}
		else
		{
			/* in the order in which they were sent */
			put_off(holding, atof(PQgetvalue(result->rows, row++, 1)));
			holding->alone = holding->failed = false;
		}
	}
}

/* After a reconnect nobody knows how much time is left. */
void
holdings_renew_all(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &holdings)
		dlist_container(Holding, node, iter.cur)->renew_at = 0;
}

void
holdings_forget_all(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &holdings)
	{
		Holding    *holding = dlist_container(Holding, node, iter.cur);

		holding->in_flight = false;
		forget(holding);
	}
}
