-- Who may do what: PUBLIC nothing, an agent's role all that an agent does but
-- only as its own agents, a monitor only look; and nobody touches the stored
-- rows.
BEGIN;
SELECT plan(171);

CREATE ROLE pgtap_fresh;
CREATE ROLE pgtap_agent;
CREATE ROLE pgtap_member IN ROLE pgtap_agent;
CREATE ROLE pgtap_stranger;
CREATE ROLE pgtap_monitor;

CREATE TEMP TABLE note (name text PRIMARY KEY, value text);
GRANT ALL ON note TO PUBLIC;
CREATE FUNCTION pg_temp.note(wanted text) RETURNS text LANGUAGE sql AS $$ SELECT value FROM note WHERE name = wanted $$;

-- What a role may do in schema coord, by the catalogs.
CREATE FUNCTION pg_temp.callable_by(role name) RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(proname::text ORDER BY proname), '{}')
	FROM pg_proc WHERE pronamespace = 'coord'::regnamespace AND has_function_privilege(role, oid, 'EXECUTE')
$$;
CREATE FUNCTION pg_temp.touchable_by(role name, rights text, column_rights text) RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(relname::text ORDER BY relname), '{}')
	FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
		AND (has_table_privilege(role, oid, rights) OR has_any_column_privilege(role, oid, column_rights))
$$;
CREATE FUNCTION pg_temp.sequences_of(role name) RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(relname::text ORDER BY relname), '{}')
	FROM pg_class WHERE relnamespace = 'coord'::regnamespace
		AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(role, oid, 'USAGE, SELECT, UPDATE') END
$$;
\set any_rights '''SELECT, INSERT, UPDATE, REFERENCES, DELETE, TRUNCATE, TRIGGER'', ''SELECT, INSERT, UPDATE, REFERENCES'''
\set read_rights '''SELECT'', ''SELECT'''
\set write_rights '''INSERT, UPDATE, REFERENCES, DELETE, TRUNCATE, TRIGGER'', ''INSERT, UPDATE, REFERENCES'''

-- PUBLIC, that is a role that was given nothing.
SELECT ok(NOT has_schema_privilege('pgtap_fresh', 'coord', 'USAGE'), 'PUBLIC has no usage of the schema');
SELECT ok(NOT has_schema_privilege('pgtap_fresh', 'coord', 'CREATE'), 'PUBLIC creates nothing in the schema');
SELECT is(pg_temp.callable_by('pgtap_fresh'), '{}', 'PUBLIC calls no function');
SELECT is(pg_temp.touchable_by('pgtap_fresh', :any_rights), '{}', 'PUBLIC reads and writes no relation');
SELECT is(pg_temp.sequences_of('pgtap_fresh'), '{}', 'PUBLIC uses no sequence');
SET ROLE pgtap_fresh;
SELECT throws_ok($$SELECT coord.version()$$, '42501', NULL, 'PUBLIC is refused a call');
SELECT throws_ok($$SELECT coord.agent_register('pgtap-x')$$, '42501', NULL, 'PUBLIC registers no agent');
SELECT throws_ok($$SELECT count(*) FROM coord.task$$, '42501', NULL, 'PUBLIC is refused a look');
RESET ROLE;

-- grant_agent
SELECT lives_ok($$SELECT coord.grant_agent('pgtap_agent')$$, 'grant_agent');
SELECT lives_ok($$SELECT coord.grant_agent('pgtap_agent')$$, 'grant_agent again');
SELECT lives_ok($$SELECT coord.grant_agent('pgtap_stranger')$$, 'grant_agent to another role');
SELECT is(pg_temp.callable_by('pgtap_agent'),
	'{agent_attach,agent_heartbeat,agent_list,agent_register,agent_retire,attachment_ended_at,backoff,beats_since,blocked_by,count_tasks,dashboard,event_ack,event_list,event_listen,event_poll,event_send,event_subscribe,event_unlisten,event_unsubscribe,fence,history,inbox,is_granted,is_monitor,last_beat,lease_acquire,lease_assert,lease_list,lease_release,lease_renew,listen_name,mcp,queue_list,queue_listen,queue_pause,queue_resume,queue_set,queue_stats,queue_unlisten,queue_wait,rpc,rpc,seen_queues,sees_all_queues,sees_payloads,setting,shown,sweep,task_cancel,task_claim,task_complete,task_complete_many,task_create,task_create_many,task_fail,task_list,task_redrive,task_release,task_renew,task_schedule,task_unschedule,version}',
	'it calls the functions of agents, and those that the relations are made of');
SELECT ok(has_schema_privilege('pgtap_agent', 'coord', 'USAGE'), 'it uses the schema');
SELECT ok(NOT has_schema_privilege('pgtap_agent', 'coord', 'CREATE'), 'it creates nothing in the schema');
SELECT is(pg_temp.touchable_by('pgtap_agent', :read_rights), '{agent,dead_letter,event,lease,queue,task}', 'it reads the relations, but for the worker''s');
SELECT is(pg_temp.touchable_by('pgtap_agent', :write_rights), '{}', 'it writes no relation');
SELECT is(pg_temp.sequences_of('pgtap_agent'), '{}', 'it uses no sequence');
SELECT is(pg_temp.callable_by('pgtap_fresh'), '{}', 'that gave PUBLIC nothing');

-- The whole round is made with names of the caller's own in front of
-- PostgreSQL's: whoever resolved one of them would raise an error.
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO pgtap_agent;
CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile clock'; END$$;
CREATE FUNCTION hostile.nextval(regclass) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile sequence'; END$$;
CREATE FUNCTION hostile.nextval(text) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile sequence'; END$$;
CREATE FUNCTION hostile.jsonb_build_object(VARIADIC "any") RETURNS jsonb LANGUAGE internal AS 'jsonb_build_object_noargs';
CREATE FUNCTION hostile.equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile ='; END$$;
CREATE FUNCTION hostile.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile ='; END$$;
CREATE FUNCTION hostile.compare(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile <='; END$$;
CREATE OPERATOR hostile.= (FUNCTION = hostile.equal, LEFTARG = uuid, RIGHTARG = uuid);
CREATE OPERATOR hostile.= (FUNCTION = hostile.equal, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR hostile.<= (FUNCTION = hostile.compare, LEFTARG = timestamptz, RIGHTARG = timestamptz);
CREATE OPERATOR hostile.> (FUNCTION = hostile.compare, LEFTARG = timestamptz, RIGHTARG = timestamptz);
CREATE FUNCTION pg_temp.hostile(command text) RETURNS text LANGUAGE plpgsql SET search_path = hostile, pg_catalog AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE command INTO answer;
	RETURN answer;
END
$$;

SELECT throws_ok($$SELECT pg_temp.hostile('SELECT clock_timestamp()')$$, 'P0001', 'hostile clock', 'the hostile names are in front');
SET ROLE pgtap_agent;
INSERT INTO note VALUES ('agent', pg_temp.hostile($$SELECT id FROM coord.agent_register('pgtap-agent', heartbeat_timeout => '1 h')$$));
SELECT isnt(pg_temp.note('agent'), NULL, 'it registers an agent');
SELECT is(pg_temp.hostile(format('SELECT owner FROM coord.agent_heartbeat(%L)', pg_temp.note('agent'))), 'pgtap_agent', 'which belongs to it, and beats');
INSERT INTO note VALUES ('lease', pg_temp.hostile(format('SELECT id FROM coord.lease_acquire(%L, %L, %L)', 'pgtap-key', pg_temp.note('agent'), '1 h')));
SELECT isnt(pg_temp.note('lease'), NULL, 'it acquires a lease');
INSERT INTO note VALUES ('lease_token', pg_temp.hostile(format('SELECT fencing_token FROM coord.lease_renew(%L)', pg_temp.note('lease'))));
SELECT isnt(pg_temp.note('lease_token'), NULL, 'renews it');
SELECT lives_ok(format('SELECT pg_temp.hostile(%L)', format('SELECT coord.lease_assert(%L, %s)', 'pgtap-key', pg_temp.note('lease_token'))), 'asserts it');
SELECT is(pg_temp.hostile(format('SELECT coord.lease_release(%L)', pg_temp.note('lease'))), 'true', 'and releases it');
INSERT INTO note VALUES ('task', pg_temp.hostile($$SELECT id FROM coord.task_create('t', queue => 'pgtap-q', unique_key => 'u', resource_key => 'pgtap-task-key')$$));
SELECT isnt(pg_temp.note('task'), NULL, 'it creates a task');
SELECT is(pg_temp.hostile($$SELECT count(*) FROM coord.task_create_many('[{"type": "t", "queue": "pgtap-q"}, {"type": "t", "queue": "pgtap-q"}]')$$), '2', 'and many');
INSERT INTO note VALUES ('token', pg_temp.hostile(format('SELECT fencing_token FROM coord.task_claim(%L, task_id => %L)', pg_temp.note('agent'), pg_temp.note('task'))));
SELECT isnt(pg_temp.note('token'), NULL, 'it claims a task');
SELECT is(pg_temp.hostile(format('SELECT state FROM coord.task_renew(%L, %s)', pg_temp.note('task'), pg_temp.note('token'))), 'claimed', 'renews it');
SELECT is(pg_temp.hostile(format('SELECT state FROM coord.task_release(%L, %s)', pg_temp.note('task'), pg_temp.note('token'))), 'pending', 'releases it');
UPDATE note SET value = pg_temp.hostile(format('SELECT fencing_token FROM coord.task_claim(%L, task_id => %L)', pg_temp.note('agent'), pg_temp.note('task'))) WHERE name = 'token';
SELECT is(pg_temp.hostile(format('SELECT state FROM coord.task_fail(%L, %s, retry_in => %L)', pg_temp.note('task'), pg_temp.note('token'), '0 s')), 'pending', 'fails it');
UPDATE note SET value = pg_temp.hostile(format('SELECT fencing_token FROM coord.task_claim(%L, task_id => %L)', pg_temp.note('agent'), pg_temp.note('task'))) WHERE name = 'token';
SELECT is(pg_temp.hostile(format('SELECT state FROM coord.task_complete(%L, %s)', pg_temp.note('task'), pg_temp.note('token'))), 'completed', 'and completes it');
SELECT is(pg_temp.hostile(format('SELECT count(*) FROM coord.task_claim(%L, %L, max_tasks => 10)', pg_temp.note('agent'), 'pgtap-q')), '2', 'it claims what is next');
SELECT is(pg_temp.hostile($$SELECT state FROM coord.task_cancel((coord.task_create('t', queue => 'pgtap-q')).id)$$), 'cancelled', 'it cancels a task');
SELECT is(pg_temp.hostile($$SELECT coord.task_redrive(queue => 'pgtap-q')$$), '0', 'it drives dead letters again');
SELECT is(pg_temp.hostile($$SELECT paused FROM coord.queue_pause('pgtap-q')$$), 'true', 'it pauses a queue');
SELECT is(pg_temp.hostile($$SELECT paused FROM coord.queue_resume('pgtap-q')$$), 'false', 'and resumes it');
SELECT is(pg_temp.hostile($$SELECT max_claimed FROM coord.queue_set('pgtap-q', max_claimed => 5)$$), '5', 'and sets it');
SELECT is(pg_temp.hostile(format('SELECT type FROM coord.event_send(%L, recipient_id => %L, channel => %L, sender_id => %L)', 'pgtap.mail',
	pg_temp.note('agent'), 'pgtap-channel', pg_temp.note('agent'))), 'pgtap.mail', 'it sends an event');
SELECT is(pg_temp.hostile($$SELECT type FROM coord.event_send('pgtap.news', channel => 'pgtap-channel')$$), 'pgtap.news', 'and another');
SELECT is(pg_temp.hostile(format('SELECT name FROM coord.agent_list(%L, %L, %L)', 'active', 'worker', 'pgtap-agent')), 'pgtap-agent', 'it lists agents');
SELECT is(pg_temp.hostile(format('SELECT state FROM coord.lease_list(%L, %L, %L)', 'pgtap-key', pg_temp.note('agent'), 'released')), 'released', 'leases');
SELECT is(pg_temp.hostile(format('SELECT count(*) FROM coord.lease_list(agent_id => %L, state => %L)', pg_temp.note('agent'), 'active')), '0', 'those that are held');
SELECT is(pg_temp.hostile(format('SELECT count(*) FROM coord.task_list(%L)', 'pgtap-q')), '4', 'tasks');
SELECT is(pg_temp.hostile(format('SELECT count(*) FROM coord.task_list(agent_id => %L, state => %L, type => %L)', pg_temp.note('agent'), 'claimed', 't')), '2', 'what its agent has claimed');
SELECT is(pg_temp.hostile(format('SELECT result IS NULL FROM coord.task_list(task_id => %L, resource_key => %L)', pg_temp.note('task'), 'pgtap-task-key')), 'true', 'one of them');
SELECT is(pg_temp.hostile($$SELECT count(*) FROM coord.task_list('pgtap-q', 'blocked')$$), '0', 'what waits for others');
SELECT is(pg_temp.hostile($$SELECT claimed FROM coord.queue_list(after => 'pgtap-', paused => false)$$), '2', 'and queues');
SELECT is(pg_temp.hostile($$SELECT coord.sweep() IS NOT NULL$$), 'true', 'it sweeps');
-- Delivery within this transaction, since nothing here is ever committed.
RESET ROLE;
DO $$ BEGIN PERFORM nextval('coord.event_position'); END $$;
INSERT INTO coord.event_partition SELECT 0, 0, now() WHERE NOT EXISTS (SELECT FROM coord.event_partition);
WITH sent AS (DELETE FROM coord.event_inbox RETURNING *)
INSERT INTO coord.event_log SELECT nextval('coord.event_position'), sent.*,
	(SELECT partition FROM coord.event_partition ORDER BY first_position DESC LIMIT 1) FROM sent;
SET ROLE pgtap_agent;
SELECT is(pg_temp.hostile(format('SELECT type FROM coord.event_list(%L)', pg_temp.note('agent'))), 'pgtap.mail', 'it lists the events to its agent');
SELECT is(pg_temp.hostile($$SELECT string_agg(type, ' ') FROM coord.event_list(channel => 'pgtap-channel')$$), 'pgtap.mail pgtap.news', 'and those on a channel');
SELECT is(pg_temp.hostile(format('SELECT coord.event_subscribe(%L, %L)', pg_temp.note('agent'), 'pgtap-channel')), 'true', 'it subscribes its agent');
SELECT is(pg_temp.hostile(format($$SELECT string_agg(type, ' ') FROM coord.event_poll(%L)$$, pg_temp.note('agent'))), 'pgtap.mail pgtap.news', 'it polls for it');
SELECT is(pg_temp.hostile(format('SELECT string_agg(type, %L) FROM coord.inbox(%L)', ' ', pg_temp.note('agent'))), 'pgtap.mail pgtap.news', 'looks into its inbox');
SELECT is(pg_temp.hostile(format('SELECT coord.event_ack(%L, max(position)) IS NOT NULL FROM coord.event_poll(%1$L)', pg_temp.note('agent'))), 'true', 'and acknowledges');
SELECT is(pg_temp.hostile(format('SELECT count(*) FROM coord.event_poll(%L)', pg_temp.note('agent'))), '0', 'once');
SELECT is(pg_temp.hostile(format('SELECT coord.event_unsubscribe(%L, %L)', pg_temp.note('agent'), 'pgtap-channel')), 'true', 'it ends the subscription');
SELECT is(pg_temp.hostile(format('SELECT coord.event_listen(%L)', pg_temp.note('agent'))), 'coord:agent:' || pg_temp.note('agent'), 'it listens for its agent');
SELECT is(pg_temp.hostile(format('SELECT coord.event_unlisten(%L)', pg_temp.note('agent'))), 'coord:agent:' || pg_temp.note('agent'), 'and no longer');
SELECT is(pg_temp.hostile($$SELECT coord.listen_name()$$), 'coord:all', 'it asks for a name');
RESET ROLE;

-- It has no part of the stored relations, nor of the views that nothing is filtered from, whatever it tries.
SELECT set_eq($$SELECT relname::text FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relkind IN ('r', 'p')
		AND NOT has_table_privilege('pgtap_agent', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')$$,
	$$SELECT relname::text FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relkind IN ('r', 'p')$$,
	'no stored relation is open to an agent''s role');
SET ROLE pgtap_agent;
SELECT throws_ok(format('SELECT count(*) FROM coord.%I', r), '42501', NULL, 'an agent''s role cannot read coord.' || r)
FROM unnest('{agent_data, lease_data, task_live, claim_deadline, claim_batch, task_dependency, dependency_check, dependant_check, task_finished, task_dead, queue_data, queue_slot, queue_count, event_inbox, event_log, event_log_0, event_partition, event_subscription, event_cursor, queue_grant, monitor_grant, installation, agent_all, lease_all, task_all, task_unfinished, event_all, queue_all, worker}'::text[]) r;
SELECT throws_ok(format('DELETE FROM coord.%I', r), '42501', NULL, 'an agent''s role cannot write coord.' || r)
FROM unnest('{agent_data, lease_data, task_live, task_finished, task_dead, queue_data, event_inbox, event_log, event_log_0, event_partition, event_subscription, event_cursor, queue_grant, monitor_grant}'::text[]) r;
SELECT throws_ok($$SELECT nextval('coord.fencing_token')$$, '42501', NULL, 'an agent''s role cannot use up tokens');
SELECT throws_ok($$SELECT coord.grant_agent('pgtap_fresh')$$, '42501', NULL, 'an agent''s role grants nothing');
SELECT throws_ok($$SELECT coord.grant_monitor('pgtap_agent')$$, '42501', NULL, 'not even to itself');
SELECT throws_ok($$SELECT coord.revoke_all('pgtap_stranger')$$, '42501', NULL, 'and revokes nothing');
RESET ROLE;

-- Another role cannot act as its agent.
INSERT INTO note SELECT 'lease2', id FROM coord.lease_acquire('pgtap-root', (SELECT id FROM coord.agent_register('pgtap-root', heartbeat_timeout => '1 h')), '1 h');
SET ROLE pgtap_agent;
UPDATE note SET value = (SELECT id FROM coord.lease_acquire('pgtap-key', pg_temp.note('agent')::uuid, '1 h')) WHERE name = 'lease';
UPDATE note SET value = (SELECT id FROM coord.task_create('t', queue => 'pgtap-q2', resource_key => 'pgtap-key2')) WHERE name = 'task';
UPDATE note SET value = (SELECT fencing_token FROM coord.task_claim(pg_temp.note('agent')::uuid, 'pgtap-q2', lease_ttl => '1 h')) WHERE name = 'token';
SET ROLE pgtap_stranger;
SELECT throws_ok($$SELECT coord.agent_register('pgtap-agent')$$, '42501', NULL, 'a stranger cannot register the name again');
SELECT throws_ok(format('SELECT coord.agent_heartbeat(%L)', pg_temp.note('agent')), '42501', NULL, 'nor beat for it');
SELECT throws_ok(format('SELECT coord.agent_retire(%L)', pg_temp.note('agent')), '42501', NULL, 'nor retire it');
SELECT throws_ok(format('SELECT coord.lease_acquire(%L, %L)', 'pgtap-x', pg_temp.note('agent')), '42501', NULL, 'nor acquire a lease for it');
SELECT throws_ok(format('SELECT coord.lease_renew(%L)', pg_temp.note('lease')), '42501', NULL, 'nor renew its lease');
SELECT throws_ok(format('SELECT coord.lease_release(%L)', pg_temp.note('lease')), '42501', NULL, 'nor release it');
SELECT throws_ok(format('SELECT coord.task_claim(%L)', pg_temp.note('agent')), '42501', NULL, 'nor claim for it');
SELECT throws_ok(format('SELECT coord.%I(%L, %s)', f, pg_temp.note('task'), pg_temp.note('token')), '42501', NULL, 'nor call ' || f || ' with its token')
FROM unnest('{task_renew, task_complete, task_fail, task_release}'::text[]) f;
SELECT throws_ok(format('SELECT coord.event_send(%L, sender_id => %L)', 'pgtap.x', pg_temp.note('agent')), '42501', NULL, 'nor send as it');
SELECT throws_ok(format('SELECT coord.event_listen(%L)', pg_temp.note('agent')), '42501', NULL, 'nor listen for it');
SELECT throws_ok(format('SELECT coord.event_list(%L)', pg_temp.note('agent')), '42501', NULL, 'nor list the events to it');
SELECT throws_ok(format('SELECT coord.event_poll(%L)', pg_temp.note('agent')), '42501', NULL, 'nor poll for it');
SELECT throws_ok(format('SELECT coord.event_ack(%L, 1)', pg_temp.note('agent')), '42501', NULL, 'nor acknowledge');
SELECT throws_ok(format('SELECT coord.inbox(%L, 1)', pg_temp.note('agent')), '42501', NULL, 'nor look into its inbox');
SELECT throws_ok(format('SELECT coord.event_subscribe(%L, %L)', pg_temp.note('agent'), 'c'), '42501', NULL, 'nor subscribe it');
SELECT throws_ok(format('SELECT coord.event_unsubscribe(%L, %L)', pg_temp.note('agent'), 'c'), '42501', NULL, 'nor unsubscribe it');
SELECT is((SELECT string_agg(type, ' ') FROM coord.event_list(channel => 'pgtap-channel')), 'pgtap.news', 'those to it are not on the channel either');
SELECT is((SELECT count(*)::int FROM coord.event_list(type => 'pgtap.mail')), 0, 'nor anywhere else');
SELECT lives_ok(format('SELECT coord.event_send(%L, recipient_id => %L)', 'pgtap.x', pg_temp.note('agent')), 'but anybody may send to it');
RESET ROLE;
SELECT is((SELECT owner FROM coord.agent WHERE name = 'pgtap-agent'), 'pgtap_agent', 'the agent is as it was');
SELECT is((SELECT state FROM coord.lease WHERE resource_key = 'pgtap-key'), 'active', 'so is its lease');
SELECT is((SELECT state FROM coord.task WHERE id = pg_temp.note('task')::uuid), 'claimed', 'and its claim');

-- A member of the owner's role may act as its agent; the agent stays the owner's.
SET ROLE pgtap_member;
SELECT is((SELECT owner FROM coord.agent_heartbeat(pg_temp.note('agent')::uuid)), 'pgtap_agent', 'a member beats for the agent');
SELECT is((SELECT owner FROM coord.agent_register('pgtap-agent', heartbeat_timeout => '1 h')), 'pgtap_agent', 'registers it again');
SELECT is((SELECT state FROM coord.lease_renew(pg_temp.note('lease')::uuid)), 'active', 'renews its lease');
SELECT is((SELECT state FROM coord.task_complete(pg_temp.note('task')::uuid, pg_temp.note('token')::bigint)), 'completed', 'completes its task');
SELECT is((SELECT type FROM coord.event_list(pg_temp.note('agent')::uuid, type => 'pgtap.mail')), 'pgtap.mail', 'reads its events');
SELECT is((SELECT owner FROM coord.agent_register('pgtap-member')), 'pgtap_member', 'and owns what it registers itself');
SET ROLE pgtap_agent;
SELECT throws_ok($$SELECT coord.agent_register('pgtap-member')$$, '42501', NULL, 'which its role does not');
RESET ROLE;
SELECT lives_ok(format('SELECT coord.agent_heartbeat(%L)', pg_temp.note('agent')), 'a superuser may act as any agent');

-- grant_monitor
SELECT lives_ok($$SELECT coord.grant_monitor('pgtap_monitor')$$, 'grant_monitor');
SELECT is(pg_temp.touchable_by('pgtap_monitor', :read_rights), '{agent,dead_letter,event,lease,queue,task,worker}', 'a monitor reads the relations of the contract');
SELECT is(pg_temp.touchable_by('pgtap_monitor', :write_rights), '{}', 'and writes none');
SELECT is(pg_temp.sequences_of('pgtap_monitor'), '{}', 'and uses no sequence');
SET ROLE pgtap_monitor;
SELECT lives_ok(format('SELECT * FROM coord.%I', r), 'a monitor reads coord.' || r)
FROM unnest('{agent, lease, task, dead_letter, event, queue, worker}'::text[]) r;
SELECT is((SELECT array_agg(payload::text) FROM coord.event WHERE type = 'pgtap.mail'), '{NULL}', 'it sees events to whoever, without what is in them');
SELECT throws_ok($$SELECT coord.agent_register('pgtap-x')$$, '42501', NULL, 'it registers no agent');
SELECT throws_ok($$SELECT coord.task_create('t')$$, '42501', NULL, 'it creates no task');
SELECT throws_ok($$SELECT count(*) FROM coord.task_live$$, '42501', NULL, 'it reads no stored relation');
RESET ROLE;

-- Both can be given to one role, and revoke_all takes all away.
SELECT coord.grant_monitor('pgtap_agent');
SET ROLE pgtap_agent;
SELECT lives_ok($$SELECT count(*) FROM coord.agent$$, 'an agent''s role may be a monitor too');
RESET ROLE;
SELECT lives_ok($$SELECT coord.revoke_all('pgtap_agent'), coord.revoke_all('pgtap_monitor')$$, 'revoke_all');
SELECT lives_ok($$SELECT coord.revoke_all('pgtap_agent')$$, 'revoke_all again');
SELECT is(pg_temp.callable_by(role), '{}', role || ' calls nothing any more') FROM unnest('{pgtap_agent, pgtap_monitor}'::text[]) role;
SELECT is(pg_temp.touchable_by(role, :any_rights), '{}', role || ' reads nothing any more') FROM unnest('{pgtap_agent, pgtap_monitor}'::text[]) role;
SELECT ok(NOT has_schema_privilege(role, 'coord', 'USAGE'), role || ' does not use the schema any more') FROM unnest('{pgtap_agent, pgtap_monitor}'::text[]) role;
SET ROLE pgtap_agent;
SELECT throws_ok(format('SELECT coord.agent_heartbeat(%L)', pg_temp.note('agent')), '42501', NULL, 'its own agent is out of its reach');
RESET ROLE;
SELECT lives_ok($$DROP ROLE pgtap_monitor$$, 'a role whose rights were revoked can be dropped');
SET ROLE pgtap_stranger;
SELECT lives_ok($$SELECT coord.agent_register('pgtap-stranger')$$, 'other roles keep their rights');
RESET ROLE;

-- What DROP OWNED has taken away does not come back with another grant.
CREATE ROLE pgtap_returns;
SELECT coord.grant_agent('pgtap_returns'), coord.grant_monitor('pgtap_returns', payloads => true);
DROP OWNED BY pgtap_returns;
GRANT USAGE ON SCHEMA coord TO pgtap_returns;
SELECT coord.grant_agent('pgtap_returns', 'only');
SELECT is((SELECT array_agg(queue) FROM coord.queue_grant WHERE role = 'pgtap_returns'::regrole), '{only}', 'after DROP OWNED a grant gives its queue only');
SELECT is((SELECT count(*)::int FROM coord.monitor_grant WHERE role = 'pgtap_returns'::regrole), 0, 'and no payloads');
SELECT coord.grant_agent('pgtap_returns', 'other');
SELECT is((SELECT array_agg(queue ORDER BY queue) FROM coord.queue_grant WHERE role = 'pgtap_returns'::regrole), '{only,other}', 'a further one adds its queue');

SELECT * FROM finish();
ROLLBACK;
