-- A heartbeat of the client's own agent.
\if :new
SELECT id AS agent FROM bench.agent WHERE n = :client_id \gset
\set new 0
\endif
SELECT status FROM coord.agent_heartbeat(:agent);
