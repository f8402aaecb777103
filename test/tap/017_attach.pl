# Agents whose life is bound to a connection: however it ends, the agent is inactive at
# once and what it held is free, in the database as for who listens.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('attach');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nrestart_after_crash = on\ncoord.max_attached_agents = 3\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

sql('CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');

my $status = q{(SELECT status FROM coord.agent WHERE name = 'bound')};
my $attach = q{SELECT status FROM coord.agent_attach((SELECT id FROM coord.agent WHERE name = 'bound'))};

# A session to which a new incarnation of the agent is attached, that holds a task and a
# lease; and its backend's pid.  The timeout is so short that no heartbeat keeps it alive.
sub attached_session
{
	my $session = $node->background_psql('postgres');

	sql(q{SELECT coord.task_create('t', queue => 'bound')});
	# in one statement, as the timeout may pass between two
	my $timeout = CoordCluster::seconds(1);
	is($session->query_safe(qq{SELECT status FROM coord.agent_attach((SELECT id FROM coord.agent_register('bound', heartbeat_timeout => '$timeout')))}),
		'active', 'an agent is attached');
	$session->query_safe(q{
		SELECT coord.lease_acquire('bound', id, '1 h', auto_renew => true), coord.task_claim(id, 'bound', lease_ttl => '1 h')
		FROM coord.agent WHERE name = 'bound'});
	return ($session, $session->query_safe('SELECT pg_backend_pid()'));
}

my $events = 0;

sub is_free
{
	my ($how) = @_;

	ok(becomes("$status = 'inactive'"), "$how: the agent is inactive");
	ok(becomes(q{state = 'released' FROM coord.lease WHERE resource_key = 'bound'}), "$how: its lease is released");
	ok(becomes(q{count(*) = 0 FROM coord.task WHERE state = 'claimed'}), "$how: its task is given back");
	$events++;
	ok(becomes(qq{count(*) = $events FROM coord.event WHERE type = 'agent.inactive' AND payload ->> 'name' = 'bound' AND position IS NOT NULL}),
		"$how: that is announced, once");
	is(sql(q{SELECT inactive_since >= last_heartbeat_at AND inactive_since <= clock_timestamp() FROM coord.agent WHERE name = 'bound'}), 't',
		"$how: as of the connection's end");
	sql(q{SELECT coord.task_cancel(id) FROM coord.task WHERE state = 'pending'});
}

my ($session, $pid) = attached_session();
ok(becomes(q{clock_timestamp() > last_heartbeat_at + 5 * heartbeat_timeout FROM coord.agent WHERE name = 'bound'}),
	'several heartbeat timeouts pass without a heartbeat');
is(sql("SELECT $status"), 'active', 'while the connection lives, so does the agent');
is(sql(q{SELECT count(*) FROM coord.event WHERE type = 'agent.inactive'}), '0', 'and nobody is told otherwise');
ok(becomes(q{next_deadline_at IS NULL OR next_deadline_at > clock_timestamp() + interval '1 min' FROM coord.worker}),
	'nor does the worker look after it');
$session->quit;
is_free('a normal disconnect');

($session, $pid) = attached_session();
sql("SELECT pg_terminate_backend($pid)");
is_free('a terminated backend');
$session->{run}->finish;

($session, $pid) = attached_session();
$session->{run}->signal('KILL');
is_free('kill -9 of the client');
$session->{run}->finish;

($session, $pid) = attached_session();
$session->query_safe(q{BEGIN; SELECT coord.task_create('open'); SELECT coord.task_claim(id) FROM coord.agent WHERE name = 'bound'});
$session->{run}->signal('KILL');
is_free('kill -9 of the client in a transaction');
$session->{run}->finish;

# a crash of a backend takes all connections with it, and the memory that knew them
($session, $pid) = attached_session();
kill('KILL', $pid);
ok($node->poll_query_until('postgres', 'SELECT true'), 'the server is back after the crash of the backend');
is_free('kill -9 of the backend');
$session->{run}->finish;

# a heartbeat brings it back, as an agent like any other
is(sql(q{SELECT status FROM coord.agent_heartbeat((SELECT id FROM coord.agent WHERE name = 'bound'))}), 'active', 'a heartbeat makes it active again');
ok(becomes("$status = 'inactive'"), 'until its heartbeat timeout passes');
$events++;

# the last attachment counts
($session, $pid) = attached_session();
my $second = $node->background_psql('postgres');
is($second->query_safe($attach), 'active', 'another session attaches the same agent, as after a reconnect');
$session->quit;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the first session ends');
ok(CoordCluster::works($node, 'postgres'), 'the worker has taken notice');
is(sql("SELECT $status"), 'active', 'the agent lives on with the second');
$second->query_safe($attach);
$second->quit;
is_free('the end of the second session');

# a transaction that does not come to its end attaches nothing
sql(q{SELECT coord.agent_register('bound', heartbeat_timeout => '1 h')});
$session = $node->background_psql('postgres');
$session->query_safe("BEGIN; $attach; ROLLBACK");
$session->query_safe("BEGIN; SAVEPOINT s; $attach; ROLLBACK TO s; COMMIT");
$session->quit;
ok(CoordCluster::works($node, 'postgres'), 'the worker has taken notice of the end of a session that rolled back');
is(sql("SELECT $status"), 'active', 'which ends no agent');
my ($ret, $out, $err) = $node->psql('postgres', "BEGIN; $attach; PREPARE TRANSACTION 'p'");
like($err, qr/cannot PREPARE a transaction that has attached an agent/, 'attaching cannot be prepared');

# a claim that is committed by another session after the connection's end
sql(q{SELECT coord.task_create('late', queue => 'late')});
$session = $node->background_psql('postgres');
$session->query_safe($attach);
$second = $node->background_psql('postgres');
$second->query_safe(q{BEGIN; SELECT coord.task_claim(id, 'late', lease_ttl => '1 h') FROM coord.agent WHERE name = 'bound'});
$session->quit;
ok(becomes("$status = 'inactive'"), 'an agent ends while another session is claiming for it');
$second->query_safe('COMMIT');
ok(becomes(q{state = 'pending' AND attempts = 1 FROM coord.task_live WHERE type = 'late'}), 'a claim that it commits then is given back all the same');
$second->quit;

# a lease that another session has locked at that moment, as by a renewal
sql(q{SELECT coord.agent_register('bound', heartbeat_timeout => '1 h')});
$session = $node->background_psql('postgres');
$session->query_safe($attach);
$session->query_safe(q{SELECT coord.lease_acquire('renewed', id, '1 h') FROM coord.agent WHERE name = 'bound'});
$second = $node->background_psql('postgres');
$second->query_safe(q{BEGIN; SELECT coord.lease_renew(id) FROM coord.lease WHERE resource_key = 'renewed'});
$session->quit;
ok(becomes("$status = 'inactive'"), 'an agent ends while another session is renewing its lease');
ok(CoordCluster::works($node, 'postgres'), 'which does not hold up the worker');
$second->query_safe('COMMIT');
ok(becomes(q{state = 'released' FROM coord.lease WHERE resource_key = 'renewed'}), 'the lease is released when that has ended');
$second->quit;

# who may, and how many
($ret, $out, $err) = $node->psql('postgres', q{SELECT coord.agent_attach('00000000-0000-4000-8000-000000000000')});
like($err, qr/does not exist/, 'an unknown agent cannot be attached');
sql(q{SELECT coord.agent_retire(id) FROM coord.agent WHERE name = 'bound'});
($ret, $out, $err) = $node->psql('postgres', $attach);
like($err, qr/is retired/, 'nor can a retired one');
sql(q{CREATE ROLE stranger; SELECT coord.grant_agent('stranger'); SELECT coord.agent_register('bound')});
($ret, $out, $err) = $node->psql('postgres', 'SET ROLE stranger; ' . q{SELECT coord.agent_attach('} . sql(q{SELECT id FROM coord.agent WHERE name = 'bound'}) . q{')});
like($err, qr/permission denied for agent "bound"/, "nor can another role's");
($ret, $out, $err) = $node->psql('postgres', q{SELECT coord.agent_attach(a.id) FROM generate_series(1, 4) g, coord.agent_register('many ' || g) a});
like($err, qr/too many agents are attached/, 'there is a limit, with an error that says so');
ok(becomes(q{count(*) = 0 FROM coord.agent_data WHERE attachment IS NOT NULL}), 'an error attaches none');
is(sql(q{SELECT count(*) FROM generate_series(1, 3) g, coord.agent_register('many ' || g) a, coord.agent_attach(a.id)}), '3', 'up to the limit it works');
ok(becomes(q{count(*) = 3 FROM coord.agent WHERE name LIKE 'many%' AND status = 'inactive'}), 'and all of them end with their session');

$session = $node->background_psql('postgres');
$session->query_safe(qq{SELECT coord.agent_attach(id) FROM coord.agent_register('passing $_')}),
	$session->query_safe(qq{SELECT coord.agent_retire(id) FROM coord.agent WHERE name = 'passing $_'}) for 1 .. 5;
pass('those that were retired meanwhile do not count');
$session->quit;

# a session that ends after the extension was dropped from its database, where nobody looks after it
sql('CREATE DATABASE dropped');
$node->safe_psql('dropped', 'CREATE EXTENSION coord');
$session = $node->background_psql('dropped');
$session->query_safe(q{SELECT count(*) FROM generate_series(1, 3) g, coord.agent_register('many ' || g) a, coord.agent_attach(a.id)});
$node->safe_psql('dropped', 'DROP EXTENSION coord');
ok(becomes(q{count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'coord worker' AND datname = 'dropped'}), 'the worker ends with the extension');
($ret, $out, $err) = $node->psql('postgres', q{SELECT coord.agent_attach(a.id) FROM coord.agent_register('many 1') a});
like($err, qr/too many agents are attached/, 'the session has its places');
$session->quit;
ok(becomes(q{count(*) = 3 FROM generate_series(1, 3) g, coord.agent_register('many ' || g) a, coord.agent_attach(a.id)}),
	'until it ends, though nothing of that database is left');

$node->stop('fast');
done_testing();
