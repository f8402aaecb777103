-- JSON-RPC: what is a request, what comes back, and what is undone.
SET timezone = 'UTC';

-- a call; times, tokens and generated ids are taken out of the answer
CREATE FUNCTION pg_temp.call(method text, params jsonb = NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT r - 'jsonrpc' - 'id'
	FROM coord.rpc(jsonb_strip_nulls(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', method, 'params', params))) r
$$;
-- only these members of the result
CREATE FUNCTION pg_temp.call(method text, params jsonb, VARIADIC members text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(c -> 'result') WHERE key = ANY (members)), c)
	FROM pg_temp.call(method, params) c
$$;
-- code and what data says, without instants
CREATE FUNCTION pg_temp.refusal(method text, params jsonb = NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE WHEN c ? 'error'
		THEN jsonb_build_object('code', c #> '{error,code}') || ((c #> '{error,data}') - 'detail' - 'hint' - 'expires_at' - 'retry_after')
		ELSE c END
	FROM pg_temp.call(method, params) c
$$;

-- Requests and their envelope.  Every response has jsonrpc, id, and one of result and error.
SELECT message, coord.rpc(message) #- '{error,data}' AS answer FROM (VALUES
	('{"jsonrpc": "2.0", "id": 1, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": "one", "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": "", "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": -7, "method": "ping", "params": null}'),
	('{"jsonrpc": "2.0", "id": 9007199254740993, "method": "queue.pause", "params": {}}'),
	('{"jsonrpc": "2.0", "id": null, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": true, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": {}, "method": "ping"}'),
	('{"jsonrpc": "1.0", "id": 1, "method": "ping"}'),
	('{"id": 1, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": 1}'),
	('{"jsonrpc": "2.0", "id": 1, "method": 5}'),
	('{"jsonrpc": "2.0", "id": 1, "method": "no.such"}'),
	('{"jsonrpc": "2.0", "id": 1, "method": "notifications/initialized"}'),
	('{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": 5}'),
	('{"jsonrpc": "2.0", "id": 1, "method": "queue.pause", "params": ["default"]}'),
	('{"jsonrpc": "2.0", "id": 1, "result": {}}'),
	('1'), ('"x"'), ('null'), ('{}'), ('[]'), (''), ('{'),
	('{"jsonrpc": "2.0", "id": 1, "method": "ping\u0000"}'),
	('{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": 1e999999}}')) AS v (message);
SELECT jsonb_path_query_array(coord.rpc('[1, "x", {}]'), '$[*].error.code') AS "three that are none";
SELECT coord.rpc(repeat('[', 100000)) #> '{error,code}' AS "too deep";
SELECT coord.rpc(NULL::text) IS NULL AS "nothing asked", coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "ping"}'::jsonb) AS jsonb;

-- MCP has no null id, in neither direction
SELECT message, coord.mcp(message) #- '{error,data}' AS answer FROM (VALUES
	('{"jsonrpc": "2.0", "id": null, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": 1, "method": "ping"}'),
	('{"jsonrpc": "2.0", "id": 1, "result": {}}'),
	('{"jsonrpc": "2.0", "id": 1, "method": 5}'),
	('{"jsonrpc": "2.0", "id": 0.5, "method": "ping"}'),
	('{')) AS v (message);

-- Notifications do their work and have no answer
SELECT coord.rpc('{"jsonrpc": "2.0", "method": "queue.set", "params": {"name": "told", "max_attempts": 3}}');
SELECT coord.rpc('{"jsonrpc": "2.0", "method": "queue.set", "params": {"name": 5}}');
SELECT coord.rpc('{"jsonrpc": "2.0", "method": "no.such"}');
SELECT coord.rpc('[{"jsonrpc": "2.0", "method": "queue.pause", "params": {"name": "told"}}]');
SELECT name, max_attempts, paused FROM coord.queue WHERE name = 'told';

-- A batch: each for itself
SELECT jsonb_pretty(coord.rpc('[
	{"jsonrpc": "2.0", "id": 1, "method": "event.unsubscribe", "params": {"agent_id": "00000000-0000-0000-0000-000000000000", "channel": "x"}},
	{"jsonrpc": "2.0", "id": 2, "method": "ping"},
	{"jsonrpc": "2.0", "method": "ping"},
	5,
	{"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {"protocolVersion": "2025-03-26"}}]'));
SELECT coord.rpc((SELECT jsonb_agg('{"jsonrpc": "2.0", "id": 1, "method": "ping"}'::jsonb) FROM generate_series(1, 1001))) #> '{error,code}' AS "1001 in a batch";
SELECT jsonb_array_length(coord.rpc((SELECT jsonb_agg('{"jsonrpc": "2.0", "id": 1, "method": "ping"}'::jsonb) FROM generate_series(1, 1000)))) AS "1000";

-- The main job
SELECT pg_temp.call('agent.register', '{"name": "rpc-1", "id": "00000000-0000-7000-8000-00000000a001", "metadata": {"m": [1]}, "heartbeat_timeout": 0.5}',
	'id', 'name', 'status', 'metadata', 'heartbeat_timeout', 'inactive_since');
SELECT pg_temp.call('agent.register', '{"name": "rpc-1", "heartbeat_timeout": 600}', 'id', 'heartbeat_timeout');
SELECT pg_temp.call('agent.register', '{"name": "rpc-2", "id": "00000000-0000-7000-8000-00000000a002"}', 'id', 'type');
SELECT pg_temp.call('task.create', '{"type": "t", "id": "00000000-0000-7000-8000-00000000b001", "payload": {"a": {"b": null}}, "resource_key": "rpc-r", "run_at": "2026-01-01T00:00:00+02:00"}',
	'id', 'state', 'payload', 'run_at', 'resource_key', 'fencing_token');
SELECT jsonb_array_length(pg_temp.call('task.create_many', '{"tasks": [{"type": "x"}, {"type": "y", "priority": -1}]}') #> '{result,ids}');
SELECT c -> 'state' AS state, c -> 'agent_id' AS agent_id, jsonb_typeof(c -> 'fencing_token') AS token,
	(c ->> 'lease_expires_at')::timestamptz - (c ->> 'claimed_at')::timestamptz AS ttl
FROM jsonb_array_elements(pg_temp.call('task.claim',
	'{"agent_id": "00000000-0000-7000-8000-00000000a001", "task_id": "00000000-0000-7000-8000-00000000b001", "lease_ttl": 12.5}') #> '{result,tasks}') c;
SELECT pg_temp.refusal('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a002", "task_id": "00000000-0000-7000-8000-00000000b001"}');
SELECT pg_temp.refusal('lock.acquire', '{"agent_id": "00000000-0000-7000-8000-00000000a002", "resource_key": "rpc-r"}');
SELECT (d ->> 'retry_after')::numeric BETWEEN 5 AND 12.5 AS "seconds to go", (d ->> 'expires_at')::timestamptz > clock_timestamp() AS until
FROM (SELECT pg_temp.call('lock.acquire', '{"agent_id": "00000000-0000-7000-8000-00000000a002", "resource_key": "rpc-r"}') #> '{error,data}' AS d) e;
SELECT pg_temp.refusal('task.complete', '{"task_id": "00000000-0000-7000-8000-00000000b001", "fencing_token": 1}');
-- a token is taken as a number and as a string of its digits
SELECT pg_temp.call('task.renew', jsonb_build_object('task_id', id, 'fencing_token', fencing_token::text, 'progress', '{"done": 1}'::jsonb), 'state', 'progress')
FROM coord.task WHERE id = '00000000-0000-7000-8000-00000000b001';
SELECT pg_temp.call('task.complete', jsonb_build_object('task_id', id, 'fencing_token', fencing_token, 'result', '"done"'::jsonb), 'state', 'result')
FROM coord.task WHERE id = '00000000-0000-7000-8000-00000000b001';
SELECT pg_temp.call('lock.acquire', '{"agent_id": "00000000-0000-7000-8000-00000000a002", "resource_key": "rpc-r", "ttl": 60, "auto_renew": true}',
	'resource_key', 'state', 'ttl', 'auto_renew', 'task_id');
SELECT pg_temp.call('lock.list', '{"resource_key": "rpc-r"}') #> '{result,locks,0,state}' AS listed;
SELECT pg_temp.call('lock.assert', jsonb_build_object('resource_key', 'rpc-r', 'fencing_token', fencing_token)),
	pg_temp.call('lock.release', jsonb_build_object('lease_id', id)), pg_temp.call('lock.release', jsonb_build_object('lease_id', id))
FROM coord.lease WHERE resource_key = 'rpc-r';
SELECT pg_temp.refusal('lock.assert', jsonb_build_object('resource_key', 'rpc-r', 'fencing_token', fencing_token)),
	pg_temp.refusal('lock.renew', jsonb_build_object('lease_id', id))
FROM coord.lease WHERE resource_key = 'rpc-r';
SELECT pg_temp.call('event.subscribe', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "channel": "c"}');
SELECT pg_temp.call('task.redrive', '{"queue": "told"}') AS "none is dead";
SELECT (pg_temp.call('queue.list', '{"name": "told"}') #> '{result,queues,0}') - 'retention' AS queue;

-- An integer that most readers of JSON would round is a string
SELECT pg_temp.refusal('task.complete', '{"task_id": "00000000-0000-7000-8000-00000000b001", "fencing_token": "9007199254740993"}');
SELECT pg_temp.refusal('event.ack', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "position": 9223372036854775808}');

-- Arguments: what is wrong is named, with what was expected
SELECT pg_temp.refusal(method, params) FROM (VALUES
	('task.create', NULL::jsonb),
	('task.create', '{"type": null}'),
	('task.create', '{"type": 5}'),
	('task.create', '{"type": ""}'),
	('task.create', '{"type": "t", "nonsense": 1}'),
	('task.create', '{"type": "t", "priority": "1"}'),
	('task.create', '{"type": "t", "priority": 1.5}'),
	('task.create', '{"type": "t", "priority": 1e10}'),
	('task.create', '{"type": "t", "run_at": "tomorrow"}'),
	('task.create', '{"type": "t", "run_at": "2026-01-01T00:00:00"}'),
	('task.create', '{"type": "t", "run_at": "2026-13-01T00:00:00Z"}'),
	('task.create', '{"type": "t", "run_at": "01-02-2026T00:00:00Z"}'),
	('task.create', '{"type": "t", "depends_on": "x"}'),
	('task.create', '{"type": "t", "depends_on": [1]}'),
	('task.create', '{"type": "t", "depends_on": ["00000000-0000-7000-8000-00000000b0ff"]}'),
	('task.create', '{"type": "t", "id": "x"}'),
	('task.create_many', '{"tasks": {}}'),
	('task.create_many', '{"tasks": [{"tpye": "x"}]}'),
	('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "lease_ttl": "60"}'),
	('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "lease_ttl": -1}'),
	('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "lease_ttl": 1e300}'),
	('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "max_tasks": 0}'),
	('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "wait": 1}'),
	('task.claim', '{"agent_id": "00000000-0000-7000-8000-00000000a0ff"}'),
	('lock.acquire', '{"agent_id": "00000000-0000-7000-8000-00000000a001", "resource_key": "k", "auto_renew": "yes"}'),
	('event.send', '{"type": "t", "severity": "loud"}'),
	('task.list', '{"state": "done"}')) AS v (method, params);
-- no character of a name is cut in two
SELECT pg_temp.call('task.list', jsonb_build_object(repeat(chr(233), 40), 1)) #>> '{error,data,argument}' = repeat(chr(233), 31) AS whole;

-- The other codes
SELECT pg_temp.refusal('task.create', jsonb_build_object('type', 't', 'payload', jsonb_build_object('x', repeat('x', 1100000)))) AS "too large";
SELECT pg_temp.call('agent.retire', '{"agent_id": "00000000-0000-7000-8000-00000000a002"}', 'status');
SELECT pg_temp.refusal('agent.heartbeat', '{"agent_id": "00000000-0000-7000-8000-00000000a002"}') AS "wrong state";
CREATE ROLE regress_rpc;
SELECT coord.grant_agent('regress_rpc');
SET ROLE regress_rpc;
SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "agent.heartbeat", "params": {"agent_id": "00000000-0000-7000-8000-00000000a001"}}') #- '{error,data,detail}' AS "not allowed";
RESET ROLE;
REVOKE EXECUTE ON FUNCTION coord.queue_pause FROM regress_rpc;
SET ROLE regress_rpc;
SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "queue.pause", "params": {"name": "told"}}') AS "no grant";
RESET ROLE;
SELECT coord.revoke_all('regress_rpc');
DROP ROLE regress_rpc;
BEGIN READ ONLY;
SELECT pg_temp.refusal('queue.pause', '{"name": "told"}') AS "read only", pg_temp.call('agent.list', '{"name": "rpc-2"}') #> '{result,agents,0,status}' AS list;
COMMIT;

-- What a failed call did is undone, and what others of its batch did is not; all is undone with the transaction
BEGIN;
SELECT jsonb_path_query_array(coord.rpc('[
	{"jsonrpc": "2.0", "id": 1, "method": "task.create", "params": {"type": "kept", "unique_key": "rpc-kept"}},
	{"jsonrpc": "2.0", "id": 2, "method": "task.create_many", "params": {"tasks": [{"type": "undone", "unique_key": "rpc-undone"}, {"type": ""}]}}]'), '$[*].error.code');
SELECT type, unique_key FROM coord.task WHERE unique_key LIKE 'rpc-%';
ROLLBACK;
SELECT count(*) FROM coord.task WHERE unique_key LIKE 'rpc-%';

-- What is too large to be answered is undone, and the others are answered
SELECT pg_temp.call('task.create', jsonb_build_object('type', 't', 'id', '00000000-0000-7000-8000-00000000b003', 'payload', repeat('x', 1048000)), 'state');
SELECT c ->> 'code' AS code, c ->> 'message' AS message, count(*) > 5 AS many
FROM (SELECT coalesce(a -> 'error', '{}') AS c FROM jsonb_array_elements(coord.rpc((SELECT jsonb_agg(jsonb_build_object('jsonrpc', '2.0', 'id', g, 'method', 'task.list',
	'params', '{"task_id": "00000000-0000-7000-8000-00000000b003"}'::jsonb)) FROM generate_series(1, 140) g))) a) b
GROUP BY 1, 2 ORDER BY 1;

-- What is wrong in a request is told in short, however often and long it is
SELECT count(*), max(length(c #>> '{structuredContent,message}')) < 3000 AS short
FROM (SELECT a -> 'result' AS c FROM jsonb_array_elements(coord.rpc((SELECT jsonb_agg(jsonb_build_object('jsonrpc', '2.0', 'id', g, 'method', 'tools/call',
	'params', jsonb_build_object('name', 'task_create', 'arguments', jsonb_build_object('type', 't', 'id', repeat(chr(1), 60000))))) FROM generate_series(1, 700) g))) a) b
WHERE c ->> 'isError' = 'true';

-- A statement that is cancelled ends, and says so to each that was asked: what is not begun is not done
SELECT pg_temp.call('agent.register', '{"name": "rpc-3", "id": "00000000-0000-7000-8000-00000000a003"}', 'status'),
	pg_temp.call('lock.acquire', '{"resource_key": "rpc-held", "agent_id": "00000000-0000-7000-8000-00000000a003", "ttl": 600}', 'state');
SET statement_timeout = '4s';
SELECT jsonb_path_query_array(coord.rpc('[
	{"jsonrpc": "2.0", "id": 1, "method": "task.create", "params": {"type": "t", "unique_key": "rpc-before"}},
	{"jsonrpc": "2.0", "id": 2, "method": "lock.acquire", "params": {"resource_key": "rpc-held", "agent_id": "00000000-0000-7000-8000-00000000a001", "wait": 600}},
	{"jsonrpc": "2.0", "id": 3, "method": "task.create", "params": {"type": "t", "unique_key": "rpc-after"}}]'), '$[*].error.data.sqlstate');
RESET statement_timeout;
SELECT unique_key FROM coord.task WHERE unique_key LIKE 'rpc-%';
-- and one that calls again ends
SET statement_timeout = '2s';
SELECT count(coord.rpc('{"jsonrpc": "2.0", "id": 2, "method": "lock.acquire", "params": {"resource_key": "rpc-held", "agent_id": "00000000-0000-7000-8000-00000000a001", "wait": 600}}'))
FROM generate_series(1, 100);
RESET statement_timeout;
SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "ping"}') AS "the next one";
