# Listening to a queue: whatever makes a task claimable is told, now or when its time has
# come; many at once are told once; and what makes none claimable is not told.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use QueueListener;
use Test::More;

my $node = CoordCluster::new_node('listen');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\ncoord.max_listened_queues = 3\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.queue_set('q', lease_ttl => '1 h');
	SELECT coord.agent_register('a', heartbeat_timeout => '1 h')});
CoordCluster::has_worker($node, 'postgres');
my $a = q{(SELECT id FROM coord.agent WHERE name = 'a')};
my $claim = "SELECT id, fencing_token FROM coord.task_claim($a, 'q')";

my $listener = QueueListener->new($node);
sub notifications { return $listener->notifications; }
sub is_told { return $listener->is_told($_[0]); }

like($listener->listen, qr/^coord:queue:q$/m, 'a session listens to a queue');
notifications();

sql(q{SELECT coord.task_create('t', queue => 'q')});
is_told('a new task is told');
my ($id, $token) = split /\|/, sql($claim);
is(notifications(), 0, 'its claim is not');
sql("SELECT coord.task_release('$id', $token)");
is_told('a task that is given back is');
($id, $token) = split /\|/, sql($claim);
sql("SELECT coord.task_fail('$id', $token, retry_in => '300 ms')");
is_told('and one that failed, when it is to be retried');
is(sql(qq{SELECT run_at <= clock_timestamp() FROM coord.task WHERE id = '$id'}), 't', 'not before');
($id, $token) = split /\|/, sql($claim);
sql(qq{SELECT coord.task_create('next', queue => 'q', depends_on => ARRAY['$id']::uuid[])});
is(notifications(), 0, 'one that waits for another is not told');
sql("SELECT coord.task_complete('$id', $token)");
is_told('until the other is completed');
sql($claim);

sql(q{SELECT coord.task_create('later', queue => 'q', run_at => clock_timestamp() + interval '400 ms', priority => 5);
	SELECT coord.task_create('much later', queue => 'q', run_at => clock_timestamp() + interval '1 h', priority => 7)});
is_told('one with a run_at is told when that has come');
is(sql(q{SELECT run_at <= clock_timestamp() FROM coord.task WHERE type = 'later'}), 't', 'not before');
sql($claim);

sql(qq{SELECT coord.task_create('short', queue => 'q'); SELECT coord.queue_set('q', backoff_base => '100 ms')});
notifications();
sql(qq{SELECT coord.task_claim($a, 'q', lease_ttl => '100 ms')});
is_told('a claim that has run out is, after its backoff');
is(sql("SELECT count(*) FROM coord.task_claim($a, 'q')"), '1', 'when it can be claimed again');

sql(q{SELECT coord.queue_pause('q')});
sql(q{SELECT coord.task_create('paused', queue => 'q')});
notifications();
sql(q{SELECT coord.queue_resume('q')});
is_told('the end of a pause is told');

# what an aborted claim had kept from others
my $claimer = $node->background_psql('postgres');
notifications();
$claimer->query_safe("BEGIN; $claim");
is(sql("SELECT count(*) FROM coord.task_claim($a, 'q')"), '0', 'a task that is being claimed is not there for others');
is(notifications(), 0, 'which is not told');
$claimer->query_safe('ROLLBACK');
is_told('but that the claim was undone is');
sql($claim);

sql(q{SELECT coord.queue_set('q', max_claimed => 1)});
sql(q{SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task WHERE state = 'claimed'});
sql(q{SELECT coord.task_create('one', queue => 'q'), coord.task_create('two', queue => 'q')});
($id, $token) = split /\|/, sql($claim);
is(sql("SELECT count(*) FROM coord.task_claim($a, 'q')"), '0', 'a queue is at its limit');
notifications();
sql("SELECT coord.task_complete('$id', $token)");
is_told('that another one may be claimed is told');
sql(q{SELECT coord.queue_set('q', max_claimed => 0)});
notifications();

# ---- merged, and not told at all

sql(q{SELECT count(coord.task_create('t', queue => 'q')) FROM generate_series(1, 10000)});
is(notifications(), 1, 'ten thousand tasks at once are one notification');
sql(join(';', ("SELECT coord.task_create('t', queue => 'q')") x 200));
my $n = notifications();
cmp_ok($n, '>=', 1, 'two hundred commits are told');
cmp_ok($n, '<=', 200, 'no more often than there were commits');
sql(q{BEGIN; SELECT coord.task_create('t', queue => 'q'); ROLLBACK});
sql(q{SELECT coord.task_create('t', queue => 'other')});
is(notifications(), 0, 'what was rolled back is not told, nor what is in another queue');
sql(q{BEGIN; SELECT coord.task_create('t', queue => 'q'); PREPARE TRANSACTION 'p'});
is(notifications(), 0, 'nor what is prepared');
sql(q{COMMIT PREPARED 'p'});
is_told('until it is committed');
sql(q{CREATE ROLE nobody LOGIN});
for my $end ('COMMIT', 'ROLLBACK')
{
	$node->safe_psql('postgres', "BEGIN; PREPARE TRANSACTION 'p'; $end PREPARED 'p'", extra_params => [ '-U', 'nobody' ]);
	is(notifications(), 0, "a prepared transaction that has not used coord has nobody look at its $end");
	$node->safe_psql('postgres', "BEGIN; SELECT FROM coord.task_list(); PREPARE TRANSACTION 'p'; $end PREPARED 'p'");
	is(notifications(), 0, "nor has one that has only read");
}
sql(q{BEGIN; SELECT count(*) FROM coord.task_create('t', queue => 'q'); PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'});
is_told('one that has may have freed something');

# ---- the worker may be ended meanwhile

my $pid = sql('SELECT pid FROM coord.worker');
sql("SELECT pg_terminate_backend($pid)");
$node->poll_query_until('postgres', "SELECT pid <> $pid FROM coord.worker");
is_told('a new worker tells all to look');
sql(q{SELECT coord.task_create('t', queue => 'q')});
is_told('and goes on telling');

# ---- names, limits, the end

my $long = 'x' x 512;
like(sql("SELECT coord.queue_listen('$long')"), qr/^coord:queue-sha256:.{43}$/m, 'a queue with a long name has a NOTIFY channel too');
my ($ret, $out, $err) = $node->psql('postgres', q{SELECT coord.queue_listen('three'), coord.queue_listen('four')});
like($err, qr/too many queues are listened to/, 'there is a limit, with an error that says so');
# psql ends before its session does
$node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'client backend'});
like(sql(q{SELECT coord.queue_listen('three')}), qr/^coord:queue:three$/m, 'what the ended sessions listened to does not count');
$listener->query_safe(q{BEGIN; SAVEPOINT s; SELECT coord.queue_unlisten('q'); ROLLBACK TO s; COMMIT});
notifications();
sql(q{SELECT coord.task_create('t', queue => 'q')});
is_told('a session that has stopped listening only in a savepoint is told');
like($listener->query_safe(q{SELECT coord.queue_unlisten('q')}), qr/^coord:queue:q$/m, 'a session stops listening');
notifications();
sql(q{SELECT coord.task_create('t', queue => 'q')});
is(notifications(), 0, 'and is told no more');

$listener->quit;
$claimer->quit;

# what was prepared before the server was started may be anything
sql(q{BEGIN; SELECT coord.task_create('t', queue => 'q'); PREPARE TRANSACTION 'p'});
$node->restart;
CoordCluster::has_worker($node, 'postgres');
$listener = QueueListener->new($node);
$listener->listen;
notifications();
sql(q{COMMIT PREPARED 'p'});
is_told('a task that was prepared before a restart is told');
$listener->quit;
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/(PANIC|WARNING):/, 'the log has nothing to say');
done_testing();
