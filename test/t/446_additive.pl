# 446_additive.pl
#	D8: numbers to which both sides add. Changes are added up, once: also when a write's answer is
#	lost, when workers die in the middle, and when the sum is more than the column holds.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '1h', 'angles.notion_query_lag' => '0',
	'angles.retry_initial' => '200ms', 'angles.retry_cap' => '1s', 'angles.http_timeout' => '2s' });

$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, title text, n int, price numeric(12, 4), big bigint, small smallint CHECK (small < 100),
	ratio double precision, twice int GENERATED ALWAYS AS (n % 10) STORED)});
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, 10, 0.1, 10, 10, 1 FROM generate_series(1, 30) g));

# what cannot be added up is refused, with the reason
foreach my $case (
	[ 'title', '{"title": {"additive": true}}', 'of type text' ],
	[ 'ratio', '{"ratio": {"additive": true}}', 'double precision' ],
	[ 'id', '{"id": {"additive": true}}', 'primary key' ],
	[ 'twice', '{"twice": {"additive": true}}', 'generated' ],
	[ 'n as text', '{"n": {"type": "rich_text", "additive": true}}', 'rich_text' ],
	[ 'yes', '{"n": {"additive": "yes"}}', 'neither true nor false' ],
	[ 'null', '{"n": {"additive": null}}', 'neither true nor false' ])
{
	my ($name, $mapping, $why) = @$case;
	my ($state, $message) = $node->sql_error("SELECT angles.link('t', mapping => '$mapping')");

	is($state, 'NG104', "D8: $name: refused");
	like($message, qr/$why/, "D8: $name: and says why") if $name =~ /yes|null/;
}
is($node->sql(q(SELECT remark FROM angles.link('t', dry_run => true, mapping => '{"n": {"additive": true}}') WHERE "column" = 'n')),
	'what both sides add is added up', 'D8: the dry run shows it');
link_table($node, 't', q(conflict => 'manual', mapping => '{"n": {"additive": true}, "price": {"additive": true},
	"big": {"additive": true}, "small": {"additive": true}}'));
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

# A full pass, and what came of it written on both sides.
sub passed
{
	$node->sql('SELECT count(*) FROM angles.sync_notion()');
	$node->wait_sql("SELECT count(*) = 0 FROM angles.inbox WHERE state = 'ready'", 'changes are merged', 30);
	drained($node, 60);
}

sub row
{
	my ($key, $columns) = @_;
	return $node->sql("SELECT $columns FROM t WHERE id = $key");
}

# Both sides change while nothing is sent or asked: the link is paused.
sub both
{
	my ($key, $set, %there) = @_;
	$node->sql("SELECT angles.pause('t')");
	$node->sql("UPDATE t SET $set WHERE id = $key");
	edit($key, %there);
	$node->sql("SELECT angles.resume('t')");
}

# preflight strict: the page is read before it is written, so that what a person did is merged first
$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'strict')));
compared($node, 't');
both(1, 'n = n + 3, price = price + 0.2', n => 12, price => 0.4);
passed();
is(row(1, 'n, price'), '15|0.6000', 'D8: strict: +3 and +2 from 10 make 15, and decimals are exact');
is(shows(1, 'n') . ' ' . shows(1, 'price'), '15 0.6', 'D8: strict: on both sides');
is($node->sql("SELECT count(*) FROM angles.conflicts WHERE key = '1'"), 0, 'D8: that is no conflict');
is($node->sql(q(SELECT detail->>'added' FROM angles.audit_log WHERE detail->>'key' = '1' AND detail ? 'added')), 'n, price',
	'D8: the audit trail says so');

# preflight fast: what was polled is merged
$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'fast')));
compared($node, 't');
$node->configure('angles.poll_interval' => '200ms');
$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 100000, action => '409' });
$node->sql('UPDATE t SET n = n + 3, big = big - 20 WHERE id = 2');
edit(2, n => 12, big => 30);
$node->wait_sql('SELECT n = 15 AND big = 10 FROM t WHERE id = 2', 'D8: fast: the row has the sum', 30);
edit(2, n => 14);
$node->wait_sql('SELECT n = 17 FROM t WHERE id = 2', 'D8: fast: and of what was added after that', 30);
$node->sql('UPDATE t SET n = n + 100 WHERE id = 2');
$sim->call('DELETE', '/_sim/faults');
passed();
is(row(2, 'n, big') . ' ' . shows(2, 'n') . ' ' . shows(2, 'big'), '117|10 117 10', 'D8: fast: both sides have it, once');
is($node->sql("SELECT count(*) FROM angles.conflicts WHERE key = '2'"), 0, 'D8: fast: no conflict');

# one side alone
edit(3, n => 25);
$node->wait_sql('SELECT n = 25 FROM t WHERE id = 3', 'D8: what one side alone writes is taken', 30);
$node->sql('UPDATE t SET n = 7 WHERE id = 3');
passed();
is(shows(3, 'n'), 7, 'D8: and sent');

# null: nobody knows what was added
$node->configure('angles.poll_interval' => '1h');
$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'strict')));
compared($node, 't');
both(4, 'n = NULL', n => 12);
passed();
is($node->sql(q(SELECT "column", base, postgres, notion, policy, winner FROM angles.conflicts WHERE key = '4')), 'n|10|null|12|manual|',
	'D8: an emptied row and an added page are a conflict, by the policy of the link');
is(row(4, 'n') . ' ' . shows(4, 'n'), ' 12', 'D8: which waits');
both(5, 'n = 11', n => undef);
passed();
is($node->sql(q(SELECT postgres, notion, winner FROM angles.conflicts WHERE key = '5')), '11|null|', 'D8: and the other way round');

# more than the column holds, or than a double does: set aside, neither side is lost
both(6, 'n = 2000000000', n => 2_000_000_000);
both(7, 'small = 60', small => 60);
both(8, 'big = 9007199254740000', big => 9_007_199_254_740_000);
passed();
is($node->sql(q(SELECT string_agg(concat_ws(' ', key, code), ', ' ORDER BY key) FROM angles.parked WHERE key IN ('6', '7', '8'))),
	'6, 7 23514, 8', 'D8: sums that the column, a constraint or Notion refuses are parked');
is(row(6, 'n') . ' ' . shows(6, 'n') . ' ' . row(7, 'small') . ' ' . shows(7, 'small') . ' ' . row(8, 'big') . ' ' . shows(8, 'big'),
	'2000000000 2000000000 60 60 9007199254740000 9007199254740000', 'D8: both values stay where they are');
edit(6, n => 30);
passed();
is(row(6, 'n') . ' ' . shows(6, 'n'), '2000000020 2000000020', 'D8: and are added up when they can be');
edit(7, small => 20);
edit(8, big => 20);
passed();
is(row(7, 'small') . ' ' . row(8, 'big'), '70 9007199254740010', 'D8: also the others');

# a write that arrived, though nobody was told, is not counted twice
foreach my $how ('reset_after', 'crash')
{
	my $key = $how eq 'crash' ? 11 : 10;
	$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'fast')));
	compared($node, 't');
	$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{$key}", count => 1,
		action => $how eq 'crash' ? 'delay' : 'reset_after', ms => 1500, when => 'after' });
	$node->sql("UPDATE t SET n = n + 3 WHERE id = $key");
	wait_for(sub { shows($key, 'n') eq '13' }, "D8: $how: it has arrived", 20);
	$node->crash if $how eq 'crash';
	passed();
	is(row($key, 'n') . ' ' . shows($key, 'n'), '13 13', "D8: $how: a lost answer adds nothing");
	edit($key, n => 15);
	passed();
	is(row($key, 'n') . ' ' . shows($key, 'n'), '15 15', "D8: $how: and what comes later counts once");
	is($node->sql("SELECT count(*) FROM angles.conflicts WHERE key = '$key'"), 0, "D8: $how: no conflict");
}

# ... and where a person has added something by then, nobody can know to what: a person decides
{
	$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{12}", count => 1, action => 'reset_after' });
	$sim->faults({ method => 'GET', path => "^/v1/pages/$page{12}", count => 3, action => '503' });
	$node->sql('UPDATE t SET n = n + 3 WHERE id = 12');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE key = '12' AND state = 'retry'", 'D8: in doubt', 20);
	edit(12, n => 15);
	$node->wait_sql("SELECT count(*) = 1 FROM angles.conflicts WHERE key = '12' AND winner IS NULL", 'D8: a conflict is told of', 30);
	drained($node, 60);
	is($node->sql("SELECT base, postgres, notion, policy FROM angles.conflicts WHERE key = '12'"), '10|13|15|additive',
		'D8: with all three values, and as what it is');
	is(row(12, 'n') . ' ' . shows(12, 'n'), '13 15', 'D8: neither side was touched');
	edit(12, n => 16);
	passed();
	is(row(12, 'n') . ' ' . shows(12, 'n'), '13 16', 'D8: nor when more is added meanwhile');
	$node->sql("SELECT angles.resolve((SELECT id FROM angles.conflicts WHERE key = '12'), 'notion')");
	$node->wait_sql('SELECT n = 16 FROM t WHERE id = 12', 'D8: the person decides', 20);
	passed();
	is(shows(12, 'n'), 16, 'D8: and both sides have his choice');
}

# a write that surely did not arrive leaves no doubt
{
	$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'strict')));
	compared($node, 't');
	$sim->faults({ method => 'PATCH', path => "^/v1/pages/$page{13}", count => 2, action => '409' });
	$node->sql('UPDATE t SET n = n + 3 WHERE id = 13');
	wait_for(sub { 1 <= grep { $_->{method} eq 'PATCH' && index($_->{path}, $page{13}) > 0 } $sim->requests }, 'D8: a refused write', 20);
	edit(13, n => 12);
	passed();
	is(row(13, 'n') . ' ' . shows(13, 'n'), '15 15', 'D8: what was refused for now is added when its time comes');
}

# workers die between the sum and the write, and in the middle of the merge
$node->configure('angles.poll_interval' => '200ms');
foreach my $point ('applied', 'apply_committed', 'after_claim_commit', 'settled')
{
	my $key = { applied => 20, apply_committed => 21, after_claim_commit => 22, settled => 23 }->{$point};
	$node->sql("SELECT angles.pause('t')");
	$node->sql("UPDATE t SET n = n + 3 WHERE id = $key");
	edit($key, n => 12);
	$node->arm_kill_point($point);
	# the session may die with the worker
	$node->psql('postgres', "SELECT angles.resume('t')");
	wait_for(sub { $node->kill_point_struck }, "D8: $point is reached", 60);
	$node->disarm_kill_point;
	$node->psql('postgres', "SELECT angles.resume('t')");
	$node->wait_sql("SELECT n = 15 FROM t WHERE id = $key UNION ALL
		SELECT true FROM angles.conflicts WHERE key = '$key' ORDER BY 1 DESC LIMIT 1", "D8: $point: it is merged, or told of", 90);
	passed();
	# a claim that died with its worker leaves a doubt: then both values wait, and nothing is lost or counted twice
	if ($node->sql("SELECT count(*) FROM angles.conflicts WHERE key = '$key'"))
	{
		is(row($key, 'n') . ' ' . shows($key, 'n'), '13 12', "D8: killed at $point: in doubt both values wait");
	}
	else
	{
		is(row($key, 'n') . ' ' . shows($key, 'n'), '15 15', "D8: killed at $point: both sides have the sum, once");
	}
}

# a column that was additive is one value again
$node->sql(q(SELECT count(*) FROM angles.alter_link('t', preflight => 'strict', mapping => '{"n": {"additive": false}}')));
compared($node, 't');
both(25, 'n = 13', n => 12);
$node->wait_sql("SELECT count(*) = 1 FROM angles.conflicts WHERE key = '25' AND winner IS NULL", 'D8: a wish can be taken back', 30);

done_testing();
