-- Rights by queue, and what the relations show to whom.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

CREATE ROLE regress_rights_billing;
CREATE ROLE regress_rights_maker;
CREATE ROLE regress_rights_taker;
CREATE ROLE regress_rights_all;
CREATE ROLE regress_rights_member IN ROLE regress_rights_billing, regress_rights_taker;
CREATE ROLE regress_rights_noinherit NOINHERIT IN ROLE regress_rights_all;
CREATE ROLE regress_rights_monitor;
CREATE ROLE regress_rights_auditor;

SELECT coord.grant_agent('regress_rights_billing', 'rights-billing');
SELECT coord.grant_agent('regress_rights_maker', queue => 'rights-post', can_claim => false);
SELECT coord.grant_agent('regress_rights_taker', queue => 'rights-post', can_create => false);
SELECT coord.grant_agent('regress_rights_all');
SELECT coord.grant_monitor('regress_rights_monitor');
SELECT coord.grant_monitor('regress_rights_auditor', payloads => true);
SELECT * FROM coord.queue_grant WHERE role::text ~ 'regress_rights' ORDER BY role::text COLLATE "C";
SELECT * FROM coord.monitor_grant WHERE role::text ~ 'regress_rights' ORDER BY role::text COLLATE "C";

CREATE FUNCTION pg_temp.seen() RETURNS TABLE (relation text, rows text) LANGUAGE sql SET search_path = pg_catalog AS $$
	SELECT 'task', string_agg(queue || ' ' || type || ' ' || state, ', ' ORDER BY queue, type) FROM coord.task WHERE queue ~ '^rights-'
	UNION ALL SELECT 'task_list', string_agg(queue || ' ' || type || ' ' || state, ', ' ORDER BY queue, type) FROM coord.task_list("limit" => 1000) WHERE queue ~ '^rights-'
	UNION ALL SELECT 'dead_letter', string_agg(queue || ' ' || type, ', ' ORDER BY queue, type) FROM coord.dead_letter WHERE queue ~ '^rights-'
	UNION ALL SELECT 'queue', string_agg(name || ' ' || pending || ' ' || dead, ', ' ORDER BY name) FROM coord.queue WHERE name ~ '^rights-'
	UNION ALL SELECT 'queue_list', string_agg(name || ' ' || pending || ' ' || dead, ', ' ORDER BY name) FROM coord.queue_list("limit" => 1000) WHERE name ~ '^rights-'
	UNION ALL SELECT 'lease', string_agg(resource_key, ', ' ORDER BY resource_key) FROM coord.lease WHERE resource_key ~ '^rights-'
	UNION ALL SELECT 'lease_list', string_agg(resource_key, ', ' ORDER BY resource_key) FROM coord.lease_list("limit" => 1000) WHERE resource_key ~ '^rights-'
	UNION ALL SELECT 'agent', string_agg(name, ', ' ORDER BY name) FROM coord.agent WHERE name ~ '^rights-'
	UNION ALL SELECT 'event', string_agg(type || coalesce(' ' || payload::text, ''), ', ' ORDER BY type) FROM coord.event WHERE type ~ '^rights\.'
	UNION ALL SELECT 'event_list', string_agg(type || coalesce(' ' || payload::text, ''), ', ' ORDER BY type) FROM coord.event_list(max_events => 10000) WHERE type ~ '^rights\.'
	UNION ALL SELECT 'task.dead', string_agg(payload ->> 'queue', ', ') FROM coord.event WHERE type = 'task.dead' AND payload ->> 'queue' ~ '^rights-'
	UNION ALL SELECT 'task.dead, listed', string_agg(payload ->> 'queue', ', ') FROM coord.event_list(channel => 'coord.tasks', max_events => 10000) WHERE payload ->> 'queue' ~ '^rights-'
$$;

-- a role with rights to one queue does in it what a queue is for
SET ROLE regress_rights_billing;
SELECT id AS bill FROM coord.agent_register('rights-bill', heartbeat_timeout => '10 min') \gset
SELECT id AS paid FROM coord.task_create('paid', queue => 'rights-billing') \gset
SELECT count(*) FROM coord.task_create_many('[{"type": "due", "queue": "rights-billing"}, {"type": "dead", "queue": "rights-billing", "max_attempts": 1, "priority": 1}]');
SELECT id AS dead, fencing_token AS token FROM coord.task_claim(:'bill', 'rights-billing') \gset
SELECT state FROM coord.task_fail(:'dead', :token);
SELECT fencing_token AS token FROM coord.task_claim(:'bill', task_id => :'paid') \gset
SELECT state FROM coord.task_complete(:'paid', :token);
SELECT resource_key FROM coord.lease_acquire('rights-billed', :'bill', '10 min');
SELECT type FROM coord.event_send('rights.all');
SELECT type FROM coord.event_send('rights.bill', '"secret"', recipient_id => :'bill');
CALL coord.queue_wait('rights-billing', '0 s');

-- and nothing in another
CALL pg_temp.attempt($$SELECT coord.task_create('x')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('x', queue => NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_create('x', queue => 'rights-post')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "x", "queue": "rights-billing"}, {"type": "x", "queue": "rights-post"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "x"}]')$$);
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L)', :'bill'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, %L)', :'bill', 'rights-post'));
CALL coord.queue_wait('rights-post', '0 s');
CALL pg_temp.attempt($$SELECT coord.queue_listen('rights-post')$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('rights-billing', max_claimed => 1)$$);
CALL pg_temp.attempt($$SELECT coord.queue_pause('rights-billing')$$);
CALL pg_temp.attempt($$SELECT coord.queue_resume('rights-billing')$$);
CALL pg_temp.attempt($$SELECT coord.task_redrive(queue => 'rights-post')$$);
SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "task.create", "params": {"type": "x"}}') -> 'error' AS error;

-- rights to create and to claim are two
SET ROLE regress_rights_maker;
SELECT id AS letter FROM coord.task_create('letter', queue => 'rights-post') \gset
SELECT id AS dropped FROM coord.task_create('dropped', queue => 'rights-post') \gset
SELECT state FROM coord.task_cancel(:'dropped');
-- what is in a queue that it does not see cannot be waited for either
CALL pg_temp.attempt(format($$SELECT coord.task_create('x', queue => 'rights-post', depends_on => ARRAY[%L]::uuid[])$$, :'paid'));
CALL pg_temp.attempt(format($$SELECT coord.task_create_many('[{"type": "x", "queue": "rights-post", "depends_on": [%I]}]')$$, :'paid'));
SELECT id AS maker FROM coord.agent_register('rights-maker', heartbeat_timeout => '10 min') \gset
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, %L)', :'maker', 'rights-post'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'maker', :'letter'));
CALL pg_temp.attempt($$SELECT coord.queue_listen('rights-post')$$);
SET ROLE regress_rights_taker;
SELECT id AS taker FROM coord.agent_register('rights-taker', heartbeat_timeout => '10 min') \gset
CALL pg_temp.attempt($$SELECT coord.task_create('x', queue => 'rights-post')$$);
CALL pg_temp.attempt(format('SELECT coord.task_cancel(%L)', :'letter'));
CALL pg_temp.attempt(format('SELECT coord.task_redrive(%L)', :'letter'));
SELECT coord.task_redrive();
-- a task of a queue that it has no right to is refused, finished or not; one that is none is not found
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'taker', :'paid'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'taker', :'dead'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'taker', 'e0000000-0000-4000-8000-000000000000'));
SELECT fencing_token AS token FROM coord.task_claim(:'taker', 'rights-post') \gset

-- what each of them sees
SET ROLE regress_rights_billing;
SELECT * FROM pg_temp.seen();
SET ROLE regress_rights_taker;
SELECT * FROM pg_temp.seen();
SET ROLE regress_rights_all;
SELECT * FROM pg_temp.seen();
-- the rights of several roles add up
SET ROLE regress_rights_member;
SELECT * FROM pg_temp.seen();
SELECT state FROM coord.task_fail(:'letter', :token, retry_in => '0 s');
CALL pg_temp.attempt($$SELECT coord.task_create('x', queue => 'rights-post')$$);
-- a role that does not inherit has them when it takes the other one's place
SET ROLE regress_rights_noinherit;
CALL pg_temp.attempt($$SELECT count(*) FROM coord.task$$);
RESET ROLE;

-- monitors see all rows; payloads that are not for them if they were granted
GRANT EXECUTE ON FUNCTION coord.task_list, coord.queue_list, coord.lease_list, coord.event_list TO regress_rights_monitor, regress_rights_auditor;
SET ROLE regress_rights_monitor;
SELECT * FROM pg_temp.seen();
SET ROLE regress_rights_auditor;
SELECT * FROM pg_temp.seen();
CALL pg_temp.attempt($$SELECT coord.task_create('x', queue => 'rights-post')$$);
RESET ROLE;

-- dead letters are driven again where the caller may create tasks
SELECT id FROM coord.agent_register('rights-root', heartbeat_timeout => '10 min') \gset root_
SELECT id FROM coord.task_create('broken', queue => 'rights-post', max_attempts => 1, priority => 9) \gset broken_
SELECT fencing_token FROM coord.task_claim(:'root_id', 'rights-post') \gset broken_
SELECT state FROM coord.task_fail(:'broken_id', :broken_fencing_token);
SET ROLE regress_rights_billing;
SELECT coord.task_redrive();
CALL pg_temp.attempt(format('SELECT coord.task_redrive(%L)', :'broken_id'));
SET ROLE regress_rights_maker;
SELECT coord.task_redrive(:'broken_id');
RESET ROLE;

-- a grant for the same queue is replaced, one of nothing is taken away; others are as they were
SELECT coord.grant_agent('regress_rights_maker', 'rights-post', can_create => false);
SELECT coord.grant_agent('regress_rights_maker', 'rights-mail');
SELECT coord.grant_agent('regress_rights_billing', 'rights-billing', false, false);
SELECT * FROM coord.queue_grant WHERE role::text ~ 'regress_rights' ORDER BY role::text COLLATE "C", queue;
SET ROLE regress_rights_billing;
CALL pg_temp.attempt($$SELECT coord.task_create('x', queue => 'rights-billing')$$);
SELECT count(*) FROM coord.task;
SELECT type FROM coord.event_send('rights.left'); -- it is an agent's all the same
RESET ROLE;
-- also within a transaction that reads by an older snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 AS ok FROM coord.task;
SELECT coord.grant_agent('regress_rights_billing', 'rights-billing');
SET LOCAL ROLE regress_rights_billing;
SELECT type FROM coord.task_create('x', queue => 'rights-billing');
ROLLBACK;
CALL pg_temp.attempt($$SELECT coord.grant_agent('regress_rights_maker', '')$$);
CALL pg_temp.attempt(format('SELECT coord.grant_agent(%L, %L)', 'regress_rights_maker', repeat('x', 513)));
CALL pg_temp.attempt($$SELECT coord.grant_agent('public')$$);
CALL pg_temp.attempt($$SELECT coord.grant_monitor('public')$$);
CALL pg_temp.attempt($$SELECT coord.grant_agent(NULL)$$);

-- an agent is its role's, not its name's
ALTER ROLE regress_rights_taker RENAME TO regress_rights_renamed;
SELECT name, owner FROM coord.agent WHERE name = 'rights-taker';
SET ROLE regress_rights_renamed;
SELECT status FROM coord.agent_heartbeat(:'taker');
SELECT owner FROM coord.agent_register('rights-taker', heartbeat_timeout => '10 min');
RESET ROLE;
CREATE ROLE regress_rights_taker;
SELECT coord.grant_agent('regress_rights_taker');
SET ROLE regress_rights_taker;
CALL pg_temp.attempt(format('SELECT coord.agent_heartbeat(%L)', :'taker'));
RESET ROLE;
-- nor has a role that was dropped left it to whoever bears the name
SELECT coord.revoke_all('regress_rights_renamed');
DROP ROLE regress_rights_renamed;
CREATE ROLE regress_rights_renamed;
SELECT coord.grant_agent('regress_rights_renamed');
SET ROLE regress_rights_renamed;
CALL pg_temp.attempt(format('SELECT coord.agent_heartbeat(%L)', :'taker'));
RESET ROLE;
SELECT status FROM coord.agent_retire(:'taker');

-- DROP OWNED takes privileges; the grants count for nothing then, and do not come back with others
DROP OWNED BY regress_rights_all;
SELECT coord.grant_agent('regress_rights_noinherit', 'rights-none');
ALTER ROLE regress_rights_noinherit INHERIT;
SET ROLE regress_rights_noinherit;
SELECT count(*) FROM coord.task;
RESET ROLE;
-- nor by a role that it is in
CREATE ROLE regress_rights_dropped;
SELECT coord.grant_agent('regress_rights_dropped', 'rights-billing'), coord.grant_monitor('regress_rights_dropped', payloads => true);
DROP OWNED BY regress_rights_dropped;
GRANT regress_rights_all TO regress_rights_dropped;
SELECT coord.grant_agent('regress_rights_all', 'rights-none');
SET ROLE regress_rights_dropped;
SELECT coord.seen_queues(), coord.sees_payloads();
RESET ROLE;
DROP ROLE regress_rights_dropped;
SELECT * FROM coord.queue_grant WHERE role = 'regress_rights_all'::regrole;

-- revoke_all leaves nothing
SELECT coord.revoke_all(rolname) FROM pg_roles WHERE rolname ~ '^regress_rights_';
SELECT count(*) FROM coord.queue_grant g, pg_roles r WHERE r.oid = g.role AND r.rolname ~ '^regress_rights_';
SELECT count(*) FROM coord.monitor_grant g, pg_roles r WHERE r.oid = g.role AND r.rolname ~ '^regress_rights_';
DROP ROLE regress_rights_billing, regress_rights_maker, regress_rights_taker, regress_rights_all, regress_rights_member,
	regress_rights_noinherit, regress_rights_monitor, regress_rights_auditor, regress_rights_renamed;
