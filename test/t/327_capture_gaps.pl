# 327_capture_gaps.pl
#	Scenarios A6, A9, A13: changes that no trigger of a single row reports, or not in the order in which
#	they happened: TRUNCATE among other changes, partitions that come and go.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

# Returns the live pages of a table as "id:n ...", in the order of ids.
sub held
{
	my ($table) = @_;
	return join(' ', map { "$_->{id}:$_->{n}" }
		sort { $a->{id} <=> $b->{id} } pages($node, $sim, $table));
}

# A9: what happened to a key before TRUNCATE says nothing about what happened to it after
{
	$node->sql(q{
		CREATE TABLE emptied (id int PRIMARY KEY, title text, n int);
		INSERT INTO emptied SELECT g, 'row ' || g, g FROM generate_series(1, 3) g});
	link_table($node, 'emptied');
	$node->sql(q{BEGIN; UPDATE emptied SET n = 10 WHERE id = 1; TRUNCATE emptied;
		INSERT INTO emptied VALUES (1, 'back', 20); COMMIT});
	drained($node);
	is(held('emptied'), '1:20 2:2 3:3', 'A9: a row that is made again after TRUNCATE is sent');
	is($node->sql('SELECT count(*) FROM angles.held_deletes'), 2,
		'A9: and its page is not among those that wait for approval');
}

# A6: partitions come and go with their rows
{
	my $root = '"My Schema"."Root"';
	$node->sql(q{
		CREATE SCHEMA "My Schema";
		CREATE TABLE "My Schema"."Root" (id int PRIMARY KEY, title text, n int) PARTITION BY RANGE (id);
		CREATE TABLE "My Schema"."P 1" PARTITION OF "My Schema"."Root" FOR VALUES FROM (0) TO (10);
		CREATE TABLE "My Schema".p2 PARTITION OF "My Schema"."Root" FOR VALUES FROM (10) TO (20);
		CREATE TABLE "My Schema".mid PARTITION OF "My Schema"."Root" FOR VALUES FROM (20) TO (40)
			PARTITION BY RANGE (id);
		CREATE TABLE "My Schema".leaf PARTITION OF "My Schema".mid FOR VALUES FROM (20) TO (30);
		CREATE TABLE other (id int);
		INSERT INTO "My Schema"."Root" SELECT g, 'row ' || g, g FROM generate_series(1, 30, 10) g});
	link_table($node, $root);
	is(held($root), '1:1 11:11 21:21', 'A6: a table with partitions below partitions is linked');

	# Runs statements of their own each, and returns what is held after a compare.
	my $after = sub {
		$node->sql($_) foreach @_;
		compared($node, $root);
		return held($root);
	};
	my $started = sub { $node->sql("SELECT push_started_at FROM angles.links WHERE relid = '$root'::regclass") };

	# ATTACH
	my $table = q{CREATE TABLE came (id int PRIMARY KEY, title text, n int);
		INSERT INTO came VALUES (50, 'row', 50), (51, 'row', 51)};
	is($after->($table, qq{ALTER TABLE $root ATTACH PARTITION came FOR VALUES FROM (50) TO (60)}),
		'1:1 11:11 21:21 50:50 51:51', 'A6: rows of an attached partition are sent');
	is($after->(q{CREATE TABLE deep (id int PRIMARY KEY, title text, n int); INSERT INTO deep VALUES (31, 'row', 31)},
			q{DO 'BEGIN ALTER TABLE "My Schema".mid ATTACH PARTITION deep FOR VALUES FROM (30) TO (40); END'}),
		'1:1 11:11 21:21 31:31 50:50 51:51', 'A6: of one that is attached further below, in a DO block');

	# what needs no compare
	{
		my $before = $started->();
		$node->sql(qq{CREATE TABLE empty_1 PARTITION OF $root FOR VALUES FROM (60) TO (70);
			CREATE TABLE empty_2 (LIKE empty_1 INCLUDING ALL);
			ALTER TABLE $root ATTACH PARTITION empty_2 FOR VALUES FROM (70) TO (80);
			ALTER TABLE $root DETACH PARTITION empty_2;
			CREATE INDEX ON $root (n);
			DROP TABLE empty_1, empty_2});
		$node->sql('TRUNCATE other; DROP TABLE IF EXISTS other_there_is_not');
		$node->sql(qq{BEGIN; TRUNCATE "My Schema"."P 1"; ROLLBACK});
		$node->sql(qq{BEGIN; SAVEPOINT a; ALTER TABLE $root DETACH PARTITION came; ROLLBACK TO a; COMMIT});
		isnt($node->psql('postgres', qq{TRUNCATE "My Schema"."P 1", other_there_is_not}), 0, 'a command fails');
		$node->sql(qq{SET angles.sync = off; TRUNCATE "My Schema"."P 1"});
		$node->sql(qq{SET angles.sync = off; INSERT INTO $root VALUES (1, 'row 1', 1)});
		compared($node, $root);
		is($started->(), $before, 'A6: nothing is compared for empty partitions, failed commands, angles.sync = off');
	}

	# DETACH, TRUNCATE, DROP
	my $before = $sim->ledger;
	is($after->(qq{ALTER TABLE $root DETACH PARTITION came}), '1:1 11:11 21:21 31:31',
		'A6: pages of a detached partition go');
	is(scalar(grep { $_->{body}{in_trash} } writes($sim, $before)), 2, 'A6: to the trash');
	is($after->(qq{ALTER TABLE $root ATTACH PARTITION came FOR VALUES FROM (50) TO (60)}),
		'1:1 11:11 21:21 31:31 50:50 51:51', 'A6: and are back when it is attached again');
	is($after->(qq{ALTER TABLE $root DETACH PARTITION came CONCURRENTLY}), '1:1 11:11 21:21 31:31',
		'A6: DETACH CONCURRENTLY');
	is($after->(qq{TRUNCATE "My Schema"."P 1", other}), '11:11 21:21 31:31', 'A6: TRUNCATE of a partition');
	is($after->(qq{ALTER TABLE $root DETACH PARTITION "My Schema".mid}), '11:11',
		'A6: DETACH of a partition that has partitions');
	is($after->(qq{DROP TABLE IF EXISTS nowhere, "My Schema".p2}), '', 'A6: DROP of a partition');
	is($after->(qq{BEGIN; INSERT INTO $root VALUES (2, 'row', 2); ALTER TABLE $root DETACH PARTITION "My Schema"."P 1";
			CREATE TABLE p1 PARTITION OF $root FOR VALUES FROM (0) TO (10);
			INSERT INTO $root VALUES (3, 'row', 3); COMMIT}), '3:3', 'A6: beside changes of rows');

	# TRUNCATE of the whole table waits for a person, its partitions ask for nothing besides
	my $then = $started->();
	$node->sql("TRUNCATE $root");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.held_deletes WHERE \"table\" = '$root'::regclass",
		'A9: TRUNCATE of a partitioned table is a held mass delete');
	compared($node, $root);
	is($started->(), $then, 'A9: and nothing is compared');
	is(held($root), '3:3', 'A9: nor trashed');

	is($node->psql('postgres', "DROP TABLE $root"), 0, 'A6: the linked table itself can be dropped');
	$node->sql('UPDATE emptied SET n = 21 WHERE id = 1');
	wait_for(sub { held('emptied') =~ /1:21/ }, 'A6: and the others go on');
}

# A6: a row that comes together with its partition: the commit may be seen before its invalidations
{
	$node->sql('CREATE TABLE daily (day int, title text, PRIMARY KEY (day)) PARTITION BY LIST (day)');
	link_table($node, 'daily');
	$node->sql("BEGIN; CREATE TABLE daily_$_ PARTITION OF daily FOR VALUES IN ($_); INSERT INTO daily VALUES ($_, 'x'); COMMIT")
		foreach 1 .. 40;
	drained($node);
	is(scalar(pages($node, $sim, 'daily')), 40, 'A6: the first row of each of 40 new partitions is sent');
}

# Runs a statement that must go well, and returns what the server said besides.
sub said
{
	my ($sql, $name) = @_;
	my $err;
	is($node->psql('postgres', $sql, stderr => \$err, on_error_stop => 1), 0, $name) or diag($err);
	return $err;
}

# A13: not even the mark of a failed capture can be left
{
	my $marks = $node->data_dir . '/angles';
	my $aside = $node->data_dir . '/angles_aside';
	rename($marks, $aside);
	open(my $file, '>', $marks) or die $!;
	close($file);
	$node->sql('ALTER TABLE angles.change_log_0 RENAME TO away');
	like(said('UPDATE emptied SET n = 22 WHERE id = 1', 'A13: no place for a mark: the transaction goes on'),
		qr/could not capture.*could not even be marked/s, 'A13: and warns of it');
	unlink($marks);
	like(said('UPDATE emptied SET n = 23 WHERE id = 1', 'A13: the place for marks is made anew'),
		qr/could not capture.*are marked/s, 'A13: and used');
	$node->sql('ALTER TABLE angles.away RENAME TO change_log_0');
	wait_for(sub { held('emptied') =~ /1:23/ }, 'A13: the compare that it asks for sends the change');
	drained($node);
}

# A1, A3: many keys of one transaction share rows of the log, and are written before the commit; what is
# rolled back is not in it, whatever subtransaction wrote it
{
	$node->sql('CREATE TABLE many (id text PRIMARY KEY, title text, n int)');
	link_table($node, 'many');
	$node->sql("SELECT angles.pause('many')");
	my $worker = $node->wait_worker('sync');
	my $memory = "SELECT COALESCE(sum(total_bytes), 0) FROM pg_backend_memory_contexts WHERE name = 'angles changes'";

	# Compares the keys that a transaction leaves in the log with those of the table. Returns the number of
	# rows that they have there; the transaction's memory must be small at its end.
	my $check = sub {
		my ($name, $sql) = @_;
		my $log = join(' UNION ALL ', map { "SELECT op FROM angles.change_log_$_" } 0 .. 3);
		my ($used) = $node->sql("BEGIN; $sql; $memory; COMMIT") =~ /(\d+)\s*\z/;
		cmp_ok($used, '<', 1e6, "A3: $name: what a transaction keeps in memory is bounded");
		is($node->sql('SELECT count(*) FROM (SELECT id FROM many EXCEPT SELECT key FROM angles.change_log) x'), 0,
			"A1: $name: every row is captured");
		is($node->sql("SELECT count(*) FROM (SELECT key FROM angles.change_log EXCEPT SELECT id FROM many) x"), 0,
			"A1: $name: and nothing else");
		is($node->sql('SELECT count(*) - count(DISTINCT (id, ord)) FROM angles.change_log'), 0,
			"A1: $name: in a clear order");
		my $rows = $node->sql("SELECT count(*) FROM ($log) x");
		$node->sql(join(';', 'SET angles.sync = off; DELETE FROM many', map { "DELETE FROM angles.change_log_$_" } 0 .. 3));
		return $rows;
	};
	my $insert = sub {
		my ($mark, $n) = @_;
		return "INSERT INTO many SELECT '$mark' || g || repeat('x', g % 50) FROM generate_series(1, $n) g";
	};
	# one subtransaction for each row, in another one, of which some are rolled back
	my $loop = sub {
		my ($mark) = @_;
		return qq{DO \$\$ BEGIN FOR i IN 1..20000 LOOP
			BEGIN
				INSERT INTO many VALUES ('$mark outer ' || i);
				BEGIN
					INSERT INTO many VALUES ('$mark inner ' || i);
					IF i % 5 = 0 THEN RAISE division_by_zero; END IF;
				EXCEPTION WHEN division_by_zero THEN NULL;
				END;
				IF i % 7 = 0 THEN RAISE division_by_zero; END IF;
			EXCEPTION WHEN division_by_zero THEN NULL;
			END;
		END LOOP; END \$\$};
	};

	kill('STOP', $worker);
	cmp_ok($check->('one statement', $insert->('', 40000)), '<', 2000, 'A3: keys share rows');
	$check->('savepoints', join(';', $insert->('a', 500), 'SAVEPOINT a', $insert->('b', 30000), 'ROLLBACK TO a',
		$insert->('c', 30000), 'RELEASE a', 'SAVEPOINT b', $insert->('d', 30000), 'SAVEPOINT c',
		$insert->('e', 30000), 'RELEASE c', 'ROLLBACK TO b', $insert->('f', 500)));
	$check->('subtransactions for each row', $loop->('one'));
	$check->('the same in savepoints', join(';', $insert->('a', 500), 'SAVEPOINT a', $loop->('two'), 'ROLLBACK TO a',
		$loop->('three'), 'SAVEPOINT b', $insert->('b', 500), $loop->('four'), 'RELEASE b', $insert->('c', 500)));

	# one change after the other of the same keys: the last one counts
	$node->sql(q{BEGIN; INSERT INTO many SELECT g FROM generate_series(1, 3000) g;
		UPDATE many SET n = 1; UPDATE many SET n = 2; DELETE FROM many WHERE id::int % 2 = 0;
		INSERT INTO many SELECT g FROM generate_series(1, 3000) g WHERE g % 4 = 0;
		UPDATE many SET id = 'k' || id WHERE id::int % 8 = 0; DELETE FROM many WHERE id LIKE 'k%0'; COMMIT});
	is($node->sql(q{SELECT count(*) FROM (SELECT DISTINCT ON (key) key, op FROM angles.change_log
			WHERE op <> 'K' ORDER BY key, id DESC, ord DESC) l
			FULL JOIN many m ON m.id = l.key WHERE (l.op = 'T') IS DISTINCT FROM (m.id IS NOT NULL)
				AND NOT (m.id IS NULL AND l.key::text IN (SELECT key FROM angles.change_log WHERE op = 'K'))}), 0,
		'A3: the last change of each key is the last one logged');
	is($node->sql(q{SELECT count(*) FROM angles.change_log WHERE op = 'K' AND new_key = 'k' || key}), 375,
		'A7: changed keys are logged with both');
	cmp_ok($node->sql(q{SELECT count(*) FROM angles.change_log WHERE op = 'T' AND key !~ 'k'}), '<=', 3000 * 2 + 750,
		'A3: the second UPDATE is not logged');
	kill('CONT', $worker);

	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'A3: the log is folded');
	$node->sql($insert->('z', 40000));
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'A3: the log is folded');
	is($node->sql(q{SELECT count(*) FROM many m FULL JOIN angles.queue q
			ON q.key = m.id AND q."table" = 'many'::regclass
			WHERE (m.id IS NULL OR q.key IS NULL) AND COALESCE(m.id, q.key) LIKE 'z%'}), 0,
		'A3: every key is in the queue');
}

# A13: what was captured for an extension that the same transaction drops is wanted by nobody
{
	is(said(q{BEGIN; INSERT INTO emptied VALUES (9, 'last', 9); DROP EXTENSION angles; COMMIT},
			'A13: a change and DROP EXTENSION in one transaction'), '', 'A13: nothing is said');
	is(join(' ', glob($node->data_dir . '/angles/reconcile_*')), '', 'A13: no mark is left');
	is($node->sql('SELECT count(*) FROM emptied WHERE id = 9'), 1, 'A13: the change is committed');
}

done_testing();
