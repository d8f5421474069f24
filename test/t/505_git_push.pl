# Pushing to a real Git server (git http-backend behind nginx, TLS, a token) and into a folder: nothing
# but a ref that was read back is success; every refusal is recognised; a connection that breaks
# anywhere leaves the remote whole. Numbers are those of the scenarios of the backup.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/../git";

use AnglesTest;
use GitServer;
use GitTest;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'not installed: ' . missing_programs() if missing_programs();

my $server = start_git_server();
my $top = PostgreSQL::Test::Utils::tempdir();
my $secrets = "$top/secrets";
mkdir $secrets or die;
append_to_file("$secrets/git", "$server->{token}\n");
append_to_file("$secrets/wrong", "tok_wrong\n");
my $node = git_cluster('push',
	'angles.http_ca_file' => $server->{ca},
	'angles.secrets_dir' => $secrets,
	'angles.github_token' => $server->{token});
my $zero = '0' x 40;
my $local = "$top/local";
my $main = 'refs/heads/main';

my $first = $node->sql(commit_sql($local, $main, { 'a/b' => "one\n", c => "two\n" }));
my $second = $node->sql(commit_sql($local, $main, { 'a/b' => "one\n", c => "three\n" }, parent => $first));
my $other = $node->sql(commit_sql($local, undef, { 'x' => "foreign\n" }));

# What the server says of a ref, '' when it has none.
sub remote
{
	my ($name, $ref) = @_;
	my ($status, $out) = git('-C', "$server->{top}/$name", 'rev-parse', '-q', '--verify', $ref // $main);
	chomp $out;
	return $status ? '' : $out;
}

# Tests a result: its code, and columns by pattern. No token shows anywhere, and a failure has a hint.
sub is_push
{
	my ($result, $code, $name, %more) = @_;
	my @wrong = grep { ($result->{$_} // '') !~ $more{$_} } sort keys %more;
	my $all = join(' ', map { $_ // '' } values %$result);
	my $shows = $all =~ /tok_|eC1hY2Nlc3MtdG9rZW46/;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($result->{code} eq $code && !@wrong && !$shows && ($code eq 'ok') == ($result->{hint} eq ''), "$name: $code")
	  or diag("wrong: @wrong" . ($shows ? ' and the token shows' : ''), explain($result));
}

sub try_push
{
	my ($url, $updates, %opt) = @_;
	return push_row($node, $opt{repo} // $local, $url, $updates, idle_ms => 20_000, %opt);
}

subtest 'the usual' => sub {
	$server->make('usual.git', 'receive.fsckObjects=true', 'transfer.unpackLimit=1');
	my $url = $server->url('usual.git');
	is_push(try_push($url, [ "$main $first $zero" ]), 'ok', 'the first push', sent => qr/t/, reconciled => qr/f/);
	is(remote('usual.git'), $first, 'the ref is there');
	is_push(try_push($url, [ "$main $second $first" ]), 'ok', 'the second', size => qr/^3 objects/);
	is(remote('usual.git'), $second, 'the ref has moved');
	is_push(try_push($url, [ "$main $second $first" ]), 'ok', 'the same again', sent => qr/f/, reconciled => qr/t/);
	is_push(try_push($url, [ "refs/heads/p $second $zero", "refs/heads/q $first $zero", "$main $second $second" ]),
		'ok', 'two refs more', size => qr/^0 objects/);
	is_push(try_push($url, [ "refs/heads/p $zero $second" ]), 'ok', '34: a ref is deleted', size => qr/^0 objects 0 bytes/);
	is(remote('usual.git', 'refs/heads/p'), '', '34: it is gone');
	my @refs = map { $_->[0] } $node->rows(sprintf('SELECT line FROM gittest.remote_refs(%s)', quoted($url)));
	is_deeply(\@refs, [ "$second $main", "$first refs/heads/q" ], 'all refs are read');
	fsck_ok("$server->{top}/usual.git", 'git fsck is content with the remote');
	is((git('clone', '-q', "$server->{top}/usual.git", "$top/usual"))[0], 0, 'and git clone');
	my $orphan = $node->sql(commit_sql($local, undef, { 'a/b' => "one\n", c => "three\n" }, message => 'period'));
	my $result = try_push($url, [ "refs/heads/2026-11 $orphan $zero" ]);
	is_push($result, 'ok', '35: a new period', size => qr/^1 objects (\d+) bytes/);
	cmp_ok(($result->{size} =~ /(\d+) bytes/)[0], '<', 2000, '35: in less than 2 kB');
	is_push(try_push($server->plain_url('usual.git'), [ "refs/heads/r $second $zero" ], secret => 'git'),
		'ok', 'plain http to loopback, a token by name');
	$node->fails_with("SELECT gittest.push('$local', 'http://example.com/x.git', ARRAY['$main $second $zero'])", 'NG007',
		undef, 'plain http to others is refused');
	$node->fails_with("SELECT gittest.push('$local', '$url', ARRAY['$main $second $zero'], 'nosuch')", 'NG202', undef,
		'13: no such secret');
	$node->fails_with("SELECT gittest.push('$local', '$url', ARRAY['$main @{['1' x 40]} $zero'])", 'NG302', undef,
		'an object that is not here');
};

subtest 'exactly what the remote lacks' => sub {
	$server->make('lacks.git', 'transfer.unpackLimit=1');
	my $url = $server->url('lacks.git');
	my $repo = "$top/lacks";
	my ($a) = split(/ /, $node->sql("SELECT gittest.fill('$repo', '$main', 600, 3000)"));
	is_push(try_push($url, [ "$main $a $zero" ], repo => $repo), 'ok', 'all', size => qr/^617 objects/);
	my ($b) = split(/ /, $node->sql("SELECT gittest.fill('$repo', '$main', 600, 3000, 5, 100, '$a')"));
	my ($c) = split(/ /, $node->sql("SELECT gittest.fill('$repo', '$main', 600, 3000, 6, 300, '$b')"));
	my @lack = git_lines('-C', $repo, 'rev-list', '--objects', $c, "^$a");
	is_push(try_push($url, [ "$main $c $a" ], repo => $repo), 'ok', 'two commits later', size => qr/^${\scalar(@lack)} objects/);
	fsck_ok("$server->{top}/lacks.git", 'git fsck is content with the remote');
	git_lines('-C', $repo, 'gc', '-q', '--prune=now');
	my ($d) = split(/ /, $node->sql("SELECT gittest.fill('$repo', '$main', 600, 3000, 9, 2, '$c')"));
	is_push(try_push($url, [ "$main $d $c" ], repo => $repo), 'ok', 'after git gc');
	$server->make('deltas.git', 'transfer.unpackLimit=1');
	git_lines('-C', $repo, 'gc', '-q', '--prune=now');
	is_push(try_push($server->url('deltas.git'), [ "$main $d $zero" ], repo => $repo), 'ok', 'from deltas');
	fsck_ok("$server->{top}/deltas.git", 'git fsck is content with that');
	is_deeply([ glob("$repo/objects/pack/tmp_*") ], [], 'no temporary file stays');
};

subtest 'leases and histories' => sub {
	my $path = $server->make('lease.git');
	my $url = $server->url('lease.git');
	try_push($url, [ "$main $first $zero" ]);
	is_push(try_push($url, [ "$main $second $zero" ]), 'lease_lost', '7: it is there already',
		sent => qr/f/, ref => qr/^$main$/, remote_id => qr/^$first$/, message => qr/$first/);
	is_push(try_push($url, [ "$main $second $other" ]), 'lease_lost', '7: it is elsewhere', sent => qr/f/);
	is_push(try_push($url, [ "refs/heads/n $second $first" ]), 'lease_lost', '8: it was deleted', message => qr/not there/);
	is_push(try_push($url, [ "$main $other $first" ]), 'non_fast_forward', '8: not in its history', sent => qr/f/);
	is(remote('lease.git'), $first, '7: nothing was overwritten');
	git_lines('clone', '-q', $path, "$top/foreign");
	git_lines('-C', "$top/foreign", '-c', 'user.name=x', '-c', 'user.email=x@y', 'commit', '-q', '--allow-empty', '-m', 'foreign');
	git_lines('-C', "$top/foreign", 'push', '-q', $path, 'HEAD:main');
	my $foreign = remote('lease.git');
	is_push(try_push($url, [ "$main $second $foreign" ]), 'non_fast_forward', '7: a commit that is not known here');
	is_push(try_push($url, [ "$main $second $foreign rewrite" ]), 'ok', 'only when it is said');
	is_push(try_push($url, [ "$main $first $second rewrite" ]), 'ok', 'and back');

	# the advertisement still shows the old one
	my $read = gauge_read('lease.git');
	my $fault = $server->fault('run', $read + 1, 'git', '-C', $path, 'update-ref', $main, $foreign);
	my $result = try_push($server->plain_url('lease.git', $fault->{port}), [ "$main $second $first" ]);
	is_push($result, 'lease_lost', '7: moved between the advertisement and the push', sent => qr/t/, remote_id => qr/^$foreign$/);
	is(remote('lease.git'), $foreign, '7: nothing was overwritten');
};

# How many bytes it takes to ask for the refs.
sub gauge_read
{
	my ($name) = @_;
	my $gauge = $server->fault('pass', 0);
	$node->sql(sprintf('SELECT * FROM gittest.remote_refs(%s)', quoted($server->plain_url($name, $gauge->{port}))));
	my $read = wait_for(sub { ($server->fault_sent($gauge))[0] }, 'the gauge tells');
	$server->end_fault($gauge);
	return $read;
}

subtest 'refusals by the server' => sub {
	$server->make('hooks.git');
	my $url = $server->url('hooks.git');
	my $try = sub {
		my ($text) = @_;
		open(my $fh, '>', "$top/says") or die;
		print $fh $text;
		close $fh;
		$server->hook('hooks.git', 'pre-receive', "cat '$top/says' >&2; exit 1");
		return try_push($url, [ "$main $first $zero" ]);
	};
	is_push($try->("no backups on Fridays\n"), 'hook', '6: a hook declines', sent => qr/t/, server_text => qr/no backups on Fridays/,
		message => qr/pre-receive hook declined/, ref => qr/^$main$/);
	is_push($try->("error: GH001: Large files detected. You may want to try Git Large File Storage.\n"
		. "error: See https://gh.io/lfs for more information.\n"
		. "error: File data/public.t/00/is x.copy is 120.55 MB; this exceeds GitHub's file size limit of 100.00 MB\n"),
		'large_file', '9: GH001', paths => qr{^data/public\.t/00/is x\.copy\|0\|large file\|$});
	is_push($try->("error: GH006: Protected branch update failed for refs/heads/main.\nerror: Changes must be made through a pull request.\n"),
		'protected', '9: GH006', server_text => qr/pull request/);
	is_push($try->("error: GH013: Repository rule violations found for refs/heads/main.\n- Commits must have verified signatures.\n"),
		'rules', '9: GH013', server_text => qr/verified signatures/);
	my $dash = "\xe2\x80\x94";
	is_push($try->("error: GH013: Repository rule violations found for refs/heads/main.\n\n- GITHUB PUSH PROTECTION\n"
		. "  ${\($dash x 41)}\n    Resolve the following violations before pushing again\n\n    - Push cannot contain secrets\n\n"
		. "      $dash$dash GitHub Personal Access Token ${\($dash x 20)}\n       locations:\n"
		. "         - commit: 8728dbe67\n           path: data/public.notes/00/a.copy:4\n"
		. "         - commit: 8728dbe67\n           path: data/public.notes/01/b c:d.copy:77\n"
		. "      $dash$dash Notion Token $dash$dash\n       locations:\n         - commit: 11aa22b\n           path: schema/x.sql\n"),
		'secret', '9: push protection',
		paths => qr{^data/public\.notes/00/a\.copy\|4\|GitHub Personal Access Token\|8728dbe67~data/public\.notes/01/b c:d\.copy\|77\|GitHub Personal Access Token\|8728dbe67~schema/x\.sql\|0\|Notion Token\|11aa22b$});
	is_push($try->("the token is $server->{token}, says nobody\n"), 'hook', '13: a token that is echoed', server_text => qr/is \*+, says/);
	is_push($try->("\e[31m\x07" . ("\xff\x00" x 9) . ('long ' x 100_000) . "\n"), 'hook', 'a server that shouts', server_text => qr/long long/);
	$server->hook('hooks.git', 'pre-receive', undef);
	is(remote('hooks.git'), '', '6: no ref was made');

	$server->hook('hooks.git', 'update', "[ \$1 != refs/heads/bad ] || { echo not this one >&2; exit 1; }");
	my $two = try_push($url, [ "$main $first $zero", "refs/heads/bad $first $zero" ]);
	is_push($two, 'hook', '6: one of two is declined', ref => qr{^refs/heads/bad$}, server_text => qr/not this one/);
	is(remote('hooks.git'), '', '6: atomic: the other was not made, either');
	$server->hook('hooks.git', 'update', undef);

	$server->make('noatomic.git', 'receive.advertiseAtomic=false');
	is_push(try_push($server->url('noatomic.git'), [ "$main $first $zero", "refs/heads/b $first $zero" ]), 'ok',
		'a server that cannot do several at once');
	$server->make('denies.git', 'receive.denyDeletes=true', 'receive.denyNonFastForwards=true');
	$url = $server->url('denies.git');
	try_push($url, [ "$main $second $zero" ]);
	is_push(try_push($url, [ "$main $first $second rewrite" ]), 'non_fast_forward', '8: the server takes no rewriting', sent => qr/t/);
	is_push(try_push($url, [ "$main $zero $second" ]), 'rejected', '34: nor deleting', sent => qr/t/);
	$server->make('current.git', 'receive.denyDeleteCurrent=refuse');
	$url = $server->url('current.git');
	try_push($url, [ "$main $second $zero" ]);
	is_push(try_push($url, [ "$main $zero $second" ]), 'rejected', '34: the current branch stays', message => qr/current branch/);
	my $sha256 = "$server->{top}/sha256.git";
	git_lines('init', '-q', '--bare', '--object-format=sha256', $sha256);
	git_lines('-C', $sha256, 'config', 'http.receivepack', 'true');
	is_push(try_push($server->url('sha256.git'), [ "$main $first $zero" ]), 'protocol', 'another kind of ids');
};

subtest 'refusals by HTTP' => sub {
	$server->make('http.git');
	for my $case (
		[ 's401', 'auth', 401 ], [ 's403', 'forbidden', 403, server_text => qr/not granted/ ], [ 'archived', 'read_only', 403 ],
		[ 's404', 'not_found', 404 ], [ 's429', 'rate_limit', 429, retry_after_s => qr/^7$/, retry => qr/t/ ],
		[ 'abuse', 'rate_limit', 403, retry_after_s => qr/^61$/, retry => qr/t/ ], [ 's500', 'server', 500, retry => qr/t/ ],
		[ 's502', 'server', 502 ], [ 's504', 'server', 504 ], [ 'html', 'protocol', 0 ],
		[ 'echo', 'forbidden', 403, server_text => qr/^you said Basic \*+/ ],
		[ 'nothing', 'not_found', 404 ])
	{
		my ($place, $code, $status, %more) = @$case;
		is_push(try_push($server->url('http.git', $place), [ "$main $first $zero" ]), $code, "13, 15: /$place",
			http_status => qr/^$status$/, sent => qr/f/, %more);
	}
	is_push(try_push($server->url('http.git'), [ "$main $first $zero" ], secret => 'wrong'), 'auth', '13: a wrong token');
	is_push(try_push($server->url('none.git'), [ "$main $first $zero" ]), 'not_found', '8: no such repository');
	git_lines('-C', "$server->{top}/http.git", 'config', 'http.receivepack', 'false');
	is_push(try_push($server->url('http.git'), [ "$main $first $zero" ]), 'forbidden', 'pushing is switched off');
	git_lines('-C', "$server->{top}/http.git", 'config', 'http.receivepack', 'true');
	my ($big) = split(/ /, $node->sql("SELECT gittest.fill('$top/big', '$main', 300, 3000)"));
	is_push(try_push($server->url('http.git', 'small'), [ "$main $big $zero" ], repo => "$top/big"), 'too_large', '413', sent => qr/t/);
	is_push(try_push($server->url('http.git', 'post503'), [ "$main $first $zero" ]), 'server', '503 for the push', sent => qr/t/, retry => qr/t/);
	is_push(try_push($server->url('http.git', 'post200'), [ "$main $first $zero" ]), 'protocol', 'a report that says nothing', sent => qr/t/);
	is(remote('http.git'), '', 'nothing was made in all this');
	is_push(try_push($server->url('http.git', 'moved'), [ "$main $first $zero" ]), 'ok', '8: renamed on the same server',
		moved_to => qr{/git/http\.git$});
	for my $place ('far', 'trick')
	{
		is_push(try_push($server->url('http.git', $place), [ "refs/heads/n $first $zero" ]), 'redirect', "13: /$place: another host",
			sent => qr/f/, moved_to => qr/./);
	}
	unlike(slurp_file("$server->{run}/access.log"), qr{x-access-token .*"GET /git/http\.git/.* 200 .*\n.*x-access-token .*localhost},
		'13: the token did not go there');
	is_push(try_push($server->url('http.git', 'loop'), [ "refs/heads/n $first $zero" ]), 'redirect', 'round and round');
	$node->configure('angles.http_ca_file' => '');
	is_push(try_push($server->url('http.git'), [ "refs/heads/n $first $zero" ]), 'network', '13: an authority that is not known',
		message => qr/certificate/);
	$node->configure('angles.http_ca_file' => $server->{ca});
	(my $name = $server->url('http.git')) =~ s/127\.0\.0\.1/localhost/;
	is_push(try_push($name, [ "refs/heads/n $first $zero" ]), 'network', '13: the certificate of another host');
	is_push(try_push('http://127.0.0.1:9/x.git', [ "refs/heads/n $first $zero" ]), 'network', 'nobody listens', retry => qr/t/);
	is_push(try_push('https://no-such-host.invalid/x.git', [ "refs/heads/n $first $zero" ]), 'network', 'no such host');
};

subtest '3, 4, 5: connections that break' => sub {
	my $repo = "$top/breaks";
	my $path = $server->make('breaks.git');
	my ($a) = split(/ /, $node->sql("SELECT gittest.fill('$repo', '$main', 20, 3000)"));
	is_push(try_push($server->plain_url('breaks.git'), [ "$main $a $zero" ], repo => $repo), 'ok', 'whole');
	my ($b) = split(/ /, $node->sql("SELECT gittest.fill('$repo', NULL, 400, 3000, 3, 1, '$a')"));
	my $read = gauge_read('breaks.git');
	# another ref, of a name as long, so that all pushes are of one length
	my $gauge = $server->fault('pass', 0);
	is_push(try_push($server->plain_url('breaks.git', $gauge->{port}), [ "refs/heads/gauge $b $zero" ], repo => $repo), 'ok', 'through the proxy');
	# the refs are read once more behind the push, in the same connection
	my $all = wait_for(sub { ($server->fault_sent($gauge))[0] }, 'the gauge tells') - $read;
	$server->end_fault($gauge);
	cmp_ok($all, '>', 300_000, "$read bytes to read refs, $all with the push");
	my $forget = sub {
		# the objects must be wanting again
		git_lines('-C', $path, 'update-ref', '-d', $_[0]);
		git_lines('-C', $path, 'prune', '--expire=now');
	};
	$forget->('refs/heads/gauge');

	my $n = 0;
	for my $mode ('cut', 'reset', 'stall')
	{
		for my $where ([ 'nothing', 0 ], [ 'in the first request', 20 ], [ 'before the push', $read + 1 ],
			[ 'in its head', $read + 100 ], [ 'half', int(($read + $all) / 2) ], [ 'all but one', $all - 1 ])
		{
			my ($words, $after) = @$where;
			my $fault = $server->fault($mode, $after);
			my $ref = sprintf('refs/heads/c%04d', $n++);
			my $result = try_push($server->plain_url('breaks.git', $fault->{port}), [ "$ref $b $zero" ], repo => $repo, idle_ms => 1000);
			is_push($result, 'network', "3: $mode: $words", retry => qr/t/);
			is(remote('breaks.git', $ref), '', "3: $mode: $words: no ref");
			$server->end_fault($fault);
		}
	}
	my $fault = $server->fault('lose', $read + 1);
	my $result = try_push($server->plain_url('breaks.git', $fault->{port}), [ "refs/heads/lost0 $b $zero" ], repo => $repo);
	is_push($result, 'ok', '4: the answer is lost', reconciled => qr/t/, sent => qr/t/);
	is(remote('breaks.git', 'refs/heads/lost0'), $b, '4: and the ref has moved');
	$server->end_fault($fault);

	my ($c) = split(/ /, $node->sql("SELECT gittest.fill('$repo', NULL, 400, 1000, 4, 1, '$a')"));
	$fault = $server->fault('slow', $read + 1);
	is_push(try_push($server->plain_url('breaks.git', $fault->{port}), [ "refs/heads/slow1 $c $zero" ], repo => $repo, idle_ms => 2000),
		'ok', '5: slow, but it goes on');
	$server->end_fault($fault);
	my ($d) = split(/ /, $node->sql("SELECT gittest.fill('$repo', NULL, 400, 3000, 5, 1, '$a')"));
	$fault = $server->fault('stall', $read + 1000);
	$result = try_push($server->plain_url('breaks.git', $fault->{port}), [ "refs/heads/total $d $zero" ], repo => $repo,
		idle_ms => 60_000, total_ms => 1500);
	is_push($result, 'network', '5: the limit of the whole');
	$server->end_fault($fault);
	is_push(try_push($server->plain_url('breaks.git'), [ "refs/heads/total $d $zero" ], repo => $repo), 'ok', '3: and then it works');
	fsck_ok($path, '3: the remote is whole');

	# the server dies under the push, and cannot be asked what became of it
	$fault = $server->fault('run', $read + 1, 'sh', '-c', 'kill $PPID');
	is_push(try_push($server->plain_url('breaks.git', $fault->{port}), [ "refs/heads/gone0 $d $zero" ], repo => $repo), 'unknown',
		'4: nobody can say', sent => qr/t/, retry => qr/t/);
	$server->end_fault($fault);
};

subtest '5: who waits can be stopped' => sub {
	my $hole = IO::Socket::INET->new(Listen => 8, LocalAddr => '127.0.0.1') or die;
	my $url = 'http://127.0.0.1:' . $hole->sockport . '/x.git';
	for my $how ('pg_cancel_backend', 'pg_terminate_backend')
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $session->query_safe('SELECT pg_backend_pid()');
		$session->query_until(qr/begun/, "\\echo begun\nSELECT gittest.push('$local', '$url', ARRAY['$main $first $zero']);\n");
		$node->wait_sql("SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", 'it waits');
		# a database cannot be dropped while somebody waits without serving interrupts
		$node->sql('CREATE DATABASE other');
		$node->sql('DROP DATABASE other');
		$node->sql("SELECT $how($pid)");
		$node->wait_sql("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", "5: $how works");
		eval { $session->quit };
	}
	close $hole;
	is_deeply([ glob("$local/objects/pack/tmp_*") ], [], '5: no temporary file stays');
};

subtest '1: killed in the middle of a push' => sub {
	my $path = $server->make('kills.git');
	my $url = $server->url('kills.git');
	my $folder = "$top/killed.git";
	git_lines('init', '-q', '--bare', '-b', 'main', $folder);
	my $tip = $zero;
	for my $point (qw(git-push-before-post git-push-after-post git-push-copied))
	{
		my $to = $point eq 'git-push-copied' ? $folder : $url;
		my $old = $point eq 'git-push-copied' ? $zero : $tip;
		my $new = $node->sql(commit_sql($local, undef, { $point => 'x' }, parent => $tip eq $zero ? undef : $tip));
		$node->arm_kill_point($point);
		$node->psql('postgres', "SELECT gittest.push('$local', '$to', ARRAY['$main $new $old'])");
		ok($node->disarm_kill_point, "1: $point: struck");
		my ($now) = git_lines('-C', $to eq $url ? $path : $folder, 'for-each-ref', '--format=%(objectname)');
		is($now // $zero, $point eq 'git-push-after-post' ? $new : $old, "1: $point: whole, old or new");
		is_push(try_push($to, [ "$main $new $old" ]), 'ok', "1: $point: the next one");
		$tip = $new;
	}
	fsck_ok($_, '1: git fsck is content') for $path, $folder;
};

subtest 'into a folder' => sub {
	my $path = "$top/folder with %20.git";
	git_lines('init', '-q', '--bare', '-b', 'main', $path);
	(my $file = "file://$path") =~ s/%/%25/g;
	$file =~ s/ /%20/g;
	is_push(try_push($path, [ "$main $first $zero" ]), 'ok', 'a path', size => qr/^5 objects/);
	is_push(try_push($file, [ "$main $second $first" ]), 'ok', 'an address', size => qr/^3 objects/);
	is_push(try_push($path, [ "$main $second $first" ]), 'ok', 'again', reconciled => qr/t/, sent => qr/f/);
	is_push(try_push($path, [ "$main $first $zero" ]), 'lease_lost', '7: a lease', remote_id => qr/$second/);
	is_push(try_push($path, [ "$main $other $second" ]), 'non_fast_forward', '8: another history');
	is_push(try_push($path, [ "refs/heads/b $first $zero" ]), 'ok', 'a branch', size => qr/^0 objects/);
	is_push(try_push($path, [ "refs/heads/b $zero $first" ]), 'ok', '34: is deleted');
	is_push(try_push($path, [ "$main $zero $second" ]), 'rejected', '34: the current one is not');
	is(join(' ', git_lines('-C', $path, 'for-each-ref', '--format=%(objectname)')), $second, 'all as it should be');
	fsck_ok($path, 'git fsck is content');
	is((git('clone', '-q', $path, "$top/from folder"))[0], 0, 'and git clone');
	is_push(try_push("$top/nowhere.git", [ "$main $first $zero" ]), 'not_found', 'no folder');
	mkdir "$top/plain" or die;
	is_push(try_push("$top/plain", [ "$main $first $zero" ]), 'protocol', 'no repository');
	$node->fails_with("SELECT gittest.push('$local', 'file://other.host/x', ARRAY['$main $first $zero'])", 'NG007', undef, 'a folder of another host');
	append_to_file("$path/refs/heads/main.lock", '');
	my $third = $node->sql(commit_sql($local, undef, { third => '3' }, parent => $second));
	$node->fails_with("SELECT gittest.push('$local', " . quoted($path) . ", ARRAY['$main $third $second'])", '55P03', qr/main\.lock/,
		'32: a lock of another git');
	unlink "$path/refs/heads/main.lock";
	is_push(try_push($path, [ "$main $third $second" ]), 'ok', '32: and then');
	if ($> != 0)
	{
		my $fourth = $node->sql(commit_sql($local, undef, { fourth => '4' }, parent => $third));
		chmod 0500, "$path/objects/pack";
		$node->fails_with("SELECT gittest.push('$local', " . quoted($path) . ", ARRAY['$main $fourth $third'])", '42501', undef,
			'12: a folder that may not be written');
		chmod 0700, "$path/objects/pack";
		is(join('', git_lines('-C', $path, 'rev-parse', 'main')), $third, '12: as it was');
	}
};

subtest '29: damage here is not sent' => sub {
	my $repo = "$top/hurt";
	my ($a) = split(/ /, $node->sql("SELECT gittest.fill('$repo', '$main', 100, 3000)"));
	my ($pack) = glob("$repo/objects/pack/*.pack");
	my ($blob) = grep { / blob / } git_lines('verify-pack', '-v', $pack);
	my ($oid, $at) = $blob =~ /^(\w+) blob +\d+ \d+ (\d+)/;
	my $folder = "$top/hurt2.git";
	chmod 0600, $pack;
	open(my $fh, '+<:raw', $pack) or die;
	seek $fh, $at + 200, 0;
	print $fh 'XX';
	close $fh;
	$server->make('hurt.git');
	git_lines('init', '-q', '--bare', $folder);
	for my $to ($server->url('hurt.git'), $folder)
	{
		$node->fails_with("SELECT gittest.push('$repo', '$to', ARRAY['$main $a $zero'])", 'NG302', qr/$oid/, '29: the object is named');
	}
	is(remote('hurt.git'), '', '29: the remote has nothing');
	is_deeply([ glob("$folder/objects/pack/*") ], [], '29: nor has the folder');
};

subtest 'bytes of a stranger' => sub {
	my $pkt = sub { sprintf('%04x', 4 + length $_[0]) . $_[0] };
	my $advert = $pkt->("# service=git-receive-pack\n") . '0000'
	  . $pkt->("$first refs/heads/main\0 report-status report-status-v2 delete-refs side-band-64k atomic object-format=sha1\n")
	  . $pkt->("$second refs/heads/n\n") . $pkt->("$other .have\n") . '0000';
	my $report = $pkt->("unpack ok\n") . $pkt->("ng refs/heads/main GH013: no\n") . $pkt->("ok refs/heads/n\n") . '0000';
	my $bands = $pkt->("\x02remote: path: a/b:3\n") . $pkt->("\x02\xe2\x80\x94\xe2\x80\x94 kind \xe2\x80\x94\nGH009\n  path: x:12\n")
	  . $pkt->("\x01$report") . '0000';
	my %sample = (advert => $advert, report => $report, bands => $bands);
	my $parse = sub { $node->sql(sprintf(q{SELECT gittest.parse('%s', '\x%s')}, $_[0], unpack('H*', $_[1]))) };
	is($parse->('advert', $advert), 'good refs=2 have=1 atomic=1 v2=1 band=1', 'an advertisement');
	is($parse->('report', $report), 'complete=1 unpack=said refs=2 code=rules paths=0', 'a report');
	is($parse->('bands', $bands), 'complete=1 unpack=said refs=2 code=secret paths=1', 'a report in bands');
	for my $bad ('', '0000', '0', 'zzzz', '0003', '0004', 'fff0', "001e# service=git-upload-pack\n0000", substr($advert, 0, -4), substr($advert, 0, 60))
	{
		unlike($parse->('advert', $bad), qr/^good/, 'no advertisement: ' . substr($bad, 0, 20) =~ s/\n//r);
	}
	for my $kind (sort keys %sample)
	{
		$node->sql(sprintf(q{SELECT gittest.fuzz('%s', '\x%s', %d, %d)}, $kind, unpack('H*', $sample{$kind}), soak(3000, 1_000_000), $$));
		ok(1, "$kind: damaged copies do no harm");
	}
};

is(scalar(grep { /tok_/ && !/the token is/ } split(/\n/, slurp_file($node->logfile))), 0, '13: the token is in no line of the log');
$node->stop;
done_testing();
