# A task may have any number of dependants.  Who finishes it deals with the first ones, and
# the worker with the rest, in batches, so that neither others nor what else is due wait
# for long; and it makes no difference to the dependants what happens meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('fan');
$node->append_conf('postgresql.conf', 'coord.task_retention = 1h');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');

my $n = CoordCluster::slowness() >= 10 ? 2500 : 5000;	# two and a half batches and more
my $left = $n - 1000;
my $has_worker = 1;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# settled(): nothing is left for the sweep to decide.
sub settled
{
	sql('SELECT coord.sweep()') unless $has_worker;
	return $node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.dependant_check) AND NOT EXISTS (SELECT FROM coord.dependency_check)');
}

# fan($name): a task, in a queue of its own, and what waits for it; returns the task's id.
sub fan
{
	my ($name) = @_;
	my $task = sql("SELECT id FROM coord.task_create('first', queue => '$name', max_attempts => 1)");

	sql(qq{SELECT FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'dependant', 'queue', '$name',
		'depends_on', ARRAY['$task'])) FROM generate_series(1, $n)))});
	die 'the checks of new tasks are not done' unless settled();
	return $task;
}

# dependants($name): their states, and how many are in each.
sub dependants
{
	my ($name) = @_;

	return sql(qq{SELECT string_agg(state || ' ' || n, ', ' ORDER BY state)
		FROM (SELECT state, count(*) AS n FROM coord.task WHERE queue = '$name' AND type = 'dependant' GROUP BY 1) s});
}

# at_most($name): the most dependants that one transaction has dealt with.
sub at_most
{
	my ($name) = @_;

	return sql(qq{SELECT max(n) FROM (SELECT count(*) AS n FROM (
			SELECT xmin::text FROM coord.task_live WHERE queue = '$name' AND state = 'pending' AND type = 'dependant' UNION ALL
			SELECT xmin::text FROM coord.task_finished WHERE queue = '$name' AND state = 'cancelled' AND type = 'dependant') t
		GROUP BY xmin) x});
}

# while_stopped($do): while the worker is; then it goes on, and all is settled.
sub while_stopped
{
	my ($do) = @_;
	my $pid = CoordCluster::stop_worker($node, 'postgres');

	$do->();
	kill 'CONT', $pid;
	return settled();
}

my $me = sql(q{SELECT id FROM coord.agent_register('me', heartbeat_timeout => '1 h')});

# claimed($name): claim the first task there; the arguments of what ends a claim.
sub claimed
{
	my ($name) = @_;

	return sql("SELECT format('%L, %s', id, fencing_token) FROM coord.task_claim('$me', '$name')");
}

# ---- a completed task

my $task = fan('completed');
my $claim = claimed('completed');
while_stopped(sub {
	sql("SELECT coord.task_complete($claim)");
	is(dependants('completed'), "blocked $left, pending 1000", 'who completes a task unblocks the first of its dependants');
});
is(dependants('completed'), "pending $n", 'and the worker the rest');
cmp_ok(at_most('completed'), '<=', 2000, 'not in one transaction');

# ---- one that dies by the clock

$task = fan('dead');
sql("SELECT FROM coord.task_claim('$me', 'dead', lease_ttl => '100 ms')");
$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM coord.task_dead WHERE id = '$task')");
ok(settled(), 'the worker is done with what depends on a task that has died');
is(dependants('dead'), "cancelled $n", 'which is cancelled');
cmp_ok(at_most('dead'), '<=', 2010, 'not in one transaction');
is(sql(q{SELECT DISTINCT error FROM coord.task WHERE queue = 'dead' AND state = 'cancelled'}), "dependency $task is dead", 'and says why');

# ---- a chain, each of which waits for the one before

$task = sql(q{SELECT id FROM coord.task_create('first', queue => 'chain')});
sql(qq{SELECT FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'dependant', 'queue', 'chain', 'id', id, 'depends_on', ARRAY[before])
	ORDER BY n) FROM (SELECT n, id, coalesce(lag(id) OVER (ORDER BY n), '$task') AS before FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, $n) n) i) c))});
settled();
while_stopped(sub {
	sql("SELECT coord.task_cancel('$task')");
	is(dependants('chain'), "blocked $left, cancelled 1000", 'who cancels a task cancels the first of a chain');

	# what has gone counts as completed
	sql(q{SELECT coord.purge('0 s')});
	isnt(sql(q{SELECT count(*) FROM coord.task WHERE queue = 'chain' AND state = 'cancelled'}), '0', 'what is waited for is not purged');
});
is(dependants('chain') =~ /blocked|pending/, '', 'the rest is cancelled as well');
ok(sql(q{SELECT count(*) FROM coord.task WHERE queue = 'chain'}) >= $left, 'all of it');

# ---- a dead letter that is driven again meanwhile

$task = fan('again');
$claim = claimed('again');
while_stopped(sub {
	sql("SELECT coord.task_fail($claim, 'broken')");
	is(dependants('again'), "blocked $left, cancelled 1000", 'a task has failed for good');
	is(sql("SELECT coord.task_redrive('$task')"), '1', 'and is driven again');
});
is(dependants('again'), "blocked $left, cancelled 1000", 'what is left waits for it again');
while_stopped(sub {
	sql("SELECT coord.task_fail(${\claimed('again')}, 'broken')");
	sql("SELECT coord.task_redrive('$task')");
	sql("SELECT coord.task_complete(${\claimed('again')})");
});
is(dependants('again'), "cancelled 2000, pending ${\($n - 2000)}", 'and for how it ends at last');

# ---- one that another transaction has locked

$task = fan('locked');
my $other = $node->background_psql('postgres', on_error_stop => 1);
$other->query_safe(q{BEGIN; SELECT FROM coord.task_live WHERE id = (SELECT id FROM coord.task_live WHERE queue = 'locked' AND type = 'dependant'
	ORDER BY id DESC LIMIT 1) FOR UPDATE});
$claim = claimed('locked');
sql("SELECT coord.task_complete($claim)");
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.dependant_check)');
is(dependants('locked'), 'blocked 1, pending ' . ($n - 1), 'one that is locked holds none of the others up');
$other->query_safe('ROLLBACK');
sql(q{SELECT FROM coord.task_cancel((SELECT id FROM coord.task_create('last'))) });
settled();
is(dependants('locked'), "pending $n", 'and is unblocked afterwards');

# ---- many that another transaction is at

$task = sql(q{SELECT id FROM coord.task_create('first', queue => 'held')});
sql(qq{
	CREATE TABLE child AS SELECT gen_random_uuid() AS id FROM generate_series(1, 1100);
	SELECT FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'dependant', 'queue', 'held', 'id', id, 'depends_on', ARRAY[after]))
		FROM (SELECT id, '$task' AS after FROM child UNION ALL SELECT gen_random_uuid(), id FROM child) c))});
settled();
while_stopped(sub {
	sql("SELECT coord.task_cancel('$task')");
	is(sql('SELECT count(*) FROM coord.dependant_check'), '1001', 'a thousand cancelled tasks have dependants, which are put off');
	$other->query_safe('BEGIN; SELECT coord.sweep()');
	is(sql('SELECT coord.sweep() IS NOT NULL'), 't', 'one sweep does not wait for another one, which is at them');
	$other->query_safe('ROLLBACK');
});
is(dependants('held'), 'cancelled 2200', 'all are cancelled');

# ---- with an old snapshot

$task = fan('old');
$claim = claimed('old');
sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT coord.task_complete($claim); COMMIT");
ok(settled(), 'in REPEATABLE READ');
is(dependants('old'), "pending $n", 'it is the same');

# ---- a crash

$other->quit;

$task = fan('crash');
$claim = claimed('crash');
my $pid = CoordCluster::stop_worker($node, 'postgres');
sql("SELECT coord.task_complete($claim)");
kill 'KILL', $pid;
$node->stop('immediate', fail_ok => 1);
$node->start;
ok(settled(), 'after a crash the worker goes on');
is(dependants('crash'), "pending $n", 'with what was put off');

# ---- a dump

$task = fan('dump');
$claim = claimed('dump');
while_stopped(sub {
	sql("SELECT coord.task_complete($claim)");
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', '-d', $node->connstr('postgres') ], 'a dump');
});
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $node->basedir . '/dump' ], 'is restored');
ok($node->poll_query_until('restored', qq{SELECT count(*) = $n AND bool_and(state = 'pending') FROM coord.task WHERE queue = 'dump' AND type = 'dependant'}),
	'and the worker goes on there, too');

# ---- without a worker

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$has_worker = 0;
$task = fan('alone');
$claim = claimed('alone');
sql("SELECT coord.task_complete($claim)");
is(dependants('alone'), "pending $n", 'where no worker runs, who completes a task unblocks all');

$node->stop;
done_testing();
