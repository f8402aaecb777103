# A dump with events is restored beside a worker, which does not wait for its end; the log
# is read whole and in order all the same, also if the dump's positions are higher than
# those that are given here.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('event_restore');
$node->start;
sub sql { return $node->safe_psql(@_); }

# A log in several partitions, and an agent that is inactive soon.
sql('postgres', 'CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');
for my $partition (0 .. 3)
{
	sql('postgres', q{SELECT coord.event_send('t') FROM generate_series(1, 50)});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM coord.event WHERE position IS NULL}), 'all is delivered');
	sql('postgres', qq{
		UPDATE coord.event_partition SET opened_at = opened_at - interval '1 day'
		WHERE first_position = (SELECT max(first_position) FROM coord.event_partition)}) if $partition < 3;
}
is(sql('postgres', 'SELECT count(*) FROM coord.event_partition'), '4', 'the log is in four partitions');
sql('postgres', q{
	SELECT coord.agent_register('fleeting', heartbeat_timeout => '500 ms');
	SELECT coord.event_send('t')});
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'it is dumped');
# how many, and their positions in order
my $listed = q{SELECT count(*), md5(string_agg(position::text, ' ')) FROM coord.event_list(type => 't', max_events => 10000)};
my $stored = q{SELECT count(*), md5(string_agg(position::text, ' ' ORDER BY position)) FROM coord.event WHERE type = 't'};

sql('postgres', 'CREATE DATABASE restored');
my $restoring = $node->background_psql('restored');
$restoring->query("\\i $dump");
ok($node->poll_query_until('restored', q{SELECT status = 'inactive' FROM coord.agent}), 'an agent has lapsed since the dump');
ok($node->poll_query_until('restored', q{SELECT count(*) = 1 FROM coord.event WHERE type = 'agent.inactive' AND position IS NOT NULL}),
	'which is announced');
$restoring->quit;
is(sql('restored', $listed), sql('restored', $stored), 'all events can be listed');
like(sql('restored', $listed), qr/^201\|/, 'which are many');
is(sql('restored', q{SELECT position = (SELECT max(position) FROM coord.event) FROM coord.event WHERE type = 'agent.inactive'}), 't',
	'new ones come after those of the dump');

# As from a cluster on a later timeline, whose sequence has yet to be set.
sql('restored', q{
	UPDATE coord.event_log SET position = position + (1::bigint << 51);
	UPDATE coord.event_partition SET first_position = first_position + (1::bigint << 51)});
sql('restored', q{SELECT coord.event_send('t', '"new"')}) for 1 .. 2;
is(sql('restored', $listed), sql('restored', $stored), 'with the positions of a later timeline, too');
is(sql('restored', q{SELECT string_agg(payload::text, ' ') FROM (SELECT * FROM coord.event ORDER BY position DESC LIMIT 2) e}), '"new" "new"', 'the new ones after them');
# What was delivered before the dump's rows came is in the same partition as some of them.
sql('restored', q{
	INSERT INTO coord.event_partition SELECT 0, max(position) + 1, clock_timestamp() FROM coord.event_log;
	INSERT INTO coord.event_log (position, id, type, severity, payload, created_at, partition)
	SELECT p.first_position + g, coord.new_id(), 't', 'info', '{}', clock_timestamp(), 0
	FROM (SELECT max(first_position) AS first_position FROM coord.event_partition) p, generate_series(1, 100) g});
is(sql('restored', $listed), sql('restored', $stored), 'a partition that is there twice is read in order, each event once');
sql('restored', q{SELECT coord.event_send('t')});
is(sql('restored', $listed), sql('restored', $stored), 'and goes on');
$node->append_conf('postgresql.conf', "coord.event_retention = '2 s'");
$node->reload;
ok($node->poll_query_until('restored', 'SELECT count(*) = 0 FROM coord.event_log'), 'and is emptied when all of it is old');
is(sql('restored', 'SELECT last_error FROM coord.worker'), '', 'without an error');
$node->stop;

done_testing();
