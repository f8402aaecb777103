-- The dashboard: what it shows, that every value is escaped and cut, and that it shows a role
-- what that role may see.  The page is well-formed XML, so that it is asked by XPath.
BEGIN;
SELECT plan(42);

-- The dashboard as the current role gets it; and what a path finds there, joined by "|".
CREATE FUNCTION pg_temp.page() RETURNS xml LANGUAGE sql AS 'SELECT xmlparse(DOCUMENT coord.dashboard())';
CREATE FUNCTION pg_temp.find(path text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg((xpath('string(.)', x))[1]::text, '|' ORDER BY n)
	FROM unnest(xpath(path, pg_temp.page())) WITH ORDINALITY u (x, n)
$$;
CREATE FUNCTION pg_temp.elements(path text) RETURNS integer LANGUAGE sql AS
	$$SELECT cardinality(xpath(path, pg_temp.page()))$$;
-- A row of a table by its first cell, which XPath has to quote.
CREATE FUNCTION pg_temp.row(id text, header text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.find(format('//table[@id="%s"]//tr[normalize-space(*[1])="%s"]/*', id, header))$$;

-- ---- nothing there yet

SELECT is(pg_temp.find('/html/head/title'), 'coord: ' || current_database(), 'the title names the database');
SELECT is(pg_temp.find('//table[@id="queues"]//tbody/tr/th'), 'default', 'an empty database has one queue');
SELECT matches(pg_temp.find('//section[h2="Queues"]/p'), 'no unfinished tasks.*coord.task_create', 'where nothing is, it says what to do: tasks');
SELECT matches(pg_temp.find('//section[@id="throughput"]/p'), 'No task was completed in the last hour.*coord.task_claim', 'completed ones');
SELECT matches(pg_temp.find('//p[@id="no-agents"]'), 'coord.agent_register', 'agents');
SELECT matches(pg_temp.find('//p[@id="no-leases"]'), 'No lease ends within a minute', 'leases');
SELECT matches(pg_temp.find('//p[@id="no-dead"]'), 'None', 'dead letters');
SELECT matches(pg_temp.find('//p[@id="worker"]'), 'The worker runs since', 'the worker runs');

-- ---- something of each kind

CREATE ROLE dash_agent;
CREATE ROLE dash_narrow;
CREATE ROLE dash_monitor;
CREATE ROLE dash_nobody;
SELECT lives_ok($$SELECT coord.grant_agent('dash_agent')$$, 'a role with every queue');
SELECT lives_ok($$SELECT coord.grant_agent('dash_narrow', 'dash-small')$$, 'one with a single queue');
SELECT lives_ok($$SELECT coord.grant_monitor('dash_monitor')$$, 'a monitor');
GRANT USAGE ON SCHEMA coord TO dash_nobody;
GRANT EXECUTE ON FUNCTION coord.dashboard() TO dash_nobody;

CREATE TEMP TABLE agent AS SELECT id FROM coord.agent_register('dash-agent', 'tester', heartbeat_timeout => '1 h');
SELECT coord.task_create('t', queue => 'dash', run_at => clock_timestamp() - interval '10 min') FROM generate_series(1, 3);
SELECT coord.task_create('t', queue => 'dash', run_at => clock_timestamp() + interval '1 h') FROM generate_series(1, 2);
SELECT coord.task_create('t', queue => 'dash', depends_on => ARRAY[t.id]) FROM coord.task t WHERE t.queue = 'dash' AND t.run_at > now() LIMIT 1;
CREATE TEMP TABLE claimed AS SELECT t.* FROM agent a, coord.task_claim(a.id, 'dash', max_tasks => 2) t;
SELECT coord.task_complete(id, fencing_token) FROM claimed LIMIT 1;
SELECT coord.queue_pause('dash');
SELECT matches(pg_temp.row('queues', 'dash paused'), '^dash paused\|\|1\|10 min\|1\|2\|1\|0\|1\|0\|10 min\|\d+ ms$|^dash paused\|\|1\|10 min\|1\|2\|1\|0\|1\|0\|10 min / 10 min\|\d+ m?s / \d+ m?s$',
	'a queue: pending, the oldest of them, claimed, scheduled, blocked, dead, completed, failed attempts, how long they waited and ran');
SELECT is(pg_temp.find('//dl[@id="glance"]/div[dt="Pending"]/dd'), '1', 'at a glance: pending');
SELECT is(pg_temp.find('//dl[@id="glance"]/div[dt="Completed"]/dd'), '1in the last hour', 'and completed');
SELECT is(pg_temp.elements('//svg[@role="img"]/rect'), 1, 'the chart has a bar for the minute in which something was completed');
SELECT matches(pg_temp.find('//svg[@role="img"]/title') || pg_temp.find('//svg[@role="img"]/desc'),
	'^Tasks finished in each minute of the last hour.*1 completed.*0 that became dead letters', 'and says in words what it shows');
SELECT is(pg_temp.find('//table[@id="done"]//tbody/tr[1]/td[position() > 1]'), '1|0', 'as does its table');
SELECT is(pg_temp.elements('//table[@id="done"]//tbody/tr'), 60, 'which has each minute');
SELECT is(pg_temp.elements('//table[not(caption) or not(.//th[@scope="col"])]'), 0, 'each table has a caption and headers');

-- values of users: escaped, and cut by characters
SELECT coord.task_create('<b>&"''', queue => '<script>alert(1)</script>', max_attempts => 1);
SELECT coord.task_fail(t.id, t.fencing_token, '</td>" onclick=''x'' &amp; 😀' || repeat('€', 300))
FROM agent a, coord.task_claim(a.id, '<script>alert(1)</script>') t;
SELECT coord.task_create('t', queue => 'long' || repeat('😀', 120));
SELECT coord.task_create('t', queue => E'bad\u0085\u0001name\uFFFE\u202E');
SELECT is(pg_temp.elements('//script') + pg_temp.elements('//*[@onclick]') + pg_temp.elements('//td/b'), 0, 'no value is markup');
SELECT is(pg_temp.find('//table[@id="queues"]//th[contains(., "alert")]'), '&lt;script&gt;alert(1)&lt;/script&gt;', 'the name of a queue is as it was given');
SELECT is(pg_temp.find('//table[@id="dead-letters"]//tbody/tr[1]/td[position() < 4]'),
	'&lt;script&gt;alert(1)&lt;/script&gt;|&lt;b&gt;&amp;"''|1', 'a dead letter has its queue, type and attempts');
SELECT is(pg_temp.find('//table[@id="dead-letters"]//tbody/tr[1]/td[4]'),
	'&lt;/td&gt;" onclick=''x'' &amp;amp; 😀' || repeat('€', 174) || '…', 'and its error, cut after 200 characters');
SELECT is(pg_temp.find('//table[@id="queues"]//th[starts-with(., "long")]'), 'long' || repeat('😀', 76) || '…', 'a long name is cut after 80');
SELECT is(pg_temp.find('//table[@id="queues"]//th[starts-with(., "bad")]'), E'bad\uFFFD\uFFFDname\uFFFD\u202E', 'what no page may have is replaced');
SELECT ok(coord.dashboard() ~ '^[\n -~]*$', 'the page is ASCII');
SELECT is(pg_temp.find('//table[@id="dead-letters"]//tbody/tr[1]//code'),
	(SELECT format('SELECT coord.task_redrive(''%s'');', id) FROM coord.dead_letter WHERE queue ~ 'alert'), 'the command drives it again');
SELECT is(pg_temp.elements('//@style | //@src | //script | //style[contains(., "url(h")] | //@href[not(starts-with(., "data:"))]'), 0, 'nothing is asked for from elsewhere');

-- leases: those that end within a minute, and are not renewed by the server
SELECT l.state FROM agent a, coord.lease_acquire('dash-soon<', a.id, '40 s') l;
SELECT l.state FROM agent a, coord.lease_acquire('dash-later', a.id, '10 min') l;
SELECT l.state FROM agent a, coord.lease_acquire('dash-renewed', a.id, '30 s', auto_renew => true) l;
SELECT l.state FROM agent a, coord.lease_acquire('dash-held', a.id, '30 s', auto_renew => true, max_hold => '30 s') l;
SELECT l.state FROM agent a, coord.lease_acquire('dash-released', a.id, '30 s') l WHERE coord.lease_release(l.id);
SELECT is(pg_temp.find('//table[@id="leases"]//tbody/tr/*[position() = 1 or position() = 2 or position() = 5]'),
	'dash-held|dash-agent|has ended|dash-soon&lt;|dash-agent|by its holder', 'the leases that end soon, the first one first');

-- agents
SELECT coord.agent_retire(id) FROM coord.agent_register('dash-retired');
CREATE TEMP TABLE lost AS SELECT * FROM coord.agent_register('dash-<lost>', 'tester', heartbeat_timeout => '100 ms');
DO $$BEGIN WHILE (SELECT status FROM coord.agent WHERE name = 'dash-<lost>') <> 'inactive' LOOP END LOOP; END$$;
SELECT is(pg_temp.find('//dl[@id="agents"]/div/dd'), '1|1|1', 'agents are counted by their status');
SELECT matches(pg_temp.find('//table[@id="lost-agents"]//tbody/tr/*'), '^dash-&lt;lost&gt;\|tester\|', 'one that was lost shows before a sweep');

-- ---- what a role may see

SELECT coord.task_create('t', queue => 'dash-small');
SET ROLE dash_narrow;
CREATE TEMP TABLE own AS SELECT id FROM coord.agent_register('dash-own', heartbeat_timeout => '1 h');
SELECT l.state FROM own a, coord.lease_acquire('dash-mine', a.id, '30 s') l;
SELECT is(pg_temp.find('//table[@id="queues"]//tbody/tr/th'), 'dash-small', 'a role with one queue sees that one');
SELECT matches(pg_temp.find('//p[@id="narrow"]'), 'role dash_narrow may see', 'and is told so');
SELECT is(pg_temp.find('//table[@id="leases"]//tbody/tr/th'), 'dash-mine', 'it sees its own leases');
SELECT is(pg_temp.elements('//p[@id="no-dead"]'), 1, 'and nobody''s dead letters');
SELECT is(pg_temp.elements('//svg[@role="img"]'), 0, 'nor what others have completed');
SELECT is(pg_temp.find('//p[@id="worker"]'), '● The worker runs.', 'of the worker it sees that it runs');
RESET ROLE;
SET ROLE dash_agent;
SELECT matches(pg_temp.find('//table[@id="queues"]//tbody/tr/th'), '&lt;script&gt;.*dash paused.*dash-small', 'a role with every queue sees all');
RESET ROLE;
SET ROLE dash_monitor;
SELECT matches(pg_temp.find('//p[@id="worker"]'), 'The worker runs since', 'a monitor sees all of the worker, too');
SELECT matches(pg_temp.find('//table[@id="leases"]//tbody/tr/th'), 'dash-soon', 'and all leases');
RESET ROLE;
SET ROLE dash_nobody;
SELECT is(pg_temp.elements('//table//tbody/tr') + pg_temp.elements('//dl[@id="agents"]'), 0, 'who was granted nothing sees nothing');
SELECT matches(pg_temp.find('//p[@id="narrow"]'), 'nothing was granted to role dash_nobody.*grant_monitor', 'and is told why');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
