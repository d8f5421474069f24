# GitTest.pm
#	Asks room git for work in a session of the server, and stock git for a second opinion.
package GitTest;

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();
use Test::More;

use AnglesTest;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(git_cluster git git_lines fsck_ok quoted text_array bytea_array commit_sql push_row);

my $dir = Cwd::abs_path(File::Basename::dirname(__FILE__));
my @push_columns = qw(code sent reconciled retry http_status retry_after_s ref remote_id message
  server_text hint moved_to paths size);

# Returns a running server with the test functions of room git.
sub git_cluster
{
	my ($name, %conf) = @_;
	# stock git is an oracle here: it must look at the repository, and at no settings of this machine
	$ENV{GIT_CONFIG_NOSYSTEM} = 1;
	$ENV{GIT_CONFIG_GLOBAL} = '/dev/null';
	$ENV{GIT_TERMINAL_PROMPT} = 0;
	my $node = new_cluster($name, preload => 'angles', create => 0,
		conf => { 'angles.http_connect_timeout' => '2s', %conf });
	$node->sql(slurp_file("$dir/functions.sql"));
	return $node;
}

# Returns (exit status, output with errors) of stock git.
sub git
{
	my (@command) = @_;
	open(my $pipe, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', 'git', @command)
	  or die "could not run git: $!";
	binmode($pipe);
	my $out = do { local $/; <$pipe> } // '';
	close $pipe;
	return ($? >> 8, $out);
}

# Returns the lines of stock git, which must succeed.
sub git_lines
{
	my ($status, $out) = git(@_);
	die "git @_: $out" if $status;
	return split(/\n/, $out);
}

# Tests that stock git finds nothing to complain about.
sub fsck_ok
{
	my ($repo, $name) = @_;
	my ($status, $out) = git('-C', $repo, 'fsck', '--strict', '--full', '--no-dangling', '--no-progress');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# a branch that HEAD names and that is not there yet is no fault
	$out =~ s/^notice: .*\n//mg;
	ok($status == 0 && $out eq '', $name) or diag("git fsck: $status $out");
}

sub quoted
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	$value =~ s/'/''/g;
	return "'$value'";
}

sub text_array
{
	return 'ARRAY[' . join(', ', map { quoted($_) } @_) . ']::text[]';
}

sub bytea_array
{
	return 'ARRAY[' . join(', ', map { bytea($_) } @_) . ']::bytea[]';
}

my $n_files = 0;

# Long values go through a file: a statement of megabytes is slow to read and to log.
sub bytea
{
	my ($value) = @_;
	return q('\x) . unpack('H*', $value) . q(') if length($value) < 1000;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/value' . $n_files++;
	open(my $fh, '>:raw', $file) or die "could not write $file: $!";
	print $fh $value;
	close $fh;
	return "pg_read_binary_file('$file')";
}

# Returns a SELECT that commits {path => content}; options: parent, level, message, at.
sub commit_sql
{
	my ($repo, $ref, $files, %opt) = @_;
	my @names = sort keys %$files;
	return sprintf('SELECT gittest.commit(%s, %s, %s, %s, parent => %s, level => %d, message => %s, at => %d)',
		quoted($repo), quoted($ref), text_array(@names), bytea_array(map { $files->{$_} } @names),
		quoted($opt{parent}), $opt{level} // 6, quoted($opt{message} // 'a message'),
		$opt{at} // 1_700_000_000);
}

# Pushes from a session of the server and returns the result as a hash; updates are "NAME NEW
# EXPECTED [rewrite]"; options: secret, idle_ms, total_ms.
sub push_row
{
	my ($node, $repo, $url, $updates, %opt) = @_;
	my $sql = sprintf('SELECT %s FROM gittest.push(%s, %s, %s, %s, %d, %d)',
		join(', ', map { "translate($_\::text, E'\\n', '~')" } @push_columns), quoted($repo), quoted($url),
		text_array(@$updates), quoted($opt{secret}), $opt{idle_ms} // 0, $opt{total_ms} // 0);
	my ($row) = $node->rows($sql);
	my %result;
	@result{@push_columns} = @$row;
	return \%result;
}

1;
