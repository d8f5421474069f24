# The HTTP client against a remote that misbehaves: every outcome is classified (H3), no token follows
# a redirect (H6), nothing but a GET is sent twice, and what cannot be sent is refused.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/../net-peer";

use AnglesTest;
use NetPeer;
use Test::More;

my $peer = start_peer();
my $node = net_cluster('http', $peer);

sub post
{
	my ($path, $server, %opt) = @_;
	return ask($node, 'POST', $peer->url($path, $server), token => 'ntn_topsecret', body => '{"x":"é"}',
		%opt);
}

# path, result, status, further columns
my @cases = (
	[ '/ok', 'ANSWERED', 200, answer => qr/"nth":1,"body":"\{\\"x\\":\\"é\\"\}"/, is_json => 't', problem => qr/^$/ ],
	[ '/html', 'ANSWERED', 502, is_json => 'f', answer => qr/^<html>/ ],
	[ '/chunked', 'ANSWERED', 200, answer => qr/^\{"c":1\}/ ],
	[ '/gzip', 'ANSWERED', 200, answer => qr/^\{"zipped":true\}$/ ],
	[ '/large', 'ANSWERED', 200, answer => qr/^"x{61440}"$/ ],
	[ '/refuse-body', 'ANSWERED', 413 ],
	[ '/continue', 'ANSWERED', 200, retry_after_s => qr/^-1$/ ],
	[ '/status?code=204', 'ANSWERED', 204, answer => qr/^/ ],
	[ '/status?code=429&after=7', 'ANSWERED', 429, retry_after_s => qr/^7$/ ],
	[ '/status?code=429&after=0', 'ANSWERED', 429, retry_after_s => qr/^0$/ ],
	[ '/status?code=503&after=1.5', 'ANSWERED', 503, retry_after_s => qr/^2$/ ],
	[ '/status?code=503&after=soon', 'ANSWERED', 503, retry_after_s => qr/^-1$/ ],
	[ '/status?code=529&after=99999999999999999999', 'ANSWERED', 529, retry_after_s => qr/^86400$/ ],
	[ '/status?code=503&after=Sun,%2001%20Nov%202020%2010:00:00%20GMT', 'ANSWERED', 503, retry_after_s => qr/^0$/ ],
	[ '/ids', 'ANSWERED', 200, request_id => qr/^id-\?+-1$/, server_date => qr/^2026-11-01 10:09:12/ ],
	[ '/blackhole', 'UNKNOWN', 0, problem => qr/timed out/i ],
	[ '/loris', 'UNKNOWN', 200, problem => qr/too slow/, answer => qr/^$/ ],
	[ '/loris-headers', 'UNKNOWN', 200, problem => qr/too slow/ ],
	[ '/half', 'UNKNOWN', 200, problem => qr/closed with 992 bytes remaining/, answer => qr/^$/ ],
	[ '/half-chunk', 'UNKNOWN', 200, problem => qr/outstanding read data/, answer => qr/^$/ ],
	[ '/half-headers', 'UNKNOWN', 200, problem => qr/within the headers/ ],
	[ '/empty', 'UNKNOWN', 0, problem => qr/Empty reply/ ],
	[ '/reset', 'UNKNOWN', 0, problem => qr/reset by peer/ ],
	[ '/reset-early', 'UNKNOWN', 0, problem => qr/reset by peer|Broken pipe/ ],
	[ '/garbage', 'UNKNOWN', 0 ],
	[ '/huge', 'UNKNOWN', 200, too_large => 't', problem => qr/http_max_response/ ],
	[ '/gzip-bomb', 'UNKNOWN', 200, too_large => 't' ],
	[ '/gzip-bad', 'UNKNOWN', 200, answer => qr/^$/ ],
	[ '/huge-headers', 'UNKNOWN', 200 ]);
for my $case (@cases)
{
	my ($path, $result, $status, %more) = @$case;
	my $got = post($path);
	my @wrong = grep { $got->{$_} !~ $more{$_} } keys %more;
	my $name = "$path: $result $status";

	ok($got->{result} eq $result && $got->{status} == $status && !@wrong, $name)
	  or diag(explain($got));
	unlike($got->{problem}, qr/topsecret|\/status/, "$path: no token or path in the problem")
	  if $result ne 'ANSWERED';
}

# nothing was sent
for my $case ([ 'closed', qr/refused/i ])
{
	my ($server, $problem) = @$case;
	my $got = post('/ok', $server);
	is($got->{result}, 'NOT_SENT', "$server: not sent");
	like($got->{problem}, $problem, "$server: the reason is told");
	cmp_ok($got->{status}, '==', 0, "$server: no status");
}
# connected, then reset before anything was read: the system may take bytes that nobody reads
isnt(post('/ok', 'reset')->{result}, 'ANSWERED', 'a reset on accept is no answer');
is(ask($node, 'GET', 'https://no-such-host.invalid/')->{result}, 'NOT_SENT', 'unknown host: not sent');

subtest 'a redirect is an answer, and the other host never hears of it (H6)' => sub {
	for my $path ('/redirect', '/redirect-307')
	{
		is(post($path)->{status} =~ /^30[27]$/ ? 'yes' : 'no', 'yes', "$path is handed over");
	}
	my $seen = $peer->seen;
	is($seen->{connections}{other}, 0, 'nobody connected to the other host');
	ok($seen->{tokens}{plain} > 0, 'tokens were sent to the first one');
	ok(!exists $seen->{tokens}{other}, 'none to the other one');
};

subtest 'a POST is never sent twice' => sub {
	for my $path ('/die-on-reuse', '/end-on-reuse')
	{
		for my $method ('POST', 'PATCH', 'PUT', 'DELETE')
		{
			my $body = $method eq 'DELETE' ? undef : '{}';
			my $before = $peer->seen->{counts}{"$method $path"} // 0;
			my @got = ask_rows($node, NetPeer::request_sql($method, $peer->url($path), body => $body,
				n => 3, keep => 1));
			is(join(' ', map { $_->{result} } @got), 'ANSWERED UNKNOWN ANSWERED',
				"$method $path: the one whose connection died is in doubt");
			is($peer->seen->{counts}{"$method $path"} - $before, 3, 'and arrived once');
		}
		my @got = ask_rows($node, NetPeer::request_sql('GET', $peer->url($path), n => 2, keep => 1));
		is(join(' ', map { $_->{result} } @got), 'ANSWERED ANSWERED', 'a GET is repeated by itself');
		is($peer->seen->{counts}{"GET $path"}, 3, 'so it arrived once more');
	}
	my $bodyless = ask_rows($node, NetPeer::request_sql('POST', $peer->url('/die-on-reuse'), n => 2,
		keep => 1));
	my @got = ask_rows($node, NetPeer::request_sql('POST', $peer->url('/end-on-reuse'), n => 2, keep => 1));
	is($got[1]{result}, 'UNKNOWN', 'a POST without a body neither');
};

subtest 'a connection that the server closed while it was idle costs nothing' => sub {
	my $one = NetPeer::request_sql('POST', $peer->url('/close-after'), body => '{}', keep => 1);
	my @got = ask_rows($node, join("\n", ($one, 'DO $$BEGIN PERFORM pg_sleep(0.2); END$$;') x 4));
	is(join(' ', map { $_->{result} } @got), join(' ', ('ANSWERED') x 4), 'four POSTs are answered');
	is($peer->seen->{counts}{'POST /close-after'}, 4, 'and arrived once each');
};

subtest 'what a request carries' => sub {
	my $got = ask($node, 'POST', $peer->url('/headers'), token => 'ntn_x', body => '{}',
		headers => q{ARRAY['Notion-Version: 2026-03-11', 'Content-Type: application/json']});
	my @head = split(/\\r\\n|","/, $got->{answer});
	my $head = join("\n", @head);
	like($head, qr/^Authorization: Bearer ntn_x$/m, 'the token');
	like($head, qr/^User-Agent: angles\/\d+\.\d+/m, 'who we are');
	like($head, qr/^Notion-Version: 2026-03-11$/m, 'headers of the caller');
	like($head, qr/^Content-Type: application\/json$/m, 'its content type');
	unlike($head, qr/^Expect:/mi, 'no Expect');
	$got = ask($node, 'GET', $peer->url('/headers'), token => 'ntn_x');
	unlike($got->{answer}, qr/Content-(Type|Length)/i, 'a GET has no content');
	$got = ask($node, 'GET', $peer->url('/headers'));
	unlike($got->{answer}, qr/Authorization/i, 'no token, no header');
	my @got = ask_rows($node,
		NetPeer::request_sql('POST', $peer->url('/headers'), token => 'ntn_first', keep => 1,
			body => 'first body', headers => q{ARRAY['X-First: 1']})
		  . NetPeer::request_sql('GET', $peer->url('/headers'), keep => 1));
	unlike($got[1]{answer}, qr/ntn_first|X-First|POST|Content/,
		'a reused handle carries nothing of the request before');
};

subtest 'refused before anything is sent' => sub {
	my $before = $peer->seen->{connections}{plain};
	my $ok = $peer->url('/ok');
	my @refused = (
		[ 'http://example.com/', qr/loopback/ ],
		[ 'http://127.0.0.1.example.com/', qr/loopback/ ],
		[ 'http://localhost.example.com/', qr/loopback/ ],
		[ 'http://[::2]/', qr/loopback/ ],
		[ 'http://0.0.0.0:80/', qr/loopback/ ],
		[ 'http://me:secret@127.0.0.1/', qr/user name/ ],
		[ 'ftp://127.0.0.1/', qr/https/ ],
		[ 'file:///etc/passwd', qr/https/ ],
		[ '/v1/pages', qr/https/ ],
		[ 'http://127.0.0.1:1/a b', qr/percent-encoded/ ],
		[ 'http://127.0.0.1:99999/', qr/malformed/ ]);
	for my $case (@refused)
	{
		$node->fails_with(NetPeer::request_sql('GET', $case->[0], token => 't'), 'NG007', $case->[1],
			"refused: $case->[0]");
	}
	$node->fails_with("SELECT nettest.request('GET', '$ok', E't\\r\\nHost: evil')", 'NG007', qr/token/,
		'a token with a line break');
	$node->fails_with("SELECT nettest.request('GET', '$ok', '')", 'NG007', qr/token/, 'an empty token');
	$node->fails_with("SELECT nettest.request('GET', '$ok', NULL, ARRAY[E'X: 1\\nY: 2'])", 'NG007',
		qr/header/, 'a header with a line break');
	$node->fails_with("SELECT nettest.request('TRACE', '$ok')", 'NG007', qr/method/, 'another method');
	is($peer->seen->{connections}{plain}, $before + 1, 'and nobody connected, but for the question');
};

subtest 'many at once, over few connections' => sub {
	my $before = $peer->seen->{connections}{plain};
	my @got = ask_rows($node, NetPeer::request_sql('POST', $peer->url('/slow?ms=20'), body => '{}',
		n => 200, width => 8));
	is(scalar(grep { $_->{result} eq 'ANSWERED' } @got), 200, '200 answers');
	is($peer->seen->{counts}{'POST /slow'}, 200, '200 arrived');
	cmp_ok($peer->seen->{connections}{plain} - $before, '<=', 8 + 2, 'over 8 connections');
};

subtest 'a body from a source' => sub {
	my $upload = sub {
		my ($url, $more) = @_;
		return $node->sql(sprintf('SELECT nettest.upload(%s%s)', NetPeer::quoted($url), $more ? ", $more" : ''));
	};
	like($upload->($peer->url('/ok'), 'length => 50000'), qr/^0 200 50000 .*x{50000}/, 'arrives whole');
	like($upload->($peer->url('/ok', 'good'), 'length => 300000'), qr/^0 200 300000 .*"version":"1\.1","length":300000/, 'over TLS, HTTP/1.1');
	like($upload->($peer->url('/headers'), "token => 'tok', username => 'me'"), qr/Authorization: Basic bWU6dG9r"/, 'a password');
	like($upload->($peer->url('/headers')), qr/^(?!.*Accept-Encoding)/i, 'answers as they are');
	like($upload->($peer->url('/redirect')), qr{^0 302 \d+ http://127\.0\.0\.1:\d+/stolen\|}, 'the new address is told, and not followed');
	like($upload->($peer->url('/ok'), 'length => 500000, fails_at => 100000'), qr/^2 0 .*body of the request could not be read/, 'one that fails');
	like($upload->($peer->url('/ok'), 'length => 500000, ends_at => 100000'), qr/^2 0 .*body of the request could not be read/, 'one that ends too early');
	like($upload->($peer->url('/blackhole'), 'timeout_ms => 300'), qr/^2 0 .*timed out/i, 'its own time limit');
	like($upload->($peer->url('/ok', 'closed')), qr/^1 0 0 /, 'nobody listens');
	for my $user ("a:b", "a\nb")
	{
		$node->fails_with(sprintf('SELECT nettest.upload(%s, %s, %s)', map { NetPeer::quoted($_) } $peer->url('/ok'), 'tok', $user),
			'NG007', qr/its user/, 'a user name that would forge a header');
	}
};

done_testing();
