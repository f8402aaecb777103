# A long queue is not counted at each reading of coord.queue: the worker counts it when it
# has changed, and says as of when; without a worker sweep() does.  Short ones are exact.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('queue_counts');
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub counts { return sql("SELECT pending, scheduled, blocked, claimed, dead FROM coord.queue WHERE name = '$_[0]'"); }
sub becomes
{
	my ($queue, $counts, $name) = @_;
	ok($node->poll_query_until('postgres',
			"SELECT concat_ws('|', pending, scheduled, blocked, claimed, dead) FROM coord.queue WHERE name = '$queue'", $counts), $name)
		or diag(counts($queue));
}
sub create
{
	my ($queue, $n, $more) = @_;
	return sql("SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', '$queue') || '$more')
		FROM generate_series(1, $n)))");
}

sql(q{CREATE EXTENSION coord});
my $agent = sql(q{SELECT id FROM coord.agent_register('counter', heartbeat_timeout => '1 h')});

# short: exact, in the very transaction
is(sql(q{BEGIN; SELECT FROM coord.task_create('t', queue => 'short'); SELECT pending, counted_at IS NULL FROM coord.queue WHERE name = 'short'; ROLLBACK}),
	"1|t", 'a short queue is counted when it is read, with what the transaction itself has done');

# long
create('long', 9000, '{}');
create('long', 2000, '{"run_at": "2100-01-01T00:00:00Z"}');
sql(q{SELECT coord.task_create('t', queue => 'long', depends_on => ARRAY[id]) FROM coord.task WHERE queue = 'long' AND run_at > '2099-01-01' LIMIT 10});
ok($node->poll_query_until('postgres', q{SELECT counted_at IS NOT NULL FROM coord.queue WHERE name = 'long'}), 'a long one the worker counts');
becomes('long', '9000|2000|10|0|0', 'in all its states');
is(sql(q{SELECT counted_at <= clock_timestamp() AND oldest_pending_age >= clock_timestamp() - counted_at FROM coord.queue WHERE name = 'long'}),
	't', 'and it says when, and how old the oldest is now');
create('short', 3, '{}');
is(sql(q{SELECT pending, counted_at IS NULL FROM coord.queue WHERE name = 'short'}), '3|t', 'a short queue beside it is exact');
is(sql(q{SELECT sum(pending) FROM coord.queue_list()}), '9003', 'a list has both');
is(sql(q{SELECT pending FROM coord.queue_pause('long')}), '9000', 'as has a call that returns the queue');
sql(q{SELECT coord.queue_resume('long')});

# it changes
sql(qq{SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task_claim('$agent', 'long', max_tasks => 500, lease_ttl => '1 h')});
sql(qq{SELECT FROM coord.task_claim('$agent', 'long', max_tasks => 100, lease_ttl => '1 h')});
becomes('long', '8400|2000|10|100|0', 'what has changed since is counted in turn');
ok($node->poll_query_until('postgres', q{SELECT next_deadline_at > clock_timestamp() + interval '1 min' OR next_deadline_at IS NULL FROM coord.worker}),
	'then nothing is to be counted any more');

# what is neither created nor finished is in another state
sql(qq{SELECT FROM coord.task_claim('$agent', 'long', max_tasks => 50, lease_ttl => '1 h')});
becomes('long', '8350|2000|10|150|0', 'claims alone are counted, too');
sql(q{SELECT count(coord.task_release(id, fencing_token)) FROM coord.task WHERE queue = 'long' AND state = 'claimed'});
becomes('long', '8500|2000|10|0|0', 'and tasks that are given back');
my $soon = sql(q{SELECT to_json(clock_timestamp() + '15 s')});
create('soon', 6000, qq({"run_at": $soon})) for 1 .. 2;
becomes('soon', '12000|0|0|0|0', 'and those whose run_at has come');
sql(qq{SELECT FROM coord.task_claim('$agent', 'long', max_tasks => 100, lease_ttl => '1 h')});
becomes('long', '8400|2000|10|100|0', 'as many are claimed as before');

# dead letters count too
create('doomed', 10_500, '{"max_attempts": 1}');
sql(qq{SELECT count(coord.task_fail(id, fencing_token)) FROM coord.task_claim('$agent', 'doomed', max_tasks => 10000, lease_ttl => '1 h')});
becomes('doomed', '500|0|0|0|10000', 'dead letters make a queue long as well');

# it is short again
sql(qq{SELECT count(coord.task_complete(id, fencing_token)) FROM coord.task_claim('$agent', 'long', max_tasks => 10000, lease_ttl => '1 h')});
becomes('long', '0|2000|10|100|0', 'a queue that has become short');
ok($node->poll_query_until('postgres', q{SELECT counted_at IS NULL FROM coord.queue WHERE name = 'long'}), 'is exact again');

# a restart loses no count, since it is stored, and finds what changed without a word
$node->stop('immediate');
$node->start;
is(counts('doomed'), '500|0|0|0|10000', 'counts outlive a crash');

# many short queues are long together
sql(q{SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', 'many-' || n % 1200)) FROM generate_series(1, 10000) n))}) for 1 .. 11;
ok($node->poll_query_until('postgres', q{SELECT sum(pending) <= 100000 FROM coord.queue WHERE counted_at IS NULL}), 'who reads all queues counts no more than 100,000 tasks');
ok($node->poll_query_until('postgres', q{SELECT sum(pending) = 110000 FROM coord.queue WHERE name LIKE 'many%'}), 'and all are there');

cmp_ok(sql(q{BEGIN; DO $$ BEGIN PERFORM * FROM coord.queue; END $$; SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relid = 'coord.queue_count'::regclass}), '<', 5000,
	'whose counts are found by an index');

# a role that sees one queue gets no counts of another
sql(q{CREATE ROLE narrow; SELECT coord.grant_agent('narrow', 'short')});
is(sql(q{SET ROLE narrow; SELECT name, pending FROM coord.queue}), 'short|3', 'a role sees the queue that it was granted');
is(sql(q{SET ROLE narrow; SELECT pending FROM coord.count_tasks('doomed')}), '', 'and is told nothing of others');

# not preloaded: sweep() counts
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
create('doomed', 1000, '{}');
ok($node->poll_query_until('postgres', q{SELECT pending = 1500 FROM coord.sweep(), coord.queue WHERE name = 'doomed'}), 'without a worker sweep() counts');

done_testing();
