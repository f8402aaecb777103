# While there is no server, or only a standby, no heartbeat can come.  So a restart, a
# promotion and a crash end no agent that was active before: each has one heartbeat
# timeout, from the instant at which the server takes heartbeats again, to go on.
# What had ended before stays so, and so does what was bound to a connection.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# all that is done before it ends is done in time, however slow the machine is
my $timeout = 10 * CoordCluster::slowness();

# Agents that have just beaten, each with a claim; and one that has ended.
my $fill = qq{
	CREATE EXTENSION coord;
	SELECT coord.agent_register(name, heartbeat_timeout => '$timeout s') FROM unnest('{prompt,silent,bound}'::text[]) name;
	SELECT coord.task_create(name, queue => name) FROM unnest('{prompt,silent,bound}'::text[]) name;
	SELECT coord.task_claim(id, name, lease_ttl => '1 h') FROM coord.agent;
	SELECT coord.lease_acquire('short', id, '500 ms'), coord.lease_acquire('renewed', id, '1 h', auto_renew => true)
	FROM coord.agent WHERE name = 'silent';
	SELECT coord.agent_register('ended', heartbeat_timeout => '100 ms')};
my $claims = q{(SELECT string_agg(type, ' ' ORDER BY type) FROM coord.task WHERE state = 'claimed')};
my $agents = q{(SELECT string_agg(name || ' ' || status, ', ' ORDER BY name) FROM coord.agent)};
my $ended = q{SELECT inactive_since, last_heartbeat_at FROM coord.agent WHERE name = 'ended'};
my $beaten = q{SELECT name, last_heartbeat_at FROM coord.agent WHERE name IN ('prompt', 'silent') ORDER BY 1};

sub fill
{
	my ($node) = @_;

	$node->safe_psql('postgres', $fill);
	ok($node->poll_query_until('postgres', q{SELECT coord.sweep() IS NOT NULL AND EXISTS
		(SELECT FROM coord.event WHERE type = 'agent.inactive' AND payload ->> 'name' = 'ended' AND position IS NOT NULL)}),
		$node->name . ': an agent has ended');
	$node->safe_psql('postgres', q{SELECT coord.agent_register(name, heartbeat_timeout => heartbeat_timeout) FROM coord.agent WHERE status = 'active'});
	return;
}

# Wait until the agents of fill() would have lapsed, by the clock that all servers here share.
sub let_time_pass
{
	my $until = time + $timeout + 0.1;

	select(undef, undef, undef, 0.1) while time < $until;
	return;
}

sub told
{
	my ($node, $type, $name) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM coord.event WHERE type = '$type' AND '$name' IN (payload ->> 'name', payload ->> 'queue')");
}

# $ended_before and $beaten_before: what was shown when the server went down.
sub check
{
	my ($node, $ended_before, $beaten_before) = @_;
	my $is = $node->name;

	is($node->safe_psql('postgres', $ended), $ended_before, "$is: who had ended before has not come back");
	is($node->safe_psql('postgres', $beaten), $beaten_before, "$is: the last heartbeats are shown as they were");
	is($node->safe_psql('postgres', q{SELECT state, ended_at = expires_at FROM coord.lease WHERE resource_key = 'short'}), 'expired|t',
		"$is: a lease runs out when it was to, all the same");
	is($node->safe_psql('postgres', q{SELECT h.status FROM coord.agent a, coord.agent_heartbeat(a.id) h WHERE a.name = 'prompt'}), 'active',
		"$is: who beats goes on");
	$node->safe_psql('postgres', q{SELECT coord.agent_register('prompt', heartbeat_timeout => '1 h')});
	is($node->safe_psql('postgres', q{SELECT status FROM coord.agent_list(name => 'silent')}), 'active', "$is: lists say the same");
	ok($node->poll_query_until('postgres', q{
		SELECT coord.sweep() IS NOT NULL AND status = 'inactive' FROM coord.agent WHERE name = 'silent'}), "$is: who does not is inactive");
	ok($node->poll_query_until('postgres', q{
		SELECT count(*) = 1 FROM coord.event WHERE type = 'task.requeued' AND payload ->> 'queue' = 'silent'}),
		"$is: which gives back its claim");
	is($node->safe_psql('postgres', q{
		SELECT inactive_since = coord.beats_since() + heartbeat_timeout, coord.beats_since() >= pg_postmaster_start_time()
		FROM coord.agent WHERE name = 'silent'}), 't|t', "$is: one timeout after the server came up");
	is(told($node, 'agent.inactive', 'silent'), '1', "$is: that is announced, once");
	is(told($node, 'agent.inactive', 'prompt') . told($node, 'task.requeued', 'prompt') . told($node, 'agent.active', 'ended'), '000',
		"$is: nothing is told of the others");
	is($node->safe_psql('postgres', q{SELECT c.state FROM coord.task t, coord.task_complete(t.id, t.fencing_token) c WHERE t.type = 'prompt'}),
		'completed', "$is: the claim of who goes on is completed");
	is($node->safe_psql('postgres', q{SELECT renewed_at > acquired_at FROM coord.lease WHERE resource_key = 'renewed'}), 'f',
		"$is: what is not due is not renewed");
	return;
}

my $restarted = CoordCluster::new_node('restarted');
my $bare = CoordCluster::new_node('bare');
my $primary = CoordCluster::new_node('primary', allows_streaming => 1);
my $promoted = PostgreSQL::Test::Cluster->new('promoted');

$restarted->append_conf('postgresql.conf', "restart_after_crash = on\n");
$bare->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$_->start for $restarted, $bare, $primary;
$primary->backup('base');
$promoted->init_from_backup($primary, 'base', has_streaming => 1);
$promoted->start;

my %before;
for my $node ($restarted, $bare, $primary)
{
	fill($node);
	if ($node == $restarted)
	{
		my $bound = $node->background_psql('postgres');

		$bound->query_safe(q{SELECT coord.agent_attach(id) FROM coord.agent WHERE name = 'bound'});
	}
	$primary->wait_for_catchup($promoted) if $node == $primary;
	$before{ $node->name } = [ map { $node->safe_psql('postgres', $_) } ($ended, $beaten) ];
	$node->stop('immediate');
}
is($promoted->safe_psql('postgres', 'SELECT coord.beats_since() IS NULL'), 't', 'a standby takes no heartbeats');
let_time_pass();

# ---- a restart

$restarted->start;
is($restarted->safe_psql('postgres', "SELECT $agents, $claims"),
	'bound inactive, ended inactive, prompt active, silent active|prompt silent',
	'restarted: who was active still is, but for who was bound to a connection');
is($restarted->safe_psql('postgres', q{SELECT inactive_since = coord.beats_since() FROM coord.agent WHERE name = 'bound'}), 't',
	'restarted: whose end is the start');
check($restarted, @{ $before{restarted} });

# ---- a restart of a server that has not preloaded coord

$bare->start;
is($bare->safe_psql('postgres', "SELECT $agents, $claims"),
	'bound active, ended inactive, prompt active, silent active|bound prompt silent', 'bare: who was active still is');
check($bare, @{ $before{bare} });

# ---- a promotion

my $session = $promoted->background_psql('postgres');
is($session->query_safe("SELECT $agents"), 'bound inactive, ended inactive, prompt inactive, silent inactive',
	'promoted: a standby shows agents as far as it knows');
$promoted->promote;
is($session->query_safe("SELECT $agents, $claims"),
	'bound active, ended inactive, prompt active, silent active|bound prompt silent',
	'promoted: who was active still is, for a session from before the promotion too');
check($promoted, @{ $before{primary} });
$session->quit;

# ---- a crash of a backend, with what its memory knew

my $since = $restarted->safe_psql('postgres', q{
	SELECT coord.agent_register('crashed', heartbeat_timeout => '1 h'); SELECT coord.beats_since()}) =~ s/.*\n//r;
my $victim = $restarted->background_psql('postgres');
kill('KILL', $victim->query_safe('SELECT pg_backend_pid()'));
ok($restarted->poll_query_until('postgres', qq{
	SELECT coord.beats_since() > '$since' AND coord.beats_since() > (SELECT max(last_heartbeat_at) FROM coord.agent)}),
	'the crash of a backend begins the timeouts anew');
$victim->{run}->finish;

done_testing();
