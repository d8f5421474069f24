# 416_new_pages.pl
#	Scenarios C8 and C9: pages that people add and copy become rows, once.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use PagesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.list_interval' => '1s' });
work_with($sim, $node);

# C8
{
	table('added', 2);
	my $before = $sim->ledger;
	my $page = add('added', title => 'from Notion', n => 7);
	comes("EXISTS (SELECT FROM added WHERE title = 'from Notion' AND n = 7)", 'C8: a page that a person adds becomes a row');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'C8: and is at rest');
	listed('added');
	is(rows('added', "id || ' ' || title"), '1 row 1, 2 row 2, 3 from Notion', 'C8: one row');
	is(seen('added'), '1 row 1 1, 2 row 2 2, 3 from Notion 7', 'C8: its page has its key');
	is(page_of('added', 3), $page, 'C8: it is that page');
	is(scalar(grep { ($_->{by} // '') eq 'api' } $sim->ledger($before)), 1, 'C8: written once');
	$node->sql("UPDATE added SET n = 8 WHERE id = 3");
	drained($node);
	person('set', 'added', 3, properties => { title => 'again' });
	comes("EXISTS (SELECT FROM added WHERE id = 3 AND title = 'again' AND n = 8)", 'C8: and goes on both ways');

	# a page with nothing in it is somebody's who has not begun to write
	my $blank = add('added');
	listed('added');
	is($node->sql('SELECT count(*) FROM added'), 3, 'C8: an empty page makes no row');
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $blank, properties => { n => 1 } });
	comes("EXISTS (SELECT FROM added WHERE id = 4 AND n = 1 AND title IS NULL)", 'C8: until there is something in it');
}

# C8: killed at each step
foreach my $point ('applied', 'apply_committed', 'before_claim_commit', 'after_claim_commit')
{
	my $count = $node->sql('SELECT count(*) FROM added');
	$node->arm_kill_point($point);
	my $page = add('added', title => "killed at $point");
	wait_for(sub { $node->kill_point_struck }, "C8: $point strikes");
	$node->disarm_kill_point;
	comes("EXISTS (SELECT FROM added WHERE title = 'killed at $point')", "C8: killed at $point: the row is made", 60);
	listed('added');
	is($node->sql('SELECT count(*) FROM added'), $count + 1, "C8: killed at $point: once");
	is(scalar(grep { /killed at $point/ } split /, /, seen('added')), 1, "C8: killed at $point: of one page");
}

# C8: defaults, what the database refuses, filters, keys that nobody draws
{
	table('picky', 1, q{filter => 'n > 0'}, "kind text NOT NULL DEFAULT 'plain', must text NOT NULL DEFAULT 'x' CHECK (must <> 'bad')");
	add('picky', title => 'ok', n => 1);
	comes("EXISTS (SELECT FROM picky WHERE title = 'ok' AND kind = 'plain')", 'C8: defaults are the row\'s');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'C8: picky is at rest');
	like(join(' ', map { $_->{kind} } pages($node, $sim, 'picky')), qr/plain plain/, 'C8: and are shown in Notion');
	my $bad = add('picky', title => 'bad', n => 1, must => 'bad');
	comes(q{EXISTS (SELECT FROM angles.parked WHERE code = '23514' AND message LIKE '%picky_must_check%')},
		'C7: a new page that a constraint refuses parks with its name');
	add('picky', title => 'outside', n => 0);
	comes(q{EXISTS (SELECT FROM angles.parked WHERE code = 'NG108')}, 'C8: a row that the filter would not let through is refused');
	is($node->sql('SELECT count(*) FROM picky'), 2, 'C8: and not made');
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $bad, properties => { must => 'good' } });
	comes("EXISTS (SELECT FROM picky WHERE must = 'good')", 'C8: once corrected it is made');

	$node->sql(q{CREATE TABLE codes (code text PRIMARY KEY, title text)});
	link_table($node, 'codes', q{title_column => 'title'});
	my $page = add('codes', title => 'no code');
	comes(q{EXISTS (SELECT FROM angles.parked WHERE code = '23502' AND message LIKE '%write a key into property "code"%')},
		'C8: a key that nobody draws has to be written');
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page, properties => { code => 'abc' } });
	comes("EXISTS (SELECT FROM codes WHERE code = 'abc' AND title = 'no code')", 'C8: then it is the row\'s');
}

# C8: keys that a domain or a trigger draws
{
	$node->sql(q{
		CREATE SEQUENCE numbers START 100;
		CREATE DOMAIN number AS int DEFAULT nextval('numbers');
		CREATE TABLE by_domain (id number PRIMARY KEY, title text);
		CREATE TABLE by_trigger (id text PRIMARY KEY, title text);
		CREATE FUNCTION draw() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF NEW.title <> 'none' THEN NEW.id := COALESCE(NEW.id, 'drawn ' || nextval('numbers')); END IF; RETURN NEW; END $$;
		CREATE TRIGGER draw BEFORE INSERT ON by_trigger FOR EACH ROW EXECUTE FUNCTION draw()});
	link_table($node, $_, q{title_column => 'title'}) foreach 'by_domain', 'by_trigger';
	add('by_domain', title => 'one');
	add('by_trigger', title => 'two');
	add('by_trigger', title => 'none');
	comes(q{(SELECT id >= 100 FROM by_domain WHERE title = 'one')}, 'C8: the default of a domain draws the key');
	comes(q{(SELECT id LIKE 'drawn %' FROM by_trigger WHERE title = 'two')}, 'C8: or a trigger');
	comes(q{EXISTS (SELECT FROM angles.parked WHERE "table" = 'by_trigger'::regclass AND message ~ 'null value in column "id"')},
		'C8: one that the trigger does not draw parks');
	comes(q{(SELECT count(*) = 2 FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE l.relid IN ('by_domain'::regclass, 'by_trigger'::regclass) AND p.state = 'live')}, 'C8: the others are live');
}

# C8: pages that point to each other come in any order
{
	$node->sql(q{CREATE TABLE projects (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
		CREATE TABLE tasks (id bigserial PRIMARY KEY, title text, project int NOT NULL REFERENCES projects)});
	link_table($node, 'projects', q{title_column => 'title'});
	link_table($node, 'tasks', q{title_column => 'title'});
	my $parent = add('projects');
	add('tasks', title => 'task', project => [$parent]);
	comes(q{EXISTS (SELECT FROM angles.inbound WHERE class = 'relation')}, 'G1: a page waits for the row of another one');
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $parent, properties => { title => 'project' } });
	comes(q{EXISTS (SELECT FROM tasks t JOIN projects p ON p.id = t.project WHERE t.title = 'task' AND p.title = 'project')},
		'G1: and gets its row when that has one');
}

# C8: a key that is none, one of a row that has no page, one that nobody has
{
	table('typed', 2);
	add('typed', title => 'odd', id => 'not a number');
	comes("EXISTS (SELECT FROM typed WHERE id = 3 AND title = 'odd')", 'C8: what cannot be a key is none');
	$node->sql("SET angles.sync = off; INSERT INTO typed VALUES (50, 'unseen', 5)");
	my $page = add('typed', title => 'for it', id => '50');
	comes("(SELECT title FROM typed WHERE id = 50) = 'unseen'", 'C8: the row');
	comes("EXISTS (SELECT FROM angles.pages WHERE page_id = '$page' AND state = 'live' AND key = '50')", 'C8: the page of a row that has none is found by its key');
	add('typed', title => 'far', id => '77');
	comes("EXISTS (SELECT FROM typed WHERE id = 4 AND title = 'far')", 'C8: a key that the sequence has yet to give is not taken');
	# another way to write the key of a row that has a page, and what is no key of a pair
	add('typed', title => 'thief', id => '01');
	comes("EXISTS (SELECT FROM typed WHERE id = 5 AND title = 'thief')", 'C9: a key written in another way is the same key');
	is($node->sql("SELECT title FROM typed WHERE id = 1"), 'row 1', 'C9: its row is left alone');
	$node->sql(q{CREATE TABLE pairs (a int, b int, title text, PRIMARY KEY (a, b)); INSERT INTO pairs VALUES (1, 2, 'pair')});
	link_table($node, 'pairs', q{title_column => 'title'});
	add('pairs', title => 'numbers', 'angles key' => '[1, 2]');
	add('pairs', title => 'made', 'angles key' => '["3", "4"]');
	comes("EXISTS (SELECT FROM pairs WHERE a = 3 AND b = 4 AND title = 'made')", 'C8: a key of two columns');
	comes(q{EXISTS (SELECT FROM angles.parked WHERE "table" = 'pairs'::regclass)}, 'C8: numbers are no key as it is written');
	is($node->sql("SELECT string_agg(title, ' ' ORDER BY a) FROM pairs"), 'pair made', 'C8: and nobody dies of them');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'C8: at rest');
	is(seen('typed'), join(', ', sort split /, /, rows('typed', "id || ' ' || title || ' ' || COALESCE(n::text, '-')")), 'C8: both sides are equal');
}

# C9
{
	table('copied', 2);
	my $copy = person('duplicate', 'copied', 1)->{page_id};
	comes("(SELECT count(*) FROM copied) = 3", 'C9: a copy becomes a row of its own');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'C9: and is at rest');
	listed('copied');
	is(rows('copied', "id || ' ' || title"), '1 row 1, 2 row 2, 3 row 1', 'C9: with a key of its own');
	is(seen('copied'), '1 row 1 1, 2 row 2 2, 3 row 1 1', 'C9: which its page carries');
	is(page_of('copied', 3), $copy, 'C9: the older page keeps the row');
	my $codes = add('codes', code => 'abc', title => 'a copy');
	comes(q{EXISTS (SELECT FROM angles.parked WHERE "table" = 'codes'::regclass AND code = '23502')},
		'C9: where no key is drawn a copy parks');
	is($node->sql('SELECT count(*) FROM codes'), 1, 'C9: and makes no row');
}

# the first pull: pages and rows that were there before the link
{
	table('first', 3);
	my $source = source_of('first');
	$node->sql("SELECT angles.unlink('first')");
	add_to($source, title => 'theirs', n => 50);
	$node->sql(q{CREATE TABLE second (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, title text, n int);
		INSERT INTO second VALUES (2, 'ours', 22), (30, 'only here', 30)});
	my $before = $sim->ledger;
	link_table($node, 'second', "title_column => 'title', data_source => '$source'");
	comes("(SELECT count(*) = 5 FROM second)", 'C8: pages that were there become rows');
	comes("(SELECT count(*) FROM angles.queue) = 0", 'C8: and all is at rest');
	listed('second');
	is(seen('second'), join(', ', sort split /, /, rows('second', "id || ' ' || title || ' ' || n")), 'C8: both sides are equal');
	is(scalar(creates($sim, $before)), 1, 'C8: a page is made for the row that had none');
	is(join(' ', sort map { $_->{title} } pages($node, $sim, 'second')), 'only here ours row 1 row 3 theirs', 'C8: nothing is lost or doubled');
	is($node->sql("SELECT string_agg(notion::text, ' ' ORDER BY property) FROM angles.conflicts WHERE \"table\" = 'second'::regclass"),
		'2 "row 2"', 'D3: what the row\'s values replaced is kept');

	# linked again: the same pages, and what was done meanwhile on both sides
	$node->sql("SELECT angles.unlink('second')");
	$node->sql(q{DELETE FROM second WHERE id = 30; UPDATE second SET n = 23 WHERE id = 2});
	my $page = page_of('second', 2);
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page, properties => { title => 'edited' } });
	link_table($node, 'second', q{title_column => 'title'});
	comes("EXISTS (SELECT FROM second WHERE id = 2 AND title = 'edited' AND n = 23)", 'D1: linked again, both changes are there');
	listed('second');
	is($node->sql('SELECT count(*) FROM second'), 4, 'J1: linked again, no row is made twice');
	unlike(seen('second'), qr/only here/, 'J1: and a row that was deleted meanwhile is gone there');
}

# a data source whose pages carry keys of rows that this table has not got
{
	table('theirs', 3);
	my $source = source_of('theirs');
	$node->sql("SELECT angles.unlink('theirs')");
	$node->sql(q{CREATE TABLE copy (id int PRIMARY KEY, title text, n int); INSERT INTO copy VALUES (1, 'row 1', 1)});
	my $before = $sim->ledger;
	link_table($node, 'copy', "title_column => 'title', data_source => '$source', direction => 'out'");
	comes("(SELECT count(*) = 2 FROM angles.held_deletes WHERE \"table\" = 'copy'::regclass)",
		'E7: pages that no row was ever seen of are not trashed without a word');
	is(scalar(writes($sim, $before)), 0, 'E7: nothing is written');
	$node->sql("SELECT angles.unlink('copy')");
}

# a page that this connection has made twice, as by a create that was given up too early
{
	table('doubled', 2);
	my $source = source_of('doubled');
	my $open = sub { return "EXISTS (SELECT FROM angles.alerts WHERE fingerprint LIKE 'duplicate:%:1' AND closed_at IS " . $_[0] . ')' };
	my $made = $sim->call('POST', '/v1/pages', { parent => { type => 'data_source_id', data_source_id => $source },
		properties => { title => { title => [ { text => { content => 'twin' } } ] }, id => { rich_text => [ { text => { content => '1' } } ] } } });
	comes($open->('NULL'), 'B1: a double of our own is told of');
	is($node->sql('SELECT count(*) FROM doubled'), 2, 'B1: and becomes no row');
	$sim->call('POST', '/_sim/edit', { op => 'trash', page_id => $made->{id} });
	listed('doubled');
	comes($open->('NOT NULL') . ' AND NOT ' . $open->('NULL'), 'B1: until the copy is gone');
}

done_testing();
