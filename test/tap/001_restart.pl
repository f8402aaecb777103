# What a user was told survives a restart and a crash: leases, claims and agents
# with their ids, tokens and deadlines; and what ran out meanwhile is dealt with at
# the start.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = CoordCluster::new_node('restart');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h');
	SELECT coord.agent_register('mortal', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('long', id, '1 h') FROM coord.agent WHERE name = 'alive';
	SELECT coord.task_create('t', payload => '1');
	SELECT coord.task_claim(id, lease_ttl => '1 h') FROM coord.agent WHERE name = 'alive';
	SELECT coord.task_create('t', payload => '2', priority => 7);
	SELECT coord.event_send('before', channel => 'restart');
});

my $rows = q{
	SELECT l::text FROM coord.lease l UNION ALL SELECT a::text FROM coord.agent a UNION ALL
	SELECT t::text FROM coord.task t ORDER BY 1};
my $max_token = q{SELECT greatest((SELECT max(fencing_token) FROM coord.lease), (SELECT max(fencing_token) FROM coord.task))};

for my $mode ('fast', 'immediate')
{
	my $before = sql($rows);
	my $token = sql($max_token);
	my $pid = sql('SELECT pid FROM coord.worker');

	$node->stop($mode);
	$node->start;
	is(sql($rows), $before, "every row is as it was after a stop in mode $mode");
	ok($node->poll_query_until('postgres', 'SELECT pid IS NOT NULL FROM coord.worker'),
		"there is a worker again after a stop in mode $mode");

	my $key = "after $mode";
	is(sql(qq{SELECT fencing_token > $token FROM coord.agent, coord.lease_acquire('$key', id) WHERE name = 'alive'}),
		't', "the next token is greater after a stop in mode $mode");
	sql(qq{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = '$key'});
}

is(sql(q{SELECT c.state FROM coord.task t, coord.task_complete(t.id, t.fencing_token) c WHERE t.state = 'claimed'}),
	'completed', 'a claim from before the restarts completes');

# The server renews a lease from its row alone: its renewal falls due while the server,
# or the worker, is not there.
my $kept = q{FROM coord.lease WHERE resource_key = 'kept'};
sql(q{SELECT coord.lease_acquire('kept', id, '30 s', auto_renew => true) FROM coord.agent WHERE name = 'alive'});
my $token = sql("SELECT fencing_token $kept");
$node->restart;
ok($node->poll_query_until('postgres', "SELECT renewed_at > pg_postmaster_start_time() $kept"), 'a lease is renewed after a restart of the server');
my $worker = sql('SELECT pid FROM coord.worker');
sql("SELECT pg_terminate_backend($worker)");
my $renewed = sql("SELECT renewed_at $kept");
ok($node->poll_query_until('postgres', "SELECT renewed_at > '$renewed' $kept"), 'and after an end of the worker');
is(sql("SELECT state, fencing_token = $token $kept"), 'active|t', 'it has been held all the while');
sql("SELECT coord.lease_release(id) $kept");

# What runs out while the server is down is dealt with when it is up.  It has not when the
# server goes down, and the server is not started before it has.
my $runs_out = sql(q{
	SELECT coord.task_claim(id, lease_ttl => '1 h') FROM coord.agent WHERE name = 'mortal';
	SELECT coord.agent_register('mortal', heartbeat_timeout => '5 s');
	SELECT extract(epoch FROM expires_at) FROM coord.agent, coord.lease_acquire('short', id, '5 s') WHERE name = 'mortal';
}) =~ s/.*\n//sr;
$node->stop('immediate');
usleep(50_000) while time <= $runs_out;
$node->start;
ok($node->poll_query_until('postgres',
	q{SELECT count(*) = 3 FROM coord.event_list() WHERE type IN ('lock.expired', 'agent.inactive', 'task.requeued')}),
	'a lease, an agent and a claim that ran out are announced after the start');
is(sql(q{
	SELECT l.state, l.ended_at = l.expires_at, a.status, a.inactive_since = coord.beats_since() + a.heartbeat_timeout,
		t.state, t.error
	FROM coord.lease l, coord.agent a, coord.task t
	WHERE l.resource_key = 'short' AND a.name = 'mortal' AND t.payload = '2'}),
	'expired|t|inactive|t|pending|agent inactive',
	'as of the instants at which they did, the agent one timeout after the start');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'restart')}), '1', 'an event from before is there');

done_testing();
