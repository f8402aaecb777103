-- coord: claim a task of some queue, complete it, each in its own transaction.  The
-- join gives a row when there is no task, which \gset needs.
\if :new
SELECT id AS agent FROM bench.agent WHERE n = :client_id \gset
\set new 0
\endif
\set queue random(1, :queues)
SELECT id, coalesce(fencing_token, 0) AS token
FROM (SELECT) one LEFT JOIN coord.task_claim(:agent, 'queue ' || :queue, lease_ttl => '10 min') ON true \gset
\if :token > 0
SELECT state FROM coord.task_complete(:id, :token);
\endif
