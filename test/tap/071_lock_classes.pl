# No lock of coord's is another one in disguise: what roles give names to does not collide with
# what everybody needs, whatever the name, nor with what another role has named.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_cron_node('lock_classes', 'postgres', 'pg_cron');
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }

my ($ret) = $node->psql('postgres', 'CREATE EXTENSION pg_cron');
plan skip_all => 'no pg_cron' if $ret != 0;
sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE ann LOGIN;
	CREATE ROLE bob LOGIN;
	SELECT coord.grant_agent('ann'), coord.grant_agent('bob');
	GRANT USAGE ON SCHEMA cron TO ann, bob;
	SELECT coord.event_send('sent', channel => 'c')});

# There is no worker, so it is this session that delivers, retires and counts.
my $locks = q{SELECT %s FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()};
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT coord.sweep(); SET LOCAL ROLE ann; SELECT coord.task_unschedule('nightly'); RESET ROLE});
my $n = $session->query_safe(sprintf $locks, 'count(*)');
cmp_ok($n, '>=', 4, 'a transaction has locks of several kinds: delivery, retention, counting, a schedule');
is($session->query_safe(sprintf $locks, 'count(DISTINCT objsubid)'), $n, 'each in a class of its own');
is($session->query_safe(sprintf $locks, 'count(*) FILTER (WHERE objsubid IN (1, 2))'), '0', 'none in one that roles can name');
$session->query_safe('ROLLBACK');

# of one name, by two roles
$session->query_safe(q{BEGIN; SET LOCAL ROLE ann; SELECT coord.task_unschedule('nightly'); SET LOCAL ROLE bob; SELECT coord.task_unschedule('nightly'); RESET ROLE});
is($session->query_safe(sprintf $locks, 'count(DISTINCT (classid, objid)), count(DISTINCT objsubid)'), '2|1', 'two roles\' schedules of one name are two locks');
is($session->query_safe(sprintf $locks, q{string_agg(classid::regrole::text, ' ' ORDER BY classid::regrole::text)}), 'ann bob', 'told apart by the role, whatever the name\'s hash');
$session->query_safe('ROLLBACK');
$session->quit;

$node->stop('fast');

done_testing();
