# No wake-up is lost under load.  Of each queue there is somebody who creates tasks and
# waits until they are done before he creates more, so that nothing else makes up for a
# wake-up that was lost; two who wait and work; and one who claims and rolls back.
#
# Runs alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{COORD_ROUNDS} || 60;
my ($timeout, $too_long) = (CoordCluster::seconds(10), CoordCluster::seconds(9));
my $node = CoordCluster::new_node('queue_wait_load');
$node->append_conf('postgresql.conf', "load.timeout = '$timeout'\nload.too_long = '$too_long'\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.queue_set('limited', max_claimed => 1);
	CREATE TABLE slept (queue text, seconds float8);
	CREATE TABLE created (id uuid PRIMARY KEY, queue text);
	CREATE TABLE ended (queue text);

	CREATE PROCEDURE creates(q text, rounds int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR r IN 1 .. rounds LOOP
			FOR i IN 0 .. (random() * 3)::int LOOP
				BEGIN
					INSERT INTO created SELECT id, queue FROM coord.task_create('t', queue => q, priority => (random() * 2)::int,
						run_at => CASE WHEN random() < 0.3 THEN clock_timestamp() + random() * interval '15 ms' END,
						resource_key => CASE WHEN q = 'resources' THEN 'r' || (random())::int END);
					IF random() < 0.2 THEN RAISE 'undone'; END IF;
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
			END LOOP;
			IF random() < 0.2 THEN ROLLBACK; ELSE COMMIT; END IF;
			WHILE EXISTS (SELECT FROM coord.task WHERE queue = q AND state IN ('pending', 'claimed')) LOOP
				COMMIT;
				PERFORM pg_sleep(0.003);
			END LOOP;
			COMMIT;
		END LOOP;
		INSERT INTO ended VALUES (q);
		COMMIT;
		-- the last one that each worker gets
		PERFORM coord.task_create('stop', queue => q), coord.task_create('stop', queue => q);
	END $$;

	CREATE PROCEDURE works(q text, me uuid) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz;
		task record;
		last boolean = false;
	BEGIN
		WHILE NOT last LOOP
			began = clock_timestamp();
			CALL coord.queue_wait(q, current_setting('load.timeout')::interval);
			IF clock_timestamp() - began > current_setting('load.too_long')::interval THEN
				INSERT INTO slept VALUES (q, extract(epoch FROM clock_timestamp() - began));
			END IF;
			LOOP
				SELECT * INTO task FROM coord.task_claim(me, q);
				EXIT WHEN NOT FOUND;
				COMMIT;
				IF random() < 0.1 AND task.type <> 'stop' THEN
					PERFORM coord.task_release(task.id, task.fencing_token);
				ELSIF random() < 0.1 AND task.type <> 'stop' AND task.attempts = 1 THEN
					PERFORM coord.task_fail(task.id, task.fencing_token, retry_in => '5 ms');
				ELSE
					last = task.type = 'stop';
					PERFORM coord.task_complete(task.id, task.fencing_token);
				END IF;
				COMMIT;
				EXIT WHEN last;
			END LOOP;
			COMMIT;
		END LOOP;
	END $$;

	CREATE PROCEDURE undoes(q text, me uuid) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM ended WHERE queue = q) LOOP
			PERFORM coord.task_claim(me, q, max_tasks => 1 + (random() * 2)::int);
			PERFORM pg_sleep(random() * 0.004);
			IF random() < 0.8 THEN
				ROLLBACK;
			ELSE
				-- a savepoint's end, and the transaction goes on for a while
				ROLLBACK;
				BEGIN
					PERFORM coord.task_claim(me, q);
					RAISE 'undone';
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
				PERFORM pg_sleep(random() * 0.004);
				COMMIT;
			END IF;
			PERFORM pg_sleep(random() * 0.004);
			COMMIT;
		END LOOP;
	END $$;
});
CoordCluster::has_worker($node, 'postgres');

my @sessions;
for my $queue ('plain', 'limited', 'resources')
{
	my $n = 0;

	for my $does ('works', 'works', 'undoes', 'creates')
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $agent = sql("SELECT id FROM coord.agent_register('$queue $n', heartbeat_timeout => '1 h')");
		my $with = $does eq 'creates' ? $rounds : "'$agent'";

		$session->query_until(qr/begins/, "\\echo begins\nCALL $does('$queue', $with);\n\\echo ends\n");
		push @sessions, [ "$queue: who $does", $session ];
		$n++;
	}
}
for my $session (@sessions)
{
	my ($who, $psql) = @$session;

	like($psql->query('SELECT 1'), qr/ends/, "$who has come to an end");
	is($psql->{stderr}, '', 'without an error');
	$psql->quit;
}
is(sql('SELECT string_agg(queue || seconds, $$ $$) FROM slept'), '', 'nobody has slept while there was something to do');
is(sql(q{SELECT count(*) FROM created LEFT JOIN coord.task USING (id) WHERE state IS DISTINCT FROM 'completed'}), '0', 'all that was created is done');
cmp_ok(sql('SELECT count(*) FROM created'), '>', $rounds, 'which was a lot');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/(PANIC|TRAP):/, 'the log has nothing to say');
done_testing();
