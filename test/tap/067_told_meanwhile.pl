# The worker looks at what is many in several batches.  What it is told of between two of them,
# and what is before the place where it stands, has its turn all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $places = 150;
my $ended = 100;			# a batch of agents

my $node = CoordCluster::new_node('told');
$node->append_conf('postgresql.conf', "max_wal_senders = 1\nwal_level = replica\ncoord.max_attached_agents = $places\n");
$node->start;

$ENV{PGOPTIONS} = '-c synchronous_commit=local';

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

# What is committed with that setting, by the worker and not by other sessions, waits for a standby that is not there.
sub commits_wait
{
	my $committer = $node->background_psql('postgres');

	sql(q{ALTER SYSTEM SET synchronous_standby_names = 'gone'; SELECT pg_reload_conf()});
	$committer->query_until(qr/commits/, q{
		\echo commits
		SET synchronous_commit = on;
		DO $$ BEGIN
			LOOP
				CREATE TEMP TABLE committed ();
				DROP TABLE committed;
				COMMIT;
			END LOOP;
		END $$;
	});
	my $waiting = q{FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'};
	becomes("EXISTS (SELECT $waiting)");
	sql("SELECT pg_terminate_backend(pid) $waiting");
	$committer->{run}->finish;
	return;
}

# $then->() is called when the worker is in the middle of something, after $cause->().
sub with_worker_waiting_at
{
	my ($what, $cause, $then) = @_;

	commits_wait();
	$cause->();
	ok(becomes(qq{EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'coord worker' AND query = 'coord: $what')}),
		"the worker is in the middle of $what");
	$then->();
	sql(q{ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()});
	return;
}

# A session with an agent of that name, which is attached and has a lease of that name.
sub attached_session
{
	my ($name) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe(qq{
		SELECT coord.agent_attach(id) FROM coord.agent_register('$name');
		SELECT coord.lease_acquire('$name', id, '1 h') FROM coord.agent WHERE name = '$name'});
	return $session;
}

sql('CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');

# Leases of attached agents, which are released in the order of the agents' ids.
my $first = attached_session('first');
my $second = attached_session('second');
my $locker = $node->background_psql('postgres');
$locker->query_safe(q{BEGIN; SELECT FROM coord.lease_data WHERE resource_key = 'second' FOR UPDATE});
$second->quit;
ok(becomes(q{inactive_since IS NOT NULL FROM coord.agent_data WHERE name = 'second'}), 'an agent has ended, whose lease is locked');
with_worker_waiting_at('releasing leases of ended agents',
	sub { $locker->query_safe('COMMIT') },
	sub {
		$first->quit;
		becomes(q{status = 'inactive' FROM coord.agent WHERE name = 'first'});
	});
ok(becomes(q{count(*) = 2 FROM coord.lease_data WHERE ended_at IS NOT NULL}), 'leases of an agent that ends meanwhile are released');

# Dependencies, in the order of the tasks that wait.
sql(q{
	SELECT coord.agent_register('one', heartbeat_timeout => '1 h'), coord.agent_register('other', heartbeat_timeout => '1 h');
	SELECT coord.task_create('one', queue => 'one'), coord.task_create('other', queue => 'other');
	SELECT coord.task_create('waits', queue => 'w', depends_on => ARRAY(SELECT id FROM coord.task WHERE queue IN ('one', 'other')))});
ok(becomes('count(*) = 0 FROM coord.dependency_check'), 'a task waits for two');
sub complete { return qq{SELECT coord.task_complete(t.id, t.fencing_token) FROM coord.agent a, coord.task_claim(a.id, '$_[0]') t WHERE a.name = '$_[0]';}; }
sql(q{SELECT coord.task_create('pending', queue => 'p')});
$locker->query_safe('BEGIN; ' . complete('one'));
with_worker_waiting_at('looking at dependencies',
	sub {
		sql('BEGIN; ' . complete('other') . q{
			SELECT coord.task_create('waits', queue => 'more', depends_on => ARRAY(SELECT id FROM coord.task WHERE queue = 'p'))
			FROM generate_series(1, 3000);
			COMMIT});
	},
	sub {
		is(sql(q{SELECT count(*) FROM coord.dependency_check JOIN coord.task ON task_id = id WHERE queue = 'w'}), '1',
			'of two that are being completed one leaves it to the worker');
		$locker->query_safe('COMMIT');
	});
ok(becomes(q{state = 'pending' FROM coord.task WHERE queue = 'w'}), 'a task whose last dependency is completed meanwhile does not wait any more');
$locker->quit;

# Places of agents that were attached: exactly a batch of them, and there are others after them.
sub attach_many { return "SELECT count(coord.agent_attach(a.id)) FROM generate_series(1, $ended) n, coord.agent_register('$_[0] ' || n) a"; }
my $worker = CoordCluster::stop_worker($node, 'postgres');
is(sql(attach_many('many')), $ended, 'a batch of agents is attached, and they end at once');
kill 'CONT', $worker;
ok(becomes(qq{count(*) = $ended FROM coord.agent_data WHERE name LIKE 'many %' AND inactive_since IS NOT NULL}), 'which the worker sees');
ok($node->poll_query_until('postgres', attach_many('more'), $ended), 'and their places are to be had again');

done_testing();
