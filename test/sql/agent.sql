-- The life of an agent: it registers, gives signs of life, lapses, comes back,
-- and retires for good.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

-- Who registers is active at once.
SELECT * FROM coord.agent_register('agent-first') \gset a_
SELECT name, type, status, owner = current_user AS mine, metadata, heartbeat_timeout, inactive_since,
	last_heartbeat_at = registered_at AS beat_is_registration,
	clock_timestamp() - registered_at BETWEEN '0 s' AND '10 s' AS just_now,
	substr(id::text, 15, 1) AS uuid_version
FROM coord.agent WHERE id = :'a_id';

-- NULL for an argument that has a default is its default.
SELECT name, type, status, metadata, heartbeat_timeout
FROM coord.agent_register('agent-null', type => NULL, heartbeat_timeout => NULL, metadata => NULL, id => NULL);

-- The default timeout is a setting.
SET coord.heartbeat_timeout = '42 s';
SELECT heartbeat_timeout FROM coord.agent_register('agent-setting');
RESET coord.heartbeat_timeout;

-- A caller may bring an id of its own.
SELECT id, name FROM coord.agent_register('agent-own-id', id => '0c0a7000-0000-4000-8000-000000000001');

-- Registering a name again updates it and keeps its id.
SELECT id = :'a_id' AS same_id, type, status, metadata, heartbeat_timeout,
	registered_at = :'a_registered_at' AS same_registration,
	last_heartbeat_at > :'a_last_heartbeat_at' AS later_beat
FROM coord.agent_register('agent-first', 'reviewer', '10 min', '{"model": "m"}');
SELECT count(*) FROM coord.agent WHERE name = 'agent-first';

-- The id that it has may be said again; another one may not.
SELECT id = :'a_id' AS same_id FROM coord.agent_register('agent-first', id => :'a_id');
CALL pg_temp.attempt($$SELECT coord.agent_register('agent-first', id => '0c0a7000-0000-4000-8000-000000000002')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('agent-thief', id => '0c0a7000-0000-4000-8000-000000000001')$$);

-- A heartbeat is later than the one before.
SELECT last_heartbeat_at AS before FROM coord.agent WHERE id = :'a_id' \gset
SELECT status, last_heartbeat_at > :'before' AS later FROM coord.agent_heartbeat(:'a_id');

-- Its time is that of the call, not that of the transaction.
BEGIN;
CALL pg_temp.wait_for(now() + '20 ms');
SELECT last_heartbeat_at > now() + '20 ms' AS at_the_call FROM coord.agent_heartbeat(:'a_id');
COMMIT;

-- Registration and heartbeats are undone with their transaction.
BEGIN;
SELECT name FROM coord.agent_register('agent-undone');
ROLLBACK;
SELECT count(*) FROM coord.agent WHERE name = 'agent-undone';

-- An agent is inactive from the very instant at which its timeout has passed.
-- The open transaction keeps the sweep away: nobody but the reader notices.
BEGIN;
SELECT * FROM coord.agent_register('agent-brief', heartbeat_timeout => '2 s') \gset b_
SELECT :'b_status' AS status_when_registered;
CALL pg_temp.wait_for(:'b_last_heartbeat_at'::timestamptz + '2 s');
SELECT status, inactive_since - last_heartbeat_at AS after FROM coord.agent WHERE id = :'b_id';
-- An inactive agent can neither lease nor claim.
CALL pg_temp.attempt(format('SELECT coord.lease_acquire(%L, %L)', 'agent-key', :'b_id'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, %L)', :'b_id', 'agent-queue'));
COMMIT;

-- The end is announced, once, to all who follow the agents.
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload->>%L = %L)',
	'agent.inactive', 'name', 'agent-brief'));
SELECT type, recipient_id, channel,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(payload) key) AS members,
	payload->>'agent_id' = :'b_id' AS of_agent,
	(payload->>'last_heartbeat_at')::timestamptz = :'b_last_heartbeat_at' AS last_beat
FROM coord.event_list(channel => 'coord.agents', max_events => 10000) WHERE payload->>'name' = 'agent-brief';
SELECT status, inactive_since - last_heartbeat_at AS after FROM coord.agent WHERE id = :'b_id';

-- A heartbeat brings it back, and that is announced as well.
SELECT last_heartbeat_at AS back_at, status, inactive_since FROM coord.agent_heartbeat(:'b_id') \gset
\echo :status
SELECT name FROM coord.agent_register('agent-brief', heartbeat_timeout => '10 min');
SELECT type, recipient_id, channel,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(payload) key) AS members,
	payload->>'agent_id' = :'b_id' AS of_agent,
	(payload->>'last_heartbeat_at')::timestamptz = :'back_at' AS last_beat
FROM coord.event_list(channel => 'coord.agents', type => 'agent.active', max_events => 10000)
WHERE payload->>'name' = 'agent-brief' ORDER BY position LIMIT 1;

-- So does registering its name again.
BEGIN;
SELECT * FROM coord.agent_register('agent-again', heartbeat_timeout => '100 ms') \gset c_
CALL pg_temp.wait_for(:'c_last_heartbeat_at'::timestamptz + '100 ms');
SELECT status FROM coord.agent WHERE id = :'c_id';
SELECT id = :'c_id' AS same_id, status, inactive_since FROM coord.agent_register('agent-again');
COMMIT;
SELECT type FROM coord.event_list(channel => 'coord.agents', max_events => 10000)
WHERE payload->>'name' = 'agent-again' ORDER BY position;

-- A first registration announces nothing.
SELECT count(*) FROM coord.event_list(channel => 'coord.agents', max_events => 10000)
WHERE payload->>'name' = 'agent-first';

-- What an inactive agent had claimed goes back at once; its leases run on to
-- their own ends.
SELECT id AS task FROM coord.task_create('t', queue => 'agent-lapse') \gset
SELECT id AS lapser FROM coord.agent_register('agent-lapser', heartbeat_timeout => '10 min') \gset
SELECT resource_key, state FROM coord.lease_acquire('agent-lapse-key', :'lapser', '10 min');
SELECT state, attempts FROM coord.task_claim(:'lapser', 'agent-lapse', lease_ttl => '10 min');
SELECT status FROM coord.agent_register('agent-lapser', heartbeat_timeout => '100 ms');
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND recipient_id = %L)',
	'task.requeued', :'lapser'));
SELECT last_heartbeat_at + heartbeat_timeout AS lapsed_at FROM coord.agent WHERE id = :'lapser' \gset
SELECT state, attempts, agent_id, fencing_token, error,
	run_at - :'lapsed_at' BETWEEN '750 ms' AND '1 s' AS backed_off
FROM coord.task WHERE id = :'task';
SELECT channel, payload->>'reason' AS reason, payload->>'queue' AS queue, payload->'attempts' AS attempts,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(payload) key) AS members,
	payload->>'task_id' = :'task' AS of_task, payload->>'agent_id' = :'lapser' AS of_agent,
	(payload->>'run_at')::timestamptz = (SELECT run_at FROM coord.task WHERE id = :'task') AS same_run_at
FROM coord.event_list(recipient_id => :'lapser', type => 'task.requeued');
SELECT state FROM coord.lease WHERE resource_key = 'agent-lapse-key';

-- A claim and a renewal of a claim are signs of life; lease calls are not.
SELECT id AS beater FROM coord.agent_register('agent-beater') \gset
SELECT id FROM coord.task_create('t', queue => 'agent-beat') \gset
SELECT last_heartbeat_at AS t0 FROM coord.agent WHERE id = :'beater' \gset
SELECT id AS lease_id FROM coord.lease_acquire('agent-beat-key', :'beater') \gset
SELECT state FROM coord.lease_renew(:'lease_id');
SELECT last_heartbeat_at = :'t0' AS lease_is_no_beat FROM coord.agent WHERE id = :'beater';
SELECT fencing_token AS token FROM coord.task_claim(:'beater', 'agent-beat') \gset
SELECT last_heartbeat_at AS t1, last_heartbeat_at > :'t0' AS claim_is_beat FROM coord.agent WHERE id = :'beater' \gset
\echo :claim_is_beat
SELECT state FROM coord.task_renew(:'id', :token);
SELECT last_heartbeat_at > :'t1' AS renewal_is_beat FROM coord.agent WHERE id = :'beater';

-- Retiring releases the leases and gives the tasks back, the attempts not
-- counted.
SELECT status, inactive_since FROM coord.agent_retire(:'beater');
SELECT state, ended_at IS NOT NULL AS ended FROM coord.lease WHERE resource_key = 'agent-beat-key';
SELECT state, attempts, agent_id, run_at <= clock_timestamp() AS claimable FROM coord.task WHERE id = :'id';
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %L)', :'id', :token));
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L)', :'lease_id'));

-- Retiring again changes nothing.
SELECT status FROM coord.agent_retire(:'beater');

-- A retired agent shows no sign of life until its name is registered again.
CALL pg_temp.attempt(format('SELECT coord.agent_heartbeat(%L)', :'beater'));
CALL pg_temp.attempt(format('SELECT coord.lease_acquire(%L, %L)', 'agent-beat-key', :'beater'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, %L)', :'beater', 'agent-beat'));
SELECT id = :'beater' AS same_id, status FROM coord.agent_register('agent-beater');
SELECT type FROM coord.event_list(channel => 'coord.agents', max_events => 10000)
WHERE payload->>'name' = 'agent-beater';

-- Retiring is undone with its transaction, and all that it ended with it.
SELECT id AS lease_id FROM coord.lease_acquire('agent-beat-key', :'beater') \gset
BEGIN;
SELECT status FROM coord.agent_retire(:'beater');
SELECT state FROM coord.lease WHERE id = :'lease_id';
ROLLBACK;
SELECT status FROM coord.agent WHERE id = :'beater';
SELECT state FROM coord.lease WHERE id = :'lease_id';
