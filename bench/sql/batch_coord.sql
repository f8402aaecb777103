-- coord: claim 50 tasks at once.
\if :new
SELECT id AS agent FROM bench.agent WHERE n = :client_id \gset
\set new 0
\endif
SELECT id, fencing_token FROM coord.task_claim(:agent, 'queue 1', lease_ttl => '10 min', max_tasks => 50);
