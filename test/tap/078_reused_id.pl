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

# ---- an event to somebody whose agents are left out of a dump, as he is no more

sql('REVOKE ALL ON SCHEMA coord FROM gone; DROP OWNED BY gone; DROP ROLE gone');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'the database is dumped');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'and restored');
CoordCluster::has_worker($node, 'restored');
is(as('thief', "SELECT id FROM coord.agent_register('heir', id => '$kept')", 'restored'), $kept, 'the id is free in the copy');
is($node->safe_psql('restored', q{SELECT count(*) FROM coord.event WHERE payload = '"secret"'}), '1', 'where the event is');
is(as('thief', "$read '$kept'", 'restored'), '0|0|0|0', 'and not read by who took the id');
as('sender', qq{SELECT coord.event_send('t', '"secret"', recipient_id => '$kept')}, 'restored');
is(as('thief', "$read '$kept'", 'restored'), '1|1|1|1', 'who reads what is sent to him');

$node->stop('fast');
done_testing();
