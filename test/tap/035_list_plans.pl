# A page of a list reads few pages of relations that have many rows, whichever filter has
# an index or a relation of its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant MANY => 60000;
use constant FEW => 300;    # pages

my $node = CoordCluster::new_node('list_plans');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('worker', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('busy')});
my $agent = sql('SELECT id FROM coord.agent');

# Relations as they are after long, written directly, since calls would take long.  The
# oldest tasks are those of queue "few", which are hardest to find in a list of the newest.
# Live tasks lie in no order, by which a plan that sorts all of a queue looks cheap.
sql(qq{
	INSERT INTO coord.agent_data SELECT coord.new_id(), 'agent ' || g, 'worker', current_user::regrole, '{}', '1 h', now(), now(),
		now(), now(), NULL, NULL, 0 FROM generate_series(1, @{[MANY]}) g;
	INSERT INTO coord.task_finished (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, created_at, finished_at, partition)
	SELECT coord.new_id(), CASE WHEN g <= 50 THEN 'few' WHEN g % 4 = 0 THEN 'large' ELSE 'busy' END, 't', '{}', 0, 'completed', now(), 1, 5, now(), now() - interval '1 h' + g * interval '10 ms', 0
	FROM generate_series(1, @{[2 * MANY]}) g;
	INSERT INTO coord.task_dead (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, created_at, finished_at)
	SELECT coord.new_id(), CASE WHEN g <= 50 THEN 'few' ELSE 'busy' END, 't', '{}', 0, 'dead', now(), 5, 5, now(), now()
	FROM generate_series(1, @{[MANY]}) g;
	INSERT INTO coord.task_live (id, seq, queue, type, payload, priority, max_attempts, created_at, run_at, ready_at, state, attempts, resource_key)
	SELECT id, nextval('coord.task_seq'), CASE WHEN g <= 50 THEN 'few' WHEN g % 4 = 0 THEN 'large' ELSE 'busy' END, 't', '{}', 0, 5, now(), now(),
		CASE WHEN g BETWEEN 40 AND 50 THEN 'infinity' ELSE now() END, CASE WHEN g BETWEEN 40 AND 50 THEN 'blocked' ELSE 'pending' END, 0,
		CASE WHEN g <= 30 THEN 'resource' END
	FROM (SELECT coord.new_id() AS id, g FROM generate_series(1, @{[MANY]}) g OFFSET 0) t ORDER BY md5(g::text);
	INSERT INTO coord.task_dependency SELECT coord.new_id(), id FROM coord.task_live WHERE state = 'blocked';
	INSERT INTO coord.lease_data SELECT nextval('coord.lease_slot'), 'key ' || g, coord.new_id(), '$agent', NULL, g, '1 min', false, NULL,
		now(), now(), now(), now(), false, NULL FROM generate_series(1, @{[MANY]}) g;
	VACUUM ANALYZE});
sql("SELECT coord.task_create('t', queue => 'late') FROM generate_series(1, 10)");
sql("SELECT coord.lease_acquire('key 30001', '$agent', '1 h')");
sql("SELECT coord.task_claim('$agent', 'few', lease_ttl => '1 h') FROM generate_series(1, 5)");
sql("SELECT coord.task_claim('$agent', 'few', lease_ttl => '1 h', max_tasks => 5)");

# few($query, $rows, $what): it gives so many rows and looks at few pages.
sub few
{
	my ($call, $rows, $what) = @_;

	is(sql("SELECT count(*) FROM coord.$call"), $rows, "$what: what is there");
	cmp_ok(CoordCluster::pages($node, "SELECT * FROM coord.$call"), '<', FEW, "$what: few pages");
}

few('task_list("limit" => 10)', 10, 'the newest tasks');
few("task_list(state => '$_', \"limit\" => 10)", 10, "the newest that are $_") for qw(pending claimed blocked completed dead);
few("task_list('$_', \"limit\" => 10)", 10, "the newest of queue $_") for qw(busy large);
few("task_list('busy', '$_', \"limit\" => 10)", 10, "its newest that are $_") for qw(pending completed dead);
few("task_list('large', '$_', \"limit\" => 10)", 10, "of a quarter of all tasks, the newest that are $_") for qw(pending completed);
few("task_list('few', '$_', \"limit\" => 10)", 10, "the newest of a small queue that are $_") for qw(pending claimed blocked dead);
few("task_list('few', 'cancelled')", 0, 'none of it is cancelled');
few("task_list('busy', 'cancelled')", 0, 'none of a large queue is cancelled');
few("task_list(state => 'cancelled')", 0, 'nothing is cancelled');
few("task_list('new')", 0, 'a queue that has none');
few("task_list('late')", 10, 'a queue that has finished none');
few("task_list(state => 'completed', $_)", 0, "nothing has completed of $_")
	for "type => 'new'", "agent_id => '$agent'", "resource_key => 'resource'";
few("task_list(state => 'claimed', agent_id => '$agent')", 10, 'what an agent has claimed');
few("task_list(state => 'pending', resource_key => 'resource')", 29, 'what waits for a resource that a claim holds');
my $middle = sql('SELECT id FROM coord.task_finished OFFSET ' . MANY . ' LIMIT 1');
few("task_list(task_id => '$middle')", 1, 'one task');
few("task_list(after => '$middle', \"limit\" => 10)", 10, 'a page in the middle');

few('lease_list("limit" => 10)', 10, 'leases');
few("lease_list(after => 'key 5', \"limit\" => 10)", 10, 'a page of them');
few("lease_list('key 30001')", 1, 'the lease of a resource');
few("lease_list(state => 'active')", 2, 'few active leases among many');
few("lease_list(state => 'active', agent_id => '$agent')", 2, 'those of an agent');

few('agent_list("limit" => 10)', 10, 'agents');
few("agent_list(agent_id => '$agent')", 1, 'an agent');
few("agent_list(name => 'worker')", 1, 'an agent, by its name');

few("queue_list('few')", 1, 'a small queue');
few("queue_list(after => 'busy', \"limit\" => 2)", 2, 'small queues');
is(sql(q{SELECT count(*) FROM coord.queue_list() l FULL JOIN coord.queue q USING (name)
	WHERE (l.name, l.pending, l.scheduled, l.blocked, l.claimed, l.dead, l.lease_ttl, l.retention, l.max_attempts)
	IS DISTINCT FROM (q.name, q.pending, q.scheduled, q.blocked, q.claimed, q.dead, q.lease_ttl, q.retention, q.max_attempts)}), '0', 'a list has what the view has');

# Of so many queues each one is found without looking for all of them: a hundred take less than all do.
sql(q{INSERT INTO coord.queue_data (name, created_by) SELECT 'many ' || n, 10 FROM generate_series(1, 2000) n});
sub seconds_of
{
	my @took = sort { $a <=> $b } map { sql(qq{SELECT clock_timestamp() AS began \\gset
		SELECT count(*) FROM (SELECT * FROM $_[0] OFFSET 0) q \\gset
		SELECT extract(epoch FROM clock_timestamp() - :'began')}) } 1 .. 3;
	return $took[1];
}
cmp_ok(seconds_of(q{coord.queue_list(after => 'many', "limit" => 100)}), '<', seconds_of('coord.queue'), 'a list of 100 out of 2,000 queues takes less than all');

$node->stop;
done_testing();
