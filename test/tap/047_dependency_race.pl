# Two dependencies of one task: one is completed while the sweep looks at what became of
# the other.  Whichever of them comes first, the task is freed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;
use Time::HiRes qw(usleep);

use constant ROUNDS => 150;

my $node = CoordCluster::new_node('dependency');
$node->append_conf('postgresql.conf', "log_statement = none\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('worker', heartbeat_timeout => '1 h');
	CREATE TABLE claim (n integer, id uuid, fencing_token bigint)});
CoordCluster::has_worker($node, 'postgres');

my ($first, $second) = map { $node->background_psql('postgres', on_error_stop => 1) } 1 .. 2;

sub complete { return "SELECT (coord.task_complete(id, fencing_token)).state FROM claim WHERE n = $_[0]"; }

# The first completion is undone, so that the second one, which found the task locked, left
# it to the sweep; and is made once more while that looks.
for my $round (1 .. ROUNDS)
{
	$first->query_safe(q{
		TRUNCATE claim;
		SELECT coord.task_create('t', queue => 'q'), coord.task_create('t', queue => 'q');
		INSERT INTO claim SELECT row_number() OVER (), t.id, t.fencing_token
			FROM coord.agent a, coord.task_claim(a.id, 'q', max_tasks => 2, lease_ttl => '1 h') t;
		SELECT coord.task_create('dependant', queue => 'd', depends_on => ARRAY(SELECT id FROM claim));
		BEGIN; } . complete(1));
	$second->query_safe('BEGIN; ' . complete(2));
	$first->query_safe('ROLLBACK');
	$second->query_safe('COMMIT');
	usleep(rand 1500);
	$first->query_safe(complete(1));
}
ok($node->poll_query_until('postgres', 'SELECT count(*) = ' . ROUNDS . q{ FROM coord.task WHERE type = 'dependant' AND state = 'pending'}),
	'no task is left blocked');
is($node->safe_psql('postgres', 'SELECT count(*) FROM coord.task_dependency'), 0, 'nor waits for anything');

$_->quit for $first, $second;
$node->stop;
done_testing();
