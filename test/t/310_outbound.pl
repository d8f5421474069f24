# 310_outbound.pl
#	Scenarios B: no row lost, none doubled, none out of order, whatever the remote and the workers do.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.notion_verify_window' => '1s', 'angles.http_timeout' => '2s' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
link_table($node, 't');

my $id = 0;

# Inserts a row and returns its key.
sub insert_row
{
	$id++;
	$node->sql("INSERT INTO t VALUES ($id, 'row $id', $id)");
	return $id;
}

# Tests that exactly one page carries the key and that nothing is left to do.
sub one_page
{
	my ($key, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	drained($node, 60);
	is(scalar(grep { $_->{id} eq $key } pages($node, $sim, 't')), 1, $name)
	  or diag($node->sql('SELECT * FROM angles.parked'));
}

# B1: the worker dies at each step of a create
foreach my $point ('before_claim_commit', 'after_claim_commit', 'create_started', 'answer_taken', 'settled')
{
	$node->arm_kill_point($point);
	my $before = $sim->ledger;
	my $key = ++$id;
	# the insert itself may see the crash of the worker; its commit was before
	$node->psql('postgres', "INSERT INTO t VALUES ($key, 'row $key', $key)");
	wait_for(sub { $node->kill_point_struck }, "B1: kill point $point is struck", 60);
	ok($node->disarm_kill_point, "B1: the worker was killed at $point");
	one_page($key, "B1: one page after SIGKILL at $point");
	cmp_ok(scalar(grep { $_->{status} == 200 } creates($sim, $before)), '<=', 1,
		"B1: no further create after $point");
}

# B2
{
	my $before = $sim->ledger;
	$sim->call('POST', '/_sim/lag', { ms => 2500 });
	$node->configure('angles.notion_verify_window' => '5s');
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 1, action => 'reset_after' });
	my $key = insert_row();
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE key = '$key' AND state = 'verifying'",
		'B2: a row in doubt shows state verifying');
	one_page($key, 'B2: a page that queries cannot see yet is not made twice');
	is(scalar(creates($sim, $before)), 1, 'B2: one create');
	cmp_ok($node->sql("SELECT lookups FROM angles.pages WHERE key = '$key'"), '==', 0,
		'B2: the doubt is settled');
	$sim->call('POST', '/_sim/lag', { ms => 0 });
	$node->configure('angles.notion_verify_window' => '1s');
}

# B3
{
	my $before = $sim->ledger;
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 1, action => 'delay', ms => 4000,
		when => 'after' });
	my $key = insert_row();
	one_page($key, 'B3: a create that timed out here and succeeded there');
	is(scalar(creates($sim, $before)), 1, 'B3: one create');
}

# a create that was really lost is made again, once, after two look-ups
{
	my $before = $sim->ledger;
	my $requests = $sim->requests;
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 1, action => 'reset_before' });
	my $key = insert_row();
	one_page($key, 'B2: a create that never arrived is made again');
	my @lookups = grep { $_->{path} =~ /query/ } $sim->requests($requests);
	cmp_ok(scalar @lookups, '>=', 2, 'B2: after at least two look-ups by key');
}

# committed_resource_id
{
	my $before = $sim->ledger;
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 1, action => '503_committed' });
	my $key = insert_row();
	one_page($key, 'B3: a 503 that says what it made');
	is(scalar(creates($sim, $before)), 1, 'B3: is believed');
}

# B4
{
	my $key = insert_row();
	drained($node);
	is(scalar($node->worker_pids('sync')), 1, 'B4: one sync worker');
	$node->sql("SELECT angles.pause('t')");
	$node->sql("UPDATE t SET n = 4000 WHERE id = $key");
	$node->wait_sql("SELECT count(*) = 0 FROM angles.change_log", 'B4: the change is in the queue');
	my $old = $node->sql('SELECT generation FROM angles.worker_generation');
	my $before = $sim->ledger;
	$node->sql("SELECT angles.resume('t')");
	$node->kill_worker('sync', 'TERM');
	wait_for(sub { my $g = $node->sql('SELECT generation FROM angles.worker_generation'); $g > $old },
		'B4: a new worker has a new generation');
	drained($node);
	my @w = grep { ($_->{body}{properties} // {}) && $_->{method} eq 'PATCH' } writes($sim, $before);
	cmp_ok(scalar @w, '>=', 1, 'B4: the change arrives');
	is(scalar(grep { $_->{id} eq $key } pages($node, $sim, 't')), 1, 'B4: one page');
}

# B5
{
	my $key = insert_row();
	drained($node);
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 1, action => 'delay', ms => 500 });
	my $before = $sim->ledger;
	$node->sql("UPDATE t SET n = 51 WHERE id = $key");
	wait_for(sub { $node->sql("SELECT count(*) FROM angles.queue WHERE key = '$key' AND state = 'claimed'") },
		'B5: the first update is under way');
	$node->sql("UPDATE t SET n = 52 WHERE id = $key");
	drained($node);
	my @values = map { (values %{ $_->{body}{properties} })[0]{number} } writes($sim, $before);
	is("@values", '51 52', 'B5: two updates of a row are sent one after the other, in order');
}

# B7, B8
{
	my $before = $sim->ledger;
	$node->sql("BEGIN; INSERT INTO t VALUES (7000, 'x', 1); DELETE FROM t WHERE id = 7000; COMMIT");
	drained($node);
	is(scalar(writes($sim, $before)), 0, 'B7: inserted and deleted before it was sent: no request');

	my $key = insert_row();
	drained($node);
	my ($page) = grep { $_->{id} eq $key } pages($node, $sim, 't');
	$node->sql("BEGIN; DELETE FROM t WHERE id = $key; INSERT INTO t VALUES ($key, 'again', 8); COMMIT");
	drained($node);
	my ($now) = grep { $_->{id} eq $key } pages($node, $sim, 't');
	is($now->{_id}, $page->{_id}, 'B8: deleted and inserted again at once: the same page');
	$node->sql("DELETE FROM t WHERE id = $key");
	drained($node);
	$node->sql("INSERT INTO t VALUES ($key, 'and again', 9)");
	drained($node);
	($now) = grep { $_->{id} eq $key } pages($node, $sim, 't');
	is($now->{_id}, $page->{_id}, 'B8: and out of the trash, too');
	is($now->{title}, 'and again', 'B8: with the new values');
}

# B10, B11
{
	$node->sql('CREATE TABLE p (id int PRIMARY KEY, title text, big bigint)');
	link_table($node, 'p');
	my $before = $sim->ledger;
	$node->sql("INSERT INTO p SELECT g, 'r', CASE g WHEN 50 THEN 9007199254740993 ELSE g END FROM generate_series(1, 100) g");
	drained($node);
	is(scalar(creates($sim, $before)), 99, 'B10: 99 rows are sent');
	is($node->sql('SELECT key, attempts > 0, message IS NOT NULL FROM angles.parked'), '50|t|t',
		'B10: the bad one is parked, with its reason');
	$node->sql('UPDATE p SET big = 50 WHERE id = 50');
	drained($node);
	is(scalar(creates($sim, $before)), 100, 'B11: a corrected row leaves the parking lot by itself');
	is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'B11: which is empty');

	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 1, action => 400,
		message => 'body failed validation: something about this value' });
	$node->sql("UPDATE p SET title = 'refused' WHERE id = 1");
	$node->wait_sql('SELECT count(*) = 1 FROM angles.parked', 'B10: what Notion refuses is parked');
	like($node->sql('SELECT message FROM angles.parked'), qr/something about this value/,
		'B10: with what Notion said');
	$node->sql("SELECT angles.retry('p')");
	drained($node);
	is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'B11: and goes on with angles.retry()');
}

done_testing();
