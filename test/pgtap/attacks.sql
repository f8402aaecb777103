-- What a role of agents tries with functions, operators, casts, domains, temporary relations
-- and triggers of its own: none of them runs with other rights than its own, and none is
-- told what the role may not see.  (What is there before CREATE EXTENSION is in
-- test/tap/036_rights.pl.)
BEGIN;
SELECT plan(62);

CREATE ROLE pgtap_villain;
CREATE ROLE pgtap_victim;
SELECT coord.grant_agent('pgtap_villain', 'pgtap-open');
SELECT coord.grant_agent('pgtap_victim');
CREATE SCHEMA hostile AUTHORIZATION pgtap_villain;
GRANT TEMPORARY ON DATABASE :DBNAME TO pgtap_villain;

CREATE TEMP TABLE note (name text PRIMARY KEY, value text);
GRANT ALL ON note TO PUBLIC;
SET ROLE pgtap_victim;
INSERT INTO note SELECT 'victim', id FROM coord.agent_register('pgtap-victim', heartbeat_timeout => '1 h', metadata => '{"public": 1}');
INSERT INTO note SELECT 'secret-task', id FROM coord.task_create('secret-type', '"secret-payload"', 'pgtap-closed', unique_key => 'secret-key');
INSERT INTO note SELECT 'dead', id FROM coord.task_create('secret-type', '"secret-payload"', 'pgtap-closed', max_attempts => 1, priority => 1);
SELECT coord.task_fail(t.id, t.fencing_token, 'secret-error') FROM coord.task_claim((SELECT value::uuid FROM note WHERE name = 'victim'), 'pgtap-closed') t;
INSERT INTO note SELECT 'done', id FROM coord.task_create('secret-type', '"secret-payload"', 'pgtap-closed', priority => 2);
INSERT INTO note SELECT 'token', t.fencing_token FROM coord.task_claim((SELECT value::uuid FROM note WHERE name = 'victim'), 'pgtap-closed') t;
SELECT coord.task_complete(d.value::uuid, t.value::bigint, '"secret-result"') FROM note d, note t WHERE d.name = 'done' AND t.name = 'token';
SELECT coord.lease_acquire('secret-resource', value::uuid, '1 h') FROM note WHERE name = 'victim';
SELECT coord.event_send('secret-event', '"secret-payload"', recipient_id => value::uuid) FROM note WHERE name = 'victim';

-- ---- a function of the caller's in front of the filter
SET ROLE pgtap_villain;
CREATE TABLE hostile.told (what text);
CREATE FUNCTION hostile.leak(anyelement) RETURNS boolean LANGUAGE plpgsql VOLATILE COST 0.0000001 AS $$
BEGIN
	INSERT INTO hostile.told VALUES ($1::text);
	RETURN true;
END
$$;
CREATE FUNCTION hostile.same(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	INSERT INTO hostile.told VALUES ($1);
	RETURN true;
END
$$;
CREATE OPERATOR hostile.=== (FUNCTION = hostile.same, LEFTARG = text, RIGHTARG = text);
SELECT lives_ok(format('SELECT * FROM coord.%I r WHERE hostile.leak(%s)', r, c), format('a function is called for what is seen of %s.%s', r, c))
FROM (VALUES ('task', 'payload'), ('task', 'queue'), ('task', 'id'), ('task', 'r.*'), ('dead_letter', 'error'), ('dead_letter', 'r.*'),
	('lease', 'resource_key'), ('lease', 'r.*'), ('queue', 'name'), ('queue', 'r.*'),
	('event', 'payload'), ('event', 'type'), ('event', 'severity'), ('event', 'r.*')) t (r, c);
SELECT lives_ok($$SELECT * FROM coord.task WHERE queue OPERATOR(hostile.===) 'x'$$, 'so is an operator');
SELECT lives_ok($$SELECT * FROM coord.event WHERE type OPERATOR(hostile.===) 'x'$$, 'also for events');
SELECT lives_ok($$SELECT count(*) FROM coord.task WHERE CASE WHEN queue ~ 'closed' THEN hostile.leak(queue) ELSE true END$$, 'also in an expression');
SELECT lives_ok($$SELECT count(*) FROM coord.task_list() t WHERE hostile.leak(t)$$, 'and for lists');
SELECT lives_ok($$SELECT count(*) FROM coord.event_list(max_events => 10000) t WHERE hostile.leak(t)$$, 'of events, too');
SELECT is((SELECT count(*)::int FROM hostile.told WHERE what ~ 'secret|pgtap-closed'), 0, 'they are told nothing that the role may not see');
SELECT is((SELECT count(*)::int FROM coord.task WHERE id = (SELECT value::uuid FROM note WHERE name = 'secret-task')), 0, 'nor is who knows an id');
SELECT is((SELECT count(*)::int FROM coord.task_list(task_id => (SELECT value::uuid FROM note WHERE name = 'secret-task'))), 0, 'by the list either');
SELECT is((SELECT count(*)::int FROM coord.event WHERE recipient_id = (SELECT value::uuid FROM note WHERE name = 'victim')), 0, 'nor who knows an agent');
SELECT throws_ok(format('SELECT coord.task_cancel(%L)', value), '42501', NULL, 'a task of another queue is not cancelled') FROM note WHERE name = 'secret-task';
SELECT throws_ok(format('SELECT coord.task_redrive(%L)', value), '42501', NULL, 'nor driven again') FROM note WHERE name = 'dead';
-- Tokens can be guessed; what they open is for whose agent had them, and for nobody else.
SELECT throws_ok(format(call, d.value, t.value), 'P0002', format('task %s does not exist', d.value), format('the token of a completed task tells nothing: %s', split_part(call, '(', 1)))
FROM note d, note t, (VALUES ('SELECT coord.task_complete(%L, %L)'), ('SELECT coord.task_complete_many(jsonb_build_array(jsonb_build_object(''task_id'', %L, ''fencing_token'', %s)))'),
	('SELECT coord.task_renew(%L, %L)'), ('SELECT coord.task_fail(%L, %L, ''x'')'), ('SELECT coord.task_release(%L, %L)')) c (call)
WHERE d.name = 'done' AND t.name = 'token';
SELECT throws_ok(format('SELECT coord.task_renew(%L, 1)', value), 'P0002', NULL, 'nor does a wrong one of a task''s state') FROM note WHERE name = 'secret-task';
SELECT throws_ok($$SELECT * FROM coord.task FOR UPDATE$$, '42501', NULL, 'no row can be locked');
SELECT throws_ok($$LOCK TABLE coord.task IN ACCESS EXCLUSIVE MODE$$, '42501', NULL, 'nor a relation');
SELECT throws_ok($$LOCK TABLE coord.queue_grant IN ACCESS SHARE MODE$$, '42501', NULL, 'nor what is stored');

-- A view of the villain's shows to another what that one may see, and to the villain no more.
CREATE VIEW hostile.window AS SELECT * FROM coord.task;
SELECT is((SELECT count(*)::int FROM hostile.window), 0, 'a view shows no more');

-- ---- types, casts and temporary relations of the caller's, in front of PostgreSQL's
CREATE FUNCTION hostile.spy(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'pgtap_villain' THEN
		RAISE EXCEPTION 'ran as %', current_user;
	END IF;
	RETURN true;
END
$$;
CREATE FUNCTION hostile.spy_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM hostile.spy(''); RETURN NEW; END$$;
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (hostile.spy(VALUE));
CREATE DOMAIN hostile.uuid AS pg_catalog.uuid CHECK (hostile.spy(VALUE::pg_catalog.text));
CREATE DOMAIN hostile.jsonb AS pg_catalog.jsonb CHECK (hostile.spy(VALUE::pg_catalog.text));
CREATE TABLE hostile.pair (a pg_catalog.text);
CREATE FUNCTION hostile.as_text(hostile.pair) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$BEGIN PERFORM hostile.spy(''); RETURN $1.a; END$$;
CREATE CAST (hostile.pair AS pg_catalog.text) WITH FUNCTION hostile.as_text(hostile.pair) AS IMPLICIT;
CREATE TEMP TABLE task_live (id pg_catalog.uuid, queue pg_catalog.text);
CREATE TEMP TABLE agent_data (id pg_catalog.uuid);
CREATE TEMP TABLE queue_grant (role regrole, queue pg_catalog.text, can_create boolean, can_claim boolean);
CREATE TRIGGER spy BEFORE INSERT OR UPDATE ON pg_temp.task_live FOR EACH ROW EXECUTE FUNCTION hostile.spy_trigger();
INSERT INTO pg_temp.queue_grant VALUES ('pgtap_villain'::regrole, NULL, true, true);
SET search_path = pg_temp, hostile, public, pg_catalog;
INSERT INTO note SELECT 'agent', id FROM coord.agent_register('pgtap-villain'::hostile.text, 'worker'::hostile.text, '1 h', '{}'::hostile.jsonb);
SELECT lives_ok($$SELECT coord.task_create('t'::hostile.text, '{}'::hostile.jsonb, 'pgtap-open'::hostile.text)$$, 'domains are checked as the caller');
SELECT lives_ok($$SELECT coord.task_create(ROW('t')::hostile.pair, queue => 'pgtap-open')$$, 'casts are made as the caller');
SELECT lives_ok($$SELECT coord.task_create_many('[{"type": "t", "queue": "pgtap-open"}]'::hostile.jsonb)$$, 'of an array, too');
SELECT throws_ok($$SELECT coord.task_create('t', queue => 'pgtap-closed')$$, '42501', NULL, 'a grant in a temporary relation is none');
SELECT lives_ok(format('SELECT coord.task_complete(t.id, t.fencing_token) FROM coord.task_claim(%L::hostile.uuid, %L, max_tasks => 10) t', value, 'pgtap-open'), 'it claims and completes')
FROM note WHERE name = 'agent';
SELECT lives_ok($$SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "task.create", "params": {"type": "t", "queue": "pgtap-open"}}'::hostile.text)$$, 'JSON-RPC');
SELECT lives_ok($$SELECT coord.sweep()$$, 'a sweep');
SELECT is((SELECT pg_catalog.count(*)::int4 FROM pg_temp.task_live), 0, 'nothing of it is in a temporary relation');
RESET search_path;

-- ---- what PostgreSQL runs of the caller's while a superuser maintains a relation
CREATE FUNCTION hostile.quiet(pg_catalog.text) RETURNS pg_catalog.int4 LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF session_user <> current_user THEN
		EXECUTE $1;
	END IF;
	RETURN 1;
END
$$;
CREATE TABLE hostile.maintained (call pg_catalog.text);
CREATE INDEX ON hostile.maintained (hostile.quiet(call));
RESET ROLE;
SELECT throws_ok(format('INSERT INTO hostile.maintained VALUES (%L); SET LOCAL ROLE NONE; REINDEX TABLE hostile.maintained', 'SELECT coord.' || call), '42501',
	format('cannot execute %s within security-restricted operation', split_part(call, '(', 1)), format('the session is not theirs: %s', split_part(call, '(', 1)))
FROM unnest(ARRAY['event_listen()', 'event_unlisten()', 'queue_listen(''pgtap-open'')', 'queue_unlisten(''pgtap-open'')',
	(SELECT format('agent_attach(%L)', value) FROM note WHERE name = 'agent')]) call;
SET ROLE pgtap_villain;

-- ---- what can be hung on coord's relations
SELECT throws_ok($$CREATE TRIGGER spy BEFORE INSERT ON coord.task_live FOR EACH ROW EXECUTE FUNCTION hostile.spy_trigger()$$, '42501', NULL, 'no trigger');
SELECT throws_ok($$CREATE RULE spy AS ON INSERT TO coord.task_live DO ALSO SELECT hostile.spy('')$$, '42501', NULL, 'no rule');
SELECT throws_ok($$CREATE INDEX ON coord.task_live ((hostile.spy(queue)))$$, '42501', NULL, 'no index');
SELECT throws_ok($$ALTER TABLE coord.task_live ADD CHECK (hostile.spy(queue))$$, '42501', NULL, 'no constraint');
SELECT throws_ok($$ALTER TABLE coord.task_live ALTER queue SET DEFAULT 'x'$$, '42501', NULL, 'no default');
SELECT throws_ok($$CREATE TABLE hostile.child () INHERITS (coord.task_live)$$, '42501', NULL, 'no child');
SELECT throws_ok($$CREATE TABLE hostile.referring (id pg_catalog.uuid REFERENCES coord.task_live)$$, '42501', NULL, 'no foreign key');
SELECT throws_ok($$CREATE FUNCTION coord.backoff(interval, interval, integer, text) RETURNS interval LANGUAGE sql AS 'SELECT $1'$$, '42501', NULL, 'no function beside coord''s');

-- ---- numbers, of which few bytes are long as text: what is stored must fit into an answer
SELECT throws_ok($$SELECT coord.task_create('t', ('[' || repeat('1e131071,', 8) || '0]')::jsonb, queue => 'pgtap-open')$$, '54000', NULL, 'no task is longer than it may be by its numbers');
SELECT throws_ok($$SELECT coord.event_send('t', (SELECT jsonb_agg(1e100::numeric) FROM generate_series(1, 12000)))$$, '54000', NULL, 'nor is an event');
SELECT lives_ok($$SELECT coord.task_create('t', ('[' || repeat('1e131071,', 7) || '0]')::jsonb, queue => 'pgtap-open')$$, 'one that is long, but not too long, is taken');
RESET ROLE;

-- ---- a task's history: what was sent to others, and what became of another task of its id
SET ROLE pgtap_victim;
INSERT INTO note SELECT 'watched', id FROM coord.task_create('t', queue => 'pgtap-open');
SELECT coord.event_send(type, jsonb_build_object('task_id', t.value, 'queue', 'pgtap-open', 'reason', 'secret-reason', 'run_at', 'secret-time', 'error', 'secret-word'),
	recipient_id => v.value::uuid, channel => 'coord.tasks') FROM note t, note v, unnest('{task.requeued,task.dead}'::text[]) type WHERE t.name = 'watched' AND v.name = 'victim';
SELECT coord.event_send('task.requeued', jsonb_build_object('task_id', t.value, 'queue', 'pgtap-open', 'reason', 'lease_expired', 'run_at', 'secret-time'),
	recipient_id => v.value::uuid, channel => 'coord.tasks') FROM note t, note v WHERE t.name = 'watched' AND v.name = 'victim';
INSERT INTO note VALUES ('used', gen_random_uuid());
SELECT coord.event_send('task.dead', jsonb_build_object('task_id', value, 'queue', 'pgtap-closed', 'error', 'secret-death'), channel => 'coord.tasks') FROM note WHERE name = 'used';
SELECT coord.event_send('task.dead', jsonb_build_object('task_id', value, 'queue', 'pgtap-open', 'error', 'secret-death'), channel => 'coord.tasks') FROM note WHERE name = 'used';
SET ROLE pgtap_villain;
SELECT is((SELECT string_agg(what || ' ' || detail, E'\n' ORDER BY what) FROM note, coord.history(value::uuid) WHERE name = 'watched' AND what <> 'created'),
	'requeued {"reason": "lease_expired"}', 'a history has of what was sent to an agent no more than coord itself says');
SELECT lives_ok($$SELECT coord.task_create('t', queue => 'pgtap-open', id => value::uuid) FROM note WHERE name = 'used'$$, 'the id of a task that was there may be used again');
SELECT is((SELECT string_agg(what, ' ') FROM note, coord.history(value::uuid) WHERE name = 'used'), 'created', 'and what had become of that one is not told');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
