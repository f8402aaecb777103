# What a role that may only connect does, or one of agents that calls coord from where it is
# not to be called: it gets an error, and the server, its worker and the others do not notice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('stranger');
$node->append_conf('postgresql.conf', "autovacuum = off\nmax_prepared_transactions = 5\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub becomes_true { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

sub refused
{
	my ($role, $sql, $error, $name) = @_;
	my ($status, undef, $said) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ]);
	like($said, $error, $name);
}

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE stranger LOGIN;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE victim LOGIN;
	SELECT coord.grant_agent('hostile', 'h'), coord.grant_agent('victim', 'v')});
CoordCluster::has_worker($node, 'postgres');
my $log = -s $node->logfile;
my $worker = sql('SELECT pid FROM coord.worker');

# ---- commands that coord looks at before PostgreSQL does (see src/worker/commands.c)

refused('stranger', $_, qr/ERROR/, $_)
	for ((map { "CREATE DATABASE x TEMPLATE $_" } 5, 1.5, 'true', 'DEFAULT', q{''}, 'postgres', 'template1'),
	'CREATE DATABASE x OWNER 5 TEMPLATE 5', 'CREATE DATABASE x', 'ALTER DATABASE postgres SET TABLESPACE nowhere',
	'ALTER DATABASE postgres CONNECTION LIMIT 5', 'ALTER DATABASE postgres IS_TEMPLATE 5', 'ALTER DATABASE postgres RENAME TO x',
	'ALTER DATABASE nowhere RENAME TO x', 'DROP DATABASE postgres', 'DROP DATABASE nowhere WITH (FORCE)',
	'DROP EXTENSION coord', 'DROP EXTENSION coord, coord CASCADE', 'ALTER EXTENSION coord UPDATE', q{ALTER EXTENSION coord UPDATE TO '1.0'},
	'COPY coord.task_live FROM STDIN', 'COPY coord.nothing FROM STDIN', 'COPY coord.task_live TO STDOUT',
	q{COMMIT PREPARED 'nothing'}, q{ROLLBACK PREPARED 'nothing'}, 'CREATE EXTENSION coord');

# ---- coord in a parallel worker, in a function that is wrongly marked as safe

my $parallel = sql(q{SELECT CASE WHEN current_setting('server_version_num')::integer >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END});
my ($agent, $lease) = split(/\|/, as('hostile', q{
	SELECT coord.task_create('t', queue => 'h') \g /dev/null
	SELECT a.id, l.id FROM coord.agent_register('h', heartbeat_timeout => '1 h') a, coord.lease_acquire('building', a.id) l}));
for my $call ("lease_acquire('building', '$agent', wait => '1 h')", "task_claim('$agent', 'h')", "event_send('t')",
	"task_create('t', queue => 'h')", "agent_heartbeat('$agent')", "lease_release('$lease')", 'sweep()')
{
	refused('hostile', qq{
		CREATE FUNCTION pg_temp.safe() RETURNS integer LANGUAGE plpgsql PARALLEL SAFE AS \$\$
			BEGIN PERFORM coord.$call; RETURN 1; END \$\$;
		SET $parallel = on;
		SET statement_timeout = '10 s';
		SELECT pg_temp.safe()}, qr/cannot execute a function of coord during a parallel operation/, "parallel: $call");
}
as('hostile', "SELECT coord.lease_release('$lease')");
is(as('victim', q{SELECT count(l) FROM coord.agent_register('v', heartbeat_timeout => '1 h') a, coord.lease_acquire('building', a.id) l}),
	1, 'nobody waits for the resource any more');
is(as('hostile', "SELECT count(*) FROM coord.task_claim('$agent', 'h', max_tasks => 10)"), 1, 'nor is a task taken for nothing');

# ---- an event that no index could hold as it is

as('hostile', q{SELECT coord.event_send('long', jsonb_build_object('task_id',
	(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)), channel => 'coord.tasks')});
as('victim', q{SELECT coord.event_send('after', channel => 'c')});
ok(becomes_true(q{count(*) = 2 FROM coord.event WHERE type IN ('long', 'after') AND position IS NOT NULL}), 'a long payload is delivered, and what comes after it');

is(sql('SELECT pid FROM coord.worker'), $worker, 'the worker is the same');
unlike(slurp_file($node->logfile, $log), qr/was terminated by signal|coord worker met an error/, 'and met nothing');

done_testing();
