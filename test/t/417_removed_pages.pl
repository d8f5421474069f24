# 417_removed_pages.pl
#	Scenarios E: pages that people trash, put back, move and lose, and what becomes of their rows;
#	nothing is deleted that nobody deleted.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use PagesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.list_interval' => '1s' });
work_with($sim, $node);

# E2, hold: the default
{
	table('kept', 3);
	person('trash', 'kept', 2);
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '2' AND deleted_in = 'notion')", 'E2: hold: a trashed page is a held deletion');
	is(rows('kept'), 'row 1 1, row 2 2, row 3 3', 'E2: hold: the row stays');
	like(held('kept'), qr/^2 notion: its page was trashed in Notion$/, 'E2: hold: told why');
	my $before = $sim->ledger;
	$node->sql('UPDATE kept SET n = 22 WHERE id = 2');
	drained($node);
	is(scalar(writes($sim, $before)), 0, 'E2: hold: nothing is written into the trash');
	person('restore', 'kept', 2);
	comes("NOT EXISTS (SELECT FROM angles.held_deletes)", 'E7: a page that reappears leaves the list');
	drained($node);
	listed('kept');
	is(seen('kept'), '1 row 1 1, 2 row 2 22, 3 row 3 3', 'E2: hold: and gets what changed meanwhile');

	person('trash', 'kept', $_) foreach 1, 3;
	comes("(SELECT count(*) = 2 FROM angles.held_deletes)", 'E2: hold: two more');
	is($node->sql("SELECT angles.approve('kept', '1')"), 1, 'E2: approve() one');
	comes("(SELECT count(*) = 2 FROM kept)", 'E2: the row is deleted');
	is($node->sql("SELECT angles.refuse('kept', '3')"), 1, 'E2: refuse() the other');
	comes("NOT EXISTS (SELECT FROM angles.held_deletes)", 'E2: nothing is held any more');
	drained($node);
	listed('kept');
	is(rows('kept'), 'row 2 22, row 3 3', 'E2: rows after that');
	is(seen('kept'), '2 row 2 22, 3 row 3 3', 'E2: pages after that: the refused one is back');
	my ($rc, undef, $err) = $node->psql('postgres', "SELECT angles.approve('kept', '77')");
	like($err, qr/no deletion of row 77 of public.kept is held/, 'E2: approve() of nothing is an error');

	my $id = $node->sql("SELECT id FROM angles.removed_rows WHERE \"table\" = 'kept'::regclass");
	is($node->sql("SELECT \"row\"->>'title' FROM angles.removed_rows WHERE id = $id"), 'row 1', 'the deleted row is kept');
	is($node->sql("SELECT angles.undelete($id)"), '1', 'undelete() brings it back');
	drained($node);
	listed('kept');
	is(seen('kept'), '1 row 1 1, 2 row 2 22, 3 row 3 3', 'undelete(): with its page');
	($rc, undef, $err) = $node->psql('postgres', "SELECT angles.undelete($id)");
	like($err, qr/brought back already/, 'undelete(): once');
}

# E2, delete
{
	table('gone', 4, q{on_notion_delete => 'delete', mapping => '{"big": null}'}, 'big numeric, at timestamptz, tags text[], j json, gen int GENERATED ALWAYS AS (n * 2) STORED');
	$node->sql(q{UPDATE gone SET big = 12345678901234567890.123, at = '2026-01-01 12:00:00.123456+00', tags = '{a,"b c"}', j = '{"a":  1}'});
	drained($node);
	my $row = $node->sql('SELECT gone::text FROM gone WHERE id = 1');
	my $page = page_of('gone', 1);
	person('trash', 'gone', 1);
	comes("NOT EXISTS (SELECT FROM gone WHERE id = 1)", 'E2: delete: the row of a trashed page is deleted');
	listed('gone');
	is($node->sql("SELECT count(*) FROM gone"), 3, 'E2: delete: that one alone');
	$node->sql(q{CREATE TABLE noted (id int); CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO noted VALUES (NEW.id); RETURN NEW; END'; CREATE TRIGGER note_it AFTER INSERT ON gone FOR EACH ROW EXECUTE FUNCTION note_it()});
	is($node->sql("SELECT angles.undelete(max(id)) FROM angles.removed_rows"), '1', 'undelete(): the key is told');
	is($node->sql('SELECT id FROM noted'), 1, 'undelete(): triggers run as in any insert');
	is($node->sql('SELECT gone::text FROM gone WHERE id = 1'), $row, 'undelete(): every value is what it was');
	drained($node);
	is(page_of('gone', 1), $page, 'undelete(): the same page');
	is(scalar(grep { $_->{_id} eq $page } pages($node, $sim, 'gone')), 1, 'undelete(): out of the trash');

	# the trash was emptied meanwhile
	person('trash', 'gone', 2);
	comes("NOT EXISTS (SELECT FROM gone WHERE id = 2)", 'E2: delete: another one');
	$sim->call('POST', '/_sim/edit', { op => 'purge', page_id => page_of('gone', 2) });
	$node->sql("SELECT angles.undelete(max(id)) FROM angles.removed_rows");
	drained($node);
	listed('gone');
	is(live_keys($node, $sim, 'gone'), '1 2 3 4', 'undelete(): a page that is gone for good is made anew');

	# E3
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 100000, action => '503' });
	$node->sql('UPDATE gone SET n = 33 WHERE id = 3');
	person('trash', 'gone', 3);
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '3')", 'E3: a row that was changed here is not deleted');
	$sim->call('DELETE', '/_sim/faults');
	like(held('gone'), qr/changed here/, 'E3: and told why');
	$node->sql("SELECT angles.refuse('gone')");
	comes("(SELECT count(*) FROM angles.held_deletes) = 0", 'E3: refused');
	drained($node);
	listed('gone');
	is($node->sql('SELECT n FROM gone WHERE id = 3'), 33, 'E3: the row is as it was');
	like(seen('gone'), qr/3 row 3 33/, 'E3: and so is its page');
}

# delete: rows that others reference
{
	$node->sql(q{CREATE TABLE heads (id int PRIMARY KEY, title text);
		CREATE TABLE limbs (id int PRIMARY KEY, head int REFERENCES heads ON DELETE CASCADE);
		INSERT INTO heads VALUES (1, 'one'), (2, 'two'); INSERT INTO limbs VALUES (1, 1)});
	link_table($node, 'heads', q{title_column => 'title', on_notion_delete => 'delete'});
	person('trash', 'heads', $_) foreach 1, 2;
	comes("NOT EXISTS (SELECT FROM heads WHERE id = 2)", 'delete: a row that nothing references goes');
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '1' AND cause LIKE '%limbs%')",
		'delete: what the database would delete with a row is not lost: it is held', 60);
	$node->sql("SELECT angles.refuse('heads')");
	is($node->sql('SELECT count(*) FROM limbs'), 1, 'delete: and all is there');
}

# E2, flag and ignore
{
	table('flagged', 3, q{on_notion_delete => 'flag', mapping => '{"dropped_at": {"flag": true}}'}, 'dropped_at timestamptz');
	person('trash', 'flagged', 2);
	comes("EXISTS (SELECT FROM flagged WHERE id = 2 AND dropped_at IS NOT NULL)", 'E2: flag: the row is flagged');
	listed('flagged');
	is($node->sql('SELECT count(*) FROM flagged'), 3, 'E2: flag: and stays');
	person('restore', 'flagged', 2);
	comes("EXISTS (SELECT FROM flagged WHERE id = 2 AND dropped_at IS NULL)", 'E2: flag: un-trash clears it');
	person('set', 'flagged', 2, properties => { n => 5 });
	comes("EXISTS (SELECT FROM flagged WHERE id = 2 AND n = 5)", 'E2: flag: and edits go on');
	my ($rc, undef, $err) = $node->psql('postgres', q{SELECT angles.alter_link('kept', on_notion_delete => 'flag')});
	like($err, qr/needs a column to set/, 'E2: flag needs a column');

	table('ignored', 2, q{on_notion_delete => 'ignore'});
	person('trash', 'ignored', 1);
	comes("EXISTS (SELECT FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE relid = 'ignored'::regclass AND key = '1' AND p.state = 'removed')", 'E2: ignore: it is noticed');
	is($node->sql('SELECT count(*) FROM ignored'), 2, 'E2: ignore: and nothing happens');
	is(held('ignored'), '', 'E2: ignore: nothing is held');
}

# E1
{
	table('mine', 3);
	my $before = $sim->ledger;
	$node->sql('DELETE FROM mine WHERE id = 1');
	drained($node);
	is(scalar(writes($sim, $before)), 1, 'E1: a deletion is one request');
	listed('mine');
	$before = $sim->ledger;
	my $page = page_of('mine', 1);
	person('restore', 'mine', 1);
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '1' AND deleted_in = 'postgres')",
		'E1: restored in Notion it is a matter for people');
	listed('mine');
	is(scalar(writes($sim, $before)), 0, 'E1: it is not trashed again');
	is($node->sql('SELECT count(*) FROM mine'), 2, 'E1: nor is the row made again');
	$node->sql("SELECT angles.refuse('mine', '1')");
	comes("EXISTS (SELECT FROM mine WHERE id = 1 AND title = 'row 1' AND n = 1)", 'E1: refuse() makes the row of it');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'E1: at rest');
	is(page_of('mine', 1), $page, 'E1: with that page');
	$node->sql('DELETE FROM mine WHERE id = 2');
	drained($node);
	person('restore', 'mine', 2);
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '2')", 'E1: another one');
	$node->sql("SELECT angles.approve('mine', '2')");
	comes("(SELECT count(*) FROM angles.held_deletes) = 0", 'E1: approved');
	drained($node);
	listed('mine');
	is(seen('mine'), '1 row 1 1, 3 row 3 3', 'E1: approve() trashes it again');

	# E3: deleted here, edited there, before anybody asked
	$node->configure('angles.poll_interval' => '1h');
	$node->configure('angles.list_interval' => '1h');
	person('set', 'mine', 3, properties => { n => 333 });
	$node->sql('DELETE FROM mine WHERE id = 3');
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '3')", 'E3: a page that was edited meanwhile is not trashed');
	comes("(SELECT count(*) FROM angles.queue WHERE state <> 'held') = 0", 'E3: at rest');
	wait_for(sub { seen('mine') =~ /3 row 3 333/ }, 'E3: it is out of the trash again');
	$node->configure('angles.poll_interval' => '200ms');
	$node->configure('angles.list_interval' => '1s');
	$node->sql("SELECT angles.refuse('mine', '3')");
	comes("(SELECT count(*) FROM angles.held_deletes) = 0", 'E3: refused: it is nobody\'s');
	listed('mine');
	is(seen('mine'), '1 row 1 1, 3 row 3 333', 'E3: it stays as it is');
	is(rows('mine'), 'row 1 1', 'E3: and makes no row');
}

# E4
{
	table('moved', 2, q{on_notion_delete => 'delete'});
	table('other', 1);
	person('move', 'moved', 1, data_source_id => source_of('other'));
	comes("EXISTS (SELECT FROM angles.held_deletes WHERE key = '1' AND cause LIKE '%moved%')", 'E4: a moved page is no deletion');
	listed('moved');
	is($node->sql('SELECT count(*) FROM moved'), 2, 'E4: the row stays');
	person('move', 'moved', 1, data_source_id => source_of('moved'));
	comes("(SELECT count(*) FROM angles.held_deletes WHERE \"table\" = 'moved'::regclass) = 0", 'E4: moved back, it is the row\'s again');
	person('set', 'moved', 1, properties => { n => 9 });
	comes("EXISTS (SELECT FROM moved WHERE id = 1 AND n = 9)", 'E4: and goes on');
}

# E5, E6, E8
{
	table('dark', 3, q{on_notion_delete => 'delete'});
	my $source = source_of('dark');
	my $alerts = "SELECT count(*) FROM angles.alerts a JOIN angles.links l ON a.fingerprint = 'poll:' || l.id
		WHERE relid = 'dark'::regclass AND closed_at IS NULL";
	foreach my $case ([ 'unshare', 'share', 'E5: not shared' ], [ 'trash', 'restore', 'E8: in the trash' ])
	{
		my ($away, $back, $id) = @$case;
		my $before = $sim->ledger;
		$sim->call('POST', '/_sim/edit', { op => $away, data_source_id => $source });
		comes("(SELECT unreachable IS NOT NULL FROM angles.links WHERE relid = 'dark'::regclass)", "$id: the table waits");
		is($node->sql($alerts), 1, "$id: one alert");
		$node->sql('UPDATE dark SET n = n + 100');
		like($node->sql("SELECT detail FROM angles.status WHERE item = 'link dark'"), qr/^waits: /, "$id: shown in the status");
		is($node->sql('SELECT count(*) FROM dark'), 3, "$id: no row is deleted");
		is(held('dark'), '', "$id: nothing is held");
		$sim->call('POST', '/_sim/edit', { op => $back, data_source_id => $source });
		comes("(SELECT unreachable IS NULL FROM angles.links WHERE relid = 'dark'::regclass)", "$id: it goes on by itself", 60);
		comes("(SELECT count(*) FROM angles.queue) = 0", "$id: all is sent", 60);
		listed('dark');
		is(seen('dark'), join(', ', map { my $n = $node->sql("SELECT n FROM dark WHERE id = $_"); "$_ row $_ $n" } 1 .. 3), "$id: and equal");
		is($node->sql($alerts), 0, "$id: the alert is closed");
		is(scalar(creates($sim, $before)), 0, "$id: no page is made");
	}
	# E6
	$sim->faults({ method => 'POST', path => "$source/query", count => 20, action => 'empty' });
	listed('dark');
	is($node->sql('SELECT count(*) FROM dark'), 3, 'E6: an empty answer deletes nothing');
	is(held('dark'), '', 'E6: and nothing is held');
}

# E7
{
	table('many', 60, q{on_notion_delete => 'delete'});
	my $each = sub {
		my ($op, @keys) = @_;
		$sim->call('POST', '/_sim/edit', { edits => [ map { { op => $op, page_id => page_of('many', $_) } } @keys ] });
	};
	my $held = "(SELECT count(*) FROM angles.held_deletes WHERE \"table\" = 'many'::regclass)";
	$each->('trash', 1 .. 40);
	comes("$held = 40", 'E7: many removals at once wait');
	is($node->sql('SELECT count(*) FROM many'), 60, 'E7: no row is deleted');
	$each->('restore', 1 .. 5);
	comes("$held = 35", 'E7: what reappears leaves the list');
	is($node->sql("SELECT angles.refuse('many', '40')"), 1, 'E7: one of many can be refused');
	comes("$held = 34", 'E7: it leaves the list');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'E7: at rest');
	like(seen('many'), qr/40 row 40 40/, 'E7: and its page is back');
	is($node->sql("SELECT angles.approve('many')"), 34, 'E7: approve() lets all of it go');
	comes("(SELECT count(*) = 26 FROM many)", 'E7: the rows are deleted');
	is($node->sql("SELECT count(*) FROM angles.removed_rows WHERE \"table\" = 'many'::regclass"), 34, 'E7: and kept');

	$node->sql("SELECT angles.allow_mass_delete('many')");
	$each->('trash', 1 .. 5, 40 .. 58);
	comes("(SELECT count(*) = 2 FROM many)", 'E7: the bypass lets the next one through');
	is($node->sql("SELECT bypass_until IS NULL FROM angles.links WHERE relid = 'many'::regclass"), 't', 'E7: and resets itself');

	table('bits', 60, q{on_notion_delete => 'delete'});
	$sim->call('POST', '/_sim/edit', { edits => [ map { { op => 'trash', page_id => page_of('bits', $_) } } 1 .. 25 ] });
	comes("(SELECT count(*) = 35 FROM bits)", 'E7: few enough go');
	$sim->call('POST', '/_sim/edit', { edits => [ map { { op => 'trash', page_id => page_of('bits', $_) } } 26 .. 40 ] });
	comes("(SELECT count(*) = 15 FROM angles.held_deletes WHERE \"table\" = 'bits'::regclass)", 'E7: but not bit by bit');
}

# K1
{
	$node->sql(q{CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA angles TO nobody});
	foreach my $call (q{angles.undelete(1)}, q{angles.approve('kept', '1')}, q{angles.allow_mass_delete('kept')})
	{
		my ($rc, undef, $err) = $node->psql('postgres', "SET ROLE nobody; SELECT $call");
		like($err, qr/permission denied/, "K1: $call needs rights");
	}
	$node->sql(q{GRANT angles_admin TO nobody});
	my $id = $node->sql("SELECT min(id) FROM angles.removed_rows WHERE restored_at IS NULL");
	my ($rc, undef, $err) = $node->psql('postgres', "SET ROLE nobody; SELECT angles.undelete($id)");
	like($err, qr/permission denied for table/, 'K1: undelete() has the rights of its caller on the table');
	is($node->sql("SET ROLE nobody; SELECT count(\"row\") FROM angles.removed_rows"), 0, 'K1: and values are not for everybody');
}

done_testing();
