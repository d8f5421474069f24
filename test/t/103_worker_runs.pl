# Requests, runs, alerts, the audit trail, and who may do what.
# valgrind: yes
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;

my $hole = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "could not listen: $!";
my $slow = 'http://127.0.0.1:' . $hole->sockport;

# Nobody listens at the default address: a check_notion ends at once, with rows that say so.
my $node = new_cluster('runs', preload => 'angles', conf => { 'angles.sweep_interval' => '1h' });

sub run_is
{
	my ($words, $where, @wanted) = @_;
	my ($row) = $node->rows("SELECT state, class, sqlstate, attempt FROM angles.runs WHERE $where");
	is_deeply($row, \@wanted, $words);
}

sub newest { return $node->sql('SELECT max(id) FROM angles.runs'); }

# ---- one statement, one answer ----

$node->wait_worker('bridge');
$node->wait_sql("SELECT state = 'running' FROM angles.workers", 'served');
cmp_ok($node->sql("SELECT count(*) FROM angles.request_rows('check_notion')"), '>=', 1,
	'a SELECT returns the rows of its run');
run_is('which succeeded', 'id = ' . newest(), 'succeeded', undef, undef, 1);
is($node->sql('SELECT jsonb_typeof(result), requested_by FROM angles.runs WHERE id = ' . newest()),
	'array|postgres', 'and is kept with its result and who asked');
like($node->sql("CALL angles.run('check_notion')"), qr/^\[\{/, 'CALL returns the rows as an array');

$node->fails_with("SELECT angles.request_rows('nonsense')", '22023', qr/no task "nonsense".*check_notion/s,
	'an unknown task is refused');
$node->fails_with("SELECT angles.enqueue_run('nonsense')", '22023', qr/no task/, 'queued, too');
$node->fails_with("BEGIN;\nSELECT angles.request_rows('sync')", 'NG006', qr/CALL angles\.run\('sync'\)/,
	'a run that touches tables is refused in a transaction block');
$node->sql('CREATE TABLE t (a integer)');
$node->fails_with("DO \$\$ BEGIN INSERT INTO t VALUES (1); PERFORM angles.request_rows('sync'); END \$\$",
	'NG006', qr/cannot be waited for inside a transaction/, 'and by a transaction that has written');
$node->fails_with("BEGIN;\nCALL angles.run('check_notion')", 'NG006', qr/enqueue_run/,
	'CALL is refused in a transaction block');
cmp_ok($node->sql("BEGIN;\nINSERT INTO t VALUES (1);\nSELECT count(*) FROM angles.request_rows('check_notion');\nROLLBACK"),
	'>=', 1, 'a run that touches no table is allowed there');

# ---- queued with the transaction ----

my $before = newest();
$node->sql("BEGIN;\nSELECT angles.enqueue_run('check_notion');\nROLLBACK");
is(newest(), $before, 'wait => false: a rollback leaves nothing');
$node->sql("BEGIN;\nSELECT angles.enqueue_run('check_notion');\nCOMMIT");
$node->wait_sql("SELECT state = 'succeeded' FROM angles.runs WHERE id > $before", 'a commit starts it');

$before = newest();
$node->sql("BEGIN;\nSELECT angles.enqueue_run('check_notion');\nPREPARE TRANSACTION 'later'");
$node->sql("COMMIT PREPARED 'later'");
$node->wait_sql("SELECT state = 'succeeded' FROM angles.runs WHERE id > $before",
	'A12: COMMIT PREPARED wakes the workers, without a sweep');

# ---- slow runs: cancel, give up waiting, lose the client ----

$node->configure('angles.notion_url' => $slow);

my $session = $node->background_psql('postgres', on_error_stop => 0);

# Hands a statement to a session without waiting for its result.
sub send_sql
{
	my ($to, $sql) = @_;

	$to->{stdin} .= "$sql;\n";
	wait_for(sub { $to->{run}->pump_nb; $to->{stdin} eq '' }, 'psql takes a statement');
}

# Starts a statement in the session without waiting for it; returns the number of its run.
sub begin_slow
{
	my ($sql) = @_;
	my $old = newest();

	send_sql($session, $sql);
	$node->wait_sql("SELECT state = 'running' FROM angles.runs WHERE id > $old", 'a run is under way');
	return newest();
}

my $pid = $session->query_safe('SELECT pg_backend_pid()');
my $id = begin_slow("SELECT * FROM angles.request_rows('check_notion')");
is($node->sql("SELECT pg_cancel_backend($pid)"), 't', 'Ctrl-C');
$node->wait_sql("SELECT state = 'cancelled' FROM angles.runs WHERE id = $id", 'cancels the run');
is($session->query('SELECT 1'), '1', 'the session goes on');
like($session->{stderr}, qr/canceling statement/, 'with the error of a cancel') or diag($session->{stderr});

$id = begin_slow("SELECT * FROM angles.request_rows('check_notion')");
is($node->sql("SELECT angles.cancel($id)"), 't', 'angles.cancel() finds a run that is under way');
$node->wait_sql("SELECT state = 'cancelled' FROM angles.runs WHERE id = $id", 'and ends it');
like($session->query('SELECT 1'), qr/1/, 'the one who waited hears of it');
is($node->sql("SELECT angles.cancel($id)"), 'f', 'angles.cancel() of a run that has ended');
$node->fails_with('SELECT angles.cancel(0)', '42704', qr/run 0 does not exist/, 'of one that never was');
is($node->sql("SELECT action, object FROM angles.audit_log WHERE object = 'run $id'"), "cancel|run $id",
	'a cancel is in the audit trail');

$id = begin_slow("CALL angles.run('check_notion')");
is($node->sql("SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $pid"),
	't', 'CALL waits without a snapshot');
is($node->sql("SELECT pg_terminate_backend($pid)"), 't', 'the session of a CALL is ended');
$node->wait_sql("SELECT state = 'cancelled' FROM angles.runs WHERE id = $id", 'its run is cancelled');
$session->{run}->kill_kill;

$session = $node->background_psql('postgres', on_error_stop => 0);
$before = newest();
like($session->query_safe("SET angles.wait_max = '300ms';\nSELECT * FROM angles.request_rows('check_notion')"),
	qr/"state": "running"/, 'after angles.wait_max the number of the run comes back');
$node->wait_sql("SELECT state = 'running' FROM angles.runs WHERE id > $before", 'the run goes on');
$session->quit;
is($node->sql("SELECT state FROM angles.runs WHERE id > $before"), 'running', 'also after the session ended');

# ---- the worker dies with a run ----

$node->sql("SELECT angles.cancel($before + 1)");
$session = $node->background_psql('postgres', on_error_stop => 0);
$id = begin_slow("SELECT * FROM angles.request_rows('check_notion')");
$node->kill_worker('sync', 'TERM');
$node->wait_sql("SELECT state = 'crashed' AND class = 'crash' AND next_attempt_at IS NULL
	FROM angles.runs WHERE id = $id", 'a run whose worker died is known as crashed');
like($session->query('SELECT 1'), qr/1/, 'the one who waited is told');
$session->quit;

$id = $node->sql("SELECT angles.enqueue_run('check_notion')");
for my $crashes (1 .. 3)
{
	$node->wait_sql("SELECT state = 'running' AND attempt = $crashes FROM angles.runs WHERE id = $id",
		"attempt $crashes of a queued run");
	$node->kill_worker('sync', 'TERM');
	$node->wait_sql("SELECT crashes = $crashes FROM angles.runs WHERE id = $id", "crash $crashes is counted");
}
run_is('after three crashes the run is poison and not tried again', "id = $id", 'crashed', 'poison', '57P02', 3);

# a crash of the whole server with a run under way
$id = $node->sql("SELECT angles.enqueue_run('check_notion')");
$node->wait_sql("SELECT state = 'running' FROM angles.runs WHERE id = $id", 'a run is under way');
$node->crash;
$node->wait_sql("SELECT crashes = 1 AND attempt = 2 FROM angles.runs WHERE id = $id",
	'crash of the server: the run counts as crashed and comes again');
$node->sql("SELECT angles.cancel($id)");

# ---- old runs ----

$node->sql(q{INSERT INTO angles.runs (task, state, requested_at)
	SELECT 'check_notion', 'succeeded', now() - interval '31 days' FROM generate_series(1, 20)});
$node->sql(q{INSERT INTO angles.runs (task, state, requested_at, next_attempt_at)
	VALUES ('check_notion', 'failed', now() - interval '31 days', now() + interval '1 day')});
$before = $node->sql("SELECT count(*) FROM angles.runs WHERE requested_at > now() - interval '30 days'");
$node->kill_worker('bridge', 'TERM');
$node->wait_sql("SELECT count(*) = 1 FROM angles.runs WHERE requested_at < now() - interval '30 days'",
	'runs older than 30 days are deleted, but for one that is not over');
is($node->sql("SELECT count(*) FROM angles.runs WHERE requested_at > now() - interval '30 days'"), $before,
	'younger ones stay');
$node->sql("SELECT angles.cancel(id) FROM angles.runs WHERE next_attempt_at IS NOT NULL");

# a retry that nobody has in mind any more
$id = $node->sql(q{INSERT INTO angles.runs (task, state, attempt, next_attempt_at)
	VALUES ('check_notion', 'failed', 1, now()) RETURNING id});
$node->configure('angles.sweep_interval' => '1s');
$node->wait_sql("SELECT attempt = 2 FROM angles.runs WHERE id = $id", 'a retry that was missed is found by the sweep');
$node->configure('angles.sweep_interval' => '1h');
$node->sql("SELECT angles.cancel($id)");
$node->wait_sql("SELECT state = 'cancelled' FROM angles.runs WHERE id = $id", 'and cancelled');

# ---- too many at once ----

my @many = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 16;
send_sql($_, "SELECT * FROM angles.request_rows('check_notion')") for @many;
$node->wait_sql("SELECT count(*) = 16 FROM angles.runs WHERE state IN ('queued', 'running')",
	'sixteen sessions wait');
$node->fails_with("SELECT angles.request_rows('check_notion')", '53400', qr/too many runs/,
	'one more is refused');
$id = $node->sql("SELECT angles.enqueue_run('check_notion')");
is($node->sql("SELECT state FROM angles.runs WHERE id = $id"), 'queued', 'a queued run waits for a place');
$_->{run}->kill_kill for @many;
$node->wait_sql("SELECT count(*) = 0 FROM angles.runs WHERE state IN ('queued', 'running') AND id <> $id",
	'sessions that are gone leave no run behind');
$node->configure('angles.notion_url' => 'http://127.0.0.1:9');
# its connections are all taken by requests that nobody answers
$node->kill_worker('sync', 'TERM');
$node->wait_sql("SELECT state = 'succeeded' FROM angles.runs WHERE id = $id", 'the queued one has its turn');

# ---- alerts, audit trail ----

$session = $node->background_psql('postgres');
$session->query_safe('LISTEN angles_alerts');
is($node->sql("SELECT angles.alert_open('test', 'warning', 'title', 'detail')"), 't', 'an alert opens');
is($node->sql("SELECT angles.alert_open('test', 'critical', 'title', 'detail')"), 'f', 'once');
is($node->sql("SELECT severity, count FROM angles.alerts WHERE fingerprint = 'test'"), 'critical|2',
	'seen again, it is counted');
is($node->sql("SELECT angles.alert_close('test')"), 't', 'it closes');
is($node->sql("SELECT angles.alert_close('test')"), 'f', 'once');
my $heard = '';
wait_for(sub { $heard .= $session->query('SELECT 1'); my @n = $heard =~ /"angles_alerts"/g; @n == 2 },
	'NOTIFY on opening and closing');
like($heard, qr/"event": "opened".*"event": "closed"/s, 'with the event in it');
$session->quit;

$node->fails_with($_, '42501', qr/cannot be changed or deleted/, "the audit trail is append-only: $_")
  for 'UPDATE angles.audit_log SET who = current_user', 'DELETE FROM angles.audit_log', 'TRUNCATE angles.audit_log',
  'SET session_replication_role = replica; DELETE FROM angles.audit_log';

# ---- K1: rights ----

$node->sql('CREATE ROLE nobody LOGIN; CREATE ROLE viewer LOGIN IN ROLE angles_viewer;
	CREATE ROLE operator LOGIN IN ROLE angles_operator; CREATE ROLE admin LOGIN IN ROLE angles_admin');

sub as { my ($role, $sql) = @_; return "SET SESSION AUTHORIZATION $role; $sql"; }

$node->fails_with(as('nobody', $_), '42501', undef, "K1: a stranger may not: $_")
  for 'SELECT * FROM angles.runs', 'SELECT * FROM angles.workers', "SELECT angles.request_rows('check_notion')",
  "CALL angles.run('check_notion')", "SELECT angles.enqueue_run('check_notion')";
$node->fails_with(as('viewer', $_), '42501', undef, "K1: a viewer may not: $_")
  for "SELECT angles.request_rows('check_notion')", 'SELECT angles.cancel(1)', 'SELECT angles.adopt()',
  "INSERT INTO angles.runs (task) VALUES ('sync')", 'SELECT * FROM angles.audit_log';
$node->fails_with(as('operator', $_), '42501', undef, "K1: an operator may not: $_")
  for 'SELECT angles.adopt()', "UPDATE angles.runs SET task = 'sync'", "SELECT angles.alert_close('x')",
  "SELECT angles.audit('x', 'y')", 'SELECT angles.run_crashed(1, 0)', "SELECT angles.identity_record('adopted')";
cmp_ok($node->sql(as('viewer', 'SELECT count(*) FROM angles.runs')), '>', 0, 'K1: a viewer sees the runs');
is($node->sql(as('viewer', 'SELECT count(*) FROM angles.workers')), 1, 'K1: and the workers of this database');
cmp_ok($node->sql(as('operator', "SELECT count(*) FROM angles.request_rows('check_notion')")), '>=', 1,
	'K1: an operator starts runs');
is($node->sql('SELECT requested_by FROM angles.runs WHERE id = ' . newest()), 'operator', 'K1: in his own name');
$id = $node->sql(as('operator', "SELECT angles.enqueue_run('check_notion')"));
is($node->sql("SELECT requested_by FROM angles.runs WHERE id = $id"), 'operator', 'K1: queued ones, too');
like($node->sql(as('admin', 'SELECT angles.adopt()')), qr/epoch 2/, 'K1: an admin adopts');
is($node->sql("SELECT who FROM angles.audit_log WHERE action = 'adopt'"), 'admin', 'K1: and is named for it');

done_testing();
