# The pages of docs that a reader can follow at psql: what they show is what psql answers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $docs = "$FindBin::RealBin/../../docs";
my $node = CoordCluster::new_node('docs');
$node->start;

# Each page, and whether its sections are for themselves.
for ([ 'tutorial' ], [ 'recipes', '--sections' ], [ 'operators', '--sections' ])
{
	my ($page, @options) = @$_;
	my ($out, $err) = ('', '');

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGUSER} = getpwuid($<);
	ok(IPC::Run::run([ '/usr/bin/python3', "$FindBin::RealBin/../docs/run_page.py", @options, "$docs/$page.md" ], '>', \$out, '2>', \$err),
		"$page.md is run to its end")
	  or diag($err);
	is($_->{answer}, $_->{page}, "$page.md, line $_->{line}") for map { decode_json($_) } split /\n/, $out;
}

done_testing();
