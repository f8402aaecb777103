-- coord: acquire a lease; if granted, release it.
\if :new
SELECT id AS agent FROM bench.agent WHERE n = :client_id \gset
\set new 0
\endif
\set key random(1, :keys)
SELECT id, coalesce(fencing_token, 0) AS token
FROM (SELECT) one LEFT JOIN coord.lease_acquire('key ' || :key, :agent, '1 min') ON true \gset
\if :token > 0
SELECT coord.lease_release(:id);
\endif
