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

# without --once it waits for what comes, and dies well
my ($out, $err) = ('', '');
my $worker = IPC::Run::start([ '/usr/bin/python3', "$FindBin::RealBin/../../examples/worker.py", $node->connstr('postgres') ],
	'>', \$out, '2>', \$err);
my $agent = q{FROM coord.agent WHERE name <> 'x' AND status <> 'retired'};
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $agent"), 'another one registers');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%task_claim%'}),
	'it finds nothing to do');
$node->safe_psql('postgres', q{SELECT coord.task_create('sum', '{"numbers": [4, 5]}')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.task WHERE result = '{"total": 9}'}), 'and is woken by a new task');
$worker->signal('TERM');
ok($worker->finish, 'SIGTERM ends it') or diag($err);
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $agent"), 'and it retires');

done_testing();
