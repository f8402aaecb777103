# A minute of "make torture": random load on leases, claims, queues and events, while
# clients, backends, the worker and the server are killed and paused, connections cut and
# stalled, the disk gets full, and a standby takes over.  The histories
# are checked, and before that the checker, on histories that are wrong on purpose.
# The histories are left beside the servers' logs, as a run cannot be had again from its seed alone.
#
# Runs alone.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use Test::More;

my $torture = "$FindBin::RealBin/../torture";

sub run_it
{
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ '/usr/bin/python3', @_ ], '<', \undef, '>', \$out, '2>', \$err);

	return ($ok, $out . $err);
}

my ($ok, $said) = run_it("$torture/test_checker.py");
ok($ok, 'the checker takes what is right and refuses what is wrong') or diag($said);

($ok, $said) = run_it("$torture/torture.py", '--seconds', 60 * ($ENV{COORD_SLOWNESS} // 1), '--kinds', 'plain,queue,events,failover,disk',
	'--keep', "$ENV{TESTLOGDIR}/torture");
SKIP:
{
	skip 'hardly anything happens in time under valgrind, which is to fail elsewhere', 1 if ($ENV{COORD_SLOWNESS} // 1) >= 10;
	ok($ok, 'what was seen can be true') or diag($said);
}
like($said, qr/^0 violations$/m, 'no violation');
diag($_) for $said =~ /^(skipped: .*)$/mg;
note($said);

done_testing();
