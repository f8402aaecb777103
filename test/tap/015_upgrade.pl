# Upgrades, with work going on or stored: ALTER EXTENSION UPDATE and DROP and CREATE
# EXTENSION beside callers and the worker, pg_upgrade, and single-user mode.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Digest::SHA;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('upgrade');
$node->start;

sub sql { return $node->safe_psql($_[0], $_[1]); }

# What no server may ever have logged.
my $alarming = qr/PANIC|TRAP:|terminated by signal|XX000|cache lookup failed/;

# Sessions that run the same statements over and over, until there is a table "stop".
# Returns what is to be finished, and what each has complained of.
sub start_callers
{
	my ($name, $number, $statements) = @_;
	my $file = $node->basedir . "/$name.sql";
	my @complaints = ('') x $number;

	append_to_file($file, qq{
		$statements
		SELECT to_regclass('public.stop') IS NOT NULL AS stop \\gset
		\\if :stop
		\\q
		\\endif
		} x 20000);
	my @callers = map {
		IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-v', "caller=$_", '-f', $file ],
			'>', '/dev/null', '2>', \$complaints[$_ - 1])
	} 1 .. $number;
	return (\@callers, \@complaints);
}

sub stop_callers
{
	my ($callers) = @_;

	sql('postgres', 'CREATE TABLE stop ()');
	$_->finish for @$callers;
	sql('postgres', 'DROP TABLE stop');
}

# ---- a released script stays as it was

my %released = ('1.0' => '92df2ea0c19347cf78651cfed5b1f1a60b7dfd001ef83f6bd990b7db9b03660f');
is(Digest::SHA->new(256)->addfile($ENV{COORD_STAGE} . $node->config_data('--sharedir') . "/extension/coord--$_.sql")->hexdigest, $released{$_},
	"the script of $_ is what was released") for keys %released;

# ---- ALTER EXTENSION UPDATE, beside callers

sql('postgres', q{
	CREATE EXTENSION coord VERSION '1.0';
	SELECT coord.agent_register('busy', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('default', backoff_base => '0 s', max_attempts => 1000);
	CREATE TABLE created (id uuid);
	CREATE TABLE done (id uuid)});
my ($callers, $complaints) = start_callers('update', 4, q{
	INSERT INTO created SELECT id FROM coord.task_create('t');
	SELECT t.id FROM coord.agent a, coord.task_claim(a.id, lease_ttl => '300 ms') t WHERE a.name = 'busy';
	WITH mine AS MATERIALIZED (
		SELECT t.id, t.fencing_token FROM coord.agent a, coord.task_claim(a.id, lease_ttl => '1 h') t WHERE a.name = 'busy'
	)
	INSERT INTO done SELECT c.id FROM mine, coord.task_complete(mine.id, mine.fencing_token) c;
	SELECT l.id FROM coord.agent a, coord.lease_acquire('lease ' || :caller || ' ' || random(), a.id, '100 ms') l WHERE a.name = 'busy';
	SELECT name, max_claimed FROM coord.queue_set('queue ' || :caller, lease_ttl => '1 min');
	SELECT name, max_claimed FROM coord.queue_list('queue ' || :caller);
	SELECT type FROM coord.event_send('said', channel => 'upgrade');
	SELECT count(*) FROM coord.event_list(channel => 'upgrade', max_events => 10);
	});

# Waits until every caller's work and the worker's have gone on by so much.
sub goes_on
{
	my ($name) = @_;
	my $done = sql('postgres', 'SELECT count(*) FROM done');
	my $expired = sql('postgres', q{SELECT count(*) FROM coord.event_log WHERE type = 'lock.expired'});

	ok($node->poll_query_until('postgres', qq{
		SELECT (SELECT count(*) FROM done) > $done + 50
			AND (SELECT count(*) FROM coord.event_log WHERE type = 'lock.expired') > $expired + 20}), $name);
}

# These have their plans, with the columns of before, and call coord only after the update.
sql('postgres', q{CREATE FUNCTION after_update(name text) RETURNS text LANGUAGE plpgsql AS
	'BEGIN PERFORM pg_advisory_lock_shared(15); RETURN name; END'});
my $update_goes_on = $node->background_psql('postgres');
$update_goes_on->query_safe('SELECT pg_advisory_lock(15)');
my @planned = map { { statement => $_ } } q{SELECT name, max_claimed FROM coord.queue_set(after_update('planned'), max_claimed => 7)},
	q{SELECT name, max_claimed FROM coord.queue_list(after_update('default'))};
for my $planned (@planned)
{
	$planned->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $planned->{statement} ],
		'>', \$planned->{said}, '2>&1');
}
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'two statements wait for the update');

goes_on('work goes on before the update');
my $worker = sql('postgres', 'SELECT pid FROM coord.worker');
my $tools = q{SELECT string_agg(t ->> 'name', ' ') FROM jsonb_array_elements(coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}') #> '{result,tools}') t
	WHERE t ->> 'name' IN ('task_create', 'task_schedule')};
is(sql('postgres', $tools), 'task_create', 'before it, there are the tools of what there is');
is($node->psql('postgres', 'ALTER EXTENSION coord UPDATE'), 0, 'ALTER EXTENSION UPDATE in the middle of it succeeds');
$update_goes_on->quit;
$_->{run}->finish foreach @planned;
is($planned[0]{said}, "planned|7\n", 'one that was planned before gives what it expects');
is($planned[1]{said}, "default|\n", 'as does one of several rows');
sql('postgres', 'DROP FUNCTION after_update');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
sql('fresh', 'CREATE EXTENSION coord');
my @fresh = CoordCluster::catalog($node, 'fresh');
cmp_ok(scalar @fresh, '>', 700, 'a new installation has something');
is(join("\n", CoordCluster::catalog($node, 'postgres')), join("\n", @fresh), 'an updated one consists of the very same');
is(sql('postgres', $tools), 'task_create task_schedule', 'and after it those that are new');
goes_on('work goes on after the update');
stop_callers($callers);
is(join('', @$complaints), '', 'no caller has met an error');
ok($node->poll_query_until('postgres', q{
	WITH mine AS MATERIALIZED (
		SELECT t.id, t.fencing_token FROM coord.agent a, coord.task_claim(a.id, max_tasks => 1000, lease_ttl => '1 h') t WHERE a.name = 'busy'
	), completed AS MATERIALIZED (SELECT (coord.task_complete(id, fencing_token)).id FROM mine), noted AS (
		INSERT INTO done SELECT id FROM completed
	)
	SELECT (SELECT count(*) FROM completed) >= 0 AND NOT EXISTS (SELECT FROM coord.task WHERE state <> 'completed')}), 'all tasks get done');
is(sql('postgres', q{
	SELECT (SELECT count(*) FROM created EXCEPT ALL SELECT count(*) FROM done), (SELECT count(*) FROM coord.task WHERE id NOT IN (SELECT id FROM created)),
		(SELECT count(*) FROM (SELECT id FROM done GROUP BY id HAVING count(*) > 1) d)}), '|0|0', 'each task that was created was done, once');
ok($node->poll_query_until('postgres', q{
	SELECT count(*) = count(DISTINCT payload ->> 'lease_id') AND count(*) = (SELECT count(*) FROM coord.lease_data)
	FROM coord.event WHERE type = 'lock.expired'}), 'each lease that ran out was announced, once');
is(sql('postgres', 'SELECT pid FROM coord.worker'), $worker, 'the worker has gone on');

# ---- who has added partitions to 1.0 by hand keeps what is in them

sql('postgres', 'CREATE DATABASE by_hand');
sql('by_hand', q{
	CREATE EXTENSION coord VERSION '1.0';
	CREATE TABLE coord.task_finished_old PARTITION OF coord.task_finished FOR VALUES FROM ('-infinity') TO ('2999-01-01');
	SELECT coord.task_cancel(id) FROM coord.task_create('t', '{"kept": true}')});
is(sql('by_hand', 'SELECT DISTINCT tableoid::regclass FROM coord.task_finished'), 'coord.task_finished_old', 'a partition that was added by hand has tasks');
my $kept = sql('by_hand', 'SELECT * FROM coord.task');
my $reader = $node->background_psql('by_hand');
$reader->query_safe('BEGIN; SELECT count(*) FROM coord.task');
my (undef, undef, $gives_up) = $node->psql('by_hand', "\\set VERBOSITY verbose\nSET lock_timeout = '200 ms'; ALTER EXTENSION coord UPDATE");
like($gives_up, qr/ERROR:  55P03/, 'an update beside a reader who stays gives up after lock_timeout');
$reader->quit;
sql('by_hand', 'ALTER EXTENSION coord UPDATE');
is(sql('by_hand', 'SELECT * FROM coord.task'), $kept, 'they are there after the update');
is(sql('by_hand', q{SELECT DISTINCT tableoid::regclass FROM coord.task_finished}), 'coord.task_finished_0', 'where retention finds them');
sql('postgres', 'DROP DATABASE by_hand');

# ---- DROP EXTENSION and CREATE EXTENSION, beside callers

($callers, $complaints) = start_callers('drop', 4, q{
	SELECT id FROM coord.agent_register('caller ' || :caller, heartbeat_timeout => '1 h');
	SELECT id FROM coord.task_create('t', queue => 'q ' || :caller);
	SELECT l.id FROM coord.agent a, coord.lease_acquire('lease ' || :caller, a.id, '100 ms') l WHERE a.name = 'caller ' || :caller;
	SELECT t.id FROM coord.agent a, coord.task_claim(a.id, 'q ' || :caller, lease_ttl => '100 ms') t WHERE a.name = 'caller ' || :caller;
	SELECT (coord.task_complete(id, fencing_token)).state FROM coord.task WHERE state = 'claimed' AND queue = 'q ' || :caller;
	SELECT type FROM coord.event_send('said', channel => 'drop');
	SELECT count(*) FROM coord.event_list(channel => 'drop');
	SELECT count(*) FROM coord.queue;
	});
my @failures;
for my $round (1 .. 20)
{
	my @commands = ('DROP EXTENSION coord', 'CREATE EXTENSION coord');

	@commands = ('BEGIN; ' . join('; ', @commands) . '; COMMIT') if $round % 4 == 0;
	for my $command (@commands)
	{
		my ($status, undef, $complaint) = $node->psql('postgres', $command);

		push @failures, "round $round: $complaint" if $status != 0;
	}
}
is("@failures", '', 'DROP EXTENSION and CREATE EXTENSION succeed twenty times beside callers');
stop_callers($callers);
my %met;
$met{$_}++ for map { /ERROR:  (.*)/g } @$complaints;
note "$met{$_} times: $_" for sort keys %met;
is($met{'deadlock detected'}, undef, 'no caller met a deadlock');
# PostgreSQL itself looks up the type that a function returns after it has parsed the call.
is(join("\n", grep { !/does not exist|not installed|deadlock|could not open relation with OID/ } sort keys %met), '', 'callers met no other error than that it is not there');
ok(CoordCluster::has_worker($node, 'postgres'), 'there is a worker in the end');
ok(CoordCluster::works($node, 'postgres'), 'which works');
is(sql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coord worker' AND datname = 'postgres'}), '1', 'it is the only one');

# ---- single-user mode

ok(CoordCluster::fill($node, 'postgres'), 'a database is filled');
my $rows = CoordCluster::rows($node, 'postgres');
my $token = CoordCluster::last_token($node, 'postgres');
$node->stop;

my ($out, $err) = ('', '');
my $statements = q{
SELECT status AS registered FROM coord.agent_register('single', heartbeat_timeout => '1 h')
SELECT state AS leased FROM coord.agent a, LATERAL coord.lease_acquire('single', a.id, '1 h') WHERE name = 'single'
SELECT state AS created FROM coord.task_create('single', queue => 'single')
SELECT c.state AS ended FROM coord.agent a, coord.task_claim(a.id, 'single') t, LATERAL coord.task_complete(t.id, t.fencing_token) c WHERE a.name = 'single'
SELECT type AS sent FROM coord.event_send('single', channel => 'single')
SELECT count(*) AS listed FROM coord.event_list(channel => 'single')
SELECT coord.sweep() ->> 'agents_expired' AS swept
SELECT type AS told FROM coord.event_list(channel => 'single')
SELECT coord.lease_acquire('short', id, '100 ms') FROM coord.agent WHERE name = 'single'
};
my $began = time;
ok(IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \$statements, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default)), 'single-user mode can be used');
cmp_ok(time - $began, '<', 20, 'and takes no time');
unlike($err, qr/ERROR|FATAL|PANIC/, 'without errors');
is(join(' ', $out =~ /\b(?:registered|leased|created|ended|sent|swept|told) = "(.*?)"/g), 'active active pending completed single 0 single', 'each call gives what it gives elsewhere');
$node->start;
my @after = split /\n/, CoordCluster::rows($node, 'postgres');
my %is_there = map { $_ => 1 } @after;
is(join("\n", grep { !$is_there{$_} && !/^queue/ } split /\n/, $rows), '', 'after a normal start every row of before is there, as it was');
is(sql('postgres', q{
		SELECT (SELECT state FROM coord.lease WHERE resource_key = 'single'), (SELECT state FROM coord.task WHERE type = 'single'),
			(SELECT count(*) FROM coord.event WHERE type = 'single' AND position IS NOT NULL)}), 'active|completed|1', 'and so is what was done in single-user mode');
is(sql('postgres', "SELECT fencing_token > $token FROM coord.lease WHERE resource_key = 'single'"), 't', 'where tokens went on');
ok($node->poll_query_until('postgres', q{
	SELECT count(*) = 1 FROM coord.event WHERE type = 'lock.expired' AND payload ->> 'resource_key' = 'short' AND position IS NOT NULL}),
	'the worker announces what has run out there');
$node->stop;
is(join("\n", CoordCluster::logged($node, $alarming)), '', 'the log has nothing that must never be');

# ---- pg_upgrade

my ($old, $new) = map { CoordCluster::new_node($_) } 'old', 'new';
$old->start;
$old->safe_psql('postgres', 'CREATE DATABASE empty');
$old->safe_psql('postgres', 'CREATE EXTENSION coord');
ok(CoordCluster::fill($old, 'postgres'), 'the old cluster is filled');
$rows = CoordCluster::rows($old, 'postgres');
$token = CoordCluster::last_token($old, 'postgres');
my $position = $old->safe_psql('postgres', 'SELECT max(position) FROM coord.event');
CoordCluster::short_lease($old, 'postgres', '10 s', 'runs out during the upgrade');
$old->stop;

chdir $new->basedir or die;		# pg_upgrade leaves scripts there
my $bindir = $new->config_data('--bindir');
command_ok([ 'pg_upgrade', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port, '--no-sync' ], 'pg_upgrade succeeds, with coord preloaded in both');
$new->start;
%is_there = map { $_ => 1 } split /\n/, CoordCluster::rows($new, 'postgres');
is(join("\n", grep { !$is_there{$_} } split /\n/, $rows), '', 'every row is there, as it was');
is($new->safe_psql('postgres', "SELECT fencing_token > $token FROM coord.agent, LATERAL coord.lease_acquire('new', id) WHERE name = 'keeper'"), 't',
	'new tokens are greater than all old ones');
is($new->safe_psql('postgres', q{SELECT c.state FROM coord.task t, coord.task_complete(t.id, t.fencing_token) c WHERE t.type = 'claimed'}), 'completed',
	'a claim from before completes with its token');
is($new->safe_psql('postgres', q{SELECT state FROM coord.task WHERE type = 'blocked'}), 'pending', 'which frees the task that waited for it');
is($new->safe_psql('postgres', q{SELECT coord.lease_assert(resource_key, fencing_token) FROM coord.lease WHERE resource_key = 'held'}), '',
	'a lease from before is held by its token');
ok($new->poll_query_until('postgres', q{
	SELECT count(*) = 1 FROM coord.event
	WHERE type = 'lock.expired' AND payload ->> 'resource_key' = 'runs out during the upgrade' AND position IS NOT NULL}),
	'what ran out during the upgrade is announced');
is($new->safe_psql('postgres', q{SELECT min(created_at) > pg_postmaster_start_time() FROM coord.event WHERE type = 'lock.expired'}), 't',
	'not before the upgrade was over: no worker runs in it');
ok(CoordCluster::works($new, 'postgres'), 'the worker works');
is($new->safe_psql('postgres', "SELECT bool_and(position > $position) FROM coord.event WHERE type = 'lock.expired'"), 't', 'event positions go on');
is($new->safe_psql('postgres', q{SELECT type FROM coord.task_create('again', unique_key => 'u')}), 'pending', 'unique keys hold');
$new->stop;
is(join("\n", CoordCluster::logged($new, qr/ (ERROR|PANIC): /)), '', 'the log of the new cluster is free of errors');

done_testing();
