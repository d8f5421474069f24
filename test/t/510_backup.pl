# 510_backup.pl
#	Backups as people make them: a commit in the local repository, read back, restored with plain tools.
use strict;
use warnings;

use IPC::Run ();
use Test::More;

use PostgreSQL::Test::Utils;

use AnglesTest;
use BackupTest;

my $node = new_cluster('main');
backup_with($node);

# the first one
$node->sql(q{CREATE TABLE plain (id int PRIMARY KEY, title text, at timestamptz DEFAULT '2026-01-02 03:04:05+00');
	INSERT INTO plain SELECT i, 'row ' || i FROM generate_series(1, 3000) i});
my ($first, $card) = backup();
is($first->{rows}, 3000, 'L47: rows of the first backup');
cmp_ok($first->{written}, '>', 1, 'L47: in several chunks');
like($card, qr/first backup.*repository  \S+angles_backup.*git clone -b angles\/postgres\/all/s, 'L47: a card says how to restore it');
like($first->{remark}, qr/not signed/, 'L47: and that it is not signed');
is(git('rev-parse', 'HEAD'), $first->{commit}, 'L47: the branch is the default one');
is(git('fsck', '--strict', '--no-dangling'), '', 'L47: git finds nothing wrong');
is($node->sql(q{SELECT commit || ' ' || rows || ' ' || equal_runs || ' ' || (verified IS NOT NULL) FROM angles.backups}),
	"$first->{commit} 3000 0 true", 'L47: the view has it');
is($node->sql(q{SELECT action || ' ' || object FROM angles.audit_log WHERE action = 'backup'}), "backup $first->{commit}", 'L47: the audit trail, too');

# nothing has changed
{
	my ($again, $notice) = backup();
	is($again->{commit}, $first->{commit}, 'L20: nothing changed: no commit');
	like($again->{remark}, qr/equal to \Q@{[ substr($first->{commit}, 0, 12) ]}\E/, 'L20: and it says so');
	is($notice, '', 'L20: no second card');
	$node->sql('VACUUM FULL plain; CLUSTER plain USING plain_pkey; ALTER TABLE plain SET WITHOUT CLUSTER; VACUUM FREEZE plain; REINDEX TABLE plain');
	is((backup())[0]->{commit}, $first->{commit}, 'L20: a rewritten table is the same table');
	$node->sql('CREATE TABLE keep AS SELECT * FROM plain; TRUNCATE plain; INSERT INTO plain SELECT * FROM keep ORDER BY random(); DROP TABLE keep');
	is((backup())[0]->{commit}, $first->{commit}, 'L20: and one that was filled anew');
	is($node->sql('SELECT equal_runs FROM angles.backups'), 3, 'L20: the runs are counted');
	is(git('rev-list', '--count', 'HEAD'), 1, 'L20: one commit');
}

# one row
{
	$node->sql(q{UPDATE plain SET title = 'changed' WHERE id = 1500});
	my ($second) = backup(undef, 'one row');
	isnt($second->{commit}, $first->{commit}, 'L22: a change makes a commit');
	is($second->{written}, 1, 'L22: one chunk is new');
	is($second->{reused}, $first->{written} - 1, 'L22: the others are not');
	my $diff = git('diff', '--unified=0', $first->{commit}, $second->{commit}, '--', 'data/*.copy');
	is(join("\n", grep { /^[-+][^-+]/ } split /\n/, $diff), "-1500\trow 1500\t2026-01-02 03:04:05+00\n+1500\tchanged\t2026-01-02 03:04:05+00",
		'L22: and the difference can be read');
	like(git('log', '-1', '--format=%B'), qr/^one row\n\n3000 rows/, 'L22: with the message');
	is(git('rev-list', '--count', 'HEAD'), 2, 'L22: after the first');
}

# restored with git, sha256sum and psql
$node->sql(q{CREATE SCHEMA "Odd.Schema"; CREATE TYPE mood AS ENUM ('sad', 'ok');
	CREATE TABLE "Odd.Schema"."a/b..c" ("select" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "UPPER" text, "new
line; DROP TABLE plain; --" text, mood mood[]);
	INSERT INTO "Odd.Schema"."a/b..c" ("UPPER", "new
line; DROP TABLE plain; --", mood) SELECT E'\\\\N\t' || i, NULLIF('x' || i, 'x7'), ARRAY['ok', NULL]::mood[] FROM generate_series(1, 100) i;
	CREATE TABLE "UPPER" (a int); CREATE TABLE upper (a int); INSERT INTO "UPPER" VALUES (1); INSERT INTO upper VALUES (2);
	CREATE SCHEMA "äöü漢字äöü漢字äöü漢字äö"; CREATE TABLE "äöü漢字äöü漢字äöü漢字äö"."äöü漢字äöü漢字äöü漢字äö" (a int);
	INSERT INTO "äöü漢字äöü漢字äöü漢字äö"."äöü漢字äöü漢字äöü漢字äö" VALUES (9);
	CREATE SCHEMA con; CREATE TABLE con.aux (a int PRIMARY KEY); INSERT INTO con.aux VALUES (1);
	CREATE TABLE keyless (a int, b text); INSERT INTO keyless SELECT i % 3, NULLIF('b' || i % 2, 'b1') FROM generate_series(1, 50) i;
	CREATE TABLE empty (a int PRIMARY KEY); CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES;
	CREATE TABLE zz_parent (id int PRIMARY KEY, up int REFERENCES zz_parent); INSERT INTO zz_parent SELECT i, i % 5 + 1 FROM generate_series(1, 20) i;
	CREATE TABLE child (id bigserial PRIMARY KEY, parent int NOT NULL REFERENCES zz_parent, twice int GENERATED ALWAYS AS (parent * 2) STORED);
	INSERT INTO child (parent) SELECT i % 20 + 1 FROM generate_series(1, 200) i;
	CREATE TABLE parts (id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
	CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a'); CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
	INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'other' END FROM generate_series(1, 100) i;
	CREATE TABLE base (id int PRIMARY KEY, v text); CREATE TABLE derived (more int) INHERITS (base);
	INSERT INTO base VALUES (1, 'base'); INSERT INTO derived VALUES (2, 'derived', 3);
	CREATE TABLE large (id uuid PRIMARY KEY, v bytea); INSERT INTO large VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', decode(repeat('00ff', 4000000), 'hex'));
	CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); INSERT INTO unlogged VALUES (1)});
{
	my ($all) = backup();
	restores($all->{commit}, 'L47', 'L26');
	my $paths = git('ls-tree', '-r', '--name-only', 'HEAD');
	unlike($paths, qr/[^\x21-\x7e\n]|[A-Z]:|\\|"/, 'L26: paths are plain');
	my %lower;
	$lower{ lc $_ }++ for split /\n/, $paths;
	is(scalar(grep { $_ > 1 } values %lower), 0, 'L26: and differ in more than case');
	unlike($paths, qr{(?:^|/)con\.}m, 'L26: none is called like a device');
	is(scalar(grep { grep { length > 200 } split m{/} } split /\n/, $paths), 0, 'L26: none is too long');
	like($paths, qr{data/public\.parts_a/.*data/public\.parts_rest/}s, 'L21: partitions are kept one by one');
}

# other encodings: UTF-8 in the repository, but for bytes that nobody knows the meaning of
for my $case ([ 'latin1', 'LATIN1', q{convert_from('\xe4f65c'::bytea, 'LATIN1')}, "\xc3\xa4\xc3\xb6\\\\", 'UTF8' ],
	[ 'sqlascii', 'SQL_ASCII', q{convert_from('\xfffe5c'::bytea, 'SQL_ASCII')}, "\xff\xfe\\\\", 'SQL_ASCII' ])
{
	my ($db, $encoding, $value, $text, $client) = @$case;
	my $column = $encoding eq 'LATIN1' ? q{U&"gr\00f6\00dfe"} : q{"gr"};
	$node->sql("CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->sql("CREATE EXTENSION angles; CREATE TABLE t ($column text PRIMARY KEY); INSERT INTO t SELECT $value", $db);
	backup(undef, undef, $db);
	my ($file) = git_in($db, 'ls-tree', '-r', '--name-only', 'HEAD', 'data/') =~ /^(.*\.copy)$/m;
	is(git_in($db, 'show', "HEAD:$file"), $text, "L25: $encoding: the text in the repository");
	like(git_in($db, 'show', 'HEAD:settings.sql'), qr/SET client_encoding = '$client'/, "L25: $encoding: which says what it is");
	$node->sql("CREATE DATABASE ${db}_again TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->sql("CREATE TABLE t ($column text PRIMARY KEY)", "${db}_again");
	my $dir = $node->basedir . "/$db";
	my $out = '';
	local $ENV{HOME} = $node->basedir;
	system('git', 'clone', '-q', 'file://' . repository($db), $dir) == 0 or die;
	ok(IPC::Run::run([ "$dir/restore.sh", '-h', $node->host, '-p', $node->port, '-d', "${db}_again" ], '<', \undef, '>&', \$out), "L25: $encoding: restored") or diag($out);
	is($node->sql("SELECT count(*) FROM t WHERE t::text::bytea = (SELECT ROW($value)::text::bytea)", "${db}_again"), 1, "L25: $encoding: as it was");
}

# a file that cannot be read while it is loaded: nothing is loaded
{
	my $dir = clone();
	my $out = '';
	$node->sql('CREATE DATABASE torn');
	$node->sql('CREATE TABLE plain (id int PRIMARY KEY, title text, at timestamptz)', 'torn');
	my $script = slurp_file("$dir/restore.sh");
	$script =~ s/^check \. .*$/rm "\$(ls data\/public.plain\/*\/*.copy | tail -1)"/m or die;
	open(my $fh, '>', "$dir/torn.sh") or die $!;
	print $fh $script;
	close $fh;
	open($fh, '>', "$dir/order.txt") or die $!;
	print $fh "data/public.plain\n";
	close $fh;
	ok(!IPC::Run::run([ 'sh', "$dir/torn.sh", '-h', $node->host, '-p', $node->port, '-d', 'torn' ], '<', \undef, '>&', \$out), 'L47: a file that cannot be read ends the restore');
	is($node->sql('SELECT count(*) FROM plain', 'torn'), 0, 'L47: with nothing loaded');
}

done_testing();
