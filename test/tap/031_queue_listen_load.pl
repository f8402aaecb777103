# Workers that listen to a queue never sleep on a claimable task, whatever else goes on.
#
# Runs alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('queue_listen_load');
$node->append_conf('postgresql.conf', "log_statement = none\n");
$node->start;

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', COORD_LOG => $node->logfile);
my ($out, $err) = ('', '');
my $load = IPC::Run::start(
	[ '/usr/bin/python3', "$FindBin::RealBin/../torture/listening.py", '--seconds', 6 * CoordCluster::slowness() ],
	'>', \$out, '2>', \$err);
my $ok = $load->finish;
SKIP:
{
	skip 'hardly anything happens in time under valgrind, which is to fail elsewhere', 1 if CoordCluster::slowness() >= 10;
	ok($ok, 'each task is worked on as soon as it is claimable') or diag($out . $err);
}
like($out, qr/^0 violations$/m, 'no wake-up is lost');

done_testing();
