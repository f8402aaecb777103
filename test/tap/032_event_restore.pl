# A dump with events is restored beside a worker, which waits until the restoring session
# has ended; a log that has grown meanwhile is read whole and in order all the same.

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
	sql('postgres', qq{
		SELECT coord.event_send('t') FROM generate_series(1, 50);
		SELECT coord.event_list(max_events => 1)});
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
my $listed = q{SELECT string_agg(position::text, ' ') FROM coord.event_list(type => 't', max_events => 10000)};
my $stored = q{SELECT string_agg(position::text, ' ' ORDER BY position) FROM coord.event WHERE type = 't'};

sql('postgres', 'CREATE DATABASE restored');
my $restoring = $node->background_psql('restored');
$restoring->query("\\i $dump");
ok($node->poll_query_until('restored', q{SELECT status = 'inactive' FROM coord.agent}), 'an agent has lapsed since the dump');
is(sql('restored', q{SELECT count(*) FROM coord.agent_data WHERE inactive_since IS NOT NULL}), '0',
	'but the worker does nothing while the restoring session lives');
$restoring->quit;
ok($node->poll_query_until('restored', q{SELECT count(*) = 1 FROM coord.event WHERE type = 'agent.inactive' AND position IS NOT NULL}),
	'it goes on when that has ended');
is(sql('restored', 'SELECT count(*) FROM coord.event_partition'), '4', 'the partitions are those of the dump');
is(sql('restored', $listed), sql('restored', $stored), 'all events can be listed');
like(sql('restored', $listed), qr/^\d+( \d+){200,}$/, 'which are many');
is(sql('restored', q{SELECT position = (SELECT max(position) FROM coord.event) FROM coord.event WHERE type = 'agent.inactive'}), 't',
	'new ones come after those of the dump');

# A role without rights does not hold up the worker by trying.
sql('restored', 'CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA coord TO nobody');
my $nobody = $node->background_psql('restored', on_error_stop => 0, extra_params => [ '-U', 'nobody' ]);
$nobody->query("\\copy coord.event_inbox FROM /dev/null");
ok(CoordCluster::works($node, 'restored'), 'who has no rights does not hold up the worker by trying to restore');
$nobody->quit;

# What was delivered before the dump's rows came is in the same partition as some of them.
sql('restored', q{
	UPDATE coord.event_log SET position = position - 1000000;
	UPDATE coord.event_partition SET first_position = first_position - 1000000;
	INSERT INTO coord.event_partition SELECT 0, max(first_position) + 1000000, clock_timestamp() FROM coord.event_partition;
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
