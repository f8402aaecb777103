-- Every object of schema coord says what it is, since whoever uses it from psql
-- (and an agent, by its tools) reads no other manual.
BEGIN;

CREATE TEMP VIEW relation AS
SELECT oid, relname, relkind, obj_description(oid, 'pg_class') AS comment,
	CASE relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind
FROM pg_class
WHERE relnamespace = 'coord'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S');

CREATE TEMP VIEW function AS
SELECT oid, proname, oid::regprocedure::text AS signature, obj_description(oid, 'pg_proc') AS comment,
	coalesce(proargnames, '{}') AS names, proargmodes AS modes
FROM pg_proc WHERE pronamespace = 'coord'::regnamespace;

-- The arguments that a caller gives.
CREATE TEMP VIEW argument AS
SELECT f.signature, f.comment, name
FROM function f, unnest(f.names) WITH ORDINALITY AS n (name, i)
WHERE f.modes IS NULL OR f.modes[i] IN ('i', 'b', 'v');

-- Those of functions whose descriptions in JSON-RPC and MCP are made of their comments.
CREATE TEMP VIEW described AS
SELECT a.* FROM argument a WHERE signature ~ '^coord\.((agent|lease|task|queue|event)_|inbox|listen_name|blocked_by|history)';

-- The columns of what users read; dead_letter's are those of task, and
-- task_unfinished and the views that nothing is filtered from are internal.
CREATE TEMP VIEW view_column AS
SELECT r.relname, a.attnum, a.attname, col_description(r.oid, a.attnum) AS comment
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid
WHERE r.relkind = 'v' AND a.attnum > 0 AND r.relname !~ '_all$' AND r.relname NOT IN ('dead_letter', 'task_unfinished');

SELECT plan((1 + (SELECT count(*) FROM relation) + 2 * (SELECT count(*) FROM function)
	+ (SELECT count(*) FROM argument) + (SELECT count(*) FROM described) + (SELECT count(*) FROM view_column))::int);

SELECT ok(length(obj_description('coord'::regnamespace, 'pg_namespace')) > 0, 'schema coord has a comment');

SELECT ok(length(comment) > 0, format('%s %s has a comment', kind, relname)) FROM relation ORDER BY kind, relname;

SELECT ok(length(comment) > 0, format('column %s.%s has a comment', relname, attname)) FROM view_column ORDER BY relname, attnum;

SELECT ok(length(comment) > 0, signature || ' has a comment') FROM function ORDER BY 1;

SELECT ok(comment ~ ('\m' || name || '\M'), format('the comment of %s mentions %s', signature, name)) FROM argument ORDER BY 1;

-- A sentence says what the function does, then each argument has its "name: description."
SELECT ok(regexp_count(comment, '\m' || name || '(, [a-z_]+)*: ') = 1
		AND comment ~ ('^[A-Z][^\n]+\.\n([^\n]*[.] )?([a-z_]+, )*' || name || '(, [a-z_]+)*: [^\n]+\.\nReturns '),
	format('the comment of %s describes %s, once', signature, name)) FROM described ORDER BY 1;

-- Besides its arguments it tells what comes back.
SELECT ok(comment ~ '\mReturns\M', format('the comment of %s tells its result', signature)) FROM function ORDER BY 1;

SELECT * FROM finish();
ROLLBACK;
