-- coord's queue in a steady state: create a task, claim the first, complete it.
SELECT state FROM coord.task_create('bench', '{"n": 1}', queue => 'queue 1');
\if :new
SELECT id AS agent FROM bench.agent WHERE n = :client_id \gset
\set new 0
\endif
SELECT id, coalesce(fencing_token, 0) AS token
FROM (SELECT) one LEFT JOIN coord.task_claim(:agent, 'queue 1', lease_ttl => '10 min') ON true \gset
\if :token > 0
SELECT state FROM coord.task_complete(:id, :token);
\endif
