# Notifications reach clients of any encoding: of characters that a client's encoding has
# not, its connection would die.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = CoordCluster::new_node('encodings');
$node->start;

# hears($database, $client_encoding, $name, $escaped): what listens for events, and for tasks, is told a name, given
# in SQL, in ASCII.
sub hears
{
	my ($database, $client_encoding, $name, $escaped) = @_;
	my $listener = $node->background_psql($database);
	my $give_up = time() + $PostgreSQL::Test::Utils::timeout_default;
	my $heard = '';

	$listener->query_safe("SET client_encoding = '$client_encoding'");
	$listener->query_safe('SELECT coord.event_listen()');
	$listener->query_safe("SELECT count(coord.queue_listen($name))");
	$node->safe_psql($database, "SELECT coord.task_create('t', queue => $name); SELECT coord.event_send($name)");
	until ($heard =~ /"type"/ && $heard =~ /"queue"/ || time() > $give_up)
	{
		$heard .= $listener->query('SELECT 1') . "\n";
	}
	like($heard, qr/"type": ?"\Q$escaped\E"/, "a client in $client_encoding of database $database hears of an event");
	like($heard, qr/\{"queue": ?"\Q$escaped\E"\}/, 'and of a task');
	$listener->quit;
}

sub encoded
{
	my ($encoding, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql($database, 'CREATE EXTENSION coord');
	CoordCluster::has_worker($node, $database);
	return $database;
}

# the Euro sign, a tab, a quotation mark, and a clef, which is two of JSON's characters; the name is long, so that
# its NOTIFY channel is of its hash
my $name = q{(U&'\20AC\0009"\+01D11E' || repeat('x', 60))};
my $escaped = '\u20ac\t\"\ud834\udd1e' . 'x' x 60;
my $utf8 = encoded('UTF8', 'utf8');
hears($utf8, $_, $name, $escaped) for qw(UTF8 LATIN1 SQL_ASCII SJIS);

my $latin1 = encoded('LATIN1', 'latin1');
hears($latin1, $_, q{(chr(233) || repeat('x', 60))}, '\u00e9' . 'x' x 60) for qw(UTF8 LATIN1);

# what is no character is replaced, and what has no encoding may be in UTF-8
my $win1252 = encoded('WIN1252', 'win1252');
hears($win1252, 'UTF8', q{(chr(128) || chr(129) || repeat('x', 60))}, '\u20ac\ufffd' . 'x' x 60);
my $none = encoded('SQL_ASCII', 'none');
hears($none, 'UTF8', q{(E'\xe2\x82\xac\xff' || repeat('x', 60))}, '\u20ac\ufffd' . 'x' x 60);

# The longest of all: each byte of both names is one that takes six.
$node->safe_psql($latin1, q{SELECT coord.event_send(repeat(chr(233), 512), channel => repeat(chr(233), 512))});
ok($node->poll_query_until($latin1, 'SELECT count(*) = 0 FROM coord.event WHERE position IS NULL'), 'the longest names are told');
is($node->safe_psql($latin1, 'SELECT errors FROM coord.worker'), '0', 'the worker met no error');

$node->stop('fast');
unlike(slurp_file($node->logfile), qr/FATAL:  (?!terminating background worker)/, 'no connection was lost');

done_testing();
