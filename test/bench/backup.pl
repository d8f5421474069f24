# backup.pl
#	Backups of 1,000,000 rows of about 367 bytes: time, bytes and memory beside pg_dump's; with other
#	sizes of chunks; when nothing, and when little has changed. One run each, in turns.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Test::More;

use AnglesTest;
use BackupTest;
use BenchTest;

use constant ROWS => $ENV{ANGLES_BENCH_ROWS} || 1_000_000;

my $node = new_cluster('main', conf => { fsync => 'on', shared_buffers => '256MB', max_wal_size => '4GB', 'angles.wait_max' => '1h' });
backup_with($node);
$node->sql(q{CREATE TABLE big (id bigint PRIMARY KEY, u uuid, title text, body text, status text, amount numeric, props jsonb, at timestamptz);
	INSERT INTO big SELECT i, md5(i::text)::uuid, 'Title ' || i, (SELECT string_agg(substr(md5((i * 40 + w)::text), 1, 3 + (i + w) % 7), ' ') FROM generate_series(1, 15 + i % 25) w),
		(ARRAY['open', 'done', 'waiting'])[i % 3 + 1], i / 7.0, jsonb_build_object('n', i, 'tag', 't' || i % 50), timestamptz '2026-01-01' + i * interval '1 minute'
	FROM generate_series(1, } . ROWS . q{) i});
$node->sql('VACUUM ANALYZE big');
$node->sql('CHECKPOINT');

# Returns milliseconds of a program, and the size of what it wrote.
sub dump_ms
{
	my ($level) = @_;
	my $file = $node->basedir . '/dump';
	my $begin = now_ms();
	system('pg_dump', '-Fc', '-Z', $level, '-t', 'big', '-f', $file, '-d', $node->connstr('postgres')) == 0 or die;
	return (now_ms() - $begin, -s $file);
}

# Returns the size of all packs.
sub repository_bytes
{
	my $sum = 0;
	$sum += -s for glob(repository() . '/objects/pack/*.pack');
	return $sum;
}

# Empties the repository.
sub fresh
{
	system('rm', '-rf', repository()) == 0 or die;
}

my $read = now_ms();
$node->sql("COPY (SELECT * FROM big ORDER BY id) TO '/dev/null'");
$read = now_ms() - $read;
note(sprintf 'reading as text: %.1f s', $read / 1000);
for my $level (1, 3, 6)
{
	$node->configure('angles.backup_compression' => $level);
	my ($dump, $dump_bytes) = dump_ms($level);
	fresh();
	my ($full) = backup();
	my $bytes = repository_bytes();
	note(sprintf 'level %d: pg_dump %.1f s, %.1f MB; backup %.1f s (%.2fx), %.1f MB (%.2fx), %d chunks, %.0f MB of text', $level, $dump / 1000, $dump_bytes / 1e6,
		$full->{seconds}, 1000 * $full->{seconds} / $dump, $bytes / 1e6, $bytes / $dump_bytes, $full->{written}, $full->{bytes} / 1e6);
	cmp_ok(1000 * $full->{seconds} / $dump, '<=', $level == 6 ? 1.3 : 1.6, "level $level: time") if $level != 3;
	cmp_ok($bytes / $dump_bytes, '<=', 1.1, "level $level: bytes");
}
my ($same) = backup();
note(sprintf 'nothing changed: %.1f s (%.2fx of reading)', $same->{seconds}, 1000 * $same->{seconds} / $read);
cmp_ok(1000 * $same->{seconds} / $read, '<=', 1.3, 'nothing changed: time');

$node->configure('angles.backup_compression' => 3);
for my $size (16, 32, 64, 128)
{
	$node->configure('angles.backup_chunk_size' => "${size}kB");
	fresh();
	my ($full) = backup();
	my $all = repository_bytes();
	$node->sql(sprintf q{UPDATE big SET status = status || 'x' WHERE id %% %d = %d}, ROWS / 100, $size);
	my ($few) = backup();
	my $few_bytes = repository_bytes() - $all;
	$node->sql(sprintf q{UPDATE big SET status = status || 'y' WHERE id %% 100 = %d}, $size % 100);
	my ($percent) = backup();
	my $percent_bytes = repository_bytes() - $all - $few_bytes;
	note(sprintf '%d KiB: full %.1f s, %.1f MB, %d chunks; 100 rows: %d chunks, %.2f MB, %.1f s; 1 %%: %d chunks, %.1f MB, %.1f s', $size, $full->{seconds}, $all / 1e6,
		$full->{written}, $few->{written}, $few_bytes / 1e6, $few->{seconds}, $percent->{written}, $percent_bytes / 1e6, $percent->{seconds});
	cmp_ok($few->{written}, '<=', 100, "$size KiB: 100 rows write their chunks");
}

done_testing();
