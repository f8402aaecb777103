# A queue whose max_claimed was lowered while a claim was in a slot above: while one claim is
# not committed nobody else finds room, and its commit, or its end without one, wakes who
# waits for the queue or listens to it.  Who finds no room does not wake others, nor itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use QueueListener;
use Test::More;

my $node = CoordCluster::new_node('lowered_limit');
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('a', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('q', max_claimed => 4, lease_ttl => '1 h');
	SELECT coord.task_create('t', to_jsonb(g), queue => 'q') FROM generate_series(1, 20) g});
CoordCluster::has_worker($node, 'postgres');
my $agent = sql(q{SELECT id FROM coord.agent WHERE name = 'a'});
my $claim = "SELECT count(*) FROM coord.task_claim('$agent', 'q')";
my $complete = q{SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task WHERE state = 'claimed' AND (payload::int < 4 OR payload::int > %d)};

my $claimer = $node->background_psql('postgres');
my $waiter = $node->background_psql('postgres');
my $waiter_pid = $waiter->query_safe('SELECT pg_backend_pid()');
my $listener = QueueListener->new($node);
sub notifications { return $listener->notifications; }
sub is_told { return $listener->is_told($_[0]); }

# The wait of the waiter ends, and was not for long.
sub is_woken
{
	my ($what) = @_;
	my $out = $waiter->query('SELECT 1');

	like($out, qr/it has ended early/, $what);
}

sub begin_wait
{
	$waiter->query_until(qr/now/, qq{\\echo now
		SELECT clock_timestamp() AS began \\gset
		CALL coord.queue_wait('q', '3 min');
		SELECT 'it has ended ' || CASE WHEN clock_timestamp() < :'began'::timestamptz + interval '3 min' THEN 'early' ELSE 'late' END;
	});
	$node->poll_query_until('postgres', "SELECT wait_event_type = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE pid = $waiter_pid")
		or die 'the waiter does not sleep';
}

sql($claim) for 1 .. 4;
sql(q{SELECT coord.queue_set('q', max_claimed => 3)});
is(sql(sprintf $complete, 20), '3', 'one claim is left, in the slot above the limit');
$listener->listen;

for my $end ('COMMIT', 'ROLLBACK', 'ROLLBACK TO s')
{
	sql(sprintf $complete, 4);
	is($claimer->query_safe("BEGIN; SAVEPOINT s; $claim"), '1', "a claim that will end with $end");
	is(sql($claim), '0', 'is one at a time');
	begin_wait();
	notifications();
	$claimer->query_safe($end);
	is_woken("its $end wakes who waits");
	is_told('and who listens');
	$claimer->query_safe('COMMIT') if $end eq 'ROLLBACK TO s';
}

is(sql($claim), '1', 'there is room for another one');
sql($claim) for 1 .. 2;
is(sql(q{SELECT claimed FROM coord.queue WHERE name = 'q'}), '3', 'and no more');
notifications();
is(sql($claim), '0', 'who finds no room');
is(notifications(), 0, 'wakes nobody');

# a pause that is undone: it has kept the others from counting
sql(sprintf $complete, 4);
$claimer->query_safe(q{BEGIN; SELECT coord.queue_pause('q')});
is(sql($claim), '0', 'a queue that is being paused is not counted');
begin_wait();
notifications();
$claimer->query_safe('ROLLBACK');
is_woken('the end of a pause that is undone wakes who waits');
is_told('and who listens');

$claimer->quit;
$waiter->quit;
$listener->quit;
$node->stop;
done_testing();
