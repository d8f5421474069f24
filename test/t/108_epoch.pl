# 108_epoch.pl
#	Scenario J6, the other half: a primary that lives on after its standby was promoted. The two do not
#	know of each other; the mark in Notion tells the old one.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $old = new_cluster('old', sim => $sim, init => { allows_streaming => 1 },
	conf => { 'angles.sweep_interval' => '1s', 'angles.retry_cap' => '300ms', 'angles.retry_initial' => '100ms' });

sub description
{
	my ($table) = @_;
	my $source = $old->sql("SELECT data_source_id FROM angles.links WHERE relid = '$table'::regclass");
	my $answer = $sim->call('GET', "/v1/data_sources/$source");
	return join('', map { $_->{plain_text} } @{ $answer->{description} });
}

sub fence
{
	my ($node) = @_;
	return $node->sql(q{SELECT COALESCE(fence_reason, 'none') FROM angles.identity});
}

$old->sql("CREATE TABLE t (id int PRIMARY KEY, title text); CREATE TABLE b (id int PRIMARY KEY, title text);
	INSERT INTO t VALUES (1, 'one'); INSERT INTO b VALUES (1, 'one')");
link_table($old, 't');
my $owner = $old->sql('SELECT left(identity, 16) FROM angles.identity');
like(description('t'), qr/epoch 1 of $owner/, 'J6: a database that angles makes carries the mark');

# one that a person made and described
my $database = $sim->call('POST', '/v1/databases', {
	parent => { type => 'page_id', page_id => $sim->parent }, title => [ { type => 'text', text => { content => 'by hand' } } ],
	description => [ { type => 'text', text => { content => 'Read me first. ' } } ],
	initial_data_source => { properties => { Name => { title => {} } } } });
link_table($old, 'b', "data_source => '$database->{data_sources}[0]{id}', mapping => '{\"title\": \"Name\"}'");
like(description('b'), qr/^Read me first\. .*epoch 1 of $owner/, 'J6: the mark goes behind what a person wrote');
is($old->sql('SELECT count(*) FROM angles.links WHERE mark_epoch = 1'), 2, 'J6: both are known to be marked');

my $reads = $sim->requests;
$old->sql("INSERT INTO t SELECT g, 'row' FROM generate_series(10, 59) g");
drained($old);
cmp_ok(scalar(grep { $_->{method} eq 'GET' } $sim->requests($reads)), '<=', 1, 'J6: it is read once in an interval, not with each row');

$old->backup('base');
my $new = AnglesTest::Cluster->new('new');
$new->init_from_backup($old, 'base', has_streaming => 1);
$new->start;
$old->wait_for_catchup($new);
is(fence($old), 'none', 'J6: the primary works');
$new->promote;
$new->wait_sql("SELECT how = 'promoted' FROM angles.identity", 'the standby is promoted');
$new->sql("INSERT INTO t VALUES (2, 'by the new primary')");
drained($new);
like(description('t'), qr/epoch 2 of (?!$owner)/, 'J6: the new primary takes the mark over');
is(() = description('t') =~ /epoch/g, 1, 'J6: there is one mark');
like(live_keys($new, $sim, 't'), qr/\b2\b/, 'J6: and sends');

# a table to which only the old one writes
$new->wait_sql("SELECT bool_and(mark_epoch = 2) FROM angles.links", 'J6: the new primary marks what it has no changes for');
like(description('b'), qr/^Read me first\. .*epoch 2 of (?!$owner)/, 'J6: so that the old one learns of it by any table');

# the old one may still write for an interval; what it writes shall not matter here
wait_for(sub { $old->sql("UPDATE t SET title = 'old ' || clock_timestamp() WHERE id = 1"); fence($old) eq 'superseded' },
	'J6: the old primary sees the higher epoch and fences itself');
$old->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint = 'fenced' AND closed_at IS NULL AND title ~ 'taken over'",
	'J6: which is alerted');
$old->wait_sql("SELECT sync_pid IS NULL FROM angles.workers WHERE database = 'postgres'", 'J6: its sync worker ends');
my $before = $sim->requests;
$old->sql("INSERT INTO t VALUES (3, 'never sent')");
$old->fails_with('SELECT * FROM angles.sync_notion()', 'NG004', qr/sends nothing/, 'J6: a fenced server says so');
is(scalar(grep { ($_->{path} // '') =~ m{^/v1/} } $sim->requests($before)), 0, 'J6: and sends nothing');
like($old->sql("SELECT state || ' ' || detail FROM angles.status WHERE item = 'identity'"), qr/critical fenced: superseded/,
	'J6: status tells it');

# a person decides otherwise
$new->stop;
$old->sql('SELECT angles.adopt()');
$old->wait_sql("SELECT count(*) = 0 FROM angles.queue", 'J6: after adopt() it goes on');
$old->wait_sql("SELECT count(*) = 0 FROM angles.links WHERE state <> 'active'", 'J6: with all pages listed');
drained($old);
cmp_ok($old->sql('SELECT epoch FROM angles.identity'), '>', 2, 'J6: with a higher epoch than the other had');
like(live_keys($old, $sim, 't'), qr/\b3\b/, 'J6: what was captured meanwhile is sent');
like(description('t'), qr/epoch [3-9] of $owner/, 'J6: and the mark is its own again');
my @keys = split(/ /, live_keys($old, $sim, 't'));
my %once = map { $_ => 1 } @keys;
is(scalar @keys, scalar(keys %once), 'J6: no row has two pages');

$new->start;
$new->sql("UPDATE t SET title = 'again' WHERE id = 2");
wait_for(sub { fence($new) eq 'superseded' }, 'J6: now the other one is fenced, at its first look');

done_testing();
