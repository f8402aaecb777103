# A database with live leases and tasks is dumped and restored: everything is there,
# claims go on, and tokens granted afterwards are greater than any granted before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('dump');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', 'CREATE ROLE app LOGIN; CREATE ROLE watcher');
$node->safe_psql('old', q{
	CREATE EXTENSION coord;
	SELECT coord.grant_agent('app');
	SELECT coord.grant_monitor('watcher');
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h', metadata => '{"a": 1}');
	SELECT coord.queue_set('limited', max_claimed => 2, backoff_base => '7 s', paused => true);
	SELECT coord.lease_acquire('held', id, '1 h', auto_renew => true) FROM coord.agent;
	SELECT coord.lease_acquire('released', id, '1 h') FROM coord.agent;
	SELECT coord.lease_release(id) FROM coord.lease WHERE resource_key = 'released';
	SELECT coord.task_create('claimed', resource_key => 'res', priority => 9);
	SELECT coord.task_claim(id, lease_ttl => '1 h') FROM coord.agent;
	SELECT coord.task_create('pending', unique_key => 'u', run_at => now() + interval '1 day');
	SELECT coord.task_create('blocked', depends_on => ARRAY(SELECT id FROM coord.task WHERE type = 'claimed'));
	SELECT coord.task_create('dead', max_attempts => 1, queue => 'd');
	SELECT coord.task_fail(t.id, t.fencing_token, 'broken') FROM coord.agent a, coord.task_claim(a.id, 'd') t;
	SELECT coord.task_create('done', queue => 'd');
	SELECT coord.task_complete(t.id, t.fencing_token, '{"ok": true}') FROM coord.agent a, coord.task_claim(a.id, 'd') t;
	SELECT coord.event_send('sent', '{"n": 1}', channel => 'c');
	-- writes the heartbeat, which is only noted in memory otherwise
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 h', metadata => '{"a": 1}');
});
$node->poll_query_until('old', 'SELECT NOT EXISTS (SELECT FROM coord.event_inbox)');

my @relations = map { "coord.$_" } qw(agent lease task dead_letter event);
my $all = join(' UNION ALL ', map { "SELECT '$_' AS relation, r::text AS r FROM $_ r" } @relations) . ' ORDER BY 1, 2';
my $queues = q{SELECT name, paused, max_attempts, backoff_base, backoff_max, max_claimed FROM coord.queue ORDER BY name};
my $last_token = 'SELECT greatest((SELECT max(fencing_token) FROM coord.lease), (SELECT max(fencing_token) FROM coord.task))';

my %restore = (
	plain => sub { command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('new_plain'), '-f', $_[0] ], 'restore of a plain dump'); },
	custom => sub { command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('new_custom'), $_[0] ], 'restore of a custom dump'); });

for my $format (sort keys %restore)
{
	my $file = $node->basedir . "/dump.$format";
	my $new = "new_$format";

	command_ok([ 'pg_dump', '-F', $format, '-f', $file, '-d', $node->connstr('old') ], "pg_dump, format $format");

	# tokens go on in the old database after the dump
	my $granted = $node->safe_psql('old', qq{
		SELECT max(fencing_token) FROM coord.agent a, generate_series(1, 100) g, coord.lease_acquire('after dump ' || g, a.id, '1 h')});
	my $events = $node->safe_psql('old', 'SELECT max(position) FROM coord.event');

	$node->safe_psql('postgres', "CREATE DATABASE $new");
	$restore{$format}->($file);

	# what was granted after a dump may not be in it
	my ($expected, $restored) = map {
		join("\n", grep { !/after dump/ } split /\n/, $node->safe_psql($_, $all))
	} ('old', $new);
	is($restored, $expected, "format $format: every row is there, as it was");
	is($node->safe_psql($new, $queues), $node->safe_psql('old', $queues), "format $format: queues keep their settings");
	is($node->safe_psql($new, q{SELECT fencing_token > } . $granted . q{ FROM coord.agent, coord.lease_acquire('new', id, '1 h')}), 't',
		"format $format: new tokens are greater than those granted since the dump");
	is($node->safe_psql($new, q{SELECT c.state FROM coord.task t, coord.task_complete(t.id, t.fencing_token) c WHERE t.type = 'claimed'}),
		'completed', "format $format: a claim from before the dump completes");
	is($node->safe_psql($new, q{SELECT state FROM coord.task WHERE type = 'blocked'}), 'pending',
		"format $format: which frees the task that waited for it");
	is($node->safe_psql($new, q{SELECT state FROM coord.lease WHERE resource_key = 'res'}), 'released',
		"format $format: and the resource");
	is($node->safe_psql($new, q{SELECT type FROM coord.task_create('again', unique_key => 'u')}), 'pending',
		"format $format: unique keys hold");
	is($node->safe_psql($new, q{SET ROLE app; SELECT name FROM coord.agent_register('mine'); RESET ROLE; SET ROLE watcher; SELECT count(*) > 0 FROM coord.task}),
		"mine\nt", "format $format: grants are kept");
	$node->safe_psql($new, q{SELECT coord.lease_acquire('short', id, '100 ms') FROM coord.agent WHERE name = 'alive'});
	ok($node->poll_query_until($new, q{SELECT count(*) = 1 FROM coord.event_list(type => 'lock.expired')}),
		"format $format: the worker of the restored database works");
	is($node->safe_psql($new, "SELECT bool_and(position > $events) FROM coord.event_list(type => 'lock.expired')"), 't',
		"format $format: event positions go on too");
}

# A restore wakes the worker: what had run out before it is dealt with without a call.
$node->safe_psql('old', q{
	SELECT coord.agent_register('mortal', heartbeat_timeout => '1 h');
	SELECT coord.lease_acquire('lost', id, '300 ms') FROM coord.agent WHERE name = 'mortal';
	SELECT coord.agent_register('mortal', heartbeat_timeout => '300 ms')});
my $file = $node->basedir . '/late.sql';
command_ok([ 'pg_dump', '-f', $file, '-d', $node->connstr('old') ], 'pg_dump with what is about to run out');
$node->safe_psql('postgres', 'CREATE DATABASE late');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('late'), '-f', $file ], 'restore');
ok($node->poll_query_until('late', q{SELECT count(*) = 2 FROM coord.event WHERE position IS NOT NULL AND (type = 'agent.inactive' OR payload ->> 'resource_key' = 'lost')}),
	'the worker deals with it by itself');

done_testing();
