# AnglesTest.pm
#	What the TAP tests of angles share: a server with angles preloaded, the Notion simulator, waits
#	for conditions, and ways to hurt workers. Everything started here ends with the test, by pid.
#
#	use AnglesTest;
#	my $sim  = start_simulator();
#	my $node = new_cluster('main', sim => $sim);
#	$node->sql('CREATE TABLE ...');
#	wait_for(sub { $sim->ledger == 1 }, 'one request arrives');
package AnglesTest;

use strict;
use warnings;

use Exporter 'import';
use POSIX ();
use Test::More;
use Time::HiRes ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest::Cluster;
use AnglesTest::Proxy;
use AnglesTest::Simulator;

our @EXPORT = qw(new_cluster start_simulator start_proxy wait_for now_ms slow_factor soak);

# Returns a running server with angles preloaded and the extension in database postgres.
#	sim => $sim        angles talks to this simulator (else to a closed port of loopback)
#	preload => '...'   shared_preload_libraries; default 'pg_cron,angles', '' for none
#	conf => {...}      further settings; they win
#	init => {...}      for PostgreSQL::Test::Cluster->init (allows_streaming => 1, ...)
#	start => 0, create => 0    leave out the start, the CREATE EXTENSION
sub new_cluster
{
	my ($name, %opt) = @_;
	my $node = AnglesTest::Cluster->new($name);

	$node->init(%{ $opt{init} // {} });
	$node->angles_configure(%opt);
	return $node if defined $opt{start} && !$opt{start};
	$node->start;
	$node->sql('CREATE EXTENSION angles') unless defined $opt{create} && !$opt{create};
	return $node;
}

# Returns a running Notion simulator; see AnglesTest::Simulator for options and methods.
sub start_simulator
{
	return AnglesTest::Simulator->start(@_);
}

# Returns a running TCP proxy in front of a port of loopback; see AnglesTest::Proxy.
sub start_proxy
{
	return AnglesTest::Proxy->start(@_);
}

# Returns the first true value that the sub gives within the time (default 30 s, times
# slow_factor()), asked every 20 ms. Otherwise one failing test named after the description, with
# what the sub last gave, and the value that it gave (false).
sub wait_for
{
	my ($sub, $description, $timeout) = @_;
	my $end = now_ms() + 1000 * ($timeout // 30) * slow_factor();
	my ($value, $problem);

	for (;;)
	{
		$value = eval { $sub->() };
		$problem = $@;
		return $value if !$problem && $value;
		last if now_ms() > $end;
		Time::HiRes::sleep(0.02);
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	fail("in time: $description");
	diag($problem ? "the question died: $problem" : 'last answer: ' . ($value // 'undef'));
	return $value;
}

# Returns milliseconds of a clock that never goes back.
sub now_ms
{
	return 1000 * Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC());
}

# Returns how much slower than usual the server is here (valgrind: 20); for upper bounds in time.
sub slow_factor
{
	return $ENV{ANGLES_SLOW_FACTOR} || 1;
}

# Returns the first number in a make check, the second in a make soak: soak(20, 200) kill points.
sub soak
{
	my ($check, $soak) = @_;
	return $ENV{ANGLES_SOAK} ? $soak : $check;
}

# Children that must not outlive the test: {pid => true}. A crash of the test leaves the pid in a
# file of $ANGLES_PID_DIR, where the runner finds it.
my %children;
my $owner = $$;

# Starts a program and returns its pid; output goes to the log file. It dies with the test.
sub spawn
{
	my ($log, @command) = @_;
	# our handlers are not the child's, not even until it has become the program
	local $SIG{TERM} = 'DEFAULT';
	local $SIG{INT} = 'DEFAULT';
	my $pid = fork // die "could not fork: $!";

	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null') or POSIX::_exit(126);
		open(STDOUT, '>>', $log) or POSIX::_exit(126);
		open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
		# prove waits for every holder of the pipe it reads; keep none of the test's files open
		POSIX::close($_) for 3 .. 63;
		{ no warnings 'exec'; exec @command; }
		POSIX::_exit(127);
	}
	return adopt_child($pid, "@command");
}

# Makes a child of this test one that ends with it. Returns its pid.
sub adopt_child
{
	my ($pid, $words) = @_;

	$children{$pid} = 1;
	if (my $dir = $ENV{ANGLES_PID_DIR})
	{
		open(my $fh, '>', "$dir/$pid") or die "could not write $dir/$pid: $!";
		print $fh "$words\n";
		close $fh;
	}
	return $pid;
}

# Ends a program started by spawn() and waits for its end. Returns its wait status.
sub end_child
{
	my ($pid, $signal) = @_;
	return unless $children{$pid};
	my $end = now_ms() + 5000;
	my $status;

	kill($signal // 'TERM', $pid);
	# another number than 0: it has ended, here or (-1) in an earlier look
	while (waitpid($pid, POSIX::WNOHANG()) == 0)
	{
		kill('KILL', $pid) if now_ms() > $end;
		Time::HiRes::sleep(0.01);
	}
	$status = $?;
	forget_child($pid);
	return $status;
}

sub forget_child
{
	my ($pid) = @_;

	delete $children{$pid};
	unlink "$ENV{ANGLES_PID_DIR}/$pid" if $ENV{ANGLES_PID_DIR};
}

# Returns true while a program started by spawn() lives.
sub child_alive
{
	my ($pid) = @_;
	return 0 unless $children{$pid};
	return 1 if waitpid($pid, POSIX::WNOHANG()) == 0;
	forget_child($pid);
	return 0;
}

# A test that is ended by a signal cleans up as any other.
$SIG{TERM} = $SIG{INT} = sub { die "ended by SIG$_[0]\n" };

# Servers go first, while their remote still answers; PostgreSQL::Test::Cluster's own END runs after.
END
{
	my $status = $?;
	if ($$ == $owner)
	{
		$_->angles_teardown for AnglesTest::Cluster->all;
		end_child($_) for keys %children;
	}
	$? = $status;
}

1;
