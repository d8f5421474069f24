# 415_apply_life.pl
#	The apply worker and commands on the database: none of them waits for it for long, and nothing is
#	left of it (J7); many changes at once.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'log_min_messages' => 'warning' });

# Makes a database with a linked table whose trigger does not end, and has an apply worker in it.
sub stuck_database
{
	my ($name) = @_;
	$node->sql("CREATE DATABASE $name");
	$node->psql($name, q{CREATE EXTENSION angles; CREATE TABLE t (id int PRIMARY KEY, title text, n int);
		INSERT INTO t VALUES (1, 'x', 1);
		CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); RETURN NEW; END';
		SELECT count(*) FROM angles.link('t')}, on_error_die => 1);
	wait_for(sub { $node->safe_psql($name, 'SELECT count(*) FROM angles.pages WHERE page_id IS NOT NULL') eq '1' }, "$name has a page");
	my $page = $node->safe_psql($name, 'SELECT page_id FROM angles.pages');
	$node->psql($name, 'CREATE TRIGGER sleeps BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION sleeps()', on_error_die => 1);
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page, properties => { n => 2 } });
	wait_for(sub { $node->sql("SELECT count(*) FROM pg_stat_activity WHERE datname = '$name'
		AND backend_type = 'angles apply' AND wait_event = 'PgSleep'") eq '1' }, "$name: an apply worker is in the trigger", 30);
	return $page;
}

# Runs a command and returns how long it took, in seconds.
sub takes
{
	my ($db, $sql) = @_;
	my $begin = now_ms();
	$node->psql($db, $sql, on_error_die => 1);
	return (now_ms() - $begin) / 1000;
}

stuck_database('one');
$node->sql('CREATE DATABASE other');
cmp_ok(takes('postgres', 'DROP DATABASE other'), '<', 0.5 * slow_factor(), 'J7: DROP DATABASE of another one does not wait');
cmp_ok(takes('postgres', 'DROP DATABASE one'), '<', 5 * slow_factor(), 'J7: DROP DATABASE ends the apply worker');
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'angles apply'"), 0, 'J7: it is gone');

$node->configure('angles.apply_timeout' => '1s');
my $page = stuck_database('two');
# a session that waits for the row's table waits for the limit of the trigger at most
cmp_ok(takes('two', 'DROP TRIGGER sleeps ON t'), '<', 8 * slow_factor(), 'DDL on the table gets its turn');
wait_for(sub { $node->safe_psql('two', 'SELECT n FROM t') eq '2' }, 'and the change is made then', 30);
$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page, properties => { n => 3 } });
cmp_ok(takes('two', 'DROP EXTENSION angles CASCADE'), '<', 5 * slow_factor(), 'J7: DROP EXTENSION');
wait_for(sub { $node->sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'two' AND backend_type LIKE 'angles%'") eq '0' },
	'J7: nobody is left', 20);
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'angles bridge'"), 1, 'J7: other databases go on');

# many at once, over several transactions
{
	$node->configure('angles.apply_timeout' => '30s');
	$node->sql('CREATE TABLE many (id int PRIMARY KEY, title text, n int)');
	$node->sql(q(INSERT INTO many SELECT g, 'row ' || g, 0 FROM generate_series(1, 3000) g));
	link_table($node, 'many');
	drained($node, 120);
	my @pages = map { $_->[0] } $node->rows("SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE relid = 'many'::regclass");
	while (my @part = splice(@pages, 0, 500))
	{
		$sim->call('POST', '/_sim/edit', { edits => [
			map { { op => 'set', page_id => $_, properties => { n => 7 } } } @part ] });
	}
	$node->wait_sql('SELECT count(*) = 3000 FROM many WHERE n = 7', '3,000 changes arrive', 120);
	drained($node, 60);
	is($node->sql('SELECT count(*) FROM angles.inbox'), 0, 'and nothing is left');
	is($node->sql('SELECT count(*) FROM angles.audit_log WHERE action = $$apply$$'), 3000, 'each once');
}

done_testing();
