# What went wrong elsewhere when the dead were cleared away, played here (see
# docs/what-others-got-wrong.md).  Who gives tasks back is held up in the middle of it by a
# trigger, until all that is to come between has come.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The worker, and a session that is named "held up", wait after each task that they have
# given back, for as long as another session holds the lock 77.
my $hold_up = q{
	CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid()
				   AND (backend_type = 'coord worker' OR application_name = 'held up')) THEN
			PERFORM pg_advisory_xact_lock(77);
		END IF;
		RETURN NULL;
	END $$;
	CREATE TRIGGER hold_up AFTER INSERT ON coord.event_inbox FOR EACH ROW WHEN (NEW.type = 'task.requeued')
		EXECUTE FUNCTION hold_up()};

# A session that holds up the others, until it ends.
sub holder
{
	my $session = $_[0]->background_psql('postgres');

	$session->query_safe('SELECT pg_advisory_lock(77)');
	return $session;
}

# Waits until somebody is held up there.
sub is_held_up
{
	return $_[0]->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted});
}

my $node = CoordCluster::new_node('by_hand');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION coord; $hold_up");
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

# ---- a rescuer, with a list that is out of date, overwrites what happened meanwhile
# (river 1302 and 1373, dbos-transact-py 742)

sql(q{
	SELECT coord.queue_set('default', backoff_base => '0 s');
	SELECT coord.agent_register('next', heartbeat_timeout => '1 h');
	SELECT coord.task_create('t') FROM generate_series(1, 3)});
# one by one, and in one statement, as the timeout may pass between two
sql(q{SELECT count(*) FROM coord.agent_register('silent', heartbeat_timeout => '500 ms') a, generate_series(1, 3) g,
	LATERAL coord.task_claim(a.id, lease_ttl => '1 h', max_tasks => g / g)});
is(sql('SELECT count(*) FROM coord.claim_deadline'), '3', 'an agent has claimed three tasks');
ok(becomes(q{status = 'inactive' FROM coord.agent WHERE name = 'silent'}), 'and falls silent');

my $holder = holder($node);
my $rescuer = $node->background_psql('postgres');
$rescuer->query_safe(q{SET application_name = 'held up'});
$rescuer->query_until(qr/begins/, "\\echo begins\nSELECT 'gave back ' || (coord.sweep() ->> 'tasks_requeued');\n");
ok(is_held_up($node), 'a rescuer that has listed all three is held up at the first');

is(sql(q{SELECT coord.sweep() ->> 'tasks_requeued'}), '2', 'another rescuer gives back the other two');
my $claim = q{SELECT t.id, t.fencing_token FROM coord.agent a, coord.task_claim(a.id, lease_ttl => '1 h') t WHERE name = 'next'};
my ($done, $done_token) = split /\|/, sql($claim);
my ($working, $working_token) = split /\|/, sql($claim);
is(sql("SELECT state FROM coord.task_complete('$done', $done_token)"), 'completed', 'both are claimed again, and one is completed');

$holder->quit;
is($rescuer->query_until(qr/gave back \d+\n/, "\n"), "gave back 1\n", 'the first rescuer goes on, and gives back the first only');
is(sql("SELECT state, attempts FROM coord.task WHERE id = '$done'"), 'completed|2', 'what was completed is completed');
is(sql("SELECT state, attempts FROM coord.task WHERE id = '$working'"), 'claimed|2', 'what was claimed again is claimed');
is(sql("SELECT state FROM coord.task_complete('$working', $working_token)"), 'completed', 'by a token that holds');
is(sql('SELECT state, count(*) FROM coord.task GROUP BY 1 ORDER BY 1'), "completed|2\npending|1", 'the first one is pending');
is(sql(q{SELECT count(*) FROM coord.event WHERE type = 'task.requeued'}), '3', 'each was given back once');
$rescuer->quit;

# ---- a task is both finished and failed, by who was thought dead and by who buries it (solid_queue 589)
# The isolation test finished_or_failed has more of this, beside a worker.

sub completes
{
	my (undef, $state, $error) = $node->psql('postgres', "SELECT state FROM coord.task_complete($_[0])", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	return $state . $error;
}

sql(q{SELECT coord.task_create('t', queue => 'once', max_attempts => 1)});
my $late = sql(q{
	SELECT coord.agent_register('late', heartbeat_timeout => '1 h') \g /dev/null
	SELECT format('%L, %s', t.id, t.fencing_token) FROM coord.agent a, coord.task_claim(a.id, 'once', lease_ttl => '1 h') t WHERE name = 'late';
	SELECT coord.agent_register('late', heartbeat_timeout => '100 ms') \g /dev/null
	});
ok(becomes(q{status = 'inactive' FROM coord.agent WHERE name = 'late'}), 'an agent with a last attempt falls silent');
like(completes($late), qr/55000/, 'it is too late to complete the task, though nobody has buried it');
my $burier = $node->background_psql('postgres');
$burier->query_safe('BEGIN; SELECT coord.sweep()');
is($burier->query_safe(q{SELECT count(*) FROM coord.task_dead WHERE queue = 'once'}), '1', 'a sweep is burying it');
like(completes($late), qr/55000/, 'meanwhile it is too late, without waiting');
$burier->query_safe('ROLLBACK');
like(completes($late), qr/55000/, 'it is so when the sweep is undone');
sql('SELECT coord.sweep()');
like(completes($late), qr/55000/, 'and when another has buried it');
is(sql(q{SELECT state, (SELECT count(*) FROM coord.task_dead d WHERE d.id = t.id), (SELECT count(*) FROM coord.task_finished f WHERE f.id = t.id)
	FROM coord.task t WHERE queue = 'once'}), 'dead|1|0', 'it is dead, and not finished');
$burier->quit;

# ---- a worker restarts under its old name, and beats on for the dead one (procrastinate 1518)

sql(q{
	SELECT coord.queue_set('pod', backoff_base => '0 s');
	SELECT coord.agent_register('pod-0', heartbeat_timeout => '1 h');
	SELECT coord.task_create('t', queue => 'pod')});
my $pod = $node->background_psql('postgres');
$claim = q{SELECT t.id, t.fencing_token FROM coord.agent a, coord.task_claim(a.id, 'pod', lease_ttl => '500 ms') t WHERE name = 'pod-0'};
my ($task, $token) = split /\|/, $pod->query_safe($claim);
$pod->{run}->kill_kill(grace => 0);
is(sql(q{SELECT status, count(*) OVER () FROM coord.agent_register('pod-0', heartbeat_timeout => '1 h')}), 'active|1',
	'a worker was killed and is back under its name, the same agent');
ok(becomes("state = 'pending' FROM coord.agent a, coord.agent_heartbeat(a.id), coord.task t WHERE a.name = 'pod-0' AND t.id = '$task'"),
	'its claim runs out, however it beats');
my ($ret, $out, $err) = $node->psql('postgres', "SELECT coord.task_complete('$task', $token)", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($err, qr/55000/, 'the token of the one that was killed is worth nothing');
is(sql(qq{SELECT t.id = '$task', t.fencing_token > $token, attempts FROM coord.agent a, coord.task_claim(a.id, 'pod') t WHERE name = 'pod-0'}), 't|t|2',
	'and the new one claims the task');

# ---- who is cleared away leaves nothing behind, and it does not cost more with each task that it
# has ever finished (procrastinate 1518 and 1454)

# The pages that it looks at to register an agent, and to retire it with one claim.
sub pages_of_a_life
{
	my ($name) = @_;
	my $session = $node->background_psql('postgres');
	my $pages = 0;

	for my $life ('warm', $name)
	{
		$session->query_safe(qq{SELECT coord.task_create('t', queue => 'lives')});
		for my $call ("agent_register('$life')", "task_claim(id, 'lives', lease_ttl => '1 h')", "agent_retire(id)")
		{
			my $from = $call =~ /^agent_register/ ? '' : "FROM coord.agent_data WHERE name = '$life'";
			my $plan = $session->query_safe("EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) SELECT coord.$call $from");
			$plan =~ /^ *Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?/m or die $plan;
			$pages += ($1 // 0) + ($2 // 0) if $life eq $name;
		}
	}
	$session->quit;
	return $pages;
}

my $few = pages_of_a_life('young');
sql(q{
	SELECT coord.agent_register('old', heartbeat_timeout => '1 h');
	SELECT count(coord.task_create('t', queue => 'done')) FROM generate_series(1, 5000)});
sql(q{
	SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('task_id', t.id, 'fencing_token', t.fencing_token)) AS claimed
		FROM coord.agent a, coord.task_claim(a.id, 'done', lease_ttl => '1 h', max_tasks => 5000) t WHERE a.name = 'old') c, coord.task_complete_many(claimed)});
is(sql(q{SELECT count(*) FROM coord.agent_retire((SELECT id FROM coord.agent WHERE name = 'old'))}), '1', 'an agent that finished 5000 tasks retires');
cmp_ok(pages_of_a_life('late'), '<', $few + 100, "the next one's life costs no more pages than before ($few)");
is(sql(q{SELECT state, attempts, agent_id IS NULL, count(*) FROM coord.task WHERE queue = 'lives' GROUP BY 1, 2, 3}), 'pending|0|t|4',
	'of those that retired no task is left behind');
is(sql('SELECT count(*) FROM coord.claim_deadline d WHERE NOT EXISTS (SELECT FROM coord.task_live WHERE id = d.task_id)'), '0',
	'nor what belonged to a claim');
$node->stop;

# ---- recovery happens once, fails in the middle, and strands the rest (dbos-transact-py 716)

my $primary = CoordCluster::new_node('primary', allows_streaming => 1);
$primary->append_conf('postgresql.conf', "restart_after_crash = on\n");
$primary->start;
$primary->safe_psql('postgres', "CREATE EXTENSION coord; $hold_up");
CoordCluster::has_worker($primary, 'postgres');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# An agent that has claimed 200 tasks, some together, falls silent, and whoever recovers them is held up.
sub held_up_recovery
{
	my ($name) = @_;

	$holder = holder($primary);
	$primary->safe_psql('postgres', qq{
		SELECT coord.agent_register('$name', heartbeat_timeout => '1 h');
		SELECT count(coord.task_create('t', queue => '$name')) FROM generate_series(1, 200);
		DO \$\$ BEGIN FOR i IN 1 .. 100 LOOP
			PERFORM coord.task_claim(id, '$name', lease_ttl => '1 h') FROM coord.agent WHERE name = '$name';
		END LOOP; END \$\$;
		SELECT count(*) FROM coord.agent a, coord.task_claim(a.id, '$name', max_tasks => 100, lease_ttl => '1 h') WHERE name = '$name';
		SELECT coord.agent_register('$name', heartbeat_timeout => '100 ms')});
	is($primary->safe_psql('postgres', "SELECT count(*) FROM coord.task_live WHERE queue = '$name' AND state = 'claimed'"), '200', "$name: 200 tasks are claimed");
	ok(is_held_up($primary), "$name: their recovery has begun");
	is($primary->safe_psql('postgres', "SELECT count(*) FROM coord.task_live WHERE queue = '$name' AND state = 'claimed'"), '200', "$name: and is not committed");
}

sub all_recovered
{
	my ($where, $name) = @_;

	ok($where->poll_query_until('postgres', "SELECT count(*) = 200 FROM coord.task_live WHERE queue = '$name' AND state = 'pending' AND attempts = 1"),
		"$name: all 200 are given back afterwards, without a call");
	is($where->safe_psql('postgres', qq{
		SELECT count(*), count(DISTINCT payload ->> 'task_id') FROM coord.event WHERE type = 'task.requeued' AND payload ->> 'queue' = '$name'}), '200|200',
		"$name: each once");
}

held_up_recovery('terminated');
$primary->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'coord worker'});
$holder->quit;
all_recovered($primary, 'terminated');

held_up_recovery('crash');
$primary->stop('immediate');
$primary->start;
all_recovered($primary, 'crash');

# ---- a listener never recovers from the server's recovery mode (graphile/worker 541 and 224)

# They come to a server that is in recovery, and is then promoted.
held_up_recovery('failover');
$primary->wait_for_catchup($standby);
my $examples = "$FindBin::RealBin/../../examples";
my %listener;
$ENV{NODE_PATH} = "$FindBin::RealBin/../clients/node_modules";
for my $program ('listen.py', 'listen.cjs')
{
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($standby->host, $standby->port, scalar getpwuid($<), 'postgres');
	my %l = (out => '', err => '', timeout => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $interpreter = $program =~ /py$/ ? '/usr/bin/python3' : 'node';
	$l{process} = IPC::Run::start([ $interpreter, "$examples/$program", '--channel', 'news' ],
		'<', \undef, '>', \$l{out}, '2>', \$l{err}, $l{timeout});
	$listener{$program} = \%l;
}

END
{
	my $status = $?;
	$_->{process}->kill_kill(grace => 1) for grep { $_->{process}->pumpable } values %listener;
	$? = $status;
}

for my $program (sort keys %listener)
{
	my $l = $listener{$program};
	$l->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	ok(pump_until($l->{process}, $l->{timeout}, \$l->{err}, qr/during recovery; again in .*during recovery; again in/s),
		"$program is refused by a server in recovery, and tries again");
}
$primary->stop('immediate');
$standby->promote;
all_recovered($standby, 'failover');
my $event = $standby->safe_psql('postgres', q{SELECT id FROM coord.event_send('news', channel => 'news')});
for my $program (sort keys %listener)
{
	my $l = $listener{$program};
	$l->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	ok(pump_until($l->{process}, $l->{timeout}, \$l->{out}, qr/"$event"/), "$program hears of what is sent after the promotion");
	$l->{process}->signal('TERM');
	ok($l->{process}->finish, 'and ends well');
}

done_testing();
