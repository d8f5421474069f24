# The processes of a database come and go with the extension.
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;

# A remote that takes connections and never says a word: every request to it is slow.
my $hole = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "could not listen: $!";
my $url = 'http://127.0.0.1:' . $hole->sockport;

# Versions that do not exist, for ALTER EXTENSION. The share directory is the test's own copy.
my $share = `pg_config --sharedir`;
chomp $share;
my $version = do
{
	my ($v) = slurp_file("$share/extension/angles.control") =~ /default_version *= *'(.*)'/;
	$v;
};
my @scripts = map { "$share/extension/angles--$_.sql" } ("$version--0.0.99", "0.0.99--$version");
for my $script (@scripts)
{
	open(my $fh, '>', $script) or die "could not write $script: $!";
	close $fh;
}
END { unlink grep { defined } @scripts; }

my $node = new_cluster('life', preload => 'angles', create => 0,
	conf => { 'angles.notion_url' => $url, 'angles.sweep_interval' => '1h',
		'angles.notion_parent' => '00000000-0000-4000-8000-000000000001' });

sub state_of
{
	my ($db) = @_;
	my ($row) = grep { $_->[0] eq $db } states();
	return $row ? $row->[1] : 'none';
}

sub states
{
	my @rows = $node->rows('SELECT database, state FROM angles.workers', 'watch');
	return @rows;
}

# Starts a statement whose request to Notion hangs; returns its handle.
sub slow_request
{
	my ($db) = @_;
	my $session = $node->background_psql($db, on_error_stop => 0);
	my $sync = ($node->worker_pids('sync', $db))[0] // 0;

	$session->{stdin} .= "SELECT * FROM angles.request_rows('check_notion');\n";
	$session->{run}->pump_nb;
	wait_for(sub { $node->sql("SELECT count(*) FROM angles.runs WHERE state = 'running'", $db) == 1 },
		"a request of $db is under way");
	return $session;
}

$node->sql('CREATE DATABASE watch');
$node->sql('CREATE EXTENSION angles', 'watch');
is(scalar $node->worker_pids('launcher'), 1, 'one launcher');
ok($node->wait_worker('bridge', 'watch'), 'a bridge comes with CREATE EXTENSION in a new database');
wait_for(sub { state_of('postgres') eq 'absent' }, 'the launcher knows who has no extension');
is(scalar $node->worker_pids('bridge'), 1, 'no bridge where there is no extension');

# ---- created after start, dropped, made anew ----

$node->sql('CREATE EXTENSION angles');
ok($node->wait_worker('bridge', 'postgres'), 'a bridge comes after CREATE EXTENSION');
wait_for(sub { state_of('postgres') eq 'running' }, 'the database is served');

my $bridge = $node->wait_worker('bridge', 'postgres');
$node->sql('BEGIN; DROP EXTENSION angles; ROLLBACK');
is_deeply([ $node->worker_pids('bridge', 'postgres') ], [$bridge],
	'a DROP EXTENSION that is rolled back stops nobody');

$node->sql('BEGIN; DROP EXTENSION angles; CREATE EXTENSION angles; COMMIT');
wait_for(sub { my $pid = ($node->worker_pids('bridge', 'postgres'))[0]; $pid && $pid != $bridge },
	'dropped and made anew in one transaction: a new bridge');
wait_for(sub { state_of('postgres') eq 'running' }, 'which serves the database');

$node->sql('DROP EXTENSION angles');
wait_for(sub { state_of('postgres') eq 'absent' && !$node->worker_pids('bridge', 'postgres') },
	'the bridge goes after DROP EXTENSION');

$node->sql('CREATE EXTENSION angles');
$node->wait_worker('bridge', 'postgres');
wait_for(sub { state_of('postgres') eq 'running' }, 'served again');
$node->sql('DROP SCHEMA angles CASCADE');
wait_for(sub { state_of('postgres') eq 'absent' && !$node->worker_pids('bridge', 'postgres') },
	'the bridge goes after DROP SCHEMA angles CASCADE');

# ---- a prepared transaction ----

$node->sql("BEGIN; CREATE EXTENSION angles; PREPARE TRANSACTION 'make'");
is(state_of('postgres'), 'absent', 'prepared is not committed');
$node->sql("COMMIT PREPARED 'make'");
ok($node->wait_worker('bridge', 'postgres'), 'a bridge comes after COMMIT PREPARED');
wait_for(sub { state_of('postgres') eq 'running' }, 'and serves');

# ---- while a request is under way ----

my $session = slow_request('postgres');
my $start = now_ms();
$node->sql("SET statement_timeout = '5s'; DROP EXTENSION angles");
ok(now_ms() - $start < 5000 * slow_factor(), 'J7: DROP EXTENSION does not wait for a slow request');
wait_for(sub { !$node->worker_pids('sync', 'postgres') && !$node->worker_pids('bridge', 'postgres') },
	'J7: no worker is left behind');
$session->{run}->kill_kill;

$node->sql('CREATE EXTENSION angles');
wait_for(sub { state_of('postgres') eq 'running' }, 'served again');
$session = slow_request('postgres');
my $offset = $node->log_offset;
$node->sql("SET statement_timeout = '5s'; ALTER EXTENSION angles UPDATE TO '0.0.99'");
wait_for(sub { state_of('postgres') eq 'version skew' && !$node->worker_pids('sync', 'postgres') },
	'J7: ALTER EXTENSION UPDATE ends the sync worker, which is of another version');
$session->{run}->kill_kill;
like($node->log_from($offset), qr/does nothing in database \d+: extension version 0\.0\.99, library/,
	'version skew: said in the log');
$node->fails_with("SELECT angles.request_rows('check_notion')", 'NG003',
	qr/ALTER EXTENSION angles UPDATE/, 'version skew: a request is refused with the way out');
$bridge = $node->wait_worker('bridge', 'postgres');
$node->sql('SELECT angles.look()') for 1 .. 3;
$node->sql("BEGIN; ALTER EXTENSION angles UPDATE TO '$version'; ROLLBACK");
is(state_of('postgres'), 'version skew', 'an update that is rolled back changes nothing');
$node->sql("ALTER EXTENSION angles UPDATE TO '$version'");
wait_for(sub { state_of('postgres') eq 'running' }, 'ALTER EXTENSION UPDATE back: served again');
is_deeply([ $node->worker_pids('bridge', 'postgres') ], [$bridge], 'by the same bridge');

# ---- a user's transaction that has written to a linked table ----

$node->sql('CREATE TABLE t (a integer PRIMARY KEY, b text)');
$node->sql("SELECT angles.link('t')");
my $writer = $node->background_psql('postgres');
$writer->query_safe('BEGIN');
$writer->query_safe("INSERT INTO t VALUES (1, 'x')");
my $dropper = $node->background_psql('postgres');
$dropper->{stdin} .= "DROP EXTENSION angles CASCADE;\n";
$dropper->{run}->pump_nb;
$node->wait_sql("SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass",
	'DROP EXTENSION waits for a transaction that has written to a linked table');
is($node->sql(q{SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
	AND relation::regclass::text LIKE 'angles.%'}), 0, 'and holds no table of angles while it waits');
$writer->query_safe('COMMIT');
$dropper->query_safe('SELECT 1');
ok(1, 'no deadlock: both succeed');
$_->quit for $writer, $dropper;
is($node->sql('SELECT count(*) FROM t'), 1, 'the row is there');
is($node->sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), 0, 'the triggers are gone');
$node->sql('CREATE EXTENSION angles');
wait_for(sub { state_of('postgres') eq 'running' }, 'served again');

# ---- SIGHUP ----

my @before = map { $node->worker_pids($_) } qw(launcher bridge);
$node->sql("INSERT INTO angles.runs (task) VALUES ('nobody announced this')");
is($node->sql("SELECT state FROM angles.runs WHERE task ~ 'nobody'"), 'queued',
	'what nobody announces waits for the sweep');
$node->configure('angles.sweep_interval' => '1s');
$node->wait_sql("SELECT state = 'failed' FROM angles.runs WHERE task ~ 'nobody'",
	'SIGHUP: the sweep comes earlier');
is_deeply([ map { $node->worker_pids($_) } qw(launcher bridge) ], \@before,
	'SIGHUP: the same processes');
$node->configure('angles.sweep_interval' => '1h', 'angles.sync_idle_timeout' => '1s');
wait_for(sub { !$node->worker_pids('sync', 'postgres') }, 'SIGHUP: an idle sync worker ends earlier');

done_testing();
