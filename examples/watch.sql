-- How things stand, on one screen of psql:
--
--     psql -f examples/watch.sql
--
-- and again every few seconds, until Ctrl-C, in a session of its own:
--
--     psql -v every=2 -f examples/watch.sql
--
-- It needs grant_monitor, or to be the extension's owner.
\set QUIET on
\pset footer off
\pset null -
\pset linestyle ascii

SELECT $watch$
WITH q AS MATERIALIZED (
	SELECT * FROM coord.queue
), stat AS MATERIALIZED (
	SELECT * FROM coord.queue_stats(NULL, clock_timestamp() - interval '5 min')
), line (part, n, name, state, figures) AS (
	SELECT 1, row_number() OVER (), 'worker', CASE WHEN pid IS NULL THEN 'MISSING' ELSE 'running' END,
		format('expired %s leases, %s agents; requeued %s tasks; %s errors; lag at most %s%s', leases_expired, agents_expired, tasks_requeued,
			errors, sweep_lag_max, ': ' || last_error)
	FROM coord.worker
	UNION ALL
	SELECT 2, row_number() OVER (ORDER BY status), 'agents', status, count(*)::text FROM coord.agent GROUP BY status
	UNION ALL
	SELECT 3, row_number() OVER (ORDER BY q.pending + q.claimed + q.dead DESC, q.name), 'queue ' || left(q.name, 40),
		CASE WHEN q.paused THEN 'paused' ELSE '' END,
		format('%s pending (oldest %s), %s claimed, %s scheduled, %s blocked, %s dead; 5 min: %s completed, %s failed attempts, 95 %% ran for %s or less',
			q.pending, coalesce(date_trunc('second', q.oldest_pending_age)::text, '-'), q.claimed, q.scheduled, q.blocked, q.dead,
			coalesce(s.completed, 0), coalesce(s.failed_attempts, 0), coalesce(s.running_p95::text, '-'))
	FROM q LEFT JOIN stat s ON s.queue = q.name
)
SELECT name, state, figures FROM line WHERE n <= 25 ORDER BY part, n
$watch$ AS query \gset

:query
\if :{?every}
\watch :every
\else
\g
\endif
