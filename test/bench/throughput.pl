# throughput.pl
#	Sustained pushes with all limits lifted, beside a bare program on curl's multi interface that
#	sends the same bodies to the same simulator over as many connections, in turns.
#
#	Rows are queued first and then let go, so that the pushing alone is timed: from the arrival of
#	the first request to that of the last one. Processor time is the sync worker's for everything:
#	taking the rows into the queue, sending, settling.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use Test::More;

use AnglesTest;
use BenchTest;
use PostgreSQL::Test::Utils;
use SyncTest;

use constant ROWS => 20000;
use constant CONNECTIONS => 6;

my $peer = program('curl_multi', 'curl');
my $sim = start_simulator();
my $node = bench_node('throughput', $sim, 'angles.notion_concurrency' => CONNECTIONS);

$node->sql("CREATE TABLE $_ (id int PRIMARY KEY, title text, n int)") foreach qw(t peer);
link_table($node, $_) foreach qw(t peer);

# what angles sends for the peer's own data source is what the peer sends
$node->sql("INSERT INTO peer VALUES (777777, 'row 777777', 777777)");
drained($node);
my ($create) = creates($sim, 0);
my $create_body = template_body('create', $create, 777777);
my $since = $sim->ledger;
$node->sql('UPDATE peer SET n = 888888');
drained($node);
my ($patch) = writes($sim, $since);
my $patch_body = template_body('patch', $patch, 888888);
my $sync = $node->wait_worker('sync');

# Returns how many requests a second arrived.
sub rate
{
	my (@entries) = @_;
	my @t = map { $_->{t_us} } @entries;
	return $#t / (($t[-1] - $t[0]) / 1e6);
}

# Queues what the SQL changes, lets it go; returns the rate and the worker's milliseconds a request.
sub push_rows
{
	my ($sql) = @_;
	forget($sim);
	my $cpu = cpu_ms($sync);

	$node->sql("SELECT angles.pause('t')");
	$node->sql($sql);
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'all is in the queue', 120);
	$node->sql("SELECT angles.resume('t')");
	# asked seldom, and for one entry: each question takes processor time from what is measured
	my $end = now_ms() + 120_000;
	sleep_s(0.5) until $node->sql('SELECT NOT EXISTS (SELECT FROM angles.queue_entries)') eq 't' || now_ms() > $end;
	my @sent = arrivals($sim);
	is(scalar(grep { $_->{status} == 200 && $_->{write} } @sent), ROWS, 'one request a row');
	return (rate(@sent), (cpu_ms($sync) - $cpu) / @sent);
}

# Runs the peer; returns its rates and its milliseconds a request: create, patch.
sub run_peer
{
	forget($sim);
	my ($out, $err) = ('', '');
	IPC::Run::run([ $peer, $sim->url, $sim->token, ROWS, CONNECTIONS, $create_body, $patch_body ],
		'>', \$out, '2>', \$err) or die "peer: $err";
	# angles goes on asking for changes meanwhile
	my @sent = grep { $_->{path} !~ /query/ } arrivals($sim);
	is(scalar @sent, 2 * ROWS, 'the peer sent all');
	is($err, '', 'and nothing was refused');
	note("peer, by its own clock: $_") foreach $out =~ /^(\w+ .*per_second=[\d.]+)/mg;
	my @cpu = $out =~ /cpu_ms_per_request=([\d.]+)/g;
	return (rate(@sent[ 0 .. ROWS - 1 ]), $cpu[0], rate(@sent[ ROWS .. 2 * ROWS - 1 ]), $cpu[1]);
}

my (%angles, %peer, %ratio, %cpu);
foreach my $run (1 .. RUNS)
{
	my (@angles, @peer);
	my $first = $run * ROWS;
	foreach my $who ($run % 2 ? qw(angles peer) : qw(peer angles))
	{
		if ($who eq 'peer')
		{
			@peer = run_peer();
			next;
		}
		@angles = push_rows("INSERT INTO t SELECT $first + g, 'row ' || g, g FROM generate_series(1, " . ROWS . ') g');
		push @angles, push_rows("UPDATE t SET n = -n WHERE id > $first");
	}
	foreach my $i (0, 1)
	{
		my $kind = (qw(create patch))[$i];
		push @{ $angles{$kind} }, $angles[ 2 * $i ];
		push @{ $cpu{$kind} }, $angles[ 2 * $i + 1 ];
		push @{ $peer{$kind} }, $peer[ 2 * $i ];
		push @{ $ratio{$kind} }, $angles[ 2 * $i ] / $peer[ 2 * $i ];
		note(sprintf('run %d, %s: angles %.0f/s, %.3f ms CPU a request; peer %.0f/s, %.3f ms', $run, $kind,
			$angles[ 2 * $i ], $angles[ 2 * $i + 1 ], $peer[ 2 * $i ], $peer[ 2 * $i + 1 ]));
	}
	is($node->wait_worker('sync'), $sync, 'the same sync worker');
}
foreach my $kind (qw(create patch))
{
	my ($ratio, $cpu) = (median(@{ $ratio{$kind} }), median(@{ $cpu{$kind} }));
	figure("sustained pushes, $kind", sprintf('angles %.0f/s, peer %.0f/s: %.0f %%', median(@{ $angles{$kind} }),
		median(@{ $peer{$kind} }), 100 * $ratio), '>= 50 % of the peer', $ratio >= 0.5);
	figure("sync worker, $kind", sprintf('%.3f ms CPU a request', $cpu), '<= 0.4 ms', $cpu <= 0.4);
}
say_load('load after');
done_testing();
