# 448_paged_relations.pl
#	F7: relations of more than 25 pages, of which a page object shows the first ones only. They are read
#	in full before anything is concluded; a failure in the middle leaves the page for the next pass.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.notion_query_lag' => '0',
	'angles.retry_initial' => '200ms', 'angles.retry_cap' => '1s' });

$node->sql(q{CREATE TABLE parent (id int PRIMARY KEY, name text);
	CREATE TABLE child (id int PRIMARY KEY, name text, parent_id int REFERENCES parent);
	INSERT INTO parent SELECT g, 'p ' || g FROM generate_series(1, 230) g;
	INSERT INTO child SELECT g, 'c ' || g, 1 FROM generate_series(1, 8) g});
link_table($node, 'parent');
link_table($node, 'child');

my %page = map { $_->[0] => $_->[1] }
  $node->rows("SELECT l.relid::regclass || ' ' || p.key, p.page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id");
my $relation = $node->sql("SELECT property_name FROM angles.link_columns WHERE property_type = 'relation'");

sub edit
{
	my ($key, %properties) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{"child $key"}, properties => \%properties });
}

sub parents
{
	return [ map { $page{"parent $_"} } 1 .. $_[0] ];
}

sub reads
{
	my ($key, $since) = @_;
	return grep { index($_->{path}, $page{"child $key"} . '/properties/') > 0 } $sim->requests($since // 0);
}

sub told
{
	my ($key, $n) = @_;
	return $node->wait_sql("SELECT count(*) = 1 FROM angles.parked WHERE \"table\" = 'child'::regclass AND key = '$key'
		AND message LIKE '%points to $n pages%'", "F7: $n pages of row $key are told of", 30);
}

sub polled
{
	my $since = $sim->requests;
	wait_for(sub { 6 <= grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'polls', 30);
}

# 26, 100, 101: read in full, told of, nothing is written
foreach my $case ([ 1, 26, 1 ], [ 2, 100, 1 ], [ 3, 230, 3 ])
{
	my ($key, $n, $requests) = @$case;
	my $since = $sim->requests;
	edit($key, $relation => parents($n), name => "has $n");
	told($key, $n);
	cmp_ok(scalar reads($key, $since), '>=', $requests, "F7: $n pages: read 100 at a time");
	ok((grep { $_->{query} =~ /page_size=100/ } reads($key, $since)), "F7: $n pages: as many as there can be");
	is($node->sql("SELECT parent_id, name FROM child WHERE id = $key"), "1|has $n", "F7: $n pages: the row keeps its one, and other properties flow");
}
{
	my $since = $sim->requests;
	polled();
	cmp_ok(scalar(grep { $_->{path} =~ m{/properties/} } $sim->requests($since)), '<=', 6, 'F7: what was read is not read at each pass');
}

# what the row has to say about other columns does not shrink the relation
$node->sql(q{UPDATE child SET name = 'ours' WHERE id = 1});
drained($node);
polled();
is(scalar(@{ $sim->call('GET', '/v1/pages/' . $page{'child 1'})->{properties}{$relation}{relation} }), 25, 'F7: the relation is not shrunk');
ok($sim->call('GET', '/v1/pages/' . $page{'child 1'})->{properties}{$relation}{has_more}, 'F7: all of it is there');

# ... and where the row wins by policy, all of what loses is kept
$node->sql(q(SELECT count(*) FROM angles.alter_link('child', conflict => 'postgres')));
compared($node, 'child');
$node->sql('UPDATE child SET parent_id = 5 WHERE id = 1');
$node->wait_sql("SELECT jsonb_array_length(notion) = 26 AND winner = 'postgres' FROM angles.conflicts WHERE key = '1'",
	'F7: by policy the row wins, and all 26 are kept', 20);

# one page again: it is taken
edit(2, $relation => [ $page{'parent 7'} ]);
$node->wait_sql('SELECT parent_id = 7 FROM child WHERE id = 2', 'F7: one page is taken', 20);
$node->wait_sql("SELECT count(*) = 0 FROM angles.parked WHERE key = '2'", 'F7: and nothing is told of any more', 20);

# changed while it is being read: never a list made of two
{
	$sim->faults({ method => 'GET', path => "$page{'child 2'}/properties/", nth => 2, action => 'delay', ms => 1500, when => 'before' });
	my $since = $sim->requests;
	edit(2, $relation => parents(230));
	wait_for(sub { reads(2, $since) >= 1 }, 'F7: it is being read', 20);
	edit(2, $relation => [ @{ parents(230) }[ 20 .. 224 ] ]);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked WHERE key = '2'", 'F7: then it is known', 30);
	like($node->sql("SELECT message FROM angles.parked WHERE key = '2'"), qr/points to 205 pages/, 'F7: changed while it is read, it is the new one');
}

# a failure in the middle: others go on, and it is read when it can be
{
	$sim->faults({ method => 'GET', path => "$page{'child 4'}/properties/", after => 1, count => 4, action => '503' });
	edit(4, $relation => parents(150), name => 'in the middle');
	edit(5, name => 'goes on');
	$node->wait_sql("SELECT name = 'goes on' FROM child WHERE id = 5", 'F7: other pages go on', 20);
	$node->wait_sql("SELECT name = 'in the middle' FROM child WHERE id = 4", 'F7: and the other properties of this one', 20);
	told(4, 150);
}

# a list that ends too early, or is none
{
	$sim->faults({ method => 'GET', path => "$page{'child 5'}/properties/", count => 1, action => 'truncate', bytes => 300 },
		{ method => 'GET', path => "$page{'child 5'}/properties/", count => 1, action => 'html200', html => '<p>' });
	edit(5, $relation => parents(40));
	told(5, 40);
}

# the worker dies in the middle
{
	$sim->faults({ method => 'GET', path => "$page{'child 6'}/properties/", nth => 2, action => 'delay', ms => 3000, when => 'before' });
	my $since = $sim->requests;
	edit(6, $relation => parents(120));
	wait_for(sub { reads(6, $since) >= 1 }, 'F7: it is being read', 20);
	$node->kill_worker('sync', 'TERM');
	told(6, 120);
}

# what cannot be read for good holds nothing up
{
	$sim->faults({ method => 'GET', path => "$page{'child 7'}/properties/", count => 1000, action => '403' });
	edit(7, $relation => parents(60), name => 'goes on');
	$node->wait_sql("SELECT name = 'goes on' FROM child WHERE id = 7", 'G3: the other properties flow', 20);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint LIKE 'relation:%' AND closed_at IS NULL", 'G3: people are told', 20);
	is($node->sql('SELECT parent_id FROM child WHERE id = 7'), 1, 'G3: the row keeps what it references');
	$sim->call('DELETE', '/_sim/faults');
	edit(7, $relation => parents(61));
	told(7, 61);
	$node->wait_sql("SELECT count(*) = 0 FROM angles.alerts WHERE fingerprint LIKE 'relation:%' AND closed_at IS NULL", 'G3: and the alert ends', 20);
}

# preflight strict: what was never seen is read before the row is written
{
	$node->sql(q(SELECT count(*) FROM angles.alter_link('child', preflight => 'strict', conflict => 'manual')));
	compared($node, 'child');
	$node->configure('angles.poll_interval' => '1h');
	polled_once();
	edit(8, $relation => parents(33));
	$node->sql('UPDATE child SET parent_id = 9 WHERE id = 8');
	$node->sql('SELECT count(*) FROM angles.sync_notion()');
	ok($sim->call('GET', '/v1/pages/' . $page{'child 8'})->{properties}{$relation}{has_more}, 'F7: strict: a relation nobody had seen is not shrunk');
	$node->wait_sql("SELECT jsonb_array_length(notion) = 33 AND winner IS NULL FROM angles.conflicts WHERE key = '8'",
		'F7: strict: it is a conflict of the whole', 20);
}

sub polled_once
{
	my $since = $sim->requests;
	$node->sql('SELECT count(*) FROM angles.sync_notion()');
	wait_for(sub { grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'a poll', 20);
}

done_testing();
