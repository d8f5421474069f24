# 447_overwrites.pl
#	D7: what people type into a page between the last look at it and the write that follows. Other
#	properties are untouched; where the value was seen it is kept and counted; the time is exported.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.notion_query_lag' => '0' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int, note text)');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, 10, 'note' FROM generate_series(1, 10) g));
link_table($node, 't');
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

is($node->sql('SELECT lost_updates, lost_update_window_ms FROM angles.sync_counters'), '0|0', 'D7: nothing is known at first');

# the write is on its way, and a question for changes shows what is about to be covered
$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{1}", count => 1, action => 'delay', ms => 2500, when => 'before' });
$node->sql('UPDATE t SET n = 11 WHERE id = 1');
$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE key = '1' AND state = 'claimed'", 'D7: the write is on its way', 20);
polled();
edit(1, n => 77, note => 'theirs');
polled();
drained($node, 30);
is(shows(1, 'n'), 11, 'D7: the write covers what a person typed meanwhile');
is(shows(1, 'note'), 'theirs', 'D7: but not what he typed into another property');
$node->wait_sql("SELECT note = 'theirs' FROM t WHERE id = 1", 'D7: which reaches the row', 20);
is($node->sql('SELECT key, "column", base, postgres, notion, policy, winner FROM angles.conflicts'), '1|n|10|11|77|overwritten|postgres',
	'D7: the value is kept');
is($node->sql('SELECT lost_updates, last_lost_update_at IS NOT NULL, lost_update_window_max_ms > 0 FROM angles.sync_counters'), '1|t|t',
	'D7: and counted');
like($node->sql("SELECT state || ' ' || detail FROM angles.status WHERE item = 'covered edits'"), qr/^warning 1 known; .* \d+ ms after/,
	'D7: the status says so');
$node->sql("SELECT angles.resolve((SELECT id FROM angles.conflicts), 'notion')");
$node->wait_sql('SELECT n = 77 FROM t WHERE id = 1', 'D7: it can be put back', 20);
drained($node);
is(shows(1, 'n'), 77, 'D7: on both sides');

# nobody has seen it: it cannot be counted, but the time is known
$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'strict')));
compared($node, 't');
$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{2}", count => 1, action => 'edit', when => 'before',
	edit => { op => 'set', page_id => $page{2}, properties => { n => 55, note => 'theirs' } } });
$node->sql('UPDATE t SET n = 12 WHERE id = 2');
drained($node);
is(shows(2, 'n') . ' ' . shows(2, 'note'), '12 theirs', 'D7: strict: after the look at the page only the property that is written is hit');
is($node->sql('SELECT lost_updates FROM angles.sync_counters'), 1, 'D7: what nobody has seen is not counted');
$node->sql('UPDATE t SET n = 13 WHERE id = 3');
drained($node);
cmp_ok($node->sql('SELECT lost_update_window_ms FROM angles.sync_counters'), '>=', 0, 'D7: strict: the time is exported');

# it outlives the worker, and goes with the link
$node->crash;
is($node->sql('SELECT lost_updates FROM angles.sync_counters'), 1, 'D7: the count outlives a crash');
$node->sql("CREATE ROLE viewer LOGIN IN ROLE angles_viewer");
is($node->sql('SET ROLE viewer; SELECT lost_updates FROM angles.sync_counters'), 1, 'K1: a viewer sees the figures');
is($node->sql('SET ROLE viewer; SELECT count(notion) FROM angles.conflicts'), 0, 'K1: but not the values');
($node->sql_error('SET ROLE viewer; SELECT * FROM angles.overwrites'))[0] eq '42501' or fail('K1: the table itself is not for him');
$node->sql("SELECT angles.unlink('t')");
$node->sql('DELETE FROM angles.links');
is($node->sql('SELECT count(*) FROM angles.overwrites'), 0, 'D7: a deleted link leaves nothing');

done_testing();
