# A reader waits for a worker that is about to begin: what a reader delivers by itself, nobody
# else delivers before its transaction ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('late_worker');
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	SELECT coord.grant_agent('hostile')});
CoordCluster::has_worker($node, 'postgres');

my $locks = q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.usename = 'hostile' AND locktype = 'advisory' AND objsubid > 2};
my $launcher = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'coord launcher'});
my ($waited, $locked, $out) = (0, 1, '');

# a second may pass before the launcher gets its turn, on a machine that is busy enough
for (my $i = 0; $i < 10 && $locked && CoordCluster::slowness() == 1 || $i == 0; $i++)
{
	my $hostile = CoordCluster::session_of($node, 'hostile');
	my $worker = sql('SELECT pid FROM coord.worker');

	kill 'STOP', $launcher;
	sql("SELECT pg_terminate_backend($worker)");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker");
	sql("SELECT coord.event_send('t')");
	$hostile->query_safe('BEGIN');
	$hostile->query_until(qr/asks/, "\\echo asks\nSELECT count(*) FROM coord.event_list(type => 't');\n\\echo told\n");
	$waited ||= sql(q{SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE usename = 'hostile'}) eq 't';
	kill 'CONT', $launcher;
	$out = $hostile->query_until(qr/told/, '');
	$locked = sql($locks);
	$hostile->quit;
	CoordCluster::has_worker($node, 'postgres');
}
SKIP:
{
	skip 'the worker of a slow server takes longer than a reader waits', 3 if CoordCluster::slowness() > 1;
	like($out, qr/^[1-9]\d*$/m, 'a reader without a worker is told what was sent');
	ok($waited, 'for which he waits for one');
	is($locked, 0, 'and has not delivered it');
}

# one that does not come is not waited for, for a while
kill 'STOP', $launcher;
my $worker = sql('SELECT pid FROM coord.worker');
sql("SELECT pg_terminate_backend($worker)");
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker");
sql("SELECT coord.event_send('without')");
is(sql(q{SELECT count(*) FROM coord.event_list(type => 'without')}), '1', 'where none comes, readers deliver');
kill 'CONT', $launcher;
CoordCluster::has_worker($node, 'postgres');

# and where there is nothing to deliver, nobody is kept from it
ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM coord.event WHERE position IS NULL)
	AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'coord worker' AND wait_event_type IN ('Extension', 'Activity'))}), 'all is delivered, and the worker waits');
my $reader = CoordCluster::session_of($node, 'hostile');
kill 'STOP', $launcher;
$worker = sql('SELECT pid FROM coord.worker');
sql("SELECT pg_terminate_backend($worker)");
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker");
$reader->query_safe('BEGIN; SELECT count(*) FROM coord.event_list()');
is(sql($locks), 0, 'a reader with nothing to deliver does not deliver');
kill 'CONT', $launcher;
$reader->quit;

$node->stop('fast');
done_testing();
