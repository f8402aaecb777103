# Without a worker the callers do its work: claimants take what a dead one has left,
# by queue and by name, readers give events their positions, whatever commits late;
# and a preload brings the worker to what is there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('bare');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	SELECT coord.agent_register('ann', heartbeat_timeout => '1 h');
	SELECT coord.agent_register('bob', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('default', backoff_base => '400 ms', backoff_max => '400 ms')});

# ---- claims

sql(q{
	SELECT coord.task_create('swept');
	SELECT coord.task_claim(id, lease_ttl => '100 ms') FROM coord.agent WHERE name = 'ann'});
ok($node->poll_query_until('postgres', q{SELECT state = 'pending' FROM coord.task WHERE type = 'swept'}), 'a claim that has run out reads so');
my $run_at = sql(q{SELECT run_at FROM coord.task WHERE type = 'swept'});
is(sql(q{SELECT coord.sweep() ->> 'tasks_requeued'}), '1', 'sweep() gives its task back');
is(sql(q{SELECT run_at FROM coord.task WHERE type = 'swept'}), $run_at, 'for the very instant that was shown before');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.agent, LATERAL coord.task_claim(id) WHERE name = 'bob'}),
	'after its backoff it can be claimed');
is(sql(q{SELECT (coord.task_complete(id, fencing_token)).attempts FROM coord.task WHERE state = 'claimed'}), '2', 'for a second time, and completed');

sql(q{
	SELECT coord.task_create('unswept');
	SELECT coord.task_claim(id, lease_ttl => '100 ms') FROM coord.agent WHERE name = 'ann'});
my $token = sql(q{SELECT fencing_token FROM coord.task_live});
is(sql(q{
	CREATE TABLE early (claimed bigint);
	INSERT INTO early VALUES (0);
	DO $$
	DECLARE
		shown timestamptz;
	BEGIN
		-- from the end of the claim to the end of its backoff nobody gets it
		WHILE (SELECT state = 'claimed' FROM coord.task WHERE type = 'unswept') LOOP END LOOP;
		shown := (SELECT run_at FROM coord.task WHERE type = 'unswept');
		IF clock_timestamp() < shown - interval '100 ms' THEN
			UPDATE early SET claimed = (SELECT count(*) FROM coord.agent, LATERAL coord.task_claim(id) WHERE name = 'bob');
		END IF;
		WHILE clock_timestamp() <= shown LOOP END LOOP;
	END
	$$;
	SELECT claimed FROM early}), '0', 'a dead claimant\'s task is nobody\'s during its backoff');
is(sql(q{SELECT t.type, t.attempts FROM coord.agent, LATERAL coord.task_claim(id) t WHERE name = 'bob'}), 'unswept|2',
	'then the next claimant gets it, without a sweep');
my ($ret, $out, $err) = $node->psql('postgres', qq{SELECT coord.task_complete(id, $token) FROM coord.task WHERE type = 'unswept'}, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($err, qr/55000/, 'the dead one\'s token is refused');
is(sql(q{SELECT count(*) FROM coord.event_list(type => 'task.requeued') WHERE payload ->> 'reason' = 'lease_expired'}), '2', 'both were announced');

# By a named claim, too; and when it is the agent that has ended.
my $timeout = CoordCluster::seconds(0.1);
sql(qq{
	SELECT coord.task_create('named');
	SELECT coord.task_claim(id, lease_ttl => '1 h', task_id => (SELECT id FROM coord.task WHERE type = 'named'))
	FROM coord.agent_register('mortal', heartbeat_timeout => '$timeout')});
ok($node->poll_query_until('postgres', q{SELECT state = 'pending' AND run_at <= clock_timestamp() FROM coord.task WHERE type = 'named'}),
	'a claim whose agent has ended reads so');
is(sql(q{SELECT status FROM coord.agent WHERE name = 'mortal'}), 'inactive', 'and so does the agent');
is(sql(q{SELECT t.attempts FROM coord.agent, LATERAL coord.task_claim(id, task_id => (SELECT id FROM coord.task WHERE type = 'named')) t WHERE name = 'bob'}), '2',
	'the task can be claimed by name without a sweep');
is(sql(q{SELECT coord.sweep() ->> 'agents_expired'}), '1', 'sweep() marks the agent');
is(sql(q{SELECT payload ->> 'name' FROM coord.event_list(channel => 'coord.agents', type => 'agent.inactive')}), 'mortal', 'and announces it');

# ---- dependencies, and auto_renew

sql(q{
	SELECT coord.task_create('first', queue => 'chain');
	SELECT coord.task_create('second', queue => 'chain', depends_on => ARRAY(SELECT id FROM coord.task WHERE type = 'first'));
	SELECT coord.task_complete(t.id, t.fencing_token) FROM coord.agent, LATERAL coord.task_claim(id, 'chain') t WHERE name = 'bob'});
sql('SELECT coord.sweep()');
is(sql(q{SELECT state FROM coord.task WHERE type = 'second'}), 'pending', 'what waited for a completed task is pending');
# as if it had been taken a minute ago, so that its renewal is due, and its end not for long
sql(q{
	SELECT coord.lease_acquire('renewed', id, '150 s', auto_renew => true) FROM coord.agent WHERE name = 'ann';
	UPDATE coord.lease_data SET acquired_at = acquired_at - interval '60 s', renewed_at = renewed_at - interval '60 s',
		expires_at = expires_at - interval '60 s', check_at = check_at - interval '60 s' WHERE resource_key = 'renewed';
	UPDATE coord.lease_deadline d SET check_at = l.check_at FROM coord.lease_data l WHERE l.slot = d.slot AND l.resource_key = 'renewed'});
ok($node->poll_query_until('postgres', q{SELECT coord.sweep() ->> 'leases_renewed' = '1'}), 'sweep() renews leases');

# ---- events

sql(q{SELECT coord.event_list()});
my $early = $node->background_psql('postgres');
$early->query_safe(q{BEGIN});
$early->query_safe(q{SELECT id FROM coord.event_send('early', channel => 'bare')});
sql(q{SELECT coord.event_send('late', channel => 'bare')});
is(sql(q{SELECT string_agg(type, ' ' ORDER BY position) FROM coord.event_list(channel => 'bare')}), 'late', 'a reader sees what is committed');
my $seen = sql(q{SELECT max(position) FROM coord.event_list(channel => 'bare')});
$early->query_safe('COMMIT');
is(sql(qq{SELECT string_agg(type, ' ' ORDER BY position) FROM coord.event_list(channel => 'bare', after => $seen)}), 'early',
	'and, going on from there, what was sent earlier and committed later');
$early->query_safe(q{BEGIN});
$early->query_safe(q{SELECT id FROM coord.event_send('undone', channel => 'bare')});
$early->query_safe('ROLLBACK');
is(sql(q{SELECT string_agg(type, ' ' ORDER BY position) FROM coord.event_list(channel => 'bare')}), 'late early', 'never what was rolled back');

# Two readers at once: the second does not wait for the first, which gives positions
# in a transaction that stays open, and neither misses anything.
sql(q{SELECT coord.event_send('shared', channel => 'bare')});
$early->query_safe('BEGIN');
is($early->query_safe(q{SELECT type FROM coord.event_list(channel => 'bare', type => 'shared')}), 'shared', 'a reader in a transaction sees it');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'bare', type => 'shared')}), '0', 'another one not yet, without waiting');
$early->query_safe('ROLLBACK');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'bare', type => 'shared')}), '1', 'when the first has rolled back, the other one does');
is(sql(q{SELECT count(*) = count(DISTINCT position) FROM coord.event_list(max_events => 1000)}), 't', 'no position was given twice');
is(sql(q{BEGIN READ ONLY; SELECT count(*) FROM coord.event_list(channel => 'bare'); COMMIT}), '3', 'a read-only transaction can read');

# An old snapshot shows in the inbox what others have moved from there: once is enough.
my $old = $node->background_psql('postgres');
sql(q{SELECT count(coord.event_send('many', channel => 'many')) FROM generate_series(1, 25000)});
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM coord.event_inbox');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'many', max_events => 10000)}), '10000', 'many events are delivered');
is($old->query_safe(q{SELECT count(*) FROM coord.event_list(channel => 'many', max_events => 10000)}), '0', 'which an old snapshot does not show');
$old->query_safe('COMMIT');
# A partition that was opened since then is no trouble for it either.
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM coord.event_inbox');
sql(q{UPDATE coord.event_partition SET opened_at = opened_at - interval '1 day'});
sql(q{SELECT coord.event_send('turned', channel => 'turned')});
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'turned')}), '1', 'after a day the next partition is written');
is(sql(q{SELECT count(*) FROM coord.event_partition}), '2', 'which is the second one');
sql(q{SELECT coord.event_send('turned', channel => 'turned')});
is($old->query_safe(q{SELECT count(*) FROM coord.event_list(channel => 'turned')}), '0', 'and an old snapshot shows none of that');
$old->query_safe('COMMIT');
is($old->query_safe(q{SELECT count(*) FROM coord.event_list(channel => 'turned')}), '2', 'but the next one does');

# What sweep() empties, in a transaction that stays open, no reader waits for.
sql(q{UPDATE coord.event_partition SET opened_at = opened_at - interval '10 days'});
is(sql(q{SELECT coord.sweep() IS NOT NULL FROM coord.event LIMIT 1}), 't', 'sweep() in a statement that reads events leaves them');
cmp_ok(sql(q{SELECT count(*) FROM coord.event_log WHERE partition = 0}), '>', 25000, 'where they are');
$old->query_safe('BEGIN; SELECT coord.sweep()');
is(sql(q{SET lock_timeout = '5 s'; SELECT count(*) >= 0 FROM coord.event_list()}), 't', 'a reader does not wait for a sweep() whose transaction is open');
$old->query_safe('COMMIT');
is(sql(q{SELECT count(*) FROM coord.event_log WHERE partition = 0}), '0', 'which has dropped what is old');
$old->quit;

# ---- the library is loaded by whoever calls; settings come with it

is(sql(q{SET coord.default_lease_ttl = '5 s'; SELECT ttl FROM coord.agent, LATERAL coord.lease_acquire('ttl', id) WHERE name = 'ann'}), '00:00:05',
	'a setting made before the library is loaded holds');

# ---- tokens go on over a restart, and a preload brings the worker

$token = sql(q{SELECT greatest((SELECT max(fencing_token) FROM coord.lease), (SELECT max(fencing_token) FROM coord.task))});
$node->stop('immediate');
$node->start;
is(sql(qq{SELECT fencing_token > $token FROM coord.agent, LATERAL coord.lease_acquire('after', id) WHERE name = 'ann'}), 't',
	'tokens grow over a crash without a worker, too');
is(sql(q{DROP EXTENSION coord; CREATE EXTENSION coord; SELECT count(*) FROM coord.agent}), '0', 'the extension can be dropped and created anew');
sql(q{SELECT coord.event_send('waiting', channel => 'bare')});
$early->quit;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coord'\n");
$node->restart;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.event WHERE type = 'waiting' AND position IS NOT NULL}),
	'once preloaded, a worker delivers what was waiting');

$node->stop('fast');

done_testing();
