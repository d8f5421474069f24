# 449_refusals.pl
#	C7: what the table did not take is told in Notion, where a person asked for that: on a property of the
#	page, and in a comment. Never a value, no echo, nothing twice.
use strict;
use warnings;

use JSON::PP ();
use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.notion_query_lag' => '0',
	'angles.retry_initial' => '200ms', 'angles.retry_cap' => '1s', 'angles.http_timeout' => '2s' });

$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, title text UNIQUE, n int CONSTRAINT n_is_small CHECK (n < 1000), day date NOT NULL DEFAULT '2026-11-01');
	CREATE FUNCTION talk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n = 13 THEN RAISE EXCEPTION 'secret-word'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER talk BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION talk()});
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, 20) g));
link_table($node, 't');
my %page = map { @$_ } $node->rows('SELECT key, page_id FROM angles.pages');

sub edit
{
	my ($key, %properties) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{$key}, properties => \%properties });
}

sub status
{
	my ($key, $name) = @_;
	my $property = $sim->call('GET', "/v1/pages/$page{$key}")->{properties}{ $name // 'Sync status' };
	return $property ? text_of($property) // '' : undef;
}

sub comments
{
	my ($key) = @_;
	return map { join('', map { $_->{plain_text} } @{ $_->{rich_text} }) } @{ $sim->call('GET', "/v1/comments?block_id=$page{$key}")->{results} };
}

sub says
{
	my ($key, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(wait_for(sub { my $s = status($key); defined $s && $s =~ $pattern }, $name, 30), $name);
}

sub polled
{
	my $since = $sim->requests;
	wait_for(sub { 4 <= grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'polls', 30);
}

# off by default
edit(1, n => 5000);
$node->wait_sql("SELECT code = '23514' FROM angles.parked WHERE key = '1'", 'C7: a refused value is parked', 20);
polled();
is(status(1), undef, 'C7: nothing is told in Notion unless that is wanted');

# on
$node->sql("SELECT angles.report_refusals('t')");
says(1, qr/^Not taken into the table: a rule of the table forbids this value \(constraint "n_is_small", SQLSTATE 23514\)\.$/,
	'C7: the page says why');
is(join(' ', comments(1)), '', 'C7: without a comment');
is(status(2), '', 'C7: other pages say nothing');
my $before = $sim->ledger;
polled();
is(scalar(grep { $_->{by} eq 'api' } $sim->ledger($before)), 0, 'C7: and is not written again and again');
is($node->sql('SELECT count(*) FROM angles.queue WHERE state <> \'parked\''), 0, 'C4: nothing of it comes back as a change');
is($node->sql("SELECT count(*) FROM angles.inbound WHERE 'Sync status' = ANY (properties)"), 0, 'C4: it is no user\'s data');
edit(1, n => 5);
$node->wait_sql('SELECT n = 5 FROM t WHERE id = 1', 'C7: corrected', 20);
says(1, qr/^ok$/, 'C7: then the page says ok');

# never a value, whoever wrote the message
edit(2, title => 'row 3');
says(2, qr/another row has this value already \(constraint "t_title_key", SQLSTATE 23505\)/, 'C7: a double value');
edit(4, n => 13);
says(4, qr/^Not taken into the table: the table refused it \(SQLSTATE P0001\)\.$/, 'C7: the words of a trigger stay here');
edit(5, n => 1.5);
says(5, qr/column "n"/, 'C7: a value that does not fit');
edit(6, day => undef);
says(6, qr/23502|column "day"/, 'C7: a value that is missing');
is(scalar(grep { JSON::PP->new->encode($_->{body} // {}) =~ /secret-word/ } $sim->ledger), 0, 'C7: no message of a trigger has left');

# in comments, once for each cause
$node->sql("SELECT angles.report_refusals('t', comments => true)");
wait_for(sub { 1 == comments(2) }, 'C7: a comment is written', 20);
like((comments(2))[0], qr/23505/, 'C7: it says why');
edit(7, n => 2000);
wait_for(sub { 1 == comments(7) }, 'C7: a new refusal is commented on', 20);
edit(7, n => 3000);
$node->wait_sql("SELECT count(*) = 1 FROM angles.inbox i WHERE i.page_id = '$page{7}' AND i.remote::text ~ '3000' AND i.state = 'parked'", 'C7: refused again', 20);
polled();
is(scalar(comments(7)), 1, 'C7: the same cause is not told twice');
edit(7, n => 13);
wait_for(sub { 2 == comments(7) }, 'C7: another cause is', 20);
edit(7, n => 7);
says(7, qr/^ok$/, 'C7: and it is cured');
is(scalar(comments(7)), 2, 'C7: which takes no comment');

# lost answers, and workers that die: the status gets there, no comment comes twice
{
	$sim->faults({ method => 'POST', path => '^/v1/comments', count => 1, action => 'reset_after' },
		{ method => 'PATCH', path => "^/v1/pages/$page{8}", count => 2, action => '503' });
	edit(8, n => 4000);
	says(8, qr/23514/, 'C7: it is told in spite of failures');
	polled();
	is(scalar(comments(8)), 1, 'C7: a comment whose answer was lost is not repeated');
}
foreach my $key (9, 10, 11)
{
	$sim->faults({ method => $key == 9 ? 'PATCH' : 'POST', path => $key == 9 ? "^/v1/pages/$page{9}" : '^/v1/comments', count => 1,
		action => 'delay', ms => 1500, when => $key == 10 ? 'before' : 'after' });
	my $since = $sim->requests;
	edit($key, n => 6000);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.refusals_told WHERE page_id = '$page{$key}'
		AND ($key = 9 OR cardinality(commented) = 1)", 'it is noted', 20);
	$node->crash;
	says($key, qr/23514/, "C7: row $key: a crash in the middle: the status gets there");
	polled();
	cmp_ok(scalar(comments($key)), '<=', 1, "C7: row $key: no comment comes twice");
}

# the connection may not comment: told once, nothing is tried for ever
{
	$sim->faults({ method => 'POST', path => '^/v1/comments', count => 1000, action => '403' });
	edit(12, n => 7000);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.status WHERE item LIKE 'alert refusals_comments:%'", 'C7: the status says that comments are not allowed', 20);
	my $since = $sim->requests;
	edit(13, n => 7000);
	says(13, qr/23514/, 'C7: the property goes on');
	polled();
	is(scalar(grep { $_->{path} =~ /comments/ && $_->{method} eq 'POST' } $sim->requests($since)), 0, 'C7: no further comment is tried');
	$sim->call('DELETE', '/_sim/faults');
	$node->sql("SELECT angles.report_refusals('t', comments => true)");
	wait_for(sub { 1 == comments(12) && 1 == comments(13) }, 'C7: until it is asked for again', 20);
	$node->wait_sql("SELECT count(*) = 0 FROM angles.alerts WHERE fingerprint LIKE 'refusals%' AND closed_at IS NULL", 'C7: and the alert ends', 20);
}

# a person removes the property, or has one of that name and another type
{
	my $source = $node->sql('SELECT data_source_id FROM angles.links');
	$sim->call('POST', '/_sim/edit', { op => 'delete_property', data_source => $source, property => 'Sync status' });
	edit(14, n => 8000);
	says(14, qr/23514/, 'C7: a property that was removed is made again');
	$sim->call('POST', '/_sim/edit', { op => 'add_property', data_source => $source, name => 'Busy', type => 'number' });
	$sim->call('POST', '/_sim/edit', { op => 'add_property', data_source => $source, name => 'Choice', type => 'select' });
	$node->sql("SELECT angles.report_refusals('t', 'Busy')");
	edit(15, n => 8000);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint LIKE 'refusals_property:%' AND closed_at IS NULL", 'C7: one of another type is left alone', 20);
	is($sim->call('GET', "/v1/data_sources/$source")->{properties}{Busy}{type}, 'number', 'C7: as it is');
	$node->sql("SELECT angles.report_refusals('t', 'Choice')");
	ok(wait_for(sub { (status(15, 'Choice') // '') =~ /^Not taken/ }, 'C7: a select does as well', 20), 'C7: a select does as well');
}

# what cannot be asked for
$node->fails_with("SELECT angles.report_refusals('t', 'n')", 'NG104', qr/belongs to a column/, 'C7: a column\'s property is refused');
$node->fails_with("SELECT angles.report_refusals('t', ' ')", '22023', qr/property/, 'C7: so is no name');
$node->fails_with("SELECT angles.report_refusals(NULL)", '22004', qr/null/, 'C7: and no table');
$node->fails_with("SELECT angles.report_refusals('pg_class')", 'NG101', qr/not linked/, 'C7: and one that is not linked');
$node->sql('CREATE ROLE op LOGIN IN ROLE angles_operator');
$node->fails_with("SET ROLE op; SELECT angles.report_refusals('t')", '42501', qr/permission/, 'K1: an operator may not');

# a column that is given that property by now keeps it for itself
{
	$node->sql("SELECT angles.report_refusals('t', 'Later')");
	$node->sql('ALTER TABLE t ADD COLUMN later text');
	$node->sql(q(SELECT count(*) FROM angles.alter_link('t', mapping => '{"later": "Later"}')));
	compared($node, 't');
	edit(19, n => 8000);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE title LIKE '%belongs to a column now' AND closed_at IS NULL", 'C7: a property that was mapped since', 20);
	polled();
	is($node->sql('SELECT count(later) FROM t'), 0, 'C7: is not written');
	$node->sql("SELECT angles.report_refusals('t', 'Choice')");
}

# a session that holds the settings holds up nobody
{
	my $user = $node->background_psql('postgres');
	$user->query_safe('BEGIN');
	$user->query_safe("SELECT angles.report_refusals('t', 'Other')");
	edit(16, n => 9000);
	$node->sql("UPDATE t SET title = 'goes on' WHERE id = 17");
	drained($node);
	is(text_of($sim->call('GET', "/v1/pages/$page{17}")->{properties}{title}), 'goes on', 'a session that is wishing holds up nobody');
	$user->query_safe('ROLLBACK');
	$user->quit;
}

# off again
$node->sql("SELECT angles.report_refusals('t', property => NULL)");
$before = $sim->ledger;
edit(18, n => 9000);
$node->wait_sql("SELECT count(*) = 1 FROM angles.parked WHERE key = '18'", 'C7: refused', 20);
polled();
is(scalar(grep { $_->{by} eq 'api' } $sim->ledger($before)), 0, 'C7: nothing is told any more');

done_testing();
