# The server crashes in the middle of work.  No task is lost or claimed twice by one
# token, every event of a committed transaction is delivered once, tokens go on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tasks = 400;
my $node = CoordCluster::new_node('crash');
$node->append_conf('postgresql.conf', "fsync = on\nsynchronous_commit = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(qq{
	SELECT coord.agent_register('crasher', heartbeat_timeout => '1 h');
	SELECT coord.queue_set('default', backoff_base => '0 s', max_attempts => 1000);
	SELECT count(coord.task_create('t', to_jsonb(g))) FROM generate_series(1, $tasks) g;
	CREATE TABLE done (task_id uuid, token bigint);
});

# A step of work: claim one for a moment and forget it; claim one, say so and
# complete it in the same transaction.
my $script = $node->basedir . '/work.sql';
append_to_file($script, q{
INSERT INTO done SELECT t.id, t.fencing_token FROM coord.agent a, coord.task_claim(a.id, lease_ttl => '500 ms') t WHERE a.name = 'crasher';
WITH mine AS MATERIALIZED (
	SELECT t.id, t.fencing_token, t.payload FROM coord.agent a, coord.task_claim(a.id, lease_ttl => '1 h') t WHERE a.name = 'crasher'
), sent AS MATERIALIZED (
	SELECT id, fencing_token, coord.event_send('done', payload, channel => 'crash') FROM mine
)
SELECT coord.task_complete(id, fencing_token) FROM sent;
});

my $token = 0;
for my $round (1 .. 3)
{
	my @workers = map {
		IPC::Run::start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', '2', '-T', '60', '-f', $script, 'postgres' ],
			'>', '/dev/null', '2>', '/dev/null')
	} 1 .. 2;
	my $target = sql(q{SELECT count(*) FROM coord.task WHERE state = 'completed'}) + 60;
	ok($node->poll_query_until('postgres', qq{SELECT count(*) >= $target FROM coord.task WHERE state = 'completed'}),
		"round $round: work goes on");
	$node->stop('immediate');
	$_->finish for @workers;
	$node->start;

	my $last = sql(q{SELECT greatest(max(token), (SELECT max(fencing_token) FROM coord.task)) FROM done});
	cmp_ok($last, '>', $token, "round $round: tokens have grown");
	$token = $last;
	is(sql(qq{SELECT fencing_token > $token FROM coord.agent, coord.lease_acquire('round $round', id) WHERE name = 'crasher'}),
		't', "round $round: the next token is greater than all before the crash");
}

is(sql('SELECT count(*) FROM coord.task'), $tasks, 'no task is lost');
is(sql('SELECT count(*) FROM (SELECT token FROM done GROUP BY token HAVING count(*) > 1) d'), '0', 'no token was given twice');
is(sql(q{SELECT count(*) FROM coord.task WHERE state NOT IN ('pending', 'claimed', 'completed')}), '0', 'none is in a state that nobody gave it');

my $completed = sql(q{SELECT count(*) FROM coord.task WHERE state = 'completed'});
is(sql(q{SELECT count(*) || ' ' || count(DISTINCT position) || ' ' || count(DISTINCT payload) FROM coord.event_list(channel => 'crash', max_events => 10000)}),
	"$completed $completed $completed", 'a completion and its event were committed together, each event with a position of its own');

# what was claimed at the crash is given back by itself, and everything gets done
ok($node->poll_query_until('postgres', q{
	WITH mine AS MATERIALIZED (
		SELECT t.id, t.fencing_token FROM coord.agent a, coord.task_claim(a.id, max_tasks => 1000, lease_ttl => '1 h') t WHERE a.name = 'crasher'
	), completed AS MATERIALIZED (SELECT coord.task_complete(id, fencing_token) FROM mine)
	SELECT (SELECT count(*) FROM completed) >= 0 AND NOT EXISTS (SELECT FROM coord.task WHERE state <> 'completed')}),
	'all tasks get done in the end');
is(sql('SELECT count(*) FROM coord.claim_deadline'), '0', 'and no claim is left over');

done_testing();
