-- The order in which task_create_many creates tasks that depend on each other: whatever order
-- they come in, and in a time that grows with their number, not with its square.
BEGIN;
SELECT plan(4);

CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql AS $$SELECT md5('task order ' || n)::uuid$$;

-- Each depends on up to five before it; they come in any order.
SELECT setseed(0.5);
CREATE TEMP TABLE graph AS
	SELECT n, ARRAY(SELECT DISTINCT pg_temp.id(1 + floor(random() * (n - 1))::integer) FROM generate_series(1, least(n - 1, 5)) g WHERE n > g) AS depends_on
	FROM generate_series(1, 400) n;
SELECT lives_ok($$SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', 'pgtap-order',
	'id', pg_temp.id(n), 'depends_on', to_jsonb(depends_on)) ORDER BY random()) FROM graph))$$, 'in any order tasks are created after those that they depend on');
SELECT results_eq($$SELECT t.state FROM graph JOIN coord.task t ON t.id = pg_temp.id(n) ORDER BY n$$,
	$$SELECT CASE WHEN depends_on = '{}' THEN 'pending' ELSE 'blocked' END FROM graph ORDER BY n$$, 'and wait for them');

-- A chain, each link before the one that it depends on, or after it, and two tasks that depend on
-- each other, so that nothing is created.
CREATE FUNCTION pg_temp.chain(links integer, step integer) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('type', 't', 'id', pg_temp.id(n),
		'depends_on', CASE WHEN n > links THEN jsonb_build_array(pg_temp.id(2 * links + 3 - n))
			WHEN n + step BETWEEN 1 AND links THEN jsonb_build_array(pg_temp.id(n + step)) ELSE '[]' END) ORDER BY n)
	FROM generate_series(1, links + 2) n$$;
CREATE FUNCTION pg_temp.refusal(tasks jsonb, OUT message text, OUT took interval) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
BEGIN
	PERFORM coord.task_create_many(tasks);
EXCEPTION WHEN OTHERS THEN
	message := SQLERRM;
	took := clock_timestamp() - began;
END
$$;
CREATE TEMP TABLE refused AS SELECT step, run, r.* FROM generate_series(1, 3) run, unnest('{-1, 1}'::integer[]) step,
	LATERAL (SELECT pg_temp.chain(20000, step) AS tasks OFFSET 0) c, LATERAL pg_temp.refusal(c.tasks) r;
SELECT is((SELECT count(*)::integer FROM refused WHERE message LIKE '%' || pg_temp.id(20001) || '%' OR message LIKE '%' || pg_temp.id(20002) || '%'), 6,
	'a cycle is found beside a long chain, and told by one of its tasks');
SELECT ok((SELECT min(took) FILTER (WHERE step = 1) < 10 * min(took) FILTER (WHERE step = -1) FROM refused),
	'a chain that comes in the wrong order takes no longer');

SELECT * FROM finish();
ROLLBACK;
