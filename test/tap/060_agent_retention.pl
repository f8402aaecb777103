# Agents that are silent for coord.agent_retention are retired and do not count any more, and
# deleted after as long again, with what there is under their ids: unless they hold something,
# or something else needs them.  It costs heartbeats nothing, and the worker little.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('agents');
$node->append_conf('postgresql.conf', "coord.agent_retention = '1 s'\ncoord.max_agents_per_role = 3");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub holds { return $node->poll_query_until('postgres', $_[0]); }

# What is said about agents of these names; "gone" of one that is not there.
sub status
{
	return sql('SELECT string_agg(coalesce(a.status, \'gone\'), \' \' ORDER BY n) FROM unnest(ARRAY['
		. join(', ', map { "'$_'" } @_) . ']) WITH ORDINALITY u (name, n) LEFT JOIN coord.agent a USING (name)');
}
sub is_soon { my ($name, $status) = @_; return holds("SELECT coalesce((SELECT status FROM coord.agent WHERE name = '$name'), 'gone') = '$status'"); }

# Registers an agent that is not heard of again; by the owner of the extension, whom no limit binds.
sub crash { return sql(join ';', map { "SELECT id FROM coord.agent_register('$_', heartbeat_timeout => '100 ms')" } @_); }

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE fleet;
	SELECT coord.grant_agent('fleet');
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h')});
ok(CoordCluster::has_worker($node, 'postgres'), 'there is a worker');

# ---- a fleet whose workers crash

my $registered = 0;
my ($status, $complaint);
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
while ($registered < 12 && time < $deadline)
{
	($status, undef, $complaint) = $node->psql('postgres',
		"SET ROLE fleet; SELECT coord.agent_register('worker ' || gen_random_uuid(), heartbeat_timeout => '100 ms')");
	$registered += $status == 0;
	like($complaint, qr/too many agents/, 'too many at once are refused') if $status != 0 && !$node->{refused}++;
}
ok($node->{refused}, 'a role has no more agents than its limit');
is($registered, 12, 'but those that crashed do not count for good');
ok(holds(q{SELECT NOT EXISTS (SELECT FROM coord.agent_data WHERE name <> 'alive')}), 'and are deleted in the end');
is(status('alive'), 'active', 'one that lives stays');
is(sql(q{SELECT count(*) = 12 FROM coord.event WHERE type = 'agent.inactive'}), 't', 'that they became inactive was announced once for each');

# ---- a name that is registered again

sql(q{ALTER SYSTEM SET coord.agent_retention = '1 h'; SELECT pg_reload_conf()});
ok(holds(q{SELECT setting = '3600' FROM pg_settings WHERE name = 'coord.agent_retention'}), 'the retention is raised');
my $id = crash('again');
ok(is_soon('again', 'inactive'), 'an agent falls silent');
sql(q{ALTER SYSTEM SET coord.agent_retention = '1 s'; SELECT pg_reload_conf()});
ok(is_soon('again', 'retired'), 'it is retired as soon as the retention is lowered');
($status, undef, $complaint) = $node->psql('postgres', "SELECT coord.agent_heartbeat('$id')");
ok($status == 0 ? 0 : $complaint =~ /is retired|does not exist/, 'a heartbeat does not revive it');
my $in_time = sql(q{SELECT id FROM coord.agent_register('again', heartbeat_timeout => '1 h')});
is(status('again'), 'active', 'registering its name does');
sql(q{SELECT coord.agent_retire(id) FROM coord.agent WHERE name = 'again'});
is(status('again'), 'retired', 'one that is retired by a call');
ok(is_soon('again', 'gone'), 'is deleted, too');
isnt(sql(q{SELECT id FROM coord.agent_register('again', heartbeat_timeout => '1 h')}), $in_time, 'after that it is another agent');
($status, undef, $complaint) = $node->psql('postgres', "SELECT coord.agent_heartbeat('$in_time')");
like($complaint, qr/does not exist/, 'and the id is nobody\'s');

# ---- what it leaves behind, and what it holds

$id = crash('reader');
my $taken = crash('holder');
sql(qq{
	SELECT coord.agent_register('reader', heartbeat_timeout => '1 h'), coord.agent_register('holder', heartbeat_timeout => '1 h');
	SELECT coord.event_subscribe('$id', 'channel'), coord.event_ack('$id', position)
		FROM coord.event_send('sent', channel => 'channel') e, LATERAL (SELECT position FROM coord.event_list(max_events => 1)) p;
	INSERT INTO coord.agent_beat VALUES ('$id', clock_timestamp());
	SELECT l.id FROM coord.lease_acquire('held', '$taken', '1 h') l;
	SELECT l.id FROM coord.lease_acquire('was held', '$taken', '1 h') l});
my $ended = sql(q{SELECT id FROM coord.lease WHERE resource_key = 'was held'});
sql("SELECT coord.lease_release('$ended')");
crash('reader', 'holder');
is(status('reader', 'holder') =~ /retired/ ? 1 : 0, 0, 'two agents, one of which holds a lease');
ok(is_soon('reader', 'gone'), 'that which holds nothing goes');
is(sql("SELECT (SELECT count(*) FROM coord.event_subscription), (SELECT count(*) FROM coord.event_cursor), (SELECT count(*) FROM coord.agent_beat)"), '0|0|0',
	'with its subscriptions, its position and its heartbeats');
is(status('holder'), 'inactive', 'the other one is not even retired');
my $lease = sql(q{SELECT id FROM coord.lease WHERE resource_key = 'held'});
is(sql("SELECT count(*) FROM coord.lease_renew('$lease')"), '1', 'it can renew its lease');
is(sql("SELECT coord.lease_release('$lease')"), 't', 'or release it');
ok(is_soon('holder', 'gone'), 'and then it goes as well');
is(sql("SELECT coord.lease_release('$lease')"), 'f', 'releasing it again is no error');
($status, undef, $complaint) = $node->psql('postgres', "SELECT coord.lease_renew('$lease')");
like($complaint, qr/is not active any more|was released/, 'renewing it says that it has ended');
is(sql(q{SELECT count(*) FROM coord.agent_register('heir', heartbeat_timeout => '1 h') a, coord.lease_acquire('held', a.id)}), '1', 'others take the resource');

# events to an agent are its owner's as long as they are kept
$id = crash('addressed');
sql("SELECT id FROM coord.event_send('sent', recipient_id => '$id')");
crash('unaddressed');
ok(is_soon('unaddressed', 'gone'), 'an agent goes');
is(status('addressed'), 'retired', 'but not one to which the log has events');
($status, undef, $complaint) = $node->psql('postgres', "SET ROLE fleet; SELECT coord.agent_register('spy', id => '$id')");
like($complaint, qr/in use/, 'so nobody else can take its id and read them');
sql(q{SELECT coord.purge('0 s')});
ok(is_soon('addressed', 'gone'), 'it goes when they are gone');

# ---- what is in other transactions' hands

my $other = $node->background_psql('postgres', on_error_stop => 1);
crash('locked', 'free');
$other->query_safe(q{BEGIN; SELECT FROM coord.agent_data WHERE name = 'locked' FOR KEY SHARE});
ok(is_soon('free', 'gone'), 'agents go though another one is locked');
isnt(status('locked'), 'gone', 'that one stays');
$other->query_safe('COMMIT');
ok(is_soon('locked', 'gone'), 'until it is free');

# a transaction that saw it active, and has it do something when it was retired long ago
my $seen = sql(q{SELECT id FROM coord.agent_register('seen', heartbeat_timeout => '1 h')});
sql(q{SELECT coord.task_create('t', queue => 'seen')});
$other->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT status FROM coord.agent WHERE id = '$seen'");
sql("SELECT coord.agent_retire('$seen')");
ok(holds("SELECT retired_at < clock_timestamp() - interval '3 s' FROM coord.agent_data WHERE id = '$seen'"), 'an agent is retired, and its time is over');
is($other->query_safe("SELECT count(*) FROM coord.lease_acquire('late', '$seen', '3 s')"), '1', 'a transaction from before takes a lease for it');
is($other->query_safe("SELECT count(*) FROM coord.task_claim('$seen', 'seen', lease_ttl => '3 s')"), '1', 'and claims a task');
$other->query_safe('COMMIT');
is(sql(q{SELECT state FROM coord.lease WHERE resource_key = 'late'}) . ' ' . status('seen'), 'active retired', 'it is there for as long as it holds the lease');
ok(is_soon('seen', 'gone'), 'and goes then');
is(sql(q{SELECT l.state, t.state FROM coord.lease_all l, coord.task t WHERE l.resource_key = 'late' AND t.queue = 'seen'}), 'expired|pending', 'when that is over, and the claim given back');

# ---- registering it while the worker is deleting it

sql(q{
	CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN OLD; END';
	CREATE TRIGGER wait_here BEFORE DELETE ON coord.agent_data FOR EACH ROW WHEN (OLD.name = 'meanwhile') EXECUTE FUNCTION wait_here()});
$other->query_safe('SELECT pg_advisory_lock(1)');
$id = crash('meanwhile');
ok(holds(q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted)}), 'the worker is about to delete an agent');
my $registering = $node->background_psql('postgres', on_error_stop => 1);
$registering->query_until(qr/begun/, qq{
	\\echo begun
	SELECT id <> '$id' AND status = 'active' AS new FROM coord.agent_register('meanwhile', heartbeat_timeout => '1 h');
});
ok(holds(q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)}), 'somebody registers its name, and waits for the worker');
$other->query_safe('SELECT pg_advisory_unlock(1)');
like($registering->query_safe(q{SELECT 'it is ' || status FROM coord.agent WHERE name = 'meanwhile'}), qr/^t$.*^it is active$/ms, 'and has another agent then, which stays');
is(sql(q{SELECT count(*) FROM coord.agent WHERE name = 'meanwhile'}), '1', 'the only one of that name');
$registering->quit;

# ---- a row that cannot be dealt with

sql(q{
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
	CREATE TRIGGER fail BEFORE UPDATE ON coord.agent_data FOR EACH ROW
		WHEN (OLD.name = 'poison' AND NEW.retired_at IS NOT NULL) EXECUTE FUNCTION fail()});
crash('poison');
ok(holds(q{SELECT last_error = 'not this one' FROM coord.worker}), 'an agent cannot be retired');
crash(map { "victim $_" } 1 .. 5);
ok(holds(q{SELECT NOT EXISTS (SELECT FROM coord.agent WHERE name LIKE 'victim%')}), 'others are, and are deleted');
is(status('poison'), 'inactive', 'that one stays');
sql('DROP TRIGGER fail ON coord.agent_data');
ok(is_soon('poison', 'gone'), 'until there is nothing in the way');

# ---- very many, beside leases that are not theirs

sql(q{
	SELECT count(l.id) FROM coord.agent a, generate_series(1, 12000) n, LATERAL coord.lease_acquire('lease ' || n, a.id, '1 h') l WHERE a.name = 'alive';
	SELECT count(coord.agent_register('crowd ' || n, heartbeat_timeout => '100 ms')) FROM generate_series(1, 2500) n;
	SELECT count(l.id) FROM coord.agent a, LATERAL coord.lease_acquire('last', a.id, '2 h') l WHERE a.name = 'crowd 2500' AND coord.agent_heartbeat(a.id) IS NOT NULL});
ok(holds(q{SELECT count(*) = 1 FROM coord.agent WHERE name LIKE 'crowd%'}), '2,500 agents are deleted, a batch at a time');
is(sql(q{SELECT count(*), min(a.name) FROM coord.lease l JOIN coord.agent a ON a.id = l.agent_id WHERE l.state = 'active' AND a.name LIKE 'crowd%'}), '1|crowd 2500',
	'but that which has one of 12,000 leases');
is(sql(q{SELECT count(*) FROM coord.lease WHERE resource_key LIKE 'lease %' AND state = 'active'}), '12000', 'and nobody has lost a lease');

# ---- a heartbeat writes no index

sql(q{SELECT coord.agent_register('beating', heartbeat_timeout => '150 ms'); VACUUM coord.agent_data; SELECT pg_stat_force_next_flush()});
my $updates = q{SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'coord.agent_data'::regclass};
sql(q{SELECT pg_stat_reset_single_table_counters('coord.agent_data'::regclass)});
$node->safe_psql('postgres', q{
	DO $$
	BEGIN
		FOR i IN 1..20 LOOP
			PERFORM coord.agent_heartbeat(id), pg_sleep(0.06) FROM coord.agent_data WHERE name = 'beating';
		END LOOP;
	END
	$$;
	SELECT pg_stat_force_next_flush()});
ok(holds("SELECT n_tup_upd >= 5 FROM ($updates) u"), 'heartbeats are written');
$other->quit;

$node->stop;
is(join("\n", CoordCluster::logged($node, qr/ PANIC: |XX000/)), '', 'nobody met an error that must not be');

done_testing();
