# What shared memory has no room for is done by the tables: queues without a ready ring
# of their own, and heartbeats.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

use constant QUEUES => 5;

my $node = CoordCluster::new_node('little_memory');
$node->append_conf('postgresql.conf', "coord.max_ready_queues = 2\ncoord.max_beating_agents = 1\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{CREATE EXTENSION coord});
CoordCluster::has_worker($node, 'postgres');

# Heartbeats.  The first agent's is kept in memory, the second's written.

my ($first, $second) = map { sql(qq{SELECT id FROM coord.agent_register('$_', heartbeat_timeout => '1 h')}) } qw(first second);
my $registered = sql(q{SELECT max(last_heartbeat_at) FROM coord.agent});
sql(qq{SELECT coord.agent_heartbeat('$_')}) for ($first, $second);

is(sql(qq{SELECT count(*) FROM coord.agent WHERE last_heartbeat_at > '$registered'}), '2', 'both agents have beaten');
is(sql(q{SELECT a.name, a.last_heartbeat_at = d.heartbeat_at FROM coord.agent a JOIN coord.agent_data d USING (id) ORDER BY a.name}),
	"first|f\nsecond|t", 'the one for which there is no room in memory, in the table');

my $last = sql(q{SELECT last_heartbeat_at FROM coord.agent WHERE name = 'first'});
$node->restart;
is(sql(qq{SELECT last_heartbeat_at >= '$last' FROM coord.agent WHERE name = 'first'}), 't', 'a restart keeps what was in memory');

sql(qq{SELECT coord.agent_heartbeat('$first')});
my $noted = q{SELECT a.name FROM coord.agent a JOIN coord.agent_data d USING (id) WHERE a.last_heartbeat_at > d.heartbeat_at};
is(sql($noted), 'first', 'the first is noted in memory again');
sql(qq{BEGIN; SAVEPOINT s; SELECT coord.agent_retire('$first'); ROLLBACK TO s; COMMIT});
sql(qq{BEGIN; SELECT coord.agent_retire('$first'); ROLLBACK});
is(sql($noted), 'first', 'and stays so when a transaction that retires it is undone');
sql(qq{BEGIN; SELECT coord.agent_retire('$first'); SELECT coord.agent_register('first', heartbeat_timeout => '1 h');
	SELECT coord.agent_heartbeat('$first'); COMMIT});
is(sql($noted), 'first', 'or makes it active again');
sql(qq{SELECT coord.agent_retire('$first')});
sql(qq{SELECT coord.agent_heartbeat('$second')});
is(sql($noted), 'second', 'when it is retired there is room for another');

# Claims from more queues than have a ring, one and several at once, while tasks come in
# and claims are undone: each task is claimed once, and none is left.

sql(q{CREATE TABLE created (id uuid); CREATE TABLE claimed (id uuid)});
sql(qq{SELECT count(coord.agent_register('worker ' || n, id => ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, heartbeat_timeout => '1 h'))
	FROM generate_series(0, 3) n});
my $claim = q{INSERT INTO claimed SELECT id FROM coord.task_claim(('00000000-0000-7000-8000-' || lpad(:client_id::text, 12, '0'))::uuid,
	'queue ' || :queue, lease_ttl => '1 h', max_tasks => :n);};
my $variables = '\set queue random(1, ' . QUEUES . ")\n\\set n random(1, 4)\n";
$node->pgbench('--no-vacuum --client=4 --transactions=150', 0, [qr/processed: 600\/600/], [qr/^$/], 'claims and new tasks',
	{
		'022_create@3' => "\\set queue random(1, " . QUEUES . ")\n\\set priority random(1, 3)\n"
			. q{INSERT INTO created SELECT id FROM coord.task_create('t', queue => 'queue ' || :queue, priority => :priority);},
		'022_claim@2' => $variables . $claim =~ s/\n/ /r,
		'022_undo@1' => $variables . "BEGIN;\n" . ($claim =~ s/\n/ /r) . "\nROLLBACK;",
	});
sql(q{SELECT count(*) FROM created}) > 100 or die 'too few tasks to say anything';
sql(q{INSERT INTO created SELECT (coord.task_create('t', queue => 'queue 1', priority => p)).id FROM unnest('{2, 3, 1}'::integer[]) p});
my $order = sql(q{SELECT priority FROM coord.task WHERE queue = 'queue 1' AND state = 'pending' ORDER BY priority DESC, run_at, created_at});
is(sql(qq{SELECT priority FROM coord.task_claim('00000000-0000-7000-8000-000000000000', 'queue 1', lease_ttl => '1 h', max_tasks => 1000)}),
	$order, 'what was left of a queue is claimed in its order');
sql(qq{INSERT INTO claimed SELECT id FROM coord.task WHERE queue = 'queue 1' AND state = 'claimed' AND id NOT IN (SELECT id FROM claimed)});
for my $n (2 .. QUEUES)
{
	sql(qq{INSERT INTO claimed SELECT id FROM coord.task_claim('00000000-0000-7000-8000-000000000000', 'queue $n', lease_ttl => '1 h', max_tasks => 1000)});
}
is(sql(q{SELECT state, count(*) = (SELECT count(*) FROM created) FROM coord.task GROUP BY state}), 'claimed|t', 'no task is left');
is(sql(q{SELECT count(*), count(DISTINCT id), min(attempts), max(attempts) FROM claimed JOIN coord.task USING (id)}),
	sql(q{SELECT count(*), count(*), 1, 1 FROM created}), 'and each was claimed once');

done_testing();
