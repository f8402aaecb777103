-- Which task is claimed next: the highest priority, then the earliest run_at,
-- then the oldest; and which ones are not: those of other queues, of paused
-- ones, of those that are full, those not yet due.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('order-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('order-bob', heartbeat_timeout => '10 min') \gset

-- Of one priority and one instant, the oldest is first.
SELECT count(coord.task_create('t', to_jsonb(n), 'order-age', run_at => '2001-01-01')) FROM generate_series(1, 12) n;
SELECT payload FROM coord.task_claim(:'ann', 'order-age');
SELECT payload FROM coord.task_claim(:'ann', 'order-age', max_tasks => 3);
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-age', max_tasks => 100);

-- An earlier run_at is before greater age.
SELECT count(coord.task_create('t', to_jsonb(n), 'order-run-at', run_at => '2001-01-01'::timestamptz - n * interval '1 s'))
FROM generate_series(1, 5) n;
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-run-at', max_tasks => 100);

-- A higher priority is before both; it may be negative, and as far out as an
-- integer can be.
SELECT count(coord.task_create('t', to_jsonb(n), 'order-priority', priority => n, run_at => '2001-01-01'::timestamptz + n * interval '1 s'))
FROM unnest('{0, -1, 7, -2147483648, 2147483647, 3}'::int[]) n;
SELECT payload FROM coord.task_claim(:'ann', 'order-priority');
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-priority', max_tasks => 3);
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-priority', max_tasks => 100);

-- All three together.
SELECT count(coord.task_create('t', to_jsonb(what), 'order-all', priority => prio, run_at => at))
FROM (VALUES (5, 0, '2001-01-02'::timestamptz), (3, 1, '2001-01-02'), (6, 0, '2001-01-02'), (1, 1, '2001-01-01'),
	(4, 0, '2001-01-01'), (2, 1, '2001-01-01'), (7, -1, '2000-01-01')) v (what, prio, at);
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-all', max_tasks => 100);

-- A task that is given back keeps its place.
SELECT count(coord.task_create('t', to_jsonb(n), 'order-back')) FROM generate_series(1, 3) n;
SELECT id, fencing_token AS token FROM coord.task_claim(:'ann', 'order-back') \gset
SELECT payload, state FROM coord.task_release(:'id', :token);
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-back', max_tasks => 100);

-- What is not due is not claimed, however high its priority, until it is; then
-- its priority counts.
SELECT payload, state FROM coord.task_create('t', '3', 'order-due', 9, clock_timestamp() + '1 hour');
SELECT id, run_at FROM coord.task_create('t', '2', 'order-due', 8, clock_timestamp() + '200 ms') \gset
SELECT count(coord.task_create('t', '1', 'order-due')) FROM generate_series(1, 2) n;
CALL pg_temp.wait_for(:'run_at');
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-due', max_tasks => 100);
SELECT payload FROM coord.task_claim(:'ann', 'order-due');
SELECT pending, scheduled, claimed FROM coord.queue WHERE name = 'order-due';

-- A queue's tasks are claimed from that queue alone.
SELECT payload FROM coord.task_create('t', '"one"', 'order-queue-1', priority => 1);
SELECT payload FROM coord.task_create('t', '"two"', 'order-queue-2', priority => 2);
SELECT payload FROM coord.task_claim(:'ann', 'order-queue-1', max_tasks => 10);
SELECT payload FROM coord.task_claim(:'ann', 'order-queue-1', max_tasks => 10);
SELECT payload FROM coord.task_claim(:'ann', 'order-queue-2', max_tasks => 10);
-- Names are told apart to the letter.
SELECT payload FROM coord.task_create('t', '"upper"', 'order-CASE');
SELECT payload FROM coord.task_claim(:'ann', 'order-case');

-- From a paused queue nothing is claimed, but what was claimed goes on.
SELECT count(coord.task_create('t', to_jsonb(n), 'order-pause')) FROM generate_series(1, 3) n;
SELECT payload, id, fencing_token AS token FROM coord.task_claim(:'ann', 'order-pause') \gset
SELECT paused, pending, claimed FROM coord.queue_pause('order-pause');
SELECT payload FROM coord.task_claim(:'ann', 'order-pause');
SELECT id AS next FROM coord.task WHERE queue = 'order-pause' AND payload = '2' \gset
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'next'));
SELECT state FROM coord.task_renew(:'id', :token);
SELECT state FROM coord.task_complete(:'id', :token);
SELECT payload, state FROM coord.task_create('t', '4', 'order-pause');
SELECT paused, pending, claimed FROM coord.queue_resume('order-pause');
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-pause', max_tasks => 100);

-- No more than max_claimed are claimed at once, by one agent or by several.
SELECT max_claimed FROM coord.queue_set('order-max', max_claimed => 2, backoff_base => '1 h', backoff_max => '1 h');
SELECT count(coord.task_create('t', to_jsonb(n), 'order-max')) FROM generate_series(1, 9) n;
SELECT payload, id AS first, fencing_token AS token FROM coord.task_claim(:'ann', 'order-max') \gset
SELECT payload FROM coord.task_claim(:'bob', 'order-max', max_tasks => 100);
SELECT payload FROM coord.task_claim(:'ann', 'order-max');
SELECT id AS third FROM coord.task WHERE queue = 'order-max' AND payload = '3' \gset
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'bob', :'third'));
SELECT claimed, max_claimed FROM coord.queue WHERE name = 'order-max';
-- Every end of a claim makes room: completion,
SELECT state FROM coord.task_complete(:'first', :token);
SELECT payload, id, fencing_token AS token FROM coord.task_claim(:'ann', 'order-max', max_tasks => 100) \gset
\echo :payload
-- failure,
SELECT state FROM coord.task_fail(:'id', :token, retry_in => '1 hour');
SELECT payload, id, fencing_token AS token FROM coord.task_claim(:'ann', 'order-max', max_tasks => 100) \gset
\echo :payload
-- release,
SELECT state FROM coord.task_release(:'id', :token);
SELECT payload, id, fencing_token AS token FROM coord.task_claim(:'ann', 'order-max', max_tasks => 100) \gset
\echo :payload
-- cancelling,
SELECT state FROM coord.task_cancel(:'id');
SELECT payload, id, fencing_token AS token FROM coord.task_claim(:'ann', 'order-max', lease_ttl => '100 ms', max_tasks => 100) \gset
\echo :payload
-- and running out.
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload->>%L = %L)',
	'task.requeued', 'task_id', :'id'));
SELECT payload FROM coord.task_claim(:'ann', 'order-max', max_tasks => 100);
SELECT claimed, max_claimed FROM coord.queue WHERE name = 'order-max';

-- A refused claim takes no room: the resource is held, the task goes on waiting.
SELECT max_claimed FROM coord.queue_set('order-room', max_claimed => 1);
SELECT id AS hold FROM coord.lease_acquire('order-room-key', :'bob', '10 min') \gset
SELECT id FROM coord.task_create('t', '"held"', 'order-room', 1, resource_key => 'order-room-key') \gset
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));
SELECT payload FROM coord.task_claim(:'ann', 'order-room');
SELECT payload, state FROM coord.task_create('t', '"free"', 'order-room');
SELECT payload FROM coord.task_claim(:'ann', 'order-room');

-- A limit that comes later counts what is claimed already.
SELECT count(coord.task_create('t', to_jsonb(n), 'order-late')) FROM generate_series(1, 9) n;
SELECT array_agg(payload) AS five FROM coord.task_claim(:'ann', 'order-late', max_tasks => 5);
SELECT max_claimed, claimed FROM coord.queue_set('order-late', max_claimed => 3);
SELECT payload FROM coord.task_claim(:'ann', 'order-late');
SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task WHERE queue = 'order-late' AND payload <= '3' AND state = 'claimed';
SELECT array_agg(payload) AS one FROM coord.task_claim(:'ann', 'order-late', max_tasks => 100);
-- A higher one makes room at once,
SELECT max_claimed, claimed FROM coord.queue_set('order-late', max_claimed => 4);
SELECT array_agg(payload) AS one FROM coord.task_claim(:'ann', 'order-late', max_tasks => 100);
-- a lower one none before enough claims have ended, whichever end first,
SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task WHERE queue = 'order-late' AND payload <= '5' AND state = 'claimed';
SELECT max_claimed, claimed FROM coord.queue_set('order-late', max_claimed => 2);
SELECT payload FROM coord.task_claim(:'ann', 'order-late');
SELECT claimed FROM coord.queue WHERE name = 'order-late';
-- and 0 takes the limit away.
SELECT max_claimed FROM coord.queue_set('order-late', max_claimed => 0);
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-late', max_tasks => 100);

-- A limit that is lowered while the later claims run is kept as well.
SELECT max_claimed FROM coord.queue_set('order-lower', max_claimed => 3);
SELECT count(coord.task_create('t', to_jsonb(n), 'order-lower')) FROM generate_series(1, 9) n;
SELECT array_agg(payload) FROM coord.task_claim(:'ann', 'order-lower', max_tasks => 100);
SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task WHERE queue = 'order-lower' AND payload < '3' AND state = 'claimed';
SELECT max_claimed, claimed FROM coord.queue_set('order-lower', max_claimed => 1);
SELECT payload FROM coord.task_claim(:'ann', 'order-lower');
SELECT claimed <= max_claimed AS within_limit FROM coord.queue WHERE name = 'order-lower';
