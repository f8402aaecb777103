# What is large is not collected before it is given, or refused: events of a megabyte, which
# take little on disk, cost who reads many of them no gigabytes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('large_results');
$node->append_conf('postgresql.conf', "log_statement = none\n");
$node->start;

# the most memory, in MB, that a session of its own has had in the end, and what it was told
sub costs
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my $answer = $session->query_safe($sql);
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;

	$session->quit;
	return ($kb / 1024, $answer);
}

$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('reader', heartbeat_timeout => '1 d');
	SELECT coord.task_create('t')});
CoordCluster::has_worker($node, 'postgres');
$node->safe_psql('postgres', q{
	SELECT count(coord.event_send('task.requeued', jsonb_build_object('task_id', t.id, 'reason', repeat('a', 1048000)), channel => 'coord.tasks'))
	FROM coord.task t, generate_series(1, 300)});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM coord.event WHERE position IS NULL}), 'they are delivered');

my ($little) = costs('SELECT count(*) FROM coord.event_list(max_events => 1)');
my ($mb, $answer) = costs('SELECT count(*), max(length(payload::text)) > 1048000 FROM coord.event_list(max_events => 10000)');
is($answer, '300|t', 'event_list gives all');
cmp_ok($mb, '<', $little + 150, 'and does not collect them');
($mb, $answer) = costs(q{SELECT count(*) FROM coord.agent a, LATERAL coord.event_subscribe(a.id, 'coord.tasks') s, coord.event_poll(a.id, 10000)});
cmp_ok($mb, '<', $little + 150, 'nor does event_poll');
($mb, $answer) = costs('SELECT count(*) FROM coord.task t, coord.history(t.id) WHERE length(detail::text) < 11000');
is($answer, '301', 'a history has what was sent about its task, in short');
cmp_ok($mb, '<', $little + 150, 'and does not collect it whole');
($mb, $answer) = costs(q{SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "event.list", "params": {"max_events": 10000}}') -> 'error' ->> 'message'});
is($answer, 'the answer is too large', 'what does not fit into an answer is refused');
cmp_ok($mb, '<', $little + 600, 'before all of it was collected');

$node->stop('fast');
done_testing();
