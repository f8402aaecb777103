# A client of MCP that talks to a coord-mcp, for tests of that.

package McpClient;

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my %running;

# No bridge outlives its test.
END
{
	my $status = $?;
	kill('KILL', $_), waitpid($_, 0) for keys %running;
	$? = $status;
}

# new($node, @options): starts a bridge to the database postgres of that node.  With
# $ENV{COORD_MCP_WRAPPER}, under that program.
sub new
{
	my ($class, $node, @options) = @_;
	my $self = bless { lines => [], buffer => '', next_id => 1 }, $class;
	my @command = (split(/ /, $ENV{COORD_MCP_WRAPPER} // ''), 'coord-mcp', @options);

	$self->{log} = PostgreSQL::Test::Utils::tempdir() . '/log';
	append_to_file($self->{log}, '');
	pipe(my $in, $self->{in}) && pipe($self->{out}, my $out) or die $!;
	$self->{in}->autoflush(1);
	$self->{pid} = fork // die $!;
	if (!$self->{pid})
	{
		if (defined $node)
		{
			@ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
			$ENV{PGUSER} = getpwuid($<);
			delete $ENV{PGAPPNAME};
		}
		open(STDIN, '<&', $in) && open(STDOUT, '>&', $out) && open(STDERR, '>', $self->{log}) or die $!;
		close $_ for @$self{qw(in out)};
		exec(@command) or die $!;
	}
	$running{ $self->{pid} } = 1;
	return $self;
}

# Sends bytes, a line, or one message of JSON.
sub send_bytes { my ($self, $bytes) = @_; print { $self->{in} } $bytes; }
sub send_line { my ($self, $line) = @_; $self->send_bytes("$line\n"); }
sub send_message { my ($self, $message) = @_; $self->send_line($json->encode({ jsonrpc => '2.0', %$message })); }
sub notify { my ($self, $method, $params) = @_; $self->send_message({ method => $method, params => $params // {} }); }

# Sends a request, and returns its id.
sub ask
{
	my ($self, $method, $params) = @_;
	my $id = $self->{next_id}++;

	$self->send_message({ id => $id, method => $method, params => $params // {} });
	return $id;
}

sub ask_tool { my ($self, $tool, $arguments) = @_; return $self->ask('tools/call', { name => $tool, arguments => $arguments // {} }); }

# wait_for($condition): the first line that is not yet taken and meets it, which is taken.
sub wait_for
{
	my ($self, $condition) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	while (1)
	{
		for my $i (0 .. $#{ $self->{lines} })
		{
			local $_ = $self->{lines}[$i];
			return splice(@{ $self->{lines} }, $i, 1) if $condition->();
		}
		$self->read_some($deadline) or die "coord-mcp has ended; its log:\n" . $self->log;
	}
}

# Reads what comes next; false at the end.
sub read_some
{
	my ($self, $deadline) = @_;

	my $select = IO::Select->new($self->{out});

	# a signal, such as that of a child's end, ends the wait early
	until ($select->can_read($deadline - time))
	{
		die "coord-mcp did not answer in time; its log:\n" . $self->log if time >= $deadline;
	}
	my $n = sysread($self->{out}, $self->{buffer}, 1 << 20, length $self->{buffer});
	my $end = rindex($self->{buffer}, "\n", length $self->{buffer});
	push @{ $self->{lines} }, map { $json->decode($_) } split /\n/, substr($self->{buffer}, 0, $end + 1, '') if $end >= 0;
	return $n;
}

# The answer to the request with that id; the next one without an id; the next notification.
sub answer { my ($self, $id) = @_; return $self->wait_for(sub { ref eq 'HASH' && exists $_->{id} && $_->{id} eq $id }); }
sub answer_without_id { my ($self) = @_; return $self->wait_for(sub { ref eq 'HASH' && !exists $_->{id} && !exists $_->{method} }); }
sub notification { my ($self) = @_; return $self->wait_for(sub { ref eq 'HASH' && exists $_->{method} }); }

sub request { my ($self, @request) = @_; return $self->answer($self->ask(@request)); }

# What a tool answers, refusals too.
sub outcome
{
	my ($self, $id) = @_;
	my $answer = $self->answer($id);

	return $answer->{result}{structuredContent} // die 'not what a tool answers: ' . $json->encode($answer) . "\nthe log:\n" . $self->log;
}

sub tool { my ($self, @call) = @_; return $self->outcome($self->ask_tool(@call)); }

# Begins a session of the old era.
sub initialize
{
	my ($self, $version, $name) = @_;
	my $answer = $self->request('initialize',
		{ protocolVersion => $version // '2025-11-25', capabilities => {}, clientInfo => { name => $name // 'tester', version => '1' } });

	$self->notify('notifications/initialized');
	return $answer;
}

# A request of the new era.
sub modern
{
	my ($self, $method, $params, $version) = @_;

	return $self->ask($method, { %{ $params // {} }, _meta => {
		'io.modelcontextprotocol/protocolVersion' => $version // '2026-07-28',
		'io.modelcontextprotocol/clientCapabilities' => {},
		'io.modelcontextprotocol/clientInfo' => { name => 'modern', version => '1' } } });
}

# How many lines have come that were not taken, when all that was asked for is answered.
sub rest
{
	my ($self) = @_;

	$self->request('ping');
	return scalar @{ $self->{lines} };
}

sub log { my ($self) = @_; return slurp_file($self->{log}); }

# logged($pattern): waits until the log has it.
sub logged
{
	my ($self, $pattern) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until ($self->log =~ $pattern)
	{
		die "coord-mcp has not logged $pattern:\n" . $self->log if time > $deadline;
		usleep(20_000);
	}
	return 1;
}

# The exit status, when it has ended, after what it still had to say.
sub ended
{
	my ($self) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	1 while defined $self->{out} && $self->read_some($deadline);
	die "coord-mcp wrote no whole line at its end" if $self->{buffer} ne '' && $self->log !~ /does not read its answers/;
	waitpid($self->{pid}, 0);
	delete $running{ $self->{pid} };
	return $?;
}

sub close_stdin { my ($self) = @_; close $self->{in}; }
sub finish { my ($self) = @_; $self->close_stdin; return $self->ended; }

1;
