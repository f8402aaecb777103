# What a listener is told: each event once, in the order of positions, right after it
# happened, with the recipient, the channel and the payload that are promised; and
# nothing of what was rolled back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = CoordCluster::new_node('notifications');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Wait for a condition that is read without coord's functions: event_list would
# ask the worker for a pass, and so wake it.
sub becomes_true { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

my $heard = '';
my $listener = $node->background_psql('postgres');
$listener->query_safe("SELECT coord.event_listen(channel => 'coord.$_')") for ('locks', 'agents', 'tasks');
$listener->query_safe(q{SELECT coord.event_listen(channel => 'notifications')});

# hears($id): the listener gets the notification of that event.
sub hears
{
	my ($id) = @_;
	my $give_up = time() + $PostgreSQL::Test::Utils::timeout_default;

	while ($heard !~ /"id": ?"$id"/ && time() < $give_up)
	{
		$heard .= $listener->query('SELECT 1') . "\n";
	}
	return $heard =~ /"id": ?"$id"/;
}

# announced($type, $where): the id of the delivered event of that type, once it is there.
sub announced
{
	my ($type, $where) = @_;
	my $events = "FROM coord.event WHERE position IS NOT NULL AND type = '$type' AND $where";

	becomes_true("count(*) > 0 $events") or return 'none';
	return sql("SELECT string_agg(id::text, ' ') $events");
}

# ---- a commit with an earlier deadline wakes the worker

sql(q{
	SELECT coord.agent_register('steady', heartbeat_timeout => '1 day');
	SELECT coord.lease_acquire('an hour', id, '1 hour') FROM coord.agent WHERE name = 'steady'});
ok(becomes_true(q{w.next_deadline_at = l.expires_at FROM coord.worker w, coord.lease l WHERE l.resource_key = 'an hour'}),
	'the worker sleeps until the only deadline, which is in an hour');
sql(q{SELECT coord.lease_acquire('a moment', id, '300 ms') FROM coord.agent WHERE name = 'steady'});
my $id = announced('lock.expired', q{payload ->> 'resource_key' = 'a moment'});
ok(hears($id), 'a lease of 300 ms is announced as expired nevertheless');
is(sql(qq{
	SELECT e.recipient_id = l.agent_id AS to_the_holder, e.channel, e.payload ->> 'lease_id' = l.id::text,
		e.payload ->> 'agent_id' = l.agent_id::text, (e.payload ->> 'fencing_token')::bigint = l.fencing_token,
		(e.payload ->> 'expires_at')::timestamptz = l.expires_at
	FROM coord.event e, coord.lease l WHERE e.id = '$id' AND l.resource_key = 'a moment'}),
	't|coord.locks|t|t|t|t', 'the event names the lease and its end');
is(sql(q{SELECT state, ended_at = expires_at, expires_at - acquired_at FROM coord.lease WHERE resource_key = 'a moment'}),
	'expired|t|00:00:00.3', 'the lease ended at the end of its TTL');
# a worker that was not woken would look at its clock after a minute (MAX_SLEEP_MS)
is(sql(qq{
	SELECT e.created_at >= l.expires_at, e.created_at < l.expires_at + interval '5 s'
	FROM coord.event e, coord.lease l WHERE e.id = '$id' AND l.resource_key = 'a moment'}),
	't|t', 'it was announced right after that, not before');

# ---- agents

sql(q{SELECT coord.agent_register('fleeting', heartbeat_timeout => '300 ms')});
$id = announced('agent.inactive', q{payload ->> 'name' = 'fleeting'});
ok(hears($id), 'an agent without heartbeats is announced as inactive');
is(sql(qq{
	SELECT a.status, a.inactive_since - a.last_heartbeat_at, e.payload ->> 'agent_id' = a.id::text,
		(e.payload ->> 'last_heartbeat_at')::timestamptz = a.last_heartbeat_at, e.recipient_id IS NULL, e.channel
	FROM coord.event e, coord.agent a WHERE e.id = '$id' AND a.name = 'fleeting'}),
	'inactive|00:00:00.3|t|t|t|coord.agents', 'as of the end of its timeout');
sql(q{SELECT coord.agent_heartbeat(id) FROM coord.agent WHERE name = 'fleeting'});
ok(hears(announced('agent.active', q{payload ->> 'name' = 'fleeting'})), 'its next heartbeat is announced too');

# ---- claims

sql(q{
	SELECT coord.queue_set('notifications', backoff_base => '1 h', backoff_max => '1 h');
	SELECT coord.task_create('retried', queue => 'notifications');
	SELECT coord.task_claim(id, 'notifications', lease_ttl => '300 ms') FROM coord.agent WHERE name = 'steady'});
$id = announced('task.requeued', q{payload ->> 'reason' = 'lease_expired'});
ok(hears($id), 'a claim that has run out is announced');
is(sql(qq{
	SELECT t.state, t.attempts, t.agent_id IS NULL, e.recipient_id = a.id AS to_the_holder, e.channel,
		e.payload ->> 'task_id' = t.id::text, e.payload ->> 'queue', e.payload ->> 'agent_id' = a.id::text,
		e.payload -> 'attempts', (e.payload ->> 'run_at')::timestamptz = t.run_at
	FROM coord.event e, coord.task t, coord.agent a WHERE e.id = '$id' AND t.type = 'retried' AND a.name = 'steady'}),
	'pending|1|t|t|coord.tasks|t|notifications|t|1|t', 'its task is pending again, as the event says');
is(sql(q{
	SELECT run_at > created_at + interval '45 min' AND run_at < clock_timestamp() + interval '1 h'
	FROM coord.task WHERE type = 'retried'}), 't', 'after its backoff');

sql(q{
	SELECT coord.task_create('once', queue => 'notifications', max_attempts => 1);
	SELECT coord.task_claim(id, 'notifications', lease_ttl => '300 ms') FROM coord.agent WHERE name = 'steady'});
$id = announced('task.dead', q{payload ->> 'queue' = 'notifications'});
ok(hears($id), 'a claim that was the last attempt is announced as dead');
is(sql(qq{
	SELECT t.state, t.error, e.payload ->> 'error', e.payload -> 'attempts', e.payload ->> 'task_id' = t.id::text
	FROM coord.event e, coord.dead_letter t WHERE e.id = '$id' AND t.type = 'once'}),
	'dead|lease expired|lease expired|1|t', 'its task is a dead letter');

# An agent that ends gives back what it has claimed at once, its claim would
# have lasted an hour.
sql(q{
	SELECT coord.agent_register('failing', heartbeat_timeout => '1 h');
	SELECT coord.task_create('orphan', queue => 'notifications');
	SELECT coord.task_claim(id, 'notifications', lease_ttl => '1 h') FROM coord.agent WHERE name = 'failing';
	SELECT coord.agent_register('failing', heartbeat_timeout => '300 ms')});
$id = announced('task.requeued', q{payload ->> 'reason' = 'agent_inactive'});
ok(hears($id), 'a claim is given back when its agent becomes inactive');
is(sql(qq{
	SELECT t.state, t.error, e.created_at >= a.inactive_since, e.created_at < a.inactive_since + interval '5 s'
	FROM coord.event e, coord.task t, coord.agent a WHERE e.id = '$id' AND t.type = 'orphan' AND a.name = 'failing'}),
	'pending|agent inactive|t|t', 'right then');

# ---- transactions

# A rolled-back lease has never been.
sql(q{
	BEGIN; SELECT coord.lease_acquire('undone', id, '300 ms') FROM coord.agent WHERE name = 'steady'; ROLLBACK;
	SELECT coord.lease_acquire('after undone', id, '500 ms') FROM coord.agent WHERE name = 'steady'});
announced('lock.expired', q{payload ->> 'resource_key' = 'after undone'});
is(sql(q{SELECT count(*) FROM coord.event WHERE payload ->> 'resource_key' = 'undone'}), '0',
	'a lease that was rolled back does not expire');

# What was due before its transaction committed is announced right after it.
sql(q{
	BEGIN;
	SELECT coord.lease_acquire('late', id, '100 ms') FROM coord.agent WHERE name = 'steady';
	DO $$ BEGIN WHILE EXISTS (SELECT FROM coord.lease WHERE resource_key = 'late' AND state = 'active') LOOP END LOOP; END $$;
	COMMIT});
ok(hears(announced('lock.expired', q{payload ->> 'resource_key' = 'late'})), 'a lease that ran out before its transaction committed is announced');

# COMMIT PREPARED, in another session, by one who has not called coord at all.
ok(becomes_true(q{w.next_deadline_at = l.expires_at FROM coord.worker w, coord.lease l WHERE l.resource_key = 'an hour'}),
	'the worker sleeps for the rest of the hour');
sql(q{
	BEGIN; SELECT coord.event_send('prepared', channel => 'notifications'); PREPARE TRANSACTION 'event';
	BEGIN; SELECT coord.lease_acquire('prepared', id, '2 s') FROM coord.agent WHERE name = 'steady'; PREPARE TRANSACTION 'lease'});
is(sql(q{SELECT count(*) FROM coord.event WHERE type = 'prepared'}), '0', 'the event of a prepared transaction is not there yet');
sql(q{COMMIT PREPARED 'event'});
ok(hears(announced('prepared', 'true')), 'COMMIT PREPARED delivers its event');
sql(q{COMMIT PREPARED 'lease'});
ok(hears(announced('lock.expired', q{payload ->> 'resource_key' = 'prepared'})), 'COMMIT PREPARED wakes the worker for its lease');
sql(q{
	BEGIN; SELECT coord.event_send('given up', channel => 'notifications'); PREPARE TRANSACTION 'event';
	ROLLBACK PREPARED 'event'; SELECT coord.event_send('after given up', channel => 'notifications')});
ok(hears(announced('after given up', 'true')), 'an event after a ROLLBACK PREPARED is delivered');
is(sql(q{SELECT count(*) FROM coord.event WHERE type = 'given up'}), '0', 'that of the ROLLBACK PREPARED is not');

# ---- nobody hears twice, and in order

$heard .= $listener->query('SELECT 1') . "\n";
my @ids = $heard =~ /"id": ?"([0-9a-f-]+)"/g;
my @positions = $heard =~ /"position": ?(\d+)/g;
my %times;
$times{$_}++ for @ids;
is(scalar(grep { $_ > 1 } values %times), 0, 'no notification came twice');
cmp_ok(scalar(@ids), '>=', 10, 'of the many that came');
is("@positions", join(' ', sort { $a <=> $b } @positions), 'they came in the order of their positions');

# ---- many at once

sql(q{
	SELECT count(l.id) FROM generate_series(1, 2500) g, coord.agent a,
		LATERAL coord.lease_acquire('many ' || g, a.id, '1 s') l WHERE a.name = 'steady'});
ok(becomes_true(q{count(*) = 2500 FROM coord.event WHERE type = 'lock.expired' AND position IS NOT NULL
	AND payload ->> 'resource_key' LIKE 'many %'}), 'each of 2500 leases that run out together is announced');
is(sql(q{
	SELECT count(DISTINCT payload ->> 'resource_key'), count(DISTINCT position)
	FROM coord.event WHERE type = 'lock.expired' AND payload ->> 'resource_key' LIKE 'many %'}), '2500|2500', 'once');

$listener->quit;
$node->stop('fast');
is(join('', grep { /(ERROR|PANIC):  |coord worker.*exited with exit code/ } split(/^/, slurp_file($node->logfile))), '', 'the log is free of errors');

done_testing();
