# The MCP bridge: who its client is, one line out for one request in, whatever the line,
# and both eras of the protocol.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use JSON::PP;
use McpClient;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('mcp');
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }
sub code { return $_[0]->{error}{code}; }

# ---- options

command_like([ 'coord-mcp', '--help' ], qr/Usage:/, '--help shows how it is called');
command_like([ 'coord-mcp', '--version' ], qr/^coord-mcp \d/, '--version its version');
for my $wrong ([ '--no-such-option' ], [ '--log-level', 'loud' ], [ '--heartbeat-timeout', 'soon' ], [ 'one', 'two' ])
{
	my $result = run_log([ 'coord-mcp', @$wrong ], '<', \'', '2>', \my $err, '>', \my $out);
	ok(!$result && $? >> 8 == 2 && $out eq '' && $err ne '', "@$wrong: a message on stderr, and exit 2");
}
run_log([ 'coord-mcp', 'host=x passwort=secret' ], '<', \'', '2>', \my $err);
is($? >> 8, 1, 'a connection string that cannot be read is the end');
like($err, qr/connection string is not valid/, 'with a message');

# ---- without the extension

my $early = McpClient->new($node);
is(code($early->initialize), -32603, 'without the extension a client gets an error');
like($early->request('tools/list')->{error}{data}{hint}, qr/CREATE EXTENSION coord/, 'that says what to do');
sql('CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');
is($early->initialize->{result}{protocolVersion}, '2025-11-25', 'and is served when that is done');
is($early->finish, 0, 'the end of stdin is the end');

# ---- who the client is

my $one = McpClient->new($node, '--log-level', 'info');
$one->logged(qr/connected/);
is(sql(q{SELECT count(*) FROM coord.agent WHERE status = 'active'}), '0', 'no agent before the client has said who it is');
is_deeply($one->request('ping')->{result}, {}, 'though it is served');
my $answer = $one->initialize('2025-06-18', 'some "client"');
is($answer->{result}{protocolVersion}, '2025-06-18', 'initialize is answered by the server');
is(sql(q{SELECT count(*) FROM coord.agent WHERE name ~ '^some "client"-[0-9a-f]{6}$' AND type = 'mcp' AND status = 'active'}), '1',
	'an agent is named after the client');
is(sql(q{SELECT metadata #>> '{client,version}' || (metadata ? 'pid') FROM coord.agent WHERE status = 'active'}), '1true', 'and knows it');
my $two = McpClient->new($node);
$two->initialize('2025-06-18', 'some "client"');
is(sql(q{SELECT count(*) FROM coord.agent WHERE name LIKE 'some%' AND status = 'active'}), '2', 'a second window is a second agent');
my $me = $one->tool('agent_heartbeat')->{id};
isnt($two->tool('agent_heartbeat')->{id}, $me, 'who it is, a tool need not be told');
is($one->tool('event_send', { type => 'x' })->{sender_id}, $me, 'nor who sends');

my $named = McpClient->new($node, '--name', 'reviewer', '--type', 'robot', '--queue', 'reviews', '--heartbeat-timeout', '77.5');
$named->initialize;
is(sql(q{SELECT type || ' ' || heartbeat_timeout FROM coord.agent WHERE name = 'reviewer'}), 'robot 00:01:17.5', 'name, type and heartbeat timeout can be chosen');
is($named->tool('task_create', { type => 't' })->{queue}, 'reviews', 'so can the queue');
my $again = McpClient->new($node, '--name', 'reviewer');
$again->initialize;
$again->logged(qr/warning: agent "reviewer" is active already/);
pass('a name that is in use is worth a warning');
$_->finish for $again, $named;
unlike($named->log, qr/active already/, 'one that is not is none');

my $odd = McpClient->new($node, '--log-level', 'info');
$odd->send_line('{"jsonrpc": "2.0", "id": "odd", "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {},
	"clientInfo": {"name": "odd\none", "version": "1", "size": 1e999999}}}' =~ s/\n\t//r);
ok($odd->answer('odd')->{error}, 'a client that says of itself what no number can be is refused');
ok($odd->initialize->{result}, 'but when it says it right, it is served');
ok($odd->tool('agent_heartbeat')->{id}, 'and has its agent');
$odd->finish;
like($odd->log, qr/registered agent "odd one-/, 'whose name is in one line of the log');

# a database that has a schema coord of somebody else's
for my $answer ('[[[', qq({"id": 1,\n"result": {}}\n{"jsonrpc": "2.0", "method": "notifications/message"}))
{
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS other');
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', qq{
		CREATE SCHEMA coord;
		CREATE FUNCTION coord.mcp(text, text) RETURNS text LANGUAGE sql AS 'SELECT \$answer\$$answer\$answer\$';
		CREATE FUNCTION coord.agent_register(text, text, interval, jsonb, OUT id uuid, OUT heartbeat_timeout interval, OUT registered_at timestamptz)
		LANGUAGE sql AS 'SELECT gen_random_uuid(), interval ''1 h'', now()'});
	my $deceived = McpClient->new($node, 'dbname=other');
	my $told = $deceived->answer($deceived->ask('initialize', { protocolVersion => '2025-11-25', capabilities => {}, clientInfo => { name => 'x', version => '1' } }));
	is($told->{error}{message} // 'it has a result', $answer eq '[[[' ? "the server's answer is not JSON" : 'it has a result', 'what a server answers is one answer, or an error');
	is($deceived->finish, 0, 'and does not keep the bridge from its end');
	is(scalar @{ $deceived->{lines} }, 0, 'nor does anything else come of it');
}

my $long = McpClient->new($node);
ok($long->initialize(undef, "\x{e9}" x 400)->{result}, 'a client may have a long name');
is(sql(q{SELECT count(*) FROM coord.agent WHERE octet_length(name) = 2 * 252 + 7 AND status = 'active'}), '1', 'which is cut between characters');
$long->finish;
my $nameless = McpClient->new($node);
ok($nameless->tool('task_list')->{tasks}, 'one that calls a tool at once is served too');
is(sql(q{SELECT count(*) FROM coord.agent WHERE name ~ '^mcp-client-' AND status = 'active'}), '1', 'as an agent with some name');
$nameless->finish;

# ---- one line out for one request in, whatever comes in

sub is_refused
{
	my ($client, $line, $code, $what) = @_;

	$client->send_line($line);
	my $refusal = $client->answer_without_id;
	is(code($refusal), $code, "$what: error $code without an id");
	ok(defined $refusal->{error}{data}{sqlstate} && defined $refusal->{error}{data}{retryable}, "$what: with sqlstate and retryable");
}

is_refused($one, 'nonsense', -32700, 'no JSON');
is_refused($one, '{"jsonrpc": "2.0", "id": 1, "method": "ping"', -32700, 'half of a message');
is_refused($one, '{"jsonrpc": "2.0", "id": 1, "method": "ping"} x', -32700, 'more than a message');
is_refused($one, qq({"jsonrpc": "2.0", "id": "\0", "method": "ping"}), -32700, 'a NUL');
is_refused($one, qq({"jsonrpc": "2.0", "id": "\xff", "method": "ping"}), -32700, 'no UTF-8');
is_refused($one, '[' x 100_000, 1006, 'deep nesting');
is_refused($one, '[' x 1000 . ']' x 1000, -32600, 'nesting that is not that deep');
is_refused($one, '"x"', -32600, 'a string');
is_refused($one, "{\"jsonrpc\": \"2.0\", \"id\": $_, \"method\": \"ping\"}", -32600, "an id that is $_") for 'null', '1.5', 'true', '[]', '{}';
is_refused($one, '{"jsonrpc": "2.0"}', -32600, 'no method');
is_refused($one, '{"jsonrpc": "2.0", "id": 1, "method": "ping", "x": "' . 'x' x 10_000_000 . '"}', 1006, '10 MB');
is_refused($one, 'x' x 25_000_000, 1006, 'more than that');
is_refused($one, '[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600, 'a batch, in a revision that has none');
$one->send_bytes(" \n\r\n\t\n");
is_deeply($one->request('ping'), { jsonrpc => '2.0', id => $one->{next_id} - 1, result => {} }, 'blank lines are nothing');
$one->send_line('{"jsonrpc": "2.0", "id": "\u0061\"", "method": "ping"}' . "\r");
is($one->answer('a"')->{id}, 'a"', 'an id may be a string, and a line may end as on Windows');
$one->send_line('{"jsonrpc": "2.0", "id": 12345678901234567890123, "method": "ping"}');
is($one->answer('12345678901234567890123')->{id} . '', '12345678901234567890123', 'or a large number');
is(code($one->request('no/such')), -32601, 'an unknown method is refused by the server');
is(code($one->request('tools/call', { name => 'no_such' })), -32602, 'so is an unknown tool');
$one->send_line('{"jsonrpc": "2.0", "id": "zero", "method": "tools/call", "params": {"name": "task_list", "arguments": {"type": "\u0000"}}}');
is(code($one->answer('zero')), -32600, 'what jsonb cannot hold too, under its id');
$one->notify('notifications/unknown');
$one->send_message({ id => 78, result => {} });
is($one->rest, 0, 'neither notifications nor responses are answered');
is(code($one->request('notifications/unknown')), -32601, 'what has an id is no notification');

ok($one->tool('task_create', { type => 'big', queue => 'big', payload => { x => 'x' x 900_000 } })->{id}, 'a large request is served');
is(sql(q{SELECT length(payload ->> 'x') FROM coord.task WHERE type = 'big'}), '900000', 'as a whole');
is($one->tool('task_create', { type => 'huge', payload => { x => 'x' x 9_000_000 } })->{code}, 1006, 'one that is too large for the server is refused there');
my $many = 3000;
my @ids = map { $one->ask('ping') } 1 .. $many;
is(scalar(grep { $one->answer($_)->{result} } @ids), $many, 'many requests are answered, each by its own');
is($one->rest, 0, 'and by nothing else');

# a client that does not read its answers for a while: they are kept, and no more is read
sql(q{SELECT count(coord.task_create('much', to_jsonb(repeat('x', 5000)), queue => 'much')) FROM generate_series(1, 50)});
@ids = map { $two->ask_tool('task_list', { queue => 'much' }) } 1 .. 8;
is(scalar(grep { @{ $two->outcome($_)->{tasks} } == 50 } @ids), 8, 'a client may read late what it has asked for');

# ---- batches

my $batcher = McpClient->new($node);
$batcher->initialize('2025-03-26');
$batcher->send_line('[{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/x"},
	{"jsonrpc": "2.0", "id": 2, "method": "no/such"}]' =~ s/\n//r);
my $batch = $batcher->wait_for(sub { ref eq 'ARRAY' });
is_deeply([ map { $_->{id} } @$batch ], [ 1, 2 ], 'the one revision that has batches is served them');
is_refused($batcher, '[]', -32600, 'an empty one');
$batcher->send_line('[{"jsonrpc": "2.0", "method": "notifications/x"}]');
is($batcher->rest, 0, 'one of notifications has no answer');
sql(q{SELECT coord.task_create('batched', queue => 'batch')});
$batcher->send_line('[{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "task_claim", "arguments": {"queue": "batch", "wait": 60, "lease_ttl": 6}}},
	{"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "task_claim", "arguments": {"queue": "batch", "wait": 60}}}]' =~ s/\n//r);
$batch = $batcher->wait_for(sub { ref eq 'ARRAY' });
is_deeply([ map { scalar @{ $_->{result}{structuredContent}{tasks} } } @$batch ], [ 1, 0 ], 'nothing waits in a batch');
ok(becomes(q{lease_expires_at > claimed_at + interval '7 s' FROM coord.task WHERE type = 'batched' AND state = 'claimed'}), 'what it claims is renewed');
$batcher->finish;

# ---- the new era

my $modern = McpClient->new($node);
$answer = $modern->answer($modern->modern('server/discover'));
is_deeply($answer->{result}{supportedVersions}, ['2026-07-28'], 'the new era is served');
is(sql(q{SELECT count(*) FROM coord.agent WHERE name ~ '^modern-' AND status = 'active'}), '1', 'its client is an agent too');
is(code($modern->answer($modern->modern('tools/list', {}, '1900-01-01'))), -32022, 'a version that is not known is refused');
is(code($modern->answer($modern->modern('subscriptions/listen', { notifications => {} }, '1900-01-01'))), -32022, 'also where the bridge answers');
is(code($modern->request('subscriptions/listen', { notifications => {} })), -32602, 'as is a missing one');
my @listens = map { $modern->modern('subscriptions/listen', { notifications => { toolsListChanged => JSON::PP::true } }) } 1 .. 2;
for my $listen (@listens)
{
	my $acknowledged = $modern->notification;
	is($acknowledged->{method}, 'notifications/subscriptions/acknowledged', 'a subscription is acknowledged');
	is_deeply($acknowledged->{params}, { _meta => { 'io.modelcontextprotocol/subscriptionId' => $listen }, notifications => {} },
		'by its id, with nothing that could change');
}
$modern->notify('notifications/cancelled', { requestId => $listens[0] });
my $id = $modern->modern('tools/list');
ok($modern->answer($id)->{result}{tools}, 'requests are served meanwhile');
is($modern->finish, 0, 'it ends');
is_deeply($modern->{lines}, [ { jsonrpc => '2.0', id => $listens[1], result => { resultType => 'complete',
	_meta => { 'io.modelcontextprotocol/subscriptionId' => $listens[1] } } } ], 'and with it the subscription that was not cancelled');
is(code($one->request('subscriptions/listen', { notifications => {} })), -32601, 'the old era has no subscriptions');

# ---- the end

$one->ask_tool('task_create', { type => 'last', queue => 'last' }) for 1 .. 50;
$one->send_bytes('{"jsonrpc": "2.0", "id": "unended", "method": "ping"}');
is($one->finish, 0, 'at the end of stdin it ends');
is(scalar @{ $one->{lines} }, 51, 'when all that was asked for is answered, a last line without a newline too');
is(sql(q{SELECT count(*) FROM coord.task WHERE type = 'last'}), '50', 'and done');
$two->finish;
is(sql(q{SELECT count(*) FROM coord.agent WHERE status <> 'retired'}), '0', 'the agents are retired');
is($one->log . $two->log, slurp_file($one->{log}), 'there was nothing to warn of');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/(PANIC|FATAL|WARNING):/, 'nor for the server');
done_testing();
