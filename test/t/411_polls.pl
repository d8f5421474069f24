# 411_polls.pl
#	Scenarios C: no edit in Notion is missed and none is taken twice, whatever the minutes, pages and
#	failures of the answers.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
$node->sql('CREATE TABLE seen (id int, n int, at timestamptz DEFAULT clock_timestamp())');
$node->sql(q{CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO seen (id, n) VALUES (NEW.id, NEW.n); RETURN NULL; END'});
$node->sql('CREATE TRIGGER audit AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note_update()');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, 0 FROM generate_series(1, 150) g));
link_table($node, 't');
my %page = map { @$_ } $node->rows('SELECT key, page_id FROM angles.pages');
my $minute = 1;

# Sets the clock of Notion to a second of the next minute, and stops it.
sub at_second
{
	my ($second, $next) = @_;
	$minute++ if $next;
	my $base = int(time / 60) * 60000 + $minute * 60000;
	$sim->call('POST', '/_sim/clock', { set => $base + $second * 1000, freeze => \1 });
}

sub edits
{
	my ($n, @ids) = @_;
	$sim->call('POST', '/_sim/edit', { edits => [
		map { { op => 'set', page_id => $page{$_}, properties => { n => $n } } } @ids ] });
}

sub all_have
{
	my ($n, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->wait_sql("SELECT count(*) = $count FROM t WHERE n = $n", $name, 40), $name);
}

sub polled
{
	my $since = $sim->requests;
	wait_for(sub { 3 <= grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'polls', 30);
}

# C1
at_second(10, 1);
polled();
$node->sql('TRUNCATE seen');
edits(1, 1 .. 150);
all_have(1, 150, 'C1: 150 pages of one minute arrive');
polled();
is($node->sql('SELECT count(*) FROM seen'), 150, 'C1: each once');

# C2
at_second(3, 1);
edits(2, 1);
all_have(2, 1, 'C2: an edit at second 3');
polled();
at_second(5);
edits(3, 1);
all_have(3, 1, 'C2: and one at second 5, which carries the same time');

# C3
{
	$sim->call('POST', '/_sim/settings', { short_pages => { min => 20, max => 30 } });
	$node->sql('TRUNCATE seen');
	# the third answer of a pass is garbage, twice
	$sim->faults({ method => 'POST', path => 'query', body => 'start_cursor', nth => 2, action => '502html' });
	$sim->faults({ method => 'POST', path => 'query', body => 'start_cursor', nth => 5, action => 'reset_after' });
	at_second(10, 1);
	edits(4, 1 .. 150);
	all_have(4, 150, 'C3: answers that break off lose nothing');
	polled();
	is($node->sql('SELECT count(*) FROM seen'), 150, 'C3: and nothing is taken twice');
	# a cursor that Notion does not know any more
	$sim->faults({ method => 'POST', path => 'query', body => 'start_cursor', nth => 2, action => '400' });
	at_second(10, 1);
	edits(5, 1 .. 150);
	all_have(5, 150, 'C3: a cursor that is refused begins the window anew');
	$sim->call('DELETE', '/_sim/faults');
	$sim->call('POST', '/_sim/settings', { short_pages => undef });
}

# a query ends after 10,000 pages and says so
{
	$sim->call('POST', '/_sim/settings', { query_cap => 60 });
	at_second(10, 1);
	edits(6, 1 .. 50);
	at_second(10, 1);
	edits(6, 51 .. 100);
	at_second(10, 1);
	edits(6, 101 .. 150);
	all_have(6, 150, 'C1: an answer that is cut off is gone on with');
	$sim->call('POST', '/_sim/settings', { query_cap => undef });
}

# C5
{
	at_second(10, 1);
	$sim->faults({ method => 'POST', path => 'query', count => 100, action => '503' });
	edits(7, 2);
	$node->sql("UPDATE t SET title = 'by us' WHERE id = 2");
	wait_for(sub { my ($p) = grep { $_->{_id} eq $page{2} } pages_of(); $p->{title} eq 'by us' }, 'our write is there', 20);
	$sim->call('DELETE', '/_sim/faults');
	all_have(7, 1, 'C5: an edit counts though the last editor is this server');
}

sub pages_of { return map { { _id => $_->{id}, title => text_of($_->{properties}{title}) } } $sim->call('GET', "/v1/pages/$page{2}"); }

# C11: what was edited while the server was down
{
	$node->stop('fast');
	at_second(10, 1);
	edits(8, 1 .. 120);
	$node->start;
	all_have(8, 120, 'C11: edits of a time without a server arrive');
}
{
	$node->stop('immediate');
	at_second(10, 1);
	edits(9, 1 .. 120);
	$node->start;
	all_have(9, 120, 'C11: of a crash as well');
}

# C12
{
	$sim->call('POST', '/_sim/clock', { freeze => \0 });
	$node->sql("UPDATE angles.links SET settle = '1 s'");
	$node->sql('TRUNCATE seen');
	my $begin = $node->sql('SELECT clock_timestamp()');
	foreach my $n (1001 .. 1012)
	{
		edits($n, 3);
		polled() if $n % 2;
	}
	all_have(1012, 1, 'C12: who types slowly ends up with the last text');
	my $writes = $node->sql('SELECT count(*) FROM seen WHERE id = 3');
	my $most = $node->sql("SELECT ceil(extract(epoch FROM max(at) - '$begin')) + 1 FROM seen WHERE id = 3");
	cmp_ok($writes, '<=', $most, "C12: with $writes writes, one in each settle delay");
}

# edits that no question will ever show: the table was not linked for a long time
{
	$node->sql("SELECT angles.unlink('t')");
	$node->wait_sql("SELECT count(*) = 0 FROM angles.change_log", 'it is unlinked');
	edits(2001, 1 .. 120);
	$node->sql("UPDATE angles.polls SET watermark = now() + interval '1 year'");
	link_table($node, 't');
	all_have(2001, 120, 'J5: linked again, all pages are compared');
	$node->sql("UPDATE angles.polls SET watermark = now() - interval '5 minutes'");
	$node->crash;
}

# what was lost in between is not known: every page of the window is asked for with few requests
{
	polled();
	my $since = $sim->requests;
	polled();
	my @queries = grep { $_->{path} =~ /query/ } $sim->requests($since);
	my @others = grep { $_->{path} !~ /query/ } $sim->requests($since);
	is(scalar @others, 0, 'a pass without changes asks one question only');
	like($queries[0]{query}, qr/filter_properties/, 'for the properties it needs');
}

done_testing();
