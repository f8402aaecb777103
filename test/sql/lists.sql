-- Lists: what the relations show, filtered and a page at a time, for who may not read them;
-- and the inbox.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('list-ann', 'list', heartbeat_timeout => '10 min') \gset
SELECT id AS cid FROM coord.agent_register('list-cid', 'list', heartbeat_timeout => '10 min') \gset
SELECT id AS bob, last_heartbeat_at + heartbeat_timeout AS bob_ends_at
FROM coord.agent_register('list-bob', 'list', heartbeat_timeout => '100 ms') \gset
SELECT (coord.agent_retire(:'cid')).status;
CALL pg_temp.wait_for(:'bob_ends_at'::timestamptz);

-- Agents are listed newest first, with the status that they have now.
SELECT name, status FROM coord.agent_list(type => 'list');
SELECT name FROM coord.agent_list('active', 'list');
SELECT name FROM coord.agent_list('inactive', 'list');
SELECT name FROM coord.agent_list('retired', 'list');
SELECT name FROM coord.agent_list(name => 'list-ann');
SELECT name, status FROM coord.agent_list(agent_id => :'bob');
SELECT count(*) FROM coord.agent_list('active', agent_id => :'bob');
-- A page goes on after the last one of the page before.
SELECT id AS last, name FROM coord.agent_list(type => 'list', "limit" => 1) \gset
\echo :name
SELECT name FROM coord.agent_list(type => 'list', after => :'last', "limit" => 1);
SELECT name FROM coord.agent_list(type => 'list', after => :'ann');
-- What is listed is what the relation shows, in all columns.
SELECT count(*) FROM (SELECT * FROM coord.agent_list(type => 'list') EXCEPT SELECT * FROM coord.agent) other;

-- Leases are listed in the order of their resources, with the state that they have now.
SELECT (coord.lease_acquire('list-c', :'ann', '10 min')).state;
SELECT id AS lease FROM coord.lease_acquire('list-a', :'ann', '10 min') \gset
SELECT expires_at AS lease_ends_at FROM coord.lease_acquire('list-b', :'ann', '100 ms') \gset
SELECT coord.lease_release(:'lease');
CALL pg_temp.wait_for(:'lease_ends_at'::timestamptz);
SELECT resource_key, state FROM coord.lease_list(agent_id => :'ann');
SELECT resource_key FROM coord.lease_list(agent_id => :'ann', state => 'active');
SELECT resource_key FROM coord.lease_list(agent_id => :'ann', state => 'released');
SELECT resource_key FROM coord.lease_list(agent_id => :'ann', state => 'expired');
SELECT resource_key FROM coord.lease_list('list-c');
SELECT count(*) FROM coord.lease_list('list-c', state => 'expired');
SELECT count(*) FROM coord.lease_list('list-c', :'bob');
SELECT resource_key FROM coord.lease_list(agent_id => :'ann', after => 'list-a', "limit" => 1);
SELECT count(*) FROM (SELECT * FROM coord.lease_list(agent_id => :'ann') EXCEPT SELECT * FROM coord.lease) other;

-- Tasks are listed newest first, with the state that they have now: one of each, and one
-- whose claim has run out, with and without attempts left.
SELECT id AS a FROM coord.task_create('a', queue => 'list-1', resource_key => 'list-own', max_attempts => 3) \gset
SELECT id AS b FROM coord.task_create('b', queue => 'list-1', depends_on => ARRAY[:'a']::uuid[]) \gset
SELECT id AS c FROM coord.task_create('c', queue => 'list-2', max_attempts => 1) \gset
SELECT id AS d FROM coord.task_create('d', queue => 'list-2', max_attempts => 3) \gset
SELECT id AS e FROM coord.task_create('e', queue => 'list-2', max_attempts => 1) \gset
SELECT id AS f FROM coord.task_create('f', queue => 'list-2') \gset
SELECT id AS g FROM coord.task_create('g', queue => 'list-2') \gset
SELECT id AS h FROM coord.task_create('h', queue => 'list-2') \gset
SELECT count(coord.task_create('i', queue => 'list-3')) FROM generate_series(1, 3);
SELECT (coord.queue_set('list-2', backoff_base => '1 h', backoff_max => '1 h')).backoff_base;
SELECT state FROM coord.task_claim(:'ann', task_id => :'a', lease_ttl => '10 min');
SELECT fencing_token AS token FROM coord.task_claim(:'ann', task_id => :'e') \gset
SELECT (coord.task_fail(:'e', :token)).state;
SELECT fencing_token AS token FROM coord.task_claim(:'ann', task_id => :'f', resource_key => 'list-given') \gset
SELECT (coord.task_complete(:'f', :token, '{"done": true}')).state;
SELECT (coord.task_cancel(:'g')).state;
SELECT state FROM coord.task_claim(:'ann', task_id => :'h', lease_ttl => '10 min', resource_key => 'list-given');
SELECT max_attempts FROM coord.task_claim(:'ann', task_id => :'c', lease_ttl => '100 ms');
SELECT lease_expires_at AS claim_ends_at FROM coord.task_claim(:'ann', task_id => :'d', lease_ttl => '100 ms') \gset
SELECT state FROM coord.task_claim(:'ann', 'list-3', max_tasks => 2, lease_ttl => '10 min');
CALL pg_temp.wait_for(:'claim_ends_at'::timestamptz);

SELECT type, state FROM coord.task_list('list-2');
SELECT type, state FROM coord.task_list('list-1');
SELECT state, type FROM unnest('{blocked, pending, claimed, completed, dead, cancelled}'::text[]) s,
	LATERAL (SELECT string_agg(type, ' ') AS type FROM (SELECT type FROM coord.task_list('list-2', s) UNION ALL SELECT type FROM coord.task_list('list-1', s)) t) t,
	LATERAL (SELECT s) x (state);
-- What an agent has claimed, one by one and many at once, or had when it ended.
SELECT type, state FROM coord.task_list(agent_id => :'ann');
SELECT type FROM coord.task_list(agent_id => :'ann', state => 'claimed');
SELECT count(*) FROM coord.task_list(agent_id => :'bob');
-- By its resource, its own or the one that the claimant gave.
SELECT type FROM coord.task_list(resource_key => 'list-own');
SELECT type FROM coord.task_list(resource_key => 'list-given');
SELECT type FROM coord.task_list(resource_key => 'list-given', state => 'completed');
-- One task, whatever has become of it.
SELECT id, state, result FROM coord.task_list(task_id => :'f') EXCEPT SELECT :'f', 'completed', '{"done": true}';
SELECT type, state FROM unnest(ARRAY[:'a', :'c', :'e', :'g']::uuid[]) i, LATERAL coord.task_list(task_id => i);
SELECT count(*) FROM coord.task_list(task_id => :'ann');
SELECT count(*) FROM coord.task_list(task_id => :'a', queue => 'list-2');
SELECT type FROM coord.task_list(task_id => :'a', queue => 'list-1', state => 'claimed', type => 'a', agent_id => :'ann', resource_key => 'list-own', "limit" => 1);
-- Pages are the list, cut in pieces, whatever is on them.
CREATE FUNCTION pg_temp.pages(wanted text, size integer) RETURNS SETOF coord.task LANGUAGE plpgsql AS $$
DECLARE
	page coord.task[];
BEGIN
	LOOP
		page := ARRAY(SELECT t FROM coord.task_list(wanted, after => page[size].id, "limit" => size) t);
		RETURN QUERY SELECT * FROM unnest(page);
		EXIT WHEN cardinality(page) < size;
	END LOOP;
END
$$;
SELECT size, string_agg(type, ' ') FROM generate_series(1, 4) size, LATERAL pg_temp.pages('list-2', size) GROUP BY size ORDER BY size;
SELECT count(*) FROM (SELECT * FROM coord.task_list('list-2') EXCEPT SELECT * FROM coord.task) other;
SELECT count(*) FROM (SELECT * FROM coord.task WHERE queue = 'list-2' EXCEPT SELECT * FROM coord.task_list('list-2')) other;

-- A list is of what the transaction sees: also what it has done itself.
BEGIN;
SELECT (coord.task_create('mine', queue => 'list-4')).state;
SELECT type FROM coord.task_list('list-4');
SELECT name, pending FROM coord.queue_list('list-4');
ROLLBACK;
SELECT count(*) FROM coord.task_list('list-4');

-- Queues are listed by name, with what coord.queue counts.
SELECT (coord.queue_pause('list-3')).paused;
SELECT name, paused, pending, scheduled, blocked, claimed, dead FROM coord.queue_list(after => 'list-', "limit" => 3);
SELECT name FROM coord.queue_list(after => 'list-', paused => true, "limit" => 1);
SELECT name FROM coord.queue_list(after => 'list-1', paused => false, "limit" => 1);
SELECT name, paused FROM coord.queue_list('default');
SELECT count(*) FROM coord.queue_list('list-none');
SELECT count(*) FROM coord.queue_list('list-3', paused => false);
SELECT array_agg(name) = array_agg(name ORDER BY name COLLATE "C") AS by_name,
	array_agg(name ORDER BY name) = (SELECT array_agg(name ORDER BY name) FROM coord.queue) AS all FROM coord.queue_list("limit" => 1000);

-- The inbox acknowledges what was handled, and gives what comes next.
SELECT id AS eve FROM coord.agent_register('list-eve', 'list', heartbeat_timeout => '10 min') \gset
SELECT count(*) FROM (VALUES (1), (2), (3)) v (n), LATERAL coord.event_send('list.' || n, recipient_id => :'eve');
SELECT string_agg(type, ' ') FROM coord.inbox(:'eve');
SELECT string_agg(type, ' ') AS not_acknowledged FROM coord.inbox(:'eve', NULL, NULL);
SELECT format('%s', position) AS first FROM coord.inbox(:'eve') WHERE type = 'list.1' \gset
SELECT type FROM coord.inbox(:'eve', :first, 1);
SELECT type FROM coord.inbox(:'eve', ack => :first);
SELECT string_agg(type, ' ') FROM coord.event_poll(:'eve');
SELECT format('%s', max(position)) AS last FROM coord.inbox(:'eve') \gset
SELECT count(*) FROM coord.inbox(:'eve', :last);
CALL pg_temp.attempt(format('SELECT coord.inbox(%L, %s)', :'eve', :first));
CALL pg_temp.attempt(format('SELECT coord.inbox(%L, %s)', :'eve', :last + 1000000));
CALL pg_temp.attempt('SELECT coord.inbox(NULL)');
CALL pg_temp.attempt(format('SELECT coord.inbox(%L, max_events => 0)', :'eve'));
CALL pg_temp.attempt('SELECT coord.inbox(''00000000-0000-7000-8000-000000000000'')');

-- Misuse.
CALL pg_temp.attempt('SELECT coord.agent_list(''dead'')');
CALL pg_temp.attempt('SELECT coord.agent_list("limit" => 0)');
CALL pg_temp.attempt('SELECT coord.lease_list(state => ''claimed'')');
CALL pg_temp.attempt('SELECT coord.lease_list(after => '''')');
CALL pg_temp.attempt('SELECT coord.task_list(state => ''Pending'')');
CALL pg_temp.attempt('SELECT coord.task_list(queue => '''')');
CALL pg_temp.attempt('SELECT coord.task_list("limit" => 1001)');
CALL pg_temp.attempt('SELECT coord.queue_list(repeat(''x'', 513))');
CALL pg_temp.attempt('SELECT coord.queue_list("limit" => -1)');

SELECT (coord.queue_resume('list-3')).paused;
SELECT count((coord.agent_retire(id)).status) FROM unnest(ARRAY[:'ann', :'eve']::uuid[]) id;
