# 300_capture.pl
#	Scenarios A: what a committed transaction leaves for Notion, whatever way it changed the rows.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

$node->sql(q{
	CREATE TABLE t (id int PRIMARY KEY, title text, n int, hidden text);
	INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, 3) g});
link_table($node, 't', q{mapping => '{"hidden": null}'});
is(live_keys($node, $sim, 't'), '1 2 3', 'A11: the rows that were there are pages');

sub since
{
	my ($sql) = @_;
	my $before = $sim->ledger;
	$node->sql($sql);
	drained($node);
	return writes($sim, $before);
}

# A1
{
	my @w = since(q{
		BEGIN; INSERT INTO t VALUES (10, 'gone', 1); ROLLBACK;
		BEGIN; SAVEPOINT a; INSERT INTO t VALUES (11, 'gone', 1); UPDATE t SET n = 99 WHERE id = 1;
		ROLLBACK TO a; INSERT INTO t VALUES (12, 'kept', 1); COMMIT});
	is(scalar @w, 1, 'A1: only what was not rolled back is sent');
	is($w[0]{method}, 'POST', 'A1: the row of the surviving part');
	my $nested = join(' ', map { "SAVEPOINT s$_; INSERT INTO t VALUES (100 + $_, 'n', 0);" } 1 .. 5);
	@w = since("BEGIN; $nested ROLLBACK TO s3; RELEASE s2; INSERT INTO t VALUES (110, 'n', 0); COMMIT");
	is(scalar @w, 3, 'A1: nested savepoints, partly rolled back');
	is(live_keys($node, $sim, 't'), '1 101 102 110 12 2 3', 'A1: the pages are the rows');
}

# A2
{
	my $before = $sim->ledger;
	my $early = $node->background_psql('postgres');
	$early->query_safe("BEGIN; UPDATE t SET n = 1000 WHERE id = 1");
	$node->sql("UPDATE t SET n = 2000 WHERE id = 2");
	wait_for(sub { scalar(writes($sim, $before)) == 1 }, 'A2: the later transaction goes first');
	$early->query_safe("COMMIT");
	$early->quit;
	wait_for(sub { scalar(writes($sim, $before)) == 2 }, 'A2: the one that began before is not lost');
}

# A3
{
	$node->sql("SELECT angles.pause('t')");
	my $before = $sim->ledger;
	$node->sql("DO 'BEGIN FOR i IN 1..500 LOOP UPDATE t SET n = i WHERE id = 3; END LOOP; END'");
	my $oldest = $node->sql("SELECT enqueued_at FROM angles.queue WHERE key = '3'");
	$node->sql("UPDATE t SET n = n + 1 WHERE id = 3;") for 1 .. 50;
	$node->wait_sql("SELECT count(*) = 0 FROM angles.change_log", 'A3: the log is folded');
	is($node->sql("SELECT enqueued_at FROM angles.queue WHERE key = '3'"), $oldest,
		'A3: the entry keeps the time of its first change');
	$node->sql("SELECT angles.resume('t')");
	drained($node);
	my @w = writes($sim, $before);
	is(scalar @w, 1, 'A3: 550 updates are one PATCH');
	is((values %{ $w[0]{body}{properties} })[0]{number}, 550, 'A3: with the final value');
}

# A4, A5
is(scalar since("UPDATE t SET n = n, title = title"), 0, 'A4: an update that changes nothing sends nothing');
is(scalar since("UPDATE t SET hidden = 'x'"), 0, 'A5: nor one of a column that is not mapped');
is(scalar since("BEGIN; UPDATE t SET n = 7 WHERE id = 3; UPDATE t SET n = 550 WHERE id = 3; COMMIT"), 0,
	'A4: nor one that comes back to the old value');

# A7
{
	$node->sql(q{
		CREATE TABLE child (id int PRIMARY KEY, title text,
			parent int REFERENCES t ON UPDATE CASCADE ON DELETE CASCADE);
		INSERT INTO child VALUES (1, 'c1', 1), (2, 'c2', 1)});
	link_table($node, 'child');
	my ($page) = grep { $_->{id} eq '1' } pages($node, $sim, 't');
	my @w = since("UPDATE t SET id = 500 WHERE id = 1");
	my ($moved) = grep { $_->{id} eq '500' } pages($node, $sim, 't');
	is($moved->{_id}, $page->{_id}, 'A7: a new primary key keeps the page');
	is(scalar(grep { $_->{method} eq 'POST' } @w), 0, 'A7: nothing is made anew');
	is((pages($node, $sim, 'child'))[0]{parent}, $page->{_id}, 'A7: children still point to it');
	@w = since("BEGIN; UPDATE t SET id = 501 WHERE id = 500; UPDATE t SET id = 502 WHERE id = 501; "
		. "INSERT INTO t VALUES (500, 'new', 1); COMMIT");
	($moved) = grep { $_->{id} eq '502' } pages($node, $sim, 't');
	is($moved->{_id}, $page->{_id}, 'A7: a chain of keys ends at the right page');
	is(scalar(grep { $_->{method} eq 'POST' } @w), 1, 'A7: a new row under the old key has its own');
}

# A8
{
	my $before = $sim->ledger;
	$node->sql("DELETE FROM t WHERE id = 502");
	drained($node);
	my @w = writes($sim, $before);
	is(scalar(grep { $_->{body}{in_trash} } @w), 3, 'A8: parent and children go to the trash');
	is(live_keys($node, $sim, 'child'), '', 'A8: no child is left');
}

# A11
{
	my @w = since(q{
		INSERT INTO t VALUES (2, 'x', 5), (600, 'y', 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n + 1;
		MERGE INTO t USING (VALUES (600, 5), (601, 6)) v (id, n) ON t.id = v.id
			WHEN MATCHED THEN UPDATE SET n = v.n WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'm', v.n);
		COPY t (id, title) FROM PROGRAM 'printf "700\tcopied\n"'});
	my %rows = map { $_->{id} => $_ } pages($node, $sim, 't');
	is($rows{2}{n}, 6, 'A11: INSERT ON CONFLICT');
	is($rows{600}{n}, 5, 'A11: MERGE, matched');
	is($rows{601}{n}, 6, 'A11: MERGE, not matched');
	is($rows{700}{title}, 'copied', 'A11: COPY');
}

# A10
{
	my @w = since("SET session_replication_role = replica; UPDATE t SET n = 77 WHERE id = 2");
	is(scalar @w, 1, 'A10: a change in replica mode is captured by default');
	$node->configure('angles.capture_replica' => 'off');
	@w = since("SET session_replication_role = replica; UPDATE t SET n = 78 WHERE id = 2");
	is(scalar @w, 0, 'A10: and not with angles.capture_replica = off');
	$node->configure('angles.capture_replica' => undef);
}

# A12
{
	my $before = $sim->ledger;
	$node->sql("BEGIN; UPDATE t SET n = 12 WHERE id = 2; PREPARE TRANSACTION 'x'");
	is(scalar(writes($sim, $before)), 0, 'A12: a prepared transaction sends nothing');
	$node->sql("COMMIT PREPARED 'x'");
	wait_for(sub { scalar(writes($sim, $before)) == 1 }, 'A12: COMMIT PREPARED by another session does');
	drained($node);
}

# A9
{
	my $before = $sim->ledger;
	my $rows = $node->sql("SELECT count(*) FROM t");
	$node->sql("TRUNCATE t CASCADE");
	$node->wait_sql("SELECT count(*) > 0 FROM angles.held_deletes", 'A9: TRUNCATE is a held mass delete');
	is($node->sql("SELECT count(*) FROM angles.held_deletes"), $rows, 'A9: of all pages');
	is(scalar(writes($sim, $before)), 0, 'A9: nothing is trashed by itself');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL AND severity = 'critical'"), 1,
		'A9: a person is told');
	$node->sql("INSERT INTO t VALUES (2, 'back', 1)");
	wait_for(sub { scalar(writes($sim, $before)) == 1 }, 'A9: a row that comes back keeps its page');
	$node->sql("SELECT angles.approve('t')");
	wait_for(sub { live_keys($node, $sim, 't') eq '2' }, 'A9: an approval sends the deletions');
}

done_testing();
