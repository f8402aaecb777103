-- MCP, in both eras.  What a client of flesh and blood makes of it: test/clients.
SET timezone = 'UTC';

CREATE FUNCTION pg_temp.ask(method text, params jsonb = NULL, defaults jsonb = NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT (r - 'jsonrpc' - 'id') #- '{result,instructions}' #- '{error,data,hint}'
	FROM coord.mcp(jsonb_strip_nulls(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', method, 'params', params))::text, defaults) r
$$;
\set modern '{"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}'
\set defaults '{"agent_id": "00000000-0000-7000-8000-00000000e001", "sender_id": "00000000-0000-7000-8000-00000000e001", "queue": "mcp"}'

-- initialize answers the revision that is asked for, else the newest of its era
SELECT version, pg_temp.ask('initialize', jsonb_build_object('protocolVersion', version, 'capabilities', '{}'::jsonb,
	'clientInfo', '{"name": "t", "version": "1"}'::jsonb)) #>> '{result,protocolVersion}' AS answered
FROM unnest(ARRAY['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25', '2026-07-28', '2031-01-01', '']) version;
SELECT pg_temp.ask('initialize', '{"protocolVersion": "2025-11-25"}');
SELECT pg_temp.ask('initialize', '{}');
SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}') #> '{result,capabilities}' AS "without a session";
SELECT pg_temp.ask('ping'), coord.mcp('{"jsonrpc": "2.0", "method": "notifications/initialized"}'), pg_temp.ask('logging/setLevel', '{"level": "info"}');
SELECT pg_temp.ask('logging/setLevel', '{"level": "loud"}');
SELECT pg_temp.ask('resources/list'), pg_temp.ask('server/discover') #> '{error,code}' AS "no revision";
SELECT pg_temp.ask('tools/list', '{"cursor": "x"}') #> '{error,data}';

-- the modern era: each request tells its revision
SELECT jsonb_pretty(pg_temp.ask('server/discover', :'modern'));
SELECT r - 'tools' AS listed, jsonb_array_length(r -> 'tools') > 20 AS tools FROM (SELECT pg_temp.ask('tools/list', :'modern') -> 'result' AS r) a;
SELECT method, pg_temp.ask(method, :'modern') FROM unnest(ARRAY['ping', 'initialize', 'logging/setLevel', 'subscriptions/listen']) method;
SELECT meta, pg_temp.ask('tools/list', jsonb_build_object('_meta', meta::jsonb)) -> 'error' AS error FROM (VALUES
	('{"io.modelcontextprotocol/protocolVersion": "2026-07-28"}'),
	('{"io.modelcontextprotocol/clientCapabilities": {}}'),
	('{"io.modelcontextprotocol/protocolVersion": 5, "io.modelcontextprotocol/clientCapabilities": {}}'),
	('{"io.modelcontextprotocol/protocolVersion": "2025-11-25", "io.modelcontextprotocol/clientCapabilities": {}}'),
	('{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}, "io.modelcontextprotocol/clientInfo": {}}'),
	('{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}, "io.modelcontextprotocol/logLevel": "x"}')) v (meta);
SELECT coord.mcp(jsonb_build_array(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'tools/list', 'params', :'modern'::jsonb))::text) #> '{0,error,code}' AS "no batches";

-- tools: an answer is an object, and the same as text; a refusal is one too
SELECT pg_temp.ask('tools/call', '{"name": "agent_register", "arguments": {"name": "mcp-1", "id": "00000000-0000-7000-8000-00000000e001"}}')
	#> '{result,structuredContent,status}' AS status;
SELECT name, pg_temp.ask('tools/call', jsonb_build_object('name', name), :'defaults') AS answer
FROM unnest(ARRAY['task_claim', 'task.claim', 'taskclaim', 'event.poll', 'inbox']) name;
SELECT pg_temp.ask('tools/call', '{"name": "lease_acquire", "arguments": {"resource_key": "mcp-r", "wait": 0}}', :'defaults')
	#> '{result,structuredContent,agent_id}' AS "by its function's name";
SELECT pg_temp.ask('tools/call', '{"name": "task_cancel", "arguments": {"task_id": "00000000-0000-7000-8000-00000000e0ff"}}');
SELECT pg_temp.ask('tools/call', :'modern'::jsonb || '{"name": "task_cancel", "arguments": {"task_id": "x"}}') -> 'result';
SELECT params, pg_temp.ask('tools/call', params::jsonb) AS answer FROM (VALUES
	(NULL), ('{}'), ('{"name": 5}'), ('{"name": "no_such"}'), ('{"name": "queue_list", "arguments": []}'), ('{"name": "queue_list", "arguments": 5}')) v (params);

-- what a session has by default; a call may say otherwise
SELECT pg_temp.ask('tools/call', '{"name": "task_create", "arguments": {"type": "t"}}', :'defaults') #> '{result,structuredContent,queue}' AS "mcp",
	pg_temp.ask('tools/call', '{"name": "task_create", "arguments": {"type": "t", "queue": "other"}}', :'defaults') #> '{result,structuredContent,queue}' AS "other",
	pg_temp.ask('tools/call', '{"name": "event_send", "arguments": {"type": "t"}}', :'defaults') #> '{result,structuredContent,sender_id}' AS sender;
SELECT pg_temp.ask('tools/call', '{"name": "task_create_many", "arguments": {"tasks": [{"type": "a"}, {"type": "b"}, {"type": "c", "queue": "other"}, {"type": "d", "queue": null}]}}',
	:'defaults') #> '{result,structuredContent,ids}' AS ids \gset
SELECT type, queue FROM coord.task WHERE :'ids'::jsonb ? id::text ORDER BY type;
SELECT pg_temp.ask('tools/call', '{"name": "inbox", "arguments": {"ack": 9007199254740991}}', :'defaults') #> '{result,structuredContent,argument}' AS "its own name";
SELECT pg_temp.ask('tools/call', '{"name": "task_claim", "arguments": {"wait": -1}}', :'defaults') #> '{result,structuredContent,argument}' AS "bad",
	pg_temp.ask('tools/call', '{"name": "task_claim", "arguments": {"wait": 30, "max_tasks": 3}}', :'defaults') #> '{result,structuredContent,tasks,2,type}' AS "not waited for",
	pg_temp.ask('tools/call', '{"name": "agent_retire"}', :'defaults') #> '{result,structuredContent,argument}' AS "not by default";
-- a task is redriven whatever queue the session has
SELECT pg_temp.ask('tools/call', '{"name": "task_create", "arguments": {"type": "t", "queue": "other", "max_attempts": 1, "id": "00000000-0000-7000-8000-00000000e002"}}') IS NOT NULL AS created;
SELECT pg_temp.ask('tools/call', '{"name": "task_claim", "arguments": {"task_id": "00000000-0000-7000-8000-00000000e002"}}', :'defaults') #> '{result,structuredContent,tasks,0,fencing_token}' AS token \gset
SELECT pg_temp.ask('tools/call', ('{"name": "task_fail", "arguments": {"task_id": "00000000-0000-7000-8000-00000000e002", "fencing_token": ' || :'token' || '}}')::jsonb) #> '{result,structuredContent,state}' AS failed;
SELECT pg_temp.ask('tools/call', '{"name": "task_redrive", "arguments": {"task_id": "00000000-0000-7000-8000-00000000e002"}}', :'defaults') #> '{result,structuredContent}' AS redriven;
SELECT coord.mcp('{}', '[]');
