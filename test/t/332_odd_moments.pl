# 332_odd_moments.pl
#	Things that happen between two steps of the worker: tables that go or change their name, keys that
#	change while a create is in doubt, links that end while they are set up.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => {
	'angles.retry_cap' => '500ms', 'angles.retry_initial' => '100ms', 'angles.notion_verify_window' => '2s' });

sub crashes
{
	my @found = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /terminated by signal|exited with exit code [^01]/g;
	return scalar @found;
}

# J7: tables that are emptied and dropped in one transaction
{
	foreach my $how ('DELETE FROM gone', 'TRUNCATE gone')
	{
		$node->sql("CREATE TABLE gone (id int PRIMARY KEY, title text);
			INSERT INTO gone SELECT g, 'x' FROM generate_series(1, 150) g");
		link_table($node, 'gone');
		my $oid = $node->sql("SELECT 'gone'::regclass::oid");
		$node->sql("BEGIN; $how; DROP TABLE gone; COMMIT");
		$node->wait_sql("SELECT count(*) = 150 FROM angles.queue WHERE state = 'held'", "J7: $how; DROP TABLE: the pages are held");
		like($node->sql("SELECT hint FROM angles.alerts WHERE closed_at IS NULL AND fingerprint ~ 'mass_delete'"),
			qr/approve\('(public\.gone|$oid)'\)/, 'J7: the hint names the table');
		$node->sql("SELECT angles.unlink($oid)");
		$node->wait_sql('SELECT count(*) = 0 FROM angles.queue_entries', 'J7: unlink clears the queue');
	}
	is(crashes(), 0, 'J7: no process died');
}

# J7: a table is dropped while its setup fails
{
	$node->sql('CREATE TABLE z (id int PRIMARY KEY, title text)');
	$sim->faults({ method => 'GET', path => '^/v1/data_sources', count => 1, action => 'delay', ms => 1500, when => 'before' });
	$node->sql("SELECT count(*) FROM angles.link('z', data_source => '11111111-2222-3333-4444-555555555555')");
	$node->wait_sql("SELECT count(*) = 1 FROM pg_stat_activity a, angles.links l WHERE backend_type = 'angles sync'
		AND a.state = 'idle' AND state_change > created_at AND relid = 'z'::regclass", 'the setup has begun');
	my $oid = $node->sql("SELECT 'z'::regclass::oid");
	$node->sql('DROP TABLE z');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE closed_at IS NULL AND title ~ 'dropped'", 'J7: the drop is told');
	$node->sql("SELECT angles.unlink($oid)");
	is(crashes(), 0, 'J7: no process died of it');
}

# G1: a table is linked before the one it references has its data source
{
	$node->sql('CREATE TABLE p (id int PRIMARY KEY, title text);
		CREATE TABLE c (id int PRIMARY KEY, title text, p int REFERENCES p)');
	$node->sql("BEGIN; SELECT count(*) FROM angles.link('p'); SELECT angles.pause('p');
		SELECT count(*) FROM angles.link('c'); COMMIT");
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'c'::regclass", 'c is linked');
	$node->sql("INSERT INTO p VALUES (1, 'p'); INSERT INTO c VALUES (1, 'c', 1)");
	$node->sql("SELECT angles.resume('p')");
	wait_for(sub { my ($page) = pages($node, $sim, 'c'); $page && $page->{p} }, 'G1: the relation is made when it can be');
	is((pages($node, $sim, 'c'))[0]{p}, (pages($node, $sim, 'p'))[0]{_id}, 'G1: and points at the page');
	$node->sql("INSERT INTO p VALUES (2, 'p'); INSERT INTO c VALUES (2, 'c', 2)");
	drained($node);
	is(scalar(grep { $_->{p} } pages($node, $sim, 'c')), 2, 'G1: later rows have it at once');
	is(crashes(), 0, 'G1: no process died');
}

# A5, B2: a key changes while the create of its row is in doubt
{
	$node->sql('CREATE TABLE k (id int PRIMARY KEY, title text)');
	link_table($node, 'k');
	foreach my $then ('', "INSERT INTO k VALUES (1, 'another')")
	{
		my $before = $sim->ledger;
		$sim->faults({ method => 'POST', path => '^/v1/pages', count => 1, action => 'reset_after' });
		$sim->faults({ method => 'POST', path => 'query', count => 3, action => '502html' });
		$node->sql("INSERT INTO k VALUES (1, 'a')");
		$node->wait_sql('SELECT count(*) = 1 FROM angles.queue WHERE attempts >= 2', 'in doubt, and looked up in vain');
		$node->sql("UPDATE k SET id = 2 WHERE id = 1; $then");
		$sim->clear_faults;
		drained($node);
		is(live_keys($node, $sim, 'k'), $then ? '1 2' : '2', 'A5, B2: one page for each row, under its new key');
		is(scalar(creates($sim, $before)), $then ? 2 : 1, 'A5, B2: and no page made twice');
		$node->sql('DELETE FROM k');
		drained($node);
	}
}

# B2: many creates in doubt at once
{
	$node->sql('CREATE TABLE doubt (id int PRIMARY KEY, title text)');
	link_table($node, 'doubt');
	my ($before, $seen) = (scalar $sim->ledger, scalar $sim->requests);
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 60, action => 'reset_after' });
	$node->sql("INSERT INTO doubt SELECT g, 'x' FROM generate_series(1, 60) g");
	drained($node, 60);
	my @asked = map { scalar @{ $_->{body}{filter}{or} } } grep { $_->{path} =~ /query/ && $_->{body}{filter}{or} } $sim->requests($seen);
	cmp_ok((sort { $b <=> $a } @asked)[0], '<=', 50, 'B2: no look-up asks for more than one answer can hold');
	is(scalar(pages($node, $sim, 'doubt')), 60, 'B2: a page for each of 60 rows in doubt');
	is(scalar(creates($sim, $before)), 60, 'B2: none made twice');
	$sim->clear_faults;
}

# A13: a mark that is made while another is acted on
{
	$node->sql("CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql
			AS 'BEGIN PERFORM pg_catalog.pg_sleep(2); RETURN true; END';
		CREATE TABLE m (id int PRIMARY KEY, title text); CREATE TABLE n (id int PRIMARY KEY, title text)");
	link_table($node, 'm', "filter => 'public.slow(id)'");
	link_table($node, 'n');
	my $db = $node->sql("SELECT oid FROM pg_database WHERE datname = 'postgres'");
	my %id = map { $_ => $node->sql("SELECT id FROM angles.links WHERE relid = '$_'::regclass") } qw(m n);
	my $mark = sub { my ($t) = @_; my $f = $node->data_dir . "/angles/reconcile_${db}_$id{$t}"; mkdir $node->data_dir . '/angles';
		open(my $fh, '>', $f) or die $!; close $fh; };
	$node->sql("ALTER TABLE n DISABLE TRIGGER USER; INSERT INTO n VALUES (1, 'lost'); ALTER TABLE n ENABLE ALWAYS TRIGGER angles_capture");
	$mark->('m');
	$node->sql("INSERT INTO m VALUES (1, 'x')");
	$node->wait_sql("SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'synchronize with Notion' AND state = 'active'
		AND clock_timestamp() - query_start > interval '0.3 s'", 'the worker reads');
	$mark->('n');
	wait_for(sub { live_keys($node, $sim, 'n') eq '1' }, 'A13: a mark made meanwhile is not taken for the one acted on');
	$node->sql("SELECT angles.unlink('m')");
}

# K2: the owner swaps his table for a view while the worker reads it
{
	$node->sql('CREATE ROLE mallory LOGIN; CREATE SCHEMA m AUTHORIZATION mallory');
	$node->sql(q{SET ROLE mallory; CREATE TABLE m.t (id int PRIMARY KEY, title text); CREATE TABLE m.trace (who name);
		CREATE FUNCTION m.slow() RETURNS boolean LANGUAGE plpgsql
			AS 'BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN false; END';
		CREATE FUNCTION m.evil() RETURNS int LANGUAGE plpgsql
			AS 'BEGIN RAISE LOG ''evil runs as %'', current_user; RETURN 1; END'});
	link_table($node, 'm.t');
	$node->sql(q{SET ROLE mallory; ALTER TABLE m.t ENABLE ROW LEVEL SECURITY; ALTER TABLE m.t FORCE ROW LEVEL SECURITY;
		CREATE POLICY p ON m.t FOR SELECT USING (m.slow()); CREATE POLICY q ON m.t FOR INSERT WITH CHECK (true)});
	$node->sql("SET ROLE mallory; INSERT INTO m.t VALUES (1, 'a')");
	$node->wait_sql("SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'synchronize with Notion' AND state = 'active'
		AND clock_timestamp() - query_start > interval '0.2 s'", 'the worker reads');
	$node->sql(q{SET lock_timeout = '20s'; SET ROLE mallory; BEGIN; ALTER TABLE m.t RENAME TO t2;
		CREATE VIEW m.t AS SELECT m.evil() AS id, ''::text AS title; COMMIT});
	drained($node);
	unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/LOG:  evil runs as (?!mallory)/,
		'K2: nothing of the owner runs with other rights than his');
	$node->sql(q{SET ROLE mallory; DROP VIEW m.t; ALTER TABLE m.t2 RENAME TO t;
		DROP POLICY p ON m.t; CREATE POLICY p ON m.t USING (id < 10)});
	$node->sql("SET ROLE mallory; INSERT INTO m.t VALUES (2, 'b'), (3, 'c')");
	drained($node);
	is(live_keys($node, $sim, 'm.t'), '2 3', 'K2: rows that the owner may see are sent');
	$node->sql('SET ROLE mallory; DELETE FROM m.t WHERE id = 2');
	drained($node);
	is(live_keys($node, $sim, 'm.t'), '3', 'K2: a deletion that was captured counts under row security too');
	$node->sql('SET ROLE mallory; DROP POLICY p ON m.t; CREATE POLICY p ON m.t USING (id > 10)');
	$node->sql("SELECT angles.reconcile('m.t')");
	compared($node, 'm.t');
	is(live_keys($node, $sim, 'm.t'), '3', 'K2: a row that is only hidden is no deleted row');
}

# F4: unlink while the setup waits for an answer
{
	$node->sql("CREATE TABLE u (id int PRIMARY KEY, title text); INSERT INTO u VALUES (1, 'x')");
	$sim->faults({ method => 'POST', path => 'query', count => 1, action => 'delay', ms => 1500 });
	$node->sql("SELECT count(*) FROM angles.link('u')");
	$node->wait_sql("SELECT state = 'binding' FROM angles.links WHERE relid = 'u'::regclass", 'u is being bound');
	my $before = $sim->ledger;
	$node->sql("BEGIN; SELECT angles.unlink('u'); SELECT pg_sleep(2); COMMIT");
	$node->sql("SELECT angles.check_notion()");
	is($node->sql("SELECT state FROM angles.links WHERE relid = 'u'::regclass"), 'unlinked', 'F4: an unlink is not undone by an answer that comes late');
	is(scalar(creates($sim, $before)), 0, 'F4: and nothing is sent');
}

# E7: an approval outlives a failure
{
	$node->sql("CREATE TABLE h (id int PRIMARY KEY, title text); INSERT INTO h SELECT g, 'x' FROM generate_series(1, 3) g");
	link_table($node, 'h', "on_local_delete => 'hold'");
	$node->sql('DELETE FROM h WHERE id = 1');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE state = 'held'", 'the deletion is held');
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 2, action => '502html' });
	$node->sql("SELECT angles.approve('h')");
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'E7: an approved deletion goes through in spite of failures');
	is(live_keys($node, $sim, 'h'), '2 3', 'E7: the page is in the trash');
	$node->sql("INSERT INTO h VALUES (1, 'again')");
	drained($node);
	$node->sql('DELETE FROM h WHERE id = 1');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE state = 'held'", 'E7: an approval holds for one deletion only');
}

# F1: the id of a database in place of its data source's
{
	$node->sql('CREATE TABLE d (id int PRIMARY KEY, title text)');
	my $database = $node->sql("SELECT database_id FROM angles.links WHERE relid = 'k'::regclass");
	my $source = $node->sql("SELECT data_source_id FROM angles.links WHERE relid = 'k'::regclass");
	$node->sql("SELECT angles.unlink('k')");
	link_table($node, 'd', "data_source => '$database'");
	is($node->sql("SELECT data_source_id FROM angles.links WHERE relid = 'd'::regclass"), $source,
		'F1: the id of a database with one data source is understood');
}

# A7: a key that goes on to a third name over one whose row was deleted before
{
	$node->sql("CREATE TABLE chain (id text PRIMARY KEY, title text); INSERT INTO chain VALUES ('a', 'row a'), ('b', 'row b')");
	link_table($node, 'chain', "on_local_delete => 'hold'");
	my %page = map { $_->{id} => $_->{_id} } pages($node, $sim, 'chain');
	$node->sql("DELETE FROM chain WHERE id = 'b'");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE state = 'held' AND key = 'b'", 'the deletion is held');
	$node->sql("BEGIN; UPDATE chain SET id = 'b' WHERE id = 'a'; UPDATE chain SET id = 'c' WHERE id = 'b'; COMMIT");
	drained($node);
	my %now = map { $_->{id} => $_->{_id} } pages($node, $sim, 'chain');
	is($now{c}, $page{a}, 'A7: the row keeps its page, and not that of the deleted one');
}

# I2: a property that a person removed is made anew when the link is altered
{
	$node->sql("CREATE TABLE prop (id int PRIMARY KEY, title text, note text); INSERT INTO prop VALUES (1, 'a', 'kept')");
	link_table($node, 'prop');
	my $source = $node->sql("SELECT data_source_id FROM angles.links WHERE relid = 'prop'::regclass");
	$sim->call('PATCH', "/v1/data_sources/$source", { properties => { note => undef } });
	$node->sql("UPDATE prop SET note = 'changed'");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.link_columns WHERE notion_problem ~ 'alter_link'", 'I2: the column is paused');
	$node->sql("SELECT count(*) FROM angles.alter_link('prop')");
	wait_for(sub { ((pages($node, $sim, 'prop'))[0]{note} // '') eq 'changed' }, 'I2: what the hint says helps');
	drained($node);
}

# J5: a dump restored elsewhere, where the numbers of columns are others
{
	$node->sql("CREATE TABLE dumped (junk int, id int PRIMARY KEY, junk2 text, title text, n int); ALTER TABLE dumped DROP COLUMN junk, DROP COLUMN junk2;
		INSERT INTO dumped VALUES (1, 'one', 10), (2, 'two', 20)");
	link_table($node, 'dumped');
	$node->sql('CREATE DATABASE restored');
	my $dump = $node->basedir . '/dump.sql';
	is(system('pg_dump', '-f', $dump, '-d', $node->connstr('postgres')), 0, 'J5: dumped');
	is(system('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $dump, '-d', $node->connstr('restored')), 0, 'J5: restored');
	my $before = $sim->ledger;
	$node->sql("INSERT INTO dumped VALUES (3, 'three', 30); UPDATE dumped SET n = 11 WHERE id = 1", 'restored');
	$node->sql('SELECT angles.adopt()', 'restored');
	wait_for(sub { live_keys($node, $sim, 'dumped') eq '1 2 3' }, 'J5: after adopt() the new row is sent');
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue_entries q JOIN angles.links l ON l.id = link_id
		WHERE relid::text = 'dumped'", 'J5: all is sent', 30, 'restored');
	my %row = map { $_->{id} => $_ } pages($node, $sim, 'dumped');
	is(join(' ', map { "$row{$_}{title}=$row{$_}{n}" } 1 .. 3), 'one=11 two=20 three=30', 'J5: columns are found by their names');
	is(scalar(grep { ($_->{body}{parent}{data_source_id} // '') eq
		$node->sql("SELECT data_source_id FROM angles.links WHERE relid = 'dumped'::regclass") } creates($sim, $before)), 1,
		'J5: no page is made twice');
	$node->sql('DROP DATABASE restored');
}

is(crashes(), 0, 'no process died');
done_testing();
