-- What becomes of a task that fails, or whose claim runs out: it waits longer
-- after each attempt, is dead after the last, and can be driven again.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('retry-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('retry-bob', heartbeat_timeout => '10 min') \gset

-- The wait after attempt n is backoff_base * 2^(n-1), at most backoff_max, less
-- up to a quarter.
SELECT backoff_base, backoff_max, max_attempts
FROM coord.queue_set('retry-bounds', backoff_base => '1 min', backoff_max => '10 min', max_attempts => 100);
CREATE FUNCTION pg_temp.wait_after(agent uuid, queue text, attempt integer, OUT at_least interval, OUT at_most interval)
LANGUAGE plpgsql AS $$
DECLARE
	task coord.task;
	called timestamptz;
BEGIN
	PERFORM coord.task_create('t', queue => queue);
	FOR i IN 1 .. attempt LOOP
		SELECT * INTO STRICT task FROM coord.task_claim(agent, queue);
		called := clock_timestamp();
		task := coord.task_fail(task.id, task.fencing_token, retry_in => CASE WHEN i < attempt THEN interval '0' END);
		at_most := task.run_at - called;
		at_least := task.run_at - clock_timestamp();
	END LOOP;
	ASSERT task.state = 'pending' AND task.attempts = attempt;
END
$$;
SELECT attempt, longest,
	bool_and(at_most >= longest * 0.75 AND at_least <= longest) AS within_bounds,
	count(DISTINCT round(extract(epoch FROM at_least))) > 1 AS with_jitter
FROM (VALUES (1, interval '1 min'), (2, '2 min'), (3, '4 min'), (4, '8 min'), (5, '10 min'), (6, '10 min'), (70, '10 min')) v (attempt, longest),
	generate_series(1, 8) n, pg_temp.wait_after(:'ann', 'retry-bounds', attempt + 0 * n)
GROUP BY attempt, longest ORDER BY attempt;

-- A queue may have no wait at all.
SELECT backoff_base FROM coord.queue_set('retry-at-once', backoff_base => '0');
SELECT at_least <= '0 s' AS at_once FROM pg_temp.wait_after(:'ann', 'retry-at-once', 3);

-- Each attempt has a new, higher token; after the last one the task is dead.
SELECT id FROM coord.task_create('t', '{"n": 1}', 'retry-dead', max_attempts => 2, resource_key => 'retry-dead-key') \gset
SELECT attempts AS a1, fencing_token AS t1 FROM coord.task_claim(:'ann', 'retry-dead') \gset
SELECT state, attempts, max_attempts, error FROM coord.task_fail(:'id', :t1, 'first', '0 s');
SELECT attempts AS a2, fencing_token AS t2 FROM coord.task_claim(:'bob', 'retry-dead') \gset
SELECT :a1 AS first_attempt, :a2 AS second_attempt, :t2 > :t1 AS higher_token;
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s)', :'id', :t1));
SELECT payload, state, attempts, error, result, finished_at IS NOT NULL AS finished
FROM coord.task_fail(:'id', :t2, 'second', '1 hour');
SELECT state, error FROM coord.dead_letter WHERE id = :'id';
SELECT (SELECT d FROM coord.dead_letter d WHERE id = :'id')::text = (SELECT t FROM coord.task t WHERE id = :'id')::text AS same_row;
SELECT state FROM coord.lease WHERE resource_key = 'retry-dead-key';
SELECT count(*) FROM coord.dead_letter WHERE state <> 'dead';
SELECT count(*) FROM coord.task WHERE id = :'id';

-- That is announced to all who follow the tasks.
SELECT recipient_id, payload->>'queue' AS queue, payload->'attempts' AS attempts, payload->>'error' AS error,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(payload) key) AS members
FROM coord.event_list(channel => 'coord.tasks', type => 'task.dead', max_events => 10000) WHERE payload->>'task_id' = :'id';

-- A dead task is over.
SELECT id FROM coord.task_claim(:'ann', 'retry-dead');
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :t2));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s)', :'id', :t2));
CALL pg_temp.attempt(format('SELECT coord.task_cancel(%L)', :'id'));

-- Driven again, it is claimable at once, with no attempts; its place in the
-- dead letters is gone.
SELECT coord.task_redrive(:'id');
SELECT state, attempts, max_attempts, payload, agent_id, fencing_token, finished_at, run_at <= clock_timestamp() AS claimable
FROM coord.task WHERE id = :'id';
SELECT count(*) FROM coord.dead_letter WHERE id = :'id';
SELECT attempts, fencing_token > :t2 AS higher_token, fencing_token AS token FROM coord.task_claim(:'ann', 'retry-dead') \gset
\echo attempts :attempts, higher token :higher_token
SELECT state FROM coord.task_complete(:'id', :token);
-- Only a dead one can be.
CALL pg_temp.attempt(format('SELECT coord.task_redrive(%L)', :'id'));
SELECT id FROM coord.task_create('t', queue => 'retry-dead') \gset
CALL pg_temp.attempt(format('SELECT coord.task_redrive(task_id => %L)', :'id'));
SELECT state FROM coord.task_cancel(:'id');
CALL pg_temp.attempt(format('SELECT coord.task_redrive(task_id => %L)', :'id'));

-- A queue's dead letters are driven again together, those of others are not.
CREATE FUNCTION pg_temp.kill_one(agent uuid, queue text) RETURNS uuid LANGUAGE sql AS $$
	SELECT coord.task_create('t', queue => queue, max_attempts => 1);
	SELECT (coord.task_fail(id, fencing_token)).id FROM coord.task_claim(agent, queue);
$$;
SELECT count(pg_temp.kill_one(:'ann', 'retry-queue-' || n % 2)) FROM generate_series(1, 6) n;
SELECT name, pending, dead FROM coord.queue WHERE name LIKE 'retry-queue-_' ORDER BY name;
SELECT coord.task_redrive(queue => 'retry-queue-0');
SELECT coord.task_redrive(queue => 'retry-queue-0');
SELECT name, pending, dead FROM coord.queue WHERE name LIKE 'retry-queue-_' ORDER BY name;
SELECT count(*) FROM coord.task_claim(:'ann', 'retry-queue-0', max_tasks => 10);
-- With neither argument, all there are.
BEGIN;
SELECT count(*) AS dead FROM coord.dead_letter \gset
SELECT coord.task_redrive() = :dead AS all_of_them;
SELECT count(*) FROM coord.dead_letter;
ROLLBACK;
SELECT name, pending, dead FROM coord.queue WHERE name = 'retry-queue-1';

-- A claim that has run out is pending for whoever looks, at the run_at that the
-- sweep will write; in the open transaction no other sweep sees it.
CREATE TEMP TABLE seen AS SELECT * FROM coord.task WHERE false;
SELECT backoff_base FROM coord.queue_set('retry-seen', backoff_base => '8 min');
BEGIN;
SELECT id FROM coord.task_create('t', queue => 'retry-seen', resource_key => 'retry-seen-key') \gset
SELECT * FROM coord.task_claim(:'ann', 'retry-seen', lease_ttl => '100 ms') \gset c_
SELECT :'c_state' AS state_when_claimed;
CALL pg_temp.wait_for(:'c_lease_expires_at');
SELECT state, attempts, agent_id, lease_id, fencing_token, lease_expires_at, claimed_at, error, resource_key,
	run_at - :'c_lease_expires_at' BETWEEN '3 min 45 s' AND '5 min' AS backed_off
FROM coord.task WHERE id = :'id';
SELECT pending, scheduled, claimed, dead FROM coord.queue WHERE name = 'retry-seen';
-- Its holder is refused.
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s)', :'id', :c_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :c_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s)', :'id', :c_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.task_release(%L, %s)', :'id', :c_fencing_token));
INSERT INTO seen SELECT * FROM coord.task WHERE id = :'id';
SELECT (SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(s) key) AS members, (s->>'tasks_requeued')::int > 0 AS requeued
FROM coord.sweep() s;
SELECT (SELECT s FROM seen s WHERE id = :'id')::text = (SELECT t FROM coord.task t WHERE id = :'id')::text AS as_it_was_seen;
COMMIT;
SELECT (SELECT s FROM seen s WHERE id = :'id')::text = (SELECT t FROM coord.task t WHERE id = :'id')::text AS as_it_was_seen;

-- Its old holder is told, and so are all who follow the tasks.
SELECT channel, payload->>'reason' AS reason, payload->'attempts' AS attempts, payload->>'queue' AS queue,
	payload->>'agent_id' = :'ann' AS of_agent, (payload->>'run_at')::timestamptz = run_at AS same_run_at,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(e.payload) key) AS members
FROM coord.event_list(recipient_id => :'ann', type => 'task.requeued') e, LATERAL (SELECT run_at FROM coord.task WHERE id = :'id') t
WHERE payload->>'task_id' = :'id';

-- So is one that was the last attempt's: dead since the very instant.
BEGIN;
SELECT id FROM coord.task_create('t', queue => 'retry-seen-dead', max_attempts => 1) \gset
SELECT * FROM coord.task_claim(:'ann', 'retry-seen-dead', lease_ttl => '100 ms') \gset d_
CALL pg_temp.wait_for(:'d_lease_expires_at');
SELECT state, attempts, error, finished_at = :'d_lease_expires_at' AS on_time FROM coord.dead_letter WHERE id = :'id';
SELECT pending, claimed, dead FROM coord.queue WHERE name = 'retry-seen-dead';
INSERT INTO seen SELECT * FROM coord.task WHERE id = :'id';
SELECT coord.sweep() IS NOT NULL AS swept;
SELECT (SELECT s FROM seen s WHERE id = :'id')::text = (SELECT t FROM coord.task t WHERE id = :'id')::text AS as_it_was_seen;
COMMIT;
SELECT pending, claimed, dead FROM coord.queue WHERE name = 'retry-seen-dead';
SELECT payload->>'error' AS error FROM coord.event_list(channel => 'coord.tasks', type => 'task.dead', max_events => 10000)
WHERE payload->>'task_id' = :'id';

-- Such a one can be driven again before any sweep, by its id or its queue,
BEGIN;
SELECT id FROM coord.task_create('t', queue => 'retry-unswept', max_attempts => 1) \gset
SELECT lease_expires_at FROM coord.task_claim(:'ann', 'retry-unswept', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
SELECT coord.task_redrive(:'id');
SELECT state, attempts FROM coord.task WHERE id = :'id';
SELECT lease_expires_at FROM coord.task_claim(:'ann', 'retry-unswept', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
SELECT coord.task_redrive(queue => 'retry-unswept');
SELECT state, attempts FROM coord.task WHERE id = :'id';
-- but not cancelled.
SELECT lease_expires_at FROM coord.task_claim(:'ann', 'retry-unswept', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
CALL pg_temp.attempt(format('SELECT coord.task_cancel(%L)', :'id'));
ROLLBACK;

-- A claimant needs no sweep either: it finds what has run out and is due.
SELECT backoff_base FROM coord.queue_set('retry-help', backoff_base => '0');
BEGIN;
SELECT id FROM coord.task_create('t', queue => 'retry-help') \gset
SELECT fencing_token AS token, lease_expires_at FROM coord.task_claim(:'ann', 'retry-help', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
SELECT id = :'id' AS same_task, attempts, agent_id = :'bob' AS is_bobs, fencing_token > :token AS higher_token, error
FROM coord.task_claim(:'bob', 'retry-help');
ROLLBACK;
BEGIN;
SELECT id FROM coord.task_create('t', queue => 'retry-help') \gset
SELECT lease_expires_at FROM coord.task_claim(:'ann', task_id => :'id', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
SELECT attempts, agent_id = :'bob' AS is_bobs FROM coord.task_claim(:'bob', task_id => :'id');
ROLLBACK;

-- The end of the agent ends its claims before their leases do.
BEGIN;
SELECT id AS tom FROM coord.agent_register('retry-tom', heartbeat_timeout => '10 min') \gset
SELECT id FROM coord.task_create('t', queue => 'retry-agent') \gset
SELECT id AS last FROM coord.task_create('t', queue => 'retry-agent', max_attempts => 1) \gset
SELECT fencing_token AS token FROM coord.task_claim(:'tom', task_id => :'id', lease_ttl => '10 min') \gset
SELECT state FROM coord.task_claim(:'tom', task_id => :'last', lease_ttl => '10 min');
SELECT last_heartbeat_at + heartbeat_timeout AS ends_at FROM coord.agent_register('retry-tom', heartbeat_timeout => '100 ms') \gset
CALL pg_temp.wait_for(:'ends_at');
SELECT state, attempts, error, run_at - :'ends_at' BETWEEN '750 ms' AND '1 s' AS backed_off FROM coord.task WHERE id = :'id';
SELECT state, attempts, error, finished_at = :'ends_at' AS on_time FROM coord.task WHERE id = :'last';
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s)', :'id', :token));
INSERT INTO seen SELECT * FROM coord.task WHERE id IN (:'id', :'last');
SELECT coord.sweep() IS NOT NULL AS swept;
SELECT s::text = t::text AS as_it_was_seen FROM seen s JOIN coord.task t USING (id) WHERE id = :'id';
SELECT s::text = t::text AS as_it_was_seen FROM seen s JOIN coord.task t USING (id) WHERE id = :'last';
COMMIT;
SELECT payload->>'reason' AS reason FROM coord.event_list(recipient_id => :'tom');

-- By itself, too: the worker gives back what has run out, and another claims it.
SELECT backoff_base FROM coord.queue_set('retry-itself', backoff_base => '50 ms');
SELECT id FROM coord.task_create('t', queue => 'retry-itself') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'retry-itself', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload->>%L = %L)',
	'task.requeued', 'task_id', :'id'));
SELECT run_at FROM coord.task WHERE id = :'id' \gset
CALL pg_temp.wait_for(:'run_at');
SELECT attempts, fencing_token > :token AS higher_token, error FROM coord.task_claim(:'bob', 'retry-itself');
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :token));
SELECT state, agent_id = :'bob' AS is_bobs FROM coord.task WHERE id = :'id';
