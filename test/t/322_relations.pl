# 322_relations.pl
#	Scenarios G and B9: rows that point to rows, in one transaction, in circles, to rows that cannot
#	be sent; and values that Notion keeps in another form.
use strict;
use warnings;

use JSON::PP ();
use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

sub since
{
	my ($sql) = @_;
	my $before = $sim->ledger;
	$node->sql($sql);
	drained($node);
	return writes($sim, $before);
}

# Returns the live page of a key, or {}.
sub page_of
{
	my ($table, $key, $column) = @_;
	my ($page) = grep { $_->{ $column // 'id' } eq $key } pages($node, $sim, $table);
	return $page // {};
}

# Returns the properties of a request by their ids' JSON, as text.
sub body
{
	my ($write) = @_;
	return JSON::PP->new->canonical->encode($write->{body}{properties} // {});
}

# G1
{
	$node->sql(q{
		CREATE TABLE author (id int PRIMARY KEY, name text);
		CREATE TABLE book (id int PRIMARY KEY, title text, author int REFERENCES author DEFERRABLE INITIALLY DEFERRED)});
	link_table($node, 'author');
	link_table($node, 'book');
	# the child is written first: the order of the log is not the order of the requests
	my @w = since(q{BEGIN; INSERT INTO book VALUES (1, 'b', 1); INSERT INTO author VALUES (1, 'a'); COMMIT});
	is(join(' ', map { $_->{method} } @w), 'POST POST', 'G1: parent and child of one transaction: two requests');
	my $author = page_of('author', 1)->{_id};
	is(page_of('book', 1)->{author}, $author, 'G1: the child points to its parent');
	like(body($w[1]), qr/\Q$author\E/, 'G1: its first write holds the relation');

	$node->sql("SELECT angles.pause('author')");
	my $before = $sim->ledger;
	$node->sql(q{BEGIN; INSERT INTO author SELECT g, 'a' FROM generate_series(2, 101) g;
		INSERT INTO book SELECT g, 'b', g FROM generate_series(2, 101) g; COMMIT});
	$node->wait_sql("SELECT count(*) = 100 FROM angles.queue WHERE state = 'waiting'", 'G1: children wait');
	$node->kill_worker('sync', 'TERM');
	$node->sql("SELECT angles.resume('author')");
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue", 'G1: all are sent');
	is(scalar(grep { !$_->{author} } pages($node, $sim, 'book')), 0,
		'G1: all hold their relation, though the worker was ended between');
	is(scalar(creates($sim, $before)), 200, 'G1: nothing twice');

	# the worker dies between the two
	$node->arm_kill_point('answer_taken');
	$node->psql('postgres', q{BEGIN; INSERT INTO author VALUES (500, 'a'); INSERT INTO book VALUES (500, 'b', 500); COMMIT});
	wait_for(sub { $node->kill_point_struck }, 'G1: the worker dies between parent and child', 60);
	ok($node->disarm_kill_point, 'G1: the worker was killed');
	drained($node, 60);
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue", 'G1: all are sent', 60);
	is(page_of('book', 500)->{author}, page_of('author', 500)->{_id}, 'G1: a crash between them converges');
	is(scalar(grep { $_->{id} eq '500' } pages($node, $sim, 'author')), 1, 'G1: one parent');

	@w = since('UPDATE book SET author = 3 WHERE id = 1');
	is(page_of('book', 1)->{author}, page_of('author', 3)->{_id}, 'G1: another parent');
	@w = since('UPDATE book SET author = NULL WHERE id = 1');
	is(page_of('book', 1)->{author}, '', 'G1: no parent');
}

# G2: a self reference
{
	$node->sql('CREATE TABLE node (id int PRIMARY KEY, title text, parent int REFERENCES node)');
	link_table($node, 'node');
	my @w = since(q{INSERT INTO node VALUES (1, 'self', 1)});
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'G2: a row that points to itself is finished');
	is(page_of('node', 1)->{parent}, page_of('node', 1)->{_id}, 'G2: a row may point to itself');
	is(scalar(pages($node, $sim, 'node')), 1, 'G2: and has one page');
	since(q{INSERT INTO node SELECT g, 'chain', CASE WHEN g > 2 THEN g - 1 END FROM generate_series(2, 30) g});
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'G2: a chain is finished');
	is(page_of('node', 30)->{parent}, page_of('node', 29)->{_id}, 'G2: the end of a chain');
	my $before = $sim->ledger;
	since(q{BEGIN; INSERT INTO node VALUES (100, 'a', NULL), (101, 'b', 100), (102, 'c', 101);
		UPDATE node SET parent = 102 WHERE id = 100; COMMIT});
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'G2: a circle is finished');
	is(page_of('node', 100 + $_)->{parent}, page_of('node', 100 + ($_ + 2) % 3)->{_id}, "G2: in a circle, row $_")
	  foreach 0 .. 2;
	is(scalar(creates($sim, $before)), 3, 'G2: each is made once');
	is(scalar(writes($sim, $before)), 4, 'G2: one of them gets its relation in a second pass');
}

# G2: a circle over two tables
{
	$node->sql(q{
		CREATE TABLE dept (id int PRIMARY KEY, name text, head int);
		CREATE TABLE person (id int PRIMARY KEY, name text, dept int REFERENCES dept);
		ALTER TABLE dept ADD CONSTRAINT dept_head FOREIGN KEY (head) REFERENCES person DEFERRABLE INITIALLY DEFERRED});
	link_table($node, 'dept');
	link_table($node, 'person');
	# head was linked as a number, before there was a table to point to
	$node->sql("SELECT count(*) FROM angles.alter_link('dept', mapping => '{\"head\": \"headed by\"}')");
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'dept'::regclass", 'dept is active');
	drained($node);
	my $before = $sim->ledger;
	since(q{BEGIN; INSERT INTO dept VALUES (1, 'd', 1); INSERT INTO person VALUES (1, 'p', 1); COMMIT});
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'G2: a circle over two tables is finished');
	is(page_of('person', 1)->{dept}, page_of('dept', 1)->{_id}, 'G2: one direction');
	is(page_of('dept', 1)->{'headed by'}, page_of('person', 1)->{_id}, 'G2: and the other');
	is(scalar(creates($sim, $before)), 2, 'G2: each is made once');
	# a child added to a circle that is whole
	since(q{BEGIN; INSERT INTO person VALUES (2, 'q', 1); UPDATE dept SET head = 2; COMMIT});
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'G2: finished');
	is(page_of('dept', 1)->{'headed by'}, page_of('person', 2)->{_id}, 'G2: the circle changes');
}

# composite foreign keys
{
	$node->sql(q{
		CREATE TABLE site (country text, code int, title text, PRIMARY KEY (country, code));
		CREATE TABLE visit (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text, place int, land text,
			CONSTRAINT at_site FOREIGN KEY (place, land) REFERENCES site (code, country))});
	link_table($node, 'site');
	link_table($node, 'visit');
	my $before = $sim->ledger;
	since(q{BEGIN; INSERT INTO site VALUES ('de', 1, 's'), ('fr', 1, 's2');
		INSERT INTO visit (title, place, land) VALUES ('v', 1, 'de'), ('w', NULL, 'fr'); COMMIT});
	is(page_of('visit', 'v', 'title')->{at_site}, page_of('site', '["de", "1"]', 'angles key')->{_id},
		'G1: a composite foreign key, its columns in another order');
	is(page_of('visit', 'w', 'title')->{at_site}, '', 'G1: one that is partly null points nowhere');
	since(q{UPDATE visit SET land = 'fr' WHERE title = 'v'});
	is(page_of('visit', 'v', 'title')->{at_site}, page_of('site', '["fr", "1"]', 'angles key')->{_id},
		'G1: a change of one of its columns');
	is(scalar(creates($sim, $before)), 4, 'G1: four pages');
}

# G3: a parent that cannot be sent
{
	$node->sql(q{
		CREATE TABLE bad (id int PRIMARY KEY, title text, big bigint);
		CREATE TABLE good (id int PRIMARY KEY, title text, bad int REFERENCES bad)});
	link_table($node, 'bad');
	link_table($node, 'good');
	my $before = $sim->ledger;
	since(q{BEGIN; INSERT INTO bad VALUES (1, 'x', 9007199254740993); INSERT INTO good VALUES (1, 'y', 1); COMMIT});
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked", 'G3: the parent is parked');
	wait_for(sub { page_of('good', 1)->{_id} }, 'G3: the child goes without it');
	is(page_of('good', 1)->{bad}, '', 'G3: only the relation is missing');
	since("UPDATE good SET title = 'z' WHERE id = 1");
	is(page_of('good', 1)->{title}, 'z', 'G3: other properties of the child flow');
	is($node->sql("SELECT state FROM angles.queue WHERE \"table\" = 'good'::regclass"), 'waiting',
		'G3: the open relation stays visible');
	$node->kill_worker('sync', 'TERM');
	since('UPDATE bad SET big = 1 WHERE id = 1');
	wait_for(sub { (page_of('good', 1)->{bad} // '') eq (page_of('bad', 1)->{_id} // 'none') },
		'G3: it gets the relation when the parent is there');
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue", 'G3: and the queue is empty');
	is(scalar(creates($sim, $before)), 2, 'G3: no page twice');

	# a parent of a table linked later
	$node->sql(q{
		CREATE TABLE late (id int PRIMARY KEY, title text);
		CREATE TABLE early (id int PRIMARY KEY, title text, late int REFERENCES late);
		INSERT INTO late VALUES (1, 'l'); INSERT INTO early VALUES (1, 'e', 1)});
	link_table($node, 'early');
	is(page_of('early', 1)->{late}, 1, 'G3: a key of a table that is not linked is a value');
}

# B9
{
	$node->sql('CREATE TABLE norm (id int PRIMARY KEY, title text, at timestamptz, tags text[], note text)');
	$sim->call('POST', '/_sim/settings', { trim_text => JSON::PP::true() });
	link_table($node, 'norm');
	my @w = since(q{INSERT INTO norm VALUES (1, '  padded  ', '2024-01-01 10:00:30.123456+00', '{b,a}', E' x\n')});
	is(scalar(@w), 1, 'B9: a row is sent') or diag($node->sql('SELECT * FROM angles.parked'));
	isnt(page_of('norm', 1)->{note}, " x\n", 'B9: the simulator keeps another form than it was given');
	my $before = $sim->ledger;
	foreach my $cycle (1 .. 10)
	{
		$node->sql("SELECT angles.reconcile('norm')");
		compared($node, 'norm');
	}
	is(scalar(writes($sim, $before)), 0, 'B9: ten full compares send nothing');
	@w = since("UPDATE norm SET title = title || '!'");
	is(scalar @w, 1, 'B9: a change of one column');
	is(scalar(keys %{ $w[0]{body}{properties} }), 1, 'B9: sends that column');
	@w = since("UPDATE norm SET note = 'x'");
	is(page_of('norm', 1)->{note}, 'x', 'B9: the form that Notion keeps is a value as any other');
}

# G2: a circle of references over two tables: the first is altered when the second is linked
{
	$node->sql('CREATE TABLE team (id int PRIMARY KEY, title text, lead int);
		CREATE TABLE member (id int PRIMARY KEY, title text, team int REFERENCES team);
		ALTER TABLE team ADD FOREIGN KEY (lead) REFERENCES member DEFERRABLE INITIALLY DEFERRED;
		BEGIN; INSERT INTO team VALUES (1, \'team\', 1); INSERT INTO member VALUES (1, \'member\', 1); COMMIT');
	link_table($node, 'team');
	is((pages($node, $sim, 'team'))[0]{lead}, 1, 'G2: a reference to a table that is not linked is a value');
	link_table($node, 'member');
	is($node->sql("SELECT property FROM angles.alter_link('team') WHERE type = 'relation'"), 'lead page',
		'G2: the relation gets a name that is free');
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'team'::regclass", 'team is altered');
	drained($node);
	my ($team, $member) = ((pages($node, $sim, 'team'))[0], (pages($node, $sim, 'member'))[0]);
	is($team->{'lead page'}, $member->{_id}, 'G2: and points at the page');
	is($member->{team}, $team->{_id}, 'G2: as does the other');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL"), 0, 'G2: nothing is paused');
}

done_testing();
