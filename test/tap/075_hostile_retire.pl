# Who retires one agent after the other has the worker look through all claims, in case that one
# is being committed for them; but it does not have the worker for itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('hostile_retire');
$node->start;

# so many that a look through them takes the server a while, but not long
my $claims = int(5000 / CoordCluster::slowness());

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(qq{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	SELECT coord.grant_agent('hostile');
	SELECT count(coord.task_create('t', queue => 'many')) FROM generate_series(1, $claims)});
CoordCluster::has_worker($node, 'postgres');
is(sql(qq{SELECT count(*) FROM generate_series(1, $claims) n, coord.agent_register('claimant ' || n, heartbeat_timeout => '1 h') a,
	coord.task_claim(a.id, 'many', lease_ttl => '1 h')}), $claims, 'there are many claims');

my $hostile = CoordCluster::session_of($node, 'hostile');
$hostile->query_until(qr/retires/, q{
	\echo retires
	DO $$ BEGIN
		LOOP
			PERFORM coord.agent_retire(a.id) FROM coord.agent_register('passing') a;
			COMMIT;
		END LOOP;
	END $$;
});

# Once it is at it, how often the worker is seen to look.
my $looks = q{EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'coord worker' AND state = 'active'
	AND query = 'coord: giving back claims of ended agents')};
ok($node->poll_query_until('postgres', "SELECT $looks"), 'the worker looks through the claims');
sql('CREATE TABLE seen (looking boolean)');
sql(qq{DO \$\$ BEGIN
	FOR i IN 1 .. 1000 LOOP
		INSERT INTO seen SELECT $looks;
		PERFORM pg_stat_clear_snapshot(), pg_sleep(0.005);
	END LOOP;
END \$\$});
my ($looking, $seen) = split /\|/, sql('SELECT count(*) FILTER (WHERE looking), count(*) FROM seen');
note "the worker was looking in $looking of $seen samples";
cmp_ok($looking, '>', 0, 'it does so again');
cmp_ok($looking, '<', $seen / 2, 'but most of the time it does not');

# Nor does it hold up who asks for a sweep, which gives up after 10 s.
sql(q{CREATE ROLE victim LOGIN; SELECT coord.grant_agent('victim')});
my @times = sort { $a <=> $b } map { $node->safe_psql('postgres', q{
	CREATE TEMP TABLE began AS SELECT clock_timestamp() AS at;
	SELECT FROM coord.sweep();
	SELECT extract(epoch FROM clock_timestamp() - at) FROM began}, extra_params => [ '-U', 'victim' ]) } 1 .. 5;
note "sweeps took @times s";
cmp_ok($times[2], '<', 10, 'sweep() comes to its end meanwhile');

sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hostile'});
$hostile->{run}->finish;
done_testing();
