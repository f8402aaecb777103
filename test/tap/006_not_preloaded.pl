# Without shared_preload_libraries there is no worker.  Calls work, what is read is
# true, and sweep() does what the worker would do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('bare');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');

sub sql { return $node->safe_psql('postgres', $_[0]); }

is(sql('SELECT database, pid IS NULL FROM coord.worker'), 'postgres|t', 'coord.worker says that there is none');
sql(q{
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('q', backoff_base => '50 ms');
	SELECT coord.task_create('t', queue => 'q');
	-- in one statement, as the timeout may pass between two
	SELECT FROM coord.agent_register('mortal', heartbeat_timeout => '2 s') a, LATERAL coord.lease_acquire('short', a.id, '2 s'),
		LATERAL coord.task_claim(a.id, 'q', lease_ttl => '1 h');
});
ok($node->poll_query_until('postgres', q{SELECT status = 'inactive' FROM coord.agent WHERE name = 'mortal'}), 'an agent shows as inactive when its timeout has passed');
ok($node->poll_query_until('postgres', q{SELECT state = 'expired' FROM coord.lease WHERE resource_key = 'short'}), 'a lease as expired');
my $seen = sql(q{SELECT state, run_at, attempts, error FROM coord.task});
like($seen, qr/^pending\|/, 'and its task as pending, before any sweep');
is(sql(q{SELECT count(*) FROM coord.event_list()}), '0', 'nobody has announced it yet');

# the next claimant helps itself
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.agent a, coord.task_claim(a.id, 'q') WHERE name = 'alive'}),
	'the next claimant gets the task once its backoff is over');
is(sql(q{SELECT type FROM coord.event_list()}), 'task.requeued', 'and has announced what it met');
sql(q{SELECT coord.task_complete(id, fencing_token) FROM coord.task});

is(sql(q{SELECT coord.sweep() - 'events_delivered'}), '{"agents_expired": 1, "leases_expired": 1, "leases_renewed": 0, "tasks_requeued": 0}',
	'sweep() does the rest');
is(sql(q{SELECT coord.sweep() - 'events_delivered'}), '{"agents_expired": 0, "leases_expired": 0, "leases_renewed": 0, "tasks_requeued": 0}',
	'once');
is(sql(q{SELECT string_agg(type, ' ' ORDER BY position) FROM coord.event_list()}), 'task.requeued agent.inactive lock.expired',
	'events have positions');

# a dead letter, by sweeps alone
sql(q{
	SELECT coord.task_create('dying', queue => 'q', max_attempts => 1);
	SELECT coord.task_claim(id, 'q', lease_ttl => '100 ms') FROM coord.agent WHERE name = 'alive'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.dead_letter}), 'a run-out last attempt shows as a dead letter');
my $dead = sql('SELECT t::text FROM coord.dead_letter t');
is(sql(q{SELECT (coord.sweep() ->> 'tasks_requeued')}), '1', 'sweep() makes it one');
is(sql('SELECT t::text FROM coord.dead_letter t'), $dead, 'which reads the same');

# readers give the positions, in an order that a cursor can follow
sql(q{SELECT coord.event_send('n', to_jsonb(g), channel => 'c') FROM generate_series(1, 5) g});
is(sql(q{SELECT string_agg(payload::text, ' ' ORDER BY position) FROM coord.event_list(channel => 'c')}), '1 2 3 4 5', 'event_list shows what was committed, in order');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'c', after => (SELECT position FROM coord.event WHERE channel = 'c' AND payload = '3'))}), '2', 'and goes on from a position');
like(sql(q{SELECT fencing_token FROM coord.agent, coord.lease_acquire('k', id) WHERE name = 'alive'}), qr/^\d+$/, 'leases are granted');

# waiting for what others do needs shared memory
my ($ret, $out, $err) = $node->psql('postgres', q{CALL coord.queue_wait('q')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($err, qr/55000:.*preload/s, 'queue_wait is refused');

$node->stop('smart');	# who has just left may not be gone yet, and is no error
is(scalar(() = slurp_file($node->logfile) =~ / (ERROR|FATAL|PANIC): /g), 1, 'the log has no other error');

done_testing();
