# Recurring tasks and upkeep, by the real pg_cron in the same database: what is missing is
# said, a schedule's tasks come and never pile up, it is its role's, and all is undone with
# its transaction.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_cron_node('cron', 'postgres', 'coord,pg_cron');
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What a statement is refused with.
sub refused
{
	my (undef, undef, $err) = $node->psql('postgres', $_[0], on_error_stop => 0, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $err;
}

my $jobs = q{SELECT jobid, schedule, username, database FROM cron.job ORDER BY jobid};
my $nightly = q{coord.task_schedule('nightly', '0 3 * * *', 'report')};

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE ann LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE crew;
	SELECT coord.grant_agent('ann');
	SELECT coord.grant_agent('bob', 'b');
	SELECT coord.grant_agent('crew')});

# ---- pg_cron is there, and its extension is not

my $missing = refused("SET ROLE ann; SELECT $nightly");
like($missing, qr/55000: .*DETAIL: .*extension has not been created in database "postgres".*HINT: .*CREATE EXTENSION pg_cron/s, 'where the extension is missing is said');

# somebody may have made a schema of that name
sql(q{
	CREATE SCHEMA cron;
	GRANT USAGE ON SCHEMA cron TO PUBLIC;
	CREATE TABLE public.called (by name);
	GRANT INSERT ON public.called TO PUBLIC;
	CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql AS 'INSERT INTO public.called VALUES (current_user); SELECT 1::bigint'});
like(refused("SELECT $nightly"), qr/55000: .*extension has not been created/s, 'a schema "cron" that is not pg_cron\'s will not do');
is(sql('SELECT count(*) FROM public.called'), '0', 'and nothing in it was called');
my $older = $node->background_psql('postgres');
$older->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT');
sql('DROP SCHEMA cron CASCADE; CREATE EXTENSION pg_cron');
like($older->query_safe('SELECT coord.cron_install(); ROLLBACK'), qr/"sweep"/, 'a transaction whose snapshot is from before pg_cron has it, too');
$older->quit;
my $seconds = CoordCluster::cron_knows_seconds($node, 'postgres');
my $often = $seconds ? '1 seconds' : '* * * * *';
note $seconds ? 'by the second' : 'by the minute';

# ---- rights

like(refused("SET ROLE ann; SELECT $nightly"), qr/42501: .*"ann" has no USAGE on its schema cron.*GRANT USAGE ON SCHEMA cron TO ann/s, 'which right is missing is said');
sql('GRANT USAGE ON SCHEMA cron TO ann, bob, crew');
like(refused("SET ROLE crew; SELECT $nightly"), qr/42501: .*"crew" may not log in.*ALTER ROLE crew LOGIN/s, 'a role that may not log in is told so, as no job would run');
like(refused("SET ROLE bob; SELECT $nightly"), qr/42501: .*permission denied for queue "default"/s, 'a role that may not create tasks in a queue has none created there');
like(refused('SET ROLE ann; SELECT coord.cron_install()'), qr/42501: .*permission denied for function cron_install/s, 'an agent\'s role does not install the upkeep');
sql('CREATE ROLE half LOGIN; GRANT USAGE ON SCHEMA coord, cron TO half; GRANT EXECUTE ON FUNCTION coord.cron_install(text, text), coord.sweep() TO half');
like(refused('SET ROLE half; SELECT coord.cron_install()'), qr/42501: .*coord\.purge.*would run as role "half"/s, 'nor does who may not call what the jobs call');

# ---- the tasks come; looked at below

sql(qq{
	SET ROLE ann;
	SELECT coord.task_schedule('single', '$often', 'one at a time', '{"it''s": "a \\\\ \$1 payload"}', 'q', -3, 7, 'the resource');
	SELECT coord.task_schedule('many', '$often', 'overlapping', queue => 'q', overlap => true)});

# ---- a job for each schedule of each role

my $id = sql("SET ROLE ann; SELECT $nightly");
is(sql("SELECT schedule, username, database, active FROM cron.job WHERE jobid = $id"), '0 3 * * *|ann|postgres|t', 'a schedule is a job of pg_cron');
is(sql(q{SET ROLE ann; SELECT coord.task_schedule('nightly', '0 4 * * *', 'report')}), $id, 'scheduled again, it is the same job');
is(sql("SELECT schedule FROM cron.job WHERE jobid = $id"), '0 4 * * *', 'at other times');
isnt(sql(q{SET ROLE bob; SELECT coord.task_schedule('nightly', '0 5 * * *', 'report', queue => 'b')}), $id, 'another role has another one of that name');
is(sql('SET ROLE bob; SELECT coord.task_unschedule(\'nightly\')'), 't', 'it is taken away');
is(sql('SET ROLE bob; SELECT coord.task_unschedule(\'nightly\')'), 'f', 'once');
is(sql("SELECT schedule FROM cron.job WHERE jobid = $id"), '0 4 * * *', 'and the other one stays');

# names that pg_cron would cut to the same
my $long = 'x' x 511;
is(sql(qq{SET ROLE ann; SELECT count(DISTINCT coord.task_schedule(n, '0 3 * * *', 'long')) FROM unnest(ARRAY['$long' || 'a', '$long' || 'b', 'nightly:', ':nightly', 'größer']) n}), 5, 'long names are told apart');
is(sql(qq{SET ROLE ann; SELECT count(*) FILTER (WHERE coord.task_unschedule(n)) FROM unnest(ARRAY['$long' || 'a', '$long' || 'b', 'nightly:', ':nightly', 'größer', '$long' || 'c']) n}), 5, 'and found again');

# ---- bad schedules

my $before = sql($jobs);
like(refused(q{SET ROLE ann; SELECT coord.task_schedule('nightly', '0 3 * *', 'report')}), qr/22023: .*invalid schedule/s, 'a bad schedule is refused');
is(sql(q{SET ROLE ann; SELECT a -> 'code', a #> '{data,argument}' FROM jsonb_path_query(coord.rpc(
	'{"jsonrpc": "2.0", "id": 1, "method": "task.schedule", "params": {"name": "r", "schedule": "soon", "type": "t"}}'), '$.error') a}), '-32602|"schedule"', 'in JSON-RPC, too, by its name');
is(sql($jobs), $before, 'and leaves nothing');
is(sql(q{SET ROLE ann; SELECT jsonb_typeof(coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "task.schedule", "params":
	{"name": "r", "schedule": "0 3 * * *", "type": "t", "payload": {"a": 1}}}') #> '{result,job_id}')}), 'number', 'a good one is a job');
is(sql(q{SET ROLE ann; SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "task.unschedule", "params": {"name": "r"}}') -> 'result'}), '{"unscheduled": true}', 'and is taken away');

# ---- in the caller's transaction

sql(qq{SET ROLE ann; BEGIN; SELECT coord.task_schedule('undone', '0 3 * * *', 't'); SELECT coord.task_unschedule('nightly'); ROLLBACK});
is(sql($jobs), $before, 'what is rolled back has changed nothing');
sql(q{SET ROLE ann; BEGIN; SAVEPOINT s; SELECT coord.task_schedule('undone', '0 3 * * *', 't'); ROLLBACK TO s; COMMIT});
is(sql($jobs), $before, 'to a savepoint, too');

my $first = $node->background_psql('postgres');
$first->query_safe(q{SET ROLE ann; BEGIN; SELECT coord.task_schedule('busy', '0 3 * * *', 't')});
like(refused(q{SET statement_timeout = '30s'; SET ROLE ann; SELECT coord.task_schedule('busy', '0 4 * * *', 't')}), qr/55P03: .*schedule "busy" is being changed/s, 'nobody waits for another transaction that changes it');
sql(q{SET statement_timeout = '30s'; SET ROLE bob; SELECT coord.task_schedule('busy', '0 3 * * *', 't', queue => 'b')});
$first->query_safe('COMMIT');
$first->quit;
is(sql(q{SELECT string_agg(username, ' ' ORDER BY username) FROM cron.job WHERE jobname LIKE '%:busy'}), 'ann bob', 'and a role does not wait for another role\'s of that name');

like(refused(q{BEGIN READ ONLY; SELECT coord.task_schedule('ro', '0 3 * * *', 't')}), qr/25006/, 'nothing in a transaction that only reads');

# ---- upkeep

my $installed = sql('SELECT coord.cron_install()');
is(sql(q{SELECT string_agg(schedule || ': ' || substring(command for 40), ', ' ORDER BY jobname) FROM cron.job WHERE jobname LIKE 'coord:upkeep:%'}),
	'17 * * * *: /* coord */ SELECT coord.purge(), ' . ($seconds ? '10 seconds' : '* * * * *')
	. ': /* coord */ SELECT coord.sweep(), 17 * * * *: /* coord */ DELETE FROM cron.job_run_det', 'cron_install installs sweep(), purge() and the trimming of pg_cron\'s notes');
is(sql('SELECT coord.cron_install()'), $installed, 'calling it again gives the same jobs');
is(sql(q{SELECT coord.cron_install('*/5 * * * *')}), $installed, 'other times do not make others');
is(sql(qq{SELECT schedule FROM cron.job WHERE jobid = ('$installed'::jsonb ->> 'sweep')::bigint}), '*/5 * * * *', 'and are their times');
is(sql(qq{SELECT count(*) FROM jsonb_each_text('$installed'), cron.job WHERE jobid = value::bigint}), '3', 'whose ids it returns');
like(refused(q{SELECT coord.cron_install('soon')}), qr/22023: .*invalid schedule: soon/s, 'bad times are refused');

sql(q{
	INSERT INTO cron.job_run_details (jobid, runid, command, username, start_time, end_time) VALUES
		(1, -1, '/* coord */ SELECT coord.sweep()', 'ann', now() - interval '2 days', now() - interval '2 days'),
		(1, -2, '/* coord */ SELECT coord.sweep()', 'ann', now() - interval '2 days', NULL),
		(1, -3, '/* coord */ SELECT coord.sweep()', 'ann', now(), now()),
		(1, -4, 'SELECT theirs()', 'ann', now() - interval '2 days', now() - interval '2 days'),
		(1, -5, '/* coord */ SELECT coord.sweep()', 'not let in', NULL, NULL),
		(1, -6, 'SELECT theirs()', 'not let in', NULL, NULL),
		(1, 0, '/* coord */ SELECT coord.sweep()', 'not let in', NULL, NULL)});
sql(sql(qq{SELECT command FROM cron.job WHERE jobid = ('$installed'::jsonb ->> 'trim')::bigint}));
is(sql(q{SELECT string_agg(runid::text, ' ' ORDER BY runid) FROM cron.job_run_details WHERE runid <= 0}), '-6 -4 -3 0', 'old notes of runs of coord\'s jobs go, nothing else');

is(sql('SELECT coord.cron_remove()'), '3', 'cron_remove takes them away');
is(sql('SELECT coord.cron_remove()'), '0', 'once');
is(sql(q{SELECT count(*) FROM cron.job WHERE jobname LIKE 'coord:upkeep:%'}), '0', 'all of them');

# ---- what has come

my $runs = $seconds ? 3 : 1;
for my $name ('single', 'many')
{
	ok($node->poll_query_until('postgres', qq{
		SELECT count(*) >= $runs FROM cron.job_run_details JOIN cron.job USING (jobid) WHERE jobname LIKE '%:$name' AND status = 'succeeded'}),
		"pg_cron runs \"$name\"");
}
is(sql(q{SELECT type, payload ->> 'it''s', queue, priority, max_attempts, resource_key FROM coord.task WHERE type = 'one at a time'}),
	'one at a time|a \ $1 payload|q|-3|7|the resource', 'one task was created, with what was said of it');

# a run more, whenever pg_cron's next one is
my ($single, $many) = map { sql("SELECT command FROM cron.job WHERE jobname LIKE '%:$_'") } ('single', 'many');
my $count = q{SELECT count(*) FILTER (WHERE type = 'one at a time'), count(*) FILTER (WHERE type = 'overlapping') > 1 FROM coord.task};
sql("SET ROLE ann; $single; $many");
is(sql($count), '1|t', 'while it has not finished there is no other, but where they may overlap');
sql(q{
	SET ROLE ann;
	SELECT t.id FROM coord.agent_register('ann', heartbeat_timeout => '1 h') a,
		LATERAL coord.task_claim(a.id, task_id => (SELECT id FROM coord.task WHERE type = 'one at a time'), lease_ttl => '1 h') t});
sql("SET ROLE ann; $single");
is(sql($count), '1|t', 'nor while it is claimed');
sql(q{SET ROLE ann; SELECT coord.task_complete(id, fencing_token) FROM coord.task WHERE state = 'claimed'});
sql("SET ROLE ann; $single");
is(sql($count), '2|t', 'the next one comes when it is completed');

is(sql(q{SET ROLE ann; SELECT coord.task_unschedule('single'), coord.task_unschedule('many')}), 't|t', 'they are unscheduled');
is(sql(q{SELECT count(*) FROM cron.job WHERE jobname ~ ':(single|many)$'}), '0', 'and no more are to come');

# ---- pg_cron is not preloaded

sql('DROP EXTENSION pg_cron');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coord'\n");
$node->restart;
for my $call ($nightly, q{coord.task_unschedule('x')}, 'coord.cron_install()', 'coord.cron_remove()')
{
	like(refused("SELECT $call"), qr/55000: .*DETAIL:  It is not in shared_preload_libraries.*HINT: .*add pg_cron to shared_preload_libraries/si, "$call says what is missing");
}
is(sql(q{SELECT a -> 'code' FROM jsonb_path_query(coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "task.unschedule", "params": {"name": "r"}}'), '$.error') a}), '1005', 'in JSON-RPC it is a wrong state');

# ---- pg_cron is not installed: where the system's extensions are not looked for
SKIP:
{
	skip 'PostgreSQL 18 can be told where to look for extensions', 1 if $node->pg_version < 18;
	$node->append_conf('postgresql.conf', "extension_control_path = '/nowhere'\n");
	$node->reload;
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_available_extensions}), 'nothing is installed');
	like(refused("SELECT $nightly"), qr/55000: .*DETAIL:  It is not in shared_preload_libraries, nor installed.*HINT: .*Install pg_cron/s, 'which is said');
}
$node->stop;

done_testing();
