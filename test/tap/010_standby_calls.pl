# A standby shows everything and changes nothing: each call that would write is
# refused as in any read-only transaction.  What was held before a promotion is held
# after it, and tokens go on from one promotion to the next.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use McpClient;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = CoordCluster::new_node('primary', allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION coord');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

sub on_primary { return $primary->safe_psql('postgres', $_[0]); }
sub on_standby { return $standby->safe_psql('postgres', $_[0]); }

on_primary(q{
	SELECT coord.agent_register('ann', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('long', id, '1 h') FROM coord.agent;
	SELECT coord.task_create('claimed'), coord.task_create('pending', queue => 'other');
	SELECT coord.task_claim(id, lease_ttl => '1 h') FROM coord.agent;
	SELECT coord.event_send('said', channel => 'standby');
	-- writes the heartbeat, which is only noted in memory otherwise
	SELECT coord.agent_register('ann', heartbeat_timeout => '1 h')});
ok($primary->poll_query_until('postgres', 'SELECT bool_and(position IS NOT NULL) FROM coord.event'), 'the primary has delivered its events');
$primary->wait_for_catchup($standby);

# ---- a standby

my $rows = q{
	SELECT 'agent', a::text FROM coord.agent a UNION ALL SELECT 'lease', l::text FROM coord.lease l
	UNION ALL SELECT 'task', t::text FROM coord.task t UNION ALL SELECT 'dead', t::text FROM coord.dead_letter t
	UNION ALL SELECT 'event', e::text FROM coord.event e
	UNION ALL SELECT 'queue', (name, pending, claimed, dead, max_attempts)::text FROM coord.queue ORDER BY 1, 2};
is(on_standby($rows), on_primary($rows), 'a standby shows the same rows');
is(on_standby('SELECT pid IS NULL FROM coord.worker'), 't', 'it has no worker');
is(on_standby(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'coord%'}), '0', 'nor a launcher');
is(on_standby(q{SELECT type FROM coord.event_list(channel => 'standby')}), 'said', 'delivered events can be listed');

my $agent = on_primary('SELECT id FROM coord.agent');
my ($task, $token) = split(/\|/, on_primary(q{SELECT id, fencing_token FROM coord.task WHERE type = 'claimed'}));
my ($lease, $lease_token) = split(/\|/, on_primary(q{SELECT id, fencing_token FROM coord.lease}));
for my $call ("agent_register('bob')", "agent_heartbeat('$agent')", "agent_retire('$agent')",
	"lease_acquire('new', '$agent')", "lease_acquire('long', '$agent')", "lease_renew('$lease')", "lease_release('$lease')",
	"lease_assert('long', $lease_token)",
	"task_create('t')", "task_create_many('[{\"type\": \"t\"}]')", "task_claim('$agent')", "task_claim('$agent', 'other')",
	"task_claim('$agent', task_id => '$task')",
	"task_renew('$task', $token)", "task_complete('$task', $token)", "task_fail('$task', $token)", "task_release('$task', $token)",
	"task_cancel('$task')", "task_redrive()", "queue_set('q')", "queue_pause('default')", "event_send('t')", "event_listen()",
	"queue_listen()", "sweep()", "purge()", "purge('0')")
{
	my ($ret, $out, $err) = $standby->psql('postgres', "SELECT coord.$call", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	(my $name = $call) =~ s/[0-9a-f]{8}-[0-9a-f-]{27}|\d{9,}/…/g;
	like($err, qr/25006/, "$name is refused on a standby as in any read-only transaction");
}

my (undef, undef, $wait_err) = $standby->psql('postgres', 'CALL coord.queue_wait()', extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($wait_err, qr/25006/, 'nor can one wait for a queue there');

for my $call ("event_listen('$agent')", "event_listen(channel => 'c')", 'queue_listen()', "lease_acquire('long', '$agent', wait => '1 h')")
{
	my ($ret, $out, $err) = $standby->psql('postgres', "SELECT coord.$call", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	(my $name = $call) =~ s/[0-9a-f]{8}-[0-9a-f-]{27}/…/g;
	like($err, qr/25006/, "nor by $name");
}
# The bridge, told of both, goes to the one that can serve an agent.
my $both = join(' ', 'host=' . join(',', map { $_->host } $standby, $primary), 'port=' . join(',', map { $_->port } $standby, $primary),
	'dbname=postgres', 'user=' . getpwuid($<));
my $bridge = McpClient->new(undef, '--name', 'bridged', $both);
$bridge->initialize;
is($bridge->tool('agent_heartbeat')->{name}, 'bridged', 'coord-mcp passes over a standby');
is($bridge->finish, 0, 'and ends');
$primary->wait_for_catchup($standby);

# who is connected when the standby is promoted listens, and waits, from then on
my $listener = $standby->background_psql('postgres');
is($listener->query_safe('SELECT pg_is_in_recovery()'), 't', 'a session is connected to the standby');

# What runs out is true on the standby, too, by its own clock.
on_primary(q{SELECT coord.lease_acquire('short', id, '200 ms') FROM coord.agent WHERE name = 'ann'});
$primary->wait_for_catchup($standby);
ok($standby->poll_query_until('postgres', q{SELECT state = 'expired' FROM coord.lease WHERE resource_key = 'short'}), 'a lease that has run out reads so');

# ---- two failovers, one after the other

$primary->stop('fast');
$standby->promote;
on_standby(q{SELECT coord.lease_acquire('promoted', id, '1 h') FROM coord.agent WHERE name = 'ann'});
is(on_standby(qq{SELECT (coord.task_complete('$task', $token)).state}), 'completed', 'after a promotion a claim from before is completed');
is(on_standby(qq{SELECT state FROM coord.lease_renew('$lease')}), 'active', 'a lease from before is renewed');
# of a queue one may be notified at once
like($listener->query_safe(q{SELECT coord.event_listen(channel => 'promoted'), coord.queue_listen('promoted')}),
	qr/^coord:channel:promoted\|coord:queue:promoted/, 'a session from before the promotion listens after it');
on_standby(q{SELECT coord.event_send('heard', channel => 'promoted'), coord.task_create('heard', queue => 'promoted')});
my $heard = '';
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$heard .= $listener->query('SELECT pg_sleep(0.1)');
	last if $heard =~ /coord:channel:promoted/ && $heard =~ /coord:queue:promoted/;
}
like($heard, qr/notification "coord:channel:promoted" with payload .*"type": "heard"/, 'and is told of events');
like($heard, qr/notification "coord:queue:promoted"/, 'and of tasks');
$listener->quit;
my $token2 = on_standby(q{SELECT max(fencing_token) FROM coord.lease});
$standby->backup('second');
my $third = PostgreSQL::Test::Cluster->new('third');
$third->init_from_backup($standby, 'second', has_streaming => 1);
$third->start;
$standby->wait_for_catchup($third);
$standby->stop('immediate');
$third->promote;
is($third->safe_psql('postgres', qq{SELECT fencing_token > $token2 FROM coord.agent, LATERAL coord.lease_acquire('third', id) WHERE name = 'ann'}), 't',
	'after another promotion tokens have grown again');

$third->stop('fast');
for my $node ($standby, $third)
{
	my $log = slurp_file($node->logfile);
	my $told = () = $log =~ /FATAL:  terminating background worker "coord worker" due to administrator command/g;	# in a batch
	my $failed = () = $log =~ /PANIC:  |coord worker.*exited with exit code/g;
	is($failed, $told, 'the log of ' . $node->name . ' is free of failures');
}

done_testing();
