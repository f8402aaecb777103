# What one role does, the other's agents do not feel: locks that it takes, transactions
# that it keeps open, what it fills up.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('hostile_role');
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub becomes_true { return $node->poll_query_until('postgres', "SELECT $_[0]"); }

# A session of the hostile role.
sub session
{
	local $ENV{PGUSER} = 'hostile';
	return $node->background_psql('postgres');
}

sql(q{
	CREATE EXTENSION coord;
	CREATE ROLE hostile LOGIN;
	CREATE ROLE victim LOGIN;
	SELECT coord.grant_agent('hostile'), coord.grant_agent('victim')});
CoordCluster::has_worker($node, 'postgres');

# ---- locks

# coord's own are advisory locks, as everybody may take them with keys that are easy to
# find out; but in a class that nobody can name.
my $locker = session();
$locker->query_safe(q{
	SELECT pg_advisory_lock(c.oid::integer, hashtext('delivery')),
		pg_advisory_lock((c.oid::bigint << 32) | (hashtext('delivery')::bigint & 4294967295))
	FROM pg_class c WHERE relname = 'task_live'});
as('victim', q{SELECT coord.event_send('unheld', channel => 'c')});
ok(becomes_true(q{EXISTS (SELECT FROM coord.event WHERE type = 'unheld' AND position IS NOT NULL)}), 'nobody can lock the delivery of events');
$locker->quit;

for my $relation (qw(agent lease task dead_letter event queue agent_data task_live lease_data claim_deadline event_inbox))
{
	my ($status, undef, $error) = $node->psql('postgres', "SELECT FROM coord.$relation FOR UPDATE", extra_params => [ '-U', 'hostile' ]);
	like($error, qr/permission denied/, "nobody can lock rows of $relation");
	($status, undef, $error) = $node->psql('postgres', "BEGIN; LOCK TABLE coord.$relation IN SHARE MODE", extra_params => [ '-U', 'hostile' ]);
	like($error, qr/permission denied/, "nor all of it");
}

done_testing();
