# Many databases: each that has the extension has a worker of its own, as far as
# max_worker_processes and coord.max_databases go; what does not fit is said in the log,
# waits, and gets its worker when another ends.  Databases that nobody may connect to are left alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

# databases that have a worker, in order
my $served = q{SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'coord worker'};
# databases that have none, of those that are named
sub unserved_of { return qq{SELECT count(*) FROM unnest(ARRAY['} . join("','", @_) . qq{']) db
	WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'coord worker' AND datname = db)}; }

# The workers of all these databases work, at the same time.
sub all_work
{
	my ($node, @dbs) = @_;
	my %lease = map { $_ => CoordCluster::short_lease($node, $_) } @dbs;

	return 0 == grep { !CoordCluster::announced($node, $_, $lease{$_}) } @dbs;
}

# ---- twenty databases

my $node = CoordCluster::new_node('many');
$node->start;
sub sql { return $node->safe_psql($_[0], $_[1]); }

my @dbs = map { sprintf('db%02d', $_) } 1 .. 20;
sql('postgres', "CREATE DATABASE db01");
sql('db01', 'CREATE EXTENSION coord');
ok(CoordCluster::has_worker($node, 'db01'), 'the first of twenty databases has a worker');
for my $db (@dbs[ 1 .. 9 ])
{
	sql('postgres', "CREATE DATABASE $db TEMPLATE db01");
}
for my $db (@dbs[ 10 .. 19 ])
{
	sql('postgres', "CREATE DATABASE $db");
	sql($db, 'CREATE EXTENSION coord');
}
ok($node->poll_query_until('postgres', $served, join(' ', @dbs)),
	'twenty databases have a worker each, copied from one with a worker or made anew');
is(join(' ', map { sql($_, q{SELECT w.database FROM coord.worker w JOIN pg_stat_activity a
		ON a.pid = w.pid AND a.datname = w.database AND a.backend_type = 'coord worker'}) } @dbs),
	"@dbs", 'coord.worker shows in each database its own');
ok(all_work($node, @dbs), 'each of them works');

sql('postgres', "DROP DATABASE $_") for splice(@dbs, 5, 5);
ok($node->poll_query_until('postgres', $served, "@dbs"), 'five are dropped, and their workers with them');
ok(all_work($node, @dbs), 'the workers of the others go on');

$node->restart;
ok($node->poll_query_until('postgres', $served, "@dbs"), 'after a restart each database has its worker again');
ok(all_work($node, @dbs), 'and all of them work');
is(sql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'coord launcher'}), '1', 'one launcher looks after them');

# ---- databases that nobody may connect to

my ($closed, $dropped, $other) = @dbs;
my $log = -s $node->logfile;

sql('postgres', "ALTER DATABASE $_ ALLOW_CONNECTIONS false") for $closed, $dropped;
my $pid = sql($other, 'SELECT pid FROM coord.worker');
sql('postgres', qq{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('$closed', '$dropped', '$other')});
ok($node->poll_query_until('postgres', unserved_of($closed, $dropped), '2'), 'workers of closed databases can be ended');
ok($node->poll_query_until($other, "SELECT pid <> $pid FROM coord.worker"), 'that of an open database is followed by another');
is(sql('postgres', unserved_of($closed, $dropped)), '2', 'those of closed databases are not');
$node->restart;
ok($node->poll_query_until('postgres', unserved_of(@dbs[ 2 .. $#dbs ]), '0'), 'after a restart the open databases have their workers');
is(sql('postgres', unserved_of($closed, $dropped)), '2', 'and the closed ones have none');
sql('postgres', "DROP DATABASE $dropped");
pass('a closed database can be dropped');
sql('postgres', "ALTER DATABASE $closed ALLOW_CONNECTIONS true");
ok($node->poll_query_until('postgres', unserved_of($closed), '0'), 'one that is opened gets its worker');
ok(CoordCluster::works($node, $closed), 'which works');

sql('postgres', "ALTER DATABASE $_ ALLOW_CONNECTIONS false") for $closed, $other;
sql('postgres', qq{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('$closed', '$other')});
ok($node->poll_query_until('postgres', unserved_of($closed, $other), '2'), 'two are closed');
sql('postgres', "BEGIN; ALTER DATABASE $closed ALLOW_CONNECTIONS true; ALTER DATABASE $other ALLOW_CONNECTIONS true; COMMIT");
ok($node->poll_query_until('postgres', unserved_of($closed, $other), '0'), 'two that are opened in one transaction have their workers, both');
is(join("\n", CoordCluster::logged($node, qr/(ERROR|WARNING|PANIC): |FATAL:  (?!terminating)/, $log)), '', 'nothing of this was an error');

# ---- the default template

sql('template1', 'CREATE EXTENSION coord');
ok(CoordCluster::has_worker($node, 'template1'), 'template1 can have the extension, and a worker');
is($node->psql('postgres', 'CREATE DATABASE from_template1'), 0, 'a database can be made from it, though it is not named');
ok($node->poll_query_until('postgres', unserved_of('template1', 'from_template1'), '0'), 'both have their workers afterwards');
sql('postgres', 'CREATE ROLE maker CREATEDB');
is($node->psql('postgres', 'SET ROLE maker; CREATE DATABASE made'), 0, 'who does not own template1 can make one, too');
$node->stop;

# ---- more databases than worker processes: room for two of five

my $few = CoordCluster::new_node('few');
$few->append_conf('postgresql.conf', "max_worker_processes = 4\n");	# with the launcher, and that of logical replication
$few->start;
my $started = time;
my @five = map { "five$_" } 1 .. 5;

$few->safe_psql('postgres', "CREATE DATABASE $_") for @five;
$few->safe_psql($_, 'CREATE EXTENSION coord') for @five;
ok($few->poll_query_until('postgres', unserved_of(@five), '3'), 'with room for two workers, three databases have none');
$few->wait_for_log(qr/max_worker_processes/);
like(slurp_file($few->logfile), qr/LOG:  .*\bcoord\b.*worker.*\n.*HINT:  .*max_worker_processes/, 'the log says so, and names the limit');
my ($bare) = grep { $few->safe_psql('postgres', unserved_of($_)) } @five;
is($few->safe_psql($bare, q{
		SELECT l.state FROM coord.agent_register('ann') a, LATERAL coord.lease_acquire('k', a.id) l}),
	'active', 'a database without a worker can be used');
$few->safe_psql($bare, q{SELECT coord.event_send('said', channel => 'few')});
is($few->safe_psql($bare, q{SELECT count(*) FROM coord.event_list(channel => 'few')}), '1', 'and its readers are told what was sent');

while (@five > 2)
{
	my ($has) = grep { !$few->safe_psql('postgres', unserved_of($_)) } @five;

	$few->safe_psql('postgres', "DROP DATABASE $has");
	@five = grep { $_ ne $has } @five;
	my $without = @five - 2;
	ok($few->poll_query_until('postgres', unserved_of(@five), $without), "a database with a worker is dropped, and another gets one by itself; $without have none");
}
ok(all_work($few, @five), 'in the end all work');
cmp_ok(scalar CoordCluster::logged($few, qr/max_worker_processes/), '<=', 1 + int((time - $started) / 60), 'the log has said it no more than once a minute');

$log = -s $few->logfile;
$few->restart;
ok($few->poll_query_until('postgres', unserved_of(@five), '0'), 'after a restart, databases without the extension do not take their place');
is(join("\n", CoordCluster::logged($few, qr/max_worker_processes/, $log)), '', 'and the log does not ask for more than is needed');

# ---- more databases than coord.max_databases, though not of those with the extension

$few->safe_psql('postgres', "CREATE DATABASE plain$_") for 1 .. 3;
$few->safe_psql('postgres', 'CREATE DATABASE last');
$few->safe_psql('postgres', "DROP DATABASE $_") for @five;
$few->append_conf('postgresql.conf', "coord.max_databases = 2\n");
$few->restart;
$few->safe_psql('last', 'CREATE EXTENSION coord');
ok(CoordCluster::has_worker($few, 'last'), 'databases without the extension do not count for coord.max_databases');
$few->restart;
ok(CoordCluster::has_worker($few, 'last'), 'nor do they after a restart');
$few->stop;

done_testing();
