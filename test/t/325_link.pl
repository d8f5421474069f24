# 325_link.pl
#	What link() refuses and says, what a dry run leaves behind (K3), what is linked again (no second
#	page), filters, existing data sources.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

# Returns (column, property, type, remark) of the dry run's row of a column.
sub shown
{
	my ($args, $column) = @_;
	my ($row) = $node->rows("SELECT property, type, remark FROM angles.link($args, dry_run => true)
		WHERE \"column\" = '$column'");
	return @{ $row // [] };
}

sub rejected
{
	my ($call, $sqlstate, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($state, $message) = $node->sql_error("SELECT * FROM angles.$call");
	is($state, $sqlstate, "K1: link: $name: SQLSTATE") or diag($message);
	like($message, $pattern, "K1: link: $name: says why, and what to do");
}

# refusals
$node->sql(q{
	CREATE ROLE someone LOGIN;
	GRANT angles_admin TO someone;
	CREATE TABLE good (id int PRIMARY KEY, title text, n int, at timestamptz, b boolean);
	CREATE TABLE nopk (id int, title text);
	CREATE VIEW aview AS SELECT * FROM good;
	CREATE MATERIALIZED VIEW amatview AS SELECT * FROM good;
	CREATE SEQUENCE aseq;
	CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, title text);
	CREATE TABLE parent (id int PRIMARY KEY, title text);
	CREATE TABLE heir () INHERITS (parent);
	CREATE TABLE two (id int PRIMARY KEY, "Name" text, name text);
	CREATE TABLE theirs (id int PRIMARY KEY, title text)});
rejected("link('nopk')", 'NG103', qr/no primary key.*HINT:.*ADD PRIMARY KEY/s, 'no primary key');
rejected("link('aview')", 'NG103', qr/only tables.*HINT/s, 'a view');
rejected("link('amatview')", 'NG103', qr/only tables/, 'a materialized view');
rejected("link('aseq')", 'NG103', qr/only tables/, 'a sequence');
rejected("link('unlogged')", 'NG103', qr/unlogged.*HINT:.*SET LOGGED/s, 'an unlogged table');
rejected("link('parent')", 'NG103', qr/inherit.*HINT/s, 'a table with heirs');
rejected("link('pg_class')", 'NG103', qr/system/, 'a catalog');
rejected("link('angles.links')", 'NG103', qr/system/, "one of angles' own");
{
	my ($state, $message) = $node->sql_error(
		'CREATE TEMP TABLE tt (id int PRIMARY KEY); SELECT * FROM angles.link($$tt$$)');
	is($state, 'NG103', 'K1: link: a temporary table: SQLSTATE');
	like($message, qr/temporary/, 'K1: link: a temporary table: says why');
	($state, $message) = $node->sql_error('SET ROLE someone; SELECT * FROM angles.link($$good$$)');
	is($state, '42501', 'K1: link: the table of another owner: SQLSTATE');
	like($message, qr/must be owner.*HINT/s, 'K1: link: the table of another owner: says why');
	($state) = $node->sql_error('CREATE ROLE nobody LOGIN; SET ROLE nobody; SELECT * FROM angles.link($$good$$)');
	is($state, '42501', 'K1: link: one without the role angles_admin may not call it');
}
rejected(q{link('good', mapping => '{"nothing": "x"}')}, 'NG104', qr/"nothing"/, 'a mapping of an unknown column');
rejected(q{link('good', mapping => '[1]')}, 'NG104', qr/JSON object/, 'a mapping that is no object');
rejected(q{link('good', mapping => '{"n": 5}')}, 'NG104', qr/not understood.*HINT/s, 'a mapping of no known form');
rejected(q{link('good', mapping => '{"n": {"type": "people"}}')}, 'NG104', qr/cannot be a property.*HINT/s, 'an impossible type');
rejected(q{link('good', mapping => '{"n": {"type": "wrong"}}')}, 'NG104', qr/cannot be a property/, 'an unknown type');
rejected(q{link('good', mapping => '{"n": "TITLE"}')}, 'NG104', qr/two columns.*HINT/s, 'one property twice');
rejected("link('two')", 'NG104', qr/two columns.*HINT/s, 'names that differ by case only');
rejected("link('good', title_column => 'nothing')", 'NG104', qr/cannot be the title.*HINT/s, 'an unknown title');
rejected("link('good', filter => 'nothing > 1')", '42703', qr/nothing/, 'a filter of an unknown column');
rejected("link('good', filter => 'n > 1; DROP TABLE good')", 'NG104', qr/syntax.*HINT/s, 'a filter of two statements');
rejected("link('good', filter => 'n')", '42804', qr/boolean/, 'a filter that is no condition');
rejected("link('good', direction => 'in')", '0A000', qr/inbound.*HINT/s, 'a direction that is not built');
rejected("link('good', direction => 'up')", '22023', qr/direction.*HINT:.*both/s, 'an unknown direction');
rejected("link('good', body_column => 'title')", '0A000', qr/body_column/, 'a body column');
rejected("link('good', conflict => 'newest postgres')", '22023', qr/conflict/, 'two words as one');
rejected("link('good', on_local_delete => 'x')", '22023', qr/HINT:.*trash/s, 'an unknown policy');
rejected("link('good', on_notion_delete => 'x')", '22023', qr/HINT:.*flag/s, 'an unknown policy of the inbound half');
rejected("link('good', on_notion_delete => 'flag')", 'NG104', qr/needs a column.*HINT/s, 'a flag without a column');
rejected("link('good', data_source => 'no id')", '22023', qr/data source.*HINT/s, 'no id of a data source');
rejected("link('good', parent => 'no id')", '22023', qr/page.*HINT/s, 'no id of a page');
rejected('link(NULL)', '22004', qr/must not be null/, 'null');
rejected("link(4000000000)", '42P01', qr/no table with OID/, 'a table that is not there');
rejected("alter_link('good')", 'NG101', qr/not linked.*HINT:.*link/s, 'alter_link of what is not linked');
rejected("unlink('good')", 'NG101', qr/not linked.*HINT/s, 'unlink of what is not linked');
rejected("pause('good')", 'NG101', qr/not linked.*HINT/s, 'pause of what is not linked');
rejected("sync_notion(ARRAY['good'::regclass])", 'NG101', qr/not linked/, 'a pass of what is not linked');
$node->configure('angles.notion_parent' => undef);
rejected("link('good')", 'NG203', qr/no Notion page.*HINT:.*notion_parent/s, 'no parent');
$node->configure('angles.notion_parent' => $sim->parent);
is(scalar($sim->ledger), 0, 'K3: no refusal sent anything');

# dry run and rollback
{
	$node->sql(q{
		CREATE TABLE shop (id int PRIMARY KEY, name text, password_hash text, api_key text, note text,
			state text CHECK (state IN ('open', 'closed')), amount numeric(10,2), parent int REFERENCES parent,
			raw bytea, big bigint);
		INSERT INTO shop (id, name, note) VALUES (1, 'n', 'ghp_' || repeat('0123456789', 4))});
	my $state = q{SELECT (SELECT count(*) FROM angles.links) || ' ' || (SELECT count(*) FROM angles.link_columns)
		|| ' ' || (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'angles%') || ' '
		|| (SELECT count(*) FROM angles.audit_log)};
	my $before = $node->sql($state);
	is((shown("'shop'", 'name'))[1], 'title', 'K3: dry run: the title');
	is((shown("'shop'", 'state'))[1], 'select', 'K3: dry run: a CHECK of values is a select');
	is((shown("'shop'", 'amount'))[1], 'number', 'K3: dry run: a number');
	like((shown("'shop'", 'parent'))[2], qr/not linked/, 'K3: dry run: a foreign key to a table that is not linked');
	foreach my $secret ('password_hash', 'api_key', 'note')
	{
		my ($property, $type, $remark) = shown("'shop'", $secret);
		is($property, undef, "K1: a column that looks secret is left out: $secret");
		like($remark, qr/secret.*name it in the mapping/, "K1: and it is said: $secret");
	}
	my ($property, undef, $remark) = shown(q{'shop', mapping => '{"api_key": "key"}'}, 'api_key');
	is($property, 'key', 'K1: it is sent when the mapping names it');
	like($remark, qr/caution/, 'K1: with a word of caution');
	like($node->sql("SELECT remark FROM angles.link('shop', dry_run => true) WHERE \"column\" IS NULL"),
		qr/would have 1 rows/, 'K3: dry run: how much there is to send');
	is($node->sql($state), $before, 'K3: a dry run of link() leaves nothing behind');
	$node->sql("BEGIN; SELECT count(*) FROM angles.link('shop'); ROLLBACK");
	$node->sql("INSERT INTO shop (id, name) VALUES (2, 'm')");
	is($node->sql($state), $before, 'K3: nor does ROLLBACK of a link');
	is($node->sql('SELECT count(*) FROM angles.change_log'), 0, 'K3: which captures nothing');
	is(scalar($sim->ledger), 0, 'K3: and Notion hears of neither');
	link_table($node, 'shop');
	is(join(' ', grep { /password|api_key|note/ } keys %{ (pages($node, $sim, 'shop'))[0] }), '',
		'K1: what was left out is no property in Notion');
	rejected("link('shop')", 'NG102', qr/linked already.*HINT:.*alter_link/s, 'what is linked already');
}

# unlink, link again
{
	$node->sql("INSERT INTO good SELECT g, 'row', g FROM generate_series(1, 150) g");
	link_table($node, 'good', q{filter => 'n <= 100 OR n > 1000'});
	is(scalar(pages($node, $sim, 'good')), 100, 'B8: a filter: only what is in scope is sent');
	my $before = $sim->ledger;
	$node->sql('UPDATE good SET n = 500 WHERE id = 1');
	drained($node);
	is(scalar(writes($sim, $before)), 0, 'B8: a row that leaves the filter keeps its page, untouched');
	$node->sql("UPDATE good SET title = 'out' WHERE id = 1; DELETE FROM good WHERE id = 1");
	drained($node);
	is(scalar(writes($sim, $before)), 0, 'B8: even when it is deleted');
	$node->sql('UPDATE good SET n = 500 WHERE id = 2; UPDATE good SET n = 2 WHERE id = 2');
	drained($node);
	$node->sql('UPDATE good SET n = 500 WHERE id = 2');
	drained($node);
	$node->sql('UPDATE good SET n = 2 WHERE id = 2');
	drained($node);
	$before = $sim->ledger;
	$node->sql('DELETE FROM good WHERE id = 2');
	drained($node);
	is(scalar(grep { $_->{body}{in_trash} } writes($sim, $before)), 1,
		'B8: a row that came back into the filter is trashed as any other');

	$before = $sim->ledger;
	$node->sql("SELECT angles.unlink('good')");
	is($node->sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'good'::regclass AND NOT tgisinternal"), 0,
		'B8: unlink() takes the triggers along');
	$node->sql('UPDATE good SET n = n + 1000 WHERE id = 3; DELETE FROM good WHERE id = 4');
	is($node->sql("SELECT count(*) FROM angles.queue WHERE \"table\" = 'good'::regclass"), 0, 'B8: nothing is captured');
	link_table($node, 'good', q{filter => 'n <= 100 OR n > 1000'});
	is(scalar(creates($sim, $before)), 0, 'B8: linked again: 0 creates');
	my %page = map { $_->{id} => $_ } pages($node, $sim, 'good');
	is($page{3}{n}, 1003, 'B8: linked again: what changed meanwhile is sent');
	is($page{4}, undef, 'B8: linked again: what was deleted meanwhile goes');

	# what is known here of the pages is lost: they are found by their keys
	$node->sql("SELECT angles.unlink('good')");
	my $source = $node->sql("SELECT data_source_id FROM angles.links WHERE relid = 'good'::regclass");
	$node->sql("DELETE FROM angles.links WHERE relid = 'good'::regclass");
	$before = $sim->ledger;
	link_table($node, 'good', qq{data_source => '$source', filter => 'n <= 100 OR n > 1000'});
	is(scalar(creates($sim, $before)), 0, 'B1: bound to a data source that has its rows: 0 creates');
	is(scalar(grep { $_->{path} eq '/v1/databases' } $sim->ledger($before)), 0, 'B1: no database is made');
	$node->sql("UPDATE good SET title = 'bound' WHERE id = 5");
	drained($node);
	is((grep { $_->{id} eq '5' } pages($node, $sim, 'good'))[0]{title}, 'bound', 'B1: and it flows');
}

# a data source that a person made, with other properties and rows of its own
{
	my $made = $sim->call('POST', '/v1/databases', {
		parent => { type => 'page_id', page_id => $sim->parent },
		title => [ { type => 'text', text => { content => 'People' } } ],
		initial_data_source => { properties => {
			Name => { title => {} }, Score => { number => {} }, id => { rich_text => {} } } } });
	my $source = $made->{data_sources}[0]{id};
	foreach my $row ([ 'Ann', 1, '1' ], [ 'Bob', 2, '' ])
	{
		$sim->call('POST', '/v1/pages', { parent => { type => 'data_source_id', data_source_id => $source },
			properties => {
				Name => { title => [ { text => { content => $row->[0] } } ] }, Score => { number => $row->[1] },
				id => { rich_text => [ $row->[2] ? { text => { content => $row->[2] } } : () ] } } });
	}
	$node->sql(q{CREATE TABLE people (id int PRIMARY KEY, name text, score int, city text);
		INSERT INTO people VALUES (1, 'Ann', 5, 'Bonn'), (3, 'Cid', 6, 'Kiel')});
	my $before = $sim->ledger;
	link_table($node, 'people', qq{data_source => '$source', mapping => '{"name": "Name", "score": "Score"}'});
	my %page = map { $_->{Name} => $_ } pages($node, $sim, 'people');
	is(scalar(creates($sim, $before)), 1, 'B1: of an existing data source the page with the key is adopted');
	is("$page{Ann}{Score} $page{Ann}{city}", '5 Bonn', 'B1: and gets the values of the row');
	is("$page{Bob}{Score}", 2, 'B1: a page without a key is left alone');
	is($page{Cid}{id}, 3, 'B1: the row without a page gets one');
}

# K3: a pass that is only shown
{
	$node->sql("SELECT angles.pause('people')");
	$node->sql(q{UPDATE people SET score = 7 WHERE id = 1; DELETE FROM people WHERE id = 3;
		INSERT INTO people VALUES (9, 'Dan', 1, 'Ulm')});
	$node->wait_sql("SELECT count(*) = 0 FROM angles.change_log", 'K3: folded');
	my $fingerprint = q{SELECT md5(string_agg(x, '|' ORDER BY x)) FROM (
		SELECT q::text || q.xmin::text AS x FROM angles.queue_entries q UNION ALL
		SELECT p::text || p.xmin::text FROM angles.pages p UNION ALL
		SELECT l::text || l.xmin::text FROM angles.links l UNION ALL
		SELECT c::text || c.xmin::text FROM angles.link_columns c UNION ALL
		SELECT c::text FROM angles.change_log c UNION ALL
		SELECT t::text || t.xmin::text FROM people t UNION ALL
		SELECT last_value::text FROM angles.queue_seq UNION ALL
		SELECT count(*)::text FROM angles.audit_log) y};
	my $before = $node->sql($fingerprint);
	my $requests = $sim->requests;
	my ($plan) = $node->rows(q{SELECT created, updated, trashed FROM angles.sync_notion(ARRAY['people'::regclass], dry_run => true)});
	is("@$plan", '1 1 1', 'K3: dry run: one create, one update, one deletion');
	is($node->sql("SELECT count(*) FROM angles.sync_notion(ARRAY['people'::regclass], dry_run => true)"), 1,
		'K3: as often as one likes');
	is($node->sql($fingerprint), $before, 'K3: nothing was written here');
	is(scalar($sim->requests), $requests, 'K3: nothing was sent');
	my $ledger = $sim->ledger;
	$node->sql("SELECT angles.resume('people')");
	drained($node);
	my @w = writes($sim, $ledger);
	is(scalar(grep { $_->{method} eq 'POST' } @w) . scalar(grep { $_->{body}{properties} && $_->{method} eq 'PATCH' } @w)
			. scalar(grep { $_->{body}{in_trash} } @w) . scalar(@w), '1113', 'K3: the real run does exactly that');
}

done_testing();
