# Waiting for a lease: first come, first served; woken by the release or the expiry; and
# no waiter that goes away, or waits in vain, stands in the way of the next.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('wait');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register(name, heartbeat_timeout => '1 h') FROM unnest('{h, a, b, c, d}'::text[]) name;
	CREATE TABLE granted (n serial, agent text, lease uuid, at timestamptz)});

sub agent { return "(SELECT id FROM coord.agent WHERE name = '$_[0]')"; }
sub release { return sql(q{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = 'k'}); }
sub holder { return "(SELECT a.name FROM coord.lease l JOIN coord.agent a ON a.id = l.agent_id WHERE l.resource_key = 'k' AND l.state = 'active')"; }

# waits($agent, $wait): a session in which the agent waits for 'k'; and its backend's pid.
sub waits
{
	my ($agent, $wait) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	$wait = '10 min' unless defined $wait;
	$session->query_until(qr/now/, qq{\\echo now
		INSERT INTO granted (agent, lease, at) SELECT '$agent', l.id, l.acquired_at FROM coord.lease_acquire('k', @{[agent($agent)]}, '1 h', wait => '$wait') l;
	});
	becomes("wait_event_type = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE pid = $pid") or die "$agent does not wait";
	return ($session, $pid);
}

sub was_granted { return becomes("EXISTS (SELECT FROM granted WHERE agent = '$_[0]')"); }
sub start_anew { sql('TRUNCATE granted RESTART IDENTITY'); release(); sql(qq{SELECT coord.lease_acquire('k', @{[agent('h')]}, '1 h')}); }

# ---- order

start_anew();
my @session = map { (waits($_))[0] } 'a', 'b', 'c';
is(sql(q{SELECT string_agg(DISTINCT wait_event, ' ') FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND state = 'active'}),
	CoordCluster::wait_event($node, 'CoordLease'), 'what they wait for has a name');
is(sql('SELECT count(*) FROM granted'), '0', 'three wait for what another holds');
is(sql(qq{SELECT count(*) FROM coord.lease_renew((SELECT id FROM coord.lease WHERE resource_key = 'k'))}), '1', 'whom they do not disturb');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND state = 'active' AND backend_type = 'client backend' AND backend_xid IS NOT NULL}),
	'0', 'they have written nothing');
for my $agent ('a', 'b', 'c')
{
	is(release(), 't', 'the holder releases it');
	ok(was_granted($agent), "agent $agent, which came next, gets it");
}
is(sql(q{SELECT string_agg(agent, ' ' ORDER BY n) FROM granted}), 'a b c', 'in the order in which they came');
is(sql(q{SELECT bool_and(token > before) FROM (SELECT fencing_token AS token, lag(fencing_token, 1, 0::bigint) OVER (ORDER BY n) AS before
	FROM granted JOIN coord.lease l ON l.id = lease) t}), 't', 'with a token that grows');
$_->quit for @session;

# who does not wait is not served before who does
start_anew();
my ($waiter, $pid) = waits('a');
kill('STOP', $pid);
release();
is(sql(qq{SELECT count(*) FROM coord.lease_acquire('k', @{[agent('b')]})}), '0', 'who does not wait does not get what another waits for');
kill('CONT', $pid);
ok(was_granted('a'), 'who waits does');
$waiter->quit;

# ---- what frees a lease

start_anew();
# by then the other one waits, however slow the machine is
sql(q{UPDATE coord.lease_data SET expires_at = clock_timestamp() + '10 s' WHERE resource_key = 'k'});
($waiter) = waits('a');
ok(was_granted('a'), 'an expiry');
# who is not woken waits for ten minutes
is(sql(q{SELECT g.at >= (e.payload ->> 'expires_at')::timestamptz AND g.at < (e.payload ->> 'expires_at')::timestamptz + interval '1 s'
	FROM granted g, coord.event e WHERE e.type = 'lock.expired' AND e.payload ->> 'resource_key' = 'k' ORDER BY e.created_at DESC LIMIT 1}),
	't', 'which it is granted right after');
$waiter->quit;

for my $end ('ROLLBACK', 'ROLLBACK TO s', 'COMMIT')
{
	sql('TRUNCATE granted'); release();
	my $taker = $node->background_psql('postgres');
	$taker->query_safe(qq{BEGIN; SAVEPOINT s; SELECT coord.lease_acquire('k', @{[agent('h')]}, '1 h')});
	$taker->query_safe(q{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = 'k'}) if $end eq 'COMMIT';
	($waiter) = waits('a');
	$taker->query_safe($end);
	ok(was_granted('a'), "the $end of a transaction that was at it");
	$taker->quit;
	$waiter->quit;
}

sql('TRUNCATE granted'); release();
sql(qq{BEGIN; SELECT coord.lease_acquire('k', @{[agent('h')]}, '1 h'); PREPARE TRANSACTION 'p'});
($waiter) = waits('a');
sql(q{ROLLBACK PREPARED 'p'});
ok(was_granted('a'), 'ROLLBACK PREPARED');
$waiter->quit;

start_anew();
my $asserter = $node->background_psql('postgres');
$asserter->query_safe(q{BEGIN; SELECT coord.lease_assert('k', (SELECT fencing_token FROM coord.lease WHERE resource_key = 'k'))});
($waiter) = waits('a');
release();
is(sql('SELECT count(*) FROM granted'), '0', 'not while a transaction relies on the last holder, by lease_assert');
$asserter->query_safe('COMMIT');
ok(was_granted('a'), 'but at its end');
$asserter->quit;
$waiter->quit;

# ---- who goes away does not block the next

my %goes = (
	'is cancelled' => sub { sql("SELECT pg_cancel_backend($_[1])"); },
	'is terminated' => sub { sql("SELECT pg_terminate_backend($_[1])"); },
	'loses its client to kill -9' => sub { $_[0]->{run}->signal('KILL'); });

for my $how (sort keys %goes)
{
	start_anew();
	my ($first, $first_pid) = waits('a');
	my ($next) = waits('b');
	$goes{$how}->($first, $first_pid);
	ok(becomes("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $first_pid AND state = 'active')"), "a waiter $how");
	release();
	ok(was_granted('b'), 'the next one is served');
	is(sql(q{SELECT count(*) FROM granted WHERE agent = 'a'}), '0', 'not the one that is gone');
	$how eq 'is cancelled' ? $first->quit : $first->{run}->finish;
	$next->quit;
}

start_anew();
my ($ret, $out, $err) = $node->psql('postgres', qq{SET statement_timeout = '200 ms'; SELECT coord.lease_acquire('k', @{[agent('a')]}, wait => '1 min')});
like($err, qr/statement timeout/, 'statement_timeout ends a wait');
is(sql(qq{SELECT count(*) FROM coord.lease_acquire('k', @{[agent('a')]}, wait => '200 ms')}), '0', 'the end of the wait gives no row');
sql(q{SELECT coord.agent_register('fleeting', heartbeat_timeout => '200 ms')});
($ret, $out, $err) = $node->psql('postgres', qq{SET statement_timeout = '1 min'; SELECT coord.lease_acquire('k', @{[agent('fleeting')]}, wait => '400 ms')});
like($err, qr/agent "fleeting" is inactive/, 'an agent that becomes inactive gets nothing');
is(sql(qq{SELECT count(*) FROM coord.lease_acquire('k', @{[agent('h')]}, wait => '1 min')}), '1', 'the holder does not wait, it renews');

# in REPEATABLE READ what was released since cannot be seen
start_anew();
my $reader = $node->background_psql('postgres', on_error_stop => 0);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM coord.lease');
release();
$reader->query(qq{SELECT coord.lease_acquire('k', @{[agent('a')]}, wait => '1 min')});
like($reader->{stderr}, qr/could not serialize access/, 'REPEATABLE READ: a conflict is an error to retry');
$reader->quit;

# ---- deadlock

# two agents that hold what the other waits for
sub is_deadlock
{
	my ($name, @begin) = @_;
	my %at = (a => 'x', b => 'y');
	my %session = map { ($_ => $node->background_psql('postgres', on_error_stop => 0)) } 'a', 'b';

	for my $agent ('a', 'b')
	{
		$session{$agent}->query_safe($_) for @begin, qq{SELECT coord.lease_acquire('$name $at{$agent}', @{[agent($agent)]}, '1 h')};
	}
	$session{a}->query_until(qr/now/, qq{\\echo now
		SELECT 'rows: ' || count(*) FROM coord.lease_acquire('$name y', @{[agent('a')]}, wait => '6 s');
	});
	becomes(q{EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND state = 'active' AND backend_type = 'client backend')});
	is($session{b}->query(qq{SELECT count(*) FROM coord.lease_acquire('$name x', @{[agent('b')]}, wait => '300 ms')}), '0', "$name: the wait of one ends");
	like($session{b}->{stderr}, qr/WARNING:.*waiting for resource "$name x" was a deadlock.*waited for resource "$name y"/s, "$name: it says why");
	like($session{a}->query('SELECT 1'), qr/rows: 0/, "$name: so does that of the other");
	like($session{a}->{stderr}, qr/WARNING:.*waiting for resource "$name y" was a deadlock/, "$name: it says so too");
	$_->query('COMMIT'), $_->quit for values %session;
}

is_deadlock('leases');
is_deadlock('open transactions', 'BEGIN');
start_anew();
(undef, undef, $err) = $node->psql('postgres', qq{SELECT coord.lease_acquire('k', @{[agent('a')]}, wait => '100 ms')});
is($err, '', 'who waits in vain without a deadlock is told of none');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/(PANIC|TRAP|server process .* was terminated)/, 'nothing else went wrong');
done_testing();
