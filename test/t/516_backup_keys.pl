# 516_backup_keys.pl
#	Scenarios 29 and 30: a backup that is not what was written is found out, however it was changed.
use strict;
use warnings;

use Test::More;

use PostgreSQL::Test::Utils;

use AnglesTest;
use BackupTest;

my $node = new_cluster('main');
backup_with($node);
my $dir = $node->basedir;
my $path = "$dir/backup.key";
$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 5000) i});
my ($unsigned) = backup();
like($node->sql(q{SELECT detail FROM angles.status WHERE item = 'backup key'}), qr/not signed/, 'L30: without a key status says so');
$node->fails_with('SELECT angles.key_saved()', 'NG404', undef, 'L30: there is no key to save');

# making one
my ($public, $fingerprint, $steps) = split /\|/, $node->sql("SELECT public_key, fingerprint, next_steps FROM angles.create_backup_key('$path')");
like($public, qr{^[A-Za-z0-9+/]{43}=$}, 'L30: the public half is shown');
like($fingerprint, qr{^SHA256:}, 'L30: and its fingerprint');
is(sprintf('%o', (stat $path)[2] & 07777), '600', 'L30: the file is the server\'s alone');
like(slurp_file($path), qr/^-----BEGIN PRIVATE.KEY-----/, 'L30: and can be read with openssl');
is(($node->sql_error("SELECT angles.create_backup_key('$path')"))[1] =~ /File exists/, 1, 'L30: a file that is there stays as it is');
$node->fails_with(q{SELECT angles.create_backup_key('backup.key')}, '22023', undef, 'L30: nothing is put into the data directory by a slip');
$node->sql('CREATE ROLE admin LOGIN; GRANT angles_admin TO admin');
$node->fails_with("SET ROLE admin; SELECT angles.create_backup_key('$path.2')", '42501', qr/pg_write_server_files/, 'K1: who may write no files makes none');
is($node->sql(q{SELECT detail->>'path' FROM angles.audit_log WHERE action = 'create_backup_key'}), $path, 'L30: the audit trail has it');
is($node->sql(q{SELECT count(*) FROM angles.audit_log WHERE detail::text LIKE '%PRIVATE%'}), 0, 'L30: but not the key');

# using it
$node->configure('angles.backup_key_file' => $path, 'angles.backup_public_key' => $public);
my ($signed) = backup();
isnt($signed->{commit}, $unsigned->{commit}, 'L30: the first signed backup is a new one');
is($signed->{remark}, '', 'L30: with nothing to remark');
is($node->sql(q{SELECT signed_by FROM angles.backups ORDER BY time DESC LIMIT 1}), $fingerprint, 'L30: signed by the key');
like($node->sql(q{SELECT state || ' ' || detail FROM angles.status WHERE item = 'backup key'}), qr/^warning nobody has confirmed/, 'L30: which nobody has put away yet');
is($node->sql('SELECT angles.key_saved()'), $fingerprint, 'L30: somebody has');
is($node->sql(q{SELECT state FROM angles.status WHERE item = 'backup key'}), 'ok', 'L30: then all is well');
my $clone = clone('angles/postgres/all');
is(run_status('openssl', 'pkeyutl', '-verify', '-pubin', '-inkey', "$clone/angles.pub", '-rawin', '-in', "$clone/angles.json", '-sigfile', "$clone/angles.sig"), 0,
	'L30: openssl finds the signature good');
is($node->sql("SELECT signed_by FROM angles.verify_backup('$signed->{commit}')"), $fingerprint, 'L30: and so does verify_backup()');
like((backup())[0]->{remark}, qr/^equal/, 'L30: signing makes no commit by itself');
$node->fails_with("SELECT angles.verify_backup('$unsigned->{commit}')", 'NG405', qr/angles\.sig/, 'L30: one without a signature is not good where a key is pinned');

# the wrong key, and others
{
	my ($other) = split /\|/, $node->sql("SELECT public_key FROM angles.create_backup_key('$path.other')");
	$node->configure('angles.backup_key_file' => "$path.other");
	$node->fails_with('SELECT * FROM angles.backup()', 'NG404', qr/is not the one of angles\.backup_public_key/, 'L30: another key than the pinned one signs nothing');
	$node->configure('angles.backup_public_key' => $other);
	$node->fails_with("SELECT angles.verify_backup('$signed->{commit}')", 'NG405', qr/not the key of/, 'L30: nor does it vouch for anything');
	$node->configure('angles.backup_key_file' => $path, 'angles.backup_public_key' => $public);
	chmod 0640, $path;
	$node->fails_with('SELECT * FROM angles.backup()', 'NG404', qr/chmod|others than its owner/, 'L30: a file that others can read is no key');
	chmod 0600, $path;
	rename $path, "$path.away";
	is(($node->sql_error('SELECT * FROM angles.backup()'))[1] =~ /backup_key_file/, 1, 'L30: nor is one that is gone');
	append_to_file($path, "no key\n");
	chmod 0600, $path;
	$node->fails_with('SELECT * FROM angles.backup()', 'NG404', qr/holds no Ed25519 key/, 'L30: nor any text');
	rename "$path.away", $path;
}

# changed by somebody who can write to the repository: consistent as far as he can make it
{
	my $work = clone('angles/postgres/all');
	my $file = (glob "$work/data/public.t/*/*.copy")[0];
	my ($bucket) = $file =~ m{^(.*)/};
	my $commit = sub {
		my ($branch) = @_;
		git_quiet($work, 'checkout', '-q', '-b', $branch);
		git_quiet($work, 'add', '-A');
		git_quiet($work, '-c', 'user.name=x', '-c', 'user.email=x@x', 'commit', '-q', '-m', 'x');
		git_quiet($work, 'push', '-q', 'file://' . repository(), $branch);
		return git('rev-parse', $branch);
	};
	my $sums = sub { my ($folder, $pattern) = @_; system("cd '$folder' && sha256sum $pattern > SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS") == 0 or die; };
	system('sed', '-i', 's/row 1$/row 0/', $file) == 0 or die;
	my $one = $commit->('one');
	$node->fails_with("SELECT angles.verify_backup('$one')", 'NG405', qr{data/public\.t/[^ ]*\.copy}, 'L29: a changed file is named');
	isnt(run_status("$work/restore.sh", '--check'), 0, 'L29: plain tools find it, too');
	$sums->($bucket, '*.copy');
	my $two = $commit->('two');
	$node->fails_with("SELECT angles.verify_backup('$two')", 'NG405', qr{data/public\.t/[^ ]*SHA256SUMS}, 'L30: with its sum, too: the sum of that is named');
	my ($table) = $bucket =~ m{^(.*)/};
	$sums->($table, 'load.sql */SHA256SUMS');
	$sums->($work, '.gitattributes README.md order.txt restore.sh sequences.sql settings.sql angles.pub schema/SHA256SUMS data/*/SHA256SUMS config/*/SHA256SUMS');
	my $three = $commit->('three');
	$node->fails_with("SELECT angles.verify_backup('$three')", 'NG405', qr{: SHA256SUMS: it has another sum}, 'L30: with all sums: angles.json says another one');
	my $root = (split / /, `sha256sum '$work/SHA256SUMS'`)[0];
	system('sed', '-i', qq{s/^"sums": "[0-9a-f]*"/"sums": "$root"/}, "$work/angles.json") == 0 or die;
	my $four = $commit->('four');
	$node->fails_with("SELECT angles.verify_backup('$four')", 'NG405', qr{angles\.sig}, 'L30: with that, too: the signature is not one of it');
	system('openssl', 'genpkey', '-algorithm', 'ed25519', '-out', "$work.key") == 0 or die;
	system("openssl pkey -in '$work.key' -pubout -out '$work/angles.pub' && openssl pkeyutl -sign -inkey '$work.key' -rawin -in '$work/angles.json' -out '$work/angles.sig'") == 0 or die;
	my $five = $commit->('five');
	$node->fails_with("SELECT angles.verify_backup('$five')", 'NG405', qr{angles\.pub: it is not the key}, 'L30: and another signature is nobody\'s');
	# a file that no sum speaks of
	git_quiet($work, 'checkout', '-q', 'angles/postgres/all');
	append_to_file("$bucket/zz.copy", "99999\tsmuggled\n");
	my $six = $commit->('six');
	$node->fails_with("SELECT angles.verify_backup('$six')", 'NG405', qr{zz\.copy: no sum is said of it}, 'L30: a file without a sum is found');
	is($node->sql("SELECT signed_by FROM angles.verify_backup('$signed->{commit}')"), $fingerprint, 'L30: the backup itself is as good as before');
}
$node->fails_with(q{SELECT angles.verify_backup('HEAD')}, '22023', undef, 'L29: a commit is named in full');
is(($node->sql_error(q{SELECT angles.verify_backup(repeat('a', 40))}))[0] =~ /^NG3/, 1, 'L29: one that is not there');

# a bit of the disk
{
	my ($pack) = sort { -s $b <=> -s $a } glob(repository() . '/objects/pack/*.pack');
	my $bytes = slurp_file($pack);
	my $at = int(length($bytes) / 2);
	substr($bytes, $at, 1) = chr(ord(substr($bytes, $at, 1)) ^ 1);
	chmod 0600, $pack;
	open(my $fh, '>', $pack) or die $!;
	binmode $fh;
	print $fh $bytes;
	close $fh;
	my ($state, $message) = $node->sql_error("SELECT angles.verify_backup('$signed->{commit}')");
	like($state, qr/^NG[34]/, 'L29: a flipped bit is found') or diag($message);
}

# Returns the status of a program that may fail.
sub run_status
{
	my @command = @_;
	IPC::Run::run([@command], '<', \undef, '>&', \my $out);
	return $?;
}

sub git_quiet
{
	my ($where, @args) = @_;
	local $ENV{HOME} = $dir;
	my $out = "";
	IPC::Run::run([ "git", "-C", $where, @args ], "<", \undef, ">&", \$out) or die "git @args: $out";
}

done_testing();
