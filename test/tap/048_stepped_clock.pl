# What holds whatever becomes of the server's clock: tokens and positions grow, also where the
# server was started while the clock was fast; a lease lasts until the clock comes to its
# expires_at; the worker works by the clock as it is; and no agent that lives is retired.
# test/torture/clock.c is the clock, and "make torture KINDS=clock" has more of this.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $place = PostgreSQL::Test::Utils::tempdir_short();
my $library = "$place/clock.so";
my $cc = $ENV{CC} || 'cc';
system("$cc -O1 -shared -fPIC -o $library $FindBin::RealBin/../torture/clock.c") == 0 or plan skip_all => 'no compiler';

# so many seconds from the true time
sub set_clock
{
	my ($seconds) = @_;

	open my $file, (-e "$place/clock" ? '+<' : '>'), "$place/clock" or die $!;
	syswrite $file, pack('q', $seconds * 1e6);
	return close $file;
}

set_clock(0);
# a server with a sanitiser is not to be loaded after another library
system("LD_PRELOAD=$library postgres --version >/dev/null 2>&1") == 0 or plan skip_all => 'this server goes with no clock of ours';

my $node = CoordCluster::new_node('stepped');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub start
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{TORTURE_CLOCK} = "$place/clock";
	return $node->start;
}
sub token { return sql(q{SELECT fencing_token FROM coord.agent a, coord.lease_acquire('key ' || clock_timestamp(), a.id, '1 h') WHERE a.name = 'keeper'}); }
sub position
{
	my $id = sql(q{SELECT id FROM coord.event_send('sent', channel => 'c')});

	return sql("SELECT position FROM coord.event_list(channel => 'c', max_events => 1000) WHERE id = '$id'");
}

# They are higher than all before.
my ($token, $position) = (0, 0);
sub grow
{
	my ($name) = @_;

	for my $n (1 .. 2)
	{
		my ($next_token, $next_position) = (token(), position());

		cmp_ok($next_token, '>', $token, "$name: a token is higher than the last one");
		cmp_ok($next_position, '>', $position, "$name: so is a position");
		($token, $position) = ($next_token, $next_position);
	}
	return;
}

# The worker does what is due, and has not slept until it had to look at its clock (MAX_SLEEP_MS, a minute).
sub works_at_once
{
	my ($name) = @_;
	my $lease = CoordCluster::short_lease($node, 'postgres');

	ok(CoordCluster::announced($node, 'postgres', $lease), "$name: the worker works");
	is(sql(qq{SELECT created_at - (payload ->> 'expires_at')::timestamptz < '30 s' FROM coord.event WHERE payload ->> 'lease_id' = '$lease'}), 't',
		"$name: without having slept for long");
	return;
}

start();
sql(q{CREATE EXTENSION coord; SELECT coord.agent_register('keeper', heartbeat_timeout => '10 days')});
CoordCluster::has_worker($node, 'postgres');
grow('at first');

# ---- tokens and positions

set_clock(-3600);
is(sql(q{SELECT clock_timestamp() < beats_since FROM coord.beats_since()}), 't', 'the clock is set back');
grow('set back');
$node->stop('immediate');
start();
grow('started then');
$node->stop('immediate');
set_clock(7200);
start();
set_clock(0);
grow('started while it was fast');
set_clock(-1800);
grow('and set back once more');
$node->stop;
start();
is(sql(q{SELECT clock_timestamp() < beats_since FROM coord.beats_since()}), 'f', 'the server is started by the clock as it is');
grow('stopped and started');
set_clock(0);

# ---- a lease

my $lease = sql(q{SELECT l.id FROM coord.agent a, coord.lease_acquire('held', a.id, '10 min') l WHERE a.name = 'keeper'});
my $state = "SELECT state FROM coord.lease WHERE id = '$lease'";
sql(q{SELECT coord.agent_register('other', heartbeat_timeout => '10 days')});
my $acquire = q{SELECT count(*) FROM coord.agent a, coord.lease_acquire('held', a.id, '10 min') WHERE a.name = 'other'};
for my $step (-86400, 300)
{
	set_clock($step);
	works_at_once("$step s");
	is(sql($state) . sql($acquire), 'active0', "$step s: the lease is held");
}
set_clock(900);
is(sql($state), 'expired', 'it has run out as soon as the clock has come to its end');
works_at_once('900 s');
ok(CoordCluster::announced($node, 'postgres', $lease), 'its end is announced, once');
is(sql($acquire), '1', 'and another agent gets it');
sql(q{SELECT pg_terminate_backend(pid) FROM coord.worker});
set_clock(-900);
works_at_once('a new worker, -900 s');

# ---- an agent

sql(q{SELECT coord.agent_register('silent', heartbeat_timeout => '100 ms'), coord.agent_register('awake', heartbeat_timeout => '1 min')});
ok($node->poll_query_until('postgres', q{SELECT inactive_since IS NOT NULL FROM coord.agent_data WHERE name = 'silent'}), 'one agent has fallen silent, another one has not');
set_clock(30 * 86400);
CoordCluster::short_lease($node, 'postgres');	# the worker need not look at its clock
ok($node->poll_query_until('postgres', q{SELECT status = 'retired' FROM coord.agent WHERE name = 'silent'}), '30 days later by the clock, the silent one is retired');
is(sql(q{SELECT status, inactive_since < clock_timestamp() - interval '29 days' FROM coord.agent WHERE name = 'awake'}), 'inactive|t', 'the other one is inactive');
is(sql(q{SELECT status FROM coord.agent a, coord.agent_heartbeat(a.id) WHERE a.name = 'awake'} =~ s/status/agent_heartbeat.status/r), 'active', 'and goes on with its next heartbeat');
$node->stop;

done_testing();
