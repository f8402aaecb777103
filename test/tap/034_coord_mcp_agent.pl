# The MCP bridge as the keeper of an agent: it waits for work and locks, renews what is
# held, passes events on, strands nothing, and survives the server, as the server does it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use McpClient;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = CoordCluster::new_node('mcp_agent');
$node->append_conf('postgresql.conf', "coord.max_listened_queues = 4\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

# A condition that is to hold; polled for in the server, so that it is no matter of speed.
sub holds { my ($what, $name) = @_; return is(sql("SELECT $what"), 't', $name); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('rival', heartbeat_timeout => '1 h')});
CoordCluster::has_worker($node, 'postgres');
my $rival = q{(SELECT id FROM coord.agent WHERE name = 'rival')};

# what is renewed lasts so many seconds, and longer when it was renewed
my $ttl = 6 * CoordCluster::slowness();
my $longer = $ttl + 1 . ' s';
my $client = McpClient->new($node, '--heartbeat-timeout', 10 * $ttl, '--log-level', 'info');
$client->initialize;
my $me = $client->tool('agent_heartbeat')->{id};

# ---- waiting for work

is_deeply($client->tool('task_claim', { queue => 'w', wait => 0.2 })->{tasks}, [], 'a wait that is in vain is answered with nothing');
my $waiting = $client->ask_tool('task_claim', { queue => 'w', wait => 3000 });
ok(becomes(q{count(*) = 1 FROM pg_stat_activity WHERE application_name = 'coord-mcp' AND state = 'idle'}), 'a claim waits');
is($client->rest, 0, 'while others are served');
sql(q{SELECT coord.task_create('awaited', queue => 'w')});
is($client->outcome($waiting)->{tasks}[0]{type}, 'awaited', 'and is answered when there is a task');

# It looks into the queue by itself too, ever more seldom, so that this shows what the notification does.
my $quiet = McpClient->new($node, '--heartbeat-timeout', '3600');
$quiet->initialize(undef, 'quiet');
$waiting = $quiet->ask_tool('task_claim', { queue => 'quiet', wait => 3000 });
ok(becomes(q{count(*) = 1 FROM pg_stat_activity a, coord.agent g WHERE a.application_name = 'coord-mcp' AND a.state = 'idle'
	AND a.state_change < clock_timestamp() - interval '2.5 s' AND g.name LIKE 'quiet%'}), 'another one has not looked for a while');
sql(q{SELECT coord.task_create('told', queue => 'quiet')});
is($quiet->outcome($waiting)->{tasks}[0]{type}, 'told', 'and is answered when there is a task');
cmp_ok(sql(q{SELECT extract(epoch FROM claimed_at - created_at) FROM coord.task WHERE type = 'told'}), '<', 2, 'soon');
$quiet->finish;

# one for each of several that wait; none is taken by a request that was cancelled
my @waiting = map { $client->ask_tool('task_claim', { queue => 'w', wait => 3000 }) } 1 .. 5;
$client->notify('notifications/cancelled', { requestId => $waiting[1] });
sql(q{SELECT coord.task_create('one of four', queue => 'w') FROM generate_series(1, 4)});
is(scalar(grep { @{ $client->outcome($_)->{tasks} } == 1 } @waiting[ 0, 2 .. 4 ]), 4, 'several that wait get one task each');
is($client->rest, 0, 'one that was cancelled gets none, and no answer');

# of a queue that cannot be listened to any more
my @many = map { $client->ask_tool('task_claim', { queue => "w$_", wait => 3000 }) } 1 .. 5;
$client->logged(qr/cannot listen to queue "w\d"/);
sql(q{SELECT coord.task_create('polled', queue => 'w' || g) FROM generate_series(1, 5) g});
is(scalar(grep { @{ $client->outcome($_)->{tasks} } == 1 } @many), 5, 'a queue for which there is no listening is looked into now and then');

# what others hold
sql(qq{SELECT coord.lease_acquire('lock', $rival, '1 h')});
is($client->tool('lock_acquire', { resource_key => 'lock' })->{code}, 1002, 'a lock that another holds is refused');
my $refusal = $client->tool('lock_acquire', { resource_key => 'lock', wait => 0.3 });
is($refusal->{code}, 1002, 'after a wait too');
ok($refusal->{holder} && $refusal->{retry_after}, 'with its holder');
$waiting = $client->ask_tool('lock_acquire', { resource_key => 'lock', wait => 3000, ttl => $ttl });
is($client->rest, 0, 'a lock is waited for');
sql(q{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = 'lock'});
my $lock = $client->outcome($waiting);
is($lock->{resource_key}, 'lock', 'until it is there');
sql(q{SELECT coord.task_create('named', queue => 'n')});
my ($named, $token) = split /\|/, sql(qq{SELECT id, fencing_token FROM coord.task_claim($rival, 'n', lease_ttl => '1 h')});
$waiting = $client->ask_tool('task_claim', { task_id => $named, queue => 'n', wait => 3000 });
is($client->rest, 0, 'so is a task that another has claimed');
sql("SELECT coord.task_release('$named', $token)");
is($client->outcome($waiting)->{tasks}[0]{id}, $named, 'until it is given back');
like($client->tool('task_claim', { wait => -1 })->{message}, qr/wait/, 'a wait that is none is refused by the server');

# ---- what is held is kept

sql(q{SELECT coord.task_create('short', queue => 'h'), coord.task_create('longer', queue => 'h'),
	coord.task_create('with resource', queue => 'h', resource_key => 'resource')});
my %held = map { $_->{type} => $_ } @{ $client->tool('task_claim', { queue => 'h', lease_ttl => $ttl, max_tasks => 3 })->{tasks} };
is(scalar keys %held, 3, 'several tasks are claimed for a few seconds');
ok(becomes(qq{min(lease_expires_at - claimed_at) > interval '$longer' FROM coord.task WHERE queue = 'h' AND state = 'claimed' HAVING count(*) = 3}),
	'they are renewed, all of them, for longer than that');
ok(becomes(qq{state = 'active' AND expires_at - acquired_at > interval '$longer' FROM coord.lease WHERE resource_key = 'resource'}), 'the resource of one with it');
ok(becomes(qq{state = 'active' AND expires_at - acquired_at > interval '$longer' FROM coord.lease WHERE resource_key = 'lock'}), 'the lock too');
is($client->tool('task_renew', { task_id => $held{longer}{id}, fencing_token => $held{longer}{fencing_token}, lease_ttl => 600 })->{id}, $held{longer}{id},
	'the model renews one for ten minutes');
ok(becomes(qq{expires_at - renewed_at < interval '$longer' AND renewed_at > (SELECT lease_expires_at - interval '599 s' FROM coord.task WHERE id = '$held{longer}{id}')
	FROM coord.lease WHERE resource_key = 'lock'}), 'while others are renewed');
holds(qq{lease_expires_at > clock_timestamp() + interval '500 s' FROM coord.task WHERE id = '$held{longer}{id}'}, 'that one is not shortened');
is($client->tool('task_complete', { task_id => $held{$_}{id}, fencing_token => $held{$_}{fencing_token} })->{state}, 'completed', "the task \"$_\" is completed")
	for 'short', 'longer';
is($client->tool('lock_release', { lease_id => $lock->{id} })->{released}, JSON::PP::true, 'the lock is released');
my $auto = $client->tool('lock_acquire', { resource_key => 'auto', ttl => $ttl, auto_renew => JSON::PP::true });
ok(becomes(qq{expires_at - acquired_at > interval '$longer' FROM coord.lease WHERE id = '$auto->{id}'}), 'what the server renews is renewed');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coord-mcp' AND query LIKE '%lease_renew%'}), '0', 'and not by the bridge');
my $brief = McpClient->new($node, '--heartbeat-timeout', $ttl);
$brief->initialize(undef, 'brief');
my $brief_id = $brief->tool('agent_heartbeat')->{id};
ok(becomes(qq{clock_timestamp() > registered_at + heartbeat_timeout FROM coord.agent WHERE id = '$brief_id'}), 'an agent is older than its heartbeat timeout');
holds(qq{status = 'active' FROM coord.agent WHERE id = '$brief_id'}, 'and alive');
$brief->finish;

# a renewal that is refused takes nothing else with it
sql(q{SELECT coord.task_create('lost', queue => 'l') FROM generate_series(1, 3)});
my @lost = @{ $client->tool('task_claim', { queue => 'l', lease_ttl => $ttl, max_tasks => 3 })->{tasks} };
sql(qq{SELECT coord.task_cancel('$lost[1]{id}')});
$client->logged(qr/task $lost[1]{id} was lost/);
ok(becomes(qq{count(*) = 2 FROM coord.task WHERE id IN ('$lost[0]{id}', '$lost[2]{id}') AND state = 'claimed' AND lease_expires_at - claimed_at > interval '$longer'}),
	'one that is cancelled by others is forgotten, the rest is kept');

# ---- cancelled requests

my $blocker = $node->background_psql('postgres');
sql(q{SELECT coord.queue_set('slow', max_claimed => 5); SELECT coord.task_create('slow', queue => 'slow')});
$blocker->query_safe(q{BEGIN; LOCK TABLE coord.queue_slot, coord.task_live IN ACCESS EXCLUSIVE MODE});
my $slow = $client->ask_tool('task_claim', { queue => 'slow' });
my $behind = $client->ask_tool('task_create', { type => 'behind', queue => 'b' });
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'coord-mcp' AND wait_event_type = 'Lock'}),
	'a claim takes its time');
$client->notify('notifications/cancelled', { requestId => $_ }) for $slow, $behind, 'no such';
$client->send_line('nonsense');     # is answered when what was before it has been read
$client->answer_without_id;
$blocker->query_safe('COMMIT');
is($client->rest, 0, 'requests that are cancelled, in flight or not yet, are not answered');
ok(becomes(q{state = 'pending' AND attempts = 0 FROM coord.task WHERE type = 'slow'}), 'what one has claimed meanwhile is given back');
is(sql(q{SELECT count(*) FROM coord.task WHERE type = 'behind'}), '0', 'the other was not done');
$blocker->quit;

# ---- events

sub event { my ($type, $severity) = @_; sql("SELECT coord.event_send('$type', '{\"n\": 1}', '$me', severity => '" . ($severity // 'info') . "')"); }

# The event of that type, which is among those that are passed on.
sub told
{
	my ($type) = @_;
	return $client->wait_for(sub { ref eq 'HASH' && ($_->{method} // '') eq 'notifications/message' && $_->{params}{data}{type} eq $type })->{params}{data};
}

event('first');
my $message = $client->notification;
is($message->{method}, 'notifications/message', 'an event is passed on');
is($message->{params}{logger}, 'coord', 'as a log message of coord');
is_deeply([ sort keys %{ $message->{params}{data} } ], [qw(channel created_at id payload position sender_id severity type)], 'with all that it has');
is_deeply($message->{params}{data}{payload}, { n => 1 }, 'its payload too');
sql(q{SELECT coord.event_send('not for us'), coord.event_send('nor this', channel => 'c')});
sql(qq{SELECT coord.event_send('burst ' || g, recipient_id => '$me') FROM generate_series(1, 250) g});
is_deeply([ map { $client->notification->{params}{data}{type} } 1 .. 250 ], [ map { "burst $_" } 1 .. 250 ], 'a burst is passed on, once, in order');
is_deeply($client->request('logging/setLevel', { level => 'warning' })->{result}, {}, 'the client sets a level');
event('ignored');
event('serious', 'critical');
is($client->notification->{params}{data}{type}, 'serious', 'what is below it is left out');
ok($client->request('logging/setLevel', { level => 'loud' })->{error}, 'a level that is none is refused');
$client->request('logging/setLevel', { level => 'debug' });
is($client->rest, 0, 'nothing else was told');

my $unready = McpClient->new($node, '--name', 'unready');
$unready->request('initialize', { protocolVersion => '2025-11-25', capabilities => {}, clientInfo => { name => 'x', version => '1' } });
my $unready_id = $unready->tool('agent_heartbeat')->{id};
sql("SELECT coord.event_send('early', recipient_id => '$unready_id')");
ok(becomes(q{position IS NOT NULL FROM coord.event WHERE type = 'early'}), 'an event comes early');
is($unready->rest, 0, 'before the client is ready, nothing is told');
$unready->notify('notifications/initialized');
is($unready->notification->{params}{data}{type}, 'early', 'then it is');
$unready->finish;
sql("SELECT coord.event_send('away', recipient_id => '$unready_id')");
ok(becomes(q{position IS NOT NULL FROM coord.event WHERE type = 'away'}), 'another comes while it is away');
$unready = McpClient->new($node, '--name', 'unready');
$unready->initialize;
sql("SELECT coord.event_send('back', recipient_id => '$unready_id')");
is($unready->notification->{params}{data}{type}, 'back', 'an agent that is started again is told what is new');
is_deeply([ map { $_->{type} } @{ $unready->tool('inbox')->{events} } ], [qw(early away back)], 'and has the rest in its inbox');
$unready->finish;

# ---- the server goes and comes

sql(q{SELECT coord.task_create('kept', queue => 'k')});
my $kept = $client->tool('task_claim', { queue => 'k', lease_ttl => 10 * $ttl })->{tasks}[0];
my $kept_lock = $client->tool('lock_acquire', { resource_key => 'kept', ttl => 10 * $ttl });
sql(qq{SELECT coord.lease_acquire('held', $rival, '1 h')});
my @parked = ($client->ask_tool('task_claim', { queue => 'w', wait => 3000 }), $client->ask_tool('lock_acquire', { resource_key => 'held', wait => 3000 }));
is($client->rest, 0, 'two requests wait when the server is stopped');

$blocker = $node->background_psql('postgres');
# what those two do now and then is not to meet this lock: they would be in flight then
$blocker->query_safe(q{BEGIN; LOCK TABLE coord.task_dead IN ACCESS EXCLUSIVE MODE});
my $in_flight = $client->ask_tool('task_list', { queue => 'f', state => 'dead' });
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'coord-mcp' AND wait_event_type = 'Lock'}),
	'and another one is in flight');
$node->stop('immediate');
$blocker->{run}->finish;
my $error = $client->answer($in_flight)->{error};
ok($error->{data}{retryable}, 'the one in flight is answered: it can be retried');
like($error->{data}{sqlstate}, qr/^(57P|08)/, 'since the server has gone');
is_deeply($client->request('ping')->{result}, {}, 'a ping is answered without a server');
my $asks = sub { return $client->ask_tool('task_create', { type => 'meanwhile', queue => 'm' }) };
my $meanwhile = CoordCluster::slowness() < 10 ? $asks->() : undef;	# a slow server begins too late
$node->start;
$meanwhile //= becomes(q{count(*) = 1 FROM pg_stat_activity WHERE application_name = 'coord-mcp'}) && $asks->();
is($client->outcome($meanwhile)->{type}, 'meanwhile', 'what is asked for meanwhile waits for it');
is($client->tool('agent_heartbeat')->{id}, $me, 'the agent is the same');
is($client->tool('task_complete', { task_id => $kept->{id}, fencing_token => $kept->{fencing_token} })->{state}, 'completed', 'its claim is kept');
is($client->tool('lock_renew', { lease_id => $kept_lock->{id} })->{id}, $kept_lock->{id}, 'so is its lock');
sql(q{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = 'held'; SELECT coord.task_create('after', queue => 'w')});
is($client->outcome($parked[0])->{tasks}[0]{type}, 'after', 'the claim goes on waiting');
is($client->outcome($parked[1])->{resource_key}, 'held', 'as does the lock');
event('after the restart');
is(told('after the restart')->{payload}{n}, 1, 'events are passed on again');

# those that came while only the bridge was away
my $backend = sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'coord-mcp';
	SELECT coord.event_send('unheard', recipient_id => '} . $me . q{') IS NOT NULL});
is(told('unheard')->{type}, 'unheard', 'an event that came during a reconnect too');
is($client->tool('agent_heartbeat')->{id}, $me, 'under the same agent');
$client->rest;
is(scalar(grep { $_->{params}{data}{type} =~ /unheard|after the restart/ } @{ $client->{lines} }), 0, 'and nothing is told twice');

# a server that stays away
$node->stop('fast');
my $since = time;
$error = $client->answer($client->ask_tool('task_list'))->{error};
ok($error->{data}{retryable}, 'without a server a request is refused after a while');
cmp_ok(time - $since, '>', 2, 'not at once');
$waiting = $client->ask_tool('task_claim', { queue => 'w', wait => 0.1 });
ok($client->answer($waiting)->{error}{data}{retryable}, 'one that waits too');
$node->start;
ok($client->tool('task_list')->{tasks}, 'until it is back');

# ---- a model that retires its own agent

is($client->tool('agent_retire', { agent_id => $me })->{status}, 'retired', 'a model may retire its agent');
is($client->tool('agent_heartbeat')->{id}, $me, 'which is registered again when it is used again');

# ---- the end

sql(q{SELECT coord.task_create('stop', queue => 's')});
my $stopped = McpClient->new($node);
$stopped->initialize;
is(scalar @{ $stopped->tool('task_claim', { queue => 's', lease_ttl => 600 })->{tasks} }, 1, 'a client has claimed a task');
$waiting = $stopped->ask_tool('task_claim', { queue => 's', wait => 3000 });
is($stopped->rest, 0, 'and waits for another one');
$stopped->close_stdin;
is_deeply($stopped->outcome($waiting)->{tasks}, [], 'at the end of stdin, what waits is answered');
is($stopped->ended, 0, 'the bridge ends');
holds(q{state = 'pending' FROM coord.task WHERE type = 'stop'}, 'and the task is free at once');

for my $signal (qw(TERM INT))
{
	$stopped = McpClient->new($node);
	$stopped->initialize;
	is(scalar @{ $stopped->tool('task_claim', { queue => 's', lease_ttl => 600 })->{tasks} }, 1, "SIG$signal: a client has claimed a task");
	$waiting = $stopped->ask_tool('task_claim', { queue => 's', wait => 3000 });
	is($stopped->rest, 0, "SIG$signal: and waits");
	kill($signal, $stopped->{pid});
	is($stopped->ended, 0, "SIG$signal: the bridge ends");
	is_deeply($stopped->outcome($waiting)->{tasks}, [], "SIG$signal: what waits is answered");
	holds(q{state = 'pending' FROM coord.task WHERE type = 'stop'}, "SIG$signal: the task is free at once");
}

$stopped = McpClient->new($node);
$stopped->initialize;
is(scalar @{ $stopped->tool('task_claim', { queue => 's', lease_ttl => 600 })->{tasks} }, 1, 'a client has claimed a task');
close $stopped->{out};
delete $stopped->{out};
is($stopped->ended, 0, 'who does not listen any more is not served: the bridge ends');
holds(q{state = 'pending' FROM coord.task WHERE type = 'stop'}, 'and the task is free at once');

$stopped = McpClient->new($node, '--heartbeat-timeout', $ttl / 2);
$stopped->initialize;
is(scalar @{ $stopped->tool('task_claim', { queue => 's', lease_ttl => 600 })->{tasks} }, 1, 'a client has claimed a task');
$waiting = $client->ask_tool('task_claim', { queue => 's', wait => 3000 });
kill('KILL', $stopped->{pid});
is($client->outcome($waiting)->{tasks}[0]{type}, 'stop', 'kill -9: another one gets the task, who waits for it');
$stopped->ended;

my $silent = McpClient->new($node, '--name', 'silent');
$silent->initialize;
$silent->ask('tools/list') for 1 .. 200;
$silent->close_stdin;
ok(becomes(q{status = 'retired' FROM coord.agent WHERE name = 'silent'}), 'who leaves and does not read his answers is not waited for without end');
is($silent->ended, 0, 'the bridge ends');

# with a server that does not answer
$blocker = $node->background_psql('postgres');
$blocker->query_safe(q{BEGIN; LOCK TABLE coord.agent_data IN ACCESS EXCLUSIVE MODE});
my $hanging = McpClient->new($node, '--heartbeat-timeout', '1');
$hanging->ask('initialize', { protocolVersion => '2025-11-25', capabilities => {}, clientInfo => { name => 'x', version => '1' } });
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'coord-mcp' AND wait_event_type = 'Lock'
	AND query LIKE '%agent_register%'}), 'a server hangs');
kill('TERM', $hanging->{pid});
is($hanging->ended, 0, 'which does not keep the bridge from ending');
$blocker->query_safe('ROLLBACK');
$blocker->quit;

my $passworded = McpClient->new($node, '--log-level', 'debug', 'user=nobody password=topsecret dbname=postgres');
$passworded->initialize;
$passworded->finish;
like($passworded->log, qr/could not connect/, 'a connection that cannot be made is logged');
unlike($passworded->log, qr/topsecret|password/, 'without the password');

is($client->finish, 0, 'the end');
ok(becomes(q{count(*) = 0 FROM coord.agent WHERE status = 'active' AND type = 'mcp'}), 'no agent of a bridge is left');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC:/, 'the log has nothing to say');
done_testing();
