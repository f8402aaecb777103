# Rights: a dump keeps them, also of a role that was renamed; a session does not go on with
# what was revoked; nothing that was there before CREATE EXTENSION gets the better of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('rights');
$node->start;
sub sql { return $node->safe_psql(@_); }
sub refused { my ($database, $sql) = @_; return ($node->psql($database, $sql))[2]; }

# ---- dump and restore

sql('postgres', 'CREATE DATABASE old');
sql('postgres', 'CREATE ROLE "Clerk"; CREATE ROLE mail; CREATE ROLE gone; CREATE ROLE watcher; CREATE ROLE auditor');
sql('old', q{
	CREATE EXTENSION coord;
	SELECT coord.grant_agent('Clerk', 'billing');
	SELECT coord.grant_agent('Clerk', 'post', can_claim => false);
	SELECT coord.grant_agent('mail');
	SELECT coord.grant_agent('gone', 'billing');
	SELECT coord.grant_agent('gone');
	SELECT coord.grant_monitor('watcher');
	SELECT coord.grant_monitor('auditor', payloads => true);
	SET ROLE "Clerk";
	SELECT coord.agent_register('ann', heartbeat_timeout => '1 h');
	SELECT coord.task_create('bill', queue => 'billing');
	SELECT coord.event_send('private', '"secret"', recipient_id => id) FROM coord.agent;
	SET ROLE gone;
	SELECT coord.agent_register('orphan', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('left behind', max_attempts => 7);
	SET ROLE mail;
	SELECT coord.task_create('letter', queue => 'post');
	RESET ROLE;
	ALTER ROLE "Clerk" RENAME TO "The Clerk";
	DROP OWNED BY gone;
	DROP ROLE gone});
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('old') ], 'it is dumped');
sql('postgres', 'CREATE DATABASE new');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('new'), '-f', $dump ], 'and restored, without an error');

my $grants = q{SELECT g.* FROM coord.queue_grant g JOIN pg_roles r ON r.oid = g.role ORDER BY r.rolname, queue};
is(sql('new', 'SELECT * FROM coord.queue_grant g ORDER BY role::text, queue'), sql('old', $grants), 'grants for queues are there, those of the dropped role are not');
is(sql('new', 'SELECT * FROM coord.monitor_grant ORDER BY role::text'), sql('old', 'SELECT * FROM coord.monitor_grant ORDER BY role::text'), 'those of monitors, too');
is(sql('new', q{SELECT name, owner FROM coord.agent}), 'ann|The Clerk', 'an agent is its role\'s, by its new name; that of a role that is no more has gone with it');
is(sql('new', q{SELECT max_attempts FROM coord.queue WHERE name = 'left behind'}), '7', 'a queue stays when the role that made it is no more');
my $rights = q{SELECT string_agg(x, ' ' ORDER BY x) FROM (
	SELECT relname || relacl::text FROM pg_class WHERE relnamespace = 'coord'::regnamespace
	UNION ALL SELECT oid::regprocedure::text || proacl::text FROM pg_proc WHERE pronamespace = 'coord'::regnamespace
	UNION ALL SELECT nspname || nspacl::text FROM pg_namespace WHERE nspname = 'coord') r (x)};
is(sql('new', $rights), sql('old', $rights), 'privileges are the same');
is(sql('new', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'coord.queue_grant'::regclass}), '1', 'and so are triggers');

sql('new', q{SET ROLE "The Clerk"; SELECT coord.agent_heartbeat(id) FROM coord.agent});
is(sql('new', q{SET ROLE "The Clerk"; SELECT t.type FROM coord.agent, coord.task_claim(id, 'billing') t}), 'bill', 'who had a right to a queue has it');
like(refused('new', q{SET ROLE "The Clerk"; SELECT coord.task_create('x')}), qr/permission denied for queue "default"/, 'and none to others');
is(sql('new', q{SET ROLE mail; SELECT string_agg(type, ' ' ORDER BY type) FROM coord.task}), 'bill letter', 'who had one to every queue has it');
is(sql('new', q{SET ROLE watcher; SELECT payload FROM coord.event WHERE type = 'private'}), '', 'a monitor sees what it saw');
is(sql('new', q{SET ROLE auditor; SELECT payload FROM coord.event WHERE type = 'private'}), '"secret"', 'also one that sees more');

# ---- a right that is taken away is gone for sessions that have used it

my $session = $node->background_psql('new', on_error_stop => 0);
$session->query_safe('SET ROLE mail');
is($session->query_safe(q{SELECT type FROM coord.task_create('t', queue => 'q')}), 't', 'a session uses its right');
sql('new', q{SELECT coord.grant_agent('mail', can_create => false)});
my $out = $session->query(q{SELECT type FROM coord.task_create('t', queue => 'q')});
is($out, '', 'and cannot when it has been taken away');
sql('new', q{SELECT coord.grant_agent('mail', 'q')});
is($session->query(q{SELECT type FROM coord.task_create('t', queue => 'q')}), 't', 'but when it has another one');
sql('new', q{SELECT coord.revoke_all('mail')});
$out = $session->query(q{SELECT type FROM coord.task_create('t', queue => 'q')});
is($out, '', 'until all is revoked');
$session->quit;

# ---- what was there before CREATE EXTENSION

# trap($what, $sql, $error): somebody who may create schemas has done that; who creates the
# extension, a superuser, is stopped, and nothing of it was run as him.
my $traps = 0;
sub trap
{
	my ($what, $sql, $error) = @_;
	my $database = 'trap_' . $traps++;

	sql('postgres', "CREATE DATABASE $database");
	sql($database, "GRANT CREATE ON DATABASE $database TO villain; GRANT CREATE ON SCHEMA public TO PUBLIC");
	sql($database, 'ALTER ROLE villain NOSUPERUSER');
	sql($database, "SET ROLE villain; $sql");
	my $said = refused($database, 'CREATE EXTENSION coord');
	like($said, $error, $what);
	is(sql($database, q{SELECT rolsuper FROM pg_roles WHERE rolname = 'villain'}), 'f', 'and nobody has become a superuser');
}
sql('postgres', 'CREATE ROLE villain');
my $theirs = qr/schema "coord" exists and belongs to another role/;
my $not_empty = qr/schema "coord" is not empty/;
my $evil = q{LANGUAGE plpgsql AS $$BEGIN IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE villain SUPERUSER; END IF; RETURN true; END$$};

trap('a schema', 'CREATE SCHEMA coord', $theirs);
trap('a schema with operators that fit the guard better than PostgreSQL\'s', qq{
	CREATE SCHEMA coord;
	CREATE FUNCTION coord.evil(name, name) RETURNS boolean $evil;
	CREATE FUNCTION coord.evil(oid, regrole) RETURNS boolean $evil;
	CREATE FUNCTION coord.evil(oid, regnamespace) RETURNS boolean $evil;
	CREATE FUNCTION coord.evil(name, text) RETURNS boolean $evil;
	CREATE OPERATOR coord.<> (FUNCTION = coord.evil, LEFTARG = name, RIGHTARG = name);
	CREATE OPERATOR coord.<> (FUNCTION = coord.evil, LEFTARG = oid, RIGHTARG = regrole);
	CREATE OPERATOR coord.= (FUNCTION = coord.evil, LEFTARG = oid, RIGHTARG = regnamespace);
	CREATE OPERATOR coord.= (FUNCTION = coord.evil, LEFTARG = name, RIGHTARG = text)}, $theirs);
for my $object (
	[ 'a table', 'CREATE TABLE coord.task_live (id int)' ],
	[ 'a function', "CREATE FUNCTION coord.backoff(interval, interval, integer, text) RETURNS interval LANGUAGE sql AS 'SELECT \$1'" ],
	[ 'a type', 'CREATE TYPE coord.task AS ENUM ()' ],
	[ 'a domain', 'CREATE DOMAIN coord.uuid AS text' ],
	[ 'a collation', q{CREATE COLLATION coord."C" (locale = 'C')} ],
	[ 'an operator', 'CREATE OPERATOR coord.= (FUNCTION = pg_catalog.int4eq, LEFTARG = int4, RIGHTARG = int4)' ],
	[ 'an operator family', 'CREATE OPERATOR FAMILY coord.f USING btree' ],
	[ 'a conversion', q{CREATE CONVERSION coord.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8} ],
	[ 'a text search configuration', 'CREATE TEXT SEARCH CONFIGURATION coord.c (COPY = pg_catalog.simple)' ],
	[ 'statistics', 'CREATE TABLE public.t (a int, b int); CREATE STATISTICS coord.s ON a, b FROM public.t' ],
	[ 'default privileges', 'ALTER DEFAULT PRIVILEGES IN SCHEMA coord GRANT ALL ON TABLES TO villain' ])
{
	my ($what, $create) = @$object;

	trap("$what in a schema of the superuser's in which somebody else may create",
		"RESET ROLE; CREATE SCHEMA coord; GRANT ALL ON SCHEMA coord TO villain; SET ROLE " . ($what =~ /family/ ? 'NONE' : 'villain') . "; $create", $not_empty);
}

# What a transaction that is open while the guard looks puts there is found at the end.  The
# savepoint holds up CREATE EXTENSION in between.
sql('postgres', 'CREATE DATABASE race');
sql('race', 'CREATE SCHEMA coord; GRANT ALL ON SCHEMA coord TO villain');
my $racer = $node->background_psql('race');
$racer->query_safe('SET ROLE villain; BEGIN; CREATE DOMAIN coord.unseen AS text; SAVEPOINT s; CREATE TABLE coord.installation ()');
my $said = '';
my $creator = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('race'), '-c', 'CREATE EXTENSION coord' ], '>', '/dev/null', '2>', \$said);
ok($node->poll_query_until('race', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'CREATE EXTENSION coord' AND wait_event_type = 'Lock'}), 'the extension is being created');
$racer->query_safe('ROLLBACK TO s; COMMIT');
$creator->finish;
like($said, qr/schema "coord" has objects that are not the extension's/, 'what the guard could not see is found at the end');
$racer->quit;

# Default privileges, and search_path of the database and the role: the extension is made, and
# nobody has anything of it, nor has anything of theirs been called.
sql('postgres', 'CREATE DATABASE defaults');
sql('defaults', qq{
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, villain;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC, villain;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON ROUTINES TO PUBLIC;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON ROUTINES TO villain WITH GRANT OPTION;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO PUBLIC, villain;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC, villain;
	CREATE SCHEMA evil AUTHORIZATION villain;
	SET ROLE villain;
	CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS \$\$BEGIN RAISE 'evil'; END\$\$;
	CREATE FUNCTION evil.evil(name, name) RETURNS boolean $evil;
	CREATE FUNCTION evil.evil(text, text) RETURNS boolean $evil;
	CREATE FUNCTION evil.evil(uuid, uuid) RETURNS boolean $evil;
	CREATE FUNCTION evil.evil(bigint, bigint) RETURNS boolean $evil;
	CREATE FUNCTION evil.evil(timestamptz, timestamptz) RETURNS boolean $evil;
	CREATE OPERATOR evil.= (FUNCTION = evil.evil, LEFTARG = name, RIGHTARG = name);
	CREATE OPERATOR evil.= (FUNCTION = evil.evil, LEFTARG = text, RIGHTARG = text);
	CREATE OPERATOR evil.= (FUNCTION = evil.evil, LEFTARG = uuid, RIGHTARG = uuid);
	CREATE OPERATOR evil.> (FUNCTION = evil.evil, LEFTARG = bigint, RIGHTARG = bigint);
	CREATE OPERATOR evil.<= (FUNCTION = evil.evil, LEFTARG = timestamptz, RIGHTARG = timestamptz);
	CREATE TABLE evil.pg_class (oid oid);
	CREATE TABLE evil.agent_data (id uuid);
	RESET ROLE;
	ALTER DATABASE defaults SET search_path = evil, public, pg_catalog;
	ALTER ROLE ALL IN DATABASE defaults SET search_path = evil, pg_catalog});
sql('defaults', 'CREATE EXTENSION coord');
is(sql('defaults', q{
	SELECT count(*) FROM (
		SELECT relname, relacl, relowner FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 'coord'::regnamespace
		UNION ALL SELECT proname, proacl, proowner FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) 'coord'::regnamespace
		UNION ALL SELECT nspname, nspacl, nspowner FROM pg_catalog.pg_namespace WHERE oid OPERATOR(pg_catalog.=) 'coord'::regnamespace
	) o (name, acl, owner), pg_catalog.aclexplode(acl) a WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner}), '0', 'default privileges have given nobody anything');
CoordCluster::has_worker($node, 'defaults');
sql('defaults', q{
	SELECT coord.grant_agent('mail');
	SELECT coord.agent_register('a', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('k', id, '300 ms') FROM coord.agent;
	SELECT coord.agent_register('a', heartbeat_timeout => '300 ms')});
ok($node->poll_query_until('defaults', q{SELECT count(*) OPERATOR(pg_catalog.=) 1 FROM coord.event_list() WHERE type OPERATOR(pg_catalog.~) 'lock.expired'}), 'the worker works');
is(sql('defaults', q{SELECT errors, last_error FROM coord.worker}), '0|', 'without meeting anything of theirs');
is(sql('defaults', q{SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'villain'}), 'f', 'and nobody has become a superuser');
$node->stop;

done_testing();
