# 410_inbound.pl
#	Scenarios B6, C and D: what people change in Notion reaches the rows, once, and what both sides
#	changed is merged; nothing goes to and fro.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms' });

$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, title text NOT NULL, n int CHECK (n < 1000), note text,
	tags text[], done boolean NOT NULL DEFAULT false, day date, price numeric(6, 2), unmapped text)});
$node->sql('CREATE TABLE seen (id int, n int, note text, at timestamptz DEFAULT clock_timestamp())');
$node->sql(q{CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO seen (id, n, note) VALUES (NEW.id, NEW.n, NEW.note); RETURN NULL; END'});
$node->sql('CREATE TRIGGER audit AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note_update()');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, g, 'note ' || g, '{a,b}' FROM generate_series(1, 10) g));
link_table($node, 't', q(mapping => '{"unmapped": null}'));

# Returns the id of a row's page.
sub page_of
{
	my ($key) = @_;
	return $node->sql("SELECT page_id FROM angles.pages WHERE key = '$key'");
}

# A person edits a row's page.
sub edit
{
	my ($key, %properties) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => page_of($key), properties => \%properties });
}

# Waits until a row has these values.
sub arrives
{
	my ($condition, $name, $timeout) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->wait_sql("SELECT EXISTS (SELECT FROM t WHERE $condition)", $name, $timeout // 20), $name);
}

# Returns when two polls have been answered since now.
sub polled
{
	my $since = $sim->requests;
	wait_for(sub { 3 <= grep { $_->{path} =~ /query/ && ($_->{body} ? 1 : 1) } $sim->requests($since) }, 'polls', 30);
	return;
}

{
	my $before = $sim->ledger;
	edit(1, n => 42, note => 'from Notion', tags => [ 'b', 'c' ], done => \1, day => '2026-11-05', price => 12.5);
	arrives("id = 1 AND n = 42 AND note = 'from Notion' AND tags = '{b,c}' AND done AND day = '2026-11-05'
		AND price = 12.5", 'an edit in Notion arrives in the row');
	drained($node);
	polled();
	is(scalar(grep { $_->{by} eq 'api' } $sim->ledger($before)), 0, 'C4: and nothing is sent back');
	is($node->sql('SELECT count(*) FROM seen WHERE id = 1'), 1, 'the row was written once');
	is($node->sql('SELECT count(*) FROM angles.inbox'), 0, 'nothing is left');
}

# C4
{
	my $writes = $node->sql('SELECT count(*) FROM seen');
	$node->sql('UPDATE t SET n = 7 WHERE id = 2');
	drained($node);
	polled();
	is($node->sql('SELECT count(*) FROM seen') - $writes, 1, 'C4: the echo of a write of ours changes nothing');
	is($node->sql('SELECT count(*) FROM angles.queue'), 0, 'C4: and queues nothing');
}


# B6: the answer of a poll that was on its way while a row was written says nothing about it
{
	$sim->faults({ method => 'POST', path => 'query', count => 3, action => 'delay', ms => 700, when => 'after' });
	$node->sql("UPDATE t SET n = 100 + g FROM generate_series(1, 1) g WHERE id = 3");
	drained($node);
	$node->sql("UPDATE t SET n = 200 WHERE id = 3");
	drained($node);
	polled();
	is($node->sql("SELECT string_agg(n::text, ' ' ORDER BY at) FROM seen WHERE id = 3"), '101 200',
		'B6: the row is never set back to what was there before');
	is($node->sql('SELECT n FROM t WHERE id = 3'), '200', 'B6: and keeps its value');
}

# Lets writes to Notion fail while the sub runs, then waits until both sides are at rest.
sub while_unsent
{
	my ($sub) = @_;
	my $rule = $sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 100000, action => '503' });
	$sub->();
	$node->wait_sql("SELECT count(*) = 0 FROM angles.inbox WHERE state = 'ready'", 'changes are merged', 20);
	$sim->call('DELETE', '/_sim/faults');
	drained($node);
	polled();
	return;
}

# Returns a property of a row's page as a person sees it.
sub shows
{
	my ($key, $name) = @_;
	my ($page) = grep { $_->{_id} eq page_of($key) } pages($node, $sim, 't');
	return $page->{$name};
}

sub conflicts
{
	my ($key) = @_;
	return $node->sql(qq(SELECT string_agg(concat_ws(' ', "column", postgres, notion, policy, winner), '; ' ORDER BY id)
		FROM angles.conflicts WHERE key = '$key'));
}

# D1
while_unsent(sub {
	$node->sql("UPDATE t SET n = 11 WHERE id = 4");
	edit(4, note => 'theirs');
	arrives("id = 4 AND note = 'theirs'", 'D1: their change arrives beside ours');
});
is(shows(4, 'n'), 11, 'D1: and ours goes there');
is($node->sql('SELECT n FROM t WHERE id = 4'), 11, 'D1: both sides have both');
is(conflicts(4), '', 'D1: no conflict');

# D3, policy newest: the clock of Notion says which change came first
while_unsent(sub {
	$node->sql("UPDATE t SET n = 66 WHERE id = 5");
	edit(5, n => 55);
	$node->wait_sql("SELECT count(*) > 0 FROM angles.conflicts WHERE key = '5'", 'D3: a conflict is seen', 20);
});
is($node->sql('SELECT n FROM t WHERE id = 5'), 66, 'D3: newest within one minute: the table wins');
is(shows(5, 'n'), 66, 'D3: on both sides');
is(conflicts(5), 'n 66 55 newest postgres', 'D3: the loser is kept');

# D4
while_unsent(sub {
	$node->sql("UPDATE t SET n = 77 WHERE id = 6");
	edit(6, n => 77);
});
is(conflicts(6), '', 'D4: the same new value on both sides is no conflict');
is($node->sql("SELECT base->>(SELECT property_id FROM angles.link_columns WHERE attname = 'n') FROM angles.pages
	WHERE key = '6'"), '77', 'D4: and is agreed on');

# D6
while_unsent(sub {
	$node->sql("UPDATE t SET tags = '{a,b,x}' WHERE id = 7");
	edit(7, tags => [ 'b', 'c' ]);
	arrives("id = 7 AND tags @> '{b,c,x}' AND NOT tags @> '{a}'", 'D6: sets are merged member by member');
});
is(shows(7, 'tags'), 'b,c,x', 'D6: on both sides');
is(conflicts(7), '', 'D6: no conflict');

# D2, D5: nobody wins before a person says so
$node->sql("UPDATE angles.links SET conflict = 'manual' WHERE relid = 't'::regclass");
while_unsent(sub {
	$node->sql("UPDATE t SET n = 21, note = 'ours' WHERE id = 8");
	edit(8, n => 31);
	$node->wait_sql("SELECT count(*) > 0 FROM angles.conflicts WHERE key = '8'", 'D2: a conflict is seen', 20);
});
is($node->sql('SELECT n FROM t WHERE id = 8'), 21, 'D2: the row keeps its value');
is(shows(8, 'n'), 31, 'D2: the page as well');
is(shows(8, 'note'), 'ours', 'D2: other fields go on');
is(conflicts(8), 'n 21 31 manual', 'D2: one conflict waits');
my $conflict = $node->sql("SELECT id FROM angles.conflicts WHERE key = '8' AND winner IS NULL");
is($node->sql("SELECT state FROM angles.status WHERE item = 'conflicts'"), 'warning', 'D2: status tells it');
$node->sql("SELECT angles.resolve($conflict, 'postgres')");
wait_for(sub { (shows(8, 'n') // '') eq '21' }, 'D5: the row wins', 20);
drained($node);
is(conflicts(8), 'n 21 31 manual postgres', 'D5: it is resolved');
while_unsent(sub {
	$node->sql("UPDATE t SET n = 22 WHERE id = 8");
	edit(8, n => 31);
	$node->wait_sql("SELECT count(*) = 2 FROM angles.conflicts WHERE key = '8'", 'D5: seen', 20);
});
is(conflicts(8), 'n 21 31 manual postgres; n 22 31 manual', 'D5: the same value again is a new conflict');
$node->sql("SELECT angles.resolve(max(id), 'notion') FROM angles.conflicts WHERE key = '8'");
arrives('id = 8 AND n = 31', 'D2: the page wins');
drained($node);
polled();
is(shows(8, 'n'), 31, 'D2: and stays');
is($node->sql("SELECT count(*) FROM angles.pages WHERE held IS NOT NULL"), 0, 'D2: nothing is held back any more');
# the row goes on while its conflict is open: it keeps what it has by then
{
	while_unsent(sub {
		$node->sql("UPDATE t SET n = 23 WHERE id = 8");
		edit(8, n => 33);
		$node->wait_sql("SELECT count(*) = 1 FROM angles.conflicts WHERE key = '8' AND winner IS NULL", 'D2: seen', 20);
	});
	$node->sql('UPDATE t SET n = 24 WHERE id = 8');
	drained($node);
	$node->sql("SELECT angles.resolve(max(id), 'postgres') FROM angles.conflicts WHERE key = '8'");
	wait_for(sub { (shows(8, 'n') // '') eq '24' }, 'D2: the row wins with the value it has now', 20);
	is($node->sql('SELECT n FROM t WHERE id = 8'), 24, 'D2: and keeps it');
	# a person takes back what he had changed: there is no conflict any more
	while_unsent(sub {
		$node->sql("UPDATE t SET n = 25 WHERE id = 8");
		edit(8, n => 35);
		$node->wait_sql("SELECT count(*) = 1 FROM angles.conflicts WHERE key = '8' AND winner IS NULL", 'D2: seen', 20);
		edit(8, n => 24);
		$node->wait_sql("SELECT count(*) = 0 FROM angles.conflicts WHERE key = '8' AND winner IS NULL", 'D2: over', 20);
	});
	wait_for(sub { (shows(8, 'n') // '') eq '25' }, 'D2: taken back there, the row is sent', 20);
	$node->sql('UPDATE t SET n = 31 WHERE id = 8');
	drained($node);
	$node->sql("DELETE FROM angles.conflict_log WHERE key = '8' AND local IN ('23', '25')");
}

# the value that lost comes back
$node->sql("SELECT angles.resolve(max(id), 'postgres') FROM angles.conflicts WHERE key = '8'");
arrives('id = 8 AND n = 22', 'the value that lost can be put back');
wait_for(sub { (shows(8, 'n') // '') eq '22' }, 'on both sides', 20);
is(($node->sql_error("SELECT angles.resolve(999, 'postgres')"))[0], 'NG106', 'a conflict that is not there');
is(($node->sql_error("SELECT angles.resolve($conflict, 'both')"))[0], '22023', 'an unknown side');
$node->sql("UPDATE angles.links SET conflict = 'newest' WHERE relid = 't'::regclass");

# C7
{
	edit(9, n => 5000, note => 'with it');
	edit(10, n => 500);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked WHERE key = '9'", 'C7: parked', 20);
	arrives('id = 10 AND n = 500', 'C7: others are written');
	my ($row) = $node->rows("SELECT code, message FROM angles.parked WHERE key = '9'");
	is($row->[0], '23514', 'C7: the SQLSTATE is told');
	like($row->[1], qr/t_n_check/, 'C7: and the constraint');
	is($node->sql("SELECT count(*) FROM t WHERE id = 9 AND n = 9 AND note = 'note 9'"), 1, 'C7: the row is as it was');
	# other fields of the row flow out; what is parked is not written over
	$node->sql("UPDATE t SET title = 'still' WHERE id = 9");
	wait_for(sub { (shows(9, 'title') // '') eq 'still' }, 'C7: the row goes on', 20);
	is(shows(9, 'n'), 5000, 'C7: their value stays for review');
	edit(9, n => 900);
	arrives("id = 9 AND n = 900 AND note = 'with it'", 'C7: corrected in Notion, it arrives');
	drained($node);
	is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'C7: and leaves the parking lot');
}

# C6: a trigger of the table's owner rewrites what comes
{
	$node->sql(q{CREATE FUNCTION trim_note() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN NEW.note := lower(NEW.note); RETURN NEW; END'});
	$node->sql('CREATE TRIGGER trims BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION trim_note()');
	my $before = $sim->ledger;
	edit(1, note => 'LOUD');
	arrives("id = 1 AND note = 'loud'", 'C6: the trigger runs');
	wait_for(sub { (shows(1, 'note') // '') eq 'loud' }, 'C6: what it made is sent', 20);
	drained($node);
	polled();
	is(scalar(grep { $_->{by} eq 'api' } $sim->ledger($before)), 1, 'C6: once');
	# the second time the trigger leaves the row as it is
	edit(1, note => 'Loud');
	wait_for(sub { (shows(1, 'note') // '') eq 'loud' }, 'C6: also when the trigger takes the change back', 20);
	drained($node);
	polled();
	is($node->sql("SELECT count(*) FROM angles.queue"), 0, 'C6: and nothing waits');
	$node->sql('DROP TRIGGER trims ON t');
}

# values that a column cannot hold stay there, and say so
{
	edit(2, n => 1.5, note => 'whole');
	arrives("id = 2 AND note = 'whole'", 'other fields arrive');
	$node->wait_sql("SELECT message LIKE '%\"n\"%' FROM angles.parked WHERE key = '2'", 'the field is named', 20);
	is($node->sql('SELECT n FROM t WHERE id = 2'), 7, 'the column keeps its value');
	edit(2, n => 8);
	arrives('id = 2 AND n = 8', 'and takes the corrected one');
	edit(2, price => 12.345);
	$node->wait_sql("SELECT message LIKE '%price%' FROM angles.parked WHERE key = '2'", 'more digits than it has', 20);
	edit(2, price => 12.34);
	arrives('id = 2 AND price = 12.34', 'fewer fit');
}

# F5: looks are no values
{
	my $writes = $node->sql('SELECT count(*) FROM seen');
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => page_of(4), properties => { note => { rich_text => [
		{ type => 'text', text => { content => 'the' }, annotations => { bold => \1 } },
		{ type => 'text', text => { content => 'irs' } } ] } } });
	polled();
	$node->sql('UPDATE t SET n = 12 WHERE id = 4');
	drained($node);
	polled();
	is($node->sql('SELECT count(*) FROM seen') - $writes, 1, 'F5: bold words change no row');
	my $note = $sim->call('GET', '/v1/pages/' . page_of(4))->{properties}{note}{rich_text};
	ok($note->[0]{annotations}{bold}, 'F5: and stay bold when another column changes');
}

# the key belongs to the row: a person who changes it gets it back
{
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => page_of(3), properties => { id => 33 } });
	wait_for(sub { (shows(3, 'id') // '') eq '3' }, 'the key is put back', 20);
	is($node->sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE id IN (3, 33)"), '3', 'the row is not touched');
	like(conflicts(3), qr/^id "3" "33" postgres postgres/, 'and it can be seen');
}

# D3: policies by column, and changed later
{
	$node->sql('CREATE TABLE u (id int PRIMARY KEY, title text, a text, b text, c text)');
	$node->sql(q{INSERT INTO u VALUES (1, 'x', '0', '0', '0'), (2, 'x', '0', '0', '0')});
	link_table($node, 'u', q(conflict => 'manual', mapping => '{"a": {"conflict": "notion"}, "b": {"conflict": "postgres"}}'));
	my %page = map { @$_ } $node->rows("SELECT key, page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE relid = 'u'::regclass");
	my $both = sub {
		my ($id, $open) = @_;
		while_unsent(sub {
			$node->sql("UPDATE u SET a = 'ours', b = 'ours', c = 'ours' WHERE id = $id");
			$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{$id},
				properties => { a => 'theirs', b => 'theirs', c => 'theirs' } });
			$node->wait_sql("SELECT count(*) = 3 FROM angles.conflicts WHERE \"table\" = 'u'::regclass AND key = '$id'",
				'D3: three conflicts', 20);
		});
		my $p = $sim->call('GET', "/v1/pages/$page{$id}")->{properties};
		return join(' ', $node->sql("SELECT a, b, c FROM u WHERE id = $id"), map { text_of($p->{$_}) } qw(a b c));
	};
	is($both->(1), 'theirs|ours|ours theirs ours theirs', 'D3: notion wins, postgres wins, nobody wins, by column');
	$node->sql(q(SELECT count(*) FROM angles.alter_link('u', conflict => 'notion', mapping => '{"b": "b"}')));
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'u'::regclass", 'altered');
	is($both->(2), 'theirs|theirs|theirs theirs theirs theirs', 'D3: alter_link() changes the policies');
	is(($node->sql_error(q(SELECT angles.alter_link('u', conflict => 'random'))))[0], '22023', 'D3: an unknown policy');
	is(($node->sql_error(q(SELECT angles.alter_link('u', mapping => '{"a": {"conflict": "random"}}'))))[0], 'NG104',
		'D3: an unknown policy of a column');
}

done_testing();
