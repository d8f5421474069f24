# 331_stuck.pl
#	What concerns one row, one table or one session stops nothing else: rows that cannot be read, rows
#	that wait for what never comes, sessions that keep a transaction open.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.retry_cap' => '500ms', 'angles.retry_initial' => '100ms' });

sub lock_timeouts
{
	my @found = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~
		/canceling statement due to lock timeout/g;
	return scalar @found;
}

# F8: a filter that fails for one row parks that row; its neighbours are sent
{
	$node->sql('CREATE TABLE f (id int PRIMARY KEY, title text, v int)');
	link_table($node, 'f', "filter => '100 / v > 1'");
	$node->sql("INSERT INTO f SELECT g, 'x', CASE WHEN g IN (7, 12) THEN 0 ELSE 1 END FROM generate_series(1, 20) g");
	drained($node);
	is(scalar(pages($node, $sim, 'f')), 18, 'F8: the rows that the filter can decide about are sent');
	is($node->sql("SELECT string_agg(key, ' ' ORDER BY key) FROM angles.parked WHERE message ~ 'division by zero'"),
		'12 7', 'F8: the others are parked with the reason');
	$node->sql('UPDATE f SET v = 1 WHERE id = 7');
	drained($node);
	is(scalar(pages($node, $sim, 'f')), 19, 'F8: a corrected row is sent by itself');
	$node->sql("INSERT INTO f VALUES (21, 'x', 0)");
	$node->wait_sql("SELECT count(*) = 2 FROM angles.parked", 'F8: a bad row that comes alone is parked too');
}

# H5: the same in a first push
{
	$node->sql("CREATE TABLE g (id int PRIMARY KEY, title text, v int);
		INSERT INTO g SELECT g, 'x', 1 FROM generate_series(1, 10) g");
	link_table($node, 'g', "filter => '100 / v > 1'");
	$node->sql("ALTER TABLE g DISABLE TRIGGER angles_capture;
		INSERT INTO g SELECT g, 'x', CASE g WHEN 17 THEN 0 ELSE 1 END FROM generate_series(11, 20) g;
		ALTER TABLE g ENABLE ALWAYS TRIGGER angles_capture; SELECT angles.reconcile('g')");
	compared($node, 'g');
	is(scalar(pages($node, $sim, 'g')), 19, 'H5: a push of all rows goes on past a row whose filter fails');
	is($node->sql("SELECT key FROM angles.parked WHERE \"table\" = 'g'::regclass"), '17', 'H5: which is parked');
}

# F8: a filter that never ends
{
	$node->configure('angles.row_read_timeout' => '300ms');
	$node->sql("CREATE FUNCTION stuck(int) RETURNS boolean LANGUAGE plpgsql
			AS 'BEGIN IF \$1 = 2 THEN PERFORM pg_catalog.pg_sleep(3600); END IF; RETURN true; END';
		CREATE TABLE h (id int PRIMARY KEY, title text)");
	link_table($node, 'h', "filter => 'public.stuck(id)'");
	my @pid = $node->worker_pids('sync');
	$node->sql("INSERT INTO h SELECT g, 'x' FROM generate_series(1, 4) g");
	drained($node);
	is(live_keys($node, $sim, 'h'), '1 3 4', 'F8: a row that takes for ever to read holds up nobody');
	like($node->sql("SELECT message FROM angles.parked WHERE key = '2'"), qr/longer than 300 ms/, 'F8: it is parked');
	is(join(' ', $node->worker_pids('sync')), "@pid", 'F8: by the same worker');
	$node->configure('angles.row_read_timeout' => undef);
	$node->sql("SELECT angles.unlink('h')");
}

# G2: a circle of many rows
{
	$node->sql('CREATE TABLE ring (id int PRIMARY KEY, title text,
		next int REFERENCES ring DEFERRABLE INITIALLY DEFERRED)');
	link_table($node, 'ring');
	$node->sql("INSERT INTO ring SELECT g, 'x', g % 300 + 1 FROM generate_series(1, 300) g");
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue WHERE \"table\" = 'ring'::regclass", 'G2: a ring of 300 rows is sent');
	my @rows = pages($node, $sim, 'ring');
	is(scalar @rows, 300, 'G2: with a page each');
	is(scalar(grep { $_->{next} } @rows), 300, 'G2: and a relation each');
}

# G2: a parent that ends in the first part of a large claim, its children in later ones
{
	$node->sql('CREATE TABLE tree (id int PRIMARY KEY, title text, parent int REFERENCES tree, act boolean DEFAULT true)');
	link_table($node, 'tree', "filter => 'act'");
	$node->sql("SELECT angles.pause('tree')");
	$node->sql("INSERT INTO tree VALUES (1, 'out', NULL, false);
		INSERT INTO tree SELECT g, 'child', 1, true FROM generate_series(2, 500) g");
	$node->wait_sql("SELECT count(*) = 500 FROM angles.queue WHERE state = 'ready'", 'the tree is queued');
	$node->sql("SELECT angles.resume('tree')");
	wait_for(sub { scalar(pages($node, $sim, 'tree')) == 499 }, 'G2: children of a row that is not sent are, in any part of a claim', 60);
	$node->sql("SELECT angles.unlink('tree')");
}

# G1: rows that wait for a table that is unlinked, or for a row outside the filter
{
	$node->sql('CREATE TABLE p (id int PRIMARY KEY, title text, act boolean DEFAULT true);
		CREATE TABLE c (id int PRIMARY KEY, title text, p int REFERENCES p)');
	link_table($node, 'p', "filter => 'act'");
	link_table($node, 'c');
	$node->sql("INSERT INTO p VALUES (1, 'out', false); INSERT INTO c VALUES (1, 'c', 1)");
	$node->wait_sql("SELECT state = 'waiting' AND class = 'relation' FROM angles.queue
		WHERE \"table\" = 'c'::regclass", 'G1: a row is sent without the relation to a row that is not');
	is(live_keys($node, $sim, 'c'), '1', 'G1: it has its page');
	$node->sql("UPDATE angles.queue_entries SET enqueued_at = now() - interval '1 hour'");
	like($node->sql("SELECT state || ' ' || detail FROM angles.status WHERE item = 'unsent changes'"),
		qr/^ok .*1 relations/, 'G1: an open relation is no unsent change');
	$node->sql("UPDATE p SET title = 'still out' WHERE id = 1");
	drained($node);
	$node->sql('UPDATE p SET act = true WHERE id = 1');
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue WHERE \"table\" = 'c'::regclass", 'G1: it ends when the row is sent');
	is((pages($node, $sim, 'c'))[0]{p}, (pages($node, $sim, 'p'))[0]{_id}, 'G1: with the relation');

	$node->sql("SELECT angles.pause('p')");
	$node->sql("BEGIN; INSERT INTO p VALUES (2, 'p'); INSERT INTO c VALUES (2, 'c', 2); COMMIT");
	$node->wait_sql("SELECT state = 'waiting' FROM angles.queue WHERE \"table\" = 'c'::regclass", 'the child waits');
	$node->sql("SELECT angles.unlink('p')");
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue WHERE state <> 'parked'", 'G1: unlink of the referenced table frees who waits for it');
	is(live_keys($node, $sim, 'c'), '1 2', 'G1: and it is sent');
	$node->sql("SELECT angles.link('p', filter => 'act')");
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'p'::regclass", 'p is linked again');
	drained($node);
	is(live_keys($node, $sim, 'p'), '1 2', 'G1: nothing is lost by unlink and link');
}

# J7: sessions that keep a transaction open
{
	$node->sql('CREATE TABLE a (id int PRIMARY KEY, title text); CREATE TABLE b (id int PRIMARY KEY, title text)');
	link_table($node, 'a');
	link_table($node, 'b');
	my @pid = $node->worker_pids('sync');
	my $before = lock_timeouts();
	my $n = 0;
	foreach my $call ("angles.unlink('a')", "angles.pause('a')", "angles.reconcile('a')", "angles.approve('a')",
		"angles.alter_link('a', filter => 'true')")
	{
		$node->sql("SELECT angles.pause('a')");
		$node->sql("INSERT INTO a VALUES (" . ++$n . ", 'a')");
		$node->wait_sql("SELECT count(*) > 0 FROM angles.queue WHERE state = 'ready'", "$call: a row is queued");
		$node->sql("SELECT angles.resume('a')") unless $call =~ /alter/;
		my $open = $node->background_psql('postgres');
		$open->query_safe('SET client_min_messages = error; BEGIN');
		$open->query("SELECT count(*) FROM (SELECT $call) x");
		# a wish that the worker would write into the row of the link; longer than any lock_timeout
		my $end = now_ms() + 3000;
		while (now_ms() < $end)
		{
			$node->sql("INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, at)
				SELECT nextval('angles.change_log_seq'), 0, id, 'R', '', now() FROM angles.links WHERE relid = 'a'::regclass;
				SELECT angles.wake()");
			$node->sql("INSERT INTO b VALUES (" . ++$n . ", 'b')");
			wait_for(sub { grep { $_->{id} == $n } pages($node, $sim, 'b') }, "J7: $call in an open transaction: b goes on");
		}
		$open->query_safe('ROLLBACK');
		$open->quit;
		$node->sql("SELECT angles.resume('a')");
		drained($node);
	}
	is(join(' ', $node->worker_pids('sync')), "@pid", 'J7: the worker lived through all of them');
	is(lock_timeouts(), $before, 'J7: and waited for no lock in vain');
}

# H5: a large transaction stands behind single edits
{
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 10000, action => 'delay', ms => 100 });
	$node->sql("INSERT INTO b SELECT g, 'bulk' FROM generate_series(10001, 10600) g");
	$node->wait_sql("SELECT count(*) > 400 FROM angles.queue", 'the bulk is queued');
	$node->sql("INSERT INTO a VALUES (9999, 'edit')");
	wait_for(sub { live_keys($node, $sim, 'a') =~ /\b9999\b/ }, 'H5: an edit overtakes 600 rows of one transaction');
	cmp_ok($node->sql("SELECT count(*) FROM angles.queue WHERE \"table\" = 'b'::regclass"), '>', 300, 'H5: most of which wait');
	$sim->clear_faults;
	drained($node);
}

# F8: a filter that catches every cancel and goes on
{
	$node->configure('angles.row_read_timeout' => '300ms');
	$node->sql("CREATE FUNCTION stubborn(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN WHILE \$1 = 2 LOOP
			BEGIN PERFORM pg_catalog.pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
			RETURN true; END';
		CREATE TABLE k (id int PRIMARY KEY, title text)");
	link_table($node, 'k', "filter => 'public.stubborn(id)'");
	$node->sql("INSERT INTO k VALUES (1, 'x'), (2, 'x')");
	$node->wait_sql("SELECT paused FROM angles.links WHERE relid = 'k'::regclass", 'F8: its link is paused', 60);
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL AND hint LIKE '%resume(''public.k'')%'"), 1,
		'F8: an alert tells how to go on');
	$node->sql("INSERT INTO b VALUES (20001, 'b')");
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue WHERE \"table\" = 'b'::regclass", 'b is drained');
	like(live_keys($node, $sim, 'b'), qr/\b20001\b/, 'F8: a filter that cannot be cancelled stops no other table');
	$node->sql("CREATE OR REPLACE FUNCTION stubborn(int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		SELECT angles.resume('k')");
	drained($node, 60);
	is(live_keys($node, $sim, 'k'), '1 2', 'F8: corrected and resumed, it goes on');
	$node->wait_sql("SELECT count(*) = 0 FROM angles.alerts WHERE closed_at IS NULL AND fingerprint LIKE 'killer%'",
		'F8: the alert is closed');
}

# G2: a circle of rows is broken while other rows go on all the time
{
	$node->sql(q{CREATE TABLE ca (id int PRIMARY KEY, title text, b int);
		CREATE TABLE cb (id int PRIMARY KEY, title text, a int REFERENCES ca DEFERRABLE INITIALLY DEFERRED);
		ALTER TABLE ca ADD FOREIGN KEY (b) REFERENCES cb DEFERRABLE INITIALLY DEFERRED});
	link_table($node, 'ca');
	link_table($node, 'cb');
	$node->sql("SELECT count(*) FROM angles.alter_link('ca')");
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'ca'::regclass", 'the other relation');
	drained($node);
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 100000, action => 'delay', ms => 300 });
	# always something under way
	my $busy = $node->background_psql('postgres');
	$busy->query_until(qr/begun/, q(\echo begun
		DO $$ BEGIN FOR i IN 1 .. 400 LOOP UPDATE b SET title = 'b' || i WHERE id BETWEEN 10001 AND 10012; COMMIT;
			PERFORM pg_sleep(0.05); END LOOP; END $$;
		\echo ended
		));
	$node->sql(q{BEGIN; INSERT INTO ca VALUES (1, 'x', 1); INSERT INTO cb VALUES (1, 'y', 1); COMMIT});
	wait_for(sub { live_keys($node, $sim, 'ca') eq '1' && live_keys($node, $sim, 'cb') eq '1' },
		'G2: a circle is broken under steady traffic', 18);
	cmp_ok($node->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%' AND state = 'active'"), '==', 1,
		'G2: which went on meanwhile');
	$busy->quit;
	$sim->clear_faults;
}

done_testing();
