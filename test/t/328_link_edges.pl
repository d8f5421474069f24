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

# Returns when the rows of a table flow again after alter_link() or link().
sub settled
{
	my ($table) = @_;
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = '$table'::regclass",
		"$table is active");
	drained($node);
}

# Calls alter_link(), and returns the writes to pages that it leads to.
sub altered
{
	my ($table, $args) = @_;
	my $before = $sim->ledger;
	$node->sql("SELECT count(*) FROM angles.alter_link('$table'" . ($args ? ", $args" : '') . ')');
	settled($table);
	return writes($sim, $before);
}

# Returns "name:type" of all properties in Notion, sorted.
sub properties
{
	my ($table) = @_;
	my $source = $sim->call('GET', '/v1/data_sources/'
		. $node->sql("SELECT data_source_id FROM angles.links WHERE relid = '$table'::regclass"));
	return join(' ', sort map { "$_:$source->{properties}{$_}{type}" } keys %{ $source->{properties} });
}

# Returns what is open about a link.
sub problems
{
	my ($table) = @_;
	return $node->sql("SELECT COALESCE(string_agg(a.title || ' ' || COALESCE(a.detail, ''), '; '), '')
		FROM angles.alerts a JOIN angles.links l ON a.fingerprint LIKE '%:' || l.id
		WHERE closed_at IS NULL AND l.relid = '$table'::regclass");
}

# Returns the ids of the pages by the value of a property.
sub ids_by
{
	my ($table, $property) = @_;
	return join(' ', map { "$_->{$property}=$_->{_id}" }
		sort { $a->{$property} cmp $b->{$property} } pages($node, $sim, $table));
}

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
	$node->sql("SELECT angles.unlink('many')");
}

# columns that are renamed keep their properties
{
	$node->sql(q{
		CREATE TABLE author (id int PRIMARY KEY, name text);
		CREATE TABLE book (id int PRIMARY KEY, title text, n int, notes text, pages int,
			author int REFERENCES author, also int REFERENCES author);
		INSERT INTO author VALUES (1, 'a'), (2, 'b');
		INSERT INTO book VALUES (1, 't', 5, 'private', 7, 1, 2)});
	link_table($node, 'author');
	link_table($node, 'book', q{mapping => '{"notes": null, "pages": "Length", "also": null}'});
	my $properties = properties('book');
	$node->sql(q{
		ALTER TABLE book RENAME COLUMN n TO number;
		ALTER TABLE book RENAME COLUMN title TO headline;
		ALTER TABLE book RENAME COLUMN author TO writer;
		ALTER TABLE book RENAME COLUMN notes TO remarks;
		ALTER TABLE book RENAME COLUMN pages TO leaves;
		ALTER TABLE book DROP COLUMN also;
		ALTER TABLE book ADD COLUMN name text DEFAULT 'x'});
	my @w = altered('book', q{mapping => '{"name": null}'});
	is(scalar @w, 0, 'I3: alter_link() after RENAME COLUMN sends nothing');
	is(properties('book'), $properties, 'I3: and makes no property beside the one that is there');
	is($node->sql(q{SELECT string_agg(attname || '=' || property_name, ' ' ORDER BY attname)
		FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id
		WHERE relid = 'book'::regclass}),
		'headline=title id=id leaves=Length number=n writer=author',
		'I3: columns are known by their names of now, and what was left out stays left out');
	$node->sql(q{UPDATE book SET number = 6, headline = 'u', leaves = 8, writer = 2, remarks = 'r'});
	drained($node);
	my ($page) = pages($node, $sim, 'book');
	my ($author) = grep { $_->{id} eq '2' } pages($node, $sim, 'author');
	is("$page->{n} $page->{title} $page->{Length} $page->{author}", "6 u 8 $author->{_id}",
		'I3: values, title and relation arrive where they did');
	is(problems('book'), '', 'I3: and nothing is wrong');

	@w = altered('book', q{mapping => '{"number": "Count"}'});
	is((pages($node, $sim, 'book'))[0]{Count}, 6, 'I3: unless the mapping says otherwise');
	$node->sql('ALTER TABLE book RENAME COLUMN number TO headline_; ALTER TABLE book RENAME COLUMN headline TO number;
		ALTER TABLE book RENAME COLUMN headline_ TO headline');
	is(scalar altered('book'), 0, 'I3: two columns that change their names send nothing');
	is(problems('book'), '', 'I3: and nothing is wrong then either');

	# the title moves to another column, the title of the data source does not
	altered('book', q{title_column => 'remarks', mapping => '{"remarks": {"type": "rich_text"}}'});
	($page) = pages($node, $sim, 'book');
	is("$page->{title} $page->{Count}", 'r 6', 'I3: another title column');
	is($page->{number}, 'u', 'I3: the former title gets a property of its own');
	is(problems('book'), '', 'I3: which the data source can have');

	# the key is the title, and a column of text comes later
	$node->sql('CREATE TABLE bare (id int PRIMARY KEY, n int); INSERT INTO bare VALUES (1, 1)');
	link_table($node, 'bare');
	$node->sql(q{ALTER TABLE bare ADD COLUMN name text DEFAULT 'later'});
	altered('bare');
	($page) = pages($node, $sim, 'bare');
	is(problems('bare') . "$page->{id} $page->{name}", '1 later', 'I3: a title that is the key stays it');
	altered('bare', q{title_column => 'name'});
	($page) = pages($node, $sim, 'bare');
	is(problems('bare') . "$page->{id} $page->{'id key'}", 'later 1', 'I3: until another one is asked for');
}

# a key column that is renamed is the same key
foreach my $table ('renamed', 'renamed_two')
{
	my $key = $table eq 'renamed' ? 'id' : 'id, area';
	$node->sql("CREATE TABLE $table (id int, area text, title text, PRIMARY KEY ($key));
		INSERT INTO $table SELECT g, 'x', 'row ' || g FROM generate_series(1, 3) g");
	link_table($node, $table, q{title_column => 'title'});
	my $ids = ids_by($table, 'title');
	my $properties = properties($table);
	$node->sql("ALTER TABLE $table RENAME COLUMN id TO number; UPDATE $table SET title = title || '!'");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE closed_at IS NULL AND title LIKE '%$table %paused%'",
		"$table is paused");
	my @w = altered($table);
	is(join(' ', map { $_->{method} } @w), 'PATCH PATCH PATCH', "A7: $table: what was queued is sent");
	(my $now = $ids) =~ s/=/!=/g;
	is(ids_by($table, 'title'), $now, "A7: $table: to the same pages");
	is(properties($table), $properties, "A7: $table: with the same properties");
	is(problems($table), '', "A7: $table: nothing is paused any more");
	$node->sql("UPDATE $table SET number = 30 WHERE number = 3");
	drained($node);
	$node->sql("SELECT angles.unlink('$table'); ALTER TABLE $table RENAME COLUMN number TO id");
	my $before = $sim->ledger;
	link_table($node, $table, q{title_column => 'title'});
	is(scalar(writes($sim, $before)), 0, "A7: $table: renamed while it is not linked: nothing is sent");
	is(ids_by($table, 'title'), $now, "A7: $table: the pages are the same");
}

# another primary key

# Makes $key the primary key of a table.
sub new_key
{
	my ($table, $key) = @_;
	return "ALTER TABLE $table DROP CONSTRAINT ${table}_pkey; ALTER TABLE $table ADD PRIMARY KEY ($key);";
}

# Returns the property that holds the row's key.
sub key_property
{
	my ($table) = @_;
	return $node->sql("SELECT property_name FROM angles.link_columns c JOIN angles.links l ON l.id = c.link_id
		WHERE relid = '$table'::regclass AND is_key");
}

# Tests that every page follows its row when the key becomes $key, by alter_link() or anew; $keys is
# SQL for the text of the new key, $patches what has to be sent.
sub follows
{
	my ($table, $key, $keys, $patches, $how, $args) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $name = "A7: $table: primary key ($key)" . ($how ? ", $how" : '');
	my $ids = ids_by($table, 'title');
	my $before = $sim->ledger;
	$node->sql("BEGIN;" . new_key($table, $key)
		. ($how ? "SELECT angles.unlink('$table'); SELECT count(*) FROM angles.link('$table'" : "SELECT count(*) FROM angles.alter_link('$table'")
		. ($args ? ", $args" : '') . '); COMMIT');
	settled($table);
	my @w = writes($sim, $before);
	is(ids_by($table, 'title'), $ids, "$name: each row has its page");
	is(scalar(grep { $_->{method} ne 'PATCH' || exists $_->{body}{in_trash} } @w), 0,
		"$name: none is made, none is trashed");
	is(scalar @w, $patches, "$name: what had to be sent");
	my $property = key_property($table);
	is(join(' ', map { "$_->{title}=$_->{$property}" }
			sort { $a->{title} cmp $b->{title} } pages($node, $sim, $table)),
		$node->sql("SELECT string_agg(title || '=' || $keys, ' ' ORDER BY title COLLATE \"C\") FROM $table"),
		"$name: property $property holds it");
	is($node->sql("SELECT string_agg(key, ' ' ORDER BY key COLLATE \"C\") FROM angles.pages p
		JOIN angles.links l ON l.id = p.link_id WHERE relid = '$table'::regclass"),
		$node->sql("SELECT string_agg($keys, ' ' ORDER BY ($keys) COLLATE \"C\") FROM $table"),
		"$name: pages go by it");
	is(problems($table), '', "$name: nothing is paused");
	# later changes find their pages
	$node->sql("UPDATE $table SET note = COALESCE(note, '') || '+'");
	drained($node);
	is(join(' ', sort map { $_->{note} } pages($node, $sim, $table)),
		$node->sql("SELECT string_agg(note, ' ' ORDER BY note COLLATE \"C\") FROM $table"),
		"$name: later changes arrive");
	is(ids_by($table, 'title'), $ids, "$name: at the same pages");
}

{
	$node->sql(q{CREATE TABLE d (id int PRIMARY KEY, code text NOT NULL, title text, note text, at timestamptz NOT NULL);
		INSERT INTO d SELECT g, 'C' || g, 'row ' || g, 'n', '2024-01-01 00:00+00'::timestamptz + g * interval '1 day'
		FROM generate_series(1, 5) g});
	link_table($node, 'd');
	like($node->sql("BEGIN;" . new_key('d', 'code')
		. q{SELECT remark FROM angles.alter_link('d', dry_run => true) WHERE "column" = 'code'; ROLLBACK}),
		qr/pages follow their rows/, 'A7: another primary key: the dry run tells');
	follows('d', 'code', 'code', 0);
	is(live_keys($node, $sim, 'd'), '1 2 3 4 5', 'A7: d: the former key keeps its property');
	follows('d', 'id', 'id::text', 0);
	follows('d', 'id', 'id::text', 0, 'linked again');
	follows('d', 'code', 'code', 0, 'linked again');
	follows('d', 'code, id', q{format('["%s", "%s"]', code, id)}, 5);
	follows('d', 'id, code', q{format('["%s", "%s"]', id, code)}, 5);
	follows('d', 'at', q{to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"+00"')}, 5);
	follows('d', 'id', 'id::text', 0);
}

# keys of then that are other rows' keys of now
{
	$node->sql(q{CREATE TABLE turn (id int PRIMARY KEY, code text NOT NULL, n int NOT NULL, title text, note text);
		INSERT INTO turn VALUES (1, '2', 3, 'a'), (2, '3', 1, 'b'), (3, '1', 2, 'c'), (4, '4', 5, 'd'), (5, 'x', 4, 'e')});
	link_table($node, 'turn', q{title_column => 'title'});
	follows('turn', 'code', 'code', 0);
	follows('turn', 'n', 'n::text', 5);
	follows('turn', 'id', 'id::text', 0);
}

# what is under way when the key changes
{
	$node->sql(q{CREATE TABLE busy (id text PRIMARY KEY, code int NOT NULL, title text, note text);
		INSERT INTO busy SELECT chr(96 + g), g, 'row ' || g, 'n' FROM generate_series(1, 9) g});
	link_table($node, 'busy', q{title_column => 'title'});
	my %id = map { $_->{title} => $_->{_id} } pages($node, $sim, 'busy');
	$node->sql("SELECT angles.pause('busy')");
	$node->sql(q{DELETE FROM busy WHERE id = 'a'; UPDATE busy SET note = 'm' WHERE id = 'b';
		UPDATE busy SET id = 'z' WHERE id = 'c'; INSERT INTO busy VALUES ('new', 20, 'row 20', 'n'),
		('never', 21, 'row 21', 'n'); DELETE FROM busy WHERE id = 'never'});
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded');
	my $before = $sim->ledger;
	$node->sql(q{BEGIN; DELETE FROM busy WHERE id = 'd'; UPDATE busy SET id = 'y' WHERE id = 'e';
		INSERT INTO busy VALUES ('d', 22, 'row 22', 'n');} . new_key('busy', 'code') . q{
		SELECT count(*) FROM angles.alter_link('busy');
		UPDATE busy SET note = 'l' WHERE code = 6; UPDATE busy SET code = 30 WHERE code = 7;
		DELETE FROM busy WHERE code = 8; COMMIT});
	settled('busy');
	my @w = writes($sim, $before);
	is(join(' ', map { "$_->{title}:$_->{note}" } sort { $a->{title} cmp $b->{title} } pages($node, $sim, 'busy')),
		'row 2:m row 20:n row 22:n row 3:n row 5:n row 6:l row 7:n row 9:n',
		'A7: changes under way when the key changes: the rows are the pages');
	is($node->sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM angles.pages p
		JOIN angles.links l ON l.id = p.link_id WHERE relid = 'busy'::regclass AND p.state = 'live'}),
		'2 20 22 3 30 5 6 9', 'A7: changes under way: under their new keys');
	my %now = map { $_->{title} => $_->{_id} } pages($node, $sim, 'busy');
	is(scalar(grep { $now{"row $_"} ne $id{"row $_"} } 2, 3, 5, 6, 7, 9), 0, 'A7: changes under way: on their pages');
	is(problems('busy'), '', 'A7: changes under way: nothing is paused');
}

# more renames than one fold takes (20,000), in which every key of then is another row's key of now;
# nothing is sent: the pages are only known
{
	my $rows = 11000;
	my $pages = q{FROM angles.pages p JOIN angles.links l ON l.id = p.link_id WHERE l.relid = 'ring'::regclass};
	$node->sql('CREATE TABLE ring (id int PRIMARY KEY, code int NOT NULL, title text)');
	link_table($node, 'ring');
	$node->sql("SELECT angles.pause('ring');
		INSERT INTO ring SELECT g, g % $rows + 1, 'row ' || g FROM generate_series(1, $rows) g");
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded');
	$node->sql(q{INSERT INTO angles.pages (link_id, key, page_id, state)
		SELECT l.id, r.id, md5(r.title)::uuid, 'live' FROM ring r, angles.links l WHERE l.relid = 'ring'::regclass});
	# and somebody locks a table of the log for a while as soon as they are committed
	my ($altering, $locking) = map { $node->background_psql('postgres', timeout => 60) } 1, 2;
	$altering->query_safe('BEGIN;' . new_key('ring', 'code') . q{
		SELECT count(*) FROM angles.alter_link('ring'); SELECT angles.pause('ring')});
	$locking->query_until(qr/asked/, "\\echo asked\nBEGIN; LOCK TABLE angles.change_log_2;\n\\echo locked\n");
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
		AND relation = 'angles.change_log_2'::regclass)}, 'the log is being locked');
	$altering->query_safe('COMMIT');
	$altering->quit;
	$locking->query_until(qr/locked/, '');
	# the worker answers between two looks at the log
	$node->sql('SELECT count(*) FROM angles.check_notion()') for 1, 2;
	$locking->query_safe('COMMIT');
	$locking->quit;
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded', 120);
	is($node->sql("SELECT count(*) FROM ring r JOIN (SELECT p.* $pages) p
		ON p.key = r.code::text AND p.page_id = md5(r.title)::uuid"), $rows,
		'A7: ring: in several folds, too, each page follows its row');
	is($node->sql("SELECT count(*) $pages"), $rows, 'A7: ring: and none is left aside');
	$node->sql(q{SELECT angles.unlink('ring')});
}

# a partitioned table, and one of which an older snapshot does not see all rows
{
	$node->sql(q{
		CREATE TABLE parts (id int, area text, code int NOT NULL, title text, note text, PRIMARY KEY (area, id))
			PARTITION BY LIST (area);
		CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
		CREATE TABLE parts_b (junk int, code int NOT NULL, note text, area text NOT NULL, title text, id int NOT NULL);
		ALTER TABLE parts_b DROP COLUMN junk;
		ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES IN ('b');
		INSERT INTO parts SELECT g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, 10 - g, 'row ' || g, 'n'
		FROM generate_series(1, 6) g});
	link_table($node, 'parts', q{title_column => 'title'});
	follows('parts', 'area, code', q{format('["%s", "%s"]', area, code)}, 5);

	$node->sql(q{CREATE TABLE late (id int PRIMARY KEY, code int NOT NULL, title text, note text);
		INSERT INTO late VALUES (1, 2, 'a', 'n')});
	link_table($node, 'late', q{title_column => 'title'});
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$node->sql(q{INSERT INTO late VALUES (2, 1, 'b', 'n')});
	drained($node);
	my $ids = ids_by('late', 'title');
	my $before = $sim->ledger;
	$session->query_safe(new_key('late', 'code') . q{SELECT count(*) FROM angles.alter_link('late'); COMMIT});
	$session->quit;
	settled('late');
	is(ids_by('late', 'title'), $ids, 'A7: late: a row that the transaction does not see keeps its page');
	is(scalar(creates($sim, $before)), 0, 'A7: late: no page is made');
}

# rows that point to the table
{
	$node->sql(q{
		CREATE TABLE mother (id int PRIMARY KEY, code int NOT NULL, title text, note text);
		CREATE TABLE child (id int PRIMARY KEY, title text, mother int REFERENCES mother);
		INSERT INTO mother VALUES (1, 2, 'a', 'n'), (2, 1, 'b', 'n');
		INSERT INTO child VALUES (1, 'one', 1)});
	link_table($node, 'mother', q{title_column => 'title'});
	link_table($node, 'child');
	my ($page) = pages($node, $sim, 'child');
	$node->sql('ALTER TABLE child DROP CONSTRAINT child_mother_fkey');
	follows('mother', 'code', 'code::text', 2);
	like(problems('child'), qr/mother: the primary key of "mother" changed.*alter_link/,
		'A7: relations to it are paused, and it is told');
	$node->sql('UPDATE child SET mother = 2; SELECT angles.reconcile($$child$$)');
	compared($node, 'child');
	is((pages($node, $sim, 'child'))[0]{mother}, $page->{mother}, 'A7: no relation to another row is written');
	$node->sql('UPDATE child SET mother = 1; ALTER TABLE child ADD FOREIGN KEY (mother) REFERENCES mother (code)');
	altered('child');
	is((pages($node, $sim, 'child'))[0]{mother}, (grep { $_->{title} eq 'b' } pages($node, $sim, 'mother'))[0]{_id},
		'A7: alter_link() of that table follows the new key');
	is(problems('child'), '', 'A7: and settles it');
}

# a key of which a column is gone
{
	$node->sql(q{CREATE TABLE lost (id int PRIMARY KEY, code text NOT NULL, title text, note text);
		INSERT INTO lost SELECT g, 'C' || g, 'row ' || g, 'n' FROM generate_series(1, 3) g});
	link_table($node, 'lost');
	my $ids = ids_by('lost', 'title');
	my $before = $sim->ledger;
	$node->sql('ALTER TABLE lost DROP COLUMN id; ALTER TABLE lost ADD PRIMARY KEY (code)');
	foreach my $call ("alter_link('lost')", "alter_link('lost', dry_run => true)")
	{
		rejected($call, 'NG103', qr/which page belongs to which row.*"id".*HINT:.*Add column "id" again/s,
			"another primary key, the former one dropped: $call");
	}
	is(scalar(writes($sim, $before)), 0, 'A7: lost: nothing is sent meanwhile');
	# what the hint says: the column again
	$node->sql('ALTER TABLE lost ADD COLUMN id int; UPDATE lost SET id = substr(code, 2)::int');
	altered('lost');
	is(ids_by('lost', 'title'), $ids, 'A7: lost: with the column again each row has its page');
	$node->sql('ALTER TABLE lost DROP COLUMN id');
	altered('lost');
	$node->sql(q{UPDATE lost SET note = 'm'});
	drained($node);
	is(join(' ', map { $_->{note} } pages($node, $sim, 'lost')), 'm m m', 'A7: lost: without it, too');
	is(scalar(grep { $_->{method} ne 'PATCH' || exists $_->{body}{in_trash} } writes($sim, $before)), 0,
		'A7: lost: no page was made or trashed');
	# or: new pages
	$node->sql('ALTER TABLE lost ADD COLUMN id int GENERATED ALWAYS AS IDENTITY; ALTER TABLE lost DROP COLUMN code;
		ALTER TABLE lost ADD PRIMARY KEY (id)');
	$node->sql(q{SELECT angles.unlink('lost')});
	rejected("link('lost')", 'NG103', qr/"code".*HINT:.*DELETE FROM angles\.links WHERE id = \d/s,
		'the same when it is linked again');
	$node->sql(q{DELETE FROM angles.links WHERE relid = 'lost'::regclass});
	$before = $sim->ledger;
	link_table($node, 'lost');
	is(scalar(creates($sim, $before)), 3, 'A7: lost: or it begins with new pages');
}

# linked again, with another data source
{
	$node->sql(q{CREATE TABLE moved (id int PRIMARY KEY, title text, n int);
		INSERT INTO moved VALUES (1, 'a', 1), (2, 'b', 2)});
	link_table($node, 'moved');
	my $first = $node->sql(q{SELECT data_source_id FROM angles.links WHERE relid = 'moved'::regclass});
	my $made = $sim->call('POST', '/v1/databases', {
		parent => { type => 'page_id', page_id => $sim->parent },
		title => [ { type => 'text', text => { content => 'Elsewhere' } } ],
		initial_data_source => { properties => { Name => { title => {} }, id => { rich_text => {} } } } });
	my $second = $made->{data_sources}[0]{id};
	$node->sql(q{SELECT angles.unlink('moved')});
	my $before = $sim->ledger;
	link_table($node, 'moved', qq{data_source => '$second', mapping => '{"title": "Name"}'});
	is(scalar(creates($sim, $before)), 2, 'B1: linked again with another data source: its rows are pages there');
	is(join(' ', sort map { "$_->{id}:$_->{Name}:$_->{n}" } pages($node, $sim, 'moved')), '1:a:1 2:b:2',
		'B1: with the properties of that one');
	$node->sql(q{UPDATE moved SET title = 'c' WHERE id = 1; DELETE FROM moved WHERE id = 2});
	drained($node);
	is(join(' ', map { "$_->{id}:$_->{Name}" } pages($node, $sim, 'moved')), '1:c', 'B1: and they flow there');
	is(scalar(@{ $sim->call('POST', "/v1/data_sources/$first/query", {})->{results} }), 2,
		'B1: the pages in the first one stay as they are');
}

# the mapping of the key
{
	$node->sql(q{CREATE TABLE keyed (id int PRIMARY KEY, title text); INSERT INTO keyed VALUES (1, 'a'), (2, 'b')});
	rejected(q{link('keyed', mapping => '{"id": null}')}, 'NG104', qr/is the primary key.*HINT/s, 'a key left out');
	rejected(q{link('keyed', mapping => '{"id": {"type": "select"}}')}, 'NG104', qr/is the primary key.*HINT/s,
		'a key that is no text');
	link_table($node, 'keyed', q{mapping => '{"id": "Number"}'});
	is(properties('keyed'), 'Number:rich_text title:title', 'B1: the mapping names the property of the key');
	$node->sql('ALTER TABLE keyed RENAME COLUMN id TO no');
	is(scalar altered('keyed'), 0, 'I3: which stays when the column is renamed');
	my @w = altered('keyed', q{mapping => '{"no": "Key"}'});
	is(join(' ', map { $_->{method} } @w), 'PATCH PATCH', 'I3: another name is another property of the same pages');
	is(live_keys($node, $sim, 'keyed', 'Key'), '1 2', 'I3: that holds the key');
}

done_testing();
