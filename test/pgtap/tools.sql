-- The methods of JSON-RPC and the tools of MCP are made from the catalog: nothing that an
-- agent may call is missing, no argument lacks a type or a text, and what is described is
-- what is accepted.
BEGIN;
SELECT plan(19);

CREATE TEMP TABLE tool AS
SELECT t ->> 'name' AS name, t -> 'inputSchema' AS input, t -> 'outputSchema' AS output, t ->> 'description' AS description, n
FROM jsonb_array_elements(coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}') #> '{result,tools}') WITH ORDINALITY AS e (t, n);

CREATE TEMP VIEW argument AS
SELECT tool.name AS tool, a.key AS name, a.value AS schema FROM tool, jsonb_each(input -> 'properties') a;

-- a tool's function: lock_* is lease_*, and two need not say that they are of tasks
CREATE TEMP VIEW function AS
SELECT tool.name AS tool, p.oid, p.proname, p.proargnames, p.pronargs, p.pronargdefaults
FROM tool LEFT JOIN pg_proc p ON p.pronamespace = 'coord'::regnamespace AND p.proname = regexp_replace(regexp_replace(tool.name, '^lock_', 'lease_'), '^task_(?=blocked_by|history)', '');

SELECT is_empty('SELECT tool FROM function WHERE oid IS NULL', 'each tool has its function');
SELECT set_eq($$SELECT proname::text FROM pg_proc
	WHERE pronamespace = 'coord'::regnamespace AND prokind = 'f' AND proname ~ '^(agent|lease|task|queue|event)_|^(inbox|blocked_by|history)$'
	EXCEPT SELECT proname::text FROM function$$,
	ARRAY['agent_attach', 'event_listen', 'event_unlisten', 'queue_listen', 'queue_unlisten'],
	'each function of agents is a tool, but those that need a session');
SELECT is_empty($$SELECT tool, name FROM argument
	EXCEPT SELECT tool, unnest(proargnames[:pronargs]) FROM function$$, 'no tool has an argument that its function has not');
SELECT is_empty($$SELECT tool, unnest(proargnames[:pronargs]) FROM function
	EXCEPT SELECT tool, name FROM argument$$, 'no tool lacks one');
SELECT is_empty($$SELECT tool, unnest(proargnames[:pronargs - pronargdefaults]) FROM function
	EXCEPT SELECT name, jsonb_array_elements_text(input -> 'required') FROM tool$$, 'what has no default is required');
SELECT is_empty($$SELECT name, jsonb_array_elements_text(input -> 'required') FROM tool
	EXCEPT SELECT tool, unnest(proargnames[:pronargs - pronargdefaults]) FROM function$$, 'and nothing else is');
SELECT is_empty($$SELECT tool, name FROM argument WHERE length(coalesce(schema ->> 'description', '')) < 8$$,
	'each argument has a description');
SELECT is_empty($$SELECT tool, name FROM argument WHERE schema -> 'type' IS NULL$$, 'and a type');
SELECT is_empty($$SELECT name FROM tool WHERE length(description) < 30 OR description !~ 'Returns '$$,
	'each tool says what it does and what comes back');
SELECT is_empty($$SELECT name FROM tool WHERE input ->> 'type' <> 'object' OR output ->> 'type' <> 'object'
	OR input -> 'additionalProperties' <> 'false' OR input -> 'required' = '[]' OR name !~ '^[a-z_]{1,64}$'$$,
	'schemas are of objects, and names have no dot');
SELECT is_empty($$SELECT name FROM tool WHERE concat(description, input) ~ '\mNULL\M|coord\.[a-z_]+ [^(]'$$,
	'what JSON has no word for is put otherwise, and settings are shown with their values');
SELECT is_empty($$SELECT name FROM tool WHERE input::text ~ '"type": \[|"format": "(?!date-time)'$$,
	'an argument has one type, and no format that Gemini refuses');
SELECT is_empty($$SELECT tool FROM argument WHERE schema::text ~ 'null[,}]'$$, 'no member of a schema is null');

-- A session's defaults stand in for what a call leaves out, and are shown so
CREATE TEMP TABLE bridged AS
SELECT t ->> 'name' AS name, t -> 'inputSchema' AS input
FROM jsonb_array_elements(coord.mcp('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}',
	'{"agent_id": "00000000-0000-7000-8000-00000000d001", "queue": "q"}') #> '{result,tools}') t;
SELECT set_eq($$SELECT name FROM bridged WHERE input #>> '{properties,agent_id,default}' = '00000000-0000-7000-8000-00000000d001'
		AND NOT coalesce(input -> 'required' ? 'agent_id', false)$$,
	ARRAY['agent_heartbeat', 'event_ack', 'event_poll', 'event_subscribe', 'event_unsubscribe', 'inbox', 'lock_acquire', 'task_claim'],
	'a default for agent_id is one where the agent acts, not where it filters or ends one');
SELECT is((SELECT input #>> '{properties,queue,default}' FROM bridged WHERE name = 'task_create')
		|| (SELECT input #>> '{properties,tasks,items,properties,queue,default}' FROM bridged WHERE name = 'task_create_many')
		|| coalesce((SELECT input #>> '{properties,queue,default}' FROM bridged WHERE name = 'task_list'), '-'), 'qq-',
	'a default for queue too, also for each of many tasks');

-- A token that most readers of JSON would round is a string of digits, in answers and where it is given back
CREATE FUNCTION pg_temp.token_type() RETURNS text LANGUAGE sql AS $$
	SELECT t #>> '{inputSchema,properties,fencing_token,type}'
	FROM jsonb_array_elements(coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}') #> '{result,tools}') t
	WHERE t ->> 'name' = 'task_complete'
$$;
SELECT is(pg_temp.token_type(), 'integer', 'a token is a number for long');
SELECT setval('coord.fencing_token', 4 * (1::bigint << 51) + 1);
SELECT is(pg_temp.token_type(), 'string', 'beyond 2^53 it is a string');
CREATE TEMP TABLE held AS SELECT coord.rpc(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'lock.acquire',
	'params', jsonb_build_object('resource_key', 'pgtap-long', 'agent_id', (coord.agent_register('pgtap-long')).id))) -> 'result' AS lease;
SELECT is((SELECT jsonb_typeof(lease -> 'fencing_token') FROM held), 'string', 'and is answered as one');
SELECT is((SELECT coord.rpc(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'lock.assert',
	'params', jsonb_build_object('resource_key', 'pgtap-long', 'fencing_token', lease -> 'fencing_token'))) -> 'result' FROM held), '{}', 'and taken');

SELECT * FROM finish();
ROLLBACK;
