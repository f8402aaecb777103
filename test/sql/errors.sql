-- Every error of the contract: its SQLSTATE, a message that names the thing, a
-- detail that gives its state, a hint where there is something to do.  Nothing
-- that is refused leaves anything behind.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('error-ann', heartbeat_timeout => '10 min', id => 'e0000000-0000-4000-8000-00000000000a') \gset
SELECT id AS bob FROM coord.agent_register('error-bob', heartbeat_timeout => '10 min', id => 'e0000000-0000-4000-8000-00000000000b') \gset
SELECT id, state FROM coord.task_create('t', queue => 'error-claimed', id => 'e0000000-0000-4000-8000-00000000000c');
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'error-claimed', lease_ttl => '10 min') \gset
SELECT id AS lease FROM coord.lease_acquire('error-lease', :'ann', '10 min') \gset
\set e_task e0000000-0000-4000-8000-00000000000c
CREATE TEMP TABLE before AS SELECT (SELECT count(*) FROM coord.agent) AS agents, (SELECT count(*) FROM coord.lease) AS leases,
	(SELECT count(*) FROM coord.task) AS tasks, (SELECT count(*) FROM coord.queue) AS queues,
	(SELECT count(*) FROM coord.event WHERE type LIKE 'error.%') AS events;

-- agent_register
CALL pg_temp.attempt($$SELECT coord.agent_register(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register(repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.agent_register(repeat(chr(233), 257))$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', type => '')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', type => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', heartbeat_timeout => '0')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', heartbeat_timeout => '-1 s')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', heartbeat_timeout => '99 ms')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', heartbeat_timeout => '367 days')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', heartbeat_timeout => '1000 years')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', metadata => to_jsonb(repeat('x', 1024 * 1024)))$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-x', id => 'e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('error-ann', id => 'e0000000-0000-4000-8000-00000000000b')$$);

-- agent_heartbeat, agent_retire
CALL pg_temp.attempt($$SELECT coord.agent_heartbeat(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.agent_heartbeat('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.agent_retire(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.agent_retire('e0000000-0000-4000-8000-0000000000ff')$$);

-- lease_acquire
CALL pg_temp.attempt($$SELECT coord.lease_acquire(NULL, 'e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('', 'e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire(repeat('x', 513), 'e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', '99 ms')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', '0')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', '-1 s')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', '24 h 1 ms')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', max_hold => '-1 s')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', max_hold => '200 years')$$);

-- lease_renew, lease_release, lease_assert
CALL pg_temp.attempt($$SELECT coord.lease_renew(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.lease_renew('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.lease_renew('e0000000-0000-4000-8000-00000000000c')$$);
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L, %L)', :'lease', '99 ms'));
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L, %L)', :'lease', '25 h'));
CALL pg_temp.attempt($$SELECT coord.lease_release(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.lease_release('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.lease_assert(NULL, 1)$$);
CALL pg_temp.attempt($$SELECT coord.lease_assert('', 1)$$);
CALL pg_temp.attempt($$SELECT coord.lease_assert('error-lease', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.lease_assert('error-lease', 1)$$);
CALL pg_temp.attempt($$SELECT coord.lease_assert('error-never', 1)$$);

-- task_create
CALL pg_temp.attempt($$SELECT coord.task_create(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_create('')$$);
CALL pg_temp.attempt($$SELECT coord.task_create(repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', to_jsonb(repeat('x', 1024 * 1024)))$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', ('[' || repeat('1e131071,', 8) || '0]')::jsonb)$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', queue => '')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', queue => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', run_at => 'infinity')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', run_at => '-infinity')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', run_at => '4713-01-01 BC')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', run_at => '10000-01-01')$$);
BEGIN;
SELECT to_jsonb(run_at AT TIME ZONE 'UTC') FROM (VALUES ('0001-01-02 00:00Z'::timestamptz), ('9999-12-30 23:59Z')) v (at), coord.task_create('t', run_at => at);
ROLLBACK;
CALL pg_temp.attempt($$SELECT coord.task_create('t', max_attempts => 0)$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', max_attempts => -1)$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', max_attempts => 1000001)$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', unique_key => '')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', unique_key => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', depends_on => ARRAY[NULL]::uuid[])$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', depends_on => ARRAY['e0000000-0000-4000-8000-0000000000ff']::uuid[])$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', depends_on => ARRAY['e0000000-0000-4000-8000-0000000000ff']::uuid[], id => 'e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', resource_key => '')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', resource_key => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_create('t', id => 'e0000000-0000-4000-8000-00000000000c')$$);

-- task_create_many
CALL pg_temp.attempt($$SELECT coord.task_create_many(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('{"type": "t"}')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('"t"')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('null')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[1]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[null]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[[]]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": null}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": 1}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": ""}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t"}, {"type": "t", "kind": "x"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "queue": 1}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "queue": ""}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "priority": "high"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "priority": 1.5}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "priority": 2147483648}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "run_at": 1}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "run_at": "soon"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "run_at": "infinity"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "max_attempts": 0}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "max_attempts": true}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "unique_key": ""}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "depends_on": "e0000000-0000-4000-8000-0000000000ff"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "depends_on": [1]}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "depends_on": [null]}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "depends_on": ["x"]}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "depends_on": ["e0000000-0000-4000-8000-0000000000ff"]}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "resource_key": {}}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "id": "x"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "t", "id": "e0000000-0000-4000-8000-00000000000c"}]')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many(jsonb_build_array(jsonb_build_object('type', repeat('x', 513))))$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many(jsonb_build_array(jsonb_build_object('type', 't', 'payload', repeat('x', 1024 * 1024))))$$);

-- task_claim
CALL pg_temp.attempt($$SELECT coord.task_claim(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', '')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', task_id => 'e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000b', task_id => 'e0000000-0000-4000-8000-00000000000c')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', resource_key => '')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', resource_key => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', lease_ttl => '99 ms')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', lease_ttl => '25 h')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', max_tasks => 0)$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', max_tasks => -1)$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a', max_tasks => 10001)$$);

-- task_renew, task_complete, task_fail, task_release
CALL pg_temp.attempt($$SELECT coord.task_renew(NULL, 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_renew('e0000000-0000-4000-8000-00000000000c', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_renew('e0000000-0000-4000-8000-0000000000ff', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_renew('e0000000-0000-4000-8000-00000000000c', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_complete(NULL, 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_complete('e0000000-0000-4000-8000-00000000000c', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_complete('e0000000-0000-4000-8000-0000000000ff', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_complete('e0000000-0000-4000-8000-00000000000c', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_fail(NULL, 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_fail('e0000000-0000-4000-8000-00000000000c', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_fail('e0000000-0000-4000-8000-0000000000ff', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_fail('e0000000-0000-4000-8000-00000000000c', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_release(NULL, 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_release('e0000000-0000-4000-8000-00000000000c', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_release('e0000000-0000-4000-8000-0000000000ff', 1)$$);
CALL pg_temp.attempt($$SELECT coord.task_release('e0000000-0000-4000-8000-00000000000c', 1)$$);
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s, %L)', :'e_task', :token, '99 ms'));
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s, %L)', :'e_task', :token, '25 h'));
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s, progress => to_jsonb(repeat(%L, 1024 * 1024)))', :'e_task', :token, 'x'));
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s, to_jsonb(repeat(%L, 1024 * 1024)))', :'e_task', :token, 'x'));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s, repeat(%L, 1024 * 1024 + 1))', :'e_task', :token, 'x'));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s, retry_in => %L)', :'e_task', :token, '-1 s'));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s, retry_in => %L)', :'e_task', :token, '200 years'));
SELECT state, attempts, fencing_token = :token AS same_token, progress FROM coord.task WHERE id = :'e_task';

-- task_cancel, task_redrive
CALL pg_temp.attempt($$SELECT coord.task_cancel(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_cancel('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.task_redrive('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.task_redrive('e0000000-0000-4000-8000-00000000000c')$$);
CALL pg_temp.attempt($$SELECT coord.task_redrive(queue => 'error-none')$$);
CALL pg_temp.attempt($$SELECT coord.task_redrive(queue => '')$$);

-- queue_set, queue_pause, queue_resume
CALL pg_temp.attempt($$SELECT coord.queue_set(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('')$$);
CALL pg_temp.attempt($$SELECT coord.queue_set(repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', max_attempts => 0)$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', max_attempts => 1000001)$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', lease_ttl => '99 ms')$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', lease_ttl => '25 h')$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', backoff_base => '-1 s')$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', backoff_max => '-1 s')$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', max_claimed => -1)$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', max_claimed => 10001)$$);
CALL pg_temp.attempt($$SELECT coord.queue_set('error-x', retention => '-1 s')$$);
CALL pg_temp.attempt($$SELECT coord.queue_pause(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.queue_pause('')$$);
CALL pg_temp.attempt($$SELECT coord.queue_pause('error-none')$$);
CALL pg_temp.attempt($$SELECT coord.queue_resume(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.queue_resume('')$$);
CALL pg_temp.attempt($$SELECT coord.queue_resume('error-none')$$);

-- event_send
CALL pg_temp.attempt($$SELECT coord.event_send(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.event_send('')$$);
CALL pg_temp.attempt($$SELECT coord.event_send(repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', to_jsonb(repeat('x', 1024 * 1024)))$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', recipient_id => 'e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', channel => '')$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', channel => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', severity => 'fatal')$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', severity => 'INFO')$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', severity => '')$$);
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', sender_id => 'e0000000-0000-4000-8000-0000000000ff')$$);

-- event_listen, event_unlisten, listen_name, event_list
CALL pg_temp.attempt($$SELECT coord.event_listen('e0000000-0000-4000-8000-00000000000a', 'c')$$);
CALL pg_temp.attempt($$SELECT coord.event_listen(channel => '')$$);
CALL pg_temp.attempt($$SELECT coord.event_listen(channel => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.event_unlisten('e0000000-0000-4000-8000-00000000000a', 'c')$$);
CALL pg_temp.attempt($$SELECT coord.event_unlisten(channel => '')$$);
CALL pg_temp.attempt($$SELECT coord.event_unlisten(channel => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.listen_name('e0000000-0000-4000-8000-00000000000a', 'c')$$);
CALL pg_temp.attempt($$SELECT coord.listen_name(channel => '')$$);
CALL pg_temp.attempt($$SELECT coord.listen_name(channel => repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.event_listen('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.event_list('e0000000-0000-4000-8000-0000000000ff')$$);
CALL pg_temp.attempt($$SELECT coord.event_list(channel => '')$$);
CALL pg_temp.attempt($$SELECT coord.event_list(type => '')$$);
CALL pg_temp.attempt($$SELECT coord.event_list(max_events => 0)$$);
CALL pg_temp.attempt($$SELECT coord.event_list(max_events => 10001)$$);

-- grant_agent, grant_monitor, revoke_all
CALL pg_temp.attempt($$SELECT coord.grant_agent('regress_coord_nobody')$$);
CALL pg_temp.attempt($$SELECT coord.grant_monitor('regress_coord_nobody')$$);
CALL pg_temp.attempt($$SELECT coord.revoke_all('regress_coord_nobody')$$);

-- What was refused has left nothing behind.
SELECT (SELECT count(*) FROM coord.agent) = agents AS agents, (SELECT count(*) FROM coord.lease) = leases AS leases,
	(SELECT count(*) FROM coord.task) = tasks AS tasks, (SELECT count(*) FROM coord.queue) = queues AS queues,
	(SELECT count(*) FROM coord.event WHERE type LIKE 'error.%') = events AS events
FROM before;

-- The bounds themselves are allowed: names of 512 bytes, a payload of nearly
-- 1 MiB, TTLs from coord.min_lease_ttl to coord.max_lease_ttl.
BEGIN;
SELECT octet_length(name), octet_length(type), heartbeat_timeout
FROM coord.agent_register(repeat(chr(233), 256), repeat('x', 512), '366 days');
SELECT heartbeat_timeout FROM coord.agent_register('error-bounds', heartbeat_timeout => '100 ms');
SELECT octet_length(resource_key), ttl FROM coord.lease_acquire(repeat('x', 512), :'ann', '24 h');
SELECT ttl FROM coord.lease_acquire('error-bounds', :'ann', '100 ms');
SELECT octet_length(type), octet_length(queue), octet_length(unique_key), octet_length(resource_key), max_attempts
FROM coord.task_create(repeat('x', 512), queue => repeat('x', 512), unique_key => repeat('x', 512), resource_key => repeat('y', 512),
	max_attempts => 1000000);
SELECT length(payload #>> '{}') FROM coord.task_create('t', to_jsonb(repeat('x', 1024 * 1024 - 16)), 'error-bounds');
SELECT length(payload #>> '{}') FROM coord.event_send('error.x', to_jsonb(repeat('x', 1024 * 1024 - 16)));
SELECT count(*) FROM coord.task_claim(:'ann', repeat('x', 512), max_tasks => 10000);
ROLLBACK;
SET coord.min_lease_ttl = '2 s';
SET coord.max_lease_ttl = '3 s';
SELECT ttl FROM coord.lease_acquire('error-bounds', :'ann', '2 s');
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', '1999 ms')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a', '3001 ms')$$);
RESET coord.min_lease_ttl;
RESET coord.max_lease_ttl;

-- Nor do the settings that anybody may change lead out of the bounds: such a
-- default is refused, or brought within them.
CREATE PROCEDURE pg_temp.default_ttl(setting text, agent uuid) LANGUAGE plpgsql AS $$
DECLARE
	given interval;
BEGIN
	PERFORM set_config('coord.default_lease_ttl', setting, true);
	SELECT ttl INTO given FROM coord.lease_acquire('error-default-' || setting, agent);
	RAISE INFO 'within the bounds: %', given BETWEEN '100 ms' AND '24 h';
EXCEPTION WHEN invalid_parameter_value THEN
	RAISE INFO 'within the bounds: %', true;
END
$$;
CALL pg_temp.default_ttl('25h', :'ann');
CALL pg_temp.default_ttl('1ms', :'ann');
RESET coord.default_lease_ttl;

-- 55P03: held by another.
SELECT state FROM coord.task_create('t', queue => 'error-held', resource_key => 'error-lease', id => 'e0000000-0000-4000-8000-00000000000d');
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000b', task_id => 'e0000000-0000-4000-8000-00000000000d')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000b', task_id => 'e0000000-0000-4000-8000-00000000000c')$$);

-- 55000: no longer active, or in the wrong state.
SELECT coord.lease_release(:'lease');
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L)', :'lease'));
SELECT state FROM coord.task_cancel('e0000000-0000-4000-8000-00000000000d');
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000b', task_id => 'e0000000-0000-4000-8000-00000000000d')$$);
SELECT status FROM coord.agent_retire(:'bob');
CALL pg_temp.attempt($$SELECT coord.agent_heartbeat('e0000000-0000-4000-8000-00000000000b')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000b')$$);
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000b')$$);

-- 42501: not the agent's owner, or no grant.
CREATE ROLE regress_coord_stranger;
CREATE ROLE regress_coord_ungranted;
SELECT coord.grant_agent('regress_coord_stranger');
SELECT id AS lease FROM coord.lease_acquire('error-lease', :'ann', '10 min') \gset
SET ROLE regress_coord_stranger;

CALL pg_temp.attempt($$SELECT coord.agent_register('error-ann')$$);
CALL pg_temp.attempt($$SELECT coord.agent_heartbeat('e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.agent_retire('e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.lease_acquire('error-x', 'e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L)', :'lease'));
CALL pg_temp.attempt(format('SELECT coord.lease_release(%L)', :'lease'));
CALL pg_temp.attempt($$SELECT coord.task_claim('e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s)', :'e_task', :token));
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'e_task', :token));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s)', :'e_task', :token));
CALL pg_temp.attempt(format('SELECT coord.task_release(%L, %s)', :'e_task', :token));
CALL pg_temp.attempt($$SELECT coord.event_send('error.x', sender_id => 'e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.event_listen('e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.event_list('e0000000-0000-4000-8000-00000000000a')$$);
CALL pg_temp.attempt($$SELECT coord.grant_agent('regress_coord_ungranted')$$);
CALL pg_temp.attempt($$SELECT coord.grant_monitor('regress_coord_ungranted')$$);
CALL pg_temp.attempt($$SELECT coord.revoke_all('regress_coord_ungranted')$$);
RESET ROLE;
SELECT state, fencing_token = :token AS same_token FROM coord.task WHERE id = :'e_task';
SELECT state FROM coord.lease WHERE id = :'lease';
SET ROLE regress_coord_ungranted;
CALL pg_temp.attempt($$SELECT coord.version()$$);
CALL pg_temp.attempt($$SELECT FROM coord.agent$$);
RESET ROLE;
SELECT coord.revoke_all('regress_coord_stranger');
DROP ROLE regress_coord_stranger;
DROP ROLE regress_coord_ungranted;
