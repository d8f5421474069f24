# AnglesTest/Proxy.pm
#	A TCP proxy on loopback with bad manners, for what a simulator cannot do about its own
#	connections: refuse, cut, reset, stall, trickle, lose the answer.
#
#	my $proxy = start_proxy($sim->port);
#	... 'angles.notion_url' => $proxy->url ...
#	$proxy->mode('stall');
package AnglesTest::Proxy;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes ();

use PostgreSQL::Test::Utils;

my $count = 0;

# Modes, each for connections and bytes from then on:
#	pass            as if there were no proxy
#	stall           takes everything, answers nothing, closes nothing
#	cut             closes connections in order (FIN), at once
#	reset           closes them with RST
#	lose_reply      hands the request on, and resets the connection when the answer comes
#	trickle         hands the answer on one byte in 100 ms
my %known = map { $_ => 1 } qw(pass stall cut reset lose_reply trickle);

# Starts a proxy before the port and returns it; it listens already.
sub start
{
	my ($class, $target) = @_;
	my $listen = IO::Socket::INET->new(
		Listen => 64, LocalAddr => '127.0.0.1', LocalPort => 0, ReuseAddr => 1)
	  or die "could not listen: $!";
	my $self = bless {
		port => $listen->sockport,
		mode_file => "$PostgreSQL::Test::Utils::tmp_check/proxy" . ++$count . ".$$",
	}, $class;
	$self->mode('pass');
	$self->{pid} = fork // die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		# a child of the test that must run none of its END blocks and print none of its buffers
		$SIG{TERM} = sub { POSIX::_exit(0) };
		eval { _serve($listen, $target, $self->{mode_file}, getppid()) };
		print STDERR $@ if $@;
		POSIX::_exit(1);
	}
	AnglesTest::adopt_child($self->{pid}, "proxy to $target");
	close $listen;
	return $self;
}

sub port { return $_[0]{port}; }
sub url { return "http://127.0.0.1:$_[0]{port}"; }

# Changes the mode; it holds for the next event the proxy sees, at most 20 ms later.
sub mode
{
	my ($self, $mode) = @_;
	die "unknown mode \"$mode\"" unless $known{$mode};
	open(my $fh, '>', "$self->{mode_file}.new") or die "could not write: $!";
	print $fh $mode;
	close $fh;
	rename("$self->{mode_file}.new", $self->{mode_file}) or die "could not rename: $!";
}

# Ends the proxy: its port refuses from now on.
sub stop
{
	my ($self) = @_;
	AnglesTest::end_child($self->{pid}, 'KILL');
}

sub _serve
{
	my ($listen, $target, $mode_file, $parent) = @_;
	my $select = IO::Select->new($listen);
	my (%peer, %is_client);
	my $drop = sub {
		my ($sock, $rst) = @_;
		for my $end (grep { defined } $sock, delete $peer{$sock})
		{
			delete $peer{$end};
			delete $is_client{$end};
			$select->remove($end);
			setsockopt($end, SOL_SOCKET, SO_LINGER, pack('II', 1, 0)) if $rst;
			close $end;
		}
	};

	while (getppid() == $parent)
	{
		my @ready = $select->can_read(0.02);
		my $mode = slurp_file($mode_file);

		if ($mode eq 'cut' || $mode eq 'reset')
		{
			for my $sock ($select->handles)
			{
				$drop->($sock, $mode eq 'reset') if $peer{$sock};
			}
		}
		for my $sock (@ready)
		{
			if ($sock == $listen)
			{
				my $client = $listen->accept or next;
				my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $target);
				if (!$server || $mode eq 'cut' || $mode eq 'reset')
				{
					$is_client{$client} = 1;
					$drop->($client, $mode ne 'cut');
					next;
				}
				($peer{$client}, $peer{$server}, $is_client{$client}) = ($server, $client, 1);
				$select->add($client, $server);
				next;
			}
			next unless $peer{$sock};
			if ($mode eq 'stall')
			{
				Time::HiRes::sleep(0.02);	# leave the bytes where they are
				next;
			}
			my $reply = !$is_client{$sock};
			my $got = sysread($sock, my $bytes, $reply && $mode eq 'trickle' ? 1 : 65536);
			if (!$got) { $drop->($sock, 0); next; }
			if ($reply && $mode eq 'lose_reply') { $drop->($sock, 1); next; }
			_write_all($peer{$sock}, $bytes) or $drop->($sock, 0);
			Time::HiRes::sleep(0.1) if $reply && $mode eq 'trickle';
		}
	}
	POSIX::_exit(0);
}

sub _write_all
{
	my ($sock, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		my $put = syswrite($sock, $bytes) or return 0;
		substr($bytes, 0, $put) = '';
	}
	return 1;
}

1;
