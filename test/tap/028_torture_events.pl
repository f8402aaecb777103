# A short form of "make torture-events": random sending, late commits, cut connections, an
# ended worker and a crash; who reads and who listens misses no event, and gets none twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use Test::More;

my $node = CoordCluster::new_node('torture_events');
$node->append_conf('postgresql.conf', q{
max_prepared_transactions = 40
restart_after_crash = on
log_statement = none
log_line_prefix = '%m [%p] %b %d '
});
$node->start;

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', COORD_LOG => $node->logfile);
my ($out, $err) = ('', '');
my $torture = IPC::Run::start(
	[ '/usr/bin/python3', "$FindBin::RealBin/../torture/events.py", '--seconds', '12', '--no-restart' ],
	'>', \$out, '2>', \$err);
ok($torture->finish, 'what was heard and read can be true') or diag($out . $err);
like($out, qr/^0 violations$/m, 'no violation');

done_testing();
