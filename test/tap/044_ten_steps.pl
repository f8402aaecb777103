# The ten steps of examples/clients, by each client: on the server itself, and through
# pgbouncer in session and in transaction mode, with one transcript.  Numbers are those of a
# late timeline, past 2^53, which a double would round.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Pgbouncer;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples/clients";
my $classes = PostgreSQL::Test::Utils::tempdir();
my $driver = '/usr/share/java/postgresql.jar';

$ENV{NODE_PATH} = "$FindBin::RealBin/../clients/node_modules";

my @started;

END
{
	my $status = $?;
	$_->kill_kill(grace => 1) for grep { $_->pumpable } @started;
	$? = $status;
}

# The server, also on TCP, since JDBC knows nothing else; on timeline 4000.
my $node = CoordCluster::new_node('ten_steps', extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\n");
command_ok([ 'pg_resetwal', '-l', sprintf('%08X0000000000000010', 4000), $node->data_dir ], 'the server goes to a late timeline');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coord');
CoordCluster::has_worker($node, 'postgres');
my $pooler = Pgbouncer->new($node, 20);

# Where a client connects, and where it listens if that is another place.
my %server = (host => $node->host, port => $node->port, dbname => 'postgres', user => scalar getpwuid($<));
my %where = (
	directly => [ \%server ],
	'through pgbouncer in session mode' => [ pooled('session') ],
	'through pgbouncer in transaction mode' => [ pooled('transaction'), \%server ]);

sub pooled { return { host => $pooler->{socket}, port => $pooler->{port}, dbname => $_[0], user => 'anybody' }; }

sub conninfo { return "host=$_->{host} port=$_->{port} dbname=$_->{dbname} user=$_->{user}"; }
sub uri { return "postgresql://$_->{user}\@/$_->{dbname}?host=$_->{host}&port=$_->{port}"; }
sub named { return "postgresql://$_->{user}\@localhost:$_->{port}/$_->{dbname}"; }
sub jdbc { return "jdbc:postgresql://127.0.0.1:$_->{port}/$_->{dbname}?user=$_->{user}&prepareThreshold=0"; }

my @quick = ('-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC');
my %client = (
	psql => [ \&conninfo, 'bash', "$examples/ten_steps.sh" ],
	psycopg2 => [ \&conninfo, '/usr/bin/python3', "$examples/ten_steps_psycopg2.py" ],
	'psycopg 3' => [ \&conninfo, '/usr/bin/python3', "$examples/ten_steps_psycopg.py" ],
	pg => [ \&uri, 'node', "$examples/ten_steps_pg.cjs" ],
	postgres => [ \&named, 'node', "$examples/ten_steps_postgres.cjs" ],
	JDBC => [ \&jdbc, 'java', @quick, '-cp', "$classes:$driver", 'TenSteps' ]);

# start_client($client, $place): a client at its ten steps, and what it writes.
sub start_client
{
	my ($client, $place) = @_;
	my ($format, @command) = @{ $client{$client} };
	my ($out, $err) = ('', '');
	my $timeout = IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default);	# all run at once
	my $process = IPC::Run::start([ @command, map { $format->() } @{ $where{$place} } ], '<', \undef, '>', \$out, '2>', \$err, $timeout);

	push @started, $process;
	return { process => $process, out => \$out, err => \$err };
}

command_ok([ 'javac', (map { "-J$_" } @quick), '-Xlint:all', '-Werror', '-cp', $driver, '-d', $classes, "$examples/TenSteps.java" ],
	'the program for JDBC is compiled');
my $transcript = slurp_file("$examples/transcript.txt");
my %run;
for my $client (keys %client)
{
	$run{"$client $_"} = start_client($client, $_) for keys %where;
}
for (sort keys %run)
{
	my $ended_well = $run{$_}{process}->finish;
	is(${ $run{$_}{out} } . ($ended_well ? '' : 'failed'), $transcript, $_) or diag(${ $run{$_}{err} });
}

# ---- what is left behind them

my $runs = keys %run;
is($node->safe_psql('postgres', 'SELECT status, count(*) FROM coord.agent GROUP BY 1'), "retired|$runs", 'every agent has retired');
is($node->safe_psql('postgres', 'SELECT state, count(*) FROM coord.task GROUP BY 1 ORDER BY 1'), "cancelled|$runs\ncompleted|$runs",
	'every task is finished');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND backend_type = 'client backend'}), '0',
	'no session holds an advisory lock');
$pooler->stop;

# ---- what the system says of tokens, which readers of JSON would round, too

my $lease = CoordCluster::short_lease($node, 'postgres', '100 ms', 'swept');
CoordCluster::announced($node, 'postgres', $lease);
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
CoordCluster::short_lease($node, 'postgres', '100 ms', 'taken over');
$node->poll_query_until('postgres', q{SELECT state = 'expired' FROM coord.lease WHERE resource_key = 'taken over'});
CoordCluster::short_lease($node, 'postgres', '1 h', 'taken over');
is($node->safe_psql('postgres', q{
	SELECT payload ->> 'resource_key', jsonb_typeof(payload -> 'fencing_token'),
		(payload ->> 'fencing_token')::bigint > 2::numeric ^ 53
	FROM coord.event WHERE type = 'lock.expired' ORDER BY id}), "swept|string|t\ntaken over|string|t",
	'lock.expired has the digits of its token, sent by the worker or by who takes the lease over');
done_testing();
