# What one role does, the other's agents do not feel: locks that it takes, transactions
# that it keeps open, what it fills up.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('hostile_role');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub becomes_true { return $node->poll_query_until('postgres', "SELECT $_[0]"); }
sub session { return CoordCluster::session_of($node, 'hostile'); }

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE victim LOGIN;
	SELECT coord.grant_agent('hostile'), coord.grant_agent('victim')});
CoordCluster::has_worker($node, 'postgres');

# ---- locks

# coord's own are advisory locks, as everybody may take them with keys that are easy to
# find out; but in a class that nobody can name.
my $locker = session();
$locker->query_safe(q{
	SELECT pg_advisory_lock(c.oid::integer, hashtext('delivery')),
		pg_advisory_lock((c.oid::bigint << 32) | (hashtext('delivery')::bigint & 4294967295))
	FROM pg_class c WHERE relname = 'task_live'});
as('victim', q{SELECT coord.event_send('unheld', channel => 'c')});
ok(becomes_true(q{EXISTS (SELECT FROM coord.event WHERE type = 'unheld' AND position IS NOT NULL)}), 'nobody can lock the delivery of events');
$locker->quit;

for my $relation (qw(agent lease task dead_letter event queue agent_data task_live lease_data claim_deadline event_inbox))
{
	my ($status, undef, $error) = $node->psql('postgres', "SELECT FROM coord.$relation FOR UPDATE", extra_params => [ '-U', 'hostile' ]);
	like($error, qr/permission denied/, "nobody can lock rows of $relation");
	($status, undef, $error) = $node->psql('postgres', "BEGIN; LOCK TABLE coord.$relation IN SHARE MODE", extra_params => [ '-U', 'hostile' ]);
	like($error, qr/permission denied/, "nor all of it");
}

# ---- transactions that stay open, with more rows locked than the worker takes at a time

# Agents of the hostile role, each with a lease and a claim of its own.
sub many_agents
{
	my ($name, $n) = @_;

	as('hostile', qq{
		SELECT count(coord.task_create('t', queue => '$name')) FROM generate_series(1, $n);
		SELECT count(*) FROM generate_series(1, $n) n, coord.agent_register('$name ' || n, heartbeat_timeout => '1 h') a,
			coord.task_claim(a.id, '$name', lease_ttl => '1 h') t,
			coord.lease_acquire('$name ' || n, a.id, '1 h') l});
}

# What the victim's agent holds is free again, in spite of all that.
sub others_are_served
{
	my ($name) = @_;

	as('victim', qq{
		SELECT coord.agent_register('$name victim', heartbeat_timeout => '1 h');
		SELECT coord.task_create('t', queue => '$name victim');
		SELECT coord.task_claim(id, '$name victim', lease_ttl => '1 h') FROM coord.agent WHERE name = '$name victim';
		SELECT coord.agent_register('$name victim', heartbeat_timeout => '100 ms')});
	ok(becomes_true(qq{(SELECT state = 'pending' FROM coord.task_live WHERE queue = '$name victim')}), "$name: an agent's end is seen");
	my $lease = CoordCluster::short_lease($node, 'postgres', '100 ms', "$name victim");
	ok(CoordCluster::announced($node, 'postgres', $lease), "$name: a lease's end is seen");

	my $session = CoordCluster::session_of($node, 'victim');
	$session->query_safe(qq{
		SELECT coord.agent_attach(id) FROM coord.agent_register('$name attached');
		SELECT coord.lease_acquire('$name attached', id, '1 h') FROM coord.agent WHERE name = '$name attached'});
	$session->quit;
	ok(becomes_true(qq{(SELECT ended_at IS NOT NULL FROM coord.lease_data WHERE resource_key = '$name attached')}), "$name: a connection's end is seen");
	like(sql(q{SET statement_timeout = '1 min'; SELECT coord.sweep()}), qr/leases_expired/, "$name: sweep() comes to its end");
	as('victim', qq{SELECT coord.event_send('sent', channel => '$name')});
	ok(becomes_true(qq{EXISTS (SELECT FROM coord.event WHERE channel = '$name' AND position IS NOT NULL)}), "$name: events are delivered");
}

my $holder = session();
my $attached = session();

many_agents('claims', 150);
$holder->query_safe(q{BEGIN; SELECT count(coord.task_cancel(id)) FROM coord.task WHERE queue = 'claims'});
as('hostile', q{SELECT count(*) FROM generate_series(1, 150) n, coord.agent_register('claims ' || n, heartbeat_timeout => '100 ms')});
becomes_true(q{(SELECT count(*) = 150 FROM coord.agent_data WHERE name LIKE 'claims %' AND inactive_since IS NOT NULL)});
others_are_served('claims');
$holder->query_safe('ROLLBACK');
ok(becomes_true(q{NOT EXISTS (SELECT FROM coord.task_live WHERE queue = 'claims' AND state = 'claimed')}), 'claims: and are given back when they are not locked any more');

many_agents('agents', 150);
$attached->query_safe(q{SELECT count(coord.agent_attach(id)) FROM coord.agent WHERE name LIKE 'agents %'});
$holder->query_safe(q{BEGIN; SELECT count(coord.agent_register(name, heartbeat_timeout => '1 h')) FROM coord.agent WHERE name LIKE 'agents %'});
$attached->quit;
others_are_served('agents');
$holder->query_safe('ROLLBACK');
ok(becomes_true(q{NOT EXISTS (SELECT FROM coord.agent_data WHERE name LIKE 'agents %' AND inactive_since IS NULL)}), 'agents: and end when they are not locked any more');

$attached = session();
many_agents('leases', 150);
$attached->query_safe(q{SELECT count(coord.agent_attach(id)) FROM coord.agent WHERE name LIKE 'leases %'});
$holder->query_safe(q{BEGIN; SELECT count(coord.lease_renew(id)) FROM coord.lease WHERE resource_key LIKE 'leases %'});
$attached->quit;
others_are_served('leases');
$holder->query_safe('ROLLBACK');
ok(becomes_true(q{NOT EXISTS (SELECT FROM coord.lease_data WHERE resource_key LIKE 'leases %' AND ended_at IS NULL)}), 'leases: and are released when they are not locked any more');

# the holder is to have renewed them before they run out, however slow the machine is
as('hostile', q{
	SELECT coord.agent_register('due', heartbeat_timeout => '1 h');
	SELECT count(*) FROM coord.agent a, generate_series(1, 1500) n, coord.lease_acquire('due ' || n, a.id, '15 s') WHERE name = 'due';
	SELECT count(coord.task_create('t', queue => 'due')) FROM generate_series(1, 1500);
	SELECT count(*) FROM coord.agent a, coord.task_claim(a.id, 'due', lease_ttl => '15 s', max_tasks => 1500) WHERE name = 'due'});
$holder->query_safe(q{
	BEGIN;
	SELECT count(coord.lease_renew(id, '1 h')) FROM coord.lease WHERE resource_key LIKE 'due %';
	SELECT count(coord.task_cancel(id)) FROM coord.task WHERE queue = 'due'});
becomes_true(q{(SELECT count(*) > 1400 FROM coord.lease_data WHERE resource_key LIKE 'due %' AND expires_at < clock_timestamp() AND ended_at IS NULL)});
others_are_served('due');
$holder->query_safe('ROLLBACK');
$holder->quit;

is(sql('SELECT errors FROM coord.worker'), '0', 'the worker met no error');

# ---- what one role may have

$node->append_conf('postgresql.conf', q{
coord.max_attached_agents = 10
coord.max_listened_queues = 10
coord.max_queue_waiters = 4
coord.max_ready_queues = 20
coord.max_beating_agents = 20
});
$node->restart;
CoordCluster::has_worker($node, 'postgres');
sql(q{
	ALTER ROLE hostile SET coord.max_queues_per_role = 60;
	ALTER ROLE hostile SET coord.max_subscriptions_per_agent = 5});

sub refused
{
	my ($sql, $setting, $name) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', 'hostile' ]);

	like($error, qr/ERROR:  53400:.*$setting/s, $name);
}

# Its heartbeats and its queues fill its share of memory, and what it does is slower from then on.
as('hostile', q{
	SELECT count(coord.agent_register('beats ' || n)) FROM generate_series(1, 50) n;
	SELECT count(coord.agent_heartbeat(id)) FROM coord.agent WHERE name LIKE 'beats %';
	SELECT count(coord.task_create('t', queue => 'fills ' || n)) FROM generate_series(1, 50) n;
	SELECT count(*) FROM generate_series(1, 200) n, coord.agent a, coord.task_claim(a.id, 'fills ' || n) t WHERE a.name = 'beats 1'});
as('victim', q{SELECT coord.agent_register('beats', heartbeat_timeout => '1 h'); SELECT count(coord.task_create('t', queue => 'rings')) FROM generate_series(1, 3)});
is(as('victim', q{SELECT (coord.agent_heartbeat(id)).status FROM coord.agent WHERE name = 'beats'}), 'active', 'one role fills the heartbeats, and another\'s count');
is(sql(q{SELECT last_heartbeat_at > heartbeat_at FROM coord.agent JOIN coord.agent_data d USING (id) WHERE agent.name = 'beats'}), 't',
	'and are still noted in memory');
is(sql(q{SELECT count(*) FROM coord.agent JOIN coord.agent_data d USING (id) WHERE agent.name LIKE 'beats %' AND last_heartbeat_at > heartbeat_at}), '18',
	'of which that role has its share');
is(as('victim', q{SELECT count(*) FROM coord.agent a, coord.task_claim(a.id, 'rings', max_tasks => 5) t WHERE a.name = 'beats'}), '3',
	'one role uses many queues, and another claims');

refused(q{SELECT coord.task_create('t', queue => 'more ' || n) FROM generate_series(1, 50) n}, 'coord.max_queues_per_role', 'a role can make so many queues');
is(as('victim', q{SELECT queue FROM coord.task_create('t', queue => 'another')}), 'another', 'another role still can');
my $making = CoordCluster::session_of($node, 'victim');
$making->query_safe(q{BEGIN; SELECT coord.task_create('t', queue => 'just made')});
is(as('hostile', q{SELECT queue FROM coord.task_create('t', queue => 'just made')}), 'just made', 'and what another role makes is none of its own');
$making->quit;
refused(q{SELECT count(coord.event_subscribe(id, 'c' || n)) FROM coord.agent, generate_series(1, 6) n WHERE name = 'beats 1'},
	'coord.max_subscriptions_per_agent', 'an agent can be subscribed to so many channels');
is(as('hostile', q{SELECT count(coord.event_subscribe(id, 'c' || n % 5)) FROM coord.agent, generate_series(1, 10) n WHERE name = 'beats 1'}),
	'10', 'a subscription that is there is not one more');

sql(q{ALTER ROLE hostile SET coord.max_agents_per_role = 700});
as('hostile', q{SELECT count(coord.agent_register('many ' || n)) FROM generate_series(1, 700 - (SELECT count(*)::int FROM coord.agent WHERE status <> 'retired' AND owner = 'hostile')) n});
refused(q{SELECT coord.agent_register('one more')}, 'coord.max_agents_per_role', 'a role can have so many agents');
is(as('hostile', q{SELECT name FROM coord.agent_register('many 1')}), 'many 1', 'one that it has can be registered anew');
as('hostile', q{SELECT coord.agent_retire(id) FROM coord.agent WHERE name = 'many 1'; SELECT coord.agent_register('one more')});
refused(q{SELECT coord.agent_register('many 1')}, 'coord.max_agents_per_role', 'and one that is retired counts when it comes back');
is(as('victim', q{SELECT name FROM coord.agent_register('still')}), 'still', 'another role still can');

refused(q{SELECT count(coord.agent_attach(id)) FROM coord.agent WHERE name LIKE 'many 1_'}, 'coord.max_attached_agents', 'a role can attach so many agents');
refused(q{SELECT count(coord.queue_listen('q' || n)) FROM generate_series(1, 10) n}, 'coord.max_listened_queues', 'a role can listen to so many queues');
my @full = (session(), session());
$full[0]->query_safe(q{SELECT count(coord.agent_attach(id)) FROM (SELECT id FROM coord.agent WHERE name LIKE 'many 1_' LIMIT 9) a});
$full[0]->query_safe(q{SELECT count(coord.queue_listen('q' || n)) FROM generate_series(1, 9) n});
is(as('victim', q{SELECT (coord.agent_attach(id)).name FROM coord.agent WHERE name = 'still'}), 'still', 'and there is room for one of another role');
# psql may have been notified before it ends
like(as('victim', q{SELECT coord.queue_listen('q of victim')}), qr/^coord:queue:q of victim$/m, 'and for another\'s queue');

my @waiters = map { IPC::Run::start([ 'psql', '-XqAt', '-U', 'hostile', '-d', $node->connstr('postgres'), '-c', "CALL coord.queue_wait('none', '10 min')" ]) } 1 .. 3;
becomes_true(q{(SELECT count(*) = 3 FROM pg_stat_activity WHERE usename = 'hostile' AND query LIKE 'CALL%' AND wait_event_type = 'Extension')});
refused(q{CALL coord.queue_wait('none', '1 min')}, 'coord.max_queue_waiters', 'so many sessions of a role can wait for a queue');
is(as('victim', q{CALL coord.queue_wait('another', '1 min')}), '', 'and one of another role');
$_->kill_kill for @waiters;
$_->quit for @full;

# ---- a role with nothing, and a snapshot

sql(q{CREATE ROLE nobody LOGIN; SELECT coord.agent_register('takes', heartbeat_timeout => '1 h')});
my $nobody = CoordCluster::session_of($node, 'nobody');
$nobody->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my $taken = q{FROM coord.agent a, LATERAL coord.lease_acquire('hot', a.id) l, LATERAL coord.lease_release(l.id) WHERE a.name = 'takes'};
sql(qq{DO \$\$ BEGIN FOR i IN 1 .. 2000 LOOP PERFORM $taken; COMMIT; END LOOP; END \$\$});
cmp_ok(CoordCluster::pages($node, "SELECT $taken"), '<', 1000, 'does not make a resource that is taken often dearer each time');
$nobody->quit;

done_testing();
