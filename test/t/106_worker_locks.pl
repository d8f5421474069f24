# What is no fault of the rows and no reason to die: orderly ends of the sync worker, and rows that
# somebody's open transaction holds.
use strict;
use warnings;

use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, preload => 'angles');

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text)');
link_table($node, 't');

# ---- only a death counts as the death of what was under way ----

# Returns when a later worker than that of the generation has all five rows in hand.
sub claimed_after
{
	my ($generation, $words) = @_;
	$node->wait_sql("SELECT count(*) = 5 FROM angles.queue_entries
		WHERE state = 'claimed' AND generation > $generation", "$words: the next worker has the rows in hand")
	  or die "the test cannot go on";
	return $node->sql('SELECT max(generation) FROM angles.queue_entries');
}

sub crashes_are
{
	my ($wanted, $words) = @_;
	is($node->sql('SELECT DISTINCT crashes FROM angles.queue_entries'), $wanted, $words);
}

# the rows are claimed, and stay so: Notion does not answer
$node->sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 5) g");
drained($node);
$sim->faults({ method => 'PATCH', path => '^/v1/pages', action => 'delay', ms => 600000, when => 'before', count => 100000 });
$node->sql("UPDATE t SET title = 'y'");
my $generation = claimed_after(0, 'no answer');

$node->kill_worker('sync', 'TERM');
$generation = claimed_after($generation, 'SIGTERM');
crashes_are(0, 'SIGTERM is no crash of the rows under way');

$node->sql('CREATE DATABASE copy TEMPLATE postgres', 'template1');
$generation = claimed_after($generation, 'stopped for a command');
crashes_are(0, 'nor is a stop for a command on the database');
$node->sql('DROP DATABASE copy');

my $dropper = $node->background_psql('postgres');
$dropper->query_safe('BEGIN');
$dropper->query_safe('DROP EXTENSION angles CASCADE');
$node->reload;
wait_for(sub { !$node->worker_pids('sync') }, 'the sync worker makes room for DROP EXTENSION');
$dropper->query_safe('ROLLBACK');
$dropper->quit;
$generation = claimed_after($generation, 'a change of the extension');
crashes_are(0, 'nor is a change of the extension');

$node->restart;
$generation = claimed_after($generation, 'restart');
crashes_are(0, 'nor is a restart of the server');

$node->crash;
$generation = claimed_after($generation, 'start after a loss of power');
crashes_are(0, 'nor is a start after the whole server was lost');

# an error: the worker misses a table
$node->sql('ALTER TABLE angles.queue_entries RENAME TO away');
$node->sql('SELECT angles.wake()');
wait_for(sub { $node->sql('SELECT sync_failures > 1 FROM angles.workers') eq 't' },
	'the sync worker dies of an error, and the next one, too');
$node->sql('ALTER TABLE angles.away RENAME TO queue_entries');
$generation = claimed_after($generation, 'error');
crashes_are(1, 'an error is a crash of the rows under way, once');

$node->kill_worker('sync', 'TERM');
$generation = claimed_after($generation, 'SIGTERM after that');
crashes_are(1, 'which is counted once');

$node->kill_worker('sync', 'KILL');
$node->wait_alive;
$generation = claimed_after($generation, 'SIGKILL');
crashes_are(2, 'SIGKILL is another one');
$node->stop;

# ---- rows that somebody's open transaction holds ----

$sim = start_simulator();
$node = new_cluster('held', sim => $sim, preload => 'angles', conf => { 'angles.sweep_interval' => '1h' });
$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text)');
link_table($node, 't');

my @holders;
my $rows = 0;

# Opens a transaction that executes the statement and stays open.
sub hold
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe("BEGIN;\n$sql");
	push @holders, $session;
	return $session;
}

# Ends one of them.
sub release
{
	my ($session, $how) = @_;
	$session->query_safe($how);
	$session->quit;
	@holders = grep { $_ != $session } @holders;
}

sub row_flows
{
	my ($words) = @_;
	$rows++;
	$node->sql("INSERT INTO t VALUES ($rows, 'row')");
	ok(wait_for(sub { creates($sim) == $rows }, $words, 10), $words);
}

sub alert_open
{
	return $node->sql("SELECT count(*) FROM angles.alerts WHERE fingerprint = 'notion_token' AND closed_at IS NULL");
}

sub run_is
{
	my ($id, $state, $words) = @_;
	ok($node->wait_sql("SELECT state = '$state' FROM angles.runs WHERE id = $id", $words), $words);
}

row_flows('a row flows');
$node->configure('angles.notion_token' => 'bad_token');
$node->sql("UPDATE t SET title = 'refused'");
wait_for(sub { alert_open() }, 'an alert is open');
my $offset = $node->log_offset;
my @pids = map { $node->wait_worker($_) } qw(bridge sync);

# the row of an alert that the sync worker wants to close
my $alert = hold('SELECT FROM angles.alerts FOR UPDATE');
$node->configure('angles.notion_token' => $sim->token);
row_flows('while somebody holds an alert that is to be closed');

# runs: one to be started, one to be cancelled, one to be ended
my $quiet = "INSERT INTO angles.runs (task) VALUES ('check_notion') RETURNING id";
my ($start, $cancel) = map { $node->sql($quiet) } 1 .. 2;
my $starting = hold("SELECT FROM angles.runs WHERE id = $start FOR UPDATE");
my $cancelling = hold("SELECT angles.cancel($cancel)");
$sim->faults({ path => '^/v1/users/me', count => 1, action => 'delay', ms => 1000 });
my $asking = $node->background_psql('postgres');
$asking->{stdin} .= "SELECT count(*) > 0 FROM angles.check_notion();\n";
$asking->{run}->pump_nb;
my $end = $node->wait_sql("SELECT max(id) FROM angles.runs WHERE state = 'running'", 'a run is under way');
my $ending = hold("SELECT FROM angles.runs WHERE id = $end FOR UPDATE");
row_flows('while somebody holds runs');
my $other = $node->sql("SELECT angles.enqueue_run('check_notion')");
run_is($other, 'succeeded', 'another run is done meanwhile');

# the identity, and a bridge that looks at it
my $adopting = hold('SELECT angles.adopt()');
$node->sql('SELECT angles.look()');
row_flows('while somebody adopts');

my $held = join(', ', map { $_->query_safe('SELECT pg_backend_pid()') } @holders);
$node->wait_sql("SELECT count(*) = 5 FROM pg_stat_activity
	WHERE pid IN ($held) AND clock_timestamp() - xact_start > interval '5 s'", 'held for longer than lock_timeout');
$node->sql('SELECT angles.look()');
row_flows('after a long time');

release($starting, 'ROLLBACK');
run_is($start, 'succeeded', 'a run that was held when it was to be started is done later');
release($cancelling, 'COMMIT');
run_is($cancel, 'cancelled', 'one that was being cancelled is not');
is($node->sql("SELECT state FROM angles.runs WHERE id = $end"), 'running', 'one that is held cannot end yet');
release($ending, 'ROLLBACK');
run_is($end, 'succeeded', 'and does so later');
like($asking->query('SELECT 1'), qr/^t$/m, 'who waited for it gets his answer');
$asking->quit;
release($adopting, 'COMMIT');
release($alert, 'ROLLBACK');
row_flows('when all is over');
wait_for(sub { !alert_open() }, 'the alert that was held is closed with the next work');
is(alert_open(), 0, 'the alert is closed');

# one that is just being opened, by a transaction that nobody can see yet
my $opening = hold("SELECT angles.alert_open('notion_token', 'info', 'test')");
my $refused = grep { $_->{status} == 401 } $sim->requests;
$node->configure('angles.notion_token' => 'bad_token');
$node->sql("UPDATE t SET title = 'refused again'");
wait_for(sub { (grep { $_->{status} == 401 } $sim->requests) > $refused }, 'the token is refused');
$node->configure('angles.notion_token' => $sim->token);
row_flows('while somebody opens the same alert');
release($opening, 'ROLLBACK');

is(join(' ', map { $node->wait_worker($_) } qw(bridge sync)), "@pids", 'no worker has died of all that');
unlike($node->log_from($offset), qr/lock timeout|deadlock/, 'nor waited for a lock');

# a lock that the worker waits for itself: the latch of a wake-up goes with the wait, its flag does not
my $locker = hold('LOCK TABLE angles.queue_entries IN ACCESS EXCLUSIVE MODE');
$node->sql('SELECT angles.wake()');
wait_for(sub { $node->sql('SELECT count(*) FROM pg_locks WHERE NOT granted') == 1 }, 'the sync worker waits for a lock');
$rows++;
$node->sql("INSERT INTO t VALUES ($rows, 'row')");
release($locker, 'ROLLBACK');
ok(wait_for(sub { creates($sim) == $rows }, 'a row flows', 10), 'a row that came while the worker waited for a lock flows');

# runs that went down with their worker
$sim->faults({ path => '^/v1/users/me', action => 'delay', ms => 20000 });
my $lost = $node->sql("SELECT angles.enqueue_run('check_notion')");
run_is($lost, 'running', 'a run is under way');
my $burying = hold("SELECT FROM angles.runs WHERE id = $lost FOR UPDATE");
$sim->clear_faults;
$node->kill_worker('sync', 'TERM');
$other = $node->sql("SELECT angles.enqueue_run('check_notion')");
run_is($other, 'succeeded', 'a run that cannot be closed is not in the way of others');
$node->kill_worker('bridge', 'TERM');
$other = $node->sql("SELECT angles.enqueue_run('check_notion')");
run_is($other, 'succeeded', 'nor is it after the bridge was replaced');
release($burying, 'ROLLBACK');
run_is($lost, 'succeeded', 'the run that was held is done again');
is($node->sql("SELECT crashes, attempt FROM angles.runs WHERE id = $lost"), '1|2', 'and counts as crashed, once');
$node->stop;

# ---- a slot that is given away ----

$node = new_cluster('few', preload => 'angles', create => 0, conf => { 'angles.max_databases' => 2 });
$node->sql('CREATE DATABASE a');
my $maker = $node->background_psql('a');
$maker->query_safe("BEGIN;\nCREATE EXTENSION angles");

# Returns what the transaction sees of its own database's slot.
sub seen { return $maker->query_safe("SELECT state FROM angles.workers WHERE database = 'a'"); }

wait_for(sub { seen() eq 'absent' }, 'nobody else sees the extension yet');
$node->sql('CREATE DATABASE b');
wait_for(sub { seen() eq '' }, 'the slot is given to another database');
$maker->query_safe('COMMIT');
$maker->quit;
ok($node->wait_worker('bridge', 'a', 10), 'CREATE EXTENSION gets a slot again when it commits');

done_testing();
