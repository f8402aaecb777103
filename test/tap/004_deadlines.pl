# Deadlines: what runs out is announced to who listens, as of its very instant; a
# commit that brings an earlier deadline wakes the worker; and nothing else does.
#
# Runs alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('deadlines');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');
$node->poll_query_until('postgres', 'SELECT pid IS NOT NULL FROM coord.worker');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# A psql that listens: it prints the notifications that have come with each query.
my ($in, $out) = ('', '');
my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
my $listener = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, $timer);
for my $channel ('locks', 'agents', 'tasks')
{
	$in .= "SELECT coord.event_listen(channel => 'coord.$channel');\n";
}
$listener->pump until $out =~ /coord\.tasks/;

# True when a notification of that type has come, since the last one.
sub heard
{
	my ($type) = @_;

	$timer->start($PostgreSQL::Test::Utils::timeout_default);
	while ($out !~ s/^.*?"type": "\Q$type\E"[^\n]*\n//s)
	{
		my $length = length $out;

		$in .= "SELECT 'asked';\n";
		$listener->pump until length($out) > $length;
	}
	return 1;
}

sql(q{
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('default', backoff_base => '10 ms');
	SELECT coord.lease_acquire('far', id, '1 h') FROM coord.agent WHERE name = 'alive';
});

# The worker sleeps for an hour now.  Each of these must wake it.
sql(q{SELECT coord.lease_acquire('near', id, '200 ms') FROM coord.agent WHERE name = 'alive'});
ok(heard('lock.expired'), 'a lease that is shorter than all others is announced when it expires');
is(sql(q{SELECT state, ended_at = expires_at, expires_at - acquired_at FROM coord.lease WHERE resource_key = 'near'}),
	'expired|t|00:00:00.2', 'it ended when it was to end');

sql(q{SELECT coord.task_create('t'); SELECT coord.task_claim(id, lease_ttl => '200 ms') FROM coord.agent WHERE name = 'alive'});
ok(heard('task.requeued'), 'a claim that is not renewed is given back');
is(sql(q{SELECT state, attempts, error FROM coord.task}), 'pending|1|lease expired', 'as an attempt that failed');

sql(q{SELECT coord.agent_register('mortal', heartbeat_timeout => '1 h');
	SELECT coord.task_claim(id, task_id => (SELECT id FROM coord.task), lease_ttl => '1 h') FROM coord.agent WHERE name = 'mortal';
	SELECT coord.agent_register('mortal', heartbeat_timeout => '200 ms')});
ok(heard('agent.inactive'), 'an agent without heartbeats is announced as inactive');
ok(heard('task.requeued'), 'and what it had claimed is given back');
is(sql(q{SELECT a.status, a.inactive_since = a.last_heartbeat_at + a.heartbeat_timeout, e.payload ->> 'reason'
	FROM coord.agent a, coord.event e WHERE a.name = 'mortal' AND e.type = 'task.requeued' ORDER BY e.position DESC LIMIT 1}),
	'inactive|t|agent_inactive', 'as of the end of its timeout, and for that reason');
sql(q{SELECT coord.agent_heartbeat(id) FROM coord.agent WHERE name = 'mortal'});
ok(heard('agent.active'), 'a heartbeat brings it back');
ok(heard('agent.inactive'), 'until the next one is missing');

sql(q{BEGIN; SELECT coord.lease_acquire('prepared', id, '200 ms') FROM coord.agent WHERE name = 'alive'; PREPARE TRANSACTION 'p'});
sql(q{COMMIT PREPARED 'p'});
ok(heard('lock.expired'), 'COMMIT PREPARED wakes the worker too');

# auto_renew, for a living agent and for one that dies.  A renewal is due after 3 s, and has
# 6 s to come; the second one of those that are capped is in time, the third is not.
sql(q{
	SELECT coord.agent_register('mortal', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('kept', id, '9 s', auto_renew => true) FROM coord.agent WHERE name = 'alive';
	SELECT coord.lease_acquire('capped', id, '9 s', auto_renew => true, max_hold => '8 s') FROM coord.agent WHERE name = 'alive';
	SELECT coord.lease_acquire('lost', id, '9 s', auto_renew => true) FROM coord.agent WHERE name = 'mortal';
	SELECT coord.agent_register('mortal', heartbeat_timeout => '5 s')});
ok(heard('agent.inactive'), 'an agent with a renewed lease becomes inactive');
ok(heard('lock.expired'), 'and its lease runs out after that');
ok(heard('lock.expired'), 'a renewed lease runs out when max_hold has passed');
is(sql(q{SELECT state, expires_at - acquired_at > interval '9 s', expires_at - acquired_at <= interval '17 s'
	FROM coord.lease WHERE resource_key = 'capped'}), 'expired|t|t', 'with the TTL of its last renewal');
is(sql(q{SELECT l.state, l.ended_at > a.inactive_since FROM coord.lease l JOIN coord.agent a ON a.id = l.agent_id WHERE resource_key = 'lost'}),
	'expired|t', 'not before');
is(sql(q{SELECT state, renewed_at > acquired_at FROM coord.lease WHERE resource_key = 'kept'}),
	'active|t', 'that of the living agent is renewed all the while');
sql(q{SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = 'kept'});

# Nothing due: no wake-up at all.  The ten seconds are the measurement; a second and a third
# one tell what the machine did to the process, by a pause or a page that had to be read, from
# what the worker does.
SKIP:
{
	my $pid = sql('SELECT pid FROM coord.worker');
	skip 'no /proc here', 1 unless -r "/proc/$pid/status";
	my $switches = sub { slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m; return $1; };

	ok($node->poll_query_until('postgres', q{SELECT next_deadline_at > clock_timestamp() + interval '1 min' FROM coord.worker}),
		'the worker has nothing to do soon');
	my $times;
	for (1 .. 3)
	{
		my $before = $switches->();
		sleep 10;
		$times = $switches->() - $before;
		last if $times < 3;
	}
	cmp_ok($times, '<', 3, 'the worker does not wake in ten seconds');
}

$in .= "\\q\n";
$listener->finish;
unlike(slurp_file($node->logfile), qr/ (ERROR|FATAL|PANIC|WARNING): /, 'the log has nothing to say');

done_testing();
