# 514_backup_content.pl
#	Scenarios 16, 17, 18 and 21: what is in a backup while others write, whose rights it takes, and what
#	it leaves out.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use BackupTest;

my $node = new_cluster('main');
backup_with($node);

# L16: what one transaction wrote is in a backup as a whole
{
	$node->sql(q{CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 2000) i;
		CREATE TABLE bookings (id int PRIMARY KEY, account int NOT NULL REFERENCES accounts, amount int NOT NULL);
		CREATE TABLE filled AS SELECT i AS id FROM generate_series(1, 500) i});
	my @writers = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
	$writers[0]->query_until(qr/go/, q{\echo go
DO $$ BEGIN FOR i IN 1..1000000 LOOP
	UPDATE accounts SET balance = balance - 1 WHERE id = i % 2000 + 1; UPDATE accounts SET balance = balance + 1 WHERE id = (i * 7) % 2000 + 1;
	INSERT INTO accounts VALUES (100000 + i, 0); INSERT INTO bookings VALUES (i, 100000 + i, 0);
	IF i % 3 = 0 THEN UPDATE bookings SET id = -id WHERE id = i - 2; DELETE FROM bookings WHERE id = i - 1; END IF;
	COMMIT; END LOOP; END $$;
});
	# one that empties a table and fills it again: never seen empty
	$writers[1]->query_until(qr/go/, q{\echo go
DO $$ BEGIN FOR i IN 1..1000000 LOOP TRUNCATE filled; INSERT INTO filled SELECT * FROM generate_series(1, 500); COMMIT; END LOOP; END $$;
});
	for my $round (1 .. 5)
	{
		my ($result) = backup();
		my ($sum, %accounts) = (0);
		for (split /\n/, table_text('public.accounts')) { my ($id, $balance) = split /\t/; $sum += $balance; $accounts{$id}++; }
		my @bookings = map { (split /\t/)[1] } split /\n/, table_text('public.bookings');
		is($sum, 200000, "L16: round $round: the sum is what it always is (" . keys(%accounts) . ' accounts)');
		is(scalar(grep { !$accounts{$_} } @bookings), 0, "L16: round $round: no row without the one it points to");
		is(scalar(split /\n/, table_text('public.filled')), 500, "L16: round $round: a table that is emptied and filled is never empty");
	}
	$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%LOOP%' AND pid <> pg_backend_pid()});
	eval { $_->quit } for @writers;
}

# L17: what was not committed when one backup looked is in the next
{
	$node->sql('CREATE TABLE late (id int PRIMARY KEY)');
	my $open = $node->background_psql('postgres');
	$open->query_safe('BEGIN; INSERT INTO late VALUES (1); SAVEPOINT s; INSERT INTO late VALUES (2); RELEASE s');
	$node->sql(q{BEGIN; INSERT INTO late VALUES (3); PREPARE TRANSACTION 'p'});
	backup();
	is(table_text('public.late'), '', 'L17: not yet');
	$open->query_safe('COMMIT');
	$open->quit;
	$node->sql(q{COMMIT PREPARED 'p'});
	backup();
	is(table_text('public.late'), "1\n2\n3\n", 'L17: then all of it');
}

# L18: changes that write no row
{
	$node->sql(q{CREATE TYPE mood AS ENUM ('bad', 'good'); CREATE TABLE quiet (id int PRIMARY KEY, m mood, r regclass, gone int);
		INSERT INTO quiet VALUES (1, 'bad', 'late', 5)});
	backup();
	$node->sql(q{ALTER TYPE mood RENAME VALUE 'bad' TO 'sad'; ALTER TABLE quiet ADD fresh text DEFAULT 'new'; ALTER TABLE quiet DROP gone; ALTER TABLE late RENAME TO renamed});
	my ($result) = backup();
	is(table_text('public.quiet'), "1\tsad\tpublic.renamed\tnew\n", 'L18: are in the next backup');
	like(git('show', 'HEAD:data/public.quiet/load.sql'), qr/^-- public\.quiet, key: id\n.*COPY public\.quiet \(id, m, r, fresh\) FROM STDIN;$/s, 'L18: with the columns');
	$node->sql('ALTER TABLE quiet ALTER fresh TYPE varchar(10)');
	isnt((backup())[0]->{commit}, $result->{commit}, 'L18: another type is a change');
}

# L21: what is in, what is not, and what is refused
{
	$node->sql(q{CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE away (a int) SERVER far;
		CREATE MATERIALIZED VIEW seen AS SELECT 1 AS a; CREATE VIEW shown AS SELECT 1 AS a;
		CREATE TABLE secret (id int PRIMARY KEY, owner text); INSERT INTO secret SELECT i, 'nobody' FROM generate_series(1, 10) i;
		ALTER TABLE secret ENABLE ROW LEVEL SECURITY; ALTER TABLE secret FORCE ROW LEVEL SECURITY; CREATE POLICY p ON secret USING (owner = current_user);
		CREATE SCHEMA auth; CREATE TABLE auth.mine (a int PRIMARY KEY)});
	my ($result) = backup();
	is(scalar(split /\n/, table_text('public.secret')), 10, 'L21: row level security hides nothing');
	like(git('show', 'HEAD:angles.json'), qr/"left_out": \[\n\["public.away", "foreign table"\],\n\["public.seen", "materialized view"\]\n\]/, 'L21: what is left out is said');
	like($result->{remark}, qr/2 relations are left out/, 'L21: and counted');
	my $paths = git('ls-tree', '-r', '--name-only', 'HEAD');
	unlike($paths, qr{data/(public\.(away|seen|shown)|cron\.|angles\.)}, 'L21: they are not there');
	like($paths, qr{data/auth\.mine}, 'L21: a schema that is called like one of Supabase is a person\'s elsewhere');
	like($paths, qr{config/angles\.links/load\.sql}, 'L21: what angles keeps is there, apart from the rows');
	is(git('log', '--all', '-S', 'ntn_test', '--oneline'), '', 'L21: no token is');
	for my $case ([ 'away', qr/foreign table/ ], [ 'seen', qr/materialized view/ ], [ 'shown', qr/no table/ ], [ 'angles.links', qr/each backup of all tables/ ],
		[ 'pg_catalog.pg_class', qr/belongs to PostgreSQL/ ], [ '4000000000', qr/does not exist/ ])
	{
		$node->fails_with("SELECT * FROM angles.backup(ARRAY['$case->[0]'::regclass])", 'NG403', $case->[1], "L21: $case->[0] is refused by name");
	}
	$node->fails_with('CREATE TEMP TABLE t (a int); SELECT * FROM angles.backup(ARRAY[\'t\'::regclass])', 'NG403', qr/temporary/, 'L21: a temporary table, too');
	$node->sql(q{CREATE ROLE supabase_admin});
	backup();
	unlike(git('ls-tree', '-r', '--name-only', 'HEAD'), qr{data/auth\.mine}, 'L21: where Supabase is, its schemas are left to it');
	$node->sql(q{DROP ROLE supabase_admin; DROP SCHEMA auth CASCADE; DROP EXTENSION postgres_fdw CASCADE; DROP MATERIALIZED VIEW seen});
	backup();
}

# some tables: a branch of their own
{
	my $before = git('rev-parse', 'HEAD');
	$node->sql(q{CREATE TABLE part (id int, k int, PRIMARY KEY (id, k)) PARTITION BY HASH (k); CREATE TABLE part0 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE part1 PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO part SELECT i, i FROM generate_series(1, 100) i});
	my ($result) = backup(q{ARRAY['part', 'quiet', 'part0']::regclass[]}, 'some');
	is($result->{rows}, 101, 'L21: a partitioned table is its partitions, once');
	is(git('rev-parse', 'HEAD'), $before, 'L21: the backups of all tables are as they were');
	is(git('rev-parse', 'refs/heads/angles/postgres/chosen'), $result->{commit}, 'L21: these have a branch of their own');
	is(git('ls-tree', '--name-only', "$result->{commit}:data"), "public.part0\npublic.part1\npublic.quiet", 'L21: with these tables');
}

# whose rights
{
	my $role = 'SELECT * FROM angles.backup()';
	my $undo = q{ALTER ROLE angles_backup LOGIN BYPASSRLS NOSUPERUSER; GRANT pg_read_all_data TO angles_backup; GRANT CONNECT ON DATABASE postgres TO PUBLIC};
	for my $case ([ 'ALTER ROLE angles_backup NOBYPASSRLS', qr/BYPASSRLS/ ], [ 'ALTER ROLE angles_backup SUPERUSER', qr/is a superuser/ ],
		[ 'REVOKE pg_read_all_data FROM angles_backup', qr/pg_read_all_data/ ], [ 'ALTER ROLE angles_backup NOLOGIN', qr/may not log in/ ],
		[ 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', qr/not connect/ ])
	{
		$node->sql($case->[0]);
		$node->fails_with($role, 'NG402', $case->[1], "L21: after $case->[0] it refuses, and says why");
		$node->sql($undo);
	}
	$node->configure('angles.backup_role' => 'nobody');
	$node->fails_with($role, 'NG402', qr/does not exist/, 'L21: a role that is not there');
	$node->sql('CREATE ROLE boss LOGIN SUPERUSER');
	$node->configure('angles.backup_role' => 'boss', 'angles.backup_allow_superuser' => 'on');
	is((backup())[0]->{rows} > 0, 1, 'L21: a superuser when that is allowed');
	$node->configure('angles.backup_role' => undef, 'angles.backup_allow_superuser' => undef);

	$node->sql('CREATE ROLE viewer LOGIN; GRANT angles_viewer TO viewer; CREATE ROLE operator LOGIN; GRANT angles_operator TO operator');
	$node->fails_with("SET ROLE viewer; $role", '42501', undef, 'K1: a viewer makes no backup');
	is($node->sql("SET ROLE operator; SELECT rows > 0 FROM angles.backup()"), 't', 'K1: an operator does, of rows he may not read');
	is($node->sql('SET ROLE viewer; SELECT count(*) > 0 FROM angles.backups'), 't', 'K1: and a viewer sees it');
	$node->fails_with(q{SET ROLE operator; SELECT angles.create_backup_key('/tmp/x')}, '42501', undef, 'K1: an operator makes no key');

	# what a user calls like our functions is not what is called
	$node->sql(q{CREATE FUNCTION public.format(text, VARIADIC "any") RETURNS text LANGUAGE internal IMMUTABLE AS 'text_format';
		ALTER ROLE angles_backup SET search_path = public; ALTER ROLE angles_backup SET "DateStyle" = 'German'; ALTER ROLE angles_backup SET statement_timeout = 1;
		ALTER ROLE angles_backup SET row_security = on; ALTER ROLE angles_backup SET default_transaction_read_only = on});
	like((backup())[0]->{remark}, qr/^equal/, 'L24: settings of the role change nothing');
}

# odd ways to ask
{
	$node->fails_with('BEGIN; SELECT * FROM angles.backup()', 'NG006', undef, 'L21: not inside a transaction');
	is($node->sql('BEGIN; SELECT count(*) FROM angles.backup(wait => false); ROLLBACK'), 1, 'L21: unless nobody waits');
	$node->fails_with('SELECT * FROM angles.backup(ARRAY[]::regclass[])', '22023', undef, 'L21: no table at all');
	$node->fails_with('SELECT * FROM angles.backup(ARRAY[NULL]::regclass[])', '22023', undef, 'L21: a null for a table');
	is($node->sql('SELECT count(*) FROM angles.backup(NULL, NULL, NULL)'), 1, 'L21: null arguments are none');
	$node->fails_with(q{SELECT * FROM angles.request_rows('backup', '{"tables": ["x"]}')}, '22023', undef, 'L21: something else for a table');
	$node->fails_with(q{SELECT * FROM angles.request_rows('backup', '[]')}, '22023', undef, 'L21: or for the arguments');
	is($node->sql(q{SELECT commit = (SELECT commit FROM angles.backups WHERE whole ORDER BY time DESC LIMIT 1) FROM (SELECT (result->0)->>'commit' AS commit FROM angles.runs
		WHERE task = 'backup' AND state = 'succeeded' ORDER BY id DESC LIMIT 1) r}), 't', 'L21: the run knows its commit');
	my $out = $node->sql(q{CALL angles.run('backup', '{"message": "called"}')});
	like($out, qr/"commit"/, 'L21: CALL, too');
	$node->configure('angles.max_workers' => 0);
	$node->fails_with('SELECT * FROM angles.backup()', 'NG002', qr/max_workers/, 'L21: no job may run');
	$node->configure('angles.max_workers' => undef);
	$node->sql(q{UPDATE quiet SET fresh = E'a\nb'});
	backup(undef, q{Zeile 1 äöü
--amend "$(rm)"});
	like(git('log', '-1', '--format=%B'), qr/^Zeile 1 äöü\n--amend "\$\(rm\)"\n/, 'L21: a message is what it is');
}

# what somebody relies on, and backups cannot do yet, is not passed over
{
	$node->sql('CREATE TABLE people (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
		CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (0) TO (10);');
	$node->sql("SELECT angles.backup_policy('people', 'email', 'hash')");
	$node->fails_with('SELECT * FROM angles.backup()', '0A000', qr/people_1 has policy "hash"/, 'L27: a policy that would not be followed stops the backup');
	is($node->sql("SELECT count(*) FROM angles.backup(ARRAY['accounts']::regclass[])"), 1, 'L27: of that table only');
	$node->sql("SELECT angles.backup_policy('people', 'email', NULL)");
	is($node->sql('SELECT count(*) FROM angles.backup()'), 1, 'L27: until it is taken away');
}

done_testing();
