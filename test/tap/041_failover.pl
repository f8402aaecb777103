# Two servers and 16 clients (fewer with slow servers) that work on while one is lost and the other takes over, three
# times: with synchronous replication nothing that a client was told is gone; with
# asynchronous replication the last grants are, and tokens are higher than theirs all the
# same.  The lost server comes back by pg_rewind, as the standby of the next failover.
# test/torture/failover.py has the clients, and what they check.
#
# Runs alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $program = "$FindBin::RealBin/../torture/failover.py";
my $slowness = CoordCluster::slowness();
my @clients = ('--clients', $slowness > 1 ? 4 : 16, '--heartbeat-timeout', CoordCluster::seconds(60));
my $enough = 150;    # completed tasks, before and after each failover

# For leases that run out around a failover: who holds them, and how long.
my $fill_deadlines = q{
	SELECT count(*) FROM generate_series(1, 240) g, coord.agent_register('deadlines', heartbeat_timeout => '1 h') a,
		coord.lease_acquire('deadline ' || g, a.id, make_interval(secs => 0.5 * g)) l};

my $first = CoordCluster::new_node('first', allows_streaming => 1);
$first->append_conf('postgresql.conf', "max_connections = 60\nsynchronous_commit = on\nwal_keep_size = '1GB'\n");
$first->start;
$first->backup('base');
my $second = PostgreSQL::Test::Cluster->new('second');
$second->init_from_backup($first, 'base', has_streaming => 1);
my %conf = map { $_->name => slurp_file($_->data_dir . '/postgresql.conf') } $first, $second;
$second->start;

# seconds from each promotion to what the worker does, or after what it is to be done
my (@delays, @starts, @swept);

# The program, which connects to whichever server takes writes.
sub start_program
{
	my ($command, $directory, $output, @options) = @_;

	local $ENV{PGHOST} = join ',', map { $_->host } $first, $second;
	local $ENV{PGPORT} = join ',', map { $_->port } $first, $second;
	local $ENV{PGTARGETSESSIONATTRS} = 'read-write';
	local $ENV{PGDATABASE} = 'postgres';
	return IPC::Run::start([ '/usr/bin/python3', $program, $command, $directory, @options ], '>', $output, '2>&1');
}

sub completed { return $_[0]->safe_psql('postgres', q{SELECT count(*) FROM coord.task WHERE state = 'completed'}); }

# More work has been done there.
sub works_on
{
	my ($node, $name) = @_;
	my $target = completed($node) + $enough;

	return ok($node->poll_query_until('postgres', qq{SELECT count(*) >= $target FROM coord.task WHERE state = 'completed'}), $name);
}

# Commits on the first wait for the second.
sub make_synchronous
{
	my ($node, $standby) = @_;

	$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()});
	return $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'});
}

# A server that was lost follows the one that has taken over.
sub rejoin
{
	my ($node, $new) = @_;
	my $name = $node->name;

	command_ok([ 'pg_rewind', '--target-pgdata', $node->data_dir, '--source-server', $new->connstr('postgres') ],
		"$name is rewound");
	# which takes the files of settings from there, too
	unlink $node->data_dir . '/postgresql.conf', $node->data_dir . '/postgresql.auto.conf';
	$node->append_conf('postgresql.conf', $conf{$name});
	$node->append_conf('postgresql.auto.conf', '');
	$node->enable_streaming($new);
	$node->start;
	return ok($new->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'}),
		"$name follows");
}

# When the server was promoted, by its log.
sub promoted_at
{
	my ($node) = @_;
	my ($line) = reverse CoordCluster::logged($node, qr/database system is ready to accept connections/);

	return $line =~ /^(\S+ \S+ \S+) / ? $1 : die "not promoted: $line";
}

# Work, a failover in the middle of it, and work.  $lose ends the old server, and the new
# one is then a standby that may not have all.
sub fail_over
{
	my ($how, $old, $new, $lose, @options) = @_;
	my $directory = $new->basedir . "/$how";
	my $out = '';

	mkdir $directory or die;
	my $clients = start_program('work', $directory, \$out, @clients);
	ok($old->poll_query_until('postgres', q{SELECT to_regclass('coord.task') IS NOT NULL AND to_regclass('written') IS NOT NULL}),
		"$how: clients come");
	works_on($old, "$how: and work");
	is($old->safe_psql('postgres', $fill_deadlines), '240', "$how: leases will run out around the failover");
	my $token = CoordCluster::last_token($old, 'postgres');
	$lose->();
	is($new->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', "$how: a standby is left");
	my $lost = $new->safe_psql('postgres', 'SELECT clock_timestamp()');
	ok($new->poll_query_until('postgres', qq{
		SELECT count(*) > 0 FROM coord.lease_data
		WHERE resource_key LIKE 'deadline %' AND expires_at BETWEEN '$lost' AND clock_timestamp()}), "$how: where a lease runs out");
	$new->promote;
	ok($new->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), "$how: it is promoted");
	works_on($new, "$how: the clients go on there");
	is($new->safe_psql('postgres', qq{SELECT fencing_token > $token FROM coord.agent_register('next') a, coord.lease_acquire('after $how', a.id)}), 't',
		"$how: tokens have grown");

	# what ran out before the promotion, and was not announced, and what ran out just after
	my $promoted = promoted_at($new);
	my $of_deadlines = q{FROM coord.event WHERE type = 'lock.expired' AND payload ->> 'resource_key' LIKE 'deadline %'};
	ok($new->poll_query_until('postgres', "SELECT count(*) >= 3 $of_deadlines AND created_at > '$promoted'"), "$how: leases run out there");
	push @delays, $new->safe_psql('postgres', qq{
		SELECT extract(epoch FROM max(created_at - greatest('$promoted', (payload ->> 'expires_at')::timestamptz)))
		$of_deadlines AND created_at > '$promoted'});
	# what had run out while there was no server may be announced before the log says that there is one
	push @starts, $new->safe_psql('postgres', "SELECT extract(epoch FROM started_at - '$promoted') FROM coord.worker WHERE pid IS NOT NULL");
	push @swept, $new->safe_psql('postgres', qq{
		SELECT extract(epoch FROM max(created_at) - '$promoted')
		$of_deadlines AND created_at > '$lost' AND (payload ->> 'expires_at')::timestamptz < '$promoted'});
	is($new->safe_psql('postgres', q{SELECT count(*) FROM coord.event WHERE type = 'agent.inactive' AND payload ->> 'name' LIKE 'client %'}), '0',
		"$how: no client was declared dead");

	$clients->signal('TERM');
	ok($clients->finish, "$how: the clients end") or diag($out);
	ok(start_program('check', $directory, \$out, @options)->finish, "$how: what they were told is so, in order") or diag($out);
	note($out);
	# what is left of it runs out elsewhere otherwise
	$new->safe_psql('postgres', q{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key LIKE 'deadline %' AND state = 'active'});
	return;
}

# ---- a crash of the primary; commits had waited for the standby

ok(make_synchronous($first, $second), 'replication is synchronous');
fail_over('synchronous', $first, $second, sub { $first->stop('immediate') });

# ---- a crash, with a standby that had fallen behind

rejoin($first, $second);
# tokens also depend on when a server was started: it is not the standby's start that makes its higher
$second->restart;
$second->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'});
fail_over('asynchronous', $second, $first, sub {
	$first->safe_psql('postgres', q{ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()});
	# the startup process may overlook the change, and the receiver go on
	while (my $pid = $first->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver'))
	{
		kill 'TERM', $pid;
		usleep(100_000);
	}
	works_on($second, 'asynchronous: the standby misses some work');
	$second->stop('immediate');
}, '--lossy');

# ---- a switchover, back to the second

rejoin($second, $first);
ok(make_synchronous($first, $second), 'replication is synchronous again');
fail_over('switchover', $first, $second, sub { $first->stop('fast') });

# ---- what is due is done at once: by the worker, and by claimants as long as there is none

note("announced within @delays s; workers started after @starts s, and what had run out was announced after @swept s");
is(scalar(grep { /\d/ } @starts), 3, 'each promotion brought a worker');
cmp_ok((sort { $a <=> $b } @starts)[0], '<', $slowness, 'which is there within a second');
is(scalar(grep { /\d/ } @swept), 3, 'it announces what had run out before');
cmp_ok((sort { $a <=> $b } @swept)[0], '<', $slowness, 'within a second, all of it');
my @sorted = sort { $a <=> $b } @delays;
cmp_ok($sorted[0], '<', $slowness, 'what runs out is announced within a second of a promotion');
cmp_ok($sorted[-1], '<', 10 * $slowness, 'and on a busy machine not much later');

$second->stop;
for my $node ($first, $second)
{
	is(join("\n", CoordCluster::logged($node, qr/PANIC:|TRAP:|XX000|coord worker.*exited with exit code [^01]/)), '',
		'the log of ' . $node->name . ' is free of failures');
}

done_testing();
