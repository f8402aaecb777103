# An agent ends while a transaction takes something for it that is not committed yet: what it
# has claimed is given back, and what a retired one has leased is released, as soon as both are
# committed, in whatever order; with and without a worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('ended_meanwhile');
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');
ok(CoordCluster::has_worker($node, 'postgres'), 'there is a worker');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub holds { return $node->poll_query_until('postgres', $_[0]); }

# of the agent that ends, and of another one
my ($taker, $ender) = map { $node->background_psql('postgres', on_error_stop => 1) } 1, 2;
my $heir = sql(q{SELECT id FROM coord.agent_register('heir', heartbeat_timeout => '1 h')});

# mortal($queue, $tasks): an agent named after the queue, which has so many tasks; returns its id.
sub mortal
{
	my ($queue, $tasks) = @_;

	sql("SELECT coord.queue_set('$queue', backoff_base => '1 ms', backoff_max => '1 ms')");
	sql("SELECT coord.task_create('t', queue => '$queue') FROM generate_series(1, $tasks)");
	return sql("SELECT id FROM coord.agent_register('$queue', heartbeat_timeout => '1 h')");
}
sub claim { my ($id, $queue, $n) = @_; return "SELECT fencing_token FROM coord.task_claim('$id', '$queue', lease_ttl => '1 h', max_tasks => " . ($n // 1) . ')'; }
sub lease { my ($id, $key) = @_; return "SELECT state FROM coord.lease_acquire('$key', '$id', '1 h')"; }
sub retire { my ($id) = @_; return "SELECT status FROM coord.agent_retire('$id')"; }

# Another agent gets the next task of a queue; or a resource.
sub heir_claims { my ($queue, $what) = @_; return ok(holds("SELECT count(*) = 1 FROM coord.task_claim('$heir', '$queue', lease_ttl => '1 h')"), $what); }
sub heir_leases { my ($key, $what) = @_; return ok(holds("SELECT count(*) = 1 FROM coord.lease_acquire('$key', '$heir', '1 h')"), $what); }

# What a session says to a call with the token of the task that the queue's agent had.
sub complaint
{
	my ($call, $queue, $token) = @_;
	my (undef, undef, $complaint) = $node->psql('postgres', "SELECT coord.$call(id, $token) FROM coord.task WHERE queue = '$queue'",
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	return $complaint;
}

# ---- the agent is retired, and then the other transaction commits

my $id = mortal('late', 1);
$taker->query_safe('BEGIN');
my $token = $taker->query_safe(claim($id, 'late'));
$taker->query_safe(lease($id, 'late'));
is($ender->query_safe(retire($id)), 'retired', 'an agent is retired while a claim and a lease are not committed');
$taker->query_safe('COMMIT');
heir_claims('late', 'the task is claimable when they are');
heir_leases('late', 'and the resource is free');
like(complaint('task_renew', 'late', $token), qr/55000/, 'the token is refused');
$id = sql(q{SELECT id FROM coord.agent_register('late', heartbeat_timeout => '1 h')});
like(complaint('task_complete', 'late', $token), qr/55000/, 'and stays so when the agent is registered again');

$id = mortal('batch', 2);
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'batch', 2));
$ender->query_safe(retire($id));
$taker->query_safe('COMMIT');
heir_claims('batch', "of two tasks that were claimed together the $_ is claimable, too") for 'first', 'second';

$id = mortal('waited', 1);
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'waited'));
my $waiter = $node->background_psql('postgres', on_error_stop => 1);
$waiter->query_until(qr/waits/, "\\echo waits\nCALL coord.queue_wait('waited', '$PostgreSQL::Test::Utils::timeout_default s');\n");
$ender->query_safe(retire($id));
$taker->query_safe('COMMIT');
is($waiter->query_safe("SELECT count(*) FROM coord.task_claim('$heir', 'waited')"), '1', 'who waits for the queue is woken, and claims the task');
$waiter->quit;

# ---- the other way round

$id = mortal('early', 1);
$ender->query_safe('BEGIN');
$ender->query_safe(retire($id));
$taker->query_safe(claim($id, 'early'));
$taker->query_safe(lease($id, 'early'));
$ender->query_safe('COMMIT');
heir_claims('early', 'a claim that is committed before the retirement is given back');
heir_leases('early', 'and a lease released');

# ---- other ends

$id = mortal('lapsed', 1);
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'lapsed'));
$taker->query_safe(lease($id, 'lapsed'));
sql(q{SELECT coord.agent_register('lapsed', heartbeat_timeout => '100 ms')});
ok(holds("SELECT inactive_since IS NOT NULL FROM coord.agent_data WHERE id = '$id'"), 'an agent whose timeout has been shortened falls silent');
$taker->query_safe('COMMIT');
heir_claims('lapsed', 'what it was claiming is given back');
is(sql(q{SELECT state FROM coord.lease WHERE resource_key = 'lapsed'}), 'active', 'but its lease runs on');

$id = mortal('attached', 1);
$taker->query_safe("SELECT coord.agent_attach('$id')");
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'attached'));
$taker->query_safe(lease($id, 'attached'));
$ender->query_safe(retire($id));
$taker->query_safe('COMMIT');
heir_claims('attached', 'an attached agent that is retired by another session has no claim');
heir_leases('attached', 'and no lease');

my $bound = $node->background_psql('postgres', on_error_stop => 1);
$id = mortal('cut', 1);
$bound->query_safe("SELECT coord.agent_attach('$id')");
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'cut'));
$bound->quit;
ok(holds("SELECT inactive_since IS NOT NULL FROM coord.agent_data WHERE id = '$id'"), 'an agent loses its connection');
$taker->query_safe('COMMIT');
heir_claims('cut', 'what another session was claiming for it is given back');

# ---- transactions of several parts, and of two phases

$id = mortal('parts', 2);
$taker->query_safe('BEGIN');
$taker->query_safe('SAVEPOINT a');
$taker->query_safe(claim($id, 'parts'));
$taker->query_safe('RELEASE a');
$taker->query_safe('SAVEPOINT b');
$taker->query_safe(claim($id, 'parts'));
$taker->query_safe('ROLLBACK TO b');
$ender->query_safe(retire($id));
# the counter is compared with what it was before the first claim
my $other = sql(q{SELECT id FROM coord.agent_register('other', heartbeat_timeout => '1 h')});
is($taker->query_safe(claim($other, 'parts')), $taker->query_safe(q{SELECT max(fencing_token) FROM coord.task_live WHERE queue = 'parts'}),
	'a transaction claims for another agent afterwards');
$taker->query_safe('COMMIT');
heir_claims('parts', 'its first claim is given back');
is(sql("SELECT count(*) FROM coord.task WHERE queue = 'parts' AND agent_id = '$other' AND state = 'claimed'"), '1', 'the other one holds');

$id = mortal('kept', 1);
$ender->query_safe('BEGIN');
$ender->query_safe('SAVEPOINT a');
$ender->query_safe(retire($id));
$token = $taker->query_safe(claim($id, 'kept'));
$ender->query_safe('ROLLBACK TO a');
$ender->query_safe('COMMIT');
is(sql("SELECT (coord.task_complete(id, $token)).state FROM coord.task WHERE queue = 'kept'"), 'completed', 'a retirement that is undone takes nothing away');

$id = mortal('prepared end', 1);
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'prepared end'));
$taker->query_safe(lease($id, 'prepared end'));
$ender->query_safe('BEGIN');
$ender->query_safe(retire($id));
$ender->query_safe(q{PREPARE TRANSACTION 'end'});
$ender->query_safe(q{COMMIT PREPARED 'end'});
$taker->query_safe('COMMIT');
heir_claims('prepared end', 'a retirement of two phases gives back what was being claimed');
heir_leases('prepared end', 'and releases what was being leased');

$id = mortal('prepared claim', 1);
$taker->query_safe('BEGIN');
$taker->query_safe(claim($id, 'prepared claim'));
$taker->query_safe(lease($id, 'prepared claim'));
$taker->query_safe(q{PREPARE TRANSACTION 'claim'});
$ender->query_safe(retire($id));
$taker->query_safe(q{COMMIT PREPARED 'claim'});
heir_claims('prepared claim', 'a claim of two phases is given back');
heir_leases('prepared claim', 'and so is a lease');

# ---- a crash between the two, after which nobody remembers

$id = mortal('crash', 1);
$ender->query_safe('BEGIN');
$ender->query_safe(retire($id));
$taker->query_safe(claim($id, 'crash'));
$taker->query_safe(lease($id, 'crash'));
$ender->query_safe(q{PREPARE TRANSACTION 'crash'});
$node->stop('immediate');
$_->{run}->finish foreach $taker, $ender;	# their psql have lost the server
$node->start;
sql(q{COMMIT PREPARED 'crash'});
heir_claims('crash', 'after a crash, too, a claim of an agent that was being retired is given back');
heir_leases('crash', 'and its lease is released');

# ---- without a worker; there a claim has its agent locked, which cannot be retired meanwhile

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
($taker, $ender) = map { $node->background_psql('postgres', on_error_stop => 1) } 1, 2;
$id = mortal('by hand', 1);
$ender->query_safe('BEGIN');
$ender->query_safe(retire($id));
$taker->query_safe(claim($id, 'by hand'));
$taker->query_safe(lease($id, 'by hand'));
$ender->query_safe('COMMIT');
sql('SELECT coord.sweep()');
heir_claims('by hand', 'without a worker, sweep() gives a claim back');
heir_leases('by hand', 'and releases a lease');

# the token was refused, and so it stays, whether somebody has swept or not
$id = mortal('again', 1);
$ender->query_safe('BEGIN');
$ender->query_safe(retire($id));
$token = $taker->query_safe(claim($id, 'again'));
$ender->query_safe('COMMIT');
like(complaint('task_complete', 'again', $token), qr/55000/, 'the token of an agent that is retired is refused');
sql(q{SELECT coord.agent_register('again', heartbeat_timeout => '1 h')});
like(complaint('task_complete', 'again', $token), qr/55000/, 'also when it is registered again before anybody has swept');
heir_claims('again', 'the task is claimable');

$_->quit foreach $taker, $ender;
$node->stop;
done_testing();
