# PostgreSQL::Test::Cluster nodes that have coord preloaded from where the
# harness staged it (see test/harness/cluster-session).

package CoordCluster;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

# new_node($name, %params): a new node, initialised (init() gets %params) and
# configured, not started.
sub new_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%params);
	$node->append_conf('postgresql.conf', slurp_file($ENV{COORD_CONF}));
	return $node;
}

1;
