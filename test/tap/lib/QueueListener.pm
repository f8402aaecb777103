# A session that listens to the queues "q" and "mark", and counts what it hears of "q".

package QueueListener;

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

# new($class, $node): it does not listen yet.
sub new
{
	my ($class, $node) = @_;

	return bless { node => $node, session => $node->background_psql('postgres'), heard => '' }, $class;
}

sub query_safe
{
	my ($self, $sql) = @_;

	return $self->{session}->query_safe($sql);
}

# listen(): returns what queue_listen('q') does.
sub listen
{
	my ($self) = @_;

	$self->query_safe(q{SELECT coord.queue_listen('mark')});
	return $self->query_safe(q{SELECT coord.queue_listen('q')});
}

sub hear
{
	my ($self, $queue) = @_;

	$self->{heard} .= $self->{session}->query('SELECT 1') . "\n";
	return scalar(() = $self->{heard} =~ /\{"queue": "$queue"\}/g);
}

# notifications(): how many there were of "q" since the last call.  Two tasks of the other
# queue, one after the other, end the list: what the worker had to tell before the second
# one, it tells no later than with the first.
sub notifications
{
	my ($self) = @_;
	my $n;

	for (1 .. 2)
	{
		my $marks = $self->hear('mark');

		$self->{node}->safe_psql('postgres', q{SELECT coord.task_create('mark', queue => 'mark')});
		1 while $marks == $self->hear('mark');
	}
	$n = $self->hear('q');
	$self->{heard} = '';
	return $n;
}

# is_told($what): a test that there is one of "q", which is waited for.
sub is_told
{
	my ($self, $what) = @_;
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;

	1 until $self->hear('q') || time > $give_up;
	like($self->{heard}, qr/\{"queue": "q"\}/, $what);
	$self->{heard} = '';
	return;
}

sub quit
{
	my ($self) = @_;

	return $self->{session}->quit;
}

1;
