-- Schedules of recurring tasks: arguments are checked when a schedule is made, as
-- task_create checks them, and not when pg_cron first runs it; and where there is no
-- pg_cron, as here, that is said.  What pg_cron does is in test/tap.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

-- what is NULL, empty or too long
CALL pg_temp.attempt($$SELECT coord.task_schedule(NULL, '* * * * *', 't')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('', '* * * * *', 't')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule(repeat('x', 513), '* * * * *', 't')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', NULL, 't')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '', 't')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', '')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', repeat('x', 513))$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't', to_jsonb(repeat('x', 1024 * 1024)))$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't', queue => '')$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't', max_attempts => 0)$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't', max_attempts => 1000001)$$);
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't', resource_key => '')$$);
CALL pg_temp.attempt($$SELECT coord.task_unschedule(NULL)$$);
CALL pg_temp.attempt($$SELECT coord.task_unschedule('')$$);
CALL pg_temp.attempt($$SELECT coord.cron_install(sweep_schedule => '')$$);
CALL pg_temp.attempt($$SELECT coord.cron_install(purge_schedule => repeat('x', 513))$$);

-- rights: to the queue, and to log in
SET client_min_messages = warning;
DROP ROLE IF EXISTS schedule_agent;
DROP ROLE IF EXISTS schedule_crew;
RESET client_min_messages;
CREATE ROLE schedule_agent LOGIN;
CREATE ROLE schedule_crew;
SELECT coord.grant_agent('schedule_agent', 'schedule-own');
SELECT coord.grant_agent('schedule_crew', 'schedule-own');
SET ROLE schedule_agent;
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't')$$);
CALL pg_temp.attempt($$SELECT coord.cron_install()$$);
CALL pg_temp.attempt($$SELECT coord.cron_remove()$$);
SET ROLE schedule_crew;
CALL pg_temp.attempt($$SELECT coord.task_schedule('s', '* * * * *', 't', queue => 'schedule-own')$$);

-- pg_cron is not preloaded; what else is missing depends on the server
CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SET ROLE schedule_agent;
SELECT pg_temp.refusal($$SELECT coord.task_schedule('s', '* * * * *', 't', queue => 'schedule-own')$$);
SELECT pg_temp.refusal($$SELECT coord.task_unschedule('s')$$);
-- nor does who only says so have it
SET cron.database_name = 'postgres';
SELECT pg_temp.refusal($$SELECT coord.task_unschedule('s')$$);
RESET ROLE;
SELECT pg_temp.refusal($$SELECT coord.cron_install()$$);
SELECT pg_temp.refusal($$SELECT coord.cron_remove()$$);

-- in JSON-RPC the argument is named
SELECT e ->> 'code' AS code, e #>> '{data,argument}' AS argument
FROM (VALUES ('{"schedule": "* * * * *", "type": "t"}'), ('{"name": "", "schedule": "* * * * *", "type": "t"}'),
	('{"name": "s", "schedule": "* * * * *", "type": "t", "overlap": "yes"}'), ('{"name": "s", "schedule": "* * * * *", "type": "t"}')) c (params),
	LATERAL (SELECT coord.rpc(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'task.schedule', 'params', params::jsonb)) -> 'error' AS e) a;

DROP OWNED BY schedule_agent, schedule_crew;
DROP ROLE schedule_agent, schedule_crew;
