# What is written down about the extension, elsewhere than in its own SQL, agrees with it:
# docs/reference.md with the comments in the catalog, META.json and the Debian package with the
# version.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $repo = "$FindBin::RealBin/../..";
my $node = CoordCluster::new_node('reference');
$node->start;

# ---- the reference

my ($out, $err) = ('', '');
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGUSER} = getpwuid($<);
	local $ENV{PGDATABASE} = 'postgres';
	ok(IPC::Run::run([ '/usr/bin/python3', "$FindBin::RealBin/../docs/reference.py" ], '>', \$out, '2>', \$err), 'the reference is made') or diag($err);
}
my @made = split /^(?=#)/m, $out;
my %shown = map { (/^(#+ .*)/)[0] => $_ } split /^(?=#)/m, slurp_file("$repo/docs/reference.md");
for (@made)
{
	my ($title) = /^(#+ .*)/;
	is(delete $shown{$title} // '', $_, "docs/reference.md: $title") or diag('make docs');
}
is(join(', ', sort keys %shown), '', 'and it shows nothing else');

# ---- the version

my $version = $node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	SELECT extversion FROM pg_extension WHERE extname = 'coord'});
like($version, qr/^\d+\.\d+$/, 'there is a version that is created by default');
my $meta = decode_json(slurp_file("$repo/META.json"));
is($meta->{version}, "$version.0", 'META.json has that version');
is($meta->{provides}{coord}{version}, "$version.0", 'and so has the extension in it');
is($meta->{provides}{coord}{file}, "sql/coord--$version.sql", 'with its file');
like(slurp_file("$repo/debian/changelog"), qr/^postgresql-coord \(\Q$version\E\.\d+-/, 'and so has the Debian package');
my @missing = grep { !-f "$repo/$_" } map { @$_{qw(file docfile)} } values %{ $meta->{provides} };
is("@missing", '', 'which are there');
my @wanted = grep { !defined $meta->{$_} } qw(name version abstract maintainer license provides meta-spec);
is("@wanted", '', 'it has what PGXN wants');
done_testing();
