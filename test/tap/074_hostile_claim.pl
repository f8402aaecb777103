# A claim of one role locks nothing of another's beside what it gets: leases that have come due
# meanwhile, to be ended, renewed, or only looked at again, are left to the worker, also when
# that is late.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('hostile_claim');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub session { return CoordCluster::session_of($node, 'hostile'); }

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE victim LOGIN;
	SELECT coord.grant_agent('hostile', 'other'), coord.grant_agent('victim')});
CoordCluster::has_worker($node, 'postgres');
as('hostile', q{SELECT coord.agent_register('hostile', heartbeat_timeout => '1 h')});
as('victim', q{SELECT coord.agent_register(n, heartbeat_timeout => '1 h') FROM unnest('{victim, heir}'::text[]) n});

# ---- leases that have come due, beside a worker that is late, and without one

for my $situation ('beside a worker', 'without a worker')
{
	my $worker;
	my ($short, $long) = (CoordCluster::seconds(1), CoordCluster::seconds(4));

	if ($situation eq 'without a worker')
	{
		# the launcher and PostgreSQL's own take all that there are
		$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
		$node->restart;
		is(sql('SELECT count(*) FROM coord.worker WHERE pid IS NULL'), '1', 'there is no worker');
	}
	$worker = CoordCluster::stop_worker($node, 'postgres') if $situation eq 'beside a worker';
	# "kept" is renewed by hand, so that the deadline by which it is found is not its own any more
	as('victim', qq{
		SELECT coord.lease_acquire('ended $situation', id, '$short') FROM coord.agent WHERE name = 'victim';
		SELECT coord.lease_acquire('renewed $situation', id, '$long', auto_renew => true) FROM coord.agent WHERE name = 'victim';
		SELECT coord.lease_acquire('kept $situation', id, '$short') FROM coord.agent WHERE name = 'victim';
		SELECT coord.lease_renew(id, '1 h') FROM coord.lease WHERE resource_key = 'kept $situation';
		SELECT coord.task_create('t', queue => '$situation', resource_key => 'ended $situation')});
	is(as('victim', qq{SELECT count(*) FROM coord.agent a, coord.task_claim(a.id, '$situation') WHERE a.name = 'heir'}), '0',
		"$situation: a task is not claimed while its resource is held");
	ok($node->poll_query_until('postgres', qq{SELECT count(*) = 3 FROM coord.lease_deadline JOIN coord.lease_data l USING (slot)
		WHERE l.resource_key LIKE '% $situation' AND lease_deadline.check_at < clock_timestamp()}), "$situation: three leases have come due");

	my $hostile = session();
	$hostile->query_safe('BEGIN');
	is($hostile->query_safe(q{SELECT count(*) FROM coord.agent a, coord.task_claim(a.id, 'other') WHERE a.name = 'hostile'}), '0',
		"$situation: another role has looked for a task");
	is(sql(qq{SELECT count(*) FROM (SELECT FROM coord.lease_data WHERE resource_key LIKE '% $situation' FOR UPDATE SKIP LOCKED) l}), '3',
		"$situation: and has none of the leases locked");
	is(as('victim', qq{
		SET statement_timeout = '30 s';
		SELECT r.state FROM coord.lease l, coord.lease_renew(l.id, '1 h') r WHERE l.resource_key = 'kept $situation'}), 'active',
		"$situation: their holder renews one");
	is(as('victim', qq{SELECT t.resource_key FROM coord.agent a, coord.task_claim(a.id, '$situation') t WHERE a.name = 'heir'}),
		"ended $situation", "$situation: and who needs the resource of the one that has ended gets it");
	is(sql(qq{SELECT count(*) FROM coord.event WHERE type = 'lock.expired' AND payload ->> 'resource_key' = 'ended $situation'}), '1',
		"$situation: which is announced, once");
	$hostile->query_safe('ROLLBACK');
	$hostile->quit;
	kill 'CONT', $worker if $worker;
	ok($node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM coord.lease
		WHERE resource_key = 'renewed $situation' AND renewed_at > acquired_at}), "$situation: it renews what it is to renew") if $worker;
}

done_testing();
