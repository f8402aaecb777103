# In REPEATABLE READ nobody is told that he has lost, or never had, what he came to hold after
# the transaction's snapshot: that is a conflict, to be tried again (40001).  What he has not
# come to hold he is still refused.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('old_verdicts');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');
ok(CoordCluster::has_worker($node, 'postgres'), 'there is a worker');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub holds { return $node->poll_query_until('postgres', $_[0]); }

my $short = CoordCluster::seconds(1);
my $old = $node->background_psql('postgres', on_error_stop => 0);
my $id = sql(q{SELECT id FROM coord.agent_register('a', heartbeat_timeout => '1 h')});

sub begin { return $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1'); }

# answers($call): what a call with the old snapshot says, which ends its transaction: the SQLSTATE, or what it returned.
sub answers
{
	my ($call) = @_;
	my $answer = $old->query("\\set VERBOSITY sqlstate\nSELECT $call;");

	$answer = $1 if $old->{stderr} =~ /ERROR:\s+(\w{5})/;
	$old->{stderr} = '';
	$old->query('ROLLBACK');
	$old->{stderr} = '';
	return $answer;
}
sub task { return sql("SELECT id FROM coord.task_create('t')"); }
sub claim { my ($task) = @_; return sql("SELECT fencing_token FROM coord.task_claim('$id', task_id => '$task', lease_ttl => '1 h')"); }
sub acquire { my ($key) = @_; return sql("SELECT id FROM coord.lease_acquire('$key', '$id', '1 h')"); }

# ---- claims

for my $call (qw(task_complete task_renew task_fail task_release))
{
	my $task = task();
	begin();
	my $token = claim($task);
	is(answers("coord.$call('$task', $token)"), '40001', "$call of a claim that was made since");
	begin();
	$token += 1;
	is(answers("coord.$call('$task', $token)"), '55000', "$call with a token that is nobody's");

	begin();
	$task = task();
	$token = claim($task);
	is(answers("coord.$call('$task', $token)"), '40001', "$call of a task that was created since");
}

my $task = task();
my $token = sql("SELECT fencing_token FROM coord.task_claim('$id', task_id => '$task', lease_ttl => '$short')");
begin();
sql("SELECT coord.task_renew('$task', $token, '1 h')");
ok(holds("SELECT clock_timestamp() > claimed_at + interval '$short' FROM coord.task WHERE id = '$task'"), 'a claim has been renewed in time');
is(answers("coord.task_complete('$task', $token)"), '40001', 'it has not run out');
begin();
sql("SELECT coord.task_release('$task', $token)");
is(answers("coord.task_renew('$task', $token)"), '40001', 'one that was given back since');
begin();
is(answers("coord.task_renew('$task', $token)"), '55000', 'and before');
begin();
is(answers("coord.task_renew('00000000-0000-4000-8000-000000000000', $token)"), 'P0002', 'and a task that there is not');

# ---- leases

my $lease = acquire('key');
sql("SELECT coord.lease_release('$lease')");
begin();
$lease = acquire('key');
is(answers("coord.lease_renew('$lease')"), '40001', 'lease_renew of a lease that was granted since');
begin();
sql("SELECT coord.lease_release('$lease')");
my $next = acquire('key');
is(answers("coord.lease_release('$next')"), '40001', 'lease_release of the next one');
is(sql("SELECT state FROM coord.lease WHERE id = '$next'"), 'active', 'which is as it was');
begin();
is(answers("coord.lease_release('$lease')"), 'f', 'lease_release of the one before');
begin();
is(answers("coord.lease_renew('$lease')"), '55000', 'lease_renew of it');
begin();
$lease = acquire('new key');
is(answers("coord.lease_release('$lease')"), '40001', 'lease_release of the first lease on a resource');
begin();
is(answers("coord.lease_release('00000000-0000-4000-8000-000000000000')"), 'P0002', 'lease_release of none');
$lease = sql("SELECT id FROM coord.lease_acquire('renewed', '$id', '$short')");
begin();
sql("SELECT coord.lease_renew('$lease', '1 h')");
ok(holds("SELECT clock_timestamp() > acquired_at + interval '$short' FROM coord.lease WHERE id = '$lease'"), 'a lease has been renewed in time');
is(answers("coord.lease_release('$lease')"), '40001', 'it has not expired');

# ---- events, and agents

begin();
sql("SELECT coord.event_send('e', recipient_id => '$id')");
my $position = sql("SELECT max(position) FROM coord.event_list('$id')");
is(answers("coord.event_ack('$id', $position)"), '40001', 'event_ack of an event that was delivered since');
begin();
is(answers("coord.event_ack('$id', $position + 1000000)"), '22023', 'event_ack of one that was not');
is(sql("SELECT coord.event_ack('$id', $position)"), $position, 'the event is acknowledged afterwards');

my $silent = sql(q{SELECT id FROM coord.agent_register('silent', heartbeat_timeout => '100 ms')});
ok(holds("SELECT inactive_since IS NOT NULL FROM coord.agent_data WHERE id = '$silent'"), 'an agent falls silent');
begin();
is(answers("count(*) FROM coord.lease_acquire('silent', '$silent')"), '55000', 'it gets no lease');
begin();
sql(q{SELECT coord.agent_register('silent', heartbeat_timeout => '1 h')});
is(answers("count(*) FROM coord.lease_acquire('silent', '$silent')"), '40001', 'one that has come back since is not told so');
begin();
is(answers("count(*) FROM coord.task_claim('$silent')"), '1', 'and then it claims');

$old->quit;
$node->stop;
done_testing();
