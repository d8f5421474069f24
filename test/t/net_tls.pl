# TLS, HTTP/2 and the proxy: who is not who he says gets nothing, all requests share one connection,
# a waiting client does not spin, and what a stream's end means for a POST.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/../net-peer";

use AnglesTest;
use NetPeer;
use Test::More;

my $peer = start_peer();
my $node = net_cluster('tls', $peer);

sub post
{
	my ($path, $server, $host) = @_;
	return ask($node, 'POST', $peer->url($path, $server, $host), token => 'ntn_topsecret', body => '{}');
}

sub results
{
	return join(' ', map { $_->{result} } @_);
}

subtest 'certificates' => sub {
	my $got = post('/ok', 'good');
	is($got->{result}, 'ANSWERED', 'a good one') or diag(explain($got));
	like($got->{answer}, qr/"version":"2\.0"/, 'HTTP/2');
	for my $case ([ 'expired', qr/expired/ ], [ 'wronghost', qr/name|subject/ ],
		[ 'selfsigned', qr/self.signed/ ])
	{
		my ($server, $problem) = @$case;
		my $bad = post('/ok', $server);
		is($bad->{result}, 'NOT_SENT', "$server: not sent");
		like($bad->{problem}, $problem, "$server: the reason is told");
		ok(!$peer->seen->{tokens}{$server}, "$server: no token left");
	}
	(my $plain = $peer->url('/ok')) =~ s/^http/https/;
	is(ask($node, 'POST', $plain, body => '{}')->{result}, 'NOT_SENT', 'no TLS on the other side');
	$node->configure('angles.http_ca_file' => '');
	is(post('/ok', 'good')->{result}, 'NOT_SENT', "an authority the system's store does not know");
	$node->configure('angles.http_ca_file' => '/nowhere/ca.crt');
	is(post('/ok', 'good')->{result}, 'NOT_SENT', 'a file of authorities that is not there');
	$node->configure('angles.http_ca_file' => "$peer->{certs}/ca.crt");
};

subtest 'HTTP/2' => sub {
	my $before = $peer->seen->{connections}{tls};
	my @got = ask_rows($node, NetPeer::request_sql('POST', $peer->url('/many', 'good'),
		body => 'x' x 50_000, n => 300, width => 20));
	is(scalar(grep { $_->{result} eq 'ANSWERED' && $_->{answer} =~ /"length":50000/ } @got), 300,
		'300 answers to whole requests');
	is($peer->seen->{connections}{tls} - $before, 1, 'over one connection');

	for my $path ('/break-stream', '/http11', '/refuse-stream')
	{
		@got = ask_rows($node, NetPeer::request_sql('POST', $peer->url($path, 'good'), body => '{}',
			n => 2, keep => 1));
		is($got[1]{result}, 'UNKNOWN', "$path: in doubt") or diag(explain(\@got));
		is($peer->seen->{counts}{"POST $path"}, 2, "$path: not sent again");
	}
	@got = ask_rows($node, NetPeer::request_sql('POST', $peer->url('/goaway', 'good'), body => '{}',
		n => 5, keep => 1));
	is(results(@got), join(' ', ('ANSWERED') x 5), 'a server that says goodbye after each answer');
	is($peer->seen->{counts}{'POST /goaway'}, 5, 'gets each request once');
	@got = ask_rows($node, NetPeer::request_sql('POST', $peer->url('/die-on-reuse', 'good'), body => '{}',
		n => 2, keep => 1));
	is(results(@got), 'ANSWERED UNKNOWN', 'a connection that dies');
	is($peer->seen->{counts}{'POST /die-on-reuse'}, 2, 'gets each request once');
};

subtest 'waiting costs no processor time' => sub {
	for my $server ('plain', 'good', 'tls11', 'noalpn')
	{
		my $url = $peer->url('/blackhole', $server);
		my $out = $node->sql(<<"SQL");
SELECT nettest.cpu_ms() AS before \\gset
SELECT result FROM nettest.request('POST', '$url', body => '{}', n => 4, width => 4);
SELECT nettest.cpu_ms() - :before;
SQL
		my @lines = split(/\n/, $out);
		my $ms = pop @lines;
		is("@lines", join(' ', ('UNKNOWN') x 4), "$server: stalled requests end");
		cmp_ok($ms, '<', 150 * slow_factor(), "$server: $ms ms in 3 s");
	}
};

subtest 'a proxy' => sub {
	my $proxy = "http://127.0.0.1:$peer->{ports}{proxy}";
	$node->configure('angles.http_proxy' => $proxy);
	my $got = post('/proxied', 'good', 'good.test');
	is($got->{result}, 'ANSWERED', 'a request goes through it') or diag(explain($got));
	is($got->{retry_after_s}, -1, "its own headers are not the remote's");
	is($peer->seen->{connections}{proxy}, 1, 'it was used');
	ok(!$peer->seen->{tokens}{proxy}, 'it saw no token');
	for my $host ('never.test', 'bad.test')
	{
		my $refused = post('/proxied', 'good', $host);
		is($refused->{result}, 'NOT_SENT', "it refuses $host: not sent");
		is($refused->{status}, 0, 'its status is not an answer');
		is($refused->{retry_after_s}, -1, 'nor are its headers');
	}
	is(post('/ok', 'plain')->{result}, 'ANSWERED', 'loopback needs no proxy');
	is($peer->seen->{connections}{proxy}, 3, 'and did not go through it');
	$node->configure('angles.http_proxy' => "http://127.0.0.1:$peer->{ports}{closed}");
	is(post('/proxied', 'good', 'good.test')->{result}, 'NOT_SENT', 'no proxy there: not sent');
	$node->configure('angles.http_proxy' => '');
	is($peer->seen->{counts}{'POST /proxied'}, 1, 'only one arrived at all');
};

done_testing();
