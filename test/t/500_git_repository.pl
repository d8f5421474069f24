# The local repository: packs that stock git accepts, refs by compare-and-swap, what a process leaves
# behind that is killed or has no room, damage that is found and named. Numbers are those of the
# scenarios of the backup. The oracle is stock git.
use strict;
use warnings;

use Digest::MD5 'md5_hex';
use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/../git";

use AnglesTest;
use GitTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = git_cluster('repo');
my $top = PostgreSQL::Test::Utils::tempdir();
my $zero = '0' x 40;

# Returns the files below objects/pack, without those that git may put beside a pack.
sub pack_files
{
	my ($repo) = @_;
	return map { s{.*/}{}r } sort glob("$repo/objects/pack/*");
}

subtest 'a new repository' => sub {
	my $repo = "$top/new";
	is($node->sql(qq(SELECT gittest.head('$repo'))), 'refs/heads/main', 'its HEAD is main');
	is((stat $repo)[2] & 07777, 0700, 'it is for its owner only');
	is(join(' ', git_lines('-C', $repo, 'rev-parse', '--is-bare-repository')), 'true', 'git takes it for bare');
	fsck_ok($repo, 'git fsck is content');
	$node->sql(qq(SELECT gittest.head('$repo', 'refs/heads/other')));
	is(join('', git_lines('-C', $repo, 'symbolic-ref', 'HEAD')), 'refs/heads/other', 'HEAD is set');
	mkdir "$top/new.tmp_angles_99" or die;
	$node->sql(qq(SELECT gittest.head('$repo')));
	ok(!-e "$top/new.tmp_angles_99", 'what a dead maker left is removed');
	mkdir "$top/empty" or die;
	$node->fails_with(qq(SELECT gittest.head('$top/empty')), 'NG301', qr/could not open/,
		'a folder that is no repository is refused');
	$node->fails_with(qq(SELECT gittest.head('$top/no/where')), '58P01', undef,
		'a folder in a folder that is not there is refused');
	$node->fails_with(qq(SELECT * FROM gittest.refs('$top/nothing')), '58P01', undef,
		'reading makes nothing');
	ok(!-e "$top/nothing", 'really nothing');
	symlink('/', "$top/root") or die;
	$node->fails_with(qq(SELECT gittest.head('$top/root')), 'NG301', qr/server's user/,
		'32: a folder of somebody else is refused') unless $> == 0;
};

my %odd = (
	'README.md' => "hello\n",
	'empty' => '',
	'a' => '1', 'a-b' => '2', 'a.b' => '3', 'a/b' => '4', 'a0' => '5', 'ab/c/d/e' => '6',
	"blank and 'quote' \"double\"" => '7',
	"\xc3\x9cmlaut/\xe2\x82\xac" => '8',
	"tab\there" => '9',
	'line' . "\n" . 'end' => '10',
	('x' x 200) => '11',
	'zeros' => "\0" x 100_000,
	'.gitattributes' => "* -text\n",
	'.github' => 'no folder of git',
	'big' => join('', map { pack('N', ($_ * 2654435761) & 0xffffffff) } 1 .. 400_000));
delete $odd{a};

subtest 'objects as git makes them' => sub {
	my $repo = "$top/odd";
	for my $level (0, 1, 6, 9)
	{
		my $id = $node->sql(commit_sql("$repo$level", 'refs/heads/main', \%odd, level => $level));
		fsck_ok("$repo$level", "level $level: git fsck is content");
		is(join('', git_lines('-C', "$repo$level", 'rev-parse', 'main')), $id, "level $level: the ref");
		my ($pack) = glob("$repo$level/objects/pack/*.pack");
		my ($status, $out) = git('verify-pack', '-v', $pack);
		is($status, 0, "level $level: git verify-pack is content") or diag($out);
		is($id, $node->sql("SELECT '$id'"), "level $level: the id does not depend on it");
	}
	my $id = $node->sql(qq(SELECT substr(line, 1, 40) FROM gittest.refs('${repo}6')));
	for my $file (sort keys %odd)
	{
		my ($status, $out) = git('-C', "${repo}6", 'cat-file', 'blob', "$id:$file");
		(my $shown = $file) =~ s/[^ -~]/?/g;
		$shown = substr($shown, 0, 30);
		ok($status == 0 && $out eq $odd{$file}, "git reads \"$shown\"");
		is($node->sql(sprintf("SELECT md5(gittest.read('%s', '%s', %s))", "${repo}6", $id, quoted($file))),
			md5_hex($odd{$file}), "we read \"$shown\"");
	}
	is($node->sql(qq(SELECT gittest.read('${repo}6', '$id', 'no/such') IS NULL)), 't', 'a file that is not there');
	my ($header, @walked) = map { $_->[0] } $node->rows(qq(SELECT translate(line, E'\\n', '~') FROM gittest.walk('${repo}6', '$id')));
	is($header, "\xc3\x81rp\xc3\xa1d Tester|t\@example.com|1700000000|-90|angles|0|a message~", 'the commit');
	my @git = map { /^(\d+) \w+ (\w+)\t/ ? "$1 $2" : () } git_lines('-C', "${repo}6", 'ls-tree', '-rt', '-z', $id) =~ s/\0/\n/gr;
	my ($status, $raw) = git('-C', "${repo}6", 'ls-tree', '-r', '-t', '-z', $id);
	my @theirs = map { my ($mode, $oid) = /^(\d+) \w+ (\w+)\t/; "$mode $oid" } split(/\0/, $raw);
	is_deeply([ sort map { join(' ', (split / /)[ 0, 1 ]) } @walked ], [ sort @theirs ], 'a walk sees what git sees');
	my ($author) = git_lines('-C', "${repo}6", 'log', '-1', '--format=%an|%ai', $id);
	like($author, qr/Tester\|2023-11-14 20:43:20 -0130$/, 'the time zone west of Greenwich');
	my ($clone_status, $out) = git('clone', '-q', "${repo}6", "$top/clone");
	is($clone_status, 0, 'git clone') or diag($out);
};

subtest 'the same objects are written once' => sub {
	my $repo = "$top/again";
	my $first = $node->sql(commit_sql($repo, 'refs/heads/main', \%odd));
	my @packs = pack_files($repo);
	is($node->sql(commit_sql($repo, 'refs/heads/second', \%odd)), $first, 'same content, same time: same commit');
	is_deeply([ pack_files($repo) ], \@packs, 'and no second pack');
	my $next = $node->sql(commit_sql($repo, 'refs/heads/main', { %odd, new => 'x' }, parent => $first));
	isnt($next, $first, 'another commit');
	is(scalar(grep { /\.pack$/ } pack_files($repo)), 2, 'in a second pack');
	my ($new) = grep { my $p = $_; !grep { "$repo/objects/pack/$_" eq $p } @packs } glob("$repo/objects/pack/*.idx");
	is(scalar(grep { /^[0-9a-f]{40} / } git_lines('verify-pack', '-v', $new)), 3, 'of a blob, a tree and a commit');
	fsck_ok($repo, 'git fsck is content');
	git_lines('-C', $repo, 'gc', '-q', '--aggressive', '--prune=now');
	is($node->sql(qq(SELECT md5(gittest.read('$repo', '$next', 'big')))), md5_hex($odd{big}),
		'deltas that git gc made are read');
};

subtest 'an empty tree, and names that git refuses' => sub {
	my $repo = "$top/names";
	my $id = $node->sql(commit_sql($repo, 'refs/heads/main', {}));
	is(join('', git_lines('-C', $repo, 'rev-parse', "$id^{tree}")), '4b825dc642cb6eb9a060e54bf8d69288fbee4904',
		'the empty tree has its id');
	for my $name ('.git', '.GIT', '.git/config', '..', '.', 'a//b', '.git. .', 'git~1', ".g\xe2\x80\x8cit", '.git:x')
	{
		$node->fails_with(commit_sql($repo, undef, { $name => 'x' }), 'NG301', qr/cannot be a name/, "26: \"$name\" is refused");
	}
	for my $name ('.gitx', 'git~2', '...', '.git-x', 'x.git', "\xe2\x80\x8cgit")
	{
		$node->sql(commit_sql($repo, 'refs/heads/main', { $name => 'x' }, parent => $id));
		$id = $node->sql(qq(SELECT substr(line, 1, 40) FROM gittest.refs('$repo')));
	}
	fsck_ok($repo, '26: git fsck has nothing against what we accept');
	my ($status) = $node->sql_error(sprintf(
		q{SELECT gittest.commit(%s, NULL, ARRAY['a', 'a/b'], ARRAY['\x00', '\x01']::bytea[])}, quoted($repo)));
	is($status, 'NG301', 'a file and a folder of one name');
};

subtest 'many objects, and large offsets' => sub {
	my $repo = "$top/many";
	my $n = soak(5000, 50000);
	my ($first) = split(/ /, $node->sql(qq(SELECT gittest.fill('$repo', 'refs/heads/main', $n, 2000))));
	my ($second) = split(/ /, $node->sql(qq(SELECT gittest.fill('$repo', 'refs/heads/main', $n, 2000, 7, 100, '$first'))));
	fsck_ok($repo, "$n objects: git fsck is content");
	is(scalar(git_lines('-C', $repo, 'ls-tree', '-r', '--name-only', $second)), $n, 'all there');
	my $out = $node->sql(qq(SELECT string_agg(line, ',') FROM gittest.verify('$repo', '$second')));
	like($out, qr/^objects \d+$/, 'we find no damage') or diag($out);
	my $whole = ($out =~ /(\d+)/)[0];
	my $parts = $node->sql(qq(SELECT sum(substr(line, 9)::int) FROM generate_series(0, 3) p,
		gittest.verify('$repo', '$second', true, p, 4)));
	my $frames = $node->sql(qq(SELECT substr(line, 9)::int FROM gittest.verify('$repo', '$second', true, 999, 1000)));
	cmp_ok($parts, '>=', $whole, 'four parts are the whole');
	cmp_ok($parts, '<=', $whole + 4 * $frames, '... and hardly more');
	$node->sql(qq(SELECT gittest.large_offsets(5000); SELECT gittest.fill('$top/large', 'refs/heads/main', 200, 2000)));
	fsck_ok("$top/large", '11: offsets as of a pack of more than 2 GB');
	my ($index) = glob("$top/large/objects/pack/*.idx");
	is((git('verify-pack', $index))[0], 0, '11: and git verify-pack');
	my $id = $node->sql(qq(SELECT substr(line, 1, 40) FROM gittest.refs('$top/large')));
	is($node->sql(qq(SELECT count(*) FROM gittest.verify('$top/large', '$id'))), 1, '11: we read them, too');
};

subtest 'refs' => sub {
	my $repo = "$top/refs";
	my @id = map { $node->sql(commit_sql($repo, undef, { n => $_ })) } 1 .. 3;
	my $move = sub {
		my ($name, $new, $old) = @_;
		return $node->sql(sprintf('SELECT gittest.ref_update(%s, %s, %s, %s)', map { quoted($_) } $repo, $name, $new, $old));
	};
	is($move->('refs/heads/a/b', $id[0], $zero), 't', 'made where none was');
	is($move->('refs/heads/a/b', $id[1], $zero), 'f', 'not made where one is');
	is($move->('refs/heads/a/b', $id[1], $id[2]), 'f', '14: not moved from another value');
	is($move->('refs/heads/a/b', $id[1], $id[0]), 't', 'moved from its value');
	is($move->('refs/heads/a/b', $id[2], undef), 't', 'moved from any');
	is($move->('refs/heads/none', $id[2], $id[1]), 'f', 'not moved when it is not there');
	is($move->('refs/heads/a/b', undef, $id[0]), 'f', 'not deleted at another value');
	is(join('', git_lines('-C', $repo, 'rev-parse', 'refs/heads/a/b')), $id[2], 'git sees it');
	git_lines('-C', $repo, 'pack-refs', '--all');
	is($move->('refs/heads/a/b', $id[1], $id[2]), 't', 'a packed one is moved');
	git_lines('-C', $repo, 'pack-refs', '--all');
	is($move->('refs/heads/a/b', undef, $id[1]), 't', 'a packed one is deleted');
	is($move->('refs/heads/a/b', undef, undef), 't', 'deleting none, whatever it was');
	is($move->('refs/heads/a/b', undef, $id[1]), 'f', '... but not at a value');
	is($node->sql(qq(SELECT count(*) FROM gittest.refs('$repo'))), 0, 'none left');
	for my $bad ('main', 'refs/heads/../x', 'refs/heads/a b', 'refs/heads/x.lock', "refs/heads/x\ny")
	{
		$node->fails_with(sprintf('SELECT gittest.ref_update(%s, %s, %s, NULL)', quoted($repo), quoted($bad), quoted($id[0])),
			'42602', undef, 'a bad name is refused');
	}
	$node->fails_with(qq(SELECT gittest.ref_update('$repo', 'refs/heads/x', '@{['1' x 40]}', NULL)), 'NG301', undef,
		'no object, no ref');
};

subtest '1: killed in the middle of a pack' => sub {
	for my $point (qw(git-pack-object git-pack-before-index git-pack-before-rename git-pack-between-renames git-pack-renamed))
	{
		my $repo = "$top/kill";
		$node->sql(commit_sql($repo, 'refs/heads/main', { old => 'x' })) if !-e $repo;
		my ($before) = git_lines('-C', $repo, 'rev-parse', 'main');
		$node->arm_kill_point($point);
		$node->psql('postgres', commit_sql($repo, 'refs/heads/main', { $point => 'y' x 1000 }, parent => $before));
		ok($node->disarm_kill_point, "1: $point: struck");
		fsck_ok($repo, "1: $point: git fsck is content");
		is(join('', git_lines('-C', $repo, 'rev-parse', 'main')), $before, "1: $point: the ref is as before");
		my @left = grep { /^tmp_/ } pack_files($repo);
		my $id = $node->sql(commit_sql($repo, 'refs/heads/main', { $point => 'y' x 1000 }, parent => $before));
		is(join('', git_lines('-C', $repo, 'rev-parse', 'main')), $id, "1: $point: the next one does it");
		is_deeply([ grep { /^tmp_/ } pack_files($repo) ], [], "1: $point: nothing is left of " . @left);
		fsck_ok($repo, "1: $point: git fsck is content with that");
	}
};

subtest 'a pack without an index' => sub {
	my $repo = "$top/orphan";
	my $id = $node->sql(commit_sql($repo, 'refs/heads/main', { old => 'x' }));
	append_to_file("$repo/objects/pack/pack-$zero.pack", 'PACK');
	$node->sql(qq(SELECT gittest.head('$repo')));
	ok(-e "$repo/objects/pack/pack-$zero.pack", 'stays while it may be another git\'s');
	utime(time() - 3600, time() - 3600, "$repo/objects/pack/pack-$zero.pack");
	$node->sql(qq(SELECT gittest.head('$repo')));
	ok(!-e "$repo/objects/pack/pack-$zero.pack", 'and goes when it is old');
	is(scalar(pack_files($repo)), 2, 'the good one stays');
};

subtest '32: killed while a ref was moved' => sub {
	my $repo = "$top/locks";
	my $id = $node->sql(commit_sql($repo, 'refs/heads/main', { old => 'x' }));
	my $next = $node->sql(commit_sql($repo, undef, { new => 'x' }, parent => $id));
	for my $point (qw(git-ref-noted git-ref-moved))
	{
		$node->arm_kill_point($point);
		$node->psql('postgres', qq(SELECT gittest.ref_update('$repo', 'refs/heads/main', '$next', '$id')));
		ok($node->disarm_kill_point, "32: $point: struck");
		# what libgit2 would have left, had the signal come a moment later
		append_to_file("$repo/refs/heads/main.lock", "$next\n") if $point eq 'git-ref-noted';
		my ($now) = git_lines('-C', $repo, 'rev-parse', 'main');
		is($now, $point eq 'git-ref-noted' ? $id : $next, "32: $point: whole, old or new");
		is($node->sql(qq(SELECT gittest.ref_update('$repo', 'refs/heads/main', '$id', '$now'))), 't',
			"32: $point: the next one gets through");
		ok(!-e "$repo/refs/heads/main.lock", "32: $point: no lock is left");
	}
	append_to_file("$repo/refs/heads/main.lock", '');
	$node->fails_with(qq(SELECT gittest.ref_update('$repo', 'refs/heads/main', '$next', '$id')), '55P03',
		qr/main\.lock" exists/, '32: a lock that is not ours is named and left alone');
	ok(-e "$repo/refs/heads/main.lock", '32: really');
	unlink "$repo/refs/heads/main.lock";
	open(my $fh, '>', "$repo/refs/heads/main") or die;
	close $fh;
	$node->fails_with(qq(SELECT gittest.ref_update('$repo', 'refs/heads/main', '$next', '$id')), 'NG301',
		qr/refs\/heads\/main/, '32: a ref of no length is named');
	is($node->sql(qq(SELECT gittest.ref_update('$repo', 'refs/heads/main', '$next', '$zero'))), 'f',
		'32: and not taken for one that is not there');
};

subtest '12: no room' => sub {
	my $repo = "$top/full";
	my $id = $node->sql(commit_sql($repo, 'refs/heads/main', { old => 'x' }));
	my @before = pack_files($repo);
	for my $limit (0, 10, 65_536, 300_000)
	{
		my ($state, $message) = $node->sql_error(
			qq(SELECT gittest."limit"($limit); SELECT gittest.fill('$repo', 'refs/heads/main', 400, 3000, 1, 1, '$id', 1);));
		isnt($state, '', "12: $limit bytes: an error") or diag($message);
		like($message, qr/could not (?:write|flush) file .*: /, "12: $limit bytes: with its reason");
		is_deeply([ pack_files($repo) ], \@before, "12: $limit bytes: nothing is left");
		is(join('', git_lines('-C', $repo, 'rev-parse', 'main')), $id, "12: $limit bytes: the ref is as before");
	}
	chmod 0500, "$repo/objects/pack";
	$node->fails_with(commit_sql($repo, undef, { x => 'x' }), '42501', qr/could not create file/, '12: a folder that may not be written')
	  unless $> == 0;
	chmod 0700, "$repo/objects/pack";
	fsck_ok($repo, '12: the repository is intact');
};

subtest 'two processes at once' => sub {
	my $repo = "$top/both";
	my $id = $node->sql(commit_sql($repo, 'refs/heads/main', { old => 'x' }));
	my @sessions = map { $node->background_psql('postgres') } 1 .. 2;
	# begun on one side, whole work on the other
	$sessions[0]->query_safe(qq(CREATE TABLE IF NOT EXISTS done (id text)));
	my @out = map { $sessions[$_]->query_safe(qq(SELECT gittest.fill('$repo', 'refs/heads/b$_', 500, 2000, $_, 2))) } 0, 1;
	$_->quit for @sessions;
	my @pids = map {
		my $who = $_;
		my $pid = fork // die;
		if ($pid == 0)
		{
			my $ok = eval {
				$node->safe_psql('postgres', join(';', map { qq(SELECT gittest.fill('$repo', 'refs/heads/c$who-$_', 100, 1000, $who * 100 + $_, 3)) } 1 .. 20));
				1;
			};
			POSIX::_exit($ok ? 0 : 1);
		}
		$pid;
	} 1 .. 2;
	for my $pid (@pids) { waitpid($pid, 0); is($?, 0, '14: both get through'); }
	is(scalar(git_lines("-C", $repo, "for-each-ref")), 43, '14: all refs are there');
	fsck_ok($repo, '14: git fsck is content');
	is_deeply([ grep { /^tmp_/ } pack_files($repo) ], [], '14: nothing is left over');
};

subtest 'damage is found and named' => sub {
	my $repo = "$top/hurt";
	my %files = map { ("data/t/$_.copy" => "row $_\n" x 3000) } 1 .. 20;
	my $id = $node->sql(commit_sql($repo, 'refs/heads/main', \%files));
	my ($pack) = glob("$repo/objects/pack/*.pack");
	my $bytes = slurp_file($pack);
	chmod 0600, $pack;
	my %offset = map { /^(\w{40}) (\w+) +\d+ (\d+) (\d+)/ ? ($1 => [ $2, $4, $3 ]) : () } git_lines('verify-pack', '-v', $pack);
	my %path = map { /^\d+ \w+ (\w+)\t(.*)/ ? ($1 => $2) : () } git_lines('-C', $repo, 'ls-tree', '-r', '-t', $id);
	my $put = sub {
		my ($what) = @_;
		open(my $fh, '+<:raw', $pack) or die;
		truncate $fh, 0;
		print $fh $what;
		close $fh;
	};
	my $verify = sub {
		return map { $_->[0] } $node->rows(qq(SELECT line FROM gittest.verify('$repo', '$id')));
	};
	for my $oid (sort keys %offset)
	{
		my ($type, $at, $size) = @{ $offset{$oid} };
		next if $type eq 'blob' && $path{$oid} !~ /t\/[12]\.copy/;
		my $broken = $bytes;
		substr($broken, $at + int($size / 2) + 2, 1) ^= "\x10";
		$put->($broken);
		my ($objects, @damaged) = $verify->();
		my $where = $path{$oid} // '';
		ok(scalar(grep { /^\Q$oid\E\|\Q$where\E\|./ } @damaged), "29: one bit of a $type: named") or diag("@damaged");
		is(scalar(@damaged), 1, "29: one bit of a $type: and nothing else");
	}
	my ($victim) = grep { ($path{$_} // '') eq 'data/t/1.copy' } keys %offset;
	my $broken = $bytes;
	substr($broken, $offset{$victim}[1] + 10, 1) ^= "\x10";
	$put->($broken);
	$node->fails_with(qq(SELECT gittest.read('$repo', '$id', 'data/t/1.copy')), 'NG302', qr/$victim/, '29: a damaged file is not read');
	is($node->sql(qq(SELECT length(gittest.read('$repo', '$id', 'data/t/3.copy')) > 0)), 't', '29: others are');
	my $refused = sub {
		my ($name) = @_;
		$node->fails_with(qq(SELECT * FROM gittest.verify('$repo', '$id')), 'NG302', qr/the index ".*\.idx" or its pack/, $name);
	};
	for my $short ('', substr($bytes, 0, 20), substr($bytes, 0, length($bytes) - 500), substr($bytes, 0, -1))
	{
		$put->($short);
		$refused->('32: a pack cut to ' . length($short) . ' bytes');
	}
	$put->($bytes);
	is(scalar(my @whole = $verify->()), 1, 'whole again');
	(my $index = $pack) =~ s/pack$/idx/;
	my $index_bytes = slurp_file($index);
	chmod 0600, $index;
	my $put_index = sub {
		open(my $fh, '>:raw', $index) or die;
		print $fh $_[0];
		close $fh;
	};
	for my $damage ('', "\xff" x length($index_bytes), substr($index_bytes, 0, 1000), substr($index_bytes, 0, -1),
		substr($index_bytes, 0, 8) . ("\xff" x 1024) . substr($index_bytes, 1032))
	{
		$put_index->($damage);
		$refused->('29: an index of ' . length($damage) . ' bytes');
	}
	for my $at (3, 7, 11, 1030, 1040, length($index_bytes) - 100, length($index_bytes) - 30, length($index_bytes) - 10)
	{
		my $flipped = $index_bytes;
		substr($flipped, $at, 1) ^= "\x01";
		$put_index->($flipped);
		$refused->("29: one bit of an index at $at");
	}
	unlink $index, $pack;
	my ($objects, @damaged) = $verify->();
	is_deeply(\@damaged, ["$id||it is missing"], '32: an object that is not there');
};

subtest 'bytes of a stranger' => sub {
	my $commit = "tree @{['a' x 40]}\nparent @{['b' x 40]}\nauthor A <a\@b> 1 +0000\ncommitter A <a\@b> 1 +0000\n\nhi\n";
	my $tree = join('', map { "100644 f$_\0" . ('x' x 20) } 1 .. 5) . "40000 d\0" . ('y' x 20);
	is($node->sql(sprintf(q{SELECT gittest.parse('commit', '\x%s')}, unpack('H*', $commit))), ' 1', 'a commit');
	is($node->sql(sprintf(q{SELECT gittest.parse('tree', '\x%s')}, unpack('H*', $tree))), ' 6', 'a tree');
	for my $case ([ commit => $commit ], [ tree => $tree ])
	{
		my ($kind, $sample) = @$case;
		$node->sql(sprintf(q(SELECT gittest.fuzz('%s', '\x%s', %d, %d)), $kind, unpack('H*', $sample), soak(5000, 500_000), $$));
		ok(1, "$kind: damaged copies do no harm");
	}
};

$node->stop;
done_testing();
