# The listeners that README shows hear each committed event of their channel once, in
# the order of positions, whatever befalls their connection, the server and themselves.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $examples = "$FindBin::RealBin/../../examples";
my %interpreter = ('listen.py' => '/usr/bin/python3', 'listen.cjs' => 'node');
my @programs = sort keys %interpreter;

$ENV{NODE_PATH} = "$FindBin::RealBin/../clients/node_modules";

my @started;                        # all processes that this test has started

END
{
	my $status = $?;
	$_->kill_kill(grace => 1) for grep { $_->pumpable } @started;
	$? = $status;
}

# What was committed is known from a table that has nothing to do with coord's.
my $node = CoordCluster::new_node('clients');
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	CREATE TABLE sent (id uuid, channel text);
	CREATE FUNCTION send(type text, channel text = 'news', recipient_id uuid = NULL) RETURNS uuid LANGUAGE sql AS $$
		INSERT INTO sent SELECT id, channel FROM coord.event_send(type, to_jsonb(type), recipient_id, channel)
		RETURNING id $$});
CoordCluster::has_worker($node, 'postgres');

sub sent { return $node->safe_psql('postgres', "SELECT send('$_[0]')"); }

# listen_to($program, $file, @what): starts a listener, whose output is added to a file.
my $errors = $node->basedir . '/errors';

sub listen_to
{
	my ($program, $file, @what) = @_;

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGUSER} = getpwuid($<);
	local $ENV{PGDATABASE} = 'postgres';
	local $ENV{PGAPPNAME} = $program;
	push @started, IPC::Run::start([ $interpreter{$program}, "$examples/$program", @what ], '>>', $file, '2>>', $errors);
	return $started[-1];
}

# heard($file): what the listeners have written there.
sub heard { return map { decode_json($_) } split /\n/, slurp_file($_[0]); }

# is_heard($file, $id): waits until that event is there.
sub is_heard
{
	my ($file, $id) = @_;
	my $give_up = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $give_up)
	{
		return 1 if slurp_file($file) =~ /"$id".*\n/;
		usleep(50_000);
	}
	return 0;
}

# ends($process): it ends well at SIGTERM.
sub ends
{
	local $SIG{ALRM} = sub { die 'a process does not end' };

	$_[0]->signal('TERM');
	alarm $PostgreSQL::Test::Utils::timeout_default;
	my $well = $_[0]->finish;
	alarm 0;
	return $well;
}

# The listeners of the channel, and where each writes in all its lives.
my %listener;
my %output = map { $_ => $node->basedir . "/$_.output" } @programs;

sub start_listeners
{
	$listener{$_} = listen_to($_, $output{$_}, '--channel', 'news', '--position-file', $node->basedir . "/$_.position")
		for @programs;
}

sub all_hear
{
	my ($id, $name) = @_;

	is(join(' ', grep { is_heard($output{$_}, $id) } @programs), "@programs", $name) or BAIL_OUT(slurp_file($errors));
}

sub all_end
{
	is(join(' ', grep { ends($listener{$_}) } @programs), "@programs", 'SIGTERM ends both') or diag(slurp_file($errors));
}

# Four clients that send until they are ended.  Of their transactions some are rolled
# back, some to a savepoint.
my $script = $node->basedir . '/send.sql';
append_to_file($script, q{
\set what random(1, 4)
BEGIN;
SELECT send('kept');
SELECT send('elsewhere', 'other');
SAVEPOINT s;
SELECT send('perhaps');
\if :what = 1
ROLLBACK TO s;
\endif
SELECT send('kept');
\if :what = 2
ROLLBACK;
\else
COMMIT;
\endif
\sleep 5 ms
});

sub start_senders
{
	push @started, IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', '4', '-T', '3600', '-f', $script, 'postgres' ],
		'>>', $errors, '2>>', $errors);
	return $started[-1];
}

# Wait until they have committed some more.
sub some_more
{
	my $sent = $node->safe_psql('postgres', 'SELECT count(*) FROM sent');
	$node->poll_query_until('postgres', "SELECT count(*) > $sent + 20 FROM sent") or BAIL_OUT(slurp_file($errors));
}

# ---- late commits

start_listeners();
all_hear(sent('first'), 'both listen');
my @senders = map { $node->background_psql('postgres') } 1 .. 2;
my @late = map { $_->query_safe('BEGIN'); $_->query_safe(q{SELECT send('late')}) } @senders;
$senders[1]->query_safe('COMMIT');
all_hear($late[1], 'both hear of the transaction that has committed');
$senders[0]->query_safe('COMMIT');
all_hear($late[0], 'and of the one that sent before it and committed after it');
$_->quit for @senders;

# ---- connections that end, amid senders

my $senders = start_senders();
my $listening = q{FROM pg_stat_activity WHERE application_name LIKE 'listen.%' AND query LIKE '%event_list(%'};
for (1 .. 2)
{
	some_more();
	$node->poll_query_until('postgres', "SELECT count(*) = 2 $listening") or BAIL_OUT(slurp_file($errors));
	is($node->safe_psql('postgres', "SELECT count(pg_terminate_backend(pid, 10000)) $listening"), '2',
		'the connections of both are terminated');
}
ends($senders);
all_hear(sent('terminated'), 'both hear on');

# ---- the server's restart and its crash, amid senders

for my $mode ('fast', 'immediate')
{
	$senders = start_senders();
	some_more();
	$node->stop($mode);
	ends($senders);
	$node->start;
	all_hear(sent($mode), "both hear on when the server was stopped in mode $mode");
}

# ---- listeners that are away

all_end();
$node->safe_psql('postgres', q{SELECT count(send('away')) FROM generate_series(1, 450)});
start_listeners();
all_hear(sent('back'), 'both hear what was sent while they were away');

# ---- an agent and everyone

my $agent = $node->safe_psql('postgres', q{SELECT id FROM coord.agent_register('reader')});
my @some = split /\n/, $node->safe_psql('postgres', qq{
	SELECT send('to the agent', NULL, '$agent');
	SELECT send('to everyone', NULL);
	SELECT send('to the agent on a channel', 'news', '$agent');
	SELECT send('to everyone again', NULL)});
for my $program (@programs)
{
	for my $case ([ "--agent=$agent", @some[ 0, 2 ] ], [ '--everyone', @some[ 1, 3 ] ])
	{
		my ($what, @wanted) = @$case;
		my $file = $node->basedir . "/$program$what";
		my $listener = listen_to($program, $file, $what);
		is_heard($file, $wanted[-1]);
		ends($listener);
		is(join(' ', map { $_->{id} } heard($file)), "@wanted", "$program $what");
	}
}

# ---- each event once, in order

all_hear(sent('last'), 'both hear the last event');
all_end();
my $committed = $node->safe_psql('postgres', q{SELECT id FROM sent WHERE channel = 'news' ORDER BY id});
for my $program (@programs)
{
	my @events = heard($output{$program});
	is(join("\n", sort map { $_->{id} } @events), $committed, "$program has heard each committed event once");
	is(scalar(grep { $events[ $_ - 1 ]{position} >= $events[$_]{position} } 1 .. $#events), 0, 'in the order of positions');
	is(scalar(grep { $_->{payload} ne $_->{type} } @events), 0, 'with its payload');
}

done_testing();
