# Promotion: on a hot standby nothing of coord is at work, and what is read is true;
# from the promotion on the worker deals with what has run out meanwhile, and renews
# the leases of those that live.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A primary without a worker, so that nobody announces there what runs out.
my $primary = CoordCluster::new_node('primary', allows_streaming => 1);
$primary->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION coord');
ok(CoordCluster::fill($primary, 'postgres'), 'a primary is filled');
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "shared_preload_libraries = 'coord'\n");
$standby->start;

sub sql { return $standby->safe_psql('postgres', $_[0]); }
# The standby comes to answer so.
sub becomes
{
	my ($query, $expected, $name) = @_;

	ok($standby->poll_query_until('postgres', $query, $expected), $name);
}

# ---- a standby

$primary->safe_psql('postgres', q{
	SELECT coord.agent_register('mortal', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('kept', id, '150 s', auto_renew => true) FROM coord.agent WHERE name = 'keeper';
	-- as if it had been taken a minute ago, so that its renewal is due, and its end not for long
	UPDATE coord.lease_data SET acquired_at = acquired_at - interval '60 s', renewed_at = renewed_at - interval '60 s',
		expires_at = expires_at - interval '60 s', check_at = check_at - interval '60 s' WHERE resource_key = 'kept';
	UPDATE coord.lease_deadline d SET check_at = l.check_at FROM coord.lease_data l WHERE l.slot = d.slot AND l.resource_key = 'kept';
	SELECT coord.lease_acquire('not renewed', id, '300 ms', auto_renew => true) FROM coord.agent WHERE name = 'mortal';
	SELECT coord.agent_register('mortal', heartbeat_timeout => '300 ms');
	SELECT coord.lease_acquire('short', id, '300 ms') FROM coord.agent WHERE name = 'keeper';
	SELECT coord.task_create('short', queue => 'short');
	SELECT coord.task_claim(id, 'short', lease_ttl => '300 ms') FROM coord.agent WHERE name = 'keeper'});
my $rows = CoordCluster::rows($primary, 'postgres');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');

# what there is to be announced
my $announced = q{
	FROM coord.event WHERE (payload ->> 'resource_key' IN ('short', 'not renewed')
		OR payload ->> 'name' = 'mortal' OR payload ->> 'queue' = 'short')};
# and how it is shown
my $states = q{
	SELECT (SELECT string_agg(resource_key || ' ' || state, ', ' ORDER BY resource_key) FROM coord.lease WHERE resource_key IN ('kept', 'not renewed', 'short')),
		(SELECT status FROM coord.agent WHERE name = 'mortal'), (SELECT state FROM coord.task WHERE type = 'short')};
my $seen = 'kept active, not renewed expired, short expired|inactive|pending';
becomes($states, $seen, 'a standby shows what has run out, and what has not');
is(sql('SELECT pg_is_in_recovery()'), 't', 'it is one');
my %is_there = map { $_ => 1 } split /\n/, CoordCluster::rows($standby, 'postgres');
is(join("\n", grep { !$is_there{$_} && !/short|mortal|not renewed/ } split /\n/, $rows), '', 'everything else is there as it was on the primary');
is(sql("SELECT count(*) $announced"), '0', 'nobody has announced it');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'c')}), '10', 'events can be listed');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'coord%'
	AND (state <> 'idle' OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)}), '0', 'nothing of coord is at work there');
is(sql('SELECT database, pid FROM coord.worker'), 'postgres|', 'coord.worker says so');

# ---- its promotion

my ($promoted) = sql('SELECT pg_promote(); SELECT clock_timestamp()') =~ /^t\n(.*)/ or die 'the promotion failed';
my $all = 'agent.inactive lock.expired lock.expired task.requeued';
becomes("SELECT string_agg(type, ' ' ORDER BY type) $announced AND position IS NOT NULL", $all, 'after the promotion, what had run out is announced');
# who is not woken by the promotion looks at the clock after a minute
is(sql("SELECT max(created_at) < timestamptz '$promoted' + interval '" . CoordCluster::seconds(5) . "' $announced"), 't', 'at once');
is(sql($states), $seen, 'as what it was shown as before');
is(sql(q{SELECT l.ended_at = l.expires_at FROM coord.lease l WHERE resource_key = 'short'}), 't', 'a lease ended when it was to end');
becomes(q{SELECT state, renewed_at > acquired_at, expires_at = renewed_at + ttl FROM coord.lease WHERE resource_key = 'kept'}, 'active|t|t',
	'a lease that is to be renewed is, as its agent lives');
is(sql(q{SELECT renewed_at = acquired_at FROM coord.lease WHERE resource_key = 'not renewed'}), 't', 'that of the silent agent never was');
ok(CoordCluster::works($standby, 'postgres'), 'the worker works');
is(sql("SELECT string_agg(type, ' ' ORDER BY type) $announced"), $all, 'each was announced once');
is(sql(q{SELECT string_agg(backend_type, ', ' ORDER BY backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'coord%'}),
	'coord launcher, coord worker', 'there is one launcher and one worker');

$standby->stop;
is(join("\n", CoordCluster::logged($standby, qr/ (ERROR|PANIC): /)), '', 'the log is free of errors');

done_testing();
