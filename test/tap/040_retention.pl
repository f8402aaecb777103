# Finished tasks are kept as long as their queue says, and then dropped by partitions:
# none goes too early, whatever transaction is open meanwhile, and none stays for good.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('retention');
$node->append_conf('postgresql.conf', "coord.task_retention = '2 s'");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# how many partitions hold something
my $in_use = q{SELECT count(*) FROM generate_series(0, 15) n WHERE pg_relation_size('coord.task_finished_' || n) > 0};

# Creates and finishes n tasks of a queue, each of which is written down in "done".
sub finish
{
	my ($n, $queue) = @_;

	return qq{
		SELECT count(*) FROM coord.task_create_many((
			SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', '$queue')) FROM generate_series(1, $n)));
		INSERT INTO done SELECT c.id, '$queue', c.finished_at
			FROM coord.agent a, coord.task_claim(a.id, '$queue', max_tasks => $n) t, coord.task_complete(t.id, t.fencing_token) c};
}

# The tasks that are missing although they finished less than a second ago, and those
# of a queue that are still there.
my $missing = q{
	SELECT count(*) FROM done d
	WHERE finished_at > clock_timestamp() - interval '1 s' AND NOT EXISTS (SELECT FROM coord.task t WHERE t.id = d.id)};
sub none { return "SELECT ($_[0]) = 0"; }
sub kept { return "SELECT count(*) FROM coord.task WHERE queue = '$_[0]' AND state = 'completed'"; }

sql(q{
	CREATE EXTENSION coord;
	CREATE TABLE done (id uuid, queue text, finished_at timestamptz);
	SELECT coord.agent_register('worker', heartbeat_timeout => '1 h')});

# ---- a steady load

my $early = 0;
my $rounds = 0;
my $turns_seen = q{SELECT count(DISTINCT opened_at) FROM turned};
sql('CREATE TABLE turned (partition smallint, opened_at timestamptz)');
while (sql($turns_seen) < 8 && $rounds++ < 1000)
{
	sql(finish(20, 'steady') . '; INSERT INTO turned SELECT partition, opened_at FROM coord.task_partition');
	$early += sql($missing);
}
cmp_ok(sql($turns_seen), '>=', 8, 'partitions take turns');
is($early, 0, 'no task is dropped before its time');
cmp_ok(sql('SELECT max(n) FROM (SELECT count(*) AS n FROM turned GROUP BY opened_at, partition) t'), '>', 0, 'and each is written for a while');
cmp_ok(sql($in_use), '<=', 6, 'few partitions are in use at a time');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.task)'), 'and in the end all tasks are dropped, with nothing else going on');
is(sql(q{SELECT count(*) FROM pg_class WHERE oid::regclass::text ~ 'coord.task_finished_\d+$'}), 16, 'no partition was made or dropped');

# ---- a transaction that stays open

my $writer = $node->background_psql('postgres', on_error_stop => 1);
$writer->query_safe('BEGIN; ' . finish(1, 'open'));
my $partition = $writer->query_safe(q{SELECT partition FROM coord.task_finished WHERE queue = 'open'});
sql(finish(1, 'steady'));
ok($node->poll_query_until('postgres', "SELECT closed_at < clock_timestamp() - interval '3 s' FROM coord.task_partition WHERE partition = $partition"),
	'another partition is written while a transaction has written the one before');
is(sql("SELECT sealed_at IS NULL FROM coord.task_partition WHERE partition = $partition"), 't', 'which is not over for that long');
$writer->query_safe(finish(1, 'open'));
is($writer->query_safe('COMMIT; ' . kept('open')), 2, 'what the transaction has finished is kept when it ends');
is(sql($missing), 0, 'for as long as it is to be');
ok($node->poll_query_until('postgres', none(kept('open'))), 'and then dropped');
ok($node->poll_query_until('postgres', none($in_use)), 'as is everything');

# ---- a transaction that reads

my $reader = $node->background_psql('postgres', on_error_stop => 1);
$reader->query_safe(finish(10, 'read') . '; BEGIN; ' . kept('read'));
my $open = $reader->query_safe(q{SELECT DISTINCT partition FROM coord.task_finished WHERE queue = 'read'});
ok($node->poll_query_until('postgres', "SELECT sealed_at < clock_timestamp() - interval '3 s' FROM coord.task_partition WHERE partition = $open"),
	'a partition that is read is not emptied');
is($reader->query_safe(kept('read')), 10, 'the reader goes on reading');
is(sql(finish(10, 'others')), 10, 'others go on finishing');
$reader->query_safe('COMMIT');
ok($node->poll_query_until('postgres', none($in_use)), 'it is emptied when the reader is gone');

# ---- queues of their own retention

sql(q{ALTER SYSTEM SET coord.task_retention = '1 h'; SELECT pg_reload_conf(); SELECT coord.queue_set('short', retention => '1 s')});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM coord.task_partition WHERE closed_at IS NULL'),
	'a queue with a retention of its own gets a partition of its own');
# in one transaction, before whose end no partition that it has written is over
like(sql('BEGIN; ' . finish(10, 'short') . ';' . finish(10, 'long') . '; SELECT count(DISTINCT tableoid) FROM coord.task_finished; COMMIT'), qr/^2\z/m,
	'tasks of the two are kept apart');
ok($node->poll_query_until('postgres', none(kept('short'))), 'the short one is emptied');
is(sql(kept('long')), 10, 'the long one is not');
# a retention that is raised takes nothing from what has finished before
sql(q{SELECT coord.queue_set('minute', retention => '1 min')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM coord.task_partition WHERE closed_at IS NULL}), 'another one gets one too');
sql(finish(10, 'minute'));
my $minute = sql(q{SELECT partition FROM coord.task_finished WHERE queue = 'minute' LIMIT 1});
sql(q{SELECT coord.queue_set('minute', retention => '1 h')});
ok($node->poll_query_until('postgres', "SELECT sealed_at IS NOT NULL FROM coord.task_partition WHERE partition = $minute"), 'whose partition is over when it has a longer one');
is(sql(kept('minute')) . sql("SELECT keep FROM coord.task_partition WHERE partition = $minute"), '1000:01:00', 'and kept for as long as it was to be');

sql(q{SELECT coord.queue_set('short', retention => '1 h')});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM coord.task_partition WHERE closed_at IS NULL'),
	'a class that no queue is of any more has no partition');
sql(finish(10, 'short'));
is(sql('SELECT count(DISTINCT tableoid) FROM coord.task_finished WHERE queue IN (\'short\', \'long\')'), 1, 'so they share one');

# ---- cancelled tasks, and dead letters

sql(q{
	SELECT coord.task_cancel((coord.task_create('t', queue => 'ends')).id);
	SELECT coord.task_create('t', queue => 'ends', max_attempts => 1);
	SELECT coord.task_fail(t.id, t.fencing_token, 'broken') FROM coord.agent a, coord.task_claim(a.id, 'ends') t});
is(sql("SELECT string_agg(state, ' ' ORDER BY state) FROM coord.task WHERE queue = 'ends'"), 'cancelled dead', 'a task is cancelled, another one dies');

# ---- purge()

ok($node->poll_query_until('postgres', none(q{SELECT count(*) FROM coord.task_partition WHERE closed_at IS NOT NULL AND keep < '1 min'})),
	'the worker has emptied what is over');
is(sql(q{SELECT coord.purge() - 'event_partitions_emptied'}), '{"tasks_deleted": 0, "agents_deleted": 0, "agents_retired": 0, "events_deleted": 0, "task_partitions_emptied": 0}',
	'purge() by itself drops nothing that is to be kept');
is(sql(q{SELECT coord.purge('30 min') ->> 'tasks_deleted'}), 0, 'nor what is younger than it is told');
sql(q{BEGIN; SELECT coord.purge(); SELECT coord.purge('30 min'); COMMIT});
is(sql(q{SELECT (coord.purge('0 s') ->> 'tasks_deleted')::int}), 21, 'it drops what it is told to, also what is to be kept');
is(sql("SELECT string_agg(state, ' ') FROM coord.task"), 'dead', 'but not dead letters');
my ($status, undef, $complaint) = $node->psql('postgres', "SELECT coord.purge('-1 s')");
like($complaint, qr/older_than/, 'a negative age is an error');
sql(q{CREATE ROLE agent; SELECT coord.grant_agent('agent'); CREATE ROLE monitor; SELECT coord.grant_monitor('monitor')});
for my $role ('agent', 'monitor')
{
	($status, undef, $complaint) = $node->psql('postgres', "SET ROLE $role; SELECT coord.purge('0 s')");
	like($complaint, qr/permission denied for function purge/, "a role with the rights of an $role may not purge");
}
sql(q{CREATE ROLE janitor; GRANT USAGE ON SCHEMA coord TO janitor; GRANT EXECUTE ON FUNCTION coord.purge TO janitor});
is(sql(q{SET ROLE janitor; SELECT coord.purge('0 s') ->> 'tasks_deleted'}), 0, 'one that was granted EXECUTE may');

# ---- purge() in a transaction block, where nobody else empties anything

my $by_hand = CoordCluster::new_node('by_hand');
$by_hand->append_conf('postgresql.conf', "shared_preload_libraries = ''\ncoord.task_retention = '1 s'\ncoord.event_retention = '1 s'");
$by_hand->start;
$by_hand->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.task_cancel((coord.task_create('t', queue => 'block')).id)});

# Sends an event, and has it moved to the log, then calls purge() in a block; returns how many it has emptied.
my $at_first = '';
sub purge_in_block
{
	my $id = $by_hand->safe_psql('postgres', q{SELECT id FROM coord.event_send('t', channel => 'block')});

	$at_first ||= $id;
	$by_hand->safe_psql('postgres', q{SELECT count(*) FROM coord.event_list(channel => 'block')});
	return split /\|/, $by_hand->safe_psql('postgres', q{
		BEGIN;
		SELECT (p ->> 'task_partitions_emptied')::int, (p ->> 'event_partitions_emptied')::int FROM coord.purge() p;
		COMMIT});
}

my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
my $sealed_long_ago = q{SELECT count(*) FROM coord.task_partition WHERE sealed_at < clock_timestamp() - interval '2 s'};
my ($tasks, $events) = (0, 0);
while (time < $deadline && !($events && $by_hand->safe_psql('postgres', $sealed_long_ago)))
{
	my ($n_tasks, $n_events) = purge_in_block();

	$tasks += $n_tasks;
	$events += $n_events;
}
cmp_ok($events, '>', 0, 'purge() in a transaction block empties partitions of events');
is($by_hand->safe_psql('postgres', "SELECT count(*) FROM coord.event WHERE id = '$at_first'"), '0', 'which drops the old ones');
is($tasks . $by_hand->safe_psql('postgres', kept('block') =~ s/completed/cancelled/r), '01', 'but none of tasks, though one is over');
is($by_hand->safe_psql('postgres', q{SELECT coord.purge() ->> 'task_partitions_emptied'}), '1', 'which goes outside of one');
is($by_hand->safe_psql('postgres', 'SELECT count(*) FROM coord.task'), '0', 'with its task');
$by_hand->stop;

# ---- a dump

sql(q{SELECT coord.queue_set('short', retention => '1 s'), coord.queue_set('minute', retention => '1 s')});
sql(finish(10, 'dumped'));
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'a database with finished tasks is dumped');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'and restored');
is($node->safe_psql('restored', kept('dumped')), 10, 'with them');
$node->safe_psql('postgres', q{ALTER SYSTEM SET coord.task_retention = '1 s'; SELECT pg_reload_conf()});
ok($node->poll_query_until('restored', none(kept('dumped'))), 'which are dropped there, too, after a while');

$node->stop;
is(join("\n", CoordCluster::logged($node, qr/ (PANIC|WARNING): |XX000/)), '', 'nobody met an error that must not be');

done_testing();
