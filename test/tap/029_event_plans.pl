# With many events in the log, whoever reads the newest ones reads few pages; with many
# dead rows in the inbox, whoever delivers does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant EVENTS => 50000;    # in each of four partitions
use constant FEW => 300;         # pages

my $node = CoordCluster::new_node('event_plans');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION coord;
	SELECT coord.agent_register('reader', heartbeat_timeout => '1 h');
	SELECT coord.event_subscribe(id, 'channel 1') FROM coord.agent;
	SELECT coord.event_subscribe(id, 'silent') FROM coord.agent});
my $agent = sql('SELECT id FROM coord.agent');

# The log as it is after long: some for the reader, some on its channel, some for everyone,
# most for others.  Written directly, since sending them would take long.
sql("SELECT setval('coord.event_position', 1)");
for my $partition (0 .. 3)
{
	sql(qq{
		INSERT INTO coord.event_partition VALUES ($partition, nextval('coord.event_position'), clock_timestamp());
		INSERT INTO coord.event_log (position, id, type, severity, recipient_id, channel, payload, created_at, partition)
		SELECT nextval('coord.event_position'), coord.new_id(), 'type ' || g % 7, 'info',
			CASE WHEN g % 1000 = 0 THEN '$agent'::uuid WHEN g % 10 = 1 THEN coord.new_id() END,
			CASE WHEN g % 10 BETWEEN 2 AND 8 THEN 'channel ' || g % 500 WHEN g % 1000 = 9 THEN 'channel 1' END,
			'{}', clock_timestamp(), $partition FROM generate_series(1, @{[EVENTS]}) g});
}
my $last = sql('SELECT max(position) FROM coord.event_log');
sql("UPDATE coord.agent_data SET events_after = $last - 5000");
sql('VACUUM ANALYZE coord.event_log');

# few($query, $rows, $what): it gives so many rows and looks at few pages.
sub few
{
	my ($query, $rows, $what) = @_;

	is(sql("SELECT count(*) FROM ($query) q"), $rows, "$what: what is there");
	cmp_ok(CoordCluster::pages($node, $query), '<', FEW, "$what: few pages");
}

few("SELECT * FROM coord.event_list(after => $last - 100)", 100, 'event_list from a late position');
few("SELECT * FROM coord.event_list('$agent', after => $last - 3000)", 3, 'to an agent');
few("SELECT * FROM coord.event_list(channel => 'channel 1', after => $last - 3000)", 3, 'on a channel');
few("SELECT * FROM coord.event_list(channel => 'nothing', after => 0)", 0, 'on a channel that has none');
few("SELECT * FROM coord.event_poll('$agent')", 100, 'event_poll');
few('SELECT * FROM coord.event ORDER BY position DESC LIMIT 10', 10, 'the last ones of the relation');
few("SELECT * FROM coord.event WHERE position = $last", 1, 'one of the relation');

# The inbox, while a snapshot is held.
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM coord.event_inbox');
for (1 .. 4)
{
	sql('SELECT count(coord.event_send(\'t\', channel => \'c\')) FROM generate_series(1, 10000)');
	$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.event_inbox)');
}
my $blocks = sql(q{SELECT pg_relation_size('coord.event_inbox') / 8192});
cmp_ok($blocks, '>', 200, 'the inbox has grown');
my $touched = q{SELECT heap_blks_hit + heap_blks_read FROM pg_statio_all_tables WHERE relid = 'coord.event_inbox'::regclass};
my $before = sql($touched);
sql(q{SELECT coord.event_send('t', channel => 'c'); SELECT coord.event_list(channel => 'c', max_events => 1);} x 20);
cmp_ok(sql($touched) - $before, '<', 20 * $blocks / 4, 'but who delivers 20 times does not look at all of it each time');
$old->query_safe('COMMIT');
$old->quit;
$node->stop;

done_testing();
