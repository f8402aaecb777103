# Behind a pooler in transaction mode, where each transaction of a client may be on
# another server connection: the calls work, and a listener hears nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Pgbouncer;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('pgbouncer');
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	CREATE TABLE served (client integer, pid integer)});
CoordCluster::has_worker($node, 'postgres');

my $pooler = Pgbouncer->new($node, 2);
my $pooled = $pooler->conninfo('transaction');
my $timeout = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);

# ---- what works

my $script = $node->basedir . '/pooled.sql';
append_to_file($script, q{
SELECT id AS me FROM coord.agent_register('agent ' || :client_id, heartbeat_timeout => '1 h') \gset
SELECT coord.agent_heartbeat(':me');
SELECT coord.task_create('work', queue => 'queue ' || :client_id);
BEGIN;
SELECT id AS task, fencing_token AS token FROM coord.task_claim(':me', 'queue ' || :client_id, lease_ttl => '1 h') \gset
INSERT INTO served VALUES (:client_id, pg_backend_pid());
COMMIT;
SELECT fencing_token AS lease FROM coord.lease_acquire('resource ' || :client_id, ':me', '1 h') \gset
BEGIN;
SELECT coord.lease_assert('resource ' || :client_id, :lease);
SELECT coord.task_complete(':task', :token);
SELECT coord.event_send('done', channel => 'work', sender_id => ':me');
COMMIT;
SELECT count(*) AS events FROM coord.event_list(channel => 'work', after => 0) \gset
});
command_ok([ 'pgbench', '-n', '-c', '12', '-t', '10', '-f', $script, $pooled ], 'twelve clients work');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT client), count(DISTINCT pid) <= 2, count(*) FROM served'), '12|t|120',
	'on no more than two server connections');
is($node->safe_psql('postgres', q{SELECT state, attempts, count(*) FROM coord.task GROUP BY 1, 2}), 'completed|1|120',
	'each task is claimed once and completed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coord.event_list(channel => 'work', max_events => 1000)}), '120',
	'each event is there');
is($node->safe_psql('postgres', q{SELECT state, count(*) FROM coord.lease GROUP BY 1}), 'active|12', 'each lease is held');

# ---- what does not

my ($in, $out) = ("SELECT coord.event_listen(channel => 'news');\n", '');
my $client = IPC::Run::start([ 'psql', '-XAtq', '-d', $pooled ], '<', \$in, '>', \$out, '2>', \$out, $timeout);
ok(pump_until($client, $timeout, \$out, qr/^coord:channel:news\n/m), 'event_listen answers as ever');

# The server tells the connection on which LISTEN was done, which by now is nobody's:
# the pooler throws the notification away, and says so.
my $event = $node->safe_psql('postgres', q{SELECT id FROM coord.event_send('news', channel => 'news')});
ok($pooler->says(qr/got packet 'A' from server when not linked/), 'the pooler drops the notification');
$in .= "SELECT id FROM coord.event_list(channel => 'news');\n\\echo end\n";
ok(pump_until($client, $timeout, \$out, qr/^end\n/m), 'the client reads its events');
is($out, "coord:channel:news\n$event\nend\n", 'and has not been notified');
$in .= "\\q\n";
$client->finish;

$pooler->stop;
done_testing();
