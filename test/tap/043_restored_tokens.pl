# Tokens after a restore are higher than all that were given before, also by servers that
# the restored one knows nothing of: those that were given after the point in time to which
# it was restored, and those of another restore of the same backup, on a timeline of the
# same number.  So they are in a new cluster, on its first timeline, that was given a dump.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Leases are granted there; returns the last token.
sub grant
{
	my ($node, $db, $what) = @_;

	return $node->safe_psql($db, qq{
		SELECT max(fencing_token) FROM coord.agent a, generate_series(1, 100) g, coord.lease_acquire('$what ' || g, a.id, '1 h')
		WHERE name = 'alive'});
}

# And an event is sent; returns its position.
sub announce
{
	my ($node) = @_;
	my $id = $node->safe_psql('postgres', q{SELECT id FROM coord.event_send('sent', channel => 'restore')});

	return $node->safe_psql('postgres', "SELECT position FROM coord.event_list(channel => 'restore', max_events => 10000) WHERE id = '$id'");
}

my $origin = CoordCluster::new_node('origin', allows_streaming => 1, has_archiving => 1);
$origin->start;
$origin->safe_psql('postgres', q{CREATE EXTENSION coord; SELECT coord.agent_register('alive', heartbeat_timeout => '1 h')});
$origin->backup('base');
grant($origin, 'postgres', 'kept');
announce($origin);
$origin->safe_psql('postgres', q{SELECT pg_create_restore_point('then'); SELECT pg_switch_wal()});
my $last = grant($origin, 'postgres', 'abandoned');
my $position = announce($origin);

# Two restores of one backup, to the same point; neither sees the other's timeline.
sub restored
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($origin, 'base', has_restoring => 1, standby => 0);
	$node->append_conf('postgresql.conf', "archive_mode = off\nrecovery_target_name = 'then'\nrecovery_target_action = 'pause'\n");
	$node->start;
	$node->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
	return $node;
}

my @restored = map { restored($_) } 'one', 'other';
for my $node (@restored)
{
	my $is = $node->name;

	is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE resource_key LIKE 'kept %'), count(*) FROM coord.lease}), '100|100',
		"$is: it is restored to an earlier time");
	$node->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	ok($node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), "$is: it takes writes");
	is($node->safe_psql('postgres', q{SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)}), '00000002', "$is: on timeline 2");
	my $first = $node->safe_psql('postgres', q{SELECT fencing_token FROM coord.agent a, coord.lease_acquire('first', a.id, '1 h') WHERE name = 'alive'});
	cmp_ok($first, '>', $last, "$is: its first token is higher than all before");
	my $next = announce($node);
	cmp_ok($next, '>', $position, "$is: so is its first position");
	is($node->safe_psql('postgres', "SELECT position = $next FROM coord.event_list(after => $position)"), 't',
		"$is: a reader of the abandoned timeline goes on with it");
	ok(CoordCluster::works($node, 'postgres'), "$is: the worker works");
	$last = grant($node, 'postgres', 'later');
	$position = announce($node);
}
$origin->stop;
$restored[0]->stop;

# ---- a dump, in a new cluster

my $old = $restored[1];
my $new = CoordCluster::new_node('new');
$new->start;
my $dump = $old->basedir . '/dump';
my $rows = CoordCluster::rows($old, 'postgres');
command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', $dump, $old->connstr('postgres') ], 'a parallel dump');
# what is given after the dump is not in it
my $after_dump = grant($old, 'postgres', 'after the dump');

# $prepare: what the new database has before; the options of pg_restore
sub restore_dump
{
	my ($db, $prepare, @options) = @_;

	$new->safe_psql('postgres', "CREATE DATABASE $db");
	$new->safe_psql($db, $prepare) if $prepare;
	return command_ok([ 'pg_restore', '--exit-on-error', @options, '-d', $new->connstr($db), $dump ], "$db: it is restored");
}

restore_dump('whole', '', '-j', '2');
restore_dump('data', 'CREATE EXTENSION coord', '--data-only');
for my $db ('whole', 'data')
{
	my %is_there = map { $_ => 1 } split /\n/, CoordCluster::rows($new, $db);

	is(join("\n", grep { !$is_there{$_} } split /\n/, $rows), '', "$db: every row is there");
	cmp_ok($new->safe_psql($db, q{SELECT fencing_token FROM coord.agent a, coord.lease_acquire('new', a.id) WHERE name = 'alive'}), '>', $after_dump,
		"$db: new tokens are higher than those given since the dump");
}

# Without the data it is a new installation, which knows nothing of the old one.
restore_dump('empty', '', '--schema-only');
is($new->safe_psql('empty', q{SELECT count(*) FROM coord.agent}), '0', 'empty: nothing is there');
$new->safe_psql('empty', q{SELECT coord.agent_register('alive')});
like(grant($new, 'empty', 'x'), qr/^\d+$/, 'empty: it works');

done_testing();
