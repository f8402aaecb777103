-- Tasks that wait for hundreds of others are looked at in bounded transactions of the worker's,
-- so that nobody waits long for one of them.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers
SELECT id AS ann FROM coord.agent_register('dependency-batch', heartbeat_timeout => '1 h') \gset

SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'b', 'queue', 'dependency-batch', 'id', md5('batch ' || n)::uuid, 'priority', 1))
	FROM generate_series(1, 400) n));
SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'w', 'queue', 'dependency-batch',
	'depends_on', (SELECT jsonb_agg(md5('batch ' || n)::uuid) FROM generate_series(1, 400) n))) FROM generate_series(1, 8)));
-- with such a snapshot what becomes of them is left to the worker
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*), bool_and((coord.task_complete(id, fencing_token)).state = 'completed') FROM coord.task_claim(:'ann', 'dependency-batch', max_tasks => 400);
COMMIT;
CALL pg_temp.wait_until($$NOT EXISTS (SELECT FROM coord.task_live WHERE queue = 'dependency-batch' AND state = 'blocked')$$);
SELECT state, count(*) FROM coord.task WHERE queue = 'dependency-batch' AND type = 'w' GROUP BY 1;
-- each look is at a task and 400 more, twice
SELECT max(n) <= 3 AS bounded FROM (SELECT count(*) AS n FROM coord.task_live WHERE queue = 'dependency-batch' AND type = 'w' GROUP BY xmin) t;
