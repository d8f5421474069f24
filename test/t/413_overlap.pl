# 413_overlap.pl
#	B6 and D7: writes of ours whose outcome is not known, and edits of people between our look at a
#	page and our write.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms',
	'angles.retry_initial' => '300ms', 'angles.retry_cap' => '1s', 'angles.http_timeout' => '2s' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
$node->sql('CREATE TABLE seen (id int, n int, at timestamptz DEFAULT clock_timestamp())');
$node->sql(q{CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO seen (id, n) VALUES (NEW.id, NEW.n); RETURN NULL; END'});
$node->sql('CREATE TRIGGER audit AFTER UPDATE OF n ON t FOR EACH ROW EXECUTE FUNCTION note_update()');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, 0 FROM generate_series(1, 20) g));
link_table($node, 't', "conflict => 'notion'");
my %page = map { @$_ } $node->rows('SELECT key, page_id FROM angles.pages');

sub shows
{
	my ($key, $name) = @_;
	return text_of($sim->call('GET', "/v1/pages/$page{$key}")->{properties}{$name});
}

sub edit
{
	my ($key, %properties) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{$key}, properties => \%properties });
}

sub polled
{
	my $since = $sim->requests;
	wait_for(sub { 3 <= grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'polls', 30);
}

sub at_rest
{
	drained($node, 60);
	polled();
	$node->wait_sql('SELECT count(*) = 0 FROM angles.inbox', 'nothing is on its way', 20);
	drained($node, 60);
}

# B6: a write that arrived, though nobody was told, is no edit of a person's
foreach my $how ('reset_after', 'crash')
{
	my $key = $how eq 'crash' ? 2 : 1;
	$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{$key}", count => 1,
		action => $how eq 'crash' ? 'delay' : 'reset_after', ms => 1500, when => 'after' });
	$node->sql("UPDATE t SET n = 5 WHERE id = $key");
	wait_for(sub { shows($key, 'n') eq '5' }, "B6: $how: it has arrived", 20);
	$node->crash if $how eq 'crash';
	$node->sql("UPDATE t SET n = 6 WHERE id = $key");
	at_rest();
	is($node->sql("SELECT string_agg(n::text, ' ' ORDER BY at) FROM seen WHERE id = $key"), '5 6',
		"B6: $how: the row is never set back");
	is(shows($key, 'n'), 6, "B6: $how: both sides have the last value");
	is($node->sql("SELECT count(*) FROM angles.conflicts WHERE key = '$key'"), 0, "B6: $how: and there is no conflict");
}

# B6: queries that are behind show what was there before the write
{
	$node->configure('angles.notion_query_lag' => '6s');
	$sim->call('POST', '/_sim/lag', { ms => 3000 });
	foreach my $n (11 .. 13)
	{
		$node->sql("UPDATE t SET n = $n WHERE id = 8");
		drained($node);
		polled();
		polled();
	}
	is($node->sql("SELECT string_agg(n::text, ' ' ORDER BY at) FROM seen WHERE id = 8"), '11 12 13',
		'B6: queries that lag behind set no row back');
	edit(8, n => 14);
	$node->wait_sql('SELECT n = 14 FROM t WHERE id = 8', 'B6: and an edit arrives when they are to be believed', 30);
	$sim->call('POST', '/_sim/lag', { ms => 0 });
	$node->configure('angles.notion_query_lag' => '0');
}

# B5: a value that went out with an unknown outcome, and was taken back here
{
	$node->configure('angles.poll_interval' => '1h');
	polled_once();
	$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{3}", count => 1, action => 'reset_after' });
	$node->sql('UPDATE t SET n = 5 WHERE id = 3');
	wait_for(sub { shows(3, 'n') eq '5' }, 'B5: it has arrived', 20);
	$node->sql('UPDATE t SET n = 0 WHERE id = 3');
	drained($node, 60);
	is(shows(3, 'n'), 0, 'B5: what was taken back here is taken back there');
	$node->configure('angles.poll_interval' => '200ms');
}

sub polled_once
{
	my $since = $sim->requests;
	$node->sql('SELECT count(*) FROM angles.sync_notion()');
	wait_for(sub { grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'a poll', 20);
}

# D7, preflight fast: other properties are untouched by a write
{
	$node->configure('angles.poll_interval' => '1h');
	polled_once();
	edit(4, title => 'theirs');
	$node->sql('UPDATE t SET n = 44 WHERE id = 4');
	drained($node);
	is(shows(4, 'title'), 'theirs', 'D7: fast: a property that did not change here keeps what a person typed');
	is(shows(4, 'n'), 44, 'D7: fast: the other one is written');
}

# D7, preflight strict: the page is read before it is written
{
	$node->sql("UPDATE angles.links SET preflight = 'strict', conflict = 'manual'");
	my $since = $sim->requests;
	$node->sql('UPDATE t SET n = 55 WHERE id = 5');
	drained($node);
	is(join(' ', map { $_->{method} } grep { index($_->{path}, $page{5}) > 0 } $sim->requests($since)), 'GET PATCH',
		'D7: strict: read, then written');
	edit(6, n => 60, title => 'theirs');
	$node->sql('UPDATE t SET n = 66 WHERE id = 6');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.conflicts WHERE key = '6'", 'D7: strict: a conflict is seen', 20);
	drained($node);
	is($node->sql('SELECT n, title FROM t WHERE id = 6'), '66|theirs', 'D7: strict: the row keeps its value and gets the other');
	is(shows(6, 'n'), 60, 'D7: strict: so does the page');
	is($node->sql("SELECT postgres, notion FROM angles.conflicts WHERE key = '6'"), '66|60', 'D7: strict: both are kept');
	# a page that cannot be read is not written
	$sim->faults({ method => 'GET', path => "^/v1/pages/$page{7}", count => 2, action => '503' });
	$since = $sim->requests;
	$node->sql('UPDATE t SET n = 77 WHERE id = 7');
	drained($node, 60);
	is(join(' ', map { $_->{method} } grep { index($_->{path}, $page{7}) > 0 } $sim->requests($since)), 'GET GET GET PATCH',
		'D7: strict: nothing is written before it was read');
	is(shows(7, 'n'), 77, 'D7: strict: then it is');
}

done_testing();
