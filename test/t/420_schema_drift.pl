# 420_schema_drift.pl
#	Scenarios I: properties that people rename, remove or change in Notion, and columns that change
#	here, while changes go both ways. Only what is affected pauses, and says how to go on.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use PagesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.list_interval' => '1s' });
work_with($sim, $node);

# A person changes the schema of a table's data source.
sub schema
{
	my ($op, $table, %more) = @_;
	return $sim->call('POST', '/_sim/edit', { op => $op, data_source_id => source_of($table), %more });
}

sub problems
{
	my ($table) = @_;
	return $node->sql("SELECT COALESCE(string_agg(property_name || ': ' || COALESCE(c.problem, notion_problem), '; '), '')
		FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id
		WHERE relid = '$table'::regclass AND (c.problem IS NOT NULL OR notion_problem IS NOT NULL)");
}

sub alert
{
	my ($table) = @_;
	return $node->sql("SELECT COALESCE(string_agg(concat_ws(' - ', a.title, a.detail, a.hint), '; '), '') FROM angles.alerts a
		JOIN angles.links l ON a.fingerprint = 'link:' || l.id WHERE relid = '$table'::regclass AND closed_at IS NULL");
}

# I1
{
	table('renamed', 2, undef, 'note text, more text');
	my $before = $sim->ledger;
	schema('rename_property', 'renamed', property => 'note', name => 'Remark');
	schema('rename_property', 'renamed', property => 'more', name => 'note');
	comes("(SELECT string_agg(property_name, ' ' ORDER BY attname) FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id
		WHERE relid = 'renamed'::regclass AND attname IN ('note', 'more')) = 'note Remark'", 'I1: renamed properties are followed by their ids');
	is(scalar(grep { ($_->{by} // '') eq 'api' } $sim->ledger($before)), 0, 'I1: nothing is written for that');
	$node->sql("UPDATE renamed SET note = 'n', more = 'm' WHERE id = 1");
	drained($node);
	my ($page) = grep { $_->{id} eq '1' } pages($node, $sim, 'renamed');
	is("$page->{Remark} $page->{note}", 'n m', 'I1: each value goes to its property');
	person('set', 'renamed', 2, properties => { Remark => 'from there' });
	comes("EXISTS (SELECT FROM renamed WHERE id = 2 AND note = 'from there' AND more IS NULL)", 'I1: and comes from it');
	schema('rename_property', 'renamed', property => 'id', name => 'Number');
	person('set', 'renamed', 2, properties => { n => 7 });
	comes("EXISTS (SELECT FROM renamed WHERE id = 2 AND n = 7)", 'I1: the key under another name');
	$node->sql("INSERT INTO renamed (title) VALUES ('one more')");
	drained($node);
	is(scalar(grep { ($_->{Number} // '') eq '3' } pages($node, $sim, 'renamed')), 1, 'I1: and new rows have it');
	is(problems('renamed'), '', 'I1: nothing is paused');
	is(alert('renamed'), '', 'I1: nobody is bothered');
}

# I2: removed
{
	table('removed', 3, undef, 'note text');
	$node->sql("UPDATE removed SET note = 'note ' || id");
	drained($node);
	my $rows = rows('removed', "id || note");
	schema('delete_property', 'removed', property => 'note');
	$node->sql("UPDATE removed SET note = 'changed', n = 100 WHERE id = 1");
	comes("EXISTS (SELECT FROM angles.link_columns WHERE notion_problem LIKE '%was removed in Notion%')", 'I2: a removed property is noticed');
	drained($node);
	like(seen('removed'), qr/1 row 1 100/, 'I2: the row\'s other columns go on');
	is($node->sql("SELECT count(*) FROM angles.parked"), 0, 'I2: no row parks');
	like(alert('removed'), qr/note.*removed in Notion.*alter_link/, 'I2: people are told what to do');
	person('set', 'removed', 2, properties => { n => 200 });
	comes("EXISTS (SELECT FROM removed WHERE id = 2 AND n = 200)", 'I2: edits go on');
	is(rows('removed', "id || note"), $rows =~ s/1note 1/1changed/r, 'I2: values here are untouched');
	$node->sql("SELECT count(*) FROM angles.alter_link('removed')");
	comes("(SELECT state = 'active' FROM angles.links WHERE relid = 'removed'::regclass)", 'I2: alter_link()');
	drained($node);
	listed('removed');
	is(join(' ', sort map { $_->{note} // '' } pages($node, $sim, 'removed')), 'changed note 2 note 3', 'I2: makes it again, with all values');
	is(rows('removed', "id || note"), $rows =~ s/1note 1/1changed/r, 'I2: and takes none from there');
	is(problems('removed') . alert('removed'), '', 'I2: nothing is paused any more');
}

# I2: the name of a removed property is given to another one
{
	table('swapped', 2, undef, 'note text, more text');
	$node->sql("UPDATE swapped SET note = 'n' || id, more = 'm' || id");
	drained($node);
	schema('delete_property', 'swapped', property => 'note');
	schema('rename_property', 'swapped', property => 'more', name => 'note');
	comes("EXISTS (SELECT FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id WHERE relid = 'swapped'::regclass
		AND attname = 'more' AND property_name = 'note')", 'I2: its name is the other column\'s');
	$node->sql("UPDATE swapped SET more = 'mm' || id");
	drained($node);
	is(join(' ', sort map { $_->{note} } pages($node, $sim, 'swapped')), 'mm1 mm2', 'I2: which goes on');
	$node->sql("SELECT count(*) FROM angles.alter_link('swapped')");
	comes("(SELECT state = 'active' FROM angles.links WHERE relid = 'swapped'::regclass)", 'I2: alter_link()');
	drained($node);
	is($node->sql("SELECT count(DISTINCT property_id) = count(*) FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id
		WHERE relid = 'swapped'::regclass"), 't', 'I2: no two columns share a property');
	is(rows('swapped', 'note || more'), 'n1mm1, n2mm2', 'I2: and each has its values');
	$node->sql("SELECT angles.unlink('swapped')");
}

# I2: another type, and back
{
	table('retyped', 2, undef, 'note text');
	$node->sql("UPDATE retyped SET note = 'note ' || id");
	drained($node);
	schema('retype_property', 'retyped', property => 'n', type => 'checkbox');
	comes("EXISTS (SELECT FROM angles.link_columns WHERE notion_problem LIKE '%is checkbox in Notion, not number%')", 'I2: another type is noticed');
	$node->sql("UPDATE retyped SET n = n + 10, note = 'more ' || id");
	drained($node);
	is(join(' ', sort map { $_->{note} } pages($node, $sim, 'retyped')), 'more 1 more 2', 'I2: other columns go on');
	is(rows('retyped'), 'row 1 11, row 2 12', 'I2: nothing is taken from a property of another type');
	schema('retype_property', 'retyped', property => 'n', type => 'number');
	comes("NOT EXISTS (SELECT FROM angles.link_columns WHERE notion_problem IS NOT NULL)", 'I2: back again it goes on by itself');
	compared($node, 'retyped');
	listed('retyped');
	is(seen('retyped'), '1 row 1 11, 2 row 2 12', 'I2: with what changed meanwhile');
	is(alert('retyped'), '', 'I2: the alert is closed');
}

# I2: the key's property
{
	table('keyless', 2);
	schema('delete_property', 'keyless', property => 'id');
	comes("EXISTS (SELECT FROM angles.alerts WHERE title LIKE '%keyless is paused: property \"id\", by which pages find their rows, was removed%'
		AND closed_at IS NULL)", 'I2: without its key the table waits');
	my $before = $sim->ledger;
	$node->sql("INSERT INTO keyless (title) VALUES ('new')");
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded');
	is(scalar(creates($sim, $before)), 0, 'I2: no page is made that would not be found again');
	like($node->sql("SELECT string_agg(concat_ws(' ', state, detail, hint), '; ') FROM angles.status"), qr/critical.*removed in Notion.*alter_link/, 'I2: the status says why');
	$node->sql("SELECT count(*) FROM angles.alter_link('keyless')");
	comes("(SELECT state = 'active' AND NOT paused FROM angles.links WHERE relid = 'keyless'::regclass)", 'I2: alter_link() makes the key again');
	drained($node);
	listed('keyless');
	is(live_keys($node, $sim, 'keyless'), '1 2 3', 'I2: every page has it, and none is made twice');
	is($node->sql('SELECT count(*) FROM keyless'), 3, 'I2: nor any row');
}

# I3: here, while edits come from there
{
	table('ours', 3, undef, 'note text, gone text');
	$node->sql("ALTER TABLE ours RENAME COLUMN note TO remark");
	person('set', 'ours', 1, properties => { note => 'to the renamed' });
	comes("EXISTS (SELECT FROM ours WHERE id = 1 AND remark = 'to the renamed')", 'I3: an edit finds the renamed column');
	$node->sql("ALTER TABLE ours DROP COLUMN gone");
	person('set', 'ours', 1, properties => { gone => 'nowhere', n => 11 });
	comes("EXISTS (SELECT FROM ours WHERE id = 1 AND n = 11)", 'I3: a dropped column is left out');
	like(alert('ours'), qr/gone.*alter_link/, 'I3: and people are told');
	$node->sql("ALTER TABLE ours ALTER COLUMN n TYPE text USING 'n' || n");
	person('set', 'ours', 2, properties => { n => 22, note => 'still' });
	comes("EXISTS (SELECT FROM ours WHERE id = 2 AND remark = 'still')", 'I3: another type pauses that column');
	is($node->sql('SELECT n FROM ours WHERE id = 2'), 'n2', 'I3: whose value stays');
}

done_testing();
