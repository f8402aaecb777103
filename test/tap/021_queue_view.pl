# coord.queue has one row for each queue, whatever the planner believes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('queue_view');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

# a queue that was vacuumed when it was nearly empty, and has filled since
sql(q{CREATE EXTENSION coord});
sql(q{SELECT count(coord.task_create('t', queue => 'q')) FROM generate_series(1, 100)});
sql(q{SELECT count(coord.task_cancel(id)) FROM (SELECT id FROM coord.task ORDER BY created_at LIMIT 99) t});
sql(q{VACUUM ANALYZE coord.task_live});
sql(q{SELECT count(coord.task_create('t', queue => 'q')) FROM generate_series(1, 20)});

is(sql(q{SELECT name, pending FROM coord.queue WHERE name = 'q'}), 'q|21', 'a queue is one row');
is(sql(q{SELECT paused, pending FROM coord.queue_pause('q')}), 't|21', 'and can be paused');

done_testing();
