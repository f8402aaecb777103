-- Why a task is not running (blocked_by), what has become of it (history), and what its
-- queue has done (queue_stats).
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers
CREATE FUNCTION pg_temp.why(task uuid) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_split_to_table(pg_temp.mask(coord.blocked_by(task)), '\n')
$$;
CREATE FUNCTION pg_temp.life(task uuid) RETURNS TABLE (what text, attempt integer, agent text, detail text) LANGUAGE sql AS $$
	SELECT h.what, h.attempt, (SELECT name FROM coord.agent a WHERE a.id = h.agent_id), pg_temp.mask(h.detail::text) FROM coord.history(task) h
$$;

SELECT id AS ann FROM coord.agent_register('life-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('life-bob', heartbeat_timeout => '10 min') \gset

-- Nothing keeps it, but others come first: of higher priority, or older.
SELECT id AS first FROM coord.task_create('t', queue => 'life', priority => 1) \gset
SELECT id AS second FROM coord.task_create('t', queue => 'life') \gset
SELECT id AS third FROM coord.task_create('t', queue => 'life') \gset
SELECT n, pg_temp.why(id) FROM (VALUES (1, :'first'::uuid), (2, :'second'), (3, :'third')) t (n, id);

-- It runs.
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'life') \gset
SELECT pg_temp.why(:'first');
SELECT pg_temp.why(:'second');
SELECT pg_temp.life(:'first');

-- It failed, and backs off.
SELECT state FROM coord.task_fail(:'first', :token, 'no route to host', '1 hour');
SELECT pg_temp.why(:'first');
SELECT pg_temp.life(:'first');

-- Its time, its queue, its queue's limit and its resource; several at once.
SELECT paused, max_claimed FROM coord.queue_set('life', paused => true, max_claimed => 1);
SELECT pg_temp.why(:'first');
SELECT paused FROM coord.queue_resume('life');
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'life', task_id => :'second') \gset
SELECT pg_temp.why(:'third');
SELECT state FROM coord.task_complete(:'second', :token, '{"ok": true}');
SELECT resource_key FROM coord.lease_acquire('life-door', :'bob', '5 min');
SELECT id AS fourth FROM coord.task_create('t', queue => 'life', resource_key => 'life-door') \gset
SELECT pg_temp.why(:'fourth');

-- What it depends on.
SELECT array_agg(id) AS all_of_them FROM (SELECT (coord.task_create('t', queue => 'life-parts')).id FROM generate_series(1, 7)) t \gset
SELECT id AS whole FROM coord.task_create('t', queue => 'life-whole', depends_on => :'all_of_them') \gset
SELECT pg_temp.why(:'whole');
SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task_claim(:'ann', 'life-parts', max_tasks => 6);
SELECT pg_temp.why(:'whole');
SELECT count(coord.task_cancel(id)) FROM coord.task WHERE queue = 'life-parts' AND state = 'pending';
SELECT pg_temp.why(:'whole');
SELECT pg_temp.life(:'whole');

-- The end.
SELECT pg_temp.why(:'second');
SELECT pg_temp.life(:'second');
SELECT id AS doomed FROM coord.task_create('t', queue => 'life-doom', max_attempts => 1) \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'life-doom') \gset
SELECT state FROM coord.task_fail(:'doomed', :token, 'beyond repair');
SELECT pg_temp.why(:'doomed');
SELECT pg_temp.life(:'doomed');

-- A claim that ran out is told by the event of its loss.
SELECT backoff_base FROM coord.queue_set('life-lost', backoff_base => '0');
SELECT id AS lost FROM coord.task_create('t', queue => 'life-lost') \gset
SELECT lease_expires_at AS at FROM coord.task_claim(:'bob', 'life-lost', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload ->> %L = %L)', 'task.requeued', 'task_id', :'lost'));
SELECT pg_temp.why(:'lost');
SELECT what, attempt, agent, detail::jsonb - 'run_at' AS detail FROM pg_temp.life(:'lost');

-- Whatever others send on that channel is no harm.
SELECT type FROM coord.event_send('task.requeued', jsonb_build_object('task_id', :'lost', 'queue', 'life-lost', 'reason', 'lease_expired', 'attempts', 'many', 'agent_id', 'nobody'), channel => 'coord.tasks');
SELECT type FROM coord.event_send('task.dead', '"text"', channel => 'coord.tasks');
SELECT what, attempt, agent, detail::jsonb - 'run_at' AS detail FROM pg_temp.life(:'lost');

-- What a queue has done: only its own, only since then.
SELECT queue, since < clock_timestamp() - interval '59 min' AS an_hour, completed, cancelled, dead, failed_attempts, throughput > 0 AS throughput,
	waiting_p50 >= '0' AND waiting_p50 <= waiting_p95 AND waiting_p95 <= waiting_p99 AS waiting,
	running_p50 >= '0' AND running_p50 <= running_p95 AND running_p95 <= running_p99 AS running
FROM coord.queue_stats() WHERE queue LIKE 'life%' ORDER BY queue;
SELECT completed, dead, failed_attempts FROM coord.queue_stats('life-doom');
SELECT completed, dead, failed_attempts FROM coord.queue_stats('life-doom', clock_timestamp());
SELECT completed, throughput, waiting_p50 FROM coord.queue_stats('default', clock_timestamp());

-- The percentiles are those of the durations.
SELECT count(coord.task_create('t', queue => 'life-timed', run_at => clock_timestamp() - n * interval '1 min')) FROM generate_series(1, 100) n;
SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task_claim(:'ann', 'life-timed', max_tasks => 100);
SELECT completed, date_trunc('minute', waiting_p50) AS p50, date_trunc('minute', waiting_p95) AS p95, date_trunc('minute', waiting_p99) AS p99, running_p99 < '1 min' AS quick
FROM coord.queue_stats('life-timed');

-- Misuse.
CALL pg_temp.attempt('SELECT coord.blocked_by(NULL)');
CALL pg_temp.attempt('SELECT coord.blocked_by(gen_random_uuid())');
CALL pg_temp.attempt('SELECT coord.history(NULL)');
CALL pg_temp.attempt('SELECT coord.history(gen_random_uuid())');
CALL pg_temp.attempt('SELECT coord.queue_stats(''life-none'')');
CALL pg_temp.attempt('SELECT coord.queue_stats('''')');
CALL pg_temp.attempt('SELECT coord.queue_stats(since => ''infinity'')');
CALL pg_temp.attempt('SELECT coord.queue_stats(since => clock_timestamp() + interval ''1 hour'')');
