# Waiting for a queue: woken by whatever makes a task claimable, at once; not by what does
# not; with nothing held meanwhile, and nothing left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = CoordCluster::new_node('queue_wait');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\ncoord.max_queue_waiters = 3\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register(name, heartbeat_timeout => '1 h') FROM unnest('{a, b}'::text[]) name;
	SELECT coord.queue_set('q', lease_ttl => '1 h', backoff_base => '100 ms');
	SELECT coord.queue_set('other', lease_ttl => '1 h')});
CoordCluster::has_worker($node, 'postgres');
my $a = q{(SELECT id FROM coord.agent WHERE name = 'a')};
my $b = q{(SELECT id FROM coord.agent WHERE name = 'b')};

my $waiter = $node->background_psql('postgres', on_error_stop => 0);
my $waiter_pid = $waiter->query_safe('SELECT pg_backend_pid()');
my $other = $node->background_psql('postgres', on_error_stop => 0);

# A session's wait ends within a minute, or is told to be too long.
sub sleeps { return "wait_event_type = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE pid = $_[0]"; }

sub create { return sql("SELECT id FROM coord.task_create('t', queue => 'q' $_[0])"); }
sub claim { return split /\|/, sql("SELECT id, fencing_token FROM coord.task_claim($a, 'q')"); }
sub finish_all
{
	sql(q{SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task WHERE state = 'claimed';
		SELECT count(coord.task_cancel(id)) FROM coord.task WHERE state IN ('pending', 'blocked');
		SELECT count(coord.lease_release(id)) FROM coord.lease WHERE state = 'active'});
}

# begin_wait(): the waiter waits for 'q', for up to ten minutes; it is asleep then.
sub begin_wait
{
	$waiter->query_until(qr/now/, qq{\\echo now
		CALL coord.queue_wait('q', '10 min');
		\\echo it has ended
	});
	return becomes(sleeps($waiter_pid)) || die 'the waiter does not sleep';
}

# begin_wait_for_soon(): the same, where what it waits for comes soon by itself: on a machine that
# is held up it may have come, and the wait have ended, before anybody has seen it asleep.
sub begin_wait_for_soon
{
	my $since = sql('SELECT clock_timestamp()');

	$waiter->query_until(qr/now/, qq{\\echo now
		CALL coord.queue_wait('q', '10 min');
		\\echo it has ended
	});
	return becomes(qq{wait_event_type = 'Extension' AND state = 'active' OR state = 'idle' AND state_change > '$since' AND query LIKE '%queue_wait%'
		FROM pg_stat_activity WHERE pid = $waiter_pid}) || die 'the waiter does not wait';
}

# is_woken($what): the wait ends, and something is claimable.
sub is_woken
{
	my ($what) = @_;

	like($waiter->query('SELECT 1'), qr/it has ended/, "$what ends a wait");
	is(sql("CALL coord.queue_wait('q', '10 min')"), '', 'and what it waited for is there');
}

# still_waits($what): the waiter has looked since that, and sleeps again.  What ends a
# prepared transaction that has sent something has all look, and a look begins a transaction.
sub still_waits
{
	my ($what) = @_;
	my $since = sql("SELECT xact_start FROM pg_stat_activity WHERE pid = $waiter_pid");

	sql(q{BEGIN; SELECT coord.event_send('look', channel => 'look'); PREPARE TRANSACTION 'have a look'});
	sql(q{COMMIT PREPARED 'have a look'});
	ok(becomes("xact_start > '$since' AND " . sleeps($waiter_pid)), "$what does not");
}

# ---- without waiting

my $began = time;
sql("CALL coord.queue_wait('q', '0')");
sql("CALL coord.queue_wait('never heard of', '0')");
cmp_ok(time - $began, '<', 20, 'a timeout of 0 looks once');
$began = time;
sql("CALL coord.queue_wait('q', '300 ms')");
cmp_ok(time - $began, '>=', 0.3, 'where nothing is claimable the timeout ends the wait');
create('');
is(sql("CALL coord.queue_wait('q', '10 min')"), '', 'where something is claimable it returns at once');
is(sql("CALL coord.queue_wait(timeout => '10 min', queue => 'q')"), '', 'it takes nothing');
is(sql(q{SELECT count(*) FROM coord.task WHERE state = 'pending'}), '1', 'and changes nothing');
finish_all();

# ---- what wakes

begin_wait();
is(sql(qq{SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $waiter_pid}), 't', 'who waits holds no snapshot and no xid');
is(sql(qq{SELECT count(*) FROM pg_locks WHERE pid = $waiter_pid AND locktype <> 'virtualxid'}), '0', 'and no lock');
sql(q{SELECT coord.task_create('t', queue => 'other')});
still_waits('a task of another queue');
sql(q{BEGIN; SELECT coord.task_create('t', queue => 'q'); ROLLBACK});
still_waits('a task that is rolled back');
my $blocked_by = sql(q{SELECT id FROM coord.task_create('first', queue => 'first')});
create(", depends_on => ARRAY['$blocked_by']::uuid[]");
still_waits('a task that depends on another');
sql(qq{SELECT coord.task_complete(id, fencing_token) FROM coord.task_claim($a, 'first')});
is_woken('the completion of what a task depends on');
finish_all();

begin_wait();
create('');
is_woken('a new task');
finish_all();

begin_wait();
sql(q{SELECT coord.task_create_many('[{"type": "t", "queue": "q"}, {"type": "t", "queue": "q"}]')});
is_woken('many new tasks');
finish_all();

begin_wait();
create(", run_at => clock_timestamp() + interval '500 ms'");
is_woken('a run_at that comes');
is(sql(q{SELECT bool_and(run_at <= clock_timestamp()) FROM coord.task WHERE state = 'pending'}), 't', 'not before');
finish_all();

create(", run_at => clock_timestamp() + interval '2 s'");
begin_wait_for_soon();
is_woken('a run_at that was known before');
finish_all();

create('');
my ($id, $token) = claim();
begin_wait();
sql("SELECT coord.task_fail('$id', $token, retry_in => '300 ms')");
is_woken('a retry');
($id, $token) = claim();
begin_wait();
sql("SELECT coord.task_release('$id', $token)");
is_woken('a task that is given back');
finish_all();

sql(q{SELECT coord.task_create('t', queue => 'q', max_attempts => 1)});
($id, $token) = claim();
sql("SELECT coord.task_fail('$id', $token)");
begin_wait();
sql(q{SELECT coord.task_redrive(queue => 'q')});
is_woken('a dead letter that is driven again');
finish_all();

# What a transaction does before the call may be to be undone at the session's exit, by PostgreSQL.
for my $before ('CREATE TEMP TABLE t (n integer)', 'LISTEN l', 'PERFORM coord.event_listen()', q{PERFORM coord.queue_listen('q')})
{
	my $session = $node->background_psql('postgres');

	$session->query_safe("DO \$\$ BEGIN $before; CALL coord.queue_wait('q', '10 ms'); END \$\$");
	$session->query_safe("CALL coord.queue_wait('q', '10 ms')");
	$session->quit;
	pass("a wait after $before");
}
begin_wait();
create('');
is_woken('a task that comes after those');
finish_all();

# a claim that is undone, wholly or by a savepoint, prepared or not
for my $undo ('ROLLBACK', 'ROLLBACK TO s')
{
	create('');
	$other->query_safe("BEGIN; SAVEPOINT s; SELECT id FROM coord.task_claim($a, 'q')");
	begin_wait();
	$other->query_safe($undo);
	is_woken("the $undo of a claim");
	$other->query_safe('COMMIT') if $undo ne 'ROLLBACK';
	finish_all();
}

for my $undo ('ROLLBACK', 'ROLLBACK TO s')
{
	create('');
	$other->query_safe("BEGIN; SAVEPOINT s; SELECT id FROM coord.task_claim($a, task_id => (SELECT id FROM coord.task WHERE state = 'pending'))");
	begin_wait();
	$other->query_safe($undo);
	is_woken("the $undo of a claim of that very task");
	$other->query_safe('COMMIT') if $undo ne 'ROLLBACK';
	finish_all();
}

create('');
$other->query_safe(q{BEGIN; SELECT coord.task_cancel(id) FROM coord.task WHERE state = 'pending'});
begin_wait();
$other->query_safe('ROLLBACK');
is_woken('the ROLLBACK of a cancellation');
finish_all();

# a claimant has more in hand than it comes to
my $holder = $node->background_psql('postgres');
my $other_pid = $other->query_safe('SELECT pg_backend_pid()');
create(", resource_key => 'r'");
create('');
$holder->query_safe('BEGIN; LOCK TABLE coord.lease_data');
$other->query_until(qr/now/, qq{\\echo now\nSELECT id FROM coord.task_claim($a, 'q', max_tasks => 50);\n});
becomes("wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $other_pid");
begin_wait();
sql("SELECT pg_cancel_backend($other_pid)");
$holder->query_safe('COMMIT');
is_woken('the end of a claimant that had not come to it');
$other->query('SELECT 1');
$other->{stderr} = '';
$holder->quit;
finish_all();

begin_wait();
sql(q{BEGIN; SELECT coord.task_create('t', queue => 'q'); PREPARE TRANSACTION 'p'});
still_waits('a transaction that is prepared');
sql(q{COMMIT PREPARED 'p'});
is_woken('COMMIT PREPARED');
finish_all();
create('');
sql(qq{BEGIN; SELECT id FROM coord.task_claim($a, 'q'); PREPARE TRANSACTION 'p'});
begin_wait();
sql(q{ROLLBACK PREPARED 'p'});
is_woken('ROLLBACK PREPARED of a claim');
finish_all();

sql(q{SELECT coord.queue_pause('q')});
create('');
begin_wait();
create('');
still_waits('a new task in a paused queue');
sql(q{SELECT coord.queue_resume('q')});
is_woken('the end of a pause');
finish_all();

# a queue with a limit
sql(q{SELECT coord.queue_set('q', max_claimed => 1)});
create('') for 1 .. 2;
($id, $token) = claim();
begin_wait();
create('');
still_waits('a new task in a queue at its limit');
sql("SELECT coord.task_complete('$id', $token)");
is_woken('a completion in a queue at its limit');
$other->query_safe("BEGIN; SELECT id FROM coord.task_claim($a, 'q')");
begin_wait();
$other->query_safe('ROLLBACK');
is_woken('the ROLLBACK of a claim that had taken the last place');
claim();
begin_wait();
sql(q{SELECT coord.queue_set('q', max_claimed => 2)});
is_woken('a higher limit');
sql(q{SELECT coord.queue_set('q', max_claimed => 0)});
finish_all();

# resources
my $lease = sql("SELECT id FROM coord.lease_acquire('r', $b, '1 h')");
create(", resource_key => 'r'");
begin_wait();
create(", resource_key => 'r'");
still_waits('a task whose resource is held');
sql("SELECT coord.lease_release('$lease')");
is_woken('the release of a resource');
($id, $token) = claim();
begin_wait();
sql("SELECT coord.task_complete('$id', $token)");
is_woken('the completion of the task that had the resource');
sql("SELECT coord.lease_acquire('r', $b, '1 s')");
begin_wait_for_soon();
is_woken('the expiry of the lease on it');
for my $undo ('ROLLBACK', 'ROLLBACK TO s')
{
	$other->query_safe("BEGIN; SAVEPOINT s; SELECT id FROM coord.lease_acquire('r', $b, '1 h')");
	begin_wait();
	$other->query_safe($undo);
	is_woken("the $undo of a lease on it");
	$other->query_safe('COMMIT') if $undo ne 'ROLLBACK';
}
sql(q{SELECT coord.task_create('t', queue => 'other', resource_key => 'r', priority => 5)});
$other->query_safe("BEGIN; SELECT id FROM coord.task_claim($b, 'other')");
begin_wait();
$other->query_safe('ROLLBACK');
is_woken('the ROLLBACK of a claim in another queue that had taken it');
$lease = sql("SELECT id FROM coord.lease_acquire('r', $b, '1 h')");
my $lease_token = sql("SELECT fencing_token FROM coord.lease WHERE id = '$lease'");
$other->query_safe("BEGIN; SELECT coord.lease_assert('r', $lease_token)");
sql("SELECT coord.lease_release('$lease')");
begin_wait();
$other->query_safe('COMMIT');
is_woken('the end of a transaction that has asserted it');
finish_all();

# claims that run out
create('');
sql("SELECT coord.task_claim($a, 'q', lease_ttl => '1 s')");
begin_wait_for_soon();
is_woken('a claim that runs out');
# in one statement, as the timeout may pass between two
sql(q{SELECT coord.task_claim(id, 'q') FROM coord.agent_register('fleeting', heartbeat_timeout => '1 s')});
begin_wait_for_soon();
is_woken('an agent that falls silent');
finish_all();

# ---- many wait

my @more = map { $node->background_psql('postgres') } 1 .. 2;
begin_wait();
$_->query_until(qr/now/, qq{\\echo now\nCALL coord.queue_wait('q', '10 min');\n\\echo it has ended\n}) for @more;
my $all_sleep = q{count(*) = 3 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND state = 'active' AND query LIKE 'CALL%'};
becomes($all_sleep);
is(sql(q{SELECT string_agg(DISTINCT wait_event, ' ') FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE 'CALL%'}),
	CoordCluster::wait_event($node, 'CoordQueue'), 'what they wait for has a name');
my ($ret, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
CALL coord.queue_wait('q')});
like($err, qr/53400:.*too many sessions wait for queues.*coord\.max_queue_waiters/s, 'one more than coord.max_queue_waiters is refused');
$node->psql('postgres', q{CREATE TABLE written (n int);
DO $$ BEGIN INSERT INTO written VALUES (1); CALL coord.queue_wait('q'); END $$});
is(sql('SELECT count(*) FROM written'), '0', 'and what its transaction did before is undone');
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
	CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()});
create('');
is_woken('a new task');
like($_->query('SELECT 1'), qr/it has ended/, 'it ends all waits, as long as nobody claims it') for @more;
claim();

# who goes does not keep the next from being woken
my %goes = ('is cancelled' => 'pg_cancel_backend', 'is terminated' => 'pg_terminate_backend');
for my $how (sort keys %goes)
{
	my $first = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $first->query_safe('SELECT pg_backend_pid()');

	$first->query_until(qr/now/, qq{\\echo now\nCALL coord.queue_wait('q', '10 min');\n});
	becomes(sleeps($pid));
	begin_wait();
	sql("SELECT $goes{$how}($pid)");
	ok(becomes("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid AND state = 'active')"), "who came first $how");
	create('');
	is_woken('a new task, for the next one');
	finish_all();
	$how eq 'is cancelled' ? $first->quit : $first->{run}->finish;
}
my $gone = $node->background_psql('postgres', on_error_stop => 0);
my $gone_pid = $gone->query_safe('SELECT pg_backend_pid()');
$gone->query_until(qr/now/, qq{\\echo now\nCALL coord.queue_wait('q', '10 min');\n});
becomes(sleeps($gone_pid));
$gone->{run}->signal('KILL');
ok(becomes("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $gone_pid)"), 'the session of a client that was killed ends');
$gone->{run}->finish;
($ret, $out, $err) = $node->psql('postgres', qq{SET statement_timeout = '200 ms'; \nCALL coord.queue_wait('q', '10 min')});
like($err, qr/statement timeout/, 'statement_timeout ends a wait');
for my $session (@more)
{
	$session->query_until(qr/now/, qq{\\echo now\nCALL coord.queue_wait('q', '10 min');\n});
}
begin_wait();
becomes($all_sleep);
pass('none of them has left a place taken');
create('');
is_woken('a new task');
$_->query('SELECT 1'), $_->quit for @more;
finish_all();

# ---- a worker is not needed, nor told, and nothing is notified

my $worker_pid = sql('SELECT pid FROM coord.worker');
begin_wait();
kill('STOP', $worker_pid);
create('');
is_woken('a new task, with the worker stopped');
kill('CONT', $worker_pid);
finish_all();

$other->query_safe(q{LISTEN "coord:queue:q"; SELECT coord.queue_listen('mark')});
my $heard = $other->query('SELECT 1');
begin_wait();
# what there is for the worker to do is done: also a machine that has stood still can look as if it slept
my $event = sql(q{SELECT (coord.event_send('before', channel => 'before')).id});
becomes("position IS NOT NULL FROM coord.event WHERE id = '$event'");
becomes(q{last_wakeup_at < clock_timestamp() - interval '300 ms' AND state = 'idle' AND wait_event_type = 'Extension'
	FROM coord.worker JOIN pg_stat_activity USING (pid)});
my $woken_at = sql('SELECT last_wakeup_at FROM coord.worker');
create('');
is_woken('a new task');
is(sql('SELECT last_wakeup_at FROM coord.worker'), $woken_at, 'the worker sleeps on');
sql(q{SELECT coord.task_create('t', queue => 'mark')});
$heard .= $other->query('SELECT 1') until $heard =~ /"coord:queue:mark".*"coord:queue:mark"|"mark"/;
unlike($heard, qr/coord:queue:q"/, 'nothing is notified');
finish_all();

# ---- errors

sub is_refused
{
	my ($statement, $expected, $what) = @_;

	($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	like($err, $expected, $what);
}

is_refused("BEGIN;\nCALL coord.queue_wait('q', '0');", qr/25001:/, 'in a transaction block it is refused');
is_refused("SELECT 1\\; CALL coord.queue_wait('q', '0');", qr/25001:/, 'in an implicit one too');
is_refused("CALL coord.queue_wait('q', '-1 s');", qr/22023:.*timeout/, 'a negative timeout is');
is_refused("CALL coord.queue_wait(repeat('x', 513));", qr/22023:.*queue/, 'a name that is too long is');
is_refused("CALL coord.queue_wait('');", qr/22023:.*queue/, 'an empty one is');
sql(q{SELECT coord.task_create('t')});
is(sql('CALL coord.queue_wait(NULL, NULL)'), '', 'NULL stands for the defaults');
is(sql(q{SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on; CALL coord.queue_wait(); SHOW transaction_isolation}),
	'serializable', 'it looks in READ COMMITTED, and leaves the default as it was');
is(sql(q{DO $$BEGIN CALL coord.queue_wait('q', '1 ms'); END$$}), '', 'a block can call it');

# ---- beside somebody who is about to wait, once his transaction has been committed, which takes long

sql(q{
	CREATE TABLE slow (i int);
	CREATE FUNCTION wait_there() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_there();
	CREATE PROCEDURE wait_slowly() LANGUAGE plpgsql AS $$BEGIN INSERT INTO slow VALUES (1); CALL coord.queue_wait('q', '10 min'); END$$});
$other->query_safe('SELECT pg_advisory_lock(77)');
my $slow = $node->background_psql('postgres');
$slow->query_until(qr/now/, "\\echo now\nCALL wait_slowly();\n\\echo it has ended\n");
becomes(q{EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted)}) || die 'it does not wait there';
begin_wait();
create('');
is_woken('a new task, though somebody is about to wait,');
$other->query_safe('SELECT pg_advisory_unlock(77)');
like($slow->query('SELECT 1'), qr/it has ended/, 'who finds it, too');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL%' AND state = 'active'}), '0', 'nobody waits');
($ret, $out, $err) = $node->psql('postgres', q{DO $$ BEGIN INSERT INTO written VALUES (1); CALL coord.queue_wait('q'); END $$;} x 5, on_error_stop => 0);
is(scalar(() = $err =~ /ERROR:  no$/mg), 5, 'whose transaction cannot be committed does not wait, nor takes a place from others');
$slow->quit;
finish_all();

$_->quit for $waiter, $other;
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/(PANIC|WARNING|TRAP):/, 'the log has nothing to say');

# ---- where no worker can run, who waits does its work

$node = CoordCluster::new_node('queue_wait_alone');
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 0\n");
$node->start;
sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('a', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('q', lease_ttl => '1 h', backoff_base => '100 ms');
	SELECT coord.task_create('t', queue => 'q');
	SELECT coord.task_claim(id, 'q') FROM coord.agent_register('fleeting', heartbeat_timeout => '400 ms')});
is(sql(q{CALL coord.queue_wait('q', '10 min'); SELECT pid IS NULL FROM coord.worker}), 't', 'an agent that falls silent ends a wait without a worker');
is(sql("SELECT count(*) FROM coord.task_claim($a, 'q', lease_ttl => '300 ms')"), '1', 'its task is there');
sql(q{CALL coord.queue_wait('q', '10 min')});
is(sql("SELECT count(*) FROM coord.task_claim($a, 'q')"), '1', 'so does a claim that runs out');
sql(qq{SELECT coord.lease_acquire('r', $a, '300 ms'); SELECT coord.task_create('t', queue => 'q', resource_key => 'r')});
sql(q{CALL coord.queue_wait('q', '10 min')});
is(sql("SELECT count(*) FROM coord.task_claim($a, 'q')"), '1', 'and a lease');
$node->stop('fast');
done_testing();
