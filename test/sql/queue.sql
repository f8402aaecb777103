-- Queues: how they come into being, their settings, and the numbers that they
-- show.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('queue-ann', heartbeat_timeout => '10 min') \gset

-- Queue "default" always is.
SELECT name, paused, max_attempts, lease_ttl, backoff_base, backoff_max, max_claimed, retention FROM coord.queue WHERE name = 'default' \gx

-- Any other comes into being with its first task, with the same settings,
SELECT count(*) FROM coord.queue WHERE name = 'queue-task';
SELECT state FROM coord.task_create('t', queue => 'queue-task');
SELECT name, paused, max_attempts, lease_ttl, backoff_base, backoff_max, max_claimed, retention,
	pending, scheduled, blocked, claimed, dead FROM coord.queue WHERE name = 'queue-task' \gx

-- or when it is set.
SELECT name, paused, max_attempts, pending, oldest_pending_age FROM coord.queue_set('queue-set');
SELECT name, paused, max_attempts, lease_ttl, backoff_base, backoff_max, max_claimed, retention
FROM coord.queue_set('queue-set', paused => true, max_attempts => 7, lease_ttl => '2 min', backoff_base => '3 s',
	backoff_max => '4 min', max_claimed => 5, retention => '6 days') \gx
-- NULL leaves a setting as it is.
SELECT name, paused, max_attempts, lease_ttl, backoff_base, backoff_max, max_claimed, retention
FROM coord.queue_set('queue-set', max_attempts => 8) \gx
SELECT max_attempts, paused FROM coord.queue_set('queue-set', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- 0 means no limit.
SELECT max_claimed FROM coord.queue_set('queue-set', max_claimed => 0);

-- The defaults of TTL and retention are settings, shown as they are now.
SET coord.default_lease_ttl = '8 s';
SET coord.task_retention = '2d';
SELECT lease_ttl, retention FROM coord.queue WHERE name = 'queue-task';
SELECT lease_ttl, retention FROM coord.queue WHERE name = 'queue-set';
RESET coord.default_lease_ttl;
RESET coord.task_retention;

-- max_attempts is that of new tasks which do not say.
SELECT id, max_attempts FROM coord.task_create('t', queue => 'queue-attempts') \gset
SELECT max_attempts FROM coord.queue_set('queue-attempts', max_attempts => 2);
SELECT max_attempts FROM coord.task_create('t', queue => 'queue-attempts');
SELECT max_attempts FROM coord.task_create('t', queue => 'queue-attempts', max_attempts => 9);
SELECT max_attempts = :max_attempts AS as_created FROM coord.task WHERE id = :'id';

-- The backoff is that of the moment of failure.
SELECT id FROM coord.task_create('t', queue => 'queue-backoff') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'queue-backoff') \gset
SELECT backoff_base, backoff_max FROM coord.queue_set('queue-backoff', backoff_base => '1 hour', backoff_max => '40 min');
SELECT run_at - clock_timestamp() BETWEEN '29 min' AND '40 min' AS capped FROM coord.task_fail(:'id', :token);

-- Each unfinished task counts in one column, the dead in theirs, the finished
-- in none.
SELECT count(coord.task_create('t', to_jsonb(n), 'queue-count')) FROM generate_series(1, 10) n;
SELECT count((coord.task_complete(id, fencing_token)).id) FROM coord.task_claim(:'ann', 'queue-count', max_tasks => 2);
SELECT count(*) FROM coord.task_claim(:'ann', 'queue-count', max_tasks => 3);
SELECT state FROM coord.task_create('t', queue => 'queue-count', run_at => clock_timestamp() + '1 hour');
SELECT id FROM coord.task_create('t', queue => 'queue-count', run_at => clock_timestamp() + '1 hour') \gset
SELECT state FROM coord.task_create('t', queue => 'queue-count', depends_on => ARRAY[:'id']::uuid[]);
SELECT (coord.task_cancel(id)).state FROM coord.task WHERE queue = 'queue-count' AND payload = '10';
SELECT state FROM coord.task_create('t', queue => 'queue-count', priority => 1, max_attempts => 1);
SELECT (coord.task_fail(id, fencing_token)).state FROM coord.task_claim(:'ann', 'queue-count');
SELECT pending, scheduled, blocked, claimed, dead FROM coord.queue WHERE name = 'queue-count';
SELECT state, count(*) FROM coord.task WHERE queue = 'queue-count' GROUP BY state ORDER BY state;

-- The age is that of what has been claimable longest.
SELECT state FROM coord.task_create('t', queue => 'queue-age', run_at => clock_timestamp() + '1 hour');
SELECT pending, scheduled, oldest_pending_age FROM coord.queue WHERE name = 'queue-age';
SELECT state FROM coord.task_create('t', queue => 'queue-age', run_at => clock_timestamp() - interval '1 hour');
SELECT state FROM coord.task_create('t', queue => 'queue-age', run_at => clock_timestamp() - interval '2 hours');
SELECT pending, scheduled, oldest_pending_age BETWEEN '2 hours' AND '2 hours 10 s' AS two_hours FROM coord.queue WHERE name = 'queue-age';

-- What becomes due is pending from that very instant.
BEGIN;
SELECT run_at FROM coord.task_create('t', queue => 'queue-due', run_at => clock_timestamp() + '100 ms') \gset
CALL pg_temp.wait_for(:'run_at');
SELECT pending, scheduled FROM coord.queue WHERE name = 'queue-due';
COMMIT;

-- Pausing and resuming are idempotent.
SELECT paused FROM coord.queue_pause('queue-task');
SELECT paused FROM coord.queue_pause('queue-task');
SELECT name FROM coord.queue WHERE paused AND name LIKE 'queue-t%';
SELECT paused FROM coord.queue_resume('queue-task');
SELECT paused FROM coord.queue_resume('queue-task');

-- Settings are undone with their transaction; "default" can be set as any other.
BEGIN;
SELECT name, max_attempts FROM coord.queue_set('default', max_attempts => 3);
SELECT paused FROM coord.queue_pause('default');
SELECT max_attempts FROM coord.task_create('t');
SELECT type FROM coord.task_claim(:'ann');
SELECT name FROM coord.queue_set('queue-undone');
ROLLBACK;
SELECT name, paused, max_attempts FROM coord.queue WHERE name IN ('default', 'queue-undone');
