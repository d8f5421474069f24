# BenchTest.pm
#	What the benchmarks share: a server as it would be installed, the programs beside it, and how a
#	figure is printed. A figure that misses its bar is a failed test.
package BenchTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use IPC::Open2;
use Test::More;
use Time::HiRes ();

use AnglesTest;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(forget arrivals bench_node program figure say_load median quantile cpu_ms anon_kb template_body
	start_times time_sql sleep_s RUNS);

# The issue asks for medians of this many.
use constant RUNS => 5;

# Returns a server with the settings of an installed one, where PostgreSQL::Test would set those of a
# test: real flushes, no log of every statement. More settings as a hash; they win.
sub bench_node
{
	my ($name, $sim, %conf) = @_;
	say_load('load before');
	return new_cluster($name, sim => $sim, conf => {
		fsync => 'on', log_statement => 'none', log_replication_commands => 'off',
		shared_buffers => '256MB', max_connections => 100, max_wal_size => '4GB',
		wal_level => 'replica', max_wal_senders => 10,
		'angles.retry_initial' => '1s', 'angles.retry_cap' => '60s', 'angles.notion_query_lag' => '10s', %conf });
}

# Compiles a program of this folder, once, and returns its path.
sub program
{
	my ($name, @libraries) = @_;
	my $path = "$PostgreSQL::Test::Utils::tmp_check/$name";
	# the copy of PostgreSQL that stands first in PATH has the headers of extensions alone
	my ($include) = grep { -f "$_/libpq-fe.h" } map { `$_/pg_config --includedir` =~ s/\n//r }
	  grep { -x "$_/pg_config" } split /:/, $ENV{PATH};
	die "libpq-fe.h was not found; is libpq-dev installed?" unless defined $include;

	system('cc', '-O2', '-Wall', "-I$include", '-o', $path,
		dirname(__FILE__) . "/$name.c", map { "-l$_" } @libraries) == 0
	  or die "could not compile $name.c";
	return $path;
}

# Prints a figure beside its bar and tests it: figure('what', 'p50 3.1 ms', 'p50 <= 5 ms', $ok).
sub figure
{
	my ($what, $value, $bar, $ok) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	note("FIGURE | $what | $value | $bar | " . ($ok ? 'met' : 'MISSED') . ' |');
	ok($ok, "$what: $value (bar: $bar)");
}

# Prints how busy the machine is: figures of a busy one say little.
sub say_load
{
	my ($when) = @_;
	my ($load) = slurp_file('/proc/loadavg') =~ /^(\S+ \S+)/;
	note("$when: $load");
}

sub median { return quantile(0.5, @_); }

# Returns the value below which a part of the numbers lies.
sub quantile
{
	my ($part, @numbers) = @_;
	die 'no numbers' unless @numbers;
	@numbers = sort { $a <=> $b } @numbers;
	my $at = int($part * @numbers);
	return $numbers[ $at > $#numbers ? $#numbers : $at ];
}

# Returns the milliseconds that a process has been on a processor.
sub cpu_ms
{
	my ($pid) = @_;
	return (split ' ', slurp_file("/proc/$pid/schedstat"))[0] / 1e6;
}

# Returns the kilobytes that are a process's own: heap and stack, no shared buffers, no programs.
sub anon_kb
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb;
}

# Writes the body of a request that angles sent as a template: the number becomes {n}. Returns the
# file's path. So a peer sends the same bytes as angles.
sub template_body
{
	my ($name, $entry, $number) = @_;
	my $path = "$PostgreSQL::Test::Utils::tmp_check/$name.json";
	my $text = JSON::PP->new->utf8->canonical->encode($entry->{body});

	$text =~ s/\b$number\b/{n}/g or die "the request does not carry $number: $text";
	append_to_file($path, $text);
	return $path;
}

# Empties the simulator's ledger and its list of requests: what a figure counts comes after.
sub forget
{
	my ($sim) = @_;
	$sim->call('POST', '/_sim/reset', { only => ['ledger'] });
}

# Returns the requests since forget() in order of arrival: {t_us, method, path, status, write}. Bodies
# are left out, and lines are not parsed as JSON: there are tens of thousands.
sub arrivals
{
	my ($sim) = @_;
	my $answer = $sim->http('GET', '/_sim/requests');
	die "no list of requests: $answer->{status}" unless $answer->{success};
	my @all;
	foreach my $line (split /\n/, $answer->{content})
	{
		my $write = $line =~ /"ledger_seq":\d/ ? 1 : 0;
		$line =~ /^\{"seq":\d+,"t_us":(\d+),"method":"(\w+)","path":"([^"]*)".*?,"status":(\d+),/
		  or die "a line that is not understood: $line";
		push @all, { t_us => $1, method => $2, path => $3, status => $4, write => $write };
	}
	@all = sort { $a->{t_us} <=> $b->{t_us} } @all;
	return @all;
}

# Starts a session in which time_sql() runs statements.
sub start_times
{
	my ($client, $node) = @_;
	my $pid = open2(my $out, my $in, $client, 'times', $node->connstr('postgres'));
	AnglesTest::adopt_child($pid, $client);
	return { in => $in, out => $out, pid => $pid };
}

# Runs a statement so many times, {n} counting from the first number; returns median and mean in
# microseconds.
sub time_sql
{
	my ($session, $count, $first, $sql) = @_;
	print { $session->{in} } "$count $first $sql\n";
	$session->{in}->flush;
	my $line = readline($session->{out}) // die "the session ended at: $sql";
	return split ' ', $line;
}

# Lets time pass where the figure is about time that passes.
sub sleep_s { Time::HiRes::sleep($_[0]); }

1;
