# What waits for a task that was cancelled is cancelled, too, also when the finished task is
# past its retention, or purged, before that can be decided: a task that is gone counts as
# completed, so it is not to go earlier.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('dependants');
$node->append_conf('postgresql.conf', "coord.task_retention = '1 h'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');

my $other = $node->background_psql('postgres', on_error_stop => 1);
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub create { return sql(qq{SELECT id FROM coord.task_create('$_[0]', queue => '$_[0]')}); }
sub dependant { return "SELECT id FROM coord.task_create('dependant', depends_on => ARRAY['$_[0]'::uuid])"; }
sub states { return sql(q{SELECT string_agg(DISTINCT state, ' ') FROM coord.task}); }
sub purged { return sql(q{SELECT sum(value::int) FROM jsonb_each_text(coord.purge('0 s')) WHERE key ~ '^task'}); }

# The other transaction ends, and only then the dependant.
sub ends_cancelled
{
	my ($dependant, $end, $name) = @_;

	$other->query_safe($end);
	# it is looked at when a task ends next
	sql('SELECT coord.task_cancel((coord.task_create($$last$$)).id)');
	$node->poll_query_until('postgres', "SELECT state IN ('pending', 'cancelled') FROM coord.task WHERE id = '$dependant'");
	is(sql("SELECT state FROM coord.task WHERE id = '$dependant'"), 'cancelled', "$name: the dependant is cancelled afterwards");
	ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.dependency_check)'), "$name: and nothing is left to be decided");
	ok($node->poll_query_until('postgres', q{SELECT coord.purge('0 s') IS NOT NULL AND NOT EXISTS (SELECT FROM coord.task)}), "$name: then both can go");
	return;
}

# ---- the dependant is locked

my $task = create('locked');
my $dependant = sql(dependant($task));
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.dependency_check)');
$other->query_safe("BEGIN; SELECT coord.task_cancel('$dependant')");
is(sql("SELECT state FROM coord.task_cancel('$task')"), 'cancelled', 'a task is cancelled whose dependant another transaction has locked, to cancel it');
is(sql('SELECT count(*) FROM coord.dependency_check'), '1', 'which is to be looked at');
is(purged(), '0', 'purge() leaves the task');
is(states(), 'blocked cancelled', 'as it is');
ends_cancelled($dependant, 'ROLLBACK', 'purged by row');

# ---- the same, and its partition is over

sql(q{SELECT coord.queue_set('over', retention => '1 s')});
$node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM coord.task_partition WHERE closed_at IS NULL');
$task = create('over');
$dependant = sql(dependant($task));
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.dependency_check)');
# by who reads nothing of finished tasks, which alone would keep the partition
$other->query_safe("BEGIN; SELECT FROM coord.task_live WHERE id = '$dependant' FOR UPDATE");
sql("SELECT coord.task_cancel('$task')");
my $partition = sql("SELECT tableoid::regclass FROM coord.task_finished WHERE id = '$task'");
ok($node->poll_query_until('postgres', qq{
	SELECT sealed_at + '2 s' < clock_timestamp() FROM coord.task_partition WHERE 'coord.task_finished_' || partition = '$partition'}),
	'the retention of a task is over');
is(purged(), '0', 'the task stays, with its partition');
is(states(), 'blocked cancelled', 'as long as its dependant is locked');
ends_cancelled($dependant, 'ROLLBACK', 'partition');

# ---- the dependant is being created

$task = create('being created');
$other->query_safe('BEGIN');
$dependant = $other->query_safe(dependant($task));
is(sql("SELECT state FROM coord.task_cancel('$task')"), 'cancelled', 'a task is cancelled that another transaction is creating a dependant of');
is(purged(), '0', 'purge() leaves that, too');
ends_cancelled($dependant, 'COMMIT', 'being created');

# ---- the same, and its partition is over

$task = create('over');
$other->query_safe('BEGIN');
$dependant = $other->query_safe(dependant($task));
sql("SELECT coord.task_cancel('$task')");
$partition = sql("SELECT tableoid::regclass FROM coord.task_finished WHERE id = '$task'");
ok($node->poll_query_until('postgres', qq{
	SELECT sealed_at + '2 s' < clock_timestamp() FROM coord.task_partition WHERE 'coord.task_finished_' || partition = '$partition'}),
	'the retention of such a task is over');
is(purged(), '0', 'it stays as well');
is(sql("SELECT state FROM coord.task WHERE id = '$task'"), 'cancelled', 'as it is');
ends_cancelled($dependant, 'COMMIT', 'being created, partition');

$other->quit;
$node->stop;
done_testing();
