# The examples of monitoring are whole: watch.sql shows what there is, each query of
# postgres_exporter.yml runs as a monitor and gives the columns that it names, and each
# metric of grafana.json is one of those.

use strict;
use warnings;

use CPAN::Meta::YAML;
use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my $node = CoordCluster::new_node('monitoring');
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION coord; CREATE ROLE watcher LOGIN; SELECT coord.grant_monitor('watcher')});
CoordCluster::has_worker($node, 'postgres');
CoordCluster::fill($node, 'postgres');
$node->safe_psql('postgres', q{SELECT coord.queue_pause('limited')});

# ---- psql

my @psql = ('psql', '-X', '-d', $node->connstr('postgres') . ' user=watcher', '-v', 'ON_ERROR_STOP=1');
my ($screen, $err) = run_command([ @psql, '-f', "$examples/watch.sql" ]);
is($err, '', 'watch.sql raises no error');
like($screen, qr/^ worker +\| running +\| /m, 'it shows the worker');
like($screen, qr/^ agents +\| active +\| 1 *\n agents +\| retired +\| 1 *$/m, 'agents');
like($screen, qr/^ queue limited +\| paused +\| 0 pending \(oldest -\), 1 claimed, 0 scheduled, 0 blocked, 0 dead; /m, 'and queues');
like($screen, qr/^ queue d +\| +\| .* 1 dead; 5 min: 1 completed, 1 failed attempts, 95 % ran for 00:00/m, 'with what they have done');
my ($again, $said) = ('', '');
my $watch = IPC::Run::start([ @psql, '-v', 'every=0.1', '-f', "$examples/watch.sql" ], '<', \'', '>', \$again, '2>', \$said,
	my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default));
$watch->pump until (() = $again =~ /queue limited/g) >= 2 || $timer->is_expired;
$watch->kill_kill;
cmp_ok((() = $again =~ /queue limited/g), '>=', 2, 'and again and again') or diag($said);

# ---- postgres_exporter

my $queries = CPAN::Meta::YAML->read("$examples/monitoring/postgres_exporter.yml")->[0];
my %metrics;
is(join(' ', sort keys %$queries), 'coord_agents coord_leases coord_queue coord_queue_stats coord_worker', 'the exporter has its queries');
for my $name (sort keys %$queries)
{
	my %usage = map { my ($column) = keys %$_; $column => $_->{$column} } @{ $queries->{$name}{metrics} };
	my ($out, $error) = run_command([ @psql, '-A', '-c', $queries->{$name}{query} ]);
	my ($head, @rows) = split /\n/, $out;

	is($error, '', "$name: a monitor may ask it");
	is(join(' ', sort split /\|/, $head), join(' ', sort keys %usage), "$name: its columns are those that it says");
	cmp_ok(scalar @rows, '>', 1, "$name: it gives rows, and psql's count of them");
	is(scalar(grep { $_->{usage} !~ /^(LABEL|GAUGE|COUNTER)$/ || !length $_->{description} } values %usage), 0, "$name: each has a usage and a text");
	$metrics{"${name}_$_"} = $usage{$_}{usage} for grep { $usage{$_}{usage} ne 'LABEL' } keys %usage;
}

# ---- Grafana

my $dashboard = decode_json(slurp_file("$examples/monitoring/grafana.json"));
my @expressions = map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
cmp_ok(scalar @expressions, '>=', 20, 'the dashboard of Grafana has its panels');
my %used = map { $_ => 1 } map { /\b(coord_\w+)/g } @expressions, map { $_->{definition} // () } @{ $dashboard->{templating}{list} };
is(join(' ', grep { !$metrics{$_} } sort keys %used), '', 'each of their metrics is exported');
is(join(' ', grep { my ($m) = /(?:rate|increase)\((coord_\w+)/; $m && $metrics{$m} ne 'COUNTER' } @expressions), '', 'rates are of counters');
is($dashboard->{templating}{list}[0]{type}, 'datasource', 'the data source can be chosen');
is(scalar(grep { $_->{datasource}{uid} ne '${datasource}' } @{ $dashboard->{panels} }), 0, 'which all panels use');
is(join(' ', grep { !/^coord_/ } map { /(\w+)\{/g } @expressions), '', 'nothing else is asked for');

$node->stop;
done_testing();
