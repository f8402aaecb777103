# A commit that others see already, and of which nothing was told yet: the events of a
# transaction are delivered together and in order, also when another commit has told of a
# later block of the inbox meanwhile.
# test/tap/held_commit.c holds the commits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $place = PostgreSQL::Test::Utils::tempdir_short();
my $library = "$place/held_commit.so";
my $include = `pg_config --includedir-server`;
chomp $include;
my $cc = $ENV{CC} || 'cc';
system("$cc -O1 -shared -fPIC -isystem $include -o $library $FindBin::RealBin/held_commit.c") == 0 or plan skip_all => 'no compiler';

my $node = CoordCluster::new_node('held');
$node->append_conf('postgresql.conf', "shared_preload_libraries = '$library, coord'\nmax_prepared_transactions = 5");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sql('CREATE EXTENSION coord');

my $file = "$place/hold";
sub wait_until
{
	my ($what, $condition) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		select undef, undef, undef, 0.1;
	}
	return die "waited in vain until $what";
}

# the worker looks at all of the inbox when it begins
sql(q{SELECT coord.event_send('first', channel => 'first')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM coord.event WHERE position IS NOT NULL}), 'the worker is at work');

my $sender = $node->background_psql('postgres');
$sender->query_safe(qq{SET held_commit.file = '$file'});

# Six events that need more than a block of the inbox, sent by that statement's commit.
sub check
{
	my ($name, $channel, @commit) = @_;

	$sender->query_safe("BEGIN");
	$sender->query_safe(qq{SELECT coord.event_send('part', jsonb_build_object('n', n, 'pad', repeat(md5(n::text), 60)), channel => '$channel')
		FROM generate_series(1, 6) n});
	$sender->query_safe($_) foreach @commit[ 0 .. $#commit - 1 ];
	open my $hold, '>', $file or die $!;
	close $hold;
	$sender->query_until(qr/held/, "\\echo held\n$commit[-1];\n");
	wait_until('the commit is held', sub { -e "$file.held" });
	my @blocks = split /\|/, sql(qq{SELECT min(ctid), max(ctid), bool_and(channel = '$channel') FROM coord.event_inbox});
	isnt(($blocks[0] =~ /\((\d+)/)[0], ($blocks[1] =~ /\((\d+)/)[0], "$name: its events are in two blocks");
	is($blocks[2], 't', 'they are seen, and nothing else waits');

	sql(qq{SELECT coord.event_send('other', channel => '$channel')});
	ok($node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM coord.event WHERE channel = '$channel' AND type = 'other' AND position IS NOT NULL}),
		'another event, of which is told, is delivered');
	ok(-e "$file.held", 'while the commit is held');
	is(sql(qq{SELECT string_agg(payload ->> 'n', ' ' ORDER BY position) FROM coord.event WHERE channel = '$channel' AND position IS NOT NULL}),
		'1 2 3 4 5 6', 'and so are those');
	unlink $file or die $!;
	$sender->query_safe('SELECT 1');
	sql(qq{SELECT coord.event_send('last', channel => '$channel')});
	is(sql(qq{SELECT string_agg(coalesce(payload ->> 'n', type), ' ' ORDER BY position) FROM coord.event_list(channel => '$channel')}),
		'1 2 3 4 5 6 other last', 'all is there, once');
	return;
}

check('a commit', 'c', 'COMMIT');
check('COMMIT PREPARED', 'p', q{PREPARE TRANSACTION 'p'}, q{COMMIT PREPARED 'p'});

$sender->quit;
$node->stop;
done_testing();
