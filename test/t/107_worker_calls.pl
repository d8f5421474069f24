# What people wait for ends when it can, says what is its own, and costs nothing meanwhile.
use strict;
use warnings;

use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, preload => 'angles', conf => { 'angles.sweep_interval' => '1h' });

# ---- sync_notion() does not wait for what a person has stopped ----

# Returns (left over, remark) of a pass of one table.
sub pass
{
	my ($table) = @_;
	my ($row) = $node->rows("SET angles.wait_max = '10s';
		SELECT left_over, remark FROM angles.sync_notion(ARRAY['$table'::regclass])");
	return $row;
}

$node->sql('CREATE TABLE parent (id int PRIMARY KEY, title text);
	CREATE TABLE child (id int PRIMARY KEY, title text, parent int REFERENCES parent);
	CREATE TABLE grandchild (id int PRIMARY KEY, title text, child int REFERENCES child)');
link_table($node, $_) for qw(parent child grandchild);
$node->sql("SELECT angles.pause('parent')");
$node->sql("INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (1, 'c', 1);
	INSERT INTO grandchild VALUES (1, 'g', 1)");
$node->wait_sql("SELECT count(*) = 2 FROM angles.queue WHERE state = 'waiting'", 'child and grandchild wait');
is_deeply(pass('child'), [ 1, undef ], 'a pass of a child whose parent is paused ends');
is_deeply(pass('grandchild'), [ 1, undef ], 'and of a grandchild');
$node->sql("INSERT INTO child VALUES (2, 'alone', NULL)");
is_deeply(pass('child'), [ 1, undef ], 'and when there is more to send');
is(live_keys($node, $sim, 'child'), '2', 'which goes');
$node->sql("SELECT angles.resume('parent')");
my ($rows) = $node->rows('SELECT sum(left_over), count(remark) FROM angles.sync_notion()');
is_deeply($rows, [ 0, 0 ], 'a pass waits for rows that wait for each other, when they can move');
is(live_keys($node, $sim, 'grandchild'), '1', 'and returns when they have arrived');

# ---- check_notion() of two people at once ----

my $checks = $node->sql('SELECT count(*) FROM angles.check_notion()');
is($checks, 5, 'a check: the token, the parent page, three data sources');
# what both ask first is answered last
$sim->faults({ path => '^/v1/users/me', count => 2, action => 'delay', ms => 1500 });
my $first = $node->background_psql('postgres');
$first->{stdin} .= "SELECT count(*), count(DISTINCT item) FROM angles.check_notion();\n";
$first->{run}->pump_nb;
$node->wait_sql("SELECT count(*) = 1 FROM angles.runs WHERE state = 'running'", 'one check is under way');
is($node->sql('SELECT count(*), count(DISTINCT item) FROM angles.check_notion()'), "$checks|$checks",
	'a second check beside it gets its own answers');
like($first->query('SELECT 1'), qr/^$checks\|$checks$/m, 'and the first one its own');
$first->quit;

# ---- waiting costs nothing ----

$sim->faults({ path => '^/v1/users/me', count => 1, action => 'delay', ms => 500 });
my $id = $node->sql("SELECT angles.enqueue_run('check_notion')");
$node->wait_sql("SELECT state = 'running' FROM angles.runs WHERE id = $id", 'a run is under way');
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN;\nSELECT FROM angles.runs WHERE id = $id FOR UPDATE");
# Notion's answer comes soon; then only the end of the run is to be written

# its own queries are in what the database counts, too
sub commits { return $node->sql("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'"); }
my $before = commits();
$node->sql('SELECT pg_sleep(5)');
cmp_ok(commits() - $before, '<', 35, 'waiting: no transaction ten times a second');
$holder->query_safe('ROLLBACK');
$holder->quit;
$node->wait_sql("SELECT state = 'succeeded' FROM angles.runs WHERE id = $id", 'the run ends');

done_testing();
