# The dashboard is quick whatever there is: it reads few pages of relations with many rows,
# says what it has left out, and looks back less far when too much has finished.  It warns
# where no worker runs, works on a standby and in other encodings than UTF-8.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

use constant MANY => 60000;

my $node = CoordCluster::new_node('dashboard', allows_streaming => 1);
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
# the page without its head, which every page has
sub body { return $_[0] =~ s/^.*<header>//sr; }
sub page { return body(sql(($_[0] // '') . 'SELECT coord.dashboard()')); }

# ---- agents that were lost, as the worker tells

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE narrow; CREATE ROLE owner;
	SELECT coord.grant_agent('narrow', 'few');
	SELECT coord.grant_agent('owner');
	SELECT coord.agent_register('lost one', heartbeat_timeout => '100 ms');
	SELECT coord.agent_register('worker', heartbeat_timeout => '1 h')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.event WHERE type = 'agent.inactive' AND position IS NOT NULL}), 'an agent is lost');
like(page(), qr{id="lost-agents".*<th[^>]*>lost one</th>}s, 'which the dashboard shows after the sweep');
sql(q{
	SELECT coord.event_send('agent.inactive', '{"agent_id": "no id"}', channel => 'coord.agents');
	SELECT coord.event_send('agent.inactive', jsonb_build_object('agent_id', id), channel => 'coord.agents') FROM coord.agent});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 4 FROM coord.event WHERE position IS NOT NULL}), 'others say so, too');
unlike(page(), qr{<th[^>]*>worker</th>}, 'which is not believed');

# ---- many rows: written directly, since calls would take long

my $agent = sql(q{SELECT id FROM coord.agent WHERE name = 'worker'});
sql(qq{
	INSERT INTO coord.agent_data SELECT coord.new_id(), 'agent ' || g, 'worker', 'owner'::regrole, '{}', '1 h', now(), now(),
		now(), now(), NULL, NULL, 0 FROM generate_series(1, @{[MANY]}) g;
	INSERT INTO coord.task_finished (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, created_at, claimed_at, finished_at, partition)
	SELECT coord.new_id(), CASE WHEN g % 100 = 0 THEN 'few' ELSE 'busy' END, 't', '{}', 0, 'completed', at - interval '3 s', 1, 5, at, at - interval '1 s', at, 0
	FROM (SELECT g, now() - (@{[4 * MANY]} - g) * interval '1 s' AS at FROM generate_series(1, @{[4 * MANY]}) g) f;
	INSERT INTO coord.task_dead (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, created_at, finished_at)
	SELECT coord.new_id(), CASE WHEN g <= 50 THEN 'few' ELSE 'busy' END, 't', '{}', 0, 'dead', now(), 5, 5, now(), now() - g * interval '1 min'
	FROM generate_series(1, @{[MANY]}) g;
	INSERT INTO coord.task_live (id, seq, queue, type, payload, priority, max_attempts, created_at, run_at, ready_at, state, attempts)
	SELECT coord.new_id(), nextval('coord.task_seq'), CASE WHEN g <= 50 THEN 'few' ELSE 'busy' END, 't', '{}', 0, 5, now(), now(), now(), 'pending', 0
	FROM generate_series(1, @{[2 * MANY]}) g;
	INSERT INTO coord.lease_data SELECT nextval('coord.lease_slot'), 'key ' || g, coord.new_id(), '$agent', NULL, g, '1 h', false, NULL,
		now(), now(), now() + interval '1 h' + g * interval '1 s', NULL, false, now() + interval '1 h' + g * interval '1 s'
	FROM generate_series(1, @{[MANY]}) g;
	INSERT INTO coord.lease_deadline SELECT check_at, slot FROM coord.lease_data;
	INSERT INTO coord.queue_data (name, created_by) SELECT 'queue ' || g, 10 FROM generate_series(1, 600) g;
	VACUUM ANALYZE});
# the worker counts long queues when something changes
sql(q{SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg('{"type": "t", "queue": "busy"}'::jsonb) FROM generate_series(1, 10001)))});
ok($node->poll_query_until('postgres', q{SELECT counted_at IS NOT NULL FROM coord.queue WHERE name = 'busy'}), 'the long queue has been counted');
sql('VACUUM ANALYZE');

# read($role): the pages and the rows that the dashboard reads of the relations that have many, by relation.
sub reads
{
	my ($role) = @_;
	my $counts = q{SELECT relname || ' ' || sum(seq_tup_read + idx_tup_fetch) OVER (PARTITION BY relname) FROM pg_stat_xact_user_tables
		WHERE schemaname = 'coord' AND relname ~ '^(agent_data|task_live|task_finished_0|task_dead|lease_data|lease_deadline|event_log_0)$'};
	my $out = sql("BEGIN; SET LOCAL ROLE $role; SELECT length(coord.dashboard()); RESET ROLE; $counts; COMMIT");

	return map { split / / } grep { / / } split /\n/, $out;
}
my %most = (agent_data => 12000, task_live => 400, task_finished_0 => 35000, task_dead => 500, lease_data => 100, lease_deadline => 1100);
for my $role (sql('SELECT quote_ident(current_user)'), 'narrow')
{
	my %rows = reads($role);

	cmp_ok($rows{$_}, '<=', $most{$_}, "$role: few rows of $_ are read") for sort keys %most;
}
cmp_ok(CoordCluster::pages($node, 'SELECT coord.dashboard()'), '<', 45000, 'and few pages');

# completed($filter): how many tasks have been completed so lately.  What the dashboard says lies
# between what this says before and after.
sub completed { return sql("SELECT count(*) FROM coord.task_finished WHERE finished_at > clock_timestamp() - interval $_[0]"); }
sub says_completed
{
	my ($page, $period, $before, $after, $name) = @_;
	my ($says) = $page =~ m{<dt>Completed</dt><dd>([\d,]+)<small>in the last $period<};

	ok(defined $says && $says =~ s/,//gr <= $before && $says =~ s/,//gr >= $after, $name)
		or diag("it says $says; $before before, $after after");
	return;
}

my $before = completed("'1 h'");
my $page = page("SELECT FROM coord.lease_acquire('soon', '$agent', '59 s'); ");
says_completed($page, 'hour', $before, completed("'1 h'"), 'the last hour is what the last hour was');
like($page, qr{id="more-queues">There are more than 500 queues}, 'it says that there are more queues');
like($page, qr{id="more-agents">These are the newest 10,000}, 'more agents');
like($page, qr{id="more-dead">and 59,980 more}, 'and more dead letters');
SKIP:
{
	skip 'it has ended before a slow server has made the page', 1 if CoordCluster::slowness() >= 10;
	like($page, qr{id="leases">.*<th[^>]*>soon</th>}s, 'a lease about to end is found among many');
}
like($page, qr{<th[^>]*>busy<small>as of \d+ m?s ago|<th[^>]*>busy<small>as of \d}, 'a long queue says when it was counted');
$before = completed("'1 h' AND queue = 'few'");
my $narrow = page('SET ROLE narrow; ');
says_completed($narrow, 'hour', $before, completed("'1 h' AND queue = 'few'"), 'a role with one queue gets what that did');
like($narrow, qr{id="more-dead">and 30 more}, 'its dead letters');
unlike($narrow, qr{busy|queue 1|key \d|soon}, 'and nothing of others');

# ---- more than can be read quickly has finished in an hour

sql(qq{
	INSERT INTO coord.task_finished (id, queue, type, payload, priority, state, run_at, attempts, max_attempts, created_at, claimed_at, finished_at, partition)
	SELECT coord.new_id(), 'busy', 't', '{}', 0, 'completed', at, 1, 5, at, at, at, 0
	FROM (SELECT now() - (300000 - g) * interval '10 ms' AS at FROM generate_series(1, 300000) g) f});
$before = completed("'10 min'");
$page = page();
says_completed($page, '10 minutes', $before, completed("'10 min'"), 'then the figures are of less time');
like($page, qr{Throughput of the last 10 minutes, by the 10 seconds}, 'which is said');
like($page, qr{More than 300,000 tasks have finished in the last hour}, 'and says why');

# ---- encodings

sub encoded
{
	my ($encoding, $database) = @_;
	sql("CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($database, 'CREATE EXTENSION coord');
	return sub { $node->safe_psql($database, $_[0]) };
}
my $latin = encoded('LATIN1', 'latin');
$latin->(q{SELECT coord.task_create('t', queue => convert_from('\xc3a974c3a9', 'UTF8'))});
like($latin->('SELECT coord.dashboard()'), qr{>&#xE9;t&#xE9;<}, 'a name in LATIN1 is told by its characters');
my $win = encoded('WIN1252', 'win');
$win->(q{SELECT coord.task_create('t', queue => chr(128) || chr(129) || 'a')});
like($win->('SELECT coord.dashboard()'), qr{>&#x20AC;&#xFFFD;a<}, 'what is no character is replaced');
my $none = encoded('SQL_ASCII', 'none');
$none->(q{SELECT coord.task_create('t', queue => E'\xe2\x82\xac\xffa')});
like($none->('SELECT coord.dashboard()'), qr{>&#x20AC;&#xFFFD;a<}, 'without an encoding what may be UTF-8 is taken for it');

$none->(q{SELECT coord.task_create('t', queue => repeat(E'\xe2\x82\xac', 100))});
like($none->('SELECT coord.dashboard()'), qr{>(&#x20AC;){80}&#x2026;<}, 'and is cut between its characters');

# ---- no worker

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('dashboard_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
like($standby->safe_psql('latin', 'SELECT coord.dashboard()'), qr{state warning" id="worker">.*This is a standby}, 'a standby has its dashboard');
$standby->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
like($node->safe_psql('latin', 'SELECT coord.dashboard()'), qr{state warning" id="worker">.*not preloaded.*shared_preload_libraries}, 'and without the library preloaded it says what to do');

$node->stop;
done_testing();
