-- fence(): a row can be written only with a token that holds the row's resource now.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('fence-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('fence-bob', heartbeat_timeout => '10 min') \gset
SELECT id AS a_id, fencing_token AS a_token FROM coord.lease_acquire('fence-a', :'ann', '10 min') \gset
SELECT fencing_token AS b_token FROM coord.lease_acquire('fence-b', :'bob', '10 min') \gset

CREATE TEMP TABLE report (resource text, token bigint, body text);
CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON report FOR EACH ROW EXECUTE FUNCTION coord.fence('resource', 'token');

-- the holder writes, others do not, nor does who holds something else
INSERT INTO report VALUES ('fence-a', :a_token, 'by ann');
CALL pg_temp.attempt(format('INSERT INTO report VALUES (%L, %s)', 'fence-a', :b_token));
CALL pg_temp.attempt(format('INSERT INTO report VALUES (%L, %s)', 'fence-never', :b_token));
CALL pg_temp.attempt(format('UPDATE report SET body = %L, token = %s', 'by bob', :b_token));
CALL pg_temp.attempt(format('UPDATE report SET resource = %L, token = %s', 'fence-b', :b_token));
UPDATE report SET body = 'by ann again';

-- one bad row of many undoes the statement
CALL pg_temp.attempt(format('INSERT INTO report VALUES (%L, %s), (%L, %s)', 'fence-a', :a_token, 'fence-b', :a_token));

-- with its lease a holder loses the right to write, also to rows that it wrote
SELECT coord.lease_release(:'a_id');
CALL pg_temp.attempt(format('UPDATE report SET body = %L', 'too late'));
SELECT fencing_token AS new_token FROM coord.lease_acquire('fence-a', :'bob', '10 min') \gset
CALL pg_temp.attempt(format('UPDATE report SET body = %L', 'too late'));
UPDATE report SET body = 'by bob', token = :new_token;
SELECT resource, body FROM report;

-- what is missing
CALL pg_temp.attempt('INSERT INTO report VALUES (NULL, 1)');
CALL pg_temp.attempt('INSERT INTO report VALUES ($$fence-a$$, NULL)');

-- a domain over bigint, and names as a type of resource
CREATE DOMAIN pg_temp.fencing AS bigint;
CREATE TEMP TABLE other (r name, t pg_temp.fencing);
CREATE TRIGGER fence BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION coord.fence('r', 't');
INSERT INTO other VALUES ('fence-a', :new_token);

-- how bytes and instants are written depends on settings of who writes
CREATE TYPE pg_temp.resource AS ENUM ('fence-a', 'fence-b');
CREATE TEMP TABLE listed (r pg_temp.resource, t bigint);
CREATE TRIGGER fence BEFORE INSERT ON listed FOR EACH ROW EXECUTE FUNCTION coord.fence('r', 't');
INSERT INTO listed VALUES ('fence-a', :new_token);
CREATE TEMP TABLE bytes (r bytea, t bigint);
CREATE TRIGGER fence BEFORE INSERT ON bytes FOR EACH ROW EXECUTE FUNCTION coord.fence('r', 't');
SET bytea_output = 'escape';
CALL pg_temp.attempt(format('INSERT INTO bytes VALUES (%L, %s)', 'fence-a', :new_token));
RESET bytea_output;

-- triggers that cannot be one
CALL pg_temp.attempt('SELECT coord.fence()');
CREATE TEMP TABLE bad (r text, t bigint, i integer);
CREATE FUNCTION pg_temp.try(definition text, statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'DROP TRIGGER IF EXISTS fence ON bad';
	EXECUTE 'CREATE TRIGGER fence ' || definition;
	EXECUTE statement;
END $$;
CALL pg_temp.attempt($$SELECT pg_temp.try('AFTER INSERT ON bad FOR EACH ROW EXECUTE FUNCTION coord.fence(''r'', ''t'')', 'INSERT INTO bad VALUES (''x'', 1)')$$);
CALL pg_temp.attempt($$SELECT pg_temp.try('BEFORE INSERT ON bad FOR EACH STATEMENT EXECUTE FUNCTION coord.fence(''r'', ''t'')', 'INSERT INTO bad VALUES (''x'', 1)')$$);
CALL pg_temp.attempt($$SELECT pg_temp.try('BEFORE DELETE ON bad FOR EACH ROW EXECUTE FUNCTION coord.fence(''r'', ''t'')', 'INSERT INTO bad VALUES (''x'', 1); DELETE FROM bad')$$);
CALL pg_temp.attempt($$SELECT pg_temp.try('BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION coord.fence(''r'')', 'INSERT INTO bad VALUES (''x'', 1)')$$);
CALL pg_temp.attempt($$SELECT pg_temp.try('BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION coord.fence(''r'', ''nope'')', 'INSERT INTO bad VALUES (''x'', 1)')$$);
CALL pg_temp.attempt($$SELECT pg_temp.try('BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION coord.fence(''r'', ''i'')', 'INSERT INTO bad VALUES (''x'', 1)')$$);

-- who writes needs no right to coord
CREATE ROLE regress_fence;
GRANT ALL ON report TO regress_fence;
SET ROLE regress_fence;
UPDATE report SET body = 'by whoever has the token';
RESET ROLE;
DROP OWNED BY regress_fence;
DROP ROLE regress_fence;
