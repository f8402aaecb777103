# Nothing of coord is preloaded, and pg_cron is in another database: what the background
# worker would do, sweep() under pg_cron does, and tasks recur.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_cron_node('alone', 'cronhome', 'pg_cron');
$node->append_conf('postgresql.conf', "coord.task_retention = 0\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE cronhome');
$node->safe_psql('cronhome', 'CREATE EXTENSION pg_cron');
$node->safe_psql('postgres', 'CREATE DATABASE app');
my $seconds = CoordCluster::cron_knows_seconds($node, 'cronhome');

sub sql { return $node->safe_psql('app', $_[0]); }

# No claimant, no reader and no sweep but pg_cron's comes to what runs out here.  That begins
# when all is there.
sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register(name, heartbeat_timeout => '1 h') FROM unnest('{alive, mortal}'::text[]) name;
	SELECT coord.queue_set('q', backoff_base => '100 ms', max_attempts => 2);
	SELECT coord.task_create('of a run-out claim', queue => 'q');
	SELECT coord.task_claim(id, 'q', lease_ttl => '1 h') FROM coord.agent WHERE name = 'alive';
	SELECT coord.task_create('of a dead agent', queue => 'q', resource_key => 'resource');
	SELECT coord.task_claim(id, 'q', lease_ttl => '1 h') FROM coord.agent WHERE name = 'mortal';
	SELECT coord.task_create('for the last time', queue => 'last', max_attempts => 1);
	SELECT coord.task_claim(id, 'last', lease_ttl => '1 h') FROM coord.agent WHERE name = 'alive';
	SELECT coord.lease_acquire('kept', id, '150 s', auto_renew => true) FROM coord.agent WHERE name = 'alive';
	UPDATE coord.lease_data SET renewed_at = renewed_at - interval '60 s', expires_at = expires_at - interval '60 s' WHERE resource_key = 'kept';
	UPDATE coord.lease_deadline SET check_at = now();
	SELECT coord.event_send('sent', channel => 'c');
	SELECT coord.lease_acquire('short', id, '100 ms') FROM coord.agent WHERE name = 'alive';
	SELECT coord.task_renew(id, fencing_token, '100 ms') FROM coord.task WHERE type <> 'of a dead agent';
	SELECT coord.agent_register('mortal', heartbeat_timeout => '100 ms')});
is(sql('SELECT pid IS NULL FROM coord.worker'), 't', 'there is no worker');
my $kept = sql(q{SELECT expires_at FROM coord.lease WHERE resource_key = 'kept'});

my $jobs = sql('SELECT coord.cron_install()');
like($jobs, qr/"sweep": \d+/, 'the upkeep is installed');
my $often = $seconds ? '1 seconds' : '* * * * *';
sql("SELECT coord.task_schedule('recurring', '$often', 'recurring')");

# what is stored, since what is shown is true before any sweep
ok($node->poll_query_until('app', q{SELECT count(*) = 2 FROM coord.task_live WHERE queue = 'q' AND state = 'pending'}), 'tasks whose claim has run out, or whose agent has died, are given back');
ok($node->poll_query_until('app', q{SELECT count(*) = 3 FROM coord.event_log WHERE type IN ('lock.expired', 'agent.inactive', 'sent')}), 'a lease that ran out and an agent that died are announced, and what was sent is delivered');
is(sql(q{SELECT string_agg(type, ' ' ORDER BY type) FROM coord.event_log}), 'agent.inactive lock.expired sent task.dead task.requeued task.requeued', 'once');
is(sql(q{SELECT state, fencing_token IS NULL, attempts FROM coord.task_live WHERE type = 'of a run-out claim'}), 'pending|t|1', 'the task is what it is to be');
is(sql(q{SELECT count(*) FROM coord.task_dead WHERE type = 'for the last time'}), '1', 'the last attempt\'s is a dead letter');
is(sql(q{SELECT inactive_since IS NOT NULL FROM coord.agent_data WHERE name = 'mortal'}), 't', 'the agent is inactive');
is(sql(q{SELECT released, ended_at IS NOT NULL FROM coord.lease_data WHERE resource_key = 'short'}), 'f|t', 'the lease has expired');
is(sql(q{SELECT count(*) FROM coord.lease WHERE resource_key = 'resource' AND state = 'active'}), '0', 'the dead agent\'s is not held');
is(sql(qq{SELECT expires_at > '$kept' FROM coord.lease WHERE resource_key = 'kept'}), 't', 'one that is to be renewed was renewed');
is(sql(q{SELECT count(*) FROM coord.task_claim((SELECT id FROM coord.agent WHERE name = 'alive'), 'q', max_tasks => 5, lease_ttl => '1 h')}), '2', 'others get the tasks');

ok($node->poll_query_until('app', q{SELECT count(*) = 1 FROM coord.task WHERE type = 'recurring'}), 'a task recurs');
is(sql(q{SELECT coord.task_unschedule('recurring')}), 't', 'until it is unscheduled');
is(sql('SELECT coord.cron_remove()'), '3', 'the upkeep is removed');
is($node->safe_psql('cronhome', 'SELECT count(*) FROM cron.job'), '0', 'and pg_cron has nothing left to do');
is($node->safe_psql('cronhome', q{SELECT coalesce(string_agg(DISTINCT return_message, ' '), '-') FROM cron.job_run_details WHERE status = 'failed'}), '-', 'no run has failed');
$node->stop;

done_testing();
