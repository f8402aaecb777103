# From a sender's commit to who reads and who listens: positions that are not lost,
# notifications that wait while their queue is full, and a log that drops what is old,
# partition by partition.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('delivery');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nautovacuum = off\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes_true { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

sub set
{
	my ($setting) = @_;

	$node->append_conf('postgresql.conf', $setting);
	$node->reload;
}

sql('CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');

# A listener, and what it has heard: the positions, in order.
my $listener = $node->background_psql('postgres');
my $heard = '';
$listener->query_safe(q{SELECT coord.event_listen(channel => 'c')});

sub positions { my @positions = $heard =~ /"position": (\d+)/g; return @positions; }

# Waits until the listener has heard so many events.
sub hears
{
	my ($n) = @_;
	my $give_up = time() + $PostgreSQL::Test::Utils::timeout_default;

	$heard .= $listener->query('SELECT 1') . "\n" while positions() < $n && time() < $give_up;
	return scalar(positions());
}

sub send_events
{
	my ($n) = @_;

	return sql("SELECT count(coord.event_send('t', to_jsonb(g), channel => 'c')) FROM generate_series(1, $n) g");
}

sub stored { return sql(q{SELECT string_agg(position::text, ' ' ORDER BY position) FROM coord.event WHERE channel = 'c'}); }

# ---- a worker that ends

send_events(3);
is(hears(3), 3, 'a listener hears of events');
for my $signal ('TERM', 'TERM')
{
	my $worker = sql('SELECT pid FROM coord.worker');

	send_events(2);
	sql("SELECT pg_terminate_backend($worker)");
	becomes_true("pid <> $worker FROM coord.worker");
}
send_events(1);
hears(8);
is(join(' ', positions()), stored(), 'a worker that takes over notifies of each event once, in order');

# ---- old rows that vacuum may not remove

my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM coord.event');
send_events(200) for 1 .. 5;
is(hears(1008), 1008, 'while an old snapshot is held');
my $blocks = q{pg_relation_size('coord.event_inbox') / 8192};
cmp_ok(sql("SELECT $blocks"), '>=', 10, 'there are many dead rows in the inbox');
$old->query_safe('COMMIT');

# What vacuum has removed leaves room at the front, where new events go, and the inbox shrinks.
sql('VACUUM coord.event_inbox');
send_events(5);
is(hears(1013), 1013, 'events go to the room that vacuum has made');
sql(q{BEGIN; SELECT coord.event_send('t', channel => 'c'); PREPARE TRANSACTION 'p'});
send_events(1);
hears(1014);
sql(q{COMMIT PREPARED 'p'});
is(hears(1015), 1015, 'an event of a prepared transaction is delivered when that is committed');
is(join(' ', positions()), stored(), 'and all were, in the order of their positions');

# Rewritten, with the worker held back: what waits in it moves to where the worker has been.
my $worker;
sql('SELECT count(coord.event_send(\'t\', channel => \'other\')) FROM generate_series(1, 2000)');
for (;;)
{
	becomes_true('NOT EXISTS (SELECT FROM coord.event_inbox)');
	$worker = sql('SELECT pid FROM coord.worker');
	kill 'STOP', $worker;
	last if sql("SELECT NOT EXISTS (SELECT FROM pg_locks WHERE pid = $worker AND locktype = 'relation')") eq 't';
	kill 'CONT', $worker;
}
send_events(20);
sql('VACUUM FULL coord.event_inbox');
cmp_ok(sql('SELECT count(*) FROM coord.event_inbox'), '>=', 20, 'while the worker is held back');
kill 'CONT', $worker;
is(hears(1035), 1035, 'an inbox that is rewritten loses nothing');

# ---- who reads sees all that was committed before, also while the worker is at a long backlog

# who reads waits for a second at most; a server that checks more is ten times slower (see on-server)
my $backlog = $PostgreSQL::Test::Utils::timeout_default < 300 ? 10000 : 1000;
for my $round (1 .. 3)
{
	is(sql(qq{
		SELECT count(coord.event_send('t', channel => 'other')) FROM generate_series(1, $backlog);
		SELECT type FROM coord.event_send('own $round', channel => 'other');
		SELECT type FROM coord.event_list(type => 'own $round')}), "$backlog\nown $round\nown $round", "a reader of its own event, round $round");
}

# What is large is moved a few megabytes at a time, as others wait for the worker meanwhile.
sql(q{
	SELECT count(coord.event_send('large', payload, channel => 'other'))
	FROM generate_series(1, 30), (SELECT to_jsonb(string_agg(md5(n::text), '')) FROM generate_series(1, 30000) n) p (payload)});
ok(becomes_true(q{count(*) = 30 FROM coord.event WHERE type = 'large' AND position IS NOT NULL}), 'large events are delivered');
is(sql(q{SELECT max(bytes) BETWEEN 1 AND 9 * 1024 * 1024, count(*) > 1
	FROM (SELECT sum(pg_column_size(payload)) AS bytes FROM coord.event_log WHERE type = 'large' GROUP BY xmin::text) x}), 't|t',
	'in more than one transaction');

# Nobody asks for what was sent between two of its batches.
sql(q{
	SELECT count(coord.event_send('long backlog')) FROM generate_series(1, 5000);
	DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM coord.event_log WHERE type = 'long backlog') LOOP END LOOP; END $$;
	SELECT coord.event_send('sent meanwhile')});
ok(becomes_true(q{EXISTS (SELECT FROM coord.event_log WHERE type = 'sent meanwhile')}), 'what was sent meanwhile is delivered too');

# ---- a full queue of notifications

my $log = -s $node->logfile;
set('coord.notify_queue_limit = 0');
my $idle = $node->background_psql('postgres');
$idle->query_safe('BEGIN; LISTEN something');
$idle->query_safe('COMMIT; BEGIN');
sql(q{SELECT pg_notify('something', repeat('x', 7000)) FROM generate_series(1, 10)});
sql(q{SELECT pg_notify('something', g || repeat('x', 7000)) FROM generate_series(1, 10) g});
becomes_true('pg_notification_queue_usage() > 0');
send_events(20);
ok(becomes_true(q{count(*) = 1055 FROM coord.event WHERE channel = 'c' AND position IS NOT NULL}),
	'with the queue of notifications too full, events get their positions');
is(sql(q{SELECT count(*) FROM coord.event_list(channel => 'c', max_events => 10000)}), 1055, 'and can be read');
send_events(20);
ok($node->wait_for_log(qr/coord's wait/, $log), 'that notifications wait is logged');
is(scalar(positions()), 1035, 'nobody is notified meanwhile');
$idle->query_safe('ROLLBACK');
$idle->quit;
is(hears(1075), 1075, 'when there is room again, listeners hear of all');
is(join(' ', positions()), stored(), 'in order');
is(scalar(CoordCluster::logged($node, "coord's wait", $log)), 1, 'it was logged once');
set('coord.notify_queue_limit = 0.5');

# ---- positions survive a crash, and so does who was told of them

my $before = stored();
send_events(1);
hears(1076);
$listener->quit;
$node->stop('immediate');
$node->start;
is(sql(qq{SELECT string_agg(position::text, ' ' ORDER BY position) FROM coord.event WHERE channel = 'c'}),
	join(' ', positions()), 'after a crash, the events that were heard of have the positions that were told');

# ---- retention

my $partitions = q{FROM coord.event_partition};
is(sql("SELECT count(*) $partitions"), 1, 'one partition is written');
set("coord.event_retention = '8 s'");
my $cursor_agent = q{(SELECT id FROM coord.agent WHERE name = 'reader')};
sql(q{SELECT coord.agent_register('reader', heartbeat_timeout => '1 h')});
sql(q{SELECT coord.event_send('t', channel => 'late')});
my $position = sql(q{SELECT position FROM coord.event_list(channel => 'late')});
sql("SELECT coord.event_ack($cursor_agent, $position)");

my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM coord.event_log_0');
ok(becomes_true("count(*) > 1 $partitions"), 'after an eighth of the retention the next one is');
send_events(1);
ok(becomes_true("count(*) > 2 $partitions"), 'and so on, while a reader has the first one open');
$reader->query_safe('COMMIT');
$reader->quit;
ok(becomes_true("NOT EXISTS (SELECT FROM coord.event_log WHERE partition = 0)"), 'what is older than the retention is dropped whole');
ok(becomes_true('count(*) = 0 FROM coord.event'), 'in the end all is, though nothing was sent meanwhile');
is(sql("SELECT coord.event_ack($cursor_agent, $position) = $position"), 't', 'an acknowledged position stays');
sql(q{SELECT coord.event_send('t', channel => 'late')});
cmp_ok(sql(qq{SELECT position FROM coord.event_list(channel => 'late', after => $position)}), '>', $position, 'and positions go on');
is(sql('SELECT last_error FROM coord.worker'), '', 'the worker met no error');
$node->stop;

done_testing();
