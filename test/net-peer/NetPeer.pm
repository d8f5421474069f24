# NetPeer.pm
#	Starts test/net-peer/peer.js for a test, and asks room net for requests to it.
package NetPeer;

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();
use HTTP::Tiny;
use JSON::PP ();
use Test::More;

use AnglesTest;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(start_peer net_cluster ask ask_rows quoted);

my $dir = Cwd::abs_path(File::Basename::dirname(__FILE__));
my @columns = qw(result status answer too_large is_json retry_after_s server_date request_id problem us);

# Returns a running peer: {certs} is the folder with its certificates, {ports} of its servers.
sub start_peer
{
	my $self = bless { certs => PostgreSQL::Test::Utils::tempdir(), ports => undef }, __PACKAGE__;
	my $log = "$PostgreSQL::Test::Utils::log_path/peer_" . File::Basename::basename($0, ".pl") . ".log";

	system("sh '$dir/certs.sh' '$self->{certs}' > '$log.certs' 2>&1") == 0
	  or BAIL_OUT("no certificates: see $log.certs");
	unlink $log;
	AnglesTest::spawn($log, 'node', "$dir/peer.js", $self->{certs});
	wait_for(
		sub { ($self->{ports}) = map { JSON::PP::decode_json($_) } slurp_file($log) =~ /^(\{.*\})$/m },
		'the peer listens') or BAIL_OUT("no peer: see $log");
	return $self;
}

# Returns the address of a path on one of its servers (default: plain http).
sub url
{
	my ($self, $path, $server, $host) = @_;
	$server //= 'plain';
	my $scheme = $server =~ /^(plain|other|reset|closed)$/ ? 'http' : 'https';
	return sprintf('%s://%s:%d%s', $scheme, $host // '127.0.0.1', $self->{ports}{$server}, $path);
}

# Returns {counts}{'METHOD /path'}, {tokens}{server}, {connections}{server} so far.
sub seen
{
	my ($self) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get($self->url('/_counts'));
	die "the peer does not count: $answer->{status}" unless $answer->{success};
	return JSON::PP::decode_json($answer->{content});
}

# Returns a running server with the test functions of room net, and short time limits.
sub net_cluster
{
	my ($name, $peer, %conf) = @_;
	my $node = new_cluster($name, preload => 'angles', create => 0,
		conf => {
			'angles.http_timeout' => '3s',
			'angles.http_connect_timeout' => '2s',
			'angles.http_max_response' => '64kB',
			($peer ? ('angles.http_ca_file' => "$peer->{certs}/ca.crt") : ()),
			%conf
		});
	$node->sql(slurp_file("$dir/functions.sql"));
	return $node;
}

sub quoted
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	$value =~ s/'/''/g;
	return "'$value'";
}

# Returns the SELECT for a request; options: token, headers (SQL), body, n, width, keep.
sub request_sql
{
	my ($method, $url, %opt) = @_;
	return sprintf(
		'SELECT %s FROM nettest.request(%s, %s, %s, %s, %s, %d, %d, %s);',
		join(', ', @columns), quoted($method), quoted($url), quoted($opt{token}),
		$opt{headers} // 'NULL', quoted($opt{body}), $opt{n} // 1, $opt{width} // 1,
		$opt{keep} ? 'true' : 'false');
}

# Sends a request from a session of the server and returns the answer as a hash.
sub ask
{
	my ($node, @request) = @_;
	return (ask_rows($node, request_sql(@request)))[0];
}

# Runs SQL made of request_sql() in one session and returns the answers as hashes.
sub ask_rows
{
	my ($node, $sql) = @_;
	return map { my %row; @row{@columns} = @$_; \%row } $node->rows($sql);
}

1;
