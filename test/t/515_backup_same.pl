# 515_backup_same.pl
#	Scenario 24: the same rows give the same tree, whatever the locale, the settings, the order of
#	the heap and the history.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use BackupTest;

my $node = new_cluster('main');
backup_with($node);
my $tables = q{CREATE TABLE words (w text PRIMARY KEY, n numeric, f float8, at timestamptz, i interval, b bytea, m money, x int[]);
	CREATE TABLE days (d timestamptz, k text COLLATE "C", v jsonb, PRIMARY KEY (d, k)); CREATE TABLE loose (a text, b float8);
	CREATE TABLE "Groß" (id uuid PRIMARY KEY, c char(5), ref regclass); CREATE TABLE ranges (r int4range PRIMARY KEY, e inet)};
# a function of the number of a row alone
my $rows = q{INSERT INTO words SELECT (ARRAY['a', 'B', 'ä', 'Z', '-', 'é', '_', ' '])[i % 8 + 1] || md5(i::text), (i || '.' || repeat('0', i % 4))::numeric, i / 7.0::float8,
		timestamptz '2026-01-01 00:00+00' + i * interval '1 hour 1 us', i * interval '1 day 1 s', decode(md5(i::text), 'hex'), (i / 100.0)::numeric::money, ARRAY[i, NULL]
	FROM generate_series(1, 3000) i ORDER BY ORDER_BY;
	INSERT INTO days SELECT timestamptz '2026-01-01 00:00+00' + (i / 3) * interval '1 day', 'k' || i, jsonb_build_object('b', i, 'a', i / 3.0) FROM generate_series(1, 3000) i ORDER BY ORDER_BY;
	INSERT INTO loose SELECT CASE WHEN i % 5 > 0 THEN 'w' || i % 100 END, (i % 7) / 3.0::float8 FROM generate_series(1, 3000) i ORDER BY ORDER_BY;
	INSERT INTO "Groß" SELECT md5(i::text)::uuid, 'c' || i % 10, 'words' FROM generate_series(1, 3000) i ORDER BY ORDER_BY;
	INSERT INTO ranges SELECT int4range(i, i + 10), '10.0.0.0'::inet + i FROM generate_series(1, 300) i ORDER BY ORDER_BY};

# name => how the database is made, its settings, the order of its rows, what happens to it afterwards
my @databases = (
	[ 'plain', q{TEMPLATE template0}, '', 'i' ],
	[ 'german', q{TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'}, q{"DateStyle" = 'German, DMY', "TimeZone" = 'Europe/Berlin', lc_monetary = 'C'}, 'md5(i::text)' ],
	[ 'c', q{TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'}, q{extra_float_digits = -15, "IntervalStyle" = 'iso_8601', bytea_output = 'escape', search_path = 'pg_temp'}, '-i' ],
	[ 'worn', q{TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'sv'}, q{"TimeZone" = 'Asia/Kathmandu', enable_seqscan = off, work_mem = '64kB', synchronize_seqscans = on, quote_all_identifiers = on}, 'i',
		q{DELETE FROM words WHERE n > 1000; INSERT INTO words SELECT * FROM keep WHERE n > 1000; UPDATE days SET k = 'x' || k; UPDATE days SET k = substr(k, 2); DROP TABLE keep;
		CREATE INDEX ON words (f); CLUSTER words USING words_f_idx; DROP INDEX words_f_idx; ALTER TABLE loose ADD c int; ALTER TABLE loose DROP c} ]);
my %trees;
for my $database (@databases)
{
	my ($name, $how, $settings, $order, $after) = @$database;
	my $make = $rows =~ s/ORDER_BY/$order/gr;
	$node->sql("CREATE DATABASE $name $how");
	$node->sql('CREATE EXTENSION angles', $name);
	$node->sql("SET search_path = public; SET lc_monetary = 'C'; $tables; $make", $name);
	$node->sql("CREATE TABLE keep AS SELECT * FROM words; SET search_path = public; SET lc_monetary = 'C'; $after", $name) if $after;
	for my $setting ($settings =~ /("?\w+"? = (?:'[^']*'|[-\w]+))/g)
	{
		$node->sql("ALTER DATABASE $name SET $setting");
	}
	backup(undef, undef, $name);
	$trees{$name} = git_in($name, 'rev-parse', 'HEAD:data');
	is(git_in($name, 'show', 'HEAD:SHA256SUMS') =~ /^(\w+)  data\/public\.words\/SHA256SUMS$/m, 1, "L24: $name: there are sums");
}
is($trees{$_}, $trees{plain}, "L24: $_: the tree of the rows is the same") for qw(german c worn);
is(git_in('german', 'show', 'HEAD:SHA256SUMS'), git_in('plain', 'show', 'HEAD:SHA256SUMS'), 'L24: and so are all sums');

# cut anew with other sizes, and back
{
	my ($first) = backup(undef, undef, 'plain');
	$node->configure('angles.backup_chunk_size' => '8kB', 'angles.backup_compression' => 9);
	my ($second) = backup(undef, undef, 'plain');
	isnt(git_in('plain', 'rev-parse', 'HEAD:data'), $trees{plain}, 'L24: smaller files are other files');
	cmp_ok($second->{written}, '>', 4 * $first->{reused}, 'L24: and more of them');
	$node->configure('angles.backup_chunk_size' => undef, 'angles.backup_compression' => 0);
	my ($third) = backup(undef, undef, 'plain');
	is(git_in('plain', 'rev-parse', 'HEAD:data'), $trees{plain}, 'L24: the old size gives the old tree');
	is($third->{written}, 0, 'L24: of which nothing is written again');
}

# collations of an index change: the order of the backup does not hang on them
{
	$node->sql(q{UPDATE pg_collation SET collversion = '0' WHERE collprovider = 'i'}, 'german');
	like((backup(undef, undef, 'german'))[0]->{remark}, qr/^equal/, 'L24: a collation of another version changes nothing');
}

done_testing();
