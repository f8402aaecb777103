# Who brings the id of an agent that is no more does not read what was sent to that one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('reused_id');
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub as { my ($role, $sql, $db) = @_; return $node->safe_psql($db // 'postgres', $sql, extra_params => [ '-U', $role ]); }

my $read = q{SELECT (SELECT count(*) FROM coord.event WHERE payload = '"secret"'), (SELECT count(*) FROM coord.event_list() WHERE payload = '"secret"'),
	(SELECT count(*) FROM coord.event_poll(id) WHERE payload = '"secret"'),
	(SELECT count(*) FROM coord.event_list(recipient_id => id) WHERE payload = '"secret"') FROM coord.agent WHERE id = };

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE gone LOGIN;
	CREATE ROLE sender LOGIN;
	CREATE ROLE thief LOGIN;
	SELECT coord.grant_agent(r) FROM unnest('{gone,sender,thief}'::text[]) r});
CoordCluster::has_worker($node, 'postgres');

# ---- an event that is sent, and not committed, when the agent would be deleted

my $kept = as('gone', q{SELECT id FROM coord.agent_register('kept', heartbeat_timeout => '1 h')});
my $deleted = as('gone', q{SELECT id FROM coord.agent_register('deleted', heartbeat_timeout => '1 h')});
as('gone', "SELECT coord.agent_retire('$kept'), coord.agent_retire('$deleted')");
my $sender = CoordCluster::session_of($node, 'sender');
$sender->query_safe(qq{BEGIN; SELECT coord.event_send('t', '"secret"', recipient_id => '$kept')});
$node->append_conf('postgresql.conf', "coord.agent_retention = '1 s'\n");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM coord.agent WHERE id = '$deleted'"), 'an agent is deleted');
is(sql("SELECT status FROM coord.agent WHERE id = '$kept'"), 'retired', 'but not one to which somebody is sending');
$sender->query_safe('COMMIT');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM coord.event WHERE position IS NULL}), 'the event is delivered');
my ($ret, undef, $err) = $node->psql('postgres', "SELECT coord.agent_register('thief', id => '$kept')", extra_params => [ '-U', 'thief' ]);
like($err, qr/agent id $kept is in use under another name/, 'the id is not free');
my $id = as('thief', "SELECT id FROM coord.agent_register('thief', id => '$deleted')");
is(as('thief', "$read '$id'"), '0|0|0|0', 'another one that is free can be taken');

# ---- one that was committed before the agent was deleted, and is delivered after that

my $late = as('gone', q{SELECT id FROM coord.agent_register('late', heartbeat_timeout => '1 h')});
as('gone', "SELECT coord.agent_retire('$late')");
my $purger = $node->background_psql('postgres');
$purger->query_safe('BEGIN; SELECT coord.purge()');
as('sender', qq{SELECT coord.event_send('t', '"secret"', recipient_id => '$late')});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM coord.agent WHERE id = '$late'"), 'an agent is deleted that was sent something');
($ret, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT coord.agent_register('heir of it', id => '$late')", extra_params => [ '-U', 'thief' ]);
like($err, qr/55P03: events to another agent that had the id $late are yet to be delivered/, 'its id is not free before that is delivered');
$purger->query_safe('ROLLBACK');
as('thief', "SELECT id FROM coord.agent_register('heir of it', id => '$late')");
is(as('thief', "$read '$late'"), '0|0|0|0', 'and then that is not read by who takes it');

# ---- an event to somebody whose agents are left out of a dump, as he is no more, and his claim

as('gone', q{SELECT coord.task_create('his'); SELECT coord.task_claim(id, lease_ttl => '1 h') FROM coord.agent_register('claims', heartbeat_timeout => '1 h')});
my $claims = sql(q{SELECT id FROM coord.agent WHERE name = 'claims'});

# A copy of the database without the role "gone".
sub copy_without_him
{
	my ($to) = @_;
	my $dump = $node->basedir . "/$to.sql";

	sql('REVOKE ALL ON SCHEMA coord FROM gone; DROP OWNED BY gone; DROP ROLE gone');
	$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'the database is dumped');
	sql("CREATE DATABASE $to");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($to), '-f', $dump ], 'and restored');
	return;
}

copy_without_him('restored');
CoordCluster::has_worker($node, 'restored');
($ret, undef, $err) = $node->psql('restored', "\\set VERBOSITY verbose\nSELECT coord.agent_register('heir of claims', id => '$claims')", extra_params => [ '-U', 'thief' ]);
like($err, qr/55P03: another agent that had the id $claims still has claims/, 'who has a claim left in the copy keeps the id');
is(as('thief', "SELECT id FROM coord.agent_register('heir', id => '$kept')", 'restored'), $kept, 'the id is free in the copy');
is($node->safe_psql('restored', qq{SELECT count(*) FROM coord.event WHERE recipient_id = '$kept'}), '1', 'where the event is');
is(as('thief', "$read '$kept'", 'restored'), '0|0|0|0', 'and not read by who took the id');
as('sender', qq{SELECT coord.event_send('t', '"secret"', recipient_id => '$kept')}, 'restored');
is(as('thief', "$read '$kept'", 'restored'), '1|1|1|1', 'who reads what is sent to him');

# ---- an id that the transaction's snapshot shows in use, and is not

my $deleted_since = sql(q{SELECT id FROM coord.agent_register('deleted since')});
my $old = $node->background_psql('postgres', on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql("DELETE FROM coord.agent_data WHERE id = '$deleted_since'");
like($old->query("SELECT coord.agent_register('heir since', id => '$deleted_since');\n\\echo state :SQLSTATE"), qr/state 40001/, 'an old snapshot that shows an id in use conflicts');
$old->quit;

# ---- as before, an event in a dump, which nobody has delivered: without a worker

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
sql(q{CREATE ROLE gone LOGIN; SELECT coord.grant_agent('gone')});
$kept = as('gone', q{SELECT id FROM coord.agent_register('kept anew', heartbeat_timeout => '1 h')});
as('sender', qq{SELECT coord.event_send('t', '"secret"', recipient_id => '$kept')});
copy_without_him('bare');
is($node->safe_psql('bare', qq{SELECT count(*) FROM coord.event WHERE recipient_id = '$kept' AND position IS NULL}), '1', 'an event is yet to be delivered');
as('thief', "SELECT id FROM coord.agent_register('heir anew', id => '$kept')", 'bare');
is(as('thief', "$read '$kept'", 'bare'), '0|0|0|0', 'and not read by who takes the id');

$node->stop('fast');
done_testing();
