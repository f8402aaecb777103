# Recurring tasks, with the real pg_cron in another database: what a call does there by a
# background worker is part of the caller's transaction, the caller's rights are what count,
# and whatever becomes of caller, worker or locks, nothing is half done and nothing hangs.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_cron_node('elsewhere', 'cronhome', 'coord,pg_cron');
$node->append_conf('postgresql.conf', "cron.use_background_workers = on\nmax_prepared_transactions = 2\nmax_worker_processes = 12\nwal_level = replica\nmax_wal_senders = 2\n");
$node->start;

sub sql { return $node->safe_psql('app', $_[0]); }
sub home { return $node->safe_psql('cronhome', $_[0]); }

# What a statement is refused with.
sub refused
{
	my ($sql, $database) = @_;
	my (undef, undef, $err) = $node->psql($database // 'app', $sql, on_error_stop => 0, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $err;
}

sub database
{
	my ($name, $encoding) = @_;
	return "CREATE DATABASE $name ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
}

# The schedules that there are, by their names.
sub jobs { return home(q{SELECT coalesce(string_agg(regexp_replace(jobname, '^.*:', '') || ' ' || schedule, ', ' ORDER BY jobname), '-') FROM cron.job WHERE jobname LIKE 'coord:task:app:x%'}); }

# No worker is left that asks pg_cron for somebody.
sub none_left { return $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'coord pg_cron'}); }

$node->safe_psql('postgres', database('app', 'UTF8'));
sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE ann LOGIN;
	CREATE ROLE bob LOGIN;
	SELECT coord.grant_agent('ann');
	SELECT coord.grant_agent('bob')});
my $x = q{coord.task_schedule('x', '0 3 * * *', 't')};

# ---- what is missing

like(refused("SELECT $x"), qr/55000: .*DETAIL: .*database "cronhome" .*does not exist/s, 'a database that is not there is named');
$node->safe_psql('postgres', database('cronhome', 'UTF8') . '; REVOKE CONNECT ON DATABASE cronhome FROM PUBLIC');
like(refused("SELECT $x"), qr/55000: .*DETAIL: .*extension has not been created in database "cronhome"/s, 'so is one without the extension');
home('CREATE EXTENSION pg_cron; REVOKE USAGE ON SCHEMA cron FROM PUBLIC');
for my $right (
	[ 'CONNECT on database "cronhome"', 'GRANT CONNECT ON DATABASE cronhome TO ann' ],
	[ 'USAGE on its schema cron', 'GRANT USAGE ON SCHEMA cron TO ann' ],
	[ 'EXECUTE on cron.schedule_in_database', 'GRANT EXECUTE ON FUNCTION cron.schedule_in_database\(text, text, text, text, text, boolean\) TO ann' ])
{
	my ($lacks, $grant) = @$right;
	my $error = refused("SET ROLE ann; SELECT $x");

	like($error, qr/42501: .*"ann" has no $lacks.*HINT:  Run[^\n]*($grant)/s, "who has no $lacks is told how to give it");
	$error =~ /($grant)/ and home($1);
}
home('GRANT CONNECT ON DATABASE cronhome TO bob; GRANT USAGE ON SCHEMA cron TO bob; GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO bob');
is(home('SELECT count(*) FROM cron.job'), '0', 'who was refused has left nothing');
my $seconds = CoordCluster::cron_knows_seconds($node, 'cronhome');

# ---- the tasks come; looked at below

my $often = $seconds ? '1 seconds' : '* * * * *';
sql(qq{SET ROLE ann; SELECT coord.task_schedule('often', '$often', 'often', '{"it''s": 1}', 'q', overlap => true)});
is(home(q{SELECT database, username, schedule FROM cron.job}), "app|ann|$often", 'a job is its role\'s, for the database of the call, and there when the call returns');

# ---- in the caller's transaction

my $id = sql("SET ROLE ann; SELECT $x");
is(sql(q{SET ROLE ann; SELECT coord.task_schedule('x', '0 4 * * *', 't')}), $id, 'scheduled again, it is the same job');
is(sql(q{SET ROLE bob; SELECT coord.task_unschedule('x')}), 'f', 'which another role has not');
is(sql(q{SET ROLE ann; SELECT coord.task_unschedule('x'), coord.task_unschedule('x')}), 't|f', 'it is taken away, once');
sql(qq{SET ROLE ann; BEGIN; SELECT $x; ROLLBACK});
is(jobs(), '-', 'what is rolled back is undone');
sql(qq{SET ROLE ann; BEGIN; SELECT $x; SELECT coord.task_unschedule('x'); SELECT coord.task_schedule('x2', '0 3 * * *', 't'); SELECT coord.task_schedule('x2', '0 5 * * *', 't'); COMMIT});
is(jobs(), 'x2 0 5 * * *', 'several calls of a transaction see each other');
sql(q{SET ROLE ann; BEGIN;
	SELECT coord.task_schedule('x3', '0 3 * * *', 't');
	SAVEPOINT a;
		SELECT coord.task_schedule('x4', '0 3 * * *', 't');
		SAVEPOINT b;
			SELECT coord.task_schedule('x5', '0 3 * * *', 't'), coord.task_unschedule('x2');
		ROLLBACK TO b;
		SELECT coord.task_schedule('x3', '0 6 * * *', 't');
		RELEASE b;
	RELEASE a;
	SAVEPOINT c;
		SELECT coord.task_schedule('x6', '0 3 * * *', 't');
		SAVEPOINT d;
			SELECT coord.task_unschedule('x4');
		RELEASE d;
	ROLLBACK TO c;
	COMMIT});
is(jobs(), 'x2 0 5 * * *, x3 0 6 * * *, x4 0 3 * * *', 'savepoints undo what was done since, and nothing else');
sql(q{SET ROLE ann; BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT coord.task_schedule('x5', '0 3 * * *', 't'); ROLLBACK TO a; SELECT coord.task_unschedule('x4'); COMMIT});
is(jobs(), 'x2 0 5 * * *, x3 0 6 * * *', 'also when the first call is in one');
like(refused(q{SET ROLE ann; SELECT coord.task_schedule('x9', '0 3 * *', 't')}), qr/22023: .*invalid schedule: 0 3 \* \*.*pg_cron in database "cronhome"/s, 'errors of pg_cron come with their code, and say where from');
is(sql(q{SET ROLE ann; DO $$
	BEGIN
		PERFORM coord.task_schedule('x7', '0 3 * * *', 't');
		FOR i IN 1 .. 200 LOOP
			BEGIN
				PERFORM coord.task_unschedule('x7');
				PERFORM coord.task_schedule('x8', 'soon', 't');
			EXCEPTION WHEN invalid_parameter_value THEN NULL;
			END;
		END LOOP;
	END $$;
	SELECT a #> '{data,argument}' FROM jsonb_path_query(coord.rpc(
	'{"jsonrpc": "2.0", "id": 1, "method": "task.schedule", "params": {"name": "r", "schedule": "soon", "type": "t"}}'), '$.error') a}), '"schedule"', 'after an error that was caught the transaction goes on');
is(jobs(), 'x2 0 5 * * *, x3 0 6 * * *, x7 0 3 * * *', 'and what it undid is there');
like(refused(q{SET ROLE ann; BEGIN; SELECT coord.task_unschedule('x2'); PREPARE TRANSACTION 'p'}), qr/0A000: .*cannot PREPARE/s, 'PREPARE TRANSACTION is refused');
like(refused(q{SET ROLE ann; BEGIN; SELECT coord.task_unschedule('x2'); SET ROLE bob; SELECT coord.task_unschedule('x2')}), qr/0A000: .*schedules of one role/s, 'as are two roles in a transaction');
is(jobs(), 'x2 0 5 * * *, x3 0 6 * * *, x7 0 3 * * *', 'and nothing has changed by that');
sql(q{SET ROLE ann; SELECT coord.task_unschedule('x2'), coord.task_unschedule('x3'), coord.task_unschedule('x7')});
is(jobs(), '-', 'all go');

# a payload that fills the queue between the two many times, and with more than ASCII
my $big = q{jsonb_build_object('a', repeat('ü', 500000))};
sql(qq{SET ROLE ann; SELECT coord.task_schedule('xbig', '0 3 * * *', 't', $big)});
is(home(q{SELECT length(command) > 500000 FROM cron.job WHERE jobname LIKE '%:xbig'}), 't', 'a large payload gets there');
like(refused(qq{SET ROLE ann; SELECT coord.task_schedule('xbig', '0 3 * * *', 't', jsonb_build_object('a', repeat('ü', 600000)))}), qr/54000/, 'a larger one is refused');
sql(q{SET ROLE ann; SELECT coord.task_unschedule('xbig')});

# a database with another encoding
$node->safe_psql('postgres', database('latin', 'LATIN1'));
$node->safe_psql('latin', q{CREATE EXTENSION coord; SET client_encoding = 'UTF8'; SELECT coord.task_schedule('größer', '0 3 * * *', 'größer')});
# pg_cron's background workers take a command there as it is in its own database
my $command = home(q{SELECT command FROM cron.job WHERE database = 'latin'});
like($command, qr/type => E'gr\\U000000F6\\U000000DFer'/, 'texts are written so that they are the same in both encodings');
$node->safe_psql('latin', $command);
is($node->safe_psql('latin', q{SELECT convert_to(type, 'UTF8'), convert_to(unique_key, 'UTF8') FROM coord.task}),
	'\x6772c3b6c39f6572|' . $node->safe_psql('latin', q{SET client_encoding = 'UTF8'; SELECT convert_to('schedule:' || current_user || ':größer', 'UTF8')}), 'and mean what they are to');
is($node->safe_psql('latin', q{SET client_encoding = 'UTF8'; SELECT coord.task_unschedule('größer')}), 't', 'and found again');
like(refused(q{SET client_encoding = 'UTF8'; SELECT coord.task_schedule('x', 'größer', 't')}, 'latin'), qr/invalid schedule: größer/, 'as errors are, back');

# ---- what is in the way

my $holder = $node->background_psql('cronhome');
$holder->query_safe('BEGIN; LOCK TABLE cron.job IN ACCESS EXCLUSIVE MODE');
like(refused(qq{SET ROLE ann; SELECT $x}), qr/55P03: .*lock timeout/s, 'a lock in pg_cron\'s database is not waited for for long');
like(refused(qq{SET ROLE ann; SET lock_timeout = '100ms'; SELECT $x}), qr/55P03: .*lock timeout/s, 'nor for longer than lock_timeout');
like(refused(qq{SET ROLE ann; SET lock_timeout = '50s'; SET statement_timeout = '500ms'; SELECT $x}), qr/57014/, 'nor than statement_timeout');
ok(none_left(), 'the workers end with those who have given up');
my $caller = $node->background_psql('app', on_error_stop => 0);
my $offset = -s $node->logfile;
$caller->query(q{SET ROLE ann; BEGIN; SAVEPOINT s; SET LOCAL lock_timeout = '50s'; SET LOCAL statement_timeout = '500ms'});
$caller->query("SELECT $x");
$holder->query_safe('COMMIT');
$holder->quit;
$caller->query(q{ROLLBACK TO s});
$id = $caller->query(q{SELECT coord.task_schedule('x1', '0 3 * * *', 't')});
$caller->query('COMMIT');
is(jobs(), 'x1 0 3 * * *', 'a call that was canceled does not spoil the next one of the transaction');
is(home(q{SELECT jobid FROM cron.job WHERE jobname LIKE '%:x1'}), $id, 'whose answer is its own');

# the worker ends before the transaction: the transaction cannot be committed
$caller->query(qq{BEGIN; CREATE TEMP TABLE made (); SELECT $x});
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'coord pg_cron'});
ok(none_left(), 'a worker is ended');
$caller->query(q{COMMIT});
is(jobs(), 'x1 0 3 * * *', 'what it has done is lost');
is($caller->query('SELECT count(*) FROM pg_class WHERE relname = \'made\''), '0', 'with all of the transaction');
is(scalar(CoordCluster::logged($node, 'pl ERROR:  terminating background worker', $offset)), 1, 'whose COMMIT is an error');

# the transaction fails after the worker has promised to commit with it
sql('CREATE TABLE skew (side text); GRANT ALL ON skew TO ann');
my $other = $node->background_psql('app');
$caller->query(qq{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM skew WHERE side = 'a'; INSERT INTO skew VALUES ('b'); SELECT $x});
$other->query_safe(q{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM skew WHERE side = 'b'; INSERT INTO skew VALUES ('a'); COMMIT});
$other->quit;
$offset = -s $node->logfile;
$caller->query('COMMIT');
is(scalar(CoordCluster::logged($node, 'ERROR:  could not serialize access', $offset)), 1, 'a COMMIT can fail after that');
ok(none_left(), 'then the worker ends');
is(jobs(), 'x1 0 3 * * *', 'and does not commit');

# the caller ends before its transaction does
$caller->query(qq{BEGIN; SELECT $x});
my $pid = $caller->query('SELECT pg_backend_pid()');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(none_left(), 'a worker ends with its session');
is(jobs(), 'x1 0 3 * * *', 'and what it has done is undone');
eval { $caller->quit };

# a COMMIT returns when the worker has committed, but does not wait for ever: here for a
# standby that is not there
sub standby { return $node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$_[0]'; SELECT pg_reload_conf()"); }
sub waits_for_standby { return $node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = '$_[0]' AND wait_event = 'SyncRep'"); }
standby('nobody');
my ($probe_said, $caller_said) = ('', '');
my $probe = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('app'), '-c', 'CREATE TABLE probe ()' ], '&>', \$probe_said);
ok(waits_for_standby('client backend'), 'commits wait for a standby');
my $scheduling = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('app'), '-c', 'SET ROLE ann', '-c', 'SET synchronous_commit = local',
	'-c', q{SELECT coord.task_schedule('x3', '0 3 * * *', 't')} ], '&>', \$caller_said);
ok(waits_for_standby('coord pg_cron'), 'the worker\'s, too');
is($node->safe_psql('postgres', q{SELECT state, wait_event = 'SyncRep' FROM pg_stat_activity WHERE query LIKE '%task_schedule(''x3''%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}),
	'active|f', 'and the caller waits for the worker');
$scheduling->finish;
like($caller_said, qr/WARNING:  the transaction was committed, but its schedules in pg_cron's database are not there yet/, 'not for ever');
is(jobs(), 'x1 0 3 * * *', 'they are not');
standby('');
$probe->finish;
ok(none_left(), 'the worker goes on');
is(jobs(), 'x1 0 3 * * *, x3 0 3 * * *', 'and commits');
sql(q{SET ROLE ann; SELECT coord.task_unschedule('x3')});

# an open transaction neither holds up others, nor DROP DATABASE after it
$caller = $node->background_psql('app');
$caller->query_safe(qq{SET ROLE ann; BEGIN; SELECT $x});
like(refused(qq{SET ROLE ann; SELECT $x}), qr/55P03: .*schedule "x" is being changed/s, 'nobody waits for a transaction that changes a schedule');
like(sql(q{SET ROLE ann; SELECT coord.task_schedule('x0', '0 3 * * *', 't')}), qr/^\d+$/, 'others can be changed beside it');
$caller->query_safe('COMMIT');
is(jobs(), 'x 0 3 * * *, x0 0 3 * * *, x1 0 3 * * *', 'both are there');
is(home(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coord pg_cron' AND state LIKE 'idle in transaction%'}), '0', 'after the commit no worker has a transaction');

# nor do several take the background workers from everybody
my @openers = ($caller, map { $node->background_psql('app') } 1 .. 2);
$_->query_safe(q{SET ROLE ann; BEGIN; SAVEPOINT s; SELECT coord.task_unschedule(clock_timestamp()::text); ROLLBACK TO s}) for @openers;
like(refused(q{SET ROLE ann; SET lock_timeout = '100ms'; SELECT coord.task_unschedule('x')}), qr/55P03: .*open transactions of role "ann" have all/s,
	'a role has a quarter of them, also when what it has done there is undone');
is(sql(q{SET ROLE bob; SELECT coord.task_unschedule('x')}), 'f', 'another role has its own');
$caller->query_safe('COMMIT');
is(sql(q{SET ROLE ann; SELECT coord.task_unschedule('none')}), 'f', 'and one that is free is to be had');
$_->quit for @openers;

# ---- upkeep

like(sql('SELECT coord.cron_install()'), qr/^\{"trim": \d+, "purge": \d+, "sweep": \d+\}$/, 'cron_install');
is(home(q{SELECT string_agg(database, ' ' ORDER BY jobname) FROM cron.job WHERE jobname LIKE 'coord:upkeep:app:%'}), 'app app cronhome', 'what pg_cron notes is trimmed in its own database');
is(sql('SELECT coord.cron_remove()'), '3', 'cron_remove');

# ---- what has come

ok($node->poll_query_until('app', q{SELECT count(*) > 0 FROM coord.task WHERE type = 'often'}), 'pg_cron creates tasks in the other database');
is(sql(q{SELECT DISTINCT payload, queue FROM coord.task WHERE type = 'often'}), q({"it's": 1}|q), 'as they were to be');
sql(q{SET ROLE ann; SELECT coord.task_unschedule('often')});

# ---- no background worker is free

my $bare = $node->safe_psql('postgres', 'SHOW max_worker_processes');
$node->append_conf('postgresql.conf', "max_worker_processes = 4\ncron.max_running_jobs = 1\n");
$node->restart;
ok(CoordCluster::has_worker($node, 'app'), 'coord and pg_cron have their workers');
$node->safe_psql('latin', 'DROP EXTENSION coord');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'coord worker'});
like(refused(qq{SET ROLE ann; SELECT $x}), qr/53400: .*no background worker is free.*HINT: .*max_worker_processes/s, 'when no background worker is free, that is said');
$node->append_conf('postgresql.conf', "max_worker_processes = $bare\n");
$node->restart;

home('DROP EXTENSION pg_cron');
ok(none_left(), 'nobody is left in pg_cron\'s database');
$node->safe_psql('postgres', 'DROP DATABASE app');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'app'}), '0', 'databases can be dropped');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal [^1]|XX000/, 'the log has nothing alarming');

done_testing();
