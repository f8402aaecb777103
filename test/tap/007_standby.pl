# A hot standby has no worker and can be read; from the moment of promotion it has
# one, and tokens are greater than those of the old primary, also than those that the
# standby had not received.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = CoordCluster::new_node('primary', allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('before', id, '1 h') FROM coord.agent;
});
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', q{SELECT state FROM coord.lease WHERE resource_key = 'before'}), 'active', 'a standby can be read');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'coord%'}), '0', 'nothing of coord runs there');
my ($ret, $out, $err) = $standby->psql('postgres', q{SELECT coord.lease_acquire('x', id) FROM coord.agent});
like($err, qr/read-only|recovery/, 'a grant is refused there');

# the standby misses the last grants
$standby->stop;
my $last = $primary->safe_psql('postgres', q{
	SELECT max(fencing_token) FROM coord.agent a, generate_series(1, 100) g, coord.lease_acquire('lost ' || g, a.id, '1 h')});
$primary->stop('immediate');
$standby->start;
$standby->promote;

ok($standby->poll_query_until('postgres', 'SELECT pid IS NOT NULL FROM coord.worker'), 'the promoted standby has a worker');
is($standby->safe_psql('postgres', qq{SELECT fencing_token > $last FROM coord.agent, coord.lease_acquire('after', id, '100 ms')}), 't',
	'its tokens are greater than the last ones of the old primary');
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.event_list(type => 'lock.expired')}), 'the worker works');

done_testing();
