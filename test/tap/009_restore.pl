# Restores that are less than easy: in one transaction, piece by piece beside a
# worker that is there from the first piece on, and by another superuser than the
# one who created the extension.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('dump');
$node->start;

sub sql { return $node->safe_psql($_[0], $_[1]); }

sql('postgres', 'CREATE DATABASE old');
sql('old', q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 day');
	SELECT coord.queue_set('set', backoff_max => '1 h', max_claimed => 2);
	SELECT coord.task_create('claimed', queue => 'set', priority => 2), coord.task_create('pending', queue => 'set', priority => 1);
	SELECT coord.task_claim(id, 'set', lease_ttl => '1 day') FROM coord.agent;
	SELECT coord.task_create('dead', queue => 'd', max_attempts => 1);
	SELECT coord.task_fail(t.id, t.fencing_token) FROM coord.agent a, LATERAL coord.task_claim(a.id, 'd') t;
	SELECT coord.event_send('said', channel => 'restore');
	-- writes the heartbeat, which is only noted in memory otherwise
	SELECT coord.agent_register('alive', heartbeat_timeout => '1 day')});
ok($node->poll_query_until('old', 'SELECT bool_and(position IS NOT NULL) FROM coord.event'), 'the old database has delivered its events');

# All at once: nobody sees a half-restored database.
my $custom = $node->basedir . '/custom.dump';
my $rows = q{
	SELECT t::text FROM coord.task t UNION ALL SELECT a::text FROM coord.agent a UNION ALL SELECT e::text FROM coord.event e ORDER BY 1};
$node->command_ok([ 'pg_dump', '-Fc', '-f', $custom, 'old' ], 'pg_dump');
sql('postgres', 'CREATE DATABASE whole');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--single-transaction', '-d', 'whole', $custom ], 'restore in one transaction');
is(sql('whole', $rows), sql('old', $rows), 'every row is as it was');
is(sql('whole', q{SELECT count(*) FROM coord.agent a, LATERAL coord.task_claim(a.id, 'set', max_tasks => 10)}), '1',
	'the claim that was restored counts against the limit of its queue');
is(sql('whole', q{SELECT coord.task_redrive(queue => 'd')}), '1', 'a dead letter can be redriven');
ok($node->poll_query_until('whole', 'SELECT pid IS NOT NULL FROM coord.worker'), 'the restored database has a worker');

# A dump is restored piece by piece, and the worker is there from the first on:
# what it announces meanwhile must not be followed by a lower position.
# The old database's worker is kept from announcing it before the dump.
my $pieces = $node->basedir . '/pieces.sql';
my $blocker = $node->background_psql('old');
$blocker->query_safe('BEGIN; LOCK TABLE coord.event_inbox IN EXCLUSIVE MODE');
sql('old', q{SELECT coord.lease_acquire('runs out', id, '100 ms') FROM coord.agent WHERE name = 'alive'});
ok($node->poll_query_until('old', q{SELECT state = 'expired' FROM coord.lease WHERE resource_key = 'runs out'}), 'a lease runs out');
$node->command_ok([ 'pg_dump', '-f', $pieces, 'old' ], 'pg_dump with a lease that has run out');
is(sql('old', q{SELECT ended_at IS NULL FROM coord.lease_data WHERE resource_key = 'runs out'}), 't', 'of which nobody was told when the dump is done');
$blocker->query_safe('COMMIT');
$blocker->quit;
# without the frame that newer versions of pg_dump put around it
(my $whole = slurp_file($pieces)) =~ s/^\\(un)?restrict .*\n//mg;
my ($first, $second) = $whole =~ /^(.*?)(^SELECT pg_catalog\.setval\(.*)\z/ms;
append_to_file("$pieces.1", $first);
append_to_file("$pieces.2", $second);
sql('postgres', 'CREATE DATABASE pieces');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$pieces.1", 'pieces' ], 'restore of the rows');
my $announced = q{FROM coord.event WHERE type = 'lock.expired' AND payload ->> 'resource_key' = 'runs out' AND position IS NOT NULL};
ok($node->poll_query_until('pieces', "SELECT count(*) = 1 $announced"), 'the worker announces what has run out before the restore goes on');
my $position = sql('pieces', "SELECT position $announced");
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$pieces.2", 'pieces' ], 'restore of the sequences');
sql('pieces', q{SELECT coord.event_send('next', channel => 'pieces')});
ok($node->poll_query_until('pieces', q{SELECT count(*) = 1 FROM coord.event WHERE type = 'next' AND position IS NOT NULL}), 'the next event is delivered');
is(sql('pieces', "SELECT position > $position FROM coord.event WHERE type = 'next'"), 't', 'at a greater position');

is(join('', grep { /(ERROR|PANIC):  / } split(/^/, slurp_file($node->logfile))), '', 'the worker has not failed meanwhile');

# The dump of a database that another superuser owns.
sql('postgres', 'CREATE ROLE dump_owner SUPERUSER LOGIN; CREATE DATABASE theirs OWNER dump_owner; CREATE DATABASE ours');
$node->safe_psql('theirs', 'CREATE EXTENSION coord', extra_params => [ '-U', 'dump_owner' ]);
my $theirs = $node->basedir . '/theirs.sql';
$node->command_ok([ 'pg_dump', '-f', $theirs, 'theirs' ], 'pg_dump of an extension that another superuser created');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $theirs, 'ours' ], 'is restored');

$node->stop('fast');

done_testing();
