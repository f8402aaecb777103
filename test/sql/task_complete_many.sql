-- Completing many tasks in one call.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('many-ann', heartbeat_timeout => '10 min') \gset
SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', 'many', 'payload', g)) FROM generate_series(1, 10000) g));

-- As many as a claim gives, in the order of the array, with their results.
SELECT jsonb_agg(jsonb_build_object('task_id', id, 'fencing_token', fencing_token, 'result', payload) ORDER BY payload DESC) AS all_of_them
FROM coord.task_claim(:'ann', 'many', max_tasks => 10000, lease_ttl => '1 h') \gset
SELECT count(*), bool_and(state = 'completed' AND payload = result) AS completed, bool_and(10001 - n = payload::int) AS in_order
FROM coord.task_complete_many(:'all_of_them') WITH ORDINALITY c (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, agent_id, lease_id, fencing_token, lease_expires_at, resource_key, unique_key, depends_on, progress, result, error, created_at, claimed_at, finished_at, n);
SELECT state, count(*) FROM coord.task WHERE queue = 'many' GROUP BY state;

-- Once more is no error, and changes nothing.
SELECT count(*), bool_and(payload = result) AS same FROM coord.task_complete_many(:'all_of_them');

-- A token may be a string, as JavaScript has it; a result may be null or left out, and so may be all.
SELECT count(*) FROM coord.task_create_many('[{"type": "a", "queue": "many"}, {"type": "b", "queue": "many", "resource_key": "many-key"}]');
SELECT jsonb_agg(jsonb_build_object('task_id', id, 'fencing_token', fencing_token::text) || CASE type WHEN 'a' THEN '{"result": null}'::jsonb ELSE '{}' END ORDER BY type) AS both
FROM coord.task_claim(:'ann', 'many', max_tasks => 2, lease_ttl => '1 h') \gset
SELECT type, state, result FROM coord.task_complete_many(:'both');
SELECT state FROM coord.lease WHERE resource_key = 'many-key';
SELECT count(*) FROM coord.task_complete_many('[]');

-- All or none.
SELECT count(*) FROM coord.task_create_many('[{"type": "a", "queue": "many"}, {"type": "b", "queue": "many"}]');
SELECT id AS a, fencing_token AS a_token FROM coord.task_claim(:'ann', 'many', lease_ttl => '1 h') \gset
SELECT id AS b, fencing_token AS b_token FROM coord.task_claim(:'ann', 'many', lease_ttl => '1 h') \gset
\set VERBOSITY sqlstate
SELECT coord.task_complete_many(jsonb_build_array(
	jsonb_build_object('task_id', :'a', 'fencing_token', :a_token),
	jsonb_build_object('task_id', :'b', 'fencing_token', :a_token)));
SELECT type, state FROM coord.task WHERE id IN (:'a', :'b') ORDER BY type;

-- What it does not take.
SELECT coord.task_complete_many(NULL);
\set VERBOSITY default
SELECT coord.task_complete_many('{}');
SELECT coord.task_complete_many('[1]');
SELECT coord.task_complete_many('[{"fencing_token": 1}]');
SELECT coord.task_complete_many('[{"task_id": "00000000-0000-7000-8000-000000000000"}]');
SELECT coord.task_complete_many('[{"task_id": "no id", "fencing_token": 1}]');
SELECT coord.task_complete_many('[{"task_id": "00000000-0000-7000-8000-000000000000", "fencing_token": 1.5}]');
SELECT coord.task_complete_many('[{"task_id": "00000000-0000-7000-8000-000000000000", "fencing_token": "9223372036854775808"}]');
SELECT coord.task_complete_many('[{"task_id": "00000000-0000-7000-8000-000000000000", "fencing_token": 1, "state": "completed"}]');
SELECT coord.task_complete_many('[{"task_id": "00000000-0000-7000-8000-000000000000", "fencing_token": 1}]');
\set VERBOSITY sqlstate
SELECT coord.task_complete_many(jsonb_build_array(jsonb_build_object('task_id', :'a', 'fencing_token', :a_token, 'result', repeat('x', 1048577))));
