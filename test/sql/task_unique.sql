-- A unique_key names at most one unfinished task of its queue: asked for again,
-- that task is given, unchanged.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('unique-ann', heartbeat_timeout => '10 min') \gset

SELECT id, created_at, run_at FROM coord.task_create('first', '{"n": 1}', 'unique-q', priority => 1, unique_key => 'k') \gset
SELECT id = :'id' AS same_task, type, payload, priority, state, attempts, max_attempts, resource_key, depends_on,
	created_at = :'created_at' AS same_creation, run_at = :'run_at' AS same_run_at
FROM coord.task_create('second', '{"n": 2}', 'unique-q', priority => 2, run_at => '2001-01-01', max_attempts => 9,
	unique_key => 'k', resource_key => 'r', id => '0009e000-0000-4000-8000-000000000001');
SELECT count(*) FROM coord.task WHERE queue = 'unique-q';

-- Another queue, or another key, is another task; so is none.
SELECT id <> :'id' AS another FROM coord.task_create('t', queue => 'unique-q2', unique_key => 'k');
SELECT id <> :'id' AS another FROM coord.task_create('t', queue => 'unique-q', unique_key => 'K');
SELECT id <> :'id' AS another FROM coord.task_create('t', queue => 'unique-q');
SELECT count(DISTINCT (coord.task_create('t', to_jsonb(n), 'unique-none', unique_key => NULL)).id) FROM generate_series(1, 3) n;

-- It is in use while its task is claimed, waits for a retry, or is blocked.
SELECT fencing_token AS token FROM coord.task_claim(:'ann', task_id => :'id') \gset
SELECT id = :'id' AS same_task, state, fencing_token = :token AS same_claim FROM coord.task_create('t', queue => 'unique-q', unique_key => 'k');
SELECT state FROM coord.task_fail(:'id', :token, retry_in => '0 s');
SELECT id = :'id' AS same_task, state, attempts FROM coord.task_create('t', queue => 'unique-q', unique_key => 'k');
SELECT id AS blocked FROM coord.task_create('t', queue => 'unique-q', unique_key => 'b', depends_on => ARRAY[:'id']::uuid[]) \gset
SELECT id = :'blocked' AS same_task, state FROM coord.task_create('t', queue => 'unique-q', unique_key => 'b');

-- It is free again when its task is completed,
SELECT fencing_token AS token FROM coord.task_claim(:'ann', task_id => :'id') \gset
SELECT state FROM coord.task_complete(:'id', :token);
SELECT id <> :'id' AS another, id AS second, state FROM coord.task_create('t', queue => 'unique-q', unique_key => 'k') \gset
\echo :another :state
-- cancelled,
SELECT state FROM coord.task_cancel(:'second');
SELECT id <> :'second' AS another, id AS third, state FROM coord.task_create('t', queue => 'unique-q', unique_key => 'k', max_attempts => 1) \gset
\echo :another :state
-- or dead.
SELECT fencing_token AS token FROM coord.task_claim(:'ann', task_id => :'third') \gset
SELECT state FROM coord.task_fail(:'third', :token);
SELECT id <> :'third' AS another, id AS fourth, state FROM coord.task_create('t', queue => 'unique-q', unique_key => 'k') \gset
\echo :another :state
SELECT count(*), count(*) FILTER (WHERE state = 'pending') AS pending FROM coord.task WHERE queue = 'unique-q' AND unique_key = 'k';

-- Then the dead one cannot be driven again before the key is free.
CALL pg_temp.attempt(format('SELECT coord.task_redrive(%L)', :'third'));
SELECT coord.task_redrive(queue => 'unique-q');
SELECT state FROM coord.task WHERE id = :'third';
SELECT state FROM coord.task_cancel(:'fourth');
SELECT coord.task_redrive(:'third');
SELECT id = :'third' AS same_task, state FROM coord.task_create('t', queue => 'unique-q', unique_key => 'k');

-- Of two dead ones with one key only one is driven again.
SELECT id AS d1 FROM coord.task_create('t', queue => 'unique-dead', unique_key => 'k', max_attempts => 1) \gset
SELECT (coord.task_fail(id, fencing_token)).state FROM coord.task_claim(:'ann', 'unique-dead');
SELECT id AS d2 FROM coord.task_create('t', queue => 'unique-dead', unique_key => 'k', max_attempts => 1) \gset
SELECT (coord.task_fail(id, fencing_token)).state FROM coord.task_claim(:'ann', 'unique-dead');
SELECT dead FROM coord.queue WHERE name = 'unique-dead';
SELECT coord.task_redrive(queue => 'unique-dead');
SELECT pending, dead FROM coord.queue WHERE name = 'unique-dead';

-- A claim that ran out for the last time has freed it, sweep or no sweep.
BEGIN;
SELECT id FROM coord.task_create('t', queue => 'unique-run-out', unique_key => 'k', max_attempts => 1) \gset
SELECT lease_expires_at FROM coord.task_claim(:'ann', 'unique-run-out', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
SELECT id <> :'id' AS another, state FROM coord.task_create('t', queue => 'unique-run-out', unique_key => 'k');
SELECT state, error FROM coord.task WHERE id = :'id';
COMMIT;

-- A key that was undone is free.
BEGIN;
SELECT state FROM coord.task_create('t', queue => 'unique-undone', unique_key => 'k');
ROLLBACK;
SELECT count(*) FROM coord.task WHERE queue = 'unique-undone';
SELECT state FROM coord.task_create('t', queue => 'unique-undone', unique_key => 'k');

-- The same in an array: a key that is there twice, or in use, gives one task.
SELECT count(*), count(DISTINCT id) AS tasks FROM coord.task_create_many(
	'[{"type": "t", "queue": "unique-many", "unique_key": "a"}, {"type": "t", "queue": "unique-many", "unique_key": "a"},
	  {"type": "t", "queue": "unique-many", "unique_key": "b"}, {"type": "t", "queue": "unique-many"}]') id;
SELECT count(DISTINCT id) AS tasks FROM coord.task_create_many('[{"type": "t", "queue": "unique-many", "unique_key": "b"}]') id;
SELECT pending FROM coord.queue WHERE name = 'unique-many';
