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
SKIP:
{
	skip 'a slow server makes them slower than they end', 1 if !$node->{refused} && CoordCluster::slowness() > 1;
	ok($node->{refused}, 'a role has no more agents than its limit');
}
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
# and deleted a second later, which may be before a slow server has looked
ok(is_soon('again', CoordCluster::slowness() < 10 ? 'retired' : 'gone'), 'it is retired as soon as the retention is lowered');
($status, undef, $complaint) = $node->psql('postgres', "SELECT coord.agent_heartbeat('$id')");
ok($status == 0 ? 0 : $complaint =~ /is retired|does not exist/, 'a heartbeat does not revive it');
my $in_time = sql(q{SELECT id FROM coord.agent_register('again', heartbeat_timeout => '1 h')});
is(status('again'), 'active', 'registering its name does');
sql(q{SELECT coord.agent_retire(id) FROM coord.agent WHERE name = 'again'});
SKIP:
{
	skip 'a slow server may have deleted it by now', 1 if CoordCluster::slowness() > 1;
	is(status('again'), 'retired', 'one that is retired by a call');
}
ok(is_soon('again', 'gone'), 'is deleted, too');
isnt(sql(q{SELECT id FROM coord.agent_register('again', heartbeat_timeout => '1 h')}), $in_time, 'after that it is another agent');
($status, undef, $complaint) = $node->psql('postgres', "SELECT coord.agent_heartbeat('$in_time')");
like($complaint, qr/does not exist/, 'and the id is nobody\'s');

# ---- what it leaves behind, and what it holds

($id, my $taken) = map { sql("SELECT id FROM coord.agent_register('$_', heartbeat_timeout => '1 h')") } 'reader', 'holder';
sql(qq{
	SELECT coord.event_subscribe('$id', 'channel'), coord.event_ack('$id', (SELECT max(position) FROM coord.event));
	INSERT INTO coord.agent_beat VALUES ('$id', clock_timestamp());
	SELECT l.id FROM coord.lease_acquire('held', '$taken', '1 h') l;
	SELECT l.id FROM coord.lease_acquire('was held', '$taken', '1 h') l});
my $ended = sql(q{SELECT id FROM coord.lease WHERE resource_key = 'was held'});
sql("SELECT coord.lease_release('$ended')");
crash('reader', 'holder');
ok(is_soon('reader', 'gone'), 'of two agents that which holds nothing goes');
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

# ---- an id that is given again

# what its agent has held and done is not the new one's, of another role; who may claim from the
# queue may still repeat a completion
$id = crash('past');
sql(qq{
	SELECT coord.agent_register('past', heartbeat_timeout => '1 h');
	SELECT coord.task_create('t', queue => 'past', payload => '"secret"', resource_key => 'past');
	SELECT coord.task_complete(id, fencing_token) FROM coord.task_claim('$id', 'past', lease_ttl => '1 h')});
my ($task, $token) = split /\|/, sql(q{SELECT id, fencing_token FROM coord.task WHERE queue = 'past'});
crash('past');
ok(is_soon('past', 'gone'), 'an agent that has held a lease and completed a task goes');
my $as_stranger = sub { return $node->psql('postgres', "SET ROLE stranger; $_[0]"); };
sql(q{CREATE ROLE stranger; SELECT coord.grant_agent('stranger', queue => 'elsewhere')});
is(sql("SET ROLE stranger; SELECT id FROM coord.agent_register('future', id => '$id', heartbeat_timeout => '1 h')"), $id, 'its id is taken by another role');
is(sql(q{SET ROLE stranger; SELECT (SELECT count(*) FROM coord.lease WHERE resource_key = 'past') + (SELECT count(*) FROM coord.lease_list(resource_key => 'past'))}), '0',
	'which does not see the lease');
($status, undef, $complaint) = $as_stranger->("SELECT payload FROM coord.task_complete('$task', $token)");
like($complaint, qr/does not exist/, 'nor the task');
is(sql(qq{SELECT coord.grant_agent('stranger', queue => 'past'); SET ROLE stranger; SELECT payload FROM coord.task_complete('$task', $token)}), "\n\"secret\"",
	'unless it may claim from its queue');
is(sql(q{SET ROLE stranger; SELECT count(*) FROM coord.agent a, coord.lease_acquire('future', a.id, '1 h') WHERE a.name = 'future'}), '1',
	'what it leases itself');
is(sql(q{SET ROLE stranger; SELECT count(*) FROM coord.lease}), '1', 'it sees');

# ---- what is in other transactions' hands

my $other = $node->background_psql('postgres', on_error_stop => 1);
sql(q{SELECT coord.agent_register('locked', heartbeat_timeout => '1 h')});
$other->query_safe(q{BEGIN; SELECT FROM coord.agent_data WHERE name = 'locked' FOR KEY SHARE});
crash('locked', 'free');
ok(is_soon('free', 'retired'), 'an agent is retired though another one is locked');
is(status('locked'), 'inactive', 'that one stays as it is');
$other->query_safe('COMMIT');
ok(is_soon('locked', 'gone'), 'until it is free');

# a transaction has it do something, and commits when it was retired long ago
my $seen = sql(q{SELECT id FROM coord.agent_register('seen', heartbeat_timeout => '1 h')});
sql(q{SELECT coord.task_create('t', queue => 'seen')});
is($other->query_safe("BEGIN; SELECT count(*) FROM coord.lease_acquire('late', '$seen', '8 s')"), '1', 'a transaction takes a lease for an agent');
is($other->query_safe("SELECT count(*) FROM coord.task_claim('$seen', 'seen', lease_ttl => '8 s')"), '1', 'and claims a task');
sql("SELECT coord.agent_retire('$seen')");
ok(holds("SELECT retired_at < clock_timestamp() - interval '3 s' FROM coord.agent_data WHERE id = '$seen'"), 'which is retired, and its time is over');
is(status('seen'), 'retired', 'it is there for as long as the transaction may have taken something for it');
$other->query_safe('COMMIT');
ok(holds(q{SELECT l.state = 'released' AND t.state = 'pending' FROM coord.lease l, coord.task t WHERE l.resource_key = 'late' AND t.queue = 'seen'}), 'that is released and given back');
ok(holds(q{SELECT coord.purge('0 s') IS NOT NULL AND NOT EXISTS (SELECT FROM coord.agent WHERE name = 'seen')}), 'and goes when nobody needs the events about them any more');

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
	SELECT count(l.id) FROM coord.agent_register('crowd 2501', heartbeat_timeout => '1 h') a, LATERAL coord.lease_acquire('last', a.id, '2 h') l});
crash('crowd 2501');
ok(holds(q{SELECT count(*) = 1 FROM coord.agent WHERE name LIKE 'crowd%'}), '2,500 agents are deleted, a batch at a time');
is(sql(q{SELECT count(*), min(a.name) FROM coord.lease l JOIN coord.agent a ON a.id = l.agent_id WHERE l.state = 'active' AND a.name LIKE 'crowd%'}), '1|crowd 2501',
	'but that which has one of 12,000 leases');
is(sql(q{SELECT count(*) FROM coord.lease WHERE resource_key LIKE 'lease %' AND state = 'active'}), '12000', 'and nobody has lost a lease');

$other->quit;
$node->stop;

# ---- by hand, where there is no worker

my $by_hand = CoordCluster::new_node('by_hand');
$by_hand->append_conf('postgresql.conf', "shared_preload_libraries = ''\ncoord.agent_retention = '1 h'\nautovacuum = off");
$by_hand->start;
sub hand { return $by_hand->safe_psql('postgres', $_[0]); }
my $purged = q{SELECT p ->> 'agents_retired' || ' ' || (p ->> 'agents_deleted') FROM coord.purge() p};

hand(q{
	CREATE EXTENSION coord;
	SELECT count(coord.agent_register('agent ' || n, heartbeat_timeout => '1 h')) FROM generate_series(1, 3000) n;
	SELECT coord.agent_register('crashed', heartbeat_timeout => '100 ms')});
is(hand($purged), '0 0', 'purge() finds nothing to do at first');
my $marked = q{SELECT coord.sweep() IS NOT NULL AND EXISTS (SELECT FROM coord.agent_data WHERE name = 'crashed' AND inactive_since IS NOT NULL)};
ok($by_hand->poll_query_until('postgres', $marked), 'sweep() sees an agent\'s end');
hand(q{SELECT coord.sweep()});
is(hand($purged . q{; SELECT count(*) FROM coord.agent}), "0 0\n3001", 'so it stays');
# they are taken for older than they are, as nobody waits for an hour
hand(q{UPDATE coord.agent_data SET check_at = NULL, inactive_since = inactive_since - interval '61 min' WHERE name = 'crashed'});
is(hand("BEGIN; $purged; $purged; COMMIT"), "1 0\n0 0", 'purge() retires it, and says so');
hand(q{UPDATE coord.agent_data SET retired_at = retired_at - interval '59 min' WHERE name = 'crashed'});
is(hand("SELECT coord.purge('0 s') ->> 'agents_deleted'"), '0', 'how long it is kept does not depend on older_than');
hand(q{UPDATE coord.agent_data SET retired_at = retired_at - interval '2 min' WHERE name = 'crashed'});
is(hand($purged), '0 1', 'and deletes it');
hand(q{
	SELECT coord.agent_register('crashed', heartbeat_timeout => '1 h');
	UPDATE coord.agent_data SET check_at = NULL, inactive_since = clock_timestamp() - interval '61 min' WHERE name = 'crashed';
	SELECT coord.sweep();
	UPDATE coord.agent_data SET retired_at = retired_at - interval '61 min' WHERE name = 'crashed'});
is(hand(q{SELECT status FROM coord.agent WHERE name = 'crashed'}), 'retired', 'sweep() retires, too');
is(hand(q{SELECT coord.sweep() IS NOT NULL; SELECT count(*) FROM coord.agent WHERE name = 'crashed'}), "t\n0", 'and deletes');

# ---- what it costs

my $counts = q{
	SELECT pg_stat_force_next_flush();
	SELECT n_tup_upd, n_tup_upd - n_tup_hot_upd, seq_scan, (SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelid = 'coord.agent_data_ended_at'::regclass)
	FROM pg_stat_user_tables WHERE relid = 'coord.agent_data'::regclass};
hand('VACUUM coord.agent_data; SELECT pg_stat_reset()');
hand(q{SELECT coord.sweep(); SELECT coord.purge()});
my (undef, undef, $scans, $entries) = split /\|/, (split /\n/, hand($counts))[-1];
cmp_ok($scans + $entries, '<=', 2, 'where there is nothing to do, 3,000 active agents are not looked at');
hand(q{SELECT count(coord.agent_heartbeat(id)) FROM coord.agent_data WHERE name ~ '^agent 1..$'}) for 1 .. 3;
my ($updates, $not_hot) = split /\|/, (split /\n/, hand($counts))[-1];
is("$updates $not_hot", '300 0', 'heartbeats that are written write no index');
$by_hand->stop;

is(join("\n", map { CoordCluster::logged($_, qr/ PANIC: |XX000/) } $node, $by_hand), '', 'nobody met an error that must not be');

done_testing();
