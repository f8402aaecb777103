-- Tasks that wait for others: blocked until all are completed, cancelled when
-- one ends otherwise; created one by one, or as a whole graph.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

-- Most of this happens in one transaction each, because then it happens in the
-- call.  Where the worker is looking at a task at that moment, it is the worker
-- who does it, right afterwards.
SELECT id AS ann FROM coord.agent_register('depend-ann', heartbeat_timeout => '10 min') \gset
-- A claim by id is refused while the worker is looking at the task.
CREATE FUNCTION pg_temp.claim(agent uuid, task uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	give_up timestamptz := clock_timestamp() + interval '1 min';
BEGIN
	LOOP
		BEGIN
			RETURN (SELECT fencing_token FROM coord.task_claim(agent, task_id => task));
		EXCEPTION WHEN lock_not_available THEN
			IF clock_timestamp() > give_up THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END
$$;
CREATE FUNCTION pg_temp.complete(agent uuid, task uuid) RETURNS text LANGUAGE sql AS $$
	SELECT (coord.task_complete(task, pg_temp.claim(agent, task))).state;
$$;
-- What has become of the tasks of a queue, by their payloads.
CREATE FUNCTION pg_temp.states(in_queue text, OUT task text, OUT state text, OUT error text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT payload #>> '{}', state, pg_temp.mask(error) FROM coord.task WHERE queue = in_queue ORDER BY 1;
$$;

-- A task is blocked until what it waits for is completed.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-one') \gset
SELECT id AS b, state, depends_on = ARRAY[:'a']::uuid[] AS waits_for_a
FROM coord.task_create('t', '"b"', 'depend-one', priority => 9, depends_on => ARRAY[:'a']::uuid[]) \gset
\echo :state :waits_for_a
SELECT pending, blocked FROM coord.queue WHERE name = 'depend-one';
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'b'));
SELECT payload, fencing_token AS token FROM coord.task_claim(:'ann', 'depend-one', max_tasks => 10) \gset
\echo :payload
-- A failure that will be retried changes nothing.
SELECT state FROM coord.task_fail(:'a', :token, retry_in => '0 s');
SELECT * FROM pg_temp.states('depend-one');
SELECT pg_temp.complete(:'ann', :'a');
SELECT * FROM pg_temp.states('depend-one');
SELECT payload, depends_on = ARRAY[:'a']::uuid[] AS waited_for_a FROM coord.task_claim(:'ann', 'depend-one', max_tasks => 10);
COMMIT;

-- It waits for all of them; one named twice is waited for once.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-all') \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-all') \gset
SELECT id AS c FROM coord.task_create('t', '"c"', 'depend-all', depends_on => ARRAY[:'a', :'b', :'a']::uuid[]) \gset
SELECT pg_temp.complete(:'ann', :'b');
SELECT * FROM pg_temp.states('depend-all');
SELECT pg_temp.complete(:'ann', :'a');
SELECT * FROM pg_temp.states('depend-all');
COMMIT;

-- What is completed already is not waited for; neither is nothing.
SELECT state FROM coord.task_create('t', '"d"', 'depend-all', depends_on => ARRAY[:'a', :'b']::uuid[]);
SELECT state, depends_on FROM coord.task_create('t', '"e"', 'depend-all', depends_on => '{}');

-- Its run_at counts all the same.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-run-at') \gset
SELECT id AS b, run_at FROM coord.task_create('t', '"b"', 'depend-run-at', run_at => clock_timestamp() + '1 hour',
	depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT pg_temp.complete(:'ann', :'a');
SELECT state, run_at = :'run_at' AS same_run_at FROM coord.task WHERE id = :'b';
SELECT payload FROM coord.task_claim(:'ann', 'depend-run-at');
COMMIT;

-- When what it waits for is dead it is cancelled, and so is what waits for it;
-- the error says which.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-dead', max_attempts => 1) \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-dead', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT id AS c FROM coord.task_create('t', '"c"', 'depend-dead', depends_on => ARRAY[:'b']::uuid[]) \gset
SELECT id AS other FROM coord.task_create('t', '"other"', 'depend-dead') \gset
SELECT id AS d FROM coord.task_create('t', '"d"', 'depend-dead', depends_on => ARRAY[:'other', :'c']::uuid[]) \gset
SELECT pg_temp.claim(:'ann', :'a') AS token \gset
SELECT state FROM coord.task_fail(:'a', :token);
SELECT * FROM pg_temp.states('depend-dead');
SELECT strpos(error, :'a') > 0 AS because_of_a FROM coord.task WHERE id = :'b';
SELECT strpos(error, :'b') > 0 AS because_of_b FROM coord.task WHERE id = :'c';
SELECT strpos(error, :'c') > 0 AS because_of_c, attempts, finished_at IS NOT NULL AS finished FROM coord.task WHERE id = :'d';
SELECT pg_temp.complete(:'ann', :'other');
SELECT state FROM coord.task WHERE id = :'d';
-- Driving the dead one again does not bring the others back.
SELECT coord.task_redrive(:'a');
SELECT * FROM pg_temp.states('depend-dead');
COMMIT;

-- The same when it is cancelled; through a diamond each task is cancelled once.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-cancel') \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-cancel', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT id AS c FROM coord.task_create('t', '"c"', 'depend-cancel', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT id AS d FROM coord.task_create('t', '"d"', 'depend-cancel', depends_on => ARRAY[:'b', :'c']::uuid[]) \gset
SELECT state FROM coord.task_cancel(:'a');
SELECT * FROM pg_temp.states('depend-cancel');
COMMIT;

-- A blocked task can be cancelled itself, which leaves what it waited for alone.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-middle') \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-middle', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT id AS c FROM coord.task_create('t', '"c"', 'depend-middle', depends_on => ARRAY[:'b']::uuid[]) \gset
SELECT state FROM coord.task_cancel(:'b');
SELECT pg_temp.complete(:'ann', :'a');
SELECT * FROM pg_temp.states('depend-middle');
COMMIT;

-- Waiting for what is dead or cancelled already: cancelled from the start.
SELECT state, pg_temp.mask(error) AS error, finished_at IS NOT NULL AS finished
FROM coord.task_create('t', queue => 'depend-late', depends_on => ARRAY[:'b']::uuid[]);
SELECT id AS a FROM coord.task_create('t', queue => 'depend-late', max_attempts => 1) \gset
SELECT pg_temp.claim(:'ann', :'a') AS token \gset
SELECT state FROM coord.task_fail(:'a', :token);
SELECT state, pg_temp.mask(error) AS error, strpos(error, :'a') > 0 AS because_of_a
FROM coord.task_create('t', queue => 'depend-late', depends_on => ARRAY[:'a']::uuid[]);

-- The same when its claim ran out for the last time.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-run-out', max_attempts => 1) \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-run-out', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT lease_expires_at FROM coord.task_claim(:'ann', task_id => :'a', lease_ttl => '100 ms') \gset
CALL pg_temp.wait_for(:'lease_expires_at');
SELECT id AS c, state FROM coord.task_create('t', '"c"', 'depend-run-out', depends_on => ARRAY[:'a']::uuid[]) \gset
\echo :state
SELECT coord.sweep() IS NOT NULL AS swept;
SELECT * FROM pg_temp.states('depend-run-out');
COMMIT;

-- The end of a dependency is undone with its transaction.
BEGIN;
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-undone') \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-undone', depends_on => ARRAY[:'a']::uuid[]) \gset
SAVEPOINT created;
SELECT pg_temp.complete(:'ann', :'a');
SELECT * FROM pg_temp.states('depend-undone');
ROLLBACK TO created;
SELECT state FROM coord.task_cancel(:'a');
SELECT * FROM pg_temp.states('depend-undone');
ROLLBACK TO created;
SELECT * FROM pg_temp.states('depend-undone');
SELECT pg_temp.complete(:'ann', :'a');
SELECT * FROM pg_temp.states('depend-undone');
COMMIT;

-- The same from transaction to transaction.
SELECT id AS a FROM coord.task_create('t', '"a"', 'depend-across') \gset
SELECT id AS b FROM coord.task_create('t', '"b"', 'depend-across', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT id AS c FROM coord.task_create('t', '"c"', 'depend-across', max_attempts => 1, depends_on => ARRAY[:'b']::uuid[]) \gset
SELECT id AS d FROM coord.task_create('t', '"d"', 'depend-across', depends_on => ARRAY[:'c']::uuid[]) \gset
SELECT id AS e FROM coord.task_create('t', '"e"', 'depend-across', depends_on => ARRAY[:'d']::uuid[]) \gset
SELECT * FROM pg_temp.states('depend-across');
SELECT pg_temp.complete(:'ann', :'a');
CALL pg_temp.wait_until(format('(SELECT state = %L FROM coord.task WHERE id = %L)', 'pending', :'b'));
SELECT pg_temp.complete(:'ann', :'b');
CALL pg_temp.wait_until(format('(SELECT state = %L FROM coord.task WHERE id = %L)', 'pending', :'c'));
SELECT pg_temp.claim(:'ann', :'c') AS token \gset
SELECT state FROM coord.task_fail(:'c', :token);
CALL pg_temp.wait_until(format('(SELECT state = %L FROM coord.task WHERE id = %L)', 'cancelled', :'e'));
SELECT * FROM pg_temp.states('depend-across');

-- A dependency must exist, and be another task.
CALL pg_temp.attempt($$SELECT coord.task_create('t', depends_on => '{de9e4d00-0000-4000-8000-0000000000ff}')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', id => 'de9e4d00-0000-4000-8000-000000000001',
	depends_on => '{de9e4d00-0000-4000-8000-000000000001}')$$);

-- Many tasks at once: ids in input order, members named like the arguments.
CREATE TEMP TABLE made (n serial, id uuid);
INSERT INTO made (id) SELECT * FROM coord.task_create_many(
	'[{"type": "one", "queue": "depend-many"},
	  {"type": "two", "queue": "depend-many", "payload": {"k": [1]}, "priority": 5, "run_at": "2001-02-03T04:05:06Z",
	   "max_attempts": 3, "unique_key": "u", "resource_key": "depend-many-key", "id": "de9e4d00-0000-4000-8000-000000000002"},
	  {"type": "three", "queue": "depend-many", "payload": null, "priority": null, "run_at": null, "max_attempts": null,
	   "unique_key": null, "depends_on": null, "resource_key": null, "id": null},
	  {"type": "four"}]');
SELECT n, queue, type, payload, priority, state, run_at < '2002-01-01' AS early, max_attempts, unique_key, resource_key,
	id = 'de9e4d00-0000-4000-8000-000000000002' AS own_id
FROM made JOIN coord.task USING (id) ORDER BY n;
SELECT (coord.task_cancel(id)).state FROM made WHERE n = 4;
SELECT count(*) FROM coord.task_create_many('[]');

-- A task of the array may depend on another one of it that comes later.
BEGIN;
SELECT count(*) FROM coord.task_create_many(
	'[{"type": "t", "queue": "depend-graph", "payload": "last", "depends_on": ["de9e4d00-0000-4000-8000-000000000012", "de9e4d00-0000-4000-8000-000000000013"]},
	  {"type": "t", "queue": "depend-graph", "payload": "left", "id": "de9e4d00-0000-4000-8000-000000000012", "depends_on": ["de9e4d00-0000-4000-8000-000000000014"]},
	  {"type": "t", "queue": "depend-graph", "payload": "right", "id": "de9e4d00-0000-4000-8000-000000000013", "depends_on": ["de9e4d00-0000-4000-8000-000000000014"]},
	  {"type": "t", "queue": "depend-graph", "payload": "first", "id": "de9e4d00-0000-4000-8000-000000000014"}]');
SELECT * FROM pg_temp.states('depend-graph');
SELECT pg_temp.complete(:'ann', 'de9e4d00-0000-4000-8000-000000000014');
SELECT * FROM pg_temp.states('depend-graph');
SELECT pg_temp.complete(:'ann', 'de9e4d00-0000-4000-8000-000000000012');
SELECT pg_temp.complete(:'ann', 'de9e4d00-0000-4000-8000-000000000013');
SELECT * FROM pg_temp.states('depend-graph');
COMMIT;

-- The ids come in the order of the array, not in that of creation.
SELECT array_agg(id) FROM coord.task_create_many(
	'[{"type": "t", "queue": "depend-order", "id": "de9e4d00-0000-4000-8000-000000000021", "depends_on": ["de9e4d00-0000-4000-8000-000000000023"]},
	  {"type": "t", "queue": "depend-order", "id": "de9e4d00-0000-4000-8000-000000000022", "depends_on": ["de9e4d00-0000-4000-8000-000000000021"]},
	  {"type": "t", "queue": "depend-order", "id": "de9e4d00-0000-4000-8000-000000000023"}]') id;

-- A cycle is refused, and so is what goes with it: all or none.
CALL pg_temp.attempt($$SELECT coord.task_create_many(
	'[{"type": "t", "queue": "depend-cycle"},
	  {"type": "t", "queue": "depend-cycle", "id": "de9e4d00-0000-4000-8000-000000000031", "depends_on": ["de9e4d00-0000-4000-8000-000000000032"]},
	  {"type": "t", "queue": "depend-cycle", "id": "de9e4d00-0000-4000-8000-000000000032", "depends_on": ["de9e4d00-0000-4000-8000-000000000033"]},
	  {"type": "t", "queue": "depend-cycle", "id": "de9e4d00-0000-4000-8000-000000000033", "depends_on": ["de9e4d00-0000-4000-8000-000000000031"]}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many(
	'[{"type": "t", "queue": "depend-cycle", "id": "de9e4d00-0000-4000-8000-000000000031", "depends_on": ["de9e4d00-0000-4000-8000-000000000031"]}]')$$);
SELECT count(*) FROM coord.task WHERE queue = 'depend-cycle';
-- The one that is named is on the cycle, not one that only waits for it.
DO $$
DECLARE
	message text;
BEGIN
	PERFORM coord.task_create_many(
		'[{"type": "t", "depends_on": ["de9e4d00-0000-4000-8000-000000000031"]},
		  {"type": "t", "id": "de9e4d00-0000-4000-8000-000000000031", "depends_on": ["de9e4d00-0000-4000-8000-000000000032"]},
		  {"type": "t", "id": "de9e4d00-0000-4000-8000-000000000032", "depends_on": ["de9e4d00-0000-4000-8000-000000000031"]}]');
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
	RAISE INFO 'names a task of the cycle: %', message ~ 'de9e4d00-0000-4000-8000-00000000003[12]';
END
$$;

-- Any other fault leaves nothing behind as well.
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "queue": "depend-none"}, {"type": "", "queue": "depend-none"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "queue": "depend-none"},
	{"type": "t", "queue": "depend-none", "depends_on": ["de9e4d00-0000-4000-8000-0000000000ff"]}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "queue": "depend-none", "id": "de9e4d00-0000-4000-8000-000000000041"},
	{"type": "t", "queue": "depend-none", "id": "de9e4d00-0000-4000-8000-000000000041"}]')$$);
SELECT count(*) FROM coord.task WHERE queue = 'depend-none';
