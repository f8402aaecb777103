# Who brings the id of an agent that is no more does not read what was sent to that one, and has
# nothing of what that one's owner is still about to do.

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
# a slow server is to have the time for a few calls before an agent is deleted
my $soon = CoordCluster::seconds(1);
$node->append_conf('postgresql.conf', "coord.agent_retention = '$soon'\n");
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

# ---- what is being done for an agent, and not committed, when it would be deleted

sub keep_retired_for
{
	my ($time) = @_;

	sql("ALTER SYSTEM SET coord.agent_retention = '$time'; SELECT pg_reload_conf()");
	return $node->poll_query_until('postgres', "SELECT current_setting('coord.agent_retention')::interval = '$time'");
}

sub gone_agent { my ($name) = @_; return as('gone', "SELECT id FROM coord.agent_register('$name', heartbeat_timeout => '1 h')"); }
sub is_deleted { my ($id) = @_; return $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM coord.agent WHERE id = '$id'"); }

my $last = sql('SELECT max(position) FROM coord.event');
my ($subscribes, $acks, $reads, $sends, $retires, $nothing) = map { gone_agent($_) } qw(subscribes acks reads sends retires nothing);
keep_retired_for('1 h');
as('gone', "SELECT coord.agent_retire(id) FROM unnest('{$subscribes,$acks,$reads,$sends,$nothing}'::uuid[]) id");
# one is just being retired, by a transaction that is older
my $retiring = CoordCluster::session_of($node, 'gone');
$retiring->query_safe("BEGIN; SELECT coord.agent_retire('$retires')");
$sender = CoordCluster::session_of($node, 'gone');
$sender->query_safe(qq{
	BEGIN;
	SELECT coord.event_subscribe('$subscribes', 'spy'), coord.event_ack('$acks', $last), coord.inbox('$reads', $last);
	SELECT coord.event_send('t', sender_id => '$sends')});
$sender->query_safe("SELECT coord.event_subscribe('$retires', 'spy')");
$retiring->query_safe('COMMIT');
$retiring->quit;
keep_retired_for($soon);
ok(is_deleted($nothing), 'an agent is deleted');
is(sql("SELECT count(*) FROM coord.agent WHERE id IN ('$subscribes', '$acks', '$reads', '$sends', '$retires')"), '5',
	'but none in whose name or under whose id somebody is writing');
$sender->query_safe('COMMIT');
ok(is_deleted($_), 'until that is done') for $subscribes, $acks, $reads, $retires;

# a lease that others see run out, while its holder's transaction renews it
my $renews = as('gone', "SELECT id FROM coord.agent_register('renews', heartbeat_timeout => '@{[CoordCluster::seconds(1)]}')");
my $lease = as('gone', "SELECT id FROM coord.lease_acquire('renewed', '$renews', '@{[CoordCluster::seconds(2)]}')");
is($sender->query_safe("BEGIN; SELECT count(*) FROM coord.lease_renew('$lease', '1 h')"), '1', 'a lease is being renewed');
ok($node->poll_query_until('postgres', q{SELECT expires_at < clock_timestamp() FROM coord.lease WHERE resource_key = 'renewed'}), 'and over for others');
my $idle = as('gone', q{SELECT id FROM coord.agent_register('idle', heartbeat_timeout => '100 ms')});
ok($node->poll_query_until('postgres', "SELECT status = 'retired' FROM coord.agent WHERE id = '$idle'"), 'an agent that has fallen silent after that is retired');
is(sql("SELECT status FROM coord.agent WHERE id = '$renews'"), 'inactive', 'but not the one that is renewing');
$sender->query_safe('COMMIT');
is(as('gone', "SELECT coord.lease_release('$lease')"), 't', 'its lease is its owner\'s');
ok(is_deleted($renews), 'and when that has ended, it is deleted');

# ---- what is done in the name of an agent that an old snapshot shows, and is another's now

my $former = gone_agent('former');
keep_retired_for('1 h');
as('gone', "SELECT coord.agent_retire('$former')");
my $past = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'gone' ]);
$past->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM coord.agent WHERE id = '$former'");
keep_retired_for($soon);
ok(is_deleted($former), 'an agent is deleted that a transaction sees');
my @acts = ("coord.event_subscribe('$former', 'spy')", "coord.event_unsubscribe('$former', 'spy')", "coord.event_ack('$former', $last)",
	"coord.inbox('$former', $last)", "coord.event_send('forged', sender_id => '$former')");
sub act { my ($act) = @_; return $past->query("SAVEPOINT s; SELECT $act;\n\\echo state :SQLSTATE\nROLLBACK TO s"); }
like(act($_), qr/state 40001/, "it does nothing for it: $_") for @acts;
as('thief', "SELECT id FROM coord.agent_register('no longer', id => '$former', heartbeat_timeout => '1 h')");
like(act($_), qr/state 42501/, "nor when it is another's: $_") for @acts;
is(act(q{coord.event_send('to', '{"to": "former"}')}) =~ /state 00000/, 1, 'what it sends to its name');
$past->query('COMMIT');
is(as('thief', "SELECT count(*) FROM coord.event_list(recipient_id => '$former')"), '0', 'the other one does not get');
$_->quit for $sender, $past;

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
