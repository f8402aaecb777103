# A pgbouncer in front of a node, for tests of coord behind a pooler.

package Pgbouncer;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @running;

# No pooler outlives its test.
END
{
	my $status = $?;
	$_->{process}->kill_kill(grace => 1) for @running;
	$? = $status;
}

# new($node, $pool_size): a pooler whose databases "session" and "transaction" are the node's
# database postgres in that mode, each by so many server connections.
sub new
{
	my ($class, $node, $pool_size) = @_;
	my $self = bless {
		socket => PostgreSQL::Test::Utils::tempdir_short(),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		said => '',
		timeout => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default)
	}, $class;
	my $server = "host=${\ $node->host} port=${\ $node->port} dbname=postgres user=${\ scalar getpwuid($<)}";
	my $config = $node->basedir . '/pgbouncer.ini';

	# the JDBC driver sends extra_float_digits
	append_to_file($config, qq{
[databases]
session = $server pool_mode=session
transaction = $server pool_mode=transaction
[pgbouncer]
default_pool_size = $pool_size
max_client_conn = 50
unix_socket_dir = $self->{socket}
listen_addr = 127.0.0.1
listen_port = $self->{port}
auth_type = any
ignore_startup_parameters = extra_float_digits
});
	$self->{process} = IPC::Run::start([ '/usr/sbin/pgbouncer', $config ], '>', \$self->{said}, '2>', \$self->{said}, $self->{timeout});
	push @running, $self;
	$self->says(qr/process up/) or BAIL_OUT('pgbouncer does not start');
	return $self;
}

# says($pattern): waits until the pooler has said that.
sub says
{
	my ($self, $pattern) = @_;

	$self->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	return pump_until($self->{process}, $self->{timeout}, \$self->{said}, $pattern);
}

# conninfo($mode): of the database in that mode.
sub conninfo
{
	my ($self, $mode) = @_;

	return "host=$self->{socket} port=$self->{port} dbname=$mode user=anybody";
}

sub stop
{
	my ($self) = @_;

	@running = grep { $_ != $self } @running;
	$self->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	$self->{process}->signal('TERM');
	return $self->{process}->finish;
}

1;
