# Calls that name a finished task while purge() drops it: they find it, or say that there is
# no such task, and nothing else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('purge_race');
$node->append_conf('postgresql.conf', "log_statement = none\n");
$node->start;

# Each repeats what is idempotent until the task is gone, and notes the state of the error that it meets then.
$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('worker', heartbeat_timeout => '1 h');
	CREATE TABLE met (call text, state text);
	CREATE TABLE is_over ();

	CREATE PROCEDURE repeat_until_gone(call text, VARIADIC arguments text[]) LANGUAGE plpgsql AS $$
	DECLARE
		state text := 'nothing';
	BEGIN
		WHILE state = 'nothing' AND NOT EXISTS (SELECT FROM is_over) LOOP
			BEGIN
				EXECUTE 'SELECT ' || format(call, VARIADIC arguments);
			EXCEPTION WHEN OTHERS THEN
				state := SQLSTATE;
			END;
			COMMIT;
		END LOOP;
		INSERT INTO met SELECT call, state WHERE state <> 'nothing';
		COMMIT;
	END $$;

	CREATE PROCEDURE cancels() LANGUAGE plpgsql AS $$
	DECLARE
		task uuid;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			task := id FROM coord.task_create('t', queue => 'cancelled');
			COMMIT;
			CALL repeat_until_gone('coord.task_cancel(%L)', task::text);
		END LOOP;
	END $$;

	CREATE PROCEDURE completes() LANGUAGE plpgsql AS $$
	DECLARE
		task coord.task;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			PERFORM coord.task_create('t', queue => 'completed');
			COMMIT;
			SELECT c.* INTO task FROM coord.agent a, coord.task_claim(a.id, 'completed') c;
			COMMIT;
			CALL repeat_until_gone('coord.task_complete(%L, %L)', task.id::text, task.fencing_token::text);
		END LOOP;
	END $$;

	CREATE PROCEDURE tells() LANGUAGE plpgsql AS $$
	DECLARE
		task uuid;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			task := id FROM coord.task_create('t', queue => 'told');
			PERFORM coord.task_cancel(task);
			COMMIT;
			-- a history without its beginning is a division by zero
			CALL repeat_until_gone('1 / count(*) FROM coord.history(%L) WHERE what = ''created''', task::text);
		END LOOP;
	END $$;

	-- a task that waits for another is cancelled with it, while others ask why it does not run
	CREATE PROCEDURE blocks() LANGUAGE plpgsql AS $$
	DECLARE
		task uuid;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			task := id FROM coord.task_create('t', queue => 'first');
			PERFORM coord.task_create('t', queue => 'blocked', depends_on => ARRAY[task]);
			COMMIT;
			PERFORM coord.task_cancel(task);
			COMMIT;
		END LOOP;
	END $$;

	CREATE PROCEDURE asks() LANGUAGE plpgsql AS $$
	DECLARE
		task uuid;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			BEGIN
				SELECT id INTO STRICT task FROM coord.task_live WHERE queue = 'blocked' LIMIT 1;
				INSERT INTO met VALUES ('blocked_by', left(coord.blocked_by(task), length('It waits for 1')));
			EXCEPTION WHEN no_data_found THEN
				NULL;	-- none is blocked just now, or it is gone
			END;
			COMMIT;
		END LOOP;
	END $$;

	-- the task of a unique key ends, and is dropped, while others ask for it
	CREATE PROCEDURE creates() LANGUAGE plpgsql AS $$
	DECLARE
		state text;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			BEGIN
				state := 'created';
				PERFORM coord.task_create('t', queue => 'unique', unique_key => 'one');
			EXCEPTION WHEN OTHERS THEN
				state := SQLSTATE;
			END;
			INSERT INTO met VALUES ('task_create', state);
			COMMIT;
		END LOOP;
	END $$;

	CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			BEGIN
				PERFORM coord.task_cancel(id) FROM coord.task_live WHERE queue = 'unique';
			EXCEPTION WHEN lock_not_available OR no_data_found THEN
				NULL;	-- the other one is at it
			END;
			COMMIT;
			PERFORM coord.purge('0');
			COMMIT;
		END LOOP;
	END $$});
CoordCluster::has_worker($node, 'postgres');

my @at_once = map {
	my $out = '';
	{ out => \$out, process => IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'),
		'-c', "CALL $_()" ], '>', \$out, '2>&1') }
} qw(cancels completes tells blocks asks creates creates ends ends);
# three seconds, or until each has met what it is for
$node->poll_query_until('postgres', q{
	SELECT clock_timestamp() > pg_postmaster_start_time() + interval '4 s'
		AND count(DISTINCT call) = 5 AND bool_or(state = 'It waits for 1') AND bool_or(state = 'created') FROM met});
$node->safe_psql('postgres', 'INSERT INTO is_over DEFAULT VALUES');
$_->{process}->finish for @at_once;
is(join('', map { ${ $_->{out} } } @at_once), '', 'no call was lost');

my $met = sub { return $node->safe_psql('postgres', "SELECT DISTINCT state FROM met WHERE call ~ '$_[0]' ORDER BY 1") };
is($met->('task_cancel'), 'P0002', 'task_cancel finds the task until it is dropped');
is($met->('task_complete'), 'P0002', 'and so does task_complete');
is($met->('history'), 'P0002', 'and so does history, which tells it from the beginning');
like($met->('blocked_by'), qr/^It waits for 1$/m, 'blocked_by says what a task waits for');
unlike($met->('blocked_by'), qr/^It waits for 0$/m, 'and never that it waits for nothing');
like($met->('task_create'), qr/^(55P03\n)?created$/, 'task_create finds the task of its unique key, or makes another');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/XX000|expected one row|terminated by signal/, 'nothing impossible was met');

done_testing();
