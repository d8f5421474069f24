# AnglesTest/Simulator.pm
#	The Notion simulator (test/notion) as a child of a test, and its control interface.
package AnglesTest::Simulator;

use strict;
use warnings;

use Carp;
use File::Basename;
use HTTP::Tiny;
use JSON::PP;
use Time::HiRes ();

use PostgreSQL::Test::Utils;

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $count = 0;

# Starts a simulator and returns it when it listens.
#	limits => {...}    for /_sim/limits; default: lifted
#	args => [...]      further arguments of server.mjs
sub start
{
	my ($class, %opt) = @_;
	my $testname = basename($0, '.pl');
	my $self = bless {
		name => "${testname}_sim" . ++$count,
		opt => \%opt,
		port => 0,
		token => $opt{token} // 'ntn_test_token',
		http => HTTP::Tiny->new(timeout => 30),
	}, $class;

	$self->_launch;
	$self->limits($opt{limits}) if $opt{limits};
	return $self;
}

sub _launch
{
	my ($self) = @_;
	my $top = $ENV{ANGLES_TOP} || dirname(__FILE__) . '/../../..';
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/$self->{name}";
	my $record_dir = $ENV{ANGLES_RECORD_DIR} || $dir;
	my $port_file = "$dir/port";

	mkdir $dir;
	unlink $port_file;
	$self->{pid} = AnglesTest::spawn("$PostgreSQL::Test::Utils::log_path/$self->{name}.log",
		$ENV{NODE} || 'node', "$top/test/notion/server.mjs",
		'--port', $self->{port}, '--port-file', $port_file,
		'--record', "$record_dir/$self->{name}.$$.jsonl",
		@{ $self->{opt}{args} // [] });
	my $text = AnglesTest::wait_for(
		sub {
			return 'ended' unless AnglesTest::child_alive($self->{pid});
			return -s $port_file && slurp_file($port_file);
		},
		'the simulator listens', 20);
	($self->{port}) = ($text // '') =~ /(\d+)/
	  or croak "the simulator did not start; see $self->{name}.log";
}

# Ends the simulator: its port refuses connections from now on.
sub stop
{
	my ($self, $signal) = @_;
	AnglesTest::end_child($self->{pid}, $signal);
}

# Starts a stopped simulator again on the same port, empty unless it keeps its state on disk.
sub restart
{
	my ($self) = @_;
	$self->_launch;
}

sub port { return $_[0]{port}; }
sub url { return "http://127.0.0.1:$_[0]{port}"; }
sub token { return $_[0]{token}; }

# Returns the id of a page that the simulator shares with every connection, for angles.notion_parent.
sub parent
{
	my ($self) = @_;
	return $self->{opt}{parent} // '00000000-0000-4000-8000-000000000001';
}

# Sends a request and returns the decoded answer; any status but 2xx ends the test.
sub call
{
	my ($self, $method, $path, $body) = @_;
	my $res = $self->http($method, $path, $body);

	croak "$method $path: $res->{status} $res->{content}" unless $res->{success};
	return undef if $res->{content} !~ /\S/;
	return $json->decode($res->{content});
}

# Sends a request with the token and returns HTTP::Tiny's answer as it is.
sub http
{
	my ($self, $method, $path, $body) = @_;
	return $self->{http}->request($method, $self->url . $path, {
		headers => {
			'Content-Type' => 'application/json',
			'Authorization' => "Bearer $self->{token}",
			'Notion-Version' => '2026-03-11',
		},
		(defined $body ? (content => ref $body ? $json->encode($body) : $body) : ()),
	});
}

# Returns the mutations so far, in order, as hashes (seq, t_us, method, path, body, status, ...); in
# scalar context their number. $since is the seq of the last one not wanted.
sub ledger
{
	my ($self, $since) = @_;
	my $entries = $self->_get_lines('/_sim/ledger?since=' . ($since // 0));
	return wantarray ? @$entries : scalar @$entries;
}

# As ledger(), for every request, reads too.
sub requests
{
	my ($self, $since) = @_;
	my $entries = $self->_get_lines('/_sim/requests?since=' . ($since // 0));
	return wantarray ? @$entries : scalar @$entries;
}

sub _get_lines
{
	my ($self, $path) = @_;
	my $res = $self->http('GET', $path);

	croak "GET $path: $res->{status} $res->{content}" unless $res->{success};
	return [ map { $json->decode($_) } grep { /\S/ } split(/\n/, $res->{content}) ];
}

# Adds a fault rule: {method => 'POST', path => '...', nth => 2, status => 429, ...}.
sub faults
{
	my ($self, $rule) = @_;
	return $self->call('POST', '/_sim/faults', $rule);
}

# Takes all fault rules back.
sub clear_faults
{
	my ($self) = @_;
	return $self->call('DELETE', '/_sim/faults');
}

# A person edits in Notion: see test/notion for the kinds.
sub edit
{
	my ($self, $edit) = @_;
	return $self->call('POST', '/_sim/edit', $edit);
}

# Returns everything that the simulator holds.
sub state
{
	my ($self) = @_;
	return $self->call('GET', '/_sim/state');
}

sub reset
{
	my ($self, $how) = @_;
	return $self->call('POST', '/_sim/reset', $how // {});
}

sub limits
{
	my ($self, $limits) = @_;
	return $self->call('POST', '/_sim/limits', $limits);
}

sub clock
{
	my ($self, $clock) = @_;
	return $self->call('POST', '/_sim/clock', $clock);
}

1;
