# 328_link_edges.pl
#	What link(), alter_link(), retry() and the dry run do at the edges: filters that are more than a
#	condition, partitions of linked tables, arguments that are null, many queued rows, keys and
#	columns that change under a link.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

sub rejected
{
	my ($call, $sqlstate, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($state, $message) = $node->sql_error("SELECT * FROM angles.$call");
	is($state, $sqlstate, "K1: $name: SQLSTATE") or diag($message);
	like($message, $pattern, "K1: $name: says why, and what to do");
}

# filters
{
	$node->sql(q{CREATE TABLE f (id int PRIMARY KEY, title text, n int);
		INSERT INTO f SELECT g, 'row', g FROM generate_series(1, 4) g});
	my %refused = (
		'closes the parenthesis' => 'n > 3) OR (n < 2',
		'two conditions' => 'n > 3, n < 2',
		'a clause after it' => 'n > 3 ORDER BY n',
		'a limit' => 'n > 3 LIMIT 1',
		'a FROM' => 'n > 3 FROM f',
		'a WHERE' => 'n > 3 WHERE n < 5',
		'a name' => 'n > 3 AS x',
		'nothing' => '',
		'a comment alone' => '-- n > 3',
		'a comment left open' => 'n > 3 /*',
		'a quote left open' => "n > 3 AND title = 'x");
	foreach my $why (sort keys %refused)
	{
		rejected("link('f', filter => \$f\$$refused{$why}\$f\$)", 'NG104', qr/HINT:.*one condition/s,
			"a filter with $why");
	}
	{
		my ($state, $message) = $node->sql_error(
			q{SET standard_conforming_strings = off; SET escape_string_warning = off;
			SELECT * FROM angles.link('f', filter => $f$title = '\') OR (n > 0 -- '$f$)});
		is($state, 'NG104', 'K1: a filter means the same whatever the settings of the session');
	}
	is($node->sql('SELECT count(*) FROM angles.links'), 0, 'K1: none of them is linked');

	link_table($node, 'f', q{filter => 'n > 2 -- the large ones'});
	is(live_keys($node, $sim, 'f'), '3 4', 'B8: a filter with a comment at its end');
	$node->sql('UPDATE f SET n = 9 WHERE id = 1');
	drained($node);
	is(live_keys($node, $sim, 'f'), '1 3 4', 'B8: which the worker reads as one condition');
	$node->sql(q{SELECT count(*) FROM angles.alter_link('f', title_column => 'title')});
	is($node->sql(q{SELECT filter = 'n > 2 -- the large ones' || chr(10) FROM angles.links
		WHERE relid = 'f'::regclass}), 't', 'B8: and that alter_link() keeps');
	rejected(q{alter_link('f', filter => 'n > 3) OR (n < 2')}, 'NG104', qr/HINT:.*one condition/s,
		'alter_link() with a filter that closes the parenthesis');
}

# partitions
{
	$node->sql(q{
		CREATE TABLE p (id int PRIMARY KEY, title text) PARTITION BY RANGE (id);
		CREATE TABLE p_low PARTITION OF p FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
		CREATE TABLE p_low_1 PARTITION OF p_low FOR VALUES FROM (0) TO (50);
		CREATE TABLE "P 'high'" PARTITION OF p FOR VALUES FROM (100) TO (200);
		INSERT INTO p SELECT g, 'row' FROM generate_series(10, 110, 100) g});
	link_table($node, 'p');
	foreach my $partition ('p_low', 'p_low_1', q{"P ''high''"})
	{
		rejected("link('$partition')", 'NG103',
			qr/is a partition of "p", which is linked.*HINT:.*angles\.unlink\('public\.p'\)/s,
			"a partition of a linked table ($partition)");
	}
	$node->sql("SELECT angles.unlink('p')");
	link_table($node, q{"P ''high''"});
	is(live_keys($node, $sim, q{"P ''high''"}), '110', 'A6: after unlink() a partition can be linked');
	rejected("link('p')", 'NG103',
		qr/its partition "P 'high'" is linked by itself.*HINT:.*unlink\('public\."P ''high''"'\)/s,
		'a table of which a partition is linked');
	link_table($node, 'p_low');
	is(live_keys($node, $sim, 'p_low'), '10', 'A6: as can another one, that has partitions itself');
	rejected("link('p_low_1')", 'NG103', qr/is a partition of "p_low"/, 'a partition of that');
}

# arguments that are null
foreach my $call ('linked(NULL)', 'retry(NULL)', q{retry(NULL, 'key')},
	'sync_notion(ARRAY[NULL]::regclass[])')
{
	rejected($call, '22004', qr/argument "table" must not be null/, $call);
}
is($node->sql(q{SELECT angles.retry('f')}), 0, 'K1: retry() without a key is about all rows');

# a dry run of more rows than one batch
{
	my $counts = q{SELECT created || ' ' || updated || ' ' || trashed || ' ' || unchanged
		FROM angles.sync_notion(ARRAY['many'::regclass], dry_run => true)};
	$node->sql(q{CREATE TABLE many (id int PRIMARY KEY, title text, n int);
		INSERT INTO many SELECT g, 'row', g FROM generate_series(1, 30) g});
	link_table($node, 'many');
	is($node->sql($counts), '0 0 0 0', 'K3: dry run: nothing is pending');
	$node->sql("SELECT angles.pause('many')");
	$node->sql(q{
		INSERT INTO many SELECT g, 'row ' || g, g FROM generate_series(1001, 3000) g;
		UPDATE many SET n = 0 WHERE id <= 10;
		DELETE FROM many WHERE id BETWEEN 11 AND 15;
		UPDATE many SET n = 0 WHERE id = 16;
		UPDATE many SET n = 16 WHERE id = 16});
	is($node->sql($counts), '2000 10 5 1', 'K3: dry run: of 2,016 pending rows each counts once');
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded');
	is($node->sql($counts), '2000 10 5 1', 'K3: dry run: in the queue as in the log');
	is($node->sql("SELECT (keys -> 0 ->> 'key') || ' ' || jsonb_array_length(keys)
		FROM angles.dry_run('many'::regclass)"), '1 100', 'K3: dry run: it names the first keys');
}

done_testing();
