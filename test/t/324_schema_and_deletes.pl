# 324_schema_and_deletes.pl
#	Scenarios I3, I4, E7, J7: tables that change while their changes are queued, mass deletes, and
#	things that are dropped under the worker.
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

# Makes and links a table of 30 rows, pauses it, changes all rows, does $ddl, and goes on.
sub queued_then
{
	my ($table, $change, $ddl) = @_;
	$node->sql("CREATE TABLE $table (id int PRIMARY KEY, title text, n int, extra text);
		INSERT INTO $table SELECT g, 'row', g, 'e' FROM generate_series(1, 30) g");
	link_table($node, $table);
	$node->sql("SELECT angles.pause('$table')");
	$node->sql("UPDATE $table SET $change");
	$node->wait_sql("SELECT count(*) = 30 FROM angles.queue WHERE state = 'ready'", "$table: 30 entries are queued");
	my $before = $sim->ledger;
	$node->sql($ddl);
	$node->sql("SELECT angles.resume('$table')");
	return $before;
}

# Returns the distinct numbers of properties in writes.
sub widths
{
	my %n = map { scalar(keys %{ $_->{body}{properties} // {} }) => 1 } @_;
	return join(' ', sort keys %n);
}

sub alert
{
	my ($table) = @_;
	return $node->sql("SELECT COALESCE(severity || ' ' || title || ' ' || COALESCE(detail, '') || ' ' || hint, '')
		FROM angles.alerts WHERE closed_at IS NULL AND fingerprint = 'link:' ||
		(SELECT id FROM angles.links WHERE relid = '$table'::regclass)");
}

# I3, I4: rename
{
	my $before = queued_then('ren', 'n = n + 100', 'ALTER TABLE ren RENAME COLUMN n TO number');
	drained($node);
	my @w = writes($sim, $before);
	is(scalar @w, 30, 'I4: RENAME COLUMN: the queued entries are sent');
	is(widths(@w), '1', 'I4: RENAME COLUMN: the one property that changed');
	is((grep { $_->{id} eq '1' } pages($node, $sim, 'ren'))[0]{n}, 101, 'I3: a renamed column keeps its property');
	@w = since('UPDATE ren SET number = 7 WHERE id = 2');
	is((values %{ $w[0]{body}{properties} })[0]{number}, 7, 'I3: and later changes follow');
	$node->sql('ALTER TABLE ren RENAME TO "Renamed"');
	@w = since('UPDATE "Renamed" SET number = 8 WHERE id = 2');
	is(scalar @w, 1, 'I3: a renamed table is followed');
	$node->sql('CREATE SCHEMA elsewhere; ALTER TABLE "Renamed" SET SCHEMA elsewhere');
	@w = since('UPDATE elsewhere."Renamed" SET number = 9 WHERE id = 2');
	is(scalar @w, 1, 'I3: into another schema, too');
}

# I3, I4: drop
{
	my $before = queued_then('dro', "n = n + 100, extra = 'f'", 'ALTER TABLE dro DROP COLUMN n');
	drained($node);
	my @w = writes($sim, $before);
	is(scalar @w, 30, 'I4: DROP COLUMN: the queued entries are sent');
	is(widths(@w), '1', 'I4: DROP COLUMN: without the dropped one');
	my ($page) = grep { $_->{id} eq '1' } pages($node, $sim, 'dro');
	is("$page->{n} $page->{extra}", '1 f', 'I3: a dropped column leaves its property alone');
	like(alert('dro'), qr/warning.*n: the column was dropped.*alter_link/s, 'I3: and people are told');
	$node->sql("SELECT count(*) FROM angles.alter_link('dro')");
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'dro'::regclass", 'dro is active');
	drained($node);
	is(alert('dro'), '', 'I3: alter_link() settles it');
	@w = since("ALTER TABLE dro ADD COLUMN more int DEFAULT 3; UPDATE dro SET more = 4 WHERE id = 1");
	is(scalar @w, 0, 'I3: a column added later is not sent by itself');
	$node->sql("SELECT count(*) FROM angles.alter_link('dro')");
	wait_for(sub { (grep { $_->{id} eq '1' } pages($node, $sim, 'dro'))[0]{more} }, 'I3: alter_link() takes it in');
	drained($node);
	is((grep { $_->{id} eq '2' } pages($node, $sim, 'dro'))[0]{more}, 3, 'I3: in all rows');
	is(scalar(pages($node, $sim, 'dro')), 30, 'I3: on the same pages');
}

# I3, I4: another type
{
	my $before = queued_then('typ', "n = n + 100, extra = 'f'", 'ALTER TABLE typ ALTER COLUMN n TYPE text USING n::text');
	drained($node);
	my @w = writes($sim, $before);
	is(scalar @w, 30, 'I4: ALTER TYPE: the queued entries are sent');
	is(widths(@w), '1', 'I4: ALTER TYPE: without the column of another type');
	like(alert('typ'), qr/n: the column's type changed from integer to text/, 'I3: and people are told');
	$node->sql(q{SELECT count(*) FROM angles.alter_link('typ', mapping => '{"n": "n text"}')});
	wait_for(sub { ((grep { $_->{id} eq '1' } pages($node, $sim, 'typ'))[0]{'n text'} // '') eq '101' },
		'I3: alter_link() with another property sends the values');
	drained($node);
	is(alert('typ'), '', 'I3: and settles it');
	@w = since('ALTER TABLE typ ALTER COLUMN extra TYPE varchar(100); ALTER TABLE typ ALTER COLUMN extra TYPE text;'
		. "UPDATE typ SET extra = 'g' WHERE id = 1");
	is(scalar @w, 1, 'I3: there and back again is no change');
}

# I4: the link changes
{
	my $before = queued_then('alt', "n = n + 100, extra = 'f'",
		q{SELECT count(*) FROM angles.alter_link('alt', mapping => '{"n": null, "extra": "Other"}')});
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'alt'::regclass", 'alt is active');
	drained($node);
	my @w = writes($sim, $before);
	is(scalar @w, 30, 'I4: alter_link(): the queued entries are sent');
	is(scalar(grep { JSON::PP->new->encode($_->{body}{properties}) =~ /"number"/ } @w), 0,
		'I4: alter_link(): none in the old shape');
	my ($page) = grep { $_->{id} eq '1' } pages($node, $sim, 'alt');
	is("$page->{Other} $page->{n}", 'f 1', 'I4: but in the new one');
}

# I3: the key
{
	my $before = queued_then('key', 'n = n + 100', 'ALTER TABLE key RENAME COLUMN id TO number');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.status WHERE item LIKE 'alert link:%' AND state = 'critical'
		AND detail LIKE '%key column%'", 'I3: a renamed key column pauses the link and is told');
	is(scalar(writes($sim, $before)), 0, 'I3: nothing is sent under the wrong key');
	$node->sql('UPDATE key SET n = 1 WHERE number = 3');
	$node->sql('ALTER TABLE key RENAME COLUMN number TO id');
	$node->sql('UPDATE key SET n = 2 WHERE id = 4');
	drained($node);
	is(scalar(writes($sim, $before)), 30, 'I3: the old name again: all is sent');
	$node->sql('ALTER TABLE key RENAME COLUMN id TO number; UPDATE key SET n = 3 WHERE number = 4');
	$node->sql("SELECT count(*) FROM angles.alter_link('key')");
	wait_for(sub { ((grep { $_->{id} eq '4' } pages($node, $sim, 'key'))[0]{n} // '') eq '3' },
		'I3: or alter_link(): the same pages, and the same key property');
	drained($node);
	is(scalar(pages($node, $sim, 'key')), 30, 'I3: no page is made anew');
}

# a table is dropped while changes are queued
{
	queued_then('gone', 'n = n + 100', 'SELECT 1');
	drained($node);
	$node->sql("SELECT angles.pause('gone'); UPDATE gone SET n = 1");
	my ($pid) = $node->worker_pids('sync');
	my $oid = $node->sql("SELECT 'gone'::regclass::oid");
	$node->sql("SELECT angles.resume('gone'); DROP TABLE gone");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.status WHERE state = 'critical' AND detail LIKE 'the table was dropped%'
		AND hint = 'SELECT angles.unlink($oid)'", 'I3: a dropped table is said by the status');
	my $before = $sim->ledger;
	$node->sql("UPDATE alt SET extra = 'h' WHERE id = 1");
	wait_for(sub { scalar(writes($sim, $before)) == 1 }, 'I3: other tables go on');
	is(($node->worker_pids('sync'))[0], $pid, 'I3: the worker lives');
	$node->sql("SELECT angles.unlink($oid)");
	is($node->sql("SELECT count(*) FROM angles.status WHERE detail LIKE '%dropped%'"), 0, 'I3: unlink() clears it away')
	  or diag($node->sql('SELECT * FROM angles.status'));
	drained($node);
}

# tables are dropped just while the worker reads about them
{
	foreach my $round (1 .. 12)
	{
		my $rows = 10 * $round;
		$node->sql("CREATE TABLE brief (id int PRIMARY KEY, title text, alt int REFERENCES alt)");
		link_table($node, 'brief') if $round % 2;
		$node->sql("SELECT count(*) FROM angles.link('brief')") unless $round % 2;
		my $oid = $node->sql("SELECT 'brief'::regclass::oid");
		$node->sql("INSERT INTO brief SELECT g, 'r', 1 FROM generate_series(1, $rows) g; DROP TABLE brief");
		$node->sql("SELECT angles.unlink($oid)");
	}
	my $before = $sim->ledger;
	$node->sql("UPDATE alt SET extra = 'i' WHERE id = 1");
	wait_for(sub { grep { JSON::PP->new->encode($_->{body}{properties} // {}) =~ /"i"/ } writes($sim, $before) },
		'I3: tables that come and go leave others alone');
	unlike($node->log_from(0), qr/terminated by signal/, 'I3: and end no worker');
	drained($node);
}

# E7: mass deletes
{
	$node->sql("CREATE TABLE mass (id int PRIMARY KEY, title text);
		INSERT INTO mass SELECT g, 'row' FROM generate_series(1, 400) g");
	link_table($node, 'mass');
	my $before = $sim->ledger;
	$node->sql('DELETE FROM mass WHERE id <= 101');
	$node->wait_sql('SELECT count(*) = 101 FROM angles.held_deletes', 'E7: more than 100 deletions at once are held');
	is(scalar(writes($sim, $before)), 0, 'E7: none of them is sent');
	$node->sql("INSERT INTO mass VALUES (1, 'back')");
	wait_for(sub { scalar(writes($sim, $before)) == 1 }, 'E7: a row that comes back keeps its page');
	is($node->sql('SELECT count(*) FROM angles.held_deletes'), 100, 'E7: and leaves the list');
	$node->sql("SELECT angles.approve('mass')");
	drained($node, 60);
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'E7: an approval lets them go');
	is(scalar(pages($node, $sim, 'mass')), 300, 'E7: to the trash');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL AND fingerprint LIKE 'mass%'"), 0,
		'E7: the alert is closed');

	$before = $sim->ledger;
	$node->sql('DELETE FROM mass WHERE id BETWEEN 102 AND 210');
	$node->wait_sql('SELECT count(*) = 109 FROM angles.held_deletes', 'E7: held again');
	$node->sql("SELECT angles.refuse('mass')");
	$node->wait_sql('SELECT count(*) = 0 FROM angles.queue', 'E7: a refusal ends it');
	is(scalar(writes($sim, $before)), 0, 'E7: and sends nothing');
	is(scalar(pages($node, $sim, 'mass')), 300, 'E7: the pages stay');
	my @w = since("BEGIN; DELETE FROM mass; INSERT INTO mass SELECT g, 'again' FROM generate_series(211, 400) g; COMMIT");
	is(scalar(grep { $_->{body}{in_trash} } @w), 1, 'E7: rows that are deleted and made again are no deletions');
	is($node->sql('SELECT count(*) FROM angles.held_deletes'), 0, 'E7: and nothing is held');
}

# J7
{
	$node->sql('CREATE DATABASE other');
	$node->sql("CREATE EXTENSION angles; CREATE TABLE t (id int PRIMARY KEY, title text);
		SELECT count(*) FROM angles.link('t'); INSERT INTO t SELECT g, 'r' FROM generate_series(1, 20) g", 'other');
	$node->wait_sql("SELECT count(*) = 0 AND (SELECT state = 'active' FROM angles.links) FROM angles.queue",
		'other flows', 30, 'other')
	  or diag($node->sql('SELECT * FROM angles.workers; SELECT * FROM angles.links; SELECT * FROM angles.queue;
		SELECT * FROM angles.status', 'other'));
	my $seen = $sim->requests;
	$sim->faults({ path => '^/v1/', action => 'delay', ms => 15000 });
	$node->sql("UPDATE t SET title = 's'", 'other');
	wait_for(sub { $node->sql("SELECT count(*) FROM angles.queue WHERE state = 'claimed'", 'other') },
		'J7: requests are in flight');
	my $start = now_ms();
	$node->sql('DROP DATABASE other');
	cmp_ok(now_ms() - $start, '<', 5000 * slow_factor(), 'J7: DROP DATABASE while requests are in flight');

	$node->sql('UPDATE mass SET title = $$t$$ WHERE id < 300');
	wait_for(sub { $node->sql("SELECT count(*) FROM angles.queue WHERE state = 'claimed'") }, 'J7: requests are in flight');
	$start = now_ms();
	$node->sql('DROP EXTENSION angles CASCADE');
	cmp_ok(now_ms() - $start, '<', 5000 * slow_factor(), 'J7: DROP EXTENSION while requests are in flight');
	is($node->sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'angles%'"), 0, 'J7: no trigger stays behind');
	wait_for(sub { !$node->worker_pids('sync') }, 'J7: no sync worker stays behind');
	$node->sql("UPDATE mass SET title = 'u'");
	$sim->clear_faults;
	$node->sql('CREATE EXTENSION angles');
	link_table($node, 'mass');
	is(scalar(pages($node, $sim, 'mass')), $node->sql('SELECT count(*) FROM mass'),
		'J7: made anew, it flows again');
	unlike($node->log_from(0), qr/terminated by signal|PANIC|server process .* exit code [^01]/, 'J7: nothing crashed');
}

done_testing();
