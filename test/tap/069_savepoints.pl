# Sessions that attach an agent or listen to a queue in a savepoint that is rolled back, or
# listen again after they have stopped: they keep no place from others, may prepare the
# transaction, and are told of a task that they did not see.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('savepoints');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\ncoord.max_attached_agents = 1\ncoord.max_listened_queues = 1\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register(name, heartbeat_timeout => '1 h') FROM unnest('{a, b, claimant}'::text[]) name});
CoordCluster::has_worker($node, 'postgres');
my %attach = map { $_ => sprintf q{SELECT status FROM coord.agent_attach('%s')}, sql("SELECT id FROM coord.agent WHERE name = '$_'") } qw(a b);

my $session = $node->background_psql('postgres', on_error_stop => 0);
my $other = $node->background_psql('postgres', on_error_stop => 0);

# What a session has said since it was last told of the queue.
my %heard = ($session => '', $other => '');

# What the session says to some statements, one after the other.
sub says
{
	my ($who, @statements) = @_;
	my $out = join("\n", map { $who->query($_) } @statements);

	$heard{$who} .= $out;
	$out .= $who->{stderr};
	$who->{stderr} = '';
	return $out;
}

# Whether there is the one place: other sessions get it, and give it back at their end.
sub is_free { my ($what, $call) = @_; return unlike(says_alone($call), qr/53400|too many/, $what); }
sub is_taken { my ($what, $call) = @_; return like(says_alone($call), qr/too many/, $what); }

sub says_alone
{
	my ($call) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "BEGIN; $call; ROLLBACK");

	return "$out\n$err";
}

# ---- places

for (['attached', $attach{a}, $attach{b}],
	['listened', q{SELECT coord.queue_listen('x')}, q{SELECT coord.queue_listen('y')}])
{
	my ($what, $call, $others) = @$_;

	says($session, 'BEGIN', 'SAVEPOINT s', $call);
	is_taken("a place is taken: $what", $others);
	says($session, 'ROLLBACK TO s');
	is_free('with the savepoint it is free', $others);
	says($session, 'COMMIT');
	is_free('and after the commit', $others);

	says($session, 'BEGIN', 'SAVEPOINT s', 'SAVEPOINT t', $call, 'RELEASE t', 'ROLLBACK TO s');
	is_free('so it is when an inner savepoint was released', $others);
	says($session, 'COMMIT');

	says($session, 'BEGIN', 'SAVEPOINT s', $call, 'RELEASE s', 'SAVEPOINT t', $call, 'ROLLBACK TO t', 'COMMIT');
	is_taken('one that a later savepoint has not taken is kept', $others);
	says($session, 'BEGIN', $call, 'SAVEPOINT s', $call, 'ROLLBACK TO s', 'ROLLBACK');
	is_taken('one of a transaction before is', $others);

	$session->quit;
	$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'client backend'});
	is_free('until the session ends', $others);
	$session = $node->background_psql('postgres', on_error_stop => 0);
}

# ---- a transaction that is prepared

like(says($session, 'BEGIN', $attach{a}, 'SAVEPOINT s', $attach{a}, 'ROLLBACK TO s', q{PREPARE TRANSACTION 'x'}),
	qr/has attached an agent/, 'a transaction that has attached an agent cannot be prepared');
says($session, 'ROLLBACK');
unlike(says($session, 'BEGIN', 'SAVEPOINT s', $attach{a}, 'ROLLBACK TO s', q{PREPARE TRANSACTION 'x'}),
	qr/ERROR/, 'one that has undone that can be');
is(sql('SELECT count(*) FROM pg_prepared_xacts'), '1', 'and is');
sql(q{ROLLBACK PREPARED 'x'});

# ---- what a session that listens again is told

# Waits until a session is told of 'q'.
sub is_told
{
	my ($who, $what) = @_;
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;

	says($who, 'SELECT 1') until $heard{$who} =~ /coord:queue:q"/ || time > $give_up;
	like($heard{$who}, qr/coord:queue:q"/, $what);
	$heard{$who} = '';
	return;
}

my $claim = sprintf q{SELECT 'claimed ' || count(*) FROM coord.task_claim('%s', 'q')}, sql(q{SELECT id FROM coord.agent WHERE name = 'claimant'});
for my $stop ('DISCARD ALL', 'UNLISTEN *', 'BEGIN; SAVEPOINT s; %s; ROLLBACK TO s; COMMIT')
{
	my $listen = q{SELECT coord.queue_listen('q')};

	if ($stop !~ /%s/)
	{
		says($session, $listen);
		is_told($session, 'a session listens');
	}
	says($session, split / *; */, sprintf $stop, $listen);

	says($other, $listen);
	is_told($other, 'so does another one');
	like(says($session, 'BEGIN', $listen, $claim), qr/^claimed 0$/m, "a session that listens after $stop finds no task");
	sql(q{SELECT coord.task_create('t', queue => 'q')});
	is_told($other, 'one is created and told before it commits');
	says($session, 'COMMIT');
	is_told($session, 'it is told, too');
	like(says($session, $claim), qr/^claimed 1$/m, 'and finds it');
	says($session, q{SELECT coord.queue_unlisten('q')});
	says($other, q{SELECT coord.queue_unlisten('q')});
}

$session->quit;
$other->quit;
$node->stop;
done_testing();
