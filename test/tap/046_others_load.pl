# What brought servers of others to their knees though nothing was wrong with any one call,
# played here (see docs/what-others-got-wrong.md): heartbeats, listeners, poolers.  Nothing is
# timed: what is counted is locks, transactions, WAL and snapshots.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Pgbouncer;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('load');
$node->append_conf('postgresql.conf', "max_connections = 80\nautovacuum = off\ncheckpoint_timeout = 1h\nwal_level = minimal\nmax_wal_senders = 0\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

sub pgbench
{
	my ($name, $script, @options) = @_;
	my $file = $node->basedir . "/$name.sql";

	append_to_file($file, $script);
	$node->command_ok([ 'pgbench', '-n', @options, '-f', $file, 'postgres' ], $name);
}

sql(q{
	CREATE EXTENSION coord;
	CREATE TABLE beating AS
		SELECT n, (coord.agent_register('worker ' || n, heartbeat_timeout => '1 h')).id FROM generate_series(1, 500) n;
	ALTER TABLE beating ADD PRIMARY KEY (n);
	VACUUM ANALYZE beating});
CoordCluster::has_worker($node, 'postgres');

# ---- the row locks of heartbeats swamp the server at 500 workers (hatchet 2604)

# One transaction stays open and has beaten for all.
my $beat_for_all = q{SELECT count(*) FROM beating b, LATERAL coord.agent_heartbeat(b.id) WHERE status = 'active'};
my $open = $node->background_psql('postgres');
my $pid = $open->query_safe('SELECT pg_backend_pid()');
$open->query_safe('BEGIN');
is($open->query_safe($beat_for_all), '500', 'a transaction has beaten for 500 workers, and stays open');
is($open->query_safe('SELECT pg_current_xact_id_if_assigned() IS NULL'), 't', 'it has no transaction id');
is(sql(qq{
	SELECT string_agg(DISTINCT mode, ', ') FROM pg_locks
	WHERE pid = $pid AND locktype <> 'virtualxid'}), 'AccessShareLock', 'and no lock but those of a reader');
is(sql(qq{
	BEGIN; SELECT count(*) FROM (SELECT FROM coord.agent_data FOR UPDATE NOWAIT) a; ROLLBACK}), '500', 'nobody else is kept from their rows');

# Others beat for the same workers, from 40 connections, while somebody has the rows locked.
my $locks = $node->background_psql('postgres');
$locks->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM coord.agent_data FOR UPDATE) a');
my $before = q{SELECT pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn()};
my ($xid, $lsn) = split /\|/, sql($before);
pgbench('5000 heartbeats from 40 connections', q{
\set n random(1, 500)
SELECT coord.agent_heartbeat(id) FROM beating WHERE n = :n;
}, '-c', '40', '-j', '2', '-t', '125');
my ($xids, $wal) = split /\|/, sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $xid, pg_current_wal_insert_lsn() - '$lsn'");
cmp_ok($xids, '<', 10, 'take no transaction ids');
cmp_ok($wal, '<', 20_000, 'write no WAL');
is(sql(q{SELECT count(*) FROM coord.agent_beat}), '0', 'and no rows beside those of the agents');
is(sql(q{SELECT count(*) FROM beating JOIN coord.agent a USING (id) JOIN coord.agent_data d USING (id) WHERE a.last_heartbeat_at > d.heartbeat_at}),
	'500', 'but they count');
$locks->quit;
$open->quit;

# ---- a listener pins xmin, and vacuum removes nothing (graphile_worker_rs 456)

my %idle;
sub start_idle
{
	my ($name, $call) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe("SET application_name = '$name'");
	if ($call =~ /^CALL/) { $session->query_until(qr/begins/, "\\echo begins\n$call;\n"); }
	else { $session->query_safe($call); }
	$idle{$name} = $session;
}
start_idle('event_listen', q{SELECT coord.event_listen(channel => 'burst')});
start_idle('queue_listen', q{SELECT coord.queue_listen('burst')});
start_idle('stuck queue_listen', q{SELECT coord.queue_listen('burst')});
start_idle('queue_wait', q{CALL coord.queue_wait('nothing', '1 h')});
ok(becomes(q{state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE application_name = 'queue_wait'}), 'four sessions wait');

# One client does not read any more: what the server writes to it stays there.
my $stuck = $idle{'stuck queue_listen'}{run}{KIDS}[0]{PID};
kill('STOP', $stuck);
pgbench('5000 tasks, each in a transaction', q{SELECT coord.task_create('t', queue => 'burst');}, '-c', '8', '-j', '2', '-t', '625');
my $event = sql(q{SELECT (coord.event_send('last', channel => 'burst')).id});
ok(becomes("position IS NOT NULL FROM coord.event WHERE id = '$event'"), 'an event is delivered');
ok(becomes(q{next_deadline_at IS NULL OR next_deadline_at > clock_timestamp() FROM coord.worker}), 'nothing is left to be told');
# each has one for the moment in which it is told
ok($node->poll_query_until('postgres', q{
	SELECT application_name, backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity
	WHERE application_name IN ('event_listen', 'queue_listen', 'stuck queue_listen', 'queue_wait') ORDER BY 1},
	"event_listen|t\nqueue_listen|t\nqueue_wait|t\nstuck queue_listen|t"), 'none has a snapshot or a transaction id');
sql(q{CREATE TABLE emptied AS SELECT generate_series(1, 10000); DELETE FROM emptied});
ok($node->poll_query_until('postgres', q{VACUUM emptied; SELECT pg_relation_size('emptied')}, "VACUUM\n0"), 'and vacuum removes what dies meanwhile');
kill('CONT', $stuck);
like($idle{'stuck queue_listen'}->query_safe('SELECT 1'), qr/^Asynchronous notification/m, 'the one that did not read has been told');
$_->{run}->kill_kill(grace => 0) for values %idle;

# ---- what belongs to a session is lost behind a pooler in transaction mode (good_job 52, pgbouncer 655)

my $pooler = Pgbouncer->new($node, 2);
my $connections = q{FROM pg_stat_activity a WHERE application_name = 'pooled'};

# A client of the pooler, for one call.
sub pooled
{
	my ($query) = @_;
	local $ENV{PGAPPNAME} = 'pooled';
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-d', $pooler->conninfo('transaction'), '-v', 'VERBOSITY=sqlstate', '-c', $query ], '>', \$out, '2>', \$err);
	chomp($out, $err);
	return $out . $err;
}

my ($ann, $bob) = split /\n/, sql(q{
	SELECT (coord.agent_register('ann', heartbeat_timeout => '1 h')).id;
	SELECT (coord.agent_register('bob', heartbeat_timeout => '1 h')).id});
sql(q{SELECT coord.task_create('t', queue => 'pooled')});
my ($task, $token) = split /\|/, pooled("SELECT id, fencing_token FROM coord.task_claim('$ann', 'pooled', lease_ttl => '1 h')");
my $lease = pooled("SELECT id FROM coord.lease_acquire('pooled', '$ann', '1 h')");
is(sql("SELECT count(*) > 0, sum((SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid)) $connections"), 't|0',
	'an agent holds a task and a lease, its connection nothing');
is(sql("SELECT bool_and(pg_terminate_backend(pid, 30000)) $connections"), 't', 'all connections of the pooler are terminated');
is(pooled("SELECT count(*) FROM coord.lease_acquire('pooled', '$bob')"), '0', 'the lease is held');
is(pooled("SELECT coord.task_claim('$bob', task_id => '$task')"), 'ERROR:  55P03', 'so is the task');

# Another waits for the lease, on one of the two connections.
my ($waited, $trouble) = ('', '');
my $timeout = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
my $waiter = IPC::Run::start([ 'psql', '-XAtq', '-d', $pooler->conninfo('transaction'), '-c',
	"SELECT agent_id FROM coord.lease_acquire('pooled', '$bob', wait => '1 h')" ], '<', \undef, '>', \$waited, '2>', \$trouble, $timeout);
ok(becomes(q{count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%wait =>%' AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()}),
	'another waits for the lease');
is(pooled("SELECT state FROM coord.task_complete('$task', $token)"), 'completed', 'on another connection the task is completed');
is(pooled("SELECT coord.lease_release('$lease')"), 't', 'and the lease released');
$waiter->finish;
is($waited . $trouble, "$bob\n", 'so that the other one has it');
is(pooled(q{SELECT coord.listen_name(channel => 'c')}) . pooled(q{SELECT count(*) FROM pg_listening_channels()}), 'coord:channel:c0',
	'the name to listen to can be asked for there, and nothing listens');
$pooler->stop;
done_testing();
