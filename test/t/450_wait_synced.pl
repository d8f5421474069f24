# 450_wait_synced.pl
#	angles.wait_synced(): it returns when Notion has what was committed, or says what stands in the
#	way; meanwhile it holds nothing that anybody would have to wait for.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => {
	'angles.poll_interval' => '200ms', 'angles.retry_initial' => '100ms', 'angles.notion_query_lag' => '0',
	'max_prepared_transactions' => 2, 'max_wal_senders' => 2, 'wal_level' => 'replica' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text NOT NULL, n bigint);
	CREATE TABLE child (id int PRIMARY KEY, title text, t int REFERENCES t ON UPDATE CASCADE);
	CREATE TABLE quiet (id int PRIMARY KEY, title text)');
$node->sql("INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, 20) g");
link_table($node, 't');
link_table($node, 'child');

# Returns what one session gets that commits the changes and then waits.
sub wait_after
{
	my ($changes, $arguments, $db) = @_;
	# those of the statements before have fewer columns
	return grep { @$_ == 7 } $node->rows("$changes; SELECT synced, \"table\", key, changes, state, reason, hint
		FROM angles.wait_synced($arguments)", $db);
}

# Tests that a wait after the changes ended well, and well before its time.
sub synced_after
{
	my ($changes, $name, $arguments) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @rows = wait_after($changes, $arguments // "'60 s'");
	is_deeply([ map { [ @$_[0 .. 4] ] } @rows ], [ [ 't', undef, undef, 0, 'synced' ] ], $name)
	  or diag(explain(\@rows));
}

# Tests that it ended at once with one obstacle like this.
sub stuck_after
{
	my ($changes, $expected, $reason, $hint, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begin = now_ms();
	my @rows = wait_after($changes, "'600 s'");
	ok(now_ms() - $begin < 20_000 * slow_factor(), "$name: at once");
	is_deeply([ @{ $rows[0] }[0 .. 4] ], [ 'f', @$expected ], "$name: what it is") or diag(explain(\@rows));
	like($rows[0][5], $reason, "$name: the reason");
	like($rows[0][6], $hint, "$name: what to do");
	return @rows;
}

# Returns a property of the page of a row, as Notion has it at this moment.
sub shows
{
	my ($key, $property, $table) = @_;
	my ($page) = grep { $_->{id} eq $key } pages($node, $sim, $table // 't');
	return $page->{$property};
}

# Begins to wait in a session of its own, whose first statements these are.
sub begin_wait
{
	my ($changes, $query, $db) = @_;
	my $session = $node->background_psql($db // 'postgres', on_error_stop => 0);
	$session->query_safe("SET application_name = 'waiter'");
	$session->query($changes) if $changes;
	$session->{stdin} .= "$query;\n";
	$session->{run}->pump_nb;
	$node->wait_sql("SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter'
		AND state = 'active' AND wait_event_type = 'Extension' AND query LIKE '%wait_synced%'", 'a session waits');
	return $session;
}

sub waiter { return $node->sql("SELECT $_[0] FROM pg_stat_activity WHERE application_name = 'waiter'"); }

# Ends a session that waits, and returns all that it said: its answer, and its errors.
sub end_wait
{
	my ($session) = @_;
	$session->{stdin} .= "\\echo it has ended\n";
	wait_for(sub { $session->{run}->pump_nb; $session->{stdout} =~ /^it has ended$/m }, 'the wait ends', 60);
	my $said = "$session->{stdout}\n$session->{stderr}";
	$session->{stdout} = $session->{stderr} = '';
	$session->quit;
	return $said;
}

# Lets Notion take its time, or fail, for all writes of pages until clear_faults().
sub slow { return $sim->faults({ method => $_[0] // 'PATCH', path => '^/v1/pages', count => 1000, action => 'delay', ms => $_[1] // 1500 }); }

# ---- it returns when Notion has it ----

{
	my $before = $sim->ledger;
	synced_after('UPDATE t SET n = 100 WHERE id = 1', 'a change that was committed is acknowledged');
	is(scalar(writes($sim, $before)), 1, 'in one write');
	is(shows(1, 'n'), 100, 'and the page shows it at that moment');
}
slow();
synced_after('UPDATE t SET n = 101 WHERE id = 1', 'also when Notion is slow');
is(shows(1, 'n'), 101, 'then it waits as long');
$sim->clear_faults;
synced_after("INSERT INTO t VALUES (21, 'new', 1)", 'a new row');
is(shows(21, 'n'), 1, 'has its page');
synced_after('UPDATE t SET id = 22 WHERE id = 21', 'a new key');
is(shows(22, 'n'), 1, 'has reached the page');
synced_after('DELETE FROM t WHERE id = 22', 'a deleted row');
is(shows(22, 'n'), undef, 'has no page any more');
synced_after("INSERT INTO t SELECT g, 'bulk', 0 FROM generate_series(1001, 1300) g", 'many rows');
is(scalar(grep { $_->{title} eq 'bulk' } pages($node, $sim, 't')), 300, 'have their pages');
synced_after('SET synchronous_commit = off; UPDATE t SET n = 102 WHERE id = 1', 'a commit that is not flushed');
is(shows(1, 'n'), 102, 'is flushed and sent');
synced_after("BEGIN; INSERT INTO t VALUES (23, 'p', 1); INSERT INTO child VALUES (1, 'c', 23); COMMIT",
	'a row and one that refers to it');
is(live_keys($node, $sim, 'child'), '1', 'both have their pages');
synced_after("SELECT count(*) FROM angles.link('quiet'); INSERT INTO quiet VALUES (1, 'q')", 'a table that is just being linked',
	"'60 s'");
is(live_keys($node, $sim, 'quiet'), '1', 'and its row');
synced_after("SELECT angles.unlink('quiet'); INSERT INTO quiet VALUES (2, 'q');
	SELECT count(*) FROM angles.link('quiet')", 'the link itself is waited for: its first push');
is(live_keys($node, $sim, 'quiet'), '1 2', 'and its rows are there');

{
	my ($row) = wait_after('UPDATE t SET n = 102 WHERE id = 1', "'60 s'");
	is_deeply([ @$row[ 0, 3, 4 ] ], [ 't', 0, 'synced' ], 'A4: nothing changed: nothing to wait for');
	like($row->[5], qr/no change of a linked table/, 'which it says');
}

# ---- arguments ----

my $wait = 'SELECT * FROM angles.wait_synced';
$node->fails_with("$wait(NULL)", '22004', qr/"timeout" must not be null/, 'null is no time');
$node->fails_with("$wait('-1 s')", '22023', qr/must not be negative/, 'nor is less than nothing');
$node->fails_with("$wait('-178000000 years')", '22023', qr/must not be negative/, 'nor much less');
$node->fails_with("$wait('1 s', 'FFFFFFFF/0')", '22023', qr/no WAL at position.*pg_current_wal_insert_lsn/s, 'a position to come');
$node->fails_with("$wait('1 s', '0/0')", '22023', qr/no WAL at position/, 'a position that is none');
synced_after('UPDATE t SET n = 103 WHERE id = 1', 'a wait without a limit', "'178000000 years'");
synced_after('UPDATE t SET n = 104 WHERE id = 1', 'infinity', "'infinity'")
  if $node->sql("SELECT current_setting('server_version_num')::int >= 170000") eq 't';
slow();
{
	my $begin = now_ms();
	my ($row) = wait_after('UPDATE t SET n = 105 WHERE id = 1', "'0'");
	is_deeply([ @$row[0 .. 3] ], [ 'f', 't', '1', 1 ], 'no time: how it is now');
	ok(now_ms() - $begin < 1000 * slow_factor(), 'is told at once');
	($row) = wait_after('UPDATE t SET n = 106 WHERE id = 2', "'300 ms'");
	is_deeply([ @$row[0 .. 4] ], [ 'f', 't', '2', 1, 'claimed' ], 'at the end of the time: what is left');
	like($row->[5], qr/on its way to Notion/, 'and why');
}
$sim->clear_faults;
drained($node);
$node->fails_with("BEGIN; UPDATE t SET n = 106 WHERE id = 1; $wait()", 'NG006', qr/not committed.*COMMIT first/s,
	'inside of the transaction that made the change it refuses');
$node->fails_with("BEGIN; UPDATE t SET n = 106 WHERE id = 1; $wait('1 s', pg_current_wal_insert_lsn())", 'NG006', undef,
	'with a position, too');
is($node->sql("BEGIN; SAVEPOINT a; UPDATE t SET n = 5 WHERE id = 1; ROLLBACK TO a; SELECT synced FROM angles.wait_synced()"), 't',
	'what was rolled back does not count');

# ---- a position of the WAL ----

slow();
{
	my $lsn = $node->sql('UPDATE t SET n = 107 WHERE id = 1; SELECT pg_current_wal_insert_lsn()');
	synced_after('SELECT', "another session's commit, by its position", "'60 s', '$lsn'");
	is(shows(1, 'n'), 107, 'is in Notion then');
	$sim->clear_faults;
	# a quarter of a second later the worker has noted the position
	$node->sql('UPDATE t SET n = 0 WHERE id = 9; SELECT pg_sleep(0.3); UPDATE t SET n = 1 WHERE id = 9');	# lint: test-sleep: the time between two notes
	drained($node);
	$node->sql('UPDATE t SET n = 9007199254740993 WHERE id = 2');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked", 'a row parks later');
	synced_after('SELECT', 'what was committed after a position does not count', "'60 s', '$lsn'");
	my ($row) = wait_after('SELECT', "'60 s', pg_current_wal_insert_lsn()");
	is_deeply([ @$row[0 .. 4] ], [ 'f', 't', '2', 1, 'parked' ], 'what was committed before it does, whosever it is');
}

# A2: numbers, commits and their visibility come in different orders
$node->sql('CREATE TABLE wide (id text PRIMARY KEY, title text)');
link_table($node, 'wide');
{
	# so much that a part of it is logged, under a number, before the commit
	my $early = $node->background_psql('postgres');
	$early->query_safe("BEGIN; INSERT INTO wide SELECT g || repeat('x', 1500), 'early' FROM generate_series(1, 150) g");
	synced_after('UPDATE t SET n = 108 WHERE id = 1', 'A2: a transaction that is still open is not waited for');
	my ($row) = wait_after('SELECT', "'60 s', pg_current_wal_insert_lsn()");
	is($row->[4], 'parked', 'A2: nor by position');
	$early->query_safe('COMMIT');
	my @rows = wait_after('SELECT', "'120 s', pg_current_wal_insert_lsn()");
	is_deeply([ map { $_->[4] } @rows ], ['parked'], 'A2: its changes are waited for when it has committed');
	is(scalar(grep { $_->{title} eq 'early' } pages($node, $sim, 'wide')), 150, 'A2: though their number was drawn before');
	$early->quit;
	synced_after('UPDATE t SET n = 2 WHERE id = 2', 'A2: the parked row is corrected');
}

# A2: a commit that is in the WAL and waits for its standby is not visible
{
	$node->configure('synchronous_standby_names' => 'nobody');
	my $session = $node->background_psql('postgres');
	$session->{stdin} .= "UPDATE t SET n = 109 WHERE id = 1;\n";
	$session->{run}->pump_nb;
	$node->wait_sql("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE t%'", 'a commit waits');
	my $lsn = $node->sql('SELECT pg_current_wal_insert_lsn()');
	my ($row) = wait_after('SELECT', "'500 ms', '$lsn'");
	is_deeply([ @$row[ 0, 4 ] ], [ 'f', 'committing' ], 'A2: a commit before the position that nobody sees yet is waited for');
	my $waiting = begin_wait(undef, "SELECT synced FROM angles.wait_synced('60 s', '$lsn')");
	$node->configure('synchronous_standby_names' => undef);
	like(end_wait($waiting), qr/^t$/m, 'A2: until all see it, and Notion has it');
	is(shows(1, 'n'), 109, 'A2: which is so');
	$session->quit;
}

# A12: whoever commits what another session has prepared
{
	$node->sql("BEGIN; UPDATE t SET n = 120 WHERE id = 1; PREPARE TRANSACTION 'p'");
	synced_after('SELECT', 'A12: what is only prepared is not waited for', "'60 s', pg_current_wal_insert_lsn()");
	slow('PATCH', 500);
	synced_after("COMMIT PREPARED 'p'", 'A12: once it is committed, it is', "'60 s', pg_current_wal_insert_lsn()");
	is(shows(1, 'n'), 120, 'A12: until Notion has it');
	$sim->clear_faults;
}

# more sessions than there are places to be woken at
{
	my @sessions = map { $node->background_psql('postgres') } 1 .. 40;
	$_->{stdin} .= "UPDATE t SET n = n + 1 WHERE id = 1; SELECT synced, clock_timestamp() - statement_timestamp() < '5 s' FROM angles.wait_synced('60 s');\n",
		$_->{run}->pump_nb
		foreach @sessions;
	is(scalar(grep { $_->query('SELECT 0') =~ /^t\|t$/m } @sessions), 40, '40 sessions wait');
	$_->quit foreach @sessions;
}

# ---- it is about this session's changes alone ----

{
	$node->sql('UPDATE t SET n = 9007199254740993 WHERE id = 3');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked", "another session's row parks");
	synced_after('UPDATE t SET n = 110 WHERE id = 1', "what stands in another session's way is not told");
	synced_after('UPDATE t SET n = 3 WHERE id = 3', 'correcting the row helps');
}

# a row that others change again and again
{
	my $busy = $node->background_psql('postgres', on_error_stop => 0);
	slow('PATCH', 100);
	$busy->{stdin} .= "DO \$\$ BEGIN FOR i IN 1 .. 2000 LOOP UPDATE t SET n = i WHERE id = 4; COMMIT; PERFORM pg_sleep(0.01); END LOOP; END \$\$;\n";	# lint: test-sleep: the other session's pace
	$busy->{run}->pump_nb;
	$node->wait_sql('SELECT n > 5 FROM t WHERE id = 4', 'the row is being changed');
	synced_after('UPDATE t SET n = -1 WHERE id = 4', "a row that never rests: this session's change has gone", "'10 s'");
	is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"), 1, 'while the others go on');
	$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %'");
	$busy->query('SELECT 1');
	$busy->quit;
	$sim->clear_faults;
	drained($node);
}

# ---- what it holds meanwhile ----

# Tests that the session holds no snapshot: seen between two of its looks, which take one.
sub holds_none
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->wait_sql("SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity
		WHERE application_name = 'waiter' AND state = 'active'", $_[0], 2), $_[0]);
}

slow('PATCH', 3000);
{
	my $session = begin_wait('UPDATE t SET n = 111 WHERE id = 1', "SELECT synced FROM angles.wait_synced('60 s')");
	holds_none('it holds no snapshot while it waits');
	ok($node->wait_sql("SELECT count(*) = 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.application_name = 'waiter' AND l.relation IS NOT NULL", 'no locks', 5), 'nor any lock of a table');
	like(end_wait($session), qr/^t$/m, 'and ends well');
	$session = begin_wait('UPDATE t SET n = 112 WHERE id = 1', "SELECT bool_and(synced), count(*) FROM angles.wait_synced('60 s') WHERE changes >= 0");
	holds_none('nor with an aggregate above it');
	like(end_wait($session), qr/^t\|1$/m, 'and ends well');
	$session = begin_wait('UPDATE t SET n = 113 WHERE id = 1', "SELECT (angles.wait_synced('60 s')).synced");
	holds_none('nor in a list of columns');
	like(end_wait($session), qr/^t$/m, 'and ends well');
	# the rows of a table would be seen at two different times
	$session = begin_wait('UPDATE t SET n = 114 WHERE id = 1', "SELECT count(*) FROM angles.wait_synced('60 s'), t WHERE id <= 20");
	is(waiter('backend_xmin IS NOT NULL'), 't', 'a query that reads a table as well keeps its snapshot');
	$node->sql('DELETE FROM t WHERE id = 20');
	like(end_wait($session), qr/^20$/m, 'and sees what it saw at its begin');
	$session = begin_wait('UPDATE t SET n = 115 WHERE id = 1', "DO \$\$ BEGIN PERFORM * FROM angles.wait_synced('60 s'); END \$\$");
	is(waiter('backend_xmin IS NOT NULL'), 't', 'so does one inside of a function');
	unlike(end_wait($session), qr/ERROR/, 'and ends well');
	my $cursors = $node->background_psql('postgres');
	$cursors->query_safe('UPDATE t SET n = 116 WHERE id = 1');
	$cursors->query_safe("BEGIN; DECLARE a CURSOR FOR SELECT count(*) FROM t; DECLARE c CURSOR FOR $wait('60 s'); SELECT 1");
	like($cursors->query('FETCH c; FETCH c; FETCH a; COMMIT; SELECT 5'), qr/^t\|.*5$/s, 'a cursor beside another');
	$cursors->query_safe("UPDATE t SET n = 117 WHERE id = 1");
	like($cursors->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; $wait('60 s'); COMMIT"), qr/^t\|/m,
		'a snapshot for a whole transaction does not hide the end');
	$cursors->quit;
}
$sim->clear_faults;
drained($node);

# ---- obstacles ----

$node->sql("SELECT angles.pause('t', 'spring cleaning')");
stuck_after('UPDATE t SET n = 200 WHERE id = 1', [ 't', '1', 1, 'paused' ], qr/spring cleaning/, qr/angles\.resume\('public\.t'\)/, 'a paused table');
stuck_after("INSERT INTO t VALUES (30, 'p', 1); INSERT INTO child VALUES (2, 'c', 30)", [ 'child', '2', 1, 'waiting' ],
	qr/page of a referenced row/, qr/angles\.queue/, 'a row that refers to one of a paused table');
is((wait_after("UPDATE t SET n = 201 WHERE id = 1; SELECT angles.resume('t')", "'60 s'"))[0][0], 't', 'resume() just before is heeded');
stuck_after('UPDATE t SET n = 9007199254740993 WHERE id <= 3', [ 't', '1', 3, 'parked' ], qr/2\^53|exact|number/i, qr/\S/, 'rows that Notion cannot hold');
synced_after('UPDATE t SET n = id WHERE id <= 3', 'they are corrected');
stuck_after('DELETE FROM t WHERE id BETWEEN 1001 AND 1200', [ 't', '1001', 200, 'held' ], qr/many other rows/, qr/angles\.approve\('public\.t'\)/,
	'deletions that wait for a person');
is((wait_after("UPDATE t SET n = 201 WHERE id = 1; DELETE FROM t WHERE id BETWEEN 1201 AND 1202; SELECT angles.approve('t')", "'60 s'"))[0][0], 't',
	'approve() just before is heeded');
stuck_after('TRUNCATE child', [ 'child', '1', 2, 'held' ], qr/TRUNCATE/, qr/angles\.approve\('public\.child'\)/, 'a TRUNCATE');
$node->sql("SELECT angles.refuse('child')");
drained($node);

# H4
$node->configure('angles.notion_token' => undef);
stuck_after('UPDATE t SET n = 202 WHERE id = 1', [ undef, undef, 1, 'no token' ], qr/no token/, qr/angles\.notion_token_file/, 'H4: no token');
$node->configure('angles.notion_token' => 'bad');
stuck_after('UPDATE t SET n = 203 WHERE id = 1', [ undef, undef, 1, 'token refused' ], qr/refuses the token/, qr/check_notion/, 'H4: a wrong token');
$node->configure('angles.notion_token' => $sim->token);
synced_after('UPDATE t SET n = 204 WHERE id = 1', 'H4: the right one', "'60 s'");

# H1
$sim->faults({ path => '^/v1', count => 100_000, action => 500 });
stuck_after('UPDATE t SET n = n + 1 WHERE id <= 8', [ undef, undef, 8, 'unreachable' ], qr/does not answer/, qr/kept and sent/, 'H1: Notion is down');
$sim->clear_faults;
drained($node);

# a conflict that waits for a person
{
	$node->sql("SELECT count(*) FROM angles.alter_link('t', conflict => 'manual')");
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 100_000, action => '503' });
	$node->sql('UPDATE t SET n = 71 WHERE id = 7');
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $node->sql("SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE relid = 't'::regclass AND key = '7'"), properties => { n => 72 } });
	$node->wait_sql('SELECT count(*) = 1 FROM angles.conflicts WHERE winner IS NULL', 'a conflict waits', 30);
	$sim->clear_faults;
	drained($node);
	stuck_after('UPDATE t SET n = 73 WHERE id = 7', [ 't', '7', 1, 'conflict' ], qr/both sides changed column n/, qr/angles\.resolve\(\d+/, 'a conflict');
	synced_after('UPDATE t SET n = 74 WHERE id = 8', 'which is that row\'s alone');
	is((wait_after("UPDATE t SET n = 75 WHERE id = 7; SELECT angles.resolve(id, 'postgres') FROM angles.conflicts WHERE winner IS NULL", "'60 s'"))[-1][0],
		't', 'a decision just before is heeded');
	drained($node);
	is(shows(7, 'n'), 75, 'and the row\'s value is in Notion');
}

# A13: what could not be captured is compared in full, and that is waited for
{
	slow('PATCH', 300);
	my ($row) = wait_after('ALTER TABLE angles.change_log_0 RENAME TO away; UPDATE t SET n = 290 WHERE id = 9;
		ALTER TABLE angles.away RENAME TO change_log_0', "'60 s'");
	is($row->[0], 't', 'A13: a change that could not be captured is waited for') or diag(explain($row));
	is(shows(9, 'n'), 290, 'A13: and reaches Notion');
	$sim->clear_faults;
}

# ---- it ends when it shall ----

slow('PATCH', 5000);
{
	my $session = begin_wait('UPDATE t SET n = 300 WHERE id = 1', "$wait('600 s')");
	$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
	like(end_wait($session), qr/canceling statement due to user request/, 'it can be cancelled');
	my ($state, $message) = $node->sql_error("UPDATE t SET n = 301 WHERE id = 1; SET statement_timeout = '300ms'; $wait('600 s')");
	is($state, '57014', 'and ends with statement_timeout');
	$session = begin_wait('UPDATE t SET n = 302 WHERE id = 1', "$wait('600 s')");
	$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
	$node->wait_sql("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'waiter'", 'a session that waits can be ended', 5);
	ok(1, 'and be terminated');
	eval { $session->quit };
}
$sim->clear_faults;
drained($node);

# ---- workers that die, or sleep ----

slow('PATCH', 2000);
{
	my $session = begin_wait('UPDATE t SET n = 310 WHERE id = 1', "SELECT synced FROM angles.wait_synced('60 s')");
	$node->kill_worker('sync', 'TERM');
	like(end_wait($session), qr/^t$/m, 'a sync worker that ends is waited for');
	is(shows(1, 'n'), 310, 'and Notion has the change');
	$node->kill_worker('bridge', 'TERM');
	synced_after('UPDATE t SET n = 311 WHERE id = 1', 'and a bridge');
}
$sim->clear_faults;
$node->configure('angles.sync_idle_timeout' => '100ms', 'angles.poll_interval' => '1h');
$node->sql("SELECT count(*) FROM angles.alter_link('t', conflict => 'newest')");
drained($node);
synced_after('UPDATE t SET n = 312 WHERE id = 1', 'a worker that sleeps is woken');
$node->configure('angles.sync_idle_timeout' => undef, 'angles.poll_interval' => '200ms');

# ---- rights ----

$node->sql('CREATE ROLE nobody LOGIN; CREATE ROLE looks LOGIN IN ROLE angles_viewer; GRANT UPDATE, SELECT ON t TO nobody, looks');
$node->fails_with("SET ROLE nobody; UPDATE t SET n = 320 WHERE id = 1; $wait()", '42501', qr/permission denied/, 'K3: a role without rights may not ask');
is($node->sql("SET ROLE looks; UPDATE t SET n = 321 WHERE id = 1; SELECT synced FROM angles.wait_synced('60 s')"), 't', 'K3: one that may read the queue may');
$node->fails_with("SET ROLE looks; SELECT * FROM angles.pending_changes(NULL, 1, NULL, 1, NULL, NULL, NULL, now())", '42501', undef, 'K3: its inside is nobody\'s');

# ---- databases ----

$node->sql('CREATE DATABASE other');
$node->sql('CREATE EXTENSION angles; CREATE TABLE t (id int PRIMARY KEY, title text, n int); SELECT count(*) FROM angles.link($$t$$)', 'other');
{
	my ($row) = wait_after("INSERT INTO t VALUES (1, 'other', 1)", "'60 s'", 'other');
	is($row->[0], 't', 'another database waits for its own');
	slow('PATCH', 60_000);
	my $session = begin_wait('UPDATE t SET n = 330 WHERE id = 1', "$wait('600 s')");
	my $begin = now_ms();
	$node->sql('CREATE DATABASE unrelated; DROP DATABASE unrelated');
	ok(now_ms() - $begin < 5000 * slow_factor(), 'J7: DROP DATABASE elsewhere does not wait for it');
	my $second = $node->background_psql('other', on_error_stop => 0);
	$second->query('UPDATE t SET n = 2');
	$second->{stdin} .= "$wait('600 s');\n";
	$second->{run}->pump_nb;
	$node->wait_sql("SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE '%wait_synced%' AND wait_event_type = 'Extension'", 'both wait');
	$begin = now_ms();
	$node->sql('DROP DATABASE other WITH (FORCE)');
	ok(now_ms() - $begin < 5000 * slow_factor(), 'J7: nor does that of its own, by force');
	eval { $second->quit };
	is(waiter('state'), 'active', 'J7: which the first one does not notice');

	# J7: somebody drops the extension, slowly
	my $dropper = $node->background_psql('postgres');
	$dropper->query_safe('BEGIN; DROP EXTENSION angles CASCADE');
	$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Lock'");
	is(waiter("wait_event_type"), 'Extension', 'J7: a session that waits does not wait for the one who drops the extension');
	$begin = now_ms();
	$dropper->query_safe('COMMIT');
	like(end_wait($session), qr/extension "angles" was dropped/, 'J7: and ends with an error when it is gone');
	ok(now_ms() - $begin < 5000 * slow_factor(), 'J7: in seconds');
	$dropper->quit;
}

# ---- no workers at all ----

{
	my $bare = new_cluster('bare', preload => '');
	$bare->sql("CREATE TABLE t (id int PRIMARY KEY, title text); SELECT count(*) FROM angles.link('t', parent => '00000000000040008000000000000001')");
	my @rows = grep { @$_ == 7 } $bare->rows("INSERT INTO t VALUES (1, 'a'); $wait('600 s')");
	is_deeply([ @{ $rows[0] }[ 0, 1, 3, 4 ] ], [ 'f', undef, 1, 'no worker' ], 'without the library preloaded it says so at once');
	like($rows[0][6], qr/shared_preload_libraries/, 'and what to do');
	is_deeply([ @{ $rows[1] }[ 1, 2, 4 ] ], [ 't', 1, 'captured' ], 'and what is waiting');
}

done_testing();
