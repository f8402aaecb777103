# What is large is not collected before it is given, or refused: events and tasks of a
# megabyte, which take little on disk, cost who asks for many of them no gigabytes.

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

sub takes_less
{
	my ($mb, $bound, $name) = @_;

	SKIP:
	{
		skip 'a server that watches its memory takes more of it', 1 if CoordCluster::slowness() > 1;
		cmp_ok($mb, '<', $bound, $name);
	}
	return;
}

$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('reader', heartbeat_timeout => '1 d');
	SELECT coord.task_create('t')});
CoordCluster::has_worker($node, 'postgres');
$node->safe_psql('postgres', q{
	SELECT count(coord.event_send('task.dead', jsonb_build_object('task_id', t.id, 'queue', t.queue, 'error', repeat('a', 1048000)), channel => 'coord.tasks'))
	FROM coord.task t, generate_series(1, 300)});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM coord.event WHERE position IS NULL}), 'they are delivered');

my ($little) = costs('SELECT count(*) FROM coord.event_list(max_events => 1)');
my ($mb, $answer) = costs('SELECT count(*), max(length(payload::text)) > 1048000 FROM coord.event_list(max_events => 10000)');
is($answer, '300|t', 'event_list gives all');
takes_less($mb, $little + 150, 'and does not collect them');
($mb, $answer) = costs(q{SELECT count(*) FROM coord.agent a, LATERAL coord.event_subscribe(a.id, 'coord.tasks') s, coord.event_poll(a.id, 10000)});
takes_less($mb, $little + 150, 'nor does event_poll');
($mb, $answer) = costs('SELECT count(*) FROM coord.task t, coord.history(t.id) WHERE length(detail::text) < 11000');
is($answer, '301', 'a history has what was sent about its task, in short');
takes_less($mb, $little + 150, 'and does not collect it whole');
($mb, $answer) = costs(q{SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "event.list", "params": {"max_events": 10000}}') -> 'error' ->> 'message'});
is($answer, 'the answer is too large', 'what does not fit into an answer is refused');
takes_less($mb, $little + 600, 'before all of it was collected');
$node->safe_psql('postgres', q{SELECT count(coord.event_send('small', to_jsonb(repeat('a', 140000)), channel => 'compressed')) FROM generate_series(1, 3000)});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM coord.event WHERE position IS NULL}), 'what is compressed where it is stored is delivered');
($mb, $answer) = costs(q{SELECT coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "event.list", "params": {"channel": "compressed", "max_events": 10000}}') -> 'error' ->> 'message'});
is($answer, 'the answer is too large', 'and as large for an answer as what is not');
takes_less($mb, $little + 300, 'so that it is refused as early');
($mb, $answer) = costs(q{SELECT coord.rpc('{"jsonrpc": "2.0", "method": "event.list", "params": {"channel": "compressed", "max_events": 10000}}') IS NULL});
is($answer, 't', 'where nobody is told, too');
takes_less($mb, $little + 300, 'and as early');

# ---- arguments

my $many = q{(SELECT '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "task_create_many", "arguments": {"tasks": [' ||
	string_agg('{}', ',') || ']}}}' FROM generate_series(1, 200000))};
($little) = costs("SELECT jsonb_typeof($many\::jsonb)");
($mb, $answer) = costs("SELECT coord.mcp($many, '{\"queue\": \"q\"}') ->> 'result' LIKE '%Task 1 has no%type%'");
is($answer, 't', 'the first task that is not right is refused');
takes_less($mb, $little + 100, 'before all have been given the defaults of the session');

my $tiny = q{(SELECT ('[' || string_agg('{"type": "t", "queue": "tiny"}', ',') || ']')::jsonb FROM generate_series(1, 50000))};
($little) = costs("SELECT jsonb_typeof($tiny)");
($mb, $answer) = costs("SELECT count(*) FROM coord.task_create_many($tiny)");
is($answer, '50000', 'many small tasks are created');
takes_less($mb, $little + 50, 'and take little more than they are long');

# ---- tasks

$node->safe_psql('postgres', q{
	SELECT count(coord.task_create('t', to_jsonb(repeat('a', 1048000)), queue => 'large')) FROM generate_series(1, 200);
	SELECT count(coord.task_create('t', '[1e131000, 1e131000, 1e131000, 1e131000, 1e131000, 1e131000, 1e131000]', queue => 'long')) FROM generate_series(1, 100)});
my $claim = q{FROM coord.agent a, LATERAL coord.task_claim(a.id, 'large', max_tasks => 10000, lease_ttl => '1 h')};
my ($one) = costs("SELECT count(*) FROM coord.agent a, LATERAL coord.task_claim(a.id)");
($mb, $answer) = costs("SELECT count(*), count(DISTINCT payload) $claim");
is($answer, '33|1', 'a batch ends when it has 32 MiB');
takes_less($mb, $one + 150, 'which are all that it has in memory');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coord.agent a, LATERAL coord.task_claim(a.id, 'long', max_tasks => 10000)}), '37',
	'also when they are of few bytes, and as text of many');
$node->safe_psql('postgres', q{
	SELECT count(coord.task_create('t', to_jsonb(repeat('a', 140000)), queue => 'compressed')) FROM generate_series(1, 1000)});
($mb, $answer) = costs(q{SELECT count(*) FROM coord.agent a, LATERAL coord.task_claim(a.id, 'compressed', max_tasks => 10000)});
is($answer, '240', 'or are compressed where they are stored');
takes_less($mb, $one + 30, 'which they stay meanwhile');
is($node->safe_psql('postgres', q{
	SELECT jsonb_array_length(coord.rpc(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'task.claim', 'params',
		jsonb_build_object('agent_id', id, 'queue', 'large', 'max_tasks', 10000, 'lease_ttl', 3600))) -> 'result' -> 'tasks') FROM coord.agent}), '33',
	'by JSON-RPC, too, whose answer has room for that');
$node->safe_psql('postgres', q{
	SELECT count(coord.task_create('t', to_jsonb(repeat(E'\x01', 170000)), queue => 'escaped')) FROM generate_series(1, 80)});
is($node->safe_psql('postgres', q{SELECT count(*) FROM coord.agent a, LATERAL coord.task_claim(a.id, 'escaped', max_tasks => 1000)}), '33',
	'or become longer in JSON');
is($node->safe_psql('postgres', q{
	SELECT jsonb_array_length(coord.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'tools/call', 'params',
		jsonb_build_object('name', 'task_claim', 'arguments', jsonb_build_object('agent_id', id, 'queue', 'escaped', 'max_tasks', 1000)))::text, '{}')::jsonb
		-> 'result' -> 'structuredContent' -> 'tasks') FROM coord.agent}), '33', 'also where an agent asks for them');
my @rest = map { $node->safe_psql('postgres', "SELECT count(*) $claim") } 1 .. 5;
is("@rest", '33 33 33 33 2', 'the next batch goes on');
my $complete = q{SELECT count(*), count(*) FILTER (WHERE c.ordinality = t.ordinality AND length(payload::text) > 1048000)
	FROM (SELECT jsonb_agg(jsonb_build_object('task_id', id, 'fencing_token', fencing_token) ORDER BY md5(id::text)) AS tasks
		FROM coord.task WHERE queue = 'large' AND state = 'claimed') a,
		LATERAL coord.task_complete_many(tasks) WITH ORDINALITY c JOIN
		LATERAL jsonb_array_elements(tasks) WITH ORDINALITY t ON t.value ->> 'task_id' = c.id::text};
($mb, $answer) = costs($complete);
is($answer, '200|200', 'all are completed, and given in the order in which they were named');
takes_less($mb, $one + 150, 'which are not collected');

$node->stop('fast');
done_testing();
