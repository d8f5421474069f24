# 321_capture_fails.pl
#	Scenarios A13, J2, K2: writes of users go on whatever is wrong with angles, and what could not be
#	captured is sent later; what is not durable, or hidden from the owner, is not sent.
use strict;
use warnings;

use JSON::PP ();
use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.sweep_interval' => '1s' });

$node->sql(q{
	CREATE TABLE t (id int PRIMARY KEY, title text, n int);
	INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, 5) g});
link_table($node, 't');

# Returns the pages as "id:n ...".
sub held
{
	return join(' ', sort map { "$_->{id}:" . ($_->{n} // '') } pages($node, $sim, 't'));
}

# Runs a statement whose capture must fail: a warning, no error. Returns what was said.
sub warned
{
	my ($sql, $name) = @_;
	my $err;
	is($node->psql('postgres', $sql, stderr => \$err, on_error_stop => 1), 0,
		"A13: $name: the user's transaction goes on");
	is(scalar(() = $err =~ /could not capture/g), 1, "A13: $name: with one warning")
	  or diag($err);
	return $err;
}

my $dboid = $node->sql("SELECT oid FROM pg_database WHERE datname = 'postgres'");
my $marks = $node->data_dir . '/angles/';

# A13: a table of the log is gone
{
	my $before = $sim->ledger;
	$node->sql('ALTER TABLE angles.change_log_0 RENAME TO away');
	my $err = warned(q{BEGIN; UPDATE t SET n = 100 WHERE id = 1; DELETE FROM t WHERE id = 2;
		INSERT INTO t VALUES (6, 'six', 6); COMMIT}, 'log gone');
	like($err, qr/reconcile/, 'A13: which says what to do');
	$node->sql('ALTER TABLE angles.away RENAME TO change_log_0');
	wait_for(sub { held() eq '1:100 3:3 4:4 5:5 6:6' }, 'A13: a full compare sends everything');
	drained($node);
	is(scalar(creates($sim, $before)), 1, 'A13: nothing twice');
	compared($node, 't');
	wait_for(sub { !glob("$marks*_${dboid}_*") }, 'A13: and the mark is removed');
}

# A13: capture fails while the compare of an earlier failure waits for an older transaction
{
	my $old = $node->background_psql('postgres');
	$old->query_safe('BEGIN; CREATE TEMP TABLE x ()');
	$node->sql('ALTER SEQUENCE angles.change_log_seq RENAME TO away');
	my $late = $node->background_psql('postgres');
	warned('UPDATE t SET n = 200 WHERE id = 1', 'sequence gone');
	$node->wait_sql('SELECT begins_after IS NOT NULL FROM angles.reconciles', 'A13: the compare waits');
	my $after = $node->sql('SELECT begins_after FROM angles.reconciles');
	warned('UPDATE t SET n = 300 WHERE id = 3', 'once more');
	$node->wait_sql("SELECT begins_after::text::bigint > $after FROM angles.reconciles",
		'A13: a later failure moves the time of the compare');
	$node->sql('ALTER SEQUENCE angles.away RENAME TO change_log_seq');
	is(held(), '1:100 3:3 4:4 5:5 6:6', 'A13: nothing is compared while an older transaction is open');
	$_->quit foreach $late, $old;
	wait_for(sub { held() eq '1:200 3:300 4:4 5:5 6:6' }, 'A13: then everything is sent');
}

# A13: workers are down
{
	drained($node);
	my $before = $sim->ledger;
	$node->configure('angles.notion_url' => 'http://127.0.0.1:9');
	$node->kill_worker('bridge', 'TERM');
	$node->sql('UPDATE t SET n = n + 1');
	is($node->sql('SELECT count(DISTINCT key) FROM angles.queue'), 5,
		'A13: without workers changes queue, and the view shows them');
	$node->wait_worker('bridge');
	$node->configure('angles.notion_url' => $sim->url);
	drained($node, 60);
	is(held(), '1:201 3:301 4:5 5:6 6:7', 'A13: and go out once there is a way');
	is(scalar(writes($sim, $before)), 5, 'A13: once each');
}

# A13: not preloaded
{
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'pg_cron'");
	$node->restart;
	$node->sql('UPDATE t SET n = 400 WHERE id = 4');
	is($node->sql("SELECT count(*) FROM angles.queue WHERE state = 'captured'"), 1,
		'A13: without the library preloaded a change is captured');
	is($node->sql("SELECT state FROM angles.status WHERE item = 'worker'"), 'critical',
		'A13: the status is critical');
	$node->sql('ALTER TABLE angles.change_log_0 RENAME TO away');
	warned('UPDATE t SET n = 500 WHERE id = 5', 'not preloaded');
	$node->sql('ALTER TABLE angles.away RENAME TO change_log_0');
	$node->sql('DELETE FROM angles.change_log_0');
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'pg_cron,angles'");
	$node->restart;
	wait_for(sub { held() eq '1:201 3:301 4:400 5:500 6:7' },
		'A13: a mark that is older than the server is acted on');
	drained($node);
}

# J2
{
	$node->configure('synchronous_commit' => 'off', 'wal_writer_delay' => '10s');
	my $reached = 0;
	foreach my $round (1 .. 5)
	{
		my $before = $sim->ledger;
		my $last = 1000 * $round;
		my $session = $node->background_psql('postgres');
		# small transactions, so that the worker sends some of them while others are committed
		$session->query_safe("INSERT INTO t VALUES ($last + $_, 'j2', $round)") for 1 .. 10;
		wait_for(sub { scalar(creates($sim, $before)) > 0 }, "J2: round $round: some are under way");
		$node->crash;
		$session->quit;
		my %rows = map { $_ => 1 } split(/\n/, $node->sql('SELECT id FROM t'));
		drained($node, 60);
		my @missing = grep { !$rows{ $_->{id} } } pages($node, $sim, 't');
		is(scalar @missing, 0, "J2: round $round: every page's row exists after the crash");
		my @keys = map { $_->{id} } pages($node, $sim, 't');
		my %once = map { $_ => 1 } @keys;
		is(scalar @keys, scalar(keys %once), "J2: round $round: no row has two pages");
		is(join(' ', sort { $a <=> $b } @keys), join(' ', sort { $a <=> $b } keys %rows),
			"J2: round $round: every row has its page");
	}
	$node->configure('synchronous_commit' => undef, 'wal_writer_delay' => undef);
}

# K2
{
	$node->sql(q{
		CREATE ROLE keeper LOGIN;
		CREATE TABLE rls (id int PRIMARY KEY, title text, open boolean);
		ALTER TABLE rls OWNER TO keeper;
		ALTER TABLE rls ENABLE ROW LEVEL SECURITY;
		ALTER TABLE rls FORCE ROW LEVEL SECURITY;
		CREATE POLICY p ON rls USING (open);
		INSERT INTO rls VALUES (1, 'seen', true), (2, 'hidden-words', false)});
	link_table($node, 'rls');
	is(live_keys($node, $sim, 'rls'), '1', 'K2: a row that a policy hides from the owner is not sent');
	$node->sql("INSERT INTO rls VALUES (3, 'hidden-words', false), (4, 'seen', true)");
	$node->sql("UPDATE rls SET title = 'hidden-words' WHERE id = 2");
	drained($node);
	is(live_keys($node, $sim, 'rls'), '1 4', 'K2: nor is a change of one');
	my $before = $sim->ledger;
	$node->sql("UPDATE rls SET open = false, title = 'hidden-words' WHERE id = 4");
	drained($node);
	is(scalar(writes($sim, $before)), 0, 'K2: a row that becomes hidden keeps its page as it was');
	$node->sql("UPDATE rls SET open = true, title = 'seen again' WHERE id = 4");
	drained($node);
	is((grep { $_->{id} eq '4' } pages($node, $sim, 'rls'))[0]{title}, 'seen again',
		'K2: and is sent again when it may be seen');
	unlike(join('', map { $_->{title} // '' } pages($node, $sim, 'rls')), qr/hidden/,
		'K2: no hidden value reached Notion');
	is(scalar(grep { ($_->{body} ? JSON::PP->new->canonical->encode($_->{body}) : '') =~ /hidden-words/ }
				$sim->ledger), 0, 'K2: nor any request');
	$before = $sim->ledger;
	$node->sql('SET ROLE keeper; DELETE FROM rls WHERE id = 4');
	drained($node);
	is(scalar(grep { $_->{body}{in_trash} } writes($sim, $before)), 1, 'K2: a deletion is one all the same');
}

done_testing();
