# A role's sweep() takes nobody's rows hostage: beside a worker it is the worker that sweeps,
# and without one the call is a statement of its own.  Whom no limit concerns may sweep in
# any transaction.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('hostile_sweep');
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub session { return CoordCluster::session_of($node, $_[0]); }

# Something of the victim's that has run out: a lease and a claim.
sub run_out
{
	my ($name) = @_;

	as('victim', qq{
		SELECT coord.lease_acquire('$name', id, '100 ms') FROM coord.agent WHERE name = 'victim';
		SELECT coord.task_create('$name', queue => '$name');
		SELECT coord.task_claim(id, '$name', lease_ttl => '100 ms') FROM coord.agent WHERE name = 'victim'});
	return $node->poll_query_until('postgres', qq{SELECT lease.state = 'expired' AND task.state = 'pending'
		FROM coord.lease, coord.task WHERE lease.resource_key = '$name' AND task.type = '$name'});
}

# What another of the victim's agents gets of it.
sub taken
{
	my ($name) = @_;

	return as('victim', qq{SELECT (SELECT count(*) FROM coord.lease_acquire('$name', id, '1 h')),
		(SELECT count(*) FROM coord.task_claim(id, '$name', lease_ttl => '1 h')) FROM coord.agent WHERE name = 'heir'});
}

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE victim LOGIN;
	SELECT coord.grant_agent('hostile', 'other'), coord.grant_agent('victim')});
CoordCluster::has_worker($node, 'postgres');
as('victim', q{
	SELECT coord.queue_set(q, backoff_base => '0 s') FROM unnest('{stopped, asked, alone, kept}'::text[]) q;
	SELECT coord.agent_register(n, heartbeat_timeout => '1 h') FROM unnest('{victim, heir}'::text[]) n});

# ---- beside a worker, which is stopped, so that it is not there first

my $hostile = session('hostile');
my $worker = CoordCluster::stop_worker($node, 'postgres');
ok(run_out('stopped'), 'a lease and a claim run out while the worker stands still');
$hostile->query_safe('BEGIN');
is($hostile->query_safe(q{SELECT coord.sweep() ->> 'leases_expired'}), '0', 'sweep() does not wait for it for ever');
is(taken('stopped'), '1|1', 'what ran out is to be had while the transaction that has swept is open');
kill 'CONT', $worker;
$hostile->query_safe('ROLLBACK');

$worker = CoordCluster::stop_worker($node, 'postgres');
ok(run_out('asked'), 'others run out');
$hostile->query_safe('BEGIN');
my $event = CoordCluster::wait_event($node, 'CoordSweep');
$hostile->query_until(qr/begins/, qq{\\echo begins\nSELECT 'swept ' || (s ->> 'leases_expired') || ' ' || (s ->> 'tasks_requeued') FROM coord.sweep() s;\n});
ok($node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'hostile' AND wait_event = '$event'}),
	'sweep() waits for the worker');
kill 'CONT', $worker;
is($hostile->query_until(qr/swept \d+ \d+\n/, "\n"), "swept 1 1\n", 'which has swept, and said what');
is(taken('asked'), '1|1', 'what it has given back is to be had');
is(sql(q{SELECT count(*) FROM coord.event WHERE type = 'lock.expired' AND payload ->> 'resource_key' = 'asked' AND position IS NOT NULL}), '1', 'and announced');
$hostile->quit;

# ---- without one

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
ok(run_out('alone'), 'without a worker, too');

sub refused
{
	my (undef, undef, $error) = $node->psql('postgres', $_[0], extra_params => [ '-U', 'hostile', '-v', 'VERBOSITY=verbose' ]);

	return $error;
}
like(refused("BEGIN; SELECT coord.sweep(); COMMIT"), qr/25001: coord\.sweep\(\) cannot run inside a transaction block/, 'a role does not sweep in a transaction block');
like(refused($_), qr/25001: .*coord\.sweep\(\).*HINT/s, "nor in: $_") foreach (
	'SELECT coord.sweep(), pg_sleep(0)',
	'SELECT coord.sweep() FROM pg_class',
	'SELECT coord.sweep() WHERE pg_sleep(0) IS NOT NULL',
	'SELECT pg_sleep(0) FROM coord.sweep()',
	'WITH late AS MATERIALIZED (SELECT pg_sleep(0) AS p) SELECT coord.sweep(), p FROM late',
	'DO $$ BEGIN PERFORM coord.sweep(); PERFORM pg_sleep(0); END $$',
	'DO $$ DECLARE s jsonb; BEGIN FOR s IN SELECT coord.sweep() LOOP PERFORM pg_sleep(0); END LOOP; END $$',
	'CREATE TEMP TABLE swept AS SELECT coord.sweep()',
	'EXPLAIN ANALYZE SELECT coord.sweep()');

# What the server answers first, by its protocol's letters, to a role's statement of which a client
# wants so many rows (0: all), and says nothing more: it has not synchronised.
sub answered
{
	my ($statement, $rows) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die $!;
	my $answers = '';
	my $read = sub {
		my ($letters) = @_;
		do
		{
			read($socket, my $head, 5) == 5 or die 'the connection is lost';
			my ($letter, $length) = unpack('aN', $head);
			read($socket, my $body, $length - 4) == $length - 4 or die 'the connection is lost';
			$answers .= $letter;
		} until (substr($answers, -1) =~ /[$letters]/);
	};
	my $message = sub { my ($letter, $body) = @_; return $letter . pack('N', length($body) + 4) . $body; };

	syswrite($socket, $message->('', pack('N', 196608) . "user\0hostile\0database\0postgres\0\0"));
	$read->('Z');
	$answers = '';
	syswrite($socket, $message->('P', "\0$statement\0\0\0") . $message->('B', "\0\0\0\0\0\0\0\0") .
			$message->('E', "\0" . pack('N', $rows)) . $message->('H', ''));
	$read->('sCE');
	syswrite($socket, $message->('X', ''));
	close($socket);
	return $answers;
}
is(answered('SELECT generate_series(1, 3)', 1), '12Ds', 'a client may take a row of a statement, and leave it open');
is(answered('SELECT coord.sweep()', 1), '12E', 'but not of a sweep, which would stay open with it');

sql('CREATE TABLE public.late (); GRANT ALL ON public.late TO hostile; GRANT ALL ON SCHEMA public TO hostile');
like(refused('WITH late AS (DELETE FROM late RETURNING pg_sleep(0)) SELECT coord.sweep()'), qr/25001: .*HINT/s, 'nor beside something else that is done');
like(refused(q{CREATE FUNCTION public.sweep() RETURNS jsonb LANGUAGE plpgsql SET search_path = coord AS $$
	DECLARE s jsonb; BEGIN FOR s IN SELECT sweep() LOOP PERFORM pg_sleep(0); END LOOP; RETURN s; END $$;
	SELECT sweep()}), qr/25001: .*HINT/s, 'nor in a function whose cursor looks like the statement');
like(refused(q{CREATE OR REPLACE FUNCTION public.sweep() RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SET search_path = coord AS $$
	DECLARE c CURSOR FOR SELECT sweep(); BEGIN OPEN c; MOVE ALL FROM c; RETURN NULL; END $$;
	SELECT sweep()}), qr/25001: .*HINT/s, 'nor while a statement that looks like it is planned');
is(sql(q{SELECT count(*) FROM coord.lease_data WHERE resource_key = 'alone' AND ended_at IS NOT NULL}), '0', 'so far nothing was swept');
like(as('hostile', 'SELECT coord.sweep()'), qr/"leases_expired": 1, .*"tasks_requeued": 1/, 'but does in a statement of its own');
is(answered('SELECT coord.sweep()', 0), '12DC', 'by whatever protocol');
like(as('hostile', 'PREPARE p AS SELECT 1; SELECT coord.sweep()'), qr/"leases_expired": 0/, 'or several');
is(taken('alone'), '1|1', 'what it has given back is to be had');

ok(run_out('kept'), 'more runs out');
is(sql(q{BEGIN; SELECT s ->> 'leases_expired' FROM coord.sweep() s; ROLLBACK}), '1', 'a superuser sweeps in any transaction');

$node->stop('fast');

done_testing();
