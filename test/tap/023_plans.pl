# The sweep's statements are planned while the relations are small, and kept when they
# have grown: claims that run out are looked up one by one all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

use constant CLAIMS => 5000;

my $node = CoordCluster::new_node('plans');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nautovacuum = off\n");
$node->start;

# one session, whose plans are kept
my $entries = $node->safe_psql('postgres', q{
CREATE EXTENSION coord;
SELECT FROM coord.agent_register('a', heartbeat_timeout => '1 hour');
SELECT FROM coord.queue_set('q', backoff_base => '0 s');
CREATE PROCEDURE lose_claims(tasks integer, batch integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', 'q', 'max_attempts', 100)) FROM generate_series(1, tasks)));
	COMMIT;
	FOR i IN 1..tasks / batch LOOP
		PERFORM coord.task_claim((SELECT id FROM coord.agent), 'q', max_tasks => batch, lease_ttl => '100 ms');
		COMMIT;
	END LOOP;
	WHILE EXISTS (SELECT FROM coord.task_live WHERE lease_expires_at > clock_timestamp()) LOOP END LOOP;
END
$$;
CALL lose_claims(20, 10);
SELECT coord.sweep();
ANALYZE coord.task_live, coord.claim_batch, coord.claim_deadline, coord.agent_data;
DO $$
BEGIN
	FOR i IN 1..10 LOOP
		CALL lose_claims(2, 2);
		PERFORM coord.sweep();
	END LOOP;
END
$$;
CALL lose_claims(} . CLAIMS . q{, 100);
SELECT pg_stat_force_next_flush();
CREATE TABLE before AS SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'task_live_pkey';
SELECT coord.sweep();
SELECT pg_stat_force_next_flush();
SELECT 'entries ' || s.idx_tup_read - before.idx_tup_read FROM pg_stat_user_indexes s, before WHERE indexrelname = 'task_live_pkey';
SELECT 'claimed ' || count(*) FROM coord.task_live WHERE state = 'claimed';
});

like($entries, qr/^claimed 0$/m, 'all claims that ran out are given back');
my ($read) = $entries =~ /^entries (\d+)$/m;
cmp_ok($read, '>=', CLAIMS, 'their tasks are looked up');
cmp_ok($read, '<', 10 * CLAIMS, 'and no more than a few times each');

done_testing();
