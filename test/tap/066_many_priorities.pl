# Listening to a queue in which each task has a priority of its own: what tells listeners
# does not look at all of them each time, and what is scheduled at the lowest one is told.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use QueueListener;
use Test::More;

my $node = CoordCluster::new_node('many_priorities');
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

my $n = 3000;

# since the worker has begun, once it has told what it has to tell
sub scans { return sql(q{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'task_live_order'}); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('a', heartbeat_timeout => '1 h')});
CoordCluster::has_worker($node, 'postgres');
sql(qq{SELECT count(coord.task_create('later', queue => 'q', priority => g, run_at => now() + interval '1 day')) FROM generate_series(1, $n) g});

my $listener = QueueListener->new($node);
$listener->listen;
$listener->notifications;
my $before = scans();
for (1 .. 10)
{
	sql(q{SELECT coord.task_create('now', queue => 'q', priority => 1000000)});
	$listener->is_told('a new task is told');
}
cmp_ok(scans() - $before, '<', 5 * $n, 'and what comes next is looked for at a bounded price');

sql(q{SELECT count(t) FROM coord.task_claim((SELECT id FROM coord.agent), 'q', max_tasks => 100) t});
sql(q{SELECT coord.task_create('soon', queue => 'q', priority => -1, run_at => now() + interval '500 ms')});
my $claimed = 0;
for (1 .. 100)
{
	$listener->is_told('there may be something');
	$claimed = sql(q{SELECT count(*) FROM coord.task_claim((SELECT id FROM coord.agent), 'q')});
	last if $claimed;
}
is($claimed, '1', 'a task of the lowest priority is told when its time has come');

$listener->quit;
$node->stop;
done_testing();
