# The relations show a role what it may see, and still look at few pages for few rows:
# for the extension's owner, a monitor, a role with every queue, and one with a single queue.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant FEW => 300;    # pages

my $node = CoordCluster::new_node('rights_plans');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
CoordCluster::has_postgres($node);
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE every; CREATE ROLE single; CREATE ROLE monitor;
	SELECT coord.grant_agent('every');
	SELECT coord.grant_agent('single', 'q 7');
	SELECT coord.grant_agent('single', 'q 9');
	SELECT coord.grant_monitor('monitor');
	SET ROLE every;
	SELECT coord.agent_register('other', heartbeat_timeout => '1 h');
	SET ROLE single;
	SELECT coord.agent_register('reader', heartbeat_timeout => '1 h')});

# 100,000 tasks, live ones and finished ones, of which few are in small queues; 2,000 leases and 5,000 agents;
# events as in 029_event_plans.pl.  Written directly, since all that would take long.
sql(q{
	INSERT INTO coord.task_live (id, seq, queue, type, payload, priority, max_attempts, created_at, run_at, ready_at, state, attempts)
	SELECT coord.new_id(), g, CASE WHEN g % 1000 IN (7, 8, 9) THEN 'q ' || g % 1000 ELSE 'big' END, 't', '{}', 0, 5, clock_timestamp(), clock_timestamp(), clock_timestamp(), 'pending', 0
	FROM generate_series(1, 50000) g;
	INSERT INTO coord.task_finished
	SELECT id, queue, type, payload, priority, 'completed', run_at, 1, max_attempts, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
		created_at, created_at, created_at, 0 FROM coord.task_live;
	UPDATE coord.task_finished SET id = coord.new_id();
	INSERT INTO coord.task_dead SELECT * FROM coord.task WHERE queue = 'q 7' AND state = 'completed';
	DELETE FROM coord.task_finished WHERE queue = 'q 7';
	INSERT INTO coord.agent_data (id, name, type, owner, metadata, heartbeat_timeout, heartbeat_at, registered_at, events_after)
	SELECT coord.new_id(), 'agent ' || g, 'worker', 'every'::regrole, '{}', '1 h', clock_timestamp(), clock_timestamp(), 0 FROM generate_series(1, 5000) g;
	SELECT count(*) FROM coord.agent a, generate_series(1, 2000) g, LATERAL coord.lease_acquire('key ' || g, a.id, '1 h') l WHERE a.name = 'other'});
my $agent = sql(q{SELECT id FROM coord.agent WHERE name = 'reader'});
sql("SELECT setval('coord.event_position', 1)");
for my $partition (0 .. 3)
{
	sql(qq{
		INSERT INTO coord.event_partition VALUES ($partition, nextval('coord.event_position'), clock_timestamp());
		INSERT INTO coord.event_log (position, id, type, severity, recipient_id, channel, payload, created_at, partition)
		SELECT nextval('coord.event_position'), coord.new_id(), 'type ' || g % 7, 'info',
			CASE WHEN g % 1000 = 0 THEN '$agent'::uuid WHEN g % 10 = 1 THEN (SELECT id FROM coord.agent_data WHERE name = 'agent ' || g % 5000) END,
			CASE WHEN g % 10 BETWEEN 2 AND 8 THEN 'channel ' || g % 500 END,
			'{}', clock_timestamp(), $partition FROM generate_series(1, 25000) g});
}
my $last = sql('SELECT max(position) FROM coord.event_log');
my $task = sql(q{SELECT max(id::text) FROM coord.task_live WHERE queue = 'q 7'});
my $done = sql(q{SELECT max(id::text) FROM coord.task_finished WHERE queue = 'q 9'});
sql('VACUUM ANALYZE');

# few($role, $query, $rows, $what): it gives so many rows and looks at few pages.
sub few
{
	my ($role, $query, $rows, $what) = @_;

	is(sql("SET ROLE $role; SELECT count(*) FROM ($query) q"), $rows, "$role, $what: what is there");
	# the first time fills the session's caches
	my $plan = sql("SET ROLE $role; $query; EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) $query");
	$plan =~ /^ *Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?/m or die $plan;
	cmp_ok(($1 // 0) + ($2 // 0), '<', FEW, "$role, $what: few pages") or diag($plan);
}

for my $role (qw(postgres monitor every single))
{
	my $all = $role ne 'single';

	few($role, "SELECT * FROM coord.task WHERE id = '$task'", 1, 'a task');
	few($role, "SELECT * FROM coord.task WHERE id = '$done'", 1, 'a finished task');
	few($role, "SELECT * FROM coord.task WHERE id = ANY (ARRAY(SELECT id FROM coord.task WHERE id = '$task'))", 1, 'a task of a list');
	few($role, q{SELECT * FROM coord.dead_letter WHERE queue = 'q 7'}, 50, 'the dead letters of a queue');
	few($role, q{SELECT * FROM coord.task_list(queue => 'q 7', state => 'pending', "limit" => 10)}, 10, 'task_list') if $role ne 'monitor';
	few($role, "SELECT * FROM coord.agent WHERE id = '$agent'", 1, 'an agent');
	few($role, q{SELECT * FROM coord.agent WHERE name = 'agent 77'}, 1, 'an agent by its name');
	few($role, q{SELECT * FROM coord.lease WHERE resource_key = 'key 77'}, $all ? 1 : 0, 'a lease');
	few($role, "SELECT * FROM coord.event WHERE position > $last - 100", $role =~ /postgres|monitor/ ? 100 : { every => 99, single => 90 }->{$role} // 100, 'the last events');
	few($role, "SELECT * FROM coord.event WHERE position > $last - 60000 ORDER BY position LIMIT 50", 50, 'some events in their order');
	few($role, 'SELECT * FROM coord.event ORDER BY position DESC LIMIT 50', 50, 'the last ones, backward');
	few($role, "SELECT * FROM coord.event WHERE recipient_id = '$agent' AND position > $last - 3000", $role eq 'every' ? 0 : 3, 'those to an agent');
	few($role, "SELECT * FROM coord.event WHERE channel = 'channel 7' AND position > $last - 5000", 10, 'those on a channel');
}

# ---- EXPLAIN tells nobody what is in columns that no index has

sql(q{
	SET ROLE every;
	SELECT coord.task_create('t', queue => 'hidden', max_attempts => 1, resource_key => 'hidden');
	SELECT coord.task_fail(t.id, t.fencing_token, 'password=hunter2') FROM coord.agent a, coord.task_claim(a.id, 'hidden') t WHERE a.name = 'other';
	SELECT coord.task_create('t', queue => 'hidden');
	SELECT coord.task_claim(id, 'hidden', lease_ttl => '1 h') FROM coord.agent WHERE name = 'other';
	SELECT coord.queue_set('hidden', max_claimed => 37)});

# what EXPLAIN says of a statement, but for what is in the statement itself
sub told
{
	my ($query) = @_;
	my $plan = sql("SET ROLE single; $query; EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) $query");

	$plan =~ s/'[^']*'//g;
	$plan =~ s/IS (?:NOT )?NULL/IS ?/g;
	return $plan =~ s/ (?:<=|>) / ? /gr;
}

for my $of (['task', "queue = 'hidden' AND state = 'claimed'"], ['dead_letter', "queue = 'hidden'"], ['lease', q{resource_key = 'key 77'}], ['queue', q{name = 'hidden'}])
{
	my ($relation, $where) = @$of;
	my $n = 0;

	for my $column (split /\n/, sql(qq{SELECT attname FROM pg_attribute WHERE attrelid = 'coord.$relation'::regclass AND attnum > 0
		AND attname NOT IN ('id', 'queue', 'name', 'type', 'priority', 'state', 'agent_id', 'resource_key', 'unique_key', 'finished_at', 'ended_at',
			'payload', 'depends_on', 'progress', 'result') OR attrelid = 'coord.$relation'::regclass AND '$relation' = 'lease' AND attname = 'agent_id'}))
	{
		my $value = sql("SELECT quote_nullable($column) FROM coord.$relation WHERE $where");

		next if $value eq 'NULL';
		is(told("SELECT FROM coord.$relation WHERE $where AND $column <= $value"), told("SELECT FROM coord.$relation WHERE $where AND $column > $value"),
			"whether $column of a $relation is what one guesses, EXPLAIN does not tell");
		$n++;
	}
	cmp_ok($n, '>', 6, "of a $relation there was something to guess");
}
for my $condition ("payload['password']", "payload['list'][2]", 'result', "result['x']", 'progress', 'depends_on', 'depends_on[1]')
{
	for my $of (['task', "queue = 'hidden' AND state = 'claimed'"], ['dead_letter', "queue = 'hidden'"])
	{
		my ($relation, $where) = @$of;

		is(told("SELECT FROM coord.$relation WHERE $where AND $condition IS NULL"), told("SELECT FROM coord.$relation WHERE $where AND $condition IS NOT NULL"),
			"nor whether $condition of a $relation is NULL");
	}
}

$node->stop;

done_testing();
