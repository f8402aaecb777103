# The life of launcher and workers: a worker comes with the extension and goes with
# it, without a restart and without standing in anybody's way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('life');
$node->append_conf('postgresql.conf', "max_worker_processes = 20\nrestart_after_crash = on\nwal_level = replica\nmax_wal_senders = 1\n");
$node->start;

my $has_worker = 'SELECT pid IS NOT NULL FROM coord.worker';
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coord worker' AND datname = };

sub sql { return $node->safe_psql($_[0], $_[1]); }

# The worker of a database does its work: a short lease is announced as expired.
sub works
{
	my ($db) = @_;
	sql($db, q{
		SELECT coord.agent_register('life', heartbeat_timeout => '1 h');
		SELECT coord.lease_acquire('life ' || clock_timestamp(), id, '100 ms') FROM coord.agent WHERE name = 'life'});
	return $node->poll_query_until($db,
		q{SELECT bool_and(ended_at IS NOT NULL) FROM coord.lease_data} );
}

is(sql('postgres', "$workers 'postgres'"), '0', 'no extension, no worker');
sql('postgres', 'CREATE EXTENSION coord');
ok($node->poll_query_until('postgres', $has_worker), 'CREATE EXTENSION starts a worker');
ok(works('postgres'), 'it works');

sql('postgres', 'DROP EXTENSION coord');
ok($node->poll_query_until('postgres', "$workers 'postgres'", '0'), 'DROP EXTENSION ends it');
sql('postgres', 'CREATE EXTENSION coord');
ok($node->poll_query_until('postgres', $has_worker), 'CREATE EXTENSION starts one anew');
ok(works('postgres'), 'which works');

sql('postgres', 'BEGIN; DROP EXTENSION coord; ROLLBACK');
ok(works('postgres'), 'a rolled-back DROP EXTENSION changes nothing');
sql('postgres', 'BEGIN; DROP EXTENSION coord; CREATE EXTENSION coord; COMMIT');
ok(works('postgres'), 'nor does one in a transaction with a CREATE EXTENSION');

my $worker = sql('postgres', 'SELECT pid FROM coord.worker');
my $dropper = $node->background_psql('postgres');
$dropper->query_safe('BEGIN; DROP EXTENSION coord; CREATE EXTENSION coord');
sql('postgres', 'ALTER DATABASE postgres CONNECTION LIMIT -1');		# has the worker look
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE pid = $worker AND classid = 'pg_extension'::regclass AND NOT granted"),
	'a worker waits for such a transaction');
$dropper->query_safe('COMMIT');
$dropper->quit;
ok(works('postgres'), 'and works');
is(sql('postgres', 'SELECT pid FROM coord.worker'), $worker, 'for the new extension');

# Databases.  Nobody else may be connected for these commands, and the worker gives way.
sql('postgres', 'CREATE DATABASE one');
sql('one', 'CREATE EXTENSION coord');
ok($node->poll_query_until('one', $has_worker), 'another database has a worker of its own');
sql('postgres', 'CREATE DATABASE two TEMPLATE one');
pass('a database with a worker can be the template of another');
ok($node->poll_query_until('two', $has_worker), 'the copy has a worker');
ok(works($_), "the worker of database $_ works") for ('one', 'two', 'postgres');
sql('one', 'CREATE DATABASE own TEMPLATE one');
pass('also for who is connected to it');
ok($node->poll_query_until('one', $has_worker), 'which has its worker again');
sql('postgres', 'ALTER DATABASE two RENAME TO three');
ok($node->poll_query_until('three', $has_worker), 'a renamed database has its worker again');
is(sql('three', 'SELECT database FROM coord.worker'), 'three', 'under the new name');
sql('postgres', 'DROP DATABASE three');
sql('postgres', 'DROP DATABASE one');
is(sql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coord worker' AND datname <> 'own'}), '1',
	'databases with workers can be dropped');
my ($ret, $out, $err) = $node->psql('postgres', 'DROP DATABASE nosuch');
like($err, qr/does not exist/, 'what fails says so');
ok(works('postgres'), 'and changes nothing');

# Settings.  Nothing that a database has set for its sessions is for the worker.
my %limits = (
	statement_timeout => ['1 ms', '0'], lock_timeout => ['1 ms', '0'], idle_in_transaction_session_timeout => ['1 ms', '0'],
	default_transaction_read_only => ['on', 'off'], default_transaction_isolation => ['serializable', 'read\\ committed']);
$limits{transaction_timeout} = ['1 ms', '0'] if $node->pg_version >= 17;
sql('postgres', 'CREATE DATABASE strict');
sql('strict', 'CREATE EXTENSION coord');
{
	local $ENV{PGOPTIONS} = join(' ', map { "-c $_=$limits{$_}[1]" } sort keys %limits);

	$node->poll_query_until('strict', $has_worker) or die 'no worker';
	sql('postgres', "ALTER DATABASE strict SET $_ = '$limits{$_}[0]'") for sort keys %limits;
	my $before = sql('strict', 'SELECT pid FROM coord.worker');
	sql('postgres', "SELECT pg_terminate_backend($before)");
	ok($node->poll_query_until('strict', "SELECT pid IS NOT NULL AND pid <> $before FROM coord.worker"), 'a database with limits gets a worker');
	$before = sql('strict', 'SELECT pid FROM coord.worker');
	sql('strict', q{
		SELECT coord.agent_register('many', heartbeat_timeout => '1 h');
		SELECT count(*) FROM coord.agent a, generate_series(1, 2000) g, LATERAL coord.lease_acquire('k ' || g, a.id, '100 ms') WHERE a.name = 'many'});
	ok($node->poll_query_until('strict', q{SELECT count(*) = 2000 AND bool_and(position IS NOT NULL) FROM coord.event WHERE type = 'lock.expired'}),
		'whose batches may take longer than that');
	is(sql('strict', 'SELECT pid FROM coord.worker'), $before, 'and have ended none');
}
ok($node->poll_query_until('postgres', q{SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'coord launcher'},
	CoordCluster::wait_event($node, 'CoordLauncherMain')), 'what the launcher waits for has a name');
ok($node->poll_query_until('postgres', "SELECT bool_and(wait_event = '" . CoordCluster::wait_event($node, 'CoordWorkerMain')
	. q{') FROM pg_stat_activity WHERE backend_type = 'coord worker'}), 'as has what a worker waits for');
sql('postgres', 'DROP DATABASE strict');

# Being ended.
my $pid = sql('postgres', 'SELECT pid FROM coord.worker');
sql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT pid <> $pid FROM coord.worker"), 'a terminated worker is followed by another');
ok(works('postgres'), 'which works');

$pid = sql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'coord launcher'});
sql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', qq{SELECT pid <> $pid FROM pg_stat_activity WHERE backend_type = 'coord launcher'}),
	'a terminated launcher is followed by another');
ok(works('postgres'), 'the worker has gone on');
is(sql('postgres', "$workers 'postgres'"), '1', 'and is the only one');
$pid = sql('postgres', 'SELECT pid FROM coord.worker');
sql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT pid <> $pid FROM coord.worker"), 'the new launcher looks after the worker');

$node->reload;
ok(works('postgres'), 'SIGHUP does no harm');

# A worker that was killed takes the server's other processes with it, as any
# backend does; all come back.
$pid = sql('postgres', 'SELECT pid FROM coord.worker');
kill('KILL', $pid);
ok($node->poll_query_until('postgres', "SELECT pid <> $pid FROM coord.worker"), 'a killed worker is followed by another');
ok(works('postgres'), 'which works');

# A DROP DATABASE that was interrupted leaves this.
ok($node->poll_query_until('own', $has_worker), 'a database has a worker');
$pid = sql('own', 'SELECT pid FROM coord.worker');
my $other = sql('postgres', 'SELECT pid FROM coord.worker');
sql('postgres', "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'own'; SELECT pg_terminate_backend($pid), pg_terminate_backend($other)");
ok($node->poll_query_until('postgres', "SELECT pid <> $other FROM coord.worker"), 'other workers are followed by others');
is(sql('postgres', "$workers 'own'"), '0', 'but not that of a database that is invalid');
unlike(slurp_file($node->logfile), qr/cannot connect to invalid database/, 'nor is it tried');

# The worker writes heartbeats that are only in memory.
sql('postgres', q{SELECT coord.agent_heartbeat(id) FROM coord.agent WHERE name = 'life'});
sql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'gone'; SELECT pg_reload_conf()});
my $committer = $node->background_psql('postgres');
$committer->query_until(qr/commits/, q{
	\echo commits
	CREATE TABLE committed ();
});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'}),
	'a commit waits for a standby that is gone');
$node->stop('fast');
$committer->{run}->finish;
pass('the server stops all the same');
my $log = slurp_file($node->logfile);
unlike($log, qr/(PANIC|does not exist at character)/, 'the log is free of errors');
# one that is told to end in the middle of a batch ends as any backend does
my $told = () = $log =~ /FATAL:  terminating background worker "coord worker/g;
my $ended = () = $log =~ /coord worker.*exited with exit code/g;
is($ended, $told, 'and no worker has ended of itself');

done_testing();
