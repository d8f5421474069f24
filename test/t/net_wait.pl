# What a stalled remote must not hold up: DROP DATABASE, pg_terminate_backend, cancel, a clean end. What
# the client owns is given back: descriptors, connections. Its threads take no signals.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/../net-peer";

use AnglesTest;
use IO::Socket::INET;
use NetPeer;
use Test::More;

my $peer = start_peer();
my $node = net_cluster('wait', $peer, 'angles.http_timeout' => '60s', 'angles.http_connect_timeout' => '2s');

# Starts a request in a session of its own and returns (session, pid) once it waits.
sub stalled
{
	my ($path, $server) = @_;
	my $url = $peer->url($path, $server);
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $before = $peer->seen->{counts}{"POST $path"} // 0;

	$session->{stdin} .= "SELECT * FROM nettest.request('POST', '$url', body => '{}');\n";
	$session->{run}->pump_nb;
	my $pid = wait_for(
		sub {
			$session->{run}->pump_nb;
			($peer->seen->{counts}{"POST $path"} // 0) > $before
			  && $node->sql("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Extension'
				AND query LIKE '%nettest.request%' AND state = 'active' AND pid <> pg_backend_pid()");
		},
		"a request to $path waits");
	return ($session, $pid);
}

for my $case ([ '/blackhole', 'plain' ], [ '/blackhole', 'good' ], [ '/loris-headers', 'plain' ])
{
	my ($path, $server) = @$case;
	my ($session, $pid) = stalled($path, $server);

	$node->sql('CREATE DATABASE other');
	my $start = now_ms();
	$node->sql('DROP DATABASE other');
	my $ms = now_ms() - $start;
	cmp_ok($ms, '<', 500 * slow_factor(), sprintf('%s %s: DROP DATABASE takes %.0f ms', $server, $path, $ms));
	ok($node->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'active'"),
		'and the request still waits');

	$start = now_ms();
	$node->sql("SELECT pg_terminate_backend($pid)");
	wait_for(sub { $node->sql("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") eq 't' },
		'the waiting process ends');
	$ms = now_ms() - $start;
	cmp_ok($ms, '<', 500 * slow_factor(), sprintf('pg_terminate_backend: gone after %.0f ms', $ms));
	eval { $session->{run}->kill_kill; };
}

# A listener whose queue is full: the system drops further attempts to connect, as a firewall would.
my $deaf = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "no socket: $!";
my @fill = map {
	IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $deaf->sockport, Proto => 'tcp',
		Blocking => 0)
} 1 .. 4;
my $got = ask($node, 'POST', 'http://127.0.0.1:' . $deaf->sockport . '/', body => '{}');
is($got->{result}, 'NOT_SENT', 'a connection that does not come about: not sent');
like($got->{problem}, qr/timeout|timed out/i, 'in time');
cmp_ok($got->{us}, '<', 3_000_000 * slow_factor(), 'as the setting says');

subtest 'nothing is left behind' => sub {
	my $good = $peer->url('/ok', 'good');
	my $hole = $peer->url('/blackhole');
	my $work = "SELECT result FROM nettest.request('POST', '$good', body => '{}', n => 10, width => 5);"
	  . "SELECT count(nettest.leak('$hole')) > 0 FROM generate_series(1, 50);";
	# the first round opens what the session and libraries keep
	my @counts = grep { /^\d+$/ } split(/\n/,
		$node->sql($work . 'SELECT nettest.count_fds(false);' . $work . 'SELECT nettest.count_fds(false);'));
	is($counts[1], $counts[0], "$counts[0] descriptors before and after 51 clients");
	my ($before, $after) = split(/\n/, $node->sql(<<"SQL"));
SELECT nettest.count_fds(true);
SELECT nettest.count_fds(true) FROM nettest.request('GET', '$good', keep => true);
SQL
	cmp_ok($after - $before, '<=', 2, 'at most libcurl\'s own pair would be inherited by exec');

	my $errors = join(';', map { "SELECT nettest.request('GET', 'http://example.com/')" } 1 .. 20);
	my (undef, $out, $err) = $node->psql('postgres', "SELECT nettest.count_fds(false);$errors;"
		. 'SELECT nettest.count_fds(false);', on_error_stop => 0, extra_params => [ '-At' ]);
	my ($first, $last) = $out =~ /(\d+)/g;
	is($last, $first, 'nor by errors');
};

subtest 'descriptors are asked for' => sub {
	my $ok = $peer->url('/ok');
	$node->fails_with("SELECT nettest.request('GET', '$ok', width => 100000)", '53000',
		qr/file descriptors/, 'too many connections are refused');
	is($node->sql("SELECT result FROM nettest.request('GET', '$ok', width => 20)"), 'ANSWERED',
		'and what was asked for is given back');
};

# the resolver is a thread; the name cannot exist (RFC 2606)
my ($threads, $open) = split(/ /,
	$node->sql("SELECT nettest.threads_block_signals('https://no-such-host.invalid/')"));
cmp_ok($threads, '>=', 1, 'names are resolved in threads');
is($open, 0, 'which take none of our signals');

done_testing();
