# The three kinds of death of a worker, and too few worker processes.
use strict;
use warnings;

use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;

my $node = new_cluster('deaths', preload => 'angles',
	conf => { 'angles.sweep_interval' => '1h', 'angles.http_connect_timeout' => '1s' });

# Returns the pid of a worker of this kind that is not the one given.
sub another
{
	my ($kind, $old, $db) = @_;
	return wait_for(
		sub { my ($pid) = grep { $_ != $old } $node->worker_pids($kind, $db); $pid },
		"another $kind runs");
}

# Makes sure that a sync worker runs, and returns its pid.
sub sync_worker
{
	$node->sql("SELECT angles.enqueue_run('check_notion')");
	return $node->wait_worker('sync');
}

# ---- SIGTERM: the others and the users go on ----

my %pid = (launcher => $node->wait_worker('launcher'), bridge => $node->wait_worker('bridge'),
	sync => sync_worker());
my $user = $node->sql('SELECT pg_postmaster_start_time()');

for my $kind (qw(sync bridge launcher))
{
	my %others = map { $_ => $pid{$_} } grep { $_ ne $kind } keys %pid;
	my $start = now_ms();

	is($node->kill_worker($kind, 'TERM'), $pid{$kind}, "SIGTERM: the $kind ends");
	$pid{$kind} = another($kind, $pid{$kind});
	cmp_ok(now_ms() - $start, '<', 5000 * slow_factor(), "SIGTERM: another $kind comes soon");
	is(join(' ', map { $node->worker_pids($_) } sort keys %others),
		join(' ', map { $others{$_} } sort keys %others), "SIGTERM of the $kind: the others stay");
}
is($node->sql('SELECT pg_postmaster_start_time()'), $user, 'SIGTERM: the server went on');
my $generation = $node->sql('SELECT generation FROM angles.worker_generation');
cmp_ok($generation, '>=', 2, 'each life of the sync worker has a higher number');

# the bridge finds the sync worker that an older bridge started
$node->kill_worker('bridge', 'TERM');
$pid{bridge} = another('bridge', $pid{bridge});
is($node->sql(q{SELECT count(*) FROM angles.request_rows('check_notion')}) >= 1, 1,
	'a request works after the bridge was replaced');
is_deeply([ $node->worker_pids('sync') ], [ $pid{sync} ], 'with the same sync worker');

# so does the launcher with its bridges
$node->kill_worker('launcher', 'TERM');
$pid{launcher} = another('launcher', $pid{launcher});
$node->kill_worker('bridge', 'TERM');
$pid{bridge} = another('bridge', $pid{bridge});
ok($pid{bridge}, 'a bridge that an older launcher started is replaced by the new one');

# ---- B4: one at a time ----

kill('STOP', $pid{sync}) == 1 or die "could not stop $pid{sync}: $!";
$node->sql("SELECT angles.enqueue_run('check_notion')");
$node->kill_worker('bridge', 'TERM');
$pid{bridge} = another('bridge', $pid{bridge});
is_deeply([ $node->worker_pids('sync') ], [ $pid{sync} ],
	'B4: no second sync worker beside one that hangs, not by a new bridge either');
is($node->sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted}), 1,
	'B4: the lock of the only sync worker is held');
is($node->sql(q{SELECT pg_try_advisory_lock(classid::bigint << 32 | objid::bigint)
	FROM pg_locks WHERE locktype = 'advisory'}), 't', 'B4: no user gets in its way with a key of his');
kill('CONT', $pid{sync});
$node->wait_sql("SELECT count(*) = 0 FROM angles.runs WHERE state IN ('queued', 'running')",
	'B4: the run is done when it goes on');
$generation = $node->sql('SELECT generation FROM angles.worker_generation');
$node->kill_worker('sync', 'TERM');
$pid{sync} = another('sync', $pid{sync});
$node->wait_sql("SELECT generation > $generation FROM angles.worker_generation",
	'B4: the next one has a higher number');

# ---- again and again ----

$node->configure('angles.sweep_interval' => '1s');
for (1 .. 5)
{
	$node->kill_worker('sync', 'TERM');
	$pid{sync} = another('sync', $pid{sync});
}
$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint = 'worker.sync' AND closed_at IS NULL",
	'a sync worker that dies again and again opens an alert');
# as if it had lived for two minutes
$node->configure('angles.test_clock_offset' => '120s');
$node->wait_sql("SELECT count(*) = 0 FROM angles.alerts WHERE fingerprint = 'worker.sync' AND closed_at IS NULL",
	'which closes when it lives');
is_deeply([ $node->worker_pids('sync') ], [ $pid{sync} ], 'it is the same one');
$node->configure('angles.test_clock_offset' => undef, 'angles.sweep_interval' => '1h');

# ---- SIGKILL: the server restarts itself ----

for my $kind (qw(sync bridge launcher))
{
	sync_worker();
	my $start = $node->sql('SELECT pg_postmaster_start_time()');
	my $old = $node->wait_worker($kind);

	kill('KILL', $old) == 1 or die "could not kill $old: $!";
	wait_for(sub { !kill(0, $old) }, "the $kind is gone");
	$node->wait_alive;
	ok(another($_, 0), "SIGKILL of the $kind: a $_ is back") for qw(launcher bridge);
	is($node->sql('SELECT pg_postmaster_start_time()'), $start, 'the postmaster is the same');
	is($node->sql(q{SELECT count(*) >= 1 FROM angles.request_rows('check_notion')}), 't',
		"SIGKILL of the $kind: requests work again");
}

# ---- the postmaster dies ----

$node->crash;
ok(another($_, 0), "crash of the server: a $_ is back") for qw(launcher bridge);
is($node->sql(q{SELECT count(*) >= 1 FROM angles.request_rows('check_notion')}), 't',
	'crash of the server: requests work again');

# ---- too few worker processes ----

# launcher, logical replication launcher, one more
$node->configure('max_worker_processes' => 3);
$node->sql("CREATE DATABASE $_") for qw(a b);
$node->sql('CREATE EXTENSION angles', $_) for qw(a b);
$node->stop;
my $offset = $node->log_offset;
$node->start;
wait_for(sub { $node->worker_pids('bridge') == 1 }, 'shortage: one bridge has a place');
wait_for(sub { $node->log_from($offset) =~ /waits for a free worker process/ }, 'shortage: logged');
my $served = $node->sql('SELECT database FROM angles.workers WHERE bridge_pid IS NOT NULL');
is($node->sql("SELECT count(*) FROM angles.workers WHERE state = 'starting' AND bridge_pid IS NULL"), 2,
	'shortage: the others keep their places');

# who was served leaves: the next in line comes, not the same again
$node->sql("SET statement_timeout = '60s'; DROP EXTENSION angles", $served);
my $next = wait_for(
	sub { $node->sql('SELECT datname FROM pg_stat_activity WHERE backend_type = \'angles bridge\'') },
	'shortage: the next in line gets the place that came free');
isnt($next, $served, 'shortage: another database');
my @lines = $node->log_from($offset) =~ /waits for a free worker process/g;
cmp_ok(scalar @lines, '<=', 3, 'shortage: not a line for each try');

# ---- more databases than slots ----

$node->configure('max_worker_processes' => 16, 'angles.max_databases' => 2);
$node->restart;
$node->sql("CREATE DATABASE $_") for qw(c d e);
$node->sql('DROP EXTENSION angles', $next);
# postgres, and one of those that were short of a process before, have the extension
my @with = grep { $node->sql("SELECT count(*) FROM pg_extension WHERE extname = 'angles'", $_) }
  qw(postgres a b);
$node->sql("DROP EXTENSION angles", $_) for grep { $_ ne 'postgres' } @with;
$node->sql('CREATE EXTENSION IF NOT EXISTS angles');
$node->wait_sql("SELECT state = 'running' FROM angles.workers WHERE database = 'postgres'",
	'few slots: databases without the extension make room');
$node->sql('CREATE EXTENSION angles', 'e');
ok($node->wait_worker('bridge', 'e'), 'few slots: so they do for CREATE EXTENSION');
my ($rc, $out, $err) = $node->psql('d', 'CREATE EXTENSION angles');
is($rc, 0, 'few slots: CREATE EXTENSION works when none is left');
like($err, qr/WARNING:  angles does not serve this database.*angles\.max_databases/s,
	'few slots: with a warning');
$node->fails_with("\\c d\nSELECT angles.request_rows('check_notion')", 'NG002', qr/angles\.max_databases/,
	'few slots: a request says why not');
$offset = $node->log_offset;
$node->restart;
wait_for(sub { $node->log_from($offset) =~ /angles does not serve all databases of this server/ },
	'few slots: the log names it after a restart');
$node->sql("DROP DATABASE $_") for grep { $node->worker_pids('bridge', $_) } qw(e d);
wait_for(sub { $node->worker_pids('bridge', 'd') || $node->worker_pids('bridge', 'postgres') },
	'few slots: one that became free is used');

# ---- idle ----

# the sync worker may still have something to try; without it nothing is due
sub switches
{
	my ($pid) = @_;
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $n;
}
$node->configure('angles.sync_idle_timeout' => '1s');
wait_for(sub { !$node->worker_pids('sync') }, 'no sync worker when there is nothing to do', 60);
my @idle = map { $node->worker_pids($_) } qw(launcher bridge);
my @first = map { switches($_) } @idle;
$node->sql('SELECT pg_sleep(3)');
my @second = map { switches($_) } @idle;
is("@second", "@first", 'idle: neither launcher nor bridge runs for a moment in three seconds');

done_testing();
