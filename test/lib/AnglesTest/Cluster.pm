# AnglesTest/Cluster.pm
#	A PostgreSQL::Test::Cluster with angles in it. Made by AnglesTest::new_cluster().
package AnglesTest::Cluster;

use strict;
use warnings;

use Test::More;
use Time::HiRes ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @ISA = ('PostgreSQL::Test::Cluster');

my @all;

# Returns the nodes of this test.
sub all
{
	return @all;
}

# Writes the settings of a server that has angles. Called by new_cluster(); see there.
sub angles_configure
{
	my ($self, %opt) = @_;
	my $preload = $opt{preload} // 'pg_cron,angles';
	my %conf = (
		'shared_preload_libraries' => $preload,
		# the death of a worker must be survived, not end the test
		'restart_after_crash' => 'on',
		'max_prepared_transactions' => 10,
		'max_worker_processes' => 24,
		'angles.notion_url' => $opt{sim} ? $opt{sim}->url : 'http://127.0.0.1:9',
		'angles.notion_token' => $opt{sim} ? $opt{sim}->token : 'ntn_test',
		'angles.notion_rate_limit' => 0,
		# the simulator's queries show what was written at once
		'angles.notion_query_lag' => 0,
		'angles.retry_initial' => '50ms',
		'angles.retry_cap' => '1s',
		($opt{sim} ? ('angles.notion_parent' => $opt{sim}->parent) : ()));

	if ($preload =~ /pg_cron/)
	{
		$conf{'cron.database_name'} = 'postgres';
		$conf{'cron.use_background_workers'} = 'on';
	}
	%conf = (%conf, %{ $opt{conf} // {} });
	$self->append_conf('postgresql.conf',
		join('', map { "$_ = " . _quote($conf{$_}) . "\n" } sort keys %conf));
	push @all, $self unless grep { $_ == $self } @all;
}

sub _quote
{
	my ($value) = @_;
	$value =~ s/'/''/g;
	return "'$value'";
}

# Changes settings of a running server: writes them, reloads, and returns when a session that
# looks has them. Values as in postgresql.conf; undef takes the setting back to its default.
sub configure
{
	my ($self, %conf) = @_;

	for my $name (sort keys %conf)
	{
		# in 15 adjust_conf() changes a line that is there, and adds none
		$self->adjust_conf('postgresql.conf', $name, undef);
		$self->append_conf('postgresql.conf', "$name = " . _quote($conf{$name}))
		  if defined $conf{$name};
	}
	my $before = $self->sql('SELECT pg_conf_load_time()');
	$self->reload;
	AnglesTest::wait_for(sub { $self->sql('SELECT pg_conf_load_time()') ne $before },
		'the settings are reloaded');
}

# Returns the output of a statement in database postgres (or $db); an error ends the test.
sub sql
{
	my ($self, $sql, $db) = @_;
	return $self->safe_psql($db // 'postgres', $sql);
}

# Returns the rows of a query as a list of array references; NULL is undef.
sub rows
{
	my ($self, $sql, $db) = @_;
	my ($null, $separator) = ("\x01", "\x02");
	my $out = $self->safe_psql($db // 'postgres', $sql,
		extra_params => [ '-P', "null=$null", '-F', $separator ]);
	return map { [ map { $_ eq $null ? undef : $_ } split(/$separator/, $_, -1) ] }
	  split(/\n/, $out);
}

# Returns (SQLSTATE, whole message) of a statement that must fail; ('', output) when it does not.
sub sql_error
{
	my ($self, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	my $rc = $self->psql($db // 'postgres', $sql, stdout => \$out, stderr => \$err,
		on_error_stop => 1, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return ('', $out) if $rc == 0;
	my ($state) = $err =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):/;
	return ($state // 'unknown', $err);
}

# Tests that a statement fails with this SQLSTATE and, when given, a message like the pattern.
sub fails_with
{
	my ($self, $sql, $sqlstate, $pattern, $name) = @_;
	my ($state, $message) = $self->sql_error($sql);
	my $good = $state eq $sqlstate && (!defined $pattern || $message =~ $pattern);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($good, $name // "refused with $sqlstate") or diag("SQLSTATE '$state': $message");
}

# Returns the first true answer of a query; 't' counts, 'f', '0' and '' do not. See wait_for().
sub wait_sql
{
	my ($self, $sql, $description, $timeout, $db) = @_;
	return AnglesTest::wait_for(
		sub { my $value = $self->sql($sql, $db); $value ne 'f' ? $value : '' },
		$description, $timeout);
}

# Returns the pids of the workers of a kind (launcher, bridge, sync, apply, job), oldest first; of
# one database when it is given.
sub worker_pids
{
	my ($self, $kind, $db) = @_;
	my $only = defined $db ? 'AND datname = ' . _quote($db) : '';
	return split(/\n/, $self->sql("SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'angles $kind' $only ORDER BY backend_start, pid"));
}

# Returns the pid of the one worker of a kind, waiting until there is one.
sub wait_worker
{
	my ($self, $kind, $db, $timeout) = @_;
	my $pid = AnglesTest::wait_for(sub { ($self->worker_pids($kind, $db))[0] },
		"a worker runs: angles $kind", $timeout);
	return $pid;
}

# Sends a signal to the worker of a kind and returns its pid once it is gone.
sub kill_worker
{
	my ($self, $kind, $signal, $db) = @_;
	my $pid = $self->wait_worker($kind, $db) or return;

	kill($signal, $pid) == 1 or die "could not signal $pid: $!";
	AnglesTest::wait_for(sub { !kill(0, $pid) }, "angles $kind ($pid) is gone after SIG$signal");
	return $pid;
}

# Another one after each crash of a process.
my $checkpointer = "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

# Sets a kill point (src/core/testhook.h): the next process that passes it dies by SIGKILL, once.
sub arm_kill_point
{
	my ($self, $name) = @_;
	$self->configure('angles.test_kill_point' => $name);
	$self->{checkpointer} = $self->sql($checkpointer);
	# workers take the new setting in their next wait; the file is what makes the point strike
	append_to_file($self->data_dir . '/angles_kill_once', '');
}

# Returns true when the armed kill point has struck.
sub kill_point_struck
{
	my ($self) = @_;
	return !-e $self->data_dir . '/angles_kill_once';
}

# Takes a kill point back. Returns true when it had struck.
sub disarm_kill_point
{
	my ($self) = @_;
	my $struck = $self->kill_point_struck;

	unlink $self->data_dir . '/angles_kill_once';
	# a process that was killed may not have been noticed yet: the server restarts in the middle
	AnglesTest::wait_for(
		sub {
			$self->wait_alive;
			eval {
				die "the crash was not noticed yet\n" if $struck && $self->sql($checkpointer) eq $self->{checkpointer};
				$self->configure('angles.test_kill_point' => '');
				1;
			};
		},
		'the kill point is taken back', 60);
	$self->wait_alive;
	return $struck;
}

# Returns when the server answers again, for instance after a crash of a worker.
sub wait_alive
{
	my ($self, $timeout) = @_;
	return AnglesTest::wait_for(
		sub {
			my $out = '';
			return $self->psql('postgres', 'SELECT 1', stdout => \$out, stderr => \my $err) == 0;
		},
		'the server answers', $timeout // 60);
}

# Ends the whole server as a loss of power would (SIGKILL, no checkpoint) and starts it again.
sub crash
{
	my ($self) = @_;
	my $pid = $self->{_pid};
	$self->kill9;
	# children notice the death of the postmaster by themselves; the data directory is theirs till then
	AnglesTest::wait_for(sub { !_in_use($self->data_dir) }, 'no process of the old server is left');
	# the dead postmaster keeps its pid until its foster parent looks, which in a container may be
	# never; the next one takes that pid for a living server
	AnglesTest::wait_for(sub { !kill(0, $pid) || _is_zombie($pid) }, 'the postmaster is dead');
	unlink $self->data_dir . '/postmaster.pid',
	  $self->host . '/.s.PGSQL.' . $self->port . '.lock';
	$self->start;
	return $pid;
}

sub _is_zombie
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/stat") or return 0;
	return <$fh> =~ /\) Z /;
}

# Returns true while a process has the data directory as its working directory.
sub _in_use
{
	my ($dir) = @_;
	my $inode = join(':', (stat $dir)[ 0, 1 ]);
	for my $cwd (glob '/proc/[0-9]*/cwd')
	{
		my @st = stat $cwd or next;
		return 1 if join(':', @st[ 0, 1 ]) eq $inode;
	}
	return 0;
}

# Returns the server's log from an offset on (see log_offset).
sub log_from
{
	my ($self, $offset) = @_;
	return slurp_file($self->logfile, $offset // 0);
}

# Returns the present size of the server's log.
sub log_offset
{
	my ($self) = @_;
	return -s $self->logfile;
}

# Ends the server for good, quickly; part of the END of every test.
sub angles_teardown
{
	my ($self) = @_;
	return unless defined $self->{_pid};
	$self->stop('immediate', fail_ok => 1);
}

1;
