-- The audit of 2026-02-23 replayed: its five scenarios, with its own payloads
-- and shorter TTLs.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

-- The agents that took part.
SELECT id, name, type, status FROM coord.agent_register(name => 'failure-recovery-agent', type => 'resilience-tester',
	id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a', heartbeat_timeout => '10 min');
SELECT id, name, type, status FROM coord.agent_register(name => 'qwen-reviewer', type => 'code-reviewer',
	id => '28a5d3df-6104-4009-8f3a-897671ea28d7', heartbeat_timeout => '10 min');
SELECT id, name, type, status FROM coord.agent_register(name => 'qwen-assistant', type => 'general-purpose',
	id => '02d91ea8-98d9-434f-8e02-7f598897e908', heartbeat_timeout => '10 min');
SELECT id, name, type, status FROM coord.agent_register(name => 'mcp-e2e-agent', type => 'cli',
	id => 'fe2e622e-a0f9-4ede-9236-20eaa2325171', heartbeat_timeout => '10 min');
SELECT id AS orchestrator, name, type, status FROM coord.agent_register(name => 'codex-orchestrator', type => 'orchestrator',
	heartbeat_timeout => '10 min') \gset
\echo :name :type :status

-- 1. Lock TTL and crash recovery: three locks, then silence.
CREATE TEMP TABLE held AS
SELECT l.* FROM generate_series(1, 3) n, coord.lease_acquire(resource_key => 'test-lock-ttl-' || n,
	agent_id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a', ttl => '200 ms') l;
SELECT resource_key, state, expires_at - acquired_at AS lasts FROM held ORDER BY resource_key;
SELECT max(expires_at) AS last_end FROM held \gset
CALL pg_temp.wait_for(:'last_end');
-- Each ended exactly at its TTL, not a sweep later.
SELECT l.resource_key, l.state, l.id = held.id AS same_id, l.ended_at - l.acquired_at AS lasted
FROM coord.lease l JOIN held USING (resource_key) ORDER BY resource_key;
-- Each end was announced once.
CALL pg_temp.wait_until('(SELECT count(*) >= 3 FROM coord.event WHERE payload->>''lease_id'' IN (SELECT id::text FROM held))');
SELECT payload->>'resource_key' AS resource_key, recipient_id, channel,
	payload->>'lease_id' = held.id::text AS same_id, (payload->>'expires_at')::timestamptz = held.expires_at AS same_end
FROM coord.event_list(recipient_id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a', channel => 'coord.locks', type => 'lock.expired') e
	JOIN held ON payload->>'resource_key' = held.resource_key ORDER BY 1;

-- Whoever asks gets it again: as a new lease with a higher token.
SELECT l.resource_key, l.state, l.id <> held.id AS new_id, l.fencing_token > held.fencing_token AS higher_token,
	l.expires_at > clock_timestamp() AS has_end
FROM held, coord.lease_acquire(resource_key => held.resource_key, agent_id => '28a5d3df-6104-4009-8f3a-897671ea28d7', ttl => '10 min') l
ORDER BY 1;
SELECT resource_key, state, agent_id FROM coord.lease WHERE resource_key LIKE 'test-lock-ttl-_' ORDER BY 1;

-- 2. The task claim that failed outright.
SELECT id, type, state FROM coord.task_create(type => 'failure-recovery', id => '798365ca-c85d-498f-ad6c-3417b29a8a44');
SELECT id, state, attempts, agent_id, resource_key, lease_expires_at - claimed_at AS lasts,
	fencing_token IS NOT NULL AS has_token, lease_id IS NOT NULL AS has_lease, fencing_token AS token
FROM coord.task_claim(task_id => '798365ca-c85d-498f-ad6c-3417b29a8a44', agent_id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a',
	resource_key => 'task-798365ca-failure-recovery', lease_ttl => make_interval(secs => 60)) \gset
\echo :id :state :attempts :agent_id :resource_key :lasts :has_token :has_lease
SELECT resource_key, state, agent_id, task_id, ttl, fencing_token = :token AS same_token FROM coord.lease
WHERE resource_key = 'task-798365ca-failure-recovery';
SELECT state, result FROM coord.task_complete(task_id => '798365ca-c85d-498f-ad6c-3417b29a8a44', fencing_token => :token,
	result => '{"recovered": true}');

-- 3. A stale agent: active until its timeout has passed, inactive from then on,
-- for whoever asks at whatever instant.
SELECT name, type, status FROM coord.agent_register(name => 'failure-recovery-agent', type => 'resilience-tester',
	heartbeat_timeout => '300 ms');
DO $$
DECLARE
	deadline timestamptz := (SELECT last_heartbeat_at + heartbeat_timeout FROM coord.agent WHERE name = 'failure-recovery-agent');
	asked timestamptz;
	answer text;
	wrong int := 0;
BEGIN
	LOOP
		asked := clock_timestamp();
		SELECT status INTO answer FROM coord.agent WHERE name = 'failure-recovery-agent';
		IF answer = 'active' AND asked > deadline OR answer = 'inactive' AND clock_timestamp() < deadline THEN
			wrong := wrong + 1;
		END IF;
		EXIT WHEN asked > deadline + interval '50 ms';
	END LOOP;
	RAISE INFO 'wrong answers: %', wrong;
END
$$;
SELECT id, name, type, status, inactive_since - last_heartbeat_at AS after FROM coord.agent WHERE name = 'failure-recovery-agent';
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload->>%L = %L)',
	'agent.inactive', 'name', 'failure-recovery-agent'));
SELECT type, channel, payload->>'agent_id' AS agent_id, payload->>'name' AS name
FROM coord.event_list(channel => 'coord.agents', type => 'agent.inactive', max_events => 10000)
WHERE payload->>'name' = 'failure-recovery-agent';
SELECT status FROM coord.agent_heartbeat(agent_id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a');
SELECT status FROM coord.agent_register(name => 'failure-recovery-agent', type => 'resilience-tester', heartbeat_timeout => '10 min');

-- 4. A duplicate owner: the second call renews.
SELECT id AS first_id, fencing_token AS first_token, expires_at AS first_end
FROM coord.lease_acquire(resource_key => 'contention-test-lock', agent_id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a') \gset
SELECT id = :'first_id' AS same_id, fencing_token = :first_token AS same_token, expires_at > :'first_end' AS later_end, state
FROM coord.lease_acquire(resource_key => 'contention-test-lock', agent_id => '86a8c03d-26cb-4484-a87a-fb5061dfa74a');
SELECT id FROM coord.lease_acquire(resource_key => 'contention-test-lock', agent_id => '28a5d3df-6104-4009-8f3a-897671ea28d7');
SELECT count(*) AS owners FROM coord.lease WHERE resource_key = 'contention-test-lock' AND state = 'active';

-- 5. Routed notifications: recipient, channel and payload.to, all kept.
SELECT type, severity, recipient_id, channel, payload FROM coord.event_send(type => 'recovery.alert', severity => 'warning',
	recipient_id => '28a5d3df-6104-4009-8f3a-897671ea28d7', channel => 'recovery-alerts',
	payload => '{"from": "failure-recovery-agent", "to": "qwen-reviewer", "subject": "Lock Expiry Confirmed"}');
SELECT type, severity, recipient_id, channel, payload FROM coord.event_send(type => 'recovery.alert', severity => 'info',
	recipient_id => 'fe2e622e-a0f9-4ede-9236-20eaa2325171', channel => 'recovery-alerts',
	payload => '{"from": "failure-recovery-agent", "to": "mcp-e2e-agent", "subject": "Test Status Update"}');
SELECT type, severity, recipient_id, channel, payload->>'subject' AS subject, id IS NOT NULL AS has_id, created_at <= clock_timestamp() AS has_time
FROM coord.event_list(channel => 'recovery-alerts');
SELECT severity, channel, payload->>'to' AS "to" FROM coord.event_list(recipient_id => '28a5d3df-6104-4009-8f3a-897671ea28d7', type => 'recovery.alert');
SELECT severity, channel, payload->>'to' AS "to" FROM coord.event_list(recipient_id => 'fe2e622e-a0f9-4ede-9236-20eaa2325171', type => 'recovery.alert');
-- payload.to alone routes to the same agent.
SELECT recipient_id FROM coord.event_send(type => 'recovery.alert', payload => '{"to": "qwen-reviewer"}');
-- The other traffic that was seen.
SELECT type, recipient_id, channel FROM coord.event_send(type => 'chat.message', channel => 'phase-a-alpha',
	recipient_id => '02d91ea8-98d9-434f-8e02-7f598897e908');
SELECT type, recipient_id, channel FROM coord.event_send(type => 'chat.message', channel => 'phase-a-beta',
	recipient_id => '02d91ea8-98d9-434f-8e02-7f598897e908');
SELECT channel FROM coord.event_list(recipient_id => '02d91ea8-98d9-434f-8e02-7f598897e908', type => 'chat.message');
-- Who listens for the recipient or the channel listens to these names.
SELECT coord.listen_name(recipient_id => '28a5d3df-6104-4009-8f3a-897671ea28d7'), coord.listen_name(channel => 'recovery-alerts');
