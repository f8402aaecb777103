/*
 * coord 1.0 to 1.1: finished tasks go to partitions, which purge() and the worker empty;
 * agents that have ended are deleted; long queues are not counted at each reading; and tasks
 * recur, by pg_cron.
 *
 * What was finished so far becomes the first partition, without being rewritten.  It is
 * kept for a whole retention from the time at which that is closed.
 */
\echo Use "ALTER EXTENSION coord UPDATE" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- The tables whose rows get an identity at the end.  Only vacuum is in the way of this lock, and kept out.
DO $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT oid FROM pg_class c
		WHERE relnamespace = 'coord'::regnamespace AND relkind = 'r' AND relname <> 'event_inbox'
			AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)
	LOOP
		EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', relation);
	END LOOP;
END
$$;

-- All that is changed, and what is read with it, is locked at once or not at all: whoever
-- reads locks the view first, whoever finishes a task the table.  Others are not queued up
-- meanwhile, so the longest that this may take is looked at here.
DO $$
DECLARE
	give_up_at CONSTANT timestamptz = clock_timestamp() + nullif(current_setting('lock_timeout')::interval, '0');
BEGIN
	LOOP
		BEGIN
			LOCK TABLE coord.task_all, coord.queue IN ACCESS EXCLUSIVE MODE NOWAIT;
			EXIT;
		EXCEPTION WHEN lock_not_available THEN
			IF clock_timestamp() >= give_up_at THEN
				RAISE;
			END IF;
			PERFORM pg_sleep(random() * 0.01);
		END;
	END LOOP;
END
$$;

ALTER TABLE coord.task_finished RENAME TO task_finished_unpartitioned;
ALTER INDEX coord.task_finished_id RENAME TO task_finished_unpartitioned_id;
ALTER TABLE coord.task_finished_unpartitioned DETACH PARTITION coord.task_finished_default;

CREATE TABLE coord.task_finished (
	LIKE coord.task_dead,
	partition smallint NOT NULL
) PARTITION BY LIST (partition);
CREATE INDEX task_finished_id ON coord.task_finished (id);
CREATE INDEX task_finished_blocks ON coord.task_finished USING brin (finished_at, state, queue text_bloom_ops (n_distinct_per_range = 200),
	type text_bloom_ops (n_distinct_per_range = 200), agent_id uuid_bloom_ops (n_distinct_per_range = 500),
	resource_key text_bloom_ops (n_distinct_per_range = 500)) WITH (autosummarize = on);
CREATE INDEX task_dead_finished_at ON coord.task_dead (finished_at);
CREATE INDEX agent_data_ended_at ON coord.agent_data ((coalesce(retired_at, inactive_since)), id)
	WHERE check_at IS NULL AND attachment IS NULL AND coalesce(retired_at, inactive_since) IS NOT NULL;
CREATE INDEX event_log_task ON coord.event_log (left(payload ->> 'task_id', 36)) WHERE channel = 'coord.tasks';

ALTER TABLE coord.task_finished_default ADD COLUMN partition smallint NOT NULL DEFAULT 0;
ALTER TABLE coord.task_finished_default ALTER COLUMN partition DROP DEFAULT;
ALTER TABLE coord.task_finished_default RENAME TO task_finished_0;
ALTER INDEX coord.task_finished_default_id_idx RENAME TO task_finished_0_id_idx;
ALTER TABLE coord.task_finished ATTACH PARTITION coord.task_finished_0 FOR VALUES IN (0);
COMMENT ON TABLE coord.task_finished_0 IS 'Stored: a partition of task_finished.';
DO $$
BEGIN
	FOR n IN 1..15 LOOP
		EXECUTE format('CREATE TABLE coord.task_finished_%s PARTITION OF coord.task_finished FOR VALUES IN (%s)', n, n);
		EXECUTE format('COMMENT ON TABLE coord.task_finished_%s IS %L', n, 'Stored: a partition of task_finished.');
		PERFORM pg_extension_config_dump(format('coord.task_finished_%s', n)::regclass, '');
	END LOOP;
END
$$;
COMMENT ON TABLE coord.task_finished IS 'Stored: completed and cancelled tasks. Read coord.task instead.';

CREATE OR REPLACE VIEW coord.task_all AS
SELECT * FROM coord.task_unfinished
UNION ALL
SELECT id, queue, type, payload, priority, state, run_at, attempts, max_attempts, agent_id, lease_id, fencing_token,
	lease_expires_at, resource_key, unique_key, depends_on, progress, result, error, created_at, claimed_at, finished_at
FROM coord.task_finished
UNION ALL
SELECT * FROM coord.task_dead;

-- What is in partitions that somebody has added by hand goes with them.
INSERT INTO coord.task_finished SELECT *, 0 FROM coord.task_finished_unpartitioned;
DROP TABLE coord.task_finished_unpartitioned;

CREATE TABLE coord.task_partition (
	partition smallint NOT NULL,
	class smallint NOT NULL,
	keep interval NOT NULL,
	opened_at timestamptz NOT NULL,
	closed_at timestamptz,
	sealed_at timestamptz
);
INSERT INTO coord.task_partition VALUES (0, 99, '0', pg_catalog.clock_timestamp());
COMMENT ON TABLE coord.task_partition IS 'Stored: which partitions of task_finished have something, or are written.';

-- Finished tasks that had too many dependants for the transaction in which they finished:
-- the sweep goes on with those after that one.
CREATE TABLE coord.dependant_check (
	depends_on uuid NOT NULL,
	after_task uuid NOT NULL
);
CREATE INDEX dependant_check_depends_on ON coord.dependant_check (depends_on);
COMMENT ON TABLE coord.dependant_check IS 'Stored: finished tasks whose dependants the sweep must look at.';
SELECT pg_extension_config_dump('coord.dependant_check', '');

-- The tasks of long queues, as they were counted last; see src/queue_count.c.  Not dumped.
CREATE TABLE coord.queue_count (
	queue text COLLATE "C" NOT NULL,
	pending bigint NOT NULL,
	scheduled bigint NOT NULL,
	blocked bigint NOT NULL,
	claimed bigint NOT NULL,
	dead bigint NOT NULL,
	oldest_run_at timestamptz,				-- of what was pending
	counted_at timestamptz NOT NULL,
	took interval NOT NULL					-- the count of all queues
);
CREATE INDEX queue_count_queue ON coord.queue_count (queue);

CREATE FUNCTION coord.count_tasks(queue text, OUT pending bigint, OUT scheduled bigint, OUT blocked bigint,
	OUT claimed bigint, OUT dead bigint, OUT oldest_pending_age interval, OUT counted_at timestamptz)
AS 'MODULE_PATHNAME', 'coord_count_tasks' LANGUAGE C STABLE STRICT;

COMMENT ON FUNCTION coord.fence() IS
$$A trigger for one's own tables, BEFORE INSERT OR UPDATE and FOR EACH ROW: it lets a row be written only with a fencing token that holds the row's resource now, as lease_assert does. Who writes needs no right to it; DELETE and TRUNCATE are not guarded.
Its arguments are the names of two columns: the resource's, whose type has a text that does not depend on settings, as strings, integers and uuid have, and the token's (bigint).
Returns the row.
Errors: 55000 the token does not hold the resource, or an UPDATE changes the resource; 23502 either is null; 42703, 42804 no such column, or not of its type; 39P01 not such a trigger.$$;

COMMENT ON FUNCTION coord.task_create(text, jsonb, text, integer, timestamptz, integer, text, uuid[], text, uuid) IS
$$Creates a task, in this transaction.
type: the kind of work, 1 to 512 bytes. payload: any JSON up to 1 MiB. queue: the queue to put it into, 1 to 512 bytes, which comes into being with its first task. priority: higher ones are claimed first. run_at: the instant before which it is not claimable; NULL is now. max_attempts: how often it may be claimed, 1 to 1,000,000; NULL is the queue's. unique_key: while a task of the queue with this key has not finished, that one is returned, unchanged. depends_on: the ids of tasks, in queues that the role sees, that must be completed first; if one ends dead or cancelled, so does this one, cancelled. resource_key: a lease that each claim of it takes too, so that no two tasks with the key are worked on at once. id: an id of the caller's choice; NULL makes one.
Returns the task.
Errors: 22004, 22023 bad argument, an id that exists, a task that depends on itself; P0002 a dependency does not exist, or is in a queue that the role does not see; 55P03 an open transaction is creating a task with the unique_key or id; 54000 payload too large; 53400 the queue would be one more than coord.max_queues_per_role.$$;

COMMENT ON FUNCTION coord.count_tasks(text) IS
$$Internal: how many tasks a queue has in which state.
queue: the queue.
Returns what coord.queue shows of it, NULLs to who may not see it.$$;

-- The names that only tasks have are found by going from each to the next one.  Tasks are
-- counted queue by queue, so that who asks for one does not count those of the others.
CREATE OR REPLACE VIEW coord.queue_all AS
WITH RECURSIVE live_name (name) AS (
	SELECT min(queue) FROM coord.task_live
	UNION ALL
	SELECT (SELECT min(t.queue) FROM coord.task_live t WHERE t.queue > n.name) FROM live_name n WHERE n.name IS NOT NULL
), dead_name (name) AS (
	SELECT min(queue) FROM coord.task_dead
	UNION ALL
	SELECT (SELECT min(t.queue) FROM coord.task_dead t WHERE t.queue > n.name) FROM dead_name n WHERE n.name IS NOT NULL
), queue_name AS (
	SELECT name FROM coord.queue_data UNION SELECT 'default'
	UNION SELECT name FROM live_name WHERE name IS NOT NULL UNION SELECT name FROM dead_name WHERE name IS NOT NULL
)
SELECT n.name,
	coalesce(q.paused, false) AS paused,
	coalesce(q.max_attempts, 5) AS max_attempts,
	coalesce(q.lease_ttl, coord.setting('default_lease_ttl')) AS lease_ttl,
	coalesce(q.backoff_base, '1 s') AS backoff_base,
	coalesce(q.backoff_max, '5 min') AS backoff_max,
	q.max_claimed,
	coalesce(q.retention, coord.setting('task_retention')) AS retention,
	t.pending, t.scheduled, t.blocked, t.claimed, t.dead, t.oldest_pending_age, t.counted_at
FROM queue_name n
	LEFT JOIN coord.queue_data q USING (name)
	CROSS JOIN LATERAL coord.count_tasks(n.name) t;

-- For what is in no index: see the views.
CREATE FUNCTION coord.shown(value anyelement) RETURNS anyelement
AS 'MODULE_PATHNAME', 'coord_shown' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION coord.shown(anyelement) IS
$$Internal: a value as a view shows it. Volatile, so that no condition on it is tried on rows that are not shown.
value: the value.
Returns it.$$;

-- A condition of the caller's whose operators are leakproof is tried before a row is known to be his,
-- for the sake of the indexes, and EXPLAIN (ANALYZE) tells how that went; but not one on what a
-- volatile function gives.  So what is in no index is shown by coord.shown().

CREATE OR REPLACE VIEW coord.task WITH (security_barrier) AS
SELECT id, queue, type, coord.shown(payload) AS payload, priority, state, coord.shown(run_at) AS run_at,
	coord.shown(attempts) AS attempts, coord.shown(max_attempts) AS max_attempts, agent_id,
	coord.shown(lease_id) AS lease_id, coord.shown(fencing_token) AS fencing_token,
	coord.shown(lease_expires_at) AS lease_expires_at, resource_key, unique_key,
	coord.shown(depends_on) AS depends_on, coord.shown(progress) AS progress, coord.shown(result) AS result,
	coord.shown(error) AS error, coord.shown(created_at) AS created_at, coord.shown(claimed_at) AS claimed_at,
	finished_at
FROM coord.task_all
WHERE (SELECT coord.sees_all_queues()) OR queue = ANY ((SELECT coord.seen_queues())::text[]);

CREATE OR REPLACE VIEW coord.dead_letter WITH (security_barrier) AS
SELECT id, queue, type, coord.shown(payload) AS payload, priority, state, coord.shown(run_at) AS run_at,
	coord.shown(attempts) AS attempts, coord.shown(max_attempts) AS max_attempts, agent_id,
	coord.shown(lease_id) AS lease_id, coord.shown(fencing_token) AS fencing_token,
	coord.shown(lease_expires_at) AS lease_expires_at, resource_key, unique_key,
	coord.shown(depends_on) AS depends_on, coord.shown(progress) AS progress, coord.shown(result) AS result,
	coord.shown(error) AS error, coord.shown(created_at) AS created_at, coord.shown(claimed_at) AS claimed_at,
	finished_at
FROM (SELECT * FROM coord.task_unfinished WHERE state = 'dead' UNION ALL SELECT * FROM coord.task_dead) t
WHERE (SELECT coord.sees_all_queues()) OR queue = ANY ((SELECT coord.seen_queues())::text[]);

-- The id of an agent that was deleted may have been given to another one since.
CREATE OR REPLACE VIEW coord.lease WITH (security_barrier) AS
SELECT id, resource_key, coord.shown(agent_id) AS agent_id, coord.shown(task_id) AS task_id, state,
	coord.shown(fencing_token) AS fencing_token, coord.shown(ttl) AS ttl,
	coord.shown(auto_renew) AS auto_renew, coord.shown(acquired_at) AS acquired_at,
	coord.shown(renewed_at) AS renewed_at, coord.shown(expires_at) AS expires_at, ended_at
FROM coord.lease_all l
WHERE (SELECT coord.sees_all_queues())
	OR EXISTS (SELECT FROM coord.agent_data a WHERE a.id = l.agent_id AND a.registered_at <= l.acquired_at
		AND pg_catalog.pg_has_role(a.owner, 'USAGE'));

-- No barrier here, since behind one nothing could be read in the order of positions without
-- reading all.  Instead whatever is private is NULL in a row that is not for the caller, also
-- to a function of his that is called before the row is filtered out.  What is left (id,
-- position, recipient_id, channel) is what anybody who can connect is told by LISTEN.
-- What came before an agent was registered was to another one of its id.
-- "level" is 2 for all of the row, 1 for all but its payload, 0 for none.
CREATE OR REPLACE VIEW coord.event AS
SELECT e.id, e.position,
	CASE WHEN r.level > 0 THEN e.type END AS type,
	CASE WHEN r.level > 0 THEN e.severity END AS severity,
	CASE WHEN r.level > 0 THEN e.sender_id END AS sender_id,
	e.recipient_id, e.channel,
	CASE WHEN r.level = 2 THEN e.payload END AS payload,
	CASE WHEN r.level > 0 THEN e.created_at END AS created_at
FROM coord.event_all e
	CROSS JOIN LATERAL (SELECT CASE
		WHEN e.recipient_id IS NULL THEN CASE WHEN NOT (SELECT coord.is_granted()) THEN 0
			WHEN e.channel = 'coord.tasks' AND NOT (SELECT coord.sees_all_queues()) AND
				NOT coalesce(e.payload ->> 'queue' = ANY ((SELECT coord.seen_queues())::text[]), true) THEN 0
			ELSE 2 END
		WHEN (SELECT coord.sees_payloads()) THEN 2
		WHEN EXISTS (SELECT FROM coord.agent_data a WHERE a.id = e.recipient_id AND coalesce(e.position > a.events_after, true)
			AND pg_catalog.pg_has_role(a.owner, 'USAGE')) THEN 2
		WHEN (SELECT coord.is_monitor()) THEN 1
		ELSE 0 END AS level OFFSET 0) r
WHERE r.level > 0;

CREATE OR REPLACE VIEW coord.queue WITH (security_barrier) AS
SELECT name, coord.shown(paused) AS paused, coord.shown(max_attempts) AS max_attempts,
	coord.shown(lease_ttl) AS lease_ttl, coord.shown(backoff_base) AS backoff_base,
	coord.shown(backoff_max) AS backoff_max, coord.shown(max_claimed) AS max_claimed,
	coord.shown(retention) AS retention, coord.shown(pending) AS pending, coord.shown(scheduled) AS scheduled,
	coord.shown(blocked) AS blocked, coord.shown(claimed) AS claimed, coord.shown(dead) AS dead,
	coord.shown(oldest_pending_age) AS oldest_pending_age, coord.shown(counted_at) AS counted_at
FROM coord.queue_all
WHERE (SELECT coord.sees_all_queues()) OR name = ANY ((SELECT coord.seen_queues())::text[]);

COMMENT ON VIEW coord.queue IS 'Queues: their settings and how many tasks they have in which state. The tasks of a long queue, of more than 10,000 or so, are not counted at each reading: see counted_at.';
COMMENT ON COLUMN coord.queue.counted_at IS 'NULL: the counts are of now. Else the queue is long, and they are as of then; the worker, or sweep(), counts it anew when it has changed, at most every 5 seconds and in a twentieth of the time.';
COMMENT ON TABLE coord.queue_count IS 'Stored: the counts of long queues. Read coord.queue instead.';

CREATE FUNCTION coord.purge(older_than interval = NULL) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_purge' LANGUAGE C VOLATILE;

-- What a queue has done since an instant; a row of queue_stats.
CREATE TYPE coord.queue_stat AS (
	queue text, since timestamptz, completed bigint, cancelled bigint, dead bigint, failed_attempts bigint,
	throughput double precision,
	waiting_p50 interval, waiting_p95 interval, waiting_p99 interval,
	running_p50 interval, running_p95 interval, running_p99 interval);

-- Something that has become of a task; a row of history.
CREATE TYPE coord.history_entry AS (
	at timestamptz, what text, attempt integer, agent_id uuid, detail jsonb);

CREATE FUNCTION coord.queue_stats(name text = NULL, since timestamptz = NULL) RETURNS SETOF coord.queue_stat
AS 'MODULE_PATHNAME', 'coord_queue_stats' LANGUAGE C VOLATILE ROWS 10;

CREATE FUNCTION coord.blocked_by(task_id uuid) RETURNS text
AS 'MODULE_PATHNAME', 'coord_blocked_by' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.history(task_id uuid) RETURNS SETOF coord.history_entry
AS 'MODULE_PATHNAME', 'coord_history' LANGUAGE C VOLATILE ROWS 10;

CREATE FUNCTION coord.dashboard() RETURNS text
AS 'MODULE_PATHNAME', 'coord_dashboard' LANGUAGE C VOLATILE;

COMMENT ON TYPE coord.queue_stat IS 'What a queue has done since an instant. Durations are of completed tasks, NULL when there are none.';
COMMENT ON COLUMN coord.queue_stat.since IS 'From then on.';
COMMENT ON COLUMN coord.queue_stat.completed IS 'Tasks that were completed.';
COMMENT ON COLUMN coord.queue_stat.cancelled IS 'Tasks that were cancelled, by a call or since a dependency failed.';
COMMENT ON COLUMN coord.queue_stat.dead IS 'Tasks that became dead letters, and still are.';
COMMENT ON COLUMN coord.queue_stat.failed_attempts IS 'Attempts of all these tasks that failed or were lost.';
COMMENT ON COLUMN coord.queue_stat.throughput IS 'Completed tasks per second.';
COMMENT ON COLUMN coord.queue_stat.waiting_p50 IS 'From run_at to the claim that completed it: the median.';
COMMENT ON COLUMN coord.queue_stat.waiting_p95 IS 'The same: 95 of 100 waited no longer.';
COMMENT ON COLUMN coord.queue_stat.waiting_p99 IS 'The same: 99 of 100 waited no longer.';
COMMENT ON COLUMN coord.queue_stat.running_p50 IS 'From that claim to the completion: the median.';
COMMENT ON COLUMN coord.queue_stat.running_p95 IS 'The same: 95 of 100 took no longer.';
COMMENT ON COLUMN coord.queue_stat.running_p99 IS 'The same: 99 of 100 took no longer.';

COMMENT ON TYPE coord.history_entry IS 'Something that has become of a task.';
COMMENT ON COLUMN coord.history_entry.what IS 'created, claimed (the last claim), requeued (a claim that was lost), dead, completed, cancelled, or scheduled: when it is to be claimed next.';
COMMENT ON COLUMN coord.history_entry.attempt IS 'Of which attempt, where there was one.';
COMMENT ON COLUMN coord.history_entry.agent_id IS 'By whom, or whose claim, where there was one.';
COMMENT ON COLUMN coord.history_entry.detail IS 'More: reason, error, fencing_token and so on.';

COMMENT ON FUNCTION coord.queue_stats(text, timestamptz) IS
$$Says what a queue, or each queue, has done lately: how many tasks it has finished, how fast, how long they waited and ran, and what failed.
name: the queue; NULL is each that the caller may see. since: from that instant on, by when tasks finished; NULL is an hour ago. What is past its retention does not count.
Returns a row for each queue.
Errors: 22023 bad argument, or since is in the future; P0002 no such queue; 42501 no grant for it.$$;

COMMENT ON FUNCTION coord.blocked_by(uuid) IS
$$Says in words why a task is not running: what it waits for, who holds its resource, what limits its queue, what comes before it; or that it runs, or how it ended.
task_id: the task.
Returns the text, with a line for each reason.
Errors: 22004 task_id is NULL; P0002 no such task.$$;

COMMENT ON FUNCTION coord.history(uuid) IS
$$Tells what has become of a task, in the order of time: its creation, the claims that it lost, its last claim and its end, from its row and from what is still kept of the events about it, the last 1,000.
task_id: the task.
Returns a row for each.
Errors: 22004 task_id is NULL; P0002 no such task.$$;

COMMENT ON FUNCTION coord.dashboard() IS
$$Shows how things stand as one page of HTML, which needs nothing but itself: queues, the throughput of the last hour, leases about to end, dead letters, agents, and the worker; of many, the first ones. Takes no arguments.
Returns the page, in ASCII: psql -qAtXc 'select coord.dashboard()' > coord.html. It has what the caller may see.
Errors: none of its own.$$;

COMMENT ON COLUMN coord.agent.id IS 'Stays the same for a name, until the agent is deleted.';
COMMENT ON COLUMN coord.agent.registered_at IS 'When the name was first registered, since an agent of that name was last deleted.';
COMMENT ON COLUMN coord.agent.status IS 'active, inactive (no heartbeat for heartbeat_timeout, or its connection has ended) or retired (by agent_retire, or inactive for coord.agent_retention); deleted when it has been that for as long again.';

COMMENT ON FUNCTION coord.agent_register(text, text, interval, jsonb, uuid) IS
$$Registers an agent, or registers it anew, and makes it active. Other calls name the agent by the id that comes back.
name: 1 to 512 bytes, unique. type: any word for its kind. heartbeat_timeout: how long after its last heartbeat it becomes inactive, from coord.min_lease_ttl to 366 days; NULL is coord.heartbeat_timeout. metadata: any JSON up to 1 MiB. id: an id of the caller's choice; NULL makes one.
Returns the agent. A name that the same owner registered before keeps its id, unless that agent was deleted: when it had been retired for coord.agent_retention.
Errors: 22004, 22023 bad argument, or an id that is another agent's; 42501 the name belongs to another role; 55P03 an open transaction is registering the name or changing the agent, or another agent had the id, and events to it are yet to be delivered or claims of its have not run out; 54000 metadata too large; 53400 the role has coord.max_agents_per_role.$$;

COMMENT ON FUNCTION coord.agent_heartbeat(uuid) IS
$$Tells that an agent is alive, and makes it active if it was inactive. Due within each heartbeat_timeout of the agent.
agent_id: the agent.
Returns the agent. One that had become inactive has lost its claims: task.requeued events tell it which.
Errors: P0002 no such agent; 55000 it is retired, by agent_retire or since it was inactive for coord.agent_retention; 42501 it belongs to another role; 55P03 it is inactive, and an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.agent_retire(uuid) IS
$$Ends an agent for good: releases its leases and gives its tasks back at once, their attempts not counted. It is deleted after coord.agent_retention.
agent_id: the agent.
Returns the agent; retiring it again changes nothing.
Errors: P0002 no such agent; 42501 it belongs to another role; 55P03 an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.queue_listen(text) IS
$$Does LISTEN on this connection for tasks of a queue becoming claimable: new ones, those whose run_at or retry has come, those given back. Does not serve behind a pooler in transaction mode: there it returns as ever, and the notifications are lost.
queue: the queue, which need not exist yet.
Returns the name of the NOTIFY channel. A notification's payload is a JSON object, in ASCII, with queue; one is for any number of tasks. Claim until there is nothing, then wait for the next one.
Errors: 22023 bad argument; 55000 coord is not in shared_preload_libraries; 53400 coord.max_listened_queues are listened to, or coord.max_share_per_role of that by this role.$$;

COMMENT ON FUNCTION coord.revoke_all(name) IS
$$Takes away all that grant_agent and grant_monitor gave. The role's agents stay, and are out of its reach. A call that is under way ends as it began, and an attached agent lives while its connection does: terminate the role's sessions, too.
role: the role.
Returns nothing.
Errors: 42704 no such role; 42501 the caller is not the extension's owner.$$;

COMMENT ON FUNCTION coord.event_send(text, jsonb, uuid, text, text, uuid) IS
$$Sends an event, in this transaction, to an agent, on a channel, or (with neither) to everyone. It is delivered when the transaction has committed.
type: what happened, 1 to 512 bytes. payload: any JSON up to 1 MiB. recipient_id: the agent that it is for; when NULL, the agent whose name payload.to is; if there is none of that name a NOTICE says so, and the event has no recipient. channel: the channel that it is for, 1 to 512 bytes. severity: debug, info, warning, error or critical. sender_id: the agent that sends it; NULL does not say.
Returns the event, which has no position yet.
Errors: 22004, 22023 bad argument; P0002 no such recipient or sender; 42501 the sender belongs to another role; 55P03 either is just being deleted; 54000 payload too large.$$;

COMMENT ON FUNCTION coord.event_subscribe(uuid, text) IS
$$Has event_poll and inbox give an agent the events of a channel too, from the position that it has acknowledged: also those that were sent since, before this call.
agent_id: the agent. channel: the channel, 1 to 512 bytes.
Returns true, or false when it was subscribed.
Errors: 22004, 22023 bad argument; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted; 53400 the agent has coord.max_subscriptions_per_agent.$$;

COMMENT ON FUNCTION coord.event_unsubscribe(uuid, text) IS
$$Ends a subscription: event_poll and inbox no longer give the agent the events of the channel.
agent_id: the agent. channel: the channel.
Returns true, or false when it was not subscribed.
Errors: 22004, 22023 bad argument; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted.$$;

COMMENT ON FUNCTION coord.event_ack(uuid, bigint) IS
$$Acknowledges an agent's events up to a position, after which event_poll and inbox go on. Several readers of an agent share its position.
agent_id: the agent. position: that of the last event that was handled.
Returns the position. Repeating it is no error.
Errors: 22004 an argument is NULL; 22023 no event has that position yet; 55000 a later one is acknowledged already, or was given before the agent was registered; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted.$$;

COMMENT ON FUNCTION coord.inbox(uuid, bigint, integer) IS
$$Reads an agent's events: acknowledges those that it has handled, then returns the next ones, as event_ack and event_poll do. What is not acknowledged comes again with the next call.
agent_id: the agent that the events are for. ack: the position of the last event that was handled, which acknowledges all up to it; NULL acknowledges none. max_events: how many at most, 1 to 10,000; NULL is 20.
Returns the events that are addressed to the agent, those of its channels and those to everyone, in the order of their positions; none when all are acknowledged.
Errors: 22004, 22023 bad argument, or no event has the position ack yet; 55000 a later one is acknowledged already, or was given before the agent was registered; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted.$$;

COMMENT ON FUNCTION coord.event_listen(uuid, text) IS
$$Does LISTEN on this connection for events to an agent, on a channel, or (both NULL) to everyone. Does not serve behind a pooler in transaction mode: there it returns as ever, and the notifications are lost.
recipient_id: the agent. channel: the channel. Not both at once.
Returns the name of the NOTIFY channel. A notification's payload is a JSON object, in ASCII, with id, position, type, severity, recipient_id and channel.
Errors: 22023 both given; P0002 no such agent; 42501 it belongs to another role.$$;

COMMENT ON FUNCTION coord.grant_agent(name, text, boolean, boolean) IS
$$Lets a role call the functions of agents (all but those that grant and revoke), with rights to one queue or to every queue. It sees the tasks of those queues, agents, and events that are not to agents of other roles.
role: the role. queue: the queue that it gets rights to, which need not exist yet; NULL is every queue, those to come too, with which it may also change the settings of queues and see all leases. can_create: whether it may create, cancel and redrive tasks there. can_claim: whether it may claim tasks, listen and wait there.
Returns nothing. A grant for the same queue is replaced, and taken away when can_create and can_claim are both false; grants for several queues add up. A role whose last grant is taken away like that is still an agent's: it has leases and events, and no tasks; revoke_all takes everything.
Errors: 42704 no such role; 22023 bad argument; 42501 the caller is not the extension's owner.$$;

COMMENT ON FUNCTION coord.task_claim(uuid, text, uuid, text, interval, integer) IS
$$Claims tasks for an agent: nobody else gets them before the claim ends, by task_complete, task_fail or task_release, or by running out at lease_expires_at, which task_renew moves. Also a heartbeat.
agent_id: an active agent. queue: the queue to claim from, when task_id is NULL. task_id: that task and no other; NULL is the next ones of the queue. resource_key: a lease to take with the claim, for tasks that have none of their own. lease_ttl: how long the claim lasts, unless it is renewed; NULL is the queue's. max_tasks: how many at most, 1 to 10,000, when task_id is NULL.
Returns the tasks, highest priority first, then earliest run_at, then oldest, each with its fencing_token and lease_expires_at; none when none is claimable. Tasks whose resource is held are passed over. A batch ends when its tasks have 32 MiB as text; the next call goes on.
Errors: 22004, 22023 bad argument; P0002 no such agent or task; 55000 the agent is not active; 42501 it belongs to another role. With task_id also: 55P03 the task is claimed, its resource is held, an open transaction is changing either, or the queue is at max_claimed; 55000 it is not claimable.$$;

COMMENT ON FUNCTION coord.task_complete(uuid, bigint, jsonb) IS
$$Completes a task, releases the lease that its claim took, and unblocks what depends on it; beyond 1,000 such tasks the worker does, right afterwards.
task_id: the id of the task. fencing_token: that of the claim. result: any JSON up to 1 MiB.
Returns the task. Repeating a completion that succeeded changes nothing and is no error.
Errors: P0002 no such task; 55000 the token does not hold it; 42501 its agent belongs to another role; 54000 result too large.$$;

COMMENT ON FUNCTION coord.task_cancel(uuid) IS
$$Cancels a task that has not finished, claimed or not, and what depends on it; beyond 1,000 such tasks the worker does, right afterwards.
task_id: the id of the task.
Returns the task; cancelling it again changes nothing.
Errors: P0002 no such task; 55000 it is completed or dead; 42501 an agent of another role has claimed it; 55P03 an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.purge(interval) IS
$$Drops what is past its retention now, as the background worker does: finished tasks past their queue's retention or coord.task_retention, events past coord.event_retention, in partitions that are emptied whole; and agents past coord.agent_retention, the inactive of which are retired, and the retired deleted. Dead letters stay. For the extension's owner, and roles to which that grants EXECUTE.
older_than: NULL, or drop also whatever task finished, and whatever event was sent, that long ago or longer, row by row where a partition has younger ones too; agents go by coord.agent_retention all the same.
Returns how many: task_partitions_emptied, tasks_deleted, event_partitions_emptied, events_deleted, agents_retired, agents_deleted. A partition that another transaction is using stays for the next time. So do, in a transaction block, those of tasks, since whoever reads would have to wait for its end, and those of events that are not past coord.event_retention. Waits for whoever is delivering or dropping just now, within lock_timeout.
Errors: 22023 older_than is negative or infinite.$$;

CREATE FUNCTION coord.task_schedule(name text, schedule text, type text, payload jsonb = '{}', queue text = 'default',
	priority integer = 0, max_attempts integer = NULL, resource_key text = NULL, overlap boolean = false) RETURNS bigint
AS 'MODULE_PATHNAME', 'coord_task_schedule' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_unschedule(name text) RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_task_unschedule' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.cron_install(sweep_schedule text = NULL, purge_schedule text = NULL) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_cron_install' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.cron_remove() RETURNS integer
AS 'MODULE_PATHNAME', 'coord_cron_remove' LANGUAGE C VOLATILE;

COMMENT ON FUNCTION coord.task_schedule(text, text, text, jsonb, text, integer, integer, text, boolean) IS
$$Creates a task again and again, at the times that a schedule says. While the last one has not finished no other is created, unless they may overlap. Scheduling a name again replaces what it was. It is a job of pg_cron, which must be there, in this database or another one, and runs it as the role that calls this.
name: of the schedule, 1 to 512 bytes; each role has its own. schedule: when, in the form of cron ('*/5 * * * *' is every five minutes, '0 3 * * 1' Mondays at 3:00), in GMT unless the server is set otherwise, or, with pg_cron 1.5 or newer, '1 seconds' to '59 seconds'. type: what kind of work, 1 to 512 bytes. payload: any JSON up to 1 MiB; keep it small, as pg_cron notes it at each run. queue: the queue to create the tasks in. priority: higher ones are claimed first. max_attempts: how often a task may be claimed before it is dead; NULL is the queue's. resource_key: a resource that each claim of a task takes a lease on. overlap: whether a task is created though the last one has not finished.
Returns the id of pg_cron's job.
Errors: 22004, 22023 bad argument, also a schedule that pg_cron does not understand; 54000 payload too large; 42501 no right to create tasks in the queue, or to use pg_cron; 55000 pg_cron is missing; 55P03 an open transaction is changing the schedule, or pg_cron is in another database and open transactions of the role have a quarter of max_worker_processes; 53400 it is, and no background worker is free; 0A000 it is, and the transaction has schedules of another role too.$$;

COMMENT ON FUNCTION coord.task_unschedule(text) IS
$$Ends a schedule of the calling role: no more tasks are created by it. Those that there are stay.
name: of the schedule.
Returns true, or false when there was none.
Errors: 22004, 22023 bad argument; 42501 no right to use pg_cron; 55000 pg_cron is missing; 55P03, 53400, 0A000 as task_schedule.$$;

COMMENT ON FUNCTION coord.cron_install(text, text) IS
$$Has pg_cron run sweep() and purge() as the calling role, where there is no background worker, and delete what it notes of the runs of coord's jobs, which it keeps for good itself, after a day. Calling it again replaces what was installed. For the extension's owner, and roles to which that grants EXECUTE, also of sweep() and purge().
sweep_schedule: when to sweep; NULL is every 10 seconds, and every minute with a pg_cron older than 1.5. purge_schedule: when to purge; NULL is every hour.
Returns the ids of pg_cron's jobs, as sweep, purge and trim. What it notes of the runs of other roles' schedules can be deleted only by a superuser's job.
Errors: as task_schedule.$$;

COMMENT ON FUNCTION coord.cron_remove() IS
$$Takes away what cron_install of the calling role has installed. Schedules of tasks stay. Takes no arguments.
Returns how many of pg_cron's jobs there were.
Errors: as task_unschedule.$$;

COMMENT ON FUNCTION coord.sweep() IS
$$Does now what the background worker does: expires leases and agents, gives back what they held, renews leases, delivers events. Needed where there is no worker. Called by the extension's owner or a superuser it is done in this transaction, and what it changes is locked until its end; for any other role the worker does it, and the call waits for that, ten seconds at most. Takes no arguments.
Returns how many: leases_expired, agents_expired, tasks_requeued, leases_renewed, events_delivered.
Errors: 25001 there is no worker, the role is not the owner's, and the call is not a statement of its own, outside of a transaction block: SELECT coord.sweep().$$;

COMMENT ON FUNCTION coord.version() IS
$$The version of the loaded library. Takes no arguments.
Returns, for example, 1.1.$$;

-- What every role is given that is given anything.  One that did not have it before has lost its
-- grants, by DROP OWNED for example; they do not come back, though it may have got USAGE again.
CREATE OR REPLACE FUNCTION coord.grant_to(role name) RETURNS oid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	role_oid oid := (SELECT oid FROM pg_roles WHERE rolname = role);
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed';
	ELSIF role_oid IS NULL THEN
		RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object';
	END IF;
	-- GRANT itself does not wait for another one of the same object: it fails
	LOCK TABLE coord.queue_grant IN SHARE ROW EXCLUSIVE MODE;
	IF NOT EXISTS (SELECT FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'coord' AND a.grantee = role_oid) OR
		NOT EXISTS (SELECT FROM pg_proc p, aclexplode(p.proacl) a WHERE p.oid = 'coord.version()'::regprocedure AND a.grantee = role_oid)
	THEN
		DELETE FROM coord.queue_grant g WHERE g.role = role_oid;
		DELETE FROM coord.monitor_grant g WHERE g.role = role_oid;
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA coord TO %I', role);
	EXECUTE format('GRANT SELECT ON coord.agent, coord.lease, coord.task, coord.dead_letter, coord.event, '
		'coord.queue TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION coord.setting(text), coord.version(), '
		'coord.backoff(interval, interval, integer, uuid), '
		'coord.attachment_ended_at(uuid, bigint, timestamptz), coord.last_beat(uuid), coord.beats_since(), '
		'coord.is_granted(), coord.is_monitor(), coord.sees_payloads(), coord.sees_all_queues(), '
		'coord.seen_queues(), coord.shown(anyelement), coord.count_tasks(text), '
		'coord.queue_stats(text, timestamptz), coord.blocked_by(uuid), coord.history(uuid), coord.dashboard() TO %I', role);
	RETURN role_oid;
END
$$;

-- With an old snapshot, a grant or a revocation is a serialization failure.
CREATE TRIGGER grants_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coord.monitor_grant
FOR EACH STATEMENT EXECUTE FUNCTION coord.grants_changed();

-- What is new belongs to whom the rest belongs to.
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT format('ALTER %s %s OWNER TO %I', o.kind, o.name, pg_get_userbyid(r.relowner))
		FROM pg_class r, (
			SELECT 'TABLE', oid::regclass::text FROM pg_class
			WHERE relnamespace = 'coord'::regnamespace AND relname ~ '^(task_(finished|partition)|queue_count|dependant_check)' AND relkind IN ('r', 'p')
			UNION ALL
			SELECT 'TYPE', oid::regtype::text FROM pg_type
			WHERE typnamespace = 'coord'::regnamespace AND typname IN ('queue_stat', 'history_entry')
			UNION ALL
			SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
			WHERE pronamespace = 'coord'::regnamespace
				AND proname ~ '^(purge|shown|count_tasks|queue_stats|blocked_by|history|dashboard|task_(un)?schedule|cron_)') o (kind, name)
		WHERE r.oid = 'coord.task_live'::regclass
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;

-- Nobody has a right to what is new but the owner, whatever default privileges say.
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		WITH object (kind, name, owner, acl) AS (
			SELECT 'TABLE', oid::regclass::text, relowner, coalesce(relacl, acldefault('r', relowner))
			FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relname ~ '^(task_(finished|partition)|queue_count|dependant_check)'
				AND relkind IN ('r', 'p')
			UNION ALL
			SELECT 'FUNCTION', oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
			FROM pg_proc WHERE pronamespace = 'coord'::regnamespace
				AND proname ~ '^(purge|shown|count_tasks|queue_stats|blocked_by|history|dashboard|task_(un)?schedule|cron_)'
		)
		SELECT DISTINCT format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
		FROM object o, aclexplode(o.acl) a WHERE a.grantee <> o.owner
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;

-- Who could see is given what shows more, and who could create tasks, what creates them again.
DO $$
DECLARE
	role name;
BEGIN
	FOR role IN
		SELECT DISTINCT pg_get_userbyid(a.grantee)
		FROM pg_proc p, aclexplode(p.proacl) a
		WHERE p.oid = 'coord.version()'::regprocedure AND a.grantee NOT IN (0, p.proowner)
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION coord.shown(anyelement), coord.count_tasks(text), coord.queue_stats(text, timestamptz), '
			'coord.blocked_by(uuid), coord.history(uuid), coord.dashboard() TO %I', role);
	END LOOP;
	FOR role IN
		SELECT DISTINCT pg_get_userbyid(a.grantee)
		FROM pg_proc p, aclexplode(p.proacl) a
		WHERE p.oid = 'coord.task_create(text, jsonb, text, integer, timestamptz, integer, text, uuid[], text, uuid)'::regprocedure
			AND a.grantee NOT IN (0, p.proowner)
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION coord.task_schedule(text, text, text, jsonb, text, integer, integer, text, boolean), '
			'coord.task_unschedule(text) TO %I', role);
	END LOOP;
END
$$;

-- Where a publication is FOR ALL TABLES, no statement may change rows that have no identity.
-- ALTER TABLE would have to wait until nobody is at any of these tables.
UPDATE pg_class c SET relreplident = 'f'
WHERE relnamespace = 'coord'::regnamespace AND relkind = 'r' AND relname <> 'event_inbox'
	AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary);
