# A client that does not read what it is sent has its server wait, wherever it is in a call.
# It must not be where others wait for it: while it has a lock of a new key.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use IO::Socket::UNIX;
use Test::More;

my $node = CoordCluster::new_node('hostile_client');
$node->append_conf('postgresql.conf', "log_statement = none\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	SELECT coord.grant_agent('hostile', 'other')});
CoordCluster::has_worker($node, 'postgres');
my ($me, $other) = split /\n/, CoordCluster::session_of($node, 'hostile')->query_safe(
	q{SELECT id FROM unnest('{me,other}'::text[]) n, coord.agent_register(n, heartbeat_timeout => '1 h') ORDER BY n});
my $first = CoordCluster::session_of($node, 'hostile')->query_safe(q{SELECT id FROM coord.task_create('first', queue => 'other')});
my $watch = $node->background_psql('postgres');

# a session of the role's that sends statements and reads no more than it must
sub unread
{
	my (@statements) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "cannot connect: $!";
	my $startup = pack('N', 196608) . "user\0hostile\0database\0postgres\0\0";
	my $pid;

	$socket->syswrite(pack('N', length($startup) + 4) . $startup);
	for (;;)
	{
		read($socket, my $head, 5) == 5 or die 'the server has hung up';
		my ($type, $length) = unpack('aN', $head);
		read($socket, my $body, $length - 4) if $length > 4;
		$pid = unpack('N', $body) if $type eq 'K';
		last if $type eq 'Z';
	}
	$socket->syswrite('Q' . pack('N', length($_) + 5) . "$_\0") for @statements;
	return ($socket, $pid);
}

# Statements of which the client is told so many bytes, or so many times.
sub bytes { return "DO \$\$ BEGIN RAISE NOTICE '%', repeat('x', $_[0]); END \$\$"; }
sub notices { return "DO \$\$ BEGIN FOR i IN 1 .. $_[0] LOOP RAISE NOTICE 'x'; END LOOP; END \$\$"; }

# Where the server of a call comes to, unread, after a statement: whether it has come to the
# call, waits in it for the client, and how many locks of coord's own it has.
sub comes_to
{
	my ($before, $call) = @_;
	my ($socket, $pid) = unread($before, $call);
	my $state;

	do
	{
		$state = $watch->query_safe(qq{SELECT query LIKE '%-- the call', state = 'active',
			(SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory' AND objsubid > 2)
			FROM pg_stat_activity a WHERE pid = $pid AND (wait_event = 'ClientWrite' OR state = 'idle' AND query LIKE '%-- the call')});
	} while ($state eq '');
	close $socket;
	return map { $_ eq 't' ? 1 : $_ eq 'f' ? 0 : $_ } split /\|/, $state;
}

# How much may be said before a server does not come to a call any more: not so much as that.
sub too_much
{
	my ($says, $step) = @_;
	my ($least, $most) = (0, 1 << 22);

	while ($most - $least > $step)
	{
		my $n = int(($least + $most) / 2);

		if ((comes_to($says->($n), 'SELECT -- the call'))[0]) { $least = $n } else { $most = $n }
	}
	return $most;
}

# With ever more before a call, up to so much that the server does not come to it: how often it waits in the
# call, and how often with a lock.
sub stopped
{
	my ($before, $call, $step, $steps) = @_;
	my ($in_call, $locked) = (0, 0);
	my $most = too_much(sub { $before . bytes($_[0]) }, $step);

	for my $i (1 .. $steps)
	{
		my $n = $most - $i * $step;
		(my $this = $call) =~ s/%n/$n/g;
		my ($came, $waits, $locks) = $n < 0 ? (0, 0, 0) : comes_to($before . bytes($n), $this);

		$in_call += $came && $waits;
		$locked++ if $came && $waits && $locks > 0;
	}
	return ($in_call, $locked);
}

# what it says of its plans fills the buffers
my $talks = "SET debug_print_plan = on; SET plan_cache_mode = force_generic_plan; SET client_min_messages = log;";
my %calls = (
	'a task with a unique key' => "SELECT coord.task_create('t', queue => 'other', unique_key => 'k%n', depends_on => ARRAY['$first'::uuid])",
	'an agent' => "SELECT coord.agent_register('agent %n')",
	'a lease' => "SELECT coord.lease_acquire('resource %n', '$me'), repeat('x', 20000)");
for my $what (sort keys %calls)
{
	my ($in_call, $locked) = stopped($talks, "$calls{$what} -- the call", 1000, 80);

	cmp_ok($in_call, '>', 0, "$what: the server waits for the client in the call");
	is($locked, 0, "$what: without a lock");
}

# and what it says of an error is said when the lock is given up
my ($in_call, $locked) = stopped('', "SELECT coord.agent_register('another %n', id => '$other') -- the call", 250, 40);
cmp_ok($in_call, '>', 0, 'an error: the server waits for the client in the call');
is($locked, 0, 'an error: without a lock');

# ---- nor is that of its end said before the lock is given up

sql(q{
	CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NEW; END';
	CREATE TRIGGER hold_up BEFORE INSERT ON coord.agent_data FOR EACH ROW WHEN (NEW.name LIKE 'held %') EXECUTE FUNCTION hold_up()});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(77)');
my $most = too_much(\&notices, 1);
my ($held, $left) = (0, 0);
for my $n ($most - 3 .. $most - 1)
{
	my ($socket, $pid) = unread(notices($n), "SELECT coord.agent_register('held $n')");

	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event IN ('advisory', 'ClientWrite')");
	$held += $watch->query_safe(qq{SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE pid = $pid AND locktype = 'advisory' AND objsubid > 2 AND wait_event = 'advisory'}) eq 't';
	$watch->query_safe("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND wait_event IS DISTINCT FROM 'ClientWrite'");
	$left += $watch->query_safe("SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND objsubid > 2");
	close $socket;
}
is($held, 3, 'servers that have a lock are terminated');
is($left, 0, 'and do not wait for the client before they give it up');
$holder->quit;

$watch->quit;
$node->stop('fast');
done_testing();
