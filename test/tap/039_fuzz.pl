# A short form of "make fuzz": hostile arguments to every function, by several roles at
# once, and what sqlsmith makes up; only errors that the comments name, and nothing breaks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('fuzz');
$node->append_conf('postgresql.conf', q{
max_prepared_transactions = 10
log_statement = none
log_line_prefix = '%m [%p] %b %d %e '
autovacuum_naptime = 1
});
$node->start;
CoordCluster::has_postgres($node);

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'postgres', PGDATABASE => 'postgres', COORD_LOG => $node->logfile,
	PYTHONDONTWRITEBYTECODE => 1);

sub fuzzes
{
	my ($name, $script, @options) = @_;
	my ($out, $err) = ('', '');
	my $fuzz = IPC::Run::start([ '/usr/bin/python3', "$FindBin::RealBin/../fuzz/$script", @options ], '>', \$out, '2>', \$err);

	$fuzz->finish;
	note($out);
	like($out, qr/^0 findings$/m, $name) or diag($out . $err);
}

fuzzes('a known seed', 'functions.py', '--seed', '1', '--seconds', '5', '--memory-calls', '0');
fuzzes('a new seed', 'functions.py', '--seconds', '5', '--memory-calls', '120');
fuzzes('sqlsmith', 'sqlsmith.py', '--seconds', '6');

$node->stop;
done_testing();
