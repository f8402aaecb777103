# In a database whose tables are all published, for change data capture say, everything goes on:
# no statement of coord's is refused for want of a replica identity.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('published');
$node->append_conf('postgresql.conf', "wal_level = logical\nmax_wal_senders = 2\nmax_replication_slots = 2\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { my ($what, $name) = @_; return ok($node->poll_query_until('postgres', "SELECT $what"), $name); }
my $agent = q{(SELECT id FROM coord.agent WHERE name = 'a')};

sql(q{
	CREATE EXTENSION coord;
	CREATE PUBLICATION everything FOR ALL TABLES;
	SELECT pg_create_logical_replication_slot('capture', 'pgoutput');
	CREATE ROLE worker;
	SELECT coord.agent_register('a', heartbeat_timeout => '1 d')});
CoordCluster::has_worker($node, 'postgres');
is(sql(q{
	SELECT string_agg(c.relname, ' ') FROM pg_class c
	WHERE c.relnamespace = 'coord'::regnamespace AND c.relkind = 'r' AND c.relreplident = 'd'
		AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)}),
	'event_inbox', 'the rows of every table have an identity, but for the inbox');

# ---- the sweep

my $ttl = 2 * CoordCluster::slowness();
sql(qq{SELECT coord.lease_acquire('left', $agent, '200 ms'), coord.lease_acquire('kept', $agent, '$ttl s', auto_renew => true)});
becomes(q{state = 'expired' FROM coord.lease WHERE resource_key = 'left'}, 'a lease expires');
becomes(qq{state = 'active' AND expires_at - acquired_at > interval '@{[$ttl + 1]} s' FROM coord.lease WHERE resource_key = 'kept'}, 'another is renewed');
becomes(q{count(*) = 1 FROM coord.event WHERE type = 'lock.expired' AND position IS NOT NULL}, 'what was sent is delivered');
sql(qq{
	SELECT coord.task_create('t', max_attempts => 9) FROM generate_series(1, 20);
	SELECT count(*) FROM coord.task_claim($agent, max_tasks => 10, lease_ttl => '200 ms');
	SELECT count(*) FROM coord.task_claim($agent, lease_ttl => '200 ms')});
becomes(q{count(*) = 11 FROM coord.task WHERE attempts = 1 AND state = 'pending'}, 'claims are given back, of a batch too');
sql(q{SELECT coord.agent_register('brief', heartbeat_timeout => '1 s')});
becomes(q{status <> 'active' FROM coord.agent WHERE name = 'brief'}, 'an agent is found dead');

# ---- what tables without a key hold beside that

my $beating = $node->background_psql('postgres');
$beating->query_safe(qq{BEGIN; SELECT id FROM coord.agent_data WHERE name = 'a' FOR UPDATE});
sql(qq{SELECT coord.agent_heartbeat($agent)});
$beating->query_safe('COMMIT');
$beating->quit;
sql(q{
	SELECT coord.task_create('wide', id => '00000000-0000-4000-8000-000000000001', queue => 'q');
	SELECT count(coord.task_create('t', depends_on => ARRAY['00000000-0000-4000-8000-000000000001']::uuid[], queue => 'after'))
	FROM generate_series(1, 1200)});
sql(qq{SELECT coord.task_complete(t.id, t.fencing_token) FROM coord.task_claim($agent, 'q') t});
becomes(q{count(*) = 1200 FROM coord.task WHERE queue = 'after' AND state = 'pending'}, 'more dependants than a transaction frees are freed');
sql(q{SELECT coord.task_create('t', queue => 'many') FROM generate_series(1, 5000)});
is(sql(q{SELECT pending FROM coord.queue WHERE name = 'many'}), '5000', 'a long queue is counted');
is(sql(q{
	SELECT coord.grant_agent('worker', 'q'), coord.grant_agent('worker', 'q', can_create => false);
	SELECT coord.grant_monitor('worker'), coord.grant_monitor('worker', payloads => true);
	SELECT coord.revoke_all('worker');
	SELECT has_schema_privilege('worker', 'coord', 'USAGE')}), "|\n|\n\nf", 'rights are given, changed and taken away');
sql(q{SELECT coord.purge('0')});
is(sql(q{SELECT count(*) FROM coord.task WHERE state = 'completed'}), '0', 'what has finished is dropped');
sql(qq{SELECT coord.agent_retire($agent)});
is(sql(q{SELECT errors FROM coord.worker}), '0', 'the worker has met no error');
cmp_ok(sql(q{SELECT count(*) FROM pg_logical_slot_get_binary_changes('capture', NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')}), '>', 5000,
	'and who captures changes is told of them');

$node->stop('fast');
done_testing();
