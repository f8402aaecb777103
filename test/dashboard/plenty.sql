-- A database in which much is going on, for pictures and tests of the dashboard.  What has
-- finished is written directly, since the calls would say that all of it finished just now.
\set ON_ERROR_STOP on
CREATE EXTENSION IF NOT EXISTS coord;
CREATE SCHEMA plenty;
SELECT setseed(0.25);

SELECT count(coord.agent_register('worker-' || g, CASE WHEN g % 3 = 0 THEN 'code-reviewer' ELSE 'worker' END, heartbeat_timeout => '1 h'))
FROM generate_series(1, 14) g;
SELECT count(coord.agent_register(n, 'orchestrator', heartbeat_timeout => '100 ms'))
FROM unnest(ARRAY['codex-orchestrator', 'mcp-e2e-agent', '<b>bold</b> & "quoted"']) n;
SELECT coord.agent_retire(id) FROM coord.agent_register('retired one');

CREATE TABLE plenty.queue (name, n, done) AS VALUES
	('default', 40, 300), ('emails', 320, 2600), ('invoices', 75, 640), ('image-resize', 900, 5200), ('reindex', 12, 20),
	('crawler', 210, 1500), ('billing.nightly', 0, 0), ('<script>alert(1)</script>', 3, 7),
	('übersetzung/日本語/😀', 18, 44), ('a-queue-with-a-name-that-is-long-enough-to-be-cut-' || repeat('x', 60), 5, 3);
SELECT count(t) FROM plenty.queue q CROSS JOIN LATERAL coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'work', 'queue', q.name)
	|| CASE WHEN g % 7 = 0 THEN jsonb_build_object('run_at', clock_timestamp() + interval '2 h') ELSE '{}' END)
	FROM generate_series(1, n) g)) t WHERE n > 0;
SELECT count(coord.task_create('after', queue => 'reindex', depends_on => ARRAY(SELECT id FROM coord.task WHERE queue = 'reindex' LIMIT 1)))
FROM generate_series(1, 9);
SELECT (coord.queue_set('billing.nightly', paused => true)).paused;
SELECT (coord.queue_pause('crawler')).paused;
SELECT count(t) FROM coord.agent a, plenty.queue q, coord.task_claim(a.id, q.name, lease_ttl => '20 min', max_tasks => greatest(n / 60, 1)) t
WHERE a.name LIKE 'worker-%' AND q.name <> 'crawler';
UPDATE coord.task_live SET run_at = run_at - random() * interval '40 min' WHERE state = 'pending' AND run_at < clock_timestamp();

SELECT count(l) FROM coord.agent a, generate_series(1, 7) g, coord.lease_acquire('deploy/service-' || g, a.id, (8 + 6 * g) * interval '1 s') l
WHERE a.name = 'worker-' || g;
SELECT count(l) FROM coord.agent a, generate_series(1, 30) g, coord.lease_acquire('steady/' || g, a.id, '20 min', auto_renew => true) l
WHERE a.name = 'worker-1';
SELECT l.state FROM coord.agent a, coord.lease_acquire('<img src=x onerror=alert(2)>', a.id, '50 s') l WHERE a.name = 'worker-2';

INSERT INTO coord.task_finished (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, created_at, claimed_at, finished_at, partition)
SELECT coord.new_id(), f.name, 'work', '{}', 0, 'completed', f.at - f.ran - f.waited, CASE WHEN random() < 0.04 THEN 2 ELSE 1 END, 5,
	f.at - f.ran - f.waited, f.at - f.ran, f.at, 0
FROM (SELECT q.name, clock_timestamp() - interval '1 h' + interval '1 h' * (1 - sqrt(random()) * (0.75 + 0.25 * sin(g))) AS at,
		random() * random() * interval '20 s' AS ran, random() * random() * interval '3 min' AS waited
	FROM plenty.queue q, generate_series(1, q.done) g ORDER BY 2) f;
INSERT INTO coord.task_dead (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, error, created_at, claimed_at, finished_at)
SELECT coord.new_id(), (ARRAY['emails', 'invoices', 'image-resize', '<script>alert(1)</script>'])[1 + g % 4],
	(ARRAY['send', 'render', '<i>type</i>'])[1 + g % 3], '{}', 0, 'dead', at, 5, 5,
	(ARRAY['connection to server at "mail.example.org" (192.0.2.7), port 25 failed: Connection timed out',
		'ValueError: unknown currency ''€'' in line 17 <amount>12 & 3</amount>',
		'😀 ' || repeat('Traceback (most recent call last): File "worker.py", line 42, in render; ', 8), 'timeout'])[1 + g % 4], at, at, at
FROM (SELECT g, clock_timestamp() - interval '55 min' * random() * random() AS at FROM generate_series(1, 47) g ORDER BY 2) d;
SELECT coord.sweep();
ANALYZE;
