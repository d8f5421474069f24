# 422_parked_schema.pl
#	I2: rows that were parked because Notion did not know a property go on when it is known what became of it.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '1h', 'angles.retry_initial' => '50ms', 'angles.retry_cap' => '100ms' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, 5) g));
link_table($node, 't');
my $source = $node->sql('SELECT data_source_id FROM angles.links');
my $fault = $sim->faults({ method => 'GET', path => '^/v1/data_sources/', count => 100000, action => '503' });
$sim->call('POST', '/_sim/edit', { op => 'delete_property', data_source => $source, property => 'n' });
$node->sql(q(UPDATE t SET n = n + 100, title = 'new ' || id));
$node->wait_sql("SELECT count(*) = 5 FROM angles.parked WHERE class = 'schema'", 'I2: the rows are parked while nobody can tell why', 60);
is($node->sql("SELECT count(DISTINCT hint) FROM angles.parked"), 1, 'I2: with a hint');
$sim->call('DELETE', '/_sim/faults');
$node->sql('SELECT count(*) FROM angles.sync_notion()');
$node->wait_sql('SELECT count(*) = 1 FROM angles.link_columns WHERE notion_problem IS NOT NULL', 'I2: it is known', 30);
$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'I2: and the rows are parked no more', 30);
is(join(' ', sort map { $_->{title} } pages($node, $sim, 't')), 'new 1 new 2 new 3 new 4 new 5', 'I2: they went without that property');
# a row parked for another reason stays
$node->sql(q(UPDATE t SET title = repeat('x', 300000) WHERE id = 1));
$node->wait_sql("SELECT count(*) = 1 FROM angles.parked WHERE class = 'permanent'", 'I2: another reason', 20);
$sim->call('POST', '/_sim/edit', { op => 'rename_property', data_source => $source, property => 'title', name => 'Subject' });
$node->sql('SELECT count(*) FROM angles.sync_notion()');
$node->wait_sql("SELECT count(*) = 1 FROM angles.link_columns WHERE property_name = 'Subject'", 'I2: the schema changes again', 30);
is($node->sql("SELECT count(*) FROM angles.parked WHERE class = 'permanent'"), 1, 'I2: which is nothing to it');

done_testing();
