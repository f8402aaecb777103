# The worker that README shows does what README says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('example');
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.task_create('sum', jsonb_build_object('numbers', jsonb_build_array(g, 2, 3))) FROM generate_series(1, 3) g;
	SELECT coord.task_create('sum', max_attempts => 1);
});

command_ok([ '/usr/bin/python3', "$FindBin::RealBin/../../examples/worker.py", '--once', $node->connstr('postgres') ],
	'examples/worker.py runs until there is nothing to do');
is($node->safe_psql('postgres', q{SELECT state, result, progress, error FROM coord.task ORDER BY created_at, priority}),
	qq(completed|{"total": 6}|{"done": 3}|
completed|{"total": 7}|{"done": 3}|
completed|{"total": 8}|{"done": 3}|
dead|||KeyError('numbers')), 'it completes what it can and fails what it cannot');
is($node->safe_psql('postgres', 'SELECT status FROM coord.agent'), 'retired', 'and retires');

done_testing();
